/* quantize.c - weights, biases, scales and thresholds of the INT8 model. */
#include "inference/workshop/quantize.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/engine.h"
#include "inference/workshop/train.h"

#define IN_SCALE                                                                                   \
    (1.0 / 127.0) /* of the first layer, with zero point 0; any would do: see quantize.h */

/* Scales of what is all zero: any will do, but a chain of them must stay within what a model file
 * may hold. */
#define WEIGHT_FLOOR 1e-9
#define OUTPUT_FLOOR 1e-6

struct quantized {
    struct model m;
    enum quantize_rounding rounding;
    float thresholds[MODEL_MAX_CHANNELS][MODEL_LEVELS];
    struct {
        int8_t *weights;
        int32_t *bias;
        float *weight_scale, *logit_scale;
        uint32_t *multiplier;
        uint8_t *shift;
    } layers[MODEL_MAX_LAYERS];
    struct model_golden *golden;
    float *golden_numbers;
};

void quantize_input(enum model_feature feature, double *scale, double *offset)
{
    if (feature ==
        MODEL_LOG_DIFF) { /* -1 .. 1, zero exact; level -128 stands below -1 and never occurs */
        *scale = 1.0 / 127.0;
        *offset = 0.0;
    } else { /* 0 .. 1 */
        *scale = 1.0 / 255.0;
        *offset = 128.0 / 255.0;
    }
}

/* The feature input at which the feature has the value f, by the inverse of model.h's formulas. */
static double invert(const struct model_channel *c, double f)
{
    double full = (double)c->full;

    switch (c->feature) {
    case MODEL_LINEAR:
        return f * full;
    case MODEL_LOG:
        return expm1(f * log1p(full));
    case MODEL_LOG_DIFF:
        return copysign(expm1(fabs(f) * log1p(full)), f);
    }
    return 0.0;
}

void quantize_thresholds(const struct model_channel *channel, float thresholds[MODEL_LEVELS])
{
    double scale, offset;

    quantize_input(channel->feature, &scale, &offset);
    for (uint32_t i = 0; i < MODEL_LEVELS; i++) {
        /* the step from level i - 128 to the next lies half-way between the two */
        double f = scale * ((double)i - 127.5) + offset;
        double at = f < -1.0 ? -(double)FLT_MAX : invert(channel, f);
        float rounded = (float)at;
        /* the smallest float that is not below: x >= at is then x >= rounded for every float x */
        thresholds[i] = (double)rounded < at ? nextafterf(rounded, FLT_MAX) : rounded;
    }
}

int quantize_multiplier(double ratio, uint32_t *multiplier, uint8_t *shift)
{
    int exponent;
    double fraction = frexp(ratio, &exponent); /* in [0.5, 1) */
    double m = floor(fraction * 2147483648.0 + 0.5);

    if (m >= 2147483648.0) {
        m *= 0.5;
        exponent++;
    }
    if (!(ratio > 0.0) || exponent > 0 || exponent < -31)
        return -ERANGE;
    *multiplier = (uint32_t)m;
    *shift = (uint8_t)(31 - exponent);
    return 0;
}

static int allocate(struct quantized *q, uint32_t i, const struct net_layer *l)
{
    const size_t n = l->out_channels;

    q->layers[i].weights = calloc(l->weight_count, 1);
    q->layers[i].bias = calloc(n, sizeof(int32_t));
    q->layers[i].weight_scale = calloc(n, sizeof(float));
    q->layers[i].logit_scale = calloc(n, sizeof(float));
    q->layers[i].multiplier = calloc(n, sizeof(uint32_t));
    q->layers[i].shift = calloc(n, 1);
    return q->layers[i].weights && q->layers[i].bias && q->layers[i].weight_scale &&
                   q->layers[i].logit_scale && q->layers[i].multiplier && q->layers[i].shift
               ? 0
               : -ENOMEM;
}

/* Real weights and bias of output o as the integers see them: for the first layer with the input
 * channels' scales and offsets in. */
static double row_of(const struct net *net, uint32_t i, const struct model *like, uint32_t o,
                     double *row)
{
    const struct net_layer *l = &net->layers[i];
    const size_t fan_in = l->weight_count / l->out_channels;
    double bias = (double)net->params[l->bias + o];
    int first = 1;

    for (uint32_t k = 0; k < i; k++)
        first = first && !net->layers[k].weight_count;
    for (size_t k = 0; k < fan_in; k++) {
        double scale, offset;
        row[k] = (double)net->params[l->weights + o * fan_in + k];
        if (!first)
            continue;
        quantize_input(like->channels[k % like->channel_count].feature, &scale, &offset);
        bias += row[k] * offset;
        row[k] *= scale / IN_SCALE;
    }
    return bias;
}

/* Rounds a row to integers; see enum quantize_rounding. */
static void round_row(enum quantize_rounding rounding, const double *row, uint32_t taps,
                      uint32_t inputs, double scale, int8_t *weights)
{
    for (uint32_t c = 0; c < inputs; c++) {
        double carry = 0.0;
        for (uint32_t t = 0; t < taps; t++) {
            double exact = row[(size_t)t * inputs + c] / scale + carry;
            long v = lround(exact);
            v = v > 127 ? 127 : v < -127 ? -127 : v;
            weights[(size_t)t * inputs + c] = (int8_t)v;
            carry = rounding == QUANTIZE_LEVEL ? exact - (double)v : 0.0;
        }
    }
}

static void quantize_row(struct quantized *q, uint32_t i, uint32_t o, const double *row,
                         double bias)
{
    const struct model_layer *l = &q->m.layers[i];
    const uint32_t taps = l->op == MODEL_CONV1D ? l->taps : 1u;
    const size_t fan_in = (size_t)taps * l->in_channels;
    const double in_scale = (double)l->in_scale;
    double largest = 0.0, scale;

    for (size_t k = 0; k < fan_in; k++)
        largest = fabs(row[k]) > largest ? fabs(row[k]) : largest;
    scale = largest / 127.0;
    /* a large bias on tiny weights must still fit its int32, with room for the sum (SPEC 1.7) */
    if (fabs(bias) / (in_scale * 536870912.0) > scale)
        scale = fabs(bias) / (in_scale * 536870912.0);
    if (scale < WEIGHT_FLOOR)
        scale = WEIGHT_FLOOR;
    q->layers[i].weight_scale[o] = (float)scale;
    scale = (double)q->layers[i].weight_scale[o];
    round_row(q->rounding, row, taps, l->in_channels, scale, q->layers[i].weights + o * fan_in);
    q->layers[i].bias[o] = (int32_t)lround(bias / (in_scale * scale));
}

/* Scale and zero point of the output; the scale is raised where a multiplier would not be below 1.
 */
static int requantize(struct quantized *q, uint32_t i, const struct net_layer *l,
                      struct quantize_range range)
{
    struct model_layer *o = &q->m.layers[i];
    double low = range.low < 0.0f ? (double)range.low : 0.0,
           high = range.high > 0.0f ? (double)range.high : 0.0;
    double scale = (l->relu ? high : high - low) / 255.0, largest = 0.0;

    for (uint32_t c = 0; c < l->out_channels; c++)
        if ((double)q->layers[i].weight_scale[c] > largest)
            largest = (double)q->layers[i].weight_scale[c];
    if (scale < 1.0001 * largest * (double)o->in_scale)
        scale = 1.0001 * largest * (double)o->in_scale;
    if (scale < OUTPUT_FLOOR)
        scale = OUTPUT_FLOOR;
    o->out_scale = (float)scale;
    o->out_zero = l->relu ? -128 : (int8_t)(lround(-low / scale) - 128);
    for (uint32_t c = 0; c < l->out_channels; c++) {
        double ratio =
            (double)o->in_scale * (double)q->layers[i].weight_scale[c] / (double)o->out_scale;
        /* below the smallest shift the channel's weights are all but zero: the smallest multiplier
         * does */
        if (ratio < 0x1.01p-32)
            ratio = 0x1.01p-32;
        int rc = quantize_multiplier(ratio, &q->layers[i].multiplier[c], &q->layers[i].shift[c]);
        if (rc)
            return rc;
    }
    return 0;
}

static int quantize_layer(struct quantized *q, const struct net *net, uint32_t i,
                          const struct model *like, const struct quantize_range *ranges)
{
    const struct net_layer *l = &net->layers[i];
    struct model_layer *o = &q->m.layers[i];
    const int last = i + 1 == net->layer_count;
    const size_t fan_in = l->weight_count / l->out_channels;
    double *row = malloc(fan_in * sizeof(*row));
    int rc = row ? allocate(q, i, l) : -ENOMEM;

    for (uint32_t c = 0; c < l->out_channels && !rc; c++) {
        double bias = row_of(net, i, like, c, row);
        quantize_row(q, i, c, row, bias);
        q->layers[i].logit_scale[c] =
            (float)((double)o->in_scale * (double)q->layers[i].weight_scale[c]);
    }
    if (!rc && !last)
        rc = requantize(q, i, l, ranges[i]);
    o->weights = q->layers[i].weights;
    o->bias = q->layers[i].bias;
    o->weight_scale = q->layers[i].weight_scale;
    o->multiplier = last ? NULL : q->layers[i].multiplier;
    o->shift = last ? NULL : q->layers[i].shift;
    o->logit_scale = last ? q->layers[i].logit_scale : NULL;
    free(row);
    return rc;
}

int quantize_net(const struct net *net, const struct model *like,
                 const struct quantize_range *ranges, enum quantize_rounding rounding,
                 struct quantized **out, char *why, size_t why_size)
{
    struct quantized *q = calloc(1, sizeof(*q));
    float scale = (float)IN_SCALE;
    int8_t zero = 0;
    int rc = 0;

    *out = NULL;
    if (!q)
        return -ENOMEM;
    q->m = *like;
    q->rounding = rounding;
    q->m.owner = NULL;
    q->m.dtype = MODEL_INT8;
    q->m.golden = NULL;
    q->m.golden_count = 0;
    for (uint32_t c = 0; c < q->m.channel_count; c++) {
        quantize_thresholds(&q->m.channels[c], q->thresholds[c]);
        q->m.channels[c].thresholds = q->thresholds[c];
    }
    for (uint32_t i = 0; i < net->layer_count && !rc; i++) {
        struct model_layer *o = &q->m.layers[i];
        o->weights_f32 = o->bias_f32 = NULL;
        o->in_scale = o->out_scale = scale;
        o->in_zero = o->out_zero = zero;
        if (net->layers[i].norm)
            rc = -EINVAL;
        else if (net->layers[i].weight_count)
            rc = quantize_layer(q, net, i, like, ranges);
        scale = o->out_scale;
        zero = o->out_zero;
    }
    if (!rc) {
        q->m.layers[net->layer_count - 1].out_scale = 0.0f;
        q->m.layers[net->layer_count - 1].out_zero = 0;
        *out = q;
        return 0;
    }
    if (why && why_size)
        (void)snprintf(why, why_size, "%s",
                       rc == -ENOMEM ? "out of memory" : "a layer cannot be quantized");
    quantize_free(q);
    return rc == -ENOMEM ? rc : -EINVAL;
}

struct model *quantize_model(struct quantized *q)
{
    return &q->m;
}

void quantize_free(struct quantized *q)
{
    if (!q)
        return;
    for (uint32_t i = 0; i < MODEL_MAX_LAYERS; i++) {
        free(q->layers[i].weights);
        free(q->layers[i].bias);
        free(q->layers[i].weight_scale);
        free(q->layers[i].logit_scale);
        free(q->layers[i].multiplier);
        free(q->layers[i].shift);
    }
    free(q->golden);
    free(q->golden_numbers);
    free(q);
}

static void draw_golden(const struct quantized *q, const struct dataset *d,
                        const struct train_sampler *sampler, uint32_t count, uint64_t seed,
                        float *features)
{
    const struct train_options plain = {.seed = seed};
    uint32_t label;

    for (uint32_t i = 0; i < count; i++)
        train_draw(d, sampler, &plain, q->m.channels, q->m.channel_count, 0, i,
                   q->golden_numbers + (size_t)i * (q->m.window + 1u), features, &label);
}

int quantize_golden(struct quantized *q, const struct dataset *d, uint32_t count, uint64_t seed,
                    char *why, size_t why_size)
{
    const size_t row = q->m.window + 1u;
    struct train_sampler sampler = {0};
    struct engine *engine = NULL;
    float *features = malloc((size_t)q->m.window * q->m.channel_count * sizeof(float));
    void *scratch = NULL;
    int rc = -ENOMEM;

    q->golden = calloc(count, sizeof(*q->golden));
    q->golden_numbers = calloc(count, (row + q->m.class_count) * sizeof(float));
    if (features && q->golden && q->golden_numbers)
        rc = train_sampler_create(d, &sampler);
    if (!rc)
        rc = engine_create(&q->m, 0, &engine, why, why_size);
    if (!rc) {
        size_t bytes = (engine_scratch_bytes(engine) + ENGINE_ALIGN) / ENGINE_ALIGN * ENGINE_ALIGN;
        scratch = aligned_alloc(ENGINE_ALIGN, bytes);
        rc = scratch ? 0 : -ENOMEM;
    }
    if (!rc) {
        draw_golden(q, d, &sampler, count, seed, features);
        for (uint32_t i = 0; i < count; i++) {
            float *logits = q->golden_numbers + count * row + (size_t)i * q->m.class_count;
            q->golden[i] = (struct model_golden){q->golden_numbers + i * row, logits};
            engine_run(engine, scratch, q->golden[i].watts, logits);
        }
        q->m.golden = q->golden;
        q->m.golden_count = count;
    }
    engine_free(engine);
    free(scratch);
    free(features);
    train_sampler_free(&sampler);
    return rc;
}
