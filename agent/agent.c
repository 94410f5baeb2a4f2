#include "agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/log.h"
#include "agent/mains.h"
#include "agent/status.h"
#include "storage/outbox.h"
#include "storage/routine.h"

#define PATH_BYTES (CONFIG_TEXT + 32)

int64_t agent_monotonic_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- data folder ---- */

/* Makes the folder and those above it. */
static int make_folder(const char *path)
{
    char part[CONFIG_TEXT];
    snprintf(part, sizeof part, "%s", path);
    for (char *p = part + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        if (mkdir(part, 0755) < 0 && errno != EEXIST)
            return -errno;
        *p = '/';
    }
    return mkdir(part, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

/* Two agents on one folder would both resume the same runs. The lock goes with the process, however
 * it ends. */
static int lock_folder(struct agent *a)
{
    char path[PATH_BYTES], text[32] = "";
    snprintf(path, sizeof path, "%s/nilmd.lock", a->config->data_dir);
    a->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (a->lock_fd < 0) {
        log_error("%s: %s", path, strerror(errno));
        return AGENT_FAILED;
    }
    if (flock(a->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        const ssize_t n = pread(a->lock_fd, text, sizeof text - 1, 0);
        text[n > 0 ? n : 0] = '\0';
        text[strcspn(text, "\n")] = '\0';
        log_error("%s: another nilmd (process %s) uses this folder", path,
                  text[0] ? text : "unknown");
        return AGENT_FAILED;
    }
    const int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(a->lock_fd, 0) < 0 || pwrite(a->lock_fd, text, (size_t)n, 0) != n)
        log_warning("%s: %s", path, strerror(errno)); /* the number is for people; the lock holds */
    return 0;
}

static int open_folder(struct agent *a)
{
    const int rc = make_folder(a->config->data_dir);
    if (rc < 0) {
        log_error("%s: cannot be made: %s", a->config->data_dir, strerror(-rc));
        return rc == -ENOSPC ? AGENT_RETRY : AGENT_FAILED;
    }
    return lock_folder(a);
}

/* ---- store ---- */

/* Also for a replacement at an earlier start that ended before it was told. */
static void tell_replaced(struct agent *a, const struct store_report *report)
{
    struct alert alert = {
        .alert = "store_replaced", .severity = ALERT_CRITICAL, .quality = wall_quality(&a->wall)};
    if (!report->replaced)
        return;
    alert.time_ms = alert.since_ms = wall_now_ms(&a->wall);
    snprintf(alert.alert_id, sizeof alert.alert_id, "store_replaced-%" PRId64, alert.time_ms);
    snprintf(alert.expected, sizeof alert.expected, "a readable database");
    snprintf(alert.seen, sizeof alert.seen,
             "set aside; salvaged: %" PRIu64 " waiting items, %" PRIu64 " rows; lost: %" PRIu64
             " items; unreadable places: %" PRIu64,
             report->salvaged_items, report->salvaged_rows, report->lost_items, report->bad);
    alert.value = (double)report->lost_items;
    if (report->set_aside[0])
        log_error("store: %s was set aside as %s: %s", a->database, report->set_aside,
                  report->reason);
    log_error("store: %s", alert.seen);
    if (journal_alert(a->journal, &alert) == 0 && journal_flush(a->journal) == 0)
        store_told(a->store);
}

static void wake(void *context)
{
    struct agent *a = context;
    a->status_dirty = 1;
    if (a->publisher)
        publisher_wake(a->publisher);
}

/* Begins a boot epoch. On a full disk that is for later: until then what is detected waits in
 * memory, as it does when the disk fills up under a running agent. */
int agent_begin_epoch(struct agent *a)
{
    const int rc = outbox_start(a->store, (int64_t)time(NULL), &a->epoch);
    a->epoch_due = rc == -ENOSPC || rc == -EROFS || rc == -EIO || rc == -EBUSY;
    if (rc < 0)
        log_error("store: %s: %s%s", a->database, store_error(a->store),
                  a->epoch_due ? "; what is detected waits in memory" : "");
    if (a->journal)
        journal_hold(a->journal, a->epoch_due);
    return a->epoch_due ? 0 : rc;
}

static int open_database(struct agent *a, struct store_report *report)
{
    char why[512] = "";
    int rc = store_open(a->database, &a->store, report, why, sizeof why);
    if (rc < 0) {
        log_error("store: %s", why);
        return rc == -EPROTO ? AGENT_FAILED : AGENT_RETRY;
    }
    if (agent_begin_epoch(a) < 0)
        return AGENT_RETRY;
    const struct outbox_caps caps = {a->config->outbox_rows, a->config->outbox_bytes,
                                     a->config->outbox_age_ms};
    outbox_limit(a->store, &caps);
    return 0;
}

static int open_store(struct agent *a)
{
    struct store_report report;
    snprintf(a->database, sizeof a->database, "%s/nilmd.db", a->config->data_dir);
    const int rc = open_database(a, &report);
    if (rc != 0)
        return rc;
    agent_start_clock(a);
    if (journal_create(a->store, wake, a, &a->journal) < 0)
        return AGENT_RETRY;
    journal_hold(a->journal, a->epoch_due);
    journal_limit_history(a->journal, a->config->history_runs);
    tell_replaced(a, &report);
    return 0;
}

static int start_publisher(struct agent *a)
{
    int rc = publisher_start(a->config, a->database, a->event_fd, &a->publisher);
    if (rc == 0 && a->reloaded)
        rc = publisher_reload(a->publisher, a->reloaded);
    if (rc == 0)
        agent_keep_time(a);
    if (rc == 0)
        return 0;
    log_error("publisher: %s", strerror(-rc));
    return AGENT_RETRY;
}

void agent_reload(struct agent *a)
{
    char why[512] = "";
    struct config *c = NULL;
    if (config_load(a->options->config_path, &c, why, sizeof why) < 0) {
        log_error("reload: %s; nothing is changed", why);
        return;
    }
    log_set_level(c->log_level);
    log_info("reload: [log] level and [broker] are taken over; anything else needs a restart");
    if (!a->publisher != !c->broker_host[0])
        log_warning("reload: whether there is a broker at all needs a restart");
    else if (a->publisher && publisher_reload(a->publisher, c) < 0)
        log_error("reload: out of memory");
    config_free(a->reloaded);
    a->reloaded = c;
}

int agent_reopen(struct agent *a)
{
    struct store_report report;
    if (a->store)
        log_error("store: %s is damaged; opening it anew", a->database);
    publisher_stop(a->publisher, NULL);
    a->publisher = NULL;
    store_close(a->store);
    a->store = NULL;
    int rc = open_database(a, &report);
    if (rc != 0) {
        store_close(a->store);
        a->store = NULL;
    }
    journal_use_store(a->journal, a->store);
    for (size_t i = 0; i < a->meter_count; i++)
        if (a->meters[i].place)
            place_live_use_store(a->meters[i].place, a->store);
    a->status_dirty = 1;
    if (rc == AGENT_RETRY) { /* no room for the new one: the meters go on, see check_store */
        log_error("store: none; what is detected waits in memory");
        return 0;
    }
    if (rc == 0 && (a->reloaded ? a->reloaded : a->config)->broker_host[0])
        rc = start_publisher(a);
    if (rc != 0)
        return rc;
    updater_use_store(a->mains_updater, a->store);
    updater_use_store(a->updater, a->store);
    upkeep_start(&a->upkeep, a->store);
    wall_use_store(&a->wall, a->store);
    tell_replaced(a, &report);
    journal_flush(a->journal);
    return 0;
}

/* ---- model ---- */

struct updater *agent_updater(const struct agent *a, int mains)
{
    return mains ? a->mains_updater : a->updater;
}

static int has_kind(const struct agent *a, int mains)
{
    for (size_t i = 0; i < a->config->meter_count; i++)
        if (a->config->meters[i].meter.mains == mains)
            return 1;
    return 0;
}

struct updater *agent_main_updater(const struct agent *a)
{
    return agent_updater(a, !has_kind(a, 0));
}

int agent_has_both(const struct agent *a)
{
    return has_kind(a, 0) && has_kind(a, 1);
}

struct updater *agent_family_updater(const struct agent *a, const char *family)
{
    if (!family)
        return agent_main_updater(a);
    for (int mains = 0; mains < 2; mains++)
        if (has_kind(a, mains) && strcmp(updater_family(agent_updater(a, mains)), family) == 0)
            return agent_updater(a, mains);
    return NULL;
}

/* Gives an engine to every meter of a kind: all, or none and -ENOMEM. */
static int swap(struct agent *a, int mains, const struct engine *engine)
{
    const struct engine *old = updater_engine(agent_updater(a, mains));
    for (size_t i = 0; i < a->meter_count; i++) {
        const struct agent_meter *m = &a->meters[i];
        if (!m->meter || m->config->meter.mains != mains || meter_set_engine(m->meter, engine) == 0)
            continue;
        while (i-- > 0) {
            m = &a->meters[i];
            if (m->meter && m->config->meter.mains == mains && meter_set_engine(m->meter, old) < 0)
                /* Neither engine fits into memory: without one the meter goes on, as unknown. */
                meter_set_engine(m->meter, NULL);
        }
        return -ENOMEM;
    }
    a->status_dirty = 1;
    return 0;
}

static int swap_circuits(void *context, const struct engine *engine)
{
    return swap(context, 0, engine);
}

static int swap_mains(void *context, const struct engine *engine)
{
    return swap(context, 1, engine);
}

static void announce(void *context, const char *state)
{
    struct agent *a = context;
    if (a->publisher)
        publisher_set(a->publisher, PUBLISHER_MODEL, state);
}

static int open_models(struct agent *a)
{
    static char dirs[2][PATH_BYTES]; /* outlive the updaters */
    char why[320] = "";
    for (int mains = 0; mains < 2; mains++) {
        snprintf(dirs[mains], sizeof dirs[mains], "%s/models%s", a->config->data_dir,
                 mains ? "/mains" : "");
        const struct updater_config config = {.device = a->config->device,
                                              .slots_dir = dirs[mains],
                                              .model_file = mains ? a->config->mains_file
                                                                  : a->config->model_file,
                                              .keys = a->config->model_keys,
                                              .store = a->store,
                                              .journal = a->journal,
                                              .context = a,
                                              .swap = mains ? swap_mains : swap_circuits,
                                              .announce = announce,
                                              .mains = mains};
        if (updater_create(&config, mains ? &a->mains_updater : &a->updater, why, sizeof why) < 0) {
            log_error("model: %s", why);
            return AGENT_RETRY;
        }
    }
    return 0;
}

/* Only kinds that there are meters of; the retained state is then the main one's. */
static void start_models(struct agent *a)
{
    if (has_kind(a, 1))
        updater_start(a->mains_updater);
    if (has_kind(a, 0))
        updater_start(a->updater);
}

/* ---- meters ---- */

static void tell_source_failed(struct agent *a, const struct agent_meter *m)
{
    struct alert alert = {
        .alert = "source_failed", .severity = ALERT_CRITICAL, .quality = wall_quality(&a->wall)};
    alert.time_ms = alert.since_ms = wall_now_ms(&a->wall);
    snprintf(alert.alert_id, sizeof alert.alert_id, "source_failed-%" PRId64, alert.time_ms);
    snprintf(alert.expected, sizeof alert.expected, "readings for meter %.60s",
             m->config->meter.name);
    snprintf(alert.seen, sizeof alert.seen, "%.120s", m->failure);
    log_error("meter %s: %s", m->config->meter.name, m->failure);
    journal_alert(a->journal, &alert);
}

static void open_machine(struct agent *a, struct agent_meter *m, const struct config_meter *config)
{
    unsigned char saved[MACHINES_STATE_BYTES];
    if (config->machine.mode == MACHINE_NONE)
        return;
    const int bytes = machines_get_state(a->store, config->meter.name, saved, sizeof saved);
    if (machine_create(&config->machine, saved, bytes < 0 ? 0 : bytes, &m->machine) < 0)
        log_error("meter %s: states: out of memory", config->meter.name);
}

static int open_meter(struct agent *a, struct agent_meter *m, const struct config_meter *config)
{
    const struct outcome_sink sink = journal_sink(a->journal);
    const struct meter_memory memory = journal_memory(a->journal);
    struct meter_config settings = config->meter;
    int64_t progress = INT64_MIN;
    m->config = config;
    if (meter_create(&settings, updater_engine(agent_updater(a, settings.mains)), &sink, &memory,
                     a->shared, &m->meter) < 0) {
        snprintf(m->failure, sizeof m->failure, "out of memory");
        return -ENOMEM;
    }
    agent_set_meter_clock(a, m);
    int rc = journal_restore(a->journal, settings.name, m->meter, &progress);
    if (rc < 0)
        log_error("meter %s: what it knew cannot be read: %s", settings.name,
                  store_error(a->store));
    open_machine(a, m, config);
    const struct record_config record = {.folder = config->record,
                                         .meter = config->meter.name,
                                         .days = config->record_days,
                                         .reserve_bytes = RECORD_RESERVE,
                                         .live = settings.quality == EVENT_CLOCK};
    if (config->record[0] && record_create(&record, &m->record) < 0)
        log_error("meter %s: recording: out of memory", settings.name);
    struct mains *mains = meter_mains(m->meter);
    if ((config->teach || mains) &&
        (place_live_create(a->store, settings.name, settings.quality, &sink, &m->place) < 0 ||
         (mains && mains_set_house(mains, place_live_house(m->place)) < 0)))
        log_error("meter %s: what was taught: out of memory", settings.name);
    rc = source_create(&config->source, &m->source, m->failure, sizeof m->failure);
    if (rc < 0)
        return rc;
    if (progress != INT64_MIN)
        source_resume(m->source, progress);
    return 0;
}

static int open_meters(struct agent *a)
{
    size_t usable = 0;
    a->meters = calloc(a->config->meter_count, sizeof *a->meters);
    if (!a->meters || meter_shared_create(&a->shared) < 0)
        return AGENT_RETRY;
    a->meter_count = a->config->meter_count;
    for (size_t i = 0; i < a->meter_count; i++) {
        struct agent_meter *m = &a->meters[i];
        if (open_meter(a, m, &a->config->meters[i]) < 0) {
            m->ended = 1;
            tell_source_failed(a, m);
        } else {
            usable++;
        }
    }
    if (usable == 0)
        log_error(
            "no meter has readings: nothing will be detected until the configuration is mended");
    return 0;
}

/* ---- commands ---- */

static int command_rollback(void *context, const char *family, char *why, size_t why_size)
{
    struct agent *a = context;
    struct updater *u = agent_family_updater(a, family);
    if (u)
        return updater_rollback(u, why, why_size);
    snprintf(why, why_size, "family: no meter of this gateway uses \"%s\"", family);
    return -ENOENT;
}

static int command_forget(void *context, const char *meter, const char *appliance, char *why,
                          size_t why_size)
{
    struct agent *a = context;
    size_t i = 0;
    while (i < a->meter_count && strcmp(a->meters[i].config->meter.name, meter) != 0)
        i++;
    if (i == a->meter_count) {
        snprintf(why, why_size, "meter: there is no meter \"%s\"", meter);
        return -ENOENT;
    }
    if (!a->store) {
        snprintf(why, why_size, "store: there is none now");
        return -EIO;
    }
    const int count = routine_forget(a->store, meter, appliance);
    if (count < 0)
        snprintf(why, why_size, "store: %s", store_error(a->store));
    else
        log_info("command: forgot %d routine(s) of meter %s", count, meter);
    if (count >= 0 && a->meters[i].meter)
        meter_forget(a->meters[i].meter, appliance);
    return count;
}

/* Signed, of this device, and never twice. */
static int command_label(void *context, const struct label_order *order, const char *key_id,
                         const char *signature, char *why, size_t why_size)
{
    struct agent *a = context;
    struct label_order mine = *order;
    const int64_t now = a->wall.known ? wall_now_ms(&a->wall) : 0;
    int runs = 0;
    mine.device = a->config->device;
    if (!a->store) {
        snprintf(why, why_size, "store: there is none now");
        return -EIO;
    }
    if (!a->config->model_keys[0]) {
        snprintf(why, why_size, "label: no key ring is configured ([model] keys)");
        return -ENOKEY;
    }
    int rc = label_verify(&mine, a->config->model_keys, key_id, signature, why, why_size);
    if (rc == 0)
        rc = label_take_time(a->store, &mine, now, why, why_size);
    if (rc == 0)
        rc = label_apply(a->store, &mine, &runs, why, why_size);
    if (rc == 0)
        log_info("command: \"%s\" is %s now, in %d run(s)", mine.what, mine.name, runs);
    return rc < 0 ? rc : runs;
}

static int command_snooze(void *context, const char *alert_id, int64_t for_ms, char *why,
                          size_t why_size)
{
    struct agent *a = context;
    if (!a->store) {
        snprintf(why, why_size, "store: there is none now");
        return -EIO;
    }
    const int rc = journal_snooze(a->journal, alert_id, for_ms ? journal_now_ms() + for_ms : 0);
    if (rc < 0)
        snprintf(why, why_size, "%s", store_error(a->store));
    else
        log_info("command: alert %s is silent for %" PRId64 " s", alert_id, for_ms / 1000);
    return rc;
}

/* ---- all together ---- */

static void open_control(struct agent *a)
{
    char path[PATH_BYTES], why[PATH_BYTES + 128] = "";
    snprintf(path, sizeof path, "%s/nilmd.sock", a->config->data_dir);
    if (control_open(path, &a->control, why, sizeof why) < 0)
        log_error("control socket: %s; nilmctl cannot reach this agent", why);
}

int agent_start(struct agent *a, const struct agent_options *options, const struct config *config,
                int signal_fd)
{
    memset(a, 0, sizeof *a);
    a->options = options;
    a->config = config;
    a->signal_fd = signal_fd;
    a->lock_fd = -1;
    a->commands = (struct command_target){a,
                                          status_command,
                                          status_models,
                                          command_rollback,
                                          command_forget,
                                          command_label,
                                          command_snooze};
    a->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (a->event_fd < 0)
        return AGENT_RETRY;
    int rc = open_folder(a);
    if (rc == 0)
        rc = open_store(a);
    if (rc == 0)
        upkeep_start(&a->upkeep, a->store);
    if (rc == 0)
        rc = open_models(a);
    if (rc != 0)
        return rc;
    if (config->broker_host[0]) {
        rc = start_publisher(a);
        if (rc != 0)
            return rc;
    } else {
        log_warning("broker: none is configured ([broker] url); events are stored, not published");
    }
    start_models(a);
    rc = open_meters(a);
    if (rc == 0)
        open_control(a);
    return rc;
}

void agent_stop(struct agent *a)
{
    char *last = a->updater && a->meters && a->store ? status_text(a, "stopped") : NULL;
    control_close(a->control);
    for (size_t i = 0; i < a->meter_count; i++) {
        source_destroy(a->meters[i].source);
        meter_destroy(a->meters[i].meter);
        record_destroy(a->meters[i].record);
        place_live_destroy(a->meters[i].place);
        if (a->meters[i].machine && a->store)
            machine_save(a->meters[i].machine, a->store, agent_time_quality(a, &a->meters[i]));
        machine_destroy(a->meters[i].machine);
    }
    meter_shared_destroy(a->shared);
    journal_destroy(a->journal);
    a->journal = NULL;
    publisher_stop(a->publisher, last);
    if (a->store)
        wall_stop(&a->wall, a->store);
    a->publisher = NULL;
    updater_destroy(a->updater);
    updater_destroy(a->mains_updater);
    store_close(a->store);
    free(a->meters);
    config_free(a->reloaded);
    free(last);
    if (a->event_fd >= 0)
        close(a->event_fd);
    if (a->lock_fd >= 0)
        close(a->lock_fd);
}
