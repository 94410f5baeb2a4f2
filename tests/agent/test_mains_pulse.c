/* test_mains_pulse.c - kettle, microwave oven and toaster among the pulses of a sum
 * (agent/mains_pulse.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/mains_runs.h"

#define T0 1700000000000LL
#define STEP 8000
#define FRAME 32000

enum { KETTLE, MICROWAVE, TOASTER, WASHER, CLASSES };

struct home {
    const struct mains_rule *rules[CLASSES];
    struct mains_ring edges;
    struct mains_decode decode;
    struct mains_pulses pulses;
    struct mains_world world;
    int64_t t_ms, frame_ms;
    float p[CLASSES]; /* what the network says from now on */
};

static void begin(struct home *h)
{
    static const char *names[CLASSES] = {"WaterKettle", "MicrowaveOven", "Toaster",
                                         "Washingmachine"};
    memset(h, 0, sizeof(*h));
    for (int c = 0; c < CLASSES; c++)
        h->rules[c] = mains_rules_find(names[c]);
    mains_decode_init(&h->decode, CLASSES, 6);
    h->world = (struct mains_world){.rules = h->rules,
                                    .classes = CLASSES,
                                    .period_ms = STEP,
                                    .edges = &h->edges,
                                    .decode = &h->decode,
                                    .pulses = &h->pulses};
    h->t_ms = h->frame_ms = T0;
}

/* Readings of that height for so long, as the network sees them at once. */
static void read_for(struct home *h, int seconds, float watts)
{
    struct mains_frame f;
    for (int64_t end = h->t_ms + seconds * 1000LL; h->t_ms < end; h->t_ms += STEP) {
        mains_pulses_push(&h->pulses, h->t_ms, watts, 60000);
        if (h->t_ms < h->frame_ms)
            continue;
        mains_decode_push(&h->decode, h->rules, &h->edges, h->t_ms, FRAME, h->p, &f);
        mains_pulses_decide(&h->world, h->t_ms);
        h->frame_ms = h->t_ms + FRAME;
    }
}

static void see(struct home *h, int class, float p)
{
    memset(h->p, 0, sizeof(h->p));
    h->p[class] = p;
}

static int whose(const struct home *h, int i)
{
    assert_in_range(i, 0, h->pulses.count - 1);
    assert_true(h->pulses.of[i].phase != MAINS_PULSE_OPEN);
    return h->pulses.of[i].class;
}

/* One level each: what the network says, height and length agree. */
static void one_pulse_each(void **state)
{
    (void)state;
    static const struct {
        int class, seconds;
        float watts;
    } loads[] = {{KETTLE, 160, 2200}, {MICROWAVE, 96, 1250}, {TOASTER, 144, 850}};
    for (int i = 0; i < 3; i++) {
        struct home h;
        begin(&h);
        read_for(&h, 640, 120);
        see(&h, loads[i].class, 0.9f);
        read_for(&h, loads[i].seconds, 120 + loads[i].watts);
        see(&h, loads[i].class, 0);
        read_for(&h, 320, 120);
        assert_int_equal(h.pulses.count, 1);
        assert_int_equal(whose(&h, 0), loads[i].class);
        assert_true(h.pulses.of[0].start_ms == T0 + 640000);
        assert_int_equal(h.pulses.of[0].lasts_ms, loads[i].seconds * 1000);
        assert_true(fabsf(h.pulses.of[0].watts - loads[i].watts) < 1);
        assert_true(h.pulses.of[0].confidence > 0.5f);
    }
}

static void pulse_oven(struct home *h)
{
    static const float watts[] = {620, 1300, 640};
    for (int i = 0; i < 3; i++) {
        see(h, MICROWAVE, 0.1f);
        read_for(h, 8, 220 + watts[i]);
        read_for(h, 24, 220);
    }
    see(h, MICROWAVE, 0);
    read_for(h, 640, 220);
}

/* An oven that pulses: readings of a moment each, two of them saw only a part. The network hardly
 * sees it; an oven of that height has been there before. */
static void a_pulsing_oven(void **state)
{
    (void)state;
    struct home h;
    begin(&h);
    read_for(&h, 640, 220);
    pulse_oven(&h);
    see(&h, MICROWAVE, 0.95f);
    read_for(&h, 96, 1500);
    see(&h, MICROWAVE, 0);
    read_for(&h, 1920, 220);
    pulse_oven(&h);
    assert_int_equal(h.pulses.count, 7);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(whose(&h, i), -1);
        assert_int_equal(whose(&h, 4 + i), MICROWAVE);
        assert_int_equal(h.pulses.of[4 + i].group, h.pulses.of[4].group);
    }
    assert_int_equal(whose(&h, 3), MICROWAVE);
}

/* The heater of a washing machine comes back at the same height. */
static void a_heater_is_nobodys(void **state)
{
    (void)state;
    struct home h;
    begin(&h);
    see(&h, WASHER, 0.99f);
    read_for(&h, 640, 120);
    for (int i = 0; i < 6; i++) {
        h.p[KETTLE] = 0.2f;
        read_for(&h, 240, 2120);
        h.p[KETTLE] = 0;
        read_for(&h, 120, 120);
    }
    read_for(&h, 320, 120);
    assert_int_equal(h.pulses.count, 6);
    for (int i = 0; i < 6; i++)
        assert_int_equal(whose(&h, i), -1);
}

/* While a heater runs and stops, a kettle is on: its pulse is what undoes its own rise, and its
 * edges are claimed. The heater has its share of what the network says, but there is one kettle. */
static void a_kettle_beside_a_heater(void **state)
{
    (void)state;
    struct home h;
    begin(&h);
    see(&h, WASHER, 0.9f);
    read_for(&h, 640, 120);
    read_for(&h, 160, 3020);
    const struct edge up = {h.t_ms, 3020, 2100}, down = {h.t_ms + 96000, 2220, -2100};
    mains_ring_add(&h.edges, &up);
    mains_ring_add(&h.edges, &down);
    h.p[KETTLE] = 0.95f;
    read_for(&h, 48, 5120);
    read_for(&h, 48, 2220);
    h.p[KETTLE] = 0;
    read_for(&h, 320, 120);
    assert_int_equal(h.pulses.count, 2);
    for (int i = 0; i < 2; i++)
        assert_int_equal(whose(&h, i), h.pulses.of[i].watts == 2100 ? KETTLE : -1);
    assert_int_equal(h.edges.edges[0].claim, KETTLE);
    assert_int_equal(h.edges.edges[1].claim, KETTLE);
}

/* What lasts, or is weak, is no pulse; what a prototype knows is not the network's. */
static void what_is_left_out(void **state)
{
    (void)state;
    struct home h;
    begin(&h);
    h.world.elsewhere = 1u << KETTLE;
    read_for(&h, 640, 120);
    see(&h, KETTLE, 0.99f);
    read_for(&h, 1000, 2320);
    read_for(&h, 640, 120);
    read_for(&h, 80, 390);
    read_for(&h, 640, 120);
    assert_int_equal(h.pulses.count, 0);
    read_for(&h, 160, 2320);
    read_for(&h, 640, 120);
    assert_int_equal(h.pulses.count, 1);
    assert_int_equal(whose(&h, 0), -1);
    h.world.elsewhere = 0;
    read_for(&h, 160, 2320);
    read_for(&h, 320, 120);
    assert_int_equal(whose(&h, 1), KETTLE);
    assert_int_equal(h.pulses.of[1].phase, MAINS_PULSE_DECIDED);
    mains_pulses_take(&h.pulses, h.t_ms - 480000, h.t_ms, 1000);
    assert_int_equal(h.pulses.of[1].phase, MAINS_PULSE_DECIDED);
    mains_pulses_take(&h.pulses, h.t_ms - 480000, h.t_ms, 2200);
    assert_int_equal(h.pulses.of[1].phase, MAINS_PULSE_DONE);
}

/* More than there is room for: the oldest go, the structure stays sound. */
static void many_pulses(void **state)
{
    (void)state;
    struct home h;
    begin(&h);
    unsigned seed = 7;
    for (int i = 0; i < 4000; i++) {
        seed = seed * 1664525u + 1013904223u;
        see(&h, (int)(seed >> 28) % CLASSES, (float)(seed >> 8 & 255) / 255);
        read_for(&h, 8 * (1 + (int)(seed >> 20 & 7)), 100 + (float)(seed >> 12 & 15) * 250);
        assert_int_equal(mains_pulses_check(&h.pulses), 0);
    }
    assert_int_equal(h.pulses.count, MAINS_PULSES);
    mains_pulses_end(&h.pulses, h.t_ms);
    for (int i = 0; i < h.pulses.count; i++)
        assert_int_equal(h.pulses.of[i].phase, MAINS_PULSE_DONE);
}

/* A gateway that has just started: its time begins at 0. */
static void at_the_beginning_of_time(void **state)
{
    (void)state;
    struct home h;
    begin(&h);
    h.t_ms = h.frame_ms = 8000;
    read_for(&h, 32, 120);
    see(&h, KETTLE, 0.95f);
    read_for(&h, 120, 2320);
    see(&h, KETTLE, 0);
    read_for(&h, 320, 120);
    assert_int_equal(whose(&h, 0), KETTLE);
}

/* Bytes that are damaged are seen; times of another clock are moved. */
static void bytes_and_clocks(void **state)
{
    (void)state;
    struct home h, bad;
    begin(&h);
    read_for(&h, 640, 120);
    see(&h, KETTLE, 0.95f);
    read_for(&h, 160, 2320);
    read_for(&h, 160, 120);
    read_for(&h, 16, 2320);
    assert_int_equal(mains_pulses_check(&h.pulses), 0);
    bad = h;
    bad.pulses.count = MAINS_PULSES + 1;
    assert_int_equal(mains_pulses_check(&bad.pulses), -EBADMSG);
    bad = h;
    bad.pulses.pairs.count = -1;
    assert_int_equal(mains_pulses_check(&bad.pulses), -EBADMSG);
    bad = h;
    bad.pulses.of[0].class = CLASSES + MAINS_CLASSES;
    assert_int_equal(mains_pulses_check(&bad.pulses), -EBADMSG);
    bad = h;
    bad.pulses.of[0].watts = NAN;
    assert_int_equal(mains_pulses_check(&bad.pulses), -EBADMSG);
    bad = h;
    bad.pulses.of[0].phase = MAINS_PULSE_DONE + 1;
    assert_int_equal(mains_pulses_check(&bad.pulses), -EBADMSG);
    mains_pulses_shift(&h.pulses, 5000);
    assert_true(h.pulses.of[0].start_ms == T0 + 645000);
    assert_true(h.pulses.pairs.last_ms == h.t_ms - STEP + 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_pulse_each),           cmocka_unit_test(a_pulsing_oven),
        cmocka_unit_test(a_heater_is_nobodys),      cmocka_unit_test(a_kettle_beside_a_heater),
        cmocka_unit_test(what_is_left_out),         cmocka_unit_test(many_pulses),
        cmocka_unit_test(at_the_beginning_of_time), cmocka_unit_test(bytes_and_clocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
