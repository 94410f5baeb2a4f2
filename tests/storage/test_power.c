/* test_power.c - the power goes at every change and every synchronisation of files (SPEC 5.3,
 * 5.11, 5.14); after SQLite's src/test6.c and littlefs's runners/test_runner.c.
 *
 * A scenario runs until the cut, the disk keeps what it may (lib/fault.h), and then everything that
 * was acknowledged to the caller must be there. NILM_FAULT_ROUNDS: what the disk keeps is drawn so
 * many times for each cut (1, at most 20). */
#include "lib/fault.h"
#include "storage/lib_consumer.h"
#include "storage/lib_released.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/history.h"
#include "storage/slots.h"
#include "storage/store_internal.h"

#define ROUNDS 20 /* at most */

static int64_t cut_points;

struct life {
    struct consumer before, after; /* what a subscriber got before and after the cut */
    uint64_t last;                 /* number reported last */
    int64_t progress;              /* committed, as reported */
    int damaged;                   /* number of the item that cannot be read; 0: none */
    uint32_t active, trying;       /* versions of the model: active as reported, being activated */
};

struct scenario {
    const char *name;
    void (*prepare)(const char *folder); /* what lies there before, on a good disk */
    void (*live)(const char *folder, struct life *l);
    void (*check)(const char *folder, struct life *l, int64_t at);
    int least; /* cut points expected */
};

static const char *database(const char *folder)
{
    static char path[600];

    snprintf(path, sizeof path, "%s/nilmd.db", folder);
    return path;
}

/* ---- the outbox ---- */

static int append(struct store *s, struct life *l, int i)
{
    char body[64];
    struct outbox_item item = {.kind = i % 3 ? OUTBOX_EVENT : OUTBOX_ALERT,
                               .channel = "m",
                               .body = body,
                               .body_bytes = (size_t)snprintf(body, sizeof body, "{\"n\":%d}", i)};
    uint64_t seq = 0;
    int rc = store_begin(s);

    if (rc == 0)
        rc = outbox_append(s, &item, &seq);
    if (rc == 0)
        rc = history_set_progress(s, "m", i + 1);
    if (rc == 0)
        rc = store_commit(s);
    else
        store_rollback(s);
    if (rc == 0) {
        l->last = seq;
        l->progress = i + 1;
    }
    return rc;
}

static int acknowledge(struct store *s, struct life *l, int priority)
{
    static char buffer[OUTBOX_BODY_BYTES + 1];
    struct outbox_item got;

    if (outbox_fetch(s, priority, 0, &got, 1, buffer, sizeof buffer) != 1 || got.kind == OUTBOX_GAP)
        return 0;
    l->before.received[got.seq] = 1; /* the broker has it */
    return outbox_ack(s, &got.seq, 1);
}

/* Appends, acknowledgements, drops, gaps, a checkpoint; ends at the first failure. */
static void live_outbox(const char *folder, struct life *l)
{
    struct outbox_caps caps = {.max_rows = 9};
    struct store *s = NULL;
    char why[256];
    int64_t epoch;
    int rc = store_open(database(folder), &s, NULL, why, sizeof why);

    if (rc == 0)
        rc = outbox_start(s, 1700000000, &epoch);
    for (int i = 0; i < 16 && rc == 0; i++) {
        outbox_limit(s, &caps);
        rc = append(s, l, i);
        if (rc == 0 && i % 5 == 4)
            rc = acknowledge(s, l, i % 2 ? 3 : 2);
        if (i == 7 && rc == 0)
            sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    }
    store_close(s);
}

static void check_outbox(const char *folder, struct life *l, int64_t at)
{
    struct store_report report;
    struct outbox_stats stats;
    struct store *s = NULL;
    int64_t progress = 0;
    char why[256] = "";

    if (store_open(database(folder), &s, &report, why, sizeof why) != 0)
        fail_msg("cut %lld: %s", (long long)at, why);
    if (report.set_aside[0] != '\0' && l->damaged == 0)
        fail_msg("cut %lld: set aside: %s", (long long)at, report.reason);
    assert_int_equal(store_check(s, 1, 1), 0);
    assert_int_equal(outbox_statistics(s, &stats), 0);
    if (stats.next_seq <= l->last)
        fail_msg("cut %lld: number %llu was reported and is gone", (long long)at,
                 (unsigned long long)l->last);
    history_progress(s, "m", &progress);
    assert_true(progress >= l->progress && progress <= l->progress + 1);
    consumer_drain(&l->after, s);
    if (l->damaged != 0) {
        assert_int_equal(l->after.received[l->damaged], 0);
        assert_int_equal(l->after.declared[l->damaged], 1);
    }
    for (int i = 0; i < CONSUMER_NUMBERS; i++)
        l->after.received[i] |= l->before.received[i];
    consumer_check(&l->after, stats.next_seq, 0);
    store_close(s);
}

/* ---- migration ---- */

static void prepare_version_1(const char *folder)
{
    sqlite3 *db;

    assert_int_equal(sqlite3_open(database(folder), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, released_tables_1, 0, 0, 0), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(db,
                     "INSERT INTO outbox_state VALUES (1, 5, 4, 3, 0, 0, 0, 216, 0, 0, 0, 0, 0);"
                     "INSERT INTO outbox VALUES (1, 5, 1, 1, 0, 1, 0, 72, 'm', '{\"n\":1}', NULL),"
                     " (2, 5, 1, 1, 0, 1, 0, 72, 'm', '{\"n\":2}', NULL),"
                     " (3, 5, 1, 1, 0, 1, 0, 72, 'm', '{\"n\":3}', NULL);"
                     "PRAGMA application_id = 0x4E494C4D; PRAGMA user_version = 1;"
                     "INSERT INTO value VALUES ('store.schema', 1); PRAGMA journal_mode = WAL",
                     0, 0, 0),
        SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void live_migration(const char *folder, struct life *l)
{
    struct store *s = NULL;
    char why[256];

    l->last = 3;
    if (store_open(database(folder), &s, NULL, why, sizeof why) == 0)
        append(s, l, 0);
    store_close(s);
}

/* ---- salvage ---- */

static void prepare_damage(const char *folder)
{
    struct life *l = calloc(1, sizeof *l);
    sqlite3 *db;
    char name[600];

    live_outbox(folder, l);
    free(l);
    assert_int_equal(sqlite3_open(database(folder), &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(db, "UPDATE outbox SET body = '{\"n\":99}' WHERE seq = 15", 0, 0, 0),
        SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    snprintf(name, sizeof name, "%s.check", database(folder));
    temp_write(name, "", 0);
}

static void live_salvage(const char *folder, struct life *l)
{
    struct store *s = NULL;
    char why[256];
    int64_t epoch;

    l->damaged = 15;
    l->last = 16;
    l->progress = 16;
    for (int i = 1; i <= 16; i++) /* those that prepare_damage had acknowledged */
        l->before.received[i] = i == 1 || i == 4;
    if (store_open(database(folder), &s, NULL, why, sizeof why) == 0 &&
        outbox_start(s, 1700000001, &epoch) == 0)
        append(s, l, 16);
    store_close(s);
}

/* ---- slots of models ---- */

static void bundle_of(uint32_t version, char text[3000])
{
    memset(text, 'a' + (int)(version % 26), 2999);
    text[2999] = '\0';
    snprintf(text, 20, "bundle %u", version);
}

static void prepare_slots(const char *folder)
{
    struct slots *s = NULL;
    char why[256], bundle[3000];
    int repaired;

    bundle_of(1, bundle);
    assert_int_equal(slots_open(folder, &s, &repaired, why, sizeof why), 0);
    assert_int_equal(slots_stage(s, bundle, 3000, why, sizeof why), 0);
    assert_int_equal(slots_activate(s, 1, why, sizeof why), 0);
    slots_close(s);
}

static void live_slots(const char *folder, struct life *l)
{
    struct slots *s = NULL;
    char why[256], bundle[3000];
    int repaired, rc = slots_open(folder, &s, &repaired, why, sizeof why);

    l->active = l->trying = 1;
    for (uint32_t version = 2; version <= 4 && rc == 0; version++) {
        bundle_of(version, bundle);
        rc = slots_stage(s, bundle, sizeof bundle, why, sizeof why);
        if (rc != 0)
            break;
        l->trying = version;
        rc = slots_activate(s, version, why, sizeof why);
        if (rc == 0)
            l->active = version;
    }
    if (rc == 0) {
        l->trying = 3;
        if (slots_rollback(s, why, sizeof why) == 0)
            l->active = 3;
    }
    slots_close(s);
}

/* The active slot is whole, and the last one reported or the one being activated. */
static void check_slots(const char *folder, struct life *l, int64_t at)
{
    struct slots *s = NULL;
    struct slots_info info;
    char why[256] = "", bundle[3000];
    void *data = NULL;
    size_t size = 0;
    int repaired = 0;

    if (slots_open(folder, &s, &repaired, why, sizeof why) != 0 || repaired)
        fail_msg("cut %lld: %s", (long long)at, why);
    assert_int_equal(slots_get(s, &info), 0);
    if (info.active == 0 || (info.version != l->active && info.version != l->trying))
        fail_msg("cut %lld: version %u is active, expected %u or %u", (long long)at, info.version,
                 l->active, l->trying);
    if (slots_read(s, info.active, 10000, &data, &size, why, sizeof why) != 0)
        fail_msg("cut %lld: %s", (long long)at, why);
    bundle_of(info.version, bundle);
    assert_int_equal(size, sizeof bundle);
    assert_memory_equal(data, bundle, size);
    free(data);
    if (info.previous != 0) {
        assert_int_equal(slots_read(s, info.previous, 10000, &data, &size, why, sizeof why), 0);
        bundle_of(info.previous_version, bundle);
        assert_int_equal(size, sizeof bundle);
        assert_memory_equal(data, bundle, size);
        free(data);
    }
    slots_close(s);
}

/* ---- cuts ---- */

static void clear(const char *folder)
{
    char command[600];

    snprintf(command, sizeof command, "rm -rf %s && mkdir -m 700 %s", folder, folder);
    assert_int_equal(system(command), 0);
}

/* Returns whether the scenario came to its end before the cut. */
static int one_cut(const struct scenario *sc, const char *folder, int64_t at, uint64_t *random)
{
    struct life *l = calloc(1, sizeof *l);
    char shm[600];

    clear(folder);
    if (sc->prepare != NULL)
        sc->prepare(folder);
    fault_disk(folder, at);
    sc->live(folder, l);
    int finished = fault_files_seen() <= at;
    fault_power_back(random);
    snprintf(shm, sizeof shm, "%s-shm", database(folder));
    unlink(shm); /* memory */
    sc->check(folder, l, at);
    free(l);
    return finished;
}

static void cut_everywhere(void **state, const struct scenario *sc)
{
    const char *wanted = getenv("NILM_FAULT_ROUNDS");
    int rounds = wanted == NULL ? 1 : atoi(wanted) < ROUNDS ? atoi(wanted) : ROUNDS;
    int finished = 0;
    char folder[500];
    uint64_t random = 31;
    int64_t at = 0;

    snprintf(folder, sizeof folder, "%s", temp_path(state, "disk"));
    for (; !finished; at++)
        for (int i = 0; i < rounds; i++)
            finished = one_cut(sc, folder, at, &random);
    cut_points += at - 1;
    print_message("%s: power cut at each of %lld changes and synchronisations, %d time(s)\n"
                  "%lld cut points so far\n",
                  sc->name, (long long)at - 1, rounds, (long long)cut_points);
    assert_true(at > sc->least);
}

static void of_the_outbox(void **state)
{
    cut_everywhere(state, &(struct scenario){"appends, acknowledgements, drops, gaps, checkpoint",
                                             NULL, live_outbox, check_outbox, 80});
}

static void of_a_migration(void **state)
{
    cut_everywhere(state, &(struct scenario){"migration", prepare_version_1, live_migration,
                                             check_outbox, 15});
}

static void of_a_salvage(void **state)
{
    cut_everywhere(state,
                   &(struct scenario){"salvage", prepare_damage, live_salvage, check_outbox, 20});
}

static void of_the_slots(void **state)
{
    cut_everywhere(state,
                   &(struct scenario){"model slots", prepare_slots, live_slots, check_slots, 40});
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)
    const struct CMUnitTest tests[] = {T(of_the_outbox), T(of_a_migration), T(of_a_salvage),
                                       T(of_the_slots)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
