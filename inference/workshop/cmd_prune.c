/* cmd_prune.c - `nilm-model prune`: an FP32 model with its least channels removed. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/convert.h"
#include "inference/workshop/prune.h"
#include "inference/workshop/train_command.h"
#include "inference/workshop/workshop.h"

struct request {
    const char *model, *out, *dir, *protect;
    float ratio;
    uint64_t target_params, seed;
    uint32_t least, version, windows, threads;
    int json, quiet, criterion, scope, align;
};

static const char *const criteria[] = {"l2", "l1", "random", "taylor",
                                       NULL};                  /* enum prune_criterion */
static const char *const scopes[] = {"global", "local", NULL}; /* enum prune_scope */
static const char *const alignments[] = {"1", "4", "8", "16", NULL};
static const uint32_t widths[] = {0, 4, 8, 16};

/* Training windows for the Taylor criterion, drawn as in training, not varied. Release features and
 * labels. */
static int draw(const struct request *r, const struct model *m, float **features, uint32_t **labels,
                char *why, size_t why_size)
{
    const struct train_options plain = {.seed = r->seed, .exact = 1};
    const size_t size = (size_t)m->window * m->channel_count;
    struct dataset_options o;
    struct train_data data = {0};
    struct train_sampler sampler = {0};
    float *watts = malloc((m->window + 1u) * sizeof(*watts));
    int rc;

    train_command_options(m, &o);
    o.threads = r->threads;
    *features = calloc(r->windows, size * sizeof(**features));
    *labels = calloc(r->windows, sizeof(**labels));
    rc = watts && *features && *labels ? 0 : -ENOMEM;
    if (!rc)
        rc = train_command_load(r->dir, &o, 1u << PART_TRAIN, r->quiet, &data, why, why_size);
    if (!rc)
        rc = train_sampler_create(data.train, &sampler);
    for (uint32_t i = 0; i < r->windows && !rc; i++)
        train_draw(data.train, &sampler, &plain, m->channels, m->channel_count, 0, i, watts,
                   *features + i * size, *labels + i);
    train_sampler_free(&sampler);
    train_command_unload(&data);
    free(watts);
    return rc;
}

static int cut(const struct request *r, const struct model *m, const struct net *before,
               struct net **after, char *why, size_t why_size)
{
    struct prune_sample sample = {.windows = r->windows};
    struct prune_options options = {.criterion = (enum prune_criterion)r->criterion,
                                    .scope = (enum prune_scope)r->scope,
                                    .ratio = r->target_params ? 0.0 : (double)r->ratio,
                                    .target_params = r->target_params,
                                    .least = r->least,
                                    .align = widths[r->align],
                                    .seed = r->seed,
                                    .sample = &sample};
    float *features = NULL;
    uint32_t *labels = NULL;
    int rc = r->protect ? prune_protect(before, r->protect, &options, why, why_size) : 0;

    if (!rc && options.criterion == PRUNE_TAYLOR)
        rc = draw(r, m, &features, &labels, why, why_size);
    sample.features = features;
    sample.labels = labels;
    if (!rc)
        rc = prune_channels(before, &options, after, why, why_size);
    free(features);
    free(labels);
    return rc;
}

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
    struct model *source = NULL, m;
    struct net *before = NULL, *after = NULL;
    char why[512] = "", meta[TRAIN_META_BYTES] = "";
    size_t size = 0;
    int rc, code;

    rc = model_decode_file(r->model, &source, why, sizeof(why));
    if (!rc)
        rc = convert_from_model(source, &before, why, sizeof(why));
    if (!rc)
        rc = cut(r, source, before, &after, why, sizeof(why));
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
    struct request r = {.ratio = 0.5f, .least = 4, .seed = 1, .windows = 1024};
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
        {"criterion", CLI_CHOICE, &r.criterion, NULL,
         "of a channel's worth: norm of its weights, random, or what the loss on training windows "
         "would change by (first order; needs --data)",
         0, 0, criteria, 0, 0},
        {"scope", CLI_CHOICE, &r.scope, NULL,
         "global: one ranking over all layers; local: the same share of every layer", 0, 0, scopes,
         0, 0},
        {"protect", CLI_STRING, &r.protect, "LAYER[,LAYER]",
         "layers that keep all channels (the output always does)", 0, 0, NULL, 0, 0},
        {"align", CLI_CHOICE, &r.align, NULL,
         "widths are rounded up to a multiple of this, at most to what they were", 0, 0, alignments,
         0, 0},
        {"data", CLI_STRING, &r.dir, "DIR", "traces for taylor: their training part", 0, 0, NULL, 0,
         0},
        {"windows", CLI_UINT, &r.windows, "N", "for taylor", 1, 65536, NULL, 0, 0},
        {"seed", CLI_UINT64, &r.seed, "N", "of random, and of taylor's windows", 0, 0, NULL, 0, 0},
        {"threads", CLI_UINT, &r.threads, "N", "that load; 0: one per processor", 0, 64, NULL, 0,
         0},
        {"quiet", CLI_FLAG, &r.quiet, NULL, "no progress on standard error", 0, 0, NULL, 0, 0},
        {"version", CLI_UINT, &r.version, "N", "of the new model; 0: as before", 0, 0, NULL, 0, 0},
        {"json", CLI_FLAG, &r.json, NULL, "report as one JSON object", 0, 0, NULL, 0, 0},
        {0}};
    struct cli_command command = {
        .name = "prune",
        .usage = "--model FILE --out FILE",
        .summary = "Removes the whole channels that are worth least, with the weights that read "
                   "them. Fine-tune the result before use.",
        .options = options};
    int code = cli_parse(&command, argc, argv);
    if (code != CLI_RUN)
        return code;
    if (r.criterion == PRUNE_TAYLOR && !r.dir)
        return cli_fail(CLI_USAGE, "prune: --criterion taylor needs --data DIR");
    return prune_file(&r, argc, argv);
}
