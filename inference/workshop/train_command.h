/* train_command.h - what the commands train, finetune and quantize share: the data of a model, its
 * meta lines, reports. */
#ifndef WORKSHOP_TRAIN_COMMAND_H
#define WORKSHOP_TRAIN_COMMAND_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

#include "inference/model.h"
#include "inference/workshop/cli.h"
#include "inference/workshop/dataset.h"
#include "inference/workshop/metrics.h"
#include "inference/workshop/train.h"

#define TRAIN_META_BYTES 4096

extern const char
    *const train_splits[]; /* "none", "day", "device": the order of enum dataset_split */

/* The parts of a folder. valid and test are NULL under SPLIT_NONE, test also when it was not asked
 * for. */
struct train_data {
    struct dataset *train, *valid, *test;
};

/* Loads the parts that `parts` names (bits 1 << PART_TRAIN ...). o: window, grid, stride, activity,
 * split, labels; where it has no labels, those of the training part become those of the others. 0
 * or negative errno with why. */
int train_data_load(const char *dir, const struct dataset_options *o, unsigned parts, int quiet,
                    struct train_data *out, char *why, size_t why_size);
void train_data_free(struct train_data *d);

/* Dataset options that belong to a model: its window, grid, activity and labels, and the split that
 * its meta names. */
void train_data_of_model(const struct model *m, struct dataset_options *o);

/* Meta text, TRAIN_META_BYTES of it. Adds or replaces the line key=value; line breaks in the value
 * become blanks. 0, -ENOSPC. */
int train_meta_set(char *meta, const char *key, const char *value);

/* The same for the command line: arguments without their folders, so that the line is the same
 * wherever it ran. */
int train_meta_command(char *meta, const char *key, int argc, char **argv);

/* Split, seed and stride, as train_data_of_model reads them; f1 and accuracy per part as
 * `KEY_valid_f1` ... */
int train_meta_data(char *meta, const struct dataset_options *o);
int train_meta_metrics(char *meta, const char *key, const struct metrics *m);

/* A line per part for people, on standard output. */
void train_report_text(const char *part, const struct metrics *m);
cJSON *train_report_json(const struct metrics *m); /* NULL: no memory */

/* Trains net and evaluates it (folded) on valid and test; progress and texts as options say.
 * *folded is what to save. */
struct train_outcome {
    struct net *folded;
    struct metrics *valid, *test; /* NULL where there is no such part */
    struct train_result result;
};
int train_command_run(struct net *net, const struct model *m, const struct train_data *data,
                      const struct train_options *options, struct train_outcome *out, char *why,
                      size_t why_size);
void train_outcome_free(struct train_outcome *o);

/* Writes the outcome into m (layers, meta) and to path; then reports on standard output, as JSON or
 * text. Returns an exit code. */
int train_command_finish(struct model *m, const struct train_outcome *outcome, const char *path,
                         int json);

/* Options that train and finetune have in common: an entry each, for their tables. */
#define TRAIN_OPTIONS(t)                                                                           \
    {.name = "epochs",                                                                             \
     .type = CLI_UINT,                                                                             \
     .value = &(t).epochs,                                                                         \
     .argument = "N",                                                                              \
     .help = "passes",                                                                             \
     .low = 1,                                                                                     \
     .high = 10000},                                                                               \
        {.name = "epoch-windows",                                                                  \
         .type = CLI_UINT,                                                                         \
         .value = &(t).epoch_windows,                                                              \
         .argument = "N",                                                                          \
         .help = "windows drawn in a pass; 0: as many as there are"},                              \
        {.name = "batch",                                                                          \
         .type = CLI_UINT,                                                                         \
         .value = &(t).batch,                                                                      \
         .argument = "N",                                                                          \
         .help = "windows in a step, rounded up to a multiple of 16",                              \
         .low = 1,                                                                                 \
         .high = 65536},                                                                           \
        {.name = "rate",                                                                           \
         .type = CLI_FLOAT,                                                                        \
         .value = &(t).rate,                                                                       \
         .argument = "X",                                                                          \
         .help = "peak learning rate of the one-cycle schedule",                                   \
         .low = 1e-8,                                                                              \
         .high = 10},                                                                              \
        {.name = "decay",                                                                          \
         .type = CLI_FLOAT,                                                                        \
         .value = &(t).decay,                                                                      \
         .argument = "X",                                                                          \
         .help = "weight decay of AdamW",                                                          \
         .low = 0,                                                                                 \
         .high = 10},                                                                              \
        {.name = "dropout",                                                                        \
         .type = CLI_FLOAT,                                                                        \
         .value = &(t).dropout,                                                                    \
         .argument = "X",                                                                          \
         .help = "share of the dense layers' inputs left out in a step",                           \
         .low = 0,                                                                                 \
         .high = 0.95},                                                                            \
        {.name = "smoothing",                                                                      \
         .type = CLI_FLOAT,                                                                        \
         .value = &(t).smoothing,                                                                  \
         .argument = "X",                                                                          \
         .help = "label smoothing",                                                                \
         .low = 0,                                                                                 \
         .high = 0.9},                                                                             \
        {.name = "onset",                                                                          \
         .type = CLI_FLOAT,                                                                        \
         .value = &(t).onset,                                                                      \
         .argument = "X",                                                                          \
         .help = "share of windows that end just after a switching-on",                            \
         .low = 0,                                                                                 \
         .high = 1},                                                                               \
        {.name = "shift",                                                                          \
         .type = CLI_UINT,                                                                         \
         .value = &(t).shift,                                                                      \
         .argument = "N",                                                                          \
         .help = "the others are moved by up to so many samples",                                  \
         .low = 0,                                                                                 \
         .high = 16384},                                                                           \
        {.name = "prefix",                                                                         \
         .type = CLI_FLOAT,                                                                        \
         .value = &(t).prefix,                                                                     \
         .argument = "X",                                                                          \
         .help = "share of windows whose beginning repeats one sample",                            \
         .low = 0,                                                                                 \
         .high = 1},                                                                               \
        {.name = "gain",                                                                           \
         .type = CLI_FLOAT,                                                                        \
         .value = &(t).gain,                                                                       \
         .argument = "X",                                                                          \
         .help = "power is varied by up to this factor above 1, and its inverse",                  \
         .low = 0,                                                                                 \
         .high = 10},                                                                              \
        {.name = "noise",                                                                          \
         .type = CLI_FLOAT,                                                                        \
         .value = &(t).noise,                                                                      \
         .argument = "X",                                                                          \
         .help = "relative noise of each sample",                                                  \
         .low = 0,                                                                                 \
         .high = 10},                                                                              \
        {.name = "seed",                                                                           \
         .type = CLI_UINT64,                                                                       \
         .value = &(t).seed,                                                                       \
         .argument = "N",                                                                          \
         .help = "of start values, sampling, dropout"},                                            \
        {.name = "threads",                                                                        \
         .type = CLI_UINT,                                                                         \
         .value = &(t).threads,                                                                    \
         .argument = "N",                                                                          \
         .help = "0: one per processor; the result does not depend on it",                         \
         .low = 0,                                                                                 \
         .high = 64},                                                                              \
        {.name = "exact-inputs",                                                                   \
         .type = CLI_FLAG,                                                                         \
         .value = &(t).exact,                                                                      \
         .help = "do not round inputs to the levels of INT8"},                                     \
    {                                                                                              \
        .name = "quiet", .type = CLI_FLAG, .value = &(t).quiet,                                    \
        .help = "no progress on standard error"                                                    \
    }

#endif
