/* anomaly_runs.c - alerts from runs: against what is usual for the appliance. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "agent/anomaly.h"

#define HOUR_MS 3600000LL
#define DAY_MS (24 * HOUR_MS)
#define POWER_SHARE 0.12
#define POWER_LEAST_W 2.0
#define FAR_SHARE 0.2 /* of the usual power: one run is far off */
#define FAR_SPREADS 6.0
#define LENGTH_SHARE 0.25
#define STAY 0.6  /* of a margin, once an alert is raised: it does not come and go */
#define BLOCKS 10 /* fewer do not show how blocks vary */
#define PERIOD_SHARE 0.3
#define WAIT_PERIODS 2.2
#define LEFT_ON_FACTOR 2.5
#define LEFT_ON_MORE_S 21600.0
#define LEFT_ON_LONGEST 1.25
#define DRIFT_POWER 0.10
#define DRIFT_ENERGY 0.35
#define DRIFT_DAYS 7
#define DRIFT_SPREAD 0.1 /* of the usual power: more, and its mean says nothing */
#define ADOPT_MS (7 * DAY_MS)
#define ADOPT_RUNS 12u
#define ODD_HOUR_DAYS 14
#define ODD_HOUR_MS 300000
#define ODD_HOUR_W 50.0

static double factor(const struct anomaly_rules *rules)
{
    return rules->sensitivity == ANOMALY_LOW ? 1.6 : rules->sensitivity == ANOMALY_HIGH ? 0.7 : 1;
}

static double seconds_of(const struct anomaly_run *run)
{
    return (double)(run->end_ms - run->start_ms) / 1000;
}

/* What a judgement has in hand. */
struct judge {
    struct anomaly *a;
    const struct anomaly_rules *rules;
    struct anomaly_routine routine;
    struct anomaly_usual usual;
    const struct anomaly_run *run;
    double f;
    struct alert *alerts;
    int n, odd;
    uint64_t runs;
};

/* One finding: raised while it is so, cleared when not. */
struct finding {
    enum anomaly_kind kind;
    int is_so;
    enum alert_severity severity;
    int64_t since_ms;
    double value, limit;
};

static void conclude(struct judge *j, const struct finding *f, const char *expected,
                     const char *seen)
{
    if (j->n >= ANOMALY_ALERTS)
        return;
    if (f->is_so) {
        const struct anomaly_told told = {f->kind,     j->run->appliance, f->severity,
                                          f->since_ms, j->run->end_ms,    f->value,
                                          f->limit,    expected,          seen};
        j->n += anomaly_raise(j->a, &told, j->alerts + j->n);
    } else {
        j->n +=
            anomaly_clear(j->a, f->kind, j->run->appliance, j->run->end_ms, seen, j->alerts + j->n);
    }
}

/* An open alert needs more to be cleared than not to be raised. */
static double stay(struct judge *j, enum anomaly_kind kind)
{
    return anomaly_find(j->a, kind, j->run->appliance) ? STAY : 1;
}

/* ---- power ---- */

/* The run is far from all others: 1 above, -1 below, 0 not. */
static int far_run(const struct judge *j, uint32_t i)
{
    const struct anomaly_usual *u = &j->usual;
    const double far = fmax(FAR_SPREADS * u->w_spread, FAR_SHARE * u->w) * j->f;
    const double w = (double)j->routine.last[i].mean_w;
    return (w > fmax(u->w + far, 1.05 * u->w_high)) - (w < fmin(u->w - far, 0.95 * u->w_low));
}

/* Two of the last three runs are, on one side. */
static int far_off(const struct judge *j)
{
    int above = 0, below = 0;
    for (uint32_t i = 0; i < 3 && i < j->routine.recent; i++) {
        above += far_run(j, i) > 0;
        below += far_run(j, i) < 0;
    }
    return above >= 2 ? 1 : below >= 2 ? -1 : 0;
}

static void judge_power(struct judge *j)
{
    const struct anomaly_usual *u = &j->usual;
    const double share = j->rules->power_percent / 100;
    const double margin = fmax(POWER_SHARE * u->w, POWER_LEAST_W) * j->f * stay(j, ANOMALY_POWER);
    const double high = share > 0 ? u->w * (1 + share) : u->w_block_high + margin;
    const double low = share > 0 ? u->w * (1 - share) : u->w_block_low - margin;
    const double block = anomaly_routine_block_w(&j->routine), w = j->run->mean_w;
    const int is_block =
        block > 0 && (u->blocks >= BLOCKS || share > 0) && (block > high || block < low);
    const int far = share > 0 ? 0 : far_off(j);
    const int up = is_block ? block > high : far > 0;
    char expected[128], seen[128];
    snprintf(expected, sizeof(expected), "%.0f W to %.0f W (%" PRIu64 " runs: median %.0f W)",
             fmax(0, low), high, j->runs, u->w);
    snprintf(seen, sizeof(seen), "%.0f W%s", is_block ? block : w,
             is_block ? " (median of 5 runs)" : "");
    const struct finding f = {ANOMALY_POWER,    is_block || far != 0, ALERT_WARNING,
                              j->run->start_ms, is_block ? block : w, up ? high : low};
    conclude(j, &f, expected, seen);
    j->odd |= f.is_so;
}

/* ---- length ---- */

static void judge_length(struct judge *j)
{
    const struct anomaly_usual *u = &j->usual;
    const double share = j->rules->duration_percent / 100;
    const double more = 1 + (share > 0 ? share : LENGTH_SHARE * j->f) * stay(j, ANOMALY_DURATION);
    const double high = (share > 0 ? u->s : u->s_block_high) * more;
    const double low = (share > 0 ? u->s : u->s_block_low) / more;
    const double block = anomaly_routine_block_s(&j->routine);
    const int judged = block > 0 && (share > 0 || (u->blocks >= BLOCKS && (u->cyclic || u->even)));
    char expected[128], seen[128], a[32], b[32], c[32];
    snprintf(expected, sizeof(expected), "runs of %s to %s (%" PRIu64 " runs: median %s)",
             anomaly_duration(low, a, sizeof(a)), anomaly_duration(high, b, sizeof(b)), j->runs,
             anomaly_duration(u->s, c, sizeof(c)));
    snprintf(seen, sizeof(seen), "%s (median of 5 runs)", anomaly_duration(block, a, sizeof(a)));
    const struct finding f = {ANOMALY_DURATION,
                              judged && (block > high || block < low),
                              ALERT_WARNING,
                              j->run->start_ms,
                              block,
                              block > high ? high : low};
    conclude(j, &f, expected, seen);
    j->odd |= f.is_so;
}

/* ---- cycles ---- */

static void judge_period(struct judge *j)
{
    const struct anomaly_usual *u = &j->usual;
    const double share = j->rules->duration_percent / 100;
    const double more = 1 + (share > 0 ? share : PERIOD_SHARE * j->f) *
                                (stay(j, ANOMALY_MISSING) * stay(j, ANOMALY_CYCLING));
    const double high = (share > 0 ? u->period : u->period_block_high) * more;
    const double low = (share > 0 ? u->period : u->period_block_low) / more;
    const double block = u->cyclic ? anomaly_routine_block_period(&j->routine) : 0;
    const double starts = j->routine.days ? j->routine.day[0].starts : 0;
    const double starts_most = 2 * u->day_starts_most * j->f + 3;
    const int crowded = u->day_starts_most > 0 && starts > starts_most;
    char expected[128], seen[128], a[32], b[32];
    snprintf(expected, sizeof(expected), "a cycle every %s to %s",
             anomaly_duration(low, a, sizeof(a)), anomaly_duration(high, b, sizeof(b)));
    if (block > 0)
        snprintf(seen, sizeof(seen), "every %s (mean of 8)", anomaly_duration(block, a, sizeof(a)));
    else
        snprintf(seen, sizeof(seen), "it runs again");
    const struct finding missing = {ANOMALY_MISSING,  block > high, ALERT_WARNING,
                                    j->run->start_ms, block,        high};
    conclude(j, &missing, expected, seen);
    struct finding often = {
        ANOMALY_CYCLING, block > 0 && block < low, ALERT_WARNING, j->run->start_ms, block, low};
    if (!often.is_so && crowded) {
        snprintf(expected, sizeof(expected), "at most %.0f starts a day", starts_most);
        snprintf(seen, sizeof(seen), "%.0f starts today", starts);
        often = (struct finding){ANOMALY_CYCLING,  1,      ALERT_WARNING,
                                 j->run->start_ms, starts, starts_most};
    }
    conclude(j, &often, expected, seen);
    j->odd |= missing.is_so || often.is_so;
}

/* When the next main run is overdue; 0 when it does not run in cycles. */
static void expect_next(struct judge *j)
{
    struct anomaly *a = j->a;
    struct anomaly_due *slot = NULL;
    for (int i = 0; i < ANOMALY_DUE && !slot; i++)
        if (!strcmp(a->due[i].appliance, j->run->appliance))
            slot = &a->due[i];
    for (int i = 0; i < ANOMALY_DUE && !slot && j->usual.cyclic; i++)
        if (!a->due[i].at_ms)
            slot = &a->due[i];
    if (slot) {
        memset(slot, 0, sizeof(*slot));
        if (j->usual.cyclic) {
            const double wait =
                fmax(WAIT_PERIODS * j->usual.period_high, 1.5 * j->usual.period_most) * j->f;
            snprintf(slot->appliance, sizeof(slot->appliance), "%s", j->run->appliance);
            slot->wait_ms = (int64_t)(wait * 1000);
            slot->at_ms = j->run->start_ms + slot->wait_ms;
        }
    }
    a->next_due_ms = 0;
    for (int i = 0; i < ANOMALY_DUE; i++)
        if (a->due[i].at_ms && (!a->next_due_ms || a->due[i].at_ms < a->next_due_ms))
            a->next_due_ms = a->due[i].at_ms;
}

/* ---- drift ---- */

static void judge_drift(struct judge *j)
{
    struct anomaly_routine *r = &j->routine;
    const double day_wh = j->usual.cyclic ? anomaly_routine_day_wh(r, DRIFT_DAYS) : 0;
    if (r->base_w <= 0)
        r->base_w = r->slow_w = (float)j->usual.w;
    if (r->base_day_wh <= 0)
        r->base_day_wh = (float)day_wh;
    const double w = (double)r->slow_w / (double)r->base_w - 1;
    const double e = r->base_day_wh > 0 && day_wh > 0 ? day_wh / (double)r->base_day_wh - 1 : 0;
    const double most_w = fmax(DRIFT_POWER, 3 * j->usual.w_spread / fmax(j->usual.w, 1)) * j->f;
    const double most_e = DRIFT_ENERGY * j->f;
    const int power = fabs(w) > most_w && j->usual.w_spread < DRIFT_SPREAD * j->usual.w,
              energy = !power && fabs(e) > most_e;
    char expected[128], seen[128];
    if (energy) {
        snprintf(expected, sizeof(expected), "about %.0f Wh a day, as when learning ended",
                 (double)r->base_day_wh);
        snprintf(seen, sizeof(seen), "%.0f Wh a day lately (%+.0f %%)", day_wh, 100 * e);
    } else {
        snprintf(expected, sizeof(expected), "about %.0f W, as when learning ended",
                 (double)r->base_w);
        snprintf(seen, sizeof(seen), "%.0f W lately (%+.0f %%)", (double)r->slow_w, 100 * w);
    }
    const struct finding f = {
        ANOMALY_DRIFT,    power || energy,        ALERT_INFO,
        j->run->start_ms, 100 * (energy ? e : w), 100 * (energy ? most_e : most_w)};
    conclude(j, &f, expected, seen);
}

/* ---- all together ---- */

/* What has stayed odd for long enough is how it is now. */
static int adopt(struct judge *j)
{
    struct anomaly_routine *r = &j->routine;
    if (!j->odd) {
        r->odd_since_ms = 0;
        r->odd_runs = 0;
        return 0;
    }
    if (!r->odd_since_ms)
        r->odd_since_ms = j->run->start_ms;
    r->odd_runs++;
    if (j->run->start_ms - r->odd_since_ms < ADOPT_MS || r->odd_runs < ADOPT_RUNS)
        return 0;
    for (enum anomaly_kind k = ANOMALY_POWER; k <= ANOMALY_DRIFT && j->n < ANOMALY_ALERTS; k++)
        j->n += anomaly_clear(j->a, k, j->run->appliance, j->run->end_ms,
                              "so for a week: taken for usual from now on", j->alerts + j->n);
    anomaly_routine_adopt(r);
    return 1;
}

static void judge_main_run(struct judge *j, struct routine *r)
{
    anomaly_routine_note(&j->routine, j->run, j->a->blind_ms);
    if (!j->usual.ready) {
        anomaly_routine_learn(&j->routine, r, j->run);
        return;
    }
    judge_power(j);
    judge_length(j);
    judge_period(j);
    expect_next(j);
    if (!j->odd)
        judge_drift(j);
    /* one run that is far off says nothing yet, and teaches nothing */
    if (!adopt(j) && !j->odd && !far_run(j, 0))
        anomaly_routine_learn(&j->routine, r, j->run);
}

int anomaly_finished(struct anomaly *a, const struct anomaly_rules *rules, struct routine *r,
                     const struct anomaly_run *run, struct alert *alerts)
{
    struct judge j = {
        .a = a, .rules = rules, .run = run, .f = factor(rules), .alerts = alerts, .runs = r->runs};
    char seen[64], text[32];
    if (r->data_bytes == 0) /* new, or of a version that learned otherwise */
        r->runs = 0;
    anomaly_routine_load(r, &j.routine);
    snprintf(seen, sizeof(seen), "off after %s",
             anomaly_duration(seconds_of(run), text, sizeof(text)));
    j.n += anomaly_clear(a, ANOMALY_LEFT_ON, run->appliance, run->end_ms, seen, alerts);
    j.n += anomaly_clear(a, ANOMALY_TIME, run->appliance, run->end_ms, seen, alerts + j.n);
    anomaly_routine_count(&j.routine, run);
    if (a->blind_ms && j.routine.days && run->start_ms - a->blind_ms < DAY_MS)
        j.routine.day[0].blind = 1;
    if (run->mixed && !r->runs++)
        r->first_ms = run->start_ms;
    if (run->mixed)
        r->last_ms = run->start_ms;
    anomaly_routine_usual(&j.routine, r, rules, run->start_ms, &j.usual);
    if (run->whole && !run->mixed && run->energy_wh >= j.usual.small_wh && run->mean_w > 0 &&
        run->end_ms > run->start_ms && run->start_ms >= a->blind_ms &&
        !anomaly_find(a, ANOMALY_FROZEN, ""))
        judge_main_run(&j, r);
    anomaly_routine_save(&j.routine, r);
    return j.n;
}

void anomaly_recall(const struct routine *r, const struct anomaly_rules *rules,
                    const struct anomaly_run *run, struct anomaly_bounds *out)
{
    struct anomaly_routine routine;
    struct anomaly_usual u;
    memset(out, 0, sizeof(*out));
    if (!r || r->data_bytes == 0)
        return;
    anomaly_routine_load(r, &routine);
    if (run->mixed) {
        int days = 0;
        out->odd_hour = rules->sensitivity != ANOMALY_OFF &&
                        anomaly_routine_progress(r, rules, run->start_ms) >= 1 &&
                        anomaly_routine_hour(&routine, run->start_ms, &days) == 0 &&
                        days >= ODD_HOUR_DAYS;
        return;
    }
    anomaly_routine_usual(&routine, r, rules, run->start_ms, &u);
    out->usual_w = u.w;
    if (!u.ready)
        return;
    const double share = rules->duration_percent / 100;
    const double far = fmin(LEFT_ON_FACTOR * u.s_high, u.s_high + LEFT_ON_MORE_S);
    out->left_on_s = share > 0 ? fmax(u.s * (1 + share), u.s + 60)
                               : fmax(fmax(LEFT_ON_LONGEST * u.s_most, u.s_most + 60),
                                      fmax(far, u.s_high + 60) * factor(rules));
    out->usual_s = u.s;
    out->longest_s = u.s_most;
    out->runs = r->runs;
}

int anomaly_running(struct anomaly *a, const struct anomaly_bounds *bounds,
                    const struct anomaly_run *run, struct alert *alerts)
{
    const double seconds = seconds_of(run);
    const int left_on = bounds->left_on_s > 0 && seconds > bounds->left_on_s;
    const int odd_hour =
        bounds->odd_hour && run->end_ms - run->start_ms >= ODD_HOUR_MS && run->mean_w >= ODD_HOUR_W;
    char expected[128], seen[128], x[32], y[32], z[32];
    anomaly_still_running(a, run->appliance, run->end_ms);
    if ((!left_on && !odd_hour) || run->start_ms < a->blind_ms ||
        anomaly_find(a, ANOMALY_FROZEN, ""))
        return 0; /* how long it ran is not known */
    if (odd_hour) {
        snprintf(expected, sizeof(expected), "no unknown load at this time of day");
        snprintf(seen, sizeof(seen), "%.0f W for %s", run->mean_w,
                 anomaly_duration(seconds, x, sizeof(x)));
        const struct anomaly_told told = {ANOMALY_TIME,  run->appliance, ALERT_INFO,
                                          run->start_ms, run->end_ms,    run->mean_w,
                                          ODD_HOUR_W,    expected,       seen};
        return anomaly_raise(a, &told, alerts);
    }
    snprintf(expected, sizeof(expected),
             "on for at most %s (%" PRIu64 " runs: median %s, longest %s)",
             anomaly_duration(bounds->left_on_s, x, sizeof(x)), bounds->runs,
             anomaly_duration(bounds->usual_s, y, sizeof(y)),
             anomaly_duration(bounds->longest_s, z, sizeof(z)));
    snprintf(seen, sizeof(seen), "on for %s", anomaly_duration(seconds, x, sizeof(x)));
    const struct anomaly_told told = {
        ANOMALY_LEFT_ON,
        run->appliance,
        seconds > 3 * bounds->left_on_s ? ALERT_CRITICAL : ALERT_WARNING,
        run->start_ms,
        run->end_ms,
        seconds,
        bounds->left_on_s,
        expected,
        seen};
    return anomaly_raise(a, &told, alerts);
}

double anomaly_usual_power(const struct routine *r)
{
    const struct anomaly_rules rules = {.sensitivity = ANOMALY_NORMAL};
    struct anomaly_routine routine;
    struct anomaly_usual u;
    if (r->data_bytes == 0)
        return 0;
    anomaly_routine_load(r, &routine);
    anomaly_routine_usual(&routine, r, &rules, r->last_ms, &u);
    return u.w;
}
