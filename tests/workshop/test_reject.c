/* Known or unknown: scores, thresholds, areas by hand (reject.h, reject_tally.h), and the command
 * with networks that were trained without a class. */
#include <math.h>
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

#include "inference/model.h"
#include "inference/workshop/cli.h"
#include "inference/workshop/reject.h"
#include "inference/workshop/reject_tally.h"
#include "inference/workshop/workshop.h"
#include "lib_run.h"

static void test_scores(void **state)
{
    const float logits[3] = {0, logf(2), logf(5)}, p[3] = {0.125f, 0.25f, 0.625f};
    const float one[1] = {0.7f}, zero[2] = {0, 1};
    (void)state;
    assert_float_equal(reject_score(REJECT_PROBABILITY, logits, p, 3), 0.625, 0);
    assert_float_equal(reject_score(REJECT_MARGIN, logits, p, 3), 0.375, 0);
    assert_float_equal(reject_score(REJECT_ENTROPY, logits, p, 3),
                       0.125 * log(0.125) + 0.25 * log(0.25) + 0.625 * log(0.625), 1e-6);
    assert_float_equal(reject_score(REJECT_LOGIT, logits, p, 3), log(5), 1e-6);
    assert_float_equal(reject_score(REJECT_ENERGY, logits, p, 3), log(8), 1e-6);
    assert_float_equal(reject_score(REJECT_MARGIN, one, one, 1), 0.7f, 0);
    assert_float_equal(reject_score(REJECT_ENTROPY, zero, zero, 2), 0, 0);
}

/* Class 0 has four windows, class 2 one, class 1 none: 0.125 each, and 0.5. */
static void test_threshold(void **state)
{
    const float scores[5] = {0.8f, 0.2f, 0.6f, 0.4f, 0.5f};
    const uint32_t labels[5] = {0, 0, 0, 0, 2};
    struct reject_set s;
    (void)state;
    assert_int_equal(reject_set_create(scores, labels, 5, 3, &s), 0);
    assert_float_equal(reject_share(&s, 0.2f), 0, 0);
    assert_float_equal(reject_share(&s, 0.3f), 0.125, 1e-6);
    assert_float_equal(reject_share(&s, 0.5f), 0.25, 1e-6);
    assert_float_equal(reject_share(&s, 0.55f), 0.75, 1e-6);
    assert_float_equal(reject_share(&s, 2), 1, 1e-6);
    assert_float_equal(reject_threshold(&s, 0), 0.2f, 0);
    assert_float_equal(reject_threshold(&s, 0.1), 0.2f, 0);
    assert_float_equal(reject_threshold(&s, 0.125), 0.4f, 0);
    assert_float_equal(reject_threshold(&s, 0.25), 0.5f, 0);
    assert_float_equal(reject_threshold(&s, 0.7), 0.5f, 0); /* the next would reject 0.75 */
    assert_float_equal(reject_threshold(&s, 0.75), 0.6f, 0);
    for (int i = 0; i <= 100; i++) /* never more than granted */
        assert_true(reject_share(&s, reject_threshold(&s, i / 100.0)) <= i / 100.0 + 1e-6);
    reject_set_free(&s);
    const float equal[4] = {1, 1, 1, 0.5f}, nan[2] = {NAN, 0.5f};
    const uint32_t same[4] = {0, 0, 0, 0};
    assert_int_equal(reject_set_create(equal, same, 4, 1, &s), 0);
    assert_float_equal(reject_threshold(&s, 0.9), 1, 0);
    assert_float_equal(reject_share(&s, 1), 0.25, 1e-6);
    reject_set_free(&s);
    assert_int_equal(reject_set_create(nan, same, 2, 1, &s), 0);
    assert_float_equal(reject_share(&s, 0), 0.5, 1e-6); /* what is no number is unknown */
    reject_set_free(&s);
    assert_int_equal(reject_set_create(NULL, NULL, 0, 0, &s), 0);
    assert_float_equal(reject_threshold(&s, 0.5), 0, 0);
    reject_set_free(&s);
}

static struct reject_set make(const float *scores, size_t n)
{
    uint32_t labels[16] = {0};
    struct reject_set s;
    assert_int_equal(reject_set_create(scores, labels, n, 1, &s), 0);
    return s;
}

static void test_auroc(void **state)
{
    const float known[4] = {0.9f, 0.8f, 0.5f, 0.3f}, unknown[3] = {0.1f, 0.5f, 0.85f};
    struct reject_set k = make(known, 4), u = make(unknown, 3), none = {0};
    (void)state;
    /* 0.9 beats three, 0.8 two, 0.5 one and a half, 0.3 one: of twelve */
    assert_float_equal(reject_auroc(&k, &u), 7.5 / 12, 1e-6);
    assert_float_equal(reject_auroc(&u, &k), 4.5 / 12, 1e-6);
    assert_float_equal(reject_auroc(&k, &k), 0.5, 1e-6);
    assert_float_equal(reject_auroc(&k, &none), 0.5, 0);
    reject_set_free(&k);
    reject_set_free(&u);
}

static void test_best_loss(void **state)
{
    const float known[4] = {0.9f, 0.8f, 0.7f, 0.6f}, easy[2] = {0.1f, 0.2f},
                mixed[2] = {0.5f, 0.65f};
    struct reject_set k[3] = {make(known, 4), make(known, 4), make(known, 4)};
    struct reject_set u[3] = {make(easy, 2), make(mixed, 2), make(known, 4)};
    double youden;
    (void)state;
    /* nothing known is lost below 0.6: all of easy, half of mixed */
    assert_float_equal(reject_best_loss(k, u, 2, SIZE_MAX, 0, 0.5, &youden), 0, 1e-9);
    assert_float_equal(youden, 0.75, 1e-6);
    /* mixed alone: 0.7 as threshold rejects all of it and a quarter of the known */
    double loss = reject_best_loss(k, u, 2, 0, 0, 0.5, &youden);
    assert_true(loss >= 0.25 - 1e-6 && loss < 0.26);
    assert_float_equal(youden, 0.75, 1e-6);
    assert_float_equal(reject_best_loss(k, u, 2, 0, 0, 0.2, &youden), 0, 1e-9); /* not allowed */
    assert_float_equal(youden, 0.5, 1e-6);
    assert_float_equal(reject_best_loss(k, u, 1, SIZE_MAX, 0.05, 0.05, NULL), 0.05, 1e-9);
    for (int i = 0; i < 3; i++) {
        reject_set_free(&k[i]);
        reject_set_free(&u[i]);
    }
}

/* Two classes; a device of the first under two names of its files. */
static void test_tally(void **state)
{
    static char labels[3][DATASET_LABEL_BYTES] = {"A", "Nothing", "B"};
    struct dataset_trace traces[4] = {
        {.key = (char *)"P"}, {.key = (char *)"Q"}, {.key = (char *)"P"}, {.key = (char *)"P"}};
    struct dataset_window windows[8] = {{0, 0, 0, 0}, {0, 9, 0, 0}, {1, 0, 0, 0}, {2, 0, 0, 0},
                                        {2, 9, 0, 0}, {2, 9, 0, 0}, {3, 0, 2, 0}, {3, 9, 2, 0}};
    const float scores[8] = {0.1f, 0.9f, 0.1f, 0.9f, 0.9f, 0.5f, 0.1f, 0.9f};
    struct dataset d = {.traces = traces,
                        .trace_count = 4,
                        .unknown = windows,
                        .unknown_windows = 8,
                        .unknown_labels = labels,
                        .unknown_class_count = 3};
    struct reject_tally t = {0};
    (void)state;
    assert_int_equal(reject_tally_add(&t, &d, scores, 0.5f), 0);
    assert_int_equal(t.class_count, 2);
    assert_string_equal(t.classes[0].name, "A");
    assert_int_equal(t.classes[0].windows, 6);
    assert_int_equal(t.classes[0].rejected, 2); /* 0.5 itself is not below */
    assert_int_equal(t.classes[0].devices, 2);
    assert_float_equal(t.classes[0].by_device, (1.0 / 5 + 1) / 2, 1e-9);
    assert_string_equal(t.classes[1].name, "B");
    assert_int_equal(t.classes[1].windows, 2);
    assert_float_equal(t.classes[1].by_device, 0.5, 1e-9);
    reject_tally_free(&t);
}

/* --- the command --- */

static char root[64], data[96], fold[2][96], out[96];

/* Ten days of 1600 s: a level, on for `on` of every 160 s. */
static void write_class(const char *class, const char *plug, int watts, int on)
{
    char path[192];
    snprintf(path, sizeof path, "%s/%s", data, class);
    mkdir(path, 0777);
    for (int day = 1; day <= 10; day++) {
        snprintf(path, sizeof path, "%s/%s/dev_%s_2011.09.%02d.csv", data, class, plug, day);
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        for (int t = 0; t < 1600; t += 4)
            fprintf(f, "%02d/09/2011 00:%02d:%02d;%d;0\n", day, t / 60, t % 60,
                    (t + 16 * day) % 160 < on ? watts + t % 3 : 0);
        assert_int_equal(fclose(f), 0);
    }
}

static void train(const char *path, const char *without)
{
    cJSON_Delete(run_json(
        workshop_train,
        (const char *const[]){
            "--data",   data, "--out",    path, "--without",       without,  "--window", "32",
            "--stride", "4",  "--widths", "6",  "--taps",          "5",      "--pools",  "2",
            "--hidden", "8",  "--epochs", "6",  "--epoch-windows", "480",    "--batch",  "32",
            "--shift",  "4",  "--seed",   "1",  "--quiet",         "--json", NULL}));
}

static int make_root(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/nilm-reject-XXXXXX");
    if (mkdtemp(root) == NULL)
        return -1;
    snprintf(data, sizeof data, "%s/data", root);
    snprintf(out, sizeof out, "%s/out.nilm", root);
    for (int i = 0; i < 2; i++)
        snprintf(fold[i], sizeof fold[i], "%s/fold%d.nilm", root, i);
    if (mkdir(data, 0777) != 0)
        return -1;
    write_class("Low", "AAAAA1", 60, 160);
    write_class("High", "AAAAA2", 2000, 160);
    write_class("Pulse", "AAAAA3", 2000, 48);
    write_class("Slow", "AAAAA4", 60, 80);
    train(fold[0], "Pulse");
    train(fold[1], "Slow,High");
    return 0;
}

static int remove_root(void **state)
{
    char command[96];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static void test_command(void **state)
{
    (void)state;
    cJSON *o = run_json(workshop_reject,
                        (const char *const[]){"--data", data, "--quiet", "--json", "--known-loss",
                                              "0.1", fold[0], fold[1], NULL});
    assert_float_equal(run_number(o, "known_loss"), 0.1, 1e-6);
    const cJSON *list = cJSON_GetObjectItem(o, "folds");
    assert_int_equal(cJSON_GetArraySize(list), 2);
    double unknown = 0, known = 0;
    for (int i = 0; i < 2; i++) {
        const cJSON *f = cJSON_GetArrayItem(list, i);
        assert_string_equal(cJSON_GetObjectItem(f, "without")->valuestring,
                            i ? "Slow,High" : "Pulse");
        assert_true(run_number(f, "threshold") > 0 && run_number(f, "threshold") <= 1);
        assert_true(run_number(f, "auroc") >= 0 && run_number(f, "auroc") <= 1);
        unknown += run_number(f, "unknown_rejected") / 2;
        known += run_number(f, "known_rejected") / 2;
    }
    assert_float_equal(run_number(o, "unknown_rejected"), unknown, 1e-9);
    assert_float_equal(run_number(o, "known_rejected"), known, 1e-9);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(o, "scores")), REJECT_SCORES);
    assert_null(cJSON_GetObjectItem(o, "model"));
    /* a class that training left out counts as unknown for that network only */
    list = cJSON_GetObjectItem(o, "unknown");
    assert_int_equal(cJSON_GetArraySize(list), 3);
    static const char *const names[] = {"Pulse", "High", "Slow"};
    for (int i = 0; i < 3; i++) {
        const cJSON *c = cJSON_GetArrayItem(list, i);
        assert_string_equal(cJSON_GetObjectItem(c, "name")->valuestring, names[i]);
        assert_int_equal(run_number(c, "devices"), 1);
        assert_true(run_number(c, "windows") > 0 &&
                    run_number(c, "rejected") <= run_number(c, "windows"));
    }
    cJSON_Delete(o);
    /* found, not given: within what is allowed */
    o = run_json(workshop_reject,
                 (const char *const[]){"--data", data, "--quiet", "--json", "--most-loss", "0.2",
                                       fold[0], fold[1], NULL});
    assert_in_range((int)(1000 * run_number(o, "known_loss")), 0, 200);
    assert_true(run_number(o, "youden") >= 0);
    cJSON_Delete(o);
}

/* The threshold is in the file, and eval finds the same numbers with it. */
static void test_writes_the_threshold(void **state)
{
    struct model *m;
    char why[256] = "", text[160];
    (void)state;
    cJSON *o = run_json(workshop_reject,
                        (const char *const[]){"--data", data, "--quiet", "--json", "--known-loss",
                                              "0.2", "--model", fold[0], "--out", out, NULL});
    const cJSON *t = cJSON_GetObjectItem(o, "model");
    double threshold = run_number(t, "threshold");
    assert_int_equal(model_decode_file(out, &m, why, sizeof why), 0);
    assert_true(m->reject == (float)threshold && threshold > 0);
    assert_true(run_number(t, "auroc") >= 0 && run_number(t, "auroc") <= 1);
    assert_int_equal(model_meta(m, "reject", text, sizeof text), 0);
    assert_int_equal(model_meta(m, "without", text, sizeof text), 0);
    assert_string_equal(text, "Pulse");
    model_free(m);
    const cJSON *class = cJSON_GetArrayItem(cJSON_GetObjectItem(t, "unknown"), 0);
    assert_string_equal(cJSON_GetObjectItem(class, "name")->valuestring, "Pulse");
    cJSON *e =
        run_json(workshop_eval, (const char *const[]){"--model", out, "--data", data, "--stride",
                                                      "4", "--json", "--quiet", NULL});
    assert_true(run_number(e, "unknown_windows") == run_number(class, "windows"));
    assert_true(run_number(e, "unknown_rejected") == run_number(class, "rejected"));
    cJSON_Delete(e);
    e = run_json(workshop_eval,
                 (const char *const[]){"--model", out, "--data", data, "--stride", "4", "--split",
                                       "day", "--json", "--quiet", NULL});
    assert_true(run_number(e, "windows") == run_number(t, "windows"));
    assert_true(run_number(e, "rejected_windows") == run_number(t, "rejected_windows"));
    cJSON_Delete(e);
    cJSON_Delete(o);
}

static void test_refusals(void **state)
{
    char *text, whole[96];
    (void)state;
    snprintf(whole, sizeof whole, "%s/whole.nilm", root);
    static const struct {
        int model, folds, output;
        int code;
    } cases[] = {{0, 0, 0, CLI_USAGE}, {0, 1, 1, CLI_USAGE}, {0, 2, 0, CLI_FAILED}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *arguments[12] = {"--data", data, "--quiet", NULL};
        int n = 3;
        if (cases[i].output) {
            arguments[n++] = "--out";
            arguments[n++] = out;
        }
        if (cases[i].folds == 1)
            arguments[n++] = fold[0];
        if (cases[i].folds == 2)
            arguments[n++] = whole; /* not there */
        assert_int_equal(run_text(workshop_reject, &text, arguments), cases[i].code);
        assert_string_equal(text, "");
        free(text);
    }
    /* a model that was trained with every class has nothing to say */
    cJSON_Delete(run_json(
        workshop_train,
        (const char *const[]){"--data",          data, "--out",    whole,    "--window", "32",
                              "--stride",        "16", "--widths", "4",      "--taps",   "3",
                              "--pools",         "2",  "--hidden", "4",      "--epochs", "1",
                              "--epoch-windows", "64", "--quiet",  "--json", NULL}));
    const char *const arguments[] = {"--data", data, "--quiet", whole, NULL};
    assert_int_equal(run_text(workshop_reject, &text, arguments), CLI_FAILED);
    free(text);
    const char *const unknown[] = {"--data",    data,     "--out",    out, "--quiet",
                                   "--without", "Kettle", "--epochs", "1", NULL};
    assert_int_equal(run_text(workshop_train, &text, unknown), CLI_FAILED);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scores),
        cmocka_unit_test(test_threshold),
        cmocka_unit_test(test_auroc),
        cmocka_unit_test(test_best_loss),
        cmocka_unit_test(test_tally),
        cmocka_unit_test(test_command),
        cmocka_unit_test(test_writes_the_threshold),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
