/* kernels_x86.h - the x86-64 kernel sets' common body, for 256-bit registers. Private to
 * kernels_avx2.c, kernels_avxvnni.c and kernels_avx512vnni.c, each of which includes it once, after
 * defining what sets it apart:
 *
 * - struct tile: a piece of x in the form the products want, and tile_fill, which makes it
 * - struct spread: four bytes of a tile in every 32-bit lane, and spread, which loads it
 * - dot(acc, x, w): each 32-bit lane of acc plus the four products of its bytes, exactly
 * - X_OFFSET: what tile_fill adds to x; the packed bias takes it out again
 * - MAX_NW, COLS_1, COLS_2, COLS_3: registers' worth of outputs in a block, and columns in a tile
 *   of accumulators for blocks of 1, 2 and 3, as many as the register file holds
 * - shift_right(x, s, offset): see requantize
 *
 * Packing: outputs lie in the lanes, 8 to a vector; vectors form blocks of up to MAX_NW. A block's
 * weights are [group][vector][lane][4 bytes], where a group is four consecutive bytes of a row,
 * over taps and channels alike: a row is padded to 4 bytes and the outputs to 8, and nothing else
 * is wasted, whatever the channel counts. The same four bytes of x then serve all lanes.
 *
 * Bounds: x is copied into a padded tile first, so no load leaves the caller's arrays; stores write
 * the outputs' bytes only.
 */
#ifndef INFERENCE_KERNELS_X86_H
#define INFERENCE_KERNELS_X86_H

#include <immintrin.h>
#include <string.h>

#include "inference/kernels.h"

#define LANES 8u
#define GROUP 4u
#define TILE                                                                                       \
    8192u /* bytes of x in a tile: with the weights of a block inside a first-level cache */
#define TILE_PAD 32u
#define CHUNK 24u /* columns summed before re-quantization; a multiple of 2 and of all COLS */

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

#endif
