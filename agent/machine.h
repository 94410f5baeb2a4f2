/* machine.h - what a machine behind a circuit meter does: off, idle, run, peak; run hours, starts
 * and energy by quarter of an hour.
 *
 * States are levels of power. Their limits are given, or learned: a histogram of the logarithm of
 * the power while on, split into two or three classes by minimum error thresholding (Kittler and
 * Illingworth, Pattern Recognition 19, 1986), where that explains the powers better than one class
 * does. A state counts when it lasted MACHINE_HOLD_MS, and is left 10 % below the limit that it was
 * entered at, so noise at a limit makes no changes. Time is the wall clock's; holes longer than the
 * gap count for nothing. Kept as bytes in the store with the quarters, so a replay after a restart
 * counts nothing twice. Main thread.
 */
#ifndef AGENT_MACHINE_H
#define AGENT_MACHINE_H

#include <stdint.h>

#include "agent/event.h"
#include "storage/machines.h"

#define MACHINE_HOLD_MS 10000
#define MACHINE_KEPT_MS INT64_C(8640000000) /* quarters of 100 days */
#define MACHINE_QUARTERS 32                 /* finished ones that wait for the store */
#define MACHINE_CHANGES 32                  /* of state that wait for the store */
#define MACHINE_BINS 240                    /* of 6 %, from 1 W to 1 MW */

enum machine_state { MACHINE_OFF = 0, MACHINE_IDLE, MACHINE_RUN, MACHINE_PEAK };
enum machine_mode { MACHINE_NONE = 0, MACHINE_AUTO, MACHINE_LIMITS };

struct machine_config {
    char meter[MACHINES_NAME_BYTES];
    double on_w, off_w; /* below off_w it is off */
    enum machine_mode mode;
    double run_w, peak_w; /* of MACHINE_LIMITS: from there on; peak_w 0: there is no peak */
    int64_t gap_ms;
    int live;   /* times are a clock's, which may be set back */
    int events; /* each change of state goes into the outbox, too */
};

struct machine_change {
    int64_t t_ms, before_ms; /* when it began, and when the state before did (0: not known) */
    enum machine_state from, to;
    double watts; /* when it counted */
};

struct machine_limits {
    double run_w, peak_w; /* 0: not told apart; below run_w it idles */
};

struct machine;

/* saved: bytes of machine_save, or NULL; damaged ones, and those of another version, are not used.
 * 0 or -ENOMEM. */
int machine_create(const struct machine_config *config, const void *saved, int bytes,
                   struct machine **out);
void machine_destroy(struct machine *m);

/* A reading. Returns 1 when a quarter or a state ended: machine_waits or machine_changes has grown.
 */
int machine_reading(struct machine *m, int64_t t_ms, double watts);

/* Stores what is new, changes of state with it, in one transaction; on failure it waits. quality:
 * of the times. 0 or -errno of the store. */
int machine_save(struct machine *m, struct store *store, enum event_quality quality);
int machine_waits(const struct machine *m);   /* quarters that ended and are not stored */
int machine_changes(const struct machine *m); /* of state, likewise */
/* Changes that were dropped since it was last asked, because more waited than there is room for. */
int machine_lost(struct machine *m);

enum machine_state machine_now(const struct machine *m, int64_t *since_ms);
/* Limits in use. Returns the share of what has to be seen before they are learned, 0 to 1. */
double machine_limits(const struct machine *m, struct machine_limits *out);
const char *machine_text(enum machine_state state);

/* "auto", "off" or "W" or "W1,W2" (rising): 0 or -EINVAL. */
int machine_parse(const char *text, struct machine_config *out);

#endif
