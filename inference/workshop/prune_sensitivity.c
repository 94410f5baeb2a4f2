/* prune_sensitivity.c - what each layer's channels are worth together: one layer pruned at a time.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/cli.h"
#include "inference/workshop/prune_tune.h"

static int measure(const struct net *net, const struct prune_tune_data *data,
                   const struct prune_options *options, uint32_t threads,
                   struct prune_sensitivity *row, char *why, size_t why_size)
{
    struct prune_options mine = *options;
    struct metrics *m = NULL;
    struct net *cut = NULL;
    int rc;

    memset(mine.protect, 1, sizeof(mine.protect));
    mine.protect[row->layer] = 0;
    mine.scope = PRUNE_LOCAL;
    mine.ratio = row->ratio;
    mine.target_params = 0;
    mine.least = 1;
    mine.align = 0;
    rc = prune_channels(net, &mine, &cut, why, why_size);
    if (!rc)
        rc = train_evaluate(cut, data->channels, data->valid, threads, &m);
    if (!rc) {
        row->channels = cut->layers[row->layer].out_channels;
        row->parameters = cut->param_count;
        row->f1_macro = m->f1_macro;
        row->accuracy = m->accuracy;
        row->bce = m->bce;
        row->cross_entropy = m->cross_entropy;
    }
    metrics_free(m);
    net_free(cut);
    return rc;
}

int prune_sensitivity(const struct net *net, const struct prune_tune_data *data,
                      const struct prune_options *options, uint32_t threads, int quiet,
                      struct prune_sensitivity **rows, size_t *count, char *why, size_t why_size)
{
    struct prune_options mine = *options;
    struct cli_progress progress;
    float *worth[MODEL_MAX_LAYERS];
    size_t wanted = 0;
    int rc = prune_worth(net, options, worth);

    *rows = NULL;
    *count = 0;
    if (rc)
        return rc;
    mine.worth = worth;
    for (uint32_t i = 0; i < net->layer_count; i++)
        wanted += worth[i] && !options->protect[i] ? PRUNE_SENSITIVITY_RATIOS : 0;
    *rows = calloc(wanted + 1, sizeof(**rows));
    rc = *rows ? 0 : -ENOMEM;
    if (!quiet)
        cli_progress_begin(&progress, "pruning layer by layer", wanted);
    for (uint32_t i = 0; i < net->layer_count; i++) {
        for (uint32_t k = 1; k <= PRUNE_SENSITIVITY_RATIOS && !rc; k++) {
            struct prune_sensitivity *row = *rows + *count;
            if (!worth[i] || options->protect[i])
                continue;
            *row = (struct prune_sensitivity){.layer = i, .ratio = k / 10.0};
            rc = measure(net, data, &mine, threads, row, why, why_size);
            *count += !rc;
            if (!quiet)
                cli_progress_step(&progress, *count, net->layers[i].name);
        }
    }
    if (!quiet)
        cli_progress_end(&progress, NULL);
    prune_worth_free(worth);
    if (rc) {
        free(*rows);
        *rows = NULL;
    }
    return rc;
}
