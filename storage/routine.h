/* routine.h - what is normal for an appliance on a meter, learned from its finished runs; kept
 * across restarts. */
#ifndef STORAGE_ROUTINE_H
#define STORAGE_ROUTINE_H

#include <stdint.h>

#include "storage/store.h"

#define ROUTINE_NAME_BYTES 64u

struct routine {
    char meter[ROUTINE_NAME_BYTES];
    char appliance[ROUTINE_NAME_BYTES];
    uint64_t runs;
    double duration_mean_s, duration_m2; /* Welford */
    double duration_max_s;
    double power_mean_w, power_m2; /* of a run's mean power */
    double power_min_w, power_max_w;
    double energy_mean_wh;
    int64_t first_ms, last_ms; /* start of the first and the last run */
};

/* 0, or -ENOENT when nothing was learned. */
int routine_get(struct store *s, const char *meter, const char *appliance, struct routine *out);
int routine_put(struct store *s, const struct routine *r);
/* Forgets what was learned (appliance NULL: all of the meter). Returns the number removed or
 * -errno. */
int routine_forget(struct store *s, const char *meter, const char *appliance);
typedef int routine_visit(void *context, const struct routine *r);
int routine_list(struct store *s, const char *meter, routine_visit *visit, void *context);

#endif
