/* test_edges.c - steps of a sum: exact time and size, and what is none (agent/edges.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/edges.h"
#include "inference/trace.h"

#define T0 1700000000000LL
#define GAP_MS 60000
#define ROOM 512

struct run {
    struct edges e;
    struct edge found[ROOM];
    int count;
    int64_t t;
    unsigned seed;
};

static void begin(struct run *r)
{
    memset(r, 0, sizeof(*r));
    edges_init(&r->e);
    r->t = T0;
    r->seed = 1;
}

static void push(struct run *r, double watts)
{
    assert_true(r->count < ROOM);
    edges_note(&r->e.zero, r->t, (float)watts);
    r->count += edges_push(&r->e, r->t, (float)watts, GAP_MS, &r->found[r->count]);
}

static double noise(struct run *r, double size)
{
    r->seed = r->seed * 1103515245u + 12345u;
    return size * ((double)(r->seed >> 16 & 0x7fff) / 16384.0 - 1);
}

/* Seconds of a level with noise, a reading every step ms. */
static void level(struct run *r, double watts, double size, int seconds, int step_ms)
{
    for (int64_t end = r->t + seconds * 1000LL; r->t < end; r->t += step_ms)
        push(r, watts + noise(r, size));
}

static void steps_have_time_and_size(void **state)
{
    (void)state;
    static const int steps_ms[] = {1000, 2300, 8000, 30000};
    for (size_t i = 0; i < sizeof(steps_ms) / sizeof(steps_ms[0]); i++) {
        struct run r;
        begin(&r);
        level(&r, 200, 2, 600, steps_ms[i]);
        int64_t up = r.t;
        level(&r, 2300, 8, 300, steps_ms[i]);
        int64_t down = r.t;
        level(&r, 280, 2, 300, steps_ms[i]);
        assert_int_equal(r.count, 2);
        assert_int_equal(r.found[0].t_ms, up);
        assert_int_equal(r.found[1].t_ms, down);
        assert_true(fabs((double)r.found[0].step_w - 2100) < 12);
        assert_true(fabs((double)r.found[0].before_w - 200) < 4);
        assert_true(fabs((double)r.found[1].step_w + 2020) < 12);
    }
}

static void small_steps_stand_out_of_little_noise(void **state)
{
    (void)state;
    struct run r;
    begin(&r);
    level(&r, 300, 2, 600, 8000);
    level(&r, 375, 2, 600, 8000);
    level(&r, 300, 2, 600, 8000);
    assert_int_equal(r.count, 2);
    assert_true(fabs((double)r.found[0].step_w - 75) < 5);
    assert_true(fabs((double)r.found[1].step_w + 75) < 5);
}

static void noise_and_drift_are_no_steps(void **state)
{
    (void)state;
    struct run r;
    begin(&r);
    level(&r, 800, 20, 1200, 2000);
    int before = r.count;
    assert_true(before <= 2);                   /* until the noise is known */
    for (int i = 0; i < 1800; i++, r.t += 2000) /* 0.1 W a second */
        push(&r, 800 + 0.2 * i + noise(&r, 15));
    assert_int_equal(r.count, before);
}

/* At 1 Hz, means of 3 s show what the noise of a second hides; their time is that of the reading.
 */
static void noise_of_a_second_hides_no_step(void **state)
{
    (void)state;
    struct run r;
    begin(&r);
    level(&r, 300, 34, 600, 1000);
    int before = r.count;
    for (int n = 0; n < 10; n++) {
        const int64_t on = r.t;
        level(&r, 365, 34, 301, 1000);
        assert_int_equal(r.count, before + 1);
        assert_true(fabsf(r.found[before].step_w - 65) < 30);
        assert_true(llabs(r.found[before].t_ms - on) <= 3000);
        level(&r, 300, 34, 300, 1000);
        before += 2;
        assert_int_equal(r.count, before);
    }
}

static void spikes_and_codes_are_no_steps(void **state)
{
    (void)state;
    static const float codes[] = {4096, 8192, 12288, 32767, 32768, 49150, 65535};
    struct run r;
    begin(&r);
    level(&r, 250, 1, 300, 8000);
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        assert_true(edges_left_out(&r.e.zero, r.t, codes[i]));
        for (int n = 0; n < 2; n++, r.t += 8000) /* forward-filled: twice */
            push(&r, (double)codes[i]);
        level(&r, 250, 1, 60, 8000);
    }
    push(&r, 3000); /* one reading only */
    r.t += 8000;
    level(&r, 250, 1, 60, 8000);
    assert_int_equal(r.count, 0);
    assert_int_equal(r.e.damaged, 14);
    assert_false(edges_left_out(&r.e.zero, r.t, 2048));
    assert_false(edges_left_out(&r.e.zero, r.t, 4095));
}

/* A home has a base load: when its meter says 0 W after a day, the meter is at fault. */
static void nothing_is_no_step_of_a_home(void **state)
{
    (void)state;
    struct run r;
    begin(&r);
    level(&r, 250, 1, 86400, 8000);
    int before = r.count;
    level(&r, 0, 0, 3600, 8000);
    level(&r, 250, 1, 600, 8000);
    assert_int_equal(r.count, before);
    assert_int_equal(r.e.damaged, 450);
}

/* The feed of a machine rests at 0 W each night. */
static void nothing_is_a_level_of_a_feed(void **state)
{
    (void)state;
    struct run r;
    begin(&r);
    for (int day = 0; day < 3; day++) {
        int before = r.count;
        level(&r, 2000, 2, 36000, 8000);
        assert_int_equal(r.count, before + (day > 0));
        level(&r, 0, 0, 50400, 8000);
        assert_int_equal(r.count, before + (day > 0) + 1);
    }
    assert_int_equal(r.e.damaged, 0);
}

static void inrush_of_one_reading_is_skipped(void **state)
{
    (void)state;
    struct run r;
    begin(&r);
    level(&r, 100, 1, 300, 1000);
    int64_t up = r.t;
    push(&r, 900);
    r.t += 1000;
    level(&r, 190, 1, 300, 1000);
    assert_int_equal(r.count, 1);
    assert_int_equal(r.found[0].t_ms, up);
    assert_true(fabs((double)r.found[0].step_w - 90) < 4);
}

static void ramp_is_one_step(void **state)
{
    (void)state;
    struct run r;
    begin(&r);
    level(&r, 100, 1, 300, 8000);
    int64_t up = r.t;
    for (int i = 1; i <= 5; i++, r.t += 8000)
        push(&r, 100 + 200 * i);
    level(&r, 1100, 1, 300, 8000);
    assert_int_equal(r.count, 1);
    assert_int_equal(r.found[0].t_ms, up);
    assert_true(fabs((double)r.found[0].step_w - 1000) < 15);
}

static void resolution_of_ten_watts(void **state)
{
    (void)state;
    struct run r;
    begin(&r);
    for (int i = 0; i < 100; i++, r.t += 5000)
        push(&r, i % 3 ? 200 : 210);
    for (int i = 0; i < 100; i++, r.t += 5000)
        push(&r, i % 3 ? 290 : 280);
    assert_int_equal(r.count, 1);
    assert_true(fabs((double)r.found[0].step_w - 83) < 12);
}

/* A stuck logger's last value, and a hole: what comes after them was no switching at that time. */
static void stuck_and_missing_readings_make_no_step(void **state)
{
    (void)state;
    struct run r;
    begin(&r);
    level(&r, 300, 3, 600, 8000);
    for (int i = 0; i < 60; i++, r.t += 8000)
        push(&r, 301);
    level(&r, 900, 3, 600, 8000);
    assert_int_equal(r.count, 0);
    r.t += GAP_MS + 1000;
    level(&r, 200, 3, 600, 8000);
    assert_int_equal(r.count, 0);
    level(&r, 700, 3, 600, 8000); /* and goes on as ever */
    assert_int_equal(r.count, 1);
}

/* A meter of 10 W stands still for as long as a refrigerator runs: its steps count all the same,
 * once it is known for that. */
static void a_coarse_meter_stands_still(void **state)
{
    (void)state;
    struct run r;
    begin(&r);
    for (int i = 0; i < 8; i++) {
        level(&r, 140, 0, 16, 8000);
        level(&r, 130, 0, 1000, 8000);
        level(&r, 20, 0, 1200, 8000);
    }
    assert_true(r.count >= 13);
    assert_true(fabs((double)r.found[r.count - 1].step_w) > 100);
}

static void saved_bytes_are_checked(void **state)
{
    (void)state;
    struct run r;
    begin(&r);
    level(&r, 300, 3, 600, 8000);
    assert_int_equal(edges_check(&r.e), 0);
    r.e.noise_w = NAN;
    assert_int_equal(edges_check(&r.e), -EBADMSG);
    begin(&r);
    r.e.frozen = 7;
    assert_int_equal(edges_check(&r.e), -EBADMSG);
}

/* A real home: hundreds of steps a day, each as large as the meter moved, none from its codes. */
static void a_home(void **state)
{
    (void)state;
    const char *data = getenv("NILM_DATA");
    char path[512], why[256];
    struct trace *t = NULL;
    struct trace_reading reading;
    struct edges e;
    struct edge edge;
    if (!data) {
        print_message("NILM_DATA is not set: no recorded home\n");
        skip();
    }
    snprintf(path, sizeof(path), "%s/refit/refit_h2_2014-04-19_2014-04-25.csv", data);
    assert_int_equal(trace_open(path, TRACE_AUTO, "aggregate", &t, why, sizeof(why)), 0);
    edges_init(&e);
    int count = 0, large = 0;
    double sum = 0, all = 0;
    while (trace_next(t, &reading) > 0) {
        edges_note(&e.zero, reading.t_ms, reading.watts);
        if (!edges_push(&e, reading.t_ms, reading.watts, GAP_MS, &edge))
            continue;
        count++;
        large += fabsf(edge.step_w) > 11000;
        sum += (double)edge.step_w;
        all += fabs((double)edge.step_w);
        assert_true(edge.t_ms <= reading.t_ms &&
                    reading.t_ms - edge.t_ms <= EDGES_SETTLE_MS + GAP_MS);
    }
    trace_close(t);
    print_message("%d edges in a week, up less down %.0f W of %.0f W\n", count, sum, all);
    assert_int_equal(large, 0);
    assert_true(count > 7 * 100 && count < 7 * 1000);
    assert_true(fabs(sum) < 0.01 * all); /* up and down balance */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_have_time_and_size),
        cmocka_unit_test(small_steps_stand_out_of_little_noise),
        cmocka_unit_test(noise_and_drift_are_no_steps),
        cmocka_unit_test(noise_of_a_second_hides_no_step),
        cmocka_unit_test(spikes_and_codes_are_no_steps),
        cmocka_unit_test(nothing_is_no_step_of_a_home),
        cmocka_unit_test(nothing_is_a_level_of_a_feed),
        cmocka_unit_test(inrush_of_one_reading_is_skipped),
        cmocka_unit_test(ramp_is_one_step),
        cmocka_unit_test(resolution_of_ten_watts),
        cmocka_unit_test(stuck_and_missing_readings_make_no_step),
        cmocka_unit_test(a_coarse_meter_stands_still),
        cmocka_unit_test(saved_bytes_are_checked),
        cmocka_unit_test(a_home),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
