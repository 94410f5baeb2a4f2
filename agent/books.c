#include "agent/books.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define MS_PER_H 3600000.0
#define FALL_MS 30000.0f /* the base load goes down with this time constant ... */
#define RISE_PER_H 0.04f /* ... and up by this share of itself and 1 W an hour */

void books_init(struct books *b)
{
    memset(b, 0, sizeof(*b));
    b->base_w = -1;
}

static void follow_base(struct books *b, int64_t dt_ms, float watts)
{
    float dt = (float)dt_ms;
    if (b->base_w < 0)
        b->base_w = watts;
    else if (watts < b->base_w)
        b->base_w += dt / (dt + FALL_MS) * (watts - b->base_w);
    else
        b->base_w = fminf(watts, b->base_w + (b->base_w * RISE_PER_H + 1) * dt / (float)MS_PER_H);
}

float books_moment(struct books *b, int64_t dt_ms, float watts, float *watts_of, int n)
{
    double hours = (double)dt_ms / MS_PER_H;
    float left = watts > 0 ? watts : 0;
    follow_base(b, dt_ms, left);
    b->total_wh += (double)left * hours;
    for (int i = 0; i < n; i++) {
        watts_of[i] = fminf(fmaxf(watts_of[i], 0), left);
        left -= watts_of[i];
        b->open_wh += (double)watts_of[i] * hours;
    }
    float base = fminf(b->base_w, left);
    b->base_wh += (double)base * hours;
    b->unknown_wh += (double)(left - base) * hours;
    return left - base;
}

void books_settle(struct books *b, int part, double energy_wh)
{
    b->open_wh -= energy_wh;
    if (part >= 0 && part < BOOKS_PARTS)
        b->part_wh[part] += energy_wh;
    else
        b->unknown_wh += energy_wh;
}

double books_claim(struct books *b, double energy_wh)
{
    energy_wh = fmax(0, fmin(energy_wh, b->unknown_wh));
    b->unknown_wh -= energy_wh;
    b->open_wh += energy_wh;
    return energy_wh;
}

int books_check(const struct books *b)
{
    int good = isfinite(b->total_wh) && isfinite(b->base_wh) && isfinite(b->unknown_wh) &&
               isfinite(b->open_wh) && isfinite(b->base_w);
    for (int i = 0; i < BOOKS_PARTS; i++)
        good = good && isfinite(b->part_wh[i]) && b->part_wh[i] >= 0;
    return good && b->total_wh >= 0 ? 0 : -EBADMSG;
}
