/* mains_decode.h - from the network's probabilities and the power's edges to when each appliance
 * was on.
 *
 * For each class a hidden Markov model with two states, decoded with Viterbi's algorithm (IEEE
 * Trans. Inf. Theory 13, 1967) with a fixed delay: a frame (one result of the network) gives
 * evidence for on or off, and switching between two frames costs less where an edge of a fitting
 * size stands. Evidence is the logarithm of the odds, bounded, and scaled because overlapping
 * windows see the same thing; of classes that exclude each other the less likely one has it
 * reduced. Compressors are left to mains_cycle.h, kettles and their like to mains_pulse.h. Times
 * are those of the grid samples that a frame speaks of. Memory is constant; the structure holds no
 * pointers and may be copied as bytes.
 */
#ifndef AGENT_MAINS_DECODE_H
#define AGENT_MAINS_DECODE_H

#include <stdint.h>

#include "agent/edges.h"
#include "agent/mains_rules.h"

#define MAINS_CLASSES 16    /* at most, of a mains model */
#define MAINS_DEPTH 24      /* frames between a frame and the decision about it, at most */
#define MAINS_EDGES 96      /* remembered at a time */
#define MAINS_MOST_MS 32000 /* cells of the largest probabilities, and how many are kept */
#define MAINS_MOST_CELLS 36

/* The edges of the last while, in order of time. */
struct mains_edge {
    int32_t t; /* tenths of a second since the ring's base */
    float before_w, step_w;
    int8_t claim; /* class that switched with it; MAINS_FREE, MAINS_TOLD: told as unexplained */
    int8_t pair;  /* 1: with the next edge it is one switching with inrush */
    int16_t pad;
};
#define MAINS_FREE (-1)
#define MAINS_TOLD (-2)

struct mains_ring {
    int64_t base_ms;
    int32_t count, pad;
    struct mains_edge edges[MAINS_EDGES];
};

int64_t mains_ring_time(const struct mains_ring *r, int i);
/* Takes an edge in; the oldest goes when there is no room. */
void mains_ring_add(struct mains_ring *r, const struct edge *e);
/* Forgets edges before t_ms. */
void mains_ring_drop(struct mains_ring *r, int64_t t_ms);
/* The switching that edge i stands for, inrush taken off (*pair 1: together with the next). */
float mains_ring_step(const struct mains_ring *r, int i, int *pair);

/* The free edge between from and to that fits switching on (up 1) or off of the rule's appliance
 * best: its index, *cost 0 (fits) to 1; -1: none. near_ms: where it is expected. level_w: when
 * switching off, the level that goes; 0: not known. */
int mains_ring_best(const struct mains_ring *r, const struct mains_rule *rule, int up,
                    int64_t from_ms, int64_t to_ms, int64_t near_ms, float level_w, float *cost);

struct mains_decode {
    int32_t classes, depth; /* depth: frames until a decision */
    int32_t count, at;      /* frames in the ring, index of the next */
    int64_t frame_ms[MAINS_DEPTH];
    uint8_t p[MAINS_DEPTH][MAINS_CLASSES]; /* in 1/255; 255 at most */
    uint16_t back[MAINS_DEPTH][2];         /* a bit a class: the state before, for off and on */
    int64_t most_cell; /* number of the newest cell of most, time / MAINS_MOST_MS */
    uint8_t most[MAINS_MOST_CELLS][MAINS_CLASSES]; /* largest of p in it */
    float cost[MAINS_CLASSES][2];                  /* of the best way that ends off, on */
    float level_w[MAINS_CLASSES]; /* of the step with which the way that ends on began */
};

struct mains_frame { /* a decision */
    int64_t t_ms;
    uint16_t on; /* a bit a class */
    const uint8_t *p;
};

void mains_decode_init(struct mains_decode *d, int classes, int depth);

/* The largest probability of class c between two times, as far as cells of MAINS_MOST_MS tell; 0:
 * nothing is known. */
float mains_decode_most(const struct mains_decode *d, int c, int64_t from_ms, int64_t to_ms);

/* Forgets the frames. */
void mains_decode_restart(struct mains_decode *d);

/* One frame; p [classes], or NULL: nothing is known (a hole). rules [classes]. step_ms: between
 * frames. 1: *out is the decision about the oldest frame; 0: none yet. */
int mains_decode_push(struct mains_decode *d, const struct mains_rule *const *rules,
                      const struct mains_ring *edges, int64_t t_ms, int64_t step_ms, const float *p,
                      struct mains_frame *out);

/* Whether bytes that were read back can be these: 0 or -EBADMSG. */
int mains_decode_check(const struct mains_decode *d);
int mains_ring_check(const struct mains_ring *r);

/* The logarithm of the odds of p, bounded to [least, 1 - least]. */
float mains_decode_odds(float p, float least);

#endif
