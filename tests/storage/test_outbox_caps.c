/* test_outbox_caps.c - what goes when the outbox is full, and that every loss is declared
 * (SPEC 5.6, 5.7). */
#include "storage/lib_consumer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/store_internal.h"

#define DAY 86400000ll

static int64_t clock_ms = 1700000000000;

static int64_t test_clock(void)
{
    return clock_ms;
}

static struct store *started(void **state, struct outbox_caps caps)
{
    struct store *s = temp_open(state, NULL);
    int64_t epoch = 0;

    s->now_ms = test_clock;
    assert_int_equal(outbox_start(s, 1700000000, &epoch), 0);
    outbox_limit(s, &caps);
    /* Durability is the matter of test_kill.c and test_power.c. */
    assert_int_equal(sqlite3_exec(s->db, "PRAGMA synchronous = OFF", NULL, NULL, NULL), SQLITE_OK);
    return s;
}

static struct outbox_stats figures(struct store *s)
{
    struct outbox_stats stats;

    assert_int_equal(outbox_statistics(s, &stats), 0);
    return stats;
}

static int64_t one_number(struct store *s, const char *sql)
{
    sqlite3_stmt *q;

    assert_int_equal(sqlite3_prepare_v2(s->db, sql, -1, &q, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    int64_t n = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return n;
}

/* The counters are what counting would give. */
static void check_counters(struct store *s)
{
    assert_int_equal(one_number(s, "SELECT events + alerts + gaps + reports - (SELECT count(*) "
                                   "FROM outbox) FROM outbox_state"),
                     0);
    assert_int_equal(one_number(s, "SELECT bytes - (SELECT coalesce(sum(length(cast(body AS BLOB))"
                                   " + length(cast(channel AS BLOB)) + 64), 0) FROM outbox WHERE "
                                   "kind <> 3) FROM outbox_state"),
                     0);
    assert_int_equal(
        one_number(s,
                   "SELECT parked - (SELECT count(*) FROM outbox WHERE parked) FROM outbox_state"),
        0);
    assert_int_equal(
        one_number(
            s, "SELECT alerts - (SELECT count(*) FROM outbox WHERE kind = 2) FROM outbox_state"),
        0);
}

/* One run of dropped numbers is one gap, exactly. */
static void the_oldest_go_and_one_gap_tells(void **state)
{
    struct store *s = started(state, (struct outbox_caps){.max_rows = 10});
    struct consumer *c = calloc(1, sizeof *c);

    for (int i = 0; i < 100; i++) {
        temp_append(s, OUTBOX_EVENT, i);
        assert_int_equal(figures(s).events, i < 10 ? i + 1 : 10);
    }
    assert_int_equal(figures(s).dropped, 90);
    assert_int_equal(figures(s).gaps, 1); /* still a range: no number yet */
    assert_int_equal(figures(s).next_seq, 101);
    assert_int_equal(figures(s).oldest_seq, 91);
    check_counters(s);
    assert_int_equal(consumer_drain(c, s), 11);
    assert_int_equal(c->gaps, 1);
    assert_int_equal(c->exact, 1);
    assert_int_equal(c->lost, 90);
    assert_int_equal(c->declared[1] + c->declared[90], 2);
    consumer_check(c, figures(s).next_seq, 1);
    assert_int_equal(figures(s).rows, 0);
    free(c);
    store_close(s);
}

static void a_gap_that_may_be_in_flight_does_not_change(void **state)
{
    struct store *s = started(state, (struct outbox_caps){.max_rows = 5});
    struct outbox_item gap;
    char first[OUTBOX_BODY_BYTES + 1], second[OUTBOX_BODY_BYTES + 1];
    struct consumer *c = calloc(1, sizeof *c);

    for (int i = 0; i < 8; i++)
        temp_append(s, OUTBOX_EVENT, i);
    assert_int_equal(outbox_fetch(s, 3, 0, &gap, 1, first, sizeof first), 1);
    assert_string_equal(gap.body, "{\"from_seq\":1,\"to_seq\":3,\"count\":3,\"reason\":\"rows\"}");
    uint64_t seq = gap.seq;
    for (int i = 0; i < 3; i++)
        temp_append(s, OUTBOX_EVENT, i); /* 4, 5, 6 go: adjacent to what is in flight */
    store_close(s);
    s = started(state, (struct outbox_caps){.max_rows = 5});
    assert_int_equal(outbox_fetch(s, 3, 0, &gap, 1, second, sizeof second), 1);
    assert_int_equal(gap.seq, seq);
    assert_string_equal(gap.body, first);
    assert_int_equal(outbox_fetch(s, 3, seq, &gap, 1, second, sizeof second), 1);
    assert_string_equal(gap.body, "{\"from_seq\":4,\"to_seq\":6,\"count\":3,\"reason\":\"rows\"}");
    consumer_drain(c, s);
    consumer_check(c, figures(s).next_seq, 1);
    assert_int_equal(c->lost, figures(s).dropped);
    free(c);
    store_close(s);
}

static void alerts_outlive_events_and_parked_go_first(void **state)
{
    struct store *s = started(state, (struct outbox_caps){.max_rows = 6});
    struct outbox_item items[8];
    char buffer[OUTBOX_BODY_BYTES + 1];

    temp_append(s, OUTBOX_ALERT, 1);
    temp_append(s, OUTBOX_EVENT, 2);
    temp_append(s, OUTBOX_ALERT, 3);
    temp_append(s, OUTBOX_EVENT, 4);
    temp_append(s, OUTBOX_REPORT, 5);
    temp_append(s, OUTBOX_EVENT, 6);
    assert_int_equal(outbox_park(s, 3, "refused"), 0); /* an alert, yet it goes before any event */
    temp_append(s, OUTBOX_ALERT, 7);
    assert_int_equal(figures(s).parked, 0);
    assert_int_equal(figures(s).alerts, 2);
    assert_int_equal(outbox_fetch(s, 1, 0, items, 8, buffer, sizeof buffer), 4);
    for (int i = 8; i <= 12; i++)
        temp_append(s, OUTBOX_ALERT, i);
    assert_int_equal(figures(s).alerts, 6); /* 2, 4, 5, 6 went, then alert 1 */
    assert_int_equal(figures(s).dropped, 6);
    uint64_t own = temp_append(s, OUTBOX_EVENT, 13); /* less than all that waits: dropped at once */
    assert_int_equal(own, 13);
    assert_int_equal(figures(s).events, 0);
    assert_int_equal(figures(s).alerts, 6);
    assert_int_equal(outbox_fetch(s, 2, 0, items, 8, buffer, sizeof buffer), 6);
    assert_int_equal(items[0].seq, 7);
    check_counters(s);

    struct consumer *c = calloc(1, sizeof *c);
    consumer_drain(c, s);
    consumer_check(c, figures(s).next_seq, 1);
    assert_int_equal(c->lost, 7);
    assert_int_equal(c->gaps, 2); /* 1 to 6 (the runs met), 13 */
    free(c);
    store_close(s);
}

static void bytes_are_bounded(void **state)
{
    struct store *s = started(state, (struct outbox_caps){.max_bytes = 20000});
    char body[OUTBOX_BODY_BYTES];
    struct outbox_item item = {.kind = OUTBOX_EVENT, .channel = "m", .body = body};
    struct consumer *c = calloc(1, sizeof *c);
    uint64_t seq, random = 7;

    memset(body, ' ', sizeof body);
    body[0] = '{';
    for (int i = 0; i < 500; i++) {
        item.body_bytes = 2 + temp_random(&random) % (sizeof body - 1);
        body[item.body_bytes - 1] = '}';
        assert_int_equal(outbox_append(s, &item, &seq), 0);
        body[item.body_bytes - 1] = ' ';
        assert_true(figures(s).bytes <= 20000);
    }
    check_counters(s);
    consumer_drain(c, s);
    consumer_check(c, figures(s).next_seq, 1);
    assert_int_equal(c->lost, figures(s).dropped);
    assert_int_equal(c->gaps, 1);
    assert_int_equal(figures(s).bytes, 0);
    free(c);
    store_close(s);
}

/* Age is time that the agent saw pass, alerts included. */
static void the_aged_go(void **state)
{
    struct store *s = started(state, (struct outbox_caps){.max_age_ms = 3 * DAY});
    struct consumer *c = calloc(1, sizeof *c);

    temp_append(s, OUTBOX_ALERT, 0);
    for (int i = 1; i <= 12; i++) {
        clock_ms += DAY / 4;
        temp_append(s, OUTBOX_EVENT, i);
    }
    assert_int_equal(figures(s).dropped, 0);
    clock_ms += DAY / 4;
    temp_append(s, OUTBOX_EVENT, 13);
    assert_int_equal(figures(s).dropped, 1);
    clock_ms += DAY / 2;
    temp_append(s, OUTBOX_EVENT, 14);
    assert_int_equal(figures(s).dropped, 3);
    consumer_drain(c, s);
    consumer_check(c, figures(s).next_seq, 1);
    assert_int_equal(c->lost, 3);
    free(c);
    store_close(s);
}

/* SPEC 5.6: a clock that jumps drops nothing that is young. */
static void a_clock_that_jumps_drops_nothing(void **state)
{
    struct store *s = started(state, (struct outbox_caps){.max_age_ms = 3 * DAY});
    const int64_t jumps[] = {0,         3600000,   1700000000000, 4102444800000, -5, 1700000000000,
                             INT64_MAX, INT64_MIN, 1700000000000};

    for (size_t i = 0; i < 3; i++) {
        clock_ms = jumps[i];
        temp_append(s, OUTBOX_EVENT, (int64_t)i);
    }
    assert_int_equal(figures(s).dropped, 0);
    for (size_t i = 3; i < sizeof jumps / sizeof jumps[0]; i++) {
        clock_ms = jumps[i];
        temp_append(s, OUTBOX_EVENT, (int64_t)i);
    }
    assert_true(figures(s).dropped <= 1); /* at most one day for each jump ahead */
    store_close(s);
}

/* Lowered caps do not make one append long, and are met in the end. */
static void lowered_caps_are_met_in_steps(void **state)
{
    struct store *s = started(state, (struct outbox_caps){0});
    struct outbox_caps caps = {.max_rows = 10};
    struct consumer *c = calloc(1, sizeof *c);

    assert_int_equal(store_begin(s), 0);
    for (int i = 0; i < 3000; i++)
        temp_append(s, OUTBOX_EVENT, i);
    assert_int_equal(store_commit(s), 0);
    outbox_limit(s, &caps);
    temp_append(s, OUTBOX_EVENT, 1);
    assert_int_equal(figures(s).rows, 3001 - 1024 + 1); /* one range */
    temp_append(s, OUTBOX_EVENT, 2);
    temp_append(s, OUTBOX_EVENT, 3);
    assert_int_equal(figures(s).events, 10);
    consumer_drain(c, s);
    consumer_check(c, figures(s).next_seq, 1);
    free(c);
    store_close(s);
}

/* SPEC 5.7: alerts between events make one gap each; their number stays bounded, and everything
 * stays declared. */
static void gaps_stay_bounded(void **state)
{
    struct store *s = started(state, (struct outbox_caps){.max_rows = 400});
    struct consumer *c = calloc(1, sizeof *c);

    for (int i = 0; i < 900; i++)
        temp_append(s, i % 3 == 0 ? OUTBOX_ALERT : OUTBOX_EVENT, i);
    assert_true(one_number(s, "SELECT count(*) FROM gap") <= 32);
    assert_int_equal(one_number(s, "SELECT sum(count) FROM gap"), figures(s).dropped);
    consumer_drain(c, s);
    assert_int_equal(c->gaps, 32);
    assert_true(c->exact >= 31);
    assert_int_equal(c->lost, figures(s).dropped);
    consumer_check(c, figures(s).next_seq, 0);
    free(c);
    store_close(s);
}

/* A broker that never acknowledges gaps: at most 64 items and 32 ranges of each reason. */
static void unacknowledged_gaps_stay_bounded(void **state)
{
    struct store *s = started(state, (struct outbox_caps){.max_rows = 4});
    struct outbox_item items[4];
    char buffer[OUTBOX_BODY_BYTES + 1];
    struct consumer *c = calloc(1, sizeof *c);

    for (int i = 0; i < 1000; i++) {
        temp_append(s, OUTBOX_EVENT, i);
        outbox_fetch(s, 3, 0, items, 4, buffer, sizeof buffer);
        assert_true(one_number(s, "SELECT gaps FROM outbox_state") <= 64);
    }
    assert_true(figures(s).gaps <= 64 + 32);
    check_counters(s);
    consumer_drain(c, s);
    consumer_check(c, figures(s).next_seq, 0);
    assert_int_equal(c->lost, figures(s).dropped);
    free(c);
    store_close(s);
}

/* SPEC 5.7 over random work: whatever the order of appends, acknowledgements, drops, fetches and
 * restarts. */
static void every_loss_is_declared(void **state)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct consumer *c = calloc(1, sizeof *c);
        uint64_t random = seed * 977;
        struct outbox_caps caps = {.max_rows = 1 + temp_random(&random) % 60,
                                   .max_bytes = seed % 2 ? 2000 + temp_random(&random) % 3000 : 0,
                                   .max_age_ms = seed % 3 ? DAY : 0};
        struct store *s = started(state, caps);
        struct outbox_stats before = figures(s);
        assert_int_equal(before.rows, 0);
        for (int i = 0; i < 700; i++) {
            static char buffer[4 * (OUTBOX_BODY_BYTES + 1)];
            struct outbox_item items[4];
            uint64_t what = temp_random(&random) % 20;
            clock_ms += (int64_t)(temp_random(&random) % (DAY / 100));
            if (what < 14) {
                temp_append(s, what % 3 == 0 ? OUTBOX_ALERT : OUTBOX_EVENT, i);
            } else if (what < 18) {
                int n = outbox_fetch(s, 1 + (int)(temp_random(&random) % 3), 0, items, 4, buffer,
                                     sizeof buffer);
                assert_true(n >= 0);
                if (n > 0 && items[n - 1].kind !=
                                 OUTBOX_GAP) { /* acknowledged out of order: holes between losses */
                    c->received[items[n - 1].seq]++;
                    assert_int_equal(outbox_ack(s, &items[n - 1].seq, 1), 0);
                } else if (n > 0 && what == 17) {
                    assert_int_equal(outbox_park(s, items[0].seq, "refused"), 0);
                }
            } else if (what == 18) {
                store_close(s);
                s = started(state, caps);
            } else {
                assert_true(outbox_unpark(s) >= 0);
            }
        }
        assert_true(outbox_unpark(s) >= 0);
        check_counters(s);
        consumer_drain(c, s);
        for (uint64_t i = 1; i < before.next_seq; i++)
            c->received[i] = 1;
        consumer_check(c, figures(s).next_seq, 0);
        assert_int_equal(c->lost, figures(s).dropped - before.dropped);
        store_close(s);
        free(c);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)
    const struct CMUnitTest tests[] = {
        T(the_oldest_go_and_one_gap_tells),
        T(a_gap_that_may_be_in_flight_does_not_change),
        T(alerts_outlive_events_and_parked_go_first),
        T(bytes_are_bounded),
        T(the_aged_go),
        T(a_clock_that_jumps_drops_nothing),
        T(lowered_caps_are_met_in_steps),
        T(gaps_stay_bounded),
        T(unacknowledged_gaps_stay_bounded),
        T(every_loss_is_declared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
