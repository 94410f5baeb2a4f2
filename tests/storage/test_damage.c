/* test_damage.c - what is found in the place of the database: set aside or used, never deleted,
 * never a crash (SPEC 5.2). */
#include "storage/lib_consumer.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/history.h"
#include "storage/routine.h"
#include "storage/store_internal.h"

/* The path of the database, kept apart from temp_path's rotating buffers. */
static const char *database(void **state)
{
    static char path[4200];

    snprintf(path, sizeof path, "%s", temp_path(state, "nilmd.db"));
    return path;
}

static void fill(void **state)
{
    struct store *s = temp_open(state, NULL);
    struct routine r = {.meter = "m", .appliance = "a", .runs = 1};
    int64_t epoch, id;

    assert_int_equal(outbox_start(s, 1700000000, &epoch), 0);
    assert_int_equal(store_begin(s), 0);
    for (int i = 0; i < 300; i++) {
        struct history_run run = {.meter = "m", .appliance = "a", .start_ms = i};
        temp_append(s, i % 7 ? OUTBOX_EVENT : OUTBOX_ALERT, i);
        assert_int_equal(history_open(s, &run, &id), 0);
    }
    assert_int_equal(routine_put(s, &r), 0);
    assert_int_equal(store_commit(s), 0);
    store_close(s);
}

static int ignore_run(void *context, const struct history_run *run)
{
    (void)context, (void)run;
    return 0;
}

static int ignore_routine(void *context, const struct routine *r)
{
    (void)context, (void)r;
    return 0;
}

/* Uses every table. Errors are allowed for what a check cannot see; a crash is not. */
static void use(struct store *s)
{
    static char buffer[4 * (OUTBOX_BODY_BYTES + 1)];
    struct outbox_caps caps = {.max_rows = 100, .max_bytes = 5000, .max_age_ms = 1};
    struct outbox_item item = {.kind = OUTBOX_EVENT, .body = "{}", .body_bytes = 2}, items[4];
    struct outbox_stats stats;
    struct history_run run;
    int64_t value;
    uint64_t seq;

    outbox_limit(s, &caps);
    (void)outbox_start(s, 1800000000, &value);
    (void)outbox_append(s, &item, &seq);
    for (int priority = 1; priority <= 3; priority++) {
        int n = outbox_fetch(s, priority, 0, items, 4, buffer, sizeof buffer);
        for (int i = 0; i < n; i++)
            (void)outbox_ack(s, &items[i].seq, 1);
    }
    (void)outbox_statistics(s, &stats);
    (void)history_list(s, INT64_MIN, INT64_MAX, NULL, NULL, 1000, ignore_run, NULL);
    (void)history_current(s, "m", &run);
    (void)history_trim(s, 100);
    (void)routine_list(s, NULL, ignore_routine, NULL);
    (void)store_set(s, "x", 1);
}

/* Opens what lies there: must succeed, with the data or with it set aside. Returns whether it was
 * set aside. */
static int open_and_use(void **state, struct store_report *report)
{
    struct store *s = temp_open(state, report);

    if (report->set_aside[0] != '\0') {
        struct stat st;
        char log[600];
        snprintf(log, sizeof log, "%s-wal", report->set_aside);
        assert_true(lstat(report->set_aside, &st) == 0 || lstat(log, &st) == 0);
        assert_true(report->created);
        assert_true(strlen(report->reason) > 0);
    }
    use(s);
    store_close(s);
    return report->set_aside[0] != '\0';
}

static void remove_database(void **state)
{
    const char *suffixes[] = {"", "-wal", "-shm", ".check"};
    char name[4300];

    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s%s", database(state), suffixes[i]);
        unlink(name);
    }
}

static void set_aside_keeps_the_bytes(void **state)
{
    static const char junk[] = "GIF89a, and then nothing that any database would begin with; more "
                               "than a page is not needed here "
                               "because the magic is checked first";
    struct store_report report;
    size_t size;

    temp_write(database(state), junk, sizeof junk);
    assert_true(open_and_use(state, &report));
    char *kept = temp_read(report.set_aside, &size);
    assert_int_equal(size, sizeof junk);
    assert_memory_equal(kept, junk, size);
    free(kept);
    assert_non_null(strstr(report.set_aside, "nilmd.db.corrupt-2"));
    /* Within the same second: another name. */
    remove_database(state);
    temp_write(database(state), junk, sizeof junk);
    assert_true(open_and_use(state, &report));
    /* the second with the copy of a schema and a log, by which it was looked at */
    assert_int_equal(temp_count(state, ".corrupt-"), 4);
    assert_int_equal(temp_count(state, ".schema"), 2);
    assert_int_equal(open_and_use(state, &report), 0);
    assert_int_equal(report.created, 0);
}

static void set_aside_is_bounded(void **state)
{
    static const char *const times[] = {"20200101T000000Z", "20210101T000000Z",
                                        "20220101T000000Z-2", "20230101T000000Z"};
    struct store_report report;
    char name[4300];

    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s.corrupt-%s", database(state), times[i]);
        temp_write(name, "x", 1);
        snprintf(name, sizeof name, "%s.corrupt-%s-wal", database(state), times[i]);
        temp_write(name, "x", 1);
    }
    snprintf(name, sizeof name, "%s.corrupt-mine", database(state));
    temp_write(name, "x", 1);
    temp_write(database(state), "junk", 4);
    assert_true(open_and_use(state, &report));
    /* the newest three times: two of those, and this one's */
    assert_int_equal(temp_count(state, ".corrupt-2020"), 0);
    assert_int_equal(temp_count(state, ".corrupt-2021"), 0);
    assert_int_equal(temp_count(state, ".corrupt-2022"), 2);
    assert_int_equal(temp_count(state, ".corrupt-2023"), 2);
    assert_int_equal(temp_count(state, ".corrupt-mine"), 1);
    assert_int_equal(access(report.set_aside, F_OK), 0);
}

static void a_folder_or_a_pipe_in_its_place(void **state)
{
    struct store_report report;
    struct stat st;

    assert_int_equal(mkdir(database(state), 0700), 0);
    temp_write(temp_path(state, "nilmd.db/file"), "x", 1);
    assert_true(open_and_use(state, &report));
    assert_int_equal(stat(report.set_aside, &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    remove_database(state);
    assert_int_equal(mkfifo(database(state), 0600), 0);
    assert_true(open_and_use(state, &report));
    remove_database(state);
    assert_int_equal(mkdir(temp_path(state, "nilmd.db-wal"), 0700), 0);
    assert_true(open_and_use(state, &report));
}

static void an_empty_file_is_new(void **state)
{
    struct store_report report;

    temp_write(database(state), "", 0);
    assert_int_equal(open_and_use(state, &report), 0);
    assert_int_equal(report.created, 1);
}

static void another_programs_database(void **state)
{
    struct store_report report;
    sqlite3 *db;

    assert_int_equal(sqlite3_open(database(state), &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(db, "CREATE TABLE t (x); INSERT INTO t VALUES (7); PRAGMA application_id = 1",
                     0, 0, 0),
        0);
    sqlite3_close(db);
    assert_true(open_and_use(state, &report));
    assert_non_null(strstr(report.reason, "another program's database (application_id 0x00000001"));
    assert_int_equal(sqlite3_open(report.set_aside, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "SELECT x FROM t", 0, 0, 0), 0);
    sqlite3_close(db);
}

/* A log whose database is gone may hold items: it is kept. */
static void a_log_without_its_database(void **state)
{
    struct store_report report;
    size_t size;

    temp_write(temp_path(state, "nilmd.db-wal"), "some log", 8);
    assert_true(open_and_use(state, &report));
    char name[600];
    snprintf(name, sizeof name, "%s-wal", report.set_aside);
    char *kept = temp_read(name, &size);
    assert_int_equal(size, 8);
    free(kept);
}

static void counters_that_contradict(void **state)
{
    const char *changes[] = {
        "UPDATE outbox_state SET next_seq = 5",          "DELETE FROM outbox_state",
        "UPDATE outbox_state SET events = -1",           "PRAGMA user_version = 65",
        "DELETE FROM value WHERE name = 'store.schema'", "DROP TABLE value"};

    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        struct store_report report;
        sqlite3 *db;
        remove_database(state);
        fill(state);
        assert_int_equal(sqlite3_open(database(state), &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, changes[i], 0, 0, 0), 0);
        sqlite3_close(db);
        assert_true(open_and_use(state, &report));
    }
}

static void truncated_at_many_lengths(void **state)
{
    struct store_report report;
    size_t size;
    int aside = 0, tries = 0;

    fill(state);
    char *good = temp_read(database(state), &size);
    for (size_t length = 1; length < size; length += length < 600 ? 37 : 1777) {
        remove_database(state);
        temp_write(database(state), good, length);
        aside += open_and_use(state, &report);
        tries++;
    }
    assert_int_equal(aside, tries); /* every one is told */
    free(good);
}

static void overwritten_in_parts(void **state)
{
    struct store_report report;
    size_t size;
    uint64_t random = 99;
    int aside = 0;

    fill(state);
    char *good = temp_read(database(state), &size), *bad = malloc(size);
    for (int i = 0; i < 40; i++) {
        memcpy(bad, good, size);
        size_t at = i < 10 ? 0 : temp_random(&random) % size,
               count = 1 + temp_random(&random) % 512;
        for (size_t k = at; k < at + count && k < size; k++)
            bad[k] = (char)temp_random(&random);
        remove_database(state);
        temp_write(database(state), bad, size);
        aside += open_and_use(state, &report);
    }
    assert_true(aside > 15); /* the rest hit free space, and pages of tables without rows */
    free(good);
    free(bad);
}

static void single_bits_flipped(void **state)
{
    struct store_report report;
    size_t size;
    uint64_t random = 4;
    int aside = 0;

    fill(state);
    char *good = temp_read(database(state), &size);
    for (int i = 0; i < 150; i++) {
        size_t at = i < 100 ? (size_t)i : temp_random(&random) % size; /* all of the header */
        int bit = 1 << temp_random(&random) % 8;
        good[at] = (char)(good[at] ^ bit);
        remove_database(state);
        temp_write(database(state), good, size);
        good[at] = (char)(good[at] ^ bit);
        aside += open_and_use(state, &report);
    }
    assert_in_range(aside, 1, 149);
    free(good);
}

/* A log that was cut or overwritten: SQLite takes the whole commits before the damage. */
static void a_damaged_log(void **state)
{
    struct store_report report;
    size_t size, log_size;
    uint64_t random = 12;
    int64_t epoch;
    struct store *s = temp_open(state, NULL);

    assert_int_equal(outbox_start(s, 1700000000, &epoch), 0);
    for (int i = 0; i < 20; i++)
        temp_append(s, OUTBOX_EVENT, i);
    char *good = temp_read(database(state), &size),
         *log = temp_read(temp_path(state, "nilmd.db-wal"), &log_size);
    store_close(s);
    for (int i = 0; i < 40; i++) {
        struct outbox_stats stats;
        size_t at = temp_random(&random) % log_size;
        remove_database(state);
        temp_write(database(state), good, size);
        char *bad = malloc(log_size);
        memcpy(bad, log, log_size);
        bad[at] ^= 0x55;
        temp_write(temp_path(state, "nilmd.db-wal"), bad, i % 2 ? log_size : at);
        free(bad);
        s = temp_open(state, &report);
        assert_string_equal(report.set_aside, "");
        assert_int_equal(outbox_statistics(s, &stats), 0);
        assert_true(stats.rows == stats.next_seq - 1 && stats.rows <= 20);
        store_close(s);
    }
    free(good);
    free(log);
}

/* Damage in a large database is met while running: told, remembered, and set aside at the next
 * start. */
static void damage_met_while_running(void **state)
{
    struct store_report report;
    struct outbox_item item;
    char buffer[OUTBOX_BODY_BYTES + 1];
    int64_t epoch;
    struct store *s = temp_open(state, NULL);

    assert_int_equal(outbox_start(s, 1700000000, &epoch), 0);
    assert_int_equal(
        sqlite3_exec(
            s->db,
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
            " INSERT INTO outbox (seq, epoch, kind, priority, created_ms, age_ms, size, channel, "
            "body)"
            " SELECT i, 1, 1, 1, 0, 0, 4064, '', '{' || hex(zeroblob(2000)) || '}' FROM n;"
            "UPDATE outbox_state SET next_seq = 3001, events = 3000, bytes = 3000 * 4064",
            0, 0, 0),
        SQLITE_OK);
    store_close(s);
    size_t size;
    char *data = temp_read(database(state), &size);
    assert_true(size > (8u << 20));
    for (size_t page = 40; page * 8192 < size;
         page++) /* the middle: small tables lie before, the newest item behind */
        memset(data + page * 4096, 0xa5, 100);
    temp_write(database(state), data, size);
    free(data);

    s = temp_open(state, &report); /* the short check does not read them */
    assert_string_equal(report.set_aside, "");
    int rc = 0;
    for (uint64_t after = 0; rc >= 0 && after < 3000; after++)
        rc = outbox_fetch(s, 1, after, &item, 1, buffer, sizeof buffer);
    assert_int_equal(rc, -EBADMSG);
    assert_int_equal(store_set(s, "x", 1), 0); /* the handle stays usable */
    struct store *second = NULL;
    char why[256];
    assert_int_equal(store_open(database(state), &second, NULL, why, sizeof why),
                     0); /* in use: not moved away */
    store_close(second);
    store_close(s);
    assert_int_equal(temp_count(state, ".check"), 1);

    s = temp_open(state, &report);
    assert_non_null(strstr(report.set_aside, ".corrupt-"));
    assert_int_equal(temp_count(state, ".check"), 0);
    assert_int_equal(outbox_start(s, 1700000001, &epoch), 0);
    assert_int_equal(temp_append(s, OUTBOX_EVENT, 1), 3001); /* the numbers go on */
    store_close(s);
}

/* A damaged file that another handle has open is not moved away under it. */
static void in_use_is_not_moved(void **state)
{
    struct store *s = temp_open(state, NULL), *second = NULL;
    char why[256];

    assert_int_equal(sqlite3_exec(s->db, "PRAGMA application_id = 3", 0, 0, 0), 0);
    assert_int_equal(store_open(database(state), &second, NULL, why, sizeof why), -EBUSY);
    assert_null(second);
    assert_int_equal(temp_count(state, ".corrupt-"), 0);
    store_close(s);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)
    const struct CMUnitTest tests[] = {
        T(set_aside_keeps_the_bytes),
        T(set_aside_is_bounded),
        T(a_folder_or_a_pipe_in_its_place),
        T(an_empty_file_is_new),
        T(another_programs_database),
        T(a_log_without_its_database),
        T(counters_that_contradict),
        T(truncated_at_many_lengths),
        T(overwritten_in_parts),
        T(single_bits_flipped),
        T(a_damaged_log),
        T(damage_met_while_running),
        T(in_use_is_not_moved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
