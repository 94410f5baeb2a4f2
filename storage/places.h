/* places.h - what was learned about the place of each meter: loads and their names, which run was
 * taken for which load, habits of machines, and the last days of the mains in cells to learn from.
 *
 * The agent computes, storage keeps blocks of bytes whose meaning and version are the agent's. Put
 * them into the transaction of the run that they were learned from (store_begin). Errors as in
 * store.h, the text in store_error(). Bounded: one block a meter, PLACES_HABITS_MAX habits a meter,
 * places_trim. A visitor must not use the handle that it is called from.
 */
#ifndef STORAGE_PLACES_H
#define STORAGE_PLACES_H

#include <stddef.h>
#include <stdint.h>

#include "storage/store.h"

#define PLACES_NAME_BYTES 64u /* with the NUL */
#define PLACES_MAX_BYTES 16384u
#define PLACES_RUN_BYTES 64u
#define PLACES_HABITS_MAX 16

/* The loads of a meter. places_get returns the number of bytes, -ENOENT, -ENOSPC (more than size).
 */
int places_get(struct store *s, const char *meter, void *data, size_t size);
int places_put(struct store *s, const char *meter, const void *data, size_t size);
/* Meters that have a block, in order: calls back until visit returns non-zero. Returns the number
 * of calls or -errno. */
typedef int places_visit_meter(void *context, const char *meter);
int places_list(struct store *s, places_visit_meter *visit, void *context);

/* Which load a run was taken for; runs of a meter are told apart by their start. */
struct places_run {
    int64_t start_ms;
    uint32_t number; /* of the load */
    uint32_t bytes;  /* of data, at most PLACES_RUN_BYTES */
    unsigned char data[PLACES_RUN_BYTES];
};
int places_put_run(struct store *s, const char *meter, const struct places_run *run);
int places_get_run(struct store *s, const char *meter, int64_t start_ms, struct places_run *out);
/* Runs of a load that began after after_ms, in order, at most room: their number or -errno. */
int places_runs_of(struct store *s, const char *meter, uint32_t number, int64_t after_ms,
                   struct places_run *out, int room);
/* A load became part of another one. Returns the number of runs or -errno. */
int places_move_runs(struct store *s, const char *meter, uint32_t from, uint32_t to);

/* Runs that began in [from_ms, to_ms) get another time, as those of the history did: the clock was
 * not known then. Returns how many, or -errno. */
int places_shift_runs(struct store *s, int64_t from_ms, int64_t to_ms, int64_t by_ms);

/* Habits by appliance ("" is the meter's own block). -ENOSPC: no room for a new one. */
int places_get_habit(struct store *s, const char *meter, const char *appliance, void *data,
                     size_t size);
int places_put_habit(struct store *s, const char *meter, const char *appliance, const void *data,
                     size_t size);
int places_forget_habit(struct store *s, const char *meter, const char *appliance); /* -ENOENT */
typedef int places_visit_habit(void *context, const char *appliance);
int places_list_habits(struct store *s, const char *meter, places_visit_habit *visit,
                       void *context);

/* Cells of the mains, an hour (Unix hours) at a time. */
int places_put_cells(struct store *s, const char *meter, int64_t hour, const void *data,
                     size_t size);
/* Hours [from, to) in order: calls back until visit returns non-zero. Returns the number of calls
 * or -errno. */
typedef int places_visit_cells(void *context, int64_t hour, const void *data, size_t size);
int places_list_cells(struct store *s, const char *meter, int64_t from, int64_t to,
                      places_visit_cells *visit, void *context);

/* Removes the oldest entries of runs beyond max_runs (of all meters) and cells of a meter that are
 * max_hours older than its newest. Returns the number of rows removed or -errno. */
int places_trim(struct store *s, int64_t max_runs, int64_t max_hours);

#endif
