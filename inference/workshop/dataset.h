/* dataset.h - labelled traces on a grid, and the windows in them.
 *
 * DIR is laid out as tracebase is: DIR/complete/CLASS/NAME.csv, or DIR/CLASS/NAME.csv. Every trace
 * is resampled once (resample.h) and kept as float watts; a window is a view into it, so windows
 * cost no memory. Order is by class, then file name: the same folder gives the same dataset on
 * every machine. Thread-safe for reading once loaded.
 */
#ifndef WORKSHOP_DATASET_H
#define WORKSHOP_DATASET_H

#include <stddef.h>
#include <stdint.h>

#define DATASET_LABEL_BYTES 32
#define DATASET_MIX_BYTES 2048
#define DATASET_MAX_GAP_MS                                                                         \
    60000 /* between readings: beyond it is a gap, in training as in the agent */

/* How traces are kept apart. A trace (day file) is never on both sides, nor are two files of one
 * device and day; under SPLIT_DEVICE and SPLIT_DEVICE_ONE neither is a device of a class, under
 * SPLIT_DEVICE_DAY of a class that has several. SPLIT_RANDOM is the weak one, for comparison with
 * publications that use it: it draws single windows, so windows that overlap are on both sides. The
 * rules themselves stand in dataset_split.c. */
enum dataset_split {
    SPLIT_NONE = 0,
    SPLIT_DAY = 1,
    SPLIT_DEVICE = 2,     /* a third of a class's devices is held out */
    SPLIT_DEVICE_ONE = 3, /* one device of each class that has several; split_seed says which */
    SPLIT_RANDOM = 4,
    SPLIT_DEVICE_DAY =
        5 /* SPLIT_DEVICE; a class with one device as under SPLIT_DAY, so that it is judged too */
};
enum dataset_part { PART_TRAIN = 0, PART_VALID = 1, PART_TEST = 2, PART_ALL = 3 };

/* dataset_defaults fills this with what the project trains with; the reasons stand in dataset.c. */
struct dataset_options {
    uint32_t window, period_ms, stride; /* stride: grid samples between two windows */
    float min_activity_w;               /* a window needs a sample of at least this ... */
    uint32_t min_active_samples;        /* ... at least this often */
    float max_gap_share;                /* and at most this share of gap samples */
    uint32_t min_traces; /* classes with fewer traces, or without any window in this part, are left
                            out (training); 0: keep all */
    enum dataset_split split;
    enum dataset_part part; /* SPLIT_NONE: everything, whatever the part */
    uint64_t split_seed;
    uint32_t
        threads; /* that load; 0: one per processor, at most 8. The result does not depend on it. */
    /* When set (label_count > 0), classes are these in this order; others count into
     * unknown_windows. */
    const char (*labels)[DATASET_LABEL_BYTES];
    uint32_t label_count;
    /* Classes left out on purpose, to play the unknown: names separated by commas, or "K/N", number
     * K and every N-th from there of those that would stay. NULL: none. Not looked at when labels
     * are set. */
    const char *without;
    char mix[DATASET_MIX_BYTES]; /* rules of mixing (mix.h): what is loaded is aggregates of the
                                    traces; "": the traces */
    uint32_t lag;     /* mixed: a window speaks of the sample so many before its last one */
    int keep_unknown; /* keep the windows of classes that are not used, in `unknown` */
    void (*progress)(void *context, size_t done,
                     size_t total); /* files; may be NULL; called by the loading thread */
    void *context;
};

/* A stretch of one file without a hole: where a gap was too long to fill (RESAMPLE_RESTART) a new
 * trace begins, so that no window spans it. */
struct dataset_trace {
    char *path, *device; /* device: what stands before the date in the file name */
    char *key;           /* the device whatever the pattern of the name (dataset_files.h) */
    uint32_t label;
    uint32_t count; /* grid samples */
    float *watts;   /* [count]; gaps carry the fill value of resample.h */
    uint8_t *gap;   /* [count] */
    uint32_t *on;   /* [count], mixed: a bit for each class that is on; else NULL */
};

struct dataset_window {
    uint32_t trace, start; /* the window is watts[start .. start+window) */
    uint32_t label;
    uint32_t on; /* mixed: a bit for each class, instead of the label */
};

struct mix; /* mix.h */

struct dataset {
    struct dataset_options options; /* as given, with labels and without NULL (not kept) */
    uint32_t class_count;
    char (*labels)[DATASET_LABEL_BYTES];
    struct dataset_trace *traces; /* by class, file name and time */
    size_t trace_count;
    struct dataset_window *windows; /* in the order of the traces */
    size_t window_count;
    struct mix *mix; /* mixed: what training draws from; `traces` are days of it, with windows to
                        judge by. Else NULL */
    size_t unknown_windows;         /* of classes that are not used, when labels were asked for or
                                       keep_unknown */
    struct dataset_window *unknown; /* [unknown_windows], their label an index in unknown_labels;
                                       NULL without keep_unknown */
    char (*unknown_labels)[DATASET_LABEL_BYTES];
    uint32_t unknown_class_count;
    char few[512]; /* classes left out for too few traces or no window, as text; "": none */
    char *without; /* the classes that options.without left out, separated by commas; NULL: none */
    uint64_t bad_lines;      /* not readings: skipped */
    uint64_t backward_lines; /* readings whose time ran backwards: skipped */
    size_t files;            /* of this part that were read */
    size_t skipped_files;    /* neither a trace nor readable */
    size_t ambiguous_files; /* one device and day filed under several classes: which is right is not
                               known, none is used */
};

void dataset_defaults(struct dataset_options *options);

/* Loads the part of DIR. 0, -ENOENT, -EINVAL (an option), -EBADMSG (no trace there), -E2BIG (more
 * than 256 classes or a million files), -ENOMEM; why names the path. */
int dataset_load(const char *dir, const struct dataset_options *options, struct dataset **out,
                 char *why, size_t why_size);
void dataset_free(struct dataset *d);

/* How many devices the windows of each class come from: out [class_count]. 0, -ENOMEM. */
int dataset_devices(const struct dataset *d, uint32_t *out);

/* Copies a window shifted by shift samples (clamped to the trace) with its predecessor: out [window
 * + 1]. Samples before the trace's first repeat it. */
void dataset_copy(const struct dataset *d, const struct dataset_window *w, int shift, float *out);

#endif
