/* lib_reference.h - the arithmetic of model.h written down once more, plainly and independently of
 * the engine. */
#ifndef TESTS_INFERENCE_LIB_REFERENCE_H
#define TESTS_INFERENCE_LIB_REFERENCE_H

#include "inference/model.h"

/* watts [window + 1], logits [class_count]. */
void reference_run(const struct model *m, const float *watts, float *logits);

#endif
