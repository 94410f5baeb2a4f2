/* channel.c - life of a channel: its number, its thread, its status. The session itself is in
 * pump.c. */
#include "transport/channel.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/dial.h"
#include "transport/frame.h"
#include "transport/pump.h"
#include "transport/tls.h"

#define CHANNELS_MAX 64u
#define PAHO_ROOM (4 << 20)
#define FIRST_WRITE_MS 5000
#define LET_GO_MS 3000 /* Paho closes within milliseconds of the end */
#define DROP_MS 2000   /* the thread sees an order at once, unless the machine is very busy */

/* What a session is made of. */
struct aim {
    char host[254], server_name[254];
    uint16_t port;
    struct credentials *credentials;
    int clock_known;
    int64_t floor_s;
};

struct channel {
    struct channel_config config;
    unsigned number;
    pthread_t thread;
    int wake_fd; /* eventfd: something below changed */
    uint8_t secret[FRAME_SECRET_BYTES];

    pthread_mutex_t lock; /* guards what follows */
    int incoming;         /* our end of a new pair, or -1 */
    int stop, drop, hold, mqtt5;
    struct channel_status status;
    uint16_t *acks; /* packet ids that the owner accepted and that are still to leave */
    size_t ack_count, ack_room;
    struct aim aim;
};

/* Paho's connect() finds its channel by the port number. */
static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static struct channel *registry[CHANNELS_MAX + 1]; /* [1..CHANNELS_MAX] */

static void wake(struct channel *c)
{
    uint64_t one = 1;
    if (write(c->wake_fd, &one, sizeof one) < 0) {
        /* The counter is full: the thread is awake anyway. */
    }
}

int channel_attach(int fd, unsigned number)
{
    int pair[2] = {-1, -1}, error = ECONNREFUSED;
    pthread_mutex_lock(&registry_lock);
    struct channel *c = number <= CHANNELS_MAX ? registry[number] : NULL;
    if (c && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
        error = errno;
        c = NULL;
    }
    /* Paho 1.3.12 goes on with a write that did not fit only once a second, so let much fit (the
     * kernel caps it). */
    int room = PAHO_ROOM;
    if (c)
        (void)setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    if (c && dup3(pair[0], fd, O_CLOEXEC) < 0) {
        error = errno;
        close(pair[1]);
        c = NULL;
    }
    if (pair[0] >= 0)
        close(pair[0]);
    if (c) {
        pthread_mutex_lock(&c->lock);
        if (c->incoming >= 0)
            close(c->incoming);
        c->incoming = pair[1];
        pthread_mutex_unlock(&c->lock);
        wake(c);
    }
    pthread_mutex_unlock(&registry_lock);
    if (!c)
        errno = error;
    return c ? 0 : -1;
}

/* What the pump looks at when it is woken: the session must end. */
static enum pump_order order(void *context, int *hold)
{
    struct channel *c = context;
    uint64_t count;
    if (read(c->wake_fd, &count, sizeof count) < 0) {
        /* Nothing had been counted. */
    }
    pthread_mutex_lock(&c->lock);
    enum pump_order o = c->drop ? PUMP_DROP : c->stop || c->incoming >= 0 ? PUMP_END : PUMP_GO_ON;
    *hold = c->hold;
    pthread_mutex_unlock(&c->lock);
    return o;
}

/* What the owner has accepted, for the pump. */
static size_t take_accepted(void *context, uint16_t *ids, size_t room)
{
    struct channel *c = context;
    pthread_mutex_lock(&c->lock);
    size_t n = c->ack_count < room ? c->ack_count : room;
    if (n > 0) {
        memcpy(ids, c->acks, n * sizeof *ids);
        memmove(c->acks, c->acks + n, (c->ack_count - n) * sizeof *ids);
        c->ack_count -= n;
    }
    pthread_mutex_unlock(&c->lock);
    return n;
}

static void set_phase(struct channel *c, enum channel_phase phase, const char *text)
{
    pthread_mutex_lock(&c->lock);
    if (phase == CHANNEL_CLOSED)
        c->status.reached = c->status.phase;
    c->status.phase = phase;
    snprintf(c->status.text, sizeof c->status.text, "%s", text);
    pthread_mutex_unlock(&c->lock);
}

static void set_failure(struct channel *c, const struct client *tls, int established)
{
    char text[320];
    client_explain(tls, established, text, sizeof text);
    pthread_mutex_lock(&c->lock);
    c->status.code = client_code(tls);
    c->status.alert = client_alert(tls);
    pthread_mutex_unlock(&c->lock);
    set_phase(c, CHANNEL_CLOSED, text);
}

/* The handshake, until deadline. 0: done; else the status says why not. */
static int handshake(struct channel *c, struct client *tls, int fd, int paho, int64_t deadline)
{
    for (;;) {
        int rc = client_handshake(tls), hold;
        if (rc == 0)
            return 0;
        if (rc != CLIENT_WANT_READ && rc != CLIENT_WANT_WRITE) {
            set_failure(c, tls, 0);
            return -1;
        }
        struct pollfd p[3] = {{.fd = fd, .events = rc == CLIENT_WANT_READ ? POLLIN : POLLOUT},
                              {.fd = c->wake_fd, .events = POLLIN},
                              {.fd = paho, .events = 0}};
        int64_t left = deadline - dial_now();
        int n = left > 0 ? poll(p, 3, left > 60000 ? 60000 : (int)left) : 0;
        if (n > 0 && p[1].revents && order(c, &hold) != PUMP_GO_ON) {
            set_phase(c, CHANNEL_CLOSED, "");
            return -1;
        }
        if (n > 0 && (p[2].revents & (POLLHUP | POLLERR))) {
            set_phase(c, CHANNEL_CLOSED, "given up during the TLS handshake");
            return -1;
        }
        if (left <= 0) {
            set_phase(c, CHANNEL_CLOSED,
                      "no answer to the TLS handshake in time: the port is open, but nothing "
                      "speaks TLS there, or the network loses large packets");
            return -1;
        }
    }
}

static void take_aim(struct channel *c, struct aim *aim)
{
    pthread_mutex_lock(&c->lock);
    *aim = c->aim;
    credentials_keep(aim->credentials);
    pthread_mutex_unlock(&c->lock);
}

static void set_open(struct channel *c, const struct client *tls)
{
    char text[320];
    client_describe(tls, text, sizeof text);
    pthread_mutex_lock(&c->lock);
    client_validity(tls, &c->status.valid_from_s, &c->status.valid_to_s);
    pthread_mutex_unlock(&c->lock);
    set_phase(c, CHANNEL_OPEN, text);
}

/* TCP and TLS; -1 with the status set when there is no session. */
static int establish(struct channel *c, int paho, int *fd, struct client **tls)
{
    int64_t deadline = dial_now() + c->config.timeout_ms;
    struct addrinfo *addresses = NULL;
    struct aim aim;
    char text[320];

    take_aim(c, &aim);
    set_phase(c, CHANNEL_RESOLVING, "");
    int rc = dial_resolve(aim.host, aim.port, &addresses, text, sizeof text);
    if (rc == 0) {
        set_phase(c, CHANNEL_CONNECTING, "");
        rc = dial_connect(addresses, deadline, paho, fd, text, sizeof text);
        freeaddrinfo(addresses);
    }
    if (rc == 0) {
        const struct client_config config = {aim.credentials, aim.server_name, aim.clock_known,
                                             aim.floor_s};
        set_phase(c, CHANNEL_HANDSHAKE, "");
        rc = client_open(&config, *fd, tls, text, sizeof text);
    }
    credentials_release(aim.credentials);
    if (rc != 0) {
        set_phase(c, CHANNEL_CLOSED, text);
        return -1;
    }
    if (handshake(c, *tls, *fd, paho, deadline) != 0)
        return -1;
    set_open(c, *tls);
    return 0;
}

/* Ends a session for Paho by an end of file, and takes what it still writes until it has closed its
 * end: none of its writes may fail. One that fails in CONNECT makes 1.3.12 forget the socket but go
 * on polling it, which spins; one that fails in a PUBLISH makes it free what it will send again in
 * the next session, which the broker then calls malformed, and so in every session that follows. */
static void let_go(int paho, int established)
{
    struct pollfd p = {.fd = paho, .events = POLLIN};
    const int64_t deadline = dial_now() + LET_GO_MS;
    uint8_t waste[4096];
    /* It writes CONNECT right after connect(), so this waits only when the attempt failed within
     * microseconds. */
    if (!established)
        (void)poll(&p, 1, FIRST_WRITE_MS);
    (void)shutdown(paho, SHUT_WR);
    for (int64_t left; (left = deadline - dial_now()) > 0;) {
        ssize_t n = recv(paho, waste, sizeof waste, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            break;
        if (n < 0)
            (void)poll(&p, 1, (int)left);
    }
    close(paho);
}

static void run_session(struct channel *c, int paho)
{
    struct client *tls = NULL;
    int fd = -1;
    struct pump_config pump = {.paho = paho,
                               .wake = c->wake_fd,
                               .max_packet = c->config.max_packet,
                               .secret = c->secret,
                               .order = order,
                               .accepted = c->config.manual_ack ? take_accepted : NULL,
                               .context = c};

    int established = establish(c, paho, &fd, &tls) == 0;
    if (established) {
        pthread_mutex_lock(&c->lock);
        pump.mqtt5 = c->mqtt5;
        pthread_mutex_unlock(&c->lock);
        pump.tcp = fd;
        switch (pump_run(&pump, tls)) {
        case PUMP_OURS:
            set_phase(c, CHANNEL_CLOSED, "");
            break;
        case PUMP_THEIRS:
            set_failure(c, tls, 1);
            break;
        case PUMP_BAD_MQTT:
            set_phase(c, CHANNEL_CLOSED,
                      "the broker sent something that is not MQTT, or a packet far too large");
            break;
        }
    }
    client_free(tls);
    if (fd >= 0)
        close(fd);
    let_go(paho, established); /* only now: the status is there when Paho looks */
}

static void *channel_thread(void *context)
{
    struct channel *c = context;
    for (;;) {
        struct pollfd p = {.fd = c->wake_fd, .events = POLLIN};
        int hold;
        pthread_mutex_lock(&c->lock);
        int paho = c->incoming, stop = c->stop;
        c->incoming = -1;
        if (paho >= 0 && !stop) {
            c->drop = 0;
            c->status = (struct channel_status){.attempt = c->status.attempt + 1, .alert = -1};
            c->ack_count = 0; /* packet ids belong to a session */
        }
        pthread_mutex_unlock(&c->lock);
        if (stop) {
            if (paho >= 0)
                close(paho);
            return NULL;
        }
        if (paho >= 0) {
            run_session(c, paho);
            continue; /* it may have been woken for us: look before waiting */
        }
        (void)poll(&p, 1, -1);
        (void)order(c, &hold);
    }
}

static int enrol(struct channel *c)
{
    pthread_mutex_lock(&registry_lock);
    for (unsigned i = 1; i <= CHANNELS_MAX && c->number == 0; i++)
        if (!registry[i]) {
            registry[i] = c;
            c->number = i;
        }
    pthread_mutex_unlock(&registry_lock);
    return c->number ? 0 : -EMFILE;
}

int channel_open(const struct channel_config *config, struct channel **out, char *why,
                 size_t why_size)
{
    int rc = 0;
    *out = NULL;
    if (!channel_is_connect(dlsym(RTLD_DEFAULT, "connect")))
        return tls_why(why, why_size, ENOTSUP,
                       "this program's connect() was taken over by another library (LD_PRELOAD?): "
                       "no private channel to the MQTT library is possible");
    struct channel *c = calloc(1, sizeof *c);
    if (!c)
        return tls_why(why, why_size, ENOMEM, "channel: out of memory");
    c->config = *config;
    c->incoming = -1;
    c->status.alert = -1;
    c->aim.clock_known = 1;
    pthread_mutex_init(&c->lock, NULL);
    c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = c->wake_fd < 0 ? -errno : 0;
    if (rc == 0 && getrandom(c->secret, sizeof c->secret, 0) != sizeof c->secret)
        rc = -EIO;
    if (rc == 0)
        rc = enrol(c);
    if (rc == 0)
        rc = -pthread_create(&c->thread, NULL, channel_thread, c);
    if (rc == 0) {
        *out = c;
        return 0;
    }
    pthread_mutex_lock(&registry_lock);
    registry[c->number] = NULL;
    pthread_mutex_unlock(&registry_lock);
    if (c->wake_fd >= 0)
        close(c->wake_fd);
    pthread_mutex_destroy(&c->lock);
    free(c);
    return tls_why(why, why_size, -rc, "channel: %s", strerror(-rc));
}

/* Until the thread's session has ended. */
static void await_end(struct channel *c, int timeout_ms)
{
    int64_t deadline = dial_now() + timeout_ms;
    struct channel_status s;
    for (;;) {
        channel_status(c, &s);
        if (s.phase == CHANNEL_IDLE || s.phase == CHANNEL_CLOSED || dial_now() >= deadline)
            return;
        (void)poll(NULL, 0, 5);
    }
}

void channel_close(struct channel *c, int flush_ms)
{
    if (!c)
        return;
    pthread_mutex_lock(&registry_lock);
    registry[c->number] = NULL;
    pthread_mutex_unlock(&registry_lock);
    if (flush_ms > 0)
        await_end(c, flush_ms);
    pthread_mutex_lock(&c->lock);
    c->stop = 1;
    c->drop = 1;
    pthread_mutex_unlock(&c->lock);
    wake(c);
    pthread_join(c->thread, NULL);
    if (c->incoming >= 0)
        close(c->incoming);
    close(c->wake_fd);
    pthread_mutex_destroy(&c->lock);
    free(c->acks);
    credentials_release(c->aim.credentials);
    free(c);
}

void channel_uri(const struct channel *c, char *text, size_t size)
{
    snprintf(text, size, "tcp://255.255.255.255:%u", c->number);
}

void channel_status(struct channel *c, struct channel_status *out)
{
    pthread_mutex_lock(&c->lock);
    *out = c->status;
    pthread_mutex_unlock(&c->lock);
}

void channel_aim(struct channel *c, const char *host, uint16_t port, const char *server_name,
                 struct credentials *credentials)
{
    credentials_keep(credentials);
    pthread_mutex_lock(&c->lock);
    struct credentials *old = c->aim.credentials;
    snprintf(c->aim.host, sizeof c->aim.host, "%s", host);
    snprintf(c->aim.server_name, sizeof c->aim.server_name, "%s", server_name);
    c->aim.port = port;
    c->aim.credentials = credentials;
    pthread_mutex_unlock(&c->lock);
    credentials_release(old);
}

void channel_set_clock(struct channel *c, int known, int64_t floor_s)
{
    pthread_mutex_lock(&c->lock);
    c->aim.clock_known = known;
    c->aim.floor_s = floor_s;
    pthread_mutex_unlock(&c->lock);
}

void channel_set_mqtt5(struct channel *c, int mqtt5)
{
    pthread_mutex_lock(&c->lock);
    c->mqtt5 = mqtt5;
    pthread_mutex_unlock(&c->lock);
}

void channel_hold(struct channel *c, int hold)
{
    pthread_mutex_lock(&c->lock);
    int changed = c->hold != hold;
    c->hold = hold;
    pthread_mutex_unlock(&c->lock);
    if (changed)
        wake(c);
}

void channel_drop(struct channel *c)
{
    pthread_mutex_lock(&c->lock);
    c->drop = 1;
    int open = c->status.phase == CHANNEL_OPEN;
    pthread_mutex_unlock(&c->lock);
    wake(c);
    if (open)
        await_end(c, DROP_MS);
}

uint64_t channel_receipt(struct channel *c, uint16_t id)
{
    pthread_mutex_lock(&c->lock);
    uint64_t attempt = c->status.attempt;
    pthread_mutex_unlock(&c->lock);
    return attempt << 16 | id;
}

/* Called with the lock held. */
static int keep_accepted(struct channel *c, uint16_t id)
{
    if (c->ack_count == UINT16_MAX)
        return -ENOBUFS;
    if (c->ack_count == c->ack_room) {
        size_t room = c->ack_room ? 2 * c->ack_room : 64;
        uint16_t *larger = realloc(c->acks, room * sizeof *larger);
        if (!larger)
            return -ENOMEM;
        c->acks = larger;
        c->ack_room = room;
    }
    c->acks[c->ack_count++] = id;
    return 0;
}

int channel_accept(struct channel *c, uint64_t receipt)
{
    int rc = 0;
    pthread_mutex_lock(&c->lock);
    if (c->config.manual_ack && receipt >> 16 == c->status.attempt &&
        c->status.phase == CHANNEL_OPEN)
        rc = keep_accepted(c, (uint16_t)receipt);
    pthread_mutex_unlock(&c->lock);
    wake(c);
    return rc;
}

uint32_t channel_notice(const struct channel *c, const void *payload, size_t size)
{
    return frame_notice(c->secret, payload, size);
}
