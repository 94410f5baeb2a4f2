/* tls.c - mbedTLS 2.28 and 3.6 under one roof, certificate files, and words for errors. */
#include "transport/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <mbedtls/ecp.h>
#include <mbedtls/error.h>
#include <mbedtls/pem.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/ssl.h>
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
#include <psa/crypto.h>
#endif

int tls_why(char *why, size_t why_size, int error, const char *format, ...)
{
    if (why && why_size > 0) {
        va_list args;
        va_start(args, format);
        vsnprintf(why, why_size, format, args);
        va_end(args);
    }
    return -error;
}

int tls_start(void)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    if (psa_crypto_init() != PSA_SUCCESS)
        return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
#endif
    return 0;
}

int tls_rng_init(struct tls_rng *rng)
{
    mbedtls_entropy_init(&rng->entropy);
    mbedtls_ctr_drbg_init(&rng->drbg);
    int code = tls_start();
    if (code == 0)
        code = mbedtls_ctr_drbg_seed(&rng->drbg, mbedtls_entropy_func, &rng->entropy,
                                     (const unsigned char *)"nilmd", 5);
    return code;
}

void tls_rng_free(struct tls_rng *rng)
{
    mbedtls_ctr_drbg_free(&rng->drbg);
    mbedtls_entropy_free(&rng->entropy);
}

int tls_file_read(const char *path, unsigned char **data, size_t *size, char *why, size_t why_size)
{
    unsigned char *bytes = NULL;
    struct stat st;
    size_t have = 0, room = 0;
    int rc;

    *data = NULL;
    *size = 0;
    /* O_NONBLOCK: a FIFO by that name must not hang us. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return tls_why(why, why_size, errno, "%s: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0) {
        rc = tls_why(why, why_size, errno, "%s: %s", path, strerror(errno));
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        rc = tls_why(why, why_size, EBADMSG, "%s: not a regular file", path);
        goto out;
    }
    if (st.st_size == 0 || st.st_size > (off_t)TLS_MAX_PEM) {
        rc = tls_why(why, why_size, EBADMSG, "%s: %s (%lld bytes; expected 1 to %u)", path,
                     st.st_size == 0 ? "empty" : "too large", (long long)st.st_size, TLS_MAX_PEM);
        goto out;
    }
    room = (size_t)st.st_size;
    bytes = calloc(1, room + 1);
    if (!bytes) {
        rc = tls_why(why, why_size, ENOMEM, "%s: out of memory", path);
        goto out;
    }
    while (have < room) {
        ssize_t n = read(fd, bytes + have, room - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            rc = tls_why(why, why_size, errno, "%s: %s", path, strerror(errno));
            goto out;
        }
        if (n == 0)
            break; /* it shrank; the parser judges what is there */
        have += (size_t)n;
    }
    *data = bytes;
    *size = have + 1;
    bytes = NULL;
    rc = 0;
out:
    tls_file_free(bytes, room);
    close(fd);
    return rc;
}

void tls_file_free(unsigned char *data, size_t size)
{
    if (data)
        mbedtls_platform_zeroize(data, size);
    free(data);
}

int tls_parse_certs(mbedtls_x509_crt *chain, const unsigned char *data, size_t size,
                    const char *name, char *why, size_t why_size)
{
    char text[160];
    int code = mbedtls_x509_crt_parse(chain, data, size);
    if (code > 0)
        return tls_why(why, why_size, EBADMSG, "%s: %d of its certificates cannot be read", name,
                       code);
    if (code < 0)
        return tls_why(why, why_size, EBADMSG, "%s: no certificate in PEM form in it (%s)", name,
                       tls_code_text(code, text, sizeof text));
    return 0;
}

int tls_load_certs(mbedtls_x509_crt *chain, const char *path, char *why, size_t why_size)
{
    unsigned char *data;
    size_t size;
    int rc = tls_file_read(path, &data, &size, why, why_size);
    if (rc != 0)
        return rc;
    rc = tls_parse_certs(chain, data, size, path, why, why_size);
    tls_file_free(data, size);
    return rc;
}

int tls_parse_key(mbedtls_pk_context *key, const unsigned char *data, size_t size, const char *name,
                  struct tls_rng *rng, char *why, size_t why_size)
{
    char text[160];
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    int code = mbedtls_pk_parse_key(key, data, size, NULL, 0, mbedtls_ctr_drbg_random, &rng->drbg);
#else
    int code = mbedtls_pk_parse_key(key, data, size, NULL, 0);
    (void)rng;
#endif
    if (code == MBEDTLS_ERR_PK_PASSWORD_REQUIRED || code == MBEDTLS_ERR_PEM_PASSWORD_REQUIRED)
        return tls_why(why, why_size, EBADMSG,
                       "%s: the private key is encrypted; expected one without a password", name);
    if (code != 0)
        return tls_why(why, why_size, EBADMSG, "%s: no private key in PEM form in it (%s)", name,
                       tls_code_text(code, text, sizeof text));
    return 0;
}

int tls_load_key(mbedtls_pk_context *key, const char *path, struct tls_rng *rng, char *why,
                 size_t why_size)
{
    unsigned char *data;
    size_t size;
    int rc = tls_file_read(path, &data, &size, why, why_size);
    if (rc != 0)
        return rc;
    rc = tls_parse_key(key, data, size, path, rng, why, why_size);
    tls_file_free(data, size);
    return rc;
}

int64_t tls_unix_time(const mbedtls_x509_time *t)
{
    struct tm tm = {.tm_year = t->year - 1900,
                    .tm_mon = t->mon - 1,
                    .tm_mday = t->day,
                    .tm_hour = t->hour,
                    .tm_min = t->min,
                    .tm_sec = t->sec};
    return (int64_t)timegm(&tm);
}

int tls_check_pair(const mbedtls_x509_crt *cert, const mbedtls_pk_context *key, struct tls_rng *rng)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    return mbedtls_pk_check_pair(&cert->pk, key, mbedtls_ctr_drbg_random, &rng->drbg);
#else
    (void)rng;
    return mbedtls_pk_check_pair(&cert->pk, key);
#endif
}

int tls_is_p256(const mbedtls_pk_context *key)
{
    if (!mbedtls_pk_can_do(key, MBEDTLS_PK_ECDSA))
        return 0;
    return mbedtls_pk_ec(*key)->MBEDTLS_PRIVATE(grp).id == MBEDTLS_ECP_DP_SECP256R1;
}

const char *tls_code_text(int code, char *text, size_t size)
{
    char words[120];
    mbedtls_strerror(code, words, sizeof words);
    snprintf(text, size, "%s, -0x%04x", words, (unsigned)-code);
    return text;
}

const char *tls_flags_text(uint32_t flags, char *text, size_t size)
{
    static const struct {
        uint32_t flag;
        const char *words;
    } names[] = {
        {MBEDTLS_X509_BADCERT_NOT_TRUSTED, "it is not signed by a trusted CA"},
        {MBEDTLS_X509_BADCERT_EXPIRED, "it has expired (or this device's clock is wrong)"},
        {MBEDTLS_X509_BADCERT_FUTURE, "it is not valid yet (or this device's clock is wrong)"},
        {MBEDTLS_X509_BADCERT_CN_MISMATCH, "it is for another name"},
        {MBEDTLS_X509_BADCERT_REVOKED, "it was revoked"},
        {MBEDTLS_X509_BADCERT_MISSING, "there is none"},
        {MBEDTLS_X509_BADCERT_KEY_USAGE, "its key usage does not allow this"},
        {MBEDTLS_X509_BADCERT_EXT_KEY_USAGE, "its extended key usage does not allow this"},
        {MBEDTLS_X509_BADCERT_BAD_MD, "its hash function is too weak"},
        {MBEDTLS_X509_BADCERT_BAD_PK, "its signature algorithm is not acceptable"},
        {MBEDTLS_X509_BADCERT_BAD_KEY, "its key is too weak"},
    };
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (!(flags & names[i].flag))
            continue;
        flags &= ~names[i].flag;
        int n = snprintf(text + used, size - used, "%s%s", used ? "; " : "", names[i].words);
        if (n < 0 || (size_t)n >= size - used)
            return text;
        used += (size_t)n;
    }
    if (flags != 0)
        snprintf(text + used, size - used, "%sother reasons (0x%x)", used ? "; " : "", flags);
    return text;
}

const char *tls_alert_text(int alert)
{
    switch (alert) {
    case 0:
        return "the broker closed the TLS session";
    case 20:
        return "the broker got a damaged record (bad MAC)";
    case 40:
        return "the broker refused the handshake: it requires a client certificate, or has no "
               "TLS version (1.2 or later) and cipher in common with us";
    case 42:
        return "the broker finds our client certificate damaged or unacceptable";
    case 43:
        return "the broker does not support this kind of client certificate";
    case 44:
        return "our client certificate was revoked";
    case 45:
        return "our client certificate has expired, by the broker's clock";
    case 46:
        return "the broker did not accept our client certificate";
    case 48:
        return "the broker does not know the CA of our client certificate";
    case 49:
        return "the broker denies access to our client certificate";
    case 51:
        return "the broker could not verify our signature: certificate and key do not match";
    case 70:
        return "the broker supports no TLS version that we accept (1.2 or later)";
    case 71:
        return "the broker demands stronger ciphers";
    case 80:
        return "the broker had an internal error";
    case 112:
        return "the broker does not serve this server name";
    case 116:
        return "the broker requires a client certificate and none was configured";
    default:
        return "the broker ended TLS with an alert";
    }
}
