/* test_place_live.c - a feed with two machines through the store: kept in cells, taught from a
 * list, found afterwards, told once; prototypes of a house beside them (SPEC 7.4.4). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/calendar.h"
#include "agent/journal.h"
#include "agent/lib_folder.h"
#include "agent/place_live_impl.h"
#include "storage/history.h"
#include "storage/outbox.h"
#include "storage/places.h"

#define DAY 86400000LL
#define T0 (19700 * DAY)
#define STEP 10000 /* between readings */

static char why[512];
static uint64_t seed;

static double draw(void)
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return (double)((seed * 2685821657736338717u) >> 11) / 9007199254740992.0;
}

static const char *const names[2] = {"air handling", "pump"};

/* The machines' days: on at 6 and 8 o'clock, off at 15 and 18, up to 20 minutes off that. */
static struct place_switch_run plan(int machine, int day)
{
    static const double from[2] = {6, 8}, to[2] = {15, 18};
    seed = (uint64_t)(machine * 100 + day + 17) * 7919;
    for (int i = 0; i < 10; i++)
        draw();
    int64_t on = (int64_t)((from[machine] + (draw() - 0.5) * 0.6) * 3600000);
    int64_t off = (int64_t)((to[machine] + (draw() - 0.5) * 0.6) * 3600000);
    return (struct place_switch_run){T0 + day * DAY + on, T0 + day * DAY + off};
}

static void feed(struct place_live *l, int first, int last)
{
    static const double watts[2] = {2500, 6000};
    for (int day = first; day < last; day++) {
        struct place_switch_run runs[2] = {plan(0, day), plan(1, day)};
        seed = (uint64_t)(day + 3) * 104729;
        for (int64_t t = T0 + day * DAY; t < T0 + (day + 1) * DAY; t += STEP) {
            double w = 9000 + 200 * (draw() - 0.5);
            for (int m = 0; m < 2; m++)
                w += t >= runs[m].start_ms && t < runs[m].end_ms ? watts[m] : 0;
            place_live_reading(l, t, (float)w);
        }
    }
}

struct world {
    struct store *store;
    struct journal *journal;
    struct place_live *live;
};

static struct world open_world(void **state)
{
    struct world w;
    int64_t epoch;
    assert_int_equal(store_open(folder_path(state, "nilmd.db"), &w.store, NULL, why, sizeof why),
                     0);
    assert_int_equal(outbox_start(w.store, 1790000000, &epoch), 0);
    assert_int_equal(journal_create(w.store, NULL, NULL, &w.journal), 0);
    const struct outcome_sink sink = journal_sink(w.journal);
    assert_int_equal(place_live_create(w.store, "feed", EVENT_TRACE, &sink, &w.live), 0);
    return w;
}

static void close_world(struct world *w)
{
    place_live_destroy(w->live);
    journal_destroy(w->journal);
    store_close(w->store);
}

static int teach(struct world *w, int days)
{
    struct place_live_run lesson[64];
    size_t count = 0;
    for (int day = 0; day < days; day++) {
        for (int m = 0; m < 2; m++) {
            lesson[count].run = plan(m, day);
            snprintf(lesson[count++].appliance, EVENT_NAME_BYTES, "%s", names[m]);
        }
    }
    struct place_live_taught taught;
    int rc = place_live_teach(w->store, "feed", 0, lesson, count, &taught, why, sizeof why);
    return rc < 0 ? rc : taught.machines;
}

struct list {
    struct history_run runs[64];
    int count;
};

static int collect(void *context, const struct history_run *run)
{
    struct list *l = context;
    l->runs[l->count++] = *run;
    return l->count == 64;
}

/* Runs of the days first to last - 1 as they were, told once each. */
static void expect_days(struct world *w, int machine, const char *meter, int first, int last)
{
    static struct list list;
    list.count = 0;
    assert_true(history_list(w->store, 0, INT64_MAX, meter, NULL, 64, collect, &list) >= 0);
    assert_int_equal(list.count, last - first);
    for (int i = 0; i < list.count; i++) {
        const struct history_run *r = &list.runs[i]; /* newest first */
        struct place_switch_run truth = plan(machine, last - 1 - i);
        assert_string_equal(r->appliance, names[machine]);
        assert_true(llabs(r->start_ms - truth.start_ms) <= 5 * 60000);
        assert_true(llabs(r->end_ms - truth.end_ms) <= 5 * 60000);
    }
}

static void taught_and_found(void **state)
{
    struct world w = open_world(state);
    feed(w.live, 0, 5);
    assert_int_equal(teach(&w, 5), 2);
    feed(w.live, 5, 9); /* the agent notices by itself */
    expect_days(&w, 0, "feed.air_handling", 5, 9);
    expect_days(&w, 1, "feed.pump", 5, 9);
    struct outbox_stats stats;
    assert_int_equal(outbox_statistics(w.store, &stats), 0);
    assert_int_equal(stats.events, 16); /* two machines, four days, on and off */

    /* A recording is read again from where its habits are known: nothing is told twice. */
    close_world(&w);
    w = open_world(state);
    feed(w.live, 5, 10);
    expect_days(&w, 0, "feed.air_handling", 5, 10);
    expect_days(&w, 1, "feed.pump", 5, 10);
    assert_int_equal(outbox_statistics(w.store, &stats), 0);
    assert_int_equal(stats.events, 20);
    close_world(&w);
}

static void a_restart_in_a_run(void **state)
{
    struct world w = open_world(state);
    feed(w.live, 0, 5);
    assert_int_equal(teach(&w, 5), 2);
    struct place_switch_run run = plan(0, 5);
    seed = 99;
    int stopped = 0;
    for (int64_t t = T0 + 5 * DAY; t < T0 + 6 * DAY; t += STEP) {
        double watts = 9000 + 200 * (draw() - 0.5);
        watts += t >= run.start_ms && t < run.end_ms ? 2500 : 0;
        if (!stopped && t > run.start_ms + 4 * 3600000) {
            close_world(&w);
            w = open_world(state);
            stopped = 1;
        }
        place_live_reading(w.live, t, (float)watts);
    }
    expect_days(&w, 0, "feed.air_handling", 5, 6);
    close_world(&w);
}

static void read_block(struct world *w, struct habit_block *b)
{
    assert_int_equal(places_get_habit(w->store, "feed", "pump", b, sizeof *b), sizeof *b);
}

/* Times of the day that an earlier version learned by UTC are local ones after the next start. */
static void habits_of_an_earlier_version(void **state)
{
    struct world w = open_world(state);
    struct habit_block was, is;
    feed(w.live, 0, 5);
    assert_int_equal(teach(&w, 5), 2);
    read_block(&w, &was);
    assert_int_equal(was.habit.local, 1);
    was.habit.local = 0;
    assert_int_equal(places_put_habit(w.store, "feed", "pump", &was, sizeof was), 0);
    close_world(&w);
    assert_int_equal(calendar_use("UTC-5:30"), 0); /* as in India */
    w = open_world(state);
    read_block(&w, &is);
    assert_int_equal(is.habit.local, 1);
    for (int i = 0; i < PLACE_SWITCH_SLOTS; i++)
        assert_true(is.habit.start.log_rate[(i + 22) % PLACE_SWITCH_SLOTS] ==
                    was.habit.start.log_rate[i]);
    close_world(&w);
    assert_int_equal(calendar_use("UTC"), 0);
    w = open_world(state); /* once */
    read_block(&w, &was);
    assert_memory_equal(&was, &is, sizeof is);
    close_world(&w);
}

static void what_cannot_be_taught(void **state)
{
    struct world w = open_world(state);
    assert_int_equal(teach(&w, 5), -ENODATA); /* nothing was read yet */
    feed(w.live, 0, 4);
    struct place_live_taught taught;
    assert_int_equal(teach(&w, 2), 0); /* too few runs */
    assert_int_equal(place_live_teach(w.store, "feed", 0, NULL, 0, &taught, why, sizeof why),
                     -ENODATA);
    assert_int_equal(place_live_teach(w.store, "other", 0, NULL, 0, &taught, why, sizeof why),
                     -ENODATA);
    /* Bytes of another version are not used. */
    assert_int_equal(teach(&w, 4), 2);
    assert_int_equal(places_put_habit(w.store, "feed", "pump", "rubbish", 7), 0);
    close_world(&w);
    w = open_world(state);
    feed(w.live, 4, 6);
    static struct list list;
    list.count = 0;
    history_list(w.store, 0, INT64_MAX, "feed.pump", NULL, 64, collect, &list);
    assert_int_equal(list.count, 0);
    expect_days(&w, 0, "feed.air_handling", 4, 6);
    close_world(&w);
}

/* --- appliances of a house: an oven that pulses in the evening, a toaster as strong in the morning
 * --- */

enum { OVEN = 0, TOASTER = 1 };
static const char *const appliances[2] = {"Oven", "Toaster"};

static struct place_switch_run meal(int which, int day)
{
    const int64_t start = T0 + day * DAY + (which == OVEN ? 17 : 7) * 3600000LL + day * 410000;
    return (struct place_switch_run){start, start + (which == OVEN ? 100000 : 120000)};
}

static double eaten(int64_t t)
{
    const int day = (int)((t - T0) / DAY);
    struct place_switch_run run = meal(OVEN, day);
    if (t >= run.start_ms && t < run.end_ms)
        return (t - run.start_ms) % 40000 < 20000 ? 1300 : 0;
    run = meal(TOASTER, day);
    return t >= run.start_ms && t < run.end_ms ? 1310 : 0;
}

static void feed_house(struct place_live *l, int first, int last)
{
    for (int64_t t = T0 + first * DAY; t < T0 + last * DAY; t += STEP)
        place_live_reading(l, t, (float)(90 + t / STEP % 3 + eaten(t)));
}

static int teach_house(struct world *w, int days, int mains, struct place_live_taught *taught)
{
    struct place_live_run lesson[64];
    size_t count = 0;
    memset(lesson, 0, sizeof lesson);
    for (int day = 0; day < days; day++) {
        for (int which = 0; which < 2; which++) {
            lesson[count].run = meal(which, day);
            snprintf(lesson[count++].appliance, EVENT_NAME_BYTES, "%s", appliances[which]);
        }
    }
    return place_live_teach(w->store, "feed", mains, lesson, count, taught, why, sizeof why);
}

/* The number of a run of the history, told by this name. */
static int64_t tell(struct world *w, int which, int day, const char *name)
{
    static struct list list;
    const struct outcome_sink sink = journal_sink(w->journal);
    const struct place_switch_run run = meal(which, day);
    struct outcome o = {.meter = "feed", .event_count = 1};
    struct event *e = &o.events[0];
    e->type = EVENT_OFF;
    e->quality = EVENT_TRACE;
    snprintf(e->appliance, sizeof e->appliance, "%s", name);
    snprintf(e->end_reason, sizeof e->end_reason, "off");
    e->start_ms = run.start_ms;
    e->time_ms = e->end_ms = run.end_ms;
    e->energy_wh = 40;
    e->peak_w = e->up_w = e->down_w = 1300;
    assert_int_equal(sink.commit(sink.context, &o), 0);
    list.count = 0;
    assert_int_equal(
        history_list(w->store, run.start_ms, run.start_ms + 1, "feed", NULL, 64, collect, &list),
        1);
    return list.runs[0].id;
}

static const struct place_proto *proto(const struct world *w, int which)
{
    const struct place_house *h = place_live_house(w->live);
    for (int i = 0; i < h->count; i++)
        if (strcmp(h->protos[i].name, appliances[which]) == 0)
            return &h->protos[i];
    return NULL;
}

static void prototypes_of_a_house(void **state)
{
    struct world w = open_world(state);
    struct place_live_taught taught;
    int runs = 0;
    feed_house(w.live, 0, 7);
    assert_int_equal(teach_house(&w, 7, 1, &taught), 0);
    assert_int_equal(taught.appliances, 2);
    assert_int_equal(taught.machines, 0);
    feed_house(w.live, 7, 9); /* the agent notices by itself */
    assert_non_null(proto(&w, OVEN));
    assert_int_equal(proto(&w, OVEN)->right, 7);
    assert_int_equal(proto(&w, OVEN)->wrong, 7);
    const uint32_t version = place_live_house(w.live)->version;

    /* They are there after a restart, and learn from a correction, both ways. */
    close_world(&w);
    w = open_world(state);
    assert_int_equal(proto(&w, TOASTER)->right, 7);
    feed_house(w.live, 9, 10);
    const int64_t run = tell(&w, OVEN, 8, "Oven");
    assert_int_equal(place_store_correct(w.store, run, "Toaster", &runs, why, sizeof why), 0);
    close_world(&w);
    w = open_world(state);
    assert_int_equal(proto(&w, OVEN)->wrong, 8);
    assert_int_equal(proto(&w, TOASTER)->right, 8);
    assert_true(place_live_house(w.live)->version != version);
    assert_int_equal(place_store_correct(w.store, run, "Oven", &runs, why, sizeof why), 0);
    close_world(&w);
    w = open_world(state);
    assert_int_equal(proto(&w, OVEN)->wrong, 7);
    assert_int_equal(proto(&w, OVEN)->right, 8);

    /* Damaged: it is as if it had not been taught. */
    assert_int_equal(places_put_habit(w.store, "feed", "Oven", "rubbish", 7), 0);
    close_world(&w);
    w = open_world(state);
    assert_null(proto(&w, OVEN));
    assert_non_null(proto(&w, TOASTER));
    close_world(&w);
}

static int called(struct world *w, const char *name)
{
    static struct list list;
    list.count = 0;
    assert_true(history_list(w->store, 0, INT64_MAX, "feed", name, 64, collect, &list) >= 0);
    return list.count;
}

/* A load that is named once makes a prototype, too, which knows it under other names in the
 * history. */
static void a_named_load_is_a_lesson(void **state)
{
    struct world w = open_world(state);
    int runs = 0;
    feed_house(w.live, 0, 7);
    for (int day = 0; day < 6; day++) {
        tell(&w, TOASTER, day, "Toaster");
        tell(&w, OVEN, day, "unknown");
    }
    tell(&w, OVEN, 6, "Toaster"); /* the network was wrong */
    assert_int_equal(called(&w, "unknown-1"), 6);
    assert_int_equal(place_store_name(w.store, "feed", "unknown-1", "Oven", &runs, why, sizeof why),
                     0);
    assert_int_equal(runs, 7);
    assert_int_equal(called(&w, "Oven"), 7);
    assert_int_equal(called(&w, "Toaster"), 6);
    close_world(&w);
    w = open_world(state);
    assert_non_null(proto(&w, OVEN));
    assert_int_equal(proto(&w, OVEN)->right, 6);

    /* The name was wrong: the prototype goes with it. */
    runs = 0;
    assert_int_equal(place_store_name(w.store, "feed", "Oven", "Grill", &runs, why, sizeof why), 0);
    assert_int_equal(called(&w, "Oven"), 0);
    assert_int_equal(called(&w, "Grill"), 7);
    close_world(&w);
    w = open_world(state);
    assert_null(proto(&w, OVEN));
    assert_int_equal(place_live_house(w.live)->count, 1);
    assert_string_equal(place_live_house(w.live)->protos[0].name, "Grill");
    close_world(&w);
}

/* Somebody names run by run, not a load, and no list: from the second one on it is a lesson, too.
 * The network's own names make none. */
static void single_runs_are_a_lesson(void **state)
{
    struct world w = open_world(state);
    int64_t id[2][7];
    int runs = 0;
    feed_house(w.live, 0, 7);
    for (int day = 0; day < 7; day++) {
        id[TOASTER][day] = tell(&w, TOASTER, day, "Toaster");
        id[OVEN][day] = tell(&w, OVEN, day, day == 5 ? "Toaster" : "unknown");
    }
    assert_int_equal(place_store_correct(w.store, id[TOASTER][0], "Toaster", &runs, why, 512), 0);
    assert_int_equal(place_store_correct(w.store, id[TOASTER][1], "Toaster", &runs, why, 512), 0);
    assert_int_equal(place_store_correct(w.store, id[OVEN][0], "Oven", &runs, why, 512), 0);
    assert_int_equal(runs, 1);
    assert_int_equal(place_store_correct(w.store, id[OVEN][1], "Oven", &runs, why, 512), 0);
    assert_int_equal(runs, 6);                  /* this one, and all others since */
    assert_int_equal(called(&w, "Toaster"), 7); /* the network's, and no more */
    assert_int_equal(called(&w, "Oven"), 7);
    close_world(&w);
    w = open_world(state);
    assert_non_null(proto(&w, OVEN));
    assert_null(proto(&w, TOASTER));
    const int right = proto(&w, OVEN)->right;

    /* What was learned is corrected from then on, and not learned anew. */
    assert_int_equal(place_store_correct(w.store, id[OVEN][6], "Grill", &runs, why, 512), 0);
    close_world(&w);
    w = open_world(state);
    assert_int_equal(proto(&w, OVEN)->right, right);
    close_world(&w);
}

/* Hours that an earlier version kept have cells alone; damaged ones have nothing. */
static void hours_of_an_earlier_version(void **state)
{
    struct world w = open_world(state);
    struct place_live_taught taught;
    struct place_hour hour;
    feed_house(w.live, 0, 7);
    place_hour_init(&hour);
    for (int64_t h = T0 / PLACE_HOUR_MS; h < (T0 + 7 * DAY) / PLACE_HOUR_MS; h += 2)
        assert_int_equal(places_put_cells(w.store, "feed", h, &hour, place_hour_bytes(0)), 0);
    for (int64_t h = T0 / PLACE_HOUR_MS + 4; h < (T0 + 7 * DAY) / PLACE_HOUR_MS; h += 24)
        assert_int_equal(places_put_cells(w.store, "feed", h, &hour, 11), 0);
    assert_int_equal(teach_house(&w, 7, 1, &taught), 0);
    assert_int_equal(taught.appliances, 2); /* most pulses were in odd hours */
    assert_true(proto(&w, OVEN) == NULL);   /* nothing was read since */
    close_world(&w);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, folder_setup, folder_teardown)
    const struct CMUnitTest tests[] = {T(taught_and_found),
                                       T(a_restart_in_a_run),
                                       T(what_cannot_be_taught),
                                       T(prototypes_of_a_house),
                                       T(a_named_load_is_a_lesson),
                                       T(single_runs_are_a_lesson),
                                       T(hours_of_an_earlier_version),
                                       T(habits_of_an_earlier_version)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
