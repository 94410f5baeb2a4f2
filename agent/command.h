/* command.h - the agent's commands (SPEC.md section 4): one JSON object in, one JSON object out.
 * The same for MQTT and the control socket. Strict: unknown members, wrong types, doubled members
 * and anything after the object are refused with the member's name.
 */
#ifndef AGENT_COMMAND_H
#define AGENT_COMMAND_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/label.h"

#define COMMAND_MAX_BYTES 4096u
#define COMMAND_ID_BYTES 65

/* What commands act on. Objects returned become the caller's; NULL: out of memory. why gets the
 * reason of a failure. */
struct command_target {
    void *context;
    cJSON *(*status)(void *context);
    /* family NULL: all that this agent has. */
    cJSON *(*models)(void *context, const char *family);
    int (*rollback)(void *context, const char *family, char *why, size_t why_size);
    /* appliance NULL: all of the meter. Returns the number of routines forgotten, or -errno. */
    int (*forget)(void *context, const char *meter, const char *appliance, char *why,
                  size_t why_size);
    /* A signed order to name a load or to correct a run; the order's device is not set. Returns the
     * number of runs renamed, or -errno. */
    int (*label)(void *context, const struct label_order *order, const char *key_id,
                 const char *signature, char *why, size_t why_size);
    /* Silence about an alert for so many ms (0: no longer silent): 0 or -errno. */
    int (*snooze)(void *context, const char *alert_id, int64_t for_ms, char *why, size_t why_size);
};

/* Runs the command in text (bytes bytes, any). Returns the reply (free()), NULL when memory is
 * short. */
char *command_run(const struct command_target *target, const char *text, size_t bytes);

/* "90m", "2h", "0": milliseconds, at most 366 days. 0 or -EINVAL. */
int command_duration(const char *text, int64_t *ms);

/* The reply to something that cannot even be read as a command. free(). */
char *command_refusal(const char *error);

#endif
