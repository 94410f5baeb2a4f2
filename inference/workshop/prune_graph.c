/* prune_graph.c - channels followed through the layers. */
#include "inference/workshop/prune_graph.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MADE UINT32_MAX

/* The rule of each operation: the input feature that output feature f passes on, or MADE. */
static uint32_t source(const struct net_layer *l, uint32_t f)
{
    switch (l->op) {
    case MODEL_MAXPOOL1D:
        return f;
    case MODEL_FLATTEN: /* column by column, each with all its channels */
        return f % l->in_channels;
    default:
        return MADE;
    }
}

static int fill(struct prune_port *port, uint32_t features)
{
    port->features = features;
    port->channel = calloc(features, sizeof(*port->channel));
    return port->channel ? 0 : -ENOMEM;
}

int prune_graph_create(const struct net *net, struct prune_graph *graph)
{
    struct prune_port *port = graph->port;

    memset(graph, 0, sizeof(*graph));
    graph->layer_count = net->layer_count;
    port[0].maker = PRUNE_GRAPH_INPUT;
    port[0].channels = net->channels;
    if (fill(&port[0], net->channels))
        return -ENOMEM;
    for (uint32_t f = 0; f < net->channels; f++)
        port[0].channel[f] = f;
    for (uint32_t i = 0; i < net->layer_count; i++) {
        const struct net_layer *l = &net->layers[i];
        const struct prune_port *in = &port[i];
        struct prune_port *out = &port[i + 1];
        const int makes = source(l, 0) == MADE;
        out->maker = makes ? i : in->maker;
        out->channels = makes ? l->out_channels : in->channels;
        if (fill(out, l->out_channels))
            return -ENOMEM;
        for (uint32_t f = 0; f < out->features; f++)
            out->channel[f] = makes ? f : in->channel[source(l, f)];
    }
    return 0;
}

void prune_graph_free(struct prune_graph *graph)
{
    for (uint32_t i = 0; i <= graph->layer_count; i++)
        free(graph->port[i].channel);
    memset(graph, 0, sizeof(*graph));
}

uint32_t prune_graph_kept(const struct prune_port *port, uint8_t *const keep[MODEL_MAX_LAYERS],
                          uint32_t *kept)
{
    const uint8_t *mask = port->maker == PRUNE_GRAPH_INPUT ? NULL : keep[port->maker];
    uint32_t n = 0;

    for (uint32_t f = 0; f < port->features; f++)
        if (!mask || mask[port->channel[f]])
            kept[n++] = f;
    return n;
}
