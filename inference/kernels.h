/* kernels.h - the inner loops of the engine as a table, so that a faster set can stand in for plain
 * C.
 *
 * A set is chosen once, in engine_create, and every set computes the same bits: all arithmetic is
 * in integers, and the loader's bound (SPEC 1.7.2) leaves no order of summation that overflows.
 * Kernels check nothing; shapes and sizes are the engine's to get right. All are pure functions of
 * their arguments and safe in any thread.
 *
 * Activations are time-major and channel-minor, so the `taps` columns that one output column of a
 * convolution sees are row = taps * in_channels contiguous bytes, and the next output column sees
 * the row that starts stride = in_channels bytes later: a convolution is a matrix product over
 * overlapping rows. A dense layer is the same with one column.
 */
#ifndef INFERENCE_KERNELS_H
#define INFERENCE_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#define KERNELS_ALIGN 64u

/* A layer with weights, as kernels want it. The arrays belong to the engine or to the model. */
struct kernels_layer {
    const int8_t *weights; /* [outputs][row], in [-127, 127] */
    const int32_t
        *bias; /* [outputs], the input's zero point folded in: bias - in_zero * sum(weights) */
    const uint32_t *multiplier; /* [outputs]; NULL for the last layer */
    const uint8_t *shift;       /* [outputs], 31..62; NULL for the last layer */
    const void
        *packed; /* all of the above as the set's pack() has laid it out; NULL if it has none */
    uint32_t outputs, row, stride;
    int8_t zero; /* of the output */
    int8_t low;  /* least output: zero with relu, else -128 */
};

struct kernels {
    const char *name; /* what NILM_CPU and engine_isa say */

    /* Sets with a layout of their own for weights and constants; else both are NULL. pack writes
     * packed_bytes(l) bytes at memory, aligned to KERNELS_ALIGN, to become l->packed. */
    size_t (*packed_bytes)(const struct kernels_layer *l);
    void (*pack)(const struct kernels_layer *l, void *memory);

    /* y [columns][outputs] = re-quantized bias + weights x rows of x, by the rounding rule of
     * model.h. x has row + (columns - 1) * stride bytes. x and y do not overlap. */
    void (*rows)(const struct kernels_layer *l, const int8_t *x, size_t columns, int8_t *y);

    /* rows and maxpool by `pool`, 2 or 4, in one go, for that many times as many columns of the
     * layer; y [columns][outputs]. NULL in sets that have nothing better than the two after each
     * other. */
    void (*rows_pooled)(const struct kernels_layer *l, const int8_t *x, size_t columns, size_t pool,
                        int8_t *y);

    /* sums [outputs] = bias + weights x the one row x, not re-quantized. */
    void (*sums)(const struct kernels_layer *l, const int8_t *x, int32_t *sums);

    /* y [columns][channels] = the largest of each `pool` columns of x [columns * pool][channels].
     */
    void (*maxpool)(const int8_t *x, size_t columns, size_t channels, size_t pool, int8_t *y);

    /* Does as many multiply-accumulates as the set's instructions can, on registers alone, and
     * returns how many. NULL in sets without such a loop. */
    uint64_t (*peak)(uint32_t rounds);
};

/* The set to use. name: NULL or "" for the best one that the processor has, else a set's name.
 * Returns 0, or -ENOTSUP when there is no set of that name on this machine. */
int kernels_select(const char *name, const struct kernels **out);

extern const struct kernels kernels_scalar; /* plain C, everywhere */
/* Built where the compiler knows their instructions, chosen where the processor does. */
extern const struct kernels kernels_avx2, kernels_avxvnni, kernels_avx512vnni;
extern const struct kernels kernels_neon, kernels_neon_dotprod;

#endif
