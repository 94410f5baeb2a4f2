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
    float *worth[MODEL_MAX_LAYERS];

    /* norms 5, 1, 10, their root mean square is sqrt(126 / 3) = 6.4807 */
    assert_int_equal(prune_worth(net, &(struct prune_options){0}, worth), 0);
    assert_float_equal(worth[0][0], 0.77152f, 1e-4f);
    assert_float_equal(worth[0][1], 0.15430f, 1e-4f);
    assert_float_equal(worth[0][2], 1.54303f, 1e-4f);
    /* dense units: sqrt(285) = 16.88, sqrt(1824) = 42.71, root mean square 32.47: worth 0.52
     * and 1.32. So of 5: conv 1, dense 0 */
    assert_float_equal(worth[2][0], 0.5199f, 1e-3f);
    assert_null(worth[1]); /* flatten */
    assert_null(worth[3]); /* the output is not pruned */
    prune_worth_free(worth);
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

/* Filters (3, 4), (5, 0), (6, -2): L1 norms 7, 5, 8, root mean square sqrt(46); L2 norms 5, 5,
 * sqrt(40), root mean square sqrt(30). L1 and L2 disagree about the second one. */
static void test_norms_by_hand(void **state)
{
    (void)state;
    struct net *net = by_hand();
    const float conv[6] = {3, 4, 5, 0, 6, -2};
    float *worth[MODEL_MAX_LAYERS];

    memcpy(net->params + net->layers[0].weights, conv, sizeof(conv));
    assert_int_equal(prune_worth(net, &(struct prune_options){.criterion = PRUNE_L1}, worth), 0);
    assert_float_equal(worth[0][0], 1.03209f, 1e-5f);
    assert_float_equal(worth[0][1], 0.73721f, 1e-5f);
    assert_float_equal(worth[0][2], 1.17954f, 1e-5f);
    prune_worth_free(worth);
    assert_int_equal(prune_worth(net, &(struct prune_options){.criterion = PRUNE_L2}, worth), 0);
    assert_float_equal(worth[0][0], 0.91287f, 1e-5f);
    assert_float_equal(worth[0][1], 0.91287f, 1e-5f);
    assert_float_equal(worth[0][2], 1.15470f, 1e-5f);
    prune_worth_free(worth);
    net_free(net);
}

/* One input x, two hidden units h = relu(w x + b), two logits V h + c. At x = 2: h = (2, 0.75),
 * both logits 3.5, so probabilities 0.5; label 0: dL/dz = (-0.5, 0.5), dL/dh = V^T dL/dz = (1, -2);
 * sum g w + g_bias b = dL/dh (w x + b) = (2, -1.5): squares 4 and 2.25. At x = 0 both units are
 * off: nothing. The mean of the two windows: 2 and 1.125. */
static void test_taylor_by_hand(void **state)
{
    (void)state;
    const struct net_spec spec = {.head = MODEL_SOFTMAX,
                                  .window = 1,
                                  .channels = 1,
                                  .class_count = 2,
                                  .hidden_count = 1,
                                  .hidden = {2}};
    const float hidden[4] = {1, 0.5f, /* bias */ 0, -0.25f};
    const float last[6] = {1, 2, 3, -2, /* bias */ 0, -1};
    float features[2] = {2, 0};
    uint32_t labels[2] = {0, 1};
    const struct prune_sample sample = {.windows = 2, .features = features, .labels = labels};
    struct prune_options o = {.criterion = PRUNE_TAYLOR, .ratio = 0.5, .least = 1};
    float *worth[MODEL_MAX_LAYERS];
    struct net *net, *out;

    assert_int_equal(net_create(&spec, &net, NULL, 0), 0);
    memcpy(net->params + net->layers[1].weights, hidden, sizeof(hidden));
    memcpy(net->params + net->layers[2].weights, last, sizeof(last));
    assert_int_equal(prune_channels(net, &o, &out, NULL, 0), -EINVAL); /* needs windows */
    o.sample = &sample;
    assert_int_equal(prune_worth(net, &o, worth), 0);
    assert_float_equal(worth[1][0], 2.0f, 1e-5f);
    assert_float_equal(worth[1][1], 1.125f, 1e-5f);
    prune_worth_free(worth);
    assert_int_equal(prune_channels(net, &o, &out, NULL, 0), 0);
    assert_int_equal(out->layers[1].out_channels, 1);
    assert_float_equal(out->params[out->layers[1].weights], 1.0f, 0.0f);
    net_free(out);
    net_free(net);
}

/* A convolution: the gate's gradient sums over columns. Two samples 1, 2; channels w = 1 and 2, one
 * tap, no bias: columns (1, 2) and (2, 4), flat 1 2 2 4. Logits (1 0 1 0) h + 1 = 4 and
 * (0 1 -1 1) h = 4: probabilities 0.5, label 0, dL/dz = (-0.5, 0.5), dL/dh = (-0.5 0.5 -1 0.5).
 * Channel 0: (-0.5 * 1 - 1 * 2)^2 = 6.25; channel 1: (0.5 * 2 + 0.5 * 4)^2 = 9. */
static void test_taylor_of_a_convolution_by_hand(void **state)
{
    (void)state;
    const struct net_spec spec = {.head = MODEL_SOFTMAX,
                                  .window = 2,
                                  .channels = 1,
                                  .class_count = 2,
                                  .conv_count = 1,
                                  .conv = {{2, 1, 1}}};
    const float conv[4] = {1, 2, /* bias */ 0, 0};
    const float last[10] = {1, 0, 1, 0, 0, 1, -1, 1, /* bias */ 1, 0};
    float features[2] = {1, 2};
    uint32_t labels[1] = {0};
    const struct prune_sample sample = {.windows = 1, .features = features, .labels = labels};
    const struct prune_options o = {.criterion = PRUNE_TAYLOR, .sample = &sample};
    float *worth[MODEL_MAX_LAYERS];
    struct net *net;

    assert_int_equal(net_create(&spec, &net, NULL, 0), 0);
    memcpy(net->params + net->layers[0].weights, conv, sizeof(conv));
    memcpy(net->params + net->layers[2].weights, last, sizeof(last));
    assert_int_equal(prune_worth(net, &o, worth), 0);
    assert_float_equal(worth[0][0], 6.25f, 1e-5f);
    assert_float_equal(worth[0][1], 9.0f, 1e-5f);
    prune_worth_free(worth);
    net_free(net);
}

/* Biases tell which channels of the network by hand stayed: 1, 2, 3 of the convolution, 0.25, 0.5
 * of the hidden layer; lists end with 0. */
static void stays(const struct prune_options *o, const float *conv, const float *hidden)
{
    struct net *net = by_hand(), *out;
    uint32_t n = 0;

    assert_int_equal(prune_channels(net, o, &out, NULL, 0), 0);
    for (; conv[n] > 0.0f; n++)
        assert_float_equal(out->params[out->layers[0].bias + n], conv[n], 0.0f);
    assert_int_equal(out->layers[0].out_channels, n);
    for (n = 0; hidden[n] > 0.0f; n++)
        assert_float_equal(out->params[out->layers[2].bias + n], hidden[n], 0.0f);
    assert_int_equal(out->layers[2].out_channels, n);
    net_free(net);
    net_free(out);
}

/* Worth as in test_by_hand: convolution 0.77, 0.15, 1.54, hidden 0.52, 1.32. In one ranking c1 h0
 * c0 h1 c2; within layers c1 c0 c2 at 1/6, 3/6, 5/6 and h0 h1 at 1/4, 3/4. */
static void test_choices_by_hand(void **state)
{
    (void)state;
    const float all[] = {1, 2, 3, 0}, outer[] = {1, 3, 0}, third[] = {3, 0};
    const float both[] = {0.25f, 0.5f, 0}, second[] = {0.5f, 0};
    struct prune_options o = {.ratio = 0.5, .least = 1};
    struct net *net = by_hand(), *out;
    uint64_t smallest;

    stays(&o, third, second); /* half of 5, rounded up: 3 go */
    o.scope = PRUNE_LOCAL;
    stays(&o, outer, second); /* those below one half */
    o.ratio = 0.2;
    stays(&o, outer, both);
    o.scope = PRUNE_GLOBAL;
    o.ratio = 0.0;
    /* 3 (2 + 1) + 2 (9 + 1) + 2 (2 + 1) = 35; without c1 6 + 14 + 6 = 26; without h0, too, 17 */
    o.target_params = 34;
    stays(&o, outer, both);
    o.target_params = 26;
    stays(&o, outer, both);
    o.target_params = 25;
    stays(&o, outer, second);
    o.target_params = 0;
    o.ratio = 0.5;
    o.align = 2; /* one would stay of each: the best that went comes back */
    stays(&o, outer, both);
    o.align = 8; /* at most to what they were */
    stays(&o, all, both);
    o.align = 0;
    o.protect[0] = 1; /* half of the two hidden ones */
    stays(&o, all, second);
    o.protect[0] = 0;
    o.least = 2; /* layer by layer: the hidden one has two and keeps them */
    o.scope = PRUNE_LOCAL;
    stays(&o, outer, both);
    o.least = 3;
    stays(&o, all, both);
    o.scope = PRUNE_GLOBAL; /* together 3 shall go, and none may */
    assert_int_equal(prune_channels(net, &o, &out, NULL, 0), -EINVAL);
    /* 2 (2 + 1) + 2 (6 + 1) + 2 (2 + 1); by fours: nothing can go */
    o.least = 2;
    assert_int_equal(prune_smallest(net, &o, &smallest), 0);
    assert_int_equal(smallest, 26);
    o.align = 4;
    assert_int_equal(prune_smallest(net, &o, &smallest), 0);
    assert_int_equal(smallest, 35);
    net_free(net);
}

/* Worth that is brought along is not computed again. */
static void test_given_worth(void **state)
{
    (void)state;
    const float middle[] = {2, 0}, second[] = {0.5f, 0};
    float conv[3] = {1, 9, 2}, hidden[2] = {3, 4};
    float *worth[MODEL_MAX_LAYERS] = {[0] = conv, [2] = hidden};

    stays(&(struct prune_options){.ratio = 0.6, .least = 1, .worth = worth}, middle, second);
}

/* A channel of the convolution has 2 weights, in 3 columns, and is read by 2 units in each of 3
 * columns: 8 weights, 12 multiplications. A hidden unit has 9 and is read by 2 logits: 11 and 11.
 * So worth 8, 9.6, 90 and 9, 90 becomes 1, 1.2, 11 and 0.82, 8.2 per weight, 0.67, 0.8, 7.5 and
 * 0.82, 8.2 per multiplication: of the two that go, h0 comes second, first, not at all. */
static void test_price_by_hand(void **state)
{
    (void)state;
    const float two[] = {2, 3, 0}, third[] = {3, 0}, both[] = {0.25f, 0.5f, 0},
                second[] = {0.5f, 0};
    float conv[3] = {8.0f, 9.6f, 90.0f}, hidden[2] = {9.0f, 90.0f};
    float *worth[MODEL_MAX_LAYERS] = {[0] = conv, [2] = hidden};
    struct prune_options o = {.ratio = 0.4, .least = 1, .worth = worth};
    const float all[] = {1, 2, 3, 0};

    stays(&o, two, second);
    o.per = PRUNE_PER_WEIGHT;
    stays(&o, two, second);
    o.per = PRUNE_PER_MAC;
    stays(&o, third, both);
    o.ratio = 0.2;
    stays(&o, two, both);
    o.per = PRUNE_PER_WEIGHT;
    stays(&o, all, second);
    o.per = PRUNE_PER_CHANNEL;
    stays(&o, two, both);
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

static void widths_are(const struct net *net, uint32_t conv1, uint32_t conv2, uint32_t dense1)
{
    assert_int_equal(net->layers[0].out_channels, conv1);
    assert_int_equal(net->layers[2].out_channels, conv2);
    assert_int_equal(net->layers[5].out_channels, dense1);
}

/* Of 8, 12 and 16 channels. */
static void test_local_takes_the_same_share(void **state)
{
    (void)state;
    struct net *net = larger(), *out;
    struct prune_options o = {.scope = PRUNE_LOCAL, .ratio = 0.25, .least = 1};

    /* one layer's weights are tiny: global would take it first, by an unnormalized norm */
    for (size_t k = 0; k < net->layers[0].weight_count; k++)
        net->params[net->layers[0].weights + k] *= 0.01f;
    assert_int_equal(prune_channels(net, &o, &out, NULL, 0), 0);
    widths_are(out, 6, 9, 12);
    net_free(out);
    o.least = 7; /* conv1 may lose one only; the others do not pay for it */
    assert_int_equal(prune_channels(net, &o, &out, NULL, 0), 0);
    widths_are(out, 7, 9, 12);
    net_free(out);
    o.least = 1;
    o.target_params = net->param_count / 2;
    assert_int_equal(prune_channels(net, &o, &out, NULL, 0), 0);
    assert_true(out->param_count <= net->param_count / 2);
    for (int i = 0; i < 6; i += i ? 3 : 2)
        assert_true(abs((int)(out->layers[i].out_channels * 16 / net->layers[i].out_channels) -
                        (int)out->layers[5].out_channels) <= 2);
    net_free(out);
    net_free(net);
}

static void test_align_and_protect(void **state)
{
    (void)state;
    struct net *net = larger(), *out, *same;
    struct prune_options o = {.scope = PRUNE_LOCAL, .ratio = 0.3, .least = 1, .align = 4};
    char why[200] = "";

    /* 6, 8 and 11 stay, rounded up to 8, 8 and 12 */
    assert_int_equal(prune_channels(net, &o, &out, NULL, 0), 0);
    widths_are(out, 8, 8, 12);
    /* the one that came back is the best of those that had gone: the same as taking 4 of 16 */
    assert_int_equal(
        prune_channels(net,
                       &(struct prune_options){.scope = PRUNE_LOCAL, .ratio = 0.25, .least = 1},
                       &same, NULL, 0),
        0);
    widths_are(same, 6, 9, 12);
    assert_memory_equal(out->params + out->layers[5].bias, same->params + same->layers[5].bias,
                        12 * sizeof(float));
    net_free(same);
    net_free(out);
    assert_int_equal(prune_protect(net, "conv2,dense1", &o, why, sizeof(why)), 0);
    o.align = 0;
    assert_int_equal(prune_channels(net, &o, &out, NULL, 0), 0);
    widths_are(out, 6, 12, 16);
    net_free(out);
    o.scope = PRUNE_GLOBAL; /* the ratio is that of channels not protected: 2.4 of 8 */
    assert_int_equal(prune_channels(net, &o, &out, NULL, 0), 0);
    widths_are(out, 6, 12, 16);
    net_free(out);
    const char *const wrong[] = {"conv3", "pool1", "conv", "conv1,,conv2", ",", "conv11"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(prune_protect(net, wrong[i], &o, why, sizeof(why)), -EINVAL);
    assert_non_null(strstr(why, "'conv11'"));
    struct prune_options target = {.least = 2, .align = 8, .target_params = 1500};
    assert_int_equal(prune_channels(net, &target, &out, NULL, 0), 0);
    assert_true(out->param_count <= 1500);
    assert_int_equal(out->layers[0].out_channels, 8);
    assert_true(out->layers[2].out_channels == 8 || out->layers[2].out_channels == 12);
    assert_int_equal(out->layers[5].out_channels % 8, 0);
    net_free(out);
    net_free(net);
}

static void test_random_is_seeded(void **state)
{
    (void)state;
    struct net *net = larger(), *a, *b, *c;
    struct prune_options o = {.criterion = PRUNE_RANDOM, .ratio = 0.5, .least = 2, .seed = 1};

    assert_int_equal(prune_channels(net, &o, &a, NULL, 0), 0);
    assert_int_equal(prune_channels(net, &o, &b, NULL, 0), 0);
    o.seed = 2;
    assert_int_equal(prune_channels(net, &o, &c, NULL, 0), 0);
    assert_true(a->param_count == b->param_count &&
                !memcmp(a->params, b->params, a->param_count * sizeof(float)));
    assert_true(a->param_count != c->param_count ||
                memcmp(a->params, c->params, a->param_count * sizeof(float)) != 0);
    net_free(a);
    net_free(b);
    net_free(c);
    /* uniform: the mean of 36 is within four deviations of one half */
    float *worth[MODEL_MAX_LAYERS], sum = 0.0f;
    assert_int_equal(prune_worth(net, &o, worth), 0);
    for (int i = 0; i < 6; i += i ? 3 : 2) {
        for (uint32_t k = 0; k < net->layers[i].out_channels; k++) {
            assert_true(worth[i][k] >= 0.0f && worth[i][k] < 1.0f);
            sum += worth[i][k];
        }
    }
    assert_float_equal(sum / 36.0f, 0.5f, 4.0f * 0.289f / 6.0f);
    prune_worth_free(worth);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_by_hand),
                                       cmocka_unit_test(test_zero_channels_do_not_matter),
                                       cmocka_unit_test(test_target_and_limits),
                                       cmocka_unit_test(test_norms_by_hand),
                                       cmocka_unit_test(test_taylor_by_hand),
                                       cmocka_unit_test(test_taylor_of_a_convolution_by_hand),
                                       cmocka_unit_test(test_choices_by_hand),
                                       cmocka_unit_test(test_given_worth),
                                       cmocka_unit_test(test_price_by_hand),
                                       cmocka_unit_test(test_local_takes_the_same_share),
                                       cmocka_unit_test(test_align_and_protect),
                                       cmocka_unit_test(test_random_is_seeded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
