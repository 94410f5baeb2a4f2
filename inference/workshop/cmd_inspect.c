/* cmd_inspect.c - nilm-model inspect: what is in a model file. */
#include "inference/model.h"
#include "inference/workshop/cli.h"
#include "inference/workshop/workshop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *op_name(enum model_op op)
{
    static const char *const names[] = {"?", "conv1d", "maxpool1d", "flatten", "dense"};
    return op <= MODEL_DENSE ? names[op] : names[0];
}

static const char *feature_name(enum model_feature feature)
{
    static const char *const names[] = {"?", "linear", "log", "log_diff"};
    return feature <= MODEL_LOG_DIFF ? names[feature] : names[0];
}

static uint64_t layer_parameters(const struct model_layer *l)
{
    uint64_t per_output = l->op == MODEL_CONV1D  ? (uint64_t)l->taps * l->in_channels
                          : l->op == MODEL_DENSE ? l->in_channels
                                                 : 0;
    return per_output ? (per_output + 1) * l->out_channels : 0;
}

static uint64_t layer_macs(const struct model_layer *l)
{
    uint64_t parameters = layer_parameters(l);
    return parameters ? (parameters - l->out_channels) * l->out_columns : 0;
}

/* --- JSON --- */

static void add_layers(const struct model *m, cJSON *object)
{
    cJSON *list = cJSON_AddArrayToObject(object, "layers");
    for (uint32_t i = 0; i < m->layer_count; i++) {
        const struct model_layer *l = &m->layers[i];
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", l->name);
        cJSON_AddStringToObject(item, "op", op_name(l->op));
        cJSON_AddBoolToObject(item, "relu", l->relu);
        cJSON_AddNumberToObject(item, "in_columns", l->in_columns);
        cJSON_AddNumberToObject(item, "in_channels", l->in_channels);
        cJSON_AddNumberToObject(item, "out_columns", l->out_columns);
        cJSON_AddNumberToObject(item, "out_channels", l->out_channels);
        if (l->op == MODEL_CONV1D)
            cJSON_AddNumberToObject(item, "taps", l->taps);
        if (l->op == MODEL_MAXPOOL1D)
            cJSON_AddNumberToObject(item, "pool", l->pool);
        cJSON_AddNumberToObject(item, "parameters", (double)layer_parameters(l));
        cJSON_AddNumberToObject(item, "macs", (double)layer_macs(l));
        if (m->dtype == MODEL_INT8) {
            cJSON_AddNumberToObject(item, "in_scale", (double)l->in_scale);
            cJSON_AddNumberToObject(item, "in_zero", l->in_zero);
            cJSON_AddNumberToObject(item, "out_scale", (double)l->out_scale);
            cJSON_AddNumberToObject(item, "out_zero", l->out_zero);
        }
        cJSON_AddItemToArray(list, item);
    }
}

/* The lines of meta as key and value; a line without '=' is not lost but stands under its own text.
 */
static void add_meta(const struct model *m, cJSON *object)
{
    cJSON *meta = cJSON_AddObjectToObject(object, "meta");
    const char *p = m->meta ? m->meta : "";
    while (*p) {
        size_t n = strcspn(p, "\n");
        char *line = strndup(p, n);
        if (line == NULL)
            return;
        char *equals = strchr(line, '=');
        if (equals)
            *equals = '\0';
        if (n > 0)
            cJSON_AddStringToObject(meta, line, equals ? equals + 1 : "");
        free(line);
        p += n;
        p += *p == '\n';
    }
}

static int print_json(const struct model *m, const char *path, uint64_t size)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "model", path);
    cJSON_AddNumberToObject(o, "size_bytes", (double)size);
    cJSON_AddStringToObject(o, "dtype", m->dtype == MODEL_INT8 ? "int8" : "fp32");
    cJSON_AddStringToObject(o, "head", m->head == MODEL_SOFTMAX ? "softmax" : "sigmoid");
    cJSON_AddStringToObject(o, "family", m->family);
    cJSON_AddNumberToObject(o, "version", m->version);
    cJSON_AddNumberToObject(o, "window", m->window);
    cJSON_AddNumberToObject(o, "period_ms", m->period_ms);
    cJSON_AddNumberToObject(o, "hop", m->hop);
    cJSON_AddNumberToObject(o, "reject", (double)m->reject);
    cJSON_AddNumberToObject(o, "min_activity_w", (double)m->min_activity_w);
    cJSON_AddNumberToObject(o, "parameters", (double)model_parameters(m));
    cJSON_AddNumberToObject(o, "macs", (double)model_macs(m));
    cJSON_AddNumberToObject(o, "classes", m->class_count);
    cJSON_AddNumberToObject(o, "golden", m->golden_count);
    cJSON *channels = cJSON_AddArrayToObject(o, "channels");
    for (uint32_t i = 0; i < m->channel_count; i++) {
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "feature", feature_name(m->channels[i].feature));
        cJSON_AddNumberToObject(item, "full", (double)m->channels[i].full);
        cJSON_AddItemToArray(channels, item);
    }
    add_layers(m, o);
    cJSON *labels = cJSON_AddArrayToObject(o, "labels");
    for (uint32_t i = 0; i < m->class_count; i++)
        cJSON_AddItemToArray(labels, cJSON_CreateString(m->labels[i]));
    add_meta(m, o);
    return cli_print_json(o);
}

/* --- text --- */

static void print_layers(const struct model *m)
{
    printf("\n%-12s %-10s %13s %13s %6s %10s %12s\n", "layer", "op", "in", "out", "size",
           "parameters", "macs");
    for (uint32_t i = 0; i < m->layer_count; i++) {
        const struct model_layer *l = &m->layers[i];
        char in[32], out[32], size[16] = "";
        snprintf(in, sizeof in, "%ux%u", l->in_columns, l->in_channels);
        snprintf(out, sizeof out, "%ux%u", l->out_columns, l->out_channels);
        if (l->taps || l->pool)
            snprintf(size, sizeof size, "%u", l->taps ? l->taps : l->pool);
        printf("%-12s %-10s %13s %13s %6s %10llu %12llu%s\n", l->name, op_name(l->op), in, out,
               size, (unsigned long long)layer_parameters(l), (unsigned long long)layer_macs(l),
               l->relu ? "  relu" : "");
    }
}

static void print_text(const struct model *m, const char *path, uint64_t size)
{
    printf("%s: %s version %u, %s, %llu bytes\n", path, m->family, m->version,
           m->dtype == MODEL_INT8 ? "INT8" : "FP32", (unsigned long long)size);
    printf("%llu parameters, %llu multiplications a window, %u golden vectors\n",
           (unsigned long long)model_parameters(m), (unsigned long long)model_macs(m),
           m->golden_count);
    printf("window %u samples of %u ms, a result every %u; %s\n", m->window, m->period_ms, m->hop,
           m->head == MODEL_SOFTMAX ? "softmax" : "sigmoid");
    printf("off below %g W, unknown below probability %g\n", (double)m->min_activity_w,
           (double)m->reject);
    printf("input:");
    for (uint32_t i = 0; i < m->channel_count; i++)
        printf(" %s:%g", feature_name(m->channels[i].feature), (double)m->channels[i].full);
    putchar('\n');
    print_layers(m);
    printf("\n%u classes:", m->class_count);
    for (uint32_t i = 0; i < m->class_count; i++)
        printf("%s%s", i ? ", " : " ", m->labels[i]);
    printf("\n\n%s", m->meta ? m->meta : "");
}

int workshop_inspect(int argc, char **argv)
{
    const char *path = NULL;
    int json = 0;
    char why[512];
    struct model *m;
    struct stat status;
    struct cli_option options[] = {
        {.name = "model",
         .type = CLI_STRING,
         .value = &path,
         .argument = "FILE",
         .help = "model file",
         .required = 1},
        {.name = "json", .type = CLI_FLAG, .value = &json, .help = "one JSON object"},
        {.name = NULL}};
    struct cli_command command = {.name = "inspect",
                                  .usage = "--model FILE [--json]",
                                  .summary = "Shows what is in a model file: layers, shapes, "
                                             "parameters, labels and where it comes from.",
                                  .options = options};
    int rc = cli_parse(&command, argc, argv);
    if (rc != CLI_RUN)
        return rc;
    rc = model_decode_file(path, &m, why, sizeof why);
    if (rc < 0)
        return cli_fail(cli_code(rc), "inspect: %s", why);
    uint64_t size = stat(path, &status) == 0 ? (uint64_t)status.st_size : 0;
    int code = CLI_DONE;
    if (json)
        code = print_json(m, path, size);
    else
        print_text(m, path, size);
    model_free(m);
    return code;
}
