/* machines.c - what machines did, by quarter of an hour. */
#include "storage/machines.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "storage/store_internal.h"

#define COLUMNS "meter, start_ms, wh, off_ms, idle_ms, run_ms, peak_ms, starts"

static int check_name(struct store *s, const char *meter)
{
    store_clear(s);
    return store_check_text(s, meter, 1, MACHINES_NAME_BYTES, "meter of a machine");
}

int machines_put(struct store *s, const char *meter, const struct machines_quarter *m)
{
    int rc = check_name(s, meter);
    if (rc == 0 && !isfinite(m->wh))
        rc = store_refuse(s, -EINVAL, "energy of a machine: expected a finite number");
    if (rc < 0)
        return rc;
    rc = store_enter(s);
    if (rc == 0) {
        sqlite3_stmt *q = store_statement(s, MACHINES_PUT,
                                          "INSERT OR REPLACE INTO machine (" COLUMNS
                                          ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
        const int64_t whole[] = {m->off_ms, m->idle_ms, m->run_ms, m->peak_ms, m->starts};
        sqlite3_bind_text(q, 1, meter, -1, SQLITE_STATIC);
        sqlite3_bind_int64(q, 2, m->start_ms);
        sqlite3_bind_double(q, 3, m->wh);
        for (int i = 0; i < 5; i++)
            sqlite3_bind_int64(q, 4 + i, whole[i]);
        rc = store_step(s, q, "store what a machine did");
    }
    return store_leave(s, rc);
}

int machines_list(struct store *s, const char *meter, int64_t from_ms, int64_t to_ms,
                  machines_visit *visit, void *context)
{
    int calls = 0, stop = 0, rc = 0;

    store_clear(s);
    sqlite3_stmt *q =
        store_statement(s, MACHINES_LIST,
                        "SELECT " COLUMNS " FROM machine WHERE (?1 IS NULL OR meter = ?1)"
                        " AND start_ms >= ?2 AND start_ms < ?3 ORDER BY meter, start_ms");
    sqlite3_bind_text(q, 1, meter, -1, SQLITE_STATIC);
    sqlite3_bind_int64(q, 2, from_ms);
    sqlite3_bind_int64(q, 3, to_ms);
    while (!stop && (rc = store_step(s, q, "list what machines did")) > 0) {
        const struct machines_quarter m = {.start_ms = sqlite3_column_int64(q, 1),
                                           .wh = sqlite3_column_double(q, 2),
                                           .off_ms = sqlite3_column_int64(q, 3),
                                           .idle_ms = sqlite3_column_int64(q, 4),
                                           .run_ms = sqlite3_column_int64(q, 5),
                                           .peak_ms = sqlite3_column_int64(q, 6),
                                           .starts = sqlite3_column_int64(q, 7)};
        char name[MACHINES_NAME_BYTES];
        rc = store_column_text(s, q, 0, name, sizeof name);
        if (rc < 0)
            break;
        calls++;
        stop = visit(context, name, &m);
    }
    store_done(q);
    return rc < 0 ? rc : calls;
}

int machines_trim(struct store *s, const char *meter, int64_t before_ms)
{
    int rc = check_name(s, meter);
    if (rc < 0)
        return rc;
    rc = store_enter(s);
    if (rc == 0) {
        sqlite3_stmt *q = store_statement(s, MACHINES_TRIM,
                                          "DELETE FROM machine WHERE meter = ?1 AND start_ms < ?2");
        sqlite3_bind_text(q, 1, meter, -1, SQLITE_STATIC);
        sqlite3_bind_int64(q, 2, before_ms);
        rc = store_step(s, q, "trim what machines did");
    }
    return store_leave(s, rc);
}

int machines_put_state(struct store *s, const char *meter, const void *data, size_t bytes)
{
    int rc = check_name(s, meter);
    if (rc == 0 && bytes > MACHINES_STATE_BYTES)
        rc = store_refuse(s, -EMSGSIZE, "state of a machine: expected at most %d bytes",
                          MACHINES_STATE_BYTES);
    if (rc < 0)
        return rc;
    rc = store_enter(s);
    if (rc == 0) {
        sqlite3_stmt *q =
            store_statement(s, MACHINES_PUT_STATE,
                            "INSERT OR REPLACE INTO machine_state (meter, data) VALUES (?1, ?2)");
        sqlite3_bind_text(q, 1, meter, -1, SQLITE_STATIC);
        sqlite3_bind_blob(q, 2, bytes ? data : "", (int)bytes, SQLITE_STATIC);
        rc = store_step(s, q, "store the state of a machine");
    }
    return store_leave(s, rc);
}

int machines_get_state(struct store *s, const char *meter, void *data, size_t room)
{
    int rc = check_name(s, meter);
    if (rc < 0)
        return rc;
    sqlite3_stmt *q =
        store_statement(s, MACHINES_GET_STATE, "SELECT data FROM machine_state WHERE meter = ?1");
    sqlite3_bind_text(q, 1, meter, -1, SQLITE_STATIC);
    rc = store_step(s, q, "read the state of a machine");
    if (rc == 0) {
        rc = -ENOENT;
    } else if (rc > 0) {
        const void *found = sqlite3_column_blob(q, 0);
        const size_t bytes = (size_t)sqlite3_column_bytes(q, 0);
        rc = bytes > room ? -EMSGSIZE : (int)bytes;
        if (rc > 0)
            memcpy(data, found, bytes);
    }
    store_done(q);
    return rc;
}
