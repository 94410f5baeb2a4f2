/* prune_worth.c - what channels are worth. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/net_random.h"
#include "inference/workshop/prune.h"

static void norms(const struct net *net, uint32_t layer, enum prune_criterion criterion,
                  float *worth)
{
    const struct net_layer *l = &net->layers[layer];
    const size_t fan_in = l->weight_count / l->out_channels;
    double squares = 0.0;

    for (uint32_t o = 0; o < l->out_channels; o++) {
        const float *w = net->params + l->weights + o * fan_in;
        double sum = 0.0;
        for (size_t k = 0; k < fan_in; k++)
            sum += criterion == PRUNE_L1 ? fabs((double)w[k]) : (double)w[k] * (double)w[k];
        worth[o] = (float)(criterion == PRUNE_L1 ? sum : sqrt(sum));
        squares += criterion == PRUNE_L1 ? sum * sum : sum;
    }
    double mean = sqrt(squares / l->out_channels);
    for (uint32_t o = 0; o < l->out_channels && mean > 0.0; o++)
        worth[o] = (float)((double)worth[o] / mean);
}

/* Adds one window's (sum g w + g_bias bias)^2. */
static void add_taylor(const struct net *net, const float *gradient, double share,
                       float *worth[MODEL_MAX_LAYERS])
{
    for (uint32_t i = 0; i < net->layer_count; i++) {
        const struct net_layer *l = &net->layers[i];
        const size_t fan_in = l->weight_count / l->out_channels;
        for (uint32_t o = 0; o < l->out_channels && worth[i]; o++) {
            const size_t at = l->weights + o * fan_in;
            double change = (double)gradient[l->bias + o] * (double)net->params[l->bias + o];
            for (size_t k = 0; k < fan_in; k++)
                change += (double)gradient[at + k] * (double)net->params[at + k];
            worth[i][o] += (float)(change * change * share);
        }
    }
}

static int taylor(const struct net *net, const struct prune_sample *sample,
                  float *worth[MODEL_MAX_LAYERS])
{
    const size_t size = (size_t)net->window * net->channels;
    float *gradient = malloc(net->param_count * sizeof(*gradient));
    float *d_logits = malloc(2u * net->class_count * sizeof(*d_logits));
    struct net_work *work = NULL;
    int rc = gradient && d_logits ? net_work_create(net, 1, &work) : -ENOMEM;

    for (uint32_t n = 0; n < sample->windows && !rc; n++) {
        memcpy(net_work_input(work), sample->features + n * size, size * sizeof(float));
        const float *logits = net_forward(net, work, 1, &(struct net_mode){0});
        float *target = d_logits + net->class_count;
        memset(target, 0, net->class_count * sizeof(*target));
        if (sample->mixed)
            net_set_targets(net->class_count, sample->labels[n], target);
        else
            net_add_target(net->head, net->class_count, sample->labels[n], 1.0f, 0.0f, target);
        (void)net_loss(net, logits, target, NULL, 1, 1.0f, d_logits);
        net_backward(net, work, d_logits, gradient);
        add_taylor(net, gradient, 1.0 / sample->windows, worth);
    }
    net_work_free(work);
    free(gradient);
    free(d_logits);
    return rc;
}

int prune_worth(const struct net *net, const struct prune_options *options,
                float *worth[MODEL_MAX_LAYERS])
{
    int rc = 0;

    memset(worth, 0, MODEL_MAX_LAYERS * sizeof(*worth));
    for (uint32_t i = 0; i + 1 < net->layer_count && !rc; i++) {
        const uint32_t channels = net->layers[i].out_channels;
        struct net_random r = net_random_stream(options->seed, 5, i);
        if (!net->layers[i].weight_count)
            continue;
        worth[i] = calloc(channels, sizeof(**worth));
        if (!worth[i])
            rc = -ENOMEM;
        else if (options->criterion == PRUNE_L1 || options->criterion == PRUNE_L2)
            norms(net, i, options->criterion, worth[i]);
        for (uint32_t c = 0; c < channels && !rc && options->criterion == PRUNE_RANDOM; c++)
            worth[i][c] = (float)net_random_unit(&r);
    }
    if (!rc && options->criterion == PRUNE_TAYLOR)
        rc = taylor(net, options->sample, worth);
    if (rc)
        prune_worth_free(worth);
    return rc;
}

void prune_worth_free(float *worth[MODEL_MAX_LAYERS])
{
    for (uint32_t i = 0; i < MODEL_MAX_LAYERS; i++) {
        free(worth[i]);
        worth[i] = NULL;
    }
}
