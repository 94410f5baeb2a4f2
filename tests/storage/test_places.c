/* test_places.c - blocks of what was learned about a place (SPEC 5.13). */
#include "storage/lib_temp.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "storage/places.h"

static int count_meter(void *context, const char *meter)
{
    (void)meter;
    return ++*(int *)context == 2;
}

static void keeps_blocks(void **state)
{
    struct store *s = temp_open(state, NULL);
    static unsigned char data[PLACES_MAX_BYTES + 1], back[PLACES_MAX_BYTES];
    int meters = 0;
    memset(data, 7, sizeof data);
    assert_int_equal(places_get(s, "a", back, sizeof back), -ENOENT);
    assert_int_equal(places_put(s, "a", data, PLACES_MAX_BYTES), 0);
    assert_int_equal(places_put(s, "a", data, PLACES_MAX_BYTES + 1), -EINVAL);
    assert_int_equal(places_put(s, "", data, 1), -EINVAL);
    assert_int_equal(places_put(s, "b", data, 0), 0);
    assert_int_equal(places_put(s, "c", data, 3), 0);
    store_close(s);
    s = temp_open(state, NULL);
    assert_int_equal(places_get(s, "a", back, sizeof back), PLACES_MAX_BYTES);
    assert_memory_equal(back, data, PLACES_MAX_BYTES);
    assert_int_equal(places_get(s, "a", back, 10), -ENOSPC);
    assert_int_equal(places_get(s, "b", back, sizeof back), 0);
    assert_int_equal(places_list(s, count_meter, &meters), 2);
    store_close(s);
}

static void keeps_runs(void **state)
{
    struct store *s = temp_open(state, NULL);
    struct places_run run = {.bytes = 3, .data = "abc"}, list[10];
    for (int i = 0; i < 20; i++) {
        run.start_ms = 1000 - i;
        run.number = (uint32_t)(i % 2 + 1);
        assert_int_equal(places_put_run(s, "a", &run), 0);
        assert_int_equal(places_put_run(s, "b", &run), 0);
    }
    assert_int_equal(places_get_run(s, "a", 990, &run), 0);
    assert_true(run.number == 1 && run.bytes == 3 && memcmp(run.data, "abc", 3) == 0);
    assert_int_equal(places_get_run(s, "a", 5, &run), -ENOENT);
    assert_int_equal(places_runs_of(s, "a", 2, INT64_MIN, list, 10), 10);
    assert_true(list[0].start_ms == 981 && list[9].start_ms == 999);
    assert_int_equal(places_runs_of(s, "a", 2, 991, list, 3), 3);
    assert_true(list[0].start_ms == 993);
    assert_int_equal(places_move_runs(s, "a", 2, 1), 10);
    assert_int_equal(places_runs_of(s, "a", 2, INT64_MIN, list, 10), 0);
    assert_int_equal(places_runs_of(s, "b", 2, INT64_MIN, list, 10), 10);
    assert_int_equal(places_trim(s, 30, 100), 10);
    assert_int_equal(places_get_run(s, "a", 981, &run), -ENOENT);
    assert_int_equal(places_get_run(s, "b", 1000, &run), 0);
    assert_int_equal(places_shift_runs(s, 995, 999, 1000000), 8); /* 995 to 998 of both meters */
    assert_int_equal(places_get_run(s, "b", 1000995, &run), 0);
    assert_int_equal(places_get_run(s, "b", 995, &run), -ENOENT);
    assert_int_equal(places_get_run(s, "b", 999, &run), 0);
    run.bytes = PLACES_RUN_BYTES + 1;
    assert_int_equal(places_put_run(s, "a", &run), -EINVAL);
    store_close(s);
}

static int add_name(void *context, const char *appliance)
{
    strcat(context, appliance);
    return 0;
}

static void keeps_habits(void **state)
{
    struct store *s = temp_open(state, NULL);
    char name[32], names[64] = "", back[8];
    assert_int_equal(places_put_habit(s, "a", "", "xy", 2), 0);
    assert_int_equal(places_put_habit(s, "a", "pump", "1", 1), 0);
    assert_int_equal(places_put_habit(s, "a", "fan", "2", 1), 0);
    assert_int_equal(places_put_habit(s, "a", "fan", "345", 3), 0);
    assert_int_equal(places_get_habit(s, "a", "fan", back, sizeof back), 3);
    assert_memory_equal(back, "345", 3);
    assert_int_equal(places_list_habits(s, "a", add_name, names), 2);
    assert_string_equal(names, "fanpump");
    assert_int_equal(places_forget_habit(s, "a", "fan"), 0);
    assert_int_equal(places_forget_habit(s, "a", "fan"), -ENOENT);
    assert_int_equal(places_get_habit(s, "b", "pump", back, sizeof back), -ENOENT);
    int rc = 0, put = 0;
    for (; put < 100 && rc == 0; put++) {
        snprintf(name, sizeof name, "machine %d", put);
        rc = places_put_habit(s, "a", name, "x", 1);
    }
    assert_int_equal(rc, -ENOSPC);
    assert_int_equal(places_put_habit(s, "a", "pump", "9", 1), 0); /* those there change */
    assert_in_range(put, PLACES_HABITS_MAX - 2, PLACES_HABITS_MAX + 1);
    store_close(s);
}

struct hours {
    int count;
    int64_t first, last;
};

static int note_hour(void *context, int64_t hour, const void *data, size_t size)
{
    struct hours *h = context;
    assert_true(size == 4 && memcmp(data, "cell", 4) == 0);
    h->first = h->count++ == 0 ? hour : h->first;
    h->last = hour;
    return 0;
}

static void keeps_cells(void **state)
{
    struct store *s = temp_open(state, NULL);
    struct hours h = {0, 0, 0};
    for (int64_t hour = 0; hour < 50; hour++) {
        assert_int_equal(places_put_cells(s, "a", hour, "cell", 4), 0);
        if (hour < 5)
            assert_int_equal(places_put_cells(s, "b", hour, "cell", 4), 0);
    }
    assert_int_equal(places_put_cells(s, "a", 49, "cell", 4), 0); /* again */
    assert_int_equal(places_list_cells(s, "a", 10, 20, note_hour, &h), 10);
    assert_true(h.first == 10 && h.last == 19);
    assert_int_equal(places_trim(s, 0, 24),
                     26); /* of a alone: b is not that old by its own newest */
    h.count = 0;
    assert_int_equal(places_list_cells(s, "a", 0, 100, note_hour, &h), 24);
    assert_int_equal(h.first, 26);
    h.count = 0;
    assert_int_equal(places_list_cells(s, "b", 0, 100, note_hour, &h), 5);
    store_close(s);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)
    const struct CMUnitTest tests[] = {T(keeps_blocks), T(keeps_runs), T(keeps_habits),
                                       T(keeps_cells)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
