/* cli.h - what the subcommands of nilmctl share: options, exit codes, times, JSON output, the paths of an agent.
 *
 * A command describes its options in a table; cli_parse fills the targets and prints --help from the same table, so help
 * and behaviour cannot differ. Errors go to standard error and begin with "nilmctl COMMAND: ".
 */
#ifndef AGENT_CTL_CLI_H
#define AGENT_CTL_CLI_H

#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "agent/config.h"
#include "storage/store.h"

/* Exit codes of nilmctl (SPEC.md section 7). */
enum cli_exit { CLI_DONE = 0, CLI_USAGE = 1, CLI_FAILED = 2, CLI_RETRY = 3, CLI_TIMEOUT = 4 };

#define CLI_GO (-1)          /* cli_parse: run the command */
#define CLI_WHY 768          /* room for the reason of a failure */
#define CLI_CONFIG "/etc/nilmd/nilmd.conf"
#define CLI_LIST_MAX 32
#define CLI_TIMES_MAX 8 /* options of kind CLI_TIME in one command line */
#define CLI_CLOCK_MIN 1704067200 /* 2024-01-01: a clock before it was never set */

struct cli_list {
    const char *items[CLI_LIST_MAX];
    size_t count;
};

enum cli_kind {
    CLI_FLAG,   /* int: becomes 1; takes no value */
    CLI_TEXT,   /* const char * into argv */
    CLI_NUMBER, /* int64_t, within min..max */
    CLI_TIME,   /* int64_t, Unix ms; see cli_time */
    CLI_MANY    /* struct cli_list; may be repeated */
};

struct cli_option {
    const char *name;  /* without "--" */
    enum cli_kind kind;
    void *target;
    const char *value; /* placeholder in the help, NULL for flags */
    const char *help;
    int64_t min, max; /* of CLI_NUMBER */
};

struct cli_command {
    const char *name;
    const char *arguments; /* shown in the help, e.g. "ID NAME", or "" */
    size_t argument_count; /* exactly so many positional ones */
    const char *summary;
    const struct cli_option *options; /* ends with a NULL name */
};

/* Takes argv apart (--name VALUE, --name=VALUE, "--" ends the options). Positional arguments are put into arguments. Returns
 * CLI_GO, CLI_DONE after --help, or CLI_USAGE after a message. */
int cli_parse(const struct cli_command *command, int argc, char **argv, const char **arguments);

/* "nilmctl COMMAND: text" on standard error. Returns code. */
__attribute__((format(printf, 3, 4))) int cli_fail(int code, const char *command, const char *format, ...);

/* "2h" or "3d" (so long ago; also ms, s, m, w), "YYYY-MM-DD[THH:MM[:SS]][Z]" (without Z in the zone of the configuration), or "@SECONDS" since 1970. 0, -EINVAL. */
int cli_time(const char *text, int64_t now_ms, int64_t *out_ms);
int64_t cli_now_ms(void);
/* Steady milliseconds for waiting. */
int64_t cli_mono_ms(void);

/* Local time "2024-05-01 12:00:00", "-" for 0; "35 min" style durations; both return text. */
#define CLI_STAMP 32
const char *cli_stamp(int64_t ms, char text[CLI_STAMP]);
const char *cli_duration(double seconds, char text[CLI_STAMP]);

/* Text from the network or a file, made harmless for a terminal: control bytes become '?'. In place; returns text. */
char *cli_plain(char *text);

/* A member that is a whole number from min to 2^53, up to which JSON numbers are exact: 1 when it is one. */
int cli_whole(const cJSON *object, const char *key, double min, int64_t *out);

/* Prints an object as one line on standard output and releases it. CLI_DONE, or CLI_FAILED when memory was short or the output
 * is closed. */
int cli_print_json(cJSON *object);

/* Paths of an agent below its data_dir. */
#define CLI_PATH (CONFIG_TEXT + 32)
void cli_path(const struct config *c, const char *name, char path[CLI_PATH]);
#define CLI_DATABASE "nilmd.db"
#define CLI_SOCKET "nilmd.sock"
#define CLI_SLOTS "models"
#define CLI_MAINS_SLOTS "models/mains"

/* Reads the configuration, with the message and exit code on failure (CLI_DONE: *out is set). */
int cli_config(const char *command, const char *path, struct config **out);
/* Opens the agent's database, likewise. write: nilmctl's own handle beside a running agent (WAL). Never makes one. */
int cli_store(const char *command, const struct config *c, int write, struct store **out);

#endif
