/* calendar.h - days of the configured time zone.
 *
 * The zone is the process's (TZ): reports, shifts, tariffs, routines by time of day and times shown
 * all use the C library's local time. A day is counted from 1970-01-01, whatever its length: 23 or
 * 25 hours where the clock changes.
 */
#ifndef AGENT_CALENDAR_H
#define AGENT_CALENDAR_H

#include <stddef.h>
#include <stdint.h>

/* Whether the system's zone data ($TZDIR, else /usr/share/zoneinfo) has an IANA name such as
 * Europe/Berlin: 0, or -EINVAL with what was expected in why. */
int calendar_check(const char *zone, char *why, size_t why_size);

/* Makes it the zone of this process; "" leaves the system's. Before the first thread. 0 or -ENOMEM.
 */
int calendar_use(const char *zone);

/* The local day that a time is in, and when a day begins (Unix ms): at midnight, or where the clock
 * skips midnight right behind the skip. */
int32_t calendar_day(int64_t t_ms);
int64_t calendar_start(int32_t day);

/* calendar_day, with the hour of that day, and whether it is a Saturday or Sunday. */
int32_t calendar_hour(int64_t t_ms, int *hour, int *weekend);

/* Minute of the local day, 0 to 1439; 0 where the C library cannot tell. */
int calendar_minute(int64_t t_ms);

/* "YYYY-MM-DD". */
const char *calendar_text(int32_t day, char text[16]);

#endif
