/* metrics.h - what a classifier is worth: from probabilities and labels to accuracy, F1, losses,
 * confusion.
 *
 * One window, one true class; the prediction is the class of the largest probability (the first of
 * equal ones). A metrics object belongs to one thread at a time. The order of metrics_add matters
 * only for the last digits of the losses.
 */
#ifndef WORKSHOP_METRICS_H
#define WORKSHOP_METRICS_H

#include <stddef.h>
#include <stdint.h>

/* Of one class: support windows are of it, predicted are called it, correct are both. precision =
 * correct / predicted, recall = correct / support, f1 their harmonic mean; 0 where the denominator
 * is 0. */
struct metrics_class {
    uint64_t support, predicted, correct;
    double precision, recall, f1;
    /* The class by itself, on where its probability is at least 0.5, as the agent reads a sigmoid
     * head: windows that are called on, and those of them that are. on_f1 is 2 on_correct /
     * (on_predicted + support). */
    uint64_t on_predicted, on_correct;
    double on_f1;
    /* Of sets alone (metrics_add_set): the probability from which on is called, the area under
     * precision over recall (average precision), and the share of windows that are of the class,
     * which is what a guess reaches. precision, recall and f1 are those at the threshold. */
    double threshold, average_precision, prevalence;
    /* The threshold that is best on these very windows, and F1 there, whatever thresholds are used.
     */
    double best_threshold, best_f1;
    uint64_t (*levels)[2]; /* [METRICS_LEVELS]: windows by probability, without the class and with
                              it; NULL before the first set */
};

/* Probabilities of sets are counted in so many steps. */
#define METRICS_LEVELS 1000

/* The windows whose largest probability lies in one of METRICS_BINS ranges of equal width: (i/n,
 * (i+1)/n], the first with 0. */
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
    double bce; /* mean binary cross-entropy over windows and classes, natural log, p clipped to
                   [1e-7, 1-1e-7] */
    double cross_entropy; /* mean of -log p(true class), clipped alike */
    double on_f1_macro;   /* mean of on_f1 over the classes with support */
    /* Expected calibration error: mean distance between a bin's accuracy and its confidence,
     * weighted by windows (Guo et al., On Calibration of Modern Neural Networks, 2017, section 2).
     */
    double ece;
    struct metrics_bin bins[METRICS_BINS];
    struct metrics_class *classes; /* [class_count] */
    uint32_t *confusion;           /* [class_count][class_count], row: truth, column: prediction */
};

/* 1 to 4096 classes. 0 and *out (metrics_free), -EINVAL, -ENOMEM. */
int metrics_create(uint32_t class_count, struct metrics **out);

/* Counts a window: probabilities [class_count]. A truth beyond the classes is not counted. A NaN
 * counts as 0 in the losses. */
void metrics_add(struct metrics *m, const float *probabilities, uint32_t truth);

/* The same for a window of which several classes, or none, are true: a bit of `truth` for each of
 * at most 32 classes. accuracy is then the share of (window, class) that are called rightly,
 * f1_macro the mean over the classes with support of F1 at their thresholds, on_f1 is at 0.5;
 * confusion, bins and losses of one class stay 0. Not to be mixed with metrics_add. 0, -ENOMEM. */
int metrics_add_set(struct metrics *m, const float *probabilities, uint32_t truth);

/* After metrics_finish, which has set each class's threshold to half of the best F1 that it can
 * have on these windows: other thresholds [class_count], as chosen elsewhere. */
void metrics_use_thresholds(struct metrics *m, const float *thresholds);

/* Computes the doubles; once, after the last metrics_add. */
void metrics_finish(struct metrics *m);
void metrics_free(struct metrics *m); /* NULL is allowed */

#endif
