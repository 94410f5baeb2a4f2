/* Classes left out on purpose, windows of unknown classes, devices, drawn windows (dataset.h). */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "inference/workshop/dataset.h"

static char root[64];

static int make_root(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/nilm-classes-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    char command[96];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

/* 199 cells of 8 s, all on. */
static void write_trace(const char *class, const char *device, int day)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, class);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/%s/%s_2011.09.%02d.csv", root, class, device, day);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int t = 0; t < 1600; t += 4)
        fprintf(f, "%02d/09/2011 00:%02d:%02d;60;60\n", day, t / 60, t % 60);
    assert_int_equal(fclose(f), 0);
}

static void write_classes(void)
{
    static const char *const names[] = {"A", "B", "C", "D", "E"};
    char device[16];
    for (int c = 0; c < 5; c++)
        for (int day = 1; day <= (c == 4 ? 1 : 2); day++) {    /* E has one trace only */
            snprintf(device, sizeof device, "dev_AAAAA%d", c); /* a plug is in one class only */
            write_trace(names[c], device, day);
        }
}

static struct dataset_options small_options(void)
{
    struct dataset_options o;
    dataset_defaults(&o);
    o.window = 10;
    o.stride = 5; /* starts 0, 5, ... 185: 38 windows of a trace */
    o.min_traces = 2;
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

static void test_without(void **state)
{
    static const struct {
        const char *without, *left_out, *kept;
    } cases[] = {{"B", "B", "ACD"},    {"C,A", "C,A", "BD"}, {"1/2", "A,C", "BD"},
                 {"2/2", "B,D", "AC"}, {"3/3", "C", "ABD"},  {NULL, NULL, "ABCD"}};
    static const char *const wrong[] = {"F", "A,F", "E", "A,A", "0/2", "3/2", "1/", "1/2/3"};
    struct dataset_options o = small_options();
    struct dataset *d;
    char why[256];
    (void)state;
    write_classes();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        o.without = cases[i].without;
        d = load(&o);
        assert_int_equal(d->class_count, strlen(cases[i].kept));
        for (uint32_t c = 0; c < d->class_count; c++)
            assert_true(d->labels[c][0] == cases[i].kept[c]);
        assert_int_equal(d->window_count, 76 * d->class_count);
        if (cases[i].left_out)
            assert_string_equal(d->without, cases[i].left_out);
        else
            assert_null(d->without);
        assert_null(d->options.without);
        dataset_free(d);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        o.without = wrong[i];
        assert_int_equal(dataset_load(root, &o, &d, why, sizeof why), -EINVAL);
        assert_non_null(strstr(why, "without"));
    }
}

static void test_unknown_windows_are_kept(void **state)
{
    static const char labels[2][DATASET_LABEL_BYTES] = {"D", "B"};
    struct dataset_options o = small_options();
    float watts[11];
    (void)state;
    write_classes();
    o.min_traces = 0;
    o.labels = labels;
    o.label_count = 2;
    o.keep_unknown = 1;
    struct dataset *d = load(&o);
    assert_int_equal(d->window_count, 2 * 76);
    assert_int_equal(d->unknown_windows, 2 * 76 + 38);
    assert_int_equal(d->unknown_class_count, 3);
    uint32_t counts[3] = {0};
    for (size_t i = 0; i < d->unknown_windows; i++) {
        assert_in_range(d->unknown[i].label, 0, 2);
        counts[d->unknown[i].label]++;
        dataset_copy(d, &d->unknown[i], 0, watts);
        assert_true(watts[10] == 60);
    }
    assert_true(counts[0] == 76 && counts[1] == 76 && counts[2] == 38);
    assert_string_equal(d->unknown_labels[0], "A");
    assert_string_equal(d->unknown_labels[2], "E");
    dataset_free(d);
    o.keep_unknown = 0;
    d = load(&o);
    assert_int_equal(d->unknown_windows, 2 * 76 + 38);
    assert_null(d->unknown);
    dataset_free(d);
}

/* A device counts once, whatever the pattern of its files' names, and only where it has windows. */
static void test_devices(void **state)
{
    struct dataset_options o = small_options();
    uint32_t devices[3];
    (void)state;
    write_trace("A", "dev_AAAAA1", 1);
    write_trace("A", "device_AAAAA1", 2);
    write_trace("A", "dev_AAAAA2", 1);
    write_trace("B", "dev_AAAAA1", 3);
    o.min_traces = 0;
    struct dataset *d = load(&o);
    assert_int_equal(dataset_devices(d, devices), 0);
    assert_true(devices[0] == 2 && devices[1] == 1);
    dataset_free(d);
    o.min_activity_w = 100; /* no window at all */
    d = load(&o);
    assert_int_equal(dataset_devices(d, devices), 0);
    assert_true(devices[0] == 0 && devices[1] == 0);
    dataset_free(d);
}

/* Each window is in exactly one part of the random split; the parts together are the whole. */
static void test_random_parts(void **state)
{
    struct dataset_options o = small_options();
    static uint8_t seen[5][2][200];
    struct dataset *whole, *d;
    size_t windows = 0;
    (void)state;
    write_classes();
    o.stride = 1;
    o.min_traces = 0;
    o.split = SPLIT_RANDOM;
    whole = load(&o);
    memset(seen, 0, sizeof seen);
    for (int part = PART_TRAIN; part <= PART_TEST; part++) {
        o.part = (enum dataset_part)part;
        d = load(&o);
        assert_int_equal(d->class_count, 5);
        for (size_t i = 0; i < d->window_count; i++) {
            const struct dataset_window *w = &d->windows[i];
            const char *day = strstr(d->traces[w->trace].path, ".09.");
            assert_non_null(day);
            assert_int_equal(seen[w->label][day[5] - '1'][w->start]++, 0);
        }
        double share = (double)d->window_count / (double)whole->window_count;
        double expected = part == PART_TRAIN ? 0.7 : part == PART_VALID ? 0.1 : 0.2;
        assert_true(share > expected - 0.04 && share < expected + 0.04);
        windows += d->window_count;
        dataset_free(d);
    }
    assert_int_equal(windows, whole->window_count);
    dataset_free(whole);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_root, remove_root)
    const struct CMUnitTest tests[] = {
        TEST(test_without),
        TEST(test_unknown_windows_are_kept),
        TEST(test_devices),
        TEST(test_random_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
