/* push.c - nilmctl push: sends a signed bundle and waits for what the gateways make of it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/ctl/cli.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/session.h"
#include "agent/ctl/verify.h"
#include "transport/bundle.h"
#include "transport/topic.h"

#define TOKEN 1
#define MAX_DEVICES 10000u

struct device { /* one that published its model state */
    char name[TOPIC_NAME_BYTES];
    double before_time; /* of the state that was retained before the push; 0: none */
    int offline;        /* by its status */
    char state[16], reason[256];
    double version;
};

struct push {
    struct session session;
    const char *file, *device, *group;
    int64_t wait_s, expect;
    int json;
    void *data;
    size_t size;
    char sha256[65], name[64];
    uint32_t version;
    int up, sent, acked, failed;
    char why[384], topic[TOPIC_BYTES];
    struct device *devices;
    size_t device_count;
    size_t active, refused;
};

static struct device *get_device(struct push *p, const char *name)
{
    for (size_t i = 0; i < p->device_count; i++)
        if (strcmp(p->devices[i].name, name) == 0)
            return &p->devices[i];
    if (p->device_count == MAX_DEVICES)
        return NULL;
    struct device *larger = realloc(p->devices, (p->device_count + 1) * sizeof *larger);
    if (!larger)
        return NULL;
    p->devices = larger;
    struct device *d = &larger[p->device_count++];
    memset(d, 0, sizeof *d);
    snprintf(d->name, sizeof d->name, "%s", name);
    return d;
}

static const char *text_of(const cJSON *o, const char *key)
{
    cJSON *item = cJSON_GetObjectItemCaseSensitive(o, key);
    return cJSON_IsString(item) ? cli_plain(item->valuestring) : "";
}

/* A model state: ours when it names our bundle, and is news rather than what was retained before we
 * sent it. */
static void on_model(struct push *p, struct device *d, const cJSON *o, int retained)
{
    const cJSON *time = cJSON_GetObjectItemCaseSensitive(o, "time");
    const cJSON *version = cJSON_GetObjectItemCaseSensitive(o, "version");
    double when = cJSON_IsNumber(time) ? time->valuedouble : 0;
    if (retained && !p->acked) {
        d->before_time = when;
        return;
    }
    if (!p->sent || strcmp(text_of(o, "sha256"), p->sha256) != 0 ||
        (retained && when == d->before_time))
        return;
    int was = (strcmp(d->state, "active") == 0) + 2 * (strcmp(d->state, "refused") == 0);
    snprintf(d->state, sizeof d->state, "%s", text_of(o, "state"));
    snprintf(d->reason, sizeof d->reason, "%s", text_of(o, "reason"));
    d->version = cJSON_IsNumber(version) ? version->valuedouble : 0;
    int is = (strcmp(d->state, "active") == 0) + 2 * (strcmp(d->state, "refused") == 0);
    p->active += (size_t)(is == 1) - (size_t)(was == 1);
    p->refused += (size_t)(is == 2) - (size_t)(was == 2);
    if (!p->json)
        printf("%s: %s%s%s\n", d->name, d->state, *d->reason ? ": " : "", d->reason);
    fflush(stdout);
}

static void on_message(struct push *p, const struct link_event *e)
{
    struct topic_parts topic;
    cJSON *o = cJSON_ParseWithLength(e->payload, e->payload_bytes);
    struct device *d = NULL;
    if (cJSON_IsObject(o) && topic_parse(e->topic, p->session.settings.base, &topic) == 0)
        d = get_device(p, topic.name);
    if (d && topic.kind == TOPIC_MODEL)
        on_model(p, d, o, e->retained);
    else if (d && topic.kind == TOPIC_STATUS)
        d->offline = strcmp(text_of(o, "state"), "online") != 0;
    cJSON_Delete(o);
}

static void on_event(struct push *p, const struct link_event *e)
{
    switch (e->type) {
    case LINK_UP:
        p->up = 1;
        break;
    case LINK_DOWN:
        p->up = 0;
        snprintf(p->why, sizeof p->why, "%s", e->text);
        break;
    case LINK_ACKED:
        p->acked = 1;
        if (!p->json)
            printf("the broker has the bundle (%zu bytes)\n", p->size);
        fflush(stdout);
        break;
    case LINK_FAILED:
        p->sent = 0; /* again, unless it was refused for good */
        p->failed = e->permanent;
        snprintf(p->why, sizeof p->why, "%s", e->text);
        break;
    case LINK_REFUSED:
        p->failed = 1;
        snprintf(p->why, sizeof p->why, "%s", e->text);
        break;
    case LINK_MESSAGE:
        on_message(p, e);
        break;
    case LINK_NONE:
        break;
    }
}

/* Whether there is nothing left to wait for. */
static int complete(const struct push *p)
{
    size_t answers = p->active + p->refused;
    if (p->failed || session_stopped() || (p->acked && p->wait_s == 0))
        return 1;
    if (p->device)
        return answers > 0;
    return p->expect > 0 && answers >= (size_t)p->expect;
}

static int loop(struct push *p)
{
    int64_t end = cli_mono_ms() + (p->wait_s > 0 ? p->wait_s : 30) * 1000;
    struct link_event event;
    while (!complete(p)) {
        int64_t left = end - cli_mono_ms();
        if (left <= 0)
            break;
        if (p->up && !p->sent) {
            int rc =
                link_publish(p->session.link, p->topic, p->data, p->size, 1, 0, NULL, 0, TOKEN);
            p->sent = rc == 0;
            if (rc != 0 && rc != -EAGAIN && rc != -ENOTCONN)
                return cli_fail(CLI_FAILED, "push", "%s: %s", p->file, strerror(-rc));
        }
        int rc = link_next(p->session.link, &event, left < 250 ? (int)left : 250);
        if (rc < 0)
            return cli_fail(CLI_FAILED, "push", "the session cannot go on: %s", strerror(-rc));
        on_event(p, &event);
    }
    return CLI_DONE;
}

/* Exit code, and the words for it on standard error. */
static int judge(const struct push *p)
{
    const struct device *d = p->device && p->device_count > 0 ? p->devices : NULL;
    if (p->failed)
        return cli_fail(CLI_FAILED, "push", "refused: %s", p->why);
    if (!p->acked)
        return cli_fail(CLI_RETRY, "push", "the broker did not take it: %s",
                        *p->why ? p->why : "no answer");
    if (p->wait_s == 0)
        return CLI_DONE;
    if (p->refused > 0)
        return p->device ? CLI_FAILED
                         : cli_fail(CLI_FAILED, "push", "%zu of %zu answers refuse it", p->refused,
                                    p->refused + p->active);
    if (p->active == 0 || (p->expect > 0 && p->active < (size_t)p->expect))
        return cli_fail(CLI_TIMEOUT, "push", "%zu answers within %lld s%s%s", p->active,
                        (long long)p->wait_s, d && d->offline ? "; the gateway is offline" : "",
                        d && *d->state ? "; it went no further than shown above" : "");
    return CLI_DONE;
}

static int print_result(const struct push *p, int code)
{
    static const char *const results[] = {"active", "usage", "refused", "not_delivered", "timeout"};
    cJSON *o = cJSON_CreateObject();
    const char *result = !*p->sha256                          ? "no_bundle"
                         : code == CLI_DONE && p->wait_s == 0 ? "delivered"
                                                              : results[code];
    cJSON_AddStringToObject(o, "result", result);
    cJSON_AddStringToObject(o, "reason", !p->acked ? p->why : "");
    cJSON_AddStringToObject(o, "sha256", p->sha256);
    cJSON_AddNumberToObject(o, "version", p->version);
    cJSON_AddStringToObject(o, "name", p->name);
    cJSON *list = cJSON_AddArrayToObject(o, "devices");
    for (size_t i = 0; i < p->device_count; i++) {
        const struct device *d = &p->devices[i];
        if (!*d->state)
            continue;
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "device", d->name);
        cJSON_AddStringToObject(item, "state", d->state);
        cJSON_AddNumberToObject(item, "version", d->version);
        cJSON_AddStringToObject(item, "reason", d->reason);
        cJSON_AddItemToArray(list, item);
    }
    return cli_print_json(o) == CLI_DONE ? code : CLI_FAILED;
}

/* Reads and checks the bundle: what cannot be one is not sent. The signature is the gateway's to
 * judge. */
static int load(struct push *p)
{
    struct bundle b;
    uint8_t digest[32];
    char why[CLI_WHY] = "";
    int rc = verify_read(p->file, CANDIDATE_MAX_BYTES, &p->data, &p->size, why, sizeof why);
    if (rc != 0) {
        snprintf(p->why, sizeof p->why, "%.380s", why);
        return cli_fail(CLI_FAILED, "push", "%s", why);
    }
    rc = bundle_parse(p->data, p->size, &b, why, sizeof why);
    if (rc == 0) {
        if (!*b.key_id)
            rc = -EKEYREJECTED;
        snprintf(why, sizeof why, "is not signed, no gateway would take it: nilm-model sign");
        p->version = b.manifest.version;
        snprintf(p->name, sizeof p->name, "%s", b.manifest.name);
        bundle_free(&b);
    }
    if (rc != 0) {
        snprintf(p->why, sizeof p->why, "%.380s", why);
        return cli_fail(CLI_FAILED, "push", "%s: %s", p->file, why);
    }
    pki_sha256(p->data, p->size, digest);
    pki_hex(digest, sizeof digest, p->sha256);
    return CLI_DONE;
}

static int run(struct push *p)
{
    const char *base = p->session.settings.base;
    char why[CLI_WHY] = "", filter[TOPIC_BYTES];
    int code = load(p);
    if (code != CLI_DONE)
        return code;
    int rc = topic_build(p->topic, sizeof p->topic, base, p->device ? TOPIC_PUSH : TOPIC_GROUP_PUSH,
                         p->device ? p->device : p->group, NULL);
    if (rc != 0)
        return cli_fail(CLI_USAGE, "push", "not a name: %s", p->device ? p->device : p->group);
    if (session_open(&p->session, 0, 10, why, sizeof why) != 0)
        return cli_fail(CLI_FAILED, "push", "%s", why);
    snprintf(filter, sizeof filter, "%s/%s/model", base, p->device ? p->device : "+");
    rc = link_subscribe(p->session.link, filter);
    snprintf(filter, sizeof filter, "%s/%s/status", base, p->device ? p->device : "+");
    if (rc == 0)
        rc = link_subscribe(p->session.link, filter);
    session_catch_signals();
    code = rc == 0 ? loop(p) : cli_fail(CLI_FAILED, "push", "%s: %s", filter, strerror(-rc));
    if (code == CLI_DONE)
        code = judge(p);
    return code;
}

int ctl_push(int argc, char **argv)
{
    struct session_options o = {0};
    struct push p = {.wait_s = 60};
    const struct cli_option options[] = {
        {"bundle", CLI_TEXT, &p.file, "FILE", "signed bundle (nilm-model pack, sign)", 0, 0},
        {"device", CLI_TEXT, &p.device, "NAME", "to this gateway", 0, 0},
        {"group", CLI_TEXT, &p.group, "NAME", "or to all gateways of this group", 0, 0},
        SESSION_OPTIONS(o),
        {"wait", CLI_NUMBER, &p.wait_s, "SECONDS", "for the outcome (60); 0: only deliver", 0,
         86400},
        {"expect", CLI_NUMBER, &p.expect, "N", "group: end after N gateways have answered", 1,
         MAX_DEVICES},
        {"json", CLI_FLAG, &p.json, NULL, "one JSON object on standard output", 0, 0},
        {0}};
    const struct cli_command command = {
        "push", "", 0,
        "Sends a signed model to a gateway or a group and waits until it is active (exit code 0) "
        "or\n"
        "refused (2). 3: the broker was not reached; 4: no outcome in time.",
        options};
    int code = cli_parse(&command, argc, argv, NULL);
    if (code != CLI_GO)
        return code;
    if (!p.file)
        return cli_fail(CLI_USAGE, "push", "--bundle FILE is needed");
    if (!p.device == !p.group)
        return cli_fail(CLI_USAGE, "push", "either --device or --group is needed");
    if (topic_check_name(p.device ? p.device : p.group) != 0)
        return cli_fail(CLI_USAGE, "push", "\"%s\" is not a name of a %s",
                        p.device ? p.device : p.group, p.device ? "device" : "group");
    if ((code = session_prepare("push", &o, &p.session)) == CLI_DONE)
        code = run(&p);
    if (p.json && code != CLI_USAGE)
        code = print_result(&p, code);
    session_close(&p.session);
    free(p.devices);
    free(p.data);
    return code;
}
