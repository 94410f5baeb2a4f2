/* models.c - nilmctl models: the models on this gateway, which one runs, and whether each verifies.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/ctl/cli.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/verify.h"
#include "storage/slots.h"

static void show_model(cJSON *list, const char *place, const char *role, struct verify_report *r)
{
    if (!list) {
        printf("%-8s %-9s ", place, role);
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
    cJSON_AddStringToObject(o, "place", place);
    cJSON_AddStringToObject(o, "role", role);
    cJSON_AddBoolToObject(o, "ok", r->ok);
    cJSON_AddStringToObject(o, "reason", r->ok ? "" : r->why);
    cJSON_AddStringToObject(o, "family", r->family);
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
static int show_slots(const struct config *c, cJSON *list)
{
    struct slots *slots = NULL;
    struct slots_info info;
    struct verify_report report;
    char dir[CLI_PATH], path[CLI_PATH + 16], why[CLI_WHY] = "";
    int result = 0;
    cli_path(c, CLI_SLOTS, dir);
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
        show_model(list, place, role, &report);
        if (slot == info.active)
            result = report.ok ? 1 : -1;
    }
    return result;
}

static int show(const struct config *c, int json)
{
    struct verify_report report;
    cJSON *out = json ? cJSON_CreateObject() : NULL;
    cJSON *list = json ? cJSON_AddArrayToObject(out, "models") : NULL;
    if (json && !list) {
        cJSON_Delete(out);
        return cli_fail(CLI_RETRY, "models", "out of memory");
    }
    int active = show_slots(c, list), good = active > 0;
    if (*c->model_file) {
        verify_file(c->model_file, c->model_keys, &report);
        show_model(list, "file", active > 0 ? "fallback" : "active", &report);
        good = good || report.ok;
    }
    if (!json && active == 0 && !*c->model_file)
        printf("There is no model: every appliance is reported as unknown.\n");
    if (json) {
        cJSON_AddStringToObject(out, "active", active > 0 ? "slot" : good ? "file" : "none");
        cli_print_json(out);
    }
    return active >= 0 && (good || !*c->model_file) ? CLI_DONE : CLI_FAILED;
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
