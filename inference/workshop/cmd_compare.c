/* cmd_compare.c - `nilm-model compare`: the article's whole experiment, resumable. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "inference/model.h"
#include "inference/workshop/compare.h"
#include "inference/workshop/report.h"
#include "inference/workshop/train_command.h"
#include "inference/workshop/workshop.h"

/* --- The folder --- */

static int make_folder(const char *path)
{
    return mkdir(path, 0777) < 0 && errno != EEXIST ? -errno : 0;
}

/* A temporary file of cli_write_file: NAME.nilm.XXXXXX or NAME.done.XXXXXX. */
static int is_leftover(const char *name)
{
    const size_t n = strlen(name);

    return n > 12 && (!strncmp(name + n - 12, ".nilm.", 6) || !strncmp(name + n - 12, ".done.", 6));
}

static int is_record(const char *name)
{
    const size_t n = strlen(name);

    return n > 5 && !strcmp(name + n - 5, ".done");
}

/* What a killed run left half written goes; with fresh, what says that stages are done as well. */
static void clean_folder(const char *path, int fresh)
{
    DIR *folder = opendir(path);
    const struct dirent *entry;

    while (folder && (entry = readdir(folder)))
        if (is_leftover(entry->d_name) || (fresh && is_record(entry->d_name)))
            (void)unlinkat(dirfd(folder), entry->d_name, 0);
    if (folder)
        closedir(folder);
}

/* Makes OUT and OUT/work and locks them against a second run. Returns the lock's descriptor or an
 * error. */
static int open_folder(struct compare *c, char *why, size_t why_size)
{
    char path[COMPARE_PATH_BYTES];
    int rc, lock;

    if (strlen(c->settings.out) + COMPARE_NAME_BYTES + 16 > sizeof(c->work)) {
        (void)snprintf(why, why_size, "--out: expected a path of at most %zu bytes",
                       sizeof(c->work) - COMPARE_NAME_BYTES - 16);
        return -ENAMETOOLONG;
    }
    (void)snprintf(c->work, sizeof(c->work), "%s/work", c->settings.out);
    rc = make_folder(c->settings.out);
    if (!rc)
        rc = make_folder(c->work);
    (void)snprintf(path, sizeof(path), "%s/lock", c->settings.out);
    lock = rc ? rc : open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock < 0) {
        rc = rc ? rc : -errno;
        (void)snprintf(why, why_size, "%s: %s", c->settings.out, strerror(-rc));
        return rc;
    }
    if (flock(lock, LOCK_EX | LOCK_NB) < 0) {
        rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
        (void)snprintf(why, why_size, "%s: %s", c->settings.out,
                       rc == -EBUSY ? "another compare works in it" : strerror(-rc));
        close(lock);
        return rc;
    }
    clean_folder(c->work, c->settings.fresh && !c->settings.plan);
    return lock;
}

/* --- The plan --- */

/* The split of a given base is part of it: under another one the test part holds days that the base
 * has learned. A base whose record names none (an import) has learned nothing here. */
static int adopt_split(struct compare *c, const struct model *m, char *why, size_t why_size)
{
    struct compare_settings *s = &c->settings;
    struct dataset_options o;
    char text[64];

    if (model_meta(m, "split", text, sizeof(text)))
        return 0;
    train_command_options(m, &o);
    if ((s->split_given && s->split != (int)o.split) ||
        (s->split_seed_given && s->split_seed != o.split_seed)) {
        (void)snprintf(why, why_size,
                       "%s: --split and --split-seed: expected those that the base was trained "
                       "with, %s and %llu",
                       s->base, train_splits[o.split], (unsigned long long)o.split_seed);
        return -EINVAL;
    }
    s->split = (int)o.split;
    s->split_seed = o.split_seed;
    if (o.split == SPLIT_NONE) {
        (void)snprintf(why, why_size, "%s: expected a base trained with a split, found none",
                       s->base);
        return -EINVAL;
    }
    return 0;
}

/* Parameters and multiplications of the base, once it is there; until then those of the network
 * that `train` makes. */
static int measure_base(struct compare *c, const char *path, char *why, size_t why_size)
{
    struct model *m = NULL;
    int rc = model_decode_file(path, &m, why, why_size);

    if (!rc && m->dtype != MODEL_FP32) {
        (void)snprintf(why, why_size, "%s: expected an FP32 model as the base", path);
        rc = -EINVAL;
    }
    if (!rc) {
        c->base_params = (double)model_parameters(m);
        c->base_macs = (double)model_macs(m);
        if (c->settings.base)
            rc = adopt_split(c, m, why, why_size);
    }
    model_free(m);
    return rc;
}

static void print_plan(struct compare *c)
{
    for (int i = 0; i < c->stage_count; i++) {
        struct compare_stage *s = &c->stages[i];
        char *command = compare_stage_command(c, s);
        if (i == c->first_count)
            printf("# CRITERION and SCOPE: those of the candidate with the best macro F1 on the "
                   "validation part\n");
        printf("%3d  %6.1f s  %s  %s\n", i + 1, s->cost,
               i < c->first_count && compare_stage_check(c, s) == 1 ? "done" : "    ",
               command ? command : "?");
        free(command);
    }
    printf("about %.0f minutes on two idle cores, for %u files\n", compare_plan_cost(c) / 60.0,
           c->files);
}

/* --- Running --- */

static int run_stages(struct compare *c, int from)
{
    int code = CLI_DONE;

    for (int i = from; i < c->stage_count && code == CLI_DONE; i++)
        code = compare_stage_run(c, &c->stages[i]);
    return code;
}

/* The second half of the plan, now that there is something to choose from. */
static int replan(struct compare *c, int models)
{
    int rc = compare_result_choose(c);

    if (rc)
        return cli_fail(
            CLI_FAILED,
            "compare: no candidate has a macro F1 on the validation part: is it empty?");
    compare_plan_clear(c, c->first_count, models);
    compare_plan_second(c);
    return c->rc ? cli_fail(cli_code(c->rc), "compare: %s", strerror(-c->rc)) : CLI_DONE;
}

static int plan_all(struct compare *c, int *models)
{
    compare_plan_first(c);
    *models = c->model_count;
    compare_plan_second(c);
    return c->rc ? cli_fail(cli_code(c->rc), "compare: %s", strerror(-c->rc)) : CLI_DONE;
}

static int run_all(struct compare *c)
{
    char why[512] = "", path[COMPARE_PATH_BYTES];
    int models, code = plan_all(c, &models);

    if (code == CLI_DONE && c->settings.plan) {
        print_plan(c);
        return CLI_DONE;
    }
    if (!c->settings.quiet)
        cli_progress_begin(&c->progress, "compare", (uint64_t)(compare_plan_cost(c) * 1000.0));
    if (code == CLI_DONE && !c->settings.base) { /* the sizes to prune to come from it */
        code = compare_stage_run(c, &c->stages[0]);
        compare_model_path(c, &c->models[0], path);
        int rc = code == CLI_DONE ? measure_base(c, path, why, sizeof(why)) : 0;
        if (rc)
            code = cli_fail(cli_code(rc), "compare: %s", why);
        const double seconds = c->stages[0].seconds;
        compare_plan_clear(c, 0, 0);
        if (code == CLI_DONE)
            code = plan_all(c, &models);
        c->stages[0].seconds = seconds;
    }
    for (int i = c->settings.base ? 0 : 1; i < c->first_count && code == CLI_DONE; i++)
        code = compare_stage_run(c, &c->stages[i]);
    if (code == CLI_DONE)
        code = replan(c, models);
    c->progress.total = (uint64_t)(compare_plan_cost(c) * 1000.0);
    if (code == CLI_DONE)
        code = run_stages(c, c->first_count);
    if (code == CLI_DONE && !c->settings.quiet)
        cli_progress_end(&c->progress, NULL);
    return code;
}

static int report(struct compare *c)
{
    char why[512] = "";
    cJSON *result = NULL;
    int rc = compare_result_build(c, &result, why, sizeof(why));

    if (!rc)
        rc = report_write(result, c->settings.out, why, sizeof(why));
    if (rc) {
        cJSON_Delete(result);
        return cli_fail(cli_code(rc), "compare: %s", why[0] ? why : strerror(-rc));
    }
    if (c->settings.json)
        return cli_print_json(result);
    report_tables(result, stdout);
    printf("\nwritten: report.html, report.md, result.json, models.csv, sweep.csv, classes.csv in "
           "%s\n",
           c->settings.out);
    cJSON_Delete(result);
    return CLI_DONE;
}

/* --- The command --- */

static void set_points(struct compare *c, int quick)
{
    static const double ratios[] = {0.3, 0.5, 0.7}, shares[] = {0.4, 0.28, 0.18};

    c->ratio_count = quick ? 1 : 3;
    c->share_count = quick ? 1 : 3;
    memcpy(c->ratios, quick ? &ratios[1] : ratios, (size_t)c->ratio_count * sizeof(double));
    memcpy(c->shares, quick ? &shares[1] : shares, (size_t)c->share_count * sizeof(double));
}

static int prepare(struct compare *c)
{
    char why[512] = "";
    double least = 0;
    int rc = 0;

    set_points(c, c->settings.quick);
    c->chosen_criterion = c->chosen_scope = -1;
    c->base_params = 206324;
    c->base_macs = 3418624;
    if (c->settings.base)
        rc = measure_base(c, c->settings.base, why, sizeof(why));
    if (!rc)
        rc = compare_stage_data(c, why, sizeof(why));
    if (rc)
        return cli_fail(cli_code(rc), "compare: %s", why[0] ? why : strerror(-rc));
    if (c->settings.budget) {
        rc = compare_plan_budget(c, c->settings.budget * 60.0, &least);
        if (rc == -ERANGE)
            return cli_fail(CLI_USAGE,
                            "compare: --budget: expected at least %.0f minutes for this data (or "
                            "--quick), found %u",
                            least / 60.0 + 1.0, c->settings.budget);
        if (rc)
            return cli_fail(cli_code(rc), "compare: %s", strerror(-rc));
    }
    return CLI_DONE;
}

static int compare_folder(struct compare *c)
{
    char why[512] = "";
    int code = prepare(c), lock;

    if (code != CLI_DONE)
        return code;
    lock = open_folder(c, why, sizeof(why));
    if (lock < 0)
        return cli_fail(cli_code(lock), "compare: %s", why);
    c->lock = lock;
    code = run_all(c);
    if (code == CLI_DONE && !c->settings.plan)
        code = report(c);
    close(lock);
    return code;
}

/* What --quick changes where nothing else was asked for. */
static void preset(struct compare_settings *s, const struct cli_option *options)
{
    const struct {
        uint32_t *value, quick, whole;
    } numbers[] = {{&s->epochs, 2, 32},
                   {&s->short_epochs, 1, 1},
                   {&s->finetune_epochs, 2, 16},
                   {&s->qat_epochs, 1, 3},
                   {&s->epoch_windows, 8000, 0},
                   {&s->sweep_windows, 600, 3000},
                   {&s->taylor_windows, 256, 1024},
                   {&s->latency_rounds, 5, 15},
                   {&s->latency_ms, 5, 10}};

    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
        for (const struct cli_option *o = options; o->name; o++)
            if (o->value == (void *)numbers[i].value && !o->given)
                *numbers[i].value = s->quick ? numbers[i].quick : numbers[i].whole;
    for (const struct cli_option *o = options; o->name; o++) {
        s->split_given |= o->value == (void *)&s->split && o->given;
        s->split_seed_given |= o->value == (void *)&s->split_seed && o->given;
    }
}

/* A copy without slashes at the end, so that the same folder reads the same. */
static int trim(const char **path)
{
    size_t n = strlen(*path);
    char *copy;

    while (n > 1 && (*path)[n - 1] == '/')
        n--;
    copy = strndup(*path, n);
    *path = copy;
    return copy ? 0 : -ENOMEM;
}

/* clang-format off */
#define NUMBER(name, field, what, low, high, help) {name, CLI_UINT, &s->field, what, help, low, high, NULL, 0, 0}
#define WORDS(name, field, help) {name, CLI_STRING, &s->field, "TEXT", help, 0, 0, NULL, 0, 0}
/* clang-format on */

int workshop_compare(int argc, char **argv)
{
    struct compare *c = calloc(1, sizeof(*c));
    if (!c)
        return cli_fail(CLI_RETRY, "compare: out of memory");
    struct compare_settings *s = &c->settings;
    s->split = SPLIT_DAY;
    s->split_seed = 1;
    s->seed = 1;
    struct cli_option options[] = {
        {"data", CLI_STRING, &s->data, "DIR", "labelled traces, laid out as tracebase is", 0, 0,
         NULL, 1, 0},
        {"out", CLI_STRING, &s->out, "DIR",
         "where the report goes; a run that was interrupted goes on there", 0, 0, NULL, 1, 0},
        {"base", CLI_STRING, &s->base, "FILE", "an FP32 model to begin with instead of training it",
         0, 0, NULL, 0, 0},
        {"quick", CLI_FLAG, &s->quick, NULL, "a few minutes, for a first look: little training", 0,
         0, NULL, 0, 0},
        {"plan", CLI_FLAG, &s->plan, NULL, "print the stages and what they take; run none", 0, 0,
         NULL, 0, 0},
        NUMBER("budget", budget, "MINUTES", 1, 10000,
               "scale all epochs so that the whole takes about so long on two idle cores"),
        {"split", CLI_CHOICE, &s->split, NULL,
         "what keeps training, validation and test apart; with --base: as it was trained", 0, 0,
         train_splits, 0, 0},
        {"split-seed", CLI_UINT64, &s->split_seed, "N",
         "of the split; with --base: as it was trained", 0, 0, NULL, 0, 0},
        {"seed", CLI_UINT64, &s->seed, "N", "of everything else", 0, 0, NULL, 0, 0},
        NUMBER("epochs", epochs, "N", 1, 10000, "of the base; 32, with --quick 2"),
        NUMBER("short-epochs", short_epochs, "N", 1, 10000, "after pruning, for each variant; 1"),
        NUMBER("finetune-epochs", finetune_epochs, "N", 1, 10000,
               "after pruning, for the best variant; 16, with --quick 2"),
        NUMBER("qat-epochs", qat_epochs, "N", 1, 10000,
               "of quantization-aware fine-tuning; 3, with --quick 1"),
        NUMBER("epoch-windows", epoch_windows, "N", 0, 0,
               "windows in an epoch; 0: as many as there are; with --quick 8000"),
        NUMBER("sweep-windows", sweep_windows, "N", 0, 0,
               "validation windows that one-shot pruning is judged by; 3000, with --quick 600"),
        NUMBER("taylor-windows", taylor_windows, "N", 1, 65536,
               "training windows for the Taylor criterion; 1024, with --quick 256"),
        NUMBER("latency-rounds", latency_rounds, "N", 1, 99, "15, with --quick 5"),
        NUMBER("latency-ms", latency_ms, "MS", 0, 10000,
               "of a model in a round; 10, with --quick 5"),
        WORDS("train-options", train_options, "more options for train, separated by blanks"),
        WORDS("prune-options", prune_options, "the same for prune"),
        WORDS("finetune-options", finetune_options, "the same for finetune"),
        WORDS("quantize-options", quantize_options, "the same for quantize"),
        WORDS("qat-options", qat_options, "the same for quantize --qat"),
        {"fresh", CLI_FLAG, &s->fresh, NULL, "do every stage anew", 0, 0, NULL, 0, 0},
        {"quiet", CLI_FLAG, &s->quiet, NULL, "no progress on standard error", 0, 0, NULL, 0, 0},
        {"json", CLI_FLAG, &s->json, NULL, "the result as one JSON object", 0, 0, NULL, 0, 0},
        {0}};
    struct cli_command command = {
        .name = "compare",
        .usage = "--data DIR --out DIR [options]",
        .summary =
            "Runs the whole compression experiment: a base network, pruning by four criteria in "
            "two scopes at several ratios, INT8, both together, and with the integers fine-tuned; "
            "writes tables and charts. The "
            "validation part decides, the test part is reported.",
        .options = options};
    int code = cli_parse(&command, argc, argv);
    if (code == CLI_RUN && s->split == SPLIT_NONE)
        code = cli_fail(CLI_USAGE, "compare: --split: expected a split with a test part, not none");
    if (code == CLI_RUN) {
        preset(s, options);
        code = trim(&s->data) | trim(&s->out) ? cli_fail(CLI_RETRY, "compare: out of memory")
                                              : compare_folder(c);
        free((void *)s->data);
        free((void *)s->out);
    }
    compare_plan_clear(c, 0, 0);
    free(c);
    return code;
}
