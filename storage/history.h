/* history.h - runs (one switching-on to switching-off of one appliance) and how far each meter was
 * read.
 *
 * Written in the same transaction as the outbox item that reports them (store_begin), so that after
 * a kill the agent resumes exactly where its last committed event left off. Bounded: history_trim.
 */
#ifndef STORAGE_HISTORY_H
#define STORAGE_HISTORY_H

#include <stddef.h>
#include <stdint.h>

#include "storage/store.h"

#define HISTORY_NAME_BYTES 64u /* with the NUL */

/* Every function: 0 (or a number) or -errno as in store.h, the text in store_error(). Names must
 * not be empty; figures must be finite: -EINVAL. A visitor must not use the handle that it is
 * called from. */

struct history_run {
    int64_t id; /* assigned */
    char meter[HISTORY_NAME_BYTES];
    char appliance[HISTORY_NAME_BYTES]; /* "unknown" allowed */
    double confidence;                  /* 0..1 */
    int64_t start_ms, end_ms;           /* end_ms 0: still running */
    double energy_wh, mean_w, peak_w;
    char end_reason[16]; /* "off", "gap", "stop"; "" while running */
};

/* Stores a run that began (end_ms 0) and gives its id. */
int history_open(struct store *s, const struct history_run *run, int64_t *id);
/* Overwrites a run by id (at its end, or when its name became clearer). -ENOENT. */
int history_update(struct store *s, const struct history_run *run);
/* The run still open on meter (of several the last one): 0, or -ENOENT. */
int history_current(struct store *s, const char *meter, struct history_run *out);
/* Those still open on meter, the last one first, at most `room`: their number or -errno. */
int history_open_runs(struct store *s, const char *meter, struct history_run *out, int room);

/* Runs that began in [from_ms, to_ms), newest first, of one meter (NULL: all) and appliance (NULL:
 * all). Calls back until it returns non-zero, at most limit times. Returns the number of calls or
 * -errno. */
typedef int history_visit(void *context, const struct history_run *run);
int history_list(struct store *s, int64_t from_ms, int64_t to_ms, const char *meter,
                 const char *appliance, int limit, history_visit *visit, void *context);

/* A run by its id. -ENOENT. */
int history_read(struct store *s, int64_t id, struct history_run *out);

/* Renames the appliance of one run (a correction). -ENOENT. */
int history_label(struct store *s, int64_t id, const char *appliance);

/* Runs that began in [from_ms, to_ms) get another time: the clock was not known then. First those
 * that are open, as their end may be written at any time: at most room of them, their ids to ids.
 * Returns how many. */
int history_shift_open(struct store *s, int64_t from_ms, int64_t to_ms, int64_t by_ms, int64_t *ids,
                       int room);
/* Then all of smaller ids than *below_id but those, in pieces: largest id first, at most `most` in
 * one transaction; *below_id is where to go on. Returns how many; fewer than most: that was all. */
int history_shift(struct store *s, int64_t *below_id, int64_t from_ms, int64_t to_ms, int64_t by_ms,
                  int most, const int64_t *but, int but_count);

/* Removes the oldest finished runs beyond max_rows. Returns the number removed or -errno. */
int history_trim(struct store *s, int64_t max_rows);

/* Time of the last reading whose consequences are committed, per meter: 0, or -ENOENT. */
int history_progress(struct store *s, const char *meter, int64_t *t_ms);
int history_set_progress(struct store *s, const char *meter, int64_t t_ms);

#define HISTORY_STATE_BYTES 12288u
/* A small opaque block per meter (identification belief, open alerts), at most HISTORY_STATE_BYTES,
 * versioned by the caller. history_state returns its size, or -ENOENT, -ENOSPC. */
int history_state(struct store *s, const char *meter, void *data, size_t size);
int history_set_state(struct store *s, const char *meter, const void *data, size_t size);

#endif
