/* meter_window.c - ring, grid and engine stream of one meter. */
#include "agent/meter_window.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_PERIOD_MS 8000 /* while there is no model: as the shipped ones */
#define DEFAULT_WINDOW 512u
#define FULL_SHARE_SAMPLES 16.0 /* active samples that make a window count fully */

void meter_window_free_scratch(struct meter_scratch *s)
{
    free(s->engine);
    free(s->flat);
    memset(s, 0, sizeof(*s));
}

static size_t round_up(size_t size)
{
    return (size + ENGINE_ALIGN - 1) / ENGINE_ALIGN * ENGINE_ALIGN;
}

/* Nothing in it is needed between calls, so it is not copied. 0 or -ENOMEM. */
static int enlarge(struct meter_scratch *s, const struct engine *engine)
{
    const size_t bytes = round_up(engine_scratch_bytes(engine));
    const size_t count = (size_t)engine_model(engine)->window + 1;
    if (bytes > s->engine_bytes) {
        void *p = aligned_alloc(ENGINE_ALIGN, bytes);
        if (!p)
            return -ENOMEM;
        free(s->engine);
        s->engine = p;
        s->engine_bytes = bytes;
    }
    if (count > s->flat_count) {
        float *p = malloc(count * sizeof(*p));
        if (!p)
            return -ENOMEM;
        free(s->flat);
        s->flat = p;
        s->flat_count = count;
    }
    return 0;
}

int meter_window_init(struct meter_window *w, const struct engine *engine, int64_t max_gap_ms,
                      struct meter_scratch *scratch)
{
    const struct model *m = engine ? engine_model(engine) : NULL;
    memset(w, 0, sizeof(*w));
    w->engine = engine;
    w->scratch = scratch;
    w->window = m ? m->window : DEFAULT_WINDOW;
    w->min_activity_w = m ? m->min_activity_w : 0;
    resample_init(&w->grid, m ? (int64_t)m->period_ms : DEFAULT_PERIOD_MS, max_gap_ms);
    if (engine && enlarge(scratch, engine))
        return -ENOMEM;
    const size_t n = (size_t)w->window + 1;
    const size_t state = engine ? round_up(engine_state_bytes(engine)) : 0;
    w->bytes = round_up(state + n * sizeof(*w->ring) + (n + 7) / 8);
    w->state = aligned_alloc(ENGINE_ALIGN, w->bytes);
    if (!w->state)
        return -ENOMEM;
    memset(w->state, 0, w->bytes);
    w->ring = (float *)((unsigned char *)w->state + state);
    w->holes = (uint8_t *)(w->ring + n);
    if (engine)
        engine_reset(engine, w->state);
    return 0;
}

void meter_window_free(struct meter_window *w)
{
    free(w->state);
    memset(w, 0, sizeof(*w));
}

static uint32_t hole_at(const struct meter_window *w, uint32_t i)
{
    return (uint32_t)(w->holes[i / 8] >> (i % 8)) & 1u;
}

/* Whether the window in the ring may be classified. */
static int usable(const struct meter_window *w)
{
    return w->active_count > 0 && w->hole_count * 4 <= w->window;
}

/* The scratch has logits of the window in the ring: makes them a result. */
static void conclude(struct meter_window *w)
{
    double share = w->active_count < FULL_SHARE_SAMPLES ? w->active_count / FULL_SHARE_SAMPLES : 1;
    w->scratch->weight = share * share * engine_hop(w->engine);
    engine_probabilities(w->engine, w->scratch->probabilities, w->scratch->probabilities);
    w->inferences++;
}

/* The sample takes the place of the oldest one in the ring. */
static void remember(struct meter_window *w, float watts, int hole)
{
    const uint32_t i = w->at, bit = 1u << (i % 8);
    w->ring[i] = watts;
    w->holes[i / 8] = (uint8_t)(hole ? w->holes[i / 8] | bit : w->holes[i / 8] & ~bit);
    w->active_count += watts >= w->min_activity_w;
    w->hole_count += hole != 0;
    w->at = i == w->window ? 0 : i + 1;
    w->active_count -= w->ring[w->at] >= w->min_activity_w;
    w->hole_count -= hole_at(w, w->at);
}

/* Puts a sample into ring and stream. 1: a result. A window that may not be classified is not. */
static int put(struct meter_window *w, float watts, int hole)
{
    remember(w, watts, hole);
    if (!w->engine)
        return 0;
    struct meter_scratch *s = w->scratch;
    const int wanted = usable(w);
    w->due = engine_push(w->engine, w->state, s->engine, watts, wanted ? s->probabilities : NULL);
    if (!w->due || !wanted)
        return 0;
    conclude(w);
    return 1;
}

static void fill_ring(struct meter_window *w, float watts)
{
    for (uint32_t i = 0; i < w->window + 1; i++)
        w->ring[i] = watts;
    memset(w->holes, 0, ((size_t)w->window + 8) / 8);
    w->active_count = watts >= w->min_activity_w ? w->window : 0;
    w->hole_count = 0;
    w->seen = 1;
}

/* The past was like this sample: afterwards the next sample completes a window. */
static void fill(struct meter_window *w, float watts)
{
    fill_ring(w, watts);
    if (!w->engine)
        return;
    engine_reset(w->engine, w->state);
    for (uint32_t i = 0; i + 1 < w->window; i++)
        engine_push(w->engine, w->state, w->scratch->engine, watts, NULL);
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
    w->restarted = !w->seen || s.mark == RESAMPLE_RESTART;
    if (w->restarted)
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
    struct meter_scratch *s = w->scratch;
    if (!w->engine || !w->seen || !usable(w))
        return 0;
    for (uint32_t i = 0; i <= w->window; i++)
        s->flat[i] = sample(w, i + ahead < w->window ? i + ahead : w->window);
    engine_run(w->engine, s->engine, s->flat, s->probabilities);
    conclude(w);
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
        fill_ring(w, sample(from, 0));
        /* a longer window repeats the oldest sample, a shorter one takes the latest */
        for (uint32_t i = 0; i <= w->window; i++) {
            int64_t k = (int64_t)from->window - (int64_t)w->window + i;
            uint32_t j = k < 0 ? 0 : (uint32_t)k;
            put(w, sample(from, j), (int)hole_at(from, (from->at + j) % (from->window + 1)));
        }
    }
    w->samples = 0;
    w->inferences = 0;
}
