/* prune_tune.h - pruning with fine-tuning between the cuts, the smallest net within a loss of F1,
 * and how sensitive each layer is.
 *
 * Nets go in and come out folded; for fine-tuning they get their normalization back (train_unfold).
 * Progress goes to standard error unless train.quiet is set.
 */
#ifndef WORKSHOP_PRUNE_TUNE_H
#define WORKSHOP_PRUNE_TUNE_H

#include "inference/workshop/dataset.h"
#include "inference/workshop/metrics.h"
#include "inference/workshop/prune.h"
#include "inference/workshop/train.h"

/* Draws labelled windows for TAYLOR as in training, not varied. Release with prune_sample_free,
 * also after a failure. 0, -ENOMEM. */
int prune_sample_draw(const struct dataset *d, const struct model_channel *channels,
                      uint32_t channel_count, uint32_t windows, uint64_t seed,
                      struct prune_sample *out);
void prune_sample_free(struct prune_sample *sample);

struct prune_tune_data {
    const struct model_channel *channels;
    const struct dataset *train, *valid; /* valid may be NULL for prune_steps */
};

struct prune_tune_options {
    struct prune_options prune; /* ratio or target_params: of the whole way */
    /* Cuts, each followed by fine-tuning: the last one for train.epochs, those before for
     * step_epochs. Parameters shrink by the same factor each time; a ratio counts as the number of
     * parameters that one cut by it would leave. 0: one cut, no fine-tuning. */
    uint32_t steps, step_epochs;
    /* Each cut adds 1 to its seed: other windows, other dropout. Without checkpoints. */
    struct train_options train;
};

/* *out: pruned, fine-tuned, folded. 0 or what prune_channels and train_run return, with why. */
int prune_steps(const struct net *net, const struct prune_tune_data *data,
                const struct prune_tune_options *options, struct net **out, char *why,
                size_t why_size);

struct prune_probe {
    uint64_t target, parameters; /* asked for, and what it came to */
    double f1_macro, bce;        /* validation part */
    int within;
    const struct net *net; /* until the callback returns */
};

/* Looks for the smallest net whose macro F1 on the validation part is at least that of `net` less
 * `drop`: bisection of the number of parameters, geometric, between what must stay and what there
 * is; every probe starts from `net` and runs prune_steps with all of its fine-tuning. At most
 * `probes` probes, or until the bounds are 2 % apart. F1 is taken to grow with size, which it does
 * up to chance. probed (may be NULL) is called after each. *out: the best net that is within, NULL
 * with 0 where no probe was. 0, -EINVAL, -ENOMEM, -EDOM, with why. */
int prune_search(const struct net *net, const struct prune_tune_data *data,
                 const struct prune_tune_options *options, double drop, uint32_t probes,
                 void (*probed)(void *context, const struct prune_probe *probe), void *context,
                 struct net **out, char *why, size_t why_size);

#define PRUNE_SENSITIVITY_RATIOS 9u /* 10 % .. 90 % */

struct prune_sensitivity {
    uint32_t layer, channels; /* channels that are left */
    double ratio;
    uint64_t parameters;
    double f1_macro, accuracy, bce, cross_entropy; /* validation part */
};

/* Prunes one layer at a time, of those that are not protected, and evaluates without fine-tuning.
 * least and align do not count, at least one channel stays. *rows: layer by layer (free()). 0,
 * -ENOMEM, -EINVAL with why. */
int prune_sensitivity(const struct net *net, const struct prune_tune_data *data,
                      const struct prune_options *options, uint32_t threads, int quiet,
                      struct prune_sensitivity **rows, size_t *count, char *why, size_t why_size);

#endif
