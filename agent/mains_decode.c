/* mains_decode.c - two-state Viterbi per class over frames, helped by edges. */
#include "agent/mains_decode.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define MOST_EVIDENCE 3.5f /* of one observation, natural logarithm of odds */
#define CLEAR 1.8f         /* evidence from which two of one group run at a time ... */
#define DOUBT 1.2f         /* ... and which is less by so much: one of them */
#define INRUSH_MS 45000    /* a motor's start has settled by then */
#define INRUSH_SHARE 0.35f /* of the first step that stays at least ... */
#define SPENT_SHARE 0.08f  /* ... and that goes at least */
#define LEAST_P 0.001f     /* a result is never surer */
#define MOST_COST                                                                                  \
    60.0f /* the other state is never further away: what was long ago is forgotten                 \
           */
#define TICK_MS 100

/* ---- edges ---- */

int64_t mains_ring_time(const struct mains_ring *r, int i)
{
    return r->base_ms + (int64_t)r->edges[i].t * TICK_MS;
}

static void rebase(struct mains_ring *r, int64_t base_ms)
{
    int64_t shift = (r->base_ms - base_ms) / TICK_MS;
    for (int i = 0; i < r->count; i++)
        r->edges[i].t = (int32_t)(r->edges[i].t + shift);
    r->base_ms = base_ms;
}

void mains_ring_drop(struct mains_ring *r, int64_t t_ms)
{
    int n = 0;
    while (n < r->count && mains_ring_time(r, n) < t_ms)
        n++;
    r->count -= n;
    memmove(r->edges, r->edges + n, (size_t)r->count * sizeof(r->edges[0]));
}

void mains_ring_add(struct mains_ring *r, const struct edge *e)
{
    if (r->count == MAINS_EDGES) {
        r->count--;
        memmove(r->edges, r->edges + 1, (size_t)r->count * sizeof(r->edges[0]));
    }
    if (r->count == 0)
        r->base_ms = e->t_ms;
    else if (e->t_ms - r->base_ms > 86400000)
        rebase(r, mains_ring_time(r, 0));
    r->edges[r->count++] = (struct mains_edge){.t = (int32_t)((e->t_ms - r->base_ms) / TICK_MS),
                                               .before_w = e->before_w,
                                               .step_w = e->step_w,
                                               .claim = MAINS_FREE};
}

float mains_ring_step(const struct mains_ring *r, int i, int *pair)
{
    const struct mains_edge *e = &r->edges[i], *next = e + 1;
    *pair = 0;
    if (e->step_w <= 0 || i + 1 == r->count || next->claim != MAINS_FREE ||
        next->t - e->t > INRUSH_MS / TICK_MS)
        return e->step_w;
    float left = e->step_w + next->step_w;
    if (next->step_w > -SPENT_SHARE * e->step_w || left < EDGES_LEAST_W ||
        (left < INRUSH_SHARE * e->step_w && e->step_w > 1500))
        return e->step_w;
    *pair = 1;
    return left;
}

/* 0: inside [low, high]; grows to 1 outside by a quarter. */
static float misfit(float x, float low, float high)
{
    if (x < low)
        return fminf(1, (low - x) / (0.25f * low));
    if (x > high)
        return fminf(1, (x - high) / (0.25f * high));
    return 0;
}

/* How badly edge i stands for the switching; above 1: not at all. */
static float edge_cost(const struct mains_ring *r, int i, const struct mains_rule *rule, int up,
                       float level_w)
{
    int pair = 0;
    float raw = r->edges[i].step_w, cost;
    if (r->edges[i].claim != MAINS_FREE || (up ? raw <= 0 : raw >= 0))
        return 2;
    if (up) {
        float step = mains_ring_step(r, i, &pair);
        cost = misfit(raw, rule->step_min_w, rule->step_max_w);
        if (pair)
            cost = fminf(cost, misfit(step, rule->step_min_w, rule->step_max_w));
    } else if (level_w > 0) {
        cost = fabsf(-raw - level_w) / fmaxf(0.4f * level_w, 2 * EDGES_LEAST_W);
    } else {
        cost = misfit(-raw, 0.7f * rule->step_min_w, rule->step_max_w);
    }
    return cost < 1 ? cost : 2;
}

int mains_ring_best(const struct mains_ring *r, const struct mains_rule *rule, int up,
                    int64_t from_ms, int64_t to_ms, int64_t near_ms, float level_w, float *cost)
{
    int best = -1;
    float slack_ms = (float)rule->slack_s * 1000;
    *cost = 1;
    for (int i = r->count - 1; i >= 0; i--) {
        int64_t t = mains_ring_time(r, i);
        if (t < from_ms)
            break;
        if (t >= to_ms)
            continue;
        float far = fminf(1, fabsf((float)(t - near_ms)) / slack_ms);
        float c = edge_cost(r, i, rule, up, level_w);
        if (c > 1)
            continue;
        c = 0.5f * c + 0.5f * far;
        if (c < *cost) {
            *cost = c;
            best = i;
        }
    }
    return best;
}

/* ---- decoding ---- */

void mains_decode_restart(struct mains_decode *d)
{
    struct mains_decode fresh;
    mains_decode_init(&fresh, d->classes, d->depth);
    *d = fresh;
}

void mains_decode_init(struct mains_decode *d, int classes, int depth)
{
    memset(d, 0, sizeof(*d));
    d->classes = classes < MAINS_CLASSES ? classes : MAINS_CLASSES;
    d->depth = depth < 1 ? 1 : depth < MAINS_DEPTH ? depth : MAINS_DEPTH;
    for (int c = 0; c < d->classes; c++)
        d->cost[c][1] = MOST_COST;
}

float mains_decode_odds(float p, float least)
{
    p = fminf(fmaxf(p, least), 1 - least);
    return logf(p / (1 - p));
}

/* Evidence that class c is on, of one observation. */
static float evidence(const struct mains_decode *d, const struct mains_rule *const *rules,
                      const float *p, int c)
{
    float mine = mains_decode_odds(p[c], LEAST_P), other = -MOST_EVIDENCE;
    for (int k = 0; k < d->classes && rules[c]->group; k++)
        if (k != c && rules[k]->group == rules[c]->group)
            other = fmaxf(other, mains_decode_odds(p[k], LEAST_P));
    if (other > mine && other > 0) /* what is clear is not an other one that was mistaken */
        mine -= other * fminf(fmaxf((CLEAR - mine) / DOUBT, 0), 1);
    return fminf(fmaxf(mine, -MOST_EVIDENCE), MOST_EVIDENCE);
}

/* What switching between the frame before and this one costs; *level: of the step up. */
static float switch_cost(const struct mains_ring *edges, const struct mains_rule *rule, int up,
                         int64_t t_ms, int64_t step_ms, float level_w, float *level)
{
    float cost;
    int64_t slack = (int64_t)rule->slack_s * 1000, near_ms = t_ms - step_ms / 2;
    int i = mains_ring_best(edges, rule, up, near_ms - slack, near_ms + slack, near_ms,
                            up ? 0 : level_w, &cost),
        pair;
    *level = i >= 0 ? mains_ring_step(edges, i, &pair) : 0;
    return rule->change + rule->no_edge * cost;
}

static void step_class(struct mains_decode *d, const struct mains_ring *edges,
                       const struct mains_rule *rule, int c, int64_t t_ms, int64_t step_ms,
                       float evidence_on)
{
    float level, unused, *cost = d->cost[c];
    float to_on = cost[0] + switch_cost(edges, rule, 1, t_ms, step_ms, 0, &level);
    float to_off = cost[1] + switch_cost(edges, rule, 0, t_ms, step_ms, d->level_w[c], &unused);
    uint16_t bit = (uint16_t)(1u << c);
    uint16_t *back = d->back[d->at];
    float share = fminf(1, (float)step_ms / (rule->evidence_s * 1000));
    float off = fminf(cost[0], to_off), on = fminf(cost[1], to_on);
    back[0] = (uint16_t)(to_off < cost[0] ? back[0] | bit : back[0] & ~bit);
    back[1] = (uint16_t)(to_on < cost[1] ? back[1] & ~bit : back[1] | bit);
    if (to_on < cost[1])
        d->level_w[c] = level;
    off += evidence_on > 0 ? share * evidence_on : 0;
    on += evidence_on < 0 ? -share * evidence_on : 0;
    float least = fminf(off, on);
    cost[0] = fminf(off - least, MOST_COST);
    cost[1] = fminf(on - least, MOST_COST);
}

/* Goes back from the newest frame to the oldest in the ring. */
static uint16_t trace_back(const struct mains_decode *d)
{
    uint16_t on = 0;
    for (int c = 0; c < d->classes; c++) {
        int state = d->cost[c][1] < d->cost[c][0];
        for (int k = 1; k < d->count; k++) {
            int i = (d->at - k + MAINS_DEPTH) % MAINS_DEPTH;
            state = (d->back[i][state] >> c) & 1;
        }
        on = (uint16_t)(on | (unsigned)state << c);
    }
    return on;
}

static void keep_most(struct mains_decode *d, int64_t t_ms)
{
    int64_t cell = t_ms / MAINS_MOST_MS;
    if (cell < d->most_cell || cell - d->most_cell >= MAINS_MOST_CELLS)
        memset(d->most, 0, sizeof(d->most));
    else
        for (int64_t i = d->most_cell + 1; i <= cell; i++)
            memset(d->most[i % MAINS_MOST_CELLS], 0, sizeof(d->most[0]));
    d->most_cell = cell;
    uint8_t *most = d->most[cell % MAINS_MOST_CELLS];
    for (int c = 0; c < d->classes; c++)
        if (d->p[d->at][c] > most[c])
            most[c] = d->p[d->at][c];
}

int mains_decode_push(struct mains_decode *d, const struct mains_rule *const *rules,
                      const struct mains_ring *edges, int64_t t_ms, int64_t step_ms, const float *p,
                      struct mains_frame *out)
{
    d->frame_ms[d->at] = t_ms;
    for (int c = 0; c < d->classes; c++) {
        float e = p ? evidence(d, rules, p, c) : 0;
        d->p[d->at][c] = p ? (uint8_t)lrintf(255 * fminf(fmaxf(p[c], 0), 1)) : 0;
        if (rules[c]->kind != MAINS_CYCLE && !rules[c]->brief)
            step_class(d, edges, rules[c], c, t_ms, step_ms, e);
    }
    keep_most(d, t_ms);
    d->at = (d->at + 1) % MAINS_DEPTH;
    d->count++;
    if (d->count < d->depth)
        return 0;
    int oldest = (d->at - d->count + MAINS_DEPTH) % MAINS_DEPTH;
    *out = (struct mains_frame){d->frame_ms[oldest], trace_back(d), d->p[oldest]};
    d->count--;
    return 1;
}

float mains_decode_most(const struct mains_decode *d, int c, int64_t from_ms, int64_t to_ms)
{
    int64_t i = from_ms / MAINS_MOST_MS, last = to_ms / MAINS_MOST_MS;
    uint8_t most = 0;
    if (i <= d->most_cell - MAINS_MOST_CELLS)
        i = d->most_cell - MAINS_MOST_CELLS + 1;
    if (i < 0) /* before time began */
        i = 0;
    for (; i <= last && i <= d->most_cell; i++)
        if (d->most[i % MAINS_MOST_CELLS][c] > most)
            most = d->most[i % MAINS_MOST_CELLS][c];
    return (float)most / 255;
}

/* ---- bytes that were read back ---- */

int mains_ring_check(const struct mains_ring *r)
{
    if (r->count < 0 || r->count > MAINS_EDGES)
        return -EBADMSG;
    for (int i = 0; i < r->count; i++) {
        const struct mains_edge *e = &r->edges[i];
        if (!isfinite(e->before_w) || !isfinite(e->step_w) || e->claim < MAINS_TOLD ||
            e->claim >= MAINS_CLASSES || (i && e->t < e[-1].t))
            return -EBADMSG;
    }
    return 0;
}

int mains_decode_check(const struct mains_decode *d)
{
    if (d->classes < 0 || d->classes > MAINS_CLASSES || d->depth < 0 || d->depth > MAINS_DEPTH ||
        d->count < 0 || d->count > MAINS_DEPTH || d->at < 0 || d->at >= MAINS_DEPTH ||
        d->most_cell < 0)
        return -EBADMSG;
    for (int c = 0; c < d->classes; c++)
        if (!isfinite(d->cost[c][0]) || !isfinite(d->cost[c][1]) || !isfinite(d->level_w[c]))
            return -EBADMSG;
    return 0;
}
