/* test_kernels.c - every kernel set against sums in 64 bits, on random shapes and extreme numbers,
 * rows longer than a tile among them. Blocks are allocated to size, so that reading past an end is
 * seen under sanitizers. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "inference/kernels.h"
#include "inference/lib_random_model.h"

/* Names for NILM_CPU; those that this machine lacks are passed over. */
static const char *const sets[] = {"scalar"};

struct problem {
    struct kernels_layer l;
    int8_t *weights, *x, *y, *expected;
    int32_t *bias;
    uint32_t *multiplier;
    uint8_t *shift;
    size_t columns;
};

static void make(struct problem *p, uint64_t *s, uint32_t row, uint32_t stride, uint32_t outputs,
                 size_t columns)
{
    size_t weights = (size_t)row * outputs, inputs = row + (columns - 1) * stride;

    p->columns = columns;
    p->weights = malloc(weights);
    p->x = malloc(inputs);
    p->y = malloc(columns * outputs);
    p->expected = malloc(columns * outputs);
    p->bias = malloc(outputs * sizeof(int32_t));
    p->multiplier = malloc(outputs * sizeof(uint32_t));
    p->shift = malloc(outputs);
    for (size_t i = 0; i < weights; i++)
        p->weights[i] = (int8_t)((int)random_below(s, 255) - 127);
    for (size_t i = 0; i < inputs; i++)
        p->x[i] = (int8_t)((int)random_below(s, 256) - 128);
    if (random_below(s, 4) == 0) { /* the largest sums */
        memset(p->weights, random_below(s, 2) ? 127 : -127, weights);
        memset(p->x, random_below(s, 2) ? 127 : -128, inputs);
    }
    for (uint32_t o = 0; o < outputs; o++) {
        int64_t room = INT32_MAX - 128 * 127 * (int64_t)row;

        p->bias[o] = (int32_t)(random_next(s) % (uint64_t)room);
        p->bias[o] = random_below(s, 2) ? -p->bias[o] : p->bias[o] / 4096;
        p->multiplier[o] = (1u << 30) + random_below(s, 1u << 30);
        p->shift[o] = (uint8_t)(31 + random_below(s, 32));
    }
    p->l = (struct kernels_layer){.weights = p->weights,
                                  .bias = p->bias,
                                  .multiplier = p->multiplier,
                                  .shift = p->shift,
                                  .outputs = outputs,
                                  .row = row,
                                  .stride = stride,
                                  .zero = (int8_t)((int)random_below(s, 256) - 128)};
    p->l.low = random_below(s, 2) ? p->l.zero : INT8_MIN;
}

static void destroy(struct problem *p)
{
    free(p->weights);
    free(p->x);
    free(p->y);
    free(p->expected);
    free(p->bias);
    free(p->multiplier);
    free(p->shift);
}

static int64_t sum_of(const struct problem *p, size_t column, uint32_t o)
{
    int64_t sum = p->bias[o];

    for (uint32_t i = 0; i < p->l.row; i++)
        sum += (int64_t)p->weights[(size_t)o * p->l.row + i] * p->x[column * p->l.stride + i];
    return sum;
}

/* floor(a / 2^n + 1/2) in two steps, without shifting a negative number. */
static int64_t round_shift(int64_t a, unsigned n)
{
    int64_t b = (int64_t)1 << n, q = a / b, rest = a % b;

    if (rest < 0) {
        rest += b;
        q--;
    }
    return q + (rest >= b - rest);
}

static void check(const struct kernels *k, struct problem *p)
{
    int32_t *sums = malloc(p->l.outputs * sizeof(int32_t));

    for (size_t t = 0; t < p->columns; t++)
        for (uint32_t o = 0; o < p->l.outputs; o++) {
            int64_t y =
                p->l.zero + round_shift(sum_of(p, t, o) * (int64_t)p->multiplier[o], p->shift[o]);
            y = y < p->l.low ? p->l.low : y > 127 ? 127 : y;
            p->expected[t * p->l.outputs + o] = (int8_t)y;
        }
    memset(p->y, 0x55, p->columns * p->l.outputs);
    k->rows(&p->l, p->x, p->columns, p->y);
    assert_memory_equal(p->y, p->expected, p->columns * p->l.outputs);
    k->sums(&p->l, p->x, sums);
    for (uint32_t o = 0; o < p->l.outputs; o++)
        assert_int_equal(sums[o], sum_of(p, 0, o));
    free(sums);
}

static void test_products(void **state)
{
    /* row, stride, outputs, columns: around the scalar set's tiles, and the largest that a model
     * can have */
    static const uint32_t shapes[][4] = {
        {1, 1, 1, 1},       {2048, 1024, 3, 5}, {2049, 1, 2, 4},
        {2048, 1, 2, 2050}, {21, 3, 16, 600},   {65536, 1024, 1, 3},
        {65536, 1, 2, 1},   {64, 64, 7, 130},   {4, 1, 1, 9000}};
    uint64_t s = 11;

    (void)state;
    for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
        const struct kernels *k;
        struct problem p;

        if (kernels_select(sets[i], &k) != 0)
            continue;
        assert_string_equal(k->name, sets[i]);
        for (size_t j = 0; j < sizeof(shapes) / sizeof(shapes[0]); j++) {
            make(&p, &s, shapes[j][0], shapes[j][1], shapes[j][2], shapes[j][3]);
            check(k, &p);
            destroy(&p);
        }
        for (int j = 0; j < 400; j++) {
            uint32_t stride = 1 + random_below(&s, 70), taps = 1 + random_below(&s, 9);
            make(&p, &s, stride * taps, stride, 1 + random_below(&s, 40), 1 + random_below(&s, 40));
            check(k, &p);
            destroy(&p);
        }
    }
}

static void test_maxpool(void **state)
{
    uint64_t s = 12;

    (void)state;
    for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
        const struct kernels *k;

        if (kernels_select(sets[i], &k) != 0)
            continue;
        for (int j = 0; j < 500; j++) {
            size_t columns = 1 + random_below(&s, 20), channels = 1 + random_below(&s, 70);
            size_t pool = 1 + random_below(&s, 16);
            int8_t *x = malloc(columns * channels * pool), *y = malloc(columns * channels);

            for (size_t n = 0; n < columns * channels * pool; n++)
                x[n] = (int8_t)((int)random_below(&s, 256) - 128);
            k->maxpool(x, columns, channels, pool, y);
            for (size_t n = 0; n < columns * channels; n++) {
                int best = -129;
                for (size_t t = 0; t < pool; t++) {
                    int v = x[(n / channels * pool + t) * channels + n % channels];
                    best = v > best ? v : best;
                }
                assert_int_equal(y[n], best);
            }
            free(x);
            free(y);
        }
    }
}

static void test_select(void **state)
{
    const struct kernels *k;

    (void)state;
    assert_int_equal(kernels_select(NULL, &k), 0);
    assert_non_null(k);
    assert_int_equal(kernels_select("", &k), 0);
    assert_int_equal(kernels_select("scalar", &k), 0);
    assert_ptr_equal(k, &kernels_scalar);
    assert_int_equal(kernels_select("Scalar", &k), -ENOTSUP);
    assert_int_equal(kernels_select("scalar ", &k), -ENOTSUP);
    assert_null(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_maxpool),
        cmocka_unit_test(test_select),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
