#include "agent/wall.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "agent/log.h"
#include "storage/history.h"
#include "storage/outbox.h"
#include "storage/places.h"

#define HOUR_MS INT64_C(3600000)
#define FAR_MS                                                                                     \
    (INT64_C(10) * 365 * 24 * HOUR_MS) /* beyond the floor: a battery clock gone astray */
#define STEP_MS 1000                   /* smaller differences are left to the clock's own slewing */
#define GAP_MS                                                                                     \
    3600001 /* between what was told before a start without a clock, and after it: nobody knows    \
               how long */
#define EXACT_MS 2000     /* a correction by less is none */
#define CORRECTING_MS 100 /* at a time: the meters are waiting */

static int64_t read_ms(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The kernel's word: somebody (NTP, PTP, GPS) steers the clock. */
static int is_synchronized(void)
{
    struct timex t = {.modes = 0};
    return adjtimex(&t) >= 0 && !(t.status & STA_UNSYNC);
}

static int is_believable(const struct wall *w, int64_t real_ms, int synchronized)
{
    const int64_t least = w->floor_ms - HOUR_MS > WALL_SET_MS ? w->floor_ms - HOUR_MS : WALL_SET_MS;
    if (synchronized && real_ms >= WALL_SET_MS)
        return 1;
    if (real_ms < least || (w->floor_ms && real_ms > w->floor_ms + FAR_MS))
        return 0;
    /* Some systems boot with the time of their last shutdown: plausible, and days behind. */
    return read_ms(CLOCK_BOOTTIME) >= w->wait_ms;
}

int64_t wall_count_ms(const struct wall *w)
{
    return read_ms(CLOCK_BOOTTIME) + w->base_ms;
}

int64_t wall_now_ms(const struct wall *w)
{
    return wall_count_ms(w) + w->offset_ms;
}

enum event_quality wall_quality(const struct wall *w)
{
    return w->known ? EVENT_CLOCK : w->ever_known ? EVENT_ESTIMATED : EVENT_UNSET;
}

int wall_holds(const struct wall *w)
{
    return w->began_ms != 0 && !w->released;
}

/* ---- what the store keeps ---- */

/* A number for this boot of the machine. */
static int64_t boot_number(void)
{
    char text[64] = "";
    uint64_t h = UINT64_C(14695981039346656037); /* FNV-1a */
    const int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text);
    if (fd >= 0)
        close(fd);
    for (ssize_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)text[i]) * UINT64_C(1099511628211);
    return (int64_t)(h >> 1);
}

static int64_t get(struct store *store, const char *name)
{
    int64_t value = 0;
    return store_get(store, name, &value) == 0 ? value : 0;
}

static const char *moved_name(int i)
{
    static char name[32];
    snprintf(name, sizeof name, "clock.moved.%d", i);
    return name;
}

static int save_period(const struct wall *w, struct store *store)
{
    const struct {
        const char *name;
        int64_t value;
    } values[] = {{"clock.boot", boot_number()},       {"clock.base_ms", w->base_ms},
                  {"clock.began_ms", w->began_ms},     {"clock.first_seq", w->first_seq},
                  {"clock.released", w->released},     {"clock.correcting", w->correcting},
                  {"clock.delta_ms", w->delta_ms},     {"clock.until_ms", w->until_ms},
                  {"clock.runs_below", w->runs_below}, {"clock.moved", w->moved_count}};
    int rc = 0;
    for (size_t i = 0; i < sizeof values / sizeof values[0] && rc == 0; i++)
        rc = store_set(store, values[i].name, values[i].value);
    for (int i = 0; i < w->moved_count && rc == 0; i++)
        rc = store_set(store, moved_name(i), w->moved[i]);
    return rc;
}

static void load_period(struct wall *w, struct store *store)
{
    w->base_ms = get(store, "clock.base_ms");
    w->began_ms = get(store, "clock.began_ms");
    w->first_seq = get(store, "clock.first_seq");
    w->released = get(store, "clock.released") != 0;
    w->correcting = w->began_ms && get(store, "clock.correcting") != 0;
    w->delta_ms = get(store, "clock.delta_ms");
    w->until_ms = get(store, "clock.until_ms");
    w->runs_below = get(store, "clock.runs_below");
    const int64_t moved = get(store, "clock.moved");
    w->moved_count = moved < 0 || moved > WALL_MOVED ? 0 : (int)moved;
    for (int i = 0; i < w->moved_count; i++)
        w->moved[i] = get(store, moved_name(i));
}

static int save_floor(struct wall *w, struct store *store)
{
    const int rc = store_set(store, "clock.floor_ms", w->floor_ms);
    if (rc == 0)
        w->stored_floor_ms = w->floor_ms;
    return rc;
}

static int begin_period(struct wall *w, struct store *store, int64_t real_ms, int64_t live_ms)
{
    struct outbox_stats s;
    int64_t from = real_ms > w->floor_ms ? real_ms : w->floor_ms;
    if (live_ms && live_ms + GAP_MS > from)
        from = live_ms + GAP_MS;
    w->base_ms = from - read_ms(CLOCK_BOOTTIME);
    w->began_ms = from > 0 ? from : 1;
    w->released = w->correcting = 0;
    int rc = outbox_statistics(store, &s);
    if (rc == 0)
        w->first_seq = (int64_t)s.next_seq;
    if (rc == 0)
        rc = store_begin(store);
    if (rc == 0) {
        rc = save_period(w, store);
        if (rc == 0)
            rc = store_commit(store);
        else
            store_rollback(store);
    }
    return rc;
}

/* ---- corrections ---- */

struct correction {
    int64_t delta_ms;
    const char *quality;
    int items;
};

static int correct_body(void *context, const char *body, char **out)
{
    static const char *const names[] = {"time", "start", "end", "since"};
    struct correction *c = context;
    errno = 0;
    cJSON *o = cJSON_Parse(body);
    cJSON *quality = cJSON_GetObjectItemCaseSensitive(o, "time_quality");
    int rc = !o && errno == ENOMEM ? -ENOMEM : 0;
    *out = NULL;
    if (cJSON_IsString(quality) && strcmp(quality->valuestring, "unset") == 0) {
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            cJSON *item = cJSON_GetObjectItemCaseSensitive(o, names[i]);
            if (cJSON_IsNumber(item) && item->valuedouble > 0)
                cJSON_SetNumberValue(item, item->valuedouble + (double)c->delta_ms);
        }
        if (!cJSON_SetValuestring(quality, c->quality) || !(*out = cJSON_PrintUnformatted(o)))
            rc = -ENOMEM;
        c->items++;
    }
    cJSON_Delete(o);
    return rc;
}

static int is_exact(const struct wall *w)
{
    return llabs(w->delta_ms) < EXACT_MS;
}

/* Of runs that are open and end meanwhile, with their times already right, nobody could tell later
 * whether they are due: they are corrected now, and remembered. */
static int begin_correcting(struct wall *w, struct store *store)
{
    int rc;
    w->correcting = 1;
    w->items = 0;
    w->delta_ms = w->offset_ms;
    w->until_ms = wall_count_ms(w) + 1;
    w->runs_below = w->runs = w->moved_count = 0;
    if (is_exact(w))
        return 0;
    w->runs_below = INT64_MAX;
    rc = places_shift_runs(store, w->began_ms, w->until_ms, w->delta_ms);
    if (rc >= 0)
        rc = history_shift_open(store, w->began_ms, w->until_ms, w->delta_ms, w->moved, WALL_MOVED);
    w->runs = w->moved_count = rc < 0 ? 0 : rc;
    return rc < 0 ? rc : 0;
}

/* In a transaction. 1: there is more to do, 0: that was all, -errno. */
static int correct_rows(struct wall *w, struct store *store)
{
    struct correction c = {.delta_ms = w->delta_ms, .quality = is_exact(w) ? "clock" : "corrected"};
    uint64_t seq = (uint64_t)w->first_seq;
    int rc = w->correcting ? 0 : begin_correcting(w, store);
    if (rc == 0 && w->runs_below > 0) {
        rc = history_shift(store, &w->runs_below, w->began_ms, w->until_ms, w->delta_ms, WALL_PIECE,
                           w->moved, w->moved_count);
        w->runs += rc > 0 ? rc : 0;
        if (rc >= 0 && rc < WALL_PIECE)
            w->runs_below = 0;
        return rc < 0 ? rc : w->runs_below > 0 || !w->released;
    }
    if (rc == 0 && !w->released)
        rc = outbox_rewrite(store, &seq, WALL_PIECE, correct_body, &c);
    w->first_seq = (int64_t)seq;
    w->items += c.items;
    return rc;
}

/* One transaction of it. Tried again when the disk refuses. 0 or -errno. */
static int correct(struct wall *w, struct store *store)
{
    struct wall next = *w;
    int rc = store_begin(store);
    if (rc < 0)
        return rc;
    rc = correct_rows(&next, store);
    if (rc == 0) /* done */
        next.began_ms = next.correcting = next.moved_count = 0;
    if (rc >= 0)
        rc = save_period(&next, store);
    if (rc == 0)
        rc = store_commit(store);
    if (rc < 0) {
        store_rollback(store);
        return rc;
    }
    *w = next;
    if (!w->correcting)
        log_info("clock: set, %+" PRId64
                 " s from what was counted; %d items and %d runs have their time",
                 w->delta_ms / 1000, w->items, w->runs);
    return 0;
}

static int correct_for_a_while(struct wall *w, struct store *store, int64_t for_ms)
{
    const int64_t end = read_ms(CLOCK_MONOTONIC) + for_ms;
    int rc;
    do
        rc = correct(w, store);
    while (rc == 0 && w->correcting && read_ms(CLOCK_MONOTONIC) < end);
    return rc;
}

/* ---- start and end ---- */

int wall_start(struct wall *w, struct store *store, int64_t wait_ms, int64_t live_ms)
{
    const int64_t real = read_ms(CLOCK_REALTIME);
    int rc = 0;
    memset(w, 0, sizeof *w);
    w->wait_ms = wait_ms;
    w->floor_ms = w->stored_floor_ms = get(store, "clock.floor_ms");
    const int believable = is_believable(w, real, is_synchronized());
    const int same_boot = get(store, "clock.boot") == boot_number();
    load_period(w, store);
    if (!same_boot) /* before what is left of its correction notes this boot */
        w->base_ms = real - read_ms(CLOCK_BOOTTIME);
    if (w->correcting)
        rc = correct_for_a_while(w, store, INT64_MAX / 2);
    if (same_boot) { /* went on from an unset clock before */
        if (believable)
            w->offset_ms = real - wall_count_ms(w);
    } else {
        w->began_ms = w->correcting ? w->began_ms : 0;
        if (!believable)
            rc = begin_period(w, store, real, live_ms);
    }
    w->known = w->ever_known = believable;
    if (!w->known)
        log_warning("clock: not set yet; times are counted on from the last one known");
    return rc;
}

void wall_use_store(struct wall *w, struct store *store)
{
    struct outbox_stats s;
    w->stored_floor_ms = get(store, "clock.floor_ms");
    if (w->began_ms == 0)
        return;
    if (outbox_statistics(store, &s) == 0 && (int64_t)s.next_seq < w->first_seq)
        w->first_seq = (int64_t)s.next_seq; /* it counts anew */
    if (save_period(w, store) < 0)
        log_warning("clock: %s", store_error(store));
}

void wall_raise_floor(struct wall *w, int64_t unix_s)
{
    if (unix_s * 1000 > w->floor_ms && unix_s < INT64_MAX / 1000)
        w->floor_ms = unix_s * 1000;
}

void wall_stop(struct wall *w, struct store *store)
{
    if (w->floor_ms != w->stored_floor_ms && save_floor(w, store) < 0)
        log_warning("clock: the time cannot be kept: %s", store_error(store));
}

/* ---- once a second ---- */

static void follow(struct wall *w, int64_t real_ms, int synchronized)
{
    const int64_t offset = real_ms - wall_count_ms(w);
    const int64_t step = offset - w->offset_ms;
    if (llabs(step) >= STEP_MS) {
        if (w->ever_known && llabs(step) >= EXACT_MS) /* leap seconds and their smearing: not */
            log_info("clock: set by %+.1f s; runs keep their length", (double)step / 1e3);
        w->offset_ms = offset;
    }
    w->known = w->ever_known = 1;
    if (synchronized)
        w->floor_ms = real_ms; /* also down, should it ever have been wrong */
}

static void release_late(struct wall *w, struct store *store, int connected)
{
    const int64_t now = read_ms(CLOCK_BOOTTIME);
    if (!wall_holds(w) || w->known || !connected) {
        w->release_at = 0;
        return;
    }
    if (w->release_at == 0)
        w->release_at = now + w->wait_ms;
    if (now < w->release_at)
        return;
    w->released = 1;
    if (save_period(w, store) < 0) {
        w->released = 0; /* must be on disk before anything is sent */
        return;
    }
    log_warning("clock: still not set; what waits is sent with times of quality \"unset\"");
}

int wall_tick(struct wall *w, struct store *store, int connected)
{
    const int64_t real = read_ms(CLOCK_REALTIME);
    const int synchronized = is_synchronized();
    int corrected = 0;
    if (is_believable(w, real, synchronized)) {
        follow(w, real, synchronized);
    } else if (w->known) {
        log_warning("clock: set to a time that cannot be; counting on from the last good one");
        w->known = 0;
    }
    if (w->began_ms && (w->known || w->correcting))
        corrected = correct_for_a_while(w, store, CORRECTING_MS) == 0;
    release_late(w, store, connected);
    if (llabs(w->floor_ms - w->stored_floor_ms) >= HOUR_MS && save_floor(w, store) < 0)
        w->stored_floor_ms = w->floor_ms; /* the disk refuses: in an hour again */
    return corrected;
}
