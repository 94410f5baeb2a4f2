/* install.c - files put in place atomically (install.h). */
#include "agent/ctl/install.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/ctl/verify.h"

#define MAX_COPY (1u << 20)

static int fail(int rc, const char *path, char *why, size_t why_size)
{
    snprintf(why, why_size, "%s: %s", path, strerror(-rc));
    return rc;
}

static int write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        data += n;
        size -= (size_t)n;
    }
    return fsync(fd) == 0 ? 0 : -errno;
}

static int sync_folder(const char *path)
{
    char folder[4096];
    const char *slash = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path + 1) : 1,
             slash ? path : ".");
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 || fsync(fd) != 0 ? -errno : 0;
    if (fd >= 0)
        close(fd);
    return rc;
}

static int same(const char *path, const void *data, size_t size)
{
    void *old = NULL;
    size_t old_size = 0;
    char why[512];
    if (verify_read(path, MAX_COPY, &old, &old_size, why, sizeof why) != 0)
        return 0;
    int equal = old_size == size && memcmp(old, data, size) == 0;
    free(old);
    return equal;
}

int install_bytes(const char *path, const void *data, size_t size, mode_t mode, char *why,
                  size_t why_size)
{
    char temporary[4096];
    if (same(path, data, size))
        return 0;
    int n = snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    if (n < 0 || (size_t)n >= sizeof temporary)
        return fail(-ENAMETOOLONG, path, why, why_size);
    int fd = mkstemp(temporary);
    if (fd < 0)
        return fail(-errno, path, why, why_size);
    int rc = write_all(fd, data, size);
    if (rc == 0 && fchmod(fd, mode) != 0)
        rc = -errno;
    close(fd);
    if (rc == 0 && rename(temporary, path) != 0)
        rc = -errno;
    if (rc != 0)
        unlink(temporary);
    else
        rc = sync_folder(path);
    return rc == 0 ? 1 : fail(rc, path, why, why_size);
}

int install_copy(const char *path, const char *from, mode_t mode, char *why, size_t why_size)
{
    void *data = NULL;
    size_t size = 0;
    int rc = verify_read(from, MAX_COPY, &data, &size, why, why_size);
    if (rc == 0)
        rc = install_bytes(path, data, size, mode, why, why_size);
    free(data);
    return rc;
}

int install_folder(const char *path, mode_t mode, char *why, size_t why_size)
{
    char part[4096];
    struct stat st;
    int made = 0;
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof part)
        return fail(length ? -ENAMETOOLONG : -EINVAL, path, why, why_size);
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (stat(part, &st) == 0 && S_ISDIR(st.st_mode))
            continue;
        if (mkdir(part, i == length ? mode : 0755) != 0)
            return fail(-errno, part, why, why_size);
        made = 1;
    }
    return made;
}
