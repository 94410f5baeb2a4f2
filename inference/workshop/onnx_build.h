/* onnx_build.h - the messages of an ONNX file to be written: private to onnx_*.c.
 *
 * Small messages come from a fixed store, which the largest network does not exhaust; the numbers
 * of constants are owned apart. A builder is too large for the stack: onnx_build_create.
 */
#ifndef WORKSHOP_ONNX_BUILD_H
#define WORKSHOP_ONNX_BUILD_H

#include <stddef.h>
#include <stdint.h>

#include "inference/model.h"

enum { ONNX_BUILD_FLOAT = 1, ONNX_BUILD_INT8 = 3, ONNX_BUILD_INT32 = 6 }; /* ONNX's tensor types */

struct onnx_build;
struct onnx_build *onnx_build_create(void); /* NULL: no memory */
void onnx_build_free(struct onnx_build *b);

/* The tensor that the next node reads first: at the start "features". */
const char *onnx_build_current(const struct onnx_build *b);

/* A node that reads the current tensor and makes the new one. op and name must outlive the builder.
 * aside: it reads the constant made next instead and leaves the current tensor as it is; returns
 * the name of its output. */
const char *onnx_build_node(struct onnx_build *b, const char *op, const char *name);
const char *onnx_build_aside(struct onnx_build *b, const char *op);

/* Of the last node: a further input, an attribute (name outlives the builder). */
void onnx_build_input(struct onnx_build *b, const char *tensor);
void onnx_build_attribute(struct onnx_build *b, const char *name, int64_t value, int as_list);

/* A constant as the next input of the last node, named layer.suffix. Returns its numbers to be
 * filled in, or NULL: no memory. */
void *onnx_build_tensor(struct onnx_build *b, const char *layer, const char *suffix, int type,
                        const int64_t *dims, size_t rank);

/* Names the last node's output "probabilities" and writes the file of m (free(*data)). 0, -ENOMEM.
 */
int onnx_build_pack(struct onnx_build *b, const struct model *m, void **data, size_t *size);

/* Where input `from` of a dense layer behind a Flatten of `columns` columns (1: none) stands in
 * ONNX's channel-major order; inputs: of the layer. */
size_t onnx_build_place(size_t from, size_t inputs, size_t columns);

/* The layers of an INT8 model as QDQ (onnx_export_int8.c). 0, -ENOMEM. */
int onnx_build_int8(struct onnx_build *b, const struct model *m);

#endif
