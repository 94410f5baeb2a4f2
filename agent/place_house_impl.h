/* place_house_impl.h - what place_house.c and place_learn.c share. Private to them. */
#ifndef AGENT_PLACE_HOUSE_IMPL_H
#define AGENT_PLACE_HOUSE_IMPL_H

#include "agent/place_house.h"

#define PLACE_GROUP_MOST_MS 600000 /* longer pulses are of no group */

/* Takes a pulse in, in the order in which they end. recent: short ones before it. 1: *done was
 * complete. */
int place_group_push(struct place_group *g, float level_w, const struct place_pulse *recent,
                     size_t recent_count, const struct place_pulse *p, struct place_group *done);

/* Whether no pulse that ends later can belong to it. */
int place_group_over(const struct place_group *g, int64_t t_ms);

void place_recent_add(struct place_pulse recent[PLACE_HOUSE_RECENT], int32_t *count,
                      const struct place_pulse *p);

/* place_score.c: a program that pulse i may be part of, as the score has it: how many heatings
 * agree, 0: too few. run: its start, and the heatings. */
int place_score_match(const struct place_score *s, const struct place_pulse *pulses, size_t count,
                      size_t i, struct place_named *run);
/* The best of all scores. */
int place_scores_match(const struct place_proto *p, const struct place_pulse *pulses, size_t count,
                       size_t i, struct place_named *run);
/* Learns scores; 0, or -ENODATA: the runs do not agree, or others look the same; -ENOMEM. */
int place_score_learn(const struct place_pulse *pulses, size_t count, const struct place_said *said,
                      size_t said_count, struct place_proto *out);

/* How alike two groups are: 0 to 1. */
double place_trait_like(const struct place_trait *a, const struct place_trait *b);

#endif
