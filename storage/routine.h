/* routine.h - what is normal for an appliance on a meter, learned from its finished runs; kept
 * across restarts.
 *
 * The agent computes, storage keeps: one row for each meter and appliance, replaced as a whole.
 * Errors as in store.h, the text in store_error(). Put it into the transaction of the run that it
 * was learned from (store_begin).
 */
#ifndef STORAGE_ROUTINE_H
#define STORAGE_ROUTINE_H

#include <stdint.h>

#include "storage/store.h"

#define ROUTINE_NAME_BYTES 64u /* with the NUL */

struct routine {
    char meter[ROUTINE_NAME_BYTES]; /* both names: not empty */
    char appliance[ROUTINE_NAME_BYTES];
    uint64_t runs;                       /* finished ones that were learned from */
    double duration_mean_s, duration_m2; /* Welford (1962): variance = m2 / (runs - 1), s^2 */
    double duration_max_s;               /* the longest */
    double power_mean_w, power_m2;       /* of a run's mean power, W and W^2, as above */
    double power_min_w, power_max_w;     /* of a run's mean power */
    double energy_mean_wh;               /* of a run */
    int64_t first_ms, last_ms;           /* start of the first and the last run */
};

/* 0, or -ENOENT when nothing was learned. */
int routine_get(struct store *s, const char *meter, const char *appliance, struct routine *out);
/* Adds or replaces. -EINVAL: an empty or too long name, a figure that is not finite. */
int routine_put(struct store *s, const struct routine *r);
/* Forgets what was learned (appliance NULL: all of the meter). Returns the number removed or
 * -errno. */
int routine_forget(struct store *s, const char *meter, const char *appliance);
/* Calls back in order of meter and appliance (meter NULL: all) until visit returns non-zero. r is
 * valid during the call; visit must not use the same handle. Returns the number of calls or -errno.
 */
typedef int routine_visit(void *context, const struct routine *r);
int routine_list(struct store *s, const char *meter, routine_visit *visit, void *context);

#endif
