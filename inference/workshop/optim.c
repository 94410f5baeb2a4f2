/* optim.c - AdamW and the one-cycle schedule. */
#include "inference/workshop/optim.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

int optim_create(const struct net *net, struct optim **out)
{
    struct optim *o = calloc(1, sizeof(*o));

    *out = NULL;
    if (!o)
        return -ENOMEM;
    o->first = calloc(net->param_count, sizeof(float));
    o->second = calloc(net->param_count, sizeof(float));
    if (!o->first || !o->second) {
        optim_free(o);
        return -ENOMEM;
    }
    *out = o;
    return 0;
}

void optim_free(struct optim *o)
{
    if (!o)
        return;
    free(o->first);
    free(o->second);
    free(o);
}

static void update(struct optim *o, float *params, const float *gradient, size_t from, size_t count,
                   double rate, double decay)
{
    const float b1 = 0.9f, b2 = 0.999f;
    const float c1 = (float)(rate / (1.0 - pow(0.9, (double)o->step)));
    const float c2 = (float)(1.0 / (1.0 - pow(0.999, (double)o->step)));
    const float keep = (float)(1.0 - rate * decay);

    for (size_t i = from; i < from + count; i++) {
        float g = gradient[i];
        float m = o->first[i] = b1 * o->first[i] + (1.0f - b1) * g;
        float v = o->second[i] = b2 * o->second[i] + (1.0f - b2) * g * g;
        params[i] = params[i] * keep - c1 * m / (sqrtf(v * c2) + 1e-8f);
    }
}

void optim_step(struct optim *o, struct net *net, const float *gradient, double rate, double decay)
{
    o->step++;
    for (uint32_t i = 0; i < net->layer_count; i++) {
        const struct net_layer *l = &net->layers[i];
        if (!l->weight_count)
            continue;
        update(o, net->params, gradient, l->weights, l->weight_count, rate, decay);
        update(o, net->params, gradient, l->bias, l->out_channels, rate, 0.0);
        if (l->norm)
            update(o, net->params, gradient, l->gamma, l->out_channels, rate, 0.0);
    }
}

double optim_one_cycle(uint64_t step, uint64_t steps, double peak, double warm)
{
    const double pi = 3.141592653589793;
    double at = steps > 1 ? (double)step / (double)(steps - 1) : 1.0;
    double from = peak / 25.0, to = peak, share = warm > 0.0 ? at / warm : 1.0;

    if (at >= warm) {
        from = peak;
        to = peak / 10000.0;
        share = warm < 1.0 ? (at - warm) / (1.0 - warm) : 1.0;
    }
    return to + (from - to) * 0.5 * (1.0 + cos(pi * share));
}
