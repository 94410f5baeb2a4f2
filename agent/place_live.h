/* place_live.h - machines on a mains meter: keeps the last days of its power in cells, learns from
 * a person's list how machines switch (place_switch.h), and finds them from then on.
 *
 * Cells go into the store an hour at a time; habits are read from it, also while running, so
 * `nilmctl teach` needs no agent and no restart. A switching is told once: the history says what
 * was told before. One thread.
 */
#ifndef AGENT_PLACE_LIVE_H
#define AGENT_PLACE_LIVE_H

#include <stddef.h>
#include <stdint.h>

#include "agent/event.h"
#include "agent/place_switch.h"
#include "storage/store.h"

#define PLACE_LIVE_PERIOD_MS 30000
#define PLACE_LIVE_DELAY_MS                                                                        \
    ((PLACE_SWITCH_REACH + PLACE_SWITCH_LOOKBACK) * (int64_t)PLACE_LIVE_PERIOD_MS)

struct place_live;

/* meter and sink are copied; the store stays the caller's. 0 or -ENOMEM. */
int place_live_create(struct store *store, const char *meter, enum event_quality quality,
                      const struct outcome_sink *sink, struct place_live **out);
void place_live_destroy(struct place_live *l);
void place_live_use_store(struct place_live *l, struct store *store);
void place_live_set_quality(struct place_live *l, enum event_quality quality);

/* One reading, in the order of time. */
void place_live_reading(struct place_live *l, int64_t t_ms, float watts);

/* The source ended: the hour that is not full is kept. */
void place_live_finish(struct place_live *l);

/* What a person says ran, and when. */
struct place_live_run {
    char appliance[EVENT_NAME_BYTES];
    struct place_switch_run run;
};

/* Learns the habits of a meter's machines from the cells in the store; machines that are not in the
 * list keep theirs. Returns how many machines were learned; names of those with too few runs are
 * left out. -ENODATA: too few cells, -ENOSPC: too many machines, or an error of the store, with the
 * reason. */
int place_live_teach(struct store *store, const char *meter, const struct place_live_run *runs,
                     size_t count, char *why, size_t why_size);

#endif
