/* kernels_scalar.c - the reference kernel set in plain C, written so that compilers vectorise the
 * sums. */
#include "inference/kernels.h"

/* Elements of a tile of x and of a row of weights on the stack: 12 KB, inside a small first-level
 * cache. */
#define TILE 4096u
#define TILE_ROW 2048u

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

static int32_t dot_wide(const int16_t *restrict w, const int16_t *restrict x, uint32_t n)
{
    int32_t sum = 0;

    for (uint32_t i = 0; i < n; i++)
        sum += w[i] * x[i];
    return sum;
}

static void widen(const int8_t *restrict from, size_t n, int16_t *restrict to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = from[i];
}

/* Row by row; for dense layers and rows that do not fit into a tile. */
static void narrow_rows(const struct kernels_layer *l, const int8_t *x, size_t columns, int8_t *y)
{
    for (size_t t = 0; t < columns; t++, x += l->stride, y += l->outputs)
        for (uint32_t o = 0; o < l->outputs; o++)
            y[o] = requantize(l, o, l->bias[o] + dot(l->weights + (size_t)o * l->row, x, l->row));
}

/* As many columns as the widened x [TILE] holds. */
static void tile_rows(const struct kernels_layer *l, const int16_t *x, size_t columns, int8_t *y)
{
    int16_t w[TILE_ROW];

    for (uint32_t o = 0; o < l->outputs; o++) {
        widen(l->weights + (size_t)o * l->row, l->row, w);
        for (size_t t = 0; t < columns; t++)
            y[t * l->outputs + o] =
                requantize(l, o, l->bias[o] + dot_wide(w, x + t * l->stride, l->row));
    }
}

static void rows(const struct kernels_layer *l, const int8_t *x, size_t columns, int8_t *y)
{
    int16_t wide[TILE];
    size_t tile;

    if (columns == 1 || l->row > TILE_ROW || l->stride > TILE_ROW) {
        narrow_rows(l, x, columns, y);
        return;
    }
    tile = (TILE - l->row) / l->stride + 1;
    while (columns > 0) {
        size_t n = columns < tile ? columns : tile;

        widen(x, l->row + (n - 1) * l->stride, wide);
        tile_rows(l, wide, n, y);
        x += n * l->stride;
        y += n * l->outputs;
        columns -= n;
    }
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
