/* lib_synthetic.h - made-up appliances: a dataset in memory whose classes can be told apart, for
 * tests of training. */
#ifndef TESTS_WORKSHOP_SYNTHETIC_H
#define TESTS_WORKSHOP_SYNTHETIC_H

#include "inference/workshop/dataset.h"

/* `classes` (at most 6) appliances with `traces` traces each of `count` samples, deterministic by
 * seed; windows every `stride` samples. Level, duty cycle and period differ by class. Release with
 * synthetic_free. */
struct dataset *synthetic_dataset(uint32_t classes, uint32_t traces, uint32_t count,
                                  uint32_t window, uint32_t stride, uint64_t seed);
void synthetic_free(struct dataset *d);

#endif
