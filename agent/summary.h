/* summary.h - daily summaries: what `nilmctl report` says of one local day of one meter, as an item
 * of the outbox (SPEC.md 4.11). Main thread.
 *
 * A day is told once: its item and the note that it was told are one transaction. A day that was
 * missed (the gateway was off, the disk refused) is told when there is a chance, one without any
 * reading is not. Hours and runs must be in the store before: summary_run reads nothing else.
 */
#ifndef AGENT_SUMMARY_H
#define AGENT_SUMMARY_H

#include <stdint.h>

#include "agent/config.h"
#include "agent/event.h"
#include "storage/store.h"

#define SUMMARY_DAYS 31  /* so far back at most */
#define SUMMARY_LOADS 32 /* listed, those with most energy */

/* The first reading of a meter: summaries begin with its day, if there were none before. 0 or
 * -errno of the store. */
int summary_begin(struct store *s, const char *meter, int64_t t_ms);

/* Tells the days that are over. now_ms: of the meter's readings; settle_ms: so long after midnight
 * the runs of the day are in the store. *next_ms: nothing is due before. Returns how many were
 * told, or -errno of the store (the rest then is due again). */
int summary_run(struct store *s, const struct config *c, const char *meter, int64_t now_ms,
                int64_t settle_ms, enum event_quality quality, int64_t *next_ms);

#endif
