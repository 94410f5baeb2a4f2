/* anomaly_routine.h - what is usual for one appliance on one meter: a small random sample of its
 * runs, and what follows from it.
 *
 * Robust statistics throughout: medians, quantiles, and the median absolute deviation (Hampel, JASA
 * 69, 1974), because a few runs of another kind (a defrosting, a door left open) must neither widen
 * what is usual nor shift it. The sample is a biased reservoir (Aggarwal, VLDB 2006): each run
 * replaces a random one with a probability that makes the sample reach back about four weeks.
 * A change is judged by the same figure over a few runs (a block: median of the last 5 runs, mean
 * of the last 8 periods), compared with the lowest and the highest such block of each of the last
 * 28 days: so the course of a day and of a week, which neighbouring runs share, is in the
 * comparison, and a load with 200 runs a day is measured by all of them (a sample of 40 is passed
 * five times a day).
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
#define ANOMALY_SAMPLE 32
#define ANOMALY_RECENT 13
#define ANOMALY_LAG 4 /* a run is learned from when so many more did not show that it was odd */
#define ANOMALY_DAYS 21
#define ANOMALY_SPANS 21

struct anomaly_run { /* a finished run, or one in progress */
    const char *appliance;
    int64_t start_ms, end_ms; /* end: so far */
    double energy_wh, mean_w, peak_w;
    int whole;     /* it ended by switching off */
    int separated; /* taken out of a sum: it may be one that was merged, or half of one */
    int mixed; /* several loads go by this name (unknown, on a sum): only its hours are judged */
};

struct anomaly_kept { /* a run of the sample; 0: not known */
    float seconds, mean_w, energy_wh;
    float period_s; /* from the start of the main run before to this one */
};

struct anomaly_recent {
    float seconds, mean_w, period_s;
};

enum anomaly_figure { ANOMALY_WATTS, ANOMALY_SECONDS, ANOMALY_PERIOD, ANOMALY_FIGURES };

struct anomaly_day {
    int32_t day; /* local days since 1970 */
    float energy_wh;
    uint16_t starts;
    uint16_t blind;             /* 1: not all of it was seen */
    float low[ANOMALY_FIGURES]; /* of blocks that were learned, by figure; 0: none */
    float high[ANOMALY_FIGURES];
    float longest_s, longest_period_s; /* of single main runs that were learned */
};

/* Main runs of a day, or of as many days as five of them take: sums of logarithms. */
struct anomaly_span {
    int32_t day;
    float sum[ANOMALY_FIGURES];
    uint16_t runs, periods;
    uint32_t odd; /* 1: not to be learned from */
};

struct anomaly_routine {
    uint32_t version, kept, recent, days; /* how many entries are used */
    struct anomaly_kept sample[ANOMALY_SAMPLE];
    struct anomaly_recent last[ANOMALY_RECENT];  /* main runs, newest first, odd ones too */
    struct anomaly_day day[ANOMALY_DAYS];        /* newest first; the first one is not over */
    struct anomaly_span span, before;            /* the one that lasts, and the last one */
    float spans[ANOMALY_SPANS][ANOMALY_FIGURES]; /* older ones: means of logarithms; 0: none */
    uint32_t span_count, span_at;                /* learned so far; place of the next one */
    uint8_t hour_power[2][24]; /* of weekdays, weekends: the strongest run of that hour, 8 to a
                                  doubling of watts; 0: none */
    uint16_t days_seen[2], pad[2];
    float base_w, base_day_wh;  /* at the end of learning; 0: not yet */
    float most_w, most_day_wh;  /* how far they may drift, as shares */
    float slow_w;               /* power lately */
    uint32_t main_runs, blocks; /* blocks that were learned */
    int64_t main_start_ms;      /* of the last main run; 0: none */
    int64_t odd_since_ms;       /* of the alerts that are open; 0: none */
    uint32_t odd_runs;
    uint32_t odd; /* of the last runs: bit 0 the newest */
    uint32_t pad_end;
};

/* What is usual, computed from the sample. */
struct anomaly_usual {
    int ready;                       /* enough was learned, and for long enough */
    int count;                       /* main runs in the sample */
    int rare;                        /* fewer than five a day */
    int blocks;                      /* enough of them show how blocks vary */
    double small_wh;                 /* less is a small run */
    double w, w_spread;              /* median; 1.4826 times the median absolute deviation */
    double w_low, w_high;            /* of the sample, but for one on each side */
    int even;                        /* runs are alike in length */
    double s, s_low, s_high, s_most; /* median, 10 %, 95 %, the longest of all days */
    double s_usual;                  /* 90 % */
    int cyclic;                      /* runs follow each other regularly */
    double period, period_high, period_most;
    double run_low[2], run_high[2]; /* power, length of single runs of the sample */
    double block_low[ANOMALY_FIGURES], block_high[ANOMALY_FIGURES];
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
/* The newest run and what is around it are odd: they will not be learned from. */
void anomaly_routine_odd(struct anomaly_routine *a, uint32_t runs);
/* Counts the newest run, and takes the one ANOMALY_LAG before it into the sample. */
void anomaly_routine_learn(struct anomaly_routine *a, struct routine *r,
                           const struct anomaly_run *run);
/* What is now is usual from now on: the sample is made of the last runs. */
void anomaly_routine_adopt(struct anomaly_routine *a);

/* Figure of the last runs before the newest `skip` ones: median power or length of 5, mean period
 * of 8; 0: too few. */
double anomaly_routine_block(const struct anomaly_routine *a, enum anomaly_figure figure,
                             uint32_t skip);

/* Median length of the last nine; 0: too few. */
double anomaly_routine_nine(const struct anomaly_routine *a);

/* Geometric mean of the figure since the span before began: a day or two, or 5 to 9 runs; 0: not
 * known. What such spans usually are: their lowest, highest and middle one and how they spread, all
 * as logarithms. Returns how many there are. */
double anomaly_routine_recently(const struct anomaly_routine *a, enum anomaly_figure figure);
struct anomaly_spans {
    double low, high, middle, spread;
};
int anomaly_routine_spans(const struct anomaly_routine *a, enum anomaly_figure figure,
                          struct anomaly_spans *out);

/* Median energy of the last `count` finished days, 0: too few of them. *reach: how far the farthest
 * of all days is from it. */
double anomaly_routine_day_wh(const struct anomaly_routine *a, int count, double *reach);

/* Power of the strongest run that ever began or ended at this time of day, give or take two hours,
 * 0: none did; HUGE_VAL: not known yet. Known by 14 weekdays or days of weekends, as the day is, or
 * by 14 days of any kind. */
double anomaly_routine_hour_w(const struct anomaly_routine *a, int64_t t_ms);

#endif
