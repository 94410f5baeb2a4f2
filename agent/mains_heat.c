/* mains_heat.c - programs that run beside each other: whose heater it is. */
#include <math.h>

#include "agent/mains_runs_impl.h"

#define HEAT_W 700.0f     /* what switches so much is a heater */
#define OFF_SHARE 0.25f   /* and its step down differs by less */
#define KNOWN_SHARE 0.08f /* a heater that was seen before differs by less */
#define BUSY_SHARE 0.3f   /* a program that takes more than this of the step heats already */
#define HEAT_MOST 1.1f
#define OUT_SHARE 0.5f     /* a heater that takes less than this of its power is off */
#define REST_MOST_W 600.0f /* more is a heater whose step was not seen */
#define MS_PER_H 3600000.0

int mains_heat_is_program(const struct mains_runs *r, const struct mains_world *w, int c)
{
    return w->rules[c]->kind == MAINS_PROGRAM && r->runs[c].phase == MAINS_ON;
}

/* Whose step up it is: of the program whose heater is known to take as much, of one that has not
 * heated yet, of the one that began last. */
static int owner(const struct mains_runs *r, const struct mains_world *w, float step)
{
    int best = -1, most = -1;
    for (int c = 0; c < w->classes; c++) {
        const struct mains_run *run = &r->runs[c];
        if (!mains_heat_is_program(r, w, c) || run->heat_w > BUSY_SHARE * step ||
            step > HEAT_MOST * w->rules[c]->step_max_w)
            continue;
        int value = 0;
        if (run->heater_w > 0)
            value = fabsf(step - run->heater_w) <= KNOWN_SHARE * run->heater_w ? 2 : 0;
        else
            value = 1;
        if (value > most || (value == most && run->start_ms > r->runs[best].start_ms)) {
            most = value;
            best = c;
        }
    }
    return best;
}

int mains_heat_step(struct mains_runs *r, const struct mains_world *w, float step)
{
    int best = -1;
    if (step >= HEAT_W) {
        best = owner(r, w, step);
        if (best >= 0)
            r->runs[best].heat_w = r->runs[best].heater_w = step;
        return best >= 0;
    }
    if (step > -HEAT_W)
        return 0;
    for (int c = 0; c < w->classes; c++) {
        const float heat = r->runs[c].heat_w;
        if (!mains_heat_is_program(r, w, c) || heat <= 0 || fabsf(heat + step) > OFF_SHARE * heat)
            continue;
        if (best < 0 || fabsf(heat + step) < fabsf(r->runs[best].heat_w + step))
            best = c;
    }
    if (best >= 0)
        r->runs[best].heat_w = 0;
    return best >= 0;
}

float mains_heat_share(const struct mains_runs *r, const struct mains_world *w, int c, float watts,
                       int programs)
{
    float heat = 0;
    for (int k = 0; k < w->classes; k++)
        heat += mains_heat_is_program(r, w, k) ? r->runs[k].heat_w : 0;
    if (programs < 2)
        return watts;
    if (watts <= heat)
        return watts * r->runs[c].heat_w / heat;
    return r->runs[c].heat_w + (watts - heat) / (float)programs;
}

void mains_heat_rest(struct mains_runs *r, const struct mains_world *w, int c)
{
    struct mains_run *run = &r->runs[c];
    const int64_t rest_ms = (int64_t)w->rules[c]->rest_s * 1000;
    if (run->last_w < OUT_SHARE * run->heat_w)
        run->heat_w = 0;
    if (!rest_ms)
        return;
    const int64_t in = (r->cell_ms + w->period_ms) % rest_ms; /* of the next cell */
    if (run->rest_w >= 0)
        run->rest_w = fminf(run->rest_w, fmaxf(run->last_w - run->heat_w, 0));
    if (in >= w->period_ms)
        return;
    if (run->rest_w > 0 && run->rest_w <= REST_MOST_W) {
        const double wh = fmin((double)run->rest_w * (double)rest_ms / MS_PER_H, run->energy_wh);
        run->energy_wh -= wh;
        books_settle(&r->books, -1, wh);
        run->floor_w += run->rest_w;
    }
    run->rest_w = REST_MOST_W * 2;
}
