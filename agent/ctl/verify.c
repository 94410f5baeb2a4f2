/* verify.c - checks of models and bundles on disk (verify.h). */
#include "agent/ctl/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/bundle.h"

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

void verify_file(const char *path, const char *keys, struct verify_report *out)
{
    uint8_t digest[32];
    void *data = NULL;
    size_t size = 0;
    struct bundle b;
    struct candidate *c = NULL;
    memset(out, 0, sizeof *out);
    if (verify_read(path, CANDIDATE_MAX_BYTES, &data, &size, out->why, sizeof out->why) != 0)
        return;
    out->bytes = size;
    pki_sha256(data, size, digest);
    pki_hex(digest, sizeof digest, out->sha256);
    int is_bundle = size >= 4 && memcmp(data, "NILB", 4) == 0;
    if (is_bundle && bundle_parse(data, size, &b, NULL, 0) == 0) {
        snprintf(out->key_id, sizeof out->key_id, "%s", b.key_id);
        bundle_free(&b);
    }
    c = is_bundle ? candidate_check(data, size, keys, 0) : candidate_check_model(data, size);
    if (!c) {
        snprintf(out->why, sizeof out->why, "%s: out of memory", path);
        return;
    }
    out->ok = c->error == 0;
    out->is_signed = out->ok && is_bundle;
    out->version = c->version;
    out->classes = c->model ? c->model->class_count : 0;
    out->golden = c->model ? c->model->golden_count : 0;
    memcpy(out->why, c->reason, sizeof out->why);
    memcpy(out->name, c->name, sizeof out->name);
    memcpy(out->family, c->family, sizeof out->family);
    candidate_free(c);
}
