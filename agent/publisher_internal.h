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

#define PUBLISHER_RETRY_MS 30000 /* after certificates or the store could not be read */

enum publisher_trial { TRIAL_NONE, TRIAL_RELOAD, TRIAL_FAIL_BACK };

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
    struct config *wanted; /* [broker] as it should be; what the files hold belongs to it */
    int64_t stamp;         /* of wanted's files, as they are in use */
    int64_t seen, seen_at; /* stamp at the last look */
    int differs;           /* wanted says something else than what is in use */
    int refused;           /* what is new was tried and is not used */
    int64_t refused_stamp, retry_at;
    struct link *trial;
    enum publisher_trial trying;
    int64_t trial_stamp, trial_until, fail_back_at;
    int broker;                    /* of the session */
    int dirty[PUBLISHER_RETAINED]; /* to be published */
    int own_flight;                /* of ours beside the outbox, not yet answered */
    char told[384];                /* last failure that was logged */
    uint64_t told_again;
    char topics[PUBLISHER_RETAINED][TOPIC_BYTES], reply_topic[TOPIC_BYTES];

    /* Shared, under lock. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct link *link;     /* made and destroyed by the thread; link_wake by others */
    struct config *handed; /* by publisher_reload */
    int clock_known, hold;
    int64_t floor_s;
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

/* publisher_link.c, for the thread: makes and ends the link, */
int publisher_make_link(struct publisher *p);
void publisher_drop_link(struct publisher *p, int timeout_ms);
/* looks after its files, trials and fail-back, at each turn; returns how long the turn may wait
 * (ms), */
int publisher_tend_link(struct publisher *p, int64_t now_ms);
/* and hears that a session began. */
void publisher_link_up(struct publisher *p, const struct link_event *e, int64_t now_ms);
/* publisher_thread.c: tells a failure, in the log and the state. */
void publisher_tell_failure(struct publisher *p, const char *text, int64_t retry_ms);

/* The thread: context is the publisher. Runs until stopping, then finishes what is in flight. */
void *publisher_run(void *context);

#endif
