/* test_meter_quiet.c - a reading's whole path, resampler, window, engine, belief, detector and
 * anomalies, neither allocates, locks, nor enters the kernel (inference/lib_quiet.h), with the
 * models that are shipped. What an outcome's sink does, the store in the agent, is not part of it:
 * here it only counts. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/meter.h"
#include "inference/lib_quiet.h"

#define T0 1700000000000

static const char *const models[] = {"inference/models/identify-int8.nilm",
                                     "inference/models/identify-pruned-int8.nilm"};

/* A circuit at a steady load, after the events of its beginning. */
struct path {
    struct model *model;
    struct engine *engine;
    struct meter_shared *shared;
    struct meter *meter;
    int64_t t_ms;
    unsigned outcomes;
};

static int count_outcome(void *context, const struct outcome *o)
{
    (void)o;
    ((struct path *)context)->outcomes++;
    return 0;
}

/* seconds of readings a second apart that stay within a watt or two. */
static void feed(struct path *p, float watts, unsigned seconds)
{
    for (unsigned i = 0; i < seconds; i++) {
        p->t_ms += 1000;
        meter_reading(p->meter, p->t_ms, watts + (float)(i * 7 % 5) * 0.25f);
        meter_tick(p->meter, p->t_ms + 300);
    }
}

static void begin(struct path *p, const char *model)
{
    static const struct meter_config config = {.name = "m",
                                               .on_w = 15,
                                               .off_w = 10,
                                               .min_on_ms = 2000,
                                               .min_off_ms = 30000,
                                               .silence_ms = 600000,
                                               .max_gap_ms = 60000,
                                               .quality = EVENT_CLOCK};
    const struct outcome_sink sink = {p, count_outcome};
    const struct meter_memory memory = {NULL, NULL};
    char why[256] = "";

    memset(p, 0, sizeof(*p));
    p->t_ms = T0;
    if (model_decode_file(model, &p->model, why, sizeof(why)) ||
        engine_create(p->model, 0, &p->engine, why, sizeof(why)))
        fail_msg("%s", why);
    assert_int_equal(meter_shared_create(&p->shared), 0);
    assert_int_equal(meter_create(&config, p->engine, &sink, &memory, p->shared, &p->meter), 0);
    feed(p, 2, 600);
    feed(p, 60, 3 * 3600);
    assert_true(p->outcomes > 0); /* on, and perhaps a name */
}

static void end(struct path *p)
{
    meter_destroy(p->meter);
    meter_shared_destroy(p->shared);
    engine_free(p->engine);
    model_free(p->model);
}

static uint64_t inferences(const struct path *p)
{
    struct meter_status status;

    meter_get_status(p->meter, &status);
    return status.inferences;
}

/* Hours without an outcome. Returns whether there was none and windows were classified all the
 * time. */
static int steady(struct path *p)
{
    const unsigned before = p->outcomes, seconds = 4 * 3600;
    const uint64_t classified = inferences(p), hop_ms = p->model->period_ms * p->model->hop;

    feed(p, 60, seconds);
    return p->outcomes == before && inferences(p) - classified >= seconds * 1000u / hop_ms - 1;
}

/* Runs that begin, are named, and end. Returns whether each led to outcomes. */
static int switching(struct path *p)
{
    const unsigned before = p->outcomes;

    for (int i = 0; i < 5; i++) {
        feed(p, 2, 300);
        feed(p, 1800, 300);
    }
    return p->outcomes >= before + 9;
}

static void no_allocation_or_lock(void **state)
{
    (void)state;
#ifdef COUNTED
    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
        struct path p;
        unsigned long before = allocations;

        begin(&p, models[i]);
        assert_true(allocations > before); /* the counter counts */
        before = allocations;
        locks = 0;
        assert_true(steady(&p));
        assert_true(switching(&p));
        assert_int_equal(allocations, before);
        assert_int_equal(locks, 0);
        end(&p);
    }
#else
    skip();
#endif
}

/* A child that may only compute. with_call: it makes one system call, to show that this is seen.
 * Returns its status. */
static int run_child(struct path *p, int with_call)
{
    int status;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (forbid_system_calls() != 0)
            syscall(SYS_exit, 77);
        if (with_call)
            syscall(SYS_write, -1, "", 0);
        syscall(SYS_exit, steady(p) && switching(p) ? 42 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void no_system_call(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
        struct path p;
        int status, status_of_call;

        begin(&p, models[i]);
        status = run_child(&p, 0);
        status_of_call = run_child(&p, 1);
        end(&p);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
            skip(); /* this kernel, container or emulator has no seccomp filters */
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 42);
        assert_true(WIFSIGNALED(status_of_call));
        assert_int_equal(WTERMSIG(status_of_call), SIGSYS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_allocation_or_lock),
        cmocka_unit_test(no_system_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
