/* xnnpack.c - XNNPACK on the benchmark network: NETWORK INPUTS OUTPUTS (peer.h).
 *
 * Operators are made once and bound to their memory; a call quantizes the input, runs them, and
 * takes the softmax. Dense layers are convolutions of one column: its own dense operator of that
 * time has one scale for all outputs. Levels of 0 to 255 become -128 to 127. */
#include <xnnpack.h>

#include "peer.h"

static struct peer_network network;
static xnn_operator_t steps[2 * PEER_LAYERS];
static int count;
static int8_t *input, *last;

static void check(enum xnn_status status, const char *what)
{
    if (status != xnn_status_success)
        peer_fail(what);
}

static int8_t *space(size_t bytes)
{
    return (int8_t *)calloc(1, bytes + XNN_EXTRA_BYTES + 64) + 32;
}

static int8_t *add_convolution(const struct peer_layer *l, const int8_t *x, size_t columns)
{
    size_t inputs = (size_t)l->inputs, outputs = (size_t)l->outputs;
    int8_t *y = space(columns * outputs);
    int8_t zero = (int8_t)(l->out_zero - 128);

    check(xnn_create_convolution2d_nhwc_qc8(
              0, 0, 0, 0, 1, (uint32_t)l->taps, 1, 1, 1, 1, 1, inputs, outputs, inputs, outputs,
              (int8_t)(l->in_zero - 128), l->in_scale, l->weight_scale, l->weights, l->bias, zero,
              l->out_scale, l->relu ? zero : INT8_MIN, INT8_MAX, 0, &steps[count]),
          "convolution");
    check(xnn_setup_convolution2d_nhwc_qc8(steps[count++], 1, 1, columns, x, y, NULL), "setup");
    return y;
}

static int8_t *add_pool(const struct peer_layer *l, const int8_t *x, size_t columns)
{
    size_t channels = (size_t)l->outputs;
    int8_t *y = space(columns / 2 * channels);

    check(xnn_create_max_pooling2d_nhwc_s8(0, 0, 0, 0, 1, 2, 1, 2, 1, 1, channels, channels,
                                           channels, INT8_MIN, INT8_MAX, 0, &steps[count]),
          "max pool");
    check(xnn_setup_max_pooling2d_nhwc_s8(steps[count++], 1, 1, columns, x, y, NULL), "setup");
    return y;
}

static void build(void)
{
    size_t columns = PEER_WINDOW;
    const int8_t *x = input = space(PEER_WINDOW);

    check(xnn_initialize(NULL), "this processor");
    for (int i = 0; i < network.count; i++) {
        const struct peer_layer *l = &network.layers[i];

        if (l->dense)
            columns = 1;
        x = last = add_convolution(l, x, columns);
        columns -= (size_t)l->taps - 1;
        if (l->pool == 2) {
            x = last = add_pool(l, x, columns);
            columns /= 2;
        }
    }
}

static void run(const float *x, float *probabilities)
{
    const struct peer_layer *final = &network.layers[network.count - 1];
    uint8_t levels[PEER_WINDOW];
    float logits[PEER_CLASSES];

    peer_quantize(&network.layers[0], x, levels);
    for (int i = 0; i < PEER_WINDOW; i++)
        input[i] = (int8_t)(levels[i] ^ 128);
    for (int i = 0; i < count; i++)
        xnn_run_operator(steps[i], NULL);
    for (int i = 0; i < PEER_CLASSES; i++)
        logits[i] = (float)(last[i] + 128 - final->out_zero) * final->out_scale;
    peer_softmax(logits, probabilities);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        peer_fail("usage: xnnpack NETWORK INPUTS OUTPUTS");
    network = peer_load(argv[1]);
    build();
    return peer_serve(argv, run, NULL);
}
