/* cmd_prune.c - `nilm-model prune`: an FP32 model with its least channels removed, in one cut or in
 * several with fine-tuning between them, to a size or to a loss of F1; or a sweep over its layers.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/convert.h"
#include "inference/workshop/prune_report.h"
#include "inference/workshop/prune_tune.h"
#include "inference/workshop/train_command.h"
#include "inference/workshop/workshop.h"

struct request {
    const char *model, *out, *dir, *protect, *csv;
    float ratio, drop;
    uint64_t target_params;
    uint32_t least, version, windows, steps, step_epochs, probes;
    int json, criterion, scope, per, align, sensitivity, drop_given;
    struct train_options train;
    int argc;
    char **argv;
};

/* What lives while the command runs. */
struct job {
    const struct request *r;
    struct model *source;
    struct net *before, *after;
    struct train_data data;
    struct prune_sample sample;
    struct train_teachers *teachers;
    struct prune_tune_options tune;
    struct metrics *whole, *valid, *test; /* before pruning on valid; after it on both */
    cJSON *probes;
    char meta[TRAIN_META_BYTES], why[512];
    size_t size; /* of the file written */
};

static const char *const criteria[] = {"l2", "l1", "random", "taylor",
                                       NULL};                           /* enum prune_criterion */
static const char *const scopes[] = {"global", "local", NULL};          /* enum prune_scope */
static const char *const prices[] = {"channel", "weight", "mac", NULL}; /* enum prune_per */
static const char *const alignments[] = {"1", "4", "8", "16", NULL};
static const uint32_t widths[] = {0, 4, 8, 16};

/* Fine-tuning learns from the network before pruning, too, unless told otherwise. */
static int load_teachers(struct job *j)
{
    const char *files = j->r->train.teacher ? j->r->train.teacher : j->r->model;
    int rc;

    if (!j->r->steps || !strcmp(files, "none"))
        return 0;
    rc = train_teachers_load(files, j->source, j->data.train, &j->teachers, j->why, sizeof(j->why));
    j->tune.train.teachers = j->teachers;
    return rc;
}

static int load(struct job *j)
{
    const struct request *r = j->r;
    const int judged = r->steps || r->drop_given || r->sensitivity;
    struct dataset_options o;
    unsigned parts = 0;
    int rc;

    if (r->criterion == PRUNE_TAYLOR || r->steps)
        parts |= 1u << PART_TRAIN;
    if (judged)
        parts |= 1u << PART_VALID;
    if (judged && !r->sensitivity)
        parts |= 1u << PART_TEST;
    if (!parts)
        return 0;
    train_command_options(j->source, &o);
    o.threads = r->train.threads;
    rc = train_command_load(r->dir, &o, parts, r->train.quiet, &j->data, j->why, sizeof(j->why));
    if (!rc && (r->drop_given || r->sensitivity) && !j->data.valid) {
        (void)snprintf(j->why, sizeof(j->why),
                       "%s was trained without a split: there is no validation part to judge by",
                       r->model);
        return -EINVAL;
    }
    if (!rc)
        rc = load_teachers(j);
    if (!rc && r->criterion == PRUNE_TAYLOR)
        rc = prune_sample_draw(j->data.train, j->source->channels, j->source->channel_count,
                               r->windows, r->train.seed, &j->sample);
    if (!rc && j->data.valid)
        rc = train_evaluate(j->before, j->source->channels, j->data.valid, r->train.threads,
                            &j->whole);
    return rc;
}

static int prepare(struct job *j)
{
    const struct request *r = j->r;
    int rc = model_decode_file(r->model, &j->source, j->why, sizeof(j->why));

    if (!rc)
        rc = convert_from_model(j->source, &j->before, j->why, sizeof(j->why));
    if (rc)
        return rc;
    j->tune = (struct prune_tune_options){.steps = r->steps,
                                          .step_epochs = r->step_epochs,
                                          .train = r->train,
                                          .prune = {.criterion = (enum prune_criterion)r->criterion,
                                                    .scope = (enum prune_scope)r->scope,
                                                    .per = (enum prune_per)r->per,
                                                    .ratio = (double)r->ratio,
                                                    .target_params = r->target_params,
                                                    .least = r->least,
                                                    .align = widths[r->align],
                                                    .seed = r->train.seed,
                                                    .sample = &j->sample}};
    if (r->protect)
        rc = prune_protect(j->before, r->protect, &j->tune.prune, j->why, sizeof(j->why));
    return rc ? rc : load(j);
}

/* Takes a line out of meta. */
static void forget(char *meta, const char *key)
{
    const size_t length = strlen(key);

    for (char *line = meta; *line;) {
        char *next = line + strcspn(line, "\n");
        next += *next == '\n';
        if (!strncmp(line, key, length) && line[length] == '=')
            memmove(line, next, strlen(next) + 1);
        else
            line = next;
    }
}

/* The new model's meta lines: those of the source, less what was measured on it. */
static int describe(struct job *j)
{
    int rc = strlen(j->source->meta) < sizeof(j->meta) ? 0 : -ENOSPC;

    if (!rc) {
        (void)snprintf(j->meta, sizeof(j->meta), "%s", j->source->meta);
        forget(j->meta, "fp32_valid");
        forget(j->meta, "fp32_test");
        rc = train_command_meta_line(j->meta, "prune_command", j->r->argc, j->r->argv);
    }
    if (!rc && j->valid)
        rc = train_command_meta_metrics(j->meta, "fp32_valid", j->valid);
    if (!rc && j->valid)
        rc = train_command_meta_thresholds(j->meta, j->valid);
    if (!rc && j->test)
        rc = train_command_meta_metrics(j->meta, "fp32_test", j->test);
    return rc;
}

static int save(struct job *j, const struct net *net)
{
    struct model m = *j->source;
    int rc = describe(j);

    m.owner = NULL;
    m.meta = j->meta;
    m.golden_count = 0;
    m.version = j->r->version ? j->r->version : j->source->version;
    if (!rc)
        rc = convert_to_model(net, &m);
    return rc ? rc : convert_write(&m, j->r->out, &j->size, j->why, sizeof(j->why));
}

/* A search takes long: its best so far is saved at once. A failure to shows when the last is. */
static void probed(void *context, const struct prune_probe *p)
{
    struct job *j = context;

    if (j->r->json)
        cJSON_AddItemToArray(j->probes, prune_report_probe_json(p));
    if (!j->r->json || !j->r->train.quiet)
        prune_report_probe_text(j->r->json ? stderr : stdout, p);
    if (p->within)
        (void)save(j, p->net);
}

static int cut(struct job *j)
{
    const struct request *r = j->r;
    const struct prune_tune_data data = {
        .channels = j->source->channels, .train = j->data.train, .valid = j->data.valid};
    int rc;

    if (!r->drop_given)
        return prune_steps(j->before, &data, &j->tune, &j->after, j->why, sizeof(j->why));
    if (!r->json)
        train_command_text("valid", j->whole);
    rc = prune_search(j->before, &data, &j->tune, (double)r->drop, r->probes, probed, j, &j->after,
                      j->why, sizeof(j->why));
    if (!rc && !j->after) {
        (void)snprintf(j->why, sizeof(j->why),
                       "no smaller network within %.4g of macro F1 %.4f in %u probes: more "
                       "fine-tuning (--steps, --epochs), more --probes, or a larger drop",
                       (double)r->drop, j->whole->f1_macro, r->probes);
        return -ERANGE;
    }
    return rc;
}

static int judge(struct job *j)
{
    const uint32_t threads = j->r->train.threads;
    int rc = 0;

    if (j->data.valid)
        rc = train_evaluate(j->after, j->source->channels, j->data.valid, threads, &j->valid);
    if (!rc && j->data.test)
        rc = train_evaluate(j->after, j->source->channels, j->data.test, threads, &j->test);
    if (!rc && j->data.test && j->data.test->mix)
        train_command_thresholds(j->valid, j->test);
    return rc;
}

static int report(struct job *j)
{
    if (j->r->json) {
        cJSON *o = prune_report_json(j->before, j->after, j->size);
        if (o && j->whole)
            cJSON_AddItemToObject(o, "valid_before", train_command_json(j->whole));
        if (o && j->valid)
            cJSON_AddItemToObject(o, "valid", train_command_json(j->valid));
        if (o && j->test)
            cJSON_AddItemToObject(o, "test", train_command_json(j->test));
        if (o && j->r->drop_given) {
            cJSON_AddItemToObject(o, "probes", j->probes);
            j->probes = NULL;
        }
        return cli_print_json(o);
    }
    prune_report_text(j->r->out, j->before, j->after, j->size);
    if (j->whole && !j->r->drop_given)
        train_command_text("before", j->whole);
    if (j->valid)
        train_command_text("valid", j->valid);
    if (j->test)
        train_command_text("test", j->test);
    return CLI_DONE;
}

static int sweep(struct job *j)
{
    const struct request *r = j->r;
    const struct prune_tune_data data = {.channels = j->source->channels, .valid = j->data.valid};
    struct prune_sensitivity *rows = NULL;
    size_t count = 0;
    char *csv = NULL;
    int code, rc = prune_sensitivity(j->before, &data, &j->tune.prune, r->train.threads,
                                     r->train.quiet, &rows, &count, j->why, sizeof(j->why));

    if (!rc && r->csv) {
        csv = prune_report_sensitivity_csv(j->before, rows, count);
        rc = csv ? cli_write_file(r->csv, csv, strlen(csv)) : -ENOMEM;
        if (rc)
            (void)snprintf(j->why, sizeof(j->why), "%s: %s", r->csv, strerror(-rc));
    }
    if (rc) {
        code = cli_fail(cli_code(rc), "%s", j->why[0] ? j->why : strerror(-rc));
    } else if (r->json) {
        code = cli_print_json(prune_report_sensitivity_json(j->before, j->whole, rows, count));
    } else {
        prune_report_sensitivity_text(j->before, j->whole, rows, count);
        code = CLI_DONE;
    }
    free(csv);
    free(rows);
    return code;
}

static int prune_file(const struct request *r)
{
    struct job j = {.r = r, .probes = cJSON_CreateArray()};
    int code, rc = prepare(&j);

    if (!rc && r->sensitivity) {
        code = sweep(&j);
        goto out;
    }
    if (!rc)
        rc = cut(&j);
    if (!rc)
        rc = judge(&j);
    if (!rc)
        rc = save(&j, j.after);
    code = rc ? cli_fail(cli_code(rc), "%s", j.why[0] ? j.why : strerror(-rc)) : report(&j);
out:
    cJSON_Delete(j.probes);
    metrics_free(j.whole);
    metrics_free(j.valid);
    metrics_free(j.test);
    prune_sample_free(&j.sample);
    train_teachers_free(j.teachers);
    train_command_unload(&j.data);
    net_free(j.before);
    net_free(j.after);
    model_free(j.source);
    return code;
}

static int given(const struct cli_option *options, const char *name)
{
    while (options->name && strcmp(options->name, name) != 0)
        options++;
    return options->given;
}

/* Options that need or exclude each other. */
static int consistent(const struct request *r, const struct cli_option *options)
{
    const int targets = given(options, "ratio") + given(options, "target-params") + r->drop_given;

    if (targets > 1)
        return cli_fail(CLI_USAGE,
                        "prune: one of --ratio, --target-params and --target-f1-drop, not more");
    if (r->sensitivity && (targets || r->steps || r->out))
        return cli_fail(CLI_USAGE, "prune: --sensitivity writes no model: no --out, no target and "
                                   "no --steps beside it");
    if (!r->sensitivity && !r->out)
        return cli_fail(CLI_USAGE, "prune: --out FILE is missing");
    if (r->csv && !r->sensitivity)
        return cli_fail(CLI_USAGE, "prune: --csv belongs to --sensitivity");
    if (r->train.checkpoint || r->train.resume)
        return cli_fail(CLI_USAGE, "prune: --checkpoint and --resume are for train and finetune");
    if (r->dir)
        return CLI_RUN;
    if (r->criterion == PRUNE_TAYLOR)
        return cli_fail(CLI_USAGE, "prune: --criterion taylor needs --data DIR");
    if (r->steps || r->drop_given || r->sensitivity)
        return cli_fail(CLI_USAGE,
                        "prune: --steps, --target-f1-drop and --sensitivity need --data DIR");
    return CLI_RUN;
}

int workshop_prune(int argc, char **argv)
{
    struct request r = {.ratio = 0.5f,
                        .least = 4,
                        .windows = 1024,
                        .step_epochs = 2,
                        .probes = 8,
                        .argc = argc,
                        .argv = argv};
    train_defaults(&r.train);
    r.train.epochs = 8;
    r.train.rate = 2e-3f;
    r.train.dropout = 0.05f;
    /* clang-format off */
    struct cli_option options[] = {
        {"model", CLI_STRING, &r.model, "FILE", "an FP32 model", 0, 0, NULL, 1, 0},
        {"out", CLI_STRING, &r.out, "FILE", "the smaller FP32 model to write", 0, 0, NULL, 0, 0},
        {"ratio", CLI_FLOAT, &r.ratio, "X", "share of all channels and hidden units to remove", 0, 0.999, NULL, 0, 0},
        {"target-params", CLI_UINT64, &r.target_params, "N", "instead: remove until at most so many parameters are left; in INT8 a parameter is a byte", 0, 0, NULL, 0, 0},
        {"target-f1-drop", CLI_FLOAT, &r.drop, "X", "instead: search for the smallest network whose macro F1 on the validation part is at most so much lower; each probe has all of the fine-tuning that --steps asks for", 0, 1, NULL, 0, 0},
        {"probes", CLI_UINT, &r.probes, "N", "for --target-f1-drop: at most so many", 1, 64, NULL, 0, 0},
        {"least", CLI_UINT, &r.least, "N", "channels that stay in every layer", 1, 65536, NULL, 0, 0},
        {"criterion", CLI_CHOICE, &r.criterion, NULL, "of a channel's worth: norm of its weights, random, or what the loss on training windows would change by (first order; needs --data)", 0, 0, criteria, 0, 0},
        {"scope", CLI_CHOICE, &r.scope, NULL, "global: one ranking over all layers; local: the same share of every layer", 0, 0, scopes, 0, 0},
        {"per", CLI_CHOICE, &r.per, NULL, "what worth is divided by in the ranking of --scope global: nothing, the weights that go with a channel, or their multiplications per window", 0, 0, prices, 0, 0},
        {"protect", CLI_STRING, &r.protect, "LAYER[,LAYER]", "layers that keep all channels (the output always does)", 0, 0, NULL, 0, 0},
        {"align", CLI_CHOICE, &r.align, NULL, "widths are rounded up to a multiple of this, at most to what they were", 0, 0, alignments, 0, 0},
        {"data", CLI_STRING, &r.dir, "DIR", "traces, laid out as tracebase is: for taylor, fine-tuning, and judging", 0, 0, NULL, 0, 0},
        {"windows", CLI_UINT, &r.windows, "N", "for taylor", 1, 65536, NULL, 0, 0},
        {"steps", CLI_UINT, &r.steps, "N", "cuts, each followed by fine-tuning; 0: one cut and none", 0, 100, NULL, 0, 0},
        {"epochs-per-step", CLI_UINT, &r.step_epochs, "N", "of fine-tuning after each cut but the last, which --epochs follow", 0, 10000, NULL, 0, 0},
        {"sensitivity", CLI_FLAG, &r.sensitivity, NULL, "writes no model: prunes each layer by itself by 10 to 90 % and shows what is lost on the validation part; --least, --scope and --align do not count", 0, 0, NULL, 0, 0},
        {"csv", CLI_STRING, &r.csv, "FILE", "for --sensitivity: the table as CSV", 0, 0, NULL, 0, 0},
        {"version", CLI_UINT, &r.version, "N", "of the new model; 0: as before", 0, 0, NULL, 0, 0},
        TRAIN_OPTIONS(r.train),
        {"json", CLI_FLAG, &r.json, NULL, "report as one JSON object", 0, 0, NULL, 0, 0},
        {0}};
    /* clang-format on */
    struct cli_command command = {
        .name = "prune",
        .usage = "--model FILE --out FILE",
        .summary = "Removes the whole channels that are worth least, with the weights that read "
                   "them: at once, to be fine-tuned afterwards, or with --steps in several cuts "
                   "with fine-tuning between them. Training options count for fine-tuning; its "
                   "--teacher is the model itself when not given, and none with 'none'.",
        .options = options};
    int code = cli_parse(&command, argc, argv);
    if (code != CLI_RUN)
        return code;
    r.drop_given = given(options, "target-f1-drop");
    code = consistent(&r, options);
    return code == CLI_RUN ? prune_file(&r) : code;
}
