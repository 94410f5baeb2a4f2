/* store_rows.c - statements with their parameters: what the tables' files have in common. */
#include <errno.h>
#include <string.h>

#include "storage/store_internal.h"

sqlite3_stmt *store_query(struct store *s, enum store_statement_id id, const char *sql,
                          const struct store_value *values, int count)
{
    sqlite3_stmt *q = store_statement(s, id, sql);

    for (int i = 0; i < count && q != NULL; i++) {
        const struct store_value *v = &values[i];
        switch (v->type) {
        case STORE_TEXT:
            sqlite3_bind_text(q, i + 1, v->bytes, -1, SQLITE_STATIC);
            break;
        case STORE_INTEGER:
            sqlite3_bind_int64(q, i + 1, v->integer);
            break;
        case STORE_REAL:
            sqlite3_bind_double(q, i + 1, v->real);
            break;
        case STORE_BLOB: /* of no bytes, not NULL */
            sqlite3_bind_blob(q, i + 1, v->size > 0 ? v->bytes : "", (int)v->size, SQLITE_STATIC);
            break;
        }
    }
    return q;
}

int store_change(struct store *s, enum store_statement_id id, const char *sql,
                 const struct store_value *values, int count, const char *what)
{
    int changes = 0;

    store_clear(s);
    int rc = store_enter(s);
    if (rc == 0)
        rc = store_step(s, store_query(s, id, sql, values, count), what);
    if (rc == 0)
        changes = sqlite3_changes(s->db);
    rc = store_leave(s, rc);
    return rc < 0 ? rc : changes;
}

int store_put(struct store *s, enum store_statement_id id, const char *sql,
              const struct store_value *values, int count, const char *what)
{
    int rc = store_change(s, id, sql, values, count, what);

    return rc < 0 ? rc : 0;
}

int store_take_block(struct store *s, sqlite3_stmt *q, int column, size_t most, void *data,
                     size_t room, const char *what)
{
    const void *found = sqlite3_column_blob(q, column);
    const size_t bytes = (size_t)sqlite3_column_bytes(q, column);

    if (bytes > most)
        return store_refuse(s, -EBADMSG, "%s: %s has %zu bytes", s->path, what, bytes);
    if (bytes > room)
        return store_refuse(s, -ENOSPC, "%s has %zu bytes, room for %zu", what, bytes, room);
    if (bytes > 0)
        memcpy(data, found, bytes);
    return (int)bytes;
}

int store_get_block(struct store *s, sqlite3_stmt *q, size_t most, void *data, size_t room,
                    const char *what)
{
    int rc = store_step(s, q, what);

    if (rc == 0)
        return store_refuse(s, -ENOENT, "%s: none is stored", what);
    if (rc > 0)
        rc = store_take_block(s, q, 0, most, data, room, what);
    store_done(q);
    return rc;
}
