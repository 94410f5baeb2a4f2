/* test_history.c - runs, progress, states (SPEC 5.8, 5.9). */
#include "storage/lib_temp.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "storage/history.h"

static struct history_run a_run(const char *meter, const char *appliance, int64_t start_ms)
{
    struct history_run run = {
        .confidence = 0.75, .start_ms = start_ms, .energy_wh = 1.5, .mean_w = 90, .peak_w = 120};

    snprintf(run.meter, sizeof run.meter, "%s", meter);
    snprintf(run.appliance, sizeof run.appliance, "%s", appliance);
    return run;
}

static void a_run_from_begin_to_end(void **state)
{
    struct store *s = temp_open(state, NULL);
    struct history_run run = a_run("kitchen", "unknown", 1000), found;
    int64_t id = 0;

    assert_int_equal(history_current(s, "kitchen", &found), -ENOENT);
    assert_int_equal(history_open(s, &run, &id), 0);
    assert_true(id > 0);
    assert_int_equal(history_current(s, "kitchen", &found), 0);
    assert_int_equal(found.id, id);
    assert_string_equal(found.appliance, "unknown");
    assert_string_equal(found.end_reason, "");
    assert_int_equal(history_current(s, "cellar", &found), -ENOENT);

    run.id = id;
    run.end_ms = 5000;
    run.energy_wh = 0.1;
    strcpy(run.appliance, "Toaster");
    strcpy(run.end_reason, "off");
    assert_int_equal(history_update(s, &run), 0);
    assert_int_equal(history_current(s, "kitchen", &found), -ENOENT);
    run.id = 4711;
    assert_int_equal(history_update(s, &run), -ENOENT);
    assert_int_equal(history_label(s, id, "Kettle"), 0);
    assert_int_equal(history_label(s, 4711, "Kettle"), -ENOENT);
    assert_int_equal(history_label(s, id, ""), -EINVAL);
    store_close(s);
}

static void refuses_bad_runs(void **state)
{
    struct store *s = temp_open(state, NULL);
    struct history_run run = a_run("m", "a", 1);
    int64_t id;

    run.energy_wh = NAN;
    assert_int_equal(history_open(s, &run, &id), -EINVAL);
    run.energy_wh = 0;
    run.peak_w = INFINITY;
    assert_int_equal(history_open(s, &run, &id), -EINVAL);
    run.peak_w = 0;
    memset(run.meter, 'x', sizeof run.meter); /* no NUL */
    assert_int_equal(history_open(s, &run, &id), -EINVAL);
    assert_non_null(strstr(store_error(s), "meter of a run"));
    assert_int_equal(history_set_progress(s, "", 1), -EINVAL);
    store_close(s);
}

struct seen {
    int64_t starts[64];
    int count, stop_after;
};

static int see(void *context, const struct history_run *run)
{
    struct seen *seen = context;

    seen->starts[seen->count++] = run->start_ms;
    return seen->count == seen->stop_after;
}

static void lists_newest_first(void **state)
{
    struct store *s = temp_open(state, NULL);
    struct seen seen = {.count = 0};
    int64_t id;

    for (int i = 0; i < 20; i++) {
        struct history_run run =
            a_run(i % 2 ? "kitchen" : "cellar", i % 4 ? "Fridge" : "Pump", 100 * (i * 7 % 20));
        assert_int_equal(history_open(s, &run, &id), 0);
    }
    assert_int_equal(history_list(s, INT64_MIN, INT64_MAX, NULL, NULL, 64, see, &seen), 20);
    for (int i = 0; i < 20; i++)
        assert_int_equal(seen.starts[i], 1900 - 100 * i);
    seen = (struct seen){.count = 0};
    assert_int_equal(history_list(s, 500, 900, NULL, NULL, 64, see, &seen), 4);
    assert_int_equal(seen.starts[0], 800);
    assert_int_equal(seen.starts[3], 500);
    seen = (struct seen){.count = 0};
    assert_int_equal(history_list(s, 0, INT64_MAX, "kitchen", NULL, 64, see, &seen), 10);
    seen = (struct seen){.count = 0};
    assert_int_equal(history_list(s, 0, INT64_MAX, NULL, "Pump", 64, see, &seen), 5);
    seen = (struct seen){.count = 0};
    assert_int_equal(history_list(s, 0, INT64_MAX, "kitchen", "Pump", 64, see, &seen), 0);
    assert_int_equal(history_list(s, 0, INT64_MAX, NULL, NULL, 7, see, &seen), 7);
    assert_int_equal(history_list(s, 0, INT64_MAX, NULL, NULL, 0, see, &seen), 0);
    seen = (struct seen){.stop_after = 3};
    assert_int_equal(history_list(s, 0, INT64_MAX, NULL, NULL, 64, see, &seen), 3);
    store_close(s);
}

/* SPEC 5.8: the oldest finished runs go; open ones and the largest id stay, so no id comes twice.
 */
static void trims_the_oldest(void **state)
{
    struct store *s = temp_open(state, NULL);
    struct seen seen = {.count = 0};
    int64_t id = 0, last;

    for (int i = 0; i < 30; i++) {
        struct history_run run = a_run("m", "a", i);
        run.end_ms = i == 3 ? 0 : i + 1;
        assert_int_equal(history_open(s, &run, &id), 0);
    }
    assert_int_equal(history_trim(s, 100), 0);
    assert_int_equal(history_trim(s, 10), 20);
    assert_int_equal(history_list(s, 0, 100, NULL, NULL, 64, see, &seen), 10);
    assert_int_equal(seen.starts[9], 3);
    assert_int_equal(seen.starts[8], 21);
    assert_int_equal(history_trim(s, 0), 8);
    assert_int_equal(history_trim(s, -5), 0);
    last = id;
    struct history_run run = a_run("m", "a", 1);
    assert_int_equal(history_open(s, &run, &id), 0);
    assert_int_equal(id, last + 1);
    store_close(s);
}

/* SPEC 5.9 */
static void progress_and_state(void **state)
{
    struct store *s = temp_open(state, NULL);
    unsigned char data[HISTORY_STATE_BYTES + 1], found[HISTORY_STATE_BYTES];
    int64_t t = 5;

    assert_int_equal(history_progress(s, "m", &t), -ENOENT);
    assert_int_equal(history_set_progress(s, "m", 10), 0);
    assert_int_equal(history_set_progress(s, "m", -20), 0);
    assert_int_equal(history_progress(s, "m", &t), 0);
    assert_int_equal(t, -20);

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 31);
    assert_int_equal(history_state(s, "m", found, sizeof found), -ENOENT);
    assert_int_equal(history_set_state(s, "m", data, HISTORY_STATE_BYTES + 1), -EINVAL);
    assert_int_equal(history_set_state(s, "m", data, HISTORY_STATE_BYTES), 0);
    assert_int_equal(history_state(s, "m", found, sizeof found), HISTORY_STATE_BYTES);
    assert_memory_equal(found, data, HISTORY_STATE_BYTES);
    assert_int_equal(history_state(s, "m", found, 8191), -ENOSPC);
    assert_int_equal(history_set_state(s, "m", data, 3), 0);
    assert_int_equal(history_state(s, "m", found, 3), 3);
    assert_int_equal(history_set_state(s, "m", NULL, 0), 0);
    assert_int_equal(history_state(s, "m", found, 0), 0);
    store_close(s);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)
    const struct CMUnitTest tests[] = {
        T(a_run_from_begin_to_end), T(refuses_bad_runs),   T(lists_newest_first),
        T(trims_the_oldest),        T(progress_and_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
