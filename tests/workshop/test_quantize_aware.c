/* test_quantize_aware.c - quantization-aware fine-tuning: gradients through levels; the net of
 * floats against the engine; training of integers. */
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
#include "inference/workshop/quantize.h"
#include "inference/workshop/train.h"
#include "workshop/lib_small.h"
#include "workshop/lib_synthetic.h"

/* One value in, a layer of one value with 10 levels of 0.1, one logit of 2 times that. Returns the
 * logit, and the logit's gradient by the layer's weight. */
static float one_value(enum model_op op, int relu, float x, float *gradient)
{
    struct net_layer layers[3] = {{.op = op, .relu = relu, .out_channels = 1, .name = "a"},
                                  {.op = MODEL_DENSE, .out_channels = 1, .name = "b"}};
    const struct net_layer flat = {.op = MODEL_FLATTEN, .name = "flat"}, last = layers[1];
    const uint32_t at = op == MODEL_DENSE;
    const float one = 1.0f;
    struct net *net;
    struct net_work *w;
    float g[4];

    layers[0].taps = op == MODEL_CONV1D;
    layers[2] = last;
    layers[1] = at ? layers[0] : flat;
    layers[0] = at ? flat : layers[0];
    assert_int_equal(net_from_layers(MODEL_SOFTMAX, 1, 1, layers, 3, &net, NULL, 0), 0);
    net->params[net->layers[at].weights] = 1.0f;
    net->params[net->layers[2].weights] = 2.0f;
    net->layers[at].step = 0.1f;
    net->layers[at].least = relu ? 0.0f : -5.0f;
    net->layers[at].most = 10.0f;
    assert_int_equal(net_work_create(net, 1, &w), 0);
    net_work_input(w)[0] = x;
    float logit = net_forward(net, w, 1, &(struct net_mode){0})[0];
    net_backward(net, w, &one, g);
    *gradient = g[net->layers[at].weights];
    net_work_free(w);
    net_free(net);
    return logit;
}

/* Rounding is as if it were not there; beyond the levels, and below ReLU's zero, nothing passes. */
static void test_straight_through(void **state)
{
    (void)state;
    const struct {
        float x, relu_logit, plain_logit;
        int relu_passes, plain_passes;
    } cases[] = {
        {0.52f, 1.0f, 1.0f, 1, 1},   {0.58f, 1.2f, 1.2f, 1, 1},   {0.02f, 0.0f, 0.0f, 1, 1},
        {1.02f, 2.0f, 2.0f, 1, 1},   {1.4f, 2.0f, 2.0f, 0, 0},    {-0.02f, 0.0f, 0.0f, 0, 1},
        {-0.32f, 0.0f, -0.6f, 0, 1}, {-0.53f, 0.0f, -1.0f, 0, 1}, {-0.7f, 0.0f, -1.0f, 0, 0}};

    for (int dense = 0; dense <= 1; dense++)
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
            enum model_op op = dense ? MODEL_DENSE : MODEL_CONV1D;
            float g, x = cases[i].x;
            assert_float_equal(one_value(op, 1, x, &g), cases[i].relu_logit, 1e-5);
            assert_float_equal(g, cases[i].relu_passes ? 2.0f * x : 0.0f, 1e-5);
            assert_float_equal(one_value(op, 0, x, &g), cases[i].plain_logit, 1e-5);
            assert_float_equal(g, cases[i].plain_passes ? 2.0f * x : 0.0f, 1e-5);
        }
}

/* Half a level up, also below zero, as model.h has it. */
static void test_levels_round_half_up(void **state)
{
    (void)state;
    struct net_layer layers[2] = {{.op = MODEL_FLATTEN, .name = "flat"},
                                  {.op = MODEL_DENSE, .out_channels = 1, .name = "a"}};
    const float xs[] = {0.5f, -0.5f, -1.5f, 1.5f, 0.49f, -0.51f, -100.0f, 100.0f};
    const float ys[] = {1.0f, 0.0f, -1.0f, 2.0f, 0.0f, -1.0f, -8.0f, 7.0f};
    struct net *net;
    struct net_work *w;

    assert_int_equal(net_from_layers(MODEL_SOFTMAX, 1, 1, layers, 2, &net, NULL, 0), 0);
    net->params[0] = 1.0f;
    net->layers[1].step = 1.0f;
    net->layers[1].least = -8.0f;
    net->layers[1].most = 7.0f;
    assert_int_equal(net_work_create(net, 1, &w), 0);
    for (size_t i = 0; i < sizeof(xs) / sizeof(xs[0]); i++) {
        net_work_input(w)[0] = xs[i];
        assert_true(net_forward(net, w, 1, &(struct net_mode){0})[0] == ys[i]);
    }
    net_work_free(w);
    net_free(net);
}

/* q's windows of d through the engine and through its net of floats: the same first class on at
 * least 99.9 %, the same logits on nearly as many (a sum of floats may fall on the other side of a
 * rounding step). Returns the engine's accuracy. */
static double engine_equals_real(struct quantized *q, const struct net *net,
                                 const struct dataset *d)
{
    const struct model *m = quantize_model(q);
    float watts[SMALL_WINDOW + 1], logits[SMALL_CLASSES];
    size_t same = 0, close = 0, right = 0;
    struct net_work *work;
    struct engine *e;
    struct net *real;

    assert_int_equal(quantize_real(q, net, &real), 0);
    assert_int_equal(net_work_create(real, 1, &work), 0);
    assert_int_equal(engine_create(m, 0, &e, NULL, 0), 0);
    void *scratch = aligned_alloc(ENGINE_ALIGN, (engine_scratch_bytes(e) + ENGINE_ALIGN) /
                                                    ENGINE_ALIGN * ENGINE_ALIGN);
    assert_non_null(scratch);
    for (size_t i = 0; i < d->window_count; i++) {
        uint32_t a = 0, b = 0;
        float furthest = 0.0f;
        dataset_copy(d, &d->windows[i], 0, watts);
        engine_run(e, scratch, watts, logits);
        net_features(m->channels, m->channel_count, SMALL_WINDOW, watts, net_work_input(work));
        const float *floats = net_forward(real, work, 1, &(struct net_mode){0});
        for (uint32_t c = 0; c < SMALL_CLASSES; c++) {
            a = logits[c] > logits[a] ? c : a;
            b = floats[c] > floats[b] ? c : b;
            furthest = fmaxf(furthest, fabsf(logits[c] - floats[c]));
        }
        same += a == b;
        close += furthest < 1e-4f;
        right += a == d->windows[i].label;
    }
    assert_true((double)same >= 0.999 * (double)d->window_count);
    assert_true((double)close >= 0.95 * (double)d->window_count);
    free(scratch);
    engine_free(e);
    net_work_free(work);
    net_free(real);
    return (double)right / (double)d->window_count;
}

static struct train_options few_steps(struct quantized *q, uint32_t threads)
{
    struct train_options o;
    train_defaults(&o);
    o.epochs = 3;
    o.epoch_windows = 1280;
    o.batch = 64;
    o.rate = 2e-3f;
    o.shift = o.onset_samples = 8;
    o.threads = threads;
    o.quiet = 1;
    o.int8 = q;
    return o;
}

/* The net of floats is the engine before and after training; its integers, taken again, are the
 * same; every way to calibrate and round. */
static void test_real_net_is_the_engine(void **state)
{
    (void)state;
    struct dataset *d = synthetic_dataset(SMALL_CLASSES, 6, 600, SMALL_WINDOW, 6, 1);
    struct model m = small_model();
    struct net *net = small_trained(&m, d);

    for (int fit = 0; fit <= 1; fit++) {
        struct quantized *q =
            small_quantized(net, &m, d, fit ? 100.0 : 99.0, fit ? QUANTIZE_FIT : QUANTIZE_NEAREST);
        struct quantized *again =
            small_quantized(net, &m, d, fit ? 100.0 : 99.0, fit ? QUANTIZE_FIT : QUANTIZE_NEAREST);
        struct net *real, *master;
        struct train_options o = few_steps(q, 2);
        struct train_result result;

        (void)engine_equals_real(q, net, d);
        assert_int_equal(quantize_real(again, net, &real), 0);
        assert_int_equal(net_clone(real, &master), 0);
        quantize_apply(again, master, real);
        for (uint32_t i = 0; i < net->layer_count; i++) {
            const struct net_layer *l = &net->layers[i];
            const struct model_layer *a = &quantize_model(q)->layers[i];
            const struct model_layer *b = &quantize_model(again)->layers[i];
            if (!l->weight_count)
                continue;
            assert_memory_equal(a->weights, b->weights, l->weight_count);
            assert_memory_equal(a->bias, b->bias, l->out_channels * sizeof(int32_t));
        }
        net_free(real);
        assert_int_equal(net_clone(net, &real), 0);
        assert_int_equal(train_run(real, m.channels, d, d, &o, &result, NULL, 0), 0);
        assert_true(engine_equals_real(q, net, d) > 0.9);
        quantize_free(again);
        quantize_free(q);
        net_free(real);
        net_free(master);
    }
    net_free(net);
    synthetic_free(d);
}

/* Inputs are rounded to what the thresholds tell apart, and already rounded ones stay. */
static void test_inputs_are_rounded(void **state)
{
    (void)state;
    const struct model m = small_model();
    struct net_layer layers[2] = {{.op = MODEL_FLATTEN, .name = "flat"},
                                  {.op = MODEL_DENSE, .out_channels = 1, .name = "a"}};
    const float watts[5] = {0.0f, 3.3f, 61.7f, 2047.0f, 499.0f};
    float exact[12], once[12], thresholds[MODEL_LEVELS];
    struct net *net;
    struct net_work *w;

    assert_int_equal(net_from_layers(MODEL_SOFTMAX, 4, 3, layers, 2, &net, NULL, 0), 0);
    quantize_round_inputs(m.channels, net);
    assert_int_equal(net_work_create(net, 1, &w), 0);
    net_features(m.channels, 3, 4, watts, exact);
    memcpy(net_work_input(w), exact, sizeof(exact));
    (void)net_forward(net, w, 1, &(struct net_mode){0});
    memcpy(once, net_work_input(w), sizeof(once));
    for (uint32_t c = 0; c < 3; c++) {
        double scale, offset;
        quantize_input(m.channels[c].feature, &scale, &offset);
        quantize_thresholds(&m.channels[c], thresholds);
        for (uint32_t t = 0; t < 4; t++) {
            float x =
                m.channels[c].feature == MODEL_LOG_DIFF ? watts[t + 1] - watts[t] : watts[t + 1];
            int q = -128;
            for (uint32_t i = 0; i < MODEL_LEVELS; i++)
                q += thresholds[i] <= x;
            assert_float_equal(once[t * 3 + c], scale * q + offset, 1e-6);
            assert_float_equal(once[t * 3 + c], exact[t * 3 + c], 0.51 * scale);
        }
    }
    (void)net_forward(net, w, 1, &(struct net_mode){0});
    for (int i = 0; i < 12; i++)
        assert_float_equal(net_work_input(w)[i], once[i], 1e-6);
    net_work_free(w);
    net_free(net);
}

/* A weight that was driven out of its levels is taken back to the outermost. */
static void test_weights_stay_within_levels(void **state)
{
    (void)state;
    struct dataset *d = synthetic_dataset(SMALL_CLASSES, 4, 600, SMALL_WINDOW, 24, 1);
    struct model m = small_model();
    struct net *net = small_trained(&m, d), *real, *master;
    struct quantized *q = small_quantized(net, &m, d, 100.0, QUANTIZE_NEAREST);

    assert_int_equal(quantize_real(q, net, &real), 0);
    assert_int_equal(net_clone(real, &master), 0);
    for (uint32_t i = 0; i < net->layer_count; i++) {
        const struct net_layer *l = &net->layers[i];
        if (!l->weight_count)
            continue;
        master->params[l->weights] = 1e3f;
        master->params[l->weights + 1] = -1e3f;
    }
    quantize_apply(q, master, real);
    for (uint32_t i = 0; i < net->layer_count; i++) {
        const struct net_layer *l = &net->layers[i];
        if (!l->weight_count)
            continue;
        assert_int_equal(quantize_model(q)->layers[i].weights[0], 127);
        assert_int_equal(quantize_model(q)->layers[i].weights[1], -127);
        for (size_t k = 0; k < 2; k++)
            assert_float_equal(master->params[l->weights + k], real->params[l->weights + k],
                               1e-5f * fabsf(real->params[l->weights + k]));
    }
    (void)engine_equals_real(q, net, d);
    net_free(real);
    net_free(master);
    net_free(net);
    quantize_free(q);
    synthetic_free(d);
}

/* Ranges far too narrow: static quantization loses classes, training gets them back. */
static void test_training_mends_what_static_lost(void **state)
{
    (void)state;
    struct dataset *d = synthetic_dataset(SMALL_CLASSES, 6, 600, SMALL_WINDOW, 24, 1);
    struct dataset *unseen = synthetic_dataset(SMALL_CLASSES, 3, 600, SMALL_WINDOW, 24, 2);
    struct model m = small_model();
    struct net *net = small_trained(&m, d), *master;
    struct quantized *q = small_quantized(net, &m, d, 80.0, QUANTIZE_NEAREST);
    struct train_options o = few_steps(q, 2);
    struct train_result result;

    double before = engine_equals_real(q, net, unseen);
    assert_int_equal(net_clone(net, &master), 0);
    assert_int_equal(train_run(master, m.channels, d, d, &o, &result, NULL, 0), 0);
    double after = engine_equals_real(q, net, unseen);
    if (before > 0.9 || after < 0.97)
        fail_msg("accuracy before %.3f, after %.3f", before, after);
    assert_true(result.best_epoch >= 1);
    net_free(master);
    net_free(net);
    quantize_free(q);
    synthetic_free(d);
    synthetic_free(unseen);
}

/* Where training makes it worse, the integers are those that it began with. */
static void test_never_worse_than_static(void **state)
{
    (void)state;
    struct dataset *d = synthetic_dataset(SMALL_CLASSES, 6, 600, SMALL_WINDOW, 24, 1);
    struct model m = small_model();
    struct net *net = small_trained(&m, d), *master;
    struct quantized *q = small_quantized(net, &m, d, 100.0, QUANTIZE_FIT);
    struct quantized *before = small_quantized(net, &m, d, 100.0, QUANTIZE_FIT);
    struct train_options o = few_steps(q, 2);
    struct train_result result;

    o.rate = 5.0f; /* ruins it */
    o.epochs = 1;
    assert_int_equal(net_clone(net, &master), 0);
    assert_int_equal(train_run(master, m.channels, d, d, &o, &result, NULL, 0), 0);
    assert_int_equal(result.best_epoch, 0);
    assert_memory_equal(quantize_model(q)->layers[0].weights,
                        quantize_model(before)->layers[0].weights, net->layers[0].weight_count);
    assert_memory_equal(quantize_model(q)->layers[5].bias, quantize_model(before)->layers[5].bias,
                        net->layers[5].out_channels * sizeof(int32_t));
    net_free(master);
    net_free(net);
    quantize_free(q);
    quantize_free(before);
    synthetic_free(d);
}

static void test_threads_change_nothing(void **state)
{
    (void)state;
    struct dataset *d = synthetic_dataset(SMALL_CLASSES, 4, 600, SMALL_WINDOW, 24, 1);
    struct model m = small_model();
    struct net *net = small_trained(&m, d), *first = NULL;

    for (uint32_t threads = 1; threads <= 3; threads += 2) {
        struct quantized *q = small_quantized(net, &m, d, 99.0, QUANTIZE_FIT);
        struct train_options o = few_steps(q, threads);
        struct train_result result;
        struct net *master;
        assert_int_equal(net_clone(net, &master), 0);
        assert_int_equal(train_run(master, m.channels, d, NULL, &o, &result, NULL, 0), 0);
        if (first)
            assert_memory_equal(first->params, master->params, net->param_count * sizeof(float));
        net_free(first);
        first = master;
        quantize_free(q);
    }
    net_free(first);
    net_free(net);
    synthetic_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_straight_through),
                                       cmocka_unit_test(test_levels_round_half_up),
                                       cmocka_unit_test(test_real_net_is_the_engine),
                                       cmocka_unit_test(test_inputs_are_rounded),
                                       cmocka_unit_test(test_weights_stay_within_levels),
                                       cmocka_unit_test(test_training_mends_what_static_lost),
                                       cmocka_unit_test(test_never_worse_than_static),
                                       cmocka_unit_test(test_threads_change_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
