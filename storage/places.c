/* places.c - blocks of what was learned about a place. */
#include "storage/places.h"

#include <errno.h>

#include "storage/store_internal.h"

#define BLOCK "a place's block"

static int check(struct store *s, const char *meter, size_t size)
{
    int rc = store_check_text(s, meter, 1, PLACES_NAME_BYTES, "meter of a place");
    if (rc == 0 && size > PLACES_MAX_BYTES)
        rc = store_refuse(s, -EINVAL, "a place's block: expected at most %u bytes, not %zu",
                          PLACES_MAX_BYTES, size);
    return rc;
}

int places_get(struct store *s, const char *meter, void *data, size_t size)
{
    store_clear(s);
    sqlite3_stmt *q = store_query(s, PLACES_GET, "SELECT data FROM place WHERE meter = ?1",
                                  STORE_VALUES(store_text(meter)));
    return store_get_block(s, q, PLACES_MAX_BYTES, data, size, BLOCK);
}

int places_put(struct store *s, const char *meter, const void *data, size_t size)
{
    const int rc = check(s, meter, size);
    if (rc < 0)
        return rc;
    return store_put(s, PLACES_PUT,
                     "INSERT INTO place (meter, data) VALUES (?1, ?2)"
                     " ON CONFLICT (meter) DO UPDATE SET data = excluded.data",
                     STORE_VALUES(store_text(meter), store_blob(data, size)), "store a place");
}

int places_list(struct store *s, places_visit_meter *visit, void *context)
{
    char meter[PLACES_NAME_BYTES];
    int calls = 0, stop = 0, rc = 0;
    store_clear(s);
    sqlite3_stmt *q = store_statement(s, PLACES_LIST, "SELECT meter FROM place ORDER BY meter");
    while (!stop && (rc = store_step(s, q, "list places")) > 0) {
        rc = store_column_text(s, q, 0, meter, sizeof meter);
        if (rc < 0)
            break;
        calls++;
        stop = visit(context, meter);
    }
    store_done(q);
    return rc < 0 ? rc : calls;
}

/* --- runs --- */

int places_put_run(struct store *s, const char *meter, const struct places_run *run)
{
    int rc = check(s, meter, 0);
    if (rc == 0 && run->bytes > PLACES_RUN_BYTES)
        rc = store_refuse(s, -EINVAL, "a run of a place: expected at most %u bytes, not %u",
                          PLACES_RUN_BYTES, run->bytes);
    if (rc < 0)
        return rc;
    return store_put(s, PLACES_PUT_RUN,
                     "INSERT OR REPLACE INTO place_run (meter, start_ms, number, data)"
                     " VALUES (?1, ?2, ?3, ?4)",
                     STORE_VALUES(store_text(meter), store_integer(run->start_ms),
                                  store_integer(run->number), store_blob(run->data, run->bytes)),
                     "store a run of a place");
}

/* A row with start_ms, number, data. */
static int take_run(struct store *s, sqlite3_stmt *q, struct places_run *out)
{
    int64_t number = sqlite3_column_int64(q, 1);
    out->start_ms = sqlite3_column_int64(q, 0);
    if (number < 0 || number > UINT32_MAX)
        return store_refuse(s, -EBADMSG, "%s: table place_run: number %lld", s->path,
                            (long long)number);
    out->number = (uint32_t)number;
    int rc = store_take_block(s, q, 2, PLACES_RUN_BYTES, out->data, sizeof out->data, BLOCK);
    out->bytes = rc < 0 ? 0 : (uint32_t)rc;
    return rc < 0 ? rc : 0;
}

int places_get_run(struct store *s, const char *meter, int64_t start_ms, struct places_run *out)
{
    store_clear(s);
    sqlite3_stmt *q = store_query(
        s, PLACES_GET_RUN,
        "SELECT start_ms, number, data FROM place_run WHERE meter = ?1 AND start_ms = ?2",
        STORE_VALUES(store_text(meter), store_integer(start_ms)));
    int rc = store_step(s, q, "read a run of a place");
    if (rc == 0)
        return store_refuse(s, -ENOENT, "meter %s: the run is of no learned load", meter);
    if (rc < 0)
        return rc;
    rc = take_run(s, q, out);
    store_done(q);
    return rc;
}

int places_runs_of(struct store *s, const char *meter, uint32_t number, int64_t after_ms,
                   struct places_run *out, int room)
{
    int count = 0, rc = 0;
    store_clear(s);
    sqlite3_stmt *q = store_query(
        s, PLACES_RUNS_OF,
        "SELECT start_ms, number, data FROM place_run WHERE meter = ?1 AND number = ?2"
        " AND start_ms > ?3 ORDER BY start_ms",
        STORE_VALUES(store_text(meter), store_integer(number), store_integer(after_ms)));
    while (rc == 0 && count < room && (rc = store_step(s, q, "list runs of a load")) > 0)
        rc = take_run(s, q, &out[count++]);
    store_done(q);
    return rc < 0 ? rc : count;
}

int places_move_runs(struct store *s, const char *meter, uint32_t from, uint32_t to)
{
    return store_change(s, PLACES_MOVE_RUNS,
                        "UPDATE place_run SET number = ?3 WHERE meter = ?1 AND number = ?2",
                        STORE_VALUES(store_text(meter), store_integer(from), store_integer(to)),
                        "move runs of a load");
}

int places_shift_runs(struct store *s, int64_t from_ms, int64_t to_ms, int64_t by_ms)
{
    return store_change(
        s, PLACES_SHIFT_RUNS,
        "UPDATE OR REPLACE place_run SET start_ms = start_ms + ?3"
        " WHERE start_ms >= ?1 AND start_ms < ?2",
        STORE_VALUES(store_integer(from_ms), store_integer(to_ms), store_integer(by_ms)),
        "shift runs of loads");
}

/* --- habits --- */

int places_get_habit(struct store *s, const char *meter, const char *appliance, void *data,
                     size_t size)
{
    store_clear(s);
    sqlite3_stmt *q = store_query(
        s, PLACES_GET_HABIT, "SELECT data FROM place_habit WHERE meter = ?1 AND appliance = ?2",
        STORE_VALUES(store_text(meter), store_text(appliance)));
    return store_get_block(s, q, PLACES_MAX_BYTES, data, size, "a habit");
}

int places_put_habit(struct store *s, const char *meter, const char *appliance, const void *data,
                     size_t size)
{
    int rc = check(s, meter, size);
    if (rc == 0)
        rc = store_check_text(s, appliance, 0, PLACES_NAME_BYTES, "appliance of a habit");
    if (rc < 0)
        return rc;
    rc = store_change(
        s, PLACES_PUT_HABIT,
        "INSERT OR REPLACE INTO place_habit (meter, appliance, data) SELECT ?1, ?2, ?3"
        " WHERE (SELECT count(*) FROM place_habit WHERE meter = ?1 AND appliance <> ?2) <= ?4",
        STORE_VALUES(store_text(meter), store_text(appliance), store_blob(data, size),
                     store_integer(PLACES_HABITS_MAX)),
        "store a habit");
    if (rc == 0)
        return store_refuse(s, -ENOSPC, "meter %s: at most %d habits", meter, PLACES_HABITS_MAX);
    return rc < 0 ? rc : 0;
}

int places_forget_habit(struct store *s, const char *meter, const char *appliance)
{
    const int rc = store_change(
        s, PLACES_FORGET_HABIT, "DELETE FROM place_habit WHERE meter = ?1 AND appliance = ?2",
        STORE_VALUES(store_text(meter), store_text(appliance)), "forget a habit");
    if (rc == 0)
        return store_refuse(s, -ENOENT, "meter %s: no habit of \"%s\"", meter, appliance);
    return rc < 0 ? rc : 0;
}

int places_list_habits(struct store *s, const char *meter, places_visit_habit *visit, void *context)
{
    char appliance[PLACES_NAME_BYTES];
    int calls = 0, stop = 0, rc = 0;
    store_clear(s);
    sqlite3_stmt *q = store_query(
        s, PLACES_LIST_HABITS,
        "SELECT appliance FROM place_habit WHERE meter = ?1 AND appliance <> '' ORDER BY 1",
        STORE_VALUES(store_text(meter)));
    while (!stop && (rc = store_step(s, q, "list habits")) > 0) {
        rc = store_column_text(s, q, 0, appliance, sizeof appliance);
        if (rc < 0)
            break;
        calls++;
        stop = visit(context, appliance);
    }
    store_done(q);
    return rc < 0 ? rc : calls;
}

/* --- cells --- */

int places_put_cells(struct store *s, const char *meter, int64_t hour, const void *data,
                     size_t size)
{
    const int rc = check(s, meter, size);
    if (rc < 0)
        return rc;
    return store_put(s, PLACES_PUT_CELLS,
                     "INSERT OR REPLACE INTO place_cells (meter, hour, data) VALUES (?1, ?2, ?3)",
                     STORE_VALUES(store_text(meter), store_integer(hour), store_blob(data, size)),
                     "store cells of the mains");
}

int places_list_cells(struct store *s, const char *meter, int64_t from, int64_t to,
                      places_visit_cells *visit, void *context)
{
    int calls = 0, stop = 0, rc = 0;
    store_clear(s);
    sqlite3_stmt *q =
        store_query(s, PLACES_LIST_CELLS,
                    "SELECT hour, data FROM place_cells WHERE meter = ?1 AND hour >= ?2"
                    " AND hour < ?3 ORDER BY hour",
                    STORE_VALUES(store_text(meter), store_integer(from), store_integer(to)));
    while (!stop && (rc = store_step(s, q, "list cells of the mains")) > 0) {
        calls++;
        stop = visit(context, sqlite3_column_int64(q, 0), sqlite3_column_blob(q, 1),
                     (size_t)sqlite3_column_bytes(q, 1));
    }
    store_done(q);
    return rc < 0 ? rc : calls;
}

/* --- bounds --- */

int places_trim(struct store *s, int64_t max_runs, int64_t max_hours)
{
    const int runs = store_change(
        s, PLACES_TRIM_RUNS,
        "DELETE FROM place_run WHERE (meter, start_ms) IN (SELECT meter, start_ms FROM"
        " place_run ORDER BY start_ms LIMIT max(0, (SELECT count(*) FROM place_run) - ?1))",
        STORE_VALUES(store_integer(max_runs < 0 ? 0 : max_runs)), "trim runs of loads");
    if (runs < 0)
        return runs;
    const int cells = store_change(
        s, PLACES_TRIM_CELLS,
        "DELETE FROM place_cells WHERE hour <= (SELECT max(hour) FROM place_cells AS newest"
        " WHERE newest.meter = place_cells.meter) - ?1",
        STORE_VALUES(store_integer(max_hours < 1 ? 1 : max_hours)), "trim cells of the mains");
    return cells < 0 ? cells : runs + cells;
}
