/* meter.h - the pipeline of one meter: readings -> switchings (detector) and grid samples
 * (resampler) -> engine -> name (identify) -> events, and anomalies from the learned routine. That
 * is a circuit, with one load behind it; a mains meter's way is in mains.h. One thread. Time is the
 * readings' own.
 *
 * Nothing is published here: every reading that leads to something produces one struct outcome for
 * the sink.
 */
#ifndef AGENT_METER_H
#define AGENT_METER_H

#include <stddef.h>
#include <stdint.h>

#include "agent/anomaly_rules.h"
#include "agent/event.h"
#include "inference/engine.h"
#include "storage/history.h"
#include "storage/routine.h"

struct meter_config {
    char name[EVENT_NAME_BYTES];
    double on_w, off_w;            /* hysteresis of switching */
    int64_t min_on_ms, min_off_ms; /* shorter ones are bridged */
    int64_t silence_ms;            /* without a reading: alert */
    int64_t max_gap_ms;            /* between readings */
    int64_t report_ms;             /* mains: runs so long are reported again and again; 0: not */
    int mains;                     /* 0: circuit */
    enum event_quality quality;    /* of the readings' times */
    double peak_w;                 /* power from which the load is at its peak; 0: learned */
    struct anomaly_rules rules;    /* of alerts; on_w of it is set by meter_create */
};

/* How the pipeline reads what was learned (the journal writes it): 0, -ENOENT. */
struct meter_memory {
    void *context;
    int (*routine)(void *context, const char *meter, const char *appliance, struct routine *out);
};

struct meter;
struct mains;

/* What the meters of one thread share: memory that is needed only during a call. It must outlive
 * them. 0 or -ENOMEM. */
struct meter_shared;
int meter_shared_create(struct meter_shared **out);
void meter_shared_destroy(struct meter_shared *s);

/* engine may be NULL (no model yet): switchings are still reported, as unknown. It must outlive the
 * meter or be replaced first. */
int meter_create(const struct meter_config *config, const struct engine *engine,
                 const struct outcome_sink *sink, const struct meter_memory *memory,
                 struct meter_shared *shared, struct meter **out);
void meter_destroy(struct meter *m);

/* What is behind a meter of kind mains (mains.h); NULL: a circuit. */
struct mains *meter_mains(struct meter *m);

/* Goes on where the last committed outcome left off. open [open_count]: the runs still open, the
 * newest first; a circuit has one at most. state: as
 * in the outcome, or NULL; bytes that are damaged or of another version are not used, the open run
 * is then taken from the history. After this, recorded readings (quality EVENT_TRACE) up to
 * progress_ms only prime resampler and engine: fed from the start, the meter publishes what it
 * would have published had it never stopped. Live readings do not come again; what was missed is a
 * gap. Before the first reading. */
void meter_restore(struct meter *m, int64_t progress_ms, const struct history_run *open,
                   int open_count, const void *state, int state_bytes);

/* One reading. 0; -ESTALE (time ran backwards, dropped and counted); -EINVAL (not finite, beyond
 * +-10 MW, or before 1970). Live readings whose time jumps back by more than max_gap_ms are a clock
 * that was set: the run ends ("gap") and time begins anew. */
int meter_reading(struct meter *m, int64_t t_ms, float watts);

/* The phases of the next reading, of a three-phase meter: their shares go into the run's figures.
 */
void meter_set_phases(struct meter *m, const float watts[3]);

/* For a live meter whose readings are counted by the monotonic clock: what is added to its times
 * when they go out, and how good they are then. The clock may be set while a run lasts: its length
 * stays right, and so do the stamps of what follows. */
void meter_set_clock(struct meter *m, int64_t offset_ms, enum event_quality quality);

/* Hands state and hours to the sink although nothing happened: after the clock was set, so that a
 * restart finds times by the new one, and before a summary. */
void meter_checkpoint(struct meter *m);

/* The passing of time without readings (silence): now in the readings' time scale. For live meters;
 * recorded readings tell their silences themselves, so that a replay does not depend on who ticks
 * when. */
void meter_tick(struct meter *m, int64_t now_ms);

/* The source ended: what is pending is decided, an open run ends with reason "stop". */
void meter_finish(struct meter *m);

/* Takes another engine between two samples. The last window of grid samples is fed to it, so the
 * next reading is answered with a full window and no sample is lost. 0 or -ENOMEM (the old one
 * stays). */
int meter_set_engine(struct meter *m, const struct engine *engine);

/* A person had the routine of the appliance forgotten (NULL: of all): open alerts of it are
 * cleared. */
void meter_forget(struct meter *m, const char *appliance);

struct meter_status { /* counters are since meter_create */
    char appliance[EVENT_NAME_BYTES];
    double confidence;
    int on, peak;    /* peak: on, and more than usual */
    double learning; /* 0 to 1: of the load seen last */
    int alerts;      /* open ones */
    double watts;
    int64_t last_ms;
    uint64_t readings; /* accepted, those that only primed included */
    uint64_t samples;  /* of the grid */
    uint64_t dropped;  /* ran backwards */
    uint64_t gaps, events, inferences, engine_swaps;
    uint64_t memory_bytes; /* of this meter alone */
};
void meter_get_status(const struct meter *m, struct meter_status *out);

#endif
