/* verify.h - takes a model or a bundle from disk through every check that the agent makes before it runs it: structure,
 * hash, signature, network, golden vectors. Shared by `models` and `doctor`. */
#ifndef AGENT_CTL_VERIFY_H
#define AGENT_CTL_VERIFY_H

#include <stddef.h>
#include <stdint.h>

#include "transport/bundle.h"

struct verify_report {
    int ok;
    char why[512];    /* the first check that failed */
    int bundle;       /* else a bare model file */
    int is_signed;    /* by a key of the ring */
    char key_id[PKI_KEY_ID_BYTES];
    char family[32], name[64];
    uint32_t version, classes, golden;
    uint64_t bytes;   /* of the model */
    char sha256[65];  /* of the file */
};

/* ring: must have signed a bundle (NULL: signatures are not checked). A bare model file has no signature. */
void verify_bytes(const void *data, size_t size, const struct pki_ring *ring, struct verify_report *out);
void verify_file(const char *path, const struct pki_ring *ring, struct verify_report *out);

/* Reads a regular file of at most max bytes into a new buffer (free()). 0 or -errno with the reason in why. */
int verify_read(const char *path, size_t max, void **data, size_t *size, char *why, size_t why_size);

#endif
