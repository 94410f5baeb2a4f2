/* onnx_affine.c - what scales and shifts each channel by constants: BatchNormalization, and Mul,
 * Add, Sub, Div (tf2onnx writes Keras's batch normalization of 3-D tensors so). It becomes part of
 * the layer before it, or waits for the layer behind it.
 *
 * Before: exact when nothing but pools stands between, and there only for factors of at least 0
 * (the largest of f x + s is f times the largest of x, plus s). Behind: exact in any case, since
 * convolutions are valid: every weight sees real columns. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <onnx.pb-c.h>

#include "inference/workshop/onnx_build.h"
#include "inference/workshop/onnx_graph.h"

static const char *node_name(const struct onnx_graph *g)
{
    return g->node->name[0] ? g->node->name : g->node->output[0];
}

static int refuse_infinite(struct onnx_graph *g)
{
    return onnx_graph_refuse(g, "gives weights that are not finite");
}

/* y = factor x + shift on what l makes. */
static int fold_before(struct onnx_graph *g, struct onnx_layer *l, const double *factor,
                       const double *shift)
{
    const size_t out = l->shape.out_channels, fan_in = l->weight_count / out;

    for (size_t o = 0; o < out; o++) {
        for (size_t k = 0; k < fan_in; k++) {
            float *w = &l->weights[o * fan_in + k];
            *w = (float)((double)*w * factor[o]);
            if (!isfinite(*w))
                return refuse_infinite(g);
        }
        l->bias[o] = (float)((double)l->bias[o] * factor[o] + shift[o]);
        if (!isfinite(l->bias[o]))
            return refuse_infinite(g);
    }
    return 0;
}

int onnx_graph_absorb(struct onnx_graph *g, struct onnx_layer *l)
{
    const size_t out = l->shape.out_channels, fan_in = l->weight_count / out,
                 count = g->waiting.count;

    for (size_t o = 0; count && o < out; o++) {
        double sum = (double)l->bias[o];
        for (size_t k = 0; k < fan_in; k++) { /* channels are minor in every row */
            float *w = &l->weights[o * fan_in + k];
            sum += (double)*w * g->waiting.shift[k % count];
            *w = (float)((double)*w * g->waiting.factor[k % count]);
            if (!isfinite(*w))
                return refuse_infinite(g);
        }
        l->bias[o] = (float)sum;
        if (!isfinite(l->bias[o]))
            return refuse_infinite(g);
    }
    onnx_graph_forget(g);
    return 0;
}

void onnx_graph_forget(struct onnx_graph *g)
{
    free(g->waiting.factor);
    g->waiting.factor = g->waiting.shift = NULL;
    g->waiting.count = 0;
}

int onnx_graph_none_waits(struct onnx_graph *g)
{
    if (!g->waiting.count)
        return 0;
    return onnx_graph_refuse(g,
                             "stands behind \"%.64s\", which scales or shifts what comes out of a "
                             "ReLU and has no convolution or dense layer behind it to go into",
                             g->waiting.name);
}

int onnx_graph_pool_waits(struct onnx_graph *g)
{
    for (uint32_t c = 0; c < g->waiting.count; c++)
        if (g->waiting.factor[c] < 0.0)
            return onnx_graph_refuse(
                g,
                "stands behind \"%.64s\", whose factor of channel %u is negative: put it behind "
                "the pool",
                g->waiting.name, c);
    return 0;
}

/* The values so far may be of channels, the new ones (count [g->width]) of flattened units. */
static int wait(struct onnx_graph *g, const double *factor, const double *shift)
{
    double *both = malloc(2 * (size_t)g->width * sizeof(*both)), *shifts = both + g->width;

    if (!both)
        return -ENOMEM;
    for (uint32_t i = 0; i < g->width; i++) {
        const uint32_t k = g->waiting.count ? i % g->waiting.count : 0;
        both[i] = factor[i] * (g->waiting.count ? g->waiting.factor[k] : 1.0);
        shifts[i] = factor[i] * (g->waiting.count ? g->waiting.shift[k] : 0.0) + shift[i];
        if (!isfinite(both[i]) || !isfinite(shifts[i])) {
            free(both);
            return refuse_infinite(g);
        }
    }
    onnx_graph_forget(g);
    g->waiting.factor = both;
    g->waiting.shift = shifts;
    g->waiting.count = g->width;
    g->waiting.name = node_name(g);
    return 0;
}

/* Puts y = factor x + shift, both [g->width] in our order, where it belongs. */
static int apply(struct onnx_graph *g, const double *factor, const double *shift)
{
    struct onnx_layer *l = NULL;
    uint32_t i = g->layer_count;
    int negative = 0;

    while (i-- > 0 && g->layers[i].shape.op == MODEL_MAXPOOL1D)
        ;
    if (i < g->layer_count && g->layers[i].weights && !g->layers[i].shape.relu && !g->waiting.count)
        l = &g->layers[i];
    for (uint32_t c = 0; c < g->width; c++)
        negative |= factor[c] < 0.0;
    if (l && (!negative || i + 1 == g->layer_count))
        return fold_before(g, l, factor, shift);
    return wait(g, factor, shift);
}

/* Input i as one number for each channel, out [g->width]. Shapes are aligned at their ends. */
static int channel_numbers(struct onnx_graph *g, size_t i, double *out)
{
    struct onnx_tensor t;
    int rc = onnx_graph_floats(g, i, &t);

    if (rc)
        return rc;
    if (t.rank > g->rank)
        return onnx_graph_refuse(g, "the constant has more dimensions than what it meets");
    for (uint32_t k = 0; k < t.rank; k++) {
        const struct onnx_axis *axis = &g->axes[g->rank - t.rank + k];
        if (t.dims[k] != 1 && (axis->role != ONNX_CHANNEL || t.dims[k] != axis->size))
            return onnx_graph_refuse(g,
                                     "dimension %u of the constant is %u: only one number for each "
                                     "channel is supported",
                                     k, t.dims[k]);
    }
    for (uint32_t c = 0; c < g->width; c++)
        out[c] = (double)onnx_graph_number(
            &t, t.count == 1
                    ? 0
                    : onnx_build_place(c, g->width, g->major_columns ? g->major_columns : 1));
    return 0;
}

int onnx_graph_arithmetic(struct onnx_graph *g)
{
    const char *op = g->node->op_type, *first = onnx_graph_input(g, 0);
    const size_t other = first && !strcmp(first, g->current) ? 1 : 0;
    double *factor = malloc(2 * (size_t)g->width * sizeof(*factor)), *shift = factor + g->width;
    int rc = factor ? channel_numbers(g, other, shift) : -ENOMEM;

    for (uint32_t c = 0; !rc && c < g->width; c++) {
        const double v = shift[c];
        factor[c] = 1.0;
        if (!strcmp(op, "Mul") || !strcmp(op, "Div")) {
            factor[c] = op[0] == 'M' ? v : 1.0 / v;
            shift[c] = 0.0;
        } else if (!strcmp(op, "Sub")) { /* x - v, or v - x */
            factor[c] = other ? 1.0 : -1.0;
            shift[c] = other ? -v : v;
        }
    }
    if (!rc)
        rc = apply(g, factor, shift);
    free(factor);
    return rc;
}

static int norm_numbers(struct onnx_graph *g, double *factor, double *shift)
{
    struct onnx_tensor p[4]; /* scale, bias, mean, variance */
    int64_t training;
    float epsilon;
    int rc = onnx_graph_float(g, "epsilon", 1e-5f, &epsilon);

    if (!rc)
        rc = onnx_graph_int(g, "training_mode", 0, &training);
    if (!rc && training)
        rc = onnx_graph_refuse(g, "exported in training mode");
    for (size_t i = 0; !rc && i < 4; i++) {
        rc = onnx_graph_floats(g, i + 1, &p[i]);
        if (!rc && p[i].count != g->width)
            rc = onnx_graph_refuse(g, "input %zu has %zu elements; expected %u", i + 2, p[i].count,
                                   g->width);
    }
    for (uint32_t c = 0; !rc && c < g->width; c++) {
        const size_t at = onnx_build_place(c, g->width, g->major_columns ? g->major_columns : 1);
        const double variance = (double)onnx_graph_number(&p[3], at) + (double)epsilon;
        factor[c] = (double)onnx_graph_number(&p[0], at) / sqrt(variance);
        shift[c] =
            (double)onnx_graph_number(&p[1], at) - (double)onnx_graph_number(&p[2], at) * factor[c];
        if (!(variance > 0.0) || !isfinite(factor[c]))
            rc = onnx_graph_refuse(g, "the variance of channel %zu is not positive", at);
    }
    return rc;
}

int onnx_graph_norm(struct onnx_graph *g)
{
    double *factor;
    uint32_t time;
    int rc = g->flat ? 0 : onnx_graph_settle(g, &time);

    if (rc)
        return rc;
    factor = malloc(2 * (size_t)g->width * sizeof(*factor));
    rc = factor ? norm_numbers(g, factor, factor + g->width) : -ENOMEM;
    if (!rc)
        rc = apply(g, factor, factor + g->width);
    free(factor);
    return rc;
}
