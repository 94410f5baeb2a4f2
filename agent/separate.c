#include "agent/separate.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/mains.h"
#include "agent/payload.h"
#include "inference/trace.h"

#define METER "mains"
#define BATCH 4096 /* readings between two looks at the clock */

struct run { /* that is on */
    int64_t start_ms, number;
};

struct separation {
    const struct separate_order *order;
    struct separate_report *report;
    struct run open[BOOKS_PARTS];
    int64_t runs;
    int failed; /* -errno of writing */
};

static int find_part(const struct separation *s, const char *appliance)
{
    int i = 0;
    while (i < s->report->part_count && strcmp(s->report->parts[i].appliance, appliance) != 0)
        i++;
    return i;
}

static void write_event(struct separation *s, const struct event *e, int64_t number)
{
    FILE *f = s->order->events;
    if (!f)
        return;
    if (s->order->format == SEPARATE_CSV) {
        if (e->type == EVENT_OFF)
            fprintf(f, "%s,%" PRId64 ",%" PRId64 ",%.3f,%.1f,%.4f\n", e->appliance, e->start_ms,
                    e->end_ms, e->energy_wh, e->peak_w, e->confidence);
        return;
    }
    char *text = payload_event(METER, e, number);
    if (!text)
        s->failed = -ENOMEM;
    else
        fprintf(f, "%s\n", text);
    free(text);
}

static int take(void *context, const struct outcome *o)
{
    struct separation *s = context;
    for (int i = 0; i < o->event_count; i++) {
        const struct event *e = &o->events[i];
        const int part = find_part(s, e->appliance);
        if (part == s->report->part_count) {
            if (strcmp(e->appliance, EVENT_UNKNOWN) != 0)
                write_event(s, e, ++s->runs); /* a name that a person gave */
            continue;
        }
        if (e->type == EVENT_ON)
            s->open[part] = (struct run){e->start_ms, ++s->runs};
        if (e->type == EVENT_OFF)
            s->report->parts[part].runs++;
        write_event(s, e, s->open[part].number);
    }
    return 0;
}

static void take_load(void *context, const struct mains_load *l)
{
    struct separation *s = context;
    if (!l->end_ms)
        return;
    s->report->loads++;
    if (s->order->loads)
        fprintf(s->order->loads, "%" PRId64 ",%" PRId64 ",%.1f,%.1f,%.1f\n", l->start_ms, l->end_ms,
                (double)l->up_w, (double)l->down_w, (double)l->before_w);
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* One file. Readings are taken in batches, so that the time of parsing is not measured. */
static int feed(struct separation *s, struct meter *m, const char *path, char *why, size_t why_size)
{
    static struct trace_reading batch[BATCH];
    struct trace *t = NULL;
    int rc = trace_open(path, TRACE_AUTO, s->order->column, &t, why, why_size);
    while (rc >= 0) {
        int n = 0;
        while (n < BATCH && ((rc = trace_next(t, &batch[n])) > 0 || rc == -EBADMSG))
            n += rc > 0;
        const double began = cpu_seconds();
        for (int i = 0; i < n; i++)
            meter_reading(m, batch[i].t_ms, batch[i].watts);
        s->report->seconds += cpu_seconds() - began;
        if (rc <= 0)
            break;
    }
    if (rc < 0 && t)
        snprintf(why, why_size, "%s", trace_error(t));
    if (t)
        s->report->bad += trace_statistics(t)->bad;
    trace_close(t);
    return rc;
}

static void begin_files(const struct separate_order *order)
{
    if (order->events && order->format == SEPARATE_CSV)
        fprintf(order->events, "appliance,start_ms,end_ms,energy_wh,peak_w,confidence\n");
    if (order->loads)
        fprintf(order->loads, "start_ms,end_ms,up_w,down_w,before_w\n");
}

static void finish(struct separation *s, struct meter *m)
{
    struct separate_report *r = s->report;
    struct meter_status status;
    struct mains *mains = meter_mains(m);
    const double began = cpu_seconds();
    meter_finish(m);
    r->seconds += cpu_seconds() - began;
    meter_get_status(m, &status);
    r->readings = status.readings;
    r->samples = status.samples;
    r->inferences = status.inferences;
    r->memory_bytes = status.memory_bytes;
    r->books = *mains_books(mains);
    for (int c = 0; c < r->part_count; c++)
        r->parts[c].energy_wh = r->books.part_wh[c];
}

int separate_run(const struct separate_order *order, struct separate_report *out, char *why,
                 size_t why_size)
{
    struct separation s = {.order = order, .report = out};
    struct meter_config config = {.name = METER,
                                  .silence_ms = order->silence_ms,
                                  .max_gap_ms = order->max_gap_ms,
                                  .report_ms = order->report_ms,
                                  .mains = 1,
                                  .quality = EVENT_TRACE};
    const struct outcome_sink sink = {&s, take};
    const struct meter_memory memory = {NULL, NULL};
    struct meter_shared *shared = NULL;
    struct engine *engine = NULL;
    struct meter *m = NULL;
    memset(out, 0, sizeof(*out));
    int rc = engine_create(order->model, 0, &engine, why, why_size);
    if (rc < 0)
        goto out;
    rc = meter_shared_create(&shared);
    if (rc == 0)
        rc = meter_create(&config, engine, &sink, &memory, shared, &m);
    if (rc < 0) {
        snprintf(why, why_size, "%s",
                 rc == -ENOTSUP ? "the model is not one of a sum: expected a sigmoid head and at "
                                  "most 16 classes"
                                : strerror(-rc));
        goto out;
    }
    out->part_count = (int)order->model->class_count;
    for (int c = 0; c < out->part_count; c++)
        memcpy(out->parts[c].appliance, order->model->labels[c], MODEL_LABEL_BYTES);
    out->delay_ms = mains_delay_ms(meter_mains(m));
    mains_watch_loads(meter_mains(m), &s, take_load);
    rc = mains_set_house(meter_mains(m), order->house);
    begin_files(order);
    for (int i = 0; i < order->path_count && rc >= 0; i++)
        rc = feed(&s, m, order->paths[i], why, why_size);
    if (rc >= 0)
        finish(&s, m);
    if (rc >= 0 && s.failed < 0)
        snprintf(why, why_size, "%s", strerror(-(rc = s.failed)));
out:
    meter_destroy(m);
    meter_shared_destroy(shared);
    engine_free(engine);
    return rc < 0 ? rc : 0;
}
