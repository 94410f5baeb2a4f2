/* routine.c - learned routines, one row per meter and appliance. */
#include "storage/routine.h"

#include <errno.h>
#include <string.h>

#include "storage/store_internal.h"

#define COLUMNS "meter, appliance, runs, first_ms, last_ms, data"

static int take(struct store *s, sqlite3_stmt *q, struct routine *out)
{
    int rc = store_column_text(s, q, 0, out->meter, sizeof out->meter);

    if (rc == 0)
        rc = store_column_text(s, q, 1, out->appliance, sizeof out->appliance);
    int64_t runs = sqlite3_column_int64(q, 2);
    out->runs = runs < 0 ? 0 : (uint64_t)runs;
    out->first_ms = sqlite3_column_int64(q, 3);
    out->last_ms = sqlite3_column_int64(q, 4);
    const void *data = sqlite3_column_blob(q, 5);
    const size_t bytes = (size_t)sqlite3_column_bytes(q, 5);
    memset(out->data, 0, sizeof out->data);
    out->data_bytes = 0;
    if (rc == 0 && bytes > sizeof out->data)
        rc = store_refuse(s, -EBADMSG, "%s: table routine, meter %s: %zu bytes", s->path,
                          out->meter, bytes);
    if (rc == 0 && bytes > 0) {
        memcpy(out->data, data, bytes);
        out->data_bytes = (uint32_t)bytes;
    }
    return rc;
}

int routine_get(struct store *s, const char *meter, const char *appliance, struct routine *out)
{
    store_clear(s);
    sqlite3_stmt *q = store_statement(
        s, ROUTINE_GET, "SELECT " COLUMNS " FROM routine WHERE meter = ?1 AND appliance = ?2");
    sqlite3_bind_text(q, 1, meter, -1, SQLITE_STATIC);
    sqlite3_bind_text(q, 2, appliance, -1, SQLITE_STATIC);
    int rc = store_step(s, q, "read a routine");
    if (rc == 0)
        return store_refuse(s, -ENOENT, "meter %s: nothing learned about %s", meter, appliance);
    if (rc < 0)
        return rc;
    rc = take(s, q, out);
    store_done(q);
    return rc;
}

int routine_put(struct store *s, const struct routine *r)
{
    store_clear(s);
    int rc = store_check_text(s, r->meter, 1, sizeof r->meter, "meter of a routine");
    if (rc == 0)
        rc = store_check_text(s, r->appliance, 1, sizeof r->appliance, "appliance of a routine");
    if (rc == 0 && r->data_bytes > sizeof r->data)
        rc = store_refuse(s, -EINVAL, "data of a routine: expected at most %zu bytes",
                          sizeof r->data);
    if (rc == 0 && r->runs > INT64_MAX)
        rc = store_refuse(s, -EINVAL, "runs of a routine: too large");
    if (rc < 0)
        return rc;
    rc = store_enter(s);
    if (rc == 0) {
        sqlite3_stmt *q = store_statement(s, ROUTINE_PUT,
                                          "INSERT OR REPLACE INTO routine (" COLUMNS ")"
                                          " VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
        sqlite3_bind_text(q, 1, r->meter, -1, SQLITE_STATIC);
        sqlite3_bind_text(q, 2, r->appliance, -1, SQLITE_STATIC);
        sqlite3_bind_int64(q, 3, (int64_t)r->runs);
        sqlite3_bind_int64(q, 4, r->first_ms);
        sqlite3_bind_int64(q, 5, r->last_ms);
        sqlite3_bind_blob(q, 6, r->data_bytes ? (const void *)r->data : "", (int)r->data_bytes,
                          SQLITE_STATIC);
        rc = store_step(s, q, "store a routine");
    }
    return store_leave(s, rc);
}

int routine_forget(struct store *s, const char *meter, const char *appliance)
{
    int removed = 0;
    int rc = store_enter(s);

    if (rc == 0) {
        sqlite3_stmt *q = store_statement(
            s, ROUTINE_FORGET,
            "DELETE FROM routine WHERE meter = ?1 AND (?2 IS NULL OR appliance = ?2)");
        sqlite3_bind_text(q, 1, meter, -1, SQLITE_STATIC);
        sqlite3_bind_text(q, 2, appliance, -1, SQLITE_STATIC);
        rc = store_step(s, q, "forget a routine");
        removed = rc == 0 ? sqlite3_changes(s->db) : 0;
    }
    rc = store_leave(s, rc);
    return rc < 0 ? rc : removed;
}

int routine_list(struct store *s, const char *meter, routine_visit *visit, void *context)
{
    int calls = 0, stop = 0, rc = 0;

    store_clear(s);
    sqlite3_stmt *q =
        store_statement(s, ROUTINE_LIST,
                        "SELECT " COLUMNS " FROM routine WHERE ?1 IS NULL OR meter = ?1"
                        " ORDER BY meter, appliance");
    sqlite3_bind_text(q, 1, meter, -1, SQLITE_STATIC);
    while (!stop && (rc = store_step(s, q, "list routines")) > 0) {
        struct routine r;
        rc = take(s, q, &r);
        if (rc < 0)
            break;
        calls++;
        stop = visit(context, &r);
    }
    store_done(q);
    return rc < 0 ? rc : calls;
}
