/* mains_pulse.h - kettle, microwave oven, toaster: short strong loads in a sum.
 *
 * They are on for seconds or minutes. A meter that reads every 8 s sees one reading of an oven that
 * pulses, and where other things switch meanwhile no level ever settles, so edges.h has nothing to
 * say. Rises and falls are paired as they stand in the readings (place_pulse.h); pulses of one
 * height less than a minute apart are a group, and so are lower ones among them that last one or
 * two readings: these saw a part of a pulse. A group is one of the three, or something else (the
 * heater of a washing machine, above all), by a multinomial logistic regression on what the
 * network says meanwhile, also of programs, on height and length, on how many pulses it has and how
 * many of them are short, on how many of its height come before and after it (heaters come back),
 * and on whether earlier groups of this house that were an oven or a toaster had its height: a
 * house has one of each. Heaters have a kettle's height, so that of kettles says nothing. Of two
 * groups of one appliance that are on at once the likelier one counts. The coefficients were fitted
 * on homes mixed from tracebase's validation days and on one week of REFIT.
 *
 * Memory is constant; the structure holds no pointers and may be copied as bytes. One thread.
 */
#ifndef AGENT_MAINS_PULSE_H
#define AGENT_MAINS_PULSE_H

#include <stdint.h>

#include "agent/mains_rules.h"
#include "agent/place_pulse.h"

#define MAINS_PULSES 48
#define MAINS_PULSE_KNOWN 8

struct mains_world;

enum mains_pulse_phase {
    MAINS_PULSE_OPEN = 0, /* its group goes on, or the network has not come to it */
    MAINS_PULSE_DECIDED,  /* class: whose it is */
    MAINS_PULSE_BEGUN,    /* the books have come to its start */
    MAINS_PULSE_DONE
};

struct mains_pulse {
    int64_t start_ms;
    int32_t lasts_ms;
    float watts, confidence;
    uint16_t group;
    int8_t class; /* -1: nobody's */
    int8_t phase; /* enum mains_pulse_phase */
};

/* All zero: to begin with. */
struct mains_pulses {
    struct place_pulses pairs;
    int32_t count;
    uint16_t group, pad;                 /* of the group that began last */
    struct mains_pulse of[MAINS_PULSES]; /* in order of their ends */
    /* Heights of the last groups that were a microwave oven, a toaster; 0: none yet. */
    float known_w[MAINS_BRIEFS - 1][MAINS_PULSE_KNOWN];
};

/* One reading, as for place_pulses_push. */
void mains_pulses_push(struct mains_pulses *p, int64_t t_ms, float watts, int64_t max_gap_ms);

/* Decides about the groups that are over, now that the network has spoken of frame_ms: w->pulses;
 * edges of what is somebody's are claimed. */
void mains_pulses_decide(const struct mains_world *w, int64_t frame_ms);

/* Its steps that were claimed by `from` are by `to` now. */
void mains_pulses_claim(const struct mains_world *w, const struct mains_pulse *x, int from, int to);

/* Pulses between two times that a person's prototype has named are nobody else's. */
void mains_pulses_take(struct mains_pulses *p, int64_t from_ms, int64_t to_ms, float watts);

/* All runs ended at t_ms: what began before is over. */
void mains_pulses_end(struct mains_pulses *p, int64_t t_ms);

/* All times are by_ms later. */
void mains_pulses_shift(struct mains_pulses *p, int64_t by_ms);

/* Whether bytes that were read back can be these: 0 or -EBADMSG. */
int mains_pulses_check(const struct mains_pulses *p);

#endif
