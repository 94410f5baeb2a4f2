/* test_mains_heat.c - programs that run beside each other, and what is not theirs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <math.h>

#include <cmocka.h>

#include "agent/mains_runs_impl.h"

#define WASHER 0
#define DISHES 1
#define PERIOD 8000

static const struct mains_rule *rules[2];

struct home {
    struct mains_runs runs;
    struct mains_world world;
};

static void begin(struct home *h)
{
    memset(h, 0, sizeof(*h));
    mains_runs_init(&h->runs);
    rules[WASHER] = mains_rules_find("Washingmachine");
    rules[DISHES] = mains_rules_find("Dishwasher");
    h->world.rules = rules;
    h->world.classes = 2;
    h->world.period_ms = PERIOD;
    for (int c = 0; c < 2; c++) {
        h->runs.runs[c].phase = MAINS_ON;
        h->runs.runs[c].start_ms = 1000 + c;
        h->runs.runs[c].rest_w = -1;
    }
}

static float share(struct home *h, int c, float watts)
{
    return mains_heat_share(&h->runs, &h->world, c, watts, 2);
}

static int near(double a, double b)
{
    return fabs(a - b) < 1e-3;
}

static void heater_is_one_programs(void **state)
{
    (void)state;
    struct home h;
    begin(&h);
    assert_true(near(share(&h, WASHER, 200), 100)); /* no heater: nobody knows */
    assert_int_equal(mains_heat_step(&h.runs, &h.world, 2000), 1);
    assert_true(near(share(&h, DISHES, 2200), 2100)); /* that of what began last */
    assert_true(near(share(&h, WASHER, 2200), 100));
    assert_int_equal(mains_heat_step(&h.runs, &h.world, 2400), 1); /* then the other one's */
    assert_true(near(share(&h, WASHER, 4600), 2500));
    assert_int_equal(mains_heat_step(&h.runs, &h.world, -2050), 1);
    assert_true(near(share(&h, DISHES, 2600), 100));
    assert_int_equal(mains_heat_step(&h.runs, &h.world, -2350), 1);
    assert_int_equal(mains_heat_step(&h.runs, &h.world, 2380), 1); /* it is known by its power */
    assert_true(near(share(&h, WASHER, 2400), 2390));
}

static void not_a_heater(void **state)
{
    (void)state;
    struct home h;
    begin(&h);
    assert_int_equal(mains_heat_step(&h.runs, &h.world, 300), 0);
    assert_int_equal(mains_heat_step(&h.runs, &h.world, -2000), 0); /* of none that is on */
    assert_int_equal(mains_heat_step(&h.runs, &h.world, 5000), 0);
    assert_int_equal(mains_heat_step(&h.runs, &h.world, 2000), 1);
    assert_int_equal(mains_heat_step(&h.runs, &h.world, 2000), 1);
    assert_int_equal(mains_heat_step(&h.runs, &h.world, 2000), 0); /* both heat */
    assert_true(near(share(&h, WASHER, 1000), 500));               /* never more than there is */
}

/* What stays for ten minutes is no washing machine, whose drum comes to rest. */
static void what_stays_is_anothers(void **state)
{
    (void)state;
    struct home h;
    begin(&h);
    struct mains_run *run = &h.runs.runs[WASHER];
    for (int i = 0; i < 300; i++) {
        h.runs.cell_ms = 1700000400000 + (int64_t)i * PERIOD;
        const float watts = (i % 10 < 5 ? 120.0f : 400.0f) - run->floor_w;
        run->last_w = fmaxf(watts, 0);
        run->energy_wh += (double)run->last_w * PERIOD / 3600000.0;
        h.runs.books.open_wh = run->energy_wh;
        mains_heat_rest(&h.runs, &h.world, WASHER);
    }
    assert_true(fabs(run->floor_w - 120) < 1);
    const double drum = 300 * 280.0 / 2 * PERIOD / 3600000.0, whole = 75 * 120.0 * PERIOD / 3600000;
    assert_true(run->energy_wh > drum - 1 && run->energy_wh < drum + whole);
    assert_true(h.runs.books.unknown_wh > 0);
}

/* A heater is on for longer than that. */
static void heater_stays(void **state)
{
    (void)state;
    struct home h;
    begin(&h);
    struct mains_run *run = &h.runs.runs[WASHER];
    run->heat_w = run->heater_w = 2000;
    for (int i = 0; i < 300; i++) {
        h.runs.cell_ms = 1700000400000 + (int64_t)i * PERIOD;
        run->last_w = i % 10 < 5 ? 2000.0f : 2300.0f;
        run->energy_wh += (double)run->last_w * PERIOD / 3600000.0;
        mains_heat_rest(&h.runs, &h.world, WASHER);
    }
    assert_true(near(run->floor_w, 0));
    assert_true(run->heat_w > 0);
    run->last_w = 300; /* its step down was not seen */
    mains_heat_rest(&h.runs, &h.world, WASHER);
    assert_true(near(run->heat_w, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heater_is_one_programs),
        cmocka_unit_test(not_a_heater),
        cmocka_unit_test(what_stays_is_anothers),
        cmocka_unit_test(heater_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
