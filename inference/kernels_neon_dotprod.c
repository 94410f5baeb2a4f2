/* kernels_neon_dotprod.c - the kernel set for 64-bit ARM processors with the dot product extension
 * (optional from ARMv8.2 on, required from 8.4 on): sdot adds four products of bytes to each 32-bit
 * lane, and takes the four bytes of x from any lane of a register, so x needs no copies. */
#include <arm_neon.h>

#include "inference/kernels_neon.h"

#define WEIGHT_AT(lane, byte) ((lane)*GROUP + (byte))
#define STEP 4u
#define MAX_NW 4u
#define COLS_MANY 2u

struct piece {
    int8x16_t x;
};

struct spread {
    int8x16_t x;
    unsigned lane;
};

INLINE struct piece piece_at(const int8_t *x)
{
    return (struct piece){vld1q_s8(x)};
}

INLINE struct spread spread(struct piece p, unsigned k)
{
    return (struct spread){p.x, k};
}

INLINE int32x4_t dot(int32x4_t acc, int8x16_t w, struct spread x)
{
    switch (x.lane) { /* lanes are literals */
    case 0:
        return vdotq_laneq_s32(acc, w, x.x, 0);
    case 1:
        return vdotq_laneq_s32(acc, w, x.x, 1);
    case 2:
        return vdotq_laneq_s32(acc, w, x.x, 2);
    default:
        return vdotq_laneq_s32(acc, w, x.x, 3);
    }
}

INLINE void dots(unsigned nw, int32x4_t *acc, const int8x16_t *w, struct spread x)
{
    UNROLL
    for (unsigned j = 0; j < nw; j++)
        acc[j] = dot(acc[j], w[j], x);
}

#include "inference/kernels_neon.inc"

const struct kernels kernels_neon_dotprod = {.name = "neon_dotprod",
                                             .packed_bytes = packed_bytes,
                                             .pack = pack,
                                             .rows = rows,
                                             .rows_pooled = rows_pooled,
                                             .sums = sums,
                                             .maxpool = maxpool};
