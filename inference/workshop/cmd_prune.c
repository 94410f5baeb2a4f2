/* cmd_prune.c - `nilm-model prune`: an FP32 model with its least channels removed. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "inference/workshop/convert.h"
#include "inference/workshop/prune.h"
#include "inference/workshop/train_command.h"
#include "inference/workshop/workshop.h"

struct request {
    const char *model, *out;
    float ratio;
    uint64_t target_params;
    uint32_t least, version;
    int json;
};

static int report(const struct request *r, const struct net *before, const struct net *after,
                  size_t size)
{
    if (r->json) {
        cJSON *j = cJSON_CreateObject(), *layers = j ? cJSON_AddArrayToObject(j, "layers") : NULL;
        cJSON_AddNumberToObject(j, "parameters_before", (double)before->param_count);
        cJSON_AddNumberToObject(j, "parameters", (double)after->param_count);
        cJSON_AddNumberToObject(j, "size_bytes", (double)size);
        for (uint32_t i = 0; layers && i < after->layer_count; i++) {
            cJSON *l = after->layers[i].weight_count ? cJSON_CreateObject() : NULL;
            cJSON_AddStringToObject(l, "name", after->layers[i].name);
            cJSON_AddNumberToObject(l, "before", before->layers[i].out_channels);
            cJSON_AddNumberToObject(l, "after", after->layers[i].out_channels);
            if (l)
                cJSON_AddItemToArray(layers, l);
        }
        return cli_print_json(j);
    }
    printf("%s: %zu parameters of %zu, %zu bytes\n", r->out, after->param_count,
           before->param_count, size);
    for (uint32_t i = 0; i < after->layer_count; i++)
        if (after->layers[i].weight_count)
            printf("  %-8s %4u of %4u channels\n", after->layers[i].name,
                   after->layers[i].out_channels, before->layers[i].out_channels);
    return CLI_DONE;
}

static int prune_file(const struct request *r, int argc, char **argv)
{
    const struct prune_options options = {.ratio = r->target_params ? 0.0 : (double)r->ratio,
                                          .target_params = r->target_params,
                                          .least = r->least};
    struct model *source = NULL, m;
    struct net *before = NULL, *after = NULL;
    char why[512] = "", meta[TRAIN_META_BYTES] = "";
    size_t size = 0;
    int rc, code;

    rc = model_decode_file(r->model, &source, why, sizeof(why));
    if (!rc)
        rc = convert_from_model(source, &before, why, sizeof(why));
    if (!rc)
        rc = prune_channels(before, &options, &after, why, sizeof(why));
    if (!rc && strlen(source->meta) >= sizeof(meta))
        rc = -ENOSPC;
    if (!rc) {
        (void)snprintf(meta, sizeof(meta), "%s", source->meta);
        rc = train_command_meta_line(meta, "prune_command", argc, argv);
    }
    if (!rc) {
        m = *source;
        m.owner = NULL;
        m.meta = meta;
        m.golden_count = 0;
        m.version = r->version ? r->version : source->version;
        rc = convert_to_model(after, &m);
    }
    if (!rc)
        rc = convert_write(&m, r->out, &size, why, sizeof(why));
    code = rc ? cli_fail(cli_code(rc), "%s", why[0] ? why : strerror(-rc))
              : report(r, before, after, size);
    net_free(before);
    net_free(after);
    model_free(source);
    return code;
}

int workshop_prune(int argc, char **argv)
{
    struct request r = {.ratio = 0.5f, .least = 4};
    struct cli_option options[] = {
        {"model", CLI_STRING, &r.model, "FILE", "an FP32 model", 0, 0, NULL, 1, 0},
        {"out", CLI_STRING, &r.out, "FILE", "the smaller FP32 model to write", 0, 0, NULL, 1, 0},
        {"ratio", CLI_FLOAT, &r.ratio, "X", "share of all channels and hidden units to remove", 0,
         0.999, NULL, 0, 0},
        {"target-params", CLI_UINT64, &r.target_params, "N",
         "instead of --ratio: remove until at most so many parameters are left; in INT8 a "
         "parameter is a byte",
         0, 0, NULL, 0, 0},
        {"least", CLI_UINT, &r.least, "N", "channels that stay in every layer", 1, 65536, NULL, 0,
         0},
        {"version", CLI_UINT, &r.version, "N", "of the new model; 0: as before", 0, 0, NULL, 0, 0},
        {"json", CLI_FLAG, &r.json, NULL, "report as one JSON object", 0, 0, NULL, 0, 0},
        {0}};
    struct cli_command command = {
        .name = "prune",
        .usage = "--model FILE --out FILE",
        .summary = "Removes whole channels of least L2 norm, ranked over all layers, with the "
                   "weights that read them. Fine-tune the result before use.",
        .options = options};
    int code = cli_parse(&command, argc, argv);
    return code != CLI_RUN ? code : prune_file(&r, argc, argv);
}
