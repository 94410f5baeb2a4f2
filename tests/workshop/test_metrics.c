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

/* Bins of a fifteenth: the float 0.6f lies just above 9/15 and so in bin 9, as does 0.61. */
static void test_calibration_error(void **state)
{
    const float a[2] = {0.6f, 0.4f}, b[2] = {0.39f, 0.61f}, c[2] = {1.0f, 0.0f};
    struct metrics *m;
    (void)state;
    assert_int_equal(metrics_create(2, &m), 0);
    for (int i = 0; i < 4; i++)
        metrics_add(m, a, i < 3 ? 0 : 1); /* accuracy 0.75 at 0.6 */
    for (int i = 0; i < 4; i++)
        metrics_add(m, b, i < 1 ? 1 : 0); /* 0.25 at 0.61 */
    for (int i = 0; i < 2; i++)
        metrics_add(m, c, 0); /* 1 at 1 */
    metrics_finish(m);
    assert_int_equal(m->bins[9].windows, 8);
    assert_float_equal(m->bins[9].confidence, 0.605, 1e-6);
    assert_float_equal(m->bins[9].accuracy, 0.5, 1e-12);
    assert_int_equal(m->bins[14].windows, 2);
    assert_float_equal(m->ece, 0.8 * 0.105, 1e-6);
    metrics_free(m);
    const float d[4] = {0.3f, 0.2f, 0.25f, 0.25f}, e[4] = {0.9f, 0.1f, 0, 0};
    assert_int_equal(metrics_create(4, &m), 0);
    metrics_add(m, d, 1); /* 0 at 0.3: bin 4 */
    metrics_add(m, d, 0); /* 1 at 0.3 */
    metrics_add(m, e, 0); /* 1 at 0.9: bin 13 */
    metrics_finish(m);
    assert_int_equal(m->bins[4].windows, 2);
    assert_int_equal(m->bins[13].windows, 1);
    assert_float_equal(m->ece, 2.0 / 3 * 0.2 + 1.0 / 3 * 0.1, 1e-6);
    metrics_free(m);
}

/* A sigmoid head's classes each by itself: on from 0.5. */
static void test_on_f1(void **state)
{
    const float both[2] = {0.9f, 0.5f}, second[2] = {0.1f, 0.8f}, none[2] = {0.2f, 0.1f};
    struct metrics *m;
    (void)state;
    assert_int_equal(metrics_create(2, &m), 0);
    metrics_add(m, both, 0);   /* right, and a false second */
    metrics_add(m, second, 1); /* right */
    metrics_add(m, none, 1);   /* missed */
    metrics_add(m, second, 0); /* wrong */
    metrics_finish(m);
    assert_int_equal(m->classes[0].on_predicted, 1);
    assert_int_equal(m->classes[1].on_predicted, 3);
    assert_float_equal(m->classes[0].on_f1, 2.0 / (1 + 2), 1e-12);
    assert_float_equal(m->classes[1].on_f1, 2.0 / (3 + 2), 1e-12);
    assert_float_equal(m->on_f1_macro, (2.0 / 3 + 0.4) / 2, 1e-12);
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
    assert_true(isfinite(m->ece) && m->bins[0].windows == 1);
    assert_true(isfinite(m->bce) && isfinite(m->cross_entropy) && m->correct == 0);
    metrics_free(m);
    metrics_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),           cmocka_unit_test(test_losses),
        cmocka_unit_test(test_calibration_error), cmocka_unit_test(test_on_f1),
        cmocka_unit_test(test_empty_and_hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
