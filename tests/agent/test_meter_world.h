/* test_meter_world.h - what a meter needs around it in tests: a sink that remembers as the store
 * does, and a model small enough to reason about. */
#ifndef TESTS_AGENT_TEST_METER_WORLD_H
#define TESTS_AGENT_TEST_METER_WORLD_H

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/meter.h"

#define WORLD_EVENTS 4096
#define WORLD_ROUTINES 16

struct world_item { /* an event or an alert, as a line of text: equal lines are equal items */
    char text[256];
};

struct world {
    struct world_item *items;
    struct event *events;
    int item_count, event_count, alert_count, outcomes;
    int64_t progress_ms;
    struct history_run open;
    int is_open;
    unsigned char state[OUTCOME_STATE_BYTES];
    int state_bytes;
    struct routine routines[WORLD_ROUTINES];
    int routine_count;
    struct meter_shared *shared;
    int stop_after; /* outcomes; 0: never. Later ones are not stored: the process is dead */
};

static inline void world_init(struct world *w)
{
    memset(w, 0, sizeof(*w));
    w->items = calloc(WORLD_EVENTS, sizeof(*w->items));
    w->events = calloc(WORLD_EVENTS, sizeof(*w->events));
    if (!w->items || !w->events || meter_shared_create(&w->shared))
        abort();
}

static inline void world_free(struct world *w)
{
    meter_shared_destroy(w->shared);
    free(w->items);
    free(w->events);
}

static inline void world_event(struct world *w, const struct event *e)
{
    snprintf(w->items[w->item_count++].text, sizeof(w->items[0].text),
             "%d %s %.17g at %lld start %lld end %lld %.17g W %.17g Wh %.17g W %s", (int)e->type,
             e->appliance, e->confidence, (long long)e->time_ms, (long long)e->start_ms,
             (long long)e->end_ms, e->power_w, e->energy_wh, e->peak_w, e->end_reason);
    w->events[w->event_count++] = *e;
    if (e->type == EVENT_ON) {
        memset(&w->open, 0, sizeof(w->open));
        w->open.start_ms = e->start_ms;
    }
    w->is_open = e->type != EVENT_OFF;
    snprintf(w->open.appliance, sizeof(w->open.appliance), "%s", e->appliance);
    w->open.confidence = e->confidence;
    w->open.energy_wh = e->energy_wh;
    w->open.peak_w = e->peak_w;
}

static inline int world_commit(void *context, const struct outcome *o)
{
    struct world *w = context;
    if (w->stop_after && w->outcomes == w->stop_after)
        return -EIO;
    w->outcomes++;
    if (o->event_count < 0 || o->event_count > OUTCOME_EVENTS || o->alert_count < 0 ||
        o->alert_count > OUTCOME_ALERTS || o->state_bytes > OUTCOME_STATE_BYTES ||
        w->item_count + 8 > WORLD_EVENTS)
        abort();
    for (int i = 0; i < o->event_count; i++)
        world_event(w, &o->events[i]);
    for (int i = 0; i < o->alert_count; i++) {
        const struct alert *a = &o->alerts[i];
        snprintf(w->items[w->item_count++].text, sizeof(w->items[0].text),
                 "%s %s %s %s at %lld since %lld: %s, %s", a->alert,
                 a->cleared ? "cleared" : "raised", a->alert_id, a->appliance,
                 (long long)a->time_ms, (long long)a->since_ms, a->expected, a->seen);
        w->alert_count++;
    }
    if (o->progress_ms)
        w->progress_ms = o->progress_ms;
    if (o->state) {
        memcpy(w->state, o->state, (size_t)o->state_bytes);
        w->state_bytes = o->state_bytes;
    }
    if (o->has_routine) {
        int i = 0;
        for (int k = 0; k < w->routine_count; k++) /* no test renames another one than its last */
            w->routine_count -=
                k == w->routine_count - 1 && !strcmp(w->routines[k].appliance, o->routine_was);
        while (i < w->routine_count && strcmp(w->routines[i].appliance, o->routine.appliance))
            i++;
        if (i == w->routine_count)
            w->routine_count++;
        w->routines[i] = o->routine;
    }
    return 0;
}

static inline int world_routine(void *context, const char *meter, const char *appliance,
                                struct routine *out)
{
    struct world *w = context;
    (void)meter;
    for (int i = 0; i < w->routine_count; i++) {
        if (!strcmp(w->routines[i].appliance, appliance)) {
            *out = w->routines[i];
            return 0;
        }
    }
    return -ENOENT;
}

static inline int world_has(const struct world *w, const char *part)
{
    int n = 0;
    for (int i = 0; i < w->item_count; i++)
        n += strstr(w->items[i].text, part) != NULL;
    return n;
}

static inline struct meter_config world_config(void)
{
    return (struct meter_config){.name = "m",
                                 .on_w = 15,
                                 .off_w = 10,
                                 .min_on_ms = 2000,
                                 .min_off_ms = 30000,
                                 .silence_ms = 600000,
                                 .max_gap_ms = 60000,
                                 .quality = EVENT_TRACE};
}

static inline struct meter *world_meter(struct world *w, const struct meter_config *c,
                                        const struct engine *e)
{
    struct outcome_sink sink = {w, world_commit};
    struct meter_memory memory = {w, world_routine};
    struct meter *m = NULL;
    if (meter_create(c, e, &sink, &memory, w->shared, &m))
        abort();
    return m;
}

/* A model that names by the largest power in the window: Lamp below 120 W, Refrigerator up to 600
 * W, WaterKettle above (about; on a logarithmic scale), surer with the distance. Two pools make the
 * maximum, one dense layer three straight lines. */
struct world_model {
    struct model m;
    struct engine *engine;
    float thresholds[MODEL_LEVELS];
    int8_t weights[3];
    int32_t bias[3];
    float weight_scale[3], logit_scale[3];
    char labels[3][MODEL_LABEL_BYTES];
};

static inline void world_layer(struct model *m, int i, struct model_layer l)
{
    l.in_scale = 0.01f;
    l.in_zero = -128;
    l.out_scale = i == 3 ? 0 : 0.01f;
    l.out_zero = i == 3 ? 0 : -128;
    m->layers[i] = l;
}

/* swap: the labels of Lamp and WaterKettle change places, so that another model says other things.
 */
static inline struct world_model *world_model_create(uint32_t period_ms, uint32_t version, int swap)
{
    struct world_model *w = calloc(1, sizeof(*w));
    static const char *names[] = {"Lamp", "Refrigerator", "WaterKettle"};
    static const int slope[] = {-100, 0, 100}, edge[] = {151, 0, 204};
    if (!w)
        abort();
    for (unsigned k = 0; k < MODEL_LEVELS; k++)
        w->thresholds[k] = (float)expm1((k + 0.5) / 255 * log1p(3000));
    for (int c = 0; c < 3; c++) {
        snprintf(w->labels[c], MODEL_LABEL_BYTES, "%s", names[swap ? 2 - c : c]);
        w->weights[c] = (int8_t)slope[c];
        w->bias[c] = -slope[c] * edge[c];
        w->weight_scale[c] = 0.2f;
        w->logit_scale[c] = 0.01f * 0.2f;
    }
    struct model *m = &w->m;
    *m = (struct model){.dtype = MODEL_INT8,
                        .head = MODEL_SOFTMAX,
                        .version = version,
                        .family = "identify",
                        .window = 64,
                        .period_ms = period_ms,
                        .hop = 8,
                        .reject = 0.5f,
                        .min_activity_w = 12,
                        .channel_count = 1,
                        .layer_count = 4,
                        .class_count = 3,
                        .labels = (const char(*)[MODEL_LABEL_BYTES])w->labels,
                        .meta = ""};
    m->channels[0] = (struct model_channel){MODEL_LOG, 3000, w->thresholds};
    world_layer(m, 0,
                (struct model_layer){.op = MODEL_MAXPOOL1D,
                                     .pool = 16,
                                     .in_channels = 1,
                                     .out_channels = 1,
                                     .in_columns = 64,
                                     .out_columns = 4});
    world_layer(m, 1,
                (struct model_layer){.op = MODEL_MAXPOOL1D,
                                     .pool = 4,
                                     .in_channels = 1,
                                     .out_channels = 1,
                                     .in_columns = 4,
                                     .out_columns = 1});
    world_layer(m, 2,
                (struct model_layer){.op = MODEL_FLATTEN,
                                     .in_channels = 1,
                                     .out_channels = 1,
                                     .in_columns = 1,
                                     .out_columns = 1});
    world_layer(m, 3,
                (struct model_layer){.op = MODEL_DENSE,
                                     .in_channels = 1,
                                     .out_channels = 3,
                                     .in_columns = 1,
                                     .out_columns = 1,
                                     .name = "dense",
                                     .weights = w->weights,
                                     .bias = w->bias,
                                     .weight_scale = w->weight_scale,
                                     .logit_scale = w->logit_scale});
    char why[256] = "";
    if (engine_create(m, 0, &w->engine, why, sizeof(why))) {
        fprintf(stderr, "engine: %s\n", why);
        abort();
    }
    return w;
}

static inline void world_model_free(struct world_model *w)
{
    engine_free(w->engine);
    free(w);
}

#endif
