/* cmd_baseline.c - `nilm-model baseline`: events of a mains recording by a classic method. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/baseline.h"
#include "inference/workshop/cli.h"
#include "inference/workshop/workshop.h"

enum { WHY_BYTES = 512 };

struct request {
    const char *train, *data, *out, *names, *rules, *mains;
    int method, json;
};

static void write_events(const struct truth *t, FILE *to)
{
    for (size_t i = 0; i < t->run_count; i++) {
        const struct truth_run *r = &t->runs[i];
        double seconds = (double)(r->end_ms - r->start_ms) / 1000;
        cJSON *name = cJSON_CreateString(t->names[r->appliance]);
        char *quoted = name ? cJSON_PrintUnformatted(name) : NULL;
        fprintf(to,
                "{\"type\":\"on\",\"meter\":\"mains\",\"appliance\":%s,\"time\":%" PRId64
                ",\"run\":%zu}\n"
                "{\"type\":\"off\",\"meter\":\"mains\",\"appliance\":%s,\"time\":%" PRId64
                ",\"run\":%zu,\"start\":%" PRId64 ",\"end\":%" PRId64
                ",\"duration\":%.3f,\"energy\":%.3f,\"peak\":%.1f}\n",
                quoted ? quoted : "\"unknown\"", r->start_ms, i + 1,
                quoted ? quoted : "\"unknown\"", r->end_ms, i + 1, r->start_ms, r->end_ms, seconds,
                r->energy_wh, r->peak_w);
        free(quoted);
        cJSON_Delete(name);
    }
}

static int save_events(const struct truth *t, const char *path)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    if (to == NULL)
        return -ENOMEM;
    write_events(t, to);
    int rc = fclose(to) != 0 ? -ENOMEM : 0;
    if (rc == 0)
        rc = cli_write_file(path, text, size);
    free(text);
    return rc;
}

static int report(const struct request *r, const struct baseline_levels *levels,
                  const struct truth *t)
{
    cJSON *o = r->json ? cJSON_CreateObject() : NULL;
    cJSON *list = o ? cJSON_AddArrayToObject(o, "appliances") : NULL;
    for (size_t a = 0; a < levels->count; a++) {
        const struct baseline_appliance *x = &levels->appliances[a];
        size_t runs = 0;
        for (size_t i = 0; i < t->run_count; i++)
            runs += strcmp(t->names[t->runs[i].appliance], x->name) == 0;
        if (!r->json) {
            printf("%-20s %6zu runs, at", x->name, runs);
            for (size_t k = 0; k < x->level_count; k++)
                printf(" %.0f", x->watts[k]);
            puts(" W");
            continue;
        }
        cJSON *item = cJSON_CreateObject();
        cJSON *watts = cJSON_AddArrayToObject(item, "watts");
        cJSON_AddStringToObject(item, "name", x->name);
        cJSON_AddNumberToObject(item, "runs", (double)runs);
        for (size_t k = 0; k < x->level_count; k++)
            cJSON_AddItemToArray(watts, cJSON_CreateNumber(x->watts[k]));
        if (!cJSON_AddItemToArray(list, item))
            cJSON_Delete(item);
    }
    if (!r->json)
        return CLI_DONE;
    cJSON_AddStringToObject(o, "events", r->out);
    return cli_print_json(o);
}

static int run(const struct request *r)
{
    char why[WHY_BYTES] = "", names[TRUTH_APPLIANCES_MAX + 1][TRUTH_NAME_BYTES];
    struct baseline_levels levels;
    struct truth_rules rules;
    struct truth_series mains = {0};
    struct truth found;
    size_t count;
    int code, rc = truth_init(&found);
    truth_rules_default(&rules);
    if (rc == 0 && r->rules)
        rc = truth_rules_read(&rules, r->rules, why, sizeof why);
    if (rc == 0)
        rc = baseline_learn(r->train, r->names, &rules, &levels, why, sizeof why);
    if (rc == 0 && !r->mains)
        rc = truth_columns(r->data, names, &count, why, sizeof why);
    if (rc == 0)
        rc = truth_series_read(r->data, r->mains ? r->mains : names[0], &mains, why, sizeof why);
    if (rc == 0)
        rc = r->method == 0 ? baseline_hart(&mains, &levels, &found)
                            : baseline_combinatorial(&mains, &levels, &found);
    if (rc == 0)
        rc = save_events(&found, r->out);
    code = rc < 0 ? cli_fail(rc == -EINVAL ? CLI_USAGE : cli_code(rc), "baseline: %s",
                             why[0] ? why : strerror(-rc))
                  : report(r, &levels, &found);
    truth_series_free(&mains);
    truth_free(&found);
    return code;
}

int workshop_baseline(int argc, char **argv)
{
    static const char *const methods[] = {"hart", "combinatorial", NULL};
    struct request r = {0};
    const char *method = NULL;
    struct cli_option choice = {.type = CLI_CHOICE, .value = &r.method, .choices = methods};
    struct cli_option options[] = {
        {.name = "train",
         .type = CLI_STRING,
         .value = &r.train,
         .argument = "FILE[,FILE]|DIR",
         .help = "where the appliances' powers come from: a labelled recording, or a folder of "
                 "single appliances (as tracebase is laid out)",
         .required = 1},
        {.name = "data",
         .type = CLI_STRING,
         .value = &r.data,
         .argument = "FILE[,FILE]",
         .help = "recording whose mains are separated; its other columns are not read",
         .required = 1},
        {.name = "out",
         .type = CLI_STRING,
         .value = &r.out,
         .argument = "FILE",
         .help = "events to write, JSON lines",
         .required = 1},
        {.name = "names",
         .type = CLI_STRING,
         .value = &r.names,
         .argument = "NAME[=APPLIANCE],..",
         .help =
             "columns or classes of --train that are wanted (at most 8), and what to call them"},
        {.name = "rules",
         .type = CLI_STRING,
         .value = &r.rules,
         .argument = "FILE",
         .help = "what a run is, as for nilm-model truth"},
        {.name = "mains",
         .type = CLI_STRING,
         .value = &r.mains,
         .argument = "COLUMN",
         .help = "of --data, when it has no usual name"},
        {.name = "json", .type = CLI_FLAG, .value = &r.json, .help = "one JSON object"},
        {.name = NULL}};
    struct cli_command command = {
        .name = "baseline",
        .usage = "hart|combinatorial --train FILE --data FILE --out FILE [options]",
        .summary = "Separates mains by a classic method, to compare with: Hart's edge matching "
                   "(1992), or the set of appliances whose sum comes nearest, reading by reading.",
        .options = options,
        .positional = "a method, hart or combinatorial",
        .positional_min = 1,
        .positional_max = 1,
        .positional_values = &method};
    int rc = cli_parse(&command, argc, argv);
    if (rc == CLI_RUN)
        rc = cli_store("baseline", &choice, method);
    return rc != CLI_RUN ? rc : run(&r);
}
