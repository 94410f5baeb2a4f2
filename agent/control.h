/* control.h - the control socket DATA_DIR/nilmd.sock: one JSON command a line, one JSON reply a
 * line (command.h).
 *
 * Only the agent's own user (and root) may connect: the socket has mode 0600. At most
 * CONTROL_CLIENTS at a time; one that is silent for a minute, sends a longer line than a command
 * may be, or does not read its reply is disconnected. Nothing here blocks. Main thread only.
 */
#ifndef AGENT_CONTROL_H
#define AGENT_CONTROL_H

#include <poll.h>
#include <stddef.h>
#include <stdint.h>

#define CONTROL_CLIENTS 8
#define CONTROL_FDS (CONTROL_CLIENTS + 1)

struct control;

/* Makes the socket, replacing one that a killed agent left (the caller holds the lock of the data
 * folder). 0, -errno with why. */
int control_open(const char *path, struct control **out, char *why, size_t why_size);
/* Closes everything and removes the socket. */
void control_close(struct control *c);

/* Fills fds (room for CONTROL_FDS); returns how many. */
int control_fds(struct control *c, struct pollfd *fds);

/* After poll: accepts, reads, answers. answer returns a new text (free()) or NULL. fds and count as
 * filled by control_fds. */
void control_handle(struct control *c, const struct pollfd *fds, int count, int64_t mono_ms,
                    char *(*answer)(void *context, const char *line, size_t bytes), void *context);

#endif
