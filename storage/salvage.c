/* salvage.c - see salvage.h. What is left in the end is put in order by salvage_settle.c. */
#include "storage/salvage.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "storage/salvage_internal.h"
#include "storage/salvage_overlay.h"

#define BATCH_ROWS 4096   /* per transaction: what a full disk takes back */
#define ODD 4096          /* rows out of order: a page in a wrong place, or links in a circle */
#define ROWS (1 << 24)    /* read of one table, repetitions included */
#define LARGEST (1 << 22) /* row number, where nothing tells it; looked up at most */
#define ERRORS (1 << 20)  /* numbers of one table that cannot be looked up */
#define FRUITLESS 65536   /* likewise, when no row at all was read: the root is gone */

struct copy { /* of one table */
    struct salvage *job;
    sqlite3_stmt *up, *down, *point; /* SELECT in both orders of row numbers; of row ?1 */
    sqlite3_stmt *there, *insert;    /* in the new table: is row ?1 there; a row */
    int columns;
    uint64_t rows; /* read */
    int odd;       /* of them, those out of order */
};

static int run(sqlite3 *db, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

/* Ends a batch and begins the next. When the disk is full the batch is taken back. */
static void end_batch(struct salvage *job)
{
    struct store *to = job->to;

    if (run(to->db, "COMMIT") == SQLITE_OK) {
        job->report->salvaged_rows += job->batch;
    } else {
        job->full = store_fail(to, "salvage");
        if (!sqlite3_get_autocommit(to->db))
            run(to->db, "ROLLBACK");
    }
    job->batch = 0;
    if (job->full == 0 && run(to->db, "BEGIN IMMEDIATE") != SQLITE_OK)
        job->full = store_fail(to, "salvage");
    store_pulse();
}

/* Hands a row over. What does not fit the table (a column of another type, a missing value) was
 * damaged. */
static void take(struct copy *c, sqlite3_stmt *row, int first)
{
    struct salvage *job = c->job;

    for (int i = 0; i < c->columns; i++)
        sqlite3_bind_value(c->insert, i + 1, sqlite3_column_value(row, first + i));
    int code = sqlite3_step(c->insert);
    sqlite3_reset(c->insert);
    if (code == SQLITE_DONE)
        job->batch++;
    else if ((code & 0xff) == SQLITE_CONSTRAINT || (code & 0xff) == SQLITE_MISMATCH)
        job->report->bad++;
    else
        job->full = store_fail(job->to, "salvage");
    if (job->batch >= BATCH_ROWS)
        end_batch(job);
}

/* Copies rows until the end (0), or damage (1). direction: 1 and -1 when the first column is the
 * row number, which grows and falls: in a tree with damaged links it may not, and reading would
 * never end. 0: no such column. */
static int read_rows(struct copy *c, sqlite3_stmt *q, int direction)
{
    int64_t last = 0;
    int code = SQLITE_DONE, count = 0;

    while (c->job->full == 0 && (code = sqlite3_step(q)) == SQLITE_ROW) {
        int64_t number = direction != 0 ? sqlite3_column_int64(q, 0) : 0;
        if ((direction != 0 && count++ > 0 && (number - last) * direction <= 0 && ++c->odd > ODD) ||
            ++c->rows > ROWS)
            break;
        last = number;
        take(c, q, direction != 0);
    }
    sqlite3_reset(q);
    if ((code & 0xff) == SQLITE_NOMEM)
        c->job->full = -ENOMEM; /* no damage: another attempt may read it */
    return code != SQLITE_DONE;
}

/* Looks for each number that is not there by itself: a search meets only the pages on its way. */
static void look_up(struct copy *c, int64_t largest)
{
    int64_t smallest = largest > LARGEST ? largest - LARGEST : 1;
    int64_t errors = 0;
    int bad = 0;

    for (int64_t n = smallest; n <= largest && c->job->full == 0 && errors < ERRORS; n++) {
        sqlite3_bind_int64(c->there, 1, n);
        int there = sqlite3_step(c->there) == SQLITE_ROW;
        sqlite3_reset(c->there);
        if (there)
            continue;
        sqlite3_bind_int64(c->point, 1, n);
        int failed = read_rows(c, c->point, 1);
        c->job->report->bad += failed && !bad; /* stretches, not numbers */
        bad = failed;
        errors += failed;
        if (errors > FRUITLESS && c->rows == 0)
            return;
        if (n % 65536 == 0)
            store_pulse();
    }
}

/* The columns of a table of the new database: "a, b, c" and their number. */
static int columns_of(struct salvage *job, const char *table, char *list, size_t size)
{
    sqlite3_stmt *q = NULL;
    size_t used = 0;
    int count = 0;

    if (sqlite3_prepare_v2(job->to->db, "SELECT name FROM pragma_table_info(?1)", -1, &q, NULL) !=
        SQLITE_OK)
        return 0;
    sqlite3_bind_text(q, 1, table, -1, SQLITE_STATIC);
    while (sqlite3_step(q) == SQLITE_ROW && used < size) {
        int n = snprintf(list + used, size - used, "%s%s", count > 0 ? ", " : "",
                         (const char *)sqlite3_column_text(q, 0));
        used += n > 0 ? (size_t)n : 0;
        count++;
    }
    sqlite3_finalize(q);
    return used < size ? count : 0;
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *format, const char *columns,
                             const char *table)
{
    char sql[2048];
    sqlite3_stmt *q = NULL;

    int n = snprintf(sql, sizeof sql, format, columns, table);
    if (n > 0 && (size_t)n < sizeof sql)
        sqlite3_prepare_v2(db, sql, -1, &q, NULL);
    return q;
}

static sqlite3_stmt *prepare_insert(sqlite3 *db, const char *table, int columns)
{
    char marks[256] = "?";

    for (int i = 1; i < columns && strlen(marks) + 4 < sizeof marks; i++)
        memcpy(marks + strlen(marks), ", ?", 4);
    return prepare(db, "INSERT OR REPLACE INTO %2$s VALUES (%1$s)", marks, table);
}

static int64_t number_of(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *q = NULL;
    int64_t number = -1;

    if (sqlite3_prepare_v2(db, sql, -1, &q, NULL) == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW)
        number = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return number;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* The largest row number that may be: of the table, of its index, of the counters. Each of them may
 * be damaged. */
static int64_t largest_number(struct salvage *job, const char *table)
{
    char sql[256];

    snprintf(sql, sizeof sql, "SELECT max(rowid) FROM %s NOT INDEXED", table);
    int64_t largest = number_of(job->from, sql);
    if (strcmp(table, "outbox") == 0) {
        largest = larger(largest, number_of(job->to->db, "SELECT next_seq - 1 FROM outbox_state"));
        largest = larger(largest, number_of(job->from, "SELECT max(seq) FROM outbox INDEXED BY"
                                                       " outbox_order WHERE parked = 0 AND"
                                                       " priority = 1"));
    } else if (strcmp(table, "run") == 0) {
        largest = larger(largest, number_of(job->from, "SELECT id FROM run INDEXED BY run_start"
                                                       " ORDER BY start_ms DESC LIMIT 1"));
    }
    return largest < 0 || largest == INT64_MAX ? LARGEST : largest;
}

/* NOT INDEXED: by row number or key, never through an index that may lie. */
static void prepare_copy(struct copy *c, const char *table, int numbered)
{
    sqlite3 *from = c->job->from;
    char columns[1024];

    c->columns = columns_of(c->job, table, columns, sizeof columns);
    c->insert = prepare_insert(c->job->to->db, table, c->columns);
    if (!numbered) {
        c->up = prepare(from, "SELECT %s FROM %s NOT INDEXED", columns, table);
        return;
    }
    c->up = prepare(from, "SELECT rowid, %s FROM %s NOT INDEXED ORDER BY rowid", columns, table);
    c->down =
        prepare(from, "SELECT rowid, %s FROM %s NOT INDEXED ORDER BY rowid DESC", columns, table);
    c->point =
        prepare(from, "SELECT rowid, %s FROM %s NOT INDEXED WHERE rowid = ?1", columns, table);
    c->there = prepare(c->job->to->db, "SELECT %s FROM %s WHERE rowid = ?1", "1", table);
}

static void copy_table(struct salvage *job, const char *table, int numbered)
{
    struct copy c = {.job = job};

    prepare_copy(&c, table, numbered);
    if (c.columns == 0 || c.insert == NULL || c.up == NULL)
        job->report->bad++;
    else if (read_rows(&c, c.up, numbered) && !numbered)
        job->report->bad++;
    else if (c.down != NULL && c.point != NULL && c.there != NULL) {
        read_rows(&c, c.down, -1);
        look_up(&c, largest_number(job, table));
    }
    sqlite3_finalize(c.up);
    sqlite3_finalize(c.down);
    sqlite3_finalize(c.point);
    sqlite3_finalize(c.there);
    sqlite3_finalize(c.insert);
}

/* The runs come last: what waits is worth more when the disk is full. */
static void copy_tables(struct salvage *job)
{
    sqlite3_stmt *q = NULL;

    if (sqlite3_prepare_v2(job->to->db,
                           "SELECT name, wr FROM pragma_table_list WHERE schema = 'main'"
                           " AND type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name = 'run',"
                           " name <> 'outbox_state'",
                           -1, &q, NULL) != SQLITE_OK)
        return;
    char names[32][64];
    int numbered[32], count = 0;
    while (count < 32 && sqlite3_step(q) == SQLITE_ROW) {
        snprintf(names[count], sizeof names[count], "%s", (const char *)sqlite3_column_text(q, 0));
        numbered[count++] = sqlite3_column_int(q, 1) == 0;
    }
    sqlite3_finalize(q);
    for (int i = 0; i < count && job->full == 0; i++) {
        uint64_t bad = job->report->bad;
        copy_table(job, names[i], numbered[i]);
        job->gaps_unread |= strcmp(names[i], "gap") == 0 && job->report->bad > bad;
    }
}

static void close_damaged(sqlite3 *db, struct salvage_overlay *overlay)
{
    sqlite3_close(db);
    salvage_overlay_end(overlay);
}

/* Exclusive: the index of the log is kept in memory, and the file stays as it is. The pages of the
 * schema are taken from their copy where there is one. */
static sqlite3 *open_damaged(const char *path, struct salvage_overlay **overlay)
{
    const char *vfs = NULL;
    sqlite3 *db = NULL;

    if (salvage_overlay_begin(path, overlay, &vfs) >= 0 &&
        sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, vfs) == SQLITE_OK &&
        sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL) == SQLITE_OK &&
        run(db, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA trusted_schema = OFF;"
                "PRAGMA writable_schema = ON; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0;"
                "PRAGMA cache_size = -512; PRAGMA query_only = ON") == SQLITE_OK)
        return db;
    close_damaged(db, *overlay);
    return NULL;
}

int salvage_version(const char *damaged)
{
    struct salvage_overlay *overlay;
    sqlite3 *db = open_damaged(damaged, &overlay);
    int64_t version = 0;

    if (db == NULL)
        return 0;
    int64_t identity = number_of(db, "PRAGMA application_id");
    if (identity == STORE_APPLICATION_ID) {
        version = number_of(db, "PRAGMA user_version");
        if (version < 1 || version > store_schema_version())
            version = number_of(db, "SELECT value FROM value WHERE name = '" STORE_SCHEMA_NAME "'");
        if (version < 1 || version > store_schema_version())
            version = store_schema_version();
    }
    close_damaged(db, overlay);
    return (int)version;
}

int salvage_copy(struct store *to, const char *damaged, struct store_report *report)
{
    struct salvage_overlay *overlay;
    struct salvage job = {.to = to, .report = report, .from = open_damaged(damaged, &overlay)};

    if (job.from == NULL)
        return 0;
    int rc = run(to->db, "BEGIN IMMEDIATE") == SQLITE_OK ? 0 : store_fail(to, "salvage");
    if (rc == 0) {
        copy_tables(&job);
        if (job.full == 0) {
            end_batch(&job);
            if (job.full == 0)
                run(to->db, "ROLLBACK"); /* the empty next batch */
        } else if (!sqlite3_get_autocommit(to->db)) {
            run(to->db, "ROLLBACK");
        }
        if (job.full != 0 && job.full != -ENOSPC)
            rc = job.full;
        if (rc == 0 && run(to->db, "INSERT OR REPLACE INTO value SELECT '" STORE_SCHEMA_NAME
                                   "', user_version FROM pragma_user_version") != SQLITE_OK)
            rc = store_fail(to, "salvage");
        if (rc == 0)
            rc = store_migrate(to, store_schema_version(), NULL);
        if (rc == 0)
            rc = salvage_settle(&job);
    }
    close_damaged(job.from, overlay);
    return rc;
}
