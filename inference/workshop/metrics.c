/* metrics.c - see metrics.h. Definitions as in C. D. Manning et al., "Introduction to Information
 * Retrieval", chapters 8 and 13: a class's precision and recall are 0 where their denominator is,
 * and so is F1. */
#include "inference/workshop/metrics.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

int metrics_create(uint32_t class_count, struct metrics **out)
{
    *out = NULL;
    if (class_count == 0 || class_count > 4096)
        return -EINVAL;
    struct metrics *m = calloc(1, sizeof *m);
    if (m == NULL)
        return -ENOMEM;
    m->class_count = class_count;
    m->classes = calloc(class_count, sizeof *m->classes);
    m->confusion = calloc((size_t)class_count * class_count, sizeof *m->confusion);
    if (m->classes == NULL || m->confusion == NULL) {
        metrics_free(m);
        return -ENOMEM;
    }
    *out = m;
    return 0;
}

void metrics_free(struct metrics *m)
{
    if (m == NULL)
        return;
    for (uint32_t c = 0; m->classes && c < m->class_count; c++)
        free(m->classes[c].levels);
    free(m->classes);
    free(m->confusion);
    free(m);
}

void metrics_add(struct metrics *m, const float *probabilities, uint32_t truth)
{
    uint32_t best = 0;
    double sum = 0;
    if (truth >= m->class_count)
        return;
    for (uint32_t c = 0; c < m->class_count; c++) {
        double p = (double)probabilities[c];
        p = p > 1e-7 ? p : 1e-7; /* a NaN becomes this, too */
        p = p < 1 - 1e-7 ? p : 1 - 1e-7;
        sum -= log(c == truth ? p : 1 - p);
        if (c == truth)
            m->cross_entropy -= log(p);
        if (probabilities[c] > probabilities[best])
            best = c;
        if (probabilities[c] >= 0.5f) {
            m->classes[c].on_predicted++;
            m->classes[c].on_correct += c == truth;
        }
    }
    double confidence = probabilities[best] > 0 ? (double)probabilities[best] : 0;
    confidence = confidence < 1 ? confidence : 1;
    int place = (int)ceil(confidence * METRICS_BINS) - 1;
    struct metrics_bin *bin = &m->bins[place > 0 ? place : 0];
    bin->windows++;
    bin->correct += best == truth;
    bin->confidence += confidence;
    m->bce += sum / (double)m->class_count;
    m->windows++;
    m->correct += best == truth;
    m->classes[truth].support++;
    m->classes[best].predicted++;
    m->classes[truth].correct += best == truth;
    m->confusion[(size_t)truth * m->class_count + best]++;
}

int metrics_add_set(struct metrics *m, const float *probabilities, uint32_t truth)
{
    for (uint32_t c = 0; c < m->class_count; c++) {
        struct metrics_class *k = &m->classes[c];
        const int is = c < 32 && (truth >> c & 1u);
        double p = (double)probabilities[c];
        p = p > 0 ? p : 0; /* a NaN becomes this, too */
        p = p < 1 ? p : 1;
        if (k->levels == NULL)
            k->levels = calloc(METRICS_LEVELS, sizeof *k->levels);
        if (k->levels == NULL)
            return -ENOMEM;
        int level = (int)(p * METRICS_LEVELS);
        k->levels[level < METRICS_LEVELS ? level : METRICS_LEVELS - 1][is]++;
        k->support += (uint64_t)is;
        k->on_predicted += p >= 0.5;
        k->on_correct += is && p >= 0.5;
        p = is ? p : 1 - p;
        m->bce -= log(p > 1e-7 ? p : 1e-7) / (double)m->class_count;
    }
    m->windows++;
    return 0;
}

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0;
}

/* Figures of a class at a threshold of whole steps. */
static void use_threshold(struct metrics_class *k, int level)
{
    k->threshold = (double)level / METRICS_LEVELS;
    k->predicted = k->correct = 0;
    for (int i = level; i < METRICS_LEVELS; i++) {
        k->predicted += k->levels[i][0] + k->levels[i][1];
        k->correct += k->levels[i][1];
    }
    k->precision = ratio((double)k->correct, (double)k->predicted);
    k->recall = ratio((double)k->correct, (double)k->support);
    k->f1 = ratio(2 * (double)k->correct, (double)(k->predicted + k->support));
}

/* From the highest probability down: average precision, and the best F1. Half of it is the
 * threshold: for probabilities that mean what they say that is where F1 is best (Lipton, Elkan,
 * Naryanaswamy, Optimal Thresholding of Classifiers to Maximize F1 Measure, 2014), and it does not
 * follow the accidents of the few runs that a validation part has, as the best place on the curve
 * does. */
static void finish_class(struct metrics *m, struct metrics_class *k)
{
    double found = 0, called = 0, best = 0;
    int at = METRICS_LEVELS / 2;
    for (int i = METRICS_LEVELS - 1; i >= 0; i--) {
        double more = (double)k->levels[i][1];
        found += more;
        called += more + (double)k->levels[i][0];
        k->average_precision += ratio(more, (double)k->support) * ratio(found, called);
        double f1 = ratio(2 * found, called + (double)k->support);
        if (more > 0 && f1 > best) {
            best = f1;
            at = i;
        }
    }
    k->prevalence = ratio((double)k->support, (double)m->windows);
    k->on_f1 = ratio(2 * (double)k->on_correct, (double)(k->on_predicted + k->support));
    k->best_threshold = (double)at / METRICS_LEVELS;
    k->best_f1 = best;
    use_threshold(k, best > 0 ? (int)lround(best / 2 * METRICS_LEVELS) : METRICS_LEVELS / 2);
}

/* The means over classes of what each has at its threshold. */
static void sum_sets(struct metrics *m)
{
    double wrong = 0, present = 0, weighted = 0, support = 0;
    m->f1_macro = m->on_f1_macro = 0;
    for (uint32_t c = 0; c < m->class_count; c++) {
        const struct metrics_class *k = &m->classes[c];
        wrong += (double)(k->predicted - k->correct) + (double)(k->support - k->correct);
        if (k->support == 0)
            continue;
        present++;
        support += (double)k->support;
        m->f1_macro += k->f1;
        weighted += k->f1 * (double)k->support;
        m->on_f1_macro += k->on_f1;
    }
    m->f1_macro = ratio(m->f1_macro, present);
    m->on_f1_macro = ratio(m->on_f1_macro, present);
    m->f1_weighted = ratio(weighted, support);
    m->accuracy = 1 - ratio(wrong, (double)m->windows * m->class_count);
}

void metrics_use_thresholds(struct metrics *m, const float *thresholds)
{
    for (uint32_t c = 0; c < m->class_count && m->classes[c].levels; c++)
        use_threshold(&m->classes[c], (int)lround((double)thresholds[c] * METRICS_LEVELS));
    sum_sets(m);
}

static void finish_sets(struct metrics *m)
{
    for (uint32_t c = 0; c < m->class_count; c++)
        finish_class(m, &m->classes[c]);
    m->bce = ratio(m->bce, (double)m->windows);
    sum_sets(m);
}

void metrics_finish(struct metrics *m)
{
    if (m->classes[0].levels) {
        finish_sets(m);
        return;
    }
    double macro = 0, weighted = 0, on_macro = 0;
    uint32_t present = 0;
    for (uint32_t c = 0; c < m->class_count; c++) {
        struct metrics_class *k = &m->classes[c];
        k->precision = ratio((double)k->correct, (double)k->predicted);
        k->recall = ratio((double)k->correct, (double)k->support);
        k->f1 = ratio(2 * k->precision * k->recall, k->precision + k->recall);
        k->on_f1 = ratio(2 * (double)k->on_correct, (double)(k->on_predicted + k->support));
        if (k->support > 0) {
            present++;
            macro += k->f1;
            on_macro += k->on_f1;
            weighted += k->f1 * (double)k->support;
        }
    }
    double windows = (double)m->windows;
    m->accuracy = ratio((double)m->correct, windows);
    m->f1_macro = ratio(macro, (double)present);
    m->on_f1_macro = ratio(on_macro, (double)present);
    m->f1_weighted = ratio(weighted, windows);
    m->bce = ratio(m->bce, windows);
    m->cross_entropy = ratio(m->cross_entropy, windows);
    for (int i = 0; i < METRICS_BINS; i++) {
        struct metrics_bin *bin = &m->bins[i];
        bin->confidence = ratio(bin->confidence, (double)bin->windows);
        bin->accuracy = ratio((double)bin->correct, (double)bin->windows);
        m->ece += ratio((double)bin->windows, windows) * fabs(bin->accuracy - bin->confidence);
    }
}
