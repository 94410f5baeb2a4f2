/* mains_tell.c - what a mains meter tells: events, alerts, the outcome that they go out with. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "agent/mains_impl.h"

#define LEAST_UNKNOWN_WH 5.0 /* what takes less is not told as unknown */

void mains_end_outcome(struct mains *m)
{
    struct outcome *o = &m->shared->outcome;
    if (!o->event_count && !o->alert_count && !m->hours_due)
        return;
    m->hours_due = 0;
    o->hour_count = hours_take(&m->saved.hours, o->hours);
    o->progress_ms = m->saved.last_ms;
    o->state = &m->saved;
    o->state_bytes = (int)sizeof(m->saved);
    meter_shared_stamp(m->shared, m->saved.offset_ms, m->quality);
    m->status.events += (uint64_t)o->event_count;
    m->sink.commit(m->sink.context, o);
}

static struct event *event_room(struct mains *m)
{
    struct outcome *o = &m->shared->outcome;
    if (o->event_count == OUTCOME_EVENTS) {
        /* More than a reading can lead to, but for readings after a long hole. */
        m->status.events += (uint64_t)o->event_count;
        meter_shared_stamp(m->shared, m->saved.offset_ms, m->quality);
        m->sink.commit(m->sink.context, o);
        o->event_count = o->alert_count = 0;
    }
    struct event *e = &o->events[o->event_count++];
    memset(e, 0, sizeof(*e));
    e->quality = m->quality;
    e->model = mains_model(m)->version;
    return e;
}

/* Room for what one call of anomaly.h may write. */
int mains_alerts_fit(const struct mains *m)
{
    return m->shared->outcome.alert_count + ANOMALY_ALERTS <= OUTCOME_ALERTS;
}

static struct anomaly_run run_of(const struct mains *m, const struct event *e)
{
    double hours = (double)(e->end_ms - e->start_ms) / 3600000.0;
    return (struct anomaly_run){.appliance = e->appliance,
                                .start_ms = e->start_ms + m->saved.offset_ms,
                                .end_ms = e->end_ms + m->saved.offset_ms,
                                .energy_wh = e->energy_wh,
                                .mean_w = hours > 0 ? e->energy_wh / hours : e->peak_w,
                                .peak_w = e->peak_w,
                                .whole = !strcmp(e->end_reason, "off"),
                                .separated = 1,
                                .mixed = !strcmp(e->appliance, EVENT_UNKNOWN)};
}

/* An outcome has room for one routine: of runs that end with the same reading one is learned from.
 */
static void learn(struct mains *m, const struct event *off)
{
    struct outcome *o = &m->shared->outcome;
    if (o->has_routine || !mains_alerts_fit(m))
        return;
    struct routine *routine =
        meter_shared_recall(m->shared, &m->memory, m->config.name, off->appliance);
    const struct anomaly_run finished = run_of(m, off);
    o->alert_count += anomaly_finished(&m->saved.anomaly, &m->config.rules, routine, &finished,
                                       meter_shared_alerts(m->shared));
    m->status.learning = anomaly_routine_progress(routine, &m->config.rules, finished.end_ms);
    o->has_routine = 1;
    o->routine = *routine;
    o->routine_was[0] = '\0';
}

/* Runs in progress, against what is usual. */
void mains_watch_runs(struct mains *m, int64_t now_ms)
{
    struct event e = {.end_reason = ""};
    for (int c = 0; c < m->classes; c++) {
        const struct mains_run *run = &m->saved.runs.runs[c];
        if (!run->told_ms || run->phase != MAINS_ON || !mains_alerts_fit(m))
            continue;
        snprintf(e.appliance, sizeof(e.appliance), "%s", mains_model(m)->labels[c]);
        e.start_ms = run->start_ms;
        e.end_ms = now_ms > e.start_ms ? now_ms : e.start_ms;
        e.energy_wh = run->energy_wh;
        e.peak_w = (double)run->peak_w;
        const struct anomaly_run running = run_of(m, &e);
        struct anomaly_bounds bounds;
        anomaly_recall(meter_shared_recall(m->shared, &m->memory, m->config.name, e.appliance),
                       &m->config.rules, &running, &bounds);
        m->shared->outcome.alert_count +=
            anomaly_running(&m->saved.anomaly, &bounds, &running, meter_shared_alerts(m->shared));
    }
}

void mains_tell_run(void *context, int type, int class, const struct mains_run *r, int64_t now_ms,
                    const char *reason)
{
    struct mains *m = context;
    struct event *e = event_room(m);
    int64_t end_ms = r->phase == MAINS_PAUSE ? r->off_ms : now_ms;
    double hours = (double)(end_ms - r->start_ms) / 3600000.0;
    e->type = (enum event_type)type;
    snprintf(e->appliance, sizeof(e->appliance), "%s", mains_model(m)->labels[class]);
    e->confidence = (double)r->confidence;
    e->start_ms = r->start_ms;
    e->energy_wh = r->energy_wh;
    e->peak_w = (double)r->peak_w;
    e->time_ms = type == EVENT_ON ? r->start_ms : end_ms;
    e->power_w = (double)(r->step_w > 0 ? r->step_w : r->level_w);
    if (type == EVENT_ON)
        return;
    e->end_ms = end_ms;
    e->power_w = hours > 0 ? r->energy_wh / hours : (double)r->level_w;
    if (type == EVENT_OFF) {
        e->up_w = fmax((double)r->step_w, 0);
        snprintf(e->end_reason, sizeof(e->end_reason), "%s", reason);
        learn(m, e);
    }
}

/* A run of something without a name is told when it is over. */
void mains_tell_load(void *context, const struct mains_load *l)
{
    struct mains *m = context;
    double hours = (double)(l->end_ms - l->start_ms) / 3600000.0;
    double watts = ((double)l->up_w + (double)l->down_w) / 2;
    if (m->load)
        m->load(m->load_context, l);
    if (!l->end_ms || (!l->name && watts * hours < LEAST_UNKNOWN_WH))
        return;
    struct event *e = event_room(m);
    e->type = EVENT_OFF;
    snprintf(e->appliance, sizeof(e->appliance), "%s", l->name ? l->name : EVENT_UNKNOWN);
    e->start_ms = l->start_ms;
    e->time_ms = e->end_ms = l->end_ms;
    e->power_w = watts;
    e->energy_wh = watts * hours;
    e->peak_w = e->up_w = (double)l->up_w;
    e->down_w = (double)l->down_w;
    snprintf(e->end_reason, sizeof(e->end_reason), "off");
    learn(m, e);
}
