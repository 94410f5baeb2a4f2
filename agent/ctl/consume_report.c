/* consume_report.c - the ledger's judgement on what a consumer's store holds (consume_report.h). */
#include "agent/ctl/consume_report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/ctl/cli.h"
#include "agent/ctl/consume.h"
#include "agent/ctl/ledger.h"

#define HOLES_SHOWN 100

struct report {
    struct consumer *store;
    struct ledger *ledger; /* of one device at a time */
    const char *device;
    cJSON *devices, *holes; /* holes: of the device in turn */
    uint64_t received, duplicates, conflicts, declared, missing, behind;
};

static int add_range(void *context, int64_t epoch, uint64_t from, uint64_t to)
{
    struct report *r = context;
    (void)ledger_add_range(r->ledger, r->device, epoch, from, to);
    return 0;
}

static int add_gap(void *context, int64_t epoch, uint64_t from, uint64_t to, uint64_t count)
{
    struct report *r = context;
    ledger_declare(r->ledger, r->device, epoch, from, to, count);
    return 0;
}

static void add_hole(void *context, const char *device, uint64_t from, uint64_t to)
{
    struct report *r = context;
    const double range[] = {(double)from, (double)to};
    (void)device;
    if (cJSON_GetArraySize(r->holes) < HOLES_SHOWN)
        cJSON_AddItemToArray(r->holes, cJSON_CreateDoubleArray(range, 2));
}

/* Numbers that the device gave out and has not any more, and that are above all that came. */
static uint64_t behind(const struct consumer_device *d, const struct ledger_sum *s)
{
    return d->status_epoch >= 0 && d->status_waiting == 0 && d->status_next > s->highest + 1
               ? d->status_next - 1 - s->highest
               : 0;
}

static void add_device(struct report *r, const struct consumer_device *d,
                       const struct ledger_sum *s)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "device", d->device);
    cJSON_AddNumberToObject(o, "received", (double)d->received);
    cJSON_AddNumberToObject(o, "duplicates", (double)d->duplicates);
    cJSON_AddNumberToObject(o, "conflicts", (double)d->conflicts);
    cJSON_AddNumberToObject(o, "declared_lost", (double)s->declared);
    cJSON_AddNumberToObject(o, "missing", (double)s->missing);
    cJSON_AddItemToObject(o, "holes", r->holes);
    cJSON_AddNumberToObject(o, "not_judged", (double)s->ignored);
    cJSON_AddNumberToObject(o, "highest", (double)s->highest);
    cJSON_AddNumberToObject(o, "behind", (double)behind(d, s));
    if (d->status_epoch >= 0) {
        cJSON *status = cJSON_AddObjectToObject(o, "status");
        cJSON_AddNumberToObject(status, "epoch", (double)d->status_epoch);
        cJSON_AddNumberToObject(status, "next_seq", (double)d->status_next);
        cJSON_AddNumberToObject(status, "waiting", (double)d->status_waiting);
    } else {
        cJSON_AddNullToObject(o, "status");
    }
    cJSON_AddNumberToObject(o, "first", (double)d->first_ms);
    cJSON_AddNumberToObject(o, "last", (double)d->last_ms);
    cJSON_AddItemToArray(r->devices, o);
    r->received += d->received;
    r->duplicates += d->duplicates;
    r->conflicts += d->conflicts;
    r->declared += s->declared;
    r->missing += s->missing;
    r->behind += behind(d, s);
}

/* Called while the list of devices is read: the other lists have statements of their own. */
static int judge(void *context, const struct consumer_device *d)
{
    struct report *r = context;
    struct ledger_sum s;
    r->ledger = ledger_create();
    r->device = d->device;
    r->holes = cJSON_CreateArray();
    if (!r->ledger)
        return -ENOMEM;
    int rc = consumer_ranges(r->store, d->device, add_range, r);
    if (rc == 0)
        rc = consumer_gaps(r->store, d->device, add_gap, r);
    if (rc == 0) {
        ledger_summary(r->ledger, &s, add_hole, r);
        add_device(r, d, &s);
    }
    ledger_destroy(r->ledger);
    return rc;
}

static void print_text(const struct report *r)
{
    const cJSON *d, *hole;
    printf("%-24s %10s %10s %10s %10s %10s\n", "device", "received", "duplicate", "declared",
           "missing", "behind");
    cJSON_ArrayForEach(d, r->devices)
    {
        const char *const keys[] = {"received", "duplicates", "declared_lost", "missing", "behind"};
        printf("%-24s", cJSON_GetObjectItemCaseSensitive(d, "device")->valuestring);
        for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
            printf(" %10.0f", cJSON_GetObjectItemCaseSensitive(d, keys[i])->valuedouble);
        printf("\n");
        cJSON_ArrayForEach(hole, cJSON_GetObjectItemCaseSensitive(d, "holes"))
            printf("  missing %.0f to %.0f\n", cJSON_GetArrayItem(hole, 0)->valuedouble,
                   cJSON_GetArrayItem(hole, 1)->valuedouble);
    }
    printf("%" PRIu64 " messages, %" PRIu64 " came more than once (%" PRIu64
           " with another content), %" PRIu64 " declared lost, %" PRIu64 " missing, %" PRIu64
           " delivered by their device and not here\n",
           r->received, r->duplicates, r->conflicts, r->declared, r->missing, r->behind);
}

int consume_report_print(struct consumer *store, int json)
{
    struct report r = {.store = store, .devices = cJSON_CreateArray()};
    int rc = consumer_devices(store, judge, &r), code = CLI_DONE;
    if (rc < 0) {
        cJSON_Delete(r.devices);
        return cli_fail(CLI_FAILED, "watch", "%s",
                        *consumer_error(store) ? consumer_error(store) : strerror(-rc));
    }
    if (json) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddNumberToObject(o, "received", (double)r.received);
        cJSON_AddNumberToObject(o, "duplicates", (double)r.duplicates);
        cJSON_AddNumberToObject(o, "conflicts", (double)r.conflicts);
        cJSON_AddNumberToObject(o, "declared_lost", (double)r.declared);
        cJSON_AddNumberToObject(o, "missing", (double)r.missing);
        cJSON_AddNumberToObject(o, "behind", (double)r.behind);
        cJSON_AddItemToObject(o, "devices", r.devices);
        code = cli_print_json(o);
    } else {
        print_text(&r);
        cJSON_Delete(r.devices);
    }
    return code == CLI_DONE && r.missing + r.conflicts + r.behind > 0 ? CLI_FAILED : code;
}

int consume_report(const char *path, int json)
{
    struct consumer *store;
    char why[CLI_WHY] = "";
    const int rc = consumer_open_readonly(path, &store, why, sizeof why);
    if (rc < 0)
        return cli_fail(CLI_FAILED, "watch", "%s", why);
    const int code = consume_report_print(store, json);
    consumer_close(store);
    return code;
}
