/* hours.h - counts a meter's energy by the hour of local time, with what a machine did in it: on,
 * at its peak, starts, lowest and highest power.
 *
 * Finished hours wait until an outcome takes them along (most meters have one within the hour), at
 * most HOURS_KEPT. No pointers: kept as bytes with the meter's state, so a restart neither counts a
 * reading twice nor leaves one out. One thread.
 */
#ifndef AGENT_HOURS_H
#define AGENT_HOURS_H

#include <stdint.h>

#include "storage/energy.h"

#define HOURS_KEPT 12

struct hours {
    struct energy_hour done[HOURS_KEPT];
    struct energy_hour now; /* start_ms 0: none yet */
    int32_t done_count;
    int32_t low_slot; /* five minutes of the hour that are being averaged */
    double low_wms;
    int64_t low_ms, seen_ms, run_ms, peak_ms; /* of the hour, in ms */
    int64_t last_ms;
    double last_w;
    int32_t last_on, pad;
};

/* A reading that was used. on: the load is; peak_w: power from which it is at its peak (0: never).
 * Readings more than gap_ms apart leave the time between out. Returns 1 when an outcome is due
 * although nothing else happened. */
int hours_add(struct hours *h, int64_t t_ms, double watts, int on, double peak_w, int64_t gap_ms);

/* The load started. */
void hours_start(struct hours *h);

/* All hours to be stored, the unfinished one last; the finished ones are done with then. out:
 * HOURS_KEPT + 1. Returns how many. */
int hours_take(struct hours *h, struct energy_hour *out);

/* Whether bytes that were read back can be these: 0 or -EBADMSG. */
int hours_check(const struct hours *h);

#endif
