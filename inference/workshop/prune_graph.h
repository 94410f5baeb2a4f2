/* prune_graph.h - which channel stands where: what has to go together when a channel is removed.
 *
 * Derived by walking the network from its input (the idea of DepGraph, Fang et al. 2023). Every
 * operation tells one thing of each of its outputs: which of its inputs it passes on (a pool the
 * same one, a flatten that of its column), or that it mixes all of them, and so makes a channel of
 * its own (convolution, dense). A group is then a made channel with everything that carries it: its
 * row of weights and its bias, where it is made, and the weights that read it, wherever it arrives.
 *
 * Networks of net.h are chains, so a port has one reader, and nothing (such as an addition) joins
 * the channels of two layers into one group.
 */
#ifndef WORKSHOP_PRUNE_GRAPH_H
#define WORKSHOP_PRUNE_GRAPH_H

#include <stdint.h>

#include "inference/workshop/net.h"

#define PRUNE_GRAPH_INPUT MODEL_MAX_LAYERS /* maker: the network's own input */

/* What stands between two layers, in each column. */
struct prune_port {
    uint32_t maker;    /* layer whose channels these are, or PRUNE_GRAPH_INPUT */
    uint32_t channels; /* that it makes */
    uint32_t features; /* that stand here: each channel features / channels times */
    uint32_t *channel; /* [features]: which of the maker's channels it is */
};

/* Layer i reads port i and writes port i + 1. */
struct prune_graph {
    uint32_t layer_count;
    struct prune_port port[MODEL_MAX_LAYERS + 1];
};

/* Release with prune_graph_free, also after a failure. 0, -ENOMEM. */
int prune_graph_create(const struct net *net, struct prune_graph *graph);
void prune_graph_free(struct prune_graph *graph);

/* Writes the features of a port whose channel stays into kept (ascending), and returns how many
 * those are. keep[maker] [channels]: 0 for those that go; NULL: all stay. */
uint32_t prune_graph_kept(const struct prune_port *port, uint8_t *const keep[MODEL_MAX_LAYERS],
                          uint32_t *kept);

#endif
