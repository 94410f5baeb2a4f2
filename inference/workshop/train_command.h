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

#define TRAIN_META_BYTES 8192

extern const char *const train_splits[]; /* names, in the order of enum dataset_split */

/* The parts of a folder. valid and test are NULL under SPLIT_NONE, test also when it was not asked
 * for. */
struct train_data {
    struct dataset *train, *valid, *test;
};

/* Loads the parts that `parts` names (bits 1 << PART_TRAIN ...). o: window, grid, stride, activity,
 * split, labels; where it has no labels, those of the training part become those of the others. 0
 * or negative errno with why. */
int train_command_load(const char *dir, const struct dataset_options *o, unsigned parts, int quiet,
                       struct train_data *out, char *why, size_t why_size);
void train_command_unload(struct train_data *d);

/* Dataset options that belong to a model: its window, grid, activity and labels, and the split that
 * its meta names. */
void train_command_options(const struct model *m, struct dataset_options *o);

/* Meta text, TRAIN_META_BYTES of it. Adds or replaces the line key=value; line breaks in the value
 * become blanks. 0, -ENOSPC. */
int train_command_meta(char *meta, const char *key, const char *value);

/* The same for the command line: arguments without their folders, and without those that change
 * nothing in the result, so that the line is the same wherever and however it ran. */
int train_command_meta_line(char *meta, const char *key, int argc, char **argv);

/* Split, seed and stride, as train_command_options reads them; f1 and accuracy per part as
 * `KEY_valid_f1` ... */
int train_command_meta_data(char *meta, const struct dataset_options *o);
int train_command_meta_metrics(char *meta, const char *key, const struct metrics *m);

/* Mixed data: thresholds that were chosen on a part, as the line `thresholds` (SPEC 1.12), and
 * into the figures of another part. 0, -ENOSPC. */
int train_command_meta_thresholds(char *meta, const struct metrics *m);
void train_command_thresholds(const struct metrics *from, struct metrics *to);

/* A line per part for people, on standard output. */
void train_command_text(const char *part, const struct metrics *m);
cJSON *train_command_json(const struct metrics *m); /* NULL: no memory */

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
void train_command_free(struct train_outcome *o);

/* Writes the outcome into m (layers, meta) and to path; then reports on standard output, as JSON or
 * text. Returns an exit code. */
int train_command_finish(struct model *m, const struct train_outcome *outcome, const char *path,
                         int json);

/* Options that train and finetune have in common, for their tables; t is a struct train_options. */
/* clang-format off */
#define TRAIN_OPTION(type, name, field, what, low, high, help) {name, type, &field, what, help, low, high, NULL, 0, 0}
#define TRAIN_OPTIONS(t) \
    TRAIN_OPTION(CLI_UINT, "epochs", (t).epochs, "N", 1, 10000, "passes"), \
    TRAIN_OPTION(CLI_UINT, "epoch-windows", (t).epoch_windows, "N", 0, 0, "windows drawn in a pass; 0: as many as there are"), \
    TRAIN_OPTION(CLI_UINT, "batch", (t).batch, "N", 1, 65536, "windows in a step, rounded up to a multiple of 16"), \
    TRAIN_OPTION(CLI_FLOAT, "rate", (t).rate, "X", 1e-8, 10, "peak learning rate of the one-cycle schedule"), \
    TRAIN_OPTION(CLI_FLOAT, "decay", (t).decay, "X", 0, 10, "weight decay of AdamW"), \
    TRAIN_OPTION(CLI_FLOAT, "dropout", (t).dropout, "X", 0, 0.95, "share of the dense layers' inputs left out in a step"), \
    TRAIN_OPTION(CLI_FLOAT, "input-dropout", (t).input_dropout, "X", 0, 0.95, "share of a window's input channels left out"), \
    TRAIN_OPTION(CLI_FLOAT, "smoothing", (t).smoothing, "X", 0, 0.9, "label smoothing"), \
    TRAIN_OPTION(CLI_UINT, "patience", (t).patience, "N", 0, 10000, "stop after so many epochs without a better one; 0: never"), \
    TRAIN_OPTION(CLI_STRING, "checkpoint", (t).checkpoint, "FILE", 0, 0, "where the state of the training is kept"), \
    TRAIN_OPTION(CLI_UINT, "checkpoint-every", (t).checkpoint_every, "N", 1, 10000, "epochs between two of them"), \
    TRAIN_OPTION(CLI_FLAG, "resume", (t).resume, NULL, 0, 0, "go on from the checkpoint where there is one; the same bytes come out"), \
    TRAIN_OPTION(CLI_FLOAT, "average", (t).average, "X", 0, 0.999999, "moving average of the weights over about 1/(1-X) steps is what is validated and saved; 0: off"), \
    TRAIN_OPTION(CLI_FLOAT, "class-power", (t).class_power, "X", 0, 1, "a class is drawn with this power of its frequency"), \
    TRAIN_OPTION(CLI_FLOAT, "class-weight", (t).class_weight, "X", 0, 1, "its loss is divided by this power of its frequency"), \
    TRAIN_OPTION(CLI_STRING, "teacher", (t).teacher, "FILE[,FILE]", 0, 0, "FP32 models of the same labels and split whose mean opinion is learned too"), \
    TRAIN_OPTION(CLI_FLOAT, "teacher-weight", (t).teacher_weight, "X", 0, 1, "their share of the loss"), \
    TRAIN_OPTION(CLI_FLOAT, "teacher-temperature", (t).teacher_temperature, "X", 0.1, 100, "at which probabilities are compared"), \
    TRAIN_OPTION(CLI_FLOAT, "mix", (t).mix, "X", 0, 1, "share of windows mixed with another (mixup)"), \
    TRAIN_OPTION(CLI_FLOAT, "others", (t).others, "X", 0, 1, "share of windows with a little of another load added"), \
    TRAIN_OPTION(CLI_FLOAT, "level", (t).level, "X", 0, 1, "share of windows whose power is moved by a constant while on"), \
    TRAIN_OPTION(CLI_FLOAT, "level-watts", (t).level_w, "W", 0, 1e6, "by up to so much either way"), \
    TRAIN_OPTION(CLI_FLOAT, "drop", (t).drop, "X", 0, 1, "share of windows with samples that did not arrive"), \
    TRAIN_OPTION(CLI_FLOAT, "onset", (t).onset, "X", 0, 1, "share of windows that end just after a switching-on"), \
    TRAIN_OPTION(CLI_UINT, "shift", (t).shift, "N", 0, 16384, "the others are moved by up to so many samples"), \
    TRAIN_OPTION(CLI_FLOAT, "prefix", (t).prefix, "X", 0, 1, "share of windows whose beginning repeats one sample"), \
    TRAIN_OPTION(CLI_FLOAT, "gain", (t).gain, "X", 0, 10, "power is varied by up to this factor above 1, and its inverse"), \
    TRAIN_OPTION(CLI_FLOAT, "noise", (t).noise, "X", 0, 10, "relative noise of each sample"), \
    TRAIN_OPTION(CLI_UINT64, "seed", (t).seed, "N", 0, 0, "of start values, sampling, dropout"), \
    TRAIN_OPTION(CLI_UINT, "threads", (t).threads, "N", 0, 64, "0: one per processor; the result does not depend on it"), \
    TRAIN_OPTION(CLI_FLAG, "exact-inputs", (t).exact, NULL, 0, 0, "do not round inputs to the levels of INT8"), \
    TRAIN_OPTION(CLI_FLAG, "quiet", (t).quiet, NULL, 0, 0, "no progress on standard error")
/* clang-format on */

/* Input channels into m from "log,linear:250": a feature and, after a colon, its own full scale in
 * watts. 0, -EINVAL. */
int train_command_features(const char *text, float full, struct model *m);

#endif
