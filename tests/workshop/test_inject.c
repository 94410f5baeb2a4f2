/* test_inject.c - faults in recorded power: where they begin, what they leave alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "inference/workshop/inject.h"

#define STEP 8000

/* A kettle: three readings at about 2000 W every ten minutes, at rest 1 W. */
static struct inject_series kettle(int runs)
{
    struct inject_series s = {0};
    int64_t t = 0;
    for (int r = 0; r < runs; r++)
        for (int i = 0; i < 75; i++, t += STEP)
            assert_int_equal(
                inject_add(&s, t, i >= 30 && i < 33 ? (float)(2000 + (r * 7 + i) % 23) : 1), 0);
    return s;
}

static void what_is_stuck_varies(void **state)
{
    (void)state;
    struct inject_series in = kettle(40), out = {0};
    struct inject_truth truth;
    struct inject_fault f = {
        .kind = INJECT_STUCK_ON, .hours = 2, .at_ms = 20 * 600000, .on_w = 15, .off_w = 10};
    assert_int_equal(inject_apply(&in, &f, &out, &truth), 0);
    assert_int_equal(truth.from_ms, (20 * 75 + 30) * STEP);
    assert_in_range(truth.to_ms - truth.from_ms, 7200000, 7200000 + STEP);
    assert_int_equal(out.count, in.count);
    int same = 0, longest = 0;
    for (size_t i = 0; i < out.count; i++) {
        assert_int_equal(out.r[i].t_ms, in.r[i].t_ms);
        if (out.r[i].t_ms < truth.from_ms || out.r[i].t_ms >= truth.to_ms) {
            assert_true(out.r[i].watts == in.r[i].watts);
            continue;
        }
        assert_true(out.r[i].watts >= 2000);
        same = out.r[i].watts == out.r[i - 1].watts ? same + 1 : 0;
        longest = same > longest ? same : longest;
    }
    assert_in_range(longest, 0, 3); /* a meter that says the same for hours is frozen */
    free(in.r);
    free(out.r);
}

static void runs_change_from_then_on(void **state)
{
    (void)state;
    struct inject_series in = kettle(40), out = {0};
    struct inject_truth truth;
    struct inject_fault f = {
        .kind = INJECT_CYCLES, .size = 0.5, .at_ms = 20 * 600000, .on_w = 15, .off_w = 10};
    assert_int_equal(inject_apply(&in, &f, &out, &truth), 0);
    assert_int_equal(truth.runs, 40);
    assert_int_equal(truth.changed, 10);
    int on = 0;
    for (size_t i = 0; i < out.count; i++)
        on += out.r[i].watts > 15;
    assert_int_equal(on, 3 * 30);
    f = (struct inject_fault){.kind = INJECT_POWER, .size = 1.3, .at_ms = INT64_MAX, .on_w = 15};
    out.count = 0;
    assert_int_equal(inject_apply(&in, &f, &out, &truth), -ENOENT);
    free(in.r);
    free(out.r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_stuck_varies),
        cmocka_unit_test(runs_change_from_then_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
