/* anomaly_routine.c - the sample of runs, and what is usual. */
#include "agent/anomaly_routine.h"

#include <assert.h>
#include <math.h>
#include <string.h>
#include <time.h>

#define VERSION 2u
#define SMALL_SHARE 0.15
#define REACH_DAYS 28.0 /* how far the sample goes back */
#define DAY_MS 86400000.0
#define DEVIATION 1.4826  /* of a normal distribution, from the median absolute deviation */
#define CYCLIC_SPREAD 0.5 /* of the logarithm of the period */
#define EVEN_SPREAD 0.35  /* of the logarithm of the length */
#define LONGER 1.3        /* by how much one run may raise the longest at once */
#define FADE 0.998        /* of the longest, with each run */
#define BLOCK 5u

static_assert(sizeof(struct anomaly_routine) <= ROUTINE_DATA_BYTES, "fits a row");

void anomaly_routine_load(const struct routine *r, struct anomaly_routine *out)
{
    memset(out, 0, sizeof(*out));
    if (r->data_bytes == sizeof(*out))
        memcpy(out, r->data, sizeof(*out));
    if (out->version != VERSION || out->kept > ANOMALY_SAMPLE || out->recent > ANOMALY_RECENT ||
        out->days > ANOMALY_DAYS)
        memset(out, 0, sizeof(*out));
    out->version = VERSION;
}

void anomaly_routine_save(const struct anomaly_routine *a, struct routine *r)
{
    memset(r->data, 0, sizeof(r->data));
    memcpy(r->data, a, sizeof(*a));
    r->data_bytes = sizeof(*a);
}

int32_t anomaly_routine_day(int64_t t_ms, int *hour, int *weekend)
{
    const time_t s = (time_t)(t_ms / 1000);
    struct tm tm;
    if (!localtime_r(&s, &tm))
        gmtime_r(&s, &tm);
    *hour = tm.tm_hour;
    *weekend = tm.tm_wday == 0 || tm.tm_wday == 6;
    tm.tm_isdst = 0;
    return (int32_t)(timegm(&tm) / 86400);
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

enum field { SECONDS, WATTS, PERIOD, BLOCK_W, BLOCK_S, BLOCK_PERIOD };

/* One figure of the main runs that have it, sorted. Returns how many. */
static int collect(const struct anomaly_routine *a, double small_wh, enum field field, double *out)
{
    int n = 0;
    for (uint32_t i = 0; i < a->kept; i++) {
        const struct anomaly_kept *k = &a->sample[i];
        const float fields[] = {k->seconds, k->mean_w,  k->period_s,
                                k->block_w, k->block_s, k->block_period_s};
        if ((double)k->energy_wh >= small_wh && fields[field] > 0)
            out[n++] = (double)fields[field];
    }
    sort(out, n);
    return n;
}

static void usual_power(const struct anomaly_routine *a, struct anomaly_usual *u)
{
    double x[ANOMALY_SAMPLE];
    int n = collect(a, u->small_wh, WATTS, x);
    u->count = n;
    if (n == 0)
        return;
    u->w = quantile(x, n, 0.5);
    u->w_spread = spread(x, n);
    u->w_low = x[n > 4]; /* one may be of another kind */
    u->w_high = x[n > 4 ? n - 2 : n - 1];
    u->blocks = n = collect(a, u->small_wh, BLOCK_W, x);
    u->w_block_low = n ? quantile(x, n, 0.02) : u->w;
    u->w_block_high = n ? quantile(x, n, 0.98) : u->w;
}

static void usual_length(const struct anomaly_routine *a, struct anomaly_usual *u)
{
    double x[ANOMALY_SAMPLE], logs[ANOMALY_SAMPLE];
    int n = collect(a, u->small_wh, SECONDS, x);
    if (n == 0)
        return;
    for (int i = 0; i < n; i++)
        logs[i] = log(x[i]);
    u->even = spread(logs, n) < EVEN_SPREAD;
    u->s = quantile(x, n, 0.5);
    u->s_high = quantile(x, n, 0.95);
    u->s_most = fmax(x[n - 1], (double)a->longest_s);
    n = collect(a, u->small_wh, BLOCK_S, x);
    u->s_block_low = n ? quantile(x, n, 0.02) : u->s;
    u->s_block_high = n ? quantile(x, n, 0.98) : u->s;
}

static void usual_period(const struct anomaly_routine *a, struct anomaly_usual *u)
{
    double x[ANOMALY_SAMPLE], logs[ANOMALY_SAMPLE];
    int n = collect(a, u->small_wh, PERIOD, x);
    if (n < 2 * (int)ANOMALY_RUNS)
        return;
    for (int i = 0; i < n; i++)
        logs[i] = log(x[i]);
    u->period = quantile(x, n, 0.5);
    u->period_high = quantile(x, n, 0.95);
    u->period_most = fmax(x[n - 1], (double)a->longest_period_s);
    const int regular = spread(logs, n) < CYCLIC_SPREAD;
    n = collect(a, u->small_wh, BLOCK_PERIOD, x);
    if (n < (int)ANOMALY_RUNS)
        return;
    u->cyclic = regular && u->period < 6 * 3600;
    u->period_block_low = quantile(x, n, 0.02);
    u->period_block_high = quantile(x, n, 0.98);
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
    usual_power(a, u);
    usual_length(a, u);
    usual_period(a, u);
    for (uint32_t i = 1; i < a->days && a->days >= 6; i++)
        u->day_starts_most = fmax(u->day_starts_most, a->day[i].starts);
    u->ready = rules->sensitivity != ANOMALY_OFF && u->count >= (int)ANOMALY_RUNS &&
               anomaly_routine_progress(r, rules, now_ms) >= 1;
}

/* ---- counting and learning ---- */

static void new_day(struct anomaly_routine *a, int32_t day)
{
    /* a week and more without a run is an absence: its days say nothing */
    const int32_t missed = a->days ? day - a->day[0].day : 1;
    for (int32_t d = day - (missed > 7 ? 1 : missed) + 1; d <= day; d++) {
        memmove(a->day + 1, a->day, sizeof(a->day) - sizeof(a->day[0]));
        a->day[0] = (struct anomaly_day){.day = d};
        a->days += a->days < ANOMALY_DAYS;
        const int weekend = (d + 4) % 7 == 0 || (d + 4) % 7 == 6; /* day 0 was a Thursday */
        if (a->days_seen[weekend] == 60) { /* halved together: what is old counts less */
            a->days_seen[weekend] = 30;
            a->days_used[weekend] /= 2;
            for (int h = 0; h < 24; h++)
                a->hour_days[weekend][h] /= 2;
        }
        a->days_seen[weekend]++;
    }
}

void anomaly_routine_count(struct anomaly_routine *a, const struct anomaly_run *run)
{
    int hour, weekend, last_hour, last_weekend;
    const int32_t day = anomaly_routine_day(run->start_ms, &hour, &weekend);
    const int32_t hours = (int32_t)(run->start_ms / 3600000);
    anomaly_routine_day(run->end_ms, &last_hour, &last_weekend);
    if (!a->days || day > a->day[0].day)
        new_day(a, day);
    struct anomaly_day *d = &a->day[0];
    if (d->starts == 0)
        a->days_used[weekend]++;
    /* an hour counts once a day, with its first run */
    if (hours > a->counted_hour && a->hour_days[weekend][hour] < 255)
        a->hour_days[weekend][hour]++;
    if (last_hour != hour && a->hour_days[last_weekend][last_hour] < 255)
        a->hour_days[last_weekend][last_hour]++;
    a->counted_hour = (int32_t)(run->end_ms / 3600000);
    d->starts = (uint16_t)(d->starts + (d->starts < UINT16_MAX));
    d->energy_wh += (float)run->energy_wh;
}

int anomaly_routine_hour(const struct anomaly_routine *a, int64_t t_ms, int *days)
{
    int hour, weekend;
    anomaly_routine_day(t_ms, &hour, &weekend);
    *days = a->days_seen[weekend];
    return a->hour_days[weekend][hour] + a->hour_days[weekend][(hour + 1) % 24] +
           a->hour_days[weekend][(hour + 23) % 24];
}

double anomaly_routine_day_wh(const struct anomaly_routine *a, int count)
{
    double x[ANOMALY_DAYS];
    int n = 0;
    for (uint32_t i = 1; i < a->days && n < count; i++)
        if (!a->day[i].blind)
            x[n++] = (double)a->day[i].energy_wh;
    return n == count ? median(x, n) : 0;
}

static double block(const struct anomaly_routine *a, int power)
{
    double x[BLOCK];
    if (a->recent < BLOCK)
        return 0;
    for (uint32_t i = 0; i < BLOCK; i++)
        x[i] = (double)(power ? a->last[i].mean_w : a->last[i].seconds);
    return median(x, BLOCK);
}

double anomaly_routine_block_w(const struct anomaly_routine *a)
{
    return block(a, 1);
}

double anomaly_routine_block_s(const struct anomaly_routine *a)
{
    return block(a, 0);
}

/* Mean, since cycles that are missing here and there do not move a median; a single long pause
 * counts as three. */
double anomaly_routine_block_period(const struct anomaly_routine *a)
{
    double x[ANOMALY_RECENT], sum = 0;
    if (a->recent < ANOMALY_RECENT)
        return 0;
    for (uint32_t i = 0; i < ANOMALY_RECENT; i++) {
        if (!(a->last[i].period_s > 0))
            return 0;
        x[i] = (double)a->last[i].period_s;
    }
    const double most = 2 * median(x, ANOMALY_RECENT);
    for (uint32_t i = 0; i < ANOMALY_RECENT; i++)
        sum += fmin(x[i], most);
    return sum / ANOMALY_RECENT;
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
    a->main_runs++;
    a->main_start_ms = run->start_ms;
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

/* The longest so far: fades slowly, and when it is full of samples one run does not raise it much.
 */
static void longest(float *most, double value, int bounded)
{
    const double bound = bounded && *most > 0 ? LONGER * (double)*most : HUGE_VAL;
    *most = (float)fmax(FADE * (double)*most, fmin(value, bound));
}

void anomaly_routine_learn(struct anomaly_routine *a, struct routine *r,
                           const struct anomaly_run *run)
{
    const int at = place(a, r, run->start_ms);
    if (!r->runs++)
        r->first_ms = run->start_ms;
    r->last_ms = run->start_ms;
    a->slow_w += (float)(run->mean_w - (double)a->slow_w) / (a->slow_w > 0 ? 20 : 1);
    longest(&a->longest_s, (double)a->last[0].seconds, r->runs > ANOMALY_SAMPLE);
    longest(&a->longest_period_s, (double)a->last[0].period_s, r->runs > ANOMALY_SAMPLE);
    if (at < 0)
        return;
    a->sample[at] = (struct anomaly_kept){
        .seconds = a->last[0].seconds,
        .mean_w = a->last[0].mean_w,
        .energy_wh = (float)run->energy_wh,
        .period_s = a->last[0].period_s,
        .block_w = (float)anomaly_routine_block_w(a),
        .block_s = (float)anomaly_routine_block_s(a),
        .block_period_s = (float)anomaly_routine_block_period(a),
    };
}

void anomaly_routine_adopt(struct anomaly_routine *a)
{
    a->kept = 0;
    a->longest_s = a->longest_period_s = 0;
    for (uint32_t i = 0; i < a->recent; i++) {
        const struct anomaly_recent *l = &a->last[i];
        a->sample[a->kept++] = (struct anomaly_kept){
            .seconds = l->seconds,
            .mean_w = l->mean_w,
            .energy_wh = l->seconds * l->mean_w / 3600,
            .period_s = l->period_s,
            .block_w = (float)anomaly_routine_block_w(a),
            .block_s = (float)anomaly_routine_block_s(a),
            .block_period_s = (float)anomaly_routine_block_period(a),
        };
    }
    a->odd_since_ms = 0;
    a->odd_runs = 0;
    a->base_w = a->base_day_wh = 0;
    a->slow_w = 0;
}
