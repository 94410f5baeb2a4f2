#include "agent/journal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/log.h"
#include "agent/payload.h"
#include "agent/place_store.h"
#include "storage/alerts.h"
#include "storage/energy.h"
#include "storage/history.h"
#include "storage/outbox.h"
#include "storage/places.h"

#define ENERGY_KEPT_MS (800 * 86400000LL) /* two years and some */
#define TRIM_EVERY 256                    /* runs ended between two trims of the history */
#define JOURNAL_OPEN_RUNS 32              /* of a meter, more than one ever has */

static_assert(OUTCOME_STATE_BYTES <= HISTORY_STATE_BYTES, "the disk takes a meter's state");

struct entry { /* one outcome, or one report, that waits for the disk */
    struct entry *next;
    struct outcome outcome;
    char meter[EVENT_NAME_BYTES];
    unsigned char state[OUTCOME_STATE_BYTES];
    char *report; /* not NULL: a report, outcome unused */
    int64_t created_ms;
};

struct journal {
    struct store *store;
    void (*wake)(void *context);
    void *context;
    struct entry *first, *last;
    struct journal_stats stats;
    uint64_t lost_told;
    int64_t max_runs;
    unsigned runs_ended;
    int held;
};

int64_t journal_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int append(struct journal *j, enum outbox_kind kind, const char *channel, const char *body,
                  int64_t created_ms)
{
    if (!body)
        return -ENOMEM;
    struct outbox_item item = {.kind = kind, .created_ms = created_ms, .body = body};
    uint64_t seq = 0;
    snprintf(item.channel, sizeof item.channel, "%s", channel);
    item.body_bytes = strlen(body);
    return outbox_append(j->store, &item, &seq);
}

static void fill_run(struct history_run *run, const char *meter, const struct event *e)
{
    snprintf(run->meter, sizeof run->meter, "%s", meter);
    snprintf(run->appliance, sizeof run->appliance, "%s",
             e->appliance[0] ? e->appliance : EVENT_UNKNOWN);
    run->confidence = e->confidence;
    run->start_ms = e->start_ms;
    run->energy_wh = e->energy_wh;
    run->peak_w = e->peak_w;
    if (e->type == EVENT_RUNNING)
        run->mean_w = e->power_w;
    if (e->type == EVENT_OFF) {
        run->end_ms = e->end_ms;
        run->mean_w = e->power_w;
        snprintf(run->end_reason, sizeof run->end_reason, "%s",
                 e->end_reason[0] ? e->end_reason : "off");
    }
}

/* How surely an open run of a meter with several is the event's. The start may differ when the
 * clock was set in between, the name when a person's word changed it. */
static int resemblance(const struct history_run *open, const struct event *e)
{
    const int name = strcmp(open->appliance, e->appliance) == 0;
    const int start = open->start_ms == e->start_ms;
    if (e->type == EVENT_ON)
        return name;
    return start && name ? 3 : start ? 2 : name && strcmp(e->appliance, EVENT_UNKNOWN) != 0;
}

/* The open run that an event belongs to (of an on-event: one whose end was lost). 0 or -ENOENT. */
static int find_run(struct journal *j, const struct outcome *o, const struct event *e,
                    struct history_run *out)
{
    struct history_run open[JOURNAL_OPEN_RUNS];
    int best = 0;
    if (!o->several)
        return history_current(j->store, o->meter, out);
    const int n = history_open_runs(j->store, o->meter, open, JOURNAL_OPEN_RUNS);
    for (int i = 0; i < n; i++) {
        const int alike = resemblance(&open[i], e);
        if (alike > best) {
            best = alike;
            *out = open[i];
        }
    }
    return n < 0 ? n : best ? 0 : -ENOENT;
}

/* Brings the history up to an event; *id is the run that it belongs to. told: the event as the
 * meter told it. */
static int write_run(struct journal *j, const struct outcome *o, const struct event *told,
                     const struct event *e, int64_t *id)
{
    struct history_run run;
    int rc = find_run(j, o, told, &run);
    if (rc == 0 && e->type == EVENT_ON) {
        /* Its off-event was lost with a full queue: close it here, so that a meter has one open
         * run (of an appliance). */
        run.end_ms = e->start_ms > run.start_ms ? e->start_ms : run.start_ms;
        snprintf(run.end_reason, sizeof run.end_reason, "gap");
        rc = history_update(j->store, &run);
        if (rc == 0)
            rc = -ENOENT;
    }
    if (rc == -ENOENT) {
        memset(&run, 0, sizeof run);
        fill_run(&run, o->meter, e);
        run.end_ms = 0;
        run.end_reason[0] = '\0';
        rc = history_open(j->store, &run, &run.id);
    }
    if (rc < 0)
        return rc;
    *id = run.id;
    if (e->type == EVENT_ON)
        return 0;
    fill_run(&run, o->meter, e);
    return history_update(j->store, &run);
}

/* Into the log of alerts; and into the outbox unless a person wants to hear nothing of it. */
static int write_alert(struct journal *j, const char *meter, const struct alert *a,
                       int64_t created_ms)
{
    struct alerts_row row = {.severity = (int)a->severity,
                             .quality = (int)a->quality,
                             .since_ms = a->since_ms,
                             .raised_ms = a->time_ms,
                             .updated_ms = a->time_ms,
                             .value = a->value,
                             .limit = a->limit};
    int64_t until = 0;
    snprintf(row.id, sizeof row.id, "%s", a->alert_id);
    snprintf(row.alert, sizeof row.alert, "%s", a->alert);
    snprintf(row.meter, sizeof row.meter, "%s", meter);
    snprintf(row.appliance, sizeof row.appliance, "%s", a->appliance);
    snprintf(row.expected, sizeof row.expected, "%s", a->expected);
    snprintf(row.seen, sizeof row.seen, "%s", a->seen);
    /* the agent's own tell what happened: nothing clears them */
    row.cleared_ms = a->cleared || strcmp(meter, JOURNAL_AGENT) == 0 ? a->time_ms : 0;
    int rc = alerts_snoozed(j->store, row.meter, row.alert, row.appliance, &until);
    if (until <= created_ms)
        until = 0;
    row.snoozed_ms = until;
    if (rc == 0)
        rc = alerts_put(j->store, &row);
    if (rc < 0 || (until && !a->cleared))
        return rc;
    char *body = payload_alert(meter, a);
    rc = append(j, OUTBOX_ALERT, meter, body, created_ms);
    free(body);
    return rc;
}

static int write_routine(struct journal *j, const struct outcome *o)
{
    int rc = 0;
    if (o->routine_was[0])
        rc = routine_forget(j->store, o->meter, o->routine_was);
    return rc < 0 ? rc : routine_put(j->store, &o->routine);
}

static int write_outcome(struct journal *j, const struct outcome *o, int64_t created_ms)
{
    int rc = 0;
    for (int i = 0; i < o->event_count && rc == 0; i++) {
        struct event e = o->events[i];
        int64_t run = 0;
        rc = place_store_take(j->store, o->meter, &e); /* may know a better name */
        if (rc == 0)
            rc = write_run(j, o, &o->events[i], &e, &run);
        if (rc < 0)
            break;
        char *body = payload_event(o->meter, &e, run);
        rc = append(j, OUTBOX_EVENT, o->meter, body, created_ms);
        free(body);
    }
    for (int i = 0; i < o->alert_count && rc == 0; i++)
        rc = write_alert(j, o->meter, &o->alerts[i], created_ms);
    if (rc == 0 && o->has_routine)
        rc = write_routine(j, o);
    for (int i = 0; i < o->hour_count && rc == 0; i++)
        rc = energy_put(j->store, o->meter, &o->hours[i]);
    if (rc == 0 && o->progress_ms != 0)
        rc = history_set_progress(j->store, o->meter, o->progress_ms);
    if (rc == 0 && o->state)
        rc = history_set_state(j->store, o->meter, o->state, (size_t)o->state_bytes);
    return rc;
}

static void trim_history(struct journal *j, const struct outcome *o)
{
    for (int i = 0; i < o->event_count; i++)
        j->runs_ended += o->events[i].type == EVENT_OFF;
    if (j->max_runs <= 0 || j->runs_ended < TRIM_EVERY)
        return;
    j->runs_ended = 0;
    if (history_trim(j->store, j->max_runs) < 0)
        log_warning("history: cannot be trimmed: %s", store_error(j->store));
    if (places_trim(j->store, PLACE_STORE_RUNS, PLACE_STORE_HOURS) < 0)
        log_warning("places: cannot be trimmed: %s", store_error(j->store));
    if (o->hour_count > 0 && energy_trim(j->store, o->hours[0].start_ms - ENERGY_KEPT_MS) < 0)
        log_warning("energy: cannot be trimmed: %s", store_error(j->store));
    if (alerts_trim(j->store, ALERTS_ROWS) < 0)
        log_warning("alerts: cannot be trimmed: %s", store_error(j->store));
}

/* Errors that a retry cannot cure: the item itself is at fault. */
static int is_hopeless(int rc)
{
    return rc == -EINVAL || rc == -EMSGSIZE;
}

static void note_failure(struct journal *j, int rc)
{
    const char *text = store_error(j->store);
    j->stats.damaged |= rc == -EBADMSG;
    if (j->stats.failures++ == 0 || !j->first) /* once per outage */
        log_error("store: %s; %s", text[0] ? text : strerror(-rc),
                  is_hopeless(rc) ? "an outcome is dropped" : "what is detected waits in memory");
}

/* One transaction. report not NULL: that alone. */
static int write_all(struct journal *j, const struct outcome *o, const char *report,
                     int64_t created_ms)
{
    if (!j->store || j->held)
        return -EAGAIN; /* whoever holds it has told why */
    int rc = store_begin(j->store);
    if (rc == 0)
        rc = report ? append(j, OUTBOX_REPORT, "", report, created_ms)
                    : write_outcome(j, o, created_ms);
    if (rc == 0)
        rc = store_commit(j->store);
    if (rc < 0) {
        note_failure(j, rc);
        store_rollback(j->store);
        return rc;
    }
    j->stats.committed++;
    if (j->wake && (report || o->event_count > 0 || o->alert_count > 0))
        j->wake(j->context);
    if (!report)
        trim_history(j, o);
    return 0;
}

static int is_quiet(const struct outcome *o)
{
    return o->event_count == 0 && o->alert_count == 0 && !o->has_routine && o->hour_count == 0;
}

static void set_state(struct entry *e, const struct outcome *o)
{
    if (o->state && o->state_bytes >= 0 && o->state_bytes <= OUTCOME_STATE_BYTES) {
        memcpy(e->state, o->state, (size_t)o->state_bytes);
        e->outcome.state = e->state;
        e->outcome.state_bytes = o->state_bytes;
    }
}

/* Progress without an event joins the meter's newest entry, so that a long outage fills the queue
 * with events only. */
static int merge_quiet(struct journal *j, const struct outcome *o)
{
    struct entry *newest = NULL;
    for (struct entry *e = j->first; e; e = e->next)
        if (!e->report && strcmp(e->meter, o->meter) == 0)
            newest = e;
    if (!newest || !is_quiet(o))
        return 0;
    if (o->progress_ms != 0)
        newest->outcome.progress_ms = o->progress_ms;
    set_state(newest, o);
    return 1;
}

static void drop_first(struct journal *j)
{
    struct entry *e = j->first;
    j->first = e->next;
    if (!j->first)
        j->last = NULL;
    j->stats.waiting--;
    free(e->report);
    free(e);
}

static int enqueue(struct journal *j, const struct outcome *o, const char *report,
                   int64_t created_ms)
{
    if (o && merge_quiet(j, o))
        return 0;
    struct entry *e = calloc(1, sizeof *e);
    if (e && report)
        e->report = strdup(report);
    if (!e || (report && !e->report)) {
        free(e);
        j->stats.lost++;
        return -ENOMEM;
    }
    e->created_ms = created_ms;
    if (o) {
        e->outcome = *o;
        snprintf(e->meter, sizeof e->meter, "%s", o->meter);
        e->outcome.meter = e->meter;
        e->outcome.state = NULL;
        e->outcome.state_bytes = 0;
        set_state(e, o);
    }
    if (j->stats.waiting == JOURNAL_QUEUE) {
        j->stats.lost += is_quiet(&j->first->outcome) && !j->first->report ? 0 : 1;
        drop_first(j);
    }
    if (j->last)
        j->last->next = e;
    else
        j->first = e;
    j->last = e;
    j->stats.waiting++;
    return 0;
}

static int commit(void *context, const struct outcome *o)
{
    struct journal *j = context;
    if (!o->meter || !o->meter[0] || strlen(o->meter) >= EVENT_NAME_BYTES)
        return -EINVAL;
    const int64_t now = journal_now_ms();
    if (!j->first) {
        const int rc = write_all(j, o, NULL, now);
        if (rc == 0 || is_hopeless(rc)) {
            j->stats.lost += rc != 0;
            return rc;
        }
    }
    return enqueue(j, o, NULL, now);
}

int journal_create(struct store *store, void (*wake)(void *context), void *context,
                   struct journal **out)
{
    struct journal *j = calloc(1, sizeof *j);
    *out = j;
    if (!j)
        return -ENOMEM;
    j->store = store;
    j->wake = wake;
    j->context = context;
    return 0;
}

void journal_destroy(struct journal *j)
{
    if (!j)
        return;
    if (journal_flush(j) > 0)
        log_error("store: %" PRIu64 " outcomes could not be written and are lost",
                  j->stats.waiting);
    while (j->first)
        drop_first(j);
    free(j);
}

void journal_use_store(struct journal *j, struct store *store)
{
    j->store = store;
    j->stats.damaged = 0;
}

void journal_hold(struct journal *j, int hold)
{
    j->held = hold;
}

void journal_limit_history(struct journal *j, int64_t max_runs)
{
    j->max_runs = max_runs;
}

struct outcome_sink journal_sink(struct journal *j)
{
    return (struct outcome_sink){j, commit};
}

static int read_routine(void *context, const char *meter, const char *appliance,
                        struct routine *out)
{
    const struct journal *j = context;
    /* What waits for the disk is newer than what is stored. */
    int found = 0;
    for (const struct entry *e = j->first; e; e = e->next) {
        const struct routine *r = &e->outcome.routine;
        if (!e->report && e->outcome.has_routine && strcmp(r->meter, meter) == 0 &&
            strcmp(r->appliance, appliance) == 0) {
            *out = *r;
            found = 1;
        }
    }
    if (found)
        return 0;
    return j->store ? routine_get(j->store, meter, appliance, out) : -ENOENT;
}

struct meter_memory journal_memory(struct journal *j)
{
    return (struct meter_memory){j, read_routine};
}

int journal_restore(struct journal *j, const char *meter_name, struct meter *m,
                    int64_t *progress_ms)
{
    unsigned char state[OUTCOME_STATE_BYTES];
    struct history_run open[JOURNAL_OPEN_RUNS];
    *progress_ms = INT64_MIN;
    int64_t progress = 0;
    const int known = history_progress(j->store, meter_name, &progress);
    if (known < 0)
        return known == -ENOENT ? 0 : known;
    const int count = history_open_runs(j->store, meter_name, open, JOURNAL_OPEN_RUNS);
    const int bytes = history_state(j->store, meter_name, state, sizeof state);
    if (count < 0)
        return count;
    if (bytes < 0 && bytes != -ENOENT)
        return bytes;
    meter_restore(m, progress, open, count, bytes >= 0 ? state : NULL, bytes >= 0 ? bytes : 0);
    *progress_ms = progress;
    return 0;
}

int journal_alert(struct journal *j, const struct alert *a)
{
    struct outcome *o = calloc(1, sizeof *o);
    if (!o)
        return -ENOMEM;
    o->meter = JOURNAL_AGENT;
    o->alert_count = 1;
    o->alerts[0] = *a;
    const int rc = commit(j, o);
    free(o);
    return rc;
}

int journal_report(struct journal *j, const char *body, int64_t now_ms)
{
    if (!j->first) {
        const int rc = write_all(j, NULL, body, now_ms);
        if (rc == 0 || is_hopeless(rc))
            return rc;
    }
    return enqueue(j, NULL, body, now_ms);
}

/* The disk is back after outcomes were lost: a loss is always declared. */
static void declare_loss(struct journal *j)
{
    struct alert a = {.alert = "events_lost", .severity = ALERT_CRITICAL, .quality = EVENT_CLOCK};
    const uint64_t lost = j->stats.lost - j->lost_told;
    j->lost_told = j->stats.lost;
    a.time_ms = a.since_ms = journal_now_ms();
    snprintf(a.alert_id, sizeof a.alert_id, "events_lost-%" PRId64, a.time_ms);
    snprintf(a.expected, sizeof a.expected, "a disk that takes what is detected");
    snprintf(a.seen, sizeof a.seen, "%" PRIu64 " outcomes lost while the disk refused", lost);
    a.value = (double)lost;
    if (journal_alert(j, &a) < 0)
        j->lost_told = j->stats.lost; /* told in the log; not of itself for ever */
}

int journal_snooze(struct journal *j, const char *alert_id, int64_t until_ms)
{
    return alerts_snooze(j->store, alert_id, until_ms);
}

#define AWAKE 16 /* told at a time */

struct awake {
    struct alerts_row rows[AWAKE];
    int count;
};

static int take_awake(void *context, const struct alerts_row *row)
{
    struct awake *w = context;
    w->rows[w->count++] = *row;
    return w->count == AWAKE;
}

/* One transaction: told once, also when the power goes in between. */
static int tell_awake(struct journal *j, const struct awake *w, int64_t now)
{
    int rc = store_begin(j->store);
    for (int i = 0; i < w->count && rc == 0; i++) {
        const struct alerts_row *r = &w->rows[i];
        struct alert a = {.updated = 1,
                          .severity = (enum alert_severity)r->severity,
                          .quality = (enum event_quality)r->quality,
                          .time_ms = r->updated_ms,
                          .since_ms = r->since_ms,
                          .value = r->value,
                          .limit = r->limit};
        snprintf(a.alert, sizeof a.alert, "%s", r->alert);
        snprintf(a.alert_id, sizeof a.alert_id, "%s", r->id);
        snprintf(a.appliance, sizeof a.appliance, "%s", r->appliance);
        snprintf(a.expected, sizeof a.expected, "%s", r->expected);
        snprintf(a.seen, sizeof a.seen, "%s", r->seen);
        char *body = payload_alert(r->meter, &a);
        rc = append(j, OUTBOX_ALERT, r->meter, body, now);
        free(body);
        if (rc == 0)
            rc = alerts_snooze(j->store, r->id, 0);
    }
    if (rc == 0 && w->count < AWAKE)
        rc = alerts_wake(j->store, now) < 0 ? -EIO : 0; /* those that are over, too */
    if (rc == 0)
        rc = store_commit(j->store);
    if (rc < 0)
        store_rollback(j->store);
    return rc;
}

void journal_wake_alerts(struct journal *j)
{
    const int64_t now = journal_now_ms();
    if (j->first || !j->store)
        return; /* the disk refuses */
    struct awake *w = calloc(1, sizeof *w);
    if (w && alerts_awake(j->store, now, AWAKE, take_awake, w) > 0 && tell_awake(j, w, now) == 0 &&
        j->wake)
        j->wake(j->context);
    free(w);
}

void journal_lost(struct journal *j, uint64_t count)
{
    j->stats.lost += count;
}

size_t journal_flush(struct journal *j)
{
    const uint64_t before = j->stats.waiting;
    while (j->first) {
        struct entry *e = j->first;
        const int rc = write_all(j, &e->outcome, e->report, e->created_ms);
        if (rc < 0 && !is_hopeless(rc))
            break;
        j->stats.lost += rc != 0;
        drop_first(j);
    }
    if (before > 0 && !j->first)
        log_info("store: writing again; nothing waits in memory");
    if (!j->first && j->stats.lost > j->lost_told && j->store && !j->held)
        declare_loss(j);
    return (size_t)j->stats.waiting;
}

int journal_full(const struct journal *j)
{
    return j->stats.waiting >= JOURNAL_QUEUE * 3 / 4;
}

void journal_get_stats(const struct journal *j, struct journal_stats *out)
{
    *out = j->stats;
}
