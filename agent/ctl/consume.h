/* consume.h - the reference consumer (nilmctl watch --exactly-once): each numbered message once, in
 * a file of its own, over restarts, repetitions and failures of either side (SPEC 8). */
#ifndef AGENT_CTL_CONSUME_H
#define AGENT_CTL_CONSUME_H

#include <stdint.h>

#include "agent/ctl/session.h"

struct consume_options {
    const char *store, *out, *client_id, *device;   /* out, client_id, device may be NULL */
    int64_t keep_days, expiry_days, count, seconds; /* 0: for ever (keep, count, seconds) */
    int json, show; /* on standard output: lines of JSON, or as watch shows them */
};

/* Runs until it is interrupted, or count or seconds are reached. session is prepared and not open.
 * Exit code (cli.h). */
int consume_run(struct session *session, const struct consume_options *o);

/* What the file says: devices, duplicates, holes, declared losses. CLI_FAILED when something is
 * missing that nobody declared. */
int consume_report(const char *store, int json);

#endif
