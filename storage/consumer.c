/* consumer.c - a subscriber's file (consumer.h). It shares the handle of the agent's store: cached
 * statements, transactions, errors. */
#include "storage/consumer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "storage/folder.h"
#include "storage/store_internal.h"

#define APPLICATION_ID 0x4E494C43 /* "NILC" */
#define VERSION 1

struct consumer {
    struct store store;
};

/* Numbers that came are ranges: their rows follow the number of holes, not of messages. */
static const char schema[] =
    "CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE device ("
    " device TEXT PRIMARY KEY, received INTEGER NOT NULL DEFAULT 0, duplicates INTEGER NOT NULL "
    "DEFAULT 0,"
    " conflicts INTEGER NOT NULL DEFAULT 0, first_ms INTEGER NOT NULL DEFAULT 0, last_ms INTEGER "
    "NOT NULL DEFAULT 0,"
    " status_epoch INTEGER NOT NULL DEFAULT -1, status_next INTEGER NOT NULL DEFAULT 0,"
    " status_waiting INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;"
    "CREATE TABLE received ("
    " device TEXT NOT NULL, epoch INTEGER NOT NULL, from_seq INTEGER NOT NULL, to_seq INTEGER NOT "
    "NULL,"
    " PRIMARY KEY (device, epoch, from_seq)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE gap ("
    " device TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, from_seq INTEGER NOT "
    "NULL,"
    " to_seq INTEGER NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (device, epoch, seq)) STRICT, "
    "WITHOUT ROWID;"
    "CREATE TABLE item ("
    " position INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, epoch INTEGER NOT NULL,"
    " seq INTEGER NOT NULL, received_ms INTEGER NOT NULL, topic TEXT NOT NULL, payload TEXT NOT "
    "NULL) STRICT;"
    "CREATE UNIQUE INDEX item_id ON item (device, epoch, seq);"
    "CREATE INDEX item_received ON item (received_ms);"
    "PRAGMA application_id = 1313426499; PRAGMA user_version = 1;";
_Static_assert(APPLICATION_ID == 1313426499 && VERSION == 1, "as the schema says");

/* ---- opening ---- */

static int ask(struct store *s, const char *sql, int64_t *number)
{
    sqlite3_stmt *q = NULL;
    sqlite3_prepare_v2(s->db, sql, -1, &q, NULL);
    const int rc = store_step(s, q, sql);
    if (rc > 0)
        *number = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return rc < 0 ? rc : 0;
}

static int identify(struct store *s)
{
    int64_t application = 0, version = 0, tables = 0;
    int rc = ask(s, "PRAGMA application_id", &application);
    if (rc == 0)
        rc = ask(s, "PRAGMA user_version", &version);
    if (rc == 0)
        rc = ask(s, "SELECT count(*) FROM sqlite_schema", &tables);
    if (rc < 0)
        return rc;
    if (application == 0 && version == 0 && tables == 0 && !s->readonly) {
        rc = store_enter(s);
        if (rc == 0 && sqlite3_exec(s->db, schema, NULL, NULL, NULL) != SQLITE_OK)
            rc = store_fail(s, "make the tables");
        rc = store_leave(s, rc);
        return rc < 0 ? rc : folder_sync_parent(s->path);
    }
    if (application != APPLICATION_ID || version < 1)
        return store_refuse(s, -EBADMSG, "%s: not the store of a consumer", s->path);
    if (version > VERSION)
        return store_refuse(s, -EPROTO, "%s: version %d is newer than this program's (%d)", s->path,
                            (int)version, VERSION);
    return 0;
}

/* The whole file, where damage was met before (store_fail leaves PATH.check). */
static int check(struct store *s)
{
    char name[4096];
    int64_t faults = 0;
    const int n = snprintf(name, sizeof name, "%s.check", s->path);
    if (s->readonly || n < 0 || (size_t)n >= sizeof name || access(name, F_OK) != 0)
        return 0;
    int rc = ask(s, "SELECT count(*) FROM pragma_integrity_check(1) WHERE integrity_check <> 'ok'",
                 &faults);
    if (rc == 0 && faults > 0)
        rc = store_refuse(s, -EBADMSG, "%s: damaged; restore it, or move it away to begin anew",
                          s->path);
    if (rc == 0)
        unlink(name);
    return rc;
}

static int connect_file(struct store *s)
{
    static const char setup[] = "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA "
                                "temp_store = MEMORY; PRAGMA cache_size = -2048;";
    static const char writer[] = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA "
                                 "journal_size_limit = 8388608;";
    return store_connect(s, setup, writer);
}

/* Two owners would take the session from each other, and messages with it. */
static int lock(struct store *s)
{
    char name[4096];
    const int n = snprintf(name, sizeof name, "%s.lock", s->path);
    if (n < 0 || (size_t)n >= sizeof name)
        return store_refuse(s, -ENAMETOOLONG, "%.200s: path too long", s->path);
    s->lock_fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (s->lock_fd < 0)
        return store_refuse(s, -errno, "%s: %s", name, strerror(errno));
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return store_refuse(s, -EBUSY, "%s: another consumer uses it", s->path);
    const int fd = open(s->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0640); /* not for everybody */
    if (fd < 0)
        return store_refuse(s, -errno, "%s: %s", s->path, strerror(errno));
    close(fd);
    return 0;
}

static int open_file(const char *path, int readonly, struct consumer **out, char *why,
                     size_t why_size)
{
    struct consumer *c = calloc(1, sizeof *c);
    const size_t size = strlen(path) + 3;
    *out = NULL;
    if (c)
        c->store.path = malloc(size);
    if (!c || !c->store.path) {
        free(c);
        snprintf(why, why_size, "%s: out of memory", path);
        return -ENOMEM;
    }
    struct store *s = &c->store;
    snprintf(s->path, size, "%s%s", path[0] == '/' ? "" : "./", path);
    s->lock_fd = -1;
    s->readonly = readonly;
    int rc = 0;
    if (!readonly)
        rc = lock(s);
    else if (access(path, R_OK) != 0)
        rc = store_refuse(s, -errno, "%s: %s", path, strerror(errno));
    if (rc == 0)
        rc = connect_file(s);
    if (rc == 0)
        rc = identify(s);
    if (rc == 0)
        rc = check(s);
    if (rc < 0) {
        snprintf(why, why_size, "%s", *s->error ? s->error : strerror(-rc));
        consumer_close(c);
        return rc;
    }
    store_clear(s);
    *out = c;
    return 0;
}

int consumer_open(const char *path, struct consumer **out, char *why, size_t why_size)
{
    return open_file(path, 0, out, why, why_size);
}

int consumer_open_readonly(const char *path, struct consumer **out, char *why, size_t why_size)
{
    return open_file(path, 1, out, why, why_size);
}

void consumer_close(struct consumer *c)
{
    if (!c)
        return;
    struct store *s = &c->store;
    if (s->db)
        store_rollback(s);
    for (int i = 0; i < STORE_STATEMENTS; i++)
        sqlite3_finalize(s->statements[i]);
    sqlite3_close(s->db);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    free(s->path);
    free(c);
}

const char *consumer_error(const struct consumer *c)
{
    return store_error(&c->store);
}

int consumer_begin(struct consumer *c)
{
    return store_begin(&c->store);
}

int consumer_commit(struct consumer *c)
{
    return store_commit(&c->store);
}

void consumer_rollback(struct consumer *c)
{
    store_rollback(&c->store);
}

/* ---- writing ---- */

/* Statement id with the device bound as ?1 and up to four numbers behind it. */
static sqlite3_stmt *bound(struct store *s, enum store_statement_id id, const char *sql,
                           const char *device, const int64_t *numbers, int count)
{
    sqlite3_stmt *q = store_statement(s, id, sql);
    if (!q)
        return NULL;
    sqlite3_bind_text(q, 1, device, -1, SQLITE_STATIC);
    for (int i = 0; i < count; i++)
        sqlite3_bind_int64(q, 2 + i, numbers[i]);
    return q;
}

static int write_row(struct store *s, enum store_statement_id id, const char *sql,
                     const char *device, const int64_t *numbers, int count)
{
    int rc = store_enter(s);
    if (rc == 0)
        rc = store_step(s, bound(s, id, sql, device, numbers, count), sql);
    return store_leave(s, rc);
}

struct range {
    int64_t from, to; /* to below from: none */
};

/* The ranges that end before seq or hold it, and that begin right behind it. */
static int find_near(struct store *s, const struct consumer_item *item, struct range *below,
                     struct range *above)
{
    const int64_t seq = (int64_t)item->seq;
    sqlite3_stmt *q =
        bound(s, CONSUMER_NEAR,
              "SELECT from_seq, to_seq FROM received WHERE device = ?1 AND epoch = ?2 AND from_seq "
              "<= ?3 ORDER BY from_seq DESC LIMIT 2",
              item->device, (int64_t[]){item->epoch, seq + 1}, 2);
    int rc;
    *below = *above = (struct range){0, -1};
    while ((rc = store_step(s, q, "look for a number")) > 0) {
        const struct range r = {sqlite3_column_int64(q, 0), sqlite3_column_int64(q, 1)};
        if (r.from == seq + 1)
            *above = r;
        else if (below->to < below->from)
            *below = r;
    }
    return rc;
}

/* Adds a number to the ranges: 1, or 0 when it is there. */
static int enter_number(struct store *s, const struct consumer_item *item)
{
    struct range below, above;
    const int64_t seq = (int64_t)item->seq;
    int rc = find_near(s, item, &below, &above);
    if (rc < 0 || (below.from <= below.to && below.to >= seq))
        return rc;
    struct range joined = {seq, seq};
    if (below.from <= below.to && below.to == seq - 1)
        joined.from = below.from;
    if (above.from <= above.to) {
        joined.to = above.to;
        rc = store_step(s,
                        bound(s, CONSUMER_REMOVE,
                              "DELETE FROM received WHERE device = ?1 AND epoch = ?2 AND from_seq "
                              "= ?3",
                              item->device, (int64_t[]){item->epoch, above.from}, 2),
                        "join numbers");
    }
    if (rc == 0)
        rc = store_step(s,
                        bound(s, CONSUMER_RANGE,
                              "INSERT OR REPLACE INTO received VALUES (?1, ?2, ?3, ?4)",
                              item->device, (int64_t[]){item->epoch, joined.from, joined.to}, 3),
                        "note a number");
    return rc < 0 ? rc : 1;
}

static int store_item(struct store *s, const struct consumer_item *item)
{
    sqlite3_stmt *q =
        bound(s, CONSUMER_ADD,
              "INSERT INTO item (device, epoch, seq, received_ms, topic, payload) VALUES (?1, ?2, "
              "?3, ?4, ?5, ?6)",
              item->device, (int64_t[]){item->epoch, (int64_t)item->seq, item->received_ms}, 3);
    if (q) {
        sqlite3_bind_text(q, 5, item->topic, -1, SQLITE_STATIC);
        sqlite3_bind_text64(q, 6, item->payload, item->payload_bytes, SQLITE_STATIC, SQLITE_UTF8);
    }
    return store_step(s, q, "store a message");
}

int consumer_add(struct consumer *c, const struct consumer_item *item)
{
    struct store *s = &c->store;
    int fresh = 0, rc = store_check_text(s, item->device, 1,
                                         sizeof((struct consumer_device *)0)->device, "device");
    if (rc == 0 && (item->seq == 0 || item->seq >= INT64_MAX || item->epoch < 0))
        rc = store_refuse(s, -EINVAL, "%s: epoch or number out of range", item->device);
    if (rc < 0)
        return rc;
    rc = store_enter(s);
    if (rc == 0)
        rc = fresh = enter_number(s, item);
    if (rc > 0)
        rc = store_item(s, item);
    if (rc == 0)
        rc = store_step(
            s,
            bound(s, CONSUMER_DEVICE,
                  "INSERT INTO device (device, received, duplicates, first_ms, last_ms) VALUES "
                  "(?1, ?2, ?3, ?4, ?4) ON CONFLICT (device) DO UPDATE SET"
                  " received = received + excluded.received, duplicates = duplicates + "
                  "excluded.duplicates, last_ms = excluded.last_ms,"
                  " first_ms = iif(first_ms = 0, excluded.first_ms, first_ms)",
                  item->device, (int64_t[]){fresh, !fresh, item->received_ms}, 3),
            "count a message");
    rc = store_leave(s, rc);
    return rc < 0 ? rc : fresh;
}

int consumer_conflict(struct consumer *c, const char *device)
{
    return write_row(&c->store, CONSUMER_CONFLICT,
                     "UPDATE device SET conflicts = conflicts + 1 WHERE device = ?1", device, NULL,
                     0);
}

int consumer_declare(struct consumer *c, const char *device, int64_t epoch, uint64_t seq,
                     uint64_t from, uint64_t to, uint64_t count)
{
    if (from == 0 || from > to || to >= INT64_MAX || count == 0 || count > to - from + 1)
        return store_refuse(&c->store, -EINVAL, "%s: a gap out of range", device);
    return write_row(
        &c->store, CONSUMER_DECLARE, "INSERT OR IGNORE INTO gap VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        device, (int64_t[]){epoch, (int64_t)seq, (int64_t)from, (int64_t)to, (int64_t)count}, 5);
}

int consumer_status(struct consumer *c, const char *device, int64_t epoch, uint64_t next,
                    uint64_t waiting)
{
    return write_row(&c->store, CONSUMER_STATUS,
                     "INSERT INTO device (device, status_epoch, status_next, status_waiting) "
                     "VALUES (?1, ?2, ?3, ?4) ON CONFLICT (device) DO UPDATE SET"
                     " status_epoch = excluded.status_epoch, status_next = excluded.status_next, "
                     "status_waiting = excluded.status_waiting",
                     device, (int64_t[]){epoch, (int64_t)next, (int64_t)waiting}, 3);
}

int consumer_trim(struct consumer *c, int64_t before_ms)
{
    struct store *s = &c->store;
    int rc = store_enter(s);
    if (rc == 0) {
        sqlite3_stmt *q =
            store_statement(s, CONSUMER_TRIM, "DELETE FROM item WHERE received_ms < ?1");
        if (q)
            sqlite3_bind_int64(q, 1, before_ms);
        rc = store_step(s, q, "forget old messages");
    }
    return store_leave(s, rc);
}

int consumer_set(struct consumer *c, const char *name, const char *text)
{
    struct store *s = &c->store;
    int rc = store_enter(s);
    if (rc == 0) {
        sqlite3_stmt *q =
            bound(s, CONSUMER_SET, "INSERT OR REPLACE INTO setting VALUES (?1, ?2)", name, NULL, 0);
        if (q)
            sqlite3_bind_text(q, 2, text, -1, SQLITE_STATIC);
        rc = store_step(s, q, "set a value");
    }
    return store_leave(s, rc);
}

/* ---- reading ---- */

int consumer_get(struct consumer *c, const char *name, char *text, size_t size)
{
    struct store *s = &c->store;
    store_clear(s);
    sqlite3_stmt *q =
        bound(s, CONSUMER_GET, "SELECT value FROM setting WHERE name = ?1", name, NULL, 0);
    const int rc = store_step(s, q, "get a value");
    if (rc <= 0)
        return rc < 0 ? rc : -ENOENT;
    const int got = store_column_text(s, q, 0, text, size);
    store_done(q);
    return got;
}

int consumer_payload(struct consumer *c, const char *device, int64_t epoch, uint64_t seq,
                     char **payload)
{
    struct store *s = &c->store;
    *payload = NULL;
    store_clear(s);
    sqlite3_stmt *q =
        bound(s, CONSUMER_PAYLOAD,
              "SELECT payload FROM item WHERE device = ?1 AND epoch = ?2 AND seq = ?3", device,
              (int64_t[]){epoch, (int64_t)seq}, 2);
    int rc = store_step(s, q, "read a message");
    if (rc <= 0)
        return rc;
    const char *text = (const char *)sqlite3_column_text(q, 0);
    *payload = strdup(text ? text : "");
    store_done(q);
    return *payload ? 1 : -ENOMEM;
}

int consumer_devices(struct consumer *c, int (*each)(void *, const struct consumer_device *),
                     void *context)
{
    struct store *s = &c->store;
    struct consumer_device d;
    int rc;
    store_clear(s);
    sqlite3_stmt *q = store_statement(
        s, CONSUMER_DEVICES,
        "SELECT device, received, duplicates, conflicts, first_ms, last_ms, status_epoch, "
        "status_next, status_waiting FROM device ORDER BY device");
    while ((rc = store_step(s, q, "list devices")) > 0) {
        rc = store_column_text(s, q, 0, d.device, sizeof d.device);
        d.received = (uint64_t)sqlite3_column_int64(q, 1);
        d.duplicates = (uint64_t)sqlite3_column_int64(q, 2);
        d.conflicts = (uint64_t)sqlite3_column_int64(q, 3);
        d.first_ms = sqlite3_column_int64(q, 4);
        d.last_ms = sqlite3_column_int64(q, 5);
        d.status_epoch = sqlite3_column_int64(q, 6);
        d.status_next = (uint64_t)sqlite3_column_int64(q, 7);
        d.status_waiting = (uint64_t)sqlite3_column_int64(q, 8);
        if (rc == 0)
            rc = each(context, &d);
        if (rc != 0) {
            store_done(q);
            return rc;
        }
    }
    return rc;
}

int consumer_ranges(struct consumer *c, const char *device,
                    int (*each)(void *, int64_t epoch, uint64_t from, uint64_t to), void *context)
{
    struct store *s = &c->store;
    int rc;
    store_clear(s);
    sqlite3_stmt *q = bound(s, CONSUMER_RANGES,
                            "SELECT epoch, from_seq, to_seq FROM received WHERE device = ?1 ORDER "
                            "BY epoch, from_seq",
                            device, NULL, 0);
    while ((rc = store_step(s, q, "list numbers")) > 0) {
        rc = each(context, sqlite3_column_int64(q, 0), (uint64_t)sqlite3_column_int64(q, 1),
                  (uint64_t)sqlite3_column_int64(q, 2));
        if (rc != 0) {
            store_done(q);
            return rc;
        }
    }
    return rc;
}

int consumer_gaps(struct consumer *c, const char *device,
                  int (*each)(void *, int64_t epoch, uint64_t from, uint64_t to, uint64_t count),
                  void *context)
{
    struct store *s = &c->store;
    int rc;
    store_clear(s);
    sqlite3_stmt *q = bound(s, CONSUMER_GAPS,
                            "SELECT epoch, from_seq, to_seq, count FROM gap WHERE device = ?1 "
                            "ORDER BY epoch, seq",
                            device, NULL, 0);
    while ((rc = store_step(s, q, "list gaps")) > 0) {
        rc = each(context, sqlite3_column_int64(q, 0), (uint64_t)sqlite3_column_int64(q, 1),
                  (uint64_t)sqlite3_column_int64(q, 2), (uint64_t)sqlite3_column_int64(q, 3));
        if (rc != 0) {
            store_done(q);
            return rc;
        }
    }
    return rc;
}

int consumer_items(struct consumer *c, int64_t after,
                   int (*each)(void *, int64_t position, const struct consumer_item *),
                   void *context)
{
    struct store *s = &c->store;
    int rc;
    store_clear(s);
    sqlite3_stmt *q =
        store_statement(s, CONSUMER_ITEMS,
                        "SELECT position, device, epoch, seq, received_ms, topic, payload FROM "
                        "item WHERE position > ?1 ORDER BY position");
    if (q)
        sqlite3_bind_int64(q, 1, after);
    while ((rc = store_step(s, q, "list messages")) > 0) {
        const struct consumer_item item = {.device = (const char *)sqlite3_column_text(q, 1),
                                           .epoch = sqlite3_column_int64(q, 2),
                                           .seq = (uint64_t)sqlite3_column_int64(q, 3),
                                           .received_ms = sqlite3_column_int64(q, 4),
                                           .topic = (const char *)sqlite3_column_text(q, 5),
                                           .payload = (const char *)sqlite3_column_text(q, 6),
                                           .payload_bytes = (size_t)sqlite3_column_bytes(q, 6)};
        rc = item.device && item.topic && item.payload
                 ? each(context, sqlite3_column_int64(q, 0), &item)
                 : -ENOMEM;
        if (rc != 0) {
            store_done(q);
            return rc;
        }
    }
    return rc;
}
