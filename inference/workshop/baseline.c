/* baseline.c - see baseline.h: the two methods. What they know is learned in baseline_levels.c. */
#include "inference/workshop/baseline.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define STEADY_W 15.0     /* readings this close to the mean of a steady state belong to it */
#define STEADY_SHARE 0.01 /* or this close, of its power */
#define STEADY_READINGS 3 /* fewer are a transient */
#define EDGE_W 20.0       /* smaller steps are noise */
#define SAME_W 35.0       /* Hart's tolerance of a pair's sizes: this, or a share of the step */
#define SAME_SHARE 0.1
#define LEVEL_SHARE 0.25 /* how far from an appliance's power a pair may be */
#define PAIR_MS 43200000 /* a pair may be this long */
#define OPEN_EDGES 64    /* steps up that wait for their end; the oldest goes */
#define SETS_MAX 65536u
#define BASE_QUANTILE 0.01

struct edge {
    size_t reading; /* the first of the new steady state, or of the transient before it */
    double watts;   /* signed */
};

/* What each appliance is thought to take at each reading of the mains. */
struct power {
    size_t readings;
    float *watts[BASELINE_APPLIANCES_MAX];
};

static int power_create(const struct truth_series *mains, const struct baseline_levels *levels,
                        struct power *p)
{
    *p = (struct power){.readings = mains->count};
    for (size_t a = 0; a < levels->count; a++) {
        p->watts[a] = calloc(mains->count + 1, sizeof **p->watts);
        if (p->watts[a] == NULL)
            return -ENOMEM;
    }
    return 0;
}

static void power_free(struct power *p)
{
    for (size_t a = 0; a < BASELINE_APPLIANCES_MAX; a++)
        free(p->watts[a]);
}

static int power_to_runs(const struct power *p, const struct truth_series *mains,
                         const struct baseline_levels *levels, struct truth *out)
{
    int rc = 0;
    for (size_t a = 0; rc == 0 && a < levels->count; a++) {
        struct truth_series s = {.count = mains->count, .t_ms = mains->t_ms, .watts = p->watts[a]};
        uint32_t index;
        rc = truth_appliance(out, levels->appliances[a].name, &index);
        if (rc == 0)
            rc = truth_add_runs(out, index, &s, &levels->appliances[a].rule);
    }
    truth_sort(out);
    return rc;
}

/* --- Hart --- */

/* The appliance whose power is nearest to a pair's, relatively; the count when none is near. */
static size_t nearest(const struct baseline_levels *levels, double watts)
{
    size_t best = levels->count;
    double least = log(1 + LEVEL_SHARE);
    for (size_t a = 0; a < levels->count; a++) {
        for (size_t l = 0; l < levels->appliances[a].level_count; l++) {
            double distance = fabs(log(watts / levels->appliances[a].watts[l]));
            if (distance < least) {
                least = distance;
                best = a;
            }
        }
    }
    return best;
}

/* A step down ends the latest step up of its size. */
static void close_pair(struct edge *open, size_t *count, const struct edge *down,
                       const struct truth_series *mains, const struct baseline_levels *levels,
                       struct power *p)
{
    for (size_t i = *count; i-- > 0;) {
        double watts = open[i].watts,
               near = watts * SAME_SHARE > SAME_W ? watts * SAME_SHARE : SAME_W;
        near = near < watts / 2 ? near : watts / 2;
        if (fabs(watts + down->watts) > near ||
            mains->t_ms[down->reading] - mains->t_ms[open[i].reading] > PAIR_MS)
            continue;
        double mean = (watts - down->watts) / 2;
        size_t a = nearest(levels, mean);
        for (size_t r = open[i].reading; a < levels->count && r < down->reading; r++)
            p->watts[a][r] += (float)mean;
        memmove(open + i, open + i + 1, (*count - i - 1) * sizeof *open);
        --*count;
        return;
    }
}

static void take_edge(struct edge *open, size_t *count, const struct edge *edge,
                      const struct truth_series *mains, const struct baseline_levels *levels,
                      struct power *p)
{
    if (edge->watts < 0) {
        close_pair(open, count, edge, mains, levels, p);
        return;
    }
    if (*count == OPEN_EDGES) {
        memmove(open, open + 1, (OPEN_EDGES - 1) * sizeof *open);
        --*count;
    }
    open[(*count)++] = *edge;
}

/* What takes more than the mains do has ended unseen. */
static void drop_impossible(struct edge *open, size_t *count, double mains_w)
{
    size_t kept = 0;
    for (size_t i = 0; i < *count; i++) {
        if (open[i].watts <= mains_w + SAME_W)
            open[kept++] = open[i];
    }
    *count = kept;
}

/* Walks the steady states: consecutive readings near their mean. */
static void find_pairs(const struct truth_series *mains, const struct baseline_levels *levels,
                       struct power *p)
{
    struct edge open[OPEN_EDGES];
    size_t open_count = 0, first = 0, steady_end = 0;
    double sum = 0, steady = NAN; /* power of the last steady state */
    for (size_t i = 0; i <= mains->count; i++) {
        size_t n = i - first;
        double mean = n ? sum / (double)n : 0;
        double near = fabs(mean) * STEADY_SHARE > STEADY_W ? fabs(mean) * STEADY_SHARE : STEADY_W;
        if (i < mains->count && (n == 0 || fabs((double)mains->watts[i] - mean) <= near)) {
            sum += (double)mains->watts[i];
            continue;
        }
        if (n >= STEADY_READINGS) {
            struct edge edge = {steady_end, mean - steady};
            if (!isnan(steady) && fabs(edge.watts) >= EDGE_W)
                take_edge(open, &open_count, &edge, mains, levels, p);
            drop_impossible(open, &open_count, mean);
            steady = mean;
            steady_end = i;
        }
        first = i;
        sum = i < mains->count ? (double)mains->watts[i] : 0;
    }
}

int baseline_hart(const struct truth_series *mains, const struct baseline_levels *levels,
                  struct truth *out)
{
    struct power p;
    int rc = power_create(mains, levels, &p);
    if (rc == 0) {
        find_pairs(mains, levels, &p);
        rc = power_to_runs(&p, mains, levels, out);
    }
    power_free(&p);
    return rc;
}

/* --- combinatorial optimisation --- */

struct set {
    double watts;
    uint8_t level[BASELINE_APPLIANCES_MAX]; /* 0: off, else index + 1 */
};

static int by_watts(const void *a, const void *b)
{
    const struct set *x = a, *y = b;
    return x->watts < y->watts ? -1 : x->watts > y->watts;
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

/* Every set of powers, by their sum. */
static int make_sets(const struct baseline_levels *levels, struct set **out, size_t *count)
{
    size_t n = 1;
    for (size_t a = 0; a < levels->count; a++) {
        n *= levels->appliances[a].level_count + 1;
        if (n > SETS_MAX)
            return -EINVAL;
    }
    struct set *sets = calloc(n, sizeof *sets);
    if (sets == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        size_t rest = i;
        for (size_t a = 0; a < levels->count; a++) {
            size_t states = levels->appliances[a].level_count + 1;
            sets[i].level[a] = (uint8_t)(rest % states);
            rest /= states;
            if (sets[i].level[a])
                sets[i].watts += levels->appliances[a].watts[sets[i].level[a] - 1];
        }
    }
    qsort(sets, n, sizeof *sets, by_watts);
    *out = sets;
    *count = n;
    return 0;
}

static const struct set *nearest_set(const struct set *sets, size_t count, double watts)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (sets[middle].watts < watts)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == count || (low > 0 && watts - sets[low - 1].watts < sets[low].watts - watts))
        low--;
    return &sets[low];
}

static int base_load(const struct truth_series *mains, double *out)
{
    float *sorted = malloc(mains->count * sizeof *sorted);
    if (sorted == NULL)
        return -ENOMEM;
    memcpy(sorted, mains->watts, mains->count * sizeof *sorted);
    qsort(sorted, mains->count, sizeof *sorted, by_value);
    *out = (double)sorted[(size_t)((double)mains->count * BASE_QUANTILE)];
    free(sorted);
    return 0;
}

int baseline_combinatorial(const struct truth_series *mains, const struct baseline_levels *levels,
                           struct truth *out)
{
    struct power p;
    struct set *sets = NULL;
    size_t count = 0;
    double base = 0;
    int rc = power_create(mains, levels, &p);
    if (rc == 0)
        rc = make_sets(levels, &sets, &count);
    if (rc == 0)
        rc = base_load(mains, &base);
    for (size_t i = 0; rc == 0 && i < mains->count; i++) {
        const struct set *s = nearest_set(sets, count, (double)mains->watts[i] - base);
        for (size_t a = 0; a < levels->count; a++) {
            if (s->level[a])
                p.watts[a][i] = (float)levels->appliances[a].watts[s->level[a] - 1];
        }
    }
    if (rc == 0)
        rc = power_to_runs(&p, mains, levels, out);
    free(sets);
    power_free(&p);
    return rc;
}
