/* slots.h - two places for a model on disk, and which one is active. Every change is durable and atomic: write a
 * temporary file, fsync, rename, fsync of the folder. A power cut leaves the old state or the new one, never a mix.
 *
 * Files in the folder: a.bundle, b.bundle, state (text, "active=a\nversion=7\nhighest=7\n..." with a checksum line).
 * Content is opaque to storage: the agent verifies what it reads. Used by one thread.
 */
#ifndef STORAGE_SLOTS_H
#define STORAGE_SLOTS_H

#include <stddef.h>
#include <stdint.h>

struct slots;

struct slots_info {
    char active;          /* 'a', 'b', or 0 when none */
    char path[512];       /* of the active bundle, "" when none */
    uint32_t version;     /* of the active model */
    uint32_t highest;     /* highest version ever activated: older ones are refused */
    char previous;        /* slot to return to, or 0 */
    uint32_t previous_version;
};

/* Opens (makes) the folder. A damaged state file is set aside and rebuilt as "none active"; repaired gets 1. */
int slots_open(const char *dir, struct slots **out, int *repaired, char *why, size_t why_size);
void slots_close(struct slots *s);
int slots_get(struct slots *s, struct slots_info *out);
/* Writes bytes into the inactive slot (durable). -ENOSPC, -EIO, ... */
int slots_stage(struct slots *s, const void *data, size_t size, char *why, size_t why_size);
/* Makes the staged slot active; the active one becomes the previous. */
int slots_activate(struct slots *s, uint32_t version, char *why, size_t why_size);
/* Returns to the previous one. -ENOENT when there is none. */
int slots_rollback(struct slots *s, char *why, size_t why_size);
/* Reads a slot ('a' or 'b') whole into a new buffer (free()). max bounds its size. */
int slots_read(struct slots *s, char slot, size_t max, void **data, size_t *size, char *why, size_t why_size);

#endif
