/* alerts.h - the alerts of this gateway as they were told: open ones, those that are over, and
 * which of them a person has asked to be silent for a while.
 *
 * Written in the transaction of the outbox item that tells them (store_begin). Bounded by
 * alerts_trim. Errors as in store.h, the text in store_error(). A visitor must not use the handle
 * that it is called from.
 */
#ifndef STORAGE_ALERTS_H
#define STORAGE_ALERTS_H

#include <stdint.h>

#include "storage/store.h"

#define ALERTS_NAME_BYTES 64u /* with the NUL */
#define ALERTS_ROWS 10000     /* what alerts_trim leaves */

struct alerts_row {
    char id[40], alert[32]; /* not empty */
    char meter[ALERTS_NAME_BYTES], appliance[ALERTS_NAME_BYTES];
    int severity, quality; /* numbers of the agent's */
    int64_t since_ms, raised_ms, updated_ms;
    int64_t cleared_ms; /* 0: open */
    char expected[128], seen[128];
    double value, limit;
    int64_t snoozed_ms; /* until then; 0: not snoozed */
};

/* Adds the alert, or brings the row of that id up to date: raised_ms and the snooze stay as they
 * are, and clearing leaves what was seen. -EINVAL: an empty id or name, a figure that is not
 * finite. */
int alerts_put(struct store *s, const struct alerts_row *row);

/* Until when alerts of this name, meter and appliance are snoozed: 0 when they are not. */
int alerts_snoozed(struct store *s, const char *meter, const char *alert, const char *appliance,
                   int64_t *until_ms);

/* Snoozes the alert (until_ms 0: no longer). -ENOENT when there is none of that id. */
int alerts_snooze(struct store *s, const char *id, int64_t until_ms);

/* Open alerts whose snooze ended before now_ms: calls back at most limit times; then ends those
 * snoozes (alerts_wake). Numbers or -errno. */
typedef int alerts_visit(void *context, const struct alerts_row *row);
int alerts_awake(struct store *s, int64_t now_ms, int limit, alerts_visit *visit, void *context);
int alerts_wake(struct store *s, int64_t now_ms);

/* Alerts that were open in [from_ms, to_ms), newest first; only_open: and are open still. Calls
 * back until visit returns non-zero, at most limit times. Returns the number of calls or -errno. */
int alerts_list(struct store *s, int64_t from_ms, int64_t to_ms, int only_open, int limit,
                alerts_visit *visit, void *context);

/* Removes the oldest that are over, beyond max_rows. Returns the number removed or -errno. */
int alerts_trim(struct store *s, int64_t max_rows);

#endif
