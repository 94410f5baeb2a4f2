/* test_journal_fail.c - the i-th allocation, or change of a file, fails under the journal, for i =
 * 0, 1, 2, ... until none does: what commit took is stored in the end, once and whole.
 *
 * NILM_FAULT_STEP: look at every so many-th (5; 1 is all, and so is any NILM_FAULT_ROUNDS). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/journal.h"
#include "agent/lib_folder.h"
#include "agent/payload.h"
#include "lib/fault.h"
#include "storage/history.h"
#include "storage/outbox.h"

#define T0 1700000000000LL
#define OUTCOMES 10

enum what { ALLOCATION, FILES };

struct life {
    struct store *store;
    struct journal *journal;
    int taken, refused, reports;
};

static void make(struct outcome *o, int k)
{
    memset(o, 0, sizeof *o);
    o->meter = "m";
    o->progress_ms = T0 + k * 1000;
    o->event_count = 1;
    o->events[0] = (struct event){.type = k % 2 ? EVENT_OFF : EVENT_ON,
                                  .time_ms = o->progress_ms,
                                  .start_ms = T0 + (k - k % 2) * 1000,
                                  .end_ms = k % 2 ? o->progress_ms : 0,
                                  .quality = EVENT_CLOCK};
    snprintf(o->events[0].appliance, sizeof o->events[0].appliance, "Iron");
    o->alert_count = k % 2;
    o->alerts[0] = (struct alert){
        .alert = "left_on", .severity = ALERT_WARNING, .alert_id = "x", .quality = EVENT_CLOCK};
    o->has_routine = k % 2;
    o->routine.runs = (uint64_t)k;
    snprintf(o->routine.meter, sizeof o->routine.meter, "m");
    snprintf(o->routine.appliance, sizeof o->routine.appliance, "Iron");
    o->state = "belief";
    o->state_bytes = 6;
}

/* Failures may come at any time from here on. */
static void live(struct life *l)
{
    const struct outcome_sink sink = journal_sink(l->journal);
    for (int k = 0; k < OUTCOMES; k++) {
        struct outcome o;
        make(&o, k);
        if (sink.commit(sink.context, &o) == 0)
            l->taken++;
        else
            l->refused++;
        if (k % 4 == 3)
            l->reports += journal_report(l->journal, "{\"report\":\"model\"}", T0) == 0;
        if (k % 3 == 2)
            journal_flush(l->journal);
    }
}

static void check(struct life *l, int64_t at)
{
    struct journal_stats j;
    struct outbox_stats o;
    int64_t progress = 0;
    assert_int_equal(journal_flush(l->journal), 0);
    journal_get_stats(l->journal, &j);
    assert_int_equal(outbox_statistics(l->store, &o), 0);
    if ((int)o.events != l->taken || (int)o.reports != l->reports)
        fail_msg("failure %lld: %d outcomes and %d reports were taken, %llu and %llu are stored",
                 (long long)at, l->taken, l->reports, (unsigned long long)o.events,
                 (unsigned long long)o.reports);
    assert_true((int)j.lost >= l->refused);
    assert_int_equal(o.next_seq, o.rows + 1); /* no hole */
    if (l->taken > 0) {
        assert_int_equal(history_progress(l->store, "m", &progress), 0);
        assert_true(progress <= T0 + (OUTCOMES - 1) * 1000);
    }
}

static int one_run(void **state, enum what what, int64_t at, int lasting)
{
    struct life l = {0};
    char why[320], path[4096], command[4200];
    int64_t epoch;
    snprintf(path, sizeof path, "%s", folder_path(state, "disk"));
    snprintf(command, sizeof command, "rm -rf %s && mkdir %s", path, path);
    assert_int_equal(system(command), 0);
    fault_files(path, -1, 0, 0); /* counts what is opened from here on */
    strcat(path, "/nilmd.db");
    assert_int_equal(store_open(path, &l.store, NULL, why, sizeof why), 0);
    assert_int_equal(outbox_start(l.store, 1790000000, &epoch), 0);
    assert_int_equal(journal_create(l.store, NULL, NULL, &l.journal), 0);
    *strrchr(path, '/') = '\0';
    if (what == ALLOCATION)
        fault_allocations(at, lasting);
    else
        fault_files(path, at, lasting, EIO);
    live(&l);
    const int done = (what == ALLOCATION ? fault_allocations_seen() : fault_files_seen()) <= at;
    fault_allocations(-1, 0);
    fault_files(NULL, -1, 0, 0);
    check(&l, at);
    journal_destroy(l.journal);
    store_close(l.store);
    return done;
}

static void fail_everywhere(void **state, enum what what, const char *name)
{
    const char *wanted = getenv("NILM_FAULT_STEP");
    const int64_t step = wanted ? atoi(wanted) : getenv("NILM_FAULT_ROUNDS") ? 1 : 5;
    int64_t at = 0, points = 0;
    for (int lasting = 0; lasting < 2; lasting++)
        for (at = 0; !one_run(state, what, at, lasting);)
            at += step, points++;
    print_message("%s: each %lldth of %lld failed, alone and with all after it: "
                  "%lld failure points\n",
                  name, (long long)step, (long long)at, (long long)points);
    assert_true(at > 20);
}

static void allocations_fail(void **state)
{
    fail_everywhere(state, ALLOCATION, "allocations");
}

static void files_fail(void **state)
{
    fail_everywhere(state, FILES, "changes of files");
}

/* Out of memory is no reason to put an item aside for good. */
static void no_memory_is_no_bad_body(void **state)
{
    (void)state;
    const struct outbox_item item = {.seq = 1, .epoch = 1, .body = "{\"a\":[1,{\"b\":\"c\"}]}"};
    char *text = NULL;
    int at = 0;
    for (; text == NULL && at < 100; at++) {
        fault_allocations(at, 0);
        text = payload_envelope("d", &item, 0);
        const int error = errno;
        fault_allocations(-1, 0);
        assert_true(text != NULL || error == ENOMEM);
    }
    assert_true(at > 5);
    assert_non_null(text);
    free(text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, folder_setup, folder_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(allocations_fail), TEST(files_fail),
                                       cmocka_unit_test(no_memory_is_no_bad_body)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
