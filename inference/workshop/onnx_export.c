/* onnx_export.c - the network of a model as an ONNX file. */
#include "inference/workshop/onnx.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <onnx.pb-c.h>

#include "inference/workshop/onnx_graph.h"

#define IR_VERSION 7
#define OPSET 13
#define MAX_NODES (2 * MODEL_MAX_LAYERS + 1)
#define MAX_TENSORS (2 * MODEL_MAX_LAYERS)

/* All messages of the file. Small ones come from a fixed store, which the largest network does not
 * exhaust; weights are owned apart. */
struct builder {
    struct {
        Onnx__NodeProto message;
        Onnx__AttributeProto attributes[2], *list[2];
        int64_t ints[2];
        char *inputs[3], *output;
        char output_name[MODEL_LABEL_BYTES + 8];
    } nodes[MAX_NODES];
    struct {
        Onnx__TensorProto message;
        int64_t dims[3];
        float *numbers;
        char name[MODEL_LABEL_BYTES + 8];
    } tensors[MAX_TENSORS];
    Onnx__NodeProto *node_list[MAX_NODES];
    Onnx__TensorProto *tensor_list[MAX_TENSORS];
    size_t node_count, tensor_count;
    char *current; /* name of the tensor that the next node reads */
};

static char features_name[] = "features", probabilities_name[] = "probabilities";

/* A node that reads the current tensor and makes a new one, named after the layer. */
static Onnx__NodeProto *add_node(struct builder *b, const char *op, const char *name)
{
    const size_t i = b->node_count++;
    Onnx__NodeProto *n = &b->nodes[i].message;

    onnx__node_proto__init(n);
    (void)snprintf(b->nodes[i].output_name, sizeof(b->nodes[i].output_name), "t%zu", i + 1);
    n->op_type = (char *)(uintptr_t)op;
    n->name = (char *)(uintptr_t)name;
    b->nodes[i].inputs[0] = b->current;
    n->input = b->nodes[i].inputs;
    n->n_input = 1;
    b->nodes[i].output = b->nodes[i].output_name;
    n->output = &b->nodes[i].output;
    n->n_output = 1;
    n->attribute = b->nodes[i].list;
    b->current = b->nodes[i].output_name;
    b->node_list[i] = n;
    return n;
}

static void add_attribute(struct builder *b, const char *name, int64_t value, int as_list)
{
    const size_t i = b->node_count - 1, k = b->nodes[i].message.n_attribute++;
    Onnx__AttributeProto *a = &b->nodes[i].attributes[k];

    onnx__attribute_proto__init(a);
    a->name = (char *)(uintptr_t)name;
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

/* A constant as the next input of the last node; its numbers are to be filled in. NULL: no memory.
 */
static float *add_tensor(struct builder *b, const char *layer, const char *suffix,
                         const int64_t *dims, size_t rank)
{
    const size_t i = b->tensor_count;
    Onnx__NodeProto *n = b->node_list[b->node_count - 1];
    Onnx__TensorProto *t = &b->tensors[i].message;
    size_t count = 1;

    onnx__tensor_proto__init(t);
    for (size_t k = 0; k < rank; k++) {
        b->tensors[i].dims[k] = dims[k];
        count *= (size_t)dims[k];
    }
    b->tensors[i].numbers = malloc(count * sizeof(float));
    if (!b->tensors[i].numbers)
        return NULL;
    (void)snprintf(b->tensors[i].name, sizeof(b->tensors[i].name), "%s.%s", layer, suffix);
    t->name = b->tensors[i].name;
    t->dims = b->tensors[i].dims;
    t->n_dims = rank;
    t->data_type = ONNX_TYPE_FLOAT;
    t->raw_data.data = (uint8_t *)b->tensors[i].numbers;
    t->raw_data.len = count * sizeof(float);
    b->tensor_list[b->tensor_count++] = t;
    n->input[n->n_input++] = b->tensors[i].name;
    return b->tensors[i].numbers;
}

static int add_weights(struct builder *b, const struct model_layer *l, uint32_t columns)
{
    const size_t in = l->in_channels, out = l->out_channels,
                 taps = l->op == MODEL_CONV1D ? l->taps : 1;
    const size_t width = in / columns; /* of the first dense layer's input before Flatten */
    const int64_t dims[3] = {(int64_t)out, (int64_t)in, (int64_t)taps};
    float *weights = add_tensor(b, l->name, "weight", dims, l->op == MODEL_CONV1D ? 3 : 2);
    float *bias = weights ? add_tensor(b, l->name, "bias", dims, 1) : NULL;

    if (!bias)
        return -ENOMEM;
    for (size_t o = 0; o < out; o++)
        for (size_t c = 0; c < in; c++)
            for (size_t t = 0; t < taps; t++) {
                size_t to = c; /* ours is time-major, ONNX flattens channel-major */
                if (l->op == MODEL_DENSE)
                    to = c % width * columns + c / width;
                weights[(o * in + to) * taps + t] = l->weights_f32[(o * taps + t) * in + c];
            }
    memcpy(bias, l->bias_f32, out * sizeof(float));
    return 0;
}

static int add_layers(struct builder *b, const struct model *m)
{
    uint32_t columns = 1; /* of the input of Flatten, for the first dense layer after it */
    int rc = 0;

    for (uint32_t i = 0; !rc && i < m->layer_count; i++) {
        const struct model_layer *l = &m->layers[i];
        switch (l->op) {
        case MODEL_CONV1D:
            (void)add_node(b, "Conv", l->name);
            add_attribute(b, "kernel_shape", l->taps, 1);
            rc = add_weights(b, l, 1);
            break;
        case MODEL_MAXPOOL1D:
            (void)add_node(b, "MaxPool", l->name);
            add_attribute(b, "kernel_shape", l->pool, 1);
            add_attribute(b, "strides", l->pool, 1);
            break;
        case MODEL_FLATTEN:
            (void)add_node(b, "Flatten", l->name);
            add_attribute(b, "axis", 1, 0);
            columns = l->in_columns;
            break;
        case MODEL_DENSE:
            (void)add_node(b, "Gemm", l->name);
            add_attribute(b, "transB", 1, 0);
            rc = add_weights(b, l, columns);
            columns = 1;
            break;
        }
        if (!rc && l->relu)
            (void)add_node(b, "Relu", "");
    }
    (void)add_node(b, m->head == MODEL_SOFTMAX ? "Softmax" : "Sigmoid", "");
    if (m->head == MODEL_SOFTMAX)
        add_attribute(b, "axis", 1, 0);
    b->nodes[b->node_count - 1].output = probabilities_name;
    return rc;
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

static int pack(struct builder *b, const struct model *m, void **data, size_t *size)
{
    static char producer[] = "nilm-model", version[] = NILM_VERSION;
    Onnx__ModelProto file = ONNX__MODEL_PROTO__INIT;
    Onnx__GraphProto graph = ONNX__GRAPH_PROTO__INIT;
    Onnx__OperatorSetIdProto opset = ONNX__OPERATOR_SET_ID_PROTO__INIT, *opsets = &opset;
    struct value input, output;

    describe(&input, features_name, m->channel_count, m->window);
    describe(&output, probabilities_name, m->class_count, 0);
    opset.version = OPSET;
    graph.name = (char *)(uintptr_t)m->family;
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

int onnx_export(const struct model *m, void **data, size_t *size, char *why, size_t why_size)
{
    struct builder *b;
    int rc;

    *data = NULL;
    *size = 0;
    if (m->dtype != MODEL_FP32) {
        if (why && why_size)
            (void)snprintf(why, why_size, "this is an INT8 model; an FP32 model is needed");
        return -EINVAL;
    }
    b = calloc(1, sizeof(*b));
    if (!b)
        return -ENOMEM;
    b->current = features_name;
    rc = add_layers(b, m);
    if (!rc)
        rc = pack(b, m, data, size);
    for (size_t i = 0; i < b->tensor_count; i++)
        free(b->tensors[i].numbers);
    free(b);
    return rc;
}
