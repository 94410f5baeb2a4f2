/* Loading labelled traces: layout, windows, classes, order, what is left out (dataset.h). */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "inference/workshop/dataset.h"

static char root[64];

static int run(const char *command)
{
    char text[256];
    snprintf(text, sizeof text, command, root);
    return system(text);
}

static int make_root(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/nilm-dataset-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    return run("rm -rf '%s'");
}

/* A file of `seconds` seconds from the start of the given day on, a reading every 4 s: low, and
 * high in [from, to). */
static void write_trace(const char *class, const char *name, int day, int seconds, int from, int to,
                        int high, int low)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, class);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/%s/%s", root, class, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int t = 0; t < seconds; t += 4) {
        int watts = t >= from && t < to ? high : low;
        fprintf(f, "%02d/09/2011 %02d:%02d:%02d;%d;%d\n", day, t / 3600, t / 60 % 60, t % 60, watts,
                watts);
    }
    assert_int_equal(fclose(f), 0);
}

static struct dataset_options small_options(void)
{
    struct dataset_options o;
    dataset_defaults(&o);
    o.window = 10;
    o.stride = 5;
    o.min_traces = 0;
    return o;
}

static struct dataset *load(const struct dataset_options *o)
{
    struct dataset *d;
    char why[256] = "";
    if (dataset_load(root, o, &d, why, sizeof why) != 0)
        fail_msg("%s", why);
    return d;
}

/* 1600 s are 200 cells of 8 s; on in [400, 800) is cells 50..99. The last cell is not complete: 199
 * samples. */
static void test_windows(void **state)
{
    struct dataset_options o = small_options();
    float out[11];
    (void)state;
    write_trace("Kettle", "dev_AAAAAA_2011.09.01.csv", 1, 1600, 400, 800, 2000, 0);
    struct dataset *d = load(&o);
    assert_int_equal(d->class_count, 1);
    assert_string_equal(d->labels[0], "Kettle");
    assert_int_equal(d->trace_count, 1);
    assert_string_equal(d->traces[0].device, "dev_AAAAAA");
    assert_int_equal(d->traces[0].count, 199);
    assert_true(d->traces[0].watts[49] == 0 && d->traces[0].watts[50] == 2000 &&
                d->traces[0].watts[99] == 2000);
    /* starts 45, 50, ... 95: at least four of the ten samples are on */
    assert_int_equal(d->window_count, 11);
    assert_int_equal(d->windows[0].start, 45);
    assert_int_equal(d->windows[10].start, 95);
    dataset_copy(d, &d->windows[0], 0, out);
    assert_true(out[0] == 0 && out[5] == 0 && out[6] == 2000 && out[10] == 2000);
    dataset_copy(d, &d->windows[0], 6, out);
    assert_true(out[0] == 2000 && out[1] == 2000);
    dataset_copy(d, &d->windows[0], -100,
                 out); /* clamped: the first window, whose predecessor is its first sample */
    assert_true(out[0] == 0 && out[1] == 0);
    dataset_copy(d, &d->windows[0], INT32_MAX, out);
    assert_true(out[10] == d->traces[0].watts[198]);
    dataset_free(d);
}

/* Low-power devices are not lost to the default threshold; standby is. */
static void test_activity(void **state)
{
    struct dataset_options o = small_options();
    (void)state;
    write_trace("Hub", "dev_AAAAAA_2011.09.01.csv", 1, 1600, 0, 1600, 6, 6);
    write_trace("Standby", "dev_AAAAAB_2011.09.01.csv", 1, 1600, 0, 1600, 4, 4);
    struct dataset *d = load(&o);
    assert_int_equal(d->class_count, 2);
    assert_int_equal(d->window_count, 38);
    for (size_t i = 0; i < d->window_count; i++)
        assert_int_equal(d->windows[i].label, 0);
    dataset_free(d);
    o.min_traces = 1; /* training: a class without a window is no class */
    d = load(&o);
    assert_int_equal(d->class_count, 1);
    dataset_free(d);
}

static void test_gaps_and_restarts(void **state)
{
    struct dataset_options o = small_options();
    char path[128];
    (void)state;
    write_trace("Lamp", "dev_AAAAAA_2011.09.01.csv", 1, 1600, 0, 1600, 60, 60);
    snprintf(path, sizeof path, "%s/Lamp/dev_AAAAAA_2011.09.01.csv", root);
    FILE *f = fopen(path, "a");
    for (int t = 1600 + 480; t < 3200;
         t += 4) /* a gap of 60 cells: filled, but its windows are none */
        fprintf(f, "01/09/2011 00:%02d:%02d;60;60\n", t / 60, t % 60);
    for (int t = 0; t < 800; t += 4) /* hours: a new trace */
        fprintf(f, "01/09/2011 08:%02d:%02d;60;60\n", t / 60, t % 60);
    fclose(f);
    struct dataset *d = load(&o);
    assert_int_equal(d->trace_count, 2);
    assert_int_equal(d->traces[0].count,
                     400); /* the cell before the long gap is handed out half full */
    assert_int_equal(d->traces[1].count, 99);
    assert_int_equal(d->files, 1);
    for (size_t i = 0; i < d->window_count; i++) {
        const struct dataset_trace *t = &d->traces[d->windows[i].trace];
        int gaps = 0;
        for (int k = 0; k < 10; k++)
            gaps += t->gap[d->windows[i].start + k];
        assert_true(gaps <= 5);
    }
    o.max_gap_share = 1;
    o.min_active_samples = 0;
    struct dataset *all = load(&o);
    assert_int_equal(all->window_count, (400 - 10) / 5 + 1 + (99 - 10) / 5 + 1);
    assert_true(d->window_count < all->window_count);
    dataset_free(all);
    dataset_free(d);
}

static void test_labels_and_unknown(void **state)
{
    struct dataset_options o = small_options();
    static const char labels[3][DATASET_LABEL_BYTES] = {"Zebra", "Lamp", "Hub"};
    (void)state;
    write_trace("Hub", "dev_AAAAAA_2011.09.01.csv", 1, 1600, 0, 1600, 60, 60);
    write_trace("Lamp", "dev_AAAAAB_2011.09.01.csv", 1, 1600, 0, 1600, 60, 60);
    write_trace("Oven", "dev_AAAAAC_2011.09.01.csv", 1, 1600, 0, 1600, 60, 60);
    o.labels = labels;
    o.label_count = 3;
    struct dataset *d = load(&o);
    assert_int_equal(d->class_count, 3);
    assert_string_equal(d->labels[1], "Lamp");
    assert_int_equal(d->window_count, 76);
    assert_int_equal(d->unknown_windows, 38);
    for (size_t i = 0; i < d->window_count; i++)
        assert_int_equal(d->windows[i].label, i < 38 ? 2 : 1);
    dataset_free(d);
}

static void test_min_traces(void **state)
{
    struct dataset_options o = small_options();
    char name[64];
    (void)state;
    for (int day = 1; day <= 5; day++) {
        snprintf(name, sizeof name, "dev_AAAAAA_2011.09.%02d.csv", day);
        write_trace("Many", name, day, 1600, 0, 1600, 60, 60);
        if (day < 5)
            write_trace("Few", name, day, 1600, 0, 1600, 60, 60);
    }
    o.min_traces = 5;
    struct dataset *d =
        load(&o); /* the plug stands under two classes on days 1 to 4: those are not used */
    assert_int_equal(d->ambiguous_files, 8);
    assert_int_equal(d->files, 1);
    assert_int_equal(d->class_count, 0);
    dataset_free(d);
    assert_int_equal(run("rm -rf '%s/Few'"), 0);
    d = load(&o);
    assert_int_equal(d->class_count, 1);
    assert_int_equal(d->files, 5);
    o.min_traces = 6;
    dataset_free(d);
    d = load(&o);
    assert_int_equal(d->class_count, 0);
    assert_int_equal(d->window_count, 0);
    dataset_free(d);
}

static void test_hostile_folder(void **state)
{
    struct dataset_options o = small_options();
    struct dataset *d;
    char why[256] = "";
    (void)state;
    assert_int_equal(dataset_load(root, &o, &d, why, sizeof why), -EBADMSG);
    assert_non_null(strstr(why, root));
    assert_int_equal(dataset_load("/nonexistent/data", &o, &d, why, sizeof why), -ENOENT);
    assert_non_null(strstr(why, "/nonexistent/data"));
    assert_int_equal(run("cd '%s' && mkdir Empty Bad .hidden && echo x > stray.csv && head -c 5000 "
                         "/dev/urandom > Bad/r.csv && "
                         ": > Bad/e.csv && mkfifo Bad/fifo.csv && mkdir Bad/folder.csv && ln -s "
                         "/nonexistent Bad/l.csv"),
                     0);
    assert_int_equal(dataset_load(root, &o, &d, why, sizeof why),
                     -EBADMSG); /* and it did not wait for the pipe */
    assert_non_null(strstr(why, "none of 2 files"));
    write_trace("Bad", "dev_AAAAAA_2011.09.01.csv", 1, 1600, 0, 1600, 60, 60);
    d = load(&o);
    assert_int_equal(d->skipped_files, 2);
    assert_int_equal(d->files, 1);
    assert_int_equal(d->window_count, 38);
    dataset_free(d);
    assert_int_equal(
        run("cd '%s' && mkdir aVeryLongClassNameThatNoModelFileCanHold && cp Bad/dev* aVery*/"), 0);
    assert_int_equal(dataset_load(root, &o, &d, why, sizeof why), -EBADMSG);
    assert_non_null(strstr(why, "aVeryLong"));
    o.window = 0;
    assert_int_equal(dataset_load(root, &o, &d, why, sizeof why), -EINVAL);
}

/* Jumps of just under the fill limit make many samples of few bytes; memory stays bounded and the
 * file is passed over. */
static void test_inflating_file(void **state)
{
    struct dataset_options o = small_options();
    struct dataset *d;
    char why[256], path[128];
    (void)state;
    assert_int_equal(run("mkdir '%s/X'"), 0);
    snprintf(path, sizeof path, "%s/X/bomb.csv", root);
    FILE *f = fopen(path, "w");
    for (long i = 0; i < 40000; i++)
        fprintf(f, "%ld,1\n", i * 4000);
    fclose(f);
    assert_int_equal(dataset_load(root, &o, &d, why, sizeof why), -EBADMSG);
}

static int same_dataset(const struct dataset *a, const struct dataset *b)
{
    if (a->trace_count != b->trace_count || a->window_count != b->window_count ||
        a->class_count != b->class_count || a->bad_lines != b->bad_lines)
        return 0;
    for (size_t i = 0; i < a->trace_count; i++) {
        if (strcmp(a->traces[i].path, b->traces[i].path) != 0 ||
            a->traces[i].count != b->traces[i].count ||
            memcmp(a->traces[i].watts, b->traces[i].watts, a->traces[i].count * sizeof(float)) !=
                0 ||
            memcmp(a->traces[i].gap, b->traces[i].gap, a->traces[i].count) != 0)
            return 0;
    }
    return memcmp(a->windows, b->windows, a->window_count * sizeof *a->windows) == 0;
}

static void count_progress(void *context, size_t done, size_t total)
{
    size_t *seen = context;
    assert_true(done > *seen && done <= total);
    *seen = done;
}

/* SPEC: twelve classes of real traces, the same whatever the number of threads. */
static void test_real_sample(void **state)
{
    const char *data = getenv("NILM_DATA");
    struct dataset_options o;
    struct dataset *one, *four;
    char dir[512], why[512];
    size_t seen = 0;
    (void)state;
    if (data == NULL) {
        print_message("NILM_DATA is not set: skipped\n");
        skip();
    }
    snprintf(dir, sizeof dir, "%s/tracebase/sample", data);
    dataset_defaults(&o);
    o.min_traces = 0;
    o.threads = 1;
    o.progress = count_progress;
    o.context = &seen;
    assert_int_equal(dataset_load(dir, &o, &one, why, sizeof why), 0);
    assert_int_equal(seen, one->files + one->skipped_files);
    o.threads = 4;
    o.progress = NULL;
    assert_int_equal(dataset_load(dir, &o, &four, why, sizeof why), 0);
    assert_true(same_dataset(one, four));
    assert_int_equal(one->class_count, 12);
    assert_int_equal(one->skipped_files, 0);
    assert_int_equal(one->bad_lines, 0);
    uint32_t windows[12] = {0};
    for (size_t i = 0; i < one->window_count; i++) {
        const struct dataset_window *w = &one->windows[i];
        const struct dataset_trace *t = &one->traces[w->trace];
        assert_true(w->start + o.window <= t->count);
        assert_int_equal(w->label, t->label);
        windows[w->label]++;
    }
    for (int c = 0; c < 12; c++)
        assert_true(windows[c] > 0);
    dataset_free(one);
    dataset_free(four);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_root, remove_root)
    const struct CMUnitTest tests[] = {
        TEST(test_windows),           TEST(test_activity),
        TEST(test_gaps_and_restarts), TEST(test_labels_and_unknown),
        TEST(test_min_traces),        TEST(test_hostile_folder),
        TEST(test_inflating_file),    TEST(test_real_sample),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
