/* The split: no unit on both sides, shares, devices held out, independence of other classes
 * (dataset_split.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "inference/workshop/dataset_files.h"

enum { MOST = 4000 };
static struct dataset_file files[MOST];
static char labels[64][DATASET_LABEL_BYTES];
static struct dataset_folder folder;

static void begin(void)
{
    memset(files, 0, sizeof files);
    folder = (struct dataset_folder){.files = files, .labels = labels};
}

static void add_class(const char *label)
{
    snprintf(labels[folder.class_count++], DATASET_LABEL_BYTES, "%s", label);
}

static void add_days(const char *key, int first, int count)
{
    for (int i = 0; i < count; i++) {
        struct dataset_file *f = &files[folder.count++];
        snprintf(f->key, sizeof f->key, "%s", key);
        f->date = 20110000 + first + i;
        f->label = folder.class_count - 1;
    }
}

static void count_parts(uint32_t label, size_t out[3])
{
    memset(out, 0, 3 * sizeof *out);
    for (size_t i = 0; i < folder.count; i++)
        out[files[i].part] += files[i].label == label;
}

static void test_day_shares(void **state)
{
    static const struct {
        int days;
        size_t valid, test;
    } expected[] = {{1, 0, 0}, {2, 0, 0},  {3, 0, 1},  {4, 0, 1},
                    {5, 1, 1}, {10, 1, 2}, {20, 2, 4}, {100, 10, 20}};
    (void)state;
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        size_t parts[3];
        begin();
        add_class("Lamp");
        add_days("A", 1, expected[i].days);
        assert_int_equal(dataset_files_split(&folder, SPLIT_DAY, 1), 0);
        count_parts(0, parts);
        assert_int_equal(parts[PART_VALID], expected[i].valid);
        assert_int_equal(parts[PART_TEST], expected[i].test);
        assert_true(parts[PART_TRAIN] >= parts[PART_TEST] + parts[PART_VALID]);
    }
}

/* Days are drawn per device, so a device with five days or more is tested on some. */
static void test_day_split_covers_devices(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        begin();
        add_class("Lamp");
        add_days("A", 1, 10);
        add_days("B", 1, 30);
        add_days("C", 1, 15);
        dataset_files_split(&folder, SPLIT_DAY, seed);
        for (size_t first = 0, end; first < folder.count; first = end) {
            size_t parts[3] = {0};
            for (end = first; end < folder.count && strcmp(files[end].key, files[first].key) == 0;
                 end++)
                parts[files[end].part]++;
            assert_true(parts[PART_TEST] >= (end - first) / 5 - 1 && parts[PART_TEST] >= 1);
            assert_true(parts[PART_TRAIN] > parts[PART_TEST]);
        }
    }
}

/* Two files of one device and day, whatever their names' patterns, stay together. */
static void test_units_are_not_divided(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        for (int split = SPLIT_DAY; split <= SPLIT_DEVICE_ONE; split++) {
            begin();
            add_class("Lamp");
            add_days("A", 1, 20);
            add_days("B", 1, 5);
            add_days("A", 11, 20); /* days 11 to 20 once more */
            dataset_files_split(&folder, (enum dataset_split)split, seed);
            for (size_t i = 0; i < folder.count; i++)
                for (size_t k = 0; k < i; k++)
                    if (files[i].date == files[k].date && strcmp(files[i].key, files[k].key) == 0)
                        assert_int_equal(files[i].part, files[k].part);
        }
    }
}

static void test_devices_are_held_out(void **state)
{
    static const int sizes[][6] = {
        {5}, {4, 13}, {10, 10}, {1, 40}, {20, 24, 32}, {7, 4, 14, 13, 11, 40}, {1, 1, 1, 1, 1, 1}};
    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        for (uint64_t seed = 1; seed <= 30; seed++) {
            size_t devices = 0, held = 0, parts[3];
            begin();
            add_class("Lamp");
            for (; devices < 6 && sizes[s][devices] > 0; devices++) {
                char key[8];
                snprintf(key, sizeof key, "D%zu", devices);
                add_days(key, 1, sizes[s][devices]);
            }
            dataset_files_split(&folder, SPLIT_DEVICE, seed);
            for (size_t first = 0, end; first < folder.count; first = end) {
                int test = files[first].part == PART_TEST;
                for (end = first;
                     end < folder.count && strcmp(files[end].key, files[first].key) == 0; end++)
                    assert_int_equal(files[end].part == PART_TEST,
                                     test); /* all of it, or nothing */
                held += test;
            }
            count_parts(0, parts);
            if (devices == 1)
                assert_int_equal(held, 0);
            else
                assert_true(held >= 1 && held <= (devices / 3 > 1 ? devices / 3 : 1) &&
                            held < devices);
            assert_true(parts[PART_TRAIN] > 0 && 2 * parts[PART_TEST] <= folder.count);
        }
    }
}

/* Exactly one device of each class that has several, never most of the class; seeds 1 to n take one
 * after the other. */
static void test_one_device_is_held_out(void **state)
{
    static const int sizes[][6] = {
        {5}, {4, 13}, {10, 10}, {1, 40}, {20, 24, 32}, {7, 4, 14, 13, 11, 40}, {1, 1, 1, 1, 1, 1}};
    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int taken[6] = {0}, eligible = 0, total = 0, devices = 0;
        for (; devices < 6 && sizes[s][devices] > 0; devices++)
            total += sizes[s][devices];
        for (int i = 0; i < devices; i++)
            eligible += 2 * sizes[s][i] <= total;
        for (uint64_t seed = 1; seed <= (uint64_t)(devices > 1 ? eligible : 3); seed++) {
            int held = 0;
            begin();
            add_class("Kettle"); /* another class changes nothing */
            add_days("K", 1, 3);
            add_class("Lamp");
            for (int i = 0; i < devices; i++) {
                char key[8];
                snprintf(key, sizeof key, "D%d", i);
                add_days(key, 1, sizes[s][i]);
            }
            assert_int_equal(dataset_files_split(&folder, SPLIT_DEVICE_ONE, seed), 0);
            for (size_t first = 3, end; first < folder.count; first = end) {
                int test = files[first].part == PART_TEST;
                for (end = first;
                     end < folder.count && strcmp(files[end].key, files[first].key) == 0; end++)
                    assert_int_equal(files[end].part == PART_TEST, test);
                held += test;
                taken[files[first].key[1] - '0'] += test;
                if (test)
                    assert_true(2 * (end - first) <= (size_t)total);
            }
            assert_int_equal(held, devices > 1);
        }
        for (int i = 0; devices > 1 && i < devices; i++)
            assert_int_equal(taken[i], 2 * sizes[s][i] <= total);
    }
}

/* Windows are drawn: each has one part, whatever folder the traces lie in, in the documented
 * shares.
 */
static void test_random_shares(void **state)
{
    size_t parts[3] = {0}, differs = 0;
    (void)state;
    for (uint32_t i = 0; i < 20000; i++) {
        enum dataset_part part = dataset_files_window_part("/a/complete/Lamp/x.csv", i, 1);
        assert_int_equal(part, dataset_files_window_part("Lamp/x.csv", i, 1));
        parts[part]++;
        differs += part != dataset_files_window_part("/a/complete/Lamp/y.csv", i, 1);
    }
    assert_in_range(parts[PART_TRAIN], 13700, 14300);
    assert_in_range(parts[PART_VALID], 1850, 2150);
    assert_in_range(parts[PART_TEST], 3800, 4200);
    assert_in_range(differs, 8500, 9900); /* 1 - (.49 + .01 + .04) = .46 of them */
}

/* What one class gets does not depend on other classes, and the seed matters. */
static void test_pure_function(void **state)
{
    enum dataset_part alone[40];
    int differs = 0;
    (void)state;
    begin();
    add_class("Lamp");
    add_days("A", 1, 40);
    dataset_files_split(&folder, SPLIT_DAY, 3);
    for (int i = 0; i < 40; i++)
        alone[i] = files[i].part;
    begin();
    add_class("Dishwasher");
    add_days("A", 1, 17);
    add_class("Lamp");
    add_days("A", 1, 40);
    dataset_files_split(&folder, SPLIT_DAY, 3);
    for (int i = 0; i < 40; i++)
        assert_int_equal(files[17 + i].part, alone[i]);
    dataset_files_split(&folder, SPLIT_DAY, 4);
    for (int i = 0; i < 40; i++)
        differs += files[17 + i].part != alone[i];
    assert_true(differs > 0);
}

/* The parts of the loader are disjoint and together the whole, on real traces. */
static void test_parts_of_real_sample(void **state)
{
    const char *data = getenv("NILM_DATA");
    (void)state;
    if (data == NULL) {
        print_message("NILM_DATA is not set: skipped\n");
        skip();
    }
    for (int split = SPLIT_DAY; split <= SPLIT_DEVICE_ONE; split++) {
        struct dataset *part[4];
        size_t windows = 0, count = 0;
        for (int p = PART_TRAIN; p <= PART_ALL; p++) {
            struct dataset_options o;
            char dir[512], why[512];
            dataset_defaults(&o);
            o.min_traces = 0;
            o.split = (enum dataset_split)split;
            o.part = (enum dataset_part)p;
            snprintf(dir, sizeof dir, "%s/tracebase/sample", data);
            assert_int_equal(dataset_load(dir, &o, &part[p], why, sizeof why), 0);
        }
        for (int p = PART_TRAIN; p <= PART_TEST; p++) {
            windows += part[p]->window_count;
            count += part[p]->files;
            for (int q = PART_TRAIN; q < p; q++)
                for (size_t i = 0; i < part[p]->trace_count; i++)
                    for (size_t k = 0; k < part[q]->trace_count; k++)
                        assert_string_not_equal(part[p]->traces[i].path, part[q]->traces[k].path);
        }
        assert_int_equal(windows, part[PART_ALL]->window_count);
        assert_int_equal(count, part[PART_ALL]->files);
        if (split != SPLIT_DAY)
            for (size_t i = 0; i < part[PART_TEST]->trace_count; i++)
                for (size_t k = 0; k < part[PART_TRAIN]->trace_count; k++) {
                    const struct dataset_trace *a = &part[PART_TEST]->traces[i],
                                               *b = &part[PART_TRAIN]->traces[k];
                    assert_false(strcmp(part[PART_TEST]->labels[a->label],
                                        part[PART_TRAIN]->labels[b->label]) == 0 &&
                                 strcmp(a->device, b->device) == 0);
                }
        for (int p = PART_TRAIN; p <= PART_ALL; p++)
            dataset_free(part[p]);
    }
}

/* Several devices: as SPLIT_DEVICE; one: as SPLIT_DAY. So no class is without a test part. */
static void test_single_devices_by_day(void **state)
{
    enum dataset_part mixed[MOST];
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        begin();
        add_class("Lamp");
        add_days("A", 1, 10);
        add_class("Kettle");
        add_days("B", 1, 10);
        add_days("C", 1, 20);
        dataset_files_split(&folder, SPLIT_DEVICE_DAY, seed);
        for (size_t i = 0; i < folder.count; i++)
            mixed[i] = files[i].part;
        for (uint32_t label = 0; label < 2; label++) {
            dataset_files_split(&folder, label == 0 ? SPLIT_DAY : SPLIT_DEVICE, seed);
            for (size_t i = 0; i < folder.count; i++)
                assert_true(files[i].label != label || files[i].part == mixed[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_day_shares),
        cmocka_unit_test(test_day_split_covers_devices),
        cmocka_unit_test(test_units_are_not_divided),
        cmocka_unit_test(test_devices_are_held_out),
        cmocka_unit_test(test_one_device_is_held_out),
        cmocka_unit_test(test_single_devices_by_day),
        cmocka_unit_test(test_random_shares),
        cmocka_unit_test(test_pure_function),
        cmocka_unit_test(test_parts_of_real_sample),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
