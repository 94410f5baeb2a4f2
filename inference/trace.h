/* trace.h - reads recorded power: tracebase day files and plain CSV, one reading at a time.
 *
 * tracebase line: dd/mm/yyyy HH:MM:SS;watts averaged over 1 s;watts averaged over 8 s   (the first
 * is used; UTC) plain CSV: a header naming the columns, then rows; separator ',' or ';'. The time
 * column is `timestamp`, `time`, `t` or the first one: ISO 8601 (with or without zone, ' ' or 'T',
 * UTC when absent), or Unix seconds (fractions allowed), or Unix milliseconds when above 10^11. The
 * power column is the one asked for, else `watts`, `power`, `aggregate`, `w`, else the second. A
 * file without a header (two numbers a line) is taken as time, watts. Memory is constant: one line,
 * of at most TRACE_LINE_BYTES.
 */
#ifndef INFERENCE_TRACE_H
#define INFERENCE_TRACE_H

#include <stddef.h>
#include <stdint.h>

#define TRACE_LINE_BYTES 4096

enum trace_format { TRACE_AUTO = 0, TRACE_TRACEBASE = 1, TRACE_CSV = 2 };

struct trace_reading {
    int64_t t_ms; /* Unix time, milliseconds */
    float watts;  /* finite */
};

struct trace_stats {
    uint64_t lines;    /* read, the header included */
    uint64_t readings; /* handed out */
    uint64_t bad;      /* could not be parsed, or not finite, or beyond +-10 MW */
    uint64_t empty;
};

struct trace;

/* Opens path. column: the power column of a plain CSV, or three, separated by line ends (the
 * phases, whose sum is the power), or NULL. Returns 0 and *out (trace_close), or -errno, -EBADMSG
 * (neither format, or the column is not there) with the reason in why, naming path and line. */
int trace_open(const char *path, enum trace_format format, const char *column, struct trace **out,
               char *why, size_t why_size);

/* Next reading, in file order (times may repeat or run backwards: the resampler's business).
 * Returns 1; 0 at the end; -EBADMSG for a line that is not a reading (trace_error says which and
 * why; call again to go on with the next line); -errno when reading fails. */
int trace_next(struct trace *t, struct trace_reading *out);
/* The phases of the last reading: 1, or 0 when three columns were not asked for. */
int trace_phases(const struct trace *t, float out[3]);
const char *trace_error(const struct trace *t); /* of the last failure; valid until the next call */
const struct trace_stats *trace_statistics(const struct trace *t);
void trace_close(struct trace *t);

/* Parses one line (NUL-terminated, no newline needed) of the forms above without a file: what a
 * stdin meter receives, "watts" alone (time := now_ms) or "time<sep>watts" (sep: ',' ';' tab or
 * blanks). 0 or -EBADMSG with why. */
int trace_parse_reading(const char *line, int64_t now_ms, struct trace_reading *out, char *why,
                        size_t why_size);

/* The same for a three-phase meter: "L1,L2,L3" or "time,L1,L2,L3", separated by commas. out gets
 * their sum. */
int trace_parse_phases(const char *line, int64_t now_ms, struct trace_reading *out, float phases[3],
                       char *why, size_t why_size);

/* Takes a tracebase file name apart: the device is what stands before the date (leading underscores
 * kept out only when nothing else is left). "dev_98ABAA_2011.12.01_CRT-TV.csv" -> "dev_98ABAA",
 * 2011, 12, 1. path may have folders. */
struct trace_name {
    char device[64];
    int year, month, day;
};
int trace_parse_name(const char *path, struct trace_name *out); /* 0 or -EBADMSG */

#endif
