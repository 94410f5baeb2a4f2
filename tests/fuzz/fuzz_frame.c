/* fuzz_frame.c - the filter on what a broker sends: cut anywhere it makes the same of a stream, and
 * never lets a packet through that is larger than allowed. */
#include "transport/frame.h"

#include "fuzz/fuzz.h"

/* A shortened packet: the largest topic, packet id, no properties, the notice. */
#define LONGEST_SHORTENED (2u + 65535u + 2u + 1u + FRAME_NOTICE_BYTES)

struct result {
    int rc;
    size_t size;
    uint8_t *bytes; /* [room] */
    size_t room;
};

/* Filters data in pieces; cuts (may be NULL: all at once) says how long they are. */
static struct result filter(const uint8_t *data, size_t size, uint32_t limit, int mqtt5,
                            const uint8_t *cuts, size_t cut_count)
{
    static const uint8_t secret[FRAME_SECRET_BYTES] = "0123456789abcde";
    struct result r = {.room = (size + 1) * 32};
    struct frame f;
    size_t at = 0;

    r.bytes = malloc(r.room);
    FUZZ_CHECK(r.bytes);
    frame_start(&f, limit, mqtt5, secret);
    for (size_t k = 0; at < size && r.rc == 0; k++) {
        size_t n = size - at, used = 0, made = 0;
        uint8_t *in, *out;

        if (cut_count && 1u + cuts[k % cut_count] < n)
            n = 1u + cuts[k % cut_count];
        in = malloc(n); /* blocks to size */
        out = malloc(n + FRAME_GROWTH);
        FUZZ_CHECK(in && out);
        memcpy(in, data + at, n);
        r.rc = frame_filter(&f, in, n, &used, out, &made);
        FUZZ_CHECK(used <= n && made <= n + FRAME_GROWTH && (r.rc != 0 || used > 0));
        FUZZ_CHECK(r.size + made <= r.room);
        memcpy(r.bytes + r.size, out, made);
        r.size += made;
        at += used;
        free(in);
        free(out);
    }
    return r;
}

/* What came out is packets again, none too large; the last may be unfinished. */
static void check_packets(const struct result *r, uint32_t limit)
{
    size_t at = 0;

    while (at + 1 < r->size) {
        uint32_t length = 0, shift = 0;
        size_t n = at + 1;

        for (;; shift += 7) {
            if (n == r->size)
                return;
            FUZZ_CHECK(shift < 28);
            length |= (uint32_t)(r->bytes[n] & 127u) << shift;
            if (!(r->bytes[n++] & 128u))
                break;
        }
        FUZZ_CHECK(length <= limit || (r->bytes[at] >> 4 == 3 && length <= LONGEST_SHORTENED));
        at = n + length;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t flags = fuzz_byte(&data, &size), cuts[4];
    uint32_t limit = (uint32_t)fuzz_byte(&data, &size) << (flags >> 1 & 15u);
    struct result whole, pieces;

    for (int i = 0; i < 4; i++)
        cuts[i] = fuzz_byte(&data, &size);
    whole = filter(data, size, limit, flags & 1, NULL, 0);
    pieces = filter(data, size, limit, flags & 1, cuts, 4);
    FUZZ_CHECK(whole.rc == pieces.rc && whole.size == pieces.size);
    FUZZ_CHECK(memcmp(whole.bytes, pieces.bytes, whole.size) == 0);
    check_packets(&whole, limit);
    free(whole.bytes);
    free(pieces.bytes);
    return 0;
}
