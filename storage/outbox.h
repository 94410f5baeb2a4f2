/* outbox.h - what was detected waits here until the broker has acknowledged it. DESIGN.md "Outbox", promises 1 to 3.
 *
 * Every item gets the next 64-bit sequence number in the transaction that stores it: no holes, never used twice, also
 * across restarts. Items are deleted only by outbox_ack. When a cap is exceeded the oldest of the lowest priority go, and
 * in the same transaction their numbers are declared in gap items, which have numbers of their own and are never evicted.
 */
#ifndef STORAGE_OUTBOX_H
#define STORAGE_OUTBOX_H

#include <stddef.h>
#include <stdint.h>

#include "storage/store.h"

#define OUTBOX_BODY_BYTES 8192u /* largest body */
#define OUTBOX_CHANNEL_BYTES 64u

enum outbox_kind { OUTBOX_EVENT = 1, OUTBOX_ALERT = 2, OUTBOX_GAP = 3, OUTBOX_REPORT = 4 };
/* Priorities, lowest first: events and reports 1, alerts 2, gaps 3. */

struct outbox_caps {
    uint64_t max_rows, max_bytes; /* of waiting items; 0 = no limit */
    int64_t max_age_ms;           /* by created_ms; 0 = no limit */
};

struct outbox_item {
    uint64_t seq;       /* assigned */
    int64_t epoch;      /* boot epoch at the time of appending, assigned */
    enum outbox_kind kind;
    int priority;       /* assigned from kind */
    int64_t created_ms; /* Unix time of the detection */
    char channel[OUTBOX_CHANNEL_BYTES]; /* meter name, or "" */
    const char *body;   /* a JSON object without the envelope (id, device, epoch, seq), NUL-terminated */
    size_t body_bytes;
};

struct outbox_stats {
    uint64_t rows, bytes, events, alerts, gaps, reports;
    uint64_t next_seq, oldest_seq;
    int64_t oldest_ms;     /* 0 when empty */
    uint64_t dropped;      /* evicted since the database was made */
    uint64_t acknowledged; /* likewise */
    int64_t epoch;
};

/* Starts a boot epoch: larger than every earlier one of this database, and at least Unix seconds now_s when the clock is
 * set, so that a replaced database does not repeat an (epoch, seq) pair. Once per agent start. *epoch is the new one. */
int outbox_start(struct store *s, int64_t now_s, int64_t *epoch);

/* Caps used by outbox_append on this handle; none until set. */
void outbox_limit(struct store *s, const struct outbox_caps *caps);

/* Appends one item (kind, created_ms, channel, body) and enforces the caps, in one transaction (or in the caller's).
 * *seq is its number. Returns 0, -EINVAL (body too large or not set), -ENOSPC, -EIO, ... with store_error(). */
int outbox_append(struct store *s, const struct outbox_item *item, uint64_t *seq);

/* The next items of one priority after a sequence number, ascending: fills at most max items and at most max_bytes of
 * bodies (at least one item when there is one). Bodies point into buffer (buffer_bytes, the caller's).
 * Returns the number of items, or -errno. Memory does not depend on the backlog. */
int outbox_fetch(struct store *s, int priority, uint64_t after, struct outbox_item *items, int max,
                 char *buffer, size_t buffer_bytes);

/* Deletes acknowledged items, in one transaction. Unknown numbers are ignored (already acknowledged). */
int outbox_ack(struct store *s, const uint64_t *seqs, size_t count);

/* Marks an item as permanently refused by the broker (reason kept): it stays stored but is fetched no more. */
int outbox_park(struct store *s, uint64_t seq, const char *reason);

int outbox_statistics(struct store *s, struct outbox_stats *out);

#endif
