/* doctor_broker.c - the way to the broker, step by step: name, TCP, then TLS and MQTT through the
 * agent's own link. */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/broker.h"
#include "agent/ctl/cli.h"
#include "agent/ctl/doctor.h"
#include "agent/ctl/session.h"

#define TCP_MS 5000
#define CONNECT_S 10

/* Connects and hangs up: 0 or -errno. */
static int try_address(const struct addrinfo *a)
{
    int error = 0, rc = 0;
    socklen_t size = sizeof error;
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);
    if (fd < 0)
        return -errno;
    if (connect(fd, a->ai_addr, a->ai_addrlen) != 0)
        rc = -errno;
    if (rc == -EINPROGRESS) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        int ready = poll(&p, 1, TCP_MS);
        if (ready <= 0)
            rc = ready == 0 ? -ETIMEDOUT : -errno;
        else
            rc = getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? -error : -errno;
    }
    close(fd);
    return rc;
}

/* 0 when something listens there. */
static int check_tcp(struct doctor *d, const struct config *c)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    char port[8];
    snprintf(port, sizeof port, "%u", c->broker_port);
    int rc = getaddrinfo(c->broker_host, port, &hints, &list);
    if (rc != 0) {
        doctor_finding(d, "broker", rc == EAI_NONAME ? DOCTOR_FAULT : DOCTOR_LATER,
                       "check [broker] url and the name service (/etc/resolv.conf)",
                       "%s: the name is not found: %s", c->broker_host, gai_strerror(rc));
        return -1;
    }
    rc = -EHOSTUNREACH;
    for (const struct addrinfo *a = list; a && rc != 0; a = a->ai_next)
        rc = try_address(a);
    freeaddrinfo(list);
    if (rc != 0)
        doctor_finding(
            d, "broker", DOCTOR_LATER,
            rc == -ECONNREFUSED
                ? "nothing listens there: start the broker, or check the port in [broker] url"
                : "check the network, the route and firewalls between here and the broker",
            "%s:%u: %s", c->broker_host, c->broker_port, strerror(-rc));
    return rc;
}

/* One attempt of the agent's own link, under another client id. */
static void check_session(struct doctor *d, struct session *s)
{
    const struct config *c = &s->settings;
    struct link_event event;
    char why[CLI_WHY] = "";
    if (session_open(s, 0, CONNECT_S, why, sizeof why) != 0) {
        doctor_finding(d, "broker", DOCTOR_FAULT, "mend the file it names", "%s", why);
        return;
    }
    int64_t end = cli_mono_ms() + (CONNECT_S + 5) * 1000;
    while (cli_mono_ms() < end) {
        int rc = link_next(s->link, &event, 250);
        if (rc < 0) {
            doctor_finding(d, "broker", DOCTOR_FAULT, "report this", "%s", strerror(-rc));
            return;
        }
        if (rc == LINK_UP) {
            doctor_finding(d, "broker", DOCTOR_OK, "", "%s:%u: connected, MQTT %s, %s",
                           c->broker_host, c->broker_port, event.protocol == 5 ? "5" : "3.1.1",
                           event.text);
            return;
        }
        if (rc == LINK_DOWN) {
            doctor_finding(d, "broker", DOCTOR_FAULT,
                           "something listens there, but TLS or MQTT fails: see certificates "
                           "above, the broker's log, "
                           "and server_name",
                           "%s:%u: %s", c->broker_host, c->broker_port, event.text);
            return;
        }
    }
    doctor_finding(d, "broker", DOCTOR_LATER, "is this really an MQTT broker with TLS?",
                   "%s:%u: no answer within %d s", c->broker_host, c->broker_port, CONNECT_S + 5);
}

static void check_one(struct doctor *d, int i)
{
    struct session s = {0};
    char why[CLI_WHY] = "";
    const int rc = session_settings(&s, d->config, why, sizeof why);
    const struct link_broker b = broker_at(d->config, i);
    memmove(s.settings.broker_host, b.host, strlen(b.host) + 1);
    s.settings.broker_port = b.port;
    memset(s.settings.more_brokers, 0, sizeof s.settings.more_brokers);
    if (check_tcp(d, &s.settings) != 0)
        ; /* told */
    else if (rc != 0)
        doctor_finding(d, "broker", DOCTOR_FAULT, "mend [broker] password_file", "%s", why);
    else
        check_session(d, &s);
    session_close(&s);
}

void doctor_check_broker(struct doctor *d)
{
    if (broker_count(d->config) == 0)
        doctor_finding(d, "broker", DOCTOR_NOTE, "set [broker] url to publish events",
                       "none is configured: events stay on this gateway");
    for (int i = 0; i < broker_count(d->config); i++)
        check_one(d, i);
}
