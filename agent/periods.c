/* periods.c - tariffs. */
#include "agent/periods.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define QUARTER_MS 900000LL

static const char *const days[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};

static int day_of(const char *text)
{
    for (int d = 0; d < 7; d++)
        if (strncasecmp(text, days[d], 3) == 0)
            return d;
    return -1;
}

/* "mon" or "mon-fri" -> bits; 0: neither. */
static unsigned parse_days(const char *text)
{
    const size_t n = strlen(text);
    const int from = day_of(text), to = n == 7 && text[3] == '-' ? day_of(text + 4) : from;
    unsigned bits = 0;
    if ((n != 3 && n != 7) || from < 0 || to < 0)
        return 0;
    for (int d = from;; d = (d + 1) % 7) {
        bits |= 1u << d;
        if (d == to)
            return bits;
    }
}

static int parse_clock(const char *text, int *minute)
{
    int h, m, end = 0;
    if (sscanf(text, "%2d:%2d%n", &h, &m, &end) != 2 || text[end] != '\0' || h < 0 || h > 24 ||
        m < 0 || m > 59 || (h == 24 && m))
        return -EINVAL;
    *minute = h * 60 + m;
    return 0;
}

static int parse_entry(char *entry, struct period *p)
{
    char *save = NULL, *word = strtok_r(entry, " \t", &save), *end;
    p->days = 0x7f;
    if (word && parse_days(word)) {
        p->days = parse_days(word);
        word = strtok_r(NULL, " \t", &save);
    }
    char *dash = word ? strchr(word, '-') : NULL;
    const char *price = dash ? strtok_r(NULL, " \t", &save) : NULL;
    if (!price || strtok_r(NULL, " \t", &save))
        return -EINVAL;
    *dash = '\0';
    if (parse_clock(word, &p->from_min) < 0 || parse_clock(dash + 1, &p->to_min) < 0)
        return -EINVAL;
    p->price = strtod(price, &end);
    return *end == '\0' && isfinite(p->price) && fabs(p->price) <= 1e6 ? 0 : -EINVAL;
}

int periods_parse(const char *text, struct periods *out, char *why, size_t why_size)
{
    char copy[512], *save = NULL;
    memset(out, 0, sizeof *out);
    if (strlen(text) >= sizeof copy) {
        snprintf(why, why_size, "expected at most %zu characters", sizeof copy - 1);
        return -EINVAL;
    }
    memcpy(copy, text, strlen(text) + 1);
    for (char *e = strtok_r(copy, ",", &save); e; e = strtok_r(NULL, ",", &save)) {
        char shown[80];
        snprintf(shown, sizeof shown, "%.70s", e);
        if (out->count == PERIODS_MAX || parse_entry(e, &out->list[out->count]) < 0) {
            snprintf(why, why_size, "expected up to %d of [DAYS] HH:MM-HH:MM PRICE, found \"%s\"",
                     PERIODS_MAX, shown);
            return -EINVAL;
        }
        out->count++;
    }
    return 0;
}

int periods_at(const struct periods *p, int64_t t_ms)
{
    const time_t s = (time_t)(t_ms / 1000);
    struct tm tm;
    if (!p->count || !localtime_r(&s, &tm))
        return -1;
    const int minute = tm.tm_hour * 60 + tm.tm_min, yesterday = (tm.tm_wday + 6) % 7;
    for (size_t i = 0; i < p->count; i++) {
        const struct period *e = &p->list[i];
        const int today = e->days >> tm.tm_wday & 1, before = e->days >> yesterday & 1;
        const int over_night = e->to_min <= e->from_min;
        if (today && minute >= e->from_min && (over_night || minute < e->to_min))
            return (int)i;
        if (before && over_night && minute < e->to_min)
            return (int)i;
    }
    return -1;
}

double periods_price(const struct periods *p, double otherwise, int64_t t_ms)
{
    const int i = periods_at(p, t_ms);
    return i < 0 ? otherwise : p->list[i].price;
}

double periods_cost(const struct periods *p, double otherwise, int64_t start_ms, int64_t end_ms,
                    double wh)
{
    double sum = 0;
    if (!p->count || end_ms <= start_ms)
        return wh / 1000 * periods_price(p, otherwise, start_ms);
    for (int64_t t = start_ms; t < end_ms;) {
        const int64_t quarter = t - t % QUARTER_MS + QUARTER_MS;
        const int64_t to = quarter < end_ms ? quarter : end_ms;
        sum += (double)(to - t) * periods_price(p, otherwise, t);
        t = to;
    }
    return wh / 1000 * sum / (double)(end_ms - start_ms);
}
