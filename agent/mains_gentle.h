/* mains_gentle.h - which of a sum's steps begins or ends what the network sees only slowly.
 *
 * A television's picture makes its power wander, so the network learns over minutes that one is
 * there, and goes on seeing it when it is off. Its steps are what changes the network's mind: how
 * likely a step is its start is a logistic regression on what the network says before and behind
 * it, on its size, and on how long the sum stays up. The coefficients were fitted on homes mixed
 * from tracebase's validation days, with two networks.
 *
 * Memory is constant; the structure holds no pointers and may be copied as bytes.
 */
#ifndef AGENT_MAINS_GENTLE_H
#define AGENT_MAINS_GENTLE_H

#include <stdint.h>

#include "agent/mains_decode.h"

#define MAINS_GENTLE_CELLS 52
#define MAINS_GENTLE_MS 32000
#define MAINS_GENTLE_SURE_MS 960000 /* what goes on for so long was not gone before */

struct mains_gentle {
    int64_t cell;                      /* number of the newest, time / MAINS_GENTLE_MS; 0: none */
    uint8_t p[MAINS_GENTLE_CELLS];     /* of it, 0 to 254; 255: not known */
    uint8_t other[MAINS_GENTLE_CELLS]; /* of the compressor that is likeliest */
};

/* The sum in the cell that begins at t_ms; negative: not known. */
struct mains_sum {
    float (*watts)(void *context, int64_t t_ms);
    void *context;
    int64_t period_ms;
};

void mains_gentle_init(struct mains_gentle *g);

/* The network's results for time t_ms. */
void mains_gentle_hear(struct mains_gentle *g, int64_t t_ms, float p, float other);

/* Log-odds that step up i is a start, above what is even. Results to 5 minutes later and the sum
 * to 15 are known. */
float mains_gentle_begins(const struct mains_gentle *g, const struct mains_ring *edges, int i,
                          const struct mains_sum *sum);

/* Likewise, that step down i is the end of what began with a step of level_w. */
float mains_gentle_ends(const struct mains_gentle *g, const struct mains_ring *edges, int i,
                        float level_w, const struct mains_sum *sum);

/* Whether the network has not seen for a quarter of an hour before now_ms what began at start_ms.
 */
int mains_gentle_gone(const struct mains_gentle *g, int64_t start_ms, int64_t now_ms);

#endif
