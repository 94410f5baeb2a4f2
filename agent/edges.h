/* edges.h - when and by how much the power of a mains meter stepped from one steady level to
 * another.
 *
 * A level is steady while readings stay within a tolerance of its running mean, which follows slow
 * drift. A reading outside begins a change, stamped with its time; two readings in a row that agree
 * with each other make the next level, and the edge is the difference of the two levels. A change
 * that returns to where it came from is none (inrush, a spike of one reading); one that does not
 * settle for EDGES_SETTLE_MS is taken as it stands, and so is a ramp. The tolerance follows the
 * noise of the level (G. W. Hart, Nonintrusive appliance load monitoring, Proc. IEEE 80, 1992, has
 * the idea of steady states). Readings are irregular, 1 to 30 s apart; of more than one in 3 s the
 * mean counts, since the noise of a second hides small steps and what agrees for a second is no
 * level yet; the time stays that of the reading. A hole, or a level that was frozen to the last
 * digit for EDGES_FROZEN_MS and longer than is usual of this meter, begins a level without an edge.
 * Memory is constant; the structure holds no pointers and may be copied as bytes.
 */
#ifndef AGENT_EDGES_H
#define AGENT_EDGES_H

#include <stdint.h>

#define EDGES_SETTLE_MS 60000
#define EDGES_FROZEN_MS 300000
#define EDGES_LEAST_W 12.0f /* smaller steps are noise */

/* When a sum was 0 W. */
struct edges_zero {
    int64_t first_ms, last_ms;   /* the first reading; the last one of 0 W */
    int64_t from_ms, to_ms;      /* the last stretch of 0 W that was left out */
    int32_t at_zero, leaves_out; /* the last reading was 0 W; it was left out */
};

struct edges {
    int64_t last_ms;   /* last reading */
    int64_t mean_ms;   /* first reading of the mean in progress, or of the last one */
    int64_t from_ms;   /* of the one before */
    int64_t moved_ms;  /* first reading in it that has left the level; 0: none */
    int64_t change_ms; /* first reading of the change in progress */
    int64_t same_ms;   /* since when the reading has not moved by a digit */
    float level_w, noise_w;
    float last_w, sum_w;       /* the last mean; readings of the mean in progress */
    float resolution_w;        /* smallest step between readings that was seen lately; 0: none */
    float still_ms;            /* how long readings have stood still to the digit lately */
    int32_t started, changing; /* changing: readings of the change so far */
    int32_t frozen, count;     /* the level was frozen; readings in sum_w */
    uint32_t damaged;          /* readings left out */
    struct edges_zero zero;
};

struct edge {
    int64_t t_ms;           /* of the first reading of the change */
    float before_w, step_w; /* level before; change, negative: down */
};

void edges_init(struct edges *e);

/* A new reading, told before edges_left_out is asked about it. */
void edges_note(struct edges_zero *z, int64_t t_ms, float watts);

/* Whether a reading that was noted is better not used at all: codes of meters that were damaged on
 * the way (multiples of 4096 W, 32767, 49150, 65535: REFIT, Murray et al. 2017, has them), and 0 W
 * of a sum that was never 0 W in the day before: a home has a base load, but the feed of a machine
 * rests at 0 W each night. */
int edges_left_out(const struct edges_zero *z, int64_t t_ms, float watts);

/* One reading that was noted, time not before the last. 1: *out; 0: no edge. max_gap_ms: more time
 * than this between two readings is a hole. */
int edges_push(struct edges *e, int64_t t_ms, float watts, int64_t max_gap_ms, struct edge *out);

/* Whether bytes that were read back can be one: 0 or -EBADMSG. */
int edges_check(const struct edges *e);

#endif
