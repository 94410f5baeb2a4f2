/* test_detector.c - switching by threshold: the rules of agent/detector.h, against a second
 * implementation that sees the whole series at once, on random series and on measured days
 * (NILM_DATA). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/detector.h"
#include "inference/trace.h"

static const struct detector_config usual = {15, 10, 2000, 30000, 600000, 60000};

struct list {
    struct detector_run *runs;
    int n;
};

/* Readings with distinct, ascending times. */
struct series {
    int64_t *t;
    double *w;
    int n, room;
};

static void append(struct series *s, int64_t t, double w)
{
    if (s->n && t == s->t[s->n - 1]) {
        s->w[s->n - 1] = w;
        return;
    }
    if (s->n && t < s->t[s->n - 1])
        return;
    if (s->n == s->room) {
        s->room = s->room ? 2 * s->room : 4096;
        s->t = realloc(s->t, (size_t)s->room * sizeof(*s->t));
        s->w = realloc(s->w, (size_t)s->room * sizeof(*s->w));
        assert_true(s->t && s->w);
    }
    s->t[s->n] = t;
    s->w[s->n++] = w;
}

static void series_free(struct series *s)
{
    free(s->t);
    free(s->w);
}

static struct list detect(const struct series *s, const struct detector_config *c)
{
    struct detector d;
    struct detector_run run;
    struct list l = {calloc((size_t)s->n + 1, sizeof(*l.runs)), 0};
    assert_non_null(l.runs);
    detector_init(&d);
    for (int i = 0; i < s->n; i++) {
        if (detector_pass(&d, c, s->t[i], &run) == DETECTOR_OFF)
            l.runs[l.n++] = run;
        int was_on = d.on;
        enum detector_change change = detector_push(&d, c, s->t[i], s->w[i], &run);
        assert_int_equal(detector_check(&d), 0);
        assert_int_equal(change == DETECTOR_ON, !was_on && d.on);
        if (change == DETECTOR_OFF)
            l.runs[l.n++] = run;
    }
    if (detector_finish(&d, &run) == DETECTOR_OFF)
        l.runs[l.n++] = run;
    assert_int_equal(detector_finish(&d, &run), DETECTOR_NONE);
    return l;
}

/* First index of a stretch in [i, end) all on one side of level that confirms itself; -1.
 * *confirmed: where. */
static int stretch(const struct series *s, int i, int end, double level, int above, int64_t hold,
                   int *confirmed)
{
    for (; i < end; i++) {
        int j = i;
        while (j < end && (s->w[j] >= level) == above) {
            if (s->t[j] - s->t[i] >= hold) {
                *confirmed = j;
                return i;
            }
            j++;
        }
        i = j;
    }
    return -1;
}

/* The second implementation: cuts the series at its holes, then looks for stretches. */
static struct list truth(const struct series *s, const struct detector_config *c)
{
    struct list l = {calloc((size_t)s->n + 1, sizeof(*l.runs)), 0};
    assert_non_null(l.runs);
    for (int from = 0, to; from < s->n; from = to) {
        for (to = from + 1; to < s->n && s->t[to] - s->t[to - 1] <= c->silence_ms;)
            to++;
        for (int i = from, at = 0; i < to;) {
            int on = stretch(s, i, to, c->on_w, 1, c->min_on_ms, &at);
            if (on < 0)
                break;
            int off = stretch(s, at + 1, to, c->off_w, 0, c->min_off_ms, &i);
            struct detector_run *r = &l.runs[l.n++];
            r->reason = "off";
            if (off < 0) { /* open at the hole: ends with the last reading, or where it last fell */
                off = to;
                while (off > at + 1 && s->w[off - 1] < c->off_w)
                    off--;
                if (off == to) {
                    off = to - 1;
                    r->reason = to == s->n ? "stop" : "gap";
                }
                i = to;
            }
            r->start_ms = s->t[on];
            r->end_ms = s->t[off];
            r->peak_w = s->w[on];
            for (int k = on; k <= off; k++) {
                double held = k < off ? (double)(s->t[k + 1] - s->t[k]) : 0;
                if (held <= (double)c->max_gap_ms)
                    r->energy_wh += s->w[k] * held / 3600000;
                if (s->w[k] > r->peak_w)
                    r->peak_w = s->w[k];
            }
            i++;
        }
    }
    return l;
}

static void compare(const struct series *s, const struct detector_config *c, int *runs)
{
    struct list found = detect(s, c), true_ones = truth(s, c);
    assert_int_equal(found.n, true_ones.n);
    for (int i = 0; i < found.n; i++) {
        const struct detector_run *a = &found.runs[i], *b = &true_ones.runs[i];
        assert_int_equal(a->start_ms, b->start_ms);
        assert_int_equal(a->end_ms, b->end_ms);
        assert_string_equal(a->reason, b->reason);
        assert_true(fabs(a->energy_wh - b->energy_wh) <= 1e-9 * (1 + fabs(b->energy_wh)));
        assert_true(a->peak_w == b->peak_w);
    }
    *runs += found.n;
    free(found.runs);
    free(true_ones.runs);
}

static void rules_one_by_one(void **state)
{
    (void)state;
    struct detector d;
    struct detector_run r;
    detector_init(&d);
    /* a single reading above is no run; two that are min_on apart are one, stamped with the first
     */
    assert_int_equal(detector_push(&d, &usual, 1000, 0, &r), DETECTOR_NONE);
    assert_int_equal(detector_push(&d, &usual, 6000, 500, &r), DETECTOR_NONE);
    assert_int_equal(detector_push(&d, &usual, 11000, 3, &r), DETECTOR_NONE);
    assert_int_equal(detector_push(&d, &usual, 16000, 15, &r), DETECTOR_NONE);
    assert_int_equal(detector_push(&d, &usual, 17999, 100, &r), DETECTOR_NONE);
    assert_int_equal(detector_push(&d, &usual, 18000, 103, &r), DETECTOR_ON);
    assert_int_equal(r.start_ms, 16000);
    assert_true(r.step_w == 100);
    /* within the band it stays on; below it for less than min_off too */
    assert_int_equal(detector_push(&d, &usual, 20000, 10, &r), DETECTOR_NONE);
    assert_int_equal(detector_push(&d, &usual, 30000, 9.9, &r), DETECTOR_NONE);
    assert_int_equal(detector_push(&d, &usual, 59999, 0, &r), DETECTOR_NONE);
    assert_int_equal(detector_push(&d, &usual, 60500, 10, &r), DETECTOR_NONE);
    assert_int_equal(detector_push(&d, &usual, 61000, 4, &r), DETECTOR_NONE);
    assert_int_equal(detector_push(&d, &usual, 91000, 4, &r), DETECTOR_OFF);
    assert_int_equal(r.end_ms, 61000);
    assert_string_equal(r.reason, "off");
    double wms = 15 * 1999 + 100 * 1 + 103 * 2000.0 + 10 * 10000 + 9.9 * 29999 + 0 * 501 + 10 * 500;
    assert_true(fabs(r.energy_wh - wms / 3600000) < 1e-12);
    assert_true(fabs(r.mean_w - wms / 45000) < 1e-9);
    assert_true(r.peak_w == 103);
    /* min_on = 0: a meter that reports changes only */
    struct detector_config at_once = usual;
    at_once.min_on_ms = 0;
    assert_int_equal(detector_push(&d, &at_once, 100000, 2000, &r), DETECTOR_ON);
    /* a hole in a run: not counted beyond max_gap, ended beyond silence */
    assert_int_equal(detector_push(&d, &usual, 110000, 2000, &r), DETECTOR_NONE);
    assert_int_equal(detector_pass(&d, &usual, 310000, &r), DETECTOR_NONE);
    assert_int_equal(detector_push(&d, &usual, 310000, 2000, &r), DETECTOR_NONE);
    assert_int_equal(detector_pass(&d, &usual, 910001, &r), DETECTOR_OFF);
    assert_string_equal(r.reason, "gap");
    assert_int_equal(r.end_ms, 310000);
    assert_true(fabs(r.energy_wh - 2000 * 10 / 3600.0) < 1e-12);
    assert_true(fabs(r.mean_w - 2000) < 1e-9);
}

static uint32_t random_next(uint64_t *s)
{
    *s = *s * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(*s >> 33);
}

static void random_series(void **state)
{
    (void)state;
    uint64_t seed = 42;
    int runs = 0;
    static const double levels[] = {0, 9.99, 10, 12, 14.99, 15, 60, 2000, -5};
    for (int round = 0; round < 400; round++) {
        struct series s = {0};
        struct detector_config c = usual;
        c.min_on_ms = (int64_t)(random_next(&seed) % 3) * 3000;
        c.min_off_ms = (int64_t)(random_next(&seed) % 3) * 20000;
        int64_t t = 1000000;
        double w = 0;
        for (int i = 0; i < 600; i++) {
            uint32_t x = random_next(&seed) % 200;
            t += x == 0   ? 700000
                 : x == 1 ? 600000
                 : x == 2 ? 70000
                          : (random_next(&seed) % 8) * 1000;
            if (random_next(&seed) % 4 == 0)
                w = levels[random_next(&seed) % 9];
            append(&s, t, w);
        }
        compare(&s, &c, &runs);
        series_free(&s);
    }
    assert_true(runs > 3000);
}

static void measured_days(void **state)
{
    (void)state;
    const char *data = getenv("NILM_DATA");
    char pattern[1024], why[512];
    glob_t g;
    if (!data) {
        print_message("NILM_DATA is not set: measured days are left out\n");
        skip();
    }
    snprintf(pattern, sizeof(pattern), "%s/tracebase/sample/complete/*/*.csv", data);
    assert_int_equal(glob(pattern, 0, NULL, &g), 0);
    int runs = 0;
    for (size_t i = 0; i < g.gl_pathc; i++) {
        struct trace *t = NULL;
        struct trace_reading r;
        struct series s = {0};
        int rc;
        assert_int_equal(trace_open(g.gl_pathv[i], TRACE_AUTO, NULL, &t, why, sizeof(why)), 0);
        while ((rc = trace_next(t, &r)) != 0) {
            if (rc == 1)
                append(&s, r.t_ms, (double)r.watts);
        }
        trace_close(t);
        compare(&s, &usual, &runs);
        series_free(&s);
    }
    print_message("%zu days, %d runs\n", g.gl_pathc, runs);
    assert_true(g.gl_pathc >= 20 && runs > 100);
    globfree(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_one_by_one),
        cmocka_unit_test(random_series),
        cmocka_unit_test(measured_days),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
