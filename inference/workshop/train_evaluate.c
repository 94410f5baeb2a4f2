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

int train_evaluate(const struct net *net, const struct model_channel *channels,
                   const struct dataset *d, uint32_t threads, struct metrics **out)
{
    struct evaluation e = {.net = net, .channels = channels, .data = d};
    uint32_t tasks = (uint32_t)((d->window_count + TRAIN_SHARD - 1) / TRAIN_SHARD);
    int rc = -EINVAL;

    *out = NULL;
    if (d->options.window != net->window || d->class_count > net->class_count)
        return -EINVAL;
    threads = net_parallel_threads(threads);
    e.probabilities = malloc((d->window_count + 1) * net->class_count * sizeof(float));
    rc = e.probabilities ? 0 : -ENOMEM;
    for (uint32_t t = 0; t < threads && !rc; t++) {
        e.watts[t] = malloc((net->window + 1u) * sizeof(float));
        rc = e.watts[t] ? net_work_create(net, TRAIN_SHARD, &e.works[t]) : -ENOMEM;
    }
    if (!rc)
        rc = metrics_create(net->class_count, out);
    if (!rc) {
        net_parallel(threads, tasks, run_shard, &e);
        for (size_t i = 0; i < d->window_count; i++)
            metrics_add(*out, e.probabilities + i * net->class_count, d->windows[i].label);
        metrics_finish(*out);
    }
    for (uint32_t t = 0; t < threads; t++) {
        net_work_free(e.works[t]);
        free(e.watts[t]);
    }
    free(e.probabilities);
    return rc;
}
