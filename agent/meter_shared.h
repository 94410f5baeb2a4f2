/* meter_shared.h - what the meters of a thread share, and how both kinds put an outcome together in
 * it. Private to meter.c and mains.c. */
#ifndef AGENT_METER_SHARED_H
#define AGENT_METER_SHARED_H

#include "agent/event.h"
#include "agent/meter.h"
#include "agent/meter_window.h"

#define METER_LIMIT_W 1e7f /* beyond it a reading is damaged */

struct meter_shared {
    struct meter_scratch scratch;
    struct outcome outcome; /* being put together */
    struct routine routine; /* read for a moment */
};

/* Begins an empty outcome of a meter (several as in struct outcome). Events, alerts and the routine
 * are written when there are any: clearing all of it would cost more than the rest of a reading. */
void meter_shared_begin(struct meter_shared *s, const char *meter, int several);

/* Takes times from the meter's own to the wall clock's, offset_ms ahead, and says how good they
 * are. Those of alerts are the wall clock's already. */
void meter_shared_stamp(struct meter_shared *s, int64_t offset_ms, enum event_quality quality);

/* Where the next alerts go. */
struct alert *meter_shared_alerts(struct meter_shared *s);

/* What was learned about an appliance, or a new routine of that name; until the next call. */
struct routine *meter_shared_recall(struct meter_shared *s, const struct meter_memory *memory,
                                    const char *meter, const char *name);

#endif
