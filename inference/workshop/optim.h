/* optim.h - AdamW (Loshchilov, Hutter 2019) and the one-cycle schedule (Smith, Topin 2018). */
#ifndef WORKSHOP_OPTIM_H
#define WORKSHOP_OPTIM_H

#include "inference/workshop/net.h"

/* Belongs to one net; the moments are laid out as its parameters. */
struct optim {
    float *first, *second;
    uint64_t step; /* done */
};

int optim_create(const struct net *net, struct optim **out); /* 0, -ENOMEM */
void optim_free(struct optim *o);

/* One step: moments 0.9 and 0.999, epsilon 1e-8. decay acts on weights only, not on biases and
 * normalization. */
void optim_step(struct optim *o, struct net *net, const float *gradient, double rate, double decay);

/* Learning rate for step (0-based) of steps: a cosine from peak/25 up to peak over the first `warm`
 * share of the steps, then a cosine down to peak/10000. */
double optim_one_cycle(uint64_t step, uint64_t steps, double peak, double warm);

#endif
