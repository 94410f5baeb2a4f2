/* ring.c - the key ring: public keys that may sign, and checking signatures against them (pki.h).
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "transport/pki.h"
#include "transport/tls.h"

#define RING_MAX 64u
#define DER_ROOM 128

struct pki_ring {
    size_t count;
    struct {
        char id[PKI_KEY_ID_BYTES];
        unsigned char der[DER_ROOM]; /* parsed again for each use: mbedTLS 2.28 writes into a key
                                        that verifies */
        size_t der_size;
    } keys[RING_MAX];
};

static int has_suffix(const char *name, const char *suffix)
{
    size_t n = strlen(name), m = strlen(suffix);
    return n > m && strcmp(name + n - m, suffix) == 0;
}

/* The public key in data, P-256 or refused with a reason. The key is initialised here and freed by
 * the caller. */
static int parse_key(mbedtls_pk_context *key, const unsigned char *data, size_t size,
                     const char *name, char *why, size_t why_size)
{
    char text[160];
    mbedtls_pk_init(key);
    int code = mbedtls_pk_parse_public_key(key, data, size);
    if (code != 0)
        return tls_why(why, why_size, EBADMSG, "%s: no public key in PEM form in it (%s)", name,
                       tls_code_text(code, text, sizeof text));
    if (!tls_is_p256(key))
        return tls_why(why, why_size, EBADMSG, "%s: not an ECDSA P-256 key", name);
    return 0;
}

static int add_key(struct pki_ring *ring, const char *path, char *why, size_t why_size)
{
    unsigned char *data, der[DER_ROOM];
    size_t size;
    uint8_t digest[32];
    mbedtls_pk_context key;

    if (ring->count == RING_MAX)
        return tls_why(why, why_size, EFBIG, "%s: more than %u keys in the ring", path, RING_MAX);
    int rc = tls_file_read(path, &data, &size, why, why_size);
    if (rc != 0)
        return rc;
    rc = parse_key(&key, data, size, path, why, why_size);
    tls_file_free(data, size);
    int n = rc == 0 ? mbedtls_pk_write_pubkey_der(&key, der, sizeof der) : 0;
    mbedtls_pk_free(&key);
    if (n < 0)
        rc = tls_why(why, why_size, EBADMSG, "%s: the key cannot be encoded", path);
    if (rc != 0)
        return rc;
    ring->keys[ring->count].der_size = (size_t)n; /* the DER is at the end of the buffer */
    memcpy(ring->keys[ring->count].der, der + sizeof der - (size_t)n, (size_t)n);
    pki_sha256(ring->keys[ring->count].der, (size_t)n, digest);
    pki_hex(digest, (PKI_KEY_ID_BYTES - 1) / 2, ring->keys[ring->count].id);
    ring->count++;
    return 0;
}

static int add_folder(struct pki_ring *ring, const char *path, char *why, size_t why_size)
{
    char file[4096];
    int rc = 0;
    DIR *folder = opendir(path);
    if (!folder)
        return tls_why(why, why_size, errno, "%s: %s", path, strerror(errno));
    for (struct dirent *entry; rc == 0 && (entry = readdir(folder)) != NULL;) {
        if (entry->d_name[0] == '.' || !has_suffix(entry->d_name, ".pub"))
            continue;
        int n = snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        rc = n > 0 && (size_t)n < sizeof file
                 ? add_key(ring, file, why, why_size)
                 : tls_why(why, why_size, ENAMETOOLONG, "%s: path too long", path);
    }
    closedir(folder);
    return rc;
}

int pki_ring_load(const char *path, struct pki_ring **out, char *why, size_t why_size)
{
    struct stat st;
    *out = NULL;
    if (stat(path, &st) != 0)
        return tls_why(why, why_size, errno, "%s: %s", path, strerror(errno));
    struct pki_ring *ring = calloc(1, sizeof *ring);
    if (!ring)
        return tls_why(why, why_size, ENOMEM, "%s: out of memory", path);
    int rc = tls_start() == 0 ? 0 : tls_why(why, why_size, EIO, "mbedTLS does not start");
    if (rc == 0)
        rc = S_ISDIR(st.st_mode) ? add_folder(ring, path, why, why_size)
                                 : add_key(ring, path, why, why_size);
    if (rc != 0) {
        pki_ring_free(ring);
        return rc;
    }
    *out = ring;
    return 0;
}

size_t pki_ring_count(const struct pki_ring *r)
{
    return r->count;
}

void pki_ring_free(struct pki_ring *r)
{
    free(r);
}

int pki_verify(const struct pki_ring *r, const char *key_id, const void *data, size_t size,
               const uint8_t *signature, size_t signature_size, char *why, size_t why_size)
{
    uint8_t digest[32];
    for (size_t i = 0; i < r->count; i++) {
        mbedtls_pk_context key;
        if (strcmp(r->keys[i].id, key_id) != 0)
            continue;
        int rc = parse_key(&key, r->keys[i].der, r->keys[i].der_size, key_id, why, why_size);
        pki_sha256(data, size, digest);
        if (rc == 0 && mbedtls_pk_verify(&key, MBEDTLS_MD_SHA256, digest, sizeof digest, signature,
                                         signature_size) != 0)
            rc = tls_why(why, why_size, EKEYREJECTED,
                         "signature: wrong for key %s: the bytes were changed, or another key "
                         "signed",
                         key_id);
        mbedtls_pk_free(&key);
        return rc;
    }
    return tls_why(why, why_size, ENOKEY, "signature: key %s is not on the key ring (%zu keys)",
                   key_id, r->count);
}
