/* mains_runs.c - switchings in order of time, cells of the grid, books. */
#include "agent/mains_runs.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "agent/event.h"
#include "agent/mains_runs_impl.h"

#define MS_PER_H 3600000.0
#define FLOOR_MS 60000.0f /* a program's floor follows the sum down with this time constant */
#define BEFORE_MS                                                                                  \
    60000 /* a start without an edge: the level before it is looked for so far back                \
           */
#define GENTLE_MS 2700000 /* a step so long ago may be its start */
#define STAY_SHARE 0.6f
#define SETTLED_MS 45000
#define DIP_MS 64000
#define DOUBT_P 0.5f /* of another one of the group: it may be that one */
#define DOUBT_BEFORE_MS 300000
#define DOUBT_MOST_MS 5400000 /* nobody waits longer for it to be clear */
#define HAND_MS 600000        /* it ends so near to where the other one begins */
#define MOST_MS 86400000      /* nobody is that far behind */

void mains_runs_init(struct mains_runs *r)
{
    memset(r, 0, sizeof(*r));
    books_init(&r->books);
    mains_gentle_init(&r->gentle);
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

void mains_runs_claim(struct mains_ring *edges, int i, int class)
{
    int pair = 0;
    mains_ring_step(edges, i, &pair);
    edges->edges[i].claim = (int8_t) class;
    if (pair) {
        edges->edges[i].pair = 1;
        edges->edges[i + 1].claim = (int8_t) class;
    }
}

int mains_runs_stays_up(const struct mains_world *w, int i, float up_w, int64_t settled_ms,
                        int64_t to_ms)
{
    const float least = w->edges->edges[i].before_w + up_w;
    int64_t low_ms = 0;
    for (int64_t t = mains_ring_time(w->edges, i) + settled_ms; t < to_ms; t += w->period_ms) {
        const float watts = w->watts(w->tell.context, t);
        low_ms = watts >= 0 && watts < least ? low_ms + w->period_ms : 0;
        if (low_ms > DIP_MS)
            return 0;
    }
    return 1;
}

/* The network needs a while to see what begins gently and goes on for hours: the step from which
 * the sum has stayed up since; -1: none. */
static int find_gentle(const struct mains_world *w, const struct mains_rule *rule, int64_t near_ms)
{
    int best = -1, pair;
    for (int i = w->edges->count - 1; i >= 0; i--) {
        const int64_t t = mains_ring_time(w->edges, i);
        const float step = mains_ring_step(w->edges, i, &pair);
        if (t < near_ms - GENTLE_MS)
            break;
        if (t < near_ms && w->edges->edges[i].claim == MAINS_FREE && step >= rule->step_min_w &&
            step <= rule->step_max_w &&
            (best < 0 || step > mains_ring_step(w->edges, best, &pair)) &&
            mains_runs_stays_up(w, i, STAY_SHARE * step, SETTLED_MS, near_ms))
            best = i;
    }
    return best;
}

static void decide_on(struct mains_runs *r, const struct mains_world *w, int c, int64_t near_ms,
                      float p)
{
    const struct mains_rule *rule = w->rules[c];
    int64_t slack = (int64_t)rule->slack_s * 1000;
    float cost;
    if ((w->elsewhere & ~w->silent) >> c & 1 || rule->kind == MAINS_GENTLE)
        return;
    int pair,
        i = mains_ring_best(w->edges, rule, 1, near_ms - slack, near_ms + slack, near_ms, 0, &cost);
    struct mains_switch s = {.t_ms = near_ms, .before_w = -1, .confidence = p};
    const int gentle = rule->kind == MAINS_PLAIN ? find_gentle(w, rule, near_ms) : -1;
    if (gentle >= 0)
        i = gentle;
    s.class = (int8_t)c;
    s.on = 1;
    r->levels[c] = 0;
    if (i >= 0) {
        s.t_ms = mains_ring_time(w->edges, i);
        s.level_w = r->levels[c] = mains_ring_step(w->edges, i, &pair);
        s.before_w = w->edges->edges[i].before_w;
        s.start_ms = s.t_ms;
        mains_runs_claim(w->edges, i, c);
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
        s.t_ms = mains_ring_time(w->edges, i);
        mains_runs_claim(w->edges, i, c);
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
    for (int c = 0; c < w->classes; c++)
        if (w->rules[c]->early_s)
            mains_lead_hear(&r->lead, f->t_ms, (float)f->p[c] / 255);
}

/* ---- runs ---- */

void mains_runs_close(struct mains_runs *r, const struct mains_world *w, int c, int64_t now_ms,
                      const char *reason)
{
    struct mains_run *run = &r->runs[c];
    if (run->told_ms)
        w->tell.run(w->tell.context, EVENT_OFF, c, run, now_ms, reason);
    books_settle(&r->books, run->told_ms ? c : -1, run->energy_wh);
    if (run->told_ms && w->rules[c]->early_s)
        r->lead.done_ms = run->off_ms;
    memset(run, 0, sizeof(*run));
}

/* Whether a run that is to be told may yet turn out to be another one of its group. */
static int doubtful(const struct mains_runs *r, const struct mains_world *w, int c, int64_t now_ms)
{
    const struct mains_run *run = &r->runs[c];
    if (now_ms - run->start_ms > DOUBT_MOST_MS ||
        (run->phase == MAINS_PAUSE && now_ms - run->off_ms > HAND_MS))
        return 0;
    for (int k = 0; k < w->classes; k++)
        if (k != c && w->rules[c]->group && w->rules[k]->group == w->rules[c]->group &&
            r->runs[k].phase == MAINS_NONE &&
            mains_decode_most(w->decode, k, now_ms - DOUBT_BEFORE_MS, now_ms) >= DOUBT_P)
            return 1;
    return 0;
}

/* Tells a run that is as long and strong as it must be, and reports one that is long. */
static void tell(struct mains_runs *r, const struct mains_world *w, int c, int64_t now_ms)
{
    struct mains_run *run = &r->runs[c];
    const struct mains_rule *rule = w->rules[c];
    int64_t until = run->phase == MAINS_PAUSE ? run->off_ms : now_ms;
    if (w->silent >> c & 1)
        return;
    if (!run->told_ms) {
        int64_t since = run->start_ms;
        if (rule->kind == MAINS_GENTLE && run->phase == MAINS_ON &&
            until - since < MAINS_GENTLE_SURE_MS)
            return;
        if (rule->early_s && run->heater_ms) /* how long it pumped before does not make it surer */
            since = run->heater_ms - (int64_t)rule->early_s * 1000;
        if (until - since < (int64_t)rule->run_s * 1000 || run->peak_w < rule->peak_w ||
            doubtful(r, w, c, now_ms))
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

/* It heated before the network saw it. */
static void heated(struct mains_runs *r, const struct mains_world *w, int c)
{
    struct mains_run *run = &r->runs[c];
    double wh = 0;
    float on_w = 0;
    const int64_t t_ms = mains_lead_heated(r, w, c, run->start_ms, &wh, &on_w);
    if (!t_ms)
        return;
    run->start_ms = run->heater_ms = t_ms;
    run->floor_w = fmaxf(0, run->floor_w - on_w);
    run->heat_w = run->heater_w = on_w;
    run->energy_wh += books_claim(&r->books, wh);
}

/* What was taken for another one of the group until now was this one, from when it heated. */
static void take_over(struct mains_runs *r, const struct mains_world *w, int c)
{
    struct mains_run *run = &r->runs[c];
    for (int k = 0; k < w->classes; k++) {
        struct mains_run *was = &r->runs[k];
        if (k == c || !w->rules[c]->group || w->rules[k]->group != w->rules[c]->group ||
            was->phase != MAINS_PAUSE || was->told_ms || w->silent >> k & 1 ||
            run->start_ms - was->off_ms > HAND_MS)
            continue;
        run->start_ms = was->heater_ms ? was->heater_ms : was->start_ms;
        run->heater_ms = was->heater_ms;
        run->energy_wh += was->energy_wh - was->before_wh;
        books_settle(&r->books, -1, was->before_wh);
        run->peak_w = was->peak_w;
        run->floor_w = was->floor_w;
        memset(was, 0, sizeof(*was));
    }
}

static void switch_on(struct mains_runs *r, const struct mains_world *w,
                      const struct mains_switch *s)
{
    int c = s->class;
    struct mains_run *run = &r->runs[c];
    const struct mains_rule *rule = w->rules[c];
    if (run->phase == MAINS_PAUSE && s->t_ms - run->off_ms > (int64_t)rule->gap_s * 1000)
        mains_runs_close(r, w, c, s->t_ms, "off");
    float before = s->before_w >= 0 ? s->before_w : level_before(w, s->t_ms);
    if (run->phase == MAINS_NONE) {
        memset(run, 0, sizeof(*run));
        run->start_ms = s->start_ms ? s->start_ms : s->t_ms;
        run->energy_wh = books_claim(&r->books, (double)s->level_w *
                                                    (double)(s->t_ms - run->start_ms) / MS_PER_H);
        run->floor_w = fmaxf(0, before - others(r, w, c));
        run->step_w = s->level_w;
        run->confidence = s->confidence;
        if (rule->rest_s)
            heated(r, w, c);
        take_over(r, w, c);
    }
    run->level_w = s->level_w;
    if (run->level_w <= 0 && rule->kind != MAINS_PROGRAM) {
        float now = w->watts(w->tell.context, s->t_ms + 2 * w->period_ms);
        run->level_w = fminf(fmaxf(now - before, rule->step_min_w), rule->most_w);
    }
    if (rule->kind == MAINS_PROGRAM && s->level_w > 0)
        run->heat_w = run->heater_w = s->level_w;
    run->rest_w = -1;
    run->phase = MAINS_ON;
}

void mains_runs_off(struct mains_run *run, int64_t t_ms)
{
    if (run->phase != MAINS_ON)
        return;
    run->phase = MAINS_PAUSE;
    run->off_ms = t_ms > run->start_ms ? t_ms : run->start_ms;
    run->last_w = run->heat_w = 0;
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
            mains_runs_off(run, s->t_ms);
        }
    }
    r->queued -= n;
    memmove(r->queue, r->queue + n, (size_t)r->queued * sizeof(r->queue[0]));
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

/* A program heats for the first time. */
static void heats(struct mains_runs *r, const struct mains_world *w, int c)
{
    struct mains_run *run = &r->runs[c];
    const struct mains_rule *rule = w->rules[c];
    int64_t earliest = r->cell_ms - (int64_t)rule->lead_s * 1000;
    run->heater_ms = r->cell_ms;
    if (run->told_ms)
        return;
    double wh = 0;
    const int64_t found_ms = rule->early_s ? mains_lead_start(&r->lead, w, &run->heater_ms,
                                                              (int64_t)rule->gap_s * 1000, &wh)
                                           : 0;
    run->energy_wh += books_claim(&r->books, wh);
    run->before_wh = run->energy_wh;
    run->start_ms -= (int64_t)rule->early_s * 1000;
    if (found_ms)
        run->start_ms = found_ms;
    else if (run->start_ms < earliest)
        run->start_ms = earliest;
}

static void note(struct mains_runs *r, const struct mains_world *w, int c, float watts)
{
    struct mains_run *run = &r->runs[c];
    const struct mains_rule *rule = w->rules[c];
    const int64_t period_ms = w->period_ms;
    run->energy_wh += (double)watts * (double)period_ms / MS_PER_H;
    float both = fminf(watts, run->last_w); /* one wild sample is no peak */
    if (rule->kind != MAINS_PROGRAM)
        both = watts;
    run->peak_w = fmaxf(run->peak_w, both);
    run->last_w = watts;
    if (rule->lead_s && !run->heater_ms && both >= rule->step_min_w)
        heats(r, w, c);
    if (rule->kind == MAINS_PROGRAM)
        mains_heat_rest(r, w, c);
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
            part[i] = mains_heat_share(r, w, c, part[i], programs);
        else
            left = fmaxf(0, left - part[i]);
    }
    books_moment(&r->books, w->period_ms, watts, part, n);
    for (int i = 0; i < n; i++)
        note(r, w, order[i], part[i]);
}

void mains_runs_book(struct mains_runs *r, const struct mains_world *w, int64_t until_ms)
{
    if (!r->cell_ms || until_ms - r->cell_ms > MOST_MS)
        r->cell_ms = until_ms / w->period_ms * w->period_ms;
    for (; r->cell_ms + w->period_ms <= until_ms; r->cell_ms += w->period_ms) {
        int64_t end = r->cell_ms + w->period_ms;
        take_switches(r, w, end - w->period_ms / 2);
        mains_runs_pulses(r, w, end);
        mains_runs_edges(r, w, end);
        float watts = w->watts(w->tell.context, r->cell_ms);
        if (watts >= 0)
            book_cell(r, w, watts);
        for (int c = 0; c < w->classes; c++) {
            struct mains_run *run = &r->runs[c];
            if (run->phase == MAINS_NONE)
                continue;
            if (w->cycle[c] >= 0 && run->phase == MAINS_ON &&
                mains_cycle_gone(&w->cycles[w->cycle[c]], end))
                mains_runs_cut(r, run, end - MAINS_CYCLE_GONE_MS, end);
            tell(r, w, c, end);
            if (w->rules[c]->kind == MAINS_GENTLE && run->phase == MAINS_ON &&
                mains_gentle_gone(&r->gentle, run->start_ms, end))
                mains_runs_off(run, run->told_ms ? end : run->start_ms); /* or it was none */
            if (run->phase == MAINS_PAUSE && end - run->off_ms > (int64_t)w->rules[c]->gap_s * 1000)
                mains_runs_close(r, w, c, end, "off");
        }
    }
}

void mains_runs_end(struct mains_runs *r, const struct mains_world *w, int64_t t_ms,
                    const char *reason)
{
    for (int i = 0; i < w->edges->count; i++)
        if (r->cell_ms && w->edges->edges[i].claim == MAINS_FREE && w->edges->edges[i].step_w > 0 &&
            mains_ring_time(w->edges, i) < t_ms)
            mains_runs_open_cycle(r, w, i, t_ms);
    for (int c = 0; c < w->classes; c++) {
        struct mains_run *run = &r->runs[c];
        if (run->phase == MAINS_NONE)
            continue;
        const char *why = run->phase == MAINS_PAUSE ? "off" : reason;
        mains_runs_off(run, t_ms);
        tell(r, w, c, t_ms);
        mains_runs_close(r, w, c, t_ms, why);
    }
    if (w->pulses)
        mains_pulses_end(w->pulses, t_ms);
    r->queued = 0;
    r->on = r->live = 0;
    r->cell_ms = 0;
}

int mains_runs_check(const struct mains_runs *r)
{
    if (r->queued < 0 || r->queued > MAINS_QUEUE || r->lead.cell < 0 || r->gentle.cell < 0 ||
        books_check(&r->books))
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
            !isfinite(run->before_wh) || !isfinite(run->heat_w) || !isfinite(run->heater_w) ||
            !isfinite(run->rest_w) || !isfinite(run->level_w) || !isfinite(run->floor_w) ||
            !isfinite(run->foreign_w) || !isfinite(run->step_w) || !isfinite(run->peak_w) ||
            !isfinite(run->last_w) || !isfinite(run->confidence) || !isfinite(r->sums[c]) ||
            !isfinite(r->levels[c]))
            return -EBADMSG;
    }
    return 0;
}
