/* meter_window.h - the last window of a meter's grid samples and the engine that looks at it.
 * Private to meter*.c.
 *
 * Readings become grid samples (inference/resample.h), samples go into a ring of window + 1 and
 * into the engine's stream. Where the past was not seen (start, or after a hole that the resampler
 * does not fill) it is taken to have been like the first sample; training does the same. A result
 * is a classification that may be used: windows without activity, or of which more than a quarter
 * are holes, give none. Without an engine the ring is kept alone, so that a model that comes later
 * has a past to look at. One thread; memory is taken in init only.
 *
 * A meter keeps what cannot be computed again; what is needed only during a call is in struct
 * meter_scratch, one for all windows of a thread.
 */
#ifndef AGENT_METER_WINDOW_H
#define AGENT_METER_WINDOW_H

#include <stddef.h>
#include <stdint.h>

#include "inference/engine.h"
#include "inference/resample.h"

struct meter_scratch {
    void *engine; /* aligned to ENGINE_ALIGN */
    size_t engine_bytes;
    float *flat; /* [flat_count]: a ring in order, for whole windows */
    size_t flat_count;
    float probabilities[MODEL_MAX_CLASSES]; /* of the last result, until the next call */
    double weight; /* of the last result, grid samples: what it saw anew, less when it saw little of
                      a run */
};

struct meter_window {
    const struct engine *engine; /* or NULL */
    struct meter_scratch *scratch;
    struct resample grid;
    uint32_t window; /* samples */
    uint32_t at;     /* ring index of the oldest sample, which is overwritten next */
    int seen;        /* the ring has samples */
    int due;         /* the last sample completed a window, usable or not */
    int restarted;   /* what is before the last sample was made up */
    /* How many samples of the window are active or holes. The oldest in the ring does not count: it
     * is only the window's predecessor. */
    uint32_t active_count, hole_count;
    float min_activity_w;
    void *state;    /* of the engine; ring and holes are in the same block */
    float *ring;    /* [window + 1] */
    uint8_t *holes; /* a bit for each in the ring */
    uint64_t samples, inferences;
    size_t bytes; /* taken */
};

/* scratch is the caller's: all zero at first, released by meter_window_free_scratch when no window
 * uses it any more. */
void meter_window_free_scratch(struct meter_scratch *s);

/* 0 or -ENOMEM. engine may be NULL. scratch is enlarged as needed and must outlive w. */
int meter_window_init(struct meter_window *w, const struct engine *engine, int64_t max_gap_ms,
                      struct meter_scratch *scratch);
void meter_window_free(struct meter_window *w);

/* Takes over what another one has seen (same or other grid), the engine's stream included; w is
 * fresh. */
void meter_window_prime(struct meter_window *w, const struct meter_window *from);

/* Feeds a reading; then call meter_window_next until it returns -1: 1 is a result, 0 a sample
 * without one. */
int meter_window_push(struct meter_window *w, int64_t t_ms, float watts);
int meter_window_next(struct meter_window *w);

/* Forgets the grid's time (not the samples): the clock of the readings began anew. */
void meter_window_restart(struct meter_window *w);

/* Classifies the window as it will be in `ahead` samples (< window) if the last sample stays; 0: as
 * it is now. After a load has switched off this shows the model the run from its other side too. 1
 * when that is a result, else 0. */
int meter_window_look(struct meter_window *w, uint32_t ahead);

#endif
