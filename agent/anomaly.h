/* anomaly.h - deviations of one meter's load from its learned routine, and what is learned from
 * each run.
 *
 *  left_on        the run has lasted longer than 1.5 times the larger of the longest run and mean +
 * 4 deviations (and a minute longer than the longest). Raised while it runs, cleared when it ends.
 *  power_unusual  the run's mean power lies outside mean +- max(5 deviations, 30 %) and outside
 * everything learned. Raised at its end, or as soon as it has outlasted the longest run; cleared by
 * the next run of the appliance that is normal. meter_silent   no reading for the configured time;
 * cleared with the first reading. Each needs ANOMALY_RUNS learned runs (except meter_silent), is
 * raised once and cleared once, under one alert_id. A run is learned from when it ended by
 * switching off, has a name, and raised nothing; but the fourth odd run in a row is taken for the
 * new normal. Mean and deviation by Welford's method (Technometrics 4, 1962). Structures hold no
 * pointers and may be copied as bytes.
 */
#ifndef AGENT_ANOMALY_H
#define AGENT_ANOMALY_H

#include <stdint.h>

#include "agent/detector.h"
#include "agent/event.h"

#define ANOMALY_RUNS 5u
#define ANOMALY_ALERTS 3 /* at most, from one call */

struct anomaly_open { /* an alert that is raised; alert_id empty: none */
    char alert_id[40], appliance[EVENT_NAME_BYTES];
    int64_t since_ms;
    double value, limit;
};

struct anomaly {
    struct anomaly_open left_on, power, silent;
    uint32_t meter;    /* hash of its name: alert ids differ between meters */
    uint32_t odd_runs; /* in a row */
};

void anomaly_init(struct anomaly *a, const char *meter);

/* While a run is in progress. r: what was learned about appliance, or NULL. Writes alerts and
 * returns their number. */
int anomaly_running(struct anomaly *a, const struct routine *r, const char *appliance,
                    const struct detector_run *run, struct alert *alerts);

/* At the end of a run. r: what was learned (runs = 0: nothing yet), updated in place when *learned
 * becomes 1. */
int anomaly_finished(struct anomaly *a, struct routine *r, const char *appliance,
                     const struct detector_run *run, struct alert *alerts, int *learned);

/* No reading since last_ms, for longer than silence_ms; and the first one afterwards. 0 or 1 alert.
 */
int anomaly_silent(struct anomaly *a, int64_t last_ms, int64_t silence_ms, struct alert *alert);
int anomaly_heard(struct anomaly *a, int64_t t_ms, struct alert *alert);

/* Whether bytes that were read back can be one: 0 or -EBADMSG. */
int anomaly_check(const struct anomaly *a);

#endif
