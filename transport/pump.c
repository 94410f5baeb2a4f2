/* pump.c - one loop over poll(): up (Paho to broker) and down (broker to Paho), one buffer each. */
#include "transport/pump.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/ack.h"
#include "transport/dial.h"
#include "transport/frame.h"

#define BUFFER 16384u   /* one TLS record */
#define GOODBYE_MS 3000 /* for the last bytes up, and for the broker to close */
#define ACKS_PER_STEP 64u
#define STEPS_PER_LOOK 64 /* between two looks at the orders, under load */

struct pump {
    const struct pump_config *config;
    struct client *tls;
    struct frame frame;
    struct ack ack;
    uint8_t up[BUFFER], raw[BUFFER], down[BUFFER + FRAME_GROWTH];
    size_t up_have, up_sent;     /* from Paho, not yet taken by TLS */
    size_t raw_have, raw_used;   /* from TLS, not yet filtered */
    size_t down_have, down_sent; /* filtered, not yet taken by Paho */
    int paho_gone;               /* end of file was read: up holds all there is */
    int paho_deaf;               /* it takes nothing more; there may be bytes to read still */
    int broker_gone;
    int bad_mqtt;
    int hold;
    short tcp_events, paho_events; /* to wait for */
};

static int blocked(void)
{
    return errno == EAGAIN || errno == EINTR;
}

/* Between two of Paho's packets: the owner's acknowledgements, when there are some. */
static void take_accepted(struct pump *p)
{
    uint16_t ids[ACKS_PER_STEP];
    if (!p->config->accepted || !ack_between(&p->ack))
        return;
    size_t n = p->config->accepted(p->config->context, ids, ACKS_PER_STEP);
    for (size_t i = 0; i < n; i++)
        ack_put(p->up + i * ACK_BYTES, ids[i]);
    p->up_have = n * ACK_BYTES;
    p->up_sent = 0;
}

/* Each step moves what it can and returns 1 when it moved something. */
static int step_up(struct pump *p)
{
    if (p->up_sent == p->up_have)
        take_accepted(p);
    if (p->up_sent == p->up_have && !p->paho_gone) {
        ssize_t n = recv(p->config->paho, p->up, sizeof p->up, 0);
        if (n < 0 && blocked()) {
            p->paho_events |= POLLIN;
            return 0;
        }
        p->up_sent = 0;
        p->up_have = n > 0 ? (size_t)n : 0;
        p->paho_gone = n <= 0;
        if (n > 0 && p->config->accepted)
            p->up_have = ack_filter(&p->ack, p->up, p->up_have);
        if (p->up_have == 0)
            return 1;
    }
    if (p->up_sent == p->up_have)
        return 0;
    int n = client_write(p->tls, p->up + p->up_sent, p->up_have - p->up_sent);
    if (n == CLIENT_WANT_READ || n == CLIENT_WANT_WRITE) {
        p->tcp_events |= n == CLIENT_WANT_READ ? POLLIN : POLLOUT;
        return 0;
    }
    if (n < 0) {
        p->broker_gone = 1;
        return 0;
    }
    p->up_sent += (size_t)n;
    return 1;
}

static int step_read(struct pump *p)
{
    if (p->raw_used < p->raw_have || p->hold || p->broker_gone)
        return 0;
    int n = client_read(p->tls, p->raw, sizeof p->raw);
    if (n == CLIENT_WANT_READ || n == CLIENT_WANT_WRITE) {
        p->tcp_events |= n == CLIENT_WANT_READ ? POLLIN : POLLOUT;
        return 0;
    }
    p->raw_used = 0;
    p->raw_have = n > 0 ? (size_t)n : 0;
    p->broker_gone = n <= 0;
    return 1;
}

static int step_down(struct pump *p)
{
    int moved = step_read(p);
    if (p->down_sent == p->down_have && p->raw_used < p->raw_have) {
        size_t used;
        if (frame_filter(&p->frame, p->raw + p->raw_used, p->raw_have - p->raw_used, &used, p->down,
                         &p->down_have) != 0)
            p->bad_mqtt = 1;
        p->raw_used += used;
        p->down_sent = 0;
        moved = 1;
    }
    if (p->down_sent == p->down_have)
        return moved;
    if (p->paho_deaf) {
        p->down_sent = p->down_have;
        return moved;
    }
    ssize_t n =
        send(p->config->paho, p->down + p->down_sent, p->down_have - p->down_sent, MSG_NOSIGNAL);
    if (n < 0 && blocked()) {
        p->paho_events |= POLLOUT;
        return moved;
    }
    p->paho_deaf = n < 0; /* but what it wrote before it closed is still to be read */
    if (n < 0) /* no buffers? It shall see an end, rather than wait for its keepalive */
        (void)shutdown(p->config->paho, SHUT_WR);
    p->down_sent += n > 0 ? (size_t)n : 0;
    return 1;
}

/* Everything from the broker was handed to Paho. */
static int down_empty(const struct pump *p)
{
    return p->raw_used == p->raw_have && p->down_sent == p->down_have;
}

/* Waits for a change and asks for orders. */
static enum pump_order await(struct pump *p, int timeout_ms)
{
    struct pollfd f[3] = {{.fd = p->config->wake, .events = POLLIN},
                          {.fd = p->config->tcp, .events = p->tcp_events},
                          {.fd = p->paho_gone ? -1 : p->config->paho, .events = p->paho_events}};
    /* Hung up, but nothing we wait for would come of it: not to be polled, or the loop spins. */
    if (!p->tcp_events)
        f[1].fd = -1;
    if (!p->paho_events)
        f[2].fd = -1;
    int n = poll(f, 3, timeout_ms);
    if (n <= 0 || !f[0].revents)
        return PUMP_GO_ON;
    return p->config->order(p->config->context, &p->hold);
}

/* Paho has closed its end, and all it wrote was given to TLS. Waits for the broker to close first,
 * so that unread bytes do not turn the close into a reset that overtakes Paho's DISCONNECT (RFC
 * 1122, 4.2.2.13). */
static void say_goodbye(struct pump *p, int64_t deadline)
{
    client_finish(p->tls);
    (void)shutdown(p->config->tcp, SHUT_WR);
    for (int64_t left; (left = deadline - dial_now()) > 0;) {
        ssize_t n = recv(p->config->tcp, p->raw, sizeof p->raw, 0);
        if (n == 0 || (n < 0 && !blocked()))
            return;
        p->tcp_events = POLLIN;
        p->paho_events = 0;
        if (n < 0 && await(p, (int)left) == PUMP_DROP)
            return;
    }
}

enum pump_end pump_run(const struct pump_config *config, struct client *tls)
{
    struct pump p = {.config = config, .tls = tls};
    int64_t deadline = 0; /* set once we are on our way out */
    enum pump_order order = config->order(config->context, &p.hold);

    ack_start(&p.ack);
    frame_start(&p.frame, config->max_packet, config->mqtt5, config->secret);
    for (int steps = 1;; steps++) {
        p.tcp_events = p.paho_events = 0;
        int moved = step_up(&p);
        moved |= step_down(&p);
        if (p.bad_mqtt)
            return PUMP_BAD_MQTT;
        if (p.broker_gone && (down_empty(&p) || p.paho_gone || p.paho_deaf))
            return PUMP_THEIRS;
        if (p.paho_gone && p.up_sent == p.up_have) {
            say_goodbye(&p, dial_now() + GOODBYE_MS);
            return PUMP_OURS;
        }
        if ((p.paho_gone || order == PUMP_END) && deadline == 0)
            deadline = dial_now() + GOODBYE_MS;
        int left = deadline ? (int)(deadline - dial_now()) : -1;
        if (order == PUMP_DROP || (deadline && left <= 0))
            return PUMP_OURS;
        if (moved && steps % STEPS_PER_LOOK != 0)
            continue;
        enum pump_order next = await(&p, moved ? 0 : left);
        if (next == PUMP_DROP)
            return PUMP_OURS; /* before another byte goes up: it might be a DISCONNECT */
        order = next == PUMP_GO_ON ? order : next;
    }
}
