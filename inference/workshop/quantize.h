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

/* Runs `windows` windows of d (drawn as in training, not varied; seeded) and sets ranges
 * [layer_count]. percentile: of the values of an output that are to lie inside, in (50, 100]; 100
 * takes the extremes. 0, -ENOMEM. */
int quantize_calibrate(const struct net *net, const struct model_channel *channels,
                       const struct dataset *d, uint32_t windows, double percentile, uint64_t seed,
                       struct quantize_range *ranges);

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
 * stays level for most of the time, and then only that sum counts. Which is better depends on the
 * network (on a pruned one LEVEL was by far, on a large one NEAREST slightly): measure on the
 * validation part. */
enum quantize_rounding { QUANTIZE_NEAREST = 0, QUANTIZE_LEVEL = 1 };

/* Owns everything that its model points to, except labels, meta and golden vectors. */
struct quantized;

/* like: whose family, version, channels, labels, meta ... to take. net: without norm. 0, -EINVAL
 * (why), -ENOMEM. */
int quantize_net(const struct net *net, const struct model *like,
                 const struct quantize_range *ranges, enum quantize_rounding rounding,
                 struct quantized **out, char *why, size_t why_size);
struct model *quantize_model(struct quantized *q); /* ready for model_encode */
void quantize_free(struct quantized *q);

/* Draws `count` windows of d into watts [count][window + 1], runs the model through the engine and
 * makes them its golden vectors; the arrays are q's. 0, negative errno with why. */
int quantize_golden(struct quantized *q, const struct dataset *d, uint32_t count, uint64_t seed,
                    char *why, size_t why_size);

#endif
