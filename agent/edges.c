/* edges.c - steps between steady levels. */
#include "agent/edges.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define NOISE_FACTOR 3.0f   /* tolerance in mean differences between readings */
#define LEVEL_SHARE 0.01f   /* and at least this share of the level: meters are accurate to that */
#define STEP_SHARE 0.03f    /* two readings agree when they differ by less than this of the step */
#define FOLLOW_MS 20000.0f  /* time constant with which a level follows drift */
#define NOISE_MS 120000.0f  /* time constant of the noise */
#define MOST_NOISE_W 100.0f /* a wilder level still lets steps of four times this through */
#define FIRST_NOISE_W 6.0f  /* until something is known of it */
#define QUIET_W 0.05f       /* noise of a meter whose level may stand still to the digit */
#define STILL_FACTOR 2      /* frozen is so many times as long as usual */
#define STILL_FADE 0.98f    /* what is usual fades with every move */
#define MEAN_MS 3000        /* readings so close together are one */
#define NEVER_ZERO_MS 86400000 /* a sum without 0 W for so long has a base load */

void edges_init(struct edges *e)
{
    memset(e, 0, sizeof(*e));
    e->noise_w = FIRST_NOISE_W;
}

void edges_note(struct edges_zero *z, int64_t t_ms, float watts)
{
    const int zero = watts == 0.0f;
    if (!z->first_ms)
        z->first_ms = t_ms;
    if (zero && !z->at_zero) {
        const int64_t since = z->last_ms > z->first_ms ? z->last_ms : z->first_ms;
        z->leaves_out = t_ms - since >= NEVER_ZERO_MS;
        if (z->leaves_out)
            z->from_ms = t_ms;
    }
    z->at_zero = zero;
    if (zero)
        z->last_ms = t_ms;
    if (zero && z->leaves_out)
        z->to_ms = t_ms;
}

int edges_left_out(const struct edges_zero *z, int64_t t_ms, float watts)
{
    if (watts == 0.0f)
        return z->from_ms && t_ms >= z->from_ms && t_ms <= z->to_ms;
    return (watts >= 4096.0f && fmodf(watts, 4096.0f) == 0.0f) || watts == 32767.0f ||
           watts == 49150.0f || watts == 65535.0f;
}

static float tolerance(const struct edges *e)
{
    float t = fmaxf(EDGES_LEAST_W, NOISE_FACTOR * fminf(e->noise_w, MOST_NOISE_W));
    t = fmaxf(t, LEVEL_SHARE * fabsf(e->level_w));
    return fmaxf(t, 2.5f * e->resolution_w);
}

static void begin_level(struct edges *e, int64_t t_ms, float watts)
{
    e->started = 1;
    e->changing = e->frozen = 0;
    e->level_w = e->last_w = watts;
    e->last_ms = e->same_ms = e->mean_ms = t_ms;
    e->count = 0;
}

/* Share of the way that a mean with a time constant goes in dt. */
static float pace(int64_t dt_ms, float constant_ms)
{
    float dt = (float)dt_ms;
    return dt / (dt + constant_ms);
}

/* Differences between readings that moved; a step counts little, repeats not at all. */
static void listen(struct edges *e, int64_t dt_ms, float watts)
{
    float moved = fminf(fabsf(watts - e->last_w), 3 * e->noise_w + 5);
    if (moved > 0)
        e->noise_w += pace(dt_ms, NOISE_MS) * (moved - e->noise_w);
}

static void stood_still(struct edges *e)
{
    e->still_ms = fmaxf(STILL_FADE * e->still_ms, (float)(e->last_ms - e->same_ms));
}

/* A level that has not moved by a digit for minutes, on a meter that otherwise does: stuck. A
 * coarse meter stands still for minutes as a rule. */
static void watch_frozen(struct edges *e, int64_t t_ms, float watts)
{
    float moved = fabsf(watts - e->last_w);
    if (moved == 0.0f) {
        e->frozen = watts != 0.0f && t_ms - e->same_ms >= EDGES_FROZEN_MS && e->noise_w > QUIET_W &&
                    (float)(t_ms - e->same_ms) >= STILL_FACTOR * e->still_ms;
        return;
    }
    stood_still(e);
    e->same_ms = t_ms;
    if (e->resolution_w == 0.0f || moved < e->resolution_w)
        e->resolution_w = fminf(moved, 50.0f);
    else
        e->resolution_w += 0.001f * (fminf(moved, 50.0f) - e->resolution_w);
}

/* The change has arrived at a level: an edge, unless it came back. */
static int settle(struct edges *e, float level, struct edge *out)
{
    float step = level - e->level_w, least = tolerance(e);
    *out = (struct edge){e->change_ms, e->level_w, step};
    e->level_w = level;
    e->changing = 0;
    return fabsf(step) > least;
}

static int change(struct edges *e, int64_t t_ms, float watts, struct edge *out)
{
    float least = tolerance(e);
    if (fabsf(watts - e->level_w) <= least) { /* back again */
        e->changing = 0;
        return 0;
    }
    if (!e->changing) {
        e->changing = 1;
        e->change_ms = t_ms;
        return 0;
    }
    e->changing++;
    float agree = fmaxf(least, STEP_SHARE * fabsf(watts - e->level_w));
    if (fabsf(watts - e->last_w) <= agree)
        return settle(e, (watts + e->last_w) / 2, out);
    if (t_ms - e->change_ms < EDGES_SETTLE_MS)
        return 0;
    e->noise_w = fminf(fmaxf(e->noise_w, fabsf(watts - e->last_w) / NOISE_FACTOR), MOST_NOISE_W);
    return settle(e, (watts + e->last_w) / 2, out);
}

/* The mean in progress is complete. */
static int take_mean(struct edges *e, struct edge *out)
{
    const float watts = e->sum_w / (float)e->count;
    const int64_t dt = e->mean_ms - e->from_ms;
    int found = 0;
    if (e->frozen && fabsf(watts - e->last_w) > tolerance(e)) {
        stood_still(e);
        begin_level(e, e->last_ms, watts); /* what happened meanwhile is not known */
    } else if (e->changing || fabsf(watts - e->level_w) > tolerance(e)) {
        found = change(e, e->moved_ms ? e->moved_ms : e->mean_ms, watts, out);
    } else {
        e->level_w += pace(dt, FOLLOW_MS) * (watts - e->level_w);
    }
    listen(e, dt, watts);
    watch_frozen(e, e->mean_ms, watts);
    e->last_w = watts;
    e->count = 0;
    return found;
}

int edges_push(struct edges *e, int64_t t_ms, float watts, int64_t max_gap_ms, struct edge *out)
{
    if (edges_left_out(&e->zero, t_ms, watts)) {
        e->damaged++;
        return 0;
    }
    if (!e->started || t_ms - e->last_ms > max_gap_ms) {
        begin_level(e, t_ms, watts);
        return 0;
    }
    const int64_t dt = t_ms - e->last_ms;
    if (dt <= 0) { /* repeats: the later one counts */
        e->last_w = watts;
        return 0;
    }
    if (e->count == 0) {
        e->from_ms = e->mean_ms;
        e->mean_ms = t_ms;
        e->moved_ms = 0;
        e->sum_w = 0;
    }
    e->last_ms = t_ms;
    e->sum_w += watts;
    e->count++;
    if (!e->moved_ms && fabsf(watts - e->level_w) > tolerance(e))
        e->moved_ms = t_ms;
    return t_ms + dt - e->mean_ms < MEAN_MS ? 0 : take_mean(e, out);
}

int edges_check(const struct edges *e)
{
    int numbers = isfinite(e->level_w) && isfinite(e->noise_w) && isfinite(e->last_w) &&
                  isfinite(e->resolution_w) && isfinite(e->still_ms) && isfinite(e->sum_w) &&
                  e->noise_w >= 0 && e->resolution_w >= 0;
    int flags = ((e->started | e->frozen) & ~1) || e->changing < 0 || e->changing > 100000 ||
                e->count < 0 || e->count > 100000;
    int times = e->change_ms <= e->last_ms && e->same_ms <= e->last_ms;
    return numbers && !flags && (!e->started || times) ? 0 : -EBADMSG;
}
