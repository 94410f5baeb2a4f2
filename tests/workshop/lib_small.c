/* lib_small.c - see lib_small.h. */
#include "lib_small.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "inference/workshop/convert.h"
#include "inference/workshop/train.h"

static const char labels[SMALL_CLASSES][MODEL_LABEL_BYTES] = {"made-up-0", "made-up-1", "made-up-2",
                                                              "made-up-3"};

struct model small_model(void)
{
    struct model m = {.version = 3,
                      .family = "test",
                      .window = SMALL_WINDOW,
                      .period_ms = 1000,
                      .hop = 8,
                      .head = MODEL_SOFTMAX,
                      .min_activity_w = 5.0f,
                      .channel_count = 3,
                      .class_count = SMALL_CLASSES,
                      .labels = labels,
                      .meta = "attribution=none\n"};
    m.channels[0] = (struct model_channel){.feature = MODEL_LOG, .full = 4000.0f};
    m.channels[1] = (struct model_channel){.feature = MODEL_LOG_DIFF, .full = 4000.0f};
    m.channels[2] = (struct model_channel){.feature = MODEL_LINEAR, .full = 500.0f};
    return m;
}

struct net *small_trained(const struct model *m, const struct dataset *d)
{
    const struct net_spec spec = {.head = MODEL_SOFTMAX,
                                  .window = SMALL_WINDOW,
                                  .channels = m->channel_count,
                                  .class_count = SMALL_CLASSES,
                                  .conv_count = 2,
                                  .conv = {{8, 5, 2}, {12, 5, 4}},
                                  .hidden_count = 1,
                                  .hidden = {16},
                                  .norm = 1};
    struct train_options o;
    struct train_result result;
    struct net *net, *folded;

    assert_int_equal(net_create(&spec, &net, NULL, 0), 0);
    net_init(net, 1);
    train_defaults(&o);
    o.epochs = 6;
    o.epoch_windows = 1280;
    o.batch = 64;
    o.shift = 8;
    o.onset_samples = 8;
    o.threads = 2;
    o.quiet = 1;
    assert_int_equal(train_run(net, m->channels, d, NULL, &o, &result, NULL, 0), 0);
    assert_int_equal(convert_fold(net, &folded), 0);
    net_free(net);
    return folded;
}

struct quantize_sample small_sample(const struct model *m, const struct dataset *d,
                                    uint32_t windows)
{
    struct quantize_sample sample;
    assert_int_equal(
        quantize_sample_draw(d, m->channels, m->channel_count, SMALL_WINDOW, windows, 1, &sample),
        0);
    return sample;
}

struct quantized *small_quantized(const struct net *net, struct model *m, const struct dataset *d,
                                  double percentile, enum quantize_rounding rounding)
{
    struct quantize_sample sample = small_sample(m, d, 256);
    struct quantize_range ranges[MODEL_MAX_LAYERS];
    const struct quantize_options options = {.ranges = ranges,
                                             .rounding = rounding,
                                             .correct_bias = rounding == QUANTIZE_FIT,
                                             .sample = &sample};
    struct quantized *q;
    char why[256] = "";

    assert_int_equal(convert_to_model(net, m), 0);
    assert_int_equal(quantize_calibrate(net, m->channels, &sample,
                                        percentile < 100.0 ? QUANTIZE_PERCENTILE : QUANTIZE_MINMAX,
                                        percentile, ranges),
                     0);
    if (quantize_net(net, m, &options, &q, why, sizeof(why)) ||
        quantize_golden(q, d, 8, 1, why, sizeof(why)))
        fail_msg("%s", why);
    quantize_sample_free(&sample);
    return q;
}
