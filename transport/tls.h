/* tls.h - what pki.c and channel.c share of mbedTLS; internal to transport.
 *
 * Covers the differences between mbedTLS 2.28 and 3.6, files of certificates and keys, and the
 * words in which TLS problems are told to the operator. Thread-safe: every object is the caller's.
 */
#ifndef TRANSPORT_TLS_H
#define TRANSPORT_TLS_H

#include <stddef.h>
#include <stdint.h>

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/pk.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>

/* Names that became private in 3.0 and have no accessor in every 3.x. */
#ifndef MBEDTLS_PRIVATE
#define MBEDTLS_PRIVATE(member) member
#endif

#define TLS_MAX_PEM (1u << 20) /* a file of certificates or keys is never larger */

/* A seeded random generator. */
struct tls_rng {
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context drbg;
};

/* Writes the text (printf form) into why, which may be NULL, and returns -error. */
__attribute__((format(printf, 4, 5))) int tls_why(char *why, size_t why_size, int error,
                                                  const char *format, ...);

/* Prepares the library (PSA in 3.x); cheap when repeated. 0 or an mbedTLS code. */
int tls_start(void);
/* tls_rng_free is right also after a failed init. 0 or an mbedTLS code. */
int tls_rng_init(struct tls_rng *rng);
void tls_rng_free(struct tls_rng *rng);

/* Reads a whole file of at most TLS_MAX_PEM bytes into *data with a NUL after it (*size counts the
 * NUL, as mbedTLS's PEM parsers want). Release with tls_file_free, which wipes. */
int tls_file_read(const char *path, unsigned char **data, size_t *size, char *why, size_t why_size);
void tls_file_free(unsigned char *data, size_t size);

/* Parse PEM (or DER) files into initialised objects; errors name the file. -ENOENT..., -EBADMSG. */
int tls_load_certs(mbedtls_x509_crt *chain, const char *path, char *why, size_t why_size);
int tls_load_key(mbedtls_pk_context *key, const char *path, struct tls_rng *rng, char *why,
                 size_t why_size);
/* The same from memory (size counts the NUL behind the text); name is for messages. */
int tls_parse_certs(mbedtls_x509_crt *chain, const unsigned char *data, size_t size,
                    const char *name, char *why, size_t why_size);
int tls_parse_key(mbedtls_pk_context *key, const unsigned char *data, size_t size, const char *name,
                  struct tls_rng *rng, char *why, size_t why_size);
/* Unix time of a certificate's date. */
int64_t tls_unix_time(const mbedtls_x509_time *t);
/* 0 when the private key fits the certificate. */
int tls_check_pair(const mbedtls_x509_crt *cert, const mbedtls_pk_context *key,
                   struct tls_rng *rng);
/* An ECDSA P-256 key: the only kind that signs bundles and that pki_make_key makes. */
int tls_is_p256(const mbedtls_pk_context *key);

/* Words, written into text (size bytes), which they return. */
const char *tls_code_text(int code, char *text, size_t size);        /* an mbedTLS error */
const char *tls_flags_text(uint32_t flags, char *text, size_t size); /* MBEDTLS_X509_BADCERT_... */
const char *tls_alert_text(int alert); /* RFC 8446 section 6; what it means for the operator */

#endif
