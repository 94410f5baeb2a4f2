/* outbox_internal.h - shared by outbox.c and outbox_evict.c. Private to storage/.
 *
 * The counters are read at the start of a write section, changed here, and written once at its end:
 * nothing counts rows.
 */
#ifndef STORAGE_OUTBOX_INTERNAL_H
#define STORAGE_OUTBOX_INTERNAL_H

#include "storage/store_internal.h"

struct outbox_state { /* the row of table outbox_state */
    int64_t epoch, next_seq;
    int64_t kinds[5]; /* items by enum outbox_kind; 0 unused */
    int64_t bytes;    /* without gap items */
    int64_t parked, dropped, acknowledged;
    int64_t age_ms;   /* how long this outbox has lived, see struct outbox_caps */
    int64_t clock_ms; /* wall clock at the last append; 0 never */
};

/* Inside a write section. -EBADMSG when the row is missing. */
int outbox_read_state(struct store *s, struct outbox_state *state);
int outbox_write_state(struct store *s, const struct outbox_state *state);

/* Of a stored item: its check sum, and its bytes as counted for the cap. */
uint32_t outbox_checksum(const struct outbox_item *item);
int64_t outbox_size(const struct outbox_item *item);

/* Inserts an item under the next number and counts it. */
int outbox_insert(struct store *s, struct outbox_state *state, const struct outbox_item *item,
                  uint64_t *seq);

/* Takes one item that was deleted out of the counters. */
void outbox_uncount(struct outbox_state *state, int kind, int64_t size, int parked);

/* Drops items until the caps hold, and enters their numbers into the ledger. */
int outbox_enforce(struct store *s, struct outbox_state *state);

/* Enters `count` numbers of a range that waited and were damaged into the ledger. In a write
 * section. */
int outbox_lose(struct store *s, int64_t from, int64_t to, int64_t count);

/* Makes gap items from the ledger, if it has any and there is room for more. Its own write section.
 */
int outbox_declare(struct store *s);

#endif
