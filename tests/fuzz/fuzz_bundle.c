/* fuzz_bundle.c - pushed bundles: refused with a reason, or everything in them lies within the
 * bytes and builds into an equal bundle. The mutator puts lengths and the model's hash right, which
 * chance would not. */
#include "transport/bundle.h"

#include <mbedtls/sha256.h>

#include "fuzz/fuzz.h"

#define HEADER 36u

static void check_views(const struct bundle *b, const uint8_t *data, size_t size)
{
    const struct bundle_manifest *m = &b->manifest;

    FUZZ_CHECK(b->model >= data && b->model_bytes <= size);
    FUZZ_CHECK(b->model + b->model_bytes == b->signature);
    FUZZ_CHECK(b->signature + b->signature_bytes == data + size);
    FUZZ_CHECK(b->signed_bytes + b->signature_bytes == size);
    FUZZ_CHECK((b->key_id[0] == '\0') == (b->signature_bytes == 0));
    FUZZ_CHECK(m->family[0] && m->version && m->window && m->period_ms);
    FUZZ_CHECK(m->label_count >= 1 && m->label_count <= 256);
    for (uint32_t i = 0; i < m->label_count; i++)
        FUZZ_CHECK(m->labels[i][0] && memchr(m->labels[i], 0, sizeof m->labels[i]));
}

static void check_rebuild(const struct bundle *b)
{
    void *again, *third;
    size_t size, size3;
    struct bundle parsed;
    char why[256] = "";

    FUZZ_CHECK(
        bundle_build(&b->manifest, b->model, b->model_bytes, &again, &size, why, sizeof why) == 0);
    FUZZ_CHECK(bundle_parse(again, size, &parsed, why, sizeof why) == 0);
    FUZZ_CHECK(strcmp(parsed.manifest.sha256, b->manifest.sha256) == 0);
    FUZZ_CHECK(parsed.manifest.label_count == b->manifest.label_count);
    FUZZ_CHECK(memcmp(parsed.manifest.labels, b->manifest.labels,
                      b->manifest.label_count * sizeof *b->manifest.labels) == 0);
    FUZZ_CHECK(parsed.manifest.created_s == b->manifest.created_s);
    FUZZ_CHECK(bundle_build(&parsed.manifest, parsed.model, parsed.model_bytes, &third, &size3, why,
                            sizeof why) == 0);
    FUZZ_CHECK(size == size3 && memcmp(again, third, size) == 0);
    bundle_free(&parsed);
    free(again);
    free(third);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size ? size : 1);
    struct bundle b;
    char why[256] = "", a[32] = "";

    FUZZ_CHECK(exact);
    if (size)
        memcpy(exact, data, size);
    if (bundle_parse(exact, size, &b, why, sizeof why) == 0) {
        check_views(&b, exact, size);
        check_rebuild(&b);
        bundle_free(&b);
    } else {
        FUZZ_CHECK(why[0]);
    }
    memcpy(a, data, size < sizeof a - 1 ? size : sizeof a - 1);
    FUZZ_CHECK(bundle_compare_versions(a, "1.2.3") == -bundle_compare_versions("1.2.3", a));
    free(exact);
    return 0;
}

static uint32_t load_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Writes the hash of the model bytes over the 64 digits behind "sha256":" where they are. */
static void mend_hash(uint8_t *data, size_t manifest, size_t model)
{
    static const char key[] = "\"sha256\":\"", digits[] = "0123456789abcdef";
    uint8_t *text = data + HEADER, *at = memmem(text, manifest, key, sizeof key - 1), hash[32];

    if (!at || (size_t)(text + manifest - at) < sizeof key - 1 + 64)
        return;
    at += sizeof key - 1;
    mbedtls_sha256_ret(text + manifest, model, hash, 0);
    for (int i = 0; i < 32; i++) {
        at[2 * i] = (uint8_t)digits[hash[i] >> 4];
        at[2 * i + 1] = (uint8_t)digits[hash[i] & 15];
    }
}

/* Mutates one part and lays the bundle out anew: header, manifest, model, signature. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    size_t manifest, model, rest, part_at, part, room, new_part;

    if (size < HEADER || seed % 8 == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    manifest = load_u32(data + 8);
    model = load_u32(data + 12);
    rest = size - HEADER;
    if (manifest > rest || model > rest - manifest)
        return LLVMFuzzerMutate(data, size, max_size);
    if (seed % 8 == 1) { /* header only: lengths among it */
        LLVMFuzzerMutate(data, HEADER, HEADER);
        return size;
    }
    part_at = HEADER;
    part = manifest;
    if (seed % 8 == 2) {
        part_at += manifest;
        part = model;
    } else if (seed % 8 == 3) {
        part_at += manifest + model;
        part = size - part_at;
    }
    room = part + (max_size - size);
    { /* the tail moves with the part's new length */
        size_t tail = size - part_at - part;
        uint8_t *copy = malloc(room + tail + 1);

        FUZZ_CHECK(copy);
        memcpy(copy, data + part_at, part);
        memcpy(copy + room, data + part_at + part, tail);
        new_part = LLVMFuzzerMutate(copy, part, room);
        memcpy(data + part_at, copy, new_part);
        memcpy(data + part_at + new_part, copy + room, tail);
        free(copy);
        size = size - part + new_part;
    }
    if (part_at == HEADER)
        manifest = new_part;
    else if (part_at == HEADER + manifest && seed % 8 == 2)
        model = new_part;
    for (int i = 0; i < 4; i++) {
        data[8 + i] = (uint8_t)(manifest >> (8 * i));
        data[12 + i] = (uint8_t)(model >> (8 * i));
    }
    mend_hash(data, manifest, model);
    return size;
}
