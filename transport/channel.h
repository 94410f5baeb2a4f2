/* channel.h - the private way from Paho to the broker: socketpair, one thread, TLS; internal to
 * transport.
 *
 * Paho (built without TLS) is told to connect to channel_uri, an address that no TCP connection can
 * ever have (255.255.255.255; the kernel refuses it). interpose.c defines connect() for the whole
 * process: for this address it puts one end of a socketpair in the place of Paho's socket, for
 * every other address it is the system's connect(). The channel's thread connects to the broker,
 * does TLS (client.h) and copies bytes. No other process can reach the socketpair, and should the
 * interposition ever fail, Paho reaches nobody. One session at a time; a new connect ends the one
 * before.
 */
#ifndef TRANSPORT_CHANNEL_H
#define TRANSPORT_CHANNEL_H

#include <stddef.h>
#include <stdint.h>

#include "transport/client.h"

struct channel;

struct channel_config {
    int timeout_ms; /* for resolving, connecting and handshake together (resolving itself cannot be
                       cut short) */
    uint32_t
        max_packet; /* larger PUBLISH packets from the broker are shortened to a notice (frame.h) */
    int manual_ack; /* Paho's PUBACKs stay here; channel_accept makes those of the owner */
};

enum channel_phase {
    CHANNEL_IDLE = 0,
    CHANNEL_RESOLVING,
    CHANNEL_CONNECTING,
    CHANNEL_HANDSHAKE,
    CHANNEL_OPEN,
    CHANNEL_CLOSED /* the attempt failed or the session ended; text says why */
};

struct channel_status {
    unsigned attempt; /* counts sessions from 1 */
    enum channel_phase phase;
    enum channel_phase reached;       /* the phase in which it was CLOSED */
    int code, alert;                  /* mbedTLS code (0: none), TLS alert received (-1: none) */
    int64_t valid_from_s, valid_to_s; /* OPEN: of the broker's certificates, all of them (Unix s) */
    char text[320]; /* OPEN: TLS version and cipher; CLOSED: why, in words; "" when our side ended
                       it */
};

/* Starts the thread. -ENOTSUP: connect() does not lead here in this process.
 */
int channel_open(const struct channel_config *config, struct channel **out, char *why,
                 size_t why_size);
/* Ends the session and the thread. flush_ms: so long what Paho wrote before it closed its end may
 * still be delivered; 0: the connection is dropped. Call after Paho's handle is gone. */
void channel_close(struct channel *c, int flush_ms);

/* "tcp://255.255.255.255:N". */
void channel_uri(const struct channel *c, char *text, size_t size);
/* Any thread. The text is written before Paho sees the end of its socket. */
void channel_status(struct channel *c, struct channel_status *out);
/* Where the next session goes to, and with what; texts are cut to 253 characters and copied,
 * credentials are kept. Before Paho connects. */
void channel_aim(struct channel *c, const char *host, uint16_t port, const char *server_name,
                 struct credentials *credentials);
/* See client_config; counts from the next session on. Any thread. */
void channel_set_clock(struct channel *c, int known, int64_t floor_s);
/* Whether PUBLISH packets have properties; before Paho connects. */
void channel_set_mqtt5(struct channel *c, int mqtt5);
/* hold 1: nothing more is read from the broker, until hold 0. Any thread. */
void channel_hold(struct channel *c, int hold);
/* Drops the session, without TLS or MQTT goodbye; on return nothing that Paho writes leaves any
 * more. */
void channel_drop(struct channel *c);
/* What channel_accept wants for a message with this packet id of the session that is now. Any thread. */
uint64_t channel_receipt(struct channel *c, uint16_t id);
/* Acknowledges it to the broker, in the order of the calls; nothing when its session is over. Any
 * thread. 0, -ENOMEM, -ENOBUFS (more than there are packet ids wait to leave). */
int channel_accept(struct channel *c, uint64_t receipt);
/* See frame_notice. */
uint32_t channel_notice(const struct channel *c, const void *payload, size_t size);

/* For interpose.c: the address is a channel's. Puts one end of a new socketpair in place of fd, as
 * connect() would. */
int channel_attach(int fd, unsigned number);
/* From interpose.c: symbol is its connect(). */
int channel_is_connect(const void *symbol);
#define CHANNEL_ADDRESS 0xffffffffu

#endif
