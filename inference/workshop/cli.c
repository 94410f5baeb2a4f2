/* cli.c - see cli.h: options and help. Progress and files are in cli_io.c. */
#include "inference/workshop/cli.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HELP_COLUMN = 28, HELP_WIDTH = 100 };

/* --- help --- */

/* Prints text from column on, broken at blanks; returns nothing, ends with a newline. */
static void print_wrapped(FILE *to, const char *text, int at, int column)
{
    while (*text) {
        size_t word = strcspn(text, " ");
        if (at > column && at + 1 + (int)word > HELP_WIDTH) {
            fprintf(to, "\n%*s", column, "");
            at = column;
        } else if (at > column) {
            fputc(' ', to);
            at++;
        }
        fprintf(to, "%.*s", (int)word, text);
        at += (int)word;
        text += word;
        text += strspn(text, " ");
    }
    fputc('\n', to);
}

static void describe_default(const struct cli_option *o, char *out, size_t size)
{
    out[0] = '\0';
    switch (o->type) {
    case CLI_FLAG:
        break;
    case CLI_STRING:
        if (*(const char **)o->value)
            snprintf(out, size, " (default %s)", *(const char **)o->value);
        break;
    case CLI_UINT:
        snprintf(out, size, " (default %u)", *(uint32_t *)o->value);
        break;
    case CLI_UINT64:
        snprintf(out, size, " (default %llu)", (unsigned long long)*(uint64_t *)o->value);
        break;
    case CLI_FLOAT:
        snprintf(out, size, " (default %g)", (double)*(float *)o->value);
        break;
    case CLI_CHOICE:
        snprintf(out, size, " (default %s)", o->choices[*(int *)o->value]);
        break;
    }
    if (o->required)
        snprintf(out, size, " (required)");
}

static void describe_argument(const struct cli_option *o, char *out, size_t size)
{
    size_t n = 0;
    out[0] = '\0';
    if (o->type != CLI_CHOICE) {
        snprintf(out, size, "%s", o->argument ? o->argument : "");
        return;
    }
    for (size_t i = 0; o->choices[i] && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%s", i ? "|" : "", o->choices[i]);
}

static void print_help(const struct cli_command *c)
{
    printf("Usage: nilm-model %s %s\n\n", c->name, c->usage);
    print_wrapped(stdout, c->summary, 0, 0);
    printf("\nOptions:\n");
    for (const struct cli_option *o = c->options; o->name; o++) {
        char argument[128], preset[160], text[1024];
        describe_argument(o, argument, sizeof argument);
        describe_default(o, preset, sizeof preset);
        int n = printf("  --%s%s%s", o->name, argument[0] ? " " : "", argument);
        if (n >= HELP_COLUMN - 1) {
            printf("\n%*s", HELP_COLUMN, "");
        } else {
            printf("%*s", HELP_COLUMN - n, "");
        }
        snprintf(text, sizeof text, "%s%s", o->help, preset);
        print_wrapped(stdout, text, HELP_COLUMN, HELP_COLUMN);
    }
    printf("  --help%*sthis text\n", HELP_COLUMN - 8, "");
}

/* --- values --- */

static int fail_option(const char *where, const char *value, const char *expected)
{
    return cli_fail(CLI_USAGE, "%s: expected %s, found \"%s\"", where, expected, value);
}

static int store_unsigned(const char *where, const struct cli_option *o, const char *value)
{
    char *end, expected[96];
    uint64_t limit = o->type == CLI_UINT ? UINT32_MAX : UINT64_MAX;
    errno = 0;
    unsigned long long number = strtoull(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end || errno || number > limit)
        return fail_option(where, value, "a whole number");
    if (o->low < o->high && ((double)number < o->low || (double)number > o->high)) {
        snprintf(expected, sizeof expected, "a whole number from %.0f to %.0f", o->low, o->high);
        return fail_option(where, value, expected);
    }
    if (o->type == CLI_UINT)
        *(uint32_t *)o->value = (uint32_t)number;
    else
        *(uint64_t *)o->value = number;
    return CLI_RUN;
}

static int store_float(const char *where, const struct cli_option *o, const char *value)
{
    char *end, expected[96];
    double number = strtod(value, &end);
    if (end == value || *end || !isfinite(number) || !isfinite((float)number))
        return fail_option(where, value, "a number");
    if (o->low < o->high && (number < o->low || number > o->high)) {
        snprintf(expected, sizeof expected, "a number from %g to %g", o->low, o->high);
        return fail_option(where, value, expected);
    }
    *(float *)o->value = (float)number;
    return CLI_RUN;
}

static int store_choice(const char *where, const struct cli_option *o, const char *value)
{
    char names[128];
    for (int i = 0; o->choices[i]; i++) {
        if (strcmp(o->choices[i], value) == 0) {
            *(int *)o->value = i;
            return CLI_RUN;
        }
    }
    describe_argument(o, names, sizeof names);
    return fail_option(where, value, names);
}

int cli_store(const char *where, struct cli_option *o, const char *value)
{
    o->given = 1;
    switch (o->type) {
    case CLI_FLAG:
        *(int *)o->value = 1;
        return CLI_RUN;
    case CLI_STRING:
        *(const char **)o->value = value;
        return CLI_RUN;
    case CLI_UINT:
    case CLI_UINT64:
        return store_unsigned(where, o, value);
    case CLI_FLOAT:
        return store_float(where, o, value);
    case CLI_CHOICE:
        return store_choice(where, o, value);
    }
    return CLI_FAILED;
}

/* --- the command line --- */

/* Takes argv[*i], an option, and its value, which may be the next argument. */
static int take_option(struct cli_command *c, int argc, char **argv, int *i)
{
    const char *text = argv[*i] + 2, *equals = strchr(text, '=');
    size_t n = equals ? (size_t)(equals - text) : strlen(text);
    struct cli_option *o = c->options;
    while (o->name && !(strlen(o->name) == n && strncmp(o->name, text, n) == 0))
        o++;
    if (o->name == NULL)
        return cli_fail(CLI_USAGE, "%s: unknown option \"%s\"; try nilm-model %s --help", c->name,
                        argv[*i], c->name);
    if (o->type == CLI_FLAG && equals)
        return cli_fail(CLI_USAGE, "%s: --%s takes no value", c->name, o->name);
    const char *value = equals ? equals + 1 : NULL;
    if (o->type != CLI_FLAG && value == NULL) {
        if (*i + 1 >= argc)
            return cli_fail(CLI_USAGE, "%s: --%s needs a value (%s)", c->name, o->name,
                            o->argument ? o->argument : "one of those in --help");
        value = argv[++*i];
    }
    char where[96];
    snprintf(where, sizeof where, "%s: --%s", c->name, o->name);
    return cli_store(where, o, value);
}

int cli_parse(struct cli_command *c, int argc, char **argv)
{
    int positional = 0, options_end = 0;
    for (int i = 1; i < argc; i++) {
        if (!options_end && strcmp(argv[i], "--help") == 0) {
            print_help(c);
            return CLI_DONE;
        }
    }
    for (int i = 1; i < argc; i++) {
        if (!options_end && strcmp(argv[i], "--") == 0) {
            options_end = 1;
        } else if (!options_end && argv[i][0] == '-' && argv[i][1] == '-') {
            int rc = take_option(c, argc, argv, &i);
            if (rc != CLI_RUN)
                return rc;
        } else if (!options_end && argv[i][0] == '-' && argv[i][1] != '\0') {
            return cli_fail(CLI_USAGE, "%s: unknown option \"%s\"; try nilm-model %s --help",
                            c->name, argv[i], c->name);
        } else if (positional >= c->positional_max) {
            return cli_fail(CLI_USAGE, "%s: unexpected argument \"%s\"", c->name, argv[i]);
        } else {
            c->positional_values[positional++] = argv[i];
        }
    }
    for (const struct cli_option *o = c->options; o->name; o++) {
        if (o->required && !o->given)
            return cli_fail(CLI_USAGE, "%s: --%s is required; try nilm-model %s --help", c->name,
                            o->name, c->name);
    }
    if (positional < c->positional_min)
        return cli_fail(CLI_USAGE, "%s: expected %s; try nilm-model %s --help", c->name,
                        c->positional, c->name);
    return CLI_RUN;
}
