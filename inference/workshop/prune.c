/* prune.c - structured pruning. */
#include "inference/workshop/prune.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct candidate {
    float worth;
    uint32_t layer, channel;
};

/* Which outputs of each layer stay: keep[layer][channel], for layers that have channels of their
 * own. */
struct plan {
    uint8_t *keep[MODEL_MAX_LAYERS];
    uint32_t left[MODEL_MAX_LAYERS];
    struct candidate *order;
    size_t count;
};

static int prunable(const struct net *net, uint32_t layer)
{
    return net->layers[layer].weight_count > 0 && layer + 1 < net->layer_count;
}

void prune_worth(const struct net *net, uint32_t layer, float *worth)
{
    const struct net_layer *l = &net->layers[layer];
    const size_t fan_in = l->weight_count / l->out_channels;
    double squares = 0.0;

    for (uint32_t o = 0; o < l->out_channels; o++) {
        const float *w = net->params + l->weights + o * fan_in;
        double sum = 0.0;
        for (size_t k = 0; k < fan_in; k++)
            sum += (double)w[k] * (double)w[k];
        worth[o] = (float)sqrt(sum);
        squares += sum;
    }
    double mean = sqrt(squares / l->out_channels);
    for (uint32_t o = 0; o < l->out_channels && mean > 0.0; o++)
        worth[o] = (float)((double)worth[o] / mean);
}

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
}

static int plan_create(const struct net *net, struct plan *p)
{
    size_t total = 0;

    for (uint32_t i = 0; i < net->layer_count; i++)
        total += prunable(net, i) ? net->layers[i].out_channels : 0;
    p->order = calloc(total + 1, sizeof(*p->order));
    if (!p->order)
        return -ENOMEM;
    for (uint32_t i = 0; i < net->layer_count; i++) {
        const uint32_t channels = net->layers[i].out_channels;
        float *worth;
        p->left[i] = channels;
        if (!prunable(net, i))
            continue;
        p->keep[i] = malloc(channels);
        worth = malloc(channels * sizeof(*worth));
        if (!p->keep[i] || !worth) {
            free(worth);
            return -ENOMEM;
        }
        memset(p->keep[i], 1, channels);
        prune_worth(net, i, worth);
        for (uint32_t c = 0; c < channels; c++)
            p->order[p->count++] = (struct candidate){worth[c], i, c};
        free(worth);
    }
    qsort(p->order, p->count, sizeof(*p->order), by_worth);
    return 0;
}

/* Parameters of the net that the plan leaves. */
static uint64_t parameters(const struct net *net, const struct plan *p)
{
    uint64_t channels = net->channels, sum = 0;

    for (uint32_t i = 0; i < net->layer_count; i++) {
        const struct net_layer *l = &net->layers[i];
        if (l->op == MODEL_FLATTEN)
            channels *= l->in_columns;
        if (!l->weight_count)
            continue;
        sum += p->left[i] * (channels * (l->op == MODEL_CONV1D ? l->taps : 1u) + 1u);
        channels = p->left[i];
    }
    return sum;
}

static int choose(const struct net *net, const struct prune_options *o, struct plan *p, char *why,
                  size_t why_size)
{
    size_t removed = 0, wanted = (size_t)(o->ratio * (double)p->count + 0.5);

    for (size_t i = 0; i < p->count; i++) {
        const struct candidate *c = &p->order[i];
        if (o->target_params ? parameters(net, p) <= o->target_params : removed >= wanted)
            return 0;
        if (p->left[c->layer] <= o->least)
            continue;
        p->keep[c->layer][c->channel] = 0;
        p->left[c->layer]--;
        removed++;
    }
    if (o->target_params ? parameters(net, p) <= o->target_params : removed >= wanted)
        return 0;
    if (why && why_size)
        (void)snprintf(
            why, why_size,
            "out of reach: %llu parameters are left when every layer keeps its last %u channels",
            (unsigned long long)parameters(net, p), o->least);
    return -EINVAL;
}

/* Copies what stays. inputs: indices of the inputs (one tap's) that stay, as many as the new
 * layer's in_channels. */
static void copy_layer(const struct net *net, uint32_t i, const struct plan *p,
                       const uint32_t *inputs, struct net *out)
{
    const struct net_layer *from = &net->layers[i], *to = &out->layers[i];
    const size_t taps = from->op == MODEL_CONV1D ? from->taps : 1u;
    float *w = out->params + to->weights, *b = out->params + to->bias;

    for (uint32_t o = 0; o < from->out_channels; o++) {
        const float *source = net->params + from->weights + o * taps * from->in_channels;
        if (p->keep[i] && !p->keep[i][o])
            continue;
        for (size_t t = 0; t < taps; t++)
            for (uint32_t k = 0; k < to->in_channels; k++)
                *w++ = source[t * from->in_channels + inputs[k]];
        *b++ = net->params[from->bias + o];
    }
}

/* Flatten: input c of column t is input t * channels + c of what follows. */
static void expand(uint32_t *inputs, uint32_t kept, uint32_t channels, uint32_t columns)
{
    for (uint32_t t = columns; t-- > 0;)
        for (uint32_t k = kept; k-- > 0;)
            inputs[t * kept + k] = t * channels + inputs[k];
}

static int copy_net(const struct net *net, const struct plan *p, struct net *out)
{
    uint32_t *inputs = calloc(MODEL_MAX_UNITS, sizeof(*inputs));

    if (!inputs)
        return -ENOMEM;
    for (uint32_t c = 0; c < net->channels; c++)
        inputs[c] = c;
    for (uint32_t i = 0; i < net->layer_count; i++) {
        const struct net_layer *l = &net->layers[i];
        if (l->op == MODEL_FLATTEN)
            expand(inputs, out->layers[i].in_channels, l->in_channels, l->in_columns);
        if (!l->weight_count)
            continue;
        copy_layer(net, i, p, inputs, out);
        for (uint32_t o = 0, n = 0; o < l->out_channels; o++)
            if (!p->keep[i] || p->keep[i][o])
                inputs[n++] = o;
    }
    free(inputs);
    return 0;
}

int prune_channels(const struct net *net, const struct prune_options *options, struct net **out,
                   char *why, size_t why_size)
{
    struct net_layer layers[MODEL_MAX_LAYERS];
    struct plan p = {0};
    int rc = -EINVAL;

    *out = NULL;
    if (net->stat_count || options->least < 1 || !(options->ratio >= 0.0 && options->ratio < 1.0)) {
        if (why && why_size)
            (void)snprintf(why, why_size,
                           "expected a net with folded normalization, a ratio in [0, 1), at least "
                           "1 channel to stay");
        return -EINVAL;
    }
    rc = plan_create(net, &p);
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
    return rc;
}
