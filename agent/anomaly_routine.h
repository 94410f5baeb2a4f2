/* anomaly_routine.h - what is usual for one appliance on one meter: a small random sample of its
 * runs, and what follows from it.
 *
 * Robust statistics throughout: medians, quantiles, and the median absolute deviation (Hampel, JASA
 * 69, 1974), because a few runs of another kind (a defrosting, a door left open) must neither widen
 * what is usual nor shift it. The sample is a biased reservoir (Aggarwal, VLDB 2006): each run
 * replaces a random one with a probability that makes the sample reach back about four weeks.
 * A change is judged by the same figure over a few runs (a block: median of the last 5 runs, mean
 * of the last 8 periods), compared with what such blocks were in the sample: so the course of a
 * day, which neighbouring runs share, is in the comparison.
 *
 * Small runs are left aside (a lamp behind a refrigerator's door): those with less than 15 % of the
 * energy of the run in which the median watt-hour was used.
 *
 * No pointers; the structure is kept as bytes (struct routine, storage). One thread.
 */
#ifndef AGENT_ANOMALY_ROUTINE_H
#define AGENT_ANOMALY_ROUTINE_H

#include <stdint.h>

#include "agent/anomaly_rules.h"
#include "storage/routine.h"

#define ANOMALY_RUNS 8u /* fewer tell nothing */
#define ANOMALY_SAMPLE 40
#define ANOMALY_RECENT 8
#define ANOMALY_DAYS 28

struct anomaly_run { /* a finished run, or one in progress */
    const char *appliance;
    int64_t start_ms, end_ms; /* end: so far */
    double energy_wh, mean_w, peak_w;
    int whole; /* it ended by switching off */
    int mixed; /* several loads go by this name (unknown, on a sum): only its hours are judged */
};

struct anomaly_kept { /* a run of the sample; 0: not known */
    float seconds, mean_w, energy_wh;
    float period_s;                         /* from the start of the main run before to this one */
    float block_w, block_s, block_period_s; /* of the runs up to this one */
};

struct anomaly_recent {
    float seconds, mean_w, period_s;
};

struct anomaly_day {
    int32_t day; /* local days since 1970 */
    float energy_wh;
    uint16_t starts;
    uint16_t blind; /* 1: not all of it was seen */
};

struct anomaly_routine {
    uint32_t version, kept, recent, days; /* how many entries are used */
    struct anomaly_kept sample[ANOMALY_SAMPLE];
    struct anomaly_recent last[ANOMALY_RECENT]; /* main runs, newest first, odd ones too */
    struct anomaly_day day[ANOMALY_DAYS];       /* newest first; the first one is not over */
    uint8_t hour_days[2][24]; /* of weekdays, weekends: days on which it ran in that hour */
    uint16_t days_seen[2], days_used[2];
    float longest_s, longest_period_s; /* of all that was learned, not of the sample alone */
    float base_w, base_day_wh, slow_w; /* at the end of learning (0: not yet), and lately */
    uint32_t main_runs;
    int64_t main_start_ms; /* of the last main run; 0: none */
    int64_t odd_since_ms;  /* of the alerts that are open; 0: none */
    uint32_t odd_runs;
    int32_t counted_hour; /* the last one in hour_days, hours since 1970 */
};

/* What is usual, computed from the sample. */
struct anomaly_usual {
    int ready;            /* enough was learned, and for long enough */
    int count, blocks;    /* main runs in the sample; those that have a block */
    double small_wh;      /* less is a small run */
    double w, w_spread;   /* median; 1.4826 times the median absolute deviation */
    double w_low, w_high; /* of the sample, but for one on each side */
    double w_block_low, w_block_high;
    int even; /* runs are alike in length */
    double s, s_high, s_most, s_block_low, s_block_high;
    int cyclic; /* runs follow each other regularly */
    double period, period_high, period_most, period_block_low, period_block_high;
    double day_starts_most; /* of a finished day; 0: too few days */
};

void anomaly_routine_load(const struct routine *r, struct anomaly_routine *out);
void anomaly_routine_save(const struct anomaly_routine *a, struct routine *r);

/* r: for the number of runs and when they began. now_ms: of the run to be judged. */
void anomaly_routine_usual(const struct anomaly_routine *a, const struct routine *r,
                           const struct anomaly_rules *rules, int64_t now_ms,
                           struct anomaly_usual *out);

/* How far learning is, 0 to 1. */
double anomaly_routine_progress(const struct routine *r, const struct anomaly_rules *rules,
                                int64_t now_ms);

/* Counts a finished run in the figures of days and hours. */
void anomaly_routine_count(struct anomaly_routine *a, const struct anomaly_run *run);
/* Puts a main run into the last ones. blind_ms: nothing is known of the time before. */
void anomaly_routine_note(struct anomaly_routine *a, const struct anomaly_run *run,
                          int64_t blind_ms);
/* Takes the newest of the last ones into the sample (not when it is odd). */
void anomaly_routine_learn(struct anomaly_routine *a, struct routine *r,
                           const struct anomaly_run *run);
/* What is now is usual from now on: the sample is made of the last runs. */
void anomaly_routine_adopt(struct anomaly_routine *a);

/* Figures of the last runs: median power and length of up to 5, mean period of up to 8; 0: too few.
 */
double anomaly_routine_block_w(const struct anomaly_routine *a);
double anomaly_routine_block_s(const struct anomaly_routine *a);
double anomaly_routine_block_period(const struct anomaly_routine *a);

/* Median energy of the last `count` finished days, 0: too few of them. */
double anomaly_routine_day_wh(const struct anomaly_routine *a, int count);

/* On how many days it ran in the hour of t_ms or beside it, of how many days of this kind. */
int anomaly_routine_hour(const struct anomaly_routine *a, int64_t t_ms, int *days);

/* Local day number of a time, its hour and whether it is a weekend. */
int32_t anomaly_routine_day(int64_t t_ms, int *hour, int *weekend);

#endif
