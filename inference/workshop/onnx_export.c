/* onnx_export.c - the network of a model as an ONNX file. */
#include "inference/workshop/onnx.h"

#include <errno.h>
#include <string.h>

#include "inference/workshop/onnx_build.h"

static int add_weights(struct onnx_build *b, const struct model_layer *l, uint32_t columns)
{
    const size_t in = l->in_channels, out = l->out_channels,
                 taps = l->op == MODEL_CONV1D ? l->taps : 1;
    const int64_t dims[3] = {(int64_t)out, (int64_t)in, (int64_t)taps};
    float *weights = onnx_build_tensor(b, l->name, "weight", ONNX_BUILD_FLOAT, dims,
                                       l->op == MODEL_CONV1D ? 3 : 2);
    float *bias = weights ? onnx_build_tensor(b, l->name, "bias", ONNX_BUILD_FLOAT, dims, 1) : NULL;

    if (!bias)
        return -ENOMEM;
    for (size_t o = 0; o < out; o++)
        for (size_t c = 0; c < in; c++)
            for (size_t t = 0; t < taps; t++) {
                size_t to = l->op == MODEL_DENSE ? onnx_build_place(c, in, columns) : c;
                weights[(o * in + to) * taps + t] = l->weights_f32[(o * taps + t) * in + c];
            }
    memcpy(bias, l->bias_f32, out * sizeof(float));
    return 0;
}

static int add_layers(struct onnx_build *b, const struct model *m)
{
    uint32_t columns = 1; /* of the input of Flatten, for the first dense layer after it */
    int rc = 0;

    for (uint32_t i = 0; !rc && i < m->layer_count; i++) {
        const struct model_layer *l = &m->layers[i];
        switch (l->op) {
        case MODEL_CONV1D:
            (void)onnx_build_node(b, "Conv", l->name);
            onnx_build_attribute(b, "kernel_shape", l->taps, 1);
            rc = add_weights(b, l, 1);
            break;
        case MODEL_MAXPOOL1D:
            (void)onnx_build_node(b, "MaxPool", l->name);
            onnx_build_attribute(b, "kernel_shape", l->pool, 1);
            onnx_build_attribute(b, "strides", l->pool, 1);
            break;
        case MODEL_FLATTEN:
            (void)onnx_build_node(b, "Flatten", l->name);
            onnx_build_attribute(b, "axis", 1, 0);
            columns = l->in_columns;
            break;
        case MODEL_DENSE:
            (void)onnx_build_node(b, "Gemm", l->name);
            onnx_build_attribute(b, "transB", 1, 0);
            rc = add_weights(b, l, columns);
            columns = 1;
            break;
        }
        if (!rc && l->relu)
            (void)onnx_build_node(b, "Relu", "");
    }
    return rc;
}

int onnx_export(const struct model *m, void **data, size_t *size)
{
    struct onnx_build *b = onnx_build_create();
    int rc = b ? 0 : -ENOMEM;

    *data = NULL;
    *size = 0;
    if (!rc)
        rc = m->dtype == MODEL_INT8 ? onnx_build_int8(b, m) : add_layers(b, m);
    if (!rc) {
        (void)onnx_build_node(b, m->head == MODEL_SOFTMAX ? "Softmax" : "Sigmoid", "");
        if (m->head == MODEL_SOFTMAX)
            onnx_build_attribute(b, "axis", 1, 0);
        rc = onnx_build_pack(b, m, data, size);
    }
    onnx_build_free(b);
    return rc;
}
