/* status.h - what the agent tells about itself (SPEC.md 4.6, 4.9). Main thread. Internal to
 * agent.c, loop.c and status.c. */
#ifndef AGENT_STATUS_H
#define AGENT_STATUS_H

#include <cjson/cJSON.h>

#include "agent/agent.h"

/* The retained status as text; state is "online" or "stopped". free(). NULL: out of memory. */
char *status_text(struct agent *a, const char *state);

/* Results of the commands `status` (with link, journal and disk beside the payload's members) and
 * `models`, for struct command_target: agent is the struct agent, the object becomes the caller's.
 * NULL: out of memory. */
cJSON *status_command(void *agent);
cJSON *status_models(void *agent, const char *family);

#endif
