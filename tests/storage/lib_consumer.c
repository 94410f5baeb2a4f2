/* lib_consumer.c - see lib_consumer.h. */
#include "storage/lib_consumer.h"

#include <stdio.h>
#include <string.h>

static void take_gap(struct consumer *c, const struct outbox_item *item)
{
    unsigned long long from, to, count;
    char reason[8];

    assert_int_equal(
        sscanf(item->body,
               "{\"from_seq\":%llu,\"to_seq\":%llu,\"count\":%llu,\"reason\":\"%7[a-z]\"}", &from,
               &to, &count, reason),
        4);
    assert_true(strcmp(reason, "rows") == 0 || strcmp(reason, "bytes") == 0 ||
                strcmp(reason, "age") == 0 || strcmp(reason, "damage") == 0);
    assert_string_equal(item->channel, "");
    assert_true(from >= 1 && from <= to && to < item->seq && count >= 1 && count <= to - from + 1);
    c->gaps++;
    c->lost += count;
    c->exact += count == to - from + 1;
    for (unsigned long long i = from; i <= to; i++)
        c->declared[i]++;
}

int consumer_drain(struct consumer *c, struct store *s)
{
    static char buffer[16 * (OUTBOX_BODY_BYTES + 1)];
    struct outbox_item items[16];
    uint64_t seqs[16];
    int total = 0, n;

    for (int priority = 3; priority >= 1; priority--) {
        while ((n = outbox_fetch(s, priority, 0, items, 16, buffer, sizeof buffer)) > 0) {
            for (int i = 0; i < n; i++) {
                assert_true(items[i].seq < CONSUMER_NUMBERS);
                assert_int_equal(items[i].priority, priority);
                assert_int_equal(strlen(items[i].body), items[i].body_bytes);
                c->received[items[i].seq]++;
                if (items[i].kind == OUTBOX_GAP)
                    take_gap(c, &items[i]);
                seqs[i] = items[i].seq;
            }
            assert_int_equal(outbox_ack(s, seqs, (size_t)n), 0);
            total += n;
        }
        assert_int_equal(n, 0);
    }
    return total;
}

void consumer_check(const struct consumer *c, uint64_t next_seq, int once)
{
    for (uint64_t i = 1; i < next_seq; i++) {
        if (c->received[i] + c->declared[i] == 0)
            fail_msg("number %llu is neither received nor declared lost", (unsigned long long)i);
        if (c->received[i] > 1 || (once && c->received[i] + c->declared[i] > 1))
            fail_msg("number %llu: received %d, declared %d", (unsigned long long)i, c->received[i],
                     c->declared[i]);
    }
}
