/* onnx_import.c - from the bytes of an ONNX file to a net. */
#include "inference/workshop/onnx.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <onnx.pb-c.h>

#include "inference/workshop/onnx_graph.h"

/* Opsets whose operators mean what onnx_layers.c takes them to mean: 7 brought today's broadcasting
 * and BatchNormalization. */
#define OPSET_LOW 7
#define OPSET_HIGH 25

/* --- Memory: a few bytes on the wire can make a message of hundreds in memory, so what the parser
 * --- takes for one file is bounded. --- */

struct budget {
    size_t left;
};

static void *take(void *context, size_t size)
{
    struct budget *b = context;

    if (size > b->left)
        return NULL;
    b->left -= size;
    return malloc(size);
}

static void give(void *context, void *p)
{
    (void)context;
    free(p);
}

/* --- The parts of the file --- */

static int check_model(struct onnx_graph *g, const Onnx__ModelProto *m)
{
    int64_t version = 0;

    for (size_t i = 0; i < m->n_opset_import; i++) {
        const Onnx__OperatorSetIdProto *o = m->opset_import[i];
        if (!o->domain[0] || !strcmp(o->domain, "ai.onnx"))
            version = o->version;
    }
    if (!m->graph || !m->graph->n_node)
        return onnx_graph_refuse(g, "not an ONNX model: it has no nodes");
    if (version < OPSET_LOW || version > OPSET_HIGH)
        return onnx_graph_refuse(g, "opset %lld of ONNX; expected %d to %d", (long long)version,
                                 OPSET_LOW, OPSET_HIGH);
    if (m->graph->n_node > ONNX_MAX_NODES || m->graph->n_initializer > ONNX_MAX_NODES)
        return onnx_graph_refuse(g, "more than %u nodes or initializers", ONNX_MAX_NODES);
    if (m->graph->n_output != 1)
        return onnx_graph_refuse(g, "%zu outputs; expected 1", m->graph->n_output);
    return 0;
}

/* The graph's one input that is no initializer: time is its largest dimension, channels the largest
 * of the others, which must be 1 but for that one. */
static int read_input(struct onnx_graph *g, const Onnx__GraphProto *graph)
{
    const Onnx__ValueInfoProto *input = NULL;
    const Onnx__TensorShapeProto *shape;
    uint32_t time = 1, channel = 0;

    for (size_t i = 0; i < graph->n_input; i++) {
        if (onnx_graph_constant(g, graph->input[i]->name))
            continue;
        if (input)
            return onnx_graph_refuse(g, "more than one input: \"%.64s\" and \"%.64s\"", input->name,
                                     graph->input[i]->name);
        input = graph->input[i];
    }
    if (!input || !input->name[0] || !input->type || !input->type->tensor_type ||
        input->type->tensor_type->elem_type != ONNX_TYPE_FLOAT || !input->type->tensor_type->shape)
        return onnx_graph_refuse(g, "expected an input of floats with a shape");
    shape = input->type->tensor_type->shape;
    if (shape->n_dim < 2 || shape->n_dim > 4)
        return onnx_graph_refuse(g, "input \"%.64s\" has %zu dimensions; expected 2 to 4",
                                 input->name, shape->n_dim);
    g->rank = (uint32_t)shape->n_dim;
    for (uint32_t i = 0; i < g->rank; i++) {
        int64_t v = shape->dim[i]->dim_value;
        if (i == 0 && v <= 0)
            v = 1;
        if (v < 1 || v > MODEL_MAX_WINDOW)
            return onnx_graph_refuse(
                g, "input \"%.64s\": dimension %u is %lld; expected a fixed 1 to %u", input->name,
                i, (long long)v, MODEL_MAX_WINDOW);
        g->axes[i] = (struct onnx_axis){i ? ONNX_UNIT : ONNX_BATCH, (uint32_t)v};
        if (i && g->axes[i].size > g->axes[time].size)
            time = i;
    }
    for (uint32_t i = 1; i < g->rank; i++)
        if (i != time && (!channel || g->axes[i].size > g->axes[channel].size))
            channel = i;
    g->axes[time].role = ONNX_TIME;
    g->columns = g->window = g->axes[time].size;
    g->width = 1;
    if (channel) {
        g->axes[channel].role = ONNX_CHANNEL;
        g->width = g->axes[channel].size;
    }
    g->channels = g->width;
    for (uint32_t i = 1; i < g->rank; i++)
        if (i != time && i != channel && g->axes[i].size != 1)
            return onnx_graph_refuse(g, "input \"%.64s\" has more than channels and time",
                                     input->name);
    return onnx_graph_name(g, input->name);
}

/* --- Nodes --- */

static int read_head(struct onnx_graph *g)
{
    int softmax = strcmp(g->node->op_type, "Sigmoid") != 0;
    int64_t axis = -1;
    int rc = softmax ? onnx_graph_int(g, "axis", -1, &axis) : 0;

    if (!rc)
        rc = onnx_graph_none_waits(g);

    if (rc)
        return rc;
    if (g->rank != 2 || (axis != -1 && axis != 1))
        return onnx_graph_refuse(g, "expected at the end, over the classes");
    g->head = softmax ? MODEL_SOFTMAX : MODEL_SIGMOID;
    g->finished = 1;
    return 0;
}

static int read_dropout(struct onnx_graph *g)
{
    const char *mode = onnx_graph_input(g, 2);
    const Onnx__TensorProto *t = onnx_graph_constant(g, mode);

    if (!mode)
        return 0;
    if (!t || (t->raw_data.len && t->raw_data.data[0]) || (t->n_int32_data && t->int32_data[0]))
        return onnx_graph_refuse(g, "exported in training mode");
    return 0;
}

static int pass(struct onnx_graph *g)
{
    (void)g;
    return 0;
}

static const struct {
    const char *op;
    int (*read)(struct onnx_graph *g);
} operators[] = {
    {"Conv", onnx_graph_conv},
    {"Relu", onnx_graph_relu},
    {"MaxPool", onnx_graph_pool},
    {"BatchNormalization", onnx_graph_norm},
    {"Flatten", onnx_graph_flatten},
    {"Reshape", onnx_graph_reshape},
    {"Transpose", onnx_graph_transpose},
    {"Squeeze", onnx_graph_squeeze},
    {"Unsqueeze", onnx_graph_unsqueeze},
    {"Gemm", onnx_graph_gemm},
    {"MatMul", onnx_graph_matmul},
    {"Add", onnx_graph_arithmetic},
    {"Sub", onnx_graph_arithmetic},
    {"Mul", onnx_graph_arithmetic},
    {"Div", onnx_graph_arithmetic},
    {"Pad", onnx_graph_pad},
    {"Softmax", read_head},
    {"LogSoftmax", read_head}, /* a model gives probabilities: the classes' order is the same */
    {"Sigmoid", read_head},
    {"Dropout", read_dropout},
    {"Identity", pass}};

/* Constant, and Identity of a constant (exporters share equal weights so). 1: was one. */
static int read_constant(struct onnx_graph *g)
{
    const Onnx__NodeProto *n = g->node;
    const Onnx__AttributeProto *value;
    const Onnx__TensorProto *t;
    int rc;

    if (!strcmp(n->op_type, "Identity")) {
        t = onnx_graph_constant(g, onnx_graph_input(g, 0));
        if (!t)
            return 0;
    } else if (!strcmp(n->op_type, "Constant")) {
        value = onnx_graph_attribute(g, "value");
        if (!value || value->type != ONNX_ATTRIBUTE_TENSOR || !value->t)
            return onnx_graph_refuse(g, "expected a tensor as its value");
        t = value->t;
    } else {
        return 0;
    }
    rc = onnx_graph_add_constant(g, n->output[0], t);
    return rc ? rc : 1;
}

/* The activations must come in once: first, or where the order does not matter in any place. */
static int check_inputs(struct onnx_graph *g)
{
    const Onnx__NodeProto *n = g->node;
    size_t uses = 0;

    for (size_t i = 0; i < n->n_input; i++)
        uses += !strcmp(n->input[i], g->current);
    if (uses == 1 && (!strcmp(n->input[0], g->current) || !strcmp(n->op_type, "Add") ||
                      !strcmp(n->op_type, "Mul") || !strcmp(n->op_type, "Sub")))
        return 0;
    return onnx_graph_refuse(
        g,
        "must read the output of the node before it (\"%.64s\"), once: only chains are supported",
        g->current);
}

static int read_node(struct onnx_graph *g)
{
    const Onnx__NodeProto *n = g->node;
    size_t op = 0;
    int rc;

    if (n->domain[0] && strcmp(n->domain, "ai.onnx") != 0)
        return onnx_graph_refuse(g, "operators of domain \"%.64s\" are not supported", n->domain);
    if (!n->n_output || !n->output[0][0])
        return onnx_graph_refuse(g, "has no output");
    rc = read_constant(g);
    if (!rc)
        rc = onnx_graph_fold(g);
    if (rc)
        return rc < 0 ? rc : 0;
    while (op < sizeof(operators) / sizeof(*operators) && strcmp(operators[op].op, n->op_type) != 0)
        op++;
    if (op == sizeof(operators) / sizeof(*operators))
        return onnx_graph_refuse(g, "this operator is not supported");
    rc = check_inputs(g);
    if (!rc && g->finished && operators[op].read != pass)
        rc = onnx_graph_refuse(g, "stands behind Softmax or Sigmoid");
    if (!rc)
        rc = operators[op].read(g);
    return rc ? rc : onnx_graph_name(g, n->output[0]);
}

static int read_graph(struct onnx_graph *g, const Onnx__ModelProto *m)
{
    int rc = check_model(g, m);

    if (rc)
        return rc;
    for (size_t i = 0; !rc && i < m->graph->n_initializer; i++)
        rc = onnx_graph_add_constant(g, m->graph->initializer[i]->name, m->graph->initializer[i]);
    if (!rc)
        rc = read_input(g, m->graph);
    for (size_t i = 0; !rc && i < m->graph->n_node; i++) {
        g->node = m->graph->node[i];
        rc = read_node(g);
    }
    if (!rc)
        rc = onnx_graph_none_waits(g);
    g->node = NULL;
    if (!rc && strcmp(g->current, m->graph->output[0]->name) != 0)
        rc = onnx_graph_refuse(g, "the output \"%.64s\" is not what the last node makes",
                               m->graph->output[0]->name);
    return rc;
}

static int are_finite(const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return 0;
    return 1;
}

static int make_net(struct onnx_graph *g, struct net **out)
{
    struct net_layer shapes[MODEL_MAX_LAYERS];
    int rc;

    for (uint32_t i = 0; i < g->layer_count; i++)
        shapes[i] = g->layers[i].shape;
    if (!g->layer_count)
        return onnx_graph_refuse(g, "the network has no layers");
    rc = net_from_layers(g->head, g->window, g->channels, shapes, g->layer_count, out, g->why,
                         g->why_size);
    for (uint32_t i = 0; !rc && i < g->layer_count; i++) {
        const struct net_layer *l = &(*out)->layers[i];
        const struct onnx_layer *from = &g->layers[i];
        if (!from->weights)
            continue;
        memcpy((*out)->params + l->weights, from->weights, l->weight_count * sizeof(float));
        memcpy((*out)->params + l->bias, from->bias, l->out_channels * sizeof(float));
        if (!are_finite(from->weights, l->weight_count) || !are_finite(from->bias, l->out_channels))
            rc = onnx_graph_refuse(g, "layer \"%s\" has weights that are not finite", l->name);
    }
    if (rc) {
        net_free(*out);
        *out = NULL;
    }
    return rc;
}

int onnx_import(const void *data, size_t size, enum model_head fallback, struct net **out,
                char *why, size_t why_size)
{
    struct onnx_graph *g = calloc(1, sizeof(*g));
    struct budget budget = {4 * size + (16u << 20)};
    ProtobufCAllocator allocator = {take, give, &budget};
    Onnx__ModelProto *m = NULL;
    int rc = -ENOMEM;

    *out = NULL;
    if (why && why_size)
        why[0] = '\0';
    if (!g)
        return rc;
    g->why = why;
    g->why_size = why_size;
    g->head = fallback;
    if (size > MODEL_MAX_BYTES) {
        (void)onnx_graph_refuse(g, "larger than %u bytes", MODEL_MAX_BYTES);
        rc = -EFBIG;
        goto out;
    }
    m = onnx__model_proto__unpack(&allocator, size, data);
    if (m)
        rc = read_graph(g, m);
    else
        rc = onnx_graph_refuse(g, "not an ONNX file, or damaged");
    if (!rc)
        rc = make_net(g, out);
out:
    for (uint32_t i = 0; i < g->layer_count; i++) {
        free(g->layers[i].weights);
        free(g->layers[i].bias);
    }
    for (size_t i = 0; i < g->derived_count; i++)
        free(g->derived[i]);
    onnx_graph_forget(g);
    free(g);
    if (m)
        onnx__model_proto__free_unpacked(m, &allocator);
    return rc;
}
