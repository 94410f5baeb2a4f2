/* convert.h - between the workshop's nets and FP32 model files. */
#ifndef WORKSHOP_CONVERT_H
#define WORKSHOP_CONVERT_H

#include "inference/model.h"
#include "inference/workshop/net.h"

/* Folds batch normalization into the convolutions: the running statistics become part of weights
 * and biases. *out is a new net without norm that computes what net computes as deployed, up to
 * rounding. 0, -ENOMEM. */
int convert_fold(const struct net *net, struct net **out);

/* Takes the network out of an FP32 model. 0, -EINVAL (not FP32, or a shape that net.h does not do;
 * why), -ENOMEM. */
int convert_from_model(const struct model *m, struct net **out, char *why, size_t why_size);

/* Puts the network into m: dtype, head, window, class count and layers, which point into net (m
 * must not outlive it). Everything else in m (family, version, channels, labels, meta ...) is the
 * caller's. -EINVAL when net still has norm layers. */
int convert_to_model(const struct net *net, struct model *m);

/* Writes m to path by way of model_encode. *size: bytes written, may be NULL. 0 or negative errno;
 * why names path or field. */
int convert_write(const struct model *m, const char *path, size_t *size, char *why,
                  size_t why_size);

#endif
