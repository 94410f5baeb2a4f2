/* train.h - the training loop: sampling, augmentation, data-parallel steps, the best epoch by
 * validation.
 *
 * Same net, data, options and seed give the same bytes on the same machine, whatever `threads` is:
 * a batch is cut into shards of TRAIN_SHARD windows, each with its own gradient and random stream,
 * and gradients are added in shard order.
 */
#ifndef WORKSHOP_TRAIN_H
#define WORKSHOP_TRAIN_H

#include "inference/model.h"
#include "inference/workshop/dataset.h"
#include "inference/workshop/metrics.h"
#include "inference/workshop/net.h"

#define TRAIN_SHARD 16u

/* train_defaults fills in what the shipped models were trained with. */
struct train_options {
    uint32_t epochs;
    uint32_t epoch_windows; /* windows drawn in an epoch; 0: as many as the training part has */
    uint32_t batch;         /* rounded up to whole shards */
    uint32_t threads;       /* 0: one per processor */
    uint64_t seed;
    float rate;  /* peak of the one-cycle schedule */
    float warm;  /* share of the steps until the peak */
    float decay; /* AdamW */
    float dropout, smoothing;
    /* Augmentation, in this order. */
    float onset; /* share of windows moved so that an appliance has just switched on at their end */
    uint32_t onset_samples; /* at most so many samples ago */
    uint32_t shift;         /* the others are moved by up to so many samples either way */
    float prefix; /* share whose random prefix repeats one sample, as in the agent's first window */
    float gain;   /* power times 1/(1+gain) .. 1+gain */
    float noise;  /* relative deviation of each sample */
    int exact;    /* inputs as they are; else rounded to the levels that they will have in INT8 */
    int quiet;    /* no progress on standard error */
};

void train_defaults(struct train_options *options);

struct train_result {
    uint32_t best_epoch; /* 1-based; 0: none was better than nothing */
    double best_f1;      /* macro, validation part */
    double loss;         /* training loss of the last epoch */
    double windows_per_second;
};

/* Trains net in place; at return it holds the parameters of the best epoch by macro F1 on valid (of
 * the last epoch where valid is NULL). 0, -EINVAL (data and net do not fit; why), -ENOMEM, -EDOM
 * (the loss is no longer finite). */
int train_run(struct net *net, const struct model_channel *channels, const struct dataset *train,
              const struct dataset *valid, const struct train_options *options,
              struct train_result *result, char *why, size_t why_size);

/* Evaluates net as deployed on every window of d. *out: metrics_free. 0, -EINVAL, -ENOMEM. */
int train_evaluate(const struct net *net, const struct model_channel *channels,
                   const struct dataset *d, uint32_t threads, struct metrics **out);

/* Gives every convolution of a net without norm a normalization that changes nothing: gamma and
 * beta are the deviation and mean that its output has on windows of d, which also become the
 * running statistics. Fine-tuning then adapts as training does. *out is a new net. 0, -ENOMEM. */
int train_unfold(const struct net *net, const struct model_channel *channels,
                 const struct dataset *d, uint64_t seed, struct net **out);

/* --- Batches (train_batch.c) --- */

/* Draws windows so that a class comes with the square root of its frequency. */
struct train_sampler {
    uint32_t *windows;  /* indices, by class */
    uint32_t *first;    /* [class_count + 1] */
    double *cumulative; /* [class_count], of the share of each class */
    uint32_t class_count;
};

int train_sampler_create(const struct dataset *d, struct train_sampler *s); /* 0, -ENOMEM */
void train_sampler_free(struct train_sampler *s);

/* Draws window number `index` of the stream (seed, step), augments it, and writes features
 * [window][channels] and its label. watts: scratch [window + 1]. */
void train_draw(const struct dataset *d, const struct train_sampler *s,
                const struct train_options *options, const struct model_channel *channels,
                uint32_t channel_count, uint64_t step, uint32_t index, float *watts,
                float *features, uint32_t *label);

#endif
