/* What a meter keeps: the counts over the window, sharing the scratch with others, and its size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/meter_window.h"
#include "agent/sim_shapes.h"
#include "agent/test_meter_world.h"

#define T0 1700000000000
#define METERS 5
#define BYTES_OF_A_METER (16u * 1024u)

static uint32_t hole(const struct meter_window *w, uint32_t i)
{
    return w->holes[i / 8] >> (i % 8) & 1u;
}

/* The oldest sample of the ring is only the window's predecessor. */
static void recount(const struct meter_window *w)
{
    uint32_t active = 0, holes = 0;
    for (uint32_t i = 0; i <= w->window; i++) {
        if (i == w->at)
            continue;
        active += w->ring[i] >= w->min_activity_w;
        holes += hole(w, i);
    }
    assert_int_equal(w->active_count, active);
    assert_int_equal(w->hole_count, holes);
}

static void counts_are_those_of_the_window(void **state)
{
    (void)state;
    struct world_model *model = world_model_create(1000, 1, 0);
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct sim_random r = {seed};
        struct meter_scratch scratch = {0};
        struct meter_window w, other;
        int64_t t = T0;
        uint32_t holes = 0, results = 0;
        assert_int_equal(meter_window_init(&w, model->engine, 5000, &scratch), 0);
        for (int i = 0; i < 3000; i++) {
            const uint64_t kind = sim_random_next(&r) % 400;
            const int64_t step = kind == 0 ? 600000 : kind < 4 ? 20000 : 1000;
            const double top = (i / 150) % 2 ? 300 : 10;
            meter_window_push(&w, t += step, (float)sim_random_range(&r, 0, top));
            for (int rc; (rc = meter_window_next(&w)) >= 0;) {
                recount(&w);
                results += rc == 1;
                holes += w.hole_count > 0;
                if (rc == 1)
                    assert_true(w.active_count > 0 && w.hole_count * 4 <= w.window);
            }
            if (i % 500 == 499) { /* what a new engine takes over */
                assert_int_equal(meter_window_init(&other, model->engine, 5000, &scratch), 0);
                meter_window_prime(&other, &w);
                recount(&other);
                assert_int_equal(other.active_count, w.active_count);
                assert_int_equal(other.hole_count, w.hole_count);
                meter_window_free(&w);
                w = other;
            }
        }
        assert_true(holes > 0 && results > 0);
        meter_window_free(&w);
        meter_window_free_scratch(&scratch);
    }
    world_model_free(model);
}

static float some_watts(int meter, int second)
{
    static const float levels[METERS] = {60, 130, 2400, 700, 25};
    return (second / (90 + 31 * meter)) % 2 ? levels[meter] : 0;
}

/* Meters take turns with each reading and share scratch, of two models; each finds what it finds
 * alone. */
static void meters_do_not_mix(void **state)
{
    (void)state;
    struct world alone[METERS], together[METERS];
    struct meter *m[METERS];
    struct world_model *models[2] = {world_model_create(1000, 1, 0),
                                     world_model_create(3000, 2, 1)};
    struct meter_config c = world_config();
    for (int k = 0; k < METERS; k++) {
        world_init(&alone[k]);
        m[k] = world_meter(&alone[k], &c, models[k % 2]->engine);
        for (int i = 0; i < 3000; i++)
            meter_reading(m[k], T0 + i * 1000LL, some_watts(k, i));
        meter_finish(m[k]);
        meter_destroy(m[k]);
    }
    struct meter_shared *shared = NULL;
    assert_int_equal(meter_shared_create(&shared), 0);
    for (int k = 0; k < METERS; k++) {
        world_init(&together[k]);
        meter_shared_destroy(together[k].shared);
        together[k].shared = shared;
        m[k] = world_meter(&together[k], &c, models[k % 2]->engine);
    }
    for (int i = 0; i < 3000; i++)
        for (int k = 0; k < METERS; k++)
            meter_reading(m[k], T0 + i * 1000LL, some_watts(k, i));
    for (int k = 0; k < METERS; k++) {
        meter_finish(m[k]);
        meter_destroy(m[k]);
        assert_true(alone[k].event_count > 3);
        assert_int_equal(alone[k].item_count, together[k].item_count);
        for (int i = 0; i < alone[k].item_count; i++)
            assert_string_equal(alone[k].items[i].text, together[k].items[i].text);
        assert_int_equal(alone[k].state_bytes, together[k].state_bytes);
        assert_memory_equal(alone[k].state, together[k].state, (size_t)alone[k].state_bytes);
        together[k].shared = NULL;
        world_free(&alone[k]);
        world_free(&together[k]);
    }
    meter_shared_destroy(shared);
    world_model_free(models[0]);
    world_model_free(models[1]);
}

static void a_meter_is_small(void **state)
{
    (void)state;
    static const char *const paths[] = {"inference/models/identify-int8.nilm",
                                        "inference/models/identify-pruned-int8.nilm"};
    for (size_t i = 0; i < 2; i++) {
        struct model *model = NULL;
        struct engine *engine = NULL;
        struct meter_status status;
        struct world w;
        struct meter_config c = world_config();
        char why[256] = "";
        assert_int_equal(model_decode_file(paths[i], &model, why, sizeof(why)), 0);
        assert_int_equal(engine_create(model, 0, &engine, why, sizeof(why)), 0);
        world_init(&w);
        struct meter *m = world_meter(&w, &c, engine);
        meter_get_status(m, &status);
        assert_in_range(status.memory_bytes, engine_state_bytes(engine), BYTES_OF_A_METER);
        meter_destroy(m);
        world_free(&w);
        engine_free(engine);
        model_free(model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_are_those_of_the_window),
        cmocka_unit_test(meters_do_not_mix),
        cmocka_unit_test(a_meter_is_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
