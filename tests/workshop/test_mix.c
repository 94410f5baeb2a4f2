/* test_mix.c - rules, mixed stretches and windows, figures of sets, and a mains model from train to
 * eval on made-up appliances (mix.h, SPEC 7.26). */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "inference/model.h"
#include "inference/workshop/cli.h"
#include "inference/workshop/metrics.h"
#include "inference/workshop/mix.h"
#include "inference/workshop/truth.h"
#include "inference/workshop/workshop.h"
#include "lib_run.h"

#define RULES                                                                                      \
    "Fridge: Cold on=50 gap=16 run=60 peak=60|Boiler: Hot Hotter on=500 gap=40 run=16 peak=900 "   \
    "level=0.2 stretch=0.1"

static char root[64], data[96], rules_path[96];

/* --- a folder of appliances, five devices and days each --- */

static float power_of(const char *class, int device, int second)
{
    if (!strcmp(class, "Cold")) /* 20 minutes of 80 W or so, 20 of nothing */
        return (second + 200 * device) % 2400 < 1200 ? 80.0f + (float)device : 0.0f;
    if (!strcmp(class, "Hot")) /* 160 s of 2 kW each hour, with a pause of 24 s */
        return second % 3600 < 80 || (second % 3600 >= 104 && second % 3600 < 160) ? 2000.0f : 1.0f;
    return second % 1800 < 900 ? 300.0f : 2.0f; /* Other */
}

static int write_class(const char *class)
{
    char path[160];
    (void)snprintf(path, sizeof(path), "%s/%s", data, class);
    if (mkdir(path, 0777))
        return -1;
    for (int device = 0; device < 5; device++) {
        (void)snprintf(path, sizeof(path), "%s/%s/dev_%.1sAAAA%d_2011.09.0%d.csv", data, class,
                       class, device, device + 1);
        FILE *f = fopen(path, "w");
        if (!f)
            return -1;
        for (int t = 0; t < 36000; t += 8)
            fprintf(f, "0%d/09/2011 %02d:%02d:%02d;%.0f;0\n", device + 1, t / 3600, t / 60 % 60,
                    t % 60, (double)power_of(class, device, t));
        if (fclose(f))
            return -1;
    }
    return 0;
}

static int make_root(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof(root), "/tmp/nilm-mix-XXXXXX");
    if (!mkdtemp(root))
        return -1;
    (void)snprintf(data, sizeof(data), "%s/data", root);
    (void)snprintf(rules_path, sizeof(rules_path), "%s/x.rules", root);
    FILE *f = fopen(rules_path, "w");
    if (!f || mkdir(data, 0777) || write_class("Cold") || write_class("Hot") ||
        write_class("Other"))
        return -1;
    fputs("# two loads\nFridge: Cold on=50 gap=16 run=60 peak=60\n\nBoiler: Hot Hotter on=500 "
          "gap=40 run=16 peak=900 level=0.2 stretch=0.1 # and so on\n",
          f);
    return fclose(f);
}

static int remove_root(void **state)
{
    char command[96];
    (void)state;
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", root);
    return system(command);
}

static struct dataset *load(enum dataset_part part)
{
    struct dataset_options o;
    struct dataset *d = NULL;
    char why[256] = "";
    dataset_defaults(&o);
    o.window = 128;
    o.stride = 16;
    o.lag = 30;
    o.split = part == PART_ALL ? SPLIT_NONE : SPLIT_DAY;
    o.part = part;
    (void)snprintf(o.mix, sizeof(o.mix), "%s", RULES);
    if (dataset_load(data, &o, &d, why, sizeof(why)))
        fail_msg("%s", why);
    return d;
}

/* --- rules --- */

static void test_rules(void **state)
{
    struct mix_rules *r = malloc(sizeof(*r));
    char why[256], text[DATASET_MIX_BYTES];

    (void)state;
    assert_int_equal(mix_rules_read(rules_path, text, why, sizeof(why)), 0);
    assert_int_equal(mix_rules_parse(text, r, why, sizeof(why)), 0);
    assert_int_equal(r->count, 2);
    assert_string_equal(r->rules[0].name, "Fridge");
    assert_int_equal(r->rules[1].source_count, 2);
    assert_string_equal(r->rules[1].sources[1], "Hotter");
    assert_true(r->rules[0].on == 50 && r->rules[0].gap == 16 && r->rules[0].run == 60 &&
                r->rules[0].peak == 60 && r->rules[1].level == 0.2f && r->rules[1].stretch == 0.1f);
    assert_int_equal(mix_rules_read("/nowhere", text, why, sizeof(why)), -ENOENT);
    free(r);
}

static void test_rules_refused(void **state)
{
    static const struct {
        const char *text, *why;
    } bad[] = {{"", "a rule"},
               {"Fridge Cold on=5", "NAME: CLASS"},
               {"Fridge: on=5", "a class"},
               {"A: B on=x", "a number"},
               {"A: B on=-1", "a number"},
               {"A: B on=nan", "a number"},
               {"A: B off=1", "on, gap"},
               {"A: B on=1|C: D|A: E", "rule 3: expected each name once"},
               {"A: B C D E F G H I J", "up to eight"},
               {"A: Bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "31 bytes"},
               {"Aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa: B", "31 bytes"}};
    struct mix_rules *r = malloc(sizeof(*r));
    char why[256], many[64 * 40] = "";

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        assert_int_equal(mix_rules_parse(bad[i].text, r, why, sizeof(why)), -EINVAL);
        if (!strstr(why, bad[i].why))
            fail_msg("\"%s\" does not say \"%s\"", why, bad[i].why);
    }
    for (int i = 0; i < 33; i++)
        (void)snprintf(many + strlen(many), 16, "N%d: C|", i);
    assert_int_equal(mix_rules_parse(many, r, why, sizeof(why)), -EINVAL);
    assert_non_null(strstr(why, "at most 32"));
    free(r);
}

static void test_runs(void **state)
{
    const struct mix_rule rule = {.on = 10, .gap = 16, .run = 24, .peak = 50};
    /* a run with a pause of two samples; one of two samples; one that is too weak; one at the end
     * after three samples */
    const float watts[] = {0, 10, 60, 0,  9,  30, 0, 0, 0, 90, 90, 0,
                           0, 0,  40, 40, 40, 40, 0, 0, 0, 99, 99, 99};
    const char *expected = "011111000000000000000111";
    uint8_t on[24];

    (void)state;
    assert_int_equal(mix_rules_runs(&rule, watts, 24, 8000, on), 2);
    for (int i = 0; i < 24; i++)
        assert_int_equal(on[i], expected[i] - '0');
}

/* --- mixing --- */

/* Without a base and unknown loads the parts add up to the sum, and on is what the rule says. */
static void test_stretch_adds_up(void **state)
{
    const struct mix_plan plan = {.loads = 2};
    enum { COUNT = 4000 };
    struct dataset *d = load(PART_ALL);
    float *watts = malloc(COUNT * sizeof(float)), *parts = malloc(2 * COUNT * sizeof(float));
    uint32_t *on = malloc(COUNT * sizeof(*on)), seen[2] = {0}, strong[2] = {0};

    (void)state;
    for (uint32_t index = 0; index < 4; index++) {
        mix_stretch(d->mix, &plan, 5, index, COUNT, watts, on, parts);
        for (uint32_t i = 0; i < COUNT; i++) {
            assert_true(fabsf(watts[i] - parts[i] - parts[COUNT + i]) < 0.01f);
            for (uint32_t c = 0; c < 2; c++) {
                seen[c] += on[i] >> c & 1u;
                strong[c] += (on[i] >> c & 1u) && parts[c * COUNT + i] >= (c ? 500.0f : 50.0f);
                if (!(on[i] >> c & 1u))
                    assert_true(parts[c * COUNT + i] < (c ? 500.0f : 50.0f));
            }
        }
    }
    assert_true(seen[0] > COUNT / 2 && seen[1] > 100);
    assert_int_equal(strong[0], seen[0]); /* no pause inside a run */
    assert_true(strong[1] < seen[1] && strong[1] > seen[1] * 3 / 4);
    free(watts);
    free(parts);
    free(on);
    dataset_free(d);
}

/* A window is a function of its numbers, and what it says of its labelled sample shows in it. */
static void test_windows(void **state)
{
    struct dataset *d = load(PART_TRAIN);
    float a[129], b[129];
    double on_sum = 0, off_sum = 0;
    uint32_t on = 0, off = 0, same = 0;

    (void)state;
    assert_null(mix_missing(d->mix));
    for (uint32_t i = 0; i < 4000; i++) {
        uint32_t set = mix_window(d->mix, 1, 7, i, a);
        assert_true(set < 4);
        for (int t = 0; t < 129; t++)
            assert_true(isfinite(a[t]) && a[t] >= 0.0f && a[t] < 1e5f);
        if (i < 50) {
            assert_int_equal(mix_window(d->mix, 1, 7, i, b), set);
            assert_memory_equal(a, b, sizeof(a));
            (void)mix_window(d->mix, 2, 7, i, b);
            same += memcmp(a, b, sizeof(a)) == 0;
        }
        if (set & 2u) {
            on_sum += (double)a[128 - 30];
            on++;
        } else {
            off_sum += (double)a[128 - 30];
            off++;
        }
    }
    assert_int_equal(same, 0);
    assert_true(on > 200 && off > 200);
    assert_true(on_sum / on > off_sum / off + 1200.0); /* the boiler's 2 kW, more or less */
    dataset_free(d);
}

static void test_days(void **state)
{
    struct dataset *d = load(PART_VALID);
    uint32_t on[2] = {0};

    (void)state;
    assert_int_equal(d->class_count, 2);
    assert_string_equal(d->labels[1], "Boiler");
    assert_true(d->window_count > 1000);
    for (size_t i = 0; i < d->window_count; i++) {
        const struct dataset_window *w = &d->windows[i];
        assert_true(w->start + 128 <= d->traces[w->trace].count);
        assert_int_equal(w->on, d->traces[w->trace].on[w->start + 128 - 1 - 30]);
        on[0] += w->on & 1u;
        on[1] += w->on >> 1 & 1u;
    }
    assert_true(on[0] > 50 && on[1] > 5);
    dataset_free(d);
}

static void test_rule_without_a_run(void **state)
{
    struct dataset_options o;
    struct dataset *d;
    char why[256] = "";

    (void)state;
    dataset_defaults(&o);
    o.window = 128;
    o.part = PART_TRAIN; /* elsewhere a class may be missing */
    (void)snprintf(o.mix, sizeof(o.mix), "Fridge: Cold on=500");
    assert_int_equal(dataset_load(data, &o, &d, why, sizeof(why)), -EINVAL);
    assert_non_null(strstr(why, "Fridge"));
    o.lag = 128;
    (void)snprintf(o.mix, sizeof(o.mix), "Fridge: Cold on=50");
    assert_int_equal(dataset_load(data, &o, &d, why, sizeof(why)), -EINVAL);
    assert_non_null(strstr(why, "lag"));
}

/* --- figures of sets --- */

/* Class 0: right, wrong, right in the order of its probability: average precision (1 + 2/3) / 2,
 * best F1 0.8 from 0.6 down, so the threshold is 0.4 (SPEC 7.26.3). */
static void test_metrics_of_sets(void **state)
{
    const float p[5][2] = {{0.9f, 0.1f}, {0.7f, 0.1f}, {0.6f, 0.6f}, {0.2f, 0.1f}, {0.1f, 0.1f}};
    const uint32_t truth[5] = {1, 0, 1 | 2, 0, 0};
    const float other[2] = {0.8f, 0.9f};
    struct metrics *m;

    (void)state;
    assert_int_equal(metrics_create(2, &m), 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(metrics_add_set(m, p[i], truth[i]), 0);
    metrics_finish(m);
    assert_true(fabs(m->classes[0].average_precision - (1.0 + 2.0 / 3.0) / 2.0) < 1e-9);
    assert_true(fabs(m->classes[0].f1 - 0.8) < 1e-9);
    assert_true(m->classes[0].threshold == 0.4 && m->classes[1].threshold == 0.5);
    assert_true(fabs(m->classes[0].best_f1 - 0.8) < 1e-9);
    assert_true(m->classes[0].best_threshold > 0.2 && m->classes[0].best_threshold <= 0.6);
    assert_true(m->classes[1].f1 == 1.0 && m->classes[1].average_precision == 1.0);
    assert_true(fabs(m->f1_macro - 0.9) < 1e-9 && fabs(m->accuracy - 0.9) < 1e-9);
    assert_true(fabs(m->on_f1_macro - 0.9) < 1e-9);
    assert_true(m->classes[0].prevalence == 0.4);
    metrics_use_thresholds(m, other);
    assert_true(fabs(m->classes[0].f1 - 2.0 / 3.0) < 1e-9 && m->classes[1].f1 == 0.0);
    assert_true(fabs(m->f1_macro - 1.0 / 3.0) < 1e-9);
    metrics_free(m);
}

/* --- commands --- */

static void path_in(char *path, const char *name)
{
    (void)snprintf(path, 128, "%s/%s", root, name);
}

static int same_files(const char *a, const char *b)
{
    void *x, *y;
    size_t n, m;
    assert_int_equal(cli_read_file(a, 1u << 26, &x, &n), 0);
    assert_int_equal(cli_read_file(b, 1u << 26, &y, &m), 0);
    int same = n == m && !memcmp(x, y, n);
    free(x);
    free(y);
    return same;
}

static cJSON *train(const char *out, const char *threads)
{
    return run_json(
        workshop_train,
        (const char *const[]){
            "--data",   data,       "--aggregates", rules_path,   "--out",
            out,        "--window", "128",          "--widths",   "8,16",
            "--taps",   "5,3",      "--pools",      "4,4",        "--hidden",
            "16",       "--head",   "sigmoid",      "--features", "log,log-diff,linear:3000",
            "--family", "mains",    "--epochs",     "3",          "--epoch-windows",
            "4096",     "--batch",  "64",           "--stride",   "16",
            "--lag",    "30",       "--threads",    threads,      "--hop",
            "8",        "--quiet",  "--json",       NULL});
}

/* The same bytes for any number of threads; the boiler is found on other days; INT8 agrees; lag,
 * thresholds and rules are in the record. */
static void test_commands(void **state)
{
    char a[128], b[128], int8[128], value[256];
    struct model *m;

    (void)state;
    path_in(a, "a.nilm");
    path_in(b, "b");
    assert_int_equal(mkdir(b, 0777), 0);
    path_in(b, "b/a.nilm"); /* the record has the file's name */
    path_in(int8, "int8.nilm");
    cJSON *o = train(a, "1");
    assert_true(run_number(cJSON_GetObjectItem(o, "test"), "f1_macro") > 0.6);
    cJSON_Delete(o);
    cJSON_Delete(train(b, "2"));
    assert_true(same_files(a, b));
    o = run_json(workshop_quantize,
                 (const char *const[]){"--model", a, "--data", data, "--out", int8, "--golden", "2",
                                       "--calibrate", "256", "--quiet", "--json", NULL});
    const cJSON *test = cJSON_GetObjectItem(o, "test");
    assert_true(fabs(run_number(test, "f1_macro") - run_number(test, "f1_macro_fp32")) < 0.05);
    assert_true(run_number(o, "reject") == 0);
    cJSON_Delete(o);
    assert_int_equal(model_decode_file(int8, &m, value, sizeof(value)), 0);
    assert_int_equal(model_lag(m), 30);
    assert_int_equal(model_meta(m, "thresholds", value, sizeof(value)), 0);
    assert_int_equal(model_meta(m, "aggregates", value, sizeof(value)), 0);
    o = run_json(workshop_eval,
                 (const char *const[]){"--model", int8, "--data", data, "--split", "day",
                                       "--stride", "16", "--quiet", "--json", NULL});
    const cJSON *boiler = cJSON_GetArrayItem(cJSON_GetObjectItem(o, "per_class"), 1);
    assert_true(run_number(boiler, "average_precision") > 0.8);
    assert_true(fabs(run_number(boiler, "threshold") - (double)model_threshold(m, 1)) < 0.001);
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(o, "unseen")));
    cJSON_Delete(o);
    model_free(m);
    path_in(b, "pruned.nilm");
    o = run_json(workshop_prune,
                 (const char *const[]){"--model",         a,        "--data",      data,
                                       "--out",           b,        "--criterion", "taylor",
                                       "--windows",       "64",     "--ratio",     "0.3",
                                       "--steps",         "1",      "--epochs",    "1",
                                       "--epoch-windows", "512",    "--batch",     "64",
                                       "--quiet",         "--json", NULL});
    assert_true(run_number(cJSON_GetObjectItem(o, "valid"), "f1_macro") > 0.5);
    cJSON_Delete(o);
}

static void test_train_refuses(void **state)
{
    char *text;
    (void)state;
    assert_int_equal(
        run_text(workshop_train, &text,
                 (const char *const[]){"--data", data, "--aggregates", rules_path, "--out",
                                       "/nowhere", "--head", "softmax", NULL}),
        CLI_USAGE);
    free(text);
    assert_int_equal(
        run_text(workshop_train, &text,
                 (const char *const[]){"--data", data, "--aggregates", "/nowhere", "--out",
                                       "/nowhere", "--head", "sigmoid", NULL}),
        CLI_FAILED);
    free(text);
}

/* The files that mix writes: the same bytes again, columns that add up to what the truth says, and
 * runs that `truth` finds in the columns by the same rules. */
static void test_mix_command(void **state)
{
    char csv[128], again[128], runs[128], why[256];
    struct truth_rules rules = {
        .count = 2,
        .rules = {{"Fridge", 50, 60, 16000, 60000}, {"Boiler", 500, 900, 40000, 16000}}};
    struct truth said, found;

    (void)state;
    path_in(csv, "mix.csv");
    path_in(again, "again.csv");
    path_in(runs, "runs.csv");
    for (int i = 0; i < 2; i++)
        cJSON_Delete(run_json(workshop_mix,
                              (const char *const[]){"--data", data, "--rules", rules_path, "--out",
                                                    i ? again : csv, "--truth", runs, "--split",
                                                    "none", "--homes", "2", "--loads", "2",
                                                    "--unknown", "1", "--json", "--quiet", NULL}));
    assert_true(same_files(csv, again));
    assert_int_equal(truth_init(&said), 0);
    assert_int_equal(truth_init(&found), 0);
    assert_int_equal(truth_read(runs, &said, why, sizeof(why)), 0);
    assert_int_equal(truth_of_recording(csv, &rules, &found, why, sizeof(why)), 0);
    assert_true(said.run_count > 20);
    assert_true(said.start_ms == found.start_ms && said.end_ms == found.end_ms);
    size_t matched = 0;
    for (size_t i = 0; i < said.run_count; i++)
        for (size_t k = 0; k < found.run_count; k++)
            matched +=
                !strcmp(said.names[said.runs[i].appliance], found.names[found.runs[k].appliance]) &&
                said.runs[i].start_ms == found.runs[k].start_ms &&
                fabs(said.runs[i].energy_wh - found.runs[k].energy_wh) < 2.0;
    assert_true(matched >= said.run_count * 9 / 10); /* borders of recordings cut some */
    truth_free(&said);
    truth_free(&found);
}

/* --- the shipped models --- */

static const struct {
    const char *path;
    uint32_t version;
    off_t most_bytes;
} shipped[] = {{"inference/models/mains-int8.nilm", 3, 400000},
               {"inference/models/mains-pruned-int8.nilm", 4, 210000}};

static void test_shipped(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(shipped) / sizeof(shipped[0]); i++) {
        struct model *m;
        struct stat st;
        char why[256] = "", text[4096];
        if (model_decode_file(shipped[i].path, &m, why, sizeof(why)))
            fail_msg("%s", why);
        assert_int_equal(stat(shipped[i].path, &st), 0);
        assert_true(st.st_size <= shipped[i].most_bytes);
        assert_int_equal(m->dtype, MODEL_INT8);
        assert_int_equal(m->head, MODEL_SIGMOID);
        assert_string_equal(m->family, "mains");
        assert_int_equal(m->version, shipped[i].version);
        assert_int_equal(model_lag(m), m->window / 4);
        assert_true(m->golden_count >= 1 && m->reject == 0 && m->min_activity_w == 0);
        for (uint32_t c = 0; c < m->class_count; c++)
            assert_true(model_threshold(m, c) > 0.1f && model_threshold(m, c) <= 0.5f);
        assert_int_equal(model_meta(m, "attribution", text, sizeof(text)), 0);
        assert_non_null(strstr(text, "www.tracebase.org"));
        assert_int_equal(model_meta(m, "aggregates", text, sizeof(text)), 0);
        model_free(m);
    }
}

/* The sample days were in part trained on: this says that model, inputs and rules belong together,
 * not how good the model is. */
static void test_shipped_on_real_days(void **state)
{
    const char *measurements = getenv("NILM_DATA");
    char dir[512];

    (void)state;
    if (!measurements) {
        print_message("NILM_DATA is not set: no real measurements to test on\n");
        skip();
    }
    (void)snprintf(dir, sizeof(dir), "%s/tracebase/sample", measurements);
    for (size_t i = 0; i < sizeof(shipped) / sizeof(shipped[0]); i++) {
        cJSON *o =
            run_json(workshop_eval, (const char *const[]){"--model", shipped[i].path, "--data", dir,
                                                          "--quiet", "--json", NULL});
        print_message("%s: macro F1 %.3f\n", shipped[i].path, run_number(o, "f1_macro"));
        assert_true(run_number(o, "f1_macro") > 0.7);
        cJSON_Delete(o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_rules_refused),
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_stretch_adds_up),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_days),
        cmocka_unit_test(test_rule_without_a_run),
        cmocka_unit_test(test_metrics_of_sets),
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_train_refuses),
        cmocka_unit_test(test_mix_command),
        cmocka_unit_test(test_shipped),
        cmocka_unit_test(test_shipped_on_real_days),
    };

    return cmocka_run_group_tests(tests, make_root, remove_root);
}
