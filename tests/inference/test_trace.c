/* Reading recorded power: formats, times, names, hostile input (trace.h). */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "inference/trace.h"

static char folder[64], path[96];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/nilm-trace-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/t.csv", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static void write_bytes(const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static void write_text(const char *text)
{
    write_bytes(text, strlen(text));
}

/* Reads the whole file; at most 64 readings are kept. Returns their number, *bad counts the refused
 * lines. */
static size_t read_all(const char *column, struct trace_reading *out, size_t *bad)
{
    struct trace *t;
    char why[256] = "";
    size_t n = 0;
    int rc = trace_open(path, TRACE_AUTO, column, &t, why, sizeof why);
    if (rc != 0)
        fail_msg("%s", why);
    *bad = 0;
    while ((rc = trace_next(t, &out[n])) != 0) {
        if (rc == 1) {
            assert_true(isfinite(out[n].watts));
            n += n < 63;
        } else {
            assert_int_equal(rc, -EBADMSG);
            assert_non_null(strstr(trace_error(t), path));
            ++*bad;
        }
    }
    assert_int_equal(trace_statistics(t)->bad, *bad);
    trace_close(t);
    return n;
}

static void expect_refused(const char *column, int code, const char *word)
{
    struct trace *t;
    char why[256] = "";
    assert_int_equal(trace_open(path, TRACE_AUTO, column, &t, why, sizeof why), code);
    assert_null(t);
    assert_non_null(strstr(why, path));
    if (strstr(why, word) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", why, word);
}

static int64_t unix_ms(int year, int month, int day, int hour, int minute, int second)
{
    struct tm tm = {.tm_year = year - 1900,
                    .tm_mon = month - 1,
                    .tm_mday = day,
                    .tm_hour = hour,
                    .tm_min = minute,
                    .tm_sec = second};
    return (int64_t)timegm(&tm) * 1000;
}

static void test_tracebase_line_ends(void **state)
{
    struct trace_reading r[64];
    size_t bad;
    (void)state;
    write_text("01/09/2011 00:00:02;12;10\r\n\r\n\n01/09/2011 00:00:04;13.5;11\n\"01/09/2011 "
               "00:00:06\";-2;0\r\n"
               "   \n01/09/2011 00:00:08;7;8");
    assert_int_equal(read_all(NULL, r, &bad), 4);
    assert_int_equal(bad, 0);
    assert_int_equal(r[0].t_ms, unix_ms(2011, 9, 1, 0, 0, 2));
    assert_true(r[0].watts == 12.0f);
    assert_true(r[1].watts == 13.5f);
    assert_true(r[2].watts == -2.0f);
    assert_int_equal(r[2].t_ms, unix_ms(2011, 9, 1, 0, 0, 6));
    assert_int_equal(r[3].t_ms, unix_ms(2011, 9, 1, 0, 0, 8));
}

static void test_statistics(void **state)
{
    struct trace *t;
    struct trace_reading r;
    int rc;
    (void)state;
    write_text("timestamp,watts\n1,2\n\nx,3\n3,4\n");
    assert_int_equal(trace_open(path, TRACE_AUTO, NULL, &t, NULL, 0), 0);
    while ((rc = trace_next(t, &r)) != 0) {
        if (rc < 0) {
            assert_non_null(strstr(trace_error(t), "t.csv:4:"));
            assert_non_null(strstr(trace_error(t), "x,3"));
        }
    }
    assert_int_equal(trace_statistics(t)->lines, 5);
    assert_int_equal(trace_statistics(t)->readings, 2);
    assert_int_equal(trace_statistics(t)->bad, 1);
    assert_int_equal(trace_statistics(t)->empty, 1);
    trace_close(t);
}

static void test_repeated_and_backward_times_pass_through(void **state)
{
    struct trace_reading r[64];
    size_t bad;
    (void)state;
    write_text("01/09/2011 00:00:09;1;0\n01/09/2011 00:00:09;2;0\n01/09/2011 00:00:03;3;0\n");
    assert_int_equal(read_all(NULL, r, &bad), 3);
    assert_int_equal(r[0].t_ms, r[1].t_ms);
    assert_true(r[2].t_ms < r[1].t_ms);
}

/* What is cut short must not pass as a smaller value. */
static void test_bad_tracebase_lines(void **state)
{
    static const char *const lines[] = {"01/09/2011 00:00:04",
                                        "01/09/2011 00:00:04;1",
                                        "01/09/2011 00:00:04;1;",
                                        "01/09/2011 00:00:04;;1",
                                        "31/09/2011 00:00:04;1;1",
                                        "29/02/2011 00:00:04;1;1",
                                        "01/13/2011 00:00:04;1;1",
                                        "01/09/2011 24:00:04;1;1",
                                        "01/09/2011 00:60:04;1;1",
                                        "01/09/2011 00:00:61;1;1",
                                        "01/09/2011 00:00:04;nan;1",
                                        "01/09/2011 00:00:04;inf;1",
                                        "01/09/2011 00:00:04;0x10;1",
                                        "01/09/2011 00:00:04;1e9;1",
                                        "01/09/2011 00:00:04;-10000001;1",
                                        "01/09/2011 00:00:04;1e999;1",
                                        "01/09/2011 00:00:04;1;1;1",
                                        "\"01/09/2011 00:00:04;1;1",
                                        "01/09/1969 00:00:04;1;1",
                                        "01/09/2011 00:00:04;1;1 x",
                                        "00/09/2011 00:00:04;1;1",
                                        "1/9/2011 00:00:04;1;1",
                                        "01/09/2011T00:00:04;1;1",
                                        "01/09/2011 00:00:04,1,1",
                                        "01/09/2011 00:00:04;1e;1",
                                        "01/09/2011 00:00:04;1.2.3;1"};
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct trace_reading r[64];
        char text[256];
        size_t bad;
        snprintf(text, sizeof text, "01/09/2011 00:00:02;5;5\n%s\n29/02/2012 00:00:08;6;6\n",
                 lines[i]);
        write_text(text);
        size_t n = read_all(NULL, r, &bad);
        if (n != 2 || bad != 1)
            fail_msg("\"%s\": %zu readings, %zu bad lines", lines[i], n, bad);
        assert_true(r[1].watts == 6.0f);
    }
}

static void test_times(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {{"2014-04-19 00:00:08+00:00", 1397865608000},
                {"2014-04-19T00:00:08Z", 1397865608000},
                {"2014-04-19 00:00:08", 1397865608000},
                {"2014-04-19T02:00:08+02:00", 1397865608000},
                {"2014-04-19T02:00:08+0200", 1397865608000},
                {"2014-04-18T19:30:08-04:30", 1397865608000},
                {"2014-04-19T02:00:08+02", 1397865608000},
                {"2014-04-19 00:00:08.25", 1397865608250},
                {"2014-04-19 00:00:08.123456789Z", 1397865608123},
                {"2014-04-19 00:00", 1397865600000},
                {"1397865608", 1397865608000},
                {"1397865608.5", 1397865608500},
                {"1397865608500", 1397865608500},
                {"0", 0},
                {"19/04/2014 00:00:08", 1397865608000},
                {"2000-02-29 12:00:00", 951825600000},
                {"9999-12-31 23:59:59", 253402300799000},
                {"100000000000", 100000000000000},
                {"100000000001", 100000000001},
                {"1.397865608e9", 1397865608000}};
    static const char *const wrong[] = {"2014-04-31 00:00:00",
                                        "2014-13-01 00:00:00",
                                        "2014-04-19",
                                        "2014-04-19 0:0:0",
                                        "-5",
                                        "1969-12-31 23:59:59",
                                        "1970-01-01 00:00:00+02:00",
                                        "2014-04-19 00:00:08+2",
                                        "2014-04-19 00:00:08+24:00",
                                        "253402300800000",
                                        "1e300",
                                        "2014-04-19 00:00:08 UTC",
                                        "nan",
                                        "",
                                        "2100-02-29 00:00:00",
                                        "2014-04-19 00:00:08."};
    struct trace_reading r;
    char line[128];
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        snprintf(line, sizeof line, "%s,5", good[i].text);
        if (trace_parse_reading(line, 1, &r, NULL, 0) != 0 || r.t_ms != good[i].ms ||
            r.watts != 5.0f)
            fail_msg("%s: %lld", good[i].text, (long long)r.t_ms);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char why[128] = "";
        snprintf(line, sizeof line, "%s,5", wrong[i]);
        if (trace_parse_reading(line, 1, &r, why, sizeof why) != -EBADMSG)
            fail_msg("\"%s\" passed as %lld", wrong[i], (long long)r.t_ms);
        assert_non_null(strstr(why, "expected"));
    }
}

/* Every day of 130 years agrees with the C library. */
static void test_calendar(void **state)
{
    (void)state;
    for (int64_t day = 0; day < 130 * 366; day++) {
        time_t seconds = (time_t)day * 86400 + 3723;
        struct tm tm;
        char line[64];
        struct trace_reading r;
        gmtime_r(&seconds, &tm);
        strftime(line, sizeof line, day % 2 ? "%Y-%m-%d %H:%M:%S,1" : "%d/%m/%Y %H:%M:%S;1;1", &tm);
        assert_int_equal(trace_parse_reading(line, 0, &r, NULL, 0), 0);
        assert_int_equal(r.t_ms, (int64_t)seconds * 1000);
    }
}

/* Numbers agree with strtod, in whatever locale. */
static void test_numbers(void **state)
{
    static const char *const texts[] = {"0",
                                        "-0",
                                        "+3",
                                        "7.",
                                        ".5",
                                        "1e3",
                                        "1E-3",
                                        "123.456",
                                        "9999999",
                                        "0.1",
                                        "2.5e+2",
                                        "00012",
                                        "3.14159265358979323846",
                                        "0.000000000000000000001",
                                        "12345678901234567890e-15",
                                        "1e-400",
                                        "0e9999999999"};
    struct trace_reading r;
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(trace_parse_reading(texts[i], 77, &r, NULL, 0), 0);
        assert_int_equal(r.t_ms, 77);
        if (r.watts != (float)strtod(texts[i], NULL))
            fail_msg("%s: %.9g", texts[i], (double)r.watts);
    }
}

static void test_reading_lines(void **state)
{
    static const char *const good[] = {"100,5",
                                       "100;5",
                                       "100\t5",
                                       "100 5",
                                       " 100 , 5 \r\n",
                                       "100 ; 5\n",
                                       "1970-01-01 00:01:40 5",
                                       "01/01/1970 00:01:40;5;4",
                                       "\"01/01/1970 00:01:40\";5;4"};
    static const char *const wrong[] = {"",     " ",  "abc",   "5 W", "100,5,6", "100,,5",
                                        "100,", ",5", "1,2;x", "5;",  "nan",     "1e8"};
    struct trace_reading r;
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (trace_parse_reading(good[i], 0, &r, NULL, 0) != 0 || r.t_ms != 100000 ||
            r.watts != 5.0f)
            fail_msg("\"%s\"", good[i]);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (trace_parse_reading(wrong[i], 0, &r, NULL, 0) != -EBADMSG)
            fail_msg("\"%s\" passed", wrong[i]);
    }
    char *huge = malloc(1 << 20);
    memset(huge, '1', (1 << 20) - 1);
    huge[(1 << 20) - 1] = '\0';
    assert_int_equal(trace_parse_reading(huge, 0, &r, NULL, 0), -EBADMSG);
    free(huge);
}

static void test_csv_columns(void **state)
{
    struct trace_reading r[64];
    size_t bad;
    (void)state;
    write_text("\xEF\xBB\xBFid;Time;Power;fridge\n9;2014-04-19 00:00:08;\"161.5\";81\n9; "
               "2014-04-19 00:00:16 ; 2 ;83\n");
    assert_int_equal(read_all(NULL, r, &bad), 2);
    assert_true(r[0].watts == 161.5f && r[0].t_ms == 1397865608000 && r[1].watts == 2.0f);
    assert_int_equal(read_all("fridge", r, &bad), 2);
    assert_true(r[0].watts == 81.0f);
    expect_refused("oven", -EBADMSG, "oven");
    expect_refused("Time", -EBADMSG, "Time");
    write_text("what,then\n5,6\n"); /* no known name: the first and the second */
    assert_int_equal(read_all(NULL, r, &bad), 1);
    assert_true(r[0].t_ms == 5000 && r[0].watts == 6.0f);
    write_text("power,time\n5,6\n");
    assert_int_equal(read_all(NULL, r, &bad), 1);
    assert_true(r[0].t_ms == 6000 && r[0].watts == 5.0f);
    write_text("1397865608,5\n1397865616,6\n"); /* no header */
    assert_int_equal(read_all(NULL, r, &bad), 2);
    assert_true(r[0].watts == 5.0f && r[1].t_ms == 1397865616000);
    expect_refused("fridge", -EBADMSG, "no header");
    write_text("time,aggregate,watts\n1,2\n1,2,3\n1,,4\n");
    assert_int_equal(read_all(NULL, r, &bad), 2); /* watts before aggregate, whatever their order */
    assert_int_equal(bad, 1);
    assert_true(r[0].watts == 3.0f && r[1].watts == 4.0f);
}

static void test_hostile_files(void **state)
{
    static const char nul[] =
        "01/09/2011 00:00:02;5;5\n01/09/2011 00:0\0:04;1;1\n\0\0\0\n01/09/2011 00:00:08;6;6\n";
    struct trace_reading r[64];
    struct trace *t;
    char why[256];
    size_t bad;
    (void)state;
    write_text("");
    expect_refused(NULL, -EBADMSG, "empty");
    write_text("\n\r\n  \n");
    expect_refused(NULL, -EBADMSG, "empty");
    write_text("hello");
    expect_refused(NULL, -EBADMSG, "hello");
    write_bytes("\x7f"
                "ELF\1\2,\0\0\0\3",
                11);
    expect_refused(NULL, -EBADMSG, "expected");
    write_bytes(nul, sizeof nul - 1);
    assert_int_equal(read_all(NULL, r, &bad), 2);
    assert_int_equal(bad, 2);
    write_text(
        "\x01\x02\x03garbage\n01/09/2011 00:00:02;5;5\n"); /* a bad beginning alone is not fatal */
    assert_int_equal(read_all(NULL, r, &bad), 1);
    assert_int_equal(bad, 1);
    assert_int_equal(trace_open(folder, TRACE_AUTO, NULL, &t, why, sizeof why), -EISDIR);
    assert_int_equal(trace_open("/nonexistent/x.csv", TRACE_AUTO, NULL, &t, why, sizeof why),
                     -ENOENT);
    assert_non_null(strstr(why, "/nonexistent/x.csv"));
    write_text("01/09/2011 00:00:02;5;5\n");
    expect_refused("watts", -EBADMSG, "tracebase");
}

/* Lines of every length around the buffer's and the line's limit, between good ones. */
static void test_huge_lines(void **state)
{
    static const size_t sizes[] = {4000, 4095, 4096, 4097, 8192, 16384, 16385, 20000, 300000};
    static const char good[] = "01/09/2011 00:00:02;5;5\n";
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = sizeof good - 1, size = 2 * n + sizes[i] + 1, bad;
        struct trace_reading r[64];
        char *data = malloc(size);
        memcpy(data, good, n);
        memset(data + n, '7', sizes[i]);
        data[n + sizes[i]] = '\n';
        memcpy(data + n + sizes[i] + 1, good, n);
        write_bytes(data, size);
        assert_int_equal(read_all(NULL, r, &bad), 2);
        assert_int_equal(bad, 1);
        write_bytes(data, size - n - 1); /* ends within the huge line */
        assert_int_equal(read_all(NULL, r, &bad), 1);
        assert_int_equal(bad, 1);
        write_bytes(data + n, sizes[i]); /* nothing else */
        expect_refused(NULL, -EBADMSG, sizes[i] > 4096 ? "longer" : "expected");
        free(data);
    }
}

/* Many lines: every reading arrives in order across the refills of the buffer. */
static void test_many_lines(void **state)
{
    struct trace *t;
    struct trace_reading r;
    (void)state;
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 20000; i++)
        fprintf(f, "%d,%d.5\n", 1000 + i, i % 3000);
    fclose(f);
    assert_int_equal(trace_open(path, TRACE_AUTO, NULL, &t, NULL, 0), 0);
    for (int i = 0; i < 20000; i++) {
        assert_int_equal(trace_next(t, &r), 1);
        assert_int_equal(r.t_ms, (1000 + i) * 1000);
        assert_true(r.watts == (float)(i % 3000) + 0.5f);
    }
    assert_int_equal(trace_next(t, &r), 0);
    assert_int_equal(trace_next(t, &r), 0);
    trace_close(t);
}

/* Random bytes, and random changes to a good file: nothing but a reading or a refusal comes out. */
static void test_random_bytes(void **state)
{
    static const char alphabet[] = "0123456789/:;., -+eT\n\r\"\0\xff"
                                   "Z";
    uint64_t seed = 1;
    (void)state;
    for (int round = 0; round < 300; round++) {
        unsigned char data[3000];
        size_t size = 0, bad = 0;
        struct trace *t;
        struct trace_reading r;
        char why[200];
        for (; size + 30 < sizeof data && round % 2; size += 24)
            memcpy(data + size, "01/09/2011 00:00:02;5;5\n", 24);
        for (size_t i = 0; i < (round % 2 ? 40 : sizeof data); i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            size_t at = round % 2 ? (seed >> 40) % size : i;
            data[at] = (unsigned char)(round % 4 < 2
                                           ? (uint8_t)alphabet[(seed >> 33) % (sizeof alphabet - 1)]
                                           : seed >> 33);
        }
        write_bytes(data, round % 2 ? size : sizeof data);
        if (trace_open(path, TRACE_AUTO, NULL, &t, why, sizeof why) < 0)
            continue;
        int rc;
        uint64_t lines = 0;
        while ((rc = trace_next(t, &r)) != 0 && lines++ < 100000) {
            bad += rc < 0;
            assert_true(rc < 0 || (isfinite(r.watts) && fabsf(r.watts) <= 1e7f && r.t_ms >= 0));
        }
        assert_int_equal(rc, 0);
        assert_int_equal(trace_statistics(t)->bad, bad);
        trace_close(t);
    }
}

static void test_names(void **state)
{
    static const struct {
        const char *path, *device;
        int year, month, day;
    } good[] = {{"dev_98ABAA_2011.12.01_CRT-TV.csv", "dev_98ABAA", 2011, 12, 1},
                {"a/b/dev_59AC89_2011.09.01.csv", "dev_59AC89", 2011, 9, 1},
                {"Switch_2012.01.31.csv", "Switch", 2012, 1, 31},
                {"_D3423B_2012.02.29.csv", "_D3423B", 2012, 2, 29},
                {"Monitor_Schalli_2011.12.24.csv", "Monitor_Schalli", 2011, 12, 24},
                {"dev_D32328_2011.11.20_cleaned_21.11.2011.csv", "dev_D32328", 2011, 11, 20},
                {"device_B814DA_2012.01.20_filled_up.csv", "device_B814DA", 2012, 1, 20},
                {"dev_123456_2011.01.02.csv", "dev_123456", 2011, 1, 2},
                {"refit_h2_2014-04-19_2014-04-25.csv", "refit_h2", 2014, 4, 19}};
    static const char *const wrong[] = {"",
                                        "x.csv",
                                        "synthetic_dvd_12.csv",
                                        "2011.12.01.csv",
                                        "___2011.12.01.csv",
                                        "dev_1_2011.13.01.csv",
                                        "dev_1_2011.02.30.csv",
                                        "dev_1_12011.02.03.csv",
                                        "dev_1_2011.02.031.csv",
                                        "dev_1_2011.2.3.csv",
                                        "2011.12.01/x.csv"};
    struct trace_name n;
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(trace_parse_name(good[i].path, &n), 0);
        assert_string_equal(n.device, good[i].device);
        assert_true(n.year == good[i].year && n.month == good[i].month && n.day == good[i].day);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (trace_parse_name(wrong[i], &n) != -EBADMSG)
            fail_msg("\"%s\" passed as \"%s\"", wrong[i], n.device);
    }
    char huge[300];
    memset(huge, 'a', sizeof huge);
    snprintf(huge + 200, 100, "_2011.12.01.csv");
    assert_int_equal(trace_parse_name(huge, &n), -EBADMSG);
}

/* Real files: every row of the plain CSV is a reading, with the column asked for; nothing is
 * refused. */
static void test_real_csv(void **state)
{
    static const struct {
        const char *file, *column;
        int64_t first_ms, step_ms;
        float first_w;
    } files[] = {{"refit/refit_h2_2014-04-19_2014-04-25.csv", NULL, 1397865600000, 8000, 161.0f},
                 {"refit/refit_h2_2014-04-19_2014-04-25.csv", "fridge", 1397865600000, 8000, 81.0f},
                 {"combed/academic_block_2014-06-02_2014-06-15.csv", "ahu_5", 1401695760000, 30000,
                  9770.5f}};
    const char *data = getenv("NILM_DATA");
    (void)state;
    if (data == NULL) {
        print_message("NILM_DATA is not set: skipped\n");
        skip();
    }
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char name[512], why[512] = "";
        struct trace *t;
        struct trace_reading r;
        snprintf(name, sizeof name, "%s/%s", data, files[i].file);
        if (trace_open(name, TRACE_AUTO, files[i].column, &t, why, sizeof why) != 0)
            fail_msg("%s", why);
        assert_int_equal(trace_next(t, &r), 1);
        assert_int_equal(r.t_ms, files[i].first_ms);
        assert_true(r.watts == files[i].first_w);
        int64_t last = r.t_ms;
        int rc;
        while ((rc = trace_next(t, &r)) == 1) {
            assert_int_equal((r.t_ms - last) % files[i].step_ms, 0);
            last = r.t_ms;
        }
        assert_int_equal(rc, 0);
        const struct trace_stats *s = trace_statistics(t);
        assert_true(s->bad == 0 && s->readings == s->lines - 1 && s->readings > 10000);
        trace_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tracebase_line_ends),
        cmocka_unit_test(test_statistics),
        cmocka_unit_test(test_repeated_and_backward_times_pass_through),
        cmocka_unit_test(test_bad_tracebase_lines),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_calendar),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_reading_lines),
        cmocka_unit_test(test_csv_columns),
        cmocka_unit_test(test_hostile_files),
        cmocka_unit_test(test_huge_lines),
        cmocka_unit_test(test_many_lines),
        cmocka_unit_test(test_random_bytes),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_real_csv),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
