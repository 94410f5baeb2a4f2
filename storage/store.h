/* store.h - the agent's SQLite database: opening, migrating, setting a corrupt file aside, transactions.
 *
 * One handle is used by one thread; every thread opens its own handle on the same file (WAL, busy time-out).
 * outbox.h, history.h and routine.h work on a handle. Nothing outside storage/ sees SQLite.
 * Commits are durable (synchronous=FULL) when a function returns 0, unless a transaction of the caller is open.
 */
#ifndef STORAGE_STORE_H
#define STORAGE_STORE_H

#include <stddef.h>
#include <stdint.h>

struct store;

struct store_report { /* what opening found */
    int created;      /* a new database was made */
    int migrated_from; /* schema version before, 0 when none */
    char set_aside[512]; /* path that a corrupt or foreign file was moved to, or "" */
    char reason[256];    /* why it was set aside */
};

/* Opens or makes the database at path (its folder must exist). A file that is not a nilmd database or is corrupt is
 * renamed to path.corrupt-YYYYMMDDTHHMMSSZ (with its -wal and -shm) and a new one is made; report says so. A database of a
 * newer schema is left alone: -EPROTO. why gets the reason of a failure, naming the path. */
int store_open(const char *path, struct store **out, struct store_report *report, char *why, size_t why_size);

/* Opens an existing database for reading only (nilmctl beside a running agent). -ENOENT, -EBADMSG, ... */
int store_open_readonly(const char *path, struct store **out, char *why, size_t why_size);
void store_close(struct store *s);

/* The caller's transaction over several calls. Nesting is -EALREADY. A failure inside leaves it to be rolled back. */
int store_begin(struct store *s);
int store_commit(struct store *s);
void store_rollback(struct store *s);

/* Text of the last failure on this handle; valid until the next call on it. */
const char *store_error(const struct store *s);

/* Named values of the agent (64-bit integers): 0 or -ENOENT when unset (value untouched), other -errno. */
int store_get(struct store *s, const char *name, int64_t *value);
int store_set(struct store *s, const char *name, int64_t value);

/* Bytes of the database with its WAL, and bytes written to it since opening (for flash wear). */
int store_size(struct store *s, uint64_t *bytes);

#endif
