/* cmd_train.c - `nilm-model train`: a new network from labelled traces to an FP32 model file. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/mix.h"
#include "inference/workshop/train_command.h"
#include "inference/workshop/train_network.h"
#include "inference/workshop/workshop.h"

struct request {
    const char *dir, *out, *family, *attribution, *mix;
    int split, json;
    uint32_t version, hop;
    struct train_network network;
    struct dataset_options data;
    struct train_options train;
};

/* Everything of the model but its layers; labels lead into data. */
static int describe(const struct request *r, const struct train_data *data, char *meta,
                    struct model *m)
{
    m->version = r->version;
    m->class_count = data->train->class_count;
    (void)snprintf(m->family, sizeof(m->family), "%s", r->family);
    m->period_ms = r->data.period_ms;
    m->hop = r->hop;
    m->min_activity_w = r->data.min_activity_w;
    m->labels = (const char(*)[MODEL_LABEL_BYTES])data->train->labels;
    m->meta = meta;
    if (r->attribution && train_command_meta(meta, "attribution", r->attribution))
        return -ENOSPC;
    if (r->data.mix[0]) {
        char lag[16];
        (void)snprintf(lag, sizeof(lag), "%u", r->data.lag);
        if (train_command_meta(meta, "lag", lag) ||
            train_command_meta(meta, "aggregates", r->data.mix))
            return -ENOSPC;
    }
    if (data->train->without && train_command_meta(meta, "without", data->train->without))
        return -ENOSPC;
    return train_command_meta_data(meta, &r->data);
}

static int train_and_save(const struct request *r, int argc, char **argv)
{
    struct model m = {0};
    struct net_spec spec = {0};
    struct net *net = NULL;
    struct train_data data = {0};
    struct train_outcome outcome = {0};
    char why[512] = "", meta[TRAIN_META_BYTES] = "";
    int rc, code = CLI_USAGE;

    if (train_network_parse(&r->network, r->data.window, &spec, &m) != CLI_RUN)
        return CLI_USAGE;
    rc = train_command_load(r->dir, &r->data, 7u, r->train.quiet, &data, why, sizeof(why));
    if (rc)
        return cli_fail(cli_code(rc), "%s", why);
    if (data.train->few[0])
        fprintf(stderr,
                "nilm-model: left out: %s; a class needs %u traces and a window of %.0f minutes\n",
                data.train->few, r->data.min_traces,
                (double)r->data.window * r->data.period_ms / 60000);
    spec.class_count = data.train->class_count;
    if (spec.class_count < 2 && r->network.head == 0) {
        code = cli_fail(CLI_FAILED,
                        "%s: expected traces of two classes or more to tell apart, found %u",
                        r->dir, spec.class_count);
        goto out;
    }
    rc = net_create(&spec, &net, why, sizeof(why));
    if (rc) {
        code = cli_fail(CLI_USAGE, "%s%s%s", r->network.file ? r->network.file : "",
                        r->network.file ? ": " : "", why);
        goto out;
    }
    net_init(net, r->train.seed);
    rc = describe(r, &data, meta, &m);
    if (!rc)
        rc = train_command_meta_line(meta, "train_command", argc, argv);
    if (!rc)
        rc = train_command_run(net, &m, &data, &r->train, &outcome, why, sizeof(why));
    if (!rc && outcome.valid)
        rc = train_command_meta_metrics(meta, "fp32_valid", outcome.valid);
    if (!rc && outcome.valid)
        rc = train_command_meta_thresholds(meta, outcome.valid);
    if (!rc && outcome.test)
        rc = train_command_meta_metrics(meta, "fp32_test", outcome.test);
    code = rc ? cli_fail(cli_code(rc), "%s", why[0] ? why : strerror(-rc))
              : train_command_finish(&m, &outcome, r->out, r->json);
out:
    train_command_free(&outcome);
    net_free(net);
    train_command_unload(&data);
    return code;
}

static int prepare_mix(struct request *r)
{
    char why[512];
    int rc;

    if (!r->network.head)
        return cli_fail(CLI_USAGE, "train: --aggregates goes with --head sigmoid");
    r->data.lag = r->data.lag ? r->data.lag : r->data.window / 4;
    r->data.min_activity_w = 0.0f; /* a mains meter is never off */
    rc = mix_rules_read(r->mix, r->data.mix, why, sizeof(why));
    return rc ? cli_fail(cli_code(rc), "%s", why) : CLI_RUN;
}

int workshop_train(int argc, char **argv)
{
    struct request r = {.family = "identify", .split = SPLIT_DAY, .version = 1, .hop = 8};
    train_network_defaults(&r.network);
    dataset_defaults(&r.data);
    train_defaults(&r.train);
    struct cli_option options[] = {
        {"data", CLI_STRING, &r.dir, "DIR", "labelled traces, laid out as tracebase is", 0, 0, NULL,
         1, 0},
        {"out", CLI_STRING, &r.out, "FILE", "the FP32 model to write", 0, 0, NULL, 1, 0},
        {"split", CLI_CHOICE, &r.split, NULL,
         "what keeps training, validation and test apart; none: train on everything", 0, 0,
         train_splits, 0, 0},
        {"split-seed", CLI_UINT64, &r.data.split_seed, "N", "which days or devices go where", 0, 0,
         NULL, 0, 0},
        {"stride", CLI_UINT, &r.data.stride, "N", "grid samples between two windows", 1, 16384,
         NULL, 0, 0},
        {"window", CLI_UINT, &r.data.window, "N", "grid samples in a window", 8, MODEL_MAX_WINDOW,
         NULL, 0, 0},
        {"period-ms", CLI_UINT, &r.data.period_ms, "MS", "of the grid", 1, 3600000, NULL, 0, 0},
        {"min-activity", CLI_FLOAT, &r.data.min_activity_w, "W",
         "a window below this is off, and not used", 0, 1e6, NULL, 0, 0},
        {"min-traces", CLI_UINT, &r.data.min_traces, "N", "classes with fewer traces are left out",
         0, 0, NULL, 0, 0},
        {"aggregates", CLI_STRING, &r.mix, "RULES",
         "train on aggregates mixed from the traces, by a file of rules (the models of mains "
         "meters); then with --head sigmoid, and the options that vary windows say nothing",
         0, 0, NULL, 0, 0},
        {"lag", CLI_UINT, &r.data.lag, "N",
         "with --aggregates: the samples before the window's last one at which loads are judged; "
         "0: a "
         "quarter of the window",
         0, MODEL_MAX_WINDOW, NULL, 0, 0},
        {"without", CLI_STRING, &r.data.without, "LIST",
         "classes left out, to calibrate unknown with (reject): names separated by commas, or K/N: "
         "number K and every N-th from there",
         0, 0, NULL, 0, 0},
        {"net", CLI_STRING, &r.network.file, "FILE",
         "the network as a text file; the options from here to --hop, --window and --period-ms "
         "override it",
         0, 0, NULL, 0, 0},
        {"features", CLI_STRING, &r.network.features, "LIST",
         "input channels: linear, log, log-diff, each with :W for a full scale of its own", 0, 0,
         NULL, 0, 0},
        {"full", CLI_FLOAT, &r.network.full, "W", "power at the end of the input scale", 1, 1e7,
         NULL, 0, 0},
        {"widths", CLI_STRING, &r.network.widths, "LIST", "channels of the convolutions", 0, 0,
         NULL, 0, 0},
        {"taps", CLI_STRING, &r.network.taps, "LIST", "taps of the convolutions", 0, 0, NULL, 0, 0},
        {"pools", CLI_STRING, &r.network.pools, "LIST", "pool after each convolution, 1: none", 0,
         0, NULL, 0, 0},
        {"hidden", CLI_STRING, &r.network.hidden, "LIST", "units of the hidden dense layers", 0, 0,
         NULL, 0, 0},
        {"no-norm", CLI_FLAG, &r.network.no_norm, NULL, "train without batch normalization", 0, 0,
         NULL, 0, 0},
        {"head", CLI_CHOICE, &r.network.head, NULL,
         "softmax: one class, cross-entropy; sigmoid: each class by itself, binary cross-entropy",
         0, 0, train_network_heads, 0, 0},
        {"hop", CLI_UINT, &r.hop, "N", "recommended samples between two classifications", 1,
         MODEL_MAX_WINDOW, NULL, 0, 0},
        {"family", CLI_STRING, &r.family, "NAME", "which models may replace each other", 0, 0, NULL,
         0, 0},
        {"version", CLI_UINT, &r.version, "N", "within the family", 1, 4294967295.0, NULL, 0, 0},
        {"attribution", CLI_STRING, &r.attribution, "TEXT",
         "what the data's licence asks to be said", 0, 0, NULL, 0, 0},
        TRAIN_OPTIONS(r.train),
        {"json", CLI_FLAG, &r.json, NULL, "report as one JSON object", 0, 0, NULL, 0, 0},
        {0}};
    struct cli_command command = {
        .name = "train",
        .usage = "--data DIR --out FILE",
        .summary = "Trains the 1-D CNN on labelled traces and writes an FP32 model file. The epoch "
                   "that is best on the validation part is kept; the test part is only reported.",
        .options = options};
    int code = cli_parse(&command, argc, argv);
    if (code != CLI_RUN)
        return code;
    code = train_network_read(&r.network, options);
    if (code == CLI_RUN && r.mix)
        code = prepare_mix(&r);
    if (code == CLI_RUN) {
        r.data.split = (enum dataset_split)r.split;
        r.data.threads = r.train.threads;
        code = train_and_save(&r, argc, argv);
    }
    train_network_free(&r.network);
    return code;
}
