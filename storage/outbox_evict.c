/* outbox_evict.c - what goes when the outbox is full, and how the loss is declared (outbox.h,
 * SPEC 5.5 to 5.7). */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "storage/outbox_internal.h"

#define EVICT_PER_CALL                                                                             \
    1024 /* an append stays short after caps were lowered; in steady state at most 129 are needed  \
          */
#define RANGES_PER_REASON 32
#define GAP_ITEMS 64

enum reason { REASON_ROWS = 1, REASON_BYTES = 2, REASON_AGE = 3, REASON_DAMAGE = 4 };

struct range {
    int64_t from, to, count;
};

static const char *reason_name(int reason)
{
    switch (reason) {
    case REASON_BYTES:
        return "bytes";
    case REASON_AGE:
        return "age";
    case REASON_DAMAGE:
        return "damage";
    default:
        return "rows";
    }
}

static int remove_range(struct store *s, int reason, int64_t from)
{
    sqlite3_stmt *q =
        store_statement(s, GAP_REMOVE, "DELETE FROM gap WHERE reason = ?1 AND from_seq = ?2");

    sqlite3_bind_int(q, 1, reason);
    sqlite3_bind_int64(q, 2, from);
    return store_step(s, q, "remove a gap");
}

static int insert_range(struct store *s, int reason, const struct range *range)
{
    sqlite3_stmt *q = store_statement(
        s, GAP_INSERT, "INSERT INTO gap (reason, from_seq, to_seq, count) VALUES (?1, ?2, ?3, ?4)");

    sqlite3_bind_int(q, 1, reason);
    sqlite3_bind_int64(q, 2, range->from);
    sqlite3_bind_int64(q, 3, range->to);
    sqlite3_bind_int64(q, 4, range->count);
    return store_step(s, q, "note a gap");
}

/* Reads at most two ranges from a statement with columns from, to, count. Returns their number or
 * -errno. */
static int read_ranges(struct store *s, sqlite3_stmt *q, struct range ranges[2])
{
    int count = 0, rc = 0;

    while (count < 2 && (rc = store_step(s, q, "read the gaps")) > 0) {
        ranges[count].from = sqlite3_column_int64(q, 0);
        ranges[count].to = sqlite3_column_int64(q, 1);
        ranges[count].count = sqlite3_column_int64(q, 2);
        count++;
    }
    store_done(q);
    return rc < 0 ? rc : count;
}

/* Replaces ranges, and sum itself if it stands for a number of its own (count 1) or nothing (count
 * 0), by one that spans them. */
static int join(struct store *s, int reason, const struct range *ranges, int count,
                struct range sum)
{
    int rc = 0;

    for (int i = 0; i < count && rc == 0; i++) {
        sum.from = ranges[i].from < sum.from ? ranges[i].from : sum.from;
        sum.to = ranges[i].to > sum.to ? ranges[i].to : sum.to;
        sum.count += ranges[i].count;
        rc = remove_range(s, reason, ranges[i].from);
    }
    if (sum.count > sum.to - sum.from + 1) /* they overlapped */
        sum.count = sum.to - sum.from + 1;
    return rc == 0 ? insert_range(s, reason, &sum) : rc;
}

/* Beyond the limit the two oldest ranges of a reason become one. */
static int bound_ranges(struct store *s, int reason)
{
    struct range oldest[2];
    sqlite3_stmt *q = store_statement(s, GAP_COUNT, "SELECT count(*) FROM gap WHERE reason = ?1");

    sqlite3_bind_int(q, 1, reason);
    int rc = store_step(s, q, "count the gaps");
    if (rc <= 0)
        return rc;
    int64_t count = sqlite3_column_int64(q, 0);
    store_done(q);
    if (count <= RANGES_PER_REASON)
        return 0;
    q = store_statement(
        s, GAP_OLDEST_TWO,
        "SELECT from_seq, to_seq, count FROM gap WHERE reason = ?1 ORDER BY from_seq LIMIT 2");
    sqlite3_bind_int(q, 1, reason);
    rc = read_ranges(s, q, oldest);
    return rc == 2 ? join(s, reason, oldest, 2, (struct range){INT64_MAX, 0, 0}) : rc;
}

/* Ranges of one reason never overlap or touch: one joins those that it meets (a single number
 * meets at most two). */
static int note_loss(struct store *s, int reason, struct range lost)
{
    struct range near[2];
    sqlite3_stmt *q =
        store_statement(s, GAP_NEAR,
                        "SELECT from_seq, to_seq, count FROM gap"
                        " WHERE reason = ?1 AND from_seq <= ?3 + 1 AND to_seq >= ?2 - 1");

    sqlite3_bind_int(q, 1, reason);
    sqlite3_bind_int64(q, 2, lost.from);
    sqlite3_bind_int64(q, 3, lost.to);
    int count = read_ranges(s, q, near);
    int rc = count < 0 ? count : join(s, reason, near, count, lost);
    return rc == 0 && count == 0 ? bound_ranges(s, reason) : rc;
}

int outbox_lose(struct store *s, int64_t from, int64_t to, int64_t count)
{
    return note_loss(s, REASON_DAMAGE, (struct range){from, to, count});
}

/* Drops the item that a statement finds (columns seq, kind, size, parked). 1: dropped, 0: none. */
static int drop(struct store *s, struct outbox_state *state, sqlite3_stmt *q, int reason)
{
    int rc = store_step(s, q, "find what goes first");

    if (rc <= 0)
        return rc;
    int64_t seq = sqlite3_column_int64(q, 0);
    outbox_uncount(state, sqlite3_column_int(q, 1), sqlite3_column_int64(q, 2),
                   sqlite3_column_int(q, 3) != 0);
    store_done(q);
    state->dropped++;
    q = store_statement(s, OUTBOX_EVICT, "DELETE FROM outbox WHERE seq = ?1");
    sqlite3_bind_int64(q, 1, seq);
    rc = store_step(s, q, "drop an item");
    if (rc == 0)
        rc = note_loss(s, reason, (struct range){seq, seq, 1});
    return rc < 0 ? rc : 1;
}

static int over(uint64_t cap, int64_t value)
{
    return cap != 0 && value > 0 && (uint64_t)value > cap;
}

/* Parked first, then the lowest priority, then the oldest: the order of the index. */
static int drop_for_room(struct store *s, struct outbox_state *state, int reason)
{
    return drop(s, state,
                store_statement(s, OUTBOX_VICTIM,
                                "SELECT seq, kind, size, parked FROM outbox WHERE priority < 3"
                                " ORDER BY parked DESC, priority, seq LIMIT 1"),
                reason);
}

/* The lowest number is the oldest item, because age_ms never falls. At most GAP_ITEMS gaps are
 * stepped over. */
static int drop_for_age(struct store *s, struct outbox_state *state)
{
    sqlite3_stmt *q =
        store_statement(s, OUTBOX_OLDEST,
                        "SELECT seq, kind, size, parked FROM (SELECT * FROM outbox NOT INDEXED"
                        " WHERE priority < 3 ORDER BY seq LIMIT 1) WHERE age_ms < ?1");

    sqlite3_bind_int64(q, 1, state->age_ms - s->caps.max_age_ms);
    return drop(s, state, q, REASON_AGE);
}

int outbox_enforce(struct store *s, struct outbox_state *state)
{
    int rc = 1;

    for (int i = 0; i < EVICT_PER_CALL && rc > 0; i++) {
        int64_t rows =
            state->kinds[OUTBOX_EVENT] + state->kinds[OUTBOX_ALERT] + state->kinds[OUTBOX_REPORT];
        if (over(s->caps.max_rows, rows))
            rc = drop_for_room(s, state, REASON_ROWS);
        else if (over(s->caps.max_bytes, state->bytes))
            rc = drop_for_room(s, state, REASON_BYTES);
        else
            rc = s->caps.max_age_ms > 0 ? drop_for_age(s, state) : 0;
    }
    return rc < 0 ? rc : 0;
}

/* The oldest range becomes an item. 1: done, 0: the ledger is empty. */
static int declare_one(struct store *s, struct outbox_state *state)
{
    char body[160];
    uint64_t seq;
    struct range range;
    sqlite3_stmt *q = store_statement(
        s, GAP_FIRST, "SELECT from_seq, to_seq, count, reason FROM gap ORDER BY from_seq LIMIT 1");
    int rc = store_step(s, q, "read the gaps");

    if (rc <= 0)
        return rc;
    range = (struct range){sqlite3_column_int64(q, 0), sqlite3_column_int64(q, 1),
                           sqlite3_column_int64(q, 2)};
    int reason = sqlite3_column_int(q, 3);
    store_done(q);
    int n = snprintf(body, sizeof body,
                     "{\"from_seq\":%" PRId64 ",\"to_seq\":%" PRId64 ",\"count\":%" PRId64
                     ",\"reason\":\"%s\"}",
                     range.from, range.to, range.count, reason_name(reason));
    struct outbox_item item = {
        .kind = OUTBOX_GAP, .created_ms = s->now_ms(), .body = body, .body_bytes = (size_t)n};
    rc = remove_range(s, reason, range.from);
    if (rc == 0)
        rc = outbox_insert(s, state, &item, &seq);
    return rc < 0 ? rc : 1;
}

int outbox_declare(struct store *s)
{
    struct outbox_state state = {0};
    sqlite3_stmt *q = store_statement(
        s, GAP_FIRST, "SELECT from_seq, to_seq, count, reason FROM gap ORDER BY from_seq LIMIT 1");
    int rc = store_step(s, q, "read the gaps");

    if (rc <= 0) /* the usual case costs no transaction */
        return rc;
    store_done(q);
    rc = store_enter(s);
    if (rc == 0)
        rc = outbox_read_state(s, &state);
    if (rc == 0 && state.kinds[OUTBOX_GAP] < GAP_ITEMS) {
        do {
            rc = declare_one(s, &state);
        } while (rc > 0 && state.kinds[OUTBOX_GAP] < GAP_ITEMS);
        if (rc >= 0)
            rc = outbox_write_state(s, &state);
    }
    return store_leave(s, rc);
}
