/* net_parallel.c - tasks on a few threads. */
#include "inference/workshop/net_parallel.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

struct job {
    atomic_uint next;
    uint32_t tasks;
    void (*run)(void *context, uint32_t task, uint32_t thread);
    void *context;
};

struct worker {
    struct job *job;
    uint32_t thread;
    pthread_t handle;
};

uint32_t net_parallel_threads(uint32_t wanted)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);

    if (wanted == 0)
        wanted = processors > 0 ? (uint32_t)processors : 1;
    return wanted > NET_MAX_THREADS ? NET_MAX_THREADS : wanted;
}

static void *work(void *argument)
{
    struct worker *w = argument;

    for (;;) {
        uint32_t task = atomic_fetch_add(&w->job->next, 1);
        if (task >= w->job->tasks)
            return NULL;
        w->job->run(w->job->context, task, w->thread);
    }
}

void net_parallel(uint32_t threads, uint32_t tasks,
                  void (*run)(void *context, uint32_t task, uint32_t thread), void *context)
{
    struct job job = {.tasks = tasks, .run = run, .context = context};
    struct worker workers[NET_MAX_THREADS];
    uint32_t started = 1;

    atomic_init(&job.next, 0);
    if (threads > tasks)
        threads = tasks;
    workers[0] = (struct worker){.job = &job};
    for (; started < threads && started < NET_MAX_THREADS; started++) {
        workers[started] = (struct worker){.job = &job, .thread = started};
        if (pthread_create(&workers[started].handle, NULL, work, &workers[started]))
            break;
    }
    (void)work(&workers[0]);
    for (uint32_t i = 1; i < started; i++)
        (void)pthread_join(workers[i].handle, NULL);
}
