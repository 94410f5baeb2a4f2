/* lib_protobuf.h - writes small ONNX files byte by byte, independently of the code under test. */
#ifndef TESTS_WORKSHOP_LIB_PROTOBUF_H
#define TESTS_WORKSHOP_LIB_PROTOBUF_H

#include <stddef.h>
#include <stdint.h>

/* A growing byte string; start with {0}, free data. Lists in texts are separated by commas. */
struct pb {
    unsigned char *data;
    size_t size, room;
};

/* Parts of a graph. dims "2,1,2"; 0 in an input's dims: not fixed. */
void pb_onnx_input(struct pb *graph, const char *name, const char *dims);
void pb_onnx_output(struct pb *graph, const char *name);
void pb_onnx_tensor(struct pb *graph, const char *name, const char *dims, const float *values);
void pb_onnx_integers(struct pb *graph, const char *name, const int64_t *values, size_t count);
void pb_onnx_narrow_integers(struct pb *graph, const char *name, const int32_t *values,
                             size_t count); /* of 32 bits */

/* A float constant of which `bytes` raw bytes of 0 are there, or that lies in another file. */
void pb_onnx_odd_tensor(struct pb *graph, const char *name, const char *dims, size_t bytes,
                        int external);

/* attributes: "pads=1,1;group:2;auto_pad~VALID", = for a list of integers, : for one, ~ for a
 * text; NULL: none. */
void pb_onnx_node(struct pb *graph, const char *op, const char *name, const char *inputs,
                  const char *output, const char *attributes);

/* A node of an operator set that is not ONNX's own. */
void pb_onnx_foreign_node(struct pb *graph, const char *domain, const char *op, const char *input,
                          const char *output);

/* The file around the graph, which is released. */
struct pb pb_onnx_model(struct pb *graph, int opset);

#endif
