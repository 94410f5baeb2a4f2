/* event.h - what the pipeline of a meter finds out, handed over in one piece to be committed in one
 * transaction. */
#ifndef AGENT_EVENT_H
#define AGENT_EVENT_H

#include <stdint.h>

#include "storage/energy.h"
#include "storage/routine.h"

#define EVENT_NAME_BYTES 64
#define EVENT_UNKNOWN "unknown"

enum event_type { EVENT_ON = 1, EVENT_OFF = 2, EVENT_IDENTIFIED = 3, EVENT_RUNNING = 4 };
/* Of time stamps: recorded with the reading; by a clock that can be believed; by no clock yet; by
 * none at first, put right when it was set; counted on from a clock that was lost. */
enum event_quality {
    EVENT_TRACE = 1,
    EVENT_CLOCK = 2,
    EVENT_UNSET = 3,
    EVENT_CORRECTED = 4,
    EVENT_ESTIMATED = 5
};

struct event {
    enum event_type type;
    char appliance[EVENT_NAME_BYTES]; /* label, or EVENT_UNKNOWN */
    double confidence;                /* 0..1 */
    int64_t time_ms;                  /* of the switching */
    enum event_quality quality;
    uint32_t model;           /* version that named it */
    double power_w;           /* on, identified: the step; off, running: mean of the run */
    int64_t start_ms;         /* of the run */
    int64_t end_ms;           /* off; running: so far */
    double energy_wh, peak_w; /* of the run so far */
    double up_w, down_w;      /* off: first and last step of the run, positive; 0: not known */
    double
        phases_w[3]; /* off, of a three-phase meter: mean of each, power_w is their sum; else 0 */
    char end_reason[16]; /* off: "off", "gap", "stop" */
};

/* Whether a time that was read back can be one, of whatever clock: differences of such times do not
 * overflow. */
static inline int event_is_time(int64_t t_ms)
{
    return t_ms > -((int64_t)1 << 53) && t_ms < (int64_t)1 << 53;
}

enum alert_severity { ALERT_INFO = 1, ALERT_WARNING = 2, ALERT_CRITICAL = 3 };

struct alert {
    char alert[32]; /* left_on, power_unusual, meter_silent, ... (SPEC.md section 4) */
    int cleared;    /* 0: raised */
    int updated;    /* 1: raised before, and worse or still so */
    enum alert_severity severity;
    char alert_id[40]; /* the same in raised and cleared */
    char appliance[EVENT_NAME_BYTES];
    int64_t time_ms, since_ms;
    enum event_quality quality;
    char expected[128], seen[128];
    double value, limit;
};

#define OUTCOME_EVENTS 32 /* a mains meter may end all its runs with one reading */
#define OUTCOME_ALERTS 12
#define OUTCOME_HOURS 13
#define OUTCOME_STATE_BYTES 12288

/* All that follows from one reading (or the passing of time) on one meter. */
struct outcome {
    const char *meter;
    int several;         /* the meter may have several runs open, one of each appliance */
    int64_t progress_ms; /* time of the last reading consumed; 0: unchanged */
    int event_count, alert_count;
    struct event events[OUTCOME_EVENTS];
    struct alert alerts[OUTCOME_ALERTS];
    int has_routine; /* a run ended and was learned from */
    struct routine routine;
    char routine_was[ROUTINE_NAME_BYTES]; /* name that its load had before, whose row goes; "" */
    int hour_count;                       /* hours that ended, and the one that lasts */
    struct energy_hour hours[OUTCOME_HOURS];
    const void *state; /* pipeline state to resume from (opaque), or NULL */
    int state_bytes;
};

/* Where outcomes go. commit: returns 0 when they are durable or safely queued for it; they are
 * copied. */
struct outcome_sink {
    void *context;
    int (*commit)(void *context, const struct outcome *o);
};

#endif
