/* train_batch.c - which windows are drawn, and how they are varied. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "inference/workshop/net_random.h"
#include "inference/workshop/quantize.h"
#include "inference/workshop/train.h"

/* A varied window must still show the appliance: this many samples at or above the least activity.
 */
#define ACTIVE_SAMPLES 2u

int train_sampler_create(const struct dataset *d, struct train_sampler *s)
{
    double total = 0.0;

    s->class_count = d->class_count;
    s->windows = malloc((d->window_count + 1) * sizeof(*s->windows));
    s->first = calloc(d->class_count + 2u, sizeof(*s->first));
    s->cumulative = calloc(d->class_count + 1u, sizeof(*s->cumulative));
    if (!s->windows || !s->first || !s->cumulative) {
        train_sampler_free(s);
        return -ENOMEM;
    }
    for (size_t i = 0; i < d->window_count; i++)
        s->first[d->windows[i].label + 2]++;
    for (uint32_t c = 0; c < d->class_count; c++) {
        total += sqrt((double)s->first[c + 2]);
        s->cumulative[c] = total;
        s->first[c + 2] += s->first[c + 1];
    }
    for (uint32_t i = 0; i < d->window_count; i++)
        s->windows[s->first[d->windows[i].label + 1]++] = i;
    for (uint32_t c = 0; c < d->class_count; c++)
        s->cumulative[c] /= total > 0.0 ? total : 1.0;
    return 0;
}

void train_sampler_free(struct train_sampler *s)
{
    free(s->windows);
    free(s->first);
    free(s->cumulative);
    s->windows = s->first = NULL;
    s->cumulative = NULL;
}

static uint32_t draw_window(const struct train_sampler *s, struct net_random *r)
{
    double u = net_random_unit(r);
    uint32_t c = 0;

    while (c + 1 < s->class_count && u >= s->cumulative[c])
        c++;
    while (c > 0 && s->first[c + 1] ==
                        s->first[c]) /* only by rounding: a class without windows has no share */
        c--;
    return s->windows[s->first[c] + net_random_below(r, s->first[c + 1] - s->first[c])];
}

static uint32_t active(const float *watts, uint32_t from, uint32_t count, float least)
{
    uint32_t n = 0;

    for (uint32_t i = from; i < count; i++)
        n += watts[i] >= least;
    return n;
}

/* The shift that puts a switching-on inside the window's span a few samples before its end; 0 where
 * there is none. A switching-on: the power crosses the larger of the least activity and a third of
 * the span's peak. */
static int onset_shift(const struct dataset *d, const struct dataset_window *w,
                       const struct train_options *options, struct net_random *r)
{
    const struct dataset_trace *t = &d->traces[w->trace];
    const float *x = t->watts + w->start;
    uint32_t found = 0, at = 0, ago = 1 + net_random_below(r, options->onset_samples);
    float level = 0.0f;

    for (uint32_t i = 0; i < d->options.window; i++)
        level = x[i] > level ? x[i] : level;
    level = level / 3.0f > d->options.min_activity_w ? level / 3.0f : d->options.min_activity_w;
    for (uint32_t i = 1; i < d->options.window; i++)
        if (x[i] >= level && x[i - 1] < level && net_random_below(r, ++found) == 0)
            at = i;
    return found ? (int)(at + ago) - (int)(d->options.window - 1) : 0;
}

static void vary_power(const struct train_options *options, uint32_t count, struct net_random *r,
                       float *watts)
{
    float gain = expf(log1pf(options->gain) * (float)(2.0 * net_random_unit(r) - 1.0));

    for (uint32_t i = 0; i < count; i++) {
        /* the sum of two uniform numbers is normal enough for noise; deviation 1 */
        uint64_t u = net_random_next(r);
        float a = (float)(u >> 32) * 0x1p-32f + (float)(u & 0xffffffffu) * 0x1p-32f;
        watts[i] *= gain * (1.0f + options->noise * 2.4494897f * (a - 1.0f));
    }
}

/* Rounds features to INT8 levels, so that the network learns what it will see. */
static void snap(const struct model_channel *channels, uint32_t channel_count, uint32_t window,
                 float *features)
{
    for (uint32_t c = 0; c < channel_count; c++) {
        double scale, offset;
        quantize_input(channels[c].feature, &scale, &offset);
        const float s = (float)scale, o = (float)offset, inverse = (float)(1.0 / scale);
        for (uint32_t t = 0; t < window; t++) {
            float *f = &features[(size_t)t * channel_count + c];
            *f = floorf((*f - o) * inverse + 0.5f) * s + o;
        }
    }
}

void train_draw(const struct dataset *d, const struct train_sampler *s,
                const struct train_options *options, const struct model_channel *channels,
                uint32_t channel_count, uint64_t step, uint32_t index, float *watts,
                float *features, uint32_t *label)
{
    struct net_random r = net_random_stream(options->seed, step, index);
    const struct dataset_window *w = &d->windows[draw_window(s, &r)];
    const uint32_t window = d->options.window;
    int shift = 0;

    if (options->onset_samples && net_random_unit(&r) < (double)options->onset)
        shift = onset_shift(d, w, options, &r);
    if (shift == 0 && options->shift)
        shift = (int)net_random_below(&r, 2 * options->shift + 1) - (int)options->shift;
    dataset_copy(d, w, shift, watts);
    if (active(watts, 1, window + 1, d->options.min_activity_w) < ACTIVE_SAMPLES)
        dataset_copy(d, w, 0, watts);
    if (window > 16 && net_random_unit(&r) < (double)options->prefix) {
        uint32_t length = 1 + net_random_below(&r, window - 8);
        if (active(watts, length, window + 1, d->options.min_activity_w) >= ACTIVE_SAMPLES)
            for (uint32_t i = 0; i < length; i++)
                watts[i] = watts[length];
    }
    vary_power(options, window + 1, &r, watts);
    net_features(channels, channel_count, window, watts, features);
    if (!options->exact)
        snap(channels, channel_count, window, features);
    *label = w->label;
}
