/* mains.c - the pipeline of one mains meter.
 *
 * What is to be resumed from is one block of bytes (struct mains_saved), as in meter.c: edges,
 * decisions, runs and books as they are after the last reading of an outcome. The window and the
 * engine's stream depend on the readings alone and are rebuilt from them.
 */
#include "agent/mains_impl.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/identify.h"

#define WATCH_MS 60000   /* between two looks at runs in progress */
#define DECIDE_MS 180000 /* frames of this time stand behind one that is decided */

/* ---- the window ---- */

/* Start of the newest cell in the window. */
static int64_t newest_cell(const struct mains *m)
{
    return (m->window.grid.cell - 1) * m->window.grid.period_ms;
}

float mains_watts(const struct mains *m, int64_t t_ms)
{
    const struct meter_window *w = &m->window;
    int64_t back = (newest_cell(m) - t_ms) / w->grid.period_ms;
    if (!w->seen || t_ms < m->seen_ms || back < 0 || back > (int64_t)w->window)
        return -1;
    return w->ring[(w->at + w->window - (uint32_t)back) % (w->window + 1)];
}

static float world_watts(void *context, int64_t t_ms)
{
    const struct mains *m = context;
    if (t_ms >= m->saved.hole_ms && t_ms < m->saved.hole_end_ms)
        return -1;
    return fmaxf(mains_watts(m, t_ms), -1);
}

static void find_cycles(struct mains *m, const struct model *model)
{
    int cycles = 0;
    for (int c = 0; c < m->classes; c++) {
        const struct mains_rule *rule = mains_rules_find(model->labels[c]);
        if (rule->kind == MAINS_CYCLE && cycles == MAINS_CYCLES)
            m->world.cycle[c] = MAINS_NO_ROOM;
        else
            m->world.cycle[c] = (int8_t)(rule->kind == MAINS_CYCLE ? cycles++ : -1);
        m->thresholds[c] = model_threshold(model, (uint32_t)c);
    }
}

static int take_model(struct mains *m)
{
    const struct model *model = mains_model(m);
    int64_t step_ms = (int64_t)engine_hop(m->window.engine) * model->period_ms;
    int depth = (int)((DECIDE_MS + step_ms - 1) / step_ms);
    m->classes = (int)model->class_count;
    m->lag = model_lag(model);
    find_cycles(m, model);
    uint32_t labels = identify_labels(model);
    int fresh = m->saved.labels != labels;
    if (fresh) {
        mains_decode_init(&m->saved.decode, m->classes, depth);
        for (int i = 0; i < MAINS_CYCLES; i++)
            mains_cycle_init(&m->saved.cycles[i]);
        memset(&m->saved.pulses, 0, sizeof(m->saved.pulses));
        m->saved.labels = labels;
    } else {
        m->saved.decode.depth = depth < MAINS_DEPTH ? depth : MAINS_DEPTH;
    }
    m->world.rules = m->rules;
    m->world.classes = m->classes;
    m->world.period_ms = model->period_ms;
    m->world.report_ms = m->config.report_ms;
    m->world.edges = &m->saved.ring;
    m->world.decode = &m->saved.decode;
    m->world.cycles = m->saved.cycles;
    m->world.pulses = &m->saved.pulses;
    m->world.tell = (struct mains_tell){m, mains_tell_run, mains_tell_load};
    m->world.watts = world_watts;
    mains_house_apply(m);
    return fresh;
}

static int fits(const struct engine *engine)
{
    const struct model *model = engine ? engine_model(engine) : NULL;
    return !model || (model->head == MODEL_SIGMOID && model->class_count <= MAINS_CLASSES);
}

int mains_create(const struct meter_config *config, const struct engine *engine,
                 const struct outcome_sink *sink, const struct meter_memory *memory,
                 struct meter_shared *shared, struct mains **out)
{
    *out = NULL;
    if (!fits(engine))
        return -ENOTSUP;
    struct mains *m = calloc(1, sizeof(*m));
    if (!m)
        return -ENOMEM;
    m->shared = shared;
    m->config = *config;
    m->quality = config->quality;
    m->sink = *sink;
    m->memory = *memory;
    m->config.rules.on_w = config->on_w;
    m->prime_ms = m->last_ms = m->tick_ms = INT64_MIN;
    m->seen_ms = INT64_MAX;
    m->saved.magic = MAINS_SAVED_MAGIC;
    m->saved.size = sizeof(m->saved);
    anomaly_init(&m->saved.anomaly, config->name);
    edges_init(&m->saved.edges);
    mains_runs_init(&m->saved.runs);
    int rc = meter_window_init(&m->window, engine, config->max_gap_ms, &shared->scratch);
    if (rc) {
        free(m);
        return rc;
    }
    if (engine)
        take_model(m);
    *out = m;
    return 0;
}

void mains_destroy(struct mains *m)
{
    if (!m)
        return;
    meter_window_free(&m->window);
    free(m->watch);
    free(m);
}

void mains_watch_loads(struct mains *m, void *context,
                       void (*load)(void *context, const struct mains_load *l))
{
    m->load_context = context;
    m->load = load;
}

/* ---- frames ---- */

static int64_t step_ms(const struct mains *m)
{
    return (int64_t)engine_hop(m->window.engine) * m->window.grid.period_ms;
}

/* A probability of 0.5 where the model says that the load is best called on. */
static float scaled(float p, float threshold)
{
    float a = p * (1 - threshold), b = (1 - p) * threshold;
    return a + b > 0 ? a / (a + b) : 0.5f;
}

/* A hole that was long enough to end runs has been reached by the books. */
static void cross_hole(struct mains *m)
{
    struct mains_saved *s = &m->saved;
    mains_runs_book(&s->runs, &m->world, s->hole_ms);
    mains_runs_end(&s->runs, &m->world, s->hole_ms, "gap");
    mains_decode_restart(&s->decode);
    s->runs.cell_ms = s->hole_end_ms / m->world.period_ms * m->world.period_ms;
    s->hole_ms = s->hole_end_ms = 0;
}

static void book(struct mains *m, int64_t until_ms)
{
    struct mains_saved *s = &m->saved;
    if (s->hole_ms && until_ms >= s->hole_ms) {
        cross_hole(m);
        if (until_ms < s->runs.cell_ms)
            return;
    }
    mains_runs_book(&s->runs, &m->world, until_ms);
    mains_house_tell(m);
}

/* What it says of a television, and of compressors beside it. */
static void hear_gentle(struct mains *m, int64_t t_ms, const float *p)
{
    float other = 0;
    for (int c = 0; c < m->classes && p; c++)
        if (m->rules[c]->kind == MAINS_CYCLE)
            other = fmaxf(other, p[c]);
    for (int c = 0; c < m->classes && p; c++)
        if (m->rules[c]->kind == MAINS_GENTLE)
            mains_gentle_hear(&m->saved.runs.gentle, t_ms, p[c], other);
}

/* The network has spoken about the cell `lag` before the newest; usable: p is there. */
static void take_frame(struct mains *m, int usable)
{
    struct mains_frame f;
    float p[MAINS_CLASSES];
    int64_t t = newest_cell(m) - (int64_t)m->lag * m->window.grid.period_ms;
    if (t < m->seen_ms || t <= m->saved.frame_ms)
        return; /* about a past that was made up, or that was told before */
    m->saved.frame_ms = t;
    for (int c = 0; c < m->classes && usable; c++)
        p[c] = scaled(m->shared->scratch.probabilities[c], m->thresholds[c]);
    if (!m->saved.runs.cell_ms)
        m->saved.runs.cell_ms = t;
    if (t >= m->saved.hole_ms && t < m->saved.hole_end_ms)
        usable = 0;
    for (int c = 0; c < m->classes && usable; c++)
        if (m->world.cycle[c] >= 0)
            mains_cycle_hear(&m->saved.cycles[m->world.cycle[c]], t, p[c]);
    hear_gentle(m, t, usable ? p : NULL);
    const int decided = mains_decode_push(&m->saved.decode, m->rules, &m->saved.ring, t, step_ms(m),
                                          usable ? p : NULL, &f);
    mains_pulses_decide(&m->world, t);
    if (!decided)
        return;
    mains_runs_decide(&m->saved.runs, &m->world, &f, step_ms(m));
    book(m, f.t_ms - mains_runs_settle_ms());
    if (m->saved.runs.cell_ms - m->watched_ms >= WATCH_MS ||
        m->saved.runs.cell_ms < m->watched_ms) {
        m->watched_ms = m->saved.runs.cell_ms;
        mains_watch_runs(m, m->saved.runs.cell_ms);
    }
}

/* A grid that began anew behind a hole that ends runs. */
static void restart(struct mains *m)
{
    struct mains_saved *s = &m->saved;
    if (!s->hole_ms)
        return;
    mains_runs_end(&s->runs, &m->world, s->hole_ms, "gap");
    mains_decode_restart(&s->decode);
    s->hole_ms = s->hole_end_ms = 0;
}

static void look(struct mains *m, int64_t t_ms, float watts, int primes)
{
    int rc;
    if (meter_window_push(&m->window, t_ms, watts))
        return;
    while ((rc = meter_window_next(&m->window)) >= 0) {
        if (m->window.restarted) {
            if (!primes && m->window.engine)
                restart(m);
            m->seen_ms = newest_cell(m);
        }
        if (m->window.due && !primes)
            take_frame(m, rc == 1);
    }
}

/* ---- readings ---- */

static int primes(struct mains *m, int64_t t_ms)
{
    if (t_ms > m->prime_ms)
        return 0;
    if (t_ms < m->prime_ms || m->prime_repeats == UINT32_MAX)
        return 1;
    if (!m->prime_repeats)
        return 0;
    m->prime_repeats--;
    return 1;
}

/* A hole before t_ms that ends runs, once the books have come to it. */
static void pass(struct mains *m, int64_t t_ms)
{
    struct mains_saved *s = &m->saved;
    if (!s->last_ms || t_ms - s->last_ms <= m->config.silence_ms)
        return;
    if (!s->hole_ms)
        s->hole_ms = s->last_ms;
    s->hole_end_ms = t_ms;
    if (mains_is_trace(m))
        m->shared->outcome.alert_count +=
            anomaly_silent(&s->anomaly, s->last_ms + s->offset_ms, m->config.silence_ms,
                           meter_shared_alerts(m->shared));
}

/* The clock was set back: runs end with the old time. */
static void turn_back(struct mains *m)
{
    meter_shared_begin(m->shared, m->config.name, 1);
    if (m->window.engine && m->saved.runs.cell_ms)
        mains_runs_end(&m->saved.runs, &m->world, m->saved.last_ms, "gap");
    mains_end_outcome(m);
    mains_decode_restart(&m->saved.decode);
    edges_init(&m->saved.edges);
    m->saved.ring.count = 0;
    memset(&m->saved.pulses, 0, sizeof(m->saved.pulses));
    m->saved.runs.lead.done_ms = 0;
    m->saved.last_ms = m->saved.frame_ms = m->saved.hole_ms = m->saved.hole_end_ms = 0;
    meter_window_restart(&m->window);
    m->seen_ms = INT64_MAX;
    m->last_ms = m->tick_ms = INT64_MIN;
}

/* 0: go on; -ESTALE. */
static int check_order(struct mains *m, int64_t t_ms)
{
    int64_t last = m->last_ms;
    if (!mains_is_trace(m) && m->saved.last_ms > last)
        last = m->saved.last_ms; /* of an earlier life */
    if (t_ms >= last)
        return 0;
    if (mains_is_trace(m) || last - t_ms <= m->config.max_gap_ms) {
        m->status.dropped++;
        return -ESTALE;
    }
    turn_back(m);
    return 0;
}

int mains_reading(struct mains *m, int64_t t_ms, float watts)
{
    struct edge e;
    if (!isfinite(watts) || fabsf(watts) > METER_LIMIT_W || t_ms <= 0)
        return -EINVAL;
    int rc = check_order(m, t_ms);
    if (rc)
        return rc;
    if (m->last_ms != INT64_MIN && t_ms - m->last_ms > m->config.max_gap_ms)
        m->status.gaps++;
    m->last_ms = t_ms;
    m->status.watts = (double)watts;
    m->status.readings++;
    const int known = primes(m, t_ms);
    if (!known)
        edges_note(&m->saved.edges.zero, t_ms, watts);
    int damaged = edges_left_out(&m->saved.edges.zero, t_ms, watts);
    if (m->house && !damaged)
        mains_house_reading(m, t_ms, watts);
    if (known) {
        if (!damaged)
            look(m, t_ms, watts, 1);
        return 0;
    }
    meter_shared_begin(m->shared, m->config.name, 1);
    pass(m, t_ms);
    const int64_t wall_ms = t_ms + m->saved.offset_ms;
    struct outcome *o = &m->shared->outcome;
    o->alert_count += anomaly_heard(&m->saved.anomaly, wall_ms, meter_shared_alerts(m->shared));
    int use = 1;
    if (mains_alerts_fit(m)) /* damaged ones, too: a dead meter says 0 W for hours */
        o->alert_count += anomaly_reading(&m->saved.anomaly, &m->config.rules, wall_ms,
                                          (double)watts, meter_shared_alerts(m->shared), &use);
    damaged |= !use;
    m->saved.repeats = m->saved.last_ms == t_ms ? m->saved.repeats + 1 : 1;
    m->saved.last_ms = t_ms;
    if (use && edges_push(&m->saved.edges, t_ms, watts, m->config.max_gap_ms, &e))
        mains_ring_add(&m->saved.ring, &e);
    if (!damaged) {
        mains_pulses_push(&m->saved.pulses, t_ms, watts, m->config.max_gap_ms);
        look(m, t_ms, watts, 0);
        m->hours_due |=
            hours_add(&m->saved.hours, wall_ms, (double)watts, 0, 0, m->config.max_gap_ms);
    }
    mains_end_outcome(m);
    return 0;
}

void mains_checkpoint(struct mains *m)
{
    struct outcome *o = &m->shared->outcome;
    if (!m->saved.last_ms)
        return;
    meter_shared_begin(m->shared, m->config.name, 1);
    o->progress_ms = m->saved.last_ms;
    o->hour_count = hours_take(&m->saved.hours, o->hours);
    o->state = &m->saved;
    o->state_bytes = (int)sizeof(m->saved);
    meter_shared_stamp(m->shared, m->saved.offset_ms, m->quality);
    m->sink.commit(m->sink.context, o);
}

void mains_set_clock(struct mains *m, int64_t offset_ms, enum event_quality quality)
{
    if (mains_is_trace(m))
        return;
    anomaly_shift(&m->saved.anomaly, offset_ms - m->saved.offset_ms);
    m->saved.offset_ms = offset_ms;
    m->quality = quality;
}

void mains_forget(struct mains *m, const char *appliance)
{
    const int64_t t_ms = m->saved.last_ms ? m->saved.last_ms + m->saved.offset_ms : 0;
    meter_shared_begin(m->shared, m->config.name, 1);
    m->shared->outcome.alert_count +=
        anomaly_forget(&m->saved.anomaly, appliance, t_ms, meter_shared_alerts(m->shared));
    mains_end_outcome(m);
}

void mains_tick(struct mains *m, int64_t now_ms)
{
    if (mains_is_trace(m))
        return;
    if (m->tick_ms == INT64_MIN || now_ms < m->tick_ms)
        m->tick_ms = now_ms;
    int64_t since = m->saved.last_ms > m->tick_ms ? m->saved.last_ms : m->tick_ms;
    if (now_ms - since <= m->config.silence_ms)
        return;
    meter_shared_begin(m->shared, m->config.name, 1);
    m->shared->outcome.alert_count +=
        anomaly_silent(&m->saved.anomaly, since + m->saved.offset_ms, m->config.silence_ms,
                       meter_shared_alerts(m->shared));
    mains_end_outcome(m);
}

void mains_finish(struct mains *m)
{
    if (m->last_ms == INT64_MIN || m->last_ms < m->prime_ms || !m->window.engine)
        return; /* nothing new was read */
    struct meter_window *w = &m->window;
    int64_t period = w->grid.period_ms, end = m->last_ms;
    int64_t until = end + mains_delay_ms(m) + 2 * step_ms(m);
    float last = w->grid.last_watts;
    meter_shared_begin(m->shared, m->config.name, 1);
    /* The network is shown the last power for as long as it needs to speak about the end. */
    for (int64_t t = end + period; t <= until; t += period)
        look(m, t, last, 0);
    if (m->saved.runs.cell_ms)
        mains_runs_end(&m->saved.runs, &m->world, end, "stop");
    mains_end_outcome(m);
}

/* ---- the rest ---- */

int mains_set_engine(struct mains *m, const struct engine *engine)
{
    struct meter_window fresh;
    if (!fits(engine))
        return -ENOTSUP;
    int rc = meter_window_init(&fresh, engine, m->config.max_gap_ms, &m->shared->scratch);
    if (rc)
        return rc;
    meter_window_prime(&fresh, &m->window);
    fresh.samples = m->window.samples;
    fresh.inferences = m->window.inferences;
    const struct model *to = engine ? engine_model(engine) : NULL;
    if (mains_model(m) && identify_labels(to) != m->saved.labels && m->saved.runs.cell_ms) {
        meter_shared_begin(m->shared, m->config.name, 1);
        mains_runs_end(&m->saved.runs, &m->world, m->saved.runs.cell_ms, "gap");
        mains_end_outcome(m);
    }
    meter_window_free(&m->window);
    m->window = fresh;
    m->classes = 0;
    if (engine)
        take_model(m);
    m->status.engine_swaps++;
    return 0;
}

void mains_get_status(const struct mains *m, struct meter_status *out)
{
    double most = 0;
    *out = m->status;
    snprintf(out->appliance, sizeof(out->appliance), "%s", EVENT_UNKNOWN);
    for (int c = 0; c < m->classes; c++) {
        const struct mains_run *run = &m->saved.runs.runs[c];
        if (run->told_ms && (double)run->last_w >= most) {
            most = (double)run->last_w;
            snprintf(out->appliance, sizeof(out->appliance), "%s", mains_model(m)->labels[c]);
            out->confidence = (double)run->confidence;
            out->on = 1;
        }
    }
    out->last_ms = m->last_ms == INT64_MIN ? 0 : m->last_ms + m->saved.offset_ms;
    out->samples = m->window.samples;
    out->inferences = m->window.inferences;
    out->alerts = anomaly_open_count(&m->saved.anomaly);
    out->memory_bytes = sizeof(*m) + m->window.bytes;
}

const struct books *mains_books(const struct mains *m)
{
    return &m->saved.runs.books;
}

const struct mains_run *mains_run(const struct mains *m, int class, const char **name)
{
    *name = mains_model(m)->labels[class];
    return &m->saved.runs.runs[class];
}

int mains_classes(const struct mains *m)
{
    return m->classes;
}

int64_t mains_delay_ms(const struct mains *m)
{
    if (!m->window.engine)
        return 0;
    return ((int64_t)m->lag + 1) * m->window.grid.period_ms +
           (int64_t)m->saved.decode.depth * step_ms(m) + mains_runs_settle_ms();
}
