/* sim.h - simulated appliances with ground truth, one per circuit.
 *
 * Shapes, levels, sampling steps and standby power are modelled on measured appliances of the
 * tracebase data set, names are its class names, so that a model trained on it should know them.
 * Days are planned by time of day (UTC). What happens on a day is a function of appliance, seed and
 * the day alone: a simulation that is started again at the same time, or later, continues the same
 * world. About one day in seven carries a mishap that an observer should notice (a lamp left on
 * over night, a kettle with a broken element, a refrigerator that does not stop). One thread per
 * object.
 */
#ifndef AGENT_SIM_H
#define AGENT_SIM_H

#include <stdint.h>

#include "inference/trace.h"

struct sim;

struct sim_run { /* the truth about one run that has ended */
    int64_t start_ms, end_ms;
    double energy_wh; /* what its readings add up to, standby included */
};

/* Names (labels), NULL-terminated, and the label for a name or one of its aliases ("fridge",
 * "kettle"; letter case does not matter), or NULL. */
const char *const *sim_appliances(void);
const char *sim_label(const char *name);

/* The first reading is the first one at or after start_ms (Unix ms, 1970 to 9999). 0, -ENOENT (no
 * such appliance), -EINVAL, -ENOMEM. */
int sim_create(const char *name, uint64_t seed, int64_t start_ms, struct sim **out);
void sim_destroy(struct sim *s);

/* Next reading; steps are 1 to 8 s, never backwards. Returns 1 when a run ended with it (*ended),
 * else 0. */
int sim_next(struct sim *s, struct trace_reading *out, struct sim_run *ended);

#endif
