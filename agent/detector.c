/* detector.c - switching by threshold, as detector.h lays it down. */
#include "agent/detector.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "agent/event.h"

#define WMS_PER_WH 3600000.0

void detector_init(struct detector *d)
{
    memset(d, 0, sizeof(*d));
}

static void fill_run(const struct detector *d, int64_t end_ms, const char *reason,
                     struct detector_run *run)
{
    *run = (struct detector_run){
        .start_ms = d->start_ms,
        .end_ms = end_ms,
        .energy_wh = d->energy_wms / WMS_PER_WH,
        .mean_w = d->covered_ms > 0 ? d->energy_wms / (double)d->covered_ms : d->peak_w,
        .peak_w = d->peak_w,
        .step_w = d->last_w - d->base_w,
        .reason = reason,
    };
}

void detector_current(const struct detector *d, struct detector_run *run)
{
    fill_run(d, d->candidate ? d->since_ms : d->last_ms, "", run);
}

/* Ends the run in progress: at its candidate's stamp, or with the last reading for the reason
 * given. */
static enum detector_change end_run(struct detector *d, const char *reason,
                                    struct detector_run *run)
{
    enum detector_change change = DETECTOR_NONE;
    if (d->on) {
        fill_run(d, d->candidate ? d->since_ms : d->last_ms, d->candidate ? "off" : reason, run);
        change = DETECTOR_OFF;
    }
    d->on = 0;
    d->candidate = 0;
    return change;
}

enum detector_change detector_pass(struct detector *d, const struct detector_config *c,
                                   int64_t t_ms, struct detector_run *run)
{
    if (!d->started || t_ms - d->last_ms <= c->silence_ms)
        return DETECTOR_NONE;
    return end_run(d, "gap", run);
}

enum detector_change detector_finish(struct detector *d, struct detector_run *run)
{
    return end_run(d, "stop", run);
}

/* Counts the time that the last reading held. */
static void hold(struct detector *d, const struct detector_config *c, int64_t t_ms)
{
    int64_t held = t_ms - d->last_ms;
    if (held > c->max_gap_ms || !(d->on || d->candidate))
        return;
    if (d->on && d->candidate) {
        d->tail_wms += d->last_w * (double)held;
        d->tail_ms += held;
    } else {
        d->energy_wms += d->last_w * (double)held;
        d->covered_ms += held;
    }
}

static enum detector_change while_off(struct detector *d, const struct detector_config *c,
                                      int64_t t_ms, double watts, struct detector_run *run)
{
    if (watts < c->on_w) {
        d->candidate = 0;
        d->base_w = watts;
        return DETECTOR_NONE;
    }
    if (!d->candidate) {
        d->candidate = 1;
        d->since_ms = t_ms;
        d->energy_wms = d->peak_w = 0;
        d->covered_ms = 0;
    }
    if (watts > d->peak_w)
        d->peak_w = watts;
    if (t_ms - d->since_ms < c->min_on_ms)
        return DETECTOR_NONE;
    d->on = 1;
    d->candidate = 0;
    d->start_ms = d->since_ms;
    detector_current(d, run);
    return DETECTOR_ON;
}

static enum detector_change while_on(struct detector *d, const struct detector_config *c,
                                     int64_t t_ms, double watts, struct detector_run *run)
{
    if (watts >= c->off_w) {
        if (d->candidate) { /* bridged */
            d->energy_wms += d->tail_wms;
            d->covered_ms += d->tail_ms;
            d->candidate = 0;
        }
        if (watts > d->peak_w)
            d->peak_w = watts;
        return DETECTOR_NONE;
    }
    if (!d->candidate) {
        d->candidate = 1;
        d->since_ms = t_ms;
        d->tail_wms = 0;
        d->tail_ms = 0;
    }
    if (t_ms - d->since_ms < c->min_off_ms)
        return DETECTOR_NONE;
    enum detector_change change = end_run(d, "off", run);
    d->base_w = watts;
    return change;
}

enum detector_change detector_push(struct detector *d, const struct detector_config *c,
                                   int64_t t_ms, double watts, struct detector_run *run)
{
    if (d->started)
        hold(d, c, t_ms);
    d->started = 1;
    d->last_ms = t_ms;
    d->last_w = watts;
    return d->on ? while_on(d, c, t_ms, watts, run) : while_off(d, c, t_ms, watts, run);
}

int detector_check(const struct detector *d)
{
    int flags = (d->started | d->on | d->candidate) & ~1;
    int numbers = isfinite(d->last_w) && isfinite(d->base_w) && isfinite(d->energy_wms) &&
                  isfinite(d->peak_w) && isfinite(d->tail_wms);
    int times = d->covered_ms >= 0 && d->tail_ms >= 0 && event_is_time(d->covered_ms) &&
                event_is_time(d->tail_ms) && event_is_time(d->last_ms) &&
                event_is_time(d->since_ms) && event_is_time(d->start_ms) &&
                (!d->on || (d->started && d->start_ms <= d->last_ms)) &&
                (!d->candidate || (d->started && d->since_ms <= d->last_ms));
    return flags || !numbers || !times ? -EBADMSG : 0;
}
