/* test_books.c - the parts never exceed the sum, and everything adds up (agent/books.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <string.h>

#include "agent/books.h"

static uint64_t seed;

static double random_unit(void)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (double)(seed >> 11) / 9007199254740992.0;
}

static double parts_of(const struct books *b)
{
    double sum = 0;
    for (int i = 0; i < BOOKS_PARTS; i++)
        sum += b->part_wh[i];
    return sum;
}

/* Whatever is asked for, at whatever powers and steps of time. */
static void parts_never_exceed_the_sum(void **state)
{
    (void)state;
    for (seed = 1; seed < 2000; seed += 97) {
        struct books b;
        double open[BOOKS_PARTS] = {0}, given = 0;
        books_init(&b);
        for (int k = 0; k < 3000; k++) {
            float want[BOOKS_PARTS], asked[BOOKS_PARTS];
            int n = (int)(random_unit() * (BOOKS_PARTS + 1));
            int64_t dt = 1 + (int64_t)(random_unit() * 30000);
            float sum = (float)(random_unit() < 0.1 ? -200 * random_unit()
                                                    : 4000 * random_unit() * random_unit());
            for (int i = 0; i < n; i++)
                want[i] = asked[i] = (float)(5000 * random_unit() - 500);
            float left = books_moment(&b, dt, sum, want, n), got = 0;
            for (int i = 0; i < n; i++) {
                assert_true(want[i] >= 0 && want[i] <= fmaxf(asked[i], 0));
                got += want[i];
                open[i] += (double)want[i] * (double)dt / 3.6e6;
                given += (double)want[i] * (double)dt / 3.6e6;
            }
            assert_true(got <= fmaxf(sum, 0) * 1.00001f + 0.001f);
            assert_true(left >= 0);
            if (random_unit() < 0.05) {
                int i = (int)(random_unit() * BOOKS_PARTS);
                books_settle(&b, random_unit() < 0.3 ? -1 : i, open[i]);
                open[i] = 0;
            }
        }
        double all = b.base_wh + b.unknown_wh + b.open_wh + parts_of(&b);
        assert_true(fabs(all - b.total_wh) < 1e-6 * b.total_wh);
        assert_true(parts_of(&b) + b.open_wh <= b.total_wh * (1 + 1e-9));
        assert_true(given <= b.total_wh * (1 + 1e-6));
        assert_int_equal(books_check(&b), 0);
    }
}

static void base_load_is_what_never_goes(void **state)
{
    (void)state;
    struct books b;
    books_init(&b);
    for (int i = 0; i < 24 * 450; i++) { /* a day at 8 s: 90 W, every other hour 300 W more */
        float none = 0;
        books_moment(&b, 8000, i / 450 % 2 ? 390 : 90, &none, 0);
    }
    assert_true(fabs(b.base_wh - 24 * 90) < 24 * 9);
    assert_true(fabs(b.unknown_wh - 12 * 300) < 24 * 9);
}

static void saved_bytes_are_checked(void **state)
{
    (void)state;
    struct books b;
    books_init(&b);
    assert_int_equal(books_check(&b), 0);
    b.part_wh[3] = -1;
    assert_int_equal(books_check(&b), -EBADMSG);
    books_init(&b);
    b.base_w = INFINITY;
    assert_int_equal(books_check(&b), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_never_exceed_the_sum),
        cmocka_unit_test(base_load_is_what_never_goes),
        cmocka_unit_test(saved_bytes_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
