/* folder.h - durable changes of a folder, shared by store and slots. Private to storage/.
 *
 * A rename is durable only when the folder that holds it has been synchronised (fsync(2), RAUC
 * src/artifacts.c).
 */
#ifndef STORAGE_FOLDER_H
#define STORAGE_FOLDER_H

#include <stddef.h>

/* fsync of the folder that holds path. 0 or -errno. */
int folder_sync_parent(const char *path);

/* Gives path new content by way of a temporary file: after 0 it has it even if the power goes,
 * after an error it has the old. 0 or -errno. */
int folder_replace(const char *temporary, const char *path, const void *data, size_t size);

/* A name beside path that nothing has yet: path.LABEL-YYYYMMDDTHHMMSSZ, then with -2, -3, ...
 * -ENAMETOOLONG, -EEXIST (99 taken). */
int folder_aside_name(const char *path, const char *label, char *out, size_t out_size);

/* Deletes what was set aside so (path.LABEL-TIME and what begins with that), but for the newest
 * times, FOLDER_ASIDE_KEPT of them: copies must not fill the disk. Best effort. */
#define FOLDER_ASIDE_KEPT 3
void folder_aside_trim(const char *path, const char *label);

#endif
