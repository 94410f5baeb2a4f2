/* anomaly.c - alerts from the learned routine. */
#include "agent/anomaly.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define LONG_FACTOR 1.5
#define LONG_DEVIATIONS 4.0
#define LONG_MARGIN_S 60.0
#define POWER_DEVIATIONS 5.0
#define POWER_SHARE 0.3
#define ODD_RUNS 3u /* more in a row are the new normal */

void anomaly_init(struct anomaly *a, const char *meter)
{
    memset(a, 0, sizeof(*a));
    a->meter = 2166136261u; /* FNV-1a */
    for (; *meter; meter++)
        a->meter = (a->meter ^ (uint32_t)(unsigned char)*meter) * 16777619u;
}

/* "45 s", "12 min", "3.5 h" */
static const char *duration_text(double seconds, char *out, size_t size)
{
    if (seconds < 300)
        snprintf(out, size, "%.0f s", seconds);
    else if (seconds < 7200)
        snprintf(out, size, "%.0f min", seconds / 60);
    else
        snprintf(out, size, "%.1f h", seconds / 3600);
    return out;
}

static double deviation(double m2, uint64_t n)
{
    return n > 1 && m2 > 0 ? sqrt(m2 / (double)(n - 1)) : 0;
}

/* Fills what raised and cleared have in common. */
static void describe(const struct anomaly_open *o, const char *name, enum alert_severity severity,
                     struct alert *out)
{
    memset(out, 0, sizeof(*out));
    snprintf(out->alert, sizeof(out->alert), "%s", name);
    snprintf(out->alert_id, sizeof(out->alert_id), "%s", o->alert_id);
    snprintf(out->appliance, sizeof(out->appliance), "%s", o->appliance);
    out->severity = severity;
    out->since_ms = o->since_ms;
    out->value = o->value;
    out->limit = o->limit;
}

static void open_alert(const struct anomaly *a, struct anomaly_open *o, const char *name,
                       const char *appliance, int64_t since_ms, double value, double limit)
{
    memset(o, 0, sizeof(*o));
    snprintf(o->alert_id, sizeof(o->alert_id), "%08" PRIx32 "-%.13s-%" PRId64, a->meter, name,
             since_ms);
    snprintf(o->appliance, sizeof(o->appliance), "%s", appliance);
    o->since_ms = since_ms;
    o->value = value;
    o->limit = limit;
}

static double seconds_of(const struct detector_run *run)
{
    return (double)(run->end_ms - run->start_ms) / 1000;
}

static int raise_left_on(struct anomaly *a, const struct routine *r, const char *appliance,
                         const struct detector_run *run, struct alert *out)
{
    double seconds = seconds_of(run);
    double usual = r->duration_mean_s + LONG_DEVIATIONS * deviation(r->duration_m2, r->runs);
    double limit = LONG_FACTOR * fmax(r->duration_max_s, usual);
    limit = fmax(limit, r->duration_max_s + LONG_MARGIN_S);
    if (a->left_on.alert_id[0] || seconds <= limit)
        return 0;
    open_alert(a, &a->left_on, "left_on", appliance, run->start_ms, seconds, limit);
    describe(&a->left_on, "left_on", ALERT_WARNING, out);
    char mean[32], longest[32], now[32], at_most[32];
    snprintf(out->expected, sizeof(out->expected),
             "on for at most %s (%" PRIu64 " runs: mean %s, longest %s)",
             duration_text(limit, at_most, sizeof(at_most)), r->runs,
             duration_text(r->duration_mean_s, mean, sizeof(mean)),
             duration_text(r->duration_max_s, longest, sizeof(longest)));
    snprintf(out->seen, sizeof(out->seen), "on for %s", duration_text(seconds, now, sizeof(now)));
    out->time_ms = run->end_ms;
    return 1;
}

/* How far the mean power may lie from the learned one. */
static double power_tolerance(const struct routine *r)
{
    return fmax(POWER_DEVIATIONS * deviation(r->power_m2, r->runs), POWER_SHARE * r->power_mean_w);
}

static int power_is_odd(const struct routine *r, double mean_w)
{
    return fabs(mean_w - r->power_mean_w) > power_tolerance(r) &&
           (mean_w < r->power_min_w || mean_w > r->power_max_w);
}

static int raise_power(struct anomaly *a, const struct routine *r, const char *appliance,
                       const struct detector_run *run, struct alert *out)
{
    if (a->power.alert_id[0] || !power_is_odd(r, run->mean_w))
        return 0;
    double tolerance = power_tolerance(r);
    double limit = run->mean_w > r->power_mean_w
                       ? fmax(r->power_mean_w + tolerance, r->power_max_w)
                       : fmin(r->power_mean_w - tolerance, r->power_min_w);
    open_alert(a, &a->power, "power_unusual", appliance, run->start_ms, run->mean_w, limit);
    describe(&a->power, "power_unusual", ALERT_WARNING, out);
    snprintf(out->expected, sizeof(out->expected),
             "%.0f W to %.0f W (%" PRIu64 " runs: mean %.0f W)",
             fmax(0, fmin(r->power_mean_w - tolerance, r->power_min_w)),
             fmax(r->power_mean_w + tolerance, r->power_max_w), r->runs, r->power_mean_w);
    snprintf(out->seen, sizeof(out->seen), "%.0f W", run->mean_w);
    out->time_ms = run->end_ms;
    return 1;
}

int anomaly_running(struct anomaly *a, const struct routine *r, const char *appliance,
                    const struct detector_run *run, struct alert *alerts)
{
    if (!r || r->runs < ANOMALY_RUNS)
        return 0;
    int n = raise_left_on(a, r, appliance, run, alerts);
    /* phases differ in power, so a run is only judged before its end when it has outlasted all
     * others */
    if (seconds_of(run) > r->duration_max_s)
        n += raise_power(a, r, appliance, run, alerts + n);
    return n;
}

static int clear(struct anomaly_open *o, const char *name, int64_t t_ms, const char *seen,
                 struct alert *out)
{
    if (!o->alert_id[0])
        return 0;
    describe(o, name, ALERT_WARNING, out);
    out->cleared = 1;
    out->time_ms = t_ms;
    snprintf(out->seen, sizeof(out->seen), "%s", seen);
    memset(o, 0, sizeof(*o));
    return 1;
}

static void learn(struct routine *r, const struct detector_run *run)
{
    double seconds = seconds_of(run), n = (double)++r->runs;
    double d = seconds - r->duration_mean_s, p = run->mean_w - r->power_mean_w;
    r->duration_mean_s += d / n;
    r->duration_m2 += d * (seconds - r->duration_mean_s);
    r->power_mean_w += p / n;
    r->power_m2 += p * (run->mean_w - r->power_mean_w);
    r->energy_mean_wh += (run->energy_wh - r->energy_mean_wh) / n;
    int first = r->runs == 1;
    r->duration_max_s = first ? seconds : fmax(r->duration_max_s, seconds);
    r->power_min_w = first ? run->mean_w : fmin(r->power_min_w, run->mean_w);
    r->power_max_w = first ? run->mean_w : fmax(r->power_max_w, run->mean_w);
    if (first)
        r->first_ms = run->start_ms;
    r->last_ms = run->start_ms;
}

int anomaly_finished(struct anomaly *a, struct routine *r, const char *appliance,
                     const struct detector_run *run, struct alert *alerts, int *learned)
{
    char seen[64], text[32];
    int n = 0, odd = a->left_on.alert_id[0] != 0;
    int whole = !strcmp(run->reason, "off") && strcmp(appliance, EVENT_UNKNOWN) != 0;
    *learned = 0;
    snprintf(seen, sizeof(seen), "off after %s",
             duration_text(seconds_of(run), text, sizeof(text)));
    n += clear(&a->left_on, "left_on", run->end_ms, seen, alerts);
    if (!whole)
        return n;
    int judged = r->runs >= ANOMALY_RUNS;
    if (judged && power_is_odd(r, run->mean_w)) {
        odd = 1;
        n += raise_power(a, r, appliance, run, alerts + n);
    } else if (judged && !strcmp(a->power.appliance, appliance)) {
        snprintf(seen, sizeof(seen), "%.0f W", run->mean_w);
        n += clear(&a->power, "power_unusual", run->end_ms, seen, alerts + n);
    }
    a->odd_runs = odd ? a->odd_runs + 1 : 0;
    if (odd && a->odd_runs <= ODD_RUNS)
        return n;
    learn(r, run);
    *learned = 1;
    return n;
}

int anomaly_silent(struct anomaly *a, int64_t last_ms, int64_t silence_ms, struct alert *alert)
{
    if (a->silent.alert_id[0])
        return 0;
    double seconds = (double)silence_ms / 1000;
    char text[32];
    open_alert(a, &a->silent, "meter_silent", "", last_ms, seconds, seconds);
    describe(&a->silent, "meter_silent", ALERT_WARNING, alert);
    alert->time_ms = last_ms + silence_ms;
    duration_text(seconds, text, sizeof(text));
    snprintf(alert->expected, sizeof(alert->expected), "a reading at least every %s", text);
    snprintf(alert->seen, sizeof(alert->seen), "none for %s", text);
    return 1;
}

int anomaly_heard(struct anomaly *a, int64_t t_ms, struct alert *alert)
{
    if (!a->silent.alert_id[0])
        return 0;
    char seen[64], text[32];
    double seconds = (double)(t_ms - a->silent.since_ms) / 1000;
    snprintf(seen, sizeof(seen), "a reading after %s", duration_text(seconds, text, sizeof(text)));
    return clear(&a->silent, "meter_silent", t_ms, seen, alert);
}

static int open_check(const struct anomaly_open *o)
{
    return memchr(o->alert_id, 0, sizeof(o->alert_id)) &&
           memchr(o->appliance, 0, sizeof(o->appliance)) && isfinite(o->value) &&
           isfinite(o->limit);
}

int anomaly_check(const struct anomaly *a)
{
    return open_check(&a->left_on) && open_check(&a->power) && open_check(&a->silent) ? 0
                                                                                      : -EBADMSG;
}
