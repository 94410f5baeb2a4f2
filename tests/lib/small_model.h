/* small_model.h - an INT8 model whose answers can be worked out by hand, for tests of what
 * surrounds a model.
 *
 * It tells "Low" from "High" by the largest power of its 16 samples of 8 s, at about 500 W, and
 * knows a third class, "Never", that it never says. swap exchanges the first two labels: then it is
 * always wrong.
 */
#ifndef TESTS_LIB_SMALL_MODEL_H
#define TESTS_LIB_SMALL_MODEL_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/engine.h"
#include "inference/model.h"

enum { SMALL_WINDOW = 16 };

static inline struct model_layer small_layer(enum model_op op, uint32_t in_columns,
                                             uint32_t out_columns)
{
    return (struct model_layer){.op = op,
                                .in_channels = 1,
                                .out_channels = 1,
                                .in_columns = in_columns,
                                .out_columns = out_columns,
                                .in_scale = 0.01f,
                                .in_zero = -128,
                                .out_scale = 0.01f,
                                .out_zero = -128};
}

/* Encodes the model (free(*data)). golden: how many golden vectors; broken: the last of them is
 * wrong in one bit. */
static inline void small_model_encode(uint32_t version, int swap, uint32_t golden, int broken,
                                      void **data, size_t *size)
{
    static const char names[3][MODEL_LABEL_BYTES] = {"Low", "High", "Never"};
    static const char swapped[3][MODEL_LABEL_BYTES] = {"High", "Low", "Never"};
    static const int8_t weights[3] = {-100, 100, 0};
    static float thresholds[MODEL_LEVELS], watts[4][SMALL_WINDOW + 1], logits[4][3];
    float weight_scale[3] = {0.2f, 0.2f, 0.2f},
          logit_scale[3] = {0.01f * 0.2f, 0.01f * 0.2f, 0.01f * 0.2f};
    int32_t biases[3] = {100 * 50, -100 * 50, -100000}; /* level 50 of 255: 500 W */
    struct model_golden vectors[4];
    char why[256] = "";
    for (int k = 0; k < (int)MODEL_LEVELS; k++)
        thresholds[k] = 10.0f * ((float)k + 0.5f);
    struct model m = {.dtype = MODEL_INT8,
                      .head = MODEL_SOFTMAX,
                      .version = version,
                      .family = "identify",
                      .window = SMALL_WINDOW,
                      .period_ms = 8000,
                      .hop = 4,
                      .reject = 0.5f,
                      .min_activity_w = 5,
                      .channel_count = 1,
                      .layer_count = 3,
                      .class_count = 3,
                      .labels = swap ? swapped : names,
                      .meta = "attribution=none\ncreated=by a test\n"};
    m.channels[0] = (struct model_channel){MODEL_LINEAR, 2550, thresholds};
    m.layers[0] = small_layer(MODEL_MAXPOOL1D, SMALL_WINDOW, 1);
    m.layers[0].pool = SMALL_WINDOW;
    m.layers[1] = small_layer(MODEL_FLATTEN, 1, 1);
    m.layers[2] = small_layer(MODEL_DENSE, 1, 1);
    m.layers[2].out_channels = 3;
    m.layers[2].out_scale = 0;
    m.layers[2].out_zero = 0;
    m.layers[2].weights = weights;
    m.layers[2].bias = biases;
    m.layers[2].weight_scale = weight_scale;
    m.layers[2].logit_scale = logit_scale;
    snprintf(m.layers[2].name, sizeof m.layers[2].name, "dense");
    struct engine *e;
    int rc = engine_create(&m, 0, &e, why, sizeof why);
    void *scratch =
        rc ? NULL
           : aligned_alloc(ENGINE_ALIGN,
                           engine_scratch_bytes(e) / ENGINE_ALIGN * ENGINE_ALIGN + ENGINE_ALIGN);
    if (scratch == NULL || golden > 4) {
        fprintf(stderr, "small model: %s\n", why);
        abort();
    }
    for (uint32_t g = 0; g < golden; g++) {
        for (int i = 0; i <= SMALL_WINDOW; i++)
            watts[g][i] = (float)(g * 700 + (uint32_t)i);
        engine_run(e, scratch, watts[g], logits[g]);
        if (broken && g + 1 == golden)
            logits[g][0] += 0.25f;
        vectors[g] = (struct model_golden){watts[g], logits[g]};
    }
    m.golden = vectors;
    m.golden_count = golden;
    free(scratch);
    engine_free(e);
    if (model_encode(&m, data, size, why, sizeof why) != 0) {
        fprintf(stderr, "small model: %s\n", why);
        abort();
    }
}

static inline void small_model_write(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(data, 1, size, f) != size || fclose(f) != 0)
        abort();
}

#endif
