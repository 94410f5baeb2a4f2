/* teach.c - nilmctl teach: what ran when on a mains meter, from a person's list. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/ctl/cli.h"
#include "agent/ctl/ctl.h"
#include "agent/place_live.h"
#include "inference/trace_text.h"

enum { RUNS = 10000, LINE = 512 };

struct lesson {
    struct place_live_run *runs; /* [RUNS] */
    size_t count;
};

/* Takes the field up to the next comma or the end, without blanks and quotes. */
static int take_field(const char **p, const char *end, const char **text, const char **text_end)
{
    if (*p > end)
        return -EINVAL;
    const char *comma = memchr(*p, ',', (size_t)(end - *p));
    *text = *p;
    *text_end = comma ? comma : end;
    *p = comma ? comma + 1 : end + 1;
    trace_text_trim(text, text_end);
    return 0;
}

/* A date without a zone is one of the clock on the wall, as `nilmctl events` shows it. */
static int is_local(const char *text, const char *end)
{
    if (end - text <= 10 || (text[4] != '-' && text[2] != '/'))
        return 0;
    for (const char *p = text + 10; p < end; p++)
        if (*p == 'Z' || *p == 'z' || *p == '+' || *p == '-')
            return 0;
    return 1;
}

static int take_time(const char **p, const char *end, int64_t *out)
{
    const char *text, *stop;
    *out = 0;
    if (take_field(p, end, &text, &stop) < 0)
        return -EINVAL;
    if (text == stop)
        return 0;
    const int local = is_local(text, stop);
    if (trace_text_time(&text, stop, out) < 0 || text != stop)
        return -EINVAL;
    if (local) {
        const time_t shown = (time_t)(*out / 1000);
        struct tm tm;
        if (!gmtime_r(&shown, &tm))
            return -EINVAL;
        tm.tm_isdst = -1;
        *out = (int64_t)mktime(&tm) * 1000 + *out % 1000;
    }
    return *out > 0 ? 0 : -EINVAL;
}

/* appliance,start[,end]. 1: no run (a heading, a line that is none). */
static int take_line(const char *line, size_t length, struct place_live_run *run)
{
    const char *p = line, *end = line + length, *text, *stop;
    memset(run, 0, sizeof *run);
    if (take_field(&p, end, &text, &stop) < 0 || text == stop || *text == '#' || *text == '_' ||
        (stop - text == 9 && memcmp(text, "appliance", 9) == 0))
        return 1;
    size_t n = (size_t)(stop - text);
    if (n >= sizeof run->appliance || !trace_text_is_plain(text, stop) || memchr(text, 0, n))
        return -EINVAL;
    memcpy(run->appliance, text, n);
    if (take_time(&p, end, &run->run.start_ms) < 0 || run->run.start_ms == 0)
        return -EINVAL;
    if (p <= end && take_time(&p, end, &run->run.end_ms) < 0)
        return -EINVAL;
    return run->run.end_ms == 0 || run->run.end_ms > run->run.start_ms ? 0 : -EINVAL;
}

static int read_lesson(const char *command, const char *path, struct lesson *out)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    unsigned number = 0;
    int code = CLI_DONE;
    FILE *f = fopen(path, "re");
    if (!f)
        return cli_fail(CLI_FAILED, command, "%s: %s", path, strerror(errno));
    while (code == CLI_DONE && (length = getline(&line, &room, f)) >= 0) {
        number++;
        if (out->count == RUNS)
            code = cli_fail(CLI_FAILED, command, "%s:%u: more than %d runs", path, number, RUNS);
        else if (length > LINE)
            code = cli_fail(CLI_FAILED, command, "%s:%u: a line of more than %d bytes", path,
                            number, LINE);
        if (code != CLI_DONE)
            break;
        int rc = take_line(line, (size_t)length, &out->runs[out->count]);
        if (rc < 0)
            code = cli_fail(
                CLI_FAILED, command,
                "%s:%u: expected appliance,start,end (ISO 8601, local unless it has a zone, or "
                "Unix time), the end behind the start",
                path, number);
        out->count += rc == 0;
    }
    if (code == CLI_DONE && ferror(f))
        code = cli_fail(CLI_FAILED, command, "%s: cannot be read", path);
    free(line);
    fclose(f);
    return code;
}

/* The meter, if it can be taught; else NULL, after saying why. */
static const struct config_meter *find_meter(const char *command, const struct config *c,
                                             const char *meter)
{
    const struct config_meter *m = NULL;
    for (size_t i = 0; i < c->meter_count && !m; i++)
        if (strcmp(c->meters[i].meter.name, meter) == 0)
            m = &c->meters[i];
    if (!m)
        cli_fail(CLI_USAGE, command, "there is no meter \"%s\"", meter);
    else if (!m->meter.mains && !m->teach)
        cli_fail(CLI_USAGE, command,
                 "meter %s keeps nothing to learn from: set kind = mains (a home), or teach = yes "
                 "(machines on a feed), and wait for the days of the list",
                 meter);
    return m && (m->meter.mains || m->teach) ? m : NULL;
}

/* file: the list, whose times are in the configuration's zone. */
static int teach(const char *command, const char *path, const char *meter, const char *file,
                 struct lesson *l)
{
    struct config *c = NULL;
    struct store *store = NULL;
    const struct config_meter *m = NULL;
    char why[CLI_WHY] = "";
    int code = cli_config(command, path, &c);
    if (code == CLI_DONE && !(m = find_meter(command, c, meter)))
        code = CLI_USAGE;
    if (code == CLI_DONE)
        code = read_lesson(command, file, l);
    if (code == CLI_DONE)
        code = cli_store(command, c, 1, &store);
    if (code == CLI_DONE) {
        struct place_live_taught taught;
        int rc = place_live_teach(store, meter, m->meter.mains, l->runs, l->count, &taught, why,
                                  sizeof why);
        if (rc < 0)
            code = cli_fail(rc == -EBUSY ? CLI_RETRY : CLI_FAILED, command, "%s", why);
        else if (taught.machines + taught.appliances == 0)
            code = cli_fail(CLI_FAILED, command,
                            "no appliance has %d runs, and no machine %d starts and stops, within "
                            "what is kept",
                            PLACE_HOUSE_LEAST, PLACE_SWITCH_LEAST);
        if (code == CLI_DONE && taught.machines)
            printf("%d machines of meter %s are looked for from now on\n", taught.machines, meter);
        if (code == CLI_DONE && taught.appliances)
            printf("%d appliances of meter %s are known by what was taught from now on\n",
                   taught.appliances, meter);
        if (code == CLI_DONE && taught.runs)
            printf("%d runs of the history have another name now\n", taught.runs);
    }
    store_close(store);
    config_free(c);
    return code;
}

int ctl_teach(int argc, char **argv)
{
    const char *path = CLI_CONFIG, *words[2];
    const struct cli_option options[] = {
        {"config", CLI_TEXT, &path, "FILE", "configuration of the agent (" CLI_CONFIG ")", 0, 0},
        {0}};
    const struct cli_command command = {
        "teach", "METER FILE", 2,
        "Learns from a list of what ran when on a meter: CSV with appliance,start,end (2026-05-01 "
        "18:00:00 in local time, with a zone behind it, or Unix time). On a mains meter appliances "
        "are found by what they look like in this house from then on, under the names "
        "that the list has (take those that the agent tells them by); machines on a feed by how "
        "they switch. The days must be among the last 15 and complete: what is not in the list did "
        "not run. A week is enough.",
        options};
    struct lesson lesson = {.count = 0};
    int code = cli_parse(&command, argc, argv, words);
    if (code != CLI_GO)
        return code;
    lesson.runs = calloc(RUNS + 1, sizeof *lesson.runs);
    if (!lesson.runs)
        return cli_fail(CLI_RETRY, command.name, "out of memory");
    code = teach(command.name, path, words[0], words[1], &lesson);
    free(lesson.runs);
    return code;
}
