/* net_loss.c - heads, losses and their gradients. */
#include <math.h>

#include "inference/workshop/net.h"

void net_probabilities(enum model_head head, uint32_t class_count, const float *logits,
                       float *probabilities)
{
    float largest = logits[0];
    double total = 0.0;

    if (head == MODEL_SIGMOID) {
        for (uint32_t c = 0; c < class_count; c++)
            probabilities[c] = (float)(1.0 / (1.0 + exp(-(double)logits[c])));
        return;
    }
    for (uint32_t c = 1; c < class_count; c++)
        largest = logits[c] > largest ? logits[c] : largest;
    for (uint32_t c = 0; c < class_count; c++) {
        double e = exp((double)(logits[c] - largest));
        total += e;
        probabilities[c] = (float)e;
    }
    for (uint32_t c = 0; c < class_count; c++)
        probabilities[c] = (float)((double)probabilities[c] / total);
}

void net_add_target(enum model_head head, uint32_t class_count, uint32_t label, float share,
                    float smoothing, float *target)
{
    const int softmax = head == MODEL_SOFTMAX;
    const float low = softmax ? smoothing / (float)class_count : 0.0f;
    const float high = softmax ? 1.0f - smoothing + low : 1.0f;

    for (uint32_t c = 0; c < class_count; c++)
        target[c] += share * (c == label ? high : low);
}

void net_set_targets(uint32_t class_count, uint32_t on, float *target)
{
    for (uint32_t c = 0; c < class_count; c++)
        target[c] = c < 32 && (on >> c & 1u) ? 1.0f : 0.0f;
}

/* -log p, finite also where p is not a number or 0 */
static double cost(double p)
{
    return -log(p > 1e-12 ? p : 1e-12);
}

double net_loss(const struct net *net, const float *logits, const float *targets,
                const float *weights, uint32_t n, float scale, float *d_logits)
{
    const uint32_t classes = net->class_count;
    const int softmax = net->head == MODEL_SOFTMAX;
    double loss = 0.0;

    for (uint32_t i = 0; i < n; i++) {
        const float *target = targets + (size_t)i * classes;
        const float weight = weights ? weights[i] : 1.0f;
        float *d = d_logits + (size_t)i * classes;
        float step = weight * (softmax ? scale : scale / (float)classes);
        double sum = 0.0;
        net_probabilities(net->head, classes, logits + (size_t)i * classes, d);
        for (uint32_t c = 0; c < classes; c++) {
            double p = (double)d[c];
            sum += (double)target[c] * cost(p);
            if (!softmax)
                sum += (1.0 - (double)target[c]) * cost(1.0 - p);
            d[c] = step * (d[c] - target[c]);
        }
        loss += (double)weight * (softmax ? sum : sum / classes);
    }
    return loss;
}

/* q log(q / p) */
static double divergence(double q, double p)
{
    return q > 0.0 ? q * (cost(p) - cost(q)) : 0.0;
}

double net_loss_teacher(const struct net *net, const float *logits, const float *teacher,
                        const float *weights, float temperature, uint32_t n, float scale,
                        float *d_logits)
{
    const uint32_t classes = net->class_count;
    const int softmax = net->head == MODEL_SOFTMAX;
    const double t = (double)temperature;
    double loss = 0.0;

    for (uint32_t i = 0; i < n; i++) {
        const float *z = logits + (size_t)i * classes, *q = teacher + (size_t)i * classes;
        const double weight = weights ? (double)weights[i] : 1.0;
        const double step = weight * (double)scale * t / (softmax ? 1.0 : (double)classes);
        float *d = d_logits + (size_t)i * classes, largest = z[0];
        double sum = 0.0, total = 0.0;
        for (uint32_t c = 1; c < classes; c++)
            largest = z[c] > largest ? z[c] : largest;
        for (uint32_t c = 0; softmax && c < classes; c++)
            total += exp((double)(z[c] - largest) / t);
        for (uint32_t c = 0; c < classes; c++) {
            double p = softmax ? exp((double)(z[c] - largest) / t) / total
                               : 1.0 / (1.0 + exp(-(double)z[c] / t));
            sum += divergence((double)q[c], p);
            if (!softmax)
                sum += divergence(1.0 - (double)q[c], 1.0 - p);
            d[c] += (float)(step * (p - (double)q[c]));
        }
        loss += weight * t * t * (softmax ? sum : sum / classes);
    }
    return loss;
}
