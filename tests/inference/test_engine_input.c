/* test_engine_input.c - levels from the merged tables against the plain count of thresholds, per
 * channel: ordinary thresholds and hostile ones (equal, subnormal, zeros of both signs, huge, all
 * in one cell of the index), samples on every threshold, at its neighbours, and anywhere else. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "inference/engine_input.h"
#include "inference/lib_random_model.h"

#define MOST_SAMPLES 8192

struct world {
    struct model m;
    float thresholds[MODEL_MAX_CHANNELS][MODEL_LEVELS];
    float watts[MOST_SAMPLES]; /* watts[0] is before the first sample */
    size_t samples;
};

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

static float from_bits(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof(x));
    return x;
}

/* Any finite float. */
static float any_float(uint64_t *s)
{
    float x = from_bits((uint32_t)random_next(s));

    return isfinite(x) ? x : FLT_MAX;
}

static float some_float(uint64_t *s, unsigned taste)
{
    static const float special[] = {0.0f,    -0.0f,    1e-45f, -1e-45f, FLT_MIN, -FLT_MIN,
                                    FLT_MAX, -FLT_MAX, 1.0f,   4000.0f, -4000.0f};

    switch (taste) {
    case 0:
        return special[random_below(s, sizeof(special) / sizeof(special[0]))];
    case 1: /* subnormal */
        return from_bits(random_below(s, 1u << 23) | random_below(s, 2) << 31);
    case 2: /* neighbours, as many as there may be thresholds, between others far away */
        return random_below(s, 20) ? from_bits(0x42c80000 + random_below(s, 2048)) : any_float(s);
    case 3:
        return any_float(s);
    case 4:
        return 5.0f;
    case 5: /* as the workshop makes them, nearly */
        return (float)random_below(s, 256) * (float)(1u << random_below(s, 5)) * 0.25f;
    default:
        return (float)((int)random_below(s, 16001) - 8000) * (random_below(s, 2) ? 0.25f : 1.0f);
    }
}

static void make_world(struct world *w, uint64_t seed)
{
    uint64_t s = seed;
    unsigned taste = random_below(&s, 8);
    uint32_t features = random_below(&s, 4); /* 0: linear, 1: differences, else mixed */

    memset(&w->m, 0, sizeof(w->m));
    w->m.dtype = MODEL_INT8;
    w->m.channel_count = 1 + random_below(&s, MODEL_MAX_CHANNELS);
    w->samples = 0;
    w->watts[w->samples++] = some_float(&s, taste);
    for (uint32_t c = 0; c < w->m.channel_count; c++) {
        float *t = w->thresholds[c];

        for (unsigned i = 0; i < MODEL_LEVELS; i++)
            t[i] = some_float(&s, taste == 7 ? random_below(&s, 7) : taste);
        qsort(t, MODEL_LEVELS, sizeof(*t), ascending);
        w->m.channels[c].thresholds = t;
        w->m.channels[c].feature = features == 0   ? MODEL_LINEAR
                                   : features == 1 ? MODEL_LOG_DIFF
                                                   : (enum model_feature)(1 + random_below(&s, 3));
        for (unsigned i = 0; i < MODEL_LEVELS; i++) {
            w->watts[w->samples++] = t[i];
            if (random_below(&s, 2)) /* the difference is exactly t[i], then, and to be -t[i] */
                w->watts[w->samples++] = 0.0f;
            w->watts[w->samples++] = fmaxf(nextafterf(t[i], -INFINITY), -FLT_MAX);
            w->watts[w->samples++] = fminf(nextafterf(t[i], INFINITY), FLT_MAX);
        }
    }
}

static int plain_level(const struct model_channel *c, float now, float before)
{
    float x = c->feature == MODEL_LOG_DIFF ? now - before : now;
    int count = 0;

    for (unsigned i = 0; i < MODEL_LEVELS; i++)
        count += c->thresholds[i] <= x;
    return count - 128;
}

static void check(const struct world *w, const struct engine_input *input, uint64_t seed,
                  uint64_t *s)
{
    uint32_t channels = w->m.channel_count;

    for (size_t at = 1, n; at < w->samples; at += n) {
        int8_t *columns;

        n = 1 + random_below(s, ENGINE_INPUT_BLOCK);
        n = n < w->samples - at ? n : w->samples - at;
        columns = malloc(n * channels); /* to size: sanitizers see what is written behind */
        engine_input_columns(input, w->watts + at, n, columns);
        for (size_t i = 0; i < n; i++)
            for (uint32_t c = 0; c < channels; c++) {
                float now = w->watts[at + i], before = w->watts[at + i - 1];
                int expected = plain_level(&w->m.channels[c], now, before);

                if (columns[i * channels + c] != expected)
                    fail_msg("seed %llu: channel %u, %a behind %a: level %d, expected %d",
                             (unsigned long long)seed, c, (double)now, (double)before,
                             columns[i * channels + c], expected);
            }
        free(columns);
    }
}

static void test_levels(void **state)
{
    struct world *w = malloc(sizeof(*w));
    uint32_t widest = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 150; seed++) {
        struct engine_input input;
        uint64_t s = seed;

        make_world(w, seed);
        assert_int_equal(engine_input_create(&w->m, &input), 0);
        widest = input.watts.step > widest ? input.watts.step : widest;
        check(w, &input, seed, &s);
        for (size_t i = 0; i < w->samples; i++)
            w->watts[i] = some_float(&s, random_below(&s, 7));
        check(w, &input, seed, &s);
        engine_input_free(&input);
    }
    assert_true(widest >= 512); /* there were cells with hundreds of thresholds */
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_levels)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
