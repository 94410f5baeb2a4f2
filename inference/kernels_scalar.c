/* kernels_scalar.c - the reference kernel set in plain C, written so that compilers vectorise the
 * sums. */
#include "inference/kernels.h"

/* The rounding rule of model.h. The shift of a negative number is arithmetic with gcc and clang. */
static int8_t requantize(const struct kernels_layer *l, uint32_t o, int32_t acc)
{
    unsigned shift = l->shift[o];
    int64_t scaled = (int64_t)acc * (int64_t)l->multiplier[o] + ((int64_t)1 << (shift - 1));
    int64_t y = l->zero + (scaled >> shift);

    y = y < l->low ? l->low : y;
    return (int8_t)(y > 127 ? 127 : y);
}

static int32_t dot(const int8_t *restrict w, const int8_t *restrict x, uint32_t n)
{
    int32_t sum = 0;

    for (uint32_t i = 0; i < n; i++)
        sum += w[i] * x[i];
    return sum;
}

static void rows(const struct kernels_layer *l, const int8_t *x, size_t columns, int8_t *y)
{
    for (size_t t = 0; t < columns; t++, x += l->stride, y += l->outputs)
        for (uint32_t o = 0; o < l->outputs; o++)
            y[o] = requantize(l, o, l->bias[o] + dot(l->weights + (size_t)o * l->row, x, l->row));
}

static void sums(const struct kernels_layer *l, const int8_t *x, int32_t *out)
{
    for (uint32_t o = 0; o < l->outputs; o++)
        out[o] = l->bias[o] + dot(l->weights + (size_t)o * l->row, x, l->row);
}

static void maxpool(const int8_t *restrict x, size_t columns, size_t channels, size_t pool,
                    int8_t *restrict y)
{
    for (size_t t = 0; t < columns; t++, x += pool * channels, y += channels) {
        for (size_t c = 0; c < channels; c++)
            y[c] = x[c];
        for (size_t k = 1; k < pool; k++)
            for (size_t c = 0; c < channels; c++)
                y[c] = x[k * channels + c] > y[c] ? x[k * channels + c] : y[c];
    }
}

const struct kernels kernels_scalar = {
    .name = "scalar", .rows = rows, .sums = sums, .maxpool = maxpool};
