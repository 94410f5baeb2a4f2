#include "agent/place_store.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/place_live.h"
#include "storage/history.h"
#include "storage/places.h"

#define MAGIC 0x31636c70u /* "plc1" */
#define PAGE 64
#define DAY_MS 86400000
#define SURE 1.0f /* a prototype this close overrules a name of the network */

struct block {
    uint32_t magic, size;
    struct place place;
};

_Static_assert(sizeof(struct block) <= PLACES_MAX_BYTES, "a place fits into its row");
_Static_assert(sizeof(struct place_point) <= PLACES_RUN_BYTES, "a point fits into its row");

/* A block that is damaged or of another version begins anew: the agent goes on. -ENOENT: none. */
static int load(struct store *s, const char *meter, struct block *b)
{
    int rc = places_get(s, meter, b, sizeof *b);
    if (rc == (int)sizeof *b && b->magic == MAGIC && b->size == sizeof *b &&
        place_check(&b->place) == 0)
        return 0;
    memset(b, 0, sizeof *b);
    b->magic = MAGIC;
    b->size = sizeof *b;
    place_init(&b->place);
    return rc < 0 && rc != -ENOENT && rc != -ENOSPC ? rc : -ENOENT;
}

static int save(struct store *s, const char *meter, const struct block *b)
{
    return places_put(s, meter, b, sizeof *b);
}

int place_store_read(struct store *s, const char *meter, struct place *out)
{
    struct block b;
    int rc = load(s, meter, &b);
    *out = b.place;
    return rc;
}

static int put_run(struct store *s, const char *meter, int64_t start_ms, uint32_t number,
                   const struct place_point *point)
{
    struct places_run run = {.start_ms = start_ms, .number = number, .bytes = sizeof *point};
    memcpy(run.data, point, sizeof *point);
    return places_put_run(s, meter, &run);
}

/* --- the history --- */

struct found {
    int64_t id;
};

static int first_id(void *context, const struct history_run *run)
{
    ((struct found *)context)->id = run->id;
    return 1;
}

/* The run of a meter that began then is called name. Runs that were trimmed are gone: 0. */
static int rename_run(struct store *s, const char *meter, int64_t start_ms, const char *name)
{
    struct found found = {0};
    int rc = history_list(s, start_ms, start_ms + 1, meter, NULL, 1, first_id, &found);
    if (rc <= 0)
        return rc;
    rc = history_label(s, found.id, name);
    return rc < 0 ? rc : 1;
}

/* All runs that were taken for a load. Returns how many. */
static int rename_all(struct store *s, const char *meter, uint32_t number, const char *name)
{
    struct places_run page[PAGE];
    int64_t after = INT64_MIN;
    int renamed = 0, count;
    do {
        count = places_runs_of(s, meter, number, after, page, PAGE);
        for (int i = 0; i < count; i++) {
            int rc = rename_run(s, meter, page[i].start_ms, name);
            if (rc < 0)
                return rc;
            renamed += rc;
            after = page[i].start_ms;
        }
    } while (count == PAGE);
    return count < 0 ? count : renamed;
}

/* --- runs as they end --- */

struct same_time {
    int64_t start_ms, end_ms;
    int found;
};

static int is_same_time(void *context, const struct history_run *run)
{
    struct same_time *t = context;
    if (run->start_ms == t->start_ms && run->end_ms == 0)
        return 0; /* this one, as it was called while it lasted */
    const int64_t end_ms = run->end_ms ? run->end_ms : t->end_ms;
    const int64_t from = run->start_ms > t->start_ms ? run->start_ms : t->start_ms;
    const int64_t to = end_ms < t->end_ms ? end_ms : t->end_ms;
    t->found = 2 * (to - from) > t->end_ms - t->start_ms;
    return t->found;
}

/* Whether the meter already has a run of that name at the time: what is left of its power is part
 * of it and no second one. 1, 0 or -errno. */
static int runs_already(struct store *s, const char *meter, const struct place_run *run,
                        const char *name)
{
    struct same_time t = {run->start_ms, run->start_ms + (int64_t)(1000 * run->duration_s), 0};
    int rc = history_list(s, run->start_ms - DAY_MS, t.end_ms, meter, name, PAGE, is_same_time, &t);
    return rc < 0 ? rc : t.found;
}

/* Learns from a run that nobody knows; name becomes what it is called. */
static int learn(struct store *s, const char *meter, struct block *b,
                 const struct place_point *point, const struct place_run *run, struct event *e)
{
    char label[PLACE_NAME_BYTES];
    uint32_t merged = 0;
    struct place_load *l = place_add(&b->place, point, run, &merged);
    if (!l)
        return 0;
    place_label(l, label);
    int rc = put_run(s, meter, run->start_ms, l->number, point);
    if (rc == 0 && merged)
        rc = places_move_runs(s, meter, merged, l->number);
    /* What it is called from now on, it was before. */
    if (rc >= 0 && strcmp(label, EVENT_UNKNOWN) != 0 && (merged || l->runs == PLACE_RECURS))
        rc = rename_all(s, meter, l->number, label);
    snprintf(e->appliance, sizeof e->appliance, "%s", label);
    return rc < 0 ? rc : 0;
}

int place_store_take(struct store *s, const char *meter, struct event *e)
{
    struct place_run run = {.start_ms = e->start_ms,
                            .duration_s = (double)(e->end_ms - e->start_ms) / 1000,
                            .energy_wh = e->energy_wh,
                            .peak_w = e->peak_w,
                            .up_w = e->up_w,
                            .down_w = e->down_w};
    const int unknown = strcmp(e->appliance, EVENT_UNKNOWN) == 0;
    struct place_point point;
    struct block b;
    float distance = 0;
    if (e->type != EVENT_OFF || place_point(&run, &point) < 0)
        return 0;
    int rc = load(s, meter, &b);
    if (rc < 0 && (rc != -ENOENT || !unknown))
        return rc == -ENOENT ? 0 : rc;
    struct place_load *named = place_find(&b.place, &point, 1, &distance);
    if (!unknown && (!named || distance > SURE || strcmp(named->name, e->appliance) == 0))
        return 0;
    if (named && (rc = runs_already(s, meter, &run, named->name)) != 0)
        return rc < 0 ? rc : 0;
    if (unknown) {
        rc = learn(s, meter, &b, &point, &run, e);
        if (rc == 0 && strncmp(e->appliance, EVENT_UNKNOWN, sizeof EVENT_UNKNOWN - 1) != 0)
            e->confidence = exp(-0.125 * (double)(distance * distance));
    } else {
        snprintf(e->appliance, sizeof e->appliance, "%s", named->name);
        e->confidence = exp(-0.125 * (double)(distance * distance));
        rc = put_run(s, meter, run.start_ms, named->number, &point);
    }
    return rc == 0 ? save(s, meter, &b) : rc;
}

/* --- a person's word --- */

struct search {
    char (*meters)[PLACES_NAME_BYTES];
    int count, room;
};

static int collect_meter(void *context, const char *meter)
{
    struct search *f = context;
    if (f->count < f->room)
        snprintf(f->meters[f->count++], PLACES_NAME_BYTES, "%s", meter);
    return 0;
}

static int has(const struct place *p, const char *label)
{
    uint32_t number = place_parse(label);
    for (int i = 0; i < PLACE_LOADS; i++) {
        const struct place_load *l = &p->loads[i];
        if (l->number && (number ? l->number == number : strcmp(l->name, label) == 0))
            return 1;
    }
    return 0;
}

/* The one meter with such a load. */
static int find_meter(struct store *s, const char *label, char *meter, char *why, size_t why_size)
{
    enum { METERS = 64 };
    char meters[METERS][PLACES_NAME_BYTES];
    struct search f = {.meters = meters, .room = METERS};
    struct block b;
    int matches = 0, rc = places_list(s, collect_meter, &f);
    for (int i = 0; rc >= 0 && i < f.count; i++) {
        if (load(s, meters[i], &b) < 0 || !has(&b.place, label))
            continue;
        if (matches++ == 0)
            memcpy(meter, meters[i], PLACES_NAME_BYTES);
    }
    if (rc < 0)
        snprintf(why, why_size, "%s", store_error(s));
    else if (matches == 0)
        snprintf(why, why_size, "no load is called \"%s\"", label);
    else if (matches > 1)
        snprintf(why, why_size, "%d meters have a load \"%s\": say which", matches, label);
    return rc < 0 ? rc : matches == 0 ? -ENOENT : matches > 1 ? -ENOTUNIQ : 0;
}

static int name_loads(struct store *s, const char *meter, const char *label, const char *name,
                      int *runs)
{
    uint32_t number = place_parse(label);
    struct block b;
    int rc = load(s, meter, &b), found = 0;
    for (int i = 0; rc == 0 && i < PLACE_LOADS; i++) {
        struct place_load *l = &b.place.loads[i];
        if (!l->number || (number ? l->number != number : strcmp(l->name, label) != 0))
            continue;
        snprintf(l->name, sizeof l->name, "%s", name);
        found = 1;
        int n = rename_all(s, meter, l->number, name);
        *runs += n > 0 ? n : 0;
        rc = n < 0 ? n : 0;
    }
    if (rc == 0 && !found)
        rc = -ENOENT;
    if (rc == 0)
        rc = save(s, meter, &b);
    return rc == 0 ? place_live_name(s, meter, label, name, runs) : rc;
}

static int finish(struct store *s, int rc, char *why, size_t why_size)
{
    if (rc < 0 && rc != -ENOENT && rc != -ENOSPC)
        snprintf(why, why_size, "%s", store_error(s));
    if (rc == 0) {
        rc = store_commit(s);
        if (rc < 0)
            snprintf(why, why_size, "%s", store_error(s));
    } else {
        store_rollback(s);
    }
    return rc;
}

static int begin(struct store *s, char *why, size_t why_size)
{
    int rc = store_begin(s);
    if (rc < 0)
        snprintf(why, why_size, "%s", store_error(s));
    return rc;
}

static int check_name(const char *name, char *why, size_t why_size)
{
    size_t n = strlen(name);
    int bad = n == 0 || n >= PLACE_NAME_BYTES || strcmp(name, EVENT_UNKNOWN) == 0 ||
              place_parse(name) != 0;
    for (const char *p = name; *p; p++)
        bad |= (unsigned char)*p < 32 || *p == 127;
    if (bad)
        snprintf(why, why_size,
                 "expected a name of 1 to %d bytes without control characters, not unknown",
                 PLACE_NAME_BYTES - 1);
    return bad ? -EINVAL : 0;
}

int place_store_name(struct store *s, const char *meter, const char *label, const char *name,
                     int *runs, char *why, size_t why_size)
{
    char found[PLACES_NAME_BYTES];
    *runs = 0;
    int rc = check_name(name, why, why_size);
    if (rc < 0 || (rc = begin(s, why, why_size)) < 0)
        return rc;
    if (!meter) {
        rc = find_meter(s, label, found, why, why_size);
        meter = found;
    }
    if (rc == 0) {
        rc = name_loads(s, meter, label, name, runs);
        if (rc == -ENOENT)
            snprintf(why, why_size, "meter %s has no load \"%s\"", meter, label);
    }
    if (rc == -ENOTUNIQ) {
        store_rollback(s);
        return rc;
    }
    return finish(s, rc, why, why_size);
}

/* The point of a finished run: as it was learned from, or what the history knows. */
static void point_of(const struct history_run *h, const struct places_run *known,
                     struct place_run *run, struct place_point *point)
{
    *run = (struct place_run){.start_ms = h->start_ms,
                              .duration_s = (double)(h->end_ms - h->start_ms) / 1000,
                              .energy_wh = h->energy_wh,
                              .peak_w = h->peak_w};
    if (known && known->bytes == sizeof *point) {
        memcpy(point, known->data, sizeof *point);
        int sound = point->hour < 24;
        for (int k = 0; k < PLACE_SIZES; k++)
            sound &= isfinite(point->x[k]) != 0;
        if (sound)
            return;
    }
    if (place_point(run, point) < 0)
        memset(point, 0, sizeof *point);
}

struct starts {
    int64_t ms[PAGE];
    int count;
};

static int note_start(void *context, const struct history_run *run)
{
    struct starts *f = context;
    f->ms[f->count++] = run->start_ms;
    return f->count == PAGE;
}

/* Single runs that were named are a list as well, as a load is that was named as a whole: once
 * there are enough, nothing was learned by that name before, and it is not the network that tells
 * most of it. */
static int learn_pulses(struct store *s, const char *meter, const char *name, int *runs)
{
    struct starts told = {.count = 0};
    struct places_run known;
    int own = 0;
    if (places_get_habit(s, meter, name, NULL, 0) != -ENOENT)
        return 0;
    int rc = history_list(s, 0, INT64_MAX, meter, name, PAGE, note_start, &told);
    for (int i = 0; rc >= 0 && i < told.count; i++)
        own += places_get_run(s, meter, told.ms[i], &known) == 0;
    if (rc < 0 || own < PLACE_HOUSE_LEAST || 2 * own < told.count)
        return rc < 0 ? rc : 0;
    return place_live_name(s, meter, name, name, runs);
}

static int correct(struct store *s, const struct history_run *h, const char *name, int *runs,
                   char *why, size_t why_size)
{
    struct places_run known;
    struct place_point point;
    struct place_run run;
    struct block b;
    int rc = load(s, h->meter, &b);
    if (rc < 0 && rc != -ENOENT)
        return rc;
    int has_load = places_get_run(s, h->meter, h->start_ms, &known) == 0;
    point_of(h, has_load ? &known : NULL, &run, &point);
    if (point.known) { /* without a duration there is nothing to learn; the name is corrected */
        struct place_load *from = has_load ? place_number(&b.place, known.number) : NULL;
        struct place_load *to = place_correct(&b.place, &point, &run, from, name);
        if (!to) {
            snprintf(why, why_size, "meter %s: %d loads have names: no room", h->meter,
                     PLACE_LOADS);
            return -ENOSPC;
        }
        rc = put_run(s, h->meter, h->start_ms, to->number, &point);
        if (rc == 0)
            rc = save(s, h->meter, &b);
        if (rc < 0)
            return rc;
    }
    rc = place_live_correct(s, h->meter, h->start_ms, h->end_ms, h->appliance, name);
    if (rc == 0)
        rc = history_label(s, h->id, name);
    return rc < 0 ? rc : learn_pulses(s, h->meter, name, runs);
}

int place_store_correct(struct store *s, int64_t run, const char *name, int *runs, char *why,
                        size_t why_size)
{
    struct history_run h;
    *runs = 1;
    int rc = check_name(name, why, why_size);
    if (rc < 0 || (rc = begin(s, why, why_size)) < 0)
        return rc;
    rc = history_read(s, run, &h);
    if (rc == -ENOENT)
        snprintf(why, why_size, "there is no run %lld", (long long)run);
    if (rc == 0 && h.end_ms == 0)
        rc = history_label(s, run, name); /* nothing to learn from yet */
    else if (rc == 0)
        rc = correct(s, &h, name, runs, why, why_size);
    return finish(s, rc, why, why_size);
}
