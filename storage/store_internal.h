/* store_internal.h - what the .c files of storage/ share: the handle, cached statements, write
 * sections. Private.
 *
 * Pattern of a writing function:
 *     int rc = store_enter(s);            begins a transaction, or joins the caller's
 *     if (rc == 0) rc = ...;              statements through store_statement and store_step
 *     return store_leave(s, rc);          commits, or rolls back when rc < 0
 * store_leave is called also when store_enter failed. A reading function begins with store_clear.
 */
#ifndef STORAGE_STORE_INTERNAL_H
#define STORAGE_STORE_INTERNAL_H

#include <sqlite3.h>

#include "storage/outbox.h"
#include "storage/store.h"

#define STORE_APPLICATION_ID 0x4E494C4D /* "NILM" in the header of the file, SPEC 5.2 */
#define STORE_SCHEMA_NAME                                                                          \
    "store.schema" /* user_version again, as a named value: tells damage from a newer schema */

/* Named values of the store itself. The epoch again, because the row that has it is written most.
 * What the last salvage did, until store_told. */
#define STORE_EPOCH_NAME "store.epoch"
#define STORE_REPLACED_NAME "store.replaced"
#define STORE_SALVAGED_NAME "store.salvaged_items"
#define STORE_LOST_NAME "store.lost_items"
#define STORE_ROWS_NAME "store.salvaged_rows"
#define STORE_BAD_NAME "store.bad"

enum store_statement_id { /* one slot of the cache each */
                          STORE_BEGIN,
                          STORE_COMMIT,
                          STORE_ROLLBACK,
                          STORE_GET,
                          STORE_SET,
                          STORE_TOLD,
                          OUTBOX_READ_STATE,
                          OUTBOX_WRITE_STATE,
                          OUTBOX_NOTE_EPOCH,
                          OUTBOX_INSERT,
                          OUTBOX_FETCH,
                          OUTBOX_DELETE,
                          OUTBOX_PARK,
                          OUTBOX_NEXT,
                          OUTBOX_REWRITE,
                          OUTBOX_UNPARK,
                          OUTBOX_STATISTICS,
                          OUTBOX_VICTIM,
                          OUTBOX_OLDEST,
                          OUTBOX_EVICT,
                          GAP_NEAR,
                          GAP_REMOVE,
                          GAP_INSERT,
                          GAP_COUNT,
                          GAP_OLDEST_TWO,
                          GAP_FIRST,
                          HISTORY_NEXT,
                          HISTORY_OPEN,
                          HISTORY_UPDATE,
                          HISTORY_CURRENT,
                          HISTORY_OPEN_RUNS,
                          HISTORY_LIST,
                          HISTORY_READ,
                          HISTORY_TRIM,
                          HISTORY_SHIFT_OPEN,
                          HISTORY_SHIFT,
                          HISTORY_PROGRESS,
                          HISTORY_SET_PROGRESS,
                          HISTORY_STATE,
                          HISTORY_SET_STATE,
                          ROUTINE_GET,
                          ROUTINE_PUT,
                          ROUTINE_FORGET,
                          ROUTINE_LIST,
                          CONSUMER_ADD,
                          CONSUMER_NEAR,
                          CONSUMER_RANGE,
                          CONSUMER_REMOVE,
                          CONSUMER_DEVICE,
                          CONSUMER_PAYLOAD,
                          CONSUMER_CONFLICT,
                          CONSUMER_DECLARE,
                          CONSUMER_STATUS,
                          CONSUMER_TRIM,
                          CONSUMER_SET,
                          CONSUMER_GET,
                          CONSUMER_DEVICES,
                          CONSUMER_RANGES,
                          CONSUMER_GAPS,
                          CONSUMER_ITEMS,
                          PLACES_GET,
                          PLACES_PUT,
                          PLACES_LIST,
                          PLACES_PUT_RUN,
                          PLACES_GET_RUN,
                          PLACES_RUNS_OF,
                          PLACES_MOVE_RUNS,
                          PLACES_SHIFT_RUNS,
                          PLACES_GET_HABIT,
                          PLACES_PUT_HABIT,
                          PLACES_FORGET_HABIT,
                          PLACES_LIST_HABITS,
                          PLACES_PUT_CELLS,
                          PLACES_LIST_CELLS,
                          PLACES_TRIM_RUNS,
                          PLACES_TRIM_CELLS,
                          ENERGY_PUT,
                          ENERGY_LIST,
                          ENERGY_TRIM,
                          ALERTS_PUT,
                          ALERTS_LIST,
                          ALERTS_SNOOZE,
                          ALERTS_SNOOZED,
                          ALERTS_AWAKE,
                          ALERTS_WAKE,
                          ALERTS_TRIM,
                          MACHINES_PUT,
                          MACHINES_LIST,
                          MACHINES_TRIM,
                          MACHINES_PUT_STATE,
                          MACHINES_GET_STATE,
                          SUMMARIES_GET,
                          SUMMARIES_PUT,
                          STORE_STATEMENTS
};

struct store {
    sqlite3 *db;
    sqlite3_stmt *statements[STORE_STATEMENTS];
    char *path;  /* as given, with "./" in front when relative (so that "file:" or ":memory:" is a
                    file) */
    int lock_fd; /* path.lock, shared lock while open; -1 for a reader */
    int readonly;
    int building; /* not in use yet: no log, no synchronising; store_open synchronises the file */
    int in_transaction; /* the caller's */
    int spoiled;        /* a write in the caller's transaction failed */
    int roll_back_due;  /* a roll-back failed for want of memory */
    int rolled_back;    /* since it was last cleared */
    struct outbox_caps caps;
    int64_t (*now_ms)(void); /* wall clock; tests put their own here */
    uint64_t copied_bytes;   /* by checkpoints */
    char error[320];
};

/* Forgets the last error text, and makes up for a roll-back that is due. Begins every call. */
void store_clear(struct store *s);

/* Notes SQLite's last failure (what: "append to outbox") and returns it as -errno. */
int store_fail(struct store *s, const char *what);

/* Notes a failure that is not SQLite's and returns rc. */
int store_refuse(struct store *s, int rc, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The cached statement of an id, reset and without bindings; prepared at first use. NULL: see
 * store_fail. */
sqlite3_stmt *store_statement(struct store *s, enum store_statement_id id, const char *sql);

/* Prepared when the database is opened: when it is needed there may be no memory for it. */
sqlite3_stmt *store_rollback_statement(struct store *s);

/* 1: a row (store_done ends the reading early), 0: done, -errno. The statement is reset unless
 * there is a row. */
int store_step(struct store *s, sqlite3_stmt *statement, const char *what);
void store_done(sqlite3_stmt *statement);

/* ---- statements with their parameters (store_rows.c) ---- */

struct store_value { /* a parameter; text and bytes are the caller's */
    enum { STORE_TEXT, STORE_INTEGER, STORE_REAL, STORE_BLOB } type;
    const void *bytes; /* text NULL: NULL */
    size_t size;
    int64_t integer;
    double real;
};

static inline struct store_value store_text(const char *text)
{
    return (struct store_value){.type = STORE_TEXT, .bytes = text};
}

static inline struct store_value store_integer(int64_t integer)
{
    return (struct store_value){.type = STORE_INTEGER, .integer = integer};
}

static inline struct store_value store_real(double real)
{
    return (struct store_value){.type = STORE_REAL, .real = real};
}

static inline struct store_value store_blob(const void *bytes, size_t size)
{
    return (struct store_value){.type = STORE_BLOB, .bytes = bytes, .size = size};
}

/* Parameters ?1, ?2, ... and their number: two arguments of what follows. */
#define STORE_VALUES(...)                                                                          \
    (const struct store_value[]){__VA_ARGS__},                                                     \
        (int)(sizeof((const struct store_value[]){__VA_ARGS__}) / sizeof(struct store_value))

/* store_statement with parameters bound. */
sqlite3_stmt *store_query(struct store *s, enum store_statement_id id, const char *sql,
                          const struct store_value *values, int count);

/* A statement that changes rows, in a transaction of its own or the caller's. Returns how many
 * rows, or -errno. */
int store_change(struct store *s, enum store_statement_id id, const char *sql,
                 const struct store_value *values, int count, const char *what);
/* The same, returns 0 or -errno. */
int store_put(struct store *s, enum store_statement_id id, const char *sql,
              const struct store_value *values, int count, const char *what);

/* Copies a column of bytes. Their number, -EBADMSG (more than `most`), -ENOSPC (more than room). */
int store_take_block(struct store *s, sqlite3_stmt *q, int column, size_t most, void *data,
                     size_t room, const char *what);
/* Likewise column 0 of the statement's one row; -ENOENT when there is none. */
int store_get_block(struct store *s, sqlite3_stmt *q, size_t most, void *data, size_t room,
                    const char *what);

/* Opens the file of s->path; two texts of pragmas, the second for writers. 0 or -errno.
 * (store_open.c) */
int store_connect(struct store *s, const char *setup, const char *writer);

/* For a connection that has just been opened: store_commit and store_leave tell by this whether
 * what failed was rolled back. Without it a failed commit counts as done. */
int store_arm(struct store *s);

/* Begins and ends a write section, see above. -EROFS on a reader. */
int store_enter(struct store *s);
int store_leave(struct store *s, int rc);

/* Copies a text column into a field of size bytes. -EBADMSG when it is NULL, holds a NUL or does
 * not fit. */
int store_column_text(struct store *s, sqlite3_stmt *statement, int column, char *field,
                      size_t size);

/* 0 when text has min to size-1 bytes before its NUL, else -EINVAL with an error text that names
 * the field. */
int store_check_text(struct store *s, const char *text, size_t min, size_t size, const char *field);

/* The schema version of this program: the number of migration steps. (store_schema.c) */
int store_schema_version(void);

/* Makes the pages of a new or older database those of schema `version`; report (may be NULL):
 * migrated_from and created. (store_schema.c) */
int store_migrate(struct store *s, int version, struct store_report *report);

/* Reads identity and version: 0 when it is this schema, 1 when empty or older (*version), -EPROTO
 * newer, -EBADMSG foreign or damaged, with an error text. (store_schema.c) */
int store_identify(struct store *s, int *version);

/* Compares a row's check sum with column number column of the statement; NULL (stored before schema
 * 2) fits. -EBADMSG with a text that names table and number. */
int store_compare(struct store *s, sqlite3_stmt *statement, int column, uint32_t crc,
                  const char *table, int64_t number);

/* Finds rows whose check sum does not fit: their numbers to bad, at most max. Returns how many, or
 * -errno. */
typedef int store_verifier(struct store *s, int64_t *bad, int max);
store_verifier outbox_verify, history_verify;

/* Called now and then during long work. */
void store_pulse(void);

/* Runs SQLite's checks; whole: every table and index, else those that stay small; thorough: also
 * the check sums of rows. -EBADMSG with a text. (store_schema.c) */
int store_check(struct store *s, int whole, int thorough);

#endif
