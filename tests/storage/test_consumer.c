/* test_consumer.c - a subscriber's file: numbers once, ranges, gaps, kills, damage. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "storage/consumer.h"
#include "storage/lib_temp.h"

static const char *path; /* of the test's file */

static int setup(void **state)
{
    const int rc = temp_setup(state);
    path = temp_path(state, "c.db");
    return rc;
}

static struct consumer *open_it(void)
{
    struct consumer *c;
    char why[512] = "";
    if (consumer_open(path, &c, why, sizeof why) != 0)
        fail_msg("%s", why);
    return c;
}

static int add(struct consumer *c, const char *device, int64_t epoch, uint64_t seq)
{
    char payload[64];
    snprintf(payload, sizeof payload, "{\"seq\":%llu}", (unsigned long long)seq);
    return consumer_add(c, &(struct consumer_item){.device = device,
                                                   .topic = "t",
                                                   .epoch = epoch,
                                                   .seq = seq,
                                                   .received_ms = 1000 + (int64_t)seq,
                                                   .payload = payload,
                                                   .payload_bytes = strlen(payload)});
}

struct flags {
    unsigned char got[256];
    int ranges;
    uint64_t last;
};

static int mark(void *context, int64_t epoch, uint64_t from, uint64_t to)
{
    struct flags *f = context;
    assert_int_equal(epoch, 7);
    assert_true(from <= to && to < sizeof f->got);
    assert_true(f->ranges == 0 || from > f->last + 1); /* apart, or they would be one */
    for (uint64_t n = from; n <= to; n++)
        f->got[n] = 1;
    f->last = to;
    f->ranges++;
    return 0;
}

/* Against an array of flags, with rollbacks between. */
static void numbers_come_once(void **state)
{
    (void)state;
    struct consumer *c = open_it();
    struct flags kept = {0}, now = {0}, seen = {0};
    unsigned seed = 5;
    for (int turn = 0; turn < 400; turn++) {
        assert_int_equal(consumer_begin(c), 0);
        now = kept;
        for (int i = 0; i < 5; i++) {
            const uint64_t n = 1 + (uint64_t)rand_r(&seed) % 250;
            assert_int_equal(add(c, "a", 7, n), !now.got[n]);
            now.got[n] = 1;
        }
        if (rand_r(&seed) % 3) {
            assert_int_equal(consumer_commit(c), 0);
            kept = now;
        } else {
            consumer_rollback(c);
        }
    }
    assert_int_equal(consumer_ranges(c, "a", mark, &seen), 0);
    assert_memory_equal(seen.got, kept.got, sizeof seen.got);
    char *payload;
    assert_int_equal(consumer_payload(c, "a", 7, 251, &payload), 0);
    assert_int_equal(consumer_begin(c), 0);
    assert_int_equal(add(c, "a", 7, 251), 1);
    assert_int_equal(add(c, "a", 8, 251), 1); /* another epoch, another device: others */
    assert_int_equal(add(c, "b", 7, 251), 1);
    assert_int_equal(add(c, "a", 7, 0), -EINVAL);
    assert_int_equal(add(c, "", 7, 1), -EINVAL);
    assert_int_equal(add(c, "a", -1, 1), -EINVAL);
    assert_int_equal(add(c, "a", 7, UINT64_MAX), -EINVAL);
    assert_int_equal(consumer_commit(c), 0);
    assert_int_equal(consumer_payload(c, "a", 7, 251, &payload), 1);
    assert_string_equal(payload, "{\"seq\":251}");
    free(payload);
    /* Contents go, numbers stay. */
    assert_int_equal(consumer_begin(c), 0);
    assert_int_equal(consumer_trim(c, 1000000), 0);
    assert_int_equal(consumer_payload(c, "a", 7, 251, &payload), 0);
    assert_int_equal(add(c, "a", 7, 251), 0);
    assert_int_equal(consumer_commit(c), 0);
    consumer_close(c);
}

static int sum_up(void *context, const struct consumer_device *d)
{
    struct consumer_device *out = context;
    *out = *d;
    return 0;
}

static int sum_gaps(void *context, int64_t epoch, uint64_t from, uint64_t to, uint64_t count)
{
    uint64_t *sum = context;
    *sum += (uint64_t)epoch + from * 1000 + to * 10 + count;
    return 0;
}

static void keeps_gaps_statuses_and_texts(void **state)
{
    (void)state;
    struct consumer *c = open_it(), *other;
    struct consumer_device d = {0};
    char text[32], why[512];
    uint64_t sum = 0;
    assert_int_equal(consumer_get(c, "x", text, sizeof text), -ENOENT);
    assert_int_equal(consumer_begin(c), 0);
    assert_int_equal(consumer_status(c, "a", 3, 11, 4), 0);
    assert_int_equal(add(c, "a", 3, 5), 1);
    assert_int_equal(add(c, "a", 3, 5), 0);
    assert_int_equal(consumer_conflict(c, "a"), 0);
    assert_int_equal(consumer_declare(c, "a", 3, 9, 6, 8, 3), 0);
    assert_int_equal(consumer_declare(c, "a", 3, 9, 6, 8, 3), 0); /* the same again */
    assert_int_equal(consumer_declare(c, "a", 3, 9, 8, 6, 1), -EINVAL);
    assert_int_equal(consumer_declare(c, "a", 3, 9, 6, 8, 4), -EINVAL);
    assert_int_equal(consumer_set(c, "x", "one"), 0);
    assert_int_equal(consumer_set(c, "x", "two"), 0);
    assert_int_equal(consumer_commit(c), 0);
    assert_int_equal(consumer_open(path, &other, why, sizeof why), -EBUSY);
    assert_non_null(strstr(why, "another consumer"));
    assert_int_equal(consumer_open_readonly(path, &other, why, sizeof why), 0);
    assert_int_equal(consumer_begin(other), -EROFS);
    assert_int_equal(consumer_get(other, "x", text, sizeof text), 0);
    assert_string_equal(text, "two");
    assert_int_equal(consumer_devices(other, sum_up, &d), 0);
    assert_int_equal(d.received, 1);
    assert_int_equal(d.duplicates, 1);
    assert_int_equal(d.conflicts, 1);
    assert_int_equal(d.status_next, 11);
    assert_int_equal(d.status_waiting, 4);
    assert_int_equal(d.first_ms, 1005);
    assert_int_equal(consumer_gaps(other, "a", sum_gaps, &sum), 0);
    assert_int_equal(sum, 3 + 6000 + 80 + 3);
    consumer_close(other);
    consumer_close(c);
}

/* A child commits numbers and tells each; what it told is there after SIGKILL, in order. */
static void survives_kills(void **state)
{
    (void)state;
    uint64_t told = 0;
    for (int round = 0; round < 12; round++) {
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        const pid_t child = fork();
        if (child == 0) {
            struct consumer *c;
            char why[512];
            if (consumer_open(path, &c, why, sizeof why) != 0)
                _exit(1);
            for (uint64_t n = told + 1;; n++)
                if (consumer_begin(c) != 0 || add(c, "k", 1, n) < 0 || consumer_commit(c) != 0 ||
                    write(fds[1], &n, sizeof n) != sizeof n)
                    _exit(2);
        }
        close(fds[1]);
        for (int i = 0; i < 1 + round * 7; i++)
            assert_int_equal(read(fds[0], &told, sizeof told), sizeof told);
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, NULL, 0), child);
        while (read(fds[0], &told, sizeof told) == sizeof told) {
        }
        close(fds[0]);
        struct consumer *c = open_it();
        assert_int_equal(consumer_begin(c), 0);
        for (uint64_t n = 1; n <= told; n++)
            assert_int_equal(add(c, "k", 1, n), 0);
        consumer_rollback(c);
        consumer_close(c);
    }
}

static void refuses_what_is_not_its_own(void **state)
{
    struct consumer *c;
    char why[512] = "";
    char bytes[8192];
    consumer_close(open_it());
    int fd = open(path, O_RDWR);
    memset(bytes, 'x', sizeof bytes);
    assert_int_equal(pwrite(fd, bytes, sizeof bytes, 0), sizeof bytes);
    close(fd);
    assert_int_equal(consumer_open(path, &c, why, sizeof why), -EBADMSG);
    assert_non_null(strstr(why, path));
    assert_int_equal(consumer_open_readonly(path, &c, why, sizeof why), -EBADMSG);
    assert_int_equal(consumer_open_readonly(temp_path(state, "none.db"), &c, why, sizeof why),
                     -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(numbers_come_once, setup, temp_teardown),
        cmocka_unit_test_setup_teardown(keeps_gaps_statuses_and_texts, setup, temp_teardown),
        cmocka_unit_test_setup_teardown(survives_kills, setup, temp_teardown),
        cmocka_unit_test_setup_teardown(refuses_what_is_not_its_own, setup, temp_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
