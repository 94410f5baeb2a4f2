/* test_engine_quiet.c - after engine_create nothing allocates, locks, or enters the kernel.
 *
 * The entry points of the allocator and of locks are replaced in this program and counted (not
 * under sanitizers, which replace them themselves). System calls: a child under a seccomp
 * filter that lets nothing but exit pass. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
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
#include "inference/lib_random_model.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif

#if !defined(SANITIZED) && defined(__GLIBC__)
#define COUNTED 1
static volatile unsigned long allocations;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *p);

void *malloc(size_t size)
{
    allocations++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    allocations++;
    return __libc_calloc(count, size);
}

void *realloc(void *p, size_t size)
{
    allocations++;
    return __libc_realloc(p, size);
}

void *aligned_alloc(size_t align, size_t size)
{
    allocations++;
    return __libc_memalign(align, size);
}

void free(void *p)
{
    allocations++;
    __libc_free(p);
}

/* The engine is linked statically, so whatever it might call to wait for another thread resolves to
 * these; nothing in this program needs them to work. */
static volatile unsigned long locks;
#define LOCK(name)                                                                                 \
    int name(void *p);                                                                             \
    int name(void *p)                                                                              \
    {                                                                                              \
        (void)p;                                                                                   \
        locks++;                                                                                   \
        return 0;                                                                                  \
    }
LOCK(pthread_mutex_lock)
LOCK(pthread_mutex_trylock)
LOCK(pthread_rwlock_rdlock)
LOCK(pthread_rwlock_wrlock)
LOCK(pthread_spin_lock)
LOCK(sem_wait)
LOCK(mtx_lock)
#endif

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

/* From here on every system call but exit is deadly. 0, or -1 where there is no seccomp. */
static int forbid_system_calls(void)
{
    static struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    const struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
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
