/* lib_reference.c - see lib_reference.h. Sums in 64 bits, divides instead of shifting, one value at
 * a time. */
#include "inference/lib_reference.h"

#include <math.h>
#include <stdlib.h>

/* floor((a + b/2) / b) for a positive even b. */
static int64_t divide_rounded(int64_t a, int64_t b)
{
    int64_t n = a + b / 2;
    int64_t q = n / b;

    return n % b < 0 ? q - 1 : q;
}

static int features(const struct model *m, uint32_t channel, float now, float before)
{
    const struct model_channel *c = &m->channels[channel];
    float x;
    int count = 0;

    now = isfinite(now) ? now : 0.0f;
    before = isfinite(before) ? before : 0.0f;
    x = c->feature == MODEL_LOG_DIFF ? now - before : now;
    for (unsigned i = 0; i < MODEL_LEVELS; i++)
        count += c->thresholds[i] <= x;
    return count - 128;
}

static int64_t accumulate(const struct model_layer *l, const int *in, uint32_t column, uint32_t out)
{
    uint32_t taps = l->op == MODEL_CONV1D ? l->taps : 1;
    int64_t acc = l->bias[out];

    for (uint32_t t = 0; t < taps; t++)
        for (uint32_t c = 0; c < l->in_channels; c++) {
            int w = l->weights[((size_t)out * taps + t) * l->in_channels + c];
            int x = in[(size_t)(column + t) * l->in_channels + c];
            acc += (int64_t)w * (x - l->in_zero);
        }
    return acc;
}

static int requantize(const struct model_layer *l, int64_t acc, uint32_t out)
{
    int64_t y = l->out_zero +
                divide_rounded(acc * (int64_t)l->multiplier[out], (int64_t)1 << l->shift[out]);
    int low = l->relu ? l->out_zero : -128;

    return y < low ? low : y > 127 ? 127 : (int)y;
}

static void run_layer(const struct model_layer *l, const int *in, int *out)
{
    for (uint32_t t = 0; t < l->out_columns; t++)
        for (uint32_t c = 0; c < l->out_channels; c++) {
            int *y = &out[(size_t)t * l->out_channels + c];
            if (l->op == MODEL_MAXPOOL1D) {
                *y = -128;
                for (uint32_t k = 0; k < l->pool; k++) {
                    int x = in[(size_t)(t * l->pool + k) * l->in_channels + c];
                    *y = x > *y ? x : *y;
                }
            } else if (l->op == MODEL_FLATTEN) {
                *y = in[c];
            } else {
                *y = requantize(l, accumulate(l, in, t, c), c);
            }
        }
}

void reference_run(const struct model *m, const float *watts, float *logits)
{
    const struct model_layer *last = &m->layers[m->layer_count - 1];
    int *in = malloc(sizeof(int) * m->window * m->channel_count);

    for (uint32_t t = 0; t < m->window; t++)
        for (uint32_t c = 0; c < m->channel_count; c++)
            in[t * m->channel_count + c] = features(m, c, watts[t + 1], watts[t]);
    for (uint32_t i = 0; i + 1 < m->layer_count; i++) {
        const struct model_layer *l = &m->layers[i];
        int *out = malloc(sizeof(int) * l->out_columns * l->out_channels);
        run_layer(l, in, out);
        free(in);
        in = out;
    }
    for (uint32_t o = 0; o < m->class_count; o++)
        logits[o] = (float)accumulate(last, in, 0, o) * last->logit_scale[o];
    free(in);
}
