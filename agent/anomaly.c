/* anomaly.c - the alerts of a meter: raised once, updated, cleared; and what ends silences. */
#include "agent/anomaly.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "agent/calendar.h"

#define UPDATE_MS (24 * 3600000LL)

static const char *const names[ANOMALY_KINDS] = {
    [ANOMALY_NONE] = "",
    [ANOMALY_LEFT_ON] = "left_on",
    [ANOMALY_POWER] = "power_unusual",
    [ANOMALY_DURATION] = "duration_unusual",
    [ANOMALY_CYCLING] = "cycling_often",
    [ANOMALY_MISSING] = "cycle_missing",
    [ANOMALY_DRIFT] = "drift",
    [ANOMALY_TIME] = "time_unusual",
    [ANOMALY_SILENT] = "meter_silent",
    [ANOMALY_FROZEN] = "meter_frozen",
    [ANOMALY_IMPOSSIBLE] = "reading_impossible",
    [ANOMALY_TOTAL] = "total_over",
    [ANOMALY_ENERGY] = "energy_over",
};

const char *anomaly_name(enum anomaly_kind kind)
{
    return names[kind];
}

static uint32_t hash(uint32_t h, const char *text)
{
    for (; *text; text++) /* FNV-1a */
        h = (h ^ (uint32_t)(unsigned char)*text) * 16777619u;
    return h;
}

void anomaly_init(struct anomaly *a, const char *meter)
{
    memset(a, 0, sizeof(*a));
    a->meter = hash(2166136261u, meter);
    int hour, weekend;
    calendar_hour(0, &hour, &weekend); /* reads the time zone now, not with a reading */
}

const char *anomaly_duration(double seconds, char *out, size_t size)
{
    if (seconds < 300)
        snprintf(out, size, "%.0f s", seconds);
    else if (seconds < 7200)
        snprintf(out, size, "%.0f min", seconds / 60);
    else
        snprintf(out, size, "%.1f h", seconds / 3600);
    return out;
}

struct anomaly_open *anomaly_find(struct anomaly *a, enum anomaly_kind kind, const char *appliance)
{
    for (int i = 0; i < ANOMALY_OPEN; i++)
        if (a->open[i].kind == (int32_t)kind &&
            (!appliance || !strcmp(a->open[i].appliance, appliance)))
            return &a->open[i];
    return NULL;
}

/* Fills what raised, updated and cleared have in common. */
static void describe(const struct anomaly_open *o, int64_t t_ms, const char *expected,
                     const char *seen, struct alert *out)
{
    memset(out, 0, sizeof(*out));
    snprintf(out->alert, sizeof(out->alert), "%s", names[o->kind]);
    snprintf(out->alert_id, sizeof(out->alert_id), "%08" PRIx32 "-%.15s-%" PRId64, o->id_hash,
             names[o->kind], o->id_ms);
    snprintf(out->appliance, sizeof(out->appliance), "%s", o->appliance);
    snprintf(out->expected, sizeof(out->expected), "%s", expected);
    snprintf(out->seen, sizeof(out->seen), "%s", seen);
    out->severity = (enum alert_severity)o->severity;
    out->time_ms = t_ms;
    out->since_ms = o->since_ms;
    out->value = o->value;
    out->limit = o->limit;
}

int anomaly_raise(struct anomaly *a, const struct anomaly_told *told, struct alert *out)
{
    struct anomaly_open *o = anomaly_find(a, told->kind, told->appliance);
    const int known = o != NULL;
    if (known && told->severity <= (enum alert_severity)o->severity &&
        told->t_ms - o->told_ms < UPDATE_MS)
        return 0;
    if (!known)
        o = anomaly_find(a, ANOMALY_NONE, NULL);
    if (!o)
        return 0; /* so much is wrong already that one more says nothing */
    if (!known) {
        memset(o, 0, sizeof(*o));
        o->kind = (int32_t)told->kind;
        snprintf(o->appliance, sizeof(o->appliance), "%s", told->appliance);
        o->since_ms = o->id_ms = told->since_ms;
        o->id_hash = hash(a->meter, o->appliance);
    }
    if (told->severity > (enum alert_severity)o->severity)
        o->severity = (int32_t)told->severity;
    o->told_ms = told->t_ms;
    o->value = told->value;
    o->limit = told->limit;
    describe(o, told->t_ms, told->expected, told->seen, out);
    out->updated = known;
    return 1;
}

int anomaly_clear(struct anomaly *a, enum anomaly_kind kind, const char *appliance, int64_t t_ms,
                  const char *seen, struct alert *out)
{
    struct anomaly_open *o = anomaly_find(a, kind, appliance);
    if (!o)
        return 0;
    describe(o, t_ms, "", seen, out);
    out->cleared = 1;
    memset(o, 0, sizeof(*o));
    return 1;
}

void anomaly_blind(struct anomaly *a, int64_t t_ms)
{
    a->blind_ms = t_ms;
    a->next_due_ms = 0;
    for (int i = 0; i < ANOMALY_DUE; i++) {
        struct anomaly_due *d = &a->due[i];
        if (!d->at_ms)
            continue;
        d->at_ms = t_ms + d->wait_ms;
        if (!a->next_due_ms || d->at_ms < a->next_due_ms)
            a->next_due_ms = d->at_ms;
    }
}

void anomaly_shift(struct anomaly *a, int64_t by_ms)
{
    struct anomaly_readings *r = &a->readings;
    int64_t *times[] = {&a->blind_ms,       &a->next_due_ms, &r->first_ms, &r->last_ms, &r->bad_ms,
                        &r->still_since_ms, &r->negative_ms, &r->over_ms,  &r->under_ms};
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
        *times[i] += *times[i] ? by_ms : 0;
    for (int i = 0; i < ANOMALY_DUE; i++)
        a->due[i].at_ms += a->due[i].at_ms ? by_ms : 0;
    for (int i = 0; i < ANOMALY_OPEN; i++) {
        a->open[i].since_ms += by_ms;
        a->open[i].told_ms += by_ms;
    }
    if (by_ms)
        r->day_end_ms = 0;
}

int anomaly_silent(struct anomaly *a, int64_t last_ms, int64_t silence_ms, struct alert *alerts)
{
    char expected[64], seen[64], text[32];
    const double seconds = (double)silence_ms / 1000;
    if (anomaly_find(a, ANOMALY_SILENT, ""))
        return 0;
    anomaly_duration(seconds, text, sizeof(text));
    snprintf(expected, sizeof(expected), "a reading at least every %s", text);
    snprintf(seen, sizeof(seen), "none for %s", text);
    const struct anomaly_told told = {
        ANOMALY_SILENT, "",      ALERT_WARNING, last_ms, last_ms + silence_ms,
        seconds,        seconds, expected,      seen};
    return anomaly_raise(a, &told, alerts);
}

int anomaly_heard(struct anomaly *a, int64_t t_ms, struct alert *alerts)
{
    char seen[64], text[32];
    const struct anomaly_open *o = anomaly_find(a, ANOMALY_SILENT, "");
    if (!o)
        return 0;
    anomaly_blind(a, t_ms);
    snprintf(seen, sizeof(seen), "a reading after %s",
             anomaly_duration((double)(t_ms - o->since_ms) / 1000, text, sizeof(text)));
    return anomaly_clear(a, ANOMALY_SILENT, "", t_ms, seen, alerts);
}

int anomaly_forget(struct anomaly *a, const char *appliance, int64_t t_ms, struct alert *alerts)
{
    int n = 0;
    for (int i = 0; i < ANOMALY_OPEN && n < ANOMALY_ALERTS; i++) {
        struct anomaly_open *o = &a->open[i];
        if (o->kind == ANOMALY_NONE || o->kind >= ANOMALY_SILENT ||
            (appliance && strcmp(o->appliance, appliance)))
            continue;
        n += anomaly_clear(a, (enum anomaly_kind)o->kind, o->appliance, t_ms,
                           "what was learned is forgotten", alerts + n);
    }
    for (int i = 0; i < ANOMALY_DUE; i++)
        if (!appliance || !strcmp(a->due[i].appliance, appliance))
            memset(&a->due[i], 0, sizeof(a->due[i]));
    return n;
}

void anomaly_rename(struct anomaly *a, const char *from, const char *to)
{
    for (int i = 0; i < ANOMALY_OPEN; i++)
        if (a->open[i].kind != ANOMALY_NONE && !strcmp(a->open[i].appliance, from))
            snprintf(a->open[i].appliance, sizeof(a->open[i].appliance), "%s", to);
    for (int i = 0; i < ANOMALY_DUE; i++)
        if (a->due[i].at_ms && !strcmp(a->due[i].appliance, from))
            snprintf(a->due[i].appliance, sizeof(a->due[i].appliance), "%s", to);
}

int anomaly_open_count(const struct anomaly *a)
{
    int n = 0;
    for (int i = 0; i < ANOMALY_OPEN; i++)
        n += a->open[i].kind != ANOMALY_NONE;
    return n;
}

int anomaly_check(const struct anomaly *a)
{
    int good = event_is_time(a->next_due_ms) && event_is_time(a->blind_ms);
    for (int i = 0; i < ANOMALY_OPEN; i++) {
        const struct anomaly_open *o = &a->open[i];
        good &= event_is_time(o->since_ms) && event_is_time(o->told_ms) && event_is_time(o->id_ms);
        good &= o->kind >= 0 && o->kind < ANOMALY_KINDS && isfinite(o->value) &&
                isfinite(o->limit) && memchr(o->appliance, 0, sizeof(o->appliance)) != NULL &&
                (o->kind == ANOMALY_NONE ||
                 (o->severity >= ALERT_INFO && o->severity <= ALERT_CRITICAL));
    }
    for (int i = 0; i < ANOMALY_DUE; i++)
        good &= memchr(a->due[i].appliance, 0, sizeof(a->due[i].appliance)) != NULL &&
                a->due[i].wait_ms >= 0 && a->due[i].wait_ms < (int64_t)1 << 50 &&
                event_is_time(a->due[i].at_ms);
    const struct anomaly_readings *r = &a->readings;
    good &= event_is_time(r->first_ms) && event_is_time(r->still_since_ms) &&
            event_is_time(r->bad_ms) && event_is_time(r->negative_ms) &&
            event_is_time(r->over_ms) && event_is_time(r->under_ms) &&
            event_is_time(r->day_end_ms) && event_is_time(r->last_ms);
    good &= isfinite(r->day_wh) && isfinite(r->still_w) && isfinite(r->longest_on_s) &&
            isfinite(r->longest_off_s) && isfinite(r->high_w) && isfinite(r->suspect_w) &&
            isfinite(r->last_w);
    return good ? 0 : -EBADMSG;
}
