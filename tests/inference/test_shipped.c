/* test_shipped.c - the shipped models give the same bits on every processor, compiler and kernel
 * set: their golden vectors, and hashes of all logits over whole windows and streams. The hashes
 * were taken on x86-64.
 *
 * After a change of a shipped model the test fails and prints the new hash: put it here once it is
 * the same under NILM_CPU=scalar and under the best set. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "inference/engine.h"
#include "inference/kernels.h"
#include "inference/lib_random_model.h"

static const struct {
    const char *path;
    uint64_t hash;
} shipped[] = {{"inference/models/identify-int8.nilm", 0x5d10aaf5ddf503a6u},
               {"inference/models/identify-pruned-int8.nilm", 0xfc41a6279551a3f6u},
               {"inference/models/mains-int8.nilm", 0x08a284043c93596eu},
               {"inference/models/mains-pruned-int8.nilm", 0x46bf28a9962f3fd0u}};

/* FNV-1a. */
static uint64_t add(uint64_t hash, const float *logits, size_t count)
{
    const unsigned char *bytes = (const unsigned char *)logits;

    for (size_t i = 0; i < count * sizeof(float); i++)
        hash = (hash ^ bytes[i]) * 1099511628211u;
    return hash;
}

/* A household's circuit: off, and loads of all sizes for a while each, with noise. */
static void household(uint64_t *s, float *watts, uint32_t count)
{
    float level = 0;

    for (uint32_t i = 0, left = 0; i < count; i++, left--) {
        if (left == 0) {
            left = 1 + random_below(s, 60);
            level =
                random_below(s, 3) ? (float)random_below(s, 1u << (3 + random_below(s, 10))) : 0;
        }
        watts[i] = level + (float)random_below(s, 64) / 16.0f;
    }
}

static uint64_t add_windows(uint64_t hash, const struct engine *e, void *scratch)
{
    const struct model *m = engine_model(e);
    float *watts = malloc((m->window + 1) * sizeof(float)), logits[MODEL_MAX_CLASSES];
    uint64_t s = 21;

    for (int i = 0; i < 64; i++) {
        if (i % 4 == 0)
            random_watts(&s, watts, m->window + 1);
        else
            household(&s, watts, m->window + 1);
        engine_run(e, scratch, watts, logits);
        hash = add(hash, logits, m->class_count);
    }
    free(watts);
    return hash;
}

static uint64_t add_stream(uint64_t hash, const struct engine *e, void *scratch)
{
    const struct model *m = engine_model(e);
    uint32_t count = m->window + 40 * engine_hop(e);
    float *watts = malloc(count * sizeof(float)), logits[MODEL_MAX_CLASSES];
    void *state = aligned_alloc(ENGINE_ALIGN, engine_state_bytes(e));
    uint64_t s = 22;

    household(&s, watts, count);
    engine_reset(e, state);
    for (uint32_t i = 0; i < count; i++)
        if (engine_push(e, state, scratch, watts[i], logits))
            hash = add(hash, logits, m->class_count);
    free(state);
    free(watts);
    return hash;
}

static void test_known_bits(void **state)
{
    static const uint32_t hops[] = {0, 32, 5}; /* 0: the model's */
    int wrong = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(shipped) / sizeof(shipped[0]); i++) {
        uint64_t hash = 14695981039346656037u;
        char why[256] = "";
        struct model *m;

        if (model_decode_file(shipped[i].path, &m, why, sizeof(why)) != 0)
            fail_msg("%s", why);
        for (size_t j = 0; j < sizeof(hops) / sizeof(hops[0]); j++) {
            struct engine *e;
            void *scratch;

            if (engine_create(m, hops[j], &e, why, sizeof(why)) != 0)
                fail_msg("%s", why);
            scratch = aligned_alloc(ENGINE_ALIGN, engine_scratch_bytes(e));
            assert_int_equal(engine_selftest(e), 0);
            if (j == 0)
                hash = add_windows(hash, e, scratch);
            hash = add_stream(hash, e, scratch);
            free(scratch);
            engine_free(e);
        }
        model_free(m);
        if (hash != shipped[i].hash) {
            print_error("%s: hash 0x%016llx\n", shipped[i].path, (unsigned long long)hash);
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_known_bits)};
    const struct kernels *k;

    if (kernels_select(getenv("NILM_CPU"), &k) != 0) {
        printf("no kernel set %s on this machine\n", getenv("NILM_CPU"));
        return 77; /* skipped */
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
