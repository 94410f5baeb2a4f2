/* log.h - one line per message on standard error, for people and for journald. Thread-safe.
 *
 * A line is "2026-01-31T12:00:00Z warning TEXT"; under systemd (JOURNAL_STREAM is set) it is
 * "<4>TEXT", since the journal keeps the time itself. Control characters in TEXT (which may quote a
 * broker or a file) become '?', so nobody outside can forge lines. Secrets are never passed here.
 */
#ifndef AGENT_LOG_H
#define AGENT_LOG_H

enum log_level {
    LOG_LEVEL_ERROR = 0,
    LOG_LEVEL_WARNING = 1,
    LOG_LEVEL_INFO = 2,
    LOG_LEVEL_DEBUG = 3
};

#define LOG_LINE_BYTES 1024 /* longer texts are cut */

/* Messages above level are dropped from now on (LOG_LEVEL_INFO until called). Any thread. */
void log_set_level(int level);

__attribute__((format(printf, 1, 2))) void log_error(const char *format, ...);
__attribute__((format(printf, 1, 2))) void log_warning(const char *format, ...);
__attribute__((format(printf, 1, 2))) void log_info(const char *format, ...);
__attribute__((format(printf, 1, 2))) void log_debug(const char *format, ...);

#endif
