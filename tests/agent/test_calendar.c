/* test_calendar.c - days of a time zone: 23 and 25 hours, no midnight, names that are none
 * (SPEC 6.12). */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/calendar.h"
#include "agent/periods.h"
#include "agent/shift.h"

#define HOUR INT64_C(3600000)

static int64_t utc(int year, int month, int day, int hour, int minute)
{
    struct tm tm = {.tm_year = year - 1900,
                    .tm_mon = month - 1,
                    .tm_mday = day,
                    .tm_hour = hour,
                    .tm_min = minute};
    return (int64_t)timegm(&tm) * 1000;
}

static int use(const char *zone)
{
    char why[256] = "";
    if (calendar_check(zone, why, sizeof why) < 0)
        return 0; /* a system without zone data */
    assert_int_equal(calendar_use(zone), 0);
    return 1;
}

static int32_t day_of(int year, int month, int day)
{
    return (int32_t)(utc(year, month, day, 0, 0) / 86400000);
}

static void check_year(void)
{
    for (int32_t d = day_of(2026, 1, 1); d < day_of(2027, 1, 2); d++) {
        const int64_t start = calendar_start(d);
        assert_int_equal(calendar_day(start), d);
        assert_int_equal(calendar_day(start - 1000), d - 1);
        assert_int_equal(calendar_day(calendar_start(d + 1) - 1000), d);
    }
}

static void days_of_23_and_25_hours(void **state)
{
    (void)state;
    char text[16];
    if (!use("Europe/Berlin"))
        skip();
    const int32_t spring = day_of(2026, 3, 29), autumn = day_of(2026, 10, 25);
    assert_int_equal(calendar_start(spring), utc(2026, 3, 28, 23, 0));
    assert_int_equal(calendar_start(spring + 1) - calendar_start(spring), 23 * HOUR);
    assert_int_equal(calendar_start(autumn + 1) - calendar_start(autumn), 25 * HOUR);
    assert_int_equal(calendar_start(autumn), utc(2026, 10, 24, 22, 0));
    assert_string_equal(calendar_text(autumn, text), "2026-10-25");
    check_year();
}

static void shifts_and_tariffs_follow_the_clock(void **state)
{
    (void)state;
    struct shift night = {.name = "night"};
    struct periods tariff;
    char why[256];
    int date = 0;
    if (!use("Europe/Berlin"))
        skip();
    assert_int_equal(shift_parse("22:00-06:00", &night, why, sizeof why), 0);
    assert_int_equal(shift_at(&night, 1, utc(2026, 3, 29, 3, 45), &date), 0); /* 05:45 by then */
    assert_int_equal(date, 20260328);
    assert_int_equal(shift_at(&night, 1, utc(2026, 3, 29, 4, 0), &date), -1);
    assert_int_equal(shift_at(&night, 1, utc(2026, 10, 25, 4, 45), &date), 0);
    assert_int_equal(shift_at(&night, 1, utc(2026, 10, 25, 5, 0), &date), -1);
    assert_int_equal(periods_parse("22:00-06:00 0.2", &tariff, why, sizeof why), 0);
    /* 24 h of the day of 25: 8 of its hours cheap, 9 with the one that came twice */
    const int64_t from = calendar_start(day_of(2026, 10, 25));
    const double cost = periods_cost(&tariff, 0.4, from, from + 25 * HOUR, 25000);
    assert_true(cost > 9 * 0.2 + 16 * 0.4 - 1e-9 && cost < 9 * 0.2 + 16 * 0.4 + 1e-9);
}

static void zones_that_are_odd(void **state)
{
    (void)state;
    if (!use("America/Santiago")) /* the clock goes on at midnight: that day begins at 1 */
        skip();
    check_year();
    const int32_t day = day_of(2026, 9, 6);
    assert_int_equal(calendar_start(day), utc(2026, 9, 6, 4, 0));
    assert_int_equal(calendar_start(day + 1) - calendar_start(day), 23 * HOUR);
    assert_true(use("Asia/Kathmandu")); /* 5:45 */
    check_year();
    assert_int_equal(calendar_start(day), utc(2026, 9, 5, 18, 15));
    assert_true(use("Pacific/Kiritimati")); /* +14 */
    check_year();
    assert_true(use("UTC"));
    assert_int_equal(calendar_start(day), utc(2026, 9, 6, 0, 0));
}

static void names_that_are_none(void **state)
{
    (void)state;
    static const char *const bad[] = {"Europe/Nowhere",
                                      "../../etc/passwd",
                                      "/usr/share/zoneinfo/UTC",
                                      "CET-1CEST,M3.5.0,M10.5.0/3",
                                      ":Europe/Berlin",
                                      "Europe",
                                      "tzdata.zi",
                                      "Europe/Berlin ",
                                      ".",
                                      "Europe/../UTC"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char why[256] = "";
        assert_int_equal(calendar_check(bad[i], why, sizeof why), -EINVAL);
        assert_non_null(strstr(why, "Europe/Berlin"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(days_of_23_and_25_hours),
        cmocka_unit_test(shifts_and_tariffs_follow_the_clock),
        cmocka_unit_test(zones_that_are_odd),
        cmocka_unit_test(names_that_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
