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

struct epoch {
    char device[64];
    int64_t epoch;
    struct ranges received, declared;
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
        free(l->epochs[i].declared.r);
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

void ledger_declare(struct ledger *l, const char *device, int64_t epoch, uint64_t from, uint64_t to)
{
    struct epoch *e = from <= to ? get(l, device, epoch) : NULL;
    if (!e || !insert(&e->declared, from, to))
        l->ignored++;
}

/* Numbers of inner that lie within from..to and not in outer. */
static uint64_t outside(const struct ranges *inner, const struct ranges *outer, uint64_t from,
                        uint64_t to)
{
    uint64_t n = 0;
    for (size_t i = 0; i < inner->count; i++) {
        uint64_t a = inner->r[i].from > from ? inner->r[i].from : from;
        uint64_t b = inner->r[i].to < to ? inner->r[i].to : to;
        for (size_t k = find(outer, a); a <= b; k++) {
            if (k == outer->count || outer->r[k].from > b) {
                n += b - a + 1;
                break;
            }
            if (outer->r[k].from > a)
                n += outer->r[k].from - a;
            if (outer->r[k].to >= b)
                break;
            a = outer->r[k].to + 1;
        }
    }
    return n;
}

/* Epochs first..end-1 count on: judges them together. */
static void judge(const struct ledger *l, size_t first, size_t end, struct ledger_sum *out)
{
    struct ranges received = {0}, declared = {0};
    for (size_t i = first; i < end; i++) {
        const struct epoch *e = &l->epochs[i];
        for (size_t k = 0; k < e->received.count; k++)
            out->ignored += !insert(&received, e->received.r[k].from, e->received.r[k].to);
        for (size_t k = 0; k < e->declared.count; k++)
            out->ignored += !insert(&declared, e->declared.r[k].from, e->declared.r[k].to);
    }
    if (received.count > 0) {
        uint64_t low = received.r[0].from, high = received.r[received.count - 1].to;
        uint64_t n = total(&received), lost = outside(&declared, &received, low, high);
        out->received += n;
        out->declared += lost;
        out->missing += high - low + 1 - n - lost;
    }
    free(received.r);
    free(declared.r);
}

void ledger_summary(struct ledger *l, struct ledger_sum *out)
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
        judge(l, first, i, out);
    }
}
