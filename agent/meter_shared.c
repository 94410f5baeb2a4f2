/* meter_shared.c - outcomes of both kinds of meters (meter_shared.h). */
#include "agent/meter_shared.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int meter_shared_create(struct meter_shared **out)
{
    *out = calloc(1, sizeof(**out));
    return *out ? 0 : -ENOMEM;
}

void meter_shared_destroy(struct meter_shared *s)
{
    if (!s)
        return;
    meter_window_free_scratch(&s->scratch);
    free(s);
}

void meter_shared_begin(struct meter_shared *s, const char *meter, int several)
{
    struct outcome *o = &s->outcome;
    o->meter = meter;
    o->several = several;
    o->progress_ms = 0;
    o->event_count = o->alert_count = o->has_routine = o->hour_count = 0;
    o->state = NULL;
    o->state_bytes = 0;
}

void meter_shared_stamp(struct meter_shared *s, int64_t offset_ms, enum event_quality quality)
{
    struct outcome *o = &s->outcome;
    for (int i = 0; i < o->alert_count; i++)
        o->alerts[i].quality = quality;
    for (int i = 0; i < o->event_count; i++) {
        o->events[i].time_ms += offset_ms;
        o->events[i].start_ms += offset_ms;
        o->events[i].end_ms += o->events[i].end_ms ? offset_ms : 0;
    }
    o->progress_ms += o->progress_ms ? offset_ms : 0;
}

struct alert *meter_shared_alerts(struct meter_shared *s)
{
    return &s->outcome.alerts[s->outcome.alert_count];
}

struct routine *meter_shared_recall(struct meter_shared *s, const struct meter_memory *memory,
                                    const char *meter, const char *name)
{
    struct routine *r = &s->routine;
    if (memory->routine && memory->routine(memory->context, meter, name, r) == 0)
        return r;
    memset(r, 0, sizeof(*r));
    snprintf(r->meter, sizeof(r->meter), "%s", meter);
    snprintf(r->appliance, sizeof(r->appliance), "%s", name);
    return r;
}
