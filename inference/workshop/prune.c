/* prune.c - structured pruning. */
#include "inference/workshop/prune.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/prune_graph.h"

struct candidate {
    float worth;
    uint32_t layer, channel;
};

/* Which outputs of each layer stay: keep[layer][channel], for layers that have channels of their
 * own. */
struct plan {
    struct prune_graph graph;
    uint8_t *keep[MODEL_MAX_LAYERS];
    uint32_t left[MODEL_MAX_LAYERS];
    struct candidate *order;
    size_t count;
};

static int by_worth(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;

    if (x->worth < y->worth || x->worth > y->worth)
        return x->worth < y->worth ? -1 : 1;
    if (x->layer != y->layer) /* ties: a fixed order, so that the same net gives the same result */
        return x->layer < y->layer ? -1 : 1;
    return x->channel < y->channel ? -1 : x->channel > y->channel;
}

static void plan_free(struct plan *p)
{
    for (uint32_t i = 0; i < MODEL_MAX_LAYERS; i++)
        free(p->keep[i]);
    free(p->order);
    prune_graph_free(&p->graph);
}

/* LOCAL: a channel stands in the ranking with the share of its layer that is worth less. */
static void rank_within(struct candidate *of_layer, uint32_t channels)
{
    qsort(of_layer, channels, sizeof(*of_layer), by_worth);
    for (uint32_t c = 0; c < channels; c++)
        of_layer[c].worth = ((float)c + 0.5f) / (float)channels;
}

/* What one channel of a layer costs, in the net as it is. */
static double cost(const struct net *net, const struct prune_graph *graph, uint32_t maker,
                   enum prune_per per)
{
    double sum = 0.0;

    for (uint32_t i = 0; i < net->layer_count && per != PRUNE_PER_CHANNEL; i++) {
        const struct net_layer *l = &net->layers[i];
        const struct prune_port *in = &graph->port[i];
        const double columns = per == PRUNE_PER_MAC ? l->out_columns : 1.0;
        if (i == maker)
            sum += columns * (double)(l->weight_count / l->out_channels);
        if (in->maker == maker) /* nothing for pool and flatten */
            sum += columns * (double)l->weight_count / in->channels;
    }
    return per == PRUNE_PER_CHANNEL ? 1.0 : sum;
}

static int plan_create(const struct net *net, const struct prune_options *o,
                       float *const worth[MODEL_MAX_LAYERS], struct plan *p)
{
    size_t total = 0;
    int rc = prune_graph_create(net, &p->graph);

    for (uint32_t i = 0; i < net->layer_count; i++)
        total += worth[i] ? net->layers[i].out_channels : 0;
    p->order = calloc(total + 1, sizeof(*p->order));
    if (!p->order)
        rc = -ENOMEM;
    for (uint32_t i = 0; i < net->layer_count && !rc; i++) {
        const uint32_t channels = net->layers[i].out_channels;
        p->left[i] = channels;
        if (!worth[i] || o->protect[i])
            continue;
        p->keep[i] = malloc(channels);
        if (!p->keep[i]) {
            rc = -ENOMEM;
            break;
        }
        memset(p->keep[i], 1, channels);
        const float price = (float)cost(net, &p->graph, i, o->per);
        for (uint32_t c = 0; c < channels; c++)
            p->order[p->count + c] = (struct candidate){worth[i][c] / price, i, c};
        if (o->scope == PRUNE_LOCAL)
            rank_within(p->order + p->count, channels);
        p->count += channels;
    }
    if (!rc)
        qsort(p->order, p->count, sizeof(*p->order), by_worth);
    return rc;
}

/* Channels that layer i will have: what is left, rounded up. */
static uint32_t width(const struct net *net, const struct plan *p, uint32_t align, uint32_t i)
{
    uint32_t up = align ? (p->left[i] + align - 1) / align * align : p->left[i];

    return up < net->layers[i].out_channels ? up : net->layers[i].out_channels;
}

/* Parameters of the net that the plan leaves. */
static uint64_t parameters(const struct net *net, const struct plan *p, uint32_t align)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < net->layer_count; i++) {
        const struct net_layer *l = &net->layers[i];
        const struct prune_port *in = &p->graph.port[i];
        uint64_t inputs = in->features;
        if (!l->weight_count)
            continue;
        if (in->maker != PRUNE_GRAPH_INPUT)
            inputs = (uint64_t)width(net, p, align, in->maker) * (in->features / in->channels);
        sum += width(net, p, align, i) * (inputs * (l->op == MODEL_CONV1D ? l->taps : 1u) + 1u);
    }
    return sum;
}

/* LOCAL by ratio asks each layer by itself, so that one that may not shrink further does not make
 * the others pay. */
static int enough(const struct net *net, const struct prune_options *o, const struct plan *p,
                  size_t next, size_t removed)
{
    if (o->target_params)
        return parameters(net, p, o->align) <= o->target_params;
    if (o->scope == PRUNE_LOCAL)
        return next >= p->count || (double)p->order[next].worth >= o->ratio;
    return removed >= (size_t)(o->ratio * (double)p->count + 0.5);
}

/* The best of what layer i lost comes back until its width is as it should be. end: where the
 * choice stopped. */
static void restore(const struct net *net, uint32_t align, struct plan *p, uint32_t i, size_t end)
{
    const uint32_t wanted = width(net, p, align, i);

    while (p->left[i] < wanted && end-- > 0) {
        const struct candidate *c = &p->order[end];
        if (c->layer != i || p->keep[i][c->channel])
            continue;
        p->keep[i][c->channel] = 1;
        p->left[i]++;
    }
}

static int choose(const struct net *net, const struct prune_options *o, struct plan *p, char *why,
                  size_t why_size)
{
    size_t removed = 0, i = 0;

    for (; i < p->count && !enough(net, o, p, i, removed); i++) {
        const struct candidate *c = &p->order[i];
        if (p->left[c->layer] <= o->least)
            continue;
        p->keep[c->layer][c->channel] = 0;
        p->left[c->layer]--;
        removed++;
    }
    if (!enough(net, o, p, i, removed)) {
        if (why && why_size)
            (void)snprintf(why, why_size,
                           "out of reach: %llu parameters are left when every layer keeps its last "
                           "%u channels%s",
                           (unsigned long long)parameters(net, p, o->align), o->least,
                           o->align ? ", rounded up" : "");
        return -EINVAL;
    }
    for (uint32_t l = 0; l < net->layer_count; l++)
        if (p->keep[l])
            restore(net, o->align, p, l, i);
    return 0;
}

/* Copies what stays of layer i. inputs, outputs: scratch [the larger of its two ports]. */
static void copy_layer(const struct net *net, uint32_t i, const struct plan *p, uint32_t *inputs,
                       uint32_t *outputs, struct net *out)
{
    const struct net_layer *from = &net->layers[i], *to = &out->layers[i];
    const size_t taps = from->op == MODEL_CONV1D ? from->taps : 1u;
    const uint32_t ins = prune_graph_kept(&p->graph.port[i], p->keep, inputs);
    const uint32_t outs = prune_graph_kept(&p->graph.port[i + 1], p->keep, outputs);
    float *w = out->params + to->weights, *b = out->params + to->bias;

    for (uint32_t o = 0; o < outs; o++) {
        const float *row = net->params + from->weights + outputs[o] * taps * from->in_channels;
        for (size_t t = 0; t < taps; t++)
            for (uint32_t k = 0; k < ins; k++)
                *w++ = row[t * from->in_channels + inputs[k]];
        *b++ = net->params[from->bias + outputs[o]];
    }
}

static int copy_net(const struct net *net, const struct plan *p, struct net *out)
{
    uint32_t *inputs = calloc(MODEL_MAX_UNITS, sizeof(*inputs));
    uint32_t *outputs = calloc(MODEL_MAX_UNITS, sizeof(*outputs));
    const int rc = inputs && outputs ? 0 : -ENOMEM;

    for (uint32_t i = 0; i < net->layer_count && !rc; i++)
        if (net->layers[i].weight_count)
            copy_layer(net, i, p, inputs, outputs, out);
    free(inputs);
    free(outputs);
    return rc;
}

int prune_protect(const struct net *net, const char *names, struct prune_options *options,
                  char *why, size_t why_size)
{
    while (*names) {
        const size_t length = strcspn(names, ",");
        uint32_t i = 0;
        while (i < net->layer_count &&
               (!net->layers[i].weight_count || strlen(net->layers[i].name) != length ||
                strncmp(net->layers[i].name, names, length) != 0))
            i++;
        if (i == net->layer_count || !length) {
            if (why && why_size)
                (void)snprintf(why, why_size,
                               "--protect: no layer with weights is called '%.*s' (nilm-model "
                               "inspect names them)",
                               (int)length, names);
            return -EINVAL;
        }
        options->protect[i] = 1;
        names += length + (names[length] == ',');
    }
    return 0;
}

static int acceptable(const struct net *net, const struct prune_options *o)
{
    return !net->stat_count && o->least >= 1 && o->ratio >= 0.0 && o->ratio < 1.0 &&
           o->align <= MODEL_MAX_WIDTH &&
           (o->criterion != PRUNE_TAYLOR || (o->sample && o->sample->windows));
}

int prune_channels(const struct net *net, const struct prune_options *options, struct net **out,
                   char *why, size_t why_size)
{
    struct net_layer layers[MODEL_MAX_LAYERS];
    float *worth[MODEL_MAX_LAYERS] = {NULL};
    struct plan p = {0};
    int rc;

    *out = NULL;
    if (!acceptable(net, options)) {
        if (why && why_size)
            (void)snprintf(why, why_size,
                           "expected a net with folded normalization, a ratio in [0, 1), at least "
                           "1 channel to stay, windows for the Taylor criterion");
        return -EINVAL;
    }
    rc = options->worth ? 0 : prune_worth(net, options, worth);
    if (!rc)
        rc = plan_create(net, options, options->worth ? options->worth : worth, &p);
    if (!rc)
        rc = choose(net, options, &p, why, why_size);
    memcpy(layers, net->layers, sizeof(layers));
    for (uint32_t i = 0; i < net->layer_count; i++)
        layers[i].out_channels = p.left[i];
    if (!rc)
        rc = net_from_layers(net->head, net->window, net->channels, layers, net->layer_count, out,
                             why, why_size);
    if (!rc)
        rc = copy_net(net, &p, *out);
    if (rc) {
        net_free(*out);
        *out = NULL;
    }
    plan_free(&p);
    prune_worth_free(worth);
    return rc;
}

int prune_smallest(const struct net *net, const struct prune_options *options, uint64_t *out)
{
    struct prune_options any = *options;
    float *worth[MODEL_MAX_LAYERS] = {NULL};
    struct plan p = {0};
    int rc;

    any.criterion = PRUNE_L1; /* any will do: all that may go goes */
    rc = prune_worth(net, &any, worth);
    if (!rc)
        rc = plan_create(net, &any, worth, &p);
    for (uint32_t i = 0; i < net->layer_count && !rc; i++)
        if (p.keep[i] && p.left[i] > options->least)
            p.left[i] = options->least;
    *out = rc ? 0 : parameters(net, &p, options->align);
    plan_free(&p);
    prune_worth_free(worth);
    return rc;
}
