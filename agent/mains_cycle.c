/* mains_cycle.c - pairs of steps, and which of them are a compressor's runs. */
#include "agent/mains_cycle.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define NOT_KNOWN 255
#define LEAST_P 0.004f  /* of what the network says: half a step of a cell */
#define LEAST_MS 100000 /* of a run */
#define MOST_MS 6000000
#define LEAST_W 20.0f /* of its step down */
#define MOST_W 400.0f
#define UP_LEAST (-0.3f) /* logarithm of the step up to that down: a start takes more */
#define UP_MOST 0.85f
#define SPLIT_MS 32000          /* a step down may come in two pieces so far apart */
#define AROUND_MS 420000        /* before and behind a run the network is listened to so long */
#define ALIKE_LEVEL 0.12f       /* logarithms of two levels that are one */
#define ALIKE_LENGTH 0.4f       /* and of two durations */
#define PAIRS_MINUTES (12 * 60) /* pairs are remembered so long */
#define PAIR_ODDS (-1.0f)       /* and only when the network thinks so much of them */
#define PAIR_MS 180000
#define MOST_ALIKE 24
#define USUAL_LN_S 7.0f /* 18 minutes; a run half or twice as long is as likely */
#define USUAL_ROOM 0.6f
#define LEVEL_SCALE 80.0f
#define LEVEL_FROM 2.9f
#define LENGTH_SCALE 60.0f
#define LENGTH_FROM 4.5f
#define USUAL_BEHIND (-1.5f) /* log-odds behind a run */
#define OPEN_MOST 2.5f       /* a step so much above what is usual is not its alone */
#define END_FALL 1.5f        /* they fall so much where one ends */
#define AHEAD_MS 1800000     /* edges are known so far ahead */
#define RISE_MS 180000       /* on both sides of a start: how the network comes to see it */
#define SEEN_FIRST 0.15f /* mean of its probabilities of the last hours, before they are known */
#define SEEN_SHARE ((float)MAINS_CYCLE_CELL_MS / (3 * 3600000.0f))
#define GONE_ODDS (-0.8f)
#define EVEN (-2.2f) /* log-odds from which a pair is taken */

#define FILL_SEEN 140  /* the network's probability, of 254, in a run without a pair */
#define FILL_SURE 1.5f /* and the mean of its log-odds at least */
#define FILL_GAP 2     /* cells that it may not be in between, and more than so many behind */
#define FILL_KNOWN 1   /* runs that must have been found in the last half day */
#define FILL_LEAST_MS 240000
#define FILL_LATER_MS 600000 /* so long behind a pair might yet be found */
#define FILL_NEAR_S 90.0f
#define FILL_STEP 0.6f
#define FILL_OTHER_S 60.0f /* a step of another one's, or of another size, is as if so far away */

/* The regression: sums are of log-odds. */
#define B_ONE (-0.526f)
#define B_INSIDE 0.213f
#define B_LEAST 0.223f
#define B_RISE 0.559f
#define B_BEHIND (-0.517f)
#define B_SEEN 1.186f
#define B_ODD (-1.202f)
#define B_UNLIKE (-0.756f)
#define B_NEAREST 0.424f
#define USUAL_LEAST 3 /* runs from which level and duration are known, and how far they are off */
#define B_LEVEL (-2.664f)
#define LEVEL_MOST 0.6f
#define B_LENGTH (-3.788f)
#define LENGTH_MOST 1.0f
#define B_NEW (-5.0f) /* until then; -3.2 as fitted, but a place begins with what is sure */
#define B_NEW_INSIDE 0.363f
#define B_NEW_ALIKE 0.744f /* and pairs of this level and duration say something */

void mains_cycle_init(struct mains_cycle *y)
{
    memset(y, 0, sizeof(*y));
    memset(y->p, NOT_KNOWN, sizeof(y->p));
    y->seen = SEEN_FIRST;
}

static uint8_t *cell_of(struct mains_cycle *y, int64_t cell)
{
    return &y->p[cell % MAINS_CYCLE_CELLS];
}

void mains_cycle_hear(struct mains_cycle *y, int64_t t_ms, float p)
{
    int64_t cell = t_ms / MAINS_CYCLE_CELL_MS;
    if (cell < y->cell || cell - y->cell >= MAINS_CYCLE_CELLS)
        memset(y->p, NOT_KNOWN, sizeof(y->p));
    else
        for (int64_t i = y->cell + 1; i < cell; i++)
            *cell_of(y, i) = NOT_KNOWN;
    if (cell != y->cell) {
        if (y->count)
            y->seen += SEEN_SHARE * (y->sum / (float)y->count - y->seen);
        y->cell = cell;
        y->sum = 0;
        y->count = 0;
    }
    y->sum += fminf(fmaxf(p, 0), 1);
    y->count++;
    *cell_of(y, cell) = (uint8_t)lrintf(254 * y->sum / (float)y->count);
}

/* What the network said from one time to another. */
struct heard {
    float mean, least; /* log-odds */
    int cells;         /* that are known */
};

static struct heard listen(const struct mains_cycle *y, int64_t from_ms, int64_t to_ms)
{
    struct heard h = {0, 10, 0};
    int64_t first = (from_ms + MAINS_CYCLE_CELL_MS - 1) / MAINS_CYCLE_CELL_MS;
    int64_t last = (to_ms - 1) / MAINS_CYCLE_CELL_MS;
    if (first <= y->cell - MAINS_CYCLE_CELLS)
        first = y->cell - MAINS_CYCLE_CELLS + 1;
    for (int64_t i = first; i <= last && i <= y->cell; i++) {
        uint8_t p = y->p[i % MAINS_CYCLE_CELLS];
        if (p == NOT_KNOWN)
            continue;
        float x = mains_decode_odds((float)p / 254, LEAST_P);
        h.mean += x;
        h.least = fminf(h.least, x);
        h.cells++;
    }
    if (h.cells)
        h.mean /= (float)h.cells;
    return h;
}

/* ---- pairs ---- */

/* What goes with step down i, a piece just before it counted in; 0: nothing that a compressor
 * takes.
 */
static float fall(const struct mains_ring *edges, int i)
{
    const struct mains_edge *e = &edges->edges[i], *last = e - 1;
    float down = -e->step_w;
    if (e->claim != MAINS_FREE || down <= 0)
        return 0;
    if (i > 0 && last->claim == MAINS_FREE && last->step_w < 0 &&
        mains_ring_time(edges, i) - mains_ring_time(edges, i - 1) <= SPLIT_MS &&
        down - last->step_w <= MOST_W)
        down -= last->step_w;
    return down >= LEAST_W && down <= MOST_W ? down : 0;
}

/* What comes with step up j, in the way that is nearest to `down`: as it is, with inrush taken off,
 * or with a piece just behind it counted in. */
static float climb(const struct mains_ring *edges, int j, float down)
{
    const struct mains_edge *e = &edges->edges[j], *next = e + 1;
    int pair;
    float way[3] = {e->step_w, mains_ring_step(edges, j, &pair), e->step_w}, best = e->step_w;
    if (j + 1 < edges->count && next->claim == MAINS_FREE && next->step_w > 0 &&
        mains_ring_time(edges, j + 1) - mains_ring_time(edges, j) <= SPLIT_MS)
        way[2] += next->step_w;
    for (int i = 0; i < 3; i++)
        if (fabsf(way[i] - down) < fabsf(best - down))
            best = way[i];
    return best;
}

/* Whether step up j may be the start of what ends with step down i, which takes away `down`. */
static int belongs(const struct mains_ring *edges, int j, int i, float down)
{
    const int64_t length = mains_ring_time(edges, i) - mains_ring_time(edges, j);
    if (edges->edges[j].claim != MAINS_FREE || edges->edges[j].step_w < LEAST_W ||
        length < LEAST_MS || length > MOST_MS)
        return 0;
    const float ratio = logf(climb(edges, j, down) / down);
    return ratio > UP_LEAST && ratio < UP_MOST;
}

static uint8_t scaled(float x, float from, float scale)
{
    return (uint8_t)lrintf(fminf(fmaxf((x - from) * scale, 0), 255));
}

static void remember(struct mains_cycle *y, int64_t t_ms, float level, float length, int found)
{
    y->found[y->next] = (uint8_t)found;
    y->minute[y->next] = (int32_t)(t_ms / 60000);
    y->level[y->next] = scaled(level, LEVEL_FROM, LEVEL_SCALE);
    y->length[y->next] = scaled(length, LENGTH_FROM, LENGTH_SCALE);
    y->next = (y->next + 1) % MAINS_CYCLE_PAIRS;
}

/* What the runs that were found in the half day before a time are like: medians of logarithms. */
struct usual {
    int runs;
    float level, length;
};

static float median(float *x, int n)
{
    for (int i = 1; i < n; i++)
        for (int k = i; k > 0 && x[k] < x[k - 1]; k--) {
            const float swap = x[k];
            x[k] = x[k - 1];
            x[k - 1] = swap;
        }
    return n ? x[n / 2] : 0;
}

static int lately(const struct mains_cycle *y, int i, int32_t now)
{
    return y->minute[i] && y->minute[i] <= now && now - y->minute[i] <= PAIRS_MINUTES;
}

static float level_of(const struct mains_cycle *y, int i)
{
    return (float)y->level[i] / LEVEL_SCALE + LEVEL_FROM;
}

static float length_of(const struct mains_cycle *y, int i)
{
    return (float)y->length[i] / LENGTH_SCALE + LENGTH_FROM;
}

static struct usual usually(const struct mains_cycle *y, int64_t t_ms)
{
    float levels[MAINS_CYCLE_PAIRS], lengths[MAINS_CYCLE_PAIRS];
    int n = 0;
    for (int i = 0; i < MAINS_CYCLE_PAIRS; i++)
        if (y->found[i] == 1 && lately(y, i, (int32_t)(t_ms / 60000))) {
            levels[n] = level_of(y, i);
            lengths[n++] = length_of(y, i);
        }
    return (struct usual){n, median(levels, n), median(lengths, n)};
}

/* How many pairs that ended before from_ms are of this level, and of this duration, too, or not. */
static void recall(const struct mains_cycle *y, int64_t from_ms, float level, float length,
                   int *alike, int *unlike)
{
    *alike = *unlike = 0;
    for (int i = 0; i < MAINS_CYCLE_PAIRS; i++) {
        if (!lately(y, i, (int32_t)(from_ms / 60000)) ||
            fabsf(level_of(y, i) - level) > ALIKE_LEVEL)
            continue;
        if (fabsf(length_of(y, i) - length) < ALIKE_LENGTH)
            ++*alike;
        else
            ++*unlike;
    }
    *alike = *alike < MOST_ALIKE ? *alike : MOST_ALIKE;
    *unlike = *unlike < MOST_ALIKE ? *unlike : MOST_ALIKE;
}

/* A run that may be one: logarithms; how far its length is from any compressor's, and from this
 * one's. */
struct trial {
    int64_t from_ms;
    struct heard inside;
    float behind, level, length, odd, off;
};

/* The regression's sum, without what only a pair tells. */
static float log_odds(const struct mains_cycle *y, const struct usual *u, const struct trial *t)
{
    int alike, unlike;
    const float rise = listen(y, t->from_ms, t->from_ms + RISE_MS).mean -
                       listen(y, t->from_ms - RISE_MS, t->from_ms).mean;
    recall(y, t->from_ms, t->level, t->length, &alike, &unlike);
    const float sum = B_ONE + B_INSIDE * t->inside.mean + B_LEAST * t->inside.least +
                      B_RISE * rise + B_BEHIND * t->behind +
                      B_SEEN * mains_decode_odds(y->seen, LEAST_P) + B_ODD * t->odd +
                      B_UNLIKE * log1pf((float)unlike);
    if (u->runs < USUAL_LEAST)
        return sum + B_NEW + B_NEW_INSIDE * t->inside.mean + B_NEW_ALIKE * log1pf((float)alike);
    return sum + B_LEVEL * fminf(fabsf(t->level - u->level), LEVEL_MOST) +
           B_LENGTH * fminf(t->off, LENGTH_MOST);
}

/* Log-odds that edges j and i are a run of this level, above what is even; nearest: no other step
 * up between them may be its start. */
static float worth(const struct mains_cycle *y, const struct usual *u,
                   const struct mains_ring *edges, int j, int i, float level_w, int nearest)
{
    int64_t from = mains_ring_time(edges, j), to = mains_ring_time(edges, i);
    const float length = logf((float)(to - from) / 1000);
    const struct trial t = {.from_ms = from,
                            .inside = listen(y, from, to),
                            .behind = listen(y, to, to + AROUND_MS).mean,
                            .level = logf(level_w),
                            .length = length,
                            .odd = fmaxf(0, fabsf(length - USUAL_LN_S) - USUAL_ROOM),
                            .off = fabsf(length - u->length)};
    if (t.inside.cells < 2)
        return -1;
    return log_odds(y, u, &t) + (nearest ? B_NEAREST : 0) - EVEN;
}

/* The best start for what ends with edge i, all of that before counted in; -1: none. best [i]: of
 * the edges before. */
static int best_start(const struct mains_cycle *y, const struct usual *u,
                      const struct mains_ring *edges, int i, const float *best, float *most)
{
    int start = -1, nearest = 1;
    const float down = fall(edges, i);
    *most = best ? best[i] : 0;
    for (int j = i - 1; j >= 0 && down > 0; j--) {
        if (mains_ring_time(edges, j) < y->done_ms ||
            mains_ring_time(edges, i) - mains_ring_time(edges, j) > MOST_MS)
            break;
        if (!belongs(edges, j, i, down))
            continue;
        float x = worth(y, u, edges, j, i, down, nearest) + (best ? best[j] : 0);
        nearest = 0;
        if (x > *most) {
            *most = x;
            start = j;
        }
    }
    return start;
}

/* The pair that ends with edge i: the run that was found, or the nearest two steps. */
static void remember_pair(struct mains_cycle *y, const struct mains_ring *edges, int i, int start)
{
    int j = start >= 0 ? start : i - 1;
    int64_t to = mains_ring_time(edges, i);
    const float down = fall(edges, i);
    while (j >= 0 && !belongs(edges, j, i, down))
        j--;
    if (j < 0)
        return;
    int64_t from = mains_ring_time(edges, j);
    if (start >= 0 || (to - from >= PAIR_MS && listen(y, from, to).mean > PAIR_ODDS))
        remember(y, to, logf(down), logf((float)(to - from) / 1000), start >= 0);
}

/* What a run took that begins with step up j: `down` is without inrush, but either may be a piece
 * of it. */
static float level_between(const struct mains_ring *edges, const struct usual *u, int j, float down)
{
    const float up = climb(edges, j, down), level = up < 1.3f * down ? (up + down) / 2 : down;
    const float whole = climb(edges, j, expf(u->level));
    if (u->runs >= USUAL_LEAST &&
        fabsf(logf(whole) - u->level) < fabsf(logf(level) - u->level) - ALIKE_LEVEL)
        return whole;
    return level;
}

int mains_cycle_due(struct mains_cycle *y, const struct mains_ring *edges, int down,
                    struct mains_found *out)
{
    float best[MAINS_EDGES + 1] = {0}, most;
    int start[MAINS_EDGES];
    const float left = fall(edges, down);
    if (left <= 0)
        return 0;
    const struct usual u = usually(y, mains_ring_time(edges, down));
    int found = best_start(y, &u, edges, down, NULL, &most);
    const float odds = most + EVEN;
    if (found >= 0) { /* by itself; with all that may claim the same edges? */
        for (int i = 0; i < edges->count; i++) {
            start[i] = best_start(y, &u, edges, i, best, &most);
            best[i + 1] = start[i] >= 0 ? most : best[i];
        }
        int i = edges->count - 1;
        while (i > down)
            i = start[i] >= 0 ? start[i] - 1 : i - 1;
        found = i == down ? start[i] : -1;
    }
    remember_pair(y, edges, down, found);
    if (found < 0)
        return 0;
    *out = (struct mains_found){found, down, level_between(edges, &u, found, left),
                                1 / (1 + expf(-odds))};
    y->done_ms = mains_ring_time(edges, down);
    return 1;
}

/* ---- runs that are longer than what is known ---- */

enum mains_open mains_cycle_open(const struct mains_cycle *y, const struct mains_ring *edges,
                                 int up, int64_t now_ms, struct mains_found *out)
{
    int pair;
    const int64_t from = mains_ring_time(edges, up);
    const float step = mains_ring_step(edges, up, &pair);
    if (step < LEAST_W || step > MOST_W || from < y->done_ms)
        return MAINS_NO_RUN;
    const struct usual u = usually(y, from);
    for (int i = up + 1; i < edges->count; i++) {
        const float down = fall(edges, i);
        if (mains_ring_time(edges, i) >= now_ms && down > 0 && belongs(edges, up, i, down) &&
            worth(y, &u, edges, up, i, down, 1) > 0)
            return MAINS_PERHAPS;
    }
    const float length = logf((float)(now_ms + AHEAD_MS - from) / 1000); /* at least */
    const struct trial t = {.from_ms = from,
                            .inside = listen(y, from, now_ms),
                            .behind = USUAL_BEHIND,
                            .level = logf(step),
                            .length = length,
                            .odd = fmaxf(0, length - USUAL_LN_S - USUAL_ROOM),
                            .off = fmaxf(0, length - u.length)};
    const float odds = log_odds(y, &u, &t);
    *out = (struct mains_found){up, -1, step, 1 / (1 + expf(-odds))};
    if (u.runs >= USUAL_LEAST && step > OPEN_MOST * expf(u.level))
        out->level_w = expf(u.level);
    return t.inside.cells > 1 && odds > EVEN ? MAINS_RUNS : MAINS_NO_RUN;
}

int mains_cycle_ends(struct mains_cycle *y, const struct mains_ring *edges, int down, float level_w)
{
    const int64_t t = mains_ring_time(edges, down);
    const float fallen = fall(edges, down);
    if (fallen <= 0 || level_w <= 0)
        return 0;
    const float ratio = logf(level_w / fallen);
    const struct heard before = listen(y, t - AROUND_MS, t), behind = listen(y, t, t + AROUND_MS);
    if (ratio < UP_LEAST || ratio > UP_MOST ||
        (before.cells && behind.mean > before.mean - END_FALL))
        return 0;
    y->done_ms = t;
    return 1;
}

int mains_cycle_gone(const struct mains_cycle *y, int64_t now_ms)
{
    struct heard h = listen(y, now_ms - MAINS_CYCLE_GONE_MS, now_ms);
    return h.cells > 1 && h.mean < GONE_ODDS;
}

/* ---- runs without a pair ---- */

static int seen(const struct mains_cycle *y, int64_t cell)
{
    uint8_t p = y->p[cell % MAINS_CYCLE_CELLS];
    return p != NOT_KNOWN && p >= FILL_SEEN;
}

/* The step of at least most of the level that stands nearest to t_ms, or -1. */
static int step_near(const struct mains_ring *edges, int64_t t_ms, float level_w, int up)
{
    int best = -1;
    float least = FILL_NEAR_S;
    for (int i = 0; i < edges->count; i++) {
        const struct mains_edge *e = &edges->edges[i];
        const float step = up ? e->step_w : -e->step_w;
        if (step < FILL_STEP * level_w)
            continue;
        float far = fabsf((float)(mains_ring_time(edges, i) - t_ms)) / 1000 +
                    FILL_OTHER_S * fminf(1, fabsf(logf(step / level_w))) +
                    (e->claim != MAINS_FREE ? FILL_OTHER_S : 0);
        if (far < least) {
            least = far;
            best = i;
        }
    }
    return best;
}

int mains_cycle_fill(struct mains_cycle *y, const struct mains_ring *edges, int64_t until_ms,
                     struct mains_filled *out)
{
    const int64_t end = (until_ms - FILL_LATER_MS) / MAINS_CYCLE_CELL_MS; /* the first unseen one */
    int64_t first = end - 1;
    int gap = 0;
    if (end + FILL_GAP > y->cell || end - MAINS_CYCLE_CELLS / 2 <= 0 || !seen(y, end - 1))
        return 0;
    for (int i = 0; i <= FILL_GAP; i++)
        if (seen(y, end + i))
            return 0;
    for (int64_t i = end - 2; i > y->cell - MAINS_CYCLE_CELLS && gap <= FILL_GAP; i--) {
        gap = seen(y, i) ? 0 : gap + 1;
        first = gap ? first : i;
    }
    const int64_t start_ms = first * MAINS_CYCLE_CELL_MS, end_ms = end * MAINS_CYCLE_CELL_MS;
    const struct usual u = usually(y, start_ms);
    const struct heard h = listen(y, start_ms, end_ms);
    const float level = expf(u.level);
    if (u.runs < FILL_KNOWN || start_ms < y->done_ms || end_ms - start_ms > MOST_MS ||
        h.mean < FILL_SURE)
        return 0;
    *out = (struct mains_filled){.start_ms = start_ms,
                                 .end_ms = end_ms,
                                 .up = step_near(edges, start_ms, level, 1),
                                 .down = step_near(edges, end_ms, level, 0),
                                 .level_w = level,
                                 .confidence = 1 / (1 + expf(-h.mean))};
    if (out->up >= 0 && mains_ring_time(edges, out->up) >= y->done_ms)
        out->start_ms = mains_ring_time(edges, out->up);
    if (out->down >= 0)
        out->end_ms = mains_ring_time(edges, out->down);
    if (out->end_ms - out->start_ms < FILL_LEAST_MS)
        return 0;
    y->done_ms = out->end_ms;
    return 1;
}

/* ---- bytes that were read back ---- */

void mains_cycle_shift(struct mains_cycle *y, int64_t by_ms)
{
    if (y->cell)
        y->cell += by_ms / MAINS_CYCLE_CELL_MS;
    if (y->done_ms)
        y->done_ms += by_ms;
    for (int i = 0; i < MAINS_CYCLE_PAIRS; i++)
        if (y->minute[i])
            y->minute[i] += (int32_t)(by_ms / 60000);
    if (y->cell < 0)
        mains_cycle_init(y);
}

int mains_cycle_check(const struct mains_cycle *y)
{
    return y->cell >= 0 && y->count >= 0 && isfinite(y->sum) && isfinite(y->seen) && y->next >= 0 &&
                   y->next < MAINS_CYCLE_PAIRS
               ? 0
               : -EBADMSG;
}
