/* slots.c - two model slots; the method is that of RAUC's artifacts.c: temporary file, fsync,
 * rename, fsync of the folder. */
#include "storage/slots.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/crc32.h"
#include "storage/folder.h"

#define DIR_BYTES 448u   /* so that every path below fits struct slots_info */
#define STATE_BYTES 512u /* largest state file */

struct slots {
    char dir[DIR_BYTES];
    struct slots_info info; /* path is filled in by slots_get */
    int readonly;
};

static int explain(char *why, size_t why_size, int rc, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static int explain(char *why, size_t why_size, int rc, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(why, why_size, format, arguments);
    va_end(arguments);
    return rc;
}

static void path_of(const struct slots *s, const char *name, char out[512])
{
    snprintf(out, 512, "%.*s/%s", (int)DIR_BYTES, s->dir, name);
}

static void bundle_path(const struct slots *s, char slot, char out[512])
{
    const char name[] = {slot, '.', 'b', 'u', 'n', 'd', 'l', 'e', '\0'};

    path_of(s, name, out);
}

static char letter(char slot)
{
    return slot == 0 ? '-' : slot;
}

static size_t print_state(const struct slots_info *info, char out[STATE_BYTES])
{
    int n = snprintf(out, STATE_BYTES,
                     "nilmd slots 1\nactive=%c\nversion=%" PRIu32 "\nhighest=%" PRIu32
                     "\nprevious=%c\nprevious_version=%" PRIu32 "\nstaged=%c\n",
                     letter(info->active), info->version, info->highest, letter(info->previous),
                     info->previous_version, letter(info->staged));
    n += snprintf(out + n, STATE_BYTES - (size_t)n, "checksum=%08" PRIx32 "\n",
                  crc32_bytes(0, out, (size_t)n));
    return (size_t)n;
}

static int slot_of(char c, char *slot)
{
    *slot = c == '-' ? 0 : c;
    return c == 'a' || c == 'b' || c == '-';
}

/* There is one way to write a state: what does not print as it was read is damaged. That covers
 * checksum, order and rest. */
static int parse_state(const char *text, size_t size, struct slots_info *info)
{
    char active, previous, staged, again[STATE_BYTES];

    memset(info, 0, sizeof *info);
    if (sscanf(text,
               "nilmd slots 1\nactive=%c\nversion=%" SCNu32 "\nhighest=%" SCNu32
               "\nprevious=%c\nprevious_version=%" SCNu32 "\nstaged=%c\n",
               &active, &info->version, &info->highest, &previous, &info->previous_version,
               &staged) != 6)
        return -EBADMSG;
    if (!slot_of(active, &info->active) || !slot_of(previous, &info->previous) ||
        !slot_of(staged, &info->staged))
        return -EBADMSG;
    if (info->active != 0 && (info->previous == info->active || info->staged == info->active))
        return -EBADMSG;
    return print_state(info, again) == size && memcmp(text, again, size) == 0 ? 0 : -EBADMSG;
}

/* Reads a regular file of at most max bytes into a new buffer with a NUL behind it. */
static int read_file(const char *path, size_t max, char **data, size_t *size, char *why,
                     size_t why_size)
{
    char *buffer = NULL;
    struct stat st;
    size_t done = 0;
    int rc = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC |
                            O_NONBLOCK); /* O_NONBLOCK: a FIFO in its place does not hang */

    if (fd < 0)
        return explain(why, why_size, -errno, "%s: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0) {
        rc = explain(why, why_size, -errno, "%s: %s", path, strerror(errno));
        goto out;
    }
    if (!S_ISREG(st.st_mode) || st.st_size == 0) {
        rc = explain(why, why_size, -EBADMSG, "%s: expected a regular file with content", path);
        goto out;
    }
    if ((uint64_t)st.st_size > max) {
        rc = explain(why, why_size, -EFBIG, "%s: %lld bytes, expected at most %zu", path,
                     (long long)st.st_size, max);
        goto out;
    }
    buffer = malloc((size_t)st.st_size + 1);
    if (buffer == NULL) {
        rc = explain(why, why_size, -ENOMEM, "%s: out of memory", path);
        goto out;
    }
    while (done < (size_t)st.st_size) {
        ssize_t n = read(fd, buffer + done, (size_t)st.st_size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            rc = n < 0 ? -errno : -EBADMSG;
            explain(why, why_size, rc, "%s: %s", path,
                    n < 0 ? strerror(errno) : "became shorter while it was read");
            goto out;
        }
        done += (size_t)n;
    }
    buffer[done] = '\0';
    *data = buffer;
    *size = done;
    buffer = NULL;
out:
    free(buffer);
    close(fd);
    return rc;
}

/* After 0 the file has the new content even if the power goes; after an error it has the old. */
static int replace(const struct slots *s, const char *name, const char *data, size_t size,
                   char *why, size_t why_size)
{
    char path[512], temporary[512], temporary_name[32];

    snprintf(temporary_name, sizeof temporary_name, "%s.tmp", name);
    path_of(s, name, path);
    path_of(s, temporary_name, temporary);
    int rc = folder_replace(temporary, path, data, size);
    if (rc < 0)
        explain(why, why_size, rc, "%s: cannot write: %s", path, strerror(-rc));
    return rc;
}

/* Writes a new state, and only then takes it over. */
static int change(struct slots *s, const struct slots_info *next, char *why, size_t why_size)
{
    char text[STATE_BYTES];

    if (s->readonly)
        return explain(why, why_size, -EROFS, "%s: opened for reading only", s->dir);
    size_t size = print_state(next, text);
    int rc = replace(s, "state", text, size, why, why_size);

    if (rc == 0)
        s->info = *next;
    return rc;
}

/* Reads the state file; none is a state too. -EBADMSG, -EFBIG: damaged. */
static int read_state(struct slots *s, char *why, size_t why_size)
{
    char path[512], *text = NULL;
    size_t size = 0;

    path_of(s, "state", path);
    int rc = read_file(path, STATE_BYTES - 1, &text, &size, why, why_size);
    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return rc;
    rc = parse_state(text, size, &s->info);
    free(text);
    if (rc < 0)
        explain(why, why_size, rc, "%s: damaged: expected the lines of a state with their checksum",
                path);
    return rc;
}

/* Sets a damaged state aside and writes one with no slot active. why keeps the reason. */
static int rebuild(struct slots *s, int *repaired, char *why, size_t why_size)
{
    const struct slots_info none = {0};
    char path[512], aside[600], problem[200];

    path_of(s, "state", path);
    int rc = folder_aside_name(path, "damaged", aside, sizeof aside);
    if (rc == 0 && rename(path, aside) != 0)
        rc = -errno;
    if (rc < 0)
        return explain(why, why_size, rc, "%s: damaged, and cannot be set aside: %s", path,
                       strerror(-rc));
    rc = change(s, &none, problem, sizeof problem);
    if (rc < 0)
        return explain(why, why_size, rc, "%s", problem);
    *repaired = 1;
    return 0;
}

static int make(const char *dir, struct slots **out, char *why, size_t why_size)
{
    if (strlen(dir) == 0 || strlen(dir) >= DIR_BYTES)
        return explain(why, why_size, -ENAMETOOLONG,
                       "%.64s: expected a folder name of 1 to %u bytes", dir, DIR_BYTES - 1);
    struct slots *s = calloc(1, sizeof *s);
    if (s == NULL)
        return explain(why, why_size, -ENOMEM, "%s: out of memory", dir);
    snprintf(s->dir, sizeof s->dir, "%s", dir);
    *out = s;
    return 0;
}

int slots_open(const char *dir, struct slots **out, int *repaired, char *why, size_t why_size)
{
    struct slots *s = NULL;

    *out = NULL;
    *repaired = 0;
    int rc = make(dir, &s, why, why_size);
    if (rc < 0)
        return rc;
    if (mkdir(dir, 0750) == 0)
        rc = folder_sync_parent(dir);
    else if (errno != EEXIST)
        rc = -errno;
    if (rc < 0)
        explain(why, why_size, rc, "%s: cannot make the folder: %s", dir, strerror(-rc));
    else
        rc = read_state(s, why, why_size);
    if (rc == -EBADMSG || rc == -EFBIG)
        rc = rebuild(s, repaired, why, why_size);
    if (rc < 0) {
        slots_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

int slots_open_readonly(const char *dir, struct slots **out, char *why, size_t why_size)
{
    struct slots *s = NULL;

    *out = NULL;
    int rc = make(dir, &s, why, why_size);
    if (rc < 0)
        return rc;
    s->readonly = 1;
    if (access(dir, R_OK | X_OK) != 0)
        rc = explain(why, why_size, -errno, "%s: %s", dir, strerror(errno));
    else
        rc = read_state(s, why, why_size);
    if (rc < 0) {
        slots_close(s);
        return rc == -EFBIG ? -EBADMSG : rc;
    }
    *out = s;
    return 0;
}

void slots_close(struct slots *s)
{
    free(s);
}

int slots_get(struct slots *s, struct slots_info *out)
{
    *out = s->info;
    if (out->active != 0)
        bundle_path(s, out->active, out->path);
    return 0;
}

int slots_stage(struct slots *s, const void *data, size_t size, char *why, size_t why_size)
{
    char target = s->info.active == 'a' ? 'b' : 'a';
    const char name[] = {target, '.', 'b', 'u', 'n', 'd', 'l', 'e', '\0'};
    struct slots_info next = s->info;
    int rc = 0;

    if (s->readonly)
        return explain(why, why_size, -EROFS, "%s: opened for reading only", s->dir);
    if (data == NULL || size == 0)
        return explain(why, why_size, -EINVAL, "slot %c: expected a bundle, not nothing", target);
    /* The state must not name what is about to be overwritten, or a power cut would make a
     * candidate the way back. */
    next.staged = 0;
    if (next.previous == target) {
        next.previous = 0;
        next.previous_version = 0;
    }
    if (next.staged != s->info.staged || next.previous != s->info.previous)
        rc = change(s, &next, why, why_size);
    if (rc == 0)
        rc = replace(s, name, data, size, why, why_size);
    next.staged = target;
    return rc == 0 ? change(s, &next, why, why_size) : rc;
}

static int present(const struct slots *s, char slot, char *why, size_t why_size)
{
    char path[512];

    bundle_path(s, slot, path);
    return access(path, R_OK) == 0
               ? 0
               : explain(why, why_size, -errno, "%s: %s", path, strerror(errno));
}

int slots_activate(struct slots *s, uint32_t version, char *why, size_t why_size)
{
    struct slots_info next = s->info;

    if (next.staged == 0)
        return explain(why, why_size, -ENOENT, "%s: nothing is staged", s->dir);
    int rc = present(s, next.staged, why, why_size);
    if (rc < 0)
        return rc;
    next.previous = next.active;
    next.previous_version = next.version;
    next.active = next.staged;
    next.version = version;
    next.highest = version > next.highest ? version : next.highest;
    next.staged = 0;
    return change(s, &next, why, why_size);
}

int slots_rollback(struct slots *s, char *why, size_t why_size)
{
    struct slots_info next = s->info;

    if (next.previous == 0)
        return explain(why, why_size, -ENOENT, "%s: no previous model to return to", s->dir);
    int rc = present(s, next.previous, why, why_size);
    if (rc < 0)
        return rc;
    next.active = next.previous;
    next.version = next.previous_version;
    next.previous = 0;
    next.previous_version = 0;
    next.staged = 0;
    return change(s, &next, why, why_size);
}

int slots_read(struct slots *s, char slot, size_t max, void **data, size_t *size, char *why,
               size_t why_size)
{
    char path[512], *bytes = NULL;

    if (slot != 'a' && slot != 'b')
        return explain(why, why_size, -EINVAL, "slot: expected a or b");
    bundle_path(s, slot, path);
    int rc = read_file(path, max, &bytes, size, why, why_size);
    if (rc == 0)
        *data = bytes;
    return rc;
}
