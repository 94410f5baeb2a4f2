#include "agent/place_live.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/edges.h"
#include "agent/log.h"
#include "agent/place_live_impl.h"
#include "inference/resample.h"
#include "storage/history.h"

#define MAX_GAP_MS 120000
#define HEATING_HOURS 8 /* no program is longer */

struct machine {
    char appliance[EVENT_NAME_BYTES];
    char meter[EVENT_NAME_BYTES]; /* that it is told as */
    struct place_switch habit;
    struct place_switch_state state;
};

struct place_live {
    struct store *store;
    char meter[EVENT_NAME_BYTES];
    enum event_quality quality;
    struct outcome_sink sink;
    struct resample grid;
    struct place_switch_window window;
    int64_t cell_ms; /* of the newest in the window; 0: none */
    int64_t hour;    /* that cells are collected of; 0: none */
    struct place_hour kept;
    struct edges_zero zero;
    struct place_pulses pulses;
    struct place_house house;
    int64_t version; /* of the habits that were read */
    int has_background, machine_count;
    struct place_switch_background background;
    struct machine machines[PLACES_HABITS_MAX];
    struct outcome outcome; /* being put together */
};

/* --- what is in the store --- */

static int read_background(struct store *s, const char *meter, struct place_switch_background *out)
{
    struct background_block b;
    int rc = places_get_habit(s, meter, "", &b, sizeof b);
    if (rc != (int)sizeof b || b.magic != PLACE_HABIT_MAGIC || b.size != sizeof b ||
        place_switch_check_background(&b.background) < 0 ||
        b.background.period_ms != PLACE_LIVE_PERIOD_MS)
        return -ENOENT;
    *out = b.background;
    return 0;
}

/* One that was learned by UTC is kept by local time from now on, as the clocks stand at now_ms: it
 * must not move with each summer time. */
static int read_habit(struct store *s, const char *meter, const char *appliance, int64_t now_ms,
                      struct place_switch *out)
{
    struct habit_block b;
    int rc = places_get_habit(s, meter, appliance, &b, sizeof b);
    if (rc != (int)sizeof b || b.magic != PLACE_HABIT_MAGIC || b.size != sizeof b ||
        place_switch_check(&b.habit) < 0)
        return -ENOENT;
    if (!b.habit.local) {
        place_switch_use_local(&b.habit, now_ms);
        if (places_put_habit(s, meter, appliance, &b, sizeof b) < 0)
            log_warning("meter %s: times of %s cannot be kept: %s", meter, appliance,
                        store_error(s));
    }
    *out = b.habit;
    return 0;
}

static int note_machine(void *context, const char *appliance)
{
    struct place_live *l = context;
    if (l->machine_count < PLACES_HABITS_MAX)
        snprintf(l->machines[l->machine_count++].appliance, EVENT_NAME_BYTES, "%s", appliance);
    return 0;
}

/* Whether the last run of a machine is still open, and when it began and ended. 0: none. */
struct last_run {
    int64_t start_ms, end_ms;
};

static int note_run(void *context, const struct history_run *run)
{
    *(struct last_run *)context = (struct last_run){run->start_ms, run->end_ms};
    return 1;
}

static struct last_run last_run_of(struct place_live *l, const struct machine *m)
{
    struct last_run last = {0, 0};
    history_list(l->store, 0, INT64_MAX, m->meter, NULL, 1, note_run, &last);
    return last;
}

/* METER.APPLIANCE, as far as a topic's level can say it: a meter has one run at a time, a feed has
 * several machines. */
static void name_meter(const char *feed, const char *appliance, char out[EVENT_NAME_BYTES])
{
    char name[2 * EVENT_NAME_BYTES];
    snprintf(name, sizeof name, "%s.%s", feed, appliance);
    name[EVENT_NAME_BYTES - 1] = '\0';
    for (char *p = name; *p; p++) {
        int fits = (*p >= '0' && *p <= '9') || (*p >= 'A' && *p <= 'Z') ||
                   (*p >= 'a' && *p <= 'z') || *p == '.' || *p == '_' || *p == '-';
        *p = fits ? *p : '_';
    }
    memcpy(out, name, EVENT_NAME_BYTES);
}

/* Heatings of the last hours that are in the store, for programs that were going on
 * (place_house.h).
 */
static int take_heatings(void *context, int64_t hour, const void *data, size_t size)
{
    struct place_house *h = context;
    struct place_hour kept;
    place_hour_decode(data, size, &kept);
    for (uint32_t i = 0; i < kept.pulse_count; i++) {
        const int64_t end_ms = hour * PLACE_HOUR_MS + kept.pulses[i].end_ms;
        const struct place_pulse p = {end_ms - kept.pulses[i].length_ms, end_ms,
                                      kept.pulses[i].watts};
        if (!place_is_heating(&p))
            continue;
        if (h->earlier_count == PLACE_HOUSE_LONG)
            memmove(h->earlier, h->earlier + 1, (size_t)--h->earlier_count * sizeof p);
        h->earlier[h->earlier_count++] = p;
    }
    return 0;
}

static int note_hour(void *context, int64_t hour, const void *data, size_t size)
{
    (void)data;
    (void)size;
    *(int64_t *)context = hour;
    return 0;
}

/* Returns the newest hour in the store; 0: none. */
static int64_t read_heatings(struct place_live *l)
{
    int64_t newest = 0;
    l->house.earlier_count = 0;
    if (places_list_cells(l->store, l->meter, 0, INT64_MAX, note_hour, &newest) > 0)
        places_list_cells(l->store, l->meter, newest - HEATING_HOURS, newest + 1, take_heatings,
                          &l->house);
    return newest;
}

/* Somebody has taught; beliefs begin anew, from what the history has. */
static void read_habits(struct place_live *l)
{
    int64_t version = 0;
    if (store_get(l->store, PLACE_LIVE_VERSION, &version) < 0 || version == l->version)
        return;
    l->version = version;
    l->machine_count = 0;
    l->house.count = 0;
    l->house.version = (uint32_t)version + 1;
    const int64_t now_ms = read_heatings(l) * PLACE_HOUR_MS;
    l->has_background = read_background(l->store, l->meter, &l->background) == 0;
    if (places_list_habits(l->store, l->meter, note_machine, l) < 0)
        l->machine_count = 0;
    for (int i = 0; i < l->machine_count; i++) {
        struct machine *m = &l->machines[i];
        memset(&m->state, 0, sizeof m->state);
        name_meter(l->meter, m->appliance, m->meter);
        if (place_live_read_proto(l->store, l->meter, m->appliance,
                                  &l->house.protos[l->house.count]) == 0)
            l->house.count++;
        if (!l->has_background ||
            read_habit(l->store, l->meter, m->appliance, now_ms, &m->habit) < 0) {
            l->machines[i--] = l->machines[--l->machine_count];
            continue;
        }
        struct last_run last = last_run_of(l, m);
        if (last.start_ms && !last.end_ms)
            place_switch_begin_on(&m->state);
    }
}

/* --- switchings --- */

static struct event *begin_event(struct place_live *l, const char *appliance, int64_t time_ms)
{
    struct event *e = &l->outcome.events[l->outcome.event_count++];
    memset(e, 0, sizeof *e);
    e->type = EVENT_ON;
    snprintf(e->appliance, sizeof e->appliance, "%s", appliance);
    e->quality = l->quality;
    e->time_ms = e->start_ms = time_ms;
    return e;
}

static void begin_outcome(struct place_live *l, const struct machine *m)
{
    struct outcome *o = &l->outcome;
    o->meter = m->meter;
    o->progress_ms = 0;
    o->event_count = o->alert_count = o->has_routine = o->hour_count = 0;
    o->state = NULL;
    o->state_bytes = 0;
}

static void tell(struct place_live *l, const struct machine *m, int on, int64_t when_ms)
{
    struct last_run last = last_run_of(l, m);
    /* Readings of a recording come again after a restart: what was told then is in the history. */
    if (on ? last.start_ms >= when_ms || last.end_ms > when_ms
           : last.start_ms == 0 || last.end_ms != 0 || last.start_ms >= when_ms)
        return;
    begin_outcome(l, m);
    struct event *e = begin_event(l, m->appliance, on ? when_ms : last.start_ms);
    e->confidence = 0.5;
    if (!on) { /* power and energy: not known, several machines may have switched together */
        e->type = EVENT_OFF;
        e->time_ms = e->end_ms = when_ms;
        snprintf(e->end_reason, sizeof e->end_reason, "off");
    }
    l->sink.commit(l->sink.context, &l->outcome);
}

static void keep_hour(struct place_live *l)
{
    if (l->hour && places_put_cells(l->store, l->meter, l->hour, &l->kept,
                                    place_hour_bytes(l->kept.pulse_count)) < 0)
        log_warning("meter %s: an hour of its power cannot be kept: %s", l->meter,
                    store_error(l->store));
}

static int take_stored(void *context, int64_t hour, const void *data, size_t size)
{
    (void)hour;
    place_hour_decode(data, size, context);
    return 1;
}

/* What an earlier life has kept of the hour stays. */
static void begin_hour(struct place_live *l, int64_t hour)
{
    l->hour = hour;
    place_hour_init(&l->kept);
    places_list_cells(l->store, l->meter, hour, hour + 1, take_stored, &l->kept);
    read_habits(l);
}

/* In the hour in which it ended (a cell, and with it an hour, begins late), as far as there is
 * room.
 */
static void keep_pulse(struct place_live *l, const struct place_pulse *p)
{
    struct place_hour *h = &l->kept;
    const struct place_kept_pulse kept = {(int32_t)(p->end_ms - l->hour * PLACE_HOUR_MS),
                                          (int32_t)(p->end_ms - p->start_ms), p->watts};
    if (kept.end_ms < 0 || kept.end_ms >= PLACE_HOUR_MS + MAX_GAP_MS ||
        h->pulse_count == PLACE_HOUR_PULSES)
        return;
    for (uint32_t i = 0; i < h->pulse_count; i++)
        if (h->pulses[i].end_ms == kept.end_ms)
            return; /* readings of a recording come again after a restart */
    h->pulses[h->pulse_count++] = kept;
}

static void take_cell(struct place_live *l, int64_t t_ms, float watts)
{
    float change[PLACE_SWITCH_SCALES] = {0};
    if (t_ms / PLACE_HOUR_MS != l->hour) {
        keep_hour(l);
        begin_hour(l, t_ms / PLACE_HOUR_MS);
    }
    l->kept.watts[t_ms % PLACE_HOUR_MS / PLACE_LIVE_PERIOD_MS] = watts;
    int known = place_switch_push(&l->window, watts, change);
    for (int i = 0; i < l->machine_count; i++) {
        struct machine *m = &l->machines[i];
        int64_t at_ms = t_ms - (PLACE_SWITCH_REACH - 1) * (int64_t)PLACE_LIVE_PERIOD_MS, when_ms;
        int on;
        if (place_switch_step(&m->habit, &l->background, &m->state, at_ms, change, known, &on,
                              &when_ms))
            tell(l, m, on, when_ms);
    }
}

void place_live_reading(struct place_live *l, int64_t t_ms, float watts)
{
    struct resample_sample sample;
    struct place_pulse pulse;
    if (!l->store || t_ms <= 0 || resample_push(&l->grid, t_ms, watts) < 0)
        return;
    while (resample_next(&l->grid, &sample)) {
        /* Behind a long hole the grid begins anew: what was in the window is not next to it. */
        if (l->cell_ms && sample.t_ms != l->cell_ms + PLACE_LIVE_PERIOD_MS)
            l->window.filled = 0;
        l->cell_ms = sample.t_ms;
        take_cell(l, sample.t_ms, sample.mark == RESAMPLE_GAP ? NAN : sample.watts);
    }
    edges_note(&l->zero, t_ms, watts);
    if (!edges_left_out(&l->zero, t_ms, watts) &&
        place_pulses_push(&l->pulses, t_ms, watts, MAX_GAP_MS, &pulse) && l->hour)
        keep_pulse(l, &pulse);
}

void place_live_finish(struct place_live *l)
{
    if (l->store)
        keep_hour(l);
    for (int i = 0; l->store && i < PLACE_SWITCH_LOOKBACK + PLACE_SWITCH_REACH && l->cell_ms; i++) {
        /* What was seen is decided; nothing more is. */
        float change[PLACE_SWITCH_SCALES] = {0};
        int64_t at_ms =
            l->cell_ms + (i + 1 - (PLACE_SWITCH_REACH - 1)) * (int64_t)PLACE_LIVE_PERIOD_MS;
        for (int k = 0; k < l->machine_count; k++) {
            struct machine *m = &l->machines[k];
            int64_t when_ms;
            int on;
            if (place_switch_step(&m->habit, &l->background, &m->state, at_ms, change, 0, &on,
                                  &when_ms))
                tell(l, m, on, when_ms);
        }
    }
}

int place_live_create(struct store *store, const char *meter, enum event_quality quality,
                      const struct outcome_sink *sink, struct place_live **out)
{
    struct place_live *l = calloc(1, sizeof *l);
    *out = l;
    if (!l)
        return -ENOMEM;
    l->store = store;
    l->quality = quality;
    l->sink = *sink;
    l->version = -1;
    snprintf(l->meter, sizeof l->meter, "%s", meter);
    resample_init(&l->grid, PLACE_LIVE_PERIOD_MS, MAX_GAP_MS);
    if (store)
        read_habits(l);
    return 0;
}

void place_live_destroy(struct place_live *l)
{
    if (l && l->store)
        keep_hour(l);
    free(l);
}

void place_live_use_store(struct place_live *l, struct store *store)
{
    l->store = store;
    l->version = -1;
}

const struct place_house *place_live_house(const struct place_live *l)
{
    return &l->house;
}

void place_live_set_quality(struct place_live *l, enum event_quality quality)
{
    l->quality = quality;
}
