/* cmd_bench.c - nilm-model bench: what a model costs on this machine. The output's keys are a
 * contract (DESIGN.md "Programs"). */
#include "inference/engine.h"
#include "inference/workshop/cli.h"
#include "inference/workshop/runner.h"
#include "inference/workshop/workshop.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_ROUNDS = 99 };

struct bench {
    const char *model_path;
    uint32_t hop, rounds, round_ms;
    int json;
    struct model *model;
    char isa[32];
    double full_us, hop_us;
    size_t state_bytes;
};

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

/* Steps and noise as a meter shows them; only a filling, since no kernel's time depends on the
 * values. */
static float watts_at(uint32_t i)
{
    uint32_t noise = (i * 2654435761u) >> 24;
    return (i / 97 % 3 == 0 ? 1800.0f : 60.0f) + (float)noise * 0.05f;
}

/* Runs work until a round is over, as often as rounds are wanted, and returns the median
 * microseconds of one call. A first round warms caches and clock up and is not counted. */
static double median_us(const struct bench *b, void (*work)(void *), void *context)
{
    double times[MAX_ROUNDS];
    for (int round = -1; round < (int)b->rounds; round++) {
        double begin = now_us(), end;
        uint64_t calls = 0;
        do {
            work(context);
            calls++;
            end = now_us();
        } while (end - begin < (double)b->round_ms * 1e3);
        if (round >= 0)
            times[round] = (end - begin) / (double)calls;
    }
    qsort(times, b->rounds, sizeof *times, compare_doubles);
    return times[b->rounds / 2];
}

struct work {
    struct runner *runner;
    struct engine *engine;
    void *state, *scratch;
    uint32_t sample, hop;
    float *watts, *result;
};

static void run_window(void *context)
{
    struct work *w = context;
    runner_windows(w->runner, w->watts, 1, w->result);
}

static void run_hop(void *context)
{
    struct work *w = context;
    for (uint32_t i = 0; i < w->hop; i++) {
        if (engine_push(w->engine, w->state, w->scratch, watts_at(w->sample++), w->result))
            engine_probabilities(w->engine, w->result, w->result);
    }
}

static void *allocate_aligned(size_t bytes)
{
    return aligned_alloc(ENGINE_ALIGN, (bytes + ENGINE_ALIGN) / ENGINE_ALIGN * ENGINE_ALIGN);
}

static int measure_streaming(struct bench *b, struct work *w, char *why, size_t why_size)
{
    int rc = engine_create(b->model, b->hop, &w->engine, why, why_size);
    if (rc < 0)
        return rc;
    w->hop = engine_hop(w->engine);
    w->state = allocate_aligned(engine_state_bytes(w->engine));
    w->scratch = allocate_aligned(engine_scratch_bytes(w->engine));
    if (w->state == NULL || w->scratch == NULL)
        return -ENOMEM;
    engine_reset(w->engine, w->state);
    while (w->sample < b->model->window) /* the first result is due after a whole window */
        engine_push(w->engine, w->state, w->scratch, watts_at(w->sample++), w->result);
    b->hop = w->hop;
    b->hop_us = median_us(b, run_hop, w);
    b->state_bytes = engine_state_bytes(w->engine);
    return 0;
}

static int measure(struct bench *b, char *why, size_t why_size)
{
    struct work w = {0};
    const struct model *m = b->model;
    int rc = -ENOMEM;
    snprintf(why, why_size, "out of memory");
    w.watts = malloc((m->window + 1u) * sizeof *w.watts);
    w.result = malloc(m->class_count * sizeof *w.result);
    if (w.watts == NULL || w.result == NULL)
        goto done;
    for (uint32_t i = 0; i <= m->window; i++)
        w.watts[i] = watts_at(i);
    rc = runner_create(m, &w.runner, why, why_size);
    if (rc < 0)
        goto done;
    snprintf(b->isa, sizeof b->isa, "%s", runner_isa(w.runner));
    b->full_us = median_us(b, run_window, &w);
    if (m->dtype == MODEL_INT8) {
        rc = measure_streaming(b, &w, why, why_size);
    } else { /* no streaming in FP32: a hop is a whole window, and its samples are what must be kept
              */
        b->hop = b->hop ? b->hop : m->hop;
        b->hop_us = b->full_us;
        b->state_bytes = (m->window + 1u) * sizeof(float);
    }
done:
    runner_free(w.runner);
    engine_free(w.engine);
    free(w.state);
    free(w.scratch);
    free(w.watts);
    free(w.result);
    return rc;
}

static double meters_per_core(const struct bench *b)
{
    return floor((double)b->hop * b->model->period_ms * 1e3 / b->hop_us);
}

static void add_decimal(cJSON *object, const char *key, double value)
{
    char text[64];
    snprintf(text, sizeof text, "%.2f", value);
    cJSON_AddRawToObject(object, key, text);
}

static int print_json(const struct bench *b)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "model", b->model_path);
    cJSON_AddStringToObject(o, "isa", b->isa);
    cJSON_AddNumberToObject(o, "macs", (double)model_macs(b->model));
    add_decimal(o, "full_us", b->full_us);
    add_decimal(o, "hop_us", b->hop_us);
    cJSON_AddNumberToObject(o, "hop_samples", b->hop);
    cJSON_AddNumberToObject(o, "state_bytes", (double)b->state_bytes);
    cJSON_AddNumberToObject(o, "meters_per_core", meters_per_core(b));
    return cli_print_json(o);
}

static void print_table(const struct bench *b)
{
    printf("kernels          %s\n", b->isa);
    printf("multiplications  %llu a window\n", (unsigned long long)model_macs(b->model));
    printf("whole window     %.1f us\n", b->full_us);
    printf("hop              %.1f us for %u samples (%.0f s of power)\n", b->hop_us, b->hop,
           b->hop * (double)b->model->period_ms / 1e3);
    printf("state            %zu bytes a meter\n", b->state_bytes);
    printf("meters           %.0f on one core in real time\n", meters_per_core(b));
}

int workshop_bench(int argc, char **argv)
{
    struct bench b = {.rounds = 9, .round_ms = 50};
    char why[256];
    struct cli_option options[] = {
        {.name = "model",
         .type = CLI_STRING,
         .value = &b.model_path,
         .argument = "FILE",
         .help = "model, INT8 or FP32",
         .required = 1},
        {.name = "hop",
         .type = CLI_UINT,
         .value = &b.hop,
         .argument = "SAMPLES",
         .help = "grid samples between two results; 0: the model's own",
         .low = 0,
         .high = 16384},
        {.name = "rounds",
         .type = CLI_UINT,
         .value = &b.rounds,
         .argument = "N",
         .help = "rounds, of which the median counts",
         .low = 1,
         .high = MAX_ROUNDS},
        {.name = "round-ms",
         .type = CLI_UINT,
         .value = &b.round_ms,
         .argument = "MS",
         .help = "length of a round",
         .low = 1,
         .high = 10000},
        {.name = "json", .type = CLI_FLAG, .value = &b.json, .help = "one JSON object"},
        {.name = NULL}};
    struct cli_command command = {
        .name = "bench",
        .usage = "--model FILE [options]",
        .summary = "Measures a model on this machine: one whole window, and one hop of "
                   "streaming. NILM_CPU chooses the kernel set.",
        .options = options};
    int rc = cli_parse(&command, argc, argv);
    if (rc != CLI_RUN)
        return rc;
    rc = model_decode_file(b.model_path, &b.model, why, sizeof why);
    if (rc < 0)
        return cli_fail(cli_code(rc), "bench: %s", why);
    if (b.hop > b.model->window) {
        uint32_t window = b.model->window;
        model_free(b.model);
        return cli_fail(CLI_USAGE,
                        "bench: --hop: expected at most the model's window, %u, found %u", window,
                        b.hop);
    }
    rc = measure(&b, why, sizeof why);
    int code = CLI_DONE;
    if (rc < 0)
        code = cli_fail(cli_code(rc), "bench: %s: %s", b.model_path, why);
    else if (b.json)
        code = print_json(&b);
    else
        print_table(&b);
    model_free(b.model);
    return code;
}
