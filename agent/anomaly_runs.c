/* anomaly_runs.c - alerts from runs: against what is usual for the appliance. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "agent/anomaly.h"

#define HOUR_MS 3600000LL
#define DAY_MS (24 * HOUR_MS)
#define FAR_SHARE 0.2 /* of the usual power: one run is far off */
#define FAR_SPREADS 5.0
#define RUNS_KNOWN 10
#define NINE_KNOWN 20
#define NINE_MORE 0.05
#define SPANS 4 /* fewer do not show how spans vary */
#define SPAN_SPREADS 3.0
#define SEPARATED 1.6
#define STAY 0.6    /* of a margin, once an alert is raised: it does not come and go */
#define CROWDED 0.6 /* more starts than on any day */
#define WAIT_PERIODS 2.2
#define LEFT_ON_FACTOR 3.0
#define LEFT_ON_MORE_S 21600.0
#define FEW 10.0
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

/* What scales a margin. Of few runs the lowest and highest power are passed more often. */
static double few(const struct judge *j, enum anomaly_figure f)
{
    return j->f * (f == ANOMALY_WATTS ? 1 + FEW / (double)(j->runs + 1) : 1);
}

/* ---- power ---- */

/* The run is far from all others: 1 above, -1 below, 0 not. */
static int far_run(const struct judge *j, uint32_t i, double margin)
{
    const struct anomaly_usual *u = &j->usual;
    const double far = fmax(FAR_SPREADS * u->w_spread, FAR_SHARE * u->w) * margin;
    const double w = (double)j->routine.last[i].mean_w;
    return (w > fmax(u->w + far, 1.05 * u->w_high)) - (w < fmin(u->w - far, 0.95 * u->w_low));
}

/* Two of the last three runs are, on one side. */
static int far_off(const struct judge *j)
{
    const double margin = few(j, ANOMALY_WATTS);
    int above = 0, below = 0;
    if (j->usual.blocks && !j->usual.rare)
        return 0; /* a block tells the same an hour later, and has seen more */
    for (uint32_t i = 0; i < 3 && i < j->routine.recent; i++) {
        above += far_run(j, i, margin) > 0;
        below += far_run(j, i, margin) < 0;
    }
    return above >= 2 ? 1 : below >= 2 ? -1 : 0;
}

/* ---- what several runs show ---- */

/* A figure of the last runs and between which bounds it usually is. */
struct change {
    double value, low, high;
    char of[40]; /* what the value is */
    int is_so;
};

static int beyond(struct change *c)
{
    c->is_so = c->value > 0 && (c->value > c->high || c->value < c->low);
    return c->is_so;
}

/* How far from the lowest and highest (of a run, of a block, of a span) a figure has to be. */
static const struct {
    double run, block, span, least;
} margins[ANOMALY_FIGURES] = {
    [ANOMALY_WATTS] = {.10, .12, .10, 2},
    [ANOMALY_SECONDS] = {.30, .45, .15, 0},
    [ANOMALY_PERIOD] = {0, .5, .15, 0},
};

/* Since the span before began: slow to tell, but the course of a day is in it, and single runs do
 * not count for much. */
static void by_span(const struct judge *j, enum anomaly_figure f, double stays, struct change *c)
{
    struct anomaly_spans s;
    const int n = anomaly_routine_spans(&j->routine, f, &s);
    const double value = anomaly_routine_recently(&j->routine, f);
    if (n < SPANS || !(value > 0))
        return;
    /* of few, the next one is farther out more often */
    const double share = margins[f].span * (1 + 5.0 / n);
    const double margin =
        fmax(log(1 + share), margins[f].least > 0 ? log(1 + margins[f].least / value) : 0);
    const double wide = SPAN_SPREADS * s.spread;
    const double f_stay = j->f * stays;
    struct change slow = {.value = value};
    snprintf(slow.of, sizeof(slow.of), "mean of the last %d runs",
             j->routine.span.runs + j->routine.before.runs);
    slow.high = exp(fmax(s.high + margin * f_stay, s.middle + wide * f_stay));
    slow.low = exp(fmin(s.low - margin * f_stay, s.middle - wide * f_stay));
    if (beyond(&slow))
        *c = slow;
}

/* Three of the last four runs are longer (shorter, stronger, weaker) than any that was learned:
 * for loads of several programs, whose middle says little. */
static int by_runs(const struct judge *j, enum anomaly_figure f, double stays, struct change *c)
{
    const struct anomaly_usual *u = &j->usual;
    const double more = 1 + margins[f].run * few(j, f) * stays;
    struct change all = {.of = "three of four runs beyond all others"};
    int above = 0, below = 0;
    if (f == ANOMALY_PERIOD || !u->rare || u->count < RUNS_KNOWN || j->routine.recent < 4)
        return 0;
    all.low = u->run_low[f] / more;
    all.high = u->run_high[f] * more;
    for (uint32_t i = 0; i < 4; i++) {
        const struct anomaly_recent *l = &j->routine.last[i];
        const double v = (double)(f == ANOMALY_WATTS ? l->mean_w : l->seconds);
        above += v > all.high;
        below += v < all.low;
        if ((above == 3 && v > all.high) || (below == 3 && v < all.low))
            all.value = v;
    }
    if (beyond(&all))
        *c = all;
    return all.is_so;
}

/* Lengths that vary: five of the last nine are longer (shorter) than nine of ten usual ones. By
 * chance that is one of a thousand. */
static int by_nine(const struct judge *j, double stays, struct change *c)
{
    const struct anomaly_usual *u = &j->usual;
    const double more = 1 + NINE_MORE * j->f * stays;
    struct change nine = {.value = anomaly_routine_nine(&j->routine),
                          .low = u->s_low / more,
                          .high = u->s_usual * more,
                          .of = "median of 9 runs"};
    if (u->count >= NINE_KNOWN && beyond(&nine))
        *c = nine;
    return nine.is_so && u->count >= NINE_KNOWN;
}

/* Between which bounds a block is usual. share: the tolerance that is configured, of `usual`; 0:
 * none. Returns 0 when blocks of this figure say nothing. */
static int block_bounds(const struct anomaly_usual *u, enum anomaly_figure f, double share,
                        double factor, struct change *c)
{
    const double usual = f == ANOMALY_WATTS ? u->w : f == ANOMALY_SECONDS ? u->s : u->period;
    const double more = 1 + (share > 0 ? share : margins[f].block) * factor;
    const double low = share > 0 ? usual : u->block_low[f];
    const double high = share > 0 ? usual : u->block_high[f];
    c->low = low / more;
    c->high = high * more;
    if (f == ANOMALY_WATTS) { /* as much below as above */
        const double w = fmax((more - 1) * u->w, share > 0 ? 0 : margins[f].least * factor);
        c->low = low - w;
        c->high = high + w;
    }
    /* five runs that may be minutes or hours say nothing */
    const int varied = f == ANOMALY_SECONDS && !u->cyclic && !u->even;
    return share > 0 || (u->blocks && !varied);
}

/* What is odd about a figure, the quickest to tell first. */
static void look(const struct judge *j, enum anomaly_figure f, double share, double stays,
                 struct change *c)
{
    const struct anomaly_usual *u = &j->usual;
    *c = (struct change){.of = "median of 5 runs"};
    if (f == ANOMALY_PERIOD)
        snprintf(c->of, sizeof(c->of), "mean of 8");
    int judged = block_bounds(u, f, share, (share > 0 ? 1 : few(j, f)) * stays, c);
    if (j->run->separated && f != ANOMALY_WATTS && !(share > 0))
        judged = 0; /* in a busy hour five in a row are cut, merged or missed */
    c->value = judged ? anomaly_routine_block(&j->routine, f, 0) : 0;
    if (beyond(c) || share > 0 || by_runs(j, f, stays, c))
        return;
    if (f != ANOMALY_SECONDS || judged || j->run->separated || !by_nine(j, stays, c))
        by_span(j, f, stays, c);
}

/* Nothing is odd: the last run is what is seen. */
static void usual_again(struct change *c, double value)
{
    c->value = value;
    snprintf(c->of, sizeof(c->of), "the last run");
}

static void judge_power(struct judge *j)
{
    const struct anomaly_usual *u = &j->usual;
    const double share = j->rules->power_percent / 100;
    const int far = share > 0 ? 0 : far_off(j);
    struct change c;
    char expected[128], seen[128];
    look(j, ANOMALY_WATTS, share, stay(j, ANOMALY_POWER), &c);
    if (!c.is_so)
        usual_again(&c, j->run->mean_w);
    snprintf(expected, sizeof(expected), "%.0f W to %.0f W (%" PRIu64 " runs: median %.0f W)",
             fmax(0, c.low), c.high, j->runs, u->w);
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
    struct change ch;
    char expected[128], seen[128], a[32], b[32], c[32];
    look(j, ANOMALY_SECONDS, share, stay(j, ANOMALY_DURATION), &ch);
    if (!ch.is_so)
        usual_again(&ch, seconds_of(j->run));
    snprintf(expected, sizeof(expected), "runs of %s to %s (%" PRIu64 " runs: median %s)",
             anomaly_duration(ch.low, a, sizeof(a)), anomaly_duration(ch.high, b, sizeof(b)),
             j->runs, anomaly_duration(u->s, c, sizeof(c)));
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
    const double starts_most = (1 + CROWDED * j->f) * u->day_starts_most + 3;
    const int crowded = u->day_starts_most > 0 && starts > starts_most;
    struct change c = {0};
    char expected[128], seen[128], a[32], b[32];
    if (u->cyclic)
        look(j, ANOMALY_PERIOD, j->rules->duration_percent / 100,
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
    const double most_w = (double)r->most_w * j->f * stays;
    const double most_e = (double)r->most_day_wh * j->f * stays;
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
    else if (far_run(j, 0, j->f)) /* one that is far off says nothing yet, and teaches nothing */
        anomaly_routine_odd(&j->routine, 1);
    if (!adopt(j) && !j->odd && !far_run(j, 0, j->f))
        anomaly_routine_learn(&j->routine, r, j->run);
}

/* Unknown loads of a sum: at an hour of weekdays (of weekends, of all days) in which there were
 * none. */
static void judge_hour(struct judge *j, struct routine *r)
{
    const struct anomaly_run *run = j->run;
    char expected[64], seen[64], text[32];
    if (j->rules->sensitivity != ANOMALY_OFF &&
        anomaly_routine_progress(r, j->rules, run->start_ms) >= 1 && run->mean_w >= ODD_HOUR_W &&
        run->end_ms - run->start_ms >= ODD_HOUR_MS &&
        anomaly_routine_odd_hour(&j->routine, run->start_ms)) {
        snprintf(expected, sizeof(expected), "no unknown load at this time of day");
        snprintf(seen, sizeof(seen), "%.0f W for %s", run->mean_w,
                 anomaly_duration(seconds_of(run), text, sizeof(text)));
        const struct anomaly_told told = {ANOMALY_TIME,  run->appliance, ALERT_INFO,
                                          run->start_ms, run->end_ms,    run->mean_w,
                                          ODD_HOUR_W,    expected,       seen};
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
                      .f = factor(rules, run->separated),
                      .alerts = alerts,
                      .runs = r->runs};
    char seen[64], text[32];
    anomaly_routine_load(r, &j.routine);
    if (j.routine.days == 0) /* new, or of a version that learned otherwise: from the beginning */
        r->runs = j.runs = 0;
    if (r->runs && run->start_ms - r->last_ms > ABSENCE_MS &&
        anomaly_routine_progress(r, rules, r->last_ms) < 1)
        r->first_ms += run->start_ms - r->last_ms; /* an absence teaches nothing */
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
    const double beyond_most =
        1 + (u.even ? LEFT_ON_LONGEST : LEFT_ON_VARIED) * (1 + FEW / (double)(r->runs + 1));
    out->left_on_s =
        share > 0 ? fmax(u.s * (1 + share), u.s + 60)
                  : fmax(fmin(beyond_most * u.s_most, u.s_most + LEFT_ON_LONGEST_S),
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
    struct change c = {0};
    *out = (struct anomaly_limits){0};
    anomaly_routine_load(r, &routine);
    anomaly_routine_usual(&routine, r, rules, now_ms, &u);
    if (!u.ready)
        return;
    const double power = rules->power_percent / 100, length = rules->duration_percent / 100;
    if (block_bounds(&u, ANOMALY_WATTS, power, power > 0 ? 1 : factor(rules, 0), &c)) {
        out->low_w = fmax(0, c.low);
        out->high_w = c.high;
    }
    if (block_bounds(&u, ANOMALY_SECONDS, length, length > 0 ? 1 : factor(rules, 0), &c)) {
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
