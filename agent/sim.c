/* sim.c - plans the days of a simulated appliance and reads its meter. */
#include "agent/sim.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/sim_shapes.h"

#define DAY_MS (24LL * 3600 * 1000)
#define RUNS_A_DAY 96
#define MAX_KINDS 32
#define LATEST_MS 253402300799000LL /* end of the year 9999 */
#define METER_STEP_W 2.14 /* the resolution of the meters that the shapes were taken from */

struct planned {
    int64_t start_ms, end_ms;
    uint64_t random;
    double factor; /* of power */
};

struct plan {
    int count;
    struct planned runs[RUNS_A_DAY];
};

struct sim {
    const struct sim_kind *kind;
    uint64_t seed;
    double level;
    int64_t day, t_ms; /* of the last reading */
    double last_w;
    struct sim_random noise; /* of the day: seeded anew at midnight */
    struct plan yesterday, today;
    int running;
    struct planned run;
    double energy_ws;
};

static const struct sim_kind *find(const char *name)
{
    for (int i = 0; name && i < sim_kind_count; i++) {
        if (!strcasecmp(name, sim_kinds[i].label) || !strcasecmp(name, sim_kinds[i].alias))
            return &sim_kinds[i];
    }
    return NULL;
}

const char *const *sim_appliances(void)
{
    static const char *names[MAX_KINDS + 1];
    for (int i = 0; i < sim_kind_count && i < MAX_KINDS; i++)
        names[i] = sim_kinds[i].label;
    return names;
}

const char *sim_label(const char *name)
{
    const struct sim_kind *k = find(name);
    return k ? k->label : NULL;
}

/* A random sequence for one purpose on one day of one appliance. */
static struct sim_random day_random(const struct sim *s, int64_t day, uint64_t purpose)
{
    struct sim_random r = {s->seed};
    uint64_t x = sim_random_next(&r);
    for (const char *p = s->kind->label; *p; p++)
        x = (x ^ (uint64_t)(unsigned char)*p) * 0x100000001b3ull; /* FNV-1a */
    r.state = x ^ ((uint64_t)day * 0xd6e8feb86659fd93ull) ^ (purpose << 56);
    sim_random_next(&r);
    return r;
}

/* Adds a run unless it would overlap the one before it. */
static void plan_run(struct plan *p, int64_t start_ms, double length_s, struct sim_random *r)
{
    struct planned run = {start_ms, start_ms + (int64_t)(length_s * 1000), sim_random_next(r), 1};
    if (p->count == RUNS_A_DAY)
        return;
    if (p->count && start_ms < p->runs[p->count - 1].end_ms + 180000)
        return;
    p->runs[p->count++] = run;
}

/* The last run of the plan goes wrong. */
static void plan_mishap(const struct sim_kind *k, struct plan *p, struct sim_random *r)
{
    int hit = sim_random_next(r) % 7 == 3;
    if (!hit || !p->count || k->mishap == SIM_NONE)
        return;
    struct planned *last = &p->runs[p->count - 1];
    if (k->mishap == SIM_WEAK)
        last->factor = k->mishap_factor;
    else
        last->end_ms =
            last->start_ms + (int64_t)((double)(last->end_ms - last->start_ms) * k->mishap_factor);
}

static void make_plan(const struct sim *s, int64_t day, struct plan *p)
{
    const struct sim_kind *k = s->kind;
    struct sim_random r = day_random(s, day, 1);
    int64_t midnight = day * DAY_MS;
    p->count = 0;
    if (!k->shape)
        return;
    if (k->pause_max_s > 0) {
        /* cycles keep clear of midnight by the longest mishap, so that days stay independent */
        double t = sim_random_range(&r, 300, 1500), end = 86400 - 900;
        if (k->mishap == SIM_LONG)
            end -= k->length_max_s * (k->mishap_factor - 1) / 4;
        while (t + k->length_max_s < end) {
            double length = sim_random_range(&r, k->length_min_s, k->length_max_s);
            plan_run(p, midnight + (int64_t)(t * 1000), length, &r);
            t += length + sim_random_range(&r, k->pause_min_s, k->pause_max_s);
        }
    } else {
        for (int i = 0; i < 8 && k->slots[i].probability > 0; i++) {
            double h = sim_random_range(&r, k->slots[i].from_h, k->slots[i].to_h);
            double length = sim_random_range(&r, k->length_min_s, k->length_max_s);
            if (sim_random_unit(&r) < k->slots[i].probability)
                plan_run(p, midnight + (int64_t)(h * 3600000), length, &r);
        }
    }
    plan_mishap(k, p, &r);
}

static void begin_day(struct sim *s, int64_t day)
{
    s->day = day;
    make_plan(s, day - 1, &s->yesterday);
    make_plan(s, day, &s->today);
    s->noise = day_random(s, day, 2);
    s->t_ms = day * DAY_MS - 1000;
}

static const struct planned *run_at(const struct plan *p, int64_t t_ms)
{
    for (int i = 0; i < p->count; i++) {
        if (t_ms >= p->runs[i].start_ms && t_ms < p->runs[i].end_ms)
            return &p->runs[i];
    }
    return NULL;
}

static double power(struct sim *s, const struct planned *run)
{
    double w = s->kind->standby_w;
    if (w > 0)
        w += sim_random_range(&s->noise, -0.8, 0.8);
    if (run) {
        struct sim_moment m = {
            .t_s = (double)(s->t_ms - run->start_ms) / 1000,
            .length_s = (double)(run->end_ms - run->start_ms) / 1000,
            .level = s->level,
            .run = run->random,
            .noise = &s->noise,
        };
        w += run->factor * s->kind->shape(&m);
    }
    return w <= 0 ? 0 : round(w / METER_STEP_W) * METER_STEP_W;
}

static int64_t next_time(struct sim *s)
{
    double step = sim_random_range(&s->noise, s->kind->step_min_s, s->kind->step_max_s + 1);
    int64_t midnight = s->day * DAY_MS;
    return s->t_ms < midnight ? midnight : s->t_ms + (int64_t)step * 1000;
}

int sim_create(const char *name, uint64_t seed, int64_t start_ms, struct sim **out)
{
    *out = NULL;
    const struct sim_kind *k = find(name);
    if (!k)
        return -ENOENT;
    if (start_ms < DAY_MS || start_ms > LATEST_MS)
        return -EINVAL;
    struct sim *s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    s->kind = k;
    s->seed = seed;
    int levels = 0;
    while (levels < 3 && k->levels[levels] > 0)
        levels++;
    struct sim_random r = day_random(s, 0, 3);
    if (levels)
        s->level = k->levels[sim_random_next(&r) % (uint64_t)levels];
    begin_day(s, start_ms / DAY_MS);
    /* walks from midnight up to the start: cheap, and the noise is then that of an earlier start */
    struct sim probe = *s;
    struct trace_reading reading;
    struct sim_run ended;
    do {
        *s = probe;
        sim_next(&probe, &reading, &ended);
    } while (reading.t_ms < start_ms);
    *out = s;
    return 0;
}

void sim_destroy(struct sim *s)
{
    free(s);
}

int sim_next(struct sim *s, struct trace_reading *out, struct sim_run *ended)
{
    int64_t before = s->t_ms, t = next_time(s);
    if (t >= (s->day + 1) * DAY_MS) { /* as if it had begun here: the day alone decides */
        begin_day(s, s->day + 1);
        t = next_time(s);
    }
    s->t_ms = t;
    const struct planned *run = run_at(&s->today, t);
    if (!run)
        run = run_at(&s->yesterday, t);
    double watts = power(s, run);
    int over = 0;
    if (s->running) {
        s->energy_ws += s->last_w * (double)(t - before) / 1000;
        if (!run || run->start_ms != s->run.start_ms) {
            *ended = (struct sim_run){s->run.start_ms, s->run.end_ms, s->energy_ws / 3600};
            s->running = 0;
            over = 1;
        }
    }
    if (run && !s->running) {
        s->running = 1;
        s->run = *run;
        s->energy_ws = 0;
    }
    s->last_w = watts;
    *out = (struct trace_reading){t, (float)watts};
    return over;
}
