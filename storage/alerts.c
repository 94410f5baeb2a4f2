/* alerts.c - the log of alerts. */
#include "storage/alerts.h"

#include <errno.h>
#include <math.h>

#include "storage/store_internal.h"

#define COLUMNS                                                                                    \
    "id, alert, meter, appliance, severity, since_ms, raised_ms, updated_ms, cleared_ms,"          \
    " expected, seen, value, bound, quality, snoozed_ms"

static int take(struct store *s, sqlite3_stmt *q, struct alerts_row *r)
{
    int rc = store_column_text(s, q, 0, r->id, sizeof r->id);
    if (rc == 0)
        rc = store_column_text(s, q, 1, r->alert, sizeof r->alert);
    if (rc == 0)
        rc = store_column_text(s, q, 2, r->meter, sizeof r->meter);
    if (rc == 0)
        rc = store_column_text(s, q, 3, r->appliance, sizeof r->appliance);
    r->severity = sqlite3_column_int(q, 4);
    r->since_ms = sqlite3_column_int64(q, 5);
    r->raised_ms = sqlite3_column_int64(q, 6);
    r->updated_ms = sqlite3_column_int64(q, 7);
    r->cleared_ms = sqlite3_column_int64(q, 8);
    if (rc == 0)
        rc = store_column_text(s, q, 9, r->expected, sizeof r->expected);
    if (rc == 0)
        rc = store_column_text(s, q, 10, r->seen, sizeof r->seen);
    r->value = sqlite3_column_double(q, 11);
    r->limit = sqlite3_column_double(q, 12);
    r->quality = sqlite3_column_int(q, 13);
    r->snoozed_ms = sqlite3_column_int64(q, 14);
    return rc;
}

static int check(struct store *s, const struct alerts_row *r)
{
    int rc = store_check_text(s, r->id, 1, sizeof r->id, "id of an alert");
    if (rc == 0)
        rc = store_check_text(s, r->alert, 1, sizeof r->alert, "name of an alert");
    if (rc == 0)
        rc = store_check_text(s, r->meter, 1, sizeof r->meter, "meter of an alert");
    if (rc == 0)
        rc = store_check_text(s, r->appliance, 0, sizeof r->appliance, "appliance of an alert");
    if (rc == 0)
        rc = store_check_text(s, r->expected, 0, sizeof r->expected, "expected of an alert");
    if (rc == 0)
        rc = store_check_text(s, r->seen, 0, sizeof r->seen, "seen of an alert");
    if (rc == 0 && !(isfinite(r->value) && isfinite(r->limit)))
        rc = store_refuse(s, -EINVAL, "figures of an alert: expected finite numbers");
    return rc;
}

int alerts_put(struct store *s, const struct alerts_row *r)
{
    const int rc = check(s, r);
    if (rc < 0)
        return rc;
    return store_put(
        s, ALERTS_PUT,
        "INSERT INTO alert (" COLUMNS ") VALUES"
        " (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)"
        " ON CONFLICT (id) DO UPDATE SET severity = max(severity, excluded.severity),"
        " updated_ms = excluded.updated_ms, cleared_ms = excluded.cleared_ms,"
        " expected = CASE excluded.expected WHEN '' THEN expected ELSE excluded.expected END,"
        " seen = CASE excluded.cleared_ms WHEN 0 THEN excluded.seen ELSE seen END,"
        " value = CASE excluded.cleared_ms WHEN 0 THEN excluded.value ELSE value END,"
        " bound = excluded.bound",
        STORE_VALUES(store_text(r->id), store_text(r->alert), store_text(r->meter),
                     store_text(r->appliance), store_integer(r->severity),
                     store_integer(r->since_ms), store_integer(r->raised_ms),
                     store_integer(r->updated_ms), store_integer(r->cleared_ms),
                     store_text(r->expected), store_text(r->seen), store_real(r->value),
                     store_real(r->limit), store_integer(r->quality), store_integer(r->snoozed_ms)),
        "store an alert");
}

int alerts_snoozed(struct store *s, const char *meter, const char *alert, const char *appliance,
                   int64_t *until_ms)
{
    store_clear(s);
    *until_ms = 0;
    sqlite3_stmt *q =
        store_query(s, ALERTS_SNOOZED,
                    "SELECT max(snoozed_ms) FROM alert WHERE snoozed_ms <> 0"
                    " AND meter = ?1 AND alert = ?2 AND appliance = ?3",
                    STORE_VALUES(store_text(meter), store_text(alert), store_text(appliance)));
    int rc = store_step(s, q, "read a snooze");
    if (rc > 0) {
        *until_ms = sqlite3_column_int64(q, 0);
        store_done(q);
    }
    return rc < 0 ? rc : 0;
}

int alerts_snooze(struct store *s, const char *id, int64_t until_ms)
{
    const int rc =
        store_change(s, ALERTS_SNOOZE, "UPDATE alert SET snoozed_ms = ?2 WHERE id = ?1",
                     STORE_VALUES(store_text(id), store_integer(until_ms)), "snooze an alert");
    if (rc == 0)
        return store_refuse(s, -ENOENT, "there is no alert \"%.40s\"", id);
    return rc < 0 ? rc : 0;
}

static int visit_all(struct store *s, sqlite3_stmt *q, int limit, alerts_visit *visit,
                     void *context)
{
    int calls = 0, stop = 0, rc = 0;
    while (calls < limit && !stop && (rc = store_step(s, q, "list alerts")) > 0) {
        struct alerts_row r;
        rc = take(s, q, &r);
        if (rc < 0)
            break;
        calls++;
        stop = visit(context, &r);
    }
    store_done(q);
    return rc < 0 ? rc : calls;
}

int alerts_awake(struct store *s, int64_t now_ms, int limit, alerts_visit *visit, void *context)
{
    store_clear(s);
    sqlite3_stmt *q = store_query(s, ALERTS_AWAKE,
                                  "SELECT " COLUMNS " FROM alert WHERE snoozed_ms <> 0"
                                  " AND snoozed_ms <= ?1 AND cleared_ms = 0",
                                  STORE_VALUES(store_integer(now_ms)));
    return visit_all(s, q, limit, visit, context);
}

int alerts_wake(struct store *s, int64_t now_ms)
{
    return store_change(
        s, ALERTS_WAKE,
        "UPDATE alert SET snoozed_ms = 0 WHERE snoozed_ms <> 0 AND snoozed_ms <= ?1",
        STORE_VALUES(store_integer(now_ms)), "end snoozes");
}

int alerts_list(struct store *s, int64_t from_ms, int64_t to_ms, int only_open, int limit,
                alerts_visit *visit, void *context)
{
    store_clear(s);
    sqlite3_stmt *q = store_query(
        s, ALERTS_LIST,
        "SELECT " COLUMNS " FROM alert WHERE raised_ms < ?2 AND (cleared_ms = 0 OR"
        " (?3 = 0 AND cleared_ms >= ?1)) ORDER BY raised_ms DESC, id",
        STORE_VALUES(store_integer(from_ms), store_integer(to_ms), store_integer(only_open)));
    return visit_all(s, q, limit, visit, context);
}

int alerts_trim(struct store *s, int64_t max_rows)
{
    return store_change(s, ALERTS_TRIM,
                        "DELETE FROM alert WHERE id IN (SELECT id FROM alert WHERE cleared_ms <> 0"
                        " ORDER BY raised_ms LIMIT max(0, (SELECT count(*) FROM alert) - ?1))",
                        STORE_VALUES(store_integer(max_rows)), "trim the alerts");
}
