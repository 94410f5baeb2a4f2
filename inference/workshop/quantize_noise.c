/* quantize_noise.c - the error of each INT8 layer against FP32. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/quantize_trace.h"

struct squares {
    double signal, own, total, low, high;
};

/* FP32 values to a layer's levels. */
static void to_levels(const float *x, size_t count, float scale, int8_t zero, int8_t *out)
{
    for (size_t k = 0; k < count; k++) {
        double q = floor((double)x[k] / (double)scale + 0.5) + zero;
        out[k] = (int8_t)(q > 127.0 ? 127.0 : q < -128.0 ? -128.0 : q);
    }
}

/* Square error of an INT8 output (of the last layer: of its accumulators) against FP32's. */
static double error_of(const struct model_layer *l, const int8_t *y, const int32_t *sums,
                       const float *reference)
{
    const size_t count = (size_t)l->out_columns * l->out_channels;
    double error = 0.0;

    for (size_t k = 0; k < count; k++) {
        double real = l->logit_scale ? (double)sums[k] * (double)l->logit_scale[k]
                                     : (double)l->out_scale * (y[k] - l->out_zero);
        error += (real - (double)reference[k]) * (real - (double)reference[k]);
    }
    return error;
}

static void add_window(const struct net *net, struct net_work *work, struct quantize_trace *t,
                       int8_t *alone, int8_t *alone_out, struct squares *squares)
{
    int first = 1;

    for (uint32_t i = 0; i < net->layer_count; i++) {
        const struct model_layer *l = &t->m->layers[i];
        const float *reference = net_work_output(work, i);
        const size_t size = (size_t)l->out_columns * l->out_channels;
        int8_t *swap = t->a;

        if (net->layers[i].weight_count) {
            if (first) /* its input is the sample's levels, not FP32's rounded */
                memcpy(alone, t->a, (size_t)l->in_columns * l->in_channels);
            else
                to_levels(net_work_output(work, i - 1), (size_t)l->in_columns * l->in_channels,
                          l->in_scale, l->in_zero, alone);
            first = 0;
            quantize_trace_layer(t, i, alone, alone_out);
            squares[i].own += error_of(l, alone_out, t->sums, reference);
            for (size_t k = 0; k < size; k++) {
                double x = (double)reference[k];
                squares[i].signal += x * x;
                squares[i].low = x < squares[i].low ? x : squares[i].low;
                squares[i].high = x > squares[i].high ? x : squares[i].high;
            }
        }
        quantize_trace_layer(t, i, t->a, t->b);
        if (net->layers[i].weight_count)
            squares[i].total += error_of(l, t->b, t->sums, reference);
        t->a = t->b;
        t->b = swap;
    }
}

static double decibels(double signal, double error)
{
    double db = error > 0.0 && signal > 0.0 ? 10.0 * log10(signal / error)
                : error > 0.0               ? -QUANTIZE_NOISE_MOST
                                            : QUANTIZE_NOISE_MOST;

    return db > QUANTIZE_NOISE_MOST    ? QUANTIZE_NOISE_MOST
           : db < -QUANTIZE_NOISE_MOST ? -QUANTIZE_NOISE_MOST
                                       : db;
}

int quantize_noise(const struct net *net, const struct model *int8,
                   const struct quantize_sample *sample, struct quantize_noise *noise)
{
    struct squares squares[MODEL_MAX_LAYERS];
    struct quantize_trace trace = {0};
    struct net_work *work = NULL;
    size_t most = (size_t)net->window * net->channels;
    int8_t *alone, *alone_out;
    int rc;

    for (uint32_t i = 0; i < net->layer_count; i++) {
        size_t size = (size_t)net->layers[i].out_columns * net->layers[i].out_channels;
        most = size > most ? size : most;
    }
    for (uint32_t i = 0; i < MODEL_MAX_LAYERS; i++)
        squares[i] = (struct squares){.low = INFINITY, .high = -INFINITY};
    alone = malloc(most);
    alone_out = malloc(most);
    rc = alone && alone_out ? quantize_trace_create(int8, &trace) : -ENOMEM;
    if (!rc)
        rc = net_work_create(net, 1, &work);
    for (uint32_t n = 0; n < sample->windows && !rc; n++) {
        const float *watts = sample->watts + (size_t)n * (net->window + 1u);
        net_features(int8->channels, net->channels, net->window, watts, net_work_input(work));
        (void)net_forward(net, work, 1, &(struct net_mode){0});
        quantize_trace_start(&trace, watts);
        add_window(net, work, &trace, alone, alone_out, squares);
    }
    for (uint32_t i = 0; i < net->layer_count && !rc; i++) {
        const struct squares *s = &squares[i];
        noise[i] = (struct quantize_noise){0};
        if (net->layers[i].weight_count)
            noise[i] = (struct quantize_noise){decibels(s->signal, s->own),
                                               decibels(s->signal, s->total), s->low, s->high};
    }
    net_work_free(work);
    quantize_trace_free(&trace);
    free(alone);
    free(alone_out);
    return rc;
}
