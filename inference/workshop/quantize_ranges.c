/* quantize_ranges.c - what the outputs of the layers span on calibration windows. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/quantize.h"
#include "inference/workshop/train.h"

#define BINS 8192u
#define STEPS 200 /* ranges that MSE tries: half a percent apart */

struct calibration {
    const struct net *net;
    const struct model_channel *channels;
    const struct quantize_sample *sample;
    struct net_work *work;
    uint64_t (*histogram)[BINS]; /* [layer_count], second pass */
    struct quantize_range *ranges;
};

int quantize_sample_draw(const struct dataset *d, const struct model_channel *channels,
                         uint32_t channel_count, uint32_t window, uint32_t windows, uint64_t seed,
                         struct quantize_sample *out)
{
    const struct train_options plain = {.seed = seed, .exact = 1};
    struct train_sampler sampler = {0};
    float *features = malloc((size_t)window * channel_count * sizeof(*features));
    uint32_t label;
    int rc;

    out->windows = windows;
    out->watts = calloc(windows, (window + 1u) * sizeof(*out->watts));
    rc = features && out->watts ? train_sampler_create(d, &sampler) : -ENOMEM;
    for (uint32_t i = 0; i < windows && !rc; i++)
        train_draw(d, &sampler, &plain, channels, channel_count, i - i % TRAIN_SHARD,
                   i % TRAIN_SHARD, out->watts + (size_t)i * (window + 1u), features, &label);
    if (rc)
        quantize_sample_free(out);
    train_sampler_free(&sampler);
    free(features);
    return rc;
}

void quantize_sample_free(struct quantize_sample *sample)
{
    free(sample->watts);
    memset(sample, 0, sizeof(*sample));
}

static void extremes(struct calibration *c, uint32_t layer, const float *x, uint32_t n)
{
    struct quantize_range *r = &c->ranges[layer];

    for (uint32_t i = 0; i < n; i++) {
        r->low = x[i] < r->low ? x[i] : r->low;
        r->high = x[i] > r->high ? x[i] : r->high;
    }
}

static void count_bins(struct calibration *c, uint32_t layer, const float *x, uint32_t n)
{
    const struct quantize_range *r = &c->ranges[layer];
    float scale = r->high > r->low ? (float)BINS / (r->high - r->low) : 0.0f;

    for (uint32_t i = 0; i < n; i++) {
        float at = (x[i] - r->low) * scale;
        uint32_t bin = at > 0.0f ? (uint32_t)at : 0u;
        c->histogram[layer][bin < BINS ? bin : BINS - 1]++;
    }
}

static void pass(struct calibration *c,
                 void (*take)(struct calibration *, uint32_t, const float *, uint32_t))
{
    const struct net *net = c->net;
    const struct net_mode deployed = {0};

    for (uint32_t done = 0; done < c->sample->windows; done += TRAIN_SHARD) {
        uint32_t left = c->sample->windows - done, n = left < TRAIN_SHARD ? left : TRAIN_SHARD;
        for (uint32_t k = 0; k < n; k++)
            net_features(c->channels, net->channels, net->window,
                         c->sample->watts + (size_t)(done + k) * (net->window + 1u),
                         net_work_input(c->work) + (size_t)k * net->window * net->channels);
        (void)net_forward(net, c->work, n, &deployed);
        for (uint32_t i = 0; i < net->layer_count; i++) {
            const struct net_layer *l = &net->layers[i];
            for (uint32_t k = 0; k < n && l->weight_count; k++)
                take(c, i, net_work_output(c->work, i) + (size_t)k * l->out_pitch * l->out_channels,
                     l->out_columns * l->out_channels);
        }
    }
}

/* Narrows a range so that `share` of the counted values lies inside, half of the rest on either
 * side; a ReLU's zero stays where it is. */
static void narrow(struct quantize_range *r, const uint64_t *histogram, int relu, double share)
{
    uint64_t total = 0, seen = 0;
    uint32_t low = 0, high = BINS;
    double width = ((double)r->high - (double)r->low) / BINS;

    for (uint32_t b = 0; b < BINS; b++)
        total += histogram[b];
    double outside = (1.0 - share) * (double)total / (relu ? 1.0 : 2.0);
    while (high > 1 && (double)(seen + histogram[high - 1]) <= outside)
        seen += histogram[--high];
    seen = 0;
    while (!relu && low + 1 < high && (double)(seen + histogram[low]) <= outside)
        seen += histogram[low++];
    r->high = (float)((double)r->low + width * high);
    r->low = (float)((double)r->low + width * low);
}

/* Mean square (times the count) of what 256 levels over low..high do to the counted values. Zero is
 * a level, so what lies nearer to it than rounding errs by loses no more than itself. */
static double square_error(const struct quantize_range *all, const uint64_t *histogram, double low,
                           double high)
{
    const double width = ((double)all->high - (double)all->low) / BINS;
    const double rounding = (high - low) / 255.0 * ((high - low) / 255.0) / 12.0;
    double sum = 0.0;

    for (uint32_t b = 0; b < BINS; b++) {
        double x = (double)all->low + width * (b + 0.5);
        double outside = x > high ? x - high : x < low ? low - x : 0.0;
        double error = outside > 0.0 ? outside * outside : x * x < rounding ? x * x : rounding;
        sum += (double)histogram[b] * error;
    }
    return sum;
}

/* Both ends are drawn in by the same factor: the best of STEPS. */
static void least_square(struct quantize_range *r, const uint64_t *histogram)
{
    const struct quantize_range all = *r;
    double least = INFINITY;

    for (int step = STEPS; step > 0; step--) {
        double share = (double)step / STEPS;
        double error =
            square_error(&all, histogram, (double)all.low * share, (double)all.high * share);
        if (error >= least)
            continue;
        least = error;
        r->low = (float)((double)all.low * share);
        r->high = (float)((double)all.high * share);
    }
}

int quantize_calibrate(const struct net *net, const struct model_channel *channels,
                       const struct quantize_sample *sample, enum quantize_calibration calibration,
                       double percentile, struct quantize_range *ranges)
{
    struct calibration c = {.net = net, .channels = channels, .sample = sample, .ranges = ranges};
    int rc;

    memset(ranges, 0,
           net->layer_count * sizeof(*ranges)); /* zero is always inside: it must be exact */
    c.histogram = calloc(net->layer_count, sizeof(*c.histogram));
    rc = c.histogram ? net_work_create(net, TRAIN_SHARD, &c.work) : -ENOMEM;
    if (!rc) {
        pass(&c, extremes);
        if (calibration != QUANTIZE_MINMAX)
            pass(&c, count_bins);
        for (uint32_t i = 0; i < net->layer_count; i++) {
            if (!net->layers[i].weight_count && i)
                ranges[i] = ranges[i - 1];
            else if (calibration == QUANTIZE_PERCENTILE)
                narrow(&ranges[i], c.histogram[i], net->layers[i].relu, percentile / 100.0);
            else if (calibration == QUANTIZE_MSE)
                least_square(&ranges[i], c.histogram[i]);
        }
    }
    net_work_free(c.work);
    free(c.histogram);
    return rc;
}
