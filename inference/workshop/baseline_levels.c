/* baseline_levels.c - the powers at which appliances run, from recordings (baseline.h). */
#include "inference/workshop/baseline.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BINS 512
#define BIN_RATIO 1.02 /* 5 W to 126 kW */
#define BIN_LOW_W 5.0
#define ROUNDS 50
#define SAME_LEVEL 1.3  /* centres closer than this are one */
#define LEAST_SHARE 0.1 /* of the energy: rarer centres are left out */
#define FILES_MAX 60    /* days of a class that are looked at, spread over all */
#define PATH_BYTES 4096

/* Energy used at each power, in runs. */
struct histogram {
    double energy[BINS];
};

static double bin_log(size_t bin)
{
    return log(BIN_LOW_W) + ((double)bin + 0.5) * log(BIN_RATIO);
}

static int add_series(struct histogram *h, const struct truth_series *s,
                      const struct truth_rule *rule)
{
    struct truth runs;
    size_t i = 0;
    int rc = truth_init(&runs);
    if (rc == 0)
        rc = truth_add_runs(&runs, 0, s, rule);
    for (size_t r = 0; rc == 0 && r < runs.run_count; r++) {
        while (i < s->count && s->t_ms[i] < runs.runs[r].start_ms)
            i++;
        for (; i < s->count && s->t_ms[i] < runs.runs[r].end_ms; i++) {
            double watts = (double)s->watts[i];
            if (watts <= rule->on_w || watts < BIN_LOW_W)
                continue;
            size_t bin = (size_t)(log(watts / BIN_LOW_W) / log(BIN_RATIO));
            h->energy[bin < BINS ? bin : BINS - 1] += watts * (double)truth_hold_ms(s, i);
        }
    }
    truth_free(&runs);
    return rc;
}

/* The power (logarithm) below which a share of the energy lies. */
static double quantile(const struct histogram *h, double total, double share)
{
    double sum = 0;
    for (size_t i = 0; i < BINS; i++) {
        sum += h->energy[i];
        if (sum >= total * share)
            return bin_log(i);
    }
    return bin_log(BINS - 1);
}

/* k-means in one dimension (Lloyd 1957) on the logarithm. weight: share of the energy. */
static void cluster(const struct histogram *h, double total, double *centre, double *weight)
{
    static const double shares[BASELINE_LEVELS_MAX] = {0.1, 0.5, 0.9};
    for (size_t k = 0; k < BASELINE_LEVELS_MAX; k++)
        centre[k] = quantile(h, total, shares[k]);
    for (int round = 0; round < ROUNDS; round++) {
        double sum[BASELINE_LEVELS_MAX] = {0}, energy[BASELINE_LEVELS_MAX] = {0};
        for (size_t i = 0; i < BINS; i++) {
            size_t best = 0;
            for (size_t k = 1; k < BASELINE_LEVELS_MAX; k++) {
                if (fabs(centre[k] - bin_log(i)) < fabs(centre[best] - bin_log(i)))
                    best = k;
            }
            sum[best] += h->energy[i] * bin_log(i);
            energy[best] += h->energy[i];
        }
        for (size_t k = 0; k < BASELINE_LEVELS_MAX; k++) {
            centre[k] = energy[k] > 0 ? sum[k] / energy[k] : centre[k];
            weight[k] = energy[k] / total;
        }
    }
}

static int by_power(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static int take_levels(const struct histogram *h, struct baseline_appliance *a)
{
    double centre[BASELINE_LEVELS_MAX], weight[BASELINE_LEVELS_MAX], total = 0;
    for (size_t i = 0; i < BINS; i++)
        total += h->energy[i];
    if (total <= 0)
        return -ENODATA;
    cluster(h, total, centre, weight);
    a->level_count = 0;
    for (size_t k = 0; k < BASELINE_LEVELS_MAX; k++) {
        if (weight[k] >= LEAST_SHARE)
            a->watts[a->level_count++] = exp(centre[k]);
    }
    qsort(a->watts, a->level_count, sizeof *a->watts, by_power);
    for (size_t k = 1; k < a->level_count;) {
        if (a->watts[k] / a->watts[k - 1] >= SAME_LEVEL) {
            k++;
            continue;
        }
        a->watts[k - 1] = sqrt(a->watts[k - 1] * a->watts[k]);
        memmove(a->watts + k, a->watts + k + 1, (a->level_count - k - 1) * sizeof *a->watts);
        a->level_count--;
    }
    return 0;
}

/* --- what is read --- */

static int add_column(const char *paths, const char *column, const struct truth_rule *rule,
                      struct histogram *h, char *why, size_t why_size)
{
    struct truth_series s;
    int rc = truth_series_read(paths, column, &s, why, why_size);
    if (rc == 0)
        rc = add_series(h, &s, rule);
    truth_series_free(&s);
    return rc;
}

static int is_csv(const struct dirent *entry)
{
    size_t n = strlen(entry->d_name);
    return n > 4 && strcmp(entry->d_name + n - 4, ".csv") == 0;
}

/* Days of one class; a file that cannot be read is passed over, as in training. */
static int add_class(const char *folder, const char *class, const struct truth_rule *rule,
                     struct histogram *h, char *why, size_t why_size)
{
    char place[PATH_BYTES], path[PATH_BYTES];
    struct dirent **names = NULL;
    struct stat status;
    int n = snprintf(place, sizeof place, "%s/complete/%s", folder, class), rc = 0;
    if (n > 0 && (size_t)n < sizeof place && stat(place, &status) != 0)
        n = snprintf(place, sizeof place, "%s/%s", folder, class);
    int count = n > 0 && (size_t)n < sizeof place ? scandir(place, &names, is_csv, alphasort) : -1;
    if (count <= 0) {
        snprintf(why, why_size, "%s: expected a folder \"%s\" with CSV files", folder, class);
        free(names);
        return -ENOENT;
    }
    for (int i = 0; i < count; i++) {
        if (rc == 0 && (count <= FILES_MAX || (i * FILES_MAX) % count < FILES_MAX)) {
            n = snprintf(path, sizeof path, "%s/%s", place, names[i]->d_name);
            rc = n > 0 && (size_t)n < sizeof path ? add_column(path, NULL, rule, h, why, why_size)
                                                  : -ENAMETOOLONG;
            rc = rc == -ENOMEM ? rc : 0;
        }
        free(names[i]);
    }
    free(names);
    return rc;
}

static int learn_one(const char *path, int folder, const char *from, const char *name,
                     const struct truth_rules *rules, struct baseline_levels *out, char *why,
                     size_t why_size)
{
    struct histogram h = {0};
    if (out->count == BASELINE_APPLIANCES_MAX || strlen(name) >= TRUTH_NAME_BYTES) {
        snprintf(why, why_size,
                 "%s: expected at most %u appliances, with names of at most %u bytes", name,
                 BASELINE_APPLIANCES_MAX, TRUTH_NAME_BYTES - 1);
        return -EINVAL;
    }
    struct baseline_appliance *a = &out->appliances[out->count];
    const struct truth_rule *rule = truth_rules_find(rules, name);
    *a = (struct baseline_appliance){.rule = *rule};
    snprintf(a->name, sizeof a->name, "%s", name);
    int rc = folder ? add_class(path, from, rule, &h, why, why_size)
                    : add_column(path, from, rule, &h, why, why_size);
    if (rc == 0)
        rc = take_levels(&h, a);
    if (rc == -ENODATA) {
        snprintf(why, why_size, "%s: \"%s\" never runs there by its rule", path, from);
        return rc;
    }
    out->count += rc == 0;
    return rc;
}

int baseline_learn(const char *path, const char *names, const struct truth_rules *rules,
                   struct baseline_levels *out, char *why, size_t why_size)
{
    char columns[TRUTH_APPLIANCES_MAX + 1][TRUTH_NAME_BYTES];
    struct stat status;
    size_t count = 0;
    int rc = 0, folder = stat(path, &status) == 0 && S_ISDIR(status.st_mode);
    memset(out, 0, sizeof *out);
    if (names == NULL && folder) {
        snprintf(why, why_size, "%s: a folder needs the names of the classes wanted", path);
        return -EINVAL;
    }
    if (names == NULL) {
        rc = truth_columns(path, columns, &count, why, why_size);
        for (size_t i = 1; rc == 0 && i < count; i++)
            rc = learn_one(path, 0, columns[i], columns[i], rules, out, why, why_size);
        return rc;
    }
    char *copy = strdup(names), *rest = copy;
    rc = copy ? 0 : -ENOMEM;
    for (char *from; rc == 0 && (from = strsep(&rest, ",")) != NULL;) {
        char *to = strchr(from, '=');
        if (to)
            *to++ = '\0';
        rc = learn_one(path, folder, from, to ? to : from, rules, out, why, why_size);
    }
    free(copy);
    return rc;
}
