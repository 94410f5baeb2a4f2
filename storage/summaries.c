#include "storage/summaries.h"

#include <errno.h>

#include "storage/store_internal.h"

#define NAME_BYTES 64u

int summaries_get(struct store *s, const char *meter, int32_t *day)
{
    store_clear(s);
    sqlite3_stmt *q = store_query(s, SUMMARIES_GET, "SELECT day FROM summary WHERE meter = ?1",
                                  STORE_VALUES(store_text(meter)));
    const int rc = store_step(s, q, "read the day of a summary");
    if (rc <= 0)
        return rc < 0 ? rc : -ENOENT;
    *day = sqlite3_column_int(q, 0);
    store_done(q);
    return 0;
}

int summaries_put(struct store *s, const char *meter, int32_t day)
{
    const int rc = store_check_text(s, meter, 1, NAME_BYTES, "meter of a summary");
    if (rc < 0)
        return rc;
    return store_put(
        s, SUMMARIES_PUT, "INSERT OR REPLACE INTO summary (meter, day) VALUES (?1, ?2)",
        STORE_VALUES(store_text(meter), store_integer(day)), "store the day of a summary");
}
