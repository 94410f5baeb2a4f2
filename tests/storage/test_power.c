/* test_power.c - the power goes at every write and every sync (SPEC 5.3); after SQLite's
 * src/test6.c.
 *
 * A file system under SQLite remembers what was synchronised. At the cut, every file falls back to
 * that, plus a random part of the writes since, each perhaps torn at a sector: what a disk may
 * keep. Then the database is opened again. */
#include "storage/lib_consumer.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storage/store_internal.h"

#define FILES 8
#define SECTOR 512

struct change { /* a write, or (data NULL) a truncation to at */
    int64_t at;
    int size;
    void *data;
};

struct disk_file { /* "" : free */
    char path[512];
    char *image; /* what surely survives */
    int64_t size;
    struct change changes[4096];
    int count;
};

static struct disk_file disk[FILES];
static int64_t operations, cut_at; /* the operation with this number and all later ones fail */
static sqlite3_vfs vfs, *below;

struct shim {
    sqlite3_file base;
    struct disk_file *on_disk; /* NULL: not watched */
    sqlite3_file *real;
};

static sqlite3_file *real_of(sqlite3_file *f)
{
    return ((struct shim *)f)->real;
}

static int powerless(void)
{
    return operations++ >= cut_at;
}

static void apply(struct disk_file *f, const struct change *c, int size)
{
    int64_t end = c->data == NULL ? c->at : c->at + size;

    if (end > f->size || c->data == NULL) {
        f->image = realloc(f->image, (size_t)end + 1);
        if (end > f->size)
            memset(f->image + f->size, 0, (size_t)(end - f->size));
        f->size = end;
    }
    if (c->data != NULL && size > 0)
        memcpy(f->image + c->at, c->data, (size_t)size);
}

static void forget(struct disk_file *f)
{
    for (int i = 0; i < f->count; i++)
        free(f->changes[i].data);
    f->count = 0;
}

static void note(struct disk_file *f, int64_t at, int size, const void *data)
{
    if (f == NULL)
        return;
    if (f->count == 4096)
        abort();
    struct change *c = &f->changes[f->count++];
    *c = (struct change){at, size, NULL};
    if (data != NULL) {
        c->data = malloc((size_t)size);
        memcpy(c->data, data, (size_t)size);
    }
}

static int shim_close(sqlite3_file *f)
{
    return real_of(f)->pMethods->xClose(real_of(f));
}

static int shim_read(sqlite3_file *f, void *to, int size, sqlite3_int64 at)
{
    return real_of(f)->pMethods->xRead(real_of(f), to, size, at);
}

static int shim_write(sqlite3_file *f, const void *from, int size, sqlite3_int64 at)
{
    note(((struct shim *)f)->on_disk, at, size,
         from); /* also the write that is cut: a part of it may arrive */
    return powerless() ? SQLITE_IOERR_WRITE
                       : real_of(f)->pMethods->xWrite(real_of(f), from, size, at);
}

static int shim_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    if (powerless())
        return SQLITE_IOERR_TRUNCATE;
    note(((struct shim *)f)->on_disk, size, 0, NULL);
    return real_of(f)->pMethods->xTruncate(real_of(f), size);
}

static int shim_sync(sqlite3_file *f, int flags)
{
    struct disk_file *d = ((struct shim *)f)->on_disk;

    (void)flags;
    if (powerless())
        return SQLITE_IOERR_FSYNC;
    for (int i = 0; d != NULL && i < d->count; i++)
        apply(d, &d->changes[i], d->changes[i].size);
    if (d != NULL)
        forget(d);
    return SQLITE_OK;
}

static int shim_file_size(sqlite3_file *f, sqlite3_int64 *size)
{
    return real_of(f)->pMethods->xFileSize(real_of(f), size);
}

static int shim_lock(sqlite3_file *f, int level)
{
    return real_of(f)->pMethods->xLock(real_of(f), level);
}

static int shim_unlock(sqlite3_file *f, int level)
{
    return real_of(f)->pMethods->xUnlock(real_of(f), level);
}

static int shim_check_lock(sqlite3_file *f, int *out)
{
    return real_of(f)->pMethods->xCheckReservedLock(real_of(f), out);
}

static int shim_control(sqlite3_file *f, int op, void *argument)
{
    return real_of(f)->pMethods->xFileControl(real_of(f), op, argument);
}

static int shim_sector(sqlite3_file *f)
{
    (void)f;
    return SECTOR;
}

static int shim_traits(sqlite3_file *f)
{
    (void)f;
    return 0; /* no promises: neither safe append nor atomic writes nor powersafe overwrite */
}

static int shim_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out)
{
    return real_of(f)->pMethods->xShmMap(real_of(f), page, size, extend, out);
}

static int shim_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
    return real_of(f)->pMethods->xShmLock(real_of(f), offset, n, flags);
}

static void shim_shm_barrier(sqlite3_file *f)
{
    real_of(f)->pMethods->xShmBarrier(real_of(f));
}

static int shim_shm_unmap(sqlite3_file *f, int drop)
{
    return real_of(f)->pMethods->xShmUnmap(real_of(f), drop);
}

static const sqlite3_io_methods methods = {
    2,
    shim_close,
    shim_read,
    shim_write,
    shim_truncate,
    shim_sync,
    shim_file_size,
    shim_lock,
    shim_unlock,
    shim_check_lock,
    shim_control,
    shim_sector,
    shim_traits,
    shim_shm_map,
    shim_shm_lock,
    shim_shm_barrier,
    shim_shm_unmap,
    NULL,
    NULL,
};

/* The disk's memory of a file; begins with what lies there (synchronised by an earlier life, or
 * empty). */
static struct disk_file *watch(const char *path)
{
    struct disk_file *unused = NULL;

    for (int i = 0; i < FILES; i++) {
        if (strcmp(disk[i].path, path) == 0)
            return &disk[i];
        if (disk[i].path[0] == '\0' && unused == NULL)
            unused = &disk[i];
    }
    if (unused == NULL)
        abort();
    snprintf(unused->path, sizeof unused->path, "%s", path);
    FILE *f = fopen(path, "rb");
    if (f != NULL) {
        fseek(f, 0, SEEK_END);
        unused->size = ftell(f);
        rewind(f);
        unused->image = malloc((size_t)unused->size + 1);
        if (fread(unused->image, 1, (size_t)unused->size, f) != (size_t)unused->size)
            abort();
        fclose(f);
    }
    return unused;
}

static int shim_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out_flags)
{
    struct shim *shim = (struct shim *)f;

    (void)v;
    shim->real = (sqlite3_file *)(shim + 1);
    shim->on_disk = name == NULL ? NULL : watch(name);
    int rc = below->xOpen(below, name, shim->real, flags, out_flags);
    shim->base.pMethods = rc == SQLITE_OK ? &methods : NULL;
    return rc;
}

static int shim_delete(sqlite3_vfs *v, const char *name, int sync_folder)
{
    (void)v;
    if (powerless())
        return SQLITE_IOERR_DELETE;
    struct disk_file *f = watch(name);
    forget(f);
    free(f->image);
    memset(f, 0, sizeof *f);
    return below->xDelete(below, name, sync_folder);
}

static void install(void)
{
    below = sqlite3_vfs_find(NULL);
    vfs = *below;
    vfs.zName = "power";
    vfs.szOsFile = (int)sizeof(struct shim) + below->szOsFile;
    vfs.xOpen = shim_open;
    vfs.xDelete = shim_delete;
    assert_int_equal(sqlite3_vfs_register(&vfs, 1), SQLITE_OK);
}

/* Writes what the disk kept, and forgets. */
static void power_back(uint64_t *random)
{
    for (int i = 0; i < FILES; i++) {
        struct disk_file *f = &disk[i];
        for (int k = 0; k < f->count; k++) {
            const struct change *c = &f->changes[k];
            uint64_t luck = temp_random(random) % 4; /* 0: lost, 1: torn, else kept */
            if (luck == 0)
                continue;
            apply(f, c, luck == 1 ? c->size / SECTOR / 2 * SECTOR : c->size);
        }
        if (f->path[0] != '\0' && access(f->path, F_OK) == 0)
            temp_write(f->path, f->image, (size_t)f->size);
        forget(f);
        free(f->image);
        memset(f, 0, sizeof *f);
    }
    operations = 0;
}

/* A short life; ends at the first failure. Notes in c what was acknowledged and in *last the last
 * number reported. */
static void live(const char *path, struct consumer *c, uint64_t *last)
{
    static char buffer[OUTBOX_BODY_BYTES + 1];
    struct outbox_caps caps = {.max_rows = 9};
    struct outbox_item item = {.kind = OUTBOX_EVENT,
                               .channel = "m",
                               .body = "{\"n\":1}",
                               .body_bytes = 7},
                       got;
    struct store *s = NULL;
    char why[256];
    int64_t epoch;
    int rc = store_open(path, &s, NULL, why, sizeof why);

    if (rc == 0)
        rc = outbox_start(s, 1700000000, &epoch);
    for (int i = 0; i < 16 && rc == 0; i++) {
        item.kind = i % 3 ? OUTBOX_EVENT : OUTBOX_ALERT;
        uint64_t seq = 0;
        outbox_limit(s, &caps);
        rc = outbox_append(s, &item, &seq);
        if (rc == 0)
            *last = seq;
        if (rc == 0 && i % 5 == 4 &&
            outbox_fetch(s, i % 2 ? 3 : 2, 0, &got, 1, buffer, sizeof buffer) == 1 &&
            got.kind != OUTBOX_GAP) {
            c->received[got.seq] = 1;
            rc = outbox_ack(s, &got.seq, 1);
        }
        if (i == 7 && rc == 0)
            sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    }
    store_close(s);
}

static void one_cut(void **state, int64_t at, uint64_t *random, int *finished)
{
    struct consumer *c = calloc(1, sizeof *c), *rest = calloc(1, sizeof *rest);
    struct store_report report;
    struct outbox_stats stats;
    uint64_t last = 0;
    char name[64];

    assert_int_equal(mkdtemp(strcpy(name, "cutXXXXXX")) != NULL, 1);
    char path[128], why[256] = "";
    snprintf(path, sizeof path, "%s/nilmd.db", name);
    cut_at = at;
    live(path, c, &last);
    *finished = operations <= at;
    power_back(random);
    cut_at = INT64_MAX;
    snprintf(why, sizeof why, "%s-shm", path);
    unlink(why); /* memory */

    struct store *s = NULL;
    if (store_open(path, &s, &report, why, sizeof why) != 0)
        fail_msg("cut at operation %lld: %s", (long long)at, why);
    if (report.set_aside[0] != '\0')
        fail_msg("cut at operation %lld: set aside: %s", (long long)at, report.reason);
    assert_int_equal(outbox_statistics(s, &stats), 0);
    if (stats.next_seq <= last)
        fail_msg("cut at operation %lld: number %llu was reported and is gone", (long long)at,
                 (unsigned long long)last);
    consumer_drain(rest, s);
    for (int i = 0; i < CONSUMER_NUMBERS; i++)
        rest->received[i] |= c->received[i];
    consumer_check(rest, stats.next_seq, 0);
    store_close(s);
    power_back(random);
    free(c);
    free(rest);
    (void)state;
}

static void cut_at_every_operation(void **state)
{
    uint64_t random = 31;
    int finished = 0;
    int64_t at = 0;
    char here[4096];

    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir(*state), 0);
    install();
    for (; !finished; at++)
        for (int i = 0; i < 3; i++)
            one_cut(state, at, &random, &finished);
    sqlite3_vfs_unregister(&vfs);
    assert_int_equal(chdir(here), 0);
    print_message("power cut at each of %lld operations, three times\n", (long long)at - 1);
    assert_true(at > 80);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)
    const struct CMUnitTest tests[] = {T(cut_at_every_operation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
