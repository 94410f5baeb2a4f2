/* inject.h - puts faults into recorded power, to find out what alerts notice of them.
 *
 * The recording stays what it was up to the fault. Runs are found by threshold, pauses shorter than
 * half a minute are bridged, a hole of ten minutes ends one.
 */
#ifndef WORKSHOP_INJECT_H
#define WORKSHOP_INJECT_H

#include <stddef.h>

#include "inference/trace.h"

enum inject_kind {
    INJECT_NONE,     /* nothing: the undisturbed recording in one file */
    INJECT_STUCK_ON, /* a run does not end for `hours`; holes of the recording stay in it */
    INJECT_POWER,    /* power while on, times size */
    INJECT_RUN_TIME, /* length of each run, times size; a pause long enough makes room, others come
                        later */
    INJECT_CYCLES,   /* number of runs, times size (0 to 2): left out evenly, or put into pauses */
    INJECT_DRIFT,    /* power while on, times 1 + size more each day */
    INJECT_LENGTHEN, /* length of each run, times 1 + size more each day */
    INJECT_DEAD,     /* it does not run any more */
    INJECT_SILENT,   /* no readings for `hours` */
    INJECT_FROZEN,   /* the same reading for `hours`, from within a run */
    INJECT_SPIKES,   /* a reading of size watts once an hour */
    INJECT_LOAD,     /* size watts more for `hours` */
    INJECT_NEGATIVE, /* power with the wrong sign */
    INJECT_KINDS
};
extern const char *const inject_names[INJECT_KINDS + 1]; /* ends with NULL */

struct inject_series {
    struct trace_reading *r;
    size_t count, room;
};

struct inject_fault {
    int kind; /* enum inject_kind */
    double size, hours;
    int64_t at_ms; /* not before */
    double on_w, off_w;
};

struct inject_truth {
    int64_t from_ms, to_ms; /* of what was changed; to: end of the recording when it stays so */
    size_t runs, changed;   /* of the recording; of them, put in ones included */
};

/* Adds a reading. Times that do not ascend are left out. 0 or -ENOMEM. */
int inject_add(struct inject_series *s, int64_t t_ms, float watts);

/* Makes the disturbed series. 0; -ENOENT: nothing to disturb after at_ms; -ENOMEM. */
int inject_apply(const struct inject_series *in, const struct inject_fault *fault,
                 struct inject_series *out, struct inject_truth *truth);

#endif
