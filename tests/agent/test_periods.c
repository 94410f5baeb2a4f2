/* test_periods.c - tariffs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/periods.h"

#define MONDAY 1700438400000LL /* 2023-11-20 00:00 UTC */
#define HOUR 3600000LL

static struct periods parsed(const char *text)
{
    struct periods p;
    char why[256] = "";
    if (periods_parse(text, &p, why, sizeof why) < 0)
        fail_msg("%s: %s", text, why);
    return p;
}

static void finds_the_period(void **state)
{
    (void)state;
    const struct periods p =
        parsed("mon-fri 06:00-14:00 1, mon-fri 14:00-22:00 2, mon-fri 22:00-06:00 3");
    assert_int_equal(p.count, 3);
    assert_int_equal(periods_at(&p, MONDAY + 5 * HOUR), -1); /* that night began on Sunday */
    assert_int_equal(periods_at(&p, MONDAY + 6 * HOUR), 0);
    assert_int_equal(periods_at(&p, MONDAY + 14 * HOUR - 1), 0);
    assert_int_equal(periods_at(&p, MONDAY + 14 * HOUR), 1);
    assert_int_equal(periods_at(&p, MONDAY + 23 * HOUR), 2);
    assert_int_equal(periods_at(&p, MONDAY + 29 * HOUR), 2);
    assert_int_equal(periods_at(&p, MONDAY + (5 * 24 + 5) * HOUR), 2); /* Friday's, on Saturday */
    assert_int_equal(periods_at(&p, MONDAY + (5 * 24 + 7) * HOUR), -1);
    const struct periods none = parsed("");
    assert_int_equal(periods_at(&none, MONDAY), -1);
    assert_true(periods_price(&none, 0.3, MONDAY) == 0.3);
}

static void adds_up_costs(void **state)
{
    (void)state;
    const struct periods p = parsed("sat-sun 00:00-24:00 0.2, 07:00-20:00 0.4");
    assert_true(periods_price(&p, 0.3, MONDAY + 8 * HOUR) == 0.4);
    assert_true(periods_price(&p, 0.3, MONDAY + 21 * HOUR) == 0.3);
    assert_true(periods_price(&p, 0.3, MONDAY + 128 * HOUR) == 0.2);
    /* 19:00 to 23:00, 4 kWh: one of them at 0.4, three at 0.3 */
    assert_true(fabs(periods_cost(&p, 0.3, MONDAY + 19 * HOUR, MONDAY + 23 * HOUR, 4000) - 1.3) <
                1e-9);
    assert_true(fabs(periods_cost(&p, 0.3, MONDAY, MONDAY, 1000) - 0.3) < 1e-9);
}

static void refuses(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "06:00-14:00",     "6-14 a",           "06:00-25:00 a",         "foo 06:00-14:00 a",
        "06:00-14:00 a b", "06:00-14:00 a,,x", "mon-foo 06:00-14:00 1", "06:00-14:00 cheap",
        "06:00-14:00 inf"};
    struct periods p;
    char why[256];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_true(periods_parse(bad[i], &p, why, sizeof why) < 0);
        assert_non_null(strstr(why, "HH:MM-HH:MM PRICE"));
    }
}

int main(void)
{
    setenv("TZ", "UTC", 1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(finds_the_period),
                                       cmocka_unit_test(adds_up_costs), cmocka_unit_test(refuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
