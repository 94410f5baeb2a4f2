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

enum session_state { SESSION_IDLE, SESSION_CONNECTING, SESSION_READY };

struct link {
    struct link_config config; /* with its own strings */
    struct mailbox box;
    struct channel *channel;
    MQTTAsync paho;
    int version; /* MQTTVERSION_... of paho */
    enum session_state state;
    int64_t timer_ms; /* IDLE: next attempt; CONNECTING: give up */
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
/* Subscribes to filter i of the session that is up. */
void session_subscribe(struct link *l, unsigned i);
/* The next of what has come in, as an event: 1, or 0 when there is none. */
int session_take_event(struct link *l, struct link_event *event);
/* What the passing of time brings, the next attempt or the end of one: 1 when it makes an event. */
int session_take_timer(struct link *l, int64_t now, struct link_event *event);

#endif
