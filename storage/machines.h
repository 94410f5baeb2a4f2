/* machines.h - what machines did, by meter and quarter of an hour, and the state to go on from.
 *
 * A quarter is replaced as a whole. Errors as in store.h. Bounded by machines_trim. A visitor must
 * not use the handle that it is called from.
 */
#ifndef STORAGE_MACHINES_H
#define STORAGE_MACHINES_H

#include <stddef.h>
#include <stdint.h>

#include "storage/store.h"

#define MACHINES_NAME_BYTES 64
#define MACHINES_QUARTER_MS 900000
#define MACHINES_STATE_BYTES 4096

struct machines_quarter {
    int64_t start_ms; /* a multiple of a quarter of an hour, Unix time */
    double wh;
    int64_t off_ms, idle_ms, run_ms, peak_ms; /* of the time that readings cover */
    int64_t starts;                           /* from off or idle to run or peak */
};

/* -EINVAL: an empty name, a figure that is not finite. */
int machines_put(struct store *s, const char *meter, const struct machines_quarter *q);

/* Quarters that begin in [from_ms, to_ms), by meter and time (meter NULL: all). Calls back until
 * visit returns non-zero. Returns the number of calls or -errno. */
typedef int machines_visit(void *context, const char *meter, const struct machines_quarter *q);
int machines_list(struct store *s, const char *meter, int64_t from_ms, int64_t to_ms,
                  machines_visit *visit, void *context);

/* Removes quarters of the meter before. 0 or -errno. */
int machines_trim(struct store *s, const char *meter, int64_t before_ms);

/* At most MACHINES_STATE_BYTES. get: returns the bytes, -ENOENT, -ENOSPC. */
int machines_put_state(struct store *s, const char *meter, const void *data, size_t bytes);
int machines_get_state(struct store *s, const char *meter, void *data, size_t room);

#endif
