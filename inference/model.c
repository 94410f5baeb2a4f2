/* model.c - what reader and writer of the model file share, and questions about a decoded model. */
#include "inference/model.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/model_format.h"

const char model_format_tags[MODEL_FORMAT_SECTIONS][5] = {"HEAD", "CHAN", "LAYR", "WGTS",
                                                          "LABL", "GOLD", "META"};

void model_format_why(char *why, size_t why_size, const char *format, ...)
{
    va_list args;

    if (!why || !why_size)
        return;
    va_start(args, format);
    vsnprintf(why, why_size, format, args);
    va_end(args);
}

uint32_t model_format_crc32(const void *data, size_t size)
{
    const unsigned char *p = data;
    uint32_t
        table[256]; /* made anew each time: a file is read once, and nothing is shared by threads */
    uint32_t crc = 0xffffffffu;

    for (uint32_t i = 0; i < 256; i++) {
        uint32_t v = i;
        for (int bit = 0; bit < 8; bit++)
            v = (v & 1u) ? 0xedb88320u ^ (v >> 1) : v >> 1;
        table[i] = v;
    }
    for (size_t i = 0; i < size; i++)
        crc = table[(crc ^ p[i]) & 0xffu] ^ (crc >> 8);
    return ~crc;
}

int model_format_is_name(const char *s)
{
    return s[strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")] ==
           '\0';
}

/* Length of the well-formed UTF-8 sequence at p (size bytes left, at least 1), or 0. RFC 3629,
 * section 4. */
static size_t utf8_length(const unsigned char *p, size_t size)
{
    size_t n;
    unsigned low = 0x80, high = 0xbf; /* of the second byte */

    if (p[0] < 0x80)
        return 1;
    if (p[0] >= 0xc2 && p[0] <= 0xdf)
        n = 2;
    else if ((p[0] & 0xf0) == 0xe0)
        n = 3;
    else if (p[0] >= 0xf0 && p[0] <= 0xf4)
        n = 4;
    else
        return 0;
    if (p[0] == 0xe0)
        low = 0xa0;
    else if (p[0] == 0xed)
        high = 0x9f;
    else if (p[0] == 0xf0)
        low = 0x90;
    else if (p[0] == 0xf4)
        high = 0x8f;
    if (n > size || p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

int model_format_is_text(const char *s, size_t size, int lines)
{
    const unsigned char *p = (const unsigned char *)s;

    while (size > 0) {
        size_t n = utf8_length(p, size);
        int blank = lines && (*p == '\n' || *p == '\t');
        if (n == 0 || *p == 0x7f || (*p < 0x20 && !blank))
            return 0;
        if (n == 2 && p[0] == 0xc2 && p[1] < 0xa0) /* C1 controls */
            return 0;
        p += n;
        size -= n;
    }
    return 1;
}

uint64_t model_format_weights(const struct model_layer *l)
{
    if (l->op == MODEL_CONV1D)
        return (uint64_t)l->out_channels * l->taps * l->in_channels;
    if (l->op == MODEL_DENSE)
        return (uint64_t)l->out_channels * l->in_channels;
    return 0;
}

/* Derives one layer from the shape in front of it; returns what is wrong or NULL. flat: a FLATTEN
 * came before. */
static const char *derive_layer(struct model_layer *l, int flat)
{
    if (l->op < MODEL_CONV1D || l->op > MODEL_DENSE)
        return "op is unknown, expected 1 to 4";
    if ((l->op == MODEL_DENSE) != flat)
        return flat ? "after FLATTEN only DENSE may stand" : "DENSE stands before FLATTEN";
    if (l->op != MODEL_CONV1D && l->taps != 0)
        return "taps is set, expected 0";
    if (l->op != MODEL_MAXPOOL1D && l->pool != 0)
        return "pool is set, expected 0";
    if (l->relu && l->op != MODEL_CONV1D && l->op != MODEL_DENSE)
        return "relu is set, expected 0";
    switch (l->op) {
    case MODEL_CONV1D:
        if (l->taps < 1 || l->taps > MODEL_MAX_TAPS)
            return "taps is out of range, expected 1 to 64";
        if (l->out_channels < 1 || l->out_channels > MODEL_MAX_WIDTH)
            return "out_channels is out of range, expected 1 to 1024";
        if (l->taps > l->in_columns)
            return "taps exceed the columns of the input";
        l->out_columns = l->in_columns - l->taps + 1;
        return NULL;
    case MODEL_MAXPOOL1D:
        if (l->pool < 1 || l->pool > MODEL_MAX_POOL)
            return "pool is out of range, expected 1 to 16";
        if (l->pool > l->in_columns)
            return "pool exceeds the columns of the input";
        l->out_channels = l->in_channels;
        l->out_columns = l->in_columns / l->pool;
        return NULL;
    case MODEL_FLATTEN:
        if ((uint64_t)l->in_channels * l->in_columns > MODEL_MAX_UNITS)
            return "more than 65536 values to flatten";
        l->out_channels = l->in_channels * l->in_columns;
        l->out_columns = 1;
        return NULL;
    case MODEL_DENSE:
        if (l->out_channels < 1 || l->out_channels > MODEL_MAX_UNITS)
            return "out_channels is out of range, expected 1 to 65536";
        l->out_columns = 1;
        return NULL;
    }
    return NULL;
}

int model_format_geometry(struct model *m, char *why, size_t why_size)
{
    uint32_t channels = m->channel_count, columns = m->window;
    const struct model_layer *last = &m->layers[m->layer_count - 1];
    int flat = 0;

    for (uint32_t i = 0; i < m->layer_count; i++) {
        struct model_layer *l = &m->layers[i];
        const char *fault;

        l->in_channels = channels;
        l->in_columns = columns;
        fault = derive_layer(l, flat);
        if (fault) {
            model_format_why(why, why_size, "LAYR: layer %u: %s", i + 1, fault);
            return -EBADMSG;
        }
        flat = flat || l->op == MODEL_FLATTEN;
        channels = l->out_channels;
        columns = l->out_columns;
    }
    if (last->op != MODEL_DENSE || last->relu || last->out_channels != m->class_count) {
        model_format_why(why, why_size,
                         "LAYR: the last layer must be DENSE without relu and have %u outputs",
                         m->class_count);
        return -EBADMSG;
    }
    if (model_macs(m) > MODEL_FORMAT_MAX_MACS) {
        model_format_why(
            why, why_size, "LAYR: %llu multiplications a window, at most %llu are allowed",
            (unsigned long long)model_macs(m), (unsigned long long)MODEL_FORMAT_MAX_MACS);
        return -EBADMSG;
    }
    return 0;
}

void model_free(struct model *m)
{
    if (m)
        free(m->owner);
}

uint64_t model_parameters(const struct model *m)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < m->layer_count; i++) {
        const struct model_layer *l = &m->layers[i];
        uint64_t weights = model_format_weights(l);
        sum += weights ? weights + l->out_channels : 0;
    }
    return sum;
}

uint64_t model_macs(const struct model *m)
{
    uint64_t sum = 0;

    /* at most 32 times 2^14 columns of 2^26 weights: no overflow */
    for (uint32_t i = 0; i < m->layer_count; i++)
        sum += model_format_weights(&m->layers[i]) * m->layers[i].out_columns;
    return sum;
}

/* The value of the first line of a key: its start, up to *length bytes; NULL where there is none.
 */
static const char *find_line(const struct model *m, const char *key, size_t *length)
{
    const size_t size = strlen(key);
    const char *line = m->meta ? m->meta : "";

    while (*line) {
        size_t end = strcspn(line, "\n");
        if (end > size && line[size] == '=' && strncmp(line, key, size) == 0) {
            *length = end - size - 1;
            return line + size + 1;
        }
        line += end + (line[end] == '\n');
    }
    return NULL;
}

int model_meta(const struct model *m, const char *key, char *value, size_t value_size)
{
    size_t n = 0;
    const char *text = find_line(m, key, &n);

    if (!text)
        return -ENOENT;
    if (n >= value_size)
        return -ENOSPC;
    memcpy(value, text, n);
    value[n] = '\0';
    return 0;
}

/* A decimal number as SPEC 1.12 has them, without sign, exponent or locale: digits, a point,
 * digits; at most nine in all. Returns what is behind it, NULL where there is none. */
static const char *read_number(const char *text, double *number)
{
    double unit = 1.0;
    int digits = 0, point = 0;

    for (*number = 0.0; (*text >= '0' && *text <= '9') || (*text == '.' && !point); text++) {
        if (*text == '.') {
            point = 1;
            continue;
        }
        digits++;
        *number = *number * 10.0 + (*text - '0');
        unit *= point ? 10.0 : 1.0;
    }
    *number /= unit;
    return digits >= 1 && digits <= 9 ? text : NULL;
}

/* Number `index` of the list in a line, whose numbers are all at most `most` and `count` in number.
 * 0, -ENOENT (no such line), -EBADMSG. */
static int list_number(const struct model *m, const char *key, uint32_t count, double most,
                       uint32_t index, double *out)
{
    size_t length = 0;
    const char *text = find_line(m, key, &length), *end;
    double number, found = 0.0;

    if (!text)
        return -ENOENT;
    end = text + length;
    for (uint32_t i = 0; i < count; i++) {
        text = read_number(text, &number);
        if (!text || number > most || (i + 1 < count ? *text++ != ',' : text != end))
            return -EBADMSG;
        if (i == index)
            found = number;
    }
    *out = found;
    return 0;
}

/* 0, -ENOENT, -EBADMSG */
static int read_lag(const struct model *m, uint32_t *lag)
{
    double number;
    int rc = list_number(m, "lag", 1, (double)m->window - 1.0, 0, &number);

    if (!rc)
        *lag = (uint32_t)number;
    return rc || number == (double)*lag ? rc : -EBADMSG;
}

int model_format_check_meta(const struct model *m, char *why, size_t why_size)
{
    double number;
    uint32_t lag;

    if (read_lag(m, &lag) == -EBADMSG) {
        model_format_why(why, why_size, "META: lag: expected a whole number below %u", m->window);
        return -EBADMSG;
    }
    if (list_number(m, "thresholds", m->class_count, 1.0, 0, &number) == -EBADMSG) {
        model_format_why(why, why_size,
                         "META: thresholds: expected %u numbers from 0 to 1, separated by commas",
                         m->class_count);
        return -EBADMSG;
    }
    return 0;
}

uint32_t model_lag(const struct model *m)
{
    uint32_t lag;

    return read_lag(m, &lag) ? m->window / 4 : lag;
}

float model_threshold(const struct model *m, uint32_t class)
{
    double number = 0.5;

    (void)list_number(m, "thresholds", m->class_count, 1.0, class, &number);
    return (float)number;
}
