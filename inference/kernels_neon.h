/* kernels_neon.h - the ARM kernel sets' common ground: 128-bit registers, sizes, macros. Private to
 * kernels_neon.c and kernels_neon_dotprod.c. Each of them includes arm_neon.h (which other
 * processors' compilers lack), defines what sets it apart and then includes the functions,
 * kernels_neon.inc, which are compiled once for each:
 *
 * - WEIGHT_AT(lane, byte): where in a vector's 16 bytes of weights the weight for this lane and
 *   this byte of the group stands
 * - STEP: groups in a piece of x, 4 or 2
 * - struct piece, and piece_at(x): STEP groups of x from here on
 * - struct spread, and spread(piece, k): group k (a constant) of a piece, as dots wants it
 * - dots(nw, acc, w, x): for nw vectors of weights, each 32-bit lane of acc plus the four products
 *   of its bytes, exactly
 * - MAX_NW: the most vectors of outputs in a block, 4 or 2
 * - COLS_MANY: the most vectors in a block for which 8 columns are summed at once; above it 4
 *
 * Packing is that of the x86-64 sets (kernels_x86.h) with 4 outputs to a vector: a block's weights
 * are [group][vector][16 bytes], where a group is four consecutive bytes of a row, over taps and
 * channels alike. A row is padded to 4 bytes and the outputs to 4, and nothing else is wasted.
 *
 * Bounds: x is copied into a padded tile first, so no load leaves the caller's arrays; stores write
 * the outputs' bytes only.
 */
#ifndef INFERENCE_KERNELS_NEON_H
#define INFERENCE_KERNELS_NEON_H

#include <string.h>

#include "inference/kernels.h"

#define LANES 4u
#define GROUP 4u
#define VECTOR (LANES * GROUP) /* bytes of weights */
/* Bytes of x in a tile: with the weights of a block inside a first-level cache. */
#define TILE 8192u
#define TILE_PAD 32u
#define CHUNK 16u /* columns summed before re-quantization; a multiple of 8 */

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

#endif
