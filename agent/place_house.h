/* place_house.h - what a person's list of a week teaches about the appliances of one house, beside
 * the network: prototypes.
 *
 * A short strong load (microwave oven, kettle) is known by its pulses (place_pulse.h): how high
 * they are, how long, how many close together, at what hour. The list says which groups of pulses
 * of that height were it; all others of that week were not, and count as much: a group is called by
 * the name when the kernel density of those that were it outweighs that of the others (Parzen,
 * Ann. Math. Stat. 33, 1962). A program (dishwasher) heats for so long at such times after its
 * start: where the runs of the list agree on that, it is known by this score. All others are found
 * by the network; the list says how late they are told in this house, and how short they never are.
 * Structures hold no pointers and may be kept as bytes. One thread.
 */
#ifndef AGENT_PLACE_HOUSE_H
#define AGENT_PLACE_HOUSE_H

#include <stddef.h>
#include <stdint.h>

#include "agent/place_pulse.h"

#define PLACE_HOUSE_NAMES 16
#define PLACE_HOUSE_NAME_BYTES 64
#define PLACE_HOUSE_RIGHT 32 /* groups that were it, at most */
#define PLACE_HOUSE_WRONG 64 /* and that were not: those that are most like it */
#define PLACE_HOUSE_SCORES 8 /* runs whose heating is kept */
#define PLACE_HOUSE_NOTES 6  /* heatings of a run */
#define PLACE_HOUSE_LONG 32  /* heatings that are remembered */
#define PLACE_HOUSE_QUEUE 16
#define PLACE_HOUSE_RECENT 8
#define PLACE_HOUSE_LEAST 2 /* runs to learn from */

struct place_trait { /* of a group of pulses; logarithms but for the last two */
    float level, longest, span;
    float duty; /* share of the span that is on */
    float hour; /* of the local day */
};

struct place_note { /* of a program: it heats */
    float offset_s, length_s, watts;
};

struct place_score { /* of one run */
    int32_t count;
    float duration_s;
    struct place_note notes[PLACE_HOUSE_NOTES];
};

struct place_proto {
    char name[PLACE_HOUSE_NAME_BYTES];
    int64_t since_ms; /* runs from then on were told with early_ms */
    int32_t pulses;   /* 1: found by its pulses alone */
    int32_t scores;   /* above 0: found by its heating alone; else by the network, with bounds */
    int32_t right, wrong;
    int32_t early_ms; /* what is found begins so much after what a person says */
    int32_t least_s;  /* shorter runs are none; 0: as everywhere */
    float level_w;    /* of pulses */
    float weight;     /* groups that were it, for each that is kept */
    struct place_trait rights[PLACE_HOUSE_RIGHT], wrongs[PLACE_HOUSE_WRONG];
    struct place_score score[PLACE_HOUSE_SCORES];
};

struct place_house {
    int32_t count;
    uint32_t version; /* changes with the content */
    struct place_proto protos[PLACE_HOUSE_NAMES];
    struct place_pulse earlier[PLACE_HOUSE_LONG]; /* heatings of an earlier life, the last ones */
    int32_t earlier_count;
};

/* Whether bytes that were read back can be one: 0 or -EBADMSG. */
int place_proto_check(const struct place_proto *p);

/* --- learning --- */

struct place_said { /* by a person, or found and told */
    int64_t start_ms, end_ms;
};

/* pulses [pulse_count]: of the stretch that the list is about, in order of time. said [said_count]:
 * when it ran. found [found_count]: what was told under that name meanwhile. before: what was known
 * of it until now, or NULL. now_ms: of the newest reading. 0, or -ENODATA: nothing that holds. */
int place_proto_learn(const char *name, const struct place_pulse *pulses, size_t pulse_count,
                      const struct place_said *said, size_t said_count,
                      const struct place_said *found, size_t found_count,
                      const struct place_proto *before, int64_t now_ms, struct place_proto *out);

/* A single group of pulses was it, or was not. 0; -ENOENT: there are no pulses of its height in
 * [from_ms, to_ms]. */
int place_proto_correct(struct place_proto *p, const struct place_pulse *pulses, size_t pulse_count,
                        int64_t from_ms, int64_t to_ms, int right);

/* The runs of a prototype among kept pulses, in the order of their ends: at most room, how many; or
 * -ENOMEM. For names backwards in a history. */
int place_proto_runs(const struct place_proto *p, const struct place_pulse *pulses, size_t count,
                     struct place_said *out, size_t room);

/* --- finding --- */

/* Pulses of one prototype's height that are close together. pulses 0: none in progress. */
struct place_group {
    int64_t start_ms, end_ms, on_ms, longest_ms;
    double energy_wh;
    float levels; /* sum of the logarithms of those that are of the height */
    int32_t full, pulses;
};

void place_group_trait(const struct place_group *g, struct place_trait *out);

/* How sure it is that a group of these traits is it: more than 0.5: it is. */
double place_proto_sure(const struct place_proto *p, const struct place_trait *t);

struct place_named {
    int64_t start_ms, end_ms;
    double energy_wh, sure;
    float watts;
    int32_t proto;
    int32_t earlier; /* 1: by heatings of an earlier life */
    int32_t claimed; /* the caller's */
    int32_t count;   /* of a program: heatings */
    struct place_pulse of[PLACE_HOUSE_NOTES];
};

/* Finds the runs of a house's prototypes. All zero: to begin with; also when the house changes. */
struct place_watch {
    uint32_t version;
    int32_t recent_count, named_count, long_count;
    struct place_pulses pulses;
    struct place_pulse recent[PLACE_HOUSE_RECENT]; /* short ones, the oldest first */
    struct place_pulse heated[PLACE_HOUSE_LONG];   /* the oldest first */
    struct place_group groups[PLACE_HOUSE_NAMES];
    struct place_named named[PLACE_HOUSE_QUEUE]; /* the caller takes them away */
};

/* One reading. 1: named[] has grown. */
int place_watch_reading(struct place_watch *w, const struct place_house *h, int64_t t_ms,
                        float watts, int64_t max_gap_ms);

/* Whether a pulse is long and strong enough to be a heating of a program. */
int place_is_heating(const struct place_pulse *p);

/* Takes named[i] away. */
void place_watch_take(struct place_watch *w, int i);

#endif
