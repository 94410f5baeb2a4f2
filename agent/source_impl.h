/* source_impl.h - what source.c and the three kinds of sources share. Private to source*.c.
 *
 * A kind delivers its readings one by one without any pacing; source.c keeps one reading in hand
 * and paces it. A kind's state begins with nothing special: source.c only carries the pointer. One
 * thread.
 */
#ifndef AGENT_SOURCE_IMPL_H
#define AGENT_SOURCE_IMPL_H

#include "agent/source.h"

#define SOURCE_ERROR_BYTES 640
#define SOURCE_DAY_MS (24LL * 3600 * 1000)

struct source_kind {
    /* Next reading. 1: *out; 0: none now (stdin only); -ENODATA: ended; -EBADMSG: unusable input,
     * text in s->error. */
    int (*pull)(struct source *s, int64_t now_ms, struct trace_reading *out);
    /* Readings up to t_ms were consumed before; called at most once, before the first pull. May be
     * NULL. */
    void (*resume)(struct source *s, int64_t t_ms);
    /* Whether pull would find something without new input; NULL: always. */
    int (*pending)(const struct source *s);
    void (*destroy)(struct source *s);
    int paced;  /* 0: readings come when they come */
    int polled; /* the descriptor to poll, or -1 */
};

struct source {
    const struct source_kind *kind;
    void *state; /* of the kind */
    double speed;
    int rebase, rebased;
    int64_t rebase_ms; /* added to every time */
    int64_t resume_ms; /* INT64_MIN: no earlier life */
    int anchored;      /* pacing: time anchor_ms is due at monotonic anchor_mono */
    int64_t anchor_ms, anchor_mono;
    int has_next, ended;
    struct trace_reading next;
    int phased, three;               /* three: of stdin and sim */
    float next_phases[3], phases[3]; /* of next, and of what was handed out last */
    char error[SOURCE_ERROR_BYTES];
};

/* Each fills s->kind and s->state; 0 or -errno with why. Strings of the configuration are copied.
 */
int source_replay_init(struct source *s, const struct source_config *c, char *why, size_t why_size);
int source_stdin_init(struct source *s, const struct source_config *c, char *why, size_t why_size);
int source_sim_init(struct source *s, const struct source_config *c, char *why, size_t why_size);

#endif
