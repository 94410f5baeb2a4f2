/* salvage_settle.c - puts a salvaged database in order: bad rows out, losses declared, counters
 * counted. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "storage/outbox_internal.h"
#include "storage/salvage_internal.h"

#define BAD_ROWS 256 /* found in one pass over a table */

static int execute(struct store *to, const char *sql)
{
    return sqlite3_exec(to->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : store_fail(to, "salvage");
}

/* First column of the first row; 0 when there is none. */
static int ask(struct store *to, sqlite3 *db, const char *sql, int64_t *number)
{
    sqlite3_stmt *q = NULL;
    int code = sqlite3_prepare_v2(db, sql, -1, &q, NULL);

    *number = 0;
    if (code == SQLITE_OK)
        code = sqlite3_step(q);
    if (code == SQLITE_ROW)
        *number = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return code == SQLITE_ROW || code == SQLITE_DONE ? 0
           : db == to->db                            ? store_fail(to, sql)
                                                     : -EIO;
}

/* Deletes the rows of a table whose check sum does not fit. */
static int remove_bad(struct salvage *job, const char *table, store_verifier *verify)
{
    struct store *to = job->to;
    int64_t bad[BAD_ROWS];
    char sql[96];
    int count;

    do {
        count = verify(to, bad, BAD_ROWS);
        for (int i = 0; i < count; i++) {
            snprintf(sql, sizeof sql, "DELETE FROM %s WHERE rowid = %" PRId64, table, bad[i]);
            int rc = execute(to, sql);
            if (rc < 0)
                return rc;
            job->report->bad++;
        }
    } while (count == BAD_ROWS);
    return count < 0 ? count : 0;
}

/* Rows without a check sum (of schema 1) must look like what they are: a page of another table in
 * the place of one of theirs may fit the columns. Before columns are computed anew. */
static const char implausible[] =
    "DELETE FROM outbox WHERE kind NOT BETWEEN 1 AND 4 OR (crc IS NULL AND NOT (seq > 0 AND epoch >"
    " 0 AND priority = CASE kind WHEN 2 THEN 2 WHEN 3 THEN 3 ELSE 1 END AND body LIKE '{%}'"
    " AND length(CAST(channel AS BLOB)) < 64"
    " AND size = length(CAST(body AS BLOB)) + length(CAST(channel AS BLOB)) + 64));"
    "DELETE FROM run WHERE crc IS NULL AND NOT (id > 0 AND confidence BETWEEN 0 AND 1"
    " AND length(meter) > 0 AND length(appliance) > 0"
    " AND end_reason IN ('', 'off', 'gap', 'stop'));";

/* What follows from other columns, and the row of counters as far as it can be believed. *expected:
 * how many items waited, -1 when nobody knows. */
static int restore_state(struct salvage *job, int64_t *expected)
{
    struct store *to = job->to;
    struct outbox_state state;
    int64_t last = 0;
    int rc = execute(to, "UPDATE outbox SET parked = parked <> 0, priority = CASE kind WHEN 2 THEN"
                         " 2 WHEN 3 THEN 3 ELSE 1 END, size = length(CAST(body AS BLOB)) +"
                         " length(CAST(channel AS BLOB)) + 64");

    *expected = -1;
    if (rc == 0)
        rc = outbox_read_state(to, &state);
    if (rc == 0) {
        *expected = state.kinds[1] + state.kinds[2] + state.kinds[3] + state.kinds[4];
        if (state.next_seq <= 1) /* the row of a new database: the old one was not read */
            *expected = -1;
    } else if (rc == -EBADMSG) {
        rc = execute(to, "DELETE FROM outbox_state; INSERT INTO outbox_state (one, epoch, next_seq,"
                         " events, alerts, gaps, reports, bytes, parked, dropped, acknowledged,"
                         " age_ms, clock_ms) VALUES (1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)");
    }
    if (rc == 0 && *expected < 0 &&
        ask(to, job->from,
            "SELECT max(seq) FROM outbox INDEXED BY outbox_order"
            " WHERE seq < 1 << 53",
            &last) < 0)
        last = 0;
    char sql[640];
    snprintf(sql, sizeof sql,
             "UPDATE outbox_state SET next_seq = max(next_seq, 1, 1 + %" PRId64
             ", (SELECT coalesce(max(seq), 0) + 1 FROM outbox),"
             " (SELECT coalesce(max(to_seq), 0) + 1 FROM gap)),"
             " epoch = max(epoch, 0, (SELECT coalesce(max(epoch), 0) FROM outbox),"
             " (SELECT coalesce(max(value), 0) FROM value WHERE name = '" STORE_EPOCH_NAME "')),"
             " age_ms = max(age_ms, (SELECT coalesce(max(age_ms), 0) FROM outbox))",
             last);
    return rc == 0 ? execute(to, sql) : rc;
}

/* Numbers that the index of the outbox has and the new outbox has not: counted, or declared one by
 * one. -1: the index cannot be read. */
static int64_t list_missing(struct salvage *job, int64_t next_seq, int declare, int *rc)
{
    sqlite3_stmt *all = NULL, *one = NULL;
    int64_t missing = 0;
    int code = SQLITE_ERROR;

    sqlite3_prepare_v2(job->from, "SELECT seq FROM outbox INDEXED BY outbox_order", -1, &all, NULL);
    sqlite3_prepare_v2(job->to->db, "SELECT 1 FROM outbox WHERE seq = ?1", -1, &one, NULL);
    while (*rc == 0 && all != NULL && one != NULL && (code = sqlite3_step(all)) == SQLITE_ROW) {
        int64_t seq = sqlite3_column_int64(all, 0);
        sqlite3_bind_int64(one, 1, seq);
        int there = sqlite3_step(one) == SQLITE_ROW;
        sqlite3_reset(one);
        if (there || seq < 1 || seq >= next_seq)
            continue;
        if (++missing > next_seq) { /* damaged links: the same ones again and again */
            code = SQLITE_CORRUPT;
            break;
        }
        if (declare)
            *rc = outbox_lose(job->to, seq, seq, 1);
    }
    sqlite3_finalize(all);
    sqlite3_finalize(one);
    return code == SQLITE_DONE ? missing : -1;
}

/* Declares what waited and is not there. missing: how many the old counters say, -1 when nobody
 * knows. The index tells which, if it agrees with the counters. Else one range spans all numbers
 * that are not there, acknowledged ones too, and its count says how many of them are lost; without
 * counters that is all of them. So too when the ledger of earlier losses has a bad place. */
static int declare_losses(struct salvage *job, int64_t next_seq, int64_t missing)
{
    int64_t first = 0, last = 0, there = 0;
    int rc = 0;

    if (next_seq <= 1 || (missing == 0 && !job->gaps_unread))
        return 0;
    if (missing > 0 && !job->gaps_unread && list_missing(job, next_seq, 0, &rc) == missing) {
        job->report->lost_items = (uint64_t)missing;
        list_missing(job, next_seq, 1, &rc);
        return rc;
    }
    rc = ask(job->to, job->to->db, "SELECT count(*) FROM outbox", &there);
    if (rc == 0)
        rc = ask(job->to, job->to->db,
                 "SELECT min(n) FROM (SELECT 1 AS n UNION ALL SELECT seq + 1 FROM outbox)"
                 " WHERE NOT EXISTS (SELECT 1 FROM outbox WHERE seq = n)",
                 &first);
    if (rc == 0)
        rc = ask(job->to, job->to->db,
                 "SELECT max(n) FROM (SELECT next_seq - 1 AS n FROM outbox_state UNION ALL"
                 " SELECT seq - 1 FROM outbox) WHERE NOT EXISTS (SELECT 1 FROM outbox WHERE seq ="
                 " n)",
                 &last);
    if (rc < 0 || first < 1 || last < first)
        return rc;
    if (missing < 0 || missing > next_seq - 1 - there)
        missing = next_seq - 1 - there;
    job->report->lost_items = (uint64_t)missing;
    if (missing == 0) /* only numbers whose loss was noted before, nobody knows how many */
        missing = 1;
    return outbox_lose(job->to, first, last, missing);
}

static int count_all(struct salvage *job)
{
    struct store_report *report = job->report;
    int64_t items = 0;
    char sql[1024];

    snprintf(sql, sizeof sql,
             "UPDATE outbox_state SET events = (SELECT count(*) FROM outbox WHERE kind = 1),"
             " alerts = (SELECT count(*) FROM outbox WHERE kind = 2),"
             " gaps = (SELECT count(*) FROM outbox WHERE kind = 3),"
             " reports = (SELECT count(*) FROM outbox WHERE kind = 4),"
             " bytes = (SELECT coalesce(sum(size), 0) FROM outbox WHERE kind <> 3),"
             " parked = (SELECT count(*) FROM outbox WHERE parked),"
             " dropped = max(dropped, 0) + %" PRIu64 ", acknowledged = max(acknowledged, 0)",
             report->lost_items);
    int rc = execute(job->to, sql);
    if (rc == 0)
        rc = ask(job->to, job->to->db, "SELECT count(*) FROM outbox", &items);
    report->salvaged_items = (uint64_t)items;
    if (rc == 0) {
        snprintf(sql, sizeof sql,
                 "INSERT OR REPLACE INTO value VALUES ('" STORE_SCHEMA_NAME "', (SELECT"
                 " user_version FROM pragma_user_version)), ('" STORE_REPLACED_NAME "', 1),"
                 " ('" STORE_SALVAGED_NAME "', %" PRIu64 "), ('" STORE_LOST_NAME "', %" PRIu64
                 "), ('" STORE_ROWS_NAME "', %" PRIu64 "), ('" STORE_BAD_NAME "', %" PRIu64 ")",
                 report->salvaged_items, report->lost_items, report->salvaged_rows, report->bad);
        rc = execute(job->to, sql);
    }
    return rc;
}

int salvage_settle(struct salvage *job)
{
    struct outbox_state state = {0};
    int64_t expected = -1, there = 0;

    store_clear(job->to);
    int rc = store_enter(job->to);
    if (rc == 0)
        rc = execute(job->to, implausible);
    if (rc == 0)
        rc = remove_bad(job, "outbox", outbox_verify);
    if (rc == 0)
        rc = remove_bad(job, "run", history_verify);
    if (rc == 0)
        rc = restore_state(job, &expected);
    if (rc == 0)
        rc = outbox_read_state(job->to, &state);
    if (rc == 0)
        rc = ask(job->to, job->to->db, "SELECT count(*) FROM outbox", &there);
    if (rc == 0)
        rc = declare_losses(job, state.next_seq,
                            expected < 0 || expected < there ? -1 : expected - there);
    if (rc == 0)
        rc = count_all(job);
    return store_leave(job->to, rc);
}
