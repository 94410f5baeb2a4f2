/* quantize_ranges.c - what the outputs of the layers span on calibration windows. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/quantize.h"
#include "inference/workshop/train.h"

#define BINS 8192u

struct calibration {
    const struct net *net;
    const struct model_channel *channels;
    const struct dataset *data;
    struct train_sampler sampler;
    struct train_options options; /* no variation */
    struct net_work *work;
    float *watts;
    uint64_t (*histogram)[BINS]; /* [layer_count], second pass */
    struct quantize_range *ranges;
    uint32_t windows;
};

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

    for (uint32_t done = 0; done < c->windows; done += TRAIN_SHARD) {
        uint32_t n = c->windows - done < TRAIN_SHARD ? c->windows - done : TRAIN_SHARD, label;
        for (uint32_t k = 0; k < n; k++)
            train_draw(c->data, &c->sampler, &c->options, c->channels, net->channels, done, k,
                       c->watts, net_work_input(c->work) + (size_t)k * net->window * net->channels,
                       &label);
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

int quantize_calibrate(const struct net *net, const struct model_channel *channels,
                       const struct dataset *d, uint32_t windows, double percentile, uint64_t seed,
                       struct quantize_range *ranges)
{
    struct calibration c = {.net = net,
                            .channels = channels,
                            .data = d,
                            .ranges = ranges,
                            .windows = windows,
                            .options = {.seed = seed, .exact = 1}};
    int rc;

    memset(ranges, 0,
           net->layer_count * sizeof(*ranges)); /* zero is always inside: it must be exact */
    rc = train_sampler_create(d, &c.sampler);
    if (rc)
        return rc;
    c.watts = malloc((net->window + 1u) * sizeof(float));
    c.histogram = calloc(net->layer_count, sizeof(*c.histogram));
    rc = c.watts && c.histogram ? net_work_create(net, TRAIN_SHARD, &c.work) : -ENOMEM;
    if (!rc) {
        pass(&c, extremes);
        if (percentile < 100.0)
            pass(&c, count_bins);
        for (uint32_t i = 0; i < net->layer_count; i++) {
            if (!net->layers[i].weight_count && i)
                ranges[i] = ranges[i - 1];
            else if (net->layers[i].weight_count && percentile < 100.0)
                narrow(&ranges[i], c.histogram[i], net->layers[i].relu, percentile / 100.0);
        }
    }
    net_work_free(c.work);
    free(c.watts);
    free(c.histogram);
    train_sampler_free(&c.sampler);
    return rc;
}
