/* test_net.c - the float network: gradients of every layer type against finite differences,
 * convolution against a plain loop, folding of normalization, features by the formulas of model.h.
 */
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
#include "inference/workshop/net.h"
#include "inference/workshop/net_random.h"

#define WINDOWS 4

static struct net *make(const struct net_spec *spec, uint64_t seed)
{
    struct net *net = NULL;
    char why[128] = "";
    int rc = net_create(spec, &net, why, sizeof(why));
    if (rc)
        fail_msg("%s", why);
    net_init(net, seed);
    /* biases, gammas and statistics away from their start values, so that their effect shows */
    struct net_random r = net_random_stream(seed, 5, 5);
    for (uint32_t i = 0; i < net->layer_count; i++) {
        const struct net_layer *l = &net->layers[i];
        for (uint32_t c = 0; l->weight_count && c < l->out_channels; c++)
            net->params[l->bias + c] = 0.2f * (float)net_random_normal(&r);
        for (uint32_t c = 0; l->norm && c < l->out_channels; c++) {
            net->params[l->gamma + c] = 0.5f + (float)net_random_unit(&r);
            net->stats[l->mean + c] = 0.3f * (float)net_random_normal(&r);
            net->stats[l->variance + c] = 0.2f + (float)net_random_unit(&r);
        }
    }
    return net;
}

static void fill_input(const struct net *net, struct net_work *w, uint32_t n, uint64_t seed)
{
    struct net_random r = net_random_stream(seed, 6, 6);
    for (size_t i = 0; i < (size_t)n * net->window * net->channels; i++)
        net_work_input(w)[i] = (float)net_random_normal(&r);
}

/* Which loss the gradients are taken of. */
static struct {
    float smoothing, mix, taught, temperature;
    const float *weights;
} kind;

static double loss_of(const struct net *net, struct net_work *w, const struct net_mode *mode,
                      const uint32_t *labels, float *d)
{
    const uint32_t classes = net->class_count;
    const float *logits = net_forward(net, w, WINDOWS, mode);
    float *targets = calloc(2 * WINDOWS * classes, sizeof(float));
    float *teacher = targets + WINDOWS * classes;
    for (uint32_t i = 0; i < WINDOWS; i++) {
        float *target = targets + i * classes;
        net_add_target(net->head, classes, labels[i], 1.0f - kind.mix, kind.smoothing, target);
        net_add_target(net->head, classes, (labels[i] + 1) % classes, kind.mix, kind.smoothing,
                       target);
        for (uint32_t c = 0; c < classes; c++)
            teacher[i * classes + c] = 0.7f * sinf((float)(i * classes + c));
        net_probabilities(net->head, classes, teacher + i * classes, teacher + i * classes);
    }
    double loss = net_loss(net, logits, targets, kind.weights, WINDOWS, 1.0f - kind.taught, d);
    if (kind.taught > 0.0f)
        loss = (1.0 - kind.taught) * loss +
               kind.taught * net_loss_teacher(net, logits, teacher, kind.weights, kind.temperature,
                                              WINDOWS, kind.taught, d);
    free(targets);
    return loss;
}

/* The derivative of the loss along a random direction of one array of parameters, by central
 * differences, against gradient times direction. Steps small enough that few maxima and ReLUs
 * change sides, large enough for float. */
static void check_tensor(struct net *net, struct net_work *w, const struct net_mode *mode,
                         const uint32_t *labels, const float *gradient, size_t from, size_t count,
                         const char *what)
{
    float *d = malloc(WINDOWS * net->class_count * sizeof(float)),
          *keep = malloc(count * sizeof(float));
    for (uint32_t trial = 0; trial < 4; trial++) {
        struct net_random r = net_random_stream(trial, from, 9);
        double expected = 0.0, size = 0.0, side[2];
        float *direction = malloc(count * sizeof(float));
        for (size_t i = 0; i < count; i++) {
            /* along the gradient's signs, so that the sum does not cancel, with random sizes */
            double u = net_random_unit(&r);
            direction[i] = (float)(gradient[from + i] < 0.0f ? -u : u);
            expected += (double)direction[i] * gradient[from + i];
            size += (double)direction[i] * direction[i];
        }
        memcpy(keep, net->params + from, count * sizeof(float));
        double step = 4e-4 / sqrt(size);
        for (int s = 0; s < 2; s++) {
            for (size_t i = 0; i < count; i++)
                net->params[from + i] = keep[i] + (float)((s ? step : -step) * direction[i]);
            side[s] = loss_of(net, w, mode, labels, d);
        }
        memcpy(net->params + from, keep, count * sizeof(float));
        double measured = (side[1] - side[0]) / (2.0 * step);
        if (fabs(measured - expected) >
            0.02 * (fabs(measured) + fabs(expected)) + 1e-3 * sqrt(size))
            fail_msg("%s: gradient says %g, differences say %g", what, expected, measured);
        free(direction);
    }
    free(d);
    free(keep);
}

static void check_gradients(const struct net_spec *spec, const struct net_mode *mode)
{
    struct net *net = make(spec, 3);
    struct net_work *w;
    uint32_t labels[WINDOWS];
    float *gradient = calloc(net->param_count, sizeof(float));
    float *d = calloc(WINDOWS * net->class_count, sizeof(float));
    char what[96];

    assert_int_equal(net_work_create(net, WINDOWS + 1, &w), 0);
    fill_input(net, w, WINDOWS, 4);
    for (uint32_t i = 0; i < WINDOWS; i++)
        labels[i] = i % net->class_count;
    /* a larger shard before: what it leaves in the buffers must not matter */
    fill_input(net, w, WINDOWS + 1, 5);
    (void)net_forward(net, w, WINDOWS + 1, mode);
    fill_input(net, w, WINDOWS, 4);
    (void)loss_of(net, w, mode, labels, d);
    net_backward(net, w, d, gradient);
    for (uint32_t i = 0; i < net->layer_count; i++) {
        const struct net_layer *l = &net->layers[i];
        if (!l->weight_count)
            continue;
        (void)snprintf(what, sizeof(what), "%s weights", l->name);
        check_tensor(net, w, mode, labels, gradient, l->weights, l->weight_count, what);
        (void)snprintf(what, sizeof(what), "%s bias", l->name);
        check_tensor(net, w, mode, labels, gradient, l->bias, l->out_channels, what);
        (void)snprintf(what, sizeof(what), "%s gamma", l->name);
        if (l->norm)
            check_tensor(net, w, mode, labels, gradient, l->gamma, l->out_channels, what);
    }
    net_work_free(w);
    net_free(net);
    free(gradient);
    free(d);
}

static struct net_spec spec_small(enum model_head head, int norm)
{
    return (struct net_spec){.head = head,
                             .window = 41,
                             .channels = 2,
                             .class_count = 3,
                             .conv_count = 3,
                             .hidden_count = 2,
                             .conv = {{5, 4, 2}, {4, 3, 1}, {6, 2, 3}},
                             .hidden = {7, 5},
                             .norm = norm};
}

/* Both heads, hard and mixed targets, with weights, a teacher, and all of it. */
static void test_gradients_losses(void **state)
{
    static const float weights[WINDOWS] = {0.5f, 2.0f, 1.0f, 0.25f};
    (void)state;
    for (int sigmoid = 0; sigmoid < 2; sigmoid++) {
        struct net_spec s = spec_small(sigmoid ? MODEL_SIGMOID : MODEL_SOFTMAX, 1);
        for (int i = 0; i < 4; i++) {
            kind.smoothing = i == 0 ? 0.0f : 0.1f;
            kind.mix = i == 1 || i == 3 ? 0.3f : 0.0f;
            kind.taught = i >= 2 ? 0.6f : 0.0f;
            kind.temperature = i == 2 ? 4.0f : 1.5f;
            kind.weights = i == 1 || i == 3 ? weights : NULL;
            check_gradients(&s, &(struct net_mode){.train = 1});
        }
    }
    memset(&kind, 0, sizeof(kind));
}

/* By hand: two classes, logits 1 and -1, T = 2: p = s(1) against q = (0.5, 0.5). */
static void test_teacher_loss_by_hand(void **state)
{
    struct net_spec s = {.head = MODEL_SOFTMAX, .window = 9, .channels = 1, .class_count = 2};
    struct net *net = make(&s, 1);
    const float logits[2] = {1.0f, -1.0f}, teacher[2] = {0.5f, 0.5f};
    float d[2] = {10.0f, 20.0f};
    (void)state;
    const double p = 1.0 / (1.0 + exp(-1.0)), kl = 0.5 * log(0.5 / p) + 0.5 * log(0.5 / (1.0 - p));
    assert_float_equal(net_loss_teacher(net, logits, teacher, NULL, 2.0f, 1, 0.5f, d), 4.0 * kl,
                       1e-6);
    assert_float_equal(d[0], 10.0 + 0.5 * 2.0 * (p - 0.5), 1e-5);
    assert_float_equal(d[1], 20.0 - 0.5 * 2.0 * (p - 0.5), 1e-5);
    /* a student that says what the teacher says has nothing to learn */
    float same[2] = {0.5f * logits[0], 0.5f * logits[1]}, zero[2] = {0};
    net_probabilities(MODEL_SOFTMAX, 2, same, same);
    assert_float_equal(net_loss_teacher(net, logits, same, NULL, 2.0f, 1, 1.0f, zero), 0.0, 1e-6);
    assert_float_equal(zero[0], 0.0, 1e-6);
    net_free(net);
}

static void test_gradients_plain(void **state)
{
    (void)state;
    struct net_spec s = spec_small(MODEL_SOFTMAX, 0);
    check_gradients(&s, &(struct net_mode){0});
}

static void test_gradients_sigmoid(void **state)
{
    (void)state;
    struct net_spec s = spec_small(MODEL_SIGMOID, 0);
    check_gradients(&s, &(struct net_mode){0});
}

static void test_gradients_norm_dropout(void **state)
{
    (void)state;
    struct net_spec s = spec_small(MODEL_SOFTMAX, 1);
    check_gradients(&s, &(struct net_mode){.train = 1});
    check_gradients(&s, &(struct net_mode){.train = 1, .dropout = 0.4f, .seed = 11});
}

static void test_gradients_dense_only(void **state)
{
    (void)state;
    struct net_spec s = {.head = MODEL_SOFTMAX,
                         .window = 9,
                         .channels = 1,
                         .class_count = 2,
                         .hidden_count = 1,
                         .hidden = {4}};
    check_gradients(&s, &(struct net_mode){0});
}

/* Every window of a shard against the definition of a valid convolution and a pool, in double. */
static void test_conv_pool_by_definition(void **state)
{
    (void)state;
    struct net_spec s = {.head = MODEL_SOFTMAX,
                         .window = 23,
                         .channels = 3,
                         .class_count = 2,
                         .conv_count = 1,
                         .conv = {{4, 5, 4}}};
    struct net *net = make(&s, 8);
    struct net_work *w;
    const struct net_layer *conv = &net->layers[0], *pool = &net->layers[1];

    assert_int_equal(net_work_create(net, WINDOWS, &w), 0);
    fill_input(net, w, WINDOWS, 4);
    (void)net_forward(net, w, WINDOWS, &(struct net_mode){0});
    assert_int_equal(pool->out_columns, 4); /* 19 / 4: a remainder of three columns is left out */
    for (uint32_t i = 0; i < WINDOWS; i++) {
        for (uint32_t t = 0; t < pool->out_columns; t++) {
            for (uint32_t o = 0; o < 4; o++) {
                double largest = 0.0; /* ReLU */
                for (uint32_t p = 0; p < 4; p++) {
                    double sum = net->params[conv->bias + o];
                    for (uint32_t k = 0; k < 15; k++)
                        sum += (double)net->params[conv->weights + o * 15 + k] *
                               net_work_input(w)[(i * 23 + t * 4 + p) * 3 + k];
                    largest = sum > largest ? sum : largest;
                }
                assert_float_equal(net_work_output(w, 1)[(i * 4 + t) * 4 + o], largest, 1e-5);
            }
        }
    }
    net_work_free(w);
    net_free(net);
}

static void test_fold_keeps_function(void **state)
{
    (void)state;
    struct net_spec s = spec_small(MODEL_SOFTMAX, 1);
    struct net *net = make(&s, 12), *folded;
    struct net_work *a, *b;

    assert_int_equal(convert_fold(net, &folded), 0);
    assert_int_equal(folded->stat_count, 0);
    assert_int_equal(net_work_create(net, WINDOWS, &a), 0);
    assert_int_equal(net_work_create(folded, WINDOWS, &b), 0);
    fill_input(net, a, WINDOWS, 1);
    fill_input(folded, b, WINDOWS, 1);
    const float *x = net_forward(net, a, WINDOWS, &(struct net_mode){0});
    const float *y = net_forward(folded, b, WINDOWS, &(struct net_mode){0});
    for (uint32_t i = 0; i < WINDOWS * 3; i++)
        assert_float_equal(x[i], y[i], 1e-4f * (1.0f + fabsf(x[i])));
    net_work_free(a);
    net_work_free(b);
    net_free(net);
    net_free(folded);
}

static void test_features(void **state)
{
    (void)state;
    const struct model_channel channels[3] = {{.feature = MODEL_LINEAR, .full = 1000.0f},
                                              {.feature = MODEL_LOG, .full = 4000.0f},
                                              {.feature = MODEL_LOG_DIFF, .full = 4000.0f}};
    const float watts[5] = {10.0f, 110.0f, 10.0f, -5.0f, 9000.0f};
    float out[12];

    net_features(channels, 3, 4, watts, out);
    for (int t = 0; t < 4; t++) {
        double now = watts[t + 1], d = now - watts[t];
        double w1 = now < 0      ? 0
                    : now > 1000 ? 1000
                                 : now,
               w4 = now < 0      ? 0
                    : now > 4000 ? 4000
                                 : now;
        double limited = d > 4000 ? 4000 : d;
        assert_float_equal(out[t * 3], w1 / 1000, 1e-6);
        assert_float_equal(out[t * 3 + 1], (float)(log1p(w4) / log1p(4000)), 1e-6);
        assert_float_equal(out[t * 3 + 2], copysign(log1p(fabs(limited)) / log1p(4000), d), 1e-6);
    }
}

static void test_refuses_impossible(void **state)
{
    (void)state;
    struct net_spec s = spec_small(MODEL_SOFTMAX, 0);
    struct net *net;
    char why[128];

    s.conv[2].taps = 40; /* more than the columns that are left */
    assert_int_equal(net_create(&s, &net, why, sizeof(why)), -EINVAL);
    assert_non_null(strstr(why, "conv3"));
    s = spec_small(MODEL_SOFTMAX, 0);
    s.window = 0;
    assert_int_equal(net_create(&s, &net, why, sizeof(why)), -EINVAL);
    s = spec_small(MODEL_SOFTMAX, 0);
    s.class_count = 0;
    assert_int_equal(net_create(&s, &net, why, sizeof(why)), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradients_plain),
                                       cmocka_unit_test(test_gradients_losses),
                                       cmocka_unit_test(test_teacher_loss_by_hand),
                                       cmocka_unit_test(test_gradients_sigmoid),
                                       cmocka_unit_test(test_gradients_norm_dropout),
                                       cmocka_unit_test(test_gradients_dense_only),
                                       cmocka_unit_test(test_conv_pool_by_definition),
                                       cmocka_unit_test(test_fold_keeps_function),
                                       cmocka_unit_test(test_features),
                                       cmocka_unit_test(test_refuses_impossible)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
