/* nilm_model.c - the program nilm-model: the workshop's commands, and those that need a signature
 * (pack, sign, verify) or the agent's pipeline (separate). The one file of the agent's folder that
 * may include the workshop's headers: nothing of the workshop is linked into nilmd. */
#include "agent/bundle_cmd.h"
#include "agent/separate.h"
#include "inference/workshop/cli.h"
#include "inference/workshop/workshop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WHY_BYTES = 512, DAY_SECONDS = 86400 };

/* --- pack --- */

/* "90d" from now on, or a day "2030-12-31" (its end, UTC), as Unix time. 0 or -EINVAL. */
static int parse_expiry(const char *text, int64_t now_s, int64_t *out)
{
    struct tm day = {0};
    char *end;
    errno = 0;
    unsigned long days = strtoul(text, &end, 10);
    if (text[0] >= '0' && text[0] <= '9' && end > text && strcmp(end, "d") == 0 && errno == 0 &&
        days >= 1 && days <= 36500) {
        *out = now_s + (int64_t)days * DAY_SECONDS;
        return 0;
    }
    end = strptime(text, "%Y-%m-%d", &day);
    if (end == NULL || *end != '\0')
        return -EINVAL;
    time_t start = timegm(&day);
    if (start < 0)
        return -EINVAL;
    *out = (int64_t)start + DAY_SECONDS;
    return 0;
}

/* Now, or SOURCE_DATE_EPOCH (reproducible-builds.org): then the same model gives the same bundle.
 */
static int64_t creation_time(void)
{
    const char *fixed = getenv("SOURCE_DATE_EPOCH");
    char *end;
    long long value = fixed ? strtoll(fixed, &end, 10) : 0;
    return fixed && end > fixed && *end == '\0' && value > 0 ? value : (int64_t)time(NULL);
}

static int pack_file(const char *model_path, const char *out_path,
                     const struct bundle_cmd_order *order)
{
    char why[WHY_BYTES] = "";
    void *model = NULL, *data = NULL;
    size_t model_bytes, size;
    int rc = cli_read_file(model_path, MODEL_MAX_BYTES, &model, &model_bytes);
    if (rc < 0)
        return cli_fail(cli_code(rc), "pack: %s: %s", model_path, strerror(-rc));
    rc = bundle_cmd_pack(model, model_bytes, order, &data, &size, why, sizeof why);
    free(model);
    if (rc < 0)
        return cli_fail(cli_code(rc), "pack: %s: %s", model_path, why);
    rc = cli_write_file(out_path, data, size);
    free(data);
    if (rc < 0)
        return cli_fail(cli_code(rc), "pack: %s: %s", out_path, strerror(-rc));
    printf("%s: %zu bytes, not signed\n", out_path, size);
    return CLI_DONE;
}

static int command_pack(int argc, char **argv)
{
    const char *model = NULL, *out = NULL, *expires = NULL;
    struct bundle_cmd_order order = {.min_agent = NILM_VERSION, .created_s = creation_time()};
    struct cli_option options[] = {
        {.name = "model",
         .type = CLI_STRING,
         .value = &model,
         .argument = "FILE",
         .help = "INT8 model with golden vectors",
         .required = 1},
        {.name = "out",
         .type = CLI_STRING,
         .value = &out,
         .argument = "FILE",
         .help = "bundle to write",
         .required = 1},
        {.name = "name",
         .type = CLI_STRING,
         .value = &order.name,
         .argument = "TEXT",
         .help = "what people shall call it; family and version when not given"},
        {.name = "version",
         .type = CLI_UINT,
         .value = &order.version,
         .argument = "N",
         .help = "version within the family instead of the model's own; 0: the model's",
         .low = 0,
         .high = 4294967295.0},
        {.name = "expires",
         .type = CLI_STRING,
         .value = &expires,
         .argument = "WHEN",
         .help = "not accepted after this: days from now (90d) or a day (2030-12-31); never when "
                 "not given"},
        {.name = "min-agent",
         .type = CLI_STRING,
         .value = &order.min_agent,
         .argument = "VERSION",
         .help = "smallest agent that may run it"},
        {.name = "allow-downgrade",
         .type = CLI_FLAG,
         .value = &order.allow_downgrade,
         .help = "order devices to accept it even when theirs is newer"},
        {.name = NULL}};
    struct cli_command command = {.name = "pack",
                                  .usage = "--model FILE --out FILE [options]",
                                  .summary = "Makes a bundle, ready to be signed, of a model that "
                                             "reproduces its golden vectors.",
                                  .options = options};
    int rc = cli_parse(&command, argc, argv);
    if (rc != CLI_RUN)
        return rc;
    if (expires && parse_expiry(expires, order.created_s, &order.expires_s) < 0)
        return cli_fail(CLI_USAGE, "pack: --expires: expected 90d or 2030-12-31, found \"%s\"",
                        expires);
    return pack_file(model, out, &order);
}

/* --- sign --- */

static int command_sign(int argc, char **argv)
{
    const char *path = NULL, *key = NULL, *out = NULL;
    char why[WHY_BYTES] = "";
    void *data = NULL, *signed_data = NULL;
    size_t size, signed_size;
    struct cli_option options[] = {{.name = "bundle",
                                    .type = CLI_STRING,
                                    .value = &path,
                                    .argument = "FILE",
                                    .help = "bundle, signed already or not",
                                    .required = 1},
                                   {.name = "key",
                                    .type = CLI_STRING,
                                    .value = &key,
                                    .argument = "FILE",
                                    .help = "private key (ECDSA P-256, PEM)",
                                    .required = 1},
                                   {.name = "out",
                                    .type = CLI_STRING,
                                    .value = &out,
                                    .argument = "FILE",
                                    .help = "signed bundle to write; the same file when not given"},
                                   {.name = NULL}};
    struct cli_command command = {.name = "sign",
                                  .usage = "--bundle FILE --key FILE [--out FILE]",
                                  .summary =
                                      "Signs a bundle. Devices accept it when the public key "
                                      "is on their key ring.",
                                  .options = options};
    int rc = cli_parse(&command, argc, argv);
    if (rc != CLI_RUN)
        return rc;
    rc = cli_read_file(path, BUNDLE_MAX_BYTES, &data, &size);
    if (rc < 0)
        return cli_fail(cli_code(rc), "sign: %s: %s", path, strerror(-rc));
    rc = bundle_sign(data, size, key, &signed_data, &signed_size, why, sizeof why);
    free(data);
    if (rc < 0)
        return cli_fail(cli_code(rc), "sign: %s: %s", path, why);
    out = out ? out : path;
    rc = cli_write_file(out, signed_data, signed_size);
    free(signed_data);
    if (rc < 0)
        return cli_fail(cli_code(rc), "sign: %s: %s", out, strerror(-rc));
    printf("%s: %zu bytes, signed\n", out, signed_size);
    return CLI_DONE;
}

/* --- verify --- */

static int print_report_json(const struct bundle_cmd_report *r, int rc, const char *why)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddBoolToObject(o, "ok", rc == 0);
    if (rc < 0)
        cJSON_AddStringToObject(o, "reason", why);
    if (r->readable) {
        cJSON_AddStringToObject(o, "family", r->family);
        cJSON_AddNumberToObject(o, "version", r->version);
        cJSON_AddStringToObject(o, "name", r->name);
        cJSON_AddStringToObject(o, "key_id", r->key_id);
        cJSON_AddStringToObject(o, "sha256", r->sha256);
        cJSON_AddNumberToObject(o, "model_bytes", (double)r->model_bytes);
        cJSON_AddNumberToObject(o, "labels", r->label_count);
        cJSON_AddNumberToObject(o, "golden", r->golden_count);
        cJSON_AddStringToObject(o, "min_agent", r->min_agent);
        cJSON_AddNumberToObject(o, "created", (double)r->created_s);
        cJSON_AddNumberToObject(o, "expires", (double)r->expires_s);
        cJSON_AddBoolToObject(o, "allow_downgrade", r->allow_downgrade);
    }
    return cli_print_json(o);
}

static void print_report(const char *path, const struct bundle_cmd_report *r)
{
    printf("%s: %s version %u \"%s\", %u labels, %llu bytes of model\n", path, r->family,
           r->version, r->name, r->label_count, (unsigned long long)r->model_bytes);
    printf("signed by key %s; %u golden vectors reproduce; needs agent %s%s\n", r->key_id,
           r->golden_count, r->min_agent, r->allow_downgrade ? "; orders a downgrade" : "");
}

/* A refused bundle is a result, so with --json it is told there; the exit code says it in any case.
 */
static int verify_file(const char *path, const char *keys, int json)
{
    char why[WHY_BYTES] = "";
    void *data = NULL;
    size_t size;
    struct bundle_cmd_report report;
    int rc = cli_read_file(path, BUNDLE_MAX_BYTES, &data, &size);
    if (rc < 0)
        return cli_fail(cli_code(rc), "verify: %s: %s", path, strerror(-rc));
    rc = bundle_cmd_verify(data, size, keys, (int64_t)time(NULL), &report, why, sizeof why);
    free(data);
    if (json && print_report_json(&report, rc, why) != CLI_DONE)
        return CLI_FAILED;
    if (rc < 0)
        return cli_fail(cli_code(rc), "verify: %s: refused: %s", path, why);
    if (!json)
        print_report(path, &report);
    return CLI_DONE;
}

static int command_verify(int argc, char **argv)
{
    const char *path = NULL, *keys = NULL;
    int json = 0;
    struct cli_option options[] = {
        {.name = "bundle",
         .type = CLI_STRING,
         .value = &path,
         .argument = "FILE",
         .help = "signed bundle",
         .required = 1},
        {.name = "keys",
         .type = CLI_STRING,
         .value = &keys,
         .argument = "RING",
         .help = "public keys that may sign: a folder of *.pub, or one file",
         .required = 1},
        {.name = "json", .type = CLI_FLAG, .value = &json, .help = "one JSON object"},
        {.name = NULL}};
    struct cli_command command = {
        .name = "verify",
        .usage = "--bundle FILE --keys RING [--json]",
        .summary = "Checks a bundle as a device does: structure, hash, signature, model, "
                   "manifest against model, golden vectors, expiry.",
        .options = options};
    int rc = cli_parse(&command, argc, argv);
    if (rc != CLI_RUN)
        return rc;
    return verify_file(path, keys, json);
}

/* --- separate --- */

static int print_separation_json(const struct separate_report *r)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "readings", (double)r->readings);
    cJSON_AddNumberToObject(o, "bad", (double)r->bad);
    cJSON_AddNumberToObject(o, "inferences", (double)r->inferences);
    cJSON_AddNumberToObject(o, "delay_s", (double)r->delay_ms / 1e3);
    cJSON_AddNumberToObject(o, "seconds", r->seconds);
    cJSON_AddNumberToObject(o, "memory_bytes", (double)r->memory_bytes);
    cJSON_AddNumberToObject(o, "energy_wh", r->books.total_wh);
    cJSON_AddNumberToObject(o, "base_wh", r->books.base_wh);
    cJSON_AddNumberToObject(o, "unknown_wh", r->books.unknown_wh);
    cJSON_AddNumberToObject(o, "unexplained_loads", (double)r->loads);
    cJSON *list = cJSON_AddArrayToObject(o, "appliances");
    for (int i = 0; i < r->part_count; i++) {
        cJSON *part = cJSON_CreateObject();
        cJSON_AddStringToObject(part, "appliance", r->parts[i].appliance);
        cJSON_AddNumberToObject(part, "runs", (double)r->parts[i].runs);
        cJSON_AddNumberToObject(part, "energy_wh", r->parts[i].energy_wh);
        cJSON_AddItemToArray(list, part);
    }
    return cli_print_json(o);
}

static void print_separation(FILE *to, const struct separate_report *r)
{
    const double all = r->books.total_wh > 0 ? r->books.total_wh : 1;
    fprintf(to, "%-20s %6s %10s %6s\n", "appliance", "runs", "kWh", "share");
    for (int i = 0; i < r->part_count; i++)
        fprintf(to, "%-20s %6llu %10.3f %5.1f%%\n", r->parts[i].appliance,
                (unsigned long long)r->parts[i].runs, r->parts[i].energy_wh / 1e3,
                100 * r->parts[i].energy_wh / all);
    fprintf(to, "%-20s %6s %10.3f %5.1f%%\n", "base load", "", r->books.base_wh / 1e3,
            100 * r->books.base_wh / all);
    fprintf(to, "%-20s %6llu %10.3f %5.1f%%\n", "unknown", (unsigned long long)r->loads,
            r->books.unknown_wh / 1e3, 100 * r->books.unknown_wh / all);
    fprintf(to, "%-20s %6s %10.3f\n", "sum", "", r->books.total_wh / 1e3);
    fprintf(to,
            "%llu readings, %llu windows in %.3f s of processor time; an event comes %.0f s "
            "after its switching or later\n",
            (unsigned long long)r->readings, (unsigned long long)r->inferences, r->seconds,
            (double)r->delay_ms / 1e3);
}

static int is_csv(const char *path)
{
    const size_t n = strlen(path);
    return n > 4 && strcmp(path + n - 4, ".csv") == 0;
}

/* Closes a file that was written: 0 or -errno. */
static int close_written(FILE *f)
{
    if (!f || f == stdout)
        return 0;
    const int bad = ferror(f);
    return fclose(f) != 0 || bad ? -EIO : 0;
}

static int separate_files(const char *model_path, const char *out, const char *loads,
                          struct separate_order *order, int json)
{
    char why[WHY_BYTES] = "";
    struct separate_report report;
    struct model *model = NULL;
    int rc = model_decode_file(model_path, &model, why, sizeof why);
    if (rc < 0)
        return cli_fail(cli_code(rc), "separate: %s", why);
    order->model = model;
    if (out)
        order->format = is_csv(out) ? SEPARATE_CSV : SEPARATE_JSONL;
    const char *failed = NULL;
    if (out && !(order->events = strcmp(out, "-") ? fopen(out, "we") : stdout))
        failed = out;
    if (loads && !failed && !(order->loads = fopen(loads, "we")))
        failed = loads;
    if (failed)
        snprintf(why, sizeof why, "%s: %s", failed, strerror(errno));
    rc = failed ? -EIO : separate_run(order, &report, why, sizeof why);
    const int written = close_written(order->events) | close_written(order->loads);
    model_free(model);
    if (rc == 0 && written < 0) {
        rc = written;
        snprintf(why, sizeof why, "the events could not be written");
    }
    if (rc < 0)
        return cli_fail(cli_code(rc), "separate: %s", why);
    if (json)
        return print_separation_json(&report);
    print_separation(order->events == stdout ? stderr : stdout, &report);
    return CLI_DONE;
}

static int command_separate(int argc, char **argv)
{
    const char *model = NULL, *out = NULL, *loads = NULL, *paths[64] = {NULL};
    uint32_t gap_s = 60, silence_s = 600, report_s = 0;
    int json = 0;
    struct separate_order order = {.paths = paths};
    struct cli_option options[] = {
        {.name = "model",
         .type = CLI_STRING,
         .value = &model,
         .argument = "FILE",
         .help = "INT8 mains model",
         .required = 1},
        {.name = "out",
         .type = CLI_STRING,
         .value = &out,
         .argument = "FILE",
         .help = "events to write: one JSON object a line, with .csv one run a line; -: standard "
                 "output"},
        {.name = "loads",
         .type = CLI_STRING,
         .value = &loads,
         .argument = "FILE",
         .help = "CSV to write of the loads that no appliance explains"},
        {.name = "column",
         .type = CLI_STRING,
         .value = &order.column,
         .argument = "NAME",
         .help = "power column of plain CSV"},
        {.name = "max-gap",
         .type = CLI_UINT,
         .value = &gap_s,
         .argument = "SECONDS",
         .help = "more time between two readings is a gap",
         .low = 1,
         .high = 86400},
        {.name = "silence",
         .type = CLI_UINT,
         .value = &silence_s,
         .argument = "SECONDS",
         .help = "a gap that ends runs",
         .low = 1,
         .high = 2592000},
        {.name = "report-every",
         .type = CLI_UINT,
         .value = &report_s,
         .argument = "SECONDS",
         .help = "runs so long are reported again and again; 0: not",
         .low = 0,
         .high = 86400},
        {.name = "json", .type = CLI_FLAG, .value = &json, .help = "one JSON object"},
        {.name = NULL}};
    struct cli_command command = {
        .name = "separate",
        .usage = "--model FILE [options] TRACE...",
        .summary = "Separates a recorded sum into appliances as the agent does, with the same "
                   "code: runs, their energy, what is left.",
        .options = options,
        .positional = "TRACE",
        .positional_min = 1,
        .positional_max = 64,
        .positional_values = paths};
    int rc = cli_parse(&command, argc, argv);
    if (rc != CLI_RUN)
        return rc;
    if (json && out && strcmp(out, "-") == 0)
        return cli_fail(CLI_USAGE, "separate: --json and --out - both want standard output");
    while (order.path_count < 64 && paths[order.path_count])
        order.path_count++;
    order.max_gap_ms = (int64_t)gap_s * 1000;
    order.silence_ms = (int64_t)silence_s * 1000;
    order.report_ms = (int64_t)report_s * 1000;
    return separate_files(model, out, loads, &order, json);
}

/* --- the program --- */

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"train", workshop_train, "train a network on labelled traces"},
    {"prune", workshop_prune, "take the weakest channels out of a model"},
    {"finetune", workshop_finetune, "train a model further, after pruning or on more data"},
    {"quantize", workshop_quantize, "make an INT8 model, calibrated on traces"},
    {"import", workshop_import, "make an FP32 model of an ONNX file"},
    {"export", workshop_export, "write a model's network as an ONNX file"},
    {"eval", workshop_eval, "accuracy, F1 and more on labelled traces"},
    {"reject", workshop_reject, "calibrate the threshold of unknown"},
    {"compare", workshop_compare, "run the whole compression experiment, with tables and charts"},
    {"mix", workshop_mix, "mix single appliances into labelled mains"},
    {"truth", workshop_truth, "what was on, from submetered recordings"},
    {"score", workshop_score, "judge events against the truth"},
    {"baseline", workshop_baseline, "Hart's edges or combinatorial optimisation, to compare with"},
    {"inject", workshop_inject, "put a fault into recorded days"},
    {"bench", workshop_bench, "what a model costs on this machine"},
    {"inspect", workshop_inspect, "show what is in a model file"},
    {"separate", command_separate, "separate a recorded sum into appliances, as the agent does"},
    {"pack", command_pack, "make a bundle of a model"},
    {"sign", command_sign, "sign a bundle"},
    {"verify", command_verify, "check a bundle as a device does"},
};

static void print_help(FILE *to)
{
    fprintf(to, "Usage: nilm-model COMMAND [options]\n"
                "       nilm-model COMMAND --help\n"
                "       nilm-model --version\n\n"
                "Trains, compresses, judges and packs the models that nilmd runs.\n\nCommands:\n");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].help);
    fprintf(
        to,
        "\nExit codes: 0 done, 1 wrong usage, 2 failed for good, 3 may succeed when retried.\n");
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return CLI_DONE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("nilm-model %s\n", NILM_VERSION);
        return CLI_DONE;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(commands[i].name, argv[1]) == 0)
            return commands[i].run(argc - 1, argv + 1);
    }
    return cli_fail(CLI_USAGE, "unknown command \"%s\"; try nilm-model --help", argv[1]);
}
