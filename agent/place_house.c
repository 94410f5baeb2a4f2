/* place_house.c - groups of pulses, and the decision about them. */
#include "agent/place_house.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "agent/calendar.h"
#include "agent/place_house_impl.h"

#define GAP_MS 60000    /* pulses further apart are two runs */
#define SHORT_MS 16000  /* of one or two readings of a slow meter: seen lower than they are */
#define LEVEL_NEAR 0.2f /* logarithm: pulses of a prototype's height */
#define LEAST_PART 0.2f /* of the height, seen of a short one */
#define TWICE 2.0       /* what a person has named counts as much as two that were not */
#define LEAST_LIKE 0.02 /* density below which it is like nothing known */

/* Widths of the kernel. */
#define WIDTH_LEVEL 0.08f
#define WIDTH_LONGEST 0.6f
#define WIDTH_SPAN 0.7f
#define WIDTH_DUTY 0.3f
#define WIDTH_HOURS 3.0f
#define ANY_HOUR 0.3f /* of the density does not ask for the hour */

/* ---- groups ---- */

static int near(const struct place_group *g, const struct place_pulse *p)
{
    return p->start_ms - g->end_ms <= GAP_MS && g->start_ms - p->end_ms <= GAP_MS;
}

static void join(struct place_group *g, const struct place_pulse *p, int full)
{
    int64_t on_ms = p->end_ms - p->start_ms;
    if (!g->pulses || p->start_ms < g->start_ms)
        g->start_ms = p->start_ms;
    if (!g->pulses || p->end_ms > g->end_ms)
        g->end_ms = p->end_ms;
    g->pulses++;
    g->on_ms += on_ms;
    g->energy_wh += (double)p->watts * (double)on_ms / 3600000.0;
    if (on_ms > g->longest_ms)
        g->longest_ms = on_ms;
    if (full) {
        g->full++;
        g->levels += logf(p->watts);
    }
}

/* 1: of the height; -1: may be one, seen in part; 0: neither. */
static int height(float level_w, const struct place_pulse *p)
{
    if (p->end_ms - p->start_ms > PLACE_GROUP_MOST_MS)
        return 0;
    if (fabsf(logf(p->watts / level_w)) < LEVEL_NEAR)
        return 1;
    return p->end_ms - p->start_ms <= SHORT_MS && p->watts < level_w &&
                   p->watts > LEAST_PART * level_w
               ? -1
               : 0;
}

int place_group_push(struct place_group *g, float level_w, const struct place_pulse *recent,
                     size_t recent_count, const struct place_pulse *p, struct place_group *done)
{
    const int fits = height(level_w, p);
    int ended = 0;
    if (!fits)
        return 0;
    if (g->pulses && near(g, p)) {
        join(g, p, fits > 0);
        return 0;
    }
    if (fits < 0)
        return 0;
    if (g->pulses) {
        *done = *g;
        ended = 1;
    }
    memset(g, 0, sizeof *g);
    join(g, p, 1);
    for (size_t i = recent_count; i > 0; i--) /* what came before it, back in time */
        if (height(level_w, &recent[i - 1]) < 0 && near(g, &recent[i - 1]) &&
            (!ended || recent[i - 1].start_ms > done->end_ms))
            join(g, &recent[i - 1], 0);
    return ended;
}

int place_group_over(const struct place_group *g, int64_t t_ms)
{
    return g->pulses && t_ms - g->end_ms > GAP_MS + PLACE_GROUP_MOST_MS;
}

/* No pulse that has begun can still join it. */
static int is_over(const struct place_group *g, const struct place_pulses *p, int64_t t_ms)
{
    if (!g->pulses || t_ms - g->end_ms <= GAP_MS + SHORT_MS)
        return 0;
    for (int i = 0; i < p->count; i++)
        if (p->rises[i].t_ms - g->end_ms <= GAP_MS &&
            t_ms - p->rises[i].t_ms <= PLACE_GROUP_MOST_MS)
            return 0;
    return 1;
}

void place_recent_add(struct place_pulse recent[PLACE_HOUSE_RECENT], int32_t *count,
                      const struct place_pulse *p)
{
    if (p->end_ms - p->start_ms > SHORT_MS)
        return;
    if (*count == PLACE_HOUSE_RECENT)
        memmove(recent, recent + 1, (size_t)-- * count * sizeof *recent);
    recent[(*count)++] = *p;
}

void place_group_trait(const struct place_group *g, struct place_trait *out)
{
    const int64_t span_ms = g->end_ms - g->start_ms;
    out->level = g->full ? g->levels / (float)g->full : 0;
    out->longest = logf((float)(g->longest_ms > 1000 ? g->longest_ms : 1000) / 1000);
    out->span = logf((float)(span_ms > 1000 ? span_ms : 1000) / 1000);
    out->duty = span_ms > 0 ? fminf((float)g->on_ms / (float)span_ms, 1) : 1;
    out->hour = (float)calendar_minute(g->start_ms) / 60;
}

/* ---- the decision ---- */

static float squared(float away, float width)
{
    return away / width * (away / width);
}

double place_trait_like(const struct place_trait *a, const struct place_trait *b)
{
    float hours = fabsf(a->hour - b->hour);
    hours = hours > 12 ? 24 - hours : hours;
    float away = squared(a->level - b->level, WIDTH_LEVEL) +
                 squared(a->longest - b->longest, WIDTH_LONGEST) +
                 squared(a->span - b->span, WIDTH_SPAN) + squared(a->duty - b->duty, WIDTH_DUTY);
    float when = ANY_HOUR + (1 - ANY_HOUR) * expf(-squared(hours, WIDTH_HOURS) / 2);
    return (double)(expf(-away / 2) * when);
}

double place_proto_sure(const struct place_proto *p, const struct place_trait *t)
{
    double right = 0, wrong = 0;
    for (int i = 0; i < p->right; i++)
        right += place_trait_like(t, &p->rights[i]);
    for (int i = 0; i < p->wrong; i++)
        wrong += place_trait_like(t, &p->wrongs[i]);
    right *= TWICE * (double)p->weight;
    return right / (right + wrong + LEAST_LIKE);
}

static int trait_sound(const struct place_trait *t)
{
    return isfinite(t->level) && isfinite(t->longest) && isfinite(t->span) && isfinite(t->duty) &&
           t->hour >= 0 && t->hour <= 24;
}

static int score_sound(const struct place_score *s)
{
    int sound = s->count >= 1 && s->count <= PLACE_HOUSE_NOTES && s->duration_s > 0 &&
                s->duration_s < 86400;
    for (int i = 0; sound && i < s->count; i++)
        sound = fabsf(s->notes[i].offset_s) < 86400 && s->notes[i].length_s > 0 &&
                s->notes[i].length_s < 86400 && s->notes[i].watts > 0 && s->notes[i].watts < 1e6f;
    return sound;
}

int place_proto_check(const struct place_proto *p)
{
    int sound = memchr(p->name, 0, sizeof p->name) != NULL && p->name[0] != '\0' && p->right >= 0 &&
                p->right <= PLACE_HOUSE_RIGHT && p->scores >= 0 &&
                p->scores <= PLACE_HOUSE_SCORES && p->wrong >= 0 && p->wrong <= PLACE_HOUSE_WRONG &&
                isfinite(p->weight) && p->weight >= 0 && (p->pulses == 0 || p->pulses == 1) &&
                p->early_ms > -86400000 && p->early_ms < 86400000 && p->least_s >= 0 &&
                p->least_s < 86400 &&
                (!p->pulses || (isfinite(p->level_w) && p->level_w >= PLACE_PULSE_LEAST_W));
    for (int i = 0; sound && i < p->right; i++)
        sound = trait_sound(&p->rights[i]);
    for (int i = 0; sound && i < p->wrong; i++)
        sound = trait_sound(&p->wrongs[i]);
    for (int i = 0; sound && i < p->scores; i++)
        sound = score_sound(&p->score[i]);
    return sound ? 0 : -EBADMSG;
}

/* ---- in the readings ---- */

static int finish(struct place_watch *w, const struct place_house *h, int i,
                  const struct place_group *g)
{
    const struct place_proto *p = &h->protos[i];
    struct place_trait t;
    place_group_trait(g, &t);
    const double sure = place_proto_sure(p, &t);
    if (sure <= 0.5)
        return 0;
    if (w->named_count == PLACE_HOUSE_QUEUE) /* nobody takes them: the oldest is late anyway */
        place_watch_take(w, 0);
    w->named[w->named_count++] = (struct place_named){.start_ms = g->start_ms - p->early_ms,
                                                      .end_ms = g->end_ms,
                                                      .energy_wh = g->energy_wh,
                                                      .sure = sure,
                                                      .watts = expf(t.level),
                                                      .proto = i};
    return 1;
}

/* A program that this heating is part of: found, or known better than before. */
static int take_program(struct place_watch *w, int i, const struct place_named *run)
{
    for (int k = 0; k < w->named_count; k++) {
        struct place_named *n = &w->named[k];
        if (n->proto != i || n->end_ms <= run->start_ms || run->end_ms <= n->start_ms)
            continue;
        if (run->count < n->count || (run->count == n->count && run->sure < n->sure))
            return 0;
        const int32_t earlier = n->earlier;
        *n = *run;
        n->earlier = earlier;
        return 0;
    }
    if (w->named_count == PLACE_HOUSE_QUEUE)
        place_watch_take(w, 0);
    w->named[w->named_count++] = *run;
    return 1;
}

static int take_heating(struct place_watch *w, const struct place_house *h,
                        const struct place_pulse *p, int earlier)
{
    int found = 0;
    for (int i = 0; i < w->long_count; i++)
        if (w->heated[i].start_ms == p->start_ms && w->heated[i].end_ms == p->end_ms)
            return 0; /* read again */
    if (w->long_count == PLACE_HOUSE_LONG)
        memmove(w->heated, w->heated + 1, (size_t)--w->long_count * sizeof w->heated[0]);
    w->heated[w->long_count++] = *p;
    for (int i = 0; i < h->count; i++) {
        struct place_named run;
        if (!h->protos[i].scores ||
            !place_scores_match(&h->protos[i], w->heated, (size_t)w->long_count,
                                (size_t)w->long_count - 1, &run))
            continue;
        run.proto = i;
        run.earlier = earlier;
        found |= take_program(w, i, &run);
    }
    return found;
}

static int begin(struct place_watch *w, const struct place_house *h)
{
    int found = 0;
    memset(w->groups, 0, sizeof w->groups);
    w->named_count = w->long_count = 0;
    w->version = h->version;
    for (int i = 0; i < h->earlier_count; i++)
        found |= take_heating(w, h, &h->earlier[i], 1);
    return found;
}

int place_watch_reading(struct place_watch *w, const struct place_house *h, int64_t t_ms,
                        float watts, int64_t max_gap_ms)
{
    struct place_pulse pulse;
    struct place_group done;
    int found = w->version != h->version ? begin(w, h) : 0;
    int ended = place_pulses_push(&w->pulses, t_ms, watts, max_gap_ms, &pulse);
    for (int i = 0; i < h->count; i++) {
        struct place_group *g = &w->groups[i];
        if (!h->protos[i].pulses)
            continue;
        if (ended && place_group_push(g, h->protos[i].level_w, w->recent, (size_t)w->recent_count,
                                      &pulse, &done))
            found |= finish(w, h, i, &done);
        if (is_over(g, &w->pulses, t_ms)) {
            found |= finish(w, h, i, g);
            memset(g, 0, sizeof *g);
        }
    }
    if (ended)
        place_recent_add(w->recent, &w->recent_count, &pulse);
    if (ended && place_is_heating(&pulse))
        found |= take_heating(w, h, &pulse, 0);
    return found;
}

void place_watch_take(struct place_watch *w, int i)
{
    w->named_count--;
    memmove(w->named + i, w->named + i + 1, (size_t)(w->named_count - i) * sizeof w->named[0]);
}
