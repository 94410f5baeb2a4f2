/* net.h - the float network of the workshop: description, forward, backward.
 *
 * The layers are those of model.h (CONV1D, MAXPOOL1D, FLATTEN, DENSE) with the same layouts:
 * activations time-major, channel-minor, conv weights [out][tap][in], dense weights [out][in]. All
 * parameters lie in one vector, so the optimizer, the reduction of gradients and the determinism
 * test see plain arrays.
 *
 * Several windows ("a shard") are computed at once. The activations of a shard are the windows'
 * columns one after the other, `pitch` columns apart. A valid convolution over this long row of
 * columns is a product of overlapping rows; BLAS wants the rows disjoint, so it is computed as
 * `taps` products, each over every taps-th column: no im2col. Columns of the result that straddle
 * two windows are void: kept at zero, and out of every sum.
 *
 * Training may put batch normalization (Ioffe, Szegedy 2015) between a convolution and its ReLU.
 * Its statistics are those of one shard ("ghost batch", Hoffer et al. 2017), so that shards are
 * independent and the result does not depend on the number of threads. convert.h folds it into the
 * convolution: a model file has none.
 *
 * A net may compute what the INT8 engine computes (quantize_real makes such a net): its inputs and
 * the outputs of its layers are then rounded to levels. Backward passes the gradient straight
 * through the rounding where a value lies within its levels, and 0 where it was clipped (Jacob et
 * al. 2018; Bengio et al. 2013).
 *
 * A net may be read from many threads; a net_work belongs to one thread at a time.
 */
#ifndef WORKSHOP_NET_H
#define WORKSHOP_NET_H

#include <stddef.h>
#include <stdint.h>

#include "inference/model.h"

#define NET_MAX_BLOCKS 12u

/* What a new network looks like: `conv_count` times convolution, ReLU and pool (pool 1: none), then
 * hidden dense layers with ReLU, then the dense layer that makes the logits. */
struct net_spec {
    enum model_head head;
    uint32_t window, channels, class_count;
    uint32_t conv_count, hidden_count;
    struct {
        uint32_t width, taps, pool;
    } conv[NET_MAX_BLOCKS];
    uint32_t hidden[NET_MAX_BLOCKS];
    int norm; /* batch normalization after each convolution */
};

struct net_layer {
    enum model_op op;
    int relu, norm;
    uint32_t in_channels, out_channels, in_columns, out_columns, taps, pool;
    uint32_t in_pitch, out_pitch; /* columns from one window of a shard to the next */
    size_t weights, weight_count; /* offsets into params */
    size_t bias, gamma;           /* bias is beta under norm; gamma only with norm */
    size_t mean, variance;        /* offsets into stats, only with norm */
    float step, least, most; /* levels of the output, whole steps from least to most; step 0: any */
    char name[MODEL_LABEL_BYTES];
};

struct net {
    enum model_head head;
    uint32_t window, channels, class_count, layer_count;
    struct net_layer layers[MODEL_MAX_LAYERS];
    float *params;
    size_t param_count;
    float *stats; /* running mean and variance of the norm layers */
    size_t stat_count;
    struct {
        float step, offset; /* levels of an input channel: step * n + offset; step 0: any value */
    } inputs[MODEL_MAX_CHANNELS];
};

/* Makes a net with all parameters zero (gamma and variances one). 0, -EINVAL (geometry; why says
 * which layer), -ENOMEM. */
int net_create(const struct net_spec *spec, struct net **out, char *why, size_t why_size);

/* The same from a list of layers of which op, relu, norm, name, out_channels, taps and pool are
 * set: the rest is derived. */
int net_from_layers(enum model_head head, uint32_t window, uint32_t channels,
                    const struct net_layer *layers, uint32_t layer_count, struct net **out,
                    char *why, size_t why_size);
int net_clone(const struct net *net, struct net **out); /* 0, -ENOMEM */
void net_free(struct net *net);

/* Draws the weights (He et al. 2015), seeded; biases zero. */
void net_init(struct net *net, uint64_t seed);

/* Activations, gradients and masks of up to `windows` windows. */
struct net_work;
int net_work_create(const struct net *net, uint32_t windows,
                    struct net_work **out); /* 0, -ENOMEM */
void net_work_free(struct net_work *w);

/* Where the caller puts the shard's input, [windows][window][channels]. */
float *net_work_input(struct net_work *w);

/* How net_forward is to treat the shard. All zero: as deployed (running statistics, no dropout). */
struct net_mode {
    int train;     /* statistics of the shard, dropout */
    float dropout; /* share of inputs of each dense layer set to 0; the others are scaled up */
    uint64_t seed; /* of the dropout masks */
};

/* Forward over the first n windows of the input. Returns the logits [n][class_count], valid until
 * the next call. */
const float *net_forward(const struct net *net, struct net_work *w, uint32_t n,
                         const struct net_mode *mode);

/* Backward of the last net_forward. d_logits [n][class_count]; gradient [param_count] is
 * overwritten. */
void net_backward(const struct net *net, struct net_work *w, const float *d_logits,
                  float *gradient);

/* Mean and variance that the last training forward saw, laid out as net->stats. */
const float *net_work_stats(const struct net_work *w);

/* Output of layer i for the last forward, [n][out_pitch][out_channels]: void columns are zero. */
const float *net_work_output(const struct net_work *w, uint32_t layer);

/* --- Losses (net_loss.c), natural log --- */

/* Adds `share` of a one-hot target to target [class_count]; softmax: smoothed (Szegedy et al. 2016,
 * section 7). Targets start at zero; mixed ones are sums of shares. */
void net_add_target(enum model_head head, uint32_t class_count, uint32_t label, float share,
                    float smoothing, float *target);

/* Targets of a sum: target [class_count] becomes 1 where `on` has the class's bit, else 0. */
void net_set_targets(uint32_t class_count, uint32_t on, float *target);

/* Loss against targets [n][class_count], and its gradient by the logits into d_logits. Softmax:
 * cross-entropy. Sigmoid: binary cross-entropy, mean over classes. weights [n] multiply each
 * window's loss (NULL: 1), scale all gradients: 1/batch over all shards. Returns the sum over the n
 * windows, without scale. */
double net_loss(const struct net *net, const float *logits, const float *targets,
                const float *weights, uint32_t n, float scale, float *d_logits);

/* Distillation (Hinton, Vinyals, Dean 2015): T^2 times the divergence of the student's
 * probabilities at temperature T from the teacher's at T, teacher [n][class_count] (sigmoid: mean
 * over classes of both outcomes). Its gradient is added to d_logits. Returns as net_loss does. */
double net_loss_teacher(const struct net *net, const float *logits, const float *teacher,
                        const float *weights, float temperature, uint32_t n, float scale,
                        float *d_logits);

/* Logits to probabilities with the head, in place allowed. */
void net_probabilities(enum model_head head, uint32_t class_count, const float *logits,
                       float *probabilities);

/* Features of one window: watts [window + 1] (the first is the predecessor) to out
 * [window][channel_count], by the formulas of model.h. */
void net_features(const struct model_channel *channels, uint32_t channel_count, uint32_t window,
                  const float *watts, float *out);

/* Runs an FP32 model file's network on whole windows: what `eval` and `compare` use. Made from a
 * decoded MODEL_FP32; the model may be freed afterwards. Not thread-safe: one predictor per thread.
 * Makes OpenBLAS single-threaded. 0, -EINVAL (not FP32; why), -ENOMEM. */
struct net_predictor;
int net_predictor_create(const struct model *m, struct net_predictor **out, char *why,
                         size_t why_size);
void net_predictor_free(struct net_predictor *p);

/* watts [count][window + 1] to probabilities [count][class_count]; any count (computed in shards).
 */
void net_predict(struct net_predictor *p, const float *watts, size_t count, float *probabilities);

/* The same without the head. */
void net_predict_logits(struct net_predictor *p, const float *watts, size_t count, float *logits);

#endif
