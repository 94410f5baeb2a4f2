/* bench.c - see bench.h. */
#include "inference/workshop/bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "inference/engine.h"
#include "inference/model_format.h"
#include "inference/workshop/runner.h"

enum { MAX_CALLS = 1 << 16, PEAK_ROUNDS = 20000, PEAK_TRIES = 30 };

/* What all measurements use. */
struct bench {
    const struct model *model;
    const struct bench_options *options;
    struct runner *runner;
    double *times; /* [MAX_CALLS] */
    float *watts, *result;
};

/* One meter. */
struct stream {
    struct engine *engine;
    void *state, *scratch;
    uint32_t sample;
};

double bench_now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

/* Steps and noise as a meter shows them; only a filling, since no kernel's time depends on the
 * values. */
static float watts_at(uint32_t i)
{
    uint32_t noise = (i * 2654435761u) >> 24;
    return (i / 97 % 3 == 0 ? 1800.0f : 60.0f) + (float)noise * 0.05f;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct bench_times percentiles(double *times, size_t n)
{
    qsort(times, n, sizeof *times, compare_doubles);
    return (struct bench_times){times[n / 2], times[n - 1 - n / 10], times[n - 1 - n / 100]};
}

/* Times single calls for so long as the options say. A tenth of that before warms caches and clock
 * up and is not counted. */
static struct bench_times time_calls(const struct bench *b,
                                     void (*call)(const struct bench *, void *), void *context)
{
    double ms = (double)b->options->ms, begin = bench_now_us(), now;
    size_t n = 0;
    do {
        call(b, context);
        now = bench_now_us();
    } while (now < begin + ms * 1e2);
    begin = now;
    do {
        double before = now;
        call(b, context);
        now = bench_now_us();
        b->times[n++] = now - before;
    } while (now < begin + ms * 1e3 && n < MAX_CALLS);
    return percentiles(b->times, n);
}

static void call_window(const struct bench *b, void *context)
{
    (void)context;
    runner_windows(b->runner, b->watts, 1, b->result);
}

static void call_hop(const struct bench *b, void *context)
{
    struct stream *s = context;
    uint32_t hop = engine_hop(s->engine);
    for (uint32_t i = 0; i < hop; i++)
        if (engine_push(s->engine, s->state, s->scratch, watts_at(s->sample++), b->result))
            engine_probabilities(s->engine, b->result, b->result);
}

static void *allocate_aligned(size_t bytes)
{
    return aligned_alloc(ENGINE_ALIGN, (bytes + ENGINE_ALIGN) / ENGINE_ALIGN * ENGINE_ALIGN);
}

static void close_stream(struct stream *s)
{
    engine_free(s->engine);
    free(s->state);
    free(s->scratch);
}

static int measure_hop(const struct bench *b, uint32_t hop, struct bench_hop *out, char *why,
                       size_t why_size)
{
    struct stream s = {0};
    int rc = engine_create(b->model, hop, &s.engine, why, why_size);
    if (rc < 0)
        return rc;
    s.state = allocate_aligned(engine_state_bytes(s.engine));
    s.scratch = allocate_aligned(engine_scratch_bytes(s.engine));
    if (s.state && s.scratch) {
        engine_reset(s.engine, s.state);
        while (s.sample < b->model->window) /* the first result is due after a whole window */
            engine_push(s.engine, s.state, s.scratch, watts_at(s.sample++), b->result);
        out->hop = engine_hop(s.engine);
        out->state_bytes = engine_state_bytes(s.engine);
        out->times = time_calls(b, call_hop, &s);
    } else {
        rc = -ENOMEM;
    }
    close_stream(&s);
    return rc;
}

/* --- Layers --- */

struct layer_times {
    double before;
    double *times; /* [steps][MAX_CALLS] */
    uint32_t step;
    size_t call;
    int through[MODEL_MAX_LAYERS + 1]; /* the last layer of each step */
};

static void on_layer(void *context, int layer)
{
    struct layer_times *t = context;
    double now = bench_now_us();
    t->times[t->step * (size_t)MAX_CALLS + t->call] = now - t->before;
    t->through[t->step++] = layer;
    t->before = now;
}

/* Names and counts of the layers from..through that a step ran. */
static void describe_step(const struct model *m, int from, int through, struct bench_layer *out)
{
    size_t used = 0;
    out->macs = 0;
    snprintf(out->name, sizeof out->name, "%s", through < 0 ? "input" : "");
    for (int i = from; i <= through; i++) {
        const struct model_layer *l = &m->layers[i];
        if (l->op == MODEL_FLATTEN)
            continue;
        const char *name = l->name[0] ? l->name : "pool";
        int n = snprintf(out->name + used, sizeof out->name - used, "%s%s", used ? "+" : "", name);
        used += (size_t)n < sizeof out->name - used ? (size_t)n : 0;
        out->macs += model_format_weights(l) * (l->op == MODEL_CONV1D ? l->out_columns : 1);
    }
}

static int measure_layers(const struct bench *b, const struct engine *e, struct bench_report *r)
{
    struct layer_times t = {0};
    void *scratch = allocate_aligned(engine_scratch_bytes(e));
    double end = bench_now_us() + (double)b->options->ms * 1e3;
    int from = 0;
    t.times = malloc((b->model->layer_count + 1u) * (size_t)MAX_CALLS * sizeof *t.times);
    if (!scratch || !t.times) {
        free(scratch);
        free(t.times);
        return -ENOMEM;
    }
    for (; t.call == 0 || (t.call < MAX_CALLS && t.before < end); t.call++) {
        t.step = 0;
        t.before = bench_now_us();
        engine_run_marked(e, scratch, b->watts, b->result, on_layer, &t);
    }
    r->layer_count = t.step;
    for (uint32_t i = 0; i < t.step; i++) {
        describe_step(b->model, from, t.through[i], &r->layers[i]);
        r->layers[i].us = percentiles(t.times + i * (size_t)MAX_CALLS, t.call).p50;
        from = t.through[i] + 1;
    }
    free(scratch);
    free(t.times);
    return 0;
}

static double peak_macs_us(const struct engine *e)
{
    double best = 0;
    for (int i = 0; i < PEAK_TRIES; i++) {
        double begin = bench_now_us();
        double macs = (double)engine_peak(e, PEAK_ROUNDS);
        double rate = macs / (bench_now_us() - begin);
        best = rate > best ? rate : best;
    }
    return best;
}

/* --- Many meters --- */

struct fleet {
    const struct engine *engine;
    uint32_t count, sample;
    unsigned char *states;
    void *scratch, **pointers;
    float *watts, *results;
    uint8_t *due;
};

/* watts [count][hop] for the next hop. */
static void fill(struct fleet *f)
{
    uint32_t hop = engine_hop(f->engine);
    for (uint32_t i = 0; i < f->count; i++)
        for (uint32_t n = 0; n < hop; n++)
            f->watts[(size_t)i * hop + n] = watts_at(f->sample + n + 41 * i);
    f->sample += hop;
}

static void push(struct fleet *f, uint32_t meter, uint32_t sample)
{
    size_t at = (size_t)meter * engine_model(f->engine)->class_count;
    float watts = f->watts[(size_t)meter * engine_hop(f->engine) + sample];
    f->due[meter] =
        (uint8_t)engine_push(f->engine, f->pointers[meter], f->scratch, watts, f->results + at);
}

static void hop_in_turn(struct fleet *f)
{
    for (uint32_t n = 0; n < engine_hop(f->engine); n++)
        for (uint32_t i = 0; i < f->count; i++)
            push(f, i, n);
}

static void hop_singly(struct fleet *f)
{
    for (uint32_t i = 0; i < f->count; i++)
        for (uint32_t n = 0; n < engine_hop(f->engine); n++)
            push(f, i, n);
}

static void hop_batched(struct fleet *f)
{
    engine_push_many(f->engine, f->pointers, f->count, f->scratch, f->watts, engine_hop(f->engine),
                     f->results, f->due);
}

/* Microseconds of one meter's hop, its probabilities excepted. */
static double hop_of(struct fleet *f, void (*hop)(struct fleet *))
{
    double begin;
    fill(f);
    begin = bench_now_us();
    hop(f);
    return (bench_now_us() - begin) / f->count;
}

static void run_fleet(const struct bench *b, struct fleet *f, struct bench_report *r)
{
    enum { THIRD = MAX_CALLS / 3 };
    double *times = b->times, end;
    size_t n = 0;
    for (uint32_t i = 0; i < f->count; i++)
        engine_reset(f->engine, f->pointers[i]);
    while (f->sample < b->model->window)
        hop_of(f, hop_batched);
    end = bench_now_us() + 3e3 * (double)b->options->ms;
    do { /* in turns, so that all see the same load of the machine */
        times[n] = hop_of(f, hop_in_turn);
        times[THIRD + n] = hop_of(f, hop_singly);
        times[2 * THIRD + n++] = hop_of(f, hop_batched);
    } while (n < THIRD && (n < 3 || bench_now_us() < end));
    r->in_turn_us = percentiles(times, n).p50;
    r->single_us = percentiles(times + THIRD, n).p50;
    r->batch_us = percentiles(times + 2 * THIRD, n).p50;
}

static int measure_fleet(const struct bench *b, const struct engine *e, struct bench_report *r)
{
    uint32_t count = b->options->meters;
    size_t state = engine_state_bytes(e);
    struct fleet f = {.engine = e, .count = count};
    int rc = 0;
    f.states = allocate_aligned(state * count);
    f.scratch = allocate_aligned(engine_batch_scratch_bytes(e));
    f.pointers = malloc(count * sizeof *f.pointers);
    f.watts = malloc((size_t)count * engine_hop(e) * sizeof *f.watts);
    f.results = malloc(count * (size_t)b->model->class_count * sizeof *f.results);
    f.due = malloc(count);
    if (f.states && f.scratch && f.pointers && f.watts && f.results && f.due) {
        for (uint32_t i = 0; i < count; i++)
            f.pointers[i] = f.states + i * state;
        run_fleet(b, &f, r);
    } else {
        rc = -ENOMEM;
    }
    free(f.states);
    free(f.scratch);
    free(f.pointers);
    free(f.watts);
    free(f.results);
    free(f.due);
    return rc;
}

static int measure_int8(const struct bench *b, struct bench_report *r, char *why, size_t why_size)
{
    const struct bench_options *o = b->options;
    struct engine *e;
    int rc = measure_hop(b, o->hop, &r->hop, why, why_size);
    for (uint32_t i = 0; rc == 0 && i < o->hop_count; i++)
        rc = measure_hop(b, o->hops[i], &r->hops[i], why, why_size);
    if (rc == 0)
        rc = engine_create(b->model, o->hop, &e, why, why_size);
    if (rc < 0)
        return rc;
    rc = measure_layers(b, e, r);
    if (rc == 0 && o->meters)
        rc = measure_fleet(b, e, r);
    r->peak_macs_us = peak_macs_us(e);
    engine_free(e);
    return rc;
}

int bench_measure(const struct model *m, const struct bench_options *options,
                  struct bench_report *report, char *why, size_t why_size)
{
    struct bench b = {.model = m, .options = options};
    double begin;
    int rc = -ENOMEM;
    memset(report, 0, sizeof *report);
    snprintf(why, why_size, "out of memory");
    b.times = malloc(MAX_CALLS * sizeof *b.times);
    b.watts = malloc((m->window + 1u) * sizeof *b.watts);
    b.result = malloc(m->class_count * sizeof *b.result);
    if (!b.times || !b.watts || !b.result)
        goto done;
    for (uint32_t i = 0; i <= m->window; i++)
        b.watts[i] = watts_at(i);
    begin = bench_now_us();
    rc = runner_create(m, &b.runner, why, why_size);
    if (rc < 0)
        goto done;
    call_window(&b, NULL);
    report->start_us = bench_now_us() - begin;
    snprintf(report->isa, sizeof report->isa, "%s", runner_isa(b.runner));
    report->full = time_calls(&b, call_window, NULL);
    if (m->dtype == MODEL_INT8)
        rc = measure_int8(&b, report, why, why_size);
    else /* no streaming: a hop is a whole window, and its samples are what must be kept */
        report->hop = (struct bench_hop){options->hop ? options->hop : m->hop,
                                         (m->window + 1u) * sizeof(float), report->full};
done:
    runner_free(b.runner);
    free(b.times);
    free(b.watts);
    free(b.result);
    return rc;
}
