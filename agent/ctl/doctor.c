/* doctor.c - nilmctl doctor: runs the checks and reports. */
#include "agent/ctl/doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/ctl/cli.h"
#include "agent/ctl/ctl.h"

static const char *const level_names[] = {"ok", "note", "warning", "fault", "fault"};

void doctor_finding(struct doctor *d, const char *check, enum doctor_level level,
                    const char *advice, const char *format, ...)
{
    static const char *const colours[] = {"\033[32m", "\033[36m", "\033[33m", "\033[31m",
                                          "\033[31m"};
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    cli_plain(text);
    d->warnings += level == DOCTOR_WARNING;
    d->faults += level == DOCTOR_FAULT;
    d->later += level == DOCTOR_LATER;
    if (!d->json) {
        int colour = isatty(STDOUT_FILENO);
        printf("%s%-8s%s %-13s %s\n", colour ? colours[level] : "", level_names[level],
               colour ? "\033[0m" : "", check, text);
        if (*advice)
            printf("%-22s -> %s\n", "", advice);
        fflush(stdout);
        return;
    }
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "check", check);
    cJSON_AddStringToObject(o, "level", level_names[level]);
    cJSON_AddStringToObject(o, "message", text);
    cJSON_AddStringToObject(o, "advice", advice);
    cJSON_AddItemToArray(d->findings, o);
}

static void examine(struct doctor *d)
{
    static void (*const checks[])(struct doctor * d) = {
        doctor_check_clock,        doctor_check_data, doctor_check_store,  doctor_check_agent,
        doctor_check_certificates, doctor_check_ring, doctor_check_models, doctor_check_broker};
    struct config *c = NULL;
    char why[CLI_WHY] = "";
    if (config_load(d->config_path, &c, why, sizeof why) != 0) {
        doctor_finding(d, "configuration", DOCTOR_FAULT,
                       access(d->config_path, F_OK) != 0
                           ? "make one with nilmctl provision, or name another with --config"
                           : "mend it; nilmd --check-config checks again",
                       "%s", why);
        return;
    }
    doctor_finding(d, "configuration", DOCTOR_OK, "", "%s: device %s, %zu meters", d->config_path,
                   c->device, c->meter_count);
    d->config = c;
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++)
        checks[i](d);
    d->config = NULL;
    config_free(c);
}

static int verdict(struct doctor *d)
{
    int wrong = d->warnings + d->faults + d->later;
    int code = d->faults || d->warnings ? CLI_FAILED : d->later ? CLI_RETRY : CLI_DONE;
    if (d->json) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddBoolToObject(o, "ok", wrong == 0);
        cJSON_AddNumberToObject(o, "warnings", d->warnings);
        cJSON_AddNumberToObject(o, "faults", d->faults + d->later);
        cJSON_AddItemToObject(o, "findings", d->findings);
        d->findings = NULL;
        if (cli_print_json(o) != CLI_DONE)
            return CLI_FAILED;
    } else if (wrong == 0) {
        printf("\nNothing is wrong.\n");
    } else {
        printf("\nfaults: %d, warnings: %d\n", d->faults + d->later, d->warnings);
    }
    return code;
}

int ctl_doctor(int argc, char **argv)
{
    struct doctor d = {.config_path = CLI_CONFIG};
    const struct cli_option options[] = {
        {"config", CLI_TEXT, &d.config_path, "FILE", "configuration of the agent (" CLI_CONFIG ")",
         0, 0},
        {"json", CLI_FLAG, &d.json, NULL, "one JSON object on standard output", 0, 0},
        {0}};
    const struct cli_command command = {"doctor", "", 0,
                                        "Checks configuration, clock, data folder, database, "
                                        "certificates, key ring, models and the way\n"
                                        "to the broker, and says what to do about each finding. "
                                        "Exit code 0 only when nothing is wrong,\n"
                                        "3 when all that is wrong may pass by itself.",
                                        options};
    int code = cli_parse(&command, argc, argv, NULL);
    if (code != CLI_GO)
        return code;
    d.findings = cJSON_CreateArray();
    if (!d.findings)
        return cli_fail(CLI_RETRY, command.name, "out of memory");
    examine(&d);
    code = verdict(&d);
    cJSON_Delete(d.findings);
    return code;
}
