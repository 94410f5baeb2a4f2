/* onnx_graph.c - constants, attributes and refusals of the node being read. */
#include <onnx.pb-c.h>

#include "inference/workshop/onnx_graph.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int onnx_graph_refuse(struct onnx_graph *g, const char *format, ...)
{
    const Onnx__NodeProto *n = g->node;
    size_t used = 0;
    va_list args;

    if (!g->why || !g->why_size)
        return -EINVAL;
    if (n) {
        const char *name = n->name[0] ? n->name : n->n_output ? n->output[0] : "";
        int length = snprintf(g->why, g->why_size, "node \"%.64s\" (%.32s): ", name, n->op_type);
        used = length < 0 ? 0 : (size_t)length;
    }
    if (used < g->why_size) {
        va_start(args, format);
        (void)vsnprintf(g->why + used, g->why_size - used, format, args);
        va_end(args);
    }
    for (char *p = g->why; *p; p++) /* names from the file must not steer a terminal */
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    return -EINVAL;
}

const char *onnx_graph_input(const struct onnx_graph *g, size_t i)
{
    return i < g->node->n_input && g->node->input[i][0] ? g->node->input[i] : NULL;
}

const Onnx__TensorProto *onnx_graph_constant(const struct onnx_graph *g, const char *name)
{
    for (size_t i = 0; name && i < g->constant_count; i++)
        if (!strcmp(g->constants[i].name, name))
            return g->constants[i].tensor;
    return NULL;
}

const struct onnx_seen *onnx_graph_seen(const struct onnx_graph *g, const char *name)
{
    for (size_t i = 0; name && i < g->seen_count; i++)
        if (!strcmp(g->seen[i].name, name))
            return &g->seen[i];
    return NULL;
}

static int check_name(struct onnx_graph *g, const char *name)
{
    if (strnlen(name, ONNX_MAX_NAME + 1) > ONNX_MAX_NAME)
        return onnx_graph_refuse(g, "a name is longer than %u bytes", ONNX_MAX_NAME);
    if (onnx_graph_constant(g, name) || onnx_graph_seen(g, name))
        return onnx_graph_refuse(g, "the name \"%.64s\" is given twice", name);
    return 0;
}

int onnx_graph_add_constant(struct onnx_graph *g, const char *name, const Onnx__TensorProto *t)
{
    int rc = check_name(g, name);

    if (rc)
        return rc;
    if (g->constant_count == sizeof(g->constants) / sizeof(*g->constants))
        return onnx_graph_refuse(g, "more than %zu constants", g->constant_count);
    g->constants[g->constant_count++] = (struct onnx_constant){name, t};
    return 0;
}

int onnx_graph_name(struct onnx_graph *g, const char *name)
{
    struct onnx_seen *s = &g->seen[g->seen_count];
    int rc = check_name(g, name);

    if (rc)
        return rc;
    s->name = g->current = name;
    s->rank = g->rank;
    for (uint32_t i = 0; i < g->rank; i++)
        s->sizes[i] = g->axes[i].size;
    g->seen_count++; /* the input's, then at most one for each node */
    return 0;
}

/* Dimensions and number of elements; at most what a model file could hold. */
static int measure(struct onnx_graph *g, const char *name, const Onnx__TensorProto *t,
                   struct onnx_tensor *out)
{
    uint64_t count = 1;

    if (t->data_location || t->n_external_data)
        return onnx_graph_refuse(g, "\"%.64s\" lies in another file; save the model with its data",
                                 name);
    if (t->n_dims > ONNX_MAX_RANK)
        return onnx_graph_refuse(g, "\"%.64s\" has more than %u dimensions", name, ONNX_MAX_RANK);
    out->rank = (uint32_t)t->n_dims;
    for (size_t i = 0; i < t->n_dims; i++) {
        if (t->dims[i] < 1 || t->dims[i] > (int64_t)(MODEL_MAX_BYTES / 4))
            return onnx_graph_refuse(g, "\"%.64s\": dimension %zu is %lld", name, i,
                                     (long long)t->dims[i]);
        out->dims[i] = (uint32_t)t->dims[i];
        count *= out->dims[i]; /* at most 2^24 each time: no overflow */
        if (count > MODEL_MAX_BYTES / 4)
            return onnx_graph_refuse(g, "\"%.64s\" has more elements than a model may have", name);
    }
    out->count = (size_t)count;
    return 0;
}

int onnx_graph_floats(struct onnx_graph *g, size_t i, struct onnx_tensor *out)
{
    const char *name = onnx_graph_input(g, i);
    const Onnx__TensorProto *t = onnx_graph_constant(g, name);
    int rc;

    memset(out, 0, sizeof(*out));
    if (!t && onnx_graph_seen(g, name))
        return onnx_graph_refuse(g, "reads \"%.64s\" besides: only chains are supported", name);
    if (!t)
        return onnx_graph_refuse(g, "input %zu (\"%.64s\") must be a constant", i + 1,
                                 name ? name : "");
    if (t->data_type != ONNX_TYPE_FLOAT)
        return onnx_graph_refuse(g, "\"%.64s\" has data type %d; expected 1 (float)", name,
                                 (int)t->data_type);
    rc = measure(g, name, t, out);
    if (rc)
        return rc;
    if (t->raw_data.len == out->count * sizeof(float) && !t->n_float_data)
        out->raw = t->raw_data.data;
    else if (t->n_float_data == out->count && !t->raw_data.len)
        out->values = t->float_data;
    else
        return onnx_graph_refuse(g, "\"%.64s\" has %zu numbers and %zu raw bytes for %zu elements",
                                 name, t->n_float_data, t->raw_data.len, out->count);
    return 0;
}

int onnx_graph_integers(struct onnx_graph *g, size_t i, int64_t *out, uint32_t room,
                        uint32_t *count)
{
    const char *name = onnx_graph_input(g, i);
    const Onnx__TensorProto *t = onnx_graph_constant(g, name);
    struct onnx_tensor shape = {0};
    int rc;

    if (!t)
        return onnx_graph_refuse(g, "input %zu (\"%.64s\") must be a constant", i + 1,
                                 name ? name : "");
    rc = measure(g, name, t, &shape);
    if (rc)
        return rc;
    if ((t->data_type != ONNX_TYPE_INT64 && t->data_type != ONNX_TYPE_INT32) || shape.rank > 1 ||
        shape.count > room)
        return onnx_graph_refuse(g, "\"%.64s\" must be at most %u integers of 32 or 64 bits", name,
                                 room);
    const int wide = t->data_type == ONNX_TYPE_INT64;
    const size_t numbers = wide ? t->n_int64_data : t->n_int32_data;
    if (!(t->raw_data.len == shape.count * (wide ? 8u : 4u) && !numbers) &&
        !(numbers == shape.count && !t->raw_data.len))
        return onnx_graph_refuse(g, "\"%.64s\" has %zu numbers and %zu raw bytes for %zu elements",
                                 name, numbers, t->raw_data.len, shape.count);
    for (size_t k = 0; k < shape.count; k++) {
        int32_t narrow = 0;
        if (numbers)
            out[k] = wide ? t->int64_data[k] : t->int32_data[k];
        else if (wide)
            memcpy(&out[k], t->raw_data.data + 8 * k, 8);
        else
            memcpy(&narrow, t->raw_data.data + 4 * k, 4);
        if (!numbers && !wide)
            out[k] = narrow;
    }
    *count = (uint32_t)shape.count;
    return 0;
}

float onnx_graph_number(const struct onnx_tensor *t, size_t i)
{
    float f;

    if (t->values)
        return t->values[i];
    memcpy(&f, t->raw + i * sizeof(f), sizeof(f));
    return f;
}

const Onnx__AttributeProto *onnx_graph_attribute(const struct onnx_graph *g, const char *name)
{
    for (size_t i = 0; i < g->node->n_attribute; i++)
        if (!strcmp(g->node->attribute[i]->name, name))
            return g->node->attribute[i];
    return NULL;
}

int onnx_graph_int(struct onnx_graph *g, const char *name, int64_t fallback, int64_t *out)
{
    const Onnx__AttributeProto *a = onnx_graph_attribute(g, name);

    if (a && a->type != ONNX_ATTRIBUTE_INT)
        return onnx_graph_refuse(g, "attribute %s must be an integer", name);
    *out = a ? a->i : fallback;
    return 0;
}

int onnx_graph_float(struct onnx_graph *g, const char *name, float fallback, float *out)
{
    const Onnx__AttributeProto *a = onnx_graph_attribute(g, name);

    if (a && a->type != ONNX_ATTRIBUTE_FLOAT)
        return onnx_graph_refuse(g, "attribute %s must be a number", name);
    *out = a ? a->f : fallback;
    return 0;
}

int onnx_graph_ints(struct onnx_graph *g, const char *name, const int64_t **values, size_t *count)
{
    const Onnx__AttributeProto *a = onnx_graph_attribute(g, name);

    if (a && a->type != ONNX_ATTRIBUTE_INTS)
        return onnx_graph_refuse(g, "attribute %s must be a list of integers", name);
    *values = a ? a->ints : NULL;
    *count = a ? a->n_ints : 0;
    return 0;
}
