/* publisher.h - the thread that talks to the broker: drains the outbox, keeps the retained topics,
 * receives pushes and commands.
 *
 * The thread owns the link and a store handle of its own. The main thread never waits for it: it
 * hands over texts (copied), is told through an eventfd that something arrived, and takes that from
 * a bounded queue. Bundles arrive already checked (candidate.h): signature and golden vectors take
 * their time here, not between two samples. Without a usable certificate or broker the thread tells
 * so, retries for ever, and everything else goes on. All functions may be called from any thread,
 * except start and stop (main thread).
 */
#ifndef AGENT_PUBLISHER_H
#define AGENT_PUBLISHER_H

#include <stddef.h>
#include <stdint.h>

#include "agent/candidate.h"
#include "agent/config.h"

struct publisher;

#define PUBLISHER_COMMANDS 16  /* commands that wait at most; more are answered "busy" */
#define PUBLISHER_CANDIDATES 2 /* proven bundles that wait at most; more are refused, as busy */
#define PUBLISHER_REFUSALS 16  /* refused bundles that wait to be reported */
#define PUBLISHER_REPLIES 32

enum publisher_retained { PUBLISHER_STATUS = 0, PUBLISHER_MODEL = 1 };

/* config must outlive the publisher, and name a broker. database: path. event_fd: gets a 1 when
 * publisher_take has something.
 *
 * Certificates, key and password file are watched. What is new, there or in a configuration handed
 * to publisher_reload, is tried in a session of its own (client id DEVICE-trial) and replaces what
 * is in use only when the broker accepts it; until then, and when it fails, the old session goes
 * on. */
int publisher_start(const struct config *config, const char *database, int event_fd,
                    struct publisher **out);

/* Sends what is in flight to its end (a few seconds at most), publishes the last status ("stopped",
 * JSON), disconnects, joins. */
void publisher_stop(struct publisher *p, const char *last_status);

/* [broker] of a configuration that was read again (copied); looks at the files, too. -ENOMEM. */
int publisher_reload(struct publisher *p, const struct config *config);

/* Whether the clock can be believed; see link_set_clock. hold: nothing of the outbox is sent, since its times may still
 * change. */
void publisher_set_clock(struct publisher *p, int known, int64_t floor_s, int hold);

/* Something was appended to the outbox. */
void publisher_wake(struct publisher *p);

/* A retained topic has a new content (JSON, copied): published now or at the next connect. */
void publisher_set(struct publisher *p, enum publisher_retained which, const char *text);

/* Publishes a reply (JSON, copied) when connected; replies are not durable. 0, -ENOBUFS, -ENOMEM.
 */
int publisher_reply(struct publisher *p, const char *text);

struct publisher_message {
    struct candidate *candidate; /* a bundle, checked; the taker releases it */
    char *command;               /* or a command's bytes (free()), not NUL-checked */
    size_t command_bytes;
};
/* 1 and *out, or 0 when nothing waits. */
int publisher_take(struct publisher *p, struct publisher_message *out);

struct publisher_stats {
    int connected;
    int drained;       /* connected, and everything that was to send is acknowledged and deleted */
    int protocol;      /* 4 or 5 */
    int damaged;       /* the store said -EBADMSG: opening it anew sets it aside */
    char state[384];   /* in words: of the session, or why there is none */
    char broker[288];  /* host:port of the session; "" when there is none */
    char refused[384]; /* why new certificates, key or password are not used; "": there are none */
    int64_t expiry_s;  /* Unix time at which our certificate ends; 0: none, or not known yet */
    int64_t chain_from_s; /* the broker's certificates, seen in the last session, are valid from and
                             to; 0: not known */
    int64_t chain_to_s;
    uint64_t sessions, sent, acknowledged, failed, parked;
};
void publisher_get_stats(struct publisher *p, struct publisher_stats *out);

#endif
