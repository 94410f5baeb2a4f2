/* test_source.c - replayed files, standard input and simulation as sources (SPEC 6). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/source.h"

#define NOW 1800000000000LL

static char dir[64];

static void put(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/nilm-source-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    static const char *names[] = {
        "a.csv",     "b.csv",    "c.txt", "dev_B_2012.01.02.csv", "dev_A_2012.01.03.csv",
        "truth.csv", "empty.csv"};
    char path[256];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        unlink(path);
    }
    return rmdir(dir);
}

static struct source *make(struct source_config c)
{
    struct source *s = NULL;
    char why[512] = "";
    int rc = source_create(&c, &s, why, sizeof(why));
    if (rc)
        print_message("%s\n", why);
    assert_int_equal(rc, 0);
    return s;
}

/* Everything that comes at full speed. Returns the number of readings; *bad counts unusable input.
 */
static int drain(struct source *s, struct trace_reading *out, int room, int *bad)
{
    int n = 0, rc;
    while ((rc = source_next(s, 0, NOW, &out[n])) != -ENODATA) {
        if (rc == -EBADMSG) {
            assert_true(source_error(s)[0]);
            ++*bad;
            continue;
        }
        assert_int_equal(rc, 1);
        assert_true(n + 1 < room);
        n++;
    }
    assert_int_equal(source_next(s, 0, NOW, &out[n]), -ENODATA);
    assert_int_equal(source_due(s), INT64_MAX);
    return n;
}

static void replays_in_time_order(void **state)
{
    (void)state;
    struct trace_reading r[64];
    char files[256];
    int bad = 0;
    put("dev_B_2012.01.02.csv", "02/01/2012 00:00:00;5;5\n02/01/2012 00:00:03;6;5\n");
    put("dev_A_2012.01.03.csv",
        "03/01/2012 00:00:00;7;5\nrubbish\n03/01/2012 00:00:00;8;5\n02/01/2012 23:00:00;9;5\n");
    struct source *s = make((struct source_config){.type = SOURCE_REPLAY, .files = dir});
    assert_int_equal(source_fd(s), -1);
    assert_int_equal(source_due(s), 0);
    assert_int_equal(drain(s, r, 64, &bad), 5);
    assert_int_equal(bad, 1);
    for (int i = 0; i < 5; i++)
        assert_true(r[i].watts == 5 + i);
    assert_int_equal(r[2].t_ms, r[3].t_ms); /* repeated and backward times are passed on */
    assert_int_equal(r[0].t_ms, 1325462400000LL);
    source_destroy(s);
    /* patterns, several, in name order; a file that begins too early is remarked upon, not left out
     */
    put("a.csv", "timestamp,watts\n1000000000,1\n1000000010,2\n");
    put("b.csv", "timestamp,watts,other\n1000000005,3,30\n1000000020,4,40\n");
    snprintf(files, sizeof(files), "%s/b.csv %s/[a].csv", dir, dir);
    s = make((struct source_config){.type = SOURCE_REPLAY, .files = files});
    bad = 0;
    assert_int_equal(drain(s, r, 64, &bad), 4);
    assert_int_equal(bad, 1);
    assert_true(r[0].watts == 1 && r[2].watts == 3);
    source_destroy(s);
    snprintf(files, sizeof(files), "%s/b.csv", dir);
    s = make((struct source_config){.type = SOURCE_REPLAY, .files = files, .column = "other"});
    assert_int_equal(drain(s, r, 64, &bad), 2);
    assert_true(r[1].watts == 40);
    source_destroy(s);
}

static void replay_is_paced(void **state)
{
    (void)state;
    struct trace_reading r;
    char files[256];
    put("a.csv", "timestamp,watts\n1000000000,1\n1000000010,2\n1000000020,3\n1000000030,4\n");
    snprintf(files, sizeof(files), "%s/a.csv", dir);
    struct source *s =
        make((struct source_config){.type = SOURCE_REPLAY, .files = files, .speed = 10});
    assert_int_equal(source_next(s, 5000, NOW, &r), 1);
    assert_int_equal(source_next(s, 5000, NOW, &r), 0);
    assert_int_equal(source_due(s), 6000);
    assert_int_equal(source_next(s, 5999, NOW, &r), 0);
    assert_int_equal(source_next(s, 6000, NOW, &r), 1);
    assert_int_equal(source_next(s, 9000, NOW, &r), 1); /* late: caught up */
    assert_int_equal(source_next(s, 9000, NOW, &r), 1);
    assert_int_equal(source_next(s, 9000, NOW, &r), -ENODATA);
    source_destroy(s);
    /* what was consumed before comes without pacing; the rest is paced from there */
    s = make((struct source_config){.type = SOURCE_REPLAY, .files = files, .speed = 1});
    source_resume(s, 1000000010000LL);
    assert_int_equal(source_next(s, 100, NOW, &r), 1);
    assert_int_equal(source_next(s, 100, NOW, &r), 1);
    assert_int_equal(source_next(s, 100, NOW, &r), 1);
    assert_int_equal(r.t_ms, 1000000020000LL);
    assert_int_equal(source_next(s, 100, NOW, &r), 0);
    assert_int_equal(source_due(s), 10100);
    source_destroy(s);
}

static void replay_loops_and_rebases(void **state)
{
    (void)state;
    struct trace_reading r;
    char files[256];
    put("a.csv", "timestamp,watts\n1000000000,1\n1000090010,2\n");
    snprintf(files, sizeof(files), "%s/a.csv", dir);
    struct source *s =
        make((struct source_config){.type = SOURCE_REPLAY, .files = files, .loop = 1});
    int64_t last = 0;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(source_next(s, 0, NOW, &r), 1);
        assert_true(r.t_ms > last);
        if (i % 2 == 0) /* the time of day stays */
            assert_int_equal((r.t_ms - 1000000000000LL) % 86400000, 0);
        last = r.t_ms;
    }
    source_destroy(s);
    s = make((struct source_config){.type = SOURCE_REPLAY, .files = files, .rebase = 1});
    assert_int_equal(source_next(s, 0, NOW, &r), 1);
    assert_int_equal(r.t_ms, NOW);
    assert_int_equal(source_next(s, 0, NOW + 5, &r), 1);
    assert_int_equal(r.t_ms, NOW + 90010000);
    source_destroy(s);
    s = make((struct source_config){.type = SOURCE_REPLAY, .files = files, .rebase = 1});
    source_resume(s, NOW + 90010000);
    assert_int_equal(source_next(s, 0, NOW + 60, &r), 1);
    assert_int_equal(r.t_ms, NOW + 90011000); /* goes on after what was consumed */
    source_destroy(s);
    /* nothing usable in it: the loop ends */
    put("empty.csv", "");
    snprintf(files, sizeof(files), "%s/empty.csv", dir);
    s = make((struct source_config){.type = SOURCE_REPLAY, .files = files, .loop = 1});
    int rc = 0;
    for (int i = 0; i < 10 && rc != -ENODATA; i++)
        rc = source_next(s, 0, NOW, &r);
    assert_int_equal(rc, -ENODATA);
    source_destroy(s);
}

static void says_what_is_wrong(void **state)
{
    (void)state;
    struct source *s = NULL;
    char why[512] = "";
    struct source_config c = {.type = SOURCE_REPLAY, .files = "/nonexistent/x.csv"};
    assert_int_equal(source_create(&c, &s, why, sizeof(why)), -ENOENT);
    assert_non_null(strstr(why, "/nonexistent/x.csv"));
    c.files = "  ";
    assert_int_equal(source_create(&c, &s, why, sizeof(why)), -EINVAL);
    c = (struct source_config){.type = SOURCE_SIM, .appliance = "toothbrush"};
    assert_int_equal(source_create(&c, &s, why, sizeof(why)), -ENOENT);
    assert_non_null(strstr(why, "toothbrush"));
    assert_non_null(strstr(why, "WaterKettle"));
    c = (struct source_config){
        .type = SOURCE_SIM, .appliance = "kettle", .truth = "/nonexistent/t"};
    assert_int_equal(source_create(&c, &s, why, sizeof(why)), -ENOENT);
    assert_non_null(strstr(why, "/nonexistent/t"));
    c = (struct source_config){.type = SOURCE_STDIN, .speed = -1};
    assert_int_equal(source_create(&c, &s, why, sizeof(why)), -EINVAL);
    assert_null(s);
}

static void reads_lines(void **state)
{
    (void)state;
    int pipes[2], old = dup(STDIN_FILENO);
    struct trace_reading r;
    assert_int_equal(pipe(pipes), 0);
    assert_true(old >= 0 && dup2(pipes[0], STDIN_FILENO) == STDIN_FILENO);
    close(pipes[0]);
    struct source *s = make((struct source_config){.type = SOURCE_STDIN, .rebase = 1, .speed = 1});
    assert_int_equal(source_fd(s), STDIN_FILENO);
    assert_int_equal(source_due(s), INT64_MAX);
    assert_int_equal(source_next(s, 0, NOW, &r), 0); /* nothing there: does not block */
#define SAY(text) assert_int_equal(write(pipes[1], text, sizeof(text) - 1), sizeof(text) - 1)
    SAY("12");
    assert_int_equal(source_next(s, 0, NOW, &r), 0);
    SAY("3.5\n\n  \r\n1700000000,60\r\nkaputt\n7\n");
    assert_int_equal(source_next(s, 0, NOW, &r), 1);
    assert_true(r.watts == 123.5f && r.t_ms == NOW);
    assert_int_equal(source_due(s), 0); /* more is in the buffer */
    assert_int_equal(source_next(s, 0, NOW + 9, &r), 1);
    assert_true(r.watts == 60 && r.t_ms == 1700000000000LL);
    assert_int_equal(source_next(s, 0, NOW, &r), -EBADMSG);
    assert_non_null(strstr(source_error(s), "line 5"));
    assert_int_equal(source_next(s, 0, NOW, &r), 1);
    assert_int_equal(source_next(s, 0, NOW, &r), 0);
    SAY("1\0002\nnan\n");
    assert_int_equal(source_next(s, 0, NOW, &r), -EBADMSG);
    assert_non_null(strstr(source_error(s), "line 7"));
    assert_int_equal(source_next(s, 0, NOW, &r), -EBADMSG);
    char big[3000];
    memset(big, '1', sizeof(big));
    int rc = 0, bad = 0;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(write(pipes[1], big, sizeof(big)), sizeof(big));
        rc = source_next(s, 0, NOW, &r);
        bad += rc == -EBADMSG;
    }
    assert_int_equal(bad, 1);
    SAY("\n8\n9");
    assert_int_equal(source_next(s, 0, NOW, &r), 1);
    assert_true(r.watts == 8);
    assert_int_equal(source_next(s, 0, NOW, &r), 0);
    close(pipes[1]);
    assert_int_equal(source_next(s, 0, NOW, &r), 1); /* a last line without its end */
    assert_true(r.watts == 9);
    assert_int_equal(source_next(s, 0, NOW, &r), -ENODATA);
    assert_int_equal(source_fd(s), -1);
    source_destroy(s);
    dup2(old, STDIN_FILENO);
    close(old);
}

static int count_truth(int64_t *last)
{
    char path[256], line[256];
    int n = 0;
    snprintf(path, sizeof(path), "%s/truth.csv", dir);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof(line), f));
    assert_string_equal(line, "appliance,start_ms,end_ms,energy_wh\n");
    while (fgets(line, sizeof(line), f)) {
        long long start, end;
        double wh;
        assert_int_equal(sscanf(line, "WaterKettle,%lld,%lld,%lf", &start, &end, &wh), 3);
        assert_true(start < end && start > *last && wh > 10);
        *last = end;
        n++;
    }
    fclose(f);
    return n;
}

static void simulates_with_truth(void **state)
{
    (void)state;
    struct trace_reading r;
    char truth[256];
    snprintf(truth, sizeof(truth), "%s/truth.csv", dir);
    struct source_config c = {.type = SOURCE_SIM,
                              .appliance = "kettle",
                              .truth = truth,
                              .seed = 4,
                              .start_ms = 1700000000000LL,
                              .days = 4};
    int64_t last = 0, first = 0, at = 0;
    struct source *s = make(c);
    int rc, n = 0;
    while ((rc = source_next(s, 0, NOW, &r)) == 1) {
        if (!n++)
            first = r.t_ms;
        at = r.t_ms;
    }
    assert_int_equal(rc, -ENODATA);
    assert_in_range(first, c.start_ms, c.start_ms + 10000);
    assert_in_range(at, c.start_ms + 4 * 86400000LL - 10000, c.start_ms + 4 * 86400000LL);
    source_destroy(s);
    int runs = count_truth(&last);
    assert_true(runs >= 8);
    /* the same again, and a longer one: no run is written twice */
    c.days = 6;
    s = make(c);
    source_resume(s, at);
    while (source_next(s, 0, NOW, &r) == 1)
        ;
    source_destroy(s);
    last = 0;
    assert_true(count_truth(&last) > runs);
    /* without a start: now; after an earlier life: from before its end */
    c = (struct source_config){.type = SOURCE_SIM, .appliance = "fridge", .speed = 60};
    s = make(c);
    assert_int_equal(source_next(s, 1000, NOW, &r), 1);
    assert_in_range(r.t_ms, NOW, NOW + 3000);
    assert_int_equal(source_next(s, 1000, NOW, &r), 0);
    assert_in_range(source_due(s), 1001, 1060);
    source_destroy(s);
    s = make(c);
    source_resume(s, NOW + 86400000);
    while (source_next(s, 1000, NOW, &r) == 1 && r.t_ms <= NOW + 86400000)
        ;
    assert_in_range(r.t_ms, NOW + 86400000, NOW + 86410000);
    assert_int_equal(source_next(s, 1000, NOW, &r), 0);
    source_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(replays_in_time_order, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(replay_is_paced, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(replay_loops_and_rebases, make_dir, remove_dir),
        cmocka_unit_test(says_what_is_wrong),
        cmocka_unit_test(reads_lines),
        cmocka_unit_test_setup_teardown(simulates_with_truth, make_dir, remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
