/* test_quantize.c - quantization: thresholds and multipliers by their definitions; the INT8 engine
 * against the FP32 net on a small trained network and on odd ones; golden vectors reproduce. */
#include <errno.h>
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "inference/engine.h"
#include "inference/workshop/convert.h"
#include "inference/workshop/net_random.h"
#include "inference/workshop/quantize.h"
#include "inference/workshop/runner.h"
#include "workshop/lib_small.h"
#include "workshop/lib_synthetic.h"

/* --- Thresholds --- */

static int level(const float *thresholds, float x)
{
    int q = -128;
    for (uint32_t i = 0; i < MODEL_LEVELS; i++)
        q += thresholds[i] <= x;
    return q;
}

/* The level of x is the feature's value rounded to the channel's scale, for each feature. */
static void test_thresholds(void **state)
{
    (void)state;
    const float xs[] = {-9000, -300,  -7.5f, -1,   -0.02f, 0,    0.3f, 1,   4,
                        17,    59.9f, 230,   1000, 2300,   3999, 4000, 9000};

    for (int f = MODEL_LINEAR; f <= MODEL_LOG_DIFF; f++) {
        struct model_channel c = {.feature = (enum model_feature)f, .full = 4000.0f};
        float thresholds[MODEL_LEVELS];
        double scale, offset;
        quantize_input(c.feature, &scale, &offset);
        quantize_thresholds(&c, thresholds);
        for (uint32_t i = 0; i < MODEL_LEVELS; i++)
            assert_true(isfinite(thresholds[i]) && (i == 0 || thresholds[i] >= thresholds[i - 1]));
        for (size_t i = 0; i < sizeof(xs) / sizeof(xs[0]); i++) {
            const float watts[2] = {0.0f, xs[i]};
            float feature;
            net_features(&c, 1, 1, watts, &feature);
            double q = ((double)feature - offset) / scale;
            if (fabs(q - floor(q) - 0.5) < 1e-3)
                continue; /* float and double may round a tie differently */
            assert_int_equal(level(thresholds, xs[i]), (int)floor(q + 0.5));
        }
    }
}

/* A threshold belongs to the upper level, and the float below it to the lower one. */
static void test_threshold_is_sharp(void **state)
{
    (void)state;
    struct model_channel c = {.feature = MODEL_LOG, .full = 4000.0f};
    float t[MODEL_LEVELS];

    quantize_thresholds(&c, t);
    for (uint32_t i = 0; i < MODEL_LEVELS; i++) {
        assert_int_equal(level(t, t[i]), (int)i - 127);
        assert_int_equal(level(t, nextafterf(t[i], -FLT_MAX)), (int)i - 128);
        double exact = expm1(((double)i + 0.5) / 255.0 * log1p(4000.0));
        assert_true((double)t[i] >= exact && (double)nextafterf(t[i], -FLT_MAX) < exact);
    }
}

static void test_multiplier(void **state)
{
    (void)state;
    struct net_random r = net_random_stream(1, 2, 3);
    uint32_t m;
    uint8_t s;

    for (int i = 0; i < 10000; i++) {
        double ratio = ldexp(0.5 + 0.5 * net_random_unit(&r), -(int)net_random_below(&r, 32));
        assert_int_equal(quantize_multiplier(ratio, &m, &s), 0);
        assert_true(m >= 1u << 30 && m < 1u << 31 && s >= 31 && s <= 62);
        assert_true(fabs(ldexp((double)m, -s) / ratio - 1.0) <= 0x1p-31);
    }
    assert_int_equal(quantize_multiplier(1.0 - 1e-13, &m, &s), -ERANGE); /* rounds up to 1 */
    assert_int_equal(quantize_multiplier(1.0, &m, &s), -ERANGE);
    assert_int_equal(quantize_multiplier(0.0, &m, &s), -ERANGE);
    assert_int_equal(quantize_multiplier(-0.5, &m, &s), -ERANGE);
    assert_int_equal(quantize_multiplier(0x1p-40, &m, &s), -ERANGE);
}

/* --- A small trained network --- */

/* Share of d's windows on which the file of q, read back, and the FP32 model have the same first
 * class. */
static double agreement(struct quantized *q, const struct model *fp32, const struct dataset *d)
{
    struct model *decoded;
    struct runner *a, *b;
    void *data;
    size_t size, same = 0;
    char why[256] = "";
    float watts[SMALL_WINDOW + 1], p[SMALL_CLASSES], r[SMALL_CLASSES];

    if (model_encode(quantize_model(q), &data, &size, why, sizeof(why)) ||
        model_decode(data, size, &decoded, why, sizeof(why)) ||
        runner_create(decoded, &a, why, sizeof(why)) || runner_create(fp32, &b, why, sizeof(why)))
        fail_msg("%s", why);
    for (size_t i = 0; i < d->window_count; i++) {
        uint32_t x = 0, y = 0;
        dataset_copy(d, &d->windows[i], 0, watts);
        runner_windows(a, watts, 1, p);
        runner_windows(b, watts, 1, r);
        for (uint32_t c = 1; c < SMALL_CLASSES; c++) {
            x = p[c] > p[x] ? c : x;
            y = r[c] > r[y] ? c : y;
        }
        same += x == y;
    }
    runner_free(a);
    runner_free(b);
    model_free(decoded);
    free(data);
    return (double)same / (double)d->window_count;
}

static void test_int8_agrees_with_fp32(void **state)
{
    (void)state;
    struct dataset *d = synthetic_dataset(SMALL_CLASSES, 4, 600, SMALL_WINDOW, 24, 1),
                   *unseen = synthetic_dataset(SMALL_CLASSES, 3, 600, SMALL_WINDOW, 12, 2);
    struct model m = small_model();
    struct net *net = small_trained(&m, d);
    const double percentiles[3] = {100.0, 99.99, 100.0};

    for (int i = 0; i < 3; i++) { /* nearest, level, fit */
        struct quantized *q =
            small_quantized(net, &m, d, percentiles[i], (enum quantize_rounding)i);
        double same = agreement(q, &m, unseen);
        if (same < 0.97)
            fail_msg("INT8 and FP32 agree on %.3f of the windows", same);
        quantize_free(q);
    }
    net_free(net);
    synthetic_free(d);
    synthetic_free(unseen);
}

static void test_golden_reproduce(void **state)
{
    (void)state;
    struct dataset *d = synthetic_dataset(SMALL_CLASSES, 4, 600, SMALL_WINDOW, 24, 1);
    struct model m = small_model(), *decoded;
    struct net *net = small_trained(&m, d);
    struct quantized *q = small_quantized(net, &m, d, 100.0, QUANTIZE_NEAREST);
    struct engine *e;
    void *data;
    size_t size;
    char why[256] = "";

    assert_int_equal(model_encode(quantize_model(q), &data, &size, why, sizeof(why)), 0);
    assert_int_equal(model_decode(data, size, &decoded, why, sizeof(why)), 0);
    assert_int_equal(decoded->golden_count, 8);
    assert_int_equal(engine_create(decoded, 0, &e, why, sizeof(why)), 0);
    assert_int_equal(engine_selftest(e), 0);
    engine_free(e);
    model_free(decoded);
    free(data);
    quantize_free(q);
    net_free(net);
    synthetic_free(d);
}

/* Channels that are dead, all but dead, or mostly bias still make a valid model that computes what
 * FP32 does. */
static void test_odd_channels(void **state)
{
    (void)state;
    struct dataset *d = synthetic_dataset(SMALL_CLASSES, 4, 600, SMALL_WINDOW, 24, 1);
    struct model m = small_model();
    struct net *net = small_trained(&m, d);
    const struct net_layer *conv = &net->layers[0], *dense = &net->layers[5];
    const size_t fan_in = conv->weight_count / conv->out_channels;

    memset(net->params + conv->weights, 0, fan_in * sizeof(float)); /* dead */
    net->params[conv->bias] = 0.0f;
    for (size_t k = 0; k < fan_in; k++) {
        net->params[conv->weights + fan_in + k] = 1e-9f;      /* all but dead */
        net->params[conv->weights + 2 * fan_in + k] *= 1e-7f; /* mostly bias */
    }
    net->params[conv->bias + 1] = 0.0f;
    net->params[conv->bias + 2] = 0.5f;
    memset(net->params + dense->weights, 0, dense->in_channels * sizeof(float));
    net->params[dense->bias] = 3.0f; /* a constant unit */
    for (int rounding = QUANTIZE_NEAREST; rounding <= QUANTIZE_FIT; rounding++) {
        struct quantized *q = small_quantized(net, &m, d, 100.0, (enum quantize_rounding)rounding);
        assert_true(agreement(q, &m, d) >= 0.95);
        quantize_free(q);
    }
    net_free(net);
    synthetic_free(d);
}

/* A network that is nothing but zeros: every range is empty, every scale a floor. */
static void test_all_zero(void **state)
{
    (void)state;
    struct dataset *d = synthetic_dataset(SMALL_CLASSES, 1, 300, SMALL_WINDOW, 24, 1);
    struct model m = small_model();
    struct net *net = small_trained(&m, d);
    memset(net->params, 0, net->param_count * sizeof(float));
    for (int rounding = QUANTIZE_NEAREST; rounding <= QUANTIZE_FIT; rounding++) {
        struct quantized *q = small_quantized(net, &m, d, 99.9, (enum quantize_rounding)rounding);
        assert_true(agreement(q, &m, d) >= 1.0);
        quantize_free(q);
    }
    net_free(net);
    synthetic_free(d);
}

/* LEVEL keeps the sum over the taps of each input to half a step; NEAREST is within half a step of
 * each weight. */
static void test_rounding(void **state)
{
    (void)state;
    struct dataset *d = synthetic_dataset(SMALL_CLASSES, 1, 300, SMALL_WINDOW, 24, 1);
    struct model m = small_model();
    struct net *net = small_trained(&m, d);
    const struct net_layer *conv = &net->layers[2];
    const uint32_t in = conv->in_channels, taps = conv->taps;

    for (int rounding = QUANTIZE_NEAREST; rounding <= QUANTIZE_LEVEL; rounding++) {
        struct quantized *q = small_quantized(net, &m, d, 100.0, (enum quantize_rounding)rounding);
        const struct model_layer *l = &quantize_model(q)->layers[2];
        for (uint32_t o = 0; o < conv->out_channels; o++) {
            for (uint32_t c = 0; c < in; c++) {
                double loss = 0.0;
                for (uint32_t t = 0; t < taps; t++) {
                    size_t at = ((size_t)o * taps + t) * in + c;
                    double one =
                        (double)net->params[conv->weights + at] / (double)l->weight_scale[o] -
                        l->weights[at];
                    loss += one;
                    assert_true(fabs(one) <= (rounding == QUANTIZE_LEVEL ? 1.01 : 0.51));
                }
                assert_true(rounding == QUANTIZE_NEAREST ||
                            fabs(loss) <= 1.01); /* half a step, or one where a weight is at 127 */
            }
        }
        quantize_free(q);
    }
    net_free(net);
    synthetic_free(d);
}

static void test_calibration_narrows(void **state)
{
    (void)state;
    struct dataset *d = synthetic_dataset(SMALL_CLASSES, 4, 600, SMALL_WINDOW, 24, 1);
    struct model m = small_model();
    struct net *net = small_trained(&m, d);
    struct quantize_sample sample = small_sample(&m, d, 128);
    struct quantize_range all[MODEL_MAX_LAYERS], most[MODEL_MAX_LAYERS], best[MODEL_MAX_LAYERS];

    assert_int_equal(quantize_calibrate(net, m.channels, &sample, QUANTIZE_MINMAX, 0, all), 0);
    assert_int_equal(quantize_calibrate(net, m.channels, &sample, QUANTIZE_PERCENTILE, 99.0, most),
                     0);
    assert_int_equal(quantize_calibrate(net, m.channels, &sample, QUANTIZE_MSE, 0, best), 0);
    for (uint32_t i = 0; i < net->layer_count; i++) {
        if (net->layers[i].relu) {
            assert_true(all[i].low == 0.0f && most[i].low == 0.0f && best[i].low == 0.0f);
            assert_true(most[i].high > 0.0f && most[i].high < all[i].high);
            assert_true(best[i].high > 0.0f && best[i].high <= all[i].high);
        } else if (!net->layers[i].weight_count) {
            assert_true(all[i].high == all[i - 1].high && best[i].high == best[i - 1].high);
        }
    }
    quantize_sample_free(&sample);
    net_free(net);
    synthetic_free(d);
}

/* A layer that passes its input on, seen in windows that are at 40 W but for one sample at 4000 W:
 * cutting that off costs more than rounding does, unless it is rare enough. */
static void test_mse_weighs_clipping_against_rounding(void **state)
{
    (void)state;
    const struct net_spec spec = {.head = MODEL_SOFTMAX,
                                  .window = 1,
                                  .channels = 1,
                                  .class_count = 1,
                                  .hidden_count = 1,
                                  .hidden = {1}};
    const struct model_channel channel = {.feature = MODEL_LINEAR, .full = 4000.0f};
    const uint32_t counts[2] = {100, 1000000}; /* rounding 1/255^2/12 against 1/count: 780300 */
    struct net *net;

    assert_int_equal(net_create(&spec, &net, NULL, 0), 0);
    net->params[net->layers[1].weights] = 1.0f;
    for (int k = 0; k < 2; k++) {
        struct quantize_sample sample = {.windows = counts[k]};
        struct quantize_range ranges[MODEL_MAX_LAYERS];
        sample.watts = calloc(counts[k], 2 * sizeof(float));
        assert_non_null(sample.watts);
        for (uint32_t i = 0; i < counts[k]; i++)
            sample.watts[2 * i + 1] = i ? 40.0f + (float)(i % 8) : 4000.0f;
        assert_int_equal(quantize_calibrate(net, &channel, &sample, QUANTIZE_MSE, 0, ranges), 0);
        assert_true(k ? ranges[1].high < 0.9f : ranges[1].high > 0.9f);
        free(sample.watts);
    }
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_thresholds),
                                       cmocka_unit_test(test_threshold_is_sharp),
                                       cmocka_unit_test(test_multiplier),
                                       cmocka_unit_test(test_int8_agrees_with_fp32),
                                       cmocka_unit_test(test_golden_reproduce),
                                       cmocka_unit_test(test_odd_channels),
                                       cmocka_unit_test(test_all_zero),
                                       cmocka_unit_test(test_rounding),
                                       cmocka_unit_test(test_calibration_narrows),
                                       cmocka_unit_test(test_mse_weighs_clipping_against_rounding)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
