/* frame.c - bounds the packets that reach Paho. */
#include "transport/frame.h"

#include <errno.h>
#include <string.h>

#define PUBLISH 3u
#define STEP_GROWTH 32u /* a step adds at most a kept header and a notice to what it reads: 28 */

void frame_start(struct frame *f, uint32_t limit, int mqtt5, const uint8_t *secret)
{
    memset(f, 0, sizeof *f);
    f->limit = limit;
    f->mqtt5 = mqtt5;
    memcpy(f->secret, secret, FRAME_SECRET_BYTES);
}

/* Writes a remaining length (section 2.2.3 of 3.1.1): 7 bits a byte, least first. */
static size_t put_length(uint8_t *out, uint32_t length)
{
    size_t n = 0;
    do {
        out[n] = (uint8_t)(length & 127u);
        length >>= 7;
        out[n++] |= length ? 128u : 0u;
    } while (length);
    return n;
}

/* A byte of the fixed header. Emits it once complete; *made grows. */
static int take_head(struct frame *f, uint8_t byte, uint8_t *out, size_t *made)
{
    f->head[f->head_count++] = byte;
    if (f->head_count == 1)
        return 0;
    if (byte & 128u)
        return f->head_count == 5 ? -EPROTO : 0; /* at most four length bytes */
    f->length_bytes = f->head_count - 1;
    f->remaining = 0;
    for (uint32_t i = f->length_bytes; i > 0; i--)
        f->remaining = f->remaining << 7 | (f->head[i] & 127u);
    f->announced = f->remaining;
    if (f->remaining > f->limit) {
        f->state = FRAME_TOPIC_LENGTH;
        return f->head[0] >> 4 == PUBLISH ? 0 : -EPROTO;
    }
    memcpy(out + *made, f->head, f->head_count);
    *made += f->head_count;
    f->head_count = 0;
    f->state = f->remaining ? FRAME_PASS : FRAME_HEAD;
    return 0;
}

/* A byte of the topic length of an oversized PUBLISH; then the header of the shortened one is
 * emitted. */
static int take_topic_length(struct frame *f, uint8_t byte, uint8_t *out, size_t *made)
{
    f->head[f->head_count++] = byte;
    f->remaining--;
    if (f->head_count < f->length_bytes + 3)
        return 0;
    const uint8_t *length = f->head + 1 + f->length_bytes;
    uint32_t topic = (uint32_t)length[0] << 8 | length[1];
    f->keep = topic + ((f->head[0] & 6u) ? 2u : 0u); /* and the packet id, above QoS 0 */
    if (f->keep > f->remaining)
        return -EPROTO;
    out[(*made)++] = f->head[0];
    *made += put_length(out + *made, 2 + f->keep + (f->mqtt5 ? 1u : 0u) + FRAME_NOTICE_BYTES);
    out[(*made)++] = length[0];
    out[(*made)++] = length[1];
    f->head_count = 0;
    f->state = FRAME_KEEP;
    return 0;
}

/* No properties, then the notice; the rest of the packet goes nowhere. */
static void put_notice(struct frame *f, uint8_t *out, size_t *made)
{
    if (f->mqtt5)
        out[(*made)++] = 0;
    memcpy(out + *made, f->secret, FRAME_SECRET_BYTES);
    *made += FRAME_SECRET_BYTES;
    for (int i = 0; i < 4; i++)
        out[(*made)++] = (uint8_t)(f->announced >> (8 * i));
    f->state = f->remaining ? FRAME_DROP : FRAME_HEAD;
}

int frame_filter(struct frame *f, const uint8_t *in, size_t size, size_t *used, uint8_t *out,
                 size_t *made)
{
    size_t at = 0, room = size + FRAME_GROWTH;
    int rc = 0;
    *made = 0;
    while (at < size && rc == 0 && room - *made >= (size - at) + STEP_GROWTH) {
        size_t n = size - at;
        switch (f->state) {
        case FRAME_HEAD:
            rc = take_head(f, in[at++], out, made);
            break;
        case FRAME_TOPIC_LENGTH:
            rc = take_topic_length(f, in[at++], out, made);
            if (rc == 0 && f->state == FRAME_KEEP && f->keep == 0)
                put_notice(f, out, made);
            break;
        case FRAME_PASS:
        case FRAME_KEEP:
        case FRAME_DROP: {
            uint32_t most = f->state == FRAME_KEEP ? f->keep : f->remaining;
            n = n < most ? n : most;
            if (f->state != FRAME_DROP) {
                memcpy(out + *made, in + at, n);
                *made += n;
            }
            at += n;
            f->remaining -= (uint32_t)n;
            if (f->state != FRAME_KEEP)
                f->state = f->remaining ? f->state : FRAME_HEAD;
            else if ((f->keep -= (uint32_t)n) == 0)
                put_notice(f, out, made);
            break;
        }
        }
    }
    *used = at;
    return rc;
}

uint32_t frame_notice(const uint8_t *secret, const void *payload, size_t size)
{
    const uint8_t *p = payload;
    if (size != FRAME_NOTICE_BYTES || memcmp(p, secret, FRAME_SECRET_BYTES) != 0)
        return 0;
    p += FRAME_SECRET_BYTES;
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
