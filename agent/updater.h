/* updater.h - which model runs: chosen at start, replaced by a pushed one, returned to the previous
 * one.
 *
 * All functions run on the main thread, between two samples of any meter. What is slow (signature,
 * golden vectors) happened before, in candidate_check. Promises (DESIGN.md "Model updates"): only a
 * proven bundle of the active one's family and with a version above the highest ever seen takes
 * over; whatever fails, the old engine goes on; final states are durable reports in the outbox.
 */
#ifndef AGENT_UPDATER_H
#define AGENT_UPDATER_H

#include <stddef.h>
#include <stdint.h>

#include "agent/candidate.h"
#include "agent/journal.h"
#include "storage/slots.h"
#include "storage/store.h"

/* What meters of a kind need while no model says so. */
#define UPDATER_FAMILY "identify"
#define UPDATER_MAINS_FAMILY "mains"

struct updater;

struct updater_config { /* strings and pointers must outlive the updater */
    const char *device;
    const char *slots_dir;  /* made when missing */
    const char *model_file; /* "" for none */
    const char *keys;       /* path of the key ring, "" for none */
    struct store *store;
    struct journal *journal;
    void *context;
    /* Gives the engine (NULL: none) to every meter: 0, or -ENOMEM with every meter on its old one.
     */
    int (*swap)(void *context, const struct engine *engine);
    /* Takes the new retained state of the model (JSON, copied). */
    void (*announce)(void *context, const char *state);
    int mains; /* for meters of kind mains: models with a sigmoid head; 0: circuits, softmax */
};

/* Opens the slots. 0 or -errno with the reason. */
int updater_create(const struct updater_config *config, struct updater **out, char *why,
                   size_t why_size);
void updater_destroy(struct updater *u);

/* Chooses the model to begin with: the active slot, else the previous one, else the configured
 * file; each is proven anew, one that fails raises the alert `model_failed`. Also makes up for a
 * report that a kill prevented. Does not call swap. */
void updater_start(struct updater *u);

/* Goes on with another store (the database was replaced), and announces the state anew. */
void updater_use_store(struct updater *u, struct store *store);

/* The engine in use, or NULL. Valid until the next apply or rollback. */
const struct engine *updater_engine(const struct updater *u);

/* Of the active model; without one that which its meters need. Valid as long as the engine. */
const char *updater_family(const struct updater *u);

/* Lets a candidate take over, or refuses it; both are announced and reported. Takes the candidate.
 * 0, or -errno when refused. */
int updater_apply(struct updater *u, struct candidate *c);

/* Returns to the previous slot (proven anew). 0, or -errno with the reason. */
int updater_rollback(struct updater *u, char *why, size_t why_size);

struct updater_info {
    char family[MODEL_LABEL_BYTES], name[64]; /* "" without a model */
    uint32_t version;
    char from[512]; /* path of the slot or file that it came from */
    struct slots_info slots;
};
void updater_get_info(const struct updater *u, struct updater_info *out);

#endif
