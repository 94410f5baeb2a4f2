/* notify.h - tells systemd how the service is (sd_notify(3)) without libsystemd: the protocol is
 * one datagram to the socket that NOTIFY_SOCKET names, and the library would bring three more with
 * it, a megabyte of resident memory on a gateway. Without NOTIFY_SOCKET nothing happens. Main
 * thread.
 */
#ifndef AGENT_NOTIFY_H
#define AGENT_NOTIFY_H

#include <stdint.h>

/* state: "READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=...". Failures are ignored: there is nobody
 * to tell. */
void notify_send(const char *state);

/* Half of the watchdog's interval in ms, when this process is watched (WATCHDOG_USEC,
 * WATCHDOG_PID), else 0. */
int64_t notify_watchdog_ms(void);

#endif
