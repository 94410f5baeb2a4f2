/* net_predict.c - features of a window, and FP32 models run whole-window. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/convert.h"
#include "inference/workshop/net.h"

#define SHARD 16u

struct net_predictor {
    struct net *net;
    struct net_work *work;
    struct model_channel channels[MODEL_MAX_CHANNELS];
};

static float feature(const struct model_channel *c, float inverse, float now, float before)
{
    float w = now < 0.0f ? 0.0f : now > c->full ? c->full : now;
    float d = now - before;

    switch (c->feature) {
    case MODEL_LINEAR:
        return w / c->full;
    case MODEL_LOG:
        return log1pf(w) * inverse;
    case MODEL_LOG_DIFF:
        d = d < -c->full ? -c->full : d > c->full ? c->full : d;
        return copysignf(log1pf(fabsf(d)) * inverse, d);
    }
    return 0.0f;
}

void net_features(const struct model_channel *channels, uint32_t channel_count, uint32_t window,
                  const float *watts, float *out)
{
    for (uint32_t c = 0; c < channel_count; c++) {
        float inverse = 1.0f / log1pf(channels[c].full);
        for (uint32_t t = 0; t < window; t++)
            out[(size_t)t * channel_count + c] =
                feature(&channels[c], inverse, watts[t + 1], watts[t]);
    }
}

int net_predictor_create(const struct model *m, struct net_predictor **out, char *why,
                         size_t why_size)
{
    struct net_predictor *p = calloc(1, sizeof(*p));
    int rc;

    *out = NULL;
    if (!p)
        return -ENOMEM;
    rc = convert_from_model(m, &p->net, why, why_size);
    if (!rc)
        rc = net_work_create(p->net, SHARD, &p->work);
    if (rc) {
        net_predictor_free(p);
        return rc;
    }
    memcpy(p->channels, m->channels, sizeof(p->channels));
    *out = p;
    return 0;
}

void net_predictor_free(struct net_predictor *p)
{
    if (!p)
        return;
    net_work_free(p->work);
    net_free(p->net);
    free(p);
}

void net_predict_logits(struct net_predictor *p, const float *watts, size_t count, float *logits)
{
    const struct net *net = p->net;
    const struct net_mode deployed = {0};
    float *input = net_work_input(p->work);

    for (size_t done = 0; done < count;) {
        uint32_t n = count - done < SHARD ? (uint32_t)(count - done) : SHARD;
        for (uint32_t i = 0; i < n; i++)
            net_features(p->channels, net->channels, net->window,
                         watts + (done + i) * (net->window + 1),
                         input + (size_t)i * net->window * net->channels);
        memcpy(logits + done * net->class_count, net_forward(net, p->work, n, &deployed),
               (size_t)n * net->class_count * sizeof(float));
        done += n;
    }
}

void net_predict(struct net_predictor *p, const float *watts, size_t count, float *probabilities)
{
    const uint32_t classes = p->net->class_count;

    net_predict_logits(p, watts, count, probabilities);
    for (size_t i = 0; i < count; i++, probabilities += classes)
        net_probabilities(p->net->head, classes, probabilities, probabilities);
}
