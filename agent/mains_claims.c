/* mains_claims.c - runs of pulses, and whose the edges are that no decision claimed: a pulse's
 * pause, a program's heater, a compressor that two steps give away, a load without a name. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "agent/event.h"
#include "agent/mains_runs_impl.h"

#define MS_PER_H 3600000.0
#define OPEN_MS 600000      /* a load that lasts longer is told before it ends */
#define SAME_SHARE 0.25f    /* steps up and down of a pulse differ by less */
#define LOAD_SHARE 0.12f    /* and those of an unexplained load */
#define HEATER_SHARE 0.3f   /* of a program's peak that its heater may differ from it */
#define OPEN_EVERY_MS 60000 /* and is looked at so often meanwhile */
#define BESIDE_ODDS 1.0f    /* less likely is a television while a program may have made its step */
#define GENTLE_MS 600000    /* between two starts of a television */
#define OPEN_TOLD 1         /* mains_edge.pad: told as an open load */

static int alike(float a, float b, float share)
{
    return fabsf(a - b) <= fmaxf(share * fmaxf(a, b), 2 * EDGES_LEAST_W);
}

/* A pulse that the network sees go on may yet pause: its edges say so. 1: the edge is its own. */
static int pulse_edge(struct mains_runs *r, const struct mains_world *w, int c, int i, int64_t t_ms)
{
    struct mains_run *run = &r->runs[c];
    float step = w->edges->edges[i].step_w;
    if (w->rules[c]->kind != MAINS_PULSE || w->rules[c]->brief || run->phase == MAINS_NONE ||
        !alike(fabsf(step), run->level_w, SAME_SHARE))
        return 0;
    if (step < 0 && run->phase == MAINS_ON) {
        mains_runs_off(run, t_ms);
    } else if (step > 0 && run->phase == MAINS_PAUSE && r->live >> c & 1) {
        run->phase = MAINS_ON;
        run->level_w = step;
    } else {
        return 0;
    }
    w->edges->edges[i].claim = (int8_t)c;
    return 1;
}

/* A step that the program cannot have made is somebody else's until it goes down again. 1: it
 * may be the program's. */
static int program_edge(struct mains_run *run, const struct mains_rule *rule, float step)
{
    if (rule->kind != MAINS_PROGRAM || run->phase != MAINS_ON)
        return 0;
    if (step > 0 && run->last_w + step > 1.1f * rule->step_max_w)
        run->foreign_w += step;
    else if (step < 0 && run->foreign_w > 0 && -step > 0.5f * run->foreign_w)
        run->foreign_w = fmaxf(0, run->foreign_w + step);
    else
        return 1;
    return 0;
}

/* The step up that an unexplained step down belongs to, or -1. */
static int find_up(const struct mains_ring *edges, int down)
{
    for (int i = down - 1; i >= 0; i--) {
        const struct mains_edge *e = &edges->edges[i];
        int pair;
        if (e->claim == MAINS_FREE && e->step_w > 0 &&
            (alike(e->step_w, -edges->edges[down].step_w, LOAD_SHARE) ||
             alike(mains_ring_step(edges, i, &pair), -edges->edges[down].step_w, LOAD_SHARE)))
            return i;
    }
    return -1;
}

static void tell_load(const struct mains_world *w, int up, int down)
{
    struct mains_edge *e = &w->edges->edges[up];
    struct mains_load l = {
        .start_ms = mains_ring_time(w->edges, up), .up_w = e->step_w, .before_w = e->before_w};
    if (down >= 0) {
        l.end_ms = mains_ring_time(w->edges, down);
        l.down_w = -w->edges->edges[down].step_w;
        mains_runs_claim(w->edges, up, MAINS_TOLD);
        w->edges->edges[down].claim = MAINS_TOLD;
    } else {
        e->pad = OPEN_TOLD;
    }
    if (w->tell.load)
        w->tell.load(w->tell.context, &l);
}

/* A run begins, or goes on after a pause. */
static struct mains_run *begin_or_go_on(struct mains_runs *r, const struct mains_world *w, int c,
                                        int64_t from_ms, float step, float watts, float confidence)
{
    struct mains_run *run = &r->runs[c];
    if (run->phase == MAINS_PAUSE && from_ms - run->off_ms > (int64_t)w->rules[c]->gap_s * 1000)
        mains_runs_close(r, w, c, from_ms, "off");
    if (run->phase == MAINS_NONE) {
        run->start_ms = from_ms;
        run->step_w = step;
        run->confidence = confidence;
    }
    run->level_w = watts;
    run->peak_w = fmaxf(run->peak_w, watts);
    return run;
}

/* What was booked as unknown was a run, or belongs to one that pauses. */
static void adopt_times(struct mains_runs *r, const struct mains_world *w, int c, int64_t from,
                        int64_t to, float step, float watts, float confidence)
{
    struct mains_run *run = begin_or_go_on(r, w, c, from, step, watts, confidence);
    run->phase = MAINS_PAUSE;
    run->off_ms = to;
    run->energy_wh += books_claim(&r->books, (double)watts * (double)(to - from) / MS_PER_H);
}

static void adopt(struct mains_runs *r, const struct mains_world *w, int c, int up, int down,
                  float watts, float confidence)
{
    adopt_times(r, w, c, mains_ring_time(w->edges, up), mains_ring_time(w->edges, down),
                w->edges->edges[up].step_w, watts, confidence);
    mains_runs_claim(w->edges, up, c);
    w->edges->edges[down].claim = (int8_t)c;
}

/* The run was over at t_ms, before now_ms up to which it is booked. */
void mains_runs_cut(struct mains_runs *r, struct mains_run *run, int64_t t_ms, int64_t now_ms)
{
    t_ms = t_ms > run->start_ms ? t_ms : run->start_ms;
    const double behind = (double)run->level_w * (double)(now_ms - t_ms) / MS_PER_H;
    const double back = fmax(0, fmin(behind, run->energy_wh));
    mains_runs_off(run, t_ms);
    run->energy_wh -= back;
    books_settle(&r->books, -1, back);
}

/* The end of a compressor's run, which is told now as a whole. */
static int adopt_cycle(struct mains_runs *r, const struct mains_world *w, int i)
{
    struct mains_found f;
    for (int c = 0; c < w->classes; c++) {
        const int mine = w->cycle[c] >= 0 && !((w->elsewhere & ~w->silent) >> c & 1);
        struct mains_cycle *y = mine ? &w->cycles[w->cycle[c]] : NULL;
        struct mains_run *run = &r->runs[c];
        if (y && run->phase == MAINS_ON && mains_cycle_ends(y, w->edges, i, run->level_w)) {
            mains_runs_off(run, mains_ring_time(w->edges, i));
            w->edges->edges[i].claim = (int8_t)c;
            return 1;
        }
        if (!y || !mains_cycle_due(y, w->edges, i, &f))
            continue;
        if (run->phase == MAINS_ON && mains_ring_time(w->edges, f.up) <= run->start_ms) {
            mains_runs_off(run, mains_ring_time(w->edges, i)); /* another step than its start */
            mains_runs_claim(w->edges, f.up, c);
            w->edges->edges[i].claim = (int8_t)c;
            return 1;
        }
        if (run->phase == MAINS_ON) { /* its end was not seen; this is the next one */
            mains_runs_cut(r, run, mains_ring_time(w->edges, f.up), r->cell_ms);
            mains_runs_close(r, w, c, mains_ring_time(w->edges, f.up), "off");
        }
        adopt(r, w, c, f.up, f.down, f.level_w, f.confidence);
        return 1;
    }
    return 0;
}

/* A compressor's run that goes on for longer than is known begins. now_ms: booked so far. 0: edge i
 * is nothing of the kind. */
int mains_runs_open_cycle(struct mains_runs *r, const struct mains_world *w, int i, int64_t now_ms)
{
    struct mains_found f;
    for (int c = 0; c < w->classes; c++) {
        struct mains_run *run = &r->runs[c];
        if (w->cycle[c] < 0 || run->phase == MAINS_ON || (w->elsewhere & ~w->silent) >> c & 1)
            continue;
        enum mains_open is = mains_cycle_open(&w->cycles[w->cycle[c]], w->edges, i, now_ms, &f);
        if (is == MAINS_NO_RUN)
            continue;
        if (is == MAINS_PERHAPS)
            return 1;
        if (run->phase == MAINS_PAUSE)
            mains_runs_close(r, w, c, now_ms, "off");
        run->start_ms = mains_ring_time(w->edges, i);
        run->phase = MAINS_ON;
        run->level_w = run->peak_w = run->step_w = f.level_w;
        run->confidence = f.confidence;
        run->energy_wh = books_claim(&r->books, (double)run->level_w *
                                                    (double)(now_ms - run->start_ms) / MS_PER_H);
        mains_runs_claim(w->edges, i, c);
        return 1;
    }
    return 0;
}

static int program_runs(const struct mains_runs *r, const struct mains_world *w)
{
    for (int c = 0; c < w->classes; c++)
        if (mains_heat_is_program(r, w, c))
            return 1;
    return 0;
}

/* A television switches on or off. 1: the step is its own. */
static int gentle_edge(struct mains_runs *r, const struct mains_world *w, int c, int i)
{
    struct mains_run *run = &r->runs[c];
    const struct mains_sum sum = {w->watts, w->tell.context, w->period_ms};
    const int64_t t = mains_ring_time(w->edges, i);
    int pair;
    if (w->rules[c]->kind != MAINS_GENTLE || (w->elsewhere & ~w->silent) >> c & 1)
        return 0;
    if (w->edges->edges[i].step_w < 0) {
        if (run->phase != MAINS_ON ||
            mains_gentle_ends(&r->gentle, w->edges, i, run->level_w, &sum) < 0)
            return 0;
        mains_runs_off(run, t);
        w->edges->edges[i].claim = (int8_t)c;
        return 1;
    }
    float odds = mains_gentle_begins(&r->gentle, w->edges, i, &sum);
    if (program_runs(r, w))
        odds -= BESIDE_ODDS;
    if (odds < 0 || (run->phase != MAINS_NONE && t - run->start_ms < GENTLE_MS))
        return 0;
    if (run->phase == MAINS_ON) /* its end was not seen */
        mains_runs_off(run, t);
    if (run->phase == MAINS_PAUSE)
        mains_runs_close(r, w, c, t, "off");
    run->phase = MAINS_ON;
    run->start_ms = t;
    run->level_w = run->step_w = mains_ring_step(w->edges, i, &pair);
    run->confidence = 1 / (1 + expf(-odds));
    mains_runs_claim(w->edges, i, c);
    return 1;
}

/* Whether a program runs whose heater takes as much, or has not been seen yet. */
static int is_heater(const struct mains_runs *r, const struct mains_world *w, float watts)
{
    for (int c = 0; c < w->classes; c++) {
        const float least_w = w->rules[c]->step_min_w, peak_w = r->runs[c].peak_w;
        if (mains_heat_is_program(r, w, c) && watts >= least_w &&
            (peak_w < least_w || alike(watts, peak_w, HEATER_SHARE)))
            return 1;
    }
    return 0;
}

static void take_edge(struct mains_runs *r, const struct mains_world *w, int i)
{
    int64_t t = mains_ring_time(w->edges, i);
    float step = w->edges->edges[i].step_w;
    int explained = 0;
    for (int c = 0; c < w->classes && !explained; c++)
        explained = pulse_edge(r, w, c, i, t);
    if (explained || adopt_cycle(r, w, i))
        return;
    for (int c = 0; c < w->classes && !explained; c++)
        explained = gentle_edge(r, w, c, i);
    if (explained)
        return;
    explained = mains_heat_step(r, w, step);
    for (int c = 0; c < w->classes && !explained; c++)
        explained = program_edge(&r->runs[c], w->rules[c], step);
    if (explained || step > 0 || is_heater(r, w, -step))
        return;
    int up = find_up(w->edges, i);
    if (up >= 0)
        tell_load(w, up, i);
}

/* A pulse begins, or began before the books knew: what they called unknown was its. */
static void begin_pulse(struct mains_runs *r, const struct mains_world *w, struct mains_pulse *x)
{
    const int c = x->class;
    const int64_t end = x->start_ms + x->lasts_ms, booked = end < r->cell_ms ? end : r->cell_ms;
    struct mains_run *run = begin_or_go_on(r, w, c, x->start_ms, x->watts, x->watts, x->confidence);
    run->phase = MAINS_ON;
    run->confidence = x->confidence; /* of the last of its groups */
    if (booked > x->start_ms)
        run->energy_wh +=
            books_claim(&r->books, (double)x->watts * (double)(booked - x->start_ms) / MS_PER_H);
    x->phase = MAINS_PULSE_BEGUN;
}

static void add_foreign(struct mains_runs *r, const struct mains_world *w, float watts)
{
    for (int c = 0; c < w->classes; c++)
        if (mains_heat_is_program(r, w, c))
            r->runs[c].foreign_w = fmaxf(0, r->runs[c].foreign_w + watts);
}

/* A pulse that is nobody's, and no heater, is a load, and what it takes is no program's. */
static void tell_pulses(struct mains_runs *r, const struct mains_world *w, struct mains_pulse *x,
                        int64_t middle_ms)
{
    const int64_t end = x->start_ms + x->lasts_ms;
    if (x->phase == MAINS_PULSE_DECIDED &&
        (is_heater(r, w, x->watts) || x->start_ms + w->period_ms < middle_ms)) {
        x->phase = MAINS_PULSE_DONE;
        return;
    }
    if (x->phase == MAINS_PULSE_DECIDED) {
        mains_pulses_claim(w, x, MAINS_FREE, MAINS_TOLD);
        add_foreign(r, w, x->watts);
        x->phase = MAINS_PULSE_BEGUN;
    }
    if (end >= middle_ms)
        return;
    add_foreign(r, w, -x->watts);
    x->phase = MAINS_PULSE_DONE;
    struct mains_load l = {
        .start_ms = x->start_ms, .end_ms = end, .up_w = x->watts, .down_w = x->watts};
    if (w->tell.load)
        w->tell.load(w->tell.context, &l);
}

void mains_runs_pulses(struct mains_runs *r, const struct mains_world *w, int64_t until_ms)
{
    const int64_t middle_ms = until_ms - w->period_ms / 2;
    for (int i = 0; w->pulses && i < w->pulses->count; i++) {
        struct mains_pulse *x = &w->pulses->of[i];
        if (x->class < 0) {
            if (x->phase != MAINS_PULSE_OPEN && x->phase != MAINS_PULSE_DONE &&
                x->start_ms < middle_ms)
                tell_pulses(r, w, x, middle_ms);
            continue;
        }
        if (x->phase == MAINS_PULSE_DECIDED && x->start_ms < middle_ms)
            begin_pulse(r, w, x);
        if (x->phase == MAINS_PULSE_BEGUN && x->start_ms + x->lasts_ms < middle_ms) {
            mains_runs_off(&r->runs[x->class], x->start_ms + x->lasts_ms);
            x->phase = MAINS_PULSE_DONE;
        }
    }
}

/* Runs of known compressors whose steps are hidden. */
static void fill_cycles(struct mains_runs *r, const struct mains_world *w, int64_t until_ms)
{
    struct mains_filled f;
    for (int c = 0; c < w->classes; c++) {
        if (w->cycle[c] < 0 || r->runs[c].phase == MAINS_ON ||
            (w->elsewhere & ~w->silent) >> c & 1 ||
            !mains_cycle_fill(&w->cycles[w->cycle[c]], w->edges, until_ms, &f))
            continue;
        adopt_times(r, w, c, f.start_ms, f.end_ms, f.level_w, f.level_w, f.confidence);
        if (f.up >= 0 && w->edges->edges[f.up].claim == MAINS_FREE)
            mains_runs_claim(w->edges, f.up, c);
        if (f.down >= 0 && w->edges->edges[f.down].claim == MAINS_FREE)
            w->edges->edges[f.down].claim = (int8_t)c;
    }
}

void mains_runs_edges(struct mains_runs *r, const struct mains_world *w, int64_t until_ms)
{
    for (int i = 0; i < w->edges->count; i++) {
        const struct mains_edge *e = &w->edges->edges[i];
        int64_t t = mains_ring_time(w->edges, i);
        if (t >= until_ms)
            break;
        if (e->claim != MAINS_FREE)
            continue;
        if (t >= until_ms - w->period_ms)
            take_edge(r, w, i);
        else if (e->step_w > 0 && e->pad != OPEN_TOLD && until_ms - t >= OPEN_MS &&
                 (until_ms - t) % OPEN_EVERY_MS < w->period_ms &&
                 !mains_runs_open_cycle(r, w, i, until_ms))
            tell_load(w, i, -1);
    }
    if (until_ms % MAINS_CYCLE_CELL_MS < w->period_ms)
        fill_cycles(r, w, until_ms);
}
