/* score.c - see score.h. */
#include "inference/workshop/score.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MINUTE_MS 60000
#define MINUTES_MAX (20LL * 366 * 1440)
#define NO_APPLIANCE UINT32_MAX

/* --- names --- */

/* Letters and digits in lower case. */
static void plain_name(const char *name, char out[TRUTH_NAME_BYTES])
{
    static const char *const same[][2] = {
        {"refrigerator", "fridge"}, {"microwaveoven", "microwave"}, {"washer", "washingmachine"}};
    size_t n = 0;
    for (; *name && n + 1 < TRUTH_NAME_BYTES; name++) {
        unsigned char c = (unsigned char)*name;
        if (isalnum(c) || c >= 0x80)
            out[n++] = (char)tolower(c);
    }
    out[n] = '\0';
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        if (strcmp(out, same[i][0]) == 0)
            strcpy(out, same[i][1]);
    }
}

static uint32_t find_appliance(const struct truth *t, const char *name)
{
    char wanted[TRUTH_NAME_BYTES], have[TRUTH_NAME_BYTES];
    plain_name(name, wanted);
    for (size_t i = 0; i < t->appliance_count; i++) {
        plain_name(t->names[i], have);
        if (strcmp(wanted, have) == 0)
            return (uint32_t)i;
    }
    return NO_APPLIANCE;
}

/* appliance[n] of each event name. */
static int map_names(const struct truth *t, const struct score_events *e, const char *map,
                     uint32_t *appliance, char *why, size_t why_size)
{
    char *copy = strdup(map ? map : ""), *rest = copy;
    int rc = copy ? 0 : -ENOMEM;
    for (size_t i = 0; i < e->name_count; i++)
        appliance[i] = find_appliance(t, e->names[i]);
    for (char *pair; rc == 0 && (pair = strsep(&rest, ",")) != NULL;) {
        char *to = strchr(pair, '=');
        if (pair[0] == '\0')
            continue;
        if (to)
            *to++ = '\0';
        uint32_t found = to ? find_appliance(t, to) : NO_APPLIANCE;
        if (found == NO_APPLIANCE) {
            snprintf(why, why_size, "map: expected NAME=APPLIANCE of the truth, found \"%s%s%s\"",
                     pair, to ? "=" : "", to ? to : "");
            rc = -EINVAL;
        }
        for (size_t i = 0; i < e->name_count; i++) {
            if (strcmp(e->names[i], pair) == 0)
                appliance[i] = found;
        }
    }
    free(copy);
    return rc;
}

/* --- pairing --- */

struct mark { /* a start or a stop */
    int64_t t_ms;
    int64_t near_ms; /* of a true one */
    int64_t start_ms, named_ms;
    int taken;
};

static int by_time(const void *a, const void *b)
{
    const struct mark *x = a, *y = b;
    return x->t_ms < y->t_ms ? -1 : x->t_ms > y->t_ms;
}

static int by_number(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values, size_t count)
{
    if (count == 0)
        return NAN;
    qsort(values, count, sizeof *values, by_number);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* As many pairs as possible: true marks accept an interval of times, so taking, for each predicted
 * one in the order of time, the true one whose interval ends first is a maximum matching (Glover
 * 1967, convex bipartite graphs). Ends of intervals need not be in the order of their middles.
 * distance, delay [truth_count]: of the pairs, seconds. */
static size_t pair(struct mark *truth, size_t truth_count, struct mark *found, size_t found_count,
                   double *distance, double *delay)
{
    size_t pairs = 0, first = 0;
    int64_t widest = 0;
    if (truth_count == 0 || found_count == 0)
        return 0;
    qsort(truth, truth_count, sizeof *truth, by_time);
    qsort(found, found_count, sizeof *found, by_time);
    for (size_t i = 0; i < truth_count; i++)
        widest = truth[i].near_ms > widest ? truth[i].near_ms : widest;
    for (size_t i = 0; i < found_count; i++) {
        struct mark *best = NULL;
        while (first < truth_count && truth[first].t_ms + widest < found[i].t_ms)
            first++;
        for (size_t j = first; j < truth_count && truth[j].t_ms - widest <= found[i].t_ms; j++) {
            struct mark *m = &truth[j];
            if (m->taken || llabs(m->t_ms - found[i].t_ms) > m->near_ms)
                continue;
            if (best == NULL || m->t_ms + m->near_ms < best->t_ms + best->near_ms)
                best = m;
        }
        if (best == NULL)
            continue;
        best->taken = found[i].taken = 1;
        distance[pairs] = fabs((double)(best->t_ms - found[i].t_ms)) / 1000;
        delay[pairs++] =
            found[i].named_ms > 0 ? (double)(found[i].named_ms - best->start_ms) / 1000 : NAN;
    }
    return pairs;
}

static void finish_counts(struct score_counts *c)
{
    c->precision = c->predicted ? (double)c->matched / (double)c->predicted : NAN;
    c->recall = c->truth ? (double)c->matched / (double)c->truth : NAN;
    c->f1 = c->truth + c->predicted ? 2.0 * (double)c->matched / (double)(c->truth + c->predicted)
                                    : NAN;
}

/* --- one appliance --- */

struct judge {
    const struct truth *truth;
    const struct score_events *events;
    uint32_t *appliance;   /* [event names] */
    struct mark *marks[2]; /* [runs], [events] */
    double *distance, *delay;
    uint8_t *minutes; /* bit 0: truly on, bit 1: said to be on */
    size_t minute_count;
    int64_t first_minute;
};

static int64_t near_of(const struct truth_run *r)
{
    int64_t share = (int64_t)((double)(r->end_ms - r->start_ms) * SCORE_NEAR_SHARE);
    return share > SCORE_NEAR_MS ? share : SCORE_NEAR_MS;
}

/* Whether a mark belongs to a run of appliance a whose own start (stop) is not judged: the pipeline
 * saw it, at a moment that is. */
static int of_unjudged(const struct truth *t, uint32_t a, int stops, const struct mark *m)
{
    for (size_t i = 0; i < t->run_count; i++) {
        const struct truth_run *r = &t->runs[i];
        if (r->appliance == a && m->t_ms >= r->start_ms - near_of(r) &&
            m->t_ms <= r->end_ms + near_of(r) &&
            !truth_is_scored(t, stops ? r->end_ms : r->start_ms))
            return 1;
    }
    return 0;
}

/* Starts or stops of appliance a. */
static void judge_marks(struct judge *j, uint32_t a, int stops, struct score_appliance *out)
{
    const struct truth *t = j->truth;
    struct score_counts *c = stops ? &out->stops : &out->starts;
    size_t truth_count = 0, found_count = 0, timed = 0;
    for (size_t i = 0; i < t->run_count; i++) {
        const struct truth_run *r = &t->runs[i];
        int64_t at = stops ? r->end_ms : r->start_ms;
        if (r->appliance == a && truth_is_scored(t, at))
            j->marks[0][truth_count++] = (struct mark){at, near_of(r), r->start_ms, 0, 0};
    }
    for (size_t i = 0; i < j->events->count; i++) {
        const struct score_event *e = &j->events->events[i];
        int64_t at = stops ? e->end_ms : e->start_ms;
        if (j->appliance[e->name] == a && at > 0 && truth_is_scored(t, at))
            j->marks[1][found_count++] = (struct mark){at, 0, e->start_ms, e->named_ms, 0};
    }
    size_t pairs = pair(j->marks[0], truth_count, j->marks[1], found_count, j->distance, j->delay);
    size_t predicted = 0;
    for (size_t i = 0; i < found_count; i++)
        predicted += j->marks[1][i].taken || !of_unjudged(t, a, stops, &j->marks[1][i]);
    *c = (struct score_counts){.truth = truth_count, .predicted = predicted, .matched = pairs};
    finish_counts(c);
    if (stops)
        return;
    out->start_error_s = median(j->distance, pairs);
    for (size_t i = 0; i < pairs; i++) {
        if (!isnan(j->delay[i]))
            j->delay[timed++] = j->delay[i];
    }
    out->delay_s = median(j->delay, timed);
}

static void mark_minutes(struct judge *j, int64_t from_ms, int64_t to_ms, uint8_t bit)
{
    int64_t first = from_ms / MINUTE_MS - j->first_minute;
    int64_t last = (to_ms - 1) / MINUTE_MS - j->first_minute;
    first = first > 0 ? first : 0;
    for (int64_t m = first; to_ms > from_ms && m <= last && m < (int64_t)j->minute_count; m++)
        j->minutes[m] |= bit;
}

/* A run whose end was not seen lasts until the next of its appliance, at most to the end. */
static int64_t end_of(const struct judge *j, size_t index)
{
    const struct score_event *e = &j->events->events[index];
    int64_t end = e->end_ms > 0 ? e->end_ms : j->truth->end_ms;
    for (size_t i = 0; e->end_ms == 0 && i < j->events->count; i++) {
        const struct score_event *o = &j->events->events[i];
        if (j->appliance[o->name] == j->appliance[e->name] && o->start_ms > e->start_ms &&
            o->start_ms < end)
            end = o->start_ms;
    }
    return end;
}

/* The part of a run's energy that lies in the time that may be judged. */
static double energy_part(const struct truth *t, int64_t from_ms, int64_t to_ms, double wh)
{
    if (isnan(wh))
        return 0;
    if (to_ms <= from_ms)
        return truth_is_scored(t, from_ms) ? wh : 0;
    return wh * (double)truth_scored_ms(t, from_ms, to_ms) / (double)(to_ms - from_ms);
}

static void judge_state(struct judge *j, uint32_t a, struct score_appliance *out)
{
    const struct truth *t = j->truth;
    memset(j->minutes, 0, j->minute_count);
    for (size_t i = 0; i < t->run_count; i++) {
        const struct truth_run *r = &t->runs[i];
        if (r->appliance != a)
            continue;
        mark_minutes(j, r->start_ms, r->end_ms, 1);
        out->energy_true_wh += energy_part(t, r->start_ms, r->end_ms, r->energy_wh);
    }
    for (size_t i = 0; i < j->events->count; i++) {
        const struct score_event *e = &j->events->events[i];
        if (j->appliance[e->name] != a)
            continue;
        int64_t end = end_of(j, i);
        mark_minutes(j, e->start_ms, end, 2);
        out->energy_wh += energy_part(t, e->start_ms, end, e->energy_wh);
        out->open += e->end_ms == 0 && truth_is_scored(t, e->start_ms);
    }
    for (size_t m = 0; m < j->minute_count; m++) {
        int64_t from = (j->first_minute + (int64_t)m) * MINUTE_MS;
        if (j->minutes[m] == 0 || truth_scored_ms(t, from, from + MINUTE_MS) < MINUTE_MS)
            continue;
        out->minutes.truth += j->minutes[m] & 1;
        out->minutes.predicted += j->minutes[m] >> 1;
        out->minutes.matched += j->minutes[m] == 3;
    }
    finish_counts(&out->minutes);
}

/* --- all of them --- */

static void add_counts(struct score_counts *to, const struct score_counts *c)
{
    to->truth += c->truth;
    to->predicted += c->predicted;
    to->matched += c->matched;
}

static void summarise(struct score *s)
{
    double f1 = 0, stops = 0, state = 0, energy = 0;
    size_t count = 0, stop_count = 0, energy_count = 0;
    for (size_t i = 0; i < s->appliance_count; i++) {
        struct score_appliance *a = &s->appliances[i];
        a->energy_error =
            a->energy_true_wh > 0 ? (a->energy_wh - a->energy_true_wh) / a->energy_true_wh : NAN;
        add_counts(&s->starts, &a->starts);
        add_counts(&s->stops, &a->stops);
        if (a->stops.truth) {
            stops += a->stops.f1;
            stop_count++;
        }
        if (a->starts.truth == 0)
            continue;
        count++;
        f1 += a->starts.f1;
        state += isnan(a->minutes.f1) ? 0 : a->minutes.f1;
        if (!isnan(a->energy_error)) {
            energy += fabs(a->energy_error);
            energy_count++;
        }
    }
    finish_counts(&s->starts);
    finish_counts(&s->stops);
    s->f1_macro = count ? f1 / (double)count : NAN;
    s->state_f1_macro = count ? state / (double)count : NAN;
    s->stops_f1_macro = stop_count ? stops / (double)stop_count : NAN;
    s->energy_error_macro = energy_count ? energy / (double)energy_count : NAN;
}

/* Events that no appliance of the truth answers for, and what begins where nothing is judged. */
static int count_others(struct judge *j, struct score *s)
{
    s->others = calloc(j->events->name_count + 1, sizeof *s->others);
    if (s->others == NULL)
        return -ENOMEM;
    for (size_t n = 0; n < j->events->name_count; n++) {
        struct score_other *o = &s->others[s->other_count];
        if (j->appliance[n] != NO_APPLIANCE)
            continue;
        snprintf(o->name, sizeof o->name, "%s", j->events->names[n]);
        for (size_t i = 0; i < j->events->count; i++) {
            const struct score_event *e = &j->events->events[i];
            if (e->name != n || !truth_is_scored(j->truth, e->start_ms))
                continue;
            o->events++;
            o->energy_wh += energy_part(j->truth, e->start_ms, end_of(j, i), e->energy_wh);
        }
        s->not_judged += o->events;
        s->other_count += o->events > 0;
    }
    for (size_t i = 0; i < j->events->count; i++)
        s->outside += !truth_is_scored(j->truth, j->events->events[i].start_ms);
    for (size_t i = 0; i < j->truth->run_count; i++)
        s->outside_truth += !truth_is_scored(j->truth, j->truth->runs[i].start_ms);
    return 0;
}

/* The appliance's whole energy while it may be judged, from its own column. */
static int measure_energy(const struct truth *t, const char *paths, struct score_appliance *a,
                          char *why, size_t why_size)
{
    struct truth_series s;
    int rc = truth_series_read(paths, a->name, &s, why, why_size);
    a->energy_true_wh = 0;
    for (size_t i = 0; rc == 0 && i < s.count; i++)
        a->energy_true_wh += energy_part(t, s.t_ms[i], s.t_ms[i] + truth_hold_ms(&s, i),
                                         (double)s.watts[i] * (double)truth_hold_ms(&s, i) / 3.6e6);
    truth_series_free(&s);
    return rc;
}

static int prepare(struct judge *j, struct score *out, char *why, size_t why_size)
{
    const struct truth *t = j->truth;
    size_t events = j->events->count + 1, runs = t->run_count + 1;
    j->first_minute = t->start_ms / MINUTE_MS;
    int64_t minutes = t->end_ms > t->start_ms ? t->end_ms / MINUTE_MS - j->first_minute + 1 : 0;
    if (minutes > MINUTES_MAX) {
        snprintf(why, why_size, "the truth spans more than 20 years");
        return -EINVAL;
    }
    j->minute_count = (size_t)minutes;
    j->minutes = calloc(j->minute_count + 1, 1);
    j->appliance = calloc(j->events->name_count + 1, sizeof *j->appliance);
    j->marks[0] = calloc(runs, sizeof **j->marks);
    j->marks[1] = calloc(events, sizeof **j->marks);
    j->distance = calloc(runs, sizeof *j->distance);
    j->delay = calloc(runs, sizeof *j->delay);
    out->appliances = calloc(t->appliance_count + 1, sizeof *out->appliances);
    return j->minutes && j->appliance && j->marks[0] && j->marks[1] && j->distance && j->delay &&
                   out->appliances
               ? 0
               : -ENOMEM;
}

int score_run(const struct truth *truth, const struct score_events *events, const char *map,
              const char *submeters, struct score *out, char *why, size_t why_size)
{
    struct judge j = {.truth = truth, .events = events};
    memset(out, 0, sizeof *out);
    snprintf(why, why_size, "out of memory");
    int rc = prepare(&j, out, why, why_size);
    if (rc == 0)
        rc = map_names(truth, events, map, j.appliance, why, why_size);
    for (uint32_t a = 0; rc == 0 && a < truth->appliance_count; a++) {
        struct score_appliance *s = &out->appliances[out->appliance_count++];
        memcpy(s->name, truth->names[a], sizeof s->name);
        judge_marks(&j, a, 0, s);
        judge_marks(&j, a, 1, s);
        judge_state(&j, a, s);
        if (submeters)
            rc = measure_energy(truth, submeters, s, why, why_size);
    }
    if (rc == 0)
        rc = count_others(&j, out);
    if (rc == 0) {
        out->span_ms = truth->end_ms - truth->start_ms;
        out->scored_ms = truth_scored_ms(truth, truth->start_ms, truth->end_ms);
        summarise(out);
    }
    free(j.minutes);
    free(j.appliance);
    free(j.marks[0]);
    free(j.marks[1]);
    free(j.distance);
    free(j.delay);
    return rc;
}

void score_free(struct score *s)
{
    free(s->appliances);
    free(s->others);
    memset(s, 0, sizeof *s);
}

/* --- JSON --- */

static void add_number(cJSON *o, const char *name, double value)
{
    if (isfinite(value))
        cJSON_AddNumberToObject(o, name, round(value * 1e4) / 1e4);
    else
        cJSON_AddNullToObject(o, name);
}

static void add_score_counts(cJSON *o, const struct score_counts *c)
{
    add_number(o, "true", (double)c->truth);
    add_number(o, "predicted", (double)c->predicted);
    add_number(o, "matched", (double)c->matched);
    add_number(o, "precision", c->precision);
    add_number(o, "recall", c->recall);
    add_number(o, "f1", c->f1);
}

static void add_appliance(cJSON *list, const struct score_appliance *a)
{
    cJSON *o = cJSON_CreateObject(), *stops = cJSON_AddObjectToObject(o, "stops");
    cJSON_AddStringToObject(o, "name", a->name);
    add_score_counts(o, &a->starts);
    add_score_counts(stops, &a->stops);
    add_number(o, "state_f1", a->minutes.f1);
    add_number(o, "state_precision", a->minutes.precision);
    add_number(o, "state_recall", a->minutes.recall);
    add_number(o, "energy_true_wh", a->energy_true_wh);
    add_number(o, "energy_wh", a->energy_wh);
    add_number(o, "energy_error", a->energy_error);
    add_number(o, "start_error_s", a->start_error_s);
    add_number(o, "delay_s", a->delay_s);
    add_number(o, "open", (double)a->open);
    if (!cJSON_AddItemToArray(list, o))
        cJSON_Delete(o);
}

cJSON *score_json(const struct score *s)
{
    cJSON *o = cJSON_CreateObject(), *overall = cJSON_AddObjectToObject(o, "overall");
    cJSON *stops = cJSON_AddObjectToObject(overall, "stops");
    add_score_counts(overall, &s->starts);
    add_score_counts(stops, &s->stops);
    add_number(o, "f1_macro", s->f1_macro);
    add_number(o, "stops_f1_macro", s->stops_f1_macro);
    add_number(o, "state_f1_macro", s->state_f1_macro);
    add_number(o, "energy_error_macro", s->energy_error_macro);
    add_number(o, "span_s", (double)s->span_ms / 1000);
    add_number(o, "scored_s", (double)s->scored_ms / 1000);
    cJSON *list = cJSON_AddArrayToObject(o, "appliances");
    for (size_t i = 0; list && i < s->appliance_count; i++)
        add_appliance(list, &s->appliances[i]);
    add_number(o, "not_judged", (double)s->not_judged);
    add_number(o, "outside", (double)s->outside);
    add_number(o, "outside_true", (double)s->outside_truth);
    list = cJSON_AddArrayToObject(o, "others");
    for (size_t i = 0; list && i < s->other_count; i++) {
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", s->others[i].name);
        add_number(item, "events", (double)s->others[i].events);
        add_number(item, "energy_wh", s->others[i].energy_wh);
        if (!cJSON_AddItemToArray(list, item))
            cJSON_Delete(item);
    }
    return o;
}
