/* test_anomaly_readings.c - what is told of readings alone, and of the cycle that does not come. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/anomaly.h"
#include "lib_anomaly.h"

static void tells_the_cycle_that_does_not_come(void **state)
{
    (void)state;
    struct anomaly_bench b;
    struct anomaly_bounds bounds = {0};
    anomaly_bench_learned(&b);
    assert_int_equal(anomaly_bench_readings(&b, 20 * MINUTE, 1, 2), 0);
    /* as long as it runs, none is missing */
    struct anomaly_run run = {.appliance = "Fridge", .start_ms = b.t};
    for (int i = 0; i < 12; i++) {
        run.end_ms = b.t;
        anomaly_running(&b.a, &bounds, &run, b.told);
        assert_int_equal(anomaly_bench_readings(&b, 10 * MINUTE, 1, 2), 0);
    }
    assert_int_equal(anomaly_bench_readings(&b, 6 * HOUR, 1, 2), 1);
    assert_string_equal(b.told[0].alert, "cycle_missing");
    b.n = 0;
    anomaly_bench_cycle(&b, 900, 80, 1300);
    assert_int_equal(anomaly_bench_told(&b, "cycle_missing", 1), 1);
    /* nor is the rest that follows a long run */
    anomaly_bench_cycle(&b, 2 * 3600, 80, 30 * 60);
    b.n = 0;
    assert_int_equal(anomaly_bench_readings(&b, 10 * MINUTE, 1, 2), 0);
    anomaly_bench_cycle(&b, 900, 80, 1300);
    b.n = 0;
    /* a silence is no missing cycle */
    struct alert out[ANOMALY_ALERTS];
    assert_int_equal(anomaly_silent(&b.a, b.t, 600000, out), 1);
    b.t += 2 * DAY;
    assert_int_equal(anomaly_heard(&b.a, b.t, out), 1);
    assert_int_equal(anomaly_bench_readings(&b, 40 * MINUTE, 1, 2), 0);
    anomaly_bench_cycle(&b, 900, 80, 1300);
    assert_int_equal(b.n, 0);
}

static void tells_a_frozen_meter(void **state)
{
    (void)state;
    struct anomaly_bench b;
    anomaly_bench_init(&b);
    assert_int_equal(anomaly_bench_readings(&b, 2 * HOUR, 80, 80), 0); /* still learning */
    anomaly_bench_init(&b);
    for (int i = 0; i < 60; i++) { /* four minutes of the same at most */
        anomaly_bench_readings(&b, 4 * MINUTE, 80, 80);
        anomaly_bench_readings(&b, 2 * HOUR, 81, 79);
        assert_int_equal(b.n, 0);
    }
    assert_int_equal(anomaly_bench_readings(&b, 3 * HOUR, 80, 80), 1);
    assert_string_equal(b.told[0].alert, "meter_frozen");
    assert_true(b.told[0].value < 1000);
    assert_int_equal(anomaly_bench_readings(&b, MINUTE, 81, 79), 1);
    assert_true(b.told[0].cleared);
}

static void rest_and_holes_are_not_frozen(void **state)
{
    (void)state;
    struct anomaly_bench b;
    anomaly_bench_init(&b);
    anomaly_bench_readings(&b, HOUR, 500, 510);
    assert_int_equal(anomaly_bench_readings(&b, 4 * DAY, 0, 0),
                     0); /* at rest since before learning ended */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(anomaly_bench_readings(&b, HOUR, 500, 510), 0);
        assert_int_equal(anomaly_bench_readings(&b, 2 * DAY, 0, 0), 0);
    }
    /* at rest it takes a watt or two, and nothing when it is unplugged */
    anomaly_bench_init(&b);
    for (int i = 0; i < 100; i++) {
        anomaly_bench_readings(&b, HOUR, 1, 2);
        anomaly_bench_readings(&b, 5 * MINUTE, 2, 2);
    }
    assert_int_equal(anomaly_bench_readings(&b, 2 * DAY, 0, 0), 0);
    anomaly_bench_readings(&b, HOUR, 1, 2);
    assert_int_equal(anomaly_bench_readings(&b, 20 * HOUR, 2, 2), 1);
    anomaly_bench_init(&b);
    anomaly_bench_readings(&b, 4 * DAY, 80, 81);
    for (int i = 0; i < 5; i++) { /* the same before and behind each hole */
        assert_int_equal(anomaly_bench_readings(&b, 5 * MINUTE, 80, 80), 0);
        b.t += 3 * HOUR;
    }
    assert_int_equal(anomaly_bench_readings(&b, 30 * MINUTE, 0, 0), 1); /* it was never at rest */
    assert_string_equal(b.told[0].alert, "meter_frozen");
}

static void leaves_out_the_impossible(void **state)
{
    (void)state;
    struct anomaly_bench b;
    struct alert out[ANOMALY_ALERTS];
    int use;
    anomaly_bench_init(&b);
    anomaly_bench_readings(&b, HOUR, 80, 81);
    assert_int_equal(anomaly_reading(&b.a, &b.rules, b.t, 32767, out, &use), 0);
    assert_int_equal(use, 0);
    assert_int_equal(anomaly_reading(&b.a, &b.rules, b.t + 10000, 80, out, &use), 1);
    assert_int_equal(use, 1);
    assert_string_equal(out[0].alert, "reading_impossible");
    assert_true(out[0].value == 32767);
    /* a large load is believed when it stays */
    anomaly_bench_init(&b);
    anomaly_bench_readings(&b, HOUR, 80, 81);
    assert_int_equal(anomaly_reading(&b.a, &b.rules, b.t, 45000, out, &use), 0);
    assert_int_equal(use, 0);
    assert_int_equal(anomaly_reading(&b.a, &b.rules, b.t + 10000, 46000, out, &use), 0);
    assert_int_equal(use, 1);
    b.t += 20000;
    assert_int_equal(anomaly_bench_readings(&b, HOUR, 44000, 52000), 0);
    /* a bound that was given holds */
    b.rules.possible_w = 20000;
    assert_int_equal(anomaly_bench_readings(&b, MINUTE, 44000, 52000), 1);
    b.rules.possible_w = 0;
    anomaly_bench_init(&b);
    assert_int_equal(anomaly_bench_readings(&b, HOUR, -80, -90), 1);
    b.rules.negative = 1;
    anomaly_bench_init(&b);
    b.rules.negative = 1;
    assert_int_equal(anomaly_bench_readings(&b, HOUR, -80, -90), 0);
}

static void tells_limits(void **state)
{
    (void)state;
    struct anomaly_bench b;
    anomaly_bench_init(&b);
    b.rules.limit_w = 3000;
    b.rules.limit_for_ms = 60000;
    assert_int_equal(anomaly_bench_readings(&b, 50000, 3200, 3300), 0);
    assert_int_equal(anomaly_bench_readings(&b, 50000, 2800, 2900), 0);
    assert_int_equal(anomaly_bench_readings(&b, HOUR, 3200, 3300), 1);
    assert_string_equal(b.told[0].alert, "total_over");
    assert_int_equal(anomaly_bench_readings(&b, HOUR, 2800, 2900), 1);
    assert_true(b.told[0].cleared);
    anomaly_bench_init(&b);
    b.rules.limit_day_wh = 5000;
    anomaly_bench_readings(&b, 3 * DAY, 1000, 1000);
    assert_int_equal(anomaly_bench_told(&b, "energy_over", 0), 3);
    assert_int_equal(anomaly_bench_told(&b, "energy_over", 1), 2);
}

int main(void)
{
    setenv("TZ", "UTC", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_the_cycle_that_does_not_come),
        cmocka_unit_test(tells_a_frozen_meter),
        cmocka_unit_test(rest_and_holes_are_not_frozen),
        cmocka_unit_test(leaves_out_the_impossible),
        cmocka_unit_test(tells_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
