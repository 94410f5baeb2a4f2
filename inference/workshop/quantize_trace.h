/* quantize_trace.h - the INT8 arithmetic of model.h layer by layer, open to be looked into: what
 * the quantizer measures on its way through a network, and what the error report compares. Plain
 * loops from the rule in model.h, of their own: a test holds them against the engine bit for bit.
 * Private to quantize*.c and its tests. A trace belongs to one thread.
 */
#ifndef WORKSHOP_QUANTIZE_TRACE_H
#define WORKSHOP_QUANTIZE_TRACE_H

#include <stdint.h>

#include "inference/model.h"
#include "inference/workshop/net.h"
#include "inference/workshop/quantize.h"

struct quantize_trace {
    const struct model *m; /* INT8; layers in front of those asked for must be complete */
    int8_t *a, *b;         /* activations of one window, swapped from layer to layer */
    int32_t *sums;         /* accumulators of one column */
    int32_t *bias;         /* of one layer, the input's zero point folded in */
};

int quantize_trace_create(const struct model *m, struct quantize_trace *t); /* 0, -ENOMEM */
void quantize_trace_free(struct quantize_trace *t);

/* watts [window + 1] to the levels that the first layer reads, in t->a. */
void quantize_trace_start(struct quantize_trace *t, const float *watts);

/* x [in_columns][in_channels] through layer i. Its output goes to y, or for the last layer to
 * t->sums as accumulators. */
void quantize_trace_layer(struct quantize_trace *t, uint32_t i, const int8_t *x, int8_t *y);

/* From the sample through the layers in front of layer i: mean [row] of what one output of layer i
 * multiplies its weights with, in integers less the zero point, and their mean products
 * [row][row] (NULL: not wanted). row is taps * in_channels. 0, -ENOMEM. */
int quantize_trace_moments(struct quantize_trace *t, const struct quantize_sample *sample,
                           uint32_t i, double *mean, double *products);

/* The same means from the FP32 net, in its own units, for every layer with weights:
 * means[layer] [row], 0 elsewhere; release each with free(). 0, -ENOMEM. */
int quantize_trace_means(const struct net *net, const struct model_channel *channels,
                         const struct quantize_sample *sample, double *means[MODEL_MAX_LAYERS]);

/* Integers near exact [n] (real weights in steps) that make the mean square of
 * sum(error * input) small, where products [n][n] are the inputs' mean products: coordinate
 * descent from weights [n], each step to the integer that is best while the others stay, until
 * none moves. Returns what is left. gradient: scratch [n]. */
double quantize_fit(const double *products, const double *exact, uint32_t n, int8_t *weights,
                    double *gradient);

#endif
