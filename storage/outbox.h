/* outbox.h - what was detected waits here until the broker has acknowledged it. DESIGN.md "Outbox",
 * promises 1 to 3.
 *
 * Every item gets the next 64-bit sequence number in the transaction that stores it: no holes,
 * never used twice, also across restarts and when the table is empty (the counter is a row of its
 * own). Items are deleted only by outbox_ack or when a cap is exceeded: then the oldest of the
 * lowest priority go, parked items before all others.
 *
 * Losses are declared in two steps, so that what may be in flight never changes and the number of
 * gaps stays bounded:
 * 1. The transaction that drops an item enters its number into a ledger of ranges, one per run of
 * consecutive numbers and reason. A range grows while it is adjacent. Ranges have no sequence
 * number yet. At most 32 of each reason: beyond, the two oldest become one, whose count is then
 * smaller than its range.
 * 2. outbox_fetch of priority 3 turns ranges into gap items: the item gets the next number, the
 * range leaves the ledger, in one transaction. From then on it is an item like any other, but never
 * evicted. At most 64 wait at a time. So the caps bound events, alerts and reports; gaps are at
 * most 64 small items and 128 ranges more.
 *
 * A consumer holds the numbers in [from_seq, to_seq] that it has not received for lost once it has
 * received everything else. It may have some of them: where count is smaller than the range, and
 * where an item was dropped while in flight.
 */
#ifndef STORAGE_OUTBOX_H
#define STORAGE_OUTBOX_H

#include <stddef.h>
#include <stdint.h>

#include "storage/store.h"

#define OUTBOX_BODY_BYTES 8192u  /* largest body */
#define OUTBOX_CHANNEL_BYTES 64u /* with its NUL */
#define OUTBOX_OVERHEAD_BYTES                                                                      \
    64u /* counted per item beside body and channel: row header, index entry */

enum outbox_kind { OUTBOX_EVENT = 1, OUTBOX_ALERT = 2, OUTBOX_GAP = 3, OUTBOX_REPORT = 4 };
/* Priorities, lowest first: events and reports 1, alerts 2, gaps 3. */

struct outbox_caps {              /* of waiting items other than gaps; 0 = no limit */
    uint64_t max_rows, max_bytes; /* bytes: body + channel + OUTBOX_OVERHEAD_BYTES each */
    /* Age since it was stored, in time that the agent saw pass: between two appended items at most
     * one day counts, and a clock set back counts nothing. So a clock that jumps from 1970 to now,
     * or far ahead, drops nothing that is young. */
    int64_t max_age_ms;
};

struct outbox_item {
    uint64_t seq;  /* assigned */
    int64_t epoch; /* boot epoch at the time of appending, assigned */
    enum outbox_kind kind;
    int priority;                       /* assigned from kind */
    int64_t created_ms;                 /* Unix time of the detection, kept as given */
    char channel[OUTBOX_CHANNEL_BYTES]; /* meter name, or "" */
    const char *body; /* a JSON object without the envelope (id, device, epoch, seq),
                         NUL-terminated: "{...}" */
    size_t body_bytes;
};

struct outbox_stats {
    uint64_t rows; /* everything that waits: the sum of the next line */
    uint64_t events, alerts, gaps,
        reports;                   /* parked ones too; gaps with the ranges of the ledger */
    uint64_t bytes;                /* as counted for the cap */
    uint64_t parked;               /* of rows: refused by the broker for good */
    uint64_t next_seq, oldest_seq; /* oldest_seq 0 when no item waits */
    int64_t oldest_ms;             /* its created_ms; 0 when empty */
    uint64_t dropped;              /* evicted since the database was made */
    uint64_t acknowledged;         /* likewise */
    int64_t epoch;
};

/* Starts a boot epoch: larger than every earlier one of this database, and at least Unix seconds
 * now_s when the clock is set (2020 or later), so that a replaced database does not repeat an
 * (epoch, seq) pair; a new database without a clock starts at random below that. Once per agent
 * start, before the first append. *epoch is the new one. */
int outbox_start(struct store *s, int64_t now_s, int64_t *epoch);

/* Caps used by outbox_append on this handle; none until set. */
void outbox_limit(struct store *s, const struct outbox_caps *caps);

/* Appends one item (kind other than gap, created_ms, channel, body) and enforces the caps, in one
 * transaction (or in the caller's). *seq is its number. An item can be dropped at once, when
 * everything else is more important: that is declared too. The time does not depend on what waits;
 * after caps were lowered, at most 1024 items go per call. Returns 0, -EINVAL (body too large, not
 * a JSON object, no epoch started), -ENOSPC, -EIO, ... with store_error(). */
int outbox_append(struct store *s, const struct outbox_item *item, uint64_t *seq);

/* The next items of one priority after a sequence number, ascending: fills at most max items and at
 * most buffer_bytes of bodies with their NUL (at least one item when there is one and buffer_bytes
 * > OUTBOX_BODY_BYTES; -ENOBUFS when the first does not fit). Bodies point into buffer (the
 * caller's). Priority 3 first makes gap items from the ledger, in a transaction; a reader does not.
 * Returns the number of items, or -errno. Memory does not depend on the backlog. */
int outbox_fetch(struct store *s, int priority, uint64_t after, struct outbox_item *items, int max,
                 char *buffer, size_t buffer_bytes);

/* Deletes acknowledged items, in one transaction. Unknown numbers are ignored (already
 * acknowledged, or dropped). */
int outbox_ack(struct store *s, const uint64_t *seqs, size_t count);

/* Marks an item as permanently refused by the broker (reason kept): it stays stored but is fetched
 * no more. -ENOENT. */
int outbox_park(struct store *s, uint64_t seq, const char *reason);

/* Offers all parked items again (the operator has mended the broker). Returns their number or
 * -errno. */
int outbox_unpark(struct store *s);

/* Changes bodies of waiting items from number *seq on, at most `most` of them, in one transaction;
 * *seq is where to go on. Only for items that were never sent: what was must not change. rewrite
 * puts a new body (malloc) into *out, or leaves it NULL; 0 or -errno, which ends all. Returns 1:
 * there may be more, 0: that was all, -errno (*seq is as it was). */
typedef int outbox_rewriter(void *context, const char *body, char **out);
int outbox_rewrite(struct store *s, uint64_t *seq, int most, outbox_rewriter *rewrite,
                   void *context);

struct outbox_parked {
    uint64_t seq;
    enum outbox_kind kind;
    int64_t created_ms;
    char channel[OUTBOX_CHANNEL_BYTES];
    char reason[256]; /* why it was refused */
};
/* Parked items with numbers above after, in their order; at most `most`. Their number, or -errno.
 */
int outbox_parked(struct store *s, uint64_t after, struct outbox_parked *out, int most);

int outbox_statistics(struct store *s, struct outbox_stats *out);

#endif
