/* test_engine_extremes.c - the loader's bound (SPEC 1.7.2), reached exactly: the longest rows that
 * a file can have, weights of 127 and -127, inputs of -128 and 127, all zero points, the largest
 * biases, multipliers and shifts. Every kernel set of this machine gives the bits of a reference in
 * 64 bits; under UndefinedBehaviorSanitizer no sum overflows. One more in a bias is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "inference/engine.h"
#include "inference/lib_reference.h"

/* Outputs: five patterns of signs, and no weights at all; each with a bias of either sign, the
 * least and largest shift, and by turns the least and largest multiplier. */
enum { PATTERNS = 6, OUTPUTS = PATTERNS * 4, MAX_LAYERS = 4 };

static const char *const sets[] = {"scalar",     "avx2", "avxvnni",
                                   "avx512vnni", "neon", "neon_dotprod"};

struct extreme {
    struct model m;
    float thresholds[MODEL_LEVELS];
    char labels[OUTPUTS][MODEL_LABEL_BYTES];
    void *blocks[8 * MAX_LAYERS];
    unsigned block_count;
};

static void *block(struct extreme *x, size_t size)
{
    void *p = calloc(1, size);

    assert_non_null(p);
    x->blocks[x->block_count++] = p;
    return p;
}

static int8_t weight(unsigned pattern, uint32_t k, uint32_t row)
{
    switch (pattern) {
    case 0:
        return 127;
    case 1:
        return -127;
    case 2: /* the partial sums go far out and come back */
        return k < row / 2 ? 127 : -127;
    case 3:
        return k < row / 2 ? -127 : 127;
    case 4: /* with inputs that alternate, too: the largest sum again */
        return k % 2 ? 127 : -127;
    default:
        return 0;
    }
}

/* Weights as above, and every bias as large as the bound allows. */
static void fill(struct extreme *x, struct model_layer *l, int last)
{
    uint32_t n = l->out_channels, row = l->in_channels * (l->op == MODEL_CONV1D ? l->taps : 1);
    int8_t *w = block(x, (size_t)row * n);
    int32_t *bias = block(x, n * sizeof(int32_t));
    float *scale = block(x, n * sizeof(float)), *logit = block(x, n * sizeof(float));
    uint32_t *multiplier = block(x, n * sizeof(uint32_t));
    uint8_t *shift = block(x, n);

    for (uint32_t o = 0; o < n; o++) {
        int64_t sum = 0;

        for (uint32_t k = 0; k < row; k++) {
            w[(size_t)o * row + k] = weight(o / 4 % PATTERNS, k, row);
            sum += abs(w[(size_t)o * row + k]);
        }
        bias[o] = (int32_t)((o & 1 ? -1 : 1) * (INT32_MAX - 256 * sum));
        multiplier[o] = o & 4 ? 1u << 30 : (1u << 31) - 1;
        shift[o] = o & 2 ? 62 : 31;
        scale[o] = 1.0f;
        logit[o] = l->in_scale * scale[o];
    }
    l->weights = w;
    l->bias = bias;
    l->weight_scale = scale;
    if (last) {
        l->logit_scale = logit;
    } else {
        l->multiplier = multiplier;
        l->shift = shift;
    }
}

/* Derives the shapes, and fills the arrays. zero: of all activations. */
static void finish(struct extreme *x, int8_t zero)
{
    uint32_t channels = x->m.channel_count, columns = x->m.window;

    for (uint32_t i = 0; i < x->m.layer_count; i++) {
        struct model_layer *l = &x->m.layers[i];
        int last = i + 1 == x->m.layer_count;

        l->in_channels = channels;
        l->in_columns = columns;
        columns = l->op == MODEL_CONV1D      ? columns - l->taps + 1
                  : l->op == MODEL_MAXPOOL1D ? columns / l->pool
                                             : 1;
        if (l->op == MODEL_FLATTEN)
            l->out_channels = channels * l->in_columns;
        else if (l->op == MODEL_MAXPOOL1D)
            l->out_channels = channels;
        channels = l->out_channels;
        l->out_columns = columns;
        l->in_scale = 0.01f;
        l->in_zero = zero;
        l->out_scale = last ? 0.0f : 0.01f;
        l->out_zero = last ? 0 : zero;
        snprintf(l->name, sizeof l->name, "layer%u", i);
        if (l->op == MODEL_CONV1D || l->op == MODEL_DENSE)
            fill(x, l, last);
    }
    x->m.class_count = channels;
    for (uint32_t i = 0; i < channels; i++)
        snprintf(x->labels[i], sizeof x->labels[i], "class %u", i);
    x->m.labels = (const char(*)[MODEL_LABEL_BYTES])x->labels;
}

static struct model_layer *add(struct extreme *x, enum model_op op, uint32_t outputs)
{
    struct model_layer *l = &x->m.layers[x->m.layer_count++];

    l->op = op;
    l->out_channels = outputs;
    return l;
}

/* Every level is -128 below 100 W and 127 from there on. */
static struct extreme *start(uint32_t window, uint32_t channels)
{
    struct extreme *x = calloc(1, sizeof *x);

    assert_non_null(x);
    for (unsigned i = 0; i < MODEL_LEVELS; i++)
        x->thresholds[i] = 100.0f;
    x->m = (struct model){.dtype = MODEL_INT8,
                          .head = MODEL_SOFTMAX,
                          .version = 1,
                          .family = "identify",
                          .window = window,
                          .period_ms = 1000,
                          .hop = window,
                          .channel_count = channels,
                          .meta = "source=extremes\n"};
    for (uint32_t c = 0; c < channels; c++)
        x->m.channels[c] = (struct model_channel){MODEL_LINEAR, 3000.0f, x->thresholds};
    return x;
}

static void destroy(struct extreme *x)
{
    for (unsigned i = 0; i < x->block_count; i++)
        free(x->blocks[i]);
    free(x);
}

/* A dense layer over 65536 values, as the last one or before it. */
static struct extreme *make_dense(int8_t zero, int last)
{
    struct extreme *x = start(16384, 4);

    add(x, MODEL_FLATTEN, 0);
    if (!last)
        add(x, MODEL_DENSE, OUTPUTS)->relu = 1;
    add(x, MODEL_DENSE, last ? OUTPUTS : 5);
    finish(x, zero);
    return x;
}

/* A convolution over 64 taps of 1024 channels, which the one before drives to -128 and 127. */
static struct extreme *make_convolution(int8_t zero, int pooled)
{
    struct extreme *x = start(67, 8);
    struct model_layer *l = add(x, MODEL_CONV1D, MODEL_MAX_WIDTH);

    l->taps = 1;
    l = add(x, MODEL_CONV1D, OUTPUTS);
    l->taps = MODEL_MAX_TAPS;
    if (pooled)
        add(x, MODEL_MAXPOOL1D, 0)->pool = 2;
    add(x, MODEL_FLATTEN, 0);
    if (!pooled)
        x->m.layers[1].relu = 1;
    add(x, MODEL_DENSE, 7);
    finish(x, zero);
    return x;
}

/* Whole and streamed, by every set, against the reference. Returns how many sets there were. */
static unsigned check_watts(const struct model *m, const float *watts)
{
    float expected[MODEL_MAX_CLASSES], logits[MODEL_MAX_CLASSES];
    size_t bytes = m->class_count * sizeof(float);
    unsigned checked = 0;

    reference_run(m, watts, expected);
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        void *state, *scratch;
        struct engine *e;
        int due = 0;

        assert_int_equal(setenv("NILM_CPU", sets[i], 1), 0);
        if (engine_create(m, 0, &e, NULL, 0) == -ENOTSUP)
            continue;
        assert_int_equal(posix_memalign(&state, ENGINE_ALIGN, engine_state_bytes(e)), 0);
        assert_int_equal(posix_memalign(&scratch, ENGINE_ALIGN, engine_scratch_bytes(e)), 0);
        engine_run(e, scratch, watts, logits);
        if (memcmp(logits, expected, bytes) != 0)
            fail_msg("whole window, %s", sets[i]);
        engine_reset(e, state);
        memset(logits, 0, sizeof logits);
        for (uint32_t t = 1; t <= m->window; t++)
            due += engine_push(e, state, scratch, watts[t], logits);
        assert_int_equal(due, 1);
        if (memcmp(logits, expected, bytes) != 0)
            fail_msg("streamed, %s", sets[i]);
        free(state);
        free(scratch);
        engine_free(e);
        checked++;
    }
    unsetenv("NILM_CPU");
    return checked;
}

static void check_inputs(const struct model *m)
{
    float *watts = malloc((m->window + 1) * sizeof(float));

    assert_non_null(watts);
    for (int kind = 0; kind < 4; kind++) {
        for (uint32_t t = 0; t <= m->window; t++)
            watts[t] = kind == 0   ? 0.0f
                       : kind == 1 ? 3000.0f
                       : kind == 2 ? (float)(t % 2) * 3000.0f
                                   : (float)(t > m->window / 2) * 3000.0f;
        assert_true(check_watts(m, watts) >= 1);
    }
    free(watts);
}

/* The file at the bound is taken; one more, of either sign, in any layer, is not. */
static void check_bound(struct extreme *x)
{
    struct model *decoded;
    void *file;
    size_t size;
    char why[256] = "";

    if (model_encode(&x->m, &file, &size, why, sizeof why) != 0)
        fail_msg("%s", why);
    assert_int_equal(model_decode(file, size, &decoded, why, sizeof why), 0);
    free(file);
    check_inputs(decoded);
    model_free(decoded);
    for (uint32_t i = 0; i < x->m.layer_count; i++) {
        const struct model_layer *l = &x->m.layers[i];
        uint32_t outputs = l->bias ? l->out_channels : 0;

        for (uint32_t o = 0; o<outputs; o += outputs> 8 ? outputs / 4 + 1 : 1) {
            int32_t *bias = (int32_t *)l->bias + o, was = *bias;

            *bias = was >= 0 ? (was == INT32_MAX ? INT32_MIN : was + 1) : was - 1;
            assert_int_equal(model_encode(&x->m, &file, &size, why, sizeof why), -EINVAL);
            assert_non_null(strstr(why, "could overflow its 32-bit sum"));
            *bias = was;
        }
    }
}

static const int8_t zeros[] = {-128, 0, 127};

static void test_dense(void **state)
{
    (void)state;
    for (size_t z = 0; z < sizeof zeros; z++)
        for (int last = 0; last < 2; last++) {
            struct extreme *x = make_dense(zeros[z], last);

            assert_int_equal(x->m.layers[1].in_channels, MODEL_MAX_UNITS);
            check_bound(x);
            destroy(x);
        }
}

static void test_convolution(void **state)
{
    (void)state;
    for (size_t z = 0; z < sizeof zeros; z++)
        for (int pooled = 0; pooled < 2; pooled++) {
            struct extreme *x = make_convolution(zeros[z], pooled);

            check_bound(x);
            destroy(x);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dense),
        cmocka_unit_test(test_convolution),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
