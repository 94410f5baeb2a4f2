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

#ifdef __aarch64__
#define STEP 4u
#define MAX_NW 4u
#define COLS_MANY 2u

struct piece {
    int16x8_t x;
};

struct spread {
    int8x8_t first; /* two bytes of x, four times */
    int8x16_t second;
};

INLINE struct piece piece_at(const int8_t *x)
{
    return (struct piece){vreinterpretq_s16_s8(vld1q_s8(x))};
}

INLINE struct spread spread(struct piece p, unsigned k)
{
    int16x4_t a;
    int16x8_t b;

    switch (k) { /* lanes are literals */
    case 0:
        a = vdup_laneq_s16(p.x, 0), b = vdupq_laneq_s16(p.x, 1);
        break;
    case 1:
        a = vdup_laneq_s16(p.x, 2), b = vdupq_laneq_s16(p.x, 3);
        break;
    case 2:
        a = vdup_laneq_s16(p.x, 4), b = vdupq_laneq_s16(p.x, 5);
        break;
    default:
        a = vdup_laneq_s16(p.x, 6), b = vdupq_laneq_s16(p.x, 7);
        break;
    }
    return (struct spread){vreinterpret_s8_s16(a), vreinterpretq_s8_s16(b)};
}

INLINE int16x8_t add_second(int16x8_t pairs, int8x16_t w, struct spread x)
{
    return vmlal_high_s8(pairs, w, x.second);
}
#else /* half the registers, which are half as long */
#define STEP 2u
#define MAX_NW 2u
#define COLS_MANY 1u

struct piece {
    int16x4_t x;
};

struct spread {
    int8x8_t first, second; /* two bytes of x each, four times */
};

INLINE struct piece piece_at(const int8_t *x)
{
    return (struct piece){vreinterpret_s16_s8(vld1_s8(x))};
}

INLINE struct spread spread(struct piece p, unsigned k)
{
    int16x4_t a = k ? vdup_lane_s16(p.x, 2) : vdup_lane_s16(p.x, 0);
    int16x4_t b = k ? vdup_lane_s16(p.x, 3) : vdup_lane_s16(p.x, 1);

    return (struct spread){vreinterpret_s8_s16(a), vreinterpret_s8_s16(b)};
}

INLINE int16x8_t add_second(int16x8_t pairs, int8x16_t w, struct spread x)
{
    return vmlal_s8(pairs, vget_high_s8(w), x.second);
}
#endif

/* The vectors take turns, because small processors execute in order and each instruction needs the
 * result of the one before it. */
INLINE void dots(unsigned nw, int32x4_t *acc, const int8x16_t *w, struct spread x)
{
    int16x8_t pairs[MAX_NW];

    UNROLL
    for (unsigned j = 0; j < nw; j++)
        pairs[j] = vmull_s8(vget_low_s8(w[j]), x.first);
    UNROLL
    for (unsigned j = 0; j < nw; j++)
        pairs[j] = add_second(pairs[j], w[j], x);
    UNROLL
    for (unsigned j = 0; j < nw; j++)
        acc[j] = vpadalq_s16(acc[j], pairs[j]);
}

#include "inference/kernels_neon.inc"

const struct kernels kernels_neon = {.name = "neon",
                                     .packed_bytes = packed_bytes,
                                     .pack = pack,
                                     .rows = rows,
                                     .rows_pooled = rows_pooled,
                                     .sums = sums,
                                     .maxpool = maxpool};
