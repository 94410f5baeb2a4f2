/* detector.h - when the load of a circuit switched on and off, by threshold with hysteresis.
 *
 * Exact rules, on readings in ascending time (a reading with the same time as the one before
 * replaces it):
 *  - Off: a reading >= on_w begins a candidate, stamped with its time; a reading < on_w drops it.
 * The first reading >= on_w that lies min_on or more after the stamp confirms it: switched on at
 * the stamp. (min_on = 0: the reading itself confirms; right for meters that report changes only.)
 *  - On: a reading < off_w begins a candidate, stamped with its time; a reading >= off_w drops it.
 * The first reading < off_w that lies min_off or more after the stamp confirms it: switched off at
 * the stamp.
 *  - Two readings further apart than `silence`: a run ends at the stamp of its candidate ("off"),
 * or with the last reading before the hole ("gap"). A candidate for on is dropped. What follows
 * begins as off.
 *  - The end of the source ends a run at the stamp of its candidate ("off"), or with the last
 * reading ("stop"). Energy: each reading holds until the next one, from the stamp of on to the
 * stamp of off; intervals longer than max_gap do not count, neither as energy nor in the mean.
 * Memory is constant; the structure holds no pointers and may be copied as bytes.
 */
#ifndef AGENT_DETECTOR_H
#define AGENT_DETECTOR_H

#include <stdint.h>

struct detector_config {
    double on_w, off_w; /* on_w >= off_w */
    int64_t min_on_ms, min_off_ms;
    int64_t silence_ms, max_gap_ms;
};

struct detector {
    int32_t started; /* a reading was seen: last_* are valid */
    int32_t on, candidate;
    int32_t pad;
    int64_t last_ms;
    double last_w;
    int64_t since_ms;          /* of the candidate */
    int64_t start_ms;          /* of the run */
    double base_w;             /* last reading before the run: what the step is counted from */
    double energy_wms, peak_w; /* of the run, or of the candidate for on */
    int64_t covered_ms;        /* time that energy_wms covers */
    double tail_wms;           /* the same after the stamp of a candidate for off */
    int64_t tail_ms;
};

enum detector_change { DETECTOR_NONE = 0, DETECTOR_ON = 1, DETECTOR_OFF = 2 };

struct detector_run {         /* what is known of a run */
    int64_t start_ms, end_ms; /* end: of a finished one; else so far */
    double energy_wh, mean_w, peak_w;
    double step_w;      /* the last reading minus the one before the run */
    const char *reason; /* of a finished one: "off", "gap", "stop" */
};

void detector_init(struct detector *d);

/* To be called before detector_push with the time of the reading to come, or with the time that has
 * passed without any: ends what a hole ends. DETECTOR_OFF and *run, or DETECTOR_NONE. */
enum detector_change detector_pass(struct detector *d, const struct detector_config *c,
                                   int64_t t_ms, struct detector_run *run);

/* One reading, t_ms not before the last one. DETECTOR_ON or DETECTOR_OFF with *run, or
 * DETECTOR_NONE. */
enum detector_change detector_push(struct detector *d, const struct detector_config *c,
                                   int64_t t_ms, double watts, struct detector_run *run);

/* The end of the source. DETECTOR_OFF with *run, or DETECTOR_NONE. The detector is off afterwards.
 */
enum detector_change detector_finish(struct detector *d, struct detector_run *run);

/* The run in progress (d->on). */
void detector_current(const struct detector *d, struct detector_run *run);

/* Whether bytes that were read back can be a detector: 0 or -EBADMSG. */
int detector_check(const struct detector *d);

#endif
