#include "agent/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/command.h"

#define IDLE_MS 60000

struct client {
    int fd; /* -1: free */
    size_t in;
    char line[COMMAND_MAX_BYTES + 2]; /* with CR and LF */
    char *out;                        /* reply that is being sent, or NULL */
    size_t out_bytes, out_sent;
    int64_t active_ms;
};

struct control {
    int fd;
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
    struct client clients[CONTROL_CLIENTS];
};

int control_open(const char *path, struct control **out, char *why, size_t why_size)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    *out = NULL;
    if (strlen(path) >= sizeof address.sun_path) {
        snprintf(why, why_size, "%s: expected a path of at most %zu characters", path,
                 sizeof address.sun_path - 1);
        return -ENAMETOOLONG;
    }
    struct control *c = calloc(1, sizeof *c);
    if (!c) {
        snprintf(why, why_size, "out of memory");
        return -ENOMEM;
    }
    for (int i = 0; i < CONTROL_CLIENTS; i++)
        c->clients[i].fd = -1;
    memcpy(c->path, path, strlen(path) + 1);
    memcpy(address.sun_path, path, strlen(path) + 1);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(path);
    /* The umask is 077 already; the mode is set for a caller that has another. */
    if (c->fd < 0 || bind(c->fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        chmod(path, 0600) < 0 || listen(c->fd, CONTROL_CLIENTS) < 0) {
        const int rc = -errno;
        snprintf(why, why_size, "%s: %s", path, strerror(-rc));
        if (c->fd >= 0)
            close(c->fd);
        free(c);
        return rc;
    }
    *out = c;
    return 0;
}

static void drop(struct client *k)
{
    close(k->fd);
    free(k->out);
    memset(k, 0, sizeof *k);
    k->fd = -1;
}

void control_close(struct control *c)
{
    if (!c)
        return;
    for (int i = 0; i < CONTROL_CLIENTS; i++)
        if (c->clients[i].fd >= 0)
            drop(&c->clients[i]);
    close(c->fd);
    unlink(c->path);
    free(c);
}

int control_fds(struct control *c, struct pollfd *fds)
{
    int n = 0;
    fds[n++] = (struct pollfd){.fd = c->fd, .events = POLLIN};
    for (int i = 0; i < CONTROL_CLIENTS; i++) {
        const struct client *k = &c->clients[i];
        if (k->fd >= 0)
            fds[n++] = (struct pollfd){.fd = k->fd, .events = k->out ? POLLOUT : POLLIN};
    }
    return n;
}

static void accept_clients(struct control *c, int64_t mono_ms)
{
    for (;;) {
        const int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
            return;
        int i = 0;
        while (i < CONTROL_CLIENTS && c->clients[i].fd >= 0)
            i++;
        if (i == CONTROL_CLIENTS) {
            close(fd);
            continue;
        }
        c->clients[i].fd = fd;
        c->clients[i].active_ms = mono_ms;
    }
}

/* Sends what is left of the reply. -errno: the client is gone. */
static int send_reply(struct client *k)
{
    while (k->out && k->out_sent < k->out_bytes) {
        const ssize_t n =
            send(k->fd, k->out + k->out_sent, k->out_bytes - k->out_sent, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        k->out_sent += (size_t)n;
    }
    free(k->out);
    k->out = NULL;
    return 0;
}

/* Gives the reply (whose place the line end takes) to the client. NULL: out of memory, no reply. */
static int set_reply(struct client *k, char *text)
{
    if (!text)
        return -ENOMEM;
    k->out = text;
    k->out_bytes = strlen(text) + 1;
    text[k->out_bytes - 1] = '\n'; /* in place of the NUL: out is bytes from here on */
    k->out_sent = 0;
    return send_reply(k);
}

/* Answers the lines that are complete, one reply at a time. */
static int answer_lines(struct client *k, char *(*answer)(void *, const char *, size_t),
                        void *context)
{
    while (!k->out) {
        char *end = memchr(k->line, '\n', k->in);
        if (!end && k->in == sizeof k->line) {
            set_reply(k, command_refusal("command: larger than 4096 bytes"));
            return -EMSGSIZE;
        }
        if (!end)
            return 0;
        size_t n = (size_t)(end - k->line);
        const size_t taken = n + 1;
        if (n > 0 && k->line[n - 1] == '\r')
            n--;
        const int rc = n > 0 ? set_reply(k, answer(context, k->line, n)) : 0;
        k->in -= taken;
        memmove(k->line, k->line + taken, k->in);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int serve(struct client *k, int64_t mono_ms, char *(*answer)(void *, const char *, size_t),
                 void *context)
{
    if (k->out) {
        const int rc = send_reply(k);
        if (rc < 0 || k->out)
            return rc;
    } else {
        const ssize_t n = recv(k->fd, k->line + k->in, sizeof k->line - k->in, 0);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        if (n == 0)
            return -EPIPE;
        k->in += (size_t)n;
    }
    k->active_ms = mono_ms;
    return answer_lines(k, answer, context);
}

void control_handle(struct control *c, const struct pollfd *fds, int count, int64_t mono_ms,
                    char *(*answer)(void *context, const char *line, size_t bytes), void *context)
{
    for (int f = 1; f < count; f++) {
        struct client *k = NULL;
        for (int i = 0; i < CONTROL_CLIENTS; i++)
            if (c->clients[i].fd == fds[f].fd)
                k = &c->clients[i];
        if (!k)
            continue;
        if (fds[f].revents ? serve(k, mono_ms, answer, context) < 0
                           : mono_ms - k->active_ms > IDLE_MS)
            drop(k);
    }
    if (fds[0].revents)
        accept_clients(c, mono_ms);
}
