/* test_onnx.c - ONNX both ways: the benchmark networks reproduce their reference logits
 * (NILM_BENCH), what we export comes back bit for bit, damaged files are refused or load validly.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "inference/workshop/cli.h"
#include "inference/workshop/convert.h"
#include "inference/workshop/net.h"
#include "inference/workshop/net_random.h"
#include "inference/workshop/onnx.h"
#include "inference/workshop/quantize.h"
#include "inference/workshop/workshop.h"
#include "lib/small_model.h"
#include "lib_onnx.h"

/* --- The benchmark networks --- */

/* A file of NILM_BENCH, or of the folder bench beside NILM_DATA; NULL when there is neither. */
static const char *bench_file(const char *name)
{
    static char path[4][512];
    static int next;
    const char *bench = getenv("NILM_BENCH"), *data = getenv("NILM_DATA");
    char *p = path[next++ % 4];

    if (bench && *bench) {
        (void)snprintf(p, sizeof(path[0]), "%s/%s", bench, name);
        return p;
    }
    if (!data || !*data)
        return NULL;
    (void)snprintf(p, sizeof(path[0]), "%s/../bench/%s", data, name);
    return access(p, F_OK) == 0 ? p : NULL;
}

static void *read_all(const char *path, size_t *size)
{
    void *data = NULL;
    int rc = cli_read_file(path, 1 << 24, &data, size);
    if (rc)
        fail_msg("%s: %s", path, strerror(-rc));
    return data;
}

static void check_bench(const char *name)
{
    enum { COUNT = 64, WINDOW = 512, CLASSES = 32 };
    const struct net_mode deployed = {0};
    char file[64], why[512] = "";
    struct net *net;
    struct net_work *work;
    size_t size, inputs_size, logits_size;
    double worst = 0.0;

    if (!bench_file("inputs_64x512.f32")) {
        print_message("no benchmark networks (NILM_BENCH, or bench beside NILM_DATA): skipped\n");
        skip();
    }
    (void)snprintf(file, sizeof(file), "%s_fp32.onnx", name);
    void *data = read_all(bench_file(file), &size);
    float *inputs = read_all(bench_file("inputs_64x512.f32"), &inputs_size);
    (void)snprintf(file, sizeof(file), "%s_logits_64x32.f32", name);
    float *expected = read_all(bench_file(file), &logits_size);
    assert_int_equal(inputs_size, COUNT * WINDOW * sizeof(float));
    assert_int_equal(logits_size, COUNT * CLASSES * sizeof(float));
    if (onnx_import(data, size, MODEL_SIGMOID, &net, why, sizeof(why)))
        fail_msg("%s: %s", name, why);
    assert_int_equal(net->head, MODEL_SOFTMAX); /* the file's own */
    assert_int_equal(net->window, WINDOW);
    assert_int_equal(net->class_count, CLASSES);
    assert_int_equal(net_work_create(net, COUNT, &work), 0);
    memcpy(net_work_input(work), inputs, inputs_size);
    const float *logits = net_forward(net, work, COUNT, &deployed);
    for (size_t i = 0; i < COUNT * CLASSES; i++)
        worst = fmax(worst, fabs((double)(logits[i] - expected[i])));
    print_message("%s: largest difference of a logit %.2g\n", name, worst);
    assert_true(worst < 1e-4);
    net_work_free(work);
    net_free(net);
    free(data);
    free(inputs);
    free(expected);
}

static void test_bench_base(void **state)
{
    (void)state;
    check_bench("base");
}

static void test_bench_pruned(void **state)
{
    (void)state;
    check_bench("pruned");
}

/* --- Round trip --- */

static void test_round_trip(void **state)
{
    (void)state;
    for (uint32_t channels = 1; channels <= 4; channels++) {
        enum model_head head = channels % 2 ? MODEL_SOFTMAX : MODEL_SIGMOID;
        struct net *net = lib_onnx_random_net(head, channels), *back;
        size_t size, again_size;
        char why[256] = "";
        void *data = lib_onnx_export_net(net, &size);

        if (onnx_import(data, size, 3 - head, &back, why, sizeof(why)))
            fail_msg("%s", why);
        assert_int_equal(back->head, head);
        assert_int_equal(back->window, net->window);
        assert_int_equal(back->channels, channels);
        assert_int_equal(back->layer_count, net->layer_count);
        for (uint32_t i = 0; i < net->layer_count; i++) {
            assert_int_equal(back->layers[i].op, net->layers[i].op);
            assert_int_equal(back->layers[i].relu, net->layers[i].relu);
            assert_int_equal(back->layers[i].out_channels, net->layers[i].out_channels);
            assert_int_equal(back->layers[i].out_columns, net->layers[i].out_columns);
        }
        assert_int_equal(back->param_count, net->param_count);
        assert_memory_equal(back->params, net->params, net->param_count * sizeof(float));
        void *again = lib_onnx_export_net(back, &again_size);
        assert_int_equal(again_size, size);
        free(again);
        free(data);
        net_free(net);
        net_free(back);
    }
}

/* QDQ holds the model's own integers; what reads it is not ours. */
static void test_int8_export(void **state)
{
    (void)state;
    static const unsigned char dense[3] = {(unsigned char)-100, 100, 0};
    void *bytes, *data, *again;
    size_t bytes_size, size, again_size;
    char why[256] = "";
    struct model *m;
    struct net *net;

    small_model_encode(1, 0, 0, 0, &bytes, &bytes_size);
    assert_int_equal(model_decode(bytes, bytes_size, &m, why, sizeof(why)), 0);
    assert_int_equal(onnx_export(m, &data, &size), 0);
    assert_int_equal(onnx_export(m, &again, &again_size), 0);
    assert_int_equal(again_size, size);
    assert_memory_equal(again, data, size);
    assert_non_null(memmem(data, size, "QuantizeLinear", 14));
    assert_non_null(memmem(data, size, dense, sizeof(dense)));
    assert_non_null(memmem(data, size, m->layers[2].bias, 3 * sizeof(int32_t)));
    assert_non_null(memmem(data, size, m->layers[2].weight_scale, 3 * sizeof(float)));
    assert_int_equal(onnx_import(data, size, MODEL_SOFTMAX, &net, why, sizeof(why)), -EINVAL);
    assert_non_null(strstr(why, "operator is not supported"));
    free(bytes);
    free(data);
    free(again);
    model_free(m);
}

/* The raw numbers of a constant: name, then tag and length of raw_data. */
static void find_floats(const unsigned char *data, size_t size, const char *name, float *out,
                        size_t count)
{
    const unsigned char *p = memmem(data, size, name, strlen(name));
    assert_non_null(p); /* as an input of the node; then its own */
    p = memmem(p + 1, size - (size_t)(p + 1 - data), name, strlen(name));
    assert_non_null(p);
    p += strlen(name);
    assert_int_equal(p[0], 9 << 3 | 2);
    assert_int_equal(p[1], count * sizeof(float));
    memcpy(out, p + 2, count * sizeof(float));
}

/* What the exported Mul, Add and QuantizeLinear (halves to even) make of a feature is our level,
 * for every whole watt: many of them lie exactly between two levels. A few of their thresholds are
 * one float too high, because 1/255 is no double; there the file takes the upper level. */
static void check_levels(const struct model_channel *channel)
{
    struct model_channel c = *channel;
    float thresholds[MODEL_LEVELS], factor, shift;
    void *bytes, *data;
    size_t bytes_size, size;
    int above = 0;
    struct model *m;

    quantize_thresholds(&c, thresholds);
    c.thresholds = thresholds;
    small_model_encode(1, 0, 0, 0, &bytes, &bytes_size);
    assert_int_equal(model_decode(bytes, bytes_size, &m, NULL, 0), 0);
    m->channels[0] = c;
    assert_int_equal(onnx_export(m, &data, &size), 0);
    find_floats(data, size, "features:in.factor", &factor, 1);
    find_floats(data, size, "features:in.shift", &shift, 1);
    const float scale = m->layers[0].in_scale, zero = m->layers[0].in_zero;
    for (int w = c.feature == MODEL_LOG_DIFF ? -4000 : 0; w <= 4000; w++) {
        const float watts[2] = {w < 0 ? (float)-w : 0.0f, w < 0 ? 0.0f : (float)w};
        float x, level;
        int ours = -128;
        net_features(&c, 1, 1, watts, &x);
        level = fmaxf(-128.0f, fminf(127.0f, rintf((x * factor + shift) / scale) + zero));
        while (ours < 127 && thresholds[ours + 128] <= (float)w)
            ours++;
        const int high = ours < 127 && thresholds[ours + 128] == nextafterf((float)w, 1e9f);
        above += high;
        if ((int)level != ours + high)
            fail_msg("feature %d, %d W: level %d, exported %d", (int)c.feature, w, ours,
                     (int)level);
    }
    assert_true(above <= 4);
    free(bytes);
    free(data);
    model_free(m);
}

static void test_int8_levels(void **state)
{
    (void)state;
    const struct model_channel channels[] = {{MODEL_LINEAR, 250.0f, NULL},
                                             {MODEL_LINEAR, 3000.0f, NULL},
                                             {MODEL_LINEAR, 4000.0f, NULL},
                                             {MODEL_LOG, 4000.0f, NULL},
                                             {MODEL_LOG_DIFF, 4000.0f, NULL}};
    for (size_t i = 0; i < sizeof(channels) / sizeof(*channels); i++)
        check_levels(&channels[i]);
}

/* --- The commands --- */

static void put_file(const char *folder, const char *name, const void *data, size_t size)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    assert_int_equal(cli_write_file(path, data, size), 0);
}

static void test_commands(void **state)
{
    (void)state;
    char folder[] = "/tmp/nilm-test-onnx-XXXXXX", onnx[64], model[64], back[64], labels[64],
         why[256];
    assert_non_null(mkdtemp(folder));
    (void)snprintf(onnx, sizeof(onnx), "%s/a.onnx", folder);
    (void)snprintf(model, sizeof(model), "%s/a.nilm", folder);
    (void)snprintf(back, sizeof(back), "%s/b.onnx", folder);
    (void)snprintf(labels, sizeof(labels), "%s/labels", folder);
    struct net *net = lib_onnx_random_net(MODEL_SIGMOID, 2);
    size_t size, back_size;
    void *data = lib_onnx_export_net(net, &size);
    put_file(folder, "a.onnx", data, size);
    put_file(folder, "labels", "Lamp\r\nKettle\nTV", 15);

    char *import[] = {"import",     "--onnx",         onnx,        "--out", model,
                      "--features", "log,linear:250", "--full",    "3000",  "--labels",
                      labels,       "--period-ms",    "1000",      "--hop", "8",
                      "--family",   "mine",           "--version", "7",     NULL};
    assert_int_equal(workshop_import(19, import), CLI_DONE);
    struct model *m;
    assert_int_equal(model_decode_file(model, &m, why, sizeof(why)), 0);
    assert_int_equal(m->head, MODEL_SIGMOID);
    assert_int_equal(m->channels[0].feature, MODEL_LOG);
    assert_float_equal(m->channels[0].full, 3000.0f, 0.0f);
    assert_int_equal(m->channels[1].feature, MODEL_LINEAR);
    assert_float_equal(m->channels[1].full, 250.0f, 0.0f);
    assert_string_equal(m->labels[0], "Lamp");
    assert_string_equal(m->labels[2], "TV");
    assert_string_equal(m->family, "mine");
    assert_int_equal(m->version, 7);
    assert_int_equal(m->period_ms, 1000);
    assert_int_equal(m->hop, 8);
    model_free(m);

    char *export[] = {"export", "--model", model, "--out", back, NULL};
    assert_int_equal(workshop_export(5, export), CLI_DONE);
    void *again = read_all(back, &back_size);
    struct net *same;
    assert_int_equal(onnx_import(again, back_size, MODEL_SOFTMAX, &same, why, sizeof(why)), 0);
    assert_memory_equal(same->params, net->params, net->param_count * sizeof(float));

    char *unnamed[] = {"import", "--onnx", onnx, "--out", model, NULL}; /* two inputs */
    assert_int_equal(workshop_import(5, unnamed), CLI_FAILED);
    put_file(folder, "labels", "Lamp\nKettle\n", 12); /* three classes */
    assert_int_equal(workshop_import(19, import), CLI_FAILED);
    net_free(same);
    net_free(net);
    free(again);
    free(data);
    (void)unlink(onnx);
    (void)unlink(model);
    (void)unlink(back);
    (void)unlink(labels);
    assert_int_equal(rmdir(folder), 0);
}

/* --- Damage --- */

/* Refused with a reason, or a whole network: either way the call returns and leaks nothing. */
static int survives(const void *data, size_t size)
{
    char why[256] = "";
    struct net *net;
    int rc = onnx_import(data, size, MODEL_SOFTMAX, &net, why, sizeof(why));

    if (rc == 0) {
        assert_non_null(net);
        assert_true(net->class_count >= 1);
        net_free(net);
    } else {
        assert_null(net);
        assert_true(rc == -ENOMEM || why[0]);
    }
    return rc;
}

/* Every prefix. The opset stands last, so none of them is a whole file. */
static void check_truncated(const unsigned char *data, size_t size)
{
    size_t loaded = 0;

    for (size_t n = 0; n < size; n++) { /* a copy of its own, so that the sanitizer sees its end */
        unsigned char *part = malloc(n ? n : 1);
        memcpy(part, data, n);
        loaded += survives(part, n) == 0;
        free(part);
    }
    assert_int_equal(loaded, 0);
    assert_int_equal(survives(data, size), 0);
}

static void check_mutated(const unsigned char *data, size_t size)
{
    struct net_random r = net_random_stream(3, 1, 4);
    unsigned char *copy = malloc(size);
    unsigned refused = 0;

    for (int i = 0; i < 10000; i++) {
        memcpy(copy, data, size);
        for (uint32_t k = net_random_next(&r) % 4 + 1; k > 0; k--) {
            size_t at = net_random_next(&r) % size;
            copy[at] = k % 2 ? (unsigned char)net_random_next(&r) : copy[at] ^ (1u << at % 8);
        }
        refused += survives(copy, size) != 0;
    }
    print_message("%u of 10000 mutations refused\n", refused);
    assert_true(refused > 1000 && refused < 10000); /* the others hit weights and names */
    free(copy);
}

static void test_damaged_export(void **state)
{
    (void)state;
    struct net *net = lib_onnx_random_net(MODEL_SOFTMAX, 2);
    size_t size;
    unsigned char *data = lib_onnx_export_net(net, &size);

    check_truncated(data, size);
    check_mutated(data, size);
    free(data);
    net_free(net);
}

static void test_damaged_exporters_file(void **state)
{
    (void)state;
    struct pb g = {0};
    lib_onnx_all_operators(&g);
    struct pb file = pb_onnx_model(&g, 13);

    check_truncated(file.data, file.size);
    check_mutated(file.data, file.size);
    free(file.data);
}

/* Many empty messages cost the parser far more than their two bytes each. */
static void test_amplification(void **state)
{
    (void)state;
    enum { SIZE = 8 << 20 };
    unsigned char *data = malloc(SIZE), *p = data;
    char why[256];
    struct net *net;

    *p++ = 0x3a; /* the graph, then nodes of no bytes */
    for (size_t n = SIZE - 5; n; n >>= 7)
        *p++ = (unsigned char)((n & 0x7f) | (n > 0x7f ? 0x80 : 0));
    while (p < data + SIZE - 1) {
        *p++ = 0x0a;
        *p++ = 0;
    }
    assert_int_equal(onnx_import(data, (size_t)(p - data), MODEL_SOFTMAX, &net, why, sizeof(why)),
                     -EINVAL);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bench_base),     cmocka_unit_test(test_bench_pruned),
        cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_int8_export),
        cmocka_unit_test(test_int8_levels),    cmocka_unit_test(test_commands),
        cmocka_unit_test(test_damaged_export), cmocka_unit_test(test_damaged_exporters_file),
        cmocka_unit_test(test_amplification),
    };
    return cmocka_run_group_tests_name("onnx", tests, NULL, NULL);
}
