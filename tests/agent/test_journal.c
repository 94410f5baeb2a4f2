/* test_journal.c - one transaction per outcome: nothing half-written by a kill, nothing lost while
 * the disk refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/journal.h"
#include "agent/lib_folder.h"
#include "storage/history.h"
#include "storage/outbox.h"

#define T0 1700000000000LL

static char why[320];
static int woken;

static void wake(void *context)
{
    (void)context;
    woken++;
}

struct world {
    struct store *store;
    struct journal *journal;
};

static struct world open_world(void **state)
{
    struct world w;
    int64_t epoch;
    assert_int_equal(store_open(folder_path(state, "nilmd.db"), &w.store, NULL, why, sizeof why),
                     0);
    assert_int_equal(outbox_start(w.store, 1790000000, &epoch), 0);
    assert_int_equal(journal_create(w.store, wake, NULL, &w.journal), 0);
    return w;
}

static void close_world(struct world *w)
{
    journal_destroy(w->journal);
    store_close(w->store);
}

/* Run number k of a meter: on at T0 + 100 k s, off 50 s later; the off-event comes with alert,
 * routine, progress and state. */
static struct outcome make_on(const char *meter, int k)
{
    struct outcome o = {.meter = meter, .progress_ms = T0 + k * 100000LL, .event_count = 1};
    o.events[0] = (struct event){.type = EVENT_ON,
                                 .time_ms = o.progress_ms,
                                 .start_ms = o.progress_ms,
                                 .quality = EVENT_CLOCK,
                                 .power_w = 100};
    return o;
}

static struct outcome make_off(const char *meter, int k, int64_t *state)
{
    struct outcome o = make_on(meter, k);
    struct event *e = &o.events[0];
    e->type = EVENT_OFF;
    snprintf(e->appliance, sizeof e->appliance, "Iron");
    o.progress_ms = e->time_ms = e->end_ms = e->start_ms + 50000;
    e->energy_wh = k;
    o.alert_count = 1;
    o.alerts[0] = (struct alert){
        .alert = "left_on", .severity = ALERT_WARNING, .alert_id = "x", .quality = EVENT_CLOCK};
    o.has_routine = 1;
    snprintf(o.routine.meter, sizeof o.routine.meter, "%s", meter);
    snprintf(o.routine.appliance, sizeof o.routine.appliance, "Iron");
    o.routine.runs = (uint64_t)k + 1;
    *state = k;
    o.state = state;
    o.state_bytes = sizeof *state;
    return o;
}

static int commit(struct world *w, const struct outcome *o)
{
    const struct outcome_sink sink = journal_sink(w->journal);
    return sink.commit(sink.context, o);
}

static int count_runs(void *context, const struct history_run *run)
{
    (void)run;
    ++*(int *)context;
    return 0;
}

/* What is stored must be the result of a whole number of outcomes. Returns how many (two a run). */
static int check_consistent(void **state, const char *meter)
{
    struct store *s;
    struct outbox_stats stats;
    struct history_run run;
    struct routine routine;
    int64_t progress = 0, blob = -1;
    int runs = 0;
    assert_int_equal(store_open(folder_path(state, "nilmd.db"), &s, NULL, why, sizeof why), 0);
    assert_int_equal(outbox_statistics(s, &stats), 0);
    assert_true(history_list(s, 0, INT64_MAX, meter, NULL, 1000000, count_runs, &runs) >= 0);
    const int open = history_current(s, meter, &run) == 0;
    const int done = runs * 2 - open;
    assert_int_equal(stats.events, done);
    assert_int_equal(stats.alerts, done / 2);
    assert_int_equal(stats.next_seq, (uint64_t)(done + done / 2) + 1);
    if (done > 0) {
        assert_int_equal(history_progress(s, meter, &progress), 0);
        assert_int_equal(progress, T0 + (runs - 1) * 100000LL + (open ? 0 : 50000));
    }
    if (done > 1) {
        assert_int_equal(routine_get(s, meter, "Iron", &routine), 0);
        assert_int_equal(routine.runs, done / 2);
        assert_int_equal(history_state(s, meter, &blob, sizeof blob), sizeof blob);
        assert_int_equal(blob, done / 2 - 1);
    }
    store_close(s);
    return done;
}

static void a_name_takes_the_row_of_the_unknown(void **state)
{
    struct world w = open_world(state);
    struct routine routine;
    struct store *s;
    int64_t blob;
    for (int k = 0; k < 2; k++) {
        struct outcome o = make_on("m", k);
        assert_int_equal(commit(&w, &o), 0);
        o = make_off("m", k, &blob);
        snprintf(o.routine.appliance, sizeof o.routine.appliance, "%s", k ? "Iron" : "unknown");
        snprintf(o.routine_was, sizeof o.routine_was, "%s", k ? "unknown" : "");
        assert_int_equal(commit(&w, &o), 0);
    }
    close_world(&w);
    assert_int_equal(store_open(folder_path(state, "nilmd.db"), &s, NULL, why, sizeof why), 0);
    assert_int_equal(routine_get(s, "m", "unknown", &routine), -ENOENT);
    assert_int_equal(routine_get(s, "m", "Iron", &routine), 0);
    assert_int_equal(routine.runs, 2);
    store_close(s);
}

static void an_outcome_is_stored_whole(void **state)
{
    struct world w = open_world(state);
    struct journal_stats stats;
    int64_t blob;
    woken = 0;
    struct outcome o = make_on("m", 0);
    assert_int_equal(commit(&w, &o), 0);
    assert_int_equal(woken, 1);
    o = make_off("m", 0, &blob);
    assert_int_equal(commit(&w, &o), 0);
    struct outcome quiet = {.meter = "m", .progress_ms = T0 + 50000};
    assert_int_equal(commit(&w, &quiet), 0);
    assert_int_equal(woken, 2); /* nothing to publish in the third */
    journal_get_stats(w.journal, &stats);
    assert_int_equal(stats.committed, 3);
    assert_int_equal(stats.waiting + stats.lost + stats.failures, 0);
    o.meter = "";
    assert_int_equal(commit(&w, &o), -EINVAL);
    close_world(&w);
    assert_int_equal(check_consistent(state, "m"), 2);
}

static void runs_keep_their_number(void **state)
{
    static char buffer[32768];
    struct outbox_item items[8];
    struct world w = open_world(state);
    struct history_run run;
    int64_t blob;
    struct outcome o = make_on("m", 0);
    assert_int_equal(commit(&w, &o), 0);
    o.events[0].type = EVENT_IDENTIFIED;
    snprintf(o.events[0].appliance, sizeof o.events[0].appliance, "Iron");
    o.events[0].confidence = 0.9;
    assert_int_equal(commit(&w, &o), 0);
    assert_int_equal(history_current(w.store, "m", &run), 0);
    assert_string_equal(run.appliance, "Iron");
    assert_int_equal(run.end_ms, 0);
    o = make_off("m", 0, &blob);
    assert_int_equal(commit(&w, &o), 0);
    assert_int_equal(history_current(w.store, "m", &run), -ENOENT);
    o = make_on("m", 1);
    assert_int_equal(commit(&w, &o), 0);
    assert_int_equal(outbox_fetch(w.store, 1, 0, items, 8, buffer, sizeof buffer), 4);
    for (int i = 0; i < 3; i++)
        assert_non_null(strstr(items[i].body, "\"run\":1,"));
    assert_non_null(strstr(items[3].body, "\"run\":2,"));
    /* An on-event while a run is open (its off-event was lost) closes that run. */
    o = make_on("m", 2);
    assert_int_equal(commit(&w, &o), 0);
    assert_int_equal(history_current(w.store, "m", &run), 0);
    assert_int_equal(run.start_ms, T0 + 200000);
    int runs = 0;
    history_list(w.store, 0, INT64_MAX, "m", NULL, 10, count_runs, &runs);
    assert_int_equal(runs, 3);
    close_world(&w);
}

/* A child commits for ever and is killed at any moment, twenty times on one database. */
static void a_kill_leaves_whole_outcomes(void **state)
{
    int done = 0;
    srand(1);
    for (int life = 0; life < 20; life++) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            struct world w = open_world(state);
            for (int i = done;; i++) {
                int64_t blob;
                struct outcome o = i % 2 ? make_off("m", i / 2, &blob) : make_on("m", i / 2);
                if (commit(&w, &o) != 0)
                    _exit(1);
            }
        }
        const struct timespec t = {0, 1000000L * (5 + rand() % 60)};
        nanosleep(&t, NULL);
        kill(child, SIGKILL);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        const int now = check_consistent(state, "m");
        assert_true(now >= done);
        done = now;
    }
    assert_true(done > 0);
}

/* A limit on the size of files stands for a full disk: writing fails in the middle of a
 * transaction. */
static void set_disk(rlim_t bytes)
{
    const struct rlimit limit = {bytes, RLIM_INFINITY};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void a_full_disk_delays_but_loses_nothing(void **state)
{
    struct world w = open_world(state);
    struct journal_stats stats;
    int64_t blob;
    struct outcome o = make_on("m", 0);
    assert_int_equal(commit(&w, &o), 0);
    o = make_off("m", 0, &blob);
    assert_int_equal(commit(&w, &o), 0);
    set_disk(4096);
    for (int i = 2; i < 100; i++) {
        o = i % 2 ? make_off("m", i / 2, &blob) : make_on("m", i / 2);
        assert_int_equal(commit(&w, &o), 0);
    }
    struct outcome quiet = {.meter = "m", .progress_ms = T0 + 49 * 100000LL + 50000};
    for (int i = 0; i < 1000; i++)
        assert_int_equal(commit(&w, &quiet), 0); /* joins what waits */
    assert_int_equal(journal_flush(w.journal), 98);
    struct routine routine; /* what waits is known already */
    const struct meter_memory memory = journal_memory(w.journal);
    assert_int_equal(memory.routine(memory.context, "m", "Iron", &routine), 0);
    assert_int_equal(routine.runs, 50);
    assert_false(journal_full(w.journal));
    set_disk(RLIM_INFINITY);
    assert_int_equal(journal_flush(w.journal), 0);
    journal_get_stats(w.journal, &stats);
    assert_int_equal(stats.lost, 0);
    assert_true(stats.failures > 0);
    close_world(&w);
    assert_int_equal(check_consistent(state, "m"), 100);
}

static void the_queue_is_bounded_and_a_loss_declared(void **state)
{
    static char buffer[32768];
    struct outbox_item items[4];
    struct world w = open_world(state);
    struct journal_stats stats;
    set_disk(4096);
    for (int i = 0; i < JOURNAL_QUEUE; i++) {
        struct outcome o = make_on("m", i);
        assert_int_equal(commit(&w, &o), 0);
    }
    assert_true(journal_full(w.journal));
    assert_int_equal(journal_report(w.journal, "{\"report\":\"model\"}", T0), 0);
    for (int i = 0; i < 9; i++) {
        struct outcome o = make_on("n", i);
        assert_int_equal(commit(&w, &o), 0);
    }
    journal_get_stats(w.journal, &stats);
    assert_int_equal(stats.waiting, JOURNAL_QUEUE);
    assert_int_equal(stats.lost, 10);
    set_disk(RLIM_INFINITY);
    assert_int_equal(journal_flush(w.journal), 0);
    assert_int_equal(outbox_fetch(w.store, 2, 0, items, 4, buffer, sizeof buffer), 1);
    assert_string_equal(items[0].channel, "_agent");
    assert_non_null(strstr(items[0].body, "\"alert\":\"events_lost\""));
    assert_non_null(strstr(items[0].body, "\"value\":10,"));
    /* lost elsewhere: declared once */
    journal_lost(w.journal, 3);
    assert_int_equal(journal_flush(w.journal), 0);
    assert_int_equal(journal_flush(w.journal), 0);
    assert_int_equal(outbox_fetch(w.store, 2, 0, items, 4, buffer, sizeof buffer), 2);
    assert_non_null(strstr(items[1].body, "\"value\":3,"));
    struct outbox_stats o;
    assert_int_equal(outbox_statistics(w.store, &o), 0);
    assert_int_equal(o.reports, 1);
    assert_int_equal(o.events, JOURNAL_QUEUE - 1);
    close_world(&w);
}

/* Damage under a running agent: what comes waits, the journal says so, and opening anew sets the
 * file aside. The database is larger than what opening reads. */
static void damage_at_run_time_is_noticed(void **state)
{
    static char body[8000];
    struct world w = open_world(state);
    struct journal_stats stats;
    struct store_report report;
    int64_t blob;
    memset(body, ' ', sizeof body - 1);
    body[0] = '{';
    body[sizeof body - 2] = '}';
    assert_int_equal(store_begin(w.store), 0);
    for (int i = 0; i < 2000; i++) {
        struct outbox_item item = {
            .kind = OUTBOX_REPORT, .created_ms = T0, .body = body, .body_bytes = sizeof body - 1};
        uint64_t seq;
        assert_int_equal(outbox_append(w.store, &item, &seq), 0);
    }
    assert_int_equal(store_commit(w.store), 0);
    close_world(&w);
    w = open_world(state);
    FILE *f = fopen(folder_path(state, "nilmd.db"), "r+b");
    memset(body, 0x5a, sizeof body);
    fseek(f, 0, SEEK_END);
    for (long at = 4096 * 20, end = ftell(f); at < end; at += 4096) {
        fseek(f, at, SEEK_SET);
        fwrite(body, 1, 4096, f);
    }
    fclose(f);
    for (int i = 0; i < 4; i++) {
        struct outcome o = i % 2 ? make_off("m", i / 2, &blob) : make_on("m", i / 2);
        assert_int_equal(commit(&w, &o), 0);
    }
    journal_get_stats(w.journal, &stats);
    assert_true(stats.damaged);
    assert_int_equal(stats.waiting, 4);
    close_world(&w);
    assert_int_equal(store_open(folder_path(state, "nilmd.db"), &w.store, &report, why, sizeof why),
                     0);
    assert_true(report.set_aside[0] != '\0');
    store_close(w.store);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, folder_setup, folder_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_name_takes_the_row_of_the_unknown),
        TEST(an_outcome_is_stored_whole),
        TEST(runs_keep_their_number),
        TEST(a_kill_leaves_whole_outcomes),
        TEST(a_full_disk_delays_but_loses_nothing),
        TEST(the_queue_is_bounded_and_a_loss_declared),
        TEST(damage_at_run_time_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
