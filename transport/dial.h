/* dial.h - a TCP connection to a host within a time; internal to transport. */
#ifndef TRANSPORT_DIAL_H
#define TRANSPORT_DIAL_H

#include <stddef.h>
#include <stdint.h>

struct addrinfo;

/* Milliseconds of the monotonic clock. */
int64_t dial_now(void);

/* Blocks as long as the system's resolver does. 0 or -EHOSTUNREACH with the reason in words.
 * freeaddrinfo(*out). */
int dial_resolve(const char *host, uint16_t port, struct addrinfo **out, char *why,
                 size_t why_size);
/* Tries the addresses in turn until deadline_ms or until cancel_fd is hung up (-ECANCELED). *fd:
 * non-blocking, close-on-exec, without Nagle's delay. 0 or -errno with the reason in words. */
int dial_connect(const struct addrinfo *addresses, int64_t deadline_ms, int cancel_fd, int *fd,
                 char *why, size_t why_size);

#endif
