/* shipped.c - the engine on a model file: MODEL INPUTS OUTPUTS [HOP] (peer.h), for shipped.py.
 * INPUTS are features, which the engine makes itself: it takes made-up watts instead, and OUTPUTS
 * say nothing. HOP: streaming, a hop of so many samples with its classification. */
#include "peer.h"

#include "inference/engine.h"

enum { SAMPLES = 8192 };

static struct engine *engine;
static void *scratch, *state;
static float watts[SAMPLES];
static unsigned at;

static void window(const float *x, float *probabilities)
{
    (void)x;
    at = (at + 97) % (SAMPLES - 2048);
    engine_run(engine, scratch, watts + at, probabilities);
    engine_probabilities(engine, probabilities, probabilities);
}

static void hop(const float *x, float *probabilities)
{
    (void)x;
    for (unsigned i = 0; i < engine_hop(engine); i++)
        if (engine_push(engine, state, scratch, watts[at++ % SAMPLES], probabilities))
            engine_probabilities(engine, probabilities, probabilities);
}

int main(int argc, char **argv)
{
    struct model *m;
    char why[256];
    unsigned r = 1;

    if (argc != 4 && argc != 5)
        peer_fail("usage: shipped MODEL INPUTS OUTPUTS [HOP]");
    if (model_decode_file(argv[1], &m, why, sizeof(why)) ||
        engine_create(m, argc == 5 ? (unsigned)atoi(argv[4]) : 0, &engine, why, sizeof(why)))
        peer_fail(why);
    if (m->window > 1024 || m->class_count > PEER_CLASSES)
        peer_fail("the model is larger than expected");
    scratch = aligned_alloc(ENGINE_ALIGN, engine_scratch_bytes(engine));
    state = aligned_alloc(ENGINE_ALIGN, engine_state_bytes(engine));
    engine_reset(engine, state);
    for (int i = 0; i < SAMPLES; i++) {
        r = r * 1664525 + 1013904223;
        watts[i] = i / 100 % 2 ? (float)((r >> 16) % 1000) : 0.3f;
    }
    return peer_serve(argv, argc == 5 ? hop : window, NULL);
}
