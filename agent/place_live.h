/* place_live.h - what a person teaches about a mains meter: keeps the last days of its power in
 * cells and its short strong loads, learns from a list how machines switch (place_switch.h), which
 * are found here from then on, and what appliances look like in this house (place_house.h), which
 * are found by the meter.
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
#include "agent/place_house.h"
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

/* What was taught of the appliances of this house: for mains_set_house, as long as l lives. */
const struct place_house *place_live_house(const struct place_live *l);

struct place_live_taught {
    int machines;   /* told as a meter of their own from now on */
    int appliances; /* that the meter tells by their prototypes */
    int runs;       /* of the history that have another name now */
};

/* Learns from a list of a meter's runs; what is not in the list keeps what was known of it. mains:
 * the meter separates a sum: what its history knows by name, or what its pulses tell, becomes a
 * prototype, all else a machine. Names with too few runs are left out. 0, -ENODATA: too few cells,
 * -ENOSPC: too many names, or an error of the store, with the reason. */
int place_live_teach(struct store *store, const char *meter, int mains,
                     const struct place_live_run *runs, size_t count,
                     struct place_live_taught *taught, char *why, size_t why_size);

/* A person has named a load, whose runs in the history have the name now (from: what the load was
 * called before): inside the caller's transaction. What the history has by that name is the list of
 * a lesson about its pulses; *runs grows by those of the history that are found to be it, too. 0 or
 * an error of the store. */
int place_live_name(struct store *store, const char *meter, const char *from, const char *name,
                    int *runs);

/* A person has corrected one run of the history from one name to another: inside the caller's
 * transaction. Prototypes of both names learn from it, if there are. 0 or an error of the store. */
int place_live_correct(struct store *store, const char *meter, int64_t start_ms, int64_t end_ms,
                       const char *from, const char *to);

#endif
