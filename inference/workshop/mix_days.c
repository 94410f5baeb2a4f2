/* mix_days.c - stretches of mixed power, and datasets of them. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/mix.h"
#include "inference/workshop/mix_private.h"

#define STREAM (UINT64_C(0x64) << 56)
#define DAY_MS 86400000u
#define IDLE_MS 5400000u   /* of a recording, before and behind its runs */
#define PAUSE 1u           /* times a recording's length, at most, until the next ... */
#define PAUSE_MS 18000000u /* ... and at most this */
#define DAYS 100u          /* of a part of a dataset ... */
#define MOST_LOADS 8u      /* ... each with 1 to so many loads ... */
#define MOST_OTHERS 4u     /* ... and up to so many without an output */

/* What a load is added to; part may be NULL. */
struct sum {
    float *watts, *part; /* [count] */
    uint32_t *on, count;
};

/* The load at places of the stretch: runs as they were recorded, with those that followed within
 * the idle time; then a pause, and another recording of the same device. */
static void lay_episodes(const struct mix *m, const struct mix_kind *k, const struct sum *sum,
                         struct net_random *r)
{
    const struct mix_device *d = &m->devices[k->first + net_random_below(r, k->count)];
    const uint32_t idle = IDLE_MS / m->period_ms + 1u;
    const uint32_t longest = PAUSE_MS / m->period_ms + 1u;
    const uint32_t bit = k->output == MIX_UNKNOWN ? 0u : UINT32_C(1) << k->output;
    int64_t t = -(int64_t)net_random_below(r, sum->count / 2 + 1);

    while (t < (int64_t)sum->count) {
        const struct mix_run *run = &m->runs[d->first + net_random_below(r, d->count)];
        const struct dataset_trace *from = &m->raw->traces[run->trace];
        const uint32_t before = net_random_below(r, idle);
        uint32_t i = run->start > before ? run->start - before : 0, off = 0, length = 0;
        for (; i < from->count && (off < idle || i < run->start); i++, length++, t++) {
            const int on = m->on[run->trace][i];
            off = on ? 0 : off + 1;
            if (t < 0 || t >= (int64_t)sum->count)
                continue;
            sum->watts[t] += from->watts[i];
            if (sum->part)
                sum->part[t] += from->watts[i];
            if (on)
                sum->on[t] |= bit;
        }
        t += net_random_below(r, PAUSE * length < longest ? PAUSE * length + 1 : longest);
    }
}

/* `wanted` different ones of kinds[first .. first + count) that have a device, in random order. */
static uint32_t choose_kinds(const struct mix *m, uint32_t first, uint32_t count, uint32_t wanted,
                             struct net_random *r, uint32_t *out)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < count && n < 256; i++)
        if (m->kinds[first + i].count)
            out[n++] = first + i;
    for (uint32_t i = 0; i + 1 < n; i++) { /* Fisher and Yates */
        uint32_t k = i + net_random_below(r, n - i), other = out[k];
        out[k] = out[i];
        out[i] = other;
    }
    return n < wanted ? n : wanted;
}

/* The first output takes another one's place where it was not chosen. */
static void prefer_first(uint32_t *kinds, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (kinds[i] == 0)
            return;
    kinds[0] = 0;
}

void mix_stretch(const struct mix *m, const struct mix_plan *plan, uint64_t seed, uint32_t index,
                 uint32_t count, float *watts, uint32_t *on, float *parts)
{
    struct net_random r = net_random_stream(seed ^ STREAM, plan->loads, index);
    struct sum sum = {.watts = watts, .on = on, .count = count};
    uint32_t kinds[256], n;

    memset(watts, 0, count * sizeof(*watts));
    memset(on, 0, count * sizeof(*on));
    if (parts)
        memset(parts, 0, (size_t)m->rules.count * count * sizeof(*parts));
    if (plan->base)
        mix_base(m->period_ms, &r, watts, count);
    n = choose_kinds(m, 0, m->rules.count, plan->loads, &r, kinds);
    if (plan->usual && n > 0 && m->kinds[0].count && mix_happens(&r, MIX_OFTEN))
        prefer_first(kinds, n);
    for (uint32_t i = 0; i < n; i++) {
        sum.part = parts ? parts + (size_t)kinds[i] * count : NULL;
        lay_episodes(m, &m->kinds[kinds[i]], &sum, &r);
    }
    sum.part = NULL;
    n = choose_kinds(m, m->rules.count, m->kind_count - m->rules.count, plan->unknown, &r, kinds);
    for (uint32_t i = 0; i < n; i++)
        lay_episodes(m, &m->kinds[kinds[i]], &sum, &r);
    if (plan->base)
        mix_meter(m->period_ms, &r, watts, count);
}

/* --- datasets --- */

/* Days of their own for each part. */
static int add_day(struct dataset *d, const struct mix *m, uint32_t number, uint32_t count)
{
    const struct dataset_options *o = &d->options;
    struct dataset_trace *t = &d->traces[number];
    const uint64_t seed = o->split_seed * 8 + (uint64_t)o->part;
    struct net_random r = net_random_stream(seed ^ STREAM, UINT64_MAX, number);
    struct mix_plan plan = {.loads = 1 + net_random_below(&r, MOST_LOADS), .base = 1, .usual = 1};

    plan.unknown = net_random_below(&r, MOST_OTHERS + 1);
    d->trace_count++;
    *t = (struct dataset_trace){.path = strdup("mixed"),
                                .device = strdup("mixed"),
                                .key = strdup("mixed"),
                                .count = count,
                                .watts = malloc(count * sizeof(*t->watts)),
                                .gap = calloc(count, 1),
                                .on = malloc(count * sizeof(*t->on))};
    if (!t->path || !t->device || !t->key || !t->watts || !t->gap || !t->on)
        return -ENOMEM;
    mix_stretch(m, &plan, seed, number, count, t->watts, t->on, NULL);
    for (uint32_t start = 0; start + o->window <= count; start += o->stride)
        d->windows[d->window_count++] = (struct dataset_window){
            .trace = number, .start = start, .on = t->on[start + o->window - 1 - o->lag]};
    return 0;
}

/* Days of their own for each part. */
static int add_days(struct dataset *d)
{
    const struct dataset_options *o = &d->options;
    const uint32_t day = DAY_MS / o->period_ms, count = day > 2 * o->window ? day : 2 * o->window;
    int rc = 0;

    d->traces = calloc(DAYS, sizeof(*d->traces));
    d->windows = malloc(DAYS * (count / o->stride + 1u) * sizeof(*d->windows));
    if (!d->traces || !d->windows)
        return -ENOMEM;
    for (uint32_t i = 0; i < DAYS && !rc; i++)
        rc = add_day(d, d->mix, i, count);
    return rc;
}

/* Outputs become classes: those asked for must be the rules', in their order. */
static int name_classes(struct dataset *d, const struct mix_rules *rules,
                        const struct dataset_options *o, char *why, size_t why_size)
{
    d->class_count = rules->count;
    d->labels = calloc(rules->count, sizeof(*d->labels));
    if (!d->labels)
        return -ENOMEM;
    for (uint32_t i = 0; i < rules->count; i++)
        (void)snprintf(d->labels[i], sizeof(d->labels[i]), "%s", rules->rules[i].name);
    if (o->label_count && (o->label_count != rules->count ||
                           memcmp(d->labels, o->labels, rules->count * sizeof(*d->labels)) != 0)) {
        (void)snprintf(why, why_size, "the rules' names are not the model's classes");
        return -EINVAL;
    }
    return 0;
}

int mix_dataset(struct dataset *raw, const struct dataset_options *o, struct dataset **out,
                char *why, size_t why_size)
{
    struct mix_rules *rules = malloc(sizeof(*rules));
    struct dataset *d = calloc(1, sizeof(*d));
    const char *missing;
    int rc = rules && d ? 0 : -ENOMEM;

    *out = NULL;
    (void)snprintf(why, why_size, "out of memory");
    if (!rc)
        rc = mix_rules_parse(o->mix, rules, why, why_size);
    if (!rc && o->lag >= o->window) {
        (void)snprintf(why, why_size, "lag: expected fewer samples than a window has");
        rc = -EINVAL;
    }
    if (!rc) {
        d->options = *o;
        d->options.labels = NULL;
        d->options.without = NULL;
        d->files = raw->files;
        d->skipped_files = raw->skipped_files;
        d->ambiguous_files = raw->ambiguous_files;
        d->bad_lines = raw->bad_lines;
        d->backward_lines = raw->backward_lines;
        rc = name_classes(d, rules, o, why, why_size);
    }
    if (!rc) {
        rc = mix_create(raw, rules, o->window, o->lag, &d->mix);
        raw = NULL;
    }
    missing = rc ? NULL : mix_missing(d->mix);
    if (missing && o->part == PART_TRAIN) {
        (void)snprintf(why, why_size, "rule %s: the traces have no run of this load", missing);
        rc = -EINVAL;
    }
    if (!rc)
        rc = add_days(d);
    free(rules);
    dataset_free(raw);
    if (rc)
        dataset_free(d);
    else
        *out = d;
    return rc;
}
