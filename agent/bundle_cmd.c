/* bundle_cmd.c - see bundle_cmd.h. */
#include "agent/bundle_cmd.h"

#include "agent/candidate.h"
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
    int rc = candidate_scaling(m, manifest.input_scaling, sizeof manifest.input_scaling);
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

int bundle_cmd_verify(const void *data, size_t size, const char *keys, int64_t now_s,
                      struct bundle_cmd_report *report, char *why, size_t why_size)
{
    struct bundle b;
    memset(report, 0, sizeof *report);
    if (bundle_parse(data, size, &b, NULL, 0) == 0) {
        report->readable = 1;
        describe(&b, report);
        bundle_free(&b);
    }
    void *copy = malloc(size + 1); /* the candidate's from here on */
    if (copy == NULL)
        return explain(why, why_size, -ENOMEM, "out of memory");
    memcpy(copy, data, size);
    struct candidate *c = candidate_check(copy, size, keys, now_s);
    if (c == NULL)
        return explain(why, why_size, -ENOMEM, "out of memory");
    int rc = c->error;
    if (rc < 0)
        explain(why, why_size, rc, "%s", c->reason);
    else
        report->golden_count = c->model->golden_count;
    candidate_free(c);
    return rc;
}
