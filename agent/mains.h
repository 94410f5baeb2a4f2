/* mains.h - the pipeline of one mains meter: readings -> edges, and grid samples -> engine -> which
 * appliances are on -> runs, books, events. The part of a meter of kind mains behind meter.h, whose
 * functions lead here; what is said there about time, restoring and outcomes holds here too.
 *
 * The network speaks of the past (`lag` samples before the newest), a decision needs a few more
 * results, and booking waits until all switchings near are decided: events come mains_delay_ms
 * after the switching that they tell, later where a rule demands a longer run or pause.
 */
#ifndef AGENT_MAINS_H
#define AGENT_MAINS_H

#include "agent/mains_runs.h"
#include "agent/meter.h"
#include "agent/meter_shared.h"

struct mains;
struct place_house;

/* As meter_create; config->report_ms is used. -ENOTSUP: the engine's model has more than
 * MAINS_CLASSES classes or no sigmoid head. */
int mains_create(const struct meter_config *config, const struct engine *engine,
                 const struct outcome_sink *sink, const struct meter_memory *memory,
                 struct meter_shared *shared, struct mains **out);
void mains_destroy(struct mains *m);

/* open [count]: the runs that the history has open. */
void mains_restore(struct mains *m, int64_t progress_ms, const struct history_run *open, int count,
                   const void *state, int state_bytes);
int mains_reading(struct mains *m, int64_t t_ms, float watts);
void mains_set_clock(struct mains *m, int64_t offset_ms, enum event_quality quality);
void mains_checkpoint(struct mains *m);
void mains_forget(struct mains *m, const char *appliance);
void mains_tick(struct mains *m, int64_t now_ms);
void mains_finish(struct mains *m);
int mains_set_engine(struct mains *m, const struct engine *engine);
void mains_get_status(const struct mains *m, struct meter_status *out);

/* Loads that no appliance explains, finished or open for ten minutes (mains_runs.h). The callback
 * runs inside mains_reading; the seam for learning them. */
void mains_watch_loads(struct mains *m, void *context,
                       void (*load)(void *context, const struct mains_load *l));

/* What a person has taught about this house (place_house.h): the caller's, and only changed between
 * calls, with another version; NULL: nothing. 0 or -ENOMEM. */
int mains_set_house(struct mains *m, const struct place_house *house);

/* The sum in the grid cell that begins at t_ms, as far back as the window reaches; negative: not
 * known. For the shape of a load. */
float mains_watts(const struct mains *m, int64_t t_ms);

/* Where the energy went, and what was decided about class (name: its label) last. */
const struct books *mains_books(const struct mains *m);
const struct mains_run *mains_run(const struct mains *m, int class, const char **name);
int mains_classes(const struct mains *m);

/* From a reading to the events about it, without what rules add. */
int64_t mains_delay_ms(const struct mains *m);

#endif
