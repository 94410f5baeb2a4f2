/* dial.c - resolving and connecting. */
#include "transport/dial.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "transport/tls.h"

int64_t dial_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int dial_resolve(const char *host, uint16_t port, struct addrinfo **out, char *why, size_t why_size)
{
    char service[8];
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    *out = NULL;
    snprintf(service, sizeof service, "%u", port);
    int rc = getaddrinfo(host, service, &hints, out);
    if (rc != 0)
        return tls_why(why, why_size, EHOSTUNREACH, "the name %s cannot be resolved: %s", host,
                       rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
    return 0;
}

/* Waits for a connect in progress. 0 or -errno. */
static int await(int fd, int64_t deadline_ms, int cancel_fd)
{
    for (;;) {
        struct pollfd p[2] = {{.fd = fd, .events = POLLOUT}, {.fd = cancel_fd, .events = 0}};
        int64_t left = deadline_ms - dial_now();
        if (left <= 0)
            return -ETIMEDOUT;
        int n = poll(p, 2, left > 60000 ? 60000 : (int)left);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0 && p[1].revents)
            return -ECANCELED;
        if (n > 0 && p[0].revents) {
            int error = 0;
            socklen_t size = sizeof error;
            if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
                return -errno;
            return -error;
        }
    }
}

static int connect_one(const struct addrinfo *a, int64_t deadline_ms, int cancel_fd, int *out)
{
    int on = 1;
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    int rc = connect(fd, a->ai_addr, a->ai_addrlen) == 0 ? 0 : -errno;
    if (rc == -EINPROGRESS)
        rc = await(fd, deadline_ms, cancel_fd);
    if (rc != 0)
        close(fd);
    else
        *out = fd;
    return rc;
}

int dial_connect(const struct addrinfo *addresses, int64_t deadline_ms, int cancel_fd, int *fd,
                 char *why, size_t why_size)
{
    int rc = -EHOSTUNREACH, left = 0;
    char text[INET6_ADDRSTRLEN + 64] = "";

    for (const struct addrinfo *a = addresses; a; a = a->ai_next)
        left++;
    for (const struct addrinfo *a = addresses; a && rc != 0 && rc != -ECANCELED; a = a->ai_next) {
        /* An address that is silent leaves the others their share of the time. */
        int64_t now = dial_now(), share = (deadline_ms - now) / left--;
        if (share <= 0)
            break;
        rc = connect_one(a, now + share, cancel_fd, fd);
        if (rc != 0 &&
            getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) != 0)
            text[0] = '\0';
    }
    if (rc == 0)
        return 0;
    if (rc == -ECONNREFUSED)
        return tls_why(why, why_size, -rc,
                       "connection refused by %s: no broker listens on this port", text);
    if (rc == -ETIMEDOUT)
        return tls_why(why, why_size, -rc, "no answer from %s: it is off, or a firewall drops it",
                       text);
    return tls_why(why, why_size, -rc, "no connection to %s: %s", text, strerror(-rc));
}
