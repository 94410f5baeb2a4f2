/* model_encode.c - writes a model file (SPEC.md section 1).
 *
 * Only what is needed to follow the pointers of a hand-built model is checked before writing. All
 * other rules are the reader's: the finished bytes go through it once, so there is one list of
 * rules and it cannot drift apart.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "inference/model.h"
#include "inference/model_format.h"

/* Counts when base is NULL, writes otherwise; both passes run the same code, so the sizes agree. */
struct writer {
    unsigned char *base;
    uint64_t at;
};

static void put(struct writer *w, const void *data, uint64_t size)
{
    if (w->base && size)
        memcpy(w->base + w->at, data, (size_t)size);
    w->at += size;
}

static void put_u8(struct writer *w, unsigned v)
{
    unsigned char byte = (unsigned char)v;
    put(w, &byte, 1);
}

static void put_u32(struct writer *w, uint32_t v)
{
    put(w, &v, sizeof(v));
}

static void put_f32(struct writer *w, float v)
{
    put(w, &v, sizeof(v));
}

static void pad(struct writer *w, uint64_t align)
{
    static const unsigned char zeros[MODEL_FORMAT_ALIGN];
    put(w, zeros, (align - w->at % align) % align);
}

/* A text field: the bytes after the NUL are zero in the file whatever they are in memory. */
static void put_text(struct writer *w, const char *text)
{
    char field[MODEL_LABEL_BYTES] = {0};
    size_t n = strnlen(text, sizeof(field)); /* without a NUL the reader will refuse it */

    memcpy(field, text, n);
    put(w, field, sizeof(field));
}

static void put_head(struct writer *w, const struct model *m)
{
    put_u8(w, m->dtype);
    put_u8(w, m->head);
    put_u8(w, 0);
    put_u8(w, 0);
    put_u32(w, m->version);
    put_u32(w, m->window);
    put_u32(w, m->period_ms);
    put_u32(w, m->hop);
    put_f32(w, m->reject);
    put_f32(w, m->min_activity_w);
    put_u32(w, m->channel_count);
    put_u32(w, m->layer_count);
    put_u32(w, m->class_count);
    put_u32(w, m->golden_count);
    put_u32(w, 0);
    put_text(w, m->family);
}

static void put_channels(struct writer *w, const struct model *m)
{
    for (uint32_t i = 0; i < m->channel_count; i++) {
        put_u32(w, m->channels[i].feature);
        put_f32(w, m->channels[i].full);
        if (m->dtype == MODEL_INT8)
            put(w, m->channels[i].thresholds, MODEL_LEVELS * sizeof(float));
    }
}

static void put_layers(struct writer *w, const struct model *m)
{
    for (uint32_t i = 0; i < m->layer_count; i++) {
        const struct model_layer *l = &m->layers[i];
        int quantized = m->dtype == MODEL_INT8, last = i + 1 == m->layer_count;

        put_u8(w, l->op);
        put_u8(w, l->relu ? 1u : 0u);
        put_u8(w, quantized ? (unsigned char)l->in_zero : 0u);
        put_u8(w, quantized && !last ? (unsigned char)l->out_zero : 0u);
        put_u32(w, l->out_channels);
        put_u32(w, l->taps);
        put_u32(w, l->pool);
        put_f32(w, quantized ? l->in_scale : 0.0f);
        put_f32(w, quantized && !last ? l->out_scale : 0.0f);
        put_text(w, l->name);
    }
}

static void put_weights(struct writer *w, const struct model *m)
{
    for (uint32_t i = 0; i < m->layer_count; i++) {
        const struct model_layer *l = &m->layers[i];
        uint64_t weights = model_format_weights(l), outputs = l->out_channels;

        if (!weights)
            continue;
        if (m->dtype == MODEL_FP32) {
            put(w, l->weights_f32, weights * 4);
            put(w, l->bias_f32, outputs * 4);
            continue;
        }
        put(w, l->weights, weights);
        pad(w, 4);
        put(w, l->bias, outputs * 4);
        put(w, l->weight_scale, outputs * 4);
        if (i + 1 == m->layer_count) {
            put(w, l->logit_scale, outputs * 4);
        } else {
            put(w, l->multiplier, outputs * 4);
            put(w, l->shift, outputs);
            pad(w, 4);
        }
    }
}

static void put_section(struct writer *w, const struct model *m, int section)
{
    switch (section) {
    case MODEL_FORMAT_HEAD:
        put_head(w, m);
        break;
    case MODEL_FORMAT_CHAN:
        put_channels(w, m);
        break;
    case MODEL_FORMAT_LAYR:
        put_layers(w, m);
        break;
    case MODEL_FORMAT_WGTS:
        put_weights(w, m);
        break;
    case MODEL_FORMAT_LABL:
        for (uint32_t i = 0; i < m->class_count; i++)
            put_text(w, m->labels[i]);
        break;
    case MODEL_FORMAT_GOLD:
        for (uint32_t i = 0; i < m->golden_count; i++) {
            put(w, m->golden[i].watts, ((uint64_t)m->window + 1) * 4);
            put(w, m->golden[i].logits, (uint64_t)m->class_count * 4);
        }
        break;
    default:
        put(w, m->meta ? m->meta : "", m->meta ? strlen(m->meta) + 1 : 1);
        break;
    }
}

/* The whole file; returns its size. The header is filled in behind the sections, when their places
 * are known. */
static uint64_t put_file(struct writer *w, const struct model *m)
{
    struct writer front = {w->base, 0};
    uint64_t places[MODEL_FORMAT_SECTIONS], ends[MODEL_FORMAT_SECTIONS];

    w->at = MODEL_FORMAT_HEADER_BYTES + MODEL_FORMAT_SECTIONS * MODEL_FORMAT_ENTRY_BYTES;
    for (int s = 0; s < MODEL_FORMAT_SECTIONS; s++) {
        pad(w, MODEL_FORMAT_ALIGN);
        places[s] = w->at;
        put_section(w, m, s);
        ends[s] = w->at;
    }
    if (!w->base)
        return w->at;
    put(&front, MODEL_FORMAT_MAGIC, 4);
    put_u32(&front, MODEL_FORMAT_VERSION); /* and flags 0 in the upper half */
    put_u32(&front, (uint32_t)w->at);
    put_u32(&front, 0);                     /* check sum, below */
    put_u32(&front, MODEL_FORMAT_SECTIONS); /* what follows up to the table stays 0 */
    front.at = MODEL_FORMAT_HEADER_BYTES;
    for (int s = 0; s < MODEL_FORMAT_SECTIONS; s++) {
        put(&front, model_format_tags[s], 4);
        put_u32(&front, (uint32_t)places[s]);
        put_u32(&front, (uint32_t)(ends[s] - places[s]));
        put_u32(&front, 0);
    }
    front.at = 12;
    put_u32(&front, model_format_crc32(w->base + MODEL_FORMAT_CRC_FROM,
                                       (size_t)(w->at - MODEL_FORMAT_CRC_FROM)));
    return w->at;
}

/* NULL when every array that the writer will read is there, else the name of the missing one. */
static const char *missing_array(const struct model *m)
{
    for (uint32_t i = 0; m->dtype == MODEL_INT8 && i < m->channel_count; i++)
        if (!m->channels[i].thresholds)
            return "a channel's thresholds";
    for (uint32_t i = 0; i < m->layer_count; i++) {
        const struct model_layer *l = &m->layers[i];

        if (!model_format_weights(l))
            continue;
        if (m->dtype == MODEL_FP32 && (!l->weights_f32 || !l->bias_f32))
            return "a layer's weights_f32 or bias_f32";
        if (m->dtype == MODEL_INT8 && (!l->weights || !l->bias || !l->weight_scale))
            return "a layer's weights, bias or weight_scale";
        if (m->dtype == MODEL_INT8 && i + 1 == m->layer_count && !l->logit_scale)
            return "the last layer's logit_scale";
        if (m->dtype == MODEL_INT8 && i + 1 < m->layer_count && (!l->multiplier || !l->shift))
            return "a layer's multiplier or shift";
    }
    if (!m->labels)
        return "labels";
    if (m->golden_count && !m->golden)
        return "golden";
    for (uint32_t i = 0; i < m->golden_count; i++)
        if (!m->golden[i].watts || !m->golden[i].logits)
            return "a golden vector's watts or logits";
    return NULL;
}

/* Checks what the writer relies on: counts, derived geometry, arrays. */
static int check_writable(const struct model *m, char *why, size_t why_size)
{
    struct model derived = *m;
    const char *missing;

    if ((m->dtype != MODEL_FP32 && m->dtype != MODEL_INT8) ||
        (m->head != MODEL_SOFTMAX && m->head != MODEL_SIGMOID) || m->window < 1 ||
        m->window > MODEL_MAX_WINDOW || m->channel_count < 1 ||
        m->channel_count > MODEL_MAX_CHANNELS || m->layer_count < 1 ||
        m->layer_count > MODEL_MAX_LAYERS || m->class_count < 1 ||
        m->class_count > MODEL_MAX_CLASSES || m->golden_count > MODEL_MAX_GOLDEN) {
        model_format_why(
            why, why_size,
            "HEAD: dtype, head, window or a count is out of range (dtype %d, head %d, window %u, "
            "%u channels, %u layers, %u classes, %u golden vectors)",
            (int)m->dtype, (int)m->head, m->window, m->channel_count, m->layer_count,
            m->class_count, m->golden_count);
        return -EINVAL;
    }
    if (model_format_geometry(&derived, why, why_size))
        return -EINVAL;
    for (uint32_t i = 0; i < m->layer_count; i++) {
        const struct model_layer *a = &m->layers[i], *b = &derived.layers[i];

        if (a->in_channels == b->in_channels && a->out_channels == b->out_channels &&
            a->in_columns == b->in_columns && a->out_columns == b->out_columns)
            continue;
        model_format_why(
            why, why_size,
            "LAYR: layer %u: shape %u x %u to %u x %u (columns x channels), expected %u x %u to "
            "%u x %u",
            i + 1, a->in_columns, a->in_channels, a->out_columns, a->out_channels, b->in_columns,
            b->in_channels, b->out_columns, b->out_channels);
        return -EINVAL;
    }
    missing = missing_array(m);
    if (missing) {
        model_format_why(why, why_size, "%s: missing (NULL)", missing);
        return -EINVAL;
    }
    return 0;
}

int model_encode(const struct model *m, void **data, size_t *size, char *why, size_t why_size)
{
    struct writer count = {0}, w = {0};
    struct model *check = NULL;
    uint64_t total;
    int rc;

    *data = NULL;
    *size = 0;
    rc = check_writable(m, why, why_size);
    if (rc)
        return rc;
    total = put_file(&count, m);
    if (total > MODEL_MAX_BYTES) {
        model_format_why(why, why_size, "the file would have %llu bytes, at most %u are allowed",
                         (unsigned long long)total, MODEL_MAX_BYTES);
        return -EINVAL;
    }
    w.base = calloc(1, (size_t)total);
    if (!w.base) {
        model_format_why(why, why_size, "out of memory");
        return -ENOMEM;
    }
    put_file(&w, m);
    rc = model_decode(w.base, (size_t)total, &check, why, why_size);
    model_free(check);
    if (rc) {
        free(w.base);
        return rc == -ENOMEM ? rc : -EINVAL;
    }
    *data = w.base;
    *size = (size_t)total;
    return 0;
}
