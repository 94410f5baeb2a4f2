/* session.h - the inside of a link: its state, connecting and back-off, events; internal to
 * transport (link.c). */
#ifndef TRANSPORT_SESSION_H
#define TRANSPORT_SESSION_H

#include "transport/channel.h"
#include "transport/link.h"
#include "transport/mailbox.h"

/* Topic and properties of an incoming PUBLISH, beside its payload: what a packet may be larger than
 * max_message. */
#define SESSION_PACKET_OVERHEAD 1024u

/* How long a session that is moved waits for what is in flight, and for Paho after that. */
#define SESSION_LEAVE_MS 3000
#define SESSION_LEAVE_EXTRA_MS 2000

enum session_state { SESSION_IDLE, SESSION_CONNECTING, SESSION_READY, SESSION_LEAVING };

struct link {
    struct link_config config; /* with its own strings */
    struct credentials *credentials;
    int broker_count, broker; /* the one that is tried, or that the session is with */
    struct mailbox box;
    struct channel *channel;
    MQTTAsync paho;
    int version; /* MQTTVERSION_... of paho */
    enum session_state state;
    int64_t timer_ms; /* IDLE: next attempt; CONNECTING, LEAVING: give up */
    int64_t up_since_ms;
    unsigned failures; /* since the last stable session */
    int window;
    uint32_t maximum_packet; /* of the broker; 0: not told */
    struct mailbox_slot *slots, *free_slots;
    int used_slots;
    char *filters[MAILBOX_FILTERS];
    unsigned filter_count;
    struct mailbox_message *current; /* that the owner is reading */
    int messages_next;               /* take turns between results and messages */
};

/* Makes Paho's handle for this version of MQTT (a handle has one version). 0, -EINVAL, -ENOMEM. */
int session_make(struct link *l, int version);
/* Destroys it; what was in flight fails (to be sent again). */
void session_drop(struct link *l);
/* Full jitter: uniform below a limit that doubles with each round of failures through the brokers,
 * so that a fleet does not come back in step (Brooker, "Exponential Backoff and Jitter", 2015).
 * failures from 1. */
int64_t session_backoff(int64_t min_ms, int64_t max_ms, unsigned failures, int brokers);
struct link_broker session_broker(const struct link *l, int i);
/* Lets Paho end the session, after at most timeout_ms for what is in flight; a note tells. 0 or
 * -ENOTCONN. */
int session_disconnect(struct link *l, int timeout_ms);
/* Begins to end the session (or attempt) in good order; the next one is with broker i, at once. */
void session_leave(struct link *l, int i);
/* Subscribes to filter i of the session that is up. */
void session_subscribe(struct link *l, unsigned i);
/* The next of what has come in, as an event: 1, or 0 when there is none. */
int session_take_event(struct link *l, struct link_event *event);
/* What the passing of time brings, the next attempt or the end of one: 1 when it makes an event. */
int session_take_timer(struct link *l, int64_t now, struct link_event *event);

#endif
