/* net_backward.c - gradients, the mirror of net_forward.c. Checked against finite differences in
 * tests/workshop/test_net.c. */
#include <cblas.h>
#include <string.h>

#include "inference/workshop/net_work.h"

/* Of a layer with levels: 0 where the value was clipped, by the levels or by ReLU; elsewhere the
 * gradient passes as if there were none. The values are x * scale + offset, or x where scale is
 * NULL. */
static void through_levels(const struct net_layer *l, const float *x, const float *scale,
                           const float *offset, size_t columns, float *d)
{
    const float low = l->relu ? 0.0f : (l->least - 0.5f) * l->step;
    const float high = (l->most + 0.5f) * l->step;

    for (size_t t = 0; t < columns; t++) {
        for (uint32_t k = 0; k < l->out_channels; k++) {
            size_t at = t * l->out_channels + k;
            float v = scale ? x[at] * scale[k] + offset[k] : x[at];
            d[at] = v > low && v < high ? d[at] : 0.0f;
        }
    }
}

/* d: gradient of the layer's output -> gradient of what the product gave (before normalization), in
 * place; void columns stay zero. Also the gradients of beta (or bias) and gamma. Normalization
 * backward (Ioffe, Szegedy 2015, section 3), with x^ = (raw - mean) * inverse: d_raw = gamma *
 * inverse * (d - mean(d) - x^ * mean(d * x^))                                                 */
NET_WIDE static void through_activation(const struct net_layer *l, const struct net_work *w,
                                        const struct net_buffers *b, const float *gamma,
                                        float *d_bias, float *d_gamma)
{
    const uint32_t c = l->out_channels, n = w->n;
    double sum[MODEL_MAX_WIDTH] = {0}, dot[MODEL_MAX_WIDTH] = {0};
    float mean[MODEL_MAX_WIDTH];
    const int relu = l->relu && l->step <= 0.0f;

    for (uint32_t i = 0; i < n && l->step > 0.0f; i++) {
        size_t at = (size_t)i * l->out_pitch * c;
        through_levels(l, b->raw + at, b->scale, b->offset, l->out_columns, b->d + at);
    }
    for (uint32_t k = 0; k < c; k++)
        mean[k] = l->norm ? w->stats[l->mean + k] : 0.0f;
    for (uint32_t i = 0; i < n; i++) {
        float s[MODEL_MAX_WIDTH], q[MODEL_MAX_WIDTH];
        memset(s, 0, c * sizeof(float));
        memset(q, 0, c * sizeof(float));
        for (uint32_t t = 0; t < l->out_columns; t++) {
            size_t at = ((size_t)i * l->out_pitch + t) * c;
            const float *restrict x = b->raw + at, *restrict y = b->out + at;
            float *restrict d = b->d + at;
            for (uint32_t k = 0; k < c; k++) {
                float g = !relu || y[k] > 0.0f ? d[k] : 0.0f;
                d[k] = g;
                s[k] += g;
                q[k] += g * (x[k] - mean[k]);
            }
        }
        for (uint32_t k = 0; k < c; k++) {
            sum[k] += (double)s[k];
            dot[k] += (double)q[k];
        }
    }
    for (uint32_t k = 0; k < c; k++)
        d_bias[k] = (float)sum[k];
    if (!l->norm)
        return;
    float a[MODEL_MAX_WIDTH], p[MODEL_MAX_WIDTH], o[MODEL_MAX_WIDTH];
    double count = (double)n * l->out_columns;
    for (uint32_t k = 0; k < c; k++) {
        double inverse = (double)b->inverse[k];
        d_gamma[k] = (float)(dot[k] * inverse);
        a[k] = gamma[k] * b->inverse[k];
        p[k] = (float)(-(double)a[k] * inverse * inverse * dot[k] / count);
        o[k] = (float)(-(double)a[k] * sum[k] / count) - p[k] * mean[k];
    }
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t t = 0; t < l->out_columns; t++) {
            size_t at = ((size_t)i * l->out_pitch + t) * c;
            const float *restrict x = b->raw + at;
            float *restrict d = b->d + at;
            for (uint32_t k = 0; k < c; k++)
                d[k] = a[k] * d[k] + p[k] * x[k] + o[k];
        }
    }
}

/* d_weights = d_raw^T x overlapping rows of the input. */
static void conv_weights(const struct net_layer *l, const float *d, const float *in,
                         uint32_t columns, float *d_weights)
{
    const int k = (int)(l->taps * l->in_channels), o = (int)l->out_channels;
    uint32_t rows = columns - l->taps + 1;

    for (uint32_t r = 0; r < l->taps && r < rows; r++) {
        int m = (int)((rows - r + l->taps - 1) / l->taps);
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, o, k, m, 1.0f,
                    d + (size_t)r * l->out_channels, (int)l->taps * o,
                    in + (size_t)r * l->in_channels, k, r ? 1.0f : 0.0f, d_weights, k);
    }
}

/* d_in[t] = sum over taps of d_raw[t - tap] x weights[tap]: a convolution of d_raw, which has zero
 * columns before each window, with the taps reversed. */
static void conv_input(const struct net_layer *l, const float *weights, struct net_buffers *b,
                       uint32_t columns, float *d_in)
{
    const uint32_t in = l->in_channels, out = l->out_channels, taps = l->taps;
    const int k = (int)(taps * out);
    const float *first = b->d - (size_t)(taps - 1) * out;

    for (uint32_t o = 0; o < out; o++)
        for (uint32_t t = 0; t < taps; t++)
            memcpy(b->flipped + ((size_t)(taps - 1 - t) * out + o) * in,
                   weights + ((size_t)o * taps + t) * in, in * sizeof(float));
    for (uint32_t r = 0; r < taps && r < columns; r++) {
        int m = (int)((columns - r + taps - 1) / taps);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, (int)in, k, 1.0f,
                    first + (size_t)r * out, k, b->flipped, (int)in, 0.0f, d_in + (size_t)r * in,
                    (int)(taps * in));
    }
}

NET_WIDE static void pool_input(const struct net_layer *l, const struct net_buffers *b, uint32_t n,
                                float *d_in)
{
    const uint32_t c = l->out_channels;

    for (uint32_t i = 0; i < n; i++) {
        float *base = d_in + (size_t)i * l->in_pitch * c;
        for (uint32_t t = 0; t < l->out_columns; t++) {
            size_t at = ((size_t)i * l->out_pitch + t) * c;
            const float *restrict d = b->d + at;
            const uint8_t *restrict which = b->choice + at;
            for (uint32_t p = 0; p < l->pool; p++) {
                float *restrict x = base + ((size_t)t * l->pool + p) * c;
                for (uint32_t k = 0; k < c; k++)
                    x[k] = which[k] == p ? d[k] : 0.0f;
            }
        }
        size_t used = (size_t)l->out_columns * l->pool * c;
        memset(base + used, 0, ((size_t)l->in_pitch * c - used) * sizeof(float));
    }
}

static void dense_back(const struct net *net, uint32_t index, struct net_work *w, const float *in,
                       float *d_in, float *gradient)
{
    const struct net_layer *l = &net->layers[index];
    struct net_buffers *b = &w->layers[index];
    const int n = (int)w->n, k = (int)l->in_channels, o = (int)l->out_channels;
    const int dropped = w->mode.train && w->mode.dropout > 0.0f;
    const int relu = l->relu && l->step <= 0.0f;
    float *d_bias = gradient + l->bias;

    if (l->step > 0.0f)
        through_levels(l, b->sums, NULL, NULL, w->n, b->d);
    memset(d_bias, 0, l->out_channels * sizeof(float));
    for (uint32_t i = 0; i < w->n; i++) {
        for (uint32_t u = 0; u < l->out_channels; u++) {
            float *d = &b->d[(size_t)i * l->out_channels + u];
            if (relu && b->out[(size_t)i * l->out_channels + u] <= 0.0f)
                *d = 0.0f;
            d_bias[u] += *d;
        }
    }
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, o, k, n, 1.0f, b->d, o,
                dropped ? b->raw : in, k, 0.0f, gradient + l->weights, k);
    if (!d_in)
        return;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, k, o, 1.0f, b->d, o,
                net->params + l->weights, k, 0.0f, d_in, k);
    for (size_t i = 0; dropped && i < (size_t)w->n * l->in_channels; i++)
        d_in[i] *= b->mask[i];
}

static void flatten_input(const struct net_layer *l, const struct net_buffers *b, uint32_t n,
                          float *d_in)
{
    size_t row = (size_t)l->in_columns * l->in_channels,
           pitch = (size_t)l->in_pitch * l->in_channels;

    for (uint32_t i = 0; i < n; i++) {
        memcpy(d_in + i * pitch, b->d + i * row, row * sizeof(float));
        memset(d_in + i * pitch + row, 0, (pitch - row) * sizeof(float));
    }
}

void net_backward(const struct net *net, struct net_work *w, const float *d_logits, float *gradient)
{
    const uint32_t last = net->layer_count - 1;

    memcpy(w->layers[last].d, d_logits, (size_t)w->n * net->class_count * sizeof(float));
    for (uint32_t i = net->layer_count; i-- > 0;) {
        const struct net_layer *l = &net->layers[i];
        struct net_buffers *b = &w->layers[i];
        const float *in = i ? w->layers[i - 1].out : w->input;
        float *d_in = i ? w->layers[i - 1].d : NULL;
        switch (l->op) {
        case MODEL_CONV1D:
            through_activation(l, w, b, net->params + l->gamma, gradient + l->bias,
                               gradient + l->gamma);
            conv_weights(l, b->d, in, w->n * l->in_pitch, gradient + l->weights);
            if (d_in)
                conv_input(l, net->params + l->weights, b, w->n * l->in_pitch, d_in);
            break;
        case MODEL_MAXPOOL1D:
            if (d_in)
                pool_input(l, b, w->n, d_in);
            break;
        case MODEL_FLATTEN:
            if (d_in)
                flatten_input(l, b, w->n, d_in);
            break;
        case MODEL_DENSE:
            dense_back(net, i, w, in, d_in, gradient);
            break;
        }
    }
}
