/* reject_tally.c - see reject_tally.h. */
#include "inference/workshop/reject_tally.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct run { /* of windows of one trace */
    const char *key;
    uint32_t label;
    uint64_t windows, rejected;
};

static int by_label_and_key(const void *a, const void *b)
{
    const struct run *x = a, *y = b;
    return x->label != y->label ? (x->label > y->label) - (x->label < y->label)
                                : strcmp(x->key, y->key);
}

static size_t find_runs(const struct dataset *d, const float *scores, float threshold,
                        struct run *runs)
{
    size_t n = 0;
    for (size_t i = 0; i < d->unknown_windows; i++) {
        const struct dataset_window *w = &d->unknown[i];
        if (i == 0 || w->trace != d->unknown[i - 1].trace)
            runs[n++] = (struct run){.key = d->traces[w->trace].key, .label = w->label};
        runs[n - 1].windows++;
        runs[n - 1].rejected += scores[i] < threshold;
    }
    qsort(runs, n, sizeof *runs, by_label_and_key);
    return n;
}

int reject_tally_add(struct reject_tally *t, const struct dataset *d, const float *scores,
                     float threshold)
{
    struct run *runs = malloc((d->trace_count + 1) * sizeof *runs);
    struct reject_tally_class *classes =
        realloc(t->classes, (t->class_count + d->unknown_class_count + 1) * sizeof *classes);
    if (classes)
        t->classes = classes;
    if (runs == NULL || classes == NULL) {
        free(runs);
        return -ENOMEM;
    }
    size_t n = find_runs(d, scores, threshold, runs);
    for (size_t i = 0, end; i < n; i = end) { /* a device after the other */
        uint64_t windows = 0, rejected = 0;
        for (end = i; end < n && by_label_and_key(&runs[end], &runs[i]) == 0; end++) {
            windows += runs[end].windows;
            rejected += runs[end].rejected;
        }
        if (i == 0 || runs[i].label != runs[i - 1].label) {
            struct reject_tally_class *fresh = &t->classes[t->class_count++];
            *fresh = (struct reject_tally_class){0};
            memcpy(fresh->name, d->unknown_labels[runs[i].label], sizeof fresh->name);
        }
        struct reject_tally_class *c = &t->classes[t->class_count - 1];
        c->by_device =
            (c->by_device * c->devices + (double)rejected / (double)windows) / (c->devices + 1.0);
        c->devices++;
        c->windows += windows;
        c->rejected += rejected;
    }
    free(runs);
    return 0;
}

void reject_tally_free(struct reject_tally *t)
{
    free(t->classes);
    *t = (struct reject_tally){0};
}
