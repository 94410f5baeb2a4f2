/* net.c - description, geometry and start values of a network. */
#include "inference/workshop/net.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/net_random.h"

static int refuse(char *why, size_t size, const struct net_layer *l, const char *text)
{
    if (why && size)
        (void)snprintf(why, size, "layer %s: %s", l->name[0] ? l->name : "?", text);
    return -EINVAL;
}

/* Derives one layer from its input; advances the geometry that the next one sees. */
static int derive(struct net_layer *l, uint32_t *channels, uint32_t *columns, uint32_t *pitch,
                  char *why, size_t why_size)
{
    l->in_channels = *channels;
    l->in_columns = *columns;
    l->in_pitch = *pitch;
    switch (l->op) {
    case MODEL_CONV1D:
        if (l->taps < 1 || l->taps > MODEL_MAX_TAPS || l->taps > l->in_columns)
            return refuse(why, why_size, l, "taps must be 1 to 64 and fit into its input columns");
        if (l->out_channels < 1 || l->out_channels > MODEL_MAX_WIDTH)
            return refuse(why, why_size, l, "width must be 1 to 1024 channels");
        l->out_columns = l->in_columns - l->taps + 1;
        l->out_pitch = l->in_pitch;
        l->weight_count = (size_t)l->out_channels * l->taps * l->in_channels;
        break;
    case MODEL_MAXPOOL1D:
        if (l->pool < 1 || l->pool > MODEL_MAX_POOL || l->pool > l->in_columns)
            return refuse(why, why_size, l, "pool must be 1 to 16 and fit into its input columns");
        l->out_channels = l->in_channels;
        l->out_columns = l->out_pitch = l->in_columns / l->pool;
        break;
    case MODEL_FLATTEN:
        if ((uint64_t)l->in_channels * l->in_columns > MODEL_MAX_UNITS)
            return refuse(why, why_size, l, "more than 65536 units");
        l->out_channels = l->in_channels * l->in_columns;
        l->out_columns = l->out_pitch = 1;
        break;
    case MODEL_DENSE:
        if (l->in_columns != 1 || l->out_channels < 1 || l->out_channels > MODEL_MAX_UNITS)
            return refuse(why, why_size, l, "a dense layer has one column and 1 to 65536 units");
        l->out_columns = l->out_pitch = 1;
        l->weight_count = (size_t)l->out_channels * l->in_channels;
        break;
    default:
        return refuse(why, why_size, l, "unknown operation");
    }
    *channels = l->out_channels;
    *columns = l->out_columns;
    *pitch = l->out_pitch;
    return 0;
}

static void place(struct net *net, struct net_layer *l)
{
    if (l->op != MODEL_CONV1D && l->op != MODEL_DENSE)
        return;
    l->weights = net->param_count;
    l->bias = l->weights + l->weight_count;
    net->param_count = l->bias + l->out_channels;
    if (l->norm) {
        l->gamma = net->param_count;
        net->param_count += l->out_channels;
        l->mean = net->stat_count;
        l->variance = l->mean + l->out_channels;
        net->stat_count = l->variance + l->out_channels;
    }
}

static int allocate(struct net *net)
{
    net->params = calloc(net->param_count, sizeof(float));
    net->stats = calloc(net->stat_count ? net->stat_count : 1, sizeof(float));
    if (!net->params || !net->stats)
        return -ENOMEM;
    for (uint32_t i = 0; i < net->layer_count; i++) {
        const struct net_layer *l = &net->layers[i];
        for (uint32_t c = 0; l->norm && c < l->out_channels; c++)
            net->params[l->gamma + c] = net->stats[l->variance + c] = 1.0f;
    }
    return 0;
}

int net_from_layers(enum model_head head, uint32_t window, uint32_t channels,
                    const struct net_layer *layers, uint32_t layer_count, struct net **out,
                    char *why, size_t why_size)
{
    struct net *net = calloc(1, sizeof(*net));
    uint32_t c = channels, columns = window, pitch = window;
    int rc = -EINVAL;

    *out = NULL;
    if (!net)
        return -ENOMEM;
    if (window < 1 || window > MODEL_MAX_WINDOW || channels < 1 || channels > MODEL_MAX_CHANNELS ||
        layer_count < 1 || layer_count > MODEL_MAX_LAYERS) {
        if (why && why_size)
            (void)snprintf(why, why_size,
                           "a network has a window of 1 to %u, 1 to %u inputs, 1 to %u layers",
                           MODEL_MAX_WINDOW, MODEL_MAX_CHANNELS, MODEL_MAX_LAYERS);
        goto fail;
    }
    net->head = head;
    net->window = window;
    net->channels = channels;
    net->layer_count = layer_count;
    for (uint32_t i = 0; i < layer_count; i++) {
        net->layers[i] = layers[i];
        rc = derive(&net->layers[i], &c, &columns, &pitch, why, why_size);
        if (rc)
            goto fail;
        place(net, &net->layers[i]);
    }
    if (net->layers[layer_count - 1].op != MODEL_DENSE || net->layers[layer_count - 1].relu) {
        rc = refuse(why, why_size, &net->layers[layer_count - 1],
                    "the last layer must be dense without ReLU");
        goto fail;
    }
    net->class_count = net->layers[layer_count - 1].out_channels;
    rc = allocate(net);
    if (rc)
        goto fail;
    *out = net;
    return 0;
fail:
    net_free(net);
    return rc;
}

int net_create(const struct net_spec *spec, struct net **out, char *why, size_t why_size)
{
    struct net_layer layers[2 * NET_MAX_BLOCKS + NET_MAX_BLOCKS + 2];
    uint32_t n = 0, dense = 0;

    *out = NULL;
    memset(layers, 0, sizeof(layers));
    if (spec->conv_count > NET_MAX_BLOCKS || spec->hidden_count > NET_MAX_BLOCKS) {
        if (why && why_size)
            (void)snprintf(why, why_size, "at most %u convolutions and %u hidden layers",
                           NET_MAX_BLOCKS, NET_MAX_BLOCKS);
        return -EINVAL;
    }
    for (uint32_t i = 0; i < spec->conv_count; i++) {
        struct net_layer *l = &layers[n++];
        l->op = MODEL_CONV1D;
        l->relu = 1;
        l->norm = spec->norm;
        l->out_channels = spec->conv[i].width;
        l->taps = spec->conv[i].taps;
        (void)snprintf(l->name, sizeof(l->name), "conv%u", i + 1);
        if (spec->conv[i].pool > 1) {
            l = &layers[n++];
            l->op = MODEL_MAXPOOL1D;
            l->pool = spec->conv[i].pool;
            (void)snprintf(l->name, sizeof(l->name), "pool%u", i + 1);
        }
    }
    layers[n].op = MODEL_FLATTEN;
    (void)snprintf(layers[n++].name, sizeof(layers[0].name), "flatten");
    for (uint32_t i = 0; i <= spec->hidden_count; i++) {
        struct net_layer *l = &layers[n++];
        l->op = MODEL_DENSE;
        l->relu = i < spec->hidden_count;
        l->out_channels = i < spec->hidden_count ? spec->hidden[i] : spec->class_count;
        (void)snprintf(l->name, sizeof(l->name), "dense%u", ++dense);
    }
    return net_from_layers(spec->head, spec->window, spec->channels, layers, n, out, why, why_size);
}

int net_clone(const struct net *net, struct net **out)
{
    struct net *copy = malloc(sizeof(*copy));

    *out = NULL;
    if (!copy)
        return -ENOMEM;
    *copy = *net;
    copy->params = malloc(net->param_count * sizeof(float));
    copy->stats = malloc((net->stat_count ? net->stat_count : 1) * sizeof(float));
    if (!copy->params || !copy->stats) {
        net_free(copy);
        return -ENOMEM;
    }
    memcpy(copy->params, net->params, net->param_count * sizeof(float));
    memcpy(copy->stats, net->stats, net->stat_count * sizeof(float));
    *out = copy;
    return 0;
}

void net_free(struct net *net)
{
    if (!net)
        return;
    free(net->params);
    free(net->stats);
    free(net);
}

void net_init(struct net *net, uint64_t seed)
{
    for (uint32_t i = 0; i < net->layer_count; i++) {
        const struct net_layer *l = &net->layers[i];
        if (!l->weight_count)
            continue;
        struct net_random r = net_random_stream(seed, 1, i);
        double fan_in = (double)(l->weight_count / l->out_channels);
        /* logits start small, so that the first steps do not fight a random opinion */
        double deviation = sqrt((l->relu ? 2.0 : 0.25) / fan_in);
        for (size_t k = 0; k < l->weight_count; k++)
            net->params[l->weights + k] = (float)(deviation * net_random_normal(&r));
    }
}
