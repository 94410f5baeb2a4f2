/* test_place_house.c - pulses in readings, and prototypes learned from a person's list
 * (agent/place_pulse.h, agent/place_house.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/place_house.h"

#define T0 1700000006400LL /* divisible by the step of the grid */
#define DAY 86400000LL
#define STEP 8000

struct found {
    struct place_pulse all[32];
    int count;
};

static struct found find(const float *watts, int count)
{
    struct place_pulses p = {0};
    struct found f = {.count = 0};
    for (int i = 0; i < count; i++)
        f.count += place_pulses_push(&p, T0 + i * STEP, watts[i], 60000, &f.all[f.count]);
    return f;
}

static void expect(const struct found *f, int i, int from, int to, double watts)
{
    assert_true(i < f->count);
    assert_int_equal((f->all[i].start_ms - T0) / STEP, from);
    assert_int_equal((f->all[i].end_ms - T0) / STEP, to);
    if (fabs((double)f->all[i].watts - watts) > 10)
        fail_msg("%.0f W, expected %.0f", (double)f->all[i].watts, watts);
}

static void a_pulse_of_one_reading(void **state)
{
    (void)state;
    const float w[] = {100, 101, 1400, 100, 99, 100};
    const struct found f = find(w, 6);
    assert_int_equal(f.count, 1);
    expect(&f, 0, 2, 3, 1300);
}

/* A rise that a slow meter shows in two readings; small steps are none; a fall of another size is
 * somebody else's. */
static void rises_in_two_readings(void **state)
{
    (void)state;
    const float w[] = {100, 700, 1400, 1401, 1390, 900, 100, 300, 100, 100, 1100, 600, 600, 100};
    const struct found f = find(w, 14);
    assert_int_equal(f.count, 1);
    expect(&f, 0, 1, 5, 1290);
}

/* A load that goes on underneath hides nothing, and its own end is found. */
static void pulses_on_a_load(void **state)
{
    (void)state;
    const float w[] = {50, 2050, 2050, 3350, 2050, 2050, 3350, 3350, 2050, 2050, 50, 50, 50, 50};
    const struct found f = find(w, 14);
    assert_int_equal(f.count, 3);
    expect(&f, 0, 3, 4, 1300);
    expect(&f, 1, 6, 8, 1300);
    expect(&f, 2, 1, 10, 2000);
}

/* A meter that is read every second and measures every four: a rise in two parts is one; one that
 * stands for longer in between is not. */
static void rises_of_a_fast_meter(void **state)
{
    (void)state;
    for (int stands = 4; stands <= 8; stands += 4) {
        struct place_pulses p = {0};
        struct place_pulse out = {0};
        int count = 0;
        for (int s = 0; s < 200; s++) {
            const float watts = s < 20 ? 50 : s < 20 + stands ? 400 : s < 100 ? 1090 : 50;
            count += place_pulses_push(&p, T0 + s * 1000, watts, 60000, &out);
        }
        assert_int_equal(count, stands == 4);
        if (stands > 4)
            continue;
        assert_int_equal(out.start_ms, T0 + 20000);
        assert_int_equal(out.end_ms, T0 + 100000);
        assert_true(fabsf(out.watts - 1040) < 1);
    }
}

static void a_hole_begins_anew(void **state)
{
    (void)state;
    struct place_pulses p = {0};
    struct place_pulse out;
    assert_int_equal(place_pulses_push(&p, T0, 100, 60000, &out), 0);
    assert_int_equal(place_pulses_push(&p, T0 + STEP, 1400, 60000, &out), 0);
    assert_int_equal(place_pulses_push(&p, T0 + 2 * STEP, 1400, 60000, &out), 0);
    assert_int_equal(place_pulses_push(&p, T0 + 100 * STEP, 100, 60000, &out), 0);
    assert_int_equal(place_pulses_push(&p, T0 + 101 * STEP, 100, 60000, &out), 0);
}

/* --- a week: an oven that pulses in the evening, and something as strong that does not --- */

struct week {
    struct place_pulse pulses[256];
    size_t count;
    struct place_said oven[32], other[32];
    size_t ovens, others;
};

static void add_pulse(struct week *w, int64_t t_ms, int64_t length_ms, float watts)
{
    w->pulses[w->count++] = (struct place_pulse){t_ms, t_ms + length_ms, watts};
}

static void make_week(struct week *w, int first_day)
{
    memset(w, 0, sizeof *w);
    for (int day = first_day; day < first_day + 7; day++) {
        const int64_t t = T0 / DAY * DAY + day * DAY;
        const int64_t morning = t + 7 * 3600000 + day * 311000;
        const int64_t evening = t + 17 * 3600000 + day * 473000;
        w->other[w->others++] = (struct place_said){morning, morning + 120000 + day * 8000};
        add_pulse(w, morning, 120000 + day * 8000, 1310 + (float)day);
        add_pulse(w, t + 12 * 3600000, 180000, 2200); /* a kettle */
        w->oven[w->ovens++] = (struct place_said){evening - 8000, evening + 96000};
        add_pulse(w, evening, 16000, 1290 - (float)day);
        add_pulse(w, evening + 40000, 16000, 1285);
        add_pulse(w, evening + 56000, 8000, 700); /* seen in part */
        add_pulse(w, evening + 80000, 16000, 1300);
    }
}

static struct place_trait evening_trait(void)
{
    return (struct place_trait){logf(1295), logf(16), logf(90), 0.6f, 17.5f};
}

static struct place_trait morning_trait(void)
{
    return (struct place_trait){logf(1312), logf(130), logf(130), 1, 7.4f};
}

static void told_apart_at_one_size(void **state)
{
    (void)state;
    static struct week w;
    static struct place_proto p;
    const struct place_trait evening = evening_trait(), morning = morning_trait();
    make_week(&w, 0);
    assert_int_equal(
        place_proto_learn("oven", w.pulses, w.count, w.oven, w.ovens, NULL, 0, NULL, T0, &p), 0);
    assert_int_equal(p.pulses, 1);
    assert_int_equal(p.right, 7);
    assert_int_equal(p.wrong, 7); /* the kettle is not of its height */
    assert_int_equal(p.early_ms, 8000);
    assert_true(fabsf(p.level_w - 1290) < 20);
    assert_true(place_proto_sure(&p, &evening) > 0.8);
    assert_true(place_proto_sure(&p, &morning) < 0.2);
    assert_int_equal(place_proto_check(&p), 0);
    /* the same pulses, taught by the other name */
    assert_int_equal(
        place_proto_learn("toaster", w.pulses, w.count, w.other, w.others, NULL, 0, NULL, T0, &p),
        0);
    assert_true(place_proto_sure(&p, &evening) < 0.2);
    assert_true(place_proto_sure(&p, &morning) > 0.8);
}

/* Nothing like it was ever seen: nobody is sure. */
static void what_is_like_nothing(void **state)
{
    (void)state;
    static struct week w;
    static struct place_proto p;
    struct place_trait t = evening_trait();
    make_week(&w, 0);
    assert_int_equal(
        place_proto_learn("oven", w.pulses, w.count, w.oven, w.ovens, NULL, 0, NULL, T0, &p), 0);
    t.longest = logf(500);
    t.span = logf(590);
    assert_true(place_proto_sure(&p, &t) < 0.5);
}

static void a_list_of_nothing(void **state)
{
    (void)state;
    static struct week w;
    static struct place_proto p;
    struct place_said dark[3];
    make_week(&w, 0);
    for (int i = 0; i < 3; i++)
        dark[i] = (struct place_said){T0 / DAY * DAY + i * DAY + 7200000,
                                      T0 / DAY * DAY + i * DAY + 7300000};
    assert_int_equal(place_proto_learn("lamp", w.pulses, w.count, dark, 3, NULL, 0, NULL, T0, &p),
                     -ENODATA);
    assert_int_equal(place_proto_learn("oven", w.pulses, w.count, w.oven, 1, NULL, 0, NULL, T0, &p),
                     -ENODATA);
    assert_int_equal(place_proto_learn("oven", w.pulses, w.count, NULL, 0, NULL, 0, NULL, T0, &p),
                     -ENODATA);
}

/* A few corrections turn the decision. */
static void corrections(void **state)
{
    (void)state;
    static struct week w, next;
    static struct place_proto p;
    const struct place_trait morning = morning_trait();
    make_week(&w, 0);
    make_week(&next, 7);
    assert_int_equal(
        place_proto_learn("oven", w.pulses, w.count, w.oven, w.ovens, NULL, 0, NULL, T0, &p), 0);
    int said = 0;
    while (place_proto_sure(&p, &morning) <= 0.5 && said < 7) {
        assert_int_equal(place_proto_correct(&p, next.pulses, next.count, next.other[said].start_ms,
                                             next.other[said].end_ms, 1),
                         0);
        said++;
    }
    assert_in_range(said, 1, 6);
    const int right = p.right;
    for (int i = 0; i < said; i++) /* and back */
        assert_int_equal(place_proto_correct(&p, next.pulses, next.count, next.other[i].start_ms,
                                             next.other[i].end_ms, 0),
                         0);
    assert_true(place_proto_sure(&p, &morning) < 0.5);
    assert_int_equal(p.right, right - said); /* a run is one or the other */
    assert_int_equal(place_proto_correct(&p, next.pulses, next.count, T0, T0 + 1000, 1), -ENOENT);
}

/* However many there are, the room is bounded. */
static void room(void **state)
{
    (void)state;
    static struct place_pulse pulses[4000];
    static struct place_said said[1000];
    static struct place_proto p;
    size_t n = 0, k = 0;
    for (int i = 0; i < 2000; i++) {
        const int64_t t = T0 + i * 900000LL;
        pulses[n++] = (struct place_pulse){t, t + (i % 2 ? 16000 : 120000), 1300};
        if (i % 2)
            said[k++] = (struct place_said){t, t + 16000};
    }
    assert_int_equal(place_proto_learn("oven", pulses, n, said, k, NULL, 0, NULL, T0, &p), 0);
    assert_int_equal(p.right, PLACE_HOUSE_RIGHT);
    assert_int_equal(p.wrong, PLACE_HOUSE_WRONG);
    const struct place_trait it = {logf(1300), logf(16), logf(16), 1, 12},
                             other = {logf(1300), logf(120), logf(120), 1, 12};
    assert_true(place_proto_sure(&p, &it) > 0.5);
    assert_true(place_proto_sure(&p, &other) < 0.5);
}

/* Damaged bytes are refused, or harmless. */
static void damaged(void **state)
{
    (void)state;
    static struct week w;
    static struct place_proto p, d;
    make_week(&w, 0);
    assert_int_equal(
        place_proto_learn("oven", w.pulses, w.count, w.oven, w.ovens, NULL, 0, NULL, T0, &p), 0);
    for (size_t i = 0; i < sizeof p; i++) {
        for (int bit = 0; bit < 8; bit++) {
            d = p;
            ((unsigned char *)&d)[i] ^= (unsigned char)(1u << bit);
            if (place_proto_check(&d) < 0)
                continue;
            const struct place_trait t = evening_trait();
            const double sure = place_proto_sure(&d, &t);
            assert_true(sure >= 0 && sure <= 1);
        }
    }
    d = p;
    d.right = PLACE_HOUSE_RIGHT + 1;
    assert_int_equal(place_proto_check(&d), -EBADMSG);
    d = p;
    d.level_w = NAN;
    assert_int_equal(place_proto_check(&d), -EBADMSG);
    d = p;
    memset(d.name, 'x', sizeof d.name);
    assert_int_equal(place_proto_check(&d), -EBADMSG);
}

/* In readings: a run is found once, with its times, soon after its end. */
static void in_readings(void **state)
{
    (void)state;
    static struct week w;
    static struct place_house h;
    static struct place_watch watch;
    make_week(&w, 0);
    assert_int_equal(place_proto_learn("oven", w.pulses, w.count, w.oven, w.ovens, NULL, 0, NULL,
                                       T0, &h.protos[0]),
                     0);
    h.count = 1;
    h.version = 1;
    make_week(&w, 14);
    const int64_t from = w.oven[0].start_ms - 600000, to = w.oven[0].end_ms + 300000;
    int64_t known_ms = 0;
    for (int64_t t = from; t < to; t += STEP) {
        float watts = 90;
        for (size_t i = 0; i < w.count; i++)
            if (t >= w.pulses[i].start_ms && t < w.pulses[i].end_ms)
                watts += w.pulses[i].watts;
        if (place_watch_reading(&watch, &h, t, watts, 60000))
            known_ms = t;
    }
    assert_int_equal(watch.named_count, 1);
    assert_true(llabs(watch.named[0].start_ms - w.oven[0].start_ms) <= STEP);
    assert_true(llabs(watch.named[0].end_ms - w.oven[0].end_ms) <= STEP);
    assert_in_range(known_ms - watch.named[0].end_ms, 60000, 120000);
    assert_true(fabs(watch.named[0].energy_wh - (3 * 1290 * 16 + 700 * 8) / 3600.0) < 2);
    place_watch_take(&watch, 0);
    assert_int_equal(watch.named_count, 0);
}

/* --- programs --- */

/* A dishwasher's three heatings, and a washing machine's one, of the same power, at noon. */
static void make_programs(struct week *w, int first_day)
{
    memset(w, 0, sizeof *w);
    for (int day = first_day; day < first_day + 7; day++) {
        const int64_t t = T0 / DAY * DAY + day * DAY;
        const int64_t noon = t + 11 * 3600000 + day * 97000,
                      start = t + 18 * 3600000 - day * 311000;
        const int slow = day % 3;
        add_pulse(w, noon + 400000, 960000, 2170);
        w->other[w->others++] = (struct place_said){noon, noon + 9000000};
        if (day % 2)
            continue;
        add_pulse(w, start + 1110000 + 10000 * slow, 720000 + 20000 * slow, 2180);
        add_pulse(w, start + 3600000 + 30000 * slow, 670000 + 20000 * slow, 2210);
        add_pulse(w, start + 5860000 + 60000 * slow, 760000 + 30000 * slow, 2190);
        w->oven[w->ovens++] = (struct place_said){start, start + 8500000 + 90000 * slow};
    }
}

static void programs_by_their_heating(void **state)
{
    (void)state;
    static struct week w;
    static struct place_house h;
    static struct place_watch watch;
    struct place_proto *p = &h.protos[0];
    make_programs(&w, 0);
    assert_int_equal(
        place_proto_learn("dishwasher", w.pulses, w.count, w.oven, w.ovens, NULL, 0, NULL, T0, p),
        0);
    assert_int_equal(p->pulses, 0);
    assert_int_equal(p->scores, 4);
    assert_int_equal(place_proto_check(p), 0);
    h.count = 1;
    h.version = 1;
    make_programs(&w, 14);
    for (int64_t t = w.pulses[0].start_ms - 600000; t < w.oven[0].end_ms + 600000; t += STEP) {
        float watts = 90;
        for (size_t i = 0; i < w.count; i++)
            if (t >= w.pulses[i].start_ms && t < w.pulses[i].end_ms)
                watts += w.pulses[i].watts;
        place_watch_reading(&watch, &h, t, watts, 60000);
    }
    assert_int_equal(watch.named_count, 1);
    const struct place_named n = watch.named[0];
    assert_int_equal(n.count, 3);
    assert_true(llabs(n.start_ms - w.oven[0].start_ms) < 60000);
    assert_true(llabs(n.end_ms - w.oven[0].end_ms) < 300000);
    assert_true(fabs(n.energy_wh - 2190 * 2200 / 3600.0) < 60);

    /* An earlier life saw two of the heatings: they are in the house, and it is the same run. */
    static struct place_watch later;
    memset(&later, 0, sizeof later);
    for (size_t i = 0; i < w.count && w.pulses[i].end_ms < w.oven[0].end_ms; i++)
        h.earlier[h.earlier_count++] = w.pulses[i];
    h.earlier_count--;
    assert_int_equal(place_watch_reading(&later, &h, w.oven[0].end_ms, 90, 60000), 1);
    assert_int_equal(later.named_count, 1);
    assert_int_equal(later.named[0].count, 2);
    assert_int_equal(later.named[0].earlier, 1);
    assert_true(llabs(later.named[0].start_ms - w.oven[0].start_ms) < 60000);
}

/* One heating is no score, and runs that do not agree have none: the network finds them. */
static void programs_without_a_score(void **state)
{
    (void)state;
    static struct week w;
    static struct place_proto p;
    make_programs(&w, 0);
    assert_int_equal(place_proto_learn("washer", w.pulses, w.count, w.other, w.others, w.other,
                                       w.others, NULL, T0, &p),
                     0);
    assert_int_equal(p.scores, 0);
    assert_int_equal(p.early_ms, 0);
    for (size_t i = 0; i < w.ovens; i++) { /* said at all times of the day */
        w.oven[i].start_ms -= (int64_t)i * 1700000;
        w.oven[i].end_ms += (int64_t)i * 1700000;
    }
    assert_int_equal(place_proto_learn("dishwasher", w.pulses, w.count, w.oven, w.ovens, w.oven,
                                       w.ovens, NULL, T0, &p),
                     0);
    assert_int_equal(p.scores, 0);
    /* A list with half of the runs: the others look the same, so the score says nothing. */
    make_programs(&w, 0);
    assert_int_equal(
        place_proto_learn("dishwasher", w.pulses, w.count, w.oven, 2, NULL, 0, NULL, T0, &p),
        -ENODATA);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pulse_of_one_reading),
        cmocka_unit_test(rises_in_two_readings),
        cmocka_unit_test(pulses_on_a_load),
        cmocka_unit_test(rises_of_a_fast_meter),
        cmocka_unit_test(a_hole_begins_anew),
        cmocka_unit_test(told_apart_at_one_size),
        cmocka_unit_test(what_is_like_nothing),
        cmocka_unit_test(a_list_of_nothing),
        cmocka_unit_test(corrections),
        cmocka_unit_test(room),
        cmocka_unit_test(damaged),
        cmocka_unit_test(in_readings),
        cmocka_unit_test(programs_by_their_heating),
        cmocka_unit_test(programs_without_a_score),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
