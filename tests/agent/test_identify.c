/* test_identify.c - evidence of windows into a name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "agent/identify.h"

static const char labels[4][MODEL_LABEL_BYTES] = {"Lamp", "TV-LCD", "Toaster", "Iron"};
static const char turned[4][MODEL_LABEL_BYTES] = {"Iron", "Toaster", "TV-LCD", "Kettle"};

static struct model model_with(const char (*names)[MODEL_LABEL_BYTES], float reject)
{
    return (struct model){.class_count = 4, .labels = names, .reject = reject};
}

static void one_wrong_window_does_not_rename(void **state)
{
    (void)state;
    struct model m = model_with(labels, 0.5f);
    struct identify id;
    static const float lamp[] = {0.9f, 0.05f, 0.03f, 0.02f}, iron[] = {0, 0, 0, 1};
    identify_init(&id);
    assert_string_equal(id.name, "unknown");
    identify_model(&id, NULL, &m);
    assert_int_equal(identify_add(&id, &m, lamp, 25), 1);
    assert_string_equal(id.name, "Lamp");
    for (int i = 0; i < 20; i++)
        assert_int_equal(identify_add(&id, &m, lamp, 25), 0);
    assert_int_equal(identify_add(&id, &m, iron, 25), 0);
    assert_string_equal(id.name, "Lamp");
    assert_true(id.confidence > 0.6);
    int changes = 0;
    for (int i = 0; i < 100; i++)
        changes += identify_add(&id, &m, iron, 25);
    assert_string_equal(id.name, "Iron");
    assert_in_range(changes, 1, 2);
    assert_true(id.confidence > 0.9);
    assert_int_equal(identify_check(&id), 0);
}

static void unclear_is_unknown(void **state)
{
    (void)state;
    struct model m = model_with(labels, 0.6f);
    struct identify id;
    static const float even[] = {0.4f, 0.35f, 0.15f, 0.1f}, tv[] = {0.1f, 0.8f, 0.05f, 0.05f};
    identify_init(&id);
    identify_model(&id, NULL, &m);
    assert_int_equal(identify_add(&id, &m, even, 25), 0);
    assert_string_equal(id.name, "unknown");
    int when = 0;
    while (!identify_add(&id, &m, tv, 25))
        assert_true(++when < 10);
    assert_string_equal(id.name, "TV-LCD");
    /* just below the threshold the name stays, far below it is taken back */
    int lost = 0;
    for (int i = 0; i < 200 && !lost; i++)
        lost = identify_add(&id, &m, even, 25);
    assert_true(lost);
    assert_string_equal(id.name, "unknown");
}

static void two_that_are_alike_do_not_flap(void **state)
{
    (void)state;
    struct model m = model_with(labels, 0.3f);
    struct identify id;
    static const float a[] = {0.52f, 0.46f, 0.01f, 0.01f}, b[] = {0.46f, 0.52f, 0.01f, 0.01f};
    identify_init(&id);
    identify_model(&id, NULL, &m);
    int changes = 0;
    for (int i = 0; i < 1000; i++)
        changes += identify_add(&id, &m, (i / 5) % 2 ? b : a, 1);
    assert_int_equal(changes, 1);
}

static void another_model(void **state)
{
    (void)state;
    struct model m = model_with(labels, 0.5f), n = model_with(turned, 0.5f);
    struct identify id;
    static const float iron[] = {0.02f, 0.03f, 0.05f, 0.9f};
    identify_init(&id);
    identify_model(&id, NULL, &m);
    for (int i = 0; i < 10; i++)
        identify_add(&id, &m, iron, 25);
    assert_string_equal(id.name, "Iron");
    identify_model(&id, &m, &n);
    static const float same[] = {0.9f, 0.05f, 0.03f, 0.02f};
    assert_int_equal(identify_add(&id, &n, same, 25), 0);
    assert_string_equal(id.name, "Iron");
    assert_true(id.confidence > 0.6); /* nothing was known of Kettle */
    /* labels of which nothing is known: begins anew */
    id.labels ^= 1;
    identify_model(&id, NULL, &m);
    assert_true(id.weight == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_wrong_window_does_not_rename),
        cmocka_unit_test(unclear_is_unknown),
        cmocka_unit_test(two_that_are_alike_do_not_flap),
        cmocka_unit_test(another_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
