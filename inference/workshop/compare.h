/* compare.h - the experiment of `nilm-model compare`: what is run, in which order, and what came of
 * it; private to compare_*.c, cmd_compare.c and their tests.
 *
 * The experiment is a list of stages. A stage is one command of nilm-model (workshop.h) with its
 * arguments, run in a child process, so that every figure can be had again by hand. What a stage
 * leaves in OUT/work: NAME.json (its report), NAME.nilm (where it makes a model), NAME.log (its
 * errors), and last NAME.done: what went in, the hashes of what came out, and how long it took. A
 * stage whose NAME.done still holds is not run again; so an interrupted run continues where it was.
 *
 * For one thread. Functions return 0 or a negative errno, unless they say that it is an exit code
 * (cli.h), having told the reason.
 */
#ifndef WORKSHOP_COMPARE_H
#define WORKSHOP_COMPARE_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

#include "inference/workshop/cli.h"

#define COMPARE_MAX_STAGES 256
#define COMPARE_MAX_ARGS 160
#define COMPARE_MAX_MODELS 96
#define COMPARE_NAME_BYTES 48
#define COMPARE_PATH_BYTES 1024
#define COMPARE_MAX_RATIOS 16

/* What the user asked for. Texts point into argv. */
struct compare_settings {
    const char *data, *out, *base;
    const char *train_options, *prune_options, *finetune_options, *quantize_options,
        *qat_options; /* words */
    int split;        /* enum dataset_split */
    uint64_t split_seed, seed;
    int split_given, split_seed_given; /* else those that the base was trained with */
    uint32_t epochs, short_epochs, finetune_epochs, qat_epochs, epoch_windows;
    uint32_t sweep_windows, taylor_windows, latency_rounds, latency_ms;
    uint32_t budget; /* minutes; 0: epochs as they are */
    int quick, plan, fresh, json, quiet;
};

struct compare_stage {
    char name[COMPARE_NAME_BYTES];
    int (*run)(int argc, char **argv); /* returns an exit code, prints one JSON object */
    char *argv[COMPARE_MAX_ARGS];      /* [argc], then NULL; owned */
    int argc;
    int makes_model;
    double cost;    /* seconds, estimated */
    double seconds; /* measured, once done */
    int done;
};

/* A model of the comparison. Stages by number; -1: none. */
struct compare_model {
    char name[COMPARE_NAME_BYTES];
    const char *kind;     /* a literal, see SPEC.md 7.20 */
    int criterion, scope; /* prune.h, -1: not pruned */
    double ratio, share;  /* of the channels removed, or of the base's parameters left; 0: not so */
    int maker;            /* whose NAME.nilm it is; -1: the settings' base */
    int reporter;         /* whose report has `valid` and `test` */
    int valid, test;      /* evaluations, which go before the reporter's */
};

struct compare {
    struct compare_settings settings;
    char work[COMPARE_PATH_BYTES];
    int lock;                      /* of OUT, held by this process alone */
    char data_hash[32];            /* names, sizes and times of the data's files */
    uint32_t files;                /* of the data */
    double base_params, base_macs; /* nominal until the base is there */
    double ratios[COMPARE_MAX_RATIOS],
        shares[COMPARE_MAX_RATIOS]; /* fine-tuned points, final sizes */
    int ratio_count, share_count;
    struct compare_stage stages[COMPARE_MAX_STAGES];
    int stage_count, first_count; /* first_count: those before the choice */
    struct compare_model models[COMPARE_MAX_MODELS];
    int model_count;
    int rc;                             /* the first failure while planning */
    int chosen_criterion, chosen_scope; /* -1: not chosen yet */
    struct cli_progress progress;
    double spent, planned; /* seconds measured and estimated, of the stages done */
};

extern const char *const compare_criteria[]; /* by enum prune_criterion */
extern const char *const compare_scopes[];   /* by enum prune_scope */
#define COMPARE_SWEEP_STEPS 9                /* ratios 0.1 .. 0.9 */

/* --- The plan (compare_plan.c) --- */

/* Stages up to the choice, and those after it. Without a choice the latter show where it will go.
 * Failures are in c->rc. */
void compare_plan_first(struct compare *c);
void compare_plan_second(struct compare *c);
void compare_plan_clear(struct compare *c, int from, int models); /* forgets those from there on */
double compare_plan_cost(const struct compare *c);                /* seconds, of all stages */

/* Scales the epochs so that the whole takes about budget seconds. 0, -ERANGE when that is below
 * what the experiment takes without any training; *least: that. */
int compare_plan_budget(struct compare *c, double budget, double *least);

/* --- Stages (compare_stage.c) --- */

/* NAME.suffix in the work folder. */
void compare_stage_path(const struct compare *c, const struct compare_stage *s, const char *suffix,
                        char path[COMPARE_PATH_BYTES]);

/* Path of a model's file. */
void compare_model_path(const struct compare *c, const struct compare_model *m,
                        char path[COMPARE_PATH_BYTES]);

/* 1 when its NAME.done holds (then done and seconds are set), 0 when it has to be run, -ENOMEM. */
int compare_stage_check(struct compare *c, struct compare_stage *s);

/* Runs it unless it is done. Exit code. */
int compare_stage_run(struct compare *c, struct compare_stage *s);

/* Its report (cJSON_Delete), or NULL when there is none that can be read. */
cJSON *compare_stage_report(const struct compare *c, const struct compare_stage *s);

/* The command for people: $DATA, $OUT and $BASE stand for the folders and the base, arguments are
 * quoted for a shell where they need it. Text to free(), NULL: no memory. */
char *compare_stage_command(const struct compare *c, const struct compare_stage *s);

/* What the data's files are. 0, or what dataset_files_scan returns, with why. */
int compare_stage_data(struct compare *c, char *why, size_t why_size);

/* --- Stages that are no command of their own --- */

/* Every criterion and scope at ratios 0.1 to 0.9, before any fine-tuning, on windows of the
 * validation part. Arguments: those of the stage. Exit code. */
int compare_sweep(int argc, char **argv);

/* One window's time of each model, all in turn in each round: median and quartiles. Exit code. */
int compare_latency(int argc, char **argv);

/* --- Results (compare_result.c) --- */

/* Macro F1 of a model on a part ("valid", "test"); -1 when it is not known. */
double compare_result_f1(const struct compare *c, const struct compare_model *m, const char *part);

/* Sets chosen_criterion and chosen_scope: the best macro F1 on the validation part among the models
 * pruned to one size. -ENODATA when there is none. */
int compare_result_choose(struct compare *c);

/* The whole result, SPEC.md 7.20. 0 and *out (cJSON_Delete), -ENOMEM, -EBADMSG (a report is
 * damaged; why). */
int compare_result_build(const struct compare *c, cJSON **out, char *why, size_t why_size);

#endif
