/* trace_text.c - see trace_text.h; also the parts of trace.h that need no file. */
#include "inference/trace_text.h"

#include "inference/trace.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define WATTS_LIMIT 1e7
#define SECONDS_LIMIT 253402300800.0 /* year 10000 */
#define MILLISECONDS_ABOVE 1e11      /* a bare number beyond this cannot be seconds (year 5138) */

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* --- numbers --- */

static double scale_ten(double value, int exponent)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const int most = (int)(sizeof powers / sizeof *powers) - 1;
    /* beyond what a double holds anyway: 0 or infinity without a long loop */
    exponent = exponent > 400 ? 400 : exponent < -800 ? -800 : exponent;
    for (; exponent > most; exponent -= most)
        value *= powers[most];
    for (; exponent < -most; exponent += most)
        value /= powers[most];
    return exponent < 0 ? value / powers[-exponent] : value * powers[exponent];
}

/* "e-3" behind a mantissa; absent is 0. */
static int take_exponent(const char **p, const char *end, int *out)
{
    const char *s = *p;
    *out = 0;
    if (s == end || (*s != 'e' && *s != 'E'))
        return 0;
    s++;
    int negative = s < end && *s == '-';
    if (s < end && (*s == '-' || *s == '+'))
        s++;
    if (s == end || !is_digit(*s))
        return -EBADMSG;
    int value = 0;
    for (; s < end && is_digit(*s); s++)
        value = value < 10000 ? value * 10 + (*s - '0') : value;
    *out = negative ? -value : value;
    *p = s;
    return 0;
}

int trace_text_number(const char **p, const char *end, double *out)
{
    const char *s = *p;
    int negative = s < end && *s == '-';
    if (s < end && (*s == '-' || *s == '+'))
        s++;
    uint64_t mantissa = 0;
    int digits = 0, exponent = 0, written = 0;
    for (int behind_point = 0; s < end; s++) {
        if (*s == '.' && !behind_point) {
            behind_point = 1;
            continue;
        }
        if (!is_digit(*s))
            break;
        digits++;
        if (mantissa <
            UINT64_C(100000000000000000)) { /* 18 digits: more than a double tells apart */
            mantissa = mantissa * 10 + (uint64_t)(*s - '0');
            exponent -= behind_point;
        } else if (exponent < 10000) {
            exponent += !behind_point;
        }
    }
    if (digits == 0 || take_exponent(&s, end, &written) < 0)
        return -EBADMSG;
    double value = (double)mantissa;
    if (mantissa != 0 && exponent + written != 0)
        value = scale_ten(value, exponent + written);
    *out = negative ? -value : value;
    *p = s;
    return 0;
}

int trace_text_watts(const char **p, const char *end, float *out)
{
    double value;
    if (trace_text_number(p, end, &value) < 0 || !(fabs(value) <= WATTS_LIMIT))
        return -EBADMSG;
    *out = (float)value;
    return 0;
}

/* --- times --- */

/* Exactly count digits. */
static int take_digits(const char **p, const char *end, int count, int *out)
{
    int value = 0;
    const char *s = *p;
    if (end - s < count)
        return -EBADMSG;
    for (const char *stop = s + count; s < stop; s++) {
        if (!is_digit(*s))
            return -EBADMSG;
        value = value * 10 + (*s - '0');
    }
    *p = s;
    *out = value;
    return 0;
}

static int take_byte(const char **p, const char *end, char wanted)
{
    if (*p == end || **p != wanted)
        return -EBADMSG;
    ++*p;
    return 0;
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leap);
}

static int is_date(int year, int month, int day)
{
    return year >= 1970 && month >= 1 && month <= 12 && day >= 1 &&
           day <= days_in_month(year, month);
}

/* Days since 1970-01-01 of the proleptic Gregorian calendar, counting years from March so that the
 * leap day is the last of its year. */
static int64_t days_from_date(int year, int month, int day)
{
    int64_t y = month > 2 ? year : year - 1;
    int64_t in_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return y * 365 + y / 4 - y / 100 + y / 400 + in_year - 719468;
}

/* A second of 60 (leap second) is allowed, as POSIX time counts it: the first of the next minute.
 */
static int take_clock(const char **p, const char *end, int seconds_needed, int64_t *seconds)
{
    int hour, minute, second = 0;
    if (take_digits(p, end, 2, &hour) < 0 || take_byte(p, end, ':') < 0 ||
        take_digits(p, end, 2, &minute) < 0)
        return -EBADMSG;
    if (seconds_needed || (*p < end && **p == ':')) {
        if (take_byte(p, end, ':') < 0 || take_digits(p, end, 2, &second) < 0)
            return -EBADMSG;
    }
    if (hour > 23 || minute > 59 || second > 60)
        return -EBADMSG;
    *seconds = hour * 3600 + minute * 60 + second;
    return 0;
}

int trace_text_tracebase_time(const char **p, const char *end, int64_t *t_ms)
{
    int day, month, year, quoted = *p < end && **p == '"';
    int64_t seconds;
    *p += quoted;
    if (take_digits(p, end, 2, &day) < 0 || take_byte(p, end, '/') < 0 ||
        take_digits(p, end, 2, &month) < 0 || take_byte(p, end, '/') < 0 ||
        take_digits(p, end, 4, &year) < 0 || take_byte(p, end, ' ') < 0 ||
        take_clock(p, end, 1, &seconds) < 0 || (quoted && take_byte(p, end, '"') < 0) ||
        !is_date(year, month, day))
        return -EBADMSG;
    *t_ms = (days_from_date(year, month, day) * 86400 + seconds) * 1000;
    return 0;
}

/* Z, +hh, +hhmm or +hh:mm; absent is UTC. */
static int take_zone(const char **p, const char *end, int64_t *seconds)
{
    *seconds = 0;
    if (*p == end)
        return 0;
    if (**p == 'Z' || **p == 'z') {
        ++*p;
        return 0;
    }
    int hour, minute = 0, negative = **p == '-';
    if (**p != '+' && **p != '-')
        return 0;
    ++*p;
    if (take_digits(p, end, 2, &hour) < 0)
        return -EBADMSG;
    if (*p < end && (**p == ':' || is_digit(**p))) {
        *p += **p == ':';
        if (take_digits(p, end, 2, &minute) < 0)
            return -EBADMSG;
    }
    if (hour > 23 || minute > 59)
        return -EBADMSG;
    *seconds = (hour * 3600 + minute * 60) * (negative ? -1 : 1);
    return 0;
}

static int take_iso_time(const char **p, const char *end, int64_t *t_ms)
{
    int year, month, day;
    int64_t seconds, zone;
    if (take_digits(p, end, 4, &year) < 0 || take_byte(p, end, '-') < 0 ||
        take_digits(p, end, 2, &month) < 0 || take_byte(p, end, '-') < 0 ||
        take_digits(p, end, 2, &day) < 0 || !is_date(year, month, day))
        return -EBADMSG;
    if (*p == end || (**p != ' ' && **p != 'T' && **p != 't'))
        return -EBADMSG;
    ++*p;
    if (take_clock(p, end, 0, &seconds) < 0)
        return -EBADMSG;
    int milliseconds = 0;
    if (*p < end && **p == '.' && end - *p > 1 && is_digit((*p)[1])) {
        ++*p;
        for (int weight = 100; *p < end && is_digit(**p); ++*p, weight /= 10)
            milliseconds += weight * (**p - '0');
    }
    if (take_zone(p, end, &zone) < 0)
        return -EBADMSG;
    *t_ms = (days_from_date(year, month, day) * 86400 + seconds - zone) * 1000 + milliseconds;
    return *t_ms < 0 ? -EBADMSG : 0;
}

int trace_text_time(const char **p, const char *end, int64_t *t_ms)
{
    const char *s = *p;
    double value;
    if (end - s > 4 && is_digit(s[0]) && s[4] == '-')
        return take_iso_time(p, end, t_ms);
    if (end - s > 2 && (*s == '"' || (is_digit(s[0]) && s[2] == '/')))
        return trace_text_tracebase_time(p, end, t_ms);
    if (trace_text_number(p, end, &value) < 0 || value < 0)
        return -EBADMSG;
    if (value <= MILLISECONDS_ABOVE)
        value *= 1000;
    if (!(value < SECONDS_LIMIT * 1000))
        return -EBADMSG;
    *t_ms = (int64_t)floor(value + 0.5);
    return 0;
}

/* --- text --- */

static int is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

void trace_text_trim(const char **text, const char **end)
{
    while (*text < *end && is_blank(**text))
        ++*text;
    while (*text < *end && is_blank((*end)[-1]))
        --*end;
    if (*end - *text >= 2 && **text == '"' && (*end)[-1] == '"') {
        ++*text;
        --*end;
    }
}

int trace_text_is_plain(const char *text, const char *end)
{
    for (; text < end; text++) {
        if (((unsigned char)*text < 0x20 && *text != '\t') || *text == 0x7f)
            return 0;
    }
    return 1;
}

void trace_text_show(const char *text, const char *end, char *out, size_t size)
{
    size_t n = 0;
    for (; text < end && n + 1 < size; text++)
        out[n++] = *text >= 0x20 && *text < 0x7f ? *text : '?';
    out[n] = '\0';
}

/* --- one line without a file --- */

static int is_separator(char c)
{
    return c == ',' || c == ';' || c == '\t' || c == ' ';
}

int trace_parse_reading(const char *line, int64_t now_ms, struct trace_reading *out, char *why,
                        size_t why_size)
{
    const char *text = line, *end = line + strnlen(line, TRACE_LINE_BYTES + 1u);
    int overlong = end - text > TRACE_LINE_BYTES;
    while (text < end && is_blank(*text))
        text++;
    while (text < end && is_blank(end[-1]))
        end--;
    const char *p = text;
    if (!overlong && trace_text_watts(&p, end, &out->watts) == 0 && p == end) {
        out->t_ms = now_ms;
        return 0;
    }
    p = text;
    if (!overlong && trace_text_time(&p, end, &out->t_ms) == 0 && p < end && is_separator(*p)) {
        while (p < end && is_blank(*p))
            p++;
        if (p < end && (*p == ',' || *p == ';'))
            p++;
        while (p < end && is_blank(*p))
            p++;
        double rest;
        if (trace_text_watts(&p, end, &out->watts) == 0 &&
            (p == end || (*p++ == ';' && trace_text_number(&p, end, &rest) == 0 && p == end)))
            return 0;
    }
    if (why && why_size > 0) {
        char shown[80];
        trace_text_show(text, end, shown, sizeof shown);
        snprintf(why, why_size, "expected \"watts\" or \"time,watts\" within 10 MW, found \"%s\"",
                 shown);
    }
    return -EBADMSG;
}

/* yyyy.mm.dd (or with dashes) at s, not part of a longer number. */
static int date_at(const char *s, const char *end, struct trace_name *out)
{
    const char *p = s;
    if (take_digits(&p, end, 4, &out->year) < 0 || p == end || (*p != '.' && *p != '-'))
        return 0;
    char separator = *p++;
    return take_digits(&p, end, 2, &out->month) == 0 && take_byte(&p, end, separator) == 0 &&
           take_digits(&p, end, 2, &out->day) == 0 && (p == end || !is_digit(*p)) &&
           is_date(out->year, out->month, out->day);
}

int trace_parse_name(const char *path, struct trace_name *out)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path, *end = name + strlen(name);
    memset(out, 0, sizeof *out);
    for (const char *s = name; s < end; s++) {
        if ((s > name && is_digit(s[-1])) || !date_at(s, end, out))
            continue;
        const char *stop = s;
        while (stop > name && (stop[-1] == '_' || stop[-1] == '-'))
            stop--;
        size_t n = (size_t)(stop - name);
        if (n == 0 || n >= sizeof out->device)
            return -EBADMSG;
        memcpy(out->device, name, n);
        return 0;
    }
    return -EBADMSG;
}

int trace_parse_phases(const char *line, int64_t now_ms, struct trace_reading *out, float phases[3],
                       char *why, size_t why_size)
{
    const char *fields[4], *ends[4], *p = line, *end = line + strnlen(line, TRACE_LINE_BYTES + 1u);
    int count = 0, good = end - line <= TRACE_LINE_BYTES;
    for (int more = good; more; count++) {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        if (count == 4) {
            good = more = 0;
            break;
        }
        fields[count] = p;
        ends[count] = comma ? comma : end;
        trace_text_trim(&fields[count], &ends[count]);
        more = comma != NULL;
        p = comma ? comma + 1 : end;
    }
    good = good && count >= 3;
    out->t_ms = now_ms;
    if (good && count == 4)
        good = trace_text_time(&fields[0], ends[0], &out->t_ms) == 0 && fields[0] == ends[0];
    for (int i = 0; i < 3 && good; i++) {
        const int f = count - 3 + i;
        good = trace_text_watts(&fields[f], ends[f], &phases[i]) == 0 && fields[f] == ends[f];
    }
    if (good) {
        out->watts = phases[0] + phases[1] + phases[2];
        return 0;
    }
    if (why && why_size > 0) {
        char shown[80];
        trace_text_show(line, end, shown, sizeof shown);
        snprintf(why, why_size,
                 "expected \"L1,L2,L3\" or \"time,L1,L2,L3\" within 10 MW, found \"%s\"", shown);
    }
    return -EBADMSG;
}
