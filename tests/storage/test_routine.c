/* test_routine.c - learned routines (SPEC 5.10). */
#include "storage/lib_temp.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "storage/routine.h"

static struct routine learned(const char *meter, const char *appliance, uint64_t runs)
{
    struct routine r = {.runs = runs,
                        .first_ms = 1,
                        .last_ms = INT64_MAX,
                        .data_bytes = 5,
                        .data = {1, 0, 2, 0, 255}};

    snprintf(r.meter, sizeof r.meter, "%s", meter);
    snprintf(r.appliance, sizeof r.appliance, "%s", appliance);
    return r;
}

static int count_runs(void *context, const struct routine *r)
{
    uint64_t *sum = context;

    *sum += r->runs;
    return *sum >= 1000;
}

static void keeps_what_was_learned(void **state)
{
    struct store *s = temp_open(state, NULL);
    struct routine r = learned("kitchen", "Fridge", 3), found;

    assert_int_equal(routine_get(s, "kitchen", "Fridge", &found), -ENOENT);
    assert_int_equal(routine_put(s, &r), 0);
    r.runs = 4;
    assert_int_equal(routine_put(s, &r), 0); /* replaces */
    store_close(s);
    s = temp_open(state, NULL);
    memset(&found, 0x5a, sizeof found);
    assert_int_equal(routine_get(s, "kitchen", "Fridge", &found), 0);
    assert_string_equal(found.meter, r.meter);
    assert_string_equal(found.appliance, r.appliance);
    assert_memory_equal(&found.runs, &r.runs,
                        offsetof(struct routine, data) + r.data_bytes -
                            offsetof(struct routine, runs));
    store_close(s);
}

static void lists_and_forgets(void **state)
{
    struct store *s = temp_open(state, NULL);
    const char *names[][2] = {
        {"kitchen", "Fridge"}, {"kitchen", "Kettle"}, {"cellar", "Pump"}, {"cellar", "Fridge"}};
    uint64_t sum = 0;

    for (uint64_t i = 0; i < 4; i++) {
        struct routine r = learned(names[i][0], names[i][1], 1 + i);
        assert_int_equal(routine_put(s, &r), 0);
    }
    assert_int_equal(routine_list(s, NULL, count_runs, &sum), 4);
    assert_int_equal(sum, 10);
    sum = 0;
    assert_int_equal(routine_list(s, "cellar", count_runs, &sum), 2);
    assert_int_equal(sum, 7);
    sum = 999;
    assert_int_equal(routine_list(s, NULL, count_runs, &sum), 1); /* stops */
    assert_int_equal(routine_forget(s, "kitchen", "Kettle"), 1);
    assert_int_equal(routine_forget(s, "kitchen", "Kettle"), 0);
    assert_int_equal(routine_forget(s, "cellar", NULL), 2);
    sum = 0;
    assert_int_equal(routine_list(s, NULL, count_runs, &sum), 1);
    store_close(s);
}

static void refuses_what_does_not_fit(void **state)
{
    struct store *s = temp_open(state, NULL);
    struct routine r = learned("m", "a", 1);

    r.data_bytes = ROUTINE_DATA_BYTES + 1;
    assert_int_equal(routine_put(s, &r), -EINVAL);
    r = learned("", "a", 1);
    assert_int_equal(routine_put(s, &r), -EINVAL);
    r = learned("m", "a", UINT64_MAX);
    assert_int_equal(routine_put(s, &r), -EINVAL);
    store_close(s);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)
    const struct CMUnitTest tests[] = {T(keeps_what_was_learned), T(lists_and_forgets),
                                       T(refuses_what_does_not_fit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
