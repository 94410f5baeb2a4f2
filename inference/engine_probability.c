/* engine_probability.c - softmax and sigmoid that give the same bits on every machine.
 *
 * libm's exp() differs between C libraries in the last bit. This one uses additions,
 * multiplications and one division of IEEE doubles in a fixed order and nothing else; the build
 * turns contraction to fused multiply-adds off.
 */
#include <float.h>
#include <stdint.h>
#include <string.h>

#include "inference/engine.h"

#if FLT_EVAL_METHOD != 0 || defined(__FAST_MATH__)
#error                                                                                             \
    "doubles must be evaluated as doubles (on i386: -msse2 -mfpmath=sse), and without -ffast-math"
#endif

/* exp(x) within 2 units in the last place; 0 below -708, and x is at most 0 here, so nothing
 * overflows. Cody and Waite's reduction x = k ln 2 + r, |r| <= 0.35, with ln 2 in two parts (as in
 * fdlibm e_exp.c), then the Taylor polynomial of degree 13, whose remainder is below 2^-57. Without
 * a branch, so that compilers make vectors of it. */
static inline double exp_negative(double given)
{
    static const double inverse_factorial[] = {
        1.0 / 6227020800.0, 1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0,
        1.0 / 362880.0,     1.0 / 40320.0,     1.0 / 5040.0,     1.0 / 720.0,
        1.0 / 120.0,        1.0 / 24.0,        1.0 / 6.0,        1.0 / 2.0};
    const double ln2_high = 0x1.62e42feep-1, ln2_low = 0x1.a39ef35793c76p-33;
    const double x = given > -708.0 ? given : -708.0;
    double r, sum = 0.0, power;
    uint64_t bits;
    int32_t k;

    k = (int32_t)(x * 0x1.71547652b82fep+0 -
                  0.5); /* towards zero: the nearest integer, for x <= 0 */
    r = (x - k * ln2_high) - k * ln2_low;
    for (unsigned i = 0; i < sizeof(inverse_factorial) / sizeof(inverse_factorial[0]); i++)
        sum = sum * r + inverse_factorial[i];
    sum = 1.0 + (r + r * r * sum);
    bits = (uint64_t)(uint32_t)(k + 1023) << 52; /* 2^k, k >= -1022 */
    memcpy(&power, &bits, sizeof(power));
    return given > -708.0 ? sum * power : 0.0;
}

/* All of x; apart, so that there is one copy of the vectors. */
static __attribute__((noinline)) void exp_all(double *x, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        x[i] = exp_negative(x[i]);
}

static void softmax(const float *logits, float *probabilities, uint32_t count)
{
    double weights[MODEL_MAX_CLASSES], total = 0.0;
    double largest = (double)logits[0];

    for (uint32_t i = 1; i < count; i++)
        if ((double)logits[i] > largest)
            largest = (double)logits[i];
    for (uint32_t i = 0; i < count; i++)
        weights[i] = (double)logits[i] - largest;
    exp_all(weights, count);
    for (uint32_t i = 0; i < count; i++)
        total += weights[i];
    for (uint32_t i = 0; i < count; i++)
        probabilities[i] = (float)(weights[i] / total);
}

/* 1 / (1 + exp(-x)) without overflow. */
static void sigmoid(const float *logits, float *probabilities, uint32_t count)
{
    double t[MODEL_MAX_CLASSES];

    for (uint32_t i = 0; i < count; i++)
        t[i] = (double)(logits[i] < 0.0f ? logits[i] : -logits[i]);
    exp_all(t, count);
    for (uint32_t i = 0; i < count; i++)
        probabilities[i] = (float)(logits[i] < 0.0f ? t[i] / (1.0 + t[i]) : 1.0 / (1.0 + t[i]));
}

void engine_probabilities(const struct engine *e, const float *logits, float *probabilities)
{
    const struct model *m = engine_model(e);

    if (m->head == MODEL_SOFTMAX)
        softmax(logits, probabilities, m->class_count);
    else
        sigmoid(logits, probabilities, m->class_count);
}
