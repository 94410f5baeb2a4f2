/* bundle_cmd.h - between model files and bundles: what a manifest says of a model, and whether it says the truth.
 *
 * Used by `nilm-model pack` and `verify`, and fit for the agent's updater: a signed manifest that contradicts its model is
 * refused. Thread-safe. Errors are 0 or negative errno, with the field and what was expected in why.
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
    int allow_downgrade;
    uint32_t version; /* replaces the model's own unless 0: the model file is written anew with it */
};

/* The input scaling as manifests write it: "log:4000 log_diff:4000", one word a channel. -ENOSPC when it does not fit. */
int bundle_cmd_scaling(const struct model *m, char *text, size_t size);

/* family, version, window, period, scaling and labels agree: 0, or -EBADMSG. */
int bundle_cmd_match(const struct bundle_manifest *manifest, const struct model *m, char *why,
                     size_t why_size);

/* Makes an unsigned bundle of a model file (new buffer, free()). The model is decoded and, INT8, must reproduce its own golden vectors:
 * what no device would accept is not packed. -EBADMSG, -EINVAL, -ENOTSUP, -ENOMEM, or of reading the file. */
int bundle_cmd_pack(const void *model, size_t model_bytes, const struct bundle_cmd_order *order,
                    void **data, size_t *size, char *why, size_t why_size);

/* What is known of a bundle; each check is made only when those before it have passed. */
struct bundle_cmd_report {
    int structure, signature, model, manifest, golden, in_time; /* 1: passed */
    uint32_t golden_count;
    char key_id[PKI_KEY_ID_BYTES];
    char family[32], name[64], min_agent[16], sha256[65];
    uint32_t version, label_count;
    uint64_t model_bytes;
    int64_t created_s, expires_s;
    int allow_downgrade;
};

/* Checks everything that a device checks before it tries a model, but for its own state (version in use, agent version): structure
 * and hash, signature by a key of the ring, the model file, manifest against model, golden vectors, expiry at now_s. 0 when all
 * pass; else the first failure: -EBADMSG, -ENOTSUP, -ENOKEY, -EKEYREJECTED, -ESTALE (expired), -ENOMEM. The report is filled as far as it
 * went. */
int bundle_cmd_verify(const void *data, size_t size, const struct pki_ring *ring, int64_t now_s,
                      struct bundle_cmd_report *report, char *why, size_t why_size);

#endif
