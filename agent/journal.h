/* journal.h - commits outcomes: events, alerts, run history, routine, progress and pipeline state
 * in one transaction of the store.
 *
 * When the disk refuses, outcomes wait in a bounded queue in memory and are written, in their
 * order, when it recovers (journal_flush, about once a second); the oldest beyond the bound are
 * counted as lost (journal_stats), reported in the status and, once the disk is back, by an alert
 * `events_lost`. journal_full tells when readings are better left where they are. Main thread only.
 */
#ifndef AGENT_JOURNAL_H
#define AGENT_JOURNAL_H

#include <stddef.h>
#include <stdint.h>

#include "agent/event.h"
#include "agent/meter.h"
#include "storage/store.h"

#define JOURNAL_QUEUE 256      /* entries that wait at most, about 6 MiB */
#define JOURNAL_AGENT "_agent" /* "meter" of the agent's own alerts */

struct journal;
struct journal_stats {
    uint64_t committed, waiting, lost, failures;
    int damaged; /* the store said -EBADMSG: opening it anew sets it aside */
};

/* wake is called (main thread) after each commit that stored something to publish; may be NULL. The
 * store stays the caller's. */
int journal_create(struct store *store, void (*wake)(void *context), void *context,
                   struct journal **out);
/* Tries once more to write what waits. */
void journal_destroy(struct journal *j);

/* Goes on with another store (the database was replaced); what waits is kept for it. NULL: there is
 * none for now. */
void journal_use_store(struct journal *j, struct store *store);

/* While held, everything waits in memory: the store does not number items yet. */
void journal_hold(struct journal *j, int hold);

/* Finished runs beyond this number are removed now and then (0: never, the default). */
void journal_limit_history(struct journal *j, int64_t max_runs);

/* commit returns 0 (durable, or queued), -EINVAL (no meter name), -ENOMEM (neither; counted as
 * lost). */
struct outcome_sink journal_sink(struct journal *j);
struct meter_memory journal_memory(struct journal *j);

/* Restores a meter from the store. *progress_ms: where it left off, INT64_MIN when it is new. 0 or
 * -errno of reading. */
int journal_restore(struct journal *j, const char *meter_name, struct meter *m,
                    int64_t *progress_ms);

/* An alert of the agent itself (meter "_agent"), and a report (JSON body). 0 or as commit. */
int journal_alert(struct journal *j, const struct alert *a);
int journal_report(struct journal *j, const char *body, int64_t now_ms);

/* Asks for silence about an alert until then (wall clock; 0: no longer silent): it is kept up to
 * date, but only its clearing is told. 0, -ENOENT, or -errno of the store. */
int journal_snooze(struct journal *j, const char *alert_id, int64_t until_ms);
/* The clock by which snoozes are counted. */
int64_t journal_now_ms(void);
/* Tells of alerts whose snooze is over and that are open still. */
void journal_wake_alerts(struct journal *j);

/* Outcomes that were lost elsewhere: counted, and declared when the disk takes it. */
void journal_lost(struct journal *j, uint64_t count);

/* Tries to write what waits. Returns the number still waiting. */
size_t journal_flush(struct journal *j);
/* The queue is three quarters full: sources that can wait should. */
int journal_full(const struct journal *j);
void journal_get_stats(const struct journal *j, struct journal_stats *out);

#endif
