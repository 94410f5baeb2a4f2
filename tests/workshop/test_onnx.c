/* test_onnx.c - ONNX both ways: the benchmark networks reproduce their reference logits
 * (NILM_BENCH), what we export comes back bit for bit, forms that exporters use give the same
 * numbers as a direct computation, damaged files are refused or load validly. */
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
#include "inference/workshop/workshop.h"
#include "lib/small_model.h"
#include "lib_protobuf.h"

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

static struct net *random_net(enum model_head head, uint32_t channels)
{
    const struct net_spec spec = {.head = head,
                                  .window = 24,
                                  .channels = channels,
                                  .class_count = 3,
                                  .conv_count = 2,
                                  .conv = {{4, 3, 2}, {5, 2, 1}},
                                  .hidden_count = 1,
                                  .hidden = {6}};
    struct net_random r = net_random_stream(7, 7, channels);
    struct net *net;

    assert_int_equal(net_create(&spec, &net, NULL, 0), 0);
    for (size_t i = 0; i < net->param_count; i++)
        net->params[i] = (float)net_random_normal(&r);
    return net;
}

static void *export_net(const struct net *net, size_t *size)
{
    struct model m = {.family = "identify", .channel_count = net->channels};
    void *data;

    assert_int_equal(convert_to_model(net, &m), 0);
    assert_int_equal(onnx_export(&m, &data, size), 0);
    return data;
}

static void test_round_trip(void **state)
{
    (void)state;
    for (uint32_t channels = 1; channels <= 4; channels++) {
        enum model_head head = channels % 2 ? MODEL_SOFTMAX : MODEL_SIGMOID;
        struct net *net = random_net(head, channels), *back;
        size_t size, again_size;
        char why[256] = "";
        void *data = export_net(net, &size);

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
        void *again = export_net(back, &again_size);
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

/* --- Forms that exporters write, made with lib_protobuf.h --- */

static int load(struct pb *file, struct net **out, char *why, size_t why_size)
{
    int rc = onnx_import(file->data, file->size, MODEL_SOFTMAX, out, why, why_size);
    free(file->data);
    return rc;
}

static void expect_refused(struct pb *file, const char *text)
{
    char why[512] = "";
    struct net *net;

    assert_int_equal(load(file, &net, why, sizeof(why)), -EINVAL);
    assert_null(net);
    if (!strstr(why, text))
        fail_msg("\"%s\" does not say \"%s\"", why, text);
}

static const float two[2] = {2.0f, -1.0f}, ones[2] = {1.0f, 1.0f};

/* A network of two channels that can be followed by hand: window 4, one input, conv of two taps
 * [1 2] and [3 4], flattened to 2 x 3, and a dense layer of one class with weights 1..6 in the
 * order that the file has them. What stands between is the caller's: it reads "c" and makes "f". */
static void begin_file(struct pb *g, const char *input_dims)
{
    const float conv[4] = {1, 2, 3, 4};
    pb_onnx_input(g, "x", input_dims);
    pb_onnx_output(g, "y");
    pb_onnx_tensor(g, "w", "2,1,2", conv);
    pb_onnx_tensor(g, "w4", "2,1,1,2", conv);
    pb_onnx_tensor(g, "b", "2", two);
}

static void end_file(struct pb *g)
{
    const float dense[6] = {1, 2, 3, 4, 5, 6}, bias[1] = {0.5f};
    pb_onnx_tensor(g, "d", "6,1", dense);
    pb_onnx_tensor(g, "e", "1", bias);
    pb_onnx_node(g, "MatMul", "mul", "f,d", "m", NULL);
    pb_onnx_node(g, "Add", "plus", "e,m", "y", NULL);
}

/* x = 1 0 2 5: conv 0 gives 1+2, 4+2, 12+2 = 3 6 14; conv 1 3-1, 8-1, 26-1 = 2 7 25. */
static void expect_logit(struct pb *graph, float expected)
{
    const float x[4] = {1, 0, 2, 5};
    const struct net_mode deployed = {0};
    struct pb file = pb_onnx_model(graph, 13);
    struct net_work *work;
    struct net *net;
    char why[512] = "";

    if (load(&file, &net, why, sizeof(why)))
        fail_msg("%s", why);
    assert_int_equal(net_work_create(net, 1, &work), 0);
    memcpy(net_work_input(work), x, sizeof(x));
    assert_float_equal(net_forward(net, work, 1, &deployed)[0], expected, 1e-4f);
    net_work_free(work);
    net_free(net);
}

static void test_channel_major(void **state)
{
    (void)state;
    struct pb g = {0};
    begin_file(&g, "1,1,4");
    pb_onnx_node(&g, "Conv", "c1", "x,w,b", "c", NULL);
    pb_onnx_node(&g, "Flatten", "f1", "c", "f", NULL);
    end_file(&g);
    expect_logit(&g, 3 + 12 + 42 + 8 + 35 + 150 + 0.5f);
}

static void test_computed_shape(void **state) /* as torch's x.view(x.size(0), -1) */
{
    (void)state;
    const int64_t zero[1] = {0}, rest[1] = {-1};
    struct pb g = {0};
    begin_file(&g, "0,1,4");
    pb_onnx_integers(&g, "zero", zero, 1);
    pb_onnx_integers(&g, "rest", rest, 1);
    pb_onnx_node(&g, "Conv", "c1", "x,w,b", "c", NULL);
    pb_onnx_node(&g, "Shape", "s1", "c", "s", NULL);
    pb_onnx_node(&g, "Gather", "g1", "s,zero", "n", "axis:0");
    pb_onnx_node(&g, "Unsqueeze", "u1", "n", "n1", "axes=0");
    pb_onnx_node(&g, "Concat", "k1", "n1,rest", "shape", "axis:0");
    pb_onnx_node(&g, "Reshape", "r1", "c,shape", "f", NULL);
    end_file(&g);
    expect_logit(&g, 3 + 12 + 42 + 8 + 35 + 150 + 0.5f);
}

static void test_time_major(void **state) /* as Keras: [batch][time][channel] */
{
    (void)state;
    const int64_t shape[2] = {-1, 6};
    struct pb g = {0};
    begin_file(&g, "1,4,1");
    pb_onnx_integers(&g, "shape", shape, 2);
    pb_onnx_node(&g, "Transpose", "t1", "x", "xt", "perm=0,2,1");
    pb_onnx_node(&g, "Unsqueeze", "u1", "xt", "xu", "axes=2");
    pb_onnx_node(&g, "Conv", "c1", "xu,w4,b", "c4", "kernel_shape=1,2");
    pb_onnx_node(&g, "Squeeze", "s1", "c4", "c3", "axes=2");
    pb_onnx_node(&g, "Transpose", "t2", "c3", "c", "perm=0,2,1");
    pb_onnx_node(&g, "Reshape", "r1", "c,shape", "f", NULL);
    end_file(&g);
    expect_logit(&g, 3 + 4 + 18 + 28 + 70 + 150 + 0.5f);
}

static void test_unit_dimension_and_norm(void **state) /* as torch's Conv2d of height 1 */
{
    (void)state;
    const float mean[2] = {1, 2}, variance[2] = {4 - 1e-5f, 1 - 1e-5f};
    struct pb g = {0};
    begin_file(&g, "0,1,1,4");
    pb_onnx_tensor(&g, "scale", "2", ones);
    pb_onnx_tensor(&g, "shift", "2", two);
    pb_onnx_tensor(&g, "mean", "2", mean);
    pb_onnx_tensor(&g, "var", "2", variance);
    pb_onnx_node(&g, "Conv", "c1", "x,w4,b", "n", "kernel_shape=1,2");
    pb_onnx_node(&g, "BatchNormalization", "bn", "n,scale,shift,mean,var", "r", NULL);
    pb_onnx_node(&g, "Relu", "r1", "r", "c", NULL);
    pb_onnx_node(&g, "Flatten", "f1", "c", "f", NULL);
    end_file(&g);
    /* (3 6 14) to 1+2, 2.5+2, 6.5+2; (2 7 25) to 0-1 (then 0), 5-1, 23-1 */
    expect_logit(&g, 3 + 9 + 25.5f + 0 + 20 + 132 + 0.5f);
}

/* Relu behind the pool, Dropout, Identity of a constant. */
static void test_pool(void **state)
{
    (void)state;
    const float dense[2] = {1, 10};
    struct pb g = {0};
    begin_file(&g, "1,1,4");
    pb_onnx_tensor(&g, "d", "1,2", dense);
    pb_onnx_node(&g, "Identity", "i1", "b", "b2", NULL);
    pb_onnx_node(&g, "Conv", "c1", "x,w,b2", "c", NULL);
    pb_onnx_node(&g, "MaxPool", "p1", "c", "p", "kernel_shape=3;strides=3");
    pb_onnx_node(&g, "Relu", "r1", "p", "r", NULL);
    pb_onnx_node(&g, "Dropout", "o1", "r", "o", NULL);
    pb_onnx_node(&g, "Flatten", "f1", "o", "f", NULL);
    pb_onnx_node(&g, "Gemm", "g1", "f,d", "y", "transB:1");
    expect_logit(&g, 14 + 250);
}

static void refuse_conv(const char *attributes, const char *text)
{
    struct pb g = {0};
    begin_file(&g, "1,1,4");
    pb_onnx_node(&g, "Conv", "odd", "x,w,b", "c", attributes);
    pb_onnx_node(&g, "Flatten", "f1", "c", "f", NULL);
    end_file(&g);
    struct pb file = pb_onnx_model(&g, 13);
    expect_refused(&file, text);
}

static void test_refusals_name_the_node(void **state)
{
    (void)state;
    refuse_conv("pads=1,1", "node \"odd\" (Conv): pads");
    refuse_conv("strides=2", "node \"odd\" (Conv): strides");
    refuse_conv("dilations=2", "node \"odd\" (Conv): dilations");
    refuse_conv("group:2", "node \"odd\" (Conv): group");
    refuse_conv("kernel_shape=3", "node \"odd\" (Conv): kernel");
    refuse_conv("group=1", "node \"odd\" (Conv): attribute group");
}

static void refuse_nodes(const char *op, const char *inputs, const char *attributes, int opset,
                         const char *text)
{
    struct pb g = {0};
    begin_file(&g, "1,1,4");
    pb_onnx_node(&g, "Conv", "c1", "x,w,b", "c", NULL);
    pb_onnx_node(&g, op, "odd", inputs, "f", attributes);
    end_file(&g);
    struct pb file = pb_onnx_model(&g, opset);
    expect_refused(&file, text);
}

static void test_refusals(void **state)
{
    (void)state;
    refuse_nodes("LSTM", "c", NULL, 13, "node \"odd\" (LSTM): this operator");
    refuse_nodes("Relu", "f", NULL, 13, "only chains"); /* reads itself */
    refuse_nodes("Relu", "m", NULL, 13, "only chains"); /* reads what comes later */
    refuse_nodes("Relu", "x", NULL, 13, "only chains"); /* leaves the chain */
    refuse_nodes("Add", "c,c", NULL, 13, "only chains");
    refuse_nodes("MaxPool", "c", "kernel_shape=2;strides=1", 13, "stride 1");
    refuse_nodes("MaxPool", "c", "kernel_shape=9;strides=9", 13, "kernel 9");
    refuse_nodes("Relu", "c", NULL, 13, "node \"mul\" (MatMul)"); /* not flattened */
    refuse_nodes("Flatten", "c", NULL, 6, "opset 6");
    refuse_nodes("Flatten", "c", "axis:2", 13, "axis");
    refuse_nodes("Transpose", "c", "perm=0,1,1", 13, "permutation");
    refuse_nodes("BatchNormalization", "c,b,b,b,b", NULL, 13, "variance of channel 1");
    refuse_nodes("Squeeze", "c", "axes=2", 13, "not 1");
    refuse_nodes("Gemm", "c,nowhere", NULL, 13, "must be a constant");
}

static void refuse_weights(const char *dims, size_t bytes, int external, const char *text)
{
    struct pb g = {0};
    begin_file(&g, "1,1,4");
    pb_onnx_odd_tensor(&g, "odd", dims, bytes, external);
    pb_onnx_node(&g, "Conv", "c1", "x,odd,b", "c", NULL);
    pb_onnx_node(&g, "Flatten", "f1", "c", "f", NULL);
    end_file(&g);
    struct pb file = pb_onnx_model(&g, 13);
    expect_refused(&file, text);
}

static void test_hostile_tensors(void **state)
{
    (void)state;
    refuse_weights("2,1,2", 15, 0, "15 raw bytes for 4 elements");
    refuse_weights("2,1,2", 20, 0, "20 raw bytes for 4 elements");
    refuse_weights("2,1,2", 0, 0, "0 raw bytes for 4 elements");
    refuse_weights("2,1,2", 0, 1, "another file");
    refuse_weights("2,1,-2", 16, 0, "dimension 2 is -2");
    refuse_weights("0,1,2", 0, 0, "dimension 0 is 0");
    refuse_weights("4294967296,4294967296,1", 0, 0, "dimension 0"); /* 2^64 is 0 */
    refuse_weights("16777216,16777216,16777216", 0, 0, "more elements");
    refuse_weights("1,1,1,1,1,1,1,1", 4, 0, "dimensions");
    refuse_weights("2,3,2", 48, 0, "do not fit");
    refuse_weights("2,1,5", 40, 0, "5 taps");
}

static void test_foreign_domain(void **state)
{
    (void)state;
    struct pb g = {0};
    begin_file(&g, "1,1,4");
    pb_onnx_foreign_node(&g, "com.example", "Relu", "x", "c");
    end_file(&g);
    struct pb file = pb_onnx_model(&g, 13);
    expect_refused(&file, "com.example");
}

static void refuse_input(const char *dims, const char *text)
{
    struct pb g = {0};
    begin_file(&g, dims);
    pb_onnx_node(&g, "Flatten", "f1", "x", "f", NULL);
    end_file(&g);
    struct pb file = pb_onnx_model(&g, 13);
    expect_refused(&file, text);
}

static void test_odd_inputs(void **state)
{
    (void)state;
    refuse_input("1,1,0", "dimension 2 is 0; expected a fixed");
    refuse_input("1,1,-6", "dimension 2");
    refuse_input("1", "1 dimensions");
    refuse_input("1,1,16385", "16385");
    refuse_input("1,2,3,6", "more than channels and time");
    refuse_input("1,1,1,1,6", "5 dimensions");
    refuse_input("1,100,200", "do not fit");
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
    struct net *net = random_net(MODEL_SIGMOID, 2);
    size_t size, back_size;
    void *data = export_net(net, &size);
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

static void test_truncated(void **state)
{
    (void)state;
    struct net *net = random_net(MODEL_SOFTMAX, 2);
    size_t size;
    unsigned char *data = export_net(net, &size);
    size_t loaded = 0;

    for (size_t n = 0; n < size; n++) { /* a copy of its own, so that the sanitizer sees its end */
        unsigned char *part = malloc(n ? n : 1);
        memcpy(part, data, n);
        loaded += survives(part, n) == 0;
        free(part);
    }
    assert_int_equal(loaded, 0); /* the opset stands last */
    assert_int_equal(survives(data, size), 0);
    free(data);
    net_free(net);
}

static void test_mutated(void **state)
{
    (void)state;
    struct net *net = random_net(MODEL_SOFTMAX, 2);
    struct net_random r = net_random_stream(3, 1, 4);
    size_t size;
    unsigned refused = 0;
    unsigned char *data = export_net(net, &size), *copy = malloc(size);

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
    free(data);
    net_free(net);
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
        cmocka_unit_test(test_channel_major),  cmocka_unit_test(test_computed_shape),
        cmocka_unit_test(test_time_major),     cmocka_unit_test(test_unit_dimension_and_norm),
        cmocka_unit_test(test_pool),           cmocka_unit_test(test_refusals_name_the_node),
        cmocka_unit_test(test_refusals),       cmocka_unit_test(test_hostile_tensors),
        cmocka_unit_test(test_foreign_domain), cmocka_unit_test(test_odd_inputs),
        cmocka_unit_test(test_commands),       cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_mutated),        cmocka_unit_test(test_amplification),
    };
    return cmocka_run_group_tests_name("onnx", tests, NULL, NULL);
}
