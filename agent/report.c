#include "agent/report.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/calendar.h"
#include "agent/event.h"
#include "storage/energy.h"
#include "storage/history.h"
#include "storage/machines.h"

#define DAY_MS 86400000LL

static int is_mains(const struct config *c, const char *meter)
{
    for (size_t i = 0; i < c->meter_count; i++)
        if (strcmp(c->meters[i].meter.name, meter) == 0)
            return c->meters[i].meter.mains;
    return 0;
}

static int has_mains(const struct config *c)
{
    for (size_t i = 0; i < c->meter_count; i++)
        if (c->meters[i].meter.mains)
            return 1;
    return 0;
}

static int counts(const struct report *r, const char *meter)
{
    return r->meter || !has_mains(r->config) || is_mains(r->config, meter);
}

static struct report_load *find_load(struct report *r, const char *meter, const char *name)
{
    for (size_t i = 0; i < r->load_count; i++)
        if (!strcmp(r->loads[i].meter, meter) && !strcmp(r->loads[i].name, name))
            return &r->loads[i];
    if (r->load_count == REPORT_LOADS) {
        r->overflow = 1;
        return NULL;
    }
    struct report_load *l = &r->loads[r->load_count++];
    snprintf(l->meter, sizeof l->meter, "%s", meter);
    snprintf(l->name, sizeof l->name, "%s", name);
    l->counted = counts(r, meter);
    return l;
}

static struct report_day *find_day(struct report *r, int64_t t_ms)
{
    const int32_t day = calendar_day(t_ms);
    size_t i = r->day_count;
    while (i > 0 && r->days[i - 1].day > day)
        i--;
    if (i > 0 && r->days[i - 1].day == day)
        return &r->days[i - 1];
    if (r->day_count == r->day_room) {
        r->overflow = 1;
        return NULL;
    }
    memmove(r->days + i + 1, r->days + i, (r->day_count - i) * sizeof *r->days);
    r->day_count++;
    memset(&r->days[i], 0, sizeof *r->days);
    r->days[i].day = day;
    return &r->days[i];
}

static int add_run(void *context, const struct history_run *run)
{
    struct report *r = context;
    if (r->ended && (run->end_ms < r->from_ms || run->end_ms >= r->to_ms))
        return 0;
    struct report_load *l = find_load(r, run->meter, run->appliance);
    if (!l)
        return 0;
    const int64_t end = run->end_ms ? run->end_ms : run->start_ms;
    l->runs++;
    l->wh += run->energy_wh;
    l->seconds += (double)(end - run->start_ms) / 1000;
    l->cost += periods_cost(&r->tariff, r->price, run->start_ms, end, run->energy_wh);
    l->peak_w = fmax(l->peak_w, run->peak_w);
    if (run->start_ms > l->last_ms)
        l->last_ms = run->start_ms;
    struct report_day *d = find_day(r, run->start_ms);
    if (d)
        d->load_wh[l - r->loads] += (float)run->energy_wh;
    return 0;
}

static struct report_meter *find_meter(struct report *r, const char *name)
{
    for (size_t i = 0; i < r->meter_count; i++)
        if (!strcmp(r->meters[i].name, name))
            return &r->meters[i];
    if (r->meter_count == CONFIG_METERS) {
        r->overflow = 1;
        return NULL;
    }
    struct report_meter *m = &r->meters[r->meter_count++];
    snprintf(m->name, sizeof m->name, "%s", name);
    m->counted = counts(r, name);
    m->low_w = m->day_low_w = -1;
    m->day = INT32_MIN;
    return m;
}

/* The day's lowest power, all day long. */
static void end_day(struct report *r, struct report_meter *m)
{
    const double base = m->day_low_w > 0 ? fmin(m->day_wh, m->day_low_w * m->day_seen_s / 3600) : 0;
    m->base_wh += base;
    for (size_t i = 0; i < r->day_count && m->counted; i++)
        if (r->days[i].day == m->day)
            r->days[i].base_wh += base;
    m->day_low_w = -1;
    m->day_wh = m->day_seen_s = 0;
}

static int add_hour(void *context, const char *meter, const struct energy_hour *h)
{
    struct report *r = context;
    struct report_meter *m = find_meter(r, meter);
    int hour, weekend;
    if (!m)
        return 0;
    const int32_t day = calendar_hour(h->start_ms, &hour, &weekend);
    const double cost =
        periods_cost(&r->tariff, r->price, h->start_ms, h->start_ms + 3600000, h->wh);
    if (day != m->day)
        end_day(r, m);
    m->day = day;
    struct report_day *d = find_day(r, h->start_ms);
    m->day_wh += h->wh;
    m->day_seen_s += h->seen_s;
    if (h->low_w >= 0 && (m->day_low_w < 0 || h->low_w < m->day_low_w))
        m->day_low_w = h->low_w;
    if (h->low_w >= 0 && (m->low_w < 0 || h->low_w < m->low_w))
        m->low_w = h->low_w;
    m->high_w = fmax(m->high_w, h->high_w);
    m->wh += h->wh;
    m->cost += cost;
    m->seen_s += h->seen_s;
    m->run_s += h->run_s;
    m->peak_s += h->peak_s;
    m->starts += (uint64_t)(h->starts > 0 ? h->starts : 0);
    int date; /* an hour belongs to its middle */
    const int at =
        shift_at(r->config->shifts, r->config->shift_count, h->start_ms + 1800000, &date);
    struct report_shift *s = &m->shifts[at < 0 ? SHIFT_MAX : at];
    s->wh += h->wh;
    s->run_s += h->run_s;
    s->starts += (uint64_t)(h->starts > 0 ? h->starts : 0);
    if (m->counted && d) {
        d->wh += h->wh;
        d->cost += cost;
        r->hour_wh[hour] += h->wh;
        r->hour_s[hour] += h->seen_s;
    }
    return 0;
}

static int add_quarter(void *context, const char *meter, const struct machines_quarter *q)
{
    struct report *r = context;
    struct report_meter *m = find_meter(r, meter);
    int date;
    if (!m)
        return 0;
    const int at = shift_at(r->config->shifts, r->config->shift_count, q->start_ms, &date);
    struct report_shift *s = &m->states.shifts[at < 0 ? SHIFT_MAX : at];
    const uint64_t starts = (uint64_t)(q->starts > 0 ? q->starts : 0);
    const double run_s = (double)(q->run_ms + q->peak_ms) / 1000;
    m->states.off_s += (double)q->off_ms / 1000;
    m->states.idle_s += (double)q->idle_ms / 1000;
    m->states.run_s += run_s;
    m->states.peak_s += (double)q->peak_ms / 1000;
    m->states.starts += starts;
    s->wh += q->wh;
    s->run_s += run_s;
    s->starts += starts;
    return 0;
}

/* Quarters are kept for 100 days, and come some minutes late. */
static void use_states(struct report_meter *m)
{
    const struct report_states *s = &m->states;
    const double seen_s = s->off_s + s->idle_s + s->run_s;
    m->off_s = fmax(m->seen_s - m->run_s, 0);
    if (seen_s <= 0 || seen_s < 0.99 * m->seen_s - 900)
        return;
    m->seen_s = seen_s;
    m->off_s = s->off_s;
    m->idle_s = s->idle_s;
    m->run_s = s->run_s;
    m->peak_s = s->peak_s;
    m->starts = s->starts;
    memcpy(m->shifts, s->shifts, sizeof m->shifts);
}

static int add_alert(void *context, const struct alerts_row *row)
{
    struct report *r = context;
    if (r->meter && strcmp(r->meter, row->meter) != 0)
        return 0;
    r->alerts[r->alert_count++] = *row;
    return r->alert_count == REPORT_ALERTS;
}

/* Loads by energy; days hold their figures by place, so they are put in order, too. */
static void sort_loads(struct report *r)
{
    for (size_t i = 0; i < r->load_count; i++) {
        size_t most = i;
        for (size_t k = i + 1; k < r->load_count; k++)
            if (r->loads[k].wh > r->loads[most].wh)
                most = k;
        const struct report_load l = r->loads[most];
        r->loads[most] = r->loads[i];
        r->loads[i] = l;
        for (size_t d = 0; d < r->day_count; d++) {
            const float wh = r->days[d].load_wh[most];
            r->days[d].load_wh[most] = r->days[d].load_wh[i];
            r->days[d].load_wh[i] = wh;
        }
    }
}

static void add_up(struct report *r)
{
    double runs_wh = 0, runs_cost = 0;
    for (size_t i = 0; i < r->meter_count; i++) {
        end_day(r, &r->meters[i]);
        use_states(&r->meters[i]);
        if (!r->meters[i].counted)
            continue;
        r->wh += r->meters[i].wh;
        r->cost += r->meters[i].cost;
        r->base_wh += r->meters[i].base_wh;
    }
    for (size_t i = 0; i < r->load_count; i++) {
        const struct report_load *l = &r->loads[i];
        if (!l->counted)
            continue;
        runs_wh += l->wh;
        runs_cost += l->cost;
        r->named_wh += strncmp(l->name, EVENT_UNKNOWN, strlen(EVENT_UNKNOWN)) ? l->wh : 0;
    }
    if (r->wh < runs_wh && r->meter_count == 0) { /* of before hours were counted */
        r->wh = runs_wh;
        r->cost = runs_cost;
    }
    r->unknown_wh = fmax(0, r->wh - r->named_wh - r->base_wh);
}

int report_read(struct report *r, struct store *store)
{
    r->loads = calloc(REPORT_LOADS, sizeof *r->loads);
    r->meters = calloc(CONFIG_METERS, sizeof *r->meters);
    r->day_room = r->ended ? REPORT_LONGEST_MS / DAY_MS + 3 : REPORT_DAYS;
    r->days = calloc(r->day_room, sizeof *r->days);
    r->alerts = calloc(REPORT_ALERTS, sizeof *r->alerts);
    if (!r->loads || !r->meters || !r->days || !r->alerts)
        return -ENOMEM;
    const int64_t began_ms = r->ended ? r->from_ms - REPORT_LONGEST_MS : r->from_ms;
    int rc = history_list(store, began_ms, r->to_ms, r->meter, NULL, INT32_MAX, add_run, r);
    if (rc >= 0)
        rc = energy_list(store, r->meter, r->from_ms, r->to_ms, add_hour, r);
    if (rc >= 0)
        rc = machines_list(store, r->meter, r->from_ms, r->to_ms, add_quarter, r);
    if (rc >= 0)
        rc = alerts_list(store, r->from_ms, r->to_ms, 0, REPORT_ALERTS, add_alert, r);
    if (rc < 0)
        return rc;
    add_up(r);
    sort_loads(r);
    return 0;
}

void report_free(struct report *r)
{
    free(r->loads);
    free(r->meters);
    free(r->days);
    free(r->alerts);
}
