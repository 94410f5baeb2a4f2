/* fuzz_command.c - commands from the broker or the control socket: any bytes get a reply, the reply
 * is one JSON object that says ok or error, and what reaches the agent was checked. */
#include "agent/command.h"

#include <errno.h>

#include "fuzz/fuzz.h"
#include "transport/topic.h"

static cJSON *object(void *context)
{
    cJSON *o = cJSON_CreateObject();

    (void)context;
    cJSON_AddStringToObject(o, "state", "running");
    return o;
}

static cJSON *models(void *context, const char *family)
{
    FUZZ_CHECK(!family || strlen(family) < COMMAND_MAX_BYTES);
    return object(context);
}

static int rollback(void *context, const char *family, char *why, size_t why_size)
{
    (void)context;
    FUZZ_CHECK(!family || strlen(family) < COMMAND_MAX_BYTES);
    snprintf(why, why_size, "there is no previous model");
    return -ENOENT;
}

static int snooze(void *context, const char *alert_id, int64_t for_ms, char *why, size_t why_size)
{
    (void)context;
    FUZZ_CHECK(alert_id[0] != '\0' && strlen(alert_id) < 40 && for_ms >= 0);
    snprintf(why, why_size, "no");
    return -1;
}

static int forget(void *context, const char *meter, const char *appliance, char *why,
                  size_t why_size)
{
    (void)context;
    (void)why;
    (void)why_size;
    FUZZ_CHECK(meter && strlen(meter) < COMMAND_MAX_BYTES);
    FUZZ_CHECK(!appliance || strlen(appliance) < COMMAND_MAX_BYTES);
    return 2;
}

static int label(void *context, const struct label_order *order, const char *key_id,
                 const char *signature, char *why, size_t why_size)
{
    (void)context;
    (void)why;
    (void)why_size;
    FUZZ_CHECK(order->what && order->name && order->time_ms > 0);
    FUZZ_CHECK(strlen(key_id) < PKI_KEY_ID_BYTES && strlen(signature) < LABEL_SIGNATURE_HEX);
    return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct command_target target = {NULL,   object, models, rollback,
                                                 forget, label,  snooze};
    char *exact = malloc(size ? size : 1), *reply;
    const char *end;
    cJSON *json, *ok;

    FUZZ_CHECK(exact);
    if (size)
        memcpy(exact, data, size);
    reply = command_run(&target, exact, size);
    FUZZ_CHECK(reply);
    json = cJSON_ParseWithOpts(reply, &end, 1);
    FUZZ_CHECK(cJSON_IsObject(json));
    ok = cJSON_GetObjectItemCaseSensitive(json, "ok");
    FUZZ_CHECK(cJSON_IsBool(ok));
    FUZZ_CHECK(cJSON_IsTrue(ok) != cJSON_IsString(cJSON_GetObjectItemCaseSensitive(json, "error")));
    cJSON_Delete(json);
    free(reply);
    free(exact);
    return 0;
}
