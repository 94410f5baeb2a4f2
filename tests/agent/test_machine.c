/* States of machines: learned limits, hours, starts, restarts; shifts. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "agent/lib_folder.h"
#include "agent/machine.h"
#include "agent/shift.h"
#include "storage/outbox.h"

#define DAY INT64_C(1790812800000) /* 2026-10-01, a Thursday */
#define HOUR INT64_C(3600000)

static double noise(uint64_t *state) /* -1 to 1 */
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)*state / 9.3e18;
}

static struct machine_config config(const char *states)
{
    struct machine_config c = {.meter = "press", .on_w = 15, .off_w = 10, .gap_ms = 60000};
    assert_int_equal(machine_parse(states, &c), 0);
    return c;
}

static struct store *open_store(void **state, const char *name)
{
    struct store *s = NULL;
    struct store_report report;
    char why[512];
    assert_int_equal(store_open(folder_path(state, name), &s, &report, why, sizeof why), 0);
    return s;
}

/* An hour of the machine: 15 minutes off, 15 idle, 20 run with 5 of them at its peak, 10 idle. */
static double level(int64_t t_ms)
{
    const int64_t minute = t_ms % HOUR / 60000;
    return minute < 15   ? 2
           : minute < 30 ? 300
           : minute < 40 ? 2000
           : minute < 45 ? 5000
           : minute < 50 ? 2000
                         : 300;
}

struct sums {
    int64_t off, idle, run, peak, starts;
    double wh;
    int quarters;
};

static int add(void *context, const char *meter, const struct machines_quarter *q)
{
    struct sums *s = context;
    assert_string_equal(meter, "press");
    s->off += q->off_ms;
    s->idle += q->idle_ms;
    s->run += q->run_ms;
    s->peak += q->peak_ms;
    s->starts += q->starts;
    s->wh += q->wh;
    s->quarters++;
    return 0;
}

static struct sums total(struct store *s, int64_t from, int64_t to)
{
    struct sums sums = {0};
    assert_true(machines_list(s, "press", from, to, add, &sums) >= 0);
    return sums;
}

static void feed(struct machine *m, struct store *s, int64_t from, int64_t to)
{
    for (int64_t t = from; t < to; t += 5000) {
        uint64_t seed = (uint64_t)t; /* a reading depends on its time alone */
        noise(&seed);
        if (machine_reading(m, t, level(t) * (1 + 0.15 * noise(&seed))))
            assert_int_equal(machine_save(m, s, EVENT_TRACE), 0);
    }
}

static void test_learned(void **state)
{
    const struct machine_config c = config("auto");
    struct store *s = open_store(state, "a.db");
    struct machine_limits l;
    struct machine *m = NULL;
    assert_int_equal(machine_create(&c, NULL, 0, &m), 0);
    feed(m, s, DAY, DAY + HOUR);
    assert_true(machine_limits(m, &l) < 1);
    feed(m, s, DAY + HOUR, DAY + 24 * HOUR);
    assert_float_equal(machine_limits(m, &l), 1, 0);
    assert_true(l.run_w > 345 && l.run_w < 1700);
    assert_true(l.peak_w > 2300 && l.peak_w < 4250);
    assert_int_equal(machine_save(m, s, EVENT_TRACE), 0);
    /* the second half of the day, known by then: each hour as above, within 10 s a change */
    const struct sums h = total(s, DAY + 12 * HOUR, DAY + 24 * HOUR);
    assert_int_equal(h.quarters, 48);
    assert_int_equal(h.starts, 12);
    assert_true(llabs(h.off - 12 * 15 * 60000) < 12 * 20000);
    assert_true(llabs(h.idle - 12 * 25 * 60000) < 12 * 40000);
    assert_true(llabs(h.run - 12 * 15 * 60000) < 12 * 40000);
    assert_true(llabs(h.peak - 12 * 5 * 60000) < 12 * 20000);
    assert_true(fabs(h.wh - 12 * (0.5 + 125 + 500 + 416.7)) < 100);
    machine_destroy(m);
    store_close(s);
}

/* Killed anywhere, a replay from the start counts what one counts that nobody killed. */
static void test_restart(void **state)
{
    const struct machine_config c = config("auto");
    struct store *whole = open_store(state, "b.db"), *cut = open_store(state, "c.db");
    unsigned char saved[MACHINES_STATE_BYTES];
    struct machine *m = NULL;
    assert_int_equal(machine_create(&c, NULL, 0, &m), 0);
    feed(m, whole, DAY, DAY + 12 * HOUR);
    assert_int_equal(machine_save(m, whole, EVENT_TRACE), 0);
    machine_destroy(m);
    for (int64_t end = DAY + 1234567; end < DAY + 12 * HOUR + 4 * HOUR; end += 4 * HOUR) {
        const int n = machines_get_state(cut, "press", saved, sizeof saved);
        assert_true(n > 0 || n == -ENOENT);
        assert_int_equal(machine_create(&c, saved, n > 0 ? n : 0, &m), 0);
        feed(m, cut, DAY, end < DAY + 12 * HOUR ? end : DAY + 12 * HOUR);
        if (end > DAY + 12 * HOUR)
            assert_int_equal(machine_save(m, cut, EVENT_TRACE), 0);
        machine_destroy(m); /* what was not saved is lost, and comes again */
    }
    const struct sums a = total(whole, 0, INT64_MAX), b = total(cut, 0, INT64_MAX);
    assert_memory_equal(&a.off, &b.off, 5 * sizeof a.off);
    assert_int_equal(a.quarters, b.quarters);
    assert_float_equal(a.wh, b.wh, 1e-6);
    /* damaged bytes begin anew */
    saved[0] ^= 1;
    int64_t since;
    assert_int_equal(machine_create(&c, saved, (int)sizeof saved, &m), 0);
    assert_int_equal(machine_now(m, &since), MACHINE_OFF);
    machine_destroy(m);
    store_close(whole);
    store_close(cut);
}

/* Events of state changes as they wait, a line each. */
static void read_events(struct store *s, char *out, size_t size)
{
    static char buffer[65536];
    struct outbox_item items[64];
    uint64_t after = 0;
    size_t used = 0;
    out[0] = '\0';
    for (int n; (n = outbox_fetch(s, 1, after, items, 64, buffer, sizeof buffer)) > 0;)
        for (int i = 0; i < n; i++) {
            assert_int_equal(items[i].kind, OUTBOX_EVENT);
            assert_string_equal(items[i].channel, "press");
            used += (size_t)snprintf(out + used, size - used, "%s\n", items[i].body);
            assert_true(used < size);
            after = items[i].seq;
        }
}

static struct store *open_numbered(void **state, const char *name)
{
    struct store *s = open_store(state, name);
    int64_t epoch;
    assert_int_equal(outbox_start(s, DAY / 1000, &epoch), 0);
    return s;
}

/* Each change once, with the time at which it began, also when kills cut the work at any reading.
 */
static void test_change_events(void **state)
{
    static char one[65536], other[65536];
    struct machine_config c = config("500,3800");
    struct store *whole = open_numbered(state, "e.db"), *cut = open_numbered(state, "f.db");
    unsigned char saved[MACHINES_STATE_BYTES];
    struct machine *m = NULL;
    c.events = 1;
    assert_int_equal(machine_create(&c, NULL, 0, &m), 0);
    feed(m, whole, DAY, DAY + 5 * HOUR);
    machine_destroy(m);
    for (int64_t end = DAY + 1000000; end < DAY + 6 * HOUR; end += 317000) {
        const int n = machines_get_state(cut, "press", saved, sizeof saved);
        assert_int_equal(machine_create(&c, saved, n > 0 ? n : 0, &m), 0);
        feed(m, cut, DAY, end < DAY + 5 * HOUR ? end : DAY + 5 * HOUR);
        machine_destroy(m);
    }
    read_events(whole, one, sizeof one);
    read_events(cut, other, sizeof other);
    assert_string_equal(one, other);
    /* idle, run, peak, run, idle, off in each hour; in the first the machine is off at first */
    int count = 0;
    for (const char *p = one; (p = strchr(p, '\n')); p++)
        count++;
    assert_int_equal(count, 5 * 6 - 1);
    char first[512], again[512];
    snprintf(first, sizeof first,
             "{\"type\":\"state\",\"meter\":\"press\",\"time\":%" PRId64
             ",\"time_quality\":\"trace\","
             "\"state\":\"idle\",\"from\":\"off\",\"power\":",
             DAY + 15 * 60000);
    assert_memory_equal(one, first, strlen(first));
    snprintf(again, sizeof again,
             "\"time\":%" PRId64 ",\"time_quality\":\"trace\",\"state\":\"run\",",
             DAY + 30 * 60000);
    assert_non_null(strstr(one, again));
    assert_non_null(strstr(one, "\"duration\":900}"));
    store_close(whole);
    store_close(cut);
}

/* A disk that refuses: what fits is kept, what does not is counted. */
static void test_changes_that_wait(void **state)
{
    struct machine_config c = config("500");
    struct machine *m = NULL;
    (void)state;
    assert_int_equal(machine_create(&c, NULL, 0, &m), 0);
    for (int i = 0; i < 100; i++)
        machine_reading(m, DAY + i * 15000, i / 2 % 2 ? 1000 : 0);
    assert_int_equal(machine_changes(m), 0); /* not asked for */
    machine_destroy(m);
    c.events = 1;
    assert_int_equal(machine_create(&c, NULL, 0, &m), 0);
    for (int i = 0; i < 4 * (MACHINE_CHANGES + 5); i++)
        machine_reading(m, DAY + i * 15000, i / 4 % 2 ? 1000 : 0);
    assert_int_equal(machine_changes(m), MACHINE_CHANGES);
    assert_int_equal(machine_lost(m), 4);
    assert_int_equal(machine_lost(m), 0);
    machine_destroy(m);
}

static void learn_from(double *levels, int count, double spread, struct machine_limits *out)
{
    const struct machine_config c = config("auto");
    struct machine *m = NULL;
    uint64_t seed = 5;
    assert_int_equal(machine_create(&c, NULL, 0, &m), 0);
    for (int64_t t = 0; t < 12 * HOUR; t += 10000)
        machine_reading(m, DAY + t, levels[t / 600000 % count] * (1 + spread * noise(&seed)));
    assert_float_equal(machine_limits(m, out), 1, 0);
    machine_destroy(m);
}

/* One level is one class, however it trembles; two are idle and run, or run and peak when near. */
static void test_classes(void **state)
{
    struct machine_limits l;
    (void)state;
    learn_from((double[]){1000}, 1, 0.02, &l);
    assert_true(l.run_w == 0 && l.peak_w == 0);
    learn_from((double[]){1000}, 1, 0.3, &l);
    assert_true(l.run_w == 0 && l.peak_w == 0);
    learn_from((double[]){100, 1000}, 2, 0.1, &l);
    assert_true(l.run_w > 110 && l.run_w < 900 && l.peak_w == 0);
    learn_from((double[]){1000, 1800}, 2, 0.05, &l);
    assert_true(l.run_w == 0 && l.peak_w > 1050 && l.peak_w < 1710);
    learn_from((double[]){80, 80, 80, 80, 80, 80, 80, 80, 80, 900}, 10, 0.1, &l);
    assert_true(l.run_w > 88 && l.run_w < 810); /* a tenth of the time is enough */
}

static void test_given(void **state)
{
    struct machine_config c = config("500,3000");
    struct machine *m = NULL;
    int64_t since = 0;
    (void)state;
    assert_int_equal(machine_create(&c, NULL, 0, &m), 0);
    int64_t t = DAY;
    const struct {
        double watts;
        enum machine_state state;
    } steps[] = {{5, MACHINE_OFF},    {100, MACHINE_IDLE},  {600, MACHINE_RUN},
                 {470, MACHINE_RUN},  {3500, MACHINE_PEAK}, {2800, MACHINE_PEAK},
                 {2600, MACHINE_RUN}, {440, MACHINE_IDLE},  {3, MACHINE_OFF},
                 {3500, MACHINE_PEAK}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        const int64_t began = t;
        for (int k = 0; k < 20; k++, t += 1000)
            machine_reading(m, t, steps[i].watts);
        assert_int_equal(machine_now(m, &since), steps[i].state);
        if (i > 0 && steps[i].state != steps[i - 1].state)
            assert_int_equal(since, began);
    }
    /* shorter than ten seconds is nothing */
    for (int k = 0; k < 5; k++, t += 1000)
        machine_reading(m, t, 0);
    assert_int_equal(machine_now(m, &since), MACHINE_PEAK);
    machine_destroy(m);
    assert_int_equal(machine_parse("3000,500", &c), -EINVAL);
    assert_int_equal(machine_parse("x", &c), -EINVAL);
    assert_int_equal(machine_parse("-5", &c), -EINVAL);
    assert_int_equal(machine_parse("5,nan", &c), -EINVAL);
    assert_int_equal(machine_parse("off", &c), 0);
    assert_int_equal(c.mode, MACHINE_NONE);
}

/* A hole counts for nothing, and a disk that refuses for long keeps what fits. */
static void test_holes(void **state)
{
    const struct machine_config c = config("500");
    struct store *s = open_store(state, "d.db");
    struct machine *m = NULL;
    assert_int_equal(machine_create(&c, NULL, 0, &m), 0);
    for (int64_t t = 0; t < 2 * HOUR; t += 10000)
        if (t < HOUR / 2 || t >= HOUR)
            machine_reading(m, DAY + t, 1000);
    assert_int_equal(machine_save(m, s, EVENT_TRACE), 0);
    struct sums h = total(s, 0, INT64_MAX);
    assert_true(llabs(h.off + h.run - 3 * HOUR / 2) <= 20000);
    for (int64_t t = 2 * HOUR; t < 48 * HOUR; t += 30000)
        machine_reading(m, DAY + t, 1000);
    assert_int_equal(machine_waits(m), MACHINE_QUARTERS);
    assert_int_equal(machine_save(m, s, EVENT_TRACE), 0);
    assert_int_equal(machine_waits(m), 0);
    /* what is too old goes */
    machine_reading(m, DAY + MACHINE_KEPT_MS + 47 * HOUR, 1000);
    assert_int_equal(machine_save(m, s, EVENT_TRACE), 0);
    h = total(s, 0, INT64_MAX);
    assert_true(h.quarters <= 5);
    machine_destroy(m);
    store_close(s);
}

static void test_shifts(void **state)
{
    struct shift s[3];
    char why[128];
    int date = 0;
    (void)state;
    setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
    tzset();
    assert_int_equal(shift_parse("06:00-14:00 mon-fri", &s[0], why, sizeof why), 0);
    assert_int_equal(shift_parse("14:00-22:00 mon tue wed-fri", &s[1], why, sizeof why), 0);
    assert_int_equal(shift_parse("22:00-06:00 sun-thu", &s[2], why, sizeof why), 0);
    assert_int_equal(s[0].days, s[1].days);
    /* 2026-10-01 00:00 UTC is 02:00 in Berlin: the night that began on Wednesday */
    assert_int_equal(shift_at(s, 3, DAY, &date), 2);
    assert_int_equal(date, 20260930);
    assert_int_equal(shift_at(s, 3, DAY + 4 * HOUR, &date), 0);
    assert_int_equal(date, 20261001);
    assert_int_equal(shift_at(s, 3, DAY + 12 * HOUR - 1, &date), 0);
    assert_int_equal(shift_at(s, 3, DAY + 12 * HOUR, &date), 1);
    assert_int_equal(shift_at(s, 3, DAY + 20 * HOUR, &date), 2);
    assert_int_equal(date, 20261001);
    assert_int_equal(shift_at(s, 3, DAY + 44 * HOUR, &date), -1); /* Friday night */
    /* the night in which the clock is set back has nine hours, all of one date */
    const int64_t night = INT64_C(1792875600000); /* 2026-10-24 21:00 UTC, Saturday 23:00 */
    s[2].days = 127;
    for (int h = 0; h < 8; h++) {
        assert_int_equal(shift_at(&s[2], 1, night + h * HOUR, &date), 0);
        assert_int_equal(date, 20261024);
    }
    assert_int_equal(shift_at(&s[2], 1, night + 8 * HOUR, &date), -1);
    assert_int_equal(shift_parse("06:00-14:10", &s[0], why, sizeof why), -EINVAL);
    assert_int_equal(shift_parse("25:00-14:00", &s[0], why, sizeof why), -EINVAL);
    assert_int_equal(shift_parse("06:00-14:00 xyz", &s[0], why, sizeof why), -EINVAL);
    assert_int_equal(shift_parse("06:00-14:00 mon-", &s[0], why, sizeof why), -EINVAL);
    assert_int_equal(shift_parse("06:00", &s[0], why, sizeof why), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_learned),       cmocka_unit_test(test_restart),
        cmocka_unit_test(test_change_events), cmocka_unit_test(test_changes_that_wait),
        cmocka_unit_test(test_classes),       cmocka_unit_test(test_given),
        cmocka_unit_test(test_holes),         cmocka_unit_test(test_shifts),
    };
    return cmocka_run_group_tests(tests, folder_setup, folder_teardown);
}
