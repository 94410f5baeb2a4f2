/* lib_anomaly.c - see lib_anomaly.h. */
#include "lib_anomaly.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void anomaly_bench_init(struct anomaly_bench *b)
{
    memset(b, 0, sizeof *b);
    anomaly_init(&b->a, "kitchen");
    b->rules = (struct anomaly_rules){
        .sensitivity = ANOMALY_NORMAL, .learning_ms = 3 * DAY, .on_w = 15, .frozen_ms = 600000};
    snprintf(b->r.meter, sizeof b->r.meter, "kitchen");
    snprintf(b->r.appliance, sizeof b->r.appliance, "Fridge");
    b->t = T0;
    b->seed = 7;
}

/* -1 to 1 */
static double noise(struct anomaly_bench *b)
{
    b->seed = b->seed * 1103515245u + 12345u;
    return (double)(b->seed >> 8 & 0xffff) / 32768.0 - 1;
}

void anomaly_bench_cycle(struct anomaly_bench *b, double seconds, double watts, double pause_s)
{
    const double s = seconds * (1 + 0.05 * noise(b)), w = watts * (1 + 0.02 * noise(b));
    const struct anomaly_run run = {.appliance = "Fridge",
                                    .start_ms = b->t,
                                    .end_ms = b->t + (int64_t)(s * 1000),
                                    .energy_wh = w * s / 3600,
                                    .mean_w = w,
                                    .peak_w = w,
                                    .separated = b->separated,
                                    .whole = 1};
    struct alert *out = b->told + b->n;
    assert_true(b->n < 50);
    b->n += anomaly_finished(&b->a, &b->rules, &b->r, &run, out);
    b->t = run.end_ms + (int64_t)(pause_s * (1 + 0.1 * noise(b)) * 1000);
}

void anomaly_bench_cycles(struct anomaly_bench *b, int count, double seconds, double watts,
                          double pause_s)
{
    for (int i = 0; i < count; i++)
        anomaly_bench_cycle(b, seconds, watts, pause_s);
}

int anomaly_bench_told(const struct anomaly_bench *b, const char *alert, int cleared)
{
    int n = 0;
    for (int i = 0; i < b->n; i++)
        n += !strcmp(b->told[i].alert, alert) && b->told[i].cleared == cleared &&
             !b->told[i].updated;
    return n;
}

void anomaly_bench_learned(struct anomaly_bench *b)
{
    anomaly_bench_init(b);
    anomaly_bench_cycles(b, 200, 900, 80, 1300);
    assert_int_equal(b->n, 0);
    assert_true(b->r.runs == 200);
}

int anomaly_bench_readings(struct anomaly_bench *b, int64_t ms, double watts, double other)
{
    int n = 0, use;
    for (int64_t end = b->t + ms; b->t < end; b->t += 10000) {
        n += anomaly_reading(&b->a, &b->rules, b->t, b->t / 10000 % 2 ? watts : other, b->told + n,
                             &use);
        assert_true(n < 50);
    }
    b->n = n;
    return n;
}
