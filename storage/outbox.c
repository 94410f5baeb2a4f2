/* outbox.c - numbers, appending, fetching, acknowledging. Dropping and its declaration are in
 * outbox_evict.c. */
#include "storage/outbox.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "storage/crc32.h"
#include "storage/outbox_internal.h"

#define CLOCK_SET_S 1577836800   /* 2020-01-01: no earlier time is believed */
#define CLOCK_MAX_S 253402300799 /* end of the year 9999 */
#define DAY_MS 86400000

int outbox_read_state(struct store *s, struct outbox_state *state)
{
    sqlite3_stmt *q = store_statement(
        s, OUTBOX_READ_STATE,
        "SELECT epoch, next_seq, events, alerts, gaps, reports, bytes, parked, dropped,"
        " acknowledged, age_ms, clock_ms FROM outbox_state");
    int rc = store_step(s, q, "read the counters of the outbox");

    if (rc == 0)
        return store_refuse(s, -EBADMSG, "%s: table outbox_state is empty", s->path);
    if (rc < 0)
        return rc;
    state->epoch = sqlite3_column_int64(q, 0);
    state->next_seq = sqlite3_column_int64(q, 1);
    for (int kind = 1; kind <= 4; kind++)
        state->kinds[kind] = sqlite3_column_int64(q, 1 + kind);
    state->bytes = sqlite3_column_int64(q, 6);
    state->parked = sqlite3_column_int64(q, 7);
    state->dropped = sqlite3_column_int64(q, 8);
    state->acknowledged = sqlite3_column_int64(q, 9);
    state->age_ms = sqlite3_column_int64(q, 10);
    state->clock_ms = sqlite3_column_int64(q, 11);
    store_done(q);
    return 0;
}

int outbox_write_state(struct store *s, const struct outbox_state *state)
{
    sqlite3_stmt *q = store_statement(
        s, OUTBOX_WRITE_STATE,
        "UPDATE outbox_state SET epoch = ?1, next_seq = ?2, events = ?3, alerts = ?4, gaps = ?5,"
        " reports = ?6, bytes = ?7, parked = ?8, dropped = ?9, acknowledged = ?10, age_ms = ?11,"
        " clock_ms = ?12");

    sqlite3_bind_int64(q, 1, state->epoch);
    sqlite3_bind_int64(q, 2, state->next_seq);
    for (int kind = 1; kind <= 4; kind++)
        sqlite3_bind_int64(q, 2 + kind, state->kinds[kind]);
    sqlite3_bind_int64(q, 7, state->bytes);
    sqlite3_bind_int64(q, 8, state->parked);
    sqlite3_bind_int64(q, 9, state->dropped);
    sqlite3_bind_int64(q, 10, state->acknowledged);
    sqlite3_bind_int64(q, 11, state->age_ms);
    sqlite3_bind_int64(q, 12, state->clock_ms);
    return store_step(s, q, "write the counters of the outbox");
}

/* Below any time that a set clock gives, so that the next epoch with a clock is larger. */
static int64_t random_epoch(void)
{
    uint32_t r = 0;

    if (getrandom(&r, sizeof r, 0) != (ssize_t)sizeof r)
        r = 0;
    return 1 + (int64_t)(r & 0x3fffffff);
}

int outbox_start(struct store *s, int64_t now_s, int64_t *epoch)
{
    struct outbox_state state = {0};
    int rc = store_enter(s);

    if (rc == 0)
        rc = outbox_read_state(s, &state);
    if (rc == 0) {
        int clock_set = now_s >= CLOCK_SET_S && now_s <= CLOCK_MAX_S;
        int64_t next = state.epoch == 0 && !clock_set ? random_epoch() : state.epoch + 1;
        state.epoch = clock_set && now_s > next ? now_s : next;
        rc = outbox_write_state(s, &state);
    }
    if (rc == 0) {
        sqlite3_stmt *q =
            store_statement(s, OUTBOX_NOTE_EPOCH,
                            "INSERT OR REPLACE INTO value VALUES ('" STORE_EPOCH_NAME "', ?1)");
        sqlite3_bind_int64(q, 1, state.epoch);
        rc = store_step(s, q, "note the epoch");
    }
    rc = store_leave(s, rc);
    if (rc == 0)
        *epoch = state.epoch;
    return rc;
}

void outbox_limit(struct store *s, const struct outbox_caps *caps)
{
    s->caps = *caps;
}

static int priority_of(enum outbox_kind kind)
{
    switch (kind) {
    case OUTBOX_ALERT:
        return 2;
    case OUTBOX_GAP:
        return 3;
    case OUTBOX_EVENT:
    case OUTBOX_REPORT:
        break;
    }
    return 1;
}

/* What never changes while an item waits. */
static uint32_t checksum(int64_t seq, int64_t epoch, int64_t kind, int64_t created_ms,
                         const char *channel, size_t channel_bytes, const char *body,
                         size_t body_bytes)
{
    uint32_t crc = crc32_integer(0, seq);

    crc = crc32_integer(crc, epoch);
    crc = crc32_integer(crc, kind);
    crc = crc32_integer(crc, created_ms);
    crc = crc32_text(crc, channel, channel_bytes);
    return crc32_text(crc, body, body_bytes);
}

uint32_t outbox_checksum(const struct outbox_item *item)
{
    return checksum((int64_t)item->seq, item->epoch, (int64_t)item->kind, item->created_ms,
                    item->channel, strlen(item->channel), item->body, item->body_bytes);
}

int64_t outbox_size(const struct outbox_item *item)
{
    return (int64_t)(item->body_bytes + strlen(item->channel) + OUTBOX_OVERHEAD_BYTES);
}

int outbox_insert(struct store *s, struct outbox_state *state, const struct outbox_item *item,
                  uint64_t *seq)
{
    int64_t size = outbox_size(item);
    sqlite3_stmt *q = store_statement(
        s, OUTBOX_INSERT,
        "INSERT INTO outbox (seq, epoch, kind, priority, created_ms, age_ms, size, channel, body,"
        " crc) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)");

    sqlite3_bind_int64(q, 1, state->next_seq);
    sqlite3_bind_int64(q, 2, state->epoch);
    sqlite3_bind_int(q, 3, (int)item->kind);
    sqlite3_bind_int(q, 4, priority_of(item->kind));
    sqlite3_bind_int64(q, 5, item->created_ms);
    sqlite3_bind_int64(q, 6, state->age_ms);
    sqlite3_bind_int64(q, 7, size);
    sqlite3_bind_text(q, 8, item->channel, -1, SQLITE_STATIC);
    sqlite3_bind_text(q, 9, item->body, (int)item->body_bytes, SQLITE_STATIC);
    sqlite3_bind_int64(q, 10,
                       checksum(state->next_seq, state->epoch, (int64_t)item->kind,
                                item->created_ms, item->channel, strlen(item->channel), item->body,
                                item->body_bytes));
    int rc = store_step(s, q, "append to the outbox");
    if (rc < 0)
        return rc;
    *seq = (uint64_t)state->next_seq++;
    state->kinds[item->kind]++;
    if (item->kind != OUTBOX_GAP)
        state->bytes += size;
    return 0;
}

void outbox_uncount(struct outbox_state *state, int kind, int64_t size, int parked)
{
    if (kind >= 1 && kind <= 4)
        state->kinds[kind]--;
    if (kind != OUTBOX_GAP)
        state->bytes -= size;
    state->parked -= parked;
}

static int check_item(struct store *s, const struct outbox_item *item)
{
    if (item->kind != OUTBOX_EVENT && item->kind != OUTBOX_ALERT && item->kind != OUTBOX_REPORT)
        return store_refuse(s, -EINVAL, "kind of an item: expected event, alert or report, not %d",
                            (int)item->kind);
    if (item->body == NULL || item->body_bytes < 2 || item->body_bytes > OUTBOX_BODY_BYTES)
        return store_refuse(s, -EINVAL, "body of an item: expected 2 to %u bytes, not %zu",
                            OUTBOX_BODY_BYTES, item->body_bytes);
    if (item->body[0] != '{' || item->body[item->body_bytes - 1] != '}' ||
        memchr(item->body, 0, item->body_bytes) != NULL)
        return store_refuse(s, -EINVAL,
                            "body of an item: expected a JSON object {...} without NUL");
    return store_check_text(s, item->channel, 0, OUTBOX_CHANNEL_BYTES, "channel of an item");
}

/* How long the outbox has lived, as far as the wall clock can be believed (struct outbox_caps). */
static void grow_older(struct store *s, struct outbox_state *state)
{
    int64_t now = s->now_ms();

    if (state->clock_ms > 0 && now > state->clock_ms) {
        int64_t passed = now - state->clock_ms;
        state->age_ms += passed < DAY_MS ? passed : DAY_MS;
    }
    state->clock_ms = now > 0 ? now : 0;
}

int outbox_append(struct store *s, const struct outbox_item *item, uint64_t *seq)
{
    struct outbox_state state = {0};
    uint64_t number = 0;

    store_clear(s);
    int rc = check_item(s, item);
    if (rc < 0)
        return rc;
    rc = store_enter(s);
    if (rc == 0)
        rc = outbox_read_state(s, &state);
    if (rc == 0 && state.epoch == 0)
        rc = store_refuse(s, -EINVAL, "no boot epoch: outbox_start comes first");
    if (rc == 0) {
        grow_older(s, &state);
        rc = outbox_insert(s, &state, item, &number);
    }
    if (rc == 0)
        rc = outbox_enforce(s, &state);
    if (rc == 0)
        rc = outbox_write_state(s, &state);
    rc = store_leave(s, rc);
    if (rc == 0)
        *seq = number;
    return rc;
}

/* Columns of OUTBOX_FETCH into an item, the body to buffer[0 .. room). 1: taken, -ENOBUFS,
 * -EBADMSG. */
static int take_row(struct store *s, sqlite3_stmt *q, struct outbox_item *item, char *buffer,
                    size_t room)
{
    const unsigned char *body = sqlite3_column_text(q, 5);
    size_t bytes = (size_t)sqlite3_column_bytes(q, 5);

    if (body == NULL || bytes > OUTBOX_BODY_BYTES)
        return store_refuse(s, -EBADMSG, "%s: table outbox, seq %lld: body missing or too long",
                            s->path, (long long)sqlite3_column_int64(q, 0));
    if (bytes >= room)
        return store_refuse(s, -ENOBUFS, "buffer of %zu bytes: a body needs %zu", room, bytes + 1);
    int rc = store_column_text(s, q, 4, item->channel, sizeof item->channel);
    if (rc < 0)
        return rc;
    item->seq = (uint64_t)sqlite3_column_int64(q, 0);
    item->epoch = sqlite3_column_int64(q, 1);
    item->kind = (enum outbox_kind)sqlite3_column_int(q, 2);
    item->priority = priority_of(item->kind);
    item->created_ms = sqlite3_column_int64(q, 3);
    memcpy(buffer, body, bytes);
    buffer[bytes] = '\0';
    item->body = buffer;
    item->body_bytes = bytes;
    rc = store_compare(s, q, 6,
                       checksum((int64_t)item->seq, item->epoch, sqlite3_column_int64(q, 2),
                                item->created_ms, item->channel, strlen(item->channel), buffer,
                                bytes),
                       "outbox", (int64_t)item->seq);
    return rc < 0 ? rc : 1;
}

int outbox_verify(struct store *s, int64_t *bad, int max)
{
    sqlite3_stmt *q = NULL;
    int count = 0, rc = 0;

    sqlite3_prepare_v2(s->db,
                       "SELECT seq, epoch, kind, created_ms, channel, body, crc FROM outbox"
                       " NOT INDEXED WHERE crc IS NOT NULL",
                       -1, &q, NULL);
    while (count < max && (rc = store_step(s, q, "verify the outbox")) > 0) {
        const char *channel = (const char *)sqlite3_column_text(q, 4);
        const char *body = (const char *)sqlite3_column_text(q, 5);
        if (channel == NULL || body == NULL ||
            sqlite3_column_int64(q, 6) !=
                (int64_t)checksum(sqlite3_column_int64(q, 0), sqlite3_column_int64(q, 1),
                                  sqlite3_column_int64(q, 2), sqlite3_column_int64(q, 3), channel,
                                  (size_t)sqlite3_column_bytes(q, 4), body,
                                  (size_t)sqlite3_column_bytes(q, 5)))
            bad[count++] = sqlite3_column_int64(q, 0);
    }
    sqlite3_finalize(q);
    return rc < 0 ? rc : count;
}

int outbox_fetch(struct store *s, int priority, uint64_t after, struct outbox_item *items, int max,
                 char *buffer, size_t buffer_bytes)
{
    int count = 0, rc = 0;
    size_t used = 0;

    store_clear(s);
    if (priority < 1 || priority > 3)
        return store_refuse(s, -EINVAL, "priority %d: expected 1 to 3", priority);
    if (after >= INT64_MAX || max <= 0)
        return 0;
    /* Ranges that cannot become items now (a full disk) stay in the ledger; items that are there
     * are still sent. */
    if (priority == 3 && !s->readonly)
        (void)outbox_declare(s);
    sqlite3_stmt *q =
        store_statement(s, OUTBOX_FETCH,
                        "SELECT seq, epoch, kind, created_ms, channel, body, crc FROM outbox"
                        " WHERE parked = 0 AND priority = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3");
    sqlite3_bind_int(q, 1, priority);
    sqlite3_bind_int64(q, 2, (int64_t)after);
    sqlite3_bind_int(q, 3, max);
    while (count < max && (rc = store_step(s, q, "fetch from the outbox")) > 0) {
        rc = take_row(s, q, &items[count], buffer + used, buffer_bytes - used);
        if (rc == -ENOBUFS && count > 0)
            rc = 0; /* the page is full */
        if (rc <= 0)
            break;
        used += items[count++].body_bytes + 1;
    }
    store_done(q);
    return rc < 0 ? rc : count;
}

/* Deletes one item: 1 when it was there. */
static int remove_item(struct store *s, struct outbox_state *state, uint64_t seq)
{
    sqlite3_stmt *q = store_statement(
        s, OUTBOX_DELETE, "DELETE FROM outbox WHERE seq = ?1 RETURNING kind, size, parked");

    sqlite3_bind_int64(q, 1, (int64_t)seq);
    int rc = store_step(s, q, "delete from the outbox");
    if (rc <= 0)
        return rc;
    outbox_uncount(state, sqlite3_column_int(q, 0), sqlite3_column_int64(q, 1),
                   sqlite3_column_int(q, 2) != 0);
    rc = store_step(s, q, "delete from the outbox");
    return rc < 0 ? rc : 1;
}

int outbox_ack(struct store *s, const uint64_t *seqs, size_t count)
{
    struct outbox_state state = {0};

    if (count == 0)
        return 0;
    int rc = store_enter(s);
    if (rc == 0)
        rc = outbox_read_state(s, &state);
    for (size_t i = 0; i < count && rc >= 0; i++) {
        rc = seqs[i] > INT64_MAX ? 0 : remove_item(s, &state, seqs[i]);
        if (rc > 0)
            state.acknowledged++;
    }
    if (rc >= 0)
        rc = outbox_write_state(s, &state);
    return store_leave(s, rc);
}

int outbox_park(struct store *s, uint64_t seq, const char *reason)
{
    struct outbox_state state = {0};
    int rc = store_enter(s);

    if (rc == 0)
        rc = outbox_read_state(s, &state);
    if (rc == 0) {
        sqlite3_stmt *q =
            store_statement(s, OUTBOX_PARK,
                            "UPDATE outbox SET parked = 1, reason = substr(?2, 1, 200)"
                            " WHERE seq = ?1 AND parked = 0");
        sqlite3_bind_int64(q, 1, seq > INT64_MAX ? 0 : (int64_t)seq);
        sqlite3_bind_text(q, 2, reason, -1, SQLITE_STATIC);
        rc = store_step(s, q, "park an item");
    }
    if (rc == 0 && sqlite3_changes(s->db) == 0)
        rc = store_refuse(s, -ENOENT, "item %llu does not wait", (unsigned long long)seq);
    if (rc == 0) {
        state.parked++;
        rc = outbox_write_state(s, &state);
    }
    return store_leave(s, rc);
}

int outbox_unpark(struct store *s)
{
    struct outbox_state state = {0};
    int changed = 0;
    int rc = store_enter(s);

    if (rc == 0)
        rc = outbox_read_state(s, &state);
    if (rc == 0)
        rc = store_step(
            s,
            store_statement(s, OUTBOX_UNPARK,
                            "UPDATE outbox SET parked = 0, reason = NULL WHERE parked = 1"),
            "offer parked items again");
    if (rc == 0) {
        changed = sqlite3_changes(s->db);
        state.parked = 0;
        rc = outbox_write_state(s, &state);
    }
    rc = store_leave(s, rc);
    return rc < 0 ? rc : changed;
}

int outbox_statistics(struct store *s, struct outbox_stats *out)
{
    store_clear(s);
    memset(out, 0, sizeof *out);
    sqlite3_stmt *q = store_statement(
        s, OUTBOX_STATISTICS, /* one statement: one state of the database */
        "SELECT events, alerts, gaps + (SELECT count(*) FROM gap), reports, bytes, parked, dropped,"
        " acknowledged, next_seq, epoch, (SELECT seq FROM outbox ORDER BY seq LIMIT 1),"
        " (SELECT created_ms FROM outbox ORDER BY seq LIMIT 1) FROM outbox_state");
    int rc = store_step(s, q, "read the figures of the outbox");
    if (rc == 0)
        return store_refuse(s, -EBADMSG, "%s: table outbox_state is empty", s->path);
    if (rc < 0)
        return rc;
    out->events = (uint64_t)sqlite3_column_int64(q, 0);
    out->alerts = (uint64_t)sqlite3_column_int64(q, 1);
    out->gaps = (uint64_t)sqlite3_column_int64(q, 2);
    out->reports = (uint64_t)sqlite3_column_int64(q, 3);
    out->rows = out->events + out->alerts + out->gaps + out->reports;
    out->bytes = (uint64_t)sqlite3_column_int64(q, 4);
    out->parked = (uint64_t)sqlite3_column_int64(q, 5);
    out->dropped = (uint64_t)sqlite3_column_int64(q, 6);
    out->acknowledged = (uint64_t)sqlite3_column_int64(q, 7);
    out->next_seq = (uint64_t)sqlite3_column_int64(q, 8);
    out->epoch = sqlite3_column_int64(q, 9);
    out->oldest_seq = (uint64_t)sqlite3_column_int64(q, 10);
    out->oldest_ms = sqlite3_column_int64(q, 11);
    store_done(q);
    return 0;
}
