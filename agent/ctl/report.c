/* report.c - nilmctl report: as a table, JSON, CSV, or a page. */
#include "agent/ctl/report.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/calendar.h"
#include "agent/ctl/cli.h"
#include "agent/ctl/ctl.h"

#define DAY_MS 86400000LL

/* ---- JSON ---- */

static void number(cJSON *o, const char *key, double value, double scale)
{
    cJSON_AddNumberToObject(o, key, round(value * scale) / scale);
}

static void add_loads(const struct report *r, cJSON *root)
{
    cJSON *list = cJSON_AddArrayToObject(root, "loads");
    for (size_t i = 0; i < r->load_count && list; i++) {
        const struct report_load *l = &r->loads[i];
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "meter", l->meter);
        cJSON_AddStringToObject(o, "appliance", l->name);
        cJSON_AddNumberToObject(o, "runs", (double)l->runs);
        number(o, "energy", l->wh, 1000);
        number(o, "share", r->wh > 0 ? l->wh / r->wh : 0, 10000);
        number(o, "hours", l->seconds / 3600, 1000);
        number(o, "peak", l->peak_w, 10);
        number(o, "cost", l->cost, 10000);
        cJSON_AddItemToArray(list, o);
    }
}

static void add_shifts(const struct report *r, const struct report_meter *m, cJSON *o)
{
    cJSON *list = cJSON_AddArrayToObject(o, "shifts");
    for (size_t i = 0; i <= SHIFT_MAX && list && r->config->shift_count; i++) {
        const struct report_shift *s = &m->shifts[i];
        if (i >= r->config->shift_count && (i < SHIFT_MAX || s->wh <= 0))
            continue;
        cJSON *e = cJSON_CreateObject();
        cJSON_AddStringToObject(e, "shift", i < SHIFT_MAX ? r->config->shifts[i].name : "");
        number(e, "energy", s->wh, 1000);
        number(e, "run_hours", s->run_s / 3600, 1000);
        cJSON_AddNumberToObject(e, "starts", (double)s->starts);
        cJSON_AddItemToArray(list, e);
    }
}

static void add_meters(const struct report *r, cJSON *root)
{
    cJSON *list = cJSON_AddArrayToObject(root, "meters");
    for (size_t i = 0; i < r->meter_count && list; i++) {
        const struct report_meter *m = &r->meters[i];
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "meter", m->name);
        cJSON_AddBoolToObject(o, "counted", m->counted);
        number(o, "energy", m->wh, 1000);
        number(o, "cost", m->cost, 10000);
        number(o, "base_energy", m->base_wh, 1000);
        number(o, "low", fmax(0, m->low_w), 10);
        number(o, "high", m->high_w, 10);
        number(o, "seen_hours", m->seen_s / 3600, 1000);
        number(o, "off_hours", m->off_s / 3600, 1000);
        number(o, "idle_hours", m->idle_s / 3600, 1000);
        number(o, "run_hours", m->run_s / 3600, 1000);
        number(o, "peak_hours", m->peak_s / 3600, 1000);
        cJSON_AddNumberToObject(o, "starts", (double)m->starts);
        number(o, "starts_per_hour", m->seen_s > 0 ? (double)m->starts * 3600 / m->seen_s : 0,
               1000);
        add_shifts(r, m, o);
        cJSON_AddItemToArray(list, o);
    }
}

static void add_rest(const struct report *r, cJSON *root)
{
    char text[16];
    cJSON *days = cJSON_AddArrayToObject(root, "days"), *alerts;
    for (size_t i = 0; i < r->day_count && days; i++) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "day", calendar_text(r->days[i].day, text));
        number(o, "energy", r->days[i].wh, 1000);
        number(o, "base_energy", r->days[i].base_wh, 1000);
        number(o, "cost", r->days[i].cost, 10000);
        cJSON_AddItemToArray(days, o);
    }
    alerts = cJSON_AddArrayToObject(root, "alerts");
    for (size_t i = 0; i < r->alert_count && alerts; i++) {
        const struct alerts_row *a = &r->alerts[i];
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "alert_id", a->id);
        cJSON_AddStringToObject(o, "alert", a->alert);
        cJSON_AddStringToObject(o, "meter", a->meter);
        cJSON_AddStringToObject(o, "appliance", a->appliance);
        cJSON_AddNumberToObject(o, "since", (double)a->since_ms);
        cJSON_AddNumberToObject(o, "cleared", (double)a->cleared_ms);
        cJSON_AddStringToObject(o, "expected", a->expected);
        cJSON_AddStringToObject(o, "seen", a->seen);
        cJSON_AddItemToArray(alerts, o);
    }
}

cJSON *report_json(const struct report *r)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "device", r->config->device);
    cJSON_AddNumberToObject(root, "from", (double)r->from_ms);
    cJSON_AddNumberToObject(root, "to", (double)r->to_ms);
    cJSON_AddStringToObject(root, "currency", r->config->currency);
    number(root, "energy", r->wh, 1000);
    number(root, "cost", r->cost, 10000);
    number(root, "base_energy", r->base_wh, 1000);
    number(root, "named_energy", r->named_wh, 1000);
    number(root, "unknown_energy", r->unknown_wh, 1000);
    number(root, "unknown_share", r->wh > 0 ? r->unknown_wh / r->wh : 0, 10000);
    cJSON_AddBoolToObject(root, "truncated", r->overflow);
    add_loads(r, root);
    add_meters(r, root);
    add_rest(r, root);
    return root;
}

/* ---- CSV ---- */

/* Names are quoted, and no cell begins with what a spreadsheet would calculate. */
static void csv_text(const char *text, FILE *out)
{
    fputc('"', out);
    if (strchr("=+-@", text[0]) && text[0])
        fputc('\'', out);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

void report_csv(const struct report *r, FILE *out)
{
    fprintf(out, "meter,appliance,runs,energy_wh,share,hours,peak_w,cost_%s\n",
            r->config->currency);
    for (size_t i = 0; i < r->load_count; i++) {
        const struct report_load *l = &r->loads[i];
        csv_text(l->meter, out);
        fputc(',', out);
        csv_text(l->name, out);
        fprintf(out, ",%llu,%.3f,%.4f,%.3f,%.1f,%.4f\n", (unsigned long long)l->runs, l->wh,
                r->wh > 0 ? l->wh / r->wh : 0, l->seconds / 3600, l->peak_w, l->cost);
    }
}

/* ---- table ---- */

static void print_shift(const char *name, const struct report_shift *s)
{
    printf("    %-20s %10.2f %28.1f %17llu\n", name, s->wh / 1000, s->run_s / 3600,
           (unsigned long long)s->starts);
}

static void print_meters(const struct report *r)
{
    printf("\n%-24s %10s %8s %9s %9s %9s %9s %7s %8s\n", "METER", "KWH", "BASE", "OFF H", "IDLE H",
           "RUN H", "PEAK H", "STARTS", "PER HOUR");
    for (size_t i = 0; i < r->meter_count; i++) {
        struct report_meter m = r->meters[i];
        printf("%-24s %10.2f %6.0f %% %9.1f %9.1f %9.1f %9.1f %7llu %8.2f\n", cli_plain(m.name),
               m.wh / 1000, m.wh > 0 ? 100 * m.base_wh / m.wh : 0, m.off_s / 3600, m.idle_s / 3600,
               m.run_s / 3600, m.peak_s / 3600, (unsigned long long)m.starts,
               m.seen_s > 0 ? (double)m.starts * 3600 / m.seen_s : 0);
        for (size_t k = 0; k < r->config->shift_count; k++)
            print_shift(r->config->shifts[k].name, &m.shifts[k]);
        if (r->config->shift_count && m.shifts[SHIFT_MAX].wh > 0)
            print_shift("(in no shift)", &m.shifts[SHIFT_MAX]);
    }
}

void report_table(const struct report *r)
{
    char from[CLI_STAMP], to[CLI_STAMP];
    printf("%s, %s to %s\n", r->config->device, cli_stamp(r->from_ms, from),
           cli_stamp(r->to_ms, to));
    printf("%.2f kWh", r->wh / 1000);
    if (r->cost > 0)
        printf(", %.2f %s", r->cost, r->config->currency);
    printf("; base load %.0f %%, named %.0f %%, unknown %.0f %%\n\n",
           r->wh > 0 ? 100 * r->base_wh / r->wh : 0, r->wh > 0 ? 100 * r->named_wh / r->wh : 0,
           r->wh > 0 ? 100 * r->unknown_wh / r->wh : 0);
    printf("%-24s %-20s %6s %10s %7s %9s %9s\n", "APPLIANCE", "METER", "RUNS", "KWH", "SHARE",
           "HOURS", r->config->currency);
    for (size_t i = 0; i < r->load_count; i++) {
        struct report_load l = r->loads[i];
        printf("%-24s %-20s %6llu %10.2f %5.1f %% %9.1f %9.2f\n", cli_plain(l.name),
               cli_plain(l.meter), (unsigned long long)l.runs, l.wh / 1000,
               r->wh > 0 ? 100 * l.wh / r->wh : 0, l.seconds / 3600, l.cost);
    }
    if (r->meter_count > 0)
        print_meters(r);
    printf("\n%zu alerts\n", r->alert_count);
    for (size_t i = 0; i < r->alert_count; i++) {
        struct alerts_row a = r->alerts[i];
        printf("  %s %s: %s%s%s: %s%s\n", cli_stamp(a.since_ms, from), a.alert, cli_plain(a.meter),
               a.appliance[0] ? " " : "", cli_plain(a.appliance), cli_plain(a.seen),
               a.cleared_ms ? "" : " (open)");
    }
    if (r->overflow)
        printf("There is more than a report holds: choose a shorter time.\n");
}

/* ---- the command ---- */

static int write_file(const struct report *r, const char *path,
                      void (*print)(const struct report *, FILE *))
{
    FILE *f = strcmp(path, "-") == 0 ? stdout : fopen(path, "w");
    if (!f)
        return cli_fail(CLI_FAILED, "report", "%s: %s", path, strerror(errno));
    print(r, f);
    const int bad = ferror(f);
    if ((f == stdout ? fflush(f) : fclose(f)) != 0 || bad)
        return cli_fail(CLI_RETRY, "report", "%s: cannot be written", path);
    return CLI_DONE;
}

static int take_tariff(struct report *r, const char *text)
{
    char why[256], *end;
    const double flat = strtod(text, &end);
    if (*end == '\0' && isfinite(flat) && flat >= 0) {
        memset(&r->tariff, 0, sizeof r->tariff);
        r->price = flat;
        return CLI_GO;
    }
    if (periods_parse(text, &r->tariff, why, sizeof why) < 0)
        return cli_fail(CLI_USAGE, "report", "--tariff: no price, and no tariff: %s", why);
    return CLI_GO;
}

struct request {
    const char *html, *csv, *tariff;
    int json;
};

static int make(struct report *r, const struct request *q, struct store *store)
{
    char why[256];
    int code = CLI_GO;
    r->price = r->config->price;
    /* the configuration was checked when it was loaded */
    periods_parse(r->config->tariff, &r->tariff, why, sizeof why);
    if (q->tariff && (code = take_tariff(r, q->tariff)) != CLI_GO)
        return code;
    const int rc = report_read(r, store);
    if (rc < 0)
        return cli_fail(rc == -EBUSY || rc == -ENOMEM ? CLI_RETRY : CLI_FAILED, "report", "%s",
                        rc == -ENOMEM ? "out of memory" : store_error(store));
    code = CLI_DONE;
    if (q->html)
        code = write_file(r, q->html, report_html);
    if (q->csv && code == CLI_DONE)
        code = write_file(r, q->csv, report_csv);
    if (q->json && code == CLI_DONE)
        code = cli_print_json(report_json(r));
    else if (!q->html && !q->csv && code == CLI_DONE)
        report_table(r);
    return code;
}

int ctl_report(int argc, char **argv)
{
    const char *path = CLI_CONFIG;
    struct request q = {0};
    struct report r = {.to_ms = cli_now_ms()};
    r.from_ms = r.to_ms - 30 * DAY_MS;
    const struct cli_option options[] = {
        {"config", CLI_TEXT, &path, "FILE", "configuration of the agent (" CLI_CONFIG ")", 0, 0},
        {"from", CLI_TIME, &r.from_ms, "TIME", "7d (ago), 2024-05-01, @SECONDS (30d)", 0, 0},
        {"to", CLI_TIME, &r.to_ms, "TIME", "the same; not included (now)", 0, 0},
        {"tariff", CLI_TEXT, &q.tariff, "TEXT",
         "a price of a kWh, or [DAYS] HH:MM-HH:MM PRICE, ... ([report] price and tariff)", 0, 0},
        {"html", CLI_TEXT, &q.html, "FILE",
         "a page with charts, one file, nothing fetched; -: standard output", 0, 0},
        {"csv", CLI_TEXT, &q.csv, "FILE", "the loads as CSV; -: standard output", 0, 0},
        {"json", CLI_FLAG, &q.json, NULL, "one JSON object on standard output", 0, 0},
        {0}};
    const struct cli_command command = {
        "report", "", 0,
        "Energy of each appliance or machine, runs, costs, base load, unknown share and alerts of "
        "a stretch of time.",
        options};
    struct config *c = NULL;
    struct store *store = NULL;
    int code = cli_parse(&command, argc, argv, NULL);
    if (code != CLI_GO)
        return code;
    if (r.from_ms >= r.to_ms)
        return cli_fail(CLI_USAGE, command.name, "--from is not before --to");
    if ((code = cli_config(command.name, path, &c)) == CLI_DONE &&
        (code = cli_store(command.name, c, 0, &store)) == CLI_DONE) {
        r.config = c;
        code = make(&r, &q, store);
        report_free(&r);
    }
    store_close(store);
    config_free(c);
    return code;
}
