/* mains_gentle.c - starts and ends of what the network sees slowly. */
#include "agent/mains_gentle.h"

#include <math.h>
#include <string.h>

#define NOT_KNOWN 255
#define LEAST_P 0.004f /* of what the network says */
#define LEAST_W 15.0f
#define MOST_W 450.0f
#define NEAR_MS 32000 /* so near to a step the network is between two minds */
#define FEW_MS 320000
#define MANY_MS 928000
#define SETTLED_MS 16000
#define SHORT_MS 296000
#define LONG_MS 896000
#define UP_SHARE 0.6f /* of its step that the sum stays up */
#define DOWN_SHARE 0.4f
#define LEVEL_LEAST 0.45f /* of the step up that its step down is */
#define LEVEL_MOST 2.2f
#define GONE_MS 900000
#define GONE_ODDS (-2.0f)
#define NOTHING (-4.0f) /* log-odds where nothing is known */

/* The regressions: sums are of log-odds. */
#define UP_ONE (-8.84f)
#define UP_BEHIND 3.20f
#define UP_BEFORE (-3.19f)
#define UP_LONG_BEFORE 0.47f
#define UP_LOW_SHORT (-2.23f)
#define UP_LOW_LONG 0.61f
#define UP_SIZE 1.07f
#define UP_OTHER_BEHIND (-0.27f)
#define UP_OTHER_BEFORE 0.47f
#define UP_EVEN (-1.25f)
#define DOWN_ONE (-5.19f)
#define DOWN_BEHIND (-2.04f)
#define DOWN_BEFORE 2.71f
#define DOWN_LONG_BEFORE (-0.12f)
#define DOWN_HIGH_SHORT (-1.50f)
#define DOWN_HIGH_LONG (-1.24f)
#define DOWN_SIZE 0.42f
#define DOWN_EVEN (-2.5f) /* one of its size is known to be on */

void mains_gentle_init(struct mains_gentle *g)
{
    g->cell = 0;
    memset(g->p, NOT_KNOWN, sizeof(g->p));
    memset(g->other, NOT_KNOWN, sizeof(g->other));
}

static uint8_t scaled(float p)
{
    return (uint8_t)lrintf(254 * fminf(fmaxf(p, 0), 1));
}

void mains_gentle_hear(struct mains_gentle *g, int64_t t_ms, float p, float other)
{
    const int64_t cell = t_ms / MAINS_GENTLE_MS;
    if (cell < g->cell || cell - g->cell >= MAINS_GENTLE_CELLS)
        mains_gentle_init(g);
    else
        for (int64_t i = g->cell + 1; i < cell; i++)
            g->p[i % MAINS_GENTLE_CELLS] = g->other[i % MAINS_GENTLE_CELLS] = NOT_KNOWN;
    g->cell = cell;
    g->p[cell % MAINS_GENTLE_CELLS] = scaled(p);
    g->other[cell % MAINS_GENTLE_CELLS] = scaled(other);
}

/* Mean of log-odds from one time to another. */
static float listen(const struct mains_gentle *g, const uint8_t *said, int64_t from_ms,
                    int64_t to_ms)
{
    int64_t first = (from_ms + MAINS_GENTLE_MS - 1) / MAINS_GENTLE_MS;
    const int64_t last = (to_ms - 1) / MAINS_GENTLE_MS;
    float sum = 0;
    int n = 0;
    if (first <= g->cell - MAINS_GENTLE_CELLS)
        first = g->cell - MAINS_GENTLE_CELLS + 1;
    for (int64_t i = first > 0 ? first : 0; i <= last && i <= g->cell; i++) {
        const uint8_t p = said[i % MAINS_GENTLE_CELLS];
        if (p == NOT_KNOWN)
            continue;
        sum += mains_decode_odds((float)p / 254, LEAST_P);
        n++;
    }
    return n ? sum / (float)n : NOTHING;
}

/* Share of the time behind a step that the sum is below (or above) a power. */
static float share(const struct mains_sum *sum, int64_t t_ms, int64_t span_ms, float limit_w,
                   int below)
{
    int in = 0, n = 0;
    for (int64_t t = t_ms + SETTLED_MS; t < t_ms + SETTLED_MS + span_ms; t += sum->period_ms) {
        const float watts = sum->watts(sum->context, t);
        if (watts < 0)
            continue;
        in += below ? watts < limit_w : watts > limit_w;
        n++;
    }
    return n ? (float)in / (float)n : 1;
}

float mains_gentle_begins(const struct mains_gentle *g, const struct mains_ring *edges, int i,
                          const struct mains_sum *sum)
{
    const struct mains_edge *e = &edges->edges[i];
    const int64_t t = mains_ring_time(edges, i);
    int pair;
    float step = mains_ring_step(edges, i, &pair);
    step = step >= LEAST_W ? step : e->step_w;
    if (step < LEAST_W || step > MOST_W)
        return -1;
    const float limit = e->before_w + UP_SHARE * step;
    return UP_ONE - UP_EVEN + UP_BEHIND * listen(g, g->p, t + NEAR_MS, t + FEW_MS - NEAR_MS) +
           UP_BEFORE * listen(g, g->p, t - FEW_MS, t - NEAR_MS) +
           UP_LONG_BEFORE * listen(g, g->p, t - MANY_MS, t - FEW_MS) +
           UP_LOW_SHORT * share(sum, t, SHORT_MS, limit, 1) +
           UP_LOW_LONG * share(sum, t, LONG_MS, limit, 1) + UP_SIZE * logf(step) +
           UP_OTHER_BEHIND * listen(g, g->other, t, t + FEW_MS - NEAR_MS) +
           UP_OTHER_BEFORE * listen(g, g->other, t - FEW_MS + NEAR_MS, t);
}

float mains_gentle_ends(const struct mains_gentle *g, const struct mains_ring *edges, int i,
                        float level_w, const struct mains_sum *sum)
{
    const struct mains_edge *e = &edges->edges[i];
    const int64_t t = mains_ring_time(edges, i);
    const float step = -e->step_w;
    if (step < LEAST_W || step > MOST_W || step < LEVEL_LEAST * level_w ||
        step > LEVEL_MOST * level_w)
        return -1;
    const float limit = e->before_w - step + DOWN_SHARE * step;
    return DOWN_ONE - DOWN_EVEN + DOWN_BEHIND * listen(g, g->p, t + NEAR_MS, t + FEW_MS - NEAR_MS) +
           DOWN_BEFORE * listen(g, g->p, t - FEW_MS, t - NEAR_MS) +
           DOWN_LONG_BEFORE * listen(g, g->p, t - MANY_MS, t - FEW_MS) +
           DOWN_HIGH_SHORT * share(sum, t, SHORT_MS, limit, 0) +
           DOWN_HIGH_LONG * share(sum, t, LONG_MS, limit, 0) + DOWN_SIZE * logf(step);
}

int mains_gentle_gone(const struct mains_gentle *g, int64_t start_ms, int64_t now_ms)
{
    if (now_ms - start_ms < GONE_MS)
        return 0;
    const float odds = listen(g, g->p, now_ms - GONE_MS, now_ms);
    return odds > NOTHING && odds < GONE_ODDS;
}
