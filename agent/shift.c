#include "agent/shift.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *const names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};

/* Three letters at *p; *p goes behind them. 0 to 6, or -1. */
static int take_day(const char **p)
{
    for (int i = 0; i < 7; i++)
        if (strncmp(*p, names[i], 3) == 0) {
            *p += 3;
            return i;
        }
    return -1;
}

static int take_days(const char *p, unsigned *days)
{
    while (*p) {
        const int from = take_day(&p);
        int to = from;
        if (*p == '-') {
            p++;
            to = take_day(&p);
        }
        if (from < 0 || to < 0 || (*p && *p != ' '))
            return -EINVAL;
        for (int i = from;; i = (i + 1) % 7) {
            *days |= 1u << i;
            if (i == to)
                break;
        }
        p += strspn(p, " ");
    }
    return 0;
}

int shift_parse(const char *text, struct shift *out, char *why, size_t why_size)
{
    int h1, m1, h2, m2, n = 0;
    const int found = sscanf(text, "%2d:%2d-%2d:%2d%n", &h1, &m1, &h2, &m2, &n);
    const char *rest = text + n + strspn(text + n, " ");
    if (found != 4 || n < 7 || (text[n] && text[n] != ' ') || h1 < 0 || h1 > 23 || h2 < 0 ||
        h2 > 24 || m1 < 0 || m1 > 59 || m2 < 0 || m2 > 59 || h2 * 60 + m2 > 1440 || m1 % 15 ||
        m2 % 15) {
        snprintf(why, why_size, "expected HH:MM-HH:MM in quarters of an hour, then weekdays");
        return -EINVAL;
    }
    out->from_min = h1 * 60 + m1;
    out->to_min = h2 * 60 + m2;
    out->days = *rest ? 0 : 127;
    if (take_days(rest, &out->days) < 0) {
        snprintf(why, why_size, "expected weekdays: sun mon tue wed thu fri sat, or mon-fri");
        return -EINVAL;
    }
    return 0;
}

static int date_of(struct tm day, int back)
{
    day.tm_mday -= back;
    day.tm_hour = 12; /* whatever the clock does at night */
    day.tm_isdst = -1;
    mktime(&day);
    return (day.tm_year + 1900) * 10000 + (day.tm_mon + 1) * 100 + day.tm_mday;
}

int shift_at(const struct shift *shifts, size_t count, int64_t t_ms, int *date)
{
    const time_t t = (time_t)(t_ms / 1000);
    struct tm local;
    if (!localtime_r(&t, &local))
        return -1;
    const int minute = local.tm_hour * 60 + local.tm_min;
    const unsigned today = 1u << local.tm_wday, before = 1u << (local.tm_wday + 6) % 7;
    for (size_t i = 0; i < count; i++) {
        const struct shift *s = &shifts[i];
        const int over = s->to_min <= s->from_min;
        int back = -1;
        if (minute >= s->from_min && (over || minute < s->to_min) && s->days & today)
            back = 0;
        else if (over && minute < s->to_min && s->days & before)
            back = 1;
        if (back >= 0) {
            *date = date_of(local, back);
            return (int)i;
        }
    }
    return -1;
}
