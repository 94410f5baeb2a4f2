/* test_ctl.c - nilmctl on a store that an agent left behind (history, outbox, label, status), its
 * ledger of received numbers, and its way of reading times (SPEC 7). The ledger and the command
 * line are compiled in from their sources. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/ctl/cli.c"
#include "agent/ctl/ledger.c"
#include "storage/history.h"
#include "storage/outbox.h"

#define HOUR INT64_C(3600000)
#define START INT64_C(1714550400000) /* 2024-05-01T08:00:00Z */

static char folder[64], config[128], output[1 << 20];

static void path_of(const char *name, char *out, size_t size)
{
    snprintf(out, size, "%s/%s", folder, name);
}

/* Runs nilmctl; its exit code. output: standard output, or with all: errors too. */
static int run(const char *arguments, int all)
{
    const char *build = getenv("NILM_BUILD");
    char line[2048];
    snprintf(line, sizeof line, "%s/agent/nilmctl %s --config %s %s", build ? build : "build",
             arguments, config, all ? "2>&1" : "2>/dev/null");
    FILE *p = popen(line, "r");
    assert_non_null(p);
    size_t n = fread(output, 1, sizeof output - 1, p);
    output[n] = '\0';
    int status = pclose(p);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static cJSON *run_json(const char *arguments, int code)
{
    int got = run(arguments, 0);
    if (got != code)
        fail_msg("nilmctl %s: exit code %d, expected %d: %s", arguments, got, code, output);
    cJSON *o = cJSON_Parse(output);
    if (!o)
        fail_msg("nilmctl %s: not one JSON object: %s", arguments, output);
    return o;
}

static double number(const cJSON *o, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, key);
    if (!cJSON_IsNumber(item))
        fail_msg("no number \"%s\"", key);
    return item->valuedouble;
}

static const char *text(const cJSON *o, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, key);
    if (!cJSON_IsString(item))
        fail_msg("no text \"%s\"", key);
    return item->valuestring;
}

static void write_file(const char *name, const char *content, size_t size)
{
    char path[128];
    path_of(name, path, sizeof path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(content, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static struct store *open_store(void)
{
    struct store *s = NULL;
    char path[128], why[512] = "";
    path_of("nilmd.db", path, sizeof path);
    if (store_open(path, &s, NULL, why, sizeof why) != 0)
        fail_msg("%s", why);
    return s;
}

static int64_t add_run(struct store *s, const char *meter, const char *appliance, int64_t start,
                       int64_t end)
{
    struct history_run r = {.confidence = 0.9, .start_ms = start};
    int64_t id = 0;
    snprintf(r.meter, sizeof r.meter, "%s", meter);
    snprintf(r.appliance, sizeof r.appliance, "%s", appliance);
    assert_int_equal(history_open(s, &r, &id), 0);
    if (end == 0)
        return id;
    r.id = id;
    r.end_ms = end;
    r.mean_w = 1000;
    r.peak_w = 1100;
    r.energy_wh = (double)(end - start) / 3600.0;
    strcpy(r.end_reason, "off");
    assert_int_equal(history_update(s, &r), 0);
    return id;
}

static uint64_t append(struct store *s, enum outbox_kind kind, const char *channel,
                       const char *body)
{
    struct outbox_item item = {
        .kind = kind, .created_ms = START, .body = body, .body_bytes = strlen(body)};
    uint64_t seq = 0;
    snprintf(item.channel, sizeof item.channel, "%s", channel);
    assert_int_equal(outbox_append(s, &item, &seq), 0);
    return seq;
}

static int setup(void **state)
{
    (void)state;
    char text_[256];
    strcpy(folder, "/tmp/nilm-ctl-XXXXXX");
    assert_non_null(mkdtemp(folder));
    path_of("nilmd.conf", config, sizeof config);
    int n = snprintf(text_, sizeof text_,
                     "[device]\nid = gw-1\ndata_dir = %s\n[meter:kitchen]\ntype = stdin\n", folder);
    write_file("nilmd.conf", text_, (size_t)n);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char path[512];
    DIR *d = opendir(folder);
    const struct dirent *e;
    while (d && (e = readdir(d))) {
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        unlink(path);
    }
    if (d)
        closedir(d);
    return rmdir(folder);
}

static void fill(void)
{
    struct store *s = open_store();
    add_run(s, "kitchen", "WaterKettle", START, START + 180000);
    add_run(s, "kitchen", "Toaster", START + HOUR, START + HOUR + 120000);
    add_run(s, "cellar", "Washingmachine", START + 2 * HOUR, START + 4 * HOUR);
    add_run(s, "kitchen", "unknown", START + 5 * HOUR, 0);
    store_close(s);
}

static void events_are_filtered(void **state)
{
    (void)state;
    static const struct {
        const char *arguments;
        int count;
    } cases[] = {{"", 4},
                 {"--meter kitchen", 3},
                 {"--appliance Toaster", 1},
                 {"--meter cellar --appliance Toaster", 0},
                 {"--since 2024-05-01T09:00Z", 3},
                 {"--since 2024-05-01T09:00:01Z", 2},
                 {"--until @1714554000", 1}, /* 09:00: not included */
                 {"--since 1h", 0},
                 {"--limit 2", 2},
                 {"--limit=2 --meter=kitchen", 2}};
    char arguments[256];
    fill();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(arguments, sizeof arguments, "events --json %s", cases[i].arguments);
        cJSON *o = run_json(arguments, 0);
        const cJSON *list = cJSON_GetObjectItemCaseSensitive(o, "events");
        if (cJSON_GetArraySize(list) != cases[i].count)
            fail_msg("%s: %s", arguments, output);
        cJSON_Delete(o);
    }
}

static void events_carry_the_run(void **state)
{
    (void)state;
    fill();
    cJSON *o = run_json("events --json", 0);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(o, "events");
    const cJSON *running = cJSON_GetArrayItem(list, 0), *wash = cJSON_GetArrayItem(list, 1);
    assert_string_equal(text(running, "appliance"), "unknown");
    assert_true(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(running, "end")));
    assert_string_equal(text(wash, "appliance"), "Washingmachine");
    assert_string_equal(text(wash, "meter"), "cellar");
    assert_string_equal(text(wash, "end_reason"), "off");
    assert_true(number(wash, "start") == (double)(START + 2 * HOUR));
    assert_true(number(wash, "duration") == 7200);
    assert_true(number(wash, "energy") == 2000);
    assert_true(number(wash, "power") == 1000);
    assert_true(number(wash, "confidence") == 0.9);
    cJSON_Delete(o);
    assert_int_equal(run("events", 1), 0);
    assert_non_null(strstr(output, "WaterKettle"));
    assert_non_null(strstr(output, "running"));
    assert_non_null(strstr(output, "4 runs, 2083.3 Wh"));
}

static void label_renames_a_run(void **state)
{
    (void)state;
    fill();
    assert_int_equal(run("label 2 'Waffle iron'", 1), 0);
    cJSON *o = run_json("events --json --appliance 'Waffle iron'", 0);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(o, "events");
    assert_int_equal(cJSON_GetArraySize(list), 1);
    assert_true(number(cJSON_GetArrayItem(list, 0), "run") == 2);
    cJSON_Delete(o);
    assert_int_equal(run("label 99 Toaster", 1), 2);
    assert_non_null(strstr(output, "no run 99"));
    assert_int_equal(run("label x Toaster", 1), 2);
    assert_non_null(strstr(output, "no load is called \"x\""));
    assert_int_equal(run("label 1x Toaster", 1), 1);
    assert_int_equal(run("label 0 Toaster", 1), 1);
    assert_int_equal(run("label 1 ''", 1), 1);
    assert_int_equal(run("label 1 $(printf '%064d' 0)", 1), 1);
    assert_int_equal(run("label 1 \"$(printf 'a\\nb')\"", 1), 1);
}

static void outbox_shows_what_waits(void **state)
{
    (void)state;
    int64_t epoch = 0;
    struct store *s = open_store();
    assert_int_equal(outbox_start(s, START / 1000, &epoch), 0);
    append(s, OUTBOX_EVENT, "kitchen", "{\"type\":\"on\"}");
    append(s, OUTBOX_EVENT, "kitchen", "{\"type\":\"off\"}");
    append(s, OUTBOX_ALERT, "cellar", "{\"alert\":\"left_on\"}");
    for (int i = 0; i < 200; i++) /* more than a page */
        append(s, OUTBOX_REPORT, "", "{\"report\":\"model\"}");
    store_close(s);

    cJSON *o = run_json("outbox --json --list 1000", 0);
    assert_true(number(o, "rows") == 203 && number(o, "events") == 2 && number(o, "alerts") == 1);
    assert_true(number(o, "reports") == 200 && number(o, "dropped") == 0 &&
                number(o, "parked") == 0);
    assert_true(number(o, "next_seq") == 204 && number(o, "oldest_seq") == 1);
    assert_true(number(o, "epoch") == (double)epoch);
    const cJSON *items = cJSON_GetObjectItemCaseSensitive(o, "items");
    assert_int_equal(cJSON_GetArraySize(items), 203);
    const cJSON *first = cJSON_GetArrayItem(items, 0); /* alerts go first */
    assert_string_equal(text(first, "kind"), "alert");
    assert_string_equal(text(cJSON_GetObjectItemCaseSensitive(first, "body"), "alert"), "left_on");
    for (int i = 1; i < 203; i++) { /* then the others by number, each once */
        int expected = i < 3 ? i : i + 1;
        assert_true(number(cJSON_GetArrayItem(items, i), "seq") == expected);
    }
    cJSON_Delete(o);

    o = run_json("outbox --json --list 5", 0);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(o, "items")), 5);
    cJSON_Delete(o);
    o = run_json("outbox --json", 0);
    assert_null(cJSON_GetObjectItemCaseSensitive(o, "items"));
    cJSON_Delete(o);
    assert_int_equal(run("outbox --list 2", 1), 0);
    assert_non_null(strstr(output, "waiting: 203 (2 events, 1 alerts, 0 gaps, 200 reports)"));
    assert_non_null(strstr(output, "left_on"));
    assert_int_equal(run("outbox --list 0", 1), 1);
}

static void status_of_a_stopped_agent(void **state)
{
    (void)state;
    int64_t epoch;
    cJSON *o = run_json("status --json", 3); /* no store yet */
    assert_string_equal(text(o, "state"), "not_running");
    assert_non_null(cJSON_GetObjectItemCaseSensitive(o, "store_error"));
    cJSON_Delete(o);
    struct store *s = open_store();
    assert_int_equal(outbox_start(s, START / 1000, &epoch), 0);
    append(s, OUTBOX_EVENT, "kitchen", "{}");
    store_close(s);
    o = run_json("status --json", 3);
    assert_string_equal(text(o, "state"), "not_running");
    assert_true(number(cJSON_GetObjectItemCaseSensitive(o, "outbox"), "rows") == 1);
    cJSON_Delete(o);
    assert_int_equal(run("status", 1), 3);
    assert_non_null(strstr(output, "1 items wait"));
}

/* None of the commands may make, move or damage a database. */
static void a_missing_or_damaged_store_is_left_alone(void **state)
{
    (void)state;
    static const char *const commands[] = {"events", "outbox", "label 1 a"};
    static const char garbage[] = "this is not a database, whatever its name says";
    char path[128], found[sizeof garbage + 8];
    path_of("nilmd.db", path, sizeof path);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(run(commands[i], 1), 3);
        assert_non_null(strstr(output, path));
        assert_int_not_equal(access(path, F_OK), 0);
    }
    write_file("nilmd.db", garbage, sizeof garbage);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(run(commands[i], 1), 2);
        assert_non_null(strstr(output, path));
        FILE *f = fopen(path, "r");
        assert_non_null(f);
        assert_int_equal(fread(found, 1, sizeof found, f), sizeof garbage);
        fclose(f);
        assert_memory_equal(found, garbage, sizeof garbage);
    }
}

static void times_are_read(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",     "h",          "-1h",         "2y",        "2024-13-01", "@",
        "@-1",  "@9z",        "2024-05-01x", "yesterday", "1e3s",       "@99999999999999999999",
        "2h3m", "9999999999s"};
    int64_t t;
    assert_int_equal(cli_time("2h", START, &t), 0);
    assert_true(t == START - 2 * HOUR);
    assert_int_equal(cli_time("0s", START, &t), 0);
    assert_true(t == START);
    assert_int_equal(cli_time("1w", START, &t), 0);
    assert_true(t == START - 7 * 24 * HOUR);
    assert_int_equal(cli_time("@1714550400", 0, &t), 0);
    assert_true(t == START);
    assert_int_equal(cli_time("2024-05-01T08:00:00Z", 0, &t), 0);
    assert_true(t == START);
    assert_int_equal(cli_time("2024-05-01T08:00Z", 0, &t), 0);
    assert_true(t == START);
    assert_int_equal(cli_time("2024-05-01Z", 0, &t), 0);
    assert_true(t == START - 8 * HOUR);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (cli_time(wrong[i], START, &t) != -EINVAL)
            fail_msg("\"%s\" was taken for a time", wrong[i]);
}

static void check_sum(struct ledger *l, uint64_t received, uint64_t duplicates, uint64_t declared,
                      uint64_t missing)
{
    struct ledger_sum s;
    ledger_summary(l, &s, NULL, NULL);
    if (s.received != received || s.duplicates != duplicates || s.declared != declared ||
        s.missing != missing)
        fail_msg("received %" PRIu64 " duplicates %" PRIu64 " declared %" PRIu64
                 " missing %" PRIu64,
                 s.received, s.duplicates, s.declared, s.missing);
    assert_true(s.ignored == 0);
}

static void ledger_counts_holes_and_duplicates(void **state)
{
    (void)state;
    struct ledger *l = ledger_create();
    check_sum(l, 0, 0, 0, 0);
    for (uint64_t n = 10; n < 20; n++)
        assert_int_equal(ledger_add(l, "a", 100, n), 1);
    check_sum(l, 10, 0, 0, 0);
    assert_int_equal(ledger_add(l, "a", 100, 15), 0);
    assert_int_equal(ledger_add(l, "a", 100, 25), 1); /* 20..24 are missing */
    check_sum(l, 11, 1, 0, 5);
    ledger_declare(l, "a", 100, 5, 22, 18); /* 5..9 came before we listened: not our hole */
    check_sum(l, 11, 1, 3, 2);
    assert_int_equal(ledger_add(l, "a", 100, 24), 1);
    assert_int_equal(ledger_add(l, "a", 100, 23), 1);
    check_sum(l, 13, 1, 3, 0);
    assert_int_equal(ledger_add(l, "a", 100, 21), 1); /* declared lost and came all the same */
    check_sum(l, 14, 1, 2, 0);
    assert_int_equal(ledger_add(l, "b", 100, 15), 1); /* another device */
    check_sum(l, 15, 1, 2, 0);
    ledger_destroy(l);
}

static void ledger_joins_epochs_and_tells_replaced_stores(void **state)
{
    (void)state;
    struct ledger *l = ledger_create();
    ledger_add(l, "a", 200, 7); /* the later start first: an alert overtakes */
    ledger_add(l, "a", 100, 4);
    ledger_add(l, "a", 100, 5);
    check_sum(l, 3, 0, 0, 1); /* 6, over the two starts */
    ledger_declare(l, "a", 200, 6, 6, 1);
    check_sum(l, 3, 0, 1, 0);
    ledger_add(l, "a", 300, 1); /* numbers begin again: the store was replaced */
    ledger_add(l, "a", 300, 2);
    ledger_add(l, "a", 400, 4);
    check_sum(l, 6, 0, 1, 1);
    assert_int_equal(ledger_add(l, "a", 300, 7),
                     1); /* the same number in another life is no duplicate */
    ledger_destroy(l);
}

static void note_hole(void *context, const char *device, uint64_t from, uint64_t to)
{
    char *text = context;
    size_t n = strlen(text);
    snprintf(text + n, 256 - n, "%s:%" PRIu64 "-%" PRIu64 " ", device, from, to);
}

/* Ranges that were merged on the device name a count, not which (SPEC 5.7). */
static void ledger_honours_counts_of_merged_gaps(void **state)
{
    (void)state;
    char holes[256] = "";
    struct ledger_sum s;
    struct ledger *l = ledger_create();
    ledger_add_range(l, "a", 1, 1, 10);
    ledger_add_range(l, "a", 1, 15, 20); /* 11..14 */
    ledger_add_range(l, "a", 2, 31, 40); /* 21..30 */
    ledger_declare(l, "a", 1, 5, 25, 6);
    check_sum(l, 26, 0, 6, 8); /* 11..14 and two of 21..25 */
    ledger_declare(l, "a", 2, 25, 28, 4);
    check_sum(l, 26, 0, 10, 4);
    ledger_summary(l, &s, note_hole, holes);
    assert_string_equal(holes, "a:23-24 a:29-30 ");
    assert_int_equal(s.highest, 40);
    assert_int_equal(ledger_add_range(l, "a", 1, 5, 4), -1);
    ledger_destroy(l);
}

/* Against the obvious model: an array of flags. */
static void ledger_equals_a_plain_count(void **state)
{
    (void)state;
    uint64_t random = 12345;
    for (int round = 0; round < 200; round++) {
        unsigned char got[128] = {0}, lost[128] = {0};
        struct ledger *l = ledger_create();
        uint64_t duplicates = 0, received = 0, declared = 0, missing = 0;
        for (int i = 0; i < 90; i++) {
            random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
            unsigned n = (unsigned)(random >> 33) % 120 + 1, width = (unsigned)(random >> 50) % 6;
            if (i % 5 == 0) {
                ledger_declare(l, "d", 1, n, n + width, width + 1);
                memset(lost + n, 1, width + 1);
            } else {
                assert_int_equal(ledger_add(l, "d", 1, n), !got[n]);
                duplicates += got[n];
                got[n] = 1;
            }
        }
        int low = 0, high = 127;
        while (!got[low])
            low++;
        while (!got[high])
            high--;
        for (int n = low; n <= high; n++) {
            received += got[n];
            declared += !got[n] && lost[n];
            missing += !got[n] && !lost[n];
        }
        check_sum(l, received, duplicates, declared, missing);
        ledger_destroy(l);
    }
}

static void ledger_is_bounded(void **state)
{
    (void)state;
    struct ledger *l = ledger_create();
    struct ledger_sum s;
    for (uint64_t i = 0; i < LEDGER_MAX_RANGES + 10; i++)
        ledger_add(l, "a", 1, 2 * i + 1);
    for (int64_t e = 2; e < LEDGER_MAX_EPOCHS + 10; e++)
        ledger_add(l, "a", e, 1);
    ledger_summary(l, &s, NULL, NULL);
    assert_true(s.ignored >= 18);
    ledger_destroy(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(events_are_filtered, setup, teardown),
        cmocka_unit_test_setup_teardown(events_carry_the_run, setup, teardown),
        cmocka_unit_test_setup_teardown(label_renames_a_run, setup, teardown),
        cmocka_unit_test_setup_teardown(outbox_shows_what_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(status_of_a_stopped_agent, setup, teardown),
        cmocka_unit_test_setup_teardown(a_missing_or_damaged_store_is_left_alone, setup, teardown),
        cmocka_unit_test(times_are_read),
        cmocka_unit_test(ledger_counts_holes_and_duplicates),
        cmocka_unit_test(ledger_joins_epochs_and_tells_replaced_stores),
        cmocka_unit_test(ledger_honours_counts_of_merged_gaps),
        cmocka_unit_test(ledger_equals_a_plain_count),
        cmocka_unit_test(ledger_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
