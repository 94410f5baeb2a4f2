/* cmd_eval.c - nilm-model eval: a model against labelled traces. The output's keys are a contract
 * (DESIGN.md "Programs"). */
#include "inference/workshop/cli.h"
#include "inference/workshop/evaluate.h"
#include "inference/workshop/train_command.h"
#include "inference/workshop/workshop.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct eval {
    const char *model_path, *data, *reference_path;
    int json, confusion, quiet, files;
    struct dataset_options options;
    struct model *model, *reference;
    struct dataset *dataset;
    struct evaluation result;
    double window_us, hop_us, same; /* same: share of windows with the reference's first class */
    uint64_t size_bytes;
};

/* --- output --- */

/* A number in JSON with a few decimals: through text, since 0.1 is no double. */
static void add_decimal(cJSON *object, const char *key, double value, int decimals)
{
    char text[64];
    snprintf(text, sizeof text, "%.*f", decimals, value);
    cJSON_AddRawToObject(object, key, text);
}

static uint64_t count_unknown(const struct eval *e, uint32_t class)
{
    uint64_t n = 0;
    for (size_t i = 0; i < e->dataset->unknown_windows; i++)
        n += e->dataset->unknown[i].label == class;
    return n;
}

static void add_confusion(const struct eval *e, cJSON *object)
{
    uint32_t n = e->result.metrics->class_count;
    cJSON *rows = cJSON_AddArrayToObject(object, "confusion");
    for (uint32_t t = 0; rows && t < n; t++) {
        cJSON *row = cJSON_CreateArray();
        for (uint32_t p = 0; row && p < n; p++)
            cJSON_AddItemToArray(
                row, cJSON_CreateNumber(e->result.metrics->confusion[(size_t)t * n + p]));
        cJSON_AddItemToArray(rows, row);
    }
}

static const char *const parts[] = {"train", "valid", "test", "all", NULL};

/* The classes that the model does not know, by their windows. */
static void add_unknown(const struct eval *e, cJSON *object)
{
    cJSON *list = cJSON_AddArrayToObject(object, "unknown");
    for (uint32_t c = 0; list && c < e->dataset->unknown_class_count; c++) {
        uint64_t windows = count_unknown(e, c);
        if (windows == 0)
            continue;
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", e->dataset->unknown_labels[c]);
        cJSON_AddNumberToObject(item, "windows", (double)windows);
        cJSON_AddNumberToObject(item, "rejected", (double)e->result.unknown_rejected_by_class[c]);
        cJSON_AddItemToArray(list, item);
    }
}

/* The reliability diagram behind `ece`: bins that hold windows. */
static void add_reliability(const struct eval *e, cJSON *object)
{
    cJSON *list = cJSON_AddArrayToObject(object, "reliability");
    for (int i = 0; list && i < METRICS_BINS; i++) {
        const struct metrics_bin *bin = &e->result.metrics->bins[i];
        if (bin->windows == 0)
            continue;
        cJSON *item = cJSON_CreateObject();
        add_decimal(item, "to", (double)(i + 1) / METRICS_BINS, 6);
        cJSON_AddNumberToObject(item, "windows", (double)bin->windows);
        add_decimal(item, "confidence", bin->confidence, 6);
        add_decimal(item, "accuracy", bin->accuracy, 6);
        cJSON_AddItemToArray(list, item);
    }
}

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
    const struct metrics *m = e->result.metrics;
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
    add_decimal(o, "ece", m->ece, 6);
    if (e->model->head == MODEL_SIGMOID)
        add_decimal(o, "on_f1_macro", m->on_f1_macro, 6);
    if (e->reference)
        add_decimal(o, "same_first_class", e->same, 6);
    cJSON_AddNumberToObject(o, "parameters", (double)model_parameters(e->model));
    cJSON_AddNumberToObject(o, "macs", (double)model_macs(e->model));
    cJSON_AddNumberToObject(o, "size_bytes", (double)e->size_bytes);
    add_decimal(o, "latency_us", e->window_us, 2);
    add_decimal(o, "hop_us", e->hop_us, 2);
    cJSON_AddNumberToObject(o, "hop_samples", e->model->hop);
    cJSON_AddNumberToObject(o, "unknown_windows", (double)e->dataset->unknown_windows);
    cJSON_AddNumberToObject(o, "unknown_rejected", (double)e->result.unknown_rejected);
    cJSON_AddNumberToObject(o, "rejected_windows", (double)e->result.rejected);
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
        cJSON_AddNumberToObject(item, "devices", e->result.devices[c]);
        if (e->model->head == MODEL_SIGMOID)
            add_decimal(item, "on_f1", k->on_f1, 6);
        if (e->dataset->mix) {
            add_decimal(item, "threshold", k->threshold, 3);
            add_decimal(item, "best_threshold", k->best_threshold, 3);
            add_decimal(item, "best_f1", k->best_f1, 6);
            add_decimal(item, "average_precision", k->average_precision, 6);
            add_decimal(item, "share", k->prevalence, 6);
        }
        cJSON_AddItemToArray(list, item);
        present += k->support > 0;
    }
    cJSON_AddNumberToObject(o, "classes_present", present);
    add_unknown(e, o);
    add_reliability(e, o);
    if (e->confusion)
        add_confusion(e, o);
    return cli_print_json(o);
}

static void print_confusion(const struct eval *e)
{
    const struct metrics *m = e->result.metrics;
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

static void print_unknown(const struct eval *e)
{
    printf("%zu windows of classes that the model does not know, %.1f %% of them below it:\n",
           e->dataset->unknown_windows,
           100 * (double)e->result.unknown_rejected / (double)e->dataset->unknown_windows);
    for (uint32_t c = 0; c < e->dataset->unknown_class_count; c++) {
        uint64_t windows = count_unknown(e, c);
        if (windows)
            printf("  %-24s %6llu %6.1f %%\n", e->dataset->unknown_labels[c],
                   (unsigned long long)windows,
                   100 * (double)e->result.unknown_rejected_by_class[c] / (double)windows);
    }
}

static void print_cost(const struct eval *e)
{
    printf(
        "%llu bytes, %llu parameters, %llu multiplications a window; %.1f us a window, %.1f us a "
        "hop of %u samples\n",
        (unsigned long long)e->size_bytes, (unsigned long long)model_parameters(e->model),
        (unsigned long long)model_macs(e->model), e->window_us, e->hop_us, e->model->hop);
}

/* Of a sum: each class by itself. A guess has the class's share of the windows as its average
 * precision. */
static void print_sets(const struct eval *e)
{
    const struct metrics *m = e->result.metrics;
    double ap = 0;
    uint32_t present = 0;
    printf("%-26s %9s %9s %9s %9s %9s %9s %9s %9s %9s\n", "class", "threshold", "precision",
           "recall", "f1", "best at", "best f1", "ap", "share", "windows");
    for (uint32_t c = 0; c < m->class_count; c++) {
        const struct metrics_class *k = &m->classes[c];
        printf("%3u %-22.22s %9.3f %9.3f %9.3f %9.3f %9.3f %9.3f %9.3f %9.4f %9llu\n", c,
               e->model->labels[c], k->threshold, k->precision, k->recall, k->f1, k->best_threshold,
               k->best_f1, k->average_precision, k->prevalence, (unsigned long long)k->support);
        ap += k->average_precision;
        present += k->support > 0;
    }
    printf("\n%llu windows of days mixed from %zu files%s\n", (unsigned long long)m->windows,
           e->dataset->files, is_unseen(e) ? "" : ", not known to be unseen");
    printf("F1 macro %.4f   average precision macro %.4f   accuracy %.4f   BCE %.4f\n", m->f1_macro,
           present ? ap / present : 0, m->accuracy, m->bce);
    print_cost(e);
}

static void print_table(const struct eval *e)
{
    const struct metrics *m = e->result.metrics;
    if (e->dataset->mix) {
        print_sets(e);
        return;
    }
    printf("%-26s %9s %9s %9s %9s %9s\n", "class", "precision", "recall", "f1", "support",
           "devices");
    for (uint32_t c = 0; c < m->class_count; c++) {
        const struct metrics_class *k = &m->classes[c];
        if (k->support > 0)
            printf("%3u %-22.22s %9.3f %9.3f %9.3f %9llu %9u\n", c, e->model->labels[c],
                   k->precision, k->recall, k->f1, (unsigned long long)k->support,
                   e->result.devices[c]);
        else
            printf("%3u %-22.22s %9s %9s %9s %9s %9s\n", c, e->model->labels[c], "-", "-", "-", "0",
                   "0");
    }
    printf("\n%llu windows of %zu files, %llu of them below the reject threshold %.3f\n",
           (unsigned long long)m->windows, e->dataset->files,
           (unsigned long long)e->result.rejected, (double)e->model->reject);
    if (e->dataset->unknown_windows)
        print_unknown(e);
    if (e->dataset->skipped_files || e->dataset->ambiguous_files || e->dataset->bad_lines)
        printf("left out: %zu unreadable files, %zu filed under several classes, %llu bad lines\n",
               e->dataset->skipped_files, e->dataset->ambiguous_files,
               (unsigned long long)e->dataset->bad_lines);
    if (e->options.split == SPLIT_RANDOM)
        printf("weak: windows of one day are on both sides of a random split\n");
    else if (!is_unseen(e))
        printf("not known to be unseen: the model's record does not say that training left these "
               "traces out\n");
    printf("accuracy %.4f   F1 macro %.4f   F1 weighted %.4f   BCE %.4f   cross-entropy %.4f   "
           "calibration error %.4f\n",
           m->accuracy, m->f1_macro, m->f1_weighted, m->bce, m->cross_entropy, m->ece);
    if (e->model->head == MODEL_SIGMOID)
        printf("F1 macro of each class by itself, on from 0.5: %.4f\n", m->on_f1_macro);
    if (e->reference)
        printf("the same first class as %s on %.2f %% of the windows\n", e->reference_path,
               100 * e->same);
    print_cost(e);
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
        {.name = "reference",
         .type = CLI_STRING,
         .value = &e->reference_path,
         .argument = "FILE",
         .help =
             "another model, of the same window and grid: on how many windows both name the same "
             "class first"},
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
                                      "accuracy, F1, loss, calibration, what becomes of unknown "
                                      "classes, size and latency.",
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
    if (e->reference_path) {
        rc = model_decode_file(e->reference_path, &e->reference, why, sizeof why);
        if (rc < 0)
            return cli_fail(cli_code(rc), "eval: %s", why);
    }
    e->size_bytes = stat(e->model_path, &status) == 0 ? (uint64_t)status.st_size : 0;
    struct dataset_options *d = &e->options, mine;
    evaluate_options(e->model, &mine);
    mine.split = d->split;
    mine.part = d->part;
    mine.split_seed = d->split_seed;
    mine.stride = d->stride;
    mine.threads = d->threads;
    mine.keep_unknown = 1;
    if (d->min_activity_w >= 0)
        mine.min_activity_w = d->min_activity_w;
    *d = mine;
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
    char why[256] = "";
    const char *path = e->model_path;
    uint32_t threads = e->options.threads;
    int rc = evaluate_run(e->model, e->dataset, threads, e->quiet, &e->result, why, sizeof why);
    if (rc == 0)
        rc = evaluate_latency(e->model, e->dataset, &e->window_us, &e->hop_us);
    if (rc == 0 && e->reference) {
        path = e->reference_path;
        rc = evaluate_agreement(e->model, &e->result, e->reference, e->dataset, threads, e->quiet,
                                &e->same, why, sizeof why);
    }
    if (rc < 0)
        return cli_fail(cli_code(rc), "eval: %s: %s", path, why[0] ? why : "out of memory");
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
    evaluate_free(&e.result);
    dataset_free(e.dataset);
    model_free(e.model);
    model_free(e.reference);
    return code;
}
