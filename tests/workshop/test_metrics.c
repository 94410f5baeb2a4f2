/* Accuracy, F1, losses and confusion against figures worked out by hand (metrics.h). */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "inference/workshop/metrics.h"

static void add(struct metrics *m, uint32_t truth, uint32_t predicted)
{
    float p[4] = {0.1f, 0.1f, 0.1f, 0.1f};
    p[predicted] = 0.7f;
    metrics_add(m, p, truth);
}

/* Four classes, of which the last never occurs and is predicted once. */
static void test_by_hand(void **state)
{
    struct metrics *m;
    (void)state;
    assert_int_equal(metrics_create(4, &m), 0);
    for (int i = 0; i < 4; i++)
        add(m, 0, 0);
    add(m, 0, 1);
    add(m, 1, 1);
    add(m, 1, 1);
    add(m, 1, 0);
    add(m, 2, 3);
    add(m, 2, 0);
    metrics_finish(m);
    assert_int_equal(m->windows, 10);
    assert_int_equal(m->correct, 6);
    assert_float_equal(m->accuracy, 0.6, 1e-12);
    assert_float_equal(m->classes[0].precision, 4.0 / 6, 1e-12);
    assert_float_equal(m->classes[0].recall, 4.0 / 5, 1e-12);
    assert_float_equal(m->classes[0].f1, 8.0 / 11, 1e-12);
    assert_float_equal(m->classes[1].f1, 2.0 / 3, 1e-12);
    assert_float_equal(m->classes[2].f1, 0, 0);
    assert_float_equal(m->classes[3].precision, 0, 0);
    assert_int_equal(m->classes[3].support, 0);
    /* the class without support is not in the mean */
    assert_float_equal(m->f1_macro, (8.0 / 11 + 2.0 / 3) / 3, 1e-12);
    assert_float_equal(m->f1_weighted, (5 * 8.0 / 11 + 3 * 2.0 / 3) / 10, 1e-12);
    assert_int_equal(m->confusion[0 * 4 + 0], 4);
    assert_int_equal(m->confusion[0 * 4 + 1], 1);
    assert_int_equal(m->confusion[2 * 4 + 3], 1);
    assert_int_equal(m->confusion[3 * 4 + 2], 0);
    metrics_free(m);
}

static void test_losses(void **state)
{
    struct metrics *m;
    const float a[2] = {0.25f, 0.75f}, b[2] = {1.0f, 0.0f};
    (void)state;
    assert_int_equal(metrics_create(2, &m), 0);
    metrics_add(m, a, 1);
    metrics_add(m, b, 1); /* clipped: wrong with certainty costs a finite amount */
    metrics_finish(m);
    double first = -(log(0.75) + log(0.75)) / 2, second = -(log(1e-7) + log(1e-7)) / 2;
    assert_float_equal(m->bce, (first + second) / 2, 1e-6);
    assert_float_equal(m->cross_entropy, -(log(0.75) + log(1e-7)) / 2, 1e-6);
    metrics_free(m);
}

static void test_empty_and_hostile(void **state)
{
    struct metrics *m;
    const float nan[2] = {NAN, NAN};
    (void)state;
    assert_int_equal(metrics_create(0, &m), -EINVAL);
    assert_null(m);
    assert_int_equal(metrics_create(2, &m), 0);
    metrics_add(m, nan, 7); /* no such class: not counted */
    metrics_finish(m);
    assert_int_equal(m->windows, 0);
    assert_true(m->accuracy == 0 && m->f1_macro == 0 && m->bce == 0);
    metrics_free(m);
    assert_int_equal(metrics_create(2, &m), 0);
    metrics_add(m, nan, 1);
    metrics_finish(m);
    assert_true(isfinite(m->bce) && isfinite(m->cross_entropy) && m->correct == 0);
    metrics_free(m);
    metrics_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_losses),
        cmocka_unit_test(test_empty_and_hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
