/* cli.h - what the commands of nilm-model share: options with generated help, progress, errors,
 * JSON output.
 *
 * Exit codes are the project's: 0 done, 1 wrong usage, 2 failed for good, 3 may succeed when
 * retried, 4 timed out. Results go to standard output, everything else to standard error. For one
 * thread.
 */
#ifndef WORKSHOP_CLI_H
#define WORKSHOP_CLI_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

enum cli_exit { CLI_DONE = 0, CLI_USAGE = 1, CLI_FAILED = 2, CLI_RETRY = 3, CLI_TIMEOUT = 4 };
#define CLI_RUN (-1) /* cli_parse: nothing to report, the command shall run */

enum cli_type {
    CLI_FLAG,   /* int, set to 1; takes no argument */
    CLI_STRING, /* const char *, points into argv */
    CLI_UINT,   /* uint32_t */
    CLI_UINT64, /* uint64_t */
    CLI_FLOAT,  /* float */
    CLI_CHOICE  /* int, the index in choices */
};

/* One long option, `--name VALUE` or `--name=VALUE`. What *value holds before is the default; help
 * shows it (not for flags, and not for NULL strings). */
struct cli_option {
    const char *name; /* without the dashes; NULL ends the table */
    enum cli_type type;
    void *value;
    const char *argument;       /* what help calls the value: "FILE"; NULL for flags and choices */
    const char *help;           /* one line or more, broken by the printer */
    double low, high;           /* numbers: allowed range, when low < high */
    const char *const *choices; /* CLI_CHOICE: names, NULL-terminated */
    int required;
    int given; /* set by cli_parse */
};

struct cli_command {
    const char *name; /* "eval" */
    const char
        *usage; /* "--model FILE --data DIR": what follows the name in the first line of the help */
    const char *summary;        /* what it does, a sentence or a few */
    struct cli_option *options; /* ends with a NULL name */
    const char
        *positional; /* what the arguments that are no options are called, NULL: none allowed */
    int positional_min, positional_max;
    const char **positional_values; /* [positional_max], NULL where not given */
};

/* Reads argv[1..]; argv[0] is the command's name. Returns CLI_RUN; CLI_DONE after --help; CLI_USAGE
 * after telling on standard error which option is wrong and what was expected. */
int cli_parse(struct cli_command *command, int argc, char **argv);

/* Gives an option its value as cli_parse does, for values from elsewhere than the command line.
 * `where` begins the message: "FILE:3: window". CLI_RUN, or CLI_USAGE after telling. */
int cli_store(const char *where, struct cli_option *o, const char *value);

/* Prints "nilm-model: text" on standard error (ending an open progress line first) and returns
 * code. */
int cli_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Exit code for a negative errno: CLI_RETRY for what may pass by itself (no memory, disk full,
 * busy), else CLI_FAILED. */
int cli_code(int rc);

/* Prints one JSON object on standard output, releases it, and returns CLI_DONE, or CLI_FAILED when
 * that failed (then told). A NULL object counts as out of memory. */
int cli_print_json(cJSON *object);

/* Writes a whole file durably: temporary file beside it, fsync, rename, fsync of the folder. 0 or
 * -errno. */
int cli_write_file(const char *path, const void *data, size_t size);

/* Reads a whole file of at most limit bytes into a new buffer (free()). 0, -EFBIG, -ENOMEM or
 * -errno. */
int cli_read_file(const char *path, size_t limit, void **data, size_t *size);

/* Progress of long work on standard error: a bar with the time left on a terminal, elsewhere a
 * plain line at the start of the work's output, then at most every ten seconds, and at the end.
 * --quiet commands just do not call it. */
struct cli_progress {
    const char *what; /* "loading" */
    uint64_t done, total;
    double started, shown; /* monotonic seconds */
    int terminal, open;    /* open: the cursor stands in an unfinished bar */
};

void cli_progress_begin(struct cli_progress *p, const char *what, uint64_t total);
/* note: a few words behind the bar ("loss 0.31"), or NULL. Cheap enough for a tight loop. */
void cli_progress_step(struct cli_progress *p, uint64_t done, const char *note);
void cli_progress_end(struct cli_progress *p, const char *note);

/* For dataset_options.progress: context is a struct cli_progress; begins it at the first call and
 * ends it at the last. */
void cli_progress_files(void *context, size_t done, size_t total);

#endif
