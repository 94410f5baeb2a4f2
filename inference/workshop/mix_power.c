/* mix_power.c - what no trace holds: base loads, loads that never were, and what a meter does. */
#include <math.h>
#include <string.h>

#include "inference/workshop/mix_private.h"

static uint32_t samples(uint32_t period_ms, float seconds)
{
    float n = seconds * 1000.0f / (float)period_ms;

    return n < 1.0f ? 1u : (uint32_t)n;
}

static void add(float *watts, uint32_t count, int64_t from, uint32_t length, float w)
{
    int64_t end = from + length < (int64_t)count ? from + length : (int64_t)count;

    for (int64_t t = from < 0 ? 0 : from; t < end; t++)
        watts[t] += w;
}

void mix_base(uint32_t period_ms, struct net_random *r, float *watts, uint32_t count)
{
    const float level = mix_between(r, 15.0f, 600.0f), drift = 0.15f * (float)net_random_unit(r);
    const float turn = 6.2831853f * (float)period_ms / (1000.0f * mix_between(r, 1800, 40000));
    const float phase = 6.2831853f * (float)net_random_unit(r);

    for (uint32_t t = 0; t < count; t += 16) { /* slow: a step of 16 samples is none */
        float w = level * (1.0f + drift * sinf(phase + turn * (float)t));
        add(watts, count, t, 16, w);
    }
    for (uint32_t n = net_random_below(r, 4); n > 0; n--) { /* lamps, chargers, a router's fan */
        const float w = mix_between(r, 4.0f, 150.0f);
        const uint32_t on = samples(period_ms, mix_between(r, 30, 7200));
        const uint32_t off = samples(period_ms, mix_between(r, 30, 14400));
        for (int64_t t = -(int64_t)net_random_below(r, on + off); t < (int64_t)count;) {
            uint32_t length = 1 + net_random_below(r, 2 * on);
            add(watts, count, t, length, w);
            t += length + 1 + net_random_below(r, 2 * off);
        }
    }
}

/* --- loads that never were --- */

/* A thermostat, or one pulse: showers, hobs, irons, radiators, blankets. */
static void heater(uint32_t period_ms, struct net_random *r, float *watts, uint32_t count)
{
    const float w = mix_happens(r, 0.85) ? mix_between(r, 200, 3500) : mix_between(r, 3500, 9500);
    const uint32_t whole = samples(period_ms, mix_between(r, 15, 7200));
    const uint32_t cycle = samples(period_ms, mix_between(r, 16, 1200));
    const float duty = 0.1f + 0.9f * (float)net_random_unit(r);
    const int once = mix_happens(r, 0.35);
    const int64_t from = (int64_t)net_random_below(r, count + whole) - whole;

    if (once) {
        add(watts, count, from, whole, w);
        return;
    }
    for (int64_t t = from; t < from + whole;) {
        uint32_t length =
            (uint32_t)((float)cycle * duty * (0.8f + 0.4f * (float)net_random_unit(r)));
        int64_t left = from + whole - t;
        length = length < 1 ? 1 : length > left ? (uint32_t)left : length;
        add(watts, count, t, length, w);
        t += length + 1 + (uint32_t)((float)cycle * (1.0f - duty));
    }
}

/* Starts with a rush, settles, drifts: pumps, vacuum cleaners, tools, compressors of another kind.
 */
static void motor(uint32_t period_ms, struct net_random *r, float *watts, uint32_t count)
{
    const float w = mix_between(r, 180, 2000), rush = (float)net_random_unit(r);
    const float settle = mix_between(r, 0.5f, 20),
                slope = 0.3f * ((float)net_random_unit(r) - 0.5f);
    const uint32_t length = samples(period_ms, mix_between(r, 10, 3600));
    const uint32_t pause = samples(period_ms, mix_between(r, 10, 5400));
    const uint32_t times = mix_happens(r, 0.6) ? 1 : 1 + net_random_below(r, 8);
    int64_t from = (int64_t)net_random_below(r, count + length) - length;

    for (uint32_t n = 0; n < times && from < (int64_t)count; n++, from += length + pause) {
        int64_t end = from + length < (int64_t)count ? from + length : (int64_t)count;
        for (int64_t t = from < 0 ? 0 : from; t < end; t++) {
            float age = (float)(t - from);
            float early = age < 12.0f * settle ? rush * expf(-age / settle) : 0.0f;
            watts[t] += w * (1.0f + early + slope * age / (float)length);
        }
    }
}

/* Steps between a few levels: what a machine with a program does. */
static void program(uint32_t period_ms, struct net_random *r, float *watts, uint32_t count)
{
    float levels[5];
    const uint32_t kinds = 2 + net_random_below(r, 4), steps = 2 + net_random_below(r, 30);
    const uint32_t longest = samples(period_ms, mix_between(r, 16, 900));
    int64_t at = (int64_t)net_random_below(r, 2 * count) - count;

    for (uint32_t i = 0; i < kinds; i++)
        levels[i] = i == 0 ? 0.0f : mix_between(r, 20, 2500);
    for (uint32_t i = 0; i < steps && at < (int64_t)count; i++) {
        uint32_t length = 1 + net_random_below(r, longest);
        add(watts, count, at, length, levels[net_random_below(r, kinds)]);
        at += length;
    }
}

void mix_invent(uint32_t period_ms, struct net_random *r, float *watts, uint32_t count)
{
    switch (net_random_below(r, 4)) {
    case 0:
    case 1:
        heater(period_ms, r, watts, count);
        break;
    case 2:
        motor(period_ms, r, watts, count);
        break;
    default:
        program(period_ms, r, watts, count);
    }
}

/* --- the meter --- */

/* Readings further apart than the grid: each holds for more than one sample now and then. */
static void slow_readings(uint32_t period_ms, struct net_random *r, float *watts, uint32_t count)
{
    const float ratio = (1000.0f + 9000.0f * (float)net_random_unit(r)) / (float)period_ms;
    const float phase = (float)net_random_unit(r);

    if (ratio <= 1.0f)
        return;
    for (uint32_t t = count; t-- > 0;) { /* backwards: what is read is not yet written */
        float reading = floorf((float)t / ratio + phase);
        int64_t from = (int64_t)ceilf((reading - phase) * ratio);
        watts[t] = watts[from < 0 ? 0 : from > (int64_t)t ? t : (uint32_t)from];
    }
}

static void lose_readings(uint32_t period_ms, struct net_random *r, float *watts, uint32_t count)
{
    for (uint32_t n = 1 + net_random_below(r, 4); n > 0; n--) {
        uint32_t from = net_random_below(r, count);
        uint32_t end = from + samples(period_ms, mix_between(r, 8, 300));
        for (uint32_t t = from + 1; t < end && t < count; t++)
            watts[t] = watts[from];
    }
}

void mix_meter(uint32_t period_ms, struct net_random *r, float *watts, uint32_t count)
{
    static const float steps[] = {0, 1, 1, 1, 2, 5, 10};
    const float step = steps[net_random_below(r, 7)];
    const float noise = mix_between(r, 0.1f, 4.0f), relative = mix_between(r, 2e-4f, 8e-3f);
    const float gain = mix_between(r, 0.94f, 1.06f); /* the mains' voltage, and the meter's error */

    if (mix_happens(r, 0.3)) { /* a meter that takes the mean of its period, out of step */
        const float share = (float)net_random_unit(r);
        for (uint32_t t = count; t-- > 1;)
            watts[t] = share * watts[t] + (1.0f - share) * watts[t - 1];
    }
    for (uint32_t t = 0; t < count; t++) {
        /* the sum of two uniform numbers is normal enough for noise; deviation 1 */
        uint64_t u = net_random_next(r);
        float a = (float)(u >> 32) * 0x1p-32f + (float)(u & 0xffffffffu) * 0x1p-32f;
        float w = gain * watts[t] + 2.4494897f * (a - 1.0f) * (noise + relative * watts[t]);
        watts[t] = w > 0.0f ? w : 0.0f;
    }
    if (mix_happens(r, 0.3))
        slow_readings(period_ms, r, watts, count);
    if (mix_happens(r, 0.15))
        lose_readings(period_ms, r, watts, count);
    for (uint32_t t = 0; t < count && step > 0.0f; t++)
        watts[t] = step * floorf(watts[t] / step + 0.5f);
}
