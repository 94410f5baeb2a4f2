/* hours.c - energy by the hour. */
#include "agent/hours.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "agent/calendar.h"
#include "agent/event.h"

#define HOUR_MS 3600000LL
#define MINUTE_MS 60000LL
#define SLOT_MS 300000LL
#define SLOT_LEAST_MS 150000 /* less of it was seen: no mean */

/* The five minutes that end are a candidate for the lowest. */
static void end_slot(struct hours *h)
{
    if (h->low_ms >= SLOT_LEAST_MS) {
        const double w = h->low_wms / (double)h->low_ms;
        if (h->now.low_w < 0 || w < h->now.low_w)
            h->now.low_w = w;
    }
    h->low_wms = 0;
    h->low_ms = 0;
}

static void end_hour(struct hours *h, int64_t start_ms)
{
    end_slot(h);
    if (h->now.start_ms && h->seen_ms) {
        if (h->done_count == HOURS_KEPT) { /* nobody took them */
            memmove(h->done, h->done + 1, sizeof(h->done) - sizeof(h->done[0]));
            h->done_count--;
        }
        h->done[h->done_count++] = h->now;
    }
    h->now = (struct energy_hour){.start_ms = start_ms, .low_w = -1};
    h->seen_ms = h->run_ms = h->peak_ms = 0;
    h->low_slot = 0;
}

/* The last reading held from..to, within one slot. */
static void hold(struct hours *h, int64_t from_ms, int64_t to_ms, double peak_w)
{
    const int64_t ms = to_ms - from_ms;
    h->now.wh += h->last_w * (double)ms / 3.6e6;
    h->seen_ms += ms;
    h->run_ms += h->last_on ? ms : 0;
    h->peak_ms += h->last_on && peak_w > 0 && h->last_w >= peak_w ? ms : 0;
    h->now.seen_s = (int32_t)(h->seen_ms / 1000);
    h->now.run_s = (int32_t)(h->run_ms / 1000);
    h->now.peak_s = (int32_t)(h->peak_ms / 1000);
    h->low_wms += h->last_w * (double)ms;
    h->low_ms += ms;
}

/* Hours are those of local time: where it is half an hour off, days begin with one, too. */
static int64_t hour_of(const struct hours *h, int64_t t_ms)
{
    if (h->now.start_ms && t_ms >= h->now.start_ms && t_ms < h->now.start_ms + HOUR_MS)
        return h->now.start_ms;
    return t_ms - t_ms % MINUTE_MS - calendar_minute(t_ms) % 60 * MINUTE_MS;
}

/* Makes the hour and slot of t_ms the current ones. */
static void move_to(struct hours *h, int64_t t_ms)
{
    const int64_t hour = hour_of(h, t_ms);
    const int32_t slot = (int32_t)((t_ms - hour) / SLOT_MS);
    if (hour != h->now.start_ms)
        end_hour(h, hour);
    if (slot != h->low_slot)
        end_slot(h);
    h->low_slot = slot;
}

int hours_add(struct hours *h, int64_t t_ms, double watts, int on, double peak_w, int64_t gap_ms)
{
    const int before = h->done_count;
    int64_t from = h->last_ms;
    if (from && t_ms > from && t_ms - from <= gap_ms) {
        while (from < t_ms) {
            const int64_t end = from - from % SLOT_MS + SLOT_MS, to = end < t_ms ? end : t_ms;
            move_to(h, from);
            hold(h, from, to, peak_w);
            from = to;
        }
    }
    move_to(h, t_ms);
    if (watts > h->now.high_w)
        h->now.high_w = watts;
    h->last_ms = t_ms;
    h->last_w = watts;
    h->last_on = on;
    return h->done_count > before && h->done_count == HOURS_KEPT;
}

void hours_start(struct hours *h)
{
    h->now.starts++;
}

int hours_take(struct hours *h, struct energy_hour *out)
{
    int n = h->done_count;
    memcpy(out, h->done, sizeof(h->done[0]) * (size_t)n);
    h->done_count = 0;
    if (h->now.start_ms && h->seen_ms)
        out[n++] = h->now;
    return n;
}

int hours_check(const struct hours *h)
{
    int good = h->done_count >= 0 && h->done_count <= HOURS_KEPT && isfinite(h->now.wh) &&
               isfinite(h->now.low_w) && isfinite(h->now.high_w) && isfinite(h->low_wms) &&
               isfinite(h->last_w) && h->now.start_ms >= 0 && h->last_ms >= 0 &&
               event_is_time(h->now.start_ms) && event_is_time(h->last_ms);
    for (int i = 0; i < h->done_count && good; i++)
        good = isfinite(h->done[i].wh) && isfinite(h->done[i].low_w) && isfinite(h->done[i].high_w);
    return good ? 0 : -EBADMSG;
}
