#include "agent/command.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/json.h"

#define ERROR_BYTES 320

struct request {
    char id[COMMAND_ID_BYTES];
    const char *command, *meter, *appliance, *alert, *duration, *family;
    const char *load, *name, *key, *signature; /* of label */
    int64_t time_ms;
};

static char *reply(const char *id, const char *command, const char *error, cJSON *result)
{
    cJSON *o = cJSON_CreateObject();
    int rc = json_text(o, "id", id);
    rc |= json_text(o, "command", command);
    rc |= o && cJSON_AddBoolToObject(o, "ok", error == NULL) ? 0 : -ENOMEM;
    if (error)
        rc |= json_text(o, "error", error);
    if (result)
        rc |= json_child(o, "result", result);
    return json_finish(o, rc);
}

char *command_refusal(const char *error)
{
    return reply("", "", error, NULL);
}

/* Takes a text member of 1 to max characters, printable ASCII or UTF-8. */
static int take_text(const cJSON *item, size_t max, const char **out, char *error)
{
    const char *s = cJSON_IsString(item) ? item->valuestring : NULL;
    int bad = !s || !*s || strlen(s) > max || *out != NULL;
    for (const char *p = s; p && *p; p++)
        bad |= (unsigned char)*p < 0x20 || *p == 0x7f;
    if (bad) {
        snprintf(error, ERROR_BYTES, "%s: expected one text of 1 to %zu characters", item->string,
                 max);
        return -EINVAL;
    }
    *out = s;
    return 0;
}

/* An integer of a time, exact in a double until the year 287396. */
static int take_time(const cJSON *item, int64_t *out, char *error)
{
    double value = cJSON_IsNumber(item) ? item->valuedouble : 0;
    if (!(value >= 1 && value <= 9007199254740991.0) || value != (double)(int64_t)value || *out) {
        snprintf(error, ERROR_BYTES, "time: expected one time in Unix milliseconds");
        return -EINVAL;
    }
    *out = (int64_t)value;
    return 0;
}

/* The members that only label has. 1: none of them. */
static int take_label(const cJSON *item, struct request *r, char *error)
{
    if (strcmp(item->string, "load") == 0)
        return take_text(item, 63, &r->load, error);
    if (strcmp(item->string, "name") == 0)
        return take_text(item, 63, &r->name, error);
    if (strcmp(item->string, "key") == 0)
        return take_text(item, PKI_KEY_ID_BYTES - 1, &r->key, error);
    if (strcmp(item->string, "signature") == 0)
        return take_text(item, LABEL_SIGNATURE_HEX - 1, &r->signature, error);
    return strcmp(item->string, "time") == 0 ? take_time(item, &r->time_ms, error) : 1;
}

static int take_members(const cJSON *root, struct request *r, char *error)
{
    const char *id = NULL;
    for (const cJSON *item = root->child; item; item = item->next) {
        int rc = take_label(item, r, error);
        if (rc < 1) {
            /* taken, or wrong */
        } else if (strcmp(item->string, "id") == 0) {
            rc = take_text(item, COMMAND_ID_BYTES - 1, &id, error);
            if (rc == 0)
                snprintf(r->id, sizeof r->id, "%s", id);
        } else if (strcmp(item->string, "command") == 0) {
            rc = take_text(item, 32, &r->command, error);
        } else if (strcmp(item->string, "meter") == 0) {
            rc = take_text(item, 63, &r->meter, error);
        } else if (strcmp(item->string, "appliance") == 0) {
            rc = take_text(item, 63, &r->appliance, error);
        } else if (strcmp(item->string, "alert") == 0) {
            rc = take_text(item, 39, &r->alert, error);
        } else if (strcmp(item->string, "duration") == 0) {
            rc = take_text(item, 16, &r->duration, error);
        } else if (strcmp(item->string, "family") == 0) {
            rc = take_text(item, 31, &r->family, error);
        } else {
            snprintf(error, ERROR_BYTES,
                     "unknown member \"%.60s\"; expected id, command, meter, appliance, alert, "
                     "duration, family, or those of label",
                     item->string);
            rc = -EINVAL;
        }
        if (rc < 0)
            return rc;
    }
    if (!id || !r->command) {
        snprintf(error, ERROR_BYTES, "%s: required", id ? "command" : "id");
        return -EINVAL;
    }
    return 0;
}

int command_duration(const char *text, int64_t *ms)
{
    static const struct {
        char unit;
        int64_t ms;
    } units[] = {{'s', 1000}, {'m', 60000}, {'h', 3600000}, {'d', 86400000}};
    int64_t n = 0;
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 9)
        return -EINVAL;
    for (size_t i = 0; i < digits; i++)
        n = 10 * n + (text[i] - '0');
    *ms = 0;
    if (n == 0 && text[digits] == '\0')
        return 0;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (text[digits] == units[i].unit && text[digits + 1] == '\0') {
            *ms = n * units[i].ms;
            return *ms <= 366 * 86400000LL ? 0 : -EINVAL;
        }
    }
    return -EINVAL;
}

static int run_forget(const struct command_target *t, const struct request *r, cJSON **result,
                      char *error)
{
    if (!r->meter) {
        snprintf(error, ERROR_BYTES, "meter: required by forget");
        return -EINVAL;
    }
    const int count = t->forget(t->context, r->meter, r->appliance, error, ERROR_BYTES);
    if (count < 0)
        return count;
    *result = cJSON_CreateObject();
    return json_integer(*result, "forgotten", count);
}

static int run_label(const struct command_target *t, const struct request *r, cJSON **result,
                     char *error)
{
    const struct label_order order = {
        .time_ms = r->time_ms, .meter = r->meter, .what = r->load, .name = r->name};
    if (!r->load || !r->name || !r->time_ms || !r->key || !r->signature || r->appliance) {
        snprintf(error, ERROR_BYTES,
                 "label: expected load, name, time, key, signature, and perhaps meter");
        return -EINVAL;
    }
    const int count = t->label(t->context, &order, r->key, r->signature, error, ERROR_BYTES);
    if (count < 0)
        return count;
    *result = cJSON_CreateObject();
    return json_integer(*result, "runs", count);
}

static int run_snooze(const struct command_target *t, const struct request *r, cJSON **result,
                      char *error)
{
    int64_t ms = 0;
    if (!r->alert || !r->duration) {
        snprintf(error, ERROR_BYTES, "%s: required by snooze", r->alert ? "duration" : "alert");
        return -EINVAL;
    }
    if (command_duration(r->duration, &ms) < 0) {
        snprintf(error, ERROR_BYTES,
                 "duration: expected 0, or a number with s, m, h or d, up to 366d; found \"%s\"",
                 r->duration);
        return -EINVAL;
    }
    const int rc = t->snooze(t->context, r->alert, ms, error, ERROR_BYTES);
    if (rc < 0)
        return rc;
    *result = cJSON_CreateObject();
    return json_integer(*result, "seconds", ms / 1000);
}

/* Members that belong to one command only. */
static int check_members(const struct request *r, char *error)
{
    const int forget = strcmp(r->command, "forget") == 0, snooze = !strcmp(r->command, "snooze");
    const int label = strcmp(r->command, "label") == 0, rollback = !strcmp(r->command, "rollback");
    if (!label && (r->load || r->name || r->key || r->signature || r->time_ms)) {
        snprintf(error, ERROR_BYTES, "load, name, time, key and signature belong to label only");
        return -EINVAL;
    }
    const char *foreign = !forget && !label && r->meter       ? "meter"
                          : !forget && !label && r->appliance ? "appliance"
                          : !snooze && r->alert               ? "alert"
                          : !snooze && r->duration            ? "duration"
                          : !rollback && r->family            ? "family"
                                                              : NULL;
    if (foreign)
        snprintf(error, ERROR_BYTES, "%s: does not belong to %s", foreign, r->command);
    return foreign ? -EINVAL : 0;
}

static int run(const struct command_target *t, const struct request *r, cJSON **result, char *error)
{
    snprintf(error, ERROR_BYTES, "out of memory"); /* unless told otherwise */
    if (check_members(r, error) < 0)
        return -EINVAL;
    if (strcmp(r->command, "forget") == 0)
        return run_forget(t, r, result, error);
    if (strcmp(r->command, "label") == 0)
        return run_label(t, r, result, error);
    if (strcmp(r->command, "snooze") == 0)
        return run_snooze(t, r, result, error);
    if (strcmp(r->command, "ping") == 0) {
        *result = cJSON_CreateObject();
    } else if (strcmp(r->command, "status") == 0) {
        *result = t->status(t->context);
    } else if (strcmp(r->command, "models") == 0) {
        *result = t->models(t->context, NULL);
    } else if (strcmp(r->command, "rollback") == 0) {
        const int rc = t->rollback(t->context, r->family, error, ERROR_BYTES);
        if (rc < 0)
            return rc;
        *result = t->models(t->context, r->family);
    } else {
        snprintf(error, ERROR_BYTES,
                 "command: unknown \"%s\"; expected ping, status, models, rollback, "
                 "forget, label or snooze",
                 r->command);
        return -EINVAL;
    }
    return *result ? 0 : -ENOMEM;
}

char *command_run(const struct command_target *target, const char *text, size_t bytes)
{
    char error[ERROR_BYTES] = "";
    struct request r = {.id = ""};
    cJSON *result = NULL;
    if (bytes > COMMAND_MAX_BYTES)
        return command_refusal("command: larger than 4096 bytes");
    if (memchr(text, '\0', bytes))
        return command_refusal("command: expected a JSON object, found a NUL byte");
    /* A copy with its NUL: cJSON then sees the end, and what follows the object. */
    char copy[COMMAND_MAX_BYTES + 1];
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    cJSON *root = cJSON_ParseWithOpts(copy, NULL, 1);
    if (!cJSON_IsObject(root)) {
        snprintf(error, sizeof error, "command: expected a JSON object, found %s",
                 root ? "another value" : "something that is no JSON");
        cJSON_Delete(root);
        return command_refusal(error);
    }
    const int rc = take_members(root, &r, error) < 0 ? -EINVAL : run(target, &r, &result, error);
    char *out =
        reply(r.id, r.command ? r.command : "", rc < 0 ? error : NULL, rc < 0 ? NULL : result);
    if (rc < 0)
        cJSON_Delete(result);
    cJSON_Delete(root);
    return out;
}
