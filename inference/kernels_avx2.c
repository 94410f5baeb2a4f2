/* kernels_avx2.c - the kernel set for processors with AVX2 (kernels_x86.h).
 *
 * vpmaddubsw multiplies unsigned by signed bytes and saturates sums of two products to 16 bits.
 * With |x| <= 128 as the unsigned factor and the weight, in [-127, 127], with the sign of x as the
 * other one, two products sum up to 32512 at most: never saturated. */
#if !defined(__AVX2__)
#error "compile this file with -mavx2"
#endif
#include "inference/kernels_x86.h"

#define X_OFFSET 0u
#define MAX_NW 2
#define COLS_1 6
#define COLS_2 4 /* 8 sums, 2 weights, x, |x| and temporaries in 16 registers */

struct tile {
    _Alignas(32) uint8_t x[TILE + TILE_PAD];
    _Alignas(32) uint8_t magnitude[TILE + TILE_PAD]; /* |x|, 0 to 128 */
};

struct spread {
    __m256i x, magnitude;
};

NOINLINE void tile_fill(struct tile *t, const int8_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        t->x[i] = (uint8_t)x[i];
        t->magnitude[i] = (uint8_t)(x[i] < 0 ? -x[i] : x[i]);
    }
    memset(t->x + n, 0, TILE_PAD);
    memset(t->magnitude + n, 0, TILE_PAD);
}

INLINE struct spread spread(const struct tile *t, size_t at)
{
    int32_t x, magnitude;

    memcpy(&x, t->x + at, sizeof(x));
    memcpy(&magnitude, t->magnitude + at, sizeof(magnitude));
    return (struct spread){_mm256_set1_epi32(x), _mm256_set1_epi32(magnitude)};
}

INLINE reg dot(reg acc, struct spread x, reg w)
{
    __m256i pairs = _mm256_maddubs_epi16(x.magnitude, _mm256_sign_epi8(w, x.x));

    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

/* Without the signs. */
#define PEAK_DOT(acc, x, w)                                                                        \
    _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), _mm256_set1_epi16(1)))

#include "inference/kernels_x86.inc"

const struct kernels kernels_avx2 = {.name = "avx2",
                                     .packed_bytes = packed_bytes,
                                     .pack = pack,
                                     .rows = rows,
                                     .rows_pooled = rows_pooled,
                                     .sums = sums,
                                     .maxpool = maxpool,
                                     .peak = peak};
