/* export.c - nilmctl export: cuts labelled day files for training out of a meter's recording. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/ctl/cli.h"
#include "agent/ctl/ctl.h"
#include "agent/record.h"
#include "inference/trace.h"
#include "storage/history.h"

#define LABEL_BYTES 32 /* of a class, as in a model */
#define PATH_BYTES 2048
#define RUNS 10000
/* Of the time around a run, as long as nothing else ran: a window of training (68 min) has to fit,
 * and shows how a run begins and ends. */
#define AROUND_MS (75 * INT64_C(60000))

struct span {
    int64_t from_ms, to_ms;
};

struct job {
    const char *source, *meter, *out;
    char folder[PATH_BYTES]; /* of the class */
    struct span *spans;      /* newest first, as runs do not overlap; NULL: all in from_ms..to_ms */
    size_t span_count;
    int64_t from_ms, to_ms;
    int files;
    uint64_t readings, bad;
};

/* A class is a folder, and its name a label of models. */
static int check_label(const char *label)
{
    const size_t n = strlen(label);
    int good = n > 0 && n < LABEL_BYTES && label[0] != '.' && strcmp(label, "unknown") != 0;
    for (const char *p = label; *p && good; p++)
        good = (unsigned char)*p >= 0x20 && *p != '/' && *p != '\\' && *p != 0x7f;
    return good;
}

static int make_folders(const char *path)
{
    char part[PATH_BYTES];
    snprintf(part, sizeof part, "%s", path);
    for (char *p = part + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        if (mkdir(part, 0755) < 0 && errno != EEXIST)
            return -errno;
        *p = '/';
    }
    return mkdir(part, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

/* DIR/complete when it is there (tracebase), else DIR itself: where nilm-model looks. */
static int choose_folder(struct job *j, const char *label)
{
    char complete[PATH_BYTES];
    struct stat st;
    int n = snprintf(complete, sizeof complete, "%s/complete", j->out);
    if (n < 0 || (size_t)n >= sizeof complete)
        return -ENAMETOOLONG;
    const int there = stat(complete, &st) == 0 && S_ISDIR(st.st_mode);
    n = snprintf(j->folder, sizeof j->folder, "%s/%s", there ? complete : j->out, label);
    if (n < 0 || (size_t)n >= sizeof j->folder)
        return -ENAMETOOLONG;
    return make_folders(j->folder);
}

static int wanted(const struct job *j, int64_t t_ms)
{
    if (t_ms < j->from_ms || t_ms >= j->to_ms)
        return 0;
    if (!j->spans)
        return 1;
    size_t low = 0, high = j->span_count; /* the newest that began before */
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (j->spans[middle].from_ms <= t_ms)
            high = middle;
        else
            low = middle + 1;
    }
    return low < j->span_count && t_ms < j->spans[low].to_ms;
}

static int write_line(FILE *f, const struct trace_reading *r)
{
    const time_t s = (time_t)(r->t_ms / 1000);
    struct tm t;
    if (!gmtime_r(&s, &t))
        return -EINVAL;
    return fprintf(f, "%02d/%02d/%04d %02d:%02d:%02d;%.1f;%.1f\n", t.tm_mday, t.tm_mon + 1,
                   t.tm_year + 1900, t.tm_hour, t.tm_min, t.tm_sec, (double)r->watts,
                   (double)r->watts) > 0
               ? 0
               : -EIO;
}

/* Copies what is wanted of one day. The file appears whole or not at all; one that is there from an
 * earlier export is replaced. */
static int copy_day(struct job *j, const char *name, char why[CLI_WHY])
{
    char from[PATH_BYTES], to[PATH_BYTES + 300], part[PATH_BYTES + 310];
    struct trace *t = NULL;
    struct trace_reading r;
    FILE *f = NULL;
    uint64_t lines = 0;
    int n = snprintf(from, sizeof from, "%s/%s", j->source, name), rc;
    if (n < 0 || (size_t)n >= sizeof from)
        return -ENAMETOOLONG;
    snprintf(to, sizeof to, "%s/%s", j->folder, name);
    snprintf(part, sizeof part, "%s.part", to);
    rc = trace_open(from, TRACE_TRACEBASE, NULL, &t, why, CLI_WHY);
    while (rc == 0 && (rc = trace_next(t, &r)) != 0) {
        j->bad += rc == -EBADMSG;
        if (rc == 1 && wanted(j, r.t_ms)) {
            if (!f && !(f = fopen(part, "we"))) {
                rc = -errno;
                break;
            }
            rc = write_line(f, &r);
            lines++;
        } else {
            rc = rc == 1 || rc == -EBADMSG ? 0 : rc;
        }
    }
    trace_close(t);
    if (f && fclose(f) != 0 && rc == 0)
        rc = -errno;
    if (f && rc == 0 && rename(part, to) < 0)
        rc = -errno;
    if (f && rc < 0)
        unlink(part);
    j->files += rc == 0 && f;
    j->readings += rc == 0 ? lines : 0;
    if (rc < 0 && !why[0])
        snprintf(why, CLI_WHY, "%s: %s", to, strerror(-rc));
    return rc;
}

static int copy_all(struct job *j, char why[CLI_WHY])
{
    int rc = 0, date = 0;
    DIR *d = opendir(j->source);
    if (!d) {
        rc = -errno;
        snprintf(why, CLI_WHY, "%s: %s", j->source, strerror(-rc));
        return rc;
    }
    for (struct dirent *e; rc == 0 && (e = readdir(d)) != NULL;)
        if (record_parse_name(e->d_name, j->meter, &date) == 0)
            rc = copy_day(j, e->d_name, why);
    closedir(d);
    return rc;
}

struct collector {
    struct job *job;
    const char *runs;
    int64_t later_ms; /* when the next run of another name began */
    int taken;        /* the last span is of the run before this one */
};

/* Newest first. */
static int add_span(void *context, const struct history_run *run)
{
    struct collector *c = context;
    struct job *j = c->job;
    const int own = strcmp(run->appliance, c->runs) == 0;
    if (!own) {
        struct span *last = c->taken ? &j->spans[j->span_count - 1] : NULL;
        if (last && last->from_ms < run->end_ms)
            last->from_ms = run->end_ms;
        c->later_ms = run->start_ms;
        c->taken = 0;
    } else if (run->end_ms > 0) {
        const int64_t to_ms = run->end_ms + AROUND_MS;
        j->spans[j->span_count++] =
            (struct span){run->start_ms - AROUND_MS, to_ms < c->later_ms ? to_ms : c->later_ms};
        c->taken = 1;
    }
    return j->span_count == RUNS;
}

/* The times of the runs that the history, corrected by `nilmctl label`, calls so. */
static int find_runs(struct job *j, struct store *store, const char *runs)
{
    struct collector c = {.job = j, .runs = runs, .later_ms = INT64_MAX};
    j->spans = calloc(RUNS, sizeof *j->spans);
    if (!j->spans)
        return -ENOMEM;
    return history_list(store, j->from_ms, j->to_ms, j->meter, NULL, INT32_MAX, add_span, &c);
}

static int report(const char *command, const struct job *j, const char *label, int json)
{
    if (j->readings == 0)
        return cli_fail(CLI_FAILED, command, "nothing of meter %s is recorded in %s for that time",
                        j->meter, j->source);
    if (!json) {
        printf("%" PRIu64 " readings of %d days of meter %s are \"%s\" in %s now\n", j->readings,
               j->files, j->meter, label, j->folder);
        return CLI_DONE;
    }
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "meter", j->meter);
    cJSON_AddStringToObject(o, "label", label);
    cJSON_AddStringToObject(o, "folder", j->folder);
    cJSON_AddNumberToObject(o, "files", j->files);
    cJSON_AddNumberToObject(o, "readings", (double)j->readings);
    cJSON_AddNumberToObject(o, "bad_lines", (double)j->bad);
    return cli_print_json(o);
}

static const struct config_meter *find_meter(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->meter_count; i++)
        if (strcmp(c->meters[i].meter.name, name) == 0)
            return &c->meters[i];
    return NULL;
}

static int export(const char *command, const struct config *c, struct job *j, const char *label,
                  const char *runs, int json)
{
    const struct config_meter *m = find_meter(c, j->meter);
    struct store *store = NULL;
    char why[CLI_WHY] = "";
    int code = CLI_DONE, rc = 0;
    if (!m)
        return cli_fail(CLI_USAGE, command, "there is no meter \"%s\"", j->meter);
    if (!m->record[0])
        return cli_fail(CLI_FAILED, command, "meter %s is not recorded: set record = FOLDER",
                        j->meter);
    j->source = m->record;
    if (runs && (code = cli_store(command, c, 0, &store)) != CLI_DONE)
        return code;
    if (runs)
        rc = find_runs(j, store, runs);
    if (rc < 0)
        snprintf(why, sizeof why, "%s", store_error(store));
    else if (runs && j->span_count == 0 && (rc = -ENOENT))
        snprintf(why, sizeof why, "no finished run of meter %s is called \"%s\" at that time",
                 j->meter, runs);
    else if ((rc = choose_folder(j, label)) < 0)
        snprintf(why, sizeof why, "%s: %s", j->out, strerror(-rc));
    else
        rc = copy_all(j, why);
    store_close(store);
    free(j->spans);
    j->spans = NULL;
    return rc < 0 ? cli_fail(CLI_FAILED, command, "%s", why) : report(command, j, label, json);
}

int ctl_export(int argc, char **argv)
{
    const char *path = CLI_CONFIG, *label = NULL, *runs = NULL;
    struct job j = {.to_ms = INT64_MAX};
    int json = 0;
    const struct cli_option options[] = {
        {"config", CLI_TEXT, &path, "FILE", "configuration of the agent (" CLI_CONFIG ")", 0, 0},
        {"meter", CLI_TEXT, &j.meter, "NAME", "whose recording; required", 0, 0},
        {"label", CLI_TEXT, &label, "NAME", "what hangs on it: a class to train; required", 0, 0},
        {"out", CLI_TEXT, &j.out, "DIR",
         "folder of traces, for nilm-model train --data DIR; required", 0, 0},
        {"from", CLI_TIME, &j.from_ms, "TIME",
         "from then on: 2h (ago), 2024-05-01, 2024-05-01T12:00, @SECONDS; else all", 0, 0},
        {"to", CLI_TIME, &j.to_ms, "TIME", "up to then", 0, 0},
        {"runs", CLI_TEXT, &runs, "APPLIANCE",
         "only the runs that the history calls so (nilmctl label corrects it), with up to 75 "
         "minutes "
         "around them in which nothing else ran",
         0, 0},
        {"json", CLI_FLAG, &json, NULL, "one JSON object on standard output", 0, 0},
        {0}};
    const struct cli_command command = {
        "export", "", 0,
        "Labels a stretch of a meter's recording: writes it as day files of a class, to train on.",
        options};
    struct config *c = NULL;
    int code = cli_parse(&command, argc, argv, NULL);
    if (code != CLI_GO)
        return code;
    if (!j.meter || !label || !j.out)
        return cli_fail(CLI_USAGE, command.name, "--meter, --label and --out are required");
    if (!check_label(label))
        return cli_fail(CLI_USAGE, command.name,
                        "--label: expected 1 to %d characters without /, not \"unknown\"",
                        LABEL_BYTES - 1);
    if (j.from_ms >= j.to_ms)
        return cli_fail(CLI_USAGE, command.name, "--from is not before --to");
    if ((code = cli_config(command.name, path, &c)) == CLI_DONE)
        code = export(command.name, c, &j, label, runs, json);
    config_free(c);
    return code;
}
