/* status.c - nilmctl status: what the running agent says, or what its store says when it is not
 * running. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/ctl/ask.h"
#include "agent/ctl/cli.h"
#include "agent/ctl/ctl.h"
#include "storage/outbox.h"

static const char *text_of(const cJSON *object, const char *key)
{
    cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsString(item) && *item->valuestring ? cli_plain(item->valuestring) : "-";
}

static double number_of(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static void print_meters(const cJSON *meters)
{
    char stamp[CLI_STAMP];
    const cJSON *m, *recording;
    if (cJSON_GetArraySize(meters) == 0)
        return;
    printf("\n%-20s %-7s %-10s %-20s %12s  %-19s %8s %6s\n", "METER", "TYPE", "STATE", "APPLIANCE",
           "READINGS", "LAST READING", "LEARNED", "ALERTS");
    cJSON_ArrayForEach(m, meters)
    {
        const int machine = cJSON_HasObjectItem(m, "machine"); /* says more than on and off */
        printf("%-20s %-7s %-10s %-20s %12.0f  %-19s %6.0f %% %6.0f\n", text_of(m, "name"),
               text_of(m, "type"), text_of(m, machine ? "machine" : "state"),
               text_of(m, "appliance"), number_of(m, "samples"),
               cli_stamp((int64_t)number_of(m, "last"), stamp), 100 * number_of(m, "learning"),
               number_of(m, "alerts"));
    }
    cJSON_ArrayForEach(m, meters)
    {
        recording = cJSON_GetObjectItemCaseSensitive(m, "recording");
        const int failing = strcmp(text_of(recording, "state"), "failing") == 0;
        if (failing || number_of(recording, "dropped") > 0)
            printf("recording of %s: %s, %.0f seconds were lost\n", text_of(m, "name"),
                   failing ? "CANNOT BE WRITTEN (the log says why)" : "goes on",
                   number_of(recording, "dropped"));
    }
}

/* What the payload of the status topic does not have: the link and the journal, for the operator at
 * the gateway. */
static void print_inside(const cJSON *s)
{
    const cJSON *link = cJSON_GetObjectItemCaseSensitive(s, "link");
    const cJSON *journal = cJSON_GetObjectItemCaseSensitive(s, "journal");
    if (cJSON_IsObject(link))
        printf("broker: %s%s: %s; %.0f sessions, %.0f sent, %.0f acknowledged\n",
               cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(link, "connected")) ? "connected to "
                                                                                 : "not connected",
               text_of(link, "broker"), text_of(link, "text"), number_of(link, "sessions"),
               number_of(link, "sent"), number_of(link, "acknowledged"));
    if (cJSON_IsObject(link) && strcmp(text_of(link, "refused"), "-") != 0)
        printf("broker: NEW CREDENTIALS OR SETTINGS ARE NOT ACCEPTED: %s\n",
               text_of(link, "refused"));
    if (!cJSON_IsObject(journal))
        return;
    printf("store: %.1f MB, %.1f MB written since the start\n",
           number_of(journal, "database_bytes") / 1048576,
           number_of(journal, "written_bytes") / 1048576);
    if (number_of(journal, "outcome_bytes") > 0)
        printf("flash: %.0f KB written for each outcome\n",
               number_of(journal, "outcome_bytes") / 1024);
    if (number_of(journal, "idle_day_bytes") > 0)
        printf("flash: %.2f MB written in an idle day\n",
               number_of(journal, "idle_day_bytes") / 1048576);
    if (number_of(journal, "waiting") > 0 || number_of(journal, "lost") > 0)
        printf("store: THE DISK REFUSES: %.0f outcomes wait in memory, %.0f were lost\n",
               number_of(journal, "waiting"), number_of(journal, "lost"));
}

static void print_model(const cJSON *model, const char *title, const char *without)
{
    if (cJSON_IsObject(model))
        printf("%s: %s version %.0f (%s)\n", title, text_of(model, "family"),
               number_of(model, "version"), text_of(model, "name"));
    else
        printf("%s: none, %s\n", title, without);
}

static void print_status(const cJSON *s)
{
    const cJSON *outbox = cJSON_GetObjectItemCaseSensitive(s, "outbox");
    printf("%s: nilmd %s is running, epoch %.0f\n", text_of(s, "device"), text_of(s, "agent"),
           number_of(s, "epoch"));
    print_model(cJSON_GetObjectItemCaseSensitive(s, "model"), "model",
                "every appliance is reported as unknown");
    if (cJSON_HasObjectItem(s, "mains_model"))
        print_model(cJSON_GetObjectItemCaseSensitive(s, "mains_model"), "model of the mains",
                    "nothing of a sum is recognised");
    print_inside(s);
    printf("outbox: %.0f waiting (%.0f bytes), next number %.0f, %.0f dropped, %.0f parked\n",
           number_of(outbox, "rows"), number_of(outbox, "bytes"), number_of(outbox, "next_seq"),
           number_of(outbox, "dropped"), number_of(outbox, "parked"));
    print_meters(cJSON_GetObjectItemCaseSensitive(s, "meters"));
}

/* The agent is not running: what it left behind. */
static int stopped(const struct config *c, const char *why, int json)
{
    struct store *store = NULL;
    struct outbox_stats stats;
    char error[CLI_WHY] = "", path[CLI_PATH], stamp[CLI_STAMP];
    cli_path(c, CLI_DATABASE, path);
    int rc = store_open_readonly(path, &store, error, sizeof error);
    if (rc == 0 && (rc = outbox_statistics(store, &stats)) != 0)
        snprintf(error, sizeof error, "%s: %s", path, store_error(store));
    if (json) {
        cJSON *o = cJSON_CreateObject(), *box = NULL;
        cJSON_AddStringToObject(o, "device", c->device);
        cJSON_AddStringToObject(o, "state", "not_running");
        cJSON_AddStringToObject(o, "reason", why);
        if (rc == 0 && (box = cJSON_AddObjectToObject(o, "outbox"))) {
            cJSON_AddNumberToObject(box, "rows", (double)stats.rows);
            cJSON_AddNumberToObject(box, "bytes", (double)stats.bytes);
            cJSON_AddNumberToObject(box, "next_seq", (double)stats.next_seq);
            cJSON_AddNumberToObject(box, "dropped", (double)stats.dropped);
            cJSON_AddNumberToObject(box, "parked", (double)stats.parked);
        } else if (rc != 0) {
            cJSON_AddStringToObject(o, "store_error", error);
        }
        cli_print_json(o);
    } else {
        printf("%s: nilmd is not running (%s)\n", c->device, why);
        if (rc == -ENOENT)
            printf("store: none yet, nilmd makes it when it starts\n");
        else if (rc != 0)
            printf("store: %s\n", error);
        else
            printf("store: %llu items wait for the broker, the oldest since %s; next number %llu, "
                   "%llu dropped\n",
                   (unsigned long long)stats.rows, cli_stamp(stats.oldest_ms, stamp),
                   (unsigned long long)stats.next_seq, (unsigned long long)stats.dropped);
    }
    store_close(store);
    return CLI_RETRY;
}

int ctl_status(int argc, char **argv)
{
    const char *path = CLI_CONFIG;
    int json = 0;
    const struct cli_option options[] = {
        {"config", CLI_TEXT, &path, "FILE", "configuration of the agent (" CLI_CONFIG ")", 0, 0},
        {"json", CLI_FLAG, &json, NULL, "one JSON object on standard output", 0, 0},
        {0}};
    const struct cli_command command = {"status", "", 0,
                                        "Says what the agent of this gateway is doing. When it is "
                                        "not running (exit code 3), says what\n"
                                        "its store holds.",
                                        options};
    int code = cli_parse(&command, argc, argv, NULL);
    struct config *c = NULL;
    cJSON *status = NULL;
    char socket[CLI_PATH], why[CLI_WHY] = "";
    if (code != CLI_GO || (code = cli_config(command.name, path, &c)) != CLI_DONE)
        return code;
    cli_path(c, CLI_SOCKET, socket);
    int rc = ask_agent(socket, "status", &status, why, sizeof why);
    if (rc == -ENOENT || rc == -ECONNREFUSED) {
        code = stopped(c, why, json);
    } else if (rc != 0) {
        code = cli_fail(rc == -ETIMEDOUT ? CLI_TIMEOUT : CLI_FAILED, command.name, "%s", why);
    } else if (json) {
        code = cli_print_json(status);
        status = NULL;
    } else {
        print_status(status);
    }
    cJSON_Delete(status);
    config_free(c);
    return code;
}
