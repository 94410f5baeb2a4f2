/* place_score.c - programs by when and for how long they heat. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/place_house_impl.h"

#define HEATING_MS 180000 /* shorter pulses are no heating of a program */
#define HEATING_W 500.0f
#define NEAR_S 60.0f       /* two heatings of a program are as far apart as before, ... */
#define NEAR_SHARE 0.04f   /* ... and so much of that */
#define LENGTH_SHARE 0.30f /* how much longer or shorter one may be */
#define WATTS_SHARE 0.12f  /* and stronger or weaker */
#define NOTES_LEAST 2      /* that have to agree */
#define NOTES_SHARE 0.6f   /* and so many of a score's */
#define OFF_MS 300000.0    /* so far off, on average, it is a third as sure */
#define BEFORE_MS 120000   /* a heating may begin so long before what a person says */
#define START_SHARE 0.05   /* of the run: a start so near is right */
#define RIGHT_SHARE 0.75   /* of the runs are found by the scores of the others */
#define WRONG_SHARE 0.25   /* as many others are found, at most */

int place_is_heating(const struct place_pulse *p)
{
    return p->end_ms - p->start_ms >= HEATING_MS && p->watts >= HEATING_W;
}

static int alike(float a, float b, float share)
{
    return fabsf(a - b) <= share * fmaxf(a, b);
}

static int is_note(const struct place_pulse *p, const struct place_note *n)
{
    return alike((float)(p->end_ms - p->start_ms) / 1000, n->length_s, LENGTH_SHARE) &&
           alike(p->watts, n->watts, WATTS_SHARE);
}

/* The heating of note n when the one of note k began at t_ms; NULL: none. */
static const struct place_pulse *find_note(const struct place_pulse *pulses, size_t count,
                                           const struct place_note *k, const struct place_note *n,
                                           int64_t t_ms)
{
    const float apart = n->offset_s - k->offset_s;
    const struct place_pulse *best = NULL;
    float least = NEAR_S + NEAR_SHARE * fabsf(apart);
    for (size_t i = 0; i < count; i++) {
        float away = fabsf((float)(pulses[i].start_ms - t_ms) / 1000 - apart);
        if (away <= least && place_is_heating(&pulses[i]) && is_note(&pulses[i], n)) {
            least = away;
            best = &pulses[i];
        }
    }
    return best;
}

/* Pulse i is taken for note k. */
static int match_as(const struct place_score *s, const struct place_pulse *pulses, size_t count,
                    size_t i, int k, struct place_named *run)
{
    double start = 0, watts = 0, starts[PLACE_HOUSE_NOTES], off = 0;
    memset(run, 0, sizeof *run);
    for (int n = 0; n < s->count; n++) {
        const struct place_pulse *p =
            n == k ? &pulses[i]
                   : find_note(pulses, count, &s->notes[k], &s->notes[n], pulses[i].start_ms);
        if (!p)
            continue;
        starts[run->count] =
            (double)(p->start_ms - pulses[i].start_ms) - 1000 * (double)s->notes[n].offset_s;
        start += starts[run->count];
        watts += (double)p->watts;
        run->energy_wh += (double)p->watts * (double)(p->end_ms - p->start_ms) / 3600000.0;
        run->of[run->count++] = *p;
    }
    if (run->count < NOTES_LEAST || (float)run->count < NOTES_SHARE * (float)s->count)
        return 0;
    start /= run->count;
    for (int n = 0; n < run->count; n++)
        off += fabs(starts[n] - start) / run->count;
    run->start_ms = pulses[i].start_ms + (int64_t)start;
    run->end_ms = run->start_ms + (int64_t)(1000 * (double)s->duration_s);
    run->watts = (float)(watts / run->count);
    run->sure = (double)run->count / s->count * exp(-off / OFF_MS);
    return run->count;
}

int place_score_match(const struct place_score *s, const struct place_pulse *pulses, size_t count,
                      size_t i, struct place_named *run)
{
    struct place_named other;
    int best = 0;
    for (int k = 0; k < s->count; k++) {
        if (!is_note(&pulses[i], &s->notes[k]))
            continue;
        int n = match_as(s, pulses, count, i, k, &other);
        if (n > best) {
            best = n;
            *run = other;
        }
    }
    return best;
}

int place_scores_match(const struct place_proto *p, const struct place_pulse *pulses, size_t count,
                       size_t i, struct place_named *run)
{
    struct place_named other;
    int best = 0;
    for (int k = 0; k < p->scores; k++) {
        int n = place_score_match(&p->score[k], pulses, count, i, &other);
        if (n > best || (n == best && n > 0 && other.sure > run->sure)) {
            best = n;
            *run = other;
        }
    }
    return best;
}

/* ---- learning ---- */

/* The strongest heatings of a run, in order of time. */
static void take_score(const struct place_pulse *pulses, size_t count, const struct place_said *run,
                       struct place_score *out)
{
    memset(out, 0, sizeof *out);
    out->duration_s = (float)(run->end_ms - run->start_ms) / 1000;
    for (size_t i = 0; i < count; i++) {
        const struct place_pulse *p = &pulses[i];
        if (!place_is_heating(p) || p->start_ms < run->start_ms - BEFORE_MS ||
            p->end_ms > run->end_ms + BEFORE_MS)
            continue;
        const struct place_note n = {(float)(p->start_ms - run->start_ms) / 1000,
                                     (float)(p->end_ms - p->start_ms) / 1000, p->watts};
        int at = out->count < PLACE_HOUSE_NOTES ? out->count++ : 0;
        if (at == 0 && out->count == PLACE_HOUSE_NOTES)
            for (int k = 1; k < out->count; k++) /* the weakest makes room */
                if (out->notes[k].length_s * out->notes[k].watts <
                    out->notes[at].length_s * out->notes[at].watts)
                    at = k;
        if (out->notes[at].length_s * out->notes[at].watts < n.length_s * n.watts)
            out->notes[at] = n;
    }
}

/* Leaves the notes that some other run has, too. */
static void confirm(struct place_score *s, const struct place_score *all, size_t count, size_t own)
{
    int n = 0;
    for (int k = 0; k < s->count; k++) {
        int found = 0;
        for (size_t i = 0; i < count && !found; i++)
            for (int j = 0; i != own && j < all[i].count && !found; j++) {
                const struct place_note *a = &s->notes[k], *b = &all[i].notes[j];
                found = fabsf(a->offset_s - b->offset_s) <= NEAR_S + NEAR_SHARE * a->offset_s &&
                        alike(a->length_s, b->length_s, LENGTH_SHARE) &&
                        alike(a->watts, b->watts, WATTS_SHARE);
            }
        if (found)
            s->notes[n++] = s->notes[k];
    }
    s->count = n;
}

static int is_right(const struct place_named *found, const struct place_said *run)
{
    double away = fabs((double)(found->start_ms - run->start_ms));
    return away <= fmax(60000, START_SHARE * (double)(run->end_ms - run->start_ms));
}

/* Whether the scores of the other runs find this one. */
static int found_by_others(const struct place_pulse *pulses, size_t count,
                           const struct place_said *run, const struct place_proto *p, size_t own)
{
    struct place_named found;
    for (size_t i = 0; i < count; i++) {
        if (pulses[i].start_ms < run->start_ms || pulses[i].start_ms > run->end_ms ||
            !place_is_heating(&pulses[i]))
            continue;
        for (size_t k = 0; k < (size_t)p->scores; k++)
            if (k != own && place_score_match(&p->score[k], pulses, count, i, &found) &&
                is_right(&found, run))
                return 1;
    }
    return 0;
}

/* Runs that the scores find and nobody said. */
static size_t count_wrong(const struct place_pulse *pulses, size_t count,
                          const struct place_said *said, size_t said_count,
                          const struct place_proto *p)
{
    struct place_named found;
    int64_t until_ms = INT64_MIN;
    size_t wrong = 0;
    for (size_t i = 0; i < count; i++) {
        if (!place_is_heating(&pulses[i]) || !place_scores_match(p, pulses, count, i, &found) ||
            found.start_ms < until_ms)
            continue;
        int right = 0;
        for (size_t k = 0; k < said_count && !right; k++)
            right = is_right(&found, &said[k]);
        wrong += !right;
        until_ms = found.end_ms;
    }
    return wrong;
}

int place_score_learn(const struct place_pulse *pulses, size_t count, const struct place_said *said,
                      size_t said_count, struct place_proto *out)
{
    const size_t first = said_count > PLACE_HOUSE_SCORES ? said_count - PLACE_HOUSE_SCORES : 0;
    struct place_score all[PLACE_HOUSE_SCORES];
    const size_t n = said_count - first;
    size_t right = 0;
    if (n < PLACE_HOUSE_LEAST)
        return -ENODATA;
    for (size_t i = 0; i < n; i++)
        take_score(pulses, count, &said[first + i], &all[i]);
    for (size_t i = 0; i < n; i++) {
        out->score[i] = all[i];
        confirm(&out->score[i], all, n, i);
    }
    out->scores = (int32_t)n;
    for (size_t i = 0; i < n; i++)
        right += (size_t)found_by_others(pulses, count, &said[first + i], out, i);
    int kept = 0;
    for (size_t i = 0; i < n; i++)
        if (out->score[i].count >= NOTES_LEAST)
            out->score[kept++] = out->score[i];
    memset(out->score + kept, 0, (size_t)(PLACE_HOUSE_SCORES - kept) * sizeof out->score[0]);
    out->scores = kept;
    if (kept && (double)right >= RIGHT_SHARE * (double)n &&
        (double)count_wrong(pulses, count, said, said_count, out) <=
            WRONG_SHARE * (double)said_count)
        return 0;
    memset(out->score, 0, sizeof out->score);
    out->scores = 0;
    return -ENODATA;
}
