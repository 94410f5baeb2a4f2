/* cmd_inject.c - nilm-model inject: a fault in recorded days, with its truth. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/cli.h"
#include "inference/workshop/inject.h"
#include "inference/workshop/workshop.h"

#define FILES 400
#define READINGS 200000000u /* 3 GB of memory */

struct request {
    const char *files[FILES], *out, *column;
    struct inject_fault fault;
    float size, hours, after_days, on_w, off_w;
    int json;
};

static int read_file(const struct request *r, const char *path, struct inject_series *s)
{
    char why[512];
    struct trace *t = NULL;
    struct trace_reading reading;
    int rc = trace_open(path, TRACE_AUTO, r->column, &t, why, sizeof why);
    if (rc < 0)
        return cli_fail(cli_code(rc), "inject: %s", why);
    while ((rc = trace_next(t, &reading)) == 1 || rc == -EBADMSG) {
        if (rc == -EBADMSG) /* as the agent: left out */
            continue;
        rc = s->count < READINGS ? inject_add(s, reading.t_ms, reading.watts) : -ENOMEM;
        if (rc < 0)
            break;
    }
    trace_close(t);
    return rc < 0 ? cli_fail(cli_code(rc), "inject: %s: %s", path, strerror(-rc)) : CLI_RUN;
}

static int write_series(const char *path, const struct inject_series *s)
{
    FILE *f = fopen(path, "w");
    if (!f)
        return cli_fail(cli_code(-errno), "inject: %s: %s", path, strerror(errno));
    fputs("time,watts\n", f);
    for (size_t i = 0; i < s->count; i++)
        fprintf(f, "%" PRId64 ".%03d,%.7g\n", s->r[i].t_ms / 1000, (int)(s->r[i].t_ms % 1000),
                (double)s->r[i].watts);
    const int bad = ferror(f);
    if (fclose(f) != 0 || bad)
        return cli_fail(CLI_RETRY, "inject: %s: cannot be written", path);
    return CLI_RUN;
}

static int tell(const struct request *r, const struct inject_series *out,
                const struct inject_truth *truth)
{
    const char *kind = inject_names[r->fault.kind];
    if (r->json) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "fault", kind);
        cJSON_AddNumberToObject(o, "size", r->fault.size);
        cJSON_AddNumberToObject(o, "hours", r->fault.hours);
        cJSON_AddNumberToObject(o, "from", (double)truth->from_ms);
        cJSON_AddNumberToObject(o, "to", (double)truth->to_ms);
        cJSON_AddNumberToObject(o, "runs", (double)truth->runs);
        cJSON_AddNumberToObject(o, "changed", (double)truth->changed);
        cJSON_AddNumberToObject(o, "readings", (double)out->count);
        return cli_print_json(o);
    }
    printf("%s: %s, from %" PRId64 " to %" PRId64 " (Unix ms), %zu of %zu runs changed\n", r->out,
           kind, truth->from_ms, truth->to_ms, truth->changed, truth->runs);
    return CLI_DONE;
}

static int inject_files(struct request *r)
{
    struct inject_series in = {0}, out = {0};
    struct inject_truth truth;
    int code = CLI_RUN;
    for (int i = 0; i < FILES && r->files[i] && code == CLI_RUN; i++)
        code = read_file(r, r->files[i], &in);
    if (code == CLI_RUN && in.count == 0)
        code = cli_fail(CLI_FAILED, "inject: %s: no readings", r->files[0]);
    if (code == CLI_RUN) {
        r->fault.at_ms = in.r[0].t_ms + (int64_t)((double)r->after_days * 86400000);
        const int rc = inject_apply(&in, &r->fault, &out, &truth);
        if (rc == -ENOENT)
            code = cli_fail(CLI_FAILED, "inject: nothing to disturb after %g days",
                            (double)r->after_days);
        else if (rc < 0)
            code = cli_fail(cli_code(rc), "inject: %s", strerror(-rc));
    }
    if (code == CLI_RUN)
        code = write_series(r->out, &out);
    if (code == CLI_RUN)
        code = tell(r, &out, &truth);
    free(in.r);
    free(out.r);
    return code;
}

int workshop_inject(int argc, char **argv)
{
    struct request r = {
        .size = 1, .hours = 24, .after_days = 7, .on_w = 15, .off_w = 10, .fault = {0}};
    struct cli_option options[] = {
        {"fault", CLI_CHOICE, &r.fault.kind, NULL, "what goes wrong", 0, 0, inject_names, 1, 0},
        {"size", CLI_FLOAT, &r.size, "X",
         "power, run_time, cycles: factor; drift, lengthen: share a day; spikes, load: watts", -1e7,
         1e7, NULL, 0, 0},
        {"hours", CLI_FLOAT, &r.hours, "H", "of stuck_on, silent, frozen, load", 0, 1e5, NULL, 0,
         0},
        {"after", CLI_FLOAT, &r.after_days, "DAYS", "undisturbed days before", 0, 1e5, NULL, 0, 0},
        {"out", CLI_STRING, &r.out, "FILE", "the CSV to write: time,watts", 0, 0, NULL, 1, 0},
        {"column", CLI_STRING, &r.column, "NAME", "power column of plain CSV", 0, 0, NULL, 0, 0},
        {"on-w", CLI_FLOAT, &r.on_w, "W", "power from which the load is on", 0, 1e6, NULL, 0, 0},
        {"off-w", CLI_FLOAT, &r.off_w, "W", "power below which it is off", 0, 1e6, NULL, 0, 0},
        {"json", CLI_FLAG, &r.json, NULL, "the truth as one JSON object", 0, 0, NULL, 0, 0},
        {0}};
    struct cli_command command = {
        .name = "inject",
        .usage = "--fault KIND --out FILE [options] TRACE...",
        .summary = "Puts a fault into recorded days of one load (files in order of time) and says "
                   "what it changed, to find out what alerts notice of it.",
        .options = options,
        .positional = "TRACE",
        .positional_min = 1,
        .positional_max = FILES,
        .positional_values = r.files};
    const int code = cli_parse(&command, argc, argv);
    if (code != CLI_RUN)
        return code;
    r.fault.size = (double)r.size;
    r.fault.hours = (double)r.hours;
    r.fault.on_w = (double)r.on_w;
    r.fault.off_w = (double)r.off_w;
    return inject_files(&r);
}
