/* publisher_internal.h - the publisher's two sides: publisher.c (called by the main thread) and
 * publisher_thread.c. */
#ifndef AGENT_PUBLISHER_INTERNAL_H
#define AGENT_PUBLISHER_INTERNAL_H

#include <pthread.h>
#include <stdint.h>

#include "agent/drain.h"
#include "agent/publisher.h"
#include "storage/store.h"
#include "transport/link.h"
#include "transport/topic.h"

#define PUBLISHER_RETAINED 2

enum publisher_kind { PUBLISHER_COMMAND, PUBLISHER_CANDIDATE, PUBLISHER_REFUSAL };

struct publisher {
    const struct config *config;
    char database[CONFIG_TEXT + 32];
    int event_fd;
    pthread_t thread;

    /* The thread's own. */
    struct store *store;
    struct drain *drain;
    int up;
    int64_t files_stamp;           /* of certificates and key when the link was made */
    int dirty[PUBLISHER_RETAINED]; /* to be published */
    int own_flight;                /* of ours beside the outbox, not yet answered */
    char told[384];                /* last failure that was logged */
    uint64_t told_again;
    char topics[PUBLISHER_RETAINED][TOPIC_BYTES], reply_topic[TOPIC_BYTES];

    /* Shared, under lock. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct link *link; /* made and destroyed by the thread; link_wake by others */
    int stopping, work, changed_retained[PUBLISHER_RETAINED];
    char *retained[PUBLISHER_RETAINED];
    char *replies[PUBLISHER_REPLIES];
    int reply_count;
    struct publisher_message inbox[PUBLISHER_COMMANDS + PUBLISHER_CANDIDATES + PUBLISHER_REFUSALS];
    int inbox_count, inbox_kinds[3]; /* by enum publisher_kind */
    struct publisher_stats stats;
};

static inline enum publisher_kind publisher_kind(const struct publisher_message *m)
{
    return !m->candidate         ? PUBLISHER_COMMAND
           : m->candidate->error ? PUBLISHER_REFUSAL
                                 : PUBLISHER_CANDIDATE;
}

/* The thread: context is the publisher. Runs until stopping, then finishes what is in flight. */
void *publisher_run(void *context);

#endif
