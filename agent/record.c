/* record.c - see record.h. Lines are collected in a buffer and appended in one write, so a
 * gateway's flash sees one write in ten seconds. A crash loses these, and may tear the last line:
 * the reader takes a line only when it is whole. */
#include "agent/record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "agent/log.h"
#include "inference/trace_text.h"

#define BUFFER_BYTES 4096
#define LINE_BYTES 96
#define PATH_BYTES 1024
#define FLUSH_MS 10000
#define RETRY_MS 60000
#define BACK_MS 3600000 /* so far back in time, the clock was wrong before */
#define REMOVE_AT_ONCE 64

struct record {
    struct record_config config;
    struct record_stats stats;
    int fd, date;   /* of the open file: yyyymmdd; -1: none */
    int64_t last_s; /* last second given to the buffer or found in a file */
    int64_t second; /* being averaged; valid when count > 0 */
    double sum;
    unsigned count;
    int64_t mono_ms, flushed_ms, retry_ms; /* monotonic */
    int looked;                            /* for what an earlier life wrote */
    size_t used, lines;                    /* in the buffer */
    char buffer[BUFFER_BYTES];
};

int record_parse_name(const char *file, const char *meter, int *date)
{
    const size_t n = strlen(meter);
    int year, month, day, end = 0;
    if (strncmp(file, meter, n) != 0 || file[n] != '_' || strlen(file) != n + 15)
        return -EBADMSG;
    if (sscanf(file + n + 1, "%4d.%2d.%2d.csv%n", &year, &month, &day, &end) != 3 || end != 14)
        return -EBADMSG;
    *date = year * 10000 + month * 100 + day;
    return 0;
}

int record_create(const struct record_config *config, struct record **out)
{
    struct record *r = calloc(1, sizeof *r);
    *out = r;
    if (!r)
        return -ENOMEM;
    r->config = *config;
    r->fd = -1;
    r->last_s = INT64_MIN;
    return 0;
}

static int date_of(int64_t second, struct tm *out)
{
    const time_t t = (time_t)second;
    if (!gmtime_r(&t, out))
        return 0;
    return (out->tm_year + 1900) * 10000 + (out->tm_mon + 1) * 100 + out->tm_mday;
}

static int path_of(const struct record *r, int date, char path[PATH_BYTES])
{
    const int n = snprintf(path, PATH_BYTES, "%s/%s_%04d.%02d.%02d.csv", r->config.folder,
                           r->config.meter, date / 10000, date / 100 % 100, date % 100);
    return n > 0 && n < PATH_BYTES ? 0 : -ENAMETOOLONG;
}

/* Day files of this meter: how many, the oldest and the newest. -errno. */
static int list_days(const struct record *r, int *oldest, int *newest)
{
    int count = 0, date = 0;
    DIR *d = opendir(r->config.folder);
    if (!d)
        return -errno;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (record_parse_name(e->d_name, r->config.meter, &date) < 0)
            continue;
        *oldest = count == 0 || date < *oldest ? date : *oldest;
        *newest = count == 0 || date > *newest ? date : *newest;
        count++;
    }
    closedir(d);
    return count;
}

/* By number, not by age: the clock has no say in what is removed. */
static void remove_old(const struct record *r)
{
    char path[PATH_BYTES];
    int oldest = 0, newest = 0;
    for (int i = 0; i < REMOVE_AT_ONCE && list_days(r, &oldest, &newest) > r->config.days; i++)
        if (path_of(r, oldest, path) < 0 || oldest == r->date || unlink(path) < 0)
            return;
}

/* The time of the last whole line of an open file; *torn: bytes without a line end behind it. */
static int64_t last_time(int fd, int *torn)
{
    char tail[2 * LINE_BYTES];
    const off_t size = lseek(fd, 0, SEEK_END);
    const off_t from = size > (off_t)sizeof tail ? size - (off_t)sizeof tail : 0;
    const ssize_t n = size > 0 ? pread(fd, tail, sizeof tail, from) : 0;
    *torn = 0;
    if (n <= 0)
        return INT64_MIN;
    const char *end = tail + n;
    *torn = end[-1] != '\n';
    while (end > tail && end[-1] != '\n')
        end--;
    const char *line = end > tail ? end - 1 : tail;
    while (line > tail && line[-1] != '\n')
        line--;
    int64_t t_ms;
    return trace_text_tracebase_time(&line, end, &t_ms) == 0 ? t_ms / 1000 : INT64_MIN;
}

/* Where an earlier life stopped, so that a replay that begins again writes nothing twice. */
static void look_back(struct record *r)
{
    char path[PATH_BYTES];
    int oldest = 0, newest = 0, torn = 0;
    r->looked = 1;
    if (list_days(r, &oldest, &newest) <= 0 || path_of(r, newest, path) < 0)
        return;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return;
    const int64_t last = last_time(fd, &torn);
    r->last_s = last > r->last_s ? last : r->last_s;
    close(fd);
}

static int has_room(const struct record *r)
{
    struct statvfs s;
    if (statvfs(r->config.folder, &s) < 0)
        return -errno;
    return (uint64_t)s.f_bavail * s.f_frsize < r->config.reserve_bytes ? -ENOSPC : 0;
}

static void close_file(struct record *r)
{
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
    r->date = 0;
}

static int open_day(struct record *r, int date)
{
    char path[PATH_BYTES];
    struct stat st;
    int torn = 0, rc = path_of(r, date, path);
    if (rc < 0)
        return rc;
    if (mkdir(r->config.folder, 0750) < 0 && errno != EEXIST)
        return -errno;
    r->fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640);
    if (r->fd < 0)
        return -errno;
    if (fstat(r->fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close_file(r);
        return -EINVAL;
    }
    r->date = date;
    last_time(r->fd, &torn);
    if (torn && write(r->fd, "\n", 1) != 1) {
        rc = -errno;
        close_file(r);
        return rc;
    }
    remove_old(r);
    return 0;
}

static void lose(struct record *r, int rc)
{
    if (!r->stats.failing)
        log_warning("meter %s: recording to %s: %s; it is tried again each minute", r->config.meter,
                    r->config.folder, rc == -ENOSPC ? "too little space is left" : strerror(-rc));
    r->stats.failing = 1;
    r->stats.dropped += r->lines;
    r->retry_ms = r->mono_ms + RETRY_MS;
    r->used = r->lines = 0;
    close_file(r);
}

/* Appends the buffer to the file of its day: all of it or nothing. */
static void flush(struct record *r, int date)
{
    r->flushed_ms = r->mono_ms;
    if (r->used == 0)
        return;
    if (r->date != date)
        close_file(r);
    int rc = r->fd < 0 ? open_day(r, date) : 0;
    if (rc == 0)
        rc = has_room(r);
    if (rc == 0) {
        const off_t before = lseek(r->fd, 0, SEEK_END);
        const ssize_t n = write(r->fd, r->buffer, r->used);
        if (n != (ssize_t)r->used) {
            rc = n < 0 ? -errno : -ENOSPC;
            if (before >= 0 && ftruncate(r->fd, before) < 0)
                close_file(r); /* a torn line; the next opening ends it */
        }
    }
    if (rc < 0) {
        lose(r, rc);
        return;
    }
    if (r->stats.failing)
        log_info("meter %s: recording again", r->config.meter);
    r->stats.failing = 0;
    r->stats.lines += r->lines;
    r->used = r->lines = 0;
}

static int buffer_date(const struct record *r)
{
    struct tm t;
    return date_of(r->last_s, &t);
}

/* The second is complete: a line of it. */
static void end_second(struct record *r)
{
    struct tm t;
    const int date = date_of(r->second, &t);
    const double watts = r->sum / r->count;
    r->count = 0;
    if (date < 19700101 || date > 99991231)
        return;
    if (r->used > 0 && (date != buffer_date(r) || r->used + LINE_BYTES > sizeof r->buffer))
        flush(r, buffer_date(r));
    r->last_s = r->second;
    if (r->stats.failing && r->mono_ms < r->retry_ms) {
        r->stats.dropped++;
        return;
    }
    const int n = snprintf(r->buffer + r->used, LINE_BYTES,
                           "%02d/%02d/%04d %02d:%02d:%02d;%.1f;%.1f\n", t.tm_mday, t.tm_mon + 1,
                           t.tm_year + 1900, t.tm_hour, t.tm_min, t.tm_sec, watts, watts);
    r->used += n > 0 && n < LINE_BYTES ? (size_t)n : 0;
    r->lines++;
}

void record_reading(struct record *r, int64_t t_ms, double watts)
{
    const int64_t second = t_ms / 1000;
    if (!r->looked)
        look_back(r);
    if (r->count > 0 && second != r->second)
        end_second(r);
    if (r->count == 0) {
        const int64_t back = r->last_s == INT64_MIN ? INT64_MIN : r->last_s - second;
        if (back >= 0 && (!r->config.live || back < BACK_MS / 1000))
            return;
        r->second = second;
        r->sum = 0;
    }
    r->sum += watts;
    r->count++;
}

void record_tick(struct record *r, int64_t mono_ms)
{
    r->mono_ms = mono_ms;
    if (mono_ms - r->flushed_ms >= FLUSH_MS)
        flush(r, buffer_date(r));
}

void record_destroy(struct record *r)
{
    if (!r)
        return;
    if (r->count > 0)
        end_second(r);
    flush(r, buffer_date(r));
    close_file(r);
    free(r);
}

void record_get_stats(const struct record *r, struct record_stats *out)
{
    *out = r->stats;
}
