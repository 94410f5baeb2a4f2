/* mailbox.c - Paho's callbacks, and what they put down. */
#include "transport/mailbox.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MESSAGES_MAX 256u /* queued, before the channel is held */
#define MESSAGE_COST 256u /* of a message besides its payload, roughly */

int mailbox_init(struct mailbox *b, size_t max_message)
{
    memset(b, 0, sizeof *b);
    b->max_message = max_message;
    b->max_queued = 2 * max_message;
    b->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (b->event_fd < 0)
        return -errno;
    pthread_mutex_init(&b->lock, NULL);
    for (unsigned i = 0; i < MAILBOX_FILTERS; i++)
        b->subscriptions[i] = (struct mailbox_subscription){.box = b, .filter = i};
    return 0;
}

void mailbox_clear(struct mailbox *b)
{
    for (struct mailbox_message *m; (m = b->message_first) != NULL;) {
        b->message_first = m->next;
        mailbox_free_message(m);
    }
    close(b->event_fd);
    pthread_mutex_destroy(&b->lock);
}

static void signal_owner(struct mailbox *b)
{
    uint64_t one = 1;
    if (write(b->event_fd, &one, sizeof one) < 0) {
        /* The counter is full: the owner is awake anyway. */
    }
}

void mailbox_wake(struct mailbox *b)
{
    pthread_mutex_lock(&b->lock);
    b->woken = 1;
    pthread_mutex_unlock(&b->lock);
    signal_owner(b);
}

void mailbox_wait(struct mailbox *b, int timeout_ms)
{
    struct pollfd p = {.fd = b->event_fd, .events = POLLIN};
    uint64_t count;
    if (poll(&p, 1, timeout_ms) > 0 && read(b->event_fd, &count, sizeof count) < 0) {
        /* Emptied between the two calls: nothing is lost, the owner looks anyway. */
    }
}

int mailbox_take_woken(struct mailbox *b)
{
    pthread_mutex_lock(&b->lock);
    int woken = b->woken;
    b->woken = 0;
    pthread_mutex_unlock(&b->lock);
    return woken;
}

static void put_note(struct mailbox *b, const struct mailbox_note *note)
{
    pthread_mutex_lock(&b->lock);
    /* A session makes few notes and the owner takes them; should it sleep, the oldest are of the
     * least use. */
    if (b->note_count == MAILBOX_NOTES) {
        b->note_first = (b->note_first + 1) % MAILBOX_NOTES;
        b->note_count--;
    }
    b->notes[(b->note_first + b->note_count++) % MAILBOX_NOTES] = *note;
    pthread_mutex_unlock(&b->lock);
    signal_owner(b);
}

int mailbox_take_note(struct mailbox *b, struct mailbox_note *out)
{
    pthread_mutex_lock(&b->lock);
    int found = b->note_count > 0;
    if (found) {
        *out = b->notes[b->note_first];
        b->note_first = (b->note_first + 1) % MAILBOX_NOTES;
        b->note_count--;
    }
    pthread_mutex_unlock(&b->lock);
    return found;
}

void mailbox_finish(struct mailbox_slot *s, int code, int reason)
{
    struct mailbox *b = s->box;
    pthread_mutex_lock(&b->lock);
    if (s->busy) { /* one result each, whatever Paho does */
        s->busy = 0;
        s->code = code;
        s->reason = reason;
        s->next = NULL;
        if (b->done_last)
            b->done_last->next = s;
        else
            b->done_first = s;
        b->done_last = s;
    }
    pthread_mutex_unlock(&b->lock);
    signal_owner(b);
}

struct mailbox_slot *mailbox_take_done(struct mailbox *b)
{
    pthread_mutex_lock(&b->lock);
    struct mailbox_slot *s = b->done_first;
    if (s) {
        b->done_first = s->next;
        if (!s->next)
            b->done_last = NULL;
    }
    pthread_mutex_unlock(&b->lock);
    return s;
}

/* Called with the lock held, after the queue changed. */
static void hold_or_release(struct mailbox *b)
{
    if (b->queued_bytes > b->max_queued || b->queued_count > MESSAGES_MAX)
        channel_hold(b->channel, 1);
    else if (b->queued_bytes <= b->max_queued / 2 && b->queued_count <= MESSAGES_MAX / 2)
        channel_hold(b->channel, 0);
}

struct mailbox_message *mailbox_take_message(struct mailbox *b)
{
    pthread_mutex_lock(&b->lock);
    struct mailbox_message *m = b->message_first;
    if (m) {
        b->message_first = m->next;
        if (!m->next)
            b->message_last = NULL;
        b->queued_bytes -= m->bytes;
        b->queued_count--;
        hold_or_release(b);
    }
    pthread_mutex_unlock(&b->lock);
    return m;
}

void mailbox_free_message(struct mailbox_message *m)
{
    if (!m)
        return;
    MQTTAsync_freeMessage(&m->message);
    MQTTAsync_free(m->topic);
    free(m);
}

/* What an MQTT 5 broker says about itself in CONNACK. */
static uint32_t number_property(MQTTProperties *properties, enum MQTTPropertyCodes code)
{
    int64_t v = MQTTProperties_getNumericValue(properties, code);
    return MQTTProperties_hasProperty(properties, code) && v > 0 && v <= UINT32_MAX ? (uint32_t)v
                                                                                    : 0;
}

void mailbox_on_connect(void *box, MQTTAsync_successData *data)
{
    struct mailbox_note n = {.kind = MAILBOX_CONNECTED, .mqtt_version = MQTTVERSION_3_1_1};
    if (data)
        n.session_present = data->alt.connect.sessionPresent;
    put_note(box, &n);
}

void mailbox_on_connect5(void *box, MQTTAsync_successData5 *data)
{
    struct mailbox_note n = {.kind = MAILBOX_CONNECTED, .mqtt_version = MQTTVERSION_5};
    if (data) {
        n.session_present = data->alt.connect.sessionPresent;
        n.receive_maximum = number_property(&data->properties, MQTTPROPERTY_CODE_RECEIVE_MAXIMUM);
        n.maximum_packet =
            number_property(&data->properties, MQTTPROPERTY_CODE_MAXIMUM_PACKET_SIZE);
    }
    put_note(box, &n);
}

void mailbox_on_connect_failure(void *box, MQTTAsync_failureData *data)
{
    struct mailbox_note n = {.kind = MAILBOX_FAILED, .code = data ? data->code : -1};
    put_note(box, &n);
}

void mailbox_on_connect_failure5(void *box, MQTTAsync_failureData5 *data)
{
    struct mailbox_note n = {.kind = MAILBOX_FAILED, .code = -1};
    if (data) {
        n.code = data->code;
        n.reason = (int)data->reasonCode;
    }
    put_note(box, &n);
}

void mailbox_on_lost(void *box, char *cause)
{
    struct mailbox_note n = {.kind = MAILBOX_LOST};
    (void)cause; /* always NULL in Paho */
    put_note(box, &n);
}

void mailbox_on_disconnected5(void *box, MQTTProperties *properties, enum MQTTReasonCodes reason)
{
    struct mailbox_note n = {.kind = MAILBOX_LOST, .reason = (int)reason};
    (void)properties;
    put_note(box, &n);
}

int mailbox_on_message(void *box, char *topic, int topic_length, MQTTAsync_message *message)
{
    struct mailbox *b = box;
    struct mailbox_message *m = NULL;
    size_t bytes = message->payloadlen > 0 ? (size_t)message->payloadlen : 0;

    /* Paho tells a length only when the topic contains a NUL, which MQTT forbids: not for us. */
    if (topic_length > 0 && memchr(topic, 0, (size_t)topic_length)) {
        MQTTAsync_freeMessage(&message);
        MQTTAsync_free(topic);
        return 1;
    }
    m = calloc(1, sizeof *m);
    if (!m)
        return 0; /* Paho keeps it and offers it again */
    m->topic = topic;
    m->message = message;
    m->bytes = bytes + MESSAGE_COST;
    m->receipt = message->qos > 0 ? channel_receipt(b->channel, (uint16_t)message->msgid) : 0;
    m->too_large = channel_notice(b->channel, message->payload, bytes);
    if (bytes > b->max_message)
        m->too_large = (uint32_t)bytes;
    pthread_mutex_lock(&b->lock);
    if (b->message_last)
        b->message_last->next = m;
    else
        b->message_first = m;
    b->message_last = m;
    b->queued_bytes += m->bytes;
    b->queued_count++;
    hold_or_release(b);
    pthread_mutex_unlock(&b->lock);
    signal_owner(b);
    return 1;
}

void mailbox_on_sent(void *slot, MQTTAsync_successData *data)
{
    (void)data;
    mailbox_finish(slot, 0, 0);
}

void mailbox_on_sent5(void *slot, MQTTAsync_successData5 *data)
{
    /* Reasons below 0x80 are successes, "no matching subscribers" among them. */
    (void)data;
    mailbox_finish(slot, 0, 0);
}

void mailbox_on_send_failure(void *slot, MQTTAsync_failureData *data)
{
    mailbox_finish(slot, data && data->code ? data->code : MQTTASYNC_FAILURE, 0);
}

void mailbox_on_send_failure5(void *slot, MQTTAsync_failureData5 *data)
{
    mailbox_finish(slot, data && data->code ? data->code : MQTTASYNC_FAILURE,
                   data ? (int)data->reasonCode : 0);
}

static void put_refusal(void *subscription, int code, int reason)
{
    const struct mailbox_subscription *s = subscription;
    struct mailbox_note n = {
        .kind = MAILBOX_SUBSCRIPTION, .filter = s->filter, .code = code, .reason = reason};
    put_note(s->box, &n);
}

void mailbox_on_subscribed(void *subscription, MQTTAsync_successData *data)
{
    if (data && data->alt.qos == 0x80) /* 3.1.1 reports a refusal as a QoS */
        put_refusal(subscription, 0, 0x80);
}

void mailbox_on_subscribe_failure(void *subscription, MQTTAsync_failureData *data)
{
    put_refusal(subscription, data ? data->code : MQTTASYNC_FAILURE, 0);
}

void mailbox_on_subscribe_failure5(void *subscription, MQTTAsync_failureData5 *data)
{
    put_refusal(subscription, data ? data->code : MQTTASYNC_FAILURE,
                data ? (int)data->reasonCode : 0);
}

static void put_goodbye(void *box)
{
    struct mailbox_note n = {.kind = MAILBOX_DISCONNECTED};
    put_note(box, &n);
}

void mailbox_on_goodbye(void *box, MQTTAsync_successData *data)
{
    (void)data;
    put_goodbye(box);
}

void mailbox_on_goodbye5(void *box, MQTTAsync_successData5 *data)
{
    (void)data;
    put_goodbye(box);
}

void mailbox_on_goodbye_failure(void *box, MQTTAsync_failureData *data)
{
    (void)data;
    put_goodbye(box);
}

void mailbox_on_goodbye_failure5(void *box, MQTTAsync_failureData5 *data)
{
    (void)data;
    put_goodbye(box);
}
