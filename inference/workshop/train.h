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

struct quantized; /* quantize.h */

/* train_defaults fills in what the shipped models were trained with. What changes the result
 * belongs into train_checkpoint_identity too. */
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
    float input_dropout; /* share of a window's input channels that are zero; one always stays */
    uint32_t patience;   /* stop after so many epochs without a better one on valid; 0: never */
    float average;       /* the validated and kept net is an exponential moving average; 0: off */
    float class_power;   /* a class is drawn with this power of its frequency */
    float class_weight;  /* and its windows' loss counts with this negative power of it */
    const char *teacher; /* FP32 model files, separated by commas (train_command_run reads them) */
    const struct train_teachers *teachers; /* what they became; NULL: none. The caller's */
    float teacher_weight; /* of the teachers' part in the loss; the labels get the rest */
    float teacher_temperature;
    /* Augmentation, in this order. Those that are 0 by default draw from streams of their own: they
     * change nothing else. */
    float mix; /* share of windows mixed with another in feature space (mixup, Zhang et al. 2018) */
    float onset; /* share of windows moved so that an appliance has just switched on at their end */
    uint32_t onset_samples; /* at most so many samples ago */
    uint32_t shift;         /* the others are moved by up to so many samples either way */
    float prefix; /* share whose random prefix repeats one sample, as in the agent's first window */
    float others; /* share to which a small part of another load is added; the label stays */
    float gain;   /* power times 1/(1+gain) .. 1+gain */
    float noise;  /* relative deviation of each sample */
    float level;  /* share whose power, where on, is moved by one constant ... */
    float level_w; /* ... of up to so many watts either way */
    float drop;    /* share with stretches that repeat the sample before them, as gaps are filled */
    int exact;     /* inputs as they are; else rounded to the levels that they will have in INT8 */
    /* Quantization-aware, when not NULL: training begins with its integers, and forward, backward
     * and validation are its arithmetic; at return it has the integers of the best epoch. */
    struct quantized *int8;
    /* How it runs; none of this changes the result. */
    const char *checkpoint;    /* file to write the state to, or NULL */
    uint32_t checkpoint_every; /* epochs */
    int resume;                /* go on from that file where it exists */
    int quiet;                 /* no progress on standard error */
};

void train_defaults(struct train_options *options);

struct train_result {
    uint32_t best_epoch; /* 1-based; 0: none was better than nothing */
    double best_f1;      /* macro, validation part */
    double loss;         /* training loss of the last epoch, with what the teachers add */
    double windows_per_second;
};

/* Trains net in place; at return it holds the parameters of the best epoch by macro F1 on valid (of
 * the last epoch where valid is NULL). 0, -EINVAL (data and net do not fit; why), -ENOMEM, -EDOM
 * (the loss is no longer finite), or what a checkpoint could not be read or written for. */
int train_run(struct net *net, const struct model_channel *channels, const struct dataset *train,
              const struct dataset *valid, const struct train_options *options,
              struct train_result *result, char *why, size_t why_size);

/* Probabilities of net as deployed for every window of d, in their order, into out
 * [window_count][class_count]. 0, -EINVAL (d does not fit net), -ENOMEM. */
int train_probabilities(const struct net *net, const struct model_channel *channels,
                        const struct dataset *d, uint32_t threads, float *out);

/* Evaluates net as deployed on every window of d. *out: metrics_free. 0, -EINVAL, -ENOMEM. */
int train_evaluate(const struct net *net, const struct model_channel *channels,
                   const struct dataset *d, uint32_t threads, struct metrics **out);

/* Gives every convolution of a net without norm a normalization that changes nothing: gamma and
 * beta are the deviation and mean that its output has on windows of d, which also become the
 * running statistics. Fine-tuning then adapts as training does. *out is a new net. 0, -ENOMEM. */
int train_unfold(const struct net *net, const struct model_channel *channels,
                 const struct dataset *d, uint64_t seed, struct net **out);

/* --- Batches (train_batch.c) --- */

/* Draws windows so that a class comes with a power of its frequency. */
struct train_sampler {
    uint32_t *windows;  /* indices, by class */
    uint32_t *first;    /* [class_count + 1] */
    double *cumulative; /* [class_count], of the share of each class */
    float *weights;     /* [class_count], of a window's loss; 1 on average over what is drawn */
    uint32_t class_count;
};

/* power 0.5: the square root of the frequency, which is what the first one takes; weight: a class's
 * loss counts with the power -weight of its frequency. 0, -ENOMEM. */
int train_sampler_create(const struct dataset *d, struct train_sampler *s);
int train_sampler_create_powered(const struct dataset *d, double power, double weight,
                                 struct train_sampler *s);
void train_sampler_free(struct train_sampler *s);

/* One drawn and varied window: power, not yet features. */
struct train_window {
    float *watts;       /* [2][window + 1]; the second is mixed in where share < 1 */
    float *scratch;     /* [window][channels] */
    uint32_t labels[2]; /* of both; the same where share is 1. Mixed: a bit for each class */
    float share;        /* of the first */
    int mixed;          /* the data is (dataset.h) */
};

int train_window_create(uint32_t window, struct train_window *w); /* 0, -ENOMEM */
void train_window_free(struct train_window *w);

/* Draws window number `index` of the stream (seed, step) and varies it. */
void train_window_draw(const struct dataset *d, const struct train_sampler *s,
                       const struct train_options *options, uint64_t step, uint32_t index,
                       struct train_window *w);

/* Its features [window][channels]; unless exact rounded to the levels of INT8. */
void train_window_features(const struct train_window *w, uint32_t window,
                           const struct model_channel *channels, uint32_t channel_count, int exact,
                           float *features);

/* Zeroes channels of the features, each with the probability options->input_dropout; at least one
 * stays. */
void train_window_blind(const struct train_options *options, uint64_t step, uint32_t index,
                        uint32_t window, uint32_t channel_count, float *features);

/* Draws a window that is not mixed and has no other load, and writes its features
 * [window][channels] and its label (mixed data: a bit for each class). watts: scratch [window + 1].
 */
void train_draw(const struct dataset *d, const struct train_sampler *s,
                const struct train_options *options, const struct model_channel *channels,
                uint32_t channel_count, uint64_t step, uint32_t index, float *watts,
                float *features, uint32_t *label);

/* --- Teachers (train_teacher.c) --- */

/* FP32 models whose averaged probabilities a net is trained towards. Inputs and shape are their
 * own; window, period and labels must be those of the student. Read-only once made. */
struct train_teachers;

/* files: one or more, separated by commas. data: what the student learns from; a teacher that was
 * trained on another split is refused, since it may know the student's test part. 0, -EINVAL (does
 * not fit; why names file and reason), -errno of reading, -ENOMEM. */
int train_teachers_load(const char *files, const struct model *student, const struct dataset *data,
                        struct train_teachers **out, char *why, size_t why_size);
void train_teachers_free(struct train_teachers *t);
uint32_t train_teachers_count(const struct train_teachers *t); /* NULL: 0 */
const struct net *train_teachers_net(const struct train_teachers *t, uint32_t k);

/* Buffers for one thread, for shards of up to TRAIN_SHARD windows. */
struct train_teachers_work;
int train_teachers_work_create(const struct train_teachers *t, struct train_teachers_work **out);
void train_teachers_work_free(struct train_teachers_work *w);

/* Puts window number i of a shard in place; then, for the first n, the mean of the teachers'
 * probabilities at a temperature into out [n][class_count]. */
void train_teachers_see(const struct train_teachers *t, struct train_teachers_work *w, uint32_t i,
                        const struct train_window *window);
void train_teachers_say(const struct train_teachers *t, struct train_teachers_work *w, uint32_t n,
                        float temperature, float *out);

#endif
