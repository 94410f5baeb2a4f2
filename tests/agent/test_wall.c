/* test_wall.c - time as wall.h tells it: a huge backlog is corrected in small pieces, each time
 * once, also over a power cut; slewed, smeared and stepped clocks leave events in order and as long
 * as they were.
 *
 * The program's clocks are its own: days pass in a second. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <inttypes.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#include "agent/lib_folder.h"
#include "agent/test_meter_world.h"
#include "agent/wall.h"
#include "storage/history.h"
#include "storage/outbox.h"
#include "storage/store_internal.h"

#define TODAY INT64_C(1764000000000)
#define HOUR 3600000
#define BACKLOG 100000
#define SMALL 20000

/* ---- clocks ---- */

static int64_t real_us, boot_us;
static int synchronized;

#ifdef SYS_clock_gettime64
#define SYS_TIME SYS_clock_gettime64
#else
#define SYS_TIME SYS_clock_gettime
#endif

int clock_gettime(clockid_t id, struct timespec *t)
{
    const int64_t us = id == CLOCK_REALTIME ? real_us : id == CLOCK_BOOTTIME ? boot_us : 0;
    if (us == 0)
        return (int)syscall(SYS_TIME, id, t);
    *t = (struct timespec){.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    return 0;
}

int adjtimex(struct timex *t)
{
    memset(t, 0, sizeof *t);
    t->status = synchronized ? 0 : STA_UNSYNC;
    return 0;
}

static void set_real(int64_t ms)
{
    real_us = ms * 1000;
}

static void pass(int64_t ms)
{
    real_us += ms * 1000;
    boot_us += ms * 1000;
}

/* ---- a backlog of unset times ---- */

static int changes_at_commit, most_changes;

static int on_commit(void *context)
{
    struct store *s = context;
    const int changes = sqlite3_total_changes(s->db);
    if (changes - changes_at_commit > most_changes)
        most_changes = changes - changes_at_commit;
    changes_at_commit = changes;
    return 0;
}

static struct store *open_store(void **state)
{
    struct store *s = NULL;
    char why[256] = "";
    if (store_open(folder_path(state, "wall.db"), &s, NULL, why, sizeof why) != 0)
        fail_msg("%s", why);
    assert_int_equal(sqlite3_exec(s->db, "PRAGMA synchronous = OFF", 0, 0, 0), SQLITE_OK);
    return s;
}

static void append(struct store *s, int64_t time_ms, const char *quality)
{
    char body[200];
    uint64_t seq;
    struct outbox_item item = {.kind = OUTBOX_EVENT, .channel = "m", .body = body};
    item.body_bytes = (size_t)snprintf(body, sizeof body,
                                       "{\"type\":\"off\",\"time\":%" PRId64 ",\"start\":%" PRId64
                                       ",\"time_quality\":\"%s\"}",
                                       time_ms, time_ms - 5, quality);
    assert_int_equal(outbox_append(s, &item, &seq), 0);
}

/* Item and run i at began + 10 i; the second run stays open. */
static void fill(struct store *s, const struct wall *w, int count)
{
    struct history_run run = {.meter = "m", .appliance = "Kettle"};
    int64_t id;
    for (int i = 0; i < count; i++) {
        if (i % 10000 == 0)
            assert_int_equal(store_begin(s), 0);
        run.start_ms = w->began_ms + 10 * i;
        run.end_ms = i == 1 ? 0 : run.start_ms + 5;
        append(s, run.start_ms, "unset");
        assert_int_equal(history_open(s, &run, &id), 0);
        if (i % 10000 == 9999 || i == count - 1)
            assert_int_equal(store_commit(s), 0);
    }
    pass(10 * (int64_t)count);
}

static int64_t number(struct store *s, const char *sql)
{
    sqlite3_stmt *q = NULL;
    assert_int_equal(sqlite3_prepare_v2(s->db, sql, -1, &q, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    const int64_t n = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return n;
}

/* Item i (number i + 1) and run i are at first + 10 i: moved once. */
static void check_moved(struct store *s, int64_t first, int count)
{
    char sql[500];
    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM outbox WHERE body ->> 'time_quality' = 'corrected'"
             " AND body ->> 'time' = %" PRId64 " + 10 * (seq - 1)"
             " AND body ->> 'start' = body ->> 'time' - 5 AND seq <= %d",
             first, count);
    assert_int_equal(number(s, sql), count);
    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM run WHERE start_ms = %" PRId64 " + 10 * (id - 1)"
             " AND end_ms = iif(id = 2, 0, start_ms + 5) AND id <= %d",
             first, count);
    assert_int_equal(number(s, sql), count);
}

static void start_unset(struct wall *w, struct store *s, int64_t clock_ms, int64_t live_ms)
{
    set_real(clock_ms);
    boot_us = 20000000;
    synchronized = 0;
    assert_int_equal(wall_start(w, s, 60000, live_ms), 0);
    assert_false(w->known);
}

/* Ticks until all is corrected; meters go on storing in between. */
static int correct_all(struct wall *w, struct store *s)
{
    int ticks = 0;
    while (w->began_ms) {
        assert_true(wall_holds(w));
        assert_int_equal(wall_tick(w, s, 1), 1);
        append(s, wall_now_ms(w), "clock");
        pass(1000);
        assert_true(++ticks < 4000);
    }
    assert_false(wall_holds(w));
    return ticks;
}

static void a_huge_backlog(void **state)
{
    struct wall w;
    struct store *s = open_store(state);
    int64_t epoch;
    assert_int_equal(outbox_start(s, 0, &epoch), 0);
    start_unset(&w, s, 100000, 0);
    const int64_t began = w.began_ms;
    fill(s, &w, BACKLOG);
    set_real(TODAY);
    sqlite3_commit_hook(s->db, on_commit, s);
    changes_at_commit = sqlite3_total_changes(s->db);
    most_changes = 0;
    assert_int_equal(wall_tick(&w, s, 1), 1);
    assert_true(w.correcting); /* not all of it at once */
    const int64_t delta = w.delta_ms;
    sqlite3_commit_hook(s->db, NULL, NULL);

    /* the power goes, and in the next boot there is no clock either */
    store_close(s);
    s = open_store(state);
    assert_int_equal(store_set(s, "clock.boot", 1), 0);
    sqlite3_commit_hook(s->db, on_commit, s);
    changes_at_commit = sqlite3_total_changes(s->db);
    start_unset(&w, s, 100000, 0);
    assert_false(w.correcting);
    check_moved(s, began + delta, BACKLOG);
    print_message("%d items and %d runs: at most %d changes in a transaction\n", BACKLOG, BACKLOG,
                  most_changes);
    assert_true(most_changes <= WALL_PIECE + 20);
    sqlite3_commit_hook(s->db, NULL, NULL);
    store_close(s);
}

/* Counted on an hour after the last time known, and it was five minutes: what is corrected stays in
 * the stretch that is being corrected. */
static void a_small_step_back(void **state)
{
    struct wall w;
    struct store *s = open_store(state);
    struct history_run run = {.meter = "m", .appliance = "Kettle"};
    int64_t epoch, id;
    assert_int_equal(outbox_start(s, 0, &epoch), 0);
    start_unset(&w, s, 100000, TODAY - 5 * 60000);
    const int64_t began = w.began_ms;
    fill(s, &w, SMALL);
    pass(60000);
    set_real(TODAY + 10 * SMALL + 60000);
    assert_int_equal(wall_tick(&w, s, 1), 1);
    assert_true(w.correcting);
    assert_true(w.delta_ms < 0 && w.delta_ms > -2 * HOUR);
    const int64_t delta = w.delta_ms;
    /* the open run ends meanwhile, and a new one begins, by the clock that is known now */
    assert_int_equal(history_read(s, 2, &run), 0);
    assert_int_equal(run.start_ms, began + 10 + delta);
    run.end_ms = run.start_ms + 5;
    assert_int_equal(history_update(s, &run), 0);
    run.start_ms = began + 7;
    assert_int_equal(history_open(s, &run, &id), 0);
    correct_all(&w, s);
    assert_int_equal(history_read(s, 2, &run), 0);
    assert_int_equal(run.start_ms, began + 10 + delta);
    run.end_ms = 0; /* as check_moved expects it */
    assert_int_equal(history_update(s, &run), 0);
    check_moved(s, began + delta, SMALL);
    assert_int_equal(history_read(s, id, &run), 0);
    assert_int_equal(run.start_ms, began + 7);
    store_close(s);
}

/* ---- a known clock that is not steady ---- */

struct drift {
    const char *name;
    double ppm, from_h, to_h; /* of the wall clock against the clock that counts */
    int64_t step_ms;          /* at half time */
    int settings;             /* at most: how often the difference may be set */
};

/* A load that runs for 5 of 10 minutes, a reading every 10 s, for 24 hours. */
static void live_a_day(const struct drift *d, struct world *w, struct wall *wall, struct store *s,
                       int *settings)
{
    struct meter_config c = world_config();
    c.quality = EVENT_CLOCK;
    c.min_off_ms = 30000;
    struct meter *m = world_meter(w, &c, NULL);
    double carry = 0;
    for (int t = 0; t < 86400; t++) {
        const int64_t before = wall->offset_ms;
        wall_tick(wall, s, 1);
        assert_true(wall->known);
        *settings += wall->offset_ms != before;
        meter_set_clock(m, wall->offset_ms, wall_quality(wall));
        if (t % 10 == 0)
            meter_reading(m, wall_count_ms(wall), t % 600 < 300 ? 100 : 0);
        const int64_t off = wall_now_ms(wall) - real_us / 1000;
        if (off > 1001 || off < -1001)
            fail_msg("%s: %" PRId64 " ms from the wall clock after %d s", d->name, off, t);
        pass(1000);
        carry += t >= d->from_h * 3600 && t < d->to_h * 3600 ? d->ppm : 0; /* microseconds */
        real_us += (int64_t)carry;
        carry -= (double)(int64_t)carry;
        real_us += t == 43200 ? d->step_ms * 1000 : 0;
    }
    meter_destroy(m);
}

static void unsteady(void **state, const struct drift *d)
{
    struct world w;
    struct wall wall;
    struct store *s = open_store(state);
    int settings = 0, runs = 0;
    int64_t last = 0, epoch;
    assert_int_equal(outbox_start(s, TODAY / 1000, &epoch), 0);
    set_real(TODAY);
    boot_us = 900000000;
    synchronized = 1;
    assert_int_equal(wall_start(&wall, s, 60000, 0), 0);
    world_init(&w);
    live_a_day(d, &w, &wall, s, &settings);
    for (int i = 0; i < w.event_count; i++) {
        const struct event *e = &w.events[i];
        if (e->type != EVENT_ON && e->type != EVENT_OFF)
            continue;
        assert_int_equal(e->quality, EVENT_CLOCK);
        assert_true(e->time_ms > last); /* in order */
        last = e->time_ms;
        if (e->type == EVENT_OFF) {
            assert_int_equal(e->end_ms - e->start_ms, 300000);
            assert_string_equal(e->end_reason, "off");
            runs++;
        }
    }
    assert_true(runs >= 143);
    assert_int_equal(number(s, "SELECT count(*) FROM outbox"), 0);
    print_message("%s: %d runs of 300 s each, difference set %d times\n", d->name, runs, settings);
    assert_true(settings <= d->settings);
    world_free(&w);
    store_close(s);
}

static void smeared_and_stepped(void **state)
{
    static const struct drift drifts[] = {
        /* the kernel slews both clocks alike; here the wall clock alone, which is harder */
        {"leap second inserted, smeared over 20 h", -1e6 / 72000, 2, 22, 0, 1},
        {"leap second deleted, smeared over 20 h", 1e6 / 72000, 2, 22, 0, 1},
        {"500 ppm fast", 500, 0, 24, 0, 44},
        {"500 ppm slow", -500, 0, 24, 0, 44},
        {"a step of 1 s back", 0, 0, 0, -1000, 1},
        {"a step of 1 s forward", 0, 0, 0, 1000, 1},
    };
    for (size_t i = 0; i < sizeof drifts / sizeof drifts[0]; i++) {
        unlink(folder_path(state, "wall.db"));
        unsteady(state, &drifts[i]);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, folder_setup, folder_teardown)
    const struct CMUnitTest tests[] = {T(a_huge_backlog), T(a_small_step_back),
                                       T(smeared_and_stepped)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
