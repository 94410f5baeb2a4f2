/* model_file.c - from untrusted bytes or a path to a decoded model: sizes, memory, reading. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "inference/model.h"
#include "inference/model_format.h"

/* A block for a file of size bytes, or NULL with *rc and why set. */
static struct model_format_owned *new_owned(uint64_t size, int *rc, char *why, size_t why_size)
{
    struct model_format_owned *o;

    if (size > MODEL_MAX_BYTES) {
        model_format_why(why, why_size, "%llu bytes, at most %u are allowed",
                         (unsigned long long)size, MODEL_MAX_BYTES);
        *rc = -EFBIG;
        return NULL;
    }
    o = malloc(sizeof(*o) + (size_t)size);
    if (!o) {
        model_format_why(why, why_size, "out of memory");
        *rc = -ENOMEM;
    }
    return o;
}

int model_decode(const void *data, size_t size, struct model **out, char *why, size_t why_size)
{
    struct model_format_owned *o;
    int rc = 0;

    *out = NULL;
    o = new_owned(size, &rc, why, why_size);
    if (!o)
        return rc;
    if (size)
        memcpy(o->bytes, data, size);
    rc = model_format_decode(o, size, why, why_size);
    if (rc)
        free(o);
    else
        *out = &o->model;
    return rc;
}

/* Reads exactly size bytes; a file that shrank meanwhile is an error. */
static int read_all(int fd, unsigned char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = read(fd, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EBADMSG;
        data += n;
        size -= (size_t)n;
    }
    return 0;
}

int model_decode_file(const char *path, struct model **out, char *why, size_t why_size)
{
    struct model_format_owned *o = NULL;
    struct stat st;
    char reason[256] = "";
    int fd, rc = 0;

    *out = NULL;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not block the agent */
    if (fd < 0 || fstat(fd, &st) < 0) {
        rc = -errno;
        model_format_why(reason, sizeof(reason), "%s", strerror(-rc));
        goto done;
    }
    if (!S_ISREG(st.st_mode)) {
        rc = -EBADMSG;
        model_format_why(reason, sizeof(reason), "not a regular file");
        goto done;
    }
    o = new_owned((uint64_t)st.st_size, &rc, reason, sizeof(reason));
    if (!o)
        goto done;
    rc = read_all(fd, o->bytes, (size_t)st.st_size);
    if (rc)
        model_format_why(reason, sizeof(reason), "cannot be read: %s", strerror(-rc));
    else
        rc = model_format_decode(o, (size_t)st.st_size, reason, sizeof(reason));
done:
    if (fd >= 0)
        close(fd);
    if (rc) {
        free(o);
        model_format_why(why, why_size, "%s: %s", path, reason);
    } else {
        *out = &o->model;
    }
    return rc;
}
