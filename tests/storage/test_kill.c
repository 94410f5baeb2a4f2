/* test_kill.c - SIGKILL at random moments: what outbox_append reported is there (SPEC 5.3, 5.4).
 *
 * A child appends and tells each number through a pipe; the parent kills it after a random count of
 * them. Dropping, fetching and acknowledging go on in the child too, so that a kill meets every
 * kind of transaction. */
#include "storage/lib_consumer.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define KILLS 25

enum { APPENDED = 1, ACKNOWLEDGED = 2 };

struct note {
    uint64_t what, seq;
};

/* In the child; never returns. Appends only, or (busy) also drops, fetches and acknowledges. */
static void work(const char *path, int pipe_fd, int busy, uint64_t random)
{
    static char buffer[4 * (OUTBOX_BODY_BYTES + 1)];
    struct outbox_caps caps = {.max_rows = 30};
    struct outbox_item item = {.kind = OUTBOX_EVENT,
                               .channel = "m",
                               .body = "{\"n\":1}",
                               .body_bytes = 7},
                       items[4];
    struct store *s;
    char why[256];
    int64_t epoch;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (store_open(path, &s, NULL, why, sizeof why) != 0 ||
        outbox_start(s, 1700000000, &epoch) != 0)
        _exit(1);
    if (busy)
        outbox_limit(s, &caps);
    for (;;) {
        struct note note = {APPENDED, 0};
        item.kind = temp_random(&random) % 4 ? OUTBOX_EVENT : OUTBOX_ALERT;
        if (outbox_append(s, &item, &note.seq) != 0 ||
            write(pipe_fd, &note, sizeof note) != sizeof note)
            _exit(2);
        int priority = 1 + (int)(temp_random(&random) % 3);
        int n = busy ? outbox_fetch(s, priority, 0, items, 4, buffer, sizeof buffer) : 0;
        if (n < 0)
            _exit(3);
        if (n > 0 && priority < 3 && temp_random(&random) % 2) {
            note = (struct note){ACKNOWLEDGED,
                                 items[0].seq}; /* told before: the kill may come in between */
            if (write(pipe_fd, &note, sizeof note) != sizeof note ||
                outbox_ack(s, &note.seq, 1) != 0)
                _exit(4);
        }
    }
}

/* One child, killed after some notes. Counts what it told into c (acknowledged) and told
 * (appended). */
static void run_and_kill(const char *path, int busy, uint64_t *random, struct consumer *c,
                         unsigned char *told)
{
    int fds[2], status;
    struct note note;
    uint64_t limit = temp_random(random) % 40;

    assert_int_equal(pipe(fds), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(fds[0]);
        work(path, fds[1], busy, temp_random(random));
    }
    close(fds[1]);
    for (uint64_t i = 0; read(fds[0], &note, sizeof note) == sizeof note; i++) {
        if (note.what == APPENDED)
            told[note.seq]++;
        else
            c->received[note.seq] = 1;
        if (i == limit) { /* and a moment more, so that it is inside some call */
            usleep((useconds_t)(temp_random(random) % 3000));
            kill(child, SIGKILL);
        }
    }
    close(fds[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL); /* not an exit of its own */
}

static void kills(void **state, int busy)
{
    const char *path = temp_path(state, "nilmd.db");
    struct consumer *c = calloc(1, sizeof *c);
    unsigned char *told = calloc(1, CONSUMER_NUMBERS);
    struct store_report report;
    struct outbox_stats stats;
    uint64_t random = 20240607 + (uint64_t)busy, reported = 0;

    for (int i = 0; i < KILLS; i++)
        run_and_kill(path, busy, &random, c, told);
    struct store *s = temp_open(state, &report);
    assert_string_equal(report.set_aside, "");
    assert_int_equal(outbox_statistics(s, &stats), 0);
    for (uint64_t i = 0; i < CONSUMER_NUMBERS; i++) {
        assert_true(told[i] <= 1); /* no number twice */
        assert_true(told[i] == 0 || i < stats.next_seq);
        reported += told[i];
    }
    /* An append may be committed and not told: at most one for each kill. Gap items have numbers of
     * their own. */
    assert_true(busy || stats.next_seq - 1 <= reported + KILLS);
    assert_true(busy || stats.rows == stats.next_seq - 1);
    unsigned char *acknowledged = malloc(CONSUMER_NUMBERS);
    memcpy(acknowledged, c->received, CONSUMER_NUMBERS);
    memset(c->received, 0, CONSUMER_NUMBERS);
    consumer_drain(c, s);
    for (uint64_t i = 0; i < CONSUMER_NUMBERS; i++)
        c->received[i] |= acknowledged[i];
    consumer_check(c, stats.next_seq, 0);
    assert_true(reported > KILLS);
    print_message("%d kills, %llu appends reported, none missing; %llu dropped and declared\n",
                  KILLS, (unsigned long long)reported, (unsigned long long)c->lost);
    store_close(s);
    free(acknowledged);
    free(told);
    free(c);
}

static void appends_survive(void **state)
{
    kills(state, 0);
}

static void everything_survives(void **state)
{
    kills(state, 1);
}

/* SPEC 5.2: killed while the database is made, at any moment: the next open makes it, nothing is
 * set aside. */
static void making_survives(void **state)
{
    uint64_t random = 5;

    for (int i = 0; i < KILLS; i++) {
        struct store_report report;
        char name[32], why[256] = "";
        struct store *s = NULL;
        snprintf(name, sizeof name, "new-%d.db", i);
        const char *path = temp_path(state, name);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            store_open(path, &s, NULL, why, sizeof why);
            for (;;)
                pause();
        }
        usleep((useconds_t)(temp_random(&random) % 12000));
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, NULL, 0), child);
        assert_int_equal(store_open(path, &s, &report, why, sizeof why), 0);
        assert_string_equal(report.set_aside, "");
        assert_int_equal(store_set(s, "x", 1), 0);
        store_close(s);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)
    const struct CMUnitTest tests[] = {T(appends_survive), T(everything_survives),
                                       T(making_survives)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
