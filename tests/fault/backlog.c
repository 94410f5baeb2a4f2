/* backlog.c - fills an agent's outbox as if it had been without a broker for a long time.
 *
 *     fault_backlog DATABASE COUNT     appends COUNT events through storage/outbox.h; prints the
 * next number */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "storage/outbox.h"

#define PER_TRANSACTION 2000

static int append(struct store *s, int64_t number, uint64_t *seq)
{
    static const char *const appliances[] = {"Refrigerator", "WaterKettle", "Washingmachine",
                                             "Lamp"};
    char body[512];
    const int64_t time_ms = INT64_C(1763000000000) + number * 864; /* 100,000 are a day */
    snprintf(body, sizeof body,
             "{\"type\":\"off\",\"meter\":\"m%02d\",\"appliance\":\"%s\",\"confidence\":0.9731,"
             "\"time\":%" PRId64 ",\"time_quality\":\"clock\",\"model\":1,\"run\":%" PRId64
             ",\"power\":1843.2,\"start\":%" PRId64 ",\"end\":%" PRId64
             ",\"duration\":172.004,\"energy\":88.123,\"peak\":1911.5,\"end_reason\":\"off\"}",
             (int)(number % 12), appliances[number % 4], time_ms, number, time_ms - 172004,
             time_ms);
    struct outbox_item item = {
        .kind = OUTBOX_EVENT, .created_ms = time_ms, .body = body, .body_bytes = strlen(body)};
    snprintf(item.channel, sizeof item.channel, "m%02d", (int)(number % 12));
    return outbox_append(s, &item, seq);
}

int main(int argc, char **argv)
{
    struct store *s = NULL;
    char why[512] = "";
    int64_t epoch, count = argc == 3 ? atoll(argv[2]) : 0;
    uint64_t seq = 0;
    if (count <= 0) {
        fprintf(stderr, "usage: fault_backlog DATABASE COUNT\n");
        return 1;
    }
    int rc = store_open(argv[1], &s, NULL, why, sizeof why);
    if (rc == 0)
        rc = outbox_start(s, time(NULL), &epoch);
    for (int64_t i = 0; i < count && rc == 0; i++) {
        if (i % PER_TRANSACTION == 0)
            rc = store_begin(s);
        if (rc == 0)
            rc = append(s, i, &seq);
        if (rc == 0 && (i % PER_TRANSACTION == PER_TRANSACTION - 1 || i == count - 1))
            rc = store_commit(s);
    }
    if (rc < 0)
        fprintf(stderr, "fault_backlog: %s\n", s ? store_error(s) : why);
    else
        printf("%" PRIu64 "\n", seq + 1);
    store_close(s);
    return rc < 0 ? 2 : 0;
}
