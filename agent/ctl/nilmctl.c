/* nilmctl.c - the operator's hand: finds the subcommand and runs it. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "agent/ctl/cli.h"
#include "agent/ctl/ctl.h"

static const struct {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"status", "what the agent is doing", ctl_status},
    {"events", "runs of appliances from the local history", ctl_events},
    {"alerts", "what is wrong, and how far the agent has learned what is usual", ctl_alerts},
    {"report", "energy, runs and costs, as a table, JSON, CSV or a page", ctl_report},
    {"snooze", "silence about an alert for a while", ctl_snooze},
    {"label", "name a load, or correct the appliance of a run", ctl_label},
    {"places", "loads that this gateway has learned", ctl_places},
    {"unknown", "those of them that have no name yet", ctl_unknown},
    {"machines", "states, hours, starts and energy of machines, by shift", ctl_machines},
    {"export", "label a stretch of a meter's recording, to train on", ctl_export},
    {"teach", "learn how machines on a mains meter switch", ctl_teach},
    {"outbox", "what waits for the broker", ctl_outbox},
    {"models", "the models on this gateway, and whether they verify", ctl_models},
    {"rollback", "return to the model before", ctl_rollback},
    {"provision", "make key, certificate request and configuration of a gateway", ctl_provision},
    {"push", "send a signed model to a gateway or a group", ctl_push},
    {"watch", "show events and alerts as they reach the broker", ctl_watch},
    {"doctor", "check everything a gateway needs and say what to do", ctl_doctor},
};

static void help(FILE *to)
{
    fprintf(to, "Usage: nilmctl COMMAND [OPTIONS]\n\nCommands:\n");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fprintf(to, "\nnilmctl COMMAND --help tells more. nilmctl --version\n");
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        help(stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0) {
        help(stdout);
        return CLI_DONE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("nilmctl %s\n", NILM_VERSION);
        return CLI_DONE;
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "nilmctl: there is no command \"%s\"; see nilmctl --help\n", argv[1]);
    return CLI_USAGE;
}
