/* test_engine_quiet.c - after engine_create nothing allocates, locks, or enters the kernel
 * (lib_quiet.h). */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "inference/engine.h"
#include "inference/kernels.h"
#include "inference/lib_quiet.h"
#include "inference/lib_random_model.h"

struct meter {
    struct model *m;
    struct engine *e;
    void *state, *scratch;
    float *watts;
};

static void open_meter(struct meter *x)
{
    uint64_t s = 5;

    x->m = random_model_article(5, MODEL_INT8);
    assert_int_equal(engine_create(x->m, 24, &x->e, NULL, 0), 0);
    x->state = aligned_alloc(ENGINE_ALIGN, engine_state_bytes(x->e));
    x->scratch = aligned_alloc(ENGINE_ALIGN, engine_batch_scratch_bytes(x->e));
    x->watts = malloc((x->m->window + 1) * sizeof(float));
    random_watts(&s, x->watts, x->m->window + 1);
}

static void close_meter(struct meter *x)
{
    free(x->watts);
    free(x->state);
    free(x->scratch);
    engine_free(x->e);
    random_model_free(x->m);
}

/* Of 700 samples, one by one and in a batch. */
enum { RESULTS = 2 * (1 + (700 - 512) / 24) };

/* All that a running agent calls. Returns the number of results. */
static int use(const struct meter *x)
{
    float logits[MODEL_MAX_CLASSES], p[MODEL_MAX_CLASSES];
    int results = 0;

    engine_reset(x->e, x->state);
    for (uint32_t i = 0; i < 700; i++)
        if (engine_push(x->e, x->state, x->scratch, x->watts[i % x->m->window], logits)) {
            engine_probabilities(x->e, logits, p);
            results++;
        }
    engine_run(x->e, x->scratch, x->watts, logits);
    engine_probabilities(x->e, logits, p);
    engine_reset(x->e, x->state);
    for (uint32_t i = 0; i < 700; i++) {
        uint8_t due;
        results += (int)engine_push_many(x->e, &x->state, 1, x->scratch,
                                         &x->watts[i % x->m->window], 1, logits, &due);
    }
    return results;
}

static void test_no_allocation_or_lock(void **state)
{
#ifdef COUNTED
    struct meter x;
    unsigned long before;
    int results;

    (void)state;
    before = allocations;
    open_meter(&x);
    assert_true(allocations > before); /* the counter counts */
    before = locks;
    pthread_mutex_lock(&x); /* the counter counts */
    assert_int_equal(locks, before + 1);
    before = allocations;
    locks = 0;
    results = use(&x);
    assert_int_equal(allocations, before);
    assert_int_equal(locks, 0);
    assert_int_equal(results, RESULTS);
    close_meter(&x);
#else
    (void)state;
    skip();
#endif
}

/* A child that may only compute. with_call: it makes one system call, to show that this is seen.
 * Returns its status. */
static int run_child(const struct meter *x, int with_call)
{
    int status;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        int results;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (forbid_system_calls() != 0)
            syscall(SYS_exit, 77);
        if (with_call)
            syscall(SYS_write, -1, "", 0);
        results = use(x);
        syscall(SYS_exit, results);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void test_no_system_call(void **state)
{
    struct meter x;
    int status, status_of_call;

    (void)state;
    open_meter(&x);
    status = run_child(&x, 0);
    status_of_call = run_child(&x, 1);
    close_meter(&x);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip(); /* this kernel, container or emulator has no seccomp filters */
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), RESULTS);
    assert_true(WIFSIGNALED(status_of_call));
    assert_int_equal(WTERMSIG(status_of_call), SIGSYS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_allocation_or_lock),
        cmocka_unit_test(test_no_system_call),
    };
    const struct kernels *k;

    if (kernels_select(getenv("NILM_CPU"), &k) != 0) {
        printf("no kernel set %s on this machine\n", getenv("NILM_CPU"));
        return 77; /* skipped */
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
