/* ctl.h - the subcommands of nilmctl (SPEC.md section 7).
 *
 * Each takes its own arguments, argv[0] being its name, writes results to standard output and messages to standard error, and
 * returns the exit code of the program (enum cli_exit in cli.h). Called once, on the main thread.
 */
#ifndef AGENT_CTL_CTL_H
#define AGENT_CTL_CTL_H

/* On the gateway itself, from its control socket, store and model slots; none of them changes anything but ctl_label and ctl_teach. */
int ctl_status(int argc, char **argv);
int ctl_events(int argc, char **argv);
int ctl_alerts(int argc, char **argv);
int ctl_snooze(int argc, char **argv);
int ctl_report(int argc, char **argv);
int ctl_label(int argc, char **argv);
int ctl_places(int argc, char **argv);
int ctl_unknown(int argc, char **argv);
int ctl_machines(int argc, char **argv);
int ctl_rollback(int argc, char **argv);
int ctl_export(int argc, char **argv);
int ctl_teach(int argc, char **argv);
int ctl_outbox(int argc, char **argv);
int ctl_models(int argc, char **argv);
/* On the gateway, also before there is a configuration. */
int ctl_provision(int argc, char **argv);
int ctl_doctor(int argc, char **argv);
/* From anywhere that reaches the broker, with an operator's certificate. */
int ctl_push(int argc, char **argv);
int ctl_watch(int argc, char **argv);

#endif
