/* evaluate.h - a model against the windows of a dataset: what the commands that judge models share.
 *
 * Results do not depend on the number of threads. Progress goes to standard error.
 */
#ifndef WORKSHOP_EVALUATE_H
#define WORKSHOP_EVALUATE_H

#include <stddef.h>
#include <stdint.h>

#include "inference/model.h"
#include "inference/workshop/dataset.h"
#include "inference/workshop/metrics.h"

/* What one window gives: the head's probabilities, or the logits before it. */
enum evaluate_output { EVALUATE_PROBABILITIES, EVALUATE_LOGITS };

/* Dataset options for judging m: its window, grid, labels (not copied: m must outlive their use) and activity (the project's
 * default where m has none), every class kept. Split and part: everything. */
void evaluate_options(const struct model *m, struct dataset_options *o);

/* Runs m over windows of d (d->windows, or d->unknown), on `threads` threads (0: one per processor), into out
 * [count][class_count]. title: what a progress bar is called, NULL for none. 0, -EINVAL (window lengths differ, or m cannot run),
 * -ENOTSUP, -ENOMEM; why says which. */
int evaluate_windows(const struct model *m, const struct dataset *d,
                     const struct dataset_window *windows, size_t count, uint32_t threads,
                     enum evaluate_output output, const char *title, float *out, char *why,
                     size_t why_size);

struct evaluation {
    struct metrics *metrics;
    float *probabilities;                /* [d->window_count][class_count] */
    uint64_t rejected;                   /* windows with a largest probability below m->reject */
    uint64_t unknown_rejected;           /* the same of d->unknown; 0 where d does not keep them */
    uint64_t *unknown_rejected_by_class; /* [d->unknown_class_count + 1] */
    uint32_t devices[MODEL_MAX_CLASSES]; /* whose windows are in d, by class */
};

/* Judges m on all windows of d, whose labels are m's. *out: evaluate_free, also after a failure. Errors as evaluate_windows. */
int evaluate_run(const struct model *m, const struct dataset *d, uint32_t threads, int quiet,
                 struct evaluation *out, char *why, size_t why_size);
void evaluate_free(struct evaluation *e);

/* Share of the windows of d whose first class has the same name in e and in another model. -EINVAL also when that model has
 * another window or grid; else as evaluate_windows. */
int evaluate_agreement(const struct model *m, const struct evaluation *e,
                       const struct model *reference, const struct dataset *d, uint32_t threads,
                       int quiet, double *same, char *why, size_t why_size);

/* Median time in microseconds of one whole window, and of one hop of streaming (m->hop samples; FP32 does not stream, there a hop
 * is a whole window), one at a time on this thread, on windows of d, which has at least one. 0, -EINVAL, -ENOTSUP, -ENOMEM. */
int evaluate_latency(const struct model *m, const struct dataset *d, double *window_us,
                     double *hop_us);

/* Index of the largest of n numbers, the first of equal ones. */
uint32_t evaluate_first(const float *p, uint32_t n);

#endif
