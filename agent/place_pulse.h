/* place_pulse.h - short strong loads as they stand in the readings: up by so much, and down again.
 *
 * edges.h looks for levels that hold; an oven that pulses is up for one reading of a slow meter and
 * gone, or the level below it moves meanwhile. Here a rise and the fall that undoes it are a pulse,
 * whatever happens in between: falls are matched with the latest open rise of their size (G. W.
 * Hart, Proc. IEEE 80, 1992, pairs edges so). Nobody is asked what it was. Constant memory, no
 * pointers. One thread.
 */
#ifndef AGENT_PLACE_PULSE_H
#define AGENT_PLACE_PULSE_H

#include <stdint.h>

#define PLACE_PULSE_LEAST_W 250.0f
#define PLACE_PULSE_MOST_MS 2400000 /* a longer load is no pulse */
#define PLACE_PULSE_RISES 24

struct place_pulse {
    int64_t start_ms, end_ms; /* first reading up, first reading down again */
    float watts;              /* mean of the rise and the fall */
};

struct place_rise {
    int64_t t_ms;
    float step_w;
};

/* All zero: to begin with. */
struct place_pulses {
    int64_t last_ms;
    int64_t move_ms, moved_ms; /* first and last reading of the move in progress */
    float last_w;
    float from_w;      /* before the move */
    int32_t direction; /* of it: 1, -1; 0: none */
    int32_t count;
    struct place_rise rises[PLACE_PULSE_RISES];
};

/* One reading, time not before the last. 1: *out has ended. A hole of more than max_gap_ms ends
 * everything. */
int place_pulses_push(struct place_pulses *p, int64_t t_ms, float watts, int64_t max_gap_ms,
                      struct place_pulse *out);

#endif
