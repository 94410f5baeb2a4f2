/* test_kernels.c - every kernel set that this machine has against sums in 64 bits, on random shapes
 * and extreme numbers, rows longer than a tile among them. Blocks are allocated to size, so that
 * reading past an end is seen under sanitizers.
 *
 * The random problems' first seed is NILM_SEED, or 1, and their number NILM_CASES, or 20000; a
 * failure names the seed of its problem. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "inference/kernels.h"
#include "inference/lib_random_model.h"

/* Names for NILM_CPU; those that this machine lacks are passed over. */
static const char *const sets[] = {"scalar",     "avx2", "avxvnni",
                                   "avx512vnni", "neon", "neon_dotprod"};

struct problem {
    struct kernels_layer l;
    int8_t *weights, *x, *y, *expected;
    int32_t *bias, *sums;
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
    p->sums = malloc(outputs * sizeof(int32_t));
    p->multiplier = malloc(outputs * sizeof(uint32_t));
    p->shift = malloc(outputs);
    for (size_t i = 0; i < weights; i++)
        p->weights[i] = (int8_t)((int)random_below(s, 255) - 127);
    for (size_t i = 0; i < inputs; i++)
        p->x[i] = (int8_t)((int)random_below(s, 256) - 128);
    if (random_below(s, 8) == 0) /* the largest products, of either sign */
        for (size_t i = 0; i < weights; i++)
            p->weights[i] = random_below(s, 2) ? 127 : -127;
    if (random_below(s, 8) == 0)
        for (size_t i = 0; i < inputs; i++)
            p->x[i] = random_below(s, 2) ? 127 : -128;
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
    free(p->sums);
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

/* expected by the rounding rule, and the sums of column 0. */
static void solve(struct problem *p)
{
    for (size_t t = 0; t < p->columns; t++)
        for (uint32_t o = 0; o < p->l.outputs; o++) {
            int64_t sum = sum_of(p, t, o);
            int64_t y = p->l.zero + round_shift(sum * (int64_t)p->multiplier[o], p->shift[o]);
            y = y < p->l.low ? p->l.low : y > 127 ? 127 : y;
            p->expected[t * p->l.outputs + o] = (int8_t)y;
            if (t == 0)
                p->sums[o] = (int32_t)sum;
        }
}

static int8_t larger(int8_t a, int8_t b)
{
    return a > b ? a : b;
}

/* As many columns as there are, pooled. NULL when nothing is wrong. */
static const char *wrong_pooled(const struct kernels *k, struct problem *p, size_t pool)
{
    size_t n = p->l.outputs, pooled = p->columns / pool;
    int8_t *y = malloc(pooled * n + 1);
    int same = 1;

    y[pooled * n] = 0x55;
    if (pooled)
        k->rows_pooled(&p->l, p->x, pooled, pool, y);
    for (size_t t = 0; t < pooled; t++)
        for (size_t o = 0; o < n; o++) {
            int8_t best = INT8_MIN;

            for (size_t i = 0; i < pool; i++)
                best = larger(best, p->expected[(t * pool + i) * n + o]);
            same &= y[t * n + o] == best;
        }
    same &= y[pooled * n] == 0x55;
    free(y);
    return same ? NULL : pool == 2 ? "rows_pooled by 2" : "rows_pooled by 4";
}

/* Returns what is wrong, NULL when nothing is. */
static const char *wrong_rows(const struct kernels *k, struct problem *p)
{
    size_t n = p->l.outputs;
    const char *wrong;

    memset(p->y, 0x55, p->columns * n);
    k->rows(&p->l, p->x, p->columns, p->y);
    if (memcmp(p->y, p->expected, p->columns * n) != 0)
        return "rows";
    if (!k->rows_pooled)
        return NULL;
    wrong = wrong_pooled(k, p, 2);
    return wrong ? wrong : wrong_pooled(k, p, 4);
}

static const char *wrong_sums(const struct kernels *k, const struct problem *p)
{
    int32_t *sums = malloc(p->l.outputs * sizeof(int32_t));
    int same;

    k->sums(&p->l, p->x, sums);
    same = memcmp(sums, p->sums, p->l.outputs * sizeof(int32_t)) == 0;
    free(sums);
    return same ? NULL : "sums";
}

/* All sets on one problem. Returns how many there are. */
static unsigned check(struct problem *p, uint64_t seed)
{
    unsigned checked = 0;

    solve(p);
    for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
        const struct kernels *k;
        const char *wrong;
        void *packed = NULL;

        if (kernels_select(sets[i], &k) != 0)
            continue;
        assert_string_equal(k->name, sets[i]);
        if (k->packed_bytes) {
            assert_int_equal(posix_memalign(&packed, KERNELS_ALIGN, k->packed_bytes(&p->l)), 0);
            k->pack(&p->l, packed);
        }
        p->l.packed = packed;
        wrong = wrong_rows(k, p);
        if (!wrong)
            wrong = wrong_sums(k, p);
        if (wrong)
            fail_msg("%s of %s: seed %llu, row %u, stride %u, outputs %u, columns %zu", wrong,
                     k->name, (unsigned long long)seed, p->l.row, p->l.stride, p->l.outputs,
                     p->columns);
        free(packed);
        checked++;
    }
    return checked;
}

static void test_large_products(void **state)
{
    /* row, stride, outputs, columns: around the sets' tiles, and the largest that a model can have
     */
    static const uint32_t shapes[][4] = {
        {1, 1, 1, 1},       {2048, 1024, 3, 5},  {2049, 1, 2, 4},     {2048, 1, 2, 2050},
        {21, 3, 16, 600},   {65536, 1024, 1, 3}, {65536, 1, 2, 1},    {64, 64, 7, 130},
        {4, 1, 1, 9000},    {8192, 1, 17, 3},    {8191, 1, 9, 4},     {8193, 8193, 5, 2},
        {4096, 4096, 9, 4}, {7168, 1024, 26, 4}, {7169, 1024, 10, 5}, {20000, 1, 33, 1},
        {740, 370, 9, 25},  {742, 371, 9, 25},   {2608, 163, 5, 31},  {136, 8, 17, 50},
        {128, 8, 17, 50},   {320, 64, 24, 49},   {117, 9, 8, 27},     {18, 9, 8, 1}};
    uint64_t s = 11;

    (void)state;
    for (size_t j = 0; j < sizeof(shapes) / sizeof(shapes[0]); j++) {
        struct problem p;

        make(&p, &s, shapes[j][0], shapes[j][1], shapes[j][2], shapes[j][3]);
        assert_true(check(&p, 11) >= 1);
        destroy(&p);
    }
}

static void test_random_products(void **state)
{
    const char *text = getenv("NILM_SEED"), *cases = getenv("NILM_CASES");
    uint64_t first = text ? strtoull(text, NULL, 10) : 1;
    uint64_t problems = cases ? strtoull(cases, NULL, 10) : 20000;
    unsigned checked = 0;

    (void)state;
    for (uint64_t seed = first; seed < first + problems; seed++) {
        uint64_t s = seed;
        uint32_t widest = random_below(&s, 8) ? 20 : 70;
        uint32_t stride = 1 + random_below(&s, widest), taps = 1 + random_below(&s, 7);
        uint32_t outputs = 1 + random_below(&s, random_below(&s, 4) ? 27 : 70);
        uint32_t columns = 1 + random_below(&s, random_below(&s, 8) ? 14 : 60);
        struct problem p;

        make(&p, &s, stride * taps, stride, outputs, columns);
        checked += check(&p, seed);
        destroy(&p);
    }
    printf("%llu problems, seeds %llu to %llu, %u runs of kernel sets\n",
           (unsigned long long)problems, (unsigned long long)first,
           (unsigned long long)(first + problems - 1), checked);
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
    for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
        if (kernels_select(sets[i], &k) == 0) {
            const struct kernels *best;

            assert_string_equal(k->name, sets[i]);
            assert_int_equal(kernels_select(NULL, &best), 0);
            assert_true(best != &kernels_scalar || i == 0);
        }
    assert_int_equal(kernels_select("Scalar", &k), -ENOTSUP);
    assert_int_equal(kernels_select("scalar ", &k), -ENOTSUP);
    assert_null(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large_products),
        cmocka_unit_test(test_random_products),
        cmocka_unit_test(test_maxpool),
        cmocka_unit_test(test_select),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
