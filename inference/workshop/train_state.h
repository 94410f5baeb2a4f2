/* train_state.h - private to train*.c: what training changes from step to step, and its file. */
#ifndef WORKSHOP_TRAIN_STATE_H
#define WORKSHOP_TRAIN_STATE_H

#include "inference/workshop/optim.h"
#include "inference/workshop/train.h"

/* average and best are nets of which only parameters and statistics count; average is NULL where
 * none is kept. */
struct train_state {
    struct net *net, *average, *best;
    struct optim *optim;
    uint64_t step;  /* done, and so the number of the next one */
    uint32_t epoch; /* done */
    struct train_result result;
};

/* A number that differs when anything differs that the result depends on: options, start values,
 * teachers, every sample of the data. */
uint64_t train_checkpoint_identity(const struct net *start, const struct model_channel *channels,
                                   const struct dataset *train, const struct dataset *valid,
                                   const struct train_options *options);

/* Writes t durably: temporary file, fsync, rename. 0 or negative errno; why names the path. */
int train_checkpoint_write(const char *path, const struct train_state *t, uint64_t identity,
                           char *why, size_t why_size);

/* Reads it back into t, which has been made for the same training; t is untouched on failure. 0,
 * -ENOENT, -EBADMSG (damaged), -EINVAL (of another training), other errno, -ENOMEM; why names path
 * and reason. */
int train_checkpoint_read(const char *path, struct train_state *t, uint64_t identity, char *why,
                          size_t why_size);

#endif
