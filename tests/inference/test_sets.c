/* test_sets.c - every kernel set that this machine has, as whole engines: on random networks,
 * shapes, weights and watts each gives scalar's logits bit for bit, whole window and streamed.
 *
 * A case is one network: a window by itself, then a stream with a random hop, of which every result
 * is compared with scalar's whole window of those samples. One in eight networks is wider than the
 * sets' blocks. The first seed is NILM_SEED, or 1, the number of cases NILM_CASES, or 400; a
 * failure names the seed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "inference/engine.h"
#include "inference/kernels.h"
#include "inference/lib_random_model.h"
#include "inference/lib_reference.h"

/* scalar first: the others are compared with it. */
static const char *const sets[] = {"scalar",     "avx2", "avxvnni",
                                   "avx512vnni", "neon", "neon_dotprod"};

enum { RESULTS = 4, SETS = sizeof(sets) / sizeof(sets[0]) };

struct problem {
    uint64_t seed;
    struct model *m;
    uint32_t hop, samples; /* samples: of the stream, as many as RESULTS need */
    float *watts;          /* [samples] */
    float expected[RESULTS][MODEL_MAX_CLASSES];
};

static struct engine *create(const struct problem *p, const char *set)
{
    struct engine *e;
    char why[256] = "";

    setenv("NILM_CPU", set, 1);
    if (engine_create(p->m, p->hop, &e, why, sizeof(why)) != 0)
        fail_msg("seed %llu: %s", (unsigned long long)p->seed, why);
    assert_string_equal(engine_isa(e), set);
    return e;
}

/* Window k of the stream, with the sample before it; in front of the first it is repeated. */
static void window_of(const struct problem *p, uint32_t k, float *window)
{
    const float *first = p->watts + (size_t)k * p->hop;

    window[0] = k ? first[-1] : first[0];
    memcpy(window + 1, first, p->m->window * sizeof(float));
}

static void same(const struct problem *p, const char *set, const char *how, uint32_t k,
                 const float *logits)
{
    if (memcmp(logits, p->expected[k], p->m->class_count * sizeof(float)) != 0)
        fail_msg("seed %llu: %s, %s, hop %u, result %u differs", (unsigned long long)p->seed, set,
                 how, p->hop, k);
}

static void check_set(struct problem *p, const char *set)
{
    struct engine *e = create(p, set);
    void *state = aligned_alloc(ENGINE_ALIGN, engine_state_bytes(e));
    void *scratch = aligned_alloc(ENGINE_ALIGN, engine_scratch_bytes(e));
    float *window = malloc((p->m->window + 1) * sizeof(float));
    float logits[MODEL_MAX_CLASSES];
    uint32_t results = 0;

    for (uint32_t k = 0; k < RESULTS; k++) {
        window_of(p, k, window);
        engine_run(e, scratch, window, set == sets[0] ? p->expected[k] : logits);
        if (set != sets[0])
            same(p, set, "whole window", k, logits);
    }
    memset(state, 0xa5, engine_state_bytes(e));
    engine_reset(e, state);
    for (uint32_t n = 0; n < p->samples; n++)
        if (engine_push(e, state, scratch, p->watts[n], logits)) {
            assert_true(results < RESULTS);
            same(p, set, "streamed", results++, logits);
        }
    assert_int_equal(results, RESULTS);
    free(window);
    free(state);
    free(scratch);
    engine_free(e);
}

/* Scalar itself against the reference, on the first window. */
static void check_scalar(const struct problem *p)
{
    float *window = malloc((p->m->window + 1) * sizeof(float));
    float logits[MODEL_MAX_CLASSES];

    window_of(p, 0, window);
    reference_run(p->m, window, logits);
    same(p, sets[0], "reference", 0, logits);
    free(window);
}

static void check(uint64_t seed)
{
    struct problem p = {.seed = seed};
    uint64_t s = seed * 0x9e3779b9u;

    p.m = seed % 8 ? random_model_create(s, MODEL_INT8) : random_model_wide(s);
    p.hop = 1 + random_below(&s, random_below(&s, 2) && p.m->window > 16 ? 16 : p.m->window);
    p.samples = p.m->window + (RESULTS - 1) * p.hop;
    p.watts = malloc(p.samples * sizeof(float));
    random_watts(&s, p.watts, p.samples);
    check_set(&p, sets[0]);
    if (seed % 16 < 2)
        check_scalar(&p);
    for (size_t i = 1; i < SETS; i++) {
        const struct kernels *k;

        if (kernels_select(sets[i], &k) == 0)
            check_set(&p, sets[i]);
    }
    free(p.watts);
    random_model_free(p.m);
}

static void test_sets_equal_scalar(void **state)
{
    const char *text = getenv("NILM_SEED"), *count = getenv("NILM_CASES");
    uint64_t first = text ? strtoull(text, NULL, 10) : 1;
    uint64_t cases = count ? strtoull(count, NULL, 10) : 400;

    (void)state;
    assert_true(cases > 0);
    for (uint64_t seed = first; seed < first + cases; seed++)
        check(seed);
    printf("%llu networks, seeds %llu to %llu, each whole and streamed, equal under:",
           (unsigned long long)cases, (unsigned long long)first,
           (unsigned long long)(first + cases - 1));
    for (size_t i = 0; i < SETS; i++) {
        const struct kernels *k;

        if (kernels_select(sets[i], &k) == 0)
            printf(" %s", sets[i]);
    }
    printf("\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sets_equal_scalar)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
