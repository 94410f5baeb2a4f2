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

static int gather(struct onnx_graph *g)
{
    int64_t values[ONNX_MAX_RANK], picked[ONNX_MAX_RANK];
    uint32_t count, n;
    int rc = onnx_graph_integers(g, 0, values, ONNX_MAX_RANK, &count);

    if (!rc)
        rc = onnx_graph_integers(g, 1, picked, ONNX_MAX_RANK, &n);
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

static int multiply(struct onnx_graph *g) /* x.size(1) * x.size(2) */
{
    int64_t a[ONNX_MAX_RANK], b[ONNX_MAX_RANK];
    uint32_t n, m;
    int rc = onnx_graph_integers(g, 0, a, ONNX_MAX_RANK, &n);

    if (!rc)
        rc = onnx_graph_integers(g, 1, b, ONNX_MAX_RANK, &m);
    if (!rc && (n != 1 || m != 1))
        rc = onnx_graph_refuse(g, "expected two single sizes");
    if (!rc && __builtin_mul_overflow(a[0], b[0], &a[0]))
        rc = onnx_graph_refuse(g, "the product of the sizes is too large");
    return rc ? rc : derive(g, a, 1);
}

/* One number of Slice: an input since opset 10, before that an attribute. */
static int slice_number(struct onnx_graph *g, const char *name, size_t input, int64_t fallback,
                        int64_t *out)
{
    const int64_t *list;
    size_t n;
    uint32_t count = 1;
    int rc = onnx_graph_ints(g, name, &list, &n);

    *out = rc || !n ? fallback : list[0];
    if (!rc && !n && onnx_graph_input(g, input))
        rc = onnx_graph_integers(g, input, out, 1, &count);
    if (!rc && (n > 1 || count != 1))
        rc = onnx_graph_refuse(g, "of a shape: expected one number as %s", name);
    return rc;
}

static int slice(struct onnx_graph *g) /* tf2onnx: x.shape[a:b] */
{
    int64_t values[ONNX_MAX_RANK], start, end, axis, step;
    uint32_t count;
    int rc = onnx_graph_integers(g, 0, values, ONNX_MAX_RANK, &count);

    if (!rc)
        rc = slice_number(g, "starts", 1, 0, &start);
    if (!rc)
        rc = slice_number(g, "ends", 2, INT64_MAX, &end);
    if (!rc)
        rc = slice_number(g, "axes", 3, 0, &axis);
    if (!rc)
        rc = slice_number(g, "steps", 4, 1, &step);
    if (rc)
        return rc;
    start += start < 0 ? (int64_t)count : 0;
    end += end < 0 ? (int64_t)count : 0;
    end = end > (int64_t)count ? (int64_t)count : end;
    if (axis || step != 1 || start < 0 || start >= end)
        return onnx_graph_refuse(g, "of a shape: expected a range of its %u sizes", count);
    return derive(g, values + start, (uint32_t)(end - start));
}

int onnx_graph_fold(struct onnx_graph *g)
{
    static const struct {
        const char *op;
        int (*fold)(struct onnx_graph *g);
    } folds[] = {{"Gather", gather}, {"Concat", concat}, {"Mul", multiply}, {"Slice", slice}};
    static const char *const same[] = {"Unsqueeze", "Squeeze", "Cast"};
    const char *op = g->node->op_type, *input = onnx_graph_input(g, 0);
    int64_t values[ONNX_MAX_RANK];
    uint32_t count;
    int rc;

    if (!strcmp(op, "Shape")) {
        const struct onnx_seen *s = onnx_graph_seen(g, input);
        if (!s || g->node->n_attribute)
            return onnx_graph_refuse(g, "of something else than the activations, or of a part");
        for (uint32_t i = 0; i < s->rank; i++)
            values[i] = s->sizes[i];
        rc = derive(g, values, s->rank);
        return rc ? rc : 1;
    }
    const Onnx__TensorProto *t = onnx_graph_constant(g, input);
    if (!t || (t->data_type != ONNX_TYPE_INT64 && t->data_type != ONNX_TYPE_INT32))
        return 0;
    for (size_t i = 0; i < sizeof(folds) / sizeof(*folds); i++)
        if (!strcmp(op, folds[i].op)) {
            rc = folds[i].fold(g);
            return rc ? rc : 1;
        }
    rc = onnx_graph_integers(g, 0, values, ONNX_MAX_RANK, &count);
    if (rc)
        return rc;
    for (size_t i = 0; i < sizeof(same) / sizeof(*same); i++)
        if (!strcmp(op, same[i])) {
            rc = derive(g, values, count);
            return rc ? rc : 1;
        }
    return 0;
}
