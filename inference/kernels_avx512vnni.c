/* kernels_avx512vnni.c - the kernel set for processors with AVX-512 VNNI, in 256-bit registers, of
 * which there are 32 (kernels_vnni.inc). */
#if !defined(__AVX512VNNI__) || !defined(__AVX512VL__) || !defined(__AVX512BW__)
#error "compile this file with -mavx2 -mavx512f -mavx512vl -mavx512bw -mavx512vnni"
#endif
#include "inference/kernels_vnni.inc"

#define MAX_NW 3
#define COLS_1 6
#define COLS_2 6
#define COLS_3 6

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
