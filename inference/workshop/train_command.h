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
#define TRAIN_OPTIONS(t)                                                                             \
    {"epochs", CLI_UINT, &(t).epochs, "N", "passes", 1, 10000, NULL, 0, 0},                          \
        {"epoch-windows",                                                                            \
         CLI_UINT,                                                                                   \
         &(t).epoch_windows,                                                                         \
         "N",                                                                                        \
         "windows drawn in a pass; 0: as many as there are",                                         \
         0,                                                                                          \
         0,                                                                                          \
         NULL,                                                                                       \
         0,                                                                                          \
         0},                                                                                         \
        {"batch", CLI_UINT, &(t).batch, "N", "windows in a step, rounded up to a multiple of 16",    \
         1,       65536,    NULL,       0,   0},                                                     \
        {"rate", CLI_FLOAT, &(t).rate, "X", "peak learning rate of the one-cycle schedule",          \
         1e-8,   10,        NULL,      0,   0},                                                      \
        {"decay", CLI_FLOAT, &(t).decay, "X", "weight decay of AdamW", 0, 10, NULL, 0, 0},           \
        {"dropout",                                                                                  \
         CLI_FLOAT,                                                                                  \
         &(t).dropout,                                                                               \
         "X",                                                                                        \
         "share of the dense layers' inputs left out in a step",                                     \
         0,                                                                                          \
         0.95,                                                                                       \
         NULL,                                                                                       \
         0,                                                                                          \
         0},                                                                                         \
        {"smoothing", CLI_FLOAT, &(t).smoothing, "X", "label smoothing", 0, 0.9, NULL, 0, 0},        \
        {"onset", CLI_FLOAT, &(t).onset, "X", "share of windows that end just after a switching-on", \
         0,       1,         NULL,       0,   0},                                                    \
        {"shift", CLI_UINT, &(t).shift, "N", "the others are moved by up to so many samples",        \
         0,       16384,    NULL,       0,   0},                                                     \
        {"prefix",                                                                                   \
         CLI_FLOAT,                                                                                  \
         &(t).prefix,                                                                                \
         "X",                                                                                        \
         "share of windows whose beginning repeats one sample",                                      \
         0,                                                                                          \
         1,                                                                                          \
         NULL,                                                                                       \
         0,                                                                                          \
         0},                                                                                         \
        {"gain",                                                                                     \
         CLI_FLOAT,                                                                                  \
         &(t).gain,                                                                                  \
         "X",                                                                                        \
         "power is varied by up to this factor above 1, and its inverse",                            \
         0,                                                                                          \
         10,                                                                                         \
         NULL,                                                                                       \
         0,                                                                                          \
         0},                                                                                         \
        {"noise", CLI_FLOAT, &(t).noise, "X", "relative noise of each sample", 0, 10, NULL, 0, 0},   \
        {"seed", CLI_UINT64, &(t).seed, "N", "of start values, sampling, dropout",                   \
         0,      0,          NULL,      0,   0},                                                     \
        {"threads",                                                                                  \
         CLI_UINT,                                                                                   \
         &(t).threads,                                                                               \
         "N",                                                                                        \
         "0: one per processor; the result does not depend on it",                                   \
         0,                                                                                          \
         64,                                                                                         \
         NULL,                                                                                       \
         0,                                                                                          \
         0},                                                                                         \
        {"exact-inputs",                                                                             \
         CLI_FLAG,                                                                                   \
         &(t).exact,                                                                                 \
         NULL,                                                                                       \
         "do not round inputs to the levels of INT8",                                                \
         0,                                                                                          \
         0,                                                                                          \
         NULL,                                                                                       \
         0,                                                                                          \
         0},                                                                                         \
    {                                                                                                \
        "quiet", CLI_FLAG, &(t).quiet, NULL, "no progress on standard error", 0, 0, NULL, 0, 0       \
    }

#endif
