/* compare_result.c - what came of the comparison, as one JSON object (SPEC.md 7.20). */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "inference/model.h"
#include "inference/workshop/compare.h"
#include "inference/workshop/train_command.h"

/* What is known of the article's figures. */
static const struct article {
    const char *kind;
    double f1, size_mb, smaller, faster;
} article[] = {
    {"base", 0.68, 0.83, NAN, NAN},
    {"pruned_int8", 0.63, 0.11, 0.87, 0.65},
};

static double number(const cJSON *o, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, key);

    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

/* Rounded to a few decimals. NAN: left out. */
static void put(cJSON *o, const char *key, double value, int decimals)
{
    char text[64];

    if (!isfinite(value))
        return;
    (void)snprintf(text, sizeof(text), "%.*f", decimals, value);
    cJSON_AddNumberToObject(o, key, strtod(text, NULL));
}

/* Figures of a model on a part: of its evaluation, or of what its maker reported. NULL: none. */
static cJSON *read_figures(const struct compare *c, const struct compare_model *m, const char *part)
{
    const int own = !strcmp(part, "valid") ? m->valid : m->test;
    const int stage = own >= 0 ? own : m->reporter;
    cJSON *report = stage >= 0 ? compare_stage_report(c, &c->stages[stage]) : NULL;

    if (own >= 0 || !report)
        return report;
    cJSON *figures = cJSON_DetachItemFromObjectCaseSensitive(report, part);
    cJSON_Delete(report);
    return figures;
}

double compare_result_f1(const struct compare *c, const struct compare_model *m, const char *part)
{
    cJSON *figures = read_figures(c, m, part);
    const double f1 = number(figures, "f1_macro");

    cJSON_Delete(figures);
    return isfinite(f1) ? f1 : -1.0;
}

int compare_result_choose(struct compare *c)
{
    double best = -1.0;

    c->chosen_criterion = c->chosen_scope = -1;
    for (int i = 0; i < c->model_count; i++) {
        const struct compare_model *m = &c->models[i];
        double f1 = strcmp(m->kind, "candidate") ? -1.0 : compare_result_f1(c, m, "valid");
        if (f1 > best) {
            best = f1;
            c->chosen_criterion = m->criterion;
            c->chosen_scope = m->scope;
        }
    }
    return c->chosen_criterion < 0 ? -ENODATA : 0;
}

/* --- One model --- */

static void put_figures(const struct compare *c, const struct compare_model *m, const char *part,
                        cJSON *to)
{
    static const char *const keys[] = {"windows", "accuracy",      "f1_macro", "f1_weighted",
                                       "bce",     "cross_entropy", "ece"};
    cJSON *figures = read_figures(c, m, part), *o;

    if (!figures)
        return;
    o = cJSON_AddObjectToObject(to, part);
    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
        put(o, keys[i], number(figures, keys[i]), i ? 6 : 0);
    cJSON_Delete(figures);
}

static int put_file(const struct compare *c, const struct compare_model *m, cJSON *to, char *why,
                    size_t why_size)
{
    char path[COMPARE_PATH_BYTES];
    struct model *decoded = NULL;
    struct stat status;
    int rc;

    compare_model_path(c, m, path);
    rc = model_decode_file(path, &decoded, why, why_size);
    if (!rc && stat(path, &status) < 0)
        rc = -errno;
    if (!rc) {
        cJSON_AddStringToObject(to, "dtype", decoded->dtype == MODEL_INT8 ? "int8" : "fp32");
        put(to, "parameters", (double)model_parameters(decoded), 0);
        put(to, "macs", (double)model_macs(decoded), 0);
        put(to, "size_bytes", (double)status.st_size, 0);
    }
    model_free(decoded);
    return rc;
}

static void put_latency(const cJSON *latency, int index, cJSON *to)
{
    const cJSON *from =
        cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(latency, "models"), index);
    const cJSON *isa = cJSON_GetObjectItemCaseSensitive(from, "isa");
    cJSON *o = from ? cJSON_AddObjectToObject(to, "latency") : NULL;

    put(o, "median_us", number(from, "median_us"), 2);
    put(o, "low_us", number(from, "low_us"), 2);
    put(o, "high_us", number(from, "high_us"), 2);
    if (cJSON_IsString(isa))
        cJSON_AddStringToObject(o, "isa", isa->valuestring);
}

static int put_model(const struct compare *c, int index, const cJSON *latency, cJSON *list,
                     char *why, size_t why_size)
{
    const struct compare_model *m = &c->models[index];
    cJSON *o = cJSON_CreateObject();

    if (!o || !cJSON_AddItemToArray(list, o))
        return -ENOMEM;
    cJSON_AddStringToObject(o, "name", m->name);
    cJSON_AddStringToObject(o, "kind", m->kind);
    if (m->criterion >= 0) {
        cJSON_AddStringToObject(o, "criterion", compare_criteria[m->criterion]);
        cJSON_AddStringToObject(o, "scope", compare_scopes[m->scope]);
    }
    if (m->ratio > 0)
        put(o, "ratio", m->ratio, 2);
    if (m->share > 0)
        put(o, "share", m->share, 2);
    if (m->maker >= 0)
        cJSON_AddStringToObject(o, "stage", c->stages[m->maker].name);
    int rc = put_file(c, m, o, why, why_size);
    put_figures(c, m, "valid", o);
    put_figures(c, m, "test", o);
    put_latency(latency, index, o);
    return rc;
}

static const cJSON *figure_of(const cJSON *model, const char *part)
{
    return cJSON_GetObjectItemCaseSensitive(model, part);
}

/* --- Which models are worth their size --- */

/* On the front: no other model is as small and better, by the validation part. */
static void mark_front(cJSON *models)
{
    cJSON *a, *b;

    cJSON_ArrayForEach(a, models)
    {
        const double size = number(a, "size_bytes"), f1 = number(figure_of(a, "valid"), "f1_macro");
        int front = isfinite(f1);
        cJSON_ArrayForEach(b, models)
        {
            const double s = number(b, "size_bytes"), f = number(figure_of(b, "valid"), "f1_macro");
            if (s <= size && f >= f1 && (s < size || f > f1))
                front = 0;
        }
        cJSON_AddBoolToObject(a, "front", front);
    }
}

/* The smallest model that loses at most `drop` of the base's macro F1 on the validation part. */
static const cJSON *smallest_within(const cJSON *models, double drop)
{
    const cJSON *best = NULL, *m, *base = cJSON_GetArrayItem(models, 0);
    const double least = number(figure_of(base, "valid"), "f1_macro") - drop;

    cJSON_ArrayForEach(m, models)
    {
        if (number(figure_of(m, "valid"), "f1_macro") >= least - 1e-9 &&
            (!best || number(m, "size_bytes") < number(best, "size_bytes")))
            best = m;
    }
    return best;
}

static void put_within(cJSON *result, const cJSON *models)
{
    static const double drops[] = {0.01, 0.03};
    const cJSON *base = cJSON_GetArrayItem(models, 0);
    cJSON *list = cJSON_AddArrayToObject(result, "within");

    for (int i = 0; i < 2; i++) {
        const cJSON *m = smallest_within(models, drops[i]);
        cJSON *o = m ? cJSON_CreateObject() : NULL;
        if (!o)
            continue;
        put(o, "drop", drops[i], 2);
        cJSON_AddStringToObject(o, "model",
                                cJSON_GetObjectItemCaseSensitive(m, "name")->valuestring);
        put(o, "size_bytes", number(m, "size_bytes"), 0);
        put(o, "smaller", 1.0 - number(m, "size_bytes") / number(base, "size_bytes"), 4);
        put(o, "valid_drop",
            number(figure_of(base, "valid"), "f1_macro") -
                number(figure_of(m, "valid"), "f1_macro"),
            6);
        put(o, "test_drop",
            number(figure_of(base, "test"), "f1_macro") - number(figure_of(m, "test"), "f1_macro"),
            6);
        cJSON_AddItemToArray(list, o);
    }
}

/* --- The article's tables --- */

static void put_row(const cJSON *model, const cJSON *base, cJSON *row)
{
    static const char *const copied[] = {"name", "kind", "criterion", "scope", "dtype"};
    const cJSON *test = figure_of(model, "test"), *latency = figure_of(model, "latency");
    const double size = number(model, "size_bytes"), us = number(latency, "median_us");

    for (size_t i = 0; i < sizeof(copied) / sizeof(*copied); i++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(model, copied[i]);
        if (cJSON_IsString(item))
            cJSON_AddStringToObject(row, copied[i], item->valuestring);
    }
    put(row, "ratio", number(model, "ratio"), 2);
    put(row, "share", number(model, "share"), 2);
    put(row, "bce", number(test, "bce"), 6);
    put(row, "f1_macro", number(test, "f1_macro"), 6);
    put(row, "size_mb", size / 1e6, 4);
    put(row, "time_us", us, 2);
    put(row, "smaller", 1.0 - size / number(base, "size_bytes"), 4);
    put(row, "faster", 1.0 - us / number(figure_of(base, "latency"), "median_us"), 4);
}

/* The article's row beside ours: of the same kind, of several the one nearest in size. */
static void put_article(cJSON *rows)
{
    for (size_t a = 0; a < sizeof(article) / sizeof(*article); a++) {
        cJSON *row, *nearest = NULL;
        cJSON_ArrayForEach(row, rows)
        {
            const cJSON *kind = cJSON_GetObjectItemCaseSensitive(row, "kind");
            if (strcmp(kind->valuestring, article[a].kind) != 0)
                continue;
            if (!nearest || fabs(number(row, "size_mb") - article[a].size_mb) <
                                fabs(number(nearest, "size_mb") - article[a].size_mb))
                nearest = row;
        }
        cJSON *o = nearest ? cJSON_AddObjectToObject(nearest, "article") : NULL;
        put(o, "f1_macro", article[a].f1, 2);
        put(o, "size_mb", article[a].size_mb, 2);
        put(o, "smaller", article[a].smaller, 2);
        put(o, "faster", article[a].faster, 2);
    }
}

/* What the sweep says of the same channels before fine-tuning. */
static void put_before(const cJSON *sweep, cJSON *row)
{
    const cJSON *p, *points = cJSON_GetObjectItemCaseSensitive(sweep, "points");

    cJSON_ArrayForEach(p, points)
    {
        const cJSON *c = cJSON_GetObjectItemCaseSensitive(p, "criterion");
        const cJSON *s = cJSON_GetObjectItemCaseSensitive(p, "scope");
        const cJSON *rc = cJSON_GetObjectItemCaseSensitive(row, "criterion");
        const cJSON *rs = cJSON_GetObjectItemCaseSensitive(row, "scope");
        if (!cJSON_IsString(c) || !cJSON_IsString(s) || !rc || !rs ||
            strcmp(c->valuestring, rc->valuestring) || strcmp(s->valuestring, rs->valuestring) ||
            !(fabs(number(p, "ratio") - number(row, "ratio")) < 1e-6))
            continue;
        put(row, "bce_before", number(p, "bce"), 6);
        put(row, "f1_before", number(p, "f1_macro"), 6);
    }
}

static void put_tables(cJSON *result, const cJSON *models, const cJSON *sweep)
{
    cJSON *tables = cJSON_AddObjectToObject(result, "tables");
    cJSON *pruning = cJSON_AddArrayToObject(tables, "pruning");
    cJSON *combined = cJSON_AddArrayToObject(tables, "combined");
    const cJSON *base = cJSON_GetArrayItem(models, 0), *m;

    cJSON_ArrayForEach(m, models)
    {
        const char *kind = cJSON_GetObjectItemCaseSensitive(m, "kind")->valuestring;
        const int variant = !strcmp(kind, "pruned_short") || !strcmp(kind, "candidate");
        for (int table = 0; table < 2; table++) {
            if (m != base && variant == table)
                continue; /* the variants to the first, what was made of the best to the second */
            cJSON *row = cJSON_CreateObject();
            put_row(m, base, row);
            if (table == 0)
                put_before(sweep, row);
            cJSON_AddItemToArray(table ? combined : pruning, row);
        }
    }
    put_article(combined);
    put_article(pruning);
}

/* --- Confusion of the base and of the smallest --- */

static int put_confusion(const struct compare *c, int index, cJSON *list)
{
    const struct compare_model *m = &c->models[index];
    cJSON *report = m->test >= 0 ? compare_stage_report(c, &c->stages[m->test]) : NULL;
    cJSON *rows = cJSON_DetachItemFromObjectCaseSensitive(report, "confusion"), *o;
    const cJSON *class;

    if (!cJSON_IsArray(rows)) {
        cJSON_Delete(report);
        cJSON_Delete(rows);
        return 0;
    }
    o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "model", m->name);
    cJSON *labels = cJSON_AddArrayToObject(o, "labels"), *f1 = cJSON_AddArrayToObject(o, "f1");
    cJSON_ArrayForEach(class, cJSON_GetObjectItemCaseSensitive(report, "per_class"))
    {
        const cJSON *name = cJSON_GetObjectItemCaseSensitive(class, "name");
        cJSON_AddItemToArray(labels,
                             cJSON_CreateString(cJSON_IsString(name) ? name->valuestring : "?"));
        cJSON_AddItemToArray(f1, cJSON_CreateNumber(number(class, "f1")));
    }
    cJSON_AddItemToObject(o, "rows", rows);
    cJSON_AddItemToArray(list, o);
    cJSON_Delete(report);
    return 1;
}

static void put_confusions(const struct compare *c, const cJSON *models, cJSON *result)
{
    cJSON *list = cJSON_AddArrayToObject(result, "confusion");
    int smallest = -1;
    double size = INFINITY;

    for (int i = 1; i < c->model_count; i++) {
        const double s = number(cJSON_GetArrayItem(models, i), "size_bytes");
        if (c->models[i].test >= 0 && s < size) {
            smallest = i;
            size = s;
        }
    }
    (void)put_confusion(c, 0, list);
    if (smallest > 0)
        (void)put_confusion(c, smallest, list);
}

/* --- All --- */

static void put_settings(const struct compare *c, cJSON *result)
{
    const struct compare_settings *s = &c->settings;
    cJSON *o = cJSON_AddObjectToObject(result, "settings");

    cJSON_AddStringToObject(o, "split", train_splits[s->split]);
    put(o, "split_seed", (double)s->split_seed, 0);
    put(o, "seed", (double)s->seed, 0);
    put(o, "epochs", s->base ? (double)NAN : (double)s->epochs, 0);
    put(o, "short_epochs", s->short_epochs, 0);
    put(o, "finetune_epochs", s->finetune_epochs, 0);
    put(o, "qat_epochs", s->qat_epochs, 0);
    put(o, "epoch_windows", s->epoch_windows, 0);
    put(o, "sweep_windows", s->sweep_windows, 0);
    put(o, "latency_rounds", s->latency_rounds, 0);
    put(o, "latency_round_ms", s->latency_ms, 0);
    put(o, "files", c->files, 0);
}

static int put_stages(const struct compare *c, cJSON *result)
{
    cJSON *list = cJSON_AddArrayToObject(result, "stages");
    double seconds = 0;

    for (int i = 0; i < c->stage_count; i++) {
        char *command = compare_stage_command(c, &c->stages[i]);
        cJSON *o = command ? cJSON_CreateObject() : NULL;
        if (!o) {
            free(command);
            return -ENOMEM;
        }
        cJSON_AddStringToObject(o, "name", c->stages[i].name);
        cJSON_AddStringToObject(o, "command", command);
        put(o, "seconds", c->stages[i].seconds, 1);
        cJSON_AddItemToArray(list, o);
        seconds += c->stages[i].seconds;
        free(command);
    }
    put(result, "seconds", seconds, 1);
    return 0;
}

int compare_result_build(const struct compare *c, cJSON **out, char *why, size_t why_size)
{
    cJSON *result = cJSON_CreateObject(), *models = cJSON_AddArrayToObject(result, "models");
    cJSON *latency = compare_stage_report(c, &c->stages[c->stage_count - 1]), *sweep = NULL;
    int rc = models ? 0 : -ENOMEM;

    *out = NULL;
    for (int i = 0; i < c->first_count && !sweep; i++)
        if (c->stages[i].run == compare_sweep)
            sweep = compare_stage_report(c, &c->stages[i]);
    if (!rc && (!latency || !sweep)) {
        (void)snprintf(why, why_size, "%s: a report of the sweep or of the latencies is gone",
                       c->work);
        rc = -EBADMSG;
    }
    cJSON_AddStringToObject(result, "program", "nilm-model " NILM_VERSION);
    put_settings(c, result);
    if (c->chosen_criterion >= 0) {
        cJSON *o = cJSON_AddObjectToObject(result, "chosen");
        cJSON_AddStringToObject(o, "criterion", compare_criteria[c->chosen_criterion]);
        cJSON_AddStringToObject(o, "scope", compare_scopes[c->chosen_scope]);
    }
    for (int i = 0; i < c->model_count && !rc; i++)
        rc = put_model(c, i, latency, models, why, why_size);
    if (!rc) {
        mark_front(models);
        put_within(result, models);
        put_tables(result, models, sweep);
        put_confusions(c, models, result);
        rc = put_stages(c, result);
    }
    if (!rc)
        cJSON_AddItemToObject(result, "sweep",
                              cJSON_DetachItemFromObjectCaseSensitive(sweep, "points"));
    cJSON_Delete(latency);
    cJSON_Delete(sweep);
    if (rc)
        cJSON_Delete(result);
    else
        *out = result;
    return rc;
}
