/* link.h - one MQTT session over TLS, pull style: Paho MQTT C (no OpenSSL) over an mbedTLS channel (channel.h).
 *
 * The owner thread calls link_next in a loop; everything that happens comes back as an event. No code of the owner ever
 * runs under Paho's locks. All functions are for the owner thread, except link_wake. Connecting, back-off with full
 * jitter (reset only after a session was stable for stable_s), resubscription and the in-flight window are the link's
 * business; the queue is the owner's (the outbox): the link keeps no message that it was not given room for.
 *
 * Several brokers are tried in their order, round and round: the next one when one cannot be reached, refuses, or ended
 * a session before it was stable; a stable session that is lost is first tried again at the same broker, which may
 * remember it. The back-off's limit doubles once a round.
 */
#ifndef TRANSPORT_LINK_H
#define TRANSPORT_LINK_H

#include <stddef.h>
#include <stdint.h>

struct link;

#define LINK_BROKERS 8 /* at most */

struct link_broker {
    const char *host;
    uint16_t port;
};

struct link_config { /* strings are copied */
    const char *host; /* of the first broker */
    uint16_t port;
    struct link_broker more[LINK_BROKERS - 1]; /* tried after it, up to the first without a host */
    const char *client_id;
    const char *ca_path, *cert_path, *key_path; /* PEM; cert and key may be NULL (no client certificate) */
    const char *server_name; /* to be found in every broker's certificate; NULL: its host */
    const char *username, *password; /* NULL: none */
    int keepalive_s;       /* 0: 30 */
    int connect_timeout_s; /* 0: 20 */
    int max_inflight;      /* 0: 20; the broker's Receive Maximum bounds it too */
    int backoff_min_ms, backoff_max_ms, stable_s; /* 0: 1000, 120000, 30 */
    uint32_t session_expiry_s; /* MQTT 5; 0: clean start */
    int protocol; /* 0: MQTT 5, falling back to 3.1.1; 4: 3.1.1 only; 5: 5 only */
    const char *will_topic; /* NULL: none; retained, QoS 1 */
    const char *will_payload;
    int manual_ack; /* 1: messages of QoS 1 are acknowledged by link_accept and not when they arrive */
    size_t max_message; /* largest message accepted from the broker; 0: 1 MiB. Larger ones are reported and dropped */
};

enum link_event_type {
    LINK_NONE = 0,     /* time-out, or link_wake */
    LINK_UP,           /* session is there; broker, protocol, window, session_present, valid_*, text (TLS version and cipher) */
    LINK_DOWN,         /* session or attempt ended; text: why, in words for the operator; retry_ms until the next attempt */
    LINK_ACKED,        /* token: PUBACK received */
    LINK_FAILED,       /* token: not delivered; permanent: refused for good (text), else send again */
    LINK_MESSAGE,      /* topic, payload; valid until the next link_next */
    LINK_REFUSED       /* a subscription was refused; text */
};

struct link_event {
    enum link_event_type type;
    uint64_t token;
    int permanent;
    int protocol, window, session_present;
    int broker;                       /* 0: the first */
    int64_t valid_from_s, valid_to_s; /* of all certificates that the broker showed (Unix s) */
    int64_t retry_ms;
    const char *topic;
    const void *payload;
    size_t payload_bytes;
    int retained;
    uint64_t receipt; /* of a LINK_MESSAGE, or of the message that a LINK_REFUSED is about: for link_accept; 0: none */
    char text[384];
};

/* Checks and copies the configuration, reads certificates and key, once (errors name the file). Connecting begins with
 * the first link_next. 0, -EINVAL, -EBADMSG, -ENOENT, -EKEYREJECTED, -ENOMEM. */
int link_create(const struct link_config *config, struct link **out, char *why, size_t why_size);

/* Disconnects cleanly (waiting at most timeout_ms; 0: not at all, the will fires) and releases. */
void link_destroy(struct link *l, int timeout_ms);

/* The broker that the session is with, or that is tried. */
struct link_broker link_broker(const struct link *l);
/* Unix time at which the client certificate ends; 0: none. */
int64_t link_expiry(const struct link *l);
/* Whether the wall clock can be believed (the default). When not, certificates are judged by floor_s, a time that has
 * certainly passed (0: none known): what ended before has expired. Counts from the next attempt on. */
void link_set_clock(struct link *l, int known, int64_t floor_s);

/* Trials: new credentials, or another broker, are proven by a link of their own beside the session that works.
 * link_try makes one for broker number i with l's settings and credentials, under another client id, without will,
 * subscriptions and session state. */
int link_try(const struct link *l, int i, const char *client_id, struct link **out, char *why, size_t why_size);
/* Ends the session in good order, waiting up to some seconds for what is in flight, and begins one with broker number i
 * at once (LINK_DOWN, LINK_UP). */
void link_move(struct link *l, int i);
/* Takes brokers, credentials, server name, user, password, protocol and keepalive over from a trial, which is left with
 * l's and is good for link_destroy only; then as link_move to the broker that the trial reached. */
void link_adopt(struct link *l, struct link *trial);

/* Topics to be subscribed on every connect (QoS 1). At most 16; before or after connecting. */
int link_subscribe(struct link *l, const char *filter);

/* With manual_ack: the message is safe with its owner, the broker need not send it again. Messages are accepted in the order in
 * which they came. What is not accepted comes again in the next session (same client id, session_expiry_s above 0). A receipt
 * of an earlier session is ignored: that message comes again. 0, -ENOMEM, -ENOBUFS (it comes again). */
int link_accept(struct link *l, uint64_t receipt);

/* Waits for the next event, at most timeout_ms. Returns its type, or -errno when the link cannot go on. */
int link_next(struct link *l, struct link_event *event, int timeout_ms);

/* Ends a link_next that waits, from any thread. */
void link_wake(struct link *l);

/* Messages that link_publish would accept now (0 when down). */
int link_room(const struct link *l);

struct link_property { /* MQTT 5 user property; left out under 3.1.1 */
    const char *key, *value;
};

/* Hands a message over. Exactly one LINK_ACKED or LINK_FAILED with this token follows when it returns 0 (also for QoS 0).
 * -ENOTCONN, -EAGAIN (no room), -EMSGSIZE, -EINVAL: nothing follows. */
int link_publish(struct link *l, const char *topic, const void *payload, size_t bytes, int qos, int retained,
                 const struct link_property *properties, int property_count, uint64_t token);

#endif
