/* store_schema.c - the tables (SPEC section 5), their versions, and the checks of a file that was
 * found. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "storage/store_internal.h"

/* Released steps are never changed. STRICT: a column holds its type or the insert fails. */
static const char step_1[] =
    "CREATE TABLE value (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE outbox_state ("
    " one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL, next_seq INTEGER NOT NULL,"
    " events INTEGER NOT NULL, alerts INTEGER NOT NULL, gaps INTEGER NOT NULL, reports INTEGER NOT "
    "NULL,"
    " bytes INTEGER NOT NULL, parked INTEGER NOT NULL, dropped INTEGER NOT NULL, acknowledged "
    "INTEGER NOT NULL,"
    " age_ms INTEGER NOT NULL, clock_ms INTEGER NOT NULL) STRICT;"
    "INSERT INTO outbox_state VALUES (1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);"
    "CREATE TABLE outbox ("
    " seq INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, kind INTEGER NOT NULL, priority INTEGER NOT "
    "NULL,"
    " parked INTEGER NOT NULL DEFAULT 0, created_ms INTEGER NOT NULL, age_ms INTEGER NOT NULL, "
    "size INTEGER NOT NULL,"
    " channel TEXT NOT NULL, body TEXT NOT NULL, reason TEXT) STRICT;"
    "CREATE INDEX outbox_order ON outbox (parked DESC, priority, seq);"
    "CREATE TABLE gap ("
    " reason INTEGER NOT NULL, from_seq INTEGER NOT NULL, to_seq INTEGER NOT NULL, count INTEGER "
    "NOT NULL,"
    " PRIMARY KEY (reason, from_seq)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE run ("
    " id INTEGER PRIMARY KEY, meter TEXT NOT NULL, appliance TEXT NOT NULL, confidence REAL NOT "
    "NULL,"
    " start_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL, energy_wh REAL NOT NULL, mean_w REAL NOT "
    "NULL,"
    " peak_w REAL NOT NULL, end_reason TEXT NOT NULL) STRICT;"
    "CREATE INDEX run_start ON run (start_ms, id);"
    "CREATE INDEX run_open ON run (meter, id) WHERE end_ms = 0;"
    "CREATE TABLE meter_progress (meter TEXT PRIMARY KEY, time_ms INTEGER NOT NULL) STRICT, "
    "WITHOUT ROWID;"
    "CREATE TABLE meter_state (meter TEXT PRIMARY KEY, data BLOB NOT NULL) STRICT;"
    "CREATE TABLE routine ("
    " meter TEXT NOT NULL, appliance TEXT NOT NULL, runs INTEGER NOT NULL, duration_mean_s REAL "
    "NOT NULL,"
    " duration_m2 REAL NOT NULL, duration_max_s REAL NOT NULL, power_mean_w REAL NOT NULL, "
    "power_m2 REAL NOT NULL,"
    " power_min_w REAL NOT NULL, power_max_w REAL NOT NULL, energy_mean_wh REAL NOT NULL, first_ms "
    "INTEGER NOT NULL,"
    " last_ms INTEGER NOT NULL, PRIMARY KEY (meter, appliance)) STRICT, WITHOUT ROWID;";

/* Check sums of the rows that grow (outbox_checksum, history_checksum); NULL in rows of before. */
static const char step_2[] = "ALTER TABLE outbox ADD COLUMN crc INTEGER;"
                             "ALTER TABLE run ADD COLUMN crc INTEGER;";

/* What was learned of the place of a meter (places.h). */
static const char step_3[] =
    "CREATE TABLE place (meter TEXT PRIMARY KEY, data BLOB NOT NULL) STRICT;"
    "CREATE TABLE place_run (meter TEXT NOT NULL, start_ms INTEGER NOT NULL, number INTEGER NOT "
    "NULL,"
    " data BLOB NOT NULL, PRIMARY KEY (meter, start_ms)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX place_run_number ON place_run (meter, number, start_ms);"
    "CREATE TABLE place_habit (meter TEXT NOT NULL, appliance TEXT NOT NULL, data BLOB NOT NULL,"
    " PRIMARY KEY (meter, appliance)) STRICT;"
    "CREATE TABLE place_cells (meter TEXT NOT NULL, hour INTEGER NOT NULL, data BLOB NOT NULL,"
    " PRIMARY KEY (meter, hour)) STRICT;";

/* Routines as a block that only the agent reads: learning begins anew. Alerts as they are told.
 * Energy by the hour. */
static const char step_4[] =
    "CREATE TABLE routine_4 (meter TEXT NOT NULL, appliance TEXT NOT NULL, runs INTEGER NOT NULL,"
    " first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, data BLOB NOT NULL,"
    " PRIMARY KEY (meter, appliance)) STRICT, WITHOUT ROWID;"
    "INSERT INTO routine_4 SELECT meter, appliance, runs, first_ms, last_ms, x'' FROM routine;"
    "DROP TABLE routine;"
    "ALTER TABLE routine_4 RENAME TO routine;"
    "CREATE TABLE energy (meter TEXT NOT NULL, start_ms INTEGER NOT NULL, wh REAL NOT NULL,"
    " low_w REAL NOT NULL, high_w REAL NOT NULL, seen_s INTEGER NOT NULL, run_s INTEGER NOT NULL,"
    " peak_s INTEGER NOT NULL, starts INTEGER NOT NULL, PRIMARY KEY (meter, start_ms))"
    " STRICT, WITHOUT ROWID;"
    "CREATE TABLE alert (id TEXT PRIMARY KEY, alert TEXT NOT NULL, meter TEXT NOT NULL,"
    " appliance TEXT NOT NULL, severity INTEGER NOT NULL, since_ms INTEGER NOT NULL,"
    " raised_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, cleared_ms INTEGER NOT NULL,"
    " expected TEXT NOT NULL, seen TEXT NOT NULL, value REAL NOT NULL, bound REAL NOT NULL,"
    " quality INTEGER NOT NULL, snoozed_ms INTEGER NOT NULL DEFAULT 0) STRICT;"
    "CREATE INDEX alert_raised ON alert (raised_ms);"
    "CREATE INDEX alert_open ON alert (meter, alert) WHERE cleared_ms = 0;"
    "CREATE INDEX alert_snoozed ON alert (snoozed_ms) WHERE snoozed_ms <> 0;";

/* What machines did, by quarter of an hour. */
static const char step_5[] =
    "CREATE TABLE machine (meter TEXT NOT NULL, start_ms INTEGER NOT NULL, wh REAL NOT NULL,"
    " off_ms INTEGER NOT NULL, idle_ms INTEGER NOT NULL, run_ms INTEGER NOT NULL,"
    " peak_ms INTEGER NOT NULL, starts INTEGER NOT NULL, PRIMARY KEY (meter, start_ms))"
    " STRICT, WITHOUT ROWID;"
    "CREATE TABLE machine_state (meter TEXT PRIMARY KEY, data BLOB NOT NULL) STRICT;";

/* The last day of a meter whose summary was stored. */
static const char step_6[] = "CREATE TABLE summary (meter TEXT PRIMARY KEY, day INTEGER NOT NULL)"
                             " STRICT, WITHOUT ROWID;";

/* Step i + 1 takes a database from schema i to i + 1; a new file runs through all of them. The
 * schema version is the number of steps. A new step goes to the end, and a file of the version
 * before it into tests/storage/test_migrate.c. */
static const char *const steps[] = {step_1, step_2, step_3, step_4, step_5, step_6};

#define SCHEMA_VERSION ((int)(sizeof steps / sizeof steps[0]))

/* Those that stay small whatever waits; outbox and run grow. */
static const char *const small_tables[] = {
    "value",   "outbox_state", "gap",         "meter_progress", "meter_state",
    "routine", "place",        "place_habit", "machine_state",  "summary"};

int store_schema_version(void)
{
    return SCHEMA_VERSION;
}

/* First column of the first row: number, or copied into text when that is not NULL. 1 row, 0 none,
 * -errno. */
static int ask(struct store *s, const char *sql, int64_t *number, char *text, size_t text_size)
{
    sqlite3_stmt *q = NULL;

    sqlite3_prepare_v2(s->db, sql, -1, &q, NULL);
    int rc = store_step(s, q, sql);
    if (rc > 0 && text != NULL) {
        const unsigned char *found = sqlite3_column_text(q, 0);
        snprintf(text, text_size, "%s", found == NULL ? (const unsigned char *)"" : found);
    } else if (rc > 0) {
        *number = sqlite3_column_int64(q, 0);
    }
    sqlite3_finalize(q);
    return rc;
}

int store_identify(struct store *s, int *version)
{
    int64_t identity = 0, user_version = 0, tables = 0, noted = 0;
    int rc = ask(s, "PRAGMA application_id", &identity, NULL, 0);

    *version = 0;
    if (rc >= 0)
        rc = ask(s, "PRAGMA user_version", &user_version, NULL, 0);
    if (rc >= 0)
        rc = ask(s, "SELECT count(*) FROM sqlite_schema", &tables, NULL, 0);
    if (rc < 0)
        return rc;
    if (identity == 0 && user_version == 0 && tables == 0)
        return 1;
    if (identity != STORE_APPLICATION_ID)
        return store_refuse(
            s, -EBADMSG, "%s: another program's database (application_id 0x%08X, expected 0x%08X)",
            s->path, (unsigned)identity, (unsigned)STORE_APPLICATION_ID);
    rc = ask(s, "SELECT value FROM value WHERE name = '" STORE_SCHEMA_NAME "'", &noted, NULL, 0);
    if (rc < 0)
        return rc;
    if (rc == 0 || noted != user_version || user_version < 1)
        return store_refuse(s, -EBADMSG,
                            "%s: damaged: user_version is %d, the named value " STORE_SCHEMA_NAME
                            " is %d",
                            s->path, (int)user_version, (int)noted);
    *version = (int)user_version;
    if (user_version > SCHEMA_VERSION)
        return store_refuse(s, -EPROTO, "%s: schema version %d is newer than this program's (%d)",
                            s->path, *version, SCHEMA_VERSION);
    return user_version < SCHEMA_VERSION;
}

static int execute(struct store *s, const char *sql)
{
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK
               ? 0
               : store_fail(s, "make the tables");
}

int store_migrate(struct store *s, int to, struct store_report *report)
{
    char mark[256];
    int version = 0;
    int rc = store_enter(s);

    /* Looked at again inside the transaction: another handle may have been faster. */
    if (rc == 0)
        rc = store_identify(s, &version);
    if (rc > 0 && report != NULL) {
        report->created = version == 0;
        report->migrated_from = version;
    }
    if (rc > 0) {
        rc = 0;
        for (int i = version; i < to && rc == 0; i++)
            rc = execute(s, steps[i]);
        snprintf(mark, sizeof mark,
                 "PRAGMA application_id = %d; PRAGMA user_version = %d;"
                 "INSERT OR REPLACE INTO value VALUES ('" STORE_SCHEMA_NAME "', %d)",
                 STORE_APPLICATION_ID, to, to);
        if (rc == 0)
            rc = execute(s, mark);
    }
    return store_leave(s, rc);
}

/* What is found has to be found twice: SQLite's checks tell of an allocation or a reading that
 * failed as if it were damage ("unable to get the page"). */
static int check(struct store *s, const char *sql)
{
    char finding[160];
    int rc = 0;

    for (int i = 0; i < 2; i++) {
        rc = ask(s, sql, NULL, finding, sizeof finding);
        if (rc < 0)
            return rc;
        if (rc > 0 && strcmp(finding, "ok") == 0)
            return 0;
    }
    return store_refuse(s, -EBADMSG, "%s: damaged: %s", s->path, rc == 0 ? "no answer" : finding);
}

/* What no structural check sees: the one row is there, and no number would be given twice. */
static int check_numbers(struct store *s)
{
    int64_t good = 0;
    int rc = ask(s,
                 "SELECT next_seq > coalesce((SELECT max(seq) FROM outbox), 0) AND next_seq > 0 "
                 "AND epoch >= 0"
                 " AND min(events, alerts, gaps, reports, bytes, parked, dropped, acknowledged) >= "
                 "0 FROM outbox_state",
                 &good, NULL, 0);

    if (rc < 0)
        return rc;
    if (rc == 0 || !good)
        return store_refuse(s, -EBADMSG,
                            "%s: damaged: table outbox_state is empty or contradicts table outbox",
                            s->path);
    return 0;
}

static int check_rows(struct store *s, const char *table, store_verifier *verify)
{
    int64_t number = 0;
    int rc = verify(s, &number, 1);

    return rc <= 0 ? rc
                   : store_refuse(s, -EBADMSG,
                                  "%s: damaged: table %s, number %lld: the check sum does not fit",
                                  s->path, table, (long long)number);
}

int store_check(struct store *s, int whole, int thorough)
{
    int rc = 0;

    if (whole)
        rc = check(s, thorough ? "PRAGMA integrity_check(1)" : "PRAGMA quick_check(1)");
    for (size_t i = 0; !whole && i < sizeof small_tables / sizeof small_tables[0] && rc == 0; i++) {
        char sql[64];
        snprintf(sql, sizeof sql, "PRAGMA quick_check(%s)", small_tables[i]);
        rc = check(s, sql);
    }
    if (rc == 0 && thorough)
        rc = check_rows(s, "outbox", outbox_verify);
    if (rc == 0 && thorough)
        rc = check_rows(s, "run", history_verify);
    return rc == 0 ? check_numbers(s) : rc;
}
