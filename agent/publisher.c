#include "agent/publisher.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/broker.h"
#include "agent/publisher_internal.h"

#define STACK_BYTES (512u << 10) /* cJSON may nest a thousand levels deep */

/* The lock is held. */
static void wake_thread(struct publisher *p)
{
    if (p->link)
        link_wake(p->link);
    pthread_cond_signal(&p->changed);
}

static int build_topics(struct publisher *p)
{
    const struct config *c = p->config;
    int rc = topic_build(p->topics[PUBLISHER_STATUS], TOPIC_BYTES, c->base, TOPIC_STATUS, c->device,
                         NULL);
    if (rc == 0)
        rc = topic_build(p->topics[PUBLISHER_MODEL], TOPIC_BYTES, c->base, TOPIC_MODEL, c->device,
                         NULL);
    if (rc == 0)
        rc = topic_build(p->reply_topic, TOPIC_BYTES, c->base, TOPIC_REPLY, c->device, NULL);
    return rc;
}

static struct config *copy_broker(const struct config *from)
{
    struct config *c = calloc(1, sizeof *c);
    if (c)
        broker_copy(c, from);
    return c;
}

int publisher_start(const struct config *config, const char *database, int event_fd,
                    struct publisher **out)
{
    struct publisher *p = calloc(1, sizeof *p);
    pthread_attr_t attributes;
    pthread_condattr_t clock;
    *out = NULL;
    if (!p)
        return -ENOMEM;
    p->config = config;
    p->event_fd = event_fd;
    snprintf(p->database, sizeof p->database, "%s", database);
    p->clock_known = 1;
    snprintf(p->stats.state, sizeof p->stats.state, "connecting");
    p->wanted = copy_broker(config);
    int rc = p->wanted ? build_topics(p) : -ENOMEM;
    if (rc < 0) {
        free(p->wanted);
        free(p);
        return rc;
    }
    pthread_mutex_init(&p->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&p->changed, &clock);
    pthread_condattr_destroy(&clock);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    rc = -pthread_create(&p->thread, &attributes, publisher_run, p);
    pthread_attr_destroy(&attributes);
    if (rc < 0) {
        pthread_cond_destroy(&p->changed);
        pthread_mutex_destroy(&p->lock);
        free(p->wanted);
        free(p);
        return rc;
    }
    *out = p;
    return 0;
}

void publisher_stop(struct publisher *p, const char *last_status)
{
    if (!p)
        return;
    if (last_status)
        publisher_set(p, PUBLISHER_STATUS, last_status);
    pthread_mutex_lock(&p->lock);
    p->stopping = 1;
    wake_thread(p);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    struct publisher_message m;
    while (publisher_take(p, &m)) {
        candidate_free(m.candidate);
        free(m.command);
    }
    for (int i = 0; i < p->reply_count; i++)
        free(p->replies[i]);
    for (int i = 0; i < PUBLISHER_RETAINED; i++)
        free(p->retained[i]);
    free(p->wanted);
    free(p->handed);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

int publisher_reload(struct publisher *p, const struct config *config)
{
    struct config *copy = copy_broker(config);
    if (!copy)
        return -ENOMEM;
    pthread_mutex_lock(&p->lock);
    free(p->handed);
    p->handed = copy;
    wake_thread(p);
    pthread_mutex_unlock(&p->lock);
    return 0;
}

void publisher_set_clock(struct publisher *p, int known, int64_t floor_s, int hold)
{
    pthread_mutex_lock(&p->lock);
    if (p->hold && !hold) {
        p->work = 1;
        wake_thread(p);
    }
    p->hold = hold;
    p->clock_known = known;
    p->floor_s = floor_s;
    pthread_mutex_unlock(&p->lock);
}

void publisher_wake(struct publisher *p)
{
    pthread_mutex_lock(&p->lock);
    p->stats.drained = 0;
    if (!p->work)
        wake_thread(p);
    p->work = 1;
    pthread_mutex_unlock(&p->lock);
}

void publisher_set(struct publisher *p, enum publisher_retained which, const char *text)
{
    char *copy = strdup(text);
    if (!copy)
        return; /* the old text stays */
    pthread_mutex_lock(&p->lock);
    free(p->retained[which]);
    p->retained[which] = copy;
    p->changed_retained[which] = 1;
    wake_thread(p);
    pthread_mutex_unlock(&p->lock);
}

int publisher_reply(struct publisher *p, const char *text)
{
    char *copy = strdup(text);
    if (!copy)
        return -ENOMEM;
    pthread_mutex_lock(&p->lock);
    const int room = p->reply_count < PUBLISHER_REPLIES;
    if (room) {
        p->replies[p->reply_count++] = copy;
        wake_thread(p);
    }
    pthread_mutex_unlock(&p->lock);
    if (!room)
        free(copy);
    return room ? 0 : -ENOBUFS;
}

int publisher_take(struct publisher *p, struct publisher_message *out)
{
    pthread_mutex_lock(&p->lock);
    const int found = p->inbox_count > 0;
    if (found) {
        *out = p->inbox[0];
        p->inbox_kinds[publisher_kind(out)]--;
        memmove(p->inbox, p->inbox + 1, (size_t)--p->inbox_count * sizeof *p->inbox);
    }
    pthread_mutex_unlock(&p->lock);
    return found;
}

void publisher_get_stats(struct publisher *p, struct publisher_stats *out)
{
    pthread_mutex_lock(&p->lock);
    *out = p->stats;
    pthread_mutex_unlock(&p->lock);
}
