/* meter_impl.h - what the meters of a thread share. Private to meter.c and mains.c. */
#ifndef AGENT_METER_IMPL_H
#define AGENT_METER_IMPL_H

#include "agent/event.h"
#include "agent/meter_window.h"

#define METER_LIMIT_W 1e7f /* beyond it a reading is damaged */

struct meter_shared {
    struct meter_scratch scratch;
    struct outcome outcome; /* being put together */
    struct routine routine; /* read for a moment */
};

#endif
