/* prune.h - structured pruning: whole channels of convolutions and whole units of hidden dense
 * layers.
 *
 * A channel's worth is the L2 norm of its weights (all taps, all inputs; Li et al. 2017, there L1),
 * divided by the root mean square of the norms in its layer: layers differ in fan-in and scale, and
 * only after that division can channels of all layers stand in one ranking. The least worth go
 * first, wherever they are. With a channel go the weights that read it in the next layer, through
 * pool and flatten (there one weight per column). Normalization has to be folded before
 * (convert.h): its scale is part of the worth.
 */
#ifndef WORKSHOP_PRUNE_H
#define WORKSHOP_PRUNE_H

#include <stddef.h>
#include <stdint.h>

#include "inference/workshop/net.h"

struct prune_options {
    double ratio; /* of all prunable channels, to remove; in [0, 1) */
    uint64_t
        target_params; /* or: remove until at most so many parameters are left; 0: go by ratio */
    uint32_t least;    /* channels that stay in every layer, > 0 */
};

/* *out: the smaller net. 0, -EINVAL (net with norm, an option, a target out of reach; why),
 * -ENOMEM. */
int prune_channels(const struct net *net, const struct prune_options *options, struct net **out,
                   char *why, size_t why_size);

/* Worth of each output channel of a layer, [out_channels]. */
void prune_worth(const struct net *net, uint32_t layer, float *worth);

#endif
