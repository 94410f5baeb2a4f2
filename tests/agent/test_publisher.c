/* test_publisher.c - the publisher against a real Mosquitto: nothing lost, nothing twice after
 * de-duplication, retained topics, pushes and commands (SPEC 3, 4.1, 4.6, 4.7). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "agent/command.h"
#include "agent/config.h"
#include "agent/lib_bundle.h"
#include "agent/lib_folder.h"
#include "agent/publisher.h"
#include "storage/outbox.h"
#include "storage/store.h"
#include "transport/lib_broker.h"
#include "transport/link.h"
#include "transport/pki.h"

#define PATIENCE_S 60
#define ITEMS 4096

static struct broker broker;
static char why[512];

struct message { /* what the subscriber got last on a topic, and how often */
    char topic[128], text[1024];
    int count;
};

struct world {
    void *folder;
    struct config config;
    char db[256];
    struct store *store;
    int event_fd;
    struct publisher *publisher;
    struct link *subscriber;
    unsigned char seen[ITEMS];  /* by sequence number */
    int first[16], first_count; /* the numbers that came first */
    int seen_count, replayed;
    struct message messages[8];
    int message_count;
};

static int64_t seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

static struct link *make_subscriber(void)
{
    struct link *l;
    const struct link_config c = {.host = "127.0.0.1",
                                  .port = broker.port,
                                  .client_id = "operator",
                                  .ca_path = broker_file(&broker, "ca.crt"),
                                  .cert_path = broker_file(&broker, "operator.crt"),
                                  .key_path = broker_file(&broker, "operator.key"),
                                  .backoff_min_ms = 50,
                                  .backoff_max_ms = 200,
                                  .session_expiry_s = 3600,
                                  .max_message = 8 << 20};
    assert_int_equal(link_create(&c, &l, why, sizeof why), 0);
    assert_int_equal(link_subscribe(l, "nilm/v1/#"), 0);
    return l;
}

static void note(struct world *w, const struct link_event *e)
{
    char text[4096];
    const size_t n = e->payload_bytes < sizeof text - 1 ? e->payload_bytes : sizeof text - 1;
    memcpy(text, e->payload, n);
    text[n] = '\0';
    const char *seq = strstr(text, "\"seq\":");
    if (seq) {
        const unsigned long number = strtoul(seq + 6, NULL, 10);
        assert_true(number > 0 && number < ITEMS);
        if (!w->seen[number]++) {
            w->seen_count++;
            w->replayed += strstr(text, "\"replay\":true") != NULL;
            if (w->first_count < 16)
                w->first[w->first_count++] = (int)number;
        }
        return;
    }
    int i = 0;
    while (i < w->message_count && strcmp(w->messages[i].topic, e->topic) != 0)
        i++;
    assert_true(i < 8);
    if (i == w->message_count)
        snprintf(w->messages[w->message_count++].topic, sizeof w->messages[0].topic, "%s",
                 e->topic);
    snprintf(w->messages[i].text, sizeof w->messages[i].text, "%s", text);
    w->messages[i].count++;
}

/* One event of the subscriber. */
static void listen_once(struct world *w, int timeout_ms)
{
    struct link_event e;
    const int type = link_next(w->subscriber, &e, timeout_ms);
    assert_true(type >= 0);
    if (type == LINK_MESSAGE)
        note(w, &e);
}

static void await_up(struct world *w)
{
    struct link_event e = {0};
    for (const int64_t until = seconds() + PATIENCE_S;
         link_next(w->subscriber, &e, 1000) != LINK_UP;)
        assert_true(seconds() < until);
}

static void await_items(struct world *w, int count)
{
    for (const int64_t until = seconds() + PATIENCE_S; w->seen_count < count;) {
        if (seconds() >= until)
            fail_msg("only %d of %d items came", w->seen_count, count);
        listen_once(w, 100);
    }
}

/* Until the last message on the topic contains text. */
static void await_message(struct world *w, const char *topic, const char *text)
{
    for (const int64_t until = seconds() + PATIENCE_S;;) {
        for (int i = 0; i < w->message_count; i++)
            if (strcmp(w->messages[i].topic, topic) == 0 && strstr(w->messages[i].text, text))
                return;
        if (seconds() >= until)
            fail_msg("no \"%s\" on %s", text, topic);
        listen_once(w, 100);
    }
}

static void await_drained(struct world *w)
{
    struct publisher_stats s;
    for (const int64_t until = seconds() + PATIENCE_S;;) {
        publisher_get_stats(w->publisher, &s);
        if (s.drained)
            return;
        if (seconds() >= until)
            fail_msg("not drained: %s", s.state);
        listen_once(w, 20);
    }
}

static void append(struct world *w, enum outbox_kind kind, int count)
{
    for (int i = 0; i < count; i++) {
        struct outbox_item item = {.kind = kind,
                                   .created_ms = 1790000000000,
                                   .channel = "kitchen",
                                   .body = "{\"a\":1}",
                                   .body_bytes = 7};
        uint64_t seq;
        assert_int_equal(outbox_append(w->store, &item, &seq), 0);
    }
    if (w->publisher)
        publisher_wake(w->publisher);
}

static void start(struct world *w)
{
    assert_int_equal(publisher_start(&w->config, w->db, w->event_fd, &w->publisher), 0);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    int64_t epoch;
    if (folder_setup(&w->folder) != 0)
        return -1;
    struct config *c = &w->config;
    snprintf(c->device, sizeof c->device, "device");
    snprintf(c->group, sizeof c->group, "shop");
    snprintf(c->base, sizeof c->base, "nilm/v1");
    snprintf(c->broker_host, sizeof c->broker_host, "127.0.0.1");
    c->broker_port = broker.port;
    c->keepalive_s = 30;
    snprintf(c->ca, sizeof c->ca, "%s", broker_file(&broker, "ca.crt"));
    snprintf(c->cert, sizeof c->cert, "%s", broker_file(&broker, "device.crt"));
    snprintf(c->key, sizeof c->key, "%s", broker_file(&broker, "device.key"));
    snprintf(c->model_keys, sizeof c->model_keys, "%s", folder_path(&w->folder, "signer.pub"));
    snprintf(w->db, sizeof w->db, "%s", folder_path(&w->folder, "nilmd.db"));
    if (store_open(w->db, &w->store, NULL, why, sizeof why) < 0 ||
        outbox_start(w->store, 1790000000, &epoch) < 0)
        return -1;
    w->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    w->subscriber = make_subscriber();
    await_up(w);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    publisher_stop(w->publisher, "{\"state\":\"stopped\",\"device\":\"device\"}");
    link_destroy(w->subscriber, 1000);
    store_close(w->store);
    close(w->event_fd);
    const int rc = folder_teardown(&w->folder);
    free(w);
    broker_kill(&broker, SIGKILL); /* forgets retained messages and sessions */
    return broker_start(&broker, "server", "max_queued_messages 100000") == 0 ? rc : -1;
}

static void a_backlog_is_drained(void **state)
{
    struct world *w = *state;
    struct outbox_stats s;
    append(w, OUTBOX_EVENT, 300);
    append(w, OUTBOX_ALERT, 5);
    start(w);
    await_items(w, 305);
    assert_int_equal(w->replayed, 305);
    for (int i = 0; i < 5; i++) /* alerts overtake events; each kind keeps its order */
        assert_int_equal(w->first[i], 301 + i);
    for (int i = 5; i < 16; i++)
        assert_int_equal(w->first[i], i - 4);
    await_drained(w);
    assert_int_equal(outbox_statistics(w->store, &s), 0);
    assert_int_equal(s.rows, 0);
    append(w, OUTBOX_EVENT, 1);
    await_items(w, 306);
    assert_int_equal(w->replayed, 305); /* the last was live */
}

static void await_session(struct world *w, int number)
{
    struct publisher_stats p;
    for (int tries = 0; tries < 600; tries++) {
        publisher_get_stats(w->publisher, &p);
        if (p.sessions >= (uint64_t)number)
            return;
        listen_once(w, 50);
    }
    fail_msg("session %d did not begin", number);
}

static void a_broker_killed_twice_loses_nothing(void **state)
{
    struct world *w = *state;
    struct outbox_stats s;
    start(w);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 50; i++) {
            append(w, i % 10 ? OUTBOX_EVENT : OUTBOX_ALERT, 10);
            listen_once(w, 0);
        }
        if (round == 2)
            break;
        await_items(w, w->seen_count + 1); /* in the middle of the stream */
        await_session(w, round + 1);       /* else both kills may meet the same outage */
        broker_kill(&broker, SIGKILL);
        append(w, OUTBOX_EVENT, 10);
        assert_int_equal(broker_start(&broker, "server", "max_queued_messages 100000"), 0);
    }
    /* A Mosquitto that is killed forgets what it had acknowledged but not delivered. So what counts
     * here: every item was acknowledged, those of the last session arrived, and the rest is empty.
     */
    await_drained(w);
    assert_int_equal(outbox_statistics(w->store, &s), 0);
    assert_int_equal(s.rows, 0);
    assert_int_equal(s.acknowledged, 1520);
    struct publisher_stats p;
    publisher_get_stats(w->publisher, &p);
    assert_int_equal(p.sessions, 3);
    assert_int_equal(p.parked, 0);
    assert_true(p.acknowledged >= 1520);
}

static void retained_topics_follow(void **state)
{
    struct world *w = *state;
    start(w);
    publisher_set(w->publisher, PUBLISHER_STATUS, "{\"state\":\"online\",\"n\":1}");
    publisher_set(w->publisher, PUBLISHER_MODEL, "{\"state\":\"idle\"}");
    await_message(w, "nilm/v1/device/status", "\"n\":1");
    await_message(w, "nilm/v1/device/model", "idle");
    publisher_set(w->publisher, PUBLISHER_STATUS, "{\"state\":\"online\",\"n\":2}");
    await_message(w, "nilm/v1/device/status", "\"n\":2");
    broker_kill(&broker, SIGKILL); /* forgets what was retained: it is told anew */
    w->message_count = 0;
    assert_int_equal(broker_start(&broker, "server", "max_queued_messages 100000"), 0);
    await_message(w, "nilm/v1/device/status", "\"n\":2");
    await_message(w, "nilm/v1/device/model", "idle");
    publisher_stop(w->publisher, "{\"state\":\"stopped\"}");
    w->publisher = NULL;
    await_message(w, "nilm/v1/device/status", "stopped");
    listen_once(w, 500);
    await_message(w, "nilm/v1/device/status", "stopped"); /* the will stayed away */
}

static void say(struct world *w, const char *topic, const void *data, size_t size, int retained)
{
    struct link_event e;
    assert_int_equal(link_publish(w->subscriber, topic, data, size, 1, retained, NULL, 0, 1), 0);
    for (const int64_t until = seconds() + PATIENCE_S;;) {
        const int type = link_next(w->subscriber, &e, 100);
        assert_true(type >= 0 && type != LINK_FAILED && seconds() < until);
        if (type == LINK_MESSAGE)
            note(w, &e);
        if (type == LINK_ACKED)
            return;
    }
}

/* Waits for the eventfd as the main loop does. */
static struct publisher_message take(struct world *w)
{
    struct publisher_message m = {0};
    for (const int64_t until = seconds() + PATIENCE_S; !publisher_take(w->publisher, &m);) {
        struct pollfd p = {.fd = w->event_fd, .events = POLLIN};
        uint64_t count;
        assert_true(seconds() < until);
        if (poll(&p, 1, 1000) > 0)
            assert_int_equal(read(w->event_fd, &count, sizeof count), sizeof count);
    }
    return m;
}

static void pushes_arrive_checked(void **state)
{
    struct world *w = *state;
    struct publisher_message m;
    void *data;
    size_t size;
    char signer[256];
    snprintf(signer, sizeof signer, "%s", folder_path(&w->folder, "signer.key"));
    assert_int_equal(pki_make_key(signer, w->config.model_keys, why, sizeof why), 0);
    bundle_make(&(struct bundle_plan){.version = 7, .key = signer}, &data, &size);
    start(w);
    publisher_set(w->publisher, PUBLISHER_STATUS, "{\"state\":\"online\"}");
    await_message(w, "nilm/v1/device/status", "online");
    say(w, "nilm/v1/device/push", data, size, 0);
    m = take(w);
    assert_non_null(m.candidate);
    assert_int_equal(m.candidate->error, 0);
    assert_int_equal(m.candidate->version, 7);
    assert_non_null(m.candidate->engine);
    candidate_free(m.candidate);
    await_message(w, "nilm/v1/device/model", "\"state\":\"received\"");
    ((unsigned char *)data)[size / 2] ^= 4;
    say(w, "nilm/v1/group/shop/push", data, size, 0);
    m = take(w);
    assert_non_null(m.candidate);
    assert_true(m.candidate->error < 0);
    assert_null(m.candidate->bytes);
    candidate_free(m.candidate);
    say(w, "nilm/v1/device/push", "", 0, 1); /* removes a retained message: no bundle */
    say(w, "nilm/v1/device/push", "x", 1, 0);
    m = take(w);
    assert_true(m.candidate && m.candidate->error < 0 && m.candidate->size == 1);
    candidate_free(m.candidate);
    free(data);
}

/* More proven bundles than wait at most: refused as busy, and that is reported too. */
static void surplus_pushes_are_refused(void **state)
{
    struct world *w = *state;
    void *data;
    size_t size;
    char signer[256];
    snprintf(signer, sizeof signer, "%s", folder_path(&w->folder, "signer.key"));
    assert_int_equal(pki_make_key(signer, w->config.model_keys, why, sizeof why), 0);
    bundle_make(&(struct bundle_plan){.version = 7, .key = signer}, &data, &size);
    start(w);
    publisher_set(w->publisher, PUBLISHER_STATUS, "{\"state\":\"online\"}");
    await_message(w, "nilm/v1/device/status", "online");
    for (int i = 0; i < PUBLISHER_CANDIDATES + 2; i++)
        say(w, "nilm/v1/device/push", data, size, 0);
    free(data);
    poll(NULL, 0,
         500); /* leaves them waiting; however many do, the outcome below is the same sum */
    int proven = 0, busy = 0;
    while (proven + busy < PUBLISHER_CANDIDATES + 2) {
        struct publisher_message m = take(w);
        assert_non_null(m.candidate);
        assert_int_equal(m.candidate->version, 7);
        if (m.candidate->error == -EBUSY)
            busy++;
        else
            proven++;
        candidate_free(m.candidate);
    }
    assert_true(proven >= PUBLISHER_CANDIDATES);
}

static void commands_arrive(void **state)
{
    static const char ping[] = "{\"id\":\"a\",\"command\":\"ping\"}";
    static char big[COMMAND_MAX_BYTES + 1];
    struct world *w = *state;
    struct publisher_message m;
    start(w);
    publisher_set(w->publisher, PUBLISHER_STATUS, "{\"state\":\"online\"}");
    await_message(w, "nilm/v1/device/status", "online");
    memset(big, 'x', sizeof big);
    say(w, "nilm/v1/device/command", big, sizeof big, 0);
    await_message(w, "nilm/v1/device/reply", "larger than 4096 bytes");
    say(w, "nilm/v1/device/command", ping, strlen(ping), 0);
    m = take(w);
    assert_non_null(m.command);
    assert_int_equal(m.command_bytes, strlen(ping));
    assert_memory_equal(m.command, ping, strlen(ping));
    free(m.command);
    assert_int_equal(publisher_reply(w->publisher, "{\"id\":\"a\",\"ok\":true}"), 0);
    await_message(w, "nilm/v1/device/reply", "\"id\":\"a\",\"ok\":true");
    /* More than can wait: answered, not stored. */
    for (int i = 0; i < PUBLISHER_COMMANDS + 1; i++)
        say(w, "nilm/v1/device/command", ping, strlen(ping), 0);
    await_message(w, "nilm/v1/device/reply", "too many commands wait");
    for (int i = 0; i < PUBLISHER_COMMANDS; i++)
        free(take(w).command);
    assert_false(publisher_take(w->publisher, &m));
}

/* A retained command would be executed at every connect. */
static void retained_commands_are_ignored(void **state)
{
    static const char rollback[] = "{\"id\":\"a\",\"command\":\"rollback\"}",
                      ping[] = "{\"id\":\"b\",\"command\":\"ping\"}";
    struct world *w = *state;
    say(w, "nilm/v1/device/command", rollback, strlen(rollback), 1);
    start(w);
    publisher_set(w->publisher, PUBLISHER_STATUS, "{\"state\":\"online\"}");
    await_message(w, "nilm/v1/device/status", "online");
    say(w, "nilm/v1/device/command", ping, strlen(ping), 0);
    struct publisher_message m = take(w);
    assert_non_null(strstr(m.command, "ping"));
    free(m.command);
    say(w, "nilm/v1/device/command", "", 0, 1);
}

static void unusable_certificates_are_told(void **state)
{
    struct world *w = *state;
    struct publisher_stats s;
    snprintf(w->config.cert, sizeof w->config.cert, "%s", folder_path(&w->folder, "missing.crt"));
    start(w);
    for (const int64_t until = seconds() + PATIENCE_S;;) {
        publisher_get_stats(w->publisher, &s);
        if (strstr(s.state, "missing.crt"))
            break;
        assert_true(seconds() < until);
        poll(NULL, 0, 10);
    }
    assert_false(s.connected);
    append(w, OUTBOX_EVENT, 3); /* nobody waits for the broker */
    publisher_set(w->publisher, PUBLISHER_STATUS, "{}");
    assert_int_equal(publisher_reply(w->publisher, "{}"), 0);
    publisher_get_stats(w->publisher, &s);
    assert_false(s.drained);
}

static int start_broker(void **state)
{
    (void)state;
    if (broker_prepare(&broker) != 0)
        return -1;
    return broker_start(&broker, "server", "max_queued_messages 100000");
}

static int stop_broker(void **state)
{
    (void)state;
    broker_remove(&broker);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_backlog_is_drained),          TEST(a_broker_killed_twice_loses_nothing),
        TEST(retained_topics_follow),        TEST(pushes_arrive_checked),
        TEST(surplus_pushes_are_refused),    TEST(commands_arrive),
        TEST(retained_commands_are_ignored), TEST(unusable_certificates_are_told),
    };
    return cmocka_run_group_tests(tests, start_broker, stop_broker);
}
