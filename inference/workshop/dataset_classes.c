/* dataset_classes.c - which classes of the folder a dataset has, and what becomes of the windows of
 * the others (dataset_files.h). */
#include "inference/workshop/dataset_files.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_CLASS UINT32_MAX

/* --- classes left out on purpose --- */

/* Appends a name to the list of those left out. */
static int leave_out(struct dataset *d, const char *label)
{
    size_t used = d->without ? strlen(d->without) : 0, n = used + strlen(label) + 2;
    char *list = realloc(d->without, n);
    if (list == NULL)
        return -ENOMEM;
    snprintf(list + used, n - used, "%s%s", used ? "," : "", label);
    d->without = list;
    return 0;
}

/* "2/5": of the classes that would stay, number 2 and every fifth from there. 1 when text is of
 * this form. */
static int parse_fold(const char *text, uint32_t *k, uint32_t *n)
{
    char *end;
    if (text[0] < '0' || text[0] > '9')
        return 0;
    unsigned long first = strtoul(text, &end, 10);
    if (end[0] != '/' || end[1] < '0' || end[1] > '9')
        return 0;
    unsigned long count = strtoul(end + 1, &end, 10);
    if (*end || first < 1 || count < 2 || first > count || count > 256)
        return 0;
    *k = (uint32_t)first;
    *n = (uint32_t)count;
    return 1;
}

/* Clears keep of the classes that options.without names. */
static int apply_without(struct dataset *d, const struct dataset_folder *f, uint8_t *keep,
                         char *why, size_t why_size)
{
    const char *text = d->options.without;
    uint32_t first, count, number = 0;
    int rc = 0;
    if (text == NULL)
        return 0;
    if (parse_fold(text, &first, &count)) {
        for (uint32_t c = 0; rc == 0 && c < f->class_count; c++) {
            if (!keep[c] || number++ % count != first - 1)
                continue;
            keep[c] = 0;
            rc = leave_out(d, f->labels[c]);
        }
        return rc;
    }
    while (rc == 0 && *text) {
        size_t n = strcspn(text, ",");
        uint32_t c = 0;
        while (c < f->class_count &&
               (!keep[c] || strlen(f->labels[c]) != n || strncmp(f->labels[c], text, n) != 0))
            c++;
        if (c == f->class_count) {
            snprintf(why, why_size,
                     "without: expected classes that would be used, separated by commas, or K/N; "
                     "found \"%.*s\"",
                     (int)n, text);
            return -EINVAL;
        }
        keep[c] = 0;
        rc = leave_out(d, f->labels[c]);
        text += n + (text[n] == ',');
    }
    return rc;
}

/* --- classes that stay --- */

/* Says that a class is not among those that are learned: a person who labelled it wonders. */
static void note_few(struct dataset *d, const char *label, uint64_t traces, uint64_t windows)
{
    const size_t n = strlen(d->few);
    snprintf(d->few + n, sizeof d->few - n, "%s%s (%" PRIu64 " traces, %" PRIu64 " windows)",
             n ? ", " : "", label, traces, windows);
}

/* When the options name none: those with enough traces and a window that are not left out. */
static int choose_classes(struct dataset *d, const struct dataset_folder *f, uint32_t *map,
                          char *why, size_t why_size)
{
    uint64_t traces[256] = {0}, windows[256] = {0};
    uint8_t keep[256];
    for (size_t i = 0; i < f->count; i++)
        traces[f->files[i].label] += !f->files[i].ambiguous;
    for (size_t i = 0; i < d->window_count; i++)
        windows[d->windows[i].label]++;
    for (uint32_t c = 0; c < f->class_count; c++) {
        keep[c] =
            d->options.min_traces == 0 || (traces[c] >= d->options.min_traces && windows[c] > 0);
        if (!keep[c])
            note_few(d, f->labels[c], traces[c], windows[c]);
    }
    int rc = apply_without(d, f, keep, why, why_size);
    for (uint32_t c = 0; rc == 0 && c < f->class_count; c++) {
        map[c] = keep[c] ? d->class_count : NO_CLASS;
        if (keep[c])
            memcpy(d->labels[d->class_count++], f->labels[c], DATASET_LABEL_BYTES);
    }
    return rc;
}

/* Classes are the asked ones; every one may occur once. */
static void use_asked_classes(struct dataset *d, const struct dataset_folder *f, uint32_t *map)
{
    d->class_count = d->options.label_count;
    memcpy(d->labels, d->options.labels, d->class_count * sizeof *d->labels);
    for (uint32_t c = 0; c < f->class_count; c++) {
        map[c] = NO_CLASS;
        for (uint32_t k = 0; k < d->class_count && map[c] == NO_CLASS; k++) {
            if (strncmp(f->labels[c], d->labels[k], DATASET_LABEL_BYTES) == 0)
                map[c] = k;
        }
    }
}

/* Sets the windows of other classes apart, numbered by class among themselves. */
static int keep_unknown(struct dataset *d, const struct dataset_folder *f, const uint32_t *map)
{
    uint32_t number[256];
    size_t count = 0;
    d->unknown_labels = calloc(f->class_count + 1, sizeof *d->unknown_labels);
    d->unknown = malloc((d->window_count + 1) * sizeof *d->unknown);
    if (d->unknown_labels == NULL || d->unknown == NULL)
        return -ENOMEM;
    for (uint32_t c = 0; c < f->class_count; c++) {
        number[c] = d->unknown_class_count;
        if (map[c] == NO_CLASS)
            memcpy(d->unknown_labels[d->unknown_class_count++], f->labels[c], DATASET_LABEL_BYTES);
    }
    for (size_t i = 0; i < d->window_count; i++) {
        struct dataset_window w = d->windows[i];
        if (map[w.label] != NO_CLASS)
            continue;
        w.label = number[w.label];
        d->unknown[count++] = w;
    }
    return 0;
}

int dataset_classes_map(struct dataset *d, const struct dataset_folder *f, char *why,
                        size_t why_size)
{
    uint32_t map[256];
    size_t kept = 0;
    uint32_t most =
        d->options.label_count > f->class_count ? d->options.label_count : f->class_count;
    int rc = 0;
    d->labels = calloc((size_t)most + 1, sizeof *d->labels);
    if (d->labels == NULL)
        return -ENOMEM;
    if (d->options.label_count > 0)
        use_asked_classes(d, f, map);
    else
        rc = choose_classes(d, f, map, why, why_size);
    if (rc == 0 && d->options.keep_unknown)
        rc = keep_unknown(d, f, map);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < d->window_count; i++) {
        struct dataset_window w = d->windows[i];
        w.label = map[w.label];
        if (w.label != NO_CLASS)
            d->windows[kept++] = w;
        else
            d->unknown_windows += d->options.label_count > 0 || d->options.keep_unknown;
    }
    d->window_count = kept;
    /* traces of other classes stay in their places, empty: windows refer to traces by number */
    for (size_t t = 0; t < d->trace_count; t++) {
        struct dataset_trace *s = &d->traces[t];
        s->label = map[s->label];
        if (s->label == NO_CLASS && !d->options.keep_unknown) {
            free(s->watts);
            free(s->gap);
            s->watts = NULL;
            s->gap = NULL;
            s->count = 0;
        }
    }
    return 0;
}

/* --- devices --- */

static int by_label_and_key(const void *a, const void *b)
{
    const struct dataset_trace *x = *(const struct dataset_trace *const *)a;
    const struct dataset_trace *y = *(const struct dataset_trace *const *)b;
    return x->label != y->label ? (x->label > y->label) - (x->label < y->label)
                                : strcmp(x->key, y->key);
}

int dataset_devices(const struct dataset *d, uint32_t *out)
{
    const struct dataset_trace **used = malloc((d->trace_count + 1) * sizeof *used);
    size_t n = 0;
    if (used == NULL)
        return -ENOMEM;
    memset(out, 0, d->class_count * sizeof *out);
    for (size_t i = 0; i < d->window_count; i++) { /* windows are in the order of the traces */
        if (i == 0 || d->windows[i].trace != d->windows[i - 1].trace)
            used[n++] = &d->traces[d->windows[i].trace];
    }
    qsort(used, n, sizeof *used, by_label_and_key);
    for (size_t i = 0; i < n; i++)
        out[used[i]->label] += i == 0 || by_label_and_key(&used[i - 1], &used[i]) != 0;
    free(used);
    return 0;
}
