/* train_network.h - the shape of a network that is to be trained: from the options of `train`, or
 * from a small text file (SPEC.md 7.20.6) that the options override.
 *
 * The file has lines "name = value"; names are those of the options below, and `norm`. So it knows
 * nothing that the command line does not, and both are checked by the same code.
 */
#ifndef WORKSHOP_TRAIN_NETWORK_H
#define WORKSHOP_TRAIN_NETWORK_H

#include <stdint.h>

#include "inference/model.h"
#include "inference/workshop/cli.h"
#include "inference/workshop/net.h"

struct train_network {
    const char *file; /* NULL: none */
    const char *widths, *taps, *pools, *hidden, *features;
    float full;
    int head; /* index in train_network_heads */
    int no_norm;
    char *text; /* of the file; the strings above may lead into it */
};

extern const char *const train_network_heads[]; /* "softmax", "sigmoid" */

/* The article's network. */
void train_network_defaults(struct train_network *n);

/* Reads n->file, where there is one, into those of the options that the command line did not give.
 * CLI_RUN; CLI_FAILED after telling file, line and field. train_network_free also after failure. */
int train_network_read(struct train_network *n, struct cli_option *options);
void train_network_free(struct train_network *n);

/* The options' texts to a specification (its class_count is the caller's) and m's channels and
 * head. CLI_RUN; CLI_USAGE after telling what was expected. */
int train_network_parse(const struct train_network *n, uint32_t window, struct net_spec *spec,
                        struct model *m);

#endif
