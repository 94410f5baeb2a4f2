/* journal.h - commits outcomes: events, alerts, run history, routine, progress and pipeline state in one transaction of the store.
 *
 * When the disk refuses, outcomes wait in a bounded queue in memory and are written when it recovers; the oldest beyond the
 * bound are counted as lost (journal_stats) and reported in the status. Main thread only.
 */
#ifndef AGENT_JOURNAL_H
#define AGENT_JOURNAL_H

#include <stddef.h>
#include <stdint.h>

#include "agent/event.h"
#include "agent/meter.h"
#include "storage/store.h"

struct journal;
struct journal_stats {
    uint64_t committed, waiting, lost, failures;
};

/* wake is called (main thread) after each commit that stored something to publish; may be NULL. */
int journal_create(struct store *store, void (*wake)(void *context), void *context, struct journal **out);
void journal_destroy(struct journal *j);
struct outcome_sink journal_sink(struct journal *j);
struct meter_memory journal_memory(struct journal *j);
/* Restores a meter from the store. */
int journal_restore(struct journal *j, const char *meter_name, struct meter *m, int64_t *progress_ms);
/* An alert of the agent itself (meter "_agent"), and a report (JSON body). */
int journal_alert(struct journal *j, const struct alert *a);
int journal_report(struct journal *j, const char *body, int64_t now_ms);
/* Tries to write what waits. Returns the number still waiting. */
size_t journal_flush(struct journal *j);
void journal_get_stats(const struct journal *j, struct journal_stats *out);

#endif
