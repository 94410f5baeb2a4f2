#include "agent/wear.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LOOK_MS 60000
#define DAY_MS 86400000.0

/* 0 when the system does not tell. */
static uint64_t written_bytes(void)
{
    char line[64];
    uint64_t bytes = 0;
    FILE *f = fopen("/proc/self/io", "re");
    if (!f)
        return 0;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "write_bytes: %" SCNu64, &bytes) == 1)
            break;
    fclose(f);
    return bytes;
}

void wear_tick(struct wear *w, int64_t mono_ms, uint64_t work, uint64_t other)
{
    if (w->looked_at != 0 && mono_ms - w->looked_at < LOOK_MS)
        return;
    const uint64_t bytes = written_bytes();
    if (w->looked_at == 0) {
        w->start_bytes = bytes;
    } else {
        const int busy = work + other != w->all_work;
        if (busy || w->was_busy) {
            w->busy_bytes += bytes - w->bytes;
            w->busy_work += work - w->work;
        } else {
            w->idle_bytes += bytes - w->bytes;
            w->idle_ms += mono_ms - w->looked_at;
        }
        w->was_busy = busy;
    }
    w->looked_at = mono_ms;
    w->bytes = bytes;
    w->work = work;
    w->all_work = work + other;
}

void wear_get(const struct wear *w, struct wear_figures *out)
{
    const uint64_t now = written_bytes();
    memset(out, 0, sizeof *out);
    out->written_bytes = now > w->start_bytes ? now - w->start_bytes : 0;
    if (w->busy_work > 0)
        out->outcome_bytes = w->busy_bytes / w->busy_work;
    if (w->idle_ms > 0)
        out->day_bytes = (uint64_t)((double)w->idle_bytes * DAY_MS / (double)w->idle_ms);
}
