/* metrics.h - what a classifier is worth: from probabilities and labels to accuracy, F1, BCE, confusion. */
#ifndef WORKSHOP_METRICS_H
#define WORKSHOP_METRICS_H

#include <stddef.h>
#include <stdint.h>

struct metrics_class {
    uint64_t support, predicted, correct;
    double precision, recall, f1;
};

struct metrics {
    uint32_t class_count;
    uint64_t windows, correct;
    double accuracy, f1_macro, f1_weighted; /* macro: mean over classes with support */
    double bce;           /* mean binary cross-entropy over windows and classes, natural log, p clipped to [1e-7, 1-1e-7] */
    double cross_entropy;
    struct metrics_class *classes; /* [class_count] */
    uint32_t *confusion;           /* [class_count][class_count], row: truth */
};

int metrics_create(uint32_t class_count, struct metrics **out);
void metrics_add(struct metrics *m, const float *probabilities, uint32_t truth);
/* Computes the doubles; once, after the last metrics_add. */
void metrics_finish(struct metrics *m);
void metrics_free(struct metrics *m);

#endif
