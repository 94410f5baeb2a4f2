/* cmd_mix.c - `nilm-model mix`: labelled aggregates as files, a recording with a column for each
 * appliance and its truth, for whoever wants to judge or train on them. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/mix.h"
#include "inference/workshop/train_command.h"
#include "inference/workshop/truth.h"
#include "inference/workshop/workshop.h"

#define START_MS INT64_C(1577836800000) /* the first home's first day: 2020-01-01 */
#define APART_MS 10800000               /* between two homes: longer than any gap that is filled */
#define DAY_MS 86400000u

struct request {
    const char *dir, *rules, *model, *out, *truth;
    int split, part, plain, json, quiet;
    uint32_t homes, days;
    uint64_t seed;
    struct mix_plan plan;
    struct dataset_options data;
};

/* One home after the other, in memory and on disk. */
struct job {
    const struct request *r;
    struct dataset *data;
    uint32_t count, *on;  /* [count] samples of a home */
    float *watts, *parts; /* [count], [classes][count] */
    struct truth_series mains;
    struct truth truth;
    uint32_t loads;
    FILE *file;
};

static const char *const parts[] = {"train", "valid", "test", "all", NULL};

static int load(struct job *j, char *why, size_t why_size)
{
    const struct request *r = j->r;
    struct dataset_options o = r->data;
    struct cli_progress progress = {.what = "loading"};
    struct model *m = NULL;
    int rc = 0;

    if (r->model)
        rc = model_decode_file(r->model, &m, why, why_size);
    if (m && model_meta(m, "aggregates", o.mix, sizeof(o.mix))) {
        (void)snprintf(why, why_size, "%s: its record has no rules of mixing", r->model);
        rc = -EINVAL;
    }
    model_free(m);
    if (!rc && r->rules)
        rc = mix_rules_read(r->rules, o.mix, why, why_size);
    if (!r->quiet) {
        o.progress = cli_progress_files;
        o.context = &progress;
    }
    o.window = o.stride = 64;
    if (!rc)
        rc = dataset_load(r->dir, &o, &j->data, why, why_size);
    return rc;
}

static int prepare(struct job *j)
{
    const size_t classes = j->data->class_count;
    const uint64_t count = (uint64_t)j->r->days * (DAY_MS / j->r->data.period_ms);
    const size_t all = (size_t)count * j->r->homes;
    int rc;

    if (!count || count * j->r->homes * (classes + 1) > TRUTH_READINGS_MAX)
        return -E2BIG;
    j->count = (uint32_t)count;
    j->watts = malloc(count * sizeof(*j->watts));
    j->on = malloc(count * sizeof(*j->on));
    j->parts = malloc(count * classes * sizeof(*j->parts));
    j->mains.t_ms = malloc(all * sizeof(*j->mains.t_ms));
    j->mains.watts = malloc(all * sizeof(*j->mains.watts));
    if (!j->watts || !j->on || !j->parts || !j->mains.t_ms || !j->mains.watts)
        return -ENOMEM;
    j->mains.room = all;
    rc = truth_init(&j->truth);
    for (uint32_t c = 0; c < classes && !rc; c++) {
        uint32_t index;
        rc = truth_appliance(&j->truth, j->data->labels[c], &index);
    }
    return rc;
}

/* The runs of one appliance in a home that begins at start. */
static int add_runs(struct job *j, uint32_t c, int64_t start)
{
    const int64_t period = j->r->data.period_ms;
    const float *w = j->parts + (size_t)c * j->count;
    int rc = 0;

    for (uint32_t i = 0; i < j->count && !rc; i++) {
        struct truth_run run = {.appliance = c, .start_ms = start + i * period};
        if (!(j->on[i] >> c & 1u))
            continue;
        for (; i < j->count && (j->on[i] >> c & 1u); i++) {
            run.energy_wh += (double)w[i] * (double)period / 3.6e6;
            run.peak_w = (double)w[i] > run.peak_w ? (double)w[i] : run.peak_w;
        }
        run.end_ms = start + i * period;
        rc = truth_add(&j->truth, &run);
    }
    return rc;
}

static int write_home(struct job *j, uint32_t home)
{
    const int64_t period = j->r->data.period_ms;
    const int64_t start = START_MS + home * (j->count * period + APART_MS);
    int rc = 0;

    mix_stretch(j->data->mix, &j->r->plan, j->r->seed, home, j->count, j->watts, j->on, j->parts);
    for (uint32_t i = 0; i < j->count; i++) {
        j->mains.t_ms[j->mains.count] = start + i * period;
        j->mains.watts[j->mains.count++] = j->watts[i];
        fprintf(j->file, "%" PRId64 ",%.1f", start + i * period, (double)j->watts[i]);
        for (uint32_t c = 0; c < j->data->class_count; c++)
            fprintf(j->file, ",%.1f", (double)j->parts[(size_t)c * j->count + i]);
        fputc('\n', j->file);
    }
    for (uint32_t c = 0; c < j->data->class_count && !rc; c++)
        rc = add_runs(j, c, start);
    return rc;
}

static int write_recording(struct job *j)
{
    int rc = 0;

    j->file = fopen(j->r->out, "we");
    if (!j->file)
        return -errno;
    fputs("timestamp,aggregate", j->file);
    for (uint32_t c = 0; c < j->data->class_count; c++)
        fprintf(j->file, ",%s", j->data->labels[c]);
    fputc('\n', j->file);
    for (uint32_t home = 0; home < j->r->homes && !rc; home++)
        rc = write_home(j, home);
    if (!rc && ferror(j->file))
        rc = -EIO;
    return fclose(j->file) && !rc ? -EIO : rc;
}

static int write_truth(struct job *j)
{
    FILE *file;
    int rc = truth_add_mains(&j->truth, &j->mains);

    truth_sort(&j->truth);
    if (rc || !j->r->truth)
        return rc;
    file = fopen(j->r->truth, "we");
    if (!file)
        return -errno;
    rc = truth_write(&j->truth, file);
    return fclose(file) && !rc ? -EIO : rc;
}

static int report(const struct job *j)
{
    cJSON *o = j->r->json ? cJSON_CreateObject() : NULL;
    cJSON *list = cJSON_AddArrayToObject(o, "appliances");

    if (o) {
        cJSON_AddStringToObject(o, "recording", j->r->out);
        cJSON_AddNumberToObject(o, "samples", (double)j->mains.count);
        cJSON_AddNumberToObject(o, "energy_wh", j->truth.energy_wh);
    } else {
        printf("%s: %zu samples, %.1f kWh\n", j->r->out, j->mains.count,
               j->truth.energy_wh / 1000.0);
    }
    for (uint32_t c = 0; c < j->data->class_count; c++) {
        uint32_t runs = 0;
        double energy = 0;
        for (size_t i = 0; i < j->truth.run_count; i++) {
            runs += j->truth.runs[i].appliance == c;
            energy += j->truth.runs[i].appliance == c ? j->truth.runs[i].energy_wh : 0.0;
        }
        if (o) {
            cJSON *item = cJSON_CreateObject();
            cJSON_AddStringToObject(item, "name", j->data->labels[c]);
            cJSON_AddNumberToObject(item, "runs", runs);
            cJSON_AddNumberToObject(item, "energy_wh", energy);
            cJSON_AddItemToArray(list, item);
        } else if (runs) {
            printf("  %-24s %5u runs %10.1f Wh\n", j->data->labels[c], runs, energy);
        }
    }
    return j->r->json ? cli_print_json(o) : CLI_DONE;
}

static int mix_files(const struct request *r)
{
    struct job j = {.r = r};
    char why[512] = "";
    int code, rc = load(&j, why, sizeof(why));

    if (!rc)
        rc = prepare(&j);
    if (rc == -E2BIG)
        (void)snprintf(why, sizeof(why), "more than %u numbers: fewer --homes or --days",
                       TRUTH_READINGS_MAX);
    if (!rc) {
        rc = write_recording(&j);
        if (rc)
            (void)snprintf(why, sizeof(why), "%s: %s", r->out, strerror(-rc));
    }
    if (!rc) {
        rc = write_truth(&j);
        if (rc)
            (void)snprintf(why, sizeof(why), "%s: %s", r->truth ? r->truth : "truth",
                           strerror(-rc));
    }
    code = rc ? cli_fail(cli_code(rc), "mix: %s", why[0] ? why : strerror(-rc)) : report(&j);
    free(j.watts);
    free(j.on);
    free(j.parts);
    truth_series_free(&j.mains);
    truth_free(&j.truth);
    dataset_free(j.data);
    return code;
}

int workshop_mix(int argc, char **argv)
{
    struct request r = {.part = PART_TEST, .split = SPLIT_DAY, .homes = 1, .days = 1, .seed = 1};
    r.plan.loads = 3;
    dataset_defaults(&r.data);
    /* clang-format off */
    struct cli_option options[] = {
        {"data", CLI_STRING, &r.dir, "DIR", "traces of single appliances: DIR/complete/CLASS/*.csv or DIR/CLASS/*.csv", 0, 0, NULL, 1, 0},
        {"rules", CLI_STRING, &r.rules, "FILE", "which classes are named, and when they are on", 0, 0, NULL, 0, 0},
        {"model", CLI_STRING, &r.model, "FILE", "or the rules that this model was trained by", 0, 0, NULL, 0, 0},
        {"out", CLI_STRING, &r.out, "CSV", "the recording: time, aggregate, a column for each appliance", 0, 0, NULL, 1, 0},
        {"truth", CLI_STRING, &r.truth, "CSV", "its runs, as score reads them", 0, 0, NULL, 0, 0},
        {"split", CLI_CHOICE, &r.split, NULL, "what kept the traces apart in training; none: all of them", 0, 0, train_splits, 0, 0},
        {"split-seed", CLI_UINT64, &r.data.split_seed, "N", "which days or devices went where", 0, 0, NULL, 0, 0},
        {"part", CLI_CHOICE, &r.part, NULL, "side of the split", 0, 0, parts, 0, 0},
        {"period-ms", CLI_UINT, &r.data.period_ms, "MS", "of the recording", 100, 3600000, NULL, 0, 0},
        {"homes", CLI_UINT, &r.homes, "N", "one after the other, three hours apart, each with loads of its own", 1, 1000, NULL, 0, 0},
        {"days", CLI_UINT, &r.days, "N", "of each home", 1, 366, NULL, 0, 0},
        {"loads", CLI_UINT, &r.plan.loads, "N", "named appliances in each home, all different", 0, MIX_MAX_RULES, NULL, 0, 0},
        {"unknown", CLI_UINT, &r.plan.unknown, "N", "appliances of other classes in each home", 0, 64, NULL, 0, 0},
        {"plain", CLI_FLAG, &r.plain, NULL, "the sum alone: no base load, no noise, nothing that a meter does", 0, 0, NULL, 0, 0},
        {"seed", CLI_UINT64, &r.seed, "N", "of what is drawn", 0, 0, NULL, 0, 0},
        {"threads", CLI_UINT, &r.data.threads, "N", "that load; 0: one per processor", 0, 8, NULL, 0, 0},
        {"json", CLI_FLAG, &r.json, NULL, "report as one JSON object", 0, 0, NULL, 0, 0},
        {"quiet", CLI_FLAG, &r.quiet, NULL, "no progress", 0, 0, NULL, 0, 0},
        {0}};
    /* clang-format on */
    struct cli_command command = {
        .name = "mix",
        .usage = "--data DIR --rules FILE --out CSV",
        .summary =
            "Mixes recordings of single appliances into the power of a mains meter, and says "
            "what was on. Recordings are taken as they are; the same seed gives the same "
            "bytes.",
        .options = options};
    int code = cli_parse(&command, argc, argv);
    if (code != CLI_RUN)
        return code;
    if (!r.rules == !r.model)
        return cli_fail(CLI_USAGE, "mix: expected --rules FILE or --model FILE, one of them");
    r.data.split = (enum dataset_split)r.split;
    r.data.part = r.split == SPLIT_NONE ? PART_ALL : (enum dataset_part)r.part;
    r.plan.base = !r.plain;
    return mix_files(&r);
}
