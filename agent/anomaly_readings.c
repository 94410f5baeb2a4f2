/* anomaly_readings.c - alerts from readings alone: impossible, frozen, over a limit; and the cycle
 * that did not come. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "agent/anomaly.h"
#include "agent/calendar.h"

#define DAY_MS (24 * 3600000LL)
#define POSSIBLE_W 10000.0 /* at least, when nobody said what is possible */
#define POSSIBLE_FACTOR 4.0
#define AGREE 0.3
#define NEGATIVE_W (-20.0)
#define NEGATIVE_MS 60000
#define STILL_FACTOR 3.0
#define STILL_OFF_FACTOR 10.0
#define NEVER_OFF_S 60.0
#define STILL_READINGS 10u
#define STILL_LEARN_S 21600.0 /* longer ones count as this */
#define STILL_OFF_S 1800.0    /* a load at rest that is never still for longer has a noise */
#define ODD_HOUR_OVER_MS 3600000
#define HOLD_MS 600000    /* energy is not counted over longer holes */
#define RUNNING_MS 900000 /* a cycle is not overdue while it runs */

static int tell_impossible(struct anomaly *a, int64_t t_ms, double watts, double bound,
                           const char *seen, struct alert *out)
{
    char expected[64];
    if (bound > 0)
        snprintf(expected, sizeof(expected), "at most %.0f W", bound);
    else
        snprintf(expected, sizeof(expected), "power above zero");
    a->readings.bad_ms = t_ms;
    const struct anomaly_told told = {ANOMALY_IMPOSSIBLE, "",  ALERT_INFO, t_ms, t_ms, watts, bound,
                                      expected,           seen};
    return anomaly_raise(a, &told, out);
}

/* Damaged readings are left out. Without a bound by configuration, one that is far above all before
 * is only believed when the next one agrees. */
static int judge_possible(struct anomaly *a, const struct anomaly_rules *rules, int64_t t_ms,
                          double watts, struct alert *out, int *use)
{
    struct anomaly_readings *r = &a->readings;
    char seen[64];
    const double most = rules->possible_w > 0
                            ? rules->possible_w
                            : fmax(POSSIBLE_W, POSSIBLE_FACTOR * (double)r->high_w);
    const double suspect = (double)r->suspect_w;
    if (fabs(watts) > most) {
        r->suspect_w = (float)watts;
        *use = rules->possible_w <= 0 && suspect != 0 && watts != suspect &&
               fabs(watts - suspect) < AGREE * fabs(suspect);
        if (*use) { /* a large load after all */
            r->high_w = (float)fabs(watts);
            r->suspect_w = 0;
            return 0;
        }
        if (rules->possible_w <= 0 && suspect == 0)
            return 0; /* the next one tells */
    } else if (suspect == 0) {
        r->high_w = fmaxf(r->high_w, fminf((float)fabs(watts), fabsf(r->last_w)));
        return 0;
    } else {
        r->suspect_w = 0;
        if (rules->possible_w > 0)
            return 0; /* told already */
    }
    snprintf(seen, sizeof(seen), "a reading of %.0f W; left out", *use ? suspect : watts);
    return tell_impossible(a, t_ms, *use ? suspect : watts, most, seen, out);
}

static int judge_negative(struct anomaly *a, const struct anomaly_rules *rules, int64_t t_ms,
                          double watts, struct alert *out)
{
    struct anomaly_readings *r = &a->readings;
    char seen[64];
    if (rules->negative || watts >= NEGATIVE_W) {
        r->negative_ms = 0;
        return 0;
    }
    if (!r->negative_ms)
        r->negative_ms = t_ms;
    if (t_ms - r->negative_ms < NEGATIVE_MS)
        return 0;
    snprintf(seen, sizeof(seen), "%.0f W: is the clamp reversed?", watts);
    return tell_impossible(a, t_ms, watts, 0, seen, out);
}

/* ---- the same reading again and again ---- */

/* What rests, with some power, and takes nothing at all now: a plug was pulled, or a strip is off.
 */
static int unplugged(const struct anomaly_readings *r)
{
    return r->still_w == 0 && (double)r->longest_off_s >= NEVER_OFF_S;
}

static double still_limit(const struct anomaly *a, const struct anomaly_rules *rules, int on)
{
    const struct anomaly_readings *r = &a->readings;
    const double least = (double)rules->frozen_ms / 1000;
    const double longest = (double)(on ? r->longest_on_s : r->longest_off_s);
    if (!on && longest > STILL_OFF_S)
        return HUGE_VAL; /* at rest this meter says the same for hours */
    if (!on && unplugged(r))
        return HUGE_VAL;
    if (on)
        return fmax(least, STILL_FACTOR * longest);
    /* at rest little changes; but what has never been at rest, or for seconds, is not so now */
    if (longest < NEVER_OFF_S)
        return longest > 0 ? 6 * least : least;
    return fmax(18 * least, STILL_OFF_FACTOR * longest);
}

/* What the stretch that is over says about this meter. */
static void learn_still(struct anomaly_readings *r, double seconds, int on)
{
    float *longest = on ? &r->longest_on_s : &r->longest_off_s;
    if (r->still_count > 2)
        *longest = fmaxf(*longest, (float)fmin(seconds, STILL_LEARN_S));
}

/* Another reading than the last one, or one behind a hole. */
static int stir(struct anomaly *a, int64_t t_ms, double watts, int on, struct alert *out)
{
    struct anomaly_readings *r = &a->readings;
    const double seconds = (double)(t_ms - r->still_since_ms) / 1000;
    char seen[64], text[32];
    int n = 0;
    if (anomaly_find(a, ANOMALY_FROZEN, "")) {
        anomaly_blind(a, t_ms);
        snprintf(seen, sizeof(seen), "another reading after %s",
                 anomaly_duration(seconds, text, sizeof(text)));
        n = anomaly_clear(a, ANOMALY_FROZEN, "", t_ms, seen, out);
    } else if (on || !unplugged(r)) {
        learn_still(r, (double)(r->last_ms - r->still_since_ms) / 1000, on);
    }
    r->still_w = (float)watts;
    r->still_since_ms = t_ms;
    r->still_count = 1;
    return n;
}

static int judge_still(struct anomaly *a, const struct anomaly_rules *rules, int64_t t_ms,
                       double watts, struct alert *out)
{
    struct anomaly_readings *r = &a->readings;
    const int on = (double)r->still_w >= rules->on_w;
    const double seconds = (double)(t_ms - r->still_since_ms) / 1000;
    const int hole = t_ms - r->last_ms > HOLD_MS && !anomaly_find(a, ANOMALY_FROZEN, "");
    char expected[96], seen[64], text[32];
    if (rules->frozen_ms <= 0)
        return 0;
    if ((float)watts != r->still_w || r->still_count == 0 || hole)
        return stir(a, t_ms, watts, on, out);
    r->still_count += r->still_count < UINT32_MAX;
    const double limit = still_limit(a, rules, on);
    if (seconds <= limit || r->still_count < STILL_READINGS ||
        r->still_since_ms - r->first_ms < rules->learning_ms ||
        anomaly_find(a, ANOMALY_MISSING, NULL))
        return 0; /* a stretch that began while learning has a length that is still being learned */
    snprintf(expected, sizeof(expected), "readings that change, at least every %s",
             anomaly_duration(limit, text, sizeof(text)));
    snprintf(seen, sizeof(seen), "%.1f W and nothing else for %s", watts,
             anomaly_duration(seconds, text, sizeof(text)));
    const struct anomaly_told told = {
        ANOMALY_FROZEN, "", ALERT_WARNING, r->still_since_ms, t_ms, seconds, limit, expected, seen};
    int n = anomaly_raise(a, &told, out);
    if (n) /* what was said of appliances meanwhile came from a frozen meter */
        for (int i = 0; i < ANOMALY_OPEN && n < 3; i++)
            if (a->open[i].kind == ANOMALY_LEFT_ON)
                n += anomaly_clear(a, ANOMALY_LEFT_ON, a->open[i].appliance, t_ms,
                                   "the meter is frozen: not known", out + n);
    return n;
}

/* ---- bounds by configuration ---- */

static int judge_total(struct anomaly *a, const struct anomaly_rules *rules, int64_t t_ms,
                       double watts, struct alert *out)
{
    struct anomaly_readings *r = &a->readings;
    char expected[64], seen[64];
    if (rules->limit_w <= 0)
        return 0;
    const int over = watts > rules->limit_w;
    int64_t *since = over ? &r->over_ms : &r->under_ms;
    *(over ? &r->under_ms : &r->over_ms) = 0;
    if (!*since)
        *since = t_ms;
    if (t_ms - *since < rules->limit_for_ms)
        return 0;
    snprintf(seen, sizeof(seen), "%.0f W", watts);
    if (!over)
        return anomaly_clear(a, ANOMALY_TOTAL, "", t_ms, seen, out);
    snprintf(expected, sizeof(expected), "at most %.0f W in all", rules->limit_w);
    const struct anomaly_told told = {ANOMALY_TOTAL,  "",       ALERT_WARNING, *since, t_ms, watts,
                                      rules->limit_w, expected, seen};
    return anomaly_raise(a, &told, out);
}

static int64_t next_midnight(int64_t t_ms)
{
    int hour, weekend;
    const int32_t day = calendar_hour(t_ms, &hour, &weekend);
    int64_t at = t_ms - t_ms % 900000; /* quarters of an hour: every time zone's midnight is one */
    while (calendar_hour(at, &hour, &weekend) <= day)
        at += 900000;
    return at;
}

static int judge_energy(struct anomaly *a, const struct anomaly_rules *rules, int64_t t_ms,
                        struct alert *out)
{
    struct anomaly_readings *r = &a->readings;
    char expected[64], seen[64];
    int n = 0;
    if (rules->limit_day_wh <= 0)
        return 0;
    if (t_ms >= r->day_end_ms) {
        r->day_end_ms = next_midnight(t_ms);
        r->day_wh = 0;
        n = anomaly_clear(a, ANOMALY_ENERGY, "", t_ms, "a new day", out);
    }
    if (r->last_ms && t_ms - r->last_ms <= HOLD_MS)
        r->day_wh += (double)r->last_w * (double)(t_ms - r->last_ms) / 3.6e6;
    if (r->day_wh <= rules->limit_day_wh)
        return n;
    snprintf(expected, sizeof(expected), "at most %.2f kWh a day", rules->limit_day_wh / 1000);
    snprintf(seen, sizeof(seen), "%.2f kWh today", r->day_wh / 1000);
    const struct anomaly_told told = {
        ANOMALY_ENERGY,      "",       ALERT_WARNING, t_ms, t_ms, r->day_wh,
        rules->limit_day_wh, expected, seen};
    return n + anomaly_raise(a, &told, out + n);
}

/* ---- the cycle that did not come ---- */

static int judge_overdue(struct anomaly *a, double on_w, int64_t t_ms, struct alert *out)
{
    char expected[96], seen[64], text[32];
    int n = 0;
    if (!a->next_due_ms || t_ms < a->next_due_ms)
        return 0;
    if (anomaly_find(a, ANOMALY_FROZEN, "") && (double)a->readings.still_w >= on_w)
        return 0; /* frozen at rest is also how a dead machine looks: both are told */
    a->next_due_ms = 0;
    for (int i = 0; i < ANOMALY_DUE; i++) {
        struct anomaly_due *d = &a->due[i];
        if (d->at_ms && d->at_ms <= t_ms && n < 3) {
            const double wait = (double)d->wait_ms / 1000;
            anomaly_duration(wait, text, sizeof(text));
            snprintf(expected, sizeof(expected), "a cycle at least every %s", text);
            snprintf(seen, sizeof(seen), "none for %s", text);
            const struct anomaly_told told = {ANOMALY_MISSING,
                                              d->appliance,
                                              ALERT_WARNING,
                                              d->at_ms - d->wait_ms,
                                              t_ms,
                                              wait,
                                              wait,
                                              expected,
                                              seen};
            n += anomaly_raise(a, &told, out + n);
            d->at_ms = 0;
        }
        if (d->at_ms && (!a->next_due_ms || d->at_ms < a->next_due_ms))
            a->next_due_ms = d->at_ms;
    }
    return n;
}

void anomaly_still_running(struct anomaly *a, const char *appliance, int64_t t_ms)
{
    if (!a->next_due_ms || t_ms < a->next_due_ms - RUNNING_MS)
        return;
    a->next_due_ms = 0;
    for (int i = 0; i < ANOMALY_DUE; i++) {
        struct anomaly_due *d = &a->due[i];
        if (d->at_ms && !strcmp(d->appliance, appliance))
            d->at_ms = t_ms + d->wait_ms;
        if (d->at_ms && (!a->next_due_ms || d->at_ms < a->next_due_ms))
            a->next_due_ms = d->at_ms;
    }
}

int anomaly_damaged(struct anomaly *a, int64_t t_ms, struct alert *alerts)
{
    return tell_impossible(a, t_ms, 0, 1e7, "a reading that is no power; left out", alerts);
}

int anomaly_reading(struct anomaly *a, const struct anomaly_rules *rules, int64_t t_ms,
                    double watts, struct alert *alerts, int *use)
{
    struct anomaly_readings *r = &a->readings;
    *use = 1;
    if (!r->first_ms)
        r->first_ms = t_ms;
    int n = judge_possible(a, rules, t_ms, watts, alerts, use);
    if (!*use)
        return n;
    n += judge_negative(a, rules, t_ms, watts, alerts + n);
    if (r->bad_ms && t_ms - r->bad_ms > DAY_MS) {
        r->bad_ms = 0;
        n += anomaly_clear(a, ANOMALY_IMPOSSIBLE, "", t_ms, "none for a day", alerts + n);
    }
    const struct anomaly_open *odd = anomaly_find(a, ANOMALY_TIME, NULL);
    if (odd && t_ms - odd->told_ms > ODD_HOUR_OVER_MS)
        n += anomaly_clear(a, ANOMALY_TIME, odd->appliance, t_ms, "it is over", alerts + n);
    n += judge_still(a, rules, t_ms, watts, alerts + n);
    n += judge_total(a, rules, t_ms, watts, alerts + n);
    n += judge_energy(a, rules, t_ms, alerts + n);
    n += judge_overdue(a, rules->on_w, t_ms, alerts + n);
    r->last_ms = t_ms;
    r->last_w = (float)watts;
    return n;
}
