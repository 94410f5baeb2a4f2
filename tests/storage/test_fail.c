/* test_fail.c - the i-th allocation, and the i-th change of a file, fails, for i = 0, 1, 2, ...
 * until none does (SPEC 5.3); after SQLite's test/malloc_common.tcl.
 *
 * Each operation of the interface begins with a file that was prepared once, so that a case costs
 * what the operation costs, and goes on over its failures. No crash, no leak (under
 * AddressSanitizer), and nothing that was acknowledged to the caller is lost.
 * NILM_FAULT_STEP: look at every so many-th (29; 1 is all, and so is any NILM_FAULT_ROUNDS). */
#include "lib/fault.h"
#include "storage/lib_consumer.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/alerts.h"
#include "storage/consumer.h"
#include "storage/energy.h"
#include "storage/history.h"
#include "storage/lib_released.h"
#include "storage/machines.h"
#include "storage/places.h"
#include "storage/routine.h"
#include "storage/slots.h"
#include "storage/store_internal.h"

#define WAITING 9 /* appended to the file that most operations begin with */

struct life {
    struct consumer before, after;
    int64_t progress, value, consumed;
    uint32_t active;
    int failures;
};

enum start { NOTHING, FILLED, LOGGED, RELEASED, DAMAGED, STARTS };

struct image { /* the files of a start; log and check may be missing */
    char *database, *log;
    size_t size, log_size;
    int suspected;
    struct life life;
};

static char folder[500], database[600], models[600], collected[600];
static struct image images[STARTS];

static int tell(struct life *l, int rc)
{
    l->failures += rc < 0 && rc != -ENOENT;
    return rc;
}

/* ---- operations ---- */

static int append_one(struct store *s, struct life *l, int i, uint64_t *seq)
{
    struct history_run run = {.meter = "m", .appliance = "Kettle", .start_ms = i};
    struct routine r = {.meter = "m", .appliance = "Kettle", .runs = (uint64_t)i};
    struct outbox_item item = {.kind = i % 3 ? OUTBOX_EVENT : OUTBOX_ALERT,
                               .channel = "m",
                               .body = "{\"n\":1}",
                               .body_bytes = 7};
    int64_t id;
    int rc = tell(l, store_begin(s));

    if (rc == 0)
        rc = tell(l, outbox_append(s, &item, seq));
    if (rc == 0)
        rc = tell(l, history_open(s, &run, &id));
    if (rc == 0)
        rc = tell(l, routine_put(s, &r));
    if (rc == 0)
        rc = tell(l, history_set_progress(s, "m", i + 1));
    if (rc == 0)
        rc = tell(l, history_set_state(s, "m", &i, sizeof i));
    return rc == 0 ? tell(l, store_commit(s)) : rc;
}

static void append_at(struct store *s, struct life *l, int i)
{
    uint64_t seq = 0;

    if (append_one(s, l, i, &seq) == 0) {
        l->progress = i + 1;
        l->before.declared[seq]++; /* must be accounted for */
    } else {
        store_rollback(s);
    }
}

/* The cap makes each of them drop another one, which is declared. */
static void append(struct store *s, struct life *l)
{
    struct outbox_caps caps = {.max_rows = 5};

    outbox_limit(s, &caps);
    for (int i = 0; i < 3; i++)
        append_at(s, l, WAITING + i);
}

static void start(struct store *s, struct life *l)
{
    int64_t epoch = 0;

    tell(l, outbox_start(s, 1700000000, &epoch));
    if (tell(l, store_set(s, "answer", 42)) == 0)
        l->value = 42;
}

static int longer(void *context, const char *body, char **out)
{
    (void)context, (void)body;
    *out = strdup("{\"n\":1,\"corrected\":1}");
    return *out == NULL ? -ENOMEM : 0;
}

static void rewrite(struct store *s, struct life *l)
{
    uint64_t seq = 3;
    int64_t below = INT64_MAX, open[4];

    tell(l, outbox_rewrite(s, &seq, 4, longer, NULL));
    tell(l, history_shift_open(s, 2, 4, 1000, open, 4));
    tell(l, history_shift(s, &below, 2, 6, 1000, 2, open, 1));
}

static void send(struct store *s, struct life *l)
{
    static char buffer[4 * (OUTBOX_BODY_BYTES + 1)];
    struct outbox_parked parked[4];
    struct outbox_item items[4];

    for (int priority = 3; priority >= 1; priority--) {
        int n = tell(l, outbox_fetch(s, priority, 0, items, 2, buffer, sizeof buffer));
        if (n > 0 && items[0].kind != OUTBOX_GAP) {
            l->before.received[items[0].seq] = 1; /* the broker has it */
            tell(l, outbox_ack(s, &items[0].seq, 1));
        }
        if (n > 1)
            tell(l, outbox_park(s, items[1].seq, "not allowed"));
    }
    tell(l, outbox_parked(s, 0, parked, 4));
    tell(l, outbox_unpark(s));
}

static int count_run(void *context, const struct history_run *run)
{
    (void)context, (void)run;
    return 0;
}

static int count_routine(void *context, const struct routine *r)
{
    (void)context, (void)r;
    return 0;
}

static void look(struct store *s, struct life *l)
{
    struct outbox_stats stats;
    struct history_run runs[4];
    struct store_usage usage;
    struct routine r;
    char state[64];

    tell(l, outbox_statistics(s, &stats));
    tell(l, history_list(s, 0, INT64_MAX, NULL, NULL, 9, count_run, NULL));
    tell(l, history_open_runs(s, "m", runs, 4));
    tell(l, history_state(s, "m", state, sizeof state));
    tell(l, routine_list(s, NULL, count_routine, NULL));
    tell(l, routine_get(s, "m", "Kettle", &r));
    tell(l, store_usage(s, &usage));
}

static int count_hour(void *context, const char *meter, const struct energy_hour *hour)
{
    (void)context, (void)meter, (void)hour;
    return 0;
}

static int count_quarter(void *context, const char *meter, const struct machines_quarter *q)
{
    (void)context, (void)meter, (void)q;
    return 0;
}

static int count_alert(void *context, const struct alerts_row *row)
{
    (void)context, (void)row;
    return 0;
}

/* What outcomes bring along beside the run. */
static void record(struct store *s, struct life *l)
{
    struct energy_hour hour = {.start_ms = 3600000, .wh = 5};
    struct machines_quarter quarter = {.start_ms = 900000, .wh = 2};
    struct alerts_row alert = {.id = "a-1", .alert = "long_run", .meter = "m", .appliance = "x"};
    struct places_run run = {.start_ms = 7, .number = 1, .bytes = 4, .data = "abc"};
    int64_t until;

    tell(l, energy_put(s, "m", &hour));
    tell(l, energy_list(s, NULL, 0, INT64_MAX, count_hour, NULL));
    tell(l, machines_put(s, "m", &quarter));
    tell(l, machines_put_state(s, "m", "state", 5));
    tell(l, machines_list(s, "m", 0, INT64_MAX, count_quarter, NULL));
    tell(l, alerts_put(s, &alert));
    tell(l, alerts_snooze(s, "a-1", 10));
    tell(l, alerts_snoozed(s, "m", "long_run", "x", &until));
    tell(l, alerts_awake(s, 20, 4, count_alert, NULL));
    tell(l, alerts_wake(s, 20));
    tell(l, alerts_list(s, 0, INT64_MAX, 1, 4, count_alert, NULL));
    tell(l, places_put(s, "m", "loads", 5));
    tell(l, places_put_run(s, "m", &run));
    tell(l, places_move_runs(s, "m", 1, 2));
    tell(l, places_put_habit(s, "m", "x", "habit", 5));
    tell(l, places_put_cells(s, "m", 5, "cells", 5));
}

static void trim(struct store *s, struct life *l)
{
    tell(l, history_trim(s, 3));
    tell(l, places_trim(s, 2, 2));
    tell(l, energy_trim(s, 1000));
    tell(l, machines_trim(s, "m", 1000));
    tell(l, alerts_trim(s, 1));
    tell(l, routine_forget(s, "m", "Toaster"));
}

/* Everything in the log goes into the database; then a transaction that begins the log anew. */
static void checkpoint(struct store *s, struct life *l)
{
    sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    append_at(s, l, WAITING);
}

static void close_it(struct store *s, struct life *l)
{
    (void)l;
    store_close(s);
}

static void open_it(struct store *s, struct life *l)
{
    char why[256];

    (void)s;
    tell(l, store_open(database, &s, NULL, why, sizeof why));
    store_close(s);
}

static void use_slots(struct store *none, struct life *l)
{
    struct slots *s = NULL;
    char why[256];
    int repaired;

    (void)none;
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

/* A subscriber's file. */
static void collect(struct store *none, struct life *l)
{
    struct consumer_item item = {
        .device = "gw", .topic = "t", .epoch = 5, .payload = "{}", .payload_bytes = 2};
    struct consumer *c = NULL;
    char why[256];

    (void)none;
    if (tell(l, consumer_open(collected, &c, why, sizeof why)) != 0)
        return;
    for (item.seq = 1; item.seq <= 3; item.seq++) {
        int rc = tell(l, consumer_begin(c));
        if (rc == 0)
            rc = tell(l, consumer_add(c, &item));
        if (rc >= 0)
            rc = tell(l, consumer_status(c, "gw", 5, item.seq + 1, 0));
        if (rc == 0)
            rc = tell(l, consumer_declare(c, "gw", 5, item.seq, 7, 8, 2));
        if (rc == 0)
            rc = tell(l, consumer_commit(c));
        if (rc == 0)
            l->consumed++;
        else
            consumer_rollback(c);
    }
    consumer_close(c);
}

static const struct operation {
    const char *name;
    enum start start;
    int opened; /* the store is open, and closed after it with nothing failing */
    void (*run)(struct store *s, struct life *l);
} operations[] = {
    {"a new database", NOTHING, 0, open_it},
    {"opening", FILLED, 0, open_it},
    {"opening with a log", LOGGED, 0, open_it},
    {"migration", RELEASED, 0, open_it},
    {"salvage", DAMAGED, 0, open_it},
    {"closing", LOGGED, 1, close_it},
    {"start of an epoch", FILLED, 1, start},
    {"append, evict", FILLED, 1, append},
    {"fetch, acknowledge, park", FILLED, 1, send},
    {"rewrite, shift", FILLED, 1, rewrite},
    {"statistics, lists", FILLED, 1, look},
    {"energy, alerts, places", FILLED, 1, record},
    {"trim", FILLED, 1, trim},
    {"checkpoint", LOGGED, 1, checkpoint},
    {"model slots", NOTHING, 0, use_slots},
    {"a subscriber's file", NOTHING, 0, collect},
};

/* ---- the files that they begin with ---- */

static void clear(const char *path)
{
    char name[800];
    DIR *d = opendir(path);

    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        if (e->d_type == DT_REG)
            unlink(name);
    }
    closedir(d);
}

static void put(const struct image *i)
{
    char name[700];

    clear(folder);
    clear(models);
    if (i->database != NULL)
        temp_write(database, i->database, i->size);
    snprintf(name, sizeof name, "%s-wal", database);
    if (i->log != NULL)
        temp_write(name, i->log, i->log_size);
    snprintf(name, sizeof name, "%s.check", database);
    if (i->suspected)
        temp_write(name, "", 0);
}

static struct store *open_store(void)
{
    struct store *s = NULL;
    char why[256] = "";

    if (store_open(database, &s, NULL, why, sizeof why) != 0)
        fail_msg("%s", why);
    return s;
}

/* Items wait, some were evicted, one was acknowledged. kept: the last of them are in the log. */
static void prepare_filled(struct image *i, int keep_log)
{
    char name[700];

    put(&images[NOTHING]);
    struct store *s = open_store();
    start(s, &i->life);
    for (int n = 0; n < WAITING - 2; n++)
        append_at(s, &i->life, n);
    send(s, &i->life);
    sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    for (int n = WAITING - 2; n < WAITING; n++)
        append_at(s, &i->life, n);
    if (keep_log) { /* as a kill leaves them */
        snprintf(name, sizeof name, "%s-wal", database);
        i->database = temp_read(database, &i->size);
        i->log = temp_read(name, &i->log_size);
    }
    store_close(s);
    if (!keep_log)
        i->database = temp_read(database, &i->size);
    assert_int_equal(i->life.failures, 0);
}

/* A file of schema 1. */
static void prepare_released(struct image *i)
{
    sqlite3 *db;

    put(&images[NOTHING]);
    assert_int_equal(sqlite3_open(database, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, released_tables_1, 0, 0, 0), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(db,
                     "PRAGMA application_id = 0x4E494C4D; PRAGMA user_version = 1;"
                     "INSERT INTO value VALUES ('store.schema', 1), ('answer', 42);"
                     "INSERT INTO outbox_state VALUES (1, 1700000000, 3, 2, 0, 0, 0, 148, 0, 0, 0,"
                     " 5000, 1700000009);"
                     "INSERT INTO outbox VALUES"
                     " (1, 1700000000, 1, 1, 0, 1700000000004, 100, 74, 'kitchen', '{\"n\":4}',"
                     " NULL), (2, 1700000000, 1, 1, 0, 1700000000004, 100, 74, 'kitchen',"
                     " '{\"n\":5}', NULL);"
                     "INSERT INTO meter_progress VALUES ('m', 7);"
                     "INSERT INTO routine VALUES"
                     " ('m', 'Kettle', 9, 120.5, 2, 130, 1900, 3, 1800, 2000, 60, 10, 1000);",
                     0, 0, 0),
        SQLITE_OK);
    sqlite3_close(db);
    i->database = temp_read(database, &i->size);
    i->life = (struct life){.progress = 7, .value = 42};
    i->life.before.declared[1] = i->life.before.declared[2] = 1;
}

/* One item does not fit its check sum. */
static void prepare_damaged(struct image *i)
{
    *i = images[FILLED];
    i->database = malloc(i->size);
    memcpy(i->database, images[FILLED].database, i->size);
    char *body = memmem(i->database, i->size, "{\"n\":1}", 7);
    assert_non_null(body);
    body[5] = '2';
    i->suspected = 1;
}

static void prepare(void **state)
{
    snprintf(folder, sizeof folder, "%s", (const char *)*state);
    snprintf(database, sizeof database, "%s/nilmd.db", folder);
    snprintf(models, sizeof models, "%s/models", folder);
    snprintf(collected, sizeof collected, "%s/collected.db", folder);
    mkdir(models, 0700);
    memset(images, 0, sizeof images);
    prepare_filled(&images[FILLED], 0);
    prepare_filled(&images[LOGGED], 1);
    prepare_released(&images[RELEASED]);
    prepare_damaged(&images[DAMAGED]);
}

static void free_images(void)
{
    for (int i = 0; i < STARTS; i++) {
        free(images[i].database);
        free(images[i].log);
    }
}

/* ---- afterwards, with everything working again ---- */

static void check_store(struct life *l, int replaced, const char *what)
{
    struct store_report report;
    struct outbox_stats stats;
    struct store *s = NULL;
    int64_t progress = 0, value = 0;
    char why[256] = "";

    if (store_open(database, &s, &report, why, sizeof why) != 0)
        fail_msg("%s: %s", what, why);
    if (report.replaced && !replaced)
        fail_msg("%s: set aside: %s", what, report.reason);
    assert_int_equal(outbox_statistics(s, &stats), 0);
    for (uint64_t i = stats.next_seq; i < 64; i++)
        assert_int_equal(l->before.declared[i], 0); /* none was reported and is gone */
    assert_true(outbox_unpark(s) >= 0);
    consumer_drain(&l->after, s);
    for (int i = 0; i < 64; i++)
        l->after.received[i] |= l->before.received[i];
    consumer_check(&l->after, stats.next_seq, 0);
    history_progress(s, "m", &progress);
    store_get(s, "answer", &value);
    if (progress < l->progress || value < l->value)
        fail_msg("%s: progress %lld and value %lld, expected %lld and %lld", what,
                 (long long)progress, (long long)value, (long long)l->progress,
                 (long long)l->value);
    store_close(s);
}

static void check_slots(const struct life *l)
{
    struct slots *slots = NULL;
    struct slots_info info;
    int repaired = 0;
    char why[256] = "";

    assert_int_equal(slots_open(models, &slots, &repaired, why, sizeof why), 0);
    assert_int_equal(repaired, 0);
    assert_int_equal(slots_get(slots, &info), 0);
    assert_true(info.version >= l->active);
    slots_close(slots);
}

static int count_device(void *context, const struct consumer_device *d)
{
    *(int64_t *)context = (int64_t)d->received;
    return 0;
}

static void check_collected(const struct life *l, const char *what)
{
    struct consumer *c = NULL;
    int64_t received = 0;
    char why[256] = "";

    if (consumer_open(collected, &c, why, sizeof why) != 0)
        fail_msg("%s", why);
    assert_true(consumer_devices(c, count_device, &received) >= 0);
    if (received < l->consumed)
        fail_msg("%s: %lld of %lld messages", what, (long long)received, (long long)l->consumed);
    consumer_close(c);
}

static void check(const struct operation *o, struct life *l, const char *what)
{
    if (o->run == use_slots)
        check_slots(l);
    else if (o->run == collect)
        check_collected(l, what);
    else
        check_store(l, o->start == DAMAGED, what);
}

/* ---- the i-th fails ---- */

enum what { ALLOCATION, FILES_EIO, FILES_ENOSPC, FILES_EROFS, FILES_EDQUOT };

static void arm(enum what what, int64_t at, int lasting)
{
    static const int errors[] = {0, EIO, ENOSPC, EROFS, EDQUOT};

    if (what == ALLOCATION)
        fault_allocations(at, lasting);
    else
        fault_files(folder, at, lasting, errors[what]);
}

/* Returns whether nothing failed any more. */
static int one_run(const struct operation *o, enum what what, int64_t at, int lasting)
{
    static struct life l;
    struct store *s = NULL;
    char text[160];

    snprintf(text, sizeof text, "%s, failure %lld%s", o->name, (long long)at,
             lasting ? " and all after it" : "");
    put(&images[o->start]);
    l = images[o->start].life;
    fault_files(folder, -1, 0, 0); /* watches what is opened */
    if (o->opened)
        s = open_store();
    arm(what, at, lasting);
    o->run(s, &l);
    int done = (what == ALLOCATION ? fault_allocations_seen() : fault_files_seen()) <= at;
    fault_allocations(-1, 0);
    fault_files(NULL, -1, 0, 0);
    if (o->run != close_it)
        store_close(s);
    check(o, &l, text);
    if (done)
        assert_int_equal(l.failures, 0);
    return done;
}

static void fail_everywhere(void **state, enum what what, const char *name)
{
    const char *wanted = getenv("NILM_FAULT_STEP");
    int64_t step = wanted != NULL ? atoi(wanted) : getenv("NILM_FAULT_ROUNDS") != NULL ? 1 : 29;
    int64_t at = 0, points = 0, all = 0;

    prepare(state);
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
        for (int lasting = 0; lasting < 2; lasting++)
            for (at = (int64_t)i % step; !one_run(&operations[i], what, at, lasting);)
                at += step, points++;
        print_message("  %-26s %6lld\n", operations[i].name, (long long)at);
        all += at;
    }
    free_images();
    print_message("%s: each %lldth of %lld failed, alone and with all after it: "
                  "%lld failure points\n",
                  name, (long long)step, (long long)all, (long long)points);
    assert_true(points > (step == 1 ? 200 : 20));
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

static void the_quota_is_used_up(void **state)
{
    fail_everywhere(state, FILES_EDQUOT, "likewise (EDQUOT)");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)
    const struct CMUnitTest tests[] = {T(allocations_fail), T(files_fail), T(the_disk_is_full),
                                       T(the_disk_is_read_only), T(the_quota_is_used_up)};

    temp_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
