#include "agent/drain.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/log.h"
#include "agent/payload.h"
#include "storage/outbox.h"
#include "transport/topic.h"

#define PAGE_ITEMS 32
#define PAGE_BYTES 32768
#define PRIORITIES 3
#define ACKS                                                                                       \
    (DRAIN_ACK_BATCH +                                                                             \
     DRAIN_INFLIGHT) /* room for a batch that the disk refuses, and all that is in flight */
#define HOLD_MS                                                                                    \
    1000 /* pause after a failed item or a failed write, so that a broker's quota is not hammered  \
          */

struct drain {
    struct store *store;
    const char *base, *device;
    uint64_t after[PRIORITIES + 1];  /* last number looked at, per priority */
    uint64_t looked[PRIORITIES + 1]; /* the largest one ever, before the cursor went back */
    uint64_t history_before;         /* numbers below were stored before this session */
    int look;                        /* there may be something to send */
    int page_count, page_next;
    struct outbox_item page[PAGE_ITEMS];
    char bodies[PAGE_BYTES];
    struct {
        uint64_t seq;
        int priority;
    } flight[DRAIN_INFLIGHT];
    int flight_count;
    uint64_t acks[ACKS];
    int ack_count;
    int64_t acked_since, hold_until; /* monotonic ms */
    int64_t rate;                    /* replayed items a second; 0: no limit */
    int64_t credit, credit_at;       /* thousandths of an item; monotonic ms */
    int starved;                     /* the next item waits for credit */
    struct drain_stats stats;
};

int drain_create(struct store *store, const char *base, const char *device, struct drain **out)
{
    struct drain *d = calloc(1, sizeof *d);
    *out = d;
    if (!d)
        return -ENOMEM;
    d->store = store;
    d->base = base;
    d->device = device;
    d->look = 1;
    return 0;
}

void drain_destroy(struct drain *d)
{
    free(d);
}

static void go_back(struct drain *d, int priority, uint64_t after)
{
    if (d->looked[priority] < d->after[priority])
        d->looked[priority] = d->after[priority];
    d->after[priority] = after;
}

void drain_session(struct drain *d)
{
    struct outbox_stats stats;
    /* When the store cannot say, all is history: better an automation that waits than one that acts
     * on the past. */
    d->history_before = outbox_statistics(d->store, &stats) == 0 ? stats.next_seq : UINT64_MAX;
    for (int i = 1; i <= PRIORITIES; i++)
        go_back(d, i, 0);
    d->page_count = d->page_next = 0;
    d->hold_until = 0;
    d->look = 1;
}

void drain_wake(struct drain *d)
{
    d->look = 1;
}

static int flight_index(const struct drain *d, uint64_t seq)
{
    for (int i = 0; i < d->flight_count; i++)
        if (d->flight[i].seq == seq)
            return i;
    return -1;
}

/* Only what the cursor has passed before can be. */
static int is_under_way(const struct drain *d, int priority, uint64_t seq)
{
    if (seq > d->looked[priority])
        return 0;
    for (int i = 0; i < d->ack_count; i++)
        if (d->acks[i] == seq)
            return 1;
    return flight_index(d, seq) >= 0;
}

/* Reads the next page of the highest priority that has something. 1, 0 (nothing) or -errno. */
static int next_page(struct drain *d)
{
    d->page_next = d->page_count = 0;
    for (int priority = PRIORITIES; priority >= 1; priority--) {
        const int n = outbox_fetch(d->store, priority, d->after[priority], d->page, PAGE_ITEMS,
                                   d->bodies, sizeof d->bodies);
        if (n < 0)
            return n;
        if (n > 0) {
            d->page_count = n;
            return 1;
        }
    }
    return 0;
}

static int build_topic(const struct drain *d, const struct outbox_item *item, char *topic,
                       size_t size)
{
    switch (item->kind) {
    case OUTBOX_EVENT:
        return topic_build(topic, size, d->base, TOPIC_EVENT, d->device, item->channel);
    case OUTBOX_ALERT:
        return topic_build(topic, size, d->base, TOPIC_ALERT, d->device, item->channel);
    case OUTBOX_GAP:
        return topic_build(topic, size, d->base, TOPIC_GAP, d->device, NULL);
    default: /* of a meter: the summary of a day */
        if (item->channel[0])
            return topic_build(topic, size, d->base, TOPIC_SUMMARY, d->device, item->channel);
        return topic_build(topic, size, d->base, TOPIC_REPORT, d->device, NULL);
    }
}

static int park(struct drain *d, uint64_t seq, const char *reason)
{
    const int rc = outbox_park(d->store, seq, reason);
    if (rc < 0 && rc != -ENOENT)
        return rc;
    d->stats.parked++;
    log_error("outbox: item %" PRIu64 " is refused for good and put aside: %s", seq, reason);
    return 0;
}

/* 0: under way, or put aside; -EAGAIN, -ENOTCONN: not now; other -errno of the store. */
static int send_item(struct drain *d, struct link *l, const struct outbox_item *item)
{
    char topic[TOPIC_BYTES];
    if (build_topic(d, item, topic, sizeof topic) < 0)
        return park(d, item->seq, "its meter is not a level of a topic name");
    char *text = payload_envelope(d->device, item, item->seq < d->history_before);
    if (!text)
        return errno == EBADMSG ? park(d, item->seq, "its body is not a JSON object") : -ENOMEM;
    const int rc = link_publish(l, topic, text, strlen(text), 1, 0, NULL, 0, item->seq);
    free(text);
    if (rc == -EMSGSIZE || rc == -EINVAL)
        return park(d, item->seq, "the link refuses it as too large or malformed");
    if (rc < 0)
        return rc;
    d->flight[d->flight_count].seq = item->seq;
    d->flight[d->flight_count++].priority = item->priority;
    d->stats.sent++;
    return 0;
}

void drain_limit(struct drain *d, int64_t items_per_second)
{
    d->rate = items_per_second;
    d->starved = 0;
}

/* A token bucket of a tenth of a second. */
static void earn(struct drain *d, int64_t now_ms)
{
    const int64_t most = d->rate * 100 > 1000 ? d->rate * 100 : 1000;
    const int64_t passed = now_ms - d->credit_at;
    if (passed > 0 && passed < 1000)
        d->credit += passed * d->rate;
    if (passed >= 1000 || d->credit > most)
        d->credit = most;
    d->credit_at = now_ms;
    d->starved = 0;
}

/* History keeps to the rate; gaps, alerts and what happens now do not wait behind it. */
static int may_send(struct drain *d, const struct outbox_item *item)
{
    if (d->rate <= 0 || item->priority > 1 || item->seq >= d->history_before)
        return 1;
    d->starved = d->credit < 1000;
    return !d->starved;
}

int drain_fill(struct drain *d, struct link *l, int64_t now_ms)
{
    if (now_ms < d->hold_until)
        return 0;
    earn(d, now_ms);
    while (d->look && d->flight_count < DRAIN_INFLIGHT && d->ack_count < DRAIN_ACK_BATCH &&
           link_room(l) > 0) {
        if (d->page_next == d->page_count) {
            const int rc = next_page(d);
            if (rc < 0) {
                d->hold_until = now_ms + HOLD_MS;
                return rc;
            }
            if (rc == 0) {
                d->look = 0;
                break;
            }
        }
        const struct outbox_item *item = &d->page[d->page_next];
        if (!is_under_way(d, item->priority, item->seq)) {
            if (!may_send(d, item))
                break;
            const int rc = send_item(d, l, item);
            if (rc == -EAGAIN || rc == -ENOTCONN)
                break;
            if (rc < 0) {
                d->hold_until = now_ms + HOLD_MS;
                return rc;
            }
            if (item->priority == 1 && item->seq < d->history_before)
                d->credit -= 1000;
        }
        d->after[item->priority] = item->seq;
        d->page_next++;
    }
    return 0;
}

void drain_acked(struct drain *d, uint64_t token, int64_t now_ms)
{
    const int i = flight_index(d, token);
    if (i < 0)
        return;
    d->flight[i] = d->flight[--d->flight_count];
    if (d->ack_count == 0)
        d->acked_since = now_ms;
    d->acks[d->ack_count++] = token; /* fits: see ACKS and drain_fill */
    d->stats.acknowledged++;
}

void drain_failed(struct drain *d, uint64_t token, int permanent, const char *reason,
                  int64_t now_ms)
{
    const int i = flight_index(d, token);
    if (i < 0)
        return;
    const int priority = d->flight[i].priority;
    d->flight[i] = d->flight[--d->flight_count];
    d->stats.failed++;
    if (permanent && park(d, token, reason) == 0)
        return;
    if (d->after[priority] >= token)
        go_back(d, priority, token - 1);
    d->page_count = d->page_next = 0;
    d->hold_until = now_ms + HOLD_MS;
    d->look = 1;
}

int drain_commit(struct drain *d, int64_t now_ms, int force)
{
    if (d->ack_count == 0)
        return 0;
    if (!force && d->ack_count < DRAIN_ACK_BATCH && now_ms - d->acked_since < DRAIN_ACK_DELAY_MS)
        return 0;
    const int rc = outbox_ack(d->store, d->acks, (size_t)d->ack_count);
    if (rc < 0) {
        d->acked_since = now_ms + HOLD_MS;
        return rc;
    }
    d->ack_count = 0;
    return 0;
}

int drain_wait(const struct drain *d, int64_t now_ms, int longest)
{
    int64_t wait = longest;
    if (d->ack_count > 0 && d->acked_since + DRAIN_ACK_DELAY_MS - now_ms < wait)
        wait = d->acked_since + DRAIN_ACK_DELAY_MS - now_ms;
    if (d->hold_until > now_ms && d->hold_until - now_ms < wait)
        wait = d->hold_until - now_ms;
    if (d->starved && (1000 - d->credit) / d->rate + 1 < wait)
        wait = (1000 - d->credit) / d->rate + 1;
    return wait > 0 ? (int)wait : 0;
}

int drain_is_empty(const struct drain *d)
{
    return !d->look && d->flight_count == 0 && d->ack_count == 0;
}

void drain_get_stats(const struct drain *d, struct drain_stats *out)
{
    *out = d->stats;
    out->in_flight = d->flight_count;
}
