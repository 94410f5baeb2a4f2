/* test_prune_graph.c - which channels stand where; and that what is pruned is exactly that: where
 * the pruned channels are zero, no output bit changes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "inference/workshop/convert.h"
#include "inference/workshop/net_random.h"
#include "inference/workshop/prune.h"
#include "inference/workshop/prune_graph.h"
#include "inference/workshop/runner.h"
#include "lib_small.h"
#include "lib_synthetic.h"

static struct net *make(const struct net_spec *spec)
{
    struct net *net;
    assert_int_equal(net_create(spec, &net, NULL, 0), 0);
    return net;
}

static void port_is(const struct prune_port *port, uint32_t maker, uint32_t channels,
                    uint32_t features, const uint32_t *channel)
{
    assert_int_equal(port->maker, maker);
    assert_int_equal(port->channels, channels);
    assert_int_equal(port->features, features);
    assert_memory_equal(port->channel, channel, features * sizeof(*channel));
}

/* Window 12, 2 inputs; conv to 3 (10 columns), pool 2 (5), conv to 2 (4 columns), pool 2 (2),
 * flatten to 4, dense 3, dense 2. Layers 0 to 6. */
static void test_ports(void **state)
{
    (void)state;
    struct net *net = make(&(struct net_spec){.head = MODEL_SOFTMAX,
                                              .window = 12,
                                              .channels = 2,
                                              .class_count = 2,
                                              .conv_count = 2,
                                              .conv = {{3, 3, 2}, {2, 2, 2}},
                                              .hidden_count = 1,
                                              .hidden = {3}});
    struct prune_graph g;
    uint32_t kept[4];

    assert_int_equal(net->layer_count, 7);
    assert_int_equal(prune_graph_create(net, &g), 0);
    port_is(&g.port[0], PRUNE_GRAPH_INPUT, 2, 2, (uint32_t[]){0, 1});
    port_is(&g.port[1], 0, 3, 3, (uint32_t[]){0, 1, 2}); /* conv makes */
    port_is(&g.port[2], 0, 3, 3, (uint32_t[]){0, 1, 2}); /* pool passes on: conv-pool-conv */
    port_is(&g.port[3], 2, 2, 2, (uint32_t[]){0, 1});
    port_is(&g.port[4], 2, 2, 2, (uint32_t[]){0, 1});
    port_is(&g.port[5], 2, 2, 4, (uint32_t[]){0, 1, 0, 1}); /* flatten: two columns */
    port_is(&g.port[6], 5, 3, 3, (uint32_t[]){0, 1, 2});    /* dense-dense */
    port_is(&g.port[7], 6, 2, 2, (uint32_t[]){0, 1});

    uint8_t first[3] = {0, 1, 1}, second[2] = {0, 1};
    uint8_t *keep[MODEL_MAX_LAYERS] = {[0] = first, [2] = second};
    assert_int_equal(prune_graph_kept(&g.port[0], keep, kept), 2); /* nothing of the input goes */
    assert_int_equal(prune_graph_kept(&g.port[2], keep, kept), 2);
    assert_memory_equal(kept, ((uint32_t[]){1, 2}), 2 * sizeof(*kept));
    assert_int_equal(prune_graph_kept(&g.port[5], keep, kept), 2);
    assert_memory_equal(kept, ((uint32_t[]){1, 3}), 2 * sizeof(*kept));
    assert_int_equal(prune_graph_kept(&g.port[6], keep, kept), 3);
    prune_graph_free(&g);
    net_free(net);
}

/* What no command makes but a file may hold: a pool on the input, two pools in a row, a flatten
 * behind a flatten, a dense layer without convolutions. */
static void test_unusual_chains(void **state)
{
    (void)state;
    const struct net_layer layers[] = {{.op = MODEL_MAXPOOL1D, .pool = 2},
                                       {.op = MODEL_CONV1D, .out_channels = 2, .taps = 1},
                                       {.op = MODEL_MAXPOOL1D, .pool = 2},
                                       {.op = MODEL_MAXPOOL1D, .pool = 2},
                                       {.op = MODEL_FLATTEN},
                                       {.op = MODEL_FLATTEN},
                                       {.op = MODEL_DENSE, .out_channels = 2}};
    struct prune_graph g;
    struct net *net;

    assert_int_equal(net_from_layers(MODEL_SOFTMAX, 24, 1, layers, 7, &net, NULL, 0), 0);
    assert_int_equal(prune_graph_create(net, &g), 0);
    port_is(&g.port[1], PRUNE_GRAPH_INPUT, 1, 1, (uint32_t[]){0});
    port_is(&g.port[4], 1, 2, 2, (uint32_t[]){0, 1});
    port_is(&g.port[6], 1, 2, 6, (uint32_t[]){0, 1, 0, 1, 0, 1}); /* 24 / 8 columns */
    prune_graph_free(&g);
    net_free(net);

    assert_int_equal(net_from_layers(MODEL_SOFTMAX, 3, 2, layers + 5, 2, &net, NULL, 0), 0);
    assert_int_equal(prune_graph_create(net, &g), 0);
    port_is(&g.port[1], PRUNE_GRAPH_INPUT, 2, 6, (uint32_t[]){0, 1, 0, 1, 0, 1});
    prune_graph_free(&g);
    net_free(net);
}

/* A network of whole numbers, so small that float sums are exact in any order. */
static struct net *random_integers(struct net_random *r)
{
    struct net_spec spec = {.head = MODEL_SOFTMAX,
                            .window = 40 + net_random_below(r, 30),
                            .channels = 1 + net_random_below(r, 4),
                            .class_count = 2 + net_random_below(r, 5),
                            .conv_count = net_random_below(r, 4),
                            .hidden_count = net_random_below(r, 3)};
    for (uint32_t i = 0; i < spec.conv_count; i++) {
        spec.conv[i].width = 2 + net_random_below(r, 12);
        spec.conv[i].taps = 1 + net_random_below(r, 4);
        spec.conv[i].pool = 1 + net_random_below(r, 2);
    }
    for (uint32_t i = 0; i < spec.hidden_count; i++)
        spec.hidden[i] = 2 + net_random_below(r, 20);
    struct net *net = make(&spec);
    for (size_t i = 0; i < net->param_count; i++)
        net->params[i] = (float)net_random_below(r, 3) - 1.0f;
    return net;
}

/* Sets random channels to zero and makes sure that the others are not. Writes how many of each
 * layer are left into widths; returns the share that is zero. */
static double zero_some(struct net *net, struct net_random *r, uint32_t *widths)
{
    uint32_t zeros = 0, all = 0;

    for (uint32_t i = 0; i < net->layer_count; i++) {
        const struct net_layer *l = &net->layers[i];
        const size_t fan_in = l->weight_count ? l->weight_count / l->out_channels : 0;
        widths[i] = l->out_channels;
        if (!l->weight_count || i + 1 == net->layer_count)
            continue;
        for (uint32_t c = 0; c < l->out_channels; c++) {
            float *w = net->params + l->weights + c * fan_in;
            w[0] = 1.0f;
            if (widths[i] == 1 || net_random_below(r, 3) > 0)
                continue;
            memset(w, 0, fan_in * sizeof(*w));
            net->params[l->bias + c] = 0.0f;
            widths[i]--;
            zeros++;
        }
        all += l->out_channels;
    }
    return all ? (double)zeros / all : 0.0;
}

static void same_outputs(const struct net *net, const struct net *out, struct net_random *r)
{
    struct net_work *a, *b;

    assert_int_equal(net_work_create(net, 3, &a), 0);
    assert_int_equal(net_work_create(out, 3, &b), 0);
    for (uint32_t i = 0; i < 3 * net->window * net->channels; i++)
        net_work_input(a)[i] = net_work_input(b)[i] = (float)net_random_below(r, 4) - 1.0f;
    const float *x = net_forward(net, a, 3, &(struct net_mode){0});
    const float *y = net_forward(out, b, 3, &(struct net_mode){0});
    for (uint32_t i = 0; i < 3 * net->class_count; i++)
        assert_true(fabsf(x[i]) < 0x1p20f && x[i] == floorf(x[i]));
    assert_memory_equal(x, y, 3 * net->class_count * sizeof(*x));
    net_work_free(a);
    net_work_free(b);
}

static void test_zero_channels_change_no_bit(void **state)
{
    (void)state;
    struct net_random r = net_random_stream(20, 3, 5);
    uint32_t pruned = 0, widths[MODEL_MAX_LAYERS];

    for (int n = 0; n < 200; n++) {
        struct net *net = random_integers(&r), *out;
        struct prune_options o = {.criterion = n % 2 ? PRUNE_L1 : PRUNE_L2, .least = 1};
        o.ratio = zero_some(net, &r, widths);
        assert_int_equal(prune_channels(net, &o, &out, NULL, 0), 0);
        for (uint32_t i = 0; i < net->layer_count; i++)
            assert_true(!net->layers[i].weight_count || out->layers[i].out_channels == widths[i]);
        pruned += out->param_count < net->param_count;
        same_outputs(net, out, &r);
        net_free(net);
        net_free(out);
    }
    assert_true(pruned > 120);
}

/* INT8: zero is one of a layer's levels, so a channel that is zero adds nothing to any sum. The
 * weights that read it are made small, since they too count for the scale of a row. */
static void zero_channel(struct net *net, uint32_t maker, uint32_t reader, uint32_t channel)
{
    const struct net_layer *l = &net->layers[maker], *next = &net->layers[reader];
    const size_t fan_in = l->weight_count / l->out_channels;

    memset(net->params + l->weights + channel * fan_in, 0, fan_in * sizeof(float));
    net->params[l->bias + channel] = 0.0f;
    for (size_t k = channel; k < next->weight_count; k += l->out_channels)
        net->params[next->weights + k] *= 0.01f;
}

static void test_zero_channels_change_no_bit_in_int8(void **state)
{
    (void)state;
    struct dataset *d = synthetic_dataset(SMALL_CLASSES, 2, 400, SMALL_WINDOW, 16, 1);
    struct model m = small_model(), cut;
    struct net *net = small_trained(&m, d), *out;
    struct quantize_sample sample = small_sample(&m, d, 128);
    struct quantize_range ranges[MODEL_MAX_LAYERS];
    const struct quantize_options options = {.ranges = ranges, .sample = &sample};
    struct quantized *a, *b;
    struct runner *x, *y;
    char why[256] = "";

    /* conv 8, pool, conv 12, pool, flatten, dense 16, dense */
    zero_channel(net, 0, 2, 3);
    zero_channel(net, 2, 5, 0);
    zero_channel(net, 2, 5, 11);
    zero_channel(net, 5, 6, 7);
    assert_int_equal(
        prune_channels(net, &(struct prune_options){.ratio = 4.0 / 36, .least = 1}, &out, NULL, 0),
        0);
    assert_int_equal(out->layers[0].out_channels, 7);
    assert_int_equal(out->layers[2].out_channels, 10);
    assert_int_equal(out->layers[5].out_channels, 15);
    assert_int_equal(quantize_calibrate(net, m.channels, &sample, QUANTIZE_MINMAX, 100.0, ranges),
                     0);
    cut = m;
    assert_int_equal(convert_to_model(net, &m), 0);
    assert_int_equal(convert_to_model(out, &cut), 0);
    assert_int_equal(quantize_net(net, &m, &options, &a, why, sizeof(why)), 0);
    assert_int_equal(quantize_net(out, &cut, &options, &b, why, sizeof(why)), 0);
    assert_int_equal(runner_create(quantize_model(a), &x, why, sizeof(why)), 0);
    assert_int_equal(runner_create(quantize_model(b), &y, why, sizeof(why)), 0);
    for (uint32_t i = 0; i < sample.windows; i++) {
        const float *watts = sample.watts + (size_t)i * (SMALL_WINDOW + 1);
        float p[SMALL_CLASSES], q[SMALL_CLASSES];
        runner_windows(x, watts, 1, p);
        runner_windows(y, watts, 1, q);
        assert_memory_equal(p, q, sizeof(p));
    }
    runner_free(x);
    runner_free(y);
    quantize_free(a);
    quantize_free(b);
    quantize_sample_free(&sample);
    net_free(net);
    net_free(out);
    synthetic_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ports),
                                       cmocka_unit_test(test_unusual_chains),
                                       cmocka_unit_test(test_zero_channels_change_no_bit),
                                       cmocka_unit_test(test_zero_channels_change_no_bit_in_int8)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
