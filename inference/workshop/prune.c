/* prune.c - structured pruning. */
#include "inference/workshop/prune.h"

#include <errno.h>
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

/* LOCAL: a channel stands in the ranking with the share of its layer that is worth less. */
static void rank_within(struct candidate *of_layer, uint32_t channels)
{
    qsort(of_layer, channels, sizeof(*of_layer), by_worth);
    for (uint32_t c = 0; c < channels; c++)
        of_layer[c].worth = ((float)c + 0.5f) / (float)channels;
}

static int plan_create(const struct net *net, const struct prune_options *o, struct plan *p)
{
    float *worth[MODEL_MAX_LAYERS];
    size_t total = 0;
    int rc = prune_worth(net, o, worth);

    if (rc)
        return rc;
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
        for (uint32_t c = 0; c < channels; c++)
            p->order[p->count + c] = (struct candidate){worth[i][c], i, c};
        if (o->scope == PRUNE_LOCAL)
            rank_within(p->order + p->count, channels);
        p->count += channels;
    }
    if (!rc)
        qsort(p->order, p->count, sizeof(*p->order), by_worth);
    prune_worth_free(worth);
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
    uint64_t channels = net->channels, sum = 0;

    for (uint32_t i = 0; i < net->layer_count; i++) {
        const struct net_layer *l = &net->layers[i];
        if (l->op == MODEL_FLATTEN)
            channels *= l->in_columns;
        if (!l->weight_count)
            continue;
        sum += width(net, p, align, i) * (channels * (l->op == MODEL_CONV1D ? l->taps : 1u) + 1u);
        channels = width(net, p, align, i);
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
    struct plan p = {0};
    int rc = -EINVAL;

    *out = NULL;
    if (!acceptable(net, options)) {
        if (why && why_size)
            (void)snprintf(why, why_size,
                           "expected a net with folded normalization, a ratio in [0, 1), at least "
                           "1 channel to stay, windows for the Taylor criterion");
        return -EINVAL;
    }
    rc = plan_create(net, options, &p);
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
