/* net_forward.c - buffers of a shard and the forward pass. */
#include <cblas.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/net_random.h"
#include "inference/workshop/net_work.h"

#define NORM_EPSILON 1e-5f

static float *floats(size_t count, int *failed)
{
    float *p = calloc(count ? count : 1, sizeof(float));
    *failed |= !p;
    return p;
}

static void buffers(const struct net_layer *l, uint32_t windows, struct net_buffers *b, int *failed)
{
    size_t out = (size_t)windows * l->out_pitch * l->out_channels;
    size_t margin = l->op == MODEL_CONV1D ? (size_t)(l->taps - 1) * l->out_channels : 0;

    b->out = floats(out, failed);
    b->d_base = floats(out + margin, failed);
    b->d = b->d_base ? b->d_base + margin : NULL;
    if (l->op == MODEL_CONV1D) {
        b->raw = floats(out, failed);
        b->flipped = floats(l->weight_count, failed);
        b->scale = floats(l->out_channels, failed);
        b->offset = floats(l->out_channels, failed);
        b->inverse = floats(l->out_channels, failed);
    } else if (l->op == MODEL_DENSE) {
        b->raw = floats((size_t)windows * l->in_channels, failed);
        b->mask = floats((size_t)windows * l->in_channels, failed);
        if (l->step > 0.0f)
            b->sums = floats(out, failed);
    } else if (l->op == MODEL_MAXPOOL1D) {
        b->choice = calloc(out ? out : 1, 1);
        *failed |= !b->choice;
    }
}

int net_work_create(const struct net *net, uint32_t windows, struct net_work **out)
{
    struct net_work *w = calloc(1, sizeof(*w));
    int failed = 0;

    *out = NULL;
    if (!w)
        return -ENOMEM;
    openblas_set_num_threads(1);
    w->windows = windows;
    w->layer_count = net->layer_count;
    w->input = floats((size_t)windows * net->window * net->channels, &failed);
    w->stats = floats(net->stat_count, &failed);
    for (uint32_t i = 0; i < net->layer_count; i++)
        buffers(&net->layers[i], windows, &w->layers[i], &failed);
    if (failed) {
        net_work_free(w);
        return -ENOMEM;
    }
    *out = w;
    return 0;
}

void net_work_free(struct net_work *w)
{
    if (!w)
        return;
    for (uint32_t i = 0; i < w->layer_count; i++) {
        struct net_buffers *b = &w->layers[i];
        free(b->raw);
        free(b->out);
        free(b->d_base);
        free(b->choice);
        free(b->mask);
        free(b->sums);
        free(b->flipped);
        free(b->scale);
        free(b->offset);
        free(b->inverse);
    }
    free(w->input);
    free(w->stats);
    free(w);
}

float *net_work_input(struct net_work *w)
{
    return w->input;
}

const float *net_work_stats(const struct net_work *w)
{
    return w->stats;
}

const float *net_work_output(const struct net_work *w, uint32_t layer)
{
    return w->layers[layer].out;
}

/* raw[t] = weights x in[t .. t+taps), for all columns of the shard at once. */
static void convolve(const struct net_layer *l, const float *weights, const float *in,
                     uint32_t columns, float *raw)
{
    const int k = (int)(l->taps * l->in_channels), o = (int)l->out_channels;
    uint32_t rows = columns - l->taps + 1;

    for (uint32_t r = 0; r < l->taps && r < rows; r++) {
        int m = (int)((rows - r + l->taps - 1) / l->taps);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, o, k, 1.0f,
                    in + (size_t)r * l->in_channels, k, weights, k, 0.0f,
                    raw + (size_t)r * l->out_channels, (int)l->taps * o);
    }
}

/* Mean and variance of each channel over the valid columns of the shard: float sums within a
 * window, double over them. */
NET_WIDE static void shard_statistics(const struct net_layer *l, const float *raw, uint32_t n,
                                      float *mean, float *variance)
{
    const uint32_t c = l->out_channels;
    double total[MODEL_MAX_WIDTH] = {0}, squares[MODEL_MAX_WIDTH] = {0};
    double count = (double)n * l->out_columns;

    for (uint32_t i = 0; i < n; i++) {
        float s[MODEL_MAX_WIDTH], q[MODEL_MAX_WIDTH];
        memset(s, 0, c * sizeof(float));
        memset(q, 0, c * sizeof(float));
        for (uint32_t t = 0; t < l->out_columns; t++) {
            const float *x = raw + ((size_t)i * l->out_pitch + t) * c;
            for (uint32_t k = 0; k < c; k++) {
                s[k] += x[k];
                q[k] += x[k] * x[k];
            }
        }
        for (uint32_t k = 0; k < c; k++) {
            total[k] += (double)s[k];
            squares[k] += (double)q[k];
        }
    }
    for (uint32_t k = 0; k < c; k++) {
        double m = total[k] / count, v = squares[k] / count - m * m;
        mean[k] = (float)m;
        variance[k] = v > 0.0 ? (float)v : 0.0f;
    }
}

/* The affine map of each channel after the product: out = raw * scale + offset. */
static void affine(const struct net *net, const struct net_layer *l, const struct net_work *w,
                   struct net_buffers *b)
{
    const float *bias = net->params + l->bias;

    for (uint32_t k = 0; k < l->out_channels; k++) {
        if (!l->norm) {
            b->scale[k] = 1.0f;
            b->offset[k] = bias[k];
            continue;
        }
        const float *stats = w->mode.train ? w->stats : net->stats;
        b->inverse[k] = 1.0f / sqrtf(stats[l->variance + k] + NORM_EPSILON);
        b->scale[k] = net->params[l->gamma + k] * b->inverse[k];
        b->offset[k] = bias[k] - stats[l->mean + k] * b->scale[k];
    }
}

/* Half up, as the engine rounds (model.h). Truncation of what is not negative is what the compiler
 * can vectorize. */
static void to_levels(const struct net_layer *l, float *y, size_t count)
{
    const float step = l->step, inverse = 1.0f / l->step, least = l->least, most = l->most;

    for (size_t i = 0; i < count; i++) {
        float v = y[i] * inverse;
        v = v < least ? least : v > most ? most : v;
        y[i] = ((float)(int32_t)(v - least + 0.5f) + least) * step;
    }
}

static void input_to_levels(const struct net *net, float *x, size_t columns)
{
    for (uint32_t c = 0; c < net->channels; c++) {
        const float step = net->inputs[c].step, offset = net->inputs[c].offset;
        const float inverse = 1.0f / step;
        for (size_t t = 0; t < columns && step > 0.0f; t++) {
            float *f = &x[t * net->channels + c];
            *f = floorf((*f - offset) * inverse + 0.5f) * step + offset;
        }
    }
}

NET_WIDE static void activate(const struct net_layer *l, const struct net_buffers *b, uint32_t n)
{
    const uint32_t c = l->out_channels;
    const float *restrict scale = b->scale, *restrict offset = b->offset;
    const float low = l->relu ? 0.0f : -INFINITY;

    for (uint32_t i = 0; i < n; i++) {
        const float *restrict x = b->raw + (size_t)i * l->out_pitch * c;
        float *restrict y = b->out + (size_t)i * l->out_pitch * c;
        for (uint32_t t = 0; t < l->out_columns; t++, x += c, y += c) {
            for (uint32_t k = 0; k < c; k++) {
                float v = x[k] * scale[k] + offset[k];
                y[k] = v > low ? v : low;
            }
        }
        if (l->step > 0.0f)
            to_levels(l, y - (size_t)l->out_columns * c, (size_t)l->out_columns * c);
        memset(y, 0, (size_t)(l->out_pitch - l->out_columns) * c * sizeof(float));
    }
}

NET_WIDE static void pool(const struct net_layer *l, const float *in, uint32_t n,
                          struct net_buffers *b)
{
    const uint32_t c = l->out_channels;

    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t t = 0; t < l->out_columns; t++) {
            const float *restrict x = in + ((size_t)i * l->in_pitch + (size_t)t * l->pool) * c;
            float *restrict y = b->out + ((size_t)i * l->out_pitch + t) * c;
            uint8_t *restrict which = b->choice + ((size_t)i * l->out_pitch + t) * c;
            for (uint32_t k = 0; k < c; k++) {
                y[k] = x[k];
                which[k] = 0;
            }
            for (uint32_t p = 1; p < l->pool; p++) {
                const float *restrict xp = x + (size_t)p * c;
                for (uint32_t k = 0; k < c; k++) {
                    which[k] = xp[k] > y[k] ? (uint8_t)p : which[k];
                    y[k] = xp[k] > y[k] ? xp[k] : y[k];
                }
            }
        }
    }
}

static void dense(const struct net *net, uint32_t index, const float *in, struct net_work *w)
{
    const struct net_layer *l = &net->layers[index];
    struct net_buffers *b = &w->layers[index];
    const size_t count = (size_t)w->n * l->in_channels;
    const float *x = in;

    if (w->mode.train && w->mode.dropout > 0.0f) {
        struct net_random r = net_random_stream(w->mode.seed, 2, index);
        float kept = 1.0f / (1.0f - w->mode.dropout);
        for (size_t i = 0; i < count; i++) {
            b->mask[i] = net_random_unit(&r) < (double)w->mode.dropout ? 0.0f : kept;
            b->raw[i] = in[i] * b->mask[i];
        }
        x = b->raw;
    }
    for (uint32_t i = 0; i < w->n; i++)
        memcpy(b->out + (size_t)i * l->out_channels, net->params + l->bias,
               l->out_channels * sizeof(float));
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)w->n, (int)l->out_channels,
                (int)l->in_channels, 1.0f, x, (int)l->in_channels, net->params + l->weights,
                (int)l->in_channels, 1.0f, b->out, (int)l->out_channels);
    if (l->step > 0.0f)
        memcpy(b->sums, b->out, (size_t)w->n * l->out_channels * sizeof(float));
    for (size_t i = 0; l->relu && i < (size_t)w->n * l->out_channels; i++)
        b->out[i] = b->out[i] > 0.0f ? b->out[i] : 0.0f;
    if (l->step > 0.0f)
        to_levels(l, b->out, (size_t)w->n * l->out_channels);
}

const float *net_forward(const struct net *net, struct net_work *w, uint32_t n,
                         const struct net_mode *mode)
{
    const float *in = w->input;

    w->n = n;
    w->mode = *mode;
    input_to_levels(net, w->input, (size_t)n * net->window);
    for (uint32_t i = 0; i < net->layer_count; i++) {
        const struct net_layer *l = &net->layers[i];
        struct net_buffers *b = &w->layers[i];
        size_t row = (size_t)l->in_columns * l->in_channels;
        switch (l->op) {
        case MODEL_CONV1D:
            convolve(l, net->params + l->weights, in, n * l->in_pitch, b->raw);
            if (l->norm && mode->train)
                shard_statistics(l, b->raw, n, w->stats + l->mean, w->stats + l->variance);
            affine(net, l, w, b);
            activate(l, b, n);
            break;
        case MODEL_MAXPOOL1D:
            pool(l, in, n, b);
            break;
        case MODEL_FLATTEN:
            for (uint32_t k = 0; k < n; k++)
                memcpy(b->out + k * row, in + (size_t)k * l->in_pitch * l->in_channels,
                       row * sizeof(float));
            break;
        case MODEL_DENSE:
            dense(net, i, in, w);
            break;
        }
        in = b->out;
    }
    return in;
}
