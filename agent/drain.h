/* drain.h - sends the outbox through the link: pages in, PUBACKs out. Used by the publisher's
 * thread alone.
 *
 * Gaps and alerts go before events and reports. An item leaves the outbox only after its PUBACK;
 * acknowledgements are deleted in batches (2048, or 200 ms) because each batch is one durable
 * transaction, during which nothing is sent. A crash sends a batch again, and consumers know it. A
 * failed item makes the cursor go back to it, so nothing is remembered but what is in flight:
 * memory is the same for ten waiting items and for ten million.
 */
#ifndef AGENT_DRAIN_H
#define AGENT_DRAIN_H

#include <stddef.h>
#include <stdint.h>

#include "storage/store.h"
#include "transport/link.h"

#define DRAIN_INFLIGHT 64    /* items handed to the link and not yet answered */
#define DRAIN_ACK_BATCH 2048 /* acknowledgements per transaction */
#define DRAIN_ACK_DELAY_MS 200

struct drain;

struct drain_stats {
    uint64_t sent, acknowledged, failed, parked; /* since the start; sent counts repetitions */
    int in_flight;
};

/* store: the caller's handle for this thread; base, device: for the topics (kept, not copied). 0 or
 * -ENOMEM. */
int drain_create(struct store *store, const char *base, const char *device, struct drain **out);
void drain_destroy(struct drain *d);

/* Items of history (events and reports stored before the session) a second at most; 0, as at first:
 * no limit. A broker that comes back gets the backlog of all its gateways at once. */
void drain_limit(struct drain *d, int64_t items_per_second);

/* A session began: everything that is stored now is history (`replay`) in it, and is offered again
 * from the start. */
void drain_session(struct drain *d);
/* Something may have been appended since. */
void drain_wake(struct drain *d);

/* Publishes as much as the link takes now. now_ms is monotonic. 0, or -errno of the store (try
 * again later). */
int drain_fill(struct drain *d, struct link *l, int64_t now_ms);

/* The link's answers; token is the sequence number. permanent: refused for good, the item is parked
 * with the reason. */
void drain_acked(struct drain *d, uint64_t token, int64_t now_ms);
void drain_failed(struct drain *d, uint64_t token, int permanent, const char *reason,
                  int64_t now_ms);

/* Deletes what was acknowledged when a batch is full or old enough, or at once (force). 0 or -errno
 * (kept, try again). */
int drain_commit(struct drain *d, int64_t now_ms, int force);

/* Milliseconds until drain_commit or drain_fill has something to do by the passing of time; at most
 * longest. */
int drain_wait(const struct drain *d, int64_t now_ms, int longest);

/* Nothing in flight, nothing unacknowledged, nothing found to send at the last look. */
int drain_is_empty(const struct drain *d);
void drain_get_stats(const struct drain *d, struct drain_stats *out);

#endif
