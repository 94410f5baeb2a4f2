/* cmd_bench.c - nilm-model bench: what a model costs on this machine. The output's keys are a
 * contract (SPEC 7). */
#include "inference/workshop/bench.h"
#include "inference/workshop/cli.h"
#include "inference/workshop/workshop.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct command {
    const char *path, *hops;
    uint32_t rounds, round_ms;
    int json, layers;
    struct bench_options options;
    struct bench_report report;
    struct model *model;
    double load_us; /* reading and checking the file */
};

static double meters_per_core(const struct command *c, const struct bench_hop *h)
{
    return floor((double)h->hop * c->model->period_ms * 1e3 / h->times.p50);
}

/* Of the measured peak; 0 when that is not known. */
static double share_of_peak(const struct command *c, uint64_t macs, double us)
{
    return c->report.peak_macs_us > 0 ? (double)macs / us / c->report.peak_macs_us : 0;
}

static void add_decimal(cJSON *object, const char *key, double value)
{
    char text[64];
    snprintf(text, sizeof text, "%.4g", value);
    if (fabs(value) >= 1000)
        snprintf(text, sizeof text, "%.2f", value);
    cJSON_AddRawToObject(object, key, text);
}

static void add_times(cJSON *o, const char *name, const struct bench_times *t)
{
    char key[32];
    snprintf(key, sizeof key, "%s_us", name);
    add_decimal(o, key, t->p50);
    snprintf(key, sizeof key, "%s_us_p90", name);
    add_decimal(o, key, t->p90);
    snprintf(key, sizeof key, "%s_us_p99", name);
    add_decimal(o, key, t->p99);
}

static void add_layers(cJSON *o, const struct command *c)
{
    cJSON *list = cJSON_AddArrayToObject(o, "layers");
    for (uint32_t i = 0; i < c->report.layer_count; i++) {
        const struct bench_layer *l = &c->report.layers[i];
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", l->name);
        cJSON_AddNumberToObject(item, "macs", (double)l->macs);
        add_decimal(item, "us", l->us);
        add_decimal(item, "peak_share", share_of_peak(c, l->macs, l->us));
        cJSON_AddItemToArray(list, item);
    }
}

static void add_hops(cJSON *o, const struct command *c)
{
    cJSON *list = cJSON_AddArrayToObject(o, "hops");
    for (uint32_t i = 0; i < c->options.hop_count; i++) {
        const struct bench_hop *h = &c->report.hops[i];
        cJSON *item = cJSON_CreateObject();
        cJSON_AddNumberToObject(item, "hop_samples", h->hop);
        add_times(item, "hop", &h->times);
        cJSON_AddNumberToObject(item, "state_bytes", (double)h->state_bytes);
        cJSON_AddNumberToObject(item, "meters_per_core", meters_per_core(c, h));
        cJSON_AddItemToArray(list, item);
    }
}

static int print_json(const struct command *c)
{
    const struct bench_report *r = &c->report;
    uint64_t macs = model_macs(c->model);
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "model", c->path);
    cJSON_AddStringToObject(o, "isa", r->isa);
    cJSON_AddNumberToObject(o, "macs", (double)macs);
    add_times(o, "full", &r->full);
    add_times(o, "hop", &r->hop.times);
    cJSON_AddNumberToObject(o, "hop_samples", r->hop.hop);
    cJSON_AddNumberToObject(o, "state_bytes", (double)r->hop.state_bytes);
    cJSON_AddNumberToObject(o, "meters_per_core", meters_per_core(c, &r->hop));
    add_decimal(o, "load_us", c->load_us);
    add_decimal(o, "start_us", c->load_us + r->start_us);
    if (r->peak_macs_us > 0) {
        add_decimal(o, "peak_gmacs", r->peak_macs_us * 1e-3);
        add_decimal(o, "peak_share", share_of_peak(c, macs, r->full.p50));
    }
    if (r->batch_us > 0) {
        cJSON_AddNumberToObject(o, "meters", c->options.meters);
        add_decimal(o, "in_turn_us", r->in_turn_us);
        add_decimal(o, "single_us", r->single_us);
        add_decimal(o, "batch_us", r->batch_us);
    }
    if (r->layer_count)
        add_layers(o, c);
    if (c->options.hop_count && r->layer_count)
        add_hops(o, c);
    return cli_print_json(o);
}

static void print_layers(const struct command *c)
{
    const struct bench_report *r = &c->report;
    printf("\n%-24s %12s %9s %8s\n", "layer", "macs", "us", "of peak");
    for (uint32_t i = 0; i < r->layer_count; i++) {
        const struct bench_layer *l = &r->layers[i];
        printf("%-24s %12llu %9.2f", l->name, (unsigned long long)l->macs, l->us);
        if (l->macs && r->peak_macs_us > 0)
            printf(" %6.0f %%", 100 * share_of_peak(c, l->macs, l->us));
        printf("\n");
    }
}

static void print_hops(const struct command *c)
{
    printf("\n%6s %9s %9s %9s %12s %16s\n", "hop", "us", "p90", "p99", "state bytes",
           "meters per core");
    for (uint32_t i = 0; i < c->options.hop_count; i++) {
        const struct bench_hop *h = &c->report.hops[i];
        printf("%6u %9.2f %9.2f %9.2f %12zu %16.0f\n", h->hop, h->times.p50, h->times.p90,
               h->times.p99, h->state_bytes, meters_per_core(c, h));
    }
}

static void print_table(const struct command *c)
{
    const struct bench_report *r = &c->report;
    uint64_t macs = model_macs(c->model);
    printf("kernels          %s\n", r->isa);
    printf("multiplications  %llu a window\n", (unsigned long long)macs);
    printf("whole window     %.2f us (90 %% of calls within %.2f, 99 %% within %.2f)\n",
           r->full.p50, r->full.p90, r->full.p99);
    printf("hop              %.2f us for %u samples, %.0f s of power (%.2f, %.2f)\n",
           r->hop.times.p50, r->hop.hop, r->hop.hop * (double)c->model->period_ms / 1e3,
           r->hop.times.p90, r->hop.times.p99);
    printf("state            %zu bytes a meter\n", r->hop.state_bytes);
    printf("meters           %.0f on one core in real time\n", meters_per_core(c, &r->hop));
    printf("start            %.0f us from the file to the first classification\n",
           c->load_us + r->start_us);
    if (r->peak_macs_us > 0)
        printf(
            "peak             %.1f G multiply-accumulates a second; the whole window has %.0f %% "
            "of that\n",
            r->peak_macs_us * 1e-3, 100 * share_of_peak(c, macs, r->full.p50));
    if (r->batch_us > 0)
        printf("%u meters: a hop in %.2f us batched, %.2f us meter by meter, %.2f us sample by "
               "sample\n",
               c->options.meters, r->batch_us, r->single_us, r->in_turn_us);
    if (c->layers && r->layer_count)
        print_layers(c);
    if (c->options.hop_count && r->layer_count)
        print_hops(c);
}

/* "1,2,4" to hops. CLI_RUN, or CLI_USAGE after telling. */
static int read_hops(struct command *c)
{
    const char *at = c->hops;
    while (at && *at) {
        char *end;
        unsigned long n = strtoul(at, &end, 10);
        if (end == at || (*end && *end != ',') || n < 1 || n > c->model->window ||
            c->options.hop_count == BENCH_MAX_HOPS)
            return cli_fail(CLI_USAGE,
                            "bench: --hops: expected up to %u numbers of 1 to the model's window, "
                            "%u, separated by commas, found \"%s\"",
                            BENCH_MAX_HOPS, c->model->window, c->hops);
        c->options.hops[c->options.hop_count++] = (uint32_t)n;
        at = *end ? end + 1 : end;
    }
    return CLI_RUN;
}

static int run(struct command *c)
{
    char why[256];
    double begin = bench_now_us();
    int rc = model_decode_file(c->path, &c->model, why, sizeof why);
    if (rc < 0)
        return cli_fail(cli_code(rc), "bench: %s", why);
    c->load_us = bench_now_us() - begin;
    if (c->options.hop > c->model->window)
        return cli_fail(CLI_USAGE,
                        "bench: --hop: expected at most the model's window, %u, found %u",
                        c->model->window, c->options.hop);
    rc = read_hops(c);
    if (rc != CLI_RUN)
        return rc;
    c->options.ms = c->rounds * c->round_ms;
    rc = bench_measure(c->model, &c->options, &c->report, why, sizeof why);
    if (rc < 0)
        return cli_fail(cli_code(rc), "bench: %s: %s", c->path, why);
    if (c->json)
        return print_json(c);
    print_table(c);
    return CLI_DONE;
}

int workshop_bench(int argc, char **argv)
{
    struct command c = {.rounds = 9, .round_ms = 50};
#define NUMBER(field, text, arg, least, most, words)                                               \
    {                                                                                              \
        .name = text, .type = CLI_UINT, .value = &c.field, .argument = arg, .help = words,         \
        .low = least, .high = most                                                                 \
    }
    struct cli_option options[] = {
        {.name = "model",
         .type = CLI_STRING,
         .value = &c.path,
         .argument = "FILE",
         .help = "model, INT8 or FP32",
         .required = 1},
        NUMBER(options.hop, "hop", "SAMPLES", 0, 16384,
               "grid samples between two results; 0: the model's own"),
        {.name = "hops",
         .type = CLI_STRING,
         .value = &c.hops,
         .argument = "LIST",
         .help = "a table of time and state for these hops, such as 1,2,4,8"},
        {.name = "layers",
         .type = CLI_FLAG,
         .value = &c.layers,
         .help = "a table of the layers (--json has it anyway)"},
        NUMBER(options.meters, "meters", "N", 0, 1000000,
               "measure hops with so many meters' states resident, one by one and batched"),
        NUMBER(rounds, "rounds", "N", 1, 99, "with --round-ms: how long each thing is measured"),
        NUMBER(round_ms, "round-ms", "MS", 1, 10000, "length of a round"),
        {.name = "json", .type = CLI_FLAG, .value = &c.json, .help = "one JSON object"},
        {.name = NULL}};
#undef NUMBER
    struct cli_command command = {
        .name = "bench",
        .usage = "--model FILE [options]",
        .summary = "Measures a model on this machine: one whole window, one hop of streaming, each "
                   "layer. Times are medians of single calls. NILM_CPU chooses the kernel set.",
        .options = options};
    int rc = cli_parse(&command, argc, argv);
    if (rc != CLI_RUN)
        return rc;
    rc = run(&c);
    model_free(c.model);
    return rc;
}
