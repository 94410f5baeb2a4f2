/* lib_random_model.h - random but valid models for tests, built by hand as the workshop would.
 *
 * A model is a pure function of its seed. Weights, zero points, biases and multipliers are drawn
 * with a taste for extremes: the whole range that the loader lets pass has to come out the same
 * bits everywhere.
 */
#ifndef TESTS_INFERENCE_LIB_RANDOM_MODEL_H
#define TESTS_INFERENCE_LIB_RANDOM_MODEL_H

#include <stdint.h>

#include "inference/model.h"

/* SplitMix64 (Steele, Lea, Flood 2014); state is any number. */
uint64_t random_next(uint64_t *state);
uint32_t random_below(uint64_t *state, uint32_t bound);

/* 1 to 5 convolutions of odd widths with pools among them, 1 to 3 dense layers, 1 to 4 channels. */
struct model *random_model_create(uint64_t seed, enum model_dtype dtype);

/* The same with up to 150 channels, windows of up to 600 samples and dense layers of up to 160
 * units: more than a kernel set's blocks and tiles hold. INT8. */
struct model *random_model_wide(uint64_t seed);

/* The article's network: 512 samples, 16,32,64,64,96 channels of 7,5,5,3,3 taps, pools of 2,
 * 1248-128-32. */
struct model *random_model_article(uint64_t seed, enum model_dtype dtype);

/* Adds count golden vectors whose logits are the reference's (lib_reference.h). INT8 only. */
void random_model_add_golden(struct model *m, uint64_t seed, uint32_t count);

void random_model_free(struct model *m);

/* Watts with plateaus, spikes, negative and huge values, zeros; never NaN. */
void random_watts(uint64_t *state, float *watts, uint32_t count);

#endif
