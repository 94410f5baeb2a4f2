/* test_control.c - the control socket with well-behaved, slow and hostile clients. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/command.h"
#include "agent/control.h"
#include "agent/lib_folder.h"

static struct control *control;
static char path[256], why[512];
static size_t reply_bytes = 0; /* 0: the line itself, else so many */

static char *answer(void *context, const char *line, size_t bytes)
{
    (void)context;
    char *text = calloc(1, (reply_bytes > bytes ? reply_bytes : bytes) + 1);
    memset(text, 'r', reply_bytes);
    memcpy(text, line, bytes);
    return text;
}

/* Turns of the loop until nothing happens any more. */
static void turn(int64_t mono)
{
    struct pollfd fds[CONTROL_FDS];
    int busy = 1;
    while (busy) {
        const int n = control_fds(control, fds);
        assert_true(n <= CONTROL_FDS);
        busy = poll(fds, (nfds_t)n, 0) > 0;
        control_handle(control, fds, n, mono, answer, NULL);
    }
}

static int client(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static void hear(int fd, const char *text)
{
    char got[8192];
    const ssize_t n = recv(fd, got, sizeof got - 1, 0);
    got[n > 0 ? n : 0] = '\0';
    assert_string_equal(got, text);
}

static int is_closed(int fd)
{
    char byte;
    ssize_t n;
    while ((n = recv(fd, &byte, 1, 0)) == 1) {
    }
    return n == 0 || (n < 0 && errno != EAGAIN);
}

static int begin(void **state)
{
    if (folder_setup(state) != 0)
        return -1;
    reply_bytes = 0;
    snprintf(path, sizeof path, "%s", folder_path(state, "s.sock"));
    return control_open(path, &control, why, sizeof why);
}

static int end(void **state)
{
    control_close(control);
    if (access(path, F_OK) == 0)
        return -1; /* left behind */
    return folder_teardown(state);
}

static void lines_are_answered_in_order(void **state)
{
    (void)state;
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    const int a = client(), b = client();
    turn(0);
    say(a, "one\ntwo\r\n\nthr");
    say(b, "other\n");
    turn(0);
    hear(a, "one\ntwo\n");
    hear(b, "other\n");
    say(a, "ee\n");
    turn(0);
    hear(a, "three\n");
    say(a, "last\n");
    shutdown(a, SHUT_WR); /* as "echo last | nc -U" does */
    turn(0);
    hear(a, "last\n");
    assert_true(is_closed(a));
    close(a);
    close(b);
    turn(0);
}

static void long_lines_end_the_connection(void **state)
{
    (void)state;
    char line[COMMAND_MAX_BYTES + 3], got[512] = "";
    memset(line, 'x', sizeof line);
    line[COMMAND_MAX_BYTES] = '\n';
    line[COMMAND_MAX_BYTES + 1] = '\0';
    int a = client();
    turn(0);
    say(a, line);
    turn(0);
    line[COMMAND_MAX_BYTES + 1] = '\0';
    hear(a, line); /* the longest allowed */
    line[COMMAND_MAX_BYTES] = 'x';
    line[COMMAND_MAX_BYTES + 2] = '\0';
    line[COMMAND_MAX_BYTES + 1] = 'x';
    say(a, line);
    turn(0);
    assert_true(recv(a, got, sizeof got - 1, 0) > 0);
    assert_non_null(strstr(got, "larger than 4096 bytes"));
    assert_true(is_closed(a));
    close(a);
    a = client();
    turn(0);
    say(a, "still here\n");
    turn(0);
    hear(a, "still here\n");
    close(a);
}

static void a_client_that_does_not_read_blocks_nobody(void **state)
{
    (void)state;
    reply_bytes = 4 << 20;
    const int slow = client(), other = client();
    turn(0);
    say(slow, "x\ny\n");
    turn(0);
    reply_bytes = 0;
    say(other, "z\n");
    turn(0);
    hear(other, "z\n");
    size_t got = 0;
    static char buffer[65536];
    for (int i = 0; i < 10000 && got < (4u << 20) + 1; i++) {
        const ssize_t n = recv(slow, buffer, sizeof buffer, 0);
        got += n > 0 ? (size_t)n : 0;
        if (n < 0)
            turn(0);
    }
    turn(0);
    hear(slow, got > (4u << 20) + 1 ? "" : "y\n");
    close(slow);
    close(other);
    turn(0);
}

static void idle_and_surplus_clients_are_dropped(void **state)
{
    (void)state;
    int fds[CONTROL_CLIENTS + 1];
    for (int i = 0; i <= CONTROL_CLIENTS; i++) {
        fds[i] = client();
        turn(0);
    }
    assert_true(is_closed(fds[CONTROL_CLIENTS]));
    say(fds[0], "a\n");
    turn(50000);
    hear(fds[0], "a\n");
    turn(70000);
    assert_false(is_closed(fds[0]));
    for (int i = 1; i < CONTROL_CLIENTS; i++)
        assert_true(is_closed(fds[i]));
    for (int i = 0; i <= CONTROL_CLIENTS; i++)
        close(fds[i]);
    turn(0);
}

static void a_stale_socket_is_replaced(void **state)
{
    struct control *second;
    control_close(control);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    close(fd); /* the file stays, as after a kill */
    assert_int_equal(control_open(path, &control, why, sizeof why), 0);
    char longer[256];
    snprintf(longer, sizeof longer, "%s/%0150d", (const char *)*state, 1);
    assert_int_equal(control_open(longer, &second, why, sizeof why), -ENAMETOOLONG);
    assert_non_null(strstr(why, "expected a path of at most 107 characters"));
    assert_int_equal(control_open(folder_path(state, "no/s.sock"), &second, why, sizeof why),
                     -ENOENT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(lines_are_answered_in_order),
        TEST(long_lines_end_the_connection),
        TEST(a_client_that_does_not_read_blocks_nobody),
        TEST(idle_and_surplus_clients_are_dropped),
        TEST(a_stale_socket_is_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
