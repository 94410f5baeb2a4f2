/* ctl.h - the subcommands of nilmctl (SPEC.md section 7). Each takes its own arguments, argv[0] being its name, and returns
 * the exit code of the program. */
#ifndef AGENT_CTL_CTL_H
#define AGENT_CTL_CTL_H

int ctl_status(int argc, char **argv);
int ctl_events(int argc, char **argv);
int ctl_label(int argc, char **argv);
int ctl_outbox(int argc, char **argv);
int ctl_models(int argc, char **argv);
int ctl_provision(int argc, char **argv);
int ctl_push(int argc, char **argv);
int ctl_watch(int argc, char **argv);
int ctl_doctor(int argc, char **argv);

#endif
