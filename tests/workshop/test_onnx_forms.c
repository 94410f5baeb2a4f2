/* test_onnx_forms.c - forms that exporters use give the same numbers as a computation by hand; what
 * cannot be imported is refused by node, operator and reason; hostile graphs are refused. */
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

#include "lib_onnx.h"

static const float two[2] = {2.0f, -1.0f}, ones[2] = {1.0f, 1.0f};

static void test_channel_major(void **state)
{
    (void)state;
    struct pb g = {0};
    lib_onnx_begin_file(&g, "1,1,4");
    pb_onnx_node(&g, "Conv", "c1", "x,w,b", "c", NULL);
    pb_onnx_node(&g, "Flatten", "f1", "c", "f", NULL);
    lib_onnx_end_file(&g);
    lib_onnx_expect_logit(&g, 3 + 12 + 42 + 8 + 35 + 150 + 0.5f);
}

static void test_computed_shape(void **state) /* as torch's x.view(x.size(0), -1) */
{
    (void)state;
    const int64_t zero[1] = {0}, rest[1] = {-1};
    struct pb g = {0};
    lib_onnx_begin_file(&g, "0,1,4");
    pb_onnx_integers(&g, "zero", zero, 1);
    pb_onnx_integers(&g, "rest", rest, 1);
    pb_onnx_node(&g, "Conv", "c1", "x,w,b", "c", NULL);
    pb_onnx_node(&g, "Shape", "s1", "c", "s", NULL);
    pb_onnx_node(&g, "Gather", "g1", "s,zero", "n", "axis:0");
    pb_onnx_node(&g, "Unsqueeze", "u1", "n", "n1", "axes=0");
    pb_onnx_node(&g, "Concat", "k1", "n1,rest", "shape", "axis:0");
    pb_onnx_node(&g, "Reshape", "r1", "c,shape", "f", NULL);
    lib_onnx_end_file(&g);
    lib_onnx_expect_logit(&g, 3 + 12 + 42 + 8 + 35 + 150 + 0.5f);
}

static void test_time_major(void **state) /* as Keras: [batch][time][channel] */
{
    (void)state;
    const int64_t shape[2] = {-1, 6};
    struct pb g = {0};
    lib_onnx_begin_file(&g, "1,4,1");
    pb_onnx_integers(&g, "shape", shape, 2);
    pb_onnx_node(&g, "Transpose", "t1", "x", "xt", "perm=0,2,1");
    pb_onnx_node(&g, "Unsqueeze", "u1", "xt", "xu", "axes=2");
    pb_onnx_node(&g, "Conv", "c1", "xu,w4,b", "c4", "kernel_shape=1,2");
    pb_onnx_node(&g, "Squeeze", "s1", "c4", "c3", "axes=2");
    pb_onnx_node(&g, "Transpose", "t2", "c3", "c", "perm=0,2,1");
    pb_onnx_node(&g, "Reshape", "r1", "c,shape", "f", NULL);
    lib_onnx_end_file(&g);
    lib_onnx_expect_logit(&g, 3 + 4 + 18 + 28 + 70 + 150 + 0.5f);
}

static void test_unit_dimension_and_norm(void **state) /* as torch's Conv2d of height 1 */
{
    (void)state;
    const float mean[2] = {1, 2}, variance[2] = {4 - 1e-5f, 1 - 1e-5f};
    struct pb g = {0};
    lib_onnx_begin_file(&g, "0,1,1,4");
    pb_onnx_tensor(&g, "scale", "2", ones);
    pb_onnx_tensor(&g, "shift", "2", two);
    pb_onnx_tensor(&g, "mean", "2", mean);
    pb_onnx_tensor(&g, "var", "2", variance);
    pb_onnx_node(&g, "Conv", "c1", "x,w4,b", "n", "kernel_shape=1,2");
    pb_onnx_node(&g, "BatchNormalization", "bn", "n,scale,shift,mean,var", "r", NULL);
    pb_onnx_node(&g, "Relu", "r1", "r", "c", NULL);
    pb_onnx_node(&g, "Flatten", "f1", "c", "f", NULL);
    lib_onnx_end_file(&g);
    /* (3 6 14) to 1+2, 2.5+2, 6.5+2; (2 7 25) to 0-1 (then 0), 5-1, 23-1 */
    lib_onnx_expect_logit(&g, 3 + 9 + 25.5f + 0 + 20 + 132 + 0.5f);
}

/* Relu behind the pool, Dropout, Identity of a constant. */
static void test_pool(void **state)
{
    (void)state;
    const float dense[2] = {1, 10};
    struct pb g = {0};
    lib_onnx_begin_file(&g, "1,1,4");
    pb_onnx_tensor(&g, "d", "1,2", dense);
    pb_onnx_node(&g, "Identity", "i1", "b", "b2", NULL);
    pb_onnx_node(&g, "Conv", "c1", "x,w,b2", "c", NULL);
    pb_onnx_node(&g, "MaxPool", "p1", "c", "p", "kernel_shape=3;strides=3");
    pb_onnx_node(&g, "Relu", "r1", "p", "r", NULL);
    pb_onnx_node(&g, "Dropout", "o1", "r", "o", NULL);
    pb_onnx_node(&g, "Flatten", "f1", "o", "f", NULL);
    pb_onnx_node(&g, "Gemm", "g1", "f,d", "y", "transB:1");
    lib_onnx_expect_logit(&g, 14 + 250);
}

/* --- Batch normalization and constants that do not follow a layer directly --- */

/* Mean 1 2, variance 4 1, shift 2 -1 and the given factors: 3 6 14 becomes 3 4.5 8.5 for a factor
 * of 1, and 2 7 25 becomes -1 4 22 for 1, -1 -6 -24 for -1. */
static void add_norm(struct pb *g, float factor0, float factor1, const char *input,
                     const char *output)
{
    const float mean[2] = {1, 2}, variance[2] = {4 - 1e-5f, 1 - 1e-5f},
                scale[2] = {factor0, factor1};
    char inputs[32];
    pb_onnx_tensor(g, "scale", "2", scale);
    pb_onnx_tensor(g, "shift", "2", two);
    pb_onnx_tensor(g, "mean", "2", mean);
    pb_onnx_tensor(g, "var", "2", variance);
    (void)snprintf(inputs, sizeof(inputs), "%s,scale,shift,mean,var", input);
    pb_onnx_node(g, "BatchNormalization", "bn", inputs, output, NULL);
}

static void begin_relu(struct pb *g)
{
    lib_onnx_begin_file(g, "1,1,4");
    pb_onnx_node(g, "Conv", "c1", "x,w,b", "c", NULL);
    pb_onnx_node(g, "Relu", "r1", "c", "r", NULL);
}

/* A dense layer of two inputs with weights 1 and 10, reading "p". */
static void end_pooled(struct pb *g)
{
    const float dense[2] = {1, 10};
    pb_onnx_tensor(g, "d", "1,2", dense);
    pb_onnx_node(g, "Flatten", "f1", "p", "f", NULL);
    pb_onnx_node(g, "Gemm", "g1", "f,d", "y", "transB:1");
}

static void test_norm_into_dense(void **state)
{
    (void)state;
    struct pb g = {0};
    begin_relu(&g);
    add_norm(&g, 1, -1, "r", "n");
    pb_onnx_node(&g, "Flatten", "f1", "n", "f", NULL);
    lib_onnx_end_file(&g);
    lib_onnx_expect_logit(&g, 3 + 9 + 25.5f - 4 - 30 - 144 + 0.5f);
}

static void test_norm_into_conv(void **state)
{
    (void)state;
    const float conv[4] = {1, 2, 3, 4};
    struct pb g = {0};
    begin_relu(&g);
    add_norm(&g, 1, -1, "r", "n");
    pb_onnx_tensor(&g, "w2", "1,2,2", conv);
    pb_onnx_node(&g, "Conv", "c2", "n,w2", "p", NULL);
    end_pooled(&g); /* 3+9-3-24 and 4.5+17-18-96 */
    lib_onnx_expect_logit(&g, -15 - 925);
}

static void test_norm_behind_pool(void **state)
{
    (void)state;
    for (float factor = -1; factor < 2; factor += 2) {
        struct pb g = {0};
        lib_onnx_begin_file(&g, "1,1,4");
        pb_onnx_node(&g, "Conv", "c1", "x,w,b", "c", NULL);
        pb_onnx_node(&g, "MaxPool", "p1", "c", "m", "kernel_shape=3;strides=3");
        add_norm(&g, 1, factor, "m", factor > 0 ? "n" : "p");
        if (factor > 0) /* goes into the convolution, so a ReLU may follow; else into Gemm */
            pb_onnx_node(&g, "Relu", "r1", "n", "p", NULL);
        end_pooled(&g);
        lib_onnx_expect_logit(&g, 8.5f + (factor > 0 ? 220 : -240));
    }
}

static void test_norm_before_pool(void **state)
{
    (void)state;
    for (float factor = -1; factor < 2; factor += 2) {
        struct pb g = {0};
        begin_relu(&g);
        add_norm(&g, 1, factor, "r", "n");
        pb_onnx_node(&g, "MaxPool", "p1", "n", "p", "kernel_shape=3;strides=3");
        end_pooled(&g);
        if (factor > 0) {
            lib_onnx_expect_logit(&g, 8.5f + 220);
        } else {
            struct pb file = pb_onnx_model(&g, 13);
            lib_onnx_expect_refused(
                &file,
                "node \"p1\" (MaxPool): stands behind \"bn\", whose factor of channel 1 is neg");
        }
    }
}

/* Found by fuzzing: such weights came in, and only writing the model refused them, without a name.
 */
static void test_weights_not_finite(void **state)
{
    (void)state;
    static const float odd[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < 6; i++) {
        const float conv[4] = {1, i < 3 ? odd[i] : 2, 3, 4}, bias[2] = {1, i < 3 ? 2 : odd[i - 3]};
        struct pb g = {0};
        lib_onnx_begin_file(&g, "1,1,1,4");
        pb_onnx_tensor(&g, "w_odd", "2,1,1,2", conv);
        pb_onnx_tensor(&g, "b_odd", "2", bias);
        pb_onnx_node(&g, "Conv", "c1", "x,w_odd,b_odd", "c", NULL);
        pb_onnx_node(&g, "MaxPool", "p1", "c", "p", "kernel_shape=1,3;strides=1,3");
        end_pooled(&g);
        struct pb file = pb_onnx_model(&g, 13);
        lib_onnx_expect_refused(&file, "layer \"conv1\" has weights that are not finite");
    }
}

static void test_norm_without_a_place(void **state)
{
    (void)state;
    static const char *const ops[] = {"Relu", "Softmax", "Identity"};
    for (size_t i = 0; i < 3; i++) {
        struct pb g = {0};
        begin_relu(&g);
        add_norm(&g, 1, 1, "r", "n");
        pb_onnx_node(&g, "Flatten", "f1", "n", "f", NULL);
        pb_onnx_node(&g, ops[i], "odd", "f", "y", NULL);
        struct pb file = pb_onnx_model(&g, 13);
        lib_onnx_expect_refused(&file, "stands behind \"bn\"");
    }
}

static void test_norm_of_inputs(void **state)
{
    (void)state;
    const float scale[1] = {2}, shift[1] = {1}, mean[1] = {0}, variance[1] = {1 - 1e-5f};
    struct pb g = {0};
    lib_onnx_begin_file(&g, "1,1,4");
    pb_onnx_tensor(&g, "scale", "1", scale);
    pb_onnx_tensor(&g, "shift", "1", shift);
    pb_onnx_tensor(&g, "mean", "1", mean);
    pb_onnx_tensor(&g, "var", "1", variance);
    pb_onnx_node(&g, "BatchNormalization", "bn", "x,scale,shift,mean,var", "n", NULL);
    pb_onnx_node(&g, "Conv", "c1", "n,w,b", "c", NULL);
    pb_onnx_node(&g, "Flatten", "f1", "c", "f", NULL);
    lib_onnx_end_file(&g); /* 3 1 5 11 to 7 13 29 and 12 22 58 */
    lib_onnx_expect_logit(&g, 7 + 26 + 87 + 48 + 110 + 348 + 0.5f);
}

/* Constants behind Flatten are in the file's order of units, and may follow on one of channels. */
static void test_constants_of_units(void **state)
{
    (void)state;
    const float six[6] = {1, 2, 3, 4, 5, 6}, channels[2] = {1, -1}, one[1] = {1};
    struct pb g = {0};
    begin_relu(&g);
    pb_onnx_tensor(&g, "six", "6", six);
    pb_onnx_tensor(&g, "channels", "2,1", channels);
    pb_onnx_tensor(&g, "one", "1", one);
    pb_onnx_node(&g, "Mul", "m1", "channels,r", "n", NULL);
    pb_onnx_node(&g, "Flatten", "f1", "n", "u", NULL);
    pb_onnx_node(&g, "Mul", "m2", "u,six", "v", NULL);
    pb_onnx_node(&g, "Sub", "s1", "one,v", "f", NULL);
    lib_onnx_end_file(&g); /* v: 3 12 42 -8 -35 -150, f = 1 - v */
    lib_onnx_expect_logit(&g, -2 - 22 - 123 + 36 + 180 + 906 + 0.5f);
}

/* --- As tf2onnx writes Keras's Conv1D, BatchNormalization and MaxPooling1D: 4-D inside, 3-D with
 * --- the channels last outside. --- */

static void begin_keras(struct pb *g)
{
    const float factor[2] = {0.5f, 2}, shift[2] = {1, -3};
    lib_onnx_begin_file(g, "0,4,1");
    pb_onnx_tensor(g, "factor", "2", factor);
    pb_onnx_tensor(g, "shift", "1,1,2", shift);
    pb_onnx_node(g, "Unsqueeze", "conv1d/ExpandDims", "x", "ex", "axes=1");
    pb_onnx_node(g, "Transpose", "conv1d/in", "ex", "ct", "perm=0,3,1,2");
    pb_onnx_node(g, "Conv", "conv1d", "ct,w4", "c",
                 "auto_pad~VALID;strides=1,1;dilations=1,1;kernel_shape=1,2;group:1");
    pb_onnx_node(g, "Transpose", "conv1d/out", "c", "t", "perm=0,2,3,1");
    pb_onnx_node(g, "Squeeze", "conv1d/Squeeze", "t", "s", "axes=1");
    pb_onnx_node(g, "Add", "conv1d/BiasAdd", "s,b", "a", NULL);
    pb_onnx_node(g, "Relu", "conv1d/Relu", "a", "r", NULL);
    pb_onnx_node(g, "Mul", "batchnorm/mul_1", "r,factor", "n", NULL);
    pb_onnx_node(g, "Add", "batchnorm/add_1", "n,shift", "o", NULL);
}

static void test_keras(void **state)
{
    (void)state;
    const int64_t shape[2] = {-1, 6};
    struct pb g = {0};
    begin_keras(&g); /* 2.5 4 8 and 1 11 47 */
    pb_onnx_integers(&g, "shape", shape, 2);
    pb_onnx_node(&g, "Reshape", "flatten", "o,shape", "f", NULL);
    lib_onnx_end_file(&g);
    lib_onnx_expect_logit(&g, 2.5f + 2 + 12 + 44 + 40 + 282 + 0.5f);
}

static void test_keras_pool(void **state)
{
    (void)state;
    const float dense[2] = {1, 10};
    const int64_t shape[2] = {-1, 2};
    struct pb g = {0};
    begin_keras(&g);
    pb_onnx_tensor(&g, "d", "2,1", dense);
    pb_onnx_integers(&g, "shape", shape, 2);
    pb_onnx_node(&g, "Unsqueeze", "pool/ExpandDims", "o", "pe", "axes=2");
    pb_onnx_node(&g, "Transpose", "pool/in", "pe", "pi", "perm=0,3,1,2");
    pb_onnx_node(&g, "MaxPool", "pool", "pi", "po",
                 "auto_pad~SAME_UPPER;kernel_shape=3,1;strides=3,1");
    pb_onnx_node(&g, "Transpose", "pool/out", "po", "pt", "perm=0,2,3,1");
    pb_onnx_node(&g, "Squeeze", "pool/Squeeze", "pt", "ps", "axes=2");
    pb_onnx_node(&g, "Reshape", "flatten", "ps,shape", "f", NULL);
    pb_onnx_node(&g, "MatMul", "dense/MatMul", "f,d", "m", NULL);
    pb_onnx_node(&g, "Softmax", "softmax", "m", "y", NULL);
    lib_onnx_expect_logit(&g, 8 + 470);
}

/* Shape of a tensor that is no longer the current one, through 32 bits, a slice and a product. */
static void test_shape_arithmetic(void **state)
{
    (void)state;
    const int32_t zero[1] = {0}, one[1] = {1}, rest[1] = {-1};
    const int64_t two_and_three[2] = {1, 2};
    struct pb g = {0};
    begin_relu(&g);
    pb_onnx_narrow_integers(&g, "zero", zero, 1);
    pb_onnx_narrow_integers(&g, "one", one, 1);
    pb_onnx_narrow_integers(&g, "rest", rest, 1);
    pb_onnx_integers(&g, "which", two_and_three, 2);
    pb_onnx_node(&g, "Shape", "s1", "c", "s", NULL);
    pb_onnx_node(&g, "Cast", "s2", "s", "s32", "to:6");
    pb_onnx_node(&g, "Slice", "s3", "s32,zero,one,zero", "n", NULL);
    pb_onnx_node(&g, "Gather", "g1", "s,which", "sizes", NULL);
    pb_onnx_node(&g, "Slice", "s4", "sizes,zero,one", "width", NULL);
    pb_onnx_node(&g, "Slice", "s5", "sizes,one", "columns", NULL);
    pb_onnx_node(&g, "Mul", "m1", "width,columns", "units", NULL);
    pb_onnx_node(&g, "Concat", "k1", "n,units", "shape", "axis:0");
    pb_onnx_node(&g, "Reshape", "r2", "r,shape", "f", NULL);
    lib_onnx_end_file(&g);
    lib_onnx_expect_logit(&g, 3 + 12 + 42 + 8 + 35 + 150 + 0.5f);
}

/* --- Padding --- */

/* A convolution and a pool of one column with these attributes. text NULL: accepted. */
static void try_padding(const char *op, const char *attributes, const char *text)
{
    const int pool = !strcmp(op, "MaxPool");
    struct pb g = {0};
    lib_onnx_begin_file(&g, "1,1,1,4");
    pb_onnx_node(&g, "Conv", pool ? "c1" : "odd", "x,w4,b", "c", pool ? NULL : attributes);
    pb_onnx_node(&g, "MaxPool", pool ? "odd" : "p1", "c", "p",
                 pool ? attributes : "kernel_shape=1,3;strides=1,3");
    end_pooled(&g);
    if (!text) {
        lib_onnx_expect_logit(&g, 14 + 250);
        return;
    }
    struct pb file = pb_onnx_model(&g, 13);
    lib_onnx_expect_refused(&file, text);
}

static void test_padding(void **state)
{
    (void)state;
    try_padding("Conv", "auto_pad~NOTSET;pads=0,0,0,0", NULL);
    try_padding("Conv", "auto_pad~VALID", NULL);
    try_padding("Conv", "auto_pad~SAME_UPPER",
                "node \"odd\" (Conv): auto_pad SAME adds 1 to 4 columns: pad");
    try_padding("Conv", "auto_pad~SAME_LOWER", "auto_pad SAME adds 1");
    try_padding("Conv", "auto_pad~OTHER", "unknown auto_pad");
    try_padding("Conv", "auto_pad:1", "auto_pad must be a text");
    try_padding("Conv", "pads=0,1,0,0", "node \"odd\" (Conv): pads 1 and 0 on axis 3: padding");
    try_padding("Conv", "pads=0,0,0,1", "pads 0 and 1 on axis 3");
    try_padding("Conv", "pads=1,0,1,0", "pads 1 and 1 on axis 2");
    try_padding("Conv", "pads=0,0,0", "3 numbers, expected 4");
    try_padding("MaxPool", "auto_pad~SAME_UPPER;kernel_shape=1,3;strides=1,3", NULL);
    try_padding("MaxPool", "auto_pad~SAME_UPPER;kernel_shape=1,2;strides=1,2",
                "SAME adds 1 to 3 columns");
    try_padding("MaxPool", "pads=0,0,0,2;kernel_shape=1,3;strides=1,3", NULL); /* not reached */
    try_padding("MaxPool", "pads=0,0,0,3;kernel_shape=1,3;strides=1,3", "pads 0 and 3");
    try_padding("MaxPool", "pads=0,0,0,1;kernel_shape=1,2;strides=1,2", "pads 0 and 1");
    try_padding("MaxPool", "pads=0,0,0,-1;kernel_shape=1,3;strides=1,3", "pads 0 and -1");
    try_padding("MaxPool", "kernel_shape=1,3", NULL); /* stride 1, but one column */
    try_padding("MaxPool", "kernel_shape=1,2;strides=1,2;ceil_mode:1", "ceil_mode");
    try_padding("MaxPool", "kernel_shape=1,3;strides=1,0", "stride 0");
    try_padding("MaxPool", "kernel_shape=1,3;strides=1,3;dilations=1,2", "dilations");
}

static void test_pad(void **state)
{
    (void)state;
    for (int64_t last = 0; last < 2; last++) {
        const int64_t pads[6] = {0, 0, 0, 0, 0, last};
        struct pb g = {0};
        begin_relu(&g);
        pb_onnx_integers(&g, "pads", pads, 6);
        pb_onnx_node(&g, "Pad", "odd", "r,pads", "n", NULL);
        pb_onnx_node(&g, "MaxPool", "p1", "n", "p", "kernel_shape=3;strides=3");
        end_pooled(&g);
        if (last) {
            struct pb file = pb_onnx_model(&g, 13);
            lib_onnx_expect_refused(&file, "node \"odd\" (Pad): pads 0 and 1 on axis 2");
        } else {
            lib_onnx_expect_logit(&g, 14 + 250);
        }
    }
}

static void test_log_softmax(void **state)
{
    (void)state;
    struct pb g = {0};
    begin_relu(&g);
    pb_onnx_node(&g, "MaxPool", "p1", "r", "p", "kernel_shape=3;strides=3");
    const float dense[2] = {1, 10};
    pb_onnx_tensor(&g, "d", "1,2", dense);
    pb_onnx_node(&g, "Flatten", "f1", "p", "f", NULL);
    pb_onnx_node(&g, "Gemm", "g1", "f,d", "z", "transB:1");
    pb_onnx_node(&g, "LogSoftmax", "l1", "z", "y", "axis:1");
    lib_onnx_expect_logit(&g, 14 + 250);
}

/* --- Refusals --- */

static void refuse_conv(const char *attributes, const char *text)
{
    struct pb g = {0};
    lib_onnx_begin_file(&g, "1,1,4");
    pb_onnx_node(&g, "Conv", "odd", "x,w,b", "c", attributes);
    pb_onnx_node(&g, "Flatten", "f1", "c", "f", NULL);
    lib_onnx_end_file(&g);
    struct pb file = pb_onnx_model(&g, 13);
    lib_onnx_expect_refused(&file, text);
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
    lib_onnx_begin_file(&g, "1,1,4");
    pb_onnx_node(&g, "Conv", "c1", "x,w,b", "c", NULL);
    pb_onnx_node(&g, op, "odd", inputs, "f", attributes);
    lib_onnx_end_file(&g);
    struct pb file = pb_onnx_model(&g, opset);
    lib_onnx_expect_refused(&file, text);
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
    lib_onnx_begin_file(&g, "1,1,4");
    pb_onnx_odd_tensor(&g, "odd", dims, bytes, external);
    pb_onnx_node(&g, "Conv", "c1", "x,odd,b", "c", NULL);
    pb_onnx_node(&g, "Flatten", "f1", "c", "f", NULL);
    lib_onnx_end_file(&g);
    struct pb file = pb_onnx_model(&g, 13);
    lib_onnx_expect_refused(&file, text);
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
    lib_onnx_begin_file(&g, "1,1,4");
    pb_onnx_foreign_node(&g, "com.example", "Relu", "x", "c");
    lib_onnx_end_file(&g);
    struct pb file = pb_onnx_model(&g, 13);
    lib_onnx_expect_refused(&file, "com.example");
}

static void refuse_input(const char *dims, const char *text)
{
    struct pb g = {0};
    lib_onnx_begin_file(&g, dims);
    pb_onnx_node(&g, "Flatten", "f1", "x", "f", NULL);
    lib_onnx_end_file(&g);
    struct pb file = pb_onnx_model(&g, 13);
    lib_onnx_expect_refused(&file, text);
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

static void refuse_twice(const char *constant, const char *output, const char *text)
{
    struct pb g = {0};
    lib_onnx_begin_file(&g, "1,1,4");
    pb_onnx_tensor(&g, constant, "2", ones);
    pb_onnx_node(&g, "Conv", "c1", "x,w,b", "c", NULL);
    pb_onnx_node(&g, "Relu", "odd", "c", output, NULL);
    pb_onnx_node(&g, "Flatten", "f1", output, "f", NULL);
    lib_onnx_end_file(&g);
    struct pb file = pb_onnx_model(&g, 13);
    lib_onnx_expect_refused(&file, text);
}

static void test_names(void **state)
{
    (void)state;
    static char longer[2000];
    memset(longer, 'n', sizeof(longer) - 1);
    refuse_twice("w", "r", "\"w\" is given twice");
    refuse_twice("other", "b", "node \"odd\" (Relu): the name \"b\" is given twice");
    refuse_twice("other", "x", "\"x\" is given twice");
    refuse_twice("x", "r", "expected an input");
    refuse_twice("other", "c", "\"c\" is given twice"); /* a cycle */
    refuse_twice(longer, "r", "longer than 1024");
    refuse_twice("other", longer, "longer than 1024");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_channel_major),
        cmocka_unit_test(test_computed_shape),
        cmocka_unit_test(test_shape_arithmetic),
        cmocka_unit_test(test_time_major),
        cmocka_unit_test(test_unit_dimension_and_norm),
        cmocka_unit_test(test_pool),
        cmocka_unit_test(test_norm_into_dense),
        cmocka_unit_test(test_norm_into_conv),
        cmocka_unit_test(test_norm_behind_pool),
        cmocka_unit_test(test_norm_before_pool),
        cmocka_unit_test(test_norm_without_a_place),
        cmocka_unit_test(test_weights_not_finite),
        cmocka_unit_test(test_norm_of_inputs),
        cmocka_unit_test(test_constants_of_units),
        cmocka_unit_test(test_keras),
        cmocka_unit_test(test_keras_pool),
        cmocka_unit_test(test_padding),
        cmocka_unit_test(test_pad),
        cmocka_unit_test(test_log_softmax),
        cmocka_unit_test(test_refusals_name_the_node),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_hostile_tensors),
        cmocka_unit_test(test_foreign_domain),
        cmocka_unit_test(test_odd_inputs),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests_name("onnx_forms", tests, NULL, NULL);
}
