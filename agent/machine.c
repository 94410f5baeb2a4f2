/* machine.c - see machine.h. */
#include "agent/machine.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/payload.h"
#include "storage/outbox.h"

#define SAVED_MAGIC 0x6d636831u /* "mch1" */
#define BIN 0.0582689081        /* ln 1.06 */
#define ENOUGH_S 7200.0         /* on, before limits are learned */
#define FULL_S 604800.0         /* on; then old powers count half, and so on: habits change */
#define LEAST_SHARE 0.02        /* of a class, of the time on */
#define APART_BINS 7.0          /* between the means of two classes: 1.5 times the power */
#define GAIN 0.2                /* of the criterion, for one class more */
#define LEAVE 0.9
#define HOUR_MS INT64_C(3600000)

struct saved {
    uint32_t magic, size;
    int64_t last_ms; /* reading; 0: none */
    double last_w;
    int32_t state, candidate;
    int64_t since_ms, candidate_ms;
    double learned_run_w, learned_peak_w; /* 0: not told apart */
    double seconds;                       /* in the histogram */
    struct machines_quarter now;          /* start_ms 0: none */
    float bins[MACHINE_BINS];             /* s */
};
static_assert(sizeof(struct saved) <= MACHINES_STATE_BYTES, "the state fits its column");

struct machine {
    struct machine_config config;
    struct saved s;
    struct machines_quarter done[MACHINE_QUARTERS];
    int done_count;
    struct machine_change changes[MACHINE_CHANGES];
    int change_count, lost;
};

const char *machine_text(enum machine_state state)
{
    static const char *const texts[] = {"off", "idle", "run", "peak"};
    return texts[state];
}

int machine_parse(const char *text, struct machine_config *out)
{
    char *end;
    out->run_w = out->peak_w = 0;
    out->mode = !strcmp(text, "off") || !text[0] ? MACHINE_NONE : MACHINE_AUTO;
    if (out->mode == MACHINE_NONE || !strcmp(text, "auto"))
        return 0;
    out->mode = MACHINE_LIMITS;
    out->run_w = strtod(text, &end);
    if (*end == ',') {
        out->peak_w = strtod(end + 1, &end);
        if (!(out->peak_w > out->run_w))
            return -EINVAL;
    }
    return *end == '\0' && out->run_w > 0 && out->run_w <= 1e7 && out->peak_w <= 1e7 ? 0 : -EINVAL;
}

/* ---- learning ---- */

struct sums { /* of bins from..to */
    double n, x, xx;
};

/* n (ln sigma - ln n) of the class that the bins [from, to) are; INFINITY when there is none. */
static double cost(const struct sums *until, int from, int to, double *mean)
{
    const double total = until[MACHINE_BINS].n;
    const double n = until[to].n - until[from].n;
    if (n < LEAST_SHARE * total)
        return INFINITY;
    *mean = (until[to].x - until[from].x) / n;
    const double variance = (until[to].xx - until[from].xx) / n - *mean * *mean;
    const double share = n / total;
    return share * (0.5 * log(fmax(variance, 0) + 1) - log(share)); /* not below one bin */
}

static double power_of(double bin)
{
    return exp(bin * BIN);
}

/* Between the classes on both sides of the cut nothing may lie: the limit is in the middle. */
static double limit_at(const float *bins, int cut)
{
    int low = cut, high = cut;
    while (low > 0 && bins[low - 1] <= 0)
        low--;
    while (high < MACHINE_BINS && bins[high] <= 0)
        high++;
    return power_of((low + high) / 2.0);
}

static void learn(struct saved *s)
{
    struct sums until[MACHINE_BINS + 1] = {{0}};
    for (int i = 0; i < MACHINE_BINS; i++) {
        const double n = (double)s->bins[i], x = i + 0.5;
        until[i + 1] = (struct sums){until[i].n + n, until[i].x + n * x, until[i].xx + n * x * x};
    }
    double mean[3] = {0}, best_mean[2] = {0};
    const double one = cost(until, 0, MACHINE_BINS, mean);
    double two = INFINITY, three = INFINITY;
    int cut = 0, cuts[2] = {0, 0};
    for (int a = 1; a < MACHINE_BINS; a++) { /* a cut behind an empty bin is the one before */
        const double left = cost(until, 0, a, &mean[0]);
        if (s->bins[a - 1] <= 0 || !isfinite(left))
            continue;
        const double right = cost(until, a, MACHINE_BINS, &mean[1]);
        if (left + right < two && mean[1] - mean[0] >= APART_BINS) {
            two = left + right;
            cut = a;
            memcpy(best_mean, mean, sizeof best_mean);
        }
        for (int b = a + 1; b < MACHINE_BINS; b++) {
            if (s->bins[b - 1] <= 0)
                continue;
            const double c =
                left + cost(until, a, b, &mean[1]) + cost(until, b, MACHINE_BINS, &mean[2]);
            if (c < three && mean[1] - mean[0] >= APART_BINS && mean[2] - mean[1] >= APART_BINS) {
                three = c;
                cuts[0] = a;
                cuts[1] = b;
            }
        }
    }
    s->learned_run_w = s->learned_peak_w = 0;
    if (three <= fmin(two - GAIN, one - 2 * GAIN)) {
        s->learned_run_w = limit_at(s->bins, cuts[0]);
        s->learned_peak_w = limit_at(s->bins, cuts[1]);
    } else if (two <= one - GAIN && power_of(best_mean[0]) < power_of(best_mean[1]) / 2) {
        s->learned_run_w = limit_at(s->bins, cut); /* less than half: it idles there */
    } else if (two <= one - GAIN) {
        s->learned_peak_w = limit_at(s->bins, cut);
    }
}

static void note_power(struct saved *s, double watts, int64_t ms)
{
    const int bin = watts > 1 ? (int)(log(watts) / BIN) : 0;
    const double seconds = (double)ms / 1000;
    s->bins[bin < MACHINE_BINS ? bin : MACHINE_BINS - 1] += (float)seconds;
    s->seconds += seconds;
    if (s->seconds < FULL_S)
        return;
    s->seconds /= 2;
    for (int i = 0; i < MACHINE_BINS; i++)
        s->bins[i] /= 2;
}

/* ---- states ---- */

double machine_limits(const struct machine *m, struct machine_limits *out)
{
    if (m->config.mode == MACHINE_LIMITS) {
        *out = (struct machine_limits){m->config.run_w, m->config.peak_w};
        return 1;
    }
    *out = (struct machine_limits){m->s.learned_run_w, m->s.learned_peak_w};
    return fmin(m->s.seconds / ENOUGH_S, 1);
}

static enum machine_state state_of(const struct machine *m, double watts)
{
    struct machine_limits l;
    const enum machine_state now = (enum machine_state)m->s.state;
    machine_limits(m, &l);
    if (watts < (now == MACHINE_OFF ? m->config.on_w : m->config.off_w))
        return MACHINE_OFF;
    if (l.peak_w > 0 && watts >= l.peak_w * (now == MACHINE_PEAK ? LEAVE : 1))
        return MACHINE_PEAK;
    if (l.run_w > 0 && watts < l.run_w * (now >= MACHINE_RUN ? LEAVE : 1))
        return MACHINE_IDLE;
    return MACHINE_RUN;
}

static void note_change(struct machine *m, enum machine_state to)
{
    const struct saved *s = &m->s;
    if (!m->config.events)
        return;
    if (m->change_count == MACHINE_CHANGES) {
        memmove(m->changes, m->changes + 1, sizeof m->changes - sizeof m->changes[0]);
        m->change_count--;
        m->lost++;
    }
    m->changes[m->change_count++] = (struct machine_change){.t_ms = s->candidate_ms,
                                                            .before_ms = s->since_ms,
                                                            .from = (enum machine_state)s->state,
                                                            .to = to,
                                                            .watts = s->last_w};
}

static void enter(struct saved *s, int state)
{
    s->now.starts += state >= MACHINE_RUN && s->state < MACHINE_RUN;
    s->state = state;
    s->since_ms = s->candidate_ms;
}

static void follow(struct machine *m, int64_t t_ms, double watts)
{
    struct saved *s = &m->s;
    const int state = (int)state_of(m, watts);
    if (state == s->state) {
        s->candidate = state;
        return;
    }
    /* Between two other states the time goes on: off to peak passes through run. */
    if (s->candidate == s->state)
        s->candidate_ms = t_ms;
    s->candidate = state;
    if (t_ms - s->candidate_ms >= MACHINE_HOLD_MS) {
        note_change(m, (enum machine_state)state);
        enter(s, state);
    }
}

/* ---- time ---- */

static void end_quarter(struct machine *m, int64_t start_ms)
{
    const struct machines_quarter *q = &m->s.now;
    if (q->start_ms && q->off_ms + q->idle_ms + q->run_ms + q->peak_ms > 0) {
        if (m->done_count == MACHINE_QUARTERS) { /* the store refuses for hours: the oldest goes */
            memmove(m->done, m->done + 1, sizeof m->done - sizeof m->done[0]);
            m->done_count--;
        }
        m->done[m->done_count++] = *q;
    }
    m->s.now = (struct machines_quarter){.start_ms = start_ms};
    if (m->config.mode == MACHINE_AUTO && m->s.seconds >= ENOUGH_S && start_ms % HOUR_MS == 0)
        learn(&m->s);
}

/* The last reading held from..to, within one quarter. */
static void hold(struct saved *s, int64_t ms)
{
    int64_t *const times[] = {&s->now.off_ms, &s->now.idle_ms, &s->now.run_ms, &s->now.peak_ms};
    *times[s->state] += ms;
    s->now.wh += s->last_w * (double)ms / 3.6e6;
}

static void move_to(struct machine *m, int64_t t_ms)
{
    const int64_t quarter = t_ms - t_ms % MACHINES_QUARTER_MS;
    if (quarter != m->s.now.start_ms)
        end_quarter(m, quarter);
}

int machine_reading(struct machine *m, int64_t t_ms, double watts)
{
    struct saved *s = &m->s;
    const int before = m->done_count + m->change_count + m->lost;
    if (s->last_ms && t_ms <= s->last_ms && (!m->config.live || s->last_ms - t_ms < HOUR_MS))
        return 0;
    const int covered = s->last_ms && t_ms > s->last_ms && t_ms - s->last_ms <= m->config.gap_ms;
    if (covered) {
        for (int64_t from = s->last_ms; from < t_ms;) {
            const int64_t end = from - from % MACHINES_QUARTER_MS + MACHINES_QUARTER_MS;
            const int64_t to = end < t_ms ? end : t_ms;
            move_to(m, from);
            hold(s, to - from);
            from = to;
        }
        if (s->state != MACHINE_OFF && s->last_w >= m->config.off_w)
            note_power(s, s->last_w, t_ms - s->last_ms);
    }
    move_to(m, t_ms);
    if (!covered)
        s->candidate = s->state;
    s->last_ms = t_ms;
    s->last_w = watts;
    follow(m, t_ms, watts);
    return m->done_count + m->change_count + m->lost > before;
}

/* ---- store ---- */

static int is_sound(const struct saved *s)
{
    int good = s->magic == SAVED_MAGIC && s->size == sizeof *s && s->last_ms >= 0 &&
               isfinite(s->last_w) && isfinite(s->seconds) && isfinite(s->now.wh) &&
               isfinite(s->learned_run_w) && isfinite(s->learned_peak_w) && s->state >= 0 &&
               s->state <= MACHINE_PEAK && s->candidate >= 0 && s->candidate <= MACHINE_PEAK;
    for (int i = 0; i < MACHINE_BINS && good; i++)
        good = isfinite(s->bins[i]) && s->bins[i] >= 0;
    return good;
}

int machine_create(const struct machine_config *config, const void *saved, int bytes,
                   struct machine **out)
{
    struct machine *m = calloc(1, sizeof *m);
    *out = m;
    if (!m)
        return -ENOMEM;
    m->config = *config;
    if (saved && bytes == (int)sizeof m->s)
        memcpy(&m->s, saved, sizeof m->s);
    if (!is_sound(&m->s))
        m->s = (struct saved){.magic = SAVED_MAGIC, .size = sizeof m->s};
    return 0;
}

void machine_destroy(struct machine *m)
{
    free(m);
}

int machine_waits(const struct machine *m)
{
    return m->done_count;
}

int machine_changes(const struct machine *m)
{
    return m->change_count;
}

int machine_lost(struct machine *m)
{
    const int lost = m->lost;
    m->lost = 0;
    return lost;
}

static int append_change(const struct machine *m, const struct machine_change *c,
                         struct store *store, enum event_quality quality)
{
    char *body = payload_state(m->config.meter, c, quality);
    struct outbox_item item = {.kind = OUTBOX_EVENT, .created_ms = c->t_ms, .body = body};
    uint64_t seq;
    if (!body)
        return -ENOMEM;
    snprintf(item.channel, sizeof item.channel, "%s", m->config.meter);
    item.body_bytes = strlen(body);
    const int rc = outbox_append(store, &item, &seq);
    free(body);
    return rc;
}

int machine_save(struct machine *m, struct store *store, enum event_quality quality)
{
    const char *meter = m->config.meter;
    int rc = store_begin(store);
    if (rc < 0)
        return rc;
    for (int i = 0; i < m->change_count && rc == 0; i++)
        rc = append_change(m, &m->changes[i], store, quality);
    for (int i = 0; i < m->done_count && rc == 0; i++)
        rc = machines_put(store, meter, &m->done[i]);
    if (rc == 0 && m->s.now.start_ms)
        rc = machines_put(store, meter, &m->s.now);
    if (rc == 0)
        rc = machines_put_state(store, meter, &m->s, sizeof m->s);
    if (rc == 0)
        rc = machines_trim(store, meter, m->s.now.start_ms - MACHINE_KEPT_MS);
    if (rc == 0)
        rc = store_commit(store);
    if (rc < 0)
        store_rollback(store);
    else
        m->done_count = m->change_count = 0;
    return rc;
}

enum machine_state machine_now(const struct machine *m, int64_t *since_ms)
{
    *since_ms = m->s.since_ms;
    return (enum machine_state)m->s.state;
}
