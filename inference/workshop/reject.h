/* reject.h - known or unknown: how well a score of one window tells them apart, and where to put the threshold.
 *
 * A closed-set classifier names one of its classes whatever it sees. Here a score says how sure it is, classes that training left out
 * play the unknown, and a class counts once, however many windows it has. Pure functions; thread-safe on different objects.
 */
#ifndef WORKSHOP_REJECT_H
#define WORKSHOP_REJECT_H

#include <stddef.h>
#include <stdint.h>

/* Larger is more like something known. */
enum reject_score {
    REJECT_PROBABILITY, /* the largest probability (Hendrycks, Gimpel 2017): what model.reject is compared with */
    REJECT_MARGIN,      /* the largest less the second largest */
    REJECT_ENTROPY,     /* sum of p log p */
    REJECT_LOGIT,       /* the largest logit */
    REJECT_ENERGY,      /* log of the sum of exp(logit) (Liu et al., Energy-based Out-of-distribution Detection, 2020) */
    REJECT_SCORES       /* their number */
};

extern const char *const reject_names[REJECT_SCORES];

float reject_score(enum reject_score score, const float *logits, const float *probabilities,
                   uint32_t n);

/* Scores of a set of windows, ascending, with weights that sum to 1. */
struct reject_sample {
    float score;
    float weight;
};
struct reject_set {
    struct reject_sample *samples;
    size_t count;
};

/* From scores and labels [count], labels below class_count: each class that occurs has the same weight in all. A NaN counts as
 * -infinity. 0, -ENOMEM. */
int reject_set_create(const float *scores, const uint32_t *labels, size_t count,
                      uint32_t class_count, struct reject_set *out);
void reject_set_free(struct reject_set *s);

/* The share below the threshold: what it rejects. 0 without a sample. */
double reject_share(const struct reject_set *s, float threshold);

/* The highest score of the set that as a threshold rejects at most `share` of it; 0 without a sample. */
float reject_threshold(const struct reject_set *s, double share);

/* Probability that a known window scores above an unknown one, equal ones counted half: the area under the curve of true against
 * false rejections. 0.5 says nothing, 1 is perfect. 0.5 when one set is empty. */
double reject_auroc(const struct reject_set *known, const struct reject_set *unknown);

/* What several networks say together: the share of known windows lost, from `least` up to `most`, at which the mean over the pairs of
 * (unknown rejected - known rejected), Youden's J, is largest, each pair with its own threshold. Pairs where skip is i are left out
 * (no pair: SIZE_MAX). *youden, where not NULL, is that mean. */
double reject_best_loss(const struct reject_set *known, const struct reject_set *unknown,
                        size_t pairs, size_t skip, double least, double most, double *youden);

#endif
