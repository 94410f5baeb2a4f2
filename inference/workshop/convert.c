/* convert.c - between the workshop's nets and FP32 model files. */
#include "inference/workshop/convert.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/cli.h"

/* Same as net_forward.c's. */
#define NORM_EPSILON 1e-5

static void fold_layer(const struct net *net, const struct net_layer *from, struct net *folded,
                       const struct net_layer *to)
{
    const size_t fan_in = from->weight_count / from->out_channels;

    for (uint32_t o = 0; o < from->out_channels; o++) {
        double factor = 1.0, shift = (double)net->params[from->bias + o];
        if (from->norm) {
            factor = (double)net->params[from->gamma + o] /
                     sqrt((double)net->stats[from->variance + o] + NORM_EPSILON);
            shift -= (double)net->stats[from->mean + o] * factor;
        }
        for (size_t k = 0; k < fan_in; k++)
            folded->params[to->weights + o * fan_in + k] =
                (float)((double)net->params[from->weights + o * fan_in + k] * factor);
        folded->params[to->bias + o] = (float)shift;
    }
}

int convert_fold(const struct net *net, struct net **out)
{
    struct net_layer layers[MODEL_MAX_LAYERS];
    int rc;

    memcpy(layers, net->layers, sizeof(layers));
    for (uint32_t i = 0; i < net->layer_count; i++)
        layers[i].norm = 0;
    rc = net_from_layers(net->head, net->window, net->channels, layers, net->layer_count, out, NULL,
                         0);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < net->layer_count; i++)
        if (net->layers[i].weight_count)
            fold_layer(net, &net->layers[i], *out, &(*out)->layers[i]);
    return 0;
}

int convert_from_model(const struct model *m, struct net **out, char *why, size_t why_size)
{
    struct net_layer layers[MODEL_MAX_LAYERS];
    int rc;

    *out = NULL;
    if (m->dtype != MODEL_FP32) {
        if (why && why_size)
            (void)snprintf(why, why_size, "this is an INT8 model; an FP32 model is needed");
        return -EINVAL;
    }
    memset(layers, 0, sizeof(layers));
    for (uint32_t i = 0; i < m->layer_count; i++) {
        const struct model_layer *l = &m->layers[i];
        layers[i].op = l->op;
        layers[i].relu = l->relu;
        layers[i].out_channels = l->out_channels;
        layers[i].taps = l->taps;
        layers[i].pool = l->pool;
        memcpy(layers[i].name, l->name, sizeof(layers[i].name));
    }
    rc = net_from_layers(m->head, m->window, m->channel_count, layers, m->layer_count, out, why,
                         why_size);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < m->layer_count; i++) {
        const struct net_layer *l = &(*out)->layers[i];
        if (!l->weight_count)
            continue;
        memcpy((*out)->params + l->weights, m->layers[i].weights_f32,
               l->weight_count * sizeof(float));
        memcpy((*out)->params + l->bias, m->layers[i].bias_f32, l->out_channels * sizeof(float));
    }
    return 0;
}

int convert_to_model(const struct net *net, struct model *m)
{
    m->dtype = MODEL_FP32;
    m->head = net->head;
    m->window = net->window;
    m->class_count = net->class_count;
    m->layer_count = net->layer_count;
    memset(m->layers, 0, sizeof(m->layers));
    for (uint32_t i = 0; i < net->layer_count; i++) {
        const struct net_layer *l = &net->layers[i];
        struct model_layer *o = &m->layers[i];
        if (l->norm)
            return -EINVAL;
        o->op = l->op;
        o->relu = l->relu;
        o->in_channels = l->in_channels;
        o->out_channels = l->out_channels;
        o->in_columns = l->in_columns;
        o->out_columns = l->out_columns;
        o->taps = l->taps;
        o->pool = l->pool;
        memcpy(o->name, l->name, sizeof(o->name));
        if (l->weight_count) {
            o->weights_f32 = net->params + l->weights;
            o->bias_f32 = net->params + l->bias;
        }
    }
    return 0;
}

int convert_write(const struct model *m, const char *path, size_t *size, char *why, size_t why_size)
{
    void *data = NULL;
    size_t bytes = 0;
    int rc = model_encode(m, &data, &bytes, why, why_size);

    if (rc)
        return rc;
    rc = cli_write_file(path, data, bytes);
    if (rc && why && why_size)
        (void)snprintf(why, why_size, "%s: %s", path, strerror(-rc));
    if (!rc && size)
        *size = bytes;
    free(data);
    return rc;
}
