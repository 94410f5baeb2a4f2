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

#define ROUTINE_DATA_BYTES 2048u

struct routine {
    char meter[ROUTINE_NAME_BYTES]; /* both names: not empty */
    char appliance[ROUTINE_NAME_BYTES];
    uint64_t runs;             /* finished ones that were learned from */
    int64_t first_ms, last_ms; /* start of the first and the last of them */
    uint32_t data_bytes;       /* what follows; meaning and version are the agent's */
    unsigned char data[ROUTINE_DATA_BYTES];
};

/* 0, or -ENOENT when nothing was learned. */
int routine_get(struct store *s, const char *meter, const char *appliance, struct routine *out);
/* Adds or replaces. -EINVAL: an empty or too long name, too much data. */
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
