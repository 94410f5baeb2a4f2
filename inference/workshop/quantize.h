/* quantize.h - static post-training quantization of an FP32 net to the INT8 arithmetic of model.h.
 *
 * Weights: symmetric, one scale per output channel (Jacob et al. 2018; Krishnamoorthi 2018).
 * Activations: one scale and zero point per layer, from what calibration windows give. Inputs: the
 * features' own fixed ranges, as thresholds in watts, so that the device computes no logarithm;
 * each input channel has its own scale and offset, which go into the first layer's weights and
 * biases (exact, because a valid convolution sees every input through every tap).
 */
#ifndef WORKSHOP_QUANTIZE_H
#define WORKSHOP_QUANTIZE_H

#include <stddef.h>
#include <stdint.h>

#include "inference/model.h"
#include "inference/workshop/dataset.h"
#include "inference/workshop/net.h"

/* What each layer's output spans; for layers without weights that of the layer before. */
struct quantize_range {
    float low, high;
};

/* Windows to measure on, drawn as in training (not varied, seeded): watts [windows][window + 1]. */
struct quantize_sample {
    uint32_t windows;
    float *watts;
};
int quantize_sample_draw(const struct dataset *d, const struct model_channel *channels,
                         uint32_t channel_count, uint32_t window, uint32_t windows, uint64_t seed,
                         struct quantize_sample *out); /* 0, -ENOMEM */
void quantize_sample_free(struct quantize_sample *sample);

/* How a layer's range comes from its values on the sample. MINMAX: the extremes. PERCENTILE: so
 * much of them lies inside. MSE: the range with the least mean square of what clipping and rounding
 * to its 256 levels do, estimated from a histogram. */
enum quantize_calibration { QUANTIZE_MINMAX = 0, QUANTIZE_PERCENTILE = 1, QUANTIZE_MSE = 2 };

/* Sets ranges [layer_count]. percentile: in (50, 100], only for PERCENTILE. 0, -ENOMEM. */
int quantize_calibrate(const struct net *net, const struct model_channel *channels,
                       const struct quantize_sample *sample, enum quantize_calibration calibration,
                       double percentile, struct quantize_range *ranges);

/* Thresholds of one input channel (model.h): watts, or the difference, at which the quantized
 * feature steps up. */
void quantize_thresholds(const struct model_channel *channel, float thresholds[MODEL_LEVELS]);

/* How the levels of a channel map to the feature: feature = scale * q + offset. */
void quantize_input(enum model_feature feature, double *scale, double *offset);

/* multiplier and shift whose product M 2^-shift is nearest to ratio, which must be in (2^-32, 1). 0
 * or -ERANGE. */
int quantize_multiplier(double ratio, uint32_t *multiplier, uint8_t *shift);

/* How weights become integers. NEAREST: each by itself. LEVEL: what a weight loses is handed to the
 * next tap of the same input, so that the sum over the taps comes out right to half a step: power
 * stays level for most of the time, and then only that sum counts. FIT: so that the layer's output
 * on the sample has the least mean square error (quantize_fit), which is what both of the others
 * are after: LEVEL assumes that inputs are the same at all taps, NEAREST that they have nothing to
 * do with each other; FIT measures it. The aim of Nagel et al. 2020 (AdaRound), by coordinate
 * descent. Rows above QUANTIZE_FIT_ROW weights are rounded as NEAREST. */
enum quantize_rounding { QUANTIZE_NEAREST = 0, QUANTIZE_LEVEL = 1, QUANTIZE_FIT = 2 };
#define QUANTIZE_FIT_ROW 4096u

struct quantize_options {
    const struct quantize_range *ranges; /* [layer_count] */
    enum quantize_rounding rounding;
    /* Bias correction (Nagel et al. 2019, 4.2): the mean of each output before its ReLU, over the
     * sample, becomes that of FP32; layer by layer, with the layers before already INT8. */
    int correct_bias;
    const struct quantize_sample *sample; /* for FIT and correct_bias */
};

/* Owns everything that its model points to, except labels, meta and golden vectors. */
struct quantized;

/* like: whose family, version, channels, labels, meta ... to take. net: without norm. 0, -EINVAL
 * (why), -ENOMEM. */
int quantize_net(const struct net *net, const struct model *like,
                 const struct quantize_options *options, struct quantized **out, char *why,
                 size_t why_size);
struct model *quantize_model(struct quantized *q); /* ready for model_encode */
void quantize_free(struct quantized *q);

/* --- Quantization-aware fine-tuning (quantize_aware.c; train.h has the loop) --- */

/* The net of floats that computes what q computes, up to the rounding of floats: weights and biases
 * are what q's integers mean, inputs and outputs of layers are rounded to q's levels. net: what q
 * was made of (its shape is taken). *out: net_free. 0, -ENOMEM. */
int quantize_real(const struct quantized *q, const struct net *net, struct net **out);

/* Only the rounding of inputs: net then sees what INT8 sees, and computes as before. */
void quantize_round_inputs(const struct model_channel *channels, struct net *net);

/* Weights and biases of net, each to the nearest integer, into q, whose scales stay; and what the
 * integers mean into real (of quantize_real). Weights beyond the outermost level are taken back to
 * it in net. */
void quantize_apply(struct quantized *q, struct net *net, struct net *real);

/* Draws `count` windows of d into watts [count][window + 1], runs the model through the engine and
 * makes them its golden vectors; the arrays are q's. 0, negative errno with why. */
int quantize_golden(struct quantized *q, const struct dataset *d, uint32_t count, uint64_t seed,
                    char *why, size_t why_size);

/* How far a layer's INT8 output is from FP32's on a sample, as the ratio of the mean squares of
 * signal and error in dB; at most QUANTIZE_NOISE_MOST. own: this layer alone, its input being
 * FP32's rounded to the input's scale. total: with the error of all layers before. low, high: what
 * FP32's output reached on the sample. Layers without weights have 0. */
struct quantize_noise {
    double own, total, low, high;
};
#define QUANTIZE_NOISE_MOST 150.0

/* noise [layer_count]. int8: what quantize_net made of net, or the same decoded. 0, -ENOMEM. */
int quantize_noise(const struct net *net, const struct model *int8,
                   const struct quantize_sample *sample, struct quantize_noise *noise);

#endif
