/* test_sim.c - simulated appliances: their truth, their days, and that they are the same whenever
 * they are started. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/detector.h"
#include "agent/sim.h"

#define DAY_MS 86400000LL
#define T0 (19700LL * DAY_MS) /* a midnight */

static void names(void **state)
{
    (void)state;
    struct sim *s = NULL;
    int n = 0;
    for (const char *const *p = sim_appliances(); *p; p++, n++)
        assert_string_equal(sim_label(*p), *p);
    assert_true(n >= 12);
    assert_string_equal(sim_label("kettle"), "WaterKettle");
    assert_string_equal(sim_label("FRIDGE"), "Refrigerator");
    assert_null(sim_label("toothbrush"));
    assert_null(sim_label(NULL));
    assert_int_equal(sim_create("toothbrush", 1, T0, &s), -ENOENT);
    assert_int_equal(sim_create("kettle", 1, -5, &s), -EINVAL);
    assert_int_equal(sim_create("kettle", 1, INT64_MAX, &s), -EINVAL);
    assert_null(s);
}

static void same_seed_same_world(void **state)
{
    (void)state;
    for (const char *const *p = sim_appliances(); *p; p++) {
        struct sim *a, *b, *other;
        struct trace_reading x, y, z;
        struct sim_run run;
        int64_t later = T0 + DAY_MS + 50000123;
        assert_int_equal(sim_create(*p, 9, T0, &a), 0);
        assert_int_equal(sim_create(*p, 9, later, &b), 0);
        assert_int_equal(sim_create(*p, 10, later, &other), 0);
        do
            sim_next(a, &x, &run);
        while (x.t_ms < later);
        int differ = 0;
        for (int i = 0; i < 60000; i++) { /* across midnight */
            sim_next(b, &y, &run);
            assert_int_equal(x.t_ms, y.t_ms);
            assert_true(x.watts == y.watts);
            sim_next(other, &z, &run);
            differ += z.watts != y.watts || z.t_ms != y.t_ms;
            sim_next(a, &x, &run);
        }
        assert_true(differ > 1000);
        sim_destroy(a);
        sim_destroy(b);
        sim_destroy(other);
    }
}

/* The truth, held against what a detector makes of the readings. */
static void truth_is_what_is_measured(void **state)
{
    (void)state;
    static const struct detector_config c = {15, 10, 2000, 30000, 600000, 60000};
    for (const char *const *p = sim_appliances(); *p; p++) {
        struct sim *s;
        struct detector d;
        struct detector_run found = {0};
        struct trace_reading r = {0};
        struct sim_run run, last = {0};
        int truths = 0, seen = 0, long_steps = 0;
        int64_t before = 0;
        double found_wh = 0, true_wh = 0;
        assert_int_equal(sim_create(*p, 3, T0, &s), 0);
        detector_init(&d);
        while (r.t_ms < T0 + 14 * DAY_MS) {
            if (sim_next(s, &r, &run)) {
                assert_true(run.end_ms > run.start_ms && run.energy_wh > 0);
                assert_true(run.start_ms > last.end_ms + 60000);
                assert_true(r.t_ms >= run.end_ms && r.t_ms - run.end_ms <= 9000);
                last = run;
                true_wh += run.energy_wh;
                truths++;
            }
            assert_true(r.t_ms > before || !before);
            assert_true(r.watts >= 0 && r.watts < 4000);
            long_steps += before && r.t_ms - before > 9000;
            before = r.t_ms;
            if (detector_push(&d, &c, r.t_ms, (double)r.watts, &found) == DETECTOR_OFF) {
                seen++;
                found_wh += found.energy_wh;
            }
        }
        assert_int_equal(long_steps, 0);
        print_message("%-16s %4d runs, %8.1f Wh\n", *p, truths, true_wh);
        assert_true(abs(seen - truths) <= 1); /* the last one may still run */
        assert_true(fabs(found_wh - true_wh) <= 0.02 * true_wh);
        if (strcmp(*p, "Router") != 0)
            assert_true(truths >= 5);
        sim_destroy(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(same_seed_same_world),
        cmocka_unit_test(truth_is_what_is_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
