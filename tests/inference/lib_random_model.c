/* lib_random_model.c - see lib_random_model.h. */
#include "inference/lib_random_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/lib_reference.h"

#define MAX_BLOCKS 512

struct random_model {
    struct model m; /* first */
    char (*labels)[MODEL_LABEL_BYTES];
    void *blocks[MAX_BLOCKS];
    unsigned block_count;
};

uint64_t random_next(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint32_t random_below(uint64_t *state, uint32_t bound)
{
    return (uint32_t)(random_next(state) >> 32) % bound;
}

static float random_unit(uint64_t *state)
{
    return (float)random_below(state, 1u << 24) / (float)(1u << 24);
}

static void *block(struct random_model *r, size_t size)
{
    void *p = calloc(1, size ? size : 1);

    if (!p || r->block_count == MAX_BLOCKS)
        abort();
    r->blocks[r->block_count++] = p;
    return p;
}

void random_watts(uint64_t *state, float *watts, uint32_t count)
{
    float level = 0.0f;

    for (uint32_t i = 0; i < count; i++) {
        if (random_below(state, 12) == 0)
            level = random_below(state, 3) ? 3000.0f * random_unit(state) : 0.0f;
        watts[i] = random_below(state, 2) ? (float)(int)level : level + 5.0f * random_unit(state);
        if (random_below(state, 60) == 0)
            watts[i] = random_below(state, 2) ? -50.0f : 3.0e38f;
    }
}

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void fill_channels(struct random_model *r, uint64_t *s)
{
    for (uint32_t i = 0; i < r->m.channel_count; i++) {
        struct model_channel *c = &r->m.channels[i];
        float *levels;

        c->feature = (enum model_feature)(1 + random_below(s, 3));
        c->full = 3000.0f;
        if (r->m.dtype != MODEL_INT8)
            continue;
        levels = block(r, MODEL_LEVELS * sizeof(float));
        for (unsigned k = 0; k < MODEL_LEVELS; k++) {
            float u = random_unit(s);
            levels[k] = 3000.0f * u * u * u; /* no libm: the same model on every machine */
            if (i % 2 == 0) /* whole watts, so that samples hit thresholds exactly */
                levels[k] = (float)(int)levels[k];
            if (c->feature == MODEL_LOG_DIFF && random_below(s, 2))
                levels[k] = -levels[k];
            if (k > 0 && random_below(s, 20) == 0)
                levels[k] = levels[k - 1];
        }
        qsort(levels, MODEL_LEVELS, sizeof(float), compare_floats);
        c->thresholds = levels;
    }
}

static int8_t random_weight(uint64_t *s, unsigned taste)
{
    if (taste == 0)
        return random_below(s, 2) ? 127 : -127;
    if (taste == 1)
        return random_below(s, 4) ? 0 : (int8_t)((int)random_below(s, 255) - 127);
    return (int8_t)((int)random_below(s, 255) - 127);
}

static void fill_int8(struct random_model *r, struct model_layer *l, int last, uint64_t *s)
{
    uint32_t row = l->in_channels * (l->op == MODEL_CONV1D ? l->taps : 1);
    int8_t *w = block(r, (size_t)row * l->out_channels);
    int32_t *bias = block(r, l->out_channels * sizeof(int32_t));
    float *ws = block(r, l->out_channels * sizeof(float));
    float *ls = block(r, l->out_channels * sizeof(float));
    uint32_t *mul = block(r, l->out_channels * sizeof(uint32_t));
    uint8_t *shift = block(r, l->out_channels);

    for (uint32_t o = 0; o < l->out_channels; o++) {
        unsigned taste = random_below(s, 6);
        int64_t sum = 0;
        double typical;
        int exponent;

        for (uint32_t k = 0; k < row; k++) {
            w[(size_t)o * row + k] = random_weight(s, taste);
            sum += abs(w[(size_t)o * row + k]);
        }
        if (random_below(s, 10) == 0) /* as far as the loader goes */
            bias[o] = (int32_t)((random_below(s, 2) ? 1 : -1) * ((int64_t)INT32_MAX - 256 * sum));
        else
            bias[o] = (int32_t)random_below(s, 20001) - 10000;
        ws[o] = 0.001f + random_unit(s);
        ls[o] = l->in_scale * ws[o];
        mul[o] = (1u << 30) + random_below(s, 1u << 30);
        typical = 1.0 + 74.0 * 74.0 * sqrt((double)row) / 100.0;
        frexp(typical, &exponent);
        exponent += 30 + (int)random_below(s, 3) - 1;
        shift[o] = (uint8_t)(exponent < 31 ? 31 : exponent > 62 ? 62 : exponent);
        if (random_below(s, 40) == 0)
            shift[o] = random_below(s, 2) ? 31 : 62;
    }
    l->weights = w;
    l->bias = bias;
    l->weight_scale = ws;
    if (last) {
        l->logit_scale = ls;
    } else {
        l->multiplier = mul;
        l->shift = shift;
    }
}

static void fill_fp32(struct random_model *r, struct model_layer *l, uint64_t *s)
{
    uint32_t row = l->in_channels * (l->op == MODEL_CONV1D ? l->taps : 1);
    float *w = block(r, (size_t)row * l->out_channels * sizeof(float));
    float *bias = block(r, l->out_channels * sizeof(float));

    for (size_t k = 0; k < (size_t)row * l->out_channels; k++)
        w[k] = random_unit(s) - 0.5f;
    for (uint32_t o = 0; o < l->out_channels; o++)
        bias[o] = random_unit(s);
    l->weights_f32 = w;
    l->bias_f32 = bias;
}

/* Shapes, scales and arrays for the ops that the caller has chosen. */
static void fill_layers(struct random_model *r, uint64_t *s)
{
    uint32_t channels = r->m.channel_count, columns = r->m.window;
    float scale = 0.01f;
    int8_t zero = (int8_t)((int)random_below(s, 256) - 128);

    for (uint32_t i = 0; i < r->m.layer_count; i++) {
        struct model_layer *l = &r->m.layers[i];
        int last = i + 1 == r->m.layer_count;
        int weights = l->op == MODEL_CONV1D || l->op == MODEL_DENSE;

        l->in_channels = channels;
        l->in_columns = columns;
        if (l->op == MODEL_CONV1D)
            columns = columns - l->taps + 1;
        else if (l->op == MODEL_MAXPOOL1D)
            columns /= l->pool;
        if (l->op == MODEL_FLATTEN) {
            l->out_channels = channels * columns;
            columns = 1;
        } else if (l->op == MODEL_MAXPOOL1D) {
            l->out_channels = channels;
        }
        channels = l->out_channels;
        l->out_columns = columns;
        if (weights)
            snprintf(l->name, sizeof(l->name), "%s%u", l->op == MODEL_CONV1D ? "conv" : "dense", i);
        if (r->m.dtype == MODEL_INT8) {
            l->in_scale = scale;
            l->in_zero = zero;
            if (weights) {
                scale = 0.001f + 0.1f * random_unit(s);
                zero = (int8_t)((int)random_below(s, 256) - 128);
            }
            l->out_scale = last ? 0.0f : scale;
            l->out_zero = last ? 0 : zero;
        }
        if (weights && r->m.dtype == MODEL_INT8)
            fill_int8(r, l, last, s);
        else if (weights)
            fill_fp32(r, l, s);
    }
}

static struct random_model *start(enum model_dtype dtype, uint32_t window, uint32_t classes)
{
    struct random_model *r = calloc(1, sizeof(*r));

    if (!r)
        abort();
    r->m.dtype = dtype;
    r->m.head = MODEL_SOFTMAX;
    r->m.version = 7;
    strcpy(r->m.family, "identify");
    r->m.window = window;
    r->m.period_ms = 1000;
    r->m.class_count = classes;
    r->m.reject = 0.5f;
    r->m.min_activity_w = 10.0f;
    r->labels = block(r, (size_t)classes * MODEL_LABEL_BYTES);
    for (uint32_t i = 0; i < classes; i++)
        snprintf(r->labels[i], MODEL_LABEL_BYTES, "class %u \xc3\xa4", i);
    r->m.labels = (const char(*)[MODEL_LABEL_BYTES])r->labels;
    r->m.meta = "source=random\ncommand=test\n";
    return r;
}

static struct model_layer *add(struct random_model *r, enum model_op op)
{
    struct model_layer *l = &r->m.layers[r->m.layer_count++];

    l->op = op;
    return l;
}

static void add_conv(struct random_model *r, uint32_t width, uint32_t taps, int relu)
{
    struct model_layer *l = add(r, MODEL_CONV1D);

    l->out_channels = width;
    l->taps = taps;
    l->relu = relu;
}

static void add_dense(struct random_model *r, uint32_t units, int relu)
{
    struct model_layer *l = add(r, MODEL_DENSE);

    l->out_channels = units;
    l->relu = relu;
}

/* One more than the largest of each. */
struct limits {
    uint32_t window, taps, pool, width, units;
};

static struct model *create(uint64_t seed, enum model_dtype dtype, const struct limits *most)
{
    uint64_t s = seed;
    struct random_model *r =
        start(dtype, 1 + random_below(&s, most->window - 1), 1 + random_below(&s, 9));
    uint32_t columns = r->m.window, convs = 1 + random_below(&s, 5), hidden = random_below(&s, 3);

    r->m.head = random_below(&s, 2) ? MODEL_SOFTMAX : MODEL_SIGMOID;
    r->m.hop = 1 + random_below(&s, r->m.window);
    r->m.channel_count = 1 + random_below(&s, MODEL_MAX_CHANNELS);
    for (uint32_t i = 0; i < convs; i++) {
        uint32_t taps = 1 + random_below(&s, most->taps - 1);
        uint32_t pool = 1 + random_below(&s, most->pool - 1);

        if (taps <= columns) {
            add_conv(r, 1 + random_below(&s, most->width - 1), taps, (int)random_below(&s, 2));
            columns -= taps - 1;
        }
        if (pool <= columns && random_below(&s, 3)) {
            add(r, MODEL_MAXPOOL1D)->pool = pool;
            columns /= pool;
        }
    }
    add(r, MODEL_FLATTEN);
    for (uint32_t i = 0; i < hidden; i++)
        add_dense(r, 1 + random_below(&s, most->units - 1), (int)random_below(&s, 2));
    add_dense(r, r->m.class_count, 0);
    fill_channels(r, &s);
    fill_layers(r, &s);
    return &r->m;
}

struct model *random_model_create(uint64_t seed, enum model_dtype dtype)
{
    static const struct limits most = {201, 8, 6, 20, 41};

    return create(seed, dtype, &most);
}

struct model *random_model_wide(uint64_t seed)
{
    static const struct limits most = {601, 10, 6, 151, 161};

    return create(seed, MODEL_INT8, &most);
}

struct model *random_model_article(uint64_t seed, enum model_dtype dtype)
{
    static const uint32_t widths[] = {16, 32, 64, 64, 96}, taps[] = {7, 5, 5, 3, 3};
    uint64_t s = seed;
    struct random_model *r = start(dtype, 512, 32);

    r->m.hop = 32;
    r->m.channel_count = 3;
    for (int i = 0; i < 5; i++) {
        add_conv(r, widths[i], taps[i], 1);
        add(r, MODEL_MAXPOOL1D)->pool = 2;
    }
    add(r, MODEL_FLATTEN);
    add_dense(r, 128, 1);
    add_dense(r, 32, 0);
    fill_channels(r, &s);
    fill_layers(r, &s);
    return &r->m;
}

void random_model_add_golden(struct model *m, uint64_t seed, uint32_t count)
{
    struct random_model *r = (struct random_model *)m;
    struct model_golden *golden = block(r, count * sizeof(*golden));

    for (uint32_t i = 0; i < count; i++) {
        float *watts = block(r, (m->window + 1) * sizeof(float));
        float *logits = block(r, m->class_count * sizeof(float));

        random_watts(&seed, watts, m->window + 1);
        reference_run(m, watts, logits);
        golden[i].watts = watts;
        golden[i].logits = logits;
    }
    m->golden = golden;
    m->golden_count = count;
}

void random_model_free(struct model *m)
{
    struct random_model *r = (struct random_model *)m;

    if (!r)
        return;
    for (unsigned i = 0; i < r->block_count; i++)
        free(r->blocks[i]);
    free(r);
}
