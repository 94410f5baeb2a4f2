/* clock_preload.c - a wall clock for one process: LD_PRELOAD, with NILM_TEST_CLOCK naming a file of
 * three int64: ms added to the real time, whether the kernel says "synchronized", ms added to the
 * time since boot. Changes at once when the file does. Test only. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *shared;

__attribute__((constructor)) static void map(void)
{
    const char *path = getenv("NILM_TEST_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *p = fd >= 0 ? mmap(NULL, 24, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (fd >= 0)
        close(fd);
    shared = p == MAP_FAILED ? NULL : p;
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    int rc = (int)syscall(SYS_clock_gettime, id, t);
    int64_t add = !shared                                               ? 0
                  : id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE ? shared[0]
                  : id == CLOCK_BOOTTIME                                ? shared[2]
                                                                        : 0;
    int64_t ns = t->tv_nsec + add % 1000 * 1000000;
    t->tv_sec += add / 1000 + (ns < 0 ? -1 : ns / 1000000000);
    t->tv_nsec = ns < 0 ? ns + 1000000000 : ns % 1000000000;
    return rc;
}

time_t time(time_t *out)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (out)
        *out = t.tv_sec;
    return t.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec t;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &t);
    *out = (struct timeval){t.tv_sec, t.tv_nsec / 1000};
    return 0;
}

int adjtimex(struct timex *t)
{
    memset(t, 0, sizeof *t);
    t->status = shared && shared[1] ? 0 : STA_UNSYNC;
    return 0;
}

/* Who waits until a time of this clock does not mean the kernel's, by which it may be long past:
 * libraries would spin. A time far from this clock's is one of the monotonic clock. */
static struct timespec to_monotonic(const struct timespec *at)
{
    struct timespec wall, mono;
    clock_gettime(CLOCK_REALTIME, &wall);
    if (at->tv_sec - wall.tv_sec > 3600 || wall.tv_sec - at->tv_sec > 3600)
        return *at;
    clock_gettime(CLOCK_MONOTONIC, &mono);
    int64_t ns = (int64_t)mono.tv_nsec + at->tv_nsec - wall.tv_nsec;
    mono.tv_sec += at->tv_sec - wall.tv_sec + (ns < 0 ? -1 : ns / 1000000000);
    mono.tv_nsec = ns < 0 ? ns + 1000000000 : ns % 1000000000;
    return mono;
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                           const struct timespec *at)
{
    struct timespec until = to_monotonic(at);
    return pthread_cond_clockwait(condition, mutex, CLOCK_MONOTONIC, &until);
}

int sem_timedwait(sem_t *semaphore, const struct timespec *at)
{
    struct timespec until = to_monotonic(at);
    return sem_clockwait(semaphore, CLOCK_MONOTONIC, &until);
}
