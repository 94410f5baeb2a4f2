/* compare_sweep.c - two stages of the comparison that no command does: losses of one-shot pruning
 * over all ratios, and latencies of all models in one interleaved measurement. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "inference/workshop/compare.h"
#include "inference/workshop/convert.h"
#include "inference/workshop/prune.h"
#include "inference/workshop/runner.h"
#include "inference/workshop/train_command.h"

/* --- One-shot pruning --- */

struct sweep {
    const char *model, *data;
    int split;
    uint32_t windows, taylor_windows, threads;
    uint64_t split_seed, seed;
};

/* As `prune` draws them, so that its channels are the same. */
static int draw(const struct sweep *o, const struct model *m, const struct dataset *d,
                struct prune_sample *sample)
{
    const struct train_options plain = {.seed = o->seed, .exact = 1};
    const size_t size = (size_t)m->window * m->channel_count;
    float *features = calloc(o->taylor_windows, size * sizeof(*features));
    uint32_t *labels = calloc(o->taylor_windows, sizeof(*labels));
    float *watts = malloc((m->window + 1u) * sizeof(*watts));
    struct train_sampler sampler = {0};
    int rc = features && labels && watts ? train_sampler_create(d, &sampler) : -ENOMEM;

    for (uint32_t i = 0; i < o->taylor_windows && !rc; i++)
        train_draw(d, &sampler, &plain, m->channels, m->channel_count, 0, i, watts,
                   features + i * size, labels + i);
    train_sampler_free(&sampler);
    free(watts);
    *sample = (struct prune_sample){o->taylor_windows, features, labels, d->mix != NULL};
    return rc;
}

/* Leaves about `windows` of d's windows, evenly spread. */
static void thin(struct dataset *d, uint32_t windows)
{
    const size_t all = d->window_count;

    if (windows == 0 || windows >= all)
        return;
    for (size_t i = 0; i < windows; i++)
        d->windows[i] = d->windows[i * all / windows];
    d->window_count = windows;
}

static int add_point(const struct sweep *o, const struct net *net, const struct model *m,
                     const struct dataset *d, const struct prune_options *p, cJSON *points,
                     char *why, size_t why_size)
{
    struct net *cut = NULL;
    struct metrics *metrics = NULL;
    cJSON *j = NULL;
    int rc = p ? prune_channels(net, p, &cut, why, why_size) : 0;

    if (!rc)
        rc = train_evaluate(cut ? cut : net, m->channels, d, o->threads, &metrics);
    if (!rc) {
        j = cJSON_CreateObject();
        if (p) {
            cJSON_AddStringToObject(j, "criterion", compare_criteria[p->criterion]);
            cJSON_AddStringToObject(j, "scope", compare_scopes[p->scope]);
        }
        cJSON_AddNumberToObject(j, "ratio", p ? p->ratio : 0.0);
        cJSON_AddNumberToObject(j, "parameters", (double)(cut ? cut : net)->param_count);
        cJSON_AddNumberToObject(j, "bce", metrics->bce);
        cJSON_AddNumberToObject(j, "f1_macro", metrics->f1_macro);
        rc = cJSON_AddItemToArray(points, j) ? 0 : -ENOMEM;
    }
    metrics_free(metrics);
    net_free(cut);
    return rc;
}

static int sweep_all(const struct sweep *o, const struct net *net, const struct model *m,
                     const struct train_data *data, cJSON *points, char *why, size_t why_size)
{
    struct prune_sample sample = {0};
    int rc = draw(o, m, data->train, &sample);

    if (!rc)
        rc = add_point(o, net, m, data->valid, NULL, points, why, why_size);
    for (int i = 0; i < 8 * COMPARE_SWEEP_STEPS && !rc; i++) {
        const struct prune_options p = {
            .criterion = (enum prune_criterion)(i / (2 * COMPARE_SWEEP_STEPS)),
            .scope = (enum prune_scope)(i / COMPARE_SWEEP_STEPS % 2),
            .ratio = (i % COMPARE_SWEEP_STEPS + 1) / (double)(COMPARE_SWEEP_STEPS + 1),
            .least = 4,
            .seed = o->seed,
            .sample = &sample};
        rc = add_point(o, net, m, data->valid, &p, points, why, why_size);
        if (rc == -EINVAL && p.ratio > 0.0) /* what must stay leaves it out of reach */
            rc = 0;
    }
    free((void *)sample.features);
    free((void *)sample.labels);
    return rc;
}

static int sweep_file(const struct sweep *o)
{
    struct model *m = NULL;
    struct net *net = NULL;
    struct dataset_options d;
    struct train_data data = {0};
    cJSON *report = cJSON_CreateObject(), *points = cJSON_AddArrayToObject(report, "points");
    char why[512] = "";
    int rc = points ? model_decode_file(o->model, &m, why, sizeof(why)) : -ENOMEM;

    if (!rc)
        rc = convert_from_model(m, &net, why, sizeof(why));
    if (!rc) {
        train_command_options(m, &d);
        d.split = (enum dataset_split)o->split;
        d.split_seed = o->split_seed;
        d.threads = o->threads;
        rc = train_command_load(o->data, &d, 1u << PART_TRAIN | 1u << PART_VALID, 1, &data, why,
                                sizeof(why));
    }
    if (!rc && (!data.train->window_count || !data.valid || !data.valid->window_count)) {
        (void)snprintf(why, sizeof(why), "%s: no windows in the training or validation part",
                       o->data);
        rc = -EINVAL;
    }
    if (!rc) {
        thin(data.valid, o->windows);
        cJSON_AddNumberToObject(report, "windows", (double)data.valid->window_count);
        rc = sweep_all(o, net, m, &data, points, why, sizeof(why));
    }
    train_command_unload(&data);
    net_free(net);
    model_free(m);
    if (!rc)
        return cli_print_json(report);
    cJSON_Delete(report);
    return cli_fail(cli_code(rc), "%s", why[0] ? why : strerror(-rc));
}

int compare_sweep(int argc, char **argv)
{
    struct sweep o = {.windows = 3000, .taylor_windows = 1024, .seed = 1};
    int quiet, json;
    struct cli_option options[] = {
        {"model", CLI_STRING, &o.model, "FILE", "an FP32 model", 0, 0, NULL, 1, 0},
        {"data", CLI_STRING, &o.data, "DIR", "traces", 0, 0, NULL, 1, 0},
        {"split", CLI_CHOICE, &o.split, NULL, "as trained", 0, 0, train_splits, 0, 0},
        {"split-seed", CLI_UINT64, &o.split_seed, "N", "as trained", 0, 0, NULL, 0, 0},
        {"windows", CLI_UINT, &o.windows, "N", "to judge by", 0, 0, NULL, 0, 0},
        {"taylor-windows", CLI_UINT, &o.taylor_windows, "N", "for taylor", 1, 65536, NULL, 0, 0},
        {"seed", CLI_UINT64, &o.seed, "N", "of random and taylor", 0, 0, NULL, 0, 0},
        {"threads", CLI_UINT, &o.threads, "N", "0: one per processor", 0, 64, NULL, 0, 0},
        {"json", CLI_FLAG, &json, NULL, "always", 0, 0, NULL, 0, 0},
        {"quiet", CLI_FLAG, &quiet, NULL, "always", 0, 0, NULL, 0, 0},
        {0}};
    struct cli_command command = {.name = "compare-sweep",
                                  .usage = "--model FILE --data DIR",
                                  .summary = "Losses of one-shot pruning.",
                                  .options = options};
    int code = cli_parse(&command, argc, argv);

    return code == CLI_RUN ? sweep_file(&o) : code;
}

/* --- Latency --- */

enum { MAX_ROUNDS = 99 };

struct timed {
    struct model *model;
    struct runner *runner;
    float *watts, *result;
    double us[MAX_ROUNDS];
};

static double now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static int timed_create(const char *path, struct timed *t, char *why, size_t why_size)
{
    int rc = model_decode_file(path, &t->model, why, why_size);

    if (!rc)
        rc = runner_create(t->model, &t->runner, why, why_size);
    if (rc)
        return rc;
    t->watts = malloc((t->model->window + 1u) * sizeof(*t->watts));
    t->result = malloc(t->model->class_count * sizeof(*t->result));
    if (!t->watts || !t->result)
        return -ENOMEM;
    for (uint32_t i = 0; i <= t->model->window; i++) /* no kernel's time depends on the values */
        t->watts[i] = (i / 97 % 3 == 0 ? 1800.0f : 60.0f) + (float)(i * 7 % 13);
    return 0;
}

static void timed_free(struct timed *t)
{
    runner_free(t->runner);
    model_free(t->model);
    free(t->watts);
    free(t->result);
}

/* Mean microseconds of a window over at least so many milliseconds. */
static double run_round(struct timed *t, uint32_t ms)
{
    double begin = now_us(), end;
    uint64_t calls = 0;

    do {
        runner_windows(t->runner, t->watts, 1, t->result);
        calls++;
        end = now_us();
    } while (end - begin < (double)ms * 1e3);
    return (end - begin) / (double)calls;
}

static int latency_report(const char **paths, int count, struct timed *models, uint32_t rounds)
{
    cJSON *report = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(report, "models");

    for (int i = 0; i < count && list; i++) {
        const char *slash = strrchr(paths[i], '/');
        cJSON *j = cJSON_CreateObject();
        qsort(models[i].us, rounds, sizeof(double), by_value);
        cJSON_AddStringToObject(j, "file", slash ? slash + 1 : paths[i]);
        cJSON_AddStringToObject(j, "isa", runner_isa(models[i].runner));
        cJSON_AddNumberToObject(j, "median_us", models[i].us[rounds / 2]);
        cJSON_AddNumberToObject(j, "low_us", models[i].us[rounds / 4]);
        cJSON_AddNumberToObject(j, "high_us", models[i].us[rounds - 1 - rounds / 4]);
        cJSON_AddItemToArray(list, j);
    }
    return cli_print_json(report);
}

int compare_latency(int argc, char **argv)
{
    uint32_t rounds = 15, ms = 10;
    const char *paths[COMPARE_MAX_MODELS] = {0};
    struct cli_option options[] = {
        {"rounds", CLI_UINT, &rounds, "N", "of which the median counts", 1, MAX_ROUNDS, NULL, 0, 0},
        {"round-ms", CLI_UINT, &ms, "MS", "of each model in a round", 0, 10000, NULL, 0, 0},
        {0}};
    struct cli_command command = {.name = "compare-latency",
                                  .usage = "MODEL...",
                                  .summary = "Times models in turn.",
                                  .options = options,
                                  .positional = "models",
                                  .positional_min = 1,
                                  .positional_max = COMPARE_MAX_MODELS,
                                  .positional_values = paths};
    struct timed *models;
    char why[512] = "";
    int code = cli_parse(&command, argc, argv), count = 0, rc = 0;

    if (code != CLI_RUN)
        return code;
    while (count < COMPARE_MAX_MODELS && paths[count])
        count++;
    models = calloc((size_t)count, sizeof(*models));
    if (!models)
        return cli_fail(CLI_RETRY, "out of memory");
    for (int i = 0; i < count && !rc; i++)
        rc = timed_create(paths[i], &models[i], why, sizeof(why));
    for (int round = -1; round < (int)rounds && !rc; round++) /* the first warms up */
        for (int i = 0; i < count; i++) {
            double us = run_round(&models[i], ms);
            if (round >= 0)
                models[i].us[round] = us;
        }
    code = rc ? cli_fail(cli_code(rc), "%s", why[0] ? why : strerror(-rc))
              : latency_report(paths, count, models, rounds);
    for (int i = 0; i < count; i++)
        timed_free(&models[i]);
    free(models);
    return code;
}
