/* machines.c - what machines did, by quarter of an hour. */
#include "storage/machines.h"

#include <errno.h>
#include <math.h>

#include "storage/store_internal.h"

#define COLUMNS "meter, start_ms, wh, off_ms, idle_ms, run_ms, peak_ms, starts"

static int check_name(struct store *s, const char *meter)
{
    return store_check_text(s, meter, 1, MACHINES_NAME_BYTES, "meter of a machine");
}

int machines_put(struct store *s, const char *meter, const struct machines_quarter *m)
{
    int rc = check_name(s, meter);
    if (rc == 0 && !isfinite(m->wh))
        rc = store_refuse(s, -EINVAL, "energy of a machine: expected a finite number");
    if (rc < 0)
        return rc;
    return store_put(
        s, MACHINES_PUT,
        "INSERT OR REPLACE INTO machine (" COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        STORE_VALUES(store_text(meter), store_integer(m->start_ms), store_real(m->wh),
                     store_integer(m->off_ms), store_integer(m->idle_ms), store_integer(m->run_ms),
                     store_integer(m->peak_ms), store_integer(m->starts)),
        "store what a machine did");
}

int machines_list(struct store *s, const char *meter, int64_t from_ms, int64_t to_ms,
                  machines_visit *visit, void *context)
{
    int calls = 0, stop = 0, rc = 0;

    store_clear(s);
    sqlite3_stmt *q =
        store_query(s, MACHINES_LIST,
                    "SELECT " COLUMNS " FROM machine WHERE (?1 IS NULL OR meter = ?1)"
                    " AND start_ms >= ?2 AND start_ms < ?3 ORDER BY meter, start_ms",
                    STORE_VALUES(store_text(meter), store_integer(from_ms), store_integer(to_ms)));
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
    return store_put(s, MACHINES_TRIM, "DELETE FROM machine WHERE meter = ?1 AND start_ms < ?2",
                     STORE_VALUES(store_text(meter), store_integer(before_ms)),
                     "trim what machines did");
}

int machines_put_state(struct store *s, const char *meter, const void *data, size_t bytes)
{
    int rc = check_name(s, meter);
    if (rc == 0 && bytes > MACHINES_STATE_BYTES)
        rc = store_refuse(s, -EMSGSIZE, "state of a machine: expected at most %d bytes",
                          MACHINES_STATE_BYTES);
    if (rc < 0)
        return rc;
    return store_put(
        s, MACHINES_PUT_STATE, "INSERT OR REPLACE INTO machine_state (meter, data) VALUES (?1, ?2)",
        STORE_VALUES(store_text(meter), store_blob(data, bytes)), "store the state of a machine");
}

int machines_get_state(struct store *s, const char *meter, void *data, size_t room)
{
    store_clear(s);
    sqlite3_stmt *q =
        store_query(s, MACHINES_GET_STATE, "SELECT data FROM machine_state WHERE meter = ?1",
                    STORE_VALUES(store_text(meter)));
    return store_get_block(s, q, MACHINES_STATE_BYTES, data, room, "the state of a machine");
}
