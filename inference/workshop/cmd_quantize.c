/* cmd_quantize.c - `nilm-model quantize`: an FP32 model to the INT8 model that the agent runs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/convert.h"
#include "inference/workshop/evaluate.h"
#include "inference/workshop/quantize.h"
#include "inference/workshop/train_command.h"
#include "inference/workshop/workshop.h"

#define NOISE_WINDOWS 512u

enum bias { BIAS_AUTO, BIAS_KEEP, BIAS_CORRECT };

struct request {
    const char *model, *dir, *out;
    uint32_t calibrate, golden, version;
    float percentile, reject;
    int json, rounding, calibration, bias, noise, aware;
    struct train_options train; /* with --qat */
};

/* --- Running a model over a part --- */

/* Probabilities of every window of d, in its order; free() them. NULL: no memory, or the model
 * cannot run. net: computed instead of m's (or NULL), from m's features. */
static float *sweep_part(const struct model *m, const struct net *net, const struct dataset *d,
                         uint32_t threads)
{
    char why[256];
    float *p = malloc((d->window_count + 1) * m->class_count * sizeof(float));
    int rc = !p    ? -ENOMEM
             : net ? train_probabilities(net, m->channels, d, threads, p)
                   : evaluate_windows(m, d, d->windows, d->window_count, threads,
                                      EVALUATE_PROBABILITIES, NULL, p, why, sizeof(why));

    if (rc) {
        free(p);
        p = NULL;
    }
    return p;
}

/* --- What the sweep tells --- */

struct verdict {
    struct metrics *int8, *fp32;
    uint64_t agree;        /* windows with the same first class in both */
    uint64_t agree_inputs; /* and in FP32 with and without its inputs rounded to INT8's levels */
};

static int by_value(const void *a, const void *b)
{
    const float *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* The probability that only `share` of the rightly classified windows stay below: a first class
 * weaker than that is "unknown". */
static int reject_threshold(const struct dataset *d, const float *probabilities, uint32_t classes,
                            double share, float *threshold)
{
    float *right = malloc((d->window_count + 1) * sizeof(float));
    size_t n = 0;

    if (!right)
        return -ENOMEM;
    for (size_t i = 0; i < d->window_count; i++) {
        const float *p = probabilities + i * classes;
        uint32_t best = evaluate_first(p, classes);
        if (best == d->windows[i].label)
            right[n++] = p[best];
    }
    qsort(right, n, sizeof(*right), by_value);
    *threshold = n ? right[(size_t)(share * (double)(n - 1))] : 0.0f;
    free(right);
    return 0;
}

/* rounded: FP32's net with inputs rounded, or NULL. */
static int judge(const struct model *fp32, const struct net *rounded, const struct dataset *d,
                 const float *int8, uint32_t threads, struct verdict *v)
{
    const uint32_t classes = fp32->class_count;
    float *reference = sweep_part(fp32, NULL, d, threads);
    float *inputs = rounded && reference ? sweep_part(fp32, rounded, d, threads) : NULL;
    int rc = reference && (inputs || !rounded) ? metrics_create(classes, &v->int8) : -ENOMEM;

    if (!rc)
        rc = metrics_create(classes, &v->fp32);
    for (size_t i = 0; i < d->window_count && !rc; i++) {
        const float *a = int8 + i * classes, *b = reference + i * classes;
        if (d->mix) {
            rc = metrics_add_set(v->int8, a, d->windows[i].on);
            rc = rc ? rc : metrics_add_set(v->fp32, b, d->windows[i].on);
        } else {
            metrics_add(v->int8, a, d->windows[i].label);
            metrics_add(v->fp32, b, d->windows[i].label);
        }
        v->agree += evaluate_first(a, classes) == evaluate_first(b, classes);
        v->agree_inputs +=
            inputs && evaluate_first(inputs + i * classes, classes) == evaluate_first(b, classes);
    }
    if (!rc) {
        metrics_finish(v->int8);
        metrics_finish(v->fp32);
    }
    free(reference);
    free(inputs);
    return rc;
}

static void verdict_free(struct verdict *v)
{
    metrics_free(v->int8);
    metrics_free(v->fp32);
}

static int judge_parts(const struct request *r, const struct model *fp32, struct model *int8,
                       const struct train_data *data, struct verdict verdicts[2], char *meta)
{
    const struct dataset *parts[2] = {data->valid, data->test};
    static const char *const keys[2] = {"int8_valid", "int8_test"};
    struct net *rounded = NULL;
    int rc = r->noise ? convert_from_model(fp32, &rounded, NULL, 0) : 0;

    if (rounded)
        quantize_round_inputs(fp32->channels, rounded);
    for (int i = 0; i < 2 && !rc; i++) {
        if (!parts[i])
            continue;
        float *p = sweep_part(int8, NULL, parts[i], r->train.threads);
        if (!p)
            rc = -ENOMEM;
        if (!rc && i == 0 && r->reject > 0.0f && !parts[i]->mix)
            rc = reject_threshold(parts[i], p, int8->class_count, (double)r->reject, &int8->reject);
        if (!rc)
            rc = judge(fp32, rounded, parts[i], p, r->train.threads, &verdicts[i]);
        if (!rc && parts[i]->mix && i == 0)
            rc = train_command_meta_thresholds(meta, verdicts[0].int8);
        if (!rc && parts[i]->mix && i == 1) {
            train_command_thresholds(verdicts[0].int8, verdicts[1].int8);
            train_command_thresholds(verdicts[0].fp32, verdicts[1].fp32);
        }
        if (!rc)
            rc = train_command_meta_metrics(meta, keys[i], verdicts[i].int8);
        free(p);
    }
    net_free(rounded);
    return rc;
}

static cJSON *part_json(const struct request *r, const struct verdict *v)
{
    cJSON *j = train_command_json(v->int8);

    cJSON_AddNumberToObject(j, "f1_macro_fp32", v->fp32->f1_macro);
    cJSON_AddNumberToObject(j, "accuracy_fp32", v->fp32->accuracy);
    cJSON_AddNumberToObject(j, "same_first_class", (double)v->agree / (double)v->int8->windows);
    if (r->noise)
        cJSON_AddNumberToObject(j, "same_first_class_inputs",
                                (double)v->agree_inputs / (double)v->int8->windows);
    return j;
}

/* What INT8 can hold of a layer's input or output. The first layer's input has a scale for each
 * feature, and logits are not rounded: those are not known here. */
static int span(const struct model *m, uint32_t i, int output, double *low, double *high)
{
    const struct model_layer *l = &m->layers[i];
    const double scale = (double)(output ? l->out_scale : l->in_scale);
    const int zero = output ? l->out_zero : l->in_zero;
    int first = 1;

    for (uint32_t k = 0; k < i; k++)
        first = first && !m->layers[k].weights;
    *low = scale * (-128 - zero);
    *high = scale * (127 - zero);
    return output ? l->multiplier != NULL : !first;
}

static cJSON *layers_json(const struct model *m, const struct quantize_noise *noise)
{
    cJSON *layers = cJSON_CreateArray();
    double low, high;

    for (uint32_t i = 0; i < m->layer_count && layers; i++) {
        cJSON *l = m->layers[i].weights ? cJSON_CreateObject() : NULL;
        if (!l)
            continue;
        cJSON_AddStringToObject(l, "name", m->layers[i].name);
        cJSON_AddNumberToObject(l, "own_db", noise[i].own);
        cJSON_AddNumberToObject(l, "total_db", noise[i].total);
        if (span(m, i, 0, &low, &high)) {
            cJSON_AddNumberToObject(l, "in_low", low);
            cJSON_AddNumberToObject(l, "in_high", high);
        }
        if (span(m, i, 1, &low, &high)) {
            cJSON_AddNumberToObject(l, "out_low", low);
            cJSON_AddNumberToObject(l, "out_high", high);
        }
        cJSON_AddNumberToObject(l, "fp32_low", noise[i].low);
        cJSON_AddNumberToObject(l, "fp32_high", noise[i].high);
        cJSON_AddItemToArray(layers, l);
    }
    return layers;
}

static void span_text(const char *otherwise, int known, double low, double high)
{
    if (known)
        printf(" %8.3g ..%8.3g", low, high);
    else
        printf(" %18s", otherwise);
}

static void layers_text(const struct model *m, const struct quantize_noise *noise)
{
    double low, high;
    int known;

    printf("INT8 against FP32: ranges, and signal to noise in dB\n  %-16s %18s %18s %18s %7s %7s\n",
           "layer", "INT8 input", "INT8 output", "FP32 output", "alone", "in all");
    for (uint32_t i = 0; i < m->layer_count; i++) {
        if (!m->layers[i].weights)
            continue;
        printf("  %-16s", m->layers[i].name);
        known = span(m, i, 0, &low, &high);
        span_text("features", known, low, high);
        known = span(m, i, 1, &low, &high);
        span_text("logits", known, low, high);
        span_text("", 1, noise[i].low, noise[i].high);
        printf(" %7.1f %7.1f\n", noise[i].own, noise[i].total);
    }
}

static int report(const struct request *r, const struct model *m, const struct verdict verdicts[2],
                  const struct quantize_noise *noise, uint32_t best_epoch, size_t size)
{
    static const char *const names[2] = {"valid", "test"};

    if (r->json) {
        cJSON *j = cJSON_CreateObject();
        cJSON_AddNumberToObject(j, "size_bytes", (double)size);
        cJSON_AddNumberToObject(j, "parameters", (double)model_parameters(m));
        cJSON_AddNumberToObject(j, "reject", (double)m->reject);
        if (r->aware)
            cJSON_AddNumberToObject(j, "best_epoch", best_epoch);
        for (int i = 0; i < 2 && j; i++)
            if (verdicts[i].int8)
                cJSON_AddItemToObject(j, names[i], part_json(r, &verdicts[i]));
        if (j)
            cJSON_AddItemToObject(j, "layers", layers_json(m, noise));
        return cli_print_json(j);
    }
    printf("%s: %llu parameters, %zu bytes, unknown below %.3f\n", r->out,
           (unsigned long long)model_parameters(m), size, (double)m->reject);
    if (r->aware)
        printf("best epoch %u%s\n", best_epoch,
               best_epoch ? "" : ": fine-tuning made nothing better, this is static quantization");
    if (r->noise)
        layers_text(m, noise);
    for (int i = 0; i < 2; i++) {
        if (!verdicts[i].int8)
            continue;
        train_command_text(names[i], verdicts[i].int8);
        printf("       FP32 on the same windows: accuracy %.4f, f1_macro %.4f; same first class on "
               "%.2f %%\n",
               verdicts[i].fp32->accuracy, verdicts[i].fp32->f1_macro,
               100.0 * (double)verdicts[i].agree / (double)verdicts[i].int8->windows);
        if (r->noise)
            printf("       FP32 with inputs rounded as INT8's: same first class on %.2f %%\n",
                   100.0 * (double)verdicts[i].agree_inputs / (double)verdicts[i].int8->windows);
    }
    return CLI_DONE;
}

/* The error report is made on other windows than those that rounding and biases were fitted to. */
static int measure_noise(const struct request *r, const struct net *net, const struct model *source,
                         const struct dataset *d, const struct model *int8,
                         struct quantize_noise *noise)
{
    struct quantize_sample sample = {0};
    int rc;

    if (!r->noise && !r->json)
        return 0;
    rc = quantize_sample_draw(d, source->channels, source->channel_count, source->window,
                              NOISE_WINDOWS, r->train.seed + 1, &sample);
    if (!rc)
        rc = quantize_noise(net, int8, &sample, noise);
    quantize_sample_free(&sample);
    return rc;
}

/* Fine-tunes q's integers; net says what they began as. */
static int tune(const struct request *r, const struct net *net, const struct model *source,
                const struct train_data *data, struct quantized *q, struct train_result *result,
                char *why, size_t why_size)
{
    struct train_options o = r->train;
    struct train_teachers *teachers = NULL;
    struct net *master = NULL;
    int rc = net_clone(net, &master);

    o.int8 = q;
    if (!rc && (!o.teacher || strcmp(o.teacher, "none") != 0))
        rc = train_teachers_load(o.teacher ? o.teacher : r->model, source, data->train, &teachers,
                                 why, why_size);
    o.teachers = teachers;
    if (!rc)
        rc = train_run(master, source->channels, data->train, data->valid, &o, result, why,
                       why_size);
    train_teachers_free(teachers);
    net_free(master);
    return rc;
}

static int build(const struct request *r, const struct model *source, const struct train_data *data,
                 char *meta, struct quantized **q, struct quantize_noise *noise,
                 struct train_result *result, char *why, size_t why_size)
{
    struct quantize_range ranges[MODEL_MAX_LAYERS];
    struct quantize_sample sample = {0};
    const struct dataset *other = data->valid ? data->valid : data->train;
    struct quantize_options options = {.ranges = ranges,
                                       .rounding = (enum quantize_rounding)r->rounding,
                                       .correct_bias =
                                           r->bias == BIAS_CORRECT ||
                                           (r->bias == BIAS_AUTO && r->rounding == QUANTIZE_FIT),
                                       .sample = &sample};
    struct net *net = NULL;
    int rc = convert_from_model(source, &net, why, why_size);

    if (!rc)
        rc = quantize_sample_draw(data->train, source->channels, source->channel_count,
                                  source->window, r->calibrate, r->train.seed, &sample);
    if (!rc)
        rc = quantize_calibrate(net, source->channels, &sample,
                                (enum quantize_calibration)r->calibration, (double)r->percentile,
                                ranges);
    if (!rc)
        rc = quantize_net(net, source, &options, q, why, why_size);
    if (!rc && r->aware)
        rc = tune(r, net, source, data, *q, result, why, why_size);
    if (!rc) {
        quantize_model(*q)->meta = meta;
        quantize_model(*q)->version = r->version ? r->version : source->version;
        rc = quantize_golden(*q, other, r->golden, r->train.seed, why, why_size);
    }
    if (!rc)
        rc = measure_noise(r, net, source, other, quantize_model(*q), noise);
    quantize_sample_free(&sample);
    net_free(net);
    return rc;
}

static int quantize_file(const struct request *r, int argc, char **argv)
{
    struct model *source = NULL;
    struct dataset_options o;
    struct train_data data = {0};
    struct quantized *q = NULL;
    struct verdict verdicts[2] = {{0}};
    struct quantize_noise noise[MODEL_MAX_LAYERS] = {{0}};
    struct train_result result = {0};
    char why[512] = "", meta[TRAIN_META_BYTES] = "";
    size_t size = 0;
    int rc, code;

    rc = model_decode_file(r->model, &source, why, sizeof(why));
    if (rc)
        return cli_fail(cli_code(rc), "%s", why);
    train_command_options(source, &o);
    o.threads = r->train.threads;
    rc = train_command_load(r->dir, &o, 7u, r->train.quiet, &data, why, sizeof(why));
    if (!rc && strlen(source->meta) >= sizeof(meta))
        rc = -ENOSPC;
    if (!rc) {
        (void)snprintf(meta, sizeof(meta), "%s", source->meta);
        rc = train_command_meta_line(meta, "quantize_command", argc, argv);
    }
    if (!rc)
        rc = build(r, source, &data, meta, &q, noise, &result, why, sizeof(why));
    if (!rc)
        rc = judge_parts(r, source, quantize_model(q), &data, verdicts, meta);
    if (!rc)
        rc = convert_write(quantize_model(q), r->out, &size, why, sizeof(why));
    code = rc ? cli_fail(cli_code(rc), "%s", why[0] ? why : strerror(-rc))
              : report(r, quantize_model(q), verdicts, noise, result.best_epoch, size);
    verdict_free(&verdicts[0]);
    verdict_free(&verdicts[1]);
    quantize_free(q);
    train_command_unload(&data);
    model_free(source);
    return code;
}

/* Is o one of the options of training that mean nothing without it? */
static int only_trains(const struct request *r, const struct cli_option *o)
{
    const char *at = o->value, *from = (const char *)&r->train;

    return at >= from && at < from + sizeof(r->train) && o->value != &r->train.seed &&
           o->value != &r->train.threads && o->value != &r->train.quiet;
}

int workshop_quantize(int argc, char **argv)
{
    /* enum quantize_rounding, enum quantize_calibration */
    static const char *const roundings[] = {"nearest", "level", "fit", NULL};
    static const char *const calibrations[] = {"minmax", "percentile", "mse", NULL};
    static const char *const biases[] = {"auto", "keep", "correct", NULL}; /* enum bias */
    struct request r = {.calibrate = 2048,
                        .golden = 8,
                        .rounding = QUANTIZE_FIT,
                        .percentile = 99.99f,
                        .reject = 0.05f};
    train_defaults(&r.train);
    r.train.epochs = 2;
    r.train.rate = 3e-4f;
    r.train.average = 0.98f; /* integers jump to and fro between two levels; their mean does not */
    r.train.decay = r.train.dropout = 0.0f;
    struct cli_option options[] = {
        {"model", CLI_STRING, &r.model, "FILE", "an FP32 model", 0, 0, NULL, 1, 0},
        {"data", CLI_STRING, &r.dir, "DIR",
         "traces to calibrate with (training part), to set the threshold of unknown (validation "
         "part), to report on (test part)",
         0, 0, NULL, 1, 0},
        {"out", CLI_STRING, &r.out, "FILE", "the INT8 model to write", 0, 0, NULL, 1, 0},
        {"calibrate", CLI_UINT, &r.calibrate, "N", "windows to calibrate with", 1, 1e6, NULL, 0, 0},
        {"calibration", CLI_CHOICE, &r.calibration, NULL,
         "ranges of activations: the extremes; so much of the values (--percentile); or the least "
         "mean square error",
         0, 0, calibrations, 0, 0},
        {"percentile", CLI_FLOAT, &r.percentile, "P",
         "of a layer's values that are to lie inside its range, with --calibration percentile",
         50.001, 100, NULL, 0, 0},
        {"rounding", CLI_CHOICE, &r.rounding, NULL,
         "of weights: nearest; level: the sum over the taps kept; fit: the least error of the "
         "layer's output on the calibration windows",
         0, 0, roundings, 0, 0},
        {"bias", CLI_CHOICE, &r.bias, NULL,
         "auto: correct with --rounding fit, else keep; correct: by each output's mean error on "
         "the calibration windows",
         0, 0, biases, 0, 0},
        {"report", CLI_FLAG, &r.noise, NULL,
         "a table of each layer's error, on validation windows (--json has it anyway), and how "
         "often "
         "the rounding of inputs alone changes the first class",
         0, 0, NULL, 0, 0},
        {"reject", CLI_FLOAT, &r.reject, "X",
         "share of the rightly classified validation windows that unknown may cost", 0, 0.5, NULL,
         0, 0},
        {"golden", CLI_UINT, &r.golden, "N",
         "golden vectors in the file, by which a device tests it", 1, MODEL_MAX_GOLDEN, NULL, 0, 0},
        {"version", CLI_UINT, &r.version, "N", "of the new model; 0: as before", 0, 0, NULL, 0, 0},
        {"qat", CLI_FLAG, &r.aware, NULL,
         "then fine-tune the integers on the training part (quantization-aware); the options below "
         "but --seed, --threads and --quiet go with it; --teacher is the model itself when not "
         "given, "
         "and none with 'none'",
         0, 0, NULL, 0, 0},
        TRAIN_OPTIONS(r.train),
        {"json", CLI_FLAG, &r.json, NULL, "report as one JSON object", 0, 0, NULL, 0, 0},
        {0}};
    struct cli_command command = {
        .name = "quantize",
        .usage = "--model FILE --data DIR --out FILE",
        .summary =
            "Quantizes an FP32 model to INT8 from calibration windows, adds golden vectors and the "
            "threshold of unknown, and compares both models on the validation and test parts.",
        .options = options};
    int code = cli_parse(&command, argc, argv);
    if (code != CLI_RUN)
        return code;
    for (const struct cli_option *o = options; o->name; o++) {
        if (!strcmp(o->name, "percentile") && o->given && r.calibration != QUANTIZE_PERCENTILE)
            return cli_fail(CLI_USAGE, "quantize: --percentile goes with --calibration percentile");
        if (o->given && !r.aware && only_trains(&r, o))
            return cli_fail(CLI_USAGE, "quantize: --%s goes with --qat", o->name);
    }
    return quantize_file(&r, argc, argv);
}
