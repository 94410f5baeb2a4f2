/* identify.c - evidence of windows into a name. */
#include "agent/identify.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Chosen on tracebase days that were not trained on (validation part), for the energy that gets the
 * right name. */
#define MEMORY 1200.0 /* samples' worth of evidence that is remembered */
#define INDEPENDENT                                                                                \
    64.0 /* samples of evidence that count as one more independent observation ... */
#define MOST_OBSERVATIONS 1.5 /* ... up to so many */
#define LOWEST_P 0.002        /* a window never says less than this about a class */
#define CHANGE_MARGIN 0.405   /* ln 1.5: how much likelier another name must be */
#define LOSE_SHARE 0.7        /* of the reject threshold, below which a name is taken back */

void identify_init(struct identify *id)
{
    memset(id, 0, sizeof(*id));
    snprintf(id->name, sizeof(id->name), "%s", EVENT_UNKNOWN);
}

uint32_t identify_labels(const struct model *m)
{
    uint32_t x = 2166136261u; /* FNV-1a over the labels with their ends */
    for (uint32_t c = 0; m && c < m->class_count; c++) {
        const char *p = m->labels[c];
        do
            x = (x ^ (uint32_t)(unsigned char)*p) * 16777619u;
        while (*p++);
    }
    return x;
}

static int find_label(const struct model *m, const char *label)
{
    for (uint32_t c = 0; c < m->class_count; c++) {
        if (!strcmp(m->labels[c], label))
            return (int)c;
    }
    return -1;
}

void identify_model(struct identify *id, const struct model *from, const struct model *to)
{
    uint32_t labels = identify_labels(to);
    if (id->classes == to->class_count && id->labels == labels)
        return;
    float logs[MODEL_MAX_CLASSES];
    double weight = 0;
    memset(logs, 0, sizeof(logs));
    if (from && id->classes == from->class_count && id->labels == identify_labels(from)) {
        weight = id->weight;
        for (uint32_t c = 0; c < to->class_count; c++) {
            int old = find_label(from, to->labels[c]);
            logs[c] = old >= 0 ? id->logs[old] : (float)(weight * log(1.0 / to->class_count));
        }
    }
    memcpy(id->logs, logs, sizeof(logs));
    id->weight = weight;
    id->classes = to->class_count;
    id->labels = labels;
}

static int rename_to(struct identify *id, const char *name, double confidence)
{
    int changed = strcmp(id->name, name) != 0;
    if (changed)
        snprintf(id->name, sizeof(id->name), "%s", name);
    id->confidence = confidence;
    return changed;
}

/* Belief in the best class and in the one that the name stands for. */
static int decide(struct identify *id, const struct model *m)
{
    double sharp = fmin(1 + id->weight / INDEPENDENT, MOST_OBSERVATIONS) / id->weight;
    uint32_t best = 0;
    for (uint32_t c = 1; c < id->classes; c++) {
        if (id->logs[c] > id->logs[best])
            best = c;
    }
    double sum = 0;
    for (uint32_t c = 0; c < id->classes; c++)
        sum += exp(((double)id->logs[c] - (double)id->logs[best]) * sharp);
    double confidence = 1 / sum;
    int now = find_label(m, id->name);
    if (now < 0) /* unknown, or a label that this model does not have */
        return rename_to(id, confidence >= (double)m->reject ? m->labels[best] : EVENT_UNKNOWN,
                         confidence);
    double behind = ((double)id->logs[best] - (double)id->logs[now]) * sharp;
    if (behind >= CHANGE_MARGIN && confidence >= (double)m->reject)
        return rename_to(id, m->labels[best], confidence);
    double mine = exp(-behind) * confidence;
    if (mine < LOSE_SHARE * (double)m->reject)
        return rename_to(id, EVENT_UNKNOWN, confidence);
    id->confidence = mine;
    return 0;
}

int identify_add(struct identify *id, const struct model *m, const float *probabilities,
                 double weight)
{
    if (id->classes != m->class_count || weight <= 0)
        return 0;
    weight = fmin(weight, MEMORY / 2);
    double keep = id->weight + weight > MEMORY ? (MEMORY - weight) / id->weight : 1;
    for (uint32_t c = 0; c < id->classes; c++) {
        double p = (double)probabilities[c];
        double l = log(p > LOWEST_P ? p : LOWEST_P);
        id->logs[c] = (float)(keep * (double)id->logs[c] + weight * l);
    }
    id->weight = keep * id->weight + weight;
    return decide(id, m);
}

int identify_check(const struct identify *id)
{
    if (id->classes > MODEL_MAX_CLASSES || !isfinite(id->weight) || id->weight < 0 ||
        id->weight > 2 * MEMORY || !memchr(id->name, 0, sizeof(id->name)) ||
        !(id->confidence >= 0 && id->confidence <= 1))
        return -EBADMSG;
    for (uint32_t c = 0; c < id->classes; c++) {
        if (!isfinite(id->logs[c]))
            return -EBADMSG;
    }
    return 0;
}
