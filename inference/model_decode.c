/* model_decode.c - reads a model file (SPEC.md section 1), which is hostile until every field has
 * been checked.
 *
 * The sections are walked in order with a cursor each: a length is compared with what is left
 * before a pointer is formed, and each section must be used up exactly. Every file that is accepted
 * has one form only: model_encode gives the same bytes again.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "inference/model.h"
#include "inference/model_format.h"

struct decoder {
    struct model *m;
    struct model_golden *golden;
    char *why;
    size_t why_size;
    struct cursor {
        const unsigned char *at;
        size_t left;
    } sections[MODEL_FORMAT_SECTIONS];
};

/* Says what is wrong; returns -EBADMSG so that a check is one statement. */
#define REFUSE(d, ...) (model_format_why((d)->why, (d)->why_size, __VA_ARGS__), -EBADMSG)

static uint16_t get_u16(const unsigned char *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static uint32_t get_u32(const unsigned char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static float get_f32(const unsigned char *p)
{
    float v;
    memcpy(&v, p, sizeof(v));
    return v;
}

/* The next count elements of size bytes, or NULL when the section is too short. The 64-bit product
 * cannot overflow: counts are below 2^33. */
static const void *take(struct cursor *c, uint64_t count, unsigned size)
{
    const void *at = c->at;

    if (count * size > c->left)
        return NULL;
    c->at += (size_t)(count * size);
    c->left -= (size_t)(count * size);
    return at;
}

static int all_zero(const unsigned char *p, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (p[i])
            return 0;
    return 1;
}

/* Zero bytes up to the next multiple of align (counted from the file's start, which is aligned). */
static int take_padding(struct cursor *c, unsigned align)
{
    size_t n = (align - (uintptr_t)c->at % align) % align;
    const unsigned char *p = take(c, n, 1);

    return p && all_zero(p, n);
}

/* A text field: NUL-terminated, zeros behind the NUL. */
static int is_text_field(const char *field)
{
    size_t n = strnlen(field, MODEL_LABEL_BYTES);

    return n < MODEL_LABEL_BYTES &&
           all_zero((const unsigned char *)field + n, MODEL_LABEL_BYTES - n);
}

static int all_finite(const float *v, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        if (!isfinite(v[i]))
            return 0;
    return 1;
}

static int is_scale(float v)
{
    return v >= MODEL_FORMAT_MIN_SCALE && v <= MODEL_FORMAT_MAX_SCALE; /* false for a NaN */
}

/* 0 with the sign bit clear: a negative zero would be a second form of the same file (SPEC 1.11).
 */
static int is_zero(float v)
{
    return v == 0.0f && !signbit(v);
}

static int all_scales(const float *v, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        if (!is_scale(v[i]))
            return 0;
    return 1;
}

static int decode_header(struct decoder *d, const unsigned char *file, size_t size)
{
    if (size < MODEL_FORMAT_HEADER_BYTES)
        return REFUSE(d, "header: %zu bytes, expected at least %u", size,
                      MODEL_FORMAT_HEADER_BYTES);
    if (memcmp(file, MODEL_FORMAT_MAGIC, 4) != 0)
        return REFUSE(d, "header: not a model file (it does not begin with NILM)");
    if (get_u16(file + 4) != MODEL_FORMAT_VERSION) {
        (void)REFUSE(d, "header: format %u, expected %u", get_u16(file + 4), MODEL_FORMAT_VERSION);
        return -ENOTSUP;
    }
    if (get_u16(file + 6) != 0) {
        (void)REFUSE(d, "header: unknown flags 0x%04x, expected 0", get_u16(file + 6));
        return -ENOTSUP;
    }
    if (get_u32(file + 8) != size)
        return REFUSE(d, "header: the file says %u bytes, but there are %zu", get_u32(file + 8),
                      size);
    if (get_u32(file + 12) !=
        model_format_crc32(file + MODEL_FORMAT_CRC_FROM, size - MODEL_FORMAT_CRC_FROM))
        return REFUSE(d, "header: the check sum does not match, the file is damaged");
    if (get_u32(file + 16) != MODEL_FORMAT_SECTIONS)
        return REFUSE(d, "header: %u sections, expected %d", get_u32(file + 16),
                      (int)MODEL_FORMAT_SECTIONS);
    if (!all_zero(file + 20, 12))
        return REFUSE(d, "header: reserved bytes are not zero");
    return 0;
}

/* Sections lie in a fixed order without holes, so the table has one right form for given lengths.
 */
static int decode_table(struct decoder *d, const unsigned char *file, size_t size)
{
    size_t end = MODEL_FORMAT_HEADER_BYTES + MODEL_FORMAT_SECTIONS * MODEL_FORMAT_ENTRY_BYTES;

    if (size < end)
        return REFUSE(d, "section table: %zu bytes, expected at least %zu", size, end);
    for (int s = 0; s < MODEL_FORMAT_SECTIONS; s++) {
        const unsigned char *entry =
            file + MODEL_FORMAT_HEADER_BYTES + (size_t)s * MODEL_FORMAT_ENTRY_BYTES;
        const char *tag = model_format_tags[s];
        uint32_t offset = get_u32(entry + 4), length = get_u32(entry + 8);
        size_t place = (end + MODEL_FORMAT_ALIGN - 1) / MODEL_FORMAT_ALIGN * MODEL_FORMAT_ALIGN;

        if (memcmp(entry, tag, 4) != 0)
            return REFUSE(d, "section table: entry %d is not %s", s + 1, tag);
        if (get_u32(entry + 12) != 0)
            return REFUSE(d, "section table: %s: reserved bytes are not zero", tag);
        if (offset != place || place > size)
            return REFUSE(d, "section table: %s: offset %u, expected %zu", tag, offset, place);
        if (length > size - place)
            return REFUSE(d, "section table: %s: %u bytes, but only %zu are left", tag, length,
                          size - place);
        if (!all_zero(file + end, place - end))
            return REFUSE(d, "section table: the padding before %s is not zero", tag);
        d->sections[s].at = file + place;
        d->sections[s].left = length;
        end = place + length;
    }
    if (end != size)
        return REFUSE(d, "section table: %zu bytes behind the last section", size - end);
    return 0;
}

/* A count or size of HEAD within its limits. */
static int check_range(struct decoder *d, const char *field, uint32_t v, uint32_t low,
                       uint32_t high)
{
    if (v >= low && v <= high)
        return 0;
    return REFUSE(d, "HEAD: %s is %u, expected %u to %u", field, v, low, high);
}

static int decode_head(struct decoder *d)
{
    struct model *m = d->m;
    struct cursor *c = &d->sections[MODEL_FORMAT_HEAD];
    const unsigned char *p = take(c, 1, MODEL_FORMAT_HEAD_BYTES);
    int rc;

    if (!p || c->left)
        return REFUSE(d, "HEAD: the section is not %u bytes long", MODEL_FORMAT_HEAD_BYTES);
    if (p[0] != MODEL_FP32 && p[0] != MODEL_INT8)
        return REFUSE(d, "HEAD: dtype is %u, expected 1 (FP32) or 2 (INT8)", p[0]);
    if (p[1] != MODEL_SOFTMAX && p[1] != MODEL_SIGMOID)
        return REFUSE(d, "HEAD: head is %u, expected 1 (softmax) or 2 (sigmoid)", p[1]);
    if (!all_zero(p + 2, 2) || !all_zero(p + 44, 4))
        return REFUSE(d, "HEAD: reserved bytes are not zero");
    m->dtype = (enum model_dtype)p[0];
    m->head = (enum model_head)p[1];
    m->version = get_u32(p + 4);
    m->window = get_u32(p + 8);
    m->period_ms = get_u32(p + 12);
    m->hop = get_u32(p + 16);
    m->reject = get_f32(p + 20);
    m->min_activity_w = get_f32(p + 24);
    m->channel_count = get_u32(p + 28);
    m->layer_count = get_u32(p + 32);
    m->class_count = get_u32(p + 36);
    m->golden_count = get_u32(p + 40);
    memcpy(m->family, p + 48, sizeof(m->family));
    if ((rc = check_range(d, "window", m->window, 1, MODEL_MAX_WINDOW)) ||
        (rc = check_range(d, "period_ms", m->period_ms, 1, MODEL_FORMAT_MAX_PERIOD_MS)) ||
        (rc = check_range(d, "hop", m->hop, 1, m->window)) ||
        (rc = check_range(d, "channel_count", m->channel_count, 1, MODEL_MAX_CHANNELS)) ||
        (rc = check_range(d, "layer_count", m->layer_count, 1, MODEL_MAX_LAYERS)) ||
        (rc = check_range(d, "class_count", m->class_count, 1, MODEL_MAX_CLASSES)) ||
        (rc = check_range(d, "golden_count", m->golden_count, 0,
                          m->dtype == MODEL_INT8 ? MODEL_MAX_GOLDEN : 0)))
        return rc;
    if (!(m->reject >= 0.0f && m->reject <= 1.0f))
        return REFUSE(d, "HEAD: reject is not between 0 and 1");
    if (!(m->min_activity_w >= 0.0f && m->min_activity_w <= MODEL_FORMAT_MAX_WATTS))
        return REFUSE(d, "HEAD: min_activity_w is not between 0 and 1e9");
    if (!is_text_field(m->family) || !m->family[0] || !model_format_is_name(m->family))
        return REFUSE(d, "HEAD: family is not 1 to 31 characters of A-Z a-z 0-9 . _ -");
    return 0;
}

static int decode_channels(struct decoder *d)
{
    struct model *m = d->m;
    struct cursor *c = &d->sections[MODEL_FORMAT_CHAN];

    for (uint32_t i = 0; i < m->channel_count; i++) {
        struct model_channel *channel = &m->channels[i];
        const unsigned char *p = take(c, 1, 8);
        const float *levels;
        uint32_t feature;

        if (!p)
            return REFUSE(d, "CHAN: the section ends within channel %u", i + 1);
        feature = get_u32(p);
        if (feature < MODEL_LINEAR || feature > MODEL_LOG_DIFF)
            return REFUSE(d, "CHAN: channel %u: feature is %u, expected 1 to 3", i + 1, feature);
        channel->feature = (enum model_feature)feature;
        channel->full = get_f32(p + 4);
        if (!(channel->full > 0.0f && channel->full <= MODEL_FORMAT_MAX_WATTS))
            return REFUSE(d, "CHAN: channel %u: full is not above 0 and at most 1e9", i + 1);
        if (m->dtype == MODEL_FP32)
            continue;
        levels = take(c, MODEL_LEVELS, sizeof(float));
        if (!levels)
            return REFUSE(d, "CHAN: the section ends within channel %u", i + 1);
        if (!all_finite(levels, MODEL_LEVELS))
            return REFUSE(d, "CHAN: channel %u: a threshold is not finite", i + 1);
        for (uint32_t k = 1; k < MODEL_LEVELS; k++)
            if (levels[k] < levels[k - 1])
                return REFUSE(d, "CHAN: channel %u: threshold %u is below the one before", i + 1,
                              k + 1);
        channel->thresholds = levels;
    }
    if (c->left)
        return REFUSE(d, "CHAN: %zu bytes behind the last channel", c->left);
    return 0;
}

/* Scales and zero points of layer i: present for INT8 and handed on from layer to layer, zero for
 * FP32. */
static int check_quantization(struct decoder *d, uint32_t i)
{
    const struct model_layer *l = &d->m->layers[i];
    int last = i + 1 == d->m->layer_count;
    int moves = l->op == MODEL_MAXPOOL1D || l->op == MODEL_FLATTEN;

    if (d->m->dtype == MODEL_FP32) {
        if (!is_zero(l->in_scale) || !is_zero(l->out_scale) || l->in_zero || l->out_zero)
            return REFUSE(d, "LAYR: layer %u: scales and zero points must be 0 in FP32", i + 1);
        return 0;
    }
    if (!is_scale(l->in_scale) || (!last && !is_scale(l->out_scale)))
        return REFUSE(d, "LAYR: layer %u: in_scale or out_scale is not between 2^-80 and 2^80",
                      i + 1);
    if (last && (!is_zero(l->out_scale) || l->out_zero))
        return REFUSE(d, "LAYR: layer %u: out_scale and out_zero of the last layer must be 0",
                      i + 1);
    if (moves && (l->in_scale != l->out_scale || l->in_zero != l->out_zero))
        return REFUSE(d, "LAYR: layer %u: a layer without weights cannot change the scale", i + 1);
    if (i > 0 && (l->in_scale != l[-1].out_scale || l->in_zero != l[-1].out_zero))
        return REFUSE(d, "LAYR: layer %u: in_scale or in_zero differ from the layer before", i + 1);
    return 0;
}

static int check_layer_name(struct decoder *d, uint32_t i)
{
    const struct model_layer *l = &d->m->layers[i];
    int weights = l->op == MODEL_CONV1D || l->op == MODEL_DENSE;

    if (!is_text_field(l->name) || !model_format_is_name(l->name) || (weights && !l->name[0]))
        return REFUSE(d, "LAYR: layer %u: name is not 1 to 31 characters of A-Z a-z 0-9 . _ -",
                      i + 1);
    for (uint32_t k = 0; l->name[0] && k < i; k++)
        if (strcmp(l->name, d->m->layers[k].name) == 0)
            return REFUSE(d, "LAYR: layers %u and %u have the same name %s", k + 1, i + 1, l->name);
    return 0;
}

static int decode_layers(struct decoder *d)
{
    struct model *m = d->m;
    struct cursor *c = &d->sections[MODEL_FORMAT_LAYR];
    const unsigned char *p = take(c, m->layer_count, MODEL_FORMAT_LAYER_BYTES);
    uint32_t outs[MODEL_MAX_LAYERS];
    int rc;

    if (!p || c->left)
        return REFUSE(d, "LAYR: the section is not %u layers of %u bytes long", m->layer_count,
                      MODEL_FORMAT_LAYER_BYTES);
    for (uint32_t i = 0; i < m->layer_count; i++, p += MODEL_FORMAT_LAYER_BYTES) {
        struct model_layer *l = &m->layers[i];

        l->op = (enum model_op)p[0];
        if (p[1] > 1)
            return REFUSE(d, "LAYR: layer %u: relu is %u, expected 0 or 1", i + 1, p[1]);
        l->relu = p[1];
        memcpy(&l->in_zero, p + 2, 1);
        memcpy(&l->out_zero, p + 3, 1);
        l->out_channels = outs[i] = get_u32(p + 4);
        l->taps = get_u32(p + 8);
        l->pool = get_u32(p + 12);
        l->in_scale = get_f32(p + 16);
        l->out_scale = get_f32(p + 20);
        memcpy(l->name, p + 24, sizeof(l->name));
    }
    rc = model_format_geometry(m, d->why, d->why_size);
    for (uint32_t i = 0; !rc && i < m->layer_count; i++) {
        if (outs[i] != m->layers[i].out_channels)
            return REFUSE(d, "LAYR: layer %u: out_channels is %u, expected %u", i + 1, outs[i],
                          m->layers[i].out_channels);
        rc = check_quantization(d, i);
        if (!rc)
            rc = check_layer_name(d, i);
    }
    return rc;
}

/* SPEC 1.7.2: |bias| + 256 sum|w| < 2^31 for each output. Then no order of summation overflows an
 * int32, whether the input's zero point is subtracted from each value or folded into the bias. */
static int check_accumulators(struct decoder *d, uint32_t i)
{
    const struct model_layer *l = &d->m->layers[i];
    uint64_t row = model_format_weights(l) / l->out_channels;

    for (uint32_t o = 0; o < l->out_channels; o++) {
        const int8_t *w = l->weights + (size_t)(o * row);
        int64_t bias = l->bias[o];
        int64_t sum = 0;

        for (uint64_t k = 0; k < row; k++) {
            if (w[k] == INT8_MIN)
                return REFUSE(d, "WGTS: layer %u: a weight is -128, expected -127 to 127", i + 1);
            sum += w[k] < 0 ? -w[k] : w[k];
        }
        if ((bias < 0 ? -bias : bias) + 256 * sum > INT32_MAX)
            return REFUSE(d, "WGTS: layer %u: output %u could overflow its 32-bit sum", i + 1, o);
    }
    return 0;
}

static int decode_int8(struct decoder *d, struct cursor *c, uint32_t i)
{
    struct model_layer *l = &d->m->layers[i];
    uint64_t outputs = l->out_channels;
    int last = i + 1 == d->m->layer_count;
    int padded = 1;

    l->weights = take(c, model_format_weights(l), 1);
    padded = padded && take_padding(c, 4);
    l->bias = take(c, outputs, 4);
    l->weight_scale = take(c, outputs, 4);
    if (last) {
        l->logit_scale = take(c, outputs, 4);
    } else {
        l->multiplier = take(c, outputs, 4);
        l->shift = take(c, outputs, 1);
        padded = padded && take_padding(c, 4);
    }
    if (!l->weights || !l->bias || !l->weight_scale ||
        (last ? !l->logit_scale : !l->multiplier || !l->shift))
        return REFUSE(d, "WGTS: the section ends within layer %u", i + 1);
    if (!padded)
        return REFUSE(d, "WGTS: layer %u: padding is missing or not zero", i + 1);
    if (!all_scales(l->weight_scale, outputs) || (last && !all_scales(l->logit_scale, outputs)))
        return REFUSE(d, "WGTS: layer %u: a scale is not between 2^-80 and 2^80", i + 1);
    for (uint64_t o = 0; !last && o < outputs; o++) {
        if (l->multiplier[o] < (1u << 30) || l->multiplier[o] >= (1u << 31))
            return REFUSE(d, "WGTS: layer %u: multiplier %u is not in [2^30, 2^31)", i + 1,
                          l->multiplier[o]);
        if (l->shift[o] < 31 || l->shift[o] > 62)
            return REFUSE(d, "WGTS: layer %u: shift %u is not in [31, 62]", i + 1, l->shift[o]);
    }
    return check_accumulators(d, i);
}

static int decode_weights(struct decoder *d)
{
    struct cursor *c = &d->sections[MODEL_FORMAT_WGTS];
    int rc = 0;

    for (uint32_t i = 0; !rc && i < d->m->layer_count; i++) {
        struct model_layer *l = &d->m->layers[i];
        uint64_t weights = model_format_weights(l);

        if (!weights)
            continue;
        if (d->m->dtype == MODEL_INT8) {
            rc = decode_int8(d, c, i);
            continue;
        }
        l->weights_f32 = take(c, weights, 4);
        l->bias_f32 = take(c, l->out_channels, 4);
        if (!l->weights_f32 || !l->bias_f32)
            return REFUSE(d, "WGTS: the section ends within layer %u", i + 1);
        if (!all_finite(l->weights_f32, weights) || !all_finite(l->bias_f32, l->out_channels))
            return REFUSE(d, "WGTS: layer %u: a weight or bias is not finite", i + 1);
    }
    if (!rc && c->left)
        return REFUSE(d, "WGTS: %zu bytes behind the last layer", c->left);
    return rc;
}

static int decode_labels(struct decoder *d)
{
    struct model *m = d->m;
    struct cursor *c = &d->sections[MODEL_FORMAT_LABL];

    m->labels = (const char(*)[MODEL_LABEL_BYTES])take(c, m->class_count, MODEL_LABEL_BYTES);
    if (!m->labels || c->left)
        return REFUSE(d, "LABL: the section is not %u labels of %u bytes long", m->class_count,
                      MODEL_LABEL_BYTES);
    for (uint32_t i = 0; i < m->class_count; i++) {
        const char *label = m->labels[i];

        if (!is_text_field(label) || !label[0] ||
            !model_format_is_text(label, strnlen(label, MODEL_LABEL_BYTES), 0))
            return REFUSE(d, "LABL: label %u is not 1 to 31 bytes of UTF-8 without controls",
                          i + 1);
        for (uint32_t k = 0; k < i; k++)
            if (strcmp(label, m->labels[k]) == 0)
                return REFUSE(d, "LABL: labels %u and %u are both \"%s\"", k + 1, i + 1, label);
    }
    return 0;
}

static int decode_golden(struct decoder *d)
{
    struct model *m = d->m;
    struct cursor *c = &d->sections[MODEL_FORMAT_GOLD];

    for (uint32_t i = 0; i < m->golden_count; i++) {
        d->golden[i].watts = take(c, (uint64_t)m->window + 1, 4);
        d->golden[i].logits = take(c, m->class_count, 4);
        if (!d->golden[i].watts || !d->golden[i].logits)
            return REFUSE(d, "GOLD: the section ends within vector %u", i + 1);
        if (!all_finite(d->golden[i].watts, (uint64_t)m->window + 1) ||
            !all_finite(d->golden[i].logits, m->class_count))
            return REFUSE(d, "GOLD: vector %u: a number is not finite", i + 1);
    }
    if (c->left)
        return REFUSE(d, "GOLD: %zu bytes behind the last vector", c->left);
    m->golden = m->golden_count ? d->golden : NULL;
    return 0;
}

static int decode_meta(struct decoder *d)
{
    struct cursor *c = &d->sections[MODEL_FORMAT_META];
    const char *text = (const char *)c->at;
    size_t size = c->left;

    if (size < 1 || size > MODEL_FORMAT_META_MAX)
        return REFUSE(d, "META: %zu bytes, expected 1 to %u", size, MODEL_FORMAT_META_MAX);
    if (memchr(text, '\0', size) != text + size - 1)
        return REFUSE(d, "META: the text does not end with its only NUL");
    if (!model_format_is_text(text, size - 1, 1))
        return REFUSE(d, "META: not UTF-8 without controls");
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n')
        if (strcspn(line, "=\n") == 0 || line[strcspn(line, "=\n")] != '=')
            return REFUSE(d, "META: a line is not \"key=value\"");
    d->m->meta = text;
    return model_format_check_meta(d->m, d->why, d->why_size);
}

int model_format_decode(struct model_format_owned *o, size_t size, char *why, size_t why_size)
{
    struct decoder d = {.m = &o->model, .golden = o->golden, .why = why, .why_size = why_size};
    int rc;

    memset(&o->model, 0, sizeof(o->model));
    rc = decode_header(&d, o->bytes, size);
    if (!rc)
        rc = decode_table(&d, o->bytes, size);
    if (!rc)
        rc = decode_head(&d);
    if (!rc)
        rc = decode_channels(&d);
    if (!rc)
        rc = decode_layers(&d);
    if (!rc)
        rc = decode_weights(&d);
    if (!rc)
        rc = decode_labels(&d);
    if (!rc)
        rc = decode_golden(&d);
    if (!rc)
        rc = decode_meta(&d);
    o->model.owner = o;
    return rc;
}
