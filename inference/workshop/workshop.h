/* workshop.h - the commands of nilm-model that need no signature.
 *
 * Each takes its own argc and argv (argv[0] is the command's name; --help lists the options), prints results to standard output, errors and
 * progress to standard error, and returns the exit code: 0 done, 1 wrong usage, 2 failed for good, 3 may succeed when
 * retried, 4 timed out. What they take and give are files; one command at a time in a process.
 */
#ifndef WORKSHOP_WORKSHOP_H
#define WORKSHOP_WORKSHOP_H

/* Labelled traces to an FP32 model, and on from there: fewer channels, trained further, INT8. */
int workshop_train(int argc, char **argv);
int workshop_prune(int argc, char **argv);
int workshop_finetune(int argc, char **argv);
int workshop_quantize(int argc, char **argv);

/* Networks from and to ONNX files. */
int workshop_import(int argc, char **argv);
int workshop_export(int argc, char **argv);

/* Accuracy, F1, loss, size and latency of a model on labelled traces. The keys of --json are a contract: SPEC.md section 7. */
int workshop_eval(int argc, char **argv);

/* The threshold of unknown, from networks trained without some classes. The keys of --json: SPEC.md section 7. */
int workshop_reject(int argc, char **argv);

/* The whole experiment: base, pruning, INT8, both together; tables and charts. SPEC.md section 7. Runs the commands above in child
 * processes. */
int workshop_compare(int argc, char **argv);

/* Aggregates mixed from single appliances, with their truth. The keys of --json: SPEC.md section 7.
 */
int workshop_mix(int argc, char **argv);

/* What was really on, from submetered columns; how well events tell it; two classic methods to
 * compare with. The keys of --json: SPEC.md section 7. */
int workshop_truth(int argc, char **argv);
int workshop_score(int argc, char **argv);
int workshop_baseline(int argc, char **argv);
/* Puts a fault into recorded days, to see what alerts notice. */
int workshop_inject(int argc, char **argv);

/* What a model costs on this machine, and what is in its file. The keys of --json: SPEC.md section 7. */
int workshop_bench(int argc, char **argv);
int workshop_inspect(int argc, char **argv);

#endif
