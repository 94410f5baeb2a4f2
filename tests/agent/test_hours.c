/* test_hours.c - energy by the hour. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "agent/calendar.h"
#include "agent/hours.h"

#define HOUR 3600000LL
#define T0 (472222LL * HOUR)

static void counts_energy_runs_and_lows(void **state)
{
    (void)state;
    struct hours h = {0};
    struct energy_hour out[HOURS_KEPT + 1];
    double wh = 0;
    /* half past to half past: 100 W at rest, 10 minutes of 1000 W on either side of the hour */
    for (int s = 0; s <= 3600; s += 10) {
        const int on = s >= 1200 && s < 2400;
        if (s == 1200)
            hours_start(&h);
        hours_add(&h, T0 + HOUR / 2 + s * 1000, on ? 1000 : 100, on, 900, 60000);
        wh += s < 3600 ? (on ? 1000 : 100) * 10 / 3600.0 : 0;
    }
    assert_int_equal(hours_check(&h), 0);
    const int n = hours_take(&h, out);
    assert_int_equal(n, 2);
    assert_true(out[0].start_ms == T0 && out[1].start_ms == T0 + HOUR);
    assert_true(fabs(out[0].wh + out[1].wh - wh) < 1e-9);
    assert_int_equal(out[0].seen_s + out[1].seen_s, 3600);
    assert_int_equal(out[0].run_s, 600);
    assert_int_equal(out[1].run_s, 600);
    assert_int_equal(out[0].peak_s + out[1].peak_s, 1200);
    assert_int_equal(out[0].starts + out[1].starts, 1);
    assert_true(fabs(out[0].low_w - 100) < 1e-9 && out[0].high_w == 1000);
    /* the unfinished hour is given again, grown */
    hours_add(&h, T0 + 3 * HOUR / 2 + 10000, 100, 0, 900, 60000);
    assert_int_equal(hours_take(&h, out), 1);
    assert_true(out[0].start_ms == T0 + HOUR && out[0].seen_s == 1810);
}

/* Where local time is half an hour off, days, and so their energy, begin at half past. */
static void hours_of_half_hour_zones(void **state)
{
    (void)state;
    struct hours h = {0};
    struct energy_hour out[HOURS_KEPT + 1];
    assert_int_equal(calendar_use("UTC"), 0);
    hours_add(&h, T0, 60, 1, 0, 60000); /* as an earlier version counted */
    assert_int_equal(calendar_use("UTC-5:30"), 0);
    for (int minute = 1; minute <= 240; minute++)
        hours_add(&h, T0 + minute * 60000LL, 60, 1, 0, 60000);
    const int n = hours_take(&h, out);
    assert_int_equal(n, 5);
    double wh = 0;
    for (int i = 0; i < n; i++) {
        assert_true(out[i].start_ms == (i ? T0 - HOUR / 2 + i * HOUR : T0));
        assert_int_equal(out[i].seen_s, i == 1 ? 1800 : i == 4 ? 1800 : 3600);
        assert_true(out[i].low_w == 60);
        wh += out[i].wh;
    }
    assert_true(fabs(wh - 240) < 1e-9);
    /* Each is in one day: midnight in India is the beginning of one. */
    const int64_t midnight = calendar_start(calendar_day(T0) + 1);
    assert_int_equal((midnight - out[1].start_ms) % HOUR, 0);
    assert_int_equal(calendar_use("UTC"), 0);
}

static void leaves_holes_out(void **state)
{
    (void)state;
    struct hours h = {0};
    struct energy_hour out[HOURS_KEPT + 1];
    hours_add(&h, T0, 1000, 1, 0, 60000);
    hours_add(&h, T0 + 60000, 1000, 1, 0, 60000);
    hours_add(&h, T0 + 30 * 60000, 1000, 1, 0, 60000);
    hours_add(&h, T0 + 31 * 60000, 1000, 1, 0, 60000);
    assert_int_equal(hours_take(&h, out), 1);
    assert_int_equal(out[0].seen_s, 120);
    assert_true(fabs(out[0].wh - 1000 * 120 / 3600.0) < 1e-9);
    assert_true(out[0].low_w < 0); /* no five minutes were seen */
}

static void asks_for_an_outcome_when_full(void **state)
{
    (void)state;
    struct hours h = {0};
    struct energy_hour out[HOURS_KEPT + 1];
    int due = 0, n = 0;
    for (int s = 0; s < 30 * 3600; s += 30) {
        if (hours_add(&h, T0 + s * 1000LL, 60, 1, 0, 60000)) {
            due++;
            n += hours_take(&h, out); /* of the new hour nothing was seen yet */
        }
    }
    assert_int_equal(due, 2);
    n += hours_take(&h, out);
    assert_int_equal(n, 30);
    h.done_count = HOURS_KEPT + 1;
    assert_true(hours_check(&h) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_energy_runs_and_lows), cmocka_unit_test(hours_of_half_hour_zones),
        cmocka_unit_test(leaves_holes_out), cmocka_unit_test(asks_for_an_outcome_when_full)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
