/* The grid: energy, cells, gaps, restarts, hostile times (resample.h). */
#include <errno.h>
#include <glob.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "inference/resample.h"
#include "inference/trace.h"

enum { P = 8000, GAP = 60000, MOST = 4096 };

static struct resample grid;
static struct resample_sample got[MOST];
static size_t got_count;

static void begin(void)
{
    resample_init(&grid, P, GAP);
    got_count = 0;
}

static int feed(int64_t t_ms, float watts)
{
    int rc = resample_push(&grid, t_ms, watts);
    struct resample_sample s;
    while (resample_next(&grid, &s)) {
        assert_true(got_count < MOST);
        got[got_count++] = s;
    }
    return rc;
}

static uint64_t random_next(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

static void test_constant(void **state)
{
    (void)state;
    begin();
    for (int i = 0; i <= 40; i++)
        assert_int_equal(feed(16000 + i * 1000, 5.0f), 0);
    assert_int_equal(got_count, 5);
    for (size_t i = 0; i < got_count; i++) {
        assert_true(got[i].watts == 5.0f);
        assert_int_equal(got[i].t_ms, 16000 + (int64_t)i * P);
        assert_int_equal(got[i].mark, i == 0 ? RESAMPLE_RESTART : RESAMPLE_OK);
    }
}

/* A reading holds until the next: 100 W for 3 s and 20 W for 5 s of a cell. */
static void test_weighted_mean(void **state)
{
    (void)state;
    begin();
    feed(0, 100);
    feed(3000, 20);
    feed(8000, 0);
    assert_int_equal(got_count, 1);
    assert_true(got[0].watts == 50.0f);
}

/* Cells follow Unix time, also before 1970 and whatever the first reading is. */
static void test_cells_follow_unix_time(void **state)
{
    (void)state;
    begin();
    feed(-12345, 1);
    for (int i = 0; i < 100; i++)
        feed(-12345 + i * 777, 1);
    assert_int_equal(got[0].t_ms, -16000);
    for (size_t i = 0; i < got_count; i++)
        assert_int_equal(got[i].t_ms % P, 0);
}

/* Two streams of the same power, joined in the grid at different first readings, give the same
 * cells. */
static void test_independent_of_the_start(void **state)
{
    struct resample_sample first[64];
    size_t n;
    (void)state;
    begin();
    for (int t = 0; t <= 80000; t += 1000)
        feed(t, (float)(t / 1000 % 7));
    n = got_count;
    memcpy(first, got, n * sizeof *got);
    begin();
    for (int t = 21000; t <= 80000; t += 1000)
        feed(t, (float)(t / 1000 % 7));
    for (size_t i = 1; i < got_count; i++) {
        assert_int_equal(got[i].t_ms, first[n - got_count + i].t_ms);
        assert_true(got[i].watts == first[n - got_count + i].watts);
    }
}

/* Property: without gaps, the grid's energy is that of the step function, for random steps. */
static void test_energy_is_conserved(void **state)
{
    uint64_t seed = 7;
    (void)state;
    for (int round = 0; round < 200; round++) {
        int64_t t = 800000, end;
        double energy = 0, grid_energy = 0;
        float watts = 0;
        begin();
        for (int i = 0; i < 300; i++) {
            feed(t, watts);
            int64_t step = 1 + (int64_t)(random_next(&seed) % (round % 2 ? 6000 : GAP));
            float old = watts;
            watts = (float)(random_next(&seed) % 3000) - 10.0f;
            if (i == 299) /* close the last cell */
                step += P - (t + step) % P;
            step = step > GAP ? step - P : step;
            energy += (double)old * (double)step;
            feed(t + step, watts);
            t += step;
        }
        end = t;
        for (size_t i = 0; i < got_count; i++)
            grid_energy += (double)got[i].watts * P;
        assert_int_equal((int64_t)got_count * P, end - 800000);
        assert_true(fabs(grid_energy - energy) <= 1e-6 * (fabs(energy) + 3000.0 * P));
        assert_int_equal(grid.gaps, 0);
    }
}

static void test_repeated_time_replaces(void **state)
{
    (void)state;
    begin();
    feed(0, 100);
    assert_int_equal(feed(0, 10), 0);
    feed(8000, 0);
    assert_int_equal(got_count, 1);
    assert_true(got[0].watts == 10.0f);
    assert_int_equal(grid.repeated, 1);
}

static void test_backward_time_is_dropped(void **state)
{
    (void)state;
    begin();
    feed(4000, 100);
    assert_int_equal(feed(3999, 7), -ESTALE);
    assert_int_equal(feed(0, 7), -ESTALE);
    feed(16000, 100);
    assert_int_equal(grid.backward, 2);
    assert_int_equal(got_count, 2);
    assert_true(got[0].watts == 100.0f && got[1].watts == 100.0f);
}

static void test_max_gap_is_still_no_gap(void **state)
{
    (void)state;
    begin();
    feed(0, 9);
    feed(GAP, 9);
    assert_int_equal(grid.gaps, 0);
    assert_int_equal(got_count, 7);
    for (size_t i = 1; i < got_count; i++)
        assert_int_equal(got[i].mark, RESAMPLE_OK);
}

/* Readings until 18 s, then from 109 s: cell [16,24) is covered for 2 s, [24,104) not at all,
 * [104,112) for 3 s. */
static void test_gap_marks(void **state)
{
    (void)state;
    begin();
    for (int t = 0; t <= 18000; t += 1000)
        feed(t, 40);
    for (int t = 109000; t <= 120000; t += 1000)
        feed(t, 90);
    assert_int_equal(grid.gaps, 1);
    assert_int_equal(got_count, 15);
    assert_int_equal(got[1].mark, RESAMPLE_OK);
    for (size_t i = 2; i <= 13; i++) {
        assert_int_equal(got[i].mark, RESAMPLE_GAP);
        assert_int_equal(got[i].t_ms, (int64_t)i * P);
        assert_true(got[i].watts == (i == 13 ? 90.0f : 40.0f));
    }
    assert_int_equal(got[14].mark, RESAMPLE_OK);
    assert_true(got[14].watts == 90.0f);
}

/* A cell that is covered for half of its time or more is no gap. */
static void test_half_covered_cell(void **state)
{
    (void)state;
    begin();
    for (int t = 0; t <= 12000; t += 1000)
        feed(t, 40);
    feed(100000, 90);
    feed(104000, 90);
    assert_int_equal(got[1].mark, RESAMPLE_OK); /* [8,16): 4 s */
    assert_int_equal(got[2].mark, RESAMPLE_GAP);
    assert_int_equal(got[12].mark, RESAMPLE_OK); /* [96,104): 4 s */
    assert_true(got[12].watts == 90.0f);
}

static void test_long_gap_restarts(void **state)
{
    (void)state;
    int64_t far = (int64_t)P * (RESAMPLE_MAX_FILL + 10);
    begin();
    feed(0, 5);
    feed(8000, 6);
    feed(11000, 7);
    feed(far + 1000, 8);
    feed(far + 8000, 8);
    assert_int_equal(got_count, 3);
    assert_int_equal(got[1].t_ms, 8000); /* what was read of the last cell is not lost */
    assert_true(got[1].watts == 6.0f);
    assert_int_equal(got[1].mark, RESAMPLE_GAP);
    assert_int_equal(got[2].mark, RESAMPLE_RESTART);
    assert_int_equal(got[2].t_ms, far);
}

/* Exactly RESAMPLE_MAX_FILL cells are filled, one more is not. */
static void test_fill_limit(void **state)
{
    (void)state;
    for (int more = 0; more < 2; more++) {
        begin();
        feed(0, 5);
        feed((int64_t)P * (RESAMPLE_MAX_FILL + more), 5);
        assert_int_equal(got_count, more ? 0 : RESAMPLE_MAX_FILL);
    }
}

static void test_busy_until_drained(void **state)
{
    struct resample_sample s;
    (void)state;
    begin();
    assert_int_equal(resample_next(&grid, &s), 0);
    assert_int_equal(resample_push(&grid, 0, 1), 0);
    assert_int_equal(resample_push(&grid, 20000, 2), 0);
    assert_int_equal(resample_push(&grid, 21000, 3), -EBUSY);
    assert_int_equal(resample_next(&grid, &s), 1);
    assert_int_equal(resample_next(&grid, &s), 1);
    assert_int_equal(resample_next(&grid, &s), 0);
    assert_int_equal(resample_push(&grid, 21000, 3), 0);
}

static void test_hostile_values(void **state)
{
    (void)state;
    begin();
    assert_int_equal(feed(0, NAN), -EINVAL);
    assert_int_equal(feed(0, INFINITY), -EINVAL);
    assert_int_equal(feed(INT64_MAX, 1), -EINVAL);
    assert_int_equal(feed(INT64_MIN, 1), -EINVAL);
    assert_int_equal(feed(-INT64_MAX / 4, 1), 0);
    assert_int_equal(feed(INT64_MAX / 4, 3e38f), 0);
    assert_int_equal(feed(INT64_MAX / 4, 1), 0);
    assert_true(got_count <= 2);
}

/* Whatever times and values come, cells ascend, values are finite, and between restarts no cell is
 * missing. */
static void test_random_streams(void **state)
{
    uint64_t seed = 99;
    (void)state;
    for (int round = 0; round < 300; round++) {
        int64_t t = (int64_t)random_next(&seed) - 1000000000, last = INT64_MIN;
        resample_init(&grid, 1 + (int64_t)(random_next(&seed) % 20000),
                      1 + (int64_t)(random_next(&seed) % 100000));
        for (int i = 0; i < 200; i++) {
            struct resample_sample s;
            uint64_t kind = random_next(&seed) % 20;
            t += kind == 0   ? -(int64_t)(random_next(&seed) % 100000)
                 : kind == 1 ? (int64_t)(random_next(&seed) % 100000000)
                             : (int64_t)(random_next(&seed) % 9000);
            int rc = resample_push(&grid, t, (float)random_next(&seed) / 1000.0f);
            assert_true(rc == 0 || rc == -ESTALE);
            while (resample_next(&grid, &s)) {
                assert_true(isfinite(s.watts) && s.watts >= 0);
                if (last != INT64_MIN && s.mark != RESAMPLE_RESTART)
                    assert_int_equal(s.t_ms, last + grid.period_ms);
                assert_true(s.t_ms > last);
                last = s.t_ms;
            }
        }
    }
}

/* Real days of twelve classes: the grid carries the energy of the readings; what may differ is the
 * cells at gaps and at both ends. */
static void test_real_energy(void **state)
{
    const char *data = getenv("NILM_DATA");
    char pattern[512], why[512];
    glob_t found;
    (void)state;
    if (data == NULL) {
        print_message("NILM_DATA is not set: skipped\n");
        skip();
    }
    snprintf(pattern, sizeof pattern, "%s/tracebase/sample/complete/*/*.csv", data);
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    assert_true(found.gl_pathc >= 12);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct trace *t;
        struct trace_reading r;
        struct resample_sample s;
        double energy = 0, grid_energy = 0, most = 0, watts = 0;
        int64_t last = -1;
        assert_int_equal(trace_open(found.gl_pathv[i], TRACE_AUTO, NULL, &t, why, sizeof why), 0);
        resample_init(&grid, P, GAP);
        while (trace_next(t, &r) == 1) {
            if (last >= 0 && r.t_ms > last && r.t_ms - last <= GAP)
                energy += watts * (double)(r.t_ms - last);
            if (r.t_ms >= last) {
                last = r.t_ms;
                watts = (double)r.watts;
            }
            most = (double)r.watts > most ? (double)r.watts : most;
            resample_push(&grid, r.t_ms, r.watts);
            while (resample_next(&grid, &s))
                grid_energy += s.mark == RESAMPLE_GAP ? 0 : (double)s.watts * P;
        }
        assert_int_equal(trace_statistics(t)->bad, 0);
        trace_close(t);
        double allowed = (2.0 * (double)grid.gaps + 2) * P * most + 1e-6 * energy;
        if (fabs(grid_energy - energy) > allowed)
            fail_msg("%s: %f of %f Wh", found.gl_pathv[i], grid_energy / 3.6e6, energy / 3.6e6);
    }
    globfree(&found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_constant),
        cmocka_unit_test(test_weighted_mean),
        cmocka_unit_test(test_cells_follow_unix_time),
        cmocka_unit_test(test_independent_of_the_start),
        cmocka_unit_test(test_energy_is_conserved),
        cmocka_unit_test(test_repeated_time_replaces),
        cmocka_unit_test(test_backward_time_is_dropped),
        cmocka_unit_test(test_max_gap_is_still_no_gap),
        cmocka_unit_test(test_gap_marks),
        cmocka_unit_test(test_half_covered_cell),
        cmocka_unit_test(test_long_gap_restarts),
        cmocka_unit_test(test_fill_limit),
        cmocka_unit_test(test_busy_until_drained),
        cmocka_unit_test(test_hostile_values),
        cmocka_unit_test(test_random_streams),
        cmocka_unit_test(test_real_energy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
