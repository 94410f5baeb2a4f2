/* outbox.c - nilmctl outbox: what waits for the broker. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/ctl/cli.h"
#include "agent/ctl/ctl.h"
#include "storage/outbox.h"

#define PAGE 64
#define PAGE_BYTES (256u << 10)

static const char *kind_name(enum outbox_kind kind, const char *channel)
{
    switch (kind) {
    case OUTBOX_EVENT:
        return "event";
    case OUTBOX_ALERT:
        return "alert";
    case OUTBOX_GAP:
        return "gap";
    case OUTBOX_REPORT:
        return *channel ? "summary" : "report";
    }
    return "?";
}

static int show_item(const struct outbox_item *item, cJSON *items)
{
    char stamp[CLI_STAMP];
    if (!items) {
        printf("%10llu  %-7s  %s  %-16s %.*s\n", (unsigned long long)item->seq,
               kind_name(item->kind, item->channel), cli_stamp(item->created_ms, stamp),
               *item->channel ? item->channel : "-", (int)item->body_bytes, item->body);
        return 0;
    }
    cJSON *o = cJSON_CreateObject();
    if (!o || !cJSON_AddItemToArray(items, o))
        return -ENOMEM;
    cJSON_AddNumberToObject(o, "seq", (double)item->seq);
    cJSON_AddNumberToObject(o, "epoch", (double)item->epoch);
    cJSON_AddStringToObject(o, "kind", kind_name(item->kind, item->channel));
    cJSON_AddStringToObject(o, "channel", item->channel);
    cJSON_AddNumberToObject(o, "created", (double)item->created_ms);
    cJSON *body = cJSON_ParseWithLength(item->body, item->body_bytes);
    return cJSON_AddItemToObject(o, "body", body ? body : cJSON_CreateNull()) ? 0 : -ENOMEM;
}

/* In the order in which they will be sent: gaps, alerts, then events and reports. */
static int list_items(struct store *store, int64_t limit, cJSON *items)
{
    struct outbox_item page[PAGE];
    char *buffer = malloc(PAGE_BYTES);
    int rc = buffer ? 0 : -ENOMEM;
    for (int priority = 3; priority >= 1 && rc >= 0 && limit > 0; priority--) {
        uint64_t after = 0;
        do {
            rc = outbox_fetch(store, priority, after, page, limit < PAGE ? (int)limit : PAGE,
                              buffer, PAGE_BYTES);
            for (int i = 0; i < rc; i++, limit--) {
                after = page[i].seq;
                int failed = show_item(&page[i], items);
                if (failed != 0) {
                    rc = failed;
                    break;
                }
            }
        } while (rc > 0 && limit > 0);
    }
    free(buffer);
    return rc < 0 ? rc : 0;
}

static int show_parked(const struct outbox_parked *p, cJSON *items)
{
    char stamp[CLI_STAMP];
    if (!items) {
        printf("%10llu  %-7s  %s  %-16s %s\n", (unsigned long long)p->seq,
               kind_name(p->kind, p->channel), cli_stamp(p->created_ms, stamp),
               *p->channel ? p->channel : "-", p->reason);
        return 0;
    }
    cJSON *o = cJSON_CreateObject();
    if (!o || !cJSON_AddItemToArray(items, o))
        return -ENOMEM;
    cJSON_AddNumberToObject(o, "seq", (double)p->seq);
    cJSON_AddStringToObject(o, "kind", kind_name(p->kind, p->channel));
    cJSON_AddStringToObject(o, "channel", p->channel);
    cJSON_AddNumberToObject(o, "created", (double)p->created_ms);
    return cJSON_AddStringToObject(o, "reason", p->reason) ? 0 : -ENOMEM;
}

static int list_parked(struct store *store, int64_t limit, cJSON *items)
{
    struct outbox_parked page[PAGE];
    uint64_t after = 0;
    int rc = 1;
    while (limit > 0 && rc > 0) {
        rc = outbox_parked(store, after, page, limit < PAGE ? (int)limit : PAGE);
        for (int i = 0, n = rc; i < n && rc > 0; i++, limit--) {
            after = page[i].seq;
            if (show_parked(&page[i], items) != 0)
                rc = -ENOMEM;
        }
    }
    return rc < 0 ? rc : 0;
}

static void print_stats(const struct outbox_stats *s)
{
    char stamp[CLI_STAMP];
    printf("waiting: %llu (%llu events, %llu alerts, %llu gaps, %llu reports), %llu bytes\n",
           (unsigned long long)s->rows, (unsigned long long)s->events,
           (unsigned long long)s->alerts, (unsigned long long)s->gaps,
           (unsigned long long)s->reports, (unsigned long long)s->bytes);
    if (s->rows > 0)
        printf("oldest: number %llu of %s\n", (unsigned long long)s->oldest_seq,
               cli_stamp(s->oldest_ms, stamp));
    printf(
        "acknowledged by the broker: %llu; dropped at the bounds: %llu; refused for good: %llu\n",
        (unsigned long long)s->acknowledged, (unsigned long long)s->dropped,
        (unsigned long long)s->parked);
    printf("next number: %llu, epoch %lld\n", (unsigned long long)s->next_seq, (long long)s->epoch);
}

static cJSON *stats_json(const struct outbox_stats *s)
{
    cJSON *o = cJSON_CreateObject();
    const struct {
        const char *name;
        double value;
    } fields[] = {{"rows", (double)s->rows},
                  {"bytes", (double)s->bytes},
                  {"events", (double)s->events},
                  {"alerts", (double)s->alerts},
                  {"gaps", (double)s->gaps},
                  {"reports", (double)s->reports},
                  {"parked", (double)s->parked},
                  {"next_seq", (double)s->next_seq},
                  {"oldest_seq", (double)s->oldest_seq},
                  {"oldest", (double)s->oldest_ms},
                  {"dropped", (double)s->dropped},
                  {"acknowledged", (double)s->acknowledged},
                  {"epoch", (double)s->epoch}};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        cJSON_AddNumberToObject(o, fields[i].name, fields[i].value);
    return o;
}

struct wish {
    const char *path;
    int64_t list, parked;
    int unpark, json;
};

/* An array of the result, filled by list; or lines, without a result. */
static int add_list(struct store *store, int64_t limit, cJSON *out, const char *name,
                    int (*list)(struct store *, int64_t, cJSON *))
{
    cJSON *items = out && limit > 0 ? cJSON_AddArrayToObject(out, name) : NULL;
    if (limit <= 0)
        return 0;
    return out && !items ? -ENOMEM : list(store, limit, items);
}

static int show(const char *name, struct store *store, const struct wish *w)
{
    struct outbox_stats stats;
    cJSON *out = NULL;
    int unparked = w->unpark ? outbox_unpark(store) : 0;
    int rc = unparked < 0 ? unparked : outbox_statistics(store, &stats);
    if (rc == 0 && w->json) {
        out = stats_json(&stats);
        if (!out || (w->unpark && !cJSON_AddNumberToObject(out, "unparked", unparked)))
            rc = -ENOMEM;
    } else if (rc == 0) {
        print_stats(&stats);
        if (w->unpark)
            printf(
                "%d items are offered again in the agent's next session, or when it gets SIGHUP\n",
                unparked);
    }
    if (rc == 0)
        rc = add_list(store, w->list, out, "items", list_items);
    if (rc == 0)
        rc = add_list(store, w->parked, out, "refused", list_parked);
    if (rc == 0)
        return w->json ? cli_print_json(out) : CLI_DONE;
    cJSON_Delete(out);
    return cli_fail(rc == -EBUSY || rc == -ENOMEM ? CLI_RETRY : CLI_FAILED, name, "%s",
                    rc == -ENOMEM ? "out of memory" : store_error(store));
}

int ctl_outbox(int argc, char **argv)
{
    struct wish w = {.path = CLI_CONFIG};
    const struct cli_option options[] = {
        {"config", CLI_TEXT, &w.path, "FILE", "configuration of the agent (" CLI_CONFIG ")", 0, 0},
        {"list", CLI_NUMBER, &w.list, "N", "show the next N items, in the order of sending", 1,
         1000000},
        {"refused", CLI_NUMBER, &w.parked, "N",
         "show the first N items that the broker refuses for good, and why", 1, 1000000},
        {"unpark", CLI_FLAG, &w.unpark, NULL, "offer refused items again", 0, 0},
        {"json", CLI_FLAG, &w.json, NULL, "one JSON object on standard output", 0, 0},
        {0}};
    const struct cli_command command = {
        "outbox", "", 0, "Shows what waits on this gateway for the broker's acknowledgement.",
        options};
    struct config *c = NULL;
    struct store *store = NULL;
    int code = cli_parse(&command, argc, argv, NULL);
    if (code != CLI_GO)
        return code;
    if ((code = cli_config(command.name, w.path, &c)) == CLI_DONE &&
        (code = cli_store(command.name, c, w.unpark, &store)) == CLI_DONE)
        code = show(command.name, store, &w);
    store_close(store);
    config_free(c);
    return code;
}
