/* test_prune_tune.c - cuts with fine-tuning between them, the search for the smallest network, the
 * sweep over layers; on a network trained for a moment on made-up appliances. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "inference/workshop/prune_tune.h"
#include "lib_small.h"
#include "lib_synthetic.h"

static struct model model;
static struct dataset *train, *valid;
static struct net *net; /* conv 8, pool, conv 12, pool, flatten, dense 16, dense 4 */

static int set_up(void **state)
{
    (void)state;
    model = small_model();
    train = synthetic_dataset(SMALL_CLASSES, 4, 600, SMALL_WINDOW, 8, 1);
    valid = synthetic_dataset(SMALL_CLASSES, 2, 600, SMALL_WINDOW, 16, 2);
    net = small_trained(&model, train);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    net_free(net);
    synthetic_free(train);
    synthetic_free(valid);
    return 0;
}

static struct prune_tune_data data(void)
{
    return (struct prune_tune_data){.channels = model.channels, .train = train, .valid = valid};
}

static struct prune_tune_options options(uint32_t steps)
{
    struct prune_tune_options o = {.steps = steps, .step_epochs = 1, .prune = {.least = 2}};

    train_defaults(&o.train);
    o.train.epochs = 5;
    o.train.epoch_windows = 1280;
    o.train.batch = 64;
    o.train.rate = 4e-3f;
    o.train.shift = o.train.onset_samples = 8;
    o.train.threads = 2;
    o.train.quiet = 1;
    return o;
}

static double f1_of(const struct net *n)
{
    struct metrics *m;

    assert_int_equal(train_evaluate(n, model.channels, valid, 2, &m), 0);
    double f1 = m->f1_macro;
    metrics_free(m);
    return f1;
}

static int same(const struct net *a, const struct net *b)
{
    return a->param_count == b->param_count &&
           !memcmp(a->params, b->params, a->param_count * sizeof(*a->params));
}

static void test_without_steps_it_is_one_cut(void **state)
{
    (void)state;
    const struct prune_tune_data d = {.channels = model.channels}; /* needs no data */
    struct prune_tune_options o = options(0);
    struct net *a, *b;

    o.prune.ratio = 0.4;
    assert_int_equal(prune_steps(net, &d, &o, &a, NULL, 0), 0);
    assert_int_equal(prune_channels(net, &o.prune, &b, NULL, 0), 0);
    assert_true(same(a, b));
    net_free(a);
    net_free(b);
}

/* The chance of a guess is 0.25; half of the parameters gone, the network is as good as before. */
static void test_steps_reach_the_target_and_tune(void **state)
{
    (void)state;
    const struct prune_tune_data d = data();
    struct prune_tune_options o = options(3);
    struct net *cut, *tuned, *again;

    o.prune.target_params = net->param_count / 4;
    assert_int_equal(prune_channels(net, &o.prune, &cut, NULL, 0), 0);
    assert_int_equal(prune_steps(net, &d, &o, &tuned, NULL, 0), 0);
    assert_true(tuned->param_count <= net->param_count / 4);
    assert_true(tuned->param_count > net->param_count / 6);
    assert_int_equal(tuned->stat_count, 0); /* folded */
    print_message("macro F1: %.3f, one cut %.3f, in steps %.3f\n", f1_of(net), f1_of(cut),
                  f1_of(tuned));
    assert_true(f1_of(net) > 0.9);
    assert_true(f1_of(tuned) > f1_of(net) - 0.05);
    assert_true(f1_of(tuned) >= f1_of(cut));
    o.train.threads = 1;
    assert_int_equal(prune_steps(net, &d, &o, &again, NULL, 0), 0);
    assert_true(same(tuned, again));
    net_free(cut);
    net_free(tuned);
    net_free(again);
}

static void test_a_ratio_in_steps(void **state)
{
    (void)state;
    const struct prune_tune_data d = data();
    struct prune_tune_options o = options(2);
    struct net *once, *stepped;

    o.prune.ratio = 0.5;
    o.prune.scope = PRUNE_LOCAL;
    o.step_epochs = 0; /* the last cut alone is followed by fine-tuning */
    o.train.epochs = 1;
    assert_int_equal(prune_channels(net, &o.prune, &once, NULL, 0), 0);
    assert_int_equal(prune_steps(net, &d, &o, &stepped, NULL, 0), 0);
    assert_true(stepped->param_count <= once->param_count);
    assert_true(stepped->param_count * 10 > once->param_count * 8);
    net_free(once);
    net_free(stepped);
    o.prune.ratio = 0.0;
    o.prune.target_params = 10; /* out of reach */
    assert_int_equal(prune_steps(net, &d, &o, &stepped, NULL, 0), -EINVAL);
    assert_null(stepped);
}

static void test_taylor_in_steps(void **state)
{
    (void)state;
    const struct prune_tune_data d = data();
    struct prune_tune_options o = options(2);
    struct prune_sample sample;
    struct net *out;

    assert_int_equal(prune_sample_draw(train, model.channels, model.channel_count, 64, 1, &sample),
                     0);
    o.prune.criterion = PRUNE_TAYLOR;
    o.prune.sample = &sample;
    o.prune.target_params = net->param_count / 3;
    assert_int_equal(prune_steps(net, &d, &o, &out, NULL, 0), 0);
    assert_true(f1_of(out) > f1_of(net) - 0.05);
    net_free(out);
    prune_sample_free(&sample);
}

struct probes {
    uint32_t count;
    struct prune_probe of[16];
};

static void remember(void *context, const struct prune_probe *p)
{
    struct probes *all = context;

    assert_true(all->count < 16);
    assert_int_equal(p->net->param_count, p->parameters);
    assert_true(p->parameters <= p->target);
    all->of[all->count++] = *p;
}

static void test_search(void **state)
{
    (void)state;
    const struct prune_tune_data d = data();
    const double f1 = f1_of(net), drop = 0.03;
    struct prune_tune_options o = options(1);
    struct probes all = {0};
    uint64_t least = UINT64_MAX, smallest;
    struct net *out;

    assert_int_equal(prune_smallest(net, &o.prune, &smallest), 0);
    /* 2 channels everywhere: conv1 2 (5 * 3 + 1), conv2 2 (5 * 2 + 1), dense1 on 2 channels of 10
     * columns 2 (20 + 1), dense2 4 (2 + 1) */
    assert_int_equal(smallest, 32 + 22 + 42 + 12);
    assert_int_equal(prune_search(net, &d, &o, drop, 6, remember, &all, &out, NULL, 0), 0);
    assert_non_null(out);
    assert_true(all.count >= 3 && all.count <= 6);
    for (uint32_t i = 0; i < all.count; i++) {
        assert_int_equal(all.of[i].within, all.of[i].f1_macro >= f1 - drop);
        if (all.of[i].within && all.of[i].parameters < least)
            least = all.of[i].parameters;
    }
    print_message("%zu parameters to %zu in %u probes\n", net->param_count, out->param_count,
                  all.count);
    assert_int_equal(out->param_count, least);
    assert_true(out->param_count < net->param_count / 2);
    assert_true(f1_of(out) >= f1 - drop);
    net_free(out);
}

static void test_search_without_tuning(void **state)
{
    (void)state;
    struct prune_tune_data d = data();
    struct prune_tune_options o = options(0);
    struct probes all = {0};
    struct net *out;

    d.train = NULL; /* not asked for */
    assert_int_equal(prune_search(net, &d, &o, 0.1, 16, remember, &all, &out, NULL, 0), 0);
    assert_non_null(out);
    assert_true(out->param_count < net->param_count && f1_of(out) >= f1_of(net) - 0.1);
    assert_true(all.count < 16); /* the bounds met */
    net_free(out);
    /* better than itself by 1: there is none */
    all.count = 0;
    assert_int_equal(prune_search(net, &d, &o, -1.0, 4, remember, &all, &out, NULL, 0), 0);
    assert_null(out);
    assert_int_equal(all.count, 4);
}

static void test_sensitivity(void **state)
{
    (void)state;
    const struct prune_tune_data d = data();
    struct prune_options o = {.criterion = PRUNE_L1, .least = 4, .align = 8};
    const struct prune_options alone = {.criterion = PRUNE_L1,
                                        .scope = PRUNE_LOCAL,
                                        .ratio = 0.4,
                                        .least = 1,
                                        .protect = {1, 1, 1}};
    struct prune_sensitivity *rows;
    size_t count;
    struct net *cut;

    assert_int_equal(prune_protect(net, "conv2", &o, NULL, 0), 0);
    assert_int_equal(prune_sensitivity(net, &d, &o, 2, 1, &rows, &count, NULL, 0), 0);
    assert_int_equal(count, 2 * PRUNE_SENSITIVITY_RATIOS); /* conv1 and dense1 */
    for (size_t k = 0; k < count; k++) {
        const uint32_t whole = k < 9 ? 8 : 16, tenths = (uint32_t)(k % 9) + 1;
        assert_int_equal(rows[k].layer, k < 9 ? 0 : 5);
        assert_true(rows[k].ratio * 10.0 == tenths);
        /* those whose rank (c + 1/2) / whole is below the ratio go */
        uint32_t gone = 0;
        while (gone < whole && (2 * gone + 1) * 10 < tenths * 2 * whole)
            gone++;
        assert_int_equal(rows[k].channels, gone == whole ? 1 : whole - gone);
        assert_true(rows[k].f1_macro >= 0.0 && rows[k].f1_macro <= 1.0 && rows[k].bce > 0.0);
    }
    assert_int_equal(prune_channels(net, &alone, &cut, NULL, 0), 0); /* 40 % of dense1 */
    assert_int_equal(rows[12].parameters, cut->param_count);
    assert_true(rows[12].f1_macro == f1_of(cut));
    net_free(cut);
    free(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_without_steps_it_is_one_cut),
                                       cmocka_unit_test(test_steps_reach_the_target_and_tune),
                                       cmocka_unit_test(test_a_ratio_in_steps),
                                       cmocka_unit_test(test_taylor_in_steps),
                                       cmocka_unit_test(test_search),
                                       cmocka_unit_test(test_search_without_tuning),
                                       cmocka_unit_test(test_sensitivity)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
