/* test_io.c - the i-th send, receive, socket and connection fails, for i = 1, 2, ... until none
 * does: no crash, no message without its result, nothing left behind. The functions are this
 * program's own: the transport, mbedTLS's callbacks and Paho all come here. Leaks of memory are
 * AddressSanitizer's business. */
#undef _FORTIFY_SOURCE /* its recv is an inline function that cannot be replaced */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "transport/lib_link.h"

#define MESSAGES 4
#define ROUNDS_MOST 400 /* more calls than that of a kind are not in one session */

enum call { SEND, RECV, SOCKET, PAIR, ACCEPTED, CALLS };
static const char *const names[CALLS] = {"send", "recv", "socket", "socketpair",
                                         "the end of connect"};
static atomic_int armed[CALLS], injected;

/* 1: this call is to fail. */
static int fails(enum call which)
{
    int left = atomic_load(&armed[which]);
    while (left > 0)
        if (atomic_compare_exchange_weak(&armed[which], &left, left - 1)) {
            if (left != 1)
                return 0;
            atomic_fetch_add(&injected, 1);
            return 1;
        }
    return 0;
}

ssize_t send(int fd, const void *data, size_t size, int flags)
{
    if (fails(SEND)) {
        errno = ECONNRESET;
        return -1;
    }
    return syscall(SYS_sendto, fd, data, size, flags, NULL, 0);
}

ssize_t recv(int fd, void *data, size_t size, int flags)
{
    if (fails(RECV)) {
        errno = ECONNRESET;
        return -1;
    }
    return syscall(SYS_recvfrom, fd, data, size, flags, NULL, NULL);
}

int socket(int domain, int type, int protocol)
{
    if (fails(SOCKET)) {
        errno = EMFILE;
        return -1;
    }
    return (int)syscall(SYS_socket, domain, type, protocol);
}

int socketpair(int domain, int type, int protocol, int pair[2])
{
    if (fails(PAIR)) {
        errno = ENFILE;
        return -1;
    }
    return (int)syscall(SYS_socketpair, domain, type, protocol, pair);
}

/* How a connect in progress is asked for its end. */
int getsockopt(int fd, int level, int name, void *restrict value, socklen_t *restrict size)
{
    if (level == SOL_SOCKET && name == SO_ERROR && fails(ACCEPTED)) {
        *(int *)value = ECONNREFUSED;
        return 0;
    }
    return (int)syscall(SYS_getsockopt, fd, level, name, value, size);
}

static struct broker broker;

static int setup(void **state)
{
    (void)state;
    if (broker_prepare(&broker) != 0)
        return -1;
    return broker_start(&broker, "server", "");
}

static int teardown(void **state)
{
    (void)state;
    broker_remove(&broker);
    return 0;
}

static int open_files(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

/* Connects and delivers, whatever is in the way. 1 when a failure was injected. */
static int round_trip(enum call which, int i)
{
    struct link_config c = link_defaults(&broker);
    struct link_event e;
    int results[MESSAGES] = {0}, acked = 0, flying[MESSAGES] = {0};
    const time_t begin = time(NULL);
    atomic_store(&injected, 0);
    atomic_store(&armed[which], i);
    struct link *l = link_open(&c);
    while (acked < MESSAGES) {
        if (time(NULL) - begin > PATIENCE_MS / 1000)
            fail_msg("%s number %d failed: the messages do not arrive", names[which], i);
        for (int m = 0; m < MESSAGES; m++)
            if (!results[m] && !flying[m] && link_room(l) > 0)
                flying[m] = link_publish(l, "t/io", "x", 1, 1, 0, NULL, 0, (uint64_t)m) == 0;
        const int type = link_next(l, &e, 10);
        if (type != LINK_ACKED && type != LINK_FAILED)
            continue;
        assert_true(e.token < MESSAGES && flying[e.token]); /* exactly one result each */
        flying[e.token] = 0;
        results[e.token] = type == LINK_ACKED;
        acked += type == LINK_ACKED;
        assert_true(type == LINK_ACKED || !e.permanent);
    }
    link_destroy(l, 100);
    atomic_store(&armed[which], 0);
    return atomic_load(&injected);
}

static void fail_each(enum call which)
{
    int i = 1;
    round_trip(which, 0); /* what is made once for the process */
    const int before = open_files();
    while (round_trip(which, i) && i < ROUNDS_MOST)
        i++;
    assert_true(i > 1 && i < ROUNDS_MOST);
    assert_int_equal(open_files(), before);
    print_message("%s: each of %d calls failed once\n", names[which], i - 1);
}

static void sends_fail(void **state)
{
    (void)state;
    fail_each(SEND);
}

static void receives_fail(void **state)
{
    (void)state;
    fail_each(RECV);
}

static void sockets_fail(void **state)
{
    (void)state;
    fail_each(SOCKET);
    fail_each(PAIR);
}

static void connects_fail(void **state)
{
    (void)state;
    fail_each(ACCEPTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sends_fail),
        cmocka_unit_test(receives_fail),
        cmocka_unit_test(sockets_fail),
        cmocka_unit_test(connects_fail),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
