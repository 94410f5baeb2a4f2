/* store.h - the agent's SQLite database: opening, migrating, setting a corrupt file aside,
 * transactions.
 *
 * One handle is used by one thread; every thread opens its own handle on the same file (WAL, busy
 * time-out 5 s). outbox.h, history.h and routine.h work on a handle. Nothing outside storage/ sees
 * SQLite. Commits are durable (synchronous=FULL) when a function returns 0, unless a transaction of
 * the caller is open.
 *
 * Errors of every function on a handle, with text in store_error(): -ENOSPC (disk full), -EROFS,
 * -EIO, -ENOMEM, -EBUSY (another writer for longer than 5 s), -EBADMSG (the file is damaged: the
 * next store_open checks it whole and sets it aside), -EINVAL (argument). The handle stays usable
 * after each of them, and nothing of the failed call is stored.
 */
#ifndef STORAGE_STORE_H
#define STORAGE_STORE_H

#include <stddef.h>
#include <stdint.h>

struct store;

struct store_report {    /* what opening found */
    int created;         /* a new database was made */
    int migrated_from;   /* schema version before, 0 when none */
    char set_aside[512]; /* path that a corrupt or foreign file was moved to, or "" */
    char reason[256];    /* why it was set aside */
    /* The database was replaced, now or at an earlier opening that nobody told yet (store_told):
     * what was read from the damaged one. */
    int replaced;
    uint64_t salvaged_items, lost_items; /* waiting items: kept; declared as gaps */
    uint64_t salvaged_rows;              /* of all tables */
    uint64_t bad;                        /* stretches and rows that cannot be read or believed */
};

/* Opens or makes the database at path (its folder must exist). A file that is not a nilmd database
 * or is corrupt is renamed to path.corrupt-YYYYMMDDTHHMMSSZ (with its -wal and -shm) and a new one
 * is made, with what can be read of the old one; report (may be NULL) says so. A power cut at any
 * moment leaves the damaged one, or the new one with the report due. A database of a newer schema
 * is left alone: -EPROTO. why gets the reason of a failure, naming the path.
 *
 * The first handle on a file checks, sets aside, makes and migrates; while it is open (an flock on
 * path.lock says so) later ones do not: they get -EBUSY for a damaged file. Time does not depend on
 * the size of the database: beyond 8 MiB only the small tables are checked, unless a handle met
 * damage before (file path.check), then everything is. */
int store_open(const char *path, struct store **out, struct store_report *report, char *why,
               size_t why_size);

/* The report of a replaced database reached somebody (an alert was committed): store_open says it
 * no more. 0 or -errno. */
int store_told(struct store *s);

/* Salvaging a large database takes a while: pulse is called now and then, on the thread that opens
 * (a watchdog). For all handles; NULL: none. */
void store_set_pulse(void (*pulse)(void));

/* Opens an existing database for reading only (nilmctl beside a running agent); writing functions
 * give -EROFS. -ENOENT, -EBADMSG (not a nilmd database or corrupt), -EPROTO (another schema
 * version), -EACCES, ... */
int store_open_readonly(const char *path, struct store **out, char *why, size_t why_size);

/* Rolls back an open transaction and releases the handle; NULL is allowed. */
void store_close(struct store *s);

/* The caller's transaction over several calls. Nesting is -EALREADY. A failure inside (other than
 * -ENOENT and -EINVAL) spoils it: later writes and store_commit return -ECANCELED, store_commit
 * then rolls back. Without one, commit is -EINVAL. */
int store_begin(struct store *s);
int store_commit(struct store *s);
void store_rollback(struct store *s);

/* Text of the last failure on this handle; valid until the next call on it. */
const char *store_error(const struct store *s);

/* Named values of the agent (64-bit integers): 0 or -ENOENT when unset (value untouched), other
 * -errno. A name has 1 to 63 bytes; those that begin with "store." are the store's own: -EINVAL. */
int store_get(struct store *s, const char *name, int64_t *value);
int store_set(struct store *s, const char *name, int64_t value);

struct store_usage {         /* bytes */
    uint64_t database_bytes; /* the file; it does not shrink, free pages are used again */
    uint64_t wal_bytes;      /* the write-ahead log beside it */
    uint64_t free_bytes;     /* free pages inside database_bytes */
    uint64_t written_bytes;  /* by this handle since it was opened; copying the log back is counted
                                at its upper bound */
};

/* Figures for `nilmctl status` and for the budget of flash wear. */
int store_usage(struct store *s, struct store_usage *out);

/* Bytes of the database with its WAL. */
int store_size(struct store *s, uint64_t *bytes);

#endif
