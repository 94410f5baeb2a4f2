/* client.h - the TLS client of one connection (mbedTLS) on a non-blocking socket; internal to
 * transport.
 *
 * TLS 1.2 or later, the broker's chain and name checked (also an IP address, which mbedTLS 2.28
 * does not compare), client certificate when configured. One thread at a time.
 */
#ifndef TRANSPORT_CLIENT_H
#define TRANSPORT_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#include "transport/credentials.h"

struct client;

enum { /* results besides byte counts and failures */
       CLIENT_WANT_READ = -1,
       CLIENT_WANT_WRITE = -2,
       CLIENT_CLOSED = -3, /* by the other side, properly or not; client_explain knows */
       CLIENT_FAILED = -4
};

struct client_config {
    const struct credentials *credentials;
    const char *server_name;
    /* Without a known clock, certificates are judged by a time that has certainly passed (Unix s;
     * 0: none): what ended before it has expired, and nothing is "not valid yet". */
    int clock_known;
    int64_t floor_s;
};

/* Prepares TLS on fd, which stays the caller's. 0 or -errno with the reason in why. */
int client_open(const struct client_config *config, int fd, struct client **out, char *why,
                size_t why_size);
void client_free(struct client *c);

int client_handshake(struct client *c); /* 0: done */
/* Bytes, or CLIENT_...; a write must be repeated with the same arguments until it is taken. */
int client_read(struct client *c, void *data, size_t size);
int client_write(struct client *c, const void *data, size_t size);
/* Sends close_notify, as far as the socket takes it. */
void client_finish(struct client *c);

/* "TLSv1.2 TLS-ECDHE-..." of the session. */
void client_describe(const struct client *c, char *text, size_t size);
/* The time (Unix s) in which every certificate of the broker's chain is valid; after the handshake.
 */
void client_validity(const struct client *c, int64_t *from_s, int64_t *to_s);
/* Why the last call said CLOSED or FAILED, in words. established: after the handshake. */
void client_explain(const struct client *c, int established, char *text, size_t size);
/* The last mbedTLS code (0: none), and the TLS alert received (-1: none). */
int client_code(const struct client *c);
int client_alert(const struct client *c);

#endif
