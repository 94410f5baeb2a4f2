/* test_quantize_error.c - what the quantizer does about its error: the trace against the engine,
 * fitted rounding, bias correction, the report. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "inference/engine.h"
#include "inference/workshop/convert.h"
#include "inference/workshop/net_random.h"
#include "inference/workshop/quantize.h"
#include "inference/workshop/quantize_trace.h"
#include "workshop/lib_small.h"
#include "workshop/lib_synthetic.h"

/* The layer-by-layer arithmetic gives the engine's bits. */
static void test_trace_is_the_engine(void **state)
{
    (void)state;
    struct dataset *d = synthetic_dataset(SMALL_CLASSES, 4, 600, SMALL_WINDOW, 24, 1);
    struct model m = small_model();
    struct net *net = small_trained(&m, d);
    struct quantized *q = small_quantized(net, &m, d, 99.9, QUANTIZE_FIT);
    const struct model *int8 = quantize_model(q);
    const struct model_layer *last = &int8->layers[int8->layer_count - 1];
    struct quantize_trace t;

    assert_int_equal(int8->golden_count, 8);
    assert_int_equal(quantize_trace_create(int8, &t), 0);
    for (uint32_t g = 0; g < int8->golden_count; g++) {
        quantize_trace_start(&t, int8->golden[g].watts);
        for (uint32_t i = 0; i < int8->layer_count; i++) {
            int8_t *swap = t.a;
            quantize_trace_layer(&t, i, t.a, t.b);
            t.a = t.b;
            t.b = swap;
        }
        for (uint32_t c = 0; c < SMALL_CLASSES; c++) {
            float logit = (float)t.sums[c] * last->logit_scale[c];
            assert_memory_equal(&logit, &int8->golden[g].logits[c], sizeof(logit));
        }
    }
    quantize_trace_free(&t);
    quantize_free(q);
    net_free(net);
    synthetic_free(d);
}

static double cost(const double *products, const double *exact, const int8_t *w, uint32_t n)
{
    double sum = 0.0;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < n; k++)
            sum += (w[i] - exact[i]) * products[i * n + k] * (w[k] - exact[k]);
    return sum;
}

/* Inputs that always come together: weights 0.4, 0.4, 0.4 are best rounded so that their sum, 1.2,
 * is, which nearest (0, 0, 0) does not do. With inputs that have nothing to do with each other,
 * nearest is the best and stays. What is left is what quantize_fit says, never more than before,
 * and no single step makes it less. */
static void test_fit(void **state)
{
    (void)state;
    enum { N = 6 };
    double products[9] = {1.01, 1, 1, 1, 1.01, 1, 1, 1, 1.01}, gradient[N];
    const double same[3] = {0.4, 0.4, 0.4}, alone[9] = {1, 0, 0, 0, 2, 0, 0, 0, 3};
    int8_t w[N] = {0};

    double rest = quantize_fit(products, same, 3, w, gradient);
    assert_float_equal(rest, cost(products, same, w, 3), 1e-9);
    assert_int_equal(w[0] + w[1] + w[2], 1);
    memset(w, 0, sizeof(w));
    (void)quantize_fit(alone, same, 3, w, gradient);
    assert_true(!w[0] && !w[1] && !w[2]);

    struct net_random r = net_random_stream(5, 6, 7);
    for (int trial = 0; trial < 200; trial++) {
        double a[N * N], p[N * N] = {0}, exact[N];
        for (int k = 0; k < N * N; k++)
            a[k] = net_random_normal(&r);
        for (int i = 0; i < N; i++)
            for (int k = 0; k < N; k++)
                for (int j = 0; j < N; j++)
                    p[i * N + k] += a[i * N + j] * a[k * N + j];
        for (int k = 0; k < N; k++) {
            exact[k] = 126.8 * (2.0 * net_random_unit(&r) - 1.0);
            w[k] = (int8_t)lround(exact[k]);
        }
        double before = cost(p, exact, w, N), after = quantize_fit(p, exact, N, w, gradient);
        assert_true(after <= before + 1e-9);
        assert_float_equal(after, cost(p, exact, w, N), 1e-6 * (1.0 + before));
        for (int k = 0; k < N; k++)
            for (int step = -1; step <= 1; step += 2) {
                if (w[k] + step > 127 || w[k] + step < -127)
                    continue;
                w[k] = (int8_t)(w[k] + step);
                assert_true(cost(p, exact, w, N) >= after - 1e-6 * (1.0 + before));
                w[k] = (int8_t)(w[k] - step);
            }
    }
}

/* After the correction the mean of every logit over the sample is FP32's, to half a step of its
 * bias; before, it is not. */
static void test_bias_correction(void **state)
{
    (void)state;
    struct dataset *d = synthetic_dataset(SMALL_CLASSES, 4, 600, SMALL_WINDOW, 24, 1);
    struct model m = small_model();
    struct net *net = small_trained(&m, d);
    struct quantize_sample sample = small_sample(&m, d, 128);
    struct quantize_range ranges[MODEL_MAX_LAYERS];
    double worst[2] = {0.0, 0.0};

    assert_int_equal(convert_to_model(net, &m), 0);
    assert_int_equal(quantize_calibrate(net, m.channels, &sample, QUANTIZE_MINMAX, 0, ranges), 0);
    for (int correct = 0; correct <= 1; correct++) {
        const struct quantize_options o = {
            .ranges = ranges, .correct_bias = correct, .sample = &sample};
        struct quantized *q;
        double mean[2][SMALL_CLASSES] = {{0}};
        assert_int_equal(quantize_net(net, &m, &o, &q, NULL, 0), 0);
        struct engine *e;
        void *scratch;
        struct net_work *work;
        assert_int_equal(engine_create(quantize_model(q), 0, &e, NULL, 0), 0);
        assert_int_equal(net_work_create(net, 1, &work), 0);
        scratch = aligned_alloc(ENGINE_ALIGN, (engine_scratch_bytes(e) + ENGINE_ALIGN) /
                                                  ENGINE_ALIGN * ENGINE_ALIGN);
        for (uint32_t n = 0; n < sample.windows; n++) {
            const float *watts = sample.watts + (size_t)n * (SMALL_WINDOW + 1), *logits;
            float out[SMALL_CLASSES];
            engine_run(e, scratch, watts, out);
            net_features(m.channels, m.channel_count, SMALL_WINDOW, watts, net_work_input(work));
            logits = net_forward(net, work, 1, &(struct net_mode){0});
            for (int c = 0; c < SMALL_CLASSES; c++) {
                mean[0][c] += (double)out[c] / sample.windows;
                mean[1][c] += (double)logits[c] / sample.windows;
            }
        }
        for (int c = 0; c < SMALL_CLASSES; c++) {
            double error = fabs(mean[0][c] - mean[1][c]);
            double step = (double)quantize_model(q)->layers[6].logit_scale[c];
            worst[correct] = error > worst[correct] ? error : worst[correct];
            assert_true(!correct || error <= 0.51 * step + 1e-5);
        }
        free(scratch);
        net_work_free(work);
        engine_free(e);
        quantize_free(q);
    }
    assert_true(worst[0] > 4.0 * worst[1]);
    quantize_sample_free(&sample);
    net_free(net);
    synthetic_free(d);
}

/* The report: alone and in all are the same for the first layer; a layer spoiled on purpose is the
 * one that shows; fitted weights have less error than the nearest. */
static void test_noise(void **state)
{
    (void)state;
    struct dataset *d = synthetic_dataset(SMALL_CLASSES, 4, 600, SMALL_WINDOW, 24, 1);
    struct model m = small_model();
    struct net *net = small_trained(&m, d);
    struct quantize_sample sample = small_sample(&m, d, 64);
    struct quantize_noise nearest[MODEL_MAX_LAYERS], fit[MODEL_MAX_LAYERS],
        spoiled[MODEL_MAX_LAYERS];
    struct quantized *q = small_quantized(net, &m, d, 100.0, QUANTIZE_NEAREST);

    assert_int_equal(quantize_noise(net, quantize_model(q), &sample, nearest), 0);
    assert_true(nearest[0].own == nearest[0].total);
    assert_true(nearest[0].own > 20.0 && nearest[0].own < 70.0);
    assert_true(nearest[1].own == 0.0);                          /* a pool */
    assert_true(nearest[0].low == 0.0 && nearest[0].high > 0.0); /* ReLU */
    assert_true(nearest[6].low < 0.0 && nearest[6].high > 0.0);
    struct model_layer *conv2 = &quantize_model(q)->layers[2];
    int8_t *weights = malloc(net->layers[2].weight_count);
    assert_non_null(weights);
    for (size_t k = 0; k < net->layers[2].weight_count; k++)
        weights[k] = (int8_t)(conv2->weights[k] / 16 * 16);
    conv2->weights = weights;
    assert_int_equal(quantize_noise(net, quantize_model(q), &sample, spoiled), 0);
    assert_true(spoiled[0].own == nearest[0].own && spoiled[5].own == nearest[5].own);
    assert_true(spoiled[2].own < nearest[2].own - 6.0);
    assert_true(spoiled[5].total < nearest[5].total);
    free(weights);
    quantize_free(q);
    q = small_quantized(net, &m, d, 100.0, QUANTIZE_FIT);
    assert_int_equal(quantize_noise(net, quantize_model(q), &sample, fit), 0);
    assert_true(fit[6].total > nearest[6].total);
    quantize_free(q);
    quantize_sample_free(&sample);
    net_free(net);
    synthetic_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trace_is_the_engine), cmocka_unit_test(test_fit),
        cmocka_unit_test(test_bias_correction), cmocka_unit_test(test_noise)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
