/* evaluate.c - see evaluate.h. */
#include "inference/workshop/evaluate.h"

#include "inference/engine.h"
#include "inference/workshop/cli.h"
#include "inference/workshop/net_parallel.h"
#include "inference/workshop/runner.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SHARD = 64, LATENCY_ROUNDS = 101, WARM_ROUNDS = 3 };

void evaluate_options(const struct model *m, struct dataset_options *o)
{
    dataset_defaults(o);
    o->window = m->window;
    o->period_ms = m->period_ms;
    o->min_traces = 0;
    if (m->min_activity_w > 0)
        o->min_activity_w = m->min_activity_w;
    o->labels = m->labels;
    o->label_count = m->class_count;
    o->lag = model_lag(m);
    if (model_meta(m, "aggregates", o->mix, sizeof o->mix) != 0)
        o->mix[0] = '\0';
}

uint32_t evaluate_first(const float *p, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t c = 1; c < n; c++)
        best = p[c] > p[best] ? c : best;
    return best;
}

/* --- windows, on several threads --- */

struct sweep {
    const struct model *model;
    const struct dataset *data;
    const struct dataset_window *windows;
    size_t count;
    enum evaluate_output output;
    struct runner *runners[NET_MAX_THREADS];
    float *watts[NET_MAX_THREADS];
    float *out;
    struct cli_progress *progress; /* NULL: none; thread 0's */
    atomic_size_t done;
};

static void run_shard(void *context, uint32_t task, uint32_t thread)
{
    struct sweep *s = context;
    const size_t row = s->model->window + 1u, first = (size_t)task * SHARD;
    size_t n = s->count - first < SHARD ? s->count - first : SHARD;
    float *watts = s->watts[thread], *out = s->out + first * s->model->class_count;
    for (size_t i = 0; i < n; i++)
        dataset_copy(s->data, &s->windows[first + i], 0, watts + i * row);
    if (s->output == EVALUATE_LOGITS)
        runner_logits(s->runners[thread], watts, n, out);
    else
        runner_windows(s->runners[thread], watts, n, out);
    size_t done = atomic_fetch_add(&s->done, n) + n;
    if (thread == 0 && s->progress)
        cli_progress_step(s->progress, done, NULL);
}

int evaluate_windows(const struct model *m, const struct dataset *d,
                     const struct dataset_window *windows, size_t count, uint32_t threads,
                     enum evaluate_output output, const char *title, float *out, char *why,
                     size_t why_size)
{
    struct cli_progress progress;
    struct sweep s = {.model = m,
                      .data = d,
                      .windows = windows,
                      .count = count,
                      .output = output,
                      .out = out,
                      .progress = title ? &progress : NULL};
    uint32_t tasks = (uint32_t)((count + SHARD - 1) / SHARD);
    int rc = 0;
    snprintf(why, why_size, "out of memory");
    if (m->window != d->options.window || m->period_ms != d->options.period_ms) {
        snprintf(why, why_size, "the model's window is %u samples of %u ms, the data's %u of %u",
                 m->window, m->period_ms, d->options.window, d->options.period_ms);
        return -EINVAL;
    }
    threads = net_parallel_threads(threads);
    threads = threads > tasks && tasks > 0 ? tasks : threads;
    for (uint32_t t = 0; t < threads && rc == 0; t++) {
        s.watts[t] = malloc(SHARD * (m->window + 1u) * sizeof **s.watts);
        rc = s.watts[t] ? runner_create(m, &s.runners[t], why, why_size) : -ENOMEM;
    }
    if (rc == 0) {
        if (title)
            cli_progress_begin(&progress, title, count);
        net_parallel(threads, tasks, run_shard, &s);
        if (title)
            cli_progress_end(&progress, NULL);
    }
    for (uint32_t t = 0; t < threads; t++) {
        runner_free(s.runners[t]);
        free(s.watts[t]);
    }
    return rc;
}

/* --- figures --- */

static int is_rejected(const struct model *m, const float *p)
{
    return p[evaluate_first(p, m->class_count)] < m->reject;
}

static int count_unknown(const struct model *m, const struct dataset *d, uint32_t threads,
                         struct evaluation *e, char *why, size_t why_size)
{
    e->unknown_rejected_by_class =
        calloc(d->unknown_class_count + 1u, sizeof *e->unknown_rejected_by_class);
    float *p = malloc((d->unknown_windows + 1) * m->class_count * sizeof *p);
    int rc = e->unknown_rejected_by_class && p ? 0 : -ENOMEM;
    if (rc == 0 && d->unknown)
        rc = evaluate_windows(m, d, d->unknown, d->unknown_windows, threads, EVALUATE_PROBABILITIES,
                              NULL, p, why, why_size);
    for (size_t i = 0; rc == 0 && d->unknown && i < d->unknown_windows; i++) {
        int rejected = is_rejected(m, p + i * m->class_count);
        e->unknown_rejected += (uint64_t)rejected;
        e->unknown_rejected_by_class[d->unknown[i].label] += (uint64_t)rejected;
    }
    free(p);
    return rc;
}

/* Sets are judged at what the model's record says. */
static void use_thresholds(const struct model *m, struct metrics *metrics)
{
    float thresholds[MODEL_MAX_CLASSES];
    for (uint32_t c = 0; c < m->class_count; c++)
        thresholds[c] = model_threshold(m, c);
    metrics_use_thresholds(metrics, thresholds);
}

int evaluate_run(const struct model *m, const struct dataset *d, uint32_t threads, int quiet,
                 struct evaluation *out, char *why, size_t why_size)
{
    memset(out, 0, sizeof *out);
    snprintf(why, why_size, "out of memory");
    out->probabilities = malloc((d->window_count + 1) * m->class_count * sizeof(float));
    int rc = out->probabilities ? metrics_create(m->class_count, &out->metrics) : -ENOMEM;
    if (rc == 0)
        rc = dataset_devices(d, out->devices);
    if (rc == 0)
        rc = evaluate_windows(m, d, d->windows, d->window_count, threads, EVALUATE_PROBABILITIES,
                              quiet ? NULL : "classifying windows", out->probabilities, why,
                              why_size);
    for (size_t i = 0; rc == 0 && i < d->window_count; i++) {
        const float *p = out->probabilities + i * m->class_count;
        out->rejected += (uint64_t)is_rejected(m, p);
        if (d->mix)
            rc = metrics_add_set(out->metrics, p, d->windows[i].on);
        else
            metrics_add(out->metrics, p, d->windows[i].label);
    }
    if (rc == 0) {
        metrics_finish(out->metrics);
        if (d->mix)
            use_thresholds(m, out->metrics);
        rc = count_unknown(m, d, threads, out, why, why_size);
    }
    return rc;
}

void evaluate_free(struct evaluation *e)
{
    metrics_free(e->metrics);
    free(e->probabilities);
    free(e->unknown_rejected_by_class);
    memset(e, 0, sizeof *e);
}

int evaluate_agreement(const struct model *m, const struct evaluation *e,
                       const struct model *reference, const struct dataset *d, uint32_t threads,
                       int quiet, double *same, char *why, size_t why_size)
{
    size_t agree = 0;
    snprintf(why, why_size, "out of memory");
    float *p = malloc((d->window_count + 1) * reference->class_count * sizeof *p);
    int rc = p ? 0 : -ENOMEM;
    if (rc == 0)
        rc = evaluate_windows(reference, d, d->windows, d->window_count, threads,
                              EVALUATE_PROBABILITIES, quiet ? NULL : "the other model", p, why,
                              why_size);
    for (size_t i = 0; rc == 0 && i < d->window_count; i++) {
        uint32_t a = evaluate_first(e->probabilities + i * m->class_count, m->class_count);
        uint32_t b = evaluate_first(p + i * reference->class_count, reference->class_count);
        agree += strcmp(m->labels[a], reference->labels[b]) == 0;
    }
    *same = d->window_count ? (double)agree / (double)d->window_count : 0;
    free(p);
    return rc;
}

/* --- time --- */

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *times, size_t n)
{
    qsort(times, n, sizeof *times, compare_doubles);
    return times[n / 2];
}

static void *allocate_aligned(size_t bytes)
{
    return aligned_alloc(ENGINE_ALIGN, (bytes + ENGINE_ALIGN) / ENGINE_ALIGN * ENGINE_ALIGN);
}

/* The window of round i: far apart, so that the data is not what the caches hold. */
static void copy_window(const struct dataset *d, int i, float *watts)
{
    dataset_copy(d, &d->windows[(size_t)i * 7919 % d->window_count], 0, watts);
}

/* A stream that goes on from one window to the next; the engine is past its first window when time
 * is taken, so every hop gives a result. */
static int measure_hop(const struct model *m, const struct dataset *d, float *watts, float *result,
                       double *times)
{
    struct engine *engine = NULL;
    int rc = engine_create(m, 0, &engine, NULL, 0), window = 0;
    if (rc < 0)
        return rc;
    void *state = allocate_aligned(engine_state_bytes(engine));
    void *scratch = allocate_aligned(engine_scratch_bytes(engine));
    uint32_t at = m->window, hop = engine_hop(engine);
    if (state == NULL || scratch == NULL) {
        rc = -ENOMEM;
        goto done;
    }
    engine_reset(engine, state);
    copy_window(d, 0, watts);
    for (uint32_t i = 1; i <= m->window; i++)
        engine_push(engine, state, scratch, watts[i], result);
    for (int round = -WARM_ROUNDS; round < LATENCY_ROUNDS; round++, at += hop) {
        if (at + hop > m->window) {
            copy_window(d, ++window, watts);
            at = 0;
        }
        double begin = now_us();
        for (uint32_t i = 1; i <= hop; i++) {
            if (engine_push(engine, state, scratch, watts[at + i], result))
                engine_probabilities(engine, result, result);
        }
        if (round >= 0)
            times[round] = now_us() - begin;
    }
done:
    free(state);
    free(scratch);
    engine_free(engine);
    return rc;
}

int evaluate_latency(const struct model *m, const struct dataset *d, double *window_us,
                     double *hop_us)
{
    double times[LATENCY_ROUNDS];
    struct runner *runner = NULL;
    float *watts = malloc((m->window + 1u) * sizeof *watts);
    float *result = malloc(m->class_count * sizeof *result);
    int rc = watts && result ? runner_create(m, &runner, NULL, 0) : -ENOMEM;
    for (int round = -WARM_ROUNDS; rc == 0 && round < LATENCY_ROUNDS; round++) {
        copy_window(d, round + WARM_ROUNDS, watts);
        double begin = now_us();
        runner_windows(runner, watts, 1, result);
        if (round >= 0)
            times[round] = now_us() - begin;
    }
    if (rc == 0) {
        *window_us = *hop_us = median(times, LATENCY_ROUNDS);
        if (m->dtype == MODEL_INT8)
            rc = measure_hop(m, d, watts, result, times);
    }
    if (rc == 0 && m->dtype == MODEL_INT8)
        *hop_us = median(times, LATENCY_ROUNDS);
    runner_free(runner);
    free(watts);
    free(result);
    return rc;
}
