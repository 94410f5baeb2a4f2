#include "transport/credentials.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

struct blob {
    unsigned char *data; /* with a NUL, as mbedTLS's PEM parsers want */
    size_t size;
};

struct credentials {
    atomic_uint users;
    int has_cert;
    int64_t expiry_s;
    struct blob ca, cert, key;
};

static int read_files(struct credentials *c, const char *ca_path, const char *cert_path,
                      const char *key_path, char *why, size_t why_size)
{
    int rc = tls_file_read(ca_path, &c->ca.data, &c->ca.size, why, why_size);
    if (rc == 0 && cert_path)
        rc = tls_file_read(cert_path, &c->cert.data, &c->cert.size, why, why_size);
    if (rc == 0 && cert_path)
        rc = tls_file_read(key_path, &c->key.data, &c->key.size, why, why_size);
    return rc;
}

/* names: of ca, certificate and key, for messages. */
static int parse(const struct credentials *c, const char *const names[3], mbedtls_x509_crt *ca,
                 mbedtls_x509_crt *cert, mbedtls_pk_context *key, struct tls_rng *rng, char *why,
                 size_t why_size)
{
    int rc = tls_parse_certs(ca, c->ca.data, c->ca.size, names[0], why, why_size);
    if (rc == 0 && c->has_cert)
        rc = tls_parse_certs(cert, c->cert.data, c->cert.size, names[1], why, why_size);
    if (rc == 0 && c->has_cert)
        rc = tls_parse_key(key, c->key.data, c->key.size, names[2], rng, why, why_size);
    return rc;
}

int credentials_parse(const struct credentials *c, mbedtls_x509_crt *ca, mbedtls_x509_crt *cert,
                      mbedtls_pk_context *key, struct tls_rng *rng, char *why, size_t why_size)
{
    static const char *const names[3] = {"CA", "certificate", "key"};
    return parse(c, names, ca, cert, key, rng, why, why_size);
}

static int check(struct credentials *c, const char *const names[3], char *why, size_t why_size)
{
    mbedtls_x509_crt ca, cert;
    mbedtls_pk_context key;
    struct tls_rng rng;
    char text[160];
    mbedtls_x509_crt_init(&ca);
    mbedtls_x509_crt_init(&cert);
    mbedtls_pk_init(&key);
    int code = tls_rng_init(&rng);
    int rc = code != 0 ? tls_why(why, why_size, EIO, "TLS cannot be set up: %s",
                                 tls_code_text(code, text, sizeof text))
                       : parse(c, names, &ca, &cert, &key, &rng, why, why_size);
    if (rc == 0 && c->has_cert && tls_check_pair(&cert, &key, &rng) != 0)
        rc = tls_why(why, why_size, EKEYREJECTED, "%s: is not the key of the certificate %s",
                     names[2], names[1]);
    if (rc == 0 && c->has_cert)
        c->expiry_s = tls_unix_time(&cert.valid_to);
    mbedtls_pk_free(&key);
    mbedtls_x509_crt_free(&cert);
    mbedtls_x509_crt_free(&ca);
    tls_rng_free(&rng);
    return rc;
}

int credentials_load(const char *ca_path, const char *cert_path, const char *key_path,
                     struct credentials **out, char *why, size_t why_size)
{
    const char *const names[3] = {ca_path, cert_path, key_path};
    *out = NULL;
    struct credentials *c = calloc(1, sizeof *c);
    if (!c)
        return tls_why(why, why_size, ENOMEM, "TLS: out of memory");
    atomic_init(&c->users, 1);
    c->has_cert = cert_path != NULL;
    int rc = read_files(c, ca_path, cert_path, key_path, why, why_size);
    if (rc == 0)
        rc = check(c, names, why, why_size);
    if (rc != 0)
        credentials_release(c);
    else
        *out = c;
    return rc;
}

struct credentials *credentials_keep(struct credentials *c)
{
    if (c)
        atomic_fetch_add(&c->users, 1);
    return c;
}

void credentials_release(struct credentials *c)
{
    if (!c || atomic_fetch_sub(&c->users, 1) != 1)
        return;
    tls_file_free(c->ca.data, c->ca.size);
    tls_file_free(c->cert.data, c->cert.size);
    tls_file_free(c->key.data, c->key.size);
    free(c);
}

int credentials_have_cert(const struct credentials *c)
{
    return c->has_cert;
}

int64_t credentials_expiry(const struct credentials *c)
{
    return c->expiry_s;
}
