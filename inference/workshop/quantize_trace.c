/* quantize_trace.c - see quantize_trace.h. */
#include "inference/workshop/quantize_trace.h"

#include <cblas.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MOST_SWEEPS 50 /* of the descent; it ends by itself much earlier */

int quantize_trace_create(const struct model *m, struct quantize_trace *t)
{
    size_t most = (size_t)m->window * m->channel_count, outputs = 1;

    for (uint32_t i = 0; i < m->layer_count; i++) {
        const struct model_layer *l = &m->layers[i];
        size_t size = (size_t)l->out_columns * l->out_channels;
        most = size > most ? size : most;
        outputs = l->out_channels > outputs ? l->out_channels : outputs;
    }
    t->m = m;
    t->a = malloc(most);
    t->b = malloc(most);
    t->sums = malloc(outputs * sizeof(*t->sums));
    t->bias = malloc(outputs * sizeof(*t->bias));
    if (t->a && t->b && t->sums && t->bias)
        return 0;
    quantize_trace_free(t);
    return -ENOMEM;
}

void quantize_trace_free(struct quantize_trace *t)
{
    free(t->a);
    free(t->b);
    free(t->sums);
    free(t->bias);
    memset(t, 0, sizeof(*t));
}

void quantize_trace_start(struct quantize_trace *t, const float *watts)
{
    const uint32_t channels = t->m->channel_count;

    for (uint32_t c = 0; c < channels; c++) {
        const struct model_channel *from = &t->m->channels[c];
        for (uint32_t k = 0; k < t->m->window; k++) {
            float x = from->feature == MODEL_LOG_DIFF ? watts[k + 1] - watts[k] : watts[k + 1];
            uint32_t low = 0, high = MODEL_LEVELS; /* thresholds at most x: low */
            while (low < high) {
                uint32_t middle = (low + high) / 2;
                if (from->thresholds[middle] <= x)
                    low = middle + 1;
                else
                    high = middle;
            }
            t->a[(size_t)k * channels + c] = (int8_t)((int)low - 128);
        }
    }
}

static int8_t rescale(const struct model_layer *l, uint32_t o, int32_t sum)
{
    int64_t half = (int64_t)1 << (l->shift[o] - 1);
    int64_t y = l->out_zero + (((int64_t)sum * l->multiplier[o] + half) >> l->shift[o]);
    int64_t low = l->relu ? l->out_zero : -128;

    return (int8_t)(y < low ? low : y > 127 ? 127 : y);
}

static void product(struct quantize_trace *t, const struct model_layer *l, const int8_t *x,
                    int8_t *y)
{
    const uint32_t row = (l->op == MODEL_CONV1D ? l->taps : 1u) * l->in_channels;

    for (uint32_t o = 0; o < l->out_channels; o++) {
        int32_t sum = 0;
        for (uint32_t k = 0; k < row; k++)
            sum += l->weights[(size_t)o * row + k];
        t->bias[o] = l->bias[o] - l->in_zero * sum;
    }
    for (uint32_t column = 0; column < l->out_columns; column++, x += l->in_channels) {
        for (uint32_t o = 0; o < l->out_channels; o++) {
            const int8_t *w = l->weights + (size_t)o * row;
            int32_t sum = t->bias[o];
            for (uint32_t k = 0; k < row; k++)
                sum += (int32_t)w[k] * x[k];
            t->sums[o] = sum;
        }
        for (uint32_t o = 0; o < l->out_channels && l->multiplier; o++)
            *y++ = rescale(l, o, t->sums[o]);
    }
}

void quantize_trace_layer(struct quantize_trace *t, uint32_t i, const int8_t *x, int8_t *y)
{
    const struct model_layer *l = &t->m->layers[i];

    if (l->op == MODEL_FLATTEN) {
        memcpy(y, x, (size_t)l->in_columns * l->in_channels);
        return;
    }
    if (l->op != MODEL_MAXPOOL1D) {
        product(t, l, x, y);
        return;
    }
    for (uint32_t column = 0; column < l->out_columns; column++)
        for (uint32_t c = 0; c < l->out_channels; c++) {
            int8_t best = -128;
            for (uint32_t p = 0; p < l->pool; p++) {
                int8_t v = x[((size_t)column * l->pool + p) * l->in_channels + c];
                best = v > best ? v : best;
            }
            y[(size_t)column * l->out_channels + c] = best;
        }
}

/* Adds the columns' rows of x to mean, and their products to the upper triangle of products. As in
 * net.h, BLAS wants rows disjoint: every taps-th column is one product. */
static void add_moments(const double *x, uint32_t channels, uint32_t taps, uint32_t columns,
                        double *mean, double *products)
{
    const uint32_t row = taps * channels;

    for (uint32_t t = 0; t < columns; t++)
        for (uint32_t k = 0; k < row; k++)
            mean[k] += x[(size_t)t * channels + k];
    for (uint32_t r = 0; r < taps && r < columns && products; r++)
        cblas_dsyrk(CblasRowMajor, CblasUpper, CblasTrans, (int)row,
                    (int)((columns - r + taps - 1) / taps), 1.0, x + (size_t)r * channels, (int)row,
                    1.0, products, (int)row);
}

int quantize_trace_moments(struct quantize_trace *t, const struct quantize_sample *sample,
                           uint32_t i, double *mean, double *products)
{
    const struct model_layer *l = &t->m->layers[i];
    const uint32_t taps = l->op == MODEL_CONV1D ? l->taps : 1u, row = taps * l->in_channels;
    const size_t size = (size_t)l->in_columns * l->in_channels;
    const double share = 1.0 / ((double)sample->windows * l->out_columns);
    double *x = malloc(size * sizeof(*x));

    if (!x)
        return -ENOMEM;
    memset(mean, 0, row * sizeof(*mean));
    if (products)
        memset(products, 0, (size_t)row * row * sizeof(*products));
    for (uint32_t n = 0; n < sample->windows; n++) {
        quantize_trace_start(t, sample->watts + (size_t)n * (t->m->window + 1u));
        for (uint32_t k = 0; k < i; k++) {
            int8_t *swap = t->a;
            quantize_trace_layer(t, k, t->a, t->b);
            t->a = t->b;
            t->b = swap;
        }
        for (size_t k = 0; k < size; k++)
            x[k] = (double)t->a[k] - (double)l->in_zero;
        add_moments(x, l->in_channels, taps, l->out_columns, mean, products);
    }
    for (uint32_t k = 0; k < row; k++)
        mean[k] *= share;
    for (uint32_t k = 0; k < row && products; k++)
        for (uint32_t j = k; j < row; j++)
            products[(size_t)j * row + k] = products[(size_t)k * row + j] *= share;
    free(x);
    return 0;
}

static void add_means(const struct net_layer *l, const float *x, double *mean)
{
    const uint32_t taps = l->op == MODEL_CONV1D ? l->taps : 1u, row = taps * l->in_channels;

    for (uint32_t t = 0; t < l->out_columns; t++)
        for (uint32_t k = 0; k < row; k++)
            mean[k] += (double)x[(size_t)t * l->in_channels + k];
}

int quantize_trace_means(const struct net *net, const struct model_channel *channels,
                         const struct quantize_sample *sample, double *means[MODEL_MAX_LAYERS])
{
    struct net_work *work = NULL;
    int rc = net_work_create(net, 1, &work);

    memset(means, 0, MODEL_MAX_LAYERS * sizeof(*means));
    for (uint32_t i = 0; i < net->layer_count && !rc; i++) {
        const struct net_layer *l = &net->layers[i];
        if (l->weight_count &&
            !(means[i] = calloc(l->weight_count / l->out_channels, sizeof(**means))))
            rc = -ENOMEM;
    }
    for (uint32_t n = 0; n < sample->windows && !rc; n++) {
        net_features(channels, net->channels, net->window,
                     sample->watts + (size_t)n * (net->window + 1u), net_work_input(work));
        (void)net_forward(net, work, 1, &(struct net_mode){0});
        for (uint32_t i = 0; i < net->layer_count; i++)
            if (means[i])
                add_means(&net->layers[i], i ? net_work_output(work, i - 1) : net_work_input(work),
                          means[i]);
    }
    for (uint32_t i = 0; i < net->layer_count && !rc; i++) {
        const struct net_layer *l = &net->layers[i];
        for (size_t k = 0; means[i] && k < l->weight_count / l->out_channels; k++)
            means[i][k] /= (double)sample->windows * l->out_columns;
    }
    for (uint32_t i = 0; i < net->layer_count && rc; i++) {
        free(means[i]);
        means[i] = NULL;
    }
    net_work_free(work);
    return rc;
}

double quantize_fit(const double *products, const double *exact, uint32_t n, int8_t *weights,
                    double *gradient)
{
    double left = 0.0;
    int moved = 1;

    memset(gradient, 0, n * sizeof(*gradient));
    for (uint32_t k = 0; k < n; k++)
        cblas_daxpy((int)n, weights[k] - exact[k], products + (size_t)k * n, 1, gradient, 1);
    for (int sweep = 0; sweep < MOST_SWEEPS && moved; sweep++) {
        moved = 0;
        for (uint32_t k = 0; k < n; k++) {
            const double own = products[(size_t)k * n + k];
            double best = own > 0.0 ? weights[k] - gradient[k] / own : weights[k];
            best = best > 127.0 ? 127.0 : best < -127.0 ? -127.0 : best;
            if (fabs(best - weights[k]) <= 0.5 + 1e-9) /* a tie stays, or it would never end */
                continue;
            double step = (double)lround(best) - weights[k];
            weights[k] = (int8_t)(weights[k] + step);
            cblas_daxpy((int)n, step, products + (size_t)k * n, 1, gradient, 1);
            moved = 1;
        }
    }
    for (uint32_t k = 0; k < n; k++)
        left += gradient[k] * (weights[k] - exact[k]);
    return left;
}
