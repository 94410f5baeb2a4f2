/* mains_cycle.h - which of a sum's steps are a compressor that starts and stops.
 *
 * A compressor is weak against what else runs, and the network alone takes lamps and televisions
 * for one. What tells it apart is that it comes again and again, with the same step for the same
 * time. So a step down is looked at together with each step up before it that it may belong to: how
 * likely the pair is a run is a logistic regression on what the network says between, behind and
 * where it begins, on how much it saw in the last hours, on how long the pair lasts, on how far
 * level and duration are from the median of the runs that were found in the last half day, and on
 * how many pairs had this level and another duration. Of the pairs that share edges or overlap, the
 * set with the largest sum of log-odds is taken (weighted interval scheduling). The coefficients
 * were fitted on homes mixed from tracebase's validation days and on one week of REFIT.
 *
 * Memory is constant; the structure holds no pointers and may be copied as bytes.
 */
#ifndef AGENT_MAINS_CYCLE_H
#define AGENT_MAINS_CYCLE_H

#include <stdint.h>

#include "agent/mains_decode.h"

#define MAINS_CYCLE_CELLS 256
#define MAINS_CYCLE_CELL_MS 32000 /* what is kept of the network reaches back 2.3 hours */
#define MAINS_CYCLE_PAIRS 48

struct mains_cycle {
    int64_t cell;    /* number of the newest one, time / MAINS_CYCLE_CELL_MS; 0: none */
    int64_t done_ms; /* end of the last run that was found; no other begins before it */
    float sum;       /* of the probabilities in the newest cell */
    float seen;      /* their mean over the last hours */
    int32_t count;   /* of results in the newest cell */
    int32_t next;    /* place of the next pair */
    int32_t minute[MAINS_CYCLE_PAIRS]; /* when a pair ended; 0: none */
    uint8_t level[MAINS_CYCLE_PAIRS];  /* logarithms, scaled */
    uint8_t length[MAINS_CYCLE_PAIRS];
    uint8_t found[MAINS_CYCLE_PAIRS]; /* 1: the pair was a run */
    uint8_t p[MAINS_CYCLE_CELLS];     /* 0 to 254; 255: not known */
};

struct mains_found {
    int up, down;  /* edges; down -1: not known yet */
    float level_w; /* what it took */
    float confidence;
};

void mains_cycle_init(struct mains_cycle *y);

/* The network's result for time t_ms. */
void mains_cycle_hear(struct mains_cycle *y, int64_t t_ms, float p);

/* The unclaimed step down `down` is due: all edges up to 34 minutes later are known, and the
 * network's results to some minutes later. 1: it ends a run, *out; the caller claims the edges. */
int mains_cycle_due(struct mains_cycle *y, const struct mains_ring *edges, int down,
                    struct mains_found *out);

/* A run whose steps are hidden in others. */
struct mains_filled {
    int64_t start_ms, end_ms;
    int up, down;  /* edges that it may have begun and ended with; -1: none is near */
    float level_w; /* what the runs of the last half day took */
    float confidence;
};

/* Where a compressor is known, by a run that was found, the network alone may speak for one that
 * has no pair: a stretch that it is sure of, and did not see for minutes behind. All edges up to
 * until_ms are decided. 1: *out is a run that ended before; the caller claims its edges. To be
 * asked once in MAINS_CYCLE_CELL_MS. */
int mains_cycle_fill(struct mains_cycle *y, const struct mains_ring *edges, int64_t until_ms,
                     struct mains_filled *out);

/* What an unclaimed step up is, minutes after it. */
enum mains_open {
    MAINS_NO_RUN,
    MAINS_PERHAPS, /* a step down that is known, but not due yet, may end it */
    MAINS_RUNS     /* a run that goes on beyond all that is known */
};
enum mains_open mains_cycle_open(const struct mains_cycle *y, const struct mains_ring *edges,
                                 int up, int64_t now_ms, struct mains_found *out);

/* Whether step down `down`, which is due, ends a run of this level that goes on. */
int mains_cycle_ends(struct mains_cycle *y, const struct mains_ring *edges, int down,
                     float level_w);

#define MAINS_CYCLE_GONE_MS 600000

/* Whether the network has not seen it for so long before now_ms. */
int mains_cycle_gone(const struct mains_cycle *y, int64_t now_ms);

/* All times are by_ms later. */
void mains_cycle_shift(struct mains_cycle *y, int64_t by_ms);

/* Whether bytes that were read back can be one: 0 or -EBADMSG. */
int mains_cycle_check(const struct mains_cycle *y);

#endif
