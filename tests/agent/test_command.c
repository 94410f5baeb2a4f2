/* test_command.c - commands, good and hostile (SPEC 4.9). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/command.h"

static char last_meter[64], last_appliance[64];
static int rollback_result, forget_result;

static cJSON *object(void *context)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "from", context);
    return o;
}

static char last_family[32];

static cJSON *models(void *context, const char *family)
{
    cJSON *o = object(context);
    if (family)
        cJSON_AddStringToObject(o, "family", family);
    return o;
}

static int roll_back(void *context, const char *family, char *why, size_t size)
{
    (void)context;
    snprintf(last_family, sizeof last_family, "%s", family ? family : "(main)");
    if (rollback_result < 0)
        snprintf(why, size, "there is no previous model");
    return rollback_result;
}

static int forget(void *context, const char *meter, const char *appliance, char *why, size_t size)
{
    (void)context;
    snprintf(last_meter, sizeof last_meter, "%s", meter);
    snprintf(last_appliance, sizeof last_appliance, "%s", appliance ? appliance : "(all)");
    if (forget_result < 0)
        snprintf(why, size, "meter: there is no meter \"%s\"", meter);
    return forget_result;
}

static struct label_order last_order;
static char last_key[32];

static int label(void *context, const struct label_order *order, const char *key_id,
                 const char *signature, char *why, size_t size)
{
    static char load[64], name[64];
    (void)context;
    last_order = *order;
    snprintf(load, sizeof load, "%s", order->what);
    snprintf(name, sizeof name, "%s", order->name);
    last_order.what = load;
    last_order.name = name;
    snprintf(last_key, sizeof last_key, "%s", key_id);
    if (strcmp(signature, "ab") != 0) {
        snprintf(why, size, "wrong");
        return -EKEYREJECTED;
    }
    return 7;
}

static int snooze(void *context, const char *alert_id, int64_t for_ms, char *why, size_t size)
{
    (void)context;
    if (strcmp(alert_id, "a-1") == 0)
        return for_ms == 5400000 || for_ms == 0 ? 0 : -EINVAL;
    snprintf(why, size, "there is no alert \"%s\"", alert_id);
    return -ENOENT;
}

static const struct command_target target = {"here", object, models, roll_back,
                                             forget, label,  snooze};

static void expect(const char *command, const char *reply)
{
    char *text = command_run(&target, command, strlen(command));
    assert_non_null(text);
    assert_string_equal(text, reply);
    free(text);
}

static void commands_are_answered(void **state)
{
    (void)state;
    rollback_result = 0;
    forget_result = 3;
    expect("{\"id\":\"a\",\"command\":\"ping\"}",
           "{\"id\":\"a\",\"command\":\"ping\",\"ok\":true,\"result\":{}}");
    expect(" {\"command\":\"status\",\"id\":\"b\"} \n",
           "{\"id\":\"b\",\"command\":\"status\",\"ok\":true,\"result\":{\"from\":\"here\"}}");
    expect("{\"id\":\"c\",\"command\":\"rollback\"}",
           "{\"id\":\"c\",\"command\":\"rollback\",\"ok\":true,\"result\":{\"from\":\"here\"}}");
    assert_string_equal(last_family, "(main)");
    expect("{\"id\":\"c\",\"command\":\"rollback\",\"family\":\"mains\"}",
           "{\"id\":\"c\",\"command\":\"rollback\",\"ok\":true,\"result\":{\"from\":\"here\","
           "\"family\":"
           "\"mains\"}}");
    assert_string_equal(last_family, "mains");
    expect("{\"id\":\"d\",\"command\":\"forget\",\"meter\":\"m\"}",
           "{\"id\":\"d\",\"command\":\"forget\",\"ok\":true,\"result\":{\"forgotten\":3}}");
    assert_string_equal(last_meter, "m");
    assert_string_equal(last_appliance, "(all)");
    expect("{\"id\":\"d\",\"command\":\"forget\",\"meter\":\"m\",\"appliance\":\"Iron\"}",
           "{\"id\":\"d\",\"command\":\"forget\",\"ok\":true,\"result\":{\"forgotten\":3}}");
    assert_string_equal(last_appliance, "Iron");
    expect("{\"id\":\"g\",\"command\":\"label\",\"load\":\"unknown-3\",\"name\":\"heat pump\","
           "\"time\":1700000000123,\"key\":\"0123456789abcdef\",\"signature\":\"ab\"}",
           "{\"id\":\"g\",\"command\":\"label\",\"ok\":true,\"result\":{\"runs\":7}}");
    assert_string_equal(last_order.what, "unknown-3");
    assert_string_equal(last_order.name, "heat pump");
    assert_null(last_order.meter);
    assert_true(last_order.time_ms == 1700000000123);
    assert_string_equal(last_key, "0123456789abcdef");
    expect("{\"id\":\"g\",\"command\":\"label\",\"load\":\"17\",\"name\":\"x\",\"meter\":\"m\","
           "\"time\":1,\"key\":\"0\",\"signature\":\"cd\"}",
           "{\"id\":\"g\",\"command\":\"label\",\"ok\":false,\"error\":\"wrong\"}");
    expect("{\"id\":\"d\",\"command\":\"snooze\",\"alert\":\"a-1\",\"duration\":\"90m\"}",
           "{\"id\":\"d\",\"command\":\"snooze\",\"ok\":true,\"result\":{\"seconds\":5400}}");
    expect("{\"id\":\"d\",\"command\":\"snooze\",\"alert\":\"a-1\",\"duration\":\"0\"}",
           "{\"id\":\"d\",\"command\":\"snooze\",\"ok\":true,\"result\":{\"seconds\":0}}");
    expect("{\"id\":\"d\",\"command\":\"snooze\",\"alert\":\"b\",\"duration\":\"1d\"}",
           "{\"id\":\"d\",\"command\":\"snooze\",\"ok\":false,\"error\":\"there is no alert "
           "\\\"b\\\"\"}");
    rollback_result = forget_result = -ENOENT;
    expect("{\"id\":\"e\",\"command\":\"rollback\"}",
           "{\"id\":\"e\",\"command\":\"rollback\",\"ok\":false,\"error\":\"there is no previous "
           "model\"}");
    expect("{\"id\":\"f\",\"command\":\"forget\",\"meter\":\"x\"}",
           "{\"id\":\"f\",\"command\":\"forget\",\"ok\":false,\"error\":\"meter: there is no meter "
           "\\\"x\\\"\"}");
}

static const struct {
    const char *command, *error;
} bad[] = {
    {"", "found something that is no JSON"},
    {"ping", "no JSON"},
    {"[]", "expected a JSON object, found another value"},
    {"\"ping\"", "another value"},
    {"{", "no JSON"},
    {"{}", "id: required"},
    {"{\"id\":\"a\"}", "command: required"},
    {"{\"command\":\"ping\"}", "id: required"},
    {"{\"id\":1,\"command\":\"ping\"}", "id: expected one text of 1 to 64 characters"},
    {"{\"id\":\"\",\"command\":\"ping\"}", "id: expected one text"},
    {"{\"id\":\"a\\nb\",\"command\":\"ping\"}", "id: expected one text"},
    {"{\"id\":\"a\",\"id\":\"b\",\"command\":\"ping\"}", "id: expected one text"},
    {"{\"id\":\"a\",\"command\":\"ping\",\"command\":\"rollback\"}", "command: expected one text"},
    {"{\"id\":\"a\",\"command\":\"models\",\"family\":\"mains\"}",
     "family: does not belong to models"},
    {"{\"id\":\"a\",\"command\":[\"ping\"]}", "command: expected one text"},
    {"{\"id\":\"a\",\"command\":\"reboot\"}",
     "command: unknown \\\"reboot\\\"; expected ping, status"},
    {"{\"id\":\"a\",\"command\":\"label\",\"load\":\"x\",\"name\":\"y\",\"time\":1,\"key\":\"0\"}",
     "label: expected load, name, time, key, signature"},
    {"{\"id\":\"a\",\"command\":\"label\",\"time\":1.5}", "time: expected one time"},
    {"{\"id\":\"a\",\"command\":\"label\",\"time\":\"1\"}", "time: expected one time"},
    {"{\"id\":\"a\",\"command\":\"label\",\"time\":1,\"time\":2}", "time: expected one time"},
    {"{\"id\":\"a\",\"command\":\"ping\",\"name\":\"x\"}", "belong to label only"},
    {"{\"id\":\"a\",\"command\":\"ping\",\"extra\":1}", "unknown member \\\"extra\\\""},
    {"{\"id\":\"a\",\"command\":\"ping\",\"meter\":\"m\"}", "meter: does not belong to ping"},
    {"{\"id\":\"a\",\"command\":\"forget\"}", "meter: required by forget"},
    {"{\"id\":\"a\",\"command\":\"snooze\",\"alert\":\"x\"}", "duration: required by snooze"},
    {"{\"id\":\"a\",\"command\":\"snooze\",\"alert\":\"x\",\"duration\":\"1\"}",
     "duration: expected 0"},
    {"{\"id\":\"a\",\"command\":\"snooze\",\"alert\":\"x\",\"duration\":\"400d\"}",
     "duration: expected 0"},
    {"{\"id\":\"a\",\"command\":\"ping\",\"duration\":\"1h\"}",
     "duration: does not belong to ping"},
    {"{\"id\":\"a\",\"command\":\"forget\",\"meter\":{\"a\":1}}", "meter: expected one text"},
    {"{\"id\":\"a\",\"command\":\"ping\"}{}", "no JSON"},
    {"{\"id\":\"a\",\"command\":\"ping\"} x", "no JSON"},
    {"{\"id\":\"a\\u0000b\",\"command\":\"ping\"", "no JSON"},
};

static void check_error(const char *command, size_t bytes, const char *error)
{
    char *text = command_run(&target, command, bytes);
    assert_non_null(text);
    cJSON *o = cJSON_Parse(text);
    assert_non_null(o);
    if (!cJSON_IsFalse(cJSON_GetObjectItem(o, "ok")) || cJSON_GetObjectItem(o, "result") ||
        !strstr(text, error))
        fail_msg("%.*s: reply %s lacks \"%s\"", (int)(bytes < 80 ? bytes : 80), command, text,
                 error);
    cJSON_Delete(o);
    free(text);
}

static void hostile_commands_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        check_error(bad[i].command, strlen(bad[i].command), bad[i].error);
    static char big[COMMAND_MAX_BYTES + 2];
    memset(big, '[', sizeof big); /* deep nesting */
    check_error(big, COMMAND_MAX_BYTES, "no JSON");
    check_error(big, COMMAND_MAX_BYTES + 1, "larger than 4096 bytes");
    memset(big, ' ', sizeof big);
    memcpy(big, "{\"id\":\"a\",\"command\":\"ping\"}", 27);
    char *text = command_run(&target, big, COMMAND_MAX_BYTES); /* just not too large */
    assert_non_null(strstr(text, "\"ok\":true"));
    free(text);
    big[100] = '\0';
    check_error(big, COMMAND_MAX_BYTES, "found a NUL byte");
    char id[200] = "{\"command\":\"ping\",\"id\":\"";
    memset(id + strlen(id), 'x', 65);
    memcpy(id + 24 + 65, "\"}", 3);
    check_error(id, strlen(id), "id: expected one text of 1 to 64");
}

/* Every cut and many single changed bytes: an answer, never a crash. */
static void damaged_commands_are_answered(void **state)
{
    (void)state;
    static const char good[] =
        "{\"id\":\"a\",\"command\":\"forget\",\"meter\":\"m\",\"appliance\":\"Iron\"}";
    for (size_t cut = 0; cut < sizeof good - 1; cut++)
        check_error(good, cut, "no JSON");
    for (size_t at = 0; at < sizeof good - 1; at++) {
        for (int byte = 0; byte < 256; byte += 3) {
            char *copy = malloc(sizeof good - 1); /* no NUL behind it */
            memcpy(copy, good, sizeof good - 1);
            copy[at] = (char)byte;
            char *text = command_run(&target, copy, sizeof good - 1);
            cJSON *o = cJSON_Parse(text);
            assert_non_null(o);
            cJSON_Delete(o);
            free(text);
            free(copy);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_are_answered),
        cmocka_unit_test(hostile_commands_are_refused),
        cmocka_unit_test(damaged_commands_are_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
