/* schema_copy.c - see schema_copy.h. Pages: https://www.sqlite.org/fileformat2.html sections 1.3
 * and 1.6. */
#include "storage/schema_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storage/crc32.h"
#include "storage/folder.h"

#define MAGIC "NILMSCH1"
#define HEAD_BYTES 20 /* magic, check sum of what follows, check sum of the rows, pages */
#define FILE_BYTES (HEAD_BYTES + SCHEMA_COPY_PAGES * (4 + SCHEMA_COPY_PAGE))
#define NAME_MAX_BYTES 4096
#define ROW_BYTES 3500 /* of the schema: a larger one would go on in pages of its own */

static int name_of(const char *path, const char *suffix, char *out)
{
    int n = snprintf(out, NAME_MAX_BYTES, "%s.schema%s", path, suffix);

    return n < 0 || n >= NAME_MAX_BYTES ? -ENAMETOOLONG : 0;
}

static uint32_t get32(const unsigned char *p) /* as SQLite writes numbers: big end first */
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put32(unsigned char *p, uint32_t n)
{
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(n >> (24 - 8 * i));
}

/* ---- reading ---- */

static int parse(const unsigned char *data, size_t size, struct schema_copy *c)
{
    const size_t each = 4 + SCHEMA_COPY_PAGE;

    if (size < HEAD_BYTES + each || memcmp(data, MAGIC, 8) != 0 ||
        get32(data + 8) != crc32_bytes(0, data + 12, size - 12))
        return -EBADMSG;
    c->checksum = get32(data + 12);
    c->count = get32(data + 16);
    if (c->count < 1 || c->count > SCHEMA_COPY_PAGES || size != HEAD_BYTES + c->count * each)
        return -EBADMSG;
    for (uint32_t i = 0; i < c->count; i++) {
        c->pages[i].number = get32(data + HEAD_BYTES + i * each);
        memcpy(c->pages[i].data, data + HEAD_BYTES + i * each + 4, SCHEMA_COPY_PAGE);
    }
    return c->pages[0].number == 1 ? 0 : -EBADMSG;
}

int schema_copy_load(const char *path, struct schema_copy **out)
{
    char name[NAME_MAX_BYTES];
    unsigned char *data = NULL;
    struct schema_copy *c = NULL;
    int rc = name_of(path, "", name);
    int fd = rc == 0 ? open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC) : -1;

    *out = NULL;
    if (fd < 0)
        return rc < 0 ? rc : -errno;
    data = malloc(FILE_BYTES + 1);
    c = malloc(sizeof *c);
    ssize_t n = data == NULL || c == NULL ? -1 : read(fd, data, FILE_BYTES + 1);
    rc = data == NULL || c == NULL ? -ENOMEM : n < 0 ? -errno : parse(data, (size_t)n, c);
    close(fd);
    free(data);
    if (rc == 0)
        *out = c;
    else
        free(c);
    return rc;
}

/* ---- writing ---- */

/* Of the rows that the pages hold. */
static int sum_rows(struct store *s, uint32_t *checksum)
{
    sqlite3_stmt *q = NULL;
    uint32_t crc = 0;
    int rc;

    sqlite3_prepare_v2(s->db,
                       "SELECT type, name, tbl_name, coalesce(sql, ''), rootpage FROM"
                       " sqlite_schema ORDER BY rowid",
                       -1, &q, NULL);
    while ((rc = store_step(s, q, "read the schema")) > 0) {
        for (int i = 0; i < 4; i++) {
            const char *text = (const char *)sqlite3_column_text(q, i);
            const size_t bytes = (size_t)sqlite3_column_bytes(q, i);
            if (text == NULL || bytes > ROW_BYTES) {
                sqlite3_finalize(q);
                return -ENOTSUP;
            }
            crc = crc32_text(crc, text, bytes);
        }
        crc = crc32_integer(crc, sqlite3_column_int64(q, 4));
    }
    sqlite3_finalize(q);
    *checksum = crc;
    return rc;
}

/* Through SQLite's own handle: closing another one of the same file would end its locks. */
static int read_page(sqlite3_file *file, uint32_t number, struct schema_copy *c)
{
    if (number < 1 || c->count == SCHEMA_COPY_PAGES)
        return -ENOTSUP;
    struct schema_copy_page *p = &c->pages[c->count++];
    p->number = number;
    return file->pMethods->xRead(file, p->data, SCHEMA_COPY_PAGE,
                                 (sqlite3_int64)(number - 1) * SCHEMA_COPY_PAGE) == SQLITE_OK
               ? 0
               : -EIO;
}

/* The tree of the schema: page 1 alone, or with leaves below it. */
static int read_pages(sqlite3_file *file, struct schema_copy *c)
{
    int rc = read_page(file, 1, c);
    const unsigned char *page = c->pages[0].data, *head = page + 100;

    if (rc < 0 || head[0] == 0x0d)
        return rc;
    const unsigned cells = (unsigned)head[3] << 8 | head[4];
    if (head[0] != 0x05 || cells >= SCHEMA_COPY_PAGES)
        return -ENOTSUP;
    for (unsigned i = 0; i < cells && rc == 0; i++) {
        const unsigned at = (unsigned)head[12 + 2 * i] << 8 | head[13 + 2 * i];
        rc = at > SCHEMA_COPY_PAGE - 4 ? -EBADMSG : read_page(file, get32(page + at), c);
    }
    if (rc == 0)
        rc = read_page(file, get32(head + 8), c);
    for (uint32_t i = 1; i < c->count && rc == 0; i++)
        rc = c->pages[i].data[0] == 0x0d ? 0 : -ENOTSUP;
    return rc;
}

static int write_copy(const char *path, const struct schema_copy *c)
{
    char name[NAME_MAX_BYTES], temporary[NAME_MAX_BYTES];
    const size_t size = HEAD_BYTES + c->count * (4 + (size_t)SCHEMA_COPY_PAGE);
    unsigned char *data = malloc(size);
    int rc = data == NULL ? -ENOMEM : name_of(path, "", name);

    if (rc == 0)
        rc = name_of(path, ".tmp", temporary);
    if (rc == 0) {
        unsigned char *p = data + HEAD_BYTES;
        for (uint32_t i = 0; i < c->count; i++, p += 4 + SCHEMA_COPY_PAGE) {
            put32(p, c->pages[i].number);
            memcpy(p + 4, c->pages[i].data, SCHEMA_COPY_PAGE);
        }
        memcpy(data, MAGIC, 8);
        put32(data + 12, c->checksum);
        put32(data + 16, c->count);
        put32(data + 8, crc32_bytes(0, data + 12, size - 12));
        rc = folder_replace(temporary, name, data, size);
    }
    free(data);
    return rc;
}

int schema_copy_keep(struct store *s)
{
    struct schema_copy *c = NULL;
    sqlite3_file *file = NULL;
    uint32_t checksum = 0;
    int rc = sum_rows(s, &checksum);

    if (rc == 0 && schema_copy_load(s->path, &c) == 0 && c->checksum == checksum)
        goto out;
    free(c);
    c = rc == 0 ? calloc(1, sizeof *c) : NULL;
    if (c == NULL)
        return rc < 0 ? rc : -ENOMEM;
    c->checksum = checksum;
    /* what the log holds goes into the file first */
    if (sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL) !=
            SQLITE_OK ||
        sqlite3_file_control(s->db, "main", SQLITE_FCNTL_FILE_POINTER, &file) != SQLITE_OK ||
        file == NULL || file->pMethods == NULL)
        rc = -EIO;
    if (rc == 0)
        rc = read_pages(file, c);
    if (rc == 0)
        rc = write_copy(s->path, c);
out:
    free(c);
    return rc;
}

void schema_copy_remove(const char *path)
{
    char name[NAME_MAX_BYTES];

    if (name_of(path, "", name) == 0)
        unlink(name);
}
