/* broker.h - from the configuration to the settings of a link; shared by the agent and nilmctl. Any
 * thread. */
#ifndef AGENT_BROKER_H
#define AGENT_BROKER_H

#include <stddef.h>

#include "agent/config.h"
#include "transport/link.h"

#define BROKER_PASSWORD_BYTES 512

/* The first line of [broker] password_file; "" when none is configured. 0 or -errno with the file's
 * name in why. */
int broker_password(const struct config *c, char *password, size_t size, char *why,
                    size_t why_size);

/* Fills what [broker] says; texts stay those of c and password ("": none). The rest is zero. */
void broker_settings(const struct config *c, const char *password, struct link_config *out);

/* Number of brokers configured, and number i of them (0: the first). */
int broker_count(const struct config *c);
struct link_broker broker_at(const struct config *c, int i);

/* Copies [broker] from one configuration to another; texts of another part of it are left alone. */
void broker_copy(struct config *to, const struct config *from);

#endif
