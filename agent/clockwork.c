/* clockwork.c - the agent's clock (wall.h) among its parts: meters, publisher, store. */
#include <string.h>

#include "agent/agent.h"
#include "agent/log.h"
#include "storage/history.h"

static int is_live(const struct config_meter *m)
{
    return m->meter.quality == EVENT_CLOCK;
}

void agent_start_clock(struct agent *a)
{
    int64_t latest = 0, t = 0;
    int live = 0;
    for (size_t i = 0; i < a->config->meter_count; i++) {
        if (!is_live(&a->config->meters[i]))
            continue;
        live = 1;
        if (history_progress(a->store, a->config->meters[i].meter.name, &t) == 0 && t > latest)
            latest = t;
    }
    if (wall_start(&a->wall, a->store, a->config->clock_wait_ms, latest) < 0)
        log_warning("clock: %s", store_error(a->store));
    if (!live) /* recorded times need no correction, and what there is beside them may go out */
        a->wall.released = 1;
}

void agent_set_meter_clock(struct agent *a, struct agent_meter *m)
{
    if (!m->meter || !is_live(m->config))
        return;
    if (m->sender_time) /* not ours to correct */
        meter_set_clock(m->meter, 0, EVENT_CLOCK);
    else
        meter_set_clock(m->meter, a->wall.offset_ms, wall_quality(&a->wall));
}

int64_t agent_reading_time(const struct agent *a, const struct agent_meter *m, int64_t t_ms)
{
    if (!is_live(m->config) || m->sender_time)
        return t_ms;
    return a->wall.known ? t_ms + a->wall.offset_ms : 0;
}

enum event_quality agent_time_quality(const struct agent *a, const struct agent_meter *m)
{
    if (!is_live(m->config))
        return m->config->meter.quality;
    return m->sender_time ? EVENT_CLOCK : wall_quality(&a->wall);
}

void agent_keep_time(struct agent *a)
{
    struct publisher_stats s = {.connected = 0};
    if (a->publisher)
        publisher_get_stats(a->publisher, &s);
    wall_raise_floor(&a->wall, s.chain_from_s);
    const int corrected = a->store ? wall_tick(&a->wall, a->store, s.connected) : 0;
    for (size_t i = 0; i < a->meter_count; i++) {
        agent_set_meter_clock(a, &a->meters[i]);
        if (corrected && a->meters[i].meter && is_live(a->meters[i].config))
            meter_checkpoint(a->meters[i].meter);
    }
    a->status_dirty |= corrected;
    if (a->publisher)
        publisher_set_clock(a->publisher, a->wall.known, a->wall.floor_ms / 1000,
                            wall_holds(&a->wall));
}
