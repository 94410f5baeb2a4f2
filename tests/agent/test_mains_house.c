/* test_mains_house.c - a mains meter in a house of which a person has taught something: prototypes
 * beside the network's classes (agent/place_house.h, SPEC 7.4.4). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "agent/place_house.h"
#include "agent/test_mains_world.h"

/* A person's list of the household: two boils, and what else has their size was none. */
static const struct place_said boils[] = {{T0 + 4000000, T0 + 4160000},
                                          {T0 + 13000000, T0 + 13120000}};

static size_t collect(const struct house *h, struct place_pulse *out, size_t room)
{
    struct place_pulses p = {0};
    size_t n = 0;
    for (int s = 0; s < h->length_s && n < room; s += h->step_s)
        n += (size_t)place_pulses_push(&p, T0 + s * 1000LL, (float)house_watts(h, s), 60000,
                                       &out[n]);
    return n;
}

static void teach(struct place_house *house, const char *name, const struct place_said *said,
                  size_t count)
{
    struct place_pulse pulses[64];
    memset(house, 0, sizeof(*house));
    size_t n = collect(&household, pulses, 64);
    assert_int_equal(
        place_proto_learn(name, pulses, n, said, count, NULL, 0, NULL, T0, &house->protos[0]), 0);
    assert_int_equal(house->protos[0].pulses, 1);
    house->count = 1;
    house->version = 1;
}

static struct meter *taught_meter(struct world *w, const struct meter_config *c,
                                  struct sum_model *model, const struct place_house *house)
{
    struct meter *m = world_meter(w, c, model->engine);
    assert_int_equal(mains_set_house(meter_mains(m), house), 0);
    return m;
}

/* A class of the model is told by its prototype alone, once, and the books still add up. */
static void a_class_by_its_prototype(void **state)
{
    (void)state;
    struct world w;
    struct sum_model *model = sum_model_create(3);
    struct meter_config c = mains_config();
    struct place_house house;
    teach(&house, "WaterKettle", boils, 2);
    world_init(&w);
    struct meter *m = taught_meter(&w, &c, model, &house);
    feed(m, &household, 0, household.length_s);
    meter_finish(m);
    check_run(&w, "WaterKettle", 0, 4000, 4160, 97.8);
    assert_non_null(find(&w, EVENT_ON, "Refrigerator", 3));
    for (int i = 0; i < w.event_count; i++) /* the run with a pause is longer than a boil is */
        assert_true(strcmp(w.events[i].appliance, "WaterKettle") != 0 ||
                    w.events[i].start_ms != T0 + 12000000 || w.events[i].confidence > 0.5);
    check_books(m);
    end_world(m, &w, model);
}

/* A name that the model does not have takes the pulses away from what the model would call them. */
static void a_name_of_its_own(void **state)
{
    (void)state;
    struct world w;
    struct sum_model *model = sum_model_create(3);
    struct meter_config c = mains_config();
    struct place_house house;
    teach(&house, "still", boils, 2);
    world_init(&w);
    struct meter *m = taught_meter(&w, &c, model, &house);
    feed(m, &household, 0, household.length_s);
    meter_finish(m);
    const struct event *off = find(&w, EVENT_OFF, "still", 0);
    assert_non_null(off);
    assert_int_equal(off->start_ms, T0 + 4000000);
    assert_int_equal(off->end_ms, T0 + 4160000);
    for (int i = 0; i < w.event_count; i++)
        assert_false(!strcmp(w.events[i].appliance, "WaterKettle") &&
                     w.events[i].start_ms == T0 + 4000000);
    end_world(m, &w, model);
}

/* While a program runs whose heater takes as much, a pulse has to be more like what was named than
 * like what was not. */
static void a_pulse_or_a_heater(void **state)
{
    (void)state;
    static const struct span spans[] = {{1000, 1160, 2500},
                                        {3000, 3160, 2500},
                                        {5000, 5160, 2500},
                                        {8000, 14000, 10500}, /* the dishwasher */
                                        {11000, 11160, 2500}};
    static const struct place_said said[] = {{T0 + 1000000, T0 + 1160000},
                                             {T0 + 3000000, T0 + 3160000}};
    const struct house kitchen = {spans, 5, 18000, 8};
    struct place_pulse pulses[16];
    char why[256] = "";
    struct sum_model *model = sum_model_create(3);
    struct meter_config c = mains_config();
    static struct place_house house;
    struct place_proto *p = &house.protos[0];
    engine_free(model->engine); /* its dishwasher is on from 8 kW */
    model->bias[2] = -100 * (int32_t)lrint(255 * log1p(8000) / log1p(10000));
    assert_int_equal(engine_create(&model->m, 0, &model->engine, why, sizeof(why)), 0);
    assert_int_equal(collect(&kitchen, pulses, 16), 4);
    for (int wrong = 0; wrong < 4; wrong += 3) {
        struct world w;
        assert_int_equal(place_proto_learn("still", pulses, 2, said, 2, NULL, 0, NULL, T0, p), 0);
        for (p->wrong = 0; p->wrong < wrong; p->wrong++)
            p->wrongs[p->wrong] = p->rights[0];
        house.count = 1;
        house.version = 1;
        world_init(&w);
        struct meter *m = taught_meter(&w, &c, model, &house);
        feed(m, &kitchen, 0, kitchen.length_s);
        meter_finish(m);
        assert_non_null(find(&w, EVENT_ON, "Dishwasher", 0));
        int outside = 0, inside = 0;
        for (int i = 0; i < w.event_count; i++) {
            const struct event *e = &w.events[i];
            const int named = e->type == EVENT_OFF && !strcmp(e->appliance, "still");
            outside += named && e->start_ms == T0 + 5000000;
            inside += named && e->start_ms == T0 + 11000000;
        }
        assert_int_equal(outside, 1);
        assert_int_equal(inside, wrong == 0);
        check_books(m);
        meter_destroy(m);
        world_free(&w);
    }
    sum_model_free(model);
}

/* What the network finds begins so much earlier as it was late in the lesson. */
static void a_usual_lateness(void **state)
{
    (void)state;
    static const struct place_said said[] = {{T0 + 2900000, T0 + 4800000},
                                             {T0 + 8900000, T0 + 10800000},
                                             {T0 + 11804000, T0 + 13704000}};
    struct place_said found[3];
    struct world w;
    struct sum_model *model = sum_model_create(3);
    struct meter_config c = mains_config();
    static struct place_house house;
    for (int i = 0; i < 3; i++)
        found[i] = (struct place_said){said[i].start_ms + 100000, said[i].end_ms};
    struct place_proto *p = &house.protos[0];
    assert_int_equal(
        place_proto_learn("Refrigerator", NULL, 0, said, 3, found, 3, NULL, T0 + 5000000, p), 0);
    assert_int_equal(p->pulses, 0);
    assert_int_equal(p->early_ms, 100000);
    assert_in_range(p->least_s, 600, 760);
    house.count = 1;
    house.version = 1;
    world_init(&w);
    struct meter *m = taught_meter(&w, &c, model, &house);
    feed(m, &household, 0, household.length_s);
    meter_finish(m);
    check_run(&w, "Refrigerator", 0, 2900, 4800, 42.5);
    check_run(&w, "Refrigerator", 1, 8900, 10800, 42.5);
    check_run(&w, "WaterKettle", 0, 4000, 4160, 97.8);
    /* A second lesson about runs told with this knows that they were. */
    struct place_proto again;
    for (int i = 0; i < 3; i++)
        found[i].start_ms = said[i].start_ms + (said[i].start_ms < T0 + 5000000 ? 100000 : 0);
    assert_int_equal(
        place_proto_learn("Refrigerator", NULL, 0, said, 3, found, 3, p, T0 + 9000000, &again), 0);
    assert_int_equal(again.early_ms, 100000);
    end_world(m, &w, model);
}

/* A program is told once it is over, by when it heated; what the network says of that class is not.
 */
static void a_program_by_its_score(void **state)
{
    (void)state;
    static const struct span spans[] = {
        {1600, 1840, 2000}, {2800, 3100, 2000}, /* begins at 1000 */
        {8608, 8840, 2000}, {9800, 10100, 2000}, {14600, 14848, 2000}, {15808, 16104, 2000},
    };
    const struct house washer = {spans, 6, 20000, 8};
    const struct place_said said[] = {{T0 + 1000000, T0 + 3600000}, {T0 + 8000000, T0 + 10600000}};
    struct place_pulse pulses[16];
    struct world w;
    struct sum_model *model = sum_model_create(3);
    struct meter_config c = mains_config();
    static struct place_house house;
    size_t n = collect(&washer, pulses, 16);
    assert_int_equal(n, 6);
    memset(&house, 0, sizeof(house));
    assert_int_equal(
        place_proto_learn("Dishwasher", pulses, 4, said, 2, NULL, 0, NULL, T0, &house.protos[0]),
        0);
    assert_int_equal(house.protos[0].scores, 2);
    house.count = 1;
    house.version = 1;
    world_init(&w);
    struct meter *m = taught_meter(&w, &c, model, &house);
    feed(m, &washer, 0, washer.length_s);
    meter_finish(m);
    for (int i = 0; i < 3; i++) {
        static const int from[] = {1000, 8000, 14000};
        const struct event *on = find(&w, EVENT_ON, "Dishwasher", i),
                           *off = find(&w, EVENT_OFF, "Dishwasher", i);
        assert_non_null(on);
        assert_non_null(off);
        assert_true(llabs(on->time_ms - (T0 + from[i] * 1000LL)) <= 16000);
        assert_int_equal(off->start_ms, on->start_ms);
        assert_true(llabs(off->end_ms - (T0 + (from[i] + 2600) * 1000LL)) <= 16000);
        assert_true(on->confidence > 0.9);
    }
    assert_null(find(&w, EVENT_ON, "Dishwasher", 3));
    end_world(m, &w, model);
}

/* Another version of the model: what was taught stays. */
static void a_model_swap(void **state)
{
    (void)state;
    struct world w;
    struct sum_model *model = sum_model_create(3), *next = sum_model_create(4);
    struct meter_config c = mains_config();
    struct place_house house;
    teach(&house, "still", boils, 2);
    world_init(&w);
    struct meter *m = taught_meter(&w, &c, model, &house);
    feed(m, &household, 0, 7000);
    assert_int_equal(meter_set_engine(m, next->engine), 0);
    feed(m, &household, 7000 / 8 * 8, household.length_s);
    meter_finish(m);
    const struct event *off = find(&w, EVENT_OFF, "still", 0);
    assert_non_null(off);
    assert_int_equal(off->model, 3);
    off = find(&w, EVENT_OFF, "still", 1);
    assert_non_null(off);
    assert_int_equal(off->model, 4);
    end_world(m, &w, model);
    sum_model_free(next);
}

/* Killed after every outcome, it says what it would have said. */
static void resumes_exactly(void **state)
{
    (void)state;
    struct world whole;
    struct sum_model *model = sum_model_create(3);
    struct meter_config c = mains_config();
    struct place_house house;
    teach(&house, "WaterKettle", boils, 2);
    world_init(&whole);
    struct meter *m = taught_meter(&whole, &c, model, &house);
    feed(m, &household, 0, household.length_s);
    meter_finish(m);
    meter_destroy(m);
    assert_true(whole.outcomes > 8);
    for (int kill = 1; kill < whole.outcomes; kill++) {
        struct world w;
        struct history_run open[32];
        int count;
        world_init(&w);
        w.stop_after = kill;
        m = taught_meter(&w, &c, model, &house);
        feed(m, &household, 0, household.length_s);
        meter_destroy(m);
        w.stop_after = 0;
        copy_history(&w, open, &count);
        m = taught_meter(&w, &c, model, &house);
        meter_restore(m, w.progress_ms, open, count, w.state, w.state_bytes);
        feed(m, &household, 0, household.length_s);
        meter_finish(m);
        assert_int_equal(w.item_count, whole.item_count);
        for (int i = 0; i < w.item_count; i++)
            assert_string_equal(w.items[i].text, whole.items[i].text);
        meter_destroy(m);
        world_free(&w);
    }
    world_free(&whole);
    sum_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_class_by_its_prototype), cmocka_unit_test(a_name_of_its_own),
        cmocka_unit_test(a_pulse_or_a_heater),      cmocka_unit_test(a_usual_lateness),
        cmocka_unit_test(a_program_by_its_score),   cmocka_unit_test(a_model_swap),
        cmocka_unit_test(resumes_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
