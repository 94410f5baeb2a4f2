/* test_pki.c - keys, requests, certificates and signatures, against files made by the openssl tool.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "transport/lib_broker.h"
#include "transport/pki.h"

static struct broker pki; /* only its folder */
static char why[512];

static int setup(void **state)
{
    (void)state;
    return broker_prepare(&pki);
}

static int teardown(void **state)
{
    (void)state;
    broker_remove(&pki);
    return 0;
}

static int openssl(const char *format, const char *a, const char *b)
{
    char command[1024], arguments[900];
    snprintf(arguments, sizeof arguments, format, a, b);
    snprintf(command, sizeof command, "cd %s/pki && openssl %s >/dev/null 2>&1", pki.dir,
             arguments);
    return system(command);
}

static void write_file(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static size_t read_file(const char *path, char *text, size_t size)
{
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n = fread(text, 1, size, f);
    fclose(f);
    return n;
}

static void makes_keys_once(void **state)
{
    (void)state;
    const char *key = broker_file(&pki, "new.key"), *pub = broker_file(&pki, "new.pub");
    char before[4096], after[4096];
    struct stat st;
    mode_t mask = umask(0);
    assert_int_equal(pki_make_key(key, pub, why, sizeof why), 0);
    umask(mask);
    assert_int_equal(stat(key, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(openssl("ec -in %s -check", key, ""), 0);
    assert_int_equal(openssl("pkey -pubin -in %s", pub, ""), 0);
    size_t n = read_file(key, before, sizeof before);
    assert_int_equal(pki_make_key(key, NULL, why, sizeof why), -EEXIST);
    assert_non_null(strstr(why, key));
    assert_int_equal(read_file(key, after, sizeof after), n);
    assert_memory_equal(before, after, n);
    assert_int_equal(pki_make_key("/nonexistent/x.key", NULL, why, sizeof why), -ENOENT);
    assert_non_null(strstr(why, "/nonexistent/x.key"));
}

/* Request made here, signed with openssl, certificate checked here. */
static void requests_certificates(void **state)
{
    (void)state;
    const char *key = broker_file(&pki, "gw.key"), *csr = broker_file(&pki, "gw.csr");
    struct pki_cert cert;
    assert_int_equal(pki_make_key(key, NULL, why, sizeof why), 0);
    assert_int_equal(pki_make_csr(key, "gw-1", csr, why, sizeof why), 0);
    assert_int_equal(pki_make_csr(key, "gw-1", csr, why, sizeof why), 0); /* again: replaced */
    assert_int_equal(pki_make_csr(key, "gw/1", csr, why, sizeof why), -EINVAL);
    assert_int_equal(openssl("req -in %s -verify -noout", csr, ""), 0);
    assert_int_equal(openssl("req -in %s -noout -text | grep -q 'DNS:gw-1' && openssl req -in %s "
                             "-noout -subject | grep -q 'CN = gw-1'",
                             csr, csr),
                     0);
    assert_int_equal(openssl("x509 -req -in %s -CA ca.crt -CAkey ca.key -CAcreateserial -days 10 "
                             "-out %s",
                             csr, "gw.crt"),
                     0);
    assert_int_equal(pki_describe(broker_file(&pki, "gw.crt"), &cert, why, sizeof why), 0);
    assert_string_equal(cert.common_name, "gw-1");
    assert_string_equal(cert.subject, "CN=gw-1");
    assert_string_equal(cert.issuer, "CN=nilm test ca");
    assert_false(cert.is_ca);
    int64_t now = (int64_t)time(NULL);
    assert_true(cert.not_before_s <= now && cert.not_after_s > now + 9 * 86400 &&
                cert.not_after_s < now + 11 * 86400);
    assert_non_null(strstr(cert.key_type, "256"));
    assert_int_equal(pki_check_pair(broker_file(&pki, "gw.crt"), key, why, sizeof why), 0);
    assert_int_equal(pki_check_pair(broker_file(&pki, "gw.crt"), broker_file(&pki, "device.key"),
                                    why, sizeof why),
                     -EKEYREJECTED);
    assert_int_equal(
        pki_check_chain(broker_file(&pki, "gw.crt"), broker_file(&pki, "ca.crt"), why, sizeof why),
        0);
    assert_int_equal(pki_describe(broker_file(&pki, "ca.crt"), &cert, why, sizeof why), 0);
    assert_true(cert.is_ca);
}

static void tells_what_is_wrong(void **state)
{
    (void)state;
    const char *ca = broker_file(&pki, "ca.crt"), *bad = broker_file(&pki, "bad.pem");
    struct pki_cert cert;
    assert_int_equal(pki_check_chain(broker_file(&pki, "stranger.crt"), ca, why, sizeof why),
                     -EKEYREJECTED);
    assert_non_null(strstr(why, "not signed by a trusted CA"));
    assert_int_equal(pki_check_chain(broker_file(&pki, "expired-client.crt"), ca, why, sizeof why),
                     -EKEYREJECTED);
    assert_non_null(strstr(why, "has expired"));
    assert_int_equal(pki_describe("/nonexistent", &cert, why, sizeof why), -ENOENT);
    write_file(bad, "", 0);
    assert_int_equal(pki_describe(bad, &cert, why, sizeof why), -EBADMSG);
    assert_non_null(strstr(why, "empty"));
    assert_int_equal(truncate(bad, 1 << 21), 0);
    assert_int_equal(pki_describe(bad, &cert, why, sizeof why), -EBADMSG);
    assert_non_null(strstr(why, "too large"));
    assert_int_equal(pki_describe(pki.dir, &cert, why, sizeof why), -EBADMSG);
    unlink(bad);
    assert_int_equal(mkfifo(bad, 0600), 0);
    assert_int_equal(pki_describe(bad, &cert, why, sizeof why), -EBADMSG);
    unlink(bad);
    assert_int_equal(pki_check_pair(broker_file(&pki, "device.crt"), ca, why, sizeof why),
                     -EBADMSG);
    assert_int_equal(openssl("ec -in device.key -aes256 -passout pass:x -out %s", "locked.key", ""),
                     0);
    assert_int_equal(pki_check_pair(broker_file(&pki, "device.crt"),
                                    broker_file(&pki, "locked.key"), why, sizeof why),
                     -EBADMSG);
    assert_non_null(strstr(why, "password"));
}

static void signs_and_verifies(void **state)
{
    (void)state;
    const char *key = broker_file(&pki, "sign.key"), *pub = broker_file(&pki, "sign.pub");
    uint8_t signature[PKI_SIGNATURE_BYTES], digest[32];
    size_t size;
    char id[PKI_KEY_ID_BYTES], same[PKI_KEY_ID_BYTES], hex[65];
    struct pki_ring *ring;

    pki_sha256("abc", 3, digest);
    pki_hex(digest, 32, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(pki_make_key(key, pub, why, sizeof why), 0);
    assert_int_equal(pki_sign(key, "hello", 5, signature, &size, id, why, sizeof why), 0);
    assert_int_equal(pki_key_id(key, same, why, sizeof why), 0);
    assert_string_equal(id, same);
    assert_int_equal(pki_ring_load(pub, &ring, why, sizeof why), 0);
    assert_int_equal(pki_ring_count(ring), 1);
    assert_int_equal(pki_verify(ring, id, "hello", 5, signature, size, why, sizeof why), 0);
    assert_int_equal(pki_verify(ring, id, "hellO", 5, signature, size, why, sizeof why),
                     -EKEYREJECTED);
    assert_int_equal(
        pki_verify(ring, "0000000000000000", "hello", 5, signature, size, why, sizeof why),
        -ENOKEY);
    for (size_t bit = 0; bit < 8 * size; bit++) {
        signature[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(pki_verify(ring, id, "hello", 5, signature, size, why, sizeof why),
                         -EKEYREJECTED);
        signature[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    /* openssl agrees */
    write_file(broker_file(&pki, "sig"), signature, size);
    write_file(broker_file(&pki, "msg"), "hello", 5);
    assert_int_equal(openssl("dgst -sha256 -verify sign.pub -signature %s %s", "sig", "msg"), 0);
    pki_ring_free(ring);
    assert_int_equal(openssl("genrsa -out rsa.key 2048", "", ""), 0);
    assert_int_equal(
        pki_sign(broker_file(&pki, "rsa.key"), "x", 1, signature, &size, id, why, sizeof why),
        -EBADMSG);
    assert_non_null(strstr(why, "P-256"));
}

static void loads_rings(void **state)
{
    (void)state;
    char folder[128], path[160];
    struct pki_ring *ring;
    snprintf(folder, sizeof folder, "%s/ring", pki.dir);
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_int_equal(pki_ring_load(folder, &ring, why, sizeof why), 0);
    assert_int_equal(pki_ring_count(ring), 0);
    pki_ring_free(ring);
    for (int i = 0; i < 3; i++) {
        char key[160];
        snprintf(key, sizeof key, "%s/%d.key", folder, i);
        snprintf(path, sizeof path, "%s/%d.pub", folder, i);
        assert_int_equal(pki_make_key(key, path, why, sizeof why), 0);
    }
    assert_int_equal(pki_ring_load(folder, &ring, why, sizeof why), 0);
    assert_int_equal(pki_ring_count(ring), 3); /* the private keys beside them do not count */
    pki_ring_free(ring);
    snprintf(path, sizeof path, "%s/bad.pub", folder);
    write_file(path, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", 57);
    assert_int_equal(pki_ring_load(folder, &ring, why, sizeof why), -EBADMSG);
    assert_non_null(strstr(why, "bad.pub"));
    assert_null(ring);
    assert_int_equal(
        openssl("ecparam -name secp384r1 -genkey -noout -out 384.key && openssl ec -in "
                "384.key -pubout -out %s/ring/bad.pub",
                pki.dir, ""),
        0);
    assert_int_equal(pki_ring_load(folder, &ring, why, sizeof why), -EBADMSG);
    assert_non_null(strstr(why, "P-256"));
    assert_int_equal(pki_ring_load("/nonexistent", &ring, why, sizeof why), -ENOENT);
}

/* Certificates, keys and public keys cut at every length and mutated: refused or accepted, never
 * worse. */
static void survives_hostile_files(void **state)
{
    (void)state;
    static const char *const names[] = {"device.crt", "device.key", "fuzz.pub"};
    const char *path = broker_file(&pki, "hostile");
    static char text[8192], copy[8192];
    unsigned seed = 3;
    assert_int_equal(
        pki_make_key(broker_file(&pki, "fuzz.key"), broker_file(&pki, "fuzz.pub"), why, sizeof why),
        0);
    for (int which = 0; which < 3; which++) {
        size_t n = read_file(broker_file(&pki, names[which]), text, sizeof text);
        for (size_t i = 0; i < n + 1500; i++) {
            size_t bytes = i < n ? i : n;
            struct pki_cert cert;
            struct pki_ring *ring;
            uint8_t signature[PKI_SIGNATURE_BYTES];
            char id[PKI_KEY_ID_BYTES];
            memcpy(copy, text, n);
            for (int k = 0; i >= n && k < 1 + (int)(i % 3); k++)
                copy[(size_t)rand_r(&seed) % n] = (char)rand_r(&seed);
            write_file(path, copy, bytes);
            int rc = which == 0   ? pki_describe(path, &cert, why, sizeof why)
                     : which == 1 ? pki_sign(path, "x", 1, signature, &bytes, id, why, sizeof why)
                                  : pki_ring_load(path, &ring, why, sizeof why);
            if (rc == 0 && which == 2)
                pki_ring_free(ring);
            if (rc != 0)
                assert_non_null(strstr(why, path));
            /* The last line may lack its break; all that is shorter is refused. */
            if (i + 10 < n)
                assert_int_not_equal(rc, 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(makes_keys_once),     cmocka_unit_test(requests_certificates),
        cmocka_unit_test(tells_what_is_wrong), cmocka_unit_test(signs_and_verifies),
        cmocka_unit_test(loads_rings),         cmocka_unit_test(survives_hostile_files),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
