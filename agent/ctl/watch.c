/* watch.c - nilmctl watch: events and alerts as they reach the broker, and what was missing at the
 * end. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/ctl/cli.h"
#include "agent/ctl/consume.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/ledger.h"
#include "agent/ctl/session.h"
#include "agent/ctl/show.h"
#include "transport/topic.h"

struct watch {
    struct session session;
    struct ledger *ledger;
    struct show show;
    const char *base;
    int json, holes; /* holes: everything numbered is subscribed, so that holes can be told */
    int64_t count;   /* stop after so many different messages; 0: never */
    uint64_t shown, damaged, downs;
    int up, ever_up, refused;
    char why[384];
};

/* Numbered items go to the ledger: 1 when new, 0 when received before. */
static int account(struct watch *w, const struct topic_parts *topic, const cJSON *payload)
{
    int64_t epoch, seq, from, to, count;
    if (topic->kind != TOPIC_EVENT && topic->kind != TOPIC_ALERT && topic->kind != TOPIC_GAP &&
        topic->kind != TOPIC_REPORT && topic->kind != TOPIC_SUMMARY)
        return 1;
    if (!cli_whole(payload, "epoch", 0, &epoch) || !cli_whole(payload, "seq", 1, &seq)) {
        w->damaged++;
        return 1;
    }
    int fresh = ledger_add(w->ledger, topic->name, epoch, (uint64_t)seq) != 0;
    if (fresh && topic->kind == TOPIC_GAP && cli_whole(payload, "from_seq", 1, &from) &&
        cli_whole(payload, "to_seq", (double)from, &to) && cli_whole(payload, "count", 1, &count))
        ledger_declare(w->ledger, topic->name, epoch, (uint64_t)from, (uint64_t)to,
                       (uint64_t)count);
    return fresh;
}

static void print_line(const struct link_event *e, const cJSON *payload, int fresh)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "topic", e->topic);
    cJSON_AddBoolToObject(o, "retained", e->retained);
    cJSON_AddBoolToObject(o, "duplicate", !fresh);
    cJSON_AddNumberToObject(o, "bytes", (double)e->payload_bytes);
    if (payload)
        cJSON_AddItemReferenceToObject(o, "payload", (cJSON *)payload);
    else
        cJSON_AddNullToObject(o, "payload");
    cli_print_json(o);
}

static void on_message(struct watch *w, const struct link_event *e)
{
    struct topic_parts topic;
    cJSON *payload = cJSON_ParseWithLength(e->payload, e->payload_bytes);
    int known = topic_parse(e->topic, w->base, &topic) == 0, fresh = 1;
    if (known && cJSON_IsObject(payload))
        fresh = account(w, &topic, payload);
    else if (known && topic.kind != TOPIC_PUSH && topic.kind != TOPIC_GROUP_PUSH)
        w->damaged++;
    w->show.duplicate = !fresh;
    if (w->json) {
        print_line(e, payload, fresh);
    } else if (known && cJSON_IsObject(payload)) {
        show_item(&w->show, &topic, payload);
    } else {
        char name[TOPIC_BYTES];
        snprintf(name, sizeof name, "%s", e->topic);
        printf("%s: %zu bytes\n", cli_plain(name), e->payload_bytes);
    }
    fflush(stdout);
    w->shown += fresh ? 1 : 0;
    cJSON_Delete(payload);
}

static void on_event(struct watch *w, const struct link_event *e)
{
    switch (e->type) {
    case LINK_UP:
        w->up = w->ever_up = 1;
        session_tell(&w->session, e);
        break;
    case LINK_DOWN:
        w->downs += w->up ? 1 : 0;
        w->up = 0;
        if (strcmp(w->why, e->text) != 0) /* say it once, not at every attempt */
            fprintf(stderr, "nilmctl watch: %s; trying again\n", e->text);
        snprintf(w->why, sizeof w->why, "%s", e->text);
        break;
    case LINK_REFUSED:
        w->refused = 1;
        snprintf(w->why, sizeof w->why, "%s", e->text);
        break;
    case LINK_MESSAGE:
        on_message(w, e);
        break;
    case LINK_NONE:
    case LINK_ACKED:
    case LINK_FAILED:
        break;
    }
}

static int loop(struct watch *w, int64_t seconds)
{
    int64_t end = seconds > 0 ? cli_mono_ms() + seconds * 1000 : INT64_MAX;
    struct link_event event;
    while (!session_stopped() && !w->refused && (w->count == 0 || w->shown < (uint64_t)w->count)) {
        int64_t left = end - cli_mono_ms();
        if (left <= 0)
            break;
        int rc = link_next(w->session.link, &event, left < 250 ? (int)left : 250);
        if (rc < 0)
            return cli_fail(CLI_FAILED, "watch", "the session cannot go on: %s", strerror(-rc));
        on_event(w, &event);
        if (ferror(stdout)) /* the reader of our output has gone */
            return CLI_FAILED;
    }
    if (w->refused)
        return cli_fail(CLI_FAILED, "watch", "%s", w->why);
    if (!w->ever_up && !session_stopped())
        return cli_fail(CLI_RETRY, "watch", "no connection: %s",
                        *w->why ? w->why : "no answer yet");
    if (w->count > 0 && w->shown < (uint64_t)w->count && !session_stopped())
        return cli_fail(CLI_TIMEOUT, "watch", "%llu of %lld messages came in time",
                        (unsigned long long)w->shown, (long long)w->count);
    return CLI_DONE;
}

static void summary(struct watch *w)
{
    struct ledger_sum s;
    ledger_summary(w->ledger, &s, NULL, NULL);
    if (w->json) {
        cJSON *o = cJSON_CreateObject(), *sum = cJSON_AddObjectToObject(o, "summary");
        cJSON_AddNumberToObject(sum, "messages", (double)w->shown);
        cJSON_AddNumberToObject(sum, "devices", (double)s.devices);
        cJSON_AddNumberToObject(sum, "items", (double)s.received);
        cJSON_AddNumberToObject(sum, "duplicates", (double)s.duplicates);
        cJSON_AddNumberToObject(sum, "declared_lost", (double)s.declared);
        if (w->holes)
            cJSON_AddNumberToObject(sum, "missing", (double)s.missing);
        else
            cJSON_AddNullToObject(sum, "missing");
        cJSON_AddNumberToObject(sum, "not_judged", (double)s.ignored);
        cJSON_AddNumberToObject(sum, "damaged", (double)w->damaged);
        cJSON_AddNumberToObject(sum, "disconnections", (double)w->downs);
        cli_print_json(o);
        return;
    }
    printf("\n%llu numbered items of %zu devices, %llu duplicates, ",
           (unsigned long long)s.received, s.devices, (unsigned long long)s.duplicates);
    if (!w->holes)
        printf("holes not judged (--topic)");
    else
        printf("%llu declared lost, %llu missing", (unsigned long long)s.declared,
               (unsigned long long)s.missing);
    if (w->damaged > 0)
        printf(", %llu not readable", (unsigned long long)w->damaged);
    if (s.ignored > 0)
        printf(", %llu beyond what is tracked", (unsigned long long)s.ignored);
    if (w->downs > 0)
        printf("; the connection was lost %llu times, what came meanwhile was not seen here",
               (unsigned long long)w->downs);
    putchar('\n');
}

/* MQTT 5 section 4.7.1: "+" stands for one whole level, "#" for all the last ones. A broker ends
 * the session of who sends another. */
static int filter_ok(const char *filter)
{
    for (const char *p = filter;;) {
        size_t n = strcspn(p, "/");
        int last = p[n] == '\0';
        if (n != strcspn(p, "+#/") && (n != 1 || (*p == '#' && !last)))
            return 0;
        if (last)
            return strlen(filter) < TOPIC_BYTES;
        p += n + 1;
    }
}

static int subscribe(struct watch *w, const char *device, const char *filter)
{
    static const char *const tails[] = {"event/+", "alert/+", "summary/+", "gap", "report"};
    char topic[TOPIC_BYTES];
    if (filter) {
        w->holes = 0;
        return link_subscribe(w->session.link, filter);
    }
    w->holes = 1;
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++) {
        snprintf(topic, sizeof topic, "%s/%s/%s", w->base, device ? device : "+", tails[i]);
        int rc = link_subscribe(w->session.link, topic);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int run(struct watch *w, const char *device, const char *filter, int64_t seconds)
{
    char why[CLI_WHY] = "";
    int code;
    w->base = w->session.settings.base;
    w->show.colour = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
    w->ledger = ledger_create();
    if (!w->ledger)
        return cli_fail(CLI_RETRY, "watch", "out of memory");
    int rc = session_open(&w->session, 0, 10, why, sizeof why);
    if (rc != 0) {
        code = cli_fail(CLI_FAILED, "watch", "%s", why);
    } else if (subscribe(w, device, filter) != 0) {
        code = cli_fail(CLI_FAILED, "watch", "%s cannot be subscribed", filter ? filter : w->base);
    } else {
        session_catch_signals();
        if (!w->json && !filter)
            show_heading(&w->show);
        fflush(stdout);
        code = loop(w, seconds);
        if (w->ever_up)
            summary(w);
    }
    session_close(&w->session);
    ledger_destroy(w->ledger);
    return code;
}

/* What fits together: CLI_GO, or CLI_USAGE with a message. */
static int check_options(const struct consume_options *c, int exactly_once, int report,
                         const char *filter)
{
    if (c->device && topic_check_name(c->device) != 0)
        return cli_fail(CLI_USAGE, "watch", "--device: \"%s\" is not a device name", c->device);
    if (filter && !filter_ok(filter))
        return cli_fail(CLI_USAGE, "watch", "--topic: \"%s\" is no topic filter", filter);
    if (filter && (c->device || exactly_once))
        return cli_fail(CLI_USAGE, "watch", "--topic and --%s exclude each other",
                        c->device ? "device" : "exactly-once");
    if (exactly_once && report)
        return cli_fail(CLI_USAGE, "watch", "--exactly-once and --report exclude each other");
    if ((exactly_once || report) != (c->store != NULL))
        return cli_fail(CLI_USAGE, "watch",
                        "--store FILE belongs to --exactly-once or to --report, and they to it");
    if (!exactly_once && (c->out || c->client_id || c->show))
        return cli_fail(CLI_USAGE, "watch",
                        "--out, --show and --client-id belong to --exactly-once");
    if (c->client_id &&
        (!*c->client_id || strlen(c->client_id) >= sizeof((struct session *)0)->client_id))
        return cli_fail(CLI_USAGE, "watch", "--client-id: expected 1 to 63 bytes");
    return CLI_GO;
}

int ctl_watch(int argc, char **argv)
{
    struct session_options o = {0};
    struct consume_options c = {.keep_days = 0, .expiry_days = 30};
    const char *filter = NULL;
    int exactly_once = 0, report = 0;
    struct watch *w = calloc(1, sizeof *w);
    if (!w)
        return cli_fail(CLI_RETRY, "watch", "out of memory");
    const struct cli_option options[] = {
        SESSION_OPTIONS(o),
        {"device", CLI_TEXT, &c.device, "NAME", "of this gateway only", 0, 0},
        {"topic", CLI_TEXT, &filter, "FILTER",
         "this topic filter instead of events, alerts, summaries, gaps, reports", 0, 0},
        {"exactly-once", CLI_FLAG, &exactly_once, NULL,
         "keep each numbered message once in --store, over restarts of either side", 0, 0},
        {"store", CLI_TEXT, &c.store, "FILE", "the consumer's database (SQLite)", 0, 0},
        {"out", CLI_TEXT, &c.out, "FILE", "append each message once to this file, a line each", 0,
         0},
        {"show", CLI_FLAG, &c.show, NULL, "with --exactly-once: show each message once, too", 0, 0},
        {"client-id", CLI_TEXT, &c.client_id, "ID",
         "of the session on the broker; else made with the store and kept in it", 0, 0},
        {"expiry", CLI_NUMBER, &c.expiry_days, "DAYS",
         "how long the broker keeps the session for a consumer that is away (30)", 1, 3650},
        {"keep", CLI_NUMBER, &c.keep_days, "DAYS",
         "forget the content of older messages, not their numbers; 0: never (0)", 0, 36500},
        {"report", CLI_FLAG, &report, NULL, "what --store has: devices, duplicates, holes, losses",
         0, 0},
        {"count", CLI_NUMBER, &c.count, "N", "end after N different messages", 1, 1000000000},
        {"seconds", CLI_NUMBER, &c.seconds, "N", "end after N seconds", 1, 1000000000},
        {"json", CLI_FLAG, &w->json, NULL,
         "one JSON object a line: topic, payload; the last one is the summary", 0, 0},
        {0}};
    const struct cli_command command = {
        "watch", "", 0,
        "Shows events, alerts, declared losses and reports as they reach the broker, until it is\n"
        "interrupted. Tells at the end which items came twice and which are missing. Exit code 4 "
        "when\n"
        "--count was not reached within --seconds.\n"
        "With --exactly-once the session on the broker outlives the command, a message is\n"
        "acknowledged when it is in --store, and lines (--json, --out) come once for each.",
        options};
    int code = cli_parse(&command, argc, argv, NULL);
    if (code == CLI_GO) {
        c.json = w->json;
        w->count = c.count;
        code = check_options(&c, exactly_once, report, filter);
        if (code == CLI_GO && report)
            code = consume_report(c.store, c.json);
        else if (code == CLI_GO && (code = session_prepare("watch", &o, &w->session)) == CLI_DONE)
            code =
                exactly_once ? consume_run(&w->session, &c) : run(w, c.device, filter, c.seconds);
    }
    free(w);
    return code;
}
