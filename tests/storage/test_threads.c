/* test_threads.c - two threads, two handles, one file: nothing is lost, nothing comes twice
 * (SPEC 5.3). */
#include "storage/lib_consumer.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "storage/store_internal.h"

#define ITEMS 1500

struct job {
    const char *path;
    struct outbox_caps caps;
    atomic_int appended; /* set when the appender is done */
    struct consumer *consumer;
    int failed;
};

/* cmocka's assertions belong to the main thread: these count instead. */
static struct store *open_handle(struct job *job)
{
    struct store *s = NULL;
    char why[256];

    if (store_open(job->path, &s, NULL, why, sizeof why) != 0)
        return NULL;
    sqlite3_exec(s->db, "PRAGMA synchronous = OFF", NULL, NULL, NULL);
    outbox_limit(s, &job->caps);
    return s;
}

static void *append(void *context)
{
    struct job *job = context;
    struct store *s = open_handle(job);
    struct outbox_item item = {.channel = "m", .body = "{\"n\":1}", .body_bytes = 7};

    job->failed += s == NULL;
    for (int i = 0; s != NULL && i < ITEMS; i++) {
        uint64_t seq;
        item.kind = i % 5 == 0 ? OUTBOX_ALERT : OUTBOX_EVENT;
        job->failed += outbox_append(s, &item, &seq) != 0;
    }
    store_close(s);
    atomic_store(&job->appended, 1);
    return NULL;
}

/* Both sides with the caps set or not; the main thread is the publisher. */
static void append_and_acknowledge(void **state, struct outbox_caps caps)
{
    struct job job = {.path = temp_path(state, "nilmd.db"),
                      .caps = caps,
                      .consumer = calloc(1, sizeof(struct consumer))};
    struct store *s = temp_open(state, NULL);
    struct outbox_stats stats;
    pthread_t thread;
    int64_t epoch;
    int done;

    assert_int_equal(outbox_start(s, 1700000000, &epoch), 0);
    sqlite3_exec(s->db, "PRAGMA synchronous = OFF", NULL, NULL, NULL);
    assert_int_equal(pthread_create(&thread, NULL, append, &job), 0);
    do {
        done = atomic_load(&job.appended);
        consumer_drain(job.consumer, s);
    } while (!done);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(job.failed, 0);
    consumer_drain(job.consumer, s);
    assert_int_equal(outbox_statistics(s, &stats), 0);
    assert_int_equal(stats.rows, 0);
    assert_int_equal(stats.next_seq, ITEMS + 1 + job.consumer->gaps);
    assert_int_equal(stats.dropped, job.consumer->lost);
    consumer_check(job.consumer, stats.next_seq, 0);
    free(job.consumer);
    store_close(s);
}

static void without_caps(void **state)
{
    append_and_acknowledge(state, (struct outbox_caps){0});
}

static void with_drops(void **state)
{
    append_and_acknowledge(state, (struct outbox_caps){.max_rows = 3});
}

static void *open_and_set(void *context)
{
    struct job *job = context;

    for (int i = 0; i < 10; i++) {
        struct store *s = open_handle(job);
        job->failed += s == NULL || store_set(s, "x", i) != 0;
        store_close(s);
    }
    return NULL;
}

/* Many handles opening a file that does not exist yet: made once, never set aside. */
static void opening_at_once(void **state)
{
    struct job jobs[4];
    pthread_t threads[4];

    memset(jobs, 0, sizeof jobs);
    for (int i = 0; i < 4; i++) {
        jobs[i].path = temp_path(state, "nilmd.db");
        assert_int_equal(pthread_create(&threads[i], NULL, open_and_set, &jobs[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(jobs[i].failed, 0);
    }
    assert_int_equal(temp_count(state, "corrupt"), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)
    const struct CMUnitTest tests[] = {T(without_caps), T(with_drops), T(opening_at_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
