/* models.c - nilmctl models: the models on this gateway, which ones run, and whether each verifies;
 * nilmctl rollback. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/ctl/ask.h"
#include "agent/ctl/cli.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/verify.h"
#include "agent/updater.h"
#include "storage/slots.h"

/* Of a kind of meters; a model that cannot be read has no family of its own. */
struct kind {
    const char *name, *family, *slots, *file;
};

static void show_model(const struct kind *k, cJSON *list, const char *place, const char *role,
                       struct verify_report *r)
{
    if (!list) {
        printf("%-8s %-8s %-9s ", k->name, place, role);
        if (r->version > 0)
            printf("%s version %u%s%s, %u classes, %llu bytes: ", cli_plain(r->family), r->version,
                   *r->name ? " " : "", cli_plain(r->name), r->classes,
                   (unsigned long long)r->bytes);
        if (r->ok)
            printf("good (%s%u golden vectors reproduced)\n", r->is_signed ? "signed, " : "",
                   r->golden);
        else
            printf("NOT usable: %s\n", cli_plain(r->why));
        return;
    }
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "kind", k->name);
    cJSON_AddStringToObject(o, "place", place);
    cJSON_AddStringToObject(o, "role", role);
    cJSON_AddBoolToObject(o, "ok", r->ok);
    cJSON_AddStringToObject(o, "reason", r->ok ? "" : r->why);
    cJSON_AddStringToObject(o, "family", *r->family ? r->family : k->family);
    cJSON_AddNumberToObject(o, "version", r->version);
    cJSON_AddStringToObject(o, "name", r->name);
    cJSON_AddNumberToObject(o, "bytes", (double)r->bytes);
    cJSON_AddStringToObject(o, "sha256", r->sha256);
    cJSON_AddBoolToObject(o, "signed", r->is_signed);
    cJSON_AddStringToObject(o, "key_id", r->key_id);
    cJSON_AddItemToArray(list, o);
}

/* The slots. Returns 1 when one is active and good, 0 when none is active, -1 when the active one
 * does not verify. */
static int show_slots(const struct config *c, const struct kind *k, cJSON *list)
{
    struct slots *slots = NULL;
    struct slots_info info;
    struct verify_report report;
    char dir[CLI_PATH], path[CLI_PATH + 16], why[CLI_WHY] = "";
    int result = 0;
    cli_path(c, k->slots, dir);
    int rc = slots_open_readonly(dir, &slots, why, sizeof why);
    if (rc == -ENOENT) /* no model was ever pushed */
        return 0;
    if (rc == 0 && (rc = slots_get(slots, &info)) != 0)
        snprintf(why, sizeof why, "%s: %s", dir, strerror(-rc));
    slots_close(slots);
    if (rc != 0) {
        cli_fail(CLI_FAILED, "models", "%s", why);
        return -1;
    }
    for (char slot = 'a'; slot <= 'b'; slot++) {
        const char place[] = {'s', 'l', 'o', 't', ' ', slot, '\0'};
        const char *role = slot == info.active     ? "active"
                           : slot == info.previous ? "previous"
                                                   : "unused";
        snprintf(path, sizeof path, "%s/%c.bundle", dir, slot);
        if (slot != info.active && slot != info.previous && access(path, F_OK) != 0)
            continue;
        verify_file(path, c->model_keys, &report);
        show_model(k, list, place, role, &report);
        if (slot == info.active)
            result = report.ok ? 1 : -1;
    }
    return result;
}

/* One kind; key: of the member that says which is active. CLI_DONE, or CLI_FAILED when that does
 * not verify. */
static int show_kind(const struct config *c, const struct kind *k, const char *key, cJSON *out,
                     cJSON *list)
{
    struct verify_report report;
    const int active = show_slots(c, k, list);
    int good = active > 0;
    if (*k->file) {
        verify_file(k->file, c->model_keys, &report);
        show_model(k, list, "file", active > 0 ? "fallback" : "active", &report);
        good = good || report.ok;
    }
    if (!out && active == 0 && !*k->file)
        printf("%-8s There is no model: %s.\n", k->name,
               strcmp(k->name, "mains") == 0 ? "nothing of a sum is recognised"
                                             : "every appliance is reported as unknown");
    if (out)
        cJSON_AddStringToObject(out, key, active > 0 ? "slot" : good ? "file" : "none");
    return active >= 0 && (good || !*k->file) ? CLI_DONE : CLI_FAILED;
}

/* Of the kinds that there are meters of. */
static int show(const struct config *c, int json)
{
    const struct kind kinds[] = {{"circuit", UPDATER_FAMILY, CLI_SLOTS, c->model_file},
                                 {"mains", UPDATER_MAINS_FAMILY, CLI_MAINS_SLOTS, c->mains_file}};
    cJSON *out = json ? cJSON_CreateObject() : NULL;
    cJSON *list = json ? cJSON_AddArrayToObject(out, "models") : NULL;
    int used[2] = {0}, code = CLI_DONE;
    if (json && !list) {
        cJSON_Delete(out);
        return cli_fail(CLI_RETRY, "models", "out of memory");
    }
    for (size_t i = 0; i < c->meter_count; i++)
        used[c->meters[i].meter.mains] = 1;
    for (size_t i = 0; i < 2; i++) {
        const char *key = i > 0 && used[0] ? "mains_active" : "active";
        const int rc = used[i] ? show_kind(c, &kinds[i], key, out, list) : CLI_DONE;
        code = code == CLI_DONE ? rc : code;
    }
    if (json)
        cli_print_json(out);
    return code;
}

int ctl_models(int argc, char **argv)
{
    const char *path = CLI_CONFIG;
    int json = 0;
    const struct cli_option options[] = {
        {"config", CLI_TEXT, &path, "FILE", "configuration of the agent (" CLI_CONFIG ")", 0, 0},
        {"json", CLI_FLAG, &json, NULL, "one JSON object on standard output", 0, 0},
        {0}};
    const struct cli_command command = {
        "models", "", 0,
        "Lists the models on this gateway and takes each through the checks that the agent makes:\n"
        "structure, hash, signature, golden vectors. Exit code 2 when the active one fails.",
        options};
    struct config *c = NULL;
    int code = cli_parse(&command, argc, argv, NULL);
    if (code != CLI_GO)
        return code;
    if ((code = cli_config(command.name, path, &c)) == CLI_DONE)
        code = show(c, json);
    config_free(c);
    return code;
}

int ctl_rollback(int argc, char **argv)
{
    const char *path = CLI_CONFIG, *family = NULL;
    int json = 0;
    const struct cli_option options[] = {
        {"config", CLI_TEXT, &path, "FILE", "configuration of the agent (" CLI_CONFIG ")", 0, 0},
        {"family", CLI_TEXT, &family, "NAME",
         "identify, mains: whose model (that of circuit meters, where there are some)", 0, 0},
        {"json", CLI_FLAG, &json, NULL, "one JSON object on standard output", 0, 0},
        {0}};
    const struct cli_command command = {
        "rollback", "", 0,
        "Returns to the model that ran before the last one that was pushed. The agent must run.",
        options};
    struct config *c = NULL;
    cJSON *result = NULL, *members = NULL;
    char socket[CLI_PATH], why[CLI_WHY] = "";
    int code = cli_parse(&command, argc, argv, NULL);
    if (code != CLI_GO)
        return code;
    if ((code = cli_config(command.name, path, &c)) != CLI_DONE)
        return code;
    cli_path(c, CLI_SOCKET, socket);
    members = cJSON_CreateObject();
    if (family)
        cJSON_AddStringToObject(members, "family", family);
    const int rc = ask_agent_with(socket, "rollback", members, &result, why, sizeof why);
    if (rc < 0) {
        const int later = rc == -ENOENT || rc == -ECONNREFUSED || rc == -ENOMEM;
        code = cli_fail(rc == -ETIMEDOUT ? CLI_TIMEOUT
                        : later          ? CLI_RETRY
                                         : CLI_FAILED,
                        command.name, "%s", why);
    } else if (json) {
        code = cli_print_json(result);
        result = NULL;
    } else {
        const cJSON *version = cJSON_GetObjectItemCaseSensitive(result, "version");
        cJSON *name = cJSON_GetObjectItemCaseSensitive(result, "family");
        printf("%s version %.0f runs\n", cJSON_IsString(name) ? cli_plain(name->valuestring) : "",
               cJSON_IsNumber(version) ? version->valuedouble : 0);
    }
    cJSON_Delete(result);
    cJSON_Delete(members);
    config_free(c);
    return code;
}
