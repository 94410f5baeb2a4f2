/* train_evaluate.c - a net as deployed, on every window of a dataset; and its statistics there. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/net_parallel.h"
#include "inference/workshop/net_random.h"
#include "inference/workshop/train.h"

struct evaluation {
    const struct net *net;
    const struct model_channel *channels;
    const struct dataset *data;
    float *probabilities; /* [window_count][class_count] */
    struct net_work *works[NET_MAX_THREADS];
    float *watts[NET_MAX_THREADS];
};

static void run_shard(void *context, uint32_t task, uint32_t thread)
{
    struct evaluation *e = context;
    const struct net *net = e->net;
    const struct net_mode deployed = {0};
    size_t first = (size_t)task * TRAIN_SHARD, left = e->data->window_count - first;
    uint32_t n = left < TRAIN_SHARD ? (uint32_t)left : TRAIN_SHARD;
    float *input = net_work_input(e->works[thread]);

    for (uint32_t i = 0; i < n; i++) {
        dataset_copy(e->data, &e->data->windows[first + i], 0, e->watts[thread]);
        net_features(e->channels, net->channels, net->window, e->watts[thread],
                     input + (size_t)i * net->window * net->channels);
    }
    const float *logits = net_forward(net, e->works[thread], n, &deployed);
    for (uint32_t i = 0; i < n; i++)
        net_probabilities(net->head, net->class_count, logits + (size_t)i * net->class_count,
                          e->probabilities + (first + i) * net->class_count);
}

int train_probabilities(const struct net *net, const struct model_channel *channels,
                        const struct dataset *d, uint32_t threads, float *out)
{
    struct evaluation e = {.net = net, .channels = channels, .data = d, .probabilities = out};
    uint32_t tasks = (uint32_t)((d->window_count + TRAIN_SHARD - 1) / TRAIN_SHARD);
    int rc = 0;

    if (d->options.window != net->window || d->class_count > net->class_count)
        return -EINVAL;
    threads = net_parallel_threads(threads);
    for (uint32_t t = 0; t < threads && !rc; t++) {
        e.watts[t] = malloc((net->window + 1u) * sizeof(float));
        rc = e.watts[t] ? net_work_create(net, TRAIN_SHARD, &e.works[t]) : -ENOMEM;
    }
    if (!rc)
        net_parallel(threads, tasks, run_shard, &e);
    for (uint32_t t = 0; t < threads; t++) {
        net_work_free(e.works[t]);
        free(e.watts[t]);
    }
    return rc;
}

int train_evaluate(const struct net *net, const struct model_channel *channels,
                   const struct dataset *d, uint32_t threads, struct metrics **out)
{
    float *p = malloc((d->window_count + 1) * net->class_count * sizeof(float));
    int rc = p ? train_probabilities(net, channels, d, threads, p) : -ENOMEM;

    *out = NULL;
    if (!rc)
        rc = metrics_create(net->class_count, out);
    if (!rc) {
        for (size_t i = 0; i < d->window_count; i++)
            if (!d->mix)
                metrics_add(*out, p + i * net->class_count, d->windows[i].label);
            else if (!rc)
                rc = metrics_add_set(*out, p + i * net->class_count, d->windows[i].on);
        metrics_finish(*out);
    }
    free(p);
    return rc;
}

#define UNFOLD_SHARDS 24u

/* Sets layer i's normalization to the identity on what its product gives, measured over some
 * shards. */
static void unfold_layer(struct net *net, uint32_t i, const struct model_channel *channels,
                         const struct dataset *d, const struct train_sampler *sampler,
                         const struct train_options *options, struct net_work *work, float *watts)
{
    const struct net_layer *l = &net->layers[i];
    const struct net_mode mode = {.train = 1};
    double mean[MODEL_MAX_WIDTH] = {0}, variance[MODEL_MAX_WIDTH] = {0};
    uint32_t label;

    for (uint32_t s = 0; s < UNFOLD_SHARDS; s++) {
        for (uint32_t k = 0; k < TRAIN_SHARD; k++)
            train_draw(d, sampler, options, channels, net->channels, s, k, watts,
                       net_work_input(work) + (size_t)k * net->window * net->channels, &label);
        (void)net_forward(net, work, TRAIN_SHARD, &mode);
        for (uint32_t c = 0; c < l->out_channels; c++) {
            mean[c] += (double)net_work_stats(work)[l->mean + c] / UNFOLD_SHARDS;
            variance[c] += (double)net_work_stats(work)[l->variance + c] / UNFOLD_SHARDS;
        }
    }
    for (uint32_t c = 0; c < l->out_channels; c++) {
        net->stats[l->mean + c] = (float)mean[c];
        net->stats[l->variance + c] = (float)variance[c];
        net->params[l->gamma + c] = (float)sqrt(variance[c] + 1e-5);
        net->params[l->bias + c] += (float)mean[c];
    }
}

int train_unfold(const struct net *net, const struct model_channel *channels,
                 const struct dataset *d, uint64_t seed, struct net **out)
{
    struct net_layer layers[MODEL_MAX_LAYERS];
    struct train_sampler sampler = {0};
    struct train_options options;
    struct net_work *work = NULL;
    float *watts = malloc((net->window + 1u) * sizeof(*watts));
    int rc;

    *out = NULL;
    train_defaults(&options);
    options.seed = seed;
    memcpy(layers, net->layers, sizeof(layers));
    for (uint32_t i = 0; i < net->layer_count; i++)
        layers[i].norm = layers[i].op == MODEL_CONV1D;
    rc = watts ? net_from_layers(net->head, net->window, net->channels, layers, net->layer_count,
                                 out, NULL, 0)
               : -ENOMEM;
    if (!rc)
        rc = net_work_create(*out, TRAIN_SHARD, &work);
    if (!rc)
        rc = train_sampler_create(d, &sampler);
    for (uint32_t i = 0; i < net->layer_count && !rc; i++) {
        const struct net_layer *from = &net->layers[i], *to = &(*out)->layers[i];
        memcpy((*out)->params + to->weights, net->params + from->weights,
               from->weight_count * sizeof(float));
        if (from->weight_count)
            memcpy((*out)->params + to->bias, net->params + from->bias,
                   from->out_channels * sizeof(float));
    }
    /* in order: what a layer sees depends on those before it, not on its own normalization */
    for (uint32_t i = 0; i < net->layer_count && !rc; i++)
        if ((*out)->layers[i].norm)
            unfold_layer(*out, i, channels, d, &sampler, &options, work, watts);
    if (rc) {
        net_free(*out);
        *out = NULL;
    }
    net_work_free(work);
    train_sampler_free(&sampler);
    free(watts);
    return rc;
}
