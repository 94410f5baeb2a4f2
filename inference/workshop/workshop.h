/* workshop.h - the commands of nilm-model that need no signature: each takes its own argc and argv (argv[0] is the command's name),
 * prints to standard output, errors to standard error, and returns the exit code (0 done, 1 usage, 2 failed, 3 retry, 4 time-out).
 */
#ifndef WORKSHOP_WORKSHOP_H
#define WORKSHOP_WORKSHOP_H

int workshop_train(int argc, char **argv);
int workshop_prune(int argc, char **argv);
int workshop_finetune(int argc, char **argv);
int workshop_quantize(int argc, char **argv);
int workshop_eval(int argc, char **argv);
int workshop_bench(int argc, char **argv);
int workshop_inspect(int argc, char **argv);

#endif
