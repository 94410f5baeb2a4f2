/* mains_runs.c - switchings in order of time, cells of the grid, books. */
#include "agent/mains_runs.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "agent/event.h"

#define MS_PER_H 3600000.0
#define FLOOR_MS 60000.0f /* a program's floor follows the sum down with this time constant */
#define BEFORE_MS                                                                                  \
    60000                /* a start without an edge: the level before it is looked for so far back \
                          */
#define OPEN_MS 600000   /* a load that lasts longer is told before it ends */
#define SAME_SHARE 0.25f /* steps up and down of a pulse differ by less */
#define LOAD_SHARE 0.12f /* and those of an unexplained load */
#define BLOCK_P 0.15f    /* what the network must think of a block at least */
#define BLOCK_NEAR_MS 16000 /* frames so far from it speak of it, too */
#define USUAL_SHARE 0.15f   /* pace at which usual_w is learned */
#define MOST_MS 86400000    /* nobody is that far behind */
#define OPEN_TOLD 1         /* mains_edge.pad: told as an open load */

void mains_runs_init(struct mains_runs *r)
{
    memset(r, 0, sizeof(*r));
    books_init(&r->books);
}

int64_t mains_runs_settle_ms(void)
{
    return (int64_t)mains_rules_slack_s() * 1000;
}

/* ---- decisions into switchings ---- */

static void enqueue(struct mains_runs *r, struct mains_switch s)
{
    int i = r->queued;
    if (s.t_ms < r->cell_ms)
        s.t_ms = r->cell_ms;
    if (i == MAINS_QUEUE) /* more within minutes than there are appliances: the latest is lost */
        return;
    for (; i > 0 && r->queue[i - 1].t_ms > s.t_ms; i--)
        r->queue[i] = r->queue[i - 1];
    r->queue[i] = s;
    r->queued++;
}

static void claim(struct mains_ring *edges, int i, int class)
{
    int pair = 0;
    mains_ring_step(edges, i, &pair);
    edges->edges[i].claim = (int8_t) class;
    if (pair) {
        edges->edges[i].pair = 1;
        edges->edges[i + 1].claim = (int8_t) class;
    }
}

static void decide_on(struct mains_runs *r, const struct mains_world *w, int c, int64_t near_ms,
                      float p)
{
    const struct mains_rule *rule = w->rules[c];
    int64_t slack = (int64_t)rule->slack_s * 1000;
    float cost;
    if ((w->elsewhere & ~w->silent) >> c & 1)
        return;
    int pair,
        i = mains_ring_best(w->edges, rule, 1, near_ms - slack, near_ms + slack, near_ms, 0, &cost);
    struct mains_switch s = {.t_ms = near_ms, .before_w = -1, .confidence = p};
    s.class = (int8_t)c;
    s.on = 1;
    r->levels[c] = 0;
    if (i >= 0) {
        s.t_ms = mains_ring_time(w->edges, i);
        s.level_w = r->levels[c] = mains_ring_step(w->edges, i, &pair);
        s.before_w = w->edges->edges[i].before_w;
        claim(w->edges, i, c);
    } else if (rule->kind == MAINS_PULSE) {
        return; /* its edge cannot be missed: it was something else */
    }
    enqueue(r, s);
}

static void decide_off(struct mains_runs *r, const struct mains_world *w, int c, int64_t near_ms)
{
    const struct mains_rule *rule = w->rules[c];
    int64_t slack = (int64_t)rule->slack_s * 1000;
    float cost;
    int i = mains_ring_best(w->edges, rule, 0, near_ms - slack, near_ms + slack, near_ms,
                            rule->kind == MAINS_PROGRAM ? 0 : r->levels[c], &cost);
    struct mains_switch s = {.t_ms = near_ms,
                             .confidence = r->counts[c] ? r->sums[c] / r->counts[c] : 0};
    s.class = (int8_t)c;
    if (i >= 0) {
        float step = -w->edges->edges[i].step_w, *usual = &r->usual_w[c];
        *usual += *usual > 0 ? USUAL_SHARE * (step - *usual) : step;
        s.t_ms = mains_ring_time(w->edges, i);
        claim(w->edges, i, c);
    }
    enqueue(r, s);
}

void mains_runs_decide(struct mains_runs *r, const struct mains_world *w,
                       const struct mains_frame *f, int64_t step_ms)
{
    uint16_t changed = (uint16_t)(f->on ^ r->on);
    int64_t near_ms = f->t_ms - step_ms / 2;
    for (int c = 0; c < w->classes; c++)
        if (changed >> c & 1 && !(f->on >> c & 1))
            decide_off(r, w, c, near_ms);
    for (;;) { /* the likeliest chooses its edge first */
        int best = -1;
        for (int c = 0; c < w->classes; c++)
            if ((changed & f->on) >> c & 1 && (best < 0 || f->p[c] > f->p[best]))
                best = c;
        if (best < 0)
            break;
        changed = (uint16_t)(changed & ~(1u << best));
        r->counts[best] = 0;
        r->sums[best] = 0;
        decide_on(r, w, best, near_ms, (float)f->p[best] / 255);
    }
    r->on = f->on;
    for (int c = 0; c < w->classes; c++)
        if (r->on >> c & 1 && r->counts[c] < UINT16_MAX) {
            r->counts[c]++;
            r->sums[c] += (float)f->p[c] / 255;
        }
}

/* ---- runs ---- */

static void close_run(struct mains_runs *r, const struct mains_world *w, int c, int64_t now_ms,
                      const char *reason)
{
    struct mains_run *run = &r->runs[c];
    if (run->told_ms)
        w->tell.run(w->tell.context, EVENT_OFF, c, run, now_ms, reason);
    books_settle(&r->books, run->told_ms ? c : -1, run->energy_wh);
    memset(run, 0, sizeof(*run));
}

/* Tells a run that is as long and strong as it must be, and reports one that is long. */
static void tell(const struct mains_world *w, int c, struct mains_run *run, int64_t now_ms)
{
    const struct mains_rule *rule = w->rules[c];
    int64_t until = run->phase == MAINS_PAUSE ? run->off_ms : now_ms;
    if (w->silent >> c & 1)
        return;
    if (!run->told_ms) {
        if (until - run->start_ms < (int64_t)rule->run_s * 1000 || run->peak_w < rule->peak_w)
            return;
        run->told_ms = now_ms;
        run->start_ms -= w->early_ms ? w->early_ms[c] : 0;
        w->tell.run(w->tell.context, EVENT_ON, c, run, now_ms, "");
    } else if (w->report_ms > 0 && now_ms - run->told_ms >= w->report_ms) {
        run->told_ms = now_ms;
        w->tell.run(w->tell.context, EVENT_RUNNING, c, run, now_ms, "");
    }
}

/* The sum before a start that no edge marks. */
static float level_before(const struct mains_world *w, int64_t t_ms)
{
    float least = -1;
    for (int64_t t = t_ms - BEFORE_MS; t < t_ms; t += w->period_ms) {
        float x = w->watts(w->tell.context, t);
        if (x >= 0 && (least < 0 || x < least))
            least = x;
    }
    return least < 0 ? 0 : least;
}

static float others(const struct mains_runs *r, const struct mains_world *w, int class)
{
    float sum = 0;
    for (int c = 0; c < w->classes; c++)
        if (c != class && r->runs[c].phase == MAINS_ON)
            sum += r->runs[c].last_w;
    return sum;
}

static void switch_on(struct mains_runs *r, const struct mains_world *w,
                      const struct mains_switch *s)
{
    int c = s->class;
    struct mains_run *run = &r->runs[c];
    const struct mains_rule *rule = w->rules[c];
    if (run->phase == MAINS_PAUSE && s->t_ms - run->off_ms > (int64_t)rule->gap_s * 1000)
        close_run(r, w, c, s->t_ms, "off");
    float before = s->before_w >= 0 ? s->before_w : level_before(w, s->t_ms);
    if (run->phase == MAINS_NONE) {
        memset(run, 0, sizeof(*run));
        run->start_ms = s->t_ms;
        run->floor_w = fmaxf(0, before - others(r, w, c));
        run->step_w = s->level_w;
        run->confidence = s->confidence;
    }
    run->level_w = s->level_w;
    if (run->level_w <= 0 && rule->kind != MAINS_PROGRAM) {
        float now = w->watts(w->tell.context, s->t_ms + 2 * w->period_ms);
        run->level_w = fminf(fmaxf(now - before, rule->step_min_w), rule->most_w);
    }
    /* a compressor starts with more than it takes; what it stops with is what it took */
    if (rule->kind == MAINS_CYCLE && r->usual_w[c] > 0 && run->level_w < 2 * r->usual_w[c] &&
        run->level_w > r->usual_w[c] / 2)
        run->level_w = r->usual_w[c];
    run->phase = MAINS_ON;
}

static void switch_off(struct mains_run *run, int64_t t_ms)
{
    if (run->phase != MAINS_ON)
        return;
    run->phase = MAINS_PAUSE;
    run->off_ms = t_ms > run->start_ms ? t_ms : run->start_ms;
    run->last_w = 0;
}

static void take_switches(struct mains_runs *r, const struct mains_world *w, int64_t until_ms)
{
    int n = 0;
    for (; n < r->queued && r->queue[n].t_ms < until_ms; n++) {
        const struct mains_switch *s = &r->queue[n];
        struct mains_run *run = &r->runs[s->class];
        uint16_t bit = (uint16_t)(1u << s->class);
        r->live = (uint16_t)(s->on ? r->live | bit : r->live & ~bit);
        if (s->on) {
            switch_on(r, w, s);
        } else if (run->phase != MAINS_NONE) {
            run->confidence = s->confidence;
            switch_off(run, s->t_ms);
        }
    }
    r->queued -= n;
    memmove(r->queue, r->queue + n, (size_t)r->queued * sizeof(r->queue[0]));
}

/* ---- edges that no decision claimed ---- */

static int alike(float a, float b, float share)
{
    return fabsf(a - b) <= fmaxf(share * fmaxf(a, b), 2 * EDGES_LEAST_W);
}

/* A pulse that the network sees go on may yet pause: its edges say so. 1: the edge is its own. */
static int pulse_edge(struct mains_runs *r, const struct mains_world *w, int c, int i, int64_t t_ms)
{
    struct mains_run *run = &r->runs[c];
    float step = w->edges->edges[i].step_w;
    if (w->rules[c]->kind != MAINS_PULSE || run->phase == MAINS_NONE ||
        !alike(fabsf(step), run->level_w, SAME_SHARE))
        return 0;
    if (step < 0 && run->phase == MAINS_ON) {
        switch_off(run, t_ms);
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
        claim(w->edges, up, MAINS_TOLD);
        w->edges->edges[down].claim = MAINS_TOLD;
    } else {
        e->pad = OPEN_TOLD;
    }
    if (w->tell.load)
        w->tell.load(w->tell.context, &l);
}

/* The pulse that a step up and its step down are by size and length, when the network thinks of it
 * at all; -1: none. */
static int block_class(const struct mains_world *w, int up, int down)
{
    int best = -1;
    float most = BLOCK_P, step = w->edges->edges[up].step_w;
    int64_t from = mains_ring_time(w->edges, up), to = mains_ring_time(w->edges, down);
    for (int c = 0; c < w->classes; c++) {
        const struct mains_rule *rule = w->rules[c];
        if (to - from > (int64_t)rule->block_s * 1000 || to - from < (int64_t)rule->run_s * 1000 ||
            step < rule->step_min_w || step > rule->step_max_w || w->elsewhere >> c & 1)
            continue;
        float p = mains_decode_most(w->decode, c, from - BLOCK_NEAR_MS, to + BLOCK_NEAR_MS);
        if (p > most) {
            most = p;
            best = c;
        }
    }
    return best;
}

/* What was booked as unknown was a run, or belongs to one that pauses. */
static int adopt_block(struct mains_runs *r, const struct mains_world *w, int up, int down)
{
    const int c = block_class(w, up, down);
    struct mains_run *run = c < 0 ? NULL : &r->runs[c];
    if (!run || run->phase == MAINS_ON)
        return 0;
    const struct mains_edge *e = w->edges->edges;
    int64_t from = mains_ring_time(w->edges, up), to = mains_ring_time(w->edges, down);
    float watts = (e[up].step_w - e[down].step_w) / 2;
    if (run->phase == MAINS_PAUSE && from - run->off_ms > (int64_t)w->rules[c]->gap_s * 1000)
        close_run(r, w, c, from, "off");
    if (run->phase == MAINS_NONE) {
        run->start_ms = from;
        run->step_w = e[up].step_w;
        run->confidence = mains_decode_most(w->decode, c, from - BLOCK_NEAR_MS, to + BLOCK_NEAR_MS);
    }
    run->phase = MAINS_PAUSE;
    run->off_ms = to;
    run->level_w = watts;
    run->peak_w = fmaxf(run->peak_w, watts);
    run->energy_wh += books_claim(&r->books, (double)watts * (double)(to - from) / MS_PER_H);
    claim(w->edges, up, c);
    w->edges->edges[down].claim = (int8_t)c;
    return 1;
}

static void take_edge(struct mains_runs *r, const struct mains_world *w, int i)
{
    int64_t t = mains_ring_time(w->edges, i);
    float step = w->edges->edges[i].step_w;
    int explained = 0;
    for (int c = 0; c < w->classes && !explained; c++)
        explained = pulse_edge(r, w, c, i, t);
    for (int c = 0; c < w->classes && !explained; c++)
        explained = program_edge(&r->runs[c], w->rules[c], step);
    if (explained || step > 0)
        return;
    int up = find_up(w->edges, i);
    if (up >= 0 && !adopt_block(r, w, up, i))
        tell_load(w, up, i);
}

static void take_edges(struct mains_runs *r, const struct mains_world *w, int64_t until_ms)
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
        else if (e->step_w > 0 && e->pad != OPEN_TOLD && until_ms - t >= OPEN_MS)
            tell_load(w, i, -1);
    }
}

/* ---- cells ---- */

/* What a run would take of the sum, given what is left. */
static float wants(struct mains_run *run, const struct mains_rule *rule, float left,
                   int64_t period_ms)
{
    if (run->phase != MAINS_ON)
        return 0;
    if (rule->kind != MAINS_PROGRAM)
        return fminf(run->level_w, rule->most_w);
    float excess = left - run->floor_w;
    if (excess < 0) {
        run->floor_w =
            fmaxf(0, run->floor_w + (float)period_ms / ((float)period_ms + FLOOR_MS) * excess);
        excess = 0;
    }
    run->foreign_w = fminf(run->foreign_w, excess);
    return fminf(excess - run->foreign_w, rule->most_w);
}

static void note(struct mains_run *run, const struct mains_rule *rule, float watts, int64_t cell_ms,
                 int64_t period_ms)
{
    run->energy_wh += (double)watts * (double)period_ms / MS_PER_H;
    float both = fminf(watts, run->last_w); /* one wild sample is no peak */
    if (rule->kind != MAINS_PROGRAM)
        both = watts;
    run->peak_w = fmaxf(run->peak_w, both);
    run->last_w = watts;
    if (rule->lead_s && !run->heater_ms && both >= rule->step_min_w) {
        run->heater_ms = cell_ms;
        int64_t earliest = cell_ms - (int64_t)rule->lead_s * 1000;
        int64_t latest = cell_ms - (int64_t)rule->early_s * 1000;
        if (!run->told_ms && run->start_ms < earliest)
            run->start_ms = earliest;
        else if (!run->told_ms && run->start_ms > latest)
            run->start_ms = latest;
    }
}

static void book_cell(struct mains_runs *r, const struct mains_world *w, float watts)
{
    float part[MAINS_CLASSES];
    int order[MAINS_CLASSES], n = 0, programs = 0;
    float left = fmaxf(watts, 0);
    for (int pass = 0; pass < 2; pass++)
        for (int c = 0; c < w->classes; c++)
            if (r->runs[c].phase == MAINS_ON && (w->rules[c]->kind == MAINS_PROGRAM) == pass) {
                order[n++] = c;
                programs += pass;
            }
    for (int i = 0; i < n; i++) {
        int c = order[i];
        part[i] = wants(&r->runs[c], w->rules[c], left, w->period_ms);
        if (w->rules[c]->kind == MAINS_PROGRAM && programs > 1)
            part[i] /= (float)programs; /* who of them cannot be told */
        else
            left = fmaxf(0, left - part[i]);
    }
    books_moment(&r->books, w->period_ms, watts, part, n);
    for (int i = 0; i < n; i++)
        note(&r->runs[order[i]], w->rules[order[i]], part[i], r->cell_ms, w->period_ms);
}

void mains_runs_book(struct mains_runs *r, const struct mains_world *w, int64_t until_ms)
{
    if (!r->cell_ms || until_ms - r->cell_ms > MOST_MS)
        r->cell_ms = until_ms / w->period_ms * w->period_ms;
    for (; r->cell_ms + w->period_ms <= until_ms; r->cell_ms += w->period_ms) {
        int64_t end = r->cell_ms + w->period_ms;
        take_switches(r, w, end - w->period_ms / 2);
        take_edges(r, w, end);
        float watts = w->watts(w->tell.context, r->cell_ms);
        if (watts >= 0)
            book_cell(r, w, watts);
        for (int c = 0; c < w->classes; c++) {
            struct mains_run *run = &r->runs[c];
            if (run->phase == MAINS_NONE)
                continue;
            tell(w, c, run, end);
            if (run->phase == MAINS_PAUSE && end - run->off_ms > (int64_t)w->rules[c]->gap_s * 1000)
                close_run(r, w, c, end, "off");
        }
    }
}

void mains_runs_end(struct mains_runs *r, const struct mains_world *w, int64_t t_ms,
                    const char *reason)
{
    for (int c = 0; c < w->classes; c++) {
        struct mains_run *run = &r->runs[c];
        if (run->phase == MAINS_NONE)
            continue;
        const char *why = run->phase == MAINS_PAUSE ? "off" : reason;
        switch_off(run, t_ms);
        tell(w, c, run, t_ms);
        close_run(r, w, c, t_ms, why);
    }
    r->queued = 0;
    r->on = r->live = 0;
    r->cell_ms = 0;
}

int mains_runs_check(const struct mains_runs *r)
{
    if (r->queued < 0 || r->queued > MAINS_QUEUE || books_check(&r->books))
        return -EBADMSG;
    for (int i = 0; i < r->queued; i++) {
        const struct mains_switch *s = &r->queue[i];
        if (s->class < 0 || s->class >= MAINS_CLASSES || !isfinite(s->level_w) ||
            !isfinite(s->before_w) || !isfinite(s->confidence))
            return -EBADMSG;
    }
    for (int c = 0; c < MAINS_CLASSES; c++) {
        const struct mains_run *run = &r->runs[c];
        if (run->phase < MAINS_NONE || run->phase > MAINS_PAUSE || !isfinite(run->energy_wh) ||
            !isfinite(run->level_w) || !isfinite(run->floor_w) || !isfinite(run->foreign_w) ||
            !isfinite(run->step_w) || !isfinite(run->peak_w) || !isfinite(run->last_w) ||
            !isfinite(run->confidence) || !isfinite(r->sums[c]) || !isfinite(r->levels[c]) ||
            !isfinite(r->usual_w[c]))
            return -EBADMSG;
    }
    return 0;
}
