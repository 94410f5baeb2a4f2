/* quantize.c - weights, biases, scales and thresholds of the INT8 model. */
#include "inference/workshop/quantize.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/engine.h"
#include "inference/workshop/quantize_rows.h"
#include "inference/workshop/quantize_trace.h"
#include "inference/workshop/train.h"

/* Scales of what is all zero: any will do, but a chain of them must stay within what a model file
 * may hold. */
#define WEIGHT_FLOOR 1e-9
#define OUTPUT_FLOOR 1e-6

/* Added to FIT's products, of their mean diagonal. */
#define FIT_RIDGE 0.01

/* What quantize_net holds while it works; per layer where it says so. */
struct build {
    const struct net *net;
    const struct model *like;
    const struct quantize_options *options;
    struct quantized *q;
    struct quantize_trace trace;
    double *means[MODEL_MAX_LAYERS]; /* of the FP32 inputs; NULL: biases stay as they are */
    double *row, *exact, *gradient;  /* one layer's: [row] */
    double *mean, *products;         /* one layer's: [row], [row][row] or NULL */
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

/* Rounds a row, in steps, to integers; see enum quantize_rounding. */
static void round_row(enum quantize_rounding rounding, const double *exact, uint32_t taps,
                      uint32_t inputs, int8_t *weights)
{
    for (uint32_t c = 0; c < inputs; c++) {
        double carry = 0.0;
        for (uint32_t t = 0; t < taps; t++) {
            double wanted = exact[(size_t)t * inputs + c] + carry;
            long v = lround(wanted);
            v = v > 127 ? 127 : v < -127 ? -127 : v;
            weights[(size_t)t * inputs + c] = (int8_t)v;
            carry = rounding == QUANTIZE_LEVEL ? wanted - (double)v : 0.0;
        }
    }
}

/* FIT: the better of the descents from both other roundings (the descent ends in a local optimum).
 */
static int fit_row(const struct build *b, const struct model_layer *l, uint32_t taps,
                   int8_t *weights)
{
    const uint32_t n = taps * l->in_channels;
    int8_t *other = malloc(n);

    if (!other)
        return -ENOMEM;
    round_row(QUANTIZE_NEAREST, b->exact, taps, l->in_channels, weights);
    round_row(QUANTIZE_LEVEL, b->exact, taps, l->in_channels, other);
    double nearest = quantize_fit(b->products, b->exact, n, weights, b->gradient);
    double level = quantize_fit(b->products, b->exact, n, other, b->gradient);
    if (level < nearest)
        memcpy(weights, other, n);
    free(other);
    return 0;
}

/* The bias with which the INT8 layer's mean before its ReLU is FP32's. */
static double corrected(const struct build *b, uint32_t i, uint32_t o, double scale,
                        const int8_t *weights)
{
    const struct net_layer *l = &b->net->layers[i];
    const size_t fan_in = l->weight_count / l->out_channels;
    double sum = (double)b->net->params[l->bias + o];

    for (size_t k = 0; k < fan_in; k++) {
        sum += (double)b->net->params[l->weights + o * fan_in + k] * b->means[i][k];
        sum -= (double)b->q->m.layers[i].in_scale * scale * weights[k] * b->mean[k];
    }
    return sum;
}

static int quantize_row(struct build *b, uint32_t i, uint32_t o, double bias)
{
    const struct model_layer *l = &b->q->m.layers[i];
    const uint32_t taps = l->op == MODEL_CONV1D ? l->taps : 1u;
    const size_t fan_in = (size_t)taps * l->in_channels;
    const double in_scale = (double)l->in_scale;
    int8_t *weights = b->q->layers[i].weights + o * fan_in;
    double largest = 0.0, scale;
    int rc = 0;

    for (size_t k = 0; k < fan_in; k++)
        largest = fabs(b->row[k]) > largest ? fabs(b->row[k]) : largest;
    scale = largest / 127.0;
    /* a large bias on tiny weights must still fit its int32, with room for the sum (SPEC 1.7) */
    if (fabs(bias) / (in_scale * 536870912.0) > scale)
        scale = fabs(bias) / (in_scale * 536870912.0);
    if (scale < WEIGHT_FLOOR)
        scale = WEIGHT_FLOOR;
    b->q->layers[i].weight_scale[o] = (float)scale;
    scale = (double)b->q->layers[i].weight_scale[o];
    for (size_t k = 0; k < fan_in; k++)
        b->exact[k] = b->row[k] / scale;
    if (b->products)
        rc = fit_row(b, l, taps, weights);
    else
        round_row(b->options->rounding, b->exact, taps, l->in_channels, weights);
    if (b->means[i]) {
        double better = corrected(b, i, o, scale, weights);
        if (fabs(better) / (in_scale * scale) < 1073741824.0)
            bias = better;
    }
    b->q->layers[i].bias[o] = (int32_t)lround(bias / (in_scale * scale));
    return rc;
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

/* What rows of layer i are measured by: the moments of its INT8 input. With corrected biases only
 * what varies about the mean is FIT's to care for. */
static int measure(struct build *b, uint32_t i, uint32_t n)
{
    const int fit = b->options->rounding == QUANTIZE_FIT && n <= QUANTIZE_FIT_ROW;
    double sum = 0.0;
    int rc;

    b->row = malloc(n * sizeof(*b->row));
    b->exact = malloc(n * sizeof(*b->exact));
    b->gradient = malloc(n * sizeof(*b->gradient));
    b->mean = malloc(n * sizeof(*b->mean));
    b->products = fit ? malloc((size_t)n * n * sizeof(*b->products)) : NULL;
    if (!b->row || !b->exact || !b->gradient || !b->mean || (fit && !b->products))
        return -ENOMEM;
    if (!fit && !b->means[i])
        return 0;
    rc = quantize_trace_moments(&b->trace, b->options->sample, i, b->mean, b->products);
    for (uint32_t k = 0; k < n && fit && b->means[i]; k++)
        for (uint32_t j = 0; j < n; j++)
            b->products[(size_t)k * n + j] -= b->mean[k] * b->mean[j];
    for (uint32_t k = 0; k < n && fit; k++)
        sum += b->products[(size_t)k * n + k];
    for (uint32_t k = 0; k < n && fit; k++) /* what the sample did not show may still come */
        b->products[(size_t)k * n + k] += FIT_RIDGE * sum / n;
    return rc;
}

static void measure_free(struct build *b)
{
    free(b->row);
    free(b->exact);
    free(b->gradient);
    free(b->mean);
    free(b->products);
    b->row = b->exact = b->gradient = b->mean = b->products = NULL;
}

static int quantize_layer(struct build *b, uint32_t i)
{
    const struct net_layer *l = &b->net->layers[i];
    struct quantized *q = b->q;
    struct model_layer *o = &q->m.layers[i];
    const int last = i + 1 == b->net->layer_count;
    int rc = allocate(q, i, l);

    if (!rc)
        rc = measure(b, i, (uint32_t)(l->weight_count / l->out_channels));
    for (uint32_t c = 0; c < l->out_channels && !rc; c++) {
        double bias = quantize_row_of(b->net, i, b->like, c, b->row);
        rc = quantize_row(b, i, c, bias);
        q->layers[i].logit_scale[c] =
            (float)((double)o->in_scale * (double)q->layers[i].weight_scale[c]);
    }
    if (!rc && !last)
        rc = requantize(q, i, l, b->options->ranges[i]);
    o->weights = q->layers[i].weights;
    o->bias = q->layers[i].bias;
    o->weight_scale = q->layers[i].weight_scale;
    o->multiplier = last ? NULL : q->layers[i].multiplier;
    o->shift = last ? NULL : q->layers[i].shift;
    o->logit_scale = last ? q->layers[i].logit_scale : NULL;
    measure_free(b);
    return rc;
}

static int quantize_layers(struct build *b)
{
    const struct net *net = b->net;
    float scale = (float)QUANTIZE_IN_SCALE;
    int8_t zero = 0;
    int rc = quantize_trace_create(&b->q->m, &b->trace);

    if (!rc && b->options->correct_bias)
        rc = quantize_trace_means(net, b->like->channels, b->options->sample, b->means);
    for (uint32_t i = 0; i < net->layer_count && !rc; i++) {
        struct model_layer *o = &b->q->m.layers[i];
        o->weights_f32 = o->bias_f32 = NULL;
        o->in_scale = o->out_scale = scale;
        o->in_zero = o->out_zero = zero;
        if (net->layers[i].norm)
            rc = -EINVAL;
        else if (net->layers[i].weight_count)
            rc = quantize_layer(b, i);
        scale = o->out_scale;
        zero = o->out_zero;
    }
    for (uint32_t i = 0; i < net->layer_count; i++)
        free(b->means[i]);
    quantize_trace_free(&b->trace);
    return rc;
}

int quantize_net(const struct net *net, const struct model *like,
                 const struct quantize_options *options, struct quantized **out, char *why,
                 size_t why_size)
{
    struct quantized *q = calloc(1, sizeof(*q));
    struct build b = {.net = net, .like = like, .options = options, .q = q};
    size_t longest = 1;
    int rc;

    *out = NULL;
    if (!q)
        return -ENOMEM;
    q->m = *like;
    q->m.owner = NULL;
    q->m.dtype = MODEL_INT8;
    q->m.golden = NULL;
    q->m.golden_count = 0;
    for (uint32_t c = 0; c < q->m.channel_count; c++) {
        quantize_thresholds(&q->m.channels[c], q->thresholds[c]);
        q->m.channels[c].thresholds = q->thresholds[c];
    }
    for (uint32_t i = 0; i < net->layer_count; i++) {
        const struct net_layer *l = &net->layers[i];
        size_t row = l->weight_count ? l->weight_count / l->out_channels : 0;
        longest = row > longest ? row : longest;
    }
    q->row = malloc(longest * sizeof(*q->row));
    rc = q->row ? quantize_layers(&b) : -ENOMEM;
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
    free(q->row);
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
