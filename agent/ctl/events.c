/* events.c - nilmctl events: runs of appliances in the local history. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/ctl/cli.h"
#include "agent/ctl/ctl.h"
#include "storage/history.h"

struct listing {
    cJSON *runs; /* NULL: a table */
    int count;
    double energy_wh;
};

static int add_json(cJSON *runs, const struct history_run *r)
{
    cJSON *o = cJSON_CreateObject();
    if (!o || !cJSON_AddItemToArray(runs, o))
        return 1;
    cJSON_AddNumberToObject(o, "run", (double)r->id);
    cJSON_AddStringToObject(o, "meter", r->meter);
    cJSON_AddStringToObject(o, "appliance", r->appliance);
    cJSON_AddNumberToObject(o, "confidence", r->confidence);
    cJSON_AddNumberToObject(o, "start", (double)r->start_ms);
    if (r->end_ms == 0)
        return !cJSON_AddNullToObject(o, "end");
    cJSON_AddNumberToObject(o, "end", (double)r->end_ms);
    cJSON_AddNumberToObject(o, "duration", (double)(r->end_ms - r->start_ms) / 1000);
    cJSON_AddNumberToObject(o, "energy", r->energy_wh);
    cJSON_AddNumberToObject(o, "power", r->mean_w);
    cJSON_AddNumberToObject(o, "peak", r->peak_w);
    return !cJSON_AddStringToObject(o, "end_reason", r->end_reason);
}

static void add_row(const struct history_run *run, int first)
{
    char start[CLI_STAMP], duration[CLI_STAMP];
    struct history_run r = *run;
    if (first)
        printf("%8s  %-19s %9s  %-20s %-20s %5s %9s %10s\n", "RUN", "START", "DURATION", "METER",
               "APPLIANCE", "SURE", "MEAN W", "WH");
    if (r.end_ms == 0)
        snprintf(duration, sizeof duration, "running");
    else
        cli_duration((double)(r.end_ms - r.start_ms) / 1000, duration);
    printf("%8lld  %-19s %9s  %-20s %-20s %4.0f%% ", (long long)r.id, cli_stamp(r.start_ms, start),
           duration, cli_plain(r.meter), cli_plain(r.appliance), 100 * r.confidence);
    if (r.end_ms == 0)
        printf("%9s %10s\n", "", "");
    else
        printf("%9.1f %10.1f%s\n", r.mean_w, r.energy_wh,
               strcmp(r.end_reason, "gap") == 0 ? "  (ended in a gap of readings)" : "");
}

static int visit(void *context, const struct history_run *run)
{
    struct listing *l = context;
    if (l->runs && add_json(l->runs, run) != 0)
        return 1;
    if (!l->runs)
        add_row(run, l->count == 0);
    l->count++;
    l->energy_wh += run->energy_wh;
    return 0;
}

int ctl_events(int argc, char **argv)
{
    const char *path = CLI_CONFIG, *meter = NULL, *appliance = NULL;
    int64_t since = 0, until = INT64_MAX, limit = 50;
    int json = 0;
    const struct cli_option options[] = {
        {"config", CLI_TEXT, &path, "FILE", "configuration of the agent (" CLI_CONFIG ")", 0, 0},
        {"since", CLI_TIME, &since, "TIME",
         "runs that began at or after it: 2h (ago), 2024-05-01, "
         "2024-05-01T12:00, @SECONDS",
         0, 0},
        {"until", CLI_TIME, &until, "TIME", "runs that began before it", 0, 0},
        {"meter", CLI_TEXT, &meter, "NAME", "of this meter only", 0, 0},
        {"appliance", CLI_TEXT, &appliance, "NAME", "of this appliance only", 0, 0},
        {"limit", CLI_NUMBER, &limit, "N", "at most so many (50)", 1, 1000000},
        {"json", CLI_FLAG, &json, NULL, "one JSON object on standard output", 0, 0},
        {0}};
    const struct cli_command command = {
        "events", "", 0,
        "Lists the runs of appliances in the history of this gateway, newest first.", options};
    struct config *c = NULL;
    struct store *store = NULL;
    struct listing listing = {0};
    cJSON *out = NULL;

    int code = cli_parse(&command, argc, argv, NULL);
    if (code != CLI_GO)
        return code;
    if (since > until)
        return cli_fail(CLI_USAGE, command.name, "--since is later than --until");
    if ((code = cli_config(command.name, path, &c)) != CLI_DONE ||
        (code = cli_store(command.name, c, 0, &store)) != CLI_DONE)
        goto out;
    if (json) {
        out = cJSON_CreateObject();
        listing.runs = cJSON_AddArrayToObject(out, "events");
        if (!listing.runs) {
            code = cli_fail(CLI_RETRY, command.name, "out of memory");
            goto out;
        }
    }
    int rc = history_list(store, since, until, meter, appliance, (int)limit, visit, &listing);
    if (rc < 0) {
        code =
            cli_fail(rc == -EBUSY ? CLI_RETRY : CLI_FAILED, command.name, "%s", store_error(store));
    } else if (json) {
        code = cli_print_json(out);
        out = NULL;
    } else {
        printf("%d runs, %.1f Wh%s\n", listing.count, listing.energy_wh,
               listing.count == limit ? " (there may be more: --limit)" : "");
    }
out:
    cJSON_Delete(out);
    store_close(store);
    config_free(c);
    return code;
}
