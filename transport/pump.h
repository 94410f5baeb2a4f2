/* pump.h - copies bytes between Paho's socketpair and a TLS session until one side ends; internal
 * to transport. */
#ifndef TRANSPORT_PUMP_H
#define TRANSPORT_PUMP_H

#include <stddef.h>
#include <stdint.h>

#include "transport/client.h"

enum pump_order {
    PUMP_GO_ON,
    PUMP_END, /* deliver what Paho wrote, then say goodbye */
    PUMP_DROP /* now */
};

enum pump_end {
    PUMP_OURS,    /* Paho closed its end, or an order */
    PUMP_THEIRS,  /* the broker or the network; client_explain says why */
    PUMP_BAD_MQTT /* the filter refused what the broker sent */
};

struct pump_config {
    int paho, tcp; /* both non-blocking; stay the caller's */
    int wake;      /* when readable, order is asked, which empties it */
    uint32_t max_packet;
    int mqtt5;
    const uint8_t *secret; /* frame.h */
    /* *hold: read nothing more from the broker for now. */
    enum pump_order (*order)(void *context, int *hold);
    /* Takes at most room packet ids off those that the owner has accepted; how many. NULL: Paho's
     * own PUBACKs pass (ack.h). */
    size_t (*accepted)(void *context, uint16_t *ids, size_t room);
    void *context;
};

enum pump_end pump_run(const struct pump_config *config, struct client *tls);

#endif
