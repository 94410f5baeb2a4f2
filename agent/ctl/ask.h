/* ask.h - asks the running agent over its control socket: one JSON line each way, the commands of SPEC.md section 4. */
#ifndef AGENT_CTL_ASK_H
#define AGENT_CTL_ASK_H

#include <stddef.h>

#include <cjson/cJSON.h>

#define ASK_TIMEOUT_MS 5000
#define ASK_MAX_BYTES (1u << 20) /* largest answer */

/* Sends {id, command} to the socket at path and gives the reply's result (cJSON_Delete). 0; -ENOENT or -ECONNREFUSED: no agent
 * is running; -ETIMEDOUT; -EREMOTEIO: the agent said no, its words are in why; -EBADMSG: not a reply. */
int ask_agent(const char *path, const char *command, cJSON **result, char *why, size_t why_size);

#endif
