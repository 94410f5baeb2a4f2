/* bundle.c - model bundles: taking apart, checking, building, signing. Bytes: SPEC.md section 2. */
#include "transport/bundle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/manifest.h"
#include "transport/tls.h"

#define HEADER_BYTES 36u
#define AT_KEY_ID 20u
#define KEY_ID_DIGITS (PKI_KEY_ID_BYTES - 1u)
#define FORMAT 1u
#define SIGNATURE_LEAST 8u

static uint32_t load_u16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t load_u32(const uint8_t *p)
{
    return load_u16(p) | load_u16(p + 2) << 16;
}

static void store_u32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

/* The key id of the header: 16 zero bytes (unsigned) or 16 hexadecimal digits. */
static int take_key_id(const uint8_t *p, char key_id[PKI_KEY_ID_BYTES], char *why, size_t why_size)
{
    static const uint8_t none[KEY_ID_DIGITS];
    memcpy(key_id, p, KEY_ID_DIGITS);
    key_id[KEY_ID_DIGITS] = '\0';
    if (memcmp(p, none, sizeof none) == 0 || strspn(key_id, "0123456789abcdef") == KEY_ID_DIGITS)
        return 0;
    return tls_why(why, why_size, EBADMSG, "bundle: key id: expected %u hexadecimal digits",
                   KEY_ID_DIGITS);
}

/* What is after the model: nothing in an unsigned bundle, else exactly one DER SEQUENCE. */
static int check_signature_form(const struct bundle *b, char *why, size_t why_size)
{
    if (b->key_id[0] == '\0')
        return b->signature_bytes == 0
                   ? 0
                   : tls_why(why, why_size, EBADMSG,
                             "bundle: %zu bytes after the model of an unsigned bundle",
                             b->signature_bytes);
    if (b->signature_bytes < SIGNATURE_LEAST || b->signature_bytes > PKI_SIGNATURE_BYTES ||
        b->signature[0] != 0x30 || b->signature[1] != b->signature_bytes - 2)
        return tls_why(why, why_size, EBADMSG,
                       "bundle: signature: %zu bytes that are no DER signature; truncated?",
                       b->signature_bytes);
    return 0;
}

/* Header and lengths; what out points to is inside data afterwards. *manifest_bytes of text follow
 * the header. */
static int take_header(const uint8_t *p, size_t size, struct bundle *out, size_t *manifest_bytes,
                       char *why, size_t why_size)
{
    if (size > BUNDLE_MAX_BYTES)
        return tls_why(why, why_size, EFBIG, "bundle: %zu bytes; expected at most %u", size,
                       BUNDLE_MAX_BYTES);
    if (size < HEADER_BYTES || memcmp(p, "NILB", 4) != 0)
        return tls_why(why, why_size, EBADMSG,
                       "bundle: expected \"NILB\" and a header of %u bytes; this is no bundle",
                       HEADER_BYTES);
    if (load_u16(p + 4) != FORMAT)
        return tls_why(why, why_size, ENOTSUP, "bundle: format %u; this program knows format %u",
                       load_u16(p + 4), FORMAT);
    if (load_u16(p + 6) != 0)
        return tls_why(why, why_size, ENOTSUP, "bundle: flags 0x%04x; expected 0", load_u16(p + 6));
    if (load_u32(p + 16) != 0)
        return tls_why(why, why_size, ENOTSUP, "bundle: reserved field: expected 0");
    size_t manifest = load_u32(p + 8), model = load_u32(p + 12), rest = size - HEADER_BYTES;
    if (manifest < 2 || manifest > BUNDLE_MAX_MANIFEST)
        return tls_why(why, why_size, EBADMSG, "bundle: manifest bytes: %zu; expected 2 to %u",
                       manifest, BUNDLE_MAX_MANIFEST);
    if (manifest > rest || model > rest - manifest)
        return tls_why(why, why_size, EBADMSG,
                       "bundle: truncated: %zu bytes, but the header speaks of %zu at least", size,
                       (size_t)HEADER_BYTES + manifest + model);
    int rc = take_key_id(p + AT_KEY_ID, out->key_id, why, why_size);
    if (rc != 0)
        return rc;
    *manifest_bytes = manifest;
    out->model = p + HEADER_BYTES + manifest;
    out->model_bytes = model;
    out->signed_bytes = HEADER_BYTES + manifest + model;
    out->signature = p + out->signed_bytes;
    out->signature_bytes = size - out->signed_bytes;
    return check_signature_form(out, why, why_size);
}

int bundle_parse(const void *data, size_t size, struct bundle *out, char *why, size_t why_size)
{
    size_t manifest_bytes = 0;
    uint8_t digest[32];
    char hex[65];

    memset(out, 0, sizeof *out);
    int rc = take_header(data, size, out, &manifest_bytes, why, why_size);
    if (rc == 0)
        rc = manifest_parse((const char *)data + HEADER_BYTES, manifest_bytes, &out->manifest, why,
                            why_size);
    if (rc == 0 && out->manifest.model_bytes != out->model_bytes)
        rc =
            tls_why(why, why_size, EBADMSG, "manifest: model_bytes: %llu, but the bundle holds %zu",
                    (unsigned long long)out->manifest.model_bytes, out->model_bytes);
    if (rc == 0) {
        pki_sha256(out->model, out->model_bytes, digest);
        pki_hex(digest, sizeof digest, hex);
        if (strcmp(hex, out->manifest.sha256) != 0)
            rc = tls_why(why, why_size, EBADMSG, "manifest: sha256: the model's is %s", hex);
    }
    if (rc != 0)
        bundle_free(out);
    return rc;
}

void bundle_free(struct bundle *b)
{
    manifest_free(&b->manifest);
    memset(b, 0, sizeof *b);
}

int bundle_verify(const struct bundle *b, const void *data, const struct pki_ring *ring, char *why,
                  size_t why_size)
{
    if (b->key_id[0] == '\0')
        return tls_why(why, why_size, EKEYREJECTED, "signature: the bundle is not signed");
    return pki_verify(ring, b->key_id, data, b->signed_bytes, b->signature, b->signature_bytes, why,
                      why_size);
}

/* The text a caller's array holds must end within it before it is printed as JSON. */
static int strings_end(const struct bundle_manifest *m)
{
    int ok = memchr(m->family, 0, sizeof m->family) && memchr(m->name, 0, sizeof m->name) &&
             memchr(m->input_scaling, 0, sizeof m->input_scaling) &&
             memchr(m->min_agent, 0, sizeof m->min_agent) && (m->labels || m->label_count == 0) &&
             m->label_count <= MANIFEST_MAX_LABELS;
    for (uint32_t i = 0; ok && i < m->label_count; i++)
        ok = memchr(m->labels[i], 0, sizeof m->labels[i]) != NULL;
    return ok;
}

int bundle_build(const struct bundle_manifest *m, const void *model, size_t model_bytes,
                 void **data, size_t *size, char *why, size_t why_size)
{
    struct bundle_manifest full = *m;
    struct bundle check;
    uint8_t digest[32], *bytes = NULL;
    int rc;

    *data = NULL;
    *size = 0;
    if (!strings_end(m))
        return tls_why(why, why_size, EINVAL,
                       "manifest: a text is too long, or there are too many labels");
    if (model_bytes > BUNDLE_MAX_BYTES)
        return tls_why(why, why_size, EFBIG, "model: %zu bytes; expected at most %u", model_bytes,
                       BUNDLE_MAX_BYTES);
    pki_sha256(model, model_bytes, digest);
    pki_hex(digest, sizeof digest, full.sha256);
    full.model_bytes = model_bytes;
    char *text = manifest_print(&full);
    size_t text_bytes = text ? strlen(text) : 0, total = HEADER_BYTES + text_bytes + model_bytes;
    if (text)
        bytes = calloc(1, total);
    if (!bytes) {
        rc = tls_why(why, why_size, ENOMEM, "bundle: out of memory");
        goto out;
    }
    memcpy(bytes, "NILB", 4);
    bytes[4] = FORMAT;
    store_u32(bytes + 8, (uint32_t)text_bytes);
    store_u32(bytes + 12, (uint32_t)model_bytes);
    memcpy(bytes + HEADER_BYTES, text, text_bytes);
    memcpy(bytes + HEADER_BYTES + text_bytes, model, model_bytes);
    /* What is written is by construction what is accepted. */
    rc = bundle_parse(bytes, total, &check, why, why_size);
    if (rc == 0) {
        bundle_free(&check);
        *data = bytes;
        *size = total;
        bytes = NULL;
    } else if (rc == -EBADMSG) {
        rc = -EINVAL;
    }
out:
    free(bytes);
    free(text);
    return rc;
}

int bundle_sign(const void *data, size_t size, const char *key_path, void **out, size_t *out_size,
                char *why, size_t why_size)
{
    struct bundle b;
    char key_id[PKI_KEY_ID_BYTES];
    uint8_t signature[PKI_SIGNATURE_BYTES], *bytes = NULL;
    size_t signature_bytes = 0;

    *out = NULL;
    *out_size = 0;
    int rc = bundle_parse(data, size, &b, why, why_size);
    if (rc != 0)
        return rc;
    bytes = malloc(b.signed_bytes + PKI_SIGNATURE_BYTES);
    if (!bytes) {
        rc = tls_why(why, why_size, ENOMEM, "bundle: out of memory");
        goto out;
    }
    memcpy(bytes, data, b.signed_bytes);
    /* The key id is itself signed, so it must be known first. */
    rc = pki_key_id(key_path, key_id, why, why_size);
    if (rc != 0)
        goto out;
    memcpy(bytes + AT_KEY_ID, key_id, KEY_ID_DIGITS);
    rc = pki_sign(key_path, bytes, b.signed_bytes, signature, &signature_bytes, key_id, why,
                  why_size);
    if (rc == 0 && memcmp(bytes + AT_KEY_ID, key_id, KEY_ID_DIGITS) != 0)
        rc = tls_why(why, why_size, EAGAIN, "%s: was replaced while it was used", key_path);
    if (rc != 0)
        goto out;
    memcpy(bytes + b.signed_bytes, signature, signature_bytes);
    *out = bytes;
    *out_size = b.signed_bytes + signature_bytes;
    bytes = NULL;
out:
    free(bytes);
    bundle_free(&b);
    return rc;
}

/* The number at *at, and past its dot. Saturates; a missing part counts as 0. */
static unsigned long next_part(const char **at)
{
    unsigned long v = 0;
    for (; **at >= '0' && **at <= '9'; ++*at)
        if (v < 100000000ul)
            v = v * 10 + (unsigned long)(**at - '0');
    if (**at == '.')
        ++*at;
    return v;
}

int bundle_compare_versions(const char *a, const char *b)
{
    for (int part = 0; part < 3; part++) {
        unsigned long x = next_part(&a), y = next_part(&b);
        if (x != y)
            return x < y ? -1 : 1;
    }
    return 0;
}
