/* test_salvage.c - what can be read of a damaged database goes on in the new one, and what cannot
 * is declared (SPEC 5.14).
 *
 * NILM_FAULT_ROUNDS: rounds of random damage (200). */
#include "storage/lib_consumer.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/history.h"
#include "storage/routine.h"
#include "storage/store_internal.h"

#define PAGE 4096
#define ITEMS 4000 /* appended; every seventh was acknowledged, the first 40 were dropped */
#define RUNS 2000
#define EPOCH 1700000000

static const char *database(void **state)
{
    static char path[4200];

    snprintf(path, sizeof path, "%s", temp_path(state, "nilmd.db"));
    return path;
}

static const char *schema_copy(void **state)
{
    return temp_path(state, "nilmd.db.schema");
}

/* The body tells its number, so that one under another number would be noticed. */
static size_t body_of(uint64_t seq, char body[400])
{
    int n = snprintf(body, 400, "{\"n\":%llu,\"pad\":\"%0*d\"}", (unsigned long long)seq,
                     (int)(50 + seq % 200), 7);
    return (size_t)n;
}

/* A database as a gateway has after some years: items of all kinds, drops, acknowledgements. */
static void fill(void **state)
{
    struct store *s = temp_open(state, NULL);
    struct routine r = {.meter = "m", .appliance = "Kettle", .runs = 12};
    struct outbox_caps caps = {.max_rows = ITEMS - 41};
    int64_t epoch, id;
    char body[400];

    assert_int_equal(sqlite3_exec(s->db, "PRAGMA synchronous = OFF", 0, 0, 0), SQLITE_OK);
    assert_int_equal(outbox_start(s, EPOCH, &epoch), 0);
    outbox_limit(s, &caps);
    assert_int_equal(store_begin(s), 0);
    for (uint64_t i = 1; i < ITEMS; i++) {
        uint64_t seq;
        struct outbox_item item = {.kind = i % 11 ? OUTBOX_EVENT : OUTBOX_ALERT,
                                   .created_ms = (int64_t)i,
                                   .channel = "meter",
                                   .body = body,
                                   .body_bytes = body_of(i, body)};
        assert_int_equal(outbox_append(s, &item, &seq), 0);
        assert_int_equal(seq, i);
        struct history_run run = {.meter = "m",
                                  .appliance = "Kettle",
                                  .start_ms = (int64_t)i,
                                  .end_ms = (int64_t)i + 5,
                                  .energy_wh = (double)i};
        if (i <= RUNS)
            assert_int_equal(history_open(s, &run, &id), 0);
    }
    for (uint64_t i = 49; i < ITEMS; i += 7)
        assert_int_equal(outbox_ack(s, &i, 1), 0);
    assert_int_equal(routine_put(s, &r), 0);
    assert_int_equal(history_set_progress(s, "m", 777), 0);
    assert_int_equal(history_set_state(s, "m", "belief", 6), 0);
    assert_int_equal(store_set(s, "answer", 42), 0);
    assert_int_equal(store_commit(s), 0);
    store_close(s);
}

static void remove_all(void **state)
{
    char command[4300];

    snprintf(command, sizeof command, "rm -f %s*", database(state));
    assert_int_equal(system(command), 0);
}

struct tally {
    uint64_t rounds, aside, waiting, items, runs, routines, progress;
};

static int count_run(void *context, const struct history_run *run)
{
    assert_true(run->start_ms == run->id && run->energy_wh == (double)run->id);
    ++*(uint64_t *)context;
    return 0;
}

/* Looks like a subscriber at what waits: the bodies are those of their numbers. */
static void look(struct store *s, struct tally *t, uint64_t end)
{
    static char buffer[16 * (OUTBOX_BODY_BYTES + 1)];
    struct outbox_item items[16];
    char body[400];
    int n = 0;

    for (int priority = 1; priority <= 2; priority++) {
        uint64_t after = 0;
        while ((n = outbox_fetch(s, priority, after, items, 16, buffer, sizeof buffer)) > 0) {
            for (int i = 0; i < n; i++) {
                after = items[i].seq;
                if (after >= end)
                    continue;
                body_of(after, body);
                assert_string_equal(items[i].body, body);
                assert_int_equal(items[i].epoch, EPOCH);
                t->items++;
            }
        }
        assert_int_equal(n, 0);
    }
}

/* Opens what lies there and looks at everything: each number of before is received, was
 * acknowledged, or is declared lost, and none comes twice. */
static void check_all(void **state, struct tally *t, struct store_report *report)
{
    struct consumer *c = calloc(1, sizeof *c);
    struct outbox_stats before, stats;
    struct routine r;
    int64_t epoch = 0, progress = 0;
    struct store *s = temp_open(state, report);

    assert_int_equal(sqlite3_exec(s->db, "PRAGMA synchronous = OFF", 0, 0, 0), SQLITE_OK);
    assert_int_equal(store_check(s, 1, report->replaced), 0);
    assert_int_equal(outbox_statistics(s, &before), 0);
    assert_int_equal(outbox_start(s, EPOCH - 5, &epoch), 0); /* the clock went back */
    uint64_t own = temp_append(s, OUTBOX_EVENT, 1);
    assert_int_equal(own, before.next_seq);
    assert_true(outbox_unpark(s) >= 0);
    look(s, t, own);
    consumer_drain(c, s);
    assert_int_equal(outbox_statistics(s, &stats), 0);
    assert_int_equal(stats.rows, 0);
    if (before.next_seq > 1) { /* something could be read */
        assert_true(epoch > EPOCH);
        for (uint64_t i = 49; i < ITEMS; i += 7)
            c->received[i] |= 1; /* acknowledged in the old life */
        consumer_check(c, own < ITEMS ? own : ITEMS, 0);
    }
    assert_true(history_list(s, INT64_MIN, INT64_MAX, NULL, NULL, 100000, count_run, &t->runs) >=
                0);
    t->routines += routine_get(s, "m", "Kettle", &r) == 0;
    t->progress += history_progress(s, "m", &progress) == 0 && progress == 777;
    t->rounds++;
    t->aside += report->set_aside[0] != '\0';
    t->waiting += ITEMS - 1 - 40 - (ITEMS - 1 - 42) / 7;
    store_close(s);
    free(c);
}

static void open_suspected(void **state, const void *data, size_t size, struct tally *t,
                           struct store_report *report)
{
    size_t copy_size;
    char *copy = temp_read(schema_copy(state), &copy_size);

    remove_all(state);
    temp_write(database(state), data, size);
    temp_write(schema_copy(state), copy, copy_size);
    free(copy);
    temp_write(temp_path(state, "nilmd.db.check"), "", 0); /* as a handle leaves it */
    check_all(state, t, report);
}

static void nothing_is_replaced_without_damage(void **state)
{
    struct tally t = {0};
    struct store_report report;

    fill(state);
    temp_write(temp_path(state, "nilmd.db.check"), "", 0);
    check_all(state, &t, &report);
    assert_int_equal(report.replaced, 0);
    assert_int_equal(t.items, t.waiting);
    assert_int_equal(t.runs, RUNS);
    assert_int_equal(t.routines + t.progress, 2);
}

/* One flipped bit in a body leaves the tree sound: the check sum tells, at the reading; one item is
 * lost, and declared as exactly this one. */
static void a_flipped_bit_in_a_body(void **state)
{
    struct tally t = {0};
    struct store_report report;
    struct outbox_item item;
    char buffer[OUTBOX_BODY_BYTES + 1];
    size_t size;

    fill(state);
    char *data = temp_read(database(state), &size);
    char *body = memmem(data, size, "{\"n\":2001,", 10);
    assert_non_null(body);
    body[5] ^= 1; /* {"n":3001 */
    remove_all(state);
    temp_write(database(state), data, size);
    struct store *s = temp_open(state, &report);
    assert_int_equal(report.replaced, 0);
    assert_int_equal(outbox_fetch(s, 1, 2000, &item, 1, buffer, sizeof buffer), -EBADMSG);
    assert_non_null(strstr(store_error(s), "number 2001: the check sum does not fit"));
    store_close(s);
    assert_int_equal(temp_count(state, ".check"), 1);
    check_all(state, &t, &report);
    assert_int_equal(report.replaced, 1);
    assert_non_null(strstr(report.reason, "number 2001"));
    assert_int_equal(report.lost_items, 1);
    assert_int_equal(report.bad, 1);
    assert_int_equal(t.items, t.waiting - 1);
    assert_int_equal(t.runs, RUNS);
    assert_int_equal(t.routines + t.progress, 2);
    free(data);
}

static void a_flipped_bit_in_a_run(void **state)
{
    struct tally t = {0};
    struct store_report report;
    sqlite3 *db;

    fill(state);
    assert_int_equal(sqlite3_open(database(state), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "UPDATE run SET peak_w = 7 WHERE id = 1000", 0, 0, 0),
                     SQLITE_OK);
    sqlite3_close(db);
    struct store *s = temp_open(state, NULL);
    uint64_t runs = 0;
    assert_int_equal(history_list(s, INT64_MIN, INT64_MAX, NULL, NULL, 100000, count_run, &runs),
                     -EBADMSG);
    store_close(s);
    check_all(state, &t, &report);
    assert_int_equal(report.replaced, 1);
    assert_int_equal(t.items, t.waiting);
    assert_int_equal(t.runs, RUNS - 1);
    assert_int_equal(report.lost_items, 0);
}

/* The report waits in the database until somebody was told. */
static void the_report_is_kept_until_told(void **state)
{
    struct store_report report, again;
    sqlite3 *db;

    fill(state);
    assert_int_equal(sqlite3_open(database(state), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "DELETE FROM outbox WHERE seq = 3999", 0, 0, 0), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "UPDATE outbox_state SET next_seq = 5", 0, 0, 0), SQLITE_OK);
    sqlite3_close(db);
    for (int i = 0; i < 2; i++) {
        struct store *s = temp_open(state, i == 0 ? &report : &again);
        store_close(s);
    }
    assert_true(report.replaced && again.replaced);
    assert_string_equal(again.set_aside, "");
    assert_int_equal(again.salvaged_items, report.salvaged_items);
    assert_int_equal(again.salvaged_rows, report.salvaged_rows);
    struct store *s = temp_open(state, NULL);
    assert_int_equal(store_told(s), 0);
    store_close(s);
    s = temp_open(state, &again);
    assert_int_equal(again.replaced, 0);
    store_close(s);
}

/* A power cut between the two renames: the next start finishes. */
static void an_interrupted_replacement_is_finished(void **state)
{
    struct store_report report;
    struct tally t = {0};
    char name[4300];

    fill(state);
    snprintf(name, sizeof name, "%s.salvaged", database(state));
    assert_int_equal(rename(database(state), name), 0);
    temp_write(database(state), "damaged beyond reading", 22);
    check_all(state, &t, &report);
    assert_int_equal(report.replaced, 1);
    assert_int_equal(t.items, t.waiting);
    assert_int_equal(temp_count(state, ".corrupt-"), 2); /* and its copy of the schema */
    remove_all(state);
    fill(state);
    assert_int_equal(rename(database(state), name), 0); /* the damaged one is out of the way */
    t = (struct tally){0};
    check_all(state, &t, &report);
    assert_int_equal(t.items, t.waiting);
    assert_int_equal(temp_count(state, ".salvage"), 0);
}

/* What a worn flash gives back: pages of nothing, of other times, of other files, with flipped bits
 * or torn. */
static void damage(char *data, size_t size, uint64_t *random)
{
    size_t pages = size / PAGE;
    int count = 1 + (int)(temp_random(random) % 6);

    for (int i = 0; i < count; i++) {
        char *page = data + PAGE * (temp_random(random) % pages);
        size_t at = 512 * (temp_random(random) % 8);
        switch (temp_random(random) % 6) {
        case 0:
            memset(page, 0, PAGE);
            break;
        case 1:
            memset(page, 0xff, PAGE);
            break;
        case 2:
            for (int k = 0; k < 3; k++)
                page[temp_random(random) % PAGE] ^= (char)(1 << temp_random(random) % 8);
            break;
        case 3:
            memmove(page, data + PAGE * (temp_random(random) % pages), PAGE);
            break;
        case 4:
            for (int k = 0; k < 512; k++)
                page[at + (size_t)k] = (char)temp_random(random);
            break;
        default:
            memset(page + at, 0, 512);
            break;
        }
    }
}

/* ---- the first page, which says where all others are ---- */

static void nothing_left(char *data, size_t size)
{
    (void)size;
    memset(data, 0, PAGE);
}

static void erased(char *data, size_t size)
{
    (void)size;
    memset(data, 0xff, PAGE);
}

static void garbage(char *data, size_t size)
{
    uint64_t random = 99;

    (void)size;
    for (int i = 0; i < PAGE; i++)
        data[i] = (char)temp_random(&random);
}

static void torn_front(char *data, size_t size)
{
    (void)size;
    memset(data, 0, 512);
}

static void torn_back(char *data, size_t size)
{
    (void)size;
    memset(data + 512, 0, PAGE - 512);
}

static void header_flipped(char *data, size_t size)
{
    (void)size;
    data[69] ^= 4; /* the number that says whose file it is */
}

static void another_page(char *data, size_t size)
{
    memcpy(data, data + size / PAGE / 2 * PAGE, PAGE);
}

static void whole_schema(char *data, size_t size)
{
    for (size_t page = 0; page < size / PAGE; page++)
        if (memmem(data + page * PAGE, PAGE, "CREATE TABLE", 12) != NULL)
            memset(data + page * PAGE, 0, PAGE);
    memset(data, 0, PAGE);
}

/* Each alone, and with a log in which the last items are. */
static void the_first_page(void **state)
{
    static const struct {
        const char *name;
        void (*damage)(char *data, size_t size);
    } ways[] = {{"zeroed", nothing_left},
                {"erased", erased},
                {"random", garbage},
                {"first sector zeroed", torn_front},
                {"all but the first sector zeroed", torn_back},
                {"a flipped bit", header_flipped},
                {"another page in its place", another_page},
                {"all pages of the schema zeroed", whole_schema}};
    struct store_report report;
    size_t size;

    fill(state);
    char *good = temp_read(database(state), &size), *bad = malloc(size);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        struct tally t = {0};
        memcpy(bad, good, size);
        ways[i].damage(bad, size);
        open_suspected(state, bad, size, &t, &report);
        print_message("first page, %s: %llu of %llu items, %llu of %d runs salvaged\n",
                      ways[i].name, (unsigned long long)t.items, (unsigned long long)t.waiting,
                      (unsigned long long)t.runs, RUNS);
        assert_int_equal(report.replaced, 1);
        assert_int_equal(t.items, t.waiting);
        assert_int_equal(t.runs, RUNS);
        assert_int_equal(t.routines + t.progress, 2);
        assert_int_equal(report.lost_items, 0);
        assert_int_equal(temp_count(state, "nilmd.db.schema"), 1); /* of the new one */
    }
    free(good);
    free(bad);
}

/* As a kill leaves it: the newest rows are in the log alone, which is read with the copied page. */
static void the_first_page_with_a_log(void **state)
{
    struct store_report report;
    struct tally t = {0};
    size_t size, log_size;
    int64_t value = 0;
    char log_name[4300];

    fill(state);
    snprintf(log_name, sizeof log_name, "%s-wal", database(state));
    struct store *s = temp_open(state, NULL);
    assert_int_equal(store_set(s, "answer", 43), 0);
    char *bad = temp_read(database(state), &size), *log = temp_read(log_name, &log_size);
    store_close(s);
    assert_true(log_size > PAGE);
    memset(bad, 0, PAGE);
    temp_write(database(state), bad, size);
    temp_write(log_name, log, log_size);
    check_all(state, &t, &report);
    assert_int_equal(report.replaced, 1);
    assert_int_equal(t.items, t.waiting);
    s = temp_open(state, NULL);
    assert_int_equal(store_get(s, "answer", &value), 0);
    assert_int_equal(value, 43);
    store_close(s);
    free(bad);
    free(log);
}

/* A copy that is missing or damaged is made again by the next start. */
static void the_copy_is_mended(void **state)
{
    size_t size, again_size;

    fill(state);
    char *good = temp_read(schema_copy(state), &size), *bad = malloc(size);
    for (size_t at = 0; at < size; at += 199) {
        memcpy(bad, good, size);
        bad[at] ^= 1;
        temp_write(schema_copy(state), bad, at % 2 == 0 ? size : at);
        store_close(temp_open(state, NULL));
        char *again = temp_read(schema_copy(state), &again_size);
        assert_int_equal(again_size, size);
        /* but for the counters in page 1's header */
        assert_memory_equal(again + 12, good + 12, 12);
        assert_memory_equal(again + 124, good + 124, size - 124);
        free(again);
    }
    unlink(schema_copy(state));
    store_close(temp_open(state, NULL));
    assert_int_equal(temp_count(state, ".schema"), 1);
    free(good);
    free(bad);
}

/* Another program's file in our place is no damage of ours. */
static void a_foreign_file_is_not_salvaged(void **state)
{
    struct store_report report;
    size_t size;
    sqlite3 *db;

    fill(state);
    char *copy = temp_read(schema_copy(state), &size);
    remove_all(state);
    assert_int_equal(sqlite3_open(database(state), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "CREATE TABLE t (a); PRAGMA application_id = 7", 0, 0, 0),
                     SQLITE_OK);
    sqlite3_close(db);
    temp_write(schema_copy(state), copy, size);
    struct store *s = temp_open(state, &report);
    assert_int_equal(report.replaced, 1);
    assert_int_equal(report.salvaged_items + report.lost_items + report.salvaged_rows, 0);
    store_close(s);
    free(copy);
}

static void random_damage(void **state)
{
    const char *wanted = getenv("NILM_FAULT_ROUNDS"), *seed_text = getenv("NILM_FAULT_SEED");
    int rounds = wanted == NULL ? 60 : atoi(wanted);
    uint64_t seed = seed_text == NULL ? 7 : strtoull(seed_text, NULL, 10);
    struct store_report report;
    struct tally t = {0};
    size_t size;

    fill(state);
    char *good = temp_read(database(state), &size), *bad = malloc(size);
    for (int i = 0; i < rounds; i++) {
        uint64_t random = (seed + (uint64_t)i) * 0x9E3779B97F4A7C15ull;
        memcpy(bad, good, size);
        damage(bad, size, &random);
        open_suspected(state, bad, size, &t, &report);
    }
    print_message(
        "seed %llu: %d rounds, 1 to 6 of %zu pages damaged: %llu set aside; %.2f %% of the "
        "waiting items, %.2f %% of the runs, %.0f %% of the routines salvaged\n",
        (unsigned long long)seed, rounds, size / PAGE, (unsigned long long)t.aside,
        100.0 * (double)t.items / (double)t.waiting,
        100.0 * (double)t.runs / ((double)RUNS * rounds), 100.0 * (double)t.routines / rounds);
    assert_true(t.items > t.waiting * 9 / 10);
    free(good);
    free(bad);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)
    const struct CMUnitTest tests[] = {
        T(nothing_is_replaced_without_damage),
        T(a_flipped_bit_in_a_body),
        T(a_flipped_bit_in_a_run),
        T(the_report_is_kept_until_told),
        T(an_interrupted_replacement_is_finished),
        T(the_first_page),
        T(the_first_page_with_a_log),
        T(the_copy_is_mended),
        T(a_foreign_file_is_not_salvaged),
        T(random_damage),
    };

    temp_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
