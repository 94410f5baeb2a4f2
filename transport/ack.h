/* ack.h - acknowledgements in the owner's hand; internal to transport.
 *
 * Paho acknowledges a message of QoS 1 as it arrives, before its owner can have stored it, and has
 * no way to be asked not to. This filter stands on the bytes that Paho writes: it takes its PUBACKs
 * out (MQTT 3.1.1 and 5, section 3.4) and knows where a packet ends, so that the owner's can be put
 * between two of them. One thread; constant memory.
 */
#ifndef TRANSPORT_ACK_H
#define TRANSPORT_ACK_H

#include <stddef.h>
#include <stdint.h>

#define ACK_BYTES 4u /* of a PUBACK that says "success", in both versions */

struct ack {
    int in_head, drop;  /* within the fixed header; the packet is a PUBACK */
    unsigned shift;     /* of the next length byte */
    uint32_t remaining; /* bytes of the packet still to come */
};

void ack_start(struct ack *a);
/* Takes PUBACKs out of size bytes, in place; what is left. Packets may be cut anywhere. */
size_t ack_filter(struct ack *a, uint8_t *data, size_t size);
/* What was let through ends with the end of a packet. */
int ack_between(const struct ack *a);
/* A PUBACK for this packet id. */
void ack_put(uint8_t out[ACK_BYTES], uint16_t id);

#endif
