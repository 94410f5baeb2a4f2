/* quantize_rows.h - private to quantize.c and quantize_aware.c: the INT8 model under construction,
 * and its weights as the integers see them.
 */
#ifndef WORKSHOP_QUANTIZE_ROWS_H
#define WORKSHOP_QUANTIZE_ROWS_H

#include "inference/workshop/quantize.h"

/* Nominal scale of the first layer's input, its zero point being 0; any would do: see quantize.h.
 */
#define QUANTIZE_IN_SCALE (1.0 / 127.0)

struct quantized {
    struct model m;
    float thresholds[MODEL_MAX_CHANNELS][MODEL_LEVELS];
    struct {
        int8_t *weights;
        int32_t *bias;
        float *weight_scale, *logit_scale;
        uint32_t *multiplier;
        uint8_t *shift;
    } layers[MODEL_MAX_LAYERS];
    double *row; /* scratch, [the longest row of weights] */
    struct model_golden *golden;
    float *golden_numbers;
};

/* Is layer i the first with weights, so that it reads the input channels? */
int quantize_reads_input(const struct net *net, uint32_t i);

/* Real weights [row] of output o of layer i as the integers see them, and its bias: for the first
 * layer with the input channels' scales and offsets in. like: whose channels. */
double quantize_row_of(const struct net *net, uint32_t i, const struct model *like, uint32_t o,
                       double *row);

#endif
