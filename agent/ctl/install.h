/* install.h - puts files of a gateway's configuration in place: durable, atomic, and only when they differ, so that a second
 * provisioning changes nothing. A power cut leaves the old file or the new one (temporary file, fsync, rename, fsync of the
 * folder). Negative results are -errno with the reason, naming the path, in why. */
#ifndef AGENT_CTL_INSTALL_H
#define AGENT_CTL_INSTALL_H

#include <stddef.h>
#include <sys/types.h>

/* The file has size bytes of data now, with mode: 1 when it was written, 0 when it had them already. */
int install_bytes(const char *path, const void *data, size_t size, mode_t mode, char *why, size_t why_size);
/* The same with the content of another file (at most 1 MiB). */
int install_copy(const char *path, const char *from, mode_t mode, char *why, size_t why_size);
/* The folder exists: 1 when it was made (with its parents), 0 when it was there. */
int install_folder(const char *path, mode_t mode, char *why, size_t why_size);

#endif
