/* test_model_refuse.c - every rule of SPEC section 1, broken one at a time in an otherwise valid
 * file: the reader must refuse with the right code and name the place. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "inference/lib_model_file.h"
#include "inference/lib_random_model.h"

/* A change of `width` bytes at `offset` of a section ("" is the header). */
struct change {
    const char *spec, *section;
    size_t offset;
    int width; /* 1, 2, 4 bytes of value; 0: f as f32 */
    uint32_t value;
    float f;
    int rc;
    const char *says;
};

#define LAYER(i, offset) ((i)*56 + (offset))
/* The article's model: layers 0 conv, 1 pool, ... 8 conv, 9 pool, 10 flatten, 11 dense, 12 dense.
 * Its weights section: conv1 has 16 x 7 x 3 weights, then bias, weight_scale, multiplier of 64
 * bytes each, and shift. */
#define CONV1_WEIGHTS (16 * 7 * 3)
#define CONV1_BIAS CONV1_WEIGHTS
#define CONV1_SCALE (CONV1_WEIGHTS + 64)
#define CONV1_MULTIPLIER (CONV1_WEIGHTS + 128)
#define CONV1_SHIFT (CONV1_WEIGHTS + 192)

static const struct change changes[] = {
    {"1.2", "", 0, 1, 'M', 0, -EBADMSG, "NILM"},
    {"1.2", "", 4, 2, 0, 0, -ENOTSUP, "format 0"},
    {"1.2", "", 4, 2, 2, 0, -ENOTSUP, "format 2"},
    {"1.2", "", 6, 2, 1, 0, -ENOTSUP, "flags 0x0001"},
    {"1.2", "", 6, 2, 0x8000, 0, -ENOTSUP, "flags 0x8000"},
    {"1.2", "", 16, 4, 6, 0, -EBADMSG, "6 sections"},
    {"1.2", "", 16, 4, 8, 0, -EBADMSG, "8 sections"},
    {"1.2", "", 20, 1, 1, 0, -EBADMSG, "reserved"},
    {"1.2", "", 31, 1, 1, 0, -EBADMSG, "reserved"},
    {"1.3", "", 32, 1, 'X', 0, -EBADMSG, "not HEAD"},
    {"1.3", "", 32 + 12, 4, 1, 0, -EBADMSG, "HEAD: reserved"},
    {"1.3", "", 32 + 4, 4, 152, 0, -EBADMSG, "HEAD: offset"},
    {"1.3", "", 32 + 16 + 4, 4, 225, 0, -EBADMSG, "CHAN: offset 225"},
    {"1.3", "", 32 + 16 + 4, 4, 144, 0, -EBADMSG, "CHAN: offset 144"},
    {"1.3", "", 32 + 16 + 4, 4, 0xfffffff8u, 0, -EBADMSG, "CHAN: offset"},
    {"1.3", "", 32 + 16 + 8, 4, 0xffffffffu, 0, -EBADMSG, "CHAN: 4294967295 bytes"},
    {"1.3", "", 32 + 8, 4, 76, 0, -EBADMSG, "HEAD"},
    {"1.3", "", 32 + 8, 4, 88, 0, -EBADMSG, "CHAN: offset"},
    {"1.4", "HEAD", 0, 1, 0, 0, -EBADMSG, "dtype is 0"},
    {"1.4", "HEAD", 0, 1, 3, 0, -EBADMSG, "dtype is 3"},
    {"1.4", "HEAD", 0, 1, 1, 0, -EBADMSG, "golden_count"}, /* FP32 has none */
    {"1.4", "HEAD", 1, 1, 0, 0, -EBADMSG, "head is 0"},
    {"1.4", "HEAD", 1, 1, 3, 0, -EBADMSG, "head is 3"},
    {"1.4", "HEAD", 2, 2, 0x100, 0, -EBADMSG, "reserved"},
    {"1.4", "HEAD", 8, 4, 0, 0, -EBADMSG, "window is 0"},
    {"1.4", "HEAD", 8, 4, 16385, 0, -EBADMSG, "window is 16385"},
    {"1.4", "HEAD", 12, 4, 0, 0, -EBADMSG, "period_ms"},
    {"1.4", "HEAD", 12, 4, 3600001, 0, -EBADMSG, "period_ms"},
    {"1.4", "HEAD", 16, 4, 0, 0, -EBADMSG, "hop is 0"},
    {"1.4", "HEAD", 16, 4, 513, 0, -EBADMSG, "hop is 513"},
    {"1.4", "HEAD", 20, 0, 0, -0.1f, -EBADMSG, "reject"},
    {"1.4", "HEAD", 20, 0, 0, 1.1f, -EBADMSG, "reject"},
    {"1.4", "HEAD", 20, 0, 0, NAN, -EBADMSG, "reject"},
    {"1.4", "HEAD", 24, 0, 0, NAN, -EBADMSG, "min_activity_w"},
    {"1.4", "HEAD", 24, 0, 0, -1.0f, -EBADMSG, "min_activity_w"},
    {"1.4", "HEAD", 24, 0, 0, INFINITY, -EBADMSG, "min_activity_w"},
    {"1.4", "HEAD", 28, 4, 0, 0, -EBADMSG, "channel_count"},
    {"1.4", "HEAD", 28, 4, 9, 0, -EBADMSG, "channel_count"},
    {"1.4", "HEAD", 32, 4, 0, 0, -EBADMSG, "layer_count"},
    {"1.4", "HEAD", 32, 4, 33, 0, -EBADMSG, "layer_count"},
    {"1.4", "HEAD", 36, 4, 0, 0, -EBADMSG, "class_count"},
    {"1.4", "HEAD", 36, 4, 257, 0, -EBADMSG, "class_count"},
    {"1.4", "HEAD", 40, 4, 65, 0, -EBADMSG, "golden_count"},
    {"1.4", "HEAD", 44, 4, 1, 0, -EBADMSG, "reserved"},
    {"1.4", "HEAD", 48, 1, 0, 0, -EBADMSG, "family"},
    {"1.4", "HEAD", 49, 1, ' ', 0, -EBADMSG, "family"},
    {"1.1", "HEAD", 79, 1, 'x', 0, -EBADMSG, "family"}, /* behind the NUL */
    {"1.3", "HEAD", 28, 4, 2, 0, -EBADMSG, "CHAN"},
    {"1.3", "HEAD", 28, 4, 4, 0, -EBADMSG, "CHAN"},
    {"1.5", "CHAN", 0, 4, 0, 0, -EBADMSG, "channel 1: feature is 0"},
    {"1.5", "CHAN", 1028, 4, 4, 0, -EBADMSG, "channel 2: feature is 4"},
    {"1.5", "CHAN", 4, 0, 0, 0.0f, -EBADMSG, "full"},
    {"1.5", "CHAN", 4, 0, 0, NAN, -EBADMSG, "full"},
    {"1.5", "CHAN", 4, 0, 0, INFINITY, -EBADMSG, "full"},
    {"1.5", "CHAN", 8, 0, 0, NAN, -EBADMSG, "not finite"},
    {"1.5", "CHAN", 8 + 254 * 4, 0, 0, INFINITY, -EBADMSG, "not finite"},
    {"1.5", "CHAN", 8 + 254 * 4, 0, 0, -1e9f, -EBADMSG, "below the one before"},
    {"1.6", "LAYR", LAYER(0, 0), 1, 0, 0, -EBADMSG, "layer 1: op"},
    {"1.6", "LAYR", LAYER(0, 0), 1, 5, 0, -EBADMSG, "layer 1: op"},
    {"1.6", "LAYR", LAYER(0, 1), 1, 2, 0, -EBADMSG, "relu is 2"},
    {"1.6", "LAYR", LAYER(1, 1), 1, 1, 0, -EBADMSG, "layer 2: relu"},
    {"1.6", "LAYR", LAYER(0, 4), 4, 0, 0, -EBADMSG, "layer 1: out_channels"},
    {"1.6", "LAYR", LAYER(0, 4), 4, 1025, 0, -EBADMSG, "layer 1: out_channels"},
    {"1.6", "LAYR", LAYER(1, 4), 4, 17, 0, -EBADMSG, "layer 2: out_channels is 17"},
    {"1.6", "LAYR", LAYER(11, 4), 4, 0, 0, -EBADMSG, "layer 12: out_channels"},
    {"1.6", "LAYR", LAYER(11, 4), 4, 65537, 0, -EBADMSG, "layer 12: out_channels"},
    {"1.6", "LAYR", LAYER(0, 8), 4, 0, 0, -EBADMSG, "layer 1: taps"},
    {"1.6", "LAYR", LAYER(0, 8), 4, 65, 0, -EBADMSG, "layer 1: taps"},
    {"1.6", "LAYR", LAYER(8, 8), 4, 60, 0, -EBADMSG, "layer 9: taps exceed"},
    {"1.6", "LAYR", LAYER(1, 8), 4, 1, 0, -EBADMSG, "layer 2: taps"},
    {"1.6", "LAYR", LAYER(0, 12), 4, 1, 0, -EBADMSG, "layer 1: pool"},
    {"1.6", "LAYR", LAYER(1, 12), 4, 0, 0, -EBADMSG, "layer 2: pool"},
    {"1.6", "LAYR", LAYER(1, 12), 4, 17, 0, -EBADMSG, "layer 2: pool"},
    {"1.6", "LAYR", LAYER(0, 16), 0, 0, 0.0f, -EBADMSG, "layer 1: in_scale"},
    {"1.6", "LAYR", LAYER(0, 16), 0, 0, NAN, -EBADMSG, "layer 1: in_scale"},
    {"1.6", "LAYR", LAYER(0, 20), 0, 0, 0x1p81f, -EBADMSG, "layer 1: in_scale"},
    {"1.6", "LAYR", LAYER(12, 20), 0, 0, 1.0f, -EBADMSG, "layer 13: out_scale"},
    {"1.6", "LAYR", LAYER(12, 3), 1, 1, 0, -EBADMSG, "layer 13: out_scale"},
    {"1.6", "LAYR", LAYER(0, 24), 1, 0, 0, -EBADMSG, "layer 1: name"},
    {"1.6", "LAYR", LAYER(0, 24), 1, '/', 0, -EBADMSG, "layer 1: name"},
    {"1.6", "LAYR", LAYER(2, 28), 1, '0', 0, -EBADMSG, "same name"},
    {"1.6.1", "LAYR", LAYER(8, 4), 4, 1024, 0, -EBADMSG, "layer 10: out_channels"},
    {"1.6.2", "LAYR", LAYER(10, 0), 1, 4, 0, -EBADMSG, "before FLATTEN"},
    {"1.6.2", "LAYR", LAYER(11, 0), 1, 3, 0, -EBADMSG, "after FLATTEN"},
    {"1.6.2", "LAYR", LAYER(12, 1), 1, 1, 0, -EBADMSG, "last layer"},
    {"1.6.2", "LAYR", LAYER(12, 4), 4, 31, 0, -EBADMSG, "last layer"},
    {"1.6.3", "LAYR", LAYER(1, 20), 0, 0, 7.0f, -EBADMSG, "layer 2: a layer without weights"},
    {"1.6.3", "LAYR", LAYER(2, 16), 0, 0, 7.0f, -EBADMSG, "layer 3: in_scale"},
    {"1.6.3", "LAYR", LAYER(11, 16), 0, 0, 7.0f, -EBADMSG, "layer 12: in_scale"},
    {"1.7.1", "WGTS", 5, 1, 0x80, 0, -EBADMSG, "layer 1: a weight is -128"},
    {"1.7.1", "WGTS", CONV1_SCALE, 0, 0, 0.0f, -EBADMSG, "layer 1: a scale"},
    {"1.7.1", "WGTS", CONV1_SCALE, 0, 0, -1.0f, -EBADMSG, "layer 1: a scale"},
    {"1.7.1", "WGTS", CONV1_MULTIPLIER, 4, (1u << 30) - 1, 0, -EBADMSG, "multiplier"},
    {"1.7.1", "WGTS", CONV1_MULTIPLIER + 60, 4, 1u << 31, 0, -EBADMSG, "multiplier"},
    {"1.7.1", "WGTS", CONV1_SHIFT, 1, 30, 0, -EBADMSG, "shift 30"},
    {"1.7.1", "WGTS", CONV1_SHIFT + 15, 1, 63, 0, -EBADMSG, "shift 63"},
    {"1.7.2", "WGTS", CONV1_BIAS, 4, 0x7fffffffu, 0, -EBADMSG, "overflow"},
    {"1.7.2", "WGTS", CONV1_BIAS, 4, 0x80000000u, 0, -EBADMSG, "overflow"},
    {"1.8", "LABL", 0, 1, 0, 0, -EBADMSG, "label 1"},
    {"1.8", "LABL", 32, 1, 0x1b, 0, -EBADMSG, "label 2"},
    {"1.8", "LABL", 32, 1, 0xff, 0, -EBADMSG, "label 2"},
    {"1.8", "LABL", 32, 2, 0xafc0, 0, -EBADMSG, "label 2"}, /* overlong */
    {"1.8", "LABL", 38, 1, '0', 0, -EBADMSG, "both"},
    {"1.1", "LABL", 31, 1, 'x', 0, -EBADMSG, "label 1"},
    {"1.9", "GOLD", 0, 0, 0, NAN, -EBADMSG, "GOLD: vector 1"},
    {"1.9", "GOLD", 513 * 4, 0, 0, INFINITY, -EBADMSG, "GOLD: vector 1"},
    {"1.3", "HEAD", 40, 4, 0, 0, -EBADMSG, "GOLD"},
    {"1.3", "HEAD", 40, 4, 2, 0, -EBADMSG, "GOLD"},
    {"1.10", "META", 0, 1, '=', 0, -EBADMSG, "META"},
    {"1.10", "META", 6, 1, 0, 0, -EBADMSG, "META"},
    {"1.10", "META", 6, 1, '\n', 0, -EBADMSG, "META"},
    {"1.10", "META", 8, 1, 0x07, 0, -EBADMSG, "META"},
    {"1.10", "META", 8, 1, 0xe4, 0, -EBADMSG, "META"},
};

static struct model *article(size_t *size, unsigned char **file)
{
    struct model *m = random_model_article(6, MODEL_INT8);

    random_model_add_golden(m, 1, 1);
    *file = model_file_encode(m, size);
    return m;
}

static void expect(unsigned char *file, size_t size, int rc, const char *spec, const char *says)
{
    struct model *m;
    char why[512] = "";
    int got = model_decode(file, size, &m, why, sizeof(why));

    if (got != rc || m || !strstr(why, says))
        fail_msg("SPEC %s, %s: got %d \"%s\", expected %d", spec, says, got, why, rc);
    assert_int_equal(model_decode(file, size, &m, NULL, 0), rc);
}

static void test_changes(void **state)
{
    unsigned char *file, *broken;
    size_t size;
    struct model *m = article(&size, &file);

    (void)state;
    broken = malloc(size);
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        const struct change *c = &changes[i];
        size_t at = c->offset + (*c->section ? model_file_section(file, c->section, NULL) : 0);

        memcpy(broken, file, size);
        if (c->width)
            memcpy(broken + at, &c->value, (size_t)c->width);
        else
            memcpy(broken + at, &c->f, 4);
        if (memcmp(broken, file, size) == 0)
            fail_msg("case %zu (SPEC %s) changes nothing", i, c->spec);
        model_file_seal(broken, size);
        expect(broken, size, c->rc, c->spec, c->says);
    }
    free(broken);
    free(file);
    random_model_free(m);
}

/* SPEC 1.2: size and check sum; each single flipped bit of a file is found. */
static void test_seal(void **state)
{
    unsigned char *file;
    size_t size;
    struct model *m = random_model_create(3, MODEL_INT8), *decoded;

    (void)state;
    file = model_file_encode(m, &size);
    assert_int_equal(model_file_crc((const unsigned char *)"123456789", 9), 0xcbf43926u);
    file[8]++;
    expect(file, size, -EBADMSG, "1.2", "bytes, but there are");
    file[8]--;
    file[12] ^= 0x40;
    expect(file, size, -EBADMSG, "1.2", "check sum");
    file[12] ^= 0x40;
    for (size_t bit = 0; bit < size * 8; bit += 41) {
        file[bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_true(model_decode(file, size, &decoded, NULL, 0) < 0);
        assert_null(decoded);
        file[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    assert_int_equal(model_decode(file, size, &decoded, NULL, 0), 0);
    model_free(decoded);
    free(file);
    random_model_free(m);
}

/* SPEC 1.3: bytes behind the last section, and padding that is not zero. */
static void test_outside_sections(void **state)
{
    unsigned char *file, *longer;
    size_t size, length, end;
    struct model *m = article(&size, &file);

    (void)state;
    longer = calloc(1, size + 8);
    memcpy(longer, file, size);
    model_file_seal(longer, size + 8);
    expect(longer, size + 8, -EBADMSG, "1.3", "8 bytes behind the last section");
    free(longer);

    end = model_file_section(file, "CHAN", &length) + length;
    assert_true(end % 8 != 0);
    file[end] = 1;
    model_file_seal(file, size);
    expect(file, size, -EBADMSG, "1.3", "padding before LAYR");
    free(file);
    random_model_free(m);
}

/* SPEC 1.1: an oversized file is refused before it is looked at. SPEC 1.10: META has an end. */
static void test_too_large(void **state)
{
    struct model *m = random_model_create(3, MODEL_INT8), *decoded;
    unsigned char byte = 0;
    char why[256], *meta = malloc(70000);
    void *bytes;
    size_t size;

    (void)state;
    assert_int_equal(model_decode(&byte, (size_t)MODEL_MAX_BYTES + 1, &decoded, why, sizeof(why)),
                     -EFBIG);
    assert_null(decoded);
    assert_int_equal(model_decode(NULL, 0, &decoded, why, sizeof(why)), -EBADMSG);
    memset(meta, 'x', 70000);
    meta[1] = '=';
    meta[65535] = '\0';
    m->meta = meta;
    assert_int_equal(model_encode(m, &bytes, &size, why, sizeof(why)), 0);
    free(bytes);
    meta[65535] = 'x';
    meta[65536] = '\0';
    assert_int_equal(model_encode(m, &bytes, &size, why, sizeof(why)), -EINVAL);
    assert_non_null(strstr(why, "META"));
    free(meta);
    random_model_free(m);
}

/* SPEC 1.7: padding between arrays. SPEC 1.6.3 and 1.7 for FP32. SPEC 1.6.4. */
static void test_weights(void **state)
{
    struct model *m = random_model_article(6, MODEL_FP32);
    unsigned char *file;
    size_t size, at;
    float nan = NAN, one = 1.0f;
    char why[256];
    void *bytes;

    (void)state;
    file = model_file_encode(m, &size);
    at = model_file_section(file, "WGTS", NULL);
    memcpy(file + at + 8, &nan, 4);
    model_file_seal(file, size);
    expect(file, size, -EBADMSG, "1.7", "layer 1: a weight or bias is not finite");
    memcpy(file + at + 8, &one, 4);
    memcpy(file + model_file_section(file, "LAYR", NULL) + 16, &one, 4);
    model_file_seal(file, size);
    expect(file, size, -EBADMSG, "1.6.3", "must be 0 in FP32");
    free(file);

    m->window = 16384;
    for (uint32_t i = 0, columns = m->window; i < 10; i++) { /* pools of 1: too many products */
        struct model_layer *l = &m->layers[i];
        l->in_columns = columns;
        l->out_columns = columns = i % 2 ? columns : columns - l->taps + 1;
        l->pool = i % 2;
    }
    m->layers[0].out_channels = 1024;
    assert_int_equal(model_encode(m, &bytes, &size, why, sizeof(why)), -EINVAL);
    assert_non_null(strstr(why, "to flatten"));
    m->layers[9].pool = 16;
    m->layers[7].pool = 4;
    assert_int_equal(model_encode(m, &bytes, &size, why, sizeof(why)), -EINVAL);
    assert_non_null(strstr(why, "multiplications"));
    random_model_free(m);
}

/* SPEC 1.7: weights of an odd number are followed by zeros. */
static void test_weight_padding(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 100; seed++) {
        struct model *m = random_model_create(seed, MODEL_INT8);
        const struct model_layer *l = &m->layers[0];
        size_t size, count = (size_t)l->out_channels * l->taps * l->in_channels;
        unsigned char *file = model_file_encode(m, &size);

        if (l->op == MODEL_CONV1D && count % 4 != 0) {
            file[model_file_section(file, "WGTS", NULL) + count] = 1;
            model_file_seal(file, size);
            expect(file, size, -EBADMSG, "1.7", "layer 1: padding");
            seed = 100;
        }
        free(file);
        random_model_free(m);
        if (seed == 99)
            fail_msg("no model with an odd number of weights");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changes),          cmocka_unit_test(test_seal),
        cmocka_unit_test(test_outside_sections), cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_weights),          cmocka_unit_test(test_weight_padding),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
