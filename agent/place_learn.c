/* place_learn.c - prototypes from a person's list. */
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/place_house_impl.h"

#define NEAR_MS 15000        /* a submeter's clock and a person's are so far off */
#define BEFORE_MS 60000      /* a group may begin so long before what a person says */
#define LEVEL_SAME 0.12f     /* logarithm: the same height */
#define LEVEL_FIRST 5.5f     /* of heights that are tried: 245 W ... */
#define LEVEL_LAST 9.5f      /* ... 13 kW */
#define LEVEL_ROUNDS 3       /* of moving to the middle of those that have it */
#define LEVEL_STEP 0.01f     /* by 1 % */
#define OTHERS 0.05          /* a pulse of that height at another time speaks so much against it */
#define MOST_EARLY_MS 60000  /* of pulses */
#define LEAST_EARLY_MS 30000 /* of runs that the network finds: less is not worth it */
#define SCATTER 0.1          /* of a run: where they scatter more, there is no usual lateness */
#define LEAST_OVERLAP 0.3    /* of what a person says: what was found is it */
#define LEAST_SHARE 0.4      /* of the lower quartile of what was found: shorter ones are none */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, by_value);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/* ---- pulses ---- */

struct heights {   /* of pulses in runs that were said, and of all others */
    float *level;  /* logarithms [count] */
    double *share; /* of the run's energy in pulses; negative: in no run */
    size_t *run;
    size_t count;
};

static int is_in(const struct place_pulse *p, const struct place_said *run)
{
    return p->start_ms <= run->end_ms + NEAR_MS && p->end_ms >= run->start_ms - NEAR_MS;
}

static double energy(const struct place_pulse *p)
{
    return (double)p->watts * (double)(p->end_ms - p->start_ms);
}

/* Index of the first pulse that ends at t_ms or later; they are in the order of their ends. */
static size_t first_from(const struct place_pulse *pulses, size_t count, int64_t t_ms)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (pulses[middle].end_ms < t_ms)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Entries of one run: its pulses end within it, or up to the longest pulse behind it. */
static void note_run(const struct place_pulse *pulses, size_t count, const struct place_said *run,
                     size_t number, char *inside, struct heights *h, size_t room)
{
    const size_t first = first_from(pulses, count, run->start_ms - NEAR_MS), was = h->count;
    double total = 0;
    for (size_t i = first; i < count && h->count < room; i++) {
        if (pulses[i].end_ms > run->end_ms + NEAR_MS + PLACE_PULSE_MOST_MS)
            break;
        if (!is_in(&pulses[i], run))
            continue;
        inside[i] = 1;
        h->level[h->count] = logf(pulses[i].watts);
        h->share[h->count] = energy(&pulses[i]);
        h->run[h->count++] = number;
        total += energy(&pulses[i]);
    }
    for (size_t i = was; i < h->count; i++)
        h->share[i] /= total > 0 ? total : 1;
}

static void free_heights(struct heights *h)
{
    free(h->level);
    free(h->share);
    free(h->run);
}

/* 0 or -ENOMEM. */
static int take_heights(const struct place_pulse *pulses, size_t count,
                        const struct place_said *said, size_t said_count, struct heights *h)
{
    const size_t room = 4 * count + 1; /* runs of a list hardly overlap */
    char *inside = calloc(count + 1, 1);
    *h = (struct heights){calloc(room + count, sizeof *h->level),
                          calloc(room + count, sizeof *h->share),
                          calloc(room + count, sizeof *h->run), 0};
    if (!inside || !h->level || !h->share || !h->run) {
        free(inside);
        free_heights(h);
        return -ENOMEM;
    }
    for (size_t i = 0; i < said_count; i++)
        note_run(pulses, count, &said[i], i, inside, h, room);
    for (size_t i = 0; i < count; i++) {
        if (inside[i])
            continue;
        h->level[h->count] = logf(pulses[i].watts);
        h->share[h->count++] = -1;
    }
    free(inside);
    return 0;
}

/* How much of the runs' pulses has this height, against how common it is elsewhere. *with: runs
 * that have such a pulse. */
static double judge(const struct heights *h, float level, size_t *with)
{
    double score = 0;
    size_t last = SIZE_MAX;
    *with = 0;
    for (size_t i = 0; i < h->count; i++) {
        if (fabsf(h->level[i] - level) >= LEVEL_SAME)
            continue;
        score += h->share[i] < 0 ? -OTHERS : h->share[i];
        if (h->share[i] >= 0 && h->run[i] != last) {
            (*with)++;
            last = h->run[i];
        }
    }
    return score;
}

/* Median over runs of that height; of each run, its largest. */
static float centre(const struct heights *h, float level, double *room)
{
    size_t n = 0, last = SIZE_MAX;
    double most = 0;
    for (size_t i = 0; i < h->count; i++) {
        if (h->share[i] < 0 || fabsf(h->level[i] - level) >= LEVEL_SAME)
            continue;
        if (h->run[i] != last) {
            n++;
            most = -1;
        }
        last = h->run[i];
        if (h->share[i] > most) {
            most = h->share[i];
            room[n - 1] = (double)h->level[i];
        }
    }
    return n ? (float)median(room, n) : level;
}

/* The height of most of the runs. room [said_count]. 0: less than half of them have one. */
static float find_level(const struct heights *h, size_t said_count, double *room)
{
    double best = -INFINITY;
    float best_level = 0;
    size_t with = 0;
    for (float level = LEVEL_FIRST; level < LEVEL_LAST; level += LEVEL_STEP) {
        size_t runs;
        double score = judge(h, level, &runs);
        if (runs < PLACE_HOUSE_LEAST || score <= best)
            continue;
        best = score;
        best_level = level;
        with = runs;
    }
    if (2 * with < said_count || with < PLACE_HOUSE_LEAST)
        return 0;
    for (int i = 0; i < LEVEL_ROUNDS; i++)
        best_level = centre(h, best_level, room);
    return expf(best_level);
}

struct groups {
    struct place_group *all;
    size_t count;
};

/* All groups of that height. 0 or -ENOMEM. */
static int collect(const struct place_pulse *pulses, size_t count, float level_w,
                   struct groups *out)
{
    struct place_pulse recent[PLACE_HOUSE_RECENT];
    struct place_group g, done;
    int32_t recent_count = 0;
    memset(&g, 0, sizeof g);
    out->count = 0;
    out->all = calloc(count + 1, sizeof *out->all);
    if (!out->all)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        if (place_group_over(&g, pulses[i].end_ms)) {
            out->all[out->count++] = g;
            memset(&g, 0, sizeof g);
        }
        if (place_group_push(&g, level_w, recent, (size_t)recent_count, &pulses[i], &done))
            out->all[out->count++] = done;
        place_recent_add(recent, &recent_count, &pulses[i]);
    }
    if (g.pulses)
        out->all[out->count++] = g;
    return 0;
}

/* The group that a person means; -1: none. */
static int match(const struct groups *g, const struct place_said *run)
{
    int best = -1;
    int64_t least = INT64_MAX;
    for (size_t i = 0; i < g->count; i++) {
        int64_t away = g->all[i].start_ms - run->start_ms;
        if (away < -BEFORE_MS || g->all[i].start_ms > run->end_ms + NEAR_MS)
            continue;
        away = away < 0 ? -away : away;
        if (away < least) {
            least = away;
            best = (int)i;
        }
    }
    return best;
}

static double like_rights(const struct place_proto *p, const struct place_trait *t)
{
    double sum = 0;
    for (int i = 0; i < p->right; i++)
        sum += place_trait_like(t, &p->rights[i]);
    return sum;
}

/* Of groups that were not it those that are most like it are kept. */
static void add_wrong(struct place_proto *p, const struct place_trait *t)
{
    int at = p->wrong, worst = 0;
    if (at < PLACE_HOUSE_WRONG) {
        p->wrongs[p->wrong++] = *t;
        return;
    }
    for (int i = 1; i < p->wrong; i++)
        if (like_rights(p, &p->wrongs[i]) < like_rights(p, &p->wrongs[worst]))
            worst = i;
    if (like_rights(p, t) > like_rights(p, &p->wrongs[worst]))
        p->wrongs[worst] = *t;
}

/* The oldest goes. */
static void add_right(struct place_proto *p, const struct place_trait *t)
{
    if (p->right == PLACE_HOUSE_RIGHT)
        memmove(p->rights, p->rights + 1, (size_t)--p->right * sizeof p->rights[0]);
    p->rights[p->right++] = *t;
}

static int learn_pulses(const struct place_pulse *pulses, size_t pulse_count,
                        const struct place_said *said, size_t said_count, struct place_proto *out)
{
    struct groups g = {.all = NULL};
    struct heights h;
    double *room = calloc(said_count + 1, sizeof *room);
    char *right = NULL;
    struct place_trait t;
    size_t n = 0;
    int rc = room ? take_heights(pulses, pulse_count, said, said_count, &h) : -ENOMEM;
    if (rc == 0) {
        out->level_w = find_level(&h, said_count, room);
        free_heights(&h);
        rc = out->level_w > 0 ? collect(pulses, pulse_count, out->level_w, &g) : -ENODATA;
    }
    if (rc == 0 && (right = calloc(g.count + 1, 1)) == NULL)
        rc = -ENOMEM;
    for (size_t i = 0; rc == 0 && i < said_count; i++) {
        int k = match(&g, &said[i]);
        if (k < 0 || right[k])
            continue;
        right[k] = 1;
        room[n++] = (double)(g.all[k].start_ms - said[i].start_ms);
        place_group_trait(&g.all[k], &t);
        add_right(out, &t);
    }
    for (size_t i = 0; rc == 0 && i < g.count; i++) {
        place_group_trait(&g.all[i], &t);
        if (!right[i])
            add_wrong(out, &t);
    }
    if (rc == 0 && n < PLACE_HOUSE_LEAST)
        rc = -ENODATA;
    if (rc == 0) {
        out->pulses = 1;
        out->weight = (float)n / (float)out->right;
        out->early_ms = (int32_t)fmax(fmin(median(room, n), MOST_EARLY_MS), -(double)MOST_EARLY_MS);
    }
    free(right);
    free(g.all);
    free(room);
    return rc;
}

/* ---- runs that the network finds ---- */

/* What was found of a run; NULL: too little. */
static const struct place_said *found_of(const struct place_said *found, size_t count,
                                         const struct place_said *run)
{
    const struct place_said *best = NULL;
    double most = LEAST_OVERLAP * (double)(run->end_ms - run->start_ms);
    for (size_t i = 0; i < count; i++) {
        int64_t from = found[i].start_ms > run->start_ms ? found[i].start_ms : run->start_ms;
        int64_t to = found[i].end_ms < run->end_ms ? found[i].end_ms : run->end_ms;
        if ((double)(to - from) > most) {
            most = (double)(to - from);
            best = &found[i];
        }
    }
    return best;
}

static int learn_found(const struct place_said *said, size_t said_count,
                       const struct place_said *found, size_t found_count,
                       const struct place_proto *before, struct place_proto *out)
{
    double *late = calloc(3 * said_count + 1, sizeof *late), *length, *took;
    size_t n = 0;
    if (!late)
        return -ENOMEM;
    length = late + said_count;
    took = length + said_count;
    for (size_t i = 0; i < said_count; i++) {
        const struct place_said *f = found_of(found, found_count, &said[i]);
        if (!f)
            continue;
        int32_t was = before && f->start_ms >= before->since_ms ? before->early_ms : 0;
        late[n] = (double)(f->start_ms - said[i].start_ms + was);
        length[n] = (double)(said[i].end_ms - said[i].start_ms);
        took[n++] = (double)(f->end_ms - f->start_ms);
    }
    if (n >= PLACE_HOUSE_LEAST) {
        const double usual = median(late, n), scatter = SCATTER * median(length, n);
        for (size_t i = 0; i < n; i++)
            late[i] = fabs(late[i] - usual);
        if (fabs(usual) >= LEAST_EARLY_MS && fabs(usual) < 86400000 && median(late, n) <= scatter)
            out->early_ms = (int32_t)usual;
        qsort(took, n, sizeof *took, by_value);
        out->least_s = (int32_t)fmin(LEAST_SHARE * took[n / 4] / 1000, 86399);
    }
    free(late);
    return n >= PLACE_HOUSE_LEAST ? 0 : -ENODATA;
}

int place_proto_learn(const char *name, const struct place_pulse *pulses, size_t pulse_count,
                      const struct place_said *said, size_t said_count,
                      const struct place_said *found, size_t found_count,
                      const struct place_proto *before, int64_t now_ms, struct place_proto *out)
{
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "%s", name);
    double length = 0;
    for (size_t i = 0; i < said_count; i++)
        length += (double)(said[i].end_ms - said[i].start_ms) / (double)said_count;
    int rc = -ENODATA;
    if (length < PLACE_GROUP_MOST_MS)
        rc = learn_pulses(pulses, pulse_count, said, said_count, out);
    if (rc == -ENODATA) {
        memset(out, 0, sizeof *out);
        snprintf(out->name, sizeof out->name, "%s", name);
        if (place_score_learn(pulses, pulse_count, said, said_count, out) == 0)
            rc = 0;
        else
            rc = learn_found(said, said_count, found, found_count,
                             before && !before->pulses && !before->scores ? before : NULL, out);
    }
    out->since_ms = now_ms;
    return rc;
}

/* What was said of this very group before. */
static void drop(struct place_trait *traits, int32_t *count, const struct place_trait *t)
{
    for (int i = *count - 1; i >= 0; i--)
        if (memcmp(&traits[i], t, sizeof *t) == 0)
            memmove(traits + i, traits + i + 1, (size_t)(--*count - i) * sizeof *t);
}

int place_proto_correct(struct place_proto *p, const struct place_pulse *pulses, size_t pulse_count,
                        int64_t from_ms, int64_t to_ms, int right)
{
    const struct place_said run = {from_ms, to_ms};
    struct groups g = {.all = NULL};
    struct place_trait t;
    if (!p->pulses)
        return -ENOENT;
    int rc = collect(pulses, pulse_count, p->level_w, &g);
    int k = rc == 0 ? match(&g, &run) : -1;
    if (k >= 0) {
        place_group_trait(&g.all[k], &t);
        drop(p->rights, &p->right, &t);
        drop(p->wrongs, &p->wrong, &t);
        if (right)
            add_right(p, &t);
        else
            add_wrong(p, &t);
    } else if (rc == 0) {
        rc = -ENOENT;
    }
    free(g.all);
    return rc;
}

/* ---- backwards ---- */

static int group_runs(const struct place_proto *p, const struct place_pulse *pulses, size_t count,
                      struct place_said *out, size_t room)
{
    struct groups g = {.all = NULL};
    struct place_trait t;
    size_t n = 0;
    int rc = collect(pulses, count, p->level_w, &g);
    for (size_t i = 0; rc == 0 && i < g.count && n < room; i++) {
        place_group_trait(&g.all[i], &t);
        if (place_proto_sure(p, &t) > 0.5)
            out[n++] = (struct place_said){g.all[i].start_ms - p->early_ms, g.all[i].end_ms};
    }
    free(g.all);
    return rc < 0 ? rc : (int)n;
}

int place_proto_runs(const struct place_proto *p, const struct place_pulse *pulses, size_t count,
                     struct place_said *out, size_t room)
{
    struct place_named run;
    size_t n = 0;
    if (p->pulses)
        return group_runs(p, pulses, count, out, room);
    for (size_t i = 0; p->scores && i < count && n < room; i++)
        if (place_is_heating(&pulses[i]) && place_scores_match(p, pulses, count, i, &run) &&
            (n == 0 || run.start_ms >= out[n - 1].end_ms))
            out[n++] = (struct place_said){run.start_ms, run.end_ms};
    return (int)n;
}
