#include "agent/upkeep.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "agent/agent.h"
#include "agent/log.h"

#define DAY_S 86400
#define BROKER_SHARE 3 /* others renew theirs later: warned of at a third of the time */

static const struct {
    const char *alert, *value, *what;
} kinds[UPKEEP_KINDS] = {
    {"certificate_expiring", "alert.certificate", "this device's certificate"},
    {"certificate_expiring", "alert.broker_certificate", "a certificate of the broker or its CA"},
    {"credentials_refused", "alert.credentials",
     "new certificate, key, password or [broker] settings"},
};

void upkeep_start(struct upkeep *u, struct store *store)
{
    memset(u, 0, sizeof *u);
    for (int i = 0; i < UPKEEP_KINDS; i++)
        if (store_get(store, kinds[i].value, &u->raised[i]) < 0)
            u->raised[i] = 0;
}

static void fill(struct alert *alert, const struct agent *a, enum upkeep_kind kind, int64_t id)
{
    memset(alert, 0, sizeof *alert);
    snprintf(alert->alert, sizeof alert->alert, "%s", kinds[kind].alert);
    alert->severity = ALERT_WARNING;
    alert->quality = wall_quality(&a->wall);
    alert->time_ms = alert->since_ms = wall_now_ms(&a->wall);
    snprintf(alert->alert_id, sizeof alert->alert_id, "%s-%d-%" PRId64,
             kind == UPKEEP_REFUSED ? "credentials" : "certificate", (int)kind, id);
}

static void note(struct upkeep *u, struct agent *a, enum upkeep_kind kind, int64_t raised)
{
    u->raised[kind] = raised;
    if (store_set(a->store, kinds[kind].value, raised) < 0)
        log_warning("store: %s", store_error(a->store)); /* at worst it is raised again */
}

static void clear(struct upkeep *u, struct agent *a, enum upkeep_kind kind)
{
    struct alert alert;
    fill(&alert, a, kind, u->raised[kind]);
    alert.cleared = 1;
    alert.since_ms = kind == UPKEEP_REFUSED ? u->raised[kind] * 1000 : alert.since_ms;
    journal_alert(a->journal, &alert);
    note(u, a, kind, 0);
}

static void print_day(int64_t unix_s, char *text, size_t size)
{
    struct tm tm;
    time_t t = (time_t)unix_s;
    if (!gmtime_r(&t, &tm) || strftime(text, size, "%Y-%m-%d %H:%M UTC", &tm) == 0)
        snprintf(text, size, "%" PRId64, unix_s);
}

/* end_s 0, or no clock: not known now, so nothing changes. */
static void check_expiry(struct upkeep *u, struct agent *a, enum upkeep_kind kind, int64_t end_s,
                         int64_t warning_s)
{
    struct alert alert;
    char day[40];
    if (end_s <= 0 || !a->wall.known)
        return;
    const int64_t left = end_s - wall_now_ms(&a->wall) / 1000;
    if (u->raised[kind] && (u->raised[kind] != end_s || left >= warning_s))
        clear(u, a, kind);
    if (left >= warning_s || u->raised[kind])
        return;
    print_day(end_s, day, sizeof day);
    fill(&alert, a, kind, end_s);
    alert.value = (double)left / DAY_S;
    alert.limit = (double)warning_s / DAY_S;
    snprintf(alert.expected, sizeof alert.expected, "valid for more than %.3g days",
             (double)warning_s / DAY_S);
    snprintf(alert.seen, sizeof alert.seen, "%s ends on %s", kinds[kind].what, day);
    log_warning("certificate: %s", alert.seen);
    journal_alert(a->journal, &alert);
    note(u, a, kind, end_s);
}

static void check_refused(struct upkeep *u, struct agent *a, const char *reason)
{
    struct alert alert;
    if (u->raised[UPKEEP_REFUSED] && !reason[0])
        clear(u, a, UPKEEP_REFUSED);
    if (u->raised[UPKEEP_REFUSED] || !reason[0])
        return;
    const int64_t now_s = wall_now_ms(&a->wall) / 1000;
    fill(&alert, a, UPKEEP_REFUSED, now_s);
    snprintf(alert.expected, sizeof alert.expected, "%.100s that the broker accepts",
             kinds[UPKEEP_REFUSED].what);
    snprintf(alert.seen, sizeof alert.seen, "%.120s", reason);
    journal_alert(a->journal, &alert);
    note(u, a, UPKEEP_REFUSED, now_s);
}

void upkeep_tick(struct upkeep *u, struct agent *a)
{
    struct publisher_stats s;
    const struct config *c = a->reloaded ? a->reloaded : a->config;
    if (!a->publisher)
        return;
    publisher_get_stats(a->publisher, &s);
    check_expiry(u, a, UPKEEP_OWN, s.expiry_s, c->expiry_warning_ms / 1000);
    check_expiry(u, a, UPKEEP_BROKER, s.chain_to_s, c->expiry_warning_ms / 1000 / BROKER_SHARE);
    check_refused(u, a, s.refused);
}
