/* anomaly_runs.c - alerts from runs: against what is usual for the appliance. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "agent/anomaly.h"
#include "agent/anomaly_change.h"

#define HOUR_MS 3600000LL
#define DAY_MS (24 * HOUR_MS)
#define SEPARATED 1.6
#define STAY 0.6         /* of a margin, once an alert is raised: it does not come and go */
#define CROWDED 0.6      /* more starts than on any day */
#define CROWDED_RARE 2.0 /* of what people switch on when they like */
#define WAIT_PERIODS 2.2
#define LEFT_ON_FACTOR 4.0
#define LEFT_ON_MORE_S 21600.0
#define LEFT_ON_LONGEST 0.5
#define LEFT_ON_VARIED 1.0 /* of loads whose runs last minutes or hours */
#define LEFT_ON_LONGEST_S 21600.0
#define LEFT_ON_LEAST_S 600.0 /* beyond the longest: nobody is woken for a cup more */
#define DRIFT_POWER 0.10
#define DRIFT_ENERGY 0.35
#define DRIFT_BEYOND 0.05 /* what five runs, or a day, showed while learning */
#define DRIFT_DAYS 7
#define DRIFT_SPREAD 0.1 /* of the usual power: more, and its mean says nothing */
#define ADOPT_MS (7 * DAY_MS)
#define ADOPT_RUNS 12u
#define ABSENCE_MS (7 * DAY_MS)
#define ODD_HOUR_MS 300000
#define ODD_HOUR_W 50.0
#define ODD_HOUR_FACTOR 1.5

/* What scales all margins. Runs that are taken out of a sum have mistakes of their own. */
static double factor(const struct anomaly_rules *rules, int separated)
{
    const double f = rules->sensitivity == ANOMALY_LOW    ? 1.6
                     : rules->sensitivity == ANOMALY_HIGH ? 0.7
                                                          : 1;
    return separated ? f * SEPARATED : f;
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
    struct anomaly_basis basis; /* points to the above */
    struct alert *alerts;
    int n, odd;
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

/* Nothing is odd: the last run is what is seen. */
static void usual_again(struct anomaly_change *c, double value)
{
    c->value = value;
    snprintf(c->of, sizeof(c->of), "the last run");
}

static void judge_power(struct judge *j)
{
    const struct anomaly_usual *u = &j->usual;
    const double share = j->rules->power_percent / 100;
    const int far = share > 0 ? 0 : anomaly_change_far_off(&j->basis);
    struct anomaly_change c;
    char expected[128], seen[128];
    anomaly_change_look(&j->basis, ANOMALY_WATTS, share, stay(j, ANOMALY_POWER), &c);
    if (!c.is_so)
        usual_again(&c, j->run->mean_w);
    snprintf(expected, sizeof(expected), "%.0f W to %.0f W (%" PRIu64 " runs: median %.0f W)",
             fmax(0, c.low), c.high, j->basis.runs, u->w);
    snprintf(seen, sizeof(seen), "%.0f W (%s)", c.value, c.of);
    const int up = c.is_so ? c.value > c.high : far > 0;
    const struct finding f = {ANOMALY_POWER, c.is_so || far != 0, ALERT_WARNING, j->run->start_ms,
                              c.value,       up ? c.high : c.low};
    conclude(j, &f, expected, seen);
    j->odd |= f.is_so;
}

static void judge_length(struct judge *j)
{
    const struct anomaly_usual *u = &j->usual;
    const double share = j->rules->duration_percent / 100;
    struct anomaly_change ch;
    char expected[128], seen[128], a[32], b[32], c[32];
    anomaly_change_look(&j->basis, ANOMALY_SECONDS, share, stay(j, ANOMALY_DURATION), &ch);
    if (!ch.is_so)
        usual_again(&ch, seconds_of(j->run));
    snprintf(expected, sizeof(expected), "runs of %s to %s (%" PRIu64 " runs: median %s)",
             anomaly_duration(ch.low, a, sizeof(a)), anomaly_duration(ch.high, b, sizeof(b)),
             j->basis.runs, anomaly_duration(u->s, c, sizeof(c)));
    snprintf(seen, sizeof(seen), "%s (%s)", anomaly_duration(ch.value, a, sizeof(a)), ch.of);
    const struct finding f = {ANOMALY_DURATION, ch.is_so, ALERT_WARNING,
                              j->run->start_ms, ch.value, ch.value > ch.high ? ch.high : ch.low};
    conclude(j, &f, expected, seen);
    j->odd |= f.is_so;
}

/* ---- cycles ---- */

static void judge_period(struct judge *j)
{
    const struct anomaly_usual *u = &j->usual;
    const double starts = j->routine.days ? j->routine.day[0].starts : 0;
    const double starts_most =
        (1 + (u->rare ? CROWDED_RARE : CROWDED) * j->basis.f) * u->day_starts_most + 3;
    const int crowded = u->day_starts_most > 0 && starts > starts_most;
    struct anomaly_change c = {0};
    char expected[128], seen[128], a[32], b[32];
    if (u->cyclic)
        anomaly_change_look(&j->basis, ANOMALY_PERIOD, j->rules->duration_percent / 100,
                            stay(j, ANOMALY_MISSING) * stay(j, ANOMALY_CYCLING), &c);
    snprintf(expected, sizeof(expected), "a cycle every %s to %s",
             anomaly_duration(c.low, a, sizeof(a)), anomaly_duration(c.high, b, sizeof(b)));
    if (c.value > 0)
        snprintf(seen, sizeof(seen), "every %s (%s)", anomaly_duration(c.value, a, sizeof(a)),
                 c.of);
    else
        snprintf(seen, sizeof(seen), "it runs again");
    const struct finding missing = {ANOMALY_MISSING, c.is_so && c.value > c.high,
                                    ALERT_WARNING,   j->run->start_ms,
                                    c.value,         c.high};
    conclude(j, &missing, expected, seen);
    struct finding often = {ANOMALY_CYCLING, c.is_so && c.value < c.low,
                            ALERT_WARNING,   j->run->start_ms,
                            c.value,         c.low};
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
                fmax(WAIT_PERIODS * j->usual.period_high, 1.5 * j->usual.period_most) * j->basis.f;
            snprintf(slot->appliance, sizeof(slot->appliance), "%s", j->run->appliance);
            slot->wait_ms = (int64_t)(wait * 1000);
            /* a long run is followed by a long rest */
            const double longer = fmax(0, seconds_of(j->run) - j->usual.s);
            slot->at_ms = j->run->start_ms + slot->wait_ms + (int64_t)(longer * 1000);
        }
    }
    a->next_due_ms = 0;
    for (int i = 0; i < ANOMALY_DUE; i++)
        if (a->due[i].at_ms && (!a->next_due_ms || a->due[i].at_ms < a->next_due_ms))
            a->next_due_ms = a->due[i].at_ms;
}

/* ---- drift ---- */

/* What drift is measured from, and what of it is none: what was seen while learning. */
static void drift_base(struct judge *j, double day_wh, double reach_wh)
{
    struct anomaly_routine *r = &j->routine;
    const struct anomaly_usual *u = &j->usual;
    if (r->base_w <= 0) {
        const double reach =
            fmax(u->block_high[ANOMALY_WATTS] - u->w, u->w - u->block_low[ANOMALY_WATTS]);
        r->base_w = r->slow_w = (float)u->w;
        r->most_w = (float)fmax(DRIFT_POWER, reach / fmax(u->w, 1) + DRIFT_BEYOND);
    }
    if (r->base_day_wh <= 0) {
        r->base_day_wh = (float)day_wh;
        r->most_day_wh = (float)fmax(DRIFT_ENERGY, reach_wh / fmax(day_wh, 1) + DRIFT_BEYOND);
    }
}

static void judge_drift(struct judge *j)
{
    struct anomaly_routine *r = &j->routine;
    double reach_wh = 0;
    const double day_wh = j->usual.cyclic ? anomaly_routine_day_wh(r, DRIFT_DAYS, &reach_wh) : 0;
    drift_base(j, day_wh, reach_wh);
    const double w = (double)r->slow_w / (double)r->base_w - 1;
    const double e = r->base_day_wh > 0 && day_wh > 0 ? day_wh / (double)r->base_day_wh - 1 : 0;
    const double stays = stay(j, ANOMALY_DRIFT);
    const double most_w = (double)r->most_w * j->basis.f * stays;
    const double most_e = (double)r->most_day_wh * j->basis.f * stays;
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
    j->routine.span.odd |= (uint32_t)j->odd;
    if (j->odd) /* and it has been for some runs */
        anomaly_routine_odd(&j->routine, ANOMALY_LAG);
    else if (anomaly_change_far(&j->basis, 0))
        anomaly_routine_odd(&j->routine, 1); /* far off: says nothing yet, and teaches nothing */
    if (!adopt(j) && !j->odd && !anomaly_change_far(&j->basis, 0))
        anomaly_routine_learn(&j->routine, r, j->run);
}

/* Unknown loads of a sum: at a time of day at which none was two thirds as strong. Weak ones may
 * run at all hours, and then one of them is no news. */
static void judge_hour(struct judge *j, struct routine *r)
{
    const struct anomaly_run *run = j->run;
    const double strongest = anomaly_routine_hour_w(&j->routine, run->start_ms);
    char expected[64] = "no unknown load at this time of day", seen[64], text[32];
    if (j->rules->sensitivity != ANOMALY_OFF &&
        anomaly_routine_progress(r, j->rules, run->start_ms) >= 1 && run->mean_w >= ODD_HOUR_W &&
        run->end_ms - run->start_ms >= ODD_HOUR_MS && run->mean_w > ODD_HOUR_FACTOR * strongest) {
        if (strongest > 0)
            snprintf(expected, sizeof(expected), "unknown loads of at most %.0f W about this time",
                     strongest);
        snprintf(seen, sizeof(seen), "%.0f W for %s", run->mean_w,
                 anomaly_duration(seconds_of(run), text, sizeof(text)));
        const struct anomaly_told told = {ANOMALY_TIME,
                                          run->appliance,
                                          ALERT_INFO,
                                          run->start_ms,
                                          run->end_ms,
                                          run->mean_w,
                                          fmax(ODD_HOUR_W, strongest),
                                          expected,
                                          seen};
        j->n += anomaly_raise(j->a, &told, j->alerts + j->n);
    }
    if (!r->runs++)
        r->first_ms = run->start_ms;
    r->last_ms = run->start_ms;
}

int anomaly_finished(struct anomaly *a, const struct anomaly_rules *rules, struct routine *r,
                     const struct anomaly_run *run, struct alert *alerts)
{
    struct judge j = {.a = a,
                      .rules = rules,
                      .run = run,
                      .alerts = alerts,
                      .basis = {.f = factor(rules, run->separated),
                                .runs = r->runs,
                                .separated = run->separated}};
    char seen[64], text[32];
    j.basis.routine = &j.routine;
    j.basis.usual = &j.usual;
    anomaly_routine_load(r, &j.routine);
    if (j.routine.days == 0) /* new, or of a version that learned otherwise: from the beginning */
        r->runs = j.basis.runs = 0;
    if (r->runs && run->start_ms - r->last_ms > ABSENCE_MS &&
        anomaly_routine_progress(r, rules, r->last_ms) < 1) { /* an absence teaches nothing */
        r->first_ms += run->start_ms - r->last_ms;
        r->last_ms = run->start_ms; /* and is left out once, even if this run is not learned */
    }
    snprintf(seen, sizeof(seen), "off after %s",
             anomaly_duration(seconds_of(run), text, sizeof(text)));
    j.n += anomaly_clear(a, ANOMALY_LEFT_ON, run->appliance, run->end_ms, seen, alerts);
    j.n += anomaly_clear(a, ANOMALY_TIME, run->appliance, run->end_ms, seen, alerts + j.n);
    if (run->mixed)
        judge_hour(&j, r);
    anomaly_routine_count(&j.routine, run);
    if (a->blind_ms && j.routine.days && run->start_ms - a->blind_ms < DAY_MS)
        j.routine.day[0].blind = 1;
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
    if (!r || r->data_bytes == 0 || run->mixed)
        return;
    anomaly_routine_load(r, &routine);
    anomaly_routine_usual(&routine, r, rules, run->start_ms, &u);
    out->usual_w = u.w;
    if (!u.ready)
        return;
    const double share = rules->duration_percent / 100;
    const double far = fmin(LEFT_ON_FACTOR * u.s_high, u.s_high + LEFT_ON_MORE_S);
    /* the longest of few runs is passed more often */
    const double few = anomaly_change_few(r->runs);
    const double beyond_most = 1 + (u.even ? LEFT_ON_LONGEST : LEFT_ON_VARIED) * few;
    out->left_on_s =
        share > 0 ? fmax(u.s * (1 + share), u.s + 60)
                  : fmax(fmin(beyond_most * u.s_most, fmax(u.s_most + LEFT_ON_LONGEST_S * few,
                                                           (1 + LEFT_ON_LONGEST) * u.s_most)),
                         fmax(far * factor(rules, run->separated), u.s_most + LEFT_ON_LEAST_S));
    out->usual_s = u.s;
    out->longest_s = u.s_most;
    out->runs = r->runs;
}

int anomaly_running(struct anomaly *a, const struct anomaly_bounds *bounds,
                    const struct anomaly_run *run, struct alert *alerts)
{
    const double seconds = seconds_of(run);
    const int left_on = bounds->left_on_s > 0 && seconds > bounds->left_on_s;
    char expected[128], seen[128], x[32], y[32], z[32];
    anomaly_still_running(a, run->appliance, run->end_ms);
    if (!left_on || run->start_ms < a->blind_ms || anomaly_find(a, ANOMALY_FROZEN, ""))
        return 0; /* how long it ran is not known */
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

void anomaly_limits(const struct routine *r, const struct anomaly_rules *rules, int64_t now_ms,
                    struct anomaly_limits *out)
{
    struct anomaly_routine routine;
    struct anomaly_usual u;
    struct anomaly_bounds bounds;
    const struct anomaly_run run = {.start_ms = now_ms, .end_ms = now_ms};
    struct anomaly_change c = {0};
    *out = (struct anomaly_limits){0};
    anomaly_routine_load(r, &routine);
    anomaly_routine_usual(&routine, r, rules, now_ms, &u);
    if (!u.ready)
        return;
    const double power = rules->power_percent / 100, length = rules->duration_percent / 100;
    if (anomaly_change_bounds(&u, ANOMALY_WATTS, power, power > 0 ? 1 : factor(rules, 0), &c)) {
        out->low_w = fmax(0, c.low);
        out->high_w = c.high;
    }
    if (anomaly_change_bounds(&u, ANOMALY_SECONDS, length, length > 0 ? 1 : factor(rules, 0), &c)) {
        out->low_s = c.low;
        out->high_s = c.high;
    }
    anomaly_recall(r, rules, &run, &bounds);
    out->left_on_s = bounds.left_on_s;
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
