/* bundle_cmd.h - what `nilm-model pack` and `verify` do between a model file and a bundle.
 *
 * Thread-safe. Errors are 0 or negative errno, with the field and what was expected in why.
 */
#ifndef AGENT_BUNDLE_CMD_H
#define AGENT_BUNDLE_CMD_H

#include <stddef.h>
#include <stdint.h>

#include "inference/model.h"
#include "transport/bundle.h"

/* What whoever packs decides; all else follows from the model. */
struct bundle_cmd_order {
    const char *name;      /* for people; NULL: family and version */
    const char *min_agent; /* smallest agent version, "0.1.0" */
    int64_t created_s, expires_s; /* Unix time; expires_s 0: never */
    int allow_downgrade; /* devices accept it though theirs is newer */
    uint32_t version; /* replaces the model's own unless 0: the model file is written anew with it */
};

/* Makes an unsigned bundle of a model file (new buffer, free()). The model is decoded and, INT8, must reproduce its own golden vectors:
 * what no device would accept is not packed. -EBADMSG, -EINVAL, -ENOTSUP, -ENOMEM, or of reading the file. */
int bundle_cmd_pack(const void *model, size_t model_bytes, const struct bundle_cmd_order *order,
                    void **data, size_t *size, char *why, size_t why_size);

/* What a bundle says of itself; not authentic unless bundle_cmd_verify returned 0. */
struct bundle_cmd_report {
    int readable; /* structure and hash are right: the rest is set */
    uint32_t golden_count; /* only of a verified bundle */
    char key_id[PKI_KEY_ID_BYTES]; /* "" when unsigned */
    char family[32], name[64], min_agent[16], sha256[65];
    uint32_t version, label_count;
    uint64_t model_bytes;
    int64_t created_s, expires_s; /* Unix time */
    int allow_downgrade;          /* a signed order */
};

/* Takes the bundle through the device's own check (candidate.h) with the key ring at keys. 0, or the device's refusal as negative errno
 * with its reason in why. */
int bundle_cmd_verify(const void *data, size_t size, const char *keys, int64_t now_s,
                      struct bundle_cmd_report *report, char *why, size_t why_size);

#endif
