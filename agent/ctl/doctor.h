/* doctor.h - checks of a gateway: each makes findings, a finding says what is so and what to do. Internal to doctor*.c. */
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
    const struct config *config;
    cJSON *findings;
    int json;
    int warnings, faults, later;
};

/* Adds a finding. advice: what to do, "" when nothing. */
void doctor_finding(struct doctor *d, const char *check, enum doctor_level level, const char *advice,
                    const char *format, ...) __attribute__((format(printf, 5, 6)));

void doctor_check_clock(struct doctor *d);
void doctor_check_data(struct doctor *d);   /* data_dir: writable, free space */
void doctor_check_store(struct doctor *d);  /* database: opens, size, what waits */
void doctor_check_agent(struct doctor *d);  /* control socket */
void doctor_check_certificates(struct doctor *d);
void doctor_check_ring(struct doctor *d);
void doctor_check_models(struct doctor *d);
void doctor_check_broker(struct doctor *d); /* connects */

#endif
