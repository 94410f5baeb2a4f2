/* places.c - nilmctl places, unknown and label: loads that this gateway has learned, and their
 * names. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/ctl/cli.h"
#include "agent/ctl/ctl.h"
#include "agent/json.h"
#include "agent/label.h"
#include "agent/place_store.h"
#include "storage/places.h"

enum { METERS = 64 };

struct meters {
    char names[METERS][PLACES_NAME_BYTES];
    int count;
};

static int collect(void *context, const char *meter)
{
    struct meters *m = context;
    if (m->count < METERS)
        snprintf(m->names[m->count++], PLACES_NAME_BYTES, "%s", meter);
    return 0;
}

static int add_json(cJSON *list, const char *meter, const struct place_load *l)
{
    char label[PLACE_NAME_BYTES];
    struct place_typical t;
    cJSON *o = cJSON_CreateObject();
    place_label(l, label);
    place_typical(l, &t);
    int rc = json_text(o, "meter", meter);
    rc |= json_text(o, "load", label);
    rc |= json_integer(o, "number", l->number);
    rc |= o && cJSON_AddBoolToObject(o, "named", l->name[0] != '\0') ? 0 : -ENOMEM;
    rc |= json_integer(o, "runs", l->runs);
    rc |= json_number(o, "power", t.power_w, 10);
    rc |= json_number(o, "duration", t.duration_s, 1);
    rc |= json_number(o, "energy", t.energy_wh, 1000);
    rc |= json_integer(o, "from_hour", t.from_hour);
    rc |= json_integer(o, "to_hour", t.to_hour);
    rc |= json_integer(o, "first", l->first_ms);
    rc |= json_integer(o, "last", l->last_ms);
    if (rc < 0 || !cJSON_AddItemToArray(list, o)) {
        cJSON_Delete(o);
        return -ENOMEM;
    }
    return 0;
}

static void print_load(char *meter, const struct place_load *l, int first)
{
    char label[PLACE_NAME_BYTES], duration[CLI_STAMP], last[CLI_STAMP];
    struct place_typical t;
    place_label(l, label);
    place_typical(l, &t);
    if (first)
        printf("%-20s %-20s %6s %9s %10s %9s %8s  %s\n", "METER", "LOAD", "RUNS", "POWER W",
               "DURATION", "WH", "HOURS", "LAST");
    printf("%-20s %-20s %6u %9.0f %10s %9.1f %02d to %02d  %s\n", cli_plain(meter),
           cli_plain(label), l->runs, t.power_w, cli_duration(t.duration_s, duration), t.energy_wh,
           t.from_hour, t.to_hour, cli_stamp(l->last_ms, last));
}

/* json NULL: a table. Returns the number of loads, or -errno. */
static int list_loads(struct store *s, const char *only, int unnamed, cJSON *json)
{
    struct meters meters = {.count = 0};
    int shown = 0, rc = places_list(s, collect, &meters);
    for (int m = 0; rc >= 0 && m < meters.count; m++) {
        struct place place;
        if (only && strcmp(meters.names[m], only) != 0)
            continue;
        rc = place_store_read(s, meters.names[m], &place);
        rc = rc == -ENOENT ? 0 : rc; /* of another version: it begins anew */
        for (int i = 0; rc >= 0 && i < PLACE_LOADS; i++) {
            const struct place_load *l = &place.loads[i];
            if (!l->number || (unnamed && l->name[0]) || (!l->name[0] && l->runs < PLACE_RECURS))
                continue;
            if (json)
                rc = add_json(json, meters.names[m], l);
            else
                print_load(meters.names[m], l, shown == 0);
            shown++;
        }
    }
    return rc < 0 ? rc : shown;
}

static int run_list(const struct cli_command *command, const char *path, const char *meter,
                    int unnamed, int json)
{
    struct config *c = NULL;
    struct store *store = NULL;
    cJSON *out = json ? cJSON_CreateObject() : NULL;
    cJSON *loads = json ? cJSON_AddArrayToObject(out, "loads") : NULL;
    int code = cli_config(command->name, path, &c);
    if (code == CLI_DONE)
        code = cli_store(command->name, c, 0, &store);
    if (code == CLI_DONE) {
        int rc = json && !loads ? -ENOMEM : list_loads(store, meter, unnamed, loads);
        if (rc < 0) {
            code = cli_fail(rc == -EBUSY || rc == -ENOMEM ? CLI_RETRY : CLI_FAILED, command->name,
                            "%s", rc == -ENOMEM ? "out of memory" : store_error(store));
        } else if (json) {
            code = cli_print_json(out);
            out = NULL;
        } else {
            printf("%d loads%s\n", rc,
                   unnamed ? " without a name; name one: nilmctl label unknown-N NAME" : "");
        }
    }
    cJSON_Delete(out);
    store_close(store);
    config_free(c);
    return code;
}

static int list_command(int argc, char **argv, const char *name, const char *summary, int unnamed)
{
    const char *path = CLI_CONFIG, *meter = NULL;
    int json = 0;
    const struct cli_option options[] = {
        {"config", CLI_TEXT, &path, "FILE", "configuration of the agent (" CLI_CONFIG ")", 0, 0},
        {"meter", CLI_TEXT, &meter, "NAME", "of this meter only", 0, 0},
        {"json", CLI_FLAG, &json, NULL, "one JSON object on standard output", 0, 0},
        {0}};
    const struct cli_command command = {name, "", 0, summary, options};
    int code = cli_parse(&command, argc, argv, NULL);
    return code == CLI_GO ? run_list(&command, path, meter, unnamed, json) : code;
}

int ctl_places(int argc, char **argv)
{
    return list_command(argc, argv, "places",
                        "Lists the loads that this gateway has learned beside its model: those "
                        "with a name, and those that come again and have none.",
                        0);
}

int ctl_unknown(int argc, char **argv)
{
    return list_command(argc, argv, "unknown", "Lists loads that come again and have no name yet.",
                        1);
}

/* --- label --- */

/* The command for MQTT, signed, on standard output. */
static int print_order(const char *name, const struct label_order *o, const char *key)
{
    char key_id[PKI_KEY_ID_BYTES], signature[LABEL_SIGNATURE_HEX], id[32], why[CLI_WHY] = "";
    if (label_sign(o, key, key_id, signature, why, sizeof why) < 0)
        return cli_fail(CLI_FAILED, name, "%s", why);
    cJSON *j = cJSON_CreateObject();
    snprintf(id, sizeof id, "label-%" PRId64, o->time_ms);
    int rc = json_text(j, "id", id);
    rc |= json_text(j, "command", "label");
    if (o->meter)
        rc |= json_text(j, "meter", o->meter);
    rc |= json_text(j, "load", o->what);
    rc |= json_text(j, "name", o->name);
    rc |= json_integer(j, "time", o->time_ms);
    rc |= json_text(j, "key", key_id);
    rc |= json_text(j, "signature", signature);
    if (rc < 0) {
        cJSON_Delete(j);
        return cli_fail(CLI_RETRY, name, "out of memory");
    }
    return cli_print_json(j);
}

static int label_here(const char *command, const char *path, const struct label_order *o)
{
    struct config *c = NULL;
    struct store *store = NULL;
    char why[CLI_WHY] = "";
    int runs = 0, code = cli_config(command, path, &c);
    if (code == CLI_DONE)
        code = cli_store(command, c, 1, &store);
    if (code == CLI_DONE) {
        int rc = label_apply(store, o, &runs, why, sizeof why);
        if (rc < 0)
            code = cli_fail(rc == -EBUSY    ? CLI_RETRY
                            : rc == -EINVAL ? CLI_USAGE
                                            : CLI_FAILED,
                            command, "%s", why);
        else if (place_parse(o->what) || o->what[0] < '0' || o->what[0] > '9')
            printf("%s is %s now, also in %d runs of the history\n", o->what, o->name, runs);
        else if (runs > 1)
            printf("run %s is %s now, and so are %d others of the history\n", o->what, o->name,
                   runs - 1);
        else
            printf("run %s is %s now\n", o->what, o->name);
    }
    store_close(store);
    config_free(c);
    return code;
}

int ctl_label(int argc, char **argv)
{
    const char *path = CLI_CONFIG, *words[2], *meter = NULL, *key = NULL, *device = NULL;
    const struct cli_option options[] = {
        {"config", CLI_TEXT, &path, "FILE", "configuration of the agent (" CLI_CONFIG ")", 0, 0},
        {"meter", CLI_TEXT, &meter, "NAME", "whose load it is, when several have one", 0, 0},
        {"sign", CLI_TEXT, &key, "FILE",
         "do nothing here: print the signed command for BASE/DEVICE/command", 0, 0},
        {"device", CLI_TEXT, &device, "ID", "for which device, with --sign", 0, 0},
        {0}};
    const struct cli_command command = {
        "label", "WHAT NAME", 2,
        "Names a load (WHAT is unknown-N, or a name that was wrong), now, from now on and in the "
        "history; or corrects one run (WHAT is its number in `nilmctl events`), and its like from "
        "now on.",
        options};
    int code = cli_parse(&command, argc, argv, words);
    if (code != CLI_GO)
        return code;
    const char first = words[0][0];
    if (words[0][strspn(words[0], "0123456789")] != '\0' ? first >= '0' && first <= '9'
                                                         : first == '0' || first == '\0')
        return cli_fail(CLI_USAGE, command.name,
                        "\"%s\": expected unknown-N, a name, or the number of a run", words[0]);
    if (!key != !device)
        return cli_fail(CLI_USAGE, command.name, "--sign and --device belong together");
    struct label_order order = {.device = device,
                                .time_ms = cli_now_ms(),
                                .meter = meter,
                                .what = words[0],
                                .name = words[1]};
    return key ? print_order(command.name, &order, key) : label_here(command.name, path, &order);
}
