/* test_payload.c - bodies and envelopes: round trip, rounding, hostile texts (SPEC 4, 4.1). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/json.h"
#include "agent/payload.h"

static struct event sample(enum event_type type)
{
    struct event e = {.type = type,
                      .appliance = "Washing machine",
                      .confidence = 0.123456,
                      .time_ms = 1714553780000,
                      .quality = EVENT_CLOCK,
                      .model = 7,
                      .power_w = 1980.249,
                      .start_ms = 1714553600000,
                      .end_ms = 1714553780500,
                      .energy_wh = 99.00049,
                      .peak_w = 2010.06,
                      .end_reason = "gap"};
    return e;
}

static void events_round_trip(void **state)
{
    (void)state;
    struct event e = sample(EVENT_OFF);
    char *text = payload_event("kitchen", &e, 12);
    assert_string_equal(
        text,
        "{\"type\":\"off\",\"meter\":\"kitchen\",\"appliance\":\"Washing "
        "machine\",\"confidence\":0.1235,"
        "\"time\":1714553780000,\"time_quality\":\"clock\",\"model\":7,\"run\":12,\"power\":1980.2,"
        "\"start\":1714553600000,\"end\":1714553780500,\"duration\":180.5,\"energy\":99,"
        "\"peak\":2010.1,\"end_reason\":\"gap\"}");
    free(text);
    e = sample(EVENT_ON);
    e.appliance[0] = '\0';
    e.quality = EVENT_UNSET;
    text = payload_event("kitchen", &e, INT64_MAX);
    assert_string_equal(
        text,
        "{\"type\":\"on\",\"meter\":\"kitchen\",\"appliance\":\"unknown\",\"confidence\":0.1235,"
        "\"time\":1714553780000,\"time_quality\":\"unset\",\"model\":7,"
        "\"run\":9223372036854775807,\"power\":1980.2}");
    free(text);
    e = sample(EVENT_IDENTIFIED);
    text = payload_event("kitchen", &e, 1);
    assert_non_null(strstr(text, "\"type\":\"identified\""));
    assert_non_null(strstr(text, ",\"start\":1714553600000}"));
    free(text);
}

static void numbers_are_always_finite(void **state)
{
    (void)state;
    const double odd[] = {NAN, INFINITY, -INFINITY, 1e300, -1e300, -0.0, 5e-324};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        struct event e = sample(EVENT_OFF);
        e.confidence = e.power_w = e.energy_wh = e.peak_w = odd[i];
        e.start_ms = INT64_MAX / 2;
        e.end_ms = INT64_MIN / 2;
        char *text = payload_event("m", &e, 1);
        cJSON *o = cJSON_Parse(text);
        assert_non_null(o);
        assert_null(strstr(text, "nan"));
        assert_null(strstr(text, "inf"));
        assert_null(strstr(text, ":-0,"));
        const double confidence = cJSON_GetObjectItem(o, "confidence")->valuedouble;
        assert_true(confidence >= 0 && confidence <= 1);
        assert_true(cJSON_GetObjectItem(o, "duration")->valuedouble >= 0);
        assert_true(fabs(cJSON_GetObjectItem(o, "power")->valuedouble) <= 1e15);
        cJSON_Delete(o);
        free(text);
    }
}

static void alerts_round_trip(void **state)
{
    (void)state;
    struct alert a = {.alert = "left_on",
                      .severity = ALERT_WARNING,
                      .alert_id = "left_on-1",
                      .appliance = "Iron",
                      .time_ms = 2,
                      .since_ms = 1,
                      .quality = EVENT_TRACE,
                      .expected = "at most 35 min",
                      .seen = "on for \"120\" min\n",
                      .value = 7200,
                      .limit = 2100.0004};
    char *text = payload_alert("iron", &a);
    assert_string_equal(
        text,
        "{\"alert\":\"left_on\",\"state\":\"raised\",\"severity\":\"warning\",\"meter\":\"iron\","
        "\"appliance\":\"Iron\",\"time\":2,\"since\":1,\"time_quality\":\"trace\","
        "\"expected\":\"at most 35 min\",\"seen\":\"on for \\\"120\\\" min\\n\",\"value\":7200,"
        "\"limit\":2100,\"alert_id\":\"left_on-1\"}");
    free(text);
}

/* Texts may quote file names and brokers: what is published is UTF-8 all the same. */
static void texts_become_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } texts[] = {{"K\xc3\xbc"
                  "che \xf0\x9f\x94\x8c",
                  "K\xc3\xbc"
                  "che \xf0\x9f\x94\x8c"},
                 {"a\xff"
                  "b",
                  "a?b"},
                 {"\xc3", "?"},
                 {"\xc0\xaf", "??"},
                 {"\xed\xa0\x80", "???"},
                 {"\xe2\x82", "??"},
                 {"\xf4\x90\x80\x80", "????"},
                 {"\xf0\x9f\x94", "???"}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        cJSON *o = cJSON_CreateObject();
        assert_int_equal(json_text(o, "t", texts[i].in), 0);
        assert_string_equal(cJSON_GetObjectItem(o, "t")->valuestring, texts[i].out);
        cJSON_Delete(o);
    }
}

static void envelope_keeps_the_body(void **state)
{
    (void)state;
    struct outbox_item item = {
        .seq = UINT64_C(9007199254740993), .epoch = 1714550000, .body = "{\"a\": 1.50, \"b\":[]}"};
    char *text = payload_envelope("gw-1", &item, 1);
    assert_string_equal(
        text, "{\"id\":\"1714550000-9007199254740993\",\"device\":\"gw-1\",\"epoch\":1714550000,"
              "\"seq\":9007199254740993,\"replay\":true,\"a\": 1.50, \"b\":[]}");
    free(text);
    item.body = "{}";
    text = payload_envelope("gw-1", &item, 0);
    cJSON *o = cJSON_Parse(text);
    assert_non_null(o);
    assert_int_equal(cJSON_GetArraySize(o), 5);
    assert_true(cJSON_IsFalse(cJSON_GetObjectItem(o, "replay")));
    cJSON_Delete(o);
    free(text);
}

static void damaged_bodies_are_not_published(void **state)
{
    (void)state;
    static const char *const bodies[] = {"",           "{",        "[1]", "null",  "{\"a\":}",
                                         "{\"a\":1}x", "{\"a\":1", " {}", "\"{}\""};
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        struct outbox_item item = {.seq = 1, .epoch = 1, .body = bodies[i]};
        errno = 0;
        assert_null(payload_envelope("gw-1", &item, 0));
        assert_int_equal(errno, EBADMSG);
    }
}

static void states_of_the_model(void **state)
{
    (void)state;
    char *text = payload_model("gw-1", "refused", "mains", 6, "small", "ab", "version", 5);
    assert_string_equal(
        text, "{\"device\":\"gw-1\",\"state\":\"refused\",\"family\":\"mains\",\"version\":6,"
              "\"name\":\"small\",\"sha256\":\"ab\","
              "\"reason\":\"version\",\"time\":5}");
    free(text);
    text = payload_report("active", "identify", 8, 7, "n", "", 5);
    assert_string_equal(text, "{\"report\":\"model\",\"state\":\"active\",\"family\":\"identify\","
                              "\"version\":8,\"from_version\":7,\"name\":\"n\","
                              "\"reason\":\"\",\"time\":5}");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_round_trip),
        cmocka_unit_test(numbers_are_always_finite),
        cmocka_unit_test(alerts_round_trip),
        cmocka_unit_test(texts_become_utf8),
        cmocka_unit_test(envelope_keeps_the_body),
        cmocka_unit_test(damaged_bodies_are_not_published),
        cmocka_unit_test(states_of_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
