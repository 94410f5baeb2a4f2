/* mains_house.c - a mains meter in a house of which a person has taught something.
 *
 * Runs that prototypes find in the readings are known half an hour before the books come to them:
 * their edges are taken away from everybody else, and they are told when the books have passed.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/mains_impl.h"

#define EDGE_NEAR_MS 10000 /* of a run's ends */
#define EDGE_SAME 0.25f    /* of its power */
#define HEATER_MORE 1.3f   /* a program's heater takes at most so much more than it did so far */
#define SURE_INSIDE 0.667  /* while it may be that: what was named counts once, not twice */

static int find_class(const struct mains *m, const char *name)
{
    for (int c = 0; c < m->classes; c++)
        if (!strcmp(mains_model(m)->labels[c], name))
            return c;
    return -1;
}

void mains_house_apply(struct mains *m)
{
    m->world.early_ms = m->early_ms;
    m->world.elsewhere = m->world.silent = 0;
    memset(m->early_ms, 0, sizeof(m->early_ms));
    for (int c = 0; c < m->classes; c++)
        m->rules[c] =
            mains_rules_find(m->world.cycle[c] == MAINS_NO_ROOM ? "" : mains_model(m)->labels[c]);
    m->house_version = m->house ? m->house->version : 0;
    for (int i = 0; m->house && i < m->house->count; i++) {
        const struct place_proto *p = &m->house->protos[i];
        const int c = find_class(m, p->name);
        if (c < 0)
            continue;
        if (p->pulses || p->scores) {
            m->world.elsewhere = (uint16_t)(m->world.elsewhere | 1u << c);
            m->world.silent = (uint16_t)(m->world.silent | (unsigned)!p->pulses << c);
            continue;
        }
        m->local[c] = *m->rules[c];
        if (p->least_s > m->local[c].run_s)
            m->local[c].run_s = p->least_s;
        m->rules[c] = &m->local[c];
        m->early_ms[c] = p->early_ms;
    }
}

int mains_set_house(struct mains *m, const struct place_house *house)
{
    if (house && !m->watch) {
        m->watch = calloc(1, sizeof(*m->watch));
        if (!m->watch)
            return -ENOMEM;
    }
    m->house = house;
    if (mains_model(m))
        mains_house_apply(m);
    return 0;
}

/* Free steps of that power in a stretch belong to it. */
static void claim_steps(struct mains *m, int64_t from_ms, int64_t to_ms, float watts, int8_t claim)
{
    struct mains_ring *r = &m->saved.ring;
    for (int i = 0; i < r->count; i++) {
        struct mains_edge *e = &r->edges[i];
        int64_t t = mains_ring_time(r, i);
        if (e->claim == MAINS_FREE && t >= from_ms - EDGE_NEAR_MS && t <= to_ms + EDGE_NEAR_MS &&
            fabsf(fabsf(e->step_w) - watts) <= EDGE_SAME * watts)
            e->claim = claim;
    }
}

/* By the meter's own count of time. */
static int64_t own_time(const struct mains *m, int64_t wall_ms)
{
    return wall_ms - m->saved.offset_ms;
}

static void claim(struct mains *m, const struct place_named *n, int class)
{
    const int8_t whose = (int8_t)(class < 0 ? MAINS_TOLD : class);
    if (!n->count) {
        claim_steps(m, own_time(m, n->start_ms), own_time(m, n->end_ms), n->watts, whose);
        mains_pulses_take(&m->saved.pulses, own_time(m, n->start_ms), own_time(m, n->end_ms),
                          n->watts);
    }
    for (int i = 0; i < n->count; i++) {
        const struct place_pulse *p = &n->of[i];
        claim_steps(m, own_time(m, p->start_ms), own_time(m, p->start_ms), p->watts, whose);
        claim_steps(m, own_time(m, p->end_ms), own_time(m, p->end_ms), p->watts, whose);
        mains_pulses_take(&m->saved.pulses, own_time(m, p->start_ms), own_time(m, p->end_ms),
                          p->watts);
    }
}

void mains_house_reading(struct mains *m, int64_t t_ms, float watts)
{
    if (m->house_version != m->house->version && mains_model(m))
        mains_house_apply(m);
    struct place_watch *w = m->watch;
    /* What was known when the last frame was booked, and passed by the books, was told then. */
    const int64_t booked_ms = m->saved.frame_ms + ((int64_t)m->lag + 1) * m->window.grid.period_ms;
    const int known = t_ms <= m->prime_ms && t_ms <= booked_ms;
    if (!place_watch_reading(w, m->house, t_ms + m->saved.offset_ms, watts, m->config.max_gap_ms))
        return;
    for (int i = 0; i < w->named_count; i++)
        if ((known || w->named[i].earlier) &&
            own_time(m, w->named[i].end_ms) <= m->saved.runs.cell_ms)
            place_watch_take(w, i--);
}

/* Whether a pulse may be the heater of a program that runs. */
static int may_be_heater(const struct mains *m, const struct place_named *n)
{
    for (int c = 0; c < m->classes; c++) {
        const struct mains_run *run = &m->saved.runs.runs[c];
        if (m->rules[c]->kind == MAINS_PROGRAM && run->phase == MAINS_ON && !n->count &&
            n->watts >= m->rules[c]->step_min_w &&
            (run->peak_w < m->rules[c]->step_min_w ||
             (n->watts <= HEATER_MORE * run->peak_w && n->watts * HEATER_MORE >= run->peak_w)))
            return 1;
    }
    return 0;
}

static void tell(struct mains *m, const struct place_named *n, int class)
{
    const int64_t start_ms = own_time(m, n->start_ms), end_ms = own_time(m, n->end_ms);
    struct mains_run run = {.start_ms = start_ms,
                            .off_ms = end_ms,
                            .told_ms = end_ms,
                            .level_w = n->watts,
                            .step_w = n->watts,
                            .peak_w = n->watts,
                            .confidence = (float)n->sure,
                            .energy_wh = n->energy_wh,
                            .phase = MAINS_PAUSE};
    const struct mains_load load = {.start_ms = start_ms,
                                    .end_ms = end_ms,
                                    .up_w = n->watts,
                                    .down_w = n->watts,
                                    .name = m->house->protos[n->proto].name};
    if (class < 0) {
        m->world.tell.load(m, &load);
        return;
    }
    run.energy_wh = books_claim(&m->saved.runs.books, n->energy_wh);
    books_settle(&m->saved.runs.books, class, run.energy_wh);
    m->world.tell.run(m, EVENT_ON, class, &run, end_ms, "");
    m->world.tell.run(m, EVENT_OFF, class, &run, end_ms, "off");
}

void mains_house_tell(struct mains *m)
{
    for (int i = 0; m->house && i < m->watch->named_count; i++) {
        struct place_named *n = &m->watch->named[i];
        const int class = find_class(m, m->house->protos[n->proto].name);
        if (n->claimed <= n->count) {
            n->claimed = n->count + 1; /* anew when there is one more */
            claim(m, n, class);
        }
        if (own_time(m, n->end_ms) > m->saved.runs.cell_ms)
            continue;
        /* the network's run of before the lesson is still there */
        if ((class < 0 || !m->saved.runs.runs[class].told_ms) &&
            (n->sure >= SURE_INSIDE || !may_be_heater(m, n)))
            tell(m, n, class);
        place_watch_take(m->watch, i--);
    }
}
