/* turns.c - turns MODEL HOP COUNT: COUNT results of the engine after the first, every HOP samples;
 * HOP 0: whole windows. What one result costs is the difference of two runs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "inference/engine.h"

static float watts_at(uint32_t i)
{
    return (i / 97 % 3 == 0 ? 1800.0f : 60.0f) + (float)(i * 2654435761u >> 24) * 0.05f;
}

int main(int argc, char **argv)
{
    uint32_t hop = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 0;
    uint32_t count = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 0;
    float logits[MODEL_MAX_CLASSES], probabilities[MODEL_MAX_CLASSES];
    float *watts;
    void *state, *scratch;
    struct engine *e;
    struct model *m;
    uint32_t results = 0;
    char why[256] = "usage: turns MODEL HOP COUNT";

    if (argc != 4 || model_decode_file(argv[1], &m, why, sizeof(why)) != 0 ||
        engine_create(m, hop, &e, why, sizeof(why)) != 0) {
        fprintf(stderr, "turns: %s\n", why);
        return 2;
    }
    watts = malloc((m->window + 1) * sizeof(float));
    state = aligned_alloc(ENGINE_ALIGN, engine_state_bytes(e));
    scratch = aligned_alloc(ENGINE_ALIGN, engine_scratch_bytes(e));
    if (!watts || !state || !scratch)
        return 2;
    for (uint32_t i = 0; i <= m->window; i++)
        watts[i] = watts_at(i);
    engine_reset(e, state);
    for (uint32_t i = 0; results <= count; i++) {
        if (hop == 0)
            engine_run(e, scratch, watts, logits);
        else if (!engine_push(e, state, scratch, watts_at(i), logits))
            continue;
        engine_probabilities(e, logits, probabilities);
        results++;
    }
    printf("%s %.9g\n", engine_isa(e), (double)probabilities[0]);
    free(scratch);
    free(state);
    free(watts);
    engine_free(e);
    model_free(m);
    return 0;
}
