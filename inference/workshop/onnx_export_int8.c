/* onnx_export_int8.c - an INT8 model as QDQ: every quantized tensor stands between QuantizeLinear
 * and DequantizeLinear, and runtimes fuse these into integer arithmetic.
 *
 * Our levels of an input channel span its feature's range, whatever the nominal scale of the first
 * layer's input (quantize.h); so the file first maps each feature to that nominal scale. Rounding
 * is the runtime's: results are ours but for single steps.
 */
#include <errno.h>
#include <string.h>

#include "inference/workshop/onnx_build.h"
#include "inference/workshop/quantize.h"

/* A one-number scale and zero point as the next inputs of the last node. */
static int add_scale(struct onnx_build *b, const char *name, const char *scale_suffix,
                     const char *zero_suffix, float scale, int8_t zero)
{
    float *s = onnx_build_tensor(b, name, scale_suffix, ONNX_BUILD_FLOAT, NULL, 0);
    int8_t *z = s ? onnx_build_tensor(b, name, zero_suffix, ONNX_BUILD_INT8, NULL, 0) : NULL;

    if (!z)
        return -ENOMEM;
    *s = scale;
    *z = zero;
    return 0;
}

/* The current tensor through int8 and back. */
static int add_qdq(struct onnx_build *b, const char *name, float scale, int8_t zero)
{
    int rc;

    (void)onnx_build_node(b, "QuantizeLinear", "");
    rc = add_scale(b, name, "q_scale", "q_zero", scale, zero);
    if (rc)
        return rc;
    (void)onnx_build_node(b, "DequantizeLinear", "");
    return add_scale(b, name, "dq_scale", "dq_zero", scale, zero);
}

/* Watts are often whole and so lie half-way between two levels: our thresholds take the upper one,
 * a runtime the even one. This share of a level takes halves up, too; it is a little above what
 * float32 loses on the way (four roundings of 2^-25 of at most 255 levels). */
#define HALVES_UP 0x1p-15

/* Features to what the first layer's scale and zero point mean. The colon keeps the names apart
 * from those of layers. */
static int add_input(struct onnx_build *b, const struct model *m)
{
    const struct model_layer *l = &m->layers[0];
    const int64_t dims[3] = {1, (int64_t)m->channel_count, 1};
    float *factor, *shift;

    (void)onnx_build_node(b, "Mul", "");
    factor = onnx_build_tensor(b, "features:in", "factor", ONNX_BUILD_FLOAT, dims, 3);
    if (!factor)
        return -ENOMEM;
    (void)onnx_build_node(b, "Add", "");
    shift = onnx_build_tensor(b, "features:in", "shift", ONNX_BUILD_FLOAT, dims, 3);
    if (!shift)
        return -ENOMEM;
    for (uint32_t c = 0; c < m->channel_count; c++) {
        double scale, offset, in = (double)l->in_scale;
        quantize_input(m->channels[c].feature, &scale, &offset);
        factor[c] = (float)(in / scale);
        shift[c] = (float)(-in * offset / scale - in * (double)l->in_zero + in * HALVES_UP);
    }
    return add_qdq(b, "features:in", l->in_scale, l->in_zero);
}

/* Weights and biases as integers, each with a DequantizeLinear; then op on what they give. */
static int add_sums(struct onnx_build *b, const struct model_layer *l, uint32_t columns)
{
    const int conv = l->op == MODEL_CONV1D;
    const size_t in = l->in_channels, out = l->out_channels, taps = conv ? l->taps : 1;
    const int64_t dims[3] = {(int64_t)out, (int64_t)in, (int64_t)taps};
    const char *weights_real, *bias_real;
    float *scale;
    int32_t *bias;
    int8_t *weights;

    weights_real = onnx_build_aside(b, "DequantizeLinear");
    weights = onnx_build_tensor(b, l->name, "weight", ONNX_BUILD_INT8, dims, conv ? 3 : 2);
    scale =
        weights ? onnx_build_tensor(b, l->name, "weight_scale", ONNX_BUILD_FLOAT, dims, 1) : NULL;
    if (!scale)
        return -ENOMEM;
    onnx_build_attribute(b, "axis", 0, 0);
    for (size_t o = 0; o < out; o++)
        for (size_t c = 0; c < in; c++)
            for (size_t t = 0; t < taps; t++) {
                size_t to = conv ? c : onnx_build_place(c, in, columns);
                weights[(o * in + to) * taps + t] = l->weights[(o * taps + t) * in + c];
            }
    memcpy(scale, l->weight_scale, out * sizeof(float));

    bias_real = onnx_build_aside(b, "DequantizeLinear");
    bias = onnx_build_tensor(b, l->name, "bias", ONNX_BUILD_INT32, dims, 1);
    scale = bias ? onnx_build_tensor(b, l->name, "bias_scale", ONNX_BUILD_FLOAT, dims, 1) : NULL;
    if (!scale)
        return -ENOMEM;
    onnx_build_attribute(b, "axis", 0, 0);
    memcpy(bias, l->bias, out * sizeof(int32_t));
    for (size_t o = 0; o < out; o++)
        scale[o] = l->in_scale * l->weight_scale[o];

    (void)onnx_build_node(b, conv ? "Conv" : "Gemm", l->name);
    onnx_build_input(b, weights_real);
    onnx_build_input(b, bias_real);
    onnx_build_attribute(b, conv ? "kernel_shape" : "transB", conv ? l->taps : 1, conv);
    return 0;
}

int onnx_build_int8(struct onnx_build *b, const struct model *m)
{
    uint32_t columns = 1; /* of the input of Flatten, for the first dense layer after it */
    int rc = add_input(b, m);

    for (uint32_t i = 0; !rc && i < m->layer_count; i++) {
        const struct model_layer *l = &m->layers[i];
        if (l->op == MODEL_MAXPOOL1D) {
            (void)onnx_build_node(b, "MaxPool", l->name);
            onnx_build_attribute(b, "kernel_shape", l->pool, 1);
            onnx_build_attribute(b, "strides", l->pool, 1);
            continue;
        }
        if (l->op == MODEL_FLATTEN) {
            (void)onnx_build_node(b, "Flatten", l->name);
            onnx_build_attribute(b, "axis", 1, 0);
            columns = l->in_columns;
            continue;
        }
        rc = add_sums(b, l, columns);
        if (l->op == MODEL_DENSE)
            columns = 1;
        if (!rc && l->relu)
            (void)onnx_build_node(b, "Relu", "");
        if (!rc && i + 1 < m->layer_count) /* the logits are not quantized again */
            rc = add_qdq(b, l->name, l->out_scale, l->out_zero);
    }
    return rc;
}
