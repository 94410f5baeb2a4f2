/* runner.c - see runner.h. */
#include "inference/workshop/runner.h"

#include "inference/engine.h"
#include "inference/workshop/net.h"

#include <errno.h>
#include <stdlib.h>

struct runner {
    const struct model *model;
    struct engine *engine;
    void *scratch;
    struct net_predictor *predictor;
};

int runner_create(const struct model *m, struct runner **out, char *why, size_t why_size)
{
    *out = NULL;
    struct runner *r = calloc(1, sizeof *r);
    if (r == NULL)
        return -ENOMEM;
    r->model = m;
    int rc;
    if (m->dtype == MODEL_FP32) {
        rc = net_predictor_create(m, &r->predictor, why, why_size);
    } else {
        rc = engine_create(m, 0, &r->engine, why, why_size);
        if (rc == 0) {
            size_t bytes = engine_scratch_bytes(r->engine);
            bytes = (bytes + ENGINE_ALIGN) / ENGINE_ALIGN * ENGINE_ALIGN;
            r->scratch = aligned_alloc(ENGINE_ALIGN, bytes);
            rc = r->scratch ? 0 : -ENOMEM;
        }
    }
    if (rc < 0)
        runner_free(r);
    else
        *out = r;
    return rc;
}

void runner_free(struct runner *r)
{
    if (r == NULL)
        return;
    net_predictor_free(r->predictor);
    engine_free(r->engine);
    free(r->scratch);
    free(r);
}

const char *runner_isa(const struct runner *r)
{
    return r->engine ? engine_isa(r->engine) : "fp32";
}

void runner_logits(struct runner *r, const float *watts, size_t count, float *logits)
{
    const struct model *m = r->model;
    if (r->predictor) {
        net_predict_logits(r->predictor, watts, count, logits);
        return;
    }
    for (size_t i = 0; i < count; i++)
        engine_run(r->engine, r->scratch, watts + i * (m->window + 1), logits + i * m->class_count);
}

void runner_probabilities(const struct runner *r, const float *logits, size_t count,
                          float *probabilities)
{
    const struct model *m = r->model;
    for (size_t i = 0; i < count; i++, logits += m->class_count, probabilities += m->class_count) {
        if (r->predictor)
            net_probabilities(m->head, m->class_count, logits, probabilities);
        else
            engine_probabilities(r->engine, logits, probabilities);
    }
}

void runner_windows(struct runner *r, const float *watts, size_t count, float *probabilities)
{
    runner_logits(r, watts, count, probabilities);
    runner_probabilities(r, probabilities, count, probabilities);
}
