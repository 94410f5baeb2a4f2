/* train_network.c - see train_network.h. */
#include "inference/workshop/train_network.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/train_command.h"

#define MAX_FILE 65536u /* bytes */

const char *const train_network_heads[] = {"softmax", "sigmoid", NULL};

/* The article's five convolutions and two dense layers. Wide pools in front let the parameters go
 * to what is found anywhere in the window instead of to the dense layer behind it, and a level is
 * read off six ramps that end at different watts (inference/models/MODEL_CARD.md has the trials).
 */
void train_network_defaults(struct train_network *n)
{
    *n = (struct train_network){.widths = "32,64,96,128,144",
                                .taps = "7,5,3,3,3",
                                .pools = "4,4,2,2,2",
                                .hidden = "256",
                                .features = "log,log-diff,linear:15,linear:40,linear:100,"
                                            "linear:250,linear:1000,linear:4000",
                                .full = 4000.0f};
}

void train_network_free(struct train_network *n)
{
    free(n->text);
    n->text = NULL;
}

/* "16,32,64" into values (at most NET_MAX_BLOCKS, each 1..65536). Returns the count, or -EINVAL. */
static int parse_list(const char *text, uint32_t *values)
{
    int n = 0;

    while (*text) {
        char *end;
        unsigned long v = strtoul(text, &end, 10);
        if (end == text || v < 1 || v > 65536 || n == (int)NET_MAX_BLOCKS || (*end && *end != ','))
            return -EINVAL;
        values[n++] = (uint32_t)v;
        text = *end ? end + 1 : end;
    }
    return n;
}

/* --- the file --- */

static char *trim(char *text)
{
    size_t length;

    text += strspn(text, " \t\r");
    for (length = strlen(text); length && strchr(" \t\r", text[length - 1]); length--)
        text[length - 1] = '\0';
    return text;
}

/* No value means anything by its blanks: "16, 32" is "16,32". */
static char *without_blanks(char *text)
{
    char *to = text;

    for (const char *from = text; *from; from++)
        if (!strchr(" \t\r", *from))
            *to++ = *from;
    *to = '\0';
    return text;
}

enum { WINDOW, PERIOD, HOP, FEATURES, FULL, WIDTHS, TAPS, POOLS, HIDDEN, HEAD, NORM, KEYS };
static const char *const keys[KEYS] = {"window", "period-ms", "hop",  "features",
                                       "full",   "widths",    "taps", "pools",
                                       "hidden", "head",      "norm"};

/* What a text must look like that its option's type does not check; NULL when it does. */
static const char *expected_text(int key, const char *value)
{
    uint32_t values[NET_MAX_BLOCKS];
    struct model m;

    if (key >= WIDTHS && key <= HIDDEN && parse_list(value, values) < 0)
        return "at most 12 whole numbers, separated by commas";
    if (key == FEATURES && train_command_features(value, 1.0f, &m))
        return "one to eight of linear, log, log-diff, each with :W if wanted, separated by commas";
    if (key == NORM && strcmp(value, "yes") != 0 && strcmp(value, "no") != 0)
        return "yes or no";
    return NULL;
}

static int take_value(struct train_network *n, struct cli_option *o, int key, const char *where,
                      const char *value)
{
    const char *expected = expected_text(key, value);

    if (expected)
        return cli_fail(CLI_FAILED, "%s: expected %s, found \"%s\"", where, expected, value);
    if (key == NORM) {
        n->no_norm |= !strcmp(value, "no");
        return CLI_RUN;
    }
    while (o->name && strcmp(o->name, keys[key]) != 0)
        o++;
    if (!o->name || o->given) /* the command line overrides */
        return CLI_RUN;
    return cli_store(where, o, value) == CLI_RUN ? CLI_RUN : CLI_FAILED;
}

static int take_line(struct train_network *n, struct cli_option *options, char *line,
                     unsigned number, int seen[KEYS])
{
    char *name, *value, *comment = strpbrk(line, "#;"), *equals, where[512];
    int key = 0;

    if (comment)
        *comment = '\0';
    name = trim(line);
    if (!*name)
        return CLI_RUN;
    equals = strchr(name, '=');
    if (!equals)
        return cli_fail(CLI_FAILED, "%s:%u: expected \"name = value\"", n->file, number);
    *equals = '\0';
    value = without_blanks(equals + 1);
    name = trim(name);
    while (key < KEYS && strcmp(name, keys[key]) != 0)
        key++;
    (void)snprintf(where, sizeof(where), "%s:%u: %s", n->file, number, name);
    if (key == KEYS)
        return cli_fail(CLI_FAILED,
                        "%s: unknown; expected window, period-ms, hop, features, full, widths, "
                        "taps, pools, hidden, head or norm",
                        where);
    if (seen[key]++)
        return cli_fail(CLI_FAILED, "%s: given twice", where);
    return take_value(n, options, key, where, value);
}

int train_network_read(struct train_network *n, struct cli_option *options)
{
    int seen[KEYS] = {0}, code = CLI_RUN, rc;
    unsigned number = 1;
    size_t size = 0;
    void *data = NULL;

    if (!n->file)
        return CLI_RUN;
    rc = cli_read_file(n->file, MAX_FILE, &data, &size);
    if (!rc) {
        n->text = realloc(data, size + 1);
        if (!n->text)
            free(data);
        rc = n->text ? 0 : -ENOMEM;
    }
    if (rc)
        return cli_fail(cli_code(rc), "%s: %s", n->file, strerror(-rc));
    n->text[size] = '\0';
    if (memchr(n->text, '\0', size))
        return cli_fail(CLI_FAILED, "%s: expected text", n->file);
    for (char *rest = n->text; rest && code == CLI_RUN; number++)
        code = take_line(n, options, strsep(&rest, "\n"), number, seen);
    return code;
}

/* --- to a specification --- */

int train_network_parse(const struct train_network *n, uint32_t window, struct net_spec *spec,
                        struct model *m)
{
    uint32_t widths[NET_MAX_BLOCKS], taps[NET_MAX_BLOCKS], pools[NET_MAX_BLOCKS];
    int blocks = parse_list(n->widths, widths), hidden = parse_list(n->hidden, spec->hidden);
    const char *file = n->file ? n->file : "", *colon = n->file ? ": " : "";

    if (train_command_features(n->features, n->full, m))
        return cli_fail(CLI_USAGE,
                        "%s%s--features: expected one to eight of linear, log, log-diff, separated "
                        "by commas",
                        file, colon);
    if (blocks < 0 || hidden < 0 || parse_list(n->taps, taps) != blocks ||
        parse_list(n->pools, pools) != blocks)
        return cli_fail(CLI_USAGE,
                        "%s%s--widths, --taps and --pools: expected lists of the same length, such "
                        "as 16,32,64",
                        file, colon);
    for (int i = 0; i < blocks; i++) {
        spec->conv[i].width = widths[i];
        spec->conv[i].taps = taps[i];
        spec->conv[i].pool = pools[i];
    }
    spec->conv_count = (uint32_t)blocks;
    spec->hidden_count = (uint32_t)hidden;
    spec->head = n->head ? MODEL_SIGMOID : MODEL_SOFTMAX;
    spec->window = window;
    spec->channels = m->channel_count;
    spec->norm = !n->no_norm;
    m->head = spec->head;
    return CLI_RUN;
}
