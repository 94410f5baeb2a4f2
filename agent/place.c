#include "agent/place.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "agent/calendar.h"
#include "agent/event.h"

/* Sizes of a point, in this order. */
enum { POWER = 0, DURATION = 1, SHAPE = 2, UP = 3, DOWN = 4 };

#define REACH 2.5f       /* spreads within which a run belongs to a load */
#define REACH_NAMED 2.0f /* and within which a prototype overrules the network */
#define LEARN_NAMED 1.0f /* and within which it learns from one by itself */
#define MERGE 1.2f       /* centres this close, in the larger spreads, are one load */
#define MEMORY 60u       /* runs after which the oldest count less */
#define FIRST_RUNS 4u    /* until then the spread is not known and starts wide */

/* Spreads (of logarithms) that a size has at least: meters, voltage and people vary; and at first.
 */
static const float least[PLACE_SIZES] = {0.06f, 0.35f, 0.10f, 0.07f, 0.07f};
static const float first[PLACE_SIZES] = {0.10f, 0.60f, 0.20f, 0.10f, 0.10f};
/* How much a size says. Durations depend on people, powers on the load. */
static const float weight[PLACE_SIZES] = {1.0f, 0.5f, 0.7f, 1.0f, 0.7f};

void place_init(struct place *p)
{
    memset(p, 0, sizeof(*p));
    p->next = 1;
}

int place_check(const struct place *p)
{
    int bad = p->next == 0;
    for (int i = 0; i < PLACE_LOADS; i++) {
        const struct place_load *l = &p->loads[i];
        if (!l->number)
            continue;
        bad |=
            l->number >= p->next || !memchr(l->name, 0, sizeof l->name) || !isfinite(l->energy_wh);
        for (int k = 0; k < PLACE_SIZES; k++)
            bad |= !isfinite(l->centre[k]) || !isfinite(l->spread[k]) || l->spread[k] < 0 ||
                   fabsf(l->centre[k]) > 100;
    }
    return bad ? -EBADMSG : 0;
}

static void put(struct place_point *p, int k, double value)
{
    if (!(value > 0) || !isfinite(value))
        return;
    p->x[k] = (float)log(value);
    p->known = (uint8_t)(p->known | 1u << k);
}

int place_point(const struct place_run *run, struct place_point *out)
{
    memset(out, 0, sizeof(*out));
    if (!(run->duration_s > 0) || run->start_ms <= 0)
        return -EINVAL;
    double mean = run->energy_wh * 3600.0 / run->duration_s;
    put(out, POWER, mean > 0 ? mean : run->up_w);
    put(out, DURATION, run->duration_s);
    if (mean > 0)
        put(out, SHAPE, run->peak_w / mean);
    put(out, UP, run->up_w);
    put(out, DOWN, run->down_w);
    out->hour = (uint8_t)(calendar_minute(run->start_ms) / 60);
    return out->known & 1u << POWER ? 0 : -EINVAL;
}

static float spread_of(const struct place_load *l, int k)
{
    float s = l->seen[k] < FIRST_RUNS ? fmaxf(first[k], l->spread[k]) : l->spread[k];
    return fmaxf(s, least[k]);
}

/* Root of the weighted mean of squares over the sizes that both know, in spreads. */
static float distance_to(const struct place_load *l, const struct place_point *p)
{
    float sum = 0, weights = 0;
    for (int k = 0; k < PLACE_SIZES; k++) {
        if (!(p->known & 1u << k) || !l->seen[k])
            continue;
        float d = (p->x[k] - l->centre[k]) / spread_of(l, k);
        sum += weight[k] * d * d;
        weights += weight[k];
    }
    return weights > 0 ? sqrtf(sum / weights) : INFINITY;
}

struct place_load *place_find(struct place *p, const struct place_point *point, int named,
                              float *distance)
{
    struct place_load *best = NULL;
    float nearest = named ? REACH_NAMED : REACH;
    for (int i = 0; i < PLACE_LOADS; i++) {
        struct place_load *l = &p->loads[i];
        if (!l->number || (named && !l->name[0]))
            continue;
        float d = distance_to(l, point);
        if (d < nearest && (!l->name[0] || d < REACH_NAMED)) {
            nearest = d;
            best = l;
        }
    }
    if (distance)
        *distance = nearest;
    return best;
}

/* A running mean, and a running mean deviation as the spread (1.25 of it is a standard deviation of
 * normal points); a point far out moves both by a bounded step. */
static void take(struct place_load *l, const struct place_point *p, const struct place_run *run,
                 int learn)
{
    for (int k = 0; learn && k < PLACE_SIZES; k++) {
        if (!(p->known & 1u << k))
            continue;
        uint32_t n = l->seen[k] < MEMORY ? ++l->seen[k] : MEMORY;
        float share = 1.0f / (float)n, bound = REACH * spread_of(l, k);
        float away =
            n == 1 ? p->x[k] - l->centre[k] : fminf(fmaxf(p->x[k] - l->centre[k], -bound), bound);
        l->centre[k] += share * away;
        if (n > 1)
            l->spread[k] += share * (1.25f * fabsf(away) - l->spread[k]);
    }
    if (l->hours[p->hour] == UINT16_MAX)
        for (int h = 0; h < 24; h++)
            l->hours[h] /= 2;
    l->hours[p->hour]++;
    l->runs += l->runs < UINT32_MAX;
    l->energy_wh += run->energy_wh;
    l->first_ms = l->first_ms && l->first_ms < run->start_ms ? l->first_ms : run->start_ms;
    l->last_ms = run->start_ms > l->last_ms ? run->start_ms : l->last_ms;
}

/* A free place, or that of the load without a name that matters least. NULL: all have names. */
static struct place_load *make_room(struct place *p)
{
    struct place_load *worst = NULL;
    for (int i = 0; i < PLACE_LOADS; i++) {
        struct place_load *l = &p->loads[i];
        if (!l->number)
            return l;
        if (l->name[0])
            continue;
        if (!worst || l->runs < worst->runs ||
            (l->runs == worst->runs && l->last_ms < worst->last_ms))
            worst = l;
    }
    return worst;
}

static struct place_load *begin(struct place *p)
{
    struct place_load *l = make_room(p);
    if (!l || p->next == UINT32_MAX)
        return NULL;
    memset(l, 0, sizeof(*l));
    l->number = p->next++;
    return l;
}

/* Two loads whose centres have come together. A person's word on one says nothing of the other:
 * only loads without a name, or of the same name, become one. */
static int same(const struct place_load *a, const struct place_load *b)
{
    float sum = 0, weights = 0;
    if (strcmp(a->name, b->name) != 0)
        return 0;
    for (int k = 0; k < PLACE_SIZES; k++) {
        if (!a->seen[k] || !b->seen[k])
            continue;
        float d = (a->centre[k] - b->centre[k]) / fmaxf(spread_of(a, k), spread_of(b, k));
        sum += weight[k] * d * d;
        weights += weight[k];
    }
    return weights > 0 && sum / weights < MERGE * MERGE;
}

static void merge(struct place_load *into, struct place_load *from)
{
    for (int k = 0; k < PLACE_SIZES; k++) {
        uint32_t n = into->seen[k] + from->seen[k];
        if (!n)
            continue;
        float share = (float)from->seen[k] / (float)n;
        float apart = fabsf(from->centre[k] - into->centre[k]);
        into->centre[k] += share * (from->centre[k] - into->centre[k]);
        into->spread[k] +=
            share * (from->spread[k] - into->spread[k]) + 1.25f * share * (1 - share) * apart;
        into->seen[k] = n < MEMORY ? n : MEMORY;
    }
    for (int h = 0; h < 24; h++) {
        uint32_t n = (uint32_t)into->hours[h] + from->hours[h];
        into->hours[h] = (uint16_t)(n < UINT16_MAX ? n : UINT16_MAX);
    }
    into->runs += from->runs;
    into->energy_wh += from->energy_wh;
    into->first_ms = from->first_ms < into->first_ms ? from->first_ms : into->first_ms;
    into->last_ms = from->last_ms > into->last_ms ? from->last_ms : into->last_ms;
    memset(from, 0, sizeof(*from));
}

/* The larger one stays. */
static struct place_load *join(struct place *p, struct place_load *l, uint32_t *merged)
{
    for (int i = 0; i < PLACE_LOADS; i++) {
        struct place_load *o = &p->loads[i];
        if (o == l || !o->number || !same(l, o))
            continue;
        struct place_load *into = o->runs > l->runs ? o : l, *from = into == o ? l : o;
        *merged = from->number;
        merge(into, from);
        return into;
    }
    return l;
}

struct place_load *place_add(struct place *p, const struct place_point *point,
                             const struct place_run *run, uint32_t *merged)
{
    float distance;
    struct place_load *l = place_find(p, point, 0, &distance);
    *merged = 0;
    if (!l)
        l = begin(p);
    if (!l)
        return NULL;
    /* A person's word is not changed by runs that are only somewhat like it. */
    take(l, point, run, !l->name[0] || distance < LEARN_NAMED);
    return join(p, l, merged);
}

/* Takes one run's count away; what it taught is forgotten with the next ones. */
static void lose(struct place_load *l, const struct place_point *point, const struct place_run *run)
{
    l->runs -= l->runs > 0;
    l->hours[point->hour] = (uint16_t)(l->hours[point->hour] - (l->hours[point->hour] > 0));
    l->energy_wh = fmax(l->energy_wh - run->energy_wh, 0);
    if (l->runs == 0)
        memset(l, 0, sizeof(*l));
}

struct place_load *place_correct(struct place *p, const struct place_point *point,
                                 const struct place_run *run, struct place_load *from,
                                 const char *name)
{
    struct place_load *best = NULL;
    float nearest = REACH_NAMED;
    if (from && strcmp(from->name, name) == 0)
        return from;
    if (from)
        lose(from, point, run);
    for (int i = 0; i < PLACE_LOADS; i++) {
        struct place_load *l = &p->loads[i];
        float d = l->number && strcmp(l->name, name) == 0 ? distance_to(l, point) : INFINITY;
        if (d < nearest) {
            nearest = d;
            best = l;
        }
    }
    if (!best)
        best = begin(p);
    if (!best)
        return NULL;
    snprintf(best->name, sizeof best->name, "%s", name);
    take(best, point, run, 1);
    return best;
}

struct place_load *place_number(struct place *p, uint32_t number)
{
    for (int i = 0; number && i < PLACE_LOADS; i++)
        if (p->loads[i].number == number)
            return &p->loads[i];
    return NULL;
}

void place_label(const struct place_load *l, char out[PLACE_NAME_BYTES])
{
    if (l->name[0])
        snprintf(out, PLACE_NAME_BYTES, "%s", l->name);
    else if (l->runs >= PLACE_RECURS)
        snprintf(out, PLACE_NAME_BYTES, EVENT_UNKNOWN "-%" PRIu32, l->number);
    else
        snprintf(out, PLACE_NAME_BYTES, EVENT_UNKNOWN);
}

uint32_t place_parse(const char *label)
{
    uint32_t number = 0;
    int end = 0;
    if (sscanf(label, EVENT_UNKNOWN "-%9" SCNu32 "%n", &number, &end) != 1 || label[end] != '\0' ||
        label[sizeof EVENT_UNKNOWN] < '1' || label[sizeof EVENT_UNKNOWN] > '9')
        return 0;
    return number;
}

void place_typical(const struct place_load *l, struct place_typical *out)
{
    uint32_t total = 0;
    out->power_w = l->seen[POWER] ? exp((double)l->centre[POWER]) : 0;
    out->duration_s = l->seen[DURATION] ? exp((double)l->centre[DURATION]) : 0;
    out->energy_wh = l->runs ? l->energy_wh / l->runs : 0;
    out->from_hour = 0;
    out->to_hour = 24;
    for (int h = 0; h < 24; h++)
        total += l->hours[h];
    for (int from = 0; total && from < 24; from++) {
        uint32_t n = 0;
        int length = 0;
        while (2 * n < total)
            n += l->hours[(from + length++) % 24];
        if (length < out->to_hour - out->from_hour) {
            out->from_hour = from;
            out->to_hour = from + length;
        }
    }
    out->to_hour = out->to_hour > 24 ? out->to_hour - 24 : out->to_hour;
}
