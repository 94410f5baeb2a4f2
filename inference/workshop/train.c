/* train.c - the training loop. */
#include "inference/workshop/train.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "inference/workshop/cli.h"
#include "inference/workshop/net_parallel.h"
#include "inference/workshop/net_random.h"
#include "inference/workshop/optim.h"

#define STATS_MOMENTUM 0.1f /* of the running statistics, per batch */

void train_defaults(struct train_options *options)
{
    *options = (struct train_options){.epochs = 20,
                                      .batch = 128,
                                      .seed = 1,
                                      .rate = 4e-3f,
                                      .warm = 0.25f,
                                      .decay = 0.02f,
                                      .dropout = 0.1f,
                                      .smoothing = 0.1f,
                                      .onset = 0.1f,
                                      .onset_samples = 48,
                                      .shift = 64,
                                      .prefix = 0.1f,
                                      .gain = 0.05f,
                                      .noise = 0.005f};
}

/* What the shards of a step share; [shards] arrays are written by their own shard only. */
struct step {
    const struct net *net;
    const struct model_channel *channels;
    const struct dataset *data;
    const struct train_sampler *sampler;
    const struct train_options *options;
    uint64_t number;
    uint32_t shards, threads;
    struct cli_progress progress;
    float *gradients; /* [shards][param_count] */
    float *stats;     /* [shards][stat_count] */
    double *losses;   /* [shards] */
    struct net_work *works[NET_MAX_THREADS];
    float *watts[NET_MAX_THREADS];
    float *d_logits[NET_MAX_THREADS];
};

static void run_shard(void *context, uint32_t shard, uint32_t thread)
{
    struct step *s = context;
    const struct net *net = s->net;
    struct net_work *w = s->works[thread];
    uint64_t stream = s->number * s->shards + shard;
    struct net_mode mode = {
        .train = 1, .dropout = s->options->dropout, .seed = s->options->seed ^ (stream << 8)};
    float *input = net_work_input(w);
    uint32_t labels[TRAIN_SHARD];

    for (uint32_t i = 0; i < TRAIN_SHARD; i++)
        train_draw(s->data, s->sampler, s->options, s->channels, net->channels, s->number,
                   shard * TRAIN_SHARD + i, s->watts[thread],
                   input + (size_t)i * net->window * net->channels, &labels[i]);
    const float *logits = net_forward(net, w, TRAIN_SHARD, &mode);
    s->losses[shard] = net_loss(net, logits, labels, TRAIN_SHARD, s->options->smoothing,
                                1.0f / (float)(s->shards * TRAIN_SHARD), s->d_logits[thread]);
    net_backward(net, w, s->d_logits[thread], s->gradients + shard * net->param_count);
    memcpy(s->stats + shard * net->stat_count, net_work_stats(w), net->stat_count * sizeof(float));
}

static int step_create(struct step *s)
{
    const struct net *net = s->net;
    int failed = 0;

    s->gradients = malloc(s->shards * net->param_count * sizeof(float));
    s->stats = malloc((s->shards * net->stat_count + 1) * sizeof(float));
    s->losses = calloc(s->shards, sizeof(double));
    failed = !s->gradients || !s->stats || !s->losses;
    for (uint32_t t = 0; t < s->threads && !failed; t++) {
        s->watts[t] = malloc((net->window + 1u) * sizeof(float));
        s->d_logits[t] = malloc((size_t)TRAIN_SHARD * net->class_count * sizeof(float));
        failed = !s->watts[t] || !s->d_logits[t] || net_work_create(net, TRAIN_SHARD, &s->works[t]);
    }
    return failed ? -ENOMEM : 0;
}

static void step_free(struct step *s)
{
    free(s->gradients);
    free(s->stats);
    free(s->losses);
    for (uint32_t t = 0; t < NET_MAX_THREADS; t++) {
        net_work_free(s->works[t]);
        free(s->watts[t]);
        free(s->d_logits[t]);
    }
}

/* One batch; gradients and statistics are combined in shard order. Returns the mean loss. */
static double run_step(struct step *s, struct net *net, struct optim *optim, double rate)
{
    double loss = 0.0;

    net_parallel(s->threads, s->shards, run_shard, s);
    for (uint32_t k = 0; k < s->shards; k++) {
        const float *g = s->gradients + k * net->param_count;
        for (size_t i = 0; k && i < net->param_count; i++)
            s->gradients[i] += g[i];
        loss += s->losses[k];
    }
    optim_step(optim, net, s->gradients, rate, (double)s->options->decay);
    for (size_t i = 0; i < net->stat_count; i++) {
        float sum = 0.0f;
        for (uint32_t k = 0; k < s->shards; k++)
            sum += s->stats[k * net->stat_count + i];
        net->stats[i] += STATS_MOMENTUM * (sum / (float)s->shards - net->stats[i]);
    }
    s->number++;
    return loss / (double)(s->shards * TRAIN_SHARD);
}

static int run_epoch(struct step *s, struct net *net, struct optim *optim, uint32_t epoch,
                     uint32_t steps, double *loss)
{
    const struct train_options *o = s->options;
    double sum = 0.0;

    for (uint32_t i = 0; i < steps; i++) {
        double rate = optim_one_cycle(s->number, (uint64_t)steps * o->epochs, (double)o->rate,
                                      (double)o->warm);
        double l = run_step(s, net, optim, rate);
        char note[64];
        if (!isfinite(l))
            return -EDOM;
        sum += l;
        (void)snprintf(note, sizeof(note), "epoch %u of %u, loss %.3f", epoch, o->epochs,
                       sum / (i + 1.0));
        if (!o->quiet)
            cli_progress_step(&s->progress, s->number, note);
    }
    *loss = sum / steps;
    return 0;
}

/* Keeps net's parameters in best when they are the best so far. */
static int judge(const struct net *net, struct net *best, const struct step *s,
                 const struct dataset *valid, uint32_t epoch, struct train_result *result)
{
    struct metrics *m = NULL;
    int rc = train_evaluate(net, s->channels, valid, s->threads, &m);

    if (rc)
        return rc;
    if (!s->options->quiet)
        fprintf(stderr, "%sepoch %u: loss %.4f, valid f1_macro %.4f accuracy %.4f\n",
                s->progress.open ? "\n" : "", epoch, result->loss, m->f1_macro, m->accuracy);
    if (m->f1_macro > result->best_f1 || !result->best_epoch) {
        result->best_f1 = m->f1_macro;
        result->best_epoch = epoch;
        memcpy(best->params, net->params, net->param_count * sizeof(float));
        memcpy(best->stats, net->stats, net->stat_count * sizeof(float));
    }
    metrics_free(m);
    return 0;
}

static int fits(const struct net *net, const struct dataset *d, char *why, size_t why_size)
{
    if (d->options.window == net->window && d->class_count <= net->class_count &&
        d->window_count > 0)
        return 1;
    if (why && why_size)
        (void)snprintf(
            why, why_size,
            "the data (%zu windows of %u samples, %u classes) does not fit the network (window %u, "
            "%u classes)",
            d->window_count, d->options.window, d->class_count, net->window, net->class_count);
    return 0;
}

static double now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int train_epochs(struct step *s, struct net *net, struct net *best, struct optim *optim,
                        const struct dataset *valid, struct train_result *result)
{
    const struct train_options *o = s->options;
    uint64_t per_epoch = o->epoch_windows ? o->epoch_windows : s->data->window_count;
    uint32_t steps =
        (uint32_t)((per_epoch + s->shards * TRAIN_SHARD - 1) / (s->shards * TRAIN_SHARD));
    double busy = 0.0;
    int rc = 0;

    if (!o->quiet)
        cli_progress_begin(&s->progress, "training", (uint64_t)steps * o->epochs);
    for (uint32_t e = 1; e <= o->epochs && !rc; e++) {
        double started = now();
        rc = run_epoch(s, net, optim, e, steps, &result->loss);
        busy += now() - started;
        if (!rc && valid)
            rc = judge(net, best, s, valid, e, result);
    }
    if (!o->quiet)
        cli_progress_end(&s->progress, NULL);
    if (busy > 0.0)
        result->windows_per_second = (double)s->number * s->shards * TRAIN_SHARD / busy;
    return rc;
}

int train_run(struct net *net, const struct model_channel *channels, const struct dataset *train,
              const struct dataset *valid, const struct train_options *options,
              struct train_result *result, char *why, size_t why_size)
{
    struct train_sampler sampler = {0};
    struct step s = {
        .net = net, .channels = channels, .data = train, .sampler = &sampler, .options = options};
    struct optim *optim = NULL;
    struct net *best = NULL;
    int rc = -EINVAL;

    memset(result, 0, sizeof(*result));
    if (!fits(net, train, why, why_size) || (valid && !fits(net, valid, why, why_size)))
        return -EINVAL;
    s.threads = net_parallel_threads(options->threads);
    s.shards = options->batch > TRAIN_SHARD ? (options->batch + TRAIN_SHARD - 1) / TRAIN_SHARD : 1;
    rc = train_sampler_create(train, &sampler);
    if (!rc)
        rc = step_create(&s);
    if (!rc)
        rc = optim_create(net, &optim);
    if (!rc)
        rc = net_clone(net, &best);
    if (!rc)
        rc = train_epochs(&s, net, best, optim, valid, result);
    if (!rc && valid) {
        memcpy(net->params, best->params, net->param_count * sizeof(float));
        memcpy(net->stats, best->stats, net->stat_count * sizeof(float));
    }
    if (rc == -EDOM && why && why_size)
        (void)snprintf(why, why_size, "the loss is no longer finite: use a smaller --rate");
    net_free(best);
    optim_free(optim);
    step_free(&s);
    train_sampler_free(&sampler);
    return rc;
}
