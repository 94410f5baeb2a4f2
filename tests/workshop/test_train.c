/* test_train.c - training: learns classes that can be told apart; same seed, same bytes, for any
 * number of threads; the schedule and the optimizer by their definitions; unfolding changes
 * nothing. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "inference/workshop/convert.h"
#include "inference/workshop/optim.h"
#include "inference/workshop/train.h"
#include "inference/workshop/train_command.h"
#include "workshop/lib_synthetic.h"

static const struct model_channel channels[2] = {{.feature = MODEL_LOG, .full = 4000.0f},
                                                 {.feature = MODEL_LOG_DIFF, .full = 4000.0f}};

static struct net *make(uint64_t seed, int norm)
{
    const struct net_spec spec = {.head = MODEL_SOFTMAX,
                                  .window = 96,
                                  .channels = 2,
                                  .class_count = 4,
                                  .conv_count = 2,
                                  .conv = {{8, 5, 2}, {12, 5, 4}},
                                  .hidden_count = 1,
                                  .hidden = {16},
                                  .norm = norm};
    struct net *net;
    assert_int_equal(net_create(&spec, &net, NULL, 0), 0);
    net_init(net, seed);
    return net;
}

static struct train_options quick(uint64_t seed, uint32_t threads)
{
    struct train_options o;
    train_defaults(&o);
    o.epochs = 4;
    /* What suits a few steps on a small net. */
    o.average = 0.0f;
    o.rate = 4e-3f;
    o.decay = 0.02f;
    o.dropout = 0.1f;
    o.smoothing = 0.1f;
    o.gain = 0.05f;
    o.noise = 5e-3f;
    o.epoch_windows = 640;
    o.batch = 64;
    o.seed = seed;
    o.threads = threads;
    o.shift = 8;
    o.onset_samples = 8;
    o.quiet = 1;
    return o;
}

static struct net *trained(const struct dataset *d, uint64_t seed, uint32_t threads)
{
    struct net *net = make(1, 1);
    struct train_options o = quick(seed, threads);
    struct train_result result;
    assert_int_equal(train_run(net, channels, d, NULL, &o, &result, NULL, 0), 0);
    return net;
}

static void test_learns(void **state)
{
    (void)state;
    struct dataset *d = synthetic_dataset(4, 6, 600, 96, 24, 1),
                   *unseen = synthetic_dataset(4, 3, 600, 96, 24, 2);
    struct train_options o = quick(1, 2);
    struct train_result result;
    struct metrics *m;
    struct net *net = make(1, 1), *folded;

    o.epochs = 8;
    o.epoch_windows = 1280;
    assert_int_equal(train_run(net, channels, d, unseen, &o, &result, NULL, 0), 0);
    assert_int_equal(convert_fold(net, &folded), 0);
    assert_int_equal(train_evaluate(folded, channels, unseen, 1, &m), 0);
    assert_true(m->windows == unseen->window_count);
    if (m->accuracy < 0.97)
        fail_msg("accuracy on unseen traces is %.3f", m->accuracy);
    assert_true(result.best_epoch >= 1 && result.best_f1 > 0.95);
    metrics_free(m);
    net_free(net);
    net_free(folded);
    synthetic_free(d);
    synthetic_free(unseen);
}

static void test_same_seed_same_bytes(void **state)
{
    (void)state;
    struct dataset *d = synthetic_dataset(4, 4, 400, 96, 24, 1);
    struct net *a = trained(d, 7, 1), *b = trained(d, 7, 1);
    struct net *c = trained(d, 7, 3), *other = trained(d, 8, 1);

    assert_memory_equal(a->params, b->params, a->param_count * sizeof(float));
    assert_memory_equal(a->stats, b->stats, a->stat_count * sizeof(float));
    assert_memory_equal(a->params, c->params, a->param_count * sizeof(float));
    assert_memory_equal(a->stats, c->stats, a->stat_count * sizeof(float));
    assert_true(memcmp(a->params, other->params, a->param_count * sizeof(float)) != 0);
    net_free(a);
    net_free(b);
    net_free(c);
    net_free(other);
    synthetic_free(d);
}

/* Everything that is off by default, at once. */
static struct train_options everything(uint32_t threads, const struct train_teachers *teachers)
{
    struct train_options o = quick(7, threads);
    o.average = 0.9f;
    o.class_power = 0.3f;
    o.class_weight = 0.5f;
    o.input_dropout = 0.2f;
    o.mix = o.others = o.level = o.drop = 0.5f;
    o.level_w = 20.0f;
    o.teachers = teachers;
    return o;
}

/* What a model file would be for nets of this test, for teachers. */
static struct model describe(const struct net *folded, const struct dataset *d)
{
    struct model m = {.version = 1, .family = "test", .hop = 8, .channel_count = 2};
    assert_int_equal(convert_to_model(folded, &m), 0);
    m.period_ms = d->options.period_ms;
    m.min_activity_w = d->options.min_activity_w;
    memcpy(m.channels, channels, sizeof(channels));
    m.labels = (const char(*)[MODEL_LABEL_BYTES])d->labels;
    m.meta = "";
    return m;
}

static void write_teacher(const struct dataset *d, char *path, struct model *m, struct net **folded)
{
    char why[256] = "";
    struct net *net = trained(d, 3, 2);
    assert_int_equal(convert_fold(net, folded), 0);
    *m = describe(*folded, d);
    strcpy(path, "/tmp/nilm-teacher-XXXXXX");
    close(mkstemp(path));
    if (convert_write(m, path, NULL, why, sizeof(why)))
        fail_msg("%s", why);
    net_free(net);
}

static void test_threads_change_nothing_with_everything(void **state)
{
    struct dataset *d = synthetic_dataset(4, 4, 400, 96, 24, 1);
    struct train_teachers *teachers;
    struct train_result result;
    struct model m;
    struct net *folded, *net[3];
    char path[64], two[130], why[256] = "";
    (void)state;

    write_teacher(d, path, &m, &folded);
    (void)snprintf(two, sizeof(two), "%s,%s", path, path);
    if (train_teachers_load(two, &m, d, &teachers, why, sizeof(why)))
        fail_msg("%s", why);
    for (uint32_t i = 0; i < 3; i++) {
        struct train_options o = everything(i == 2 ? 3 : 1, teachers);
        net[i] = make(1, 1);
        assert_int_equal(train_run(net[i], channels, d, d, &o, &result, NULL, 0), 0);
    }
    for (int i = 1; i < 3; i++) {
        assert_memory_equal(net[0]->params, net[i]->params, net[0]->param_count * sizeof(float));
        assert_memory_equal(net[0]->stats, net[i]->stats, net[0]->stat_count * sizeof(float));
    }
    for (int i = 0; i < 3; i++)
        net_free(net[i]);
    train_teachers_free(teachers);
    net_free(folded);
    unlink(path);
    synthetic_free(d);
}

/* The labels are wrong, the teacher's share of the loss is all: the student learns. */
static void test_student_learns_from_teacher_alone(void **state)
{
    struct dataset *d = synthetic_dataset(4, 6, 600, 96, 24, 1);
    struct train_teachers *teachers;
    struct train_options o = quick(2, 2);
    struct train_result result;
    struct metrics *metrics;
    struct model m;
    struct net *folded, *student = make(9, 1);
    char path[64], why[256] = "";
    (void)state;

    write_teacher(d, path, &m, &folded);
    if (train_teachers_load(path, &m, d, &teachers, why, sizeof(why)))
        fail_msg("%s", why);
    o.teachers = teachers;
    o.teacher_weight = 1.0f;
    o.epochs = 16;
    for (size_t i = 0; i < d->window_count; i++)
        d->windows[i].label = (uint32_t)i % 4; /* the labels are wrong now */
    assert_int_equal(train_run(student, channels, d, NULL, &o, &result, NULL, 0), 0);
    for (size_t i = 0; i < d->window_count; i++)
        d->windows[i].label = d->traces[d->windows[i].trace].label;
    assert_int_equal(train_evaluate(student, channels, d, 1, &metrics), 0);
    if (metrics->accuracy < 0.9)
        fail_msg("accuracy is %.3f", metrics->accuracy);
    metrics_free(metrics);
    train_teachers_free(teachers);
    net_free(student);
    net_free(folded);
    unlink(path);
    synthetic_free(d);
}

static void test_refuses_unfit_teachers(void **state)
{
    struct dataset *d = synthetic_dataset(4, 4, 400, 96, 24, 1);
    struct train_teachers *teachers;
    struct model m, other;
    struct net *folded;
    char path[64], list[700] = "", why[256];
    (void)state;

    write_teacher(d, path, &m, &folded);
    static const char labels[4][MODEL_LABEL_BYTES] = {"made-up-0", "made-up-1", "made-up-3",
                                                      "made-up-2"};
    other = m;
    other.labels = labels;
    assert_int_equal(train_teachers_load(path, &other, d, &teachers, why, sizeof(why)), -EINVAL);
    assert_non_null(strstr(why, "labels"));
    assert_non_null(strstr(why, path));
    other = m;
    other.head = MODEL_SIGMOID;
    assert_int_equal(train_teachers_load(path, &other, d, &teachers, why, sizeof(why)), -EINVAL);
    assert_non_null(strstr(why, "head"));
    d->options.period_ms = 2000;
    assert_int_equal(train_teachers_load(path, &m, d, &teachers, why, sizeof(why)), -EINVAL);
    assert_non_null(strstr(why, "period"));
    d->options.period_ms = m.period_ms;
    d->options.split = SPLIT_DAY; /* the teacher's record names no split */
    assert_int_equal(train_teachers_load(path, &m, d, &teachers, why, sizeof(why)), -EINVAL);
    assert_non_null(strstr(why, "--split"));
    d->options.split = SPLIT_NONE;
    for (int i = 0; i < 9; i++) {
        strcat(list, path);
        strcat(list, i < 8 ? "," : "");
    }
    assert_int_equal(train_teachers_load(list, &m, d, &teachers, why, sizeof(why)), -EINVAL);
    assert_int_equal(train_teachers_load("", &m, d, &teachers, why, sizeof(why)), -EINVAL);
    assert_int_equal(train_teachers_load("/nowhere", &m, d, &teachers, why, sizeof(why)), -ENOENT);
    net_free(folded);
    unlink(path);
    synthetic_free(d);
}

/* One step, whose decay is (1 + 0) / (10 + 0) whatever the option says beyond that. */
static void test_average_by_hand(void **state)
{
    struct dataset *d = synthetic_dataset(4, 4, 400, 96, 24, 1);
    struct train_options o = quick(7, 1);
    struct train_result result;
    struct net *start = make(1, 1), *plain = make(1, 1), *mean = make(1, 1);
    double moved = 0.0;
    (void)state;

    o.epochs = 1;
    o.epoch_windows = 64;
    o.rate = 100.0f; /* the last step of a cycle has a ten thousandth of it */
    assert_int_equal(train_run(plain, channels, d, NULL, &o, &result, NULL, 0), 0);
    o.average = 0.9f;
    assert_int_equal(train_run(mean, channels, d, NULL, &o, &result, NULL, 0), 0);
    for (size_t i = 0; i < mean->param_count; i++) {
        moved += fabs((double)plain->params[i] - (double)start->params[i]);
        assert_float_equal(mean->params[i], 0.1f * start->params[i] + 0.9f * plain->params[i],
                           1e-5f);
    }
    assert_true(moved > 0.005 * (double)mean->param_count);
    for (size_t i = 0; i < mean->stat_count; i++)
        assert_float_equal(mean->stats[i], 0.1f * start->stats[i] + 0.9f * plain->stats[i], 1e-5f);
    net_free(start);
    net_free(plain);
    net_free(mean);
    synthetic_free(d);
}

static void test_unfold_changes_nothing(void **state)
{
    (void)state;
    struct dataset *d = synthetic_dataset(4, 3, 400, 96, 24, 1);
    struct net *net = make(5, 0), *norm, *folded;
    struct net_work *a, *b;

    for (uint32_t i = 0; i < net->layer_count; i++)
        for (uint32_t c = 0; net->layers[i].weight_count && c < net->layers[i].out_channels; c++)
            net->params[net->layers[i].bias + c] = 0.1f * (float)(c % 5) - 0.2f;
    assert_int_equal(train_unfold(net, channels, d, 1, &norm), 0);
    assert_true(norm->stat_count > 0);
    assert_int_equal(convert_fold(norm, &folded), 0);
    assert_int_equal(net_work_create(net, 2, &a), 0);
    assert_int_equal(net_work_create(folded, 2, &b), 0);
    for (uint32_t i = 0; i < 2 * 96 * 2; i++)
        net_work_input(a)[i] = net_work_input(b)[i] = 0.5f + 0.5f * sinf((float)i);
    const float *x = net_forward(net, a, 2, &(struct net_mode){0});
    const float *y = net_forward(folded, b, 2, &(struct net_mode){0});
    for (int i = 0; i < 8; i++)
        assert_float_equal(x[i], y[i], 2e-4f * (1.0f + fabsf(x[i])));
    net_work_free(a);
    net_work_free(b);
    net_free(net);
    net_free(norm);
    net_free(folded);
    synthetic_free(d);
}

static void test_sampler_takes_square_roots(void **state)
{
    (void)state;
    struct dataset *d = synthetic_dataset(2, 20, 400, 96, 24, 1);
    struct train_sampler s;
    struct train_options plain = {.seed = 3};
    float watts[97], features[96 * 2];
    uint32_t label, second = 0;

    /* class 1 gets a sixteenth of class 0's windows: a fifth of the draws (1 : 4), not a
     * seventeenth */
    size_t per_class = d->window_count / 2;
    d->window_count = per_class + per_class / 16;
    assert_int_equal(train_sampler_create(d, &s), 0);
    for (uint32_t i = 0; i < 4000; i++) {
        train_draw(d, &s, &plain, channels, 2, 0, i, watts, features, &label);
        second += label;
    }
    assert_in_range(second, 4000 * 0.17, 4000 * 0.23);
    train_sampler_free(&s);
    synthetic_free(d);
}

static void test_onset_ends_window(void **state)
{
    (void)state;
    struct dataset *d = synthetic_dataset(1, 1, 400, 96, 24, 1);
    struct dataset_trace *t = &d->traces[0];
    struct train_sampler s;
    struct train_options o = {.seed = 3, .onset = 1.0f, .onset_samples = 10};
    float watts[97], features[96 * 2];
    uint32_t label;

    for (uint32_t i = 0; i < t->count; i++)
        t->watts[i] = i >= 200 && i < 260 ? 500.0f : 0.0f;
    d->window_count = 0;
    d->windows[d->window_count++] = (struct dataset_window){.trace = 0, .start = 180, .label = 0};
    assert_int_equal(train_sampler_create(d, &s), 0);
    for (uint32_t i = 0; i < 200; i++) {
        uint32_t on = 0;
        train_draw(d, &s, &o, channels, 2, 0, i, watts, features, &label);
        for (uint32_t k = 1; k <= 96; k++)
            on += watts[k] > 100.0f;
        assert_in_range(on, 2, 11); /* just switched on ... */
        assert_true(watts[96] > 100.0f);
        for (uint32_t k = 1; k <= 96 - on; k++)
            assert_true(watts[k] < 100.0f); /* ... and off before */
    }
    train_sampler_free(&s);
    synthetic_free(d);
}

static void test_prefix_repeats_a_sample(void **state)
{
    (void)state;
    struct dataset *d = synthetic_dataset(1, 1, 400, 96, 24, 1);
    struct train_sampler s;
    struct train_options o = {.seed = 3, .prefix = 1.0f};
    float watts[97], features[96 * 2];
    uint32_t label, repeated = 0;

    assert_int_equal(train_sampler_create(d, &s), 0);
    for (uint32_t i = 0; i < 50; i++) {
        train_draw(d, &s, &o, channels, 2, 0, i, watts, features, &label);
        repeated += memcmp(&watts[0], &watts[1], sizeof(float)) == 0;
        assert_float_equal(features[1], 0.0f,
                           1e-6f); /* no difference where the same sample repeats */
    }
    assert_true(repeated >= 45);
    train_sampler_free(&s);
    synthetic_free(d);
}

static void test_class_power_and_weight(void **state)
{
    (void)state;
    struct dataset *d = synthetic_dataset(2, 20, 400, 96, 24, 1);
    struct train_sampler s;
    size_t per_class = d->window_count / 2;
    d->window_count = per_class + per_class / 16;
    assert_int_equal(train_sampler_create_powered(d, 1.0, 1.0, &s), 0);
    const double ratio = (double)per_class / (double)(per_class / 16);
    assert_float_equal(s.cumulative[0], ratio / (ratio + 1.0), 1e-9);
    assert_float_equal(s.weights[1] / s.weights[0], ratio, 1e-3);
    assert_float_equal(s.cumulative[0] * s.weights[0] + (1.0 - s.cumulative[0]) * s.weights[1], 1.0,
                       1e-6); /* 1 on average */
    train_sampler_free(&s);
    assert_int_equal(train_sampler_create_powered(d, 0.0, 0.0, &s), 0);
    assert_float_equal(s.cumulative[0], 0.5, 1e-9);
    assert_float_equal(s.weights[0], 1.0, 1e-9);
    train_sampler_free(&s);
    synthetic_free(d);
}

/* A load of 500 W in the middle of each trace of class 0, 100 W all the time in class 1. */
static struct dataset *two_loads(void)
{
    struct dataset *d = synthetic_dataset(2, 1, 400, 96, 24, 1);
    for (uint32_t i = 0; i < 400; i++) {
        d->traces[0].watts[i] = i >= 200 && i < 260 ? 500.0f : 0.0f;
        d->traces[1].watts[i] = 100.0f;
    }
    d->window_count = 2;
    d->windows[0] = (struct dataset_window){.trace = 0, .start = 180, .label = 0};
    d->windows[1] = (struct dataset_window){.trace = 1, .start = 180, .label = 1};
    return d;
}

static void test_variations(void **state)
{
    (void)state;
    struct dataset *d = two_loads();
    struct train_sampler s;
    struct train_window w;
    int mixed = 0, added = 0, dropped = 0, moved = 0;

    assert_int_equal(train_sampler_create(d, &s), 0);
    assert_int_equal(train_window_create(96, &w), 0);
    for (uint32_t i = 0; i < 200; i++) {
        train_window_draw(d, &s, &(struct train_options){.seed = 3, .mix = 1.0f}, 0, i, &w);
        assert_true(w.share >= 0.5f && w.share < 1.0f);
        float first = w.labels[0] ? 100.0f : 500.0f, second = w.labels[1] ? 100.0f : 500.0f;
        assert_float_equal(w.watts[40], first, 0.1f);
        assert_float_equal(w.watts[97 + 40], second, 0.1f);
        mixed += w.labels[0] != w.labels[1];

        train_window_draw(d, &s, &(struct train_options){.seed = 3, .others = 1.0f}, 0, i, &w);
        double sum = 0.0, own = 0.0;
        for (int k = 0; k < 97; k++) {
            own += w.labels[0] ? 100.0 : k >= 21 && k < 81 ? 500.0 : 0.0;
            sum += w.watts[k];
        }
        assert_true(sum >= own * 0.9999 && sum <= own * 1.2001);
        added += sum > own * 1.01;

        train_window_draw(
            d, &s, &(struct train_options){.seed = 3, .level = 1.0f, .level_w = 20.0f}, 0, i, &w);
        float on = w.labels[0] ? 100.0f : 500.0f, by = w.watts[40] - on;
        assert_true(by >= -20.01f && by <= 20.01f);
        moved += by > 1.0f || by < -1.0f;
        if (!w.labels[0])
            assert_float_equal(w.watts[5], 0.0f, 1e-6f); /* off stays off */

        train_window_draw(d, &s, &(struct train_options){.seed = 3, .drop = 1.0f}, 0, i, &w);
        if (!w.labels[0]) {
            uint32_t first_on = 0;
            while (first_on < 97 && w.watts[first_on] < 100.0f)
                first_on++;
            assert_in_range(first_on, 5, 80); /* the load stays to be seen */
            dropped += first_on > 21;         /* its start came late */
        }
    }
    assert_in_range(mixed, 60, 140);
    assert_true(added > 150 && moved > 150 && dropped > 5);
    train_window_free(&w);
    train_sampler_free(&s);
    synthetic_free(d);
}

static void test_blind_channels(void **state)
{
    (void)state;
    const struct train_options o = {.seed = 5, .input_dropout = 0.5f};
    uint32_t both = 0, one[2] = {0};
    for (uint32_t i = 0; i < 1000; i++) {
        float features[2 * 3] = {1, 2, 1, 2, 1, 2};
        train_window_blind(&o, 0, i, 3, 2, features);
        for (int t = 1; t < 3; t++) /* whole channels */
            assert_memory_equal(&features[2 * t], features, 2 * sizeof(float));
        assert_true(features[0] > 0.0f || features[1] > 0.0f);
        both += features[0] > 0.0f && features[1] > 0.0f;
        one[0] += features[0] > 0.0f;
        one[1] += features[1] > 0.0f;
    }
    assert_in_range(both, 420, 580); /* one of two stays anyway, the other half of the time */
    assert_in_range(one[0], 680, 820);
    assert_in_range(one[1], 680, 820);
}

static void test_schedule(void **state)
{
    (void)state;
    assert_true(fabs(optim_one_cycle(0, 1001, 1.0, 0.25) - 1.0 / 25) < 1e-12);
    assert_true(fabs(optim_one_cycle(250, 1001, 1.0, 0.25) - 1.0) < 1e-12);
    assert_true(fabs(optim_one_cycle(1000, 1001, 1.0, 0.25) - 1e-4) < 1e-12);
    for (uint64_t i = 0; i < 250; i++)
        assert_true(optim_one_cycle(i, 1001, 1.0, 0.25) < optim_one_cycle(i + 1, 1001, 1.0, 0.25));
    for (uint64_t i = 250; i < 1000; i++)
        assert_true(optim_one_cycle(i, 1001, 1.0, 0.25) > optim_one_cycle(i + 1, 1001, 1.0, 0.25));
}

/* The first step of Adam moves every parameter by the rate, against its gradient's sign; decay
 * shrinks weights, not biases. */
static void test_first_step(void **state)
{
    (void)state;
    struct net *net = make(2, 0), *before;
    struct optim *o;
    float *gradient = calloc(net->param_count, sizeof(float));
    const struct net_layer *l = &net->layers[0];

    net->params[l->bias] = 1.0f;
    assert_int_equal(net_clone(net, &before), 0);
    assert_int_equal(optim_create(net, &o), 0);
    gradient[l->weights] = 0.3f;
    gradient[l->bias] = -5.0f;
    optim_step(o, net, gradient, 0.01, 0.5);
    assert_float_equal(net->params[l->weights], before->params[l->weights] * 0.995f - 0.01f, 1e-6f);
    assert_float_equal(net->params[l->weights + 1], before->params[l->weights + 1] * 0.995f, 1e-6f);
    assert_float_equal(net->params[l->bias], 1.01f, 1e-6f);
    optim_free(o);
    net_free(net);
    net_free(before);
    free(gradient);
}

static void test_meta_lines(void **state)
{
    (void)state;
    char meta[TRAIN_META_BYTES] = "", big[TRAIN_META_BYTES + 8];
    char *argv[] = {"train",  "--data", "/some/where/tb", "--out=/else/m.nilm",
                    "--seed", "3",      "--note",         "see http://a/b for more"};

    assert_int_equal(train_command_meta(meta, "a", "1"), 0);
    assert_int_equal(train_command_meta(meta, "ab", "two\nlines"), 0);
    assert_int_equal(train_command_meta(meta, "a", "3"), 0);
    assert_string_equal(meta, "ab=two lines\na=3\n");
    assert_int_equal(train_command_meta_line(meta, "c", 8, argv), 0);
    assert_string_equal(meta,
                        "ab=two lines\na=3\nc=nilm-model train --data DIR --out=m.nilm --seed 3 "
                        "--note \"see http://a/b for more\"\n");
    char *how[] = {
        "train",    "--threads", "4",   "--rate",       "1", "--checkpoint=/a/b", "--quiet",
        "--resume", "--mix",     "0.5", "--checkpoint", "c"};
    assert_int_equal(train_command_meta_line(meta, "c", 12, how), 0);
    assert_string_equal(meta, "ab=two lines\na=3\nc=nilm-model train --rate 1 --mix 0.5\n");
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    assert_int_equal(train_command_meta(meta, "big", big), -ENOSPC);
    assert_true(strstr(meta, "big") == NULL);
}

static void test_refuses_other_data(void **state)
{
    (void)state;
    struct dataset *d = synthetic_dataset(4, 1, 400, 64, 24, 1); /* the net's window is 96 */
    struct net *net = make(1, 1);
    struct train_options o = quick(1, 1);
    struct train_result result;
    char why[256] = "";

    assert_int_equal(train_run(net, channels, d, NULL, &o, &result, why, sizeof(why)), -EINVAL);
    assert_non_null(strstr(why, "window 96"));
    struct dataset *fit = synthetic_dataset(4, 1, 400, 96, 24, 1);
    d->window_count = 0; /* a part without any */
    assert_int_equal(train_run(net, channels, fit, d, &o, &result, why, sizeof(why)), -EINVAL);
    assert_non_null(strstr(why, "validation part"));
    synthetic_free(fit);
    net_free(net);
    synthetic_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_learns),
        cmocka_unit_test(test_same_seed_same_bytes),
        cmocka_unit_test(test_threads_change_nothing_with_everything),
        cmocka_unit_test(test_student_learns_from_teacher_alone),
        cmocka_unit_test(test_refuses_unfit_teachers),
        cmocka_unit_test(test_average_by_hand),
        cmocka_unit_test(test_class_power_and_weight),
        cmocka_unit_test(test_variations),
        cmocka_unit_test(test_blind_channels),
        cmocka_unit_test(test_unfold_changes_nothing),
        cmocka_unit_test(test_sampler_takes_square_roots),
        cmocka_unit_test(test_onset_ends_window),
        cmocka_unit_test(test_prefix_repeats_a_sample),
        cmocka_unit_test(test_schedule),
        cmocka_unit_test(test_first_step),
        cmocka_unit_test(test_meta_lines),
        cmocka_unit_test(test_refuses_other_data)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
