/* client.c - mbedTLS client session: configuration, verification of the broker, errors in words. */
#include "transport/client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>

#include "transport/tls.h"

struct client {
    mbedtls_ssl_context ssl;
    mbedtls_ssl_config conf;
    mbedtls_x509_crt ca, cert;
    mbedtls_pk_context key;
    struct tls_rng rng;
    int fd;
    int send_broken; /* errno of a failed send; what the other side said before is still to be read
                      */
    int code, alert;
    uint32_t flags; /* of the broker's certificate */
    char name[256];
    unsigned char address[16]; /* when name is an IP address */
    size_t address_bytes;
    int clock_known;
    int64_t floor_s, valid_from_s, valid_to_s;
};

/* Forward secrecy and authenticated encryption only. */
static const int suites[] = {
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    MBEDTLS_TLS1_3_AES_128_GCM_SHA256,
    MBEDTLS_TLS1_3_AES_256_GCM_SHA384,
    MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256,
#endif
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    0};

/* A broken pipe is reported as success, so that mbedTLS goes on to read the alert that explains it.
 */
static int bio_send(void *context, const unsigned char *data, size_t size)
{
    struct client *c = context;
    if (c->send_broken)
        return (int)size;
    ssize_t n = send(c->fd, data, size, MSG_NOSIGNAL);
    if (n >= 0)
        return (int)n;
    if (errno == EAGAIN || errno == EINTR)
        return MBEDTLS_ERR_SSL_WANT_WRITE;
    c->send_broken = errno;
    return (int)size;
}

static int bio_recv(void *context, unsigned char *data, size_t size)
{
    struct client *c = context;
    ssize_t n = recv(c->fd, data, size, 0);
    if (n >= 0)
        return (int)n;
    if (errno == EAGAIN || errno == EINTR)
        return c->send_broken ? MBEDTLS_ERR_NET_CONN_RESET : MBEDTLS_ERR_SSL_WANT_READ;
    return MBEDTLS_ERR_NET_CONN_RESET;
}

/* RFC 6125 for IP addresses: an iPAddress of the subjectAltName must be equal. */
static int has_address(const mbedtls_x509_crt *cert, const unsigned char *address, size_t bytes)
{
    const mbedtls_x509_sequence *name = &cert->subject_alt_names;
    for (; name; name = name->next)
        if ((name->buf.tag & 0x1f) == MBEDTLS_X509_SAN_IP_ADDRESS && name->buf.len == bytes &&
            memcmp(name->buf.p, address, bytes) == 0)
            return 1;
    return 0;
}

/* Called for each certificate of the broker's chain, mbedTLS's own findings in *flags. */
static int verify(void *context, mbedtls_x509_crt *cert, int depth, uint32_t *flags)
{
    struct client *c = context;
    int64_t from = tls_unix_time(&cert->valid_from), to = tls_unix_time(&cert->valid_to);
    if (c->address_bytes && depth == 0 && !has_address(cert, c->address, c->address_bytes))
        *flags |= MBEDTLS_X509_BADCERT_CN_MISMATCH;
    if (!c->clock_known) {
        *flags &= ~(uint32_t)(MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCERT_FUTURE);
        if (to < c->floor_s)
            *flags |= MBEDTLS_X509_BADCERT_EXPIRED;
    }
    if (from > c->valid_from_s)
        c->valid_from_s = from;
    if (to < c->valid_to_s)
        c->valid_to_s = to;
    return 0;
}

static void set_address(struct client *c)
{
    if (inet_pton(AF_INET, c->name, c->address) == 1)
        c->address_bytes = 4;
    else if (inet_pton(AF_INET6, c->name, c->address) == 1)
        c->address_bytes = 16;
}

static int configure(struct client *c, int with_cert)
{
    int code = mbedtls_ssl_config_defaults(
        &c->conf, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
    if (code != 0)
        return code;
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    mbedtls_ssl_conf_min_tls_version(&c->conf, MBEDTLS_SSL_VERSION_TLS1_2);
#else
    mbedtls_ssl_conf_min_version(&c->conf, MBEDTLS_SSL_MAJOR_VERSION_3,
                                 MBEDTLS_SSL_MINOR_VERSION_3);
#endif
    mbedtls_ssl_conf_ciphersuites(&c->conf, suites);
    mbedtls_ssl_conf_authmode(&c->conf, MBEDTLS_SSL_VERIFY_REQUIRED);
    mbedtls_ssl_conf_ca_chain(&c->conf, &c->ca, NULL);
    mbedtls_ssl_conf_rng(&c->conf, mbedtls_ctr_drbg_random, &c->rng.drbg);
    if (with_cert)
        code = mbedtls_ssl_conf_own_cert(&c->conf, &c->cert, &c->key);
    mbedtls_ssl_conf_verify(&c->conf, verify, c);
    if (code == 0)
        code = mbedtls_ssl_setup(&c->ssl, &c->conf);
    /* RFC 6066: no IP address in the server name indication. */
    if (code == 0)
        code = mbedtls_ssl_set_hostname(&c->ssl, c->address_bytes ? NULL : c->name);
    mbedtls_ssl_set_bio(&c->ssl, c, bio_send, bio_recv, NULL);
    return code;
}

int client_open(const struct client_config *config, int fd, struct client **out, char *why,
                size_t why_size)
{
    char text[160];
    *out = NULL;
    struct client *c = calloc(1, sizeof *c);
    if (!c)
        return tls_why(why, why_size, ENOMEM, "TLS: out of memory");
    c->fd = fd;
    c->alert = -1;
    c->clock_known = config->clock_known;
    c->floor_s = config->floor_s;
    c->valid_to_s = INT64_MAX;
    snprintf(c->name, sizeof c->name, "%s", config->server_name);
    mbedtls_ssl_init(&c->ssl);
    mbedtls_ssl_config_init(&c->conf);
    mbedtls_x509_crt_init(&c->ca);
    mbedtls_x509_crt_init(&c->cert);
    mbedtls_pk_init(&c->key);
    set_address(c);
    int code = tls_rng_init(&c->rng);
    int rc = code == 0 ? credentials_parse(config->credentials, &c->ca, &c->cert, &c->key, &c->rng,
                                           why, why_size)
                       : 0;
    if (rc == 0 && code == 0)
        code = configure(c, credentials_have_cert(config->credentials));
    if (rc == 0 && code != 0)
        rc = tls_why(why, why_size, EIO, "TLS cannot be set up: %s",
                     tls_code_text(code, text, sizeof text));
    if (rc != 0) {
        client_free(c);
        return rc;
    }
    *out = c;
    return 0;
}

void client_free(struct client *c)
{
    if (!c)
        return;
    mbedtls_ssl_free(&c->ssl);
    mbedtls_ssl_config_free(&c->conf);
    mbedtls_pk_free(&c->key);
    mbedtls_x509_crt_free(&c->cert);
    mbedtls_x509_crt_free(&c->ca);
    tls_rng_free(&c->rng);
    free(c);
}

/* Sorts an mbedTLS code into the results of this header, and remembers what explains it. */
static int result(struct client *c, int code)
{
    if (code == MBEDTLS_ERR_SSL_WANT_READ)
        return CLIENT_WANT_READ;
    if (code == MBEDTLS_ERR_SSL_WANT_WRITE)
        return CLIENT_WANT_WRITE;
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    if (code == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET)
        return CLIENT_WANT_READ;
#endif
    c->code = code;
    if (code == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE && c->ssl.MBEDTLS_PRIVATE(in_msg))
        c->alert = c->ssl.MBEDTLS_PRIVATE(in_msg)[1];
    if (code == 0 || code == MBEDTLS_ERR_SSL_CONN_EOF ||
        code == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY || code == MBEDTLS_ERR_NET_CONN_RESET)
        return CLIENT_CLOSED;
    return CLIENT_FAILED;
}

int client_handshake(struct client *c)
{
    int code = mbedtls_ssl_handshake(&c->ssl);
    if (code == 0)
        return 0;
    /* -1: no certificate was looked at yet. */
    uint32_t flags = mbedtls_ssl_get_verify_result(&c->ssl);
    c->flags = flags == (uint32_t)-1 ? 0 : flags;
    return result(c, code);
}

int client_read(struct client *c, void *data, size_t size)
{
    int n = mbedtls_ssl_read(&c->ssl, data, size);
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    while (n == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET)
        n = mbedtls_ssl_read(&c->ssl, data, size);
#endif
    return n > 0 ? n : result(c, n);
}

int client_write(struct client *c, const void *data, size_t size)
{
    int n = mbedtls_ssl_write(&c->ssl, data, size);
    return n > 0 ? n : result(c, n);
}

void client_finish(struct client *c)
{
    (void)mbedtls_ssl_close_notify(&c->ssl);
}

void client_describe(const struct client *c, char *text, size_t size)
{
    snprintf(text, size, "%s %s", mbedtls_ssl_get_version(&c->ssl),
             mbedtls_ssl_get_ciphersuite(&c->ssl));
}

void client_explain(const struct client *c, int established, char *text, size_t size)
{
    char words[256];
    if (c->code == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED || c->flags != 0)
        snprintf(text, size, "the broker's certificate is not acceptable: %s (expected name: %s)",
                 tls_flags_text(c->flags, words, sizeof words), c->name);
    else if (c->alert >= 0)
        snprintf(text, size, "%s (TLS alert %d)", tls_alert_text(c->alert), c->alert);
    else if (c->code == 0 || c->code == MBEDTLS_ERR_SSL_CONN_EOF ||
             c->code == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY)
        snprintf(text, size, "%s",
                 established ? "the broker closed the connection"
                             : "the broker closed the connection during the TLS handshake (a port "
                               "without TLS, or it refuses us)");
    else if (c->code == MBEDTLS_ERR_NET_CONN_RESET)
        snprintf(text, size, "the connection was reset%s%s",
                 established ? "" : " during the TLS handshake: ",
                 established          ? ""
                 : c->send_broken > 0 ? strerror(c->send_broken)
                                      : "a port without TLS, or the broker refuses us");
    else if (c->code == MBEDTLS_ERR_SSL_INVALID_MAC)
        snprintf(text, size, "a TLS record arrived damaged (wrong MAC)");
    else if (!established && c->code == MBEDTLS_ERR_SSL_INVALID_RECORD)
        snprintf(text, size, "the other side does not speak TLS: is this the broker's TLS port?");
    else
        snprintf(text, size, "TLS failed: %s", tls_code_text(c->code, words, sizeof words));
}

void client_validity(const struct client *c, int64_t *from_s, int64_t *to_s)
{
    *from_s = c->valid_from_s;
    *to_s = c->valid_to_s;
}

int client_code(const struct client *c)
{
    return c->code;
}

int client_alert(const struct client *c)
{
    return c->alert;
}
