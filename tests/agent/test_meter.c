/* test_meter.c - the pipeline of one meter, and its exact resume after a kill (SPEC 4,
 * agent/meter.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "agent/sim.h"
#include "agent/test_meter_world.h"

#define T0 1700000000000LL

struct series {
    struct trace_reading *r;
    int n, room;
};

static void add(struct series *s, int64_t t_ms, double watts)
{
    if (s->n == s->room) {
        s->room = s->room ? s->room * 2 : 1024;
        s->r = realloc(s->r, (size_t)s->room * sizeof(*s->r));
        assert_non_null(s->r);
    }
    s->r[s->n++] = (struct trace_reading){t_ms, (float)watts};
}

/* Appends seconds of constant power, a reading every step. */
static void level(struct series *s, int64_t *t, double watts, int seconds, int step)
{
    for (int64_t end = *t + seconds * 1000LL; *t < end; *t += step * 1000LL)
        add(s, *t, watts);
}

static void feed(struct meter *m, const struct series *s, int from, int to)
{
    for (int i = from; i < to; i++)
        meter_reading(m, s->r[i].t_ms, s->r[i].watts);
}

static void names_a_kettle(void **state)
{
    (void)state;
    struct world w;
    struct world_model *model = world_model_create(1000, 7, 0);
    struct meter_config c = world_config();
    struct series s = {0};
    int64_t t = T0;
    world_init(&w);
    level(&s, &t, 1, 300, 2);
    level(&s, &t, 2400, 100, 2);
    level(&s, &t, 1, 300, 2);
    struct meter *m = world_meter(&w, &c, model->engine);
    feed(m, &s, 0, s.n);
    assert_int_equal(w.event_count, 3);
    assert_int_equal(w.events[0].type, EVENT_ON);
    assert_int_equal(w.events[0].time_ms, T0 + 300000);
    assert_true(fabs(w.events[0].power_w - 2399) < 1e-9);
    assert_string_equal(w.events[0].appliance, "unknown");
    assert_int_equal(w.events[1].type, EVENT_IDENTIFIED);
    assert_string_equal(w.events[1].appliance, "WaterKettle");
    const struct event *off = &w.events[2];
    assert_int_equal(off->type, EVENT_OFF);
    assert_string_equal(off->appliance, "WaterKettle");
    assert_string_equal(off->end_reason, "off");
    assert_true(off->confidence > 0.9);
    assert_int_equal(off->model, 7);
    assert_int_equal(off->start_ms, T0 + 300000);
    assert_int_equal(off->end_ms, T0 + 400000);
    assert_true(fabs(off->energy_wh - 2400.0 * 100 / 3600) < 1e-9);
    assert_true(fabs(off->power_w - 2400) < 1e-9);
    assert_true(fabs(off->peak_w - 2400) < 1e-9);
    assert_int_equal(w.routine_count, 1);
    assert_string_equal(w.routines[0].appliance, "WaterKettle");
    /* the next run is named at once: one circuit has one load behind it */
    level(&s, &t, 2400, 60, 2);
    level(&s, &t, 1, 60, 2);
    feed(m, &s, s.n - 60, s.n);
    assert_int_equal(w.event_count, 5);
    assert_string_equal(w.events[3].appliance, "WaterKettle");
    meter_destroy(m);
    world_model_free(model);
    world_free(&w);
    free(s.r);
}

static void renames_a_replugged_load(void **state)
{
    (void)state;
    struct world w;
    struct world_model *model = world_model_create(1000, 1, 0);
    struct meter_config c = world_config();
    struct series s = {0};
    int64_t t = T0;
    world_init(&w);
    for (int i = 0; i < 6; i++) {
        level(&s, &t, 2400, 120, 2);
        level(&s, &t, 0, 600, 2);
    }
    int kettle = s.n;
    for (int i = 0; i < 12; i++) {
        level(&s, &t, 40, 600, 2);
        level(&s, &t, 0, 600, 2);
    }
    struct meter *m = world_meter(&w, &c, model->engine);
    feed(m, &s, 0, kettle);
    assert_string_equal(w.events[w.event_count - 1].appliance, "WaterKettle");
    feed(m, &s, kettle, s.n);
    assert_string_equal(w.events[w.event_count - 1].appliance, "Lamp");
    int changes = 0;
    for (int i = 1; i < w.event_count; i++)
        changes += strcmp(w.events[i].appliance, w.events[i - 1].appliance) != 0;
    assert_in_range(changes, 1, 2); /* kettle, (unknown,) lamp: no flapping */
    meter_destroy(m);
    world_model_free(model);
    world_free(&w);
    free(s.r);
}

static void without_a_model(void **state)
{
    (void)state;
    struct world w;
    struct meter_config c = world_config();
    struct series s = {0};
    int64_t t = T0;
    world_init(&w);
    level(&s, &t, 0, 60, 2);
    level(&s, &t, 2400, 60, 2);
    level(&s, &t, 0, 34, 2);
    struct meter *m = world_meter(&w, &c, NULL);
    feed(m, &s, 0, s.n);
    assert_int_equal(w.event_count, 2);
    assert_string_equal(w.events[1].appliance, "unknown");
    assert_int_equal(w.events[1].model, 0);
    assert_int_equal(w.routine_count, 1); /* one load, whatever it is: its routine is learned */
    assert_string_equal(w.routines[0].appliance, "unknown");
    /* a model that comes later looks at what was before: the next reading is answered with a full
     * window */
    struct world_model *model = world_model_create(1000, 1, 0);
    assert_int_equal(meter_set_engine(m, model->engine), 0);
    level(&s, &t, 0, 10, 2);
    feed(m, &s, s.n - 5, s.n);
    struct meter_status status;
    meter_get_status(m, &status);
    assert_string_equal(status.appliance, "WaterKettle");
    assert_int_equal(status.engine_swaps, 1);
    assert_in_range(status.inferences, 1, 2);
    /* and what was learned goes on under the name */
    const int before = s.n;
    level(&s, &t, 2400, 60, 2);
    level(&s, &t, 0, 60, 2);
    feed(m, &s, before, s.n);
    assert_int_equal(w.routine_count, 1);
    assert_string_equal(w.routines[0].appliance, "WaterKettle");
    assert_int_equal(w.routines[0].runs, 2);
    meter_destroy(m);
    world_model_free(model);
    world_free(&w);
    free(s.r);
}

static void swaps_engines(void **state)
{
    (void)state;
    /* the same model again, at random moments: nothing that is published may change but the model's
     * version */
    struct world plain, swapped;
    struct world_model *a = world_model_create(1000, 1, 0), *b = world_model_create(1000, 2, 0);
    struct world_model *other = world_model_create(3000, 3, 1);
    struct meter_config c = world_config();
    struct series s = {0};
    int64_t t = T0;
    world_init(&plain);
    world_init(&swapped);
    for (int i = 0; i < 40; i++) {
        level(&s, &t, i % 3 ? 130 : 55, 100 + 7 * i, 1 + i % 4);
        level(&s, &t, 0, 90 + 11 * i, 1 + i % 5);
    }
    struct meter *m = world_meter(&plain, &c, a->engine), *n = world_meter(&swapped, &c, a->engine);
    struct meter_status status, other_status;
    for (int i = 0; i < s.n; i++) {
        feed(m, &s, i, i + 1);
        feed(n, &s, i, i + 1);
        if (i % 37 == 36)
            assert_int_equal(meter_set_engine(n, (i / 37) % 2 ? a->engine : b->engine), 0);
    }
    meter_get_status(m, &status);
    meter_get_status(n, &other_status);
    assert_int_equal(status.samples, other_status.samples);
    /* hops fall on other samples, so names may come at other moments; switchings and energy are the
     * same */
    int j = 0;
    for (int i = 0; i < plain.event_count; i++) {
        if (plain.events[i].type == EVENT_IDENTIFIED)
            continue;
        while (j < swapped.event_count && swapped.events[j].type == EVENT_IDENTIFIED)
            j++;
        assert_true(j < swapped.event_count);
        assert_int_equal(plain.events[i].type, swapped.events[j].type);
        assert_int_equal(plain.events[i].time_ms, swapped.events[j].time_ms);
        assert_true(plain.events[i].energy_wh == swapped.events[j].energy_wh);
        j++;
    }
    /* a model with another grid and another order of labels carries the belief over by name */
    char before[64];
    snprintf(before, sizeof(before), "%s", other_status.appliance);
    assert_int_equal(meter_set_engine(n, other->engine), 0);
    meter_get_status(n, &other_status);
    assert_string_equal(other_status.appliance, before);
    level(&s, &t, 0, 30, 1);
    feed(n, &s, s.n - 30, s.n);
    meter_destroy(m);
    meter_destroy(n);
    world_model_free(a);
    world_model_free(b);
    world_model_free(other);
    world_free(&plain);
    world_free(&swapped);
    free(s.r);
}

/* Days of simulated appliances at one plug, with holes, repeated and backward times. */
static void make_days(struct series *s)
{
    static const char *who[] = {"kettle", "fridge", "lamp", "microwave"};
    for (int day = 0; day < 8; day++) {
        struct sim *sim = NULL;
        struct trace_reading r;
        struct sim_run run;
        assert_int_equal(sim_create(who[day / 2], 5, T0 + day * 86400000LL, &sim), 0);
        int i = 0;
        do {
            sim_next(sim, &r, &run);
            i++;
            int64_t hour = r.t_ms / 3600000;
            if (hour % 11 == 3 && r.t_ms % 3600000 < 1000000)
                continue; /* a hole of 16 minutes */
            if (hour % 7 == 2 && r.t_ms % 600000 < 120000)
                continue; /* of two minutes */
            add(s, r.t_ms, r.watts);
            if (i % 50 == 0)
                add(s, r.t_ms, r.watts * 0.9);
            if (i % 50 == 0)
                add(s, r.t_ms, r.watts * 1.1);
            if (i % 333 == 0)
                add(s, r.t_ms - 3000, 777);
        } while (r.t_ms < T0 + (day + 1) * 86400000LL - 100000);
        sim_destroy(sim);
    }
}

static void resumes_exactly(void **state)
{
    (void)state;
    struct world whole, cut;
    struct world_model *model = world_model_create(2000, 1, 0);
    struct meter_config c = world_config();
    struct series s = {0};
    c.min_on_ms = 0; /* a repeated reading may then decide */
    world_init(&whole);
    make_days(&s);
    struct meter *m = world_meter(&whole, &c, model->engine);
    feed(m, &s, 0, s.n);
    meter_finish(m);
    meter_destroy(m);
    assert_true(whole.event_count > 100);
    assert_true(world_has(&whole, " gap") > 0);
    assert_true(world_has(&whole, "meter_silent raised") > 0);
    assert_true(world_has(&whole, "identified") == 0 && world_has(&whole, "3 ") > 0);
    /* killed after each outcome in turn (only some of them: each costs a whole replay), and many
     * times in one life */
    int step = whole.outcomes / 25 + 1;
    for (int first = 1; first <= whole.outcomes; first += step) {
        world_init(&cut);
        cut.stop_after = first;
        for (int life = 0; life < 2; life++) {
            m = world_meter(&cut, &c, model->engine);
            if (life)
                meter_restore(m, cut.progress_ms, &cut.open, cut.is_open, cut.state,
                              cut.state_bytes);
            for (int i = 0; i < s.n && (life || cut.outcomes < first); i++)
                feed(m, &s, i, i + 1);
            if (life)
                meter_finish(m);
            meter_destroy(m);
            cut.stop_after = 0;
        }
        assert_int_equal(cut.item_count, whole.item_count);
        for (int i = 0; i < whole.item_count; i++)
            assert_string_equal(cut.items[i].text, whole.items[i].text);
        assert_int_equal(cut.routine_count, whole.routine_count);
        assert_memory_equal(cut.routines, whole.routines, sizeof(whole.routines));
        world_free(&cut);
    }
    world_model_free(model);
    world_free(&whole);
    free(s.r);
}

static void resumes_after_each_outcome(void **state)
{
    (void)state;
    struct world whole, cut;
    struct world_model *model = world_model_create(1000, 1, 0);
    struct meter_config c = world_config();
    struct series s = {0};
    int64_t t = T0;
    world_init(&whole);
    world_init(&cut);
    for (int i = 0; i < 22; i++) {
        level(&s, &t, i == 17 || i == 18 ? 600 : 2400, i == 15 ? 1500 : 120, 3);
        level(&s, &t, 1, 200, 3);
        t += i == 4 ? 700000 : 0;
        level(&s, &t, i == 5 ? 80 : 0.5, 200, 3);
    }
    struct meter *m = world_meter(&whole, &c, model->engine);
    feed(m, &s, 0, s.n);
    meter_finish(m);
    meter_destroy(m);
    assert_int_equal(world_has(&whole, "left_on raised"), 1);
    assert_int_equal(world_has(&whole, "left_on cleared"), 1);
    assert_true(world_has(&whole, "power_unusual raised") >= 1);
    for (;;) { /* every life ends after one outcome */
        int before = cut.outcomes;
        cut.stop_after = before + 1;
        m = world_meter(&cut, &c, model->engine);
        if (before)
            meter_restore(m, cut.progress_ms, &cut.open, cut.is_open, cut.state,
                          cut.state_bytes);
        for (int i = 0; i < s.n && cut.outcomes == before; i++)
            feed(m, &s, i, i + 1);
        if (cut.outcomes == before)
            meter_finish(m);
        meter_destroy(m);
        if (cut.outcomes == before)
            break;
    }
    assert_int_equal(cut.outcomes, whole.outcomes);
    assert_int_equal(cut.item_count, whole.item_count);
    for (int i = 0; i < whole.item_count; i++)
        assert_string_equal(cut.items[i].text, whole.items[i].text);
    world_model_free(model);
    world_free(&whole);
    world_free(&cut);
    free(s.r);
}

static void refuses_damaged_state(void **state)
{
    (void)state;
    struct world w;
    struct meter_config c = world_config();
    unsigned char garbage[OUTCOME_STATE_BYTES];
    struct history_run open = {.start_ms = T0 - 60000,
                               .energy_wh = 40,
                               .peak_w = 2400,
                               .mean_w = 2400,
                               .confidence = 0.9,
                               .appliance = "WaterKettle"};
    world_init(&w);
    struct series s = {0};
    int64_t t = T0;
    level(&s, &t, 2400, 60, 2);
    struct meter *m = world_meter(&w, &c, NULL);
    feed(m, &s, 0, s.n);
    meter_destroy(m);
    /* bytes flipped at random must not crash, hang or leave the run open for ever */
    unsigned seed = 1;
    for (int round = 0; round < 2000; round++) {
        struct world v;
        world_init(&v);
        memcpy(garbage, w.state, sizeof(garbage));
        int size = round % 3 ? w.state_bytes : (int)(seed % OUTCOME_STATE_BYTES);
        for (int i = 0; i < 1 + round % 8; i++) {
            seed = seed * 1103515245u + 12345u;
            garbage[(seed >> 8) % (unsigned)w.state_bytes] ^=
                (unsigned char)(1u << (seed >> 28 & 7));
        }
        m = world_meter(&v, &c, NULL);
        meter_restore(m, T0, &open, 1, garbage, size);
        meter_reading(m, T0 + 2000, 2400);
        meter_reading(m, T0 + 4000, 1);
        meter_reading(m, T0 + 40000, 1);
        meter_finish(m);
        meter_destroy(m);
        world_free(&v);
    }
    /* none at all: the history's run is taken up and ended */
    struct world v;
    world_init(&v);
    m = world_meter(&v, &c, NULL);
    meter_restore(m, T0, &open, 1, NULL, 0);
    meter_reading(m, T0 + 2000, 1);
    meter_reading(m, T0 + 40000, 1);
    assert_int_equal(v.event_count, 1);
    assert_string_equal(v.events[0].appliance, "WaterKettle");
    assert_int_equal(v.events[0].start_ms, T0 - 60000);
    assert_int_equal(v.events[0].end_ms, T0 + 2000);
    assert_true(fabs(v.events[0].energy_wh - 40 - 2400 * 2 / 3600.0) < 1e-6);
    meter_destroy(m);
    world_free(&v);
    world_free(&w);
    free(s.r);
}

static void bad_readings(void **state)
{
    (void)state;
    struct world w;
    struct meter_config c = world_config();
    world_init(&w);
    struct meter *m = world_meter(&w, &c, NULL);
    assert_int_equal(meter_reading(m, T0, NAN), -EINVAL);
    assert_int_equal(meter_reading(m, T0, INFINITY), -EINVAL);
    assert_int_equal(meter_reading(m, T0, 2e7f), -EINVAL);
    assert_int_equal(meter_reading(m, T0, 5), 0);
    assert_int_equal(meter_reading(m, T0 - 1, 5), -ESTALE);
    assert_int_equal(meter_reading(m, T0, 5), 0);
    assert_int_equal(meter_reading(m, T0 - 7200000, 5), -ESTALE);
    struct meter_status status;
    meter_get_status(m, &status);
    assert_int_equal(status.dropped, 2);
    assert_int_equal(status.readings, 2);
    meter_destroy(m);
    world_free(&w);
}

static void live_silence_and_clock(void **state)
{
    (void)state;
    struct world w;
    struct meter_config c = world_config();
    c.quality = EVENT_CLOCK;
    world_init(&w);
    struct meter *m = world_meter(&w, &c, NULL);
    meter_tick(m, T0);
    meter_tick(m, T0 + 599000);
    assert_int_equal(w.alert_count, 0);
    meter_tick(m, T0 + 601000);
    meter_tick(m, T0 + 602000);
    assert_int_equal(w.alert_count, 1);
    meter_reading(m, T0 + 700000, 100);
    assert_int_equal(w.alert_count, 2);
    assert_int_equal(world_has(&w, "meter_silent cleared"), 1);
    meter_reading(m, T0 + 705000, 100);
    assert_int_equal(w.events[0].type, EVENT_ON);
    /* silence ends the run with its last reading */
    meter_tick(m, T0 + 705000 + 600001);
    assert_int_equal(w.event_count, 2);
    assert_string_equal(w.events[1].end_reason, "gap");
    assert_int_equal(w.events[1].end_ms, T0 + 705000);
    assert_int_equal(world_has(&w, "meter_silent raised"), 2);
    /* the clock is set back by a day: readings go on, a run in progress ends */
    meter_reading(m, T0 + 1400000, 100);
    meter_reading(m, T0 + 1405000, 100);
    assert_int_equal(w.event_count, 3);
    assert_int_equal(meter_reading(m, T0 - 86400000, 100), 0);
    assert_int_equal(w.event_count, 4);
    assert_string_equal(w.events[3].end_reason, "gap");
    meter_reading(m, T0 - 86400000 + 5000, 100);
    assert_int_equal(w.event_count, 5);
    assert_int_equal(w.events[4].time_ms, T0 - 86400000);
    /* a live meter that comes back does not wait for old readings */
    meter_destroy(m);
    m = world_meter(&w, &c, NULL);
    meter_restore(m, w.progress_ms, &w.open, w.is_open, w.state, w.state_bytes);
    meter_reading(m, w.progress_ms + 30000, 1);
    meter_reading(m, w.progress_ms + 61000, 1);
    assert_int_equal(w.event_count, 6);
    assert_string_equal(w.events[5].end_reason, "off");
    meter_destroy(m);
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_a_kettle),         cmocka_unit_test(renames_a_replugged_load),
        cmocka_unit_test(without_a_model),        cmocka_unit_test(swaps_engines),
        cmocka_unit_test(resumes_exactly),        cmocka_unit_test(resumes_after_each_outcome),
        cmocka_unit_test(refuses_damaged_state),  cmocka_unit_test(bad_readings),
        cmocka_unit_test(live_silence_and_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
