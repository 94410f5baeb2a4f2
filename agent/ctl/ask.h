/* ask.h - asks the running agent over its control socket: one JSON line each way, the commands of SPEC.md section 4.
 *
 * What answers is not trusted: the answer is bounded in bytes and time, and must be a reply. One request, one connection; the
 * agent serves several of them at a time.
 */
#ifndef AGENT_CTL_ASK_H
#define AGENT_CTL_ASK_H

#include <stddef.h>

#include <cjson/cJSON.h>

#define ASK_TIMEOUT_MS 5000      /* for the whole answer */
#define ASK_MAX_BYTES (1u << 20) /* largest answer */

/* Sends {id, command} to the socket at path and gives the reply's result (an object as the command defines it; the caller's,
 * cJSON_Delete). 0; -ENOENT or -ECONNREFUSED: no agent is running; -EACCES: it is another user's; -ETIMEDOUT;
 * -EREMOTEIO: the agent said no, its words are in why; -EBADMSG, -EMSGSIZE: not a reply. *result is NULL then. */
int ask_agent(const char *path, const char *command, cJSON **result, char *why, size_t why_size);

/* The same with further members of the command (an object of texts; stays the caller's), or NULL. */
int ask_agent_with(const char *path, const char *command, const cJSON *members, cJSON **result,
                   char *why, size_t why_size);

#endif
