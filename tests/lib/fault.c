/* fault.c - see fault.h. The real calls are made by number, so nothing has to be looked up. */
#undef _FORTIFY_SOURCE
#undef _FILE_OFFSET_BITS
#undef _TIME_BITS
#include "lib/fault.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SECTOR 512
#define FILES 64
#define FDS 256
#define CHANGES 8192
#define NAMES 64

/* ---- allocations ---- */

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void __libc_free(void *p);
/* AddressSanitizer's, when it is there. */
extern void *__interceptor_malloc(size_t size) __attribute__((weak));
extern void *__interceptor_calloc(size_t count, size_t size) __attribute__((weak));
extern void *__interceptor_realloc(void *old, size_t size) __attribute__((weak));
extern void __interceptor_free(void *p) __attribute__((weak));

static int64_t allocations, allocation_at = -1;
static int allocation_lasting;

static int refuse_allocation(void)
{
    int64_t n = allocations++;

    if (allocation_at < 0 || n < allocation_at || (n > allocation_at && !allocation_lasting))
        return 0;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size)
{
    if (refuse_allocation())
        return NULL;
    return __interceptor_malloc != NULL ? __interceptor_malloc(size) : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    if (refuse_allocation())
        return NULL;
    return __interceptor_calloc != NULL ? __interceptor_calloc(count, size)
                                        : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    if (refuse_allocation())
        return NULL;
    return __interceptor_realloc != NULL ? __interceptor_realloc(old, size)
                                         : __libc_realloc(old, size);
}

void free(void *p)
{
    if (__interceptor_free != NULL)
        __interceptor_free(p);
    else
        __libc_free(p);
}

void fault_allocations(int64_t at, int lasting)
{
    allocations = 0;
    allocation_at = at;
    allocation_lasting = lasting;
}

int64_t fault_allocations_seen(void)
{
    return allocations;
}

/* ---- the disk ---- */

struct change { /* a write, or (data NULL) a truncation to at */
    int64_t at, size;
    char *data;
};

struct file {
    int used;
    char *image; /* what surely survives */
    int64_t size;
    struct change *changes;
    int count;
};

struct name {
    char path[512];
    int file;
};

struct operation {           /* on names */
    char from[512], to[512]; /* to: "" created from (file), or removed (file -1) */
    int file;
};

static char folder[400];
static int watching; /* the disk remembers; else files only fail */
static int64_t operations, operation_at = -1;
static int operation_lasting, operation_error;
static struct file files[FILES];
static struct name now[NAMES], durable[NAMES]; /* path "": free */
static struct operation pending[256];
static int pending_count;
static int file_of_fd[FDS]; /* index + 1; 0: not watched; -1: a folder */
static char folder_of_fd[FDS][512];

static int is_ours(const char *path)
{
    size_t length = strlen(folder);
    size_t n = path == NULL ? 0 : strlen(path);

    return length > 0 && n > length && strncmp(path, folder, length) == 0 && path[length] == '/' &&
           !(n > 4 && strcmp(path + n - 4, "-shm") == 0) && n < 512;
}

/* Counts a change: 1 when it fails. */
static int refuse(void)
{
    int64_t n = operations++;

    if (operation_at < 0 || n < operation_at || (n > operation_at && !operation_lasting))
        return 0;
    errno = operation_error;
    return 1;
}

static struct name *find(struct name *names, const char *path)
{
    for (int i = 0; i < NAMES; i++)
        if (strcmp(names[i].path, path) == 0)
            return &names[i];
    return NULL;
}

static void set_name(struct name *names, const char *path, int file)
{
    struct name *n = find(names, path);

    if (n == NULL && file >= 0)
        n = find(names, "");
    if (n == NULL) {
        if (file >= 0)
            abort();
        return;
    }
    snprintf(n->path, sizeof n->path, "%s", file >= 0 ? path : "");
    n->file = file;
}

static int new_file(void)
{
    for (int i = 0; i < FILES; i++)
        if (!files[i].used) {
            files[i].used = 1;
            files[i].changes = __libc_calloc(CHANGES, sizeof *files[i].changes);
            return i;
        }
    abort();
}

static void apply(struct file *f, const struct change *c, int64_t size)
{
    int64_t end = c->data == NULL ? c->at : c->at + size;

    if (end > f->size || c->data == NULL) {
        f->image = __libc_realloc(f->image, (size_t)end + 1);
        if (end > f->size)
            memset(f->image + f->size, 0, (size_t)(end - f->size));
        f->size = end;
    }
    if (c->data != NULL && size > 0)
        memcpy(f->image + c->at, c->data, (size_t)size);
}

static void forget_changes(struct file *f)
{
    for (int i = 0; i < f->count; i++)
        __libc_free(f->changes[i].data);
    f->count = 0;
}

static void note_change(int fd, int64_t at, int64_t size, const void *data)
{
    struct file *f = &files[file_of_fd[fd] - 1];

    if (!watching)
        return;
    if (f->count == CHANGES)
        abort();
    struct change *c = &f->changes[f->count++];
    *c = (struct change){at, size, NULL};
    if (data != NULL) {
        c->data = __libc_malloc((size_t)size + 1);
        memcpy(c->data, data, (size_t)size);
    }
}

static void note_operation(const char *from, const char *to, int file)
{
    if (!watching)
        return;
    if (pending_count == 256)
        abort();
    struct operation *o = &pending[pending_count++];
    snprintf(o->from, sizeof o->from, "%s", from);
    snprintf(o->to, sizeof o->to, "%s", to);
    o->file = file;
}

static void happen(struct name *names, const struct operation *o)
{
    if (o->to[0] == '\0') {
        set_name(names, o->from, o->file);
        return;
    }
    struct name *n = find(names, o->from);
    int file = n == NULL ? -1 : n->file;
    set_name(names, o->from, -1);
    set_name(names, o->to, file);
}

static int is_in(const char *path, const char *parent)
{
    size_t n = strlen(parent);

    return strncmp(path, parent, n) == 0 && path[n] == '/' && strchr(path + n + 1, '/') == NULL;
}

static void sync_folder(const char *path)
{
    int kept = 0;

    for (int i = 0; i < pending_count; i++) {
        if (is_in(pending[i].from, path))
            happen(durable, &pending[i]);
        else
            pending[kept++] = pending[i];
    }
    pending_count = kept;
}

/* ---- the calls ---- */

static int is_watched(int fd)
{
    return fd >= 0 && fd < FDS && file_of_fd[fd] > 0;
}

static int open_real(const char *path, int flags, mode_t mode)
{
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);

    if (fd >= 0 && fd < FDS)
        file_of_fd[fd] = 0;
    return fd;
}

static int open_any(const char *path, int flags, mode_t mode)
{
    struct stat st;

    if ((flags & O_ACCMODE) == O_RDONLY) {
        int fd = open_real(path, flags, mode);
        if (fd >= 0 && fd < FDS && folder[0] != '\0' &&
            strncmp(path, folder, strlen(folder)) == 0 && fstat(fd, &st) == 0 &&
            S_ISDIR(st.st_mode)) { /* SQLite opens folders without O_DIRECTORY */
            file_of_fd[fd] = -1;
            snprintf(folder_of_fd[fd], sizeof folder_of_fd[fd], "%s", path);
        }
        return fd;
    }
    if (!is_ours(path))
        return open_real(path, flags, mode);
    int there = syscall(SYS_faccessat, AT_FDCWD, path, F_OK) == 0;
    int changes = (!there && (flags & O_CREAT)) || (flags & O_TRUNC);
    if (changes ? refuse() : operation_at >= 0 && !watching && refuse())
        return -1;
    int fd = open_real(path, flags, mode);
    if (fd < 0)
        return fd;
    if (fd >= FDS || fstat(fd, &st) != 0)
        abort();
    struct name *n = find(now, path);
    int file = n != NULL ? n->file : watching ? new_file() : 0;
    file_of_fd[fd] = file + 1;
    if (n == NULL && watching) {
        set_name(now, path, file);
        note_operation(path, "", file);
    }
    if (there && (flags & O_TRUNC))
        note_change(fd, 0, 0, NULL);
    return fd;
}

int open(const char *path, int flags, ...)
{
    va_list rest;

    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return open_any(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list rest;

    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return open_any(path, flags, mode);
}

static ssize_t write_at(int fd, const void *data, size_t size, off_t at)
{
    if (is_watched(fd)) {
        note_change(fd, at, (int64_t)size, data); /* also the write that is cut: part may arrive */
        if (refuse())
            return -1;
    }
    return syscall(SYS_pwrite64, fd, data, size, at);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    return write_at(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t at)
{
    return write_at(fd, data, size, at);
}

ssize_t write(int fd, const void *data, size_t size)
{
    if (is_watched(fd)) {
        note_change(fd, syscall(SYS_lseek, fd, 0, SEEK_CUR), (int64_t)size, data);
        if (refuse())
            return -1;
    }
    return syscall(SYS_write, fd, data, size);
}

static int truncate_to(int fd, off_t size)
{
    if (is_watched(fd)) {
        if (refuse())
            return -1;
        note_change(fd, size, 0, NULL);
    }
    return (int)syscall(SYS_ftruncate, fd, size);
}

int ftruncate(int fd, off_t size)
{
    return truncate_to(fd, size);
}

int ftruncate64(int fd, off_t size)
{
    return truncate_to(fd, size);
}

/* The real disk is left alone: tests are many. */
static int synchronise(int fd)
{
    if (fd < 0 || fd >= FDS || file_of_fd[fd] == 0)
        return 0;
    if (refuse())
        return -1;
    if (!watching)
        return 0;
    if (file_of_fd[fd] < 0) {
        sync_folder(folder_of_fd[fd]);
        return 0;
    }
    struct file *f = &files[file_of_fd[fd] - 1];
    for (int i = 0; i < f->count; i++)
        apply(f, &f->changes[i], f->changes[i].size);
    forget_changes(f);
    return 0;
}

int fsync(int fd)
{
    return synchronise(fd);
}

int fdatasync(int fd)
{
    return synchronise(fd);
}

int rename(const char *from, const char *to)
{
    if (is_ours(from)) {
        if (refuse())
            return -1;
        if (syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0) != 0)
            return -1;
        note_operation(from, to, 0);
        if (watching)
            happen(now, &pending[pending_count - 1]);
        return 0;
    }
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlink(const char *path)
{
    if (is_ours(path) && syscall(SYS_faccessat, AT_FDCWD, path, F_OK) == 0) {
        if (refuse())
            return -1;
        note_operation(path, "", -1);
        if (watching)
            set_name(now, path, -1);
    }
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

/* ---- set-up ---- */

static void start(const char *where, int64_t at, int lasting, int error)
{
    snprintf(folder, sizeof folder, "%s", where == NULL ? "" : where);
    operations = 0;
    operation_at = at;
    operation_lasting = lasting;
    operation_error = error;
}

void fault_files(const char *where, int64_t at, int lasting, int error)
{
    watching = 0;
    start(where, at, lasting, error);
}

int64_t fault_files_seen(void)
{
    return operations;
}

/* What lies there is durable. */
static void load(const char *path, const char *entry)
{
    char name[800];
    struct stat st;

    snprintf(name, sizeof name, "%s/%s", path, entry);
    int fd = open_real(name, O_RDONLY, 0);
    if (!is_ours(name) || fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return;
    }
    int i = new_file();
    files[i].image = __libc_malloc((size_t)st.st_size + 1);
    files[i].size = st.st_size;
    if (read(fd, files[i].image, (size_t)st.st_size) != st.st_size)
        abort();
    close(fd);
    set_name(now, name, i);
    set_name(durable, name, i);
}

void fault_disk(const char *where, int64_t at)
{
    start(where, at, 1, EIO);
    watching = 1;
    DIR *d = opendir(where);
    if (d == NULL)
        abort();
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        load(where, e->d_name);
    closedir(d);
}

static void store_image(const char *path, const struct file *f)
{
    int fd = open_real(path, O_WRONLY | O_CREAT | O_TRUNC, 0640);

    if (fd < 0 || syscall(SYS_write, fd, f->image, f->size) != f->size)
        abort();
    close(fd);
}

static uint64_t draw(uint64_t *state) /* xorshift64* */
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545F4914F6CDD1Dull;
}

void fault_power_back(uint64_t *random)
{
    int happened = pending_count == 0 ? 0 : (int)(draw(random) % ((uint64_t)pending_count + 1));

    for (int i = 0; i < happened; i++)
        happen(durable, &pending[i]);
    for (int i = 0; i < FILES; i++) {
        struct file *f = &files[i];
        for (int k = 0; k < f->count; k++) {
            const struct change *c = &f->changes[k];
            uint64_t luck = draw(random) % 4; /* 0: lost, 1: torn, else kept */
            if (luck != 0)
                apply(f, c, luck == 1 ? c->size / SECTOR / 2 * SECTOR : c->size);
        }
    }
    for (int i = 0; i < NAMES; i++)
        if (now[i].path[0] != '\0')
            syscall(SYS_unlinkat, AT_FDCWD, now[i].path, 0);
    for (int i = 0; i < NAMES; i++)
        if (durable[i].path[0] != '\0')
            store_image(durable[i].path, &files[durable[i].file]);
    for (int i = 0; i < FILES; i++) {
        if (!files[i].used)
            continue;
        forget_changes(&files[i]);
        __libc_free(files[i].changes);
        __libc_free(files[i].image);
    }
    memset(files, 0, sizeof files);
    memset(now, 0, sizeof now);
    memset(durable, 0, sizeof durable);
    memset(file_of_fd, 0, sizeof file_of_fd);
    pending_count = 0;
    watching = 0;
    start(NULL, -1, 0, 0);
}
