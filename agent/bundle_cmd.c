/* bundle_cmd.c - see bundle_cmd.h. */
#include "agent/bundle_cmd.h"

#include "inference/engine.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((format(printf, 4, 5))) static int explain(char *why, size_t why_size, int rc,
                                                         const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (why && why_size > 0)
        vsnprintf(why, why_size, format, args);
    va_end(args);
    return rc;
}

int bundle_cmd_scaling(const struct model *m, char *text, size_t size)
{
    static const char *const names[] = {"?", "linear", "log", "log_diff"};
    size_t used = 0;
    for (uint32_t i = 0; i < m->channel_count; i++) {
        const struct model_channel *c = &m->channels[i];
        int n = snprintf(text + used, size - used, "%s%s:%g", i ? " " : "",
                         names[c->feature <= MODEL_LOG_DIFF ? c->feature : 0], (double)c->full);
        if (n < 0 || (size_t)n >= size - used)
            return -ENOSPC;
        used += (size_t)n;
    }
    return 0;
}

int bundle_cmd_match(const struct bundle_manifest *manifest, const struct model *m, char *why,
                     size_t why_size)
{
    char scaling[sizeof manifest->input_scaling];
    int rc = bundle_cmd_scaling(m, scaling, sizeof scaling);
    if (rc < 0)
        return explain(why, why_size, rc, "input_scaling: the model's does not fit a manifest");
    if (strcmp(manifest->family, m->family) != 0)
        return explain(why, why_size, -EBADMSG, "family: manifest \"%s\", model \"%s\"",
                       manifest->family, m->family);
    if (manifest->version != m->version)
        return explain(why, why_size, -EBADMSG, "version: manifest %u, model %u", manifest->version,
                       m->version);
    if (manifest->window != m->window || manifest->period_ms != m->period_ms)
        return explain(why, why_size, -EBADMSG,
                       "window: manifest %u samples of %u ms, model %u of %u ms", manifest->window,
                       manifest->period_ms, m->window, m->period_ms);
    if (strcmp(manifest->input_scaling, scaling) != 0)
        return explain(why, why_size, -EBADMSG, "input_scaling: manifest \"%s\", model \"%s\"",
                       manifest->input_scaling, scaling);
    if (manifest->label_count != m->class_count)
        return explain(why, why_size, -EBADMSG, "labels: manifest %u, model %u",
                       manifest->label_count, m->class_count);
    for (uint32_t i = 0; i < m->class_count; i++) {
        if (strncmp(manifest->labels[i], m->labels[i], MODEL_LABEL_BYTES) != 0)
            return explain(why, why_size, -EBADMSG,
                           "labels: number %u: manifest \"%s\", model \"%s\"", i,
                           manifest->labels[i], m->labels[i]);
    }
    return 0;
}

/* An INT8 model must reproduce its golden vectors, and must have some: a device refuses one
 * without. */
static int check_golden(const struct model *m, char *why, size_t why_size)
{
    if (m->dtype != MODEL_INT8)
        return explain(why, why_size, -EINVAL, "model: FP32; devices run INT8: quantize it first");
    struct engine *e;
    int rc = engine_create(m, 0, &e, why, why_size);
    if (rc < 0)
        return rc;
    rc = engine_selftest(e);
    engine_free(e);
    if (rc == -ENOENT)
        return explain(why, why_size, -EBADMSG, "model: no golden vectors; expected at least one");
    if (rc > 0)
        return explain(why, why_size, -EBADMSG, "model: %d of %u golden vectors do not reproduce",
                       rc, m->golden_count);
    return rc < 0 ? explain(why, why_size, rc, "model: self-test: %s", strerror(-rc)) : 0;
}

static int build(const struct model *m, const void *bytes, size_t size,
                 const struct bundle_cmd_order *order, void **data, size_t *data_size, char *why,
                 size_t why_size)
{
    struct bundle_manifest manifest = {.version = m->version,
                                       .window = m->window,
                                       .period_ms = m->period_ms,
                                       .created_s = order->created_s,
                                       .expires_s = order->expires_s,
                                       .allow_downgrade = order->allow_downgrade,
                                       .label_count = m->class_count};
    snprintf(manifest.family, sizeof manifest.family, "%s", m->family);
    int n = order->name
                ? snprintf(manifest.name, sizeof manifest.name, "%s", order->name)
                : snprintf(manifest.name, sizeof manifest.name, "%s %u", m->family, m->version);
    if (n < 0 || (size_t)n >= sizeof manifest.name)
        return explain(why, why_size, -EINVAL, "name: %d bytes, expected at most %zu", n,
                       sizeof manifest.name - 1);
    n = snprintf(manifest.min_agent, sizeof manifest.min_agent, "%s", order->min_agent);
    if (n < 0 || (size_t)n >= sizeof manifest.min_agent)
        return explain(why, why_size, -EINVAL, "min_agent: expected a version like 0.1.0");
    int rc = bundle_cmd_scaling(m, manifest.input_scaling, sizeof manifest.input_scaling);
    if (rc < 0)
        return explain(why, why_size, rc, "input_scaling: the model's does not fit a manifest");
    manifest.labels = calloc(m->class_count, sizeof *manifest.labels);
    if (manifest.labels == NULL)
        return explain(why, why_size, -ENOMEM, "out of memory");
    for (uint32_t i = 0; i < m->class_count; i++)
        memcpy(manifest.labels[i], m->labels[i], sizeof *manifest.labels);
    rc = bundle_build(&manifest, bytes, size, data, data_size, why, why_size);
    free(manifest.labels);
    return rc;
}

int bundle_cmd_pack(const void *model, size_t model_bytes, const struct bundle_cmd_order *order,
                    void **data, size_t *size, char *why, size_t why_size)
{
    struct model *m = NULL, changed;
    void *encoded = NULL;
    *data = NULL;
    *size = 0;
    int rc = model_decode(model, model_bytes, &m, why, why_size);
    if (rc == 0)
        rc = check_golden(m, why, why_size);
    if (rc < 0)
        goto done;
    if (order->version != 0 && order->version != m->version) {
        changed = *m; /* points into m, which stays until the bundle is made */
        changed.version = order->version;
        changed.owner = NULL;
        rc = model_encode(&changed, &encoded, &model_bytes, why, why_size);
        if (rc < 0)
            goto done;
        rc = build(&changed, encoded, model_bytes, order, data, size, why, why_size);
    } else {
        rc = build(m, model, model_bytes, order, data, size, why, why_size);
    }
done:
    free(encoded);
    model_free(m);
    return rc;
}

static void describe(const struct bundle *b, struct bundle_cmd_report *r)
{
    const struct bundle_manifest *m = &b->manifest;
    memcpy(r->key_id, b->key_id, sizeof r->key_id);
    memcpy(r->family, m->family, sizeof r->family);
    memcpy(r->name, m->name, sizeof r->name);
    memcpy(r->min_agent, m->min_agent, sizeof r->min_agent);
    memcpy(r->sha256, m->sha256, sizeof r->sha256);
    r->version = m->version;
    r->label_count = m->label_count;
    r->model_bytes = b->model_bytes;
    r->created_s = m->created_s;
    r->expires_s = m->expires_s;
    r->allow_downgrade = m->allow_downgrade;
}

int bundle_cmd_verify(const void *data, size_t size, const struct pki_ring *ring, int64_t now_s,
                      struct bundle_cmd_report *report, char *why, size_t why_size)
{
    struct bundle b;
    struct model *m = NULL;
    memset(report, 0, sizeof *report);
    int rc = bundle_parse(data, size, &b, why, why_size);
    if (rc < 0)
        return rc;
    report->structure = 1;
    describe(&b, report);
    rc = bundle_verify(&b, data, ring, why, why_size);
    if (rc < 0)
        goto done;
    report->signature = 1;
    rc = model_decode(b.model, b.model_bytes, &m, why, why_size);
    if (rc < 0)
        goto done;
    report->model = 1;
    report->golden_count = m->golden_count;
    rc = bundle_cmd_match(&b.manifest, m, why, why_size);
    if (rc < 0)
        goto done;
    report->manifest = 1;
    rc = check_golden(m, why, why_size);
    if (rc < 0)
        goto done;
    report->golden = 1;
    report->in_time = b.manifest.expires_s == 0 || now_s < b.manifest.expires_s;
    if (!report->in_time)
        rc = explain(why, why_size, -ESTALE, "expires: %lld s ago",
                     (long long)(now_s - b.manifest.expires_s));
done:
    model_free(m);
    bundle_free(&b);
    return rc;
}
