/* reject.c - see reject.h. */
#include "inference/workshop/reject.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

const char *const reject_names[REJECT_SCORES] = {"probability", "margin", "entropy", "logit",
                                                 "energy"};

/* Largest and second largest; n at least 1. */
static void first_two(const float *p, uint32_t n, float *first, float *second)
{
    *first = p[0];
    *second = -INFINITY;
    for (uint32_t c = 1; c < n; c++) {
        if (p[c] > *first) {
            *second = *first;
            *first = p[c];
        } else if (p[c] > *second) {
            *second = p[c];
        }
    }
}

float reject_score(enum reject_score score, const float *logits, const float *probabilities,
                   uint32_t n)
{
    float first, second;
    double sum = 0;
    first_two(score == REJECT_LOGIT || score == REJECT_ENERGY ? logits : probabilities, n, &first,
              &second);
    switch (score) {
    case REJECT_PROBABILITY:
    case REJECT_LOGIT:
        return first;
    case REJECT_MARGIN:
        return n > 1 ? first - second : first;
    case REJECT_ENTROPY:
        for (uint32_t c = 0; c < n; c++)
            sum +=
                probabilities[c] > 0 ? (double)probabilities[c] * log((double)probabilities[c]) : 0;
        return (float)sum;
    case REJECT_ENERGY:
        for (uint32_t c = 0; c < n; c++)
            sum += exp((double)logits[c] - (double)first);
        return (float)((double)first + log(sum));
    case REJECT_SCORES:
        break;
    }
    return 0;
}

/* --- sets --- */

static int by_score(const void *a, const void *b)
{
    float x = ((const struct reject_sample *)a)->score,
          y = ((const struct reject_sample *)b)->score;
    return (x > y) - (x < y);
}

int reject_set_create(const float *scores, const uint32_t *labels, size_t count,
                      uint32_t class_count, struct reject_set *out)
{
    size_t *support = calloc((size_t)class_count + 1, sizeof *support);
    uint32_t present = 0;
    *out = (struct reject_set){.samples = malloc((count + 1) * sizeof *out->samples)};
    if (support == NULL || out->samples == NULL) {
        free(support);
        reject_set_free(out);
        return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++)
        present += support[labels[i]]++ == 0;
    for (size_t i = 0; i < count; i++)
        out->samples[i] = (struct reject_sample){
            .score = isnan(scores[i]) ? -INFINITY : scores[i],
            .weight = (float)(1.0 / ((double)support[labels[i]] * (double)present))};
    out->count = count;
    qsort(out->samples, count, sizeof *out->samples, by_score);
    free(support);
    return 0;
}

void reject_set_free(struct reject_set *s)
{
    free(s->samples);
    *s = (struct reject_set){0};
}

double reject_share(const struct reject_set *s, float threshold)
{
    double below = 0;
    for (size_t i = 0; i < s->count && s->samples[i].score < threshold; i++)
        below += (double)s->samples[i].weight;
    return below;
}

float reject_threshold(const struct reject_set *s, double share)
{
    double below = 0;
    size_t best = 0;
    for (size_t i = 0; i < s->count && below <= share + 1e-9; i++) {
        if (i == 0 || s->samples[i].score > s->samples[best].score)
            best = i; /* the first of equal ones: `below` is what lies under it */
        below += (double)s->samples[i].weight;
    }
    return s->count ? s->samples[best].score : 0;
}

double reject_auroc(const struct reject_set *known, const struct reject_set *unknown)
{
    double area = 0, below = 0; /* weight of the unknown under the current score */
    size_t u = 0;
    if (known->count == 0 || unknown->count == 0)
        return 0.5;
    for (size_t k = 0; k < known->count;) {
        float score = known->samples[k].score;
        double equal = 0, here = 0;
        for (; u < unknown->count && unknown->samples[u].score < score; u++)
            below += (double)unknown->samples[u].weight;
        for (size_t i = u; i < unknown->count && unknown->samples[i].score <= score; i++)
            equal += (double)unknown->samples[i].weight;
        for (; k < known->count && known->samples[k].score <= score; k++)
            here += (double)known->samples[k].weight;
        area += here * (below + equal / 2);
    }
    return area;
}

double reject_best_loss(const struct reject_set *known, const struct reject_set *unknown,
                        size_t pairs, size_t skip, double least, double most, double *youden)
{
    enum { STEPS = 200 };
    double best = least, best_j = -INFINITY;
    for (int i = 0; i <= STEPS; i++) {
        double loss = least + (most - least) * i / STEPS, j = 0;
        size_t n = 0;
        for (size_t p = 0; p < pairs; p++) {
            if (p == skip)
                continue;
            float threshold = reject_threshold(&known[p], loss);
            j += reject_share(&unknown[p], threshold) - reject_share(&known[p], threshold);
            n++;
        }
        j = n ? j / (double)n : 0;
        if (j > best_j + 1e-9) { /* of equal ones the smallest loss */
            best_j = j;
            best = loss;
        }
    }
    if (youden)
        *youden = best_j;
    return best;
}
