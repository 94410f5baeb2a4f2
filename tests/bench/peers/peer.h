/* peer.h - what the programs of this folder have in common: the network from network_file.py, the
 * inputs, and a conversation with run.py, which lets one program at a time work.
 *
 * PROGRAM NETWORK INPUTS OUTPUTS: writes the probabilities of all inputs to OUTPUTS, says "ready",
 * and then answers each line "MILLISECONDS" with the median time of one call in microseconds, taken
 * over so many milliseconds. A call is one window: quantization of the input, network, softmax. */
#ifndef TESTS_BENCH_PEER_H
#define TESTS_BENCH_PEER_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Numbers of an input and of classes; shipped.py has others. */
#ifndef PEER_WINDOW
#define PEER_WINDOW 512
#define PEER_CLASSES 32
#endif
enum { PEER_INPUTS = 64, PEER_LAYERS = 16 };

struct peer_layer {
    int32_t dense, inputs, outputs, taps, pool, relu, in_zero, out_zero;
    float in_scale, out_scale;
    const float *weight_scale;
    const int32_t *bias;
    const int8_t *weights; /* [out][tap][in] */
    const float *bias_f32, *weights_f32;
};

struct peer_network {
    int32_t count;
    struct peer_layer layers[PEER_LAYERS];
};

static void peer_fail(const char *text)
{
    fprintf(stderr, "%s\n", text);
    exit(1);
}

static char *peer_read(const char *path, long *size)
{
    FILE *f = fopen(path, "rb");
    char *data;

    if (!f || fseek(f, 0, SEEK_END) || (*size = ftell(f)) <= 0 || fseek(f, 0, SEEK_SET))
        peer_fail(path);
    data = (char *)malloc((size_t)*size + 4) + 4; /* an engine may look at the sample before */
    if (fread(data, 1, (size_t)*size, f) != (size_t)*size)
        peer_fail(path);
    fclose(f);
    return data;
}

static const void *peer_take(const char **at, size_t bytes)
{
    const void *here = *at;

    *at += (bytes + 3) / 4 * 4;
    return here;
}

static inline struct peer_network peer_load(const char *path)
{
    struct peer_network n;
    long size;
    const char *at = peer_read(path, &size);

    memset(&n, 0, sizeof(n));
    memcpy(&n.count, peer_take(&at, 4), 4);
    if (n.count < 1 || n.count > PEER_LAYERS)
        peer_fail("network: too many layers");
    for (int i = 0; i < n.count; i++) {
        struct peer_layer *l = &n.layers[i];
        size_t out, weights;

        memcpy(l, peer_take(&at, 40), 40);
        out = (size_t)l->outputs;
        weights = out * (size_t)l->taps * (size_t)l->inputs;
        l->weight_scale = (const float *)peer_take(&at, out * 4);
        l->bias = (const int32_t *)peer_take(&at, out * 4);
        l->weights = (const int8_t *)peer_take(&at, weights);
        l->bias_f32 = (const float *)peer_take(&at, out * 4);
        l->weights_f32 = (const float *)peer_take(&at, weights * 4);
    }
    return n;
}

static double peer_now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int peer_compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* uint8 levels of an input, as ONNX's QuantizeLinear has them (ties to even). */
static inline void peer_quantize(const struct peer_layer *first, const float *x, uint8_t *levels)
{
    const float inverse = 1.0f / first->in_scale;

    for (int i = 0; i < PEER_WINDOW; i++) {
        int v = (int)lrintf(x[i] * inverse) + first->in_zero;
        levels[i] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
}

static inline void peer_softmax(const float *logits, float *probabilities)
{
    float largest = logits[0], total = 0.0f;

    for (int i = 1; i < PEER_CLASSES; i++)
        largest = logits[i] > largest ? logits[i] : largest;
    for (int i = 0; i < PEER_CLASSES; i++)
        total += probabilities[i] = expf(logits[i] - largest);
    for (int i = 0; i < PEER_CLASSES; i++)
        probabilities[i] /= total;
}

/* Answers run.py until it closes the pipe. work: what is timed, if it is not run, which classifies.
 */
static int peer_serve(char **argv, void (*run)(const float *x, float *probabilities),
                      void (*work)(const float *x, float *probabilities))
{
    enum { MOST = 1 << 16 };
    static double times[MOST];
    static float out[PEER_INPUTS][PEER_CLASSES];
    long size;
    const float *inputs = (const float *)(const void *)peer_read(argv[2], &size);
    FILE *f = fopen(argv[3], "wb");
    double ms;

    if (!f || size != PEER_INPUTS * PEER_WINDOW * 4)
        peer_fail("inputs or outputs: cannot use them");
    for (int i = 0; i < PEER_INPUTS; i++)
        run(inputs + i * PEER_WINDOW, out[i]);
    fwrite(out, sizeof(out), 1, f);
    fclose(f);
    if (work)
        run = work;
    printf("ready\n");
    fflush(stdout);
    while (scanf("%lf", &ms) == 1) {
        double end = peer_now_us() + ms * 1e3, before, now;
        unsigned n = 0;

        for (unsigned i = 0; i < 20; i++) /* caches and branches warm again */
            run(inputs + i % PEER_INPUTS * PEER_WINDOW, out[0]);
        before = peer_now_us();
        do {
            run(inputs + n % PEER_INPUTS * PEER_WINDOW, out[0]);
            now = peer_now_us();
            times[n++] = now - before;
            before = now;
        } while (now < end && n < MOST);
        qsort(times, n, sizeof(times[0]), peer_compare);
        printf("%.3f\n", times[n / 2]);
        fflush(stdout);
    }
    return 0;
}

#endif
