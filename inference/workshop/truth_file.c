/* truth_file.c - the files of truth.h: recordings with columns, rules, truth as CSV. */
#include "inference/workshop/truth.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "inference/trace.h"
#include "inference/trace_text.h"

enum { MAX_FIELDS = 128, MAX_PATHS = 64 };

/* --- lines of CSV --- */

struct field {
    const char *text, *end;
};

struct csv {
    FILE *file;
    const char *path;
    uint64_t line;
    char *text;
    size_t room;
};

static int csv_open(struct csv *c, const char *path, char *why, size_t why_size)
{
    *c = (struct csv){.path = path, .file = fopen(path, "re")};
    if (c->file)
        return 0;
    int rc = -errno;
    snprintf(why, why_size, "%s: %s", path, strerror(-rc));
    return rc;
}

static void csv_close(struct csv *c)
{
    if (c->file)
        fclose(c->file);
    free(c->text);
}

__attribute__((format(printf, 4, 5))) static int csv_fail(const struct csv *c, char *why,
                                                          size_t why_size, const char *format, ...)
{
    va_list args;
    int n = snprintf(why, why_size, "%s:%" PRIu64 ": ", c->path, c->line);
    if (n < 0 || (size_t)n >= why_size)
        return -EBADMSG;
    va_start(args, format);
    vsnprintf(why + n, why_size - (size_t)n, format, args);
    va_end(args);
    return -EBADMSG;
}

/* The fields of the next line that is neither blank nor a comment: their number, 0 at the end, or
 * -errno. */
static int csv_next(struct csv *c, struct field *fields, char *why, size_t why_size)
{
    ssize_t length;
    while ((length = getline(&c->text, &c->room, c->file)) >= 0) {
        const char *p = c->text, *end = p + length;
        int count = 0;
        c->line++;
        if (length > TRACE_LINE_BYTES)
            return csv_fail(c, why, why_size, "line longer than %d bytes", TRACE_LINE_BYTES);
        trace_text_trim(&p, &end);
        if (p == end || *p == '#')
            continue;
        const char separator = memchr(p, ',', (size_t)(end - p)) ? ',' : ';';
        for (p = c->text, end = p + length; count < MAX_FIELDS; count++) {
            const char *stop = memchr(p, separator, (size_t)(end - p));
            struct field f = {p, stop ? stop : end};
            trace_text_trim(&f.text, &f.end);
            fields[count] = f;
            if (stop == NULL)
                return count + 1;
            p = stop + 1;
        }
        return csv_fail(c, why, why_size, "more than %d columns", MAX_FIELDS);
    }
    if (!ferror(c->file))
        return 0;
    snprintf(why, why_size, "%s: %s", c->path, strerror(EIO));
    return -EIO;
}

static int field_is(const struct field *f, const char *name)
{
    size_t n = (size_t)(f->end - f->text);
    return n == strlen(name) && strncasecmp(f->text, name, n) == 0;
}

/* The column with one of the names (NULL-terminated), or -1. */
static int find_field(const struct field *fields, int count, const char *const *names)
{
    for (; *names; names++) {
        for (int i = 0; i < count; i++) {
            if (field_is(&fields[i], *names))
                return i;
        }
    }
    return -1;
}

static int copy_name(const struct field *f, char out[TRUTH_NAME_BYTES])
{
    size_t n = (size_t)(f->end - f->text);
    if (n == 0 || n >= TRUTH_NAME_BYTES || !trace_text_is_plain(f->text, f->end) ||
        memchr(f->text, 0, n))
        return -EINVAL;
    memcpy(out, f->text, n);
    out[n] = '\0';
    return 0;
}

/* --- recordings --- */

/* Calls back for each of the paths separated by commas, until one fails. */
static int each_path(const char *paths, int (*visit)(void *, const char *, char *, size_t),
                     void *context, char *why, size_t why_size)
{
    char *copy = strdup(paths), *rest = copy;
    int rc = copy ? 0 : -ENOMEM;
    if (rc < 0)
        snprintf(why, why_size, "%s", strerror(-rc));
    for (char *path; rc == 0 && (path = strsep(&rest, ",")) != NULL;)
        rc = visit(context, path, why, why_size);
    free(copy);
    return rc;
}

struct columns {
    char (*names)[TRUTH_NAME_BYTES];
    size_t count;
    int started;
};

static void first_is_mains(struct columns *columns)
{
    static const char *const mains[] = {"watts", "power", "aggregate", "w", NULL};
    for (const char *const *name = mains; *name; name++) {
        for (size_t i = 0; i < columns->count; i++) {
            if (strcasecmp(columns->names[i], *name) != 0)
                continue;
            char found[TRUTH_NAME_BYTES];
            memcpy(found, columns->names[i], sizeof found);
            memmove(columns->names[1], columns->names[0], i * sizeof *columns->names);
            memcpy(columns->names[0], found, sizeof found);
            return;
        }
    }
}

static int visit_header(void *context, const char *path, char *why, size_t why_size)
{
    static const char *const times[] = {"timestamp", "time", "t", NULL};
    struct columns *columns = context;
    struct field fields[MAX_FIELDS];
    struct csv csv;
    size_t used = 0;
    int rc = csv_open(&csv, path, why, why_size);
    int count = rc == 0 ? csv_next(&csv, fields, why, why_size) : rc;
    if (count == 0)
        count = csv_fail(&csv, why, why_size, "expected a CSV header, found nothing");
    rc = count < 0 ? count : 0;
    int time = rc == 0 ? find_field(fields, count, times) : 0;
    for (int i = 0; rc == 0 && i < count; i++) {
        char name[TRUTH_NAME_BYTES];
        if (i == (time < 0 ? 0 : time))
            continue;
        if (used > TRUTH_APPLIANCES_MAX || copy_name(&fields[i], name) < 0)
            rc = csv_fail(&csv, why, why_size, "expected at most %u columns with names",
                          TRUTH_APPLIANCES_MAX);
        else if (columns->started &&
                 (used == columns->count || strcmp(columns->names[used], name) != 0))
            rc = csv_fail(&csv, why, why_size, "column \"%s\": expected those of the first file",
                          name);
        else
            memcpy(columns->names[used++], name, sizeof name);
    }
    if (rc == 0 && columns->started && used != columns->count)
        rc = csv_fail(&csv, why, why_size, "%zu columns, the first file has %zu", used,
                      columns->count);
    columns->count = used;
    columns->started = 1;
    csv_close(&csv);
    return rc;
}

int truth_columns(const char *paths, char (*names)[TRUTH_NAME_BYTES], size_t *count, char *why,
                  size_t why_size)
{
    struct columns columns = {.names = names};
    int rc = each_path(paths, visit_header, &columns, why, why_size);
    if (rc == 0 && columns.count == 0) {
        snprintf(why, why_size, "%s: no column but the time", paths);
        rc = -EBADMSG;
    }
    if (rc == 0)
        first_is_mains(&columns);
    *count = columns.count;
    return rc;
}

static int series_add(struct truth_series *s, const struct trace_reading *r)
{
    if (s->count && r->t_ms <= s->t_ms[s->count - 1]) {
        s->dropped++;
        return 0;
    }
    if (s->count == s->room) {
        size_t room = s->room ? 2 * s->room : 65536;
        int64_t *t_ms = room > TRUTH_READINGS_MAX ? NULL : realloc(s->t_ms, room * sizeof *t_ms);
        s->t_ms = t_ms ? t_ms : s->t_ms;
        float *watts = t_ms ? realloc(s->watts, room * sizeof *watts) : NULL;
        if (watts == NULL)
            return -ENOMEM;
        s->watts = watts;
        s->room = room;
    }
    s->t_ms[s->count] = r->t_ms;
    s->watts[s->count++] = r->watts;
    return 0;
}

struct reading {
    struct truth_series *series;
    const char *column;
};

static int visit_trace(void *context, const char *path, char *why, size_t why_size)
{
    struct reading *r = context;
    struct trace_reading reading;
    struct trace *trace;
    int next, rc = trace_open(path, TRACE_AUTO, r->column, &trace, why, why_size);
    if (rc < 0)
        return rc;
    while (rc == 0 && (next = trace_next(trace, &reading)) != 0) {
        if (next == 1)
            rc = series_add(r->series, &reading);
        else if (next == -EBADMSG)
            r->series->dropped++;
        else
            rc = next;
    }
    if (rc < 0)
        snprintf(why, why_size, "%s: %s", path,
                 rc == -ENOMEM ? "out of memory" : trace_error(trace));
    trace_close(trace);
    return rc;
}

int truth_series_read(const char *paths, const char *column, struct truth_series *out, char *why,
                      size_t why_size)
{
    struct reading r = {out, column};
    memset(out, 0, sizeof *out);
    if (column)
        snprintf(out->name, sizeof out->name, "%s", column);
    int rc = each_path(paths, visit_trace, &r, why, why_size);
    if (rc == 0 && out->count == 0) {
        snprintf(why, why_size, "%s: no reading", paths);
        rc = -EBADMSG;
    }
    return rc;
}

void truth_series_free(struct truth_series *s)
{
    free(s->t_ms);
    free(s->watts);
    memset(s, 0, sizeof *s);
}

/* --- rules --- */

static int take_number(const struct field *f, double high, double *out)
{
    const char *p = f->text;
    return trace_text_number(&p, f->end, out) < 0 || p != f->end || !(*out >= 0 && *out <= high)
               ? -EINVAL
               : 0;
}

static int take_rule(const struct field *fields, const int *columns, struct truth_rule *rule)
{
    const double day = 86400;
    double bridge, shortest;
    if (copy_name(&fields[columns[0]], rule->name) < 0 ||
        take_number(&fields[columns[1]], 1e7, &rule->on_w) < 0 ||
        take_number(&fields[columns[2]], day, &bridge) < 0 ||
        take_number(&fields[columns[3]], day, &shortest) < 0 ||
        take_number(&fields[columns[4]], 1e7, &rule->peak_w) < 0)
        return -EINVAL;
    rule->bridge_ms = (int64_t)(bridge * 1000);
    rule->shortest_ms = (int64_t)(shortest * 1000);
    return 0;
}

int truth_rules_read(struct truth_rules *rules, const char *path, char *why, size_t why_size)
{
    static const char *const names[][2] = {
        {"appliance"}, {"on_w"}, {"bridge_s"}, {"shortest_s"}, {"peak_w"}};
    struct truth_rules read = {0};
    struct field fields[MAX_FIELDS];
    struct csv csv;
    int columns[5], count, wanted = 0, rc = csv_open(&csv, path, why, why_size);
    while (rc == 0 && (count = csv_next(&csv, fields, why, why_size)) != 0) {
        int header = wanted == 0;
        for (int i = 0; header && count > 0 && i < 5; i++) {
            columns[i] = find_field(fields, count, names[i]);
            wanted = columns[i] < 0 ? INT32_MAX : columns[i] >= wanted ? columns[i] + 1 : wanted;
        }
        if (count < 0)
            rc = count;
        else if (wanted == INT32_MAX)
            rc = csv_fail(&csv, why, why_size,
                          "expected the header appliance,on_w,bridge_s,shortest_s,peak_w");
        else if (!header && (read.count == TRUTH_APPLIANCES_MAX || count < wanted ||
                             take_rule(fields, columns, &read.rules[read.count++]) < 0))
            rc = csv_fail(&csv, why, why_size,
                          "expected a name, watts, seconds, seconds, watts, in at most %u lines",
                          TRUTH_APPLIANCES_MAX);
    }
    for (size_t i = 0; rc == 0 && i < rules->count && read.count < TRUTH_APPLIANCES_MAX; i++)
        read.rules[read.count++] = rules->rules[i];
    if (rc == 0)
        *rules = read;
    csv_close(&csv);
    return rc;
}

/* --- truth --- */

static void write_line(FILE *to, const char *name, int64_t start, int64_t end, double wh, double w)
{
    fprintf(to, "%s,%" PRId64 ",%" PRId64 ",", name, start, end);
    if (isfinite(wh))
        fprintf(to, "%.3f", wh);
    fputc(',', to);
    if (isfinite(w))
        fprintf(to, "%.1f", w);
    fputc('\n', to);
}

int truth_write(const struct truth *t, FILE *to)
{
    fputs("appliance,start_ms,end_ms,energy_wh,peak_w\n", to);
    if (t->end_ms > 0)
        write_line(to, "_span", t->start_ms, t->end_ms, t->energy_wh, NAN);
    for (size_t i = 0; i < t->stretch_count; i++) {
        const struct truth_stretch *s = &t->stretches[i];
        write_line(to, s->reason == TRUTH_FLAT ? "_flat" : "_gap", s->start_ms, s->end_ms, NAN,
                   NAN);
    }
    for (size_t i = 0; i < t->run_count; i++) {
        const struct truth_run *r = &t->runs[i];
        write_line(to, t->names[r->appliance], r->start_ms, r->end_ms, r->energy_wh, r->peak_w);
    }
    return fflush(to) != 0 || ferror(to) ? -EIO : 0;
}

static int visit_row(void *context, const struct truth_row *row, char *why, size_t why_size)
{
    struct truth *t = context;
    struct truth_run run = {.start_ms = row->start_ms, .end_ms = row->end_ms};
    int rc;
    if (strcmp(row->name, "_span") == 0) {
        t->start_ms = row->start_ms;
        t->end_ms = row->end_ms;
        t->energy_wh = row->energy_wh;
        return 0;
    }
    if (row->name[0] == '_') {
        struct truth_stretch s = {row->start_ms, row->end_ms,
                                  strcmp(row->name, "_flat") == 0 ? TRUTH_FLAT : TRUTH_GAP};
        rc = truth_add_stretch(t, &s);
    } else {
        run.energy_wh = row->energy_wh;
        run.peak_w = row->peak_w;
        rc = truth_appliance(t, row->name, &run.appliance);
        if (rc == 0)
            rc = truth_add(t, &run);
    }
    if (rc < 0)
        snprintf(why, why_size,
                 "%s:%" PRIu64 ": expected an appliance (at most %u), a start and a later end",
                 row->path, row->line, TRUTH_APPLIANCES_MAX);
    return rc == -EINVAL ? -EBADMSG : rc;
}

int truth_read(const char *path, struct truth *out, char *why, size_t why_size)
{
    int rc = truth_read_rows(path, visit_row, out, why, why_size);
    truth_sort(out);
    for (size_t i = 0; rc == 0 && out->end_ms <= 0 && i < out->run_count; i++)
        out->start_ms =
            i == 0 || out->runs[i].start_ms < out->start_ms ? out->runs[i].start_ms : out->start_ms;
    int64_t end = out->end_ms;
    for (size_t i = 0; rc == 0 && out->end_ms <= 0 && i < out->run_count; i++)
        end = out->runs[i].end_ms > end ? out->runs[i].end_ms : end;
    out->end_ms = end;
    return rc;
}

/* An empty field is no number. */
static int optional_number(const struct field *fields, int column, double *out)
{
    *out = NAN;
    if (column < 0 || fields[column].text == fields[column].end)
        return 0;
    const char *p = fields[column].text;
    return trace_text_number(&p, fields[column].end, out) < 0 || p != fields[column].end ||
                   !(fabs(*out) <= 1e12)
               ? -EINVAL
               : 0;
}

static int optional_time(const struct field *fields, int column, int64_t *out)
{
    *out = 0;
    if (column < 0 || fields[column].text == fields[column].end)
        return 0;
    const char *p = fields[column].text;
    return trace_text_time(&p, fields[column].end, out) < 0 || p != fields[column].end ? -EINVAL
                                                                                       : 0;
}

int truth_read_rows(const char *path, truth_visit *visit, void *context, char *why, size_t why_size)
{
    static const char *const names[][3] = {{"appliance", "name"},
                                           {"start_ms", "start"},
                                           {"end_ms", "end"},
                                           {"energy_wh", "energy"},
                                           {"peak_w", "peak"}};
    struct field fields[MAX_FIELDS];
    struct csv csv;
    int columns[5], count, wanted = 0, rc = csv_open(&csv, path, why, why_size);
    while (rc == 0 && (count = csv_next(&csv, fields, why, why_size)) != 0) {
        struct truth_row row = {.path = path, .line = csv.line};
        if (count < 0) {
            rc = count;
            break;
        }
        if (wanted == 0) {
            for (int i = 0; i < 5; i++) {
                columns[i] = find_field(fields, count, names[i]);
                wanted = columns[i] >= wanted ? columns[i] + 1 : wanted;
            }
            if (columns[0] < 0 || columns[1] < 0)
                rc = csv_fail(&csv, why, why_size, "expected a header with appliance and start");
            continue;
        }
        if (count < wanted || copy_name(&fields[columns[0]], row.name) < 0 ||
            optional_time(fields, columns[1], &row.start_ms) < 0 || row.start_ms == 0 ||
            optional_time(fields, columns[2], &row.end_ms) < 0 ||
            optional_number(fields, columns[3], &row.energy_wh) < 0 ||
            optional_number(fields, columns[4], &row.peak_w) < 0)
            rc = csv_fail(&csv, why, why_size,
                          "expected a name, times and numbers as the header says");
        else
            rc = visit(context, &row, why, why_size);
    }
    csv_close(&csv);
    return rc;
}
