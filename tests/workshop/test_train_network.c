/* test_train_network.c - the network as a text file: what it sets, what overrides it, what is said
 * of every mistake; training with either head from the command. */
#include <fcntl.h>
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

#include "inference/workshop/train_network.h"
#include "inference/workshop/workshop.h"
#include "workshop/lib_run.h"

static char root[64], file[80], data[80], model[80], said[80];

static int make_root(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof(root), "/tmp/nilm-network-XXXXXX");
    if (!mkdtemp(root))
        return -1;
    (void)snprintf(file, sizeof(file), "%s/n.net", root);
    (void)snprintf(data, sizeof(data), "%s/data", root);
    (void)snprintf(model, sizeof(model), "%s/m.nilm", root);
    (void)snprintf(said, sizeof(said), "%s/said", root);
    return mkdir(data, 0777);
}

static int remove_root(void **state)
{
    char command[96];
    (void)state;
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", root);
    return system(command);
}

static void write_file(const char *text, size_t size)
{
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

struct read {
    struct train_network n;
    uint32_t window, period, hop;
};

/* Reads the file beside `--taps` when it was given on the command line. */
static int read_file(struct read *r, const char *path, const char *taps)
{
    const struct read start = {.window = 512, .period = 8000, .hop = 8};
    *r = start;
    train_network_defaults(&r->n);
    r->n.file = path;
    struct cli_option options[] = {
        {.name = "taps", .type = CLI_STRING, .value = &r->n.taps},
        {.name = "widths", .type = CLI_STRING, .value = &r->n.widths},
        {.name = "pools", .type = CLI_STRING, .value = &r->n.pools},
        {.name = "hidden", .type = CLI_STRING, .value = &r->n.hidden},
        {.name = "features", .type = CLI_STRING, .value = &r->n.features},
        {.name = "full", .type = CLI_FLOAT, .value = &r->n.full, .low = 1, .high = 1e7},
        {.name = "window", .type = CLI_UINT, .value = &r->window, .low = 8, .high = 16384},
        {.name = "period-ms", .type = CLI_UINT, .value = &r->period, .low = 1, .high = 3600000},
        {.name = "hop", .type = CLI_UINT, .value = &r->hop, .low = 1, .high = 16384},
        {.name = "head", .type = CLI_CHOICE, .value = &r->n.head, .choices = train_network_heads},
        {0}};
    if (taps)
        assert_int_equal(cli_store("test", &options[0], taps), CLI_RUN);
    return train_network_read(&r->n, options);
}

static void test_file_sets_the_network(void **state)
{
    static const char text[] =
        "# a comment\r\n\n  window = 256 ; another\nperiod-ms=2000\nhop\t=\t2\n"
        "features = log:3000, linear : 250\nwidths = 4, 8\ntaps=3,3\npools=2, 1\n"
        "hidden=\nhead = sigmoid\nnorm = no\nfull = 1234.5";
    struct net_spec spec = {0};
    struct model m = {0};
    struct read r;
    (void)state;

    write_file(text, sizeof(text) - 1);
    assert_int_equal(read_file(&r, file, NULL), CLI_RUN);
    assert_int_equal(r.window, 256);
    assert_int_equal(r.period, 2000);
    assert_int_equal(r.hop, 2);
    assert_int_equal(train_network_parse(&r.n, r.window, &spec, &m), CLI_RUN);
    assert_int_equal(spec.window, 256);
    assert_int_equal(spec.head, MODEL_SIGMOID);
    assert_int_equal(m.head, MODEL_SIGMOID);
    assert_int_equal(spec.norm, 0);
    assert_int_equal(spec.conv_count, 2);
    assert_int_equal(spec.hidden_count, 0);
    assert_int_equal(spec.conv[1].width, 8);
    assert_int_equal(spec.conv[1].taps, 3);
    assert_int_equal(spec.conv[1].pool, 1);
    assert_int_equal(m.channel_count, 2);
    assert_int_equal(m.channels[0].feature, MODEL_LOG);
    assert_float_equal(m.channels[0].full, 3000.0, 0.0);
    assert_int_equal(m.channels[1].feature, MODEL_LINEAR);
    assert_float_equal(r.n.full, 1234.5, 0.0);
    train_network_free(&r.n);
    assert_int_equal(read_file(&r, file, "5,7"), CLI_RUN); /* the command line overrides */
    assert_string_equal(r.n.taps, "5,7");
    assert_string_equal(r.n.widths, "4,8");
    train_network_free(&r.n);
}

/* The file that is shipped says what is the default. */
static void test_shipped_file_is_the_default(void **state)
{
    struct net_spec spec[2];
    struct model m[2];
    struct read r[2];
    (void)state;

    memset(spec, 0, sizeof(spec));
    memset(m, 0, sizeof(m));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(read_file(&r[i], i ? "inference/models/identify.net" : NULL, NULL),
                         CLI_RUN);
        assert_int_equal(train_network_parse(&r[i].n, r[i].window, &spec[i], &m[i]), CLI_RUN);
    }
    assert_memory_equal(&spec[0], &spec[1], sizeof(spec[0]));
    assert_memory_equal(&m[0].channels, &m[1].channels, sizeof(m[0].channels));
    assert_true(r[0].window == r[1].window && r[0].period == r[1].period && r[0].hop == r[1].hop);
    train_network_free(&r[1].n);
}

/* Runs f with standard error in a file; what it said comes back. */
static const char *mistakes(const char *text, size_t size, int *code)
{
    static char buffer[1024];
    struct read r;
    int error, to;
    size_t n;

    write_file(text, size);
    fflush(stderr);
    error = dup(STDERR_FILENO);
    to = open(said, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    assert_true(to >= 0 && dup2(to, STDERR_FILENO) == STDERR_FILENO);
    close(to);
    *code = read_file(&r, file, NULL);
    train_network_free(&r.n);
    fflush(stderr);
    dup2(error, STDERR_FILENO);
    close(error);
    FILE *f = fopen(said, "r");
    n = fread(buffer, 1, sizeof(buffer) - 1, f);
    buffer[n] = '\0';
    fclose(f);
    return buffer;
}

static void test_mistakes_name_file_line_and_field(void **state)
{
    static const struct {
        const char *text, *where, *what;
    } cases[] = {
        {"window = 512\nwindov = 3\n", "n.net:2: windov", "unknown"},
        {"\n\nwindow = 4", "n.net:3: window", "from 8 to 16384"},
        {"window = many", "n.net:1: window", "a whole number"},
        {"window", "n.net:1", "name = value"},
        {"[conv]\nwidth = 3", "n.net:1", "name = value"},
        {"hop = 4\nhop = 4\n", "n.net:2: hop", "twice"},
        {"widths = 1,2,x", "n.net:1: widths", "whole numbers"},
        {"taps = 0", "n.net:1: taps", "whole numbers"},
        {"pools = 1,1,1,1,1,1,1,1,1,1,1,1,1", "n.net:1: pools", "at most 12"},
        {"features = log,cube", "n.net:1: features", "log-diff"},
        {"head = tail", "n.net:1: head", "softmax"},
        {"norm = perhaps", "n.net:1: norm", "yes or no"},
        {"full = -3", "n.net:1: full", "from 1"},
        {"= 3", "n.net:1: ", "unknown"},
        {"\x01\x02\xff", "n.net:1", "name = value"},
    };
    int code;
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const char *text = mistakes(cases[i].text, strlen(cases[i].text), &code);
        assert_int_equal(code, CLI_FAILED);
        if (!strstr(text, cases[i].where) || !strstr(text, cases[i].what))
            fail_msg("\"%s\": %s", cases[i].text, text);
    }
    assert_non_null(strstr(mistakes("hop = 4\0\n", 9, &code), "expected text"));
    assert_int_equal(code, CLI_FAILED);
    char *large = calloc(1, 70000);
    memset(large, '\n', 70000);
    assert_non_null(strstr(mistakes(large, 70000, &code), "n.net"));
    assert_int_equal(code, CLI_FAILED);
    free(large);
    assert_string_equal(mistakes("", 0, &code), "");
    assert_int_equal(code, CLI_RUN);
}

/* Random bytes and random mutations of a good file: read or refused, never a crash. */
static void test_hostile_files(void **state)
{
    static const char good[] =
        "window = 256\nfeatures = log:3000,linear\nwidths = 4,8\nhead = sigmoid\n";
    char text[sizeof(good)];
    uint32_t x = 1;
    int code;
    (void)state;

    for (int i = 0; i < 400; i++) {
        memcpy(text, good, sizeof(good));
        for (int k = 0; k < 1 + i % 5; k++) {
            x = x * 1664525u + 1013904223u;
            text[(x >> 8) % (sizeof(good) - 1)] = (char)(x >> 24);
        }
        (void)mistakes(text, sizeof(good) - 1 - (size_t)i % 20, &code);
        assert_true(code == CLI_RUN || code == CLI_FAILED);
    }
}

static void write_traces(void)
{
    static const int level[3] = {60, 400, 2000}, period[3] = {40, 16, 64};
    char path[256];

    for (int c = 0; c < 3; c++) {
        (void)snprintf(path, sizeof(path), "%s/Class%d", data, c);
        assert_int_equal(mkdir(path, 0777), 0);
        for (int day = 1; day <= 7; day++) {
            (void)snprintf(path, sizeof(path), "%s/Class%d/dev_AAAAA%d_2011.09.%02d.csv", data, c,
                           c, day);
            FILE *f = fopen(path, "w");
            assert_non_null(f);
            for (int i = 0; i < 600; i++)
                fprintf(f, "%02d/09/2011 %02d:%02d:%02d;%d;0\n", day, 8 * i / 3600, 8 * i / 60 % 60,
                        8 * i % 60,
                        (i + 5 * day) % period[c] < period[c] / 2 ? level[c] + i % 7 + day : 0);
            assert_int_equal(fclose(f), 0);
        }
    }
}

/* Either head learns three loads from a file's network, alone and with a teacher and mixed windows;
 * eval says the same of the written file, and knows its head. */
static void test_trains_with_either_head(void **state)
{
    static const char text[] = "window = 64\nwidths = 8,8\ntaps = 5,3\npools = 2,4\nhidden = "
                               "16\nfeatures = log,log-diff\n";
    char teacher[96];
    (void)state;

    write_traces();
    write_file(text, sizeof(text) - 1);
    for (int i = 0; i < 4; i++) {
        const char *head = i < 2 ? "softmax" : "sigmoid";
        (void)snprintf(teacher, sizeof(teacher), "%s/%s.nilm", root, head);
        const char *const alone[] = {"--data",
                                     data,
                                     "--out",
                                     teacher,
                                     "--net",
                                     file,
                                     "--head",
                                     head,
                                     "--epochs",
                                     "14",
                                     "--epoch-windows",
                                     "512",
                                     "--batch",
                                     "32",
                                     "--rate",
                                     "0.01",
                                     "--shift",
                                     "8",
                                     "--stride",
                                     "8",
                                     "--quiet",
                                     "--class-weight",
                                     "0.5",
                                     "--json",
                                     NULL};
        const char *const taught[] = {
            "--data",   data,     "--out",    model,       "--net",           file,
            "--head",   head,     "--epochs", "14",        "--epoch-windows", "512",
            "--batch",  "32",     "--rate",   "0.01",      "--shift",         "8",
            "--stride", "8",      "--quiet",  "--teacher", teacher,           "--mix",
            "0.2",      "--json", NULL};
        cJSON *trained = run_json(workshop_train, i % 2 ? taught : alone);
        const cJSON *test = cJSON_GetObjectItem(trained, "test");
        if (run_number(test, "accuracy") < 0.95)
            fail_msg("%s %d: accuracy %.3f", head, i, run_number(test, "accuracy"));
        assert_true(run_number(test, "bce") < 0.25);
        cJSON *judged = run_json(workshop_eval,
                                 (const char *const[]){"--model", i % 2 ? model : teacher, "--data",
                                                       data, "--split", "day", "--part", "test",
                                                       "--stride", "8", "--json", "--quiet", NULL});
        assert_int_equal(run_number(judged, "windows"), run_number(test, "windows"));
        assert_true(fabs(run_number(judged, "accuracy") - run_number(test, "accuracy")) < 1e-6);
        assert_true(fabs(run_number(judged, "bce") - run_number(test, "bce")) < 1e-4);
        cJSON_Delete(judged);
        cJSON *inspected =
            run_json(workshop_inspect,
                     (const char *const[]){"--model", i % 2 ? model : teacher, "--json", NULL});
        assert_string_equal(cJSON_GetObjectItem(inspected, "head")->valuestring, head);
        cJSON_Delete(inspected);
        cJSON_Delete(trained);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_root, remove_root)
    const struct CMUnitTest tests[] = {
        TEST(test_file_sets_the_network), TEST(test_shipped_file_is_the_default),
        TEST(test_mistakes_name_file_line_and_field), TEST(test_hostile_files),
        TEST(test_trains_with_either_head)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
