/* test_engine.c - the engine against an independent reference and against itself: whole windows,
 * streaming, golden vectors, bad input. Everything is compared bit for bit. */
#include <errno.h>
#include <math.h>
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

#define KNOWN_HASH 0xf8126c550b5a6d02u

static struct engine *create(const struct model *m, uint32_t hop)
{
    struct engine *e;
    char why[256] = "";

    if (engine_create(m, hop, &e, why, sizeof(why)) != 0)
        fail_msg("%s", why);
    return e;
}

/* Memory as a caller would have it, filled with rubbish. */
static void *memory(size_t size)
{
    void *p = aligned_alloc(ENGINE_ALIGN, size);

    assert_non_null(p);
    assert_int_equal(size % ENGINE_ALIGN, 0);
    memset(p, 0xa5, size);
    return p;
}

static void test_whole_equals_reference(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        struct model *m = random_model_create(seed, MODEL_INT8);
        struct engine *e = create(m, 0);
        void *scratch = memory(engine_scratch_bytes(e));
        float *watts = malloc((m->window + 1) * sizeof(float));
        float expected[MODEL_MAX_CLASSES], got[MODEL_MAX_CLASSES];
        uint64_t s = seed;

        for (int i = 0; i < 3; i++) {
            random_watts(&s, watts, m->window + 1);
            reference_run(m, watts, expected);
            engine_run(e, scratch, watts, got);
            if (memcmp(expected, got, m->class_count * sizeof(float)) != 0)
                fail_msg("seed %llu, window %d", (unsigned long long)seed, i);
        }
        free(watts);
        free(scratch);
        engine_free(e);
        random_model_free(m);
    }
}

/* Streams count samples and compares every result with the whole window. Returns how many results
 * there were. */
static unsigned check_stream(const struct model *m, uint32_t hop, const float *watts,
                             uint32_t count, uint64_t seed)
{
    struct engine *e = create(m, hop);
    void *state = memory(engine_state_bytes(e)), *scratch = memory(engine_scratch_bytes(e));
    float *window = malloc((m->window + 1) * sizeof(float));
    float got[MODEL_MAX_CLASSES], expected[MODEL_MAX_CLASSES];
    unsigned results = 0;

    hop = engine_hop(e);
    engine_reset(e, state);
    for (uint32_t n = 1; n <= count; n++) {
        int due = n >= m->window && (n - m->window) % hop == 0;
        const float *first = watts + n - m->window;

        if (engine_push(e, state, scratch, watts[n - 1], got) != due)
            fail_msg("seed %llu hop %u: result at sample %u, expected %d", (unsigned long long)seed,
                     hop, n, due);
        if (!due)
            continue;
        memset(scratch, 0x5a, engine_scratch_bytes(e)); /* holds nothing between calls */
        window[0] = n > m->window ? first[-1] : first[0];
        memcpy(window + 1, first, m->window * sizeof(float));
        engine_run(e, scratch, window, expected);
        if (memcmp(expected, got, m->class_count * sizeof(float)) != 0)
            fail_msg("seed %llu hop %u: the result at sample %u differs", (unsigned long long)seed,
                     hop, n);
        results++;
    }
    free(window);
    free(state);
    free(scratch);
    engine_free(e);
    return results;
}

/* Any hop, also one that shares no factor with the pools' stride, or is longer than what columns
 * could be shared. */
static void test_streaming_equals_whole(void **state)
{
    enum { SAMPLES = 700 };
    static float watts[SAMPLES];
    const char *text = getenv("NILM_CASES"); /* networks */
    uint64_t models = text ? strtoull(text, NULL, 10) : 80;
    unsigned results = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= models; seed++) {
        struct model *m = random_model_create(seed * 7919, MODEL_INT8);
        uint32_t hops[] = {0, 1, 2, 3, m->window, 1 + (uint32_t)(seed * 31 % m->window)};
        uint64_t s = seed;

        random_watts(&s, watts, SAMPLES);
        for (unsigned i = 0; i < sizeof(hops) / sizeof(hops[0]); i++)
            if (hops[i] <= m->window)
                results += check_stream(m, hops[i], watts, SAMPLES, seed * 7919);
        random_model_free(m);
    }
    printf("%llu networks, seeds 7919 to %llu in steps of 7919, %u results of streams\n",
           (unsigned long long)models, (unsigned long long)models * 7919, results);
    assert_true(models != 80 || results > 30000);
}

static void test_every_hop(void **state)
{
    enum { SAMPLES = 350 };
    static float watts[SAMPLES];

    (void)state;
    for (uint64_t seed = 20; seed <= 22; seed++) {
        struct model *m = random_model_create(seed, MODEL_INT8);
        uint64_t s = seed;

        random_watts(&s, watts, SAMPLES);
        for (uint32_t hop = 1; hop <= m->window; hop++)
            check_stream(m, hop, watts, SAMPLES, seed);
        random_model_free(m);
    }
}

static void test_article(void **state)
{
    enum { SAMPLES = 1700 };
    static const uint32_t hops[] = {1, 8, 12, 31, 32, 64, 100, 512};
    static float watts[SAMPLES];
    struct model *m = random_model_article(4, MODEL_INT8);
    struct engine *e = create(m, 32);
    uint64_t s = 4;

    (void)state;
    assert_true(engine_state_bytes(e) <= 4096); /* one meter */
    engine_free(e);
    random_watts(&s, watts, SAMPLES);
    for (unsigned i = 0; i < sizeof(hops) / sizeof(hops[0]); i++)
        assert_true(check_stream(m, hops[i], watts, hops[i] < 8 ? 600 : SAMPLES, 4) > 2);
    random_model_free(m);
}

/* Many meters in one call, some of them ahead of the others, against single calls: the same results
 * at the same samples. More are due at once than a batch takes, and fewer. */
static void check_many(const struct model *m, uint32_t hop, uint64_t seed)
{
    enum { METERS = 21, SAMPLES = 600, MOST = 40 };
    size_t samples;
    struct engine *e = create(m, hop);
    uint32_t classes = m->class_count;
    float *watts = malloc(METERS * MOST * sizeof(float)), *one = malloc(classes * sizeof(float));
    float *all = malloc(METERS * classes * sizeof(float));
    void *scratch = memory(engine_scratch_bytes(e)), *many = memory(engine_batch_scratch_bytes(e));
    void *single[METERS], *batched[METERS];
    uint8_t due[METERS];
    uint64_t s = seed;

    for (uint32_t i = 0; i < METERS; i++) {
        single[i] = memory(engine_state_bytes(e));
        batched[i] = memory(engine_state_bytes(e));
        engine_reset(e, single[i]);
        for (uint32_t n = 0; n < (i < 13 ? 0 : i); n++) {
            random_watts(&s, watts, 1);
            engine_push(e, single[i], scratch, watts[0], one);
        }
        memcpy(batched[i], single[i], engine_state_bytes(e));
    }
    for (uint32_t n = 0; n < SAMPLES; n += (uint32_t)samples) {
        size_t results = 0, got;

        samples = 1 + random_below(&s, engine_hop(e) < MOST ? engine_hop(e) : MOST);
        random_watts(&s, watts, (uint32_t)(METERS * samples));
        memset(many, 0x5a, engine_batch_scratch_bytes(e));
        got = engine_push_many(e, batched, METERS, many, watts, samples, all, due);
        for (uint32_t i = 0; i < METERS; i++) {
            int expected = 0;

            for (size_t k = 0; k < samples; k++)
                expected += engine_push(e, single[i], scratch, watts[i * samples + k], one);
            if (due[i] != expected ||
                (expected && memcmp(one, all + i * classes, classes * sizeof(float)) != 0))
                fail_msg("seed %llu hop %u: meter %u differs at sample %u",
                         (unsigned long long)seed, hop, i, n);
            results += (size_t)expected;
        }
        assert_int_equal(got, results);
    }
    for (uint32_t i = 0; i < METERS; i++) {
        assert_memory_equal(single[i], batched[i], engine_state_bytes(e));
        free(single[i]);
        free(batched[i]);
    }
    free(watts);
    free(one);
    free(all);
    free(scratch);
    free(many);
    engine_free(e);
}

static void test_many_meters(void **state)
{
    struct model *m = random_model_article(9, MODEL_INT8);

    (void)state;
    check_many(m, 32, 9);
    random_model_free(m);
    for (uint64_t seed = 100; seed < 112; seed++) {
        m = random_model_create(seed, MODEL_INT8);
        check_many(m, 0, seed);
        check_many(m, 1, seed);
        random_model_free(m);
    }
}

struct marks {
    int last, count;
};

static void note(void *context, int layer)
{
    struct marks *k = context;

    assert_true(layer > k->last || (layer == -1 && k->count == 0));
    k->last = layer;
    k->count++;
}

static void test_marks(void **state)
{
    struct model *m = random_model_article(3, MODEL_INT8);
    struct engine *e = create(m, 0);
    void *scratch = memory(engine_scratch_bytes(e));
    float *watts = calloc(m->window + 1, sizeof(float));
    float logits[MODEL_MAX_CLASSES], marked[MODEL_MAX_CLASSES];
    struct marks k = {-2, 0};

    (void)state;
    engine_run(e, scratch, watts, logits);
    engine_run_marked(e, scratch, watts, marked, note, &k);
    assert_memory_equal(logits, marked, m->class_count * sizeof(float));
    assert_int_equal(k.last, m->layer_count - 1);
    assert_true(k.count >= 1 + 5 + 2); /* the input, convolutions with their pools, dense layers */
    free(watts);
    free(scratch);
    engine_free(e);
    random_model_free(m);
}

/* Two meters on one engine with one scratch do not disturb each other, and a reset forgets. */
static void test_two_meters(void **state)
{
    enum { SAMPLES = 400 };
    static float a[SAMPLES], b[SAMPLES];
    struct model *m = random_model_create(77, MODEL_INT8);
    struct engine *e = create(m, 3);
    void *one = memory(engine_state_bytes(e)), *two = memory(engine_state_bytes(e));
    void *alone = memory(engine_state_bytes(e)), *scratch = memory(engine_scratch_bytes(e));
    float x[MODEL_MAX_CLASSES], y[MODEL_MAX_CLASSES];
    uint64_t s = 1;
    int results = 0;

    (void)state;
    random_watts(&s, a, SAMPLES);
    random_watts(&s, b, SAMPLES);
    engine_reset(e, one);
    engine_reset(e, two);
    engine_reset(e, alone);
    for (int i = 0; i < 57; i++)
        engine_push(e, alone, scratch, 1000.0f + (float)i, y);
    engine_reset(e, alone);
    for (int i = 0; i < SAMPLES; i++) {
        int due = engine_push(e, one, scratch, a[i], x);
        engine_push(e, two, scratch, b[i], y);
        /* a result that nobody wanted leaves the later ones as they are */
        int wanted = results % 3 != 1;
        assert_int_equal(engine_push(e, alone, scratch, a[i], wanted ? y : NULL), due);
        if (due && wanted)
            assert_memory_equal(x, y, m->class_count * sizeof(float));
        results += due;
    }
    assert_true(results > 10);
    free(one);
    free(two);
    free(alone);
    free(scratch);
    engine_free(e);
    random_model_free(m);
}

/* A NaN or an infinity counts as 0 W, in both ways of running. */
static void test_not_finite(void **state)
{
    const float bad[] = {NAN, INFINITY, -INFINITY};
    struct model *m = random_model_create(12, MODEL_INT8);
    struct engine *e = create(m, 1);
    void *one = memory(engine_state_bytes(e)), *two = memory(engine_state_bytes(e));
    void *scratch = memory(engine_scratch_bytes(e));
    float *dirty = malloc((m->window + 1) * sizeof(float));
    float *clean = malloc((m->window + 1) * sizeof(float));
    float x[MODEL_MAX_CLASSES], y[MODEL_MAX_CLASSES];
    uint64_t s = 3;

    (void)state;
    random_watts(&s, clean, m->window + 1);
    memcpy(dirty, clean, (m->window + 1) * sizeof(float));
    for (uint32_t i = 0; i <= m->window; i += 3) {
        dirty[i] = bad[i / 3 % 3];
        clean[i] = 0.0f;
    }
    engine_run(e, scratch, dirty, x);
    engine_run(e, scratch, clean, y);
    assert_memory_equal(x, y, m->class_count * sizeof(float));
    engine_reset(e, one);
    engine_reset(e, two);
    for (uint32_t i = 0; i <= m->window; i++) {
        int due = engine_push(e, one, scratch, dirty[i], x);
        assert_int_equal(engine_push(e, two, scratch, clean[i], y), due);
        if (due)
            assert_memory_equal(x, y, m->class_count * sizeof(float));
    }
    free(dirty);
    free(clean);
    free(one);
    free(two);
    free(scratch);
    engine_free(e);
    random_model_free(m);
}

/* Golden vectors made by the reference reproduce after a round trip through the file; one changed
 * bit anywhere fails. */
static void test_golden(void **state)
{
    struct model *m = random_model_create(31, MODEL_INT8), *decoded;
    struct model_golden broken[4];
    float logits[MODEL_MAX_CLASSES];
    struct engine *e;
    uint32_t bits;
    void *bytes;
    size_t size;

    (void)state;
    e = create(m, 0);
    assert_int_equal(engine_selftest(e), -ENOENT);
    engine_free(e);
    random_model_add_golden(m, 5, 4);
    assert_int_equal(model_encode(m, &bytes, &size, NULL, 0), 0);
    assert_int_equal(model_decode(bytes, size, &decoded, NULL, 0), 0);
    e = create(decoded, 0);
    assert_int_equal(engine_selftest(e), 0);
    engine_free(e);
    model_free(decoded);
    free(bytes);

    memcpy(broken, m->golden, sizeof(broken));
    memcpy(logits, m->golden[2].logits, m->class_count * sizeof(float));
    memcpy(&bits, &logits[m->class_count - 1], 4);
    bits ^= 1;
    memcpy(&logits[m->class_count - 1], &bits, 4);
    broken[2].logits = logits;
    m->golden = broken;
    e = create(m, 0);
    assert_int_equal(engine_selftest(e), 1);
    broken[0].watts = m->golden[1].watts;
    assert_int_equal(engine_selftest(e), 2);
    engine_free(e);
    random_model_free(m);
}

static void test_create_refuses(void **state)
{
    struct model *m = random_model_create(8, MODEL_INT8),
                 *fp32 = random_model_create(8, MODEL_FP32);
    struct engine *e;
    char why[256];

    (void)state;
    assert_int_equal(engine_create(fp32, 0, &e, why, sizeof(why)), -EINVAL);
    assert_non_null(strstr(why, "FP32"));
    assert_null(e);
    assert_int_equal(engine_create(m, m->window + 1, &e, why, sizeof(why)), -EINVAL);
    assert_non_null(strstr(why, "hop"));
    e = create(m, 0);
    assert_int_equal(engine_hop(e), m->hop);
    assert_ptr_equal(engine_model(e), m);
    engine_free(e);
    engine_free(NULL);
    random_model_free(m);
    random_model_free(fp32);
}

static void test_cpu_mask(void **state)
{
    struct model *m = random_model_create(8, MODEL_INT8);
    char *kept = getenv("NILM_CPU") ? strdup(getenv("NILM_CPU")) : NULL;
    struct engine *e;
    char why[256];

    (void)state;
    setenv("NILM_CPU", "scalar", 1);
    e = create(m, 0);
    assert_string_equal(engine_isa(e), "scalar");
    engine_free(e);
    setenv("NILM_CPU", "abacus", 1);
    assert_int_equal(engine_create(m, 0, &e, why, sizeof(why)), -ENOTSUP);
    assert_null(e);
    assert_non_null(strstr(why, "abacus"));
    setenv("NILM_CPU", "", 1);
    e = create(m, 0);
    engine_free(e);
    if (kept)
        setenv("NILM_CPU", kept, 1);
    else
        unsetenv("NILM_CPU");
    free(kept);
    random_model_free(m);
}

/* Against libm in a wider type, and exact where the result is known: softmax of equals, sigmoid(0),
 * far tails. */
static void test_probabilities(void **state)
{
    struct model *m = random_model_article(1, MODEL_INT8);
    struct engine *e = create(m, 0);
    float logits[32], p[32];
    uint64_t s = 9;

    (void)state;
    for (int round = 0; round < 2000; round++) {
        double total = 0.0, sum = 0.0;
        double spread = round % 4 == 0 ? 200.0 : 8.0;

        for (int i = 0; i < 32; i++) {
            logits[i] = (float)(spread * ((double)random_below(&s, 1 << 20) / (1 << 19) - 1.0));
            total += exp((double)logits[i]);
        }
        m->head = MODEL_SOFTMAX;
        engine_probabilities(e, logits, p);
        for (int i = 0; i < 32; i++) {
            double expected = exp((double)logits[i]) / total;
            assert_true(fabs((double)p[i] - expected) <= 1e-7 * expected + 1e-40);
            sum += (double)p[i];
        }
        assert_true(fabs(sum - 1.0) < 1e-5);
        m->head = MODEL_SIGMOID;
        engine_probabilities(e, logits, p);
        for (int i = 0; i < 32; i++) {
            double expected = 1.0 / (1.0 + exp(-(double)logits[i]));
            assert_true(fabs((double)p[i] - expected) <= 1e-7 * expected + 1e-40);
        }
    }
    for (int i = 0; i < 32; i++)
        logits[i] = 3.0e38f;
    m->head = MODEL_SOFTMAX;
    engine_probabilities(e, logits, logits); /* in place */
    for (int i = 0; i < 32; i++)
        assert_true(logits[i] == 1.0f / 32.0f);
    memset(logits, 0, sizeof(logits));
    logits[1] = 3.0e38f;
    logits[2] = -3.0e38f;
    m->head = MODEL_SIGMOID;
    engine_probabilities(e, logits, p);
    assert_true(p[0] == 0.5f && p[1] == 1.0f && p[2] == 0.0f);
    engine_free(e);
    random_model_free(m);
}

/* The bits of a softmax and a whole article run are the same on every machine, compiler and kernel
 * set: a change here means that models in the field would fail their self-test. */
static void test_known_bits(void **state)
{
    struct model *m = random_model_article(2, MODEL_INT8);
    struct engine *e = create(m, 0);
    void *scratch = memory(engine_scratch_bytes(e));
    float watts[513], logits[32], p[32];
    uint64_t s = 2, hash = 14695981039346656037u; /* FNV-1a */
    int spread = 0;

    (void)state;
    for (int i = 0; i < 513; i++)
        watts[i] = (float)random_below(&s, 3000);
    engine_run(e, scratch, watts, logits);
    for (size_t i = 0; i < sizeof(logits); i++)
        hash = (hash ^ ((unsigned char *)logits)[i]) * 1099511628211u;
    for (int i = 0; i < 32; i++)
        logits[i] = logits[i] / 512.0f;
    engine_probabilities(e, logits, p);
    for (int i = 0; i < 32; i++)
        spread += p[i] > 1e-4f && p[i] < 0.9f;
    assert_true(spread > 16); /* else the bits would say little */
    for (size_t i = 0; i < sizeof(p); i++)
        hash = (hash ^ ((unsigned char *)p)[i]) * 1099511628211u;
    if (hash != KNOWN_HASH)
        fail_msg("hash 0x%016llx", (unsigned long long)hash);
    free(scratch);
    engine_free(e);
    random_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_equals_reference),
        cmocka_unit_test(test_streaming_equals_whole),
        cmocka_unit_test(test_every_hop),
        cmocka_unit_test(test_article),
        cmocka_unit_test(test_many_meters),
        cmocka_unit_test(test_marks),
        cmocka_unit_test(test_two_meters),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_create_refuses),
        cmocka_unit_test(test_cpu_mask),
        cmocka_unit_test(test_probabilities),
        cmocka_unit_test(test_known_bits),
    };
    const struct kernels *k;

    if (kernels_select(getenv("NILM_CPU"), &k) != 0) {
        printf("no kernel set %s on this machine\n", getenv("NILM_CPU"));
        return 77; /* skipped */
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
