#include "agent/status.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/json.h"
#include "agent/mains.h"
#include "agent/payload.h"
#include "storage/outbox.h"

static const char *const types[] = {"", "replay", "stdin", "sim"};

/* What is on behind a mains meter, in the order of the model's labels. */
static int add_appliances(cJSON *o, struct mains *mains)
{
    cJSON *list = cJSON_AddArrayToObject(o, "appliances");
    for (int c = 0; c < mains_classes(mains); c++) {
        const char *name = NULL;
        const struct mains_run *run = mains_run(mains, c, &name);
        if (!run->told_ms || run->phase != MAINS_ON)
            continue;
        cJSON *item = cJSON_CreateObject();
        int rc = json_text(item, "appliance", name);
        rc |= json_number(item, "power", (double)run->last_w, 10.0);
        if (rc < 0 || !list || !cJSON_AddItemToArray(list, item)) {
            cJSON_Delete(item);
            return -ENOMEM;
        }
    }
    return list ? 0 : -ENOMEM;
}

static int add_recording(cJSON *o, const struct record *record)
{
    struct record_stats s;
    record_get_stats(record, &s);
    cJSON *recording = cJSON_CreateObject();
    int rc = json_text(recording, "state", s.failing ? "failing" : "ok");
    rc |= json_unsigned(recording, "dropped", s.dropped);
    return json_child(o, "recording", recording) | rc;
}

static cJSON *describe_meter(const struct agent_meter *m)
{
    struct meter_status s = {0};
    cJSON *o = cJSON_CreateObject();
    if (m->meter)
        meter_get_status(m->meter, &s);
    const char *state = !m->source || !m->meter ? "failed"
                        : m->ended              ? "ended"
                        : s.readings == 0       ? "waiting"
                        : s.on                  ? "on"
                                                : "off";
    int rc = json_text(o, "name", m->config->meter.name);
    rc |= json_text(o, "type", types[m->config->source.type]);
    rc |= json_text(o, "state", state);
    rc |= json_text(o, "appliance", s.on ? s.appliance : "");
    rc |= json_unsigned(o, "samples", s.readings);
    rc |= json_integer(o, "last", s.readings ? s.last_ms : 0);
    rc |= json_number(o, "learning", s.learning, 1000);
    int64_t since;
    if (m->machine)
        rc |= json_text(o, "machine", machine_text(machine_now(m->machine, &since)));
    rc |= json_integer(o, "alerts", s.alerts);
    if (m->record)
        rc |= add_recording(o, m->record);
    if (m->meter && meter_mains(m->meter))
        rc |= add_appliances(o, meter_mains(m->meter));
    if (rc < 0) {
        cJSON_Delete(o);
        return NULL;
    }
    return o;
}

static int add_meters(struct agent *a, cJSON *root)
{
    cJSON *list = root ? cJSON_AddArrayToObject(root, "meters") : NULL;
    for (size_t i = 0; i < a->meter_count; i++) {
        cJSON *meter = describe_meter(&a->meters[i]);
        if (!list || !meter || !cJSON_AddItemToArray(list, meter)) {
            cJSON_Delete(meter);
            return -ENOMEM;
        }
    }
    return list ? 0 : -ENOMEM;
}

static int add_model(cJSON *root, const char *key, const struct updater *u)
{
    struct updater_info info;
    updater_get_info(u, &info);
    if (!info.family[0])
        return root && cJSON_AddNullToObject(root, key) ? 0 : -ENOMEM;
    cJSON *o = cJSON_CreateObject();
    int rc = json_text(o, "family", info.family);
    rc |= json_unsigned(o, "version", info.version);
    rc |= json_text(o, "name", info.name);
    return json_child(root, key, o) | rc;
}

static int add_outbox(struct agent *a, cJSON *root)
{
    struct outbox_stats s = {.next_seq = 1};
    cJSON *o = cJSON_CreateObject();
    if (!a->store || outbox_statistics(a->store, &s) < 0)
        s.next_seq = s.next_seq ? s.next_seq : 1;
    int rc = json_unsigned(o, "rows", s.rows);
    rc |= json_unsigned(o, "bytes", s.bytes);
    rc |= json_unsigned(o, "next_seq", s.next_seq);
    rc |= json_unsigned(o, "dropped", s.dropped);
    rc |= json_unsigned(o, "parked", s.parked);
    return json_child(root, "outbox", o) | rc;
}

static int add_store(struct agent *a, cJSON *root)
{
    struct journal_stats s;
    cJSON *o = cJSON_CreateObject();
    journal_get_stats(a->journal, &s);
    int rc = json_text(o, "state", !a->store ? "absent" : s.waiting > 0 ? "refusing" : "ok");
    rc |= json_unsigned(o, "waiting", s.waiting);
    rc |= json_unsigned(o, "lost", s.lost);
    return json_child(root, "store", o) | rc;
}

static int add_all(struct agent *a, cJSON *root, const char *state)
{
    int rc = json_text(root, "state", state);
    rc |= json_text(root, "device", a->config->device);
    rc |= json_text(root, "agent", NILM_VERSION);
    rc |= json_integer(root, "epoch", a->epoch);
    rc |= json_integer(root, "time", wall_now_ms(&a->wall));
    rc |= json_text(root, "time_quality", payload_quality(wall_quality(&a->wall)));
    rc |= add_model(root, "model", agent_main_updater(a));
    if (agent_has_both(a))
        rc |= add_model(root, "mains_model", a->mains_updater);
    rc |= add_meters(a, root);
    rc |= add_outbox(a, root);
    rc |= add_store(a, root);
    return rc;
}

char *status_text(struct agent *a, const char *state)
{
    cJSON *root = cJSON_CreateObject();
    const int rc = add_all(a, root, state);
    return json_finish(root, rc);
}

static int add_link(struct agent *a, cJSON *root)
{
    struct publisher_stats s = {.state = "no broker is configured"};
    cJSON *o = cJSON_CreateObject();
    if (a->publisher)
        publisher_get_stats(a->publisher, &s);
    int rc = o && cJSON_AddBoolToObject(o, "connected", s.connected) ? 0 : -ENOMEM;
    rc |= json_text(o, "broker", s.broker);
    rc |= json_text(o, "text", s.state);
    rc |= json_text(o, "refused", s.refused);
    rc |= json_unsigned(o, "sessions", s.sessions);
    rc |= json_unsigned(o, "sent", s.sent);
    rc |= json_unsigned(o, "acknowledged", s.acknowledged);
    rc |= json_unsigned(o, "failed", s.failed);
    return json_child(root, "link", o) | rc;
}

static int add_journal(struct agent *a, cJSON *root)
{
    struct journal_stats s;
    struct store_usage usage = {0};
    struct wear_figures wear;
    cJSON *o = cJSON_CreateObject();
    journal_get_stats(a->journal, &s);
    wear_get(&a->wear, &wear);
    if (!a->store || store_usage(a->store, &usage) < 0)
        memset(&usage, 0, sizeof usage);
    int rc = json_unsigned(o, "committed", s.committed);
    rc |= json_unsigned(o, "waiting", s.waiting);
    rc |= json_unsigned(o, "lost", s.lost);
    rc |= json_unsigned(o, "failures", s.failures);
    rc |= json_unsigned(o, "database_bytes", usage.database_bytes);
    rc |= json_unsigned(o, "written_bytes", wear.written_bytes);
    rc |= json_unsigned(o, "outcome_bytes", wear.outcome_bytes);
    rc |= json_unsigned(o, "idle_day_bytes", wear.day_bytes);
    return json_child(root, "journal", o) | rc;
}

cJSON *status_command(void *agent)
{
    struct agent *a = agent;
    cJSON *root = cJSON_CreateObject();
    int rc = add_all(a, root, "online");
    rc |= add_link(a, root);
    rc |= add_journal(a, root);
    if (rc == 0)
        return root;
    cJSON_Delete(root);
    return NULL;
}

/* What of a kind of meters runs, and what its slots hold. */
static int describe_models(cJSON *o, const struct updater *u)
{
    struct updater_info info;
    updater_get_info(u, &info);
    const char active[] = {info.slots.active, '\0'}, previous[] = {info.slots.previous, '\0'};
    cJSON *slots = cJSON_CreateObject();
    int rc = json_text(o, "family", updater_family(u));
    rc |= json_unsigned(o, "version", info.version);
    rc |= json_text(o, "name", info.name);
    rc |= json_text(o, "from", info.from);
    rc |= json_text(slots, "active", active);
    rc |= json_unsigned(slots, "version", info.slots.version);
    rc |= json_text(slots, "previous", previous);
    rc |= json_unsigned(slots, "previous_version", info.slots.previous_version);
    rc |= json_unsigned(slots, "highest", info.slots.highest);
    return json_child(o, "slots", slots) | rc;
}

cJSON *status_models(void *agent, const char *family)
{
    struct agent *a = agent;
    cJSON *root = cJSON_CreateObject();
    int rc = describe_models(root, agent_family_updater(a, family));
    if (!family && agent_has_both(a)) {
        cJSON *mains = cJSON_CreateObject();
        rc |= describe_models(mains, agent_updater(a, 1));
        rc |= json_child(root, "mains", mains);
    }
    if (rc == 0)
        return root;
    cJSON_Delete(root);
    return NULL;
}
