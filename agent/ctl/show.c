/* show.c - lines of watch (show.h). */
#include "agent/ctl/show.h"

#include <stdio.h>
#include <string.h>

#include "agent/ctl/cli.h"

#define RED "\033[31m"
#define GREEN "\033[32m"
#define YELLOW "\033[33m"
#define BLUE "\033[34m"
#define DIM "\033[2m"

static const char *text_of(const cJSON *o, const char *key)
{
    cJSON *item = cJSON_GetObjectItemCaseSensitive(o, key);
    return cJSON_IsString(item) ? cli_plain(item->valuestring) : "";
}

static double number_of(const cJSON *o, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, key);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

/* Time of a payload; numbers beyond any calendar count as none. */
static const char *stamp_of(const cJSON *o, const char *key, char text[CLI_STAMP])
{
    double ms = number_of(o, key);
    return cli_stamp(ms > 0 && ms < 4e15 ? (int64_t)ms : 0, text);
}

static void line_start(const struct show *s, const char *colour, const cJSON *o,
                       const struct topic_parts *topic)
{
    char stamp[CLI_STAMP];
    printf("%s%-19s  %-12s ", s->colour ? colour : "", stamp_of(o, "time", stamp), topic->name);
}

static void line_end(const struct show *s, const cJSON *o)
{
    printf("%s%s%s\n",
           cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, "replay")) ? "  (replay)" : "",
           s->duplicate ? "  (duplicate)" : "", s->colour ? "\033[0m" : "");
}

static void show_state(const struct show *s, const struct topic_parts *topic, const cJSON *o)
{
    char duration[CLI_STAMP];
    line_start(s, YELLOW, o, topic);
    printf("%-16s %-20s %-5s %8.1f W", topic->meter, text_of(o, "state"), "is",
           number_of(o, "power"));
    printf(" after %s of %s", cli_duration(number_of(o, "duration"), duration), text_of(o, "from"));
    line_end(s, o);
}

static void show_event(const struct show *s, const struct topic_parts *topic, const cJSON *o)
{
    const char *type = text_of(o, "type");
    char duration[CLI_STAMP];
    if (strcmp(type, "state") == 0) {
        show_state(s, topic, o);
        return;
    }
    int off = strcmp(type, "off") == 0, on = strcmp(type, "on") == 0;
    line_start(s, on ? GREEN : off ? BLUE : DIM, o, topic);
    printf("%-16s %-20s %-5s %8.1f W", topic->meter, text_of(o, "appliance"),
           on    ? "ON"
           : off ? "OFF"
                 : "is",
           number_of(o, "power"));
    if (off)
        printf(" %9.1f Wh %9s", number_of(o, "energy"),
               cli_duration(number_of(o, "duration"), duration));
    else
        printf(" %12s %9s", "", "");
    printf(" %5.0f %%", 100 * number_of(o, "confidence"));
    line_end(s, o);
}

static void show_alert(const struct show *s, const struct topic_parts *topic, const cJSON *o)
{
    const char *severity = text_of(o, "severity"), *appliance = text_of(o, "appliance");
    int cleared = strcmp(text_of(o, "state"), "cleared") == 0;
    line_start(s, cleared ? GREEN : strcmp(severity, "info") == 0 ? YELLOW : RED, o, topic);
    printf("%-16s %-20s ALERT %s %s (%s): expected %s, seen %s", topic->meter,
           *appliance ? appliance : "-", text_of(o, "alert"), text_of(o, "state"), severity,
           text_of(o, "expected"), text_of(o, "seen"));
    line_end(s, o);
}

static void show_summary(const struct show *s, const struct topic_parts *topic, const cJSON *o)
{
    const double share = 100 * number_of(o, "unknown_share");
    char stamp[CLI_STAMP];
    printf("%s%-19s  %-12s ", s->colour ? BLUE : "", stamp_of(o, "to", stamp), topic->name);
    printf("%-16s DAY %s: %.2f kWh, base %.2f, unknown %.0f %%, %d appliances", topic->meter,
           text_of(o, "day"), number_of(o, "energy") / 1000, number_of(o, "base_energy") / 1000,
           share, cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(o, "appliances")));
    line_end(s, o);
}

static void show_other(const struct show *s, const struct topic_parts *topic, const cJSON *o)
{
    const char *reason = text_of(o, "reason");
    line_start(s, YELLOW, o, topic);
    if (topic->kind == TOPIC_GAP)
        printf("LOST  %.0f items, numbers %.0f to %.0f: the outbox was full (%s)",
               number_of(o, "count"), number_of(o, "from_seq"), number_of(o, "to_seq"), reason);
    else if (topic->kind == TOPIC_REPORT)
        printf("REPORT %s %s: version %.0f, before %.0f%s%s", text_of(o, "report"),
               text_of(o, "state"), number_of(o, "version"), number_of(o, "from_version"),
               *reason ? ": " : "", reason);
    else
        printf("%s %s", topic->kind == TOPIC_STATUS ? "STATUS" : "MODEL", text_of(o, "state"));
    line_end(s, o);
}

void show_heading(const struct show *s)
{
    printf("%s%-19s  %-12s %-16s %-20s %-5s %10s %12s %9s %7s%s\n", s->colour ? DIM : "", "TIME",
           "DEVICE", "METER", "APPLIANCE", "", "POWER", "ENERGY", "DURATION", "SURE",
           s->colour ? "\033[0m" : "");
}

void show_item(const struct show *s, const struct topic_parts *topic, const cJSON *payload)
{
    if (topic->kind == TOPIC_EVENT)
        show_event(s, topic, payload);
    else if (topic->kind == TOPIC_ALERT)
        show_alert(s, topic, payload);
    else if (topic->kind == TOPIC_SUMMARY)
        show_summary(s, topic, payload);
    else
        show_other(s, topic, payload);
}
