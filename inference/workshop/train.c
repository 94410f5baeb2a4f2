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
#include "inference/workshop/quantize.h"
#include "inference/workshop/train_state.h"

#define STATS_MOMENTUM 0.1f /* of the running statistics, per batch */

void train_defaults(struct train_options *options)
{
    *options = (struct train_options){.epochs = 20,
                                      .batch = 128,
                                      .seed = 1,
                                      .rate = 6e-3f,
                                      .warm = 0.25f,
                                      .decay = 0.05f,
                                      .dropout = 0.15f,
                                      .smoothing = 0.01f,
                                      .checkpoint_every = 1,
                                      .average = 0.99f,
                                      .class_power = 0.5f,
                                      .teacher_weight = 0.7f,
                                      .teacher_temperature = 2.0f,
                                      .level_w = 2.0f,
                                      .onset = 0.1f,
                                      .onset_samples = 48,
                                      .shift = 64,
                                      .prefix = 0.1f,
                                      .gain = 0.0f,
                                      .noise = 0.001f};
}

/* What the shards of a step share; [shards] arrays are written by their own shard only. */
struct step {
    const struct net *net; /* what is computed: the trained net, or its integers' (real) */
    struct net *real;      /* quantization-aware: see quantize.h; else NULL */
    const struct model_channel *channels;
    const struct dataset *data;
    const struct train_sampler *sampler;
    const struct train_options *options;
    uint64_t number, first;             /* of the step, and of the first one of this run */
    uint32_t shards, threads, earliest; /* epoch: the first that is judged */
    struct cli_progress progress;
    float *gradients; /* [shards][param_count] */
    float *stats;     /* [shards][stat_count] */
    double *losses;   /* [shards] */
    struct shard_work {
        struct net_work *net;
        struct train_window window;
        struct train_teachers_work *teachers;
        float *d_logits, *targets, *taught; /* [TRAIN_SHARD][class_count] */
        float weights[TRAIN_SHARD];
    } works[NET_MAX_THREADS];
};

/* The shard's windows: input, targets, weights, and what the teachers make of them. */
static void draw_shard(const struct step *s, uint32_t shard, struct shard_work *w)
{
    const struct net *net = s->net;
    const struct train_options *o = s->options;
    float *input = net_work_input(w->net);

    memset(w->targets, 0, (size_t)TRAIN_SHARD * net->class_count * sizeof(float));
    for (uint32_t i = 0; i < TRAIN_SHARD; i++) {
        const struct train_window *x = &w->window;
        float *target = w->targets + (size_t)i * net->class_count;
        const uint32_t index = shard * TRAIN_SHARD + i;
        train_window_draw(s->data, s->sampler, o, s->number, index, &w->window);
        float *features = input + (size_t)i * net->window * net->channels;
        train_window_features(x, net->window, s->channels, net->channels, o->exact, features);
        train_window_blind(o, s->number, index, net->window, net->channels, features);
        w->weights[i] = 1.0f; /* of mixed ones */
        if (o->teachers)
            train_teachers_see(o->teachers, w->teachers, i, x);
        if (x->mixed) {
            net_set_targets(net->class_count, x->labels[0], target);
            continue;
        }
        net_add_target(net->head, net->class_count, x->labels[0], x->share, o->smoothing, target);
        if (x->share < 1.0f)
            net_add_target(net->head, net->class_count, x->labels[1], 1.0f - x->share, o->smoothing,
                           target);
        w->weights[i] = x->share * s->sampler->weights[x->labels[0]] +
                        (1.0f - x->share) * s->sampler->weights[x->labels[1]];
    }
    if (o->teachers)
        train_teachers_say(o->teachers, w->teachers, TRAIN_SHARD, o->teacher_temperature,
                           w->taught);
}

static void run_shard(void *context, uint32_t shard, uint32_t thread)
{
    struct step *s = context;
    const struct net *net = s->net;
    const struct train_options *o = s->options;
    struct shard_work *w = &s->works[thread];
    uint64_t stream = s->number * s->shards + shard;
    struct net_mode mode = {.train = 1, .dropout = o->dropout, .seed = o->seed ^ (stream << 8)};
    const float scale = 1.0f / (float)(s->shards * TRAIN_SHARD);
    const float taught = o->teachers ? o->teacher_weight : 0.0f;
    double loss;

    draw_shard(s, shard, w);
    const float *logits = net_forward(net, w->net, TRAIN_SHARD, &mode);
    loss = (1.0 - (double)taught) * net_loss(net, logits, w->targets, w->weights, TRAIN_SHARD,
                                             (1.0f - taught) * scale, w->d_logits);
    if (o->teachers)
        loss += (double)taught * net_loss_teacher(net, logits, w->taught, w->weights,
                                                  o->teacher_temperature, TRAIN_SHARD,
                                                  taught * scale, w->d_logits);
    s->losses[shard] = loss;
    net_backward(net, w->net, w->d_logits, s->gradients + shard * net->param_count);
    memcpy(s->stats + shard * net->stat_count, net_work_stats(w->net),
           net->stat_count * sizeof(float));
}

static int shard_work_create(const struct step *s, struct shard_work *w)
{
    const size_t logits = (size_t)TRAIN_SHARD * s->net->class_count;
    int rc = train_window_create(s->net->window, &w->window);

    w->d_logits = malloc(logits * sizeof(float));
    w->targets = malloc(logits * sizeof(float));
    w->taught = malloc(logits * sizeof(float));
    if (!w->d_logits || !w->targets || !w->taught)
        rc = -ENOMEM;
    if (!rc)
        rc = net_work_create(s->net, TRAIN_SHARD, &w->net);
    if (!rc && s->options->teachers)
        rc = train_teachers_work_create(s->options->teachers, &w->teachers);
    return rc;
}

static void shard_work_free(struct shard_work *w)
{
    net_work_free(w->net);
    train_window_free(&w->window);
    train_teachers_work_free(w->teachers);
    free(w->d_logits);
    free(w->targets);
    free(w->taught);
}

static int step_create(struct step *s)
{
    const struct net *net = s->net;
    int failed = 0;

    s->gradients = malloc(s->shards * net->param_count * sizeof(float));
    s->stats = malloc((s->shards * net->stat_count + 1) * sizeof(float));
    s->losses = calloc(s->shards, sizeof(double));
    failed = !s->gradients || !s->stats || !s->losses;
    for (uint32_t t = 0; t < s->threads && !failed; t++)
        failed = shard_work_create(s, &s->works[t]);
    return failed ? -ENOMEM : 0;
}

static void step_free(struct step *s)
{
    free(s->gradients);
    free(s->stats);
    free(s->losses);
    net_free(s->real);
    for (uint32_t t = 0; t < NET_MAX_THREADS; t++)
        shard_work_free(&s->works[t]);
}

static void copy_net(struct net *to, const struct net *from)
{
    memcpy(to->params, from->params, from->param_count * sizeof(float));
    memcpy(to->stats, from->stats, from->stat_count * sizeof(float));
}

static void move_towards(float *average, const float *now, size_t count, float share)
{
    for (size_t i = 0; i < count; i++)
        average[i] += share * (now[i] - average[i]);
}

/* Exponential moving average (Polyak, Juditsky 1992, as used since by Tarvainen, Valpola 2017); in
 * the first steps over fewer of them, so that the start values are soon forgotten. */
static void keep_average(struct train_state *t, uint64_t step, float decay)
{
    const float early = (float)(1.0 + (double)step) / (float)(10.0 + (double)step);
    const float share = 1.0f - (decay < early ? decay : early);

    if (!t->average)
        return;
    move_towards(t->average->params, t->net->params, t->net->param_count, share);
    move_towards(t->average->stats, t->net->stats, t->net->stat_count, share);
}

/* One batch; gradients and statistics are combined in shard order. Returns the mean loss. */
static double run_step(struct step *s, struct train_state *t, double rate)
{
    struct net *net = t->net;
    double loss = 0.0;

    net_parallel(s->threads, s->shards, run_shard, s);
    for (uint32_t k = 0; k < s->shards; k++) {
        const float *g = s->gradients + k * net->param_count;
        for (size_t i = 0; k && i < net->param_count; i++)
            s->gradients[i] += g[i];
        loss += s->losses[k];
    }
    optim_step(t->optim, net, s->gradients, rate, (double)s->options->decay);
    if (s->real)
        quantize_apply(s->options->int8, net, s->real);
    for (size_t i = 0; i < net->stat_count; i++) {
        float sum = 0.0f;
        for (uint32_t k = 0; k < s->shards; k++)
            sum += s->stats[k * net->stat_count + i];
        net->stats[i] += STATS_MOMENTUM * (sum / (float)s->shards - net->stats[i]);
    }
    keep_average(t, t->step, s->options->average);
    s->number = ++t->step;
    return loss / (double)(s->shards * TRAIN_SHARD);
}

static int run_epoch(struct step *s, struct train_state *t, uint32_t steps)
{
    const struct train_options *o = s->options;
    double sum = 0.0;

    for (uint32_t i = 0; i < steps; i++) {
        double rate =
            optim_one_cycle(t->step, (uint64_t)steps * o->epochs, (double)o->rate, (double)o->warm);
        double l = run_step(s, t, rate);
        char note[64];
        if (!isfinite(l))
            return -EDOM;
        sum += l;
        (void)snprintf(note, sizeof(note), "epoch %u of %u, loss %.3f", t->epoch + 1, o->epochs,
                       sum / (i + 1.0));
        if (!o->quiet)
            cli_progress_step(&s->progress, t->step - s->first, note);
    }
    t->result.loss = sum / steps;
    return 0;
}

/* Keeps the parameters in best when they are the best so far. */
static int judge(struct train_state *t, const struct step *s, const struct dataset *valid)
{
    struct net *net = t->average ? t->average : t->net;
    struct train_result *r = &t->result;
    struct metrics *m = NULL;
    int rc;

    if (s->real)
        quantize_apply(s->options->int8, net, s->real);
    rc = train_evaluate(s->real ? s->real : net, s->channels, valid, s->threads, &m);
    if (s->real && t->average) /* training goes on with its own */
        quantize_apply(s->options->int8, t->net, s->real);
    if (rc)
        return rc;
    if (!s->options->quiet)
        fprintf(stderr, "%sepoch %u: loss %.4f, valid f1_macro %.4f accuracy %.4f\n",
                s->progress.open ? "\n" : "", t->epoch, r->loss, m->f1_macro, m->accuracy);
    if (m->f1_macro > r->best_f1 || t->epoch <= s->earliest) {
        r->best_f1 = m->f1_macro;
        r->best_epoch = t->epoch;
        copy_net(t->best, net);
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

static int stale(const struct train_state *t, const struct dataset *valid, uint32_t patience)
{
    return patience && valid && t->epoch - t->result.best_epoch >= patience;
}

/* What follows an epoch: validation, and the checkpoint that holds its outcome. */
static int end_epoch(struct step *s, struct train_state *t, const struct dataset *valid,
                     uint64_t identity, char *why, size_t why_size)
{
    const struct train_options *o = s->options;
    int rc = 0;

    t->epoch++;
    if (valid)
        rc = judge(t, s, valid);
    if (!rc && o->checkpoint &&
        (t->epoch % o->checkpoint_every == 0 || t->epoch == o->epochs ||
         stale(t, valid, o->patience)))
        rc = train_checkpoint_write(o->checkpoint, t, identity, why, why_size);
    return rc;
}

static int train_epochs(struct step *s, struct train_state *t, const struct dataset *valid,
                        uint64_t identity, char *why, size_t why_size)
{
    const struct train_options *o = s->options;
    const uint64_t per_epoch = o->epoch_windows ? o->epoch_windows : s->data->window_count;
    const uint64_t batch = (uint64_t)s->shards * TRAIN_SHARD, first = t->step;
    const uint32_t steps = (uint32_t)((per_epoch + batch - 1) / batch);
    double busy = 0.0;
    int rc = 0;

    s->number = s->first = first;
    if (!o->quiet)
        cli_progress_begin(&s->progress, "training", (uint64_t)steps * o->epochs - first);
    if (s->real && valid && t->epoch == 0)
        rc = judge(t, s, valid);
    while (t->epoch < o->epochs && !stale(t, valid, o->patience) && !rc) {
        double started = now();
        rc = run_epoch(s, t, steps);
        busy += now() - started;
        if (!rc)
            rc = end_epoch(s, t, valid, identity, why, why_size);
    }
    if (!o->quiet)
        cli_progress_end(&s->progress, t->epoch < o->epochs && !rc ? "stopped early" : NULL);
    if (busy > 0.0)
        t->result.windows_per_second = (double)((t->step - first) * batch) / busy;
    return rc;
}

/* The trained net begins as what the integers mean, so that it is they that get better. */
static int begin_int8(struct step *s, struct net *net)
{
    int rc = quantize_real(s->options->int8, net, &s->real);

    if (rc)
        return rc;
    memcpy(net->params, s->real->params, net->param_count * sizeof(float));
    s->net = s->real;
    return 0;
}

static int state_create(struct train_state *t, const struct train_options *options)
{
    int rc = optim_create(t->net, &t->optim);

    if (!rc)
        rc = net_clone(t->net, &t->best);
    if (!rc && options->average > 0.0f)
        rc = net_clone(t->net, &t->average);
    return rc;
}

/* Where the training starts: at the beginning, or at its checkpoint. */
static int find_start(struct train_state *t, const struct train_options *o, uint64_t identity,
                      char *why, size_t why_size)
{
    int rc;

    if (!o->resume || !o->checkpoint)
        return 0;
    rc = train_checkpoint_read(o->checkpoint, t, identity, why, why_size);
    if (rc && rc != -ENOENT)
        return rc;
    if (!o->quiet && !rc)
        fprintf(stderr, "going on after epoch %u\n", t->epoch);
    else if (!o->quiet)
        fprintf(stderr, "no checkpoint yet: from the beginning\n");
    if (rc && why_size)
        why[0] = '\0';
    return 0;
}

int train_run(struct net *net, const struct model_channel *channels, const struct dataset *train,
              const struct dataset *valid, const struct train_options *options,
              struct train_result *result, char *why, size_t why_size)
{
    struct train_sampler sampler = {0};
    struct step s = {
        .net = net, .channels = channels, .data = train, .sampler = &sampler, .options = options};
    struct train_state t = {.net = net};
    uint64_t identity = 0;
    int rc = -EINVAL;

    *result = t.result;
    if (valid && valid->window_count == 0) {
        if (why && why_size)
            (void)snprintf(why, why_size,
                           "the validation part has no window: expected five days or more of some "
                           "class, or a training without parts (--split none)");
        return -EINVAL;
    }
    if (!fits(net, train, why, why_size) || (valid && !fits(net, valid, why, why_size)))
        return -EINVAL;
    s.threads = net_parallel_threads(options->threads);
    s.earliest = options->int8 ? 0 : 1;
    s.shards = options->batch > TRAIN_SHARD ? (options->batch + TRAIN_SHARD - 1) / TRAIN_SHARD : 1;
    rc = train_sampler_create_powered(train, (double)options->class_power,
                                      (double)options->class_weight, &sampler);
    if (!rc && options->int8)
        rc = begin_int8(&s, net);
    if (!rc && options->checkpoint)
        identity = train_checkpoint_identity(net, channels, train, valid, options);
    if (!rc)
        rc = step_create(&s);
    if (!rc)
        rc = state_create(&t, options);
    if (!rc)
        rc = find_start(&t, options, identity, why, why_size);
    if (!rc && s.real && t.epoch > 0)
        quantize_apply(options->int8, net, s.real);
    if (!rc)
        rc = train_epochs(&s, &t, valid, identity, why, why_size);
    if (!rc && valid)
        copy_net(net, t.best);
    else if (!rc && t.average)
        copy_net(net, t.average);
    if (!rc && s.real)
        quantize_apply(options->int8, net, s.real);
    if (rc == -EDOM && why && why_size)
        (void)snprintf(why, why_size, "the loss is no longer finite: use a smaller --rate");
    *result = t.result;
    net_free(t.best);
    net_free(t.average);
    optim_free(t.optim);
    step_free(&s);
    train_sampler_free(&sampler);
    return rc;
}
