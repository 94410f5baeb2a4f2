/* test_mains_gentle.c - the steps at which the network changes its mind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <math.h>

#include <cmocka.h>

#include "agent/mains_gentle.h"

#define T0 1700000000000LL
#define MINUTE 60000LL
#define BASE 150.0f

/* A load from minute 0 to minute `off`, and what the network says of a television. */
struct home {
    float watts, before, behind;
    double off;
    struct mains_gentle gentle;
    struct mains_ring edges;
    struct mains_sum sum;
};

static float watts_at(void *context, int64_t t_ms)
{
    const struct home *h = context;
    const int64_t off = T0 + (int64_t)(h->off * (double)MINUTE);
    return t_ms >= T0 && t_ms < off ? BASE + h->watts : BASE;
}

static void step(struct home *h, int64_t t_ms, float before, float watts)
{
    mains_ring_add(&h->edges, &(struct edge){t_ms, before, watts});
}

/* The network changes its mind in minute `change`, and has spoken of a quarter of an hour before.
 */
static void build(struct home *h, float watts, double off, float before, float behind, int change)
{
    memset(h, 0, sizeof(*h));
    *h = (struct home){.watts = watts, .off = off, .before = before, .behind = behind};
    h->sum = (struct mains_sum){watts_at, h, 8000};
    mains_gentle_init(&h->gentle);
    for (int64_t t = T0 + (change - 16) * MINUTE; t < T0 + (change + 6) * MINUTE; t += 32000)
        mains_gentle_hear(&h->gentle, t, t < T0 + change * MINUTE ? before : behind, 0.02f);
    step(h, T0, BASE, watts);
    step(h, T0 + (int64_t)(off * (double)MINUTE), BASE + watts, -watts);
}

static float begins(struct home *h)
{
    return mains_gentle_begins(&h->gentle, &h->edges, 0, &h->sum);
}

static float ends(struct home *h, float level)
{
    return mains_gentle_ends(&h->gentle, &h->edges, 1, level, &h->sum);
}

static void begins_where_it_changes(void **state)
{
    (void)state;
    struct home h;
    build(&h, 110, 90, 0.1f, 0.7f, 0);
    assert_true(begins(&h) > 0);
    build(&h, 110, 90, 0.7f, 0.7f, 0); /* it saw one before */
    assert_true(begins(&h) < 0);
    build(&h, 110, 90, 0.1f, 0.1f, 0); /* it sees none */
    assert_true(begins(&h) < 0);
    build(&h, 110, 90, 0.7f, 0.1f, 0);
    assert_true(begins(&h) < 0);
}

static void begins_with_a_step_that_stays(void **state)
{
    (void)state;
    struct home h;
    build(&h, 110, 90, 0.15f, 0.5f, 0);
    const float stays = begins(&h);
    build(&h, 110, 2, 0.15f, 0.5f, 0);
    assert_true(begins(&h) < stays - 0.5f);
    build(&h, 20, 90, 0.15f, 0.5f, 0);
    assert_true(begins(&h) < stays - 1);
    build(&h, 900, 90, 0.1f, 0.9f, 0); /* no television takes so much */
    assert_true(begins(&h) < 0);
}

static void ends_where_it_changes_back(void **state)
{
    (void)state;
    struct home h;
    build(&h, 110, 30, 0.8f, 0.2f, 30);
    assert_true(ends(&h, 110) > 0);
    assert_true(ends(&h, 40) < 0); /* of another size */
    assert_true(ends(&h, 300) < 0);
    build(&h, 110, 30, 0.8f, 0.9f, 30);
    assert_true(ends(&h, 110) < 0);
}

static void gone_when_not_seen(void **state)
{
    (void)state;
    struct mains_gentle g;
    mains_gentle_init(&g);
    assert_false(mains_gentle_gone(&g, T0, T0 + 30 * MINUTE)); /* nothing is known */
    for (int64_t t = T0; t < T0 + 20 * MINUTE; t += 32000)
        mains_gentle_hear(&g, t, 0.05f, 0);
    assert_true(mains_gentle_gone(&g, T0, T0 + 20 * MINUTE));
    assert_false(mains_gentle_gone(&g, T0 + 10 * MINUTE, T0 + 20 * MINUTE)); /* too early to say */
    for (int64_t t = T0 + 20 * MINUTE; t < T0 + 40 * MINUTE; t += 32000)
        mains_gentle_hear(&g, t, 0.4f, 0);
    assert_false(mains_gentle_gone(&g, T0, T0 + 40 * MINUTE));
}

/* Cells that were not heard are not those of an hour ago. */
static void holes_are_not_known(void **state)
{
    (void)state;
    struct home h;
    build(&h, 110, 90, 0.1f, 0.7f, 0);
    mains_gentle_hear(&h.gentle, T0 + 300 * MINUTE, 0.9f, 0);
    assert_true(begins(&h) < 0);
    mains_gentle_hear(&h.gentle, T0 + 320 * MINUTE, 0.9f, 0);
    assert_false(mains_gentle_gone(&h.gentle, T0, T0 + 319 * MINUTE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(begins_where_it_changes),
        cmocka_unit_test(begins_with_a_step_that_stays),
        cmocka_unit_test(ends_where_it_changes_back),
        cmocka_unit_test(gone_when_not_seen),
        cmocka_unit_test(holes_are_not_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
