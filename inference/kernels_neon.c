/* kernels_neon.c - the kernel set for ARM processors with Advanced SIMD: ARMv7 where it has NEON,
 * and every 64-bit one.
 *
 * Two products of bytes fit into 16 bits, because no weight is -128: 2 * 127 * 128 = 32512. So for
 * four bytes of a row, vmull multiplies the first two, vmlal adds the products of the other two,
 * and vpadal adds neighbours to the 32-bit sums: three instructions for 16 products. A vector of
 * weights therefore begins with the first two bytes of each output. */
#include <arm_neon.h>

#include "inference/kernels_neon.h"

#define WEIGHT_AT(lane, byte) ((byte) / 2 * 8 + (lane)*2 + (byte) % 2)

struct spread {
    int8x8_t first, second; /* two bytes of x, four times */
};

#ifdef __aarch64__
#define STEP 4u
#define MAX_NW 4u
#define COLS_MANY 2u

struct piece {
    int16x8_t x;
};

INLINE struct piece piece_at(const int8_t *x)
{
    return (struct piece){vreinterpretq_s16_s8(vld1q_s8(x))};
}

INLINE struct spread spread(struct piece p, unsigned k)
{
    int16x4_t a, b;

    switch (k) { /* lanes are literals */
    case 0:
        a = vdup_laneq_s16(p.x, 0), b = vdup_laneq_s16(p.x, 1);
        break;
    case 1:
        a = vdup_laneq_s16(p.x, 2), b = vdup_laneq_s16(p.x, 3);
        break;
    case 2:
        a = vdup_laneq_s16(p.x, 4), b = vdup_laneq_s16(p.x, 5);
        break;
    default:
        a = vdup_laneq_s16(p.x, 6), b = vdup_laneq_s16(p.x, 7);
        break;
    }
    return (struct spread){vreinterpret_s8_s16(a), vreinterpret_s8_s16(b)};
}
#else /* half the registers */
#define STEP 1u
#define MAX_NW 2u
#define COLS_MANY 1u

struct piece {
    const int8_t *x;
};

INLINE struct piece piece_at(const int8_t *x)
{
    return (struct piece){x};
}

INLINE struct spread spread(struct piece p, unsigned k)
{
    int16_t a, b;

    memcpy(&a, p.x + k * GROUP, sizeof(a));
    memcpy(&b, p.x + k * GROUP + sizeof(a), sizeof(b));
    return (struct spread){vreinterpret_s8_s16(vdup_n_s16(a)), vreinterpret_s8_s16(vdup_n_s16(b))};
}
#endif

INLINE int32x4_t dot(int32x4_t acc, int8x16_t w, struct spread x)
{
    int16x8_t pairs = vmull_s8(vget_low_s8(w), x.first);

    return vpadalq_s16(acc, vmlal_s8(pairs, vget_high_s8(w), x.second));
}

#include "inference/kernels_neon.inc"

const struct kernels kernels_neon = {.name = "neon",
                                     .packed_bytes = packed_bytes,
                                     .pack = pack,
                                     .rows = rows,
                                     .rows_pooled = rows_pooled,
                                     .sums = sums,
                                     .maxpool = maxpool,
                                     .levels = levels};
