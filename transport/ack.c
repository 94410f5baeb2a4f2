/* ack.c - takes PUBACKs out of a stream of packets (ack.h). */
#include "transport/ack.h"

#include <string.h>

#define PUBACK 4u

void ack_start(struct ack *a)
{
    memset(a, 0, sizeof *a);
}

/* A byte of the fixed header. */
static void take_head(struct ack *a, uint8_t byte)
{
    if (!a->in_head) {
        *a = (struct ack){.in_head = 1, .drop = byte >> 4 == PUBACK};
        return;
    }
    a->remaining |= (uint32_t)(byte & 127u) << a->shift;
    a->shift += 7;
    a->in_head = (byte & 128u) && a->shift < 28; /* at most four length bytes */
}

size_t ack_filter(struct ack *a, uint8_t *data, size_t size)
{
    size_t kept = 0;
    for (size_t at = 0; at < size;) {
        size_t n = 1;
        if (a->in_head || a->remaining == 0) {
            take_head(a, data[at]);
        } else {
            n = size - at < a->remaining ? size - at : a->remaining;
            a->remaining -= (uint32_t)n;
        }
        if (!a->drop) {
            memmove(data + kept, data + at, n);
            kept += n;
        }
        at += n;
    }
    return kept;
}

int ack_between(const struct ack *a)
{
    return a->drop || (!a->in_head && a->remaining == 0);
}

void ack_put(uint8_t out[ACK_BYTES], uint16_t id)
{
    const uint8_t packet[ACK_BYTES] = {PUBACK << 4, 2, (uint8_t)(id >> 8), (uint8_t)id};
    memcpy(out, packet, sizeof packet);
}
