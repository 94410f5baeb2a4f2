/* engine_plan.c - see engine_plan.h. */
#include "inference/engine_plan.h"

static uint32_t gcd(uint32_t a, uint32_t b)
{
    while (b) {
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Columns of its input that a layer reads to make `columns` of its own. */
static uint32_t reads(const struct model_layer *l, uint32_t columns)
{
    return l->op == MODEL_CONV1D ? columns + l->taps - 1 : columns * l->pool;
}

/* stages and columns: what one window needs, from the back to the front. */
static void plan_window(const struct model *m, struct engine_plan *plan)
{
    uint32_t n = 0;

    while (m->layers[n].op != MODEL_FLATTEN)
        n++;
    plan->stages = n;
    plan->columns[n] = m->layers[n].in_columns;
    for (; n > 0; n--)
        plan->columns[n - 1] = reads(&m->layers[n - 1], plan->columns[n]);
    plan->tail = m->window - plan->columns[0];
}

static uint32_t channels_of(const struct model *m, uint32_t stage)
{
    return m->layers[stage].in_channels; /* of the layer behind it; FLATTEN is behind the last */
}

/* kept, from what the next layer reads, and the size of the buffers. fresh is set. */
static void plan_kept(const struct model *m, struct engine_plan *plan)
{
    plan->buffer_bytes = 0;
    for (uint32_t i = 0; i <= plan->stages; i++) {
        struct engine_flow *f = &plan->flow[i];
        uint32_t need =
            i < plan->stages ? reads(&m->layers[i], plan->flow[i + 1].fresh) : plan->columns[i];
        size_t bytes = (size_t)need * channels_of(m, i);

        f->kept = need - f->fresh;
        f->slot_bytes = f->kept * channels_of(m, i);
        if (bytes > plan->buffer_bytes)
            plan->buffer_bytes = bytes;
    }
    for (uint32_t i = plan->stages + 1; i < m->layer_count; i++)
        if (m->layers[i].out_channels > plan->buffer_bytes)
            plan->buffer_bytes = m->layers[i].out_channels;
}

size_t engine_plan_stream(const struct model *m, uint32_t hop, size_t state_from,
                          struct engine_plan *plan)
{
    uint32_t stride = 1, need;
    size_t at;

    plan_window(m, plan);
    for (uint32_t i = 0; i <= plan->stages; i++) {
        struct engine_flow *f = &plan->flow[i];
        uint32_t g;

        if (i > 0 && m->layers[i - 1].op == MODEL_MAXPOOL1D)
            stride *= m->layers[i - 1].pool; /* at most window */
        g = gcd(hop, stride);
        f->phases = stride / g;
        f->fresh = hop / g < plan->columns[i] ? hop / g : plan->columns[i];
    }
    plan->turns = plan->flow[plan->stages].phases;
    plan_kept(m, plan);

    /* The input has one phase; hop new samples come to what is kept of it, which is as much as one
     * phase and the tail need. */
    need = plan->flow[0].fresh + plan->flow[0].kept + plan->tail;
    plan->history = need > hop ? need - hop : 0;
    if ((size_t)need * m->channel_count > plan->buffer_bytes)
        plan->buffer_bytes = (size_t)need * m->channel_count;
    at = state_from + (size_t)plan->history * m->channel_count;
    for (uint32_t i = 1; i <= plan->stages; i++) {
        plan->flow[i].slots_at = at;
        at += (size_t)plan->flow[i].slot_bytes * plan->flow[i].phases;
    }
    return at;
}

void engine_plan_whole(const struct model *m, struct engine_plan *plan)
{
    plan_window(m, plan);
    for (uint32_t i = 0; i <= plan->stages; i++)
        plan->flow[i] = (struct engine_flow){.fresh = plan->columns[i], .phases = 1};
    plan->turns = 1;
    plan->history = 0;
    plan_kept(m, plan);
}
