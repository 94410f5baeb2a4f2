/* link.c - the owner's side of an MQTT session: connecting, back-off, window, events. */
#include "transport/link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "transport/dial.h"
#include "transport/mailbox.h"
#include "transport/reason.h"
#include "transport/tls.h"

#define PACKET_OVERHEAD 1024u /* topic and properties of an incoming PUBLISH, beside its payload   \
                               */
#define PAHO_EXTRA_S                                                                               \
    10 /* Paho waits longer than the channel, so that the channel's reason comes first */
#define PATIENCE_MS 30000 /* beyond that, without a callback, Paho is taken for stuck */
#define INFLIGHT_MOST 1000

enum link_state { LINK_IDLE, LINK_CONNECTING, LINK_READY };

struct link {
    struct link_config config; /* with its own strings */
    struct mailbox box;
    struct channel *channel;
    MQTTAsync paho;
    int version; /* MQTTVERSION_... of paho */
    enum link_state state;
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

/* Paho would send everything through this proxy, in the clear, even to the private channel (Paho
 * issue 1344). Before main no other thread can be reading the environment. */
__attribute__((constructor)) static void forget_proxy(void)
{
    unsetenv("http_proxy");
}

static int copy_text(const char **field)
{
    if (!*field)
        return 0;
    *field = strdup(*field);
    return *field ? 0 : -ENOMEM;
}

static const char **text_field(struct link_config *c, int i)
{
    const char **fields[] = {&c->host,       &c->client_id,   &c->ca_path,  &c->cert_path,
                             &c->key_path,   &c->server_name, &c->username, &c->password,
                             &c->will_topic, &c->will_payload};
    return i < (int)(sizeof fields / sizeof fields[0]) ? fields[i] : NULL;
}

static int check_config(const struct link_config *c, char *why, size_t why_size)
{
    const char *wrong = NULL;
    if (!c->host || !*c->host || strlen(c->host) > 253)
        wrong = "host: expected a name or an address";
    else if (c->port == 0)
        wrong = "port: expected 1 to 65535";
    else if (!c->client_id || !*c->client_id)
        wrong = "client id: expected a text";
    else if (!c->ca_path)
        wrong = "ca: expected the path of the CA certificates";
    else if (!c->cert_path != !c->key_path)
        wrong = "cert and key: expected both or none";
    else if (c->server_name && (!*c->server_name || strlen(c->server_name) > 253))
        wrong = "server name: expected a name or an address";
    else if (!c->will_topic != !c->will_payload)
        wrong = "will: expected topic and payload, or none";
    else if (c->protocol != 0 && c->protocol != 4 && c->protocol != 5)
        wrong = "protocol: expected 0, 4 or 5";
    else if (c->keepalive_s < 0 || c->connect_timeout_s < 0 || c->max_inflight < 0 ||
             c->max_inflight > INFLIGHT_MOST || c->backoff_min_ms < 0 || c->backoff_max_ms < 0 ||
             c->stable_s < 0)
        wrong = "times and limits: expected numbers that are not negative, in flight at most 1000";
    else if (c->max_message > (64u << 20) + (4u << 20))
        wrong = "largest message: expected at most 68 MiB";
    return wrong ? tls_why(why, why_size, EINVAL, "%s", wrong) : 0;
}

static void set_defaults(struct link_config *c)
{
    if (!c->server_name)
        c->server_name = c->host;
    if (!c->keepalive_s)
        c->keepalive_s = 30;
    if (!c->connect_timeout_s)
        c->connect_timeout_s = 20;
    if (!c->max_inflight)
        c->max_inflight = 20;
    if (!c->backoff_min_ms)
        c->backoff_min_ms = 1000;
    if (!c->backoff_max_ms)
        c->backoff_max_ms = 120000;
    if (!c->stable_s)
        c->stable_s = 30;
    if (!c->max_message)
        c->max_message = 1u << 20;
}

static void drop_paho(struct link *l)
{
    if (l->paho)
        MQTTAsync_destroy(&l->paho);
    l->paho = NULL;
    /* No callback comes any more: what had none gets its result here. */
    for (int i = 0; i < l->config.max_inflight; i++)
        mailbox_finish(&l->slots[i], MQTTASYNC_OPERATION_INCOMPLETE, 0);
}

static int make_paho(struct link *l, int version)
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

static void free_link(struct link *l)
{
    const char **field;
    for (int i = 0; (field = text_field(&l->config, i)) != NULL; i++)
        free((char *)*field);
    for (unsigned i = 0; i < l->filter_count; i++)
        free(l->filters[i]);
    free(l->slots);
    free(l);
}

static int copy_config(struct link *l, const struct link_config *config)
{
    const char **field;
    int rc = 0;
    l->config = *config;
    set_defaults(&l->config);
    for (int i = 0; (field = text_field(&l->config, i)) != NULL; i++) {
        if (rc != 0)
            *field = NULL; /* not ours to free */
        else
            rc = copy_text(field);
    }
    return rc;
}

static int open_channel(struct link *l, char *why, size_t why_size)
{
    struct channel_config c = {.host = l->config.host,
                               .port = l->config.port,
                               .tls = {.ca_path = l->config.ca_path,
                                       .cert_path = l->config.cert_path,
                                       .key_path = l->config.key_path,
                                       .server_name = l->config.server_name},
                               .timeout_ms = l->config.connect_timeout_s * 1000,
                               .max_packet = (uint32_t)l->config.max_message + PACKET_OVERHEAD};
    int rc = channel_open(&c, &l->channel, why, why_size);
    l->box.channel = l->channel;
    return rc;
}

int link_create(const struct link_config *config, struct link **out, char *why, size_t why_size)
{
    *out = NULL;
    int rc = check_config(config, why, why_size);
    if (rc != 0)
        return rc;
    struct link *l = calloc(1, sizeof *l);
    if (!l)
        return tls_why(why, why_size, ENOMEM, "link: out of memory");
    rc = copy_config(l, config);
    l->slots = rc == 0 ? calloc((size_t)l->config.max_inflight, sizeof *l->slots) : NULL;
    if (!l->slots) {
        free_link(l);
        return tls_why(why, why_size, ENOMEM, "link: out of memory");
    }
    for (int i = 0; i < l->config.max_inflight; i++) {
        l->slots[i].box = &l->box;
        l->slots[i].next = l->free_slots;
        l->free_slots = &l->slots[i];
    }
    rc = mailbox_init(&l->box, l->config.max_message);
    if (rc != 0) {
        free_link(l);
        return tls_why(why, why_size, -rc, "link: %s", strerror(-rc));
    }
    rc = open_channel(l, why, why_size);
    if (rc == 0) {
        rc = make_paho(l, l->config.protocol == 4 ? MQTTVERSION_3_1_1 : MQTTVERSION_5);
        if (rc != 0)
            tls_why(why, why_size, -rc, "link: the MQTT library refuses the client id");
    }
    if (rc != 0) {
        channel_close(l->channel, 0);
        mailbox_clear(&l->box);
        free_link(l);
        return rc;
    }
    *out = l;
    return 0;
}

/* A clean end: Paho writes DISCONNECT, then the channel delivers it. */
static void say_goodbye(struct link *l, int timeout_ms)
{
    MQTTAsync_disconnectOptions o = MQTTAsync_disconnectOptions_initializer;
    struct mailbox_note note;
    int64_t deadline = dial_now() + timeout_ms;
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
    if (MQTTAsync_disconnect(l->paho, &o) != MQTTASYNC_SUCCESS)
        return;
    for (int64_t left; (left = deadline - dial_now()) > 0;) {
        while (mailbox_take_note(&l->box, &note))
            if (note.kind == MAILBOX_DISCONNECTED || note.kind == MAILBOX_LOST)
                return;
        mailbox_wait(&l->box, (int)left);
    }
}

void link_destroy(struct link *l, int timeout_ms)
{
    if (!l)
        return;
    if (timeout_ms > 0 && l->state == LINK_READY)
        say_goodbye(l, timeout_ms);
    else
        channel_drop(l->channel);
    drop_paho(l);
    channel_close(l->channel, timeout_ms);
    mailbox_free_message(l->current);
    mailbox_clear(&l->box);
    free_link(l);
}

/* ---- connecting ---- */

static int64_t random_below(int64_t n)
{
    uint64_t r = 0;
    if (n <= 1 || getrandom(&r, sizeof r, 0) != sizeof r)
        return 0;
    return (int64_t)(r % (uint64_t)n);
}

/* Full jitter: uniform below a limit that doubles with each failure, so that a fleet does not come
 * back in step (Brooker, "Exponential Backoff and Jitter", 2015). */
static int64_t backoff(const struct link *l)
{
    int64_t limit = l->config.backoff_min_ms;
    for (unsigned i = 1; i < l->failures && limit < l->config.backoff_max_ms; i++)
        limit *= 2;
    if (limit > l->config.backoff_max_ms)
        limit = l->config.backoff_max_ms;
    return 1 + random_below(limit);
}

/* The session or attempt is over: when the next one comes, and with which version of MQTT. */
static void go_down(struct link *l, struct link_event *event, int version_refused)
{
    int64_t now = dial_now(), wait;
    int auto_version = l->config.protocol == 0;
    int fall_back = version_refused && auto_version && l->version == MQTTVERSION_5;

    if (l->state == LINK_READY && now - l->up_since_ms >= (int64_t)l->config.stable_s * 1000)
        l->failures = 0;
    if (!fall_back && l->failures < 64)
        l->failures++;
    wait = fall_back ? 0 : backoff(l);
    int version = fall_back ? MQTTVERSION_3_1_1 : auto_version ? MQTTVERSION_5 : l->version;
    /* A handle has one version; after 3.1.1, MQTT 5 is tried again. And a broker that says DISCONNECT but leaves the
     * connection open leaves Paho connected (Paho issue 1619). */
    if (l->paho && (version != l->version || MQTTAsync_isConnected(l->paho))) {
        drop_paho(l);
        l->version = version;
        (void)make_paho(l, version);
    }
    l->state = LINK_IDLE;
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
                   (uint32_t)l->config.max_message + PACKET_OVERHEAD);
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
        (void)make_paho(l, l->version);
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
        drop_paho(l);
        go_down(l, event, 0);
        return 1;
    }
    l->state = LINK_CONNECTING;
    l->timer_ms =
        dial_now() + (int64_t)(l->config.connect_timeout_s + PAHO_EXTRA_S) * 1000 + PATIENCE_MS;
    return 0;
}

static void subscribe(struct link *l, unsigned i)
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
    l->state = LINK_READY;
    l->up_since_ms = dial_now();
    l->window = l->config.max_inflight;
    /* A window above the broker's stalls Paho for a second each time (Paho issue 1457). */
    if (note->receive_maximum && note->receive_maximum < (uint32_t)l->window)
        l->window = (int)note->receive_maximum;
    l->maximum_packet = note->maximum_packet;
    for (unsigned i = 0; i < l->filter_count; i++)
        subscribe(l, i);
    event->type = LINK_UP;
    event->protocol = l->version == MQTTVERSION_5 ? 5 : 4;
    event->window = l->window;
    event->session_present = note->session_present;
    snprintf(event->text, sizeof event->text, "%s", status.text);
}

/* Why an attempt failed: the broker's answer when there was one, else what the channel knows. */
static void on_failed(struct link *l, const struct mailbox_note *note, struct link_event *event)
{
    struct channel_status status;
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
                 l->config.host, l->config.port, reason_connack(refusal), refusal);
    else if (status.phase == CHANNEL_IDLE)
        snprintf(event->text, sizeof event->text,
                 "%s:%u: the MQTT library did not use its private channel (%d)", l->config.host,
                 l->config.port, note->code);
    else if (status.phase == CHANNEL_OPEN)
        snprintf(event->text, sizeof event->text,
                 "%s:%u: TLS is established, but the broker does not answer MQTT", l->config.host,
                 l->config.port);
    else
        snprintf(event->text, sizeof event->text, "%s:%u: %s", l->config.host, l->config.port,
                 status.text[0] ? status.text : "no session came about in time");
    go_down(l, event, version);
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
    else
        snprintf(event->text, sizeof event->text,
                 "session lost: the broker did not answer within the keepalive time");
    go_down(l, event, 0);
}

/* A note as an event; 0 when it says nothing new. */
static int take_note(struct link *l, struct link_event *event)
{
    struct mailbox_note note;
    if (!mailbox_take_note(&l->box, &note))
        return 0;
    switch (note.kind) {
    case MAILBOX_CONNECTED:
        if (l->state == LINK_CONNECTING)
            on_connected(l, &note, event);
        break;
    case MAILBOX_FAILED:
        if (l->state == LINK_CONNECTING)
            on_failed(l, &note, event);
        break;
    case MAILBOX_LOST:
        if (l->state == LINK_READY)
            on_lost(l, &note, event);
        break;
    case MAILBOX_SUBSCRIPTION:
        if (note.reason >= 0x80) { /* else the session ended before the answer */
            event->type = LINK_REFUSED;
            snprintf(event->text, sizeof event->text, "subscription to %.200s refused: %s (%d)",
                     l->filters[note.filter], reason_text(note.reason), note.reason);
        }
        break;
    case MAILBOX_DISCONNECTED:
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
    event->permanent = s->reason >= 0x80;
    if (event->permanent)
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

static int take_event(struct link *l, struct link_event *event)
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
static int take_timer(struct link *l, int64_t now, struct link_event *event)
{
    if (l->state == LINK_READY || now < l->timer_ms)
        return 0;
    if (l->state == LINK_IDLE)
        return begin(l, event);
    drop_paho(l);
    snprintf(event->text, sizeof event->text, "%s:%u: the MQTT library gave no answer; begun anew",
             l->config.host, l->config.port);
    go_down(l, event, 0);
    return 1;
}

int link_next(struct link *l, struct link_event *event, int timeout_ms)
{
    int64_t now = dial_now(), deadline = now + (timeout_ms > 0 ? timeout_ms : 0);
    mailbox_free_message(l->current);
    l->current = NULL;
    for (;;) {
        memset(event, 0, sizeof *event);
        if (take_event(l, event) || take_timer(l, now, event))
            return (int)event->type;
        if (mailbox_take_woken(&l->box) || now >= deadline)
            return LINK_NONE;
        int64_t until = deadline;
        if (l->state != LINK_READY && l->timer_ms < until)
            until = l->timer_ms;
        mailbox_wait(&l->box, until > now ? (int)(until - now) : 0);
        now = dial_now();
    }
}

void link_wake(struct link *l)
{
    mailbox_wake(&l->box);
}

int link_subscribe(struct link *l, const char *filter)
{
    if (!filter || !*filter || strlen(filter) > 65535)
        return -EINVAL;
    if (l->filter_count == MAILBOX_FILTERS)
        return -ENOSPC;
    char *copy = strdup(filter);
    if (!copy)
        return -ENOMEM;
    l->filters[l->filter_count++] = copy;
    if (l->state == LINK_READY)
        subscribe(l, l->filter_count - 1);
    return 0;
}

int link_room(const struct link *l)
{
    return l->state == LINK_READY && l->used_slots < l->window ? l->window - l->used_slots : 0;
}

static int add_properties(MQTTProperties *out, const struct link_property *properties, int count,
                          size_t *bytes)
{
    for (int i = 0; i < count; i++) {
        size_t key = strlen(properties[i].key), value = strlen(properties[i].value);
        if (key > 65535 || value > 65535)
            return -EINVAL;
        MQTTProperty p = {.identifier = MQTTPROPERTY_CODE_USER_PROPERTY};
        p.value.data.len = (int)key;
        p.value.data.data = (char *)properties[i].key; /* copied by MQTTProperties_add */
        p.value.value.len = (int)value;
        p.value.value.data = (char *)properties[i].value;
        if (MQTTProperties_add(out, &p) != 0)
            return -ENOMEM;
        *bytes += key + value + 5;
    }
    return 0;
}

static int send_slot(struct link *l, struct mailbox_slot *s, const char *topic,
                     MQTTAsync_message *message)
{
    MQTTAsync_responseOptions o = MQTTAsync_responseOptions_initializer;
    o.context = s;
    if (l->version == MQTTVERSION_5) {
        o.onSuccess5 = mailbox_on_sent5;
        o.onFailure5 = mailbox_on_send_failure5;
    } else {
        o.onSuccess = mailbox_on_sent;
        o.onFailure = mailbox_on_send_failure;
    }
    s->busy = 1;
    int rc = MQTTAsync_sendMessage(l->paho, topic, message, &o);
    if (rc == MQTTASYNC_SUCCESS)
        return 0;
    s->busy = 0;
    if (rc == MQTTASYNC_DISCONNECTED)
        return -ENOTCONN;
    return rc == MQTTASYNC_BAD_UTF8_STRING ? -EINVAL : -EAGAIN;
}

int link_publish(struct link *l, const char *topic, const void *payload, size_t bytes, int qos,
                 int retained, const struct link_property *properties, int property_count,
                 uint64_t token)
{
    MQTTAsync_message message = MQTTAsync_message_initializer;
    size_t topic_bytes = topic ? strlen(topic) : 0, extra = 0;

    if (topic_bytes == 0 || topic_bytes > 65535 || qos < 0 || qos > 1 || (!payload && bytes > 0))
        return -EINVAL;
    if (l->state != LINK_READY)
        return -ENOTCONN;
    if (link_room(l) == 0)
        return -EAGAIN;
    int rc = l->version == MQTTVERSION_5
                 ? add_properties(&message.properties, properties, property_count, &extra)
                 : 0;
    /* Fixed header, topic length, packet id and property length together take at most 13 bytes. */
    size_t most = l->maximum_packet ? l->maximum_packet : 268435455u;
    if (rc == 0 && (bytes > most || bytes + topic_bytes + extra + 13 > most))
        rc = -EMSGSIZE;
    if (rc == 0) {
        struct mailbox_slot *s = l->free_slots;
        l->free_slots = s->next; /* before the send: the result may be there at once, and uses next */
        message.payload = (void *)payload; /* copied by Paho */
        message.payloadlen = (int)bytes;
        message.qos = qos;
        message.retained = retained;
        s->token = token;
        rc = send_slot(l, s, topic, &message);
        if (rc == 0) {
            l->used_slots++;
        } else {
            s->next = l->free_slots;
            l->free_slots = s;
        }
    }
    MQTTProperties_free(&message.properties);
    return rc;
}
