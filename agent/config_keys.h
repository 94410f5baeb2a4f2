/* config_keys.h - the one table of configuration keys: how each is parsed, its default, its limits,
 * its help. `nilmd --help` prints it, a test holds SPEC.md section 6 against it. Internal to
 * config*.c, nilmd.c and their tests.
 */
#ifndef AGENT_CONFIG_KEYS_H
#define AGENT_CONFIG_KEYS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum config_kind {                    /* type of the field that the value goes to */
                   CONFIG_STRING = 1, /* char [size] */
                   CONFIG_NAME,       /* char [size], a level of a topic name */
                   CONFIG_TOPIC,      /* char [size], base topic */
                   CONFIG_URL,        /* mqtts://host[:port]... into broker_host, broker_port, more_brokers */
                   CONFIG_CHOICE,     /* int; choices is "text=number ..." */
                   CONFIG_COUNT,      /* int64_t or uint64_t (never negative) */
                   CONFIG_SIZE,       /* uint64_t bytes, K M G allowed */
                   CONFIG_DURATION,   /* int64_t ms; needs a unit: ms s m h d */
                   CONFIG_SECONDS,    /* int s, written as a plain number or a duration */
                   CONFIG_NUMBER,     /* double */
                   CONFIG_SPEED,      /* double: N, or max (0) */
                   CONFIG_DATE        /* int64_t Unix ms from YYYY-MM-DD or YYYY-MM-DDTHH:MM:SSZ */
};

#define CONFIG_REPLAY 1u
#define CONFIG_STDIN 2u
#define CONFIG_SIM 4u
#define CONFIG_ANY 7u

struct config_key {
    const char *section; /* "meter" stands for meter:NAME */
    const char *name;
    enum config_kind kind;
    size_t offset, size;  /* field in struct config, or in struct config_meter */
    const char *fallback; /* as it would be written; NULL: none (empty or required) */
    double min, max;      /* of numbers, in the field's unit */
    const char *choices;
    unsigned types; /* meter keys: types of meter that have it */
    const char *help;
};

extern const struct config_key config_keys[];
extern const size_t config_key_count;

/* NULL when there is none. */
const struct config_key *config_keys_find(const char *section, const char *name);
int config_keys_section(const char *section);

/* Parses text into the field at base + key->offset. 0, or -EINVAL with "expected ..." in why.
 * config: for CONFIG_URL. */
struct config;
int config_keys_parse(const struct config_key *key, const char *text, void *base, char *why,
                      size_t why_size);

/* The table as text for people. */
void config_keys_print(FILE *out);

#endif
