/* verify.c - checks of models and bundles on disk (verify.h). */
#include "agent/ctl/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "inference/engine.h"
#include "inference/model.h"

static int read_all(int fd, char *to, size_t size)
{
    while (size > 0) {
        ssize_t n = read(fd, to, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        to += n;
        size -= (size_t)n;
    }
    return 0;
}

int verify_read(const char *path, size_t max, void **data, size_t *size, char *why, size_t why_size)
{
    struct stat st;
    char *bytes = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int rc = fd < 0 || fstat(fd, &st) != 0 ? -errno : 0;
    *data = NULL;
    *size = 0;
    if (rc == 0 && !S_ISREG(st.st_mode)) {
        rc = -EINVAL;
        snprintf(why, why_size, "%s: not a regular file", path);
    } else if (rc == 0 && (st.st_size < 1 || (uint64_t)st.st_size > max)) {
        rc = -EFBIG;
        snprintf(why, why_size, "%s: %lld bytes; expected 1 to %zu", path, (long long)st.st_size,
                 max);
    } else if (rc == 0) {
        bytes = malloc((size_t)st.st_size);
        rc = bytes ? read_all(fd, bytes, (size_t)st.st_size) : -ENOMEM;
        if (rc != 0)
            snprintf(why, why_size, "%s: %s", path, strerror(-rc));
    } else {
        snprintf(why, why_size, "%s: %s", path, strerror(-rc));
    }
    if (fd >= 0)
        close(fd);
    if (rc != 0) {
        free(bytes);
        return rc;
    }
    *data = bytes;
    *size = (size_t)st.st_size;
    return 0;
}

static int verify_model(const void *data, size_t size, struct verify_report *out)
{
    struct model *model = NULL;
    struct engine *engine = NULL;
    int rc = model_decode(data, size, &model, out->why, sizeof out->why);
    if (rc != 0)
        return rc;
    out->version = model->version;
    out->classes = model->class_count;
    out->golden = model->golden_count;
    snprintf(out->family, sizeof out->family, "%s", model->family);
    rc = engine_create(model, 0, &engine, out->why, sizeof out->why);
    if (rc == 0) {
        rc = engine_selftest(engine);
        if (rc == -ENOENT)
            snprintf(out->why, sizeof out->why, "the model has no golden vectors");
        else if (rc < 0)
            snprintf(out->why, sizeof out->why, "golden vectors: %s", strerror(-rc));
        else if (rc > 0)
            snprintf(out->why, sizeof out->why, "%d of %u golden vectors are not reproduced", rc,
                     out->golden);
    }
    engine_free(engine);
    model_free(model);
    return rc;
}

static int verify_bundle(const void *data, size_t size, const struct pki_ring *ring,
                         struct verify_report *out)
{
    struct bundle b;
    out->bundle = 1;
    int rc = bundle_parse(data, size, &b, out->why, sizeof out->why);
    if (rc != 0)
        return rc;
    snprintf(out->name, sizeof out->name, "%s", b.manifest.name);
    snprintf(out->key_id, sizeof out->key_id, "%s", b.key_id);
    out->bytes = b.model_bytes;
    if (ring) {
        rc = bundle_verify(&b, data, ring, out->why, sizeof out->why);
        out->is_signed = rc == 0;
    }
    if (rc == 0)
        rc = verify_model(b.model, b.model_bytes, out);
    if (rc == 0 &&
        (strcmp(out->family, b.manifest.family) != 0 || out->version != b.manifest.version)) {
        snprintf(out->why, sizeof out->why, "the manifest says %s %u, the model %s %u",
                 b.manifest.family, b.manifest.version, out->family, out->version);
        rc = -EBADMSG;
    }
    bundle_free(&b);
    return rc;
}

void verify_bytes(const void *data, size_t size, const struct pki_ring *ring,
                  struct verify_report *out)
{
    uint8_t digest[32];
    memset(out, 0, sizeof *out);
    pki_sha256(data, size, digest);
    pki_hex(digest, sizeof digest, out->sha256);
    out->bytes = size;
    if (size >= 4 && memcmp(data, "NILB", 4) == 0)
        out->ok = verify_bundle(data, size, ring, out) == 0;
    else
        out->ok = verify_model(data, size, out) == 0;
}

void verify_file(const char *path, const struct pki_ring *ring, struct verify_report *out)
{
    void *data = NULL;
    size_t size = 0;
    char why[512];
    memset(out, 0, sizeof *out);
    if (verify_read(path, BUNDLE_MAX_BYTES, &data, &size, why, sizeof why) != 0) {
        snprintf(out->why, sizeof out->why, "%s", why);
        return;
    }
    verify_bytes(data, size, ring, out);
    free(data);
}
