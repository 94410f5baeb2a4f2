#include "agent/calendar.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ZONES "/usr/share/zoneinfo"
#define HOUR_MS INT64_C(3600000)
#define DAY_MS (24 * HOUR_MS)

/* No path out of the folder, and nothing that the C library would take for a rule of its own. */
static int is_name(const char *zone)
{
    const size_t n = strlen(zone);
    return n > 0 && n < 64 && zone[0] != '/' && zone[0] != '.' && !strstr(zone, "..") &&
           strspn(zone, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-/") == n;
}

static int is_zone_file(const char *zone)
{
    char path[512], magic[4] = "";
    const char *folder = getenv("TZDIR");
    const int n = snprintf(path, sizeof path, "%s/%s", folder && *folder ? folder : ZONES, zone);
    const int fd =
        n < (int)sizeof path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) : -1;
    if (fd < 0)
        return 0;
    const ssize_t got = read(fd, magic, sizeof magic);
    close(fd);
    return got == (ssize_t)sizeof magic && memcmp(magic, "TZif", 4) == 0;
}

int calendar_check(const char *zone, char *why, size_t why_size)
{
    if (strcmp(zone, "UTC") == 0 || (is_name(zone) && is_zone_file(zone)))
        return 0;
    const char *folder = getenv("TZDIR");
    snprintf(
        why, why_size,
        "expected a time zone that this system knows, such as Europe/Berlin (a file below %s); "
        "found \"%.80s\"",
        folder && *folder ? folder : ZONES, zone);
    return -EINVAL;
}

int calendar_use(const char *zone)
{
    if (zone[0] && setenv("TZ", zone, 1) < 0)
        return -errno;
    tzset();
    return 0;
}

int32_t calendar_hour(int64_t t_ms, int *hour, int *weekend)
{
    const time_t s = (time_t)(t_ms / 1000);
    struct tm tm;
    if (!localtime_r(&s, &tm))
        gmtime_r(&s, &tm);
    *hour = tm.tm_hour;
    *weekend = tm.tm_wday == 0 || tm.tm_wday == 6;
    tm.tm_isdst = 0;
    return (int32_t)(timegm(&tm) / 86400);
}

int32_t calendar_day(int64_t t_ms)
{
    int hour, weekend;
    return calendar_hour(t_ms, &hour, &weekend);
}

int64_t calendar_start(int32_t day)
{
    /* No zone is more than a day from UTC, and a day begins once. */
    int64_t before = (int64_t)day * DAY_MS - 2 * DAY_MS, after = (int64_t)day * DAY_MS + 2 * DAY_MS;
    while (after - before > 1000) {
        const int64_t middle = (before + after) / 2000 * 1000;
        if (calendar_day(middle) < day)
            before = middle;
        else
            after = middle;
    }
    return after;
}

int calendar_minute(int64_t t_ms)
{
    const time_t s = (time_t)(t_ms / 1000);
    struct tm tm;
    return localtime_r(&s, &tm) ? tm.tm_hour * 60 + tm.tm_min : 0;
}

const char *calendar_text(int32_t day, char text[16])
{
    const time_t s = (time_t)day * 86400;
    struct tm tm;
    if (!gmtime_r(&s, &tm) || strftime(text, 16, "%Y-%m-%d", &tm) == 0)
        snprintf(text, 16, "-");
    return text;
}
