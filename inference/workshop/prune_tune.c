/* prune_tune.c - pruning in steps, and the search for the smallest net. */
#include "inference/workshop/prune_tune.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/convert.h"

int prune_sample_draw(const struct dataset *d, const struct model_channel *channels,
                      uint32_t channel_count, uint32_t windows, uint64_t seed,
                      struct prune_sample *out)
{
    const struct train_options plain = {.seed = seed, .exact = 1};
    const size_t size = (size_t)d->options.window * channel_count;
    struct train_sampler sampler = {0};
    float *watts = malloc((d->options.window + 1u) * sizeof(*watts));
    int rc;

    *out = (struct prune_sample){.windows = windows,
                                 .mixed = d->mix != NULL,
                                 .features = calloc(windows, size * sizeof(*out->features)),
                                 .labels = calloc(windows, sizeof(*out->labels))};
    rc = watts && out->features && out->labels ? train_sampler_create(d, &sampler) : -ENOMEM;
    for (uint32_t i = 0; i < windows && !rc; i++)
        train_draw(d, &sampler, &plain, channels, channel_count, 0, i, watts,
                   out->features + i * size, out->labels + i);
    train_sampler_free(&sampler);
    free(watts);
    return rc;
}

void prune_sample_free(struct prune_sample *sample)
{
    free(sample->features);
    free(sample->labels);
    memset(sample, 0, sizeof(*sample));
}

/* Fine-tunes a folded net; *net is replaced. */
static int tune(struct net **net, const struct prune_tune_data *data,
                const struct train_options *options, char *why, size_t why_size)
{
    struct net *norm = NULL, *folded = NULL;
    struct train_result result;
    int rc = train_unfold(*net, data->channels, data->train, options->seed, &norm);

    if (!rc)
        rc = train_run(norm, data->channels, data->train, data->valid, options, &result, why,
                       why_size);
    if (!rc)
        rc = convert_fold(norm, &folded);
    if (!rc) {
        net_free(*net);
        *net = folded;
    }
    net_free(norm);
    return rc;
}

/* Parameters that one cut by ratio leaves. */
static int target_of_ratio(const struct net *net, const struct prune_options *options,
                           uint64_t *target, char *why, size_t why_size)
{
    struct net *cut;
    int rc = prune_channels(net, options, &cut, why, why_size);

    if (!rc)
        *target = cut->param_count;
    net_free(cut);
    return rc;
}

int prune_steps(const struct net *net, const struct prune_tune_data *data,
                const struct prune_tune_options *options, struct net **out, char *why,
                size_t why_size)
{
    const uint32_t steps = options->steps ? options->steps : 1;
    struct prune_options prune = options->prune;
    struct train_options train = options->train;
    struct net *now = NULL, *next;
    uint64_t target = prune.target_params;
    int rc = 0;

    *out = NULL;
    train.checkpoint = NULL; /* there are several trainings, each short */
    train.resume = 0;
    if (!options->steps)
        return prune_channels(net, &prune, out, why, why_size);
    if (!target)
        rc = target_of_ratio(net, &prune, &target, why, why_size);
    for (uint32_t k = 1; k <= steps && !rc; k++) {
        const double share = pow((double)target / (double)net->param_count, (double)k / steps);
        prune.target_params = k < steps ? (uint64_t)((double)net->param_count * share) : target;
        prune.worth = k == 1 ? options->prune.worth : NULL; /* it is worth of `net` */
        rc = prune_channels(now ? now : net, &prune, &next, why, why_size);
        if (rc)
            break;
        net_free(now);
        now = next;
        train.seed = options->train.seed + k;
        train.epochs = k < steps ? options->step_epochs : options->train.epochs;
        if (!train.quiet)
            fprintf(stderr, "cut %u of %u: %zu parameters\n", k, steps, now->param_count);
        if (train.epochs)
            rc = tune(&now, data, &train, why, why_size);
    }
    if (rc)
        net_free(now);
    else
        *out = now;
    return rc;
}

static int probe(const struct net *net, const struct prune_tune_data *data,
                 const struct prune_tune_options *options, struct prune_probe *p, struct net **out,
                 char *why, size_t why_size)
{
    struct prune_tune_options mine = *options;
    struct metrics *m = NULL;
    int rc;

    mine.prune.target_params = p->target;
    rc = prune_steps(net, data, &mine, out, why, why_size);
    if (!rc)
        rc = train_evaluate(*out, data->channels, data->valid, options->train.threads, &m);
    if (!rc) {
        p->parameters = (*out)->param_count;
        p->f1_macro = m->f1_macro;
        p->bce = m->bce;
        p->net = *out;
    }
    metrics_free(m);
    return rc;
}

int prune_search(const struct net *net, const struct prune_tune_data *data,
                 const struct prune_tune_options *options, double drop, uint32_t probes,
                 void (*probed)(void *context, const struct prune_probe *probe), void *context,
                 struct net **out, char *why, size_t why_size)
{
    struct metrics *m = NULL;
    uint64_t low, high = net->param_count;
    double wanted;
    int rc = prune_smallest(net, &options->prune, &low);

    *out = NULL;
    if (!rc)
        rc = train_evaluate(net, data->channels, data->valid, options->train.threads, &m);
    wanted = rc ? 0.0 : m->f1_macro - drop;
    metrics_free(m);
    for (uint32_t i = 0; i < probes && !rc && (double)high > 1.02 * (double)low; i++) {
        struct prune_probe p = {.target = (uint64_t)sqrt((double)low * (double)high)};
        struct net *tried = NULL;
        rc = probe(net, data, options, &p, &tried, why, why_size);
        p.within = !rc && p.f1_macro >= wanted;
        if (!rc && probed)
            probed(context, &p);
        if (p.within) {
            net_free(*out);
            *out = tried;
            high = p.parameters;
        } else {
            net_free(tried);
            low = p.target + 1; /* integers: the bounds meet */
        }
    }
    if (rc) {
        net_free(*out);
        *out = NULL;
    }
    return rc;
}
