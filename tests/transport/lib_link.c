/* lib_link.c - links for tests. */
#include "transport/lib_link.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

struct link_config link_defaults(const struct broker *b)
{
    struct link_config c = {.host = "127.0.0.1",
                            .port = b->port,
                            .client_id = "device",
                            .ca_path = broker_file(b, "ca.crt"),
                            .cert_path = broker_file(b, "device.crt"),
                            .key_path = broker_file(b, "device.key"),
                            .connect_timeout_s = 10,
                            .backoff_min_ms = 20,
                            .backoff_max_ms = 200};
    return c;
}

struct link *link_open(const struct link_config *config)
{
    struct link *l;
    char why[384] = "";
    int rc = link_create(config, &l, why, sizeof why);
    if (rc != 0)
        fail_msg("link_create: %d %s", rc, why);
    return l;
}

void link_await(struct link *l, enum link_event_type type, struct link_event *event)
{
    time_t start = time(NULL);
    char last[384] = "";
    while (time(NULL) - start < PATIENCE_MS / 1000) {
        if (link_next(l, event, 1000) == (int)type)
            return;
        if (event->text[0])
            snprintf(last, sizeof last, "%s", event->text);
    }
    fail_msg("event %d did not come; last text: %s", (int)type, last);
}

void link_say(struct link *l, const char *topic, const char *text, int retained)
{
    struct link_event e;
    assert_int_equal(link_publish(l, topic, text, strlen(text), 1, retained, NULL, 0, 4711), 0);
    link_await(l, LINK_ACKED, &e);
    assert_int_equal(e.token, 4711);
}
