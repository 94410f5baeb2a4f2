/* trouble.c - a library for LD_PRELOAD: allocations, opens, writes, syncs, sends and receives of a
 * real program fail at random, as often as a control file says at that moment.
 *
 * NILM_TROUBLE names the control file (struct control, made by the suite, shared memory from then
 * on): so the suite changes rates while the program runs, reads what failed, and both survive a
 * kill. Whether call number n of a kind fails depends on the seed alone. Writes and syncs fail for
 * regular files only, sends and receives for the network only: pipes, event descriptors and local
 * socket pairs do not fail in the field. Allocations that Paho asks for are a kind of their own: it
 * uses what malloc gives without looking. A program's own definitions come before these: the
 * agent's connect() is not replaced.
 *
 * A crash leaves its stack on standard error. */
#undef _FORTIFY_SOURCE /* its inline functions cannot be replaced */
#undef _FILE_OFFSET_BITS
#undef _TIME_BITS
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum kind { ALLOCATION, OPEN, WRITE, SYNC, SEND, RECEIVE, SOCKET, LIBRARY, KINDS };

struct control {
    uint64_t seed;
    _Atomic uint32_t rate[KINDS]; /* failures in a million calls */
    _Atomic uint64_t calls[KINDS];
    _Atomic uint64_t failed[KINDS];
};

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);

static struct control *control;

/* 0, or a random number above when this call is to fail. */
static uint64_t fails(enum kind kind)
{
    if (control == NULL)
        return 0;
    uint64_t z = control->seed + ((uint64_t)kind << 56) +
                 0x9E3779B97F4A7C15ull * (atomic_fetch_add(&control->calls[kind], 1) + 1);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull; /* splitmix64 */
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    z ^= z >> 31;
    if (z % 1000000 >= atomic_load(&control->rate[kind]))
        return 0;
    atomic_fetch_add(&control->failed[kind], 1);
    return z / 1000000 + 1;
}

static int refuse(enum kind kind, const int *errors, unsigned count)
{
    const uint64_t dice = fails(kind);

    if (dice == 0)
        return 0;
    errno = errors[dice % count];
    return 1;
}

/* ---- allocations ---- */

static uintptr_t library_from, library_to; /* libpaho's code */

static int refuse_allocation(const void *caller)
{
    static const int errors[] = {ENOMEM};
    const uintptr_t at = (uintptr_t)caller;
    return refuse(at >= library_from && at < library_to ? LIBRARY : ALLOCATION, errors, 1);
}

void *malloc(size_t size)
{
    return refuse_allocation(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return refuse_allocation(__builtin_return_address(0)) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    return refuse_allocation(__builtin_return_address(0)) ? NULL : __libc_realloc(old, size);
}

static int find_library(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    (void)context;
    if (strstr(info->dlpi_name, "libpaho") == NULL)
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_LOAD || !(p->p_flags & PF_X))
            continue;
        library_from = (uintptr_t)info->dlpi_addr + p->p_vaddr;
        library_to = library_from + p->p_memsz;
    }
    return 1;
}

/* ---- files ---- */

static int refuse_open(void)
{
    static const int errors[] = {EMFILE, EIO, ENFILE, EACCES, ENOMEM};
    return refuse(OPEN, errors, 5);
}

static int open_any(const char *path, int flags, mode_t mode)
{
    return refuse_open() ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    va_list rest;

    va_start(rest, flags);
    const mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return open_any(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list rest;

    va_start(rest, flags);
    const mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return open_any(path, flags, mode);
}

static FILE *fopen_any(const char *name, const char *path, const char *mode)
{
    FILE *(*real)(const char *, const char *);
    void *symbol = dlsym(RTLD_NEXT, name);

    memcpy(&real, &symbol, sizeof real); /* C has no cast between the two */
    return refuse_open() || real == NULL ? NULL : real(path, mode);
}

FILE *fopen(const char *path, const char *mode)
{
    return fopen_any("fopen", path, mode);
}

FILE *fopen64(const char *path, const char *mode)
{
    return fopen_any("fopen64", path, mode);
}

static int is_file(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* How much of the write is done: all, a part (as on a disk that becomes full), nothing (0, errno
 * set). */
static size_t share(int fd, size_t size)
{
    static const int errors[] = {EIO, ENOSPC, EDQUOT, EROFS};
    const uint64_t dice = is_file(fd) ? fails(WRITE) : 0;

    if (dice == 0)
        return size;
    if (dice % 5 == 4 && size > 1)
        return size / 2;
    errno = errors[dice % 4];
    return 0;
}

ssize_t write(int fd, const void *data, size_t size)
{
    const size_t part = share(fd, size);
    return part == 0 && size > 0 ? -1 : syscall(SYS_write, fd, data, part);
}

static ssize_t write_at(int fd, const void *data, size_t size, int64_t at)
{
    const size_t part = share(fd, size);
    return part == 0 && size > 0 ? -1 : syscall(SYS_pwrite64, fd, data, part, at);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    return write_at(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    return write_at(fd, data, size, at);
}

int ftruncate64(int fd, off64_t size)
{
    return share(fd, 1) == 0 ? -1 : (int)syscall(SYS_ftruncate, fd, size);
}

static int refuse_sync(void)
{
    static const int errors[] = {EIO, ENOSPC, EDQUOT};
    return refuse(SYNC, errors, 3);
}

int fsync(int fd)
{
    return refuse_sync() ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return refuse_sync() ? -1 : (int)syscall(SYS_fdatasync, fd);
}

/* ---- the network ---- */

static int is_network(int fd)
{
    int domain = 0;
    socklen_t size = sizeof domain;
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 &&
           (domain == AF_INET || domain == AF_INET6);
}

ssize_t send(int fd, const void *data, size_t size, int flags)
{
    static const int errors[] = {ECONNRESET, EPIPE, EAGAIN, EINTR, ENOBUFS, EHOSTUNREACH};
    if (is_network(fd) && refuse(SEND, errors, 6))
        return -1;
    return syscall(SYS_sendto, fd, data, size, flags, NULL, 0);
}

ssize_t recv(int fd, void *data, size_t size, int flags)
{
    static const int errors[] = {ECONNRESET, ETIMEDOUT, EAGAIN, EINTR, ENOMEM};
    if (is_network(fd) && refuse(RECEIVE, errors, 5))
        return -1;
    return syscall(SYS_recvfrom, fd, data, size, flags, NULL, NULL);
}

int socket(int domain, int type, int protocol)
{
    static const int errors[] = {EMFILE, ENFILE, ENOBUFS};
    if (domain != AF_UNIX && refuse(SOCKET, errors, 3))
        return -1;
    return (int)syscall(SYS_socket, domain, type, protocol);
}

/* ---- set-up ---- */

static void show_stack(int number)
{
    static const char text[] = "\ntrouble: the program crashed:\n";
    void *stack[40];

    control = NULL;
    (void)!syscall(SYS_write, STDERR_FILENO, text, sizeof text - 1);
    backtrace_symbols_fd(stack, backtrace(stack, 40), STDERR_FILENO);
    signal(number, SIG_DFL);
    raise(number);
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("NILM_TROUBLE");
    void *stack[2];
    const int fd = path == NULL ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);

    if (fd < 0)
        return;
    dl_iterate_phdr(find_library, NULL);
    (void)backtrace(stack, 2); /* loads what it needs now, not in a crash */
    signal(SIGSEGV, show_stack);
    signal(SIGABRT, show_stack);
    signal(SIGBUS, show_stack);
    signal(SIGFPE, show_stack);
    void *shared = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (shared != MAP_FAILED)
        control = shared;
}
