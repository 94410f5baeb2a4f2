/* lib_quiet.h - traps for code that must neither allocate, lock, nor enter the kernel. Included by
 * one file of a program.
 *
 * The entry points of the allocator and of locks are replaced in the program and counted (not under
 * sanitizers, which replace them themselves, and with glibc only: COUNTED is defined where they
 * are). System calls: a child calls forbid_system_calls. */
#ifndef TESTS_INFERENCE_LIB_QUIET_H
#define TESTS_INFERENCE_LIB_QUIET_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif

#if !defined(SANITIZED) && defined(__GLIBC__)
#define COUNTED 1
static volatile unsigned long allocations;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *p);

void *malloc(size_t size)
{
    allocations++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    allocations++;
    return __libc_calloc(count, size);
}

void *realloc(void *p, size_t size)
{
    allocations++;
    return __libc_realloc(p, size);
}

void *aligned_alloc(size_t align, size_t size)
{
    allocations++;
    return __libc_memalign(align, size);
}

void free(void *p)
{
    allocations++;
    __libc_free(p);
}

/* Whatever is linked statically and might wait for another thread calls these; nothing in these
 * programs needs them to work. */
static volatile unsigned long locks;
#define LOCK(name)                                                                                 \
    int name(void *p);                                                                             \
    int name(void *p)                                                                              \
    {                                                                                              \
        (void)p;                                                                                   \
        locks++;                                                                                   \
        return 0;                                                                                  \
    }
LOCK(pthread_mutex_lock)
LOCK(pthread_mutex_trylock)
LOCK(pthread_rwlock_rdlock)
LOCK(pthread_rwlock_wrlock)
LOCK(pthread_spin_lock)
LOCK(sem_wait)
LOCK(mtx_lock)
#endif

/* From here on every system call but exit is deadly. 0, or -1 where there is no seccomp. */
static int forbid_system_calls(void)
{
    static struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    const struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

#endif
