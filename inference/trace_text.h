/* trace_text.h - numbers, times and names out of untrusted text; for the readers of text files
 * (trace.c, and the workshop's).
 *
 * The parsers take a cursor *p and an end, need no NUL, never look at the locale, and leave *p
 * behind what they took. They return 0, or -EBADMSG with *p anywhere. NUL bytes are ordinary wrong
 * bytes to them.
 */
#ifndef INFERENCE_TRACE_TEXT_H
#define INFERENCE_TRACE_TEXT_H

#include <stddef.h>
#include <stdint.h>

/* [+-]digits[.digits][e[+-]digits]; no NaN, no infinity, no hexadecimal. */
int trace_text_number(const char **p, const char *end, double *out);

/* The same, within +-10 MW (what no meter here reaches: a corrupt value). */
int trace_text_watts(const char **p, const char *end, float *out);

/* dd/mm/yyyy HH:MM:SS, in quotes or not (both occur in tracebase), UTC. */
int trace_text_tracebase_time(const char **p, const char *end, int64_t *t_ms);

/* Any time of trace.h: ISO 8601, Unix seconds or milliseconds, or tracebase's. 1970 to 9999. */
int trace_text_time(const char **p, const char *end, int64_t *t_ms);

/* Takes blanks, then one pair of quotes, off both ends. */
void trace_text_trim(const char **text, const char **end);

/* True when there is no control byte (tab excepted) in the text. */
int trace_text_is_plain(const char *text, const char *end);

/* Makes the text fit for a message: at most size - 1 bytes, anything unprintable as '?'. */
void trace_text_show(const char *text, const char *end, char *out, size_t size);

#endif
