/* test_alerts.c - the log of alerts with its snoozes, and energy by the hour (SPEC 5.10). */
#include "storage/lib_temp.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "storage/alerts.h"
#include "storage/energy.h"

static struct alerts_row row_of(const char *id, int64_t raised_ms)
{
    struct alerts_row r = {.alert = "left_on",
                           .meter = "kitchen",
                           .appliance = "Iron",
                           .severity = 2,
                           .quality = 1,
                           .since_ms = raised_ms - 10,
                           .raised_ms = raised_ms,
                           .updated_ms = raised_ms,
                           .expected = "at most 1 h",
                           .seen = "2 h",
                           .value = 7200,
                           .limit = 3600};
    snprintf(r.id, sizeof r.id, "%s", id);
    return r;
}

struct seen {
    struct alerts_row rows[8];
    int count;
};

static int take(void *context, const struct alerts_row *row)
{
    struct seen *s = context;
    s->rows[s->count++] = *row;
    return s->count == 8;
}

static void raised_updated_cleared(void **state)
{
    struct store *s = temp_open(state, NULL);
    struct alerts_row r = row_of("a", 1000);
    struct seen seen = {0};
    assert_int_equal(alerts_put(s, &r), 0);
    r.updated_ms = 2000;
    r.raised_ms = 2000; /* an update does not know when it was raised */
    r.severity = 3;
    snprintf(r.seen, sizeof r.seen, "3 h");
    assert_int_equal(alerts_put(s, &r), 0);
    assert_int_equal(alerts_list(s, 0, INT64_MAX, 1, 10, take, &seen), 1);
    assert_true(seen.rows[0].raised_ms == 1000 && seen.rows[0].severity == 3);
    assert_string_equal(seen.rows[0].seen, "3 h");
    r.cleared_ms = r.updated_ms = 3000;
    r.expected[0] = '\0';
    snprintf(r.seen, sizeof r.seen, "off after 4 h");
    assert_int_equal(alerts_put(s, &r), 0);
    seen.count = 0;
    assert_int_equal(alerts_list(s, 0, INT64_MAX, 1, 10, take, &seen), 0);
    assert_int_equal(alerts_list(s, 2500, INT64_MAX, 0, 10, take, &seen), 1);
    assert_string_equal(seen.rows[0].expected, "at most 1 h");
    assert_string_equal(seen.rows[0].seen, "3 h"); /* what was wrong, not how it ended */
    assert_true(seen.rows[0].cleared_ms == 3000);
    assert_int_equal(alerts_list(s, 3500, INT64_MAX, 0, 10, take, &seen), 0);
    assert_int_equal(alerts_list(s, 0, 900, 0, 10, take, &seen), 0);
    r.value = NAN;
    assert_int_equal(alerts_put(s, &r), -EINVAL);
    r = row_of("", 1);
    assert_int_equal(alerts_put(s, &r), -EINVAL);
    store_close(s);
}

static void snoozes(void **state)
{
    struct store *s = temp_open(state, NULL);
    struct alerts_row r = row_of("a", 1000);
    struct seen seen = {0};
    int64_t until = -1;
    assert_int_equal(alerts_snooze(s, "a", 5000), -ENOENT);
    assert_int_equal(alerts_put(s, &r), 0);
    assert_int_equal(alerts_snoozed(s, "kitchen", "left_on", "Iron", &until), 0);
    assert_int_equal(until, 0);
    assert_int_equal(alerts_snooze(s, "a", 5000), 0);
    assert_int_equal(alerts_put(s, &r), 0); /* an update does not end it */
    assert_int_equal(alerts_snoozed(s, "kitchen", "left_on", "Iron", &until), 0);
    assert_int_equal(until, 5000);
    alerts_snoozed(s, "kitchen", "left_on", "Kettle", &until);
    assert_int_equal(until, 0);
    alerts_snoozed(s, "kitchen", "power_unusual", "Iron", &until);
    assert_int_equal(until, 0);
    assert_int_equal(alerts_awake(s, 4999, 8, take, &seen), 0);
    assert_int_equal(alerts_awake(s, 5000, 8, take, &seen), 1);
    assert_string_equal(seen.rows[0].id, "a");
    assert_int_equal(alerts_wake(s, 5000), 1);
    seen.count = 0;
    assert_int_equal(alerts_awake(s, 6000, 8, take, &seen), 0);
    store_close(s);
}

static void trims_what_is_over(void **state)
{
    struct store *s = temp_open(state, NULL);
    struct seen seen = {0};
    for (int i = 0; i < 8; i++) {
        char id[8];
        snprintf(id, sizeof id, "%d", i);
        struct alerts_row r = row_of(id, 1000 + i);
        r.cleared_ms = i == 0 ? 0 : 2000; /* the oldest is open */
        assert_int_equal(alerts_put(s, &r), 0);
    }
    assert_int_equal(alerts_trim(s, 3), 5);
    assert_int_equal(alerts_list(s, 0, INT64_MAX, 0, 10, take, &seen), 3);
    assert_string_equal(seen.rows[2].id, "0");
    assert_int_equal(alerts_trim(s, 0), 2);
    store_close(s);
}

static int add_hour(void *context, const char *meter, const struct energy_hour *h)
{
    (void)meter;
    *(double *)context += h->wh;
    return 0;
}

static void energy_by_the_hour(void **state)
{
    struct store *s = temp_open(state, NULL);
    double wh = 0;
    for (int i = 0; i < 5; i++) {
        struct energy_hour h = {.start_ms = i * 3600000LL, .wh = 10 + i, .low_w = -1};
        assert_int_equal(energy_put(s, i == 4 ? "b" : "a", &h), 0);
        h.wh += 1; /* the hour went on: replaced, not added */
        assert_int_equal(energy_put(s, i == 4 ? "b" : "a", &h), 0);
    }
    assert_int_equal(energy_list(s, "a", 0, 3 * 3600000LL, add_hour, &wh), 3);
    assert_true(wh == 11 + 12 + 13);
    wh = 0;
    assert_int_equal(energy_list(s, NULL, 0, INT64_MAX, add_hour, &wh), 5);
    assert_int_equal(energy_trim(s, 2 * 3600000LL), 2);
    assert_int_equal(energy_list(s, NULL, 0, INT64_MAX, add_hour, &wh), 3);
    struct energy_hour bad = {.wh = INFINITY};
    assert_int_equal(energy_put(s, "a", &bad), -EINVAL);
    store_close(s);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)
    const struct CMUnitTest tests[] = {T(raised_updated_cleared), T(snoozes), T(trims_what_is_over),
                                       T(energy_by_the_hour)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
