/* candidate.h - a pushed or stored bundle, checked from its signature to its golden vectors, and
 * made into an engine.
 *
 * candidate_check touches nothing but its arguments, so the publisher's thread runs it while the
 * meters go on; whether the result may replace the active model (family, version) and the swap
 * itself are updater.h's business on the main thread.
 */
#ifndef AGENT_CANDIDATE_H
#define AGENT_CANDIDATE_H

#include <stddef.h>
#include <stdint.h>

#include "inference/engine.h"
#include "inference/model.h"
#include "transport/bundle.h"

#define CANDIDATE_MAX_BYTES (4u << 20) /* of a pushed bundle; keeps the agent's memory small */

struct candidate {
    int error;        /* 0: usable; else -errno and reason */
    char reason[320]; /* for the operator: what is wrong and what was expected */
    char sha256[65];  /* of the whole bundle, hex; "" when there was none (a plain model file) */
    char model_sha256[65];
    uint32_t version; /* this and the next three: "" or 0 while the manifest could not be read or is
                         not authentic */
    char name[64], family[MODEL_LABEL_BYTES];
    int allow_downgrade;
    void *bytes; /* the bundle, for the slot; NULL when refused */
    size_t size;
    struct model *model; /* set when usable; the engine needs it */
    struct engine *engine;
};

/* Takes a bundle (bytes becomes the candidate's, also on failure; from malloc) through: structure,
 * signature by a key of the ring at keys (a path, "" for none), smallest agent, expiry (now_s, Unix
 * time; 0 or an unset clock: not checked), model file, INT8, agreement of manifest
 * and model, golden vectors. NULL only when memory is short. */
struct candidate *candidate_check(void *bytes, size_t size, const char *keys, int64_t now_s);

/* The same for a plain model file's bytes, which an administrator installed: no signature; golden
 * vectors must reproduce when there are some. */
struct candidate *candidate_check_model(void *bytes, size_t size);

/* A candidate from a file: bundle or plain model, told apart by its first bytes. */
struct candidate *candidate_from_file(const char *path, const char *keys);

/* Makes a candidate a refused one: what it holds is released, sha256, version and name stay. */
void candidate_refuse(struct candidate *c, int error, const char *reason);

void candidate_free(struct candidate *c);

/* The input channels as text, "log:4000 log_diff:4000": what input_scaling of a manifest must say.
 * 0 or -ENOSPC. */
int candidate_scaling(const struct model *m, char *text, size_t size);

#endif
