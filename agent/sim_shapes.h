/* sim_shapes.h - the table of simulated appliances. Private to sim*.c. */
#ifndef AGENT_SIM_SHAPES_H
#define AGENT_SIM_SHAPES_H

#include <stdint.h>

/* splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). */
struct sim_random {
    uint64_t state;
};
uint64_t sim_random_next(struct sim_random *r);
double sim_random_unit(struct sim_random *r);                        /* [0, 1) */
double sim_random_range(struct sim_random *r, double lo, double hi); /* [lo, hi) */

struct sim_slot { /* a run that may begin at this time of day */
    double from_h, to_h, probability;
};

enum sim_mishap { SIM_NONE, SIM_LONG, SIM_WEAK };

struct sim_moment {
    double t_s, length_s; /* since the run began; of the run */
    double level;         /* of this specimen, W: chosen by the seed from the kind's levels */
    uint64_t run;         /* random number of this run, the same at all its moments */
    struct sim_random *noise;
};

struct sim_kind {
    const char *label, *alias;
    double standby_w;
    double step_min_s, step_max_s; /* between readings */
    double levels[3];              /* of specimens that were measured; 0: none */
    double length_min_s, length_max_s;
    double pause_min_s, pause_max_s; /* > 0: runs in cycles all day, slots are not used */
    enum sim_mishap mishap;
    double mishap_factor;                        /* of length (SIM_LONG) or power (SIM_WEAK) */
    double (*shape)(const struct sim_moment *m); /* watts without standby; NULL: never runs */
    struct sim_slot slots[8];                    /* ended by probability 0; in time order */
};

extern const struct sim_kind sim_kinds[];
extern const int sim_kind_count;

#endif
