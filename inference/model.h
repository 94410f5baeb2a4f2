/* model.h - the nilm model file (SPEC.md section 1): an untrusted byte string in, a checked view
 * out.
 *
 * The same structure is read (model_decode) and written (model_encode), so what the workshop writes
 * is by construction what the agent checks. A decoded model owns one copy of the file's bytes and
 * its pointers lead into that copy; nothing in it is modified after model_decode returns, so it may
 * be read from any thread. All functions are thread-safe on different objects.
 */
#ifndef INFERENCE_MODEL_H
#define INFERENCE_MODEL_H

#include <stddef.h>
#include <stdint.h>

#define MODEL_MAX_BYTES (64u << 20) /* a model file is never larger */
#define MODEL_MAX_LAYERS 32u
#define MODEL_MAX_CLASSES 256u
#define MODEL_MAX_CHANNELS 8u  /* input features */
#define MODEL_MAX_WIDTH 1024u  /* channels of a convolution */
#define MODEL_MAX_UNITS 65536u /* inputs or outputs of a dense layer */
#define MODEL_MAX_TAPS 64u
#define MODEL_MAX_POOL 16u
#define MODEL_MAX_WINDOW 16384u /* samples */
#define MODEL_MAX_GOLDEN 64u
#define MODEL_LABEL_BYTES 32u /* with the final NUL */
#define MODEL_LEVELS 255u     /* thresholds between the 256 levels of an int8 input */

enum model_dtype { MODEL_FP32 = 1, MODEL_INT8 = 2 };
enum model_head { MODEL_SOFTMAX = 1, MODEL_SIGMOID = 2 };

/* What one input channel is made of, from the power w[t] in watts on the model's grid. */
enum model_feature {
    MODEL_LINEAR = 1,  /* clamp(w, 0, full) / full                             */
    MODEL_LOG = 2,     /* log1p(clamp(w, 0, full)) / log1p(full)               */
    MODEL_LOG_DIFF = 3 /* with d = clamp(w[t] - w[t-1], -full, full):
                          sign(d) log1p(|d|) / log1p(full)                     */
};

enum model_op { MODEL_CONV1D = 1, MODEL_MAXPOOL1D = 2, MODEL_FLATTEN = 3, MODEL_DENSE = 4 };

/* One input channel. For INT8 the quantized value of feature input x (w, or the difference) is the
 * number of thresholds that are <= x, minus 128: no transcendental function runs on the device, so
 * every processor computes the same bits. Thresholds ascend (equal ones are allowed) and are
 * finite. */
struct model_channel {
    enum model_feature feature;
    float full;              /* watts, > 0 */
    const float *thresholds; /* MODEL_LEVELS of them (INT8), else NULL */
};

/* One layer. Activations are time-major, channel-minor: element (column t, channel c) is at
 * t*channels+c. in_columns and the rest of the geometry are derived by model_decode and must agree
 * in model_encode.
 *
 * - CONV1D: valid convolution, stride 1, weights [out][tap][in];
 *   out_columns = in_columns - taps + 1
 * - MAXPOOL1D: size = stride = pool, a remainder of columns is left out;
 *   out_columns = in_columns / pool
 * - FLATTEN: keeps the time-major order; in_columns * in_channels inputs become one column
 * - DENSE: weights [out][in], one column
 *
 * INT8 arithmetic, all in integers, the one rounding rule of the project:
 * - acc = bias[o] + sum(weights * (x - in_zero)), int32, cannot overflow (loader bound, SPEC 1.7.2)
 * - y = clamp(out_zero + ((acc * multiplier[o] + 2^(shift[o]-1)) >> shift[o]), lo, 127)
 *
 * with an arithmetic 64-bit shift (round half up) and lo = out_zero if relu, else -128.
 * multiplier is in [2^30, 2^31), shift in [31, 62].
 *
 * The last layer (always DENSE, never relu) is not re-quantized: its logit is
 * (float)acc * logit_scale[o], and its out_scale and out_zero are 0. FP32 has no scales and zero
 * points at all. What a layer does not have is 0 or NULL after model_decode and not looked at by
 * model_encode.
 *
 * Order: CONV1D and MAXPOOL1D as many as wanted, one FLATTEN, DENSE once or more. The scale and
 * zero point of a layer's input are those of the output before it. Names are unique; layers without
 * weights may go without one.
 */
struct model_layer {
    enum model_op op;
    int relu; /* fused, CONV1D and DENSE only */
    uint32_t in_channels, out_channels;
    uint32_t in_columns, out_columns;
    uint32_t taps;                /* CONV1D; else 0 */
    uint32_t pool;                /* MAXPOOL1D; else 0 */
    char name[MODEL_LABEL_BYTES]; /* "conv1", "dense2": for messages and for pruning by name */

    const float *weights_f32, *bias_f32; /* FP32 */

    const int8_t *weights;      /* INT8, symmetric, in [-127, 127] */
    const int32_t *bias;        /* [out] */
    const float *weight_scale;  /* [out], > 0: real weight = weight_scale[o] * weights[o][...] */
    const uint32_t *multiplier; /* [out]; NULL for the last layer */
    const uint8_t *shift;       /* [out]; NULL for the last layer */
    const float *logit_scale;   /* [out]; only the last layer: in_scale * weight_scale[o] */
    float in_scale, out_scale;  /* real = scale * (q - zero); POOL and FLATTEN: in == out */
    int8_t in_zero, out_zero;
};

/* A golden vector: window+1 grid samples in watts (the first is the predecessor that differences
 * need) and the logits that the engine must reproduce bit for bit. */
struct model_golden {
    const float *watts;
    const float *logits;
};

struct model {
    enum model_dtype dtype;
    enum model_head head;
    uint32_t version;               /* of this model within its family; only goes up in the field */
    char family[MODEL_LABEL_BYTES]; /* "identify": which models may replace each other */
    uint32_t window;                /* grid samples that one classification sees */
    uint32_t period_ms;             /* of the grid */
    uint32_t hop;         /* recommended grid samples between two classifications, 1..window */
    float reject;         /* a largest probability below this is "unknown"; 0 = never */
    float min_activity_w; /* a window whose largest sample is below this is "off", not classified */
    uint32_t channel_count, layer_count, class_count, golden_count;
    struct model_channel channels[MODEL_MAX_CHANNELS];
    struct model_layer layers[MODEL_MAX_LAYERS];
    const char (*labels)[MODEL_LABEL_BYTES]; /* [class_count], UTF-8, unique, not empty */
    const struct model_golden *golden;       /* [golden_count] */
    const char *meta; /* UTF-8 "key=value" lines: attribution, command, ...; NUL-terminated */
    void *owner;      /* private to model.c; NULL in a model built by hand for model_encode */
};

/* Decodes and checks size bytes at data (copied; the caller keeps them). On success *out is a new
 * model to be released with model_free. On failure *out is NULL and why (why_size bytes, may be
 * NULL) says which section and field is wrong and what was expected. Returns 0, -EBADMSG (not a
 * valid model), -ENOTSUP (a newer format or an unknown flag), -EFBIG, -ENOMEM. */
int model_decode(const void *data, size_t size, struct model **out, char *why, size_t why_size);

/* The same from a file; additionally -errno of opening or reading it. The text names the path. */
int model_decode_file(const char *path, struct model **out, char *why, size_t why_size);

/* Writes m as a model file into a new buffer (*data, *size; free() it). Checks the same rules as
 * model_decode and returns -EINVAL with the reason in why when m breaks one, -ENOMEM. Same model,
 * same bytes. */
int model_encode(const struct model *m, void **data, size_t *size, char *why, size_t why_size);

/* Releases a decoded model; NULL is allowed. A model built by hand is its builder's to release. */
void model_free(struct model *m);

/* Parameters (weights and biases) and multiply-accumulates for one whole window. */
uint64_t model_parameters(const struct model *m);
uint64_t model_macs(const struct model *m);

/* The value of key in meta, copied NUL-terminated into value. Returns 0, -ENOENT, -ENOSPC. */
int model_meta(const struct model *m, const char *key, char *value, size_t value_size);

/* For models of a sum (SPEC 1.12). Both read the record's text: once when a model is taken up, not
 * for each window. Output c says whether load c was on at the sample that lies so many grid samples
 * before the window's last one: the record's `lag`, or window / 4. */
uint32_t model_lag(const struct model *m);

/* The probability from which load `class` (below class_count) is best called on: the record's
 * `thresholds`, or 0.5. */
float model_threshold(const struct model *m, uint32_t class);

#endif
