/* test_model.c - the model file: round trips, questions about a model, reading from disk. SPEC
 * section 1. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "inference/lib_random_model.h"
#include "inference/model.h"
#include "inference/model_format.h"

/* SPEC 1.11: decoding and encoding again gives the same bytes, for both number formats. */
static void test_round_trip(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct model *m = random_model_create(seed, seed % 2 ? MODEL_INT8 : MODEL_FP32);
        struct model *decoded;
        void *bytes, *again;
        size_t size, size_again;
        char why[256] = "";

        if (m->dtype == MODEL_INT8)
            random_model_add_golden(m, seed, (uint32_t)(seed % 3));
        if (model_encode(m, &bytes, &size, why, sizeof(why)) != 0)
            fail_msg("seed %llu: %s", (unsigned long long)seed, why);
        assert_int_equal(model_decode(bytes, size, &decoded, why, sizeof(why)), 0);
        assert_int_equal(decoded->layer_count, m->layer_count);
        assert_int_equal(model_parameters(decoded), model_parameters(m));
        for (uint32_t i = 0; i < m->layer_count; i++) {
            const struct model_layer *a = &m->layers[i], *b = &decoded->layers[i];
            assert_int_equal(a->in_columns, b->in_columns);
            assert_int_equal(a->out_columns, b->out_columns);
            assert_int_equal(a->in_channels, b->in_channels);
            assert_int_equal(a->out_channels, b->out_channels);
            assert_string_equal(a->name, b->name);
        }
        assert_int_equal(model_encode(decoded, &again, &size_again, why, sizeof(why)), 0);
        assert_int_equal(size, size_again);
        assert_memory_equal(bytes, again, size);
        free(bytes);
        free(again);
        model_free(decoded);
        random_model_free(m);
    }
}

/* The article's network has about 207,000 parameters. */
static void test_article_size(void **state)
{
    struct model *m = random_model_article(1, MODEL_INT8);

    (void)state;
    assert_int_equal(model_parameters(m), 16 * 21 + 16 + 32 * 80 + 32 + 64 * 160 + 64 + 64 * 192 +
                                              64 + 96 * 192 + 96 + 1248 * 128 + 128 + 128 * 32 +
                                              32);
    assert_int_equal(model_macs(m), 506 * 336 + 249 * 2560 + 120 * 10240 + 58 * 12288 + 27 * 18432 +
                                        1248 * 128 + 128 * 32);
    random_model_free(m);
}

static void test_meta(void **state)
{
    struct model m = {.meta = "a=1\nab=two words\nempty=\nlast=x=y"};
    char value[16];

    (void)state;
    assert_int_equal(model_meta(&m, "a", value, sizeof(value)), 0);
    assert_string_equal(value, "1");
    assert_int_equal(model_meta(&m, "ab", value, sizeof(value)), 0);
    assert_string_equal(value, "two words");
    assert_int_equal(model_meta(&m, "empty", value, sizeof(value)), 0);
    assert_string_equal(value, "");
    assert_int_equal(model_meta(&m, "last", value, sizeof(value)), 0);
    assert_string_equal(value, "x=y");
    assert_int_equal(model_meta(&m, "b", value, sizeof(value)), -ENOENT);
    assert_int_equal(model_meta(&m, "x", value, sizeof(value)), -ENOENT);
    assert_int_equal(model_meta(&m, "ab", value, 9), -ENOSPC);
    assert_int_equal(model_meta(&m, "ab", value, 10), 0);
}

static void write_file(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

/* A file that cannot be had gives the path and the reason, and never blocks. */
/* SPEC 1.12 */
static void test_lag_and_thresholds(void **state)
{
    struct model m = {.window = 512, .class_count = 3, .meta = "a=1"};
    static const char *const wrong[] = {"lag=512",
                                        "lag=1.5",
                                        "lag=",
                                        "lag=-1",
                                        "lag=1,2",
                                        "lag=1 ",
                                        "lag=0000000001",
                                        "thresholds=0.5,0.5",
                                        "thresholds=1,1,2",
                                        "thresholds=1,1,1,",
                                        "thresholds=.",
                                        "thresholds=0.1.2,0,0",
                                        "thresholds=1e-1,0,0"};
    char why[128];

    (void)state;
    assert_int_equal(model_lag(&m), 128);
    assert_true(model_threshold(&m, 2) == 0.5f);
    assert_int_equal(model_format_check_meta(&m, why, sizeof(why)), 0);
    m.meta = "thresholds=0.25,1,.75\nlag=40\nlag=600";
    assert_int_equal(model_format_check_meta(&m, why, sizeof(why)), 0);
    assert_int_equal(model_lag(&m), 40);
    assert_true(model_threshold(&m, 0) == 0.25f);
    assert_true(model_threshold(&m, 1) == 1.0f);
    assert_true(model_threshold(&m, 2) == 0.75f);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        m.meta = wrong[i];
        assert_int_equal(model_format_check_meta(&m, why, sizeof(why)), -EBADMSG);
        assert_int_equal(model_lag(&m), 128);
        assert_true(model_threshold(&m, 0) == 0.5f);
    }
}

static void test_file(void **state)
{
    char dir[] = "/tmp/nilm-model-XXXXXX", path[64], why[512];
    struct model *m = random_model_create(3, MODEL_INT8), *decoded;
    void *bytes;
    size_t size;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/m.nilm", dir);
    assert_int_equal(model_encode(m, &bytes, &size, why, sizeof(why)), 0);
    assert_int_equal(model_decode_file(path, &decoded, why, sizeof(why)), -ENOENT);
    assert_non_null(strstr(why, path));
    assert_null(decoded);
    write_file(path, bytes, size);
    assert_int_equal(model_decode_file(path, &decoded, why, sizeof(why)), 0);
    assert_int_equal(decoded->window, m->window);
    model_free(decoded);
    write_file(path, bytes, size - 1);
    assert_int_equal(model_decode_file(path, &decoded, NULL, 0), -EBADMSG);
    write_file(path, "", 0);
    assert_int_equal(model_decode_file(path, &decoded, why, sizeof(why)), -EBADMSG);
    assert_int_equal(truncate(path, (off_t)MODEL_MAX_BYTES + 1), 0);
    assert_int_equal(model_decode_file(path, &decoded, why, sizeof(why)), -EFBIG);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(model_decode_file(path, &decoded, why, sizeof(why)), -EBADMSG);
    assert_non_null(strstr(why, "regular file"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(model_decode_file(dir, &decoded, why, sizeof(why)), -EBADMSG);
    assert_int_equal(rmdir(dir), 0);
    free(bytes);
    random_model_free(m);
}

/* The writer names what is wrong with a hand-built model instead of writing it. */
static void test_encode_refuses(void **state)
{
    struct model *m = random_model_create(5, MODEL_INT8);
    struct model bad;
    void *bytes;
    size_t size;
    char why[512];

    (void)state;
#define REFUSED(change, text)                                                                      \
    do {                                                                                           \
        bad = *m;                                                                                  \
        why[0] = '\0';                                                                             \
        change;                                                                                    \
        assert_int_equal(model_encode(&bad, &bytes, &size, why, sizeof(why)), -EINVAL);            \
        assert_null(bytes);                                                                        \
        if (!strstr(why, text))                                                                    \
            fail_msg("\"%s\" does not speak of \"%s\"", why, text);                                \
    } while (0)
    REFUSED(bad.dtype = 3, "dtype 3");
    REFUSED(bad.head = 257, "head 257");
    REFUSED(bad.window = 0, "window 0");
    REFUSED(bad.channel_count = 9, "9 channels");
    REFUSED(bad.layer_count = 33, "33 layers");
    REFUSED(bad.class_count = 0, "0 classes");
    REFUSED(bad.golden_count = 65, "65 golden");
    REFUSED(bad.golden_count = 1, "golden");
    REFUSED(bad.layers[0].in_columns++, "shape");
    REFUSED(bad.layers[bad.layer_count - 1].out_channels++, "last layer");
    REFUSED(bad.layers[bad.layer_count - 1].weights = NULL, "weights");
    REFUSED(bad.layers[bad.layer_count - 1].logit_scale = NULL, "logit_scale");
    REFUSED(bad.layers[0].multiplier = NULL, "multiplier");
    REFUSED(bad.channels[0].thresholds = NULL, "thresholds");
    REFUSED(bad.labels = NULL, "labels");
    REFUSED(bad.hop = bad.window + 1, "hop");
    REFUSED(memset(bad.family, 'x', sizeof(bad.family)), "family");
    REFUSED(bad.meta = "no key", "META");
    REFUSED(bad.layers[0].in_scale = 0, "in_scale");
#undef REFUSED
    random_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_article_size),
        cmocka_unit_test(test_meta),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_lag_and_thresholds),
        cmocka_unit_test(test_encode_refuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
