/* test_summary.c - daily summaries from a real store: days of 25 hours, each once, what was missed,
 * what does not fit (SPEC 4.11). */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include <cjson/cJSON.h>

#include "agent/calendar.h"
#include "agent/lib_folder.h"
#include "agent/summary.h"
#include "storage/energy.h"
#include "storage/history.h"
#include "storage/machines.h"
#include "storage/outbox.h"
#include "storage/summaries.h"

#define HOUR INT64_C(3600000)
#define DAY 20751 /* 2026-10-25: the clock goes back */
#define SETTLE 600000

static struct config_meter meters[2];
static struct config config;

static struct store *open_store(void **state, const char *name)
{
    struct store *s = NULL;
    struct store_report report;
    char why[512];
    int64_t epoch;
    assert_int_equal(store_open(folder_path(state, name), &s, &report, why, sizeof why), 0);
    assert_int_equal(outbox_start(s, 1790000000, &epoch), 0);
    return s;
}

static void configure(const char *zone)
{
    memset(&config, 0, sizeof config);
    memset(meters, 0, sizeof meters);
    snprintf(meters[0].meter.name, sizeof meters[0].meter.name, "house");
    meters[0].meter.mains = 1;
    snprintf(meters[1].meter.name, sizeof meters[1].meter.name, "press");
    meters[1].machine.mode = MACHINE_AUTO;
    config.meters = meters;
    config.meter_count = 2;
    snprintf(config.currency, sizeof config.currency, "EUR");
    assert_int_equal(calendar_use(zone), 0);
}

static void add_hours(struct store *s, const char *meter, int64_t from, int64_t to, double wh)
{
    assert_int_equal(store_begin(s), 0);
    for (int64_t t = from; t < to; t += HOUR) {
        const struct energy_hour h = {
            .start_ms = t, .wh = wh, .low_w = 40, .high_w = 2000, .seen_s = 3600, .run_s = 600};
        assert_int_equal(energy_put(s, meter, &h), 0);
    }
    assert_int_equal(store_commit(s), 0);
}

static void add_run(struct store *s, const char *meter, const char *name, int64_t start,
                    int64_t end, double wh)
{
    struct history_run r = {
        .confidence = 1, .start_ms = start, .end_ms = end, .energy_wh = wh, .peak_w = 2000};
    int64_t id;
    snprintf(r.meter, sizeof r.meter, "%s", meter);
    snprintf(r.appliance, sizeof r.appliance, "%s", name);
    snprintf(r.end_reason, sizeof r.end_reason, end ? "off" : "");
    assert_int_equal(history_open(s, &r, &id), 0);
}

static int run(struct store *s, const char *meter, int64_t now, int64_t *next)
{
    return summary_run(s, &config, meter, now, SETTLE, EVENT_CLOCK, next);
}

/* Item number n (from 0) as JSON; NULL: there are fewer. */
static cJSON *item(struct store *s, int n, const char *meter)
{
    static char buffer[OUTBOX_BODY_BYTES * 64];
    static struct outbox_item items[64];
    const int count = outbox_fetch(s, 1, 0, items, 64, buffer, sizeof buffer);
    assert_true(count >= 0);
    if (n >= count)
        return NULL;
    assert_int_equal(items[n].kind, OUTBOX_REPORT);
    assert_string_equal(items[n].channel, meter);
    cJSON *o = cJSON_Parse(items[n].body);
    assert_non_null(o);
    return o;
}

static double number(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItem(o, key);
    assert_true(cJSON_IsNumber(v));
    return v->valuedouble;
}

static const char *text(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItem(o, key);
    assert_true(cJSON_IsString(v));
    return v->valuestring;
}

static int zone_is_known(const char *zone)
{
    char why[256];
    return calendar_check(zone, why, sizeof why) == 0;
}

static void a_day_of_25_hours(void **state)
{
    if (!zone_is_known("Europe/Berlin"))
        skip();
    configure("Europe/Berlin");
    struct store *s = open_store(state, "a.db");
    const int64_t from = calendar_start(DAY), to = calendar_start(DAY + 1);
    int64_t next = 0;
    assert_int_equal(to - from, 25 * HOUR);
    assert_int_equal(summary_begin(s, "house", from - HOUR), 0);
    add_hours(s, "house", from - 3 * HOUR, to + 2 * HOUR, 100);
    add_hours(s, "press", from, to, 7);
    add_run(s, "house", "Dishwasher", from - 2 * HOUR, from + HOUR, 900); /* ends on the day */
    add_run(s, "house", "Kettle", from + 5 * HOUR, from + 5 * HOUR + 120000, 60);
    add_run(s, "house", "Kettle", from + 9 * HOUR, from + 9 * HOUR + 180000, 90);
    add_run(s, "house", "unknown-3", from + 11 * HOUR, from + 12 * HOUR, 250);
    add_run(s, "house", "Dishwasher", to - HOUR, to + HOUR, 950); /* of the next day */
    add_run(s, "house", "Kettle", to - 60000, 0, 0);              /* goes on */
    add_run(s, "press", "Press", from + HOUR, from + 2 * HOUR, 5);
    config.price = 0.3;
    assert_int_equal(run(s, "house", to + SETTLE - 1, &next), 1); /* the day before, seen for 3 h */
    assert_int_equal(next, to + SETTLE);
    assert_int_equal(run(s, "house", to + SETTLE, &next), 1);
    assert_int_equal(next, calendar_start(DAY + 2) + SETTLE);
    assert_int_equal(run(s, "house", to + SETTLE, &next), 0);

    cJSON *o = item(s, 1, "house");
    assert_string_equal(text(o, "day"), "2026-10-25");
    assert_true(number(o, "from") == (double)from && number(o, "to") == (double)to);
    assert_true(number(o, "energy") == 2500 && number(o, "seen") == 90000);
    assert_true(number(o, "base_energy") == 1000);
    assert_true(number(o, "named_energy") == 1050 && number(o, "unknown_energy") == 450);
    assert_true(number(o, "unknown_share") == 0.18);
    assert_true(fabs(number(o, "cost") - 0.75) < 1e-9);
    assert_null(cJSON_GetObjectItem(o, "machine"));
    const cJSON *list = cJSON_GetObjectItem(o, "appliances");
    assert_int_equal(cJSON_GetArraySize(list), 3);
    const cJSON *kettle = cJSON_GetArrayItem(list, 2);
    assert_string_equal(text(cJSON_GetArrayItem(list, 0), "appliance"), "Dishwasher");
    assert_true(number(cJSON_GetArrayItem(list, 0), "energy") == 900);
    assert_string_equal(text(kettle, "appliance"), "Kettle");
    assert_true(number(kettle, "runs") == 2 && number(kettle, "energy") == 150);
    assert_true(number(kettle, "run_time") == 300 && number(kettle, "mean_run") == 150);
    assert_true(number(o, "not_listed") == 0);
    cJSON_Delete(o);

    o = item(s, 0, "house");
    assert_string_equal(text(o, "day"), "2026-10-24");
    assert_true(number(o, "energy") == 300);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(o, "appliances")), 0);
    cJSON_Delete(o);
    assert_null(item(s, 2, "house"));
    store_close(s);
}

static void a_machine(void **state)
{
    configure("UTC");
    struct store *s = open_store(state, "b.db");
    const int64_t from = calendar_start(DAY);
    const struct machines_quarter q = {.start_ms = from,
                                       .wh = 3,
                                       .off_ms = 100000,
                                       .idle_ms = 200000,
                                       .run_ms = 590000,
                                       .peak_ms = 10000,
                                       .starts = 2};
    struct machines_quarter last = q;
    int64_t next;
    last.start_ms = from + 24 * HOUR - 900000;
    assert_int_equal(summary_begin(s, "press", from), 0);
    add_hours(s, "press", from, from + 24 * HOUR, 50);
    assert_int_equal(machines_put(s, "press", &q), 0);
    assert_int_equal(machines_put(s, "press", &last), 0);
    last.start_ms += 900000; /* the next day's */
    assert_int_equal(machines_put(s, "press", &last), 0);
    assert_int_equal(run(s, "press", from + 25 * HOUR, &next), 1);
    cJSON *o = item(s, 0, "press");
    const cJSON *m = cJSON_GetObjectItem(o, "machine");
    assert_true(number(m, "off") == 200 && number(m, "idle") == 400 && number(m, "run") == 1180);
    assert_true(number(m, "peak") == 20 && number(m, "starts") == 4);
    assert_null(cJSON_GetObjectItem(o, "cost")); /* no price */
    assert_null(cJSON_GetObjectItem(o, "currency"));
    cJSON_Delete(o);
    store_close(s);
}

/* Off for days, with restarts; switched on late; a clock that was wrong. */
static void days_that_were_missed(void **state)
{
    configure("UTC");
    struct store *s = open_store(state, "c.db");
    const int64_t from = calendar_start(DAY);
    int64_t next;
    int32_t day = 0;
    add_hours(s, "house", from - 10 * 24 * HOUR, from, 10); /* before they were switched on */
    assert_int_equal(summary_begin(s, "house", from), 0);
    add_hours(s, "house", from, from + 20 * HOUR, 10); /* then it is off */
    store_close(s);
    s = open_store(state, "c.db");
    assert_int_equal(summary_begin(s, "house", from + 5 * 24 * HOUR), 0); /* knows better */
    add_hours(s, "house", from + 5 * 24 * HOUR, from + 5 * 24 * HOUR + 2 * HOUR, 10);
    assert_int_equal(run(s, "house", from + 5 * 24 * HOUR + HOUR, &next), 1);
    store_close(s);
    s = open_store(state, "c.db");
    assert_int_equal(run(s, "house", from + 5 * 24 * HOUR + HOUR, &next), 0);
    assert_int_equal(run(s, "house", from + 6 * 24 * HOUR + HOUR, &next), 1);
    cJSON *o = item(s, 0, "house");
    assert_string_equal(text(o, "day"), "2026-10-25");
    assert_true(number(o, "seen") == 72000);
    cJSON_Delete(o);
    o = item(s, 1, "house");
    assert_string_equal(text(o, "day"), "2026-10-30");
    cJSON_Delete(o);
    /* at most so far back */
    add_hours(s, "house", from + 10 * 24 * HOUR, from + 100 * 24 * HOUR, 10);
    assert_int_equal(run(s, "house", from + 100 * 24 * HOUR + HOUR, &next), SUMMARY_DAYS);
    /* a clock that is years ahead for a while tells nothing, and does not silence what follows */
    assert_int_equal(run(s, "house", from + 20000 * 24 * HOUR, &next), 0);
    assert_int_equal(summaries_put(s, "house", DAY + 20000), 0); /* as if a reading had been then */
    add_hours(s, "house", from + 100 * 24 * HOUR, from + 102 * 24 * HOUR, 10);
    assert_int_equal(run(s, "house", from + 101 * 24 * HOUR + HOUR, &next), 0);
    assert_int_equal(summaries_get(s, "house", &day), 0);
    assert_int_equal(day, DAY + 100);
    assert_int_equal(run(s, "house", from + 102 * 24 * HOUR + HOUR, &next), 1);
    store_close(s);
}

/* A limit on the size of files stands for a disk that refuses, at each size up to where it fits. */
static void a_disk_that_refuses(void **state)
{
    configure("UTC");
    struct store *s = open_store(state, "e.db");
    const int64_t from = calendar_start(DAY);
    int64_t next = -1;
    int refused = 0, told = 0;
    assert_int_equal(summary_begin(s, "house", from), 0);
    add_hours(s, "house", from, from + 24 * HOUR, 10);
    signal(SIGXFSZ, SIG_IGN);
    for (rlim_t bytes = 4096; told == 0; bytes += 4096) {
        const struct rlimit limit = {bytes, RLIM_INFINITY};
        int32_t day = 0;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        const int rc = run(s, "house", from + 25 * HOUR, &next);
        const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
        assert_int_equal(summaries_get(s, "house", &day), 0);
        cJSON *o = item(s, 0, "house");
        assert_int_equal(day, rc < 0 ? DAY - 1 : DAY);
        assert_true(rc < 0 ? o == NULL && next == -1 : o != NULL);
        cJSON_Delete(o);
        refused += rc < 0;
        told = rc > 0;
    }
    assert_true(refused > 0);
    assert_int_equal(run(s, "house", from + 25 * HOUR, &next), 0);
    assert_null(item(s, 1, "house"));
    store_close(s);
}

/* More names than an item holds: the largest are listed, all are counted. */
static void what_does_not_fit(void **state)
{
    configure("UTC");
    struct store *s = open_store(state, "d.db");
    const int64_t from = calendar_start(DAY);
    int64_t next;
    assert_int_equal(summary_begin(s, "house", from), 0);
    add_hours(s, "house", from, from + 24 * HOUR, 1000);
    for (int i = 0; i < 40; i++) {
        char name[64];
        snprintf(name, sizeof name,
                 "\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\""
                 "\"\"\"\"\"\"\"\"\"\"%03d",
                 i);
        add_run(s, "house", name, from + i * 60000, from + i * 60000 + 30000, 1 + i);
    }
    assert_int_equal(run(s, "house", from + 25 * HOUR, &next), 1);
    cJSON *o = item(s, 0, "house");
    const int listed = cJSON_GetArraySize(cJSON_GetObjectItem(o, "appliances"));
    assert_true(listed > 8 && listed <= SUMMARY_LOADS);
    assert_true(number(o, "not_listed") == 40 - listed);
    assert_true(number(o, "named_energy") == 820);
    assert_true(number(cJSON_GetArrayItem(cJSON_GetObjectItem(o, "appliances"), 0), "energy") ==
                40);
    cJSON_Delete(o);
    store_close(s);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, folder_setup, folder_teardown)
    const struct CMUnitTest tests[] = {T(a_day_of_25_hours), T(a_machine), T(days_that_were_missed),
                                       T(a_disk_that_refuses), T(what_does_not_fit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
