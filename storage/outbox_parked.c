/* outbox_parked.c - what the broker has refused for good, for the operator (outbox.h). */
#include <stdio.h>
#include <string.h>

#include "storage/store_internal.h"

static void read_row(sqlite3_stmt *q, struct outbox_parked *out)
{
    const unsigned char *channel = sqlite3_column_text(q, 3), *reason = sqlite3_column_text(q, 4);
    memset(out, 0, sizeof *out);
    out->seq = (uint64_t)sqlite3_column_int64(q, 0);
    out->kind = (enum outbox_kind)sqlite3_column_int(q, 1);
    out->created_ms = sqlite3_column_int64(q, 2);
    snprintf(out->channel, sizeof out->channel, "%s", channel ? (const char *)channel : "");
    snprintf(out->reason, sizeof out->reason, "%s", reason ? (const char *)reason : "");
}

int outbox_parked(struct store *s, uint64_t after, struct outbox_parked *out, int most)
{
    sqlite3_stmt *q = NULL;
    int n = 0, rc = 1;
    store_clear(s);
    sqlite3_prepare_v2(s->db,
                       "SELECT seq, kind, created_ms, channel, reason FROM outbox "
                       "WHERE parked = 1 AND seq > ? ORDER BY seq LIMIT ?",
                       -1, &q, NULL);
    sqlite3_bind_int64(q, 1, (sqlite3_int64)after);
    sqlite3_bind_int(q, 2, most);
    while (n < most && (rc = store_step(s, q, "list parked items")) > 0)
        read_row(q, &out[n++]);
    sqlite3_finalize(q);
    return rc < 0 ? rc : n;
}
