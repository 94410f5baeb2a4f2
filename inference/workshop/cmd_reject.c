/* cmd_reject.c - nilm-model reject: puts the threshold of unknown where networks that were trained
 * without some classes put it, and says what it does.
 *
 * The threshold itself does not travel from network to network (each is sure in its own way); what
 * travels is the share of known windows that it costs. It is chosen on the validation part, the
 * figures are of the test part.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/convert.h"
#include "inference/workshop/evaluate.h"
#include "inference/workshop/reject.h"
#include "inference/workshop/reject_tally.h"
#include "inference/workshop/runner.h"
#include "inference/workshop/train_command.h"
#include "inference/workshop/workshop.h"

enum { MAX_FOLDS = 32, WITHOUT_BYTES = 2048 };

/* Both kinds of windows of a part, by every score. */
struct sets {
    struct reject_set known[REJECT_SCORES], unknown[REJECT_SCORES];
};

struct figures {
    double auroc[REJECT_SCORES], unknown_rejected[REJECT_SCORES], known_rejected;
};

struct fold {
    const char *path;
    char without[WITHOUT_BYTES];
    struct model *model;
    struct sets valid;
    float threshold; /* of the largest probability */
    struct figures test;
    double transfer_loss, transfer_unknown; /* with the share that the other networks choose */
};

struct request {
    const char *dir, *model, *out;
    const char *folds[MAX_FOLDS];
    float known_loss, most_loss;
    int loss_given, json, quiet;
    uint32_t threads;
};

struct work {
    const struct request *request;
    struct fold folds[MAX_FOLDS];
    size_t fold_count;
    double loss, youden;
    struct reject_tally tally; /* of the folds' classes in their test part */
    struct model *target;
    float threshold;
    double target_auroc[REJECT_SCORES]; /* of its known test windows against all unknown ones */
    double target_known; /* share of its known test windows rejected, a class counts once */
    uint64_t target_windows, target_rejected; /* the same in windows */
    struct reject_tally target_tally;         /* of all windows of classes that it does not know */
    char why[512];
};

/* --- one part of one network --- */

static int is_listed(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = list; *p;) {
        size_t length = strcspn(p, ",");
        if (length == n && memcmp(p, name, n) == 0)
            return 1;
        p += length + (p[length] == ',');
    }
    return 0;
}

/* Of the unknown windows those that play the unknown stay: of the classes that this training left
 * out. */
static void keep_listed(struct dataset *d, const char *without)
{
    size_t kept = 0;
    for (size_t i = 0; i < d->unknown_windows; i++) {
        if (is_listed(without, d->unknown_labels[d->unknown[i].label]))
            d->unknown[kept++] = d->unknown[i];
    }
    d->unknown_windows = kept;
}

/* without: which unknown classes count; NULL: all. */
static int load_part(const struct request *r, const struct model *m, enum dataset_part part,
                     const char *without, struct dataset **out, char *why, size_t why_size)
{
    struct dataset_options o;
    struct cli_progress progress = {.what = "loading"};
    train_command_options(m, &o);
    if (o.split == SPLIT_NONE) {
        snprintf(why, why_size,
                 "the model's record names no split: no validation part to choose on");
        return -EINVAL;
    }
    o.part = part;
    o.keep_unknown = 1;
    o.threads = r->threads;
    if (!r->quiet) {
        o.progress = cli_progress_files;
        o.context = &progress;
    }
    int rc = dataset_load(r->dir, &o, out, why, why_size);
    if (rc == 0 && without)
        keep_listed(*out, without);
    return rc;
}

/* Scores of windows: out[s] [count], free() each, also after a failure. */
static int score_windows(const struct request *r, const struct model *m, const struct dataset *d,
                         const struct dataset_window *windows, size_t count,
                         float *out[REJECT_SCORES], char *why, size_t why_size)
{
    const uint32_t n = m->class_count;
    struct runner *runner = NULL;
    float *logits = malloc((count + 1) * n * sizeof *logits);
    float *p = malloc(n * sizeof *p);
    int rc = logits && p ? runner_create(m, &runner, why, why_size) : -ENOMEM;
    for (int s = 0; s < REJECT_SCORES; s++) {
        out[s] = malloc((count + 1) * sizeof **out);
        rc = out[s] ? rc : -ENOMEM;
    }
    if (rc == 0)
        rc = evaluate_windows(m, d, windows, count, r->threads, EVALUATE_LOGITS,
                              r->quiet ? NULL : "scoring windows", logits, why, why_size);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        runner_probabilities(runner, logits + i * n, 1, p);
        for (int s = 0; s < REJECT_SCORES; s++)
            out[s][i] = reject_score((enum reject_score)s, logits + i * n, p, n);
    }
    runner_free(runner);
    free(logits);
    free(p);
    return rc;
}

/* One kind of windows to sets; *probabilities, where wanted, keeps the first score (free()). */
static int make_sets(const struct request *r, const struct model *m, const struct dataset *d,
                     int unknown, struct reject_set sets[REJECT_SCORES], float **probabilities,
                     char *why, size_t why_size)
{
    const struct dataset_window *windows = unknown ? d->unknown : d->windows;
    size_t count = unknown ? d->unknown_windows : d->window_count;
    uint32_t classes = unknown ? d->unknown_class_count : d->class_count;
    float *scores[REJECT_SCORES] = {NULL};
    uint32_t *labels = malloc((count + 1) * sizeof *labels);
    int rc = labels ? score_windows(r, m, d, windows, count, scores, why, why_size) : -ENOMEM;
    for (size_t i = 0; rc == 0 && i < count; i++)
        labels[i] = windows[i].label;
    for (int s = 0; rc == 0 && s < REJECT_SCORES; s++)
        rc = reject_set_create(scores[s], labels, count, classes, &sets[s]);
    if (probabilities) {
        *probabilities = scores[REJECT_PROBABILITY];
        scores[REJECT_PROBABILITY] = NULL;
    }
    for (int s = 0; s < REJECT_SCORES; s++)
        free(scores[s]);
    free(labels);
    return rc;
}

static void free_sets(struct sets *s)
{
    for (int i = 0; i < REJECT_SCORES; i++) {
        reject_set_free(&s->known[i]);
        reject_set_free(&s->unknown[i]);
    }
}

/* --- the networks that were trained without some classes --- */

static int open_fold(struct work *w, struct fold *f)
{
    const struct request *r = w->request;
    struct dataset *d = NULL;
    int rc = model_decode_file(f->path, &f->model, w->why, sizeof w->why);
    if (rc < 0)
        return rc;
    if (model_meta(f->model, "without", f->without, sizeof f->without) != 0) {
        snprintf(w->why, sizeof w->why, "%s: expected a model of train --without", f->path);
        return -EINVAL;
    }
    rc = load_part(r, f->model, PART_VALID, f->without, &d, w->why, sizeof w->why);
    if (rc == 0 && (d->window_count == 0 || d->unknown_windows == 0)) {
        snprintf(w->why, sizeof w->why,
                 "%s: the validation part has %zu windows of its classes and %zu of those left out",
                 f->path, d->window_count, d->unknown_windows);
        rc = -EINVAL;
    }
    if (rc == 0)
        rc = make_sets(r, f->model, d, 0, f->valid.known, NULL, w->why, sizeof w->why);
    if (rc == 0)
        rc = make_sets(r, f->model, d, 1, f->valid.unknown, NULL, w->why, sizeof w->why);
    dataset_free(d);
    return rc;
}

/* skip: a network whose own data is not to decide; SIZE_MAX: none. */
static double choose_loss(const struct work *w, size_t skip, double *youden)
{
    struct reject_set known[MAX_FOLDS], unknown[MAX_FOLDS];
    const struct request *r = w->request;
    for (size_t i = 0; i < w->fold_count; i++) {
        known[i] = w->folds[i].valid.known[REJECT_PROBABILITY];
        unknown[i] = w->folds[i].valid.unknown[REJECT_PROBABILITY];
    }
    double least = r->loss_given ? (double)r->known_loss : 0;
    return reject_best_loss(known, unknown, w->fold_count, skip, least,
                            r->loss_given ? least : (double)r->most_loss, youden);
}

static int test_fold(struct work *w, size_t index)
{
    struct fold *f = &w->folds[index];
    struct dataset *d = NULL;
    struct sets test = {0};
    float *probabilities = NULL;
    int rc = load_part(w->request, f->model, PART_TEST, f->without, &d, w->why, sizeof w->why);
    if (rc == 0)
        rc = make_sets(w->request, f->model, d, 0, test.known, NULL, w->why, sizeof w->why);
    if (rc == 0)
        rc = make_sets(w->request, f->model, d, 1, test.unknown, &probabilities, w->why,
                       sizeof w->why);
    for (int s = 0; rc == 0 && s < REJECT_SCORES; s++) {
        float threshold = reject_threshold(&f->valid.known[s], w->loss);
        f->test.auroc[s] = reject_auroc(&test.known[s], &test.unknown[s]);
        f->test.unknown_rejected[s] = reject_share(&test.unknown[s], threshold);
        if (s == REJECT_PROBABILITY) {
            f->threshold = threshold;
            f->test.known_rejected = reject_share(&test.known[s], threshold);
        }
    }
    if (rc == 0) {
        double loss = w->fold_count > 1 ? choose_loss(w, index, NULL) : w->loss;
        float own = reject_threshold(&f->valid.known[REJECT_PROBABILITY], loss);
        f->transfer_loss = reject_share(&test.known[REJECT_PROBABILITY], own);
        f->transfer_unknown = reject_share(&test.unknown[REJECT_PROBABILITY], own);
        rc = reject_tally_add(&w->tally, d, probabilities, f->threshold);
    }
    free(probabilities);
    free_sets(&test);
    dataset_free(d);
    return rc;
}

static int run_folds(struct work *w)
{
    const struct request *r = w->request;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < w->fold_count; i++) {
        w->folds[i].path = r->folds[i];
        rc = open_fold(w, &w->folds[i]);
    }
    if (rc == 0)
        w->loss = w->fold_count ? choose_loss(w, SIZE_MAX, &w->youden) : (double)r->known_loss;
    for (size_t i = 0; rc == 0 && i < w->fold_count; i++)
        rc = test_fold(w, i);
    return rc;
}

/* --- the model that gets the threshold --- */

static int judge_target(struct work *w)
{
    const struct request *r = w->request;
    struct reject_set valid[REJECT_SCORES] = {{0}}, test[REJECT_SCORES] = {{0}},
                      unknown[REJECT_SCORES] = {{0}};
    struct dataset *d = NULL;
    float *probabilities = NULL;
    int rc = load_part(r, w->target, PART_VALID, NULL, &d, w->why, sizeof w->why);
    if (rc == 0)
        rc = make_sets(r, w->target, d, 0, valid, NULL, w->why, sizeof w->why);
    dataset_free(d);
    d = NULL;
    if (rc == 0) {
        w->threshold = reject_threshold(&valid[REJECT_PROBABILITY], w->loss);
        rc = load_part(r, w->target, PART_TEST, NULL, &d, w->why, sizeof w->why);
    }
    if (rc == 0)
        rc = make_sets(r, w->target, d, 0, test, &probabilities, w->why, sizeof w->why);
    if (rc == 0) {
        w->target_known = reject_share(&test[REJECT_PROBABILITY], w->threshold);
        w->target_windows = d->window_count;
        for (size_t i = 0; i < d->window_count; i++)
            w->target_rejected += probabilities[i] < w->threshold;
    }
    dataset_free(d);
    d = NULL;
    free(probabilities);
    probabilities = NULL;
    if (rc == 0) /* training saw nothing of them in any part */
        rc = load_part(r, w->target, PART_ALL, NULL, &d, w->why, sizeof w->why);
    if (rc == 0)
        rc = make_sets(r, w->target, d, 1, unknown, &probabilities, w->why, sizeof w->why);
    if (rc == 0)
        rc = reject_tally_add(&w->target_tally, d, probabilities, w->threshold);
    for (int s = 0; s < REJECT_SCORES; s++) {
        w->target_auroc[s] = reject_auroc(&test[s], &unknown[s]);
        reject_set_free(&valid[s]);
        reject_set_free(&test[s]);
        reject_set_free(&unknown[s]);
    }
    free(probabilities);
    dataset_free(d);
    return rc;
}

static int write_target(struct work *w, int argc, char **argv)
{
    char meta[TRAIN_META_BYTES], text[160];
    struct model m = *w->target;
    if (strlen(w->target->meta) >= sizeof meta)
        return -ENOSPC;
    snprintf(meta, sizeof meta, "%s", w->target->meta);
    snprintf(text, sizeof text, "threshold %.4f, known windows lost on the validation part %.3f",
             (double)w->threshold, w->loss);
    int rc = train_command_meta(meta, "reject", text);
    if (rc == 0)
        rc = train_command_meta_line(meta, "reject_command", argc, argv);
    m.meta = meta;
    m.owner = NULL;
    m.reject = w->threshold;
    return rc < 0 ? rc : convert_write(&m, w->request->out, NULL, w->why, sizeof w->why);
}

/* --- output --- */

static double mean(const struct work *w, double (*of)(const struct fold *, int), int s)
{
    double sum = 0;
    for (size_t i = 0; i < w->fold_count; i++)
        sum += of(&w->folds[i], s);
    return w->fold_count ? sum / (double)w->fold_count : 0;
}

static double auroc(const struct fold *f, int s)
{
    return f->test.auroc[s];
}

static double rejected(const struct fold *f, int s)
{
    return f->test.unknown_rejected[s];
}

static double lost(const struct fold *f, int s)
{
    (void)s;
    return f->test.known_rejected;
}

static double transfer_lost(const struct fold *f, int s)
{
    (void)s;
    return f->transfer_loss;
}

static double transfer_rejected(const struct fold *f, int s)
{
    (void)s;
    return f->transfer_unknown;
}

static cJSON *tally_json(const struct reject_tally *t)
{
    cJSON *list = cJSON_CreateArray();
    for (size_t i = 0; list && i < t->class_count; i++) {
        const struct reject_tally_class *c = &t->classes[i];
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", c->name);
        cJSON_AddNumberToObject(item, "windows", (double)c->windows);
        cJSON_AddNumberToObject(item, "rejected", (double)c->rejected);
        cJSON_AddNumberToObject(item, "devices", c->devices);
        cJSON_AddNumberToObject(item, "rejected_by_device", c->by_device);
        cJSON_AddItemToArray(list, item);
    }
    return list;
}

static void add_folds(const struct work *w, cJSON *o)
{
    cJSON *list = cJSON_AddArrayToObject(o, "folds");
    for (size_t i = 0; list && i < w->fold_count; i++) {
        const struct fold *f = &w->folds[i];
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "model", f->path);
        cJSON_AddStringToObject(item, "without", f->without);
        cJSON_AddNumberToObject(item, "threshold", (double)f->threshold);
        cJSON_AddNumberToObject(item, "auroc", f->test.auroc[REJECT_PROBABILITY]);
        cJSON_AddNumberToObject(item, "known_rejected", f->test.known_rejected);
        cJSON_AddNumberToObject(item, "unknown_rejected",
                                f->test.unknown_rejected[REJECT_PROBABILITY]);
        cJSON_AddItemToArray(list, item);
    }
    list = cJSON_AddArrayToObject(o, "scores");
    for (int s = 0; list && s < REJECT_SCORES; s++) {
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", reject_names[s]);
        cJSON_AddNumberToObject(item, "auroc", mean(w, auroc, s));
        cJSON_AddNumberToObject(item, "unknown_rejected", mean(w, rejected, s));
        cJSON_AddItemToArray(list, item);
    }
    cJSON_AddNumberToObject(o, "youden", w->youden);
    cJSON_AddNumberToObject(o, "known_rejected", mean(w, lost, 0));
    cJSON_AddNumberToObject(o, "unknown_rejected", mean(w, rejected, REJECT_PROBABILITY));
    cJSON_AddNumberToObject(o, "known_rejected_transfer", mean(w, transfer_lost, 0));
    cJSON_AddNumberToObject(o, "unknown_rejected_transfer", mean(w, transfer_rejected, 0));
    cJSON_AddItemToObject(o, "unknown", tally_json(&w->tally));
}

static int print_json(const struct work *w)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "known_loss", w->loss);
    if (w->fold_count)
        add_folds(w, o);
    if (w->target) {
        cJSON *t = cJSON_AddObjectToObject(o, "model");
        cJSON_AddStringToObject(t, "path", w->request->model);
        cJSON_AddNumberToObject(t, "threshold", (double)w->threshold);
        cJSON_AddNumberToObject(t, "auroc", w->target_auroc[REJECT_PROBABILITY]);
        cJSON_AddNumberToObject(t, "known_rejected", w->target_known);
        cJSON_AddNumberToObject(t, "windows", (double)w->target_windows);
        cJSON_AddNumberToObject(t, "rejected_windows", (double)w->target_rejected);
        cJSON_AddItemToObject(t, "unknown", tally_json(&w->target_tally));
    }
    return cli_print_json(o);
}

static void print_tally(const struct reject_tally *t)
{
    printf("  %-24s %8s %9s %8s %12s\n", "unknown class", "windows", "rejected", "devices",
           "by device");
    for (size_t i = 0; i < t->class_count; i++) {
        const struct reject_tally_class *c = &t->classes[i];
        printf("  %-24s %8llu %8.1f%% %8u %11.1f%%\n", c->name, (unsigned long long)c->windows,
               100 * (double)c->rejected / (double)c->windows, c->devices, 100 * c->by_device);
    }
}

static void print_folds(const struct work *w)
{
    printf("On test parts, a class counts once; thresholds from validation parts.\n");
    printf("  %-28s %9s %7s %14s %16s\n", "network", "threshold", "AUROC", "known rejected",
           "unknown rejected");
    for (size_t i = 0; i < w->fold_count; i++) {
        const struct fold *f = &w->folds[i];
        const char *slash = strrchr(f->path, '/');
        printf("  %-28.28s %9.3f %7.3f %13.1f%% %15.1f%%\n", slash ? slash + 1 : f->path,
               (double)f->threshold, f->test.auroc[REJECT_PROBABILITY],
               100 * f->test.known_rejected, 100 * f->test.unknown_rejected[REJECT_PROBABILITY]);
    }
    printf("  %-28s %9s %7.3f %13.1f%% %15.1f%%\n", "mean", "", mean(w, auroc, REJECT_PROBABILITY),
           100 * mean(w, lost, 0), 100 * mean(w, rejected, REJECT_PROBABILITY));
    if (w->fold_count > 1 && !w->request->loss_given)
        printf("  %-28s %9s %7s %13.1f%% %15.1f%%\n", "mean, chosen by the others", "", "",
               100 * mean(w, transfer_lost, 0), 100 * mean(w, transfer_rejected, 0));
    printf("By score, at the same loss of known validation windows:\n  %-28s %17s %16s\n", "score",
           "AUROC", "unknown rejected");
    for (int s = 0; s < REJECT_SCORES; s++)
        printf("  %-28s %17.3f %15.1f%%\n", reject_names[s], mean(w, auroc, s),
               100 * mean(w, rejected, s));
    print_tally(&w->tally);
}

static void print_text(const struct work *w)
{
    printf("known windows that unknown may cost: %.1f %%%s\n", 100 * w->loss,
           w->request->loss_given || !w->fold_count ? "" : ", where Youden's J is largest");
    if (w->fold_count)
        print_folds(w);
    if (!w->target)
        return;
    printf("%s: unknown below %.4f; of the known test windows %.1f %% are rejected (a class counts "
           "once: %.1f %%)\n",
           w->request->model, (double)w->threshold,
           w->target_windows ? 100 * (double)w->target_rejected / (double)w->target_windows : 0,
           100 * w->target_known);
    if (w->target_tally.class_count)
        print_tally(&w->target_tally);
}

/* --- the command --- */

static int run(const struct request *r, int argc, char **argv)
{
    struct work w = {.request = r};
    int code = CLI_DONE;
    while (w.fold_count < MAX_FOLDS && r->folds[w.fold_count])
        w.fold_count++;
    int rc = run_folds(&w);
    if (rc == 0 && r->model)
        rc = model_decode_file(r->model, &w.target, w.why, sizeof w.why);
    if (rc == 0 && r->model)
        rc = judge_target(&w);
    if (rc == 0 && r->out)
        rc = write_target(&w, argc, argv);
    if (rc < 0)
        code = cli_fail(cli_code(rc), "reject: %s",
                        rc == -ENOMEM ? "out of memory"
                        : w.why[0]    ? w.why
                                      : strerror(-rc));
    else if (r->json)
        code = print_json(&w);
    else
        print_text(&w);
    for (size_t i = 0; i < w.fold_count; i++) {
        free_sets(&w.folds[i].valid);
        model_free(w.folds[i].model);
    }
    reject_tally_free(&w.tally);
    reject_tally_free(&w.target_tally);
    model_free(w.target);
    return code;
}

int workshop_reject(int argc, char **argv)
{
    struct request r = {.known_loss = 0.05f, .most_loss = 0.1f};
    struct cli_option options[] = {
        {"data", CLI_STRING, &r.dir, "DIR", "the traces that all of these models were trained on",
         0, 0, NULL, 1, 0},
        {"known-loss", CLI_FLOAT, &r.known_loss, "X",
         "share of known windows that unknown may cost; when not given and there are networks to "
         "learn from, what their validation parts show as best",
         0, 0.5, NULL, 0, 0},
        {"most-loss", CLI_FLOAT, &r.most_loss, "X", "the most that may be found best", 0, 0.5, NULL,
         0, 0},
        {"model", CLI_STRING, &r.model, "FILE", "the model that is to get a threshold", 0, 0, NULL,
         0, 0},
        {"out", CLI_STRING, &r.out, "FILE", "where it goes with its threshold", 0, 0, NULL, 0, 0},
        {"threads", CLI_UINT, &r.threads, "N", "0: one per processor", 0, 64, NULL, 0, 0},
        {"quiet", CLI_FLAG, &r.quiet, NULL, "no progress on standard error", 0, 0, NULL, 0, 0},
        {"json", CLI_FLAG, &r.json, NULL, "report as one JSON object", 0, 0, NULL, 0, 0},
        {0}};
    struct cli_command command = {
        .name = "reject",
        .usage = "--data DIR [--model FILE --out FILE] [WITHOUT.nilm ...]",
        .summary =
            "Calibrates the threshold below which a window is unknown, with networks of train "
            "--without: the classes that they have not seen play the unknown. Chosen on the "
            "validation part, reported on the test part; the same share of known windows is then "
            "granted in the model that gets the threshold.",
        .options = options,
        .positional = "models of train --without",
        .positional_max = MAX_FOLDS,
        .positional_values = r.folds};
    int code = cli_parse(&command, argc, argv);
    if (code != CLI_RUN)
        return code;
    r.loss_given = options[1].given;
    if ((r.out && !r.model) || (!r.model && !r.folds[0]))
        return cli_fail(CLI_USAGE, "reject: expected models of train --without, or --model, or "
                                   "both; --out goes with --model");
    return run(&r, argc, argv);
}
