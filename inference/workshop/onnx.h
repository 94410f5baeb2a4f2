/* onnx.h - networks from and to ONNX files (github.com/onnx/onnx, docs/IR.md).
 *
 * Import reads a chain of operators as PyTorch and Keras export 1-D CNNs. ONNX is channel-major,
 * our nets are time-major: weights are permuted on the way, nothing else about them changes, so a
 * network that we exported comes back bit for bit. What the file cannot say (sample period, watts
 * behind the inputs, labels) is the caller's. Files are untrusted: every length is checked, and
 * what is not understood is refused with node, operator and reason. Thread-safe.
 */
#ifndef WORKSHOP_ONNX_H
#define WORKSHOP_ONNX_H

#include <stddef.h>

#include "inference/model.h"
#include "inference/workshop/net.h"

/* Reads size bytes at data. *out: a net without norm (net_free), with the file's own head, or
 * fallback where the file ends in logits. Its input takes one window, [window][channels]. 0,
 * -EINVAL (refused; why), -EFBIG (more than MODEL_MAX_BYTES), -ENOMEM. */
int onnx_import(const void *data, size_t size, enum model_head fallback, struct net **out,
                char *why, size_t why_size);

/* Writes a model's network as an ONNX file (opset 13) into a new buffer (free()): input "features"
 * [batch][channels][window], output "probabilities" [batch][classes]. INT8 becomes QDQ. m: decoded,
 * or keeping the same rules. 0, -ENOMEM. Same model, same bytes. */
int onnx_export(const struct model *m, void **data, size_t *size);

#endif
