/* cmd_score.c - `nilm-model truth` and `nilm-model score`: what was really on, and how well events
 * tell it. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/cli.h"
#include "inference/workshop/score.h"
#include "inference/workshop/workshop.h"

enum { WHY_BYTES = 512 };

/* --- truth --- */

static int print_truth(const struct truth *t, const char *out, int json)
{
    cJSON *o = json ? cJSON_CreateObject() : NULL;
    cJSON *list = json ? cJSON_AddArrayToObject(o, "appliances") : NULL;
    int64_t scored = truth_scored_ms(t, t->start_ms, t->end_ms);
    for (uint32_t a = 0; a < t->appliance_count; a++) {
        size_t runs = 0;
        double wh = 0;
        for (size_t i = 0; i < t->run_count; i++) {
            runs += t->runs[i].appliance == a;
            wh += t->runs[i].appliance == a ? t->runs[i].energy_wh : 0;
        }
        if (!json) {
            printf("%-20s %6zu runs %10.2f kWh\n", t->names[a], runs, wh / 1000);
            continue;
        }
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", t->names[a]);
        cJSON_AddNumberToObject(item, "runs", (double)runs);
        cJSON_AddNumberToObject(item, "energy_wh", wh);
        if (!cJSON_AddItemToArray(list, item))
            cJSON_Delete(item);
    }
    if (json) {
        cJSON_AddStringToObject(o, "truth", out);
        cJSON_AddNumberToObject(o, "energy_wh", t->energy_wh);
        cJSON_AddNumberToObject(o, "span_s", (double)(t->end_ms - t->start_ms) / 1000);
        cJSON_AddNumberToObject(o, "scored_s", (double)scored / 1000);
        return cli_print_json(o);
    }
    printf("%s: %.2f days, of which %.2f can be judged; mains %.2f kWh\n", out,
           (double)(t->end_ms - t->start_ms) / 86400000, (double)scored / 86400000,
           t->energy_wh / 1000);
    return CLI_DONE;
}

static int write_truth(const struct truth *t, const char *path)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    int rc = to ? truth_write(t, to) : -ENOMEM;
    if (to && fclose(to) != 0)
        rc = -ENOMEM;
    if (rc == 0)
        rc = cli_write_file(path, text, size);
    free(text);
    return rc;
}

int workshop_truth(int argc, char **argv)
{
    const char *data = NULL, *rules_path = NULL, *out = NULL;
    int json = 0;
    char why[WHY_BYTES] = "";
    struct truth_rules rules;
    struct truth truth;
    struct cli_option options[] = {
        {.name = "data",
         .type = CLI_STRING,
         .value = &data,
         .argument = "FILE[,FILE]",
         .help = "recording: CSV with a time, the mains and a column for each appliance",
         .required = 1},
        {.name = "out",
         .type = CLI_STRING,
         .value = &out,
         .argument = "FILE",
         .help = "CSV to write",
         .required = 1},
        {.name = "rules",
         .type = CLI_STRING,
         .value = &rules_path,
         .argument = "FILE",
         .help = "CSV appliance,on_w,bridge_s,shortest_s,peak_w; goes before the rules that ship"},
        {.name = "json", .type = CLI_FLAG, .value = &json, .help = "one JSON object"},
        {.name = NULL}};
    struct cli_command command = {
        .name = "truth",
        .usage = "--data FILE[,FILE] --out FILE [--rules FILE] [--json]",
        .summary = "Writes what was really on, from submetered columns: runs above a power, short "
                   "pauses bridged; and the stretches that nobody can be judged on (mains that do "
                   "not move for five minutes, gaps of more than one).",
        .options = options};
    int rc = cli_parse(&command, argc, argv);
    if (rc != CLI_RUN)
        return rc;
    truth_rules_default(&rules);
    rc = truth_init(&truth);
    if (rc == 0 && rules_path)
        rc = truth_rules_read(&rules, rules_path, why, sizeof why);
    if (rc == 0)
        rc = truth_of_recording(data, &rules, &truth, why, sizeof why);
    if (rc < 0) {
        rc = cli_fail(cli_code(rc), "truth: %s", why[0] ? why : strerror(-rc));
    } else {
        rc = write_truth(&truth, out);
        rc = rc < 0 ? cli_fail(cli_code(rc), "truth: %s: %s", out, strerror(-rc))
                    : print_truth(&truth, out, json);
    }
    truth_free(&truth);
    return rc;
}

/* --- score --- */

static const char *cell(double value, char text[16])
{
    if (isfinite(value))
        snprintf(text, 16, "%.3f", value);
    else
        strcpy(text, "-");
    return text;
}

static void print_counts(const char *name, const struct score_counts *c)
{
    char p[16], r[16], f[16];
    printf("%-20s %5llu %5llu %5llu %6s %6s %6s", name, (unsigned long long)c->truth,
           (unsigned long long)c->predicted, (unsigned long long)c->matched, cell(c->precision, p),
           cell(c->recall, r), cell(c->f1, f));
}

static int print_score(const struct score *s)
{
    char a[16], b[16], c[16], d[16], e[16];
    printf("%-20s %5s %5s %5s %6s %6s %6s %6s %6s %7s %7s\n", "starts", "true", "said", "right",
           "prec", "recall", "F1", "stops", "state", "energy", "delay");
    for (size_t i = 0; i < s->appliance_count; i++) {
        const struct score_appliance *x = &s->appliances[i];
        print_counts(x->name, &x->starts);
        printf(" %6s %6s %7s %7s\n", cell(x->stops.f1, a), cell(x->minutes.f1, b),
               cell(x->energy_error, c), cell(x->delay_s, d));
    }
    print_counts("all", &s->starts);
    printf(" %6s\n", cell(s->stops.f1, a));
    printf("macro F1 of starts %s, of stops %s, of the state by minute %s; energy off by %s\n",
           cell(s->f1_macro, a), cell(s->stops_f1_macro, b), cell(s->state_f1_macro, c),
           cell(s->energy_error_macro, e));
    printf("judged: %.2f of %.2f days; left out there: %llu events, %llu true runs\n",
           (double)s->scored_ms / 86400000, (double)s->span_ms / 86400000,
           (unsigned long long)s->outside, (unsigned long long)s->outside_truth);
    printf("not judged, since the truth does not have these: %llu events",
           (unsigned long long)s->not_judged);
    for (size_t i = 0; i < s->other_count; i++)
        printf("%s%s %llu", i ? ", " : ": ", s->others[i].name,
               (unsigned long long)s->others[i].events);
    putchar('\n');
    return fflush(stdout) == 0 ? CLI_DONE : CLI_FAILED;
}

static int judge(const char *events_path, const char *truth_path, const char *data, const char *map,
                 const char *meter, int json)
{
    char why[WHY_BYTES] = "";
    struct score_events events = {0};
    struct score score = {0};
    struct truth truth;
    int code, rc = truth_init(&truth);
    if (rc == 0)
        rc = truth_read(truth_path, &truth, why, sizeof why);
    if (rc == 0)
        rc = score_events_read(events_path, meter, &events, why, sizeof why);
    if (rc == 0)
        rc = score_run(&truth, &events, map, data, &score, why, sizeof why);
    if (rc < 0)
        code = cli_fail(rc == -EINVAL ? CLI_USAGE : cli_code(rc), "score: %s",
                        why[0] ? why : strerror(-rc));
    else
        code = json ? cli_print_json(score_json(&score)) : print_score(&score);
    score_free(&score);
    score_events_free(&events);
    truth_free(&truth);
    return code;
}

int workshop_score(int argc, char **argv)
{
    const char *events = NULL, *truth = NULL, *data = NULL, *map = NULL, *meter = NULL;
    int json = 0;
    struct cli_option options[] = {
        {.name = "events",
         .type = CLI_STRING,
         .value = &events,
         .argument = "FILE",
         .help = "what was recognised: JSON lines of events, the output of nilmctl events or "
                 "watch with --json, or CSV with appliance,start,end,energy",
         .required = 1},
        {.name = "truth",
         .type = CLI_STRING,
         .value = &truth,
         .argument = "CSV",
         .help = "what was on, as nilm-model truth writes it",
         .required = 1},
        {.name = "data",
         .type = CLI_STRING,
         .value = &data,
         .argument = "FILE[,FILE]",
         .help = "recording whose columns give the true energy, instead of the true runs"},
        {.name = "map",
         .type = CLI_STRING,
         .value = &map,
         .argument = "NAME=APPLIANCE[,..]",
         .help = "names of events and the truth's for them, where they differ in more than case "
                 "and signs"},
        {.name = "meter",
         .type = CLI_STRING,
         .value = &meter,
         .argument = "NAME",
         .help = "only this meter's events"},
        {.name = "json", .type = CLI_FLAG, .value = &json, .help = "one JSON object"},
        {.name = NULL}};
    struct cli_command command = {
        .name = "score",
        .usage = "--events FILE --truth CSV [options]",
        .summary = "Judges events. A start is right within 30 s or a tenth of the true run, "
                   "whichever is longer; each counts once. Events of appliances that the truth "
                   "does not have, and of unknown loads, are neither right nor wrong; they are "
                   "counted apart.",
        .options = options};
    int rc = cli_parse(&command, argc, argv);
    return rc != CLI_RUN ? rc : judge(events, truth, data, map, meter, json);
}
