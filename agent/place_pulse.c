#include "agent/place_pulse.h"

#include <math.h>
#include <string.h>

#define MOVE_W 100.0f    /* between two readings; less is noise or drift */
#define MOVE_MS 16000    /* a switching is over by then, seen by a slow meter */
#define STAND_MS 6000    /* by a fast one it is over when the power has stood for so long */
#define SAME_SHARE 0.25f /* rise and fall differ by less: inrush, voltage, others */

static void forget(struct place_pulses *p, int i)
{
    p->count--;
    memmove(p->rises + i, p->rises + i + 1, (size_t)(p->count - i) * sizeof p->rises[0]);
}

static int fall(struct place_pulses *p, float step_w, struct place_pulse *out)
{
    while (p->count && p->move_ms - p->rises[0].t_ms > PLACE_PULSE_MOST_MS)
        forget(p, 0);
    for (int i = p->count - 1; i >= 0; i--) {
        const struct place_rise r = p->rises[i];
        if (fabsf(r.step_w - step_w) > SAME_SHARE * fmaxf(r.step_w, step_w))
            continue;
        *out = (struct place_pulse){r.t_ms, p->move_ms, (r.step_w + step_w) / 2};
        forget(p, i);
        return 1;
    }
    return 0;
}

/* The move up to the last reading is over. */
static int finish_move(struct place_pulses *p, struct place_pulse *out)
{
    float step = p->last_w - p->from_w;
    p->direction = 0;
    if (fabsf(step) < PLACE_PULSE_LEAST_W)
        return 0;
    if (step < 0)
        return fall(p, -step, out);
    if (p->count == PLACE_PULSE_RISES)
        forget(p, 0);
    p->rises[p->count++] = (struct place_rise){p->move_ms, step};
    return 0;
}

int place_pulses_push(struct place_pulses *p, int64_t t_ms, float watts, int64_t max_gap_ms,
                      struct place_pulse *out)
{
    int found = 0;
    if (!p->last_ms || t_ms < p->last_ms || t_ms - p->last_ms > max_gap_ms) {
        memset(p, 0, sizeof *p);
        p->last_ms = t_ms;
        p->last_w = watts;
        return 0;
    }
    float moved = watts - p->last_w;
    int way = moved >= MOVE_W ? 1 : moved <= -MOVE_W ? -1 : 0;
    const int stands = !way && t_ms - p->moved_ms >= STAND_MS;
    if (p->direction && (way == -p->direction || stands || p->last_ms - p->move_ms > MOVE_MS))
        found = finish_move(p, out);
    if (way)
        p->moved_ms = t_ms;
    if (way && !p->direction) {
        p->direction = way;
        p->move_ms = t_ms;
        p->from_w = p->last_w;
    }
    p->last_ms = t_ms;
    p->last_w = watts;
    return found;
}
