/* source_replay.c - readings from recorded files.
 *
 * Order: when every file name carries a date (tracebase), by date and then by name, so that the
 * days of several devices follow each other in time; else by name. Times are passed on as they are:
 * repeats and steps back are the pipeline's business, but a file that begins before the one before
 * it ended is reported once, since most of it will be dropped there.
 */
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/source_impl.h"

#define REPLAY_MAX_FILES 100000u
#define REPLAY_MAX_TOKENS 4096u

struct replay_file {
    char *path;
    int date; /* yyyymmdd, 0: none in the name */
};

struct replay {
    struct replay_file *files;
    size_t count, room, at; /* at: the file that is open, or opened next */
    char *column;           /* NULL: default */
    int loop;
    struct trace *trace;
    int fresh;                 /* no reading of the open file yet */
    int any, useful;           /* a reading came: ever; in this round of the loop */
    int64_t first_ms, last_ms; /* of the round, with the shift in it */
    int64_t shift_ms;          /* of the loop */
    int holding;               /* held comes next, after the remark about its file */
    struct trace_reading held;
};

static int add_file(struct replay *r, const char *path)
{
    if (r->count >= REPLAY_MAX_FILES)
        return -E2BIG;
    if (r->count == r->room) {
        size_t room = r->room ? r->room * 2 : 16;
        struct replay_file *files = realloc(r->files, room * sizeof(*files));
        if (!files)
            return -ENOMEM;
        r->files = files;
        r->room = room;
    }
    char *copy = strdup(path);
    if (!copy)
        return -ENOMEM;
    struct trace_name name;
    int date = 0;
    if (trace_parse_name(path, &name) == 0)
        date = name.year * 10000 + name.month * 100 + name.day;
    r->files[r->count++] = (struct replay_file){copy, date};
    return 0;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int by_name(const void *a, const void *b)
{
    const struct replay_file *x = a, *y = b;
    int d = strcmp(base_name(x->path), base_name(y->path));
    return d ? d : strcmp(x->path, y->path);
}

static int by_date(const void *a, const void *b)
{
    const struct replay_file *x = a, *y = b;
    if (x->date != y->date)
        return x->date < y->date ? -1 : 1;
    return by_name(a, b);
}

static int is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Adds what a pattern matches; a folder stands for the *.csv in it (not in its subfolders). */
static int add_pattern(struct replay *r, const char *pattern, int folders, char *why,
                       size_t why_size)
{
    glob_t g;
    int rc = glob(pattern, GLOB_ERR, NULL, &g);
    if (rc) {
        snprintf(why, why_size, "files: %s: %s", pattern,
                 rc == GLOB_NOMATCH ? "no such file" : "cannot be read");
        return rc == GLOB_NOSPACE ? -ENOMEM : rc == GLOB_NOMATCH ? -ENOENT : -EIO;
    }
    for (size_t i = 0; rc == 0 && i < g.gl_pathc; i++) {
        if (!is_dir(g.gl_pathv[i])) {
            rc = add_file(r, g.gl_pathv[i]);
        } else if (folders) {
            char inner[4096];
            int n = snprintf(inner, sizeof(inner), "%s/*.csv", g.gl_pathv[i]);
            if (n < 0 || (size_t)n >= sizeof(inner)) {
                snprintf(why, why_size, "files: %s: path too long", g.gl_pathv[i]);
                rc = -ENAMETOOLONG;
            } else {
                rc = add_pattern(r, inner, 0, why, why_size);
            }
        }
        if (rc == -E2BIG || rc == -ENOMEM)
            snprintf(why, why_size, "files: %s", rc == -ENOMEM ? "out of memory" : "too many");
    }
    globfree(&g);
    return rc;
}

static void replay_free(struct replay *r)
{
    if (!r)
        return;
    trace_close(r->trace);
    for (size_t i = 0; i < r->count; i++)
        free(r->files[i].path);
    free(r->files);
    free(r->column);
    free(r);
}

static void replay_destroy(struct source *s)
{
    replay_free(s->state);
}

/* Opens the next file that can be opened. 1: open; -EBADMSG: this one was skipped; -ENODATA: no
 * more. */
static int open_next(struct source *s, struct replay *r)
{
    if (r->at == r->count) {
        if (!r->loop || !r->useful)
            return -ENODATA;
        /* whole days, so that the time of day stays what it was */
        int64_t span = r->last_ms - r->first_ms;
        r->shift_ms += (span / SOURCE_DAY_MS + 1) * SOURCE_DAY_MS;
        r->at = 0;
        r->useful = 0;
    }
    const char *path = r->files[r->at].path;
    r->fresh = 1;
    int rc = trace_open(path, TRACE_AUTO, r->column, &r->trace, s->error, sizeof(s->error));
    if (rc == 0)
        return 1;
    if (!s->error[0])
        snprintf(s->error, sizeof(s->error), "%s: %s", path, strerror(-rc));
    r->at++;
    return -EBADMSG;
}

/* Keeps the round's span; returns 1 when a new file begins before the last one ended. */
static int note_time(struct replay *r, int64_t t_ms)
{
    int overlap = r->fresh && r->any && t_ms < r->last_ms;
    if (!r->useful)
        r->first_ms = r->last_ms = t_ms;
    if (t_ms < r->first_ms)
        r->first_ms = t_ms;
    if (t_ms > r->last_ms)
        r->last_ms = t_ms;
    r->any = r->useful = 1;
    r->fresh = 0;
    return overlap;
}

static int replay_pull(struct source *s, int64_t now_ms, struct trace_reading *out)
{
    (void)now_ms;
    struct replay *r = s->state;
    s->error[0] = 0;
    if (r->holding) {
        r->holding = 0;
        *out = r->held;
        return 1;
    }
    for (;;) {
        if (!r->trace) {
            int rc = open_next(s, r);
            if (rc != 1)
                return rc;
        }
        struct trace_reading reading;
        int rc = trace_next(r->trace, &reading);
        if (rc == 1) {
            reading.t_ms += r->shift_ms;
            s->phased = trace_phases(r->trace, s->next_phases);
            *out = reading;
            if (!note_time(r, reading.t_ms))
                return 1;
            r->held = reading;
            r->holding = 1;
            snprintf(s->error, sizeof(s->error),
                     "%s: begins before the file before it ended; what runs backwards in time "
                     "is dropped",
                     r->files[r->at].path);
            return -EBADMSG;
        }
        if (rc == -EBADMSG) {
            snprintf(s->error, sizeof(s->error), "%s", trace_error(r->trace));
            return -EBADMSG;
        }
        if (rc < 0) /* the disk failed under it: what follows is lost, the other files are not */
            snprintf(s->error, sizeof(s->error), "%s", trace_error(r->trace));
        trace_close(r->trace);
        r->trace = NULL;
        r->at++;
        if (rc < 0)
            return -EBADMSG;
    }
}

static const struct source_kind replay_kind = {
    .pull = replay_pull, .destroy = replay_destroy, .paced = 1, .polled = -1};

/* Splits the blank-separated list and adds each pattern. */
static int add_all(struct replay *r, const char *list, char *why, size_t why_size)
{
    char *copy = strdup(list), *rest = NULL;
    if (!copy) {
        snprintf(why, why_size, "out of memory");
        return -ENOMEM;
    }
    int rc = 0;
    unsigned tokens = 0;
    for (char *p = strtok_r(copy, " \t\r\n", &rest); p && !rc;
         p = strtok_r(NULL, " \t\r\n", &rest)) {
        if (++tokens > REPLAY_MAX_TOKENS) {
            snprintf(why, why_size, "files: more than %u patterns", REPLAY_MAX_TOKENS);
            rc = -E2BIG;
        } else {
            rc = add_pattern(r, p, 1, why, why_size);
        }
    }
    free(copy);
    if (!rc && !r->count) {
        snprintf(why, why_size, "files: expected at least one path, folder or pattern");
        rc = -EINVAL;
    }
    return rc;
}

int source_replay_init(struct source *s, const struct source_config *c, char *why, size_t why_size)
{
    struct replay *r = calloc(1, sizeof(*r));
    int rc = -ENOMEM;
    if (!r) {
        snprintf(why, why_size, "out of memory");
        return rc;
    }
    r->loop = c->loop;
    if (c->column && c->column[0]) {
        r->column = strdup(c->column);
        if (!r->column) {
            snprintf(why, why_size, "out of memory");
            goto fail;
        }
    }
    rc = add_all(r, c->files ? c->files : "", why, why_size);
    if (rc)
        goto fail;
    int dated = 1;
    for (size_t i = 0; i < r->count; i++)
        dated &= r->files[i].date != 0;
    qsort(r->files, r->count, sizeof(*r->files), dated ? by_date : by_name);
    s->kind = &replay_kind;
    s->state = r;
    return 0;
fail:
    replay_free(r);
    return rc;
}
