/* meter_window.c - ring, grid and engine stream of one meter. */
#include "agent/meter_window.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_PERIOD_MS 8000 /* while there is no model: as the shipped ones */
#define DEFAULT_WINDOW 512u
#define FULL_SHARE_SAMPLES 16.0 /* active samples that make a window count fully */

static void *take_aligned(struct meter_window *w, size_t size)
{
    size_t rounded = (size + ENGINE_ALIGN - 1) / ENGINE_ALIGN * ENGINE_ALIGN;
    w->bytes += rounded;
    return aligned_alloc(ENGINE_ALIGN, rounded ? rounded : ENGINE_ALIGN);
}

static void *take(struct meter_window *w, size_t count, size_t size)
{
    w->bytes += count * size;
    return calloc(count, size);
}

int meter_window_init(struct meter_window *w, const struct engine *engine, int64_t max_gap_ms)
{
    const struct model *m = engine ? engine_model(engine) : NULL;
    memset(w, 0, sizeof(*w));
    w->engine = engine;
    w->window = m ? m->window : DEFAULT_WINDOW;
    resample_init(&w->grid, m ? (int64_t)m->period_ms : DEFAULT_PERIOD_MS, max_gap_ms);
    size_t n = (size_t)w->window + 1;
    w->ring = take(w, n, sizeof(*w->ring));
    w->holes = take(w, n, sizeof(*w->holes));
    if (engine) {
        w->flat = take(w, n, sizeof(*w->flat));
        w->probabilities = take(w, m->class_count, sizeof(*w->probabilities));
        w->state = take_aligned(w, engine_state_bytes(engine));
        w->scratch = take_aligned(w, engine_scratch_bytes(engine));
    }
    if (!w->ring || !w->holes ||
        (engine && (!w->flat || !w->probabilities || !w->state || !w->scratch))) {
        meter_window_free(w);
        return -ENOMEM;
    }
    if (engine)
        engine_reset(engine, w->state);
    return 0;
}

void meter_window_free(struct meter_window *w)
{
    free(w->ring);
    free(w->holes);
    free(w->flat);
    free(w->probabilities);
    free(w->state);
    free(w->scratch);
    memset(w, 0, sizeof(*w));
}

/* Whether the window in the ring may be classified; sets its weight. The oldest sample is only a
 * predecessor. */
static int usable(struct meter_window *w)
{
    const struct model *m = engine_model(w->engine);
    uint32_t n = w->window + 1, active = 0, holes = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (i == w->at)
            continue;
        active += w->ring[i] >= m->min_activity_w;
        holes += w->holes[i];
    }
    double share = active < FULL_SHARE_SAMPLES ? active / FULL_SHARE_SAMPLES : 1;
    w->weight = share * share * engine_hop(w->engine);
    return active > 0 && holes * 4 <= w->window;
}

/* Puts a sample into ring and stream. 1: a result. */
static int put(struct meter_window *w, float watts, int hole)
{
    w->ring[w->at] = watts;
    w->holes[w->at] = (uint8_t)hole;
    w->at = (w->at + 1) % (w->window + 1);
    if (!w->engine || !engine_push(w->engine, w->state, w->scratch, watts, w->probabilities))
        return 0;
    w->inferences++;
    if (!usable(w))
        return 0;
    engine_probabilities(w->engine, w->probabilities, w->probabilities);
    return 1;
}

/* The past was like this sample: afterwards the next sample completes a window. */
static void fill(struct meter_window *w, float watts)
{
    if (w->engine)
        engine_reset(w->engine, w->state);
    for (uint32_t i = 0; i < w->window + 1; i++) {
        w->ring[i] = watts;
        w->holes[i] = 0;
    }
    for (uint32_t i = 0; w->engine && i + 1 < w->window; i++)
        engine_push(w->engine, w->state, w->scratch, watts, w->probabilities);
    w->seen = 1;
}

int meter_window_push(struct meter_window *w, int64_t t_ms, float watts)
{
    return resample_push(&w->grid, t_ms, watts);
}

int meter_window_next(struct meter_window *w)
{
    struct resample_sample s;
    if (!resample_next(&w->grid, &s))
        return -1;
    w->samples++;
    if (!w->seen || s.mark == RESAMPLE_RESTART)
        fill(w, s.watts);
    return put(w, s.watts, s.mark == RESAMPLE_GAP);
}

void meter_window_restart(struct meter_window *w)
{
    resample_init(&w->grid, w->grid.period_ms, w->grid.max_gap_ms);
}

/* The sample that is i-th from the oldest. */
static float sample(const struct meter_window *w, uint32_t i)
{
    return w->ring[(w->at + i) % (w->window + 1)];
}

int meter_window_look(struct meter_window *w, uint32_t ahead)
{
    if (!w->engine || !w->seen || !usable(w))
        return 0;
    for (uint32_t i = 0; i <= w->window; i++)
        w->flat[i] = sample(w, i + ahead < w->window ? i + ahead : w->window);
    engine_run(w->engine, w->scratch, w->flat, w->probabilities);
    engine_probabilities(w->engine, w->probabilities, w->probabilities);
    w->inferences++;
    return 1;
}

/* Another grid: old samples are readings on it, at the times that they had. */
static void prime_grid(struct meter_window *w, const struct meter_window *from)
{
    int64_t period = from->grid.period_ms,
            first = (from->grid.cell - (int64_t)from->window - 1) * period;
    for (uint32_t i = 0; i <= from->window; i++) {
        meter_window_push(w, first + (int64_t)i * period, sample(from, i));
        while (meter_window_next(w) >= 0)
            ;
    }
    meter_window_push(w, from->grid.last_ms, from->grid.last_watts);
    while (meter_window_next(w) >= 0)
        ;
}

void meter_window_prime(struct meter_window *w, const struct meter_window *from)
{
    if (!from->seen) {
        if (from->grid.started && from->grid.period_ms == w->grid.period_ms)
            w->grid = from->grid;
        return;
    }
    if (w->grid.period_ms != from->grid.period_ms) {
        prime_grid(w, from);
    } else {
        w->grid = from->grid;
        fill(w, sample(from, 0));
        if (w->engine)
            engine_reset(w->engine, w->state);
        /* a longer window repeats the oldest sample, a shorter one takes the latest */
        for (uint32_t i = 0; i <= w->window; i++) {
            int64_t k = (int64_t)from->window - (int64_t)w->window + i;
            uint32_t j = k < 0 ? 0 : (uint32_t)k;
            put(w, sample(from, j), from->holes[(from->at + j) % (from->window + 1)]);
        }
    }
    w->samples = 0;
    w->inferences = 0;
}
