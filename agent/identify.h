/* identify.h - which appliance is behind a circuit meter, from the engine's results over time.
 *
 * A circuit has one load behind it, so every window in which it was active is evidence about the
 * same thing. The belief is a weighted mean of the log-probabilities of these windows: one
 * confident wrong window cannot outvote many right ones, and each log-probability is bounded from
 * below besides. Windows overlap, so they are far from independent: the mean counts as 1
 * observation at first and as up to 4 after more of them (their log-probabilities then add up, as
 * of independent ones). Old windows fade, so that another appliance at the same plug gets its own
 * name after a while. Confidence is the normalised result; below the model's reject threshold the
 * name is EVENT_UNKNOWN. A name that was given is only changed with a margin, so that names do not
 * flap. The structure holds no pointers and may be copied as bytes.
 */
#ifndef AGENT_IDENTIFY_H
#define AGENT_IDENTIFY_H

#include <stdint.h>

#include "agent/event.h"
#include "inference/model.h"

struct identify {
    uint32_t classes;              /* 0: no model so far */
    uint32_t labels;               /* fingerprint of the labels that logs[] belong to */
    double weight;                 /* of what is in logs[] */
    float logs[MODEL_MAX_CLASSES]; /* weighted sums of log-probabilities */
    char name[EVENT_NAME_BYTES];   /* as given last; EVENT_UNKNOWN */
    double confidence;             /* in it, or in the best one when unknown */
};

void identify_init(struct identify *id);

/* Gets ready for a model's labels: keeps the belief when they are the same, carries it over by
 * label when from (the model before, or NULL) is known, else begins anew. The name stays until
 * evidence changes it. */
void identify_model(struct identify *id, const struct model *from, const struct model *to);

/* Adds a window's probabilities [class_count] with a weight (> 0: how many
 * grid samples it is worth) and decides on the name.
 * Returns 1 when it changed. */
int identify_add(struct identify *id, const struct model *m, const float *probabilities,
                 double weight);

/* Fingerprint of a model's labels in their order; of none for NULL. */
uint32_t identify_labels(const struct model *m);

/* Whether bytes that were read back can be one: 0 or -EBADMSG. */
int identify_check(const struct identify *id);

#endif
