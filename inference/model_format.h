/* model_format.h - the bytes of a model file (SPEC.md section 1), private to model*.c.
 *
 * What reader and writer must agree on stands here once: offsets, record sizes, tags, the check
 * sum, and the derivation of the geometry. Offsets count bytes; every number in a file is
 * little-endian. Nothing here allocates; all functions are thread-safe.
 */
#ifndef INFERENCE_MODEL_FORMAT_H
#define INFERENCE_MODEL_FORMAT_H

#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>

#include "inference/model.h"

/* Arrays are used where they lie in the owned copy, so the machine's byte order has to be the
 * file's. */
#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the model file is read in place: a little-endian machine is needed"
#endif
_Static_assert(sizeof(float) == 4 && sizeof(int32_t) == 4, "arrays are used in place");

/* Header (SPEC 1.2) */
#define MODEL_FORMAT_MAGIC "NILM"
#define MODEL_FORMAT_VERSION 1u
#define MODEL_FORMAT_HEADER_BYTES 32u
#define MODEL_FORMAT_CRC_FROM 16u /* the check sum covers everything from here */
#define MODEL_FORMAT_ENTRY_BYTES 16u
#define MODEL_FORMAT_ALIGN 8u

/* Sections, in the order in which they stand (SPEC 1.3) */
enum model_format_section {
    MODEL_FORMAT_HEAD,
    MODEL_FORMAT_CHAN,
    MODEL_FORMAT_LAYR,
    MODEL_FORMAT_WGTS,
    MODEL_FORMAT_LABL,
    MODEL_FORMAT_GOLD,
    MODEL_FORMAT_META,
    MODEL_FORMAT_SECTIONS
};
extern const char model_format_tags[MODEL_FORMAT_SECTIONS][5];

/* Record sizes (SPEC 1.4, 1.5, 1.6) */
#define MODEL_FORMAT_HEAD_BYTES 80u
#define MODEL_FORMAT_LAYER_BYTES 56u
#define MODEL_FORMAT_META_MAX 65536u

/* Bounds of numbers that the arithmetic relies on (SPEC 1.4 to 1.7) */
#define MODEL_FORMAT_MAX_MACS (UINT64_C(1) << 30)
#define MODEL_FORMAT_MIN_SCALE 0x1p-80f
#define MODEL_FORMAT_MAX_SCALE 0x1p+80f
#define MODEL_FORMAT_MAX_PERIOD_MS 3600000u
#define MODEL_FORMAT_MAX_WATTS 1e9f

/* One allocation holds the view and the bytes that it leads into; model.owner points to its start.
 */
struct model_format_owned {
    struct model model; /* first: model_decode returns its address */
    struct model_golden golden[MODEL_MAX_GOLDEN];
    alignas(16) unsigned char bytes[]; /* the whole file */
};

/* CRC-32 (IEEE 802.3, reflected, as in zip and PNG) of size bytes. */
uint32_t model_format_crc32(const void *data, size_t size);

/* Derives in_channels, in_columns and out_columns (and out_channels of MAXPOOL1D and FLATTEN) of
 * every layer from channel_count, window, op, taps, pool and out_channels, and checks the network's
 * form (SPEC 1.6). The counts must have been checked against their limits. Returns 0 or -EBADMSG
 * with the reason in why. */
int model_format_geometry(struct model *m, char *why, size_t why_size);

/* Checks the lines of meta that a device goes by (SPEC 1.12). 0 or -EBADMSG with the reason in why.
 */
int model_format_check_meta(const struct model *m, char *why, size_t why_size);

/* Weights of a layer: out x taps x in, or out x in; 0 for layers without. */
uint64_t model_format_weights(const struct model_layer *l);

/* Checks the size bytes already in o->bytes and fills o->model.
 * Returns model_decode's codes; o stays the caller's. */
int model_format_decode(struct model_format_owned *o, size_t size, char *why, size_t why_size);

/* snprintf into why, which may be NULL or of size 0. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
void model_format_why(char *why, size_t why_size, const char *format, ...);

/* 1 when s has only characters of A-Z a-z 0-9 . _ - (an empty s has). */
int model_format_is_name(const char *s);

/* 1 when s (size bytes) is well-formed UTF-8 (RFC 3629) without control characters; with lines set,
 * tab and newline are allowed. */
int model_format_is_text(const char *s, size_t size, int lines);

#endif
