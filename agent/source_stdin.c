/* source_stdin.c - one reading a line from standard input: `watts` or `time,watts`.
 *
 * Never blocks: each read follows a poll with no wait (the descriptor is shared with whoever
 * started us, so it is not switched to non-blocking). Bytes wait in one buffer of a line's size; a
 * longer line is passed over to its end.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/source_impl.h"

struct lines {
    char buffer[TRACE_LINE_BYTES];
    size_t from, to; /* unread bytes */
    int skipping;    /* within a line that was too long */
    int eof;
    uint64_t line; /* number of the last line taken */
};

/* Reads what is there. 1: bytes came or the end did; 0: nothing now; -errno. */
static int fill(struct lines *l)
{
    if (l->from) {
        memmove(l->buffer, l->buffer + l->from, l->to - l->from);
        l->to -= l->from;
        l->from = 0;
    }
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    int n = poll(&p, 1, 0);
    if (n == 0 || (n < 0 && errno == EINTR))
        return 0;
    if (n < 0)
        return -errno;
    ssize_t got = read(STDIN_FILENO, l->buffer + l->to, sizeof(l->buffer) - l->to);
    if (got < 0)
        return errno == EINTR || errno == EAGAIN ? 0 : -errno;
    if (got == 0)
        l->eof = 1;
    l->to += (size_t)got;
    return 1;
}

static int line_error(struct source *s, const struct lines *l, const char *what)
{
    snprintf(s->error, sizeof(s->error), "standard input, line %llu: %s",
             (unsigned long long)l->line, what);
    return -EBADMSG;
}

/* One line of n bytes at text, of which one byte more may be overwritten. 1, 0 (empty), -EBADMSG.
 */
static int take_line(struct source *s, struct lines *l, char *text, size_t n, int64_t now_ms,
                     struct trace_reading *out)
{
    l->line++;
    if (memchr(text, 0, n))
        return line_error(s, l, "a zero byte; expected `watts` or `time,watts`");
    while (n && (text[n - 1] == '\r' || text[n - 1] == ' ' || text[n - 1] == '\t'))
        n--;
    text[n] = 0;
    if (!text[strspn(text, " \t")])
        return 0;
    char why[256] = "";
    if (s->three) {
        s->phased = 1;
        if (trace_parse_phases(text, now_ms, out, s->next_phases, why, sizeof(why)) == 0)
            return 1;
    } else if (trace_parse_reading(text, now_ms, out, why, sizeof(why)) == 0) {
        return 1;
    }
    return line_error(s, l, why);
}

/* Takes the next line out of the buffer: 1, -EBADMSG, or 0 when more input is needed. */
static int next_line(struct source *s, struct lines *l, int64_t now_ms, struct trace_reading *out)
{
    while (l->from < l->to) {
        char *text = l->buffer + l->from;
        size_t have = l->to - l->from;
        char *end = memchr(text, '\n', have);
        if (end) {
            l->from += (size_t)(end - text) + 1;
            if (l->skipping) {
                l->skipping = 0;
                continue;
            }
            int rc = take_line(s, l, text, (size_t)(end - text), now_ms, out);
            if (rc)
                return rc;
            continue;
        }
        if (l->skipping) {
            l->from = l->to = 0;
        } else if (have == sizeof(l->buffer)) {
            l->line++;
            l->skipping = 1;
            l->from = l->to = 0;
            return line_error(s, l, "longer than 4095 bytes; passed over");
        } else if (l->eof) { /* a last line without its end; there is room for a NUL */
            l->from = l->to;
            return take_line(s, l, text, have, now_ms, out);
        }
        return 0;
    }
    return 0;
}

static int stdin_pull(struct source *s, int64_t now_ms, struct trace_reading *out)
{
    struct lines *l = s->state;
    s->error[0] = 0;
    for (;;) {
        int rc = next_line(s, l, now_ms, out);
        if (rc)
            return rc;
        if (l->eof)
            return -ENODATA;
        rc = fill(l);
        if (rc < 0) {
            snprintf(s->error, sizeof(s->error), "standard input: %s", strerror(-rc));
            l->eof = 1;
            return -EBADMSG;
        }
        if (rc == 0)
            return 0;
    }
}

static int stdin_pending(const struct source *s)
{
    const struct lines *l = s->state;
    return l->eof || memchr(l->buffer + l->from, '\n', l->to - l->from) != NULL;
}

static void stdin_destroy(struct source *s)
{
    free(s->state);
}

static const struct source_kind stdin_kind = {.pull = stdin_pull,
                                              .pending = stdin_pending,
                                              .destroy = stdin_destroy,
                                              .paced = 0,
                                              .polled = STDIN_FILENO};

int source_stdin_init(struct source *s, const struct source_config *c, char *why, size_t why_size)
{
    (void)c;
    s->state = calloc(1, sizeof(struct lines));
    if (!s->state) {
        snprintf(why, why_size, "out of memory");
        return -ENOMEM;
    }
    s->rebase = 0; /* these times are the sender's or those of arrival */
    s->kind = &stdin_kind;
    return 0;
}
