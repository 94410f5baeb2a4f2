/* lib_onnx.c - see lib_onnx.h. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "inference/workshop/convert.h"
#include "inference/workshop/net_random.h"
#include "inference/workshop/onnx.h"
#include "lib_onnx.h"

struct net *lib_onnx_random_net(enum model_head head, uint32_t channels)
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

void *lib_onnx_export_net(const struct net *net, size_t *size)
{
    struct model m = {.family = "identify", .channel_count = net->channels};
    void *data;

    assert_int_equal(convert_to_model(net, &m), 0);
    assert_int_equal(onnx_export(&m, &data, size), 0);
    return data;
}

static int load(struct pb *file, struct net **out, char *why, size_t why_size)
{
    int rc = onnx_import(file->data, file->size, MODEL_SOFTMAX, out, why, why_size);
    free(file->data);
    return rc;
}

void lib_onnx_expect_refused(struct pb *file, const char *text)
{
    char why[512] = "";
    struct net *net;

    assert_int_equal(load(file, &net, why, sizeof(why)), -EINVAL);
    assert_null(net);
    if (!strstr(why, text))
        fail_msg("\"%s\" does not say \"%s\"", why, text);
}

static const float two[2] = {2.0f, -1.0f};

void lib_onnx_begin_file(struct pb *g, const char *input_dims)
{
    const float conv[4] = {1, 2, 3, 4};
    pb_onnx_input(g, "x", input_dims);
    pb_onnx_output(g, "y");
    pb_onnx_tensor(g, "w", "2,1,2", conv);
    pb_onnx_tensor(g, "w4", "2,1,1,2", conv);
    pb_onnx_tensor(g, "b", "2", two);
}

void lib_onnx_end_file(struct pb *g)
{
    const float dense[6] = {1, 2, 3, 4, 5, 6}, bias[1] = {0.5f};
    pb_onnx_tensor(g, "d", "6,1", dense);
    pb_onnx_tensor(g, "e", "1", bias);
    pb_onnx_node(g, "MatMul", "mul", "f,d", "m", NULL);
    pb_onnx_node(g, "Add", "plus", "e,m", "y", NULL);
}

void lib_onnx_expect_logit(struct pb *graph, float expected)
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

void lib_onnx_all_operators(struct pb *g)
{
    const float conv[8] = {1, 2, 3, 4, -1, -2, -3, -4}, variance[2] = {3, 0.5f};
    const int64_t last[1] = {-1}, pads[8] = {0}, from[1] = {0}, to[1] = {1}, one[1] = {1};
    const int32_t none[1] = {0};

    pb_onnx_input(g, "x", "0,12,1");
    pb_onnx_output(g, "y");
    pb_onnx_tensor(g, "w4", "2,1,1,2", conv);
    pb_onnx_tensor(g, "w5", "2,2,1,2", conv);
    pb_onnx_tensor(g, "b", "2", two);
    pb_onnx_tensor(g, "v", "2", variance);
    pb_onnx_tensor(g, "d", "4,2", conv);
    pb_onnx_tensor(g, "e", "2,2", conv);
    pb_onnx_integers(g, "last", last, 1);
    pb_onnx_integers(g, "pads", pads, 8);
    pb_onnx_integers(g, "from", from, 1);
    pb_onnx_integers(g, "to", to, 1);
    pb_onnx_integers(g, "one", one, 1);
    pb_onnx_narrow_integers(g, "none", none, 1);
    pb_onnx_node(g, "Identity", "i1", "b", "b2", NULL);
    pb_onnx_node(g, "Shape", "s1", "x", "s", NULL);
    pb_onnx_node(g, "Cast", "s2", "s", "s32", "to:6");
    pb_onnx_node(g, "Slice", "s3", "s32,from,to", "n", NULL);
    pb_onnx_node(g, "Gather", "s4", "n,none", "n0", NULL);
    pb_onnx_node(g, "Mul", "s5", "n0,one", "n1", NULL);
    pb_onnx_node(g, "Unsqueeze", "s6", "n1", "n2", "axes=0");
    pb_onnx_node(g, "Concat", "s7", "n2,last", "shape", "axis:0");
    pb_onnx_node(g, "Sub", "a1", "x,one_half", "a", NULL);
    pb_onnx_tensor(g, "one_half", "1", variance + 1);
    pb_onnx_node(g, "Div", "a2", "a,one_half", "a0", NULL);
    pb_onnx_node(g, "Unsqueeze", "u1", "a0", "u", "axes=1");
    pb_onnx_node(g, "Transpose", "t1", "u", "t", "perm=0,3,1,2");
    pb_onnx_node(g, "Pad", "p1", "t,pads", "p", NULL);
    pb_onnx_node(g, "Conv", "c1", "p,w4,b2", "c", "auto_pad~VALID;kernel_shape=1,2;pads=0,0,0,0");
    pb_onnx_node(g, "Relu", "r1", "c", "r", NULL);
    pb_onnx_node(g, "BatchNormalization", "bn", "r,v,b,b,v", "m", NULL);
    pb_onnx_node(g, "MaxPool", "p2", "m", "q", "kernel_shape=1,3;strides=1,3");
    pb_onnx_node(g, "Conv", "c2", "q,w5", "k", "group:1;strides=1,1;dilations=1,1");
    pb_onnx_node(g, "Transpose", "t2", "k", "l", "perm=0,2,3,1");
    pb_onnx_node(g, "Squeeze", "u2", "l", "o", "axes=1");
    pb_onnx_node(g, "Add", "a3", "o,b", "o2", NULL);
    pb_onnx_node(g, "Dropout", "d1", "o2", "o3", NULL);
    pb_onnx_node(g, "Reshape", "r2", "o3,shape", "f", NULL);
    pb_onnx_node(g, "Flatten", "f1", "f", "f2", "axis:1");
    pb_onnx_node(g, "MatMul", "d2", "f2,d", "h", NULL);
    pb_onnx_node(g, "Gemm", "d3", "h,e,b", "z", "transB:1");
    pb_onnx_node(g, "Softmax", "z1", "z", "y", "axis:1");
}
