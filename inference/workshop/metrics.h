/* metrics.h - what a classifier is worth: from probabilities and labels to accuracy, F1, losses, confusion.
 *
 * One window, one true class; the prediction is the class of the largest probability (the first of equal ones). A metrics object
 * belongs to one thread at a time. The order of metrics_add matters only for the last digits of the losses.
 */
#ifndef WORKSHOP_METRICS_H
#define WORKSHOP_METRICS_H

#include <stddef.h>
#include <stdint.h>

/* Of one class: support windows are of it, predicted are called it, correct are both. precision = correct / predicted, recall =
 * correct / support, f1 their harmonic mean; 0 where the denominator is 0. */
struct metrics_class {
    uint64_t support, predicted, correct;
    double precision, recall, f1;
    /* The class by itself, on where its probability is at least 0.5, as the agent reads a sigmoid head: windows that are called on,
     * and those of them that are. on_f1 is 2 on_correct / (on_predicted + support). */
    uint64_t on_predicted, on_correct;
    double on_f1;
};

/* The windows whose largest probability lies in one of METRICS_BINS ranges of equal width: (i/n, (i+1)/n], the first with 0. */
#define METRICS_BINS 15
struct metrics_bin {
    uint64_t windows, correct;
    double confidence; /* mean of the largest probability */
    double accuracy;   /* correct / windows; both 0 without a window */
};

struct metrics {
    uint32_t class_count;
    uint64_t windows, correct;
    double accuracy;    /* correct / windows; this and the following are 0 without a window */
    double f1_macro;    /* mean of f1 over the classes with support */
    double f1_weighted; /* mean of f1, weighted by support */
    double bce; /* mean binary cross-entropy over windows and classes, natural log, p clipped to [1e-7, 1-1e-7] */
    double cross_entropy; /* mean of -log p(true class), clipped alike */
    double on_f1_macro; /* mean of on_f1 over the classes with support */
    /* Expected calibration error: mean distance between a bin's accuracy and its confidence, weighted by windows (Guo et al., On
     * Calibration of Modern Neural Networks, 2017, section 2). */
    double ece;
    struct metrics_bin bins[METRICS_BINS];
    struct metrics_class *classes; /* [class_count] */
    uint32_t *confusion;           /* [class_count][class_count], row: truth, column: prediction */
};

/* 1 to 4096 classes. 0 and *out (metrics_free), -EINVAL, -ENOMEM. */
int metrics_create(uint32_t class_count, struct metrics **out);

/* Counts a window: probabilities [class_count]. A truth beyond the classes is not counted. A NaN counts as 0 in the losses. */
void metrics_add(struct metrics *m, const float *probabilities, uint32_t truth);

/* Computes the doubles; once, after the last metrics_add. */
void metrics_finish(struct metrics *m);
void metrics_free(struct metrics *m); /* NULL is allowed */

#endif
