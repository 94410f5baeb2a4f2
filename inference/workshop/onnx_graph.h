/* onnx_graph.h - an ONNX graph on its way to a net: private to onnx_*.c.
 *
 * Nodes are taken in the file's order. One tensor at a time carries the activations; each node must
 * read that one and constants, and makes the next one. So branches, cycles and forward references
 * cannot occur. Of the activations only the axes are followed, each with its role, so transposed
 * and 2-D forms need no special case.
 */
#ifndef WORKSHOP_ONNX_GRAPH_H
#define WORKSHOP_ONNX_GRAPH_H

#include <stddef.h>
#include <stdint.h>

#include "inference/workshop/net.h"

/* Made by protoc-c of onnx.proto: whoever looks inside includes onnx.pb-c.h. */
struct Onnx__AttributeProto;
struct Onnx__NodeProto;
struct Onnx__TensorProto;

#define ONNX_MAX_RANK 6u
#define ONNX_MAX_DERIVED 64u
#define ONNX_MAX_NODES 1024u /* and as many constants */
#define ONNX_MAX_NAME 1024u  /* bytes: names are looked up by comparing */

enum { ONNX_TYPE_FLOAT = 1, ONNX_TYPE_INT32 = 6, ONNX_TYPE_INT64 = 7 }; /* of tensors */
enum {
    ONNX_ATTRIBUTE_FLOAT = 1,
    ONNX_ATTRIBUTE_INT = 2,
    ONNX_ATTRIBUTE_STRING = 3,
    ONNX_ATTRIBUTE_TENSOR = 4,
    ONNX_ATTRIBUTE_INTS = 7
};

enum onnx_role { ONNX_BATCH, ONNX_CHANNEL, ONNX_TIME, ONNX_UNIT };

struct onnx_axis {
    enum onnx_role role;
    uint32_t size; /* BATCH: 1 when not fixed */
};

/* Geometry as net_from_layers wants it; weights and bias in our layout, owned. */
struct onnx_layer {
    struct net_layer shape;
    size_t weight_count;
    float *weights, *bias;
};

/* A tensor of activations, for Shape. */
struct onnx_seen {
    const char *name;
    uint32_t rank, sizes[ONNX_MAX_RANK];
};

struct onnx_constant {
    const char *name;
    const struct Onnx__TensorProto *tensor;
};

struct onnx_graph {
    struct onnx_constant constants[2 * ONNX_MAX_NODES];
    size_t constant_count;
    struct Onnx__TensorProto *derived[ONNX_MAX_DERIVED]; /* shapes, by onnx_graph_fold; owned */
    size_t derived_count;

    const char *current; /* the tensor that carries the activations */
    struct onnx_axis axes[ONNX_MAX_RANK];
    uint32_t rank;
    uint32_t width, columns; /* channels and time steps; flat: units and 1 */
    int flat;
    uint32_t major_columns; /* flattened channels before so much time: units of the file's constants
                               are permuted until the next dense layer; else 0 */
    int finished;           /* Softmax or Sigmoid has been seen */
    struct { /* what the current tensor is of the last layer's output: factor x + shift for
                each channel (number i: unit i modulo count), for the next layer */
        double *factor, *shift; /* one allocation, at factor */
        uint32_t count;         /* 0: nothing */
        const char *name;       /* the last node that had a part in it */
    } waiting;
    struct onnx_seen seen[ONNX_MAX_NODES + 1]; /* all tensors that carried the activations */
    size_t seen_count;

    enum model_head head;
    uint32_t window, channels;
    struct onnx_layer layers[MODEL_MAX_LAYERS];
    uint32_t layer_count, counts[5]; /* of each enum model_op: for names */
    size_t parameter_count;

    const struct Onnx__NodeProto *node; /* the one being read, NULL: none */
    char *why;
    size_t why_size;
};

/* A checked float constant. Its numbers are read with onnx_graph_number. */
struct onnx_tensor {
    uint32_t dims[ONNX_MAX_RANK], rank;
    size_t count;
    const unsigned char *raw; /* little-endian, unaligned; or else */
    const float *values;
};

/* Writes the reason, with the node's operator and name, and returns -EINVAL. */
int onnx_graph_refuse(struct onnx_graph *g, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Input number i of the node: NULL when it is left out. */
const char *onnx_graph_input(const struct onnx_graph *g, size_t i);
const struct Onnx__TensorProto *onnx_graph_constant(const struct onnx_graph *g, const char *name);
int onnx_graph_add_constant(struct onnx_graph *g, const char *name,
                            const struct Onnx__TensorProto *t);

/* Takes name for the activations as they are now. -EINVAL when it is not new. */
int onnx_graph_name(struct onnx_graph *g, const char *name);
const struct onnx_seen *onnx_graph_seen(const struct onnx_graph *g, const char *name);

/* Input i as floats, or as at most `room` integers. 0 or -EINVAL. */
int onnx_graph_floats(struct onnx_graph *g, size_t i, struct onnx_tensor *out);
int onnx_graph_integers(struct onnx_graph *g, size_t i, int64_t *out, uint32_t room,
                        uint32_t *count);
float onnx_graph_number(const struct onnx_tensor *t, size_t i);

/* Integers computed from shapes become constants. 1: the node was such a one, 0: not. */
int onnx_graph_fold(struct onnx_graph *g);

/* Attributes: the fallback when absent, -EINVAL when of another type. */
const struct Onnx__AttributeProto *onnx_graph_attribute(const struct onnx_graph *g,
                                                        const char *name);
int onnx_graph_int(struct onnx_graph *g, const char *name, int64_t fallback, int64_t *out);
int onnx_graph_float(struct onnx_graph *g, const char *name, float fallback, float *out);
/* *values leads into the file; *count 0 when absent. */
int onnx_graph_ints(struct onnx_graph *g, const char *name, const int64_t **values, size_t *count);

/* Shapes (onnx_shape.c). settle: makes sure that axis 1 is the channels and axes 2.. hold time and
 * unit dimensions only, as Conv and MaxPool want; *time is the axis of time. */
int onnx_graph_settle(struct onnx_graph *g, uint32_t *time);
int onnx_graph_flatten(struct onnx_graph *g);
int onnx_graph_reshape(struct onnx_graph *g);
int onnx_graph_transpose(struct onnx_graph *g);
int onnx_graph_squeeze(struct onnx_graph *g);
int onnx_graph_unsqueeze(struct onnx_graph *g);

/* Layers (onnx_layers.c). push: a new layer of that operation with its arrays zeroed. */
int onnx_graph_push(struct onnx_graph *g, enum model_op op, uint32_t outputs, size_t weight_count,
                    struct onnx_layer **out);
int onnx_graph_conv(struct onnx_graph *g);
int onnx_graph_pool(struct onnx_graph *g);
int onnx_graph_pad(struct onnx_graph *g); /* of nothing, or refused */
int onnx_graph_relu(struct onnx_graph *g);
int onnx_graph_gemm(struct onnx_graph *g);
int onnx_graph_matmul(struct onnx_graph *g);

/* Factors and shifts of channels (onnx_affine.c). absorb: l, complete with bias, takes in what
 * waits. none_waits, pool_waits: refuse when something waits that cannot pass this node. */
int onnx_graph_norm(struct onnx_graph *g);
int onnx_graph_arithmetic(struct onnx_graph *g);
int onnx_graph_absorb(struct onnx_graph *g, struct onnx_layer *l);
int onnx_graph_none_waits(struct onnx_graph *g);
int onnx_graph_pool_waits(struct onnx_graph *g);
void onnx_graph_forget(struct onnx_graph *g);

#endif
