/* mains_pulse.c - groups of pulses, and whose they are. */
#include "agent/mains_pulse.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/mains_runs.h"

#define LEAST_W 300.0f
#define LEAST_P 0.004f   /* of what the network says */
#define MOST_MS 900000   /* a longer pulse is none of these */
#define GAP_MS 60000     /* between pulses of a group */
#define HOLD_MS 600000   /* a group waits so long for a pulse that has begun */
#define BRIEF_MS 16000   /* one or two readings: the pulse may have been higher */
#define SAME_SHARE 0.25f /* pulses of a group differ by less */
#define LIKE_SHARE 0.15f /* and those of one load at another time */
#define LIKE_MS 1800000  /* at most so far away */
#define LIKE_MOST 6
#define NEAR_MS 8000      /* the network's results so far around a group are about it */
#define LATE_MS 24000     /* they are there so long after it */
#define PROGRAM_MS 300000 /* a program so far around may have made it */
#define EDGE_MS 10000     /* its edges are so near */
#define KNOWN_SHARE 0.1f  /* groups of one appliance differ by less in height */
#define KNOWN_MOST 4
#define KNOWN_SURE 0.5f /* a group that is less is not remembered */
#define FEATURES 14

/* Log-odds against "none of them": what the network says of kettle, microwave oven, toaster, and of
 * the likeliest program; height in kW and its square, length of the longest pulse in minutes and
 * its square (logarithms); logarithms of pulses, and of brief ones; pulses like it; ovens and
 * toasters of its height so far; constant. That of the kettle is higher than was fitted by 0.47: a
 * kettle in doubt is one more often than it costs a wrong one. */
static const float weights[MAINS_BRIEFS][FEATURES] = {
    {1.16f, .15f, .21f, -.31f, 1.15f, -1.85f, -.12f, -.38f, .27f, -1.58f, -.06f, -.48f, -.18f,
     1.30f},
    {.19f, .59f, .30f, -.17f, .33f, -4.91f, -.30f, .23f, -1.11f, .66f, -.48f, .75f, -.09f, 2.16f},
    {.12f, -.06f, .76f, -.13f, -.83f, -3.23f, .35f, -.41f, -.43f, -1.24f, -.15f, -.35f, .70f, .15f},
};

static int64_t end_of(const struct mains_pulse *p)
{
    return p->start_ms + p->lasts_ms;
}

/* ---- groups ---- */

struct group {
    int64_t start_ms, end_ms;
    float watts;      /* of the highest */
    int32_t lasts_ms; /* the longest */
    int count, brief;
};

static struct group sum_up(const struct mains_pulses *p, uint16_t group)
{
    struct group g = {0};
    for (int i = 0; i < p->count; i++) {
        const struct mains_pulse *x = &p->of[i];
        if (x->group != group || x->phase != MAINS_PULSE_OPEN)
            continue;
        if (!g.count++ || x->start_ms < g.start_ms)
            g.start_ms = x->start_ms;
        g.end_ms = end_of(x);
        g.watts = fmaxf(g.watts, x->watts);
        g.lasts_ms = x->lasts_ms > g.lasts_ms ? x->lasts_ms : g.lasts_ms;
        g.brief += x->lasts_ms <= BRIEF_MS;
    }
    return g;
}

static int belongs(const struct group *g, const struct mains_pulse *x)
{
    const int64_t pause = x->start_ms - g->end_ms;
    return pause >= 0 && pause <= GAP_MS &&
           (fabsf(x->watts - g->watts) <= SAME_SHARE * fmaxf(x->watts, g->watts) ||
            (x->watts < g->watts && x->lasts_ms <= BRIEF_MS) ||
            (x->watts > g->watts && g->brief == g->count));
}

static void join(struct mains_pulses *p, struct mains_pulse *x)
{
    for (int i = p->count - 1; i >= 0; i--) {
        if (p->of[i].phase != MAINS_PULSE_OPEN)
            continue;
        const struct group g = sum_up(p, p->of[i].group);
        if (belongs(&g, x)) {
            x->group = p->of[i].group;
            return;
        }
    }
    x->group = ++p->group;
}

void mains_pulses_push(struct mains_pulses *p, int64_t t_ms, float watts, int64_t max_gap_ms)
{
    struct place_pulse found;
    if (!place_pulses_push(&p->pairs, t_ms, watts, max_gap_ms, &found) || found.watts < LEAST_W ||
        found.end_ms - found.start_ms > MOST_MS)
        return;
    struct mains_pulse x = {.start_ms = found.start_ms,
                            .lasts_ms = (int32_t)(found.end_ms - found.start_ms),
                            .watts = found.watts,
                            .class = -1};
    join(p, &x);
    if (p->count == MAINS_PULSES) {
        int i = 0;
        while (i + 1 < p->count && p->of[i].phase == MAINS_PULSE_BEGUN)
            i++;
        p->count--;
        memmove(p->of + i, p->of + i + 1, (size_t)(p->count - i) * sizeof(p->of[0]));
    }
    p->of[p->count++] = x;
}

/* ---- whose a group is ---- */

/* Pulses of that height around a group that are not in it. */
static int count_like(const struct mains_pulses *p, const struct group *g, uint16_t group)
{
    int n = 0;
    for (int i = 0; i < p->count; i++) {
        const struct mains_pulse *x = &p->of[i];
        n += x->group != group && end_of(x) >= g->start_ms - LIKE_MS &&
             fabsf(x->watts - g->watts) <= LIKE_SHARE * fmaxf(x->watts, g->watts);
    }
    return n < LIKE_MOST ? n : LIKE_MOST;
}

/* How many of the last groups that were a microwave oven (b 1) or a toaster (2) had that height. */
static int count_known(const struct mains_pulses *p, int b, float watts)
{
    int n = 0;
    for (int i = 0; i < MAINS_PULSE_KNOWN; i++) {
        const float known = p->known_w[b - 1][i];
        n += known > 0 && fabsf(logf(watts / known)) <= KNOWN_SHARE;
    }
    return n < KNOWN_MOST ? n : KNOWN_MOST;
}

static void remember(struct mains_pulses *p, int b, float watts)
{
    float *known = p->known_w[b - 1];
    memmove(known + 1, known, (MAINS_PULSE_KNOWN - 1) * sizeof(*known));
    known[0] = watts;
}

/* The class of brief appliance b, or -1. */
static int find_brief(const struct mains_world *w, int b)
{
    for (int c = 0; c < w->classes; c++)
        if (w->rules[c]->brief == b + 1)
            return c;
    return -1;
}

static void look_at(const struct mains_world *w, const struct group *g, uint16_t group,
                    int64_t frame_ms, const int class[MAINS_BRIEFS], float x[FEATURES])
{
    const int64_t start_ms = g->start_ms, end_ms = g->end_ms;
    const float kw = logf(g->watts / 1000), minutes = logf((float)g->lasts_ms / 60000);
    float program = 0;
    for (int b = 0; b < MAINS_BRIEFS; b++) {
        x[b] = 0; /* the model does not know it: it may be */
        if (class[b] >= 0)
            x[b] = mains_decode_odds(
                mains_decode_most(w->decode, class[b], start_ms - NEAR_MS, end_ms + NEAR_MS),
                LEAST_P);
    }
    for (int c = 0; c < w->classes; c++)
        if (w->rules[c]->kind == MAINS_PROGRAM)
            program =
                fmaxf(program, mains_decode_most(w->decode, c, start_ms - PROGRAM_MS, frame_ms));
    x[3] = mains_decode_odds(program, LEAST_P);
    x[4] = kw;
    x[5] = kw * kw;
    x[6] = minutes;
    x[7] = minutes * minutes;
    x[8] = logf((float)g->count);
    x[9] = logf((float)(g->brief > 1 ? g->brief : 1));
    x[10] = (float)count_like(w->pulses, g, group);
    x[11] = (float)count_known(w->pulses, 1, g->watts);
    x[12] = (float)count_known(w->pulses, 2, g->watts);
    x[13] = 1;
}

/* The likeliest of the three, or -1: something else is likelier. */
static int choose(const struct mains_world *w, const struct group *g, uint16_t group,
                  int64_t frame_ms, float *confidence)
{
    int class[MAINS_BRIEFS], best = -1;
    float x[FEATURES], all = 1, most = 1;
    for (int b = 0; b < MAINS_BRIEFS; b++)
        class[b] = find_brief(w, b);
    look_at(w, g, group, frame_ms, class, x);
    for (int b = 0; b < MAINS_BRIEFS; b++) {
        float sum = 0;
        for (int i = 0; i < FEATURES; i++)
            sum += weights[b][i] * x[i];
        const float share = expf(fminf(sum, 30));
        all += share;
        if (share > most) {
            most = share;
            best = b;
        }
    }
    *confidence = most / all;
    if (best < 0 || class[best] < 0 || (w->elsewhere & ~w->silent) >> class[best] & 1)
        return -1;
    if (best > 0 && *confidence > KNOWN_SURE)
        remember(w->pulses, best, g->watts);
    return class[best];
}

/* Steps of that size at t_ms that were `from` are `to` now. */
static void claim_edges(const struct mains_world *w, int64_t t_ms, float step_w, int from, int to)
{
    for (int i = 0; i < w->edges->count; i++) {
        struct mains_edge *e = &w->edges->edges[i];
        if (e->claim == from && llabs(mains_ring_time(w->edges, i) - t_ms) <= EDGE_MS &&
            fabsf(e->step_w - step_w) <= SAME_SHARE * fabsf(step_w))
            e->claim = (int8_t)to;
    }
}

void mains_pulses_claim(const struct mains_world *w, const struct mains_pulse *x, int from, int to)
{
    claim_edges(w, x->start_ms, x->watts, from, to);
    claim_edges(w, end_of(x), -x->watts, from, to);
}

/* The group is class's (-1: nobody's). */
static void settle(const struct mains_world *w, uint16_t group, int class, float confidence)
{
    for (int i = 0; i < w->pulses->count; i++) {
        struct mains_pulse *x = &w->pulses->of[i];
        if (x->group != group || x->phase > MAINS_PULSE_DECIDED)
            continue;
        if (x->class >= 0)
            mains_pulses_claim(w, x, x->class, MAINS_FREE);
        if (class >= 0)
            mains_pulses_claim(w, x, MAINS_FREE, class);
        x->phase = MAINS_PULSE_DECIDED;
        x->class = (int8_t) class;
        x->confidence = confidence;
    }
}

/* A house has one of class: whether a likelier group was on at the same time. One that is less
 * likely, and not yet told, is nobody's. */
static int is_second(const struct mains_world *w, uint16_t group, int class, float confidence)
{
    const struct mains_pulses *p = w->pulses;
    for (int i = 0; i < p->count; i++)
        for (int k = 0; k < p->count && p->of[i].group == group; k++) {
            const struct mains_pulse *x = &p->of[i], *y = &p->of[k];
            if (y->group == group || y->class != class || y->start_ms >= end_of(x) ||
                x->start_ms >= end_of(y))
                continue;
            if (y->phase != MAINS_PULSE_DECIDED || y->confidence >= confidence)
                return 1;
            settle(w, y->group, -1, 0);
        }
    return 0;
}

/* A pulse has begun that may belong to the group. */
static int goes_on(const struct mains_pulses *p, const struct group *g, int64_t frame_ms)
{
    for (int i = 0; i < p->pairs.count && frame_ms - g->end_ms <= HOLD_MS; i++) {
        const struct place_rise *r = &p->pairs.rises[i];
        if (r->t_ms >= g->end_ms && r->t_ms - g->end_ms <= GAP_MS &&
            fabsf(r->step_w - g->watts) <= SAME_SHARE * fmaxf(r->step_w, g->watts))
            return 1;
    }
    return 0;
}

void mains_pulses_decide(const struct mains_world *w, int64_t frame_ms)
{
    for (int i = 0; w->pulses && i < w->pulses->count; i++) {
        const struct mains_pulse *x = &w->pulses->of[i];
        float confidence;
        if (x->phase != MAINS_PULSE_OPEN)
            continue;
        const struct group g = sum_up(w->pulses, x->group);
        if (frame_ms < g.end_ms + GAP_MS + LATE_MS || goes_on(w->pulses, &g, frame_ms))
            continue;
        int class = choose(w, &g, x->group, frame_ms, &confidence);
        if (class >= 0 && is_second(w, x->group, class, confidence))
            class = -1;
        settle(w, x->group, class, confidence);
    }
}

void mains_pulses_take(struct mains_pulses *p, int64_t from_ms, int64_t to_ms, float watts)
{
    for (int i = 0; i < p->count; i++) {
        struct mains_pulse *x = &p->of[i];
        if (x->phase < MAINS_PULSE_BEGUN && x->start_ms >= from_ms && end_of(x) <= to_ms &&
            (fabsf(x->watts - watts) <= SAME_SHARE * fmaxf(x->watts, watts) ||
             (x->watts < watts && x->lasts_ms <= BRIEF_MS)))
            x->phase = MAINS_PULSE_DONE;
    }
}

void mains_pulses_end(struct mains_pulses *p, int64_t t_ms)
{
    for (int i = 0; i < p->count; i++)
        if (p->of[i].start_ms < t_ms)
            p->of[i].phase = MAINS_PULSE_DONE;
}

/* ---- bytes that were read back ---- */

void mains_pulses_shift(struct mains_pulses *p, int64_t by_ms)
{
    int64_t *times[] = {&p->pairs.last_ms, &p->pairs.move_ms, &p->pairs.moved_ms};
    for (int i = 0; i < 3; i++)
        *times[i] += *times[i] ? by_ms : 0;
    for (int i = 0; i < p->pairs.count; i++)
        p->pairs.rises[i].t_ms += by_ms;
    for (int i = 0; i < p->count; i++)
        p->of[i].start_ms += by_ms;
}

int mains_pulses_check(const struct mains_pulses *p)
{
    if (p->count < 0 || p->count > MAINS_PULSES || p->pairs.count < 0 ||
        p->pairs.count > PLACE_PULSE_RISES || p->pairs.direction < -1 || p->pairs.direction > 1 ||
        !isfinite(p->pairs.last_w) || !isfinite(p->pairs.from_w))
        return -EBADMSG;
    for (int i = 0; i < p->pairs.count; i++)
        if (!isfinite(p->pairs.rises[i].step_w))
            return -EBADMSG;
    for (int b = 0; b < MAINS_BRIEFS - 1; b++)
        for (int i = 0; i < MAINS_PULSE_KNOWN; i++)
            if (!isfinite(p->known_w[b][i]))
                return -EBADMSG;
    for (int i = 0; i < p->count; i++) {
        const struct mains_pulse *x = &p->of[i];
        if (x->start_ms > INT64_MAX / 2 || x->start_ms < INT64_MIN / 2 || !isfinite(x->watts) ||
            !isfinite(x->confidence) || x->watts < LEAST_W || x->lasts_ms < 1 ||
            x->lasts_ms > MOST_MS || x->class < -1 || x->class >= MAINS_CLASSES ||
            x->phase < MAINS_PULSE_OPEN || x->phase > MAINS_PULSE_DONE)
            return -EBADMSG;
    }
    return 0;
}
