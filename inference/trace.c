/* trace.c - see trace.h. Reads the file through its own buffer and parses numbers and times by
 * hand: a year of tracebase is tens of millions of lines, and sscanf, strtod and strptime would
 * each look at the locale for every one of them. */
#include "inference/trace.h"

#include "inference/trace_text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUFFER_BYTES = 4 * TRACE_LINE_BYTES, ERROR_BYTES = 512, MAX_COLUMNS = 256 };

struct trace {
    int fd;
    char *path;
    enum trace_format format;
    unsigned time_column, power_column; /* CSV */
    unsigned phase_columns[2];          /* the others of three; power_column is the first */
    int phased;
    float phases[3];
    char separator;    /* CSV */
    int eof, overlong; /* overlong: in the middle of a line that is being skipped */
    size_t begin, end; /* unread bytes in buffer */
    struct trace_stats stats;
    char error[ERROR_BYTES];
    char buffer[BUFFER_BYTES];
};

struct line {
    const char *text, *end;
    int overlong;
};

__attribute__((format(printf, 2, 3))) static void set_error(struct trace *t, const char *format,
                                                            ...)
{
    int n = snprintf(t->error, sizeof t->error, "%s:%llu: ", t->path,
                     (unsigned long long)t->stats.lines);
    if (n < 0 || (size_t)n >= sizeof t->error)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(t->error + n, sizeof t->error - (size_t)n, format, args);
    va_end(args);
}

/* --- lines --- */

/* Moves what is unread to the front and reads once more. 0, or -errno. */
static int fill(struct trace *t)
{
    if (t->begin > 0) {
        memmove(t->buffer, t->buffer + t->begin, t->end - t->begin);
        t->end -= t->begin;
        t->begin = 0;
    }
    ssize_t n;
    do {
        n = read(t->fd, t->buffer + t->end, sizeof t->buffer - t->end);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    if (n == 0)
        t->eof = 1;
    t->end += (size_t)n;
    return 0;
}

/* The next line without its end (LF or CRLF): 1, 0 at the end of the file, or -errno. What exceeds
 * TRACE_LINE_BYTES is skipped without being kept; the line is then marked overlong and holds its
 * beginning. */
static int next_line(struct trace *t, struct line *out)
{
    for (;;) {
        const char *start = t->buffer + t->begin;
        size_t have = t->end - t->begin;
        const char *lf = memchr(start, '\n', have);
        if (t->overlong) {
            t->begin = lf ? t->begin + (size_t)(lf - start) + 1 : t->end;
            t->overlong = lf == NULL && !t->eof;
            if (lf == NULL && t->eof)
                return 0;
        } else if (lf || (t->eof && have > 0)) {
            const char *end = lf ? lf : start + have;
            t->begin += (size_t)(end - start) + (lf ? 1 : 0);
            out->overlong = end - start > TRACE_LINE_BYTES;
            out->text = start;
            out->end = end > start && end[-1] == '\r' ? end - 1 : end;
            t->stats.lines++;
            return 1;
        } else if (have > TRACE_LINE_BYTES) {
            *out = (struct line){.text = start, .end = start + 64, .overlong = 1};
            t->begin = t->end;
            t->overlong = 1;
            t->stats.lines++;
            return 1;
        } else if (t->eof) {
            return 0;
        }
        if (lf == NULL) {
            int rc = fill(t);
            if (rc < 0)
                return rc;
        }
    }
}

static int is_blank_line(const struct line *line)
{
    const char *p = line->text;
    while (p < line->end && (*p == ' ' || *p == '\t' || *p == '\r'))
        p++;
    return p == line->end;
}

/* --- readings --- */

/* A tracebase line. The 8 s average must be there: a line cut short by a full disk must not pass as
 * a small value. */
static int parse_tracebase(const struct line *line, struct trace_reading *out)
{
    const char *p = line->text;
    double rest;
    if (trace_text_tracebase_time(&p, line->end, &out->t_ms) < 0 || p == line->end || *p++ != ';' ||
        trace_text_watts(&p, line->end, &out->watts) < 0 || p == line->end || *p++ != ';' ||
        trace_text_number(&p, line->end, &rest) < 0)
        return -EBADMSG;
    while (p < line->end && (*p == ' ' || *p == '\t'))
        p++;
    return p == line->end ? 0 : -EBADMSG;
}

/* Takes column number index of the line: its bytes without blanks and quotes around them. 0 or
 * -ENOENT. */
static int find_field(const struct line *line, char separator, unsigned index, struct line *out)
{
    const char *p = line->text;
    for (; index > 0; index--) {
        p = memchr(p, separator, (size_t)(line->end - p));
        if (p == NULL)
            return -ENOENT;
        p++;
    }
    const char *end = memchr(p, separator, (size_t)(line->end - p));
    *out = (struct line){.text = p, .end = end ? end : line->end};
    trace_text_trim(&out->text, &out->end);
    return 0;
}

/* Watts of a column. */
static int parse_column(const struct trace *t, const struct line *line, unsigned column, float *out)
{
    struct line field;
    if (find_field(line, t->separator, column, &field) < 0)
        return -EBADMSG;
    const char *p = field.text;
    return trace_text_watts(&p, field.end, out) < 0 || p != field.end ? -EBADMSG : 0;
}

static int parse_csv(const struct trace *t, const struct line *line, struct trace_reading *out)
{
    struct line field;
    if (find_field(line, t->separator, t->time_column, &field) < 0)
        return -EBADMSG;
    const char *p = field.text;
    if (trace_text_time(&p, field.end, &out->t_ms) < 0 || p != field.end)
        return -EBADMSG;
    return parse_column(t, line, t->power_column, &out->watts);
}

/* The phases of a line whose first phase is in out already, which becomes the sum. */
static int parse_phases(struct trace *t, const struct line *line, struct trace_reading *out)
{
    t->phases[0] = out->watts;
    for (int i = 0; i < 2; i++)
        if (parse_column(t, line, t->phase_columns[i], &t->phases[i + 1]) < 0)
            return -EBADMSG;
    out->watts = t->phases[0] + t->phases[1] + t->phases[2];
    return 0;
}

int trace_phases(const struct trace *t, float out[3])
{
    if (t->phased)
        memcpy(out, t->phases, sizeof t->phases);
    return t->phased;
}

static void explain_bad_line(struct trace *t, const struct line *line)
{
    char shown[80];
    trace_text_show(line->text, line->end, shown, sizeof shown);
    if (line->overlong)
        set_error(t, "line longer than %d bytes, begins with \"%s\"", TRACE_LINE_BYTES, shown);
    else if (t->format == TRACE_TRACEBASE)
        set_error(t, "expected \"dd/mm/yyyy HH:MM:SS;watts;watts\" within 10 MW, found \"%s\"",
                  shown);
    else
        set_error(t,
                  "expected a time in column %u and watts within 10 MW in column %u, found \"%s\"",
                  t->time_column + 1, t->power_column + 1, shown);
}

int trace_next(struct trace *t, struct trace_reading *out)
{
    struct line line;
    for (;;) {
        int rc = next_line(t, &line);
        if (rc < 0)
            set_error(t, "reading failed: %s", strerror(-rc));
        if (rc <= 0)
            return rc;
        if (line.overlong || !is_blank_line(&line))
            break;
        t->stats.empty++;
    }
    if (line.overlong ||
        (t->format == TRACE_TRACEBASE ? parse_tracebase(&line, out) : parse_csv(t, &line, out)) <
            0 ||
        (t->phased && parse_phases(t, &line, out) < 0)) {
        t->stats.bad++;
        explain_bad_line(t, &line);
        return -EBADMSG;
    }
    t->stats.readings++;
    return 1;
}

/* --- opening --- */

static int name_is(const struct line *field, const char *name)
{
    size_t n = (size_t)(field->end - field->text);
    return n == strlen(name) && strncasecmp(field->text, name, n) == 0;
}

/* The first of the names (NULL-terminated, in order of preference) that is a column of the header;
 * -1 when none is. */
static int find_column(const struct line *header, char separator, const char *const *names)
{
    for (; *names; names++) {
        struct line field;
        for (unsigned i = 0; i < MAX_COLUMNS && find_field(header, separator, i, &field) == 0;
             i++) {
            if (name_is(&field, *names))
                return (int)i;
        }
    }
    return -1;
}

static int choose_columns(struct trace *t, const struct line *line, const char *column);

/* The same for three columns, their names separated by line ends. */
static int choose_phases(struct trace *t, const struct line *line, const char *columns)
{
    char names[3][128];
    if (sscanf(columns, "%127[^\n]\n%127[^\n]\n%127[^\n]", names[0], names[1], names[2]) != 3) {
        set_error(t, "expected three power columns");
        return -EBADMSG;
    }
    const int rc = choose_columns(t, line, names[0]);
    for (int i = 0; i < 2 && rc == 1; i++) {
        const char *const asked[] = {names[i + 1], NULL};
        const int found = find_column(line, t->separator, asked);
        if (found < 0 || (unsigned)found == t->time_column) {
            set_error(t, "no power column \"%s\" in the header", names[i + 1]);
            return -EBADMSG;
        }
        t->phase_columns[i] = (unsigned)found;
    }
    t->phased = rc == 1;
    return rc;
}

/* Decides which columns carry time and power. The line is the first of the file that is not blank.
 * Returns 1 when it is a header, 0 when it is a reading already, or -EBADMSG. */
static int choose_columns(struct trace *t, const struct line *line, const char *column)
{
    static const char *const time_names[] = {"timestamp", "time", "t", NULL};
    static const char *const power_names[] = {"watts", "power", "aggregate", "w", NULL};
    struct trace_reading reading;
    char shown[80];
    trace_text_show(line->text, line->end, shown, sizeof shown);
    size_t n = (size_t)(line->end - line->text);
    t->separator = memchr(line->text, ',', n) || !memchr(line->text, ';', n) ? ',' : ';';
    t->time_column = 0;
    t->power_column = 1;
    int is_reading = parse_csv(t, line, &reading) == 0;
    if (is_reading && column == NULL)
        return 0;
    if (is_reading) {
        set_error(t, "column \"%s\" was asked for, but the file has no header", column);
        return -EBADMSG;
    }
    struct line second;
    if (!trace_text_is_plain(line->text, line->end) ||
        find_field(line, t->separator, 1, &second) < 0) {
        set_error(t,
                  "expected a tracebase line or a CSV header with a time and a power column, "
                  "found \"%s\"",
                  shown);
        return -EBADMSG;
    }
    int found = find_column(line, t->separator, time_names);
    t->time_column = found < 0 ? 0 : (unsigned)found;
    t->power_column = t->time_column == 1 ? 0 : 1;
    const char *const asked[] = {column, NULL};
    found = find_column(line, t->separator, column ? asked : power_names);
    if (column && (found < 0 || (unsigned)found == t->time_column)) {
        set_error(t, "no power column \"%s\" in the header \"%s\"", column, shown);
        return -EBADMSG;
    }
    if (found >= 0 && (unsigned)found != t->time_column)
        t->power_column = (unsigned)found;
    return 1;
}

/* True when one of the lines that lie in the buffer whole is a tracebase line: a file may begin
 * with garbage. */
static int buffer_has_tracebase(const struct trace *t)
{
    const char *p = t->buffer + t->begin, *end = t->buffer + t->end;
    while (p < end) {
        const char *lf = memchr(p, '\n', (size_t)(end - p));
        struct line line = {.text = p, .end = lf ? lf : end};
        if (line.end > line.text && line.end[-1] == '\r')
            line.end--;
        struct trace_reading reading;
        if (parse_tracebase(&line, &reading) == 0)
            return 1;
        p = lf ? lf + 1 : end;
    }
    return 0;
}

/* Finds out the format. On return the file stands before the first reading (or, for tracebase,
 * before the first line). */
static int detect(struct trace *t, enum trace_format wanted, const char *column)
{
    struct line line;
    int rc = fill(t);
    if (rc < 0)
        goto unreadable;
    if (t->end >= 3 && memcmp(t->buffer, "\xEF\xBB\xBF", 3) == 0)
        t->begin = 3;      /* byte order mark */
    t->format = TRACE_CSV; /* for messages */
    if (wanted == TRACE_TRACEBASE || (wanted == TRACE_AUTO && buffer_has_tracebase(t))) {
        t->format = TRACE_TRACEBASE;
        if (column == NULL)
            return 0;
        set_error(t, "column \"%s\" was asked for, but this is a tracebase file", column);
        return -EBADMSG;
    }
    do {
        rc = next_line(t, &line);
        if (rc < 0)
            goto unreadable;
        if (rc == 0) {
            set_error(t, "expected a trace, found an empty file");
            return -EBADMSG;
        }
        if (!line.overlong && is_blank_line(&line)) {
            t->stats.empty++;
            continue;
        }
        break;
    } while (1);
    if (line.overlong) {
        explain_bad_line(t, &line);
        return -EBADMSG;
    }
    rc = column && strchr(column, '\n') ? choose_phases(t, &line, column)
                                        : choose_columns(t, &line, column);
    if (rc == 0) { /* give the reading back */
        t->begin = (size_t)(line.text - t->buffer);
        t->stats.lines--;
    }
    return rc < 0 ? rc : 0;
unreadable:
    set_error(t, "reading failed: %s", strerror(-rc));
    return rc;
}

int trace_open(const char *path, enum trace_format format, const char *column, struct trace **out,
               char *why, size_t why_size)
{
    *out = NULL;
    struct stat status;
    int rc = -ENOMEM;
    struct trace *t = calloc(1, sizeof *t);
    if (t == NULL)
        goto fail;
    t->fd = -1;
    t->path = strdup(path);
    if (t->path == NULL)
        goto fail;
    t->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (t->fd < 0 || fstat(t->fd, &status) < 0) {
        rc = -errno;
        goto fail;
    }
    rc = S_ISDIR(status.st_mode) ? -EISDIR : 0;
    if (rc < 0)
        goto fail;
    (void)posix_fadvise(t->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    rc = detect(t, format, column);
    if (rc < 0)
        goto fail;
    *out = t;
    return 0;
fail:
    if (why && why_size > 0) {
        if (t && t->error[0])
            snprintf(why, why_size, "%s", t->error);
        else
            snprintf(why, why_size, "%s: %s", path, strerror(-rc));
    }
    trace_close(t);
    return rc;
}

const char *trace_error(const struct trace *t)
{
    return t->error;
}

const struct trace_stats *trace_statistics(const struct trace *t)
{
    return &t->stats;
}

void trace_close(struct trace *t)
{
    if (t == NULL)
        return;
    if (t->fd >= 0)
        close(t->fd);
    free(t->path);
    free(t);
}
