/* cli.c - options, messages, times and output of nilmctl (cli.h). */
#include "agent/ctl/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/calendar.h"

int cli_fail(int code, const char *command, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fflush(stdout);
    fprintf(stderr, "nilmctl %s: ", command);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return code;
}

static void help(const struct cli_command *command)
{
    char left[64];
    printf("Usage: nilmctl %s [OPTIONS]%s%s\n\n%s\n\nOptions:\n", command->name,
           command->argument_count ? " " : "", command->arguments, command->summary);
    for (const struct cli_option *o = command->options; o->name; o++) {
        snprintf(left, sizeof left, "--%s%s%s", o->name, o->value ? " " : "",
                 o->value ? o->value : "");
        printf("  %-26s %s\n", left, o->help);
    }
    printf("  %-26s %s\n\n", "--help", "this text");
    printf("Exit codes: 0 done, 1 wrong usage, 2 failed, 3 failed but may succeed when retried, "
           "4 timed out.\n");
}

static int usage(const struct cli_command *command, const char *format, const char *what)
{
    fflush(stdout);
    fprintf(stderr, "nilmctl %s: ", command->name);
    fprintf(stderr, "%s%s; see nilmctl %s --help\n", format, what, command->name);
    return CLI_USAGE;
}

static int take_number(const struct cli_command *command, const struct cli_option *o,
                       const char *value)
{
    char *end;
    errno = 0;
    long long n = strtoll(value, &end, 10);
    if (errno != 0 || end == value || *end != '\0' || n < o->min || n > o->max)
        return cli_fail(CLI_USAGE, command->name,
                        "--%s: \"%s\": expected a number from %lld to %lld", o->name, value,
                        (long long)o->min, (long long)o->max);
    *(int64_t *)o->target = n;
    return CLI_GO;
}

static const struct cli_option *find_option(const struct cli_command *command, const char *name,
                                            size_t length)
{
    for (const struct cli_option *o = command->options; o->name; o++)
        if (strlen(o->name) == length && memcmp(o->name, name, length) == 0)
            return o;
    return NULL;
}

/* Times are understood when the zone is known, which the configuration says. */
struct times {
    const struct cli_option *options[CLI_TIMES_MAX];
    const char *values[CLI_TIMES_MAX];
    size_t count;
};

static int take_times(const struct cli_command *command, const struct times *times)
{
    const struct cli_option *config = find_option(command, "config", strlen("config"));
    struct config *c = NULL;
    char why[CLI_WHY];
    /* One that cannot be read is told by who needs it. */
    if (config && times->count > 0 &&
        config_load(*(const char **)config->target, &c, why, sizeof why) == 0)
        calendar_use(c->timezone);
    config_free(c);
    for (size_t i = 0; i < times->count; i++)
        if (cli_time(times->values[i], cli_now_ms(), times->options[i]->target) != 0)
            return cli_fail(CLI_USAGE, command->name,
                            "--%s: \"%s\": expected e.g. 2h or 3d (ago), 2024-05-01, "
                            "2024-05-01T12:00, or @SECONDS",
                            times->options[i]->name, times->values[i]);
    return CLI_GO;
}

static int take_value(const struct cli_command *command, const struct cli_option *o,
                      const char *value, struct times *times)
{
    struct cli_list *list = o->target;
    switch (o->kind) {
    case CLI_TEXT:
        if (*value == '\0')
            return usage(command, "an empty value for --", o->name);
        *(const char **)o->target = value;
        return CLI_GO;
    case CLI_NUMBER:
        return take_number(command, o, value);
    case CLI_TIME:
        if (times->count == CLI_TIMES_MAX)
            return usage(command, "too many of --", o->name);
        times->options[times->count] = o;
        times->values[times->count++] = value;
        return CLI_GO;
    case CLI_MANY:
        if (list->count == CLI_LIST_MAX)
            return usage(command, "too many of --", o->name);
        list->items[list->count++] = value;
        return CLI_GO;
    case CLI_FLAG:
        break;
    }
    return usage(command, "no value is expected after --", o->name);
}

/* One option at argv[*i]; *i moves on to its last word. */
static int take_option(const struct cli_command *command, int argc, char **argv, int *i,
                       struct times *times)
{
    const char *name = argv[*i] + 2, *equals = strchr(name, '=');
    const struct cli_option *o =
        find_option(command, name, equals ? (size_t)(equals - name) : strlen(name));
    if (!o)
        return usage(command, "unknown option ", argv[*i]);
    if (o->kind == CLI_FLAG && !equals) {
        *(int *)o->target = 1;
        return CLI_GO;
    }
    if (equals)
        return take_value(command, o, equals + 1, times);
    if (*i + 1 >= argc)
        return usage(command, "a value is missing after ", argv[*i]);
    return take_value(command, o, argv[++*i], times);
}

int cli_parse(const struct cli_command *command, int argc, char **argv, const char **arguments)
{
    size_t count = 0;
    int options = 1, rc = CLI_GO;
    struct times times = {.count = 0};
    for (int i = 1; i < argc && rc == CLI_GO; i++) {
        if (options && strcmp(argv[i], "--help") == 0) {
            help(command);
            return fflush(stdout) == 0 ? CLI_DONE : CLI_FAILED;
        }
        if (options && strcmp(argv[i], "--") == 0)
            options = 0;
        else if (options && strncmp(argv[i], "--", 2) == 0)
            rc = take_option(command, argc, argv, &i, &times);
        else if (options && argv[i][0] == '-' && argv[i][1] != '\0')
            rc = usage(command, "unknown option ", argv[i]);
        else if (count == command->argument_count)
            rc = usage(command, "unexpected argument ", argv[i]);
        else
            arguments[count++] = argv[i];
    }
    if (rc == CLI_GO && count < command->argument_count)
        return usage(command, "expected ", command->arguments);
    return rc == CLI_GO ? take_times(command, &times) : rc;
}

/* "90m": milliseconds; -1 when it is none. */
static int64_t parse_ago(const char *text)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"ms", 1},      {"s", 1000},     {"m", 60000},
                 {"h", 3600000}, {"d", 86400000}, {"w", 604800000}};
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (errno != 0 || end == text || n < 0 || n > 1000000)
        return -1;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcmp(end, units[i].unit) == 0)
            return n * units[i].ms;
    return -1;
}

int cli_time(const char *text, int64_t now_ms, int64_t *out_ms)
{
    static const char *const forms[] = {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d"};
    int64_t ago = parse_ago(text);
    if (ago >= 0) {
        *out_ms = now_ms - ago;
        return 0;
    }
    if (text[0] == '@') {
        char *end;
        errno = 0;
        long long s = strtoll(text + 1, &end, 10);
        if (errno != 0 || end == text + 1 || *end != '\0' || s < 0 || s > INT64_MAX / 1000)
            return -EINVAL;
        *out_ms = s * 1000;
        return 0;
    }
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        struct tm tm = {.tm_isdst = -1};
        const char *end = strptime(text, forms[i], &tm);
        if (!end || (*end != '\0' && strcmp(end, "Z") != 0))
            continue;
        time_t s = *end ? timegm(&tm) : mktime(&tm);
        if (s == (time_t)-1)
            return -EINVAL;
        *out_ms = (int64_t)s * 1000;
        return 0;
    }
    return -EINVAL;
}

static int64_t clock_ms(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t cli_now_ms(void)
{
    return clock_ms(CLOCK_REALTIME);
}

int64_t cli_mono_ms(void)
{
    return clock_ms(CLOCK_MONOTONIC);
}

const char *cli_stamp(int64_t ms, char text[CLI_STAMP])
{
    time_t s = (time_t)(ms / 1000);
    struct tm tm;
    if (ms == 0 || !localtime_r(&s, &tm) ||
        strftime(text, CLI_STAMP, "%Y-%m-%d %H:%M:%S", &tm) == 0)
        snprintf(text, CLI_STAMP, "-");
    return text;
}

const char *cli_duration(double seconds, char text[CLI_STAMP])
{
    if (!(seconds >= 0) || seconds > 1e12)
        snprintf(text, CLI_STAMP, "-");
    else if (seconds < 120)
        snprintf(text, CLI_STAMP, "%.0f s", seconds);
    else if (seconds < 7200)
        snprintf(text, CLI_STAMP, "%.0f min", seconds / 60);
    else if (seconds < 172800)
        snprintf(text, CLI_STAMP, "%.1f h", seconds / 3600);
    else
        snprintf(text, CLI_STAMP, "%.1f d", seconds / 86400);
    return text;
}

char *cli_plain(char *text)
{
    for (unsigned char *p = (unsigned char *)text; *p; p++) {
        if (*p < 32 || *p == 127)
            *p = '?';
        else if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) /* U+0080 to U+009F in UTF-8 */
            *p = p[1] = '?';
    }
    return text;
}

int cli_whole(const cJSON *object, const char *key, double min, int64_t *out)
{
    const double most = 9007199254740992.0; /* 2^53 */
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= min) || item->valuedouble > most)
        return 0;
    *out = (int64_t)item->valuedouble;
    return (double)*out == item->valuedouble;
}

int cli_print_json(cJSON *object)
{
    char *text = object ? cJSON_PrintUnformatted(object) : NULL;
    int ok = text && puts(text) >= 0 && fflush(stdout) == 0;
    cJSON_free(text);
    cJSON_Delete(object);
    return ok ? CLI_DONE : CLI_FAILED;
}

void cli_path(const struct config *c, const char *name, char path[CLI_PATH])
{
    snprintf(path, CLI_PATH, "%s/%s", c->data_dir, name);
}

int cli_config(const char *command, const char *path, struct config **out)
{
    char why[CLI_WHY] = "";
    if (config_load(path, out, why, sizeof why) == 0) {
        if (calendar_use((*out)->timezone) == 0)
            return CLI_DONE;
        snprintf(why, sizeof why, "out of memory");
        config_free(*out);
        *out = NULL;
    }
    return cli_fail(CLI_FAILED, command, "%s", why);
}

int cli_store(const char *command, const struct config *c, int write, struct store **out)
{
    char path[CLI_PATH], why[CLI_WHY] = "";
    struct store_report report;
    cli_path(c, CLI_DATABASE, path);
    /* store_open would set a damaged file aside; that is the agent's to do, so look before. */
    int rc = store_open_readonly(path, out, why, sizeof why);
    if (rc == 0 && write) {
        store_close(*out);
        rc = store_open(path, out, &report, why, sizeof why);
    }
    if (rc == 0)
        return CLI_DONE;
    if (rc == -ENOENT)
        return cli_fail(CLI_RETRY, command,
                        "%s: there is no database yet; nilmd makes it when it starts", path);
    return cli_fail(rc == -EBUSY || rc == -EAGAIN ? CLI_RETRY : CLI_FAILED, command, "%s", why);
}
