/* mailbox.h - what Paho's callbacks leave for the owner of a link; internal to transport.
 *
 * Paho calls back on its own threads under its global lock, so the callbacks here only put things
 * down under the mailbox's lock and signal. Rule: never call Paho while holding that lock. Bounded:
 * results live in slots made beforehand, notes in a ring, and when messages pile up the channel
 * stops reading from the broker.
 */
#ifndef TRANSPORT_MAILBOX_H
#define TRANSPORT_MAILBOX_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include <MQTTAsync.h>

#include "transport/channel.h"

#define MAILBOX_NOTES 64u
#define MAILBOX_FILTERS 16u

struct mailbox;

/* A message on its way: context of its send. */
struct mailbox_slot {
    struct mailbox *box;
    struct mailbox_slot *next; /* in the list of finished ones, or of free ones */
    uint64_t token;
    int busy;   /* handed to Paho, no result yet */
    int code;   /* 0: acknowledged; else Paho's code */
    int reason; /* MQTT 5 reason code */
};

enum mailbox_kind {
    MAILBOX_CONNECTED = 1,
    MAILBOX_FAILED,       /* connect: code, reason */
    MAILBOX_LOST,         /* reason: from the broker's DISCONNECT, 0 without */
    MAILBOX_DISCONNECTED, /* our own disconnect is done */
    MAILBOX_SUBSCRIPTION  /* refused: filter, reason */
};

struct mailbox_note {
    enum mailbox_kind kind;
    int code, reason;
    int session_present, mqtt_version;
    uint32_t receive_maximum, maximum_packet; /* 0: not told */
    unsigned filter;
};

struct mailbox_message {
    struct mailbox_message *next;
    char *topic;
    MQTTAsync_message *message;
    size_t bytes;
    uint32_t too_large; /* the size announced: the payload was dropped */
    uint64_t receipt;   /* of channel_receipt; 0: QoS 0 */
};

struct mailbox_subscription { /* context of a subscribe */
    struct mailbox *box;
    unsigned filter;
};

struct mailbox {
    pthread_mutex_t lock;
    int event_fd;
    struct channel *channel;
    size_t max_message, max_queued; /* bytes */
    struct mailbox_subscription subscriptions[MAILBOX_FILTERS];

    /* under the lock */
    int woken;
    struct mailbox_note notes[MAILBOX_NOTES];
    unsigned note_first, note_count;
    struct mailbox_slot *done_first, *done_last;
    struct mailbox_message *message_first, *message_last;
    size_t queued_bytes, queued_count;
};

int mailbox_init(struct mailbox *b, size_t max_message);
/* After Paho's handle is gone. */
void mailbox_clear(struct mailbox *b);
void mailbox_wake(struct mailbox *b);
/* Waits for a signal at most timeout_ms. */
void mailbox_wait(struct mailbox *b, int timeout_ms);

/* Take the oldest of each: 1, or 0 when there is none. */
int mailbox_take_woken(struct mailbox *b);
int mailbox_take_note(struct mailbox *b, struct mailbox_note *out);
struct mailbox_slot *mailbox_take_done(struct mailbox *b);
struct mailbox_message *mailbox_take_message(struct mailbox *b);
void mailbox_free_message(struct mailbox_message *m);
/* Puts a result down for a slot that Paho will not finish any more. */
void mailbox_finish(struct mailbox_slot *s, int code, int reason);

/* Paho's callbacks; the context is the mailbox, a slot or a subscription. */
void mailbox_on_connect(void *box, MQTTAsync_successData *data);
void mailbox_on_connect5(void *box, MQTTAsync_successData5 *data);
void mailbox_on_connect_failure(void *box, MQTTAsync_failureData *data);
void mailbox_on_connect_failure5(void *box, MQTTAsync_failureData5 *data);
void mailbox_on_lost(void *box, char *cause);
void mailbox_on_disconnected5(void *box, MQTTProperties *properties, enum MQTTReasonCodes reason);
int mailbox_on_message(void *box, char *topic, int topic_length, MQTTAsync_message *message);
void mailbox_on_sent(void *slot, MQTTAsync_successData *data);
void mailbox_on_sent5(void *slot, MQTTAsync_successData5 *data);
void mailbox_on_send_failure(void *slot, MQTTAsync_failureData *data);
void mailbox_on_send_failure5(void *slot, MQTTAsync_failureData5 *data);
void mailbox_on_subscribed(void *subscription, MQTTAsync_successData *data);
void mailbox_on_subscribe_failure(void *subscription, MQTTAsync_failureData *data);
void mailbox_on_subscribe_failure5(void *subscription, MQTTAsync_failureData5 *data);
void mailbox_on_goodbye(void *box, MQTTAsync_successData *data);
void mailbox_on_goodbye5(void *box, MQTTAsync_successData5 *data);
void mailbox_on_goodbye_failure(void *box, MQTTAsync_failureData *data);
void mailbox_on_goodbye_failure5(void *box, MQTTAsync_failureData5 *data);

#endif
