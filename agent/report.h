/* report.h - what a report has in hand: energy, runs and costs of a stretch of time, from the local
 * database. For nilmctl report and the agent's summaries.
 *
 * Energy of a meter is what its hours say; of its loads, what their runs say. Base load is the
 * lowest mean of five minutes of each day, over the time that was seen. What is in neither a named
 * run nor the base is unknown. When a mains meter is configured the total is its own, and circuit
 * meters are parts of it; else the total is their sum.
 */
#ifndef AGENT_REPORT_H
#define AGENT_REPORT_H

#include <stddef.h>
#include <stdint.h>

#include "agent/config.h"
#include "agent/periods.h"
#include "storage/alerts.h"
#include "storage/store.h"

#define REPORT_LOADS 256
#define REPORT_DAYS 400
#define REPORT_ALERTS 200
#define REPORT_LONGEST_MS (31 * 86400000LL)

struct report_load {
    char meter[64], name[64];
    uint64_t runs;
    double wh, cost, seconds, peak_w;
    int64_t last_ms;
    int counted; /* of a meter that the total is made of */
};

struct report_shift {
    double wh, run_s;
    uint64_t starts;
};

struct report_meter {
    char name[64];
    int counted;
    double wh, cost, base_wh, low_w, high_w;
    /* Of a machine by its states, as long as these are kept; of others on (run) and off. Seen is
     * off, idle and run; peaks are among run. */
    double seen_s, off_s, idle_s, run_s, peak_s;
    uint64_t starts;
    struct report_shift shifts[SHIFT_MAX + 1]; /* as configured; the last: outside of all */
    struct report_states {                     /* of quarters of an hour */
        double off_s, idle_s, run_s, peak_s;
        uint64_t starts;
        struct report_shift shifts[SHIFT_MAX + 1];
    } states;
    double day_low_w, day_wh, day_seen_s; /* of the day that is being added up */
    int32_t day;
};

struct report_day {
    int32_t day; /* local, since 1970 */
    double wh, base_wh, cost;
    float load_wh[REPORT_LOADS]; /* of the runs that began on it */
};

struct report {
    const struct config *config;
    struct periods tariff;
    double price;
    int64_t from_ms, to_ms;
    const char *meter; /* this one alone, counted whatever it is; NULL: all */
    /* Runs that ended in the time, instead of those that began: so each belongs to one time, whole,
     * although it is looked at while others go on. Those of more than REPORT_LONGEST_MS are missed.
     */
    int ended;
    struct report_load *loads; /* after report_read: largest energy first */
    size_t load_count;
    struct report_meter *meters;
    size_t meter_count;
    struct report_day *days;
    size_t day_count, day_room;
    struct alerts_row *alerts;
    size_t alert_count;
    double hour_wh[24], hour_s[24]; /* of the counted meters, by hour of the day */
    double wh, cost, base_wh, named_wh, unknown_wh;
    int overflow; /* more loads or days than there is room for */
};

/* Reads everything. 0 or -errno (the store's error text says why). report_free in any case. */
int report_read(struct report *r, struct store *store);
void report_free(struct report *r);

#endif
