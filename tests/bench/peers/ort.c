/* ort.c - ONNX Runtime on the benchmark network: NETWORK INPUTS OUTPUTS LIBRARY ONNX (peer.h).
 *
 * Its library comes without the header of its C interface, so the few functions that are needed are
 * declared here. Their places in the table of functions are part of its binary interface, which
 * only ever grows at its end. One thread, all graph optimizations; input and output tensors are
 * bound to memory once and only refilled. */
#include <dlfcn.h>

#include "peer.h"

/* Of the benchmark networks; shipped.py has others. */
#ifndef ORT_CHANNELS
#define ORT_CHANNELS 1
#define ORT_INPUT "x"
#define ORT_OUTPUT "y"
#endif

enum {
    ORT_VERSION = 11, /* of the interface, of 2022 */
    ORT_ERROR_TEXT = 2,
    ORT_CREATE_ENVIRONMENT = 3,
    ORT_CREATE_SESSION = 7,
    ORT_RUN = 9,
    ORT_CREATE_OPTIONS = 10,
    ORT_SET_OPTIMIZATION = 23,
    ORT_SET_THREADS = 24,
    ORT_SET_INTER_THREADS = 25,
    ORT_CREATE_TENSOR = 49,
    ORT_CREATE_CPU_MEMORY = 69,
    ORT_OPTIMIZE_ALL = 99,
    ORT_FLOAT = 1,
    ORT_LOG_ERRORS = 3
};

struct base {
    const void *const *(*get)(uint32_t version);
    const char *(*version)(void);
};

static const void *const *table;
static void *session, *input_tensor, *output_tensor;
static float input[PEER_WINDOW], output[PEER_CLASSES];
static void *(*run_session)(void *, void *, const char *const *, void *const *, size_t,
                            const char *const *, size_t, void **);

static void *entry(int place)
{
    return (void *)table[place];
}

static void check(void *status)
{
    if (status)
        peer_fail(((const char *(*)(void *))entry(ORT_ERROR_TEXT))(status));
}

static void run(const float *x, float *probabilities)
{
    static const char *const in = ORT_INPUT, *const out = ORT_OUTPUT;

    memcpy(input, x, sizeof(input));
    check(run_session(session, NULL, &in, &input_tensor, 1, &out, 1, &output_tensor));
    memcpy(probabilities, output, sizeof(output));
}

static void create_session(const char *onnx)
{
    void *environment, *options;

    check(((void *(*)(int, const char *, void **))entry(ORT_CREATE_ENVIRONMENT))(
        ORT_LOG_ERRORS, "peers", &environment));
    check(((void *(*)(void **))entry(ORT_CREATE_OPTIONS))(&options));
    check(((void *(*)(void *, int))entry(ORT_SET_OPTIMIZATION))(options, ORT_OPTIMIZE_ALL));
    check(((void *(*)(void *, int))entry(ORT_SET_THREADS))(options, 1));
    check(((void *(*)(void *, int))entry(ORT_SET_INTER_THREADS))(options, 1));
    check(((void *(*)(void *, const char *, void *, void **))entry(ORT_CREATE_SESSION))(
        environment, onnx, options, &session));
}

static void *tensor(float *data, size_t bytes, const int64_t *shape, size_t dimensions)
{
    void *memory, *value;

    check(((void *(*)(int, int, void **))entry(ORT_CREATE_CPU_MEMORY))(1, 0, &memory));
    check(((void *(*)(void *, void *, size_t, const int64_t *, size_t, int, void **))entry(
        ORT_CREATE_TENSOR))(memory, data, bytes, shape, dimensions, ORT_FLOAT, &value));
    return value;
}

int main(int argc, char **argv)
{
    const struct base *(*get_base)(void);
    const int64_t in_shape[] = {1, ORT_CHANNELS, PEER_WINDOW / ORT_CHANNELS},
                  out_shape[] = {1, PEER_CLASSES};
    void *library;

    if (argc != 6)
        peer_fail("usage: ort NETWORK INPUTS OUTPUTS LIBRARY ONNX");
    library = dlopen(argv[4], RTLD_NOW);
    if (!library)
        peer_fail(dlerror());
    *(void **)&get_base = dlsym(library, "OrtGetApiBase");
    table = get_base ? get_base()->get(ORT_VERSION) : NULL;
    if (!table)
        peer_fail("the library lacks the interface that is expected");
    *(void **)&run_session = entry(ORT_RUN);
    create_session(argv[5]);
    input_tensor = tensor(input, sizeof(input), in_shape, 3);
    output_tensor = tensor(output, sizeof(output), out_shape, 2);
    return peer_serve(argv, run, NULL);
}
