/* inject.c - faults in recorded power. */
#include "inference/workshop/inject.h"

#include <errno.h>
#include <stdlib.h>

#define BRIDGE_MS 30000
#define HOLE_MS 600000
#define HOUR_MS 3600000.0
#define DAY_MS 86400000.0
#define FILL_MS 10000 /* between readings made for a pause that grew */
#define HELD 450      /* readings that show how power varies while on: an hour at 8 s */

const char *const inject_names[INJECT_KINDS + 1] = {
    "none", "stuck_on", "power",  "run_time", "cycles", "drift",    "lengthen",
    "dead", "silent",   "frozen", "spikes",   "load",   "negative", NULL};

struct run { /* readings [from, to) are on; the next run begins at next */
    size_t from, to, next;
};

int inject_add(struct inject_series *s, int64_t t_ms, float watts)
{
    if (s->count && t_ms <= s->r[s->count - 1].t_ms)
        return 0;
    if (s->count == s->room) {
        const size_t room = s->room ? 2 * s->room : 65536;
        struct trace_reading *r = realloc(s->r, room * sizeof(*r));
        if (!r)
            return -ENOMEM;
        s->r = r;
        s->room = room;
    }
    s->r[s->count++] = (struct trace_reading){t_ms, watts};
    return 0;
}

/* The run that begins at or behind i: 1, or 0 when there is none. */
static int next_run(const struct inject_series *s, const struct inject_fault *f, size_t i,
                    struct run *run)
{
    while (i < s->count && (double)s->r[i].watts < f->on_w)
        i++;
    if (i == s->count)
        return 0;
    run->from = run->to = i;
    for (; i < s->count; i++) {
        if (s->r[i].t_ms - s->r[run->to].t_ms > BRIDGE_MS &&
            (s->r[i].t_ms - s->r[i - 1].t_ms > HOLE_MS || (double)s->r[i - 1].watts < f->off_w))
            break;
        if ((double)s->r[i].watts >= f->off_w)
            run->to = i;
    }
    run->to++;
    for (i = run->to; i < s->count && (double)s->r[i].watts < f->on_w; i++)
        ;
    run->next = i;
    return 1;
}

struct work {
    const struct inject_series *in;
    const struct inject_fault *f;
    struct inject_series *out;
    struct inject_truth *truth;
    int64_t shift_ms;             /* later than recorded */
    double share;                 /* of runs to leave out or put in, added up */
    size_t idle_from, idle_count; /* readings of the last pause: what it takes at rest */
};

/* The i-th reading at rest. */
static float at_rest(const struct work *w, size_t i)
{
    return w->idle_count ? w->in->r[w->idle_from + i % w->idle_count].watts : 0;
}

static int emit(struct work *w, size_t i, float watts)
{
    return inject_add(w->out, w->in->r[i].t_ms + w->shift_ms, watts);
}

static int copy(struct work *w, size_t from, size_t to)
{
    int rc = 0;
    for (size_t i = from; i < to && !rc; i++)
        rc = emit(w, i, w->in->r[i].watts);
    return rc;
}

static int rest(struct work *w, size_t from, size_t to)
{
    int rc = 0;
    for (size_t i = from; i < to && !rc; i++)
        rc = emit(w, i, at_rest(w, i - from));
    return rc;
}

static double days_since(const struct work *w, size_t i)
{
    return (double)(w->in->r[i].t_ms - w->truth->from_ms) / DAY_MS;
}

/* The run lasts `factor` times as long. */
static int stretch(struct work *w, const struct run *run, double factor)
{
    const struct trace_reading *r = w->in->r;
    const size_t end = run->to < w->in->count ? run->to : run->to - 1;
    const int64_t start = r[run->from].t_ms, length = r[end].t_ms - start;
    const int64_t more = (int64_t)((double)length * (factor - 1));
    const int64_t pause = run->next < w->in->count ? r[run->next].t_ms - r[end].t_ms : HOLE_MS;
    size_t idle = 0;
    int rc = 0;
    for (size_t i = run->from; i < run->to && !rc; i++)
        rc = inject_add(w->out,
                        start + w->shift_ms + (int64_t)((double)(r[i].t_ms - start) * factor),
                        r[i].watts);
    for (int64_t t = start + length + more; t < start + length && !rc; t += FILL_MS)
        rc = inject_add(w->out, t + w->shift_ms, at_rest(w, idle++));
    if (more > 0 && pause < 2 * more)
        w->shift_ms += more;
    /* else readings of the pause that the run has overtaken are left out, as not ascending */
    return rc ? rc : copy(w, run->to, run->next);
}

static int fewer(struct work *w, const struct run *run)
{
    w->share += 1 - w->f->size;
    if (w->share < 1)
        return copy(w, run->from, run->next);
    w->share -= 1;
    w->truth->changed++;
    const int rc = rest(w, run->from, run->to);
    return rc ? rc : copy(w, run->to, run->next);
}

/* A copy of the run in the middle of the pause behind it, when there is room. */
static int more(struct work *w, const struct run *run)
{
    const size_t length = run->to - run->from, pause = run->next - run->to;
    int rc = copy(w, run->from, run->to);
    w->share += w->f->size - 1;
    if (w->share < 1 || pause < length + length / 2)
        return rc ? rc : copy(w, run->to, run->next);
    w->share -= 1;
    w->truth->changed++;
    const size_t at = run->to + (pause - length) / 2;
    if (!rc)
        rc = copy(w, run->to, at);
    for (size_t i = 0; i < length && !rc; i++)
        rc = emit(w, at + i, w->in->r[run->from + i].watts);
    return rc ? rc : copy(w, at + length, run->next);
}

/* The reading before i at which the load was on. */
static size_t held_before(const struct work *w, const struct run *run, size_t i)
{
    while (i > 0 && (double)w->in->r[i - 1].watts < w->f->off_w)
        i--;
    return i > 0 ? i - 1 : run->to - 1;
}

/* It stays on: what it took in the second half of the run, over and over; of a short run, whose
 * few readings say too little of how power varies, what it took when it was on before, backwards.
 */
static int stick(struct work *w, const struct run *run)
{
    const int64_t end = w->in->r[run->from].t_ms + (int64_t)(w->f->hours * HOUR_MS);
    const size_t half = run->from + (run->to - run->from) / 2, loop = run->to - half;
    int rc = copy(w, run->from, run->to);
    size_t i = run->to, held = run->to;
    for (size_t n = 0; i < w->in->count && w->in->r[i].t_ms < end && !rc; i++, n++) {
        held = n % HELD ? held_before(w, run, held) : run->to - 1;
        rc = emit(w, i, w->in->r[loop < HELD ? held : half + n % loop].watts);
    }
    w->truth->to_ms = i < w->in->count ? w->in->r[i].t_ms : w->truth->to_ms;
    return rc ? rc : copy(w, i, w->in->count);
}

static int scale(struct work *w, const struct run *run)
{
    int rc = 0;
    for (size_t i = run->from; i < run->to && !rc; i++) {
        const double factor =
            w->f->kind == INJECT_POWER ? w->f->size : 1 + w->f->size * days_since(w, i);
        rc = emit(w, i, (float)(factor * (double)w->in->r[i].watts));
    }
    return rc ? rc : copy(w, run->to, run->next);
}

static int change_run(struct work *w, const struct run *run)
{
    int rc;
    w->truth->changed += w->f->kind != INJECT_CYCLES;
    switch (w->f->kind) {
    case INJECT_POWER:
    case INJECT_DRIFT:
        return scale(w, run);
    case INJECT_RUN_TIME:
        return stretch(w, run, w->f->size);
    case INJECT_LENGTHEN:
        return stretch(w, run, 1 + w->f->size * days_since(w, run->from));
    case INJECT_CYCLES:
        return w->f->size < 1 ? fewer(w, run) : more(w, run);
    case INJECT_DEAD:
        rc = rest(w, run->from, run->to);
        return rc ? rc : copy(w, run->to, run->next);
    default:
        return copy(w, run->from, run->next);
    }
}

static int by_runs(struct work *w)
{
    const struct trace_reading *r = w->in->r;
    struct run run;
    size_t at = 0, before = 0;
    int rc = 0, begun = 0;
    while (!rc && next_run(w->in, w->f, at, &run)) {
        w->truth->runs++;
        if (run.from > before) {
            w->idle_from = before;
            w->idle_count = run.from - before;
        }
        before = run.to;
        if (at == 0)
            rc = copy(w, 0, run.from);
        at = run.next;
        if (rc)
            break;
        if (r[run.from].t_ms < w->f->at_ms) {
            rc = copy(w, run.from, run.next);
            continue;
        }
        if (!begun)
            w->truth->from_ms = r[run.from].t_ms;
        begun = 1;
        if (w->f->kind == INJECT_STUCK_ON) {
            w->truth->changed = 1;
            return stick(w, &run);
        }
        rc = change_run(w, &run);
    }
    return rc;
}

/* Where a fault of readings begins: at the time, or within the first run behind it. */
static size_t begin_reading(const struct work *w)
{
    struct run run;
    size_t i = 0;
    while (i < w->in->count && w->in->r[i].t_ms < w->f->at_ms)
        i++;
    if (w->f->kind != INJECT_FROZEN || !next_run(w->in, w->f, i, &run))
        return i;
    return run.from + (run.to - run.from) / 2;
}

static int by_readings(struct work *w)
{
    const struct trace_reading *r = w->in->r;
    const size_t from = begin_reading(w);
    if (from >= w->in->count)
        return -ENOENT;
    const int whole = w->f->kind == INJECT_SPIKES || w->f->kind == INJECT_NEGATIVE;
    const int64_t end = whole ? INT64_MAX : r[from].t_ms + (int64_t)(w->f->hours * HOUR_MS);
    int64_t spike = r[from].t_ms;
    int rc = copy(w, 0, from);
    w->truth->from_ms = r[from].t_ms;
    w->truth->changed = 1;
    size_t i = from;
    for (; i < w->in->count && r[i].t_ms < end && !rc; i++) {
        float watts = r[i].watts;
        if (w->f->kind == INJECT_SILENT)
            continue;
        if (w->f->kind == INJECT_FROZEN)
            watts = r[from].watts;
        else if (w->f->kind == INJECT_LOAD)
            watts += (float)w->f->size;
        else if (w->f->kind == INJECT_NEGATIVE)
            watts = -watts;
        else if (r[i].t_ms >= spike) {
            watts = (float)w->f->size;
            spike += (int64_t)HOUR_MS;
        }
        rc = emit(w, i, watts);
    }
    if (i < w->in->count)
        w->truth->to_ms = r[i].t_ms;
    return rc ? rc : copy(w, i, w->in->count);
}

int inject_apply(const struct inject_series *in, const struct inject_fault *fault,
                 struct inject_series *out, struct inject_truth *truth)
{
    struct work w = {.in = in, .f = fault, .out = out, .truth = truth};
    *truth = (struct inject_truth){0};
    if (in->count == 0)
        return -ENOENT;
    truth->from_ms = truth->to_ms = in->r[in->count - 1].t_ms;
    if (fault->kind == INJECT_NONE)
        return copy(&w, 0, in->count);
    const int runs = fault->kind <= INJECT_DEAD;
    int rc = runs ? by_runs(&w) : by_readings(&w);
    if (rc == 0 && truth->changed == 0)
        rc = -ENOENT;
    return rc;
}
