/* test_outbox.c - numbers, epochs, fetching, acknowledging, parking (SPEC 5.4, 5.5). */
#include "storage/lib_consumer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/store_internal.h"

static struct store *started(void **state)
{
    struct store *s = temp_open(state, NULL);
    int64_t epoch = 0;

    assert_int_equal(outbox_start(s, 1700000000, &epoch), 0);
    return s;
}

/* SPEC 5.4: epochs grow across restarts, and with the clock. */
static void epochs_grow(void **state)
{
    struct store *s = temp_open(state, NULL);
    int64_t first = 0, epoch = 0;

    assert_int_equal(outbox_start(s, 86400, &first), 0); /* 1970: clock not set */
    assert_in_range(first, 1, 1 << 30);
    assert_int_equal(outbox_start(s, 0, &epoch), 0);
    assert_int_equal(epoch, first + 1);
    store_close(s);
    s = temp_open(state, NULL);
    assert_int_equal(outbox_start(s, 1800000000, &epoch), 0);
    assert_int_equal(epoch, 1800000000);
    assert_int_equal(outbox_start(s, 1750000000, &epoch), 0); /* the clock went back */
    assert_int_equal(epoch, 1800000001);
    assert_int_equal(outbox_start(s, INT64_MAX, &epoch), 0);
    assert_int_equal(epoch, 1800000002);
    assert_int_equal(outbox_start(s, INT64_MIN, &epoch), 0);
    assert_int_equal(epoch, 1800000003);
    store_close(s);
}

/* SPEC 5.4: no hole, never used twice: across restarts, an empty table, and a rolled back
 * transaction. */
static void numbers_go_on(void **state)
{
    struct store *s = started(state);
    struct outbox_stats stats;
    uint64_t seqs[] = {1, 2, 3};

    for (uint64_t i = 1; i <= 3; i++)
        assert_int_equal(temp_append(s, OUTBOX_EVENT, 0), i);
    assert_int_equal(outbox_ack(s, seqs, 3), 0);
    assert_int_equal(outbox_statistics(s, &stats), 0);
    assert_int_equal(stats.rows, 0);
    assert_int_equal(stats.oldest_seq, 0);
    store_close(s);
    s = temp_open(state, NULL);
    assert_int_equal(temp_append(s, OUTBOX_ALERT, 0), 4);
    assert_int_equal(store_begin(s), 0);
    assert_int_equal(temp_append(s, OUTBOX_ALERT, 0), 5);
    store_rollback(s);
    assert_int_equal(temp_append(s, OUTBOX_ALERT, 0), 5);
    store_close(s);
}

static void keeps_items_as_given(void **state)
{
    struct store *s = started(state);
    const char *body = "{\"appliance\":\"K\xc3\xbchlschrank\"}";
    struct outbox_item item = {.kind = OUTBOX_REPORT,
                               .created_ms = -5,
                               .channel = "m\xc3\xa9ter",
                               .body = body,
                               .body_bytes = strlen(body)};
    struct outbox_item found;
    char buffer[OUTBOX_BODY_BYTES + 1];
    uint64_t seq;

    assert_int_equal(outbox_append(s, &item, &seq), 0);
    assert_int_equal(outbox_fetch(s, 1, 0, &found, 1, buffer, sizeof buffer), 1);
    assert_int_equal(found.seq, seq);
    assert_int_equal(found.epoch, 1700000000);
    assert_int_equal(found.kind, OUTBOX_REPORT);
    assert_int_equal(found.priority, 1);
    assert_true(found.created_ms == -5);
    assert_string_equal(found.channel, item.channel);
    assert_string_equal(found.body, body);
    assert_int_equal(found.body_bytes, strlen(body));
    store_close(s);
}

static void refuses_bad_items(void **state)
{
    struct store *s = temp_open(state, NULL);
    struct outbox_item good = {.kind = OUTBOX_EVENT, .body = "{}", .body_bytes = 2}, bad = good;
    char *large = malloc(OUTBOX_BODY_BYTES + 2);
    struct outbox_stats stats;
    int64_t epoch;
    uint64_t seq = 99;

    assert_int_equal(outbox_append(s, &good, &seq), -EINVAL); /* no epoch yet */
    assert_non_null(strstr(store_error(s), "outbox_start"));
    assert_int_equal(outbox_start(s, 0, &epoch), 0);
    bad.kind = OUTBOX_GAP;
    assert_int_equal(outbox_append(s, &bad, &seq), -EINVAL);
    bad.kind = (enum outbox_kind)9;
    assert_int_equal(outbox_append(s, &bad, &seq), -EINVAL);
    bad = good, bad.body = NULL;
    assert_int_equal(outbox_append(s, &bad, &seq), -EINVAL);
    bad = good, bad.body_bytes = 0;
    assert_int_equal(outbox_append(s, &bad, &seq), -EINVAL);
    bad = good, bad.body = "[1]", bad.body_bytes = 3;
    assert_int_equal(outbox_append(s, &bad, &seq), -EINVAL);
    bad = good, bad.body = "{\0}", bad.body_bytes = 3;
    assert_int_equal(outbox_append(s, &bad, &seq), -EINVAL);
    bad = good, memset(bad.channel, 'x', sizeof bad.channel);
    assert_int_equal(outbox_append(s, &bad, &seq), -EINVAL);
    memset(large, ' ', OUTBOX_BODY_BYTES + 2);
    large[0] = '{', large[OUTBOX_BODY_BYTES] = '}';
    bad = good, bad.body = large, bad.body_bytes = OUTBOX_BODY_BYTES + 1;
    assert_int_equal(outbox_append(s, &bad, &seq), -EINVAL);
    assert_non_null(strstr(store_error(s), "8192"));
    large[OUTBOX_BODY_BYTES - 1] = '}';
    bad.body_bytes = OUTBOX_BODY_BYTES;
    assert_int_equal(seq, 99);
    assert_int_equal(outbox_append(s, &bad, &seq), 0); /* the largest that is allowed */
    assert_int_equal(seq, 1);
    assert_int_equal(outbox_statistics(s, &stats), 0);
    assert_int_equal(stats.bytes, OUTBOX_BODY_BYTES + OUTBOX_OVERHEAD_BYTES);
    free(large);
    store_close(s);
}

static void fetches_by_priority_in_pages(void **state)
{
    struct store *s = started(state);
    struct outbox_item items[10];
    char buffer[OUTBOX_BODY_BYTES + 1];
    uint64_t expected = 1, after = 0;
    int n;

    for (int i = 0; i < 40; i++)
        temp_append(s, i % 4 == 0 ? OUTBOX_ALERT : i % 2 ? OUTBOX_EVENT : OUTBOX_REPORT, i);
    assert_int_equal(outbox_fetch(s, 3, 0, items, 10, buffer, sizeof buffer), 0);
    assert_int_equal(outbox_fetch(s, 2, 0, items, 10, buffer, sizeof buffer), 10);
    for (int i = 0; i < 10; i++)
        assert_int_equal(items[i].seq, 1 + 4 * i);
    assert_int_equal(outbox_fetch(s, 2, 37, items, 10, buffer, sizeof buffer), 0);
    assert_int_equal(outbox_fetch(s, 2, UINT64_MAX, items, 10, buffer, sizeof buffer), 0);
    for (int total = 0; total < 30; total += n) { /* events and reports together, in order */
        n = outbox_fetch(s, 1, after, items, 7, buffer, sizeof buffer);
        assert_in_range(n, 1, 7);
        for (int i = 0; i < n; i++) {
            expected += expected % 4 == 1;
            assert_int_equal(items[i].seq, expected++);
        }
        after = items[n - 1].seq;
    }
    assert_int_equal(outbox_fetch(s, 1, after, items, 7, buffer, sizeof buffer), 0);
    assert_int_equal(outbox_fetch(s, 0, 0, items, 7, buffer, sizeof buffer), -EINVAL);
    assert_int_equal(outbox_fetch(s, 4, 0, items, 7, buffer, sizeof buffer), -EINVAL);
    assert_int_equal(outbox_fetch(s, 1, 0, items, 0, buffer, sizeof buffer), 0);

    /* {"n":1} and its NUL take 8 bytes: 17 hold two. */
    assert_int_equal(outbox_fetch(s, 1, 0, items, 7, buffer, 17), 2);
    assert_string_equal(items[0].body, "{\"n\":1}");
    assert_string_equal(items[1].body, "{\"n\":2}");
    assert_int_equal(outbox_fetch(s, 1, 0, items, 7, buffer, 8), 1);
    assert_int_equal(outbox_fetch(s, 1, 0, items, 7, buffer, 7), -ENOBUFS);
    store_close(s);
}

static void acknowledges_in_any_order(void **state)
{
    struct store *s = started(state);
    uint64_t some[] = {7, 2, 7, 999, UINT64_MAX, 0, 5};
    struct consumer *c = calloc(1, sizeof *c);
    struct outbox_stats stats;

    for (int i = 0; i < 10; i++)
        temp_append(s, i == 4 ? OUTBOX_ALERT : OUTBOX_EVENT, i);
    assert_int_equal(outbox_ack(s, some, 7), 0);
    assert_int_equal(outbox_ack(s, NULL, 0), 0);
    assert_int_equal(outbox_statistics(s, &stats), 0);
    assert_int_equal(stats.rows, 7);
    assert_int_equal(stats.events, 7);
    assert_int_equal(stats.alerts, 0);
    assert_int_equal(stats.acknowledged, 3);
    assert_int_equal(stats.oldest_seq, 1);
    assert_true(stats.oldest_ms == 1700000000000);
    assert_int_equal(consumer_drain(c, s), 7);
    assert_int_equal(c->received[2] + c->received[5] + c->received[7], 0);
    assert_int_equal(outbox_statistics(s, &stats), 0);
    assert_int_equal(stats.rows + stats.bytes, 0);
    assert_int_equal(stats.next_seq, 11);
    free(c);
    store_close(s);
}

static void parks_and_offers_again(void **state)
{
    struct store *s = started(state);
    struct outbox_item items[4];
    char buffer[OUTBOX_BODY_BYTES + 1];
    struct outbox_stats stats;
    uint64_t two = 2;

    for (int i = 0; i < 3; i++)
        temp_append(s, OUTBOX_EVENT, i);
    assert_int_equal(outbox_park(s, 2, "not authorized"), 0);
    assert_int_equal(outbox_park(s, 2, "again"), -ENOENT);
    assert_int_equal(outbox_park(s, 17, "no such item"), -ENOENT);
    assert_int_equal(outbox_park(s, UINT64_MAX, "no such item"), -ENOENT);
    assert_int_equal(outbox_fetch(s, 1, 0, items, 4, buffer, sizeof buffer), 2);
    assert_int_equal(items[1].seq, 3);
    assert_int_equal(outbox_statistics(s, &stats), 0);
    assert_int_equal(stats.parked, 1);
    assert_int_equal(stats.rows, 3);
    store_close(s);
    s = temp_open(state, NULL);
    assert_int_equal(outbox_unpark(s), 1);
    assert_int_equal(outbox_unpark(s), 0);
    assert_int_equal(outbox_fetch(s, 1, 0, items, 4, buffer, sizeof buffer), 3);
    assert_int_equal(outbox_park(s, 2, NULL), 0);
    assert_int_equal(outbox_ack(s, &two, 1), 0); /* a parked item can be acknowledged */
    assert_int_equal(outbox_statistics(s, &stats), 0);
    assert_int_equal(stats.parked, 0);
    assert_int_equal(stats.rows, 2);
    store_close(s);
}

/* Work of SQLite's virtual machine in all cached statements since the last call. */
static int steps(struct store *s)
{
    int sum = 0;

    for (int i = 0; i < STORE_STATEMENTS; i++)
        if (s->statements[i] != NULL)
            sum += sqlite3_stmt_status(s->statements[i], SQLITE_STMTSTATUS_VM_STEP, 1);
    return sum;
}

/* From opening to the first epoch; beyond what is checked whole. */
static int pages_read_by_a_start(void **state)
{
    int64_t epoch;
    int pages = 0, high = 0;
    struct store *s = temp_open(state, NULL);

    assert_int_equal(outbox_start(s, 1700000000, &epoch), 0);
    assert_int_equal(sqlite3_db_status(s->db, SQLITE_DBSTATUS_CACHE_MISS, &pages, &high, 0),
                     SQLITE_OK);
    store_close(s);
    return pages;
}

static int work_of_each_call(struct store *s)
{
    struct outbox_caps caps = {
        .max_rows = 1000000000, .max_bytes = 1ull << 50, .max_age_ms = 1000000000};
    struct outbox_item items[4];
    char buffer[OUTBOX_BODY_BYTES + 1];
    struct outbox_stats stats;

    outbox_limit(s, &caps);
    for (int i = 0; i < 2; i++) { /* the second time nothing is prepared any more */
        steps(s);
        uint64_t seq = temp_append(s, OUTBOX_EVENT, 1);
        assert_in_range(outbox_fetch(s, 1, 0, items, 4, buffer, sizeof buffer), 1, 4);
        assert_int_equal(outbox_fetch(s, 2, 0, items, 4, buffer, sizeof buffer), 0);
        assert_int_equal(outbox_fetch(s, 3, 0, items, 4, buffer, sizeof buffer), 0);
        assert_int_equal(outbox_statistics(s, &stats), 0);
        caps.max_rows = stats.rows - 1; /* one goes, and becomes a gap */
        outbox_limit(s, &caps);
        temp_append(s, OUTBOX_REPORT, 2);
        assert_int_equal(outbox_fetch(s, 3, 0, items, 1, buffer, sizeof buffer), 1);
        assert_int_equal(outbox_ack(s, &items[0].seq, 1), 0);
        assert_int_equal(outbox_ack(s, &seq, 1), 0);
    }
    return steps(s);
}

/* SPEC 5.6: the work of a call is the same with 8 items waiting and with 200,000 (NILM_OUTBOX_ROWS:
 * another number). */
static void work_does_not_depend_on_the_backlog(void **state)
{
    const char *rows = getenv("NILM_OUTBOX_ROWS");
    char sql[900];
    struct store *s = started(state);
    struct outbox_stats stats;

    for (int i = 0; i < 8; i++)
        temp_append(s, OUTBOX_EVENT, i);
    int few = work_of_each_call(s);
    assert_int_equal(outbox_statistics(s, &stats), 0);
    int n = snprintf(
        sql, sizeof sql,
        "BEGIN IMMEDIATE; WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < "
        "%s - 1)"
        " INSERT INTO outbox (seq, epoch, kind, priority, created_ms, age_ms, size, channel, body)"
        " SELECT %llu + i, 1700000000, 1, 1, 0, 0, 269, 'meter', '{\"x\":\"' || hex(zeroblob(96)) "
        "|| '\"}' FROM n;"
        "UPDATE outbox_state SET next_seq = next_seq + %s, events = events + %s, bytes = bytes + "
        "269 * %s; COMMIT",
        rows == NULL ? "200000" : rows, (unsigned long long)stats.next_seq,
        rows == NULL ? "200000" : rows, rows == NULL ? "200000" : rows,
        rows == NULL ? "200000" : rows);
    assert_in_range(n, 1, sizeof sql - 1);
    assert_int_equal(sqlite3_exec(s->db, sql, NULL, NULL, NULL), SQLITE_OK);
    int many = work_of_each_call(s);
    print_message("steps of the virtual machine: %d with few, %d with many\n", few, many);
    assert_in_range(many, few / 2, few + few / 4);
    store_close(s);
    int pages = pages_read_by_a_start(state);
    s = temp_open(state, NULL);
    assert_int_equal(sqlite3_exec(s->db,
                                  "DELETE FROM outbox WHERE seq > 60000; UPDATE outbox_state SET "
                                  "events = 60000, next_seq = 200100",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    store_close(s);
    int fewer = pages_read_by_a_start(state); /* the file keeps its size */
    print_message("pages read by a start: %d with all, %d with 60000 waiting\n", pages, fewer);
    assert_in_range(pages, 1, 100);
    assert_in_range(fewer, 1, pages + 300); /* the list of free pages: one for a thousand of them */
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)
    const struct CMUnitTest tests[] = {
        T(epochs_grow),
        T(numbers_go_on),
        T(keeps_items_as_given),
        T(refuses_bad_items),
        T(fetches_by_priority_in_pages),
        T(acknowledges_in_any_order),
        T(parks_and_offers_again),
        T(work_does_not_depend_on_the_backlog),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
