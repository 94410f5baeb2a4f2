/* test_train_resume.c - early stopping; checkpoints: a training that is killed and resumed writes
 * the same bytes as one that was not; damaged and foreign checkpoints are refused with the reason.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "inference/workshop/cli.h"
#include "inference/workshop/train.h"
#include "inference/workshop/workshop.h"
#include "workshop/lib_small.h"
#include "workshop/lib_synthetic.h"

static const struct model_channel channels[2] = {{.feature = MODEL_LOG, .full = 4000.0f},
                                                 {.feature = MODEL_LOG_DIFF, .full = 4000.0f}};
static char root[64];

static const char *in_root(const char *name)
{
    static char paths[8][128];
    static unsigned next;
    char *path = paths[next++ % 8];
    (void)snprintf(path, sizeof(paths[0]), "%s/%s", root, name);
    return path;
}

static int make_root(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof(root), "/tmp/nilm-resume-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    char command[96];
    (void)state;
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", root);
    return system(command);
}

static struct net *make(void)
{
    const struct net_spec spec = {.head = MODEL_SOFTMAX,
                                  .window = 96,
                                  .channels = 2,
                                  .class_count = 4,
                                  .conv_count = 2,
                                  .conv = {{8, 5, 2}, {12, 5, 4}},
                                  .hidden_count = 1,
                                  .hidden = {16},
                                  .norm = 1};
    struct net *net;
    assert_int_equal(net_create(&spec, &net, NULL, 0), 0);
    net_init(net, 1);
    return net;
}

static struct train_options quick(void)
{
    struct train_options o;
    train_defaults(&o);
    o.epochs = 6;
    o.epoch_windows = 256;
    o.batch = 64;
    o.shift = 8;
    o.onset_samples = 8;
    o.average = 0.9f;
    o.quiet = 1;
    o.checkpoint = in_root("state");
    return o;
}

static int run(const struct train_options *o, const struct dataset *d, struct net **net, char *why,
               struct train_result *result)
{
    *net = make();
    why[0] = '\0';
    return train_run(*net, channels, d, d, o, result, why, 256);
}

/* --- refusal --- */

static void test_damaged_checkpoints(void **state)
{
    struct dataset *d = synthetic_dataset(4, 2, 300, 96, 24, 1);
    struct train_options o = quick();
    struct train_result result;
    struct net *net;
    char why[256];
    void *data;
    size_t size;
    (void)state;

    o.epochs = 1;
    assert_int_equal(run(&o, d, &net, why, &result), 0);
    net_free(net);
    assert_int_equal(cli_read_file(o.checkpoint, 1 << 24, &data, &size), 0);
    unsigned char *file = data;
    o.resume = 1;
    o.checkpoint = in_root("damaged");
    const size_t lengths[] = {0, 1, 7, 40, 87, 88, 89, 91, 92, 93, size / 2, size - 5, size - 1};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
        assert_int_equal(cli_write_file(o.checkpoint, file, lengths[i]), 0);
        assert_int_equal(run(&o, d, &net, why, &result), -EBADMSG);
        assert_non_null(strstr(why, o.checkpoint));
        net_free(net);
    }
    for (size_t at = 0; at < size; at += at < 100 ? 7 : size / 23) {
        file[at] ^= 0x10;
        assert_int_equal(cli_write_file(o.checkpoint, file, size), 0);
        assert_int_equal(run(&o, d, &net, why, &result), -EBADMSG);
        file[at] ^= 0x10;
        net_free(net);
    }
    file = realloc(file, size + 1);
    file[size] = 0;
    assert_int_equal(cli_write_file(o.checkpoint, file, size + 1), 0); /* something behind it */
    assert_int_equal(run(&o, d, &net, why, &result), -EBADMSG);
    net_free(net);
    assert_int_equal(cli_write_file(o.checkpoint, file, size), 0); /* and whole again */
    assert_int_equal(run(&o, d, &net, why, &result), 0);
    net_free(net);
    free(file);
    synthetic_free(d);
}

static void test_foreign_checkpoints(void **state)
{
    struct dataset *d = synthetic_dataset(4, 2, 300, 96, 24, 1);
    struct dataset *other = synthetic_dataset(4, 2, 300, 96, 24, 2);
    struct train_options o = quick(), changed;
    struct train_result result;
    struct net *net;
    char why[256];
    (void)state;

    assert_int_equal(run(&o, d, &net, why, &result), 0);
    net_free(net);
    o.resume = 1;
    for (int i = 0; i < 5; i++) {
        changed = o;
        changed.seed += i == 0;
        changed.epochs += i == 1;
        changed.smoothing += i == 2 ? 0.01f : 0.0f;
        changed.average = i == 3 ? 0.0f : o.average;
        assert_int_equal(run(&changed, i == 4 ? other : d, &net, why, &result), -EINVAL);
        assert_non_null(strstr(why, "another training"));
        net_free(net);
    }
    o.threads = 3; /* how it runs does not matter */
    assert_int_equal(run(&o, d, &net, why, &result), 0);
    net_free(net);
    o.checkpoint = "/nowhere/state";
    assert_int_equal(run(&o, d, &net, why, &result), -ENOENT);
    assert_non_null(strstr(why, "/nowhere/state"));
    net_free(net);
    synthetic_free(d);
    synthetic_free(other);
}

/* --- early stopping --- */

static void test_patience(void **state)
{
    struct dataset *d = synthetic_dataset(4, 2, 300, 96, 24, 1);
    struct train_options o = quick();
    struct train_result result;
    struct net *net;
    char why[256];
    struct stat status;
    (void)state;

    o.epochs = 1000;
    o.patience = 3;
    o.rate = 1e-7f; /* nothing is learned: no epoch is better than the first by much */
    o.average = 0.0f;
    o.checkpoint_every = 1000;
    assert_int_equal(run(&o, d, &net, why, &result), 0);
    assert_true(result.best_epoch >= 1 && result.best_epoch < 900);
    assert_int_equal(stat(o.checkpoint, &status), 0); /* the last state is kept also when stopped */
    uint32_t best = result.best_epoch;
    net_free(net);
    o.resume = 1; /* stopped stays stopped */
    assert_int_equal(run(&o, d, &net, why, &result), 0);
    assert_int_equal(result.best_epoch, best);
    assert_true(result.windows_per_second <= 0.0);
    net_free(net);
    synthetic_free(d);
}

/* --- a real kill --- */

static void write_traces(void)
{
    static const int level[3] = {60, 400, 2000}, period[3] = {40, 16, 64};
    char path[256];

    assert_int_equal(mkdir(in_root("data"), 0777), 0);
    for (int c = 0; c < 3; c++) {
        (void)snprintf(path, sizeof(path), "%s/data/Class%d", root, c);
        assert_int_equal(mkdir(path, 0777), 0);
        for (int day = 1; day <= 7; day++) {
            (void)snprintf(path, sizeof(path), "%s/data/Class%d/dev_AAAAA%d_2011.09.%02d.csv", root,
                           c, c, day);
            FILE *f = fopen(path, "w");
            assert_non_null(f);
            for (int i = 0; i < 400; i++)
                fprintf(f, "%02d/09/2011 %02d:%02d:%02d;%d;0\n", day, 8 * i / 3600, 8 * i / 60 % 60,
                        8 * i % 60,
                        (i + 5 * day) % period[c] < period[c] / 2 ? level[c] + i % 7 + day : 0);
            assert_int_equal(fclose(f), 0);
        }
    }
}

static int train(const char *out, const char *threads, int resume, const char *checkpoint)
{
    const char *argv[] = {"train",
                          "--data",
                          in_root("data"),
                          "--out",
                          out,
                          "--window",
                          "64",
                          "--stride",
                          "8",
                          "--widths",
                          "8,8",
                          "--taps",
                          "5,3",
                          "--pools",
                          "2,4",
                          "--hidden",
                          "12",
                          "--epochs",
                          "40",
                          "--epoch-windows",
                          "512",
                          "--shift",
                          "8",
                          "--average",
                          "0.95",
                          "--mix",
                          "0.3",
                          "--threads",
                          threads,
                          "--quiet",
                          "--checkpoint",
                          checkpoint,
                          resume ? "--resume" : NULL,
                          NULL};
    int argc = 0;
    while (argv[argc])
        argc++;
    return workshop_train(argc, (char **)argv);
}

/* Starts training in a child whose report goes nowhere. */
static pid_t start(const char *out, const char *threads, int resume, const char *checkpoint)
{
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(null, STDOUT_FILENO);
        int code = train(out, threads, resume, checkpoint);
        _exit(code);
    }
    return child;
}

static time_t changed(const char *path, long *nanoseconds)
{
    struct stat status;
    if (stat(path, &status) != 0)
        status.st_mtim = (struct timespec){0};
    *nanoseconds = status.st_mtim.tv_nsec;
    return status.st_mtim.tv_sec;
}

/* Waits until the checkpoint has been written once more, and a little longer. 0, or 1 when the
 * child ended before. */
static int wait_for_checkpoint(pid_t child, const char *path, int *status)
{
    long before, after;
    time_t seconds = changed(path, &before);
    while (changed(path, &after) == seconds && after == before) {
        if (waitpid(child, status, WNOHANG) == child)
            return 1;
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
    nanosleep(&(struct timespec){.tv_nsec = 1500000}, NULL); /* into the next epoch, or a write */
    return 0;
}

static void test_killed_and_resumed(void **state)
{
    int status, kills = 0, done = 0;
    void *whole, *resumed;
    size_t size[2];
    (void)state;

    write_traces();
    pid_t child = start(in_root("m.nilm"), "2", 0, in_root("whole"));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(cli_read_file(in_root("m.nilm"), 1 << 24, &whole, &size[0]), 0);
    assert_int_equal(unlink(in_root("m.nilm")), 0);
    while (!done) {
        child = start(in_root("m.nilm"), kills % 2 ? "1" : "2", 1, in_root("cut"));
        if (kills < 4 && !wait_for_checkpoint(child, in_root("cut"), &status)) {
            assert_int_equal(kill(child, SIGKILL), 0);
            assert_int_equal(waitpid(child, &status, 0), child);
            kills += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
        } else {
            if (kills >= 4)
                assert_int_equal(waitpid(child, &status, 0), child);
            done = 1;
        }
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_true(kills >= 1);
    assert_int_equal(cli_read_file(in_root("m.nilm"), 1 << 24, &resumed, &size[1]), 0);
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(whole, resumed, size[0]);
    free(whole);
    free(resumed);
}

/* Training of integers: begun as the same ones, killed after an epoch and resumed, it gives the
 * same ones. */
static void test_killed_int8(void **state)
{
    struct dataset *d = synthetic_dataset(SMALL_CLASSES, 3, 400, SMALL_WINDOW, 24, 1);
    struct model m = small_model(), run_model;
    struct net *start = small_trained(&m, d), *net[2];
    struct train_result result;
    struct train_options o = quick();
    int status = 0;
    pid_t child;
    (void)state;

    o.epochs = 40;
    o.rate = 1e-3f;
    o.checkpoint = in_root("int8");
    for (int i = 0; i < 2; i++) {
        run_model = m;
        o.int8 = small_quantized(start, &run_model, d, 100.0, QUANTIZE_NEAREST);
        assert_int_equal(net_clone(start, &net[i]), 0);
        if (i) {
            o.checkpoint = in_root("int8-cut");
            fflush(NULL);
            child = fork();
            assert_true(child >= 0);
            if (child == 0)
                _exit(train_run(net[i], m.channels, d, d, &o, &result, NULL, 0) != 0);
            if (!wait_for_checkpoint(child, o.checkpoint, &status)) {
                assert_int_equal(kill(child, SIGKILL), 0);
                assert_int_equal(waitpid(child, &status, 0), child);
            }
            assert_true(WIFSIGNALED(status));
            o.resume = 1;
        }
        assert_int_equal(train_run(net[i], m.channels, d, d, &o, &result, NULL, 0), 0);
        quantize_free(o.int8);
    }
    assert_true(memcmp(net[0]->params, start->params, start->param_count * sizeof(float)) != 0);
    assert_memory_equal(net[0]->params, net[1]->params, start->param_count * sizeof(float));
    for (int i = 0; i < 2; i++)
        net_free(net[i]);
    net_free(start);
    synthetic_free(d);
}

static void test_resume_needs_a_checkpoint(void **state)
{
    (void)state;
    write_traces();
    const char *argv[] = {"train",           "--data",  in_root("data"), "--out",
                          in_root("m.nilm"), "--quiet", "--window",      "64",
                          "--widths",        "4",       "--taps",        "3",
                          "--pools",         "2",       "--resume"};
    assert_true(workshop_train(15, (char **)argv) != 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_root, remove_root)
    const struct CMUnitTest tests[] = {TEST(test_damaged_checkpoints),
                                       TEST(test_foreign_checkpoints),
                                       TEST(test_patience),
                                       TEST(test_killed_and_resumed),
                                       TEST(test_killed_int8),
                                       TEST(test_resume_needs_a_checkpoint)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
