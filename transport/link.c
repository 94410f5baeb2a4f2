/* link.c - a link as its owner sees it: making and ending it, publishing, waiting for events. */
#include "transport/link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/dial.h"
#include "transport/session.h"
#include "transport/tls.h"

#define INFLIGHT_MOST 1000

/* Paho would send everything through this proxy, in the clear, even to the private channel (Paho
 * issue 1344). Before main no other thread can be reading the environment. */
__attribute__((constructor)) static void prepare_paho(void)
{
    unsetenv("http_proxy");
    /* Paho traces every call into a ring of 122 KiB that nobody reads. A trace that one of its
     * threads writes while the last handle is destroyed makes a new ring, which is leaked at the
     * next create. */
    MQTTAsync_setTraceLevel(MQTTASYNC_TRACE_ERROR); /* the least that is heeded */
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
    const int own = (int)(sizeof fields / sizeof fields[0]);
    if (i < own)
        return fields[i];
    return i < own + LINK_BROKERS - 1 ? &c->more[i - own].host : NULL;
}

static int is_host(const char *host)
{
    return host && *host && strlen(host) <= 253;
}

static const char *check_brokers(const struct link_config *c)
{
    if (!is_host(c->host))
        return "host: expected a name or an address";
    if (c->port == 0)
        return "port: expected 1 to 65535";
    for (int i = 0; i < LINK_BROKERS - 1 && c->more[i].host; i++)
        if (!is_host(c->more[i].host) || c->more[i].port == 0)
            return "more brokers: expected names or addresses, and ports of 1 to 65535";
    return NULL;
}

static int check_config(const struct link_config *c, char *why, size_t why_size)
{
    const char *wrong = check_brokers(c);
    if (wrong)
        return tls_why(why, why_size, EINVAL, "%s", wrong);
    if (!c->client_id || !*c->client_id)
        wrong = "client id: expected a text";
    else if (!c->ca_path)
        wrong = "ca: expected the path of the CA certificates";
    else if (!c->cert_path != !c->key_path)
        wrong = "cert and key: expected both or none";
    else if (c->server_name && !is_host(c->server_name))
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

static void free_link(struct link *l)
{
    const char **field;
    for (int i = 0; (field = text_field(&l->config, i)) != NULL; i++)
        free((char *)*field);
    for (unsigned i = 0; i < l->filter_count; i++)
        free(l->filters[i]);
    free(l->slots);
    credentials_release(l->credentials);
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
    struct channel_config c = {.timeout_ms = l->config.connect_timeout_s * 1000,
                               .max_packet =
                                   (uint32_t)l->config.max_message + SESSION_PACKET_OVERHEAD,
                               .manual_ack = l->config.manual_ack};
    int rc = channel_open(&c, &l->channel, why, why_size);
    l->box.channel = l->channel;
    return rc;
}

static int make_slots(struct link *l)
{
    l->slots = calloc((size_t)l->config.max_inflight, sizeof *l->slots);
    if (!l->slots)
        return -ENOMEM;
    for (int i = 0; i < l->config.max_inflight; i++) {
        l->slots[i].box = &l->box;
        l->slots[i].next = l->free_slots;
        l->free_slots = &l->slots[i];
    }
    return 0;
}

static void count_brokers(struct link *l)
{
    l->broker_count = 1;
    while (l->broker_count < LINK_BROKERS && l->config.more[l->broker_count - 1].host)
        l->broker_count++;
}

/* With credentials that are kept, or read from the files when NULL. */
static int create(const struct link_config *config, struct credentials *credentials,
                  struct link **out, char *why, size_t why_size)
{
    *out = NULL;
    int rc = check_config(config, why, why_size);
    if (rc != 0)
        return rc;
    struct link *l = calloc(1, sizeof *l);
    if (!l)
        return tls_why(why, why_size, ENOMEM, "link: out of memory");
    rc = copy_config(l, config);
    if (rc == 0)
        rc = make_slots(l);
    if (rc == 0)
        rc = mailbox_init(&l->box, l->config.max_message);
    if (rc != 0) {
        free_link(l);
        return tls_why(why, why_size, -rc, "link: %s", strerror(-rc));
    }
    count_brokers(l);
    l->credentials = credentials_keep(credentials);
    if (!credentials)
        rc = credentials_load(config->ca_path, config->cert_path, config->key_path, &l->credentials,
                              why, why_size);
    if (rc == 0)
        rc = open_channel(l, why, why_size);
    if (rc == 0) {
        rc = session_make(l, l->config.protocol == 4 ? MQTTVERSION_3_1_1 : MQTTVERSION_5);
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

int link_create(const struct link_config *config, struct link **out, char *why, size_t why_size)
{
    return create(config, NULL, out, why, why_size);
}

/* ---- trials ---- */

struct link_broker link_broker(const struct link *l)
{
    return session_broker(l, l->broker);
}

int64_t link_expiry(const struct link *l)
{
    return credentials_expiry(l->credentials);
}

void link_set_clock(struct link *l, int known, int64_t floor_s)
{
    channel_set_clock(l->channel, known, floor_s);
}

int link_try(const struct link *l, int i, const char *client_id, struct link **out, char *why,
             size_t why_size)
{
    struct link_config c = l->config;
    const struct link_broker b = session_broker(l, i);
    c.host = b.host;
    c.port = b.port;
    memset(c.more, 0, sizeof c.more);
    c.client_id = client_id;
    c.will_topic = c.will_payload = NULL;
    c.session_expiry_s = 0;
    c.max_inflight = 1;
    return create(&c, l->credentials, out, why, why_size);
}

void link_move(struct link *l, int i)
{
    session_leave(l, i < l->broker_count ? i : 0);
}

static void swap_text(const char **a, const char **b)
{
    const char *kept = *a;
    *a = *b;
    *b = kept;
}

void link_adopt(struct link *l, struct link *trial)
{
    struct link_config *a = &l->config, *b = &trial->config;
    const int keepalive = b->keepalive_s, protocol = b->protocol;
    struct credentials *credentials = l->credentials;
    const uint16_t port = a->port;
    const char **own[] = {&a->host,        &a->ca_path,  &a->cert_path, &a->key_path,
                          &a->server_name, &a->username, &a->password};
    const char **other[] = {&b->host,        &b->ca_path,  &b->cert_path, &b->key_path,
                            &b->server_name, &b->username, &b->password};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        swap_text(own[i], other[i]);
    for (int i = 0; i < LINK_BROKERS - 1; i++) {
        const struct link_broker kept = a->more[i];
        a->more[i] = b->more[i];
        b->more[i] = kept;
    }
    a->port = b->port;
    b->port = port;
    l->credentials = trial->credentials;
    trial->credentials = credentials;
    a->keepalive_s = keepalive;
    a->protocol = protocol;
    const int broker = trial->broker;
    count_brokers(l);
    count_brokers(trial);
    trial->broker = 0;
    session_leave(l, broker);
}

/* A clean end: Paho writes DISCONNECT, then the channel delivers it. */
static void say_goodbye(struct link *l, int timeout_ms)
{
    struct mailbox_note note;
    int64_t deadline = dial_now() + timeout_ms;
    if (session_disconnect(l, timeout_ms) != 0)
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
    if (timeout_ms > 0 && l->state == SESSION_READY)
        say_goodbye(l, timeout_ms);
    else
        channel_drop(l->channel);
    session_drop(l);
    channel_close(l->channel, timeout_ms);
    mailbox_free_message(l->current);
    mailbox_clear(&l->box);
    free_link(l);
}

int link_next(struct link *l, struct link_event *event, int timeout_ms)
{
    int64_t now = dial_now(), deadline = now + (timeout_ms > 0 ? timeout_ms : 0);
    mailbox_free_message(l->current);
    l->current = NULL;
    for (;;) {
        memset(event, 0, sizeof *event);
        if (session_take_event(l, event) || session_take_timer(l, now, event))
            return (int)event->type;
        if (mailbox_take_woken(&l->box) || now >= deadline)
            return LINK_NONE;
        int64_t until = deadline;
        if (l->state != SESSION_READY && l->timer_ms < until)
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
    if (l->state == SESSION_READY)
        session_subscribe(l, l->filter_count - 1);
    return 0;
}

int link_accept(struct link *l, uint64_t receipt)
{
    return receipt ? channel_accept(l->channel, receipt) : 0;
}

int link_room(const struct link *l)
{
    return l->state == SESSION_READY && l->used_slots < l->window ? l->window - l->used_slots : 0;
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
    if (l->state != SESSION_READY)
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
        l->free_slots =
            s->next; /* before the send: the result may be there at once, and uses next */
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
