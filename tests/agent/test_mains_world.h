/* test_mains_world.h - a household behind one meter, and a model of a sum to see it with. */
#ifndef TESTS_AGENT_TEST_MAINS_WORLD_H
#define TESTS_AGENT_TEST_MAINS_WORLD_H

#include "agent/mains.h"
#include "agent/test_meter_world.h"

#define T0 1700000000000LL
#define PERIOD 8000
#define WINDOW 128
#define LAG 32
#define CLASSES 3
#define BASE 25.0

/* A model of a sum that looks at one sample, `lag` before the last: each class is on from a power
 * of its own. With it the edges have to say what was when. */
struct sum_model {
    struct model m;
    struct engine *engine;
    float thresholds[MODEL_LEVELS];
    int8_t weights[CLASSES * WINDOW];
    int32_t bias[CLASSES];
    float weight_scale[CLASSES], logit_scale[CLASSES];
    char labels[CLASSES][MODEL_LABEL_BYTES];
};

static inline void sum_layer(struct model *m, int i, struct model_layer l)
{
    l.in_scale = 0.01f;
    l.in_zero = -128;
    l.out_scale = i ? 0 : 0.01f;
    l.out_zero = i ? 0 : -128;
    m->layers[i] = l;
}

static inline struct sum_model *sum_model_create(uint32_t version)
{
    static const char *names[CLASSES] = {"Refrigerator", "WaterKettle", "Dishwasher"};
    static const double from_w[CLASSES] = {60, 1600, 1e4};
    struct sum_model *s = calloc(1, sizeof(*s));
    char why[256] = "";
    if (!s)
        abort();
    for (unsigned k = 0; k < MODEL_LEVELS; k++)
        s->thresholds[k] = (float)expm1((k + 0.5) / 255 * log1p(10000));
    for (int c = 0; c < CLASSES; c++) {
        snprintf(s->labels[c], MODEL_LABEL_BYTES, "%s", names[c]);
        s->weights[c * WINDOW + WINDOW - 1 - LAG] = 100;
        s->bias[c] = -100 * (int32_t)lrint(255 * log1p(from_w[c]) / log1p(10000));
        s->weight_scale[c] = 0.6f;
        s->logit_scale[c] = 0.006f;
    }
    s->m = (struct model){.dtype = MODEL_INT8,
                          .head = MODEL_SIGMOID,
                          .version = version,
                          .family = "mains",
                          .window = WINDOW,
                          .period_ms = PERIOD,
                          .hop = 2,
                          .channel_count = 1,
                          .layer_count = 2,
                          .class_count = CLASSES,
                          .labels = (const char(*)[MODEL_LABEL_BYTES])s->labels,
                          .meta = ""};
    s->m.channels[0] = (struct model_channel){MODEL_LOG, 10000, s->thresholds};
    sum_layer(&s->m, 0,
              (struct model_layer){.op = MODEL_FLATTEN,
                                   .in_channels = 1,
                                   .out_channels = WINDOW,
                                   .in_columns = WINDOW,
                                   .out_columns = 1});
    sum_layer(&s->m, 1,
              (struct model_layer){.op = MODEL_DENSE,
                                   .in_channels = WINDOW,
                                   .out_channels = CLASSES,
                                   .in_columns = 1,
                                   .out_columns = 1,
                                   .name = "dense",
                                   .weights = s->weights,
                                   .bias = s->bias,
                                   .weight_scale = s->weight_scale,
                                   .logit_scale = s->logit_scale});
    if (engine_create(&s->m, 0, &s->engine, why, sizeof(why))) {
        fprintf(stderr, "engine: %s\n", why);
        abort();
    }
    return s;
}

static inline void sum_model_free(struct sum_model *s)
{
    engine_free(s->engine);
    free(s);
}

/* ---- a household ---- */

struct span { /* watts from second a to b */
    int from_s, to_s;
    double watts;
};

struct house {
    const struct span *spans;
    int count, length_s, step_s;
};

static inline double house_watts(const struct house *h, int s)
{
    double w = BASE + (s * 7919 % 13) * 0.1;
    for (int i = 0; i < h->count; i++)
        w += s >= h->spans[i].from_s && s < h->spans[i].to_s ? h->spans[i].watts : 0;
    return w;
}

static const struct span day[] = {
    {3000, 4800, 85},     {4000, 4160, 2200}, /* a kettle while the refrigerator runs */
    {9000, 10800, 85},    {11904, 13704, 85},
    {12000, 12200, 2150}, {12216, 12304, 2150}, /* one run: a short pause */
    {13000, 13120, 2200}, {13400, 13520, 2200}, /* two runs */
    {15000, 16800, 85},
};
static const struct house household = {day, sizeof(day) / sizeof(day[0]), 20000, 8};

static inline struct meter_config mains_config(void)
{
    struct meter_config c = world_config();
    c.mains = 1;
    return c;
}

static inline void feed(struct meter *m, const struct house *h, int from_s, int to_s)
{
    for (int s = from_s; s < to_s; s += h->step_s)
        meter_reading(m, T0 + s * 1000LL, (float)house_watts(h, s));
}

static const struct event *find(const struct world *w, enum event_type type, const char *name,
                                int nth)
{
    for (int i = 0; i < w->event_count; i++)
        if (w->events[i].type == type && !strcmp(w->events[i].appliance, name) && nth-- == 0)
            return &w->events[i];
    return NULL;
}

static inline void check_run(const struct world *w, const char *name, int nth, int from_s, int to_s,
                             double wh)
{
    const struct event *on = find(w, EVENT_ON, name, nth), *off = find(w, EVENT_OFF, name, nth);
    assert_non_null(on);
    assert_non_null(off);
    assert_int_equal(on->time_ms, T0 + from_s * 1000LL);
    assert_int_equal(off->start_ms, on->start_ms);
    assert_int_equal(off->end_ms, T0 + to_s * 1000LL);
    assert_string_equal(off->end_reason, "off");
    assert_int_equal(off->model, 3);
    if (fabs(off->energy_wh - wh) > 0.06 * wh + 2)
        fail_msg("%s %d: %.2f Wh, expected %.2f", name, nth, off->energy_wh, wh);
}

static inline void copy_history(const struct world *w, struct history_run *open, int *count)
{
    *count = 0;
    for (int i = 0; i < w->event_count; i++) {
        const struct event *e = &w->events[i];
        if (e->type == EVENT_ON) {
            struct history_run *r = &open[(*count)++];
            memset(r, 0, sizeof(*r));
            snprintf(r->appliance, sizeof(r->appliance), "%s", e->appliance);
            r->start_ms = e->start_ms;
            r->peak_w = e->peak_w;
        } else if (e->type == EVENT_OFF) {
            for (int k = 0; k < *count; k++)
                if (open[k].start_ms == e->start_ms)
                    open[k] = open[--*count];
        }
    }
}

/* Parts, base load and unknown are the sum. */
static inline const struct books *check_books(struct meter *m)
{
    const struct books *b = mains_books(meter_mains(m));
    double parts = b->base_wh + b->unknown_wh + b->open_wh;
    for (int i = 0; i < BOOKS_PARTS; i++)
        parts += b->part_wh[i];
    assert_true(fabs(parts - b->total_wh) < 1e-6 * b->total_wh);
    return b;
}

/* The end of a test of one meter on one model. */
static inline void end_world(struct meter *m, struct world *w, struct sum_model *model)
{
    meter_destroy(m);
    world_free(w);
    sum_model_free(model);
}

#endif
