/* onnx_build.c - see onnx_build.h. */
#include "inference/workshop/onnx_build.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <onnx.pb-c.h>

#include "inference/workshop/onnx_graph.h"

#define IR_VERSION 7
#define OPSET 13
#define MAX_NODES (6 * MODEL_MAX_LAYERS + 8) /* INT8: what a dense layer takes, and the input */
#define MAX_TENSORS (8 * MODEL_MAX_LAYERS + 8)

/* All messages of the file. Small ones come from a fixed store, which the largest network does not
 * exhaust; weights are owned apart. */
struct onnx_build {
    struct {
        Onnx__NodeProto message;
        Onnx__AttributeProto attributes[2], *list[2];
        int64_t ints[2];
        char *inputs[4], *output;
        char output_name[16];
    } nodes[MAX_NODES];
    struct {
        Onnx__TensorProto message;
        int64_t dims[3];
        void *numbers;
        char name[MODEL_LABEL_BYTES + 16];
    } tensors[MAX_TENSORS];
    Onnx__NodeProto *node_list[MAX_NODES];
    Onnx__TensorProto *tensor_list[MAX_TENSORS];
    size_t node_count, tensor_count;
    const char *current; /* name of the tensor that the next node reads */
};

static char features_name[] = "features", probabilities_name[] = "probabilities";

struct onnx_build *onnx_build_create(void)
{
    struct onnx_build *b = calloc(1, sizeof(*b));

    if (b)
        b->current = features_name;
    return b;
}

void onnx_build_free(struct onnx_build *b)
{
    for (size_t i = 0; b && i < b->tensor_count; i++)
        free(b->tensors[i].numbers);
    free(b);
}

const char *onnx_build_current(const struct onnx_build *b)
{
    return b->current;
}

/* protobuf-c has no const: what it is given is not written to. */
static char *text(const char *s)
{
    return (char *)(uintptr_t)s;
}

const char *onnx_build_aside(struct onnx_build *b, const char *op)
{
    const size_t i = b->node_count++;
    Onnx__NodeProto *n = &b->nodes[i].message;

    onnx__node_proto__init(n);
    (void)snprintf(b->nodes[i].output_name, sizeof(b->nodes[i].output_name), "t%zu", i + 1);
    n->op_type = text(op);
    n->input = b->nodes[i].inputs;
    b->nodes[i].output = b->nodes[i].output_name;
    n->output = &b->nodes[i].output;
    n->n_output = 1;
    n->attribute = b->nodes[i].list;
    b->node_list[i] = n;
    return b->nodes[i].output_name;
}

const char *onnx_build_node(struct onnx_build *b, const char *op, const char *name)
{
    const char *before = b->current;

    b->current = onnx_build_aside(b, op);
    b->node_list[b->node_count - 1]->name = text(name);
    onnx_build_input(b, before);
    return b->current;
}

void onnx_build_input(struct onnx_build *b, const char *tensor)
{
    Onnx__NodeProto *n = b->node_list[b->node_count - 1];

    n->input[n->n_input++] = text(tensor);
}

void onnx_build_attribute(struct onnx_build *b, const char *name, int64_t value, int as_list)
{
    const size_t i = b->node_count - 1, k = b->nodes[i].message.n_attribute++;
    Onnx__AttributeProto *a = &b->nodes[i].attributes[k];

    onnx__attribute_proto__init(a);
    a->name = text(name);
    if (as_list) {
        b->nodes[i].ints[k] = value;
        a->ints = &b->nodes[i].ints[k];
        a->n_ints = 1;
        a->type = ONNX_ATTRIBUTE_INTS;
    } else {
        a->i = value;
        a->type = ONNX_ATTRIBUTE_INT;
    }
    b->nodes[i].list[k] = a;
}

void *onnx_build_tensor(struct onnx_build *b, const char *layer, const char *suffix, int type,
                        const int64_t *dims, size_t rank)
{
    const size_t i = b->tensor_count;
    Onnx__TensorProto *t = &b->tensors[i].message;
    size_t size = type == ONNX_BUILD_INT8 ? 1 : 4;

    onnx__tensor_proto__init(t);
    for (size_t k = 0; k < rank; k++) {
        b->tensors[i].dims[k] = dims[k];
        size *= (size_t)dims[k];
    }
    b->tensors[i].numbers = malloc(size);
    if (!b->tensors[i].numbers)
        return NULL;
    (void)snprintf(b->tensors[i].name, sizeof(b->tensors[i].name), "%s.%s", layer, suffix);
    t->name = b->tensors[i].name;
    t->dims = b->tensors[i].dims;
    t->n_dims = rank;
    t->data_type = type;
    t->raw_data.data = b->tensors[i].numbers;
    t->raw_data.len = size;
    b->tensor_list[b->tensor_count++] = t;
    onnx_build_input(b, b->tensors[i].name);
    return b->tensors[i].numbers;
}

/* An input or output: batch of any size, then one or two fixed dimensions. */
struct value {
    Onnx__ValueInfoProto info, *list;
    Onnx__TypeProto type;
    Onnx__TensorTypeProto tensor;
    Onnx__TensorShapeProto shape;
    Onnx__DimensionProto dims[3], *dim_list[3];
};

static void describe(struct value *v, char *name, int64_t first, int64_t second)
{
    static char batch[] = "batch";
    const int64_t sizes[3] = {0, first, second};

    onnx__value_info_proto__init(&v->info);
    onnx__type_proto__init(&v->type);
    onnx__tensor_type_proto__init(&v->tensor);
    onnx__tensor_shape_proto__init(&v->shape);
    for (size_t i = 0; i < 3; i++) {
        onnx__dimension_proto__init(&v->dims[i]);
        v->dims[i].dim_value = sizes[i];
        v->dim_list[i] = &v->dims[i];
    }
    v->dims[0].dim_param = batch;
    v->shape.dim = v->dim_list;
    v->shape.n_dim = second ? 3 : 2;
    v->tensor.elem_type = ONNX_TYPE_FLOAT;
    v->tensor.shape = &v->shape;
    v->type.tensor_type = &v->tensor;
    v->info.name = name;
    v->info.type = &v->type;
    v->list = &v->info;
}

int onnx_build_pack(struct onnx_build *b, const struct model *m, void **data, size_t *size)
{
    static char producer[] = "nilm-model", version[] = NILM_VERSION;
    Onnx__ModelProto file = ONNX__MODEL_PROTO__INIT;
    Onnx__GraphProto graph = ONNX__GRAPH_PROTO__INIT;
    Onnx__OperatorSetIdProto opset = ONNX__OPERATOR_SET_ID_PROTO__INIT, *opsets = &opset;
    struct value input, output;

    b->nodes[b->node_count - 1].output = probabilities_name;
    describe(&input, features_name, m->channel_count, m->window);
    describe(&output, probabilities_name, m->class_count, 0);
    opset.version = OPSET;
    graph.name = text(m->family);
    graph.node = b->node_list;
    graph.n_node = b->node_count;
    graph.initializer = b->tensor_list;
    graph.n_initializer = b->tensor_count;
    graph.input = &input.list;
    graph.n_input = 1;
    graph.output = &output.list;
    graph.n_output = 1;
    file.ir_version = IR_VERSION;
    file.producer_name = producer;
    file.producer_version = version;
    file.opset_import = &opsets;
    file.n_opset_import = 1;
    file.graph = &graph;
    *size = onnx__model_proto__get_packed_size(&file);
    *data = malloc(*size);
    if (!*data)
        return -ENOMEM;
    (void)onnx__model_proto__pack(&file, *data);
    return 0;
}

size_t onnx_build_place(size_t from, size_t inputs, size_t columns)
{
    const size_t width = inputs / columns;

    return from % width * columns + from / width;
}
