/* test_mains_lead.c - when a program began that heats later. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <math.h>

#include <cmocka.h>

#include "agent/mains_runs_impl.h"

#define HEATS 1700000000000LL
#define MINUTE 60000LL
#define BASE 200.0f
#define GAP (60 * MINUTE)

/* A sum of base load and loads, each from minute `from` to minute `to` before it heats (negative),
 * and what the network says of it a quarter of an hour before. */
struct stretch {
    double from, to;
    float watts, p;
};

struct home {
    struct mains_ring edges;
    struct mains_lead lead;
    struct mains_world world;
    const struct stretch *of;
    int count;
    double wh; /* that earlier heatings took */
};

static int64_t at(double minute)
{
    return HEATS + (int64_t)(minute * (double)MINUTE);
}

static float watts_at(void *context, int64_t t_ms)
{
    const struct home *h = context;
    float sum = BASE;
    for (int i = 0; i < h->count; i++)
        if (t_ms >= at(h->of[i].from) && t_ms < at(h->of[i].to))
            sum += h->of[i].watts;
    return sum;
}

/* Every step of the sum between two times, as edges.c finds them. */
static void build(struct home *h, const struct stretch *of, int count, float p_before)
{
    memset(h, 0, sizeof(*h));
    h->of = of;
    h->count = count;
    h->world.edges = &h->edges;
    h->world.period_ms = 8000;
    h->world.tell.context = h;
    h->world.watts = watts_at;
    for (int64_t t = at(-110); t <= at(5); t += 8000) {
        const float before = watts_at(h, t - 8000), now = watts_at(h, t);
        float p = t >= at(-24) ? p_before : 0.02f;
        for (int i = 0; i < count; i++)
            if (t >= at(of[i].from) && t < at(of[i].to) && of[i].p > 0)
                p = of[i].p;
        mains_lead_hear(&h->lead, t, p);
        if (now != before)
            mains_ring_add(&h->edges, &(struct edge){t, before, now - before});
    }
}

/* Minutes before it heats at which it began; 1: nothing was found. */
static double began(struct home *h)
{
    int64_t heater_ms = HEATS;
    const int64_t found = mains_lead_start(&h->lead, &h->world, &heater_ms, GAP, &h->wh);
    return found ? (double)(found - HEATS) / (double)MINUTE : 1;
}

#define HEATING                                                                                    \
    {                                                                                              \
        0, 20, 2100, 1                                                                             \
    }

static void cold_wash_before(void **state)
{
    (void)state;
    const struct stretch wash[] = {HEATING, {-40, -30, 120, 0}};
    struct home h;
    build(&h, wash, 2, 0.4f);
    assert_true(fabs(began(&h) + 40) < 0.2);
    build(&h, wash, 2, 0.05f); /* the network sees no dishwasher: somebody else's */
    assert_true(began(&h) > 0);
}

static void not_a_wash(void **state)
{
    (void)state;
    const struct stretch earlier[] = {HEATING, {-55, -45, 120, 0}};
    const struct stretch stays[] = {HEATING, {-50, 30, 120, 0}};
    const struct stretch weak[] = {HEATING, {-40, -30, 45, 0}};
    struct home h;
    build(&h, earlier, 2, 0.4f);
    assert_true(began(&h) > 0);
    build(&h, stays, 2, 0.5f);
    assert_true(began(&h) > 0);
    build(&h, weak, 2, 0.4f);
    assert_true(began(&h) > 0);
}

static void pump_until_it_heats(void **state)
{
    (void)state;
    const struct stretch pump[] = {HEATING, {-20, 40, 70, 0}};
    struct home h;
    build(&h, pump, 2, 0.6f);
    assert_true(fabs(began(&h) + 20) < 0.2);
    build(&h, pump, 2, 0.3f);
    assert_true(began(&h) > 0);
}

static void earlier_heating(void **state)
{
    (void)state;
    const struct stretch twice[] = {HEATING, {-40, -30, 2050, 0.7f}, {-85, -75, 2150, 0.7f}};
    const struct stretch kettle[] = {HEATING, {-40, -37, 2100, 0.7f}};
    const struct stretch oven[] = {HEATING, {-40, -30, 2100, 0.2f}};
    const struct stretch other[] = {HEATING, {-40, -30, 1400, 0.7f}};
    struct home h;
    build(&h, twice, 3, 0.1f);
    assert_true(fabs(began(&h) + 87) < 0.3); /* valves and a pump come first */
    assert_true(fabs(h.wh - (2150.0 + 2050.0) / 6) < 20);
    h.lead.done_ms = at(-50); /* an earlier run was over by then */
    assert_true(fabs(began(&h) + 42) < 0.3);
    build(&h, kettle, 2, 0.1f);
    assert_true(began(&h) > 0);
    build(&h, oven, 2, 0.1f);
    assert_true(began(&h) > 0);
    build(&h, other, 2, 0.1f);
    assert_true(began(&h) > 0);
}

/* A washing machine heats at once and is seen by its motor a quarter of an hour later. */
static void heated_before_it_was_seen(void **state)
{
    (void)state;
    const struct stretch ended[] = {{-14, -6, 2700, 0}}, on[] = {{-5, 2, 2700, 0}},
                         kettle[] = {{-9, -7, 2200, 0}};
    const struct mains_rule *rules[2] = {mains_rules_find("Washingmachine"),
                                         mains_rules_find("Dishwasher")};
    struct mains_decode decode;
    struct mains_runs runs;
    struct home h;
    double wh = 0;
    float on_w = 0;
    mains_decode_init(&decode, 2, 1);
    for (int64_t t = at(-8); t < at(5); t += MAINS_MOST_MS) {
        const float p[2] = {0.4f, 0};
        struct mains_frame f;
        mains_decode_push(&decode, rules, &(struct mains_ring){0}, t, MAINS_MOST_MS, p, &f);
    }
    mains_runs_init(&runs);
    build(&h, ended, 1, 0);
    h.world.rules = rules;
    h.world.classes = 2;
    h.world.decode = &decode;
    assert_int_equal(mains_lead_heated(&runs, &h.world, 0, HEATS, &wh, &on_w), at(-14));
    assert_true(fabs(wh - 2700.0 * 8 / 60) < 15);
    assert_true(on_w < 1);
    runs.runs[1] =
        (struct mains_run){.phase = MAINS_ON, .start_ms = at(-30), .heater_w = 2750}; /* its own */
    assert_int_equal(mains_lead_heated(&runs, &h.world, 0, HEATS, &wh, &on_w), 0);
    mains_runs_init(&runs);
    build(&h, on, 1, 0);
    h.world.rules = rules;
    h.world.classes = 2;
    h.world.decode = &decode;
    const int64_t began_ms = mains_lead_heated(&runs, &h.world, 0, HEATS, &wh, &on_w);
    assert_true(began_ms >= at(-5) && began_ms < at(-5) + 8000);
    assert_true(fabs(wh - 2700.0 * 5 / 60) < 15);
    assert_true(fabsf(on_w - 2700) < 1);
    build(&h, kettle, 1, 0);
    h.world.rules = rules;
    h.world.classes = 2;
    h.world.decode = &decode;
    assert_int_equal(mains_lead_heated(&runs, &h.world, 0, HEATS, &wh, &on_w), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cold_wash_before),          cmocka_unit_test(not_a_wash),
        cmocka_unit_test(pump_until_it_heats),       cmocka_unit_test(earlier_heating),
        cmocka_unit_test(heated_before_it_was_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
