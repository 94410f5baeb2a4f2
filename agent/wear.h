/* wear.h - what this process writes to storage: for each outcome, and in a day without any. Main
 * thread.
 *
 * From write_bytes of /proc/self/io (proc(5)): pages handed to storage, logs and metadata of other
 * processes not included. Each minute counts as busy (something was committed or acknowledged in it
 * or in the minute before) or as idle.
 */
#ifndef AGENT_WEAR_H
#define AGENT_WEAR_H

#include <stdint.h>

struct wear {
    int64_t looked_at;              /* monotonic ms; 0: never */
    uint64_t bytes, work, all_work; /* at the last look */
    int was_busy;
    uint64_t start_bytes, busy_bytes, busy_work, idle_bytes;
    int64_t idle_ms;
};

/* Looks when a minute has passed. work: a number that grows with every outcome; other: one that
 * grows with everything else that makes work. */
void wear_tick(struct wear *w, int64_t mono_ms, uint64_t work, uint64_t other);

struct wear_figures {
    uint64_t written_bytes;            /* since the start */
    uint64_t outcome_bytes, day_bytes; /* for each outcome; in an idle day. 0: not known yet */
};
void wear_get(const struct wear *w, struct wear_figures *out);

#endif
