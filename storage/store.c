/* store.c - the handle: errors, cached statements, transactions, named values, figures. Opening is
 * in store_open.c. */
#include "storage/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/store_internal.h"

#define NAME_BYTES 64u
#define FRAME_HEADER_BYTES                                                                         \
    24u /* of the WAL, https://www.sqlite.org/fileformat2.html section 4.1                         \
         */

static void roll_back(struct store *s);

void store_clear(struct store *s)
{
    s->error[0] = '\0';
    if (s->roll_back_due && !s->in_transaction)
        roll_back(s);
}

const char *store_error(const struct store *s)
{
    return s->error;
}

int store_refuse(struct store *s, int rc, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(s->error, sizeof s->error, format, arguments);
    va_end(arguments);
    return rc;
}

static int is_full(int e)
{
    return e == ENOSPC || e == EDQUOT ||
           e == EFBIG; /* quotas and RLIMIT_FSIZE are a full disk to the caller */
}

/* The system's reason behind SQLITE_IOERR and SQLITE_CANTOPEN. errno may have been overwritten by
 * what SQLite did since; each file keeps its own. */
static int system_errno(sqlite3 *db)
{
    const int files[] = {SQLITE_FCNTL_FILE_POINTER, SQLITE_FCNTL_JOURNAL_POINTER};
    int e = sqlite3_system_errno(db);

    for (int i = 0; i < 2 && !is_full(e); i++) {
        sqlite3_file *file = NULL;
        int last = 0;
        if (sqlite3_file_control(db, "main", files[i], &file) == SQLITE_OK && file != NULL &&
            file->pMethods != NULL &&
            file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &last) == SQLITE_OK &&
            is_full(last))
            e = last;
    }
    if (is_full(e))
        return -ENOSPC;
    if (e == EROFS || e == EACCES || e == ENOENT || e == EMFILE || e == ENOMEM)
        return -e;
    return -EIO;
}

static int to_errno(sqlite3 *db)
{
    int code = sqlite3_extended_errcode(db);

    if (code == SQLITE_IOERR_NOMEM)
        return -ENOMEM;
    switch (code & 0xff) {
    case SQLITE_OK:
        return -EIO;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_READONLY:
        return -EROFS;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EBUSY;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return -EACCES;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_CONSTRAINT: /* callers check arguments first: only damage can break a constraint */
    case SQLITE_ERROR:      /* a table or column that the schema promises is not there */
    case SQLITE_SCHEMA:
        return -EBADMSG;
    case SQLITE_MISUSE:
    case SQLITE_RANGE:
    case SQLITE_TOOBIG:
        return -EINVAL;
    default:
        return system_errno(db);
    }
}

/* Leaves path.check, so that the next store_open looks at the whole file. Best effort. */
static void suspect(const struct store *s)
{
    char name[4096];
    int n = snprintf(name, sizeof name, "%s.check", s->path);

    if (s->readonly || n < 0 || (size_t)n >= sizeof name)
        return;
    int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
    if (fd >= 0)
        close(fd);
}

int store_fail(struct store *s, const char *what)
{
    int rc = to_errno(s->db);

    store_refuse(s, rc, "%s: %s: %s", s->path, what, sqlite3_errmsg(s->db));
    if (rc == -EBADMSG)
        suspect(s);
    return rc;
}

sqlite3_stmt *store_statement(struct store *s, enum store_statement_id id, const char *sql)
{
    sqlite3_stmt **slot = &s->statements[id];

    if (*slot == NULL)
        sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, slot, NULL);
    else
        store_done(*slot);
    return *slot;
}

void store_done(sqlite3_stmt *statement)
{
    if (statement == NULL) /* it could not be prepared */
        return;
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
}

int store_step(struct store *s, sqlite3_stmt *statement, const char *what)
{
    if (statement == NULL)
        return store_fail(s, what);
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW)
        return 1;
    int rc = code == SQLITE_DONE ? 0 : store_fail(s, what);
    store_done(statement);
    return rc;
}

static int run(struct store *s, enum store_statement_id id, const char *sql)
{
    return store_step(s, store_statement(s, id, sql), sql);
}

sqlite3_stmt *store_rollback_statement(struct store *s)
{
    return store_statement(s, STORE_ROLLBACK, "ROLLBACK");
}

/* After an I/O error or a full disk SQLite may have rolled back by itself. The error text stays. */
static void roll_back(struct store *s)
{
    s->roll_back_due = 0;
    if (sqlite3_get_autocommit(s->db))
        return;
    sqlite3_stmt *statement = store_rollback_statement(s);
    if (statement != NULL) {
        sqlite3_step(statement);
        store_done(statement);
    }
    s->roll_back_due = !sqlite3_get_autocommit(s->db); /* no memory: at the next call */
}

/* The log of a full disk cannot grow, and is written from its beginning again only when all of it
 * has been copied: the usual time for that may never come. */
static void make_room(struct store *s)
{
    int in_log = 0, copied = 0;

    if (sqlite3_get_autocommit(s->db))
        sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_PASSIVE, &in_log, &copied);
}

static int begin(struct store *s)
{
    if (s->readonly)
        return store_refuse(s, -EROFS, "%s: opened for reading only", s->path);
    if (s->roll_back_due)
        roll_back(s);
    return run(s, STORE_BEGIN, "BEGIN IMMEDIATE");
}

/* When memory runs out at the end of a COMMIT, SQLite may tell of a failure although the
 * transaction is stored. Then it was not rolled back, and is over. */
static int commit(struct store *s)
{
    s->rolled_back = 0;
    int rc = run(s, STORE_COMMIT, "COMMIT");

    if (rc < 0 && sqlite3_get_autocommit(s->db) && !s->rolled_back) {
        store_clear(s);
        return 0;
    }
    if (rc < 0)
        roll_back(s);
    if (rc == -ENOSPC)
        make_room(s);
    return rc;
}

int store_enter(struct store *s)
{
    store_clear(s);
    if (!s->in_transaction)
        return begin(s);
    if (s->spoiled)
        return store_refuse(s, -ECANCELED, "an earlier write of this transaction failed");
    return 0;
}

int store_leave(struct store *s, int rc)
{
    if (s->in_transaction) {
        s->spoiled |= rc < 0 && rc != -ENOENT && rc != -EINVAL;
        return rc;
    }
    if (rc >= 0) {
        int failed = commit(s);
        return failed < 0 ? failed : rc;
    }
    roll_back(s);
    return rc;
}

int store_begin(struct store *s)
{
    store_clear(s);
    if (s->in_transaction)
        return store_refuse(s, -EALREADY, "a transaction is open already");
    int rc = begin(s);
    s->in_transaction = rc == 0;
    s->spoiled = 0;
    return rc;
}

int store_commit(struct store *s)
{
    store_clear(s);
    if (!s->in_transaction)
        return store_refuse(s, -EINVAL, "no transaction is open");
    s->in_transaction = 0;
    if (!s->spoiled)
        return commit(s);
    roll_back(s);
    return store_refuse(s, -ECANCELED, "an earlier write of this transaction failed");
}

void store_rollback(struct store *s)
{
    s->in_transaction = 0;
    roll_back(s);
}

int store_column_text(struct store *s, sqlite3_stmt *statement, int column, char *field,
                      size_t size)
{
    const unsigned char *text = sqlite3_column_text(statement, column);
    size_t length = (size_t)sqlite3_column_bytes(statement, column);

    if (text == NULL || length >= size || memchr(text, 0, length) != NULL) {
        suspect(s);
        return store_refuse(s, -EBADMSG, "%s: column %s: expected a text of at most %zu bytes",
                            s->path, sqlite3_column_name(statement, column), size - 1);
    }
    memcpy(field, text, length + 1);
    return 0;
}

int store_compare(struct store *s, sqlite3_stmt *statement, int column, uint32_t crc,
                  const char *table, int64_t number)
{
    if (sqlite3_column_type(statement, column) == SQLITE_NULL ||
        sqlite3_column_int64(statement, column) == (int64_t)crc)
        return 0;
    suspect(s);
    return store_refuse(s, -EBADMSG, "%s: table %s, number %lld: the check sum does not fit",
                        s->path, table, (long long)number);
}

int store_check_text(struct store *s, const char *text, size_t min, size_t size, const char *field)
{
    size_t length = text == NULL ? 0 : strnlen(text, size);

    if (text != NULL && length >= min && length < size)
        return 0;
    return store_refuse(s, -EINVAL, "%s: expected %zu to %zu bytes", field, min, size - 1);
}

int store_get(struct store *s, const char *name, int64_t *value)
{
    store_clear(s);
    int rc = store_check_text(s, name, 1, NAME_BYTES, "name of a value");
    if (rc < 0)
        return rc;
    sqlite3_stmt *q = store_statement(s, STORE_GET, "SELECT value FROM value WHERE name = ?1");
    sqlite3_bind_text(q, 1, name, -1, SQLITE_STATIC);
    rc = store_step(s, q, "read a value");
    if (rc == 0)
        return store_refuse(s, -ENOENT, "value %s is not set", name);
    if (rc > 0) {
        *value = sqlite3_column_int64(q, 0);
        store_done(q);
        rc = 0;
    }
    return rc;
}

int store_set(struct store *s, const char *name, int64_t value)
{
    store_clear(s);
    int rc = store_check_text(s, name, 1, NAME_BYTES, "name of a value");
    if (rc < 0)
        return rc;
    if (strncmp(name, "store.", 6) == 0)
        return store_refuse(s, -EINVAL, "value %s: names that begin with store. are reserved",
                            name);
    rc = store_enter(s);
    if (rc == 0) {
        sqlite3_stmt *q =
            store_statement(s, STORE_SET,
                            "INSERT INTO value (name, value) VALUES (?1, ?2) "
                            "ON CONFLICT (name) DO UPDATE SET value = excluded.value");
        sqlite3_bind_text(q, 1, name, -1, SQLITE_STATIC);
        sqlite3_bind_int64(q, 2, value);
        rc = store_step(s, q, "write a value");
    }
    return store_leave(s, rc);
}

int store_told(struct store *s)
{
    store_clear(s);
    int rc = store_enter(s);
    if (rc == 0)
        rc = store_step(s,
                        store_statement(s, STORE_TOLD,
                                        "DELETE FROM value WHERE name IN ('" STORE_REPLACED_NAME
                                        "', '" STORE_SALVAGED_NAME "', '" STORE_LOST_NAME
                                        "', '" STORE_ROWS_NAME "', '" STORE_BAD_NAME "')"),
                        "note that the report was told");
    return store_leave(s, rc);
}

/* One number of a PRAGMA. */
static int pragma_number(struct store *s, const char *sql, uint64_t *number)
{
    sqlite3_stmt *q = NULL;

    sqlite3_prepare_v2(s->db, sql, -1, &q, NULL);
    int rc = store_step(s, q, sql);
    if (rc > 0)
        *number = (uint64_t)sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return rc < 0 ? rc : 0;
}

int store_usage(struct store *s, struct store_usage *out)
{
    uint64_t page_bytes = 0, pages = 0, free_pages = 0;
    char name[4096];
    struct stat st;
    int frames = 0, high = 0;

    store_clear(s);
    int rc = pragma_number(s, "PRAGMA page_size", &page_bytes);
    if (rc == 0)
        rc = pragma_number(s, "PRAGMA page_count", &pages);
    if (rc == 0)
        rc = pragma_number(s, "PRAGMA freelist_count", &free_pages);
    if (rc < 0)
        return rc;
    memset(out, 0, sizeof *out);
    out->database_bytes = pages * page_bytes;
    out->free_bytes = free_pages * page_bytes;
    int n = snprintf(name, sizeof name, "%s-wal", s->path);
    if (n > 0 && (size_t)n < sizeof name && stat(name, &st) == 0)
        out->wal_bytes = (uint64_t)st.st_size;
    sqlite3_db_status(s->db, SQLITE_DBSTATUS_CACHE_WRITE, &frames, &high, 0);
    out->written_bytes = (uint64_t)frames * (page_bytes + FRAME_HEADER_BYTES) + s->copied_bytes;
    return 0;
}

int store_size(struct store *s, uint64_t *bytes)
{
    struct store_usage usage;
    int rc = store_usage(s, &usage);

    if (rc == 0)
        *bytes = usage.database_bytes + usage.wal_bytes;
    return rc;
}
