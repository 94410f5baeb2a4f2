/* test_place.c - loads that nobody named are told apart, named, corrected (place.h), and machines'
 * switchings are found again (place_switch.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/calendar.h"
#include "agent/place.h"
#include "agent/place_switch.h"

#define T0 1700000000000LL
#define DAY 86400000LL

static uint64_t seed;

/* 0 to 1, the same numbers in every run (xorshift64*). */
static double draw(void)
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return (double)((seed * 2685821657736338717u) >> 11) / 9007199254740992.0;
}

static double bell(void)
{
    return draw() + draw() + draw() + draw() - 2; /* deviation 0.58 */
}

static struct place_run make(int k, double watts, double seconds, double shape)
{
    double w = watts * (1 + 0.03 * bell()), s = seconds * exp(0.3 * bell());
    return (struct place_run){.start_ms = T0 + k * 3600000LL,
                              .duration_s = s,
                              .energy_wh = w * s / 3600,
                              .peak_w = w * shape * (1 + 0.03 * bell()),
                              .up_w = w * (1 + 0.02 * bell())};
}

static uint32_t add(struct place *p, const struct place_run *run)
{
    struct place_point point;
    uint32_t merged;
    assert_int_equal(place_point(run, &point), 0);
    struct place_load *l = place_add(p, &point, run, &merged);
    assert_non_null(l);
    return l->number;
}

static const struct {
    double watts, seconds, shape;
} kinds[] = {
    {90, 1200, 1.3}, {2000, 150, 1.05}, {1150, 90, 1.1}, {600, 2700, 3.2}, {60, 9000, 1.2}};
#define KINDS ((int)(sizeof kinds / sizeof *kinds))

static void five_loads_become_five(void **state)
{
    static struct place p;
    int votes[KINDS][PLACE_LOADS + 1] = {{0}}, right = 0;
    (void)state;
    seed = 5;
    place_init(&p);
    for (int k = 0; k < 500; k++) {
        int kind = (int)(draw() * KINDS);
        struct place_run r = make(k, kinds[kind].watts, kinds[kind].seconds, kinds[kind].shape);
        uint32_t n = add(&p, &r);
        assert_true(n > 0);
        votes[kind][n < PLACE_LOADS ? n : PLACE_LOADS]++;
    }
    for (int kind = 0; kind < KINDS; kind++) {
        int most = 0;
        for (int n = 0; n <= PLACE_LOADS; n++)
            most = votes[kind][n] > most ? votes[kind][n] : most;
        right += most;
    }
    assert_true(right >= 475); /* 95 % in the one cluster of their kind */
    assert_int_equal(place_check(&p), 0);
}

static void named_once_known_from_then_on(void **state)
{
    static struct place p;
    struct place_point point;
    struct place_run r;
    char label[PLACE_NAME_BYTES];
    uint32_t number = 0;
    (void)state;
    seed = 9;
    place_init(&p);
    for (int k = 0; k < 10; k++) {
        r = make(k, 1150, 90, 1.1);
        number = add(&p, &r);
        place_label(place_number(&p, number), label);
        assert_string_equal(label, k + 1 < PLACE_RECURS ? "unknown" : "unknown-1");
    }
    assert_int_equal(place_parse(label), number);
    strcpy(place_number(&p, number)->name, "heat pump");
    int hits = 0, wrong = 0;
    for (int k = 0; k < 200; k++) {
        r = make(k, 1150, 90, 1.1);
        place_point(&r, &point);
        hits += place_find(&p, &point, 1, NULL) != NULL;
        r = make(k, 600, 2700, 3.2);
        place_point(&r, &point);
        wrong += place_find(&p, &point, 1, NULL) != NULL;
    }
    assert_true(hits >= 180);
    assert_int_equal(wrong, 0);
}

static void a_correction_makes_a_prototype(void **state)
{
    static struct place p;
    struct place_point point;
    uint32_t number = 0;
    (void)state;
    seed = 3;
    place_init(&p);
    for (int k = 0; k < 8; k++) {
        struct place_run r = make(k, 1150, 90, 1.1);
        number = add(&p, &r);
    }
    struct place_load *l = place_number(&p, number);
    strcpy(l->name, "toaster");
    struct place_run odd = make(9, 1500, 80, 1.1);
    assert_int_equal(place_point(&odd, &point), 0);
    assert_int_equal(add(&p, &odd), number + 1); /* another load: too far from the first */
    struct place_load *from = place_number(&p, number + 1);
    struct place_load *to = place_correct(&p, &point, &odd, from, "waffle iron");
    assert_non_null(to);
    assert_string_equal(to->name, "waffle iron");
    assert_null(place_number(&p, number + 1)); /* it had that one run only */
    struct place_run next = make(10, 1500, 80, 1.1);
    place_point(&next, &point);
    assert_ptr_equal(place_find(&p, &point, 1, NULL), to);
    next = make(11, 1150, 90, 1.1);
    place_point(&next, &point);
    assert_ptr_equal(place_find(&p, &point, 1, NULL), l);
    assert_ptr_equal(place_correct(&p, &point, &next, l, "toaster"), l);
}

/* A corrected run in a crowd of others of all sizes stays what the person said: what is only
 * somewhat like it neither moves nor widens it. */
static void a_word_does_not_spread(void **state)
{
    static struct place p;
    struct place_point point;
    struct place_typical t;
    int called = 0;
    (void)state;
    seed = 17;
    place_init(&p);
    struct place_run r = make(0, 70, 9000, 1.2);
    assert_int_equal(place_point(&r, &point), 0);
    const uint32_t number = place_correct(&p, &point, &r, NULL, "television")->number;
    for (int k = 1; k < 1000; k++) {
        r = make(k, 20 * pow(15, draw()), 600 * pow(30, draw()), 1 + draw());
        called += add(&p, &r) == number;
    }
    place_typical(place_number(&p, number), &t);
    assert_in_range(t.power_w, 63, 77);
    assert_true(called < 100);
    int known = 0;
    for (int k = 0; k < 50; k++) {
        r = make(k, 70, 9000, 1.2);
        place_point(&r, &point);
        known += place_find(&p, &point, 1, NULL) == place_number(&p, number);
    }
    assert_true(known >= 40);
}

static void memory_is_bounded(void **state)
{
    static struct place p;
    (void)state;
    place_init(&p);
    seed = 11;
    for (int k = 0; k < 6; k++) {
        struct place_run r = make(k, 50, 100, 1);
        add(&p, &r);
    }
    struct place_load *kept = place_number(&p, 1);
    strcpy(kept->name, "mine");
    for (int k = 0; k < 300; k++) {
        struct place_run r = make(k, 100 * pow(1.3, k % 40), 10 * (1 + k % 7), 1 + k % 5);
        add(&p, &r);
    }
    assert_string_equal(place_number(&p, 1)->name, "mine");
    assert_int_equal(place_check(&p), 0);
    /* All named: nothing is thrown away, and there is no room. */
    for (int i = 0; i < PLACE_LOADS; i++) {
        p.loads[i].number = p.loads[i].number ? p.loads[i].number : p.next++;
        strcpy(p.loads[i].name, "x");
    }
    struct place_run r = {.start_ms = T0, .duration_s = 1e6, .energy_wh = 1e9, .peak_w = 4e6};
    struct place_point point;
    uint32_t merged;
    assert_int_equal(place_point(&r, &point), 0);
    assert_null(place_add(&p, &point, &r, &merged));
}

static void odd_runs_and_bytes(void **state)
{
    static struct place p;
    struct place_point point;
    (void)state;
    const struct place_run bad[] = {{.start_ms = T0, .duration_s = 0, .energy_wh = 1},
                                    {.start_ms = T0, .duration_s = NAN, .energy_wh = 1},
                                    {.start_ms = T0, .duration_s = 10, .energy_wh = -1},
                                    {.start_ms = T0, .duration_s = 10, .energy_wh = INFINITY},
                                    {.start_ms = 0, .duration_s = 10, .energy_wh = 1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(place_point(&bad[i], &point), -EINVAL);
    assert_int_equal(place_parse("unknown-12"), 12);
    static const char *const labels[] = {
        "unknown",    "unknown-",   "unknown-0",           "unknown--1",
        "unknown-1x", "unknown- 1", "unknown-12345678901", "x"};
    for (size_t i = 0; i < sizeof labels / sizeof *labels; i++)
        assert_int_equal(place_parse(labels[i]), 0);
    place_init(&p);
    assert_int_equal(place_check(&p), 0);
    p.loads[0].number = 1; /* not below next */
    assert_int_equal(place_check(&p), -EBADMSG);
    p.next = 2;
    assert_int_equal(place_check(&p), 0);
    p.loads[0].centre[1] = NAN;
    assert_int_equal(place_check(&p), -EBADMSG);
    p.loads[0].centre[1] = 0;
    memset(p.loads[0].name, 'x', sizeof p.loads[0].name);
    assert_int_equal(place_check(&p), -EBADMSG);
}

static void typical_hours(void **state)
{
    struct place_load l = {.number = 1, .runs = 12};
    struct place_typical t;
    (void)state;
    l.hours[23] = 4;
    l.hours[0] = 4;
    l.hours[12] = 4;
    place_typical(&l, &t);
    assert_int_equal(t.from_hour, 23);
    assert_int_equal(t.to_hour, 1);
}

/* --- switchings --- */

enum { PERIOD = 30000, CELLS = 14 * 2880 };

/* Two weeks: 10 kW with noise and lifts; a machine of 2 kW from about 6 to 15 o'clock on weekdays,
 * another of 5 kW from about 8 to 18. truth [2][14]. */
static void make_building(float *watts, struct place_switch_run truth[2][14])
{
    static const double power[2] = {2000, 5000}, from[2] = {6, 8}, to[2] = {15, 18};
    seed = 21;
    for (int i = 0; i < CELLS; i++)
        watts[i] = (float)(10000 + 150 * bell() + (draw() < 0.05 ? 4000 : 0));
    for (int m = 0; m < 2; m++) {
        for (int day = 0; day < 14; day++) {
            int on = day * 2880 + (int)((from[m] + 0.4 * bell()) * 120);
            int off = day * 2880 + (int)((to[m] + 0.4 * bell()) * 120);
            truth[m][day] = (struct place_switch_run){0, 0};
            if (day % 7 >= 5)
                continue;
            truth[m][day] = (struct place_switch_run){on * (int64_t)PERIOD, off * (int64_t)PERIOD};
            for (int i = on; i < off; i++)
                watts[i] += (float)power[m];
        }
    }
}

static void machines_are_found_again(void **state)
{
    static float watts[CELLS];
    static struct place_switch_background background;
    struct place_switch_run truth[2][14];
    (void)state;
    make_building(watts, truth);
    struct place_switch_cells week = {0, PERIOD, CELLS / 2, watts};
    assert_int_equal(place_switch_learn_background(&week, &background), 0);
    assert_int_equal(place_switch_check_background(&background), 0);
    for (int m = 0; m < 2; m++) {
        struct place_switch s;
        struct place_switch_state belief = {.at = 0};
        struct place_switch_window window = {.filled = 0};
        float change[PLACE_SWITCH_SCALES] = {0};
        int found = 0, right = 0;
        assert_int_equal(place_switch_learn(&week, &background, truth[m], 7, &s), 0);
        assert_int_equal(place_switch_check(&s), 0);
        for (int i = CELLS / 2; i < CELLS; i++) {
            int64_t t = (i - PLACE_SWITCH_REACH + 1) * (int64_t)PERIOD, when;
            int on, known = place_switch_push(&window, watts[i], change);
            if (!place_switch_step(&s, &background, &belief, t, change, known, &on, &when))
                continue;
            found++;
            for (int day = 7; day < 14; day++)
                right += llabs((on ? truth[m][day].start_ms : truth[m][day].end_ms) - when) <=
                         20 * PERIOD; /* lifts are in the way */
        }
        assert_int_equal(found, 10); /* five starts, five stops */
        assert_int_equal(right, 10);
    }
}

static void too_little_to_learn_from(void **state)
{
    static float watts[CELLS];
    static struct place_switch_background background;
    struct place_switch_run truth[2][14];
    struct place_switch s;
    (void)state;
    make_building(watts, truth);
    struct place_switch_cells few = {0, PERIOD, 300, watts};
    struct place_switch_cells week = {0, PERIOD, CELLS / 2, watts};
    assert_int_equal(place_switch_learn_background(&few, &background), -ENODATA);
    assert_int_equal(place_switch_learn_background(&week, &background), 0);
    assert_int_equal(place_switch_learn(&week, &background, truth[0], 2, &s), -ENODATA);
    const struct place_switch_run elsewhere[3] = {
        {DAY * 99, DAY * 99 + 1}, {-DAY, -1}, {INT64_MAX / 2, INT64_MAX}};
    assert_int_equal(place_switch_learn(&week, &background, elsewhere, 3, &s), -ENODATA);
    background.log_density[1][3] = NAN;
    assert_int_equal(place_switch_check_background(&background), -EBADMSG);
    for (int i = 0; i < CELLS / 2; i++)
        watts[i] = NAN;
    assert_int_equal(place_switch_learn_background(&week, &background), -ENODATA);
}

#define WINTER 1767571200000LL /* 2026-01-05, Monday, 0:00 UTC */
#define SUMMER 1783296000000LL /* 2026-07-06, Monday, 0:00 UTC */

/* The time of the day (minutes) at which switchings are likeliest. */
static int likeliest(const struct place_switch_way *way)
{
    int best = 0;
    for (int i = 1; i < PLACE_SWITCH_SLOTS; i++)
        best = way->log_rate[i] > way->log_rate[best] ? i : best;
    return best * 1440 / PLACE_SWITCH_SLOTS;
}

/* How much likelier a start is than before, after this change at this time. */
static float belief_at(const struct place_switch *s, const struct place_switch_background *b,
                       int64_t t_ms)
{
    const float change[PLACE_SWITCH_SCALES] = {2000, 2000};
    struct place_switch_state belief = {.at = 0};
    int64_t when;
    int on;
    place_switch_step(s, b, &belief, t_ms, change, 1, &on, &when);
    return belief.cost[1] - belief.cost[0];
}

/* A machine that starts at six starts at six in summer, too. */
static void summer_time_moves_no_habit(void **state)
{
    static float watts[CELLS];
    static struct place_switch_background background;
    struct place_switch_run truth[2][14];
    struct place_switch s, old;
    char reason[256];
    (void)state;
    make_building(watts, truth); /* from midnight in Berlin on */
    for (int day = 0; day < 7; day++) {
        if (truth[0][day].start_ms) {
            truth[0][day].start_ms += WINTER - 3600000;
            truth[0][day].end_ms += WINTER - 3600000;
        }
    }
    struct place_switch_cells week = {WINTER - 3600000, PERIOD, CELLS / 2, watts};
    assert_int_equal(place_switch_learn_background(&week, &background), 0);

    assert_int_equal(calendar_use("UTC"), 0);
    assert_int_equal(place_switch_learn(&week, &background, truth[0], 7, &old), 0);
    old.local = 0; /* as an earlier version kept it */
    assert_in_range(likeliest(&old.start), 270, 330);
    if (calendar_check("Europe/Berlin", reason, sizeof reason) < 0)
        skip(); /* a system without zone data */
    assert_int_equal(calendar_use("Europe/Berlin"), 0);
    assert_int_equal(place_switch_learn(&week, &background, truth[0], 7, &s), 0);
    assert_in_range(likeliest(&s.start), 330, 390);
    assert_in_range(likeliest(&s.stop), 14 * 60 + 30, 15 * 60 + 30);
    const float six = belief_at(&s, &background, WINTER + 5 * 3600000);
    assert_true(six == belief_at(&s, &background, SUMMER + 4 * 3600000));
    assert_true(six > belief_at(&s, &background, SUMMER + 7 * 3600000) + 1);

    /* What an earlier version has learned is by local time from now on. */
    place_switch_use_local(&old, WINTER + 9 * DAY);
    assert_int_equal(place_switch_check(&old), 0);
    assert_int_equal(likeliest(&old.start), likeliest(&s.start));
    assert_int_equal(likeliest(&old.stop), likeliest(&s.stop));
    place_switch_use_local(&old, SUMMER); /* once */
    assert_int_equal(likeliest(&old.start), likeliest(&s.start));
    assert_int_equal(calendar_use("UTC"), 0);
    old.local = 2;
    assert_int_equal(place_switch_check(&old), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(five_loads_become_five),
        cmocka_unit_test(named_once_known_from_then_on),
        cmocka_unit_test(a_correction_makes_a_prototype),
        cmocka_unit_test(a_word_does_not_spread),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(odd_runs_and_bytes),
        cmocka_unit_test(typical_hours),
        cmocka_unit_test(machines_are_found_again),
        cmocka_unit_test(too_little_to_learn_from),
        cmocka_unit_test(summer_time_moves_no_habit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
