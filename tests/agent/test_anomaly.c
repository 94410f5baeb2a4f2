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

#define T0 1700000000000LL
#define MINUTE 60000LL
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

/* A meter and one load on it, and all that was told. */
struct bench {
    struct anomaly a;
    struct anomaly_rules rules;
    struct routine r;
    struct alert told[64];
    int n, separated;
    int64_t t;
    unsigned seed;
};

static void bench_init(struct bench *b)
{
    memset(b, 0, sizeof *b);
    anomaly_init(&b->a, "kitchen");
    b->rules = (struct anomaly_rules){
        .sensitivity = ANOMALY_NORMAL, .learning_ms = 3 * DAY, .on_w = 15, .frozen_ms = 600000};
    snprintf(b->r.meter, sizeof b->r.meter, "kitchen");
    snprintf(b->r.appliance, sizeof b->r.appliance, "Fridge");
    b->t = T0;
    b->seed = 7;
}

/* -1 to 1 */
static double noise(struct bench *b)
{
    b->seed = b->seed * 1103515245u + 12345u;
    return (double)(b->seed >> 8 & 0xffff) / 32768.0 - 1;
}

/* One run of about so many seconds and watts, then a pause. */
static void cycle(struct bench *b, double seconds, double watts, double pause_s)
{
    const double s = seconds * (1 + 0.05 * noise(b)), w = watts * (1 + 0.02 * noise(b));
    const struct anomaly_run run = {.appliance = "Fridge",
                                    .start_ms = b->t,
                                    .end_ms = b->t + (int64_t)(s * 1000),
                                    .energy_wh = w * s / 3600,
                                    .mean_w = w,
                                    .peak_w = w,
                                    .separated = b->separated,
                                    .whole = 1};
    struct alert *out = b->told + b->n;
    assert_true(b->n < 50);
    b->n += anomaly_finished(&b->a, &b->rules, &b->r, &run, out);
    b->t = run.end_ms + (int64_t)(pause_s * (1 + 0.1 * noise(b)) * 1000);
}

static void cycles(struct bench *b, int count, double seconds, double watts, double pause_s)
{
    for (int i = 0; i < count; i++)
        cycle(b, seconds, watts, pause_s);
}

static int told(const struct bench *b, const char *alert, int cleared)
{
    int n = 0;
    for (int i = 0; i < b->n; i++)
        n += !strcmp(b->told[i].alert, alert) && b->told[i].cleared == cleared &&
             !b->told[i].updated;
    return n;
}

/* Five days of a refrigerator: nothing is wrong. */
static void learned(struct bench *b)
{
    bench_init(b);
    cycles(b, 200, 900, 80, 1300);
    assert_int_equal(b->n, 0);
    assert_true(b->r.runs == 200);
}

static void honours_the_learning_period(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    cycles(&b, 20, 900, 80, 1300);
    assert_true(anomaly_routine_progress(&b.r, &b.rules, b.t) < 0.2);
    cycles(&b, 20, 2700, 160, 1300);
    assert_int_equal(b.n, 0);
    b.rules.sensitivity = ANOMALY_OFF; /* off: never */
    cycles(&b, 200, 900, 80, 1300);
    assert_true(anomaly_routine_progress(&b.r, &b.rules, b.t) == 1);
    cycles(&b, 20, 2700, 160, 1300);
    assert_int_equal(b.n, 0);
}

static void tells_power_once(void **state)
{
    (void)state;
    struct bench b;
    learned(&b);
    cycles(&b, 10, 900, 80 * 1.3, 1300);
    assert_int_equal(told(&b, "power_unusual", 0), 1);
    assert_string_equal(b.told[0].appliance, "Fridge");
    assert_true(b.told[0].value > 95 && b.told[0].limit < b.told[0].value);
    assert_non_null(strstr(b.told[0].expected, "median 80 W"));
    const uint64_t runs = b.r.runs;
    cycles(&b, 3, 900, 80 * 1.3, 1300);
    assert_true(b.r.runs == runs); /* what is odd is not learned */
    cycles(&b, 10, 900, 80, 1300);
    assert_int_equal(told(&b, "power_unusual", 1), 1);
    assert_string_equal(b.told[b.n - 1].alert_id, b.told[0].alert_id);
    assert_int_equal(b.n, 2);
    cycles(&b, 10, 900, 80 * 0.7, 1300);
    assert_int_equal(told(&b, "power_unusual", 0), 2);
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
        struct bench b;
        learned(&b);
        b.rules.sensitivity = cases[i].sensitivity;
        b.rules.power_percent = cases[i].percent;
        cycles(&b, 12, 900, 80 * cases[i].factor, 1300);
        assert_int_equal(told(&b, "power_unusual", 0), cases[i].expected);
    }
}

static void tells_length_and_cycles(void **state)
{
    (void)state;
    struct bench b;
    learned(&b);
    cycles(&b, 12, 1800, 80, 1300);
    assert_int_equal(told(&b, "duration_unusual", 0), 1);
    learned(&b);
    cycles(&b, 12, 450, 80, 1300);
    assert_int_equal(told(&b, "duration_unusual", 0), 1);
    learned(&b);
    cycles(&b, 12, 900, 80, 3500); /* half the cycles */
    assert_int_equal(told(&b, "cycle_missing", 0), 1);
    cycles(&b, 12, 900, 80, 1300);
    assert_int_equal(told(&b, "cycle_missing", 1), 1);
    learned(&b);
    cycles(&b, 20, 900, 80, 300);
    assert_int_equal(told(&b, "cycling_often", 0), 1);
}

/* A load whose pauses follow the day: three times as long at night. */
static void by_day(struct bench *b, int days, double pauses, double power)
{
    for (const int64_t end = b->t + days * DAY; b->t < end;) {
        const int64_t hour = b->t % DAY / HOUR;
        cycle(b, 900, 80 * power, pauses * (hour < 7 || hour > 21 ? 4500 : 1300));
    }
}

static void knows_the_course_of_a_day(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    by_day(&b, 20, 1, 1);
    assert_int_equal(b.n, 0);
    struct bench calm = b;
    by_day(&b, 3, 1.8, 1); /* still shorter by day than at night before */
    assert_int_equal(told(&b, "cycle_missing", 0), 1);
    assert_non_null(strstr(b.told[0].seen, "mean of the last"));
    by_day(&b, 3, 1, 1);
    assert_int_equal(told(&b, "cycle_missing", 1), 1);
    assert_int_equal(b.n, 2 + b.told[1].updated);
    by_day(&calm, 2, 1, 1.3);
    assert_int_equal(told(&calm, "power_unusual", 0), 1);
}

/* Three runs a day of one of two programs, none of them like the other. */
static void programs(struct bench *b, int days, double power, double length)
{
    for (int i = 0; i < 3 * days; i++) {
        const int eco = i % 7 < 3;
        cycle(b, (eco ? 6600 : 1900) * length, (eco ? 490 : 1200) * power, 0);
        b->t += 8 * HOUR - (b->t - T0) % (8 * HOUR);
    }
}

static void knows_several_programs(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    programs(&b, 14, 1, 1);
    assert_int_equal(b.n, 0);
    programs(&b, 3, 1.3, 1);
    assert_int_equal(told(&b, "power_unusual", 0), 1);
    bench_init(&b);
    programs(&b, 14, 1, 1);
    programs(&b, 4, 1, 2.2);
    assert_int_equal(told(&b, "duration_unusual", 0), 1);
    assert_int_equal(told(&b, "power_unusual", 0), 0);
}

/* Out of a sum five runs may be cut in a busy hour; for two days they are not. */
static void separated_runs_have_time(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.separated = 1;
    cycles(&b, 400, 900, 80, 1300);
    cycles(&b, 8, 300, 80, 700);
    cycles(&b, 60, 900, 80, 1300);
    assert_int_equal(b.n, 0);
    cycles(&b, 80, 1800, 80, 1300);
    assert_int_equal(told(&b, "duration_unusual", 0), 1);
}

static void another_version_learns_anew(void **state)
{
    (void)state;
    struct bench b;
    learned(&b);
    b.r.data[0] ^= 1;
    cycles(&b, 20, 1800, 160, 1300);
    assert_true(b.n == 0 && b.r.runs == 20);
    assert_true(anomaly_routine_progress(&b.r, &b.rules, b.t) < 0.3);
}

static void a_door_lamp_changes_nothing(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    for (int i = 0; i < 200; i++) {
        cycle(&b, 900, 80, i % 3 ? 1300 : 600);
        if (i % 3 == 0)
            cycle(&b, 12, 25, 600);
    }
    for (int i = 0; i < 12; i++)
        cycle(&b, 12, 25, 60);
    assert_int_equal(b.n, 0);
    b.t += 20 * MINUTE;
    cycles(&b, 12, 1800, 80, 1300);
    assert_int_equal(told(&b, "duration_unusual", 0), 1);
}

static void tells_slow_drift(void **state)
{
    (void)state;
    struct bench b;
    learned(&b);
    double w = 80;
    for (int i = 0; i < 400 && told(&b, "drift", 0) == 0; i++, w *= 1.0006)
        cycle(&b, 900, w, 1300);
    assert_int_equal(told(&b, "drift", 0), 1);
    assert_int_equal(told(&b, "power_unusual", 0), 0);
    assert_true(w > 85 && w < 105);
    assert_true(b.told[0].severity == ALERT_INFO);
}

static void new_normal_after_a_week(void **state)
{
    (void)state;
    struct bench b;
    learned(&b);
    cycles(&b, 250, 900, 120, 1300); /* six days */
    assert_int_equal(told(&b, "power_unusual", 0), 1);
    assert_int_equal(told(&b, "power_unusual", 1), 0);
    assert_true(b.n >= 4 && b.told[2].updated && !b.told[2].cleared); /* told again each day */
    cycles(&b, 60, 900, 120, 1300);
    assert_int_equal(told(&b, "power_unusual", 1), 1);
    const int before = b.n;
    cycles(&b, 100, 900, 120, 1300);
    assert_int_equal(b.n, before);
    cycles(&b, 20, 900, 80, 1300);
    assert_int_equal(told(&b, "power_unusual", 0), 2);
}

static void left_on_once(void **state)
{
    (void)state;
    struct bench b;
    struct anomaly_bounds bounds;
    struct alert out[ANOMALY_ALERTS];
    learned(&b);
    struct anomaly_run run = {.appliance = "Fridge", .start_ms = b.t, .mean_w = 80};
    anomaly_recall(&b.r, &b.rules, &run, &bounds);
    assert_true(bounds.left_on_s > 2000 && bounds.left_on_s < 2800);
    run.end_ms = b.t + 2000000;
    assert_int_equal(anomaly_running(&b.a, &bounds, &run, out), 0);
    run.end_ms = b.t + 2800000;
    assert_int_equal(anomaly_running(&b.a, &bounds, &run, out), 1);
    assert_string_equal(out[0].alert, "left_on");
    assert_int_equal(out[0].since_ms, b.t);
    assert_int_equal(out[0].severity, ALERT_WARNING);
    run.end_ms += MINUTE;
    assert_int_equal(anomaly_running(&b.a, &bounds, &run, b.told), 0);
    run.end_ms = b.t + 9000000; /* worse: told again, under the same id */
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

/* Feeds constant or alternating readings every 10 s. */
static int readings(struct bench *b, int64_t ms, double watts, double other)
{
    int n = 0, use;
    for (int64_t end = b->t + ms; b->t < end; b->t += 10000) {
        n += anomaly_reading(&b->a, &b->rules, b->t, b->t / 10000 % 2 ? watts : other, b->told + n,
                             &use);
        assert_true(n < 50);
    }
    b->n = n;
    return n;
}

static void tells_the_cycle_that_does_not_come(void **state)
{
    (void)state;
    struct bench b;
    struct anomaly_bounds bounds = {0};
    learned(&b);
    assert_int_equal(readings(&b, 20 * MINUTE, 1, 2), 0);
    /* as long as it runs, none is missing */
    struct anomaly_run run = {.appliance = "Fridge", .start_ms = b.t};
    for (int i = 0; i < 12; i++) {
        run.end_ms = b.t;
        anomaly_running(&b.a, &bounds, &run, b.told);
        assert_int_equal(readings(&b, 10 * MINUTE, 1, 2), 0);
    }
    assert_int_equal(readings(&b, 6 * HOUR, 1, 2), 1);
    assert_string_equal(b.told[0].alert, "cycle_missing");
    b.n = 0;
    cycle(&b, 900, 80, 1300);
    assert_int_equal(told(&b, "cycle_missing", 1), 1);
    /* a silence is no missing cycle */
    struct alert out[ANOMALY_ALERTS];
    assert_int_equal(anomaly_silent(&b.a, b.t, 600000, out), 1);
    b.t += 2 * DAY;
    assert_int_equal(anomaly_heard(&b.a, b.t, out), 1);
    assert_int_equal(readings(&b, 40 * MINUTE, 1, 2), 0);
    cycle(&b, 900, 80, 1300);
    assert_int_equal(b.n, 0);
}

static void tells_a_frozen_meter(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    assert_int_equal(readings(&b, 2 * HOUR, 80, 80), 0); /* still learning */
    bench_init(&b);
    for (int i = 0; i < 60; i++) { /* four minutes of the same at most */
        readings(&b, 4 * MINUTE, 80, 80);
        readings(&b, 2 * HOUR, 81, 79);
        assert_int_equal(b.n, 0);
    }
    assert_int_equal(readings(&b, 3 * HOUR, 80, 80), 1);
    assert_string_equal(b.told[0].alert, "meter_frozen");
    assert_true(b.told[0].value < 1000);
    assert_int_equal(readings(&b, MINUTE, 81, 79), 1);
    assert_true(b.told[0].cleared);
}

static void rest_and_holes_are_not_frozen(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    readings(&b, HOUR, 500, 510);
    assert_int_equal(readings(&b, 4 * DAY, 0, 0), 0); /* at rest since before learning ended */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(readings(&b, HOUR, 500, 510), 0);
        assert_int_equal(readings(&b, 2 * DAY, 0, 0), 0);
    }
    bench_init(&b);
    readings(&b, 4 * DAY, 80, 81);
    for (int i = 0; i < 5; i++) { /* the same before and behind each hole */
        assert_int_equal(readings(&b, 5 * MINUTE, 80, 80), 0);
        b.t += 3 * HOUR;
    }
    assert_int_equal(readings(&b, 30 * MINUTE, 0, 0), 1); /* it was never at rest */
    assert_string_equal(b.told[0].alert, "meter_frozen");
}

static void leaves_out_the_impossible(void **state)
{
    (void)state;
    struct bench b;
    struct alert out[ANOMALY_ALERTS];
    int use;
    bench_init(&b);
    readings(&b, HOUR, 80, 81);
    assert_int_equal(anomaly_reading(&b.a, &b.rules, b.t, 32767, out, &use), 0);
    assert_int_equal(use, 0);
    assert_int_equal(anomaly_reading(&b.a, &b.rules, b.t + 10000, 80, out, &use), 1);
    assert_int_equal(use, 1);
    assert_string_equal(out[0].alert, "reading_impossible");
    assert_true(out[0].value == 32767);
    /* a large load is believed when it stays */
    bench_init(&b);
    readings(&b, HOUR, 80, 81);
    assert_int_equal(anomaly_reading(&b.a, &b.rules, b.t, 45000, out, &use), 0);
    assert_int_equal(use, 0);
    assert_int_equal(anomaly_reading(&b.a, &b.rules, b.t + 10000, 46000, out, &use), 0);
    assert_int_equal(use, 1);
    b.t += 20000;
    assert_int_equal(readings(&b, HOUR, 44000, 52000), 0);
    /* a bound that was given holds */
    b.rules.possible_w = 20000;
    assert_int_equal(readings(&b, MINUTE, 44000, 52000), 1);
    b.rules.possible_w = 0;
    bench_init(&b);
    assert_int_equal(readings(&b, HOUR, -80, -90), 1);
    b.rules.negative = 1;
    bench_init(&b);
    b.rules.negative = 1;
    assert_int_equal(readings(&b, HOUR, -80, -90), 0);
}

static void tells_limits(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    b.rules.limit_w = 3000;
    b.rules.limit_for_ms = 60000;
    assert_int_equal(readings(&b, 50000, 3200, 3300), 0);
    assert_int_equal(readings(&b, 50000, 2800, 2900), 0);
    assert_int_equal(readings(&b, HOUR, 3200, 3300), 1);
    assert_string_equal(b.told[0].alert, "total_over");
    assert_int_equal(readings(&b, HOUR, 2800, 2900), 1);
    assert_true(b.told[0].cleared);
    bench_init(&b);
    b.rules.limit_day_wh = 5000;
    readings(&b, 3 * DAY, 1000, 1000);
    assert_int_equal(told(&b, "energy_over", 0), 3);
    assert_int_equal(told(&b, "energy_over", 1), 2);
}

static int unknown_at(struct bench *b, int64_t start_ms, int64_t length_ms)
{
    struct anomaly_run run = {.appliance = "unknown",
                              .start_ms = start_ms,
                              .end_ms = start_ms + length_ms,
                              .mean_w = 300,
                              .whole = 1,
                              .mixed = 1};
    return anomaly_finished(&b->a, &b->rules, &b->r, &run, b->told);
}

static void unknown_loads_have_their_hours(void **state)
{
    (void)state;
    struct bench b;
    struct alert out[ANOMALY_ALERTS];
    int use;
    bench_init(&b);
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

static void forgets_and_checks(void **state)
{
    (void)state;
    struct bench b;
    struct alert out[ANOMALY_ALERTS];
    learned(&b);
    cycles(&b, 10, 1800, 120, 1300);
    assert_true(told(&b, "power_unusual", 0) && told(&b, "duration_unusual", 0));
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
        learned(&b);
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
        cmocka_unit_test(separated_runs_have_time),
        cmocka_unit_test(another_version_learns_anew),
        cmocka_unit_test(a_door_lamp_changes_nothing),
        cmocka_unit_test(tells_slow_drift),
        cmocka_unit_test(new_normal_after_a_week),
        cmocka_unit_test(left_on_once),
        cmocka_unit_test(tells_the_cycle_that_does_not_come),
        cmocka_unit_test(tells_a_frozen_meter),
        cmocka_unit_test(rest_and_holes_are_not_frozen),
        cmocka_unit_test(leaves_out_the_impossible),
        cmocka_unit_test(tells_limits),
        cmocka_unit_test(unknown_loads_have_their_hours),
        cmocka_unit_test(forgets_and_checks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
