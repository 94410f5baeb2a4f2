/* mains_runs_impl.h - what mains_runs.c and mains_claims.c share. Private to them. */
#ifndef AGENT_MAINS_RUNS_IMPL_H
#define AGENT_MAINS_RUNS_IMPL_H

#include "agent/mains_runs.h"

/* Edge i, with its inrush, is the class's. */
void mains_runs_claim(struct mains_ring *edges, int i, int class);

/* Tells the end of a run, if it was told, and settles its energy. */
void mains_runs_close(struct mains_runs *r, const struct mains_world *w, int c, int64_t now_ms,
                      const char *reason);

/* Whether the sum stays up_w above what it was before edge i, from settled_ms behind it to to_ms,
 * but for a dip of a minute. */
int mains_runs_stays_up(const struct mains_world *w, int i, float up_w, int64_t settled_ms,
                        int64_t to_ms);

/* The run pauses from t_ms on. */
void mains_runs_off(struct mains_run *run, int64_t t_ms);

/* Begins and ends runs with the pulses in the cell that ends at until_ms; those that are nobody's
 * are told as loads. */
void mains_runs_pulses(struct mains_runs *r, const struct mains_world *w, int64_t until_ms);

/* The same for a compressor's run that was over before now_ms, up to which it is booked: what it
 * got since is unknown again. */
void mains_runs_cut(struct mains_runs *r, struct mains_run *run, int64_t t_ms, int64_t now_ms);

/* Goes through the unclaimed edges of the cell that ends at until_ms, and those that have been open
 * for minutes. */
void mains_runs_edges(struct mains_runs *r, const struct mains_world *w, int64_t until_ms);

/* A compressor's run that goes on for longer than is known begins with edge i. now_ms: booked so
 * far. 0: it is nothing of the kind. */
int mains_runs_open_cycle(struct mains_runs *r, const struct mains_world *w, int i, int64_t now_ms);

/* mains_lead.c: what the network thinks of a program that pumps before it heats. */
void mains_lead_hear(struct mains_lead *l, int64_t t_ms, float p);

/* When a program began that heats from *heater_ms on: with a pump that has run since, or a wash in
 * cold water before, or with earlier heatings, each less than gap_ms before the next, of which the
 * first is then *heater_ms and *wh what they took; 0: nothing of the kind. */
int64_t mains_lead_start(const struct mains_lead *l, const struct mains_world *w,
                         int64_t *heater_ms, int64_t gap_ms, double *wh);

/* When a program began that heats at once, and is seen by its motor at seen_ms: the step up of its
 * heater, *wh what that took until then, *on_w what it takes yet; 0: nothing of the kind. */
int64_t mains_lead_heated(const struct mains_runs *r, const struct mains_world *w, int c,
                          int64_t seen_ms, double *wh, float *on_w);

/* Whether class c is a program, and runs. */
int mains_heat_is_program(const struct mains_runs *r, const struct mains_world *w, int c);

/* mains_heat.c: an unclaimed step may be the heater of a program that runs. 1: it is. */
int mains_heat_step(struct mains_runs *r, const struct mains_world *w, float step);

/* Of what programs that run beside each other take together, what program c takes. */
float mains_heat_share(const struct mains_runs *r, const struct mains_world *w, int c, float watts,
                       int programs);

/* After each cell: what stayed for as long as the rule says was somebody else's. */
void mains_heat_rest(struct mains_runs *r, const struct mains_world *w, int c);

#endif
