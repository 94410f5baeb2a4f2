/* kernels_avxvnni.c - the kernel set for processors with AVX-VNNI and no AVX-512
 * (kernels_vnni.inc).
 */
#if !defined(__AVXVNNI__) || !defined(__AVX2__)
#error "compile this file with -mavx2 -mavxvnni"
#endif
#include "inference/kernels_vnni.inc"

#define PEAK_DOT _mm256_dpbusd_avx_epi32
#define MAX_NW 3
#define COLS_1 6
#define COLS_2 6
#define COLS_3 4 /* 12 sums, 3 weights and x in 16 registers */

INLINE reg dot(reg acc, struct spread x, reg w)
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
                                        .peak = peak};
