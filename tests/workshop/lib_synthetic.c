/* lib_synthetic.c - see lib_synthetic.h. */
#include "lib_synthetic.h"

#include <stdio.h>
#include <stdlib.h>

#include "inference/workshop/net_random.h"

static void fill(struct dataset_trace *t, uint32_t count, uint64_t seed, uint32_t number)
{
    static const float level[6] = {60, 400, 2000, 120, 800, 2500};
    static const uint32_t period[6] = {40, 16, 64, 12, 30, 20};
    struct net_random r = net_random_stream(seed, 77, number);
    uint32_t phase = net_random_below(&r, 64);

    t->count = count;
    t->watts = calloc(count, sizeof(float));
    t->gap = calloc(count, 1);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t p = period[t->label];
        int on = (i + phase) % p < p / 2;
        float noise = 1.0f + 0.03f * (float)net_random_normal(&r);
        t->watts[i] = on ? level[t->label] * noise : 1.0f;
    }
}

struct dataset *synthetic_dataset(uint32_t classes, uint32_t traces, uint32_t count,
                                  uint32_t window, uint32_t stride, uint64_t seed)
{
    struct dataset *d = calloc(1, sizeof(*d));
    size_t per_trace = (count - window) / stride + 1;

    dataset_defaults(&d->options);
    d->options.window = window;
    d->options.stride = stride;
    d->class_count = classes;
    d->labels = calloc(classes, sizeof(*d->labels));
    d->trace_count = (size_t)classes * traces;
    d->traces = calloc(d->trace_count, sizeof(*d->traces));
    d->windows = calloc(d->trace_count * per_trace, sizeof(*d->windows));
    for (uint32_t c = 0; c < classes; c++)
        (void)snprintf(d->labels[c], DATASET_LABEL_BYTES, "made-up-%u", c);
    for (uint32_t t = 0; t < d->trace_count; t++) {
        d->traces[t].label = t / traces;
        fill(&d->traces[t], count, seed, t);
        for (uint32_t k = 0; k < per_trace; k++)
            d->windows[d->window_count++] =
                (struct dataset_window){.trace = t, .start = k * stride, .label = t / traces};
    }
    return d;
}

void synthetic_free(struct dataset *d)
{
    for (size_t t = 0; d && t < d->trace_count; t++) {
        free(d->traces[t].watts);
        free(d->traces[t].gap);
    }
    if (d) {
        free(d->traces);
        free(d->windows);
        free(d->labels);
    }
    free(d);
}
