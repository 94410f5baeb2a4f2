/* test_bundle.c - model bundles: SPEC 2; hostile bytes and signatures. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "transport/bundle.h"
#include "transport/lib_broker.h"

static struct broker pki; /* only its folder */
static char why[512];
static struct pki_ring *ring, *foreign;
static const char model[] = "model bytes, any";
static void *plain, *bundle;
static size_t plain_size, bundle_size;

static struct bundle_manifest example(void)
{
    static char labels[3][32] = {"fridge", "kettle", "w\xc3\xa4rme"};
    struct bundle_manifest m = {.family = "identify",
                                .version = 7,
                                .name = "tracebase, pruned",
                                .window = 512,
                                .period_ms = 1000,
                                .input_scaling = "log:4000 log_diff:4000",
                                .min_agent = "0.1.0",
                                .created_s = 1700000000,
                                .expires_s = 4000000000,
                                .label_count = 3,
                                .labels = labels};
    return m;
}

static int setup(void **state)
{
    (void)state;
    struct bundle_manifest m = example();
    if (broker_prepare(&pki) != 0 ||
        pki_make_key(broker_file(&pki, "a.key"), broker_file(&pki, "a.pub"), why, sizeof why) ||
        pki_make_key(broker_file(&pki, "b.key"), broker_file(&pki, "b.pub"), why, sizeof why) ||
        pki_ring_load(broker_file(&pki, "a.pub"), &ring, why, sizeof why) ||
        pki_ring_load(broker_file(&pki, "b.pub"), &foreign, why, sizeof why) ||
        bundle_build(&m, model, sizeof model, &plain, &plain_size, why, sizeof why) ||
        bundle_sign(plain, plain_size, broker_file(&pki, "a.key"), &bundle, &bundle_size, why,
                    sizeof why)) {
        fprintf(stderr, "%s\n", why);
        return -1;
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    pki_ring_free(ring);
    pki_ring_free(foreign);
    free(plain);
    free(bundle);
    broker_remove(&pki);
    return 0;
}

static void carries_what_was_put_in(void **state)
{
    (void)state;
    struct bundle_manifest m = example();
    struct bundle b;
    assert_int_equal(bundle_parse(bundle, bundle_size, &b, why, sizeof why), 0);
    assert_string_equal(b.manifest.family, m.family);
    assert_int_equal(b.manifest.version, 7);
    assert_string_equal(b.manifest.name, m.name);
    assert_int_equal(b.manifest.model_bytes, sizeof model);
    assert_int_equal(b.manifest.window, 512);
    assert_int_equal(b.manifest.period_ms, 1000);
    assert_string_equal(b.manifest.input_scaling, m.input_scaling);
    assert_string_equal(b.manifest.min_agent, m.min_agent);
    assert_int_equal(b.manifest.created_s, m.created_s);
    assert_int_equal(b.manifest.expires_s, m.expires_s);
    assert_int_equal(b.manifest.allow_downgrade, 0);
    assert_int_equal(b.manifest.label_count, 3);
    for (int i = 0; i < 3; i++)
        assert_string_equal(b.manifest.labels[i], m.labels[i]);
    assert_int_equal(b.model_bytes, sizeof model);
    assert_memory_equal(b.model, model, sizeof model);
    assert_int_equal(bundle_verify(&b, bundle, ring, why, sizeof why), 0);
    assert_int_equal(bundle_verify(&b, bundle, foreign, why, sizeof why), -ENOKEY);
    bundle_free(&b);
    assert_int_equal(bundle_parse(plain, plain_size, &b, why, sizeof why), 0);
    assert_int_equal(bundle_verify(&b, plain, ring, why, sizeof why), -EKEYREJECTED);
    assert_non_null(strstr(why, "not signed"));
    bundle_free(&b);
}

/* A signed bundle signed again by another key is that key's. */
static void is_signed_again(void **state)
{
    (void)state;
    void *again;
    size_t size;
    struct bundle b;
    assert_int_equal(bundle_sign(bundle, bundle_size, broker_file(&pki, "b.key"), &again, &size,
                                 why, sizeof why),
                     0);
    assert_int_equal(bundle_parse(again, size, &b, why, sizeof why), 0);
    assert_int_equal(bundle_verify(&b, again, foreign, why, sizeof why), 0);
    assert_int_equal(bundle_verify(&b, again, ring, why, sizeof why), -ENOKEY);
    bundle_free(&b);
    free(again);
    assert_int_equal(
        bundle_sign(bundle, bundle_size, "/nonexistent", &again, &size, why, sizeof why), -ENOENT);
    assert_null(again);
}

/* Parses a copy of exactly this size, so that the sanitizer sees any byte read beyond it. */
static int accept(const uint8_t *data, size_t size, const struct pki_ring *keys)
{
    struct bundle b;
    uint8_t *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    memcpy(copy, data, size);
    why[0] = '\0';
    int rc = bundle_parse(copy, size, &b, why, sizeof why);
    if (rc == 0) {
        rc = bundle_verify(&b, copy, keys, why, sizeof why);
        bundle_free(&b);
    }
    assert_true(rc == 0 || why[0] != '\0');
    free(copy);
    return rc;
}

static void refuses_every_truncation(void **state)
{
    (void)state;
    for (size_t n = 0; n < bundle_size; n++)
        if (accept(bundle, n, ring) == 0)
            fail_msg("accepted with %zu of %zu bytes", n, bundle_size);
    uint8_t *longer = calloc(1, bundle_size + 1);
    memcpy(longer, bundle, bundle_size);
    assert_int_not_equal(accept(longer, bundle_size + 1, ring), 0);
    free(longer);
    assert_int_equal(accept(bundle, bundle_size, ring), 0);
}

static void refuses_every_flipped_bit(void **state)
{
    (void)state;
    uint8_t *copy = malloc(bundle_size);
    memcpy(copy, bundle, bundle_size);
    for (size_t bit = 0; bit < 8 * bundle_size; bit++) {
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (accept(copy, bundle_size, ring) == 0)
            fail_msg("accepted with bit %zu flipped", bit);
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    free(copy);
}

static void survives_mutations(void **state)
{
    (void)state;
    unsigned seed = 11;
    uint8_t *copy = malloc(bundle_size + 64);
    for (int i = 0; i < 20000; i++) {
        const uint8_t *from = i & 1 ? bundle : plain;
        size_t size = i & 1 ? bundle_size : plain_size;
        memcpy(copy, from, size);
        int edits = 1 + (int)(rand_r(&seed) % 6);
        for (int k = 0; k < edits; k++)
            copy[(size_t)rand_r(&seed) % (i % 3 ? size : 40)] =
                rand_r(&seed) % 2 ? (uint8_t)rand_r(&seed)
                                  : (uint8_t) "\"{}[],:\\0\xff"[rand_r(&seed) % 10];
        size = rand_r(&seed) % 4 ? size : (size_t)rand_r(&seed) % (size + 1);
        if (memcmp(copy, from, size) != 0)
            assert_int_not_equal(accept(copy, size, ring), 0);
    }
    free(copy);
}

/* A plain bundle around this manifest text and the model. */
static int with_manifest(const char *text, size_t text_bytes)
{
    static uint8_t bytes[70000];
    struct bundle b;
    memcpy(bytes, plain, 36);
    for (int i = 0; i < 4; i++)
        bytes[8 + i] = (uint8_t)(text_bytes >> (8 * i));
    memcpy(bytes + 36, text, text_bytes);
    memcpy(bytes + 36 + text_bytes, model, sizeof model);
    int rc = bundle_parse(bytes, 36 + text_bytes + sizeof model, &b, why, sizeof why);
    if (rc == 0)
        bundle_free(&b);
    return rc;
}

/* Replaces the first occurrence of from in the good manifest. */
static int with_change(const char *from, const char *to)
{
    static char text[70000];
    struct bundle b;
    assert_int_equal(bundle_parse(plain, plain_size, &b, why, sizeof why), 0);
    const char *manifest = (const char *)plain + 36;
    size_t n = b.signed_bytes - 36 - b.model_bytes;
    bundle_free(&b);
    const char *at = memmem(manifest, n, from, strlen(from));
    assert_non_null(at);
    size_t before = (size_t)(at - manifest), after = n - before - strlen(from);
    memcpy(text, manifest, before);
    memcpy(text + before, to, strlen(to));
    memcpy(text + before + strlen(to), at + strlen(from), after);
    return with_manifest(text, before + strlen(to) + after);
}

static void checks_the_manifest(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *names;
    } bad[] = {
        {"\"version\":7", "\"version\":0", "version"},
        {"\"version\":7", "\"version\":-1", "version"},
        {"\"version\":7", "\"version\":4294967296", "version"},
        {"\"version\":7", "\"version\":1.5", "version"},
        {"\"version\":7", "\"version\":1e999", "version"},
        {"\"version\":7", "\"version\":\"7\"", "version"},
        {"\"version\":7", "\"version\":null", "version"},
        {"\"version\":7,", "", "version: is missing"},
        {"\"version\":7", "\"version\":7,\"version\":8", "twice"},
        {"\"version\":7", "\"version\":7,\"extra\":1", "unknown key \"extra\""},
        {"\"version\":7", "\"version\":7,\"\":1", "unknown key"},
        {"\"identify\"", "\"\"", "family"},
        {"\"identify\"", "\"iiiiiiiiiiiiiiiiiiiiiiiiiiiiiiii\"", "family"},
        {"\"identify\"", "\"ident\\u0000ify\"", "UTF-8"},
        {"\"identify\"", "\"a\\nb\"", "family"},
        {"\"identify\"", "\"a\x01\"", "UTF-8"},
        {"\"identify\"", "\"a\xc3\"", "UTF-8"},
        {"\"identify\"", "\"a\xc0\x80\"", "UTF-8"},
        {"\"identify\"", "\"a\xed\xa0\x80\"", "UTF-8"},
        {"\"0.1.0\"", "\"0.1\"", "min_agent"},
        {"\"0.1.0\"", "\"0.01.0\"", "min_agent"},
        {"\"0.1.0\"", "\"0.1.0.\"", "min_agent"},
        {"4000000000", "1600000000", "expires"},
        {"4000000000", "-1", "expires"},
        {"4000000000", "1e300", "expires"},
        {"false", "0", "allow_downgrade"},
        {"[\"fridge\",", "[\"kettle\",", "twice"},
        {"[\"fridge\",", "[\"\",", "labels"},
        {"[\"fridge\",", "[3,", "labels"},
        {"[\"fridge\",\"kettle\",\"w\xc3\xa4rme\"]", "[]", "labels"},
        {"[\"fridge\",\"kettle\",\"w\xc3\xa4rme\"]", "{}", "labels"},
        {"\"model_bytes\":17", "\"model_bytes\":18", "model_bytes"},
        {"\"sha256\":\"", "\"sha256\":\"0", "sha256"},
        {"]}", "]}{}", "nothing after it"},
        {"]}", "]", "one JSON object"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (with_change(bad[i].from, bad[i].to) != -EBADMSG)
            fail_msg("accepted: %s", bad[i].to);
        if (!strstr(why, bad[i].names))
            fail_msg("\"%s\" is not named: %s", bad[i].names, why);
    }
    assert_int_equal(with_change("false", "true"), 0);
    assert_int_equal(with_change("4000000000", "0"), 0);
    assert_int_equal(with_change("\"allow_downgrade\":false,", ""), 0);
    /* Deep nesting and an array of a size that is not allowed. */
    static char deep[65536];
    memset(deep, '[', sizeof deep);
    assert_int_equal(with_manifest(deep, sizeof deep), -EBADMSG);
    assert_int_equal(with_manifest("{}", 2), -EBADMSG);
    static char many[70000];
    char *end = many + sprintf(many, "[\"l0\"");
    for (int i = 1; i < 257; i++)
        end += sprintf(end, ",\"l%d\"", i);
    sprintf(end, "]");
    assert_int_equal(with_change("[\"fridge\",\"kettle\",\"w\xc3\xa4rme\"]", many), -EBADMSG);
}

static void checks_the_header(void **state)
{
    (void)state;
    uint8_t *copy = malloc(plain_size);
    static const struct {
        size_t at;
        uint8_t value;
        int error;
    } bad[] = {{0, 'X', -EBADMSG},   {4, 2, -ENOTSUP},    {5, 1, -ENOTSUP},
               {6, 1, -ENOTSUP},     {16, 1, -ENOTSUP},   {11, 1, -EBADMSG},
               {15, 0xff, -EBADMSG}, {20, 'g', -EBADMSG}, {20, '0', -EBADMSG}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        memcpy(copy, plain, plain_size);
        copy[bad[i].at] = bad[i].value;
        assert_int_equal(accept(copy, plain_size, ring), bad[i].error);
    }
    free(copy);
    uint8_t *huge = calloc(1, BUNDLE_MAX_BYTES + 1u);
    struct bundle b;
    memcpy(huge, plain, plain_size);
    assert_int_equal(bundle_parse(huge, BUNDLE_MAX_BYTES + 1u, &b, why, sizeof why), -EFBIG);
    free(huge);
}

static void builds_only_what_it_accepts(void **state)
{
    (void)state;
    struct bundle_manifest m = example();
    void *data;
    size_t size;
    m.version = 0;
    assert_int_equal(bundle_build(&m, model, sizeof model, &data, &size, why, sizeof why), -EINVAL);
    assert_non_null(strstr(why, "version"));
    m = example();
    memset(m.family, 'x', sizeof m.family);
    assert_int_equal(bundle_build(&m, model, sizeof model, &data, &size, why, sizeof why), -EINVAL);
    m = example();
    m.label_count = 0;
    assert_int_equal(bundle_build(&m, model, sizeof model, &data, &size, why, sizeof why), -EINVAL);
    assert_int_equal(bundle_build(&m, model, 0, &data, &size, why, sizeof why), -EINVAL);
    assert_null(data);
    m = example(); /* same manifest, same bytes */
    assert_int_equal(bundle_build(&m, model, sizeof model, &data, &size, why, sizeof why), 0);
    assert_int_equal(size, plain_size);
    assert_memory_equal(data, plain, size);
    free(data);
}

static void compares_versions(void **state)
{
    (void)state;
    assert_int_equal(bundle_compare_versions("0.1.0", "0.1.0"), 0);
    assert_int_equal(bundle_compare_versions("0.1.0", "0.2.0"), -1);
    assert_int_equal(bundle_compare_versions("0.10.0", "0.9.9"), 1);
    assert_int_equal(bundle_compare_versions("1.0.0", "0.99.99"), 1);
    assert_int_equal(bundle_compare_versions("1", "1.0.0"), 0);
    assert_int_equal(bundle_compare_versions("1.0.1", "1"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(carries_what_was_put_in),  cmocka_unit_test(is_signed_again),
        cmocka_unit_test(refuses_every_truncation), cmocka_unit_test(refuses_every_flipped_bit),
        cmocka_unit_test(survives_mutations),       cmocka_unit_test(checks_the_manifest),
        cmocka_unit_test(checks_the_header),        cmocka_unit_test(builds_only_what_it_accepts),
        cmocka_unit_test(compares_versions),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
