/* energy.h - energy by meter and hour: what reports add up for base load, tariffs and shifts.
 *
 * The agent counts, storage keeps: a row is replaced as a whole, in the transaction of the outcome
 * it came with. Errors as in store.h. Bounded by energy_trim. A visitor must not use the handle
 * that it is called from.
 */
#ifndef STORAGE_ENERGY_H
#define STORAGE_ENERGY_H

#include <stdint.h>

#include "storage/store.h"

struct energy_hour {
    int64_t start_ms; /* a multiple of an hour, Unix time */
    double wh;        /* of the time that was seen */
    double low_w;     /* lowest mean of five minutes; below 0: none */
    double high_w;    /* highest reading */
    int32_t seen_s;   /* seconds that readings cover */
    int32_t run_s;    /* of them with the load on */
    int32_t peak_s;   /* of them with the load at its peak */
    int32_t starts;
};

/* -EINVAL: an empty name, a figure that is not finite. */
int energy_put(struct store *s, const char *meter, const struct energy_hour *hour);

/* Hours that begin in [from_ms, to_ms), by meter and time (meter NULL: all). Calls back until visit
 * returns non-zero. Returns the number of calls or -errno. */
typedef int energy_visit(void *context, const char *meter, const struct energy_hour *hour);
int energy_list(struct store *s, const char *meter, int64_t from_ms, int64_t to_ms,
                energy_visit *visit, void *context);

/* Removes hours before. Returns the number removed or -errno. */
int energy_trim(struct store *s, int64_t before_ms);

#endif
