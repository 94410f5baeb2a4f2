/* anomaly_routine.c - the sample of runs, and what is usual. */
#include "agent/anomaly_routine.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "agent/calendar.h"

#define VERSION 4u
#define SMALL_SHARE 0.15
#define REACH_DAYS 28.0 /* how far the sample goes back */
#define DAY_MS 86400000.0
#define DEVIATION 1.4826  /* of a normal distribution, from the median absolute deviation */
#define CYCLIC_SPREAD 0.6 /* of the logarithm of the period */
#define EVEN_SPREAD 0.35  /* of the logarithm of the length */
#define LONGER 1.3        /* by how much one run may raise the longest at once */
#define SLOW_RUNS 20
#define SLOW_BOUND 0.1
#define HOUR_DAYS 14
#define HOURS_BESIDE 2
#define DOUBLING 8 /* steps of hour_power */
#define BLOCK 5u
#define PERIODS 8u
#define NINE 9u
#define BLOCKS 10u    /* fewer do not show how blocks vary */
#define BLOCK_DAYS 3u /* nor do they on fewer days */

static_assert(ANOMALY_LAG + PERIODS <= ANOMALY_RECENT, "what is learned is still there");
static_assert(sizeof(struct anomaly_routine) <= ROUTINE_DATA_BYTES, "fits a row");

void anomaly_routine_load(const struct routine *r, struct anomaly_routine *out)
{
    memset(out, 0, sizeof(*out));
    if (r->data_bytes == sizeof(*out))
        memcpy(out, r->data, sizeof(*out));
    if (out->version != VERSION || out->kept > ANOMALY_SAMPLE || out->recent > ANOMALY_RECENT ||
        out->days > ANOMALY_DAYS || out->span_count > ANOMALY_SPANS)
        memset(out, 0, sizeof(*out));
    out->version = VERSION;
}

void anomaly_routine_save(const struct anomaly_routine *a, struct routine *r)
{
    memset(r->data, 0, sizeof(r->data));
    memcpy(r->data, a, sizeof(*a));
    r->data_bytes = sizeof(*a);
}

/* ---- order statistics ---- */

/* By insertion: a few dozen values, and qsort may allocate. */
static void sort(double *x, int n)
{
    for (int i = 1; i < n; i++) {
        const double v = x[i];
        int k = i;
        for (; k > 0 && x[k - 1] > v; k--)
            x[k] = x[k - 1];
        x[k] = v;
    }
}

/* Of n > 0 sorted values, between neighbours. */
static double quantile(const double *sorted, int n, double q)
{
    const double at = q * (n - 1);
    const int i = (int)at;
    return i + 1 < n ? sorted[i] + (at - i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

static double median(double *values, int n)
{
    sort(values, n);
    return quantile(values, n, 0.5);
}

/* Sorted values -> 1.4826 times the median absolute deviation. */
static double spread(const double *sorted, int n)
{
    double d[ANOMALY_SAMPLE];
    const double m = quantile(sorted, n, 0.5);
    for (int i = 0; i < n; i++)
        d[i] = fabs(sorted[i] - m);
    return DEVIATION * median(d, n);
}

/* Energy below which a run is small: half of the sample's energy is in runs of more than
 * out / SMALL_SHARE. */
static double small_energy(const struct anomaly_routine *a)
{
    double e[ANOMALY_SAMPLE], total = 0, sum = 0;
    const int n = (int)a->kept;
    for (int i = 0; i < n; i++)
        total += e[i] = (double)a->sample[i].energy_wh;
    sort(e, n);
    for (int i = n - 1; i >= 0; i--) {
        sum += e[i];
        if (2 * sum >= total)
            return SMALL_SHARE * e[i];
    }
    return 0;
}

/* ---- what is usual ---- */

enum field { SECONDS, WATTS, PERIOD };

/* One figure of the main runs that have it, sorted. Returns how many. */
static int collect(const struct anomaly_routine *a, double small_wh, enum field field, double *out)
{
    int n = 0;
    for (uint32_t i = 0; i < a->kept; i++) {
        const struct anomaly_kept *k = &a->sample[i];
        const float fields[] = {k->seconds, k->mean_w, k->period_s};
        if ((double)k->energy_wh >= small_wh && fields[field] > 0)
            out[n++] = (double)fields[field];
    }
    sort(out, n);
    return n;
}

static void usual_power(const struct anomaly_routine *a, struct anomaly_usual *u)
{
    double x[ANOMALY_SAMPLE];
    const int n = collect(a, u->small_wh, WATTS, x);
    u->count = n;
    if (n == 0)
        return;
    u->w = quantile(x, n, 0.5);
    u->w_spread = spread(x, n);
    u->run_low[ANOMALY_WATTS] = x[0];
    u->run_high[ANOMALY_WATTS] = x[n - 1];
    u->w_low = x[n >= 20]; /* one may be of another kind */
    u->w_high = x[n >= 20 ? n - 2 : n - 1];
}

/* Of the days that are remembered. */
static double most(const struct anomaly_routine *a, int period)
{
    double v = 0;
    for (uint32_t i = 0; i < a->days; i++)
        v = fmax(v, (double)(period ? a->day[i].longest_period_s : a->day[i].longest_s));
    return v;
}

static void usual_length(const struct anomaly_routine *a, struct anomaly_usual *u)
{
    double x[ANOMALY_SAMPLE], logs[ANOMALY_SAMPLE];
    const int n = collect(a, u->small_wh, SECONDS, x);
    if (n == 0)
        return;
    for (int i = 0; i < n; i++)
        logs[i] = log(x[i]);
    u->run_low[ANOMALY_SECONDS] = x[0];
    u->run_high[ANOMALY_SECONDS] = x[n - 1];
    u->even = spread(logs, n) < EVEN_SPREAD;
    u->s = quantile(x, n, 0.5);
    u->s_low = quantile(x, n, 0.1);
    u->s_usual = quantile(x, n, 0.9);
    u->s_high = quantile(x, n, 0.95);
    u->s_most = fmax(x[n - 1], most(a, 0));
}

static void usual_period(const struct anomaly_routine *a, struct anomaly_usual *u)
{
    double x[ANOMALY_SAMPLE], logs[ANOMALY_SAMPLE];
    const int n = collect(a, u->small_wh, PERIOD, x);
    if (n < 2 * (int)ANOMALY_RUNS)
        return;
    for (int i = 0; i < n; i++)
        logs[i] = log(x[i]);
    u->period = quantile(x, n, 0.5);
    u->period_high = quantile(x, n, 0.95);
    u->period_most = fmax(x[n - 1], most(a, 1));
    u->cyclic =
        u->block_low[ANOMALY_PERIOD] > 0 && spread(logs, n) < CYCLIC_SPREAD && u->period < 6 * 3600;
}

/* The lowest and the highest block of all days. */
static void usual_blocks(const struct anomaly_routine *a, struct anomaly_usual *u)
{
    uint32_t days = 0;
    for (uint32_t i = 0; i < a->days; i++) {
        const struct anomaly_day *d = &a->day[i];
        days += d->high[ANOMALY_WATTS] > 0;
        for (int f = 0; f < ANOMALY_FIGURES; f++) {
            const double low = (double)d->low[f];
            if (low > 0 && (low < u->block_low[f] || !(u->block_low[f] > 0)))
                u->block_low[f] = low;
            u->block_high[f] = fmax(u->block_high[f], (double)d->high[f]);
        }
    }
    u->blocks = a->blocks >= BLOCKS && days >= BLOCK_DAYS;
}

double anomaly_routine_progress(const struct routine *r, const struct anomaly_rules *rules,
                                int64_t now_ms)
{
    const double runs = r->runs >= ANOMALY_RUNS ? 1 : (double)r->runs / ANOMALY_RUNS;
    const double time =
        rules->learning_ms > 0 && r->runs
            ? fmin(1, fmax(0, (double)(now_ms - r->first_ms) / (double)rules->learning_ms))
            : 1;
    return fmin(runs, time);
}

void anomaly_routine_usual(const struct anomaly_routine *a, const struct routine *r,
                           const struct anomaly_rules *rules, int64_t now_ms,
                           struct anomaly_usual *u)
{
    memset(u, 0, sizeof(*u));
    u->small_wh = small_energy(a);
    usual_blocks(a, u);
    usual_power(a, u);
    usual_length(a, u);
    usual_period(a, u);
    u->rare = (double)a->main_runs < BLOCK * (double)(now_ms - r->first_ms) / DAY_MS;
    for (uint32_t i = 1; i < a->days && a->days >= 6; i++)
        u->day_starts_most = fmax(u->day_starts_most, a->day[i].starts);
    u->ready = rules->sensitivity != ANOMALY_OFF && u->count >= (int)ANOMALY_RUNS &&
               anomaly_routine_progress(r, rules, now_ms) >= 1;
}

/* ---- counting and learning ---- */

static void new_day(struct anomaly_routine *a, int32_t day)
{
    /* a week and more without a run is an absence: its days say nothing */
    const int64_t missed = a->days ? (int64_t)day - a->day[0].day : 1;
    for (int32_t d = day - (int32_t)(missed > 7 ? 1 : missed) + 1; d <= day; d++) {
        memmove(a->day + 1, a->day, sizeof(a->day) - sizeof(a->day[0]));
        a->day[0] = (struct anomaly_day){.day = d};
        a->days += a->days < ANOMALY_DAYS;
        const int weekend = (d + 4) % 7 == 0 || (d + 4) % 7 == 6; /* day 0 was a Thursday */
        if (a->days_seen[weekend] == 60) { /* what was strong long ago counts less */
            a->days_seen[weekend] = 30;
            for (int h = 0; h < 24; h++)
                a->hour_power[weekend][h] -=
                    a->hour_power[weekend][h] < DOUBLING ? a->hour_power[weekend][h] : DOUBLING;
        }
        a->days_seen[weekend]++;
    }
}

void anomaly_routine_count(struct anomaly_routine *a, const struct anomaly_run *run)
{
    int hour, weekend, last_hour, last_weekend;
    const int32_t day = calendar_hour(run->start_ms, &hour, &weekend);
    const double power = fmin(255, DOUBLING * log2(fmax(run->mean_w, 1)) + 0.5);
    calendar_hour(run->end_ms, &last_hour, &last_weekend);
    if (!a->days || day > a->day[0].day)
        new_day(a, day);
    struct anomaly_day *d = &a->day[0];
    uint8_t *first = &a->hour_power[weekend][hour];
    uint8_t *last = &a->hour_power[last_weekend][last_hour];
    *first = power > *first ? (uint8_t)power : *first;
    *last = power > *last ? (uint8_t)power : *last;
    d->starts = (uint16_t)(d->starts + (d->starts < UINT16_MAX));
    d->energy_wh += (float)run->energy_wh;
}

/* The strongest in the hour or beside it. */
static uint8_t strongest(const struct anomaly_routine *a, int weekend, int hour)
{
    uint8_t power = 0;
    for (int h = hour + 24 - HOURS_BESIDE; h <= hour + 24 + HOURS_BESIDE; h++)
        if (a->hour_power[weekend][h % 24] > power)
            power = a->hour_power[weekend][h % 24];
    return power;
}

double anomaly_routine_hour_w(const struct anomaly_routine *a, int64_t t_ms)
{
    int hour, weekend;
    calendar_hour(t_ms, &hour, &weekend);
    uint8_t power = strongest(a, weekend, hour);
    if (a->days_seen[weekend] < HOUR_DAYS) {
        if (a->days_seen[0] + a->days_seen[1] < HOUR_DAYS)
            return HUGE_VAL;
        const uint8_t others = strongest(a, !weekend, hour);
        power = others > power ? others : power;
    }
    return power ? exp2((double)power / DOUBLING) : 0;
}

double anomaly_routine_day_wh(const struct anomaly_routine *a, int count, double *reach)
{
    double x[ANOMALY_DAYS];
    int n = 0;
    for (uint32_t i = 1; i < a->days && n < count; i++)
        if (!a->day[i].blind)
            x[n++] = (double)a->day[i].energy_wh;
    const double wh = n == count ? median(x, n) : 0;
    *reach = 0;
    for (uint32_t i = 1; i < a->days; i++)
        if (!a->day[i].blind)
            *reach = fmax(*reach, fabs((double)a->day[i].energy_wh - wh));
    return wh;
}

/* The mean of periods, since cycles that are missing here and there do not move a median; a single
 * long pause counts as two. */
static double block_period(const struct anomaly_recent *last)
{
    double x[PERIODS], sum = 0;
    for (uint32_t i = 0; i < PERIODS; i++) {
        if (!(last[i].period_s > 0))
            return 0;
        x[i] = (double)last[i].period_s;
    }
    const double bound = 2 * median(x, PERIODS);
    for (uint32_t i = 0; i < PERIODS; i++)
        sum += fmin((double)last[i].period_s, bound);
    return sum / PERIODS;
}

double anomaly_routine_block(const struct anomaly_routine *a, enum anomaly_figure figure,
                             uint32_t skip)
{
    const struct anomaly_recent *last = a->last + skip;
    double x[BLOCK];
    if (a->recent < skip + (figure == ANOMALY_PERIOD ? PERIODS : BLOCK))
        return 0;
    if (figure == ANOMALY_PERIOD)
        return block_period(last);
    for (uint32_t i = 0; i < BLOCK; i++)
        x[i] = (double)(figure == ANOMALY_WATTS ? last[i].mean_w : last[i].seconds);
    return median(x, BLOCK);
}

double anomaly_routine_nine(const struct anomaly_routine *a)
{
    double x[NINE];
    if (a->recent < NINE)
        return 0;
    for (uint32_t i = 0; i < NINE; i++)
        x[i] = (double)a->last[i].seconds;
    return median(x, NINE);
}

/* ---- spans ---- */

static double span_mean(const struct anomaly_span *a, const struct anomaly_span *b,
                        enum anomaly_figure figure)
{
    const int n = figure == ANOMALY_PERIOD ? a->periods + b->periods : a->runs + b->runs;
    return n >= (int)BLOCK ? ((double)a->sum[figure] + (double)b->sum[figure]) / n : 0;
}

double anomaly_routine_recently(const struct anomaly_routine *a, enum anomaly_figure figure)
{
    const double mean = span_mean(&a->span, &a->before, figure);
    return a->before.runs && mean != 0 ? exp(mean) : 0;
}

int anomaly_routine_spans(const struct anomaly_routine *a, enum anomaly_figure figure,
                          struct anomaly_spans *out)
{
    double x[ANOMALY_SPANS];
    int n = 0;
    memset(out, 0, sizeof(*out));
    for (uint32_t i = 0; i < a->span_count && i < ANOMALY_SPANS; i++)
        if (a->spans[i][figure] != 0)
            x[n++] = (double)a->spans[i][figure];
    if (n == 0)
        return 0;
    sort(x, n);
    *out = (struct anomaly_spans){x[0], x[n - 1], quantile(x, n, 0.5), spread(x, n)};
    return n;
}

/* The last span is over: the one before it is learned. */
static void next_span(struct anomaly_routine *a)
{
    static const struct anomaly_span none = {0};
    if (a->before.runs && !a->before.odd) {
        float *to = a->spans[a->span_at % ANOMALY_SPANS];
        for (int f = 0; f < ANOMALY_FIGURES; f++)
            to[f] = (float)span_mean(&a->before, &none, (enum anomaly_figure)f);
        a->span_at = (a->span_at + 1) % ANOMALY_SPANS;
        a->span_count += a->span_count < ANOMALY_SPANS;
    }
    a->before = a->span;
    a->span = none;
}

static void count_span(struct anomaly_routine *a, int32_t day)
{
    const struct anomaly_recent *l = &a->last[0];
    if (a->span.runs >= BLOCK && day != a->span.day)
        next_span(a);
    struct anomaly_span *s = &a->span;
    if (!(l->seconds > 0) || !(l->mean_w > 0) || s->runs == UINT16_MAX)
        return;
    s->day = day;
    s->sum[ANOMALY_WATTS] += logf(l->mean_w);
    s->sum[ANOMALY_SECONDS] += logf(l->seconds);
    s->runs++;
    if (l->period_s > 0) {
        s->sum[ANOMALY_PERIOD] += logf(l->period_s);
        s->periods++;
    }
}

void anomaly_routine_note(struct anomaly_routine *a, const struct anomaly_run *run,
                          int64_t blind_ms)
{
    const double period = (double)(run->start_ms - a->main_start_ms) / 1000;
    memmove(a->last + 1, a->last, sizeof(a->last) - sizeof(a->last[0]));
    a->last[0] = (struct anomaly_recent){
        (float)((double)(run->end_ms - run->start_ms) / 1000), (float)run->mean_w,
        a->main_start_ms > blind_ms && period < 7 * 86400 ? (float)period : 0};
    a->recent += a->recent < ANOMALY_RECENT;
    a->odd <<= 1;
    a->main_runs++;
    a->main_start_ms = run->start_ms;
    count_span(a, a->days ? a->day[0].day : 0);
}

/* splitmix64 (Steele, Lea, Flood 2014): the same run meets the same chance after a restart. */
static double chance(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (double)((x ^ (x >> 31)) >> 11) / 9007199254740992.0;
}

/* Which entry the run takes; -1: none. */
static int place(struct anomaly_routine *a, const struct routine *r, int64_t start_ms)
{
    if (a->kept < ANOMALY_SAMPLE)
        return (int)a->kept++;
    const double days = fmax(1, (double)(start_ms - r->first_ms) / DAY_MS);
    const double a_day = (double)a->main_runs / days;
    const double wanted = ANOMALY_SAMPLE / (a_day * fmin(days, REACH_DAYS));
    if (chance((uint64_t)start_ms) >= wanted)
        return -1;
    return (int)(chance((uint64_t)start_ms * 3 + 1) * ANOMALY_SAMPLE);
}

static void stretch(float *low, float *high, double value)
{
    if (!(value > 0))
        return;
    *high = fmaxf(*high, (float)value);
    *low = *low > 0 ? fminf(*low, (float)value) : (float)value;
}

/* The block before the newest `skip` runs, and what is longest, among those of the day. One run
 * does not raise the longest much when there was time to learn it. */
static void learn_day(struct anomaly_routine *a, uint32_t skip, int known)
{
    struct anomaly_day *d = &a->day[0];
    const struct anomaly_recent *l = &a->last[skip];
    const double run = most(a, 0), period = most(a, 1);
    const double run_bound = known && run > 0 ? LONGER * run : HUGE_VAL;
    const double period_bound = known && period > 0 ? LONGER * period : HUGE_VAL;
    for (int f = 0; f < ANOMALY_FIGURES; f++)
        stretch(&d->low[f], &d->high[f], anomaly_routine_block(a, (enum anomaly_figure)f, skip));
    d->longest_s = fmaxf(d->longest_s, (float)fmin((double)l->seconds, run_bound));
    d->longest_period_s =
        fmaxf(d->longest_period_s, (float)fmin((double)l->period_s, period_bound));
    a->blocks += anomaly_routine_block(a, ANOMALY_WATTS, skip) > 0;
}

static struct anomaly_kept keep(const struct anomaly_recent *l)
{
    return (struct anomaly_kept){.seconds = l->seconds,
                                 .mean_w = l->mean_w,
                                 .energy_wh = l->seconds * l->mean_w / 3600,
                                 .period_s = l->period_s};
}

void anomaly_routine_odd(struct anomaly_routine *a, uint32_t runs)
{
    a->odd |= (1u << runs) - 1;
}

void anomaly_routine_learn(struct anomaly_routine *a, struct routine *r,
                           const struct anomaly_run *run)
{
    if (!r->runs++)
        r->first_ms = run->start_ms;
    r->last_ms = run->start_ms;
    /* a run of another program moves it no more than one that is 10 % off: no mean of programs */
    const double slow = (double)a->slow_w, bound = slow > 0 ? SLOW_BOUND * slow : HUGE_VAL;
    const double step = fmin(bound, fmax(-bound, run->mean_w - slow));
    a->slow_w += (float)(step / (slow > 0 ? SLOW_RUNS : 1));
    if (a->recent <= ANOMALY_LAG || a->odd >> ANOMALY_LAG & 1)
        return;
    learn_day(a, ANOMALY_LAG, r->runs > ANOMALY_SAMPLE);
    const int at = place(a, r, run->start_ms);
    if (at >= 0)
        a->sample[at] = keep(&a->last[ANOMALY_LAG]);
}

void anomaly_routine_adopt(struct anomaly_routine *a)
{
    a->kept = a->blocks = 0;
    for (uint32_t i = 0; i < a->days; i++) {
        struct anomaly_day *d = &a->day[i];
        memset(d->low, 0, sizeof(d->low));
        memset(d->high, 0, sizeof(d->high));
        d->longest_s = d->longest_period_s = 0;
    }
    for (uint32_t i = 0; i < a->recent; i++)
        a->sample[a->kept++] = keep(&a->last[i]);
    a->odd = 0;
    learn_day(a, 0, 0);
    memset(a->spans, 0, sizeof(a->spans));
    memset(&a->before, 0, sizeof(a->before));
    memset(&a->span, 0, sizeof(a->span));
    a->span_count = a->span_at = 0;
    a->odd_since_ms = 0;
    a->odd_runs = 0;
    a->base_w = a->base_day_wh = 0; /* and how far they may drift is set with them */
    a->slow_w = 0;
}
