#include "agent/place_switch.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/calendar.h"

#define DAY_MS 86400000
#define DAY_MINUTES 1440
#define SLOT_MINUTES (DAY_MINUTES / PLACE_SWITCH_SLOTS)
#define NEAR_CELLS 6 /* medians of so many cells on both sides of the moment */
#define FAR_CELLS 20 /* and of so many, with a gap: a slow start is through by then */
#define FAR_GAP 10
#define ALIGN_CELLS 4   /* a person's word is that much off */
#define LEAST_CELLS 500 /* to learn a background from */
#define RANGE 6.0f      /* of asinh(change / scale) */
#define LEAST_SPREAD 0.2f
#define LEAST_SCALE_W 10.0f
#define TAIL 3.0f           /* evidence falls off as a t distribution, not as a normal one */
#define MOST_EVIDENCE 8.0f  /* of one scale, either way: two scales are not independent */
#define KERNEL_MINUTES 60.0 /* habits are that regular */
#define FLOOR_RATE 0.05     /* a day: what was never seen may happen */
#define LEAN 1.5f        /* towards on and off: a start is final before its stop could confirm it */
#define LONG_AGO (-5.0f) /* nobody is on at first */

/* --- changes of the level --- */

/* Median of up to FAR_CELLS values; NAN when more than a third is unknown. */
static float median(const float *watts, int count)
{
    float sorted[FAR_CELLS];
    int n = 0;
    for (int i = 0; i < count; i++) {
        if (isnan(watts[i]))
            continue;
        int k = n++;
        for (; k > 0 && sorted[k - 1] > watts[i]; k--)
            sorted[k] = sorted[k - 1];
        sorted[k] = watts[i];
    }
    if (3 * n < 2 * count)
        return NAN;
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

/* now: the first cell of the new level, with PLACE_SWITCH_REACH cells on either side. */
static int change_at(const float *now, float change[PLACE_SWITCH_SCALES])
{
    change[0] = median(now, NEAR_CELLS) - median(now - NEAR_CELLS, NEAR_CELLS);
    change[1] = median(now + FAR_GAP, FAR_CELLS) - median(now - FAR_GAP - FAR_CELLS, FAR_CELLS);
    return !isnan(change[0]) && !isnan(change[1]);
}

int place_switch_push(struct place_switch_window *w, float watts, float change[PLACE_SWITCH_SCALES])
{
    const int room = 2 * PLACE_SWITCH_REACH;
    if (w->filled == room) {
        memmove(w->watts, w->watts + 1, (size_t)(room - 1) * sizeof *w->watts);
        w->filled--;
    }
    w->watts[w->filled++] = watts;
    return w->filled == room && change_at(w->watts + PLACE_SWITCH_REACH, change);
}

static int cell_change(const struct place_switch_cells *c, int64_t cell, float *change)
{
    if (cell < PLACE_SWITCH_REACH || cell + PLACE_SWITCH_REACH > (int64_t)c->count)
        return 0;
    return change_at(c->watts + cell, change);
}

static float squash(float watts, float scale)
{
    return asinhf(watts / scale);
}

static int bin_of(float x)
{
    int bin = (int)((x + RANGE) * (PLACE_SWITCH_BINS / (2 * RANGE)));
    return bin < 0 ? 0 : bin >= PLACE_SWITCH_BINS ? PLACE_SWITCH_BINS - 1 : bin;
}

/* --- learning --- */

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

/* Median of the magnitudes of the short change, on a sample of cells. */
static float typical_change(const struct place_switch_cells *c)
{
    float values[512], change[PLACE_SWITCH_SCALES];
    size_t n = 0, stride = c->count / 512 + 1;
    for (size_t i = 0; i < c->count && n < 512; i += stride)
        if (cell_change(c, (int64_t)i, change))
            values[n++] = fabsf(change[0]);
    if (n == 0)
        return LEAST_SCALE_W;
    qsort(values, n, sizeof *values, by_value);
    return fmaxf(2 * values[n / 2], LEAST_SCALE_W);
}

int place_switch_learn_background(const struct place_switch_cells *c,
                                  struct place_switch_background *out)
{
    double n[PLACE_SWITCH_SCALES][PLACE_SWITCH_BINS] = {{0}}, total = 0;
    float change[PLACE_SWITCH_SCALES];
    memset(out, 0, sizeof(*out));
    out->period_ms = c->period_ms;
    out->scale_w = typical_change(c);
    for (size_t i = 0; i < c->count; i++) {
        if (!cell_change(c, (int64_t)i, change))
            continue;
        for (int k = 0; k < PLACE_SWITCH_SCALES; k++)
            n[k][bin_of(squash(change[k], out->scale_w))]++;
        total++;
    }
    if (total < LEAST_CELLS)
        return -ENODATA;
    for (int k = 0; k < PLACE_SWITCH_SCALES; k++) {
        for (int b = 0; b < PLACE_SWITCH_BINS; b++) {
            double left = n[k][b > 0 ? b - 1 : 0];
            double right = n[k][b + 1 < PLACE_SWITCH_BINS ? b + 1 : b];
            double smooth = 0.25 * left + 0.5 * n[k][b] + 0.25 * right;
            out->log_density[k][b] = (float)log((smooth + 0.5) * PLACE_SWITCH_BINS /
                                                ((total + 0.5 * PLACE_SWITCH_BINS) * 2 * RANGE));
        }
    }
    return 0;
}

struct way_points {
    int64_t t_ms[256];
    float x[PLACE_SWITCH_SCALES][256];
    size_t count;
};

/* Where the level moves most in the right direction near the time that was said. */
static void collect(const struct place_switch_cells *c, const struct place_switch_background *b,
                    int64_t t_ms, float sign, struct way_points *points)
{
    float best[PLACE_SWITCH_SCALES] = {0}, change[PLACE_SWITCH_SCALES];
    int64_t middle = (t_ms - c->first_ms) / c->period_ms;
    int found = 0;
    for (int64_t i = middle - ALIGN_CELLS; i <= middle + ALIGN_CELLS; i++) {
        if (!cell_change(c, i, change) || (found && sign * change[0] <= sign * best[0]))
            continue;
        memcpy(best, change, sizeof best);
        found = 1;
    }
    if (!found || points->count == 256)
        return;
    for (int k = 0; k < PLACE_SWITCH_SCALES; k++)
        points->x[k][points->count] = squash(best[k], b->scale_w);
    points->t_ms[points->count++] = t_ms;
}

static void learn_way(const struct way_points *p, struct place_switch_way *out)
{
    float sorted[256];
    for (int k = 0; k < PLACE_SWITCH_SCALES; k++) {
        size_t n = p->count;
        memcpy(sorted, p->x[k], n * sizeof *sorted);
        qsort(sorted, n, sizeof *sorted, by_value);
        out->middle[k] = n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
        for (size_t i = 0; i < n; i++)
            sorted[i] = fabsf(p->x[k][i] - out->middle[k]);
        qsort(sorted, n, sizeof *sorted, by_value);
        float away = n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
        out->spread[k] = fmaxf(1.48f * away, LEAST_SPREAD);
    }
}

static void learn_rate(const struct way_points *p, double days, struct place_switch_way *out)
{
    const double pi = 3.14159265358979323846;
    for (int slot = 0; slot < PLACE_SWITCH_SLOTS; slot++) {
        double rate = FLOOR_RATE, now = (slot + 0.5) * SLOT_MINUTES;
        for (size_t i = 0; i < p->count; i++) {
            double away = fabs(calendar_minute(p->t_ms[i]) - now);
            away = away > DAY_MINUTES / 2.0 ? DAY_MINUTES - away : away;
            away /= KERNEL_MINUTES;
            rate += exp(-away * away / 2) / (sqrt(2 * pi) * KERNEL_MINUTES) * DAY_MINUTES / days;
        }
        out->log_rate[slot] = (float)log(rate);
    }
}

int place_switch_learn(const struct place_switch_cells *c, const struct place_switch_background *b,
                       const struct place_switch_run *runs, size_t count, struct place_switch *out)
{
    struct way_points starts = {.count = 0}, stops = {.count = 0};
    double days = (double)c->count * (double)c->period_ms / DAY_MS;
    memset(out, 0, sizeof(*out));
    for (size_t i = 0; i < count; i++) {
        if (runs[i].start_ms > 0)
            collect(c, b, runs[i].start_ms, 1, &starts);
        if (runs[i].end_ms > 0)
            collect(c, b, runs[i].end_ms, -1, &stops);
    }
    if (starts.count < PLACE_SWITCH_LEAST || stops.count < PLACE_SWITCH_LEAST)
        return -ENODATA;
    out->runs = (uint32_t)starts.count;
    out->local = 1;
    learn_way(&starts, &out->start);
    learn_way(&stops, &out->stop);
    days = days > 1 ? days : 1;
    learn_rate(&starts, days, &out->start);
    learn_rate(&stops, days, &out->stop);
    return 0;
}

/* --- finding --- */

/* Log odds that this is such a switching, at this time of the day, in this very cell. */
static float evidence(const struct place_switch_way *way, const struct place_switch_background *b,
                      int64_t t_ms, const float *change)
{
    float sum = way->log_rate[calendar_minute(t_ms) / SLOT_MINUTES] +
                logf((float)b->period_ms / DAY_MS) + LEAN;
    for (int k = 0; k < PLACE_SWITCH_SCALES; k++) {
        float x = squash(change[k], b->scale_w), d = (x - way->middle[k]) / way->spread[k];
        float odds =
            -logf(way->spread[k]) - 1 - 2 * log1pf(d * d / TAIL) - b->log_density[k][bin_of(x)];
        sum += fminf(fmaxf(odds, -MOST_EVIDENCE), MOST_EVIDENCE);
    }
    return sum;
}

int place_switch_step(const struct place_switch *s, const struct place_switch_background *b,
                      struct place_switch_state *state, int64_t t_ms, const float *change,
                      int known, int *on, int64_t *when_ms)
{
    const uint32_t room = PLACE_SWITCH_LOOKBACK;
    float start = known ? evidence(&s->start, b, t_ms, change) : -INFINITY;
    float stop = known ? evidence(&s->stop, b, t_ms, change) : -INFINITY;
    if (state->filled == 0 && !state->on)
        state->cost[1] = LONG_AGO;
    float off = state->cost[0], run = state->cost[1];
    int from_off = run + stop > off, from_on = off + start <= run;
    state->cost[0] = from_off ? run + stop : off;
    state->cost[1] = from_on ? run : off + start;
    float most = fmaxf(state->cost[0], state->cost[1]);
    state->cost[0] -= most;
    state->cost[1] -= most;
    state->back[state->at] = (uint8_t)(from_off | from_on << 1);
    state->at = (state->at + 1) % room;
    state->filled += state->filled < room;
    if (state->filled < room)
        return 0;
    int now = state->cost[1] > state->cost[0];
    for (uint32_t i = 0; i + 1 < room; i++)
        now = state->back[(state->at + room - 1 - i) % room] >> now & 1;
    if (now == state->on)
        return 0;
    state->on = *on = now;
    *when_ms = t_ms - (int64_t)(room - 1) * b->period_ms;
    return 1;
}

void place_switch_begin_on(struct place_switch_state *state)
{
    memset(state, 0, sizeof(*state));
    state->cost[0] = LONG_AGO;
    state->on = 1;
}

/* --- what was read back --- */

void place_switch_use_local(struct place_switch *s, int64_t t_ms)
{
    struct place_switch_way *ways[] = {&s->start, &s->stop};
    const int utc = (int)(t_ms / 60000 % DAY_MINUTES);
    const int ahead = (calendar_minute(t_ms) - utc + DAY_MINUTES) % DAY_MINUTES / SLOT_MINUTES;
    for (int w = 0; w < 2 && !s->local; w++) {
        float was[PLACE_SWITCH_SLOTS];
        memcpy(was, ways[w]->log_rate, sizeof was);
        for (int i = 0; i < PLACE_SWITCH_SLOTS; i++)
            ways[w]->log_rate[(i + ahead) % PLACE_SWITCH_SLOTS] = was[i];
    }
    s->local = 1;
}

static int sane(const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]) || fabsf(values[i]) > 1e6f)
            return 0;
    return 1;
}

int place_switch_check(const struct place_switch *s)
{
    const struct place_switch_way *ways[] = {&s->start, &s->stop};
    if (s->local > 1)
        return -EBADMSG;
    for (int w = 0; w < 2; w++) {
        if (!sane(ways[w]->middle, PLACE_SWITCH_SCALES) ||
            !sane(ways[w]->spread, PLACE_SWITCH_SCALES) ||
            !sane(ways[w]->log_rate, PLACE_SWITCH_SLOTS))
            return -EBADMSG;
        for (int k = 0; k < PLACE_SWITCH_SCALES; k++)
            if (ways[w]->spread[k] < LEAST_SPREAD)
                return -EBADMSG;
    }
    return 0;
}

int place_switch_check_background(const struct place_switch_background *b)
{
    return b->period_ms >= 1 && b->period_ms <= DAY_MS && isfinite(b->scale_w) &&
                   b->scale_w >= LEAST_SCALE_W &&
                   sane(b->log_density[0], PLACE_SWITCH_SCALES * PLACE_SWITCH_BINS)
               ? 0
               : -EBADMSG;
}
