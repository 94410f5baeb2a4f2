/* truth.c - see truth.h: runs, stretches, the truth of a recording. Files are in truth_file.c. */
#include "inference/workshop/truth.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WH_PER_WMS (1.0 / 3600000.0)

/* --- rules --- */

void truth_rules_default(struct truth_rules *out)
{
    static const struct truth_rule shipped[] = {
        {"fridge", 50, 0, 60000, 60000},          {"washing_machine", 20, 150, 900000, 600000},
        {"dishwasher", 15, 500, 1800000, 900000}, {"microwave", 200, 400, 60000, 8000},
        {"ahu_*", 500, 0, 300000, 600000},         {"*", 15, 0, 30000, 8000},
    };
    memset(out, 0, sizeof *out);
    out->count = sizeof shipped / sizeof *shipped;
    memcpy(out->rules, shipped, sizeof shipped);
}

static int fits(const char *pattern, const char *name)
{
    size_t n = strlen(pattern);
    if (n > 0 && pattern[n - 1] == '*')
        return strncmp(pattern, name, n - 1) == 0;
    return strcmp(pattern, name) == 0;
}

const struct truth_rule *truth_rules_find(const struct truth_rules *rules, const char *name)
{
    for (size_t i = 0; i < rules->count; i++) {
        if (fits(rules->rules[i].name, name))
            return &rules->rules[i];
    }
    return NULL;
}

/* --- what a truth holds --- */

int truth_init(struct truth *t)
{
    memset(t, 0, sizeof *t);
    t->energy_wh = NAN;
    t->names = calloc(TRUTH_APPLIANCES_MAX, sizeof *t->names);
    return t->names ? 0 : -ENOMEM;
}

void truth_free(struct truth *t)
{
    free(t->names);
    free(t->runs);
    free(t->stretches);
    memset(t, 0, sizeof *t);
}

int truth_appliance(struct truth *t, const char *name, uint32_t *index)
{
    for (size_t i = 0; i < t->appliance_count; i++) {
        if (strcmp(t->names[i], name) == 0) {
            *index = (uint32_t)i;
            return 0;
        }
    }
    if (name[0] == '\0' || name[0] == '_' || strlen(name) >= TRUTH_NAME_BYTES ||
        t->appliance_count == TRUTH_APPLIANCES_MAX)
        return -EINVAL;
    strcpy(t->names[t->appliance_count], name);
    *index = (uint32_t)t->appliance_count++;
    return 0;
}

/* Room for one more of size bytes. */
static int grow(void **items, size_t count, size_t *room, size_t size)
{
    if (count < *room)
        return 0;
    size_t more = *room ? 2 * *room : 64;
    void *larger = realloc(*items, more * size);
    if (larger == NULL)
        return -ENOMEM;
    *items = larger;
    *room = more;
    return 0;
}

int truth_add(struct truth *t, const struct truth_run *run)
{
    void *items = t->runs;
    if (run->end_ms < run->start_ms || isinf(run->energy_wh) || isinf(run->peak_w))
        return -EINVAL;
    int rc = grow(&items, t->run_count, &t->run_room, sizeof *run);
    t->runs = items;
    if (rc == 0)
        t->runs[t->run_count++] = *run;
    return rc;
}

int truth_add_stretch(struct truth *t, const struct truth_stretch *stretch)
{
    void *items = t->stretches;
    if (stretch->end_ms < stretch->start_ms)
        return -EINVAL;
    int rc = grow(&items, t->stretch_count, &t->stretch_room, sizeof *stretch);
    t->stretches = items;
    if (rc == 0)
        t->stretches[t->stretch_count++] = *stretch;
    return rc;
}

static int by_run(const void *a, const void *b)
{
    const struct truth_run *x = a, *y = b;
    if (x->start_ms != y->start_ms)
        return x->start_ms < y->start_ms ? -1 : 1;
    return x->appliance < y->appliance ? -1 : x->appliance > y->appliance;
}

static int by_stretch(const void *a, const void *b)
{
    const struct truth_stretch *x = a, *y = b;
    return x->start_ms < y->start_ms ? -1 : x->start_ms > y->start_ms;
}

void truth_sort(struct truth *t)
{
    size_t kept = 0;
    if (t->run_count)
        qsort(t->runs, t->run_count, sizeof *t->runs, by_run);
    if (t->stretch_count == 0)
        return;
    qsort(t->stretches, t->stretch_count, sizeof *t->stretches, by_stretch);
    for (size_t i = 1; i < t->stretch_count; i++) {
        struct truth_stretch *last = &t->stretches[kept], *next = &t->stretches[i];
        if (next->start_ms > last->end_ms)
            t->stretches[++kept] = *next;
        else if (next->end_ms > last->end_ms)
            last->end_ms = next->end_ms;
    }
    t->stretch_count = kept + 1;
}

/* --- from readings --- */

int64_t truth_hold_ms(const struct truth_series *s, size_t i)
{
    int64_t hold = i + 1 < s->count ? s->t_ms[i + 1] - s->t_ms[i] : 0;
    return hold < TRUTH_HOLD_MS ? hold : TRUTH_HOLD_MS;
}

static int end_run(struct truth *t, struct truth_run *run, const struct truth_rule *rule)
{
    if (run->end_ms - run->start_ms < rule->shortest_ms || run->peak_w < rule->peak_w)
        return 0;
    return truth_add(t, run);
}

int truth_add_runs(struct truth *t, uint32_t appliance, const struct truth_series *s,
                   const struct truth_rule *rule)
{
    struct truth_run run = {0};
    double pause_wh = 0; /* used since the run was last above on_w */
    int open = 0, rc = 0;
    for (size_t i = 0; rc == 0 && i < s->count; i++) {
        int64_t hold = truth_hold_ms(s, i);
        double watts = (double)s->watts[i], wh = watts * (double)hold * WH_PER_WMS;
        if (open && s->t_ms[i] - run.end_ms > rule->bridge_ms) {
            rc = end_run(t, &run, rule);
            open = 0;
        }
        if (watts <= rule->on_w) {
            pause_wh += wh;
            continue;
        }
        if (!open)
            run = (struct truth_run){.appliance = appliance, .start_ms = s->t_ms[i]};
        run.energy_wh += open ? pause_wh + wh : wh;
        run.end_ms = s->t_ms[i] + hold;
        run.peak_w = watts > run.peak_w ? watts : run.peak_w;
        pause_wh = 0;
        open = 1;
    }
    return rc == 0 && open ? end_run(t, &run, rule) : rc;
}

static int add_margin(struct truth *t, int64_t from, int64_t to, enum truth_reason reason)
{
    struct truth_stretch s = {from - TRUTH_MARGIN_MS, to + TRUTH_MARGIN_MS, reason};
    return truth_add_stretch(t, &s);
}

int truth_add_mains(struct truth *t, const struct truth_series *mains)
{
    size_t first = 0; /* of equal readings */
    int rc = 0;
    if (mains->count == 0)
        return 0;
    t->start_ms = mains->t_ms[0];
    t->end_ms = mains->t_ms[mains->count - 1];
    t->energy_wh = 0;
    for (size_t i = 0; rc == 0 && i < mains->count; i++) {
        int last = i + 1 == mains->count;
        t->energy_wh += (double)mains->watts[i] * (double)truth_hold_ms(mains, i) * WH_PER_WMS;
        if (!last && mains->t_ms[i + 1] - mains->t_ms[i] > TRUTH_HOLD_MS)
            rc = add_margin(t, mains->t_ms[i], mains->t_ms[i + 1], TRUTH_GAP);
        if (!last && mains->watts[i + 1] == mains->watts[first])
            continue;
        if (rc == 0 && mains->t_ms[i] - mains->t_ms[first] > TRUTH_FLAT_MS)
            rc = add_margin(t, mains->t_ms[first], mains->t_ms[i], TRUTH_FLAT);
        first = i + 1;
    }
    /* What was on already, or still is, has no start or stop that could be found. */
    if (rc == 0)
        rc = add_margin(t, t->start_ms, t->start_ms, TRUTH_GAP);
    if (rc == 0)
        rc = add_margin(t, t->end_ms, t->end_ms, TRUTH_GAP);
    truth_sort(t);
    return rc;
}

int truth_of_recording(const char *paths, const struct truth_rules *rules, struct truth *out,
                       char *why, size_t why_size)
{
    char names[TRUTH_APPLIANCES_MAX + 1][TRUTH_NAME_BYTES];
    struct truth_series s = {0};
    size_t count;
    uint32_t index;
    int rc = truth_columns(paths, names, &count, why, why_size);
    if (rc == 0)
        rc = truth_series_read(paths, names[0], &s, why, why_size);
    if (rc == 0)
        rc = truth_add_mains(out, &s);
    for (size_t i = 1; rc == 0 && i < count; i++) {
        const struct truth_rule *rule = truth_rules_find(rules, names[i]);
        struct truth_series column = {0};
        rc = truth_appliance(out, names[i], &index);
        if (rc < 0)
            snprintf(why, why_size, "%s: column \"%s\" is no name of an appliance", paths,
                     names[i]);
        if (rc == 0)
            rc = truth_series_read(paths, names[i], &column, why, why_size);
        if (rc == 0 && rule)
            rc = truth_add_runs(out, index, &column, rule);
        truth_series_free(&column);
    }
    truth_series_free(&s);
    truth_sort(out);
    return rc;
}

/* --- what may be judged --- */

/* The first stretch that ends after t. */
static size_t stretch_after(const struct truth *t, int64_t t_ms)
{
    size_t low = 0, high = t->stretch_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (t->stretches[middle].end_ms <= t_ms)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int truth_is_scored(const struct truth *t, int64_t t_ms)
{
    size_t i = stretch_after(t, t_ms);
    if (t->end_ms > 0 && (t_ms < t->start_ms || t_ms >= t->end_ms))
        return 0;
    return i == t->stretch_count || t_ms < t->stretches[i].start_ms;
}

int64_t truth_scored_ms(const struct truth *t, int64_t from_ms, int64_t to_ms)
{
    if (t->end_ms > 0) {
        from_ms = from_ms > t->start_ms ? from_ms : t->start_ms;
        to_ms = to_ms < t->end_ms ? to_ms : t->end_ms;
    }
    int64_t total = to_ms > from_ms ? to_ms - from_ms : 0;
    for (size_t i = stretch_after(t, from_ms); i < t->stretch_count; i++) {
        int64_t a = t->stretches[i].start_ms, b = t->stretches[i].end_ms;
        a = a > from_ms ? a : from_ms;
        b = b < to_ms ? b : to_ms;
        if (a >= to_ms)
            break;
        total -= b > a ? b - a : 0;
    }
    return total > 0 ? total : 0;
}
