/* meter.c - the pipeline of one circuit meter.
 *
 * What is to be resumed from is one block of bytes (struct saved) that goes into each outcome: all
 * of detector, belief and open alerts as they are after the last reading of the outcome. What is
 * not in it - the grid and the engine's stream - depends on the readings alone and is rebuilt from
 * them. So an outcome is all or nothing, and what follows it is the same whether or not the process
 * died in between.
 */
#include "agent/meter.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/anomaly.h"
#include "agent/detector.h"
#include "agent/hours.h"
#include "agent/identify.h"
#include "agent/mains.h"
#include "agent/meter_shared.h"

#define SAVED_MAGIC 0x6d747233u /* "mtr3" */
#define PEAK_FACTOR 1.3         /* of the usual power, when no peak is configured */

struct saved {
    uint32_t magic, size;
    uint32_t repeats; /* readings that had the time of the last one: how many of them are in here */
    uint32_t pad;
    int64_t offset_ms; /* of the wall clock against the times below, when they were saved */
    struct detector detector;
    struct identify identify;
    struct anomaly anomaly;
    struct hours hours;
    double phase_wms[3], phase_w[3]; /* of the run so far; of the last reading */
    char load[EVENT_NAME_BYTES]; /* name under which the circuit's load is learned; "": none yet */
};
static_assert(sizeof(struct saved) <= OUTCOME_STATE_BYTES, "state fits into an outcome");
static_assert(OUTCOME_HOURS > HOURS_KEPT, "hours fit into an outcome");

struct meter {
    struct mains *mains; /* NULL: a circuit; else nothing below is used */
    struct meter_shared *shared;
    struct meter_config config;
    struct detector_config detection;
    struct outcome_sink sink;
    struct meter_memory memory;
    struct meter_window window;
    float phases[3]; /* of the next reading */
    struct saved saved;
    enum event_quality quality;   /* of times that go out now */
    int64_t prime_ms;             /* readings up to this time only prime; INT64_MIN: none */
    uint32_t prime_repeats;       /* how many with this very time */
    int64_t last_ms;              /* of the last reading, primed or not; INT64_MIN: none */
    int64_t tick_ms;              /* the first tick; INT64_MIN: none */
    struct anomaly_bounds bounds; /* of the run in progress */
    int hours_due;                /* an outcome is to be made although nothing happened */
    struct meter_status status;
};

static int is_trace(const struct meter *m)
{
    return m->config.quality == EVENT_TRACE;
}

static const struct model *model_of(const struct meter *m)
{
    return m->window.engine ? engine_model(m->window.engine) : NULL;
}

int meter_create(const struct meter_config *config, const struct engine *engine,
                 const struct outcome_sink *sink, const struct meter_memory *memory,
                 struct meter_shared *shared, struct meter **out)
{
    *out = NULL;
    struct meter *m = calloc(1, sizeof(*m));
    if (!m)
        return -ENOMEM;
    if (config->mains) {
        int failed = mains_create(config, engine, sink, memory, shared, &m->mains);
        if (failed)
            free(m);
        else
            *out = m;
        return failed;
    }
    m->shared = shared;
    m->config = *config;
    m->quality = config->quality;
    m->config.rules.on_w = config->on_w;
    m->detection =
        (struct detector_config){config->on_w,       config->off_w,      config->min_on_ms,
                                 config->min_off_ms, config->silence_ms, config->max_gap_ms};
    m->sink = *sink;
    m->memory = *memory;
    m->prime_ms = m->last_ms = m->tick_ms = INT64_MIN;
    m->saved.magic = SAVED_MAGIC;
    m->saved.size = sizeof(m->saved);
    detector_init(&m->saved.detector);
    identify_init(&m->saved.identify);
    anomaly_init(&m->saved.anomaly, config->name);
    int rc = meter_window_init(&m->window, engine, config->max_gap_ms, &shared->scratch);
    if (rc) {
        free(m);
        return rc;
    }
    if (engine)
        identify_model(&m->saved.identify, NULL, engine_model(engine));
    *out = m;
    return 0;
}

void meter_destroy(struct meter *m)
{
    if (!m)
        return;
    mains_destroy(m->mains);
    meter_window_free(&m->window);
    free(m);
}

struct mains *meter_mains(struct meter *m)
{
    return m->mains;
}

/* A run as anomalies see it: by the wall clock, since they know hours and days. */
static struct anomaly_run run_of(const struct meter *m, const struct detector_run *run)
{
    return (struct anomaly_run){
        .appliance = m->saved.load[0] ? m->saved.load : m->saved.identify.name,
        .start_ms = run->start_ms + m->saved.offset_ms,
        .end_ms = run->end_ms + m->saved.offset_ms,
        .energy_wh = run->energy_wh,
        .mean_w = run->mean_w,
        .peak_w = run->peak_w,
        .whole = !strcmp(run->reason, "off"),
    };
}

/* The bounds for a run that is in progress. */
static void recall(struct meter *m)
{
    struct detector_run run;
    detector_current(&m->saved.detector, &run);
    const struct anomaly_run r = run_of(m, &run);
    const struct routine *routine =
        meter_shared_recall(m->shared, &m->memory, m->config.name, r.appliance);
    m->status.learning = anomaly_routine_progress(routine, &m->config.rules, r.end_ms);
    anomaly_recall(routine, &m->config.rules, &r, &m->bounds);
}

/* A circuit has one load behind it, so its runs are one routine although the name may be unclear
 * now and then. Another name and another power mean another load. */
static struct routine *routine_of(struct meter *m, const struct detector_run *run)
{
    const char *name = m->saved.identify.name;
    char *load = m->saved.load, *was = m->shared->outcome.routine_was;
    struct routine *r =
        meter_shared_recall(m->shared, &m->memory, m->config.name, load[0] ? load : name);
    was[0] = '\0';
    if (load[0] && strcmp(load, name) != 0 && strcmp(name, EVENT_UNKNOWN) != 0) {
        const double usual = anomaly_usual_power(r);
        if (!strcmp(load, EVENT_UNKNOWN)) { /* it has a name now */
            snprintf(r->appliance, sizeof(r->appliance), "%s", name);
            snprintf(was, sizeof(m->shared->outcome.routine_was), "%s", EVENT_UNKNOWN);
            anomaly_rename(&m->saved.anomaly, EVENT_UNKNOWN, name);
        } else if (run->mean_w > 2 * usual || run->mean_w < usual / 2)
            r = meter_shared_recall(m->shared, &m->memory, m->config.name, name);
    }
    snprintf(load, sizeof(m->saved.load), "%s", r->appliance);
    return r;
}

/* Times of an earlier life, by its own count, become those of this one. */
static void shift(struct saved *s, int64_t offset_ms)
{
    const int64_t by = s->offset_ms - offset_ms;
    s->detector.last_ms += by;
    s->detector.since_ms += by;
    s->detector.start_ms += by;
    s->offset_ms = offset_ms;
}

static int phases_sound(const struct saved *s)
{
    int good = 1;
    for (int i = 0; i < 3; i++)
        good = good && isfinite(s->phase_wms[i]) && isfinite(s->phase_w[i]);
    return good;
}

/* Takes saved bytes over when they are sound. 0 or -EBADMSG. */
static int load_saved(struct meter *m, const void *state, int state_bytes)
{
    struct saved s;
    if (!state || state_bytes != (int)sizeof(s))
        return -EBADMSG;
    memcpy(&s, state, sizeof(s));
    if (s.magic != SAVED_MAGIC || s.size != sizeof(s) || detector_check(&s.detector) ||
        identify_check(&s.identify) || anomaly_check(&s.anomaly) || hours_check(&s.hours) ||
        !event_is_time(s.offset_ms) || !memchr(s.load, 0, sizeof(s.load)) || !phases_sound(&s))
        return -EBADMSG;
    uint32_t meter = m->saved.anomaly.meter;
    shift(&s, m->saved.offset_ms);
    m->saved = s;
    m->saved.anomaly.meter = meter;
    if (model_of(m))
        identify_model(&m->saved.identify, NULL, model_of(m));
    return 0;
}

void meter_restore(struct meter *m, int64_t progress_ms, const struct history_run *open,
                   int open_count, const void *state, int state_bytes)
{
    if (m->mains) {
        mains_restore(m->mains, progress_ms, open, open_count, state, state_bytes);
        return;
    }
    struct detector *d = &m->saved.detector;
    m->prime_repeats = UINT32_MAX;
    progress_ms -= m->saved.offset_ms; /* 0 for recorded readings */
    if (load_saved(m, state, state_bytes) == 0) {
        if (d->started && d->last_ms == progress_ms)
            m->prime_repeats = m->saved.repeats;
        if (d->on && !open_count) /* somebody else ended the run */
            d->on = d->candidate = 0;
    } else if (open_count && progress_ms > 0) {
        /* bytes of another version: what the history knows of the run is enough to end it */
        d->started = d->on = 1;
        d->last_ms = progress_ms;
        d->start_ms = open->start_ms - m->saved.offset_ms;
        if (d->start_ms > progress_ms)
            d->start_ms = progress_ms;
        d->energy_wms = open->energy_wh * 3600000.0;
        d->covered_ms = d->last_ms - d->start_ms;
        d->peak_w = open->peak_w;
        d->last_w = open->mean_w;
        snprintf(m->saved.identify.name, sizeof(m->saved.identify.name), "%s", open->appliance);
        m->saved.identify.confidence = open->confidence;
    }
    /* live readings do not come again */
    if (is_trace(m) && progress_ms > 0)
        m->prime_ms = progress_ms;
    recall(m);
}

/* Hands the outcome over when there is one. The sink answers for it from then on: it stores,
 * queues, or counts it lost. */
static void end_outcome(struct meter *m)
{
    struct outcome *o = &m->shared->outcome;
    if (!o->event_count && !o->alert_count && !m->hours_due)
        return;
    m->hours_due = 0;
    o->hour_count = hours_take(&m->saved.hours, o->hours);
    o->progress_ms = m->saved.detector.started ? m->saved.detector.last_ms : 0;
    o->state = &m->saved;
    o->state_bytes = (int)sizeof(m->saved);
    meter_shared_stamp(m->shared, m->saved.offset_ms, m->quality);
    m->status.events += (uint64_t)o->event_count;
    m->sink.commit(m->sink.context, o);
}

/* The run's mean power among the phases, as they shared its energy. */
static void share_phases(const struct meter *m, struct event *e)
{
    const double *wms = m->saved.phase_wms, sum = wms[0] + wms[1] + wms[2];
    for (int i = 0; i < 3 && sum > 0; i++)
        e->phases_w[i] = e->power_w * wms[i] / sum;
}

static void add_event(struct meter *m, enum event_type type, const struct detector_run *run)
{
    struct outcome *o = &m->shared->outcome;
    if (o->event_count == OUTCOME_EVENTS)
        return;
    struct event *e = &o->events[o->event_count++];
    memset(e, 0, sizeof(*e));
    e->type = type;
    snprintf(e->appliance, sizeof(e->appliance), "%s", m->saved.identify.name);
    e->confidence = m->saved.identify.confidence;
    e->quality = m->quality;
    e->model = model_of(m) ? model_of(m)->version : 0;
    e->start_ms = run->start_ms;
    e->energy_wh = run->energy_wh;
    e->peak_w = run->peak_w;
    e->power_w = type == EVENT_OFF ? run->mean_w : run->step_w;
    e->time_ms = type == EVENT_ON    ? run->start_ms
                 : type == EVENT_OFF ? run->end_ms
                                     : m->saved.detector.last_ms;
    if (type == EVENT_OFF) {
        e->end_ms = run->end_ms;
        snprintf(e->end_reason, sizeof(e->end_reason), "%s", run->reason);
        share_phases(m, e);
    }
}

/* Looks at a run that has just ended, as it will stand in the window in so many eighths of it; each
 * sees the run whole and counts for as many looks of the stream. */
static const uint32_t end_looks[] = {1, 2, 4};
#define END_LOOK_FACTOR 4.0

static int use_result(struct meter *m, double factor)
{
    const struct meter_scratch *s = &m->shared->scratch;
    return identify_add(&m->saved.identify, model_of(m), s->probabilities, s->weight * factor);
}

static void run_ended(struct meter *m, const struct detector_run *run)
{
    struct outcome *o = &m->shared->outcome;
    for (size_t i = 0; i < sizeof(end_looks) / sizeof(end_looks[0]); i++) {
        if (meter_window_look(&m->window, m->window.window / 8 * end_looks[i]))
            use_result(m, END_LOOK_FACTOR);
    }
    add_event(m, EVENT_OFF, run);
    struct routine *routine = routine_of(m, run);
    const struct anomaly_run finished = run_of(m, run);
    o->alert_count += anomaly_finished(&m->saved.anomaly, &m->config.rules, routine, &finished,
                                       meter_shared_alerts(m->shared));
    m->status.learning = anomaly_routine_progress(routine, &m->config.rules, finished.end_ms);
    o->has_routine = 1;
    o->routine = *routine;
}

/* Feeds the grid; results become belief unless the reading only primes. Returns 1 when the name
 * changed. */
static int look(struct meter *m, int64_t t_ms, float watts, int primes)
{
    int changed = 0, rc;
    if (meter_window_push(&m->window, t_ms, watts))
        return 0;
    while ((rc = meter_window_next(&m->window)) >= 0) {
        if (rc == 1 && !primes)
            changed |= use_result(m, 1);
    }
    return changed;
}

/* A hole before t_ms: ends what it ends, and for recorded readings reports the silence that nobody
 * ticked. */
static void pass(struct meter *m, int64_t t_ms)
{
    struct detector *d = &m->saved.detector;
    struct detector_run run;
    int silent = d->started && t_ms - d->last_ms > m->config.silence_ms;
    if (detector_pass(d, &m->detection, t_ms, &run) == DETECTOR_OFF)
        run_ended(m, &run);
    if (silent && is_trace(m))
        m->shared->outcome.alert_count +=
            anomaly_silent(&m->saved.anomaly, d->last_ms + m->saved.offset_ms, m->config.silence_ms,
                           meter_shared_alerts(m->shared));
}

/* The phases' last powers held until t_ms, while the load is on. */
static void hold_phases(struct meter *m, int64_t t_ms)
{
    const struct detector *d = &m->saved.detector;
    const int64_t ms = d->started ? t_ms - d->last_ms : 0;
    for (int i = 0; i < 3; i++) {
        if (!d->on)
            m->saved.phase_wms[i] = 0;
        else if (ms <= m->config.max_gap_ms)
            m->saved.phase_wms[i] += m->saved.phase_w[i] * (double)ms;
        m->saved.phase_w[i] = (double)m->phases[i];
    }
}

void meter_set_phases(struct meter *m, const float watts[3])
{
    memcpy(m->phases, watts, sizeof(m->phases));
}

static void detect(struct meter *m, int64_t t_ms, float watts, int renamed)
{
    struct detector *d = &m->saved.detector;
    struct detector_run run;
    enum detector_change change = detector_push(d, &m->detection, t_ms, (double)watts, &run);
    if (change == DETECTOR_OFF) {
        run_ended(m, &run);
        return;
    }
    if (!d->on)
        return;
    if (change == DETECTOR_ON) {
        add_event(m, EVENT_ON, &run);
        hours_start(&m->saved.hours);
    }
    detector_current(d, &run);
    if (change == DETECTOR_ON || renamed)
        recall(m);
    if (change != DETECTOR_ON && renamed)
        add_event(m, EVENT_IDENTIFIED, &run);
    const struct anomaly_run running = run_of(m, &run);
    m->shared->outcome.alert_count +=
        anomaly_running(&m->saved.anomaly, &m->bounds, &running, meter_shared_alerts(m->shared));
}

/* Whether the reading was consumed in an earlier life. */
static int primes(struct meter *m, int64_t t_ms)
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

/* The clock of live readings was set back: what runs ends with the last reading of the old time. */
static void turn_back(struct meter *m)
{
    struct detector_run run;
    meter_shared_begin(m->shared, m->config.name, 0);
    if (detector_pass(&m->saved.detector, &m->detection, INT64_MAX, &run) == DETECTOR_OFF)
        run_ended(m, &run);
    end_outcome(m);
    detector_init(&m->saved.detector);
    meter_window_restart(&m->window);
    m->last_ms = m->tick_ms = INT64_MIN;
}

/* Not a number, or beyond all bounds. Only live readings tell: a recorded one would be told again
 * after a restart. */
static int damaged(struct meter *m, int64_t t_ms)
{
    if (t_ms > 0 && t_ms >= m->last_ms && !is_trace(m)) {
        meter_shared_begin(m->shared, m->config.name, 0);
        m->shared->outcome.alert_count += anomaly_damaged(
            &m->saved.anomaly, t_ms + m->saved.offset_ms, meter_shared_alerts(m->shared));
        end_outcome(m);
    }
    return -EINVAL;
}

/* From which power on the load is at its peak. */
static double peak_power(const struct meter *m)
{
    return m->config.peak_w > 0 ? m->config.peak_w : PEAK_FACTOR * m->bounds.usual_w;
}

int meter_reading(struct meter *m, int64_t t_ms, float watts)
{
    if (m->mains)
        return mains_reading(m->mains, t_ms, watts);
    struct detector *d = &m->saved.detector;
    if (!isfinite(watts) || fabsf(watts) > METER_LIMIT_W || t_ms <= 0)
        return damaged(m, t_ms);
    int64_t last = m->last_ms;
    if (!is_trace(m) && d->started && d->last_ms > last)
        last = d->last_ms; /* of an earlier life */
    if (t_ms < last) {
        if (is_trace(m) || last - t_ms <= m->config.max_gap_ms) {
            m->status.dropped++;
            return -ESTALE;
        }
        turn_back(m);
    }
    if (m->last_ms != INT64_MIN && t_ms - m->last_ms > m->config.max_gap_ms)
        m->status.gaps++;
    m->last_ms = t_ms;
    m->status.watts = (double)watts;
    m->status.readings++;
    if (primes(m, t_ms)) {
        look(m, t_ms, watts, 1);
        return 0;
    }
    meter_shared_begin(m->shared, m->config.name, 0);
    pass(m, t_ms);
    const int64_t wall_ms = t_ms + m->saved.offset_ms;
    m->shared->outcome.alert_count +=
        anomaly_heard(&m->saved.anomaly, wall_ms, meter_shared_alerts(m->shared));
    int use = 1;
    m->shared->outcome.alert_count +=
        anomaly_reading(&m->saved.anomaly, &m->config.rules, wall_ms, (double)watts,
                        meter_shared_alerts(m->shared), &use);
    if (!use) /* as if the reading before had been repeated */
        watts = d->started ? (float)d->last_w : 0;
    m->saved.repeats = d->started && d->last_ms == t_ms ? m->saved.repeats + 1 : 1;
    int renamed = look(m, t_ms, watts, 0);
    hold_phases(m, t_ms);
    detect(m, t_ms, watts, renamed);
    m->hours_due |= hours_add(&m->saved.hours, wall_ms, (double)watts, d->on, peak_power(m),
                              m->config.max_gap_ms);
    end_outcome(m);
    return 0;
}

void meter_checkpoint(struct meter *m)
{
    if (m->mains) {
        mains_checkpoint(m->mains);
        return;
    }
    struct outcome *o = &m->shared->outcome;
    if (!m->saved.detector.started)
        return;
    meter_shared_begin(m->shared, m->config.name, 0);
    o->progress_ms = m->saved.detector.last_ms;
    o->hour_count = hours_take(&m->saved.hours, o->hours);
    o->state = &m->saved;
    o->state_bytes = (int)sizeof(m->saved);
    meter_shared_stamp(m->shared, m->saved.offset_ms, m->quality);
    m->sink.commit(m->sink.context, o);
}

void meter_set_clock(struct meter *m, int64_t offset_ms, enum event_quality quality)
{
    if (m->mains) {
        mains_set_clock(m->mains, offset_ms, quality);
        return;
    }
    if (is_trace(m))
        return;
    anomaly_shift(&m->saved.anomaly, offset_ms - m->saved.offset_ms);
    m->saved.offset_ms = offset_ms;
    m->quality = quality;
}

void meter_tick(struct meter *m, int64_t now_ms)
{
    if (m->mains) {
        mains_tick(m->mains, now_ms);
        return;
    }
    struct detector *d = &m->saved.detector;
    struct detector_run run;
    if (is_trace(m))
        return;
    if (m->tick_ms == INT64_MIN || now_ms < m->tick_ms)
        m->tick_ms = now_ms;
    int64_t since = d->started && d->last_ms > m->tick_ms ? d->last_ms : m->tick_ms;
    if (now_ms - since <= m->config.silence_ms)
        return;
    meter_shared_begin(m->shared, m->config.name, 0);
    if (detector_pass(d, &m->detection, now_ms, &run) == DETECTOR_OFF)
        run_ended(m, &run);
    m->shared->outcome.alert_count +=
        anomaly_silent(&m->saved.anomaly, since + m->saved.offset_ms, m->config.silence_ms,
                       meter_shared_alerts(m->shared));
    end_outcome(m);
}

void meter_forget(struct meter *m, const char *appliance)
{
    if (m->mains) {
        mains_forget(m->mains, appliance);
        return;
    }
    const int64_t t_ms = m->last_ms == INT64_MIN ? 0 : m->last_ms + m->saved.offset_ms;
    meter_shared_begin(m->shared, m->config.name, 0);
    m->shared->outcome.alert_count +=
        anomaly_forget(&m->saved.anomaly, appliance, t_ms, meter_shared_alerts(m->shared));
    if (!appliance || !strcmp(appliance, m->saved.load))
        m->saved.load[0] = '\0';
    end_outcome(m);
    recall(m);
}

void meter_finish(struct meter *m)
{
    if (m->mains) {
        mains_finish(m->mains);
        return;
    }
    struct detector_run run;
    if (m->last_ms == INT64_MIN || m->last_ms < m->prime_ms)
        return; /* nothing new was read */
    meter_shared_begin(m->shared, m->config.name, 0);
    if (detector_finish(&m->saved.detector, &run) == DETECTOR_OFF)
        run_ended(m, &run);
    end_outcome(m);
}

int meter_set_engine(struct meter *m, const struct engine *engine)
{
    if (m->mains)
        return mains_set_engine(m->mains, engine);
    struct meter_window fresh;
    int rc = meter_window_init(&fresh, engine, m->config.max_gap_ms, &m->shared->scratch);
    if (rc)
        return rc;
    meter_window_prime(&fresh, &m->window);
    fresh.samples = m->window.samples;
    fresh.inferences = m->window.inferences;
    if (engine)
        identify_model(&m->saved.identify, model_of(m), engine_model(engine));
    meter_window_free(&m->window);
    m->window = fresh;
    m->status.engine_swaps++;
    return 0;
}

void meter_get_status(const struct meter *m, struct meter_status *out)
{
    if (m->mains) {
        mains_get_status(m->mains, out);
        return;
    }
    *out = m->status;
    snprintf(out->appliance, sizeof(out->appliance), "%s", m->saved.identify.name);
    out->confidence = m->saved.identify.confidence;
    out->on = m->saved.detector.on;
    out->peak = m->saved.detector.on && peak_power(m) > 0 && m->status.watts >= peak_power(m);
    out->alerts = anomaly_open_count(&m->saved.anomaly);
    out->last_ms = m->last_ms == INT64_MIN ? 0 : m->last_ms + m->saved.offset_ms;
    out->samples = m->window.samples;
    out->inferences = m->window.inferences;
    out->memory_bytes = sizeof(*m) + m->window.bytes;
}
