/* kernels_avxvnni.c - the kernel set for processors with AVX-VNNI and no AVX-512 (kernels_x86.h).
 *
 * vpdpbusd multiplies unsigned by signed bytes and adds four products without saturation. x becomes
 * unsigned by adding 128, in the tile. */
#if !defined(__AVXVNNI__) || !defined(__AVX2__)
#error "compile this file with -mavx2 -mavxvnni"
#endif
#include "inference/kernels_x86.h"

#define X_OFFSET 128u
#define MAX_NW 3
#define COLS_1 6
#define COLS_2 6
#define COLS_3 4 /* 12 sums, 3 weights and x in 16 registers */

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
    return _mm256_dpbusd_avx_epi32(acc, x.x, w);
}

#include "inference/kernels_x86.inc"

const struct kernels kernels_avxvnni = {.name = "avxvnni",
                                        .packed_bytes = packed_bytes,
                                        .pack = pack,
                                        .rows = rows,
                                        .rows_pooled = rows_pooled,
                                        .sums = sums,
                                        .maxpool = maxpool,
                                        .levels = levels};
