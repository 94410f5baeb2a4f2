/* outbox_rewrite.c - changes bodies of waiting items that nobody has seen yet (outbox.h). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "storage/outbox_internal.h"

/* One item: its new body (malloc) in *body, NULL when it stays; its row for the update. */
struct row {
    struct outbox_item item;
    char *body;
};

static int read_row(struct store *s, sqlite3_stmt *q, outbox_rewriter *rewrite, void *context,
                    struct row *row)
{
    const char *body = (const char *)sqlite3_column_text(q, 5);
    memset(row, 0, sizeof *row);
    row->item.seq = (uint64_t)sqlite3_column_int64(q, 0);
    row->item.epoch = sqlite3_column_int64(q, 1);
    row->item.kind = (enum outbox_kind)sqlite3_column_int(q, 2);
    row->item.created_ms = sqlite3_column_int64(q, 3);
    int rc = store_column_text(s, q, 4, row->item.channel, sizeof row->item.channel);
    if (rc < 0 || !body)
        return rc < 0 ? rc : -EBADMSG;
    rc = rewrite(context, body, &row->body);
    if (rc == 0 && row->body) {
        row->item.body = row->body;
        row->item.body_bytes = strlen(row->body);
        if (row->item.body_bytes < 2 || row->item.body_bytes > OUTBOX_BODY_BYTES)
            rc = -EINVAL;
    }
    return rc;
}

static int update_row(struct store *s, const struct outbox_item *item)
{
    sqlite3_stmt *q = store_statement(
        s, OUTBOX_REWRITE, "UPDATE outbox SET body = ?1, size = ?2, crc = ?3 WHERE seq = ?4");
    sqlite3_bind_text(q, 1, item->body, (int)item->body_bytes, SQLITE_STATIC);
    sqlite3_bind_int64(q, 2, outbox_size(item));
    sqlite3_bind_int64(q, 3, outbox_checksum(item));
    sqlite3_bind_int64(q, 4, (sqlite3_int64)item->seq);
    const int rc = store_step(s, q, "rewrite an item");
    store_done(q);
    return rc;
}

/* The next item from number *seq on: 1 (and *seq is behind it), 0 none, -errno. */
static int rewrite_next(struct store *s, struct outbox_state *state, uint64_t *seq,
                        outbox_rewriter *rewrite, void *context)
{
    struct row row = {.body = NULL};
    int64_t before = 0;
    sqlite3_stmt *q =
        store_statement(s, OUTBOX_NEXT,
                        "SELECT seq, epoch, kind, created_ms, channel, body, size FROM outbox "
                        "WHERE seq >= ?1 ORDER BY seq LIMIT 1");
    sqlite3_bind_int64(q, 1, (sqlite3_int64)*seq);
    int rc = store_step(s, q, "read an item");
    const int found = rc > 0;
    if (found) {
        before = sqlite3_column_int64(q, 6);
        rc = read_row(s, q, rewrite, context, &row);
        *seq = row.item.seq + 1;
    }
    store_done(q);
    if (rc == 0 && row.body)
        rc = update_row(s, &row.item);
    if (rc == 0 && row.body && row.item.kind != OUTBOX_GAP)
        state->bytes += outbox_size(&row.item) - before;
    free(row.body);
    return rc < 0 ? rc : found;
}

int outbox_rewrite(struct store *s, uint64_t *seq, int most, outbox_rewriter *rewrite,
                   void *context)
{
    struct outbox_state state = {0};
    uint64_t next = *seq;
    int found = 1;
    store_clear(s);
    int rc = store_enter(s);
    if (rc == 0)
        rc = outbox_read_state(s, &state);
    for (int i = 0; i < most && rc == 0 && found; i++) {
        found = rewrite_next(s, &state, &next, rewrite, context);
        rc = found < 0 ? found : 0;
    }
    if (rc == 0)
        rc = outbox_write_state(s, &state);
    rc = store_leave(s, rc);
    if (rc < 0)
        return rc;
    *seq = next;
    return found;
}
