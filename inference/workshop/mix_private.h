/* mix_private.h - private to mix*.c: the loads that can be drawn, and how one is laid into a sum.
 */
#ifndef WORKSHOP_MIX_PRIVATE_H
#define WORKSHOP_MIX_PRIVATE_H

#include "inference/workshop/mix.h"
#include "inference/workshop/net_random.h"

#define MIX_OFTEN 0.6 /* how often the first output, which runs all day, is there */

struct mix_run {
    uint32_t trace, start, end; /* in raw; [start, end) */
};

struct mix_device {
    uint32_t first, count; /* its runs */
};

/* What a load is drawn from: an output, or a class without a rule. */
struct mix_kind {
    uint32_t output; /* index of the rule, or MIX_UNKNOWN */
    float level, stretch;
    uint32_t first, count; /* its devices */
};

struct mix {
    struct dataset *raw;
    struct mix_rules rules;
    uint32_t window, lag, period_ms;
    uint8_t **on;   /* [raw->trace_count][count] */
    float *highest; /* [raw->trace_count], watts */
    struct mix_run *runs;
    struct mix_device *devices;
    struct mix_kind *kinds; /* the outputs', in their order, then the unknown ones */
    uint32_t run_count, device_count, kind_count;
};

/* How a trace becomes a load. */
struct mix_load {
    uint32_t trace;
    double at;          /* sample of the trace ... */
    uint32_t place;     /* ... that comes to stand here */
    double on, off;     /* samples that a sample of a run, or of a pause, becomes */
    float level, slope; /* watts become watts * (level + slope * watts) */
};

/* Adds one load that never was. */
void mix_invent(uint32_t period_ms, struct net_random *r, float *watts, uint32_t count);

/* A base load with small changes, in front of the loads; and behind them the meter's doing. */
void mix_base(uint32_t period_ms, struct net_random *r, float *watts, uint32_t count);
void mix_meter(uint32_t period_ms, struct net_random *r, float *watts, uint32_t count);

/* A number from low to high, equally likely in its logarithm. */
static inline float mix_between(struct net_random *r, float low, float high)
{
    return low * expf(logf(high / low) * (float)net_random_unit(r));
}

static inline int mix_happens(struct net_random *r, double share)
{
    return net_random_unit(r) < share;
}

#endif
