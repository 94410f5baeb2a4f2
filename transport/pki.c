/* pki.c - keys, certificate requests and certificates on the device; hashes and signatures
 * (mbedTLS). */
#include "transport/pki.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <mbedtls/asn1write.h>
#include <mbedtls/ecp.h>
#include <mbedtls/oid.h>
#include <mbedtls/pem.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/sha256.h>
#include <mbedtls/x509_csr.h>

#include "transport/tls.h"
#include "transport/topic.h"

#define PEM_ROOM 4096
#define DER_ROOM 512

/* The folder of a path, opened; for fsync after a name in it changed. */
static int open_folder(const char *path)
{
    char folder[4096];
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (n >= sizeof folder)
        return -1;
    memcpy(folder, path, n);
    folder[n] = '\0';
    return open(!slash ? "." : n == 0 ? "/" : folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int write_all(int fd, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, text, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        text += n;
        size -= (size_t)n;
    }
    return fsync(fd) == 0 ? 0 : -errno;
}

/* Writes text to path durably, by way of a temporary file beside it. replace: an existing file may
 * go. */
static int write_file(const char *path, const char *text, mode_t mode, int replace, char *why,
                      size_t why_size)
{
    char temporary[4096];
    int rc = 0, n = snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    if (n < 0 || (size_t)n >= sizeof temporary)
        return tls_why(why, why_size, ENAMETOOLONG, "%s: path too long", path);
    int fd = mkstemp(temporary);
    if (fd < 0)
        return tls_why(why, why_size, errno, "%s: cannot be created: %s", path, strerror(errno));
    rc = write_all(fd, text, strlen(text));
    if (fchmod(fd, mode) != 0 && rc == 0)
        rc = -errno;
    if (close(fd) != 0 && rc == 0)
        rc = -errno;
    /* link() refuses an existing name in one step: two who make a key at once cannot overwrite each
     * other. */
    if (rc == 0 && (replace ? rename(temporary, path) : link(temporary, path)) != 0)
        rc = -errno;
    if (rc != 0 || !replace)
        unlink(temporary);
    if (rc == 0) {
        int folder = open_folder(path);
        if (folder < 0 || fsync(folder) != 0)
            rc = -errno;
        if (folder >= 0)
            close(folder);
    }
    if (rc != 0)
        return tls_why(why, why_size, -rc, "%s: cannot be written: %s", path, strerror(-rc));
    return 0;
}

static int key_id_of(const mbedtls_pk_context *key, char key_id[PKI_KEY_ID_BYTES])
{
    unsigned char der[DER_ROOM];
    uint8_t digest[32];
    /* Older headers lack the const. The DER is written at the end of the buffer. */
    int n = mbedtls_pk_write_pubkey_der((mbedtls_pk_context *)key, der, sizeof der);
    if (n < 0)
        return n;
    pki_sha256(der + sizeof der - (size_t)n, (size_t)n, digest);
    pki_hex(digest, (PKI_KEY_ID_BYTES - 1) / 2, key_id);
    return 0;
}

int pki_make_key(const char *key_path, const char *public_path, char *why, size_t why_size)
{
    struct tls_rng rng;
    mbedtls_pk_context key;
    unsigned char private_pem[PEM_ROOM] = {0}, public_pem[PEM_ROOM] = {0};
    char text[160];
    int rc = 0;

    if (access(key_path, F_OK) == 0)
        return tls_why(why, why_size, EEXIST, "%s: exists already; left as it is", key_path);
    mbedtls_pk_init(&key);
    int code = tls_rng_init(&rng);
    if (code == 0)
        code = mbedtls_pk_setup(&key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
    if (code == 0)
        code = mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(key),
                                   mbedtls_ctr_drbg_random, &rng.drbg);
    if (code == 0)
        code = mbedtls_pk_write_key_pem(&key, private_pem, sizeof private_pem);
    if (code == 0)
        code = mbedtls_pk_write_pubkey_pem(&key, public_pem, sizeof public_pem);
    if (code != 0)
        rc = tls_why(why, why_size, EIO, "%s: no key could be made (%s)", key_path,
                     tls_code_text(code, text, sizeof text));
    if (rc == 0)
        rc = write_file(key_path, (const char *)private_pem, 0600, 0, why, why_size);
    if (rc == 0 && public_path)
        rc = write_file(public_path, (const char *)public_pem, 0644, 1, why, why_size);
    mbedtls_platform_zeroize(private_pem, sizeof private_pem);
    mbedtls_pk_free(&key);
    tls_rng_free(&rng);
    return rc;
}

/* subjectAltName with one dNSName (RFC 5280 section 4.2.1.6): lengths fit one byte since a name has
 * at most 63. */
static int set_san(mbedtls_x509write_csr *csr, const char *name)
{
    unsigned char der[4 + TOPIC_NAME_BYTES];
    size_t n = strlen(name);
    der[0] = MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE;
    der[1] = (unsigned char)(n + 2);
    der[2] = MBEDTLS_ASN1_CONTEXT_SPECIFIC | 2;
    der[3] = (unsigned char)n;
    memcpy(der + 4, name, n);
    return mbedtls_x509write_csr_set_extension(csr, MBEDTLS_OID_SUBJECT_ALT_NAME,
                                               MBEDTLS_OID_SIZE(MBEDTLS_OID_SUBJECT_ALT_NAME),
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
                                               0,
#endif
                                               der, n + 4);
}

int pki_make_csr(const char *key_path, const char *common_name, const char *csr_path, char *why,
                 size_t why_size)
{
    struct tls_rng rng;
    mbedtls_pk_context key;
    mbedtls_x509write_csr csr;
    unsigned char pem[PEM_ROOM] = {0};
    char subject[TOPIC_NAME_BYTES + 4], text[160];

    if (topic_check_name(common_name) != 0)
        return tls_why(why, why_size, EINVAL,
                       "common name: expected 1 to 63 of A-Z a-z 0-9 . _ -, not starting with '.' "
                       "or '-'");
    snprintf(subject, sizeof subject, "CN=%s", common_name);
    mbedtls_pk_init(&key);
    mbedtls_x509write_csr_init(&csr);
    int code = tls_rng_init(&rng);
    int rc = code == 0 ? tls_load_key(&key, key_path, &rng, why, why_size) : 0;
    if (rc != 0)
        goto out;
    mbedtls_x509write_csr_set_md_alg(&csr, MBEDTLS_MD_SHA256);
    mbedtls_x509write_csr_set_key(&csr, &key);
    if (code == 0)
        code = mbedtls_x509write_csr_set_subject_name(&csr, subject);
    if (code == 0)
        code = mbedtls_x509write_csr_set_key_usage(&csr, MBEDTLS_X509_KU_DIGITAL_SIGNATURE);
    if (code == 0)
        code = set_san(&csr, common_name);
    if (code == 0)
        code = mbedtls_x509write_csr_pem(&csr, pem, sizeof pem, mbedtls_ctr_drbg_random, &rng.drbg);
    if (code != 0) {
        rc = tls_why(why, why_size, EIO, "%s: no certificate request could be made (%s)", csr_path,
                     tls_code_text(code, text, sizeof text));
        goto out;
    }
    rc = write_file(csr_path, (const char *)pem, 0644, 1, why, why_size);
out:
    mbedtls_x509write_csr_free(&csr);
    mbedtls_pk_free(&key);
    tls_rng_free(&rng);
    return rc;
}

static void copy_common_name(const mbedtls_x509_name *name, char *out, size_t size)
{
    for (; name; name = name->next) {
        if (MBEDTLS_OID_CMP(MBEDTLS_OID_AT_CN, &name->oid) != 0)
            continue;
        size_t n = name->val.len < size ? name->val.len : size - 1;
        for (size_t i = 0; i < n; i++) /* it ends on terminals and in logs: no control bytes */
            out[i] = name->val.p[i] < 32 || name->val.p[i] == 127 ? '?' : (char)name->val.p[i];
        out[n] = '\0';
        return;
    }
}

int pki_describe(const char *cert_path, struct pki_cert *out, char *why, size_t why_size)
{
    mbedtls_x509_crt cert;
    memset(out, 0, sizeof *out);
    mbedtls_x509_crt_init(&cert);
    int rc = tls_load_certs(&cert, cert_path, why, why_size);
    if (rc == 0) {
        mbedtls_x509_dn_gets(out->subject, sizeof out->subject, &cert.subject);
        mbedtls_x509_dn_gets(out->issuer, sizeof out->issuer, &cert.issuer);
        copy_common_name(&cert.subject, out->common_name, sizeof out->common_name);
        out->not_before_s = tls_unix_time(&cert.valid_from);
        out->not_after_s = tls_unix_time(&cert.valid_to);
        snprintf(out->key_type, sizeof out->key_type, "%s %u", mbedtls_pk_get_name(&cert.pk),
                 (unsigned)mbedtls_pk_get_bitlen(&cert.pk));
        out->is_ca = cert.MBEDTLS_PRIVATE(ca_istrue) != 0;
    }
    mbedtls_x509_crt_free(&cert);
    return rc;
}

int pki_check_pair(const char *cert_path, const char *key_path, char *why, size_t why_size)
{
    struct tls_rng rng;
    mbedtls_x509_crt cert;
    mbedtls_pk_context key;
    char text[160];

    mbedtls_x509_crt_init(&cert);
    mbedtls_pk_init(&key);
    int code = tls_rng_init(&rng);
    int rc = code == 0 ? 0
                       : tls_why(why, why_size, EIO, "random numbers: %s",
                                 tls_code_text(code, text, sizeof text));
    if (rc == 0)
        rc = tls_load_certs(&cert, cert_path, why, why_size);
    if (rc == 0)
        rc = tls_load_key(&key, key_path, &rng, why, why_size);
    if (rc == 0 && tls_check_pair(&cert, &key, &rng) != 0)
        rc = tls_why(why, why_size, EKEYREJECTED, "%s: is not the key of the certificate %s",
                     key_path, cert_path);
    mbedtls_pk_free(&key);
    mbedtls_x509_crt_free(&cert);
    tls_rng_free(&rng);
    return rc;
}

int pki_check_chain(const char *cert_path, const char *ca_path, char *why, size_t why_size)
{
    mbedtls_x509_crt cert, ca;
    uint32_t flags = 0;
    char text[256];

    mbedtls_x509_crt_init(&cert);
    mbedtls_x509_crt_init(&ca);
    int rc = tls_start() == 0 ? 0 : tls_why(why, why_size, EIO, "mbedTLS does not start");
    if (rc == 0)
        rc = tls_load_certs(&cert, cert_path, why, why_size);
    if (rc == 0)
        rc = tls_load_certs(&ca, ca_path, why, why_size);
    if (rc == 0) {
        int code = mbedtls_x509_crt_verify(&cert, &ca, NULL, NULL, &flags, NULL, NULL);
        if (code == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED)
            rc = tls_why(why, why_size, EKEYREJECTED, "%s: not valid under %s: %s", cert_path,
                         ca_path, tls_flags_text(flags, text, sizeof text));
        else if (code != 0)
            rc = tls_why(why, why_size, EKEYREJECTED, "%s: not valid under %s: %s", cert_path,
                         ca_path, tls_code_text(code, text, sizeof text));
    }
    mbedtls_x509_crt_free(&ca);
    mbedtls_x509_crt_free(&cert);
    return rc;
}

void pki_sha256(const void *data, size_t size, uint8_t digest[32])
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    (void)tls_start(); /* 3.6 hashes through PSA */
    (void)mbedtls_sha256(data, size, digest, 0);
#else
    (void)mbedtls_sha256_ret(data, size, digest, 0);
#endif
}

void pki_hex(const uint8_t *bytes, size_t count, char *text)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < count; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    text[2 * count] = '\0';
}

/* Loads a private key that may sign bundles, and a random generator; both to be freed also after an
 * error. */
static int load_signer(mbedtls_pk_context *key, struct tls_rng *rng, const char *key_path,
                       char key_id[PKI_KEY_ID_BYTES], char *why, size_t why_size)
{
    mbedtls_pk_init(key);
    if (tls_rng_init(rng) != 0)
        return tls_why(why, why_size, EIO, "no random numbers from the system");
    int rc = tls_load_key(key, key_path, rng, why, why_size);
    if (rc == 0 && !tls_is_p256(key))
        rc = tls_why(why, why_size, EBADMSG, "%s: not an ECDSA P-256 key", key_path);
    if (rc == 0 && key_id_of(key, key_id) != 0)
        rc = tls_why(why, why_size, EIO, "%s: the public key cannot be encoded", key_path);
    return rc;
}

int pki_key_id(const char *key_path, char key_id[PKI_KEY_ID_BYTES], char *why, size_t why_size)
{
    struct tls_rng rng;
    mbedtls_pk_context key;
    int rc = load_signer(&key, &rng, key_path, key_id, why, why_size);
    mbedtls_pk_free(&key);
    tls_rng_free(&rng);
    return rc;
}

int pki_sign(const char *key_path, const void *data, size_t size, uint8_t *signature,
             size_t *signature_size, char key_id[PKI_KEY_ID_BYTES], char *why, size_t why_size)
{
    struct tls_rng rng;
    mbedtls_pk_context key;
    uint8_t digest[32];
    char text[160];

    int rc = load_signer(&key, &rng, key_path, key_id, why, why_size);
    if (rc == 0) {
        pki_sha256(data, size, digest);
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
        int code = mbedtls_pk_sign(&key, MBEDTLS_MD_SHA256, digest, sizeof digest, signature,
                                   PKI_SIGNATURE_BYTES, signature_size, mbedtls_ctr_drbg_random,
                                   &rng.drbg);
#else
        int code = mbedtls_pk_sign(&key, MBEDTLS_MD_SHA256, digest, sizeof digest, signature,
                                   signature_size, mbedtls_ctr_drbg_random, &rng.drbg);
#endif
        if (code != 0)
            rc = tls_why(why, why_size, EIO, "%s: signing failed (%s)", key_path,
                         tls_code_text(code, text, sizeof text));
    }
    mbedtls_pk_free(&key);
    tls_rng_free(&rng);
    return rc;
}
