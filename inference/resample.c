/* resample.c - see resample.h. A push only notes the interval that the new reading closes;
 * resample_next walks it cell by cell, so that no buffer is needed however many cells one reading
 * completes. */
#include "inference/resample.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define TIME_LIMIT (INT64_MAX / 4) /* differences and cell edges cannot overflow within +- this */

static int64_t cell_of(const struct resample *r, int64_t t_ms)
{
    int64_t cell = t_ms / r->period_ms;
    return t_ms % r->period_ms < 0 ? cell - 1 : cell;
}

void resample_init(struct resample *r, int64_t period_ms, int64_t max_gap_ms)
{
    memset(r, 0, sizeof *r);
    r->period_ms = period_ms;
    r->max_gap_ms = max_gap_ms;
}

/* Begins the grid at the cell of t_ms. */
static void start_grid(struct resample *r, int64_t t_ms)
{
    r->cell = cell_of(r, t_ms);
    r->energy = 0;
    r->covered_ms = 0;
    r->restart = 1;
}

int resample_push(struct resample *r, int64_t t_ms, float watts)
{
    if (r->pending)
        return -EBUSY;
    if (!isfinite(watts) || t_ms > TIME_LIMIT || t_ms < -TIME_LIMIT)
        return -EINVAL;
    if (!r->started) {
        r->started = 1;
        r->last_ms = t_ms;
        r->last_watts = watts;
        start_grid(r, t_ms);
        return 0;
    }
    if (t_ms < r->last_ms) {
        r->backward++;
        return -ESTALE;
    }
    if (t_ms == r->last_ms) {
        r->repeated++;
        r->last_watts = watts;
        return 0;
    }
    r->pending = 1;
    r->pending_until_ms = t_ms;
    r->pending_watts = watts;
    r->pending_gap = t_ms - r->last_ms > r->max_gap_ms;
    r->gaps += (uint64_t)r->pending_gap;
    return 0;
}

/* Hands out the cell being filled and goes on to the next. */
static void complete_cell(struct resample *r, struct resample_sample *out)
{
    out->t_ms = r->cell * r->period_ms;
    out->watts = r->covered_ms > 0 ? (float)(r->energy / (double)r->covered_ms) : r->last_watts;
    out->mark = r->restart                          ? RESAMPLE_RESTART
                : 2 * r->covered_ms >= r->period_ms ? RESAMPLE_OK
                                                    : RESAMPLE_GAP;
    r->restart = 0;
    r->cell++;
    r->energy = 0;
    r->covered_ms = 0;
}

int resample_next(struct resample *r, struct resample_sample *out)
{
    if (!r->pending)
        return 0;
    if (r->pending_gap &&
        cell_of(r, r->pending_until_ms) - cell_of(r, r->last_ms) > RESAMPLE_MAX_FILL) {
        int partial = r->covered_ms > 0;
        if (partial)
            complete_cell(r, out);
        start_grid(r, r->pending_until_ms);
        r->last_ms = r->pending_until_ms;
        r->last_watts = r->pending_watts;
        r->pending = 0;
        return partial;
    }
    int64_t cell_end = (r->cell + 1) * r->period_ms;
    int64_t until = cell_end < r->pending_until_ms ? cell_end : r->pending_until_ms;
    if (!r->pending_gap) {
        r->energy += (double)r->last_watts * (double)(until - r->last_ms);
        r->covered_ms += until - r->last_ms;
    }
    r->last_ms = until;
    int done = until == cell_end;
    if (done)
        complete_cell(r, out);
    if (until == r->pending_until_ms) {
        r->last_watts = r->pending_watts;
        r->pending = 0;
    }
    return done;
}
