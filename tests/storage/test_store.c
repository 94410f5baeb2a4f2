/* test_store.c - opening, transactions, named values, figures (SPEC 5.1 to 5.4, 5.12). */
#include "storage/lib_temp.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/history.h"
#include "storage/store_internal.h"

static void sql(const char *path, const char *text)
{
    sqlite3 *db;
    char *message = NULL;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, text, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s", message);
    sqlite3_close(db);
}

static int64_t number(sqlite3 *db, const char *text)
{
    sqlite3_stmt *q;

    assert_int_equal(sqlite3_prepare_v2(db, text, -1, &q, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return value;
}

/* SPEC 5.1: WAL and synchronous FULL. SPEC 5.2: application_id and user_version. */
static void makes_a_database(void **state)
{
    struct store_report report;
    struct store *s = temp_open(state, &report);
    struct stat st;

    assert_int_equal(report.created, 1);
    assert_int_equal(report.migrated_from, 0);
    assert_string_equal(report.set_aside, "");
    assert_int_equal(number(s->db, "PRAGMA application_id"), 0x4E494C4D);
    assert_int_equal(number(s->db, "PRAGMA user_version"), store_schema_version());
    assert_int_equal(number(s->db, "PRAGMA synchronous"), 2);
    assert_int_equal(number(s->db, "SELECT 1 FROM pragma_journal_mode WHERE journal_mode = 'wal'"),
                     1);
    assert_int_equal(stat(temp_path(state, "nilmd.db"), &st), 0);
    assert_int_equal(st.st_mode & 07, 0);
    store_close(s);

    s = temp_open(state, &report);
    assert_int_equal(report.created, 0);
    assert_string_equal(report.set_aside, "");
    store_close(s);
    store_close(NULL);
}

/* SPEC 5.12 */
static void keeps_values(void **state)
{
    struct store *s = temp_open(state, NULL);
    int64_t value = 42;

    assert_int_equal(store_get(s, "a", &value), -ENOENT);
    assert_int_equal(value, 42);
    assert_int_equal(store_set(s, "a", INT64_MIN), 0);
    assert_int_equal(store_set(s, "b", 5), 0);
    assert_int_equal(store_set(s, "b", 6), 0);
    assert_int_equal(store_set(s, "", 1), -EINVAL);
    assert_int_equal(store_set(s, "store.schema", 9), -EINVAL);
    assert_int_equal(
        store_set(s, "0123456789012345678901234567890123456789012345678901234567890123", 1),
        -EINVAL);
    assert_non_null(strstr(store_error(s), "63 bytes"));
    store_close(s);
    s = temp_open(state, NULL);
    assert_int_equal(store_get(s, "a", &value), 0);
    assert_true(value == INT64_MIN);
    assert_int_equal(store_get(s, "b", &value), 0);
    assert_int_equal(value, 6);
    store_close(s);
}

static void transactions_are_whole(void **state)
{
    struct store *s = temp_open(state, NULL), *other = temp_open(state, NULL);
    struct outbox_stats stats;
    int64_t epoch, value = 0;

    assert_int_equal(outbox_start(s, 1700000000, &epoch), 0);
    assert_int_equal(store_commit(s), -EINVAL);
    assert_int_equal(store_begin(s), 0);
    assert_int_equal(store_begin(s), -EALREADY);
    assert_int_equal(store_set(s, "x", 1), 0);
    assert_int_equal(temp_append(s, OUTBOX_EVENT, 1), 1);
    assert_int_equal(history_set_progress(s, "meter", 77), 0);
    assert_int_equal(store_get(other, "x", &value), -ENOENT); /* not before the commit */
    store_rollback(s);
    assert_int_equal(store_get(s, "x", &value), -ENOENT);
    assert_int_equal(outbox_statistics(s, &stats), 0);
    assert_int_equal(stats.next_seq, 1); /* the number was not used up */

    assert_int_equal(store_begin(s), 0);
    assert_int_equal(temp_append(s, OUTBOX_EVENT, 1), 1);
    assert_int_equal(history_set_progress(s, "meter", 77), 0);
    assert_int_equal(history_label(s, 999, "x"), -ENOENT); /* does not spoil */
    assert_int_equal(store_commit(s), 0);
    assert_int_equal(history_progress(other, "meter", &value), 0);
    assert_int_equal(value, 77);
    store_rollback(s); /* without one: nothing */
    store_close(s);
    store_close(other);
}

static void a_failed_write_spoils_the_transaction(void **state)
{
    struct store *s = temp_open(state, NULL);
    int64_t value;

    assert_int_equal(store_begin(s), 0);
    assert_int_equal(store_set(s, "x", 1), 0);
    sqlite3_exec(s->db, "PRAGMA query_only = 1", NULL, NULL, NULL);
    assert_int_equal(store_set(s, "y", 1), -EROFS);
    sqlite3_exec(s->db, "PRAGMA query_only = 0", NULL, NULL, NULL);
    assert_int_equal(store_set(s, "z", 1), -ECANCELED);
    assert_int_equal(store_commit(s), -ECANCELED);
    assert_int_equal(store_get(s, "x", &value), -ENOENT);
    assert_int_equal(store_set(s, "x", 2), 0);
    store_close(s);
}

/* A handle closed inside a transaction leaves nothing. */
static void closing_rolls_back(void **state)
{
    struct store *s = temp_open(state, NULL);
    int64_t value;

    assert_int_equal(store_begin(s), 0);
    assert_int_equal(store_set(s, "x", 1), 0);
    store_close(s);
    s = temp_open(state, NULL);
    assert_int_equal(store_get(s, "x", &value), -ENOENT);
    store_close(s);
}

static void reads_beside_a_writer(void **state)
{
    struct store *s = temp_open(state, NULL), *r = NULL;
    const char *path = temp_path(state, "nilmd.db");
    struct outbox_item items[4];
    char why[256] = "", buffer[OUTBOX_BODY_BYTES + 1];
    int64_t value = 0, epoch;
    uint64_t seq = 1;

    assert_int_equal(outbox_start(s, 0, &epoch), 0);
    temp_append(s, OUTBOX_EVENT, 5);
    assert_int_equal(store_begin(s), 0);
    assert_int_equal(store_set(s, "x", 1), 0);
    assert_int_equal(store_open_readonly(path, &r, why, sizeof why), 0);
    assert_int_equal(store_get(r, "x", &value), -ENOENT);
    assert_int_equal(outbox_fetch(r, 1, 0, items, 4, buffer, sizeof buffer), 1);
    assert_int_equal(outbox_fetch(r, 3, 0, items, 4, buffer, sizeof buffer), 0);
    assert_int_equal(store_commit(s), 0);
    assert_int_equal(store_get(r, "x", &value), 0);
    assert_int_equal(store_set(r, "x", 2), -EROFS);
    assert_int_equal(outbox_ack(r, &seq, 1), -EROFS);
    assert_int_equal(store_begin(r), -EROFS);
    store_close(r);
    store_close(s);
}

static void reading_refuses_what_is_no_database(void **state)
{
    struct store *r = NULL;
    char why[256] = "";

    assert_int_equal(store_open_readonly(temp_path(state, "none.db"), &r, why, sizeof why),
                     -ENOENT);
    assert_non_null(strstr(why, "none.db"));
    temp_write(temp_path(state, "junk.db"),
               "this is not a database, it only looks like text, many times over", 64);
    assert_int_equal(store_open_readonly(temp_path(state, "junk.db"), &r, why, sizeof why),
                     -EBADMSG);
    temp_write(temp_path(state, "empty.db"), "", 0);
    assert_int_equal(store_open_readonly(temp_path(state, "empty.db"), &r, why, sizeof why),
                     -EBADMSG);
    sql(temp_path(state, "other.db"), "CREATE TABLE t (x)");
    assert_int_equal(store_open_readonly(temp_path(state, "other.db"), &r, why, sizeof why),
                     -EBADMSG);
    assert_int_equal(temp_count(state, "corrupt"), 0); /* a reader moves nothing */
    assert_null(r);
}

/* SPEC 5.2: a newer schema is left alone. */
static void leaves_a_newer_schema(void **state)
{
    struct store *s = temp_open(state, NULL), *none;
    const char *path = temp_path(state, "nilmd.db");
    char why[256];

    store_close(s);
    sql(path,
        "PRAGMA user_version = 700; UPDATE value SET value = 700 WHERE name = 'store.schema'");
    assert_int_equal(store_open(path, &none, NULL, why, sizeof why), -EPROTO);
    assert_non_null(strstr(why, "nilmd.db: schema version 700 is newer"));
    assert_int_equal(store_open_readonly(path, &none, why, sizeof why), -EPROTO);
    assert_int_equal(temp_count(state, "corrupt"), 0);
}

/* Paths that SQLite would read as something else are files. */
static void odd_paths_are_files(void **state)
{
    char why[256], here[4096];
    struct store *s;

    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir(*state), 0);
    assert_int_equal(store_open(":memory:", &s, NULL, why, sizeof why), 0);
    store_close(s);
    assert_int_equal(store_open("file:x?mode=memory", &s, NULL, why, sizeof why), 0);
    store_close(s);
    assert_int_equal(access(":memory:", F_OK), 0);
    assert_int_equal(access("file:x?mode=memory", F_OK), 0);
    assert_int_equal(chdir(here), 0);
    assert_int_equal(store_open(temp_path(state, "no/such/folder.db"), &s, NULL, why, sizeof why),
                     -ENOENT);
    assert_non_null(strstr(why, "folder.db"));
}

static void tells_its_size(void **state)
{
    struct store *s = temp_open(state, NULL);
    struct store_usage before, after;
    uint64_t bytes = 0;
    int64_t epoch;

    assert_int_equal(outbox_start(s, 0, &epoch), 0);
    assert_int_equal(store_usage(s, &before), 0);
    for (int i = 0; i < 1500; i++)
        temp_append(s, OUTBOX_EVENT, i);
    assert_int_equal(store_usage(s, &after), 0);
    assert_int_equal(store_size(s, &bytes), 0);
    assert_int_equal(bytes, after.database_bytes + after.wal_bytes);
    assert_true(after.database_bytes > before.database_bytes && after.wal_bytes > 0);
    /* Each commit writes at least one page of the log, and the log was copied back at least once.
     */
    assert_true(after.written_bytes - before.written_bytes > 1500u * 4096u);
    assert_true(s->copied_bytes > 0);
    store_close(s);
}

/* A writer that waits longer than the busy time-out gets -EBUSY and can go on. */
static void a_busy_file_is_told(void **state)
{
    struct store *s = temp_open(state, NULL), *other = temp_open(state, NULL);

    sqlite3_busy_timeout(other->db, 20);
    assert_int_equal(store_begin(s), 0);
    assert_int_equal(store_set(other, "x", 1), -EBUSY);
    assert_int_equal(store_commit(s), 0);
    assert_int_equal(store_set(other, "x", 1), 0);
    store_close(s);
    store_close(other);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)
    const struct CMUnitTest tests[] = {
        T(makes_a_database),
        T(keeps_values),
        T(transactions_are_whole),
        T(a_failed_write_spoils_the_transaction),
        T(closing_rolls_back),
        T(reads_beside_a_writer),
        T(reading_refuses_what_is_no_database),
        T(leaves_a_newer_schema),
        T(odd_paths_are_files),
        T(tells_its_size),
        T(a_busy_file_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
