/* eval, bench and inspect as programs see them: exit codes, JSON keys, figures that can be worked
 * out (workshop.h). */
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

#include "inference/workshop/cli.h"
#include "inference/workshop/convert.h"
#include "inference/workshop/net.h"
#include "inference/workshop/workshop.h"
#include "lib/small_model.h"
#include "lib_run.h"

static char root[64], model_path[96], data_path[96];

/* A trace of 1600 s, on at `watts` in the second half. */
static void write_trace(const char *class, const char *device, int watts)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", data_path, class);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/%s/dev_%s_2011.09.01.csv", data_path, class, device);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int t = 0; t < 1600; t += 4)
        fprintf(f, "01/09/2011 00:%02d:%02d;%d;0\n", t / 60, t % 60, t < 800 ? 0 : watts);
    assert_int_equal(fclose(f), 0);
}

static void write_model(int swap)
{
    void *data;
    size_t size;
    small_model_encode(7, swap, 2, 0, &data, &size);
    small_model_write(model_path, data, size);
    free(data);
}

static int make_root(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/nilm-commands-XXXXXX");
    if (mkdtemp(root) == NULL)
        return -1;
    snprintf(model_path, sizeof model_path, "%s/m.nilm", root);
    snprintf(data_path, sizeof data_path, "%s/data", root);
    return mkdir(data_path, 0777);
}

static int remove_root(void **state)
{
    char command[96];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

#define EVAL(...)                                                                                  \
    run_json(workshop_eval, (const char *const[]){"--model", model_path, "--data", data_path,      \
                                                  "--json", "--quiet", __VA_ARGS__, NULL})

static void test_eval_figures(void **state)
{
    (void)state;
    write_model(0);
    write_trace("Low", "AAAAAA", 60);
    write_trace("High", "AAAAAB", 2000);
    write_trace("Other", "AAAAAC", 60);
    cJSON *o = EVAL("--stride", "4");
    /* 199 cells, the last 99 on; starts 0, 4, ... 180 with four samples on or more: 88, 92, ... 180
     */
    assert_int_equal(run_number(o, "windows"), 48);
    assert_int_equal(run_number(o, "unknown_windows"), 24);
    assert_int_equal(run_number(o, "classes"), 3);
    assert_true(run_number(o, "accuracy") == 1 && run_number(o, "f1_macro") == 1 &&
                run_number(o, "f1_weighted") == 1);
    assert_true(run_number(o, "bce") >= 0 && run_number(o, "bce") < 0.5 &&
                run_number(o, "latency_us") >= 0);
    struct stat status;
    assert_int_equal(stat(model_path, &status), 0);
    assert_int_equal(run_number(o, "size_bytes"), status.st_size);
    const cJSON *list = cJSON_GetObjectItem(o, "per_class"), *item;
    assert_int_equal(cJSON_GetArraySize(list), 3);
    static const char *const names[] = {"Low", "High", "Never"};
    int i = 0;
    cJSON_ArrayForEach(item, list)
    {
        assert_string_equal(cJSON_GetObjectItem(item, "name")->valuestring, names[i]);
        assert_int_equal(run_number(item, "support"), i < 2 ? 24 : 0);
        assert_true(run_number(item, "precision") == (i < 2) &&
                    run_number(item, "recall") == (i < 2) && run_number(item, "f1") == (i < 2));
        i++;
    }
    cJSON_Delete(o);
    write_model(1); /* labels exchanged: always wrong */
    o = EVAL("--stride", "4", "--confusion");
    assert_true(run_number(o, "accuracy") == 0 && run_number(o, "f1_macro") == 0);
    const cJSON *row = cJSON_GetArrayItem(cJSON_GetObjectItem(o, "confusion"), 0);
    assert_int_equal(cJSON_GetArrayItem(row, 1)->valueint, 24);
    cJSON_Delete(o);
}

/* The number of threads changes nothing but the latency. */
static void test_eval_is_deterministic(void **state)
{
    char *text[2];
    (void)state;
    write_model(0);
    write_trace("Low", "AAAAAA", 480);
    write_trace("High", "AAAAAB", 520);
    for (int i = 0; i < 2; i++) {
        cJSON *o = EVAL("--stride", "1", "--threads", i ? "4" : "1");
        assert_true(run_number(o, "windows") > 100);
        cJSON_DeleteItemFromObject(o, "latency_us");
        cJSON_DeleteItemFromObject(o, "hop_us");
        text[i] = cJSON_Print(o);
        cJSON_Delete(o);
    }
    assert_string_equal(text[0], text[1]);
    free(text[0]);
    free(text[1]);
}

/* The small model with another head or threshold. */
static void change_model(enum model_head head, float reject)
{
    char why[256] = "";
    struct model *m, copy;
    void *data;
    size_t size;
    write_model(0);
    assert_int_equal(model_decode_file(model_path, &m, why, sizeof why), 0);
    copy = *m;
    copy.head = head;
    copy.reject = reject;
    copy.owner = NULL;
    assert_int_equal(model_encode(&copy, &data, &size, why, sizeof why), 0);
    small_model_write(model_path, data, size);
    free(data);
    model_free(m);
}

/* A sigmoid head is judged by its first class, and each class by itself: at 520 W High has 0.6, Low
 * 0.4; at 450 W it is the other way round. */
static void test_eval_sigmoid(void **state)
{
    (void)state;
    change_model(MODEL_SIGMOID, 0.5f);
    write_trace("Low", "AAAAAA", 60);
    write_trace("High", "AAAAAB", 520);
    cJSON *o = EVAL("--stride", "4");
    assert_true(run_number(o, "f1_macro") == 1 && run_number(o, "on_f1_macro") == 1);
    cJSON_Delete(o);
    write_trace("High", "AAAAAC", 450); /* half of High is taken for Low, by both measures */
    o = EVAL("--stride", "4");
    assert_float_equal(run_number(o, "accuracy"), 48.0 / 72, 1e-5);
    assert_float_equal(run_number(o, "on_f1_macro"), 2.0 / 3, 1e-5);
    const cJSON *low = cJSON_GetArrayItem(cJSON_GetObjectItem(o, "per_class"), 0);
    assert_float_equal(run_number(low, "on_f1"), 2 * 24.0 / (48 + 24), 1e-5);
    cJSON_Delete(o);
    write_model(0);
    o = EVAL("--stride", "4");
    assert_null(cJSON_GetObjectItem(o, "on_f1_macro"));
    cJSON_Delete(o);
}

/* 520 W is near the border of Low and High: 0.69 for the better one, below a threshold of 0.9. */
static void test_eval_unknown_and_reference(void **state)
{
    char reference[128];
    void *data;
    size_t size;
    (void)state;
    change_model(MODEL_SOFTMAX, 0.9f);
    write_trace("Low", "AAAAAA", 60);
    write_trace("High", "AAAAAB", 2000);
    write_trace("Other", "AAAAAC", 520);
    write_trace("Strange", "AAAAAD", 2000);
    cJSON *o = EVAL("--stride", "4");
    assert_int_equal(run_number(o, "rejected_windows"), 0);
    assert_int_equal(run_number(o, "unknown_windows"), 48);
    assert_int_equal(run_number(o, "unknown_rejected"), 24);
    const cJSON *list = cJSON_GetObjectItem(o, "unknown");
    assert_int_equal(cJSON_GetArraySize(list), 2);
    assert_string_equal(cJSON_GetObjectItem(cJSON_GetArrayItem(list, 0), "name")->valuestring,
                        "Other");
    assert_int_equal(run_number(cJSON_GetArrayItem(list, 0), "rejected"), 24);
    assert_int_equal(run_number(cJSON_GetArrayItem(list, 1), "rejected"), 0);
    assert_int_equal(run_number(o, "parameters"), 6);
    assert_int_equal(run_number(o, "macs"), 3);
    assert_true(run_number(o, "hop_us") > 0 && run_number(o, "hop_samples") == 4);
    assert_true(run_number(o, "ece") < 0.01);
    list = cJSON_GetObjectItem(o, "reliability");
    assert_int_equal(cJSON_GetArraySize(list), 1);
    assert_int_equal(run_number(cJSON_GetArrayItem(list, 0), "windows"), 48);
    assert_null(cJSON_GetObjectItem(o, "same_first_class"));
    list = cJSON_GetObjectItem(o, "per_class");
    assert_int_equal(run_number(cJSON_GetArrayItem(list, 0), "devices"), 1);
    assert_int_equal(run_number(cJSON_GetArrayItem(list, 2), "devices"), 0);
    cJSON_Delete(o);
    /* against itself, and against the one that exchanges the names: by name, not by number */
    o = EVAL("--stride", "4", "--reference", model_path);
    assert_true(run_number(o, "same_first_class") == 1);
    cJSON_Delete(o);
    snprintf(reference, sizeof reference, "%s/r.nilm", root);
    small_model_encode(7, 1, 0, 0, &data, &size);
    small_model_write(reference, data, size);
    free(data);
    o = EVAL("--stride", "4", "--reference", reference);
    assert_true(run_number(o, "same_first_class") == 0);
    cJSON_Delete(o);
    small_model_write(reference, "NILM", 4);
    char *text;
    const char *const arguments[] = {"--model",     model_path, "--data",  data_path,
                                     "--reference", reference,  "--quiet", NULL};
    assert_int_equal(run_text(workshop_eval, &text, arguments), CLI_FAILED);
    free(text);
}

/* A random split says that it is weak, and is never unseen. */
static void test_eval_random_split(void **state)
{
    double windows = 0;
    (void)state;
    write_model(0);
    write_trace("Low", "AAAAAA", 60);
    write_trace("High", "AAAAAB", 2000);
    for (int part = 0; part < 3; part++) {
        static const char *const parts[] = {"train", "valid", "test"};
        cJSON *o = EVAL("--stride", "1", "--split", "random", "--part", parts[part]);
        assert_true(cJSON_IsTrue(cJSON_GetObjectItem(o, "weak_split")));
        assert_true(cJSON_IsFalse(cJSON_GetObjectItem(o, "unseen")));
        windows += run_number(o, "windows");
        cJSON_Delete(o);
    }
    cJSON *o = EVAL("--stride", "1");
    assert_true(cJSON_IsFalse(cJSON_GetObjectItem(o, "weak_split")));
    assert_true(run_number(o, "windows") == windows);
    cJSON_Delete(o);
}

/* "unseen" is claimed only when the model was trained on the same split, and of its test part. */
static void test_eval_unseen(void **state)
{
    static const struct {
        const char *split, *part, *seed;
        int unseen;
    } cases[] = {{"day", "test", "3", 1},
                 {"day", "train", "3", 0},
                 {"day", "all", "3", 0},
                 {"day", "test", "4", 0},
                 {"device", "test", "3", 0}};
    struct model *m, copy;
    char why[256] = "", device[8];
    void *data;
    size_t size;
    (void)state;
    write_model(0);
    assert_int_equal(model_decode_file(model_path, &m, why, sizeof why), 0);
    copy = *m;
    copy.meta = "split=day\nsplit_seed=3\n";
    copy.owner = NULL;
    assert_int_equal(model_encode(&copy, &data, &size, why, sizeof why), 0);
    small_model_write(model_path, data, size);
    free(data);
    model_free(m);
    for (int i = 0; i < 30; i++) {
        snprintf(device, sizeof device, "A%05d", i);
        write_trace("Low", device, 60);
    }
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cJSON *o =
            EVAL("--split", cases[i].split, "--part", cases[i].part, "--split-seed", cases[i].seed);
        assert_int_equal(cJSON_IsTrue(cJSON_GetObjectItem(o, "unseen")), cases[i].unseen);
        cJSON_Delete(o);
    }
    cJSON *o = EVAL("--stride", "4");
    assert_false(cJSON_IsTrue(cJSON_GetObjectItem(o, "unseen")));
    cJSON_Delete(o);
}

static void test_eval_fp32(void **state)
{
    struct net_spec spec = {.head = MODEL_SOFTMAX,
                            .window = 16,
                            .channels = 1,
                            .class_count = 2,
                            .conv_count = 1,
                            .hidden_count = 1};
    static const char names[2][MODEL_LABEL_BYTES] = {"Low", "High"};
    struct net *net;
    char why[256] = "";
    (void)state;
    spec.conv[0].width = 4;
    spec.conv[0].taps = 3;
    spec.conv[0].pool = 2;
    spec.hidden[0] = 5;
    assert_int_equal(net_create(&spec, &net, why, sizeof why), 0);
    net_init(net, 1);
    struct model m = {.version = 1,
                      .family = "identify",
                      .period_ms = 8000,
                      .hop = 4,
                      .min_activity_w = 5,
                      .channel_count = 1,
                      .labels = names,
                      .meta = ""};
    m.channels[0] = (struct model_channel){.feature = MODEL_LOG, .full = 3000};
    assert_int_equal(convert_to_model(net, &m), 0);
    if (convert_write(&m, model_path, NULL, why, sizeof why) != 0)
        fail_msg("%s", why);
    write_trace("Low", "AAAAAA", 60);
    write_trace("High", "AAAAAB", 2000);
    cJSON *o = EVAL("--stride", "4");
    assert_int_equal(run_number(o, "windows"), 48);
    assert_string_equal(cJSON_GetObjectItem(o, "dtype")->valuestring, "fp32");
    /* the same figures from net.h's own forward */
    struct net_predictor *p;
    float watts[17], probabilities[2];
    struct model *decoded;
    int correct = 0;
    assert_int_equal(model_decode_file(model_path, &decoded, why, sizeof why), 0);
    assert_int_equal(net_predictor_create(decoded, &p, why, sizeof why), 0);
    for (int class = 0; class < 2; class ++) {
        for (int start = 88; start <= 180; start += 4) {
            for (int i = 0; i < 17; i++)
                watts[i] = start + i - 1 < 100 ? 0 : class ? 2000.0f : 60.0f;
            net_predict(p, watts, 1, probabilities);
            correct += (probabilities[1] > probabilities[0]) == class;
        }
    }
    assert_true(fabs(run_number(o, "accuracy") - correct / 48.0) < 1e-5);
    net_predictor_free(p);
    model_free(decoded);
    net_free(net);
    cJSON_Delete(o);
    o = run_json(workshop_bench, (const char *const[]){"--model", model_path, "--json", "--rounds",
                                                       "3", "--round-ms", "1", NULL});
    assert_string_equal(cJSON_GetObjectItem(o, "isa")->valuestring, "fp32");
    cJSON_Delete(o);
}

static void test_bench(void **state)
{
    (void)state;
    write_model(0);
    cJSON *o =
        run_json(workshop_bench, (const char *const[]){"--model", model_path, "--json", "--rounds",
                                                       "3", "--round-ms", "1", NULL});
    assert_true(cJSON_IsString(cJSON_GetObjectItem(o, "isa")));
    assert_int_equal(run_number(o, "macs"), 3);
    assert_int_equal(run_number(o, "hop_samples"), 4);
    assert_true(run_number(o, "full_us") > 0 && run_number(o, "hop_us") > 0 &&
                run_number(o, "state_bytes") > 0);
    double meters = run_number(o, "meters_per_core"), expected = 4 * 8e6 / run_number(o, "hop_us");
    assert_true(meters > 0.8 * expected &&
                meters < 1.25 * expected); /* hop_us is rounded to 10 ns */
    cJSON_Delete(o);
    o = run_json(workshop_bench,
                 (const char *const[]){"--model", model_path, "--json", "--hop", "1", "--rounds",
                                       "1", "--round-ms", "1", NULL});
    assert_int_equal(run_number(o, "hop_samples"), 1);
    cJSON_Delete(o);
    o = run_json(workshop_bench,
                 (const char *const[]){"--model", model_path, "--json", "--hops", "1,3", "--meters",
                                       "11", "--rounds", "1", "--round-ms", "1", NULL});
    double macs = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(o, "layers")) macs += run_number(item, "macs");
    assert_true(macs == 3);
    const cJSON *hops = cJSON_GetObjectItem(o, "hops");
    assert_int_equal(cJSON_GetArraySize(hops), 2);
    assert_int_equal(run_number(cJSON_GetArrayItem(hops, 1), "hop_samples"), 3);
    assert_true(run_number(o, "full_us_p99") >= run_number(o, "full_us"));
    assert_true(run_number(o, "batch_us") > 0 && run_number(o, "single_us") > 0 &&
                run_number(o, "start_us") > run_number(o, "load_us"));
    cJSON_Delete(o);
    char *text;
    assert_int_equal(run_text(workshop_bench, &text,
                              (const char *const[]){"--model", model_path, "--hops", "0", NULL}),
                     CLI_USAGE);
    free(text);
}

static void test_inspect(void **state)
{
    char *text;
    (void)state;
    write_model(0);
    cJSON *o =
        run_json(workshop_inspect, (const char *const[]){"--model", model_path, "--json", NULL});
    assert_int_equal(run_number(o, "version"), 7);
    assert_int_equal(run_number(o, "parameters"), 6);
    assert_int_equal(run_number(o, "macs"), 3);
    assert_int_equal(run_number(o, "golden"), 2);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(o, "labels")), 3);
    double parameters = 0, macs = 0;
    const cJSON *layer;
    cJSON_ArrayForEach(layer, cJSON_GetObjectItem(o, "layers"))
    {
        parameters += run_number(layer, "parameters");
        macs += run_number(layer, "macs");
    }
    assert_true(parameters == 6 && macs == 3);
    assert_string_equal(cJSON_GetObjectItem(cJSON_GetObjectItem(o, "meta"), "created")->valuestring,
                        "by a test");
    cJSON_Delete(o);
    assert_int_equal(
        run_text(workshop_inspect, &text, (const char *const[]){"--model", model_path, NULL}), 0);
    assert_non_null(strstr(text, "identify version 7"));
    assert_non_null(strstr(text, "Never"));
    free(text);
}

static void test_exit_codes(void **state)
{
    static int (*const commands[])(int, char **) = {workshop_eval, workshop_bench,
                                                    workshop_inspect};
    char *text;
    (void)state;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        assert_int_equal(run_text(commands[i], &text, (const char *const[]){"--help", NULL}),
                         CLI_DONE);
        assert_non_null(strstr(text, "--model"));
        free(text);
        assert_int_equal(run_text(commands[i], &text, (const char *const[]){NULL}), CLI_USAGE);
        assert_string_equal(text, "");
        free(text);
        assert_int_equal(run_text(commands[i], &text,
                                  (const char *const[]){"--model", model_path, "--colour", NULL}),
                         CLI_USAGE);
        free(text);
        const char *const missing[] = {"--model", model_path, i == 0 ? "--data" : NULL, data_path,
                                       NULL};
        unlink(model_path);
        assert_int_equal(run_text(commands[i], &text, missing), CLI_FAILED);
        free(text);
        small_model_write(model_path, "NILM\0\0\0\0garbage", 15);
        assert_int_equal(run_text(commands[i], &text, missing), CLI_FAILED);
        free(text);
    }
    write_model(0); /* no trace of a known class */
    const char *const arguments[] = {"--model", model_path, "--data", data_path, NULL};
    assert_int_equal(run_text(workshop_eval, &text, arguments), CLI_FAILED);
    free(text);
    write_trace("Other", "AAAAAC", 60);
    assert_int_equal(run_text(workshop_eval, &text, arguments), CLI_FAILED);
    assert_string_equal(text, "");
    free(text);
    const char *const hop[] = {"--model", model_path, "--hop", "17", NULL};
    assert_int_equal(run_text(workshop_bench, &text, hop), CLI_USAGE);
    free(text);
    const char *const part[] = {"--model", model_path, "--data", data_path, "--part", "test", NULL};
    assert_int_equal(run_text(workshop_eval, &text, part), CLI_USAGE);
    free(text);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_root, remove_root)
    const struct CMUnitTest tests[] = {
        TEST(test_eval_figures),
        TEST(test_eval_is_deterministic),
        TEST(test_eval_unseen),
        TEST(test_eval_fp32),
        TEST(test_eval_unknown_and_reference),
        TEST(test_eval_random_split),
        TEST(test_eval_sigmoid),
        TEST(test_bench),
        TEST(test_inspect),
        TEST(test_exit_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
