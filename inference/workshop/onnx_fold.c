/* onnx_fold.c - shapes computed in the graph, as exporters write x.view(x.size(0), -1): Shape of
 * the activations, and what picks from it and puts it together again, become integer constants. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <onnx.pb-c.h>

#include "inference/workshop/onnx_graph.h"

static int derive(struct onnx_graph *g, const int64_t *values, uint32_t count)
{
    Onnx__TensorProto *t;

    if (g->derived_count == ONNX_MAX_DERIVED || count < 1)
        return onnx_graph_refuse(g, "an empty shape, or more than %u of them", ONNX_MAX_DERIVED);
    t = malloc(sizeof(*t) + (1 + count) * sizeof(int64_t)); /* the message, its size, its values */
    if (!t)
        return -ENOMEM;
    onnx__tensor_proto__init(t);
    t->data_type = ONNX_TYPE_INT64;
    t->n_dims = 1;
    t->dims = (int64_t *)(void *)(t + 1);
    t->dims[0] = count;
    t->int64_data = t->dims + 1;
    t->n_int64_data = count;
    memcpy(t->int64_data, values, count * sizeof(int64_t));
    g->derived[g->derived_count++] = t;
    return onnx_graph_add_constant(g, g->node->output[0], t);
}

static int gather(struct onnx_graph *g, const int64_t *values, uint32_t count)
{
    int64_t picked[ONNX_MAX_RANK];
    uint32_t n;
    int rc = onnx_graph_integers(g, 1, picked, ONNX_MAX_RANK, &n);

    for (uint32_t i = 0; !rc && i < n; i++) {
        if (picked[i] < 0)
            picked[i] += picked[i] >= -(int64_t)count ? (int64_t)count : 0;
        if (picked[i] < 0 || picked[i] >= (int64_t)count)
            rc = onnx_graph_refuse(g, "index %lld of %u sizes", (long long)picked[i], count);
        else
            picked[i] = values[picked[i]];
    }
    return rc ? rc : derive(g, picked, n);
}

static int concat(struct onnx_graph *g)
{
    int64_t values[ONNX_MAX_RANK];
    uint32_t count = 0;

    for (size_t i = 0; i < g->node->n_input; i++) {
        uint32_t n;
        int rc = onnx_graph_integers(g, i, values + count, ONNX_MAX_RANK - count, &n);
        if (rc)
            return rc;
        count += n;
    }
    return derive(g, values, count);
}

int onnx_graph_fold(struct onnx_graph *g)
{
    static const char *const same[] = {"Unsqueeze", "Squeeze", "Cast"};
    const char *op = g->node->op_type, *input = onnx_graph_input(g, 0);
    int64_t values[ONNX_MAX_RANK];
    uint32_t count;
    int rc;

    if (input && !strcmp(op, "Shape") && !strcmp(input, g->current)) {
        if (g->node->n_attribute)
            return onnx_graph_refuse(g, "of a part of the dimensions is not supported");
        for (uint32_t i = 0; i < g->rank; i++)
            values[i] = g->axes[i].size;
        rc = derive(g, values, g->rank);
        return rc ? rc : 1;
    }
    const Onnx__TensorProto *t = onnx_graph_constant(g, input);
    if (!t || t->data_type != ONNX_TYPE_INT64)
        return 0;
    if (!strcmp(op, "Concat")) {
        rc = concat(g);
        return rc ? rc : 1;
    }
    rc = onnx_graph_integers(g, 0, values, ONNX_MAX_RANK, &count);
    if (rc)
        return rc;
    if (!strcmp(op, "Gather")) {
        rc = gather(g, values, count);
        return rc ? rc : 1;
    }
    for (size_t i = 0; i < sizeof(same) / sizeof(*same); i++)
        if (!strcmp(op, same[i])) {
            rc = derive(g, values, count);
            return rc ? rc : 1;
        }
    return 0;
}
