/* cmd_eval.c - nilm-model eval: a model against labelled traces. The output's keys are a contract
 * (DESIGN.md "Programs"). */
#include "inference/workshop/cli.h"
#include "inference/workshop/dataset.h"
#include "inference/workshop/metrics.h"
#include "inference/workshop/runner.h"
#include "inference/workshop/train_command.h"
#include "inference/workshop/workshop.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SHARD = 64, MAX_THREADS = 8, LATENCY_ROUNDS = 101 };

struct eval {
    const char *model_path, *data;
    int json, confusion, quiet, files;
    struct dataset_options options;
    struct model *model;
    struct dataset *dataset;
    float *probabilities; /* [window_count][class_count] */
    struct metrics *metrics;
    uint32_t devices[MODEL_MAX_CLASSES]; /* whose windows are in the part, by class */
    double latency_us;
    uint64_t size_bytes, rejected;
};

/* --- prediction, on several threads --- */

struct prediction {
    const struct eval *eval;
    atomic_size_t next;
    atomic_int rc; /* the first failure */
    struct cli_progress *progress;
};

static void predict(struct prediction *p, int report)
{
    const struct eval *e = p->eval;
    size_t length = e->model->window + 1u, total = e->dataset->window_count;
    struct runner *runner = NULL;
    float *watts = malloc(SHARD * length * sizeof *watts);
    int rc = watts ? runner_create(e->model, &runner, NULL, 0) : -ENOMEM;
    while (rc == 0) {
        size_t first = atomic_fetch_add(&p->next, SHARD);
        if (first >= total)
            break;
        size_t count = total - first < SHARD ? total - first : SHARD;
        for (size_t i = 0; i < count; i++)
            dataset_copy(e->dataset, &e->dataset->windows[first + i], 0, watts + i * length);
        runner_windows(runner, watts, count, e->probabilities + first * e->model->class_count);
        if (report)
            cli_progress_step(p->progress, first + count, NULL);
    }
    if (rc < 0)
        atomic_store(&p->rc, rc);
    runner_free(runner);
    free(watts);
}

static void *predict_thread(void *context)
{
    predict(context, 0);
    return NULL;
}

/* Each window's result has its own place, so the threads' order cannot change anything. */
static int predict_all(struct eval *e)
{
    pthread_t threads[MAX_THREADS];
    struct cli_progress progress;
    struct prediction p = {.eval = e, .progress = &progress};
    size_t started = 0, wanted = e->options.threads;
    if (wanted == 0) {
        long processors = sysconf(_SC_NPROCESSORS_ONLN);
        wanted = processors > 0 ? (size_t)processors : 1;
    }
    wanted = wanted > MAX_THREADS ? MAX_THREADS : wanted;
    size_t numbers = e->dataset->window_count * e->model->class_count;
    e->probabilities = malloc((numbers + 1) * sizeof *e->probabilities);
    if (e->probabilities == NULL)
        return -ENOMEM;
    if (!e->quiet)
        cli_progress_begin(&progress, "classifying windows", e->dataset->window_count);
    while (started + 1 < wanted && pthread_create(&threads[started], NULL, predict_thread, &p) == 0)
        started++;
    predict(&p, !e->quiet);
    for (size_t i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    if (!e->quiet)
        cli_progress_end(&progress, NULL);
    return atomic_load(&p.rc);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median time of one window, one at a time on one thread, after a first round that fills the
 * caches. */
static int measure_latency(struct eval *e)
{
    double times[LATENCY_ROUNDS];
    struct runner *runner = NULL;
    float *watts = malloc((e->model->window + 1u) * sizeof *watts);
    float *probabilities = malloc(e->model->class_count * sizeof *probabilities);
    int rc = watts && probabilities ? runner_create(e->model, &runner, NULL, 0) : -ENOMEM;
    for (int i = -3; rc == 0 && i < LATENCY_ROUNDS; i++) {
        struct timespec begin, end;
        size_t window = (size_t)(i + 3) * 7919 % e->dataset->window_count;
        dataset_copy(e->dataset, &e->dataset->windows[window], 0, watts);
        clock_gettime(CLOCK_MONOTONIC, &begin);
        runner_windows(runner, watts, 1, probabilities);
        clock_gettime(CLOCK_MONOTONIC, &end);
        if (i >= 0)
            times[i] = (double)(end.tv_sec - begin.tv_sec) * 1e6 +
                       (double)(end.tv_nsec - begin.tv_nsec) * 1e-3;
    }
    if (rc == 0) {
        qsort(times, LATENCY_ROUNDS, sizeof *times, compare_doubles);
        e->latency_us = times[LATENCY_ROUNDS / 2];
    }
    runner_free(runner);
    free(watts);
    free(probabilities);
    return rc;
}

static int score(struct eval *e)
{
    uint32_t classes = e->model->class_count;
    int rc = metrics_create(classes, &e->metrics);
    if (rc == 0)
        rc = dataset_devices(e->dataset, e->devices);
    for (size_t i = 0; rc == 0 && i < e->dataset->window_count; i++) {
        const float *p = e->probabilities + i * classes;
        float best = 0;
        for (uint32_t c = 0; c < classes; c++)
            best = p[c] > best ? p[c] : best;
        e->rejected += best < e->model->reject;
        metrics_add(e->metrics, p, e->dataset->windows[i].label);
    }
    if (rc == 0)
        metrics_finish(e->metrics);
    return rc;
}

/* --- output --- */

/* A number in JSON with a few decimals: through text, since 0.1 is no double. */
static void add_decimal(cJSON *object, const char *key, double value, int decimals)
{
    char text[64];
    snprintf(text, sizeof text, "%.*f", decimals, value);
    cJSON_AddRawToObject(object, key, text);
}

static void add_confusion(const struct eval *e, cJSON *object)
{
    uint32_t n = e->metrics->class_count;
    cJSON *rows = cJSON_AddArrayToObject(object, "confusion");
    for (uint32_t t = 0; rows && t < n; t++) {
        cJSON *row = cJSON_CreateArray();
        for (uint32_t p = 0; row && p < n; p++)
            cJSON_AddItemToArray(row, cJSON_CreateNumber(e->metrics->confusion[(size_t)t * n + p]));
        cJSON_AddItemToArray(rows, row);
    }
}

static const char *const parts[] = {"train", "valid", "test", "all", NULL};

/* True when the model's own record says that training left these traces alone: it was trained on
 * the same split, and this is the test part. A model trained by day has seen every device, so
 * judging it by device flatters it. */
static int is_unseen(const struct eval *e)
{
    char split[16], seed[24], own_seed[24];
    snprintf(own_seed, sizeof own_seed, "%llu", (unsigned long long)e->options.split_seed);
    return e->options.split != SPLIT_NONE && e->options.split != SPLIT_RANDOM &&
           e->options.part == PART_TEST &&
           model_meta(e->model, "split", split, sizeof split) == 0 &&
           strcmp(split, train_splits[e->options.split]) == 0 &&
           model_meta(e->model, "split_seed", seed, sizeof seed) == 0 &&
           strcmp(seed, own_seed) == 0;
}

static int print_json(const struct eval *e)
{
    const struct metrics *m = e->metrics;
    uint32_t present = 0;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "model", e->model_path);
    cJSON_AddStringToObject(o, "dtype", e->model->dtype == MODEL_INT8 ? "int8" : "fp32");
    cJSON_AddStringToObject(o, "split", train_splits[e->options.split]);
    cJSON_AddBoolToObject(o, "weak_split", e->options.split == SPLIT_RANDOM);
    cJSON_AddStringToObject(o, "part", parts[e->options.part]);
    cJSON_AddBoolToObject(o, "unseen", is_unseen(e));
    cJSON_AddNumberToObject(o, "windows", (double)m->windows);
    cJSON_AddNumberToObject(o, "classes", m->class_count);
    add_decimal(o, "accuracy", m->accuracy, 6);
    add_decimal(o, "f1_macro", m->f1_macro, 6);
    add_decimal(o, "f1_weighted", m->f1_weighted, 6);
    add_decimal(o, "bce", m->bce, 6);
    add_decimal(o, "cross_entropy", m->cross_entropy, 6);
    cJSON_AddNumberToObject(o, "size_bytes", (double)e->size_bytes);
    add_decimal(o, "latency_us", e->latency_us, 1);
    cJSON_AddNumberToObject(o, "unknown_windows", (double)e->dataset->unknown_windows);
    cJSON_AddNumberToObject(o, "rejected_windows", (double)e->rejected);
    cJSON_AddNumberToObject(o, "files", (double)e->dataset->files);
    cJSON_AddNumberToObject(o, "skipped_files", (double)e->dataset->skipped_files);
    cJSON_AddNumberToObject(o, "ambiguous_files", (double)e->dataset->ambiguous_files);
    cJSON_AddNumberToObject(o, "bad_lines", (double)e->dataset->bad_lines);
    cJSON *list = cJSON_AddArrayToObject(o, "per_class");
    for (uint32_t c = 0; list && c < m->class_count; c++) {
        const struct metrics_class *k = &m->classes[c];
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", e->model->labels[c]);
        add_decimal(item, "precision", k->precision, 6);
        add_decimal(item, "recall", k->recall, 6);
        add_decimal(item, "f1", k->f1, 6);
        cJSON_AddNumberToObject(item, "support", (double)k->support);
        cJSON_AddNumberToObject(item, "devices", e->devices[c]);
        cJSON_AddItemToArray(list, item);
        present += k->support > 0;
    }
    cJSON_AddNumberToObject(o, "classes_present", present);
    if (e->confusion)
        add_confusion(e, o);
    return cli_print_json(o);
}

static void print_confusion(const struct eval *e)
{
    const struct metrics *m = e->metrics;
    printf("\nconfusion (rows: truth, columns: prediction, by number; classes without windows left "
           "out)\n");
    printf("%-25s", "");
    for (uint32_t p = 0; p < m->class_count; p++)
        printf("%6u", p);
    putchar('\n');
    for (uint32_t t = 0; t < m->class_count; t++) {
        if (m->classes[t].support == 0)
            continue;
        printf("%3u %-21.21s", t, e->model->labels[t]);
        for (uint32_t p = 0; p < m->class_count; p++) {
            uint32_t n = m->confusion[(size_t)t * m->class_count + p];
            n ? printf("%6u", n) : printf("     .");
        }
        putchar('\n');
    }
}

static void print_table(const struct eval *e)
{
    const struct metrics *m = e->metrics;
    printf("%-26s %9s %9s %9s %9s %9s\n", "class", "precision", "recall", "f1", "support",
           "devices");
    for (uint32_t c = 0; c < m->class_count; c++) {
        const struct metrics_class *k = &m->classes[c];
        if (k->support > 0)
            printf("%3u %-22.22s %9.3f %9.3f %9.3f %9llu %9u\n", c, e->model->labels[c],
                   k->precision, k->recall, k->f1, (unsigned long long)k->support, e->devices[c]);
        else
            printf("%3u %-22.22s %9s %9s %9s %9s %9s\n", c, e->model->labels[c], "-", "-", "-", "0",
                   "0");
    }
    printf("\n%llu windows of %zu files, %zu windows of unknown classes, %llu below the reject "
           "threshold\n",
           (unsigned long long)m->windows, e->dataset->files, e->dataset->unknown_windows,
           (unsigned long long)e->rejected);
    if (e->dataset->skipped_files || e->dataset->ambiguous_files || e->dataset->bad_lines)
        printf("left out: %zu unreadable files, %zu filed under several classes, %llu bad lines\n",
               e->dataset->skipped_files, e->dataset->ambiguous_files,
               (unsigned long long)e->dataset->bad_lines);
    if (e->options.split == SPLIT_RANDOM)
        printf("weak: windows of one day are on both sides of a random split\n");
    else if (!is_unseen(e))
        printf("not known to be unseen: the model's record does not say that training left these "
               "traces out\n");
    printf("accuracy %.4f   F1 macro %.4f   F1 weighted %.4f   BCE %.4f\n", m->accuracy,
           m->f1_macro, m->f1_weighted, m->bce);
    printf("%llu bytes, %.1f us a window\n", (unsigned long long)e->size_bytes, e->latency_us);
    if (e->confusion)
        print_confusion(e);
}

/* --- the command --- */

static int parse(struct eval *e, int argc, char **argv)
{
    int split = SPLIT_NONE, part = PART_ALL;
    struct dataset_options *d = &e->options;
    struct cli_option options[] = {
        {.name = "model",
         .type = CLI_STRING,
         .value = &e->model_path,
         .argument = "FILE",
         .help = "model, FP32 or INT8",
         .required = 1},
        {.name = "data",
         .type = CLI_STRING,
         .value = &e->data,
         .argument = "DIR",
         .help = "traces: DIR/complete/CLASS/*.csv or DIR/CLASS/*.csv",
         .required = 1},
        {.name = "split",
         .type = CLI_CHOICE,
         .value = &split,
         .choices = train_splits,
         .help = "keep days or devices apart as training did; random is weak: windows of one day "
                 "are on both "
                 "sides"},
        {.name = "part",
         .type = CLI_CHOICE,
         .value = &part,
         .choices = parts,
         .help = "side of the split; with --split and without --part: test"},
        {.name = "split-seed",
         .type = CLI_UINT64,
         .value = &d->split_seed,
         .argument = "N",
         .help = "seed of the split; must be the one of the training"},
        {.name = "stride",
         .type = CLI_UINT,
         .value = &d->stride,
         .argument = "SAMPLES",
         .help = "grid samples between two windows",
         .low = 1,
         .high = 16384},
        {.name = "min-activity",
         .type = CLI_FLOAT,
         .value = &d->min_activity_w,
         .argument = "WATTS",
         .help =
             "windows that never reach this are off and not judged; the model's own when not given",
         .low = 0,
         .high = 1e6},
        {.name = "threads",
         .type = CLI_UINT,
         .value = &d->threads,
         .argument = "N",
         .help = "threads; 0: one per processor",
         .low = 0,
         .high = 8},
        {.name = "confusion",
         .type = CLI_FLAG,
         .value = &e->confusion,
         .help = "also the confusion table"},
        {.name = "files",
         .type = CLI_FLAG,
         .value = &e->files,
         .help = "only list the files of this part: class, tab, path"},
        {.name = "json", .type = CLI_FLAG, .value = &e->json, .help = "one JSON object"},
        {.name = "quiet", .type = CLI_FLAG, .value = &e->quiet, .help = "no progress"},
        {.name = NULL}};
    struct cli_command command = {.name = "eval",
                                  .usage = "--model FILE --data DIR [options]",
                                  .summary =
                                      "Classifies the windows of labelled traces and reports "
                                      "accuracy, F1, loss, size and latency.",
                                  .options = options};
    int rc = cli_parse(&command, argc, argv);
    d->split = (enum dataset_split)split;
    d->part = (enum dataset_part)(split != SPLIT_NONE && !options[3].given ? PART_TEST : part);
    if (rc == CLI_RUN && split == SPLIT_NONE && part != PART_ALL)
        return cli_fail(CLI_USAGE, "eval: --part %s needs --split", parts[part]);
    if (!options[6].given)
        d->min_activity_w = -1; /* the model's */
    return rc;
}

static int load(struct eval *e)
{
    char why[512];
    struct cli_progress progress = {0};
    struct stat status;
    int rc = model_decode_file(e->model_path, &e->model, why, sizeof why);
    if (rc < 0)
        return cli_fail(cli_code(rc), "eval: %s", why);
    e->size_bytes = stat(e->model_path, &status) == 0 ? (uint64_t)status.st_size : 0;
    struct dataset_options *d = &e->options;
    d->window = e->model->window;
    d->period_ms = e->model->period_ms;
    d->min_traces = 0;
    d->labels = e->model->labels;
    d->label_count = e->model->class_count;
    if (d->min_activity_w < 0 && e->model->min_activity_w > 0) {
        d->min_activity_w = e->model->min_activity_w;
    } else if (d->min_activity_w < 0) {
        struct dataset_options preset;
        dataset_defaults(&preset);
        d->min_activity_w = preset.min_activity_w;
    }
    if (!e->quiet) {
        d->progress = cli_progress_files;
        d->context = &progress;
    }
    rc = dataset_load(e->data, d, &e->dataset, why, sizeof why);
    if (rc < 0)
        return cli_fail(cli_code(rc), "eval: %s", why);
    if (e->dataset->window_count == 0)
        return cli_fail(CLI_FAILED,
                        "eval: %s: no window of a class that the model knows (%zu files, %zu "
                        "windows of other classes)",
                        e->data, e->dataset->files, e->dataset->unknown_windows);
    return CLI_DONE;
}

/* A file with a long hole has several traces, one after the other; classes that the model does not
 * know are left out. */
static void print_files(const struct eval *e)
{
    const char *last = "";
    for (size_t i = 0; i < e->dataset->trace_count; i++) {
        const struct dataset_trace *t = &e->dataset->traces[i];
        if (t->label < e->dataset->class_count && strcmp(t->path, last) != 0)
            printf("%s\t%s\n", e->dataset->labels[t->label], t->path);
        last = t->path;
    }
}

static int evaluate(struct eval *e)
{
    char why[256] = "out of memory";
    struct runner *probe = NULL; /* once, for the reason in words */
    int rc = runner_create(e->model, &probe, why, sizeof why);
    runner_free(probe);
    if (rc == 0)
        rc = predict_all(e);
    if (rc == 0)
        rc = score(e);
    if (rc == 0)
        rc = measure_latency(e);
    if (rc < 0)
        return cli_fail(cli_code(rc), "eval: %s: %s", e->model_path, why);
    return CLI_DONE;
}

int workshop_eval(int argc, char **argv)
{
    struct eval e = {0};
    dataset_defaults(&e.options);
    int code = parse(&e, argc, argv);
    if (code != CLI_RUN)
        return code;
    code = load(&e);
    if (code == CLI_DONE && e.files) {
        print_files(&e);
    } else {
        if (code == CLI_DONE)
            code = evaluate(&e);
        if (code == CLI_DONE && e.json)
            code = print_json(&e);
        else if (code == CLI_DONE)
            print_table(&e);
    }
    metrics_free(e.metrics);
    free(e.probabilities);
    dataset_free(e.dataset);
    model_free(e.model);
    return code;
}
