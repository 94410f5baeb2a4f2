/* quantize_aware.c - the INT8 model as a net of floats, and back: what quantization-aware
 * fine-tuning computes with.
 *
 * The optimizer moves a net of its own ("master weights"); what is computed, forward and backward,
 * is the net of the integers nearest to it. Gradients by these are taken for gradients by the
 * master weights (straight-through estimator, Bengio et al. 2013). Scales stay those of static
 * quantization, so training begins with just the integers that static quantization ended with.
 */
#include <math.h>
#include <string.h>

#include "inference/workshop/quantize_rows.h"

#define MOST_BIAS 1073741824.0 /* leaves room for the sum (SPEC 1.7.2) */

int quantize_reads_input(const struct net *net, uint32_t i)
{
    int first = 1;

    for (uint32_t k = 0; k < i; k++)
        first = first && !net->layers[k].weight_count;
    return first;
}

double quantize_row_of(const struct net *net, uint32_t i, const struct model *like, uint32_t o,
                       double *row)
{
    const struct net_layer *l = &net->layers[i];
    const size_t fan_in = l->weight_count / l->out_channels;
    double bias = (double)net->params[l->bias + o];
    const int first = quantize_reads_input(net, i);

    for (size_t k = 0; k < fan_in; k++) {
        double scale, offset;
        row[k] = (double)net->params[l->weights + o * fan_in + k];
        if (!first)
            continue;
        quantize_input(like->channels[k % like->channel_count].feature, &scale, &offset);
        bias += row[k] * offset;
        row[k] *= scale / QUANTIZE_IN_SCALE;
    }
    return bias;
}

/* Of output o of layer i: integers from net's weights. A weight beyond the outermost level is taken
 * back to it, or it would move on there without effect, and back without effect later. */
static void take_row(struct quantized *q, struct net *net, uint32_t i, uint32_t o)
{
    const struct net_layer *l = &net->layers[i];
    const size_t fan_in = l->weight_count / l->out_channels;
    double *row = q->row;
    const double scale = (double)q->layers[i].weight_scale[o];
    float *from = net->params + l->weights + o * fan_in;
    double bias;

    (void)quantize_row_of(net, i, &q->m, o, row);
    for (size_t k = 0; k < fan_in; k++)
        if (fabs(row[k]) > 127.0 * scale)
            from[k] = (float)((double)from[k] * 127.0 * scale / fabs(row[k]));
    bias = quantize_row_of(net, i, &q->m, o, row);
    for (size_t k = 0; k < fan_in; k++)
        q->layers[i].weights[o * fan_in + k] = (int8_t)lround(row[k] / scale);
    bias /= (double)q->m.layers[i].in_scale * scale;
    bias = bias > MOST_BIAS ? MOST_BIAS : bias < -MOST_BIAS ? -MOST_BIAS : bias;
    q->layers[i].bias[o] = (int32_t)lround(bias);
}

/* The reverse: what the integers mean. */
static void give_row(const struct quantized *q, struct net *real, uint32_t i, uint32_t o)
{
    const struct net_layer *l = &real->layers[i];
    const struct model_layer *m = &q->m.layers[i];
    const size_t fan_in = l->weight_count / l->out_channels;
    const double step = (double)m->weight_scale[o];
    const int first = quantize_reads_input(real, i);
    double bias = (double)m->bias[o] * (double)m->in_scale * step;

    for (size_t k = 0; k < fan_in; k++) {
        double w = step * m->weights[o * fan_in + k];
        if (first) {
            double scale, offset;
            quantize_input(q->m.channels[k % q->m.channel_count].feature, &scale, &offset);
            w *= (double)m->in_scale / scale;
            bias -= w * offset;
        }
        real->params[l->weights + o * fan_in + k] = (float)w;
    }
    real->params[l->bias + o] = (float)bias;
}

static void give(const struct quantized *q, struct net *real)
{
    for (uint32_t i = 0; i < real->layer_count; i++)
        for (uint32_t o = 0; real->layers[i].weight_count && o < real->layers[i].out_channels; o++)
            give_row(q, real, i, o);
}

void quantize_round_inputs(const struct model_channel *channels, struct net *net)
{
    for (uint32_t c = 0; c < net->channels; c++) {
        double scale, offset;
        quantize_input(channels[c].feature, &scale, &offset);
        net->inputs[c].step = (float)scale;
        net->inputs[c].offset = (float)offset;
    }
}

int quantize_real(const struct quantized *q, const struct net *net, struct net **out)
{
    int rc = net_clone(net, out);

    if (rc)
        return rc;
    quantize_round_inputs(q->m.channels, *out);
    for (uint32_t i = 0; i + 1 < net->layer_count; i++) { /* the logits are not rounded */
        const struct model_layer *m = &q->m.layers[i];
        struct net_layer *l = &(*out)->layers[i];
        if (!l->weight_count)
            continue;
        l->step = m->out_scale;
        l->least = l->relu ? 0.0f : (float)(-128 - m->out_zero);
        l->most = (float)(127 - m->out_zero);
    }
    give(q, *out);
    return 0;
}

void quantize_apply(struct quantized *q, struct net *net, struct net *real)
{
    for (uint32_t i = 0; i < net->layer_count; i++)
        for (uint32_t o = 0; net->layers[i].weight_count && o < net->layers[i].out_channels; o++)
            take_row(q, net, i, o);
    give(q, real);
}
