/* dataset.h - labelled traces on a grid, and the windows in them.
 *
 * DIR is laid out as tracebase is (DIR/complete/CLASS/*.csv, or DIR/CLASS/*.csv). Every trace is resampled once (resample.h) and
 * kept as float watts; a window is a view into it, so windows cost no memory. Order is by class, then file name: the
 * same folder gives the same dataset on every machine. Thread-safe for reading once loaded.
 */
#ifndef WORKSHOP_DATASET_H
#define WORKSHOP_DATASET_H

#include <stddef.h>
#include <stdint.h>

#define DATASET_LABEL_BYTES 32

/* How traces are kept apart. A trace (day file) is never on both sides; under SPLIT_DEVICE neither is a device. */
enum dataset_split { SPLIT_NONE = 0, SPLIT_DAY = 1, SPLIT_DEVICE = 2 };
enum dataset_part { PART_TRAIN = 0, PART_VALID = 1, PART_TEST = 2, PART_ALL = 3 };

struct dataset_options {
    uint32_t window, period_ms, stride; /* stride: grid samples between two windows */
    float min_activity_w;               /* a window needs a sample of at least this ... */
    uint32_t min_active_samples;        /* ... at least this often */
    float max_gap_share;                /* and at most this share of gap samples */
    uint32_t min_traces;                /* classes with fewer traces are left out (training); 0: keep all */
    enum dataset_split split;
    enum dataset_part part;
    uint64_t split_seed;
    /* When set (class_count > 0), classes are these in this order; others count into unknown_windows. */
    const char (*labels)[DATASET_LABEL_BYTES];
    uint32_t label_count;
    void (*progress)(void *context, size_t done, size_t total); /* files; may be NULL */
    void *context;
};

struct dataset_trace {
    char *path, *device;
    uint32_t label;
    uint32_t count;   /* grid samples */
    float *watts;     /* [count]; gaps carry the fill value of resample.h */
    uint8_t *gap;     /* [count] */
};

struct dataset_window {
    uint32_t trace, start; /* the window is watts[start .. start+window) */
    uint32_t label;
};

struct dataset {
    struct dataset_options options;
    uint32_t class_count;
    char (*labels)[DATASET_LABEL_BYTES];
    struct dataset_trace *traces;
    size_t trace_count;
    struct dataset_window *windows;
    size_t window_count;
    size_t unknown_windows;
    uint64_t bad_lines;
    size_t skipped_files;
};

/* Loads the part of DIR. 0, -ENOENT, -EBADMSG (no trace there), -ENOMEM; why names the path. */
int dataset_load(const char *dir, const struct dataset_options *options, struct dataset **out, char *why,
                 size_t why_size);
void dataset_free(struct dataset *d);

/* Copies a window shifted by shift samples (clamped to the trace) with its predecessor: out [window + 1]. Samples before the
 * trace's first repeat it. */
void dataset_copy(const struct dataset *d, const struct dataset_window *w, int shift, float *out);

/* Which part a trace of (class, device, day) belongs to. Pure function of its arguments and of the class's set of devices and
 * days; documented in dataset.c. */

#endif
