#include "agent/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static atomic_int threshold = LOG_LEVEL_INFO;

void log_set_level(int level)
{
    atomic_store(&threshold, level);
}

/* Start of the line; returns its length. */
static size_t prefix(char *line, size_t size, int level)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    static const int priorities[] = {3, 4, 6, 7}; /* of syslog, see sd-daemon(3) */
    if (getenv("JOURNAL_STREAM"))
        return (size_t)snprintf(line, size, "<%d>", priorities[level]);
    char when[32] = "";
    const time_t now = time(NULL);
    struct tm tm;
    if (gmtime_r(&now, &tm))
        strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return (size_t)snprintf(line, size, "%s %s ", when, names[level]);
}

static void put(int level, const char *format, va_list args)
{
    if (level > atomic_load(&threshold))
        return;
    char line[LOG_LINE_BYTES];
    const size_t start = prefix(line, sizeof line - 1, level);
    const int wanted = vsnprintf(line + start, sizeof line - 1 - start, format, args);
    size_t n = strlen(line);
    if (wanted < 0)
        return;
    for (size_t i = start; i < n; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[n++] = '\n';
    /* One write, so that lines of several threads do not mix. Nobody to tell when it fails. */
    if (write(STDERR_FILENO, line, n) < 0)
        return;
}

#define LOG_FUNCTION(name, level)                                                                  \
    void name(const char *format, ...)                                                             \
    {                                                                                              \
        va_list args;                                                                              \
        va_start(args, format);                                                                    \
        put(level, format, args);                                                                  \
        va_end(args);                                                                              \
    }

LOG_FUNCTION(log_error, LOG_LEVEL_ERROR)
LOG_FUNCTION(log_warning, LOG_LEVEL_WARNING)
LOG_FUNCTION(log_info, LOG_LEVEL_INFO)
LOG_FUNCTION(log_debug, LOG_LEVEL_DEBUG)
