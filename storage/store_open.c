/* store_open.c - opening: connect, identify, check, set aside what is damaged, make or migrate. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "storage/folder.h"
#include "storage/salvage.h"
#include "storage/schema_copy.h"
#include "storage/store_internal.h"

#define BUSY_MS 5000
#define WHOLE_CHECK_BYTES (8 << 20) /* up to here the whole file is checked at every start */
#define CHECKPOINT_FRAMES 1000
#define NAME_MAX_BYTES 4096
#define PAGE_BYTES 4096

/* The database, what SQLite keeps beside it, and the copy of its schema. */
static const char *const suffixes[] = {"", "-wal", "-shm", "-journal", ".schema"};
#define SUFFIXES (sizeof suffixes / sizeof suffixes[0])

static int64_t wall_clock_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* SQLite's own automatic checkpoint (wal.c), with the bytes counted. A checkpoint that fails is
 * tried again after the next commit; that commit is in the log and must not be reported as failed.
 */
static int count_checkpoint(void *context, sqlite3 *db, const char *name, int frames)
{
    struct store *s = context;
    int in_log = 0, copied = 0;

    if (frames >= CHECKPOINT_FRAMES &&
        sqlite3_wal_checkpoint_v2(db, name, SQLITE_CHECKPOINT_PASSIVE, &in_log, &copied) ==
            SQLITE_OK &&
        copied > 0)
        s->copied_bytes += (uint64_t)copied * PAGE_BYTES;
    return SQLITE_OK;
}

static void note_rollback(void *context)
{
    struct store *s = context;

    s->rolled_back = 1;
}

int store_arm(struct store *s)
{
    sqlite3_rollback_hook(s->db, note_rollback, s);
    return store_rollback_statement(s) == NULL ? store_fail(s, "prepare the connection") : 0;
}

static void disconnect(struct store *s, int keep_log)
{
    for (int i = 0; i < STORE_STATEMENTS; i++) {
        sqlite3_finalize(s->statements[i]);
        s->statements[i] = NULL;
    }
    if (s->db != NULL &&
        keep_log) /* a damaged database is moved with its log, not touched once more */
        sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_close(s->db);
    s->db = NULL;
}

/* secure_delete (on in Debian's build) would write every freed page once more; what is deleted here
 * was published. */
static const char writer_setup[] = "PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; PRAGMA "
                                   "synchronous = FULL; PRAGMA secure_delete = OFF;"
                                   "PRAGMA journal_size_limit = 8388608;";
static const char builder_setup[] = "PRAGMA page_size = 4096; PRAGMA journal_mode = MEMORY; PRAGMA "
                                    "synchronous = OFF; PRAGMA secure_delete = OFF;";
static const char common_setup[] =
    "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0;"
    "PRAGMA cache_size = -512; PRAGMA temp_store = MEMORY;";

int store_connect(struct store *s, const char *setup, const char *writer)
{
    int flags = s->readonly ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;

    int code =
        sqlite3_open_v2(s->path, &s->db, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if (s->db == NULL)
        return -ENOMEM;
    if (code != SQLITE_OK)
        return store_fail(s, "open");
    sqlite3_busy_timeout(s->db, BUSY_MS);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    if (sqlite3_exec(s->db, setup, NULL, NULL, NULL) != SQLITE_OK ||
        (!s->readonly && sqlite3_exec(s->db, writer, NULL, NULL, NULL) != SQLITE_OK))
        return store_fail(s, "prepare the connection");
    return store_arm(s);
}

static int connect_database(struct store *s)
{
    int rc = store_connect(s, common_setup, s->building ? builder_setup : writer_setup);

    if (rc == 0 && !s->readonly && !s->building)
        sqlite3_wal_hook(s->db, count_checkpoint, s);
    return rc;
}

static int side_name(const struct store *s, const char *suffix, char *out, size_t size)
{
    int n = snprintf(out, size, "%s%s", s->path, suffix);

    return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

/* What the folder says before SQLite looks: *size of the database (0: new). -EBADMSG: it cannot be
 * one. */
static int look(struct store *s, int64_t *size, int *suspected)
{
    char name[NAME_MAX_BYTES];
    int64_t sizes[SUFFIXES] = {0};
    struct stat st;

    for (size_t i = 0; i < SUFFIXES; i++) {
        int rc = side_name(s, suffixes[i], name, sizeof name);
        if (rc < 0)
            return store_refuse(s, rc, "%.200s: path too long", s->path);
        if (stat(name, &st) == 0 && !S_ISREG(st.st_mode))
            return store_refuse(s, -EBADMSG, "%s: expected a regular file", name);
        if (stat(name, &st) == 0)
            sizes[i] = st.st_size;
        else if (errno != ENOENT)
            return store_refuse(s, -errno, "%s: %s", name, strerror(errno));
    }
    if (sizes[0] == 0 && sizes[1] > 0) /* SQLite would delete this log */
        return store_refuse(s, -EBADMSG, "%s-wal: a log without its database", s->path);
    if (sizes[0] % PAGE_BYTES != 0 && sizes[1] == 0 &&
        sizes[3] == 0) /* with a log SQLite completes the page */
        return store_refuse(s, -EBADMSG,
                            "%s: expected a size in pages of %d bytes: truncated, or not nilmd's",
                            s->path, PAGE_BYTES);
    *size = sizes[0];
    int rc = side_name(s, ".check", name, sizeof name);
    *suspected = rc == 0 && access(name, F_OK) == 0;
    return rc;
}

/* SQLite would make it readable for everybody; it tells when people are at home. */
static int make_private(struct store *s)
{
    int fd = open(s->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);

    if (fd < 0)
        return store_refuse(s, -errno, "%s: %s", s->path, strerror(errno));
    close(fd);
    return 0;
}

/* Brings the database into use. -EBADMSG: set it aside and try again. */
static int examine(struct store *s, struct store_report *report)
{
    char name[NAME_MAX_BYTES];
    int64_t size = 0;
    int version = 0, suspected = 0;
    int rc = look(s, &size, &suspected);

    if (rc == 0 && size == 0)
        rc = make_private(s);
    if (rc == 0)
        rc = connect_database(s);
    if (rc == 0)
        rc = store_identify(s, &version);
    if (rc > 0) {
        schema_copy_remove(s->path);
        rc = store_migrate(s, store_schema_version(), report);
    }
    if (rc == 0)
        rc = store_check(s, suspected || size <= WHOLE_CHECK_BYTES, suspected);
    if (rc == 0 && report->created)
        rc = folder_sync_parent(s->path);
    if (rc == 0 && suspected && side_name(s, ".check", name, sizeof name) == 0)
        unlink(name);
    return rc;
}

/* Renames the database and its side files. After a power cut between two renames the rest is set
 * aside at the next start. */
static int set_aside(struct store *s, struct store_report *report)
{
    char from[NAME_MAX_BYTES], to[NAME_MAX_BYTES];

    snprintf(report->reason, sizeof report->reason, "%.255s", s->error);
    int rc = folder_aside_name(s->path, "corrupt", report->set_aside, sizeof report->set_aside);
    for (size_t i = 0; i < SUFFIXES && rc == 0; i++) {
        rc = side_name(s, suffixes[i], from, sizeof from);
        int n = snprintf(to, sizeof to, "%s%s", report->set_aside, suffixes[i]);
        if (rc == 0 && (n < 0 || (size_t)n >= sizeof to))
            rc = -ENAMETOOLONG;
        if (rc == 0 && rename(from, to) != 0 && errno != ENOENT)
            rc = -errno;
    }
    if (rc == 0 && side_name(s, ".check", from, sizeof from) == 0)
        unlink(from);
    if (rc == 0)
        rc = folder_sync_parent(s->path);
    if (rc < 0) {
        report->set_aside[0] = '\0';
        return store_refuse(s, rc, "%s: cannot set the damaged database aside: %s (%.120s)",
                            s->path, strerror(-rc), report->reason);
    }
    return 0;
}

/* 1: no other handle is open, 0: another is, -errno. */
static int lock(struct store *s)
{
    char name[NAME_MAX_BYTES];
    int rc = side_name(s, ".lock", name, sizeof name);

    if (rc < 0)
        return store_refuse(s, rc, "%.200s: path too long", s->path);
    s->lock_fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (s->lock_fd < 0)
        return store_refuse(s, -errno, "%s: %s", name, strerror(errno));
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return 1;
    while (flock(s->lock_fd, LOCK_SH) != 0)
        if (errno != EINTR)
            return store_refuse(s, -errno, "%s: %s", name, strerror(errno));
    return 0;
}

static void (*pulse)(void);

void store_set_pulse(void (*function)(void))
{
    pulse = function;
}

void store_pulse(void)
{
    if (pulse != NULL)
        pulse();
}

static struct store *make(const char *path)
{
    struct store *s = calloc(1, sizeof *s);

    if (s == NULL)
        return NULL;
    size_t size = strlen(path) + 3;
    s->lock_fd = -1;
    s->now_ms = wall_clock_ms;
    s->path = malloc(size);
    if (s->path == NULL) {
        free(s);
        return NULL;
    }
    snprintf(s->path, size, "%s%s", path[0] == '/' ? "" : "./", path);
    return s;
}

static void remove_beside(const struct store *s, const char *name)
{
    char path[NAME_MAX_BYTES];

    for (size_t i = 0; i < SUFFIXES; i++) {
        int n = snprintf(path, sizeof path, "%s%s%s", s->path, name, suffixes[i]);
        if (n > 0 && (size_t)n < sizeof path)
            unlink(path);
    }
}

/* Synchronises what was built and gives it the name that says it is whole. */
static int finish_building(struct store *s)
{
    char from[NAME_MAX_BYTES], to[NAME_MAX_BYTES];
    int rc = side_name(s, ".salvage", from, sizeof from);

    if (rc == 0)
        rc = side_name(s, ".salvaged", to, sizeof to);
    if (rc < 0)
        return rc;
    int fd = open(from, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    rc = fsync(fd) != 0 ? -errno : 0;
    close(fd);
    if (rc == 0 && rename(from, to) != 0)
        rc = -errno;
    return rc == 0 ? folder_sync_parent(to) : rc;
}

/* Makes path.salvaged: a database with all that can be read of the damaged one. 1: made, 0: the
 * file is none of ours, or nothing of it can be read. */
static int build(struct store *s, struct store_report *report)
{
    char path[NAME_MAX_BYTES];
    struct stat st;
    /* SQLite deletes the log of an empty database. */
    int readable = stat(s->path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0;
    int version = readable ? salvage_version(s->path) : 0;
    int rc = side_name(s, ".salvage", path, sizeof path);

    if (version == 0 || rc < 0)
        return rc;
    remove_beside(s, ".salvage");
    struct store *to = make(path);
    if (to == NULL)
        return -ENOMEM;
    to->building = 1;
    rc = make_private(to);
    if (rc == 0)
        rc = connect_database(to);
    if (rc == 0)
        rc = store_migrate(to, version, NULL);
    if (rc == 0)
        rc = salvage_copy(to, s->path, report);
    if (rc == 0)
        rc = store_check(to, 0, 0);
    if (rc < 0)
        store_refuse(s, rc, "%s", to->error);
    store_close(to);
    if (rc == 0)
        rc = finish_building(s);
    remove_beside(s, ".salvage");
    return rc == 0 ? 1 : rc;
}

/* The damaged database out of the way, the salvaged one (when there is one) into its place. A power
 * cut in between leaves path.salvaged, and the next start comes here again. */
static int replace(struct store *s, struct store_report *report)
{
    char salvaged[NAME_MAX_BYTES];
    int rc = side_name(s, ".salvaged", salvaged, sizeof salvaged);

    if (rc == 0)
        rc = set_aside(s, report);
    if (rc == 0 && rename(salvaged, s->path) != 0 && errno != ENOENT)
        rc = store_refuse(s, -errno, "%s: %s", salvaged, strerror(errno));
    if (rc == 0)
        folder_aside_trim(s->path, "corrupt");
    return rc == 0 ? folder_sync_parent(s->path) : rc;
}

/* A replacement that a power cut interrupted is finished first. */
static int resume_replacing(struct store *s, struct store_report *report)
{
    char salvaged[NAME_MAX_BYTES];

    if (side_name(s, ".salvaged", salvaged, sizeof salvaged) < 0 || access(salvaged, F_OK) != 0)
        return 0;
    store_refuse(s, 0, "%s: damaged; its replacement was interrupted", s->path);
    return replace(s, report);
}

/* What the last salvage did stays in the database until somebody was told. */
static int read_report(struct store *s, struct store_report *report)
{
    const struct {
        const char *name;
        uint64_t *to;
    } figures[] = {{STORE_SALVAGED_NAME, &report->salvaged_items},
                   {STORE_LOST_NAME, &report->lost_items},
                   {STORE_ROWS_NAME, &report->salvaged_rows},
                   {STORE_BAD_NAME, &report->bad}};
    int64_t value = 0;
    int rc = store_get(s, STORE_REPLACED_NAME, &value);

    report->replaced = rc == 0 || report->set_aside[0] != '\0';
    for (size_t i = 0; i < sizeof figures / sizeof figures[0] && rc == 0; i++)
        if ((rc = store_get(s, figures[i].name, &value)) == 0)
            *figures[i].to = (uint64_t)value;
    return rc == -ENOENT ? 0 : rc;
}

static int open_first(struct store *s, struct store_report *report)
{
    int rc = resume_replacing(s, report);

    if (rc == 0)
        rc = examine(s, report);
    if (rc == -EBADMSG) {
        char problem[sizeof s->error];
        disconnect(s, 1);
        memcpy(problem, s->error, sizeof problem);
        rc = build(s, report);
        if (rc >= 0) {
            memcpy(s->error, problem, sizeof problem);
            rc = replace(s, report);
        }
        if (rc == 0)
            rc = examine(s, report);
        report->created = rc == 0;
    }
    if (rc == 0)
        rc = read_report(s, report);
    if (rc == 0)
        schema_copy_keep(s); /* a disk that refuses: at the next start */
    if (rc == 0 && flock(s->lock_fd, LOCK_SH) != 0)
        rc = store_refuse(s, -errno, "%s.lock: %s", s->path, strerror(errno));
    return rc;
}

static int open_later(struct store *s)
{
    int version = 0;
    int rc = connect_database(s);

    if (rc == 0)
        rc = store_identify(s, &version);
    return rc > 0 || rc == -EBADMSG ? -EBUSY : rc;
}

static int finish(struct store *s, int rc, struct store **out, char *why, size_t why_size)
{
    if (rc == 0) {
        store_clear(s);
        *out = s;
        return 0;
    }
    snprintf(why, why_size, "%s", s->error[0] != '\0' ? s->error : strerror(-rc));
    store_close(s);
    return rc;
}

int store_open(const char *path, struct store **out, struct store_report *report, char *why,
               size_t why_size)
{
    struct store_report unused;
    struct store *s = make(path);

    *out = NULL;
    if (report == NULL)
        report = &unused;
    memset(report, 0, sizeof *report);
    if (s == NULL) {
        snprintf(why, why_size, "%s: out of memory", path);
        return -ENOMEM;
    }
    int rc = lock(s);
    if (rc >= 0)
        rc = rc == 1 ? open_first(s, report) : open_later(s);
    return finish(s, rc, out, why, why_size);
}

int store_open_readonly(const char *path, struct store **out, char *why, size_t why_size)
{
    int version = 0;
    struct store *s = make(path);

    *out = NULL;
    if (s == NULL) {
        snprintf(why, why_size, "%s: out of memory", path);
        return -ENOMEM;
    }
    s->readonly = 1;
    int rc = access(path, R_OK) != 0 ? store_refuse(s, -errno, "%s: %s", path, strerror(errno))
                                     : connect_database(s);
    if (rc == 0)
        rc = store_identify(s, &version);
    if (rc > 0)
        rc = version == 0
                 ? store_refuse(s, -EBADMSG, "%s: empty, no nilmd database", path)
                 : store_refuse(s, -EPROTO, "%s: schema version %d is older than this program's",
                                path, version);
    return finish(s, rc, out, why, why_size);
}

void store_close(struct store *s)
{
    if (s == NULL)
        return;
    if (s->db != NULL)
        store_rollback(s);
    disconnect(s, 0);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    free(s->path);
    free(s);
}
