/* frame.h - a filter on the bytes that come from the broker; internal to transport.
 *
 * Paho allocates whatever length a packet announces: up to 256 MiB. MQTT 5 lets a client forbid
 * large packets, 3.1.1 does not. The filter follows packet boundaries (MQTT 3.1.1 and 5, section 2)
 * and shortens a PUBLISH larger than the limit to one whose payload is a notice, so that Paho
 * acknowledges it as usual and the broker does not send it again. The notice begins with random
 * bytes that nobody outside the process knows. Other packets pass unchanged; an oversized one of
 * another type is an error. One thread; constant memory.
 */
#ifndef TRANSPORT_FRAME_H
#define TRANSPORT_FRAME_H

#include <stddef.h>
#include <stdint.h>

#define FRAME_SECRET_BYTES 16u
#define FRAME_NOTICE_BYTES (FRAME_SECRET_BYTES + 4u) /* then the packet's length, little-endian */
#define FRAME_GROWTH 48u /* output is never longer than the input by more than this */

enum frame_state { FRAME_HEAD, FRAME_PASS, FRAME_TOPIC_LENGTH, FRAME_KEEP, FRAME_DROP };

struct frame {
    enum frame_state state;
    uint8_t head[7]; /* type, remaining length, topic length */
    uint32_t head_count, length_bytes;
    uint32_t remaining; /* bytes of the packet still to come */
    uint32_t keep;      /* of those, to be passed before the notice */
    uint32_t announced; /* the packet's remaining length */
    uint32_t limit;
    int mqtt5;
    uint8_t secret[FRAME_SECRET_BYTES];
};

/* Begins a stream. limit: largest remaining length let through. mqtt5: PUBLISH has properties. */
void frame_start(struct frame *f, uint32_t limit, int mqtt5, const uint8_t *secret);

/* Filters size bytes of in to out (room: size + FRAME_GROWTH). Sets *used (of in; all but when out
 * would overflow) and *made. 0, or -EPROTO when this is not MQTT or not acceptable. */
int frame_filter(struct frame *f, const uint8_t *in, size_t size, size_t *used, uint8_t *out,
                 size_t *made);

/* When a payload is a notice made with secret: the length that was announced; else 0. Any thread.
 */
uint32_t frame_notice(const uint8_t *secret, const void *payload, size_t size);

#endif
