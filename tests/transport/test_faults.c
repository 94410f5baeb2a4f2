/* test_faults.c - what goes wrong between link and broker, told in words; and that nobody else gets
 * in or listens. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "transport/lib_link.h"

static struct broker broker;

static int setup(void **state)
{
    (void)state;
    return broker_prepare(&broker) != 0 ? -1 : broker_start(&broker, "server", "");
}

static int teardown(void **state)
{
    (void)state;
    broker_remove(&broker);
    return 0;
}

/* The first attempt with this configuration fails, and the text says words. */
static void expect_down(const struct link_config *c, const char *words)
{
    struct link_event e;
    struct link *l = link_open(c);
    link_await(l, LINK_DOWN, &e);
    print_message("  %s\n", e.text);
    if (!strstr(e.text, words))
        fail_msg("expected \"%s\" in: %s", words, e.text);
    assert_int_equal(link_room(l), 0);
    assert_int_equal(link_publish(l, "t", "x", 1, 1, 0, NULL, 0, 1), -ENOTCONN);
    link_destroy(l, 1000);
}

static void tells_certificate_problems(void **state)
{
    (void)state;
    static const struct {
        const char *server, *ca, *cert, *key, *host, *name, *words;
    } cases[] = {
        {"server", "other-ca.crt", "device.crt", "device.key", NULL, NULL,
         "not signed by a trusted CA"},
        {"expired", "ca.crt", "device.crt", "device.key", NULL, NULL, "has expired"},
        {"wrong-name", "ca.crt", "device.crt", "device.key", NULL, NULL, "for another name"},
        {"wrong-name", "ca.crt", "device.crt", "device.key", "localhost", NULL, "for another name"},
        {"dns-only", "ca.crt", "device.crt", "device.key", NULL, NULL, "for another name"},
        {"server", "ca.crt", "device.crt", "device.key", NULL, "127.0.0.2", "for another name"},
        {"server", "ca.crt", NULL, NULL, NULL, NULL, "client certificate"},
        {"server", "ca.crt", "stranger.crt", "stranger.key", NULL, NULL,
         "does not know the CA of our client certificate"},
        {"server", "ca.crt", "expired-client.crt", "expired-client.key", NULL, NULL,
         "our client certificate has expired"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        broker_kill(&broker, SIGKILL);
        assert_int_equal(broker_start(&broker, cases[i].server, ""), 0);
        struct link_config c = link_defaults(&broker);
        c.ca_path = broker_file(&broker, cases[i].ca);
        c.cert_path = cases[i].cert ? broker_file(&broker, cases[i].cert) : NULL;
        c.key_path = cases[i].key ? broker_file(&broker, cases[i].key) : NULL;
        c.host = cases[i].host ? cases[i].host : c.host;
        c.server_name = cases[i].name;
        expect_down(&c, cases[i].words);
    }
    broker_kill(&broker, SIGKILL);
    assert_int_equal(broker_start(&broker, "server", ""), 0);
}

/* The other way round: names that do match. */
static void accepts_matching_names(void **state)
{
    (void)state;
    static const struct {
        const char *server, *host, *name;
    } cases[] = {{"server", "localhost", NULL},
                 {"server", "127.0.0.1", NULL},
                 {"dns-only", "127.0.0.1", "localhost"},
                 {"wrong-name", "localhost", "elsewhere.invalid"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct link_event e;
        broker_kill(&broker, SIGKILL);
        assert_int_equal(broker_start(&broker, cases[i].server, ""), 0);
        struct link_config c = link_defaults(&broker);
        c.host = cases[i].host;
        c.server_name = cases[i].name;
        struct link *l = link_open(&c);
        link_await(l, LINK_UP, &e);
        link_destroy(l, 1000);
    }
    broker_kill(&broker, SIGKILL);
    assert_int_equal(broker_start(&broker, "server", ""), 0);
}

static void tells_network_problems(void **state)
{
    (void)state;
    struct link_config c = link_defaults(&broker);
    c.port = broker_free_port();
    expect_down(&c, "connection refused");
    c.port = broker.plain_port;
    expect_down(&c, "without TLS");
    c.host = "no-such-host.invalid";
    expect_down(&c, "cannot be resolved");
    c = link_defaults(&broker);
    int fd = broker_silent(&c.port);
    assert_true(fd >= 0);
    c.connect_timeout_s = 1;
    expect_down(&c, "no answer to the TLS handshake");
    close(fd);
}

static int open_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* An attempt that fails at once leaves nothing behind in Paho: a socket it forgot would be polled
 * for ever. */
static void leaves_nothing_behind(void **state)
{
    (void)state;
    struct link_event e;
    struct link_config c = link_defaults(&broker);
    c.port = broker_free_port();
    c.backoff_min_ms = c.backoff_max_ms = 1;
    struct link *l = link_open(&c);
    link_await(l, LINK_DOWN, &e);
    int before = open_descriptors();
    for (int i = 0; i < 100; i++)
        link_await(l, LINK_DOWN, &e);
    /* One of them may still be closing. */
    assert_true(open_descriptors() < before + 10);
    link_destroy(l, 0);
}

static void tells_tls_version(void **state)
{
    (void)state;
    struct link_config c = link_defaults(&broker);
    c.port = broker_fake(&broker, "old-tls");
    assert_true(c.port > 0);
    expect_down(&c, "TLS version");
}

/* Broken files are refused before anything is connected, by name. */
static void names_bad_files(void **state)
{
    (void)state;
    char path[160], why[384];
    struct link *l;
    struct link_config c = link_defaults(&broker);

    snprintf(path, sizeof path, "%s/bad.pem", broker.dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("-----BEGIN CERTIFICATE-----\nhalf", f);
    fclose(f);
    c.ca_path = path;
    assert_int_equal(link_create(&c, &l, why, sizeof why), -EBADMSG);
    assert_non_null(strstr(why, path));
    assert_null(l);
    c = link_defaults(&broker);
    c.cert_path = "/nonexistent/device.crt";
    assert_int_equal(link_create(&c, &l, why, sizeof why), -ENOENT);
    assert_non_null(strstr(why, c.cert_path));
    c = link_defaults(&broker);
    c.key_path = broker_file(&broker, "operator.key");
    assert_int_equal(link_create(&c, &l, why, sizeof why), -EKEYREJECTED);
    assert_non_null(strstr(why, "operator.key"));
    c = link_defaults(&broker);
    c.port = 0;
    assert_int_equal(link_create(&c, &l, why, sizeof why), -EINVAL);
    c = link_defaults(&broker);
    c.cert_path = NULL;
    assert_int_equal(link_create(&c, &l, why, sizeof why), -EINVAL);
}

/* A broker of before MQTT 5, and one that hangs up on it: 3.1.1 at once, and MQTT 5 is not insisted
 * upon. */
static void falls_back_to_mqtt311(void **state)
{
    (void)state;
    static const char *const behaviours[] = {"no5", "hangup5"};
    for (int i = 0; i < 2; i++) {
        struct link_event e;
        struct link_config c = link_defaults(&broker);
        c.port = broker_fake(&broker, behaviours[i]);
        assert_true(c.port > 0);
        c.backoff_min_ms = c.backoff_max_ms = 3600000; /* the fall-back does not wait */
        struct link *l = link_open(&c);
        link_await(l, LINK_DOWN, &e);
        print_message("  %s\n", e.text);
        assert_int_equal(e.retry_ms, 0);
        link_await(l, LINK_UP, &e);
        assert_int_equal(e.protocol, 4);
        link_say(l, "t", "x", 0);
        link_destroy(l, 1000);
        c.protocol = 5;
        l = link_open(&c);
        link_await(l, LINK_DOWN, &e);
        assert_true(e.retry_ms > 0);
        link_destroy(l, 1000);
    }
}

static void keeps_to_receive_maximum(void **state)
{
    (void)state;
    struct link_event e;
    struct link_config c = link_defaults(&broker);
    unsigned sent = 0, acked = 0;
    c.port = broker_fake(&broker, "window");
    assert_true(c.port > 0);
    struct link *l = link_open(&c);
    link_await(l, LINK_UP, &e);
    assert_int_equal(e.window, 3);
    while (acked < 30) {
        while (sent < 30 && link_room(l) > 0)
            assert_int_equal(link_publish(l, "t", "x", 1, 1, 0, NULL, 0, sent++), 0);
        assert_int_equal(link_next(l, &e, 10000), LINK_ACKED);
        acked++;
    }
    link_destroy(l, 1000);
}

/* An item that the broker refuses for now. */
static void publish_in_vain(struct link *l, struct link_event *e)
{
    link_await(l, LINK_UP, e);
    assert_int_equal(link_publish(l, "t", "x", 1, 1, 0, NULL, 0, 5), 0);
    link_await(l, LINK_FAILED, e);
    assert_int_equal(e->token, 5);
    assert_false(e->permanent);
}

/* What may pass is to be sent again, not to be put aside. */
static void quota_is_not_for_good(void **state)
{
    (void)state;
    struct link_event e;
    struct link_config c = link_defaults(&broker);
    c.port = broker_fake(&broker, "quota");
    assert_true(c.port > 0);
    struct link *l = link_open(&c);
    publish_in_vain(l, &e);
    assert_non_null(strstr(e.text, "quota"));
    assert_int_equal(link_publish(l, "t", "x", 1, 1, 0, NULL, 0, 5), 0);
    link_await(l, LINK_ACKED, &e);
    assert_int_equal(e.token, 5);
    link_destroy(l, 500);
}

/* What ended a session is not sent by the library again and again: the owner hears of it, and tries
 * anew. */
static void poison_is_given_up(void **state)
{
    (void)state;
    struct link_event e;
    struct link_config c = link_defaults(&broker);
    c.session_expiry_s = 600; /* the library keeps what was under way */
    c.port = broker_fake(&broker, "malformed");
    assert_true(c.port > 0);
    struct link *l = link_open(&c);
    publish_in_vain(l, &e);
    link_await(l, LINK_UP, &e);
    assert_int_equal(link_publish(l, "t", "x", 1, 1, 0, NULL, 0, 5), 0);
    link_await(l, LINK_ACKED, &e);
    link_destroy(l, 500);
}

/* What a broken or hostile broker sends ends the session with a reason, and nothing else. */
static void survives_bad_brokers(void **state)
{
    (void)state;
    static const char *const behaviours[] = {"garbage", "announce", "bye"};
    static const char *const words[] = {"not MQTT", "far too large", "took over"};
    struct link_event e;
    struct link_config c = link_defaults(&broker);
    for (int i = 0; i < 3; i++) {
        c.port = broker_fake(&broker, behaviours[i]);
        assert_true(c.port > 0);
        struct link *l = link_open(&c);
        for (int again = 0; again < 2; again++) {
            link_await(l, LINK_DOWN, &e);
            print_message("  %s\n", e.text);
            if (!strstr(e.text, words[i]))
                fail_msg("expected \"%s\" in: %s", words[i], e.text);
        }
        link_destroy(l, 500);
    }
    c.port = broker_fake(&broker, "large");
    assert_true(c.port > 0);
    struct link *l = link_open(&c);
    link_await(l, LINK_REFUSED, &e);
    assert_string_equal(e.topic, "big");
    assert_non_null(strstr(e.text, "3000"));
    link_await(l, LINK_MESSAGE, &e);
    assert_string_equal(e.topic, "small");
    assert_int_equal(e.payload_bytes, 5);
    char line[32]; /* both were acknowledged, or the broker would send them again */
    assert_non_null(fgets(line, sizeof line, broker.fake_says));
    assert_string_equal(line, "puback 7\n");
    assert_non_null(fgets(line, sizeof line, broker.fake_says));
    assert_string_equal(line, "puback 8\n");
    link_destroy(l, 500);
}

static void tells_a_mute_broker(void **state)
{
    (void)state;
    struct link_config c = link_defaults(&broker);
    c.connect_timeout_s = 1;
    c.port = broker_fake(&broker, "mute");
    assert_true(c.port > 0);
    expect_down(&c, "does not answer MQTT");
}

/* ---- privacy of the channel ---- */

/* Counts this process's sockets: listening ones, IPv4 or IPv6 ones, descriptors that a child would
 * inherit. */
static void count_sockets(int *listening, int *internet, int *inherited)
{
    *listening = *internet = *inherited = 0;
    for (int fd = 3; fd < 256; fd++) {
        int value = 0, domain = 0;
        socklen_t size = sizeof value;
        if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0)
            continue;
        size = sizeof value;
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &size);
        *listening += value;
        *internet += domain == AF_INET || domain == AF_INET6;
        *inherited += !(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    }
}

static void offers_no_way_in(void **state)
{
    (void)state;
    struct link_config c = link_defaults(&broker);
    struct link_event e;
    int listening, internet, inherited, before;
    count_sockets(&listening, &before, &inherited);
    struct link *l = link_open(&c);
    link_await(l, LINK_UP, &e);
    count_sockets(&listening, &internet, &inherited);
    assert_int_equal(listening, 0);
    assert_int_equal(internet - before,
                     1); /* the TLS connection; Paho's end is no Internet socket */
    assert_int_equal(inherited, 0);

    /* The address that Paho was given leads nowhere without our connect(): not from this process,
     * not from others. */
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    for (uint16_t port = 1; port <= 64; port++) {
        struct sockaddr_in a = {.sin_family = AF_INET,
                                .sin_port = htons(port),
                                .sin_addr.s_addr = htonl(INADDR_BROADCAST)};
        assert_int_equal(syscall(SYS_connect, fd, &a, sizeof a), -1);
    }
    close(fd);
    link_say(l, "t", "undisturbed", 0);
    link_destroy(l, 1000);
    count_sockets(&listening, &internet, &inherited);
    assert_int_equal(internet, before);
}

static void loads_no_openssl(void **state)
{
    (void)state;
    static char maps[1 << 18];
    struct link_config c = link_defaults(&broker);
    struct link_event e;
    struct link *l = link_open(&c);
    link_await(l, LINK_UP, &e);
    FILE *f = fopen("/proc/self/maps", "r");
    assert_non_null(f);
    size_t n = fread(maps, 1, sizeof maps - 1, f);
    fclose(f);
    maps[n] = '\0';
    assert_null(strstr(maps, "libssl"));
    assert_null(strstr(maps, "libcrypto."));
    assert_non_null(strstr(maps, "libpaho-mqtt3a.so"));
    assert_non_null(strstr(maps, "libmbedtls.so"));
    link_destroy(l, 1000);
}

/* A wire tap: passes one connection on and keeps what it saw. */
struct tap {
    int listener, count;
    uint16_t to;
    char seen[1 << 16];
    size_t bytes;
};

static void *tap_thread(void *context)
{
    struct tap *t = context;
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(t->to), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int side[2] = {accept(t->listener, NULL, NULL), socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (side[0] < 0 || connect(side[1], (struct sockaddr *)&a, sizeof a) != 0)
        return NULL;
    for (int open = 1; open;) {
        struct pollfd p[2] = {{.fd = side[0], .events = POLLIN}, {.fd = side[1], .events = POLLIN}};
        if (poll(p, 2, 30000) <= 0)
            break;
        for (int i = 0; i < 2; i++) {
            char data[4096];
            if (!p[i].revents)
                continue;
            ssize_t n = read(side[i], data, sizeof data);
            if (n <= 0 || send(side[!i], data, (size_t)n, MSG_NOSIGNAL) != n) {
                open = 0;
                continue;
            }
            size_t room = sizeof t->seen - t->bytes, keep = (size_t)n < room ? (size_t)n : room;
            memcpy(t->seen + t->bytes, data, keep);
            t->bytes += keep;
        }
    }
    close(side[0]);
    close(side[1]);
    return NULL;
}

static void sends_nothing_in_the_clear(void **state)
{
    (void)state;
    static struct tap tap;
    struct link_config c = link_defaults(&broker);
    struct link_event e;
    pthread_t thread;
    tap.to = broker.port;
    tap.listener = broker_silent(&c.port);
    assert_int_equal(pthread_create(&thread, NULL, tap_thread, &tap), 0);
    c.client_id = "clientsecret";
    c.will_topic = "topicsecret/will";
    c.will_payload = "payloadsecret";
    struct link *l = link_open(&c);
    link_subscribe(l, "topicsecret/#");
    link_await(l, LINK_UP, &e);
    link_say(l, "topicsecret/a", "payloadsecret", 0);
    link_destroy(l, 1000);
    pthread_join(thread, NULL);
    close(tap.listener);
    assert_true(tap.bytes > 1000);
    assert_null(memmem(tap.seen, tap.bytes, "secret", 6));
    assert_null(memmem(tap.seen, tap.bytes, "MQTT", 4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_certificate_problems), cmocka_unit_test(accepts_matching_names),
        cmocka_unit_test(tells_network_problems),     cmocka_unit_test(leaves_nothing_behind),
        cmocka_unit_test(tells_tls_version),          cmocka_unit_test(names_bad_files),
        cmocka_unit_test(falls_back_to_mqtt311),      cmocka_unit_test(keeps_to_receive_maximum),
        cmocka_unit_test(quota_is_not_for_good),      cmocka_unit_test(survives_bad_brokers),
        cmocka_unit_test(poison_is_given_up),         cmocka_unit_test(tells_a_mute_broker),
        cmocka_unit_test(offers_no_way_in),           cmocka_unit_test(loads_no_openssl),
        cmocka_unit_test(sends_nothing_in_the_clear),
    };
    if (getenv("NILM_TEST")) /* one of them alone */
        cmocka_set_test_filter(getenv("NILM_TEST"));
    return cmocka_run_group_tests(tests, setup, teardown);
}
