/* Packing, signing and verifying a model: what a device would refuse is refused here, by its own
 * check (bundle_cmd.h). */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/bundle_cmd.h"
#include "lib/small_model.h"

enum { NOW = 1800000000 };
static char root[64], key[96], ring[96], foreign[96], foreign_ring[96];

static int make_root(void **state)
{
    char why[256] = "";
    (void)state;
    snprintf(root, sizeof root, "/tmp/nilm-bundle-XXXXXX");
    if (mkdtemp(root) == NULL)
        return -1;
    snprintf(key, sizeof key, "%s/a.key", root);
    snprintf(ring, sizeof ring, "%s/a.pub", root);
    snprintf(foreign, sizeof foreign, "%s/b.key", root);
    snprintf(foreign_ring, sizeof foreign_ring, "%s/b.pub", root);
    if (pki_make_key(key, ring, why, sizeof why) != 0 ||
        pki_make_key(foreign, foreign_ring, why, sizeof why) != 0) {
        fprintf(stderr, "%s\n", why);
        return -1;
    }
    return 0;
}

static int remove_root(void **state)
{
    (void)state;
    unlink(key);
    unlink(ring);
    unlink(foreign);
    unlink(foreign_ring);
    return rmdir(root);
}

static int pack(uint32_t golden, int broken, const struct bundle_cmd_order *changes, void **data,
                size_t *size, char *why)
{
    struct bundle_cmd_order order = {.min_agent = NILM_VERSION, .created_s = NOW};
    void *model;
    size_t bytes;
    if (changes)
        order = *changes;
    small_model_encode(7, 0, golden, broken, &model, &bytes);
    int rc = bundle_cmd_pack(model, bytes, &order, data, size, why, 256);
    free(model);
    return rc;
}

static void sign(void **data, size_t *size, const char *with)
{
    void *out;
    size_t out_size;
    char why[256] = "";
    if (bundle_sign(*data, *size, with, &out, &out_size, why, sizeof why) != 0)
        fail_msg("%s", why);
    free(*data);
    *data = out;
    *size = out_size;
}

static void test_pack_sign_verify(void **state)
{
    struct bundle_cmd_report report;
    void *data;
    size_t size;
    char why[256] = "";
    (void)state;
    if (pack(2, 0, NULL, &data, &size, why) != 0)
        fail_msg("%s", why);
    assert_true(bundle_cmd_verify(data, size, ring, NOW, &report, why, sizeof why) <
                0); /* not signed */
    assert_true(report.readable);
    assert_string_equal(report.key_id, "");
    sign(&data, &size, key);
    if (bundle_cmd_verify(data, size, ring, NOW, &report, why, sizeof why) != 0)
        fail_msg("%s", why);
    assert_string_equal(report.family, "identify");
    assert_string_equal(report.name, "identify 7");
    assert_int_equal(report.version, 7);
    assert_int_equal(report.golden_count, 2);
    assert_int_equal(report.label_count, 3);
    assert_int_equal(strlen(report.key_id), 16);
    assert_true(bundle_cmd_verify(data, size, foreign_ring, NOW, &report, why, sizeof why) < 0);
    sign(&data, &size, foreign);
    assert_true(bundle_cmd_verify(data, size, ring, NOW, &report, why, sizeof why) < 0);
    assert_int_equal(bundle_cmd_verify(data, size, foreign_ring, NOW, &report, why, sizeof why), 0);
    free(data);
}

/* Every bit matters: one flipped in any byte is refused, and so is every shorter bundle. */
static void test_flipped_and_truncated(void **state)
{
    struct bundle_cmd_report report;
    uint8_t *bytes;
    void *data;
    size_t size;
    char why[256] = "";
    (void)state;
    assert_int_equal(pack(1, 0, NULL, &data, &size, why), 0);
    sign(&data, &size, key);
    bytes = data;
    for (size_t i = 0; i < size; i += i < 1200 ? 1 : 37) {
        bytes[i] ^= (uint8_t)(1u << i % 8);
        why[0] = '\0';
        if (bundle_cmd_verify(data, size, ring, NOW, &report, why, sizeof why) == 0)
            fail_msg("byte %zu of %zu flipped and accepted", i, size);
        assert_true(why[0] != '\0');
        bytes[i] ^= (uint8_t)(1u << i % 8);
    }
    for (size_t n = 0; n < size; n += 1 + n / 7)
        assert_true(bundle_cmd_verify(data, n, ring, NOW, &report, why, sizeof why) < 0);
    assert_int_equal(bundle_cmd_verify(data, size, ring, NOW, &report, why, sizeof why), 0);
    free(data);
}

static void test_what_is_not_packed(void **state)
{
    struct bundle_cmd_order order = {.min_agent = NILM_VERSION, .created_s = NOW};
    char why[256] = "", name[100];
    void *data;
    size_t size;
    (void)state;
    assert_int_equal(pack(0, 0, NULL, &data, &size, why), -EBADMSG);
    assert_non_null(strstr(why, "golden"));
    assert_null(data);
    assert_int_equal(pack(2, 1, NULL, &data, &size, why), -EBADMSG);
    assert_non_null(strstr(why, "1 of 2"));
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    order.name = name;
    assert_int_equal(pack(1, 0, &order, &data, &size, why), -EINVAL);
    assert_non_null(strstr(why, "name"));
    order.name = NULL;
    order.min_agent = "soon";
    assert_true(pack(1, 0, &order, &data, &size, why) < 0);
    assert_int_equal(bundle_cmd_pack("garbage", 7, &order, &data, &size, why, sizeof why),
                     -EBADMSG);
}

static void test_order(void **state)
{
    struct bundle_cmd_order order = {.name = "winter",
                                     .min_agent = "0.0.1",
                                     .created_s = NOW,
                                     .expires_s = NOW + 100,
                                     .allow_downgrade = 1,
                                     .version = 9};
    struct bundle_cmd_report report;
    struct bundle b;
    struct model *m;
    void *data, *again;
    size_t size, again_size;
    char why[256] = "";
    (void)state;
    assert_int_equal(pack(2, 0, &order, &data, &size, why), 0);
    assert_int_equal(pack(2, 0, &order, &again, &again_size, why),
                     0); /* the same order, the same bytes */
    assert_int_equal(size, again_size);
    assert_memory_equal(data, again, size);
    free(again);
    assert_int_equal(bundle_parse(data, size, &b, why, sizeof why), 0);
    assert_int_equal(model_decode(b.model, b.model_bytes, &m, why, sizeof why), 0);
    assert_int_equal(m->version, 9); /* in the model, not in the manifest alone */
    assert_int_equal(m->golden_count, 2);
    model_free(m);
    bundle_free(&b);
    sign(&data, &size, key);
    assert_int_equal(bundle_cmd_verify(data, size, ring, NOW, &report, why, sizeof why), 0);
    assert_string_equal(report.name, "winter");
    assert_true(report.version == 9 && report.allow_downgrade && report.expires_s == NOW + 100);
    assert_int_equal(bundle_cmd_verify(data, size, ring, NOW + 100, &report, why, sizeof why),
                     -ESTALE);
    free(data);
    order.min_agent = "99.0.0";
    assert_int_equal(pack(2, 0, &order, &data, &size, why), 0);
    sign(&data, &size, key);
    assert_int_equal(bundle_cmd_verify(data, size, ring, NOW, &report, why, sizeof why), -ENOTSUP);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pack_sign_verify),
        cmocka_unit_test(test_flipped_and_truncated),
        cmocka_unit_test(test_what_is_not_packed),
        cmocka_unit_test(test_order),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
