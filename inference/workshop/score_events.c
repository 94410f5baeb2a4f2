/* score_events.c - the files of score.h: what was recognised, as several programs print it. */
#include "inference/workshop/score.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/cli.h"

enum { FILE_LIMIT = 1 << 30, SLOTS_START = 1024 };

/* A run is known by its meter and number. */
struct key {
    char meter[TRUTH_NAME_BYTES];
    double run;
    size_t event; /* index */
};

struct reader {
    struct score_events *out;
    const char *path, *meter;
    struct key *keys; /* [slots], open addressing; meter "": free */
    size_t slots, used;
    uint64_t line;
};

void score_events_free(struct score_events *e)
{
    free(e->names);
    free(e->events);
    memset(e, 0, sizeof *e);
}

int score_events_name(struct score_events *e, const char *name, uint32_t *index)
{
    if (e->names == NULL)
        e->names = calloc(SCORE_NAMES_MAX, sizeof *e->names);
    if (e->names == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < e->name_count; i++) {
        if (strcmp(e->names[i], name) == 0) {
            *index = (uint32_t)i;
            return 0;
        }
    }
    if (name[0] == '\0' || strlen(name) >= TRUTH_NAME_BYTES || e->name_count == SCORE_NAMES_MAX)
        return -EINVAL;
    strcpy(e->names[e->name_count], name);
    *index = (uint32_t)e->name_count++;
    return 0;
}

int score_events_add(struct score_events *e, const struct score_event *event)
{
    if (e->count == e->room) {
        size_t room = e->room ? 2 * e->room : 256;
        struct score_event *larger =
            room > SCORE_EVENTS_MAX ? NULL : realloc(e->events, room * sizeof *larger);
        if (larger == NULL)
            return -ENOMEM;
        e->events = larger;
        e->room = room;
    }
    e->events[e->count++] = *event;
    return 0;
}

/* --- runs by meter and number --- */

static size_t slot_of(const struct reader *r, const char *meter, double run)
{
    uint64_t hash = 1469598103934665603u; /* FNV-1a */
    unsigned char bytes[sizeof run];
    memcpy(bytes, &run, sizeof run);
    for (const char *p = meter; *p; p++)
        hash = (hash ^ (unsigned char)*p) * 1099511628211u;
    for (size_t i = 0; i < sizeof bytes; i++)
        hash = (hash ^ bytes[i]) * 1099511628211u;
    size_t slot = (size_t)(hash & (r->slots - 1));
    while (r->keys[slot].meter[0] &&
           !(r->keys[slot].run == run && strcmp(r->keys[slot].meter, meter) == 0))
        slot = (slot + 1) & (r->slots - 1);
    return slot;
}

static int widen(struct reader *r)
{
    struct reader larger = *r;
    larger.slots = r->slots ? 2 * r->slots : SLOTS_START;
    larger.keys = calloc(larger.slots, sizeof *larger.keys);
    if (larger.keys == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < r->slots; i++) {
        if (r->keys[i].meter[0])
            larger.keys[slot_of(&larger, r->keys[i].meter, r->keys[i].run)] = r->keys[i];
    }
    free(r->keys);
    *r = larger;
    return 0;
}

/* --- one event --- */

static double number_of(const cJSON *o, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, name);
    return cJSON_IsNumber(item) && fabs(item->valuedouble) < 9e15 ? item->valuedouble : NAN;
}

static int64_t time_of(const cJSON *o, const char *name)
{
    double value = number_of(o, name);
    return value > 0 ? (int64_t)value : 0;
}

static const char *text_of(const cJSON *o, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, name);
    return cJSON_IsString(item) && strlen(item->valuestring) < TRUTH_NAME_BYTES ? item->valuestring
                                                                                : "";
}

/* The run without a number that an off event ends: the newest open one of its name. */
static size_t find_open(const struct score_events *e, uint32_t name)
{
    for (size_t i = e->count; i-- > 0;) {
        if (e->events[i].name == name && e->events[i].end_ms == 0)
            return i;
    }
    return e->count;
}

/* Where the event's run is; a new one is begun when it was not told of. */
static int find_run(struct reader *r, const cJSON *o, uint32_t name, int ends, size_t *index)
{
    struct score_events *e = r->out;
    const struct score_event fresh = {.name = name, .energy_wh = NAN};
    double run = number_of(o, "run");
    const char *meter = text_of(o, "meter");
    if (isnan(run)) {
        *index = ends ? find_open(e, name) : e->count;
    } else {
        if (2 * (r->used + 1) > r->slots && widen(r) < 0)
            return -ENOMEM;
        size_t slot = slot_of(r, meter[0] ? meter : "-", run);
        if (r->keys[slot].meter[0] == '\0') {
            r->keys[slot] = (struct key){.run = run, .event = e->count};
            snprintf(r->keys[slot].meter, TRUTH_NAME_BYTES, "%s", meter[0] ? meter : "-");
            r->used++;
        }
        *index = r->keys[slot].event;
    }
    return *index == e->count ? score_events_add(e, &fresh) : 0;
}

/* A row of `nilmctl events`, which is a whole run, or a message of one. 0, -ENOMEM, -EINVAL. */
static int take_event(struct reader *r, const cJSON *o, const char *type)
{
    const int whole = type == NULL, on = !whole && strcmp(type, "on") == 0;
    const int off = !whole && strcmp(type, "off") == 0;
    int64_t time = time_of(o, "time"), start = time_of(o, on ? "time" : "start");
    uint32_t name;
    size_t index = 0;
    int rc = score_events_name(r->out, text_of(o, "appliance"), &name);
    if (rc == 0)
        rc = find_run(r, o, name, off, &index);
    if (rc < 0)
        return rc;
    struct score_event *event = &r->out->events[index];
    if (event->name != name || event->named_ms == 0)
        event->named_ms = time;
    event->name = name;
    if (event->start_ms == 0)
        event->start_ms = start;
    if (whole || off) {
        event->end_ms = time_of(o, "end");
        if (event->end_ms == 0 && off)
            event->end_ms = time;
        event->energy_wh = number_of(o, "energy");
    }
    return event->start_ms > 0 ? 0 : -EINVAL;
}

static int is_event(const char *type)
{
    return strcmp(type, "on") == 0 || strcmp(type, "off") == 0 || strcmp(type, "identified") == 0;
}

/* One JSON value of the file. */
static int take_value(struct reader *r, const cJSON *o)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(o, "events");
    const cJSON *payload = cJSON_GetObjectItemCaseSensitive(o, "payload"), *item;
    int rc = 0;
    if (cJSON_IsObject(payload))
        return take_value(r, payload);
    if (cJSON_IsArray(list)) {
        cJSON_ArrayForEach(item, list)
        {
            int other = r->meter && strcmp(text_of(item, "meter"), r->meter) != 0;
            r->out->ignored += (uint64_t)other;
            if (rc == 0 && !other)
                rc = take_event(r, item, NULL);
        }
        return rc;
    }
    const char *type = text_of(o, "type");
    if (!is_event(type) || (r->meter && strcmp(text_of(o, "meter"), r->meter) != 0)) {
        r->out->ignored++;
        return 0;
    }
    return take_event(r, o, type);
}

static int fail_line(const struct reader *r, int rc, char *why, size_t why_size)
{
    snprintf(why, why_size, "%s:%llu: %s", r->path, (unsigned long long)r->line,
             rc == -ENOMEM ? "out of memory"
                           : "expected a JSON object; an event has an appliance and a time");
    return rc == -ENOMEM ? rc : -EBADMSG;
}

static int read_json(struct reader *r, const char *text, const char *end, char *why,
                     size_t why_size)
{
    int rc = 0;
    while (rc == 0 && text < end) {
        const char *line_end, *stop = memchr(text, '\n', (size_t)(end - text));
        r->line++;
        if (text + strspn(text, " \t\r") == (stop ? stop : end)) {
            text = stop ? stop + 1 : end;
            continue;
        }
        /* A value may go over several lines. */
        cJSON *o = cJSON_ParseWithLengthOpts(text, (size_t)(end - text), &line_end, 0);
        rc = cJSON_IsObject(o) ? take_value(r, o) : -EBADMSG;
        cJSON_Delete(o);
        if (rc < 0)
            return fail_line(r, rc, why, why_size);
        for (; text < line_end; text++)
            r->line += *text == '\n';
        text += strspn(text, " \t\r");
        text += *text == '\n';
    }
    return rc;
}

/* --- CSV --- */

static int visit_row(void *context, const struct truth_row *row, char *why, size_t why_size)
{
    struct score_events *e = context;
    struct score_event event = {
        .start_ms = row->start_ms, .end_ms = row->end_ms, .energy_wh = row->energy_wh};
    if (row->name[0] == '_')
        return 0;
    int rc = score_events_name(e, row->name, &event.name);
    if (rc == 0)
        rc = score_events_add(e, &event);
    if (rc < 0)
        snprintf(why, why_size, "%s:%llu: at most %u different names", row->path,
                 (unsigned long long)row->line, SCORE_NAMES_MAX);
    return rc;
}

int score_events_read(const char *path, const char *meter, struct score_events *out, char *why,
                      size_t why_size)
{
    struct reader r = {.out = out, .path = path, .meter = meter};
    void *data = NULL;
    size_t size = 0;
    memset(out, 0, sizeof *out);
    int rc = cli_read_file(path, FILE_LIMIT, &data, &size);
    if (rc < 0) {
        snprintf(why, why_size, "%s: %s", path, strerror(-rc));
        return rc;
    }
    char *text = realloc(data, size + 1);
    if (text == NULL) {
        free(data);
        snprintf(why, why_size, "%s: out of memory", path);
        return -ENOMEM;
    }
    text[size] = '\0';
    size_t blank = strspn(text, " \t\r\n");
    if (blank == size)
        rc = 0; /* nothing was recognised */
    else if (text[blank] == '{')
        rc = read_json(&r, text, text + size, why, why_size);
    else
        rc = truth_read_rows(path, visit_row, out, why, why_size);
    free(r.keys);
    free(text);
    return rc;
}
