/* net_parallel.h - runs independent tasks on a few threads. Which thread takes which task is open,
 * so a task must write only to places of its own; the caller combines them in task order. That is
 * how results come out the same for any number of threads. */
#ifndef WORKSHOP_NET_PARALLEL_H
#define WORKSHOP_NET_PARALLEL_H

#include <stdint.h>

#define NET_MAX_THREADS 64u

/* Threads to use when asked for `wanted`: 0 is one per processor. 1 to NET_MAX_THREADS. */
uint32_t net_parallel_threads(uint32_t wanted);

/* Calls run(context, task, thread) for each task in 0..tasks-1, thread in 0..threads-1; returns
 * when all are done. The caller's thread is thread 0; where another cannot be started, fewer do the
 * work. */
void net_parallel(uint32_t threads, uint32_t tasks,
                  void (*run)(void *context, uint32_t task, uint32_t thread), void *context);

#endif
