/* lib_link.h - links to the test broker and waiting for their events. */
#ifndef TESTS_TRANSPORT_LIB_LINK_H
#define TESTS_TRANSPORT_LIB_LINK_H

#include "transport/lib_broker.h"
#include "transport/link.h"

#define PATIENCE_MS 60000 /* a test that waits longer has failed */

/* 127.0.0.1, certificate and client id "device", short back-off. */
struct link_config link_defaults(const struct broker *b);
struct link *link_open(const struct link_config *config); /* fails the test when it cannot */
/* Events until one of this type comes; others are dropped. Fails the test after PATIENCE_MS. */
void link_await(struct link *l, enum link_event_type type, struct link_event *event);
/* Publishes text with QoS 1 and waits for its result. */
void link_say(struct link *l, const char *topic, const char *text, int retained);

#endif
