/* source.c - what all sources share: one reading in hand, paced by monotonic time. */
#include "agent/source.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/source_impl.h"

int source_create(const struct source_config *config, struct source **out, char *why,
                  size_t why_size)
{
    *out = NULL;
    if (!isfinite(config->speed) || config->speed < 0) {
        snprintf(why, why_size, "speed: expected 0 (as fast as it goes) or a positive number");
        return -EINVAL;
    }
    struct source *s = calloc(1, sizeof(*s));
    if (!s) {
        snprintf(why, why_size, "out of memory");
        return -ENOMEM;
    }
    s->speed = config->speed;
    s->rebase = config->rebase;
    s->three = config->phases;
    s->resume_ms = INT64_MIN;
    int rc = -EINVAL;
    switch (config->type) {
    case SOURCE_REPLAY:
        rc = source_replay_init(s, config, why, why_size);
        break;
    case SOURCE_STDIN:
        rc = source_stdin_init(s, config, why, why_size);
        break;
    case SOURCE_SIM:
        rc = source_sim_init(s, config, why, why_size);
        break;
    default:
        snprintf(why, why_size, "type: expected replay, stdin or sim");
    }
    if (rc) {
        free(s);
        return rc;
    }
    *out = s;
    return 0;
}

void source_destroy(struct source *s)
{
    if (!s)
        return;
    s->kind->destroy(s);
    free(s);
}

int source_fd(const struct source *s)
{
    return s->ended ? -1 : s->kind->polled;
}

/* When the reading in hand is due; 0 when it is not paced. */
static int64_t due(const struct source *s)
{
    if (!s->kind->paced || s->speed <= 0 || !s->anchored)
        return 0;
    double wait = (double)(s->next.t_ms - s->anchor_ms) / s->speed;
    /* a trace of decades at a crawl must not overflow; a backward time is due at once */
    if (wait > 4e15)
        return INT64_MAX;
    return wait <= 0 ? s->anchor_mono : s->anchor_mono + (int64_t)wait;
}

int64_t source_due(const struct source *s)
{
    if (s->ended)
        return INT64_MAX;
    if (!s->has_next)
        return !s->kind->pending || s->kind->pending(s) ? 0 : INT64_MAX;
    return due(s);
}

/* Rebasing: the first reading is now, or follows what an earlier life consumed. */
static void rebase(struct source *s, int64_t now_ms)
{
    if (!s->rebase)
        return;
    if (!s->rebased) {
        int64_t first = now_ms;
        if (s->resume_ms != INT64_MIN && s->resume_ms >= first)
            first = s->resume_ms + 1000;
        s->rebase_ms = first - s->next.t_ms;
        s->rebased = 1;
    }
    s->next.t_ms += s->rebase_ms;
}

int source_next(struct source *s, int64_t mono_ms, int64_t now_ms, struct trace_reading *out)
{
    if (s->ended)
        return -ENODATA;
    if (!s->has_next) {
        int rc = s->kind->pull(s, now_ms, &s->next);
        if (rc == -ENODATA)
            s->ended = 1;
        if (rc != 1)
            return rc;
        rebase(s, now_ms);
        s->has_next = 1;
    }
    int paced = s->kind->paced && s->speed > 0 && s->next.t_ms > s->resume_ms;
    if (paced && !s->anchored) {
        s->anchored = 1;
        s->anchor_ms = s->next.t_ms;
        s->anchor_mono = mono_ms;
    }
    if (paced && due(s) > mono_ms)
        return 0;
    *out = s->next;
    memcpy(s->phases, s->next_phases, sizeof s->phases);
    s->has_next = 0;
    return 1;
}

int source_phases(const struct source *s, float out[3])
{
    memcpy(out, s->phases, sizeof s->phases);
    return s->phased;
}

const char *source_error(const struct source *s)
{
    return s->error;
}

void source_resume(struct source *s, int64_t t_ms)
{
    if (t_ms <= 0)
        return;
    s->resume_ms = t_ms;
    if (s->kind->resume)
        s->kind->resume(s, t_ms);
}
