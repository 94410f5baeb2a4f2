/* test_migrate.c - a database file of every earlier schema goes forward with all its rows (SPEC
 * 5.2).
 *
 * For each version there is the SQL text that made its tables, as it was released, and rows. Who
 * adds a migration step adds the file of the version before to `released`; the test counts them. */
#include "storage/lib_consumer.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/history.h"
#include "storage/lib_released.h"
#include "storage/machines.h"
#include "storage/routine.h"
#include "storage/store_internal.h"
#include "storage/summaries.h"

/* Numbers 4 to 7 wait, 2 was dropped, 1 and 3 were acknowledged. */
static const char rows_1[] =
    "INSERT INTO value VALUES ('answer', 42);"
    "INSERT INTO outbox_state VALUES (1, 1700000000, 8, 2, 1, 0, 1, 296, 1, 1, 2, 5000, "
    "1700000009);"
    "INSERT INTO outbox VALUES"
    " (4, 1700000000, 1, 1, 0, 1700000000004, 100, 74, 'kitchen', '{\"n\":4}', NULL),"
    " (5, 1700000000, 2, 2, 0, 1700000000005, 200, 74, 'kitchen', '{\"n\":5}', NULL),"
    " (6, 1700000000, 1, 1, 1, 1700000000006, 300, 77, 'wash-house', '{\"n\":6}', 'not allowed'),"
    " (7, 1700000000, 4, 1, 0, 1700000000007, 400, 71, '', '{\"n\":7}', NULL);"
    "INSERT INTO gap VALUES (1, 2, 2, 1);"
    "INSERT INTO run VALUES (3, 'kitchen', 'Kettle', 0.9, 1000, 2000, 55.5, 1900, 2000, 'off'),"
    " (8, 'kitchen', 'Toaster', 0.8, 3000, 0, 1.5, 0, 900, '');"
    "INSERT INTO meter_progress VALUES ('kitchen', 3500);"
    "INSERT INTO meter_state VALUES ('kitchen', x'00010203ff');"
    "INSERT INTO routine VALUES"
    " ('kitchen', 'Kettle', 9, 120.5, 2, 130, 1900, 3, 1800, 2000, 60, 10, 1000);";

/* Schema 2: one that came from a file of schema 1. */
static const char step_2[] = "ALTER TABLE outbox ADD COLUMN crc INTEGER;"
                             "ALTER TABLE run ADD COLUMN crc INTEGER;";

/* Schema 3. */
static const char step_3[] =
    "CREATE TABLE place (meter TEXT PRIMARY KEY, data BLOB NOT NULL) STRICT;"
    "CREATE TABLE place_run (meter TEXT NOT NULL, start_ms INTEGER NOT NULL, number INTEGER NOT "
    "NULL, data BLOB NOT NULL, PRIMARY KEY (meter, start_ms)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX place_run_number ON place_run (meter, number, start_ms);"
    "CREATE TABLE place_habit (meter TEXT NOT NULL, appliance TEXT NOT NULL, data BLOB NOT NULL,"
    " PRIMARY KEY (meter, appliance)) STRICT;"
    "CREATE TABLE place_cells (meter TEXT NOT NULL, hour INTEGER NOT NULL, data BLOB NOT NULL,"
    " PRIMARY KEY (meter, hour)) STRICT;";

/* Schema 4. */
static const char step_4[] =
    "CREATE TABLE routine_4 (meter TEXT NOT NULL, appliance TEXT NOT NULL, runs INTEGER NOT NULL,"
    " first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, data BLOB NOT NULL,"
    " PRIMARY KEY (meter, appliance)) STRICT, WITHOUT ROWID;"
    "INSERT INTO routine_4 SELECT meter, appliance, runs, first_ms, last_ms, x'' FROM routine;"
    "DROP TABLE routine;"
    "ALTER TABLE routine_4 RENAME TO routine;"
    "CREATE TABLE energy (meter TEXT NOT NULL, start_ms INTEGER NOT NULL, wh REAL NOT NULL,"
    " low_w REAL NOT NULL, high_w REAL NOT NULL, seen_s INTEGER NOT NULL, run_s INTEGER NOT NULL,"
    " peak_s INTEGER NOT NULL, starts INTEGER NOT NULL, PRIMARY KEY (meter, start_ms))"
    " STRICT, WITHOUT ROWID;"
    "CREATE TABLE alert (id TEXT PRIMARY KEY, alert TEXT NOT NULL, meter TEXT NOT NULL,"
    " appliance TEXT NOT NULL, severity INTEGER NOT NULL, since_ms INTEGER NOT NULL,"
    " raised_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, cleared_ms INTEGER NOT NULL,"
    " expected TEXT NOT NULL, seen TEXT NOT NULL, value REAL NOT NULL, bound REAL NOT NULL,"
    " quality INTEGER NOT NULL, snoozed_ms INTEGER NOT NULL DEFAULT 0) STRICT;"
    "CREATE INDEX alert_raised ON alert (raised_ms);"
    "CREATE INDEX alert_open ON alert (meter, alert) WHERE cleared_ms = 0;"
    "CREATE INDEX alert_snoozed ON alert (snoozed_ms) WHERE snoozed_ms <> 0;";

/* Schema 5. */
static const char step_5[] =
    "CREATE TABLE machine (meter TEXT NOT NULL, start_ms INTEGER NOT NULL, wh REAL NOT NULL,"
    " off_ms INTEGER NOT NULL, idle_ms INTEGER NOT NULL, run_ms INTEGER NOT NULL,"
    " peak_ms INTEGER NOT NULL, starts INTEGER NOT NULL, PRIMARY KEY (meter, start_ms))"
    " STRICT, WITHOUT ROWID;"
    "CREATE TABLE machine_state (meter TEXT PRIMARY KEY, data BLOB NOT NULL) STRICT;"
    "INSERT INTO machine VALUES ('press', 1700000100000, 12.5, 0, 60000, 840000, 0, 1);"
    "INSERT INTO machine_state VALUES ('press', x'0102');";

/* The file of version i + 1. */
static const char *const released[][7] = {
    {released_tables_1, rows_1, NULL},
    {released_tables_1, rows_1, step_2, NULL},
    {released_tables_1, rows_1, step_2, step_3, NULL},
    {released_tables_1, rows_1, step_2, step_3, step_4, NULL},
    {released_tables_1, rows_1, step_2, step_3, step_4, step_5, NULL}};
#define RELEASED ((int)(sizeof released / sizeof released[0]))

static void write_file(const char *path, int version)
{
    sqlite3 *db;
    char mark[200];

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA page_size = 4096", 0, 0, 0), SQLITE_OK);
    for (int i = 0; released[version - 1][i] != NULL; i++) {
        char *message = NULL;
        if (sqlite3_exec(db, released[version - 1][i], 0, 0, &message) != SQLITE_OK)
            fail_msg("file of version %d: %s", version, message);
    }
    snprintf(mark, sizeof mark,
             "PRAGMA application_id = 0x4E494C4D; PRAGMA user_version = %d;"
             "INSERT INTO value VALUES ('store.schema', %d)",
             version, version);
    assert_int_equal(sqlite3_exec(db, mark, 0, 0, 0), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static int collect(void *context, const struct history_run *run)
{
    struct history_run **next = context;

    *(*next)++ = *run;
    return 0;
}

static void check_history(struct store *s)
{
    struct history_run runs[4], *next = runs, open;
    struct routine r;
    int64_t progress = 0;
    unsigned char state[16];

    assert_int_equal(history_list(s, 0, INT64_MAX, NULL, NULL, 4, collect, &next), 2);
    assert_int_equal(runs[1].id, 3);
    assert_string_equal(runs[1].appliance, "Kettle");
    assert_true(runs[1].energy_wh == 55.5 && runs[1].peak_w == 2000);
    assert_string_equal(runs[1].end_reason, "off");
    assert_int_equal(history_current(s, "kitchen", &open), 0);
    assert_int_equal(open.id, 8);
    assert_int_equal(history_progress(s, "kitchen", &progress), 0);
    assert_int_equal(progress, 3500);
    assert_int_equal(history_state(s, "kitchen", state, sizeof state), 5);
    assert_memory_equal(state, "\x00\x01\x02\x03\xff", 5);
    assert_int_equal(routine_get(s, "kitchen", "Kettle", &r), 0);
    assert_true(r.runs == 9 && r.data_bytes == 0 && r.last_ms == 1000);
}

/* The numbers go on, what waits goes out in its order, and the loss of before is declared. */
static void check_outbox(struct store *s)
{
    struct consumer *c = calloc(1, sizeof *c);
    struct outbox_stats stats;

    assert_int_equal(outbox_statistics(s, &stats), 0);
    assert_int_equal(stats.next_seq, 8);
    assert_int_equal(stats.events + stats.alerts + stats.reports, 4);
    assert_int_equal(stats.parked, 1);
    assert_int_equal(stats.epoch, 1700000000);
    assert_int_equal(outbox_unpark(s), 1);
    assert_int_equal(temp_append(s, OUTBOX_EVENT, 8), 8);
    assert_int_equal(consumer_drain(c, s), 6);
    c->received[1] = c->received[3] = 1;
    consumer_check(c, 10, 1);
    assert_int_equal(c->declared[2], 1);
    free(c);
}

/* Tables of later versions are there and can be used; version 5 has rows in them. */
static void check_later(struct store *s, int version)
{
    unsigned char bytes[4];
    int32_t day = 0;

    assert_int_equal(machines_get_state(s, "press", bytes, sizeof bytes),
                     version >= 5 ? 2 : -ENOENT);
    assert_int_equal(summaries_get(s, "press", &day), -ENOENT);
    assert_int_equal(summaries_put(s, "press", 20500), 0);
    assert_int_equal(summaries_put(s, "press", 20501), 0);
    assert_int_equal(summaries_get(s, "press", &day), 0);
    assert_int_equal(day, 20501);
    assert_int_equal(summaries_put(s, "", 1), -EINVAL);
}

static void zero_first_page(const char *path)
{
    size_t size;
    char *data = temp_read(path, &size);

    memset(data, 0, 4096);
    temp_write(path, data, size);
    free(data);
}

static void each_version_goes_forward(void **state)
{
    for (int version = 1; version <= RELEASED; version++) {
        struct store_report report;
        char name[32];
        char why[256] = "";
        struct store *s = NULL;
        int64_t value = 0;

        snprintf(name, sizeof name, "version-%d.db", version);
        const char *path = temp_path(state, name);
        write_file(path, version);
        if (store_open(path, &s, &report, why, sizeof why) != 0)
            fail_msg("version %d: %s", version, why);
        assert_string_equal(report.set_aside, "");
        assert_int_equal(report.created, 0);
        assert_int_equal(report.migrated_from, version);
        assert_int_equal(store_get(s, "answer", &value), 0);
        assert_int_equal(value, 42);
        check_history(s);
        check_outbox(s);
        check_later(s, version);
        store_close(s);
        assert_int_equal(store_open(path, &s, &report, why, sizeof why), 0);
        assert_int_equal(report.migrated_from, 0); /* once */
        assert_int_equal(store_check(s, 1, 1), 0);
        store_close(s);
        zero_first_page(path);
        assert_int_equal(store_open(path, &s, &report, why, sizeof why), 0);
        assert_int_equal(report.replaced, 1);
        check_history(s); /* its tables begin elsewhere than those of a new file */
        store_close(s);
    }
}

/* A step without a file of the version before it is not tested: then this fails. */
static void no_version_is_left_out(void **state)
{
    (void)state;
    assert_int_equal(RELEASED, store_schema_version() - 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)
    const struct CMUnitTest tests[] = {T(each_version_goes_forward), T(no_version_is_left_out)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
