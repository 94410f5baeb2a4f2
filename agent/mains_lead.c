/* mains_lead.c - what a program does before it heats: when it began. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/mains_runs_impl.h"

#define MS_PER_H 3600000.0
#define HEARD_FROM_MS 1440000 /* the network sees the heater so long before ... */
#define HEARD_TO_MS 360000    /* ... and too well from here on */
#define PUMP_LEAST_W 25.0f
#define PUMP_MOST_W 250.0f
#define WASH_P 0.25f /* mean of what the network says meanwhile: after a cold wash */
#define WASH_LEAST_W 60.0f
#define WASH_LEAST_MS 240000 /* which takes so long ... */
#define WASH_MOST_MS 1200000
#define WASH_IDLE_MS 1860000 /* ... and is over at most so long before */
#define WASH_SHARE 0.25f     /* the sum comes back that near to where it was */
#define WASH_NEAR_W 15.0f
#define SIZE_LEAST 0.5f
#define SIZE_MOST 1.2f
#define PUMP_LEAST_MS 360000
#define HEATER_LEAST_W 1000.0f
#define HEATER_SHARE 0.12f
#define HEATER_NEAR_MS 60000
#define HEATING_MS 240000 /* a kettle is faster */
#define HEATING_P 0.5f
#define EARLY_MS 120000
#define HEATED_MS 1200000 /* before the network sees a program that heats at once */
#define HEATED_MOST_MS 1800000
#define HEATED_P 0.15f
#define PUMP_P 0.5f /* and while the pump runs on until it heats */
#define PUMP_MS 1560000
#define STAY_SHARE 0.5f
#define SETTLED_MS 64000

void mains_lead_hear(struct mains_lead *l, int64_t t_ms, float p)
{
    const int64_t cell = t_ms / MAINS_LEAD_MS;
    const uint8_t value = (uint8_t)lrintf(255 * fminf(fmaxf(p, 0), 1));
    if (cell < l->cell || cell - l->cell >= MAINS_LEAD_CELLS)
        memset(l->p, 0, sizeof(l->p));
    else
        for (int64_t i = l->cell + 1; i <= cell; i++)
            l->p[i % MAINS_LEAD_CELLS] = 0;
    l->cell = cell;
    if (value > l->p[cell % MAINS_LEAD_CELLS])
        l->p[cell % MAINS_LEAD_CELLS] = value;
}

/* Mean of what the network thought between two times; 0: not known. */
static float heard(const struct mains_lead *l, int64_t from_ms, int64_t to_ms)
{
    const int64_t first = from_ms / MAINS_LEAD_MS, last = to_ms / MAINS_LEAD_MS;
    float sum = 0;
    if (from_ms < 0 || first <= l->cell - MAINS_LEAD_CELLS || last <= first)
        return 0;
    for (int64_t i = first; i < last && i <= l->cell; i++)
        sum += l->p[i % MAINS_LEAD_CELLS];
    return sum / 255 / (float)(last - first);
}

/* Whether with step down j the sum is back where it was before step up i. */
static int comes_back(const struct mains_ring *edges, int i, int j)
{
    const struct mains_edge *up = &edges->edges[i], *down = &edges->edges[j];
    const float fallen = -down->step_w;
    return fallen >= PUMP_LEAST_W && fallen <= PUMP_MOST_W &&
           fabsf(down->before_w - fallen - up->before_w) <=
               fmaxf(WASH_SHARE * up->step_w, WASH_NEAR_W);
}

static int same_size(float step, float fallen)
{
    return fallen >= SIZE_LEAST * step && fallen <= SIZE_MOST * step;
}

/* Whether a wash in cold water began with step up i; rough: other loads switched meanwhile. */
static int is_wash(const struct mains_world *w, int i, float step, int64_t heater_ms, int rough)
{
    const struct mains_ring *edges = w->edges;
    const int64_t from = mains_ring_time(edges, i);
    for (int j = i + 1; j < edges->count; j++) {
        const int64_t to = mains_ring_time(edges, j);
        if (to - from > WASH_MOST_MS || to > heater_ms - HEARD_TO_MS / 2)
            break;
        if (step >= WASH_LEAST_W && to - from >= WASH_LEAST_MS && to >= heater_ms - WASH_IDLE_MS &&
            (comes_back(edges, i, j) || (rough && same_size(step, -edges->edges[j].step_w))) &&
            mains_runs_stays_up(w, i, STAY_SHARE * step, SETTLED_MS, to))
            return 1;
    }
    return 0;
}

/* Whether the pump that began with step up i runs until it heats. */
static int runs_on(const struct mains_world *w, int i, float step, int64_t heater_ms)
{
    return mains_ring_time(w->edges, i) >= heater_ms - PUMP_MS &&
           mains_runs_stays_up(w, i, STAY_SHARE * step, SETTLED_MS, heater_ms);
}

/* The step up with which it began before it heated at heater_ms, or -1. */
static int find_pump(const struct mains_lead *l, const struct mains_world *w, int64_t heater_ms)
{
    const float p = heard(l, heater_ms - HEARD_FROM_MS, heater_ms - HEARD_TO_MS);
    for (int rough = 0; rough < 2; rough++)
        for (int i = 0; i < w->edges->count && p >= WASH_P; i++) {
            const int64_t t = mains_ring_time(w->edges, i);
            int pair;
            float step = w->edges->edges[i].step_w;
            if (step > PUMP_MOST_W)
                step = mains_ring_step(w->edges, i, &pair);
            if (t <= l->done_ms || t < heater_ms - WASH_IDLE_MS - WASH_MOST_MS ||
                t >= heater_ms - PUMP_LEAST_MS || step < PUMP_LEAST_W || step > PUMP_MOST_W)
                continue;
            if (is_wash(w, i, step, heater_ms, rough) ||
                (!rough && p >= PUMP_P && runs_on(w, i, step, heater_ms)))
                return i;
        }
    return -1;
}

static int same(float a, float b)
{
    return fabsf(a - b) <= HEATER_SHARE * b;
}

/* An earlier heating of the same power, of which the network alone was not sure enough; heater_ms
 * if there is none. */
static int64_t first_heating(const struct mains_lead *l, const struct mains_world *w,
                             int64_t heater_ms, int64_t gap_ms, double *wh)
{
    const struct mains_ring *edges = w->edges;
    float watts = 0;
    for (int i = 0; i < edges->count; i++)
        if (llabs(mains_ring_time(edges, i) - heater_ms) < HEATER_NEAR_MS &&
            edges->edges[i].step_w > watts)
            watts = edges->edges[i].step_w;
    for (int i = 0; i < edges->count && watts > HEATER_LEAST_W; i++) {
        const int64_t t = mains_ring_time(edges, i);
        if (t < heater_ms - gap_ms || t > heater_ms - HEATING_MS || edges->edges[i].claim >= 0 ||
            !same(edges->edges[i].step_w, watts))
            continue;
        int j = i + 1;
        while (j < edges->count && !same(-edges->edges[j].step_w, watts))
            j++;
        const int64_t end = j < edges->count ? mains_ring_time(edges, j) : heater_ms;
        if (t > l->done_ms && end < heater_ms && end - t >= HEATING_MS &&
            heard(l, t, end) >= HEATING_P) {
            *wh += (double)watts * (double)(end - t) / MS_PER_H;
            return t;
        }
    }
    return heater_ms;
}

int64_t mains_lead_start(const struct mains_lead *l, const struct mains_world *w,
                         int64_t *heater_ms, int64_t gap_ms, double *wh)
{
    const int64_t seen_ms = *heater_ms;
    int64_t last_ms;
    *wh = 0;
    do {
        last_ms = *heater_ms;
        *heater_ms = first_heating(l, w, last_ms, gap_ms, wh);
    } while (*heater_ms < last_ms);
    const int i = find_pump(l, w, *heater_ms);
    if (i >= 0)
        return mains_ring_time(w->edges, i);
    return *heater_ms < seen_ms ? *heater_ms - EARLY_MS : 0;
}

/* Whether a program that runs anyway is known by a heater of that power. */
static int is_anothers(const struct mains_runs *r, const struct mains_world *w, int class,
                       int64_t t_ms, float watts)
{
    for (int c = 0; c < w->classes; c++)
        if (c != class && w->rules[c]->kind == MAINS_PROGRAM && r->runs[c].phase != MAINS_NONE &&
            r->runs[c].start_ms <= t_ms && r->runs[c].heater_w > 0 &&
            same(watts, r->runs[c].heater_w))
            return 1;
    return 0;
}

int64_t mains_lead_heated(const struct mains_runs *r, const struct mains_world *w, int c,
                          int64_t seen_ms, double *wh, float *on_w)
{
    const struct mains_ring *edges = w->edges;
    const struct mains_rule *rule = w->rules[c];
    for (int i = 0; i < edges->count; i++) {
        const int64_t t = mains_ring_time(edges, i);
        const float watts = edges->edges[i].step_w;
        if (t < seen_ms - HEATED_MS || t > seen_ms - HEATING_MS || edges->edges[i].claim >= 0 ||
            watts < rule->step_min_w || watts > rule->step_max_w)
            continue;
        int j = i + 1;
        while (j < edges->count && !same(-edges->edges[j].step_w, watts))
            j++;
        const int64_t end = j < edges->count ? mains_ring_time(edges, j) : seen_ms;
        if (j == edges->count || end - t < HEATING_MS || end - t > HEATED_MOST_MS ||
            edges->edges[j].claim >= 0 || is_anothers(r, w, c, t, watts) ||
            (end < seen_ms && mains_decode_most(w->decode, c, end, (end + seen_ms) / 2) < HEATED_P))
            continue;
        *on_w = end > seen_ms ? watts : 0;
        *wh = (double)watts * (double)((end < seen_ms ? end : seen_ms) - t) / MS_PER_H;
        return t;
    }
    return 0;
}
