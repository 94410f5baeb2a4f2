/* slots.h - two places for a model on disk, and which one is active. Every change is durable and
 * atomic: write a temporary file, fsync, rename, fsync of the folder. A power cut leaves the old
 * state or the new one, never a mix.
 *
 * Files in the folder: a.bundle, b.bundle, state (text, "active=a\nversion=7\nhighest=7\n..." with
 * a checksum line; SPEC 5.11). Content is opaque to storage: the agent verifies what it reads. A
 * bundle may be missing or truncated (a disk that lies): slots_read says so, the state stays
 * usable. Used by one thread; one process at a time
 * writes (slots_open), others read (slots_open_readonly). A temporary file left by a kill is
 * overwritten by the next write.
 *
 * With two slots, staging overwrites the previous model: from then on there is none to return to
 * until the next activation. So verify a bundle in memory first. All functions return 0 or -errno
 * with the reason, naming the file, in why.
 */
#ifndef STORAGE_SLOTS_H
#define STORAGE_SLOTS_H

#include <stddef.h>
#include <stdint.h>

struct slots;

struct slots_info {
    char active;      /* 'a', 'b', or 0 when none */
    char path[512];   /* of the active bundle, "" when none */
    uint32_t version; /* of the active model */
    uint32_t highest; /* highest version ever activated: older ones are refused (by the agent) */
    char previous;    /* slot to return to, or 0 */
    uint32_t previous_version;
    char staged; /* slot that holds a bundle not yet active, or 0; kept across restarts */
};

/* Opens (makes) the folder. A damaged state file is renamed to state.damaged-YYYYMMDDTHHMMSSZ and
 * rebuilt as "none active"; repaired gets 1, and why the reason although 0 is returned. highest is
 * lost with it: the agent finds it in the bundles. */
int slots_open(const char *dir, struct slots **out, int *repaired, char *why, size_t why_size);
/* For reading beside a running agent (nilmctl): makes, moves and writes nothing; the changing
 * functions give -EROFS. -ENOENT: no such folder. -EBADMSG: the state is damaged. The state is that
 * of the moment of opening. */
int slots_open_readonly(const char *dir, struct slots **out, char *why, size_t why_size);
/* NULL is allowed. */
void slots_close(struct slots *s);
int slots_get(struct slots *s, struct slots_info *out);
/* Writes bytes into the inactive slot (durable). -EINVAL (nothing to write), -ENOSPC, -EIO, ... */
int slots_stage(struct slots *s, const void *data, size_t size, char *why, size_t why_size);
/* Makes the staged slot active; the active one becomes the previous. -ENOENT when nothing is
 * staged. */
int slots_activate(struct slots *s, uint32_t version, char *why, size_t why_size);
/* Returns to the previous one, which then has no previous. -ENOENT when there is none. */
int slots_rollback(struct slots *s, char *why, size_t why_size);
/* Reads a slot ('a' or 'b') whole into a new buffer (free()). max bounds its size: -EFBIG. -ENOENT,
 * -EBADMSG (empty, or no regular file). */
int slots_read(struct slots *s, char slot, size_t max, void **data, size_t *size, char *why,
               size_t why_size);

#endif
