/* test_anomaly.c - what is learned, and what is reported. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "agent/anomaly.h"

static struct detector_run run_of(double seconds, double watts)
{
    static int64_t t = 1700000000000;
    t += 86400000;
    return (struct detector_run){.start_ms = t,
                                 .end_ms = t + (int64_t)(seconds * 1000),
                                 .energy_wh = watts * seconds / 3600,
                                 .mean_w = watts,
                                 .peak_w = watts,
                                 .reason = "off"};
}

static void teach(struct anomaly *a, struct routine *r, int runs)
{
    struct alert alerts[ANOMALY_ALERTS];
    int learned;
    for (int i = 0; i < runs; i++) {
        struct detector_run run = run_of(100 + 10 * (i % 3), 2000 + 20 * (i % 2));
        assert_int_equal(anomaly_finished(a, r, "Kettle", &run, alerts, &learned), 0);
        assert_int_equal(learned, 1);
    }
}

static void learns_mean_and_deviation(void **state)
{
    (void)state;
    struct anomaly a;
    struct routine r = {0};
    anomaly_init(&a, "kitchen");
    teach(&a, &r, 6);
    assert_int_equal(r.runs, 6);
    assert_true(fabs(r.duration_mean_s - 110) < 1e-9);
    assert_true(fabs(r.duration_m2 - 400) < 1e-6);
    assert_true(r.duration_max_s == 120);
    assert_true(fabs(r.power_mean_w - 2010) < 1e-9 && fabs(r.power_m2 - 600) < 1e-6);
    assert_true(r.power_min_w == 2000 && r.power_max_w == 2020);
    assert_true(r.first_ms < r.last_ms);
    /* a run that a hole cut short, and one without a name, teach nothing */
    struct alert alerts[ANOMALY_ALERTS];
    int learned;
    struct detector_run cut = run_of(10, 2000);
    cut.reason = "gap";
    assert_int_equal(anomaly_finished(&a, &r, "Kettle", &cut, alerts, &learned), 0);
    assert_int_equal(learned, 0);
    cut.reason = "off";
    anomaly_finished(&a, &r, "unknown", &cut, alerts, &learned);
    assert_int_equal(learned, 0);
    assert_int_equal(r.runs, 6);
}

static void left_on_once(void **state)
{
    (void)state;
    struct anomaly a;
    struct routine r = {0};
    struct alert alerts[ANOMALY_ALERTS], cleared[ANOMALY_ALERTS];
    int learned;
    anomaly_init(&a, "kitchen");
    teach(&a, &r, 4);
    struct detector_run run = run_of(5000, 2000);
    assert_int_equal(anomaly_running(&a, &r, "Kettle", &run, alerts), 0); /* too little is known */
    teach(&a, &r, 1);
    run = run_of(179, 2000);
    assert_int_equal(anomaly_running(&a, &r, "Kettle", &run, alerts), 0);
    run.end_ms = run.start_ms + 230000;
    assert_int_equal(anomaly_running(&a, &r, "Kettle", &run, alerts), 1);
    assert_string_equal(alerts[0].alert, "left_on");
    assert_int_equal(alerts[0].cleared, 0);
    assert_string_equal(alerts[0].appliance, "Kettle");
    assert_int_equal(alerts[0].since_ms, run.start_ms);
    assert_true(alerts[0].value == 230 && alerts[0].limit < 230);
    assert_non_null(strstr(alerts[0].seen, "230 s"));
    assert_non_null(strstr(alerts[0].expected, "5 runs"));
    run.end_ms += 1000000;
    assert_int_equal(anomaly_running(&a, &r, "Kettle", &run, cleared), 0);
    assert_int_equal(anomaly_finished(&a, &r, "Kettle", &run, cleared, &learned), 1);
    assert_int_equal(cleared[0].cleared, 1);
    assert_string_equal(cleared[0].alert_id, alerts[0].alert_id);
    assert_int_equal(learned, 0);
    assert_int_equal(anomaly_check(&a), 0);
}

static void power_unusual_until_normal(void **state)
{
    (void)state;
    struct anomaly a;
    struct routine r = {0};
    struct alert alerts[ANOMALY_ALERTS], later[ANOMALY_ALERTS];
    int learned;
    anomaly_init(&a, "kitchen");
    teach(&a, &r, 8);
    struct detector_run run = run_of(100, 1500);
    assert_int_equal(anomaly_finished(&a, &r, "Kettle", &run, alerts, &learned),
                     0); /* 25 %: not odd */
    assert_int_equal(learned, 1);
    run = run_of(100, 900);
    assert_int_equal(anomaly_finished(&a, &r, "Kettle", &run, alerts, &learned), 1);
    assert_string_equal(alerts[0].alert, "power_unusual");
    assert_true(alerts[0].value == 900 && alerts[0].limit > 900);
    assert_int_equal(learned, 0);
    run = run_of(100, 910);
    assert_int_equal(anomaly_finished(&a, &r, "Kettle", &run, later, &learned), 0);
    run = run_of(100, 2000);
    assert_int_equal(anomaly_finished(&a, &r, "Kettle", &run, later, &learned), 1);
    assert_int_equal(later[0].cleared, 1);
    assert_string_equal(later[0].alert_id, alerts[0].alert_id);
    /* what keeps being odd is the new normal in the end */
    int taught = 0, n = 0;
    for (int i = 0; i < 40; i++) {
        run = run_of(100, 700);
        n += anomaly_finished(&a, &r, "Kettle", &run, later, &learned);
        taught += learned;
    }
    assert_int_equal(n, 2);
    assert_int_equal(taught, 37);
    assert_int_equal(later[0].cleared, 1);
}

static void silence(void **state)
{
    (void)state;
    struct anomaly a, b;
    struct alert raised, cleared, other;
    anomaly_init(&a, "kitchen");
    anomaly_init(&b, "cellar");
    assert_int_equal(anomaly_heard(&a, 5000, &cleared), 0);
    assert_int_equal(anomaly_silent(&a, 10000, 600000, &raised), 1);
    assert_int_equal(anomaly_silent(&b, 10000, 600000, &other), 1);
    assert_string_not_equal(raised.alert_id, other.alert_id);
    assert_int_equal(raised.time_ms, 610000);
    assert_int_equal(anomaly_silent(&a, 10000, 600000, &raised), 0);
    assert_int_equal(anomaly_heard(&a, 910000, &cleared), 1);
    assert_string_equal(raised.alert_id, cleared.alert_id);
    assert_non_null(strstr(cleared.seen, "15 min"));
    assert_int_equal(anomaly_heard(&a, 910000, &cleared), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(learns_mean_and_deviation),
        cmocka_unit_test(left_on_once),
        cmocka_unit_test(power_unusual_until_normal),
        cmocka_unit_test(silence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
