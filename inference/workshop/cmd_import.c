/* cmd_import.c - `nilm-model import`: an FP32 model of somebody's ONNX file. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/convert.h"
#include "inference/workshop/onnx.h"
#include "inference/workshop/train_command.h"
#include "inference/workshop/workshop.h"

#define LABELS_MAX_BYTES (1u << 20)

struct request {
    const char *onnx, *out, *features, *labels, *family;
    float full, min_activity_w;
    uint32_t period_ms, hop, version;
    int head, json;
};

/* One label a line, as many as classes; without a file class0, class1, ... */
static int read_labels(const char *path, uint32_t count, char (*labels)[MODEL_LABEL_BYTES],
                       char *why, size_t why_size)
{
    void *data = NULL;
    size_t size = 0, at = 0;
    uint32_t n = 0;
    int rc;

    if (!path) {
        for (; n < count; n++)
            (void)snprintf(labels[n], MODEL_LABEL_BYTES, "class%u", n);
        return 0;
    }
    rc = cli_read_file(path, LABELS_MAX_BYTES, &data, &size);
    if (rc) {
        (void)snprintf(why, why_size, "%s: %s", path, strerror(-rc));
        return rc;
    }
    while (!rc && at < size) {
        const char *line = (const char *)data + at, *end = memchr(line, '\n', size - at);
        size_t length = end ? (size_t)(end - line) : size - at;
        at += length + 1;
        if (length && line[length - 1] == '\r')
            length--;
        if (n == count || length < 1 || length >= MODEL_LABEL_BYTES || memchr(line, 0, length)) {
            (void)snprintf(why, why_size,
                           "%s: line %u: expected a label of 1 to %u bytes, and %u of them", path,
                           n + 1, MODEL_LABEL_BYTES - 1, count);
            rc = -EINVAL;
        } else {
            memcpy(labels[n], line, length);
            labels[n++][length] = '\0';
        }
    }
    if (!rc && n != count) {
        (void)snprintf(why, why_size, "%s has %u labels; the network has %u classes", path, n,
                       count);
        rc = -EINVAL;
    }
    free(data);
    return rc;
}

static int report(const struct request *r, const struct model *m, size_t size)
{
    if (r->json) {
        cJSON *j = cJSON_CreateObject();
        cJSON_AddStringToObject(j, "model", r->out);
        cJSON_AddNumberToObject(j, "size_bytes", (double)size);
        cJSON_AddNumberToObject(j, "parameters", (double)model_parameters(m));
        cJSON_AddNumberToObject(j, "window", m->window);
        cJSON_AddNumberToObject(j, "channels", m->channel_count);
        cJSON_AddNumberToObject(j, "classes", m->class_count);
        cJSON_AddStringToObject(j, "head", m->head == MODEL_SOFTMAX ? "softmax" : "sigmoid");
        return cli_print_json(j);
    }
    printf("%s: %llu parameters, window %u, %u inputs, %u classes, %zu bytes\n", r->out,
           (unsigned long long)model_parameters(m), m->window, m->channel_count, m->class_count,
           size);
    return CLI_DONE;
}

/* Everything of the model that the ONNX file does not say. */
static int describe(const struct request *r, const struct net *net, struct model *m, char *why,
                    size_t why_size)
{
    if (!r->features && net->channels > 1) {
        (void)snprintf(why, why_size, "the network has %u inputs: --features must name them",
                       net->channels);
        return -EINVAL;
    }
    if (train_command_features(r->features ? r->features : "linear", r->full, m) ||
        m->channel_count != net->channels) {
        (void)snprintf(why, why_size,
                       "--features: expected %u of linear, log, log-diff, separated by commas",
                       net->channels);
        return -EINVAL;
    }
    (void)snprintf(m->family, sizeof(m->family), "%s", r->family);
    m->version = r->version;
    m->period_ms = r->period_ms;
    m->hop = r->hop ? r->hop : net->window < 4 ? net->window : 4;
    m->min_activity_w = r->min_activity_w;
    return 0;
}

static int import_file(const struct request *r, int argc, char **argv)
{
    static const enum model_head heads[] = {MODEL_SOFTMAX, MODEL_SIGMOID};
    struct model m = {0};
    struct net *net = NULL;
    char(*labels)[MODEL_LABEL_BYTES] = NULL;
    char why[512] = "", meta[TRAIN_META_BYTES] = "";
    void *data = NULL;
    size_t size = 0;
    int code, rc = cli_read_file(r->onnx, MODEL_MAX_BYTES, &data, &size);

    if (rc)
        return cli_fail(cli_code(rc), "import: %s: %s", r->onnx, strerror(-rc));
    rc = onnx_import(data, size, heads[r->head], &net, why, sizeof(why));
    if (!rc)
        rc = describe(r, net, &m, why, sizeof(why));
    if (!rc) {
        labels = calloc(net->class_count, sizeof(*labels));
        rc = labels ? read_labels(r->labels, net->class_count, labels, why, sizeof(why)) : -ENOMEM;
    }
    if (!rc)
        rc = train_command_meta_line(meta, "import_command", argc, argv);
    if (!rc)
        rc = convert_to_model(net, &m);
    if (!rc) {
        m.labels = (const char(*)[MODEL_LABEL_BYTES])labels;
        m.meta = meta;
        rc = convert_write(&m, r->out, &size, why, sizeof(why));
    }
    code = rc ? cli_fail(cli_code(rc), "import: %s: %s", r->onnx, why[0] ? why : strerror(-rc))
              : report(r, &m, size);
    net_free(net);
    free(labels);
    free(data);
    return code;
}

int workshop_import(int argc, char **argv)
{
    static const char *const heads[] = {"softmax", "sigmoid", NULL};
    struct request r = {.family = "identify",
                        .full = 4000.0f,
                        .min_activity_w = 5.0f,
                        .period_ms = 8000,
                        .version = 1};
    struct cli_option options[] = {
        {"onnx", CLI_STRING, &r.onnx, "FILE", "network to import", 0, 0, NULL, 1, 0},
        {"out", CLI_STRING, &r.out, "FILE", "the FP32 model to write", 0, 0, NULL, 1, 0},
        {"features", CLI_STRING, &r.features, "LIST",
         "what the inputs are: linear, log, log-diff, each with :W for a full scale of its own; "
         "linear when not given and there is one input",
         0, 0, NULL, 0, 0},
        {"full", CLI_FLOAT, &r.full, "W", "power at the end of the input scale", 1, 1e7, NULL, 0,
         0},
        {"period-ms", CLI_UINT, &r.period_ms, "MS", "of the grid that it was trained on", 1,
         3600000, NULL, 0, 0},
        {"labels", CLI_STRING, &r.labels, "FILE",
         "names of the classes, one a line; class0, class1, ... when not given", 0, 0, NULL, 0, 0},
        {"head", CLI_CHOICE, &r.head, NULL, "where the file ends in logits", 0, 0, heads, 0, 0},
        {"min-activity", CLI_FLOAT, &r.min_activity_w, "W", "a window below this is off", 0, 1e6,
         NULL, 0, 0},
        {"hop", CLI_UINT, &r.hop, "N",
         "recommended samples between two classifications; 0: 4, or the window", 0,
         MODEL_MAX_WINDOW, NULL, 0, 0},
        {"family", CLI_STRING, &r.family, "NAME", "which models may replace each other", 0, 0, NULL,
         0, 0},
        {"version", CLI_UINT, &r.version, "N", "within the family", 1, 4294967295.0, NULL, 0, 0},
        {"json", CLI_FLAG, &r.json, NULL, "report as one JSON object", 0, 0, NULL, 0, 0},
        {0}};
    struct cli_command command = {
        .name = "import",
        .usage = "--onnx FILE --out FILE",
        .summary =
            "Makes an FP32 model of a 1-D CNN in an ONNX file, as PyTorch and Keras export it: "
            "convolutions without padding, max pooling, dense layers. Batch normalization is "
            "folded. What is not supported is refused with the node's name and the reason.",
        .options = options};
    int code = cli_parse(&command, argc, argv);
    return code != CLI_RUN ? code : import_file(&r, argc, argv);
}
