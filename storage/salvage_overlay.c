/* salvage_overlay.c - see salvage_overlay.h. A VFS over the usual one
 * (https://www.sqlite.org/vfs.html): reads of the main file get the copied pages, also where the
 * disk gives back an error; the log is read as it is, and what it has is newer. */
#include "storage/salvage_overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storage/schema_copy.h"

struct salvage_overlay {
    sqlite3_vfs vfs, *usual;
    struct schema_copy *copy;
    char name[40];
};

struct file { /* of the main database; the usual VFS's own follows it */
    sqlite3_file base;
    struct salvage_overlay *overlay;
};

static sqlite3_file *usual(sqlite3_file *f)
{
    return (sqlite3_file *)((struct file *)f + 1);
}

static int file_close(sqlite3_file *f)
{
    return usual(f)->pMethods->xClose(usual(f));
}

/* Copies what page covers of size bytes at `at`: how many. */
static int cover(const struct schema_copy_page *page, char *data, int size, sqlite3_int64 at)
{
    const sqlite3_int64 begin = (sqlite3_int64)(page->number - 1) * SCHEMA_COPY_PAGE;
    const sqlite3_int64 from = begin > at ? begin : at;
    const sqlite3_int64 to =
        begin + SCHEMA_COPY_PAGE < at + size ? begin + SCHEMA_COPY_PAGE : at + size;

    if (to <= from)
        return 0;
    memcpy(data + (from - at), page->data + (from - begin), (size_t)(to - from));
    return (int)(to - from);
}

static int file_read(sqlite3_file *f, void *data, int size, sqlite3_int64 at)
{
    const struct schema_copy *c = ((struct file *)f)->overlay->copy;
    int code = usual(f)->pMethods->xRead(usual(f), data, size, at);
    int covered = 0;

    for (uint32_t i = 0; i < c->count; i++)
        covered += cover(&c->pages[i], data, size, at);
    return covered == size ? SQLITE_OK : code;
}

/* Nothing is written: salvage opens with query_only. */
static int file_write(sqlite3_file *f, const void *data, int size, sqlite3_int64 at)
{
    (void)f, (void)data, (void)size, (void)at;
    return SQLITE_READONLY;
}

static int file_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    (void)f, (void)size;
    return SQLITE_READONLY;
}

static int file_sync(sqlite3_file *f, int flags)
{
    return usual(f)->pMethods->xSync(usual(f), flags);
}

static int file_size(sqlite3_file *f, sqlite3_int64 *size)
{
    return usual(f)->pMethods->xFileSize(usual(f), size);
}

static int file_lock(sqlite3_file *f, int level)
{
    return usual(f)->pMethods->xLock(usual(f), level);
}

static int file_unlock(sqlite3_file *f, int level)
{
    return usual(f)->pMethods->xUnlock(usual(f), level);
}

static int file_reserved(sqlite3_file *f, int *out)
{
    return usual(f)->pMethods->xCheckReservedLock(usual(f), out);
}

static int file_control(sqlite3_file *f, int op, void *argument)
{
    return usual(f)->pMethods->xFileControl(usual(f), op, argument);
}

static int file_sector(sqlite3_file *f)
{
    return usual(f)->pMethods->xSectorSize(usual(f));
}

static int file_traits(sqlite3_file *f)
{
    return usual(f)->pMethods->xDeviceCharacteristics(usual(f));
}

/* Version 1: no shared memory. With locking_mode EXCLUSIVE SQLite needs none. */
static const sqlite3_io_methods methods = {.iVersion = 1,
                                           .xClose = file_close,
                                           .xRead = file_read,
                                           .xWrite = file_write,
                                           .xTruncate = file_truncate,
                                           .xSync = file_sync,
                                           .xFileSize = file_size,
                                           .xLock = file_lock,
                                           .xUnlock = file_unlock,
                                           .xCheckReservedLock = file_reserved,
                                           .xFileControl = file_control,
                                           .xSectorSize = file_sector,
                                           .xDeviceCharacteristics = file_traits};

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *out)
{
    struct salvage_overlay *o = vfs->pAppData;

    if (!(flags & SQLITE_OPEN_MAIN_DB))
        return o->usual->xOpen(o->usual, name, f, flags, out);
    f->pMethods = NULL;
    int code = o->usual->xOpen(o->usual, name, usual(f), flags, out);
    if (code == SQLITE_OK) {
        f->pMethods = &methods;
        ((struct file *)f)->overlay = o;
    } else if (usual(f)->pMethods != NULL) {
        file_close(f);
    }
    return code;
}

/* Another program's database is left alone: its header is whole and says so, and its first page is
 * not ours. */
static int is_foreign(const char *path, const struct schema_copy *c)
{
    unsigned char page[SCHEMA_COPY_PAGE];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, page, sizeof page);

    if (fd >= 0)
        close(fd);
    return n == (ssize_t)sizeof page && memcmp(page, "SQLite format 3", 16) == 0 &&
           memcmp(page + 68, c->pages[0].data + 68, 4) != 0 &&
           memcmp(page + 100, c->pages[0].data + 100, sizeof page - 100) != 0;
}

int salvage_overlay_begin(const char *path, struct salvage_overlay **out, const char **vfs)
{
    struct salvage_overlay *o = calloc(1, sizeof *o);
    int rc = o == NULL ? -ENOMEM : schema_copy_load(path, &o->copy);

    *out = NULL;
    if (rc == 0 && is_foreign(path, o->copy))
        rc = -ENOENT;
    o = rc == 0 ? o : (salvage_overlay_end(o), NULL);
    if (rc < 0)
        return rc == -ENOMEM ? rc : 1;
    /* The header's counters are old: with these two apart SQLite takes the size from the file. */
    unsigned char *header = o->copy->pages[0].data;
    header[92] = header[24] ^ 1;
    o->usual = sqlite3_vfs_find(NULL);
    o->vfs = *o->usual;
    snprintf(o->name, sizeof o->name, "nilm-salvage-%p", (void *)o);
    o->vfs.zName = o->name;
    o->vfs.pNext = NULL;
    o->vfs.pAppData = o;
    o->vfs.xOpen = vfs_open;
    o->vfs.szOsFile = (int)sizeof(struct file) + o->usual->szOsFile;
    rc = sqlite3_vfs_register(&o->vfs, 0) == SQLITE_OK ? 0 : -ENOMEM;
    if (rc < 0) {
        salvage_overlay_end(o);
        return rc;
    }
    *out = o;
    *vfs = o->name;
    return 0;
}

void salvage_overlay_end(struct salvage_overlay *o)
{
    if (o == NULL)
        return;
    if (o->usual != NULL)
        sqlite3_vfs_unregister(&o->vfs);
    free(o->copy);
    free(o);
}
