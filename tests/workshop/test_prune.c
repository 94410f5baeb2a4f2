/* test_prune.c - pruning: a network small enough to follow by hand; channels that are zero change
 * nothing; targets and limits. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "inference/workshop/net.h"
#include "inference/workshop/net_random.h"
#include "inference/workshop/prune.h"

/* Window 4, one input; conv of two taps to 3 channels (3 columns, no pool); flatten to 9; hidden of
 * 2; 2 classes. */
static struct net *by_hand(void)
{
    const struct net_spec spec = {.head = MODEL_SOFTMAX,
                                  .window = 4,
                                  .channels = 1,
                                  .class_count = 2,
                                  .conv_count = 1,
                                  .conv = {{3, 2, 1}},
                                  .hidden_count = 1,
                                  .hidden = {2}};
    struct net *net;
    assert_int_equal(net_create(&spec, &net, NULL, 0), 0);
    const float conv[6] = {3, 4, /* norm 5 */ 0.6f, 0.8f, /* 1 */ 8, 6 /* 10 */};
    memcpy(net->params + net->layers[0].weights, conv, sizeof(conv));
    for (uint32_t i = 0; i < 3; i++)
        net->params[net->layers[0].bias + i] = (float)(i + 1);
    for (uint32_t i = 0; i < 18; i++) /* unit 0: 1..9, unit 1: 10..18; input t * 3 + c */
        net->params[net->layers[2].weights + i] = (float)(i + 1);
    net->params[net->layers[2].bias] = 0.25f;
    net->params[net->layers[2].bias + 1] = 0.5f;
    for (uint32_t i = 0; i < 4; i++)
        net->params[net->layers[3].weights + i] = (float)(20 + i);
    return net;
}

static void test_by_hand(void **state)
{
    (void)state;
    struct net *net = by_hand(), *out;
    float worth[3];

    /* norms 5, 1, 10, their root mean square is sqrt(126 / 3) = 6.4807 */
    prune_worth(net, 0, worth);
    assert_float_equal(worth[0], 0.77152f, 1e-4f);
    assert_float_equal(worth[1], 0.15430f, 1e-4f);
    assert_float_equal(worth[2], 1.54303f, 1e-4f);
    /* dense units: sqrt(285) = 16.88, sqrt(1824) = 42.71, root mean square 32.47: worth 0.52
     * and 1.32. So of 5: conv 1, dense 0 */
    prune_worth(net, 2, worth);
    assert_float_equal(worth[0], 0.5199f, 1e-3f);
    assert_int_equal(
        prune_channels(net, &(struct prune_options){.ratio = 0.4, .least = 1}, &out, NULL, 0), 0);
    assert_int_equal(out->layers[0].out_channels, 2);
    assert_int_equal(out->layers[2].in_channels, 6);
    assert_int_equal(out->layers[2].out_channels, 1);
    const float conv[4] = {3, 4, 8, 6}, conv_bias[2] = {1, 3};
    const float dense[6] = {10, 12, 13,
                            15, 16, 18}; /* unit 1, channels 0 and 2 of columns 0, 1, 2 */
    const float last[2] = {21, 23};      /* what reads unit 1 */
    assert_memory_equal(out->params + out->layers[0].weights, conv, sizeof(conv));
    assert_memory_equal(out->params + out->layers[0].bias, conv_bias, sizeof(conv_bias));
    assert_memory_equal(out->params + out->layers[2].weights, dense, sizeof(dense));
    assert_float_equal(out->params[out->layers[2].bias], 0.5f, 0.0f);
    assert_memory_equal(out->params + out->layers[3].weights, last, sizeof(last));
    net_free(net);
    net_free(out);
}

static struct net *larger(void)
{
    const struct net_spec spec = {.head = MODEL_SOFTMAX,
                                  .window = 60,
                                  .channels = 2,
                                  .class_count = 5,
                                  .conv_count = 2,
                                  .conv = {{8, 5, 2}, {12, 3, 3}},
                                  .hidden_count = 1,
                                  .hidden = {16}};
    struct net *net;
    assert_int_equal(net_create(&spec, &net, NULL, 0), 0);
    net_init(net, 4);
    struct net_random r = net_random_stream(4, 4, 4);
    for (uint32_t i = 0; i < net->layer_count; i++)
        for (uint32_t c = 0; net->layers[i].weight_count && c < net->layers[i].out_channels; c++)
            net->params[net->layers[i].bias + c] = 0.1f * (float)net_random_normal(&r);
    return net;
}

/* Channels whose weights and biases are zero are the first to go, and the outputs stay. */
static void test_zero_channels_do_not_matter(void **state)
{
    (void)state;
    struct net *net = larger(), *out;
    const uint32_t zeros[3] = {2, 3, 4}; /* of conv1, conv2, dense1 */
    const uint32_t at[3] = {0, 2, 5};
    struct net_work *a, *b;

    for (int k = 0; k < 3; k++) {
        const struct net_layer *l = &net->layers[at[k]];
        size_t fan_in = l->weight_count / l->out_channels;
        for (uint32_t z = 0; z < zeros[k]; z++) {
            uint32_t c = z * 2 + 1; /* not the first ones */
            memset(net->params + l->weights + c * fan_in, 0, fan_in * sizeof(float));
            net->params[l->bias + c] = 0.0f;
        }
    }
    assert_int_equal(
        prune_channels(net, &(struct prune_options){.ratio = 9.0 / 36, .least = 4}, &out, NULL, 0),
        0);
    assert_int_equal(out->layers[0].out_channels, 6);
    assert_int_equal(out->layers[2].out_channels, 9);
    assert_int_equal(out->layers[5].out_channels, 12);
    assert_int_equal(net_work_create(net, 3, &a), 0);
    assert_int_equal(net_work_create(out, 3, &b), 0);
    struct net_random r = net_random_stream(1, 1, 1);
    for (uint32_t i = 0; i < 3 * 60 * 2; i++)
        net_work_input(a)[i] = net_work_input(b)[i] = (float)net_random_normal(&r);
    const float *x = net_forward(net, a, 3, &(struct net_mode){0});
    const float *y = net_forward(out, b, 3, &(struct net_mode){0});
    for (int i = 0; i < 15; i++)
        assert_float_equal(x[i], y[i], 1e-5f); /* the same sum in another order */
    net_work_free(a);
    net_work_free(b);
    net_free(net);
    net_free(out);
}

static void test_target_and_limits(void **state)
{
    (void)state;
    struct net *net = larger(), *out;
    char why[200] = "";

    for (uint64_t target = net->param_count; target > 1000; target -= 700) {
        struct prune_options o = {.target_params = target, .least = 2};
        assert_int_equal(prune_channels(net, &o, &out, NULL, 0), 0);
        assert_true(out->param_count <= target);
        for (uint32_t i = 0; i < out->layer_count; i++)
            assert_true(!out->layers[i].weight_count || out->layers[i].out_channels >= 2);
        net_free(out);
    }
    assert_int_equal(prune_channels(net, &(struct prune_options){.target_params = 50, .least = 4},
                                    &out, why, sizeof(why)),
                     -EINVAL);
    assert_null(out);
    assert_non_null(strstr(why, "out of reach"));
    assert_int_equal(prune_channels(net, &(struct prune_options){.ratio = 1.0, .least = 1}, &out,
                                    why, sizeof(why)),
                     -EINVAL);
    assert_int_equal(prune_channels(net, &(struct prune_options){.ratio = 0.5, .least = 0}, &out,
                                    why, sizeof(why)),
                     -EINVAL);
    /* nothing to remove: the same network */
    assert_int_equal(
        prune_channels(net, &(struct prune_options){.ratio = 0.0, .least = 1}, &out, NULL, 0), 0);
    assert_int_equal(out->param_count, net->param_count);
    assert_memory_equal(out->params, net->params, net->param_count * sizeof(float));
    net_free(out);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_by_hand),
                                       cmocka_unit_test(test_zero_channels_do_not_matter),
                                       cmocka_unit_test(test_target_and_limits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
