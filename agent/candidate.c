#include "agent/candidate.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/mains_decode.h"
#include "transport/pki.h"

#define CLOCK_SET_S 1704067200 /* 2024-01-01: an earlier clock was never set */

__attribute__((format(printf, 3, 4))) static int refuse(struct candidate *c, int error,
                                                        const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(c->reason, sizeof c->reason, format, args);
    va_end(args);
    return c->error = error;
}

static void hash(const void *data, size_t size, char text[65])
{
    uint8_t digest[32];
    pki_sha256(data, size, digest);
    pki_hex(digest, sizeof digest, text);
}

int candidate_scaling(const struct model *m, char *text, size_t size)
{
    static const char *const names[] = {"linear", "log", "log_diff"};
    size_t used = 0;
    for (uint32_t i = 0; i < m->channel_count; i++) {
        const struct model_channel *c = &m->channels[i];
        const int n = snprintf(text + used, size - used, "%s%s:%.9g", i ? " " : "",
                               names[c->feature - MODEL_LINEAR], (double)c->full);
        if (n < 0 || (size_t)n >= size - used)
            return -ENOSPC;
        used += (size_t)n;
    }
    return 0;
}

/* An operator decides by the manifest: what is signed there must be what the model is. */
static int check_agreement(struct candidate *c, const struct bundle_manifest *m)
{
    const struct model *model = c->model;
    char scaling[sizeof m->input_scaling];
    if (strcmp(m->family, model->family) != 0)
        return refuse(c, -EBADMSG, "manifest: family is \"%s\", the model's is \"%s\"", m->family,
                      model->family);
    if (m->version != model->version)
        return refuse(c, -EBADMSG, "manifest: version is %" PRIu32 ", the model's is %" PRIu32,
                      m->version, model->version);
    if (m->window != model->window || m->period_ms != model->period_ms)
        return refuse(c, -EBADMSG,
                      "manifest: window is %" PRIu32 " of %" PRIu32 " ms, the model's is %" PRIu32
                      " of %" PRIu32 " ms",
                      m->window, m->period_ms, model->window, model->period_ms);
    if (candidate_scaling(model, scaling, sizeof scaling) < 0 ||
        strcmp(scaling, m->input_scaling) != 0)
        return refuse(c, -EBADMSG, "manifest: input_scaling is \"%.80s\", the model's is \"%.80s\"",
                      m->input_scaling, scaling);
    if (m->label_count != model->class_count)
        return refuse(c, -EBADMSG, "manifest: %" PRIu32 " labels, the model has %" PRIu32,
                      m->label_count, model->class_count);
    for (uint32_t i = 0; i < m->label_count; i++)
        if (strcmp(m->labels[i], model->labels[i]) != 0)
            return refuse(c, -EBADMSG,
                          "manifest: label %" PRIu32 " is \"%s\", the model's is \"%s\"", i,
                          m->labels[i], model->labels[i]);
    return 0;
}

/* Decodes the model, makes the engine and runs the golden vectors. */
static int prove(struct candidate *c, const void *data, size_t size, int golden_required)
{
    char why[256] = "";
    int rc = model_decode(data, size, &c->model, why, sizeof why);
    if (rc < 0)
        return refuse(c, rc, "model: %s", why);
    if (c->model->dtype != MODEL_INT8)
        return refuse(c, -EINVAL, "model: weights are FP32, expected INT8 (nilm-model quantize)");
    if (c->model->head == MODEL_SIGMOID && c->model->class_count > MAINS_CLASSES)
        return refuse(c, -EINVAL, "model: %" PRIu32 " classes, expected at most %d of a sum",
                      c->model->class_count, MAINS_CLASSES);
    rc = engine_create(c->model, 0, &c->engine, why, sizeof why);
    if (rc < 0)
        return refuse(c, rc, "engine: %s", why);
    const int failed = engine_selftest(c->engine);
    if (failed == -ENOENT && golden_required)
        return refuse(c, -EINVAL, "golden vectors: the model has none, expected at least one");
    if (failed > 0)
        return refuse(c, -EBADMSG,
                      "golden vectors: %d of %" PRIu32
                      " do not reproduce on this device (kernels: %s)",
                      failed, c->model->golden_count, engine_isa(c->engine));
    if (failed < 0 && failed != -ENOENT)
        return refuse(c, failed, "golden vectors: %s", strerror(-failed));
    return 0;
}

static int check_manifest(struct candidate *c, const struct bundle_manifest *m, int64_t now_s)
{
    c->version = m->version;
    c->allow_downgrade = m->allow_downgrade;
    snprintf(c->name, sizeof c->name, "%s", m->name);
    snprintf(c->family, sizeof c->family, "%s", m->family);
    snprintf(c->model_sha256, sizeof c->model_sha256, "%s", m->sha256);
    if (bundle_compare_versions(NILM_VERSION, m->min_agent) < 0)
        return refuse(c, -ENOTSUP, "min_agent: needs agent %s or newer, this is %s", m->min_agent,
                      NILM_VERSION);
    if (m->expires_s != 0 && now_s >= CLOCK_SET_S && now_s >= m->expires_s)
        return refuse(c, -ESTALE, "expires: the bundle expired %" PRId64 " h ago",
                      (now_s - m->expires_s) / 3600);
    return 0;
}

static int check_bundle(struct candidate *c, const char *keys, int64_t now_s)
{
    struct bundle b = {0};
    struct pki_ring *ring = NULL;
    char why[256] = "";
    int rc = bundle_parse(c->bytes, c->size, &b, why, sizeof why);
    if (rc < 0)
        return refuse(c, rc, "%s", why);
    if (!keys[0])
        rc = refuse(c, -ENOKEY,
                    "signature: this device has no key ring ([model] keys), expected one");
    else if ((rc = pki_ring_load(keys, &ring, why, sizeof why)) < 0)
        refuse(c, rc, "key ring: %s", why);
    else if ((rc = bundle_verify(&b, c->bytes, ring, why, sizeof why)) < 0)
        refuse(c, rc, "signature: %s", why);
    /* Nothing of the manifest is believed before this point. */
    if (rc == 0)
        rc = check_manifest(c, &b.manifest, now_s);
    if (rc == 0)
        rc = prove(c, b.model, b.model_bytes, 1);
    if (rc == 0)
        rc = check_agreement(c, &b.manifest);
    pki_ring_free(ring);
    bundle_free(&b);
    return rc;
}

/* A refused bundle keeps its reason only. */
static void drop_content(struct candidate *c)
{
    engine_free(c->engine);
    model_free(c->model);
    free(c->bytes);
    c->engine = NULL;
    c->model = NULL;
    c->bytes = NULL;
}

void candidate_refuse(struct candidate *c, int error, const char *reason)
{
    refuse(c, error, "%s", reason);
    drop_content(c);
}

static struct candidate *start(void *bytes, size_t size)
{
    struct candidate *c = calloc(1, sizeof *c);
    if (!c) {
        free(bytes);
        return NULL;
    }
    c->bytes = bytes;
    c->size = size;
    return c;
}

struct candidate *candidate_check(void *bytes, size_t size, const char *keys, int64_t now_s)
{
    struct candidate *c = start(bytes, size);
    if (!c)
        return NULL;
    hash(bytes, size, c->sha256);
    if (size > CANDIDATE_MAX_BYTES)
        refuse(c, -EFBIG, "bundle: %zu bytes, expected at most %u", size, CANDIDATE_MAX_BYTES);
    else
        check_bundle(c, keys, now_s);
    if (c->error < 0)
        drop_content(c);
    return c;
}

struct candidate *candidate_check_model(void *bytes, size_t size)
{
    struct candidate *c = start(bytes, size);
    if (!c)
        return NULL;
    hash(bytes, size, c->model_sha256);
    if (prove(c, bytes, size, 0) < 0) {
        drop_content(c);
    } else {
        c->version = c->model->version;
        snprintf(c->family, sizeof c->family, "%s", c->model->family);
        if (model_meta(c->model, "name", c->name, sizeof c->name) < 0)
            snprintf(c->name, sizeof c->name, "%s", c->model->family);
    }
    return c;
}

/* Reads a regular file of at most CANDIDATE_MAX_BYTES whole. */
static int read_whole(const char *path, void **out, size_t *size)
{
    struct stat st;
    int rc = 0;
    char *bytes = NULL;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0)
        rc = -errno;
    else if (!S_ISREG(st.st_mode))
        rc = -EINVAL;
    else if (st.st_size > CANDIDATE_MAX_BYTES)
        rc = -EFBIG;
    else if (!(bytes = malloc((size_t)st.st_size + 1)))
        rc = -ENOMEM;
    for (*size = 0; rc == 0 && *size < (size_t)st.st_size;) {
        const ssize_t n = read(fd, bytes + *size, (size_t)st.st_size - *size);
        if (n < 0 && errno != EINTR)
            rc = -errno;
        if (n == 0)
            break;
        *size += n > 0 ? (size_t)n : 0;
    }
    close(fd);
    if (rc < 0) {
        free(bytes);
        bytes = NULL;
    }
    *out = bytes;
    return rc;
}

struct candidate *candidate_from_file(const char *path, const char *keys)
{
    void *bytes = NULL;
    size_t size = 0;
    const int rc = read_whole(path, &bytes, &size);
    if (rc < 0) {
        struct candidate *c = start(NULL, 0);
        if (c)
            refuse(c, rc, "%.200s: %s", path,
                   rc == -EFBIG    ? "larger than a model may be"
                   : rc == -EINVAL ? "expected a regular file"
                                   : strerror(-rc));
        return c;
    }
    const int is_bundle = size >= 4 && memcmp(bytes, "NILB", 4) == 0;
    struct candidate *c =
        is_bundle ? candidate_check(bytes, size, keys, 0) : candidate_check_model(bytes, size);
    if (c && c->error < 0) {
        char reason[sizeof c->reason];
        memcpy(reason, c->reason, sizeof reason);
        snprintf(c->reason, sizeof c->reason, "%.120s: %.190s", path, reason);
    }
    return c;
}

void candidate_free(struct candidate *c)
{
    if (!c)
        return;
    drop_content(c);
    free(c);
}
