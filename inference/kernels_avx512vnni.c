/* kernels_avx512vnni.c - the kernel set for processors with AVX-512 VNNI, in 256-bit registers, of
 * which there are 32 (kernels_x86.h).
 *
 * vpdpbusd multiplies unsigned by signed bytes and adds four products without saturation. x becomes
 * unsigned by adding 128, in the tile. */
#if !defined(__AVX512VNNI__) || !defined(__AVX512VL__) || !defined(__AVX512BW__)
#error "compile this file with -mavx2 -mavx512f -mavx512vl -mavx512bw -mavx512vnni"
#endif
#include "inference/kernels_x86.h"

#define X_OFFSET 128u
#define MAX_NW 3
#define COLS_1 6
#define COLS_2 6
#define COLS_3 6

struct tile {
    _Alignas(32) uint8_t x[TILE + TILE_PAD]; /* +128 */
};

struct spread {
    __m256i x;
};

static void tile_fill(struct tile *t, const int8_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        t->x[i] = (uint8_t)(x[i] ^ -128);
    memset(t->x + n, 0, TILE_PAD);
}

INLINE struct spread spread(const struct tile *t, size_t at)
{
    int32_t v;

    memcpy(&v, t->x + at, sizeof(v));
    return (struct spread){_mm256_set1_epi32(v)};
}

INLINE __m256i dot(__m256i acc, struct spread x, __m256i w)
{
    return _mm256_dpbusd_epi32(acc, x.x, w);
}

#include "inference/kernels_x86.inc"

const struct kernels kernels_avx512vnni = {.name = "avx512vnni",
                                           .packed_bytes = packed_bytes,
                                           .pack = pack,
                                           .rows = rows,
                                           .rows_pooled = rows_pooled,
                                           .sums = sums,
                                           .maxpool = maxpool,
                                           .levels = levels};
