/* loop.c - the main thread's loop: readings to meters, commands, bundles, signals, the passing of
 * time. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/log.h"
#include "agent/mains.h"
#include "agent/notify.h"
#include "agent/status.h"
#include "agent/summary.h"

#define BATCH                                                                                      \
    64 /* readings of one meter before the next meter, and the rest of the loop, have their turn   \
        */
#define TICK_MS 1000
#define STATUS_MS 60000 /* the retained status is renewed at least so often */
#define MACHINE_MS 600000
#define REOPEN_MS 60000
#define RETRY_MS 10000
#define SETTLE_MS 60000         /* after midnight, of a circuit: beyond its own delays */
#define MAINS_SETTLE_MS 1800000 /* of a mains meter: the longest pause that a rule bridges */
#define FDS (2 + CONTROL_FDS + CONFIG_METERS)

/* ---- readings ---- */

static void tell_bad_input(struct agent_meter *m)
{
    const uint64_t n = ++m->bad_input;
    if (n <= 10 || n % 1000 == 0)
        log_warning("meter %s: %s%s", m->config->meter.name, source_error(m->source),
                    n == 10 ? " (further ones: one line in a thousand)" : "");
}

static void end_source(struct agent *a, struct agent_meter *m)
{
    struct meter_status s;
    m->ended = 1;
    m->more = 0;
    a->status_dirty = 1;
    meter_finish(m->meter);
    if (m->place)
        place_live_finish(m->place);
    meter_get_status(m->meter, &s);
    log_info("meter %s: the source ended after %" PRIu64 " readings, %" PRIu64 " events",
             m->config->meter.name, s.readings, s.events);
}

/* 0 or -errno. What a disk that refuses made it lose is declared with the journal's own losses. */
static int store_machine(struct agent *a, struct agent_meter *m)
{
    const int changes = machine_changes(m->machine);
    const int rc = a->store ? machine_save(m->machine, a->store, agent_time_quality(a, m)) : -EIO;
    journal_lost(a->journal, (uint64_t)machine_lost(m->machine));
    if (rc < 0 || changes == 0)
        return rc;
    a->status_dirty = 1;
    if (a->publisher)
        publisher_wake(a->publisher);
    return 0;
}

/* What is kept of a reading beside what the pipeline makes of it. */
static void keep_reading(struct agent *a, struct agent_meter *m, const struct trace_reading *r)
{
    if (!m->record && !m->place && !m->machine)
        return;
    const int64_t t_ms = agent_reading_time(a, m, r->t_ms);
    if (t_ms <= 0)
        return;
    if (m->record)
        record_reading(m->record, t_ms, (double)r->watts);
    if (m->place)
        place_live_reading(m->place, t_ms, r->watts);
    if (m->machine && machine_reading(m->machine, t_ms, (double)r->watts) &&
        (machine_changes(m->machine) || machine_waits(m->machine) >= MACHINE_QUARTERS / 2))
        store_machine(a, m); /* a replay at full speed; told by the journal if not */
}

/* The first reading of this life. */
static void begin_meter(struct agent *a, struct agent_meter *m, int64_t t_ms)
{
    a->status_dirty = 1;
    if (a->config->daily_summary && a->store && m->config->source.type != SOURCE_STDIN &&
        summary_begin(a->store, m->config->meter.name, t_ms) < 0)
        log_warning("meter %s: summary: %s", m->config->meter.name, store_error(a->store));
}

/* Takes up to BATCH readings that are due. */
static void read_meter(struct agent *a, struct agent_meter *m)
{
    const int64_t mono = agent_monotonic_ms(), now = wall_count_ms(&a->wall);
    m->more = 0;
    for (int i = 0; i < BATCH; i++) {
        struct trace_reading r;
        const int rc = source_next(m->source, mono, now, &r);
        if (rc == 0)
            return;
        if (rc == -EBADMSG) {
            tell_bad_input(m);
        } else if (rc < 0) {
            if (rc != -ENODATA)
                log_error("meter %s: %s", m->config->meter.name, source_error(m->source));
            end_source(a, m);
            return;
        } else {
            if (m->last_mono_ms == 0)
                begin_meter(a, m, r.t_ms);
            if (m->sender_time != (r.t_ms != now)) {
                m->sender_time = r.t_ms != now;
                agent_set_meter_clock(a, m);
            }
            m->last_ms = r.t_ms;
            m->last_mono_ms = mono;
            float phases[3];
            if (source_phases(m->source, phases))
                meter_set_phases(m->meter, phases);
            /* Backward and impossible readings are counted by the meter. */
            if (meter_reading(m->meter, r.t_ms, r.watts) == 0)
                keep_reading(a, m, &r);
        }
    }
    m->more = 1;
}

static int is_due(const struct agent_meter *m, const struct pollfd *fds, int64_t mono)
{
    if (m->ended)
        return 0;
    return m->more || source_due(m->source) <= mono ||
           (m->poll_index >= 0 && fds[m->poll_index].revents);
}

/* The disk refuses and the queue is nearly full: what is not read is not lost (a file, a pipe). */
static int may_read(const struct agent *a)
{
    return !journal_full(a->journal);
}

/* Silence is judged in the readings' own time: the last one's time plus what has passed since.
 * Recorded and simulated readings carry their gaps in themselves. */
static void tick_meter(struct agent_meter *m, int64_t mono)
{
    if (m->ended || m->config->source.type != SOURCE_STDIN || m->last_mono_ms == 0)
        return;
    meter_tick(m->meter, m->last_ms + (mono - m->last_mono_ms));
}

/* ---- signals, bundles, commands ---- */

static void take_signals(struct agent *a)
{
    struct signalfd_siginfo info;
    while (read(a->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGHUP) {
            agent_reload(a);
            continue;
        }
        log_info("%s: stopping", info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT");
        a->stop = 1;
    }
}

static void take_messages(struct agent *a)
{
    uint64_t count;
    struct publisher_message m;
    if (!a->publisher)
        return;
    if (read(a->event_fd, &count, sizeof count) < 0 && errno != EAGAIN)
        log_warning("eventfd: %s", strerror(errno));
    while (publisher_take(a->publisher, &m)) {
        if (m.candidate) {
            /* What is refused already has no model; its report is the same from either. */
            const struct model *model = m.candidate->model;
            const int mains = model ? model->head == MODEL_SIGMOID : 0;
            updater_apply(model ? agent_updater(a, mains) : agent_main_updater(a), m.candidate);
            a->status_dirty = 1;
            continue;
        }
        char *reply = command_run(&a->commands, m.command, m.command_bytes);
        if (!reply || publisher_reply(a->publisher, reply) < 0)
            log_warning("command: a reply is lost");
        free(reply);
        free(m.command);
    }
}

static char *answer(void *context, const char *line, size_t bytes)
{
    struct agent *a = context;
    return command_run(&a->commands, line, bytes);
}

/* ---- time ---- */

static void renew_status(struct agent *a, int64_t mono)
{
    if (!a->publisher || (!a->status_dirty && mono - a->status_at < STATUS_MS))
        return;
    char *text = status_text(a, "online");
    if (text)
        publisher_set(a->publisher, PUBLISHER_STATUS, text);
    free(text);
    a->status_dirty = 0;
    a->status_at = mono;
}

static int all_ended(const struct agent *a)
{
    for (size_t i = 0; i < a->meter_count; i++)
        if (!a->meters[i].ended)
            return 0;
    return 1;
}

/* The disk refuses, or works again; SQLite found damage in a file that was sound when it was
 * opened.
 */
static void check_store(struct agent *a, int64_t mono)
{
    struct journal_stats j;
    struct publisher_stats p = {.damaged = 0};
    journal_get_stats(a->journal, &j);
    if (a->publisher)
        publisher_get_stats(a->publisher, &p);
    if (a->epoch_due && a->store && agent_begin_epoch(a) == 0 && !a->epoch_due)
        a->status_dirty = 1;
    wear_tick(&a->wear, mono, j.committed, p.acknowledged);
    a->status_dirty |= (j.waiting > 0) != a->told_waiting;
    a->told_waiting = j.waiting > 0;
    if ((!j.damaged && !p.damaged && a->store) || mono < a->reopen_at)
        return;
    a->reopen_at = mono + REOPEN_MS;
    a->exit_code = agent_reopen(a);
    a->stop |= a->exit_code != 0;
}

/* With exit_when_done: is everything read, stored and acknowledged? */
static void check_done(struct agent *a, int64_t mono)
{
    struct publisher_stats s = {.drained = 1};
    struct journal_stats j;
    if (!a->options->exit_when_done || !all_ended(a))
        return;
    if (a->done_since == 0)
        a->done_since = mono;
    journal_get_stats(a->journal, &j);
    if (a->publisher)
        publisher_get_stats(a->publisher, &s);
    if (j.waiting == 0 && s.drained) {
        log_info("all sources ended%s: done",
                 a->publisher ? " and all events are acknowledged" : "");
        a->stop = 1;
    } else if (mono - a->done_since >= a->options->drain_timeout_ms) {
        log_error("gave up draining: %" PRIu64 " outcomes not stored, broker: %s", j.waiting,
                  s.state);
        a->exit_code = AGENT_TIMED_OUT;
        a->stop = 1;
    }
}

/* What waits is written, and every ten minutes what there is. */
static void save_machine(struct agent *a, struct agent_meter *m, int64_t mono)
{
    if (!m->machine || (machine_waits(m->machine) == 0 && machine_changes(m->machine) == 0 &&
                        mono < m->machine_at))
        return;
    if (store_machine(a, m) == 0)
        m->machine_at = mono + MACHINE_MS;
}

/* How long after midnight the runs of a day are in the store: detection's own delay and the longest
 * pauses that are bridged. */
static int64_t settle_time(const struct agent_meter *m)
{
    const struct meter_config *c = &m->config->meter;
    const int64_t margin = m->config->meter.mains ? MAINS_SETTLE_MS : SETTLE_MS;
    struct mains *mains = meter_mains(m->meter);
    return margin + c->min_on_ms + c->min_off_ms + c->max_gap_ms +
           (mains ? mains_delay_ms(mains) : 0);
}

/* The time that has come for a meter: of its readings, or the clock's; 0: not known. */
static int64_t meter_time(const struct agent *a, const struct agent_meter *m)
{
    if (m->config->source.type == SOURCE_STDIN && !m->sender_time)
        return a->wall.known ? wall_now_ms(&a->wall) : 0;
    return m->last_ms;
}

/* Summaries of days that are over. What the meter and its machine know goes into the store before.
 */
static void tick_summary(struct agent *a, struct agent_meter *m, int64_t mono)
{
    struct journal_stats j;
    const int64_t now = m->meter ? meter_time(a, m) : 0;
    if (!a->config->daily_summary || !a->store || a->epoch_due || now <= 0 || now < m->summary_at ||
        mono < m->summary_mono)
        return;
    m->summary_mono = mono + RETRY_MS; /* unless it works */
    meter_checkpoint(m->meter);
    journal_get_stats(a->journal, &j);
    if (j.waiting > 0 || (m->machine && store_machine(a, m) < 0))
        return; /* the disk refuses */
    const int told = summary_run(a->store, a->config, m->config->meter.name, now, settle_time(m),
                                 agent_time_quality(a, m), &m->summary_at);
    if (told < 0)
        log_warning("meter %s: summary: %s", m->config->meter.name, store_error(a->store));
    else
        m->summary_mono = 0;
    if (told <= 0)
        return;
    a->status_dirty = 1;
    if (a->publisher)
        publisher_wake(a->publisher);
}

static void tick_records(struct agent *a, int64_t mono)
{
    int failing = 0;
    for (size_t i = 0; i < a->meter_count; i++) {
        struct record_stats s;
        if (!a->meters[i].record)
            continue;
        record_tick(a->meters[i].record, mono);
        record_get_stats(a->meters[i].record, &s);
        failing += s.failing;
    }
    a->status_dirty |= failing != a->told_failing;
    a->told_failing = failing;
}

static void tick(struct agent *a, int64_t mono)
{
    if (a->watchdog_ms > 0 && mono >= a->watchdog_at) {
        notify_send("WATCHDOG=1");
        a->watchdog_at = mono + a->watchdog_ms;
    }
    if (mono < a->tick_at)
        return;
    a->tick_at = mono + TICK_MS;
    journal_flush(a->journal);
    journal_wake_alerts(a->journal);
    check_store(a, mono);
    agent_keep_time(a);
    upkeep_tick(&a->upkeep, a);
    for (size_t i = 0; i < a->meter_count; i++) {
        tick_meter(&a->meters[i], mono);
        save_machine(a, &a->meters[i], mono);
        tick_summary(a, &a->meters[i], mono);
    }
    tick_records(a, mono);
    renew_status(a, mono);
    check_done(a, mono);
}

/* ---- the loop ---- */

/* Fills the poll set; returns its size. *wait: how long to poll. */
static int prepare(struct agent *a, struct pollfd *fds, int *control_at, int *control_count,
                   int *wait)
{
    const int64_t mono = agent_monotonic_ms();
    int64_t next = a->tick_at;
    int n = 0;
    if (a->watchdog_ms > 0 && a->watchdog_at < next)
        next = a->watchdog_at;
    fds[n++] = (struct pollfd){.fd = a->signal_fd, .events = POLLIN};
    fds[n++] = (struct pollfd){.fd = a->event_fd, .events = POLLIN};
    *control_at = n;
    *control_count = a->control ? control_fds(a->control, fds + n) : 0;
    n += *control_count;
    for (size_t i = 0; i < a->meter_count; i++) {
        struct agent_meter *m = &a->meters[i];
        m->poll_index = -1;
        if (m->ended || !may_read(a))
            continue;
        const int fd = source_fd(m->source);
        const int64_t due = m->more ? mono : source_due(m->source);
        if (due < next)
            next = due;
        if (fd >= 0) {
            m->poll_index = n;
            fds[n++] = (struct pollfd){.fd = fd, .events = POLLIN};
        }
    }
    *wait = next > mono ? (int)(next - mono) : 0;
    return n;
}

int agent_run(struct agent *a)
{
    struct pollfd fds[FDS];
    a->tick_at = agent_monotonic_ms();
    a->watchdog_ms = notify_watchdog_ms();
    a->status_dirty = 1;
    notify_send("READY=1");
    while (!a->stop) {
        int control_at = 0, control_count = 0, wait = 0;
        const int n = prepare(a, fds, &control_at, &control_count, &wait);
        if (poll(fds, (nfds_t)n, wait) < 0 && errno != EINTR) {
            log_error("poll: %s", strerror(errno));
            return AGENT_RETRY;
        }
        const int64_t mono = agent_monotonic_ms();
        if (fds[0].revents)
            take_signals(a);
        if (fds[1].revents)
            take_messages(a);
        if (a->control)
            control_handle(a->control, fds + control_at, control_count, mono, answer, a);
        for (size_t i = 0; i < a->meter_count && may_read(a); i++)
            if (is_due(&a->meters[i], fds, mono))
                read_meter(a, &a->meters[i]);
        tick(a, mono);
    }
    notify_send("STOPPING=1");
    return a->exit_code;
}
