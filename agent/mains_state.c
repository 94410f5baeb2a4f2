/* mains_state.c - a mains meter goes on where the last committed outcome left off. */
#include <errno.h>
#include <string.h>

#include "agent/mains_impl.h"

static void move(int64_t *t_ms, int64_t by)
{
    if (*t_ms)
        *t_ms += by;
}

/* Times of an earlier life, by its own count, become those of this one. */
static void shift(struct mains_saved *s, int64_t offset_ms)
{
    const int64_t by = s->offset_ms - offset_ms;
    int64_t *times[] = {&s->last_ms,
                        &s->frame_ms,
                        &s->hole_ms,
                        &s->hole_end_ms,
                        &s->edges.last_ms,
                        &s->edges.change_ms,
                        &s->edges.same_ms,
                        &s->ring.base_ms,
                        &s->runs.cell_ms,
                        &s->edges.zero.first_ms,
                        &s->edges.zero.last_ms,
                        &s->edges.zero.from_ms,
                        &s->edges.zero.to_ms,
                        &s->edges.mean_ms,
                        &s->edges.moved_ms,
                        &s->edges.from_ms};
    s->offset_ms = offset_ms;
    if (!by)
        return;
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
        move(times[i], by);
    for (int i = 0; i < MAINS_CYCLES; i++)
        mains_cycle_shift(&s->cycles[i], by);
    mains_pulses_shift(&s->pulses, by);
    if (s->decode.most_cell)
        s->decode.most_cell += by / MAINS_MOST_MS;
    if (s->runs.lead.cell)
        s->runs.lead.cell += by / MAINS_LEAD_MS;
    move(&s->runs.lead.done_ms, by);
    if (s->runs.gentle.cell)
        s->runs.gentle.cell += by / MAINS_GENTLE_MS;
    for (int i = 0; i < MAINS_DEPTH; i++)
        move(&s->decode.frame_ms[i], by);
    for (int i = 0; i < s->runs.queued; i++) {
        move(&s->runs.queue[i].t_ms, by);
        move(&s->runs.queue[i].start_ms, by);
    }
    for (int c = 0; c < MAINS_CLASSES; c++) {
        struct mains_run *run = &s->runs.runs[c];
        move(&run->start_ms, by);
        move(&run->off_ms, by);
        move(&run->heater_ms, by);
        move(&run->told_ms, by);
    }
}

static int load_saved(struct mains *m, const void *state, int state_bytes)
{
    struct mains_saved s;
    if (!state || state_bytes != (int)sizeof(s))
        return -EBADMSG;
    memcpy(&s, state, sizeof(s));
    if (s.magic != MAINS_SAVED_MAGIC || s.size != sizeof(s) || anomaly_check(&s.anomaly) ||
        hours_check(&s.hours) || edges_check(&s.edges) || mains_ring_check(&s.ring) ||
        mains_decode_check(&s.decode) || mains_runs_check(&s.runs) || mains_pulses_check(&s.pulses))
        return -EBADMSG;
    for (int i = 0; i < MAINS_CYCLES; i++)
        if (mains_cycle_check(&s.cycles[i]))
            return -EBADMSG;
    if (mains_model(m) && s.labels != m->saved.labels)
        return -EBADMSG; /* other classes: the runs are taken from the history by name */
    s.anomaly.meter = m->saved.anomaly.meter;
    shift(&s, m->saved.offset_ms);
    m->saved = s;
    return 0;
}

static int find_class(const struct mains *m, const char *name)
{
    for (int c = 0; c < m->classes; c++)
        if (!strcmp(mains_model(m)->labels[c], name))
            return c;
    return -1;
}

static void adopt(struct mains *m, const struct history_run *open, int64_t now_ms)
{
    int c = find_class(m, open->appliance);
    if (c < 0 || m->saved.runs.runs[c].phase != MAINS_NONE)
        return;
    struct mains_run *run = &m->saved.runs.runs[c];
    run->phase = MAINS_ON;
    run->start_ms = open->start_ms - m->saved.offset_ms;
    if (run->start_ms > now_ms)
        run->start_ms = now_ms;
    run->told_ms = now_ms;
    run->energy_wh = open->energy_wh;
    run->peak_w = (float)open->peak_w;
    run->level_w = run->step_w = (float)open->peak_w;
    run->confidence = (float)open->confidence;
    if (m->world.cycle[c] >= 0)
        return; /* its steps tell when it ends */
    if (m->rules[c]->brief) {
        run->phase = MAINS_PAUSE; /* its pulse is over, or comes anew */
        run->off_ms = now_ms;
        return;
    }
    m->saved.runs.on = (uint16_t)(m->saved.runs.on | 1u << c);
    m->saved.decode.cost[c][0] = m->rules[c]->change;
    m->saved.decode.cost[c][1] = 0;
}

/* Runs that were told and are not in the history any more were ended by somebody else. */
static void forget_closed(struct mains *m, const struct history_run *open, int count)
{
    for (int c = 0; c < m->classes; c++) {
        struct mains_run *run = &m->saved.runs.runs[c];
        int found = 0;
        for (int i = 0; i < count; i++)
            found |= open[i].start_ms - m->saved.offset_ms == run->start_ms ||
                     !strcmp(open[i].appliance, mains_model(m)->labels[c]);
        if (run->told_ms && !found) {
            books_settle(&m->saved.runs.books, c, run->energy_wh);
            memset(run, 0, sizeof(*run));
        }
    }
}

void mains_restore(struct mains *m, int64_t progress_ms, const struct history_run *open, int count,
                   const void *state, int state_bytes)
{
    m->prime_repeats = UINT32_MAX;
    progress_ms -= m->saved.offset_ms; /* 0 for recorded readings */
    if (load_saved(m, state, state_bytes) == 0) {
        if (m->saved.last_ms == progress_ms)
            m->prime_repeats = m->saved.repeats;
        forget_closed(m, open, count);
    } else if (progress_ms > 0) {
        m->saved.last_ms = progress_ms;
        for (int i = 0; i < count; i++)
            adopt(m, &open[i], progress_ms);
    }
    if (mains_is_trace(m) && progress_ms > 0) {
        m->prime_ms = progress_ms;
    } else { /* what happened meanwhile is not known */
        m->saved.edges.started = 0;
        m->saved.pulses.pairs.last_ms = 0;
    }
}
