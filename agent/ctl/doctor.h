/* doctor.h - checks of a gateway: each makes findings, a finding says what is so and what to do. Internal to doctor*.c.
 *
 * Checks look and try (a file is written and removed, the broker is connected to) but repair nothing: what is found is left as
 * it is for the operator. They run one after another on the main thread, with d->config loaded.
 */
#ifndef AGENT_CTL_DOCTOR_H
#define AGENT_CTL_DOCTOR_H

#include <cjson/cJSON.h>

#include "agent/config.h"

enum doctor_level {
    DOCTOR_OK,
    DOCTOR_NOTE,    /* worth knowing, nothing is wrong */
    DOCTOR_WARNING, /* works now, will not for ever */
    DOCTOR_FAULT,   /* does not work */
    DOCTOR_LATER    /* does not work now, may by itself (broker out of reach, clock not set yet) */
};

struct doctor {
    const char *config_path;
    const struct config *config; /* NULL while it could not be read */
    cJSON *findings;             /* array, filled with json; else findings are printed as they come */
    int json;
    int warnings, faults, later; /* how many of each level */
};

/* Adds a finding on check (its name in the JSON): format says what is so, advice what to do ("" when nothing). */
void doctor_finding(struct doctor *d, const char *check, enum doctor_level level, const char *advice,
                    const char *format, ...) __attribute__((format(printf, 5, 6)));

void doctor_check_clock(struct doctor *d);  /* set, plausible, synchronised */
void doctor_check_data(struct doctor *d);   /* data_dir: writable, free space */
void doctor_check_store(struct doctor *d);  /* database: opens, size, what waits */
void doctor_check_agent(struct doctor *d);  /* answers on its control socket */
/* Dates, pair and chain; without a broker there is nothing to check. */
void doctor_check_certificates(struct doctor *d);
void doctor_check_ring(struct doctor *d);   /* loads, has keys */
void doctor_check_models(struct doctor *d); /* the agent's own check of the active slots and of the files of [model] */
/* Name, TCP, then TLS and MQTT through the agent's link under another client id: its session is not disturbed. */
void doctor_check_broker(struct doctor *d);

#endif
