/* anomaly.h - alerts of one meter: what its appliances do against what is usual for them, and what
 * its readings say by themselves.
 *
 * Of appliances, from what was learned (anomaly_routine.h), after the learning period and
 * ANOMALY_RUNS main runs:
 *  left_on           the run lasts longer than the longest by a half (twice the longest where
 *                    lengths vary, more when few runs are known; by 10 minutes at least, by 6 hours
 *                    or a half at most), and than four times the 95 % quantile (or that and 6
 *                    hours). Cleared when it ends.
 *  power_unusual     median power of the last 5 main runs more than 12 % beyond the blocks of five
 *                    of all days; its mean since yesterday more than 10 % (more when few days are
 *                    known) and 3 spreads beyond that of other days; of loads with less than five
 *                    runs a day also: two of the last three runs beyond all others by far, three
 *                    of the last four by 10 %, two of the last five 12 % above all others; and a
 *                    median of five only when it is 5 % beyond all but one of the sample.
 *  duration_unusual  the same with 45 %, 15 % and 30 %; where lengths vary, instead of five runs:
 *                    median of 9 more than 5 % beyond nine of ten runs. Of loads with less than
 *                    five runs a day a median of five also has to be a fifth above the 95 %
 *                    quantile, or half of the 10 % quantile (a median of nine: four fifths of it).
 *  cycling_often, cycle_missing  of what runs in regular cycles: mean period of the last 8 more
 *                    than 50 % beyond what such means were, or the mean since yesterday 15 % and 2
 *                    spreads; no start for 2.2 usual long periods; cycling_often also: 60 % more
 *                    starts a day than ever (three times as many with less than five a day).
 *  drift             power (10 %) or energy of the days (35 %, of cyclic ones) away from what it
 *                    was when learning ended, and 5 % farther than anything learned until then.
 *  time_unusual      an unknown load of a sum ran at a time of day at which, give or take two
 *                    hours, none two thirds as strong did. Cleared an hour later.
 * Of the meter: meter_silent, meter_frozen (the same reading for 3 times the longest such stretch;
 *  at rest for 10 times and 3 hours, but not at 0 W: unplugged), reading_impossible, total_over,
 *  energy_over.
 * Margins of power, and all of loads with less than five runs a day, grow where few runs are known,
 * by a half at 19 runs.
 * sensitivity low, normal, high scales the margins by 1.6, 1, 0.7; once more by 1.6 for appliances
 * that are separated from a sum, of which no five runs are judged: since yesterday, or single ones.
 *
 * Each alert is raised once per meter, kind and appliance, updated when it is worse or a day later,
 * and cleared, under one alert_id. While the meter is frozen nothing is said about appliances. A
 * run is learned from when it ended by switching off and neither it nor the four behind it were
 * odd; what stays odd for a week and 12 runs is usual from then on. Structures hold no pointers and
 * may be copied as bytes. Time is the readings' own; one thread.
 */
#ifndef AGENT_ANOMALY_H
#define AGENT_ANOMALY_H

#include <stddef.h>
#include <stdint.h>

#include "agent/anomaly_routine.h"
#include "agent/anomaly_rules.h"
#include "agent/event.h"

#define ANOMALY_ALERTS 10 /* at most, from one call */
#define ANOMALY_OPEN 8    /* at a time, of one meter */
#define ANOMALY_DUE 6     /* appliances of a meter whose next cycle is waited for */

enum anomaly_kind {
    ANOMALY_NONE,
    ANOMALY_LEFT_ON,
    ANOMALY_POWER,
    ANOMALY_DURATION,
    ANOMALY_CYCLING,
    ANOMALY_MISSING,
    ANOMALY_DRIFT,
    ANOMALY_TIME,
    ANOMALY_SILENT,
    ANOMALY_FROZEN,
    ANOMALY_IMPOSSIBLE,
    ANOMALY_TOTAL,
    ANOMALY_ENERGY,
    ANOMALY_KINDS
};

struct anomaly_open { /* an alert that is raised; kind 0: none */
    int32_t kind, severity;
    char appliance[EVENT_NAME_BYTES];
    int64_t since_ms, told_ms;
    int64_t id_ms; /* since_ms as it was when the id was made */
    double value, limit;
    uint32_t id_hash; /* of meter and appliance, likewise */
    uint32_t pad;
};

struct anomaly_due { /* at_ms 0: none */
    char appliance[EVENT_NAME_BYTES];
    int64_t at_ms, wait_ms;
};

struct anomaly_readings { /* what is judged of readings alone */
    int64_t first_ms;
    int64_t still_since_ms; /* the last reading has been the same since */
    float still_w;
    uint32_t still_count;
    float longest_on_s, longest_off_s; /* the longest such stretches, load on and off */
    float high_w;                      /* highest power that two readings agree in */
    float suspect_w;                   /* left out: nobody agrees with it yet; 0: none */
    int64_t bad_ms, negative_ms, over_ms, under_ms; /* since; of the last; 0: none */
    int64_t day_end_ms;
    double day_wh;
    int64_t last_ms;
    float last_w;
    uint32_t pad;
};

struct anomaly {
    struct anomaly_open open[ANOMALY_OPEN];
    struct anomaly_due due[ANOMALY_DUE];
    int64_t next_due_ms; /* the earliest of them; 0: none */
    int64_t blind_ms;    /* until then the meter was silent or frozen; 0: never */
    struct anomaly_readings readings;
    uint32_t meter; /* hash of its name: alert ids differ between meters */
    uint32_t pad;
};

void anomaly_init(struct anomaly *a, const char *meter);

/* Bounds for a run in progress, computed once. */
struct anomaly_bounds {
    double left_on_s; /* 0: none */
    double usual_w, usual_s, longest_s;
    uint64_t runs;
};
/* r: what was learned about the appliance, or NULL. */
void anomaly_recall(const struct routine *r, const struct anomaly_rules *rules,
                    const struct anomaly_run *run, struct anomaly_bounds *out);

/* For people: outside of which bounds five runs are told, and a run is left on; 0: not judged, or
 * by more runs only. r: what was learned. */
struct anomaly_limits {
    double low_w, high_w, low_s, high_s, left_on_s;
};
void anomaly_limits(const struct routine *r, const struct anomaly_rules *rules, int64_t now_ms,
                    struct anomaly_limits *out);

/* Median power of its main runs, 0: nothing learned. */
double anomaly_usual_power(const struct routine *r);

/* While a run is in progress. Writes alerts and returns their number, as all below. */
int anomaly_running(struct anomaly *a, const struct anomaly_bounds *bounds,
                    const struct anomaly_run *run, struct alert *alerts);

/* At the end of a run. r: what was learned (data_bytes 0: nothing yet), its names set; updated in
 * place, to be stored. */
int anomaly_finished(struct anomaly *a, const struct anomaly_rules *rules, struct routine *r,
                     const struct anomaly_run *run, struct alert *alerts);

/* A reading, before anything else is made of it. *use 0: it is impossible, to be left out. */
int anomaly_reading(struct anomaly *a, const struct anomaly_rules *rules, int64_t t_ms,
                    double watts, struct alert *alerts, int *use);

/* A reading that is no number. */
int anomaly_damaged(struct anomaly *a, int64_t t_ms, struct alert *alerts);

/* No reading since last_ms, for longer than silence_ms; and the first one afterwards. */
int anomaly_silent(struct anomaly *a, int64_t last_ms, int64_t silence_ms, struct alert *alerts);
int anomaly_heard(struct anomaly *a, int64_t t_ms, struct alert *alerts);

/* A person had it forgotten (appliance NULL: all of the meter): open alerts of it are cleared. */
int anomaly_forget(struct anomaly *a, const char *appliance, int64_t t_ms, struct alert *alerts);

/* A load got a name: what is open about it goes on under the new one, with the ids it has. */
void anomaly_rename(struct anomaly *a, const char *from, const char *to);

int anomaly_open_count(const struct anomaly *a);

/* Whether bytes that were read back can be one: 0 or -EBADMSG. */
int anomaly_check(const struct anomaly *a);

/* Name of a kind as in payloads. */
const char *anomaly_name(enum anomaly_kind kind);

/* For anomaly*.c: raises, or updates what is raised already. value, limit: figures; expected, seen:
 * for people. Returns the number of alerts written to out: 0 or 1. */
struct anomaly_told {
    enum anomaly_kind kind;
    const char *appliance;
    enum alert_severity severity;
    int64_t since_ms, t_ms;
    double value, limit;
    const char *expected, *seen;
};
int anomaly_raise(struct anomaly *a, const struct anomaly_told *told, struct alert *out);
int anomaly_clear(struct anomaly *a, enum anomaly_kind kind, const char *appliance, int64_t t_ms,
                  const char *seen, struct alert *out);
struct anomaly_open *anomaly_find(struct anomaly *a, enum anomaly_kind kind, const char *appliance);
/* The appliance is on: its next cycle is not overdue. */
void anomaly_still_running(struct anomaly *a, const char *appliance, int64_t t_ms);
/* The wall clock was set: what is remembered moves with it. */
void anomaly_shift(struct anomaly *a, int64_t by_ms);
/* The meter saw nothing until t_ms. */
void anomaly_blind(struct anomaly *a, int64_t t_ms);
/* "45 s", "12 min", "3.5 h" */
const char *anomaly_duration(double seconds, char *out, size_t size);

#endif
