/* onnx_layers.c - operators that become layers, or part of one. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <onnx.pb-c.h>

#include "inference/workshop/onnx_build.h"
#include "inference/workshop/onnx_graph.h"

int onnx_graph_push(struct onnx_graph *g, enum model_op op, uint32_t outputs, size_t weight_count,
                    struct onnx_layer **out)
{
    static const char *const names[] = {"", "conv", "pool", "flatten", "dense"};
    struct onnx_layer *l = &g->layers[g->layer_count];

    if (g->layer_count == MODEL_MAX_LAYERS)
        return onnx_graph_refuse(g, "more than %u layers", MODEL_MAX_LAYERS);
    if (weight_count) { /* a constant may be used often: the sum is bounded, not each alone */
        g->parameter_count += weight_count + outputs;
        if (g->parameter_count > MODEL_MAX_BYTES / sizeof(float))
            return onnx_graph_refuse(g, "more parameters than a model may have");
        l->weights = malloc(weight_count * sizeof(float));
        l->bias = calloc(outputs, sizeof(float));
        if (!l->weights || !l->bias) {
            free(l->weights);
            free(l->bias);
            l->weights = l->bias = NULL;
            return -ENOMEM;
        }
    }
    l->weight_count = weight_count;
    l->shape.op = op;
    l->shape.out_channels = outputs;
    if (op == MODEL_FLATTEN)
        (void)snprintf(l->shape.name, sizeof(l->shape.name), "flatten");
    else
        (void)snprintf(l->shape.name, sizeof(l->shape.name), "%s%u", names[op], ++g->counts[op]);
    g->layer_count++;
    *out = l;
    return 0;
}

static int all_are(struct onnx_graph *g, const char *name, int64_t wanted)
{
    const int64_t *values;
    size_t count;
    int rc = onnx_graph_ints(g, name, &values, &count);

    for (size_t i = 0; !rc && i < count; i++)
        if (values[i] != wanted)
            rc = onnx_graph_refuse(g, "%s has a %lld; only %lld is supported", name,
                                   (long long)values[i], (long long)wanted);
    return rc;
}

#define NO_PADDING                                                                                 \
    "padding is not supported, since a stream has no edges; train without it (PyTorch padding=0, " \
    "Keras \"valid\")"

static int refuse_pads(struct onnx_graph *g, int64_t before, int64_t behind, uint32_t axis)
{
    return onnx_graph_refuse(g, "pads %lld and %lld on axis %u: " NO_PADDING, (long long)before,
                             (long long)behind, axis);
}

/* What convolution and pooling have in common: no padding, no dilation. Attributes that ask for
 * padding where none is needed are fine. */
static int no_padding(struct onnx_graph *g, uint32_t time, uint32_t kernel, uint32_t stride)
{
    const Onnx__AttributeProto *a = onnx_graph_attribute(g, "auto_pad");
    const uint32_t axes = g->rank - 2, steps = (g->columns - 1) / stride;
    const int64_t *pads;
    size_t count;
    int rc = onnx_graph_ints(g, "pads", &pads, &count);

    if (!rc)
        rc = all_are(g, "dilations", 1);
    if (rc)
        return rc;
    if (a && a->type != ONNX_ATTRIBUTE_STRING)
        return onnx_graph_refuse(g, "attribute auto_pad must be a text");
    if (a && ((a->s.len == 10 && !memcmp(a->s.data, "SAME_UPPER", 10)) ||
              (a->s.len == 10 && !memcmp(a->s.data, "SAME_LOWER", 10)))) {
        if (steps * stride + kernel > g->columns)
            return onnx_graph_refuse(g, "auto_pad SAME adds %u to %u columns: " NO_PADDING,
                                     steps * stride + kernel - g->columns, g->columns);
        return 0;
    }
    if (a && a->s.len && !(a->s.len == 5 && !memcmp(a->s.data, "VALID", 5)) &&
        !(a->s.len == 6 && !memcmp(a->s.data, "NOTSET", 6)))
        return onnx_graph_refuse(g, "unknown auto_pad; expected NOTSET or VALID");
    if (count && count != 2 * (size_t)axes)
        return onnx_graph_refuse(g, "pads has %zu numbers, expected %u", count, 2 * axes);
    for (uint32_t i = 0; count && i < axes; i++) { /* what no window reaches is no padding */
        const int64_t behind = pads[i + axes];
        const int unreached = i + 2 == time && behind > 0 && behind < stride &&
                              (g->columns - kernel) % stride + behind < stride;
        if (pads[i] || (behind && !unreached))
            return refuse_pads(g, pads[i], behind, i + 2);
    }
    return 0;
}

/* Bias from input i, when there is one; scaled. */
static int read_bias(struct onnx_graph *g, size_t i, struct onnx_layer *l, float factor)
{
    const uint32_t n = l->shape.out_channels;
    struct onnx_tensor b;
    int rc;

    if (!onnx_graph_input(g, i))
        return 0;
    rc = onnx_graph_floats(g, i, &b);
    if (rc)
        return rc;
    if ((b.count != n && b.count != 1) || b.rank > 2 || (b.rank && b.dims[b.rank - 1] != b.count))
        return onnx_graph_refuse(g, "the bias has %zu elements; expected %u", b.count, n);
    for (uint32_t o = 0; o < n; o++)
        l->bias[o] = factor * onnx_graph_number(&b, b.count == 1 ? 0 : o);
    return 0;
}

static int conv_shape(struct onnx_graph *g, const struct onnx_tensor *w, uint32_t time)
{
    const int64_t *kernel;
    size_t count;
    int64_t group;
    int rc = onnx_graph_int(g, "group", 1, &group);

    if (!rc)
        rc = all_are(g, "strides", 1);
    if (!rc)
        rc = onnx_graph_ints(g, "kernel_shape", &kernel, &count);
    if (rc)
        return rc;
    if (group != 1)
        return onnx_graph_refuse(g, "group is %lld; only 1 is supported", (long long)group);
    if (w->rank != g->rank || w->dims[1] != g->width)
        return onnx_graph_refuse(g, "the weights do not fit an input of %u channels", g->width);
    if (count && count != g->rank - 2)
        return onnx_graph_refuse(g, "kernel_shape has %zu numbers, expected %u", count,
                                 g->rank - 2);
    for (uint32_t i = 2; i < g->rank; i++)
        if ((count && kernel[i - 2] != w->dims[i]) || (i != time && w->dims[i] != 1))
            return onnx_graph_refuse(g, "kernel: expected the weights' own, and 1 beside time");
    if (w->dims[time] > MODEL_MAX_TAPS || w->dims[time] > g->columns)
        return onnx_graph_refuse(g, "%u taps; expected at most %u and at most the %u columns",
                                 w->dims[time], MODEL_MAX_TAPS, g->columns);
    if (w->dims[0] > MODEL_MAX_WIDTH)
        return onnx_graph_refuse(g, "%u channels; expected at most %u", w->dims[0],
                                 MODEL_MAX_WIDTH);
    return no_padding(g, time, w->dims[time], 1);
}

int onnx_graph_conv(struct onnx_graph *g)
{
    struct onnx_tensor w;
    struct onnx_layer *l;
    uint32_t time, taps;
    int rc = onnx_graph_settle(g, &time);

    if (!rc)
        rc = onnx_graph_floats(g, 1, &w);
    if (!rc)
        rc = conv_shape(g, &w, time);
    if (!rc)
        rc = onnx_graph_push(g, MODEL_CONV1D, w.dims[0], w.count, &l);
    if (rc)
        return rc;
    l->shape.taps = taps = w.dims[time];
    for (size_t o = 0; o < w.dims[0]; o++) /* [out][in][tap] to [out][tap][in] */
        for (size_t c = 0; c < g->width; c++)
            for (size_t t = 0; t < taps; t++)
                l->weights[(o * taps + t) * g->width + c] =
                    onnx_graph_number(&w, (o * g->width + c) * taps + t);
    g->axes[1].size = g->width = w.dims[0];
    g->axes[time].size = g->columns = g->columns - taps + 1;
    rc = read_bias(g, 2, l, 1.0f);
    return rc ? rc : onnx_graph_absorb(g, l);
}

/* *kernel: along time. */
static int pool_shape(struct onnx_graph *g, uint32_t time, uint32_t *kernel)
{
    const int64_t *kernels, *strides;
    size_t count, steps;
    int64_t ceil_mode, k = 1, s = 1;
    int rc = onnx_graph_int(g, "ceil_mode", 0, &ceil_mode);

    if (!rc)
        rc = onnx_graph_ints(g, "kernel_shape", &kernels, &count);
    if (!rc)
        rc = onnx_graph_ints(g, "strides", &strides, &steps);
    if (rc)
        return rc;
    if (count != g->rank - 2 || (steps && steps != count))
        return onnx_graph_refuse(g, "kernel_shape and strides: expected %u numbers", g->rank - 2);
    for (uint32_t i = 2; i < g->rank; i++) /* with size and kernel 1 the stride does not matter */
        if (i != time && kernels[i - 2] != 1)
            return onnx_graph_refuse(g, "kernel beside time is %lld, expected 1",
                                     (long long)kernels[i - 2]);
    k = kernels[time - 2];
    s = steps ? strides[time - 2] : 1;
    if (k < 1 || k > MODEL_MAX_POOL || k > g->columns || s < 1 || s > MODEL_MAX_WINDOW)
        return onnx_graph_refuse(g,
                                 "kernel %lld, stride %lld; expected at most %u and the %u columns",
                                 (long long)k, (long long)s, MODEL_MAX_POOL, g->columns);
    if (s != k && (g->columns - k >= s || g->columns >= 2 * k)) /* one column is one column */
        return onnx_graph_refuse(g, "kernel %lld, stride %lld; expected the same", (long long)k,
                                 (long long)s);
    if (ceil_mode && (g->columns - k) % s)
        return onnx_graph_refuse(g, "ceil_mode with a remainder is not supported");
    *kernel = (uint32_t)k;
    return no_padding(g, time, (uint32_t)k, (uint32_t)s);
}

int onnx_graph_pool(struct onnx_graph *g)
{
    struct onnx_layer *l;
    uint32_t time, kernel = 1;
    int rc = onnx_graph_settle(g, &time);

    if (!rc)
        rc = pool_shape(g, time, &kernel);
    if (!rc)
        rc = onnx_graph_pool_waits(g);
    if (!rc)
        rc = onnx_graph_push(g, MODEL_MAXPOOL1D, g->width, 0, &l);
    if (rc)
        return rc;
    l->shape.pool = kernel;
    g->axes[time].size = g->columns = g->columns / kernel;
    return 0;
}

int onnx_graph_pad(struct onnx_graph *g)
{
    int64_t values[2 * ONNX_MAX_RANK];
    const int64_t *pads;
    size_t n;
    uint32_t count;
    int rc = onnx_graph_ints(g, "pads", &pads, &n);

    if (!rc && !n) {
        rc = onnx_graph_integers(g, 1, values, 2 * ONNX_MAX_RANK, &count);
        pads = values;
        n = count;
    }
    if (!rc && n % 2)
        rc = onnx_graph_refuse(g, "pads has %zu numbers", n);
    for (size_t i = 0; !rc && i < n / 2; i++)
        if (pads[i] || pads[i + n / 2])
            rc = refuse_pads(g, pads[i], pads[i + n / 2], (uint32_t)i);
    return rc;
}

int onnx_graph_relu(struct onnx_graph *g)
{
    int rc = onnx_graph_none_waits(g);

    if (rc)
        return rc;
    for (uint32_t i = g->layer_count;
         i-- > 0;) /* the largest of ReLUs is the ReLU of the largest */
        if (g->layers[i].weights) {
            g->layers[i].shape.relu = 1;
            return 0;
        }
    return onnx_graph_refuse(g, "no convolution or dense layer before it");
}

/* A dense layer from [out][in] (transposed) or [in][out], the inputs of the first one permuted. */
static int dense(struct onnx_graph *g, size_t input, int transposed, float factor,
                 struct onnx_layer **out)
{
    struct onnx_tensor w;
    uint32_t n, m;
    int rc = onnx_graph_floats(g, input, &w);

    if (rc)
        return rc;
    if (g->rank == 2 && !g->flat)
        rc = onnx_graph_flatten(g);
    if (rc)
        return rc;
    if (!g->flat)
        return onnx_graph_refuse(g, "expected an input of 2 dimensions, found %u", g->rank);
    n = w.dims[transposed ? 1 : 0];
    m = w.dims[transposed ? 0 : 1];
    if (w.rank != 2 || n != g->width || m > MODEL_MAX_UNITS)
        return onnx_graph_refuse(g, "the weights do not fit an input of %u units", g->width);
    rc = onnx_graph_push(g, MODEL_DENSE, m, w.count, out);
    if (rc)
        return rc;
    for (size_t o = 0; o < m; o++)
        for (size_t i = 0; i < n; i++) {
            size_t from = onnx_build_place(i, n, g->major_columns ? g->major_columns : 1);
            (*out)->weights[o * n + i] =
                factor * onnx_graph_number(&w, transposed ? o * n + from : from * m + o);
        }
    g->major_columns = 0;
    g->axes[1].size = g->width = m;
    return 0;
}

int onnx_graph_gemm(struct onnx_graph *g)
{
    struct onnx_layer *l;
    int64_t trans_a, trans_b;
    float alpha, beta;
    int rc = onnx_graph_int(g, "transA", 0, &trans_a);

    if (!rc)
        rc = onnx_graph_int(g, "transB", 0, &trans_b);
    if (!rc)
        rc = onnx_graph_float(g, "alpha", 1.0f, &alpha);
    if (!rc)
        rc = onnx_graph_float(g, "beta", 1.0f, &beta);
    if (!rc && trans_a)
        rc = onnx_graph_refuse(g, "transA is not supported");
    if (!rc)
        rc = dense(g, 1, trans_b != 0, alpha, &l);
    if (!rc)
        rc = read_bias(g, 2, l, beta);
    return rc ? rc : onnx_graph_absorb(g, l);
}

int onnx_graph_matmul(struct onnx_graph *g)
{
    struct onnx_layer *l;
    int rc = dense(g, 1, 0, 1.0f, &l);

    return rc ? rc : onnx_graph_absorb(g, l);
}
