/* test_full.c - a full disk: told as -ENOSPC, nothing half done, and everything goes on afterwards
 * (SPEC 5.3). */
#include "storage/lib_consumer.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "storage/history.h"
#include "storage/slots.h"
#include "storage/store_internal.h"

/* No file may grow beyond bytes (0: no limit again). The disk's own "full" cannot be had without
 * one. */
static void limit_files(rlim_t bytes)
{
    struct rlimit limit;

    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes == 0 ? limit.rlim_max : bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static struct store *started(void **state)
{
    struct store *s = temp_open(state, NULL);
    int64_t epoch;

    assert_int_equal(outbox_start(s, 1700000000, &epoch), 0);
    return s;
}

/* Appends until it fails; returns the code. */
static int append_until_full(struct store *s, uint64_t *last)
{
    static char body[OUTBOX_BODY_BYTES];
    struct outbox_item item = {.kind = OUTBOX_EVENT, .body = body, .body_bytes = 4000};
    int rc = 0;

    memset(body, ' ', sizeof body);
    body[0] = '{', body[3999] = '}';
    for (int i = 0; i < 5000 && rc == 0; i++) {
        uint64_t seq;
        rc = outbox_append(s, &item, &seq);
        if (rc == 0)
            *last = seq;
    }
    return rc;
}

static void check_all(struct store *s, uint64_t next_seq)
{
    struct consumer *c = calloc(1, sizeof *c);
    struct outbox_stats stats;

    assert_int_equal(outbox_statistics(s, &stats), 0);
    assert_int_equal(stats.next_seq, next_seq);
    assert_int_equal(stats.rows, next_seq - 1);
    consumer_drain(c, s);
    consumer_check(c, next_seq, 1);
    free(c);
}

static void the_database_cannot_grow(void **state)
{
    struct store *s = started(state);
    uint64_t last = 0, one = 1;
    int64_t value;
    char sql[64];

    snprintf(sql, sizeof sql, "PRAGMA max_page_count = %d", 60);
    assert_int_equal(sqlite3_exec(s->db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(append_until_full(s, &last), -ENOSPC);
    assert_non_null(strstr(store_error(s), "nilmd.db: append to the outbox: "));
    assert_true(last > 10);
    assert_int_equal(append_until_full(s, &last), -ENOSPC); /* still told, still no number used */
    assert_int_equal(store_set(s, "small", 1), 0);
    assert_int_equal(outbox_ack(s, &one, 1), 0); /* room again */
    uint64_t before = last;
    assert_int_equal(append_until_full(s, &last), -ENOSPC);
    assert_true(last > before);
    assert_int_equal(store_get(s, "small", &value), 0);
    struct outbox_stats stats;
    assert_int_equal(outbox_statistics(s, &stats), 0);
    assert_int_equal(stats.next_seq, last + 1);
    assert_int_equal(stats.rows, last - 1);
    store_close(s);
}

static void the_log_cannot_grow(void **state)
{
    struct store *s = started(state);
    uint64_t last = 0;
    struct store_usage usage;

    assert_int_equal(store_usage(s, &usage), 0);
    limit_files(usage.wal_bytes + 40000);
    int rc = append_until_full(s, &last);
    int again = append_until_full(s, &last);
    int began = store_begin(s), spoiled = append_until_full(s, &last), committed = store_commit(s);
    struct outbox_stats stats;
    int read = outbox_statistics(s, &stats); /* reading goes on */
    limit_files(0);
    assert_int_equal(rc, -ENOSPC);
    assert_int_equal(again, -ENOSPC);
    assert_int_equal(began, 0);
    /* In a transaction the pages wait in memory: the failure may come with the commit. */
    assert_true(spoiled == -ENOSPC || spoiled == -ECANCELED || spoiled == 0);
    assert_true(committed == -ENOSPC || committed == -ECANCELED);
    assert_int_equal(read, 0);
    assert_int_equal(stats.next_seq - 1, stats.rows);
    assert_int_equal(temp_append(s, OUTBOX_ALERT, 1), stats.next_seq);
    check_all(s, stats.next_seq + 1);
    store_close(s);
}

static void opening_on_a_full_disk(void **state)
{
    struct store *s = NULL;
    char why[256] = "";

    limit_files(1);
    int rc = store_open(temp_path(state, "nilmd.db"), &s, NULL, why, sizeof why);
    limit_files(0);
    assert_int_equal(rc, -ENOSPC);
    assert_non_null(strstr(why, "nilmd.db"));
    assert_int_equal(temp_count(state, ".corrupt-"), 0);
    s = started(state);
    assert_int_equal(temp_append(s, OUTBOX_EVENT, 1), 1);
    store_close(s);
    limit_files(1); /* not even room for the index of the log */
    rc = store_open(temp_path(state, "nilmd.db"), &s, NULL, why, sizeof why);
    limit_files(33000); /* room for that and a few pages */
    int rc2 = store_open(temp_path(state, "nilmd.db"), &s, NULL, why, sizeof why);
    uint64_t last = 0;
    int written = rc2 == 0 ? append_until_full(s, &last) : 0;
    limit_files(0);
    assert_int_equal(rc, -ENOSPC);
    if (rc2 != 0)
        fail_msg("%s", why);
    assert_int_equal(written, -ENOSPC);
    assert_int_equal(temp_count(state, ".corrupt-"), 0);
    check_all(s, last == 0 ? 2 : last + 1);
    store_close(s);
}

static void slots_on_a_full_disk(void **state)
{
    static char bundle[100000];
    struct slots *slots = NULL;
    struct slots_info info;
    char why[256] = "";
    void *data = NULL;
    size_t size = 0;
    int repaired;

    assert_int_equal(slots_open(temp_path(state, "models"), &slots, &repaired, why, sizeof why), 0);
    assert_int_equal(slots_stage(slots, "good", 4, why, sizeof why), 0);
    assert_int_equal(slots_activate(slots, 3, why, sizeof why), 0);
    limit_files(50000);
    int rc = slots_stage(slots, bundle, sizeof bundle, why, sizeof why);
    limit_files(0);
    assert_int_equal(rc, -ENOSPC);
    assert_non_null(strstr(why, "b.bundle"));
    assert_int_equal(slots_activate(slots, 4, why, sizeof why), -ENOENT);
    assert_int_equal(slots_get(slots, &info), 0);
    assert_int_equal(info.active, 'a');
    assert_int_equal(slots_read(slots, 'a', 100, &data, &size, why, sizeof why), 0);
    assert_memory_equal(data, "good", 4);
    free(data);
    slots_close(slots);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)
    const struct CMUnitTest tests[] = {T(the_database_cannot_grow), T(the_log_cannot_grow),
                                       T(opening_on_a_full_disk), T(slots_on_a_full_disk)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
