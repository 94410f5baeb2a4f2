/* Three-phase meters: their lines and columns, the sum that is recognised, the phases of a run. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/config.h"
#include "agent/lib_folder.h"
#include "agent/meter.h"
#include "agent/payload.h"
#include "agent/source.h"

static void test_lines(void **state)
{
    struct trace_reading r;
    float p[3];
    char why[256];
    (void)state;
    assert_int_equal(trace_parse_phases("100,200.5,-30", 77, &r, p, why, sizeof why), 0);
    assert_int_equal(r.t_ms, 77);
    assert_float_equal(r.watts, 270.5, 1e-3);
    assert_float_equal(p[2], -30, 1e-3);
    assert_int_equal(trace_parse_phases("2026-10-01T00:00:00Z, 1, 2 ,3", 0, &r, p, why, sizeof why),
                     0);
    assert_int_equal(r.t_ms, INT64_C(1790812800000));
    assert_float_equal(r.watts, 6, 1e-3);
    static const char *const wrong[] = {"",        "1",      "1,2",   "1,2,",    "1,2,3,4,5",
                                        "1,2,nan", "1,2,3x", ",1,2,", "x,1,2,3", "1,2,2e7"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        why[0] = '\0';
        assert_int_equal(trace_parse_phases(wrong[i], 5, &r, p, why, sizeof why), -EBADMSG);
        assert_non_null(strstr(why, "L1,L2,L3"));
    }
}

static void test_columns(void **state)
{
    struct source_config c = {.type = SOURCE_REPLAY, .column = "l1\nl2\nl3"};
    struct source *s = NULL;
    struct trace_reading r;
    float p[3];
    char why[512];
    folder_text(state, "r/a.csv",
                "l3,time,l1,x,l2\n3,1790812800,10,9,200\n4,1790812801,11,9,z\n"
                "5,1790812802,12,9,202\n");
    c.files = folder_path(state, "r/a.csv");
    assert_int_equal(source_create(&c, &s, why, sizeof why), 0);
    assert_int_equal(source_next(s, 0, 0, &r), 1);
    assert_float_equal(r.watts, 213, 1e-3);
    assert_int_equal(source_phases(s, p), 1);
    assert_true(p[0] == 10 && p[1] == 200 && p[2] == 3);
    assert_int_equal(source_next(s, 0, 0, &r), -EBADMSG); /* a phase that is no number */
    assert_int_equal(source_next(s, 0, 0, &r), 1);
    assert_float_equal(r.watts, 219, 1e-3);
    assert_int_equal(source_phases(s, p), 1);
    assert_true(p[0] == 12 && p[1] == 202 && p[2] == 5);
    source_destroy(s);
    c.column = "l1\nl2\nl9";
    assert_int_equal(source_create(&c, &s, why, sizeof why), 0);
    assert_int_equal(source_next(s, 0, 0, &r), -EBADMSG);
    assert_non_null(strstr(source_error(s), "l9"));
    source_destroy(s);
}

static int keep(void *context, const struct outcome *o)
{
    struct event *last = context;
    for (int i = 0; i < o->event_count; i++)
        if (o->events[i].type == EVENT_OFF)
            *last = o->events[i];
    return 0;
}

static void test_run(void **state)
{
    struct event off = {0};
    const struct outcome_sink sink = {&off, keep};
    const struct meter_memory memory = {NULL, NULL};
    const struct meter_config c = {.name = "press",
                                   .on_w = 15,
                                   .off_w = 10,
                                   .min_on_ms = 2000,
                                   .min_off_ms = 30000,
                                   .silence_ms = 600000,
                                   .max_gap_ms = 60000,
                                   .quality = EVENT_TRACE};
    struct meter_shared *shared = NULL;
    struct meter *m = NULL;
    (void)state;
    assert_int_equal(meter_shared_create(&shared), 0);
    assert_int_equal(meter_create(&c, NULL, &sink, &memory, shared, &m), 0);
    int64_t t = INT64_C(1790812800000);
    for (int i = 0; i < 200;
         i++, t += 5000) { /* 20 to 120: on; the third phase is idle half the time */
        const int on = i >= 20 && i < 120;
        const float p[3] = {on ? 1000.f : 0, on ? 600.f : 0, on && i < 70 ? 400.f : 0};
        meter_set_phases(m, p);
        assert_int_equal(meter_reading(m, t, p[0] + p[1] + p[2]), 0);
    }
    assert_int_equal(off.type, EVENT_OFF);
    assert_float_equal(off.phases_w[0] + off.phases_w[1] + off.phases_w[2], off.power_w, 1e-6);
    assert_float_equal(off.phases_w[0], 1000, 15);
    assert_float_equal(off.phases_w[1], 600, 10);
    assert_float_equal(off.phases_w[2], 200, 10);
    char *text = payload_event("press", &off, 3);
    assert_non_null(text);
    assert_non_null(strstr(text, "\"phases\":["));
    assert_non_null(strstr(text, "\"imbalance\":0.6"));
    free(text);
    memset(off.phases_w, 0, sizeof off.phases_w);
    text = payload_event("press", &off, 3);
    assert_null(strstr(text, "phases"));
    free(text);
    meter_destroy(m);
    meter_shared_destroy(shared);
}

static int load(void **state, const char *keys, char *why, struct config **c)
{
    char text[512];
    snprintf(text, sizeof text, "[device]\nid = gw\n[meter:press]\n%s\n", keys);
    folder_text(state, "nilmd.conf", text);
    return config_load(folder_path(state, "nilmd.conf"), c, why, 512);
}

static void test_config(void **state)
{
    struct config *c = NULL;
    char why[512];
    assert_int_equal(load(state, "type = replay\nfiles = x\ncolumns = a  b c", why, &c), 0);
    assert_string_equal(c->meters[0].source.column, "a\nb\nc");
    config_free(c);
    assert_int_equal(load(state, "type = stdin\nphases = 3", why, &c), 0);
    assert_true(c->meters[0].source.phases);
    config_free(c);
    assert_int_equal(load(state, "type = replay\nfiles = x\ncolumns = a b", why, &c), -EINVAL);
    assert_non_null(strstr(why, "three names"));
    assert_int_equal(load(state, "type = replay\nfiles = x\ncolumns = a b c d", why, &c), -EINVAL);
    assert_int_equal(load(state, "type = replay\nfiles = x\ncolumn = a\ncolumns = a b c", why, &c),
                     -EINVAL);
    assert_int_equal(load(state, "type = replay\nfiles = x\nphases = 3", why, &c), -EINVAL);
    assert_int_equal(load(state, "type = stdin\nphases = 2", why, &c), -EINVAL);
    assert_int_equal(load(state, "type = stdin\nstates = 5,3", why, &c), -EINVAL);
    assert_non_null(strstr(why, "states"));
    assert_int_equal(load(state, "type = stdin\n[shifts]\nearly = 6-14", why, &c), -EINVAL);
    assert_non_null(strstr(why, "early"));
    assert_int_equal(
        load(state, "type = stdin\n[shifts]\nearly = 06:00-14:00\nearly = 06:00-14:00", why, &c),
        -EINVAL);
    assert_non_null(strstr(why, "twice"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_columns),
        cmocka_unit_test(test_run),
        cmocka_unit_test(test_config),
    };
    return cmocka_run_group_tests(tests, folder_setup, folder_teardown);
}
