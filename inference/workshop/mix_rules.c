/* mix_rules.c - when a load is on: rules as text, and runs from them. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/cli.h"
#include "inference/workshop/mix.h"

#define MAX_FILE 65536u /* bytes */

/* --- text --- */

struct place {
    const char *file;
    unsigned line;
    char *why;
    size_t why_size;
};

static int wrong(const struct place *p, const char *expected, const char *found)
{
    (void)snprintf(p->why, p->why_size, "%s%s%u: expected %s, found \"%.60s\"",
                   p->file ? p->file : "rule ", p->file ? ":" : "", p->line, expected, found);
    return -EINVAL;
}

/* "on=20" into the rule. */
static int parse_number(const struct place *p, const char *word, struct mix_rule *r)
{
    const struct {
        const char *name;
        float *value;
        float high;
    } keys[] = {{"on", &r->on, 1e6f},     {"gap", &r->gap, 86400},  {"run", &r->run, 86400},
                {"peak", &r->peak, 1e6f}, {"level", &r->level, 10}, {"stretch", &r->stretch, 10}};
    const char *equals = strchr(word, '=');
    size_t length = (size_t)(equals - word);
    char *end;

    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
        if (strlen(keys[i].name) != length || strncmp(keys[i].name, word, length) != 0)
            continue;
        float v = strtof(equals + 1, &end);
        if (end == equals + 1 || *end || !(v >= 0 && v <= keys[i].high))
            return wrong(p, "a number, of watts, seconds or parts", word);
        *keys[i].value = v;
        return 0;
    }
    return wrong(p, "on, gap, run, peak, level or stretch", word);
}

static int parse_source(const struct place *p, const char *word, struct mix_rule *r)
{
    if (r->source_count == MIX_MAX_SOURCES || strlen(word) >= DATASET_LABEL_BYTES)
        return wrong(p, "up to eight classes of at most 31 bytes", word);
    (void)snprintf(r->sources[r->source_count++], DATASET_LABEL_BYTES, "%s", word);
    return 0;
}

/* "Fridge: Refrigerator Freezer on=20 gap=60": NAME and classes, NAME alone is its own class. */
static int parse_line(const struct place *p, char *line, struct mix_rules *rules)
{
    char *colon = strchr(line, ':'), *word, *rest = colon ? colon + 1 : line;
    struct mix_rule *r = &rules->rules[rules->count];
    int rc = 0;

    if (!colon || colon == line)
        return wrong(p, "NAME: CLASS ... on=W", line);
    *colon = '\0';
    line[strcspn(line, " \t")] = '\0';
    if (rules->count == MIX_MAX_RULES || strlen(line) >= sizeof(r->name) || strchr(line, '='))
        return wrong(p, "at most 32 names of at most 31 bytes", line);
    for (uint32_t i = 0; i < rules->count; i++)
        if (!strcmp(rules->rules[i].name, line))
            return wrong(p, "each name once", line);
    *r = (struct mix_rule){.on = 10.0f, .gap = 60.0f, .run = 8.0f};
    (void)snprintf(r->name, sizeof(r->name), "%s", line);
    while (!rc && (word = strsep(&rest, " \t\r")))
        if (*word)
            rc = strchr(word, '=') ? parse_number(p, word, r) : parse_source(p, word, r);
    if (!rc && !r->source_count)
        rc = wrong(p, "a class of the folder", line);
    rules->count += !rc;
    return rc;
}

static int parse(const char *file, const char *text, struct mix_rules *out, char *why,
                 size_t why_size)
{
    struct place p = {.file = file, .why = why, .why_size = why_size};
    char *copy = strdup(text), *rest = copy, *line;
    int rc = copy ? 0 : -ENOMEM;

    memset(out, 0, sizeof(*out));
    while (!rc && (line = strsep(&rest, "\n|"))) {
        p.line++;
        line[strcspn(line, "#;")] = '\0';
        line += strspn(line, " \t\r");
        if (*line)
            rc = parse_line(&p, line, out);
    }
    if (!rc && !out->count)
        rc = wrong(&p, "a rule", "nothing");
    free(copy);
    return rc;
}

int mix_rules_parse(const char *text, struct mix_rules *out, char *why, size_t why_size)
{
    return parse(NULL, text, out, why, why_size);
}

/* The record's form of the rules. */
static int print(const struct mix_rules *rules, char *text)
{
    size_t used = 0;

    for (uint32_t i = 0; i < rules->count; i++) {
        const struct mix_rule *r = &rules->rules[i];
        char line[512];
        int n = snprintf(line, sizeof(line), "%s%s:", i ? "|" : "", r->name);
        for (uint32_t k = 0; k < r->source_count; k++)
            n += snprintf(line + n, sizeof(line) - (size_t)n, " %s", r->sources[k]);
        n += snprintf(line + n, sizeof(line) - (size_t)n, " on=%g gap=%g run=%g peak=%g",
                      (double)r->on, (double)r->gap, (double)r->run, (double)r->peak);
        n += snprintf(line + n, sizeof(line) - (size_t)n, " level=%g stretch=%g", (double)r->level,
                      (double)r->stretch);
        if (used + (size_t)n >= DATASET_MIX_BYTES)
            return -EFBIG;
        memcpy(text + used, line, (size_t)n + 1);
        used += (size_t)n;
    }
    return 0;
}

int mix_rules_read(const char *path, char *text, char *why, size_t why_size)
{
    struct mix_rules *rules = malloc(sizeof(*rules));
    void *data = NULL;
    size_t size = 0;
    char *file = NULL;
    int rc = rules ? cli_read_file(path, MAX_FILE, &data, &size) : -ENOMEM;

    (void)snprintf(why, why_size, "%s: %s", path, strerror(-rc));
    if (!rc) {
        file = malloc(size + 1);
        rc = file ? 0 : -ENOMEM;
    }
    if (!rc) {
        memcpy(file, data, size);
        file[size] = '\0';
        rc = parse(path, file, rules, why, why_size);
    }
    if (!rc) {
        rc = print(rules, text);
        if (rc)
            (void)snprintf(why, why_size, "%s: more than a model's record holds (%u bytes)", path,
                           DATASET_MIX_BYTES);
    }
    free(data);
    free(file);
    free(rules);
    return rc;
}

/* --- runs --- */

uint32_t mix_rules_runs(const struct mix_rule *rule, const float *watts, uint32_t count,
                        uint32_t period_ms, uint8_t *on)
{
    const double cells = 1000.0 / period_ms; /* a second */
    const uint32_t gap = (uint32_t)(rule->gap * cells), run = (uint32_t)ceil(rule->run * cells);
    uint32_t runs = 0;

    memset(on, 0, count);
    for (uint32_t i = 0; i < count;) {
        if (watts[i] < rule->on) {
            i++;
            continue;
        }
        uint32_t last = i;
        float peak = watts[i];
        for (uint32_t k = i + 1; k < count && k - last <= gap + 1; k++)
            if (watts[k] >= rule->on) {
                last = k;
                peak = watts[k] > peak ? watts[k] : peak;
            }
        if (peak >= rule->peak && last - i + 1 >= run) {
            memset(on + i, 1, last - i + 1);
            runs++;
        }
        i = last + 1;
    }
    return runs;
}
