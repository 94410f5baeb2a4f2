/* machines.c - nilmctl machines: what machines did, by shift. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/ctl/cli.h"
#include "agent/ctl/ctl.h"
#include "agent/json.h"
#include "agent/machine.h"
#include "agent/shift.h"
#include "storage/machines.h"

#define DAYS 101 /* what is kept */
#define ROWS (DAYS * SHIFT_MAX)

struct total {
    double wh, off_h, idle_h, run_h, peak_h;
    int64_t starts;
};

struct row { /* one shift of one day */
    int shift, date;
    struct total total;
};

struct summary {
    const struct config *config;
    struct total total, outside; /* of all shifts */
    struct row *rows;            /* ROWS */
    size_t row_count;
};

static void add(struct total *t, const struct machines_quarter *q)
{
    t->wh += q->wh;
    t->off_h += (double)q->off_ms / 3.6e6;
    t->idle_h += (double)q->idle_ms / 3.6e6;
    t->run_h += (double)q->run_ms / 3.6e6;
    t->peak_h += (double)q->peak_ms / 3.6e6;
    t->starts += q->starts;
}

static double per_hour(const struct total *t)
{
    const double seen = t->off_h + t->idle_h + t->run_h + t->peak_h;
    return seen > 0 ? (double)t->starts / seen : 0;
}

static int visit(void *context, const char *meter, const struct machines_quarter *q)
{
    struct summary *s = context;
    int date = 0;
    (void)meter;
    add(&s->total, q);
    const int shift = shift_at(s->config->shifts, s->config->shift_count, q->start_ms, &date);
    if (shift < 0) {
        add(&s->outside, q);
        return 0;
    }
    size_t i = s->row_count; /* those of late are last */
    while (i > 0 && (s->rows[i - 1].shift != shift || s->rows[i - 1].date != date))
        i--;
    if (i == 0 && s->row_count == ROWS)
        return 0;
    if (i == 0) {
        i = ++s->row_count;
        s->rows[i - 1] = (struct row){.shift = shift, .date = date};
    }
    add(&s->rows[i - 1].total, q);
    return 0;
}

static int add_total(cJSON *o, const struct total *t)
{
    int rc = json_number(o, "energy", t->wh, 1000);
    rc |= json_number(o, "off_hours", t->off_h, 1000);
    rc |= json_number(o, "idle_hours", t->idle_h, 1000);
    rc |= json_number(o, "run_hours", t->run_h, 1000);
    rc |= json_number(o, "peak_hours", t->peak_h, 1000);
    rc |= json_integer(o, "starts", t->starts);
    return rc | json_number(o, "starts_per_hour", per_hour(t), 1000);
}

static int add_rows(cJSON *machine, const struct summary *s)
{
    cJSON *list = machine ? cJSON_AddArrayToObject(machine, "shifts") : NULL;
    for (size_t i = 0; list && i < s->row_count; i++) {
        const struct row *r = &s->rows[i];
        char date[16];
        snprintf(date, sizeof date, "%04d-%02d-%02d", r->date / 10000, r->date / 100 % 100,
                 r->date % 100);
        cJSON *o = cJSON_CreateObject();
        int rc = json_text(o, "shift", s->config->shifts[r->shift].name);
        rc |= json_text(o, "date", date);
        rc |= add_total(o, &r->total);
        if (rc < 0 || !cJSON_AddItemToArray(list, o)) {
            cJSON_Delete(o);
            return -ENOMEM;
        }
    }
    return list ? 0 : -ENOMEM;
}

static int add_json(cJSON *list, const char *meter, const struct machine *m,
                    const struct summary *s)
{
    struct machine_limits l;
    int64_t since;
    cJSON *o = cJSON_CreateObject();
    int rc = json_text(o, "meter", meter);
    rc |= json_text(o, "state", machine_text(machine_now(m, &since)));
    rc |= json_integer(o, "since", since);
    rc |= json_number(o, "learned", machine_limits(m, &l), 100);
    rc |= json_number(o, "run_w", l.run_w, 10);
    rc |= json_number(o, "peak_w", l.peak_w, 10);
    rc |= add_total(o, &s->total);
    rc |= add_rows(o, s);
    if (rc < 0 || !cJSON_AddItemToArray(list, o)) {
        cJSON_Delete(o);
        return -ENOMEM;
    }
    return 0;
}

static void print_total(const struct total *t)
{
    printf("%8.1f %8.1f %8.1f %8.1f %7lld %8.2f %12.1f\n", t->off_h, t->idle_h, t->run_h, t->peak_h,
           (long long)t->starts, per_hour(t), t->wh);
}

static void print_machine(const char *meter, const struct machine *m, const struct summary *s)
{
    struct machine_limits l;
    char stamp[CLI_STAMP];
    int64_t since;
    const char *state = machine_text(machine_now(m, &since));
    const double learned = machine_limits(m, &l);
    printf("%s: %s since %s; ", meter, state, cli_stamp(since, stamp));
    if (learned < 1)
        printf("limits are being learned (%.0f %%)\n", 100 * learned);
    else if (l.run_w <= 0 && l.peak_w <= 0)
        printf("it runs whenever it is on: one level of power\n");
    else if (l.peak_w <= 0)
        printf("runs from %.0f W, no peak is told apart\n", l.run_w);
    else if (l.run_w <= 0)
        printf("peak from %.0f W, idle is not told apart\n", l.peak_w);
    else
        printf("runs from %.0f W, peak from %.0f W\n", l.run_w, l.peak_w);
    printf("%-26s %8s %8s %8s %8s %7s %8s %12s\n", "", "OFF H", "IDLE H", "RUN H", "PEAK H",
           "STARTS", "PER H", "WH");
    for (size_t i = 0; i < s->row_count; i++) {
        const struct row *r = &s->rows[i];
        printf("%04d-%02d-%02d %-15.15s ", r->date / 10000, r->date / 100 % 100, r->date % 100,
               s->config->shifts[r->shift].name);
        print_total(&r->total);
    }
    if (s->row_count && s->outside.wh > 0) {
        printf("%-26s ", "(in no shift)");
        print_total(&s->outside);
    }
    printf("%-26s ", "all");
    print_total(&s->total);
}

/* One machine: its state and what it did. 0 or -errno. */
static int show(struct store *store, const struct config_meter *c, int64_t from_ms, int64_t to_ms,
                struct summary *s, cJSON *json)
{
    unsigned char saved[MACHINES_STATE_BYTES];
    struct machine *m = NULL;
    const int bytes = machines_get_state(store, c->meter.name, saved, sizeof saved);
    if (bytes < 0 && bytes != -ENOENT)
        return bytes;
    int rc = machine_create(&c->machine, saved, bytes < 0 ? 0 : bytes, &m);
    s->total = s->outside = (struct total){0};
    s->row_count = 0;
    if (rc == 0)
        rc = machines_list(store, c->meter.name, from_ms, to_ms, visit, s);
    if (rc >= 0 && json)
        rc = add_json(json, c->meter.name, m, s);
    else if (rc >= 0)
        print_machine(c->meter.name, m, s);
    machine_destroy(m);
    return rc;
}

static int show_all(const struct cli_command *command, const struct config *c, struct store *store,
                    const char *meter, int64_t from_ms, int64_t to_ms, int json)
{
    struct summary s = {.config = c, .rows = calloc(ROWS, sizeof *s.rows)};
    cJSON *out = json ? cJSON_CreateObject() : NULL;
    cJSON *list = json ? cJSON_AddArrayToObject(out, "machines") : NULL;
    int rc = s.rows && (!json || list) ? 0 : -ENOMEM, shown = 0, code = CLI_DONE;
    for (size_t i = 0; i < c->meter_count && rc >= 0; i++) {
        const struct config_meter *m = &c->meters[i];
        if (m->machine.mode == MACHINE_NONE || (meter && strcmp(meter, m->meter.name) != 0))
            continue;
        rc = show(store, m, from_ms, to_ms, &s, list);
        shown++;
    }
    free(s.rows);
    if (rc < 0) {
        code = cli_fail(rc == -EBUSY || rc == -ENOMEM ? CLI_RETRY : CLI_FAILED, command->name, "%s",
                        rc == -ENOMEM ? "out of memory" : store_error(store));
    } else if (json) {
        code = cli_print_json(out);
        out = NULL;
    } else if (shown == 0) {
        printf("%s%s has states; set states = auto in its section\n",
               meter ? "no meter " : "no meter", meter ? meter : "");
    }
    cJSON_Delete(out);
    return code;
}

int ctl_machines(int argc, char **argv)
{
    const char *path = CLI_CONFIG, *meter = NULL;
    int64_t from_ms = cli_now_ms() - 86400000, to_ms = INT64_MAX;
    int json = 0;
    const struct cli_option options[] = {
        {"config", CLI_TEXT, &path, "FILE", "configuration of the agent (" CLI_CONFIG ")", 0, 0},
        {"since", CLI_TIME, &from_ms, "TIME",
         "from then on: 2h (ago), 2024-05-01, 2024-05-01T12:00, @SECONDS (1d)", 0, 0},
        {"until", CLI_TIME, &to_ms, "TIME", "up to then", 0, 0},
        {"meter", CLI_TEXT, &meter, "NAME", "this meter only", 0, 0},
        {"json", CLI_FLAG, &json, NULL, "one JSON object on standard output", 0, 0},
        {0}};
    const struct cli_command command = {
        "machines", "", 0,
        "Shows states, hours, starts and energy of machines (meters with states), by shift.",
        options};
    struct config *c = NULL;
    struct store *store = NULL;
    int code = cli_parse(&command, argc, argv, NULL);
    if (code != CLI_GO)
        return code;
    if (from_ms >= to_ms)
        return cli_fail(CLI_USAGE, command.name, "--since is not before --until");
    if ((code = cli_config(command.name, path, &c)) == CLI_DONE &&
        (code = cli_store(command.name, c, 0, &store)) == CLI_DONE)
        code = show_all(&command, c, store, meter, from_ms, to_ms, json);
    store_close(store);
    config_free(c);
    return code;
}
