/* engine.c - runs an INT8 model. The method of streaming is explained in engine_plan.h. */
#include "inference/engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "inference/engine_input.h"
#include "inference/engine_plan.h"
#include "inference/kernels.h"
#include "inference/model_format.h"

struct engine {
    const struct model *model;
    const struct kernels *kernels;
    uint32_t hop;
    uint32_t first_turn; /* samples until the first turn, 1..hop */
    uint32_t warm_turns; /* turns before the first whole window */
    size_t state_bytes;  /* of one meter */
    size_t buffer_bytes; /* of each of the two activation buffers in the scratch, a multiple of
                            ENGINE_ALIGN */
    size_t scratch_bytes;
    size_t batch_bytes; /* of each of the two buffers of dense activations of a batch */
    struct engine_plan stream, whole;
    struct kernels_layer layers[MODEL_MAX_LAYERS];
    struct engine_input input;
    void *packed;   /* what the kernel set made of them; NULL if it makes nothing */
    int32_t bias[]; /* folded, of all layers */
};

/* Beginning of a meter's state; the kept columns of the input and the layers' slots follow. Samples
 * wait as watts until a turn is due: made levels together they take a fifth of the time. */
struct stream {
    uint32_t fill;      /* samples waiting */
    uint32_t turn;      /* 0..turns-1: which phases are due */
    uint32_t warm_left; /* turns that give no result yet */
    int32_t started;
    float watts[]; /* [1 + hop]: the sample before, and those that wait */
};

static size_t round_up(size_t n)
{
    return (n + ENGINE_ALIGN - 1) / ENGINE_ALIGN * ENGINE_ALIGN;
}

static size_t stream_bytes(uint32_t hop)
{
    return sizeof(struct stream) + ((size_t)hop + 1) * sizeof(float);
}

/* Folds the zero points into the biases and puts the layers into the kernels' form. */
static void pack_layers(struct engine *e)
{
    const struct model *m = e->model;
    int32_t *bias = e->bias;

    for (uint32_t i = 0; i < m->layer_count; i++) {
        const struct model_layer *l = &m->layers[i];
        struct kernels_layer *k = &e->layers[i];
        uint64_t weights = model_format_weights(l);

        if (!weights)
            continue;
        k->weights = l->weights;
        k->bias = bias;
        k->multiplier = l->multiplier;
        k->shift = l->shift;
        k->outputs = l->out_channels;
        k->row = (uint32_t)(weights / l->out_channels);
        k->stride = l->in_channels;
        k->zero = l->out_zero;
        k->low = l->relu ? l->out_zero : INT8_MIN;
        for (uint32_t o = 0; o < k->outputs; o++) {
            int32_t sum = 0;
            for (uint32_t j = 0; j < k->row; j++)
                sum += l->weights[(size_t)o * k->row + j];
            *bias++ = l->bias[o] - l->in_zero * sum; /* fits: SPEC 1.7.2 */
        }
    }
}

static size_t pack_bytes(const struct engine *e, uint32_t layer)
{
    const struct kernels_layer *k = &e->layers[layer];

    return k->weights && e->kernels->packed_bytes ? round_up(e->kernels->packed_bytes(k)) : 0;
}

/* Lets the kernel set lay the layers out as it likes. 0 or -ENOMEM. */
static int pack_for_kernels(struct engine *e)
{
    size_t size = 0;
    unsigned char *at;

    for (uint32_t i = 0; i < e->model->layer_count; i++)
        size += pack_bytes(e, i);
    if (!size)
        return 0;
    at = e->packed = aligned_alloc(KERNELS_ALIGN, size);
    if (!at)
        return -ENOMEM;
    for (uint32_t i = 0; i < e->model->layer_count; i++)
        if (pack_bytes(e, i)) {
            e->kernels->pack(&e->layers[i], at);
            e->layers[i].packed = at;
            at += pack_bytes(e, i);
        }
    return 0;
}

static size_t count_biases(const struct model *m)
{
    size_t n = 0;

    for (uint32_t i = 0; i < m->layer_count; i++)
        if (model_format_weights(&m->layers[i]))
            n += m->layers[i].out_channels;
    return n;
}

/* A batch's inputs or outputs of any dense layer. */
static size_t batch_bytes(const struct model *m, const struct engine_plan *whole)
{
    size_t widest = 0;

    for (uint32_t i = whole->stages + 1; i < m->layer_count; i++)
        if (m->layers[i].in_channels > widest)
            widest = m->layers[i].in_channels;
    return round_up(ENGINE_BATCH * widest);
}

int engine_create(const struct model *m, uint32_t hop, struct engine **out, char *why,
                  size_t why_size)
{
    const char *wanted = getenv("NILM_CPU");
    const struct kernels *kernels;
    struct engine *e;
    size_t buffer;

    *out = NULL;
    if (m->dtype != MODEL_INT8) {
        model_format_why(why, why_size, "the model is FP32, expected INT8 (quantize it first)");
        return -EINVAL;
    }
    if (hop > m->window) {
        model_format_why(why, why_size, "hop is %u, expected 1 to %u (the window), or 0", hop,
                         m->window);
        return -EINVAL;
    }
    if (kernels_select(wanted, &kernels)) {
        model_format_why(why, why_size, "NILM_CPU is \"%s\", expected a kernel set of this machine",
                         wanted);
        return -ENOTSUP;
    }
    e = calloc(1, sizeof(*e) + count_biases(m) * sizeof(int32_t));
    if (!e) {
        model_format_why(why, why_size, "out of memory");
        return -ENOMEM;
    }
    e->model = m;
    e->kernels = kernels;
    e->hop = hop ? hop : m->hop;
    e->first_turn = m->window % e->hop ? m->window % e->hop : e->hop;
    e->warm_turns = (m->window - e->first_turn) / e->hop;
    e->state_bytes = round_up(engine_plan_stream(m, e->hop, stream_bytes(e->hop), &e->stream));
    engine_plan_whole(m, &e->whole);
    buffer = e->whole.buffer_bytes;
    if (e->stream.buffer_bytes > buffer)
        buffer = e->stream.buffer_bytes;
    e->buffer_bytes = round_up(buffer);
    e->scratch_bytes = 2 * e->buffer_bytes + round_up(m->class_count * sizeof(int32_t));
    e->batch_bytes = batch_bytes(m, &e->whole);
    pack_layers(e);
    if (engine_input_create(m, &e->input) || pack_for_kernels(e)) {
        engine_free(e);
        model_format_why(why, why_size, "out of memory");
        return -ENOMEM;
    }
    *out = e;
    return 0;
}

void engine_free(struct engine *e)
{
    if (!e)
        return;
    engine_input_free(&e->input);
    free(e->packed);
    free(e);
}

const char *engine_isa(const struct engine *e)
{
    return e->kernels->name;
}

uint32_t engine_hop(const struct engine *e)
{
    return e->hop;
}

const struct model *engine_model(const struct engine *e)
{
    return e->model;
}

size_t engine_state_bytes(const struct engine *e)
{
    return e->state_bytes;
}

size_t engine_scratch_bytes(const struct engine *e)
{
    return e->scratch_bytes;
}

size_t engine_batch_scratch_bytes(const struct engine *e)
{
    return e->scratch_bytes + 2 * e->batch_bytes;
}

uint64_t engine_peak(const struct engine *e, uint32_t rounds)
{
    return e->kernels->peak ? e->kernels->peak(rounds) : 0;
}

/* By the bits, which the compiler makes vectors of. */
static float finite_or_zero(float watts)
{
    uint32_t bits, exponent = 0x7f800000;

    memcpy(&bits, &watts, sizeof(bits));
    bits = (bits & exponent) == exponent ? 0 : bits;
    memcpy(&watts, &bits, sizeof(bits));
    return watts;
}

/* Two activation buffers, of which never the one that x lies in is written. */
static int8_t *other_buffer(void *buffers, size_t bytes, const int8_t *x)
{
    int8_t *first = buffers;

    return x == first ? first + bytes : first;
}

/* Who wants to know when a layer is done. */
struct watcher {
    engine_mark *mark; /* may be NULL */
    void *context;
};

static void tell(const struct watcher *w, uint32_t layer)
{
    if (w->mark)
        w->mark(w->context, (int)layer);
}

static const struct watcher nobody = {NULL, NULL};

/* Whether stage i and the pool behind it run as one: nothing of what lies between is kept. */
static int fuses(const struct engine *e, const struct engine_plan *plan, uint32_t i)
{
    const struct model_layer *l = &e->model->layers[i];

    return e->kernels->rows_pooled && l->op == MODEL_CONV1D && i + 1 < plan->stages &&
           l[1].op == MODEL_MAXPOOL1D && (l[1].pool == 2 || l[1].pool == 4) &&
           plan->flow[i + 1].kept == 0;
}

/* One turn in front of FLATTEN: x is the end of the input that layer 0 reads, the result all
 * columns of a window. state is only used by a plan that keeps something. */
static const int8_t *run_stages(const struct engine *e, const struct engine_plan *plan,
                                unsigned char *state, uint32_t turn, const int8_t *x, void *scratch,
                                const struct watcher *watcher)
{
    for (uint32_t i = 0; i < plan->stages; i++) {
        const struct kernels_layer *weights = &e->layers[i];
        int fused = fuses(e, plan, i);
        const struct model_layer *l = &e->model->layers[i += (uint32_t)fused];
        const struct engine_flow *f = &plan->flow[i + 1];
        int8_t *y = other_buffer(scratch, e->buffer_bytes, x);
        int8_t *fresh = y + f->slot_bytes;
        unsigned char *slot = NULL;

        if (f->kept) {
            slot = state + f->slots_at + (size_t)(turn % f->phases) * f->slot_bytes;
            memcpy(y, slot, f->slot_bytes);
        }
        if (fused)
            e->kernels->rows_pooled(weights, x, f->fresh, l->pool, fresh);
        else if (l->op == MODEL_CONV1D)
            e->kernels->rows(weights, x, f->fresh, fresh);
        else
            e->kernels->maxpool(x, f->fresh, l->out_channels, l->pool, fresh);
        if (f->kept)
            memcpy(slot, y + (size_t)f->fresh * l->out_channels, f->slot_bytes);
        tell(watcher, i);
        x = y;
    }
    return x;
}

/* The dense layers, from all columns of a window to logits; for `count` windows at once, which are
 * the columns then. logits[i] are those of window i. */
static void run_dense(const struct engine *e, const int8_t *x, size_t count, void *buffers,
                      size_t buffer_bytes, void *scratch, float *const *logits,
                      const struct watcher *watcher)
{
    const struct model *m = e->model;
    const struct model_layer *last = &m->layers[m->layer_count - 1];
    int32_t *sums = (int32_t *)((unsigned char *)scratch + 2 * e->buffer_bytes);

    for (uint32_t i = e->whole.stages + 1; i + 1 < m->layer_count; i++) {
        int8_t *y = other_buffer(buffers, buffer_bytes, x);
        e->kernels->rows(&e->layers[i], x, count, y);
        tell(watcher, i);
        x = y;
    }
    for (size_t i = 0; i < count; i++, x += last->in_channels) {
        e->kernels->sums(&e->layers[m->layer_count - 1], x, sums);
        for (uint32_t o = 0; o < m->class_count; o++)
            logits[i][o] = (float)sums[o] * last->logit_scale[o];
    }
    tell(watcher, m->layer_count - 1);
}

void engine_reset(const struct engine *e, void *state)
{
    struct stream *s = state;

    memset(state, 0, e->state_bytes);
    s->fill = e->hop - e->first_turn;
    s->warm_left = e->warm_turns;
}

/* n columns of the input from watts; watts[-1] is the sample before. */
static void make_columns(const struct engine *e, const float *watts, uint32_t n, int8_t *columns)
{
    float block[1 + ENGINE_INPUT_BLOCK];

    for (uint32_t t = 0; t < n; t += ENGINE_INPUT_BLOCK) {
        uint32_t now = n - t < ENGINE_INPUT_BLOCK ? n - t : ENGINE_INPUT_BLOCK;

        for (uint32_t i = 0; i <= now; i++)
            block[i] = finite_or_zero(watts[(ptrdiff_t)(t + i) - 1]);
        engine_input_columns(&e->input, block + 1, now,
                             columns + (size_t)t * e->model->channel_count);
    }
}

/* The input of a turn, in scratch: kept columns, then those of the samples that waited, as many of
 * either as are needed. */
static void turn_input(const struct engine *e, struct stream *s, int8_t *columns)
{
    const struct engine_plan *plan = &e->stream;
    size_t channels = e->model->channel_count, kept = plan->history * channels;
    uint32_t need = plan->flow[0].fresh + plan->flow[0].kept + plan->tail;
    uint32_t fresh = need < e->hop ? need : e->hop;
    int8_t *history = (int8_t *)s + stream_bytes(e->hop);

    memcpy(columns, history, kept);
    make_columns(e, s->watts + 1 + e->hop - fresh, fresh, columns + kept);
    memcpy(history, columns + fresh * channels, kept);
    s->watts[0] = s->watts[e->hop];
    s->fill = 0;
}

/* Takes a sample. Returns all columns of a window, in scratch, when a result is due, else NULL. */
static const int8_t *take(const struct engine *e, void *state, void *scratch, float watts)
{
    struct stream *s = state;
    const int8_t *x;

    if (!s->started) /* the past was like it */
        for (uint32_t i = 0; i <= s->fill; i++)
            s->watts[i] = watts;
    s->started = 1;
    s->watts[++s->fill] = watts;
    if (s->fill < e->hop)
        return NULL;

    turn_input(e, s, scratch);
    x = run_stages(e, &e->stream, state, s->turn, scratch, scratch, &nobody);
    s->turn = (s->turn + 1) % e->stream.turns;
    if (s->warm_left == 0)
        return x;
    s->warm_left--;
    return NULL;
}

int engine_push(const struct engine *e, void *state, void *scratch, float watts, float *logits)
{
    const int8_t *x = take(e, state, scratch, watts);

    if (!x)
        return 0;
    if (logits)
        run_dense(e, x, 1, scratch, e->buffer_bytes, scratch, &logits, &nobody);
    return 1;
}

/* Asks for a state from memory while another meter's is worked on: all of it for a whole hop, its
 * beginning for a sample or two. */
static void fetch_ahead(const struct engine *e, const void *state, size_t samples)
{
    size_t bytes = (1 + samples) * ENGINE_ALIGN;

    if (bytes > e->state_bytes)
        bytes = e->state_bytes;
    for (size_t at = 0; at < bytes; at += ENGINE_ALIGN)
        __builtin_prefetch((const char *)state + at, 1);
}

size_t engine_push_many(const struct engine *e, void *const *states, size_t count, void *scratch,
                        const float *watts, size_t samples, float *logits, uint8_t *due)
{
    const struct model_layer *flat = &e->model->layers[e->whole.stages];
    size_t row = (size_t)flat->in_columns * flat->in_channels, waiting = 0, results = 0;
    int8_t *batch = (int8_t *)scratch + e->scratch_bytes;
    float *to[ENGINE_BATCH];

    for (size_t i = 0; i < count; i++) {
        due[i] = 0;
        if (i + 1 < count)
            fetch_ahead(e, states[i + 1], samples);
        for (size_t n = 0; n < samples; n++) {
            const int8_t *x = take(e, states[i], scratch, watts[i * samples + n]);

            if (!x)
                continue;
            memcpy(batch + waiting * row, x, row);
            to[waiting++] = logits + i * e->model->class_count;
            due[i] = 1;
            results++;
        }
        if (waiting == ENGINE_BATCH || (waiting && i + 1 == count)) {
            run_dense(e, batch, waiting, batch, e->batch_bytes, scratch, to, &nobody);
            waiting = 0;
        }
    }
    return results;
}

void engine_run_marked(const struct engine *e, void *scratch, const float *watts, float *logits,
                       engine_mark *mark, void *context)
{
    const struct watcher watcher = {mark, context};
    uint32_t columns = e->whole.columns[0];
    const int8_t *x;
    int8_t *input = scratch;

    make_columns(e, watts + 1, columns, input);
    tell(&watcher, UINT32_MAX);
    x = run_stages(e, &e->whole, NULL, 0, input, scratch, &watcher);
    run_dense(e, x, 1, scratch, e->buffer_bytes, scratch, &logits, &watcher);
}

void engine_run(const struct engine *e, void *scratch, const float *watts, float *logits)
{
    engine_run_marked(e, scratch, watts, logits, NULL, NULL);
}

int engine_selftest(const struct engine *e)
{
    const struct model *m = e->model;
    unsigned char *scratch;
    float logits[MODEL_MAX_CLASSES];
    int failed = 0;

    if (!m->golden_count)
        return -ENOENT;
    scratch = aligned_alloc(ENGINE_ALIGN, e->scratch_bytes);
    if (!scratch)
        return -ENOMEM;
    for (uint32_t i = 0; i < m->golden_count; i++) {
        engine_run(e, scratch, m->golden[i].watts, logits);
        /* bit for bit: a comparison of floats would let -0 pass for 0 */
        failed += memcmp(logits, m->golden[i].logits, m->class_count * sizeof(float)) != 0;
    }
    free(scratch);
    return failed;
}
