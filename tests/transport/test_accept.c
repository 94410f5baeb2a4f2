/* test_accept.c - acknowledgements in the owner's hand: the filter on what Paho writes, and what a
 * real Mosquitto sends again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "transport/ack.h"
#include "transport/lib_link.h"

#define SENT 300

static struct broker broker;

static int setup(void **state)
{
    (void)state;
    if (broker_prepare(&broker) != 0)
        return -1;
    return broker_start(&broker, "server",
                        "max_queued_messages 0\nmax_inflight_messages 1000\npersistence true\n");
}

static int teardown(void **state)
{
    (void)state;
    broker_remove(&broker);
    return 0;
}

/* Random packets, PUBACKs among them, cut anywhere: all others stay, in order, and the filter knows
 * where they end. */
static void filter_takes_out_pubacks_only(void **state)
{
    (void)state;
    unsigned seed = 3;
    for (int round = 0; round < 5000; round++) {
        uint8_t in[4096], expected[4096], out[4096];
        size_t n = 0, want = 0, made = 0;
        while (n < 3000) {
            const size_t begin = n, length = (size_t)rand_r(&seed) % (rand_r(&seed) % 4 ? 8 : 300);
            const uint8_t type = (uint8_t)(1 + rand_r(&seed) % 15);
            in[n++] = (uint8_t)(type << 4);
            if (length > 127) {
                in[n++] = (uint8_t)(length % 128 | 128);
                in[n++] = (uint8_t)(length / 128);
            } else {
                in[n++] = (uint8_t)length;
            }
            for (size_t i = 0; i < length; i++)
                in[n++] = (uint8_t)rand_r(&seed);
            if (type != 4) {
                memcpy(expected + want, in + begin, n - begin);
                want += n - begin;
            }
        }
        struct ack a;
        ack_start(&a);
        assert_true(ack_between(&a));
        for (size_t at = 0; at < n;) {
            size_t piece = 1 + (size_t)rand_r(&seed) % 40;
            piece = piece < n - at ? piece : n - at;
            memcpy(out + made, in + at, piece);
            made += ack_filter(&a, out + made, piece);
            at += piece;
        }
        assert_int_equal(made, want);
        assert_memory_equal(out, expected, want);
        assert_true(ack_between(&a));
        memcpy(out, "\x30\x02", 2);
        assert_int_equal(ack_filter(&a, out, 1), 1);
        assert_false(ack_between(&a));
        memcpy(out,
               "\x02"
               "ab",
               3);
        assert_int_equal(ack_filter(&a, out, 2), 2);
        assert_false(ack_between(&a));
        assert_int_equal(ack_filter(&a, out + 2, 1), 1);
        assert_true(ack_between(&a));
    }
}

static struct link *open_consumer(int protocol, const char *id, struct link_event *up)
{
    struct link_config c = link_defaults(&broker);
    c.client_id = id;
    c.manual_ack = 1;
    c.session_expiry_s = 3600;
    c.protocol = protocol;
    struct link *l = link_open(&c);
    assert_int_equal(link_subscribe(l, "stream"), 0);
    link_await(l, LINK_UP, up);
    return l;
}

/* Numbers that come; the first `accept` are accepted. Ends when `most` came or none for half a
 * second. */
static int receive(struct link *l, int most, int accept, int *first)
{
    struct link_event e;
    int count = 0;
    *first = -1;
    while (count < most && link_next(l, &e, 500) != LINK_NONE) {
        if (e.type != LINK_MESSAGE)
            continue;
        const int number = atoi((const char *)e.payload);
        if (*first < 0)
            *first = number;
        assert_int_equal(number, *first + count);
        assert_true(e.receipt != 0);
        if (count++ < accept)
            assert_int_equal(link_accept(l, e.receipt), 0);
    }
    return count;
}

static void accepted_stays_away(int protocol, const char *id)
{
    struct link_event e;
    int first;
    struct link *l = open_consumer(protocol, id, &e);
    assert_false(e.session_present);
    while (link_next(l, &e, 300) != LINK_NONE) { /* the subscription is there */
    }
    struct link_config operator= link_defaults(&broker);
    operator.client_id = "operator";
    operator.cert_path = broker_file(&broker, "operator.crt");
    operator.key_path = broker_file(&broker, "operator.key");
    struct link *sender = link_open(&operator);
    link_await(sender, LINK_UP, &e);
    for (int i = 0; i < SENT; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        link_say(sender, "stream", text, 0);
    }
    link_destroy(sender, 1000);
    /* MQTT 5: the broker sends no more ahead than was announced. */
    assert_int_equal(receive(l, SENT, 0, &first), protocol == 5 ? 128 : SENT);
    assert_int_equal(first, 0);
    link_destroy(l, 2000);
    /* Accepted in part, then an end in good order, and one without a goodbye. */
    l = open_consumer(protocol, id, &e);
    assert_true(e.session_present);
    assert_int_equal(receive(l, 100, 40, &first), 100);
    assert_int_equal(first, 0);
    link_destroy(l, 2000);
    l = open_consumer(protocol, id, &e);
    assert_true(e.session_present);
    assert_int_equal(receive(l, 100, 0, &first), 100);
    assert_int_equal(first, 40);
    link_destroy(l, 0);
    l = open_consumer(protocol, id, &e);
    assert_true(e.session_present);
    assert_int_equal(receive(l, SENT, SENT, &first), SENT - 40);
    assert_int_equal(first, 40);
    link_destroy(l, 2000);
    l = open_consumer(protocol, id, &e);
    assert_true(e.session_present);
    assert_int_equal(receive(l, 1, 0, &first), 0);
    assert_int_equal(link_accept(l, 0), 0);
    assert_int_equal(link_accept(l, UINT64_C(1) << 16 | 5), 0); /* of another session: nothing */
    link_destroy(l, 2000);
}

static void accepted_stays_away_mqtt5(void **state)
{
    (void)state;
    accepted_stays_away(5, "consumer5");
}

static void accepted_stays_away_mqtt311(void **state)
{
    (void)state;
    accepted_stays_away(4, "consumer4");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filter_takes_out_pubacks_only),
        cmocka_unit_test(accepted_stays_away_mqtt5),
        cmocka_unit_test(accepted_stays_away_mqtt311),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
