/* test_fail.c - the i-th allocation, and the i-th change of a file, fails, for i = 0, 1, 2, ...
 * until none does (SPEC 5.3); after SQLite's test/malloc_common.tcl.
 *
 * A scenario of the whole interface goes on over its failures. No crash, no leak (under
 * AddressSanitizer), and nothing that was acknowledged to the caller is lost.
 * NILM_FAULT_STEP: look at every so many-th (7; 1 is all, and so is any NILM_FAULT_ROUNDS). */
#include "lib/fault.h"
#include "storage/lib_consumer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/history.h"
#include "storage/routine.h"
#include "storage/slots.h"
#include "storage/store_internal.h"

struct life {
    struct consumer before, after;
    int64_t progress, value;
    uint32_t active;
    int failures;
};

static char folder[500], database[600], models[600];

static int tell(struct life *l, int rc)
{
    l->failures += rc < 0 && rc != -ENOENT;
    return rc;
}

static int count_call(void *context, const struct history_run *run)
{
    (void)context, (void)run;
    return 0;
}

static int count_routine(void *context, const struct routine *r)
{
    (void)context, (void)r;
    return 0;
}

static void append(struct store *s, struct life *l, int i)
{
    struct history_run run = {.meter = "m", .appliance = "Kettle", .start_ms = i};
    struct routine r = {.meter = "m", .appliance = "Kettle", .runs = (uint64_t)i};
    struct outbox_item item = {.kind = i % 3 ? OUTBOX_EVENT : OUTBOX_ALERT,
                               .channel = "m",
                               .body = "{\"n\":1}",
                               .body_bytes = 7};
    uint64_t seq = 0;
    int64_t id;
    int rc = tell(l, store_begin(s));

    if (rc == 0)
        rc = tell(l, outbox_append(s, &item, &seq));
    if (rc == 0)
        rc = tell(l, history_open(s, &run, &id));
    if (rc == 0)
        rc = tell(l, routine_put(s, &r));
    if (rc == 0)
        rc = tell(l, history_set_progress(s, "m", i + 1));
    if (rc == 0)
        rc = tell(l, history_set_state(s, "m", &i, sizeof i));
    if (rc == 0 && (rc = tell(l, store_commit(s))) == 0) {
        l->after.declared[0] = 1; /* something was stored */
        l->progress = i + 1;
        l->before.declared[seq]++; /* must be accounted for */
    } else {
        store_rollback(s);
    }
}

static void use(struct store *s, struct life *l)
{
    static char buffer[4 * (OUTBOX_BODY_BYTES + 1)];
    struct outbox_caps caps = {.max_rows = 5};
    struct outbox_stats stats;
    struct store_usage usage;
    struct outbox_item items[4];
    int64_t epoch = 0;

    outbox_limit(s, &caps);
    tell(l, outbox_start(s, 1700000000, &epoch));
    for (int i = 0; i < 9; i++)
        append(s, l, i);
    for (int priority = 3; priority >= 1; priority--) {
        int n = tell(l, outbox_fetch(s, priority, 0, items, 1, buffer, sizeof buffer));
        if (n == 1 && items[0].kind != OUTBOX_GAP) {
            l->before.received[items[0].seq] = 1; /* the broker has it */
            tell(l, outbox_ack(s, &items[0].seq, 1));
        }
    }
    if (tell(l, store_set(s, "answer", 42)) == 0)
        l->value = 42;
    tell(l, outbox_statistics(s, &stats));
    tell(l, history_list(s, 0, INT64_MAX, NULL, NULL, 9, count_call, NULL));
    tell(l, history_trim(s, 3));
    tell(l, routine_list(s, NULL, count_routine, NULL));
    tell(l, store_usage(s, &usage));
    sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    append(s, l, 9);
}

static void use_slots(struct life *l)
{
    struct slots *s = NULL;
    char why[256];
    int repaired;

    if (tell(l, slots_open(models, &s, &repaired, why, sizeof why)) != 0)
        return;
    for (uint32_t version = 1; version <= 2; version++) {
        char text = (char)('0' + version);
        if (tell(l, slots_stage(s, &text, 1, why, sizeof why)) == 0 &&
            tell(l, slots_activate(s, version, why, sizeof why)) == 0)
            l->active = version;
    }
    slots_close(s);
}

/* The whole interface, going on after failures. */
static void live(struct life *l)
{
    struct store *s = NULL;
    char why[256];

    if (tell(l, store_open(database, &s, NULL, why, sizeof why)) == 0)
        use(s, l);
    store_close(s);
    use_slots(l);
}

/* With everything working again. */
static void check(struct life *l, const char *what, int64_t at)
{
    struct store_report report;
    struct outbox_stats stats;
    struct store *s = NULL;
    struct slots *slots = NULL;
    struct slots_info info;
    int64_t progress = 0, value = 0;
    int repaired = 0;
    char why[256] = "";

    if (store_open(database, &s, &report, why, sizeof why) != 0)
        fail_msg("%s %lld: %s", what, (long long)at, why);
    if (report.replaced)
        fail_msg("%s %lld: set aside: %s", what, (long long)at, report.reason);
    assert_int_equal(outbox_statistics(s, &stats), 0);
    for (uint64_t i = stats.next_seq; i < 64; i++)
        assert_int_equal(l->before.declared[i], 0); /* none was reported and is gone */
    memset(l->after.declared, 0, sizeof l->after.declared);
    consumer_drain(&l->after, s);
    for (int i = 0; i < CONSUMER_NUMBERS; i++)
        l->after.received[i] |= l->before.received[i];
    consumer_check(&l->after, stats.next_seq, 0);
    history_progress(s, "m", &progress);
    store_get(s, "answer", &value);
    if (progress < l->progress || value < l->value)
        fail_msg("%s %lld: progress %lld and value %lld, expected %lld and %lld", what,
                 (long long)at, (long long)progress, (long long)value, (long long)l->progress,
                 (long long)l->value);
    store_close(s);
    assert_int_equal(slots_open(models, &slots, &repaired, why, sizeof why), 0);
    assert_int_equal(repaired, 0);
    assert_int_equal(slots_get(slots, &info), 0);
    assert_true(info.version >= l->active);
    slots_close(slots);
}

static void clear(void)
{
    char command[1300];

    snprintf(command, sizeof command, "rm -rf %s && mkdir -p %s", folder, models);
    assert_int_equal(system(command), 0);
}

enum what { ALLOCATION, FILES_EIO, FILES_ENOSPC, FILES_EROFS };

/* Returns whether nothing failed any more. */
static int one_run(enum what what, int64_t at, int lasting)
{
    static const char *const names[] = {"allocation", "file (EIO)", "file (ENOSPC)",
                                        "file (EROFS)"};
    static const int errors[] = {0, EIO, ENOSPC, EROFS};
    struct life *l = calloc(1, sizeof *l);

    clear();
    if (what == ALLOCATION)
        fault_allocations(at, lasting);
    else
        fault_files(folder, at, lasting, errors[what]);
    live(l);
    int done = (what == ALLOCATION ? fault_allocations_seen() : fault_files_seen()) <= at;
    fault_allocations(-1, 0);
    fault_files(NULL, -1, 0, 0);
    check(l, names[what], at);
    if (done)
        assert_int_equal(l->failures, 0);
    free(l);
    return done;
}

static void fail_everywhere(void **state, enum what what, const char *name)
{
    const char *wanted = getenv("NILM_FAULT_STEP");
    int64_t step = wanted != NULL ? atoi(wanted) : getenv("NILM_FAULT_ROUNDS") != NULL ? 1 : 7;
    int64_t at = 0, points = 0;

    snprintf(folder, sizeof folder, "%s", temp_path(state, "disk"));
    snprintf(database, sizeof database, "%s/nilmd.db", folder);
    snprintf(models, sizeof models, "%s/models", folder);
    for (int lasting = 0; lasting < 2; lasting++)
        for (at = 0; !one_run(what, at, lasting);)
            at += step, points++;
    print_message("%s: each %lldth of %lld failed, alone and with all after it: "
                  "%lld failure points\n",
                  name, (long long)step, (long long)at, (long long)points);
    assert_true(at > 50);
}

static void allocations_fail(void **state)
{
    fail_everywhere(state, ALLOCATION, "allocations");
}

static void files_fail(void **state)
{
    fail_everywhere(state, FILES_EIO, "opens, writes, syncs, renames, removals (EIO)");
}

static void the_disk_is_full(void **state)
{
    fail_everywhere(state, FILES_ENOSPC, "likewise (ENOSPC)");
}

static void the_disk_is_read_only(void **state)
{
    fail_everywhere(state, FILES_EROFS, "likewise (EROFS)");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)
    const struct CMUnitTest tests[] = {T(allocations_fail), T(files_fail), T(the_disk_is_full),
                                       T(the_disk_is_read_only)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
