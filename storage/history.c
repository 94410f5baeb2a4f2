/* history.c - runs, and how far each meter was read. */
#include "storage/history.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "storage/crc32.h"
#include "storage/store_internal.h"

#define COLUMNS                                                                                    \
    "id, meter, appliance, confidence, start_ms, end_ms, energy_wh, mean_w, peak_w, end_reason, "  \
    "crc"

static int check_run(struct store *s, const struct history_run *run)
{
    int rc = store_check_text(s, run->meter, 1, sizeof run->meter, "meter of a run");

    if (rc == 0)
        rc = store_check_text(s, run->appliance, 1, sizeof run->appliance, "appliance of a run");
    if (rc == 0)
        rc = store_check_text(s, run->end_reason, 0, sizeof run->end_reason, "end_reason of a run");
    if (rc == 0 && !(isfinite(run->confidence) && isfinite(run->energy_wh) &&
                     isfinite(run->mean_w) && isfinite(run->peak_w)))
        rc = store_refuse(s, -EINVAL, "figures of a run: expected finite numbers");
    return rc;
}

static uint32_t checksum(const struct history_run *run)
{
    uint32_t crc = crc32_integer(0, run->id);

    crc = crc32_text(crc, run->meter, strlen(run->meter));
    crc = crc32_text(crc, run->appliance, strlen(run->appliance));
    crc = crc32_real(crc, run->confidence);
    crc = crc32_integer(crc, run->start_ms);
    crc = crc32_integer(crc, run->end_ms);
    crc = crc32_real(crc, run->energy_wh);
    crc = crc32_real(crc, run->mean_w);
    crc = crc32_real(crc, run->peak_w);
    return crc32_text(crc, run->end_reason, strlen(run->end_reason));
}

/* Parameters 1 to 11 of HISTORY_OPEN and HISTORY_UPDATE. */
static void bind_run(sqlite3_stmt *q, const struct history_run *run)
{
    sqlite3_bind_int64(q, 1, run->id);
    sqlite3_bind_text(q, 2, run->meter, -1, SQLITE_STATIC);
    sqlite3_bind_text(q, 3, run->appliance, -1, SQLITE_STATIC);
    sqlite3_bind_double(q, 4, run->confidence);
    sqlite3_bind_int64(q, 5, run->start_ms);
    sqlite3_bind_int64(q, 6, run->end_ms);
    sqlite3_bind_double(q, 7, run->energy_wh);
    sqlite3_bind_double(q, 8, run->mean_w);
    sqlite3_bind_double(q, 9, run->peak_w);
    sqlite3_bind_text(q, 10, run->end_reason, -1, SQLITE_STATIC);
    sqlite3_bind_int64(q, 11, checksum(run));
}

/* A row with COLUMNS. */
static int take_run(struct store *s, sqlite3_stmt *q, struct history_run *run)
{
    run->id = sqlite3_column_int64(q, 0);
    int rc = store_column_text(s, q, 1, run->meter, sizeof run->meter);
    if (rc == 0)
        rc = store_column_text(s, q, 2, run->appliance, sizeof run->appliance);
    run->confidence = sqlite3_column_double(q, 3);
    run->start_ms = sqlite3_column_int64(q, 4);
    run->end_ms = sqlite3_column_int64(q, 5);
    run->energy_wh = sqlite3_column_double(q, 6);
    run->mean_w = sqlite3_column_double(q, 7);
    run->peak_w = sqlite3_column_double(q, 8);
    if (rc == 0)
        rc = store_column_text(s, q, 9, run->end_reason, sizeof run->end_reason);
    return rc == 0 ? store_compare(s, q, 10, checksum(run), "run", run->id) : rc;
}

/* The largest id plus one: history_trim keeps the largest, so none comes twice. */
static int next_id(struct store *s, int64_t *id)
{
    sqlite3_stmt *q = store_statement(s, HISTORY_NEXT, "SELECT coalesce(max(id), 0) FROM run");
    int rc = store_step(s, q, "find the last run");

    if (rc <= 0)
        return rc;
    *id = sqlite3_column_int64(q, 0);
    store_done(q);
    if (*id >= INT64_MAX)
        return store_refuse(s, -EBADMSG, "%s: table run: no number is left", s->path);
    ++*id;
    return 0;
}

int history_open(struct store *s, const struct history_run *run, int64_t *id)
{
    struct history_run numbered = *run;

    store_clear(s);
    int rc = check_run(s, run);
    if (rc < 0)
        return rc;
    rc = store_enter(s);
    if (rc == 0)
        rc = next_id(s, &numbered.id);
    if (rc == 0) {
        sqlite3_stmt *q = store_statement(
            s, HISTORY_OPEN,
            "INSERT INTO run (" COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)");
        bind_run(q, &numbered);
        rc = store_step(s, q, "store a run");
    }
    rc = store_leave(s, rc);
    if (rc == 0)
        *id = numbered.id;
    return rc;
}

/* -ENOENT when there is no such row. */
static int update(struct store *s, const struct history_run *run)
{
    sqlite3_stmt *q = store_statement(
        s, HISTORY_UPDATE,
        "UPDATE run SET meter = ?2, appliance = ?3, confidence = ?4, start_ms = ?5,"
        " end_ms = ?6, energy_wh = ?7, mean_w = ?8, peak_w = ?9, end_reason = ?10, crc = ?11"
        " WHERE id = ?1");
    bind_run(q, run);
    int rc = store_step(s, q, "update a run");

    if (rc == 0 && sqlite3_changes(s->db) == 0)
        return store_refuse(s, -ENOENT, "run %lld does not exist", (long long)run->id);
    return rc;
}

int history_update(struct store *s, const struct history_run *run)
{
    store_clear(s);
    int rc = check_run(s, run);
    if (rc < 0)
        return rc;
    rc = store_enter(s);
    if (rc == 0)
        rc = update(s, run);
    return store_leave(s, rc);
}

int history_current(struct store *s, const char *meter, struct history_run *out)
{
    store_clear(s);
    sqlite3_stmt *q = store_statement(
        s, HISTORY_CURRENT,
        "SELECT " COLUMNS " FROM run WHERE meter = ?1 AND end_ms = 0 ORDER BY id DESC LIMIT 1");
    sqlite3_bind_text(q, 1, meter, -1, SQLITE_STATIC);
    int rc = store_step(s, q, "read the current run");
    if (rc == 0)
        return store_refuse(s, -ENOENT, "meter %s: no run is open", meter);
    if (rc < 0)
        return rc;
    rc = take_run(s, q, out);
    store_done(q);
    return rc;
}

int history_open_runs(struct store *s, const char *meter, struct history_run *out, int room)
{
    int count = 0, rc = 0;

    store_clear(s);
    sqlite3_stmt *q = store_statement(
        s, HISTORY_OPEN_RUNS,
        "SELECT " COLUMNS " FROM run WHERE meter = ?1 AND end_ms = 0 ORDER BY id DESC LIMIT ?2");
    sqlite3_bind_text(q, 1, meter, -1, SQLITE_STATIC);
    sqlite3_bind_int(q, 2, room);
    while (count < room && (rc = store_step(s, q, "read the open runs")) > 0) {
        rc = take_run(s, q, &out[count]);
        if (rc < 0)
            break;
        count++;
    }
    store_done(q);
    return rc < 0 ? rc : count;
}

int history_list(struct store *s, int64_t from_ms, int64_t to_ms, const char *meter,
                 const char *appliance, int limit, history_visit *visit, void *context)
{
    int calls = 0, stop = 0, rc = 0;

    store_clear(s);
    sqlite3_stmt *q =
        store_statement(s, HISTORY_LIST,
                        "SELECT " COLUMNS " FROM run WHERE start_ms >= ?1 AND start_ms < ?2"
                        " AND (?3 IS NULL OR meter = ?3) AND (?4 IS NULL OR appliance = ?4)"
                        " ORDER BY start_ms DESC, id DESC");
    sqlite3_bind_int64(q, 1, from_ms);
    sqlite3_bind_int64(q, 2, to_ms);
    sqlite3_bind_text(q, 3, meter, -1, SQLITE_STATIC);
    sqlite3_bind_text(q, 4, appliance, -1, SQLITE_STATIC);
    while (calls < limit && !stop && (rc = store_step(s, q, "list runs")) > 0) {
        struct history_run run;
        rc = take_run(s, q, &run);
        if (rc < 0)
            break;
        calls++;
        stop = visit(context, &run);
    }
    store_done(q);
    return rc < 0 ? rc : calls;
}

static int read_run(struct store *s, int64_t id, struct history_run *run)
{
    sqlite3_stmt *q = store_statement(s, HISTORY_READ, "SELECT " COLUMNS " FROM run WHERE id = ?1");

    sqlite3_bind_int64(q, 1, id);
    int rc = store_step(s, q, "read a run");
    if (rc == 0)
        return store_refuse(s, -ENOENT, "run %lld does not exist", (long long)id);
    if (rc < 0)
        return rc;
    rc = take_run(s, q, run);
    store_done(q);
    return rc;
}

int history_read(struct store *s, int64_t id, struct history_run *out)
{
    store_clear(s);
    return read_run(s, id, out);
}

int history_label(struct store *s, int64_t id, const char *appliance)
{
    struct history_run run;

    store_clear(s);
    int rc = store_check_text(s, appliance, 1, HISTORY_NAME_BYTES, "appliance of a run");
    if (rc < 0)
        return rc;
    rc = store_enter(s);
    if (rc == 0)
        rc = read_run(s, id, &run);
    if (rc == 0) {
        memcpy(run.appliance, appliance, strlen(appliance) + 1);
        rc = update(s, &run);
    }
    return store_leave(s, rc);
}

static int shift(struct store *s, struct history_run *run, int64_t by_ms)
{
    run->start_ms += by_ms;
    run->end_ms += run->end_ms != 0 ? by_ms : 0;
    return update(s, run);
}

/* The next row of a statement whose parameters 1 to 3 are these: 1, 0 none, -errno. */
static int next_run(struct store *s, sqlite3_stmt *q, int64_t id, int64_t from_ms, int64_t to_ms,
                    struct history_run *run)
{
    sqlite3_bind_int64(q, 1, id);
    sqlite3_bind_int64(q, 2, from_ms);
    sqlite3_bind_int64(q, 3, to_ms);
    int rc = store_step(s, q, "find a run");
    if (rc > 0) {
        rc = take_run(s, q, run);
        rc = rc < 0 ? rc : 1;
    }
    store_done(q);
    return rc;
}

int history_shift_open(struct store *s, int64_t from_ms, int64_t to_ms, int64_t by_ms, int64_t *ids,
                       int room)
{
    struct history_run run = {.id = -1};
    int count = 0, found = 1;

    store_clear(s);
    int rc = store_enter(s);
    while (rc == 0 && found && count < room) {
        sqlite3_stmt *q = store_statement(s, HISTORY_SHIFT_OPEN,
                                          "SELECT " COLUMNS " FROM run WHERE end_ms = 0 AND id > ?1"
                                          " AND start_ms >= ?2 AND start_ms < ?3"
                                          " ORDER BY id LIMIT 1");
        rc = found = next_run(s, q, run.id, from_ms, to_ms, &run);
        if (found > 0) {
            ids[count++] = run.id;
            rc = shift(s, &run, by_ms);
        }
    }
    rc = store_leave(s, rc);
    return rc < 0 ? rc : count;
}

static int is_among(int64_t id, const int64_t *ids, int count)
{
    for (int i = 0; i < count; i++)
        if (ids[i] == id)
            return 1;
    return 0;
}

int history_shift(struct store *s, int64_t *below_id, int64_t from_ms, int64_t to_ms, int64_t by_ms,
                  int most, const int64_t *but, int but_count)
{
    struct history_run run = {.id = *below_id};
    int count = 0, found = 1;

    store_clear(s);
    int rc = store_enter(s);
    while (rc == 0 && found && count < most) {
        sqlite3_stmt *q = store_statement(s, HISTORY_SHIFT,
                                          "SELECT " COLUMNS " FROM run NOT INDEXED WHERE id < ?1"
                                          " AND start_ms >= ?2 AND start_ms < ?3"
                                          " ORDER BY id DESC LIMIT 1");
        rc = found = next_run(s, q, run.id, from_ms, to_ms, &run);
        if (found > 0) {
            count++;
            rc = is_among(run.id, but, but_count) ? 0 : shift(s, &run, by_ms);
        }
    }
    rc = store_leave(s, rc);
    if (rc < 0)
        return rc;
    *below_id = run.id;
    return count;
}

int history_trim(struct store *s, int64_t max_rows)
{
    return store_change(s, HISTORY_TRIM,
                        "DELETE FROM run WHERE id IN (SELECT id FROM run WHERE end_ms <> 0"
                        " AND id < (SELECT max(id) FROM run) ORDER BY start_ms, id"
                        " LIMIT max(0, (SELECT count(*) FROM run) - ?1))",
                        STORE_VALUES(store_integer(max_rows < 0 ? 0 : max_rows)),
                        "trim the history");
}

int history_progress(struct store *s, const char *meter, int64_t *t_ms)
{
    store_clear(s);
    sqlite3_stmt *q =
        store_statement(s, HISTORY_PROGRESS, "SELECT time_ms FROM meter_progress WHERE meter = ?1");
    sqlite3_bind_text(q, 1, meter, -1, SQLITE_STATIC);
    int rc = store_step(s, q, "read the progress of a meter");
    if (rc == 0)
        return store_refuse(s, -ENOENT, "meter %s: nothing was read yet", meter);
    if (rc < 0)
        return rc;
    *t_ms = sqlite3_column_int64(q, 0);
    store_done(q);
    return 0;
}

int history_set_progress(struct store *s, const char *meter, int64_t t_ms)
{
    int rc = store_check_text(s, meter, 1, HISTORY_NAME_BYTES, "meter");
    if (rc < 0)
        return rc;
    return store_put(s, HISTORY_SET_PROGRESS,
                     "INSERT INTO meter_progress (meter, time_ms) VALUES (?1, ?2)"
                     " ON CONFLICT (meter) DO UPDATE SET time_ms = excluded.time_ms",
                     STORE_VALUES(store_text(meter), store_integer(t_ms)),
                     "store the progress of a meter");
}

int history_state(struct store *s, const char *meter, void *data, size_t size)
{
    store_clear(s);
    sqlite3_stmt *q = store_query(s, HISTORY_STATE, "SELECT data FROM meter_state WHERE meter = ?1",
                                  STORE_VALUES(store_text(meter)));
    return store_get_block(s, q, HISTORY_STATE_BYTES, data, size, "the state of a meter");
}

int history_set_state(struct store *s, const char *meter, const void *data, size_t size)
{
    int rc = store_check_text(s, meter, 1, HISTORY_NAME_BYTES, "meter");
    if (rc == 0 && size > HISTORY_STATE_BYTES)
        rc = store_refuse(s, -EINVAL, "state of meter %s: expected at most %u bytes, not %zu",
                          meter, HISTORY_STATE_BYTES, size);
    if (rc < 0)
        return rc;
    return store_put(s, HISTORY_SET_STATE,
                     "INSERT INTO meter_state (meter, data) VALUES (?1, ?2)"
                     " ON CONFLICT (meter) DO UPDATE SET data = excluded.data",
                     STORE_VALUES(store_text(meter), store_blob(data, size)),
                     "store the state of a meter");
}

int history_verify(struct store *s, int64_t *bad, int max)
{
    sqlite3_stmt *q = NULL;
    struct history_run run;
    int count = 0, rc = 0;

    sqlite3_prepare_v2(s->db, "SELECT " COLUMNS " FROM run NOT INDEXED", -1, &q, NULL);
    while (count < max && (rc = store_step(s, q, "verify the history")) > 0) {
        rc = take_run(s, q, &run);
        if (rc == -EBADMSG) {
            bad[count++] = run.id;
            rc = 0;
        }
    }
    sqlite3_finalize(q);
    store_clear(s);
    return rc < 0 ? rc : count;
}
