/* ours.c - the engine on the benchmark network: NETWORK INPUTS OUTPUTS MODEL [hop] (peer.h); writes
 * the model file to MODEL as well, for nilm-model bench. hop: streaming; timed is the model's hop
 * of 32 samples with its classification. NILM_CPU chooses the kernel set. */
#include "peer.h"

#include "inference/engine.h"

static struct engine *engine;
static void *scratch, *state;

static void run(const float *x, float *probabilities)
{
    engine_run(engine, scratch, x - 1, probabilities); /* no feature here looks at x[-1] */
    engine_probabilities(engine, probabilities, probabilities);
}

static void stream_window(const float *x, float *probabilities)
{
    engine_reset(engine, state);
    for (int i = 0; i < PEER_WINDOW; i++)
        if (engine_push(engine, state, scratch, x[i], probabilities))
            engine_probabilities(engine, probabilities, probabilities);
}

static void stream_hop(const float *x, float *probabilities)
{
    for (uint32_t i = 0; i < engine_hop(engine); i++)
        if (engine_push(engine, state, scratch, x[i], probabilities))
            engine_probabilities(engine, probabilities, probabilities);
}

/* multiplier * 2^-shift = scale, the nearest there is. */
static void fixed_point(double scale, uint32_t *multiplier, uint8_t *shift)
{
    int exponent;
    double m = frexp(scale, &exponent) * 2147483648.0;

    *multiplier = (uint32_t)lrint(m);
    if (*multiplier == 1u << 31) {
        *multiplier /= 2;
        exponent++;
    }
    *shift = (uint8_t)(31 - exponent);
}

/* Zero points of 0 to 255 become -128 to 127; the output of the last layer is not quantized. */
static void set_weights(struct model_layer *l, const struct peer_layer *from, int last)
{
    size_t out = (size_t)from->outputs;
    uint32_t *multiplier = malloc(out * sizeof(*multiplier));
    uint8_t *shift = malloc(out);
    float *logit = malloc(out * sizeof(*logit));

    l->op = from->dense ? MODEL_DENSE : MODEL_CONV1D;
    l->relu = from->relu;
    l->taps = from->dense ? 0 : (uint32_t)from->taps;
    l->weights = from->weights;
    l->bias = from->bias;
    l->weight_scale = from->weight_scale;
    for (size_t o = 0; o < out; o++) {
        double scale = (double)from->in_scale * (double)from->weight_scale[o];

        fixed_point(scale / (double)from->out_scale, &multiplier[o], &shift[o]);
        logit[o] = (float)scale;
    }
    l->multiplier = last ? NULL : multiplier;
    l->shift = last ? NULL : shift;
    l->logit_scale = last ? logit : NULL;
}

static struct model_layer *append(struct model *m, enum model_op op, const char *name)
{
    struct model_layer *l = &m->layers[m->layer_count];
    const struct model_layer *before = l - 1;

    l->op = op;
    snprintf(l->name, sizeof(l->name), "%s%u", name, m->layer_count);
    l->in_channels = m->layer_count ? before->out_channels : 1;
    l->in_columns = m->layer_count ? before->out_columns : m->window;
    if (m->layer_count) {
        l->in_scale = l->out_scale = before->out_scale;
        l->in_zero = l->out_zero = before->out_zero;
    }
    m->layer_count++;
    return l;
}

static void add_layer(struct model *m, const struct peer_layer *from, int last)
{
    struct model_layer *l;

    if (from->dense && m->layers[m->layer_count - 1].op != MODEL_DENSE) {
        l = append(m, MODEL_FLATTEN, "flatten");
        l->out_columns = 1;
        l->out_channels = l->in_columns * l->in_channels;
    }
    l = append(m, MODEL_CONV1D, from->dense ? "dense" : "conv");
    set_weights(l, from, last);
    l->out_channels = (uint32_t)from->outputs;
    l->out_columns = from->dense ? 1 : l->in_columns - l->taps + 1;
    l->in_scale = from->in_scale;
    l->in_zero = (int8_t)(from->in_zero - 128);
    l->out_scale = last ? 0.0f : from->out_scale;
    l->out_zero = (int8_t)(last ? 0 : from->out_zero - 128);
    if (from->pool > 1) {
        l = append(m, MODEL_MAXPOOL1D, "pool");
        l->pool = (uint32_t)from->pool;
        l->out_channels = l->in_channels;
        l->out_columns = l->in_columns / l->pool;
    }
}

/* One linear channel whose "watts" are the network's input of 0 to 1. */
static struct model *build(const struct peer_network *n, const char *path)
{
    static struct model m = {.dtype = MODEL_INT8,
                             .head = MODEL_SOFTMAX,
                             .version = 1,
                             .family = "benchmark",
                             .window = PEER_WINDOW,
                             .period_ms = 1000,
                             .hop = 32,
                             .channel_count = 1,
                             .class_count = PEER_CLASSES,
                             .meta = "source=benchmark network\n"};
    static float thresholds[MODEL_LEVELS];
    static char labels[PEER_CLASSES][MODEL_LABEL_BYTES];
    struct model *decoded;
    char why[256];
    void *data;
    size_t size;
    FILE *f;

    m.labels = (const char(*)[MODEL_LABEL_BYTES])labels;
    for (int i = 0; i < PEER_CLASSES; i++)
        snprintf(labels[i], sizeof(labels[i]), "class%d", i);
    for (int i = 0; i < (int)MODEL_LEVELS; i++)
        thresholds[i] = ((float)(i - n->layers[0].in_zero) + 0.5f) * n->layers[0].in_scale;
    m.channels[0] = (struct model_channel){MODEL_LINEAR, 1.0f, thresholds};
    for (int i = 0; i < n->count; i++)
        add_layer(&m, &n->layers[i], i + 1 == n->count);
    if (model_encode(&m, &data, &size, why, sizeof(why)) ||
        model_decode(data, size, &decoded, why, sizeof(why)))
        peer_fail(why);
    f = fopen(path, "wb");
    if (!f || fwrite(data, size, 1, f) != 1 || fclose(f))
        peer_fail(path);
    free(data);
    return decoded;
}

int main(int argc, char **argv)
{
    struct peer_network n;
    char why[256];

    if (argc != 5 && argc != 6)
        peer_fail("usage: ours NETWORK INPUTS OUTPUTS MODEL [hop]");
    n = peer_load(argv[1]);
    if (engine_create(build(&n, argv[4]), 0, &engine, why, sizeof(why)))
        peer_fail(why);
    scratch = aligned_alloc(ENGINE_ALIGN, engine_scratch_bytes(engine));
    state = aligned_alloc(ENGINE_ALIGN, engine_state_bytes(engine));
    if (argc == 6)
        return peer_serve(argv, stream_window, stream_hop);
    return peer_serve(argv, run, NULL);
}
