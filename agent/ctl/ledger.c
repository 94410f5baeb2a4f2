/* ledger.c - received numbers as sorted, disjoint ranges (ledger.h). */
#include "agent/ctl/ledger.h"

#include <stdlib.h>
#include <string.h>

struct range {
    uint64_t from, to; /* both included */
};

struct ranges {
    struct range *r;
    size_t count, room;
};

struct gap {
    uint64_t from, to, count;
};

struct epoch {
    char device[64];
    int64_t epoch;
    struct ranges received;
    struct gap *gaps;
    size_t gap_count;
};

struct ledger {
    struct epoch *epochs; /* sorted by device, then epoch */
    size_t count;
    uint64_t duplicates, ignored;
};

/* Index of the first range that ends at or after n. */
static size_t find(const struct ranges *s, uint64_t n)
{
    size_t low = 0, high = s->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (s->r[middle].to < n)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Adds from..to and joins what touches. Returns 1, or 0 when there is no room. */
static int insert(struct ranges *s, uint64_t from, uint64_t to)
{
    size_t i = find(s, from > 0 ? from - 1 : 0), last = i;
    while (last < s->count && (s->r[last].from <= to || s->r[last].from - 1 == to)) {
        if (s->r[last].from < from)
            from = s->r[last].from;
        if (s->r[last].to > to)
            to = s->r[last].to;
        last++;
    }
    if (last == i) { /* touches none: a new one at i */
        if (s->count == LEDGER_MAX_RANGES)
            return 0;
        if (s->count == s->room) {
            size_t room = s->room ? 2 * s->room : 16;
            struct range *larger = realloc(s->r, room * sizeof *larger);
            if (!larger)
                return 0;
            s->r = larger;
            s->room = room;
        }
        memmove(s->r + i + 1, s->r + i, (s->count - i) * sizeof *s->r);
        s->count++;
    } else { /* i..last-1 become one */
        memmove(s->r + i + 1, s->r + last, (s->count - last) * sizeof *s->r);
        s->count -= last - i - 1;
    }
    s->r[i] = (struct range){from, to};
    return 1;
}

static uint64_t total(const struct ranges *s)
{
    uint64_t n = 0;
    for (size_t i = 0; i < s->count; i++)
        n += s->r[i].to - s->r[i].from + 1;
    return n;
}

struct ledger *ledger_create(void)
{
    return calloc(1, sizeof(struct ledger));
}

void ledger_destroy(struct ledger *l)
{
    for (size_t i = 0; l && i < l->count; i++) {
        free(l->epochs[i].received.r);
        free(l->epochs[i].gaps);
    }
    if (l)
        free(l->epochs);
    free(l);
}

static struct epoch *get(struct ledger *l, const char *device, int64_t epoch)
{
    size_t i = 0;
    for (; i < l->count; i++) {
        int order = strcmp(l->epochs[i].device, device);
        if (order == 0 && l->epochs[i].epoch == epoch)
            return &l->epochs[i];
        if (order > 0 || (order == 0 && l->epochs[i].epoch > epoch))
            break;
    }
    if (l->count == LEDGER_MAX_EPOCHS || strlen(device) >= sizeof l->epochs->device)
        return NULL;
    struct epoch *larger = realloc(l->epochs, (l->count + 1) * sizeof *larger);
    if (!larger)
        return NULL;
    l->epochs = larger;
    memmove(larger + i + 1, larger + i, (l->count - i) * sizeof *larger);
    l->count++;
    memset(&larger[i], 0, sizeof larger[i]);
    memcpy(larger[i].device, device, strlen(device) + 1);
    larger[i].epoch = epoch;
    return &larger[i];
}

int ledger_add(struct ledger *l, const char *device, int64_t epoch, uint64_t seq)
{
    struct epoch *e = get(l, device, epoch);
    if (e) {
        size_t i = find(&e->received, seq);
        if (i < e->received.count && e->received.r[i].from <= seq) {
            l->duplicates++;
            return 0;
        }
        if (insert(&e->received, seq, seq))
            return 1;
    }
    l->ignored++;
    return -1;
}

int ledger_add_range(struct ledger *l, const char *device, int64_t epoch, uint64_t from,
                     uint64_t to)
{
    struct epoch *e = from <= to ? get(l, device, epoch) : NULL;
    if (e && insert(&e->received, from, to))
        return 1;
    l->ignored++;
    return -1;
}

void ledger_declare(struct ledger *l, const char *device, int64_t epoch, uint64_t from, uint64_t to,
                    uint64_t count)
{
    struct epoch *e = from <= to ? get(l, device, epoch) : NULL;
    struct gap *larger = NULL;
    if (e && e->gap_count < LEDGER_MAX_RANGES)
        larger = realloc(e->gaps, (e->gap_count + 1) * sizeof *larger);
    if (!larger) {
        l->ignored++;
        return;
    }
    e->gaps = larger;
    e->gaps[e->gap_count++] = (struct gap){from, to, count};
}

/* Takes at most g->count of its numbers out of the holes; how many. Holes that are split grow in
 * number: when there is no room for one more, what is left of it stays in. */
static uint64_t take(struct ranges *holes, const struct gap *g)
{
    uint64_t taken = 0;
    for (size_t i = find(holes, g->from);
         i < holes->count && holes->r[i].from <= g->to && taken < g->count;) {
        struct range hole = holes->r[i];
        uint64_t a = hole.from > g->from ? hole.from : g->from;
        uint64_t b = hole.to < g->to ? hole.to : g->to;
        if (b - a >= g->count - taken)
            b = a + (g->count - taken) - 1;
        taken += b - a + 1;
        memmove(holes->r + i, holes->r + i + 1, (holes->count - i - 1) * sizeof *holes->r);
        holes->count--;
        if (hole.from < a)
            i += insert(holes, hole.from, a - 1) ? 1 : 0;
        if (hole.to > b)
            i += insert(holes, b + 1, hole.to) ? 1 : 0;
    }
    return taken;
}

/* Gaps that name all of their numbers first, then the tighter ones. */
static int by_slack(const void *a, const void *b)
{
    const struct gap *x = a, *y = b;
    uint64_t p = x->to - x->from + 1 - x->count, q = y->to - y->from + 1 - y->count;
    return p < q ? -1 : p > q;
}

struct judgement {
    struct ranges received, holes;
    struct gap *gaps;
    size_t gap_count;
};

static int gather(const struct ledger *l, size_t first, size_t end, struct judgement *j)
{
    int lost = 0;
    for (size_t i = first; i < end; i++)
        j->gap_count += l->epochs[i].gap_count;
    j->gaps = calloc(j->gap_count + 1, sizeof *j->gaps);
    size_t n = 0;
    for (size_t i = first; i < end; i++) {
        const struct epoch *e = &l->epochs[i];
        for (size_t k = 0; k < e->received.count; k++)
            lost += !insert(&j->received, e->received.r[k].from, e->received.r[k].to);
        for (size_t k = 0; k < e->gap_count && j->gaps; k++)
            j->gaps[n++] = e->gaps[k];
    }
    for (size_t k = 1; k < j->received.count; k++)
        lost += !insert(&j->holes, j->received.r[k - 1].to + 1, j->received.r[k].from - 1);
    if (j->gaps)
        qsort(j->gaps, n, sizeof *j->gaps, by_slack);
    else
        j->gap_count = 0;
    return lost;
}

/* Epochs first..end-1 count on: judges them together. */
static void judge(const struct ledger *l, size_t first, size_t end, struct ledger_sum *out,
                  void (*hole)(void *, const char *, uint64_t, uint64_t), void *context)
{
    struct judgement j = {0};
    out->ignored += (uint64_t)gather(l, first, end, &j);
    out->received += total(&j.received);
    out->highest = j.received.count > 0 ? j.received.r[j.received.count - 1].to : 0;
    for (size_t k = 0; k < j.gap_count; k++)
        out->declared += take(&j.holes, &j.gaps[k]);
    out->missing += total(&j.holes);
    for (size_t k = 0; k < j.holes.count && hole; k++)
        hole(context, l->epochs[first].device, j.holes.r[k].from, j.holes.r[k].to);
    free(j.received.r);
    free(j.holes.r);
    free(j.gaps);
}

void ledger_summary(struct ledger *l, struct ledger_sum *out,
                    void (*hole)(void *, const char *, uint64_t, uint64_t), void *context)
{
    memset(out, 0, sizeof *out);
    out->duplicates = l->duplicates;
    out->ignored = l->ignored;
    for (size_t first = 0, i = 0; i < l->count; first = i) {
        uint64_t high = 0;
        if (i == 0 || strcmp(l->epochs[i - 1].device, l->epochs[i].device) != 0)
            out->devices++;
        do { /* a later epoch of the same device goes on when its numbers are larger */
            const struct ranges *r = &l->epochs[i].received;
            if (r->count > 0)
                high = r->r[r->count - 1].to;
            i++;
        } while (i < l->count && strcmp(l->epochs[i].device, l->epochs[first].device) == 0 &&
                 (l->epochs[i].received.count == 0 || l->epochs[i].received.r[0].from > high));
        judge(l, first, i, out, hole, context);
    }
}
