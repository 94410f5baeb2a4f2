/* test_config.c - configuration: defaults, drop-ins, and hostile files (SPEC 6). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/config.h"
#include "agent/config_keys.h"
#include "agent/lib_folder.h"

#define GOOD "[device]\nid = gw-1\n[meter:m]\ntype = stdin\n"

static char why[1024];

static int load(void **state, struct config **c)
{
    why[0] = '\0';
    return config_load(folder_path(state, "n.conf"), c, why, sizeof why);
}

static void defaults_are_the_table(void **state)
{
    struct config *c;
    folder_text(state, "n.conf", GOOD);
    assert_int_equal(load(state, &c), 0);
    assert_string_equal(c->device, "gw-1");
    assert_string_equal(c->data_dir, "/var/lib/nilmd");
    assert_string_equal(c->base, "nilm/v1");
    assert_string_equal(c->broker_host, "");
    assert_int_equal(c->keepalive_s, 30);
    assert_int_equal(c->protocol, 0);
    assert_int_equal(c->outbox_rows, 1000000);
    assert_int_equal(c->outbox_bytes, 256 << 20);
    assert_int_equal(c->drain_rate, 1000);
    assert_int_equal(c->outbox_age_ms, 90LL * 86400 * 1000);
    assert_int_equal(c->log_level, 2);
    assert_int_equal(c->meter_count, 1);
    const struct config_meter *m = &c->meters[0];
    assert_string_equal(m->meter.name, "m");
    assert_int_equal(m->source.type, SOURCE_STDIN);
    assert_int_equal(m->meter.quality, EVENT_CLOCK);
    assert_true(m->meter.on_w == 15 && m->meter.off_w == 10);
    assert_int_equal(m->meter.min_on_ms, 2000);
    assert_int_equal(m->meter.min_off_ms, 30000);
    assert_int_equal(m->meter.silence_ms, 600000);
    assert_int_equal(m->meter.max_gap_ms, 60000);
    config_free(c);
}

static void every_value_is_taken(void **state)
{
    struct config *c;
    folder_text(
        state, "n.conf",
        "\xEF\xBB\xBF; a comment\r\n[device]\r\nid = gw-1\r\ngroup = shop\r\n data_dir = "
        "/tmp/x\r\ntimezone = UTC\n[broker]\n"
        "url = mqtts://[::1]:1883\nca = a\ncert = b\nkey = c ; behind a value\nprotocol = 3.1.1\n"
        "keepalive = 2m\nserver_name = s\nusername = u\npassword_file = p\nbase = a/b\n"
        "[model]\nfile = f\nkeys = k\n[outbox]\nmax_rows = 200\nmax_bytes = 1.5G\nmax_age = 12h\n"
        "[history]\nmax_runs = 1000\n[log]\nlevel = debug\n"
        "[meter:a]\ntype = replay\nfiles = x y z\nspeed = max\nloop = yes\nrebase = no\ncolumn = "
        "w\n"
        "[meter:b]\ntype = sim\nappliance = fridge\nspeed = 2.5\nseed = 7\ndays = 3\n"
        "start = 2026-01-05T06:00:00Z\ntruth = t.csv\non_w = 100.5\noff_w = 0\nmin_on = 500ms\n");
    assert_int_equal(load(state, &c), 0);
    assert_string_equal(c->broker_host, "::1");
    assert_string_equal(c->timezone, "UTC");
    assert_int_equal(c->broker_port, 1883);
    assert_string_equal(c->key, "c");
    assert_string_equal(c->data_dir, "/tmp/x");
    assert_int_equal(c->protocol, 4);
    assert_int_equal(c->keepalive_s, 120);
    assert_int_equal(c->outbox_bytes, 3LL << 29);
    assert_int_equal(c->outbox_age_ms, 12 * 3600000);
    assert_int_equal(c->log_level, 3);
    assert_int_equal(c->meter_count, 2);
    assert_string_equal(c->meters[0].source.files, "x y z");
    assert_true(c->meters[0].source.speed == 0 && c->meters[0].source.loop == 1);
    assert_int_equal(c->meters[0].meter.quality, EVENT_TRACE);
    assert_true(c->meters[1].source.speed == 2.5 && c->meters[1].meter.on_w == 100.5);
    assert_int_equal(c->meters[1].source.start_ms, 1767592800000);
    assert_int_equal(c->meters[1].source.days, 3);
    assert_int_equal(c->meters[1].meter.min_on_ms, 500);
    assert_null(c->meters[1].source.files);
    config_free(c);
}

static void drop_ins_override_in_name_order(void **state)
{
    struct config *c;
    folder_text(state, "n.conf", GOOD);
    folder_text(state, "conf.d/10-a.conf", "[device]\nid = first\ngroup = g\n");
    folder_text(state, "conf.d/20-b.conf", "[device]\nid = second\n[meter:m]\non_w = 20\n");
    folder_text(state, "conf.d/30-empty.conf", "");
    folder_text(state, "conf.d/99.conf.bak", "[nonsense");
    folder_text(state, "conf.d/.hidden.conf", "[nonsense");
    assert_int_equal(load(state, &c), 0);
    assert_string_equal(c->device, "second");
    assert_string_equal(c->group, "g");
    assert_int_equal(c->meter_count, 1);
    assert_true(c->meters[0].meter.on_w == 20);
    config_free(c);
    folder_text(state, "conf.d/40-bad.conf", "[device]\n\nid = a/b\n");
    assert_true(load(state, &c) < 0);
    assert_non_null(strstr(why, "conf.d/40-bad.conf:3: [device] id: expected 1 to 63 of"));
}

static const struct {
    const char *text, *expected; /* what the message must contain after the path */
} bad[] = {
    {"", ": the file is empty"},
    {"\n\n", ": [device] id: required"},
    {"id = x\n", ":1: id: expected a [section]"},
    {"[device]\nid = gw\n[meter:m]\n",
     ":3: [meter:m] type: required; expected one of replay, stdin, sim"},
    {"[device]\nid = gw\n", ": [meter:NAME]: expected at least one meter"},
    {"[device]\nid = gw\nname = x\n", ":3: [device] name: unknown key"},
    {"[device]\nid = gw\n[nonsense]\n", ":3: [nonsense]: unknown section"},
    {"[meter]\ntype = stdin\n", ":1: [meter]: unknown section"},
    {"[meter:a b]\ntype = stdin\n", ":1: [meter:a b]: expected meter:NAME"},
    {"[meter:_agent]\ntype = stdin\n", ":1: [meter:_agent]: expected meter:NAME"},
    {"[device\nid = gw\n", ":1: expected ] at the end"},
    {"[]\n", ":1: expected a section name"},
    {"[device]\nid = gw\nid = gw\n", ":3: [device] id: given twice, first on line 2"},
    {"[device]\nid = gw\n[log]\n[device]\nid = gw\n",
     ":5: [device] id: given twice, first on line 2"},
    {"[device]\nthis is no key\n", ":2: expected [section], key = value or ; comment"},
    {"[device]\nid = gw\n[meter:m]\ntype = stdin", ":4: expected a line end after the last line"},
    {"[device]\nid = \n", ":2: [device] id: required"},
    {"[device]\nid = \x01\n", ":2: expected text, found the byte 0x01"},
    {"[device]\nid = group\n", ":2: [device] id: expected"},
    {"[device]\nid = gw\ntimezone = Mars/Olympus\n[meter:m]\ntype = stdin\n",
     ":3: [device] timezone: expected a time zone that this system knows, such as Europe/Berlin"},
    {"[device]\nid = gw\ntimezone = ../../../etc/passwd\n[meter:m]\ntype = stdin\n",
     ":3: [device] timezone: expected"},
    {GOOD "on_w = -1\n", ":5: [meter:m] on_w: expected a number of 0.1 to 1000000, found \"-1\""},
    {GOOD "on_w = 1e3\n", ":5: [meter:m] on_w: expected a number"},
    {GOOD "on_w = nan\n", ":5: [meter:m] on_w: expected a number"},
    {GOOD "on_w = 0x10\n", ":5: [meter:m] on_w: expected a number"},
    {GOOD "on_w = 5\n", ":3: [meter:m] off_w: expected less than on_w"},
    {GOOD "min_on = 5\n", ":5: [meter:m] min_on: expected a duration with unit"},
    {GOOD "min_on = 5w\n", ":5: [meter:m] min_on: expected a duration with unit"},
    {GOOD "min_on = 2d\n",
     ":5: [meter:m] min_on: expected a duration with unit (ms s m h d) of 0s to 86400s"},
    {GOOD "min_on =\n", ":5: [meter:m] min_on: expected a duration"},
    {GOOD "type = modbus\n",
     ":5: [meter:m] type: expected one of replay, stdin, sim, found \"modbus\""},
    {GOOD "kind = sum\n", ":5: [meter:m] kind: expected one of circuit"},
    {GOOD "speed = 2\n", ":5: [meter:m] speed: does not belong to a meter of this type"},
    {GOOD "[meter:n]\ntype = stdin\n",
     ":6: [meter:n] type: only one meter can read the standard input"},
    {GOOD "[meter:n]\ntype = replay\n", ":5: [meter:n] files: required by type = replay"},
    {GOOD "[meter:n]\ntype = sim\n", ":5: [meter:n] appliance: required by type = sim"},
    {GOOD "[meter:n]\ntype = sim\nappliance = a\nstart = yesterday\n",
     ":8: [meter:n] start: expected YYYY-MM-DD"},
    {GOOD "[meter:n]\ntype = sim\nappliance = a\nspeed = 0\n",
     ":8: [meter:n] speed: expected max, or a number"},
    {GOOD "[meter:n]\ntype = sim\nappliance = a\ndays = 1.5\n",
     ":8: [meter:n] days: expected a whole number"},
    {GOOD "[outbox]\nmax_bytes = 1T\n", ":6: [outbox] max_bytes: expected a size in bytes"},
    {GOOD "[outbox]\nmax_rows = 99999999999999999999999999999999999999\n",
     ":6: [outbox] max_rows: expected a whole number"},
    {GOOD "[broker]\nurl = mqtt://h\n",
     ":6: [broker] url: expected mqtts://HOST[:PORT] (only MQTT over TLS)"},
    {GOOD "[broker]\nurl = mqtts://h:0\n",
     ":6: [broker] url: expected mqtts://HOST[:PORT] with a port"},
    {GOOD "[broker]\nurl = mqtts://h/path\n", ":6: [broker] url: expected"},
    {GOOD "[broker]\nurl = mqtts://\n", ":6: [broker] url: expected"},
    {GOOD "[broker]\nurl = mqtts://[::1\n", ":6: [broker] url: expected"},
    {GOOD "[broker]\nurl = mqtts://h\n", ": [broker] ca: required with url"},
    {GOOD "[broker]\ncert = c\n", ": [broker] key: required with cert"},
    {GOOD "[broker]\nkey = c\n", ": [broker] cert: required with key"},
    {GOOD "[broker]\nbase = a//b\n", ":6: [broker] base: expected 1 to 3 topic levels"},
    {GOOD "[broker]\nbase = +\n", ":6: [broker] base: expected 1 to 3 topic levels"},
    {GOOD "[broker]\nprotocol = 4\n", ":6: [broker] protocol: expected one of auto, 5, 3.1.1"},
    {GOOD "[log]\nlevel = loud\n",
     ":6: [log] level: expected one of error, warning, info, debug, found \"loud\""},
    {GOOD "[log]\nlevel =\n", ":6: [log] level: expected one of"},
};

static void errors_name_file_line_key_and_expectation(void **state)
{
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct config *c;
        folder_text(state, "n.conf", bad[i].text);
        if (load(state, &c) == 0)
            fail_msg("accepted: %s", bad[i].text);
        assert_null(c);
        char expected[512];
        snprintf(expected, sizeof expected, "%s%s", folder_path(state, "n.conf"), bad[i].expected);
        if (!strstr(why, expected))
            fail_msg("message \"%s\" lacks \"%s\"", why, expected);
    }
}

static void passwords_are_not_quoted(void **state)
{
    struct config *c;
    folder_text(state, "n.conf", GOOD "[broker]\nurl = mqtts://user:hunter2@h\n");
    assert_true(load(state, &c) < 0);
    assert_null(strstr(why, "hunter2"));
    assert_non_null(strstr(why, "without user and password"));
}

static void odd_files_are_refused(void **state)
{
    struct config *c;
    char *big = malloc(CONFIG_MAX_BYTES + 1), expected[64];
    assert_int_equal(load(state, &c), -ENOENT);
    assert_non_null(strstr(why, "n.conf: cannot be read"));

    memset(big, '\n', CONFIG_MAX_BYTES + 1);
    memcpy(big, GOOD, strlen(GOOD));
    folder_write(state, "n.conf", big, CONFIG_MAX_BYTES);
    assert_int_equal(load(state, &c), 0);
    config_free(c);
    folder_write(state, "n.conf", big, CONFIG_MAX_BYTES + 1);
    assert_int_equal(load(state, &c), -EFBIG);

    memset(big, 'x', 5000);
    big[4999] = '\n';
    folder_write(state, "n.conf", big, 5000);
    assert_true(load(state, &c) < 0);
    snprintf(expected, sizeof expected, ":1: expected lines of at most");
    assert_non_null(strstr(why, expected));

    folder_write(state, "n.conf",
                 "\x7f"
                 "ELF\x02\x01\x00\x00",
                 8);
    assert_int_equal(load(state, &c), -EBADMSG);
    assert_non_null(strstr(why, ":1: expected text, found the byte 0x7f"));
    folder_write(state, "n.conf", GOOD "\0\n", strlen(GOOD) + 2);
    assert_int_equal(load(state, &c), -EBADMSG);
    assert_non_null(strstr(why, ":5: expected text, found the byte 0x00"));
    free(big);

    assert_int_equal(config_load(*state, &c, why, sizeof why), -EINVAL); /* a folder */
    assert_non_null(strstr(why, "expected a regular file"));
    assert_int_equal(mkfifo(folder_path(state, "fifo"), 0600), 0);
    assert_int_equal(config_load(folder_path(state, "fifo"), &c, why, sizeof why), -EINVAL);
}

static void too_many_meters(void **state)
{
    char text[8192] = "[device]\nid = gw\n";
    struct config *c;
    for (int i = 0; i < CONFIG_METERS + 1; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text),
                 "[meter:m%d]\ntype = sim\nappliance = fridge\n", i);
    folder_text(state, "n.conf", text);
    assert_true(load(state, &c) < 0);
    assert_non_null(strstr(why, "[meter:m64]: expected at most 64 meters"));
    *strstr(text, "[meter:m64]") = '\0';
    folder_text(state, "n.conf", text);
    assert_int_equal(load(state, &c), 0);
    assert_string_equal(c->meters[63].source.appliance, "fridge"); /* not moved by growing */
    config_free(c);
}

/* Whatever the bytes are: no crash, and a message when it is refused. Cuts and single changed bytes
 * of a good file. */
static void damaged_files_never_crash(void **state)
{
    static const char good[] =
        "[device]\nid = gw-1\n[broker]\nurl = mqtts://h:8883\nca = a\n[meter:x]\ntype = sim\n"
        "appliance = fridge\nspeed = max\nmin_on = 5s\n";
    char text[sizeof good];
    struct config *c;
    for (size_t cut = 0; cut < sizeof good - 1; cut++) {
        folder_write(state, "n.conf", good, cut);
        if (load(state, &c) < 0)
            assert_true(why[0] != '\0');
        else
            config_free(c);
    }
    for (size_t at = 0; at < sizeof good - 1; at++) {
        static const unsigned char bytes[] = {0, '\n', '[', '=', ';', 0x80, 0xff, ' '};
        for (size_t b = 0; b < sizeof bytes; b++) {
            memcpy(text, good, sizeof good);
            text[at] = (char)bytes[b];
            folder_write(state, "n.conf", text, sizeof good - 1);
            if (load(state, &c) < 0)
                assert_true(why[0] != '\0');
            else
                config_free(c);
        }
    }
}

/* SPEC.md section 6 names every key with its default. */
static void spec_and_table_agree(void **state)
{
    (void)state;
    static char spec[1 << 20];
    FILE *f = fopen("SPEC.md", "r");
    assert_non_null(f);
    spec[fread(spec, 1, sizeof spec - 1, f)] = '\0';
    fclose(f);
    const char *start = strstr(spec, "\n## 6 Configuration");
    assert_non_null(start);
    char *end = strstr(start + 1, "\n## ");
    assert_non_null(end);
    *end = '\0';
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *k = &config_keys[i];
        char row[256];
        snprintf(row, sizeof row, "| `%s` | %s%s%s |", k->name, k->fallback ? "`" : "",
                 k->fallback ? k->fallback : "-", k->fallback ? "`" : "");
        const char *title = strcmp(k->section, "meter") == 0 ? "`[meter:NAME]`" : NULL;
        char plain[32];
        snprintf(plain, sizeof plain, "`[%s]`", k->section);
        const char *table = strstr(start, title ? title : plain);
        if (!table || !strstr(table, row))
            fail_msg("SPEC.md section 6 lacks under %s: %s", title ? title : plain, row);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(defaults_are_the_table, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(every_value_is_taken, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(drop_ins_override_in_name_order, folder_setup,
                                        folder_teardown),
        cmocka_unit_test_setup_teardown(errors_name_file_line_key_and_expectation, folder_setup,
                                        folder_teardown),
        cmocka_unit_test_setup_teardown(passwords_are_not_quoted, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(odd_files_are_refused, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(too_many_meters, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(damaged_files_never_crash, folder_setup, folder_teardown),
        cmocka_unit_test(spec_and_table_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
