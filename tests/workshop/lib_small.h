/* lib_small.h - a network of two convolutions trained for a moment on made-up appliances, and what
 * is needed to quantize it. */
#ifndef TESTS_WORKSHOP_SMALL_H
#define TESTS_WORKSHOP_SMALL_H

#include "inference/model.h"
#include "inference/workshop/quantize.h"

#define SMALL_CLASSES 4
#define SMALL_WINDOW 96

/* Everything about the model but its layers. */
struct model small_model(void);

/* Trained on d, normalization folded; net_free. */
struct net *small_trained(const struct model *m, const struct dataset *d);

struct quantize_sample small_sample(const struct model *m, const struct dataset *d,
                                    uint32_t windows);

/* INT8 from net, with golden vectors; m gets net's layers. percentile 100: the extremes. FIT comes
 * with corrected biases, the others without. */
struct quantized *small_quantized(const struct net *net, struct model *m, const struct dataset *d,
                                  double percentile, enum quantize_rounding rounding);

#endif
