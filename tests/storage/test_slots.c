/* test_slots.c - two model slots (SPEC 5.11). */
#include "storage/lib_temp.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/slots.h"

static char why[256];

static struct slots *opened(void **state, int expect_repaired)
{
    struct slots *s = NULL;
    int repaired = -1;
    int rc = slots_open(temp_path(state, "models"), &s, &repaired, why, sizeof why);

    if (rc != 0)
        fail_msg("slots_open: %d %s", rc, why);
    assert_int_equal(repaired, expect_repaired);
    return s;
}

static struct slots_info info_of(struct slots *s)
{
    struct slots_info info;

    assert_int_equal(slots_get(s, &info), 0);
    return info;
}

static void put(struct slots *s, const char *content, uint32_t version)
{
    assert_int_equal(slots_stage(s, content, strlen(content), why, sizeof why), 0);
    assert_int_equal(slots_activate(s, version, why, sizeof why), 0);
}

static void check_content(struct slots *s, char slot, const char *content)
{
    void *data = NULL;
    size_t size = 0;

    assert_int_equal(slots_read(s, slot, 1000, &data, &size, why, sizeof why), 0);
    assert_int_equal(size, strlen(content));
    assert_memory_equal(data, content, size);
    free(data);
}

static void from_none_to_two_and_back(void **state)
{
    struct slots *s = opened(state, 0);

    assert_int_equal(info_of(s).active, 0);
    assert_string_equal(info_of(s).path, "");
    assert_int_equal(slots_rollback(s, why, sizeof why), -ENOENT);
    assert_int_equal(slots_activate(s, 1, why, sizeof why), -ENOENT);
    assert_int_equal(slots_stage(s, "", 0, why, sizeof why), -EINVAL);
    put(s, "one", 5);
    assert_int_equal(info_of(s).active, 'a');
    assert_string_equal(info_of(s).path, temp_path(state, "models/a.bundle"));
    assert_int_equal(slots_rollback(s, why, sizeof why), -ENOENT); /* nothing before it */
    put(s, "two", 7);
    slots_close(s);

    s = opened(state, 0);
    struct slots_info info = info_of(s);
    assert_int_equal(info.active, 'b');
    assert_int_equal(info.version, 7);
    assert_int_equal(info.highest, 7);
    assert_int_equal(info.previous, 'a');
    assert_int_equal(info.previous_version, 5);
    check_content(s, 'a', "one");
    check_content(s, 'b', "two");
    assert_int_equal(slots_rollback(s, why, sizeof why), 0);
    slots_close(s);

    s = opened(state, 0);
    info = info_of(s);
    assert_int_equal(info.active, 'a');
    assert_int_equal(info.version, 5);
    assert_int_equal(info.highest, 7);
    assert_int_equal(info.previous, 0);
    put(s, "three", 6); /* a signed order to go lower: highest stays */
    assert_int_equal(info_of(s).active, 'b');
    assert_int_equal(info_of(s).highest, 7);
    slots_close(s);
}

/* Staged survives a restart; and once the previous bundle is overwritten it is no way back. */
static void staging(void **state)
{
    struct slots *s = opened(state, 0);

    put(s, "one", 1);
    put(s, "two", 2);
    assert_int_equal(slots_stage(s, "three", 5, why, sizeof why), 0);
    slots_close(s);
    s = opened(state, 0);
    assert_int_equal(info_of(s).staged, 'a');
    assert_int_equal(info_of(s).active, 'b');
    assert_int_equal(info_of(s).previous, 0);
    assert_int_equal(slots_rollback(s, why, sizeof why), -ENOENT);
    assert_int_equal(slots_stage(s, "four", 4, why, sizeof why), 0); /* instead of three */
    assert_int_equal(slots_activate(s, 4, why, sizeof why), 0);
    check_content(s, 'a', "four");
    check_content(s, 'b', "two");
    assert_int_equal(slots_activate(s, 5, why, sizeof why), -ENOENT);
    slots_close(s);
}

static void reading_checks_the_file(void **state)
{
    struct slots *s = opened(state, 0);
    void *data = NULL;
    size_t size;

    put(s, "one", 1);
    assert_int_equal(slots_read(s, 'c', 100, &data, &size, why, sizeof why), -EINVAL);
    assert_int_equal(slots_read(s, 'b', 100, &data, &size, why, sizeof why), -ENOENT);
    assert_non_null(strstr(why, "b.bundle"));
    assert_int_equal(slots_read(s, 'a', 2, &data, &size, why, sizeof why), -EFBIG);
    temp_write(temp_path(state, "models/a.bundle"), "", 0);
    assert_int_equal(slots_read(s, 'a', 100, &data, &size, why, sizeof why), -EBADMSG);
    assert_int_equal(mkfifo(temp_path(state, "models/b.bundle"), 0600), 0);
    assert_int_equal(slots_read(s, 'b', 100, &data, &size, why, sizeof why), -EBADMSG);
    assert_null(data);
    slots_close(s);
}

/* Bundles that are missing, truncated or left over do not break the state. */
static void bundles_may_be_gone(void **state)
{
    temp_write(temp_path(state, "x"), "", 0);
    assert_int_equal(mkdir(temp_path(state, "models"), 0700), 0);
    temp_write(temp_path(state, "models/b.bundle"), "orphan", 6);
    temp_write(temp_path(state, "models/a.bundle.tmp"), "half", 4);
    temp_write(temp_path(state, "models/state.tmp"), "half", 4);
    struct slots *s = opened(state, 0);
    assert_int_equal(info_of(s).active, 0);
    put(s, "one", 1);
    put(s, "two", 2);
    assert_int_equal(unlink(temp_path(state, "models/a.bundle")), 0);
    assert_int_equal(slots_rollback(s, why, sizeof why), -ENOENT);
    assert_int_equal(info_of(s).active, 'b');
    assert_int_equal(temp_count(state, ".tmp"), 0); /* overwritten, and renamed */
    assert_int_equal(slots_stage(s, "three", 5, why, sizeof why), 0);
    assert_int_equal(unlink(temp_path(state, "models/a.bundle")), 0);
    assert_int_equal(slots_activate(s, 3, why, sizeof why), -ENOENT);
    assert_int_equal(info_of(s).version, 2);
    slots_close(s);
}

static void a_damaged_state_is_set_aside(void **state)
{
    size_t size;
    int aside = 0;

    struct slots *s = opened(state, 0);
    put(s, "one", 4000000000u);
    put(s, "two", 2);
    slots_close(s);
    const char *path = temp_path(state, "models/state");
    char *good = temp_read(path, &size), keep[4200];
    strcpy(keep, path);
    for (size_t i = 0; i < 2 * size; i++) { /* every bit pattern once, every length */
        char bad[600];
        memcpy(bad, good, size);
        if (i < size)
            bad[i] = (char)(bad[i] ^ (1 << i % 8));
        temp_write(keep, bad, i < size ? size : i - size);
        s = opened(state, 1);
        assert_int_equal(info_of(s).active, 0);
        assert_non_null(strstr(why, "state"));
        slots_close(s);
        s = opened(state, 0); /* rebuilt */
        slots_close(s);
        if (i % 60 == 0) { /* names are by second, at most 99 of them */
            char command[4300];
            aside++;
            snprintf(command, sizeof command, "rm -f %s.damaged-*", keep);
            assert_int_equal(system(command), 0);
        }
    }
    assert_true(aside > 3);
    temp_write(keep, good, size);
    s = opened(state, 0);
    assert_int_equal(info_of(s).active, 'b');
    assert_int_equal(info_of(s).highest, 4000000000u);
    slots_close(s);
    unlink(keep);
    assert_int_equal(mkdir(keep, 0700), 0); /* a folder in its place */
    s = opened(state, 1);
    slots_close(s);
    free(good);
}

static void folders_that_cannot_be(void **state)
{
    struct slots *s = NULL;
    char long_name[600];
    int repaired;

    memset(long_name, 'x', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    assert_int_equal(slots_open(long_name, &s, &repaired, why, sizeof why), -ENAMETOOLONG);
    assert_int_equal(slots_open("", &s, &repaired, why, sizeof why), -ENAMETOOLONG);
    assert_int_equal(slots_open(temp_path(state, "a/b"), &s, &repaired, why, sizeof why), -ENOENT);
    temp_write(temp_path(state, "file"), "x", 1);
    assert_int_equal(slots_open(temp_path(state, "file"), &s, &repaired, why, sizeof why),
                     -ENOTDIR);
    assert_non_null(strstr(why, "file"));
    assert_null(s);
    slots_close(NULL);
}

/* nilmctl beside the agent: changes nothing, whatever it finds. */
static void reading_only(void **state)
{
    struct slots *r = NULL;
    char dir[4200];
    size_t size;

    strcpy(dir, temp_path(state, "models"));
    assert_int_equal(slots_open_readonly(dir, &r, why, sizeof why), -ENOENT);
    struct slots *s = opened(state, 0);
    put(s, "one", 3);
    temp_write(temp_path(state, "models/state.tmp"), "being written", 13);
    assert_int_equal(slots_open_readonly(dir, &r, why, sizeof why), 0);
    assert_int_equal(info_of(r).version, 3);
    check_content(r, 'a', "one");
    assert_int_equal(slots_stage(r, "two", 3, why, sizeof why), -EROFS);
    assert_int_equal(slots_activate(r, 4, why, sizeof why), -ENOENT);
    slots_close(r);
    free(temp_read(temp_path(state, "models/state.tmp"), &size));
    assert_int_equal(size, 13);
    slots_close(s);
    temp_write(temp_path(state, "models/state"), "nilmd slots 1\n", 14);
    assert_int_equal(slots_open_readonly(dir, &r, why, sizeof why), -EBADMSG);
    assert_null(r);
    free(temp_read(temp_path(state, "models/state"), &size));
    assert_int_equal(size, 14);
}

/* SIGKILL at random moments: the state names a whole bundle of the version it says. */
static void kills_leave_old_or_new(void **state)
{
    const char *dir = temp_path(state, "models");
    uint64_t random = 8;
    uint32_t told = 0;

    for (int i = 0; i < 25; i++) {
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            char body[9000];
            struct slots *s;
            int repaired;
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (slots_open(dir, &s, &repaired, why, sizeof why) != 0 || repaired)
                _exit(1);
            for (uint32_t version = info_of(s).highest + 1;; version++) {
                memset(body, (int)('A' + version % 26), sizeof body);
                if (slots_stage(s, body, sizeof body, why, sizeof why) != 0 ||
                    slots_activate(s, version, why, sizeof why) != 0)
                    _exit(2);
                if (write(fds[1], &version, sizeof version) != sizeof version)
                    _exit(4);
                if (version % 3 == 0 && slots_rollback(s, why, sizeof why) != 0 && version > 1)
                    _exit(3);
            }
        }
        int status;
        close(fds[1]);
        for (uint64_t k = temp_random(&random) % 3 + 1; k > 0; k--)
            assert_int_equal(read(fds[0], &told, sizeof told), sizeof told);
        usleep((useconds_t)(temp_random(&random) % 20000));
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        close(fds[0]);
        struct slots *s = opened(state, 0);
        struct slots_info info = info_of(s);
        assert_true(info.highest >= told); /* what was reported is there */
        const char slots[] = {info.active, info.previous};
        const uint32_t versions[] = {info.version, info.previous_version};
        for (int k = 0; k < 2; k++) {
            void *data = NULL;
            size_t size = 0;
            if (slots[k] == 0)
                continue;
            assert_int_equal(slots_read(s, slots[k], 9000, &data, &size, why, sizeof why), 0);
            assert_int_equal(size, 9000);
            assert_int_equal(((char *)data)[0], 'A' + versions[k] % 26);
            assert_int_equal(((char *)data)[8999], 'A' + versions[k] % 26);
            free(data);
        }
        slots_close(s);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)
    const struct CMUnitTest tests[] = {
        T(from_none_to_two_and_back),
        T(staging),
        T(reading_checks_the_file),
        T(bundles_may_be_gone),
        T(a_damaged_state_is_set_aside),
        T(folders_that_cannot_be),
        T(reading_only),
        T(kills_leave_old_or_new),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
