/* session.c - connecting, back-off and fall-back; events from what Paho's callbacks left. */
#include "transport/session.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "transport/dial.h"
#include "transport/reason.h"

/* Paho waits longer than the channel, so that the channel's reason comes first. */
#define PAHO_EXTRA_S 10
/* Beyond that, without a callback, Paho is taken for stuck. */
#define PATIENCE_MS 30000
/* After so many failures, a session that does not last either is blamed on what Paho sends in it:
 * before MQTT 5 a broker cannot say so. */
#define SHORT_SESSIONS 3
/* Messages that the broker sends ahead of the owner's acceptance (MQTT 5). */
#define UNACCEPTED_MOST 128

void session_drop(struct link *l)
{
    if (l->paho)
        MQTTAsync_destroy(&l->paho);
    l->paho = NULL;
    /* No callback comes any more: what had none gets its result here. */
    for (int i = 0; i < l->config.max_inflight; i++)
        mailbox_finish(&l->slots[i], MQTTASYNC_OPERATION_INCOMPLETE, 0);
}

int session_make(struct link *l, int version)
{
    char uri[64];
    MQTTAsync_createOptions options = MQTTAsync_createOptions_initializer;
    channel_uri(l->channel, uri, sizeof uri);
    options.MQTTVersion = version;
    options.sendWhileDisconnected = 0;
    options.maxBufferedMessages = l->config.max_inflight + (int)MAILBOX_FILTERS;
    options.restoreMessages = 0;
    int rc = MQTTAsync_createWithOptions(&l->paho, uri, l->config.client_id,
                                         MQTTCLIENT_PERSISTENCE_NONE, NULL, &options);
    if (rc != MQTTASYNC_SUCCESS) {
        l->paho = NULL;
        return rc == MQTTASYNC_BAD_UTF8_STRING ? -EINVAL : -ENOMEM;
    }
    l->version = version;
    MQTTAsync_setCallbacks(l->paho, &l->box, mailbox_on_lost, mailbox_on_message, NULL);
    if (version == MQTTVERSION_5)
        MQTTAsync_setDisconnected(l->paho, &l->box, mailbox_on_disconnected5);
    return 0;
}

/* ---- connecting ---- */

static int64_t random_below(int64_t n)
{
    uint64_t r = 0;
    if (n <= 1 || getrandom(&r, sizeof r, 0) != sizeof r)
        return 0;
    return (int64_t)(r % (uint64_t)n);
}

struct link_broker session_broker(const struct link *l, int i)
{
    return i <= 0 ? (struct link_broker){l->config.host, l->config.port} : l->config.more[i - 1];
}

int64_t session_backoff(int64_t min_ms, int64_t max_ms, unsigned failures, int brokers)
{
    int64_t limit = min_ms;
    for (unsigned i = 1; i <= (failures - 1) / (unsigned)brokers && limit < max_ms; i++)
        limit *= 2;
    if (limit > max_ms)
        limit = max_ms;
    return 1 + random_below(limit);
}

/* What ended the session or attempt. */
enum end { END_FAULT, END_VERSION, END_ELSEWHERE, END_MALFORMED, END_LEFT };

static int next_version(const struct link *l, int fall_back)
{
    if (fall_back || l->config.protocol == 4)
        return MQTTVERSION_3_1_1;
    return MQTTVERSION_5; /* after 3.1.1 tried again, so that an upgraded broker is noticed */
}

/* When the next attempt comes, where, and with which version of MQTT. */
static void go_down(struct link *l, struct link_event *event, enum end end)
{
    int64_t now = dial_now(), wait = 0;
    const int fall_back =
        end == END_VERSION && l->config.protocol == 0 && l->version == MQTTVERSION_5;
    const int stable =
        l->state == SESSION_READY && now - l->up_since_ms >= (int64_t)l->config.stable_s * 1000;

    if (stable || end == END_LEFT)
        l->failures = 0;
    if (!fall_back && end != END_LEFT) {
        if (l->failures < UINT_MAX)
            l->failures++;
        wait = session_backoff(l->config.backoff_min_ms, l->config.backoff_max_ms, l->failures,
                               l->broker_count);
        if (!stable || end == END_ELSEWHERE)
            l->broker = (l->broker + 1) % l->broker_count;
    }
    const int version = next_version(l, fall_back);
    /* A handle has one version. A broker that says DISCONNECT but leaves the connection open leaves
     * Paho connected (Paho issue 1619). And Paho sends again what it had under way: when memory
     * failed it that is garbage, and ends every session that follows. What was under way then gets
     * its result, and its owner sends it again. */
    const int poisoned = l->state == SESSION_READY && !stable &&
                         (end == END_MALFORMED || l->failures > SHORT_SESSIONS);
    if (l->paho &&
        (end == END_LEFT || version != l->version || MQTTAsync_isConnected(l->paho) || poisoned)) {
        session_drop(l);
        (void)session_make(l, version);
    }
    l->version = version;
    l->state = SESSION_IDLE;
    l->window = 0;
    l->timer_ms = now + wait;
    event->type = LINK_DOWN;
    event->retry_ms = wait;
}

static void set_callbacks(struct link *l, MQTTAsync_connectOptions *o)
{
    o->context = &l->box;
    if (l->version == MQTTVERSION_5) {
        o->onSuccess5 = mailbox_on_connect5;
        o->onFailure5 = mailbox_on_connect_failure5;
    } else {
        o->onSuccess = mailbox_on_connect;
        o->onFailure = mailbox_on_connect_failure;
    }
}

static void add_number(MQTTProperties *properties, enum MQTTPropertyCodes code, uint32_t value)
{
    MQTTProperty p = {.identifier = code};
    p.value.integer4 = value;
    (void)MQTTProperties_add(properties, &p);
}

static int call_connect(struct link *l)
{
    MQTTAsync_connectOptions o5 = MQTTAsync_connectOptions_initializer5;
    MQTTAsync_connectOptions o = MQTTAsync_connectOptions_initializer;
    MQTTAsync_willOptions will = MQTTAsync_willOptions_initializer;
    MQTTProperties properties = MQTTProperties_initializer;

    if (l->version == MQTTVERSION_5) {
        o = o5;
        o.cleanstart = l->config.session_expiry_s == 0;
        if (l->config.session_expiry_s)
            add_number(&properties, MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL,
                       l->config.session_expiry_s);
        add_number(&properties, MQTTPROPERTY_CODE_MAXIMUM_PACKET_SIZE,
                   (uint32_t)l->config.max_message + SESSION_PACKET_OVERHEAD);
        if (l->config.manual_ack) {
            MQTTProperty most = {.identifier = MQTTPROPERTY_CODE_RECEIVE_MAXIMUM};
            most.value.integer2 = UNACCEPTED_MOST;
            (void)MQTTProperties_add(&properties, &most);
        }
        o.connectProperties = &properties;
    } else {
        o.MQTTVersion = MQTTVERSION_3_1_1;
        o.cleansession = l->config.session_expiry_s == 0;
    }
    o.keepAliveInterval = l->config.keepalive_s;
    o.connectTimeout = l->config.connect_timeout_s + PAHO_EXTRA_S;
    o.maxInflight = l->config.max_inflight + (int)MAILBOX_FILTERS;
    o.username = l->config.username;
    o.password = l->config.password;
    o.automaticReconnect = 0;
    if (l->config.will_topic) {
        will.topicName = l->config.will_topic;
        will.message = l->config.will_payload;
        will.retained = 1;
        will.qos = 1;
        o.will = &will;
    }
    set_callbacks(l, &o);
    const struct link_broker broker = session_broker(l, l->broker);
    channel_aim(l->channel, broker.host, broker.port,
                l->config.server_name ? l->config.server_name : broker.host, l->credentials);
    channel_set_mqtt5(l->channel, l->version == MQTTVERSION_5);
    int rc = MQTTAsync_connect(l->paho, &o);
    MQTTProperties_free(&properties);
    return rc;
}

/* Begins an attempt. 0, or 1 with the event when it failed at once. */
static int begin(struct link *l, struct link_event *event)
{
    struct mailbox_note stale;
    int rc = MQTTASYNC_FAILURE;
    if (!l->paho)
        (void)session_make(l, l->version);
    while (mailbox_take_note(&l->box, &stale)) {
        /* of the session before */
    }
    if (getenv("http_proxy"))
        snprintf(event->text, sizeof event->text,
                 "http_proxy was set while the program ran; the MQTT library would obey it");
    else if (!l->paho)
        snprintf(event->text, sizeof event->text, "out of memory");
    else if ((rc = call_connect(l)) != MQTTASYNC_SUCCESS)
        snprintf(event->text, sizeof event->text, "the MQTT library cannot connect (%d)", rc);
    if (rc != MQTTASYNC_SUCCESS) {
        session_drop(l);
        go_down(l, event, END_FAULT);
        return 1;
    }
    l->state = SESSION_CONNECTING;
    l->timer_ms =
        dial_now() + (int64_t)(l->config.connect_timeout_s + PAHO_EXTRA_S) * 1000 + PATIENCE_MS;
    return 0;
}

void session_subscribe(struct link *l, unsigned i)
{
    MQTTAsync_responseOptions o = MQTTAsync_responseOptions_initializer;
    o.context = &l->box.subscriptions[i];
    if (l->version == MQTTVERSION_5) {
        o.onFailure5 = mailbox_on_subscribe_failure5;
    } else {
        o.onSuccess = mailbox_on_subscribed;
        o.onFailure = mailbox_on_subscribe_failure;
    }
    /* An error means that the session has just ended; the next one subscribes again. */
    (void)MQTTAsync_subscribe(l->paho, l->filters[i], 1, &o);
}

/* ---- events ---- */

static void on_connected(struct link *l, const struct mailbox_note *note, struct link_event *event)
{
    struct channel_status status;
    channel_status(l->channel, &status);
    l->state = SESSION_READY;
    l->up_since_ms = dial_now();
    l->window = l->config.max_inflight;
    /* A window above the broker's stalls Paho for a second each time (Paho issue 1457). */
    if (note->receive_maximum && note->receive_maximum < (uint32_t)l->window)
        l->window = (int)note->receive_maximum;
    l->maximum_packet = note->maximum_packet;
    for (unsigned i = 0; i < l->filter_count; i++)
        session_subscribe(l, i);
    event->type = LINK_UP;
    event->broker = l->broker;
    event->valid_from_s = status.valid_from_s;
    event->valid_to_s = status.valid_to_s;
    event->protocol = l->version == MQTTVERSION_5 ? 5 : 4;
    event->window = l->window;
    event->session_present = note->session_present;
    snprintf(event->text, sizeof event->text, "%s", status.text);
}

/* Why an attempt failed: the broker's answer when there was one, else what the channel knows. */
static void on_failed(struct link *l, const struct mailbox_note *note, struct link_event *event)
{
    struct channel_status status;
    const struct link_broker broker = link_broker(l);
    int refusal = note->reason >= 0x80 ? note->reason : note->code > 0 ? note->code : 0;
    int opened, version;

    channel_status(l->channel, &status);
    opened = status.phase == CHANNEL_OPEN ||
             (status.phase == CHANNEL_CLOSED && status.reached == CHANNEL_OPEN);
    /* Brokers of before MQTT 5 answer with code 1, or hang up. */
    version = reason_is_version(refusal) ||
              (refusal == 0 && status.phase == CHANNEL_CLOSED && opened && status.alert < 0);
    if (refusal)
        snprintf(event->text, sizeof event->text, "%s:%u: the broker refuses the session: %s (%d)",
                 broker.host, broker.port, reason_connack(refusal), refusal);
    else if (status.phase == CHANNEL_IDLE)
        snprintf(event->text, sizeof event->text,
                 "%s:%u: the MQTT library did not use its private channel (%d)", broker.host,
                 broker.port, note->code);
    else if (status.phase == CHANNEL_OPEN)
        snprintf(event->text, sizeof event->text,
                 "%s:%u: TLS is established, but the broker does not answer MQTT", broker.host,
                 broker.port);
    else
        snprintf(event->text, sizeof event->text, "%s:%u: %s", broker.host, broker.port,
                 status.text[0] ? status.text : "no session came about in time");
    go_down(l, event, version ? END_VERSION : END_FAULT);
    if (event->retry_ms == 0) {
        size_t n = strlen(event->text);
        snprintf(event->text + n, sizeof event->text - n, "; trying MQTT 3.1.1");
    }
}

/* The broker says itself that another one should be asked (MQTT 5, 3.14.2.1). */
static int sends_elsewhere(int reason)
{
    return reason == 0x89 || reason == 0x8b || reason == 0x9c || reason == 0x9d;
}

static void on_lost(struct link *l, const struct mailbox_note *note, struct link_event *event)
{
    struct channel_status status;
    channel_status(l->channel, &status);
    if (note->reason)
        snprintf(event->text, sizeof event->text, "the broker ended the session: %s (%d)",
                 reason_text(note->reason), note->reason);
    else if (status.phase == CHANNEL_CLOSED && status.text[0])
        snprintf(event->text, sizeof event->text, "session lost: %s", status.text);
    else /* Paho gave up while the channel stood: it does not say which of the two it was */
        snprintf(event->text, sizeof event->text,
                 "session lost: the broker did not answer within the keepalive time, or sent "
                 "something that is not MQTT");
    const int malformed =
        note->reason == 0x81 || note->reason == 0x82; /* or against the protocol */
    go_down(l, event,
            sends_elsewhere(note->reason) ? END_ELSEWHERE
            : malformed                   ? END_MALFORMED
                                          : END_FAULT);
}

/* ---- leaving ---- */

int session_disconnect(struct link *l, int timeout_ms)
{
    MQTTAsync_disconnectOptions o = MQTTAsync_disconnectOptions_initializer;
    o.timeout = timeout_ms;
    o.context = &l->box;
    if (l->version == MQTTVERSION_5) {
        o.onSuccess5 = mailbox_on_goodbye5;
        o.onFailure5 = mailbox_on_goodbye_failure5;
    } else {
        o.onSuccess = mailbox_on_goodbye;
        o.onFailure = mailbox_on_goodbye_failure;
    }
    channel_hold(l->channel, 0);
    return MQTTAsync_disconnect(l->paho, &o) == MQTTASYNC_SUCCESS ? 0 : -ENOTCONN;
}

void session_leave(struct link *l, int i)
{
    if (l->state == SESSION_READY) {
        (void)session_disconnect(l,
                                 SESSION_LEAVE_MS); /* when it fails, the timer ends the session */
        l->timer_ms = dial_now() + SESSION_LEAVE_MS + SESSION_LEAVE_EXTRA_MS;
    } else {
        l->timer_ms = dial_now();
    }
    l->broker = i;
    l->failures = 0;
    l->state = SESSION_LEAVING;
}

static void on_left(struct link *l, struct link_event *event)
{
    const struct link_broker broker = link_broker(l);
    snprintf(event->text, sizeof event->text, "moving to %s:%u", broker.host, broker.port);
    go_down(l, event, END_LEFT);
}

/* A note as an event; 0 when it says nothing new. */
static int take_note(struct link *l, struct link_event *event)
{
    struct mailbox_note note;
    if (!mailbox_take_note(&l->box, &note))
        return 0;
    switch (note.kind) {
    case MAILBOX_CONNECTED:
        if (l->state == SESSION_CONNECTING)
            on_connected(l, &note, event);
        break;
    case MAILBOX_FAILED:
        if (l->state == SESSION_CONNECTING)
            on_failed(l, &note, event);
        break;
    case MAILBOX_LOST:
        if (l->state == SESSION_READY)
            on_lost(l, &note, event);
        else if (l->state == SESSION_LEAVING)
            on_left(l, event);
        break;
    case MAILBOX_SUBSCRIPTION:
        if (note.reason >= 0x80) { /* else the session ended before the answer */
            event->type = LINK_REFUSED;
            snprintf(event->text, sizeof event->text, "subscription to %.200s refused: %s (%d)",
                     l->filters[note.filter], reason_text(note.reason), note.reason);
        }
        break;
    case MAILBOX_DISCONNECTED:
        if (l->state == SESSION_LEAVING)
            on_left(l, event);
        break;
    }
    return event->type != LINK_NONE;
}

static int take_result(struct link *l, struct link_event *event)
{
    struct mailbox_slot *s = mailbox_take_done(&l->box);
    if (!s)
        return 0;
    event->type = s->code == 0 ? LINK_ACKED : LINK_FAILED;
    event->token = s->token;
    /* MQTT 5, 3.4.2.1: quota exceeded and packet identifier in use pass, the others do not. */
    event->permanent = s->reason >= 0x80 && s->reason != 0x97 && s->reason != 0x91;
    if (s->reason >= 0x80)
        snprintf(event->text, sizeof event->text, "the broker refuses the message: %s (%d)",
                 reason_text(s->reason), s->reason);
    else if (s->code != 0)
        snprintf(event->text, sizeof event->text, "not delivered: the session ended before (%d)",
                 s->code);
    s->next = l->free_slots;
    l->free_slots = s;
    l->used_slots--;
    return 1;
}

static int take_message(struct link *l, struct link_event *event)
{
    struct mailbox_message *m = mailbox_take_message(&l->box);
    if (!m)
        return 0;
    l->current = m;
    event->topic = m->topic;
    event->receipt = m->receipt;
    if (m->too_large) {
        event->type = LINK_REFUSED;
        snprintf(event->text, sizeof event->text,
                 "message on %.200s dropped: %u bytes; expected at most %zu", m->topic,
                 m->too_large, l->config.max_message);
        return 1;
    }
    event->type = LINK_MESSAGE;
    event->payload = m->message->payload;
    event->payload_bytes = (size_t)m->message->payloadlen;
    event->retained = m->message->retained;
    return 1;
}

int session_take_event(struct link *l, struct link_event *event)
{
    if (take_note(l, event))
        return 1;
    /* In turns: a stream of acknowledgements must not hold up a command, nor the other way round.
     */
    l->messages_next = !l->messages_next;
    if (l->messages_next)
        return take_message(l, event) || take_result(l, event);
    return take_result(l, event) || take_message(l, event);
}

/* What the passing of time brings: the next attempt, or the end of one. */
int session_take_timer(struct link *l, int64_t now, struct link_event *event)
{
    if (l->state == SESSION_READY || now < l->timer_ms)
        return 0;
    if (l->state == SESSION_IDLE)
        return begin(l, event);
    if (l->state == SESSION_LEAVING) {
        channel_drop(l->channel);
        on_left(l, event);
        return 1;
    }
    const struct link_broker broker = link_broker(l);
    session_drop(l);
    snprintf(event->text, sizeof event->text, "%s:%u: the MQTT library gave no answer; begun anew",
             broker.host, broker.port);
    go_down(l, event, END_FAULT);
    return 1;
}
