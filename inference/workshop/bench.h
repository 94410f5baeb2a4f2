/* bench.h - measures a model on this machine: whole windows, hops, layers, many meters at once.
 *
 * Every call is timed by itself, so that a figure is a percentile of calls and not a mean that
 * other load on the machine drags along. Single-threaded; allocates what it needs and releases it.
 */
#ifndef WORKSHOP_BENCH_H
#define WORKSHOP_BENCH_H

#include <stddef.h>
#include <stdint.h>

#include "inference/model.h"

#define BENCH_MAX_HOPS 16u

struct bench_options {
    uint32_t hop;                  /* samples between results; 0: the model's */
    uint32_t ms;                   /* how long each thing is measured, 1 and more */
    uint32_t meters;               /* resident at once in the batched measurement; 0: none */
    uint32_t hops[BENCH_MAX_HOPS]; /* of the sweep, each 1..window */
    uint32_t hop_count;
};

/* Microseconds of one call. */
struct bench_times {
    double p50, p90, p99;
};

struct bench_layer {
    char name[3 * MODEL_LABEL_BYTES]; /* "input", or of all layers that ran as one */
    uint64_t macs;
    double us; /* median */
};

struct bench_hop {
    uint32_t hop;
    size_t state_bytes;
    struct bench_times times;
};

struct bench_report {
    char isa[32]; /* "fp32" for FP32, which has no layers, peak, sweep and batch here */
    struct bench_times full;
    struct bench_hop hop;
    double start_us;     /* from a decoded model to the first classification */
    double peak_macs_us; /* multiply-accumulates a microsecond; 0: not known */
    /* One meter's hop among `meters`: with all meters' samples in turn; with its own samples at
     * once; the same, batched. 0: not measured */
    double in_turn_us, single_us, batch_us;
    struct bench_layer layers[MODEL_MAX_LAYERS + 1];
    uint32_t layer_count;
    struct bench_hop hops[BENCH_MAX_HOPS];
};

double bench_now_us(void); /* monotonic */

/* 0, -ENOMEM, or what engine_create returns; why says which. */
int bench_measure(const struct model *m, const struct bench_options *options,
                  struct bench_report *report, char *why, size_t why_size);

#endif
