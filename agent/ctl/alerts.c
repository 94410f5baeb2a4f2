/* alerts.c - nilmctl alerts and snooze: what is wrong, what is still being learned, and silence on
 * request. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/anomaly.h"
#include "agent/anomaly_routine.h"
#include "agent/ctl/ask.h"
#include "agent/ctl/cli.h"
#include "agent/ctl/ctl.h"
#include "storage/alerts.h"
#include "storage/routine.h"

static const char *const severities[] = {"", "info", "warning", "critical"};

static const char *severity(int number)
{
    return number >= 1 && number <= 3 ? severities[number] : "";
}

/* ---- alerts ---- */

struct listing {
    const struct config *config;
    cJSON *alerts, *learning; /* NULL: a table */
    int count;
    int64_t now_ms;
};

static int add_json(cJSON *list, const struct alerts_row *r, int64_t now_ms)
{
    cJSON *o = cJSON_CreateObject();
    if (!o || !cJSON_AddItemToArray(list, o))
        return 1;
    cJSON_AddStringToObject(o, "alert_id", r->id);
    cJSON_AddStringToObject(o, "alert", r->alert);
    cJSON_AddStringToObject(o, "severity", severity(r->severity));
    cJSON_AddStringToObject(o, "meter", r->meter);
    cJSON_AddStringToObject(o, "appliance", r->appliance);
    cJSON_AddNumberToObject(o, "since", (double)r->since_ms);
    cJSON_AddNumberToObject(o, "raised", (double)r->raised_ms);
    cJSON_AddNumberToObject(o, "updated", (double)r->updated_ms);
    if (r->cleared_ms)
        cJSON_AddNumberToObject(o, "cleared", (double)r->cleared_ms);
    else
        cJSON_AddNullToObject(o, "cleared");
    cJSON_AddStringToObject(o, "expected", r->expected);
    cJSON_AddStringToObject(o, "seen", r->seen);
    cJSON_AddNumberToObject(o, "value", r->value);
    cJSON_AddNumberToObject(o, "limit", r->limit);
    return !cJSON_AddNumberToObject(o, "snoozed_until",
                                    r->snoozed_ms > now_ms ? (double)r->snoozed_ms : 0);
}

static int visit(void *context, const struct alerts_row *row)
{
    struct listing *l = context;
    struct alerts_row r = *row;
    char since[CLI_STAMP], until[CLI_STAMP];
    l->count++;
    if (l->alerts)
        return add_json(l->alerts, row, l->now_ms);
    printf("%s  %s %s: %s%s%s%s\n", cli_stamp(r.since_ms, since), severity(r.severity), r.alert,
           cli_plain(r.meter), r.appliance[0] ? ", " : "", cli_plain(r.appliance),
           r.cleared_ms ? " (over)" : "");
    if (r.expected[0])
        printf("    expected: %s\n", cli_plain(r.expected));
    printf("    seen:     %s\n    id:       %s\n", cli_plain(r.seen), cli_plain(r.id));
    if (r.snoozed_ms > l->now_ms)
        printf("    silent until %s\n", cli_stamp(r.snoozed_ms, until));
    return 0;
}

static const struct config_meter *find_meter(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->meter_count; i++)
        if (strcmp(c->meters[i].meter.name, name) == 0)
            return &c->meters[i];
    return NULL;
}

static int visit_routine(void *context, const struct routine *routine)
{
    struct listing *l = context;
    struct routine r = *routine;
    const struct config_meter *m = find_meter(l->config, r.meter);
    struct anomaly_routine learned;
    struct anomaly_usual u;
    struct anomaly_limits limits;
    char stamp[CLI_STAMP], watts[CLI_STAMP] = "-", length[CLI_STAMP] = "-", left[CLI_STAMP] = "-";
    char between[2 * CLI_STAMP] = "-";
    if (!m) /* it was taken out of the configuration */
        return 0;
    const struct anomaly_rules *rules = &m->meter.rules;
    const double done = anomaly_routine_progress(&r, rules, r.last_ms);
    anomaly_routine_load(&r, &learned);
    anomaly_routine_usual(&learned, &r, rules, r.last_ms, &u);
    anomaly_limits(&r, rules, r.last_ms, &limits);
    if (l->learning) {
        cJSON *o = cJSON_CreateObject();
        if (!o || !cJSON_AddItemToArray(l->learning, o))
            return 1;
        cJSON_AddStringToObject(o, "meter", r.meter);
        cJSON_AddStringToObject(o, "appliance", r.appliance);
        cJSON_AddNumberToObject(o, "progress", done);
        cJSON_AddNumberToObject(o, "runs", (double)r.runs);
        cJSON_AddNumberToObject(o, "since", (double)r.first_ms);
        cJSON_AddNumberToObject(o, "power", u.w);
        cJSON_AddNumberToObject(o, "duration", u.s);
        cJSON_AddNumberToObject(o, "power_low", limits.low_w);
        cJSON_AddNumberToObject(o, "power_high", limits.high_w);
        cJSON_AddNumberToObject(o, "duration_low", limits.low_s);
        cJSON_AddNumberToObject(o, "duration_high", limits.high_s);
        cJSON_AddNumberToObject(o, "left_on", limits.left_on_s);
        return !cJSON_AddNumberToObject(o, "period", u.period);
    }
    if (u.count > 0) {
        snprintf(watts, sizeof watts, "%.0f", u.w);
        cli_duration(u.s, length);
    }
    if (limits.high_w > 0)
        snprintf(between, sizeof between, "%.0f-%.0f", limits.low_w, limits.high_w);
    if (limits.left_on_s > 0)
        cli_duration(limits.left_on_s, left);
    printf("%-20s %-20s %5.0f %% %7llu  %-19s %8s %13s %9s %10s\n", cli_plain(r.meter),
           cli_plain(r.appliance), 100 * done, (unsigned long long)r.runs,
           cli_stamp(r.first_ms, stamp), watts, between, length, left);
    return 0;
}

static int list_all(struct store *store, struct listing *l, int64_t since, int everything,
                    int64_t limit)
{
    int rc = alerts_list(store, since, INT64_MAX, !everything, (int)limit, visit, l);
    if (rc < 0)
        return rc;
    if (!l->alerts && l->count == 0)
        printf("no %salerts\n", everything ? "" : "open ");
    if (!l->alerts)
        printf("\n%-20s %-20s %7s %7s  %-19s %8s %13s %9s %10s\n", "METER", "LOAD", "LEARNED",
               "RUNS", "SINCE", "USUAL W", "ALERT OUTSIDE", "LENGTH", "LEFT ON AT");
    return routine_list(store, NULL, visit_routine, l);
}

int ctl_alerts(int argc, char **argv)
{
    const char *path = CLI_CONFIG;
    int64_t since = 0, limit = 100;
    int json = 0, all = 0;
    const struct cli_option options[] = {
        {"config", CLI_TEXT, &path, "FILE", "configuration of the agent (" CLI_CONFIG ")", 0, 0},
        {"all", CLI_FLAG, &all, NULL, "those that are over, too", 0, 0},
        {"since", CLI_TIME, &since, "TIME", "with --all: not over before it: 2h (ago), 2024-05-01",
         0, 0},
        {"limit", CLI_NUMBER, &limit, "N", "at most so many (100)", 1, 1000000},
        {"json", CLI_FLAG, &json, NULL, "one JSON object on standard output", 0, 0},
        {0}};
    const struct cli_command command = {
        "alerts", "", 0,
        "Lists the open alerts of this gateway, and how far it has learned what is usual.",
        options};
    struct config *c = NULL;
    struct store *store = NULL;
    struct listing l = {.now_ms = cli_now_ms()};
    cJSON *out = NULL;
    int code = cli_parse(&command, argc, argv, NULL);
    if (code != CLI_GO)
        return code;
    if ((code = cli_config(command.name, path, &c)) != CLI_DONE ||
        (code = cli_store(command.name, c, 0, &store)) != CLI_DONE)
        goto out;
    l.config = c;
    if (json) {
        out = cJSON_CreateObject();
        l.alerts = cJSON_AddArrayToObject(out, "alerts");
        l.learning = cJSON_AddArrayToObject(out, "learning");
        if (!l.learning) {
            code = cli_fail(CLI_RETRY, command.name, "out of memory");
            goto out;
        }
    }
    const int rc = list_all(store, &l, since, all, limit);
    if (rc < 0) {
        code =
            cli_fail(rc == -EBUSY ? CLI_RETRY : CLI_FAILED, command.name, "%s", store_error(store));
    } else if (json) {
        code = cli_print_json(out);
        out = NULL;
    }
out:
    cJSON_Delete(out);
    store_close(store);
    config_free(c);
    return code;
}

/* ---- snooze ---- */

int ctl_snooze(int argc, char **argv)
{
    const char *path = CLI_CONFIG, *words[2];
    const struct cli_option options[] = {
        {"config", CLI_TEXT, &path, "FILE", "configuration of the agent (" CLI_CONFIG ")", 0, 0},
        {0}};
    const struct cli_command command = {
        "snooze", "ID DURATION", 2,
        "Asks the agent for silence about an alert (ID is in `nilmctl alerts`) for a while: 90m, "
        "12h, 7d.\nIts end is still told, and when the time is over and it is open still, the "
        "alert is told again. 0 ends\nthe silence.",
        options};
    struct config *c = NULL;
    cJSON *members = NULL, *result = NULL;
    char socket[CLI_PATH], why[CLI_WHY] = "";
    int code = cli_parse(&command, argc, argv, words);
    if (code != CLI_GO || (code = cli_config(command.name, path, &c)) != CLI_DONE)
        return code;
    cli_path(c, CLI_SOCKET, socket);
    members = cJSON_CreateObject();
    cJSON_AddStringToObject(members, "alert", words[0]);
    cJSON_AddStringToObject(members, "duration", words[1]);
    const int rc = ask_agent_with(socket, command.name, members, &result, why, sizeof why);
    if (rc == -ENOENT || rc == -ECONNREFUSED)
        code = cli_fail(CLI_RETRY, command.name, "nilmd is not running (%s)", why);
    else if (rc != 0)
        code = cli_fail(rc == -ETIMEDOUT ? CLI_TIMEOUT : CLI_FAILED, command.name, "%s", why);
    else
        printf("%s: %s\n", words[0],
               strcmp(words[1], "0") == 0 ? "no longer silent" : "silent for now");
    cJSON_Delete(result);
    cJSON_Delete(members);
    config_free(c);
    return code;
}
