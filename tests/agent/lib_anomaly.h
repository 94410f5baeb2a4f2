/* lib_anomaly.h - a meter, one load on it, and what is told of them: for tests of anomaly.h. */
#ifndef TESTS_AGENT_LIB_ANOMALY_H
#define TESTS_AGENT_LIB_ANOMALY_H

#include <stdint.h>

#include "agent/anomaly.h"

#define T0 1700000000000LL
#define MINUTE 60000LL
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

/* A meter and one load on it, and all that was told. */
struct anomaly_bench {
    struct anomaly a;
    struct anomaly_rules rules;
    struct routine r;
    struct alert told[64];
    int n, separated;
    int64_t t;
    unsigned seed;
};

void anomaly_bench_init(struct anomaly_bench *b);
/* One run of about so many seconds and watts, then a pause; and several. */
void anomaly_bench_cycle(struct anomaly_bench *b, double seconds, double watts, double pause_s);
void anomaly_bench_cycles(struct anomaly_bench *b, int count, double seconds, double watts,
                          double pause_s);
/* How often an alert was raised (cleared). */
int anomaly_bench_told(const struct anomaly_bench *b, const char *alert, int cleared);
/* Five days of a refrigerator: nothing is wrong. */
void anomaly_bench_learned(struct anomaly_bench *b);
/* Constant or alternating readings every 10 s. Returns the number of alerts. */
int anomaly_bench_readings(struct anomaly_bench *b, int64_t ms, double watts, double other);

#endif
