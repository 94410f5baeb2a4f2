/* kernels_avx512vnni.c - the kernel set for processors with AVX-512 VNNI, in 512-bit registers, of
 * which there are 32 (kernels_vnni.inc). */
#if !defined(__AVX512VNNI__) || !defined(__AVX512VL__) || !defined(__AVX512BW__)
#error "compile this file with -mavx2 -mavx512f -mavx512vl -mavx512bw -mavx512vnni"
#endif
#define X512
#include "inference/kernels_vnni.inc"

#define PEAK_DOT _mm512_dpbusd_epi32
#define MAX_NW 4
#define COLS_1 8
#define COLS_2 6
#define COLS_3 6
#define COLS_4 6 /* 24 sums, 4 weights and x in 32 registers */

INLINE reg dot(reg acc, struct spread x, reg w)
{
    return _mm512_dpbusd_epi32(acc, x.x, w);
}

#include "inference/kernels_x86.inc"

const struct kernels kernels_avx512vnni = {.name = "avx512vnni",
                                           .packed_bytes = packed_bytes,
                                           .pack = pack,
                                           .rows = rows,
                                           .rows_pooled = rows_pooled,
                                           .sums = sums,
                                           .maxpool = maxpool,
                                           .peak = peak};
