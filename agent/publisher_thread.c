/* publisher_thread.c - what the publisher's thread does: link, outbox, retained topics, pushes and
 * commands. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/command.h"
#include "agent/log.h"
#include "agent/payload.h"
#include "agent/publisher_internal.h"

#define STOP_MS 3000                  /* for what is in flight when the agent ends */
#define TOKEN_OWN (UINT64_C(1) << 63) /* tokens that are no sequence numbers */

static int64_t monotonic_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int64_t unix_s(void)
{
    return (int64_t)time(NULL);
}

static void set_state(struct publisher *p, int connected, int protocol, const char *text)
{
    pthread_mutex_lock(&p->lock);
    p->stats.connected = connected;
    p->stats.protocol = protocol;
    p->stats.sessions += connected != 0;
    if (!connected) {
        p->stats.drained = 0;
        p->stats.broker[0] = '\0';
    }
    snprintf(p->stats.state, sizeof p->stats.state, "%s", text);
    pthread_mutex_unlock(&p->lock);
}

/* The same failure, again and again for days, is one line and then one in a hundred. */
void publisher_tell_failure(struct publisher *p, const char *text, int64_t retry_ms)
{
    set_state(p, 0, 0, text);
    if (strcmp(p->told, text) == 0 && ++p->told_again % 100 != 0)
        return;
    if (strcmp(p->told, text) != 0)
        p->told_again = 0;
    snprintf(p->told, sizeof p->told, "%s", text);
    if (retry_ms == 0) /* at once: elsewhere, or with the older MQTT */
        log_info("broker: %s", text);
    else
        log_warning("broker: %s; next attempt in %" PRId64 " s", text, (retry_ms + 999) / 1000);
}

static int is_stopping(struct publisher *p)
{
    pthread_mutex_lock(&p->lock);
    const int stopping = p->stopping;
    pthread_mutex_unlock(&p->lock);
    return stopping;
}

/* Sleeps, unless the agent stops or other settings come. */
static void pause_ms(struct publisher *p, int64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    pthread_mutex_lock(&p->lock);
    while (!p->stopping && !p->handed &&
           pthread_cond_timedwait(&p->changed, &p->lock, &until) != ETIMEDOUT) {
    }
    pthread_mutex_unlock(&p->lock);
}

/* ---- what arrives ---- */

/* Puts a message into the inbox: 0, or -EBUSY when it is full. */
static int deliver(struct publisher *p, const struct publisher_message *m)
{
    static const int room[] = {PUBLISHER_COMMANDS, PUBLISHER_CANDIDATES, PUBLISHER_REFUSALS};
    const enum publisher_kind kind = publisher_kind(m);
    pthread_mutex_lock(&p->lock);
    const int full = p->inbox_kinds[kind] >= room[kind];
    if (!full) {
        p->inbox[p->inbox_count++] = *m;
        p->inbox_kinds[kind]++;
    }
    pthread_mutex_unlock(&p->lock);
    const uint64_t one = 1;
    if (!full && write(p->event_fd, &one, sizeof one) < 0)
        log_warning("eventfd: %s", strerror(errno));
    return full ? -EBUSY : 0;
}

static void publish_own(struct publisher *p);

static void announce(struct publisher *p, const char *state, const struct candidate *c,
                     const char *reason)
{
    char *text = payload_model(p->config->device, state, c->family, c->version, c->name, c->sha256,
                               reason, unix_s() * 1000);
    if (text)
        publisher_set(p, PUBLISHER_MODEL, text);
    free(text);
    publish_own(p);
}

static void receive_bundle(struct publisher *p, const struct link_event *e)
{
    struct candidate first = {0}; /* what is known before anything is checked */
    uint8_t digest[32];
    pki_sha256(e->payload, e->payload_bytes, digest);
    pki_hex(digest, sizeof digest, first.sha256);
    log_info("model: bundle of %zu bytes received", e->payload_bytes);
    announce(p, "received", &first, "");
    void *bytes = malloc(e->payload_bytes ? e->payload_bytes : 1);
    struct candidate *c = NULL;
    if (bytes) {
        memcpy(bytes, e->payload, e->payload_bytes);
        c = candidate_check(bytes, e->payload_bytes, p->config->model_keys, unix_s());
    }
    if (c && deliver(p, &(struct publisher_message){.candidate = c}) == 0)
        return;
    if (c) { /* the meters are slower than the operator; the refusal is reported like any other */
        candidate_refuse(c, -EBUSY, "busy with other bundles; push it again");
        if (deliver(p, &(struct publisher_message){.candidate = c}) == 0)
            return;
    }
    announce(p, "refused", c ? c : &first, c ? c->reason : "out of memory");
    candidate_free(c);
}

static void receive_command(struct publisher *p, const struct link_event *e)
{
    const char *problem = NULL;
    if (e->retained) {
        /* It would be executed anew at every connect. */
        log_warning("command: a retained command is ignored; publish it without the retain flag");
        return;
    }
    struct publisher_message m = {.command_bytes = e->payload_bytes};
    if (e->payload_bytes > COMMAND_MAX_BYTES)
        problem = "command: larger than 4096 bytes";
    else if (!(m.command = malloc(e->payload_bytes + 1)))
        problem = "out of memory";
    if (!problem) {
        memcpy(m.command, e->payload, e->payload_bytes);
        m.command[e->payload_bytes] = '\0';
        if (deliver(p, &m) == 0)
            return;
        problem = "busy: too many commands wait";
        free(m.command);
    }
    char *reply = command_refusal(problem);
    if (reply)
        publisher_reply(p, reply);
    free(reply);
}

static void receive(struct publisher *p, const struct link_event *e)
{
    struct topic_parts parts;
    if (e->payload_bytes == 0) /* also how a retained message is removed: not refused, but told */
        log_warning("broker: empty message on %.120s ignored: expected a bundle or a JSON command",
                    e->topic);
    else if (topic_parse(e->topic, p->config->base, &parts) < 0)
        log_warning("broker: message on the unexpected topic %.120s", e->topic);
    else if (parts.kind == TOPIC_PUSH || parts.kind == TOPIC_GROUP_PUSH)
        receive_bundle(p, e);
    else if (parts.kind == TOPIC_COMMAND)
        receive_command(p, e);
}

/* ---- what is sent beside the outbox ---- */

/* Publishes changed retained topics and replies, as far as there is room. */
static void publish_own(struct publisher *p)
{
    struct link *l = p->link; /* only this thread writes it */
    for (int i = 0; i < PUBLISHER_RETAINED; i++) {
        pthread_mutex_lock(&p->lock);
        p->dirty[i] |= p->changed_retained[i];
        p->changed_retained[i] = 0;
        char *text = p->up && p->dirty[i] && p->retained[i] ? strdup(p->retained[i]) : NULL;
        pthread_mutex_unlock(&p->lock);
        if (text && link_publish(l, p->topics[i], text, strlen(text), 1, 1, NULL, 0,
                                 TOKEN_OWN + (uint64_t)i) == 0) {
            p->dirty[i] = 0;
            p->own_flight++;
        }
        free(text);
    }
    while (p->up && link_room(l) > 0) {
        pthread_mutex_lock(&p->lock);
        char *reply = p->reply_count > 0 ? p->replies[0] : NULL;
        if (reply)
            memmove(p->replies, p->replies + 1, (size_t)--p->reply_count * sizeof *p->replies);
        pthread_mutex_unlock(&p->lock);
        if (!reply)
            break;
        if (link_publish(l, p->reply_topic, reply, strlen(reply), 1, 0, NULL, 0,
                         TOKEN_OWN + PUBLISHER_RETAINED) < 0)
            log_warning("command: a reply could not be sent");
        else
            p->own_flight++;
        free(reply);
    }
}

static void answered(struct publisher *p, const struct link_event *e, int64_t now)
{
    if (!(e->token & TOKEN_OWN)) {
        if (e->type == LINK_ACKED)
            drain_acked(p->drain, e->token, now);
        else
            drain_failed(p->drain, e->token, e->permanent, e->text, now);
        return;
    }
    const uint64_t own = e->token - TOKEN_OWN;
    p->own_flight--;
    if (e->type != LINK_FAILED)
        return;
    if (e->permanent)
        log_error("broker: refuses %s: %s",
                  own < PUBLISHER_RETAINED ? p->topics[own] : p->reply_topic, e->text);
    else if (own < PUBLISHER_RETAINED)
        p->dirty[own] = 1;
}

static void came_up(struct publisher *p, const struct link_event *e, int64_t now)
{
    const struct link_broker b = link_broker(p->link);
    p->up = 1;
    p->told[0] = '\0';
    for (int i = 0; i < PUBLISHER_RETAINED; i++)
        p->dirty[i] = 1;
    set_state(p, 1, e->protocol, e->text);
    publisher_link_up(p, e, now);
    log_info("broker: connected to %s:%u, MQTT %s, %s%s", b.host, (unsigned)b.port,
             e->protocol == 5 ? "5" : "3.1.1", e->text, e->session_present ? ", resumed" : "");
    drain_session(p->drain);
}

static void handle(struct publisher *p, const struct link_event *e, int64_t now)
{
    switch (e->type) {
    case LINK_UP:
        came_up(p, e, now);
        break;
    case LINK_DOWN:
        p->up = 0;
        publisher_tell_failure(p, e->text, e->retry_ms);
        break;
    case LINK_ACKED:
    case LINK_FAILED:
        answered(p, e, now);
        break;
    case LINK_MESSAGE:
        receive(p, e);
        break;
    case LINK_REFUSED:
        log_error("broker: %s", e->text);
        break;
    default:
        break;
    }
}

/* ---- the thread ---- */

static int open_store(struct publisher *p)
{
    char why[320] = "";
    if (!p->store && store_open(p->database, &p->store, NULL, why, sizeof why) < 0) {
        publisher_tell_failure(p, why, PUBLISHER_RETRY_MS);
        return -EIO;
    }
    if (!p->drain && drain_create(p->store, p->config->base, p->config->device, &p->drain) < 0)
        return -ENOMEM;
    drain_limit(p->drain, p->config->drain_rate);
    return 0;
}

static void publish_stats(struct publisher *p, int damaged)
{
    struct drain_stats d;
    drain_get_stats(p->drain, &d);
    pthread_mutex_lock(&p->lock);
    p->stats.damaged |= damaged;
    p->stats.sent = d.sent;
    p->stats.acknowledged = d.acknowledged;
    p->stats.failed = d.failed;
    p->stats.parked = d.parked;
    p->stats.drained = p->up && !p->work && drain_is_empty(p->drain);
    pthread_mutex_unlock(&p->lock);
}

/* One turn: waits for the link, sends, deletes. Returns -errno when the link cannot go on. */
static int turn(struct publisher *p, int stopping)
{
    struct link_event e;
    int64_t now = monotonic_ms();
    const int wait = publisher_tend_link(p, now);
    const int type = link_next(p->link, &e, drain_wait(p->drain, now, wait));
    if (type < 0)
        return type;
    now = monotonic_ms();
    handle(p, &e, now);
    pthread_mutex_lock(&p->lock);
    if (p->work)
        drain_wake(p->drain);
    p->work = 0;
    const int hold = p->hold;
    pthread_mutex_unlock(&p->lock);
    publish_own(p);
    int rc = 0;
    if (p->up && !stopping && !hold)
        rc = drain_fill(p->drain, p->link, now);
    if (rc == 0)
        rc = drain_commit(p->drain, now, stopping);
    if (rc < 0)
        log_warning("outbox: %s; trying again",
                    rc == -ENOMEM ? strerror(ENOMEM) : store_error(p->store));
    publish_stats(p, rc == -EBADMSG);
    return 0;
}

/* Lets what is in flight come to its end and the last status be acknowledged. */
static void finish(struct publisher *p)
{
    const int64_t until = monotonic_ms() + STOP_MS;
    struct drain_stats d = {0};
    while (p->up && monotonic_ms() < until) {
        if (turn(p, 1) < 0)
            break;
        drain_get_stats(p->drain, &d);
        if (d.in_flight == 0 && p->own_flight == 0 && !p->dirty[PUBLISHER_STATUS])
            break;
    }
    if (p->drain)
        drain_commit(p->drain, monotonic_ms(), 1);
    publisher_drop_link(p, p->up ? 1000 : 0);
}

void *publisher_run(void *context)
{
    struct publisher *p = context;
    while (!is_stopping(p)) {
        if (open_store(p) < 0 || (!p->link && publisher_make_link(p) < 0)) {
            pause_ms(p, PUBLISHER_RETRY_MS);
            continue;
        }
        const int rc = turn(p, 0);
        if (rc < 0) {
            publisher_tell_failure(p, strerror(-rc), PUBLISHER_RETRY_MS);
            publisher_drop_link(p, 0);
            pause_ms(p, PUBLISHER_RETRY_MS);
        }
    }
    finish(p);
    drain_destroy(p->drain);
    store_close(p->store);
    return NULL;
}
