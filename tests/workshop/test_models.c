/* test_models.c - the commands train, prune, finetune, quantize from folder to file, twice with the
 * same bytes; and the shipped models: they decode, reproduce their golden vectors, name their
 * source, and recognise real traces (NILM_DATA). */
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

#include "inference/engine.h"
#include "inference/model.h"
#include "inference/workshop/cli.h"
#include "inference/workshop/dataset.h"
#include "inference/workshop/runner.h"
#include "inference/workshop/workshop.h"

static char folder[64];

/* --- Made-up days in tracebase's layout: a lamp that blinks slowly, a kettle that comes and goes
 * --- */

static void write_day(const char *label, int device, int day, uint32_t on, uint32_t off, int watts)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/data", folder);
    (void)mkdir(path, 0700);
    (void)snprintf(path, sizeof(path), "%s/data/%s", folder, label);
    (void)mkdir(path, 0700);
    (void)snprintf(path, sizeof(path), "%s/data/%s/dev_%06X_2012.01.%02d.csv", folder, label,
                   device, day);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (uint32_t s = 0; s < 900; s++) {
        uint32_t phase = (s + (uint32_t)day * 17) % (on + off);
        int w = phase < on ? watts + (int)(s * 7 % 5) : 0;
        fprintf(f, "%02d/01/2012 10:%02u:%02u;%d;%d\n", day, s / 60, s % 60, w, w);
    }
    assert_int_equal(fclose(f), 0);
}

static int make_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof(folder), "/tmp/nilm-test-models-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    for (int day = 1; day <= 8; day++) {
        write_day("Lamp", 0xA1, day, 40, 30, 60);
        write_day("Kettle", 0xB2, day, 15, 60, 2000);
    }
    return 0;
}

static int remove_folder(void **state)
{
    char command[128];
    (void)state;
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    return system(command);
}

/* Runs a command; {F} at the start of an argument stands for the folder. Standard output goes to a
 * file in it. */
static int run(int (*command)(int, char **), const char *const *words)
{
    char storage[40][192];
    char *argv[41];
    int argc = 0, code, keep = dup(STDOUT_FILENO);
    for (; words[argc]; argc++) {
        int placed = !strncmp(words[argc], "{F}", 3);
        (void)snprintf(storage[argc], sizeof(storage[0]), "%s%s", placed ? folder : "",
                       words[argc] + (placed ? 3 : 0));
        argv[argc] = storage[argc];
    }
    argv[argc] = NULL;
    fflush(stdout);
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/stdout", folder);
    assert_non_null(freopen(path, "w", stdout));
    code = command(argc, argv);
    fflush(stdout);
    (void)dup2(keep, STDOUT_FILENO);
    (void)close(keep);
    return code;
}

static int same_bytes(const char *a, const char *b)
{
    char path[192];
    void *x, *y;
    size_t n, m;
    (void)snprintf(path, sizeof(path), "%s/%s", folder, a);
    assert_int_equal(cli_read_file(path, 1 << 24, &x, &n), 0);
    (void)snprintf(path, sizeof(path), "%s/%s", folder, b);
    assert_int_equal(cli_read_file(path, 1 << 24, &y, &m), 0);
    int same = n == m && !memcmp(x, y, n);
    free(x);
    free(y);
    return same;
}

#define SMALL                                                                                      \
    "--window", "96", "--period-ms", "1000", "--stride", "16", "--widths", "6,8", "--taps", "5,3", \
        "--pools", "4,2", "--hidden", "12", "--batch", "32", "--epoch-windows", "480", "--shift",  \
        "16", "--quiet"

static void test_from_folder_to_int8(void **state)
{
    (void)state;
    const char *train[] = {"train",         "--data",   "{F}/data", "--out",     "{F}/a.nilm",
                           SMALL,           "--epochs", "5",        "--threads", "1",
                           "--attribution", "made up",  "--json",   NULL};
    const char *again[] = {"train",         "--data",   "{F}/data", "--out",     "{F}/a.nilm",
                           SMALL,           "--epochs", "5",        "--threads", "1",
                           "--attribution", "made up",  "--json",   NULL};
    assert_int_equal(run(workshop_train, train), CLI_DONE);
    char path[128], copy[128], why[256] = "";
    (void)snprintf(path, sizeof(path), "%s/a.nilm", folder);
    (void)snprintf(copy, sizeof(copy), "%s/first.nilm", folder);
    assert_int_equal(rename(path, copy), 0);
    assert_int_equal(run(workshop_train, again), CLI_DONE);
    assert_true(same_bytes("a.nilm", "first.nilm"));

    const char *prune[] = {"prune",   "--model", "{F}/a.nilm", "--out", "{F}/p.nilm",
                           "--ratio", "0.3",     "--least",    "2",     NULL};
    assert_int_equal(run(workshop_prune, prune), CLI_DONE);
    const char *tune[] = {
        "finetune",   "--model",  "{F}/p.nilm", "--data",  "{F}/data", "--out",
        "{F}/f.nilm", "--epochs", "3",          "--batch", "32",       "--epoch-windows",
        "480",        "--shift",  "16",         "--quiet", NULL};
    assert_int_equal(run(workshop_finetune, tune), CLI_DONE);
    const char *quantize[] = {"quantize", "--model",    "{F}/f.nilm",  "--data",  "{F}/data",
                              "--out",    "{F}/q.nilm", "--calibrate", "64",      "--golden",
                              "3",        "--version",  "2",           "--quiet", NULL};
    assert_int_equal(run(workshop_quantize, quantize), CLI_DONE);

    struct model *m;
    struct engine *e;
    char text[512];
    (void)snprintf(path, sizeof(path), "%s/q.nilm", folder);
    assert_int_equal(model_decode_file(path, &m, why, sizeof(why)), 0);
    assert_int_equal(m->dtype, MODEL_INT8);
    assert_int_equal(m->version, 2);
    assert_int_equal(m->class_count, 2);
    assert_int_equal(m->golden_count, 3);
    assert_true(m->reject > 0.0f && m->reject < 1.0f);
    assert_int_equal(model_meta(m, "attribution", text, sizeof(text)), 0);
    assert_string_equal(text, "made up");
    assert_int_equal(model_meta(m, "train_command", text, sizeof(text)), 0);
    assert_true(strstr(text, "--data DIR") && !strstr(text, folder));
    assert_int_equal(engine_create(m, 0, &e, why, sizeof(why)), 0);
    assert_int_equal(engine_selftest(e), 0);
    engine_free(e);
    model_free(m);
}

/* Every way to prune and to quantize works from the command line; --json names each layer's error.
 */
static void test_choices(void **state)
{
    (void)state;
    const char *taylor[] = {"prune",   "--model", "{F}/a.nilm", "--out",     "{F}/t.nilm",
                            "--ratio", "0.3",     "--least",    "2",         "--criterion",
                            "taylor",  "--scope", "local",      "--protect", "conv1",
                            "--align", "4",       "--data",     "{F}/data",  "--windows",
                            "64",      "--quiet", "--json",     NULL};
    const char *quantize[] = {
        "quantize",   "--model",       "{F}/t.nilm", "--data",     "{F}/data", "--out",
        "{F}/u.nilm", "--calibrate",   "64",         "--golden",   "2",        "--quiet",
        "--json",     "--calibration", "mse",        "--rounding", "nearest",  "--bias",
        "correct",    "--report",      NULL};
    char path[128];
    void *data;
    size_t size;

    assert_int_equal(run(workshop_prune, taylor), CLI_DONE);
    assert_int_equal(run(workshop_quantize, quantize), CLI_DONE);
    (void)snprintf(path, sizeof(path), "%s/stdout", folder);
    assert_int_equal(cli_read_file(path, 1 << 20, &data, &size), 0);
    cJSON *j = cJSON_ParseWithLength(data, size), *layers = cJSON_GetObjectItem(j, "layers");
    assert_int_equal(cJSON_GetArraySize(layers), 4);
    const cJSON *test = cJSON_GetObjectItem(j, "test");
    const double inputs = cJSON_GetObjectItem(test, "same_first_class_inputs")->valuedouble;
    assert_true(inputs > 0.9 && inputs <= 1.0);
    const char *const names[4] = {"conv1", "conv2", "dense1", "dense2"};
    for (int i = 0; i < 4; i++) {
        const cJSON *l = cJSON_GetArrayItem(layers, i);
        assert_string_equal(cJSON_GetObjectItem(l, "name")->valuestring, names[i]);
        assert_true(cJSON_GetObjectItem(l, "own_db")->valuedouble > 10.0);
        assert_true(cJSON_GetObjectItem(l, "total_db")->valuedouble > 5.0);
        assert_true(!cJSON_GetObjectItem(l, "in_high") == (i == 0));  /* features: each its own */
        assert_true(!cJSON_GetObjectItem(l, "out_high") == (i == 3)); /* logits: not rounded */
        if (i > 0 && i < 3) /* pools and flattening between change no range */
            assert_true(
                cJSON_GetObjectItem(l, "in_high")->valuedouble ==
                cJSON_GetObjectItem(cJSON_GetArrayItem(layers, i - 1), "out_high")->valuedouble);
        assert_true(cJSON_GetObjectItem(l, "fp32_high")->valuedouble >
                    cJSON_GetObjectItem(l, "fp32_low")->valuedouble);
    }
    cJSON_Delete(j);
    free(data);
}

static cJSON *printed(void)
{
    char path[128];
    void *data;
    size_t size;

    (void)snprintf(path, sizeof(path), "%s/stdout", folder);
    assert_int_equal(cli_read_file(path, 1 << 20, &data, &size), 0);
    cJSON *j = cJSON_ParseWithLength(data, size);
    assert_non_null(j);
    free(data);
    return j;
}

static double figure(const cJSON *j, const char *part, const char *key)
{
    const cJSON *o = part ? cJSON_GetObjectItem(j, part) : j;
    const cJSON *n = cJSON_GetObjectItem(o, key);
    assert_true(cJSON_IsNumber(n));
    return n->valuedouble;
}

/* Quantization-aware fine-tuning ends in a file that reproduces its golden vectors, twice the same;
 * its options are refused without it. */
static void test_quantization_aware(void **state)
{
    (void)state;
    const char *aware[] = {"quantize",   "--model", "{F}/a.nilm",  "--data", "{F}/data", "--out",
                           "{F}/w.nilm", "--qat",   "--calibrate", "64",     "--golden", "2",
                           "--epochs",   "2",       "--batch",     "32",     "--rate",   "0.001",
                           "--json",     "--quiet", NULL};
    const char *lone[] = {"quantize", "--model",    "{F}/a.nilm", "--data", "{F}/data",
                          "--out",    "{F}/v.nilm", "--epochs",   "2",      NULL};
    char first[128], second[128], why[256] = "", text[1024];
    void *a, *b;
    size_t a_size, b_size;
    struct model *m;
    struct engine *e;

    (void)snprintf(first, sizeof(first), "%s/w.nilm", folder);
    (void)snprintf(second, sizeof(second), "%s/w1.nilm", folder);
    assert_int_equal(run(workshop_quantize, aware), CLI_DONE);
    assert_int_equal(rename(first, second), 0);
    assert_int_equal(run(workshop_quantize, aware), CLI_DONE);
    cJSON *j = printed();
    assert_in_range((int)figure(j, NULL, "best_epoch"), 0, 2);
    assert_true(figure(j, "test", "same_first_class") > 0.8);
    cJSON_Delete(j);
    assert_int_equal(cli_read_file(first, 1 << 20, &a, &a_size), 0);
    assert_int_equal(cli_read_file(second, 1 << 20, &b, &b_size), 0);
    assert_int_equal(a_size, b_size);
    assert_memory_equal(a, b, a_size);
    if (model_decode(a, a_size, &m, why, sizeof(why)))
        fail_msg("%s", why);
    assert_int_equal(model_meta(m, "quantize_command", text, sizeof(text)), 0);
    assert_non_null(strstr(text, "--qat"));
    assert_int_equal(engine_create(m, 0, &e, NULL, 0), 0);
    assert_int_equal(engine_selftest(e), 0);
    engine_free(e);
    model_free(m);
    free(a);
    free(b);
    assert_int_equal(run(workshop_quantize, lone), CLI_USAGE);
}

#define TUNE                                                                                       \
    "--steps", "2", "--epochs-per-step", "1", "--epochs", "2", "--batch", "32", "--epoch-windows", \
        "480", "--shift", "16", "--quiet", "--json"

/* Pruning with fine-tuning, to a size and to a loss of F1; what was measured on the source is not
 * said of the result. */
static void test_prune_in_steps(void **state)
{
    (void)state;
    const char *steps[] = {"prune",  "--model",  "{F}/a.nilm", "--out", "{F}/s.nilm",
                           "--data", "{F}/data", "--ratio",    "0.3",   "--least",
                           "2",      TUNE,       NULL};
    const char *search[] = {"prune",      "--model",  "{F}/a.nilm", "--out",
                            "{F}/d.nilm", "--data",   "{F}/data",   "--target-f1-drop",
                            "0.2",        "--probes", "3",          "--least",
                            "2",          TUNE,       NULL};
    const char *plain[] = {"prune",      "--model", "{F}/s.nilm", "--out",
                           "{F}/n.nilm", "--ratio", "0",          NULL};
    char path[128], text[512], figures[128];
    struct model *m;

    assert_int_equal(run(workshop_prune, steps), CLI_DONE);
    cJSON *j = printed();
    assert_true(figure(j, NULL, "parameters") < figure(j, NULL, "parameters_before"));
    (void)snprintf(figures, sizeof(figures), "f1_macro %.4f", figure(j, "valid", "f1_macro"));
    (void)snprintf(path, sizeof(path), "%s/s.nilm", folder);
    assert_int_equal(model_decode_file(path, &m, NULL, 0), 0);
    assert_int_equal(model_meta(m, "fp32_valid", text, sizeof(text)), 0);
    assert_non_null(strstr(text, figures));
    assert_int_equal(model_meta(m, "prune_command", text, sizeof(text)), 0);
    model_free(m);
    cJSON_Delete(j);

    assert_int_equal(run(workshop_prune, search), CLI_DONE);
    j = printed();
    assert_true(figure(j, "valid", "f1_macro") >= figure(j, "valid_before", "f1_macro") - 0.2);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(j, "probes")), 3);
    cJSON_Delete(j);

    assert_int_equal(run(workshop_prune, plain), CLI_DONE);
    (void)snprintf(path, sizeof(path), "%s/n.nilm", folder);
    assert_int_equal(model_decode_file(path, &m, NULL, 0), 0);
    assert_int_equal(model_meta(m, "fp32_valid", text, sizeof(text)), -ENOENT);
    assert_int_equal(model_meta(m, "split", text, sizeof(text)), 0);
    model_free(m);
}

static void test_sensitivity(void **state)
{
    (void)state;
    const char *sweep[] = {"prune",    "--model",       "{F}/a.nilm", "--data",
                           "{F}/data", "--sensitivity", "--csv",      "{F}/sweep.csv",
                           "--quiet",  "--json",        NULL};
    char path[128], line[128];
    int lines = 0;

    assert_int_equal(run(workshop_prune, sweep), CLI_DONE);
    cJSON *j = printed();
    const cJSON *rows = cJSON_GetObjectItem(j, "sensitivity"), *row = cJSON_GetArrayItem(rows, 9);
    assert_int_equal(cJSON_GetArraySize(rows), 3 * 9); /* two convolutions, a hidden layer */
    assert_string_equal(cJSON_GetObjectItem(row, "layer")->valuestring, "conv2");
    assert_true(figure(row, NULL, "channels") == 7.0); /* 10 % of 8 */
    cJSON_Delete(j);
    (void)snprintf(path, sizeof(path), "%s/sweep.csv", folder);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    for (; fgets(line, sizeof(line), f); lines++)
        assert_true(lines || !strcmp(line, "layer,ratio,channels,parameters,f1_macro,accuracy,"
                                           "bce,cross_entropy\n"));
    assert_int_equal(lines, 28);
    (void)fclose(f);
}

static void test_wrong_usage(void **state)
{
    (void)state;
    const char *none[] = {"train", NULL};
    const char *features[] = {"train",      "--data",     "{F}/data", "--out",
                              "{F}/x.nilm", "--features", "volts",    NULL};
    const char *lists[] = {"train",      "--data",   "{F}/data", "--out",
                           "{F}/x.nilm", "--widths", "8,8,8",    NULL};
    const char *missing[] = {"train",      "--data",  "{F}/nowhere", "--out",
                             "{F}/x.nilm", "--quiet", NULL};
    const char *model[] = {"prune", "--model", "{F}/nowhere.nilm", "--out", "{F}/x.nilm", NULL};
    assert_int_equal(run(workshop_train, none), CLI_USAGE);
    assert_int_equal(run(workshop_train, features), CLI_USAGE);
    assert_int_equal(run(workshop_train, lists), CLI_USAGE);
    assert_int_equal(run(workshop_train, missing), CLI_FAILED);
    assert_int_equal(run(workshop_prune, model), CLI_FAILED);
    const char *taylor[] = {"prune",      "--model",     "{F}/a.nilm", "--out",
                            "{F}/x.nilm", "--criterion", "taylor",     NULL};
    const char *protect[] = {"prune",      "--model",   "{F}/a.nilm", "--out",
                             "{F}/x.nilm", "--protect", "conv9",      NULL};
    const char *percentile[] = {"quantize", "--model",    "{F}/a.nilm",   "--data", "{F}/data",
                                "--out",    "{F}/x.nilm", "--percentile", "99.9",   NULL};
    const char *two[] = {"prune",   "--model", "{F}/a.nilm",      "--out", "{F}/x.nilm",
                         "--ratio", "0.5",     "--target-params", "50",    NULL};
    const char *steps[] = {"prune",      "--model", "{F}/a.nilm", "--out",
                           "{F}/x.nilm", "--steps", "2",          NULL};
    const char *sweep[] = {"prune",  "--model",  "{F}/a.nilm",    "--out", "{F}/x.nilm",
                           "--data", "{F}/data", "--sensitivity", NULL};
    const char *resume[] = {"prune",      "--model",  "{F}/a.nilm", "--out",
                            "{F}/x.nilm", "--resume", NULL};
    assert_int_equal(run(workshop_prune, resume), CLI_USAGE);
    const char *nowhere[] = {"prune", "--model", "{F}/a.nilm", NULL};
    assert_int_equal(run(workshop_prune, two), CLI_USAGE);
    assert_int_equal(run(workshop_prune, steps), CLI_USAGE);
    assert_int_equal(run(workshop_prune, sweep), CLI_USAGE);
    assert_int_equal(run(workshop_prune, nowhere), CLI_USAGE);
    assert_int_equal(run(workshop_prune, taylor), CLI_USAGE);
    assert_int_equal(run(workshop_prune, protect), CLI_FAILED);
    assert_int_equal(run(workshop_quantize, percentile), CLI_USAGE);
}

/* --- The shipped models --- */

static const struct {
    const char *path;
    uint32_t version;
    long most_bytes;
} shipped[] = {{"inference/models/identify-int8.nilm", 1, 260000},
               {"inference/models/identify-pruned-int8.nilm", 2, 80000}};

static void test_shipped(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(shipped) / sizeof(shipped[0]); i++) {
        struct model *m;
        struct engine *e;
        struct stat st;
        char why[256] = "", text[512];
        if (model_decode_file(shipped[i].path, &m, why, sizeof(why)))
            fail_msg("%s", why);
        assert_int_equal(stat(shipped[i].path, &st), 0);
        assert_true(st.st_size <= shipped[i].most_bytes);
        assert_int_equal(m->dtype, MODEL_INT8);
        assert_int_equal(m->head, MODEL_SOFTMAX);
        assert_string_equal(m->family, "identify");
        assert_int_equal(m->version, shipped[i].version);
        assert_true(m->class_count >= 32);
        assert_true(m->golden_count >= 1);
        assert_true(m->reject > 0.0f && m->reject < 1.0f);
        assert_int_equal(model_meta(m, "attribution", text, sizeof(text)), 0);
        assert_non_null(strstr(text, "www.tracebase.org"));
        assert_int_equal(model_meta(m, "quantize_command", text, sizeof(text)), 0);
        assert_int_equal(engine_create(m, 0, &e, why, sizeof(why)), 0);
        assert_int_equal(engine_selftest(e), 0);
        engine_free(e);
        model_free(m);
    }
}

/* The sample days were in part trained on: this says that model, features and grid belong together,
 * not how good the model is. */
static void test_shipped_on_real_days(void **state)
{
    (void)state;
    const char *data = getenv("NILM_DATA");
    char dir[512], why[512] = "";
    if (!data) {
        print_message("NILM_DATA is not set: no real measurements to test on\n");
        skip();
    }
    (void)snprintf(dir, sizeof(dir), "%s/tracebase/sample", data);
    for (size_t i = 0; i < sizeof(shipped) / sizeof(shipped[0]); i++) {
        struct model *m;
        struct runner *r;
        struct dataset *d;
        struct dataset_options o;
        size_t right = 0;
        if (model_decode_file(shipped[i].path, &m, why, sizeof(why)))
            fail_msg("%s", why);
        dataset_defaults(&o);
        o.window = m->window;
        o.period_ms = m->period_ms;
        o.min_activity_w = m->min_activity_w;
        o.labels = m->labels;
        o.label_count = m->class_count;
        if (dataset_load(dir, &o, &d, why, sizeof(why)) || runner_create(m, &r, why, sizeof(why)))
            fail_msg("%s", why);
        float *watts = malloc((m->window + 1u) * sizeof(float)),
              *p = malloc(m->class_count * sizeof(float));
        for (size_t k = 0; k < d->window_count; k++) {
            uint32_t best = 0;
            dataset_copy(d, &d->windows[k], 0, watts);
            runner_windows(r, watts, 1, p);
            for (uint32_t c = 1; c < m->class_count; c++)
                best = p[c] > p[best] ? c : best;
            right += best == d->windows[k].label;
        }
        print_message("%s: %zu of %zu windows right\n", shipped[i].path, right, d->window_count);
        assert_true(d->window_count > 500);
        assert_true((double)right > 0.85 * (double)d->window_count);
        free(watts);
        free(p);
        dataset_free(d);
        runner_free(r);
        model_free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_from_folder_to_int8),
                                       cmocka_unit_test(test_choices),
                                       cmocka_unit_test(test_quantization_aware),
                                       cmocka_unit_test(test_prune_in_steps),
                                       cmocka_unit_test(test_sensitivity),
                                       cmocka_unit_test(test_wrong_usage),
                                       cmocka_unit_test(test_shipped),
                                       cmocka_unit_test(test_shipped_on_real_days)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
