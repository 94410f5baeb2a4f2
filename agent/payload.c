#include "agent/payload.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/json.h"

#define WATTS 10.0
#define WATT_HOURS 1000.0
#define SECONDS 1000.0
#define CONFIDENCE 10000.0

const char *payload_quality(enum event_quality quality)
{
    static const char *const texts[] = {"unset", "trace",     "clock",
                                        "unset", "corrected", "estimated"};
    return (size_t)quality < sizeof texts / sizeof texts[0] ? texts[quality] : "unset";
}

static double within(double value, double low, double high)
{
    return value > low ? (value < high ? value : high) : low; /* NaN becomes low */
}

/* Means of the phases, and how far the one that is farthest from their mean is away, as a share. */
static int add_phases(cJSON *o, const double *watts, double mean)
{
    double far = 0;
    int rc = 0;
    cJSON *list = o ? cJSON_AddArrayToObject(o, "phases") : NULL;
    for (int i = 0; i < 3; i++) {
        cJSON *item = cJSON_CreateNumber(round(watts[i] * WATTS) / WATTS);
        far = fmax(far, fabs(watts[i] - mean) / mean);
        if (!list || !item || !cJSON_AddItemToArray(list, item)) {
            cJSON_Delete(item);
            rc = -ENOMEM;
        }
    }
    return rc | json_number(o, "imbalance", far, 1000);
}

char *payload_event(const char *meter, const struct event *e, int64_t run)
{
    static const char *const types[] = {"on", "off", "identified", "running"};
    cJSON *o = cJSON_CreateObject();
    int rc = json_text(o, "type", types[e->type - EVENT_ON]);
    rc |= json_text(o, "meter", meter);
    rc |= json_text(o, "appliance", e->appliance[0] ? e->appliance : EVENT_UNKNOWN);
    rc |= json_number(o, "confidence", within(e->confidence, 0, 1), CONFIDENCE);
    rc |= json_integer(o, "time", e->time_ms);
    rc |= json_text(o, "time_quality", payload_quality(e->quality));
    rc |= json_unsigned(o, "model", e->model);
    rc |= json_integer(o, "run", run);
    rc |= json_number(o, "power", e->power_w, WATTS);
    if (e->type != EVENT_ON)
        rc |= json_integer(o, "start", e->start_ms);
    if (e->type == EVENT_OFF || e->type == EVENT_RUNNING) {
        rc |= json_integer(o, "end", e->end_ms);
        rc |= json_number(o, "duration", within((double)(e->end_ms - e->start_ms) / 1e3, 0, 1e12),
                          SECONDS);
        rc |= json_number(o, "energy", e->energy_wh, WATT_HOURS);
        rc |= json_number(o, "peak", e->peak_w, WATTS);
        const double *w = e->phases_w, sum = w[0] + w[1] + w[2];
        if (sum > 0)
            rc |= add_phases(o, w, sum / 3);
    }
    if (e->type == EVENT_OFF)
        rc |= json_text(o, "end_reason", e->end_reason[0] ? e->end_reason : "off");
    return json_finish(o, rc);
}

char *payload_state(const char *meter, const struct machine_change *c, enum event_quality quality)
{
    cJSON *o = cJSON_CreateObject();
    int rc = json_text(o, "type", "state");
    rc |= json_text(o, "meter", meter);
    rc |= json_integer(o, "time", c->t_ms);
    rc |= json_text(o, "time_quality", payload_quality(quality));
    rc |= json_text(o, "state", machine_text(c->to));
    rc |= json_text(o, "from", machine_text(c->from));
    rc |= json_number(o, "power", c->watts, WATTS);
    if (c->before_ms > 0 && c->before_ms <= c->t_ms)
        rc |= json_number(o, "duration", (double)(c->t_ms - c->before_ms) / 1e3, SECONDS);
    return json_finish(o, rc);
}

char *payload_alert(const char *meter, const struct alert *a)
{
    static const char *const severities[] = {"info", "warning", "critical"};
    cJSON *o = cJSON_CreateObject();
    int rc = json_text(o, "alert", a->alert);
    rc |= json_text(o, "state", a->cleared ? "cleared" : a->updated ? "updated" : "raised");
    rc |= json_text(o, "severity", severities[a->severity - ALERT_INFO]);
    rc |= json_text(o, "meter", meter);
    rc |= json_text(o, "appliance", a->appliance);
    rc |= json_integer(o, "time", a->time_ms);
    rc |= json_integer(o, "since", a->since_ms);
    rc |= json_text(o, "time_quality", payload_quality(a->quality));
    rc |= json_text(o, "expected", a->expected);
    rc |= json_text(o, "seen", a->seen);
    rc |= json_number(o, "value", a->value, 1000.0);
    rc |= json_number(o, "limit", a->limit, 1000.0);
    rc |= json_text(o, "alert_id", a->alert_id);
    return json_finish(o, rc);
}

char *payload_report(const char *state, const char *family, uint32_t version, uint32_t from_version,
                     const char *name, const char *reason, int64_t time_ms)
{
    cJSON *o = cJSON_CreateObject();
    int rc = json_text(o, "report", "model");
    rc |= json_text(o, "state", state);
    rc |= json_text(o, "family", family);
    rc |= json_unsigned(o, "version", version);
    rc |= json_unsigned(o, "from_version", from_version);
    rc |= json_text(o, "name", name);
    rc |= json_text(o, "reason", reason);
    rc |= json_integer(o, "time", time_ms);
    return json_finish(o, rc);
}

char *payload_model(const char *device, const char *state, const char *family, uint32_t version,
                    const char *name, const char *sha256, const char *reason, int64_t time_ms)
{
    cJSON *o = cJSON_CreateObject();
    int rc = json_text(o, "device", device);
    rc |= json_text(o, "state", state);
    rc |= json_text(o, "family", family);
    rc |= json_unsigned(o, "version", version);
    rc |= json_text(o, "name", name);
    rc |= json_text(o, "sha256", sha256);
    rc |= json_text(o, "reason", reason);
    rc |= json_integer(o, "time", time_ms);
    return json_finish(o, rc);
}

/* The stored body is checked but not printed anew: what was committed is what is sent, to the byte.
 */
char *payload_envelope(const char *device, const struct outbox_item *item, int replay)
{
    const char *end = NULL;
    errno = 0;
    cJSON *parsed =
        item->body && item->body[0] == '{' ? cJSON_ParseWithOpts(item->body, &end, 1) : NULL;
    const int usable = parsed && cJSON_IsObject(parsed), empty = usable && !parsed->child;
    cJSON_Delete(parsed);
    if (!usable) {
        /* cJSON does not tell why it gives nothing; malloc does (POSIX). What is refused is put
         * aside for good. */
        errno = !parsed && errno == ENOMEM ? ENOMEM : EBADMSG;
        return NULL;
    }
    const size_t size = strlen(item->body) + strlen(device) + 160;
    char *text = malloc(size);
    if (!text) {
        errno = ENOMEM;
        return NULL;
    }
    snprintf(text, size,
             "{\"id\":\"%" PRId64 "-%" PRIu64 "\",\"device\":\"%s\",\"epoch\":%" PRId64
             ",\"seq\":%" PRIu64 ",\"replay\":%s%s%s",
             item->epoch, item->seq, device, item->epoch, item->seq, replay ? "true" : "false",
             empty ? "" : ",", item->body + 1);
    return text;
}
