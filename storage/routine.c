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
    memset(out->data, 0, sizeof out->data);
    out->data_bytes = 0;
    if (rc == 0)
        rc = store_take_block(s, q, 5, sizeof out->data, out->data, sizeof out->data,
                              "a routine's block");
    if (rc > 0)
        out->data_bytes = (uint32_t)rc;
    return rc < 0 ? rc : 0;
}

int routine_get(struct store *s, const char *meter, const char *appliance, struct routine *out)
{
    store_clear(s);
    sqlite3_stmt *q = store_query(
        s, ROUTINE_GET, "SELECT " COLUMNS " FROM routine WHERE meter = ?1 AND appliance = ?2",
        STORE_VALUES(store_text(meter), store_text(appliance)));
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
    return store_put(s, ROUTINE_PUT,
                     "INSERT OR REPLACE INTO routine (" COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                     STORE_VALUES(store_text(r->meter), store_text(r->appliance),
                                  store_integer((int64_t)r->runs), store_integer(r->first_ms),
                                  store_integer(r->last_ms), store_blob(r->data, r->data_bytes)),
                     "store a routine");
}

int routine_forget(struct store *s, const char *meter, const char *appliance)
{
    return store_change(s, ROUTINE_FORGET,
                        "DELETE FROM routine WHERE meter = ?1 AND (?2 IS NULL OR appliance = ?2)",
                        STORE_VALUES(store_text(meter), store_text(appliance)), "forget a routine");
}

int routine_list(struct store *s, const char *meter, routine_visit *visit, void *context)
{
    int calls = 0, stop = 0, rc = 0;

    store_clear(s);
    sqlite3_stmt *q = store_query(s, ROUTINE_LIST,
                                  "SELECT " COLUMNS " FROM routine WHERE ?1 IS NULL OR meter = ?1"
                                  " ORDER BY meter, appliance",
                                  STORE_VALUES(store_text(meter)));
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
