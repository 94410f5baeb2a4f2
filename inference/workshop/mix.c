/* mix.c - loads out of traces, and windows out of loads. */
#include "inference/workshop/mix.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/mix_private.h"

#define STREAM (UINT64_C(0x6d) << 56) /* of random numbers: apart from the training's own */

/* --- what there is to draw --- */

/* A class without a rule is a load when it is this much, like anything plugged in. */
static const struct mix_rule anything = {
    .on = 8.0f, .gap = 60.0f, .run = 8.0f, .peak = 15.0f, .level = 0.5f, .stretch = 0.5f};

static uint32_t output_of(const struct mix_rules *rules, const char *label)
{
    for (uint32_t i = 0; i < rules->count; i++)
        for (uint32_t k = 0; k < rules->rules[i].source_count; k++)
            if (!strcmp(rules->rules[i].sources[k], label))
                return i;
    return MIX_UNKNOWN;
}

/* A run on its way to its place. */
struct found {
    struct mix_run run;
    uint32_t kind;
    const char *key;
};

static int by_kind_and_device(const void *a, const void *b)
{
    const struct found *x = a, *y = b;

    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    if (strcmp(x->key, y->key) != 0)
        return strcmp(x->key, y->key);
    if (x->run.trace != y->run.trace)
        return x->run.trace < y->run.trace ? -1 : 1;
    return (x->run.start > y->run.start) - (x->run.start < y->run.start);
}

/* The runs of one trace, appended. */
static int find_runs(struct mix *m, uint32_t trace, uint32_t kind, struct found **found,
                     size_t *count)
{
    const struct dataset_trace *t = &m->raw->traces[trace];
    const uint32_t output = output_of(&m->rules, m->raw->labels[t->label]);
    const struct mix_rule *rule = output == MIX_UNKNOWN ? &anything : &m->rules.rules[output];
    struct found *more;
    uint32_t runs;

    m->on[trace] = malloc(t->count + 1u);
    if (!m->on[trace])
        return -ENOMEM;
    for (uint32_t i = 0; i < t->count; i++)
        m->highest[trace] = t->watts[i] > m->highest[trace] ? t->watts[i] : m->highest[trace];
    runs = mix_rules_runs(rule, t->watts, t->count, m->period_ms, m->on[trace]);
    more = realloc(*found, (*count + runs + 1) * sizeof(*more));
    if (!more)
        return -ENOMEM;
    *found = more;
    for (uint32_t i = 0; i < t->count; i++) {
        uint32_t start = i;
        while (i < t->count && m->on[trace][i])
            i++;
        if (i > start)
            more[(*count)++] = (struct found){{trace, start, i}, kind, t->key};
    }
    return 0;
}

/* Number of the class among those without a rule, behind the outputs. */
static uint32_t kind_of(const struct mix *m, uint32_t label)
{
    uint32_t output = output_of(&m->rules, m->raw->labels[label]), number = m->rules.count;

    for (uint32_t c = 0; c < label; c++)
        number += output_of(&m->rules, m->raw->labels[c]) == MIX_UNKNOWN;
    return output == MIX_UNKNOWN ? number : output;
}

/* Runs in order become kinds, devices and runs. */
static int sort_runs(struct mix *m, struct found *found, size_t count)
{
    qsort(found, count, sizeof(*found), by_kind_and_device);
    m->runs = malloc((count + 1) * sizeof(*m->runs));
    m->devices = calloc(count + 1, sizeof(*m->devices));
    m->kinds = calloc(m->rules.count + m->raw->class_count + 1u, sizeof(*m->kinds));
    if (!m->runs || !m->devices || !m->kinds)
        return -ENOMEM;
    for (m->kind_count = 0; m->kind_count < m->rules.count; m->kind_count++)
        m->kinds[m->kind_count] =
            (struct mix_kind){.output = m->kind_count,
                              .level = m->rules.rules[m->kind_count].level,
                              .stretch = m->rules.rules[m->kind_count].stretch};
    for (size_t i = 0; i < count; i++) {
        const int new_kind = i == 0 || found[i].kind != found[i - 1].kind;
        if (new_kind && found[i].kind >= m->rules.count)
            m->kinds[m->kind_count++] = (struct mix_kind){
                .output = MIX_UNKNOWN, .level = anything.level, .stretch = anything.stretch};
        struct mix_kind *kind =
            &m->kinds[found[i].kind < m->rules.count ? found[i].kind : m->kind_count - 1];
        if (new_kind)
            kind->first = m->device_count;
        if (new_kind || strcmp(found[i].key, found[i - 1].key) != 0) {
            m->devices[m->device_count++].first = (uint32_t)i;
            kind->count++;
        }
        m->devices[m->device_count - 1].count++;
        m->runs[m->run_count++] = found[i].run;
    }
    return 0;
}

int mix_create(struct dataset *raw, const struct mix_rules *rules, uint32_t window, uint32_t lag,
               struct mix **out)
{
    struct mix *m = calloc(1, sizeof(*m));
    struct found *found = NULL;
    size_t count = 0;
    int rc = m ? 0 : -ENOMEM;

    *out = NULL;
    if (rc) {
        dataset_free(raw);
        return rc;
    }
    *m = (struct mix){.raw = raw,
                      .rules = *rules,
                      .window = window,
                      .lag = lag,
                      .period_ms = raw->options.period_ms,
                      .on = calloc(raw->trace_count + 1, sizeof(*m->on)),
                      .highest = calloc(raw->trace_count + 1, sizeof(*m->highest))};
    if (!m->on || !m->highest)
        rc = -ENOMEM;
    for (uint32_t t = 0; t < raw->trace_count && !rc; t++)
        rc = find_runs(m, t, kind_of(m, raw->traces[t].label), &found, &count);
    if (!rc)
        rc = sort_runs(m, found, count);
    free(found);
    if (rc)
        mix_free(m);
    else
        *out = m;
    return rc;
}

void mix_free(struct mix *m)
{
    if (!m)
        return;
    for (size_t t = 0; m->on && t < m->raw->trace_count; t++)
        free(m->on[t]);
    dataset_free(m->raw);
    free(m->on);
    free(m->highest);
    free(m->runs);
    free(m->devices);
    free(m->kinds);
    free(m);
}

const struct dataset *mix_raw(const struct mix *m)
{
    return m->raw;
}

const char *mix_missing(const struct mix *m)
{
    for (uint32_t i = 0; i < m->rules.count; i++)
        if (!m->kinds[i].count)
            return m->rules.rules[i].name;
    return NULL;
}

/* --- a load in a sum --- */

/* Adds the load to watts [count]. Returns whether it is on at sample `label`. */
static int lay(const struct mix *m, const struct mix_load *l, float *watts, uint32_t count,
               uint32_t label)
{
    const struct dataset_trace *trace = &m->raw->traces[l->trace];
    const uint8_t *on = m->on[l->trace];
    const double steps[2] = {1.0 / l->off, 1.0 / l->on};
    double at = l->at;
    int seen = 0;

    for (uint32_t t = l->place; t < count && at < (double)trace->count; t++) {
        const uint32_t i = (uint32_t)at;
        watts[t] += trace->watts[i] * (l->level + l->slope * trace->watts[i]);
        seen |= on[i] && t == label;
        at += steps[on[i]];
    }
    at = l->at;
    for (uint32_t t = l->place; t > 0; t--) {
        at -= steps[on[(uint32_t)at]];
        if (at < 0.0)
            break;
        const uint32_t i = (uint32_t)at;
        watts[t - 1] += trace->watts[i] * (l->level + l->slope * trace->watts[i]);
        seen |= on[i] && t - 1 == label;
    }
    return seen;
}

/* --- windows --- */

#define ANCHORED 0.6   /* of the loads have the labelled sample in or near a run */
#define NEAR 6.0       /* samples before and behind a run that are near it ... */
#define NEAR_SHARE 0.2 /* ... and this part of the run */
#define MOST_LOADS 7u  /* with an output ... */
#define MOST_OTHERS 5u /* ... without one ... */
#define MOST_MADE 3u   /* ... and that never were: fewer than so many each */

static double stretch_of(struct net_random *r, float by)
{
    return (double)mix_between(r, 1.0f / (1.0f + by), 1.0f + by);
}

/* A load of the kind, at a place of the window, varied. */
static struct mix_load draw_load(const struct mix *m, const struct mix_kind *k,
                                 struct net_random *r)
{
    const struct mix_device *d = &m->devices[k->first + net_random_below(r, k->count)];
    const struct mix_run *run = &m->runs[d->first + net_random_below(r, d->count)];
    struct mix_load l = {.trace = run->trace, .place = m->window - m->lag};
    const double length = run->end - run->start, near = NEAR + NEAR_SHARE * length;
    float low, high;

    if (!mix_happens(r, ANCHORED))
        l.place = net_random_below(r, m->window + 1);
    l.at = run->start - near + net_random_unit(r) * (length + 2.0 * near);
    if (l.at < 0.0 || l.at >= (double)m->raw->traces[run->trace].count)
        l.at = run->start + net_random_unit(r) * length;
    l.on = stretch_of(r, k->stretch);
    l.off = stretch_of(r, k->stretch);
    /* what is low and what is high in a program, apart: a heater of 2 kW beside a motor of 150 W */
    low = mix_between(r, 1.0f / (1.0f + k->level), 1.0f + k->level);
    high = mix_happens(r, 0.5) ? low : mix_between(r, 1.0f / (1.0f + k->level), 1.0f + k->level);
    l.level = low;
    l.slope = m->highest[run->trace] > 0.0f ? (high - low) / m->highest[run->trace] : 0.0f;
    return l;
}

uint32_t mix_window(const struct mix *m, uint64_t seed, uint64_t step, uint32_t index, float *watts)
{
    struct net_random r = net_random_stream(seed ^ STREAM, step, index);
    const uint32_t count = m->window + 1, label = m->window - m->lag, outputs = m->rules.count;
    uint32_t on = 0,
             loads[3] = {net_random_below(&r, MOST_LOADS + 1), net_random_below(&r, MOST_OTHERS),
                         net_random_below(&r, MOST_MADE)};

    memset(watts, 0, count * sizeof(*watts));
    mix_base(m->period_ms, &r, watts, count);
    if (m->kinds[0].count && mix_happens(&r, MIX_OFTEN)) {
        struct mix_load l = draw_load(m, &m->kinds[0], &r);
        on |= lay(m, &l, watts, count, label) ? 1u : 0u;
    }
    for (uint32_t i = 0; i < loads[0]; i++) {
        const struct mix_kind *k = &m->kinds[net_random_below(&r, outputs)];
        if (!k->count)
            continue;
        struct mix_load l = draw_load(m, k, &r);
        on |= lay(m, &l, watts, count, label) ? UINT32_C(1) << k->output : 0u;
    }
    for (uint32_t i = 0; i < loads[1] && m->kind_count > outputs; i++) {
        struct mix_load l =
            draw_load(m, &m->kinds[outputs + net_random_below(&r, m->kind_count - outputs)], &r);
        (void)lay(m, &l, watts, count, label);
    }
    for (uint32_t i = 0; i < loads[2]; i++)
        mix_invent(m->period_ms, &r, watts, count);
    mix_meter(m->period_ms, &r, watts, count);
    return on;
}
