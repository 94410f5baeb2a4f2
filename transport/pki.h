/* pki.h - keys, certificate requests and certificates on the device (mbedTLS), and hashes and signatures of bundles.
 *
 * Keys are ECDSA P-256, PEM. Private keys are written with mode 0600, durably, and never overwritten.
 * Every function returns 0 or -errno and puts the reason, naming the file, into why. Thread-safe.
 */
#ifndef TRANSPORT_PKI_H
#define TRANSPORT_PKI_H

#include <stddef.h>
#include <stdint.h>

#define PKI_KEY_ID_BYTES 17 /* 16 hex digits of the SHA-256 of the DER public key, and NUL */
#define PKI_SIGNATURE_BYTES 80 /* room for a DER ECDSA P-256 signature */

/* Makes a key pair: private key in key_path, and, unless NULL, the public key in public_path. -EEXIST leaves it as it is. */
int pki_make_key(const char *key_path, const char *public_path, char *why, size_t why_size);
/* Writes a CSR for the key: subject CN=common_name, SAN DNS:common_name. Replaces csr_path atomically. */
int pki_make_csr(const char *key_path, const char *common_name, const char *csr_path, char *why, size_t why_size);

struct pki_cert {
    char subject[256], issuer[256], common_name[64];
    int64_t not_before_s, not_after_s; /* Unix time */
    char key_type[32];
    int is_ca;
};
/* Describes the first certificate of a PEM file. -EBADMSG when there is none. */
int pki_describe(const char *cert_path, struct pki_cert *out, char *why, size_t why_size);
/* The key in key_path belongs to the first certificate of cert_path: 0, or -EKEYREJECTED. */
int pki_check_pair(const char *cert_path, const char *key_path, char *why, size_t why_size);
/* The certificate chain leads to one of ca_path, now: 0, or -EKEYREJECTED with the reasons in words. */
int pki_check_chain(const char *cert_path, const char *ca_path, char *why, size_t why_size);

void pki_sha256(const void *data, size_t size, uint8_t digest[32]);
void pki_hex(const uint8_t *bytes, size_t count, char *text); /* 2*count+1 chars */

/* Signs SHA-256(data) with a private key file: DER signature and the id of its public key. */
int pki_sign(const char *key_path, const void *data, size_t size, uint8_t *signature, size_t *signature_size,
             char key_id[PKI_KEY_ID_BYTES], char *why, size_t why_size);

/* The id alone of the public key that belongs to a private key file. */
int pki_key_id(const char *key_path, char key_id[PKI_KEY_ID_BYTES], char *why, size_t why_size);

/* A key ring: every *.pub (PEM public key) of a folder, or a single file. */
struct pki_ring;
int pki_ring_load(const char *path, struct pki_ring **out, char *why, size_t why_size);
size_t pki_ring_count(const struct pki_ring *r);
void pki_ring_free(struct pki_ring *r);
/* 0; -ENOKEY when no key has that id; -EKEYREJECTED when the signature is wrong. */
int pki_verify(const struct pki_ring *r, const char *key_id, const void *data, size_t size, const uint8_t *signature,
               size_t signature_size, char *why, size_t why_size);

#endif
