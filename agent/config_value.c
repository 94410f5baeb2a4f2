/* config_value.c - the texts of configuration values: numbers, durations, sizes, URLs, dates. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/config.h"
#include "agent/config_keys.h"
#include "transport/topic.h"

__attribute__((format(printf, 3, 4))) static int expected(char *why, size_t size,
                                                          const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why, size, format, args);
    va_end(args);
    return -EINVAL;
}

/* A decimal number (no hex, no inf, no nan) and what follows it. */
static int decimal(const char *text, double *value, const char **rest)
{
    const size_t digits = strspn(text, "0123456789.");
    if (digits == 0 || digits > 32 || !isdigit((unsigned char)text[0]))
        return -EINVAL;
    char copy[33], *end = NULL;
    memcpy(copy, text, digits);
    copy[digits] = '\0';
    *value = strtod(copy, &end);
    if (*end != '\0' || !isfinite(*value))
        return -EINVAL;
    *rest = text + digits;
    return 0;
}

struct unit {
    const char *name;
    double factor;
};

static int with_unit(const char *text, const struct unit *units, double *value)
{
    const char *rest = NULL;
    if (decimal(text, value, &rest) < 0)
        return -EINVAL;
    rest += strspn(rest, " ");
    for (; units->name; units++) {
        if (strcmp(rest, units->name) == 0) {
            *value *= units->factor;
            return 0;
        }
    }
    return -EINVAL;
}

static int parse_duration(const char *text, double *ms)
{
    static const struct unit units[] = {{"ms", 1},     {"s", 1e3},     {"m", 60e3},
                                        {"h", 3600e3}, {"d", 86400e3}, {NULL, 0}};
    return with_unit(text, units, ms);
}

static int parse_size(const char *text, double *bytes)
{
    static const struct unit units[] = {
        {"", 1}, {"K", 1024}, {"M", 1048576}, {"G", 1073741824}, {NULL, 0}};
    return with_unit(text, units, bytes);
}

static int parse_count(const char *text, double *count)
{
    static const struct unit units[] = {{"", 1}, {NULL, 0}};
    return strchr(text, '.') ? -EINVAL : with_unit(text, units, count);
}

static int parse_choice(const char *choices, const char *text, int *value)
{
    const size_t n = strlen(text);
    for (const char *p = choices; n > 0 && *p;) {
        const size_t word = strcspn(p, " ");
        const size_t name = strcspn(p, "=");
        if (name == n && strncmp(p, text, n) == 0) {
            *value = atoi(p + name + 1);
            return 0;
        }
        p += word + strspn(p + word, " ");
    }
    return -EINVAL;
}

/* "a, b, c" from "a=1 b=2 c=3". */
static void list_choices(const char *choices, char *out, size_t size)
{
    size_t used = 0;
    for (const char *p = choices; *p && used + 1 < size;) {
        const size_t word = strcspn(p, " ");
        const int n =
            snprintf(out + used, size - used, "%s%.*s", used ? ", " : "", (int)strcspn(p, "="), p);
        used += n > 0 ? (size_t)n : 0;
        p += word + strspn(p + word, " ");
    }
}

/* One URL of n bytes. */
static int parse_broker(const char *url, size_t url_bytes, struct config_broker *b, char *why,
                        size_t size)
{
    static const char scheme[] = "mqtts://";
    char text[300];
    if (url_bytes >= sizeof text)
        return expected(why, size, "expected mqtts://HOST[:PORT] of at most %zu characters",
                        sizeof text - 1);
    memcpy(text, url, url_bytes);
    text[url_bytes] = '\0';
    if (strncmp(text, scheme, sizeof scheme - 1) != 0)
        return expected(why, size,
                        "expected mqtts://HOST[:PORT] (only MQTT over TLS), found \"%.80s\"", text);
    const char *host = text + sizeof scheme - 1, *end = NULL;
    size_t n = 0;
    if (*host == '[') { /* an IPv6 address */
        host++;
        n = strspn(host, "0123456789abcdefABCDEF:.");
        end = host[n] == ']' ? host + n + 1 : NULL;
    } else {
        n = strspn(host, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-_");
        end = host + n;
    }
    double port = 8883;
    if (end && *end == ':') {
        if (parse_count(end + 1, &port) < 0)
            port = 0;
        end = "";
    }
    if (!end || *end != '\0' || n == 0 || n >= sizeof b->host || port < 1 || port > 65535)
        return expected(why, size,
                        "expected mqtts://HOST[:PORT] with a port of 1 to 65535, found \"%.80s\"",
                        text);
    memcpy(b->host, host, n);
    b->host[n] = '\0';
    b->port = (uint16_t)port;
    return 0;
}

/* URLs separated by blanks, in the order of preference. */
static int parse_urls(const char *text, struct config *c, char *why, size_t size)
{
    struct config_broker brokers[CONFIG_BROKERS] = {0};
    int count = 0;
    /* The value is not quoted: a password might stand in it. */
    if (strchr(text, '@'))
        return expected(why, size,
                        "expected mqtts://HOST[:PORT] without user and password (username and "
                        "password_file are for that)");
    for (const char *p = text + strspn(text, " \t"); *p; p += strspn(p, " \t")) {
        const size_t n = strcspn(p, " \t");
        if (count == CONFIG_BROKERS)
            return expected(why, size, "expected at most %d brokers", CONFIG_BROKERS);
        const int rc = parse_broker(p, n, &brokers[count++], why, size);
        if (rc < 0)
            return rc;
        p += n;
    }
    memcpy(c->broker_host, brokers[0].host, sizeof c->broker_host);
    c->broker_port = brokers[0].port;
    memcpy(c->more_brokers, brokers + 1, sizeof c->more_brokers);
    return 0;
}

static int parse_date(const char *text, int64_t *ms)
{
    struct tm tm = {0};
    const char *end = strptime(text, "%Y-%m-%d", &tm);
    if (end && *end == 'T')
        end = strptime(end, "T%H:%M:%SZ", &tm);
    if (!end || *end != '\0' || tm.tm_year < 70 || tm.tm_year > 1000)
        return -EINVAL;
    *ms = (int64_t)timegm(&tm) * 1000;
    return 0;
}

static int parse_string(const struct config_key *key, const char *text, char *field, char *why,
                        size_t size)
{
    if (strlen(text) >= key->size)
        return expected(why, size, "expected at most %zu characters, found %zu", key->size - 1,
                        strlen(text));
    if (key->kind == CONFIG_NAME && *text && topic_check_name(text) < 0)
        return expected(why, size,
                        "expected 1 to 63 of A-Z a-z 0-9 . _ - (not starting with . or -), found "
                        "\"%.80s\"",
                        text);
    if (key->kind == CONFIG_TOPIC && topic_check_base(text) < 0)
        return expected(why, size,
                        "expected 1 to 3 topic levels of A-Z a-z 0-9 . _ -, found \"%.80s\"", text);
    memcpy(field, text, strlen(text) + 1);
    return 0;
}

/* Text of the limits in the unit that the user writes. */
static int out_of_range(const struct config_key *key, const char *text, char *why, size_t size)
{
    if (key->kind == CONFIG_DURATION)
        return expected(
            why, size,
            "expected a duration with unit (ms s m h d) of %.15gs to %.15gs, found \"%.80s\"",
            key->min / 1e3, key->max / 1e3, text);
    const char *what = key->kind == CONFIG_SIZE      ? "a size in bytes (K M G allowed)"
                       : key->kind == CONFIG_SECONDS ? "seconds (a number, or with unit s m h)"
                       : key->kind == CONFIG_COUNT   ? "a whole number"
                       : key->kind == CONFIG_SPEED   ? "max, or a number"
                                                     : "a number";
    return expected(why, size, "expected %s of %.15g to %.15g, found \"%.80s\"", what, key->min,
                    key->max, text);
}

static int parse_number(const struct config_key *key, const char *text, void *field, char *why,
                        size_t size)
{
    double v = 0;
    const char *rest = "";
    int rc = 0;
    switch (key->kind) {
    case CONFIG_COUNT:
        rc = parse_count(text, &v);
        break;
    case CONFIG_SIZE:
        rc = parse_size(text, &v);
        break;
    case CONFIG_DURATION:
        rc = parse_duration(text, &v);
        break;
    case CONFIG_SECONDS:
        rc = parse_count(text, &v);
        if (rc < 0 && (rc = parse_duration(text, &v)) == 0)
            v /= 1e3;
        break;
    default:
        if (key->kind == CONFIG_SPEED && strcmp(text, "max") == 0) {
            *(double *)field = 0;
            return 0;
        }
        rc = decimal(text, &v, &rest);
        break;
    }
    if (rc < 0 || *rest != '\0' || v < key->min || v > key->max)
        return out_of_range(key, text, why, size);
    if (key->kind == CONFIG_NUMBER || key->kind == CONFIG_SPEED)
        *(double *)field = v;
    else if (key->kind == CONFIG_SECONDS)
        *(int *)field = (int)v;
    else /* int64_t and uint64_t alike: never negative */
        *(int64_t *)field = (int64_t)v;
    return 0;
}

int config_keys_parse(const struct config_key *key, const char *text, void *base, char *why,
                      size_t why_size)
{
    void *field = (char *)base + key->offset;
    char names[160];
    switch (key->kind) {
    case CONFIG_STRING:
    case CONFIG_NAME:
    case CONFIG_TOPIC:
        return parse_string(key, text, field, why, why_size);
    case CONFIG_URL:
        return parse_urls(text, base, why, why_size);
    case CONFIG_CHOICE:
        if (parse_choice(key->choices, text, field) == 0)
            return 0;
        list_choices(key->choices, names, sizeof names);
        return expected(why, why_size, "expected one of %s, found \"%.80s\"", names, text);
    case CONFIG_DATE:
        if (parse_date(text, field) == 0)
            return 0;
        return expected(why, why_size,
                        "expected YYYY-MM-DD or YYYY-MM-DDTHH:MM:SSZ, found \"%.80s\"", text);
    default:
        return parse_number(key, text, field, why, why_size);
    }
}
