/* place_teach.c - lessons: a person's list against what was kept of a meter. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/place_live_impl.h"
#include "storage/history.h"

#define DAY_MS 86400000
#define RUNS 10000        /* of one appliance in the history of 15 days, at most */
#define UNSAID_MS 60000   /* a run whose end nobody said */
#define AROUND_MS 1800000 /* pulses about a run that is corrected */

/* ---- what was kept ---- */

void place_hour_init(struct place_hour *h)
{
    for (int i = 0; i < PLACE_HOUR_CELLS; i++)
        h->watts[i] = NAN;
    h->pulse_count = 0;
}

void place_hour_decode(const void *data, size_t size, struct place_hour *out)
{
    const size_t cells = place_hour_bytes(0), count = (size - cells) / sizeof out->pulses[0];
    place_hour_init(out);
    if (size < cells || count > PLACE_HOUR_PULSES || size != place_hour_bytes((uint32_t)count))
        return;
    memcpy(out->watts, data, cells);
    memcpy(out->pulses, (const char *)data + cells, count * sizeof out->pulses[0]);
    for (uint32_t i = 0; i < count; i++) {
        const struct place_kept_pulse k = out->pulses[i];
        if (k.end_ms >= 0 && k.end_ms < 2 * PLACE_HOUR_MS && k.length_ms > 0 &&
            k.length_ms <= 2 * PLACE_PULSE_MOST_MS && isfinite(k.watts) &&
            k.watts >= PLACE_PULSE_LEAST_W / 2)
            out->pulses[out->pulse_count++] = k;
    }
}

int place_live_read_proto(struct store *s, const char *meter, const char *appliance,
                          struct place_proto *out)
{
    struct proto_block b;
    int rc = places_get_habit(s, meter, appliance, &b, sizeof b);
    if (rc != (int)sizeof b || b.magic != PLACE_PROTO_MAGIC || b.size != sizeof b ||
        place_proto_check(&b.proto) < 0 || strcmp(b.proto.name, appliance) != 0)
        return -ENOENT;
    *out = b.proto;
    return 0;
}

static int put_proto(struct store *s, const char *meter, const struct place_proto *p)
{
    struct proto_block b = {.magic = PLACE_PROTO_MAGIC, .size = sizeof b, .proto = *p};
    int rc = places_put_habit(s, meter, p->name, &b, sizeof b);
    return rc < 0 ? rc : 0;
}

static int next_version(struct store *s)
{
    int64_t version = 0;
    int rc = store_get(s, PLACE_LIVE_VERSION, &version);
    return rc == -ENOENT || rc == 0 ? store_set(s, PLACE_LIVE_VERSION, version + 1) : rc;
}

struct recording {
    float *watts; /* [hours][PLACE_HOUR_CELLS] */
    int64_t first_hour, hours;
    int64_t newest; /* first pass */
    struct place_pulse *pulses;
    size_t pulse_count;
    size_t said_from, said_count; /* of the pulses: those of the stretch that a list is about */
};

static int note_newest(void *context, int64_t hour, const void *data, size_t size)
{
    (void)data;
    (void)size;
    ((struct recording *)context)->newest = hour;
    return 0;
}

static int take_hour(void *context, int64_t hour, const void *data, size_t size)
{
    struct recording *r = context;
    struct place_hour h;
    if (hour < r->first_hour || hour - r->first_hour >= r->hours)
        return 0;
    place_hour_decode(data, size, &h);
    memcpy(r->watts + (hour - r->first_hour) * PLACE_HOUR_CELLS, h.watts, sizeof h.watts);
    for (uint32_t i = 0; i < h.pulse_count; i++) {
        const int64_t end_ms = hour * PLACE_HOUR_MS + h.pulses[i].end_ms;
        r->pulses[r->pulse_count++] =
            (struct place_pulse){end_ms - h.pulses[i].length_ms, end_ms, h.pulses[i].watts};
    }
    return 0;
}

static void free_recording(struct recording *r)
{
    free(r->watts);
    free(r->pulses);
}

/* Hours [first, last] of a meter; cells that are not there are NAN. */
static int load_hours(struct store *s, const char *meter, int64_t first, int64_t last,
                      struct recording *r)
{
    r->first_hour = first;
    r->hours = last - first + 1;
    r->watts = malloc((size_t)r->hours * PLACE_HOUR_CELLS * sizeof *r->watts);
    r->pulses = calloc((size_t)r->hours * PLACE_HOUR_PULSES, sizeof *r->pulses);
    if (!r->watts || !r->pulses)
        return -ENOMEM;
    for (int64_t i = 0; i < r->hours * PLACE_HOUR_CELLS; i++)
        r->watts[i] = NAN;
    int rc = places_list_cells(s, meter, first, last + 1, take_hour, r);
    return rc < 0 ? rc : 0;
}

static int load_days(struct store *s, const char *meter, struct recording *r)
{
    int rc = places_list_cells(s, meter, 0, INT64_MAX, note_newest, r);
    if (rc <= 0)
        return rc < 0 ? rc : -ENODATA;
    return load_hours(s, meter, r->newest - PLACE_STORE_HOURS + 1, r->newest, r);
}

/* ---- the stretch that a list is about ---- */

/* From the day of the first run to that of the last. Outside of it the person has said nothing. */
static struct place_said said_stretch(const struct place_live_run *runs, size_t count)
{
    int64_t from = INT64_MAX, to = INT64_MIN;
    for (size_t i = 0; i < count; i++) {
        int64_t start = runs[i].run.start_ms, end = runs[i].run.end_ms;
        end = end > start ? end : start;
        from = start > 0 && start < from ? start : from;
        to = end > to ? end : to;
    }
    return (struct place_said){from / DAY_MS * DAY_MS, (to / DAY_MS + 1) * DAY_MS};
}

static struct place_switch_cells cells_of(const struct recording *r, const struct place_said *days)
{
    const int64_t first_ms = r->first_hour * PLACE_HOUR_MS, cells = r->hours * PLACE_HOUR_CELLS;
    int64_t a = (days->start_ms - first_ms) / PLACE_LIVE_PERIOD_MS,
            b = (days->end_ms - first_ms) / PLACE_LIVE_PERIOD_MS;
    a = a < 0 ? 0 : a > cells ? cells : a;
    b = b < a ? a : b > cells ? cells : b;
    return (struct place_switch_cells){first_ms + a * PLACE_LIVE_PERIOD_MS, PLACE_LIVE_PERIOD_MS,
                                       (size_t)(b - a), r->watts + a};
}

/* Which of the pulses are of these days. */
static void choose_days(struct recording *r, const struct place_said *days)
{
    size_t to = r->pulse_count;
    r->said_from = 0;
    while (r->said_from < to && r->pulses[r->said_from].end_ms < days->start_ms)
        r->said_from++;
    while (to > r->said_from && r->pulses[to - 1].start_ms >= days->end_ms)
        to--;
    r->said_count = to - r->said_from;
}

/* ---- backwards ---- */

struct renaming {
    const struct place_said *run;
    const char *name;
    int64_t id; /* 0: none */
};

/* The run of the history that is this one, and called otherwise. */
static int find_same(void *context, const struct history_run *run)
{
    struct renaming *r = context;
    int64_t from = run->start_ms > r->run->start_ms ? run->start_ms : r->run->start_ms;
    int64_t to = run->end_ms < r->run->end_ms ? run->end_ms : r->run->end_ms;
    int64_t a = run->end_ms - run->start_ms, b = r->run->end_ms - r->run->start_ms;
    if (2 * (to - from) < (a > b ? a : b))
        return 0;
    r->id = strcmp(run->appliance, r->name) != 0 ? run->id : 0;
    return 1;
}

/* Runs of the history that are of a prototype get its name: how many, or -errno. */
static int name_backwards(struct store *s, const char *meter, const struct place_proto *p,
                          const struct recording *r)
{
    struct place_said *runs = calloc(RUNS, sizeof *runs);
    int renamed = 0;
    int count = runs ? place_proto_runs(p, r->pulses, r->pulse_count, runs, RUNS) : -ENOMEM;
    for (int i = 0; i < count; i++) {
        struct renaming same = {.run = &runs[i], .name = p->name};
        const int64_t length = runs[i].end_ms - runs[i].start_ms;
        int rc = history_list(s, runs[i].start_ms - length, runs[i].end_ms, meter, NULL, RUNS,
                              find_same, &same);
        if (rc >= 0 && same.id)
            rc = history_label(s, same.id, p->name);
        if (rc < 0) {
            free(runs);
            return rc;
        }
        renamed += same.id != 0;
    }
    free(runs);
    return count < 0 ? count : renamed;
}

/* ---- machines ---- */

static int teach_machine(struct store *s, const char *meter, const char *appliance,
                         const struct place_switch_cells *cells,
                         const struct place_switch_background *background,
                         const struct place_live_run *runs, size_t count)
{
    struct place_switch_run *own = calloc(count, sizeof *own);
    struct habit_block b = {.magic = PLACE_HABIT_MAGIC, .size = sizeof b};
    size_t n = 0;
    if (!own)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        if (strcmp(runs[i].appliance, appliance) == 0)
            own[n++] = runs[i].run;
    int rc = place_switch_learn(cells, background, own, n, &b.habit);
    free(own);
    if (rc < 0)
        return rc == -ENODATA ? 0 : rc;
    rc = places_put_habit(s, meter, appliance, &b, sizeof b);
    return rc < 0 ? rc : 1;
}

/* ---- appliances ---- */

struct found {
    struct place_said *runs; /* [RUNS] */
    size_t count;
};

static int take_run(void *context, const struct history_run *run)
{
    struct found *f = context;
    if (run->end_ms > run->start_ms && f->count < RUNS)
        f->runs[f->count++] = (struct place_said){run->start_ms, run->end_ms};
    return f->count == RUNS;
}

/* 1: learned; 0: nothing that holds, and the meter never spoke of it; -ENODATA: it did. *renamed:
 * runs of the history. */
static int teach_appliance(struct store *s, const char *meter, const char *appliance,
                           const struct recording *r, const struct place_said *days,
                           const struct place_live_run *runs, size_t count, int *renamed)
{
    struct place_proto p, before;
    struct place_said *said = calloc(count, sizeof *said);
    struct found found = {.runs = calloc(RUNS, sizeof *found.runs)};
    const int known = place_live_read_proto(s, meter, appliance, &before) == 0;
    size_t n = 0;
    int rc = said && found.runs ? 0 : -ENOMEM;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        const struct place_switch_run *run = &runs[i].run;
        if (strcmp(runs[i].appliance, appliance) == 0)
            said[n++] = (struct place_said){run->start_ms, run->end_ms > run->start_ms
                                                               ? run->end_ms
                                                               : run->start_ms + UNSAID_MS};
    }
    if (rc == 0)
        rc = history_list(s, days->start_ms - DAY_MS, days->end_ms, meter, appliance, RUNS,
                          take_run, &found);
    if (rc >= 0)
        rc = place_proto_learn(appliance, r->pulses + r->said_from, r->said_count, said, n,
                               found.runs, found.count, known ? &before : NULL,
                               (r->first_hour + r->hours) * PLACE_HOUR_MS, &p);
    if (rc == -ENODATA && found.count == 0)
        rc = 0;
    else if (rc == 0 && (rc = put_proto(s, meter, &p)) == 0) {
        rc = name_backwards(s, meter, &p, r);
        *renamed += rc > 0 ? rc : 0;
        rc = rc < 0 ? rc : 1;
    }
    free(said);
    free(found.runs);
    return rc;
}

/* ---- a lesson ---- */

struct lesson {
    const char *meter;
    int mains;
    const struct place_live_run *runs;
    size_t count;
    struct recording recording;
    struct place_live_taught *taught;
};

static int teach_all(struct store *s, struct lesson *l)
{
    struct background_block b = {.magic = PLACE_HABIT_MAGIC, .size = sizeof b};
    const struct place_said days = said_stretch(l->runs, l->count);
    const struct place_switch_cells cells = cells_of(&l->recording, &days);
    int rc = place_switch_learn_background(&cells, &b.background);
    choose_days(&l->recording, &days);
    if (rc == 0)
        rc = places_put_habit(s, l->meter, "", &b, sizeof b);
    for (size_t i = 0; rc >= 0 && i < l->count; i++) {
        const char *name = l->runs[i].appliance;
        size_t first = 0;
        while (strcmp(l->runs[first].appliance, name) != 0)
            first++;
        if (first != i)
            continue;
        int own = l->mains ? teach_appliance(s, l->meter, name, &l->recording, &days, l->runs,
                                             l->count, &l->taught->runs)
                           : 0;
        l->taught->appliances += own > 0;
        rc = own == -ENODATA ? 0 : own;
        if (own == 0) {
            rc = teach_machine(s, l->meter, name, &cells, &b.background, l->runs, l->count);
            l->taught->machines += rc > 0;
        }
    }
    return rc < 0 ? rc : next_version(s);
}

int place_live_teach(struct store *store, const char *meter, int mains,
                     const struct place_live_run *runs, size_t count,
                     struct place_live_taught *taught, char *why, size_t why_size)
{
    struct lesson l = {
        .meter = meter, .mains = mains, .runs = runs, .count = count, .taught = taught};
    memset(taught, 0, sizeof *taught);
    int rc = store_begin(store);
    if (rc == 0)
        rc = count ? load_days(store, meter, &l.recording) : -ENODATA;
    if (rc == 0)
        rc = teach_all(store, &l);
    free_recording(&l.recording);
    if (rc >= 0) {
        rc = store_commit(store);
    } else {
        snprintf(why, why_size, "%s",
                 rc == -ENODATA ? "no runs in the list, or too little is kept of the meter's power "
                                  "in the days that they are of"
                 : rc == -ENOMEM ? "out of memory"
                                 : store_error(store));
        store_rollback(store);
        return rc;
    }
    if (rc < 0)
        snprintf(why, why_size, "%s", store_error(store));
    return rc < 0 ? rc : 0;
}

/* What the history has by a name in the days that are kept: a lesson. */
static int learn_named(struct store *s, const char *meter, const char *name,
                       const struct recording *r, struct place_proto *out)
{
    struct found found = {.runs = calloc(RUNS, sizeof *found.runs)};
    struct place_live_run days[2];
    int rc = found.runs ? history_list(s, r->first_hour * PLACE_HOUR_MS, INT64_MAX, meter, name,
                                       RUNS, take_run, &found)
                        : -ENOMEM;
    if (rc >= 0 && found.count == 0)
        rc = -ENODATA;
    if (rc >= 0) { /* newest first */
        struct recording said = *r;
        days[0].run = (struct place_switch_run){found.runs[found.count - 1].start_ms, 0};
        days[1].run = (struct place_switch_run){found.runs[0].start_ms, 0};
        const struct place_said stretch = said_stretch(days, 2);
        choose_days(&said, &stretch);
        rc = place_proto_learn(name, said.pulses + said.said_from, said.said_count, found.runs,
                               found.count, NULL, 0, NULL, 0, out);
    }
    free(found.runs);
    return rc == 0 && !out->pulses ? -ENODATA : rc;
}

int place_live_name(struct store *store, const char *meter, const char *from, const char *name,
                    int *runs)
{
    struct recording r = {.watts = NULL};
    struct place_proto p, old;
    const int had = place_live_read_proto(store, meter, from, &old) == 0;
    int rc = had ? places_forget_habit(store, meter, from) : 0;
    if (rc == 0)
        rc = load_days(store, meter, &r);
    if (rc == 0)
        rc = learn_named(store, meter, name, &r, &p);
    if (rc == -ENODATA && had) {
        p = old;
        snprintf(p.name, sizeof p.name, "%s", name);
        rc = 0;
    }
    if (rc == 0)
        rc = put_proto(store, meter, &p);
    if (rc == 0)
        rc = name_backwards(store, meter, &p, &r);
    free_recording(&r);
    if (rc == -ENODATA || rc == -ENOSPC) /* its cluster alone stands for it */
        return 0;
    *runs += rc > 0 ? rc : 0;
    return rc < 0 ? rc : next_version(store);
}

int place_live_correct(struct store *store, const char *meter, int64_t start_ms, int64_t end_ms,
                       const char *from, const char *to)
{
    const char *const names[2] = {from, to};
    struct recording r = {.watts = NULL};
    struct place_proto p;
    int changed = 0, rc = 0;
    for (int right = 0; right < 2 && rc == 0; right++) {
        if (place_live_read_proto(store, meter, names[right], &p) < 0 || !p.pulses)
            continue;
        if (!r.watts)
            rc = load_hours(store, meter, (start_ms - AROUND_MS) / PLACE_HOUR_MS,
                            (end_ms + AROUND_MS) / PLACE_HOUR_MS, &r);
        if (rc < 0 || place_proto_correct(&p, r.pulses, r.pulse_count, start_ms, end_ms, right) < 0)
            continue;
        rc = put_proto(store, meter, &p);
        changed = 1;
    }
    free_recording(&r);
    return rc == 0 && changed ? next_version(store) : rc;
}
