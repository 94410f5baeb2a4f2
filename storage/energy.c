/* energy.c - energy by meter and hour. */
#include "storage/energy.h"

#include <errno.h>
#include <math.h>

#include "storage/store_internal.h"

#define NAME_BYTES 64u
#define COLUMNS "meter, start_ms, wh, low_w, high_w, seen_s, run_s, peak_s, starts"

int energy_put(struct store *s, const char *meter, const struct energy_hour *h)
{
    int rc = store_check_text(s, meter, 1, NAME_BYTES, "meter of an hour");
    if (rc == 0 && !(isfinite(h->wh) && isfinite(h->low_w) && isfinite(h->high_w)))
        rc = store_refuse(s, -EINVAL, "figures of an hour: expected finite numbers");
    if (rc < 0)
        return rc;
    return store_put(
        s, ENERGY_PUT,
        "INSERT OR REPLACE INTO energy (" COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        STORE_VALUES(store_text(meter), store_integer(h->start_ms), store_real(h->wh),
                     store_real(h->low_w), store_real(h->high_w), store_integer(h->seen_s),
                     store_integer(h->run_s), store_integer(h->peak_s), store_integer(h->starts)),
        "store an hour");
}

int energy_list(struct store *s, const char *meter, int64_t from_ms, int64_t to_ms,
                energy_visit *visit, void *context)
{
    int calls = 0, stop = 0, rc = 0;

    store_clear(s);
    sqlite3_stmt *q =
        store_query(s, ENERGY_LIST,
                    "SELECT " COLUMNS " FROM energy WHERE (?1 IS NULL OR meter = ?1)"
                    " AND start_ms >= ?2 AND start_ms < ?3 ORDER BY meter, start_ms",
                    STORE_VALUES(store_text(meter), store_integer(from_ms), store_integer(to_ms)));
    while (!stop && (rc = store_step(s, q, "list hours")) > 0) {
        struct energy_hour h = {.start_ms = sqlite3_column_int64(q, 1),
                                .wh = sqlite3_column_double(q, 2),
                                .low_w = sqlite3_column_double(q, 3),
                                .high_w = sqlite3_column_double(q, 4),
                                .seen_s = sqlite3_column_int(q, 5),
                                .run_s = sqlite3_column_int(q, 6),
                                .peak_s = sqlite3_column_int(q, 7),
                                .starts = sqlite3_column_int(q, 8)};
        char name[NAME_BYTES];
        rc = store_column_text(s, q, 0, name, sizeof name);
        if (rc < 0)
            break;
        calls++;
        stop = visit(context, name, &h);
    }
    store_done(q);
    return rc < 0 ? rc : calls;
}

int energy_trim(struct store *s, int64_t before_ms)
{
    return store_change(s, ENERGY_TRIM, "DELETE FROM energy WHERE start_ms < ?1",
                        STORE_VALUES(store_integer(before_ms)), "trim hours");
}
