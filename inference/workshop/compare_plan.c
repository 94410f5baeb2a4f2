/* compare_plan.c - which stages the comparison has, and what they take. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/compare.h"
#include "inference/workshop/prune.h"
#include "inference/workshop/train_command.h"
#include "inference/workshop/workshop.h"

const char *const compare_criteria[] = {"l2", "l1", "random", "taylor", NULL};
const char *const compare_scopes[] = {"global", "local", NULL};

/* In the order of the article: magnitude first, what has to be beaten before what should win. */
static const enum prune_criterion order[] = {PRUNE_L1, PRUNE_L2, PRUNE_RANDOM, PRUNE_TAYLOR};
static const enum prune_scope scope_order[] = {PRUNE_LOCAL, PRUNE_GLOBAL};

/* --- Estimates: two cores of a current x86-64 server; the time left corrects itself by what the
 * stages took --- */

/* Windows of a day file of tracebase at the default stride, about. */
#define FILE_WINDOWS 75.0

static double windows_of(const struct compare *c, double share)
{
    return share * FILE_WINDOWS * (double)c->files;
}

static double load_seconds(const struct compare *c)
{
    return 0.3 + 0.004 * (double)c->files;
}

static double eval_seconds(const struct compare *c, double share, double macs)
{
    return windows_of(c, share) * (30e-6 + macs / 60e9);
}

/* Epochs with their validation, and the evaluation of both parts. teacher_macs: 0 without one. */
static double train_seconds(const struct compare *c, double epochs, double macs,
                            double teacher_macs)
{
    double windows = windows_of(c, 0.7);

    if (c->settings.epoch_windows && c->settings.epoch_windows < windows)
        windows = c->settings.epoch_windows;
    return load_seconds(c) + eval_seconds(c, 0.3, macs) +
           epochs *
               (windows * (40e-6 + macs / 25e9 + teacher_macs / 75e9) + eval_seconds(c, 0.1, macs));
}

/* --- Building --- */

static void push(struct compare *c, struct compare_stage *s, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void push(struct compare *c, struct compare_stage *s, const char *format, ...)
{
    va_list args;
    char *text = NULL;

    if (!s || c->rc)
        return;
    va_start(args, format);
    if (s->argc + 1 >= COMPARE_MAX_ARGS)
        c->rc = -E2BIG;
    else if (vasprintf(&text, format, args) < 0)
        c->rc = -ENOMEM;
    else
        s->argv[s->argc++] = text;
    va_end(args);
}

/* Extra words, separated by blanks. */
static void push_words(struct compare *c, struct compare_stage *s, const char *words)
{
    while (words && *(words += strspn(words, " "))) {
        const size_t n = strcspn(words, " ");
        push(c, s, "%.*s", (int)n, words);
        words += n;
    }
}

static struct compare_stage *add(struct compare *c, const char *name,
                                 int (*run)(int argc, char **argv), const char *command,
                                 double cost)
{
    struct compare_stage *s;

    if (!c->rc && c->stage_count == COMPARE_MAX_STAGES)
        c->rc = -E2BIG;
    if (c->rc)
        return NULL;
    s = &c->stages[c->stage_count++];
    memset(s, 0, sizeof(*s));
    (void)snprintf(s->name, sizeof(s->name), "%s", name);
    s->run = run;
    s->cost = cost;
    push(c, s, "%s", command);
    return s;
}

/* --model, --out, --data: in this order, so that commands read alike. */
static void push_files(struct compare *c, struct compare_stage *s, const struct compare_model *from,
                       int with_data, int makes_model)
{
    char path[COMPARE_PATH_BYTES];

    if (!s)
        return;
    if (from) {
        compare_model_path(c, from, path);
        push(c, s, "--model");
        push(c, s, "%s", path);
    }
    if (with_data) {
        push(c, s, "--data");
        push(c, s, "%s", c->settings.data);
    }
    s->makes_model = makes_model;
    if (!makes_model)
        return;
    compare_stage_path(c, s, "nilm", path);
    push(c, s, "--out");
    push(c, s, "%s", path);
}

/* What was pruned learns from what it was. */
static void push_teacher(struct compare *c, struct compare_stage *s)
{
    char path[COMPARE_PATH_BYTES];

    compare_model_path(c, &c->models[0], path);
    push(c, s, "--teacher");
    push(c, s, "%s", path);
}

static void push_end(struct compare *c, struct compare_stage *s, uint64_t seed)
{
    push(c, s, "--seed");
    push(c, s, "%llu", (unsigned long long)seed);
    push(c, s, "--json");
    push(c, s, "--quiet");
}

static void push_split(struct compare *c, struct compare_stage *s)
{
    push(c, s, "--split");
    push(c, s, "%s", train_splits[c->settings.split]);
    push(c, s, "--split-seed");
    push(c, s, "%llu", (unsigned long long)c->settings.split_seed);
}

static struct compare_model *add_model(struct compare *c, const char *kind, const char *name,
                                       const struct compare_model *like)
{
    struct compare_model *m;

    if (!c->rc && c->model_count == COMPARE_MAX_MODELS)
        c->rc = -E2BIG;
    if (c->rc)
        return NULL;
    m = &c->models[c->model_count++];
    *m = (struct compare_model){.criterion = -1, .scope = -1};
    if (like) {
        m->criterion = like->criterion;
        m->scope = like->scope;
        m->ratio = like->ratio;
        m->share = like->share;
    }
    m->kind = kind;
    (void)snprintf(m->name, sizeof(m->name), "%s", name);
    m->maker = m->reporter = c->stage_count - 1;
    m->valid = m->test = -1;
    return m;
}

/* Evaluates a model of its own on a part. Returns the stage's number. */
static int add_eval(struct compare *c, const struct compare_model *m, const char *part, double macs)
{
    char name[COMPARE_NAME_BYTES];
    struct compare_stage *s;
    const double share = !strcmp(part, "valid") ? 0.1 : 0.2;

    if (!m)
        return -1;
    (void)snprintf(name, sizeof(name), "eval-%s-%s", part, m->name);
    s = add(c, name, workshop_eval, "eval", load_seconds(c) * share + eval_seconds(c, share, macs));
    push_files(c, s, m, 1, 0);
    push_split(c, s);
    push(c, s, "--part");
    push(c, s, "%s", part);
    push(c, s, "--confusion");
    push(c, s, "--json");
    push(c, s, "--quiet");
    return c->stage_count - 1;
}

static void add_evals(struct compare *c, struct compare_model *m, double macs)
{
    if (!m)
        return;
    m->valid = add_eval(c, m, "valid", macs);
    m->test = add_eval(c, m, "test", macs);
}

/* INT8 of a model; aware: with the integers fine-tuned. */
static struct compare_model *add_quantized(struct compare *c, const struct compare_model *from,
                                           const char *kind, const char *name, double macs,
                                           int aware)
{
    const struct compare_settings *o = &c->settings;
    double cost = load_seconds(c) + 2048 * (100e-6 + macs / 10e9) + c->base_params * 60e-6 +
                  2 * eval_seconds(c, 0.3, macs);
    struct compare_stage *s;
    struct compare_model *m;

    if (aware) /* forward in integers, as floats, and the FP32 model as teacher */
        cost += 1.6 * train_seconds(c, o->qat_epochs, macs, macs);
    s = from ? add(c, name, workshop_quantize, "quantize", cost) : NULL;
    push_files(c, s, from, 1, 1);
    push(c, s, "--calibration");
    push(c, s, "mse");
    push_words(c, s, o->quantize_options);
    if (aware) {
        push(c, s, "--qat");
        push(c, s, "--epochs");
        push(c, s, "%u", o->qat_epochs);
        push(c, s, "--epoch-windows");
        push(c, s, "%u", o->epoch_windows);
        push_words(c, s, o->qat_options);
    }
    push_end(c, s, o->seed);
    m = add_model(c, kind, name, from);
    add_evals(c, m, macs);
    return m;
}

static void add_base(struct compare *c)
{
    const struct compare_settings *o = &c->settings;
    struct compare_model *m;

    if (!o->base) {
        struct compare_stage *s = add(c, "base-fp32", workshop_train, "train",
                                      train_seconds(c, o->epochs, c->base_macs, 0));
        push_files(c, s, NULL, 1, 1);
        push_split(c, s);
        push(c, s, "--epochs");
        push(c, s, "%u", o->epochs);
        push(c, s, "--epoch-windows");
        push(c, s, "%u", o->epoch_windows);
        push_words(c, s, o->train_options);
        push_end(c, s, o->seed);
    }
    m = add_model(c, "base", "base-fp32", NULL);
    if (m && o->base)
        m->maker = m->reporter = -1;
    add_evals(c, m, c->base_macs);
    add_quantized(c, m, "base_int8", "base-int8", c->base_macs, 0);
}

static void add_sweep(struct compare *c)
{
    const struct compare_settings *o = &c->settings;
    const double points = 8 * COMPARE_SWEEP_STEPS;
    struct compare_stage *s;

    s = add(c, "sweep", compare_sweep, "compare-sweep",
            load_seconds(c) * 0.8 +
                points * (double)o->sweep_windows * (15e-6 + c->base_macs / 120e9) +
                2 * COMPARE_SWEEP_STEPS * o->taylor_windows * (100e-6 + c->base_macs / 4e9));
    push_files(c, s, &c->models[0], 1, 0);
    push_split(c, s);
    push(c, s, "--windows");
    push(c, s, "%u", o->sweep_windows);
    push(c, s, "--taylor-windows");
    push(c, s, "%u", o->taylor_windows);
    push_end(c, s, o->seed);
}

/* A base with channels cut out, at a ratio of its channels or (ratio 0) a share of its parameters;
 * then fine-tuned. */
static struct compare_model *add_pruned(struct compare *c, const struct compare_model *like,
                                        const char *kind, const char *label, uint32_t epochs)
{
    const struct compare_settings *o = &c->settings;
    const double left = like->share > 0 ? like->share : 1.0 - like->ratio;
    const double macs = c->base_macs * left;
    char name[COMPARE_NAME_BYTES];
    const struct compare_model cut = {.maker = c->stage_count, .criterion = like->criterion};
    const char *criterion = like->criterion < 0 ? "CRITERION" : compare_criteria[like->criterion];
    const char *scope = like->scope < 0 ? "SCOPE" : compare_scopes[like->scope];
    struct compare_stage *s;

    (void)snprintf(name, sizeof(name), "cut-%s", label);
    s = add(c, name, workshop_prune, "prune",
            like->criterion == PRUNE_TAYLOR ? load_seconds(c) * 0.7 + 1.5 : 0.05);
    push_files(c, s, &c->models[0], like->criterion == PRUNE_TAYLOR, 1);
    push(c, s, "--criterion");
    push(c, s, "%s", criterion);
    push(c, s, "--scope");
    push(c, s, "%s", scope);
    push(c, s, like->share > 0 ? "--target-params" : "--ratio");
    if (like->share > 0)
        push(c, s, "%.0f", floor(like->share * c->base_params));
    else
        push(c, s, "%g", like->ratio);
    if (like->criterion == PRUNE_TAYLOR) {
        push(c, s, "--windows");
        push(c, s, "%u", o->taylor_windows);
    }
    push_words(c, s, o->prune_options);
    push_end(c, s, o->seed);

    (void)snprintf(name, sizeof(name), "%s-fp32", label);
    s = add(c, name, workshop_finetune, "finetune", train_seconds(c, epochs, macs, c->base_macs));
    push_files(c, s, &cut, 1, 1);
    push_split(c, s);
    push(c, s, "--epochs");
    push(c, s, "%u", epochs);
    push(c, s, "--epoch-windows");
    push(c, s, "%u", o->epoch_windows);
    push_teacher(c, s);
    if (!strcmp(kind, "pruned")) { /* there is time to go far and come back */
        push(c, s, "--rate");
        push(c, s, "0.004");
    }
    push_words(c, s, o->finetune_options);
    push_end(c, s, o->seed + 1);
    return add_model(c, kind, name, like);
}

void compare_plan_first(struct compare *c)
{
    add_base(c);
    if (c->rc)
        return;
    add_sweep(c);
    for (int r = 0; r <= c->ratio_count; r++) {
        const int same_size = r == c->ratio_count; /* last: all at one size, which decides */
        for (int i = 0; i < 8; i++) {
            struct compare_model like = {.criterion = (int)order[i / 2],
                                         .scope = (int)scope_order[i % 2],
                                         .ratio = same_size ? 0.0 : c->ratios[r],
                                         .share = same_size ? c->shares[c->share_count / 2] : 0.0};
            char label[COMPARE_NAME_BYTES];
            (void)snprintf(label, sizeof(label), "%s-%s-%s%.0f", compare_criteria[like.criterion],
                           compare_scopes[like.scope], same_size ? "size" : "ratio",
                           100.0 * (same_size ? like.share : like.ratio));
            add_pruned(c, &like, same_size ? "candidate" : "pruned_short", label,
                       c->settings.short_epochs);
        }
    }
    c->first_count = c->stage_count;
}

static void add_latency(struct compare *c)
{
    const struct compare_settings *o = &c->settings;
    struct compare_stage *s =
        add(c, "latency", compare_latency, "compare-latency",
            0.3 + c->model_count * (o->latency_rounds + 1.0) * (o->latency_ms * 1e-3));

    push(c, s, "--rounds");
    push(c, s, "%u", o->latency_rounds);
    push(c, s, "--round-ms");
    push(c, s, "%u", o->latency_ms);
    for (int i = 0; i < c->model_count; i++) {
        char path[COMPARE_PATH_BYTES];
        compare_model_path(c, &c->models[i], path);
        push(c, s, "%s", path);
    }
}

void compare_plan_second(struct compare *c)
{
    for (int i = 0; i < c->share_count && !c->rc; i++) {
        const struct compare_model like = {
            .criterion = c->chosen_criterion, .scope = c->chosen_scope, .share = c->shares[i]};
        const double macs = c->base_macs * c->shares[i];
        char label[COMPARE_NAME_BYTES], name[COMPARE_NAME_BYTES];
        (void)snprintf(label, sizeof(label), "pruned%.0f", 100.0 * c->shares[i]);
        struct compare_model *m =
            add_pruned(c, &like, "pruned", label, c->settings.finetune_epochs);
        add_evals(c, m, macs);
        (void)snprintf(name, sizeof(name), "%s-int8", label);
        add_quantized(c, m, "pruned_int8", name, macs, 0);
        (void)snprintf(name, sizeof(name), "%s-int8-aware", label);
        add_quantized(c, m, "pruned_int8_aware", name, macs, 1);
    }
    add_latency(c);
}

void compare_plan_clear(struct compare *c, int from, int models)
{
    for (int i = from; i < c->stage_count; i++)
        for (int k = 0; k < c->stages[i].argc; k++)
            free(c->stages[i].argv[k]);
    if (c->stage_count > from)
        c->stage_count = from;
    if (c->model_count > models)
        c->model_count = models;
}

double compare_plan_cost(const struct compare *c)
{
    double sum = 0;

    for (int i = 0; i < c->stage_count; i++)
        sum += c->stages[i].cost;
    return sum;
}

/* Cost of the whole with epochs scaled by factor. */
static double scaled_cost(struct compare *c, const struct compare_settings *full, double factor)
{
    struct compare_settings *o = &c->settings;
    double sum;

    o->epochs = (uint32_t)fmax(1.0, floor(full->epochs * factor));
    o->short_epochs = (uint32_t)fmax(1.0, floor(full->short_epochs * factor));
    o->finetune_epochs = (uint32_t)fmax(1.0, floor(full->finetune_epochs * factor));
    o->qat_epochs = (uint32_t)fmax(1.0, floor(full->qat_epochs * factor));
    compare_plan_first(c);
    compare_plan_second(c);
    sum = compare_plan_cost(c);
    compare_plan_clear(c, 0, 0);
    return sum;
}

int compare_plan_budget(struct compare *c, double budget, double *least)
{
    const struct compare_settings full = c->settings;
    double low = 0.0, high = 8.0;

    *least = scaled_cost(c, &full, 0.0);
    for (int i = 0; i < 30 && !c->rc; i++) {
        double middle = (low + high) / 2;
        if (scaled_cost(c, &full, middle) <= budget)
            low = middle;
        else
            high = middle;
    }
    (void)scaled_cost(c, &full, low);
    if (c->rc)
        return c->rc;
    return *least > budget ? -ERANGE : 0;
}
