/* prune.h - structured pruning: whole channels of convolutions and whole units of hidden dense
 * layers.
 *
 * What a channel is worth (all its weights w, that is all taps and inputs, gradients g of the
 * loss):
 *
 * - L1: sum |w| (Li et al. 2017), L2: sqrt(sum w^2), either divided by the root mean square of its
 *   layer's: layers differ in fan-in and scale, and only then can all stand in one ranking
 * - TAYLOR: the mean over windows of (sum g w + g_bias bias)^2, the square of what the loss changes
 *   by, to first order, when the channel is taken out (Molchanov et al. 2019, the gate of their
 *   section 3); in units of the loss, so comparable over layers as it is
 * - RANDOM: uniform, seeded; what the others have to beat
 *
 * The least worth go first: GLOBAL wherever they are, LOCAL the same share of every layer, by rank
 * in it. What goes with a channel follows from the layer graph (prune_graph.h). Normalization has
 * to be folded before (convert.h): its scale is part of the worth.
 */
#ifndef WORKSHOP_PRUNE_H
#define WORKSHOP_PRUNE_H

#include <stddef.h>
#include <stdint.h>

#include "inference/workshop/net.h"

enum prune_criterion { PRUNE_L2 = 0, PRUNE_L1 = 1, PRUNE_RANDOM = 2, PRUNE_TAYLOR = 3 };
enum prune_scope { PRUNE_GLOBAL = 0, PRUNE_LOCAL = 1 };

/* What worth is divided by in the ranking: nothing, or what goes with a channel of the whole net,
 * its own row and what reads it, as weights or as multiplications per window. Within a layer the
 * order stays, so LOCAL does not care. */
enum prune_per { PRUNE_PER_CHANNEL = 0, PRUNE_PER_WEIGHT = 1, PRUNE_PER_MAC = 2 };

/* Labelled windows for TAYLOR. prune_tune.h draws some. */
struct prune_sample {
    uint32_t windows;
    float *features;  /* [windows][window][channels], as net_features makes them */
    uint32_t *labels; /* [windows]; mixed: a bit for each class */
    int mixed;        /* the data is (dataset.h) */
};

struct prune_options {
    enum prune_criterion criterion;
    enum prune_scope scope;
    enum prune_per per;
    double ratio; /* of all channels that are not protected, to remove; in [0, 1) */
    uint64_t
        target_params; /* or: remove until at most so many parameters are left; 0: go by ratio */
    uint32_t least;    /* channels that stay in every layer, > 0; one that has fewer keeps them */
    uint32_t align;    /* widths are rounded up to a multiple (at most to what they were); 0: no */
    uint8_t protect[MODEL_MAX_LAYERS]; /* layers that keep all channels */
    uint64_t seed;                     /* RANDOM */
    const struct prune_sample *sample; /* TAYLOR */
    float *const *worth;               /* when not NULL: what prune_worth gave; not asked again */
};

/* Sets protect for each layer of names, "conv1,dense1". 0, -EINVAL (no such layer; why). */
int prune_protect(const struct net *net, const char *names, struct prune_options *options,
                  char *why, size_t why_size);

/* *out: the smaller net. 0, -EINVAL (net with norm, an option, a target out of reach; why),
 * -ENOMEM. */
int prune_channels(const struct net *net, const struct prune_options *options, struct net **out,
                   char *why, size_t why_size);

/* Parameters that are left when everything goes that may. 0, -ENOMEM. */
int prune_smallest(const struct net *net, const struct prune_options *options, uint64_t *out);

/* Worth of each output channel by the criterion: worth[layer] [out_channels], NULL for layers
 * without channels to prune; release with prune_worth_free. 0, -ENOMEM. */
int prune_worth(const struct net *net, const struct prune_options *options,
                float *worth[MODEL_MAX_LAYERS]);
void prune_worth_free(float *worth[MODEL_MAX_LAYERS]);

#endif
