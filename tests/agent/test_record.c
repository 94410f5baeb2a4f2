/* Recordings: lines, days, what is removed, and what a full disk does. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/lib_folder.h"
#include "agent/record.h"
#include "inference/trace.h"

#define DAY INT64_C(1790812800000) /* 2026-10-01 */

static struct record *open_record(void **state, const char *folder, int64_t days, int live)
{
    static char path[512];
    snprintf(path, sizeof path, "%s", folder_path(state, folder));
    const struct record_config c = {path, "press", days, 0, live};
    struct record *r = NULL;
    assert_int_equal(record_create(&c, &r), 0);
    return r;
}

static size_t read_all(void **state, const char *name, struct trace_reading *out, size_t room)
{
    struct trace *t = NULL;
    char why[256];
    size_t n = 0;
    assert_int_equal(
        trace_open(folder_path(state, name), TRACE_TRACEBASE, NULL, &t, why, sizeof why), 0);
    for (int rc; n < room && (rc = trace_next(t, &out[n])) != 0;)
        n += rc == 1;
    trace_close(t);
    return n;
}

static int count_files(void **state, const char *folder)
{
    int n = 0;
    DIR *d = opendir(folder_path(state, folder));
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void test_lines(void **state)
{
    struct trace_reading got[8];
    struct record_stats s;
    struct record *r = open_record(state, "a", 3, 1);
    record_reading(r, DAY + 100, 10);
    record_reading(r, DAY + 600, 20); /* the same second: its mean */
    record_reading(r, DAY + 5000, 1234.56);
    record_reading(r, DAY + 2000, 7);           /* back: left out */
    record_reading(r, DAY + 86400000 - 1, 99);  /* the last second of the day */
    record_reading(r, DAY + 86400000 + 7, 101); /* the next day */
    record_destroy(r);
    assert_int_equal(read_all(state, "a/press_2026.10.01.csv", got, 8), 3);
    assert_int_equal(got[0].t_ms, DAY);
    assert_float_equal(got[0].watts, 15, 1e-3);
    assert_int_equal(got[1].t_ms, DAY + 5000);
    assert_float_equal(got[1].watts, 1234.6, 1e-2);
    assert_int_equal(got[2].t_ms, DAY + 86399000);
    assert_int_equal(read_all(state, "a/press_2026.10.02.csv", got, 8), 1);
    /* again, as a replay does after a restart: only what is new */
    r = open_record(state, "a", 3, 0);
    record_reading(r, DAY, 10);
    record_reading(r, DAY + 86400000, 101);
    record_reading(r, DAY + 86400000 + 9000, 55);
    record_tick(r, 20000);
    record_get_stats(r, &s);
    assert_int_equal(s.lines, 0); /* the last second may still get readings */
    record_destroy(r);
    assert_int_equal(read_all(state, "a/press_2026.10.01.csv", got, 8), 3);
    assert_int_equal(read_all(state, "a/press_2026.10.02.csv", got, 8), 2);
    assert_float_equal(got[1].watts, 55, 1e-3);
}

static void test_torn(void **state)
{
    struct trace_reading got[8];
    folder_text(state, "b/press_2026.10.01.csv",
                "01/10/2026 00:00:00;5.0;5.0\n01/10/2026 00:00:01;6.0;6.0\n01/10/2026 00:0");
    struct record *r = open_record(state, "b", 3, 1);
    record_reading(r, DAY + 1000, 8);
    record_reading(r, DAY + 2000, 9);
    record_destroy(r);
    assert_int_equal(read_all(state, "b/press_2026.10.01.csv", got, 8), 3);
    assert_int_equal(got[2].t_ms, DAY + 2000);
    assert_float_equal(got[2].watts, 9, 1e-3);
}

static void test_days_kept(void **state)
{
    folder_text(state, "c/press2_2026.09.01.csv", "another meter's\n");
    folder_text(state, "c/press_2026.09.01.csv.bak", "somebody's\n");
    struct record *r = open_record(state, "c", 3, 1);
    for (int day = 0; day < 10; day++)
        record_reading(r, DAY + day * INT64_C(86400000), 100);
    record_destroy(r);
    assert_int_equal(count_files(state, "c"), 5);
    assert_int_equal(access(folder_path(state, "c/press_2026.10.08.csv"), F_OK), 0);
    assert_int_equal(access(folder_path(state, "c/press_2026.10.07.csv"), F_OK), -1);
}

/* A clock that was far ahead does not stop the recording for ever. */
static void test_clock_set_back(void **state)
{
    struct trace_reading got[8];
    struct record *r = open_record(state, "d", 30, 1);
    record_reading(r, DAY + 864000000, 1);
    record_reading(r, DAY, 2);
    record_reading(r, DAY + 1000, 3);
    record_destroy(r);
    assert_int_equal(read_all(state, "d/press_2026.10.01.csv", got, 8), 2);
    r = open_record(state, "d", 30, 1);
    record_reading(r, DAY + 2000, 4);
    record_destroy(r);
    assert_int_equal(read_all(state, "d/press_2026.10.01.csv", got, 8), 3);
}

/* No room, then room again: what could not be written is counted, the file stays whole. */
static void test_no_room(void **state)
{
    struct record_stats s;
    struct trace_reading got[8];
    static char path[512];
    snprintf(path, sizeof path, "%s", folder_path(state, "e"));
    struct record_config c = {path, "press", 3, UINT64_MAX, 1};
    struct record *r = NULL;
    assert_int_equal(record_create(&c, &r), 0);
    for (int i = 0; i < 1000; i++) {
        record_reading(r, DAY + i * 1000, 100);
        record_tick(r, i * 1000);
    }
    record_get_stats(r, &s);
    assert_int_equal(s.lines, 0);
    assert_true(s.failing);
    assert_true(s.dropped > 900);
    record_destroy(r);
    assert_int_equal(count_files(state, "e"), 1);
    r = open_record(state, "e", 3, 1);
    record_reading(r, DAY + 2000000, 7);
    record_destroy(r);
    assert_int_equal(read_all(state, "e/press_2026.10.01.csv", got, 8), 1);
}

/* A folder that cannot be made (a disk that is not there) is tried again each minute. */
static void test_folder_later(void **state)
{
    struct record_stats s;
    folder_text(state, "f", "a file stands where the folder should be");
    struct record *r = open_record(state, "f", 3, 1);
    record_reading(r, DAY, 1);
    record_reading(r, DAY + 1000, 2);
    record_tick(r, 10000);
    record_get_stats(r, &s);
    assert_true(s.failing);
    assert_int_equal(s.dropped, 1);
    assert_int_equal(unlink(folder_path(state, "f")), 0);
    record_tick(r, 75000);
    record_reading(r, DAY + 75000, 3);
    record_reading(r, DAY + 76000, 3);
    record_tick(r, 90000);
    record_get_stats(r, &s);
    assert_false(s.failing);
    assert_int_equal(s.lines, 2);
    assert_int_equal(s.dropped, 1);
    record_destroy(r);
}

static void test_names(void **state)
{
    int date = 0;
    (void)state;
    assert_int_equal(record_parse_name("press_2026.10.01.csv", "press", &date), 0);
    assert_int_equal(date, 20261001);
    assert_true(record_parse_name("press_2026.10.01.csv.part", "press", &date) < 0);
    assert_true(record_parse_name("press_2026.10.1a.csv", "press", &date) < 0);
    assert_true(record_parse_name("press2_2026.10.01.csv", "press", &date) < 0);
    assert_true(record_parse_name("press", "press", &date) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),     cmocka_unit_test(test_torn),
        cmocka_unit_test(test_days_kept), cmocka_unit_test(test_clock_set_back),
        cmocka_unit_test(test_no_room),   cmocka_unit_test(test_folder_later),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, folder_setup, folder_teardown);
}
