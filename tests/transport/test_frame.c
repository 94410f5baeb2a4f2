/* test_frame.c - the packet filter: streams cut at every place, oversized packets, any bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "transport/frame.h"

static const uint8_t secret[FRAME_SECRET_BYTES] = "0123456789abcde";

/* Appends a PUBLISH of QoS 1. */
static size_t put_publish(uint8_t *out, const char *topic, size_t payload, int mqtt5)
{
    size_t n = 0, topic_bytes = strlen(topic), length = 4 + topic_bytes + (mqtt5 ? 3 : 0) + payload;
    out[n++] = 0x32;
    do {
        out[n++] = (uint8_t)(length % 128 | (length > 127 ? 128 : 0));
        length /= 128;
    } while (length);
    out[n++] = 0;
    out[n++] = (uint8_t)topic_bytes;
    memcpy(out + n, topic, topic_bytes);
    n += topic_bytes;
    out[n++] = 0x12;
    out[n++] = 0x34;
    if (mqtt5) {
        memcpy(out + n, "\2\1\1", 3); /* a property: payload format */
        n += 3;
    }
    memset(out + n, 'p', payload);
    return n + payload;
}

/* Filters in pieces of at most step bytes. -1 when it refuses. */
static long filter(struct frame *f, const uint8_t *in, size_t size, size_t step, uint8_t *out)
{
    size_t total = 0;
    for (size_t at = 0; at < size;) {
        uint8_t piece[4096 + FRAME_GROWTH];
        size_t n = size - at < step ? size - at : step, used, made;
        if (frame_filter(f, in + at, n, &used, piece, &made) != 0)
            return -1;
        assert_true(used >= 1 && used <= n && made <= n + FRAME_GROWTH);
        memcpy(out + total, piece, made);
        total += made;
        at += used;
    }
    return (long)total;
}

static void shortens_large_packets(void **state)
{
    (void)state;
    static uint8_t in[20000], out[20000], expected[20000];
    for (int mqtt5 = 0; mqtt5 < 2; mqtt5++) {
        size_t n = 0, want = 0;
        n += put_publish(in, "a/b", 100, mqtt5);
        memcpy(in + n, "\xd0\0\xd0\0", 4); /* two PINGRESP */
        n += 4;
        memcpy(expected, in, n);
        want = n;
        size_t big = put_publish(in + n, "big", 5000, mqtt5);
        n += big;
        n += put_publish(in + n, "", 3000, mqtt5);
        n += put_publish(in + n, "c", 0, mqtt5);
        struct frame f;
        for (size_t step = 1; step <= 4096; step = step < 40 ? step + 1 : step * 2) {
            frame_start(&f, 1000, mqtt5, secret);
            long total = filter(&f, in, n, step, out);
            assert_true(total > (long)want);
            assert_memory_equal(out, expected, want);
            const uint8_t *p = out + want; /* the shortened one */
            assert_int_equal(p[0], 0x32);
            assert_int_equal(p[1], 2 + 3 + 2 + mqtt5 + (int)FRAME_NOTICE_BYTES);
            assert_memory_equal(p + 2, "\0\3big\x12\x34\0", 7 + (size_t)mqtt5);
            p += 9 + mqtt5;
            assert_int_equal(frame_notice(secret, p, FRAME_NOTICE_BYTES), big - 3);
            p += FRAME_NOTICE_BYTES;
            assert_int_equal(p[1], 2 + 2 + mqtt5 + (int)FRAME_NOTICE_BYTES);
            p += 2 + p[1];
            assert_int_equal(p - out + 7 + 3 * mqtt5, total); /* and the small one, whole */
            assert_memory_equal(p + 2, "\0\1c\x12\x34", 5);
        }
    }
}

static void refuses_bad_packets(void **state)
{
    (void)state;
    static uint8_t out[4096];
    struct frame f;
    const struct {
        const char *bytes;
        size_t size;
    } bad[] = {{"\x30\xff\xff\xff\xff\x01", 6}, /* five length bytes */
               {"\x90\xff\xff\x03", 4},         /* a large SUBACK */
               {"\x32\xff\x7f\xff\xff", 5}};    /* the topic is longer than the packet */
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        frame_start(&f, 1000, 1, secret);
        assert_int_equal(filter(&f, (const uint8_t *)bad[i].bytes, bad[i].size, 4096, out), -1);
    }
    assert_int_equal(frame_notice(secret, "", 0), 0);
    assert_int_equal(frame_notice(secret, out, FRAME_NOTICE_BYTES), 0);
}

/* Any bytes in any pieces: the same output however they are cut, and never more than the room. */
static void does_not_depend_on_cuts(void **state)
{
    (void)state;
    unsigned seed = 7;
    static uint8_t in[600], one[60000], two[60000];
    for (int round = 0; round < 20000; round++) {
        size_t n = 1 + (size_t)rand_r(&seed) % sizeof in;
        for (size_t i = 0; i < n; i++)
            in[i] = (uint8_t)(rand_r(&seed) % 3 ? rand_r(&seed) % 8 : rand_r(&seed));
        in[0] = 0x30;
        struct frame f;
        frame_start(&f, 4, round & 1, secret);
        long a = filter(&f, in, n, 4096, one);
        frame_start(&f, 4, round & 1, secret);
        long b = filter(&f, in, n, 1 + (size_t)rand_r(&seed) % 9, two);
        assert_int_equal(a, b);
        if (a > 0)
            assert_memory_equal(one, two, (size_t)a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shortens_large_packets),
        cmocka_unit_test(refuses_bad_packets),
        cmocka_unit_test(does_not_depend_on_cuts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
