/* place_switch.h - how one load of a place switches: learned from a person's word on when it ran,
 * found again in the mains alone.
 *
 * For loads that no network knows: machines. What is learned of a start and of a stop is how far
 * the mains' level moves, on a short and on a longer scale, against how it moves at any other
 * moment, and at what time of the day it happens. Found again is the likeliest sequence of on and
 * off (a point process on two states, decoded by Viterbi's algorithm with a bounded look back).
 * Levels are medians of grid cells, so short loads in between (lifts) hardly move them. Structures
 * hold no pointers and may be kept as bytes. One thread, no allocation.
 */
#ifndef AGENT_PLACE_SWITCH_H
#define AGENT_PLACE_SWITCH_H

#include <stddef.h>
#include <stdint.h>

#define PLACE_SWITCH_SCALES 2
#define PLACE_SWITCH_BINS 100
#define PLACE_SWITCH_SLOTS 96    /* of a day */
#define PLACE_SWITCH_REACH 30    /* cells before and behind the one that is looked at */
#define PLACE_SWITCH_LOOKBACK 60 /* cells after which a switching is final */
#define PLACE_SWITCH_LEAST 3     /* runs to learn from */

/* How the mains of a meter move at any moment. */
struct place_switch_background {
    int64_t period_ms; /* of a cell */
    float scale_w;     /* changes are taken as asinh(W / scale) */
    float log_density[PLACE_SWITCH_SCALES][PLACE_SWITCH_BINS];
};

struct place_switch_way { /* a start, or a stop */
    float middle[PLACE_SWITCH_SCALES], spread[PLACE_SWITCH_SCALES];
    float log_rate[PLACE_SWITCH_SLOTS]; /* by local time of the day, of switchings a day */
};

struct place_switch {
    uint32_t runs;  /* that it was learned from */
    uint32_t local; /* 0: log_rate is by UTC (kept by an earlier version) */
    struct place_switch_way start, stop;
};

struct place_switch_run {     /* what a person said */
    int64_t start_ms, end_ms; /* 0: not seen */
};

/* Watts in consecutive grid cells; cell 0 begins at first_ms; NAN: not known. */
struct place_switch_cells {
    int64_t first_ms, period_ms;
    size_t count;
    const float *watts;
};

/* Learns the background. -ENODATA: fewer than a few hundred cells with both sides known. */
int place_switch_learn_background(const struct place_switch_cells *cells,
                                  struct place_switch_background *out);

/* Learns a load from its runs. days: of the recording that the runs are of. -ENODATA: fewer than
 * PLACE_SWITCH_LEAST starts or stops with cells around them. */
int place_switch_learn(const struct place_switch_cells *cells,
                       const struct place_switch_background *background,
                       const struct place_switch_run *runs, size_t count, struct place_switch *out);

/* Times of the day that were learned by UTC become local ones, as the clocks stood at t_ms. */
void place_switch_use_local(struct place_switch *s, int64_t t_ms);

/* 0 or -EBADMSG. */
int place_switch_check(const struct place_switch *s);
int place_switch_check_background(const struct place_switch_background *b);

/* The last cells of a meter, and how far the level moved at the one in the middle. */
struct place_switch_window {
    float watts[2 * PLACE_SWITCH_REACH];
    int32_t filled;
};
/* Takes the next cell. 1: change[] is of the cell PLACE_SWITCH_REACH before the newest, first cell
 * of the new level; 0: not yet, or not known. */
int place_switch_push(struct place_switch_window *w, float watts,
                      float change[PLACE_SWITCH_SCALES]);

/* What is believed of one load. All zero: to begin with. */
struct place_switch_state {
    float cost[2];                       /* of the likeliest way to off and on */
    uint8_t back[PLACE_SWITCH_LOOKBACK]; /* bit s: state before, on the way to s */
    uint32_t at, filled;
    int32_t on; /* as told last */
};

/* Begins with the load on. */
void place_switch_begin_on(struct place_switch_state *state);

/* Takes the change at the cell that begins at t_ms (known 0: unknown). Returns 1 when a switching
 * became final: *on and *when_ms. */
int place_switch_step(const struct place_switch *s, const struct place_switch_background *b,
                      struct place_switch_state *state, int64_t t_ms, const float *change,
                      int known, int *on, int64_t *when_ms);

#endif
