/* test_model_fuzz.c - truncated and mutated model files: never a crash (the suite also runs under
 * sanitizers), refused or decoded into a model that runs, streams as it runs whole, and encodes
 * into the very same bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "inference/engine.h"
#include "inference/lib_model_file.h"
#include "inference/lib_random_model.h"

/* A small model and its file; tries seeds until one fits. */
static struct model *small_model(uint64_t *seed, enum model_dtype dtype, unsigned char **file,
                                 size_t *size)
{
    for (;; ++*seed) {
        struct model *m = random_model_create(*seed, dtype);

        if (dtype == MODEL_INT8)
            random_model_add_golden(m, *seed, 1);
        *file = model_file_encode(m, size);
        if (*size < 7000 && m->window > 8)
            return m;
        free(*file);
        random_model_free(m);
    }
}

/* SPEC 1.1: no prefix of a file is a file, even when size and check sum are made to fit. */
static void test_truncation(void **state)
{
    uint64_t seed = 1;
    unsigned char *file;
    size_t size;
    struct model *m = small_model(&seed, MODEL_INT8, &file, &size), *decoded;

    (void)state;
    for (size_t n = 0; n < size; n++) {
        unsigned char *cut = malloc(n ? n : 1); /* its own block: reading on would be seen */

        memcpy(cut, file, n);
        assert_true(model_decode(cut, n, &decoded, NULL, 0) < 0);
        assert_null(decoded);
        model_file_seal(cut, n);
        assert_true(model_decode(cut, n, &decoded, NULL, 0) < 0);
        assert_null(decoded);
        free(cut);
    }
    free(file);
    random_model_free(m);
}

static void check_runs(const struct model *m)
{
    struct engine *e;
    void *scratch, *stream;
    float *watts = calloc(m->window + 1, sizeof(float));
    float whole[MODEL_MAX_CLASSES], streamed[MODEL_MAX_CLASSES];
    uint64_t s = 1;

    assert_int_equal(engine_create(m, 0, &e, NULL, 0), 0);
    scratch = aligned_alloc(ENGINE_ALIGN, engine_scratch_bytes(e));
    stream = aligned_alloc(ENGINE_ALIGN, engine_state_bytes(e));
    random_watts(&s, watts + 1, m->window);
    watts[0] = watts[1];
    assert_true(engine_selftest(e) >= -2);
    engine_run(e, scratch, watts, whole);
    engine_reset(e, stream);
    for (uint32_t i = 1; i <= m->window; i++)
        assert_int_equal(engine_push(e, stream, scratch, watts[i], streamed), i == m->window);
    assert_memory_equal(whole, streamed, m->class_count * sizeof(float));
    free(watts);
    free(scratch);
    free(stream);
    engine_free(e);
}

/* One random change; values that are likely to hurt are likely. */
static void mutate(uint64_t *s, unsigned char *file, size_t size)
{
    static const uint32_t nasty[] = {
        0,           1,           2,           0x7f,        0x80,        0xff,        0xffff,
        0x7fffffffu, 0x80000000u, 0xffffffffu, 0x7fc00000u, 0x7f800000u, 0x00000001u, 0x3f800000u};
    /* half of the changes go to the part where structure is */
    uint32_t reach = random_below(s, 2) ? (uint32_t)size : 1000;
    uint32_t at = random_below(s, reach < size ? reach : (uint32_t)size);
    uint32_t value = nasty[random_below(s, sizeof(nasty) / sizeof(nasty[0]))];

    switch (random_below(s, 4)) {
    case 0:
        file[at] ^= (unsigned char)(1u << random_below(s, 8));
        break;
    case 1:
        file[at] = (unsigned char)random_below(s, 256);
        break;
    case 2:
        at &= ~3u;
        memcpy(file + at, &value, size - at < 4 ? size - at : 4);
        break;
    default:
        file[at] = (unsigned char)(file[at] + 1 - 2 * random_below(s, 2));
        break;
    }
}

static void test_mutations(void **state)
{
    unsigned accepted = 0, refused = 0;
    uint64_t s = 42, seed = 100;

    (void)state;
    for (int round = 0; round < 6; round++, seed++) {
        unsigned char *file, *broken;
        size_t size;
        enum model_dtype dtype = round % 3 == 2 ? MODEL_FP32 : MODEL_INT8;
        struct model *m = small_model(&seed, dtype, &file, &size);

        broken = malloc(size);
        for (int i = 0; i < 2000; i++) {
            struct model *decoded;
            void *again;
            size_t size_again;
            char why[256] = "";

            memcpy(broken, file, size);
            for (uint32_t n = 1 + random_below(&s, 3); n > 0; n--)
                mutate(&s, broken, size);
            model_file_seal(broken, size);
            if (model_decode(broken, size, &decoded, why, sizeof(why)) != 0) {
                assert_null(decoded);
                assert_true(why[0] != '\0');
                refused++;
                continue;
            }
            accepted++;
            assert_int_equal(model_encode(decoded, &again, &size_again, why, sizeof(why)), 0);
            assert_int_equal(size, size_again);
            assert_memory_equal(again, broken, size);
            free(again);
            if (decoded->dtype == MODEL_INT8 && i % 4 == 0)
                check_runs(decoded);
            model_free(decoded);
        }
        free(broken);
        free(file);
        random_model_free(m);
    }
    assert_true(accepted > 500 && refused > 500); /* both ways are well trodden */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_mutations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
