/* manifest.h - the JSON manifest of a bundle (SPEC.md section 2); internal to transport.
 * Thread-safe. */
#ifndef TRANSPORT_MANIFEST_H
#define TRANSPORT_MANIFEST_H

#include "transport/bundle.h"

#define MANIFEST_MAX_LABELS 256u

/* Reads a manifest of size bytes (any bytes; need not end with NUL). Strict: every key but
 * allow_downgrade must be there once, no other may be. Labels are allocated; release with
 * manifest_free also after an error. 0, -EBADMSG, -ENOMEM with the key in why. */
int manifest_parse(const char *text, size_t size, struct bundle_manifest *out, char *why,
                   size_t why_size);
void manifest_free(struct bundle_manifest *m);
/* The manifest as JSON without blanks, keys in the order of SPEC 2.6: same manifest, same bytes.
 * NULL: out of memory. free(). Does not check: manifest_parse of the result does. */
char *manifest_print(const struct bundle_manifest *m);

#endif
