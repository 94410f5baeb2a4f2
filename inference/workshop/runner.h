/* runner.h - a model of either kind on whole windows: INT8 through the engine that the agent runs, FP32 through net.h.
 *
 * So eval and bench measure the very code that is deployed. A runner belongs to one thread at a time; several runners of one model may
 * run side by side. The model must outlive the runner.
 */
#ifndef WORKSHOP_RUNNER_H
#define WORKSHOP_RUNNER_H

#include <stddef.h>

#include "inference/model.h"

struct runner;

/* Makes a runner (runner_free). 0, -EINVAL, -ENOTSUP (NILM_CPU names an unknown kernel set), -ENOMEM; why (may be NULL) says which. */
int runner_create(const struct model *m, struct runner **out, char *why, size_t why_size);
void runner_free(struct runner *r); /* NULL is allowed */

/* The engine's kernel set, or "fp32". */
const char *runner_isa(const struct runner *r);

/* watts [count][window + 1], the first of each being the predecessor of the window, to probabilities [count][class_count]. */
void runner_windows(struct runner *r, const float *watts, size_t count, float *probabilities);

/* The same without the head, and the head alone, in place allowed. */
void runner_logits(struct runner *r, const float *watts, size_t count, float *logits);
void runner_probabilities(const struct runner *r, const float *logits, size_t count,
                          float *probabilities);

#endif
