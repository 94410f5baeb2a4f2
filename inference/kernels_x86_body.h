/* kernels_x86_body.h - functions of every x86-64 kernel set; see kernels_x86.h. Included at the end
 * of a set's file, once per translation unit. Defines packed_bytes, pack, rows,
 * rows_pooled, sums, maxpool and levels. */
#include "inference/kernels_x86.h"

#ifdef __AVX512VL__
#define ROUND_BIAS 0u
#else
#define ROUND_BIAS (1ull << 63)
#endif

/* Constants of 8 outputs. The even and the odd lanes are multiplied to 64 bits separately, so what
 * belongs to the product is split the same way. */
struct lanes {
    int32_t bias[LANES]; /* with X_OFFSET * sum(weights) taken out, modulo 2^32 */
    int32_t multiplier[LANES];
    int32_t offset[LANES]; /* 2^(63 - shift), modulo 2^32 */
    int64_t shift[2][LANES / 2];
    int64_t round[2][LANES / 2]; /* 2^(shift - 1) + 2^63 (without the latter under AVX-512) */
};

/* Sums of a block: [vector][column][lane]. */
struct block {
    _Alignas(32) int32_t sums[MAX_NW][CHUNK][LANES];
};

static size_t vectors_of(const struct kernels_layer *l)
{
    return ((size_t)l->outputs + LANES - 1) / LANES;
}

static size_t groups_of(const struct kernels_layer *l)
{
    return ((size_t)l->row + GROUP - 1) / GROUP;
}

static const int8_t *weights_of(const struct kernels_layer *l)
{
    return (const int8_t *)l->packed + vectors_of(l) * sizeof(struct lanes);
}

/* Vectors in the next block. Four are two blocks of two: a block of one leaves the processor idle.
 */
static unsigned next_block(size_t left)
{
    if (left == 4 && MAX_NW == 3)
        return 2;
    return left < MAX_NW ? (unsigned)left : MAX_NW;
}

static size_t packed_bytes(const struct kernels_layer *l)
{
    return vectors_of(l) * (sizeof(struct lanes) + groups_of(l) * LANES * GROUP);
}

static void pack_lane(const struct kernels_layer *l, uint32_t o, struct lanes *to, unsigned lane)
{
    unsigned shift = l->shift ? l->shift[o] : 31;
    int32_t sum = 0;

    for (uint32_t i = 0; i < l->row; i++)
        sum += l->weights[(size_t)o * l->row + i];
    to->bias[lane] = (int32_t)((uint32_t)l->bias[o] - X_OFFSET * (uint32_t)sum);
    to->multiplier[lane] = l->multiplier ? (int32_t)l->multiplier[o] : 0;
    to->offset[lane] = (int32_t)(uint32_t)(1ull << (63 - shift));
    to->shift[lane % 2][lane / 2] = shift;
    to->round[lane % 2][lane / 2] = (int64_t)((1ull << (shift - 1)) + ROUND_BIAS);
}

static void pack(const struct kernels_layer *l, void *memory)
{
    size_t vectors = vectors_of(l), groups = groups_of(l);
    struct lanes *lanes = memory;
    int8_t *w = (int8_t *)(lanes + vectors);
    unsigned nw;

    memset(memory, 0, packed_bytes(l));
    for (uint32_t o = 0; o < l->outputs; o++)
        pack_lane(l, o, &lanes[o / LANES], o % LANES);
    for (size_t v = 0; v < vectors; v += nw) {
        nw = next_block(vectors - v);
        for (size_t g = 0; g < groups; g++)
            for (size_t o = v * LANES; o < (v + nw) * LANES; o++, w += GROUP)
                for (size_t i = g * GROUP; i < (g + 1) * GROUP; i++)
                    if (o < l->outputs && i < l->row)
                        w[i - g * GROUP] = l->weights[o * l->row + i];
    }
}

INLINE __m256i load(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

/* Sums of nw vectors of outputs for cols columns, all in registers. nw and cols are constants. */
INLINE void tile_sums(unsigned nw, unsigned cols, const struct lanes *lanes, const int8_t *w,
                      const struct tile *x, size_t at, size_t stride, size_t groups,
                      struct block *b, size_t column)
{
    __m256i acc[8][MAX_NW], wv[MAX_NW];

    UNROLL for (unsigned c = 0; c < cols; c++) UNROLL for (unsigned j = 0; j < nw; j++) acc[c][j] =
        load(lanes[j].bias);
    for (size_t g = 0; g < groups; g++, w += nw * LANES * GROUP, at += GROUP) {
        UNROLL for (unsigned j = 0; j < nw; j++) wv[j] = load(w + j * LANES * GROUP);
        UNROLL for (unsigned c = 0; c < cols; c++)
        {
            struct spread s = spread(x, at + c * stride);
            UNROLL for (unsigned j = 0; j < nw; j++) acc[c][j] = dot(acc[c][j], s, wv[j]);
        }
    }
    UNROLL for (unsigned c = 0; c < cols; c++) UNROLL for (unsigned j = 0; j < nw; j++)
        _mm256_store_si256((__m256i *)b->sums[j][column + c], acc[c][j]);
}

/* n columns of a block, the first of which is at byte 0 of the tile. */
INLINE void steps(unsigned nw, unsigned cols, const struct lanes *lanes, const int8_t *w,
                  const struct tile *x, size_t at, size_t stride, size_t groups, size_t n,
                  struct block *b)
{
    size_t t = 0;

    for (; n - t >= cols; t += cols)
        tile_sums(nw, cols, lanes, w, x, at + t * stride, stride, groups, b, t);
    at += t * stride;
    switch (n - t) { /* cases of cols and above are never taken and not compiled */
    case 5:
        if (cols > 5)
            tile_sums(nw, 5, lanes, w, x, at, stride, groups, b, t);
        break;
    case 4:
        if (cols > 4)
            tile_sums(nw, 4, lanes, w, x, at, stride, groups, b, t);
        break;
    case 3:
        if (cols > 3)
            tile_sums(nw, 3, lanes, w, x, at, stride, groups, b, t);
        break;
    case 2:
        tile_sums(nw, 2, lanes, w, x, at, stride, groups, b, t);
        break;
    case 1:
        tile_sums(nw, 1, lanes, w, x, at, stride, groups, b, t);
        break;
    default:
        break;
    }
}

static void block_sums(unsigned nw, const struct lanes *lanes, const int8_t *w,
                       const struct tile *x, size_t at, size_t stride, size_t groups, size_t n,
                       struct block *b)
{
    if (nw == 1)
        steps(1, COLS_1, lanes, w, x, at, stride, groups, n, b);
    else if (nw == 2)
        steps(2, COLS_2, lanes, w, x, at, stride, groups, n, b);
#if MAX_NW == 3
    else
        steps(3, COLS_3, lanes, w, x, at, stride, groups, n, b);
#endif
}

/* Adds groups of one column to the sums of column `column`. Four groups at a time, with
 * accumulators of their own: one column has too few sums to cover the latency of the products. */
INLINE void add_column(unsigned nw, const int8_t *w, const struct tile *x, size_t groups,
                       struct block *b, unsigned column)
{
    __m256i acc[4][MAX_NW];
    size_t g = 0;

    UNROLL for (unsigned j = 0; j < nw; j++)
    {
        acc[0][j] = load(b->sums[j][column]);
        acc[1][j] = acc[2][j] = acc[3][j] = _mm256_setzero_si256();
    }
    for (; g + 4 <= groups; g += 4) {
        UNROLL for (unsigned k = 0; k < 4; k++, w += nw * LANES * GROUP)
        {
            struct spread s = spread(x, (g + k) * GROUP);
            UNROLL for (unsigned j = 0; j < nw; j++) acc[k][j] =
                dot(acc[k][j], s, load(w + j * LANES * GROUP));
        }
    }
    for (; g < groups; g++, w += nw * LANES * GROUP) {
        struct spread s = spread(x, g * GROUP);
        UNROLL for (unsigned j = 0; j < nw; j++) acc[0][j] =
            dot(acc[0][j], s, load(w + j * LANES * GROUP));
    }
    UNROLL for (unsigned j = 0; j < nw; j++)
    {
        __m256i a = _mm256_add_epi32(acc[0][j], acc[1][j]);
        a = _mm256_add_epi32(a, _mm256_add_epi32(acc[2][j], acc[3][j]));
        _mm256_store_si256((__m256i *)b->sums[j][column], a);
    }
}

static void column_groups(unsigned nw, const int8_t *w, const struct tile *x, size_t groups,
                          struct block *b, unsigned column)
{
    if (nw == 1)
        add_column(1, w, x, groups, b, column);
    else if (nw == 2)
        add_column(2, w, x, groups, b, column);
#if MAX_NW == 3
    else
        add_column(3, w, x, groups, b, column);
#endif
}

/* One column of a block, of any length: tile by tile. filled: the tile has the whole row already.
 */
static void column_sums(unsigned nw, const struct kernels_layer *l, const struct lanes *lanes,
                        const int8_t *w, const int8_t *x, int filled, struct tile *tile,
                        struct block *b, unsigned column)
{
    for (unsigned j = 0; j < nw; j++)
        memcpy(b->sums[j][column], lanes[j].bias, sizeof(lanes[j].bias));
    for (size_t at = 0; at < l->row; at += TILE) {
        size_t n = l->row - at < TILE ? l->row - at : TILE;

        if (!filled)
            tile_fill(tile, x + at, n);
        column_groups(nw, w + at * nw * LANES, tile, (n + GROUP - 1) / GROUP, b, column);
    }
}

INLINE void store_outputs(int8_t *y, __m128i v, size_t count)
{
    if (count == LANES) {
        _mm_storel_epi64((__m128i *)y, v);
        return;
    }
#ifdef __AVX512VL__
    _mm_mask_storeu_epi8(y, (__mmask16)((1u << count) - 1), v);
#else
    uint64_t bytes = (uint64_t)_mm_cvtsi128_si64(v);

    if (count & 4) {
        memcpy(y, &bytes, 4);
        y += 4;
        bytes >>= 32;
    }
    if (count & 2) {
        memcpy(y, &bytes, 2);
        y += 2;
        bytes >>= 16;
    }
    if (count & 1)
        memcpy(y, &bytes, 1);
#endif
}

/* The rounding rule of model.h for 8 outputs and n columns, the larger of each `pool` (1 or 2) sums
 * taken first: the multiplier is positive, so the rule keeps order.
 *
 * Products have 62 bits and a sign. AVX2 has no arithmetic 64-bit shift: 2^63 is added before a
 * logical one and 2^(63 - shift) subtracted behind it. The quotient fits into 32 bits (|acc| <=
 * 2^31, multiplier < 2^31, shift >= 31), so that its low half is enough. The zero point is added
 * after saturation to 16 bits, which changes nothing: what saturates there is beyond the 8 bits of
 * the result either way. */
static void requantize(const struct kernels_layer *l, const struct lanes *k, size_t n, size_t pool,
                       const int32_t (*sums)[LANES], size_t count, int8_t *y)
{
    const __m256i even_m = load(k->multiplier), odd_m = _mm256_srli_epi64(even_m, 32);
    const __m256i even_s = load(k->shift[0]), odd_s = load(k->shift[1]);
    const __m256i even_r = load(k->round[0]), odd_r = load(k->round[1]);
    const __m128i zero = _mm_set1_epi16(l->zero), low = _mm_set1_epi8(l->low);
#ifndef __AVX512VL__
    const __m256i offset = load(k->offset);
#endif

    for (; n > 0; n--, sums += pool, y += l->outputs) {
        __m256i acc = load(sums[0]), even, odd;
        __m128i q;

        if (pool == 2)
            acc = _mm256_max_epi32(acc, load(sums[1]));
        even = _mm256_add_epi64(_mm256_mul_epi32(acc, even_m), even_r);
        odd = _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(acc, 32), odd_m), odd_r);
#ifdef __AVX512VL__
        even = _mm256_srav_epi64(even, even_s);
        odd = _mm256_srav_epi64(odd, odd_s);
        acc = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
#else
        even = _mm256_srlv_epi64(even, even_s);
        odd = _mm256_srlv_epi64(odd, odd_s);
        acc = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
        acc = _mm256_sub_epi32(acc, offset);
#endif
        q = _mm_packs_epi32(_mm256_castsi256_si128(acc), _mm256_extracti128_si256(acc, 1));
        q = _mm_adds_epi16(q, zero);
        q = _mm_max_epi8(_mm_packs_epi16(q, q), low);
        store_outputs(y, q, count);
    }
}

static size_t outputs_from(const struct kernels_layer *l, size_t vector)
{
    size_t left = l->outputs - vector * LANES;

    return left < LANES ? left : LANES;
}

/* Output columns one by one: dense layers, and rows of which two do not fit into a tile. */
static void rows_singly(const struct kernels_layer *l, const int8_t *x, size_t columns, size_t pool,
                        int8_t *y)
{
    const struct lanes *lanes = l->packed;
    const int8_t *weights = weights_of(l);
    size_t vectors = vectors_of(l), groups = groups_of(l);
    int whole = l->row <= TILE && pool == 1;
    struct tile tile;
    struct block b;
    unsigned nw;

    for (; columns > 0; columns--, x += pool * l->stride, y += l->outputs) {
        if (whole)
            tile_fill(&tile, x, l->row);
        for (size_t v = 0; v < vectors; v += nw) {
            nw = next_block(vectors - v);
            for (unsigned t = 0; t < pool; t++)
                column_sums(nw, l, lanes + v, weights + v * groups * LANES * GROUP,
                            x + t * (size_t)l->stride, whole, &tile, &b, t);
            for (unsigned j = 0; j < nw; j++)
                requantize(l, lanes + v + j, 1, pool, (const int32_t(*)[LANES])b.sums[j],
                           outputs_from(l, v + j), y + (v + j) * LANES);
        }
    }
}

/* All outputs for n columns whose x is in the tile; y [n / pool]. */
static void tile_rows(const struct kernels_layer *l, const struct tile *tile, size_t n, size_t pool,
                      int8_t *y)
{
    const struct lanes *lanes = l->packed;
    const int8_t *weights = weights_of(l);
    size_t vectors = vectors_of(l), groups = groups_of(l);
    struct block b;
    unsigned nw;

    for (size_t v = 0; v < vectors; v += nw) {
        nw = next_block(vectors - v);
        for (size_t t = 0; t < n; t += CHUNK) {
            size_t chunk = n - t < CHUNK ? n - t : CHUNK;

            block_sums(nw, lanes + v, weights + v * groups * LANES * GROUP, tile, t * l->stride,
                       l->stride, groups, chunk, &b);
            for (unsigned j = 0; j < nw; j++)
                requantize(l, lanes + v + j, chunk / pool, pool, (const int32_t(*)[LANES])b.sums[j],
                           outputs_from(l, v + j), y + t / pool * l->outputs + (v + j) * LANES);
        }
    }
}

static void rows_by_pool(const struct kernels_layer *l, const int8_t *x, size_t columns,
                         size_t pool, int8_t *y)
{
    struct tile tile;
    size_t most;

    if (columns * pool == 1 || l->row + (size_t)l->stride > TILE) {
        rows_singly(l, x, columns, pool, y);
        return;
    }
    most = ((TILE - l->row) / l->stride + 1) / pool;
    while (columns > 0) {
        size_t n = (columns < most ? columns : most) * pool;

        tile_fill(&tile, x, l->row + (n - 1) * l->stride);
        tile_rows(l, &tile, n, pool, y);
        x += n * l->stride;
        y += n / pool * l->outputs;
        columns -= n / pool;
    }
}

static void rows(const struct kernels_layer *l, const int8_t *x, size_t columns, int8_t *y)
{
    rows_by_pool(l, x, columns, 1, y);
}

static void rows_pooled(const struct kernels_layer *l, const int8_t *x, size_t columns, int8_t *y)
{
    rows_by_pool(l, x, columns, 2, y);
}

static void sums(const struct kernels_layer *l, const int8_t *x, int32_t *out)
{
    const struct lanes *lanes = l->packed;
    const int8_t *weights = weights_of(l);
    size_t vectors = vectors_of(l), groups = groups_of(l);
    int whole = l->row <= TILE;
    struct tile tile;
    struct block b;
    unsigned nw;

    if (whole)
        tile_fill(&tile, x, l->row);
    for (size_t v = 0; v < vectors; v += nw) {
        nw = next_block(vectors - v);
        column_sums(nw, l, lanes + v, weights + v * groups * LANES * GROUP, x, whole, &tile, &b, 0);
        for (unsigned j = 0; j < nw; j++)
            memcpy(out + (v + j) * LANES, b.sums[j][0], outputs_from(l, v + j) * sizeof(int32_t));
    }
}

/* The larger of each `pool` columns for the channels from c on, 16 or 8 of them. */
INLINE void pool16(const int8_t *x, size_t channels, size_t pool, int8_t *y)
{
    __m128i best = _mm_loadu_si128((const __m128i *)x);

    for (size_t k = 1; k < pool; k++)
        best = _mm_max_epi8(best, _mm_loadu_si128((const __m128i *)(x + k * channels)));
    _mm_storeu_si128((__m128i *)y, best);
}

INLINE void pool8(const int8_t *x, size_t channels, size_t pool, int8_t *y)
{
    __m128i best = _mm_loadl_epi64((const __m128i *)x);

    for (size_t k = 1; k < pool; k++)
        best = _mm_max_epi8(best, _mm_loadl_epi64((const __m128i *)(x + k * channels)));
    _mm_storel_epi64((__m128i *)y, best);
}

/* The last vector of a column overlaps the one before it, so that nothing is read or written past
 * the end. */
static void pool_column(const int8_t *x, size_t channels, size_t pool, int8_t *y)
{
    size_t c = 0;

    if (channels >= 16) {
        for (; c + 16 <= channels; c += 16)
            pool16(x + c, channels, pool, y + c);
        if (c < channels)
            pool16(x + channels - 16, channels, pool, y + channels - 16);
    } else if (channels >= 8) {
        pool8(x, channels, pool, y);
        pool8(x + channels - 8, channels, pool, y + channels - 8);
    } else {
        for (; c < channels; c++) {
            y[c] = x[c];
            for (size_t k = 1; k < pool; k++)
                y[c] = x[k * channels + c] > y[c] ? x[k * channels + c] : y[c];
        }
    }
}

static void maxpool(const int8_t *x, size_t columns, size_t channels, size_t pool, int8_t *y)
{
    for (size_t t = 0; t < columns; t++, x += pool * channels, y += channels)
        pool_column(x, channels, pool, y);
}

/* How many of 16 ascending numbers are <= x; NaN is not. */
INLINE unsigned count16(const float *from, float x)
{
#ifdef __AVX512F__
    return (unsigned)__builtin_popcount(
        _mm512_cmp_ps_mask(_mm512_loadu_ps(from), _mm512_set1_ps(x), _CMP_LE_OQ));
#else
    __m256 v = _mm256_set1_ps(x);
    __m256 low = _mm256_cmp_ps(_mm256_loadu_ps(from), v, _CMP_LE_OQ);
    __m256 high = _mm256_cmp_ps(_mm256_loadu_ps(from + 8), v, _CMP_LE_OQ);
    __m256i both = _mm256_packs_epi32(_mm256_castps_si256(low), _mm256_castps_si256(high));

    return (unsigned)__builtin_popcount((unsigned)_mm256_movemask_epi8(both)) / 2;
#endif
}

static void levels(const float *table, const float *x, size_t n, size_t stride, int8_t *y)
{
    for (size_t i = 0; i < n; i++) {
        unsigned count = 16 * count16(table, x[i]);

        count += count16(table + KERNELS_PIVOTS + count, x[i]);
        y[i * stride] = (int8_t)((int)count - 128);
    }
}
