/* cmd_finetune.c - `nilm-model finetune`: trains an FP32 model file further, after pruning or on
 * other data. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "inference/workshop/convert.h"
#include "inference/workshop/train_command.h"
#include "inference/workshop/workshop.h"

struct request {
    const char *model, *dir, *out;
    int split, split_given, json, no_norm;
    uint32_t stride, version;
    uint64_t split_seed;
    struct train_options train;
};

static int tune(const struct request *r, const struct model *source, struct train_data *data,
                struct net **net, struct train_outcome *outcome, char *why, size_t why_size)
{
    struct net *norm = NULL;
    int rc = convert_from_model(source, net, why, why_size);

    if (!rc && !r->no_norm) {
        rc = train_unfold(*net, source->channels, data->train, r->train.seed, &norm);
        if (!rc) {
            net_free(*net);
            *net = norm;
        }
    }
    return rc ? rc : train_command_run(*net, source, data, &r->train, outcome, why, why_size);
}

static int describe(const struct model *source, const struct dataset_options *o,
                    const struct train_outcome *outcome, int argc, char **argv, char *meta)
{
    char key[32] = "finetune_command", old[4];
    int rc;

    if (strlen(source->meta) >= TRAIN_META_BYTES)
        return -ENOSPC;
    (void)snprintf(meta, TRAIN_META_BYTES, "%s", source->meta);
    /* fine-tuned before: that command stays */
    for (unsigned n = 2; n < 100 && model_meta(source, key, old, sizeof(old)) != -ENOENT; n++)
        (void)snprintf(key, sizeof(key), "finetune_command_%u", n);
    rc = train_command_meta_data(meta, o);
    if (!rc)
        rc = train_command_meta_line(meta, key, argc, argv);
    if (!rc && outcome->valid)
        rc = train_command_meta_metrics(meta, "fp32_valid", outcome->valid);
    if (!rc && outcome->valid)
        rc = train_command_meta_thresholds(meta, outcome->valid);
    if (!rc && outcome->test)
        rc = train_command_meta_metrics(meta, "fp32_test", outcome->test);
    return rc;
}

static int finetune_file(const struct request *r, int argc, char **argv)
{
    struct model *source = NULL, m;
    struct dataset_options o;
    struct train_data data = {0};
    struct train_outcome outcome = {0};
    struct net *net = NULL;
    char why[512] = "", meta[TRAIN_META_BYTES] = "";
    int rc, code;

    rc = model_decode_file(r->model, &source, why, sizeof(why));
    if (rc)
        return cli_fail(cli_code(rc), "%s", why);
    train_command_options(source, &o);
    if (r->split_given)
        o.split = (enum dataset_split)r->split;
    o.split_seed = r->split_seed ? r->split_seed : o.split_seed;
    o.stride = r->stride ? r->stride : o.stride;
    o.threads = r->train.threads;
    rc = train_command_load(r->dir, &o, 7u, r->train.quiet, &data, why, sizeof(why));
    if (!rc)
        rc = tune(r, source, &data, &net, &outcome, why, sizeof(why));
    if (!rc)
        rc = describe(source, &o, &outcome, argc, argv, meta);
    if (!rc) {
        m = *source;
        m.owner = NULL;
        m.meta = meta;
        m.golden_count = 0;
        m.version = r->version ? r->version : source->version;
        code = train_command_finish(&m, &outcome, r->out, r->json);
    } else {
        code = cli_fail(cli_code(rc), "%s", why[0] ? why : strerror(-rc));
    }
    train_command_free(&outcome);
    net_free(net);
    train_command_unload(&data);
    model_free(source);
    return code;
}

int workshop_finetune(int argc, char **argv)
{
    struct request r = {.split = SPLIT_DAY};
    train_defaults(&r.train);
    r.train.epochs = 8;
    r.train.rate = 2e-3f;
    r.train.dropout = 0.05f;
    struct cli_option options[] = {
        {"model", CLI_STRING, &r.model, "FILE", "an FP32 model", 0, 0, NULL, 1, 0},
        {"data", CLI_STRING, &r.dir, "DIR", "labelled traces, laid out as tracebase is", 0, 0, NULL,
         1, 0},
        {"out", CLI_STRING, &r.out, "FILE", "the FP32 model to write", 0, 0, NULL, 1, 0},
        {"split", CLI_CHOICE, &r.split, NULL,
         "what keeps the parts apart; when not given, what the model was trained with", 0, 0,
         train_splits, 0, 0},
        {"split-seed", CLI_UINT64, &r.split_seed, "N", "0: as the model was trained", 0, 0, NULL, 0,
         0},
        {"stride", CLI_UINT, &r.stride, "N",
         "grid samples between two windows; 0: as the model was trained", 0, 0, NULL, 0, 0},
        {"no-norm", CLI_FLAG, &r.no_norm, NULL, "train without batch normalization", 0, 0, NULL, 0,
         0},
        {"version", CLI_UINT, &r.version, "N", "of the new model; 0: as before", 0, 0, NULL, 0, 0},
        TRAIN_OPTIONS(r.train),
        {"json", CLI_FLAG, &r.json, NULL, "report as one JSON object", 0, 0, NULL, 0, 0},
        {0}};
    struct cli_command command = {.name = "finetune",
                                  .usage = "--model FILE --data DIR --out FILE",
                                  .summary = "Trains an FP32 model further, with its own window, "
                                             "grid, labels and split unless told otherwise.",
                                  .options = options};
    int code = cli_parse(&command, argc, argv);
    if (code != CLI_RUN)
        return code;
    r.split_given = options[3].given;
    return finetune_file(&r, argc, argv);
}
