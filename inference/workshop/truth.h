/* truth.h - what was really on: runs of appliances from the submeter columns of a recording, and
 * the stretches of its mains that nobody can be judged on.
 *
 * A recording is one or more plain CSV files (trace.h) with a time column, a mains column and a
 * column for each submetered appliance; several files are one recording, in the order given.
 * A reading holds until the next one, at most TRUTH_HOLD_MS. One thread.
 */
#ifndef WORKSHOP_TRUTH_H
#define WORKSHOP_TRUTH_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define TRUTH_NAME_BYTES 64
#define TRUTH_HOLD_MS 60000   /* longer without a reading is a gap: neither energy nor state */
#define TRUTH_FLAT_MS 300000  /* mains that do not move for longer are a stuck logger */
#define TRUTH_MARGIN_MS 60000 /* around flat mains and gaps */
#define TRUTH_APPLIANCES_MAX 64u
#define TRUTH_READINGS_MAX 100000000u

/* --- columns of a recording --- */

struct truth_series {
    char name[TRUTH_NAME_BYTES]; /* of the column */
    size_t count, room;
    int64_t *t_ms;    /* [count], ascending; times that repeat or run backwards are dropped */
    float *watts;     /* [count] */
    uint64_t dropped; /* lines that are no reading of this column, or out of order */
};

/* The names of the columns of the files' first lines but for the time's, which must be the same in
 * all; the mains (as trace.h chooses the power column) come first. paths: files separated by
 * commas. 0 and *count names (at most TRUTH_APPLIANCES_MAX + 1), or -errno with why. */
int truth_columns(const char *paths, char (*names)[TRUTH_NAME_BYTES], size_t *count, char *why,
                  size_t why_size);

/* Reads one column (NULL: the power column that trace.h chooses). *out is set also after a failure:
 * truth_series_free. */
int truth_series_read(const char *paths, const char *column, struct truth_series *out, char *why,
                      size_t why_size);
void truth_series_free(struct truth_series *s);

/* Milliseconds for which reading i holds. */
int64_t truth_hold_ms(const struct truth_series *s, size_t i);

/* --- runs --- */

/* On while above on_w; what is off for at most bridge_ms in between belongs to the run; a run of
 * less than shortest_ms, or one that never reaches peak_w, is none. */
struct truth_rule {
    char name[TRUTH_NAME_BYTES]; /* of the appliance; "*": every other one; a trailing '*' stands
                                    for any end */
    double on_w, peak_w;
    int64_t bridge_ms, shortest_ms;
};

struct truth_rules {
    size_t count;
    struct truth_rule rules[TRUTH_APPLIANCES_MAX];
};

/* Rules that ship: REFIT's four appliances, COMBED's air handling units (ahu_*), and every other
 * one. */
void truth_rules_default(struct truth_rules *out);

/* Puts the rules of a file before those there are: a CSV with the header
 * appliance,on_w,bridge_s,shortest_s,peak_w. -EBADMSG with file and line. */
int truth_rules_read(struct truth_rules *rules, const char *path, char *why, size_t why_size);

/* The first rule that fits the name; never NULL after truth_rules_default. */
const struct truth_rule *truth_rules_find(const struct truth_rules *rules, const char *name);

struct truth_run {
    uint32_t appliance; /* index of a name */
    int64_t start_ms, end_ms;
    double energy_wh, peak_w; /* NAN: not known */
};

enum truth_reason { TRUTH_FLAT = 0, TRUTH_GAP = 1 };

struct truth_stretch {
    int64_t start_ms, end_ms;
    enum truth_reason reason;
};

struct truth {
    size_t appliance_count, run_count, run_room, stretch_count, stretch_room;
    char (*names)[TRUTH_NAME_BYTES]; /* [TRUTH_APPLIANCES_MAX] */
    struct truth_run *runs;          /* by start; of one appliance they do not overlap */
    struct truth_stretch *stretches; /* not to be scored; by start, disjoint */
    int64_t start_ms, end_ms;        /* of the recording; 0, 0: not known */
    double energy_wh;                /* of the mains; NAN: not known */
};

/* An empty truth. 0 or -ENOMEM. truth_free in any case. */
int truth_init(struct truth *t);
void truth_free(struct truth *t);

/* Index of the appliance, added when it is new; names that begin with '_' or are empty, and more
 * than TRUTH_APPLIANCES_MAX: -EINVAL. */
int truth_appliance(struct truth *t, const char *name, uint32_t *index);

/* Adds the runs of one appliance. 0 or -ENOMEM. */
int truth_add_runs(struct truth *t, uint32_t appliance, const struct truth_series *s,
                   const struct truth_rule *rule);

/* Adds a run or a stretch; truth_sort afterwards, which also joins stretches. 0, -ENOMEM, -EINVAL
 * (end before start, or a figure that is no number). */
int truth_add(struct truth *t, const struct truth_run *run);
int truth_add_stretch(struct truth *t, const struct truth_stretch *stretch);
void truth_sort(struct truth *t);

/* Extent, energy and unscored stretches from the mains. 0 or -ENOMEM. */
int truth_add_mains(struct truth *t, const struct truth_series *mains);

/* Whether a time may be judged: inside the recording and in no stretch. */
int truth_is_scored(const struct truth *t, int64_t t_ms);

/* Milliseconds of [from, to) that may be judged. */
int64_t truth_scored_ms(const struct truth *t, int64_t from_ms, int64_t to_ms);

/* The truth of a whole recording: truth_columns, every column but the mains. */
int truth_of_recording(const char *paths, const struct truth_rules *rules, struct truth *out,
                       char *why, size_t why_size);

/* --- files --- */

/* CSV: appliance,start_ms,end_ms,energy_wh,peak_w; the lines of _span (the recording, its mains'
 * energy), _flat and _gap (stretches) are no appliances. 0 or -EIO. */
int truth_write(const struct truth *t, FILE *to);

/* Reads it again; also what the agent's simulation writes (no peak, no span: then the extent is
 * that of the runs). -EBADMSG names file and line. */
int truth_read(const char *path, struct truth *out, char *why, size_t why_size);

/* Rows of a CSV whose header names at least appliance and start (start_ms), and perhaps end,
 * energy, peak. Text is not NUL-terminated. A visitor's negative errno ends the reading, with its
 * reason in why. */
struct truth_row {
    const char *path;
    uint64_t line;
    char name[TRUTH_NAME_BYTES];
    int64_t start_ms, end_ms; /* end 0: none */
    double energy_wh, peak_w; /* NAN: none */
};
typedef int truth_visit(void *context, const struct truth_row *row, char *why, size_t why_size);
int truth_read_rows(const char *path, truth_visit *visit, void *context, char *why,
                    size_t why_size);

#endif
