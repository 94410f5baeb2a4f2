/* topic.c - MQTT topic names: building and taking apart. */
#include "transport/topic.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define BASE_LEVELS 3

static const struct {
    enum topic_kind kind;
    const char *word;
    int metered;
} kinds[] = {{TOPIC_EVENT, "event", 1}, {TOPIC_ALERT, "alert", 1},   {TOPIC_SUMMARY, "summary", 1},
             {TOPIC_GAP, "gap", 0},     {TOPIC_REPORT, "report", 0}, {TOPIC_STATUS, "status", 0},
             {TOPIC_MODEL, "model", 0}, {TOPIC_PUSH, "push", 0},     {TOPIC_COMMAND, "command", 0},
             {TOPIC_REPLY, "reply", 0}};
#define KIND_COUNT (sizeof kinds / sizeof kinds[0])

/* A level of count bytes, not necessarily NUL-terminated. */
static int level_ok(const char *s, size_t count)
{
    if (count == 0 || count >= TOPIC_NAME_BYTES || s[0] == '.' || s[0] == '-')
        return 0;
    for (size_t i = 0; i < count; i++) {
        char c = s[i];
        int letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!letter && c != '.' && c != '_' && c != '-')
            return 0;
    }
    return 1;
}

int topic_check_name(const char *name)
{
    if (!name || !level_ok(name, strnlen(name, TOPIC_NAME_BYTES)) || strcmp(name, "group") == 0)
        return -EINVAL;
    return 0;
}

int topic_check_base(const char *base)
{
    if (!base)
        return -EINVAL;
    for (int levels = 1; levels <= BASE_LEVELS; levels++) {
        size_t n = strcspn(base, "/");
        if (!level_ok(base, n))
            return -EINVAL;
        if (base[n] == '\0')
            return 0;
        base += n + 1;
    }
    return -EINVAL;
}

int topic_build(char *out, size_t size, const char *base, enum topic_kind kind, const char *name,
                const char *meter)
{
    int n = -1;
    if (!out || size == 0 || topic_check_base(base) != 0 || topic_check_name(name) != 0)
        return -EINVAL;
    if (kind == TOPIC_GROUP_PUSH)
        n = snprintf(out, size, "%s/group/%s/push", base, name);
    for (size_t i = 0; i < KIND_COUNT && n < 0; i++) {
        if (kinds[i].kind != kind)
            continue;
        if (!kinds[i].metered)
            n = snprintf(out, size, "%s/%s/%s", base, name, kinds[i].word);
        else if (topic_check_name(meter) == 0)
            n = snprintf(out, size, "%s/%s/%s/%s", base, name, kinds[i].word, meter);
        else
            return -EINVAL;
    }
    if (n < 0)
        return -EINVAL;
    return (size_t)n < size ? 0 : -ENOSPC;
}

/* Copies the level at *at and moves past it and its slash; 0 when it is not a good one. */
static int take_level(const char **at, char level[TOPIC_NAME_BYTES])
{
    size_t n = strcspn(*at, "/");
    if (!level_ok(*at, n))
        return 0;
    memcpy(level, *at, n);
    level[n] = '\0';
    *at += n;
    if (**at != '/')
        return 1;
    ++*at;
    return **at != '\0'; /* no empty last level */
}

int topic_parse(const char *topic, const char *base, struct topic_parts *out)
{
    char word[TOPIC_NAME_BYTES];
    memset(out, 0, sizeof *out);
    if (!topic || topic_check_base(base) != 0)
        return -EBADMSG;
    size_t n = strlen(base);
    if (strncmp(topic, base, n) != 0 || topic[n] != '/')
        return -EBADMSG;
    const char *at = topic + n + 1;
    if (!take_level(&at, out->name))
        return -EBADMSG;
    if (strcmp(out->name, "group") == 0) {
        if (!take_level(&at, out->name) || strcmp(at, "push") != 0 || topic_check_name(out->name))
            return -EBADMSG;
        out->kind = TOPIC_GROUP_PUSH;
        return 0;
    }
    if (!take_level(&at, word))
        return -EBADMSG;
    for (size_t i = 0; i < KIND_COUNT; i++) {
        if (strcmp(word, kinds[i].word) != 0)
            continue;
        if (kinds[i].metered && (!take_level(&at, out->meter) || topic_check_name(out->meter)))
            return -EBADMSG;
        if (*at != '\0' || at[-1] == '/')
            return -EBADMSG;
        out->kind = kinds[i].kind;
        return 0;
    }
    return -EBADMSG;
}
