/* test_anomaly.c - what is learned of runs, and what is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/anomaly.h"
#include "lib_anomaly.h"

static void honours_the_learning_period(void **state)
{
    (void)state;
    struct anomaly_bench b;
    anomaly_bench_init(&b);
    anomaly_bench_cycles(&b, 20, 900, 80, 1300);
    assert_true(anomaly_routine_progress(&b.r, &b.rules, b.t) < 0.2);
    anomaly_bench_cycles(&b, 20, 2700, 160, 1300);
    assert_int_equal(b.n, 0);
    b.rules.sensitivity = ANOMALY_OFF; /* off: never */
    anomaly_bench_cycles(&b, 200, 900, 80, 1300);
    assert_true(anomaly_routine_progress(&b.r, &b.rules, b.t) == 1);
    anomaly_bench_cycles(&b, 20, 2700, 160, 1300);
    assert_int_equal(b.n, 0);
}

static void tells_power_once(void **state)
{
    (void)state;
    struct anomaly_bench b;
    anomaly_bench_learned(&b);
    anomaly_bench_cycles(&b, 10, 900, 80 * 1.3, 1300);
    assert_int_equal(anomaly_bench_told(&b, "power_unusual", 0), 1);
    assert_string_equal(b.told[0].appliance, "Fridge");
    assert_true(b.told[0].value > 95 && b.told[0].limit < b.told[0].value);
    assert_non_null(strstr(b.told[0].expected, "median 80 W"));
    const uint64_t runs = b.r.runs;
    anomaly_bench_cycles(&b, 3, 900, 80 * 1.3, 1300);
    assert_true(b.r.runs == runs); /* what is odd is not learned */
    anomaly_bench_cycles(&b, 10, 900, 80, 1300);
    assert_int_equal(anomaly_bench_told(&b, "power_unusual", 1), 1);
    assert_string_equal(b.told[b.n - 1].alert_id, b.told[0].alert_id);
    assert_int_equal(b.n, 2);
    anomaly_bench_cycles(&b, 10, 900, 80 * 0.7, 1300);
    assert_int_equal(anomaly_bench_told(&b, "power_unusual", 0), 2);
    assert_string_not_equal(b.told[b.n - 1].alert_id, b.told[0].alert_id);
}

static void sensitivity_scales(void **state)
{
    (void)state;
    static const struct {
        int sensitivity;
        double percent, factor;
        int expected;
    } cases[] = {{ANOMALY_LOW, 0, 1.17, 0},    {ANOMALY_NORMAL, 0, 1.17, 1},
                 {ANOMALY_NORMAL, 0, 1.12, 0}, {ANOMALY_HIGH, 0, 1.12, 1},
                 {ANOMALY_NORMAL, 50, 1.4, 0}, {ANOMALY_LOW, 5, 1.08, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct anomaly_bench b;
        anomaly_bench_learned(&b);
        b.rules.sensitivity = cases[i].sensitivity;
        b.rules.power_percent = cases[i].percent;
        anomaly_bench_cycles(&b, 12, 900, 80 * cases[i].factor, 1300);
        assert_int_equal(anomaly_bench_told(&b, "power_unusual", 0), cases[i].expected);
    }
}

static void tells_length_and_cycles(void **state)
{
    (void)state;
    struct anomaly_bench b;
    anomaly_bench_learned(&b);
    anomaly_bench_cycles(&b, 12, 1800, 80, 1300);
    assert_int_equal(anomaly_bench_told(&b, "duration_unusual", 0), 1);
    anomaly_bench_learned(&b);
    anomaly_bench_cycles(&b, 12, 450, 80, 1300);
    assert_int_equal(anomaly_bench_told(&b, "duration_unusual", 0), 1);
    anomaly_bench_learned(&b);
    anomaly_bench_cycles(&b, 12, 900, 80, 3500); /* half the cycles */
    assert_int_equal(anomaly_bench_told(&b, "cycle_missing", 0), 1);
    anomaly_bench_cycles(&b, 12, 900, 80, 1300);
    assert_int_equal(anomaly_bench_told(&b, "cycle_missing", 1), 1);
    anomaly_bench_learned(&b);
    anomaly_bench_cycles(&b, 20, 900, 80, 300);
    assert_int_equal(anomaly_bench_told(&b, "cycling_often", 0), 1);
}

/* A load whose pauses follow the day: three times as long at night. */
static void by_day(struct anomaly_bench *b, int days, double pauses, double power)
{
    for (const int64_t end = b->t + days * DAY; b->t < end;) {
        const int64_t hour = b->t % DAY / HOUR;
        anomaly_bench_cycle(b, 900, 80 * power, pauses * (hour < 7 || hour > 21 ? 4500 : 1300));
    }
}

static void knows_the_course_of_a_day(void **state)
{
    (void)state;
    struct anomaly_bench b;
    anomaly_bench_init(&b);
    by_day(&b, 20, 1, 1);
    assert_int_equal(b.n, 0);
    struct anomaly_bench calm = b;
    by_day(&b, 3, 1.8, 1); /* still shorter by day than at night before */
    assert_int_equal(anomaly_bench_told(&b, "cycle_missing", 0), 1);
    assert_non_null(strstr(b.told[0].seen, "mean of the last"));
    by_day(&b, 3, 1, 1);
    assert_int_equal(anomaly_bench_told(&b, "cycle_missing", 1), 1);
    assert_int_equal(b.n, 2 + b.told[1].updated);
    by_day(&calm, 2, 1, 1.3);
    assert_int_equal(anomaly_bench_told(&calm, "power_unusual", 0), 1);
}

/* Three runs a day of one of two programs, none of them like the other. */
static void programs(struct anomaly_bench *b, int days, double power, double length)
{
    for (int i = 0; i < 3 * days; i++) {
        const int eco = i % 7 < 3;
        anomaly_bench_cycle(b, (eco ? 6600 : 1900) * length, (eco ? 490 : 1200) * power, 0);
        b->t += 8 * HOUR - (b->t - T0) % (8 * HOUR);
    }
}

static void knows_several_programs(void **state)
{
    (void)state;
    struct anomaly_bench b;
    anomaly_bench_init(&b);
    programs(&b, 14, 1, 1);
    assert_int_equal(b.n, 0);
    programs(&b, 3, 1.3, 1);
    assert_int_equal(anomaly_bench_told(&b, "power_unusual", 0), 1);
    anomaly_bench_init(&b);
    programs(&b, 14, 1, 1);
    programs(&b, 4, 1, 2.2);
    assert_int_equal(anomaly_bench_told(&b, "duration_unusual", 0), 1);
    assert_int_equal(anomaly_bench_told(&b, "power_unusual", 0), 0);
}

/* Two programs, three runs a day: three of the stronger one in a row are no change, power that no
 * program had is, and of a load that is used at will few runs are enough to see it. */
static void programs_are_chosen(void **state)
{
    (void)state;
    struct anomaly_bench b;
    anomaly_bench_init(&b);
    for (int i = 0; i < 60; i++)
        anomaly_bench_cycle(&b, 1800, i % 4 == 3 ? 1600 : 1000, 27000);
    anomaly_bench_cycles(&b, 3, 1800, 1600, 27000);
    assert_int_equal(b.n, 0);
    anomaly_bench_cycles(&b, 7, 1800, 2080, 27000);
    assert_int_equal(anomaly_bench_told(&b, "power_unusual", 0), 1);
    anomaly_bench_init(&b);
    anomaly_bench_cycles(&b, 13, 5000, 41, 23000);
    anomaly_bench_cycles(&b, 3, 5000, 41 * 1.3, 23000);
    assert_int_equal(anomaly_bench_told(&b, "power_unusual", 0), 1);
}

/* Ten days off while learning is not over. */
static void an_absence_counts_once(void **state)
{
    (void)state;
    struct anomaly_bench b;
    anomaly_bench_init(&b);
    anomaly_bench_cycles(&b, 60, 900, 80, 1300);
    const double before = anomaly_routine_progress(&b.r, &b.rules, b.t);
    assert_true(before > 0.4 && before < 0.6);
    b.t += 10 * DAY;
    anomaly_blind(&b.a, b.t + MINUTE);
    anomaly_bench_cycles(&b, 3, 900, 80, 1300); /* of the first the beginning was not seen */
    const double after = anomaly_routine_progress(&b.r, &b.rules, b.t);
    assert_true(after > before - 0.05 && after < before + 0.1);
    anomaly_bench_cycles(&b, 80, 900, 80, 1300);
    assert_true(anomaly_routine_progress(&b.r, &b.rules, b.t) == 1);
}

/* Out of a sum five runs may be cut in a busy hour; for two days they are not. */
static void separated_runs_have_time(void **state)
{
    (void)state;
    struct anomaly_bench b;
    anomaly_bench_init(&b);
    b.separated = 1;
    anomaly_bench_cycles(&b, 400, 900, 80, 1300);
    anomaly_bench_cycles(&b, 8, 300, 80, 700);
    anomaly_bench_cycles(&b, 60, 900, 80, 1300);
    assert_int_equal(b.n, 0);
    anomaly_bench_cycles(&b, 80, 1800, 80, 1300);
    assert_int_equal(anomaly_bench_told(&b, "duration_unusual", 0), 1);
}

static void another_version_learns_anew(void **state)
{
    (void)state;
    struct anomaly_bench b;
    anomaly_bench_learned(&b);
    b.r.data[0] ^= 1;
    anomaly_bench_cycles(&b, 20, 1800, 160, 1300);
    assert_true(b.n == 0 && b.r.runs == 20);
    assert_true(anomaly_routine_progress(&b.r, &b.rules, b.t) < 0.3);
}

static void a_door_lamp_changes_nothing(void **state)
{
    (void)state;
    struct anomaly_bench b;
    anomaly_bench_init(&b);
    for (int i = 0; i < 200; i++) {
        anomaly_bench_cycle(&b, 900, 80, i % 3 ? 1300 : 600);
        if (i % 3 == 0)
            anomaly_bench_cycle(&b, 12, 25, 600);
    }
    for (int i = 0; i < 12; i++)
        anomaly_bench_cycle(&b, 12, 25, 60);
    assert_int_equal(b.n, 0);
    b.t += 20 * MINUTE;
    anomaly_bench_cycles(&b, 12, 1800, 80, 1300);
    assert_int_equal(anomaly_bench_told(&b, "duration_unusual", 0), 1);
}

static void tells_slow_drift(void **state)
{
    (void)state;
    struct anomaly_bench b;
    anomaly_bench_learned(&b);
    double w = 80;
    for (int i = 0; i < 400 && anomaly_bench_told(&b, "drift", 0) == 0; i++, w *= 1.0006)
        anomaly_bench_cycle(&b, 900, w, 1300);
    assert_int_equal(anomaly_bench_told(&b, "drift", 0), 1);
    assert_int_equal(anomaly_bench_told(&b, "power_unusual", 0), 0);
    assert_true(w > 85 && w < 105);
    assert_true(b.told[0].severity == ALERT_INFO);
}

static void new_normal_after_a_week(void **state)
{
    (void)state;
    struct anomaly_bench b;
    anomaly_bench_learned(&b);
    anomaly_bench_cycles(&b, 250, 900, 120, 1300); /* six days */
    assert_int_equal(anomaly_bench_told(&b, "power_unusual", 0), 1);
    assert_int_equal(anomaly_bench_told(&b, "power_unusual", 1), 0);
    assert_true(b.n >= 4 && b.told[2].updated && !b.told[2].cleared); /* told again each day */
    anomaly_bench_cycles(&b, 60, 900, 120, 1300);
    assert_int_equal(anomaly_bench_told(&b, "power_unusual", 1), 1);
    const int before = b.n;
    anomaly_bench_cycles(&b, 100, 900, 120, 1300);
    assert_int_equal(b.n, before);
    anomaly_bench_cycles(&b, 20, 900, 80, 1300);
    assert_int_equal(anomaly_bench_told(&b, "power_unusual", 0), 2);
}

static void left_on_once(void **state)
{
    (void)state;
    struct anomaly_bench b;
    struct anomaly_bounds bounds;
    struct alert out[ANOMALY_ALERTS];
    anomaly_bench_learned(&b);
    struct anomaly_run run = {.appliance = "Fridge", .start_ms = b.t, .mean_w = 80};
    anomaly_recall(&b.r, &b.rules, &run, &bounds);
    assert_true(bounds.left_on_s > 3000 && bounds.left_on_s < 4000);
    run.end_ms = b.t + 3000000;
    assert_int_equal(anomaly_running(&b.a, &bounds, &run, out), 0);
    run.end_ms = b.t + 4000000;
    assert_int_equal(anomaly_running(&b.a, &bounds, &run, out), 1);
    assert_string_equal(out[0].alert, "left_on");
    assert_int_equal(out[0].since_ms, b.t);
    assert_int_equal(out[0].severity, ALERT_WARNING);
    run.end_ms += MINUTE;
    assert_int_equal(anomaly_running(&b.a, &bounds, &run, b.told), 0);
    run.end_ms = b.t + 12600000; /* worse: told again, under the same id */
    assert_int_equal(anomaly_running(&b.a, &bounds, &run, b.told), 1);
    assert_true(b.told[0].updated && b.told[0].severity == ALERT_CRITICAL);
    assert_string_equal(b.told[0].alert_id, out[0].alert_id);
    run.whole = 1;
    assert_int_equal(anomaly_finished(&b.a, &b.rules, &b.r, &run, b.told), 1);
    assert_true(b.told[0].cleared);
    assert_string_equal(b.told[0].alert_id, out[0].alert_id);
    struct anomaly_limits limits;
    anomaly_limits(&b.r, &b.rules, b.t, &limits);
    assert_true(limits.low_w > 60 && limits.low_w < 78 && limits.high_w > 82 &&
                limits.high_w < 100);
    assert_true(limits.low_s > 500 && limits.low_s < 850 && limits.high_s > 950);
    assert_true(fabs(limits.left_on_s - bounds.left_on_s) < 1);
    b.rules.power_percent = 50;
    anomaly_limits(&b.r, &b.rules, b.t, &limits);
    assert_true(fabs(limits.high_w / limits.low_w - 3) < 0.1);
    /* without what was learned nothing is judged */
    anomaly_recall(NULL, &b.rules, &run, &bounds);
    assert_true(bounds.left_on_s == 0);
}

static int unknown_of(struct anomaly_bench *b, int64_t start_ms, int64_t length_ms, double watts)
{
    struct anomaly_run run = {.appliance = "unknown",
                              .start_ms = start_ms,
                              .end_ms = start_ms + length_ms,
                              .mean_w = watts,
                              .whole = 1,
                              .mixed = 1};
    return anomaly_finished(&b->a, &b->rules, &b->r, &run, b->told);
}

static int unknown_at(struct anomaly_bench *b, int64_t start_ms, int64_t length_ms)
{
    return unknown_of(b, start_ms, length_ms, 300);
}

/* What runs at all hours is weak: a strong one at night is odd all the same. */
static void strong_loads_have_their_hours(void **state)
{
    (void)state;
    struct anomaly_bench b;
    anomaly_bench_init(&b);
    const int64_t night = T0 - T0 % DAY + 2 * HOUR;
    for (int d = 0; d < 15; d++)
        for (int h = 0; h < 24; h++)
            assert_int_equal(unknown_of(&b, night + d * DAY + h * HOUR, 20 * MINUTE,
                                        h > 6 && h < 19 ? 2000 : 90),
                             0);
    const int64_t at = night + 16 * DAY;
    assert_int_equal(unknown_of(&b, at, 20 * MINUTE, 130), 0);
    assert_int_equal(unknown_of(&b, at + HOUR, 20 * MINUTE, 400), 1);
    assert_string_equal(b.told[0].alert, "time_unusual");
    assert_true(b.told[0].value == 400 && b.told[0].limit > 120 && b.told[0].limit < 140);
    assert_int_equal(unknown_of(&b, at + 10 * HOUR, 20 * MINUTE, 2200), 1);
    assert_true(b.told[0].cleared); /* and by day it is not */
}

static void unknown_loads_have_their_hours(void **state)
{
    (void)state;
    struct anomaly_bench b;
    struct alert out[ANOMALY_ALERTS];
    int use;
    anomaly_bench_init(&b);
    const int64_t noon = T0 - T0 % DAY + 12 * HOUR;
    for (int d = 0; d < 13; d++) {
        assert_int_equal(unknown_at(&b, noon + d * DAY, 20 * MINUTE), 0);
        if (d == 10) /* ten days are too few to tell */
            assert_int_equal(unknown_at(&b, noon + d * DAY + 6 * HOUR, 20 * MINUTE), 0);
    }
    for (int d = 13; d < 30; d++)
        assert_int_equal(unknown_at(&b, noon + d * DAY + (d % 2 ? HOUR : 0), 20 * MINUTE), 0);
    assert_int_equal(unknown_at(&b, noon + 30 * DAY + 6 * HOUR, 20 * MINUTE), 0); /* as once */
    assert_int_equal(unknown_at(&b, noon + 30 * DAY + 14 * HOUR, MINUTE), 0);     /* too short */
    assert_int_equal(unknown_at(&b, noon + 31 * DAY + 14 * HOUR, 6 * MINUTE), 0); /* known now */
    const int64_t odd = noon + 31 * DAY + 20 * HOUR;
    assert_int_equal(unknown_at(&b, odd, 6 * MINUTE), 1);
    assert_string_equal(b.told[0].alert, "time_unusual");
    assert_true(b.told[0].since_ms == odd && b.told[0].severity == ALERT_INFO);
    assert_int_equal(anomaly_reading(&b.a, &b.rules, odd + 10 * MINUTE, 80, out, &use), 0);
    assert_int_equal(anomaly_reading(&b.a, &b.rules, odd + 80 * MINUTE, 81, out, &use), 1);
    assert_true(out[0].cleared);
    assert_string_equal(out[0].alert_id, b.told[0].alert_id);
}

static void a_name_keeps_what_is_open(void **state)
{
    (void)state;
    struct anomaly_bench b;
    anomaly_bench_learned(&b);
    anomaly_bench_cycles(&b, 10, 900, 120, 1300);
    assert_int_equal(anomaly_bench_told(&b, "power_unusual", 0), 1);
    anomaly_rename(&b.a, "Fridge", "Freezer");
    int n = 0;
    for (int i = 0; i < 5 && n == 0; i++, b.t += 2200000) {
        const struct anomaly_run run = {.appliance = "Freezer",
                                        .start_ms = b.t,
                                        .end_ms = b.t + 900000,
                                        .energy_wh = 20,
                                        .mean_w = 80,
                                        .whole = 1};
        n = anomaly_finished(&b.a, &b.rules, &b.r, &run, b.told + b.n);
    }
    assert_int_equal(n, 1);
    assert_true(b.told[b.n].cleared);
    assert_string_equal(b.told[b.n].appliance, "Freezer");
    assert_string_equal(b.told[b.n].alert_id, b.told[0].alert_id);
    assert_int_equal(anomaly_open_count(&b.a), 0);
}

static void forgets_and_checks(void **state)
{
    (void)state;
    struct anomaly_bench b;
    struct alert out[ANOMALY_ALERTS];
    anomaly_bench_learned(&b);
    anomaly_bench_cycles(&b, 10, 1800, 120, 1300);
    assert_true(anomaly_bench_told(&b, "power_unusual", 0) &&
                anomaly_bench_told(&b, "duration_unusual", 0));
    assert_int_equal(anomaly_check(&b.a), 0);
    assert_int_equal(anomaly_forget(&b.a, "Kettle", b.t, out), 0);
    assert_true(anomaly_forget(&b.a, "Fridge", b.t, out) >= 2);
    assert_true(out[0].cleared);
    assert_int_equal(anomaly_forget(&b.a, NULL, b.t, out), 0);
    b.a.open[3].kind = 77;
    assert_true(anomaly_check(&b.a) < 0);
    b.a.open[3].kind = 0;
    b.a.readings.day_wh = NAN;
    assert_true(anomaly_check(&b.a) < 0);
    /* data of another version: learning begins anew, nothing is believed */
    b.r.data[0] ^= 1;
    struct anomaly_routine fresh;
    anomaly_routine_load(&b.r, &fresh);
    assert_int_equal(fresh.kept, 0);
    /* any bytes */
    for (unsigned round = 0; round < 300; round++) {
        anomaly_bench_learned(&b);
        for (int i = 0; i < 40; i++) {
            b.seed = b.seed * 1103515245u + round;
            b.r.data[4 + (b.seed >> 8) % 1800] ^= (unsigned char)(b.seed >> 24);
        }
        for (int i = 0; i < 3; i++) {
            struct anomaly_run run = {.appliance = "Fridge",
                                      .start_ms = b.t,
                                      .end_ms = b.t + 900000,
                                      .mean_w = 80,
                                      .energy_wh = 20,
                                      .whole = 1};
            struct anomaly_bounds bounds;
            anomaly_finished(&b.a, &b.rules, &b.r, &run, out);
            anomaly_recall(&b.r, &b.rules, &run, &bounds);
            b.t += HOUR;
        }
    }
}

int main(void)
{
    setenv("TZ", "UTC", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(honours_the_learning_period),
        cmocka_unit_test(tells_power_once),
        cmocka_unit_test(sensitivity_scales),
        cmocka_unit_test(tells_length_and_cycles),
        cmocka_unit_test(knows_the_course_of_a_day),
        cmocka_unit_test(knows_several_programs),
        cmocka_unit_test(programs_are_chosen),
        cmocka_unit_test(an_absence_counts_once),
        cmocka_unit_test(separated_runs_have_time),
        cmocka_unit_test(another_version_learns_anew),
        cmocka_unit_test(a_door_lamp_changes_nothing),
        cmocka_unit_test(tells_slow_drift),
        cmocka_unit_test(new_normal_after_a_week),
        cmocka_unit_test(left_on_once),
        cmocka_unit_test(unknown_loads_have_their_hours),
        cmocka_unit_test(strong_loads_have_their_hours),
        cmocka_unit_test(a_name_keeps_what_is_open),
        cmocka_unit_test(forgets_and_checks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
