/* train_batch.c - which windows are drawn, and how they are varied. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "inference/workshop/mix.h"
#include "inference/workshop/net_random.h"
#include "inference/workshop/quantize.h"
#include "inference/workshop/train.h"

/* A varied window must still show the appliance: this many samples at or above the least activity.
 */
#define ACTIVE_SAMPLES 2u
#define OTHER_SHARE 0.2   /* at most this part of the window's energy is another load's */
#define DROP_STRETCHES 4u /* at most so many in a window ... */
#define DROP_SAMPLES 16u  /* ... each at most so long */

int train_sampler_create(const struct dataset *d, struct train_sampler *s)
{
    return train_sampler_create_powered(d, 0.5, 0.0, s);
}

/* Shares and weights of the classes; first holds their counts two places on. */
static void weigh(struct train_sampler *s, double power, double weight)
{
    double total = 0.0, mean = 0.0;

    for (uint32_t c = 0; c < s->class_count; c++) {
        double count = (double)s->first[c + 2], share = count > 0.0 ? pow(count, power) : 0.0;
        total += share;
        s->cumulative[c] = total;
        s->weights[c] = count > 0.0 ? (float)pow(count, -weight) : 1.0f;
        mean += share * (double)s->weights[c];
    }
    for (uint32_t c = 0; c < s->class_count && total > 0.0; c++) {
        s->cumulative[c] /= total;
        s->weights[c] = (float)((double)s->weights[c] * total / mean);
    }
}

int train_sampler_create_powered(const struct dataset *d, double power, double weight,
                                 struct train_sampler *s)
{
    *s = (struct train_sampler){.class_count = d->class_count};
    if (d->mix) /* which draws by itself */
        return 0;
    s->windows = malloc((d->window_count + 1) * sizeof(*s->windows));
    s->first = calloc(d->class_count + 2u, sizeof(*s->first));
    s->cumulative = calloc(d->class_count + 1u, sizeof(*s->cumulative));
    s->weights = calloc(d->class_count + 1u, sizeof(*s->weights));
    if (!s->windows || !s->first || !s->cumulative || !s->weights) {
        train_sampler_free(s);
        return -ENOMEM;
    }
    for (size_t i = 0; i < d->window_count; i++)
        s->first[d->windows[i].label + 2]++;
    weigh(s, power, weight);
    for (uint32_t c = 0; c < d->class_count; c++)
        s->first[c + 2] += s->first[c + 1];
    for (uint32_t i = 0; i < d->window_count; i++)
        s->windows[s->first[d->windows[i].label + 1]++] = i;
    return 0;
}

void train_sampler_free(struct train_sampler *s)
{
    free(s->windows);
    free(s->first);
    free(s->cumulative);
    free(s->weights);
    *s = (struct train_sampler){0};
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

/* Adds a window of another class, scaled so that its mean is a small part of this one's. */
static void add_other(const struct dataset *d, const struct train_sampler *s, uint32_t label,
                      struct net_random *r, float *watts, float *other)
{
    const uint32_t count = d->options.window + 1;
    const struct dataset_window *w = NULL;
    double own = 0.0, theirs = 0.0;

    for (int tries = 0; tries < 8 && (!w || w->label == label); tries++)
        w = &d->windows[draw_window(s, r)];
    if (w->label == label)
        return;
    dataset_copy(d, w, 0, other);
    for (uint32_t i = 0; i < count; i++) {
        own += (double)watts[i];
        theirs += (double)other[i];
    }
    double factor = theirs > 0.0 ? OTHER_SHARE * net_random_unit(r) * own / theirs : 0.0;
    float k = factor < 1.0 ? (float)factor : 1.0f;
    for (uint32_t i = 0; i < count; i++)
        watts[i] += k * other[i];
}

/* Moves the power by one constant wherever the load is on; it stays on. */
static void move_level(float most, float least, uint32_t count, struct net_random *r, float *watts)
{
    const float by = most * (float)(2.0 * net_random_unit(r) - 1.0);

    for (uint32_t i = 0; i < count; i++)
        if (watts[i] >= least)
            watts[i] = watts[i] + by > least ? watts[i] + by : least;
}

/* A few stretches become the sample before them, as far as the load remains to be seen. */
static void drop_samples(float least, uint32_t count, struct net_random *r, float *watts)
{
    for (uint32_t n = 1 + net_random_below(r, DROP_STRETCHES); n > 0 && count > 2; n--) {
        uint32_t from = 1 + net_random_below(r, count - 1);
        uint32_t end = from + 1 + net_random_below(r, DROP_SAMPLES);
        end = end < count ? end : count;
        if (watts[from - 1] < least &&
            active(watts, 1, from, least) + active(watts, end, count, least) < ACTIVE_SAMPLES)
            continue;
        for (uint32_t i = from; i < end; i++)
            watts[i] = watts[from - 1];
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

/* Purposes of random streams besides the first: an option that is off consumes nothing. */
enum { STREAM_MIX = 1, STREAM_OTHER, STREAM_LEVEL, STREAM_DROP, STREAM_BLIND, STREAM_PARTNER = 16 };

static struct net_random stream_of(uint64_t seed, uint64_t purpose, uint64_t step, uint32_t index)
{
    return net_random_stream(seed ^ purpose << 56, step, index);
}

static int happens(double share, struct net_random *r)
{
    return share > 0.0 && net_random_unit(r) < share;
}

/* One window into watts [window + 1]; other: scratch of the same size, NULL: no other loads.
 * Returns its label. */
static uint32_t draw(const struct dataset *d, const struct train_sampler *s,
                     const struct train_options *options, uint64_t seed, uint64_t step,
                     uint32_t index, float *watts, float *other)
{
    struct net_random r = net_random_stream(seed, step, index);
    const struct dataset_window *w = &d->windows[draw_window(s, &r)];
    const uint32_t window = d->options.window;
    const float least = d->options.min_activity_w;
    struct net_random others = stream_of(seed, STREAM_OTHER, step, index);
    struct net_random level = stream_of(seed, STREAM_LEVEL, step, index);
    struct net_random drop = stream_of(seed, STREAM_DROP, step, index);
    int shift = 0;

    if (options->onset_samples && net_random_unit(&r) < (double)options->onset)
        shift = onset_shift(d, w, options, &r);
    if (shift == 0 && options->shift)
        shift = (int)net_random_below(&r, 2 * options->shift + 1) - (int)options->shift;
    dataset_copy(d, w, shift, watts);
    if (active(watts, 1, window + 1, least) < ACTIVE_SAMPLES)
        dataset_copy(d, w, 0, watts);
    if (window > 16 && net_random_unit(&r) < (double)options->prefix) {
        uint32_t length = 1 + net_random_below(&r, window - 8);
        if (active(watts, length, window + 1, least) >= ACTIVE_SAMPLES)
            for (uint32_t i = 0; i < length; i++)
                watts[i] = watts[length];
    }
    if (other && happens((double)options->others, &others))
        add_other(d, s, w->label, &others, watts, other);
    vary_power(options, window + 1, &r, watts);
    if (happens((double)options->level, &level))
        move_level(options->level_w, least, window + 1, &level, watts);
    if (happens((double)options->drop, &drop))
        drop_samples(least, window + 1, &drop, watts);
    return w->label;
}

int train_window_create(uint32_t window, struct train_window *w)
{
    w->watts = malloc(2 * (window + 1u) * sizeof(float));
    w->scratch = malloc((size_t)window * MODEL_MAX_CHANNELS * sizeof(float));
    return w->watts && w->scratch ? 0 : -ENOMEM;
}

void train_window_free(struct train_window *w)
{
    free(w->watts);
    free(w->scratch);
    *w = (struct train_window){0};
}

void train_window_draw(const struct dataset *d, const struct train_sampler *s,
                       const struct train_options *options, uint64_t step, uint32_t index,
                       struct train_window *w)
{
    struct net_random r = stream_of(options->seed, STREAM_MIX, step, index);
    float *second = w->watts + d->options.window + 1;

    w->mixed = d->mix != NULL;
    if (w->mixed) {
        w->share = 1.0f;
        w->labels[0] = w->labels[1] = mix_window(d->mix, options->seed, step, index, w->watts);
        return;
    }
    w->labels[0] = w->labels[1] = draw(d, s, options, options->seed, step, index, w->watts, second);
    w->share = 1.0f;
    if (happens((double)options->mix, &r)) {
        /* the partner needs no scratch that the first still uses: it comes into the second half,
         * its own other load into w->scratch, which holds at least as much */
        w->labels[1] = draw(d, s, options, options->seed ^ (uint64_t)STREAM_PARTNER << 56, step,
                            index, second, w->scratch);
        w->share = 0.5f + 0.5f * (float)net_random_unit(&r);
    }
}

void train_window_features(const struct train_window *w, uint32_t window,
                           const struct model_channel *channels, uint32_t channel_count, int exact,
                           float *features)
{
    const size_t count = (size_t)window * channel_count;

    net_features(channels, channel_count, window, w->watts, features);
    if (w->share < 1.0f) {
        net_features(channels, channel_count, window, w->watts + window + 1, w->scratch);
        for (size_t i = 0; i < count; i++)
            features[i] = w->share * features[i] + (1.0f - w->share) * w->scratch[i];
    }
    if (!exact)
        snap(channels, channel_count, window, features);
}

void train_window_blind(const struct train_options *options, uint64_t step, uint32_t index,
                        uint32_t window, uint32_t channel_count, float *features)
{
    struct net_random r = stream_of(options->seed, STREAM_BLIND, step, index);
    const uint32_t kept = net_random_below(&r, channel_count);

    for (uint32_t c = 0; c < channel_count; c++)
        if (happens((double)options->input_dropout, &r) && c != kept)
            for (uint32_t t = 0; t < window; t++)
                features[(size_t)t * channel_count + c] = 0.0f;
}

void train_draw(const struct dataset *d, const struct train_sampler *s,
                const struct train_options *options, const struct model_channel *channels,
                uint32_t channel_count, uint64_t step, uint32_t index, float *watts,
                float *features, uint32_t *label)
{
    const uint32_t window = d->options.window;

    *label = d->mix ? mix_window(d->mix, options->seed, step, index, watts)
                    : draw(d, s, options, options->seed, step, index, watts, NULL);
    net_features(channels, channel_count, window, watts, features);
    if (!options->exact)
        snap(channels, channel_count, window, features);
}
