/* wall.h - what time it is, and how sure that is. Main thread.
 *
 * Live readings are stamped by the monotonic clock (wall_count), whose difference to the wall clock
 * (offset_ms) is added when something goes out. A gateway without a battery clock boots in 1970:
 * until the clock can be believed, times are counted from the last time known (floor_ms, kept in
 * the store), and what was stored with such times and not yet sent is corrected when the clock is
 * set.
 */
#ifndef AGENT_WALL_H
#define AGENT_WALL_H

#include <stdint.h>

#include "agent/event.h"
#include "storage/store.h"

#define WALL_SET_MS INT64_C(1704067200000) /* 2024-01-01: an earlier clock was never set */

#define WALL_PIECE 500 /* rows corrected in one transaction */
#define WALL_MOVED 128 /* open runs, of all meters */

struct wall {
    int known;         /* the wall clock can be believed */
    int ever_known;    /* it could, since the start */
    int released;      /* items with unset times were sent: they stay as they are */
    int64_t wait_ms;   /* so long after boot, and for a clock while the broker is there */
    int64_t base_ms;   /* count = boot time + base */
    int64_t offset_ms; /* wall clock = count + offset */
    int64_t floor_ms;  /* the time is certainly later; 0: nothing known */
    int64_t stored_floor_ms;
    int64_t began_ms;   /* count at which times without a clock begin, in this boot; 0: none wait to
                           be corrected */
    int64_t first_seq;  /* number of the first item with such a time */
    int64_t release_at; /* boot time; 0: the broker is not there */
    /* A correction under way, kept in the store with the numbers above: what lasts longer than one
     * transaction is finished with the difference that it began with. */
    int correcting;
    int64_t delta_ms, until_ms, runs_below; /* times before until_ms; runs of smaller ids are due */
    int64_t moved[WALL_MOVED];              /* runs that were open: corrected first */
    int moved_count;
    int items, runs; /* corrected so far */
};

/* Takes up what the store knows, and finishes a correction that a power cut interrupted. live_ms:
 * latest time that a live meter has told (0: none). 0 or -errno of the store, with a usable clock
 * all the same. */
int wall_start(struct wall *w, struct store *store, int64_t wait_ms, int64_t live_ms);
/* The store was replaced while running. */
void wall_use_store(struct wall *w, struct store *store);
/* About once a second. connected: to a broker. Returns 1 when times are being corrected: in
 * transactions of WALL_PIECE rows, a tenth of a second of them at a time. */
int wall_tick(struct wall *w, struct store *store, int connected);
/* Keeps the floor for the next start. */
void wall_stop(struct wall *w, struct store *store);
/* A time that somebody trustworthy has vouched to be past (Unix s). */
void wall_raise_floor(struct wall *w, int64_t unix_s);

int64_t wall_count_ms(const struct wall *w); /* monotonic; goes on in suspend */
int64_t wall_now_ms(const struct wall *w);   /* best guess of Unix time */
enum event_quality wall_quality(const struct wall *w);
/* What waits must not be sent yet: its times may still be put right. */
int wall_holds(const struct wall *w);

#endif
