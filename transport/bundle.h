/* bundle.h - a model on its way: manifest, model file, signature (SPEC.md section 2). Hostile until verified.
 *
 * Layout, little-endian: "NILB", u16 format (1), u16 flags (0), u32 manifest bytes, u32 model bytes, u32 0,
 * 16 bytes key id (hex text), manifest (JSON), model, signature (DER ECDSA P-256 over SHA-256 of all bytes before it,
 * so key id and lengths are signed; it reaches to the end of the bundle, since its own length is not known before).
 * An unsigned bundle has a key id of zero bytes and no signature.
 */
#ifndef TRANSPORT_BUNDLE_H
#define TRANSPORT_BUNDLE_H

#include <stddef.h>
#include <stdint.h>

#include "transport/pki.h"

#define BUNDLE_MAX_BYTES (65u << 20)
#define BUNDLE_MAX_MANIFEST 65536u

struct bundle_manifest { /* all signed */
    char family[32];
    uint32_t version;
    char name[64];           /* free text for people */
    char sha256[65];         /* of the model bytes, hex */
    uint64_t model_bytes;
    uint32_t window, period_ms;
    char input_scaling[128];   /* e.g. "log:4000 log_diff:4000": must match the model's */
    char min_agent[16];      /* smallest agent version, "0.1.0" */
    int64_t created_s, expires_s; /* Unix time; expires 0 = never */
    int allow_downgrade;     /* a signed order to accept a lower version */
    uint32_t label_count;
    char (*labels)[32];      /* owned by the bundle when parsed */
};

struct bundle { /* a parsed view; points into the caller's bytes, which must stay */
    struct bundle_manifest manifest;
    const uint8_t *model;
    size_t model_bytes;
    char key_id[PKI_KEY_ID_BYTES]; /* "" when unsigned */
    const uint8_t *signature;
    size_t signature_bytes;
    size_t signed_bytes;
};

/* Parses and checks structure, manifest and the model's hash and size; not the signature. -EBADMSG, -ENOTSUP, -EFBIG, -ENOMEM
 * with the field in why. Release with bundle_free. */
int bundle_parse(const void *data, size_t size, struct bundle *out, char *why, size_t why_size);
void bundle_free(struct bundle *b);
/* Signature by a key of the ring: 0, -ENOKEY, -EKEYREJECTED (also for an unsigned bundle). */
int bundle_verify(const struct bundle *b, const void *data, const struct pki_ring *ring, char *why, size_t why_size);
/* Makes an unsigned bundle (new buffer, free()). sha256 and model_bytes of the manifest are computed. */
int bundle_build(const struct bundle_manifest *m, const void *model, size_t model_bytes, void **data, size_t *size,
                 char *why, size_t why_size);
/* Makes a signed copy of a bundle (signed or not). */
int bundle_sign(const void *data, size_t size, const char *key_path, void **out, size_t *out_size, char *why,
                size_t why_size);
/* -1, 0, 1 for dotted versions "a.b.c"; a missing part counts as 0. */
int bundle_compare_versions(const char *a, const char *b);

#endif
