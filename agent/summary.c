#include "agent/summary.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/calendar.h"
#include "agent/journal.h"
#include "agent/json.h"
#include "agent/payload.h"
#include "agent/report.h"
#include "storage/energy.h"
#include "storage/machines.h"
#include "storage/outbox.h"
#include "storage/summaries.h"

#define WH 1000.0
#define SECONDS 1000.0
#define MONEY 10000.0

/* ---- payload ---- */

static int add_load(cJSON *list, const struct report_load *l, int costs)
{
    cJSON *o = cJSON_CreateObject();
    int rc = json_text(o, "appliance", l->name);
    rc |= json_unsigned(o, "runs", l->runs);
    rc |= json_number(o, "energy", l->wh, WH);
    rc |= json_number(o, "run_time", l->seconds, SECONDS);
    rc |= json_number(o, "mean_run", l->seconds / (double)l->runs, SECONDS);
    rc |= json_number(o, "peak", l->peak_w, 10);
    if (costs)
        rc |= json_number(o, "cost", l->cost, MONEY);
    if (rc == 0 && list && cJSON_AddItemToArray(list, o))
        return 0;
    cJSON_Delete(o);
    return -ENOMEM;
}

static int add_quarter(void *context, const char *meter, const struct machines_quarter *q)
{
    struct machines_quarter *sum = context;
    (void)meter;
    sum->off_ms += q->off_ms;
    sum->idle_ms += q->idle_ms;
    sum->run_ms += q->run_ms;
    sum->peak_ms += q->peak_ms;
    sum->starts += q->starts;
    return 0;
}

static int add_machine(cJSON *root, const struct machines_quarter *m)
{
    cJSON *o = cJSON_CreateObject();
    int rc = json_number(o, "off", (double)m->off_ms / 1e3, SECONDS);
    rc |= json_number(o, "idle", (double)m->idle_ms / 1e3, SECONDS);
    rc |= json_number(o, "run", (double)m->run_ms / 1e3, SECONDS);
    rc |= json_number(o, "peak", (double)m->peak_ms / 1e3, SECONDS);
    rc |= json_integer(o, "starts", m->starts);
    return json_child(root, "machine", o) | rc;
}

/* listed: of the loads. New, to be released with free(); NULL: out of memory. */
static char *make_body(const struct report *r, int32_t day, const struct machines_quarter *machine,
                       enum event_quality quality, size_t listed)
{
    char text[16];
    const int costs = r->price > 0 || r->tariff.count > 0;
    cJSON *o = cJSON_CreateObject();
    int rc = json_text(o, "meter", r->meter);
    rc |= json_text(o, "day", calendar_text(day, text));
    rc |= json_integer(o, "from", r->from_ms);
    rc |= json_integer(o, "to", r->to_ms);
    rc |= json_text(o, "time_quality", payload_quality(quality));
    rc |= json_number(o, "energy", r->wh, WH);
    rc |= json_number(o, "base_energy", r->base_wh, WH);
    rc |= json_number(o, "named_energy", r->named_wh, WH);
    rc |= json_number(o, "unknown_energy", r->unknown_wh, WH);
    rc |= json_number(o, "unknown_share", r->wh > 0 ? r->unknown_wh / r->wh : 0, 10000);
    rc |= json_number(o, "seen", r->meter_count ? r->meters[0].seen_s : 0, SECONDS);
    rc |= json_unsigned(o, "alerts", r->alert_count);
    if (costs) {
        rc |= json_number(o, "cost", r->cost, MONEY);
        rc |= json_text(o, "currency", r->config->currency);
    }
    if (machine)
        rc |= add_machine(o, machine);
    cJSON *list = cJSON_CreateArray();
    for (size_t i = 0; i < r->load_count && i < listed; i++)
        rc |= add_load(list, &r->loads[i], costs);
    rc |= json_child(o, "appliances", list);
    rc |= json_unsigned(o, "not_listed", r->load_count > listed ? r->load_count - listed : 0);
    return json_finish(o, rc);
}

/* As many loads as fit into an item. */
static char *fit_body(const struct report *r, int32_t day, const struct machines_quarter *machine,
                      enum event_quality quality)
{
    for (size_t listed = SUMMARY_LOADS;; listed /= 2) {
        char *body = make_body(r, day, machine, quality, listed);
        if (!body || listed == 0 || strlen(body) <= OUTBOX_BODY_BYTES)
            return body;
        free(body);
    }
}

/* ---- one day ---- */

static const struct config_meter *find_meter(const struct config *c, const char *meter)
{
    for (size_t i = 0; i < c->meter_count; i++)
        if (strcmp(c->meters[i].meter.name, meter) == 0)
            return &c->meters[i];
    return NULL;
}

/* The body of a day's item, or NULL and -errno in *rc. */
static char *describe_day(struct store *s, const struct config *c, const char *meter, int32_t day,
                          enum event_quality quality, int *rc)
{
    struct report r = {.config = c,
                       .price = c->price,
                       .from_ms = calendar_start(day),
                       .to_ms = calendar_start(day + 1),
                       .meter = meter,
                       .ended = 1};
    struct machines_quarter machine = {.starts = 0};
    const struct config_meter *m = find_meter(c, meter);
    const int states = m && m->machine.mode != MACHINE_NONE;
    char why[256], *body = NULL;
    periods_parse(c->tariff, &r.tariff, why, sizeof why); /* checked when it was loaded */
    *rc = report_read(&r, s);
    if (*rc == 0 && states)
        *rc = machines_list(s, meter, r.from_ms, r.to_ms, add_quarter, &machine);
    if (*rc >= 0) {
        body = fit_body(&r, day, states ? &machine : NULL, quality);
        *rc = body ? 0 : -ENOMEM;
    }
    report_free(&r);
    return body;
}

/* A report on a meter is the item's kind; its channel tells a summary from a report of the agent.
 */
static int append(struct store *s, const char *meter, const char *body)
{
    struct outbox_item item = {.kind = OUTBOX_REPORT, .created_ms = journal_now_ms(), .body = body};
    uint64_t seq;
    snprintf(item.channel, sizeof item.channel, "%s", meter);
    item.body_bytes = strlen(body);
    return outbox_append(s, &item, &seq);
}

/* body NULL: only noted. */
static int tell_day(struct store *s, const char *meter, int32_t day, const char *body)
{
    int rc = store_begin(s);
    if (rc < 0)
        return rc;
    if (body)
        rc = append(s, meter, body);
    if (rc == 0)
        rc = summaries_put(s, meter, day);
    if (rc == 0)
        rc = store_commit(s);
    if (rc < 0)
        store_rollback(s);
    return rc;
}

static int stop_there(void *context, const char *meter, const struct energy_hour *hour)
{
    (void)meter;
    *(int64_t *)context = hour->start_ms;
    return 1;
}

/* The first day after `day` and up to `last` with a reading. 1, 0 (none) or -errno. */
static int next_seen(struct store *s, const char *meter, int32_t day, int32_t last, int32_t *next)
{
    int64_t t_ms = 0;
    const int rc =
        energy_list(s, meter, calendar_start(day + 1), calendar_start(last + 1), stop_there, &t_ms);
    *next = calendar_day(t_ms);
    return rc;
}

/* ---- all ---- */

int summary_begin(struct store *s, const char *meter, int64_t t_ms)
{
    int32_t day;
    const int rc = summaries_get(s, meter, &day);
    return rc == -ENOENT ? summaries_put(s, meter, calendar_day(t_ms) - 1) : rc;
}

int summary_run(struct store *s, const struct config *c, const char *meter, int64_t now_ms,
                int64_t settle_ms, enum event_quality quality, int64_t *next_ms)
{
    const int32_t last = calendar_day(now_ms - settle_ms) - 1;
    int32_t day = 0, next = 0;
    int told = 0, found = 0;
    int rc = summary_begin(s, meter, now_ms);
    if (rc == 0)
        rc = summaries_get(s, meter, &day);
    if (rc < 0)
        return rc;
    if (day < last - SUMMARY_DAYS)
        day = last - SUMMARY_DAYS;
    /* A clock that was years ahead, and is not any more. */
    if (day > last + 1 + SUMMARY_DAYS && (rc = tell_day(s, meter, day = last, NULL)) < 0)
        return rc;
    while (day < last && (found = next_seen(s, meter, day, last, &next)) > 0) {
        char *body = describe_day(s, c, meter, next, quality, &rc);
        if (body)
            rc = tell_day(s, meter, next, body);
        free(body);
        if (rc < 0)
            return rc;
        day = next;
        told++;
    }
    if (found < 0)
        return found;
    *next_ms = calendar_start(last + 2) + settle_ms;
    return told;
}
