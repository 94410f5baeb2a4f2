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
