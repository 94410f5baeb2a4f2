/* anomaly_change.c - whether the last runs of a load are odd: by a run, by five, by nine, by those
 * since yesterday. */
#include "agent/anomaly_change.h"

#include <math.h>
#include <stdio.h>

#define FAR_SHARE 0.2 /* of the usual power: one run is far off */
#define FAR_SPREADS 5.0
#define OVER 0.12 /* two of five runs beyond all others by so much */
#define OVER_RUNS 5u
#define FEW 10.0 /* runs at which margins are about twice as wide */
#define CHOSEN_W 0.05
#define CHOSEN_S 0.2
#define SHORT 1.0 /* of what people switch off when they like */
#define SHORT_NINE 0.25
#define RUNS_KNOWN 10
#define NINE_KNOWN 20
#define NINE_MORE 0.05
#define SPANS 4 /* fewer do not show how spans vary */
#define SPANS_RARE 5

double anomaly_change_few(uint64_t runs)
{
    return 1 + FEW / (double)(runs + 1);
}

/* What scales a margin. */
static double scale(const struct anomaly_basis *b, enum anomaly_figure f)
{
    return b->f * (f == ANOMALY_WATTS || b->usual->rare ? anomaly_change_few(b->runs) : 1);
}

/* ---- single runs ---- */

int anomaly_change_far(const struct anomaly_basis *b, uint32_t i)
{
    const struct anomaly_usual *u = b->usual;
    /* of few runs the spread is uncertain; a large share of the power is far at once */
    const double far =
        fmax(FAR_SPREADS * u->w_spread * scale(b, ANOMALY_WATTS), FAR_SHARE * u->w * b->f);
    const double w = (double)b->routine->last[i].mean_w;
    return (w > fmax(u->w + far, 1.05 * u->w_high)) - (w < fmin(u->w - far, 0.95 * u->w_low));
}

/* The same, or stronger than any run that was learned: programs have a strongest one. */
static int beyond_all(const struct anomaly_basis *b, uint32_t i)
{
    const struct anomaly_usual *u = b->usual;
    const double most = (1 + OVER * scale(b, ANOMALY_WATTS)) * u->run_high[ANOMALY_WATTS];
    if (u->count >= RUNS_KNOWN && (double)b->routine->last[i].mean_w > most)
        return 1;
    return i < 3 ? anomaly_change_far(b, i) : 0;
}

int anomaly_change_far_off(const struct anomaly_basis *b)
{
    int above = 0, below = 0;
    if (b->usual->blocks && !b->usual->rare)
        return 0; /* a block tells the same an hour later, and has seen more */
    for (uint32_t i = 0; i < OVER_RUNS && i < b->routine->recent; i++) {
        above += beyond_all(b, i) > 0;
        below += beyond_all(b, i) < 0;
    }
    return above >= 2 ? 1 : below >= 2 ? -1 : 0;
}

/* ---- what several runs show ---- */

static int beyond(struct anomaly_change *c)
{
    c->is_so = c->value > 0 && (c->value > c->high || c->value < c->low);
    return c->is_so;
}

/* How far from the lowest and highest (of a run, of a block, of a span) a figure has to be; a span
 * also from the middle one, in spreads; and in watts at least. */
static const struct {
    double run, block, span, spreads, least;
} margins[ANOMALY_FIGURES] = {
    [ANOMALY_WATTS] = {.10, .12, .10, 3, 2},
    [ANOMALY_SECONDS] = {.30, .45, .15, 3, 0},
    [ANOMALY_PERIOD] = {0, .5, .15, 2, 0},
};

/* Since the span before began: slow to tell, but the course of a day is in it, and single runs do
 * not count for much. */
static void by_span(const struct anomaly_basis *b, enum anomaly_figure f, double stays,
                    struct anomaly_change *c)
{
    struct anomaly_spans s;
    const int n = anomaly_routine_spans(b->routine, f, &s);
    const double value = anomaly_routine_recently(b->routine, f);
    if (n < (b->usual->rare ? SPANS_RARE : SPANS) || !(value > 0))
        return;
    /* of few, the next one is farther out more often */
    const double share = margins[f].span * (1 + 5.0 / n);
    const double margin =
        fmax(log(1 + share), margins[f].least > 0 ? log(1 + margins[f].least / value) : 0);
    const double wide = margins[f].spreads * s.spread;
    const double f_stay = b->f * stays;
    struct anomaly_change slow = {.value = value};
    snprintf(slow.of, sizeof(slow.of), "mean of the last %d runs",
             b->routine->span.runs + b->routine->before.runs);
    slow.high = exp(fmax(s.high + margin * f_stay, s.middle + wide * f_stay));
    slow.low = exp(fmin(s.low - margin * f_stay, s.middle - wide * f_stay));
    if (beyond(&slow))
        *c = slow;
}

/* Three of the last four runs are longer (shorter, stronger, weaker) than any that was learned:
 * for loads of several programs, whose middle says little. */
static int by_runs(const struct anomaly_basis *b, enum anomaly_figure f, double stays,
                   struct anomaly_change *c)
{
    const struct anomaly_usual *u = b->usual;
    const double more = 1 + margins[f].run * scale(b, f) * stays;
    struct anomaly_change all = {.of = "three of four runs beyond all others"};
    int above = 0, below = 0;
    if (f == ANOMALY_PERIOD || !u->rare || u->count < RUNS_KNOWN || b->routine->recent < 4)
        return 0;
    all.low = u->run_low[f] / (f == ANOMALY_SECONDS ? fmax(more, 1 + SHORT * b->f * stays) : more);
    all.high = u->run_high[f] * more;
    for (uint32_t i = 0; i < 4; i++) {
        const struct anomaly_recent *l = b->routine->last + i;
        const double v = (double)(f == ANOMALY_WATTS ? l->mean_w : l->seconds);
        above += v > all.high;
        below += v < all.low;
        if ((above == 3 && v > all.high) || (below == 3 && v < all.low))
            all.value = v;
    }
    if (beyond(&all))
        *c = all;
    return all.is_so;
}

/* Lengths that vary: five of the last nine are longer (shorter) than nine of ten usual ones. By
 * chance that is one of a thousand. */
static int by_nine(const struct anomaly_basis *b, double stays, struct anomaly_change *c)
{
    const struct anomaly_usual *u = b->usual;
    const double more = 1 + NINE_MORE * b->f * stays;
    const double less = 1 + (u->rare ? SHORT_NINE : NINE_MORE) * b->f * stays;
    struct anomaly_change nine = {.value = anomaly_routine_nine(b->routine),
                                  .low = u->s_low / less,
                                  .high = u->s_usual * more,
                                  .of = "median of 9 runs"};
    if (u->count >= NINE_KNOWN && beyond(&nine))
        *c = nine;
    return nine.is_so && u->count >= NINE_KNOWN;
}

int anomaly_change_bounds(const struct anomaly_usual *u, enum anomaly_figure f, double share,
                          double factor, struct anomaly_change *c)
{
    const double usual = f == ANOMALY_WATTS ? u->w : f == ANOMALY_SECONDS ? u->s : u->period;
    const double more = 1 + (share > 0 ? share : margins[f].block) * factor;
    const double low = share > 0 ? usual : u->block_low[f];
    const double high = share > 0 ? usual : u->block_high[f];
    c->low = low / more;
    c->high = high * more;
    if (f == ANOMALY_WATTS) { /* as much below as above */
        const double w = fmax((more - 1) * u->w, share > 0 ? 0 : margins[f].least * factor);
        c->low = low - w;
        c->high = high + w;
    }
    if (u->rare && !(share > 0) && f != ANOMALY_PERIOD) {
        /* people choose programs: five of the kind that one in ten was are no change */
        const int watts = f == ANOMALY_WATTS;
        c->low = fmin(c->low,
                      watts ? u->w_low / (1 + CHOSEN_W * factor) : u->s_low / (1 + SHORT * factor));
        c->high = fmax(c->high, watts ? u->w_high * (1 + CHOSEN_W * factor)
                                      : u->s_high * (1 + CHOSEN_S * factor));
    }
    /* five runs that may be minutes or hours say nothing */
    const int varied = f == ANOMALY_SECONDS && !u->cyclic && !u->even;
    return share > 0 || (u->blocks && !varied);
}

/* The quickest to tell first. */
void anomaly_change_look(const struct anomaly_basis *b, enum anomaly_figure f, double share,
                         double stays, struct anomaly_change *c)
{
    const struct anomaly_usual *u = b->usual;
    *c = (struct anomaly_change){.of = "median of 5 runs"};
    if (f == ANOMALY_PERIOD)
        snprintf(c->of, sizeof(c->of), "mean of 8");
    int judged = anomaly_change_bounds(u, f, share, (share > 0 ? 1 : scale(b, f)) * stays, c);
    if (b->separated && !(share > 0))
        judged = 0; /* in a busy hour five in a row are cut, merged or missed */
    c->value = judged ? anomaly_routine_block(b->routine, f, 0) : 0;
    if (beyond(c) || share > 0 || by_runs(b, f, stays, c))
        return;
    if (f != ANOMALY_SECONDS || judged || b->separated || !by_nine(b, stays, c))
        by_span(b, f, stays, c);
}
