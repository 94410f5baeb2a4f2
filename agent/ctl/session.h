/* session.h - the operator's session with a broker (push, watch, doctor): options, and a link made from them.
 *
 * The broker and the credentials come from --broker, --ca, --cert and --key, or from the configuration of the agent on this
 * machine (--config). The client id is never the agent's: a broker ends the older of two sessions with one id.
 */
#ifndef AGENT_CTL_SESSION_H
#define AGENT_CTL_SESSION_H

#include <stddef.h>
#include <stdint.h>

#include "agent/config.h"
#include "transport/link.h"

struct session_options { /* as given on the command line; NULL: not given */
    const char *broker, *ca, *cert, *key, *server_name, *base, *config;
};

/* Rows of a table of options (cli.h). */
#define SESSION_OPTIONS(o)                                                                                           \
    {"broker", CLI_TEXT, &(o).broker, "URL", "mqtts://HOST[:8883]", 0, 0},                                           \
        {"ca", CLI_TEXT, &(o).ca, "FILE", "CA of the broker's certificate (PEM)", 0, 0},                             \
        {"cert", CLI_TEXT, &(o).cert, "FILE", "client certificate (PEM)", 0, 0},                                     \
        {"key", CLI_TEXT, &(o).key, "FILE", "its private key (PEM)", 0, 0},                                          \
        {"server-name", CLI_TEXT, &(o).server_name, "NAME", "in the broker's certificate, when not HOST", 0, 0},     \
        {"base", CLI_TEXT, &(o).base, "TOPIC", "first levels of the topics (nilm/v1)", 0, 0},                        \
    {                                                                                                                \
        "config", CLI_TEXT, &(o).config, "FILE", "take all of these from an agent's configuration", 0, 0             \
    }

struct session {
    struct link *link;
    struct config settings; /* only [broker] is filled in; no meters */
    char password[256]; /* "" for none; wiped by session_close */
    char client_id[64];
    /* Of a consumer whose session outlives it; may be set before session_open. 0: clean sessions under a random client id. */
    uint32_t expiry_s;
};

/* Checks the options and prepares settings, without a link; options override the configuration. command names the program in
 * messages. Exit code (cli.h). session_close is right after every outcome. */
int session_prepare(const char *command, const struct session_options *o, struct session *s);
/* Settings from a configuration that was loaded already. 0, or -errno with why (the password file). */
int session_settings(struct session *s, const struct config *c, char *why, size_t why_size);
/* Makes the link. max_message as in link.h. 0 or -errno with why. */
int session_open(struct session *s, size_t max_message, int connect_timeout_s, char *why, size_t why_size);
void session_close(struct session *s);
/* "nilmctl watch: connected to ..." on standard error; e: LINK_UP. Of several brokers the one that it is. */
void session_tell(const struct session *s, const struct link_event *e);

/* SIGINT and SIGTERM make session_stopped true; they interrupt nothing, so waits should be short. */
void session_catch_signals(void);
int session_stopped(void);

#endif
