/* kernels_x86.h - the x86-64 kernel sets' common ground: registers, sizes, macros. Private
 * to kernels_avx2.c, kernels_avxvnni.c and kernels_avx512vnni.c. Each of them defines what sets it
 * apart and then includes the functions, kernels_x86.inc, which are compiled once for each:
 *
 * - X512, if it uses 512-bit registers, before it includes this file; else they have 256 bits
 * - struct tile: a piece of x in the form the products want, and tile_fill, which makes it
 * - struct spread: four bytes of a tile in every 32-bit lane, and spread, which loads it
 * - dot(acc, x, w): each 32-bit lane of acc plus the four products of its bytes, exactly
 * - PEAK_DOT(acc, x, w): the same or what is faster with any x and w, for peak()
 * - X_OFFSET: what tile_fill adds to x; the packed bias takes it out again
 * - MAX_NW: the most vectors of outputs in a block
 * - COLS_1, COLS_2, COLS_3 (up to MAX_NW): columns summed at once for a block of so many vectors,
 * as many as the register file holds
 *
 * Packing: outputs lie in the lanes, 8 or 16 to a vector; vectors form blocks of up to MAX_NW. A
 * block's weights are [group][vector][lane][4 bytes], where a group is four consecutive bytes of a
 * row, over taps and channels alike: a row is padded to 4 bytes and the outputs to a vector, and
 * nothing else is wasted, whatever the channel counts. The same four bytes of x then serve all
 * lanes.
 *
 * Bounds: x is copied into a padded tile first, so no load leaves the caller's arrays; stores write
 * the outputs' bytes only.
 */
#ifndef INFERENCE_KERNELS_X86_H
#define INFERENCE_KERNELS_X86_H

#include <immintrin.h>
#include <string.h>

#include "inference/kernels.h"

#ifdef X512
#define LANES 16u
#define V(operation) _mm512_##operation
typedef __m512i reg;
#else
#define LANES 8u
#define V(operation) _mm256_##operation
typedef __m256i reg;
#endif
#define GROUP 4u
/* Bytes of x in a tile: with the weights of a block inside a first-level cache. */
#define TILE 8192u
#define TILE_PAD 32u
#define CHUNK 24u /* columns summed before re-quantization; a multiple of 4 and of all COLS */

#define INLINE static inline __attribute__((always_inline))
#ifdef X512
#define OPAQUE(v) __asm__ volatile("" : "+v"(v))
#else
#define OPAQUE(v) __asm__ volatile("" : "+x"(v))
#endif
/* Hides that a number does not change, lest compilers make a loop for each of its values. */
#define VARIABLE(n) __asm__("" : "+r"(n))
/* One copy of each: compilers would make several for constant arguments. */
#ifdef __clang__
#define NOINLINE static __attribute__((noinline))
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define NOINLINE static __attribute__((noinline, noclone))
#define UNROLL _Pragma("GCC unroll 12")
#endif

#endif
