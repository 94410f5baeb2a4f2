/* mains_impl.h - what mains.c and mains_state.c share. Private to them. */
#ifndef AGENT_MAINS_IMPL_H
#define AGENT_MAINS_IMPL_H

#include <assert.h>

#include "agent/anomaly.h"
#include "agent/hours.h"
#include "agent/mains.h"
#include "agent/place_house.h"

#define MAINS_SAVED_MAGIC 0x616e616du /* "mana" */
#define MAINS_CYCLES 2                /* compressors that are looked for, at most */

struct mains_saved {
    uint32_t magic, size;
    uint32_t repeats; /* readings that had the time of the last one: how many of them are in here */
    uint32_t labels;  /* fingerprint of the labels that decode and runs count by */
    int64_t offset_ms; /* of the wall clock against the times below, when they were saved */
    int64_t last_ms;   /* of the last reading; 0: none */
    int64_t frame_ms;  /* of the last frame: none is taken twice; 0: none */
    int64_t hole_ms, hole_end_ms; /* readings were missing for so long that runs end; 0: no */
    struct anomaly anomaly;
    struct hours hours;
    struct edges edges;
    struct mains_ring ring;
    struct mains_decode decode;
    struct mains_runs runs;
    struct mains_cycle cycles[MAINS_CYCLES];
    struct mains_pulses pulses;
};
static_assert(sizeof(struct mains_saved) <= OUTCOME_STATE_BYTES, "state fits into an outcome");

struct mains {
    struct meter_shared *shared;
    struct meter_config config;
    struct outcome_sink sink;
    struct meter_memory memory;
    int64_t watched_ms; /* when runs in progress were looked at last */
    int hours_due;      /* an outcome is to be made although nothing happened */
    struct meter_window window;
    const struct mains_rule *rules[MAINS_CLASSES];
    float thresholds[MAINS_CLASSES];
    int classes;
    uint32_t lag;
    struct mains_world world;
    struct mains_saved saved;
    enum event_quality quality; /* of times that go out now */
    int64_t seen_ms;            /* cells before it are made up, not read */
    int64_t prime_ms;           /* readings up to this time only prime; INT64_MIN: none */
    uint32_t prime_repeats;
    int64_t last_ms; /* of the last reading, primed or not; INT64_MIN: none */
    int64_t tick_ms;
    void *load_context;
    void (*load)(void *context, const struct mains_load *l);
    const struct place_house *house; /* what a person taught; NULL: nothing */
    struct place_watch *watch;       /* its runs in the readings; not saved: primed */
    struct mains_rule local[MAINS_CLASSES];
    int32_t early_ms[MAINS_CLASSES];
    uint32_t house_version;
    struct meter_status status;
};

/* mains_house.c: the rules of this house in place of the table's, after a model or a lesson. */
void mains_house_apply(struct mains *m);
/* A reading, primed or not. */
void mains_house_reading(struct mains *m, int64_t t_ms, float watts);
/* Tells the runs that the books have passed. */
void mains_house_tell(struct mains *m);

static inline int mains_is_trace(const struct mains *m)
{
    return m->config.quality == EVENT_TRACE;
}

static inline const struct model *mains_model(const struct mains *m)
{
    return m->window.engine ? engine_model(m->window.engine) : NULL;
}

/* mains_tell.c */

/* Commits what the reading led to, if it led to anything. */
void mains_end_outcome(struct mains *m);
/* Room for what one call of anomaly.h may write. */
int mains_alerts_fit(const struct mains *m);
/* Runs in progress, against what is usual. */
void mains_watch_runs(struct mains *m, int64_t now_ms);
/* For struct mains_tell. */
void mains_tell_run(void *context, int type, int class, const struct mains_run *r, int64_t now_ms,
                    const char *reason);
void mains_tell_load(void *context, const struct mains_load *l);

#endif
