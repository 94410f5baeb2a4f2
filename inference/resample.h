/* resample.h - irregular readings onto a uniform grid, gaps marked. Used alike in training and in the agent, so
 * that a model sees in the field what it saw when it was trained.
 *
 * A reading holds until the next one (zero-order hold); a grid sample k is the time-weighted mean of that step function
 * over [k P, (k+1) P), which keeps the energy. Cells follow Unix time (k = floor(t / P)), whatever the first reading was.
 * Where two readings lie further apart than max_gap, the time between is a gap: a cell with less than half of its time
 * covered is marked RESAMPLE_GAP and carries the mean of what is covered, or the last value before the gap.
 * A gap of more than RESAMPLE_MAX_FILL cells is not filled: the grid starts anew and its first sample is
 * marked RESAMPLE_RESTART, as is the very first sample of all. What has been read of a cell when the readings end is not handed
 * out: its rest is not known. Times that repeat replace the value; times that run backwards are dropped and counted.
 * The structure is the caller's, holds no pointers, and needs no release.
 */
#ifndef INFERENCE_RESAMPLE_H
#define INFERENCE_RESAMPLE_H

#include <stdint.h>

#define RESAMPLE_MAX_FILL 512

enum resample_mark { RESAMPLE_OK = 0, RESAMPLE_GAP = 1, RESAMPLE_RESTART = 2 };

struct resample_sample {
    int64_t t_ms; /* start of the cell */
    float watts;
    enum resample_mark mark;
};

struct resample {
    int64_t period_ms, max_gap_ms;
    int64_t last_ms; /* last accepted reading */
    float last_watts;
    int started, restart;
    int64_t cell;            /* cell being filled */
    double energy;           /* watt-milliseconds in it so far */
    int64_t covered_ms;      /* of it */
    int pending;             /* an accepted reading whose cells are not all taken yet */
    int64_t pending_until_ms; /* its time: up to it cells can be completed */
    int pending_gap;
    float pending_watts;
    uint64_t repeated, backward, gaps;
};

/* period_ms > 0; max_gap_ms >= period_ms is usual (the project uses 60 s). */
void resample_init(struct resample *r, int64_t period_ms, int64_t max_gap_ms);

/* Feeds a reading (finite). Afterwards call resample_next until it returns 0; a reading fed before that returns -EBUSY.
 * Returns 0, -ESTALE when the time runs backwards (dropped), -EINVAL when watts is not finite or the time beyond +-2^61 ms
 * (dropped). One reading completes at most RESAMPLE_MAX_FILL cells, or max_gap / period where that is more. */
int resample_push(struct resample *r, int64_t t_ms, float watts);

/* Takes one completed grid sample: 1 and *out, or 0 when the next reading is needed. */
int resample_next(struct resample *r, struct resample_sample *out);

#endif
