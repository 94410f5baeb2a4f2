/* verify.h - takes a model or a bundle from disk through the check that the agent makes before it runs it (candidate.h), and
 * reads files. Shared by `models`, `doctor`, `provision` and `push`. */
#ifndef AGENT_CTL_VERIFY_H
#define AGENT_CTL_VERIFY_H

#include <stddef.h>
#include <stdint.h>

#include "agent/candidate.h"

struct verify_report {
    int ok;
    char why[sizeof((struct candidate *)0)->reason]; /* the first check that failed */
    int is_signed; /* a bundle, by a key of the ring; a plain model file has no signature */
    char key_id[PKI_KEY_ID_BYTES];
    char family[MODEL_LABEL_BYTES], name[64]; /* "", 0 while they are not authentic */
    uint32_t version, classes, golden;
    uint64_t bytes;  /* of the file */
    char sha256[65]; /* of the file */
};

/* Fills *out whatever happens: a file that cannot be read is not ok. keys: path of the key ring that must have signed a bundle; "" refuses every bundle. */
void verify_file(const char *path, const char *keys, struct verify_report *out);

/* Reads a regular file of 1 to max bytes into a new buffer (free()). 0 or -errno with the reason in why. */
int verify_read(const char *path, size_t max, void **data, size_t *size, char *why, size_t why_size);

#endif
